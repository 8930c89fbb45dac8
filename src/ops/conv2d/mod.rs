//! Convolution in two dimensions, channels last (as torch's `conv2d`: a correlation), optionally of an upsampled
//! image with a skip connection, so that neither the upsampled image nor the concatenation is ever stored.
//!
//! y\[b, i, j, o\] = bias\[o\] + Σ over u, v, c of image\[b, i·s − p + u, j·s − p + v, c\] · w\[o, u, v, c\], and the
//! image is 0 outside. With a plain source the image is x; with an upsampled one it is x with every pixel doubled
//! along both sides (nearest neighbour), followed on the channels by the skip connection.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd` | x \[B,H,W,C\], skip? \[B,2H,2W,Cs\], w \[O,k,k,C+Cs\], bias? \[O\] | y \[B,Ho,Wo,O\] |
//! | `Dgrad` | dy, w, before? \[B,H,W,C\] | d_x \[B,H,W,C\], d_skip? |
//! | `Wgrad` | dy, x, skip? | d_w |
//!
//! With zeros p around and windows s apart, Ho = ⌊(H + 2p − k) / s⌋ + 1, of the doubled H where the source is upsampled; Wo alike.
//! `Dgrad`: d_image\[b, m, n, c\] = Σ over u, v, o of dy\[b, i, j, o\] · w\[o, u, v, c\] where m = i·s − p + u and n = j·s − p + v; of
//! an upsampled source d_x sums the four pixels of each; of a plain one it may be added to what is there before, which it may
//! overwrite. `Wgrad`: d_w\[o, u, v, c\] = Σ over b, i, j of
//! dy\[b, i, j, o\] · image\[b, i·s − p + u, j·s − p + v, c\]. The gradient by the bias is [`Linear`]'s pass of that name on dy.

mod cpu;
pub mod cuda;
mod cuda_mma;
mod geometry;
mod halo;
mod im2col;
mod image;
mod reference;
mod cpu_upsampled;
mod stem;
mod walk;
mod wgsl;

pub use self::halo::KERNEL as HALO;
pub use self::im2col::KERNELS as IM2COL;
pub use self::stem::KERNEL as STEM;

use self::geometry::Geometry;
use crate::base::{Kind, Number, Rng, Spec};
use crate::ops::linear::Linear;
use crate::ops::linear::matmul::{MMA, WGMMA};
use crate::program::{Backward, Candidate, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// What is computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pass {
    /// y.
    Fwd,
    /// The gradients by x and the skip connection.
    Dgrad {
        /// H: rows of x.
        height: usize,
        /// W: columns of x.
        width: usize,
        /// C: channels of x.
        channels: usize,
    },
    /// The gradient by w.
    Wgrad,
}

/// What is convolved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// x itself.
    Plain,
    /// x doubled along both sides.
    Upsampled {
        /// Whether the channels of a skip connection follow those of x.
        skip: bool,
    },
}

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conv2d {
    /// What is computed.
    pub pass: Pass,
    /// k: side of the kernel.
    pub kernel: usize,
    /// s: pixels between neighbouring windows.
    pub stride: usize,
    /// p: zeros around the image.
    pub padding: usize,
    /// What is convolved.
    pub source: Source,
    /// Whether a bias is added (`Fwd`).
    pub bias: bool,
    /// Kind of y (`Fwd`), or of d_x and d_skip (`Dgrad`).
    pub output: Kind,
    /// Whether d_x is added to what is there before (`Dgrad` of a plain source): a sum that a plan makes in the convolution that
    /// writes it last.
    pub add: bool,
}

impl Conv2d {
    /// A convolution of stride 1 that keeps the extents (for odd k), without bias; y is an activation.
    pub fn fwd(kernel: usize) -> Self {
        Self {
            pass: Pass::Fwd,
            kernel,
            stride: 1,
            padding: kernel / 2,
            source: Source::Plain,
            bias: false,
            output: Kind::Activation,
            add: false,
        }
    }

    /// With this stride.
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// With this padding.
    pub fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// Of x doubled along both sides, with or without a skip connection.
    pub fn upsampled(self, skip: bool) -> Self {
        Self { source: Source::Upsampled { skip }, ..self }
    }

    /// With a bias.
    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// With y of this kind.
    pub fn output(self, output: Kind) -> Self {
        Self { output, ..self }
    }

    fn has_skip(&self) -> bool {
        self.source == Source::Upsampled { skip: true }
    }

    /// Pixels of the image for one of x, along a side.
    fn scale(&self) -> usize {
        if self.source == Source::Plain { 1 } else { 2 }
    }

    /// How many windows fit along a side of x.
    fn windows(&self, side: usize) -> Result<usize, Misfit> {
        let Self { kernel, stride, padding, .. } = *self;
        Misfit::unless(kernel > 0 && stride > 0, || format!("kernel {kernel} and stride {stride} must not be 0"))?;
        let padded = side * self.scale() + 2 * padding;
        Misfit::unless(padded >= kernel, || format!("a kernel of {kernel} does not fit into {padded} padded pixels"))?;
        Ok((padded - kernel) / stride + 1)
    }

    fn infer_fwd(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let skips = usize::from(self.has_skip());
        let count = 2 + skips + usize::from(self.bias);
        Misfit::unless(inputs.len() == count, || format!("takes {count} inputs, got {}", inputs.len()))?;
        let (x, weight) = (inputs[0], inputs[1 + skips]);
        let [batch, height, width, channels] = image("x", x)?;
        let mut depth = channels;
        if self.has_skip() {
            let [.., skip] = image("skip", inputs[1])?;
            Misfit::shape("skip", inputs[1].shape, [batch, 2 * height, 2 * width, skip])?;
            Misfit::unless(inputs[1].kind == x.kind, || "skip is not of the kind of x".into())?;
            depth += skip;
        }
        let [outputs, ..] = image("w", weight)?;
        Misfit::shape("w", weight.shape, [outputs, self.kernel, self.kernel, depth])?;
        if self.bias {
            let bias = inputs[2 + skips];
            Misfit::unless(bias == Spec::exact([outputs]), || {
                format!("bias is {bias:?}, not {outputs} exact numbers")
            })?;
        }
        let shape = [batch, self.windows(height)?, self.windows(width)?, outputs].into();
        Ok(Outputs::new([real(self.output, shape)?]))
    }

    fn infer_dgrad(&self, inputs: &[Spec], [height, width, channels]: [usize; 3]) -> Result<Outputs, Misfit> {
        let (&[dy, weight], before) = inputs.split_first_chunk().ok_or_else(|| Misfit::new("takes dy and w"))?;
        Misfit::unless(before.len() == usize::from(self.add) && !(self.add && self.source != Source::Plain), || {
            format!("{} inputs behind dy and w, of {:?}", before.len(), self.source)
        })?;
        let ([batch, ..], [outputs, .., depth]) = (image("dy", dy)?, image("w", weight)?);
        Misfit::shape("w", weight.shape, [outputs, self.kernel, self.kernel, depth])?;
        Misfit::shape("dy", dy.shape, [batch, self.windows(height)?, self.windows(width)?, outputs])?;
        let fits = if self.has_skip() { channels < depth } else { channels == depth };
        Misfit::unless(fits, || format!("x has {channels} channels and w {depth}"))?;
        let d_x = real(self.output, [batch, height, width, channels].into())?;
        if let Some(&before) = before.first() {
            Misfit::unless(before == d_x, || format!("{before:?} is no d_x to be added to"))?;
            return Ok(Outputs::new([d_x]).overwriting(0, 2));
        }
        if !self.has_skip() {
            return Ok(Outputs::new([d_x]));
        }
        Ok(Outputs::new([d_x, real(self.output, [batch, 2 * height, 2 * width, depth - channels].into())?]))
    }

    fn infer_wgrad(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let count = 2 + usize::from(self.has_skip());
        Misfit::unless(inputs.len() == count, || format!("takes {count} inputs, got {}", inputs.len()))?;
        let ([.., outputs], [batch, height, width, channels]) = (image("dy", inputs[0])?, image("x", inputs[1])?);
        Misfit::shape("dy", inputs[0].shape, [batch, self.windows(height)?, self.windows(width)?, outputs])?;
        let mut depth = channels;
        if self.has_skip() {
            let [.., skip] = image("skip", inputs[2])?;
            Misfit::shape("skip", inputs[2].shape, [batch, 2 * height, 2 * width, skip])?;
            depth += skip;
        }
        Ok(Outputs::new([Spec::exact([outputs, self.kernel, self.kernel, depth])]))
    }
}

/// Extents of a real value of rank 4, none of them 0.
fn image(name: &str, spec: Spec) -> Result<[usize; 4], Misfit> {
    let dims = spec.shape.dims().try_into().ok().filter(|_| spec.is_real() && spec.shape.elements() > 0);
    dims.ok_or_else(|| Misfit::new(format!("{name} is {spec:?}, four extents of real numbers are needed")))
}

fn real(kind: Kind, shape: crate::base::Shape) -> Result<Spec, Misfit> {
    let spec = Spec { shape, kind };
    Misfit::unless(spec.is_real(), || format!("an output cannot be of kind {kind:?}"))?;
    Ok(spec)
}

impl Operation for Conv2d {
    const VARIANTS: usize = 3 * FORMS.len() + ADDED;
    // Gradients by single pixels' weights over so many pixels that each part of them takes more steps than a pipeline has
    // stages; with many outputs and with few, in pieces of 16 bytes. More channels and outputs than the widest tile has columns; more
    // tiles than a large device has multiprocessors, of pixels and of weights. An image of three channels in several tiles, forward and by
    // weights.
    const LARGE: &'static [(usize, Size)] = &[
        (2 * FORMS.len() + 2, Size { batch: 1, side: 182, channels: 1, extra: 40 }),
        (2 * FORMS.len() + 2, Size { batch: 1, side: 182, channels: 8, extra: 4 }),
        (0, Size { batch: 1, side: 1, channels: 264, extra: 264 }),
        (FORMS.len(), Size { batch: 1, side: 1, channels: 264, extra: 264 }),
        (2 * FORMS.len(), Size { batch: 1, side: 1, channels: 264, extra: 264 }),
        (2, Size { batch: 1, side: 181, channels: 8, extra: 8 }),
        (FORMS.len() + 2, Size { batch: 1, side: 181, channels: 8, extra: 8 }),
        (2 * FORMS.len() + 4, Size { batch: 1, side: 1, channels: 8, extra: 1408 }),
        (4, Size { batch: 1, side: 20, channels: 3, extra: 72 }),
        (2 * FORMS.len() + 4, Size { batch: 1, side: 20, channels: 3, extra: 72 }),
    ];

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "conv2d.fwd",
            Pass::Dgrad { .. } => "conv2d.dgrad",
            Pass::Wgrad => "conv2d.wgrad",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        match self.pass {
            Pass::Fwd => self.infer_fwd(inputs),
            Pass::Dgrad { height, width, channels } => self.infer_dgrad(inputs, [height, width, channels]),
            Pass::Wgrad => self.infer_wgrad(inputs),
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        let dy = at.seed(0)?;
        let images = 1 + usize::from(self.has_skip());
        let mut gradients = vec![None; at.inputs.len()];
        if at.wanted[..images].contains(&true) {
            let x = r.spec(at.inputs[0]);
            let [_, height, width, channels] = image("x", x)?;
            let pass = Pass::Dgrad { height, width, channels };
            let dgrad = Self { pass, bias: false, output: x.kind, ..*self };
            for (gradient, value) in gradients.iter_mut().zip(r.node(dgrad, &[dy, at.inputs[images]])?) {
                *gradient = Some(value);
            }
        }
        if at.wanted[images] {
            let wgrad = Self { pass: Pass::Wgrad, bias: false, output: Kind::Exact, ..*self };
            let inputs: Vec<Value> = [dy].into_iter().chain(at.inputs[..images].iter().copied()).collect();
            gradients[images] = Some(r.one(wgrad, &inputs)?);
        }
        if self.bias && at.wanted[images + 1] {
            gradients[images + 1] = Some(r.one(Linear::bias_grad(), &[dy])?);
        }
        Ok(gradients)
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let (y, weight) = match self.pass {
            Pass::Fwd => (outputs[0], inputs[1 + usize::from(self.has_skip())]),
            Pass::Dgrad { .. } => (inputs[0], inputs[1]),
            Pass::Wgrad => (inputs[0], outputs[0]),
        };
        2 * y.shape.rows() as u64 * weight.shape.elements() as u64
    }

    fn operands(&self) -> &'static [usize] {
        match self.pass {
            Pass::Fwd | Pass::Wgrad if self.has_skip() => &[0, 1, 2],
            _ => &[0, 1],
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cpu(&self, inputs: &[Spec]) -> Vec<Candidate> {
        cpu::candidates(self, inputs)
    }

    fn run_cpu<N: Number>(&self, kernel: &'static str, io: &mut HostIo<'_, N>) {
        let geometry = Geometry::new(self, |at| io.dims(at), io.output_dims(0));
        cpu::run(self, &geometry, kernel, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[WGMMA, IM2COL[0], IM2COL[1], IM2COL[2], MMA, HALO, STEM, cuda::KERNEL]
    }

    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        match kernel {
            cuda::KERNEL => cuda::run(self, io),
            HALO => halo::run(self, io),
            STEM => stem::run(self, io),
            WGMMA | MMA => cuda_mma::run(self, kernel, io),
            _ => im2col::run(self, kernel, io),
        }
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let (kernel, stride, padding, source, bias) = FORMS[variant % FORMS.len()];
        let output = if bias { Kind::Exact } else { Kind::Activation };
        let conv = Self { pass: Pass::Fwd, kernel, stride, padding, source, bias, output, add: false };
        let Size { batch, channels, extra: outputs, .. } = *size;
        let depth = channels + if conv.has_skip() { channels % 3 + 1 } else { 0 };
        let windows = |side| (conv.scale() * side + 2 * padding - kernel) / stride + 1;
        let extents = |side| [side + kernel / 2, side + 1 + kernel / 2];
        let products = |side| {
            let [height, width] = extents(side).map(windows);
            batch * height * width * kernel * kernel * depth * outputs
        };
        let affordable = (1..=size.side).rev().find(|&side| products(side) <= PRODUCTS);
        let [height, width] = extents(affordable.unwrap_or(1));
        let x = Spec::activation([batch, height, width, channels]);
        let skip = Spec::activation([batch, 2 * height, 2 * width, depth - channels]);
        let weight = Spec::exact([outputs, kernel, kernel, depth]);
        let dy = Spec { shape: [batch, windows(height), windows(width), outputs].into(), kind: output };
        let with_skip = |case: Case<Self>, rng: &mut Rng| match conv.has_skip() {
            true => case.normal(skip, 1.0, rng),
            false => case,
        };
        match variant / FORMS.len() {
            0 => {
                let case = with_skip(Case::new(conv).normal(x, 1.0, rng), rng).normal(weight, 0.5, rng);
                let case = if bias { case.normal(Spec::exact([outputs]), 1.0, rng) } else { case };
                let inputs: Vec<usize> = (0..case.inputs.len()).collect();
                case.differentiable(&inputs)
            }
            1 | 3 => {
                let (pass, add) = (Pass::Dgrad { height, width, channels }, variant >= 3 * FORMS.len());
                let case = Case::new(Self { pass, bias: false, add, ..conv });
                let case = case.normal(dy, 1.0, rng).normal(weight, 0.5, rng);
                if add { case.normal(Spec { kind: output, ..x }, 1.0, rng) } else { case }
            }
            _ => {
                let case = Case::new(Self { pass: Pass::Wgrad, bias: false, ..conv }).normal(dy, 1.0, rng);
                with_skip(case.normal(x, 1.0, rng), rng)
            }
        }
    }
}

/// Products of a test case, about: of many channels there are fewer pixels, for the definition is slow.
const PRODUCTS: usize = 1 << 21;
/// Of so many forms, the first, there are also gradients by the image that are added.
const ADDED: usize = 4;
/// Kernel, stride, padding, source and bias of the test cases.
const FORMS: [(usize, usize, usize, Source, bool); 8] = [
    (3, 1, 1, Source::Plain, false),
    (3, 2, 1, Source::Plain, true),
    (1, 1, 0, Source::Plain, true),
    (1, 2, 0, Source::Plain, false),
    (7, 2, 3, Source::Plain, false),
    (2, 1, 0, Source::Plain, false),
    (3, 1, 1, Source::Upsampled { skip: false }, false),
    (3, 1, 1, Source::Upsampled { skip: true }, true),
];
