//! A linear map of the last extent; the leading extents are rows. With `packed`, the last input holds the offsets of
//! the sequences, and rows behind the last offset are neither read nor written.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x \[..,I\], w \[O,I\], bias? \[O\], offsets? \[B+1\] | y \[..,O\] = x · wᵀ + bias; and gelu(y), by the [`Epilogue`] |
//! | `Dgrad` | dy \[..,O\], w, before? \[..,I\], offsets? | dx = dy · w, which then meets before by the [`Epilogue`] |
//! | `Wgrad` | dy, x, offsets? | dw \[O,I\] = dyᵀ · x |
//! | `BiasGrad` | dy, offsets? | db \[O\] = Σ of the rows of dy |

pub(super) mod cpu;
pub mod cuda;
mod cuda_mma;
pub mod matmul;
pub mod predicted;
mod reference;
pub mod wgmma;
pub mod wgsl;

use self::matmul::{MMA, WGMMA};
use crate::base::{Kind, Number, Rng, Spec};
use crate::kernels::shaders::COOPERATIVE;
use crate::program::{Backward, Candidate, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// The CPU kernel.
const KERNEL: &str = "tiled";

/// What is computed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pass {
    /// y.
    Fwd,
    /// The gradient by x.
    Dgrad,
    /// The gradient by w.
    Wgrad,
    /// The gradient by the bias.
    BiasGrad,
}

/// What a result meets in the product that writes it, where a plan joined the op that came behind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Epilogue {
    /// Nothing.
    Store,
    /// dx is added to before, which it may overwrite: the sum of a gradient's contributions (`Dgrad`).
    Add,
    /// dx is multiplied by [`Gelu`](crate::ops::gelu::Gelu)'s slope at before, of packed rows (`Dgrad`).
    GeluSlope,
    /// [`Gelu`](crate::ops::gelu::Gelu) of y as it is stored, of packed rows, is a second result (`Fwd`).
    Gelu,
}

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Linear {
    /// What is computed.
    pub pass: Pass,
    /// Whether a bias is added (`Fwd`).
    pub bias: bool,
    /// Whether the rows are packed sequences.
    pub packed: bool,
    /// Kind of y (`Fwd`) or dx (`Dgrad`).
    pub output: Kind,
    /// What y (`Fwd`) or dx (`Dgrad`) meets.
    pub epilogue: Epilogue,
}

impl Linear {
    /// A linear map without bias; y is an activation.
    pub fn fwd() -> Self {
        Self { pass: Pass::Fwd, bias: false, packed: false, output: Kind::Activation, epilogue: Epilogue::Store }
    }

    /// The sum over rows that is the gradient by a bias.
    pub fn bias_grad() -> Self {
        Self { pass: Pass::BiasGrad, bias: false, packed: false, output: Kind::Exact, epilogue: Epilogue::Store }
    }

    /// With a bias.
    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// On packed sequences.
    pub fn packed(self) -> Self {
        Self { packed: true, ..self }
    }

    /// With y of this kind.
    pub fn output(self, output: Kind) -> Self {
        Self { output, ..self }
    }

    /// How many rows hold something, of all rows of input 0.
    fn rows<N: Number>(&self, io: &HostIo<'_, N>) -> usize {
        if self.packed { io.extent(io.input_count() - 1) } else { io.shape(0).rows() }
    }

    /// Takes the offsets off the inputs and looks at what is common to all passes.
    fn matrices<'a>(&self, inputs: &'a [Spec]) -> Result<&'a [Spec], Misfit> {
        let count = usize::from(self.packed)
            + match self.pass {
                Pass::Fwd => 2 + usize::from(self.bias),
                Pass::Dgrad => 2 + usize::from(self.epilogue != Epilogue::Store),
                Pass::Wgrad => 2,
                Pass::BiasGrad => 1,
            };
        Misfit::unless(inputs.len() == count, || format!("takes {count} inputs, got {}", inputs.len()))?;
        let (matrices, offsets) = inputs.split_at(count - usize::from(self.packed));
        let fits = offsets.iter().all(|offsets| offsets.kind == Kind::Index && offsets.shape.rank() == 1);
        Misfit::unless(fits, || format!("offsets are {offsets:?}"))?;
        let fits = matrices.iter().all(|spec| spec.is_real() && spec.shape.elements() > 0 && spec.shape.rank() > 0);
        Misfit::unless(fits, || format!("inputs are {matrices:?}, real numbers are needed"))?;
        Misfit::unless(!self.packed || matrices[0].shape.rank() == 2, || "packed rows have two extents".into())?;
        Ok(matrices)
    }
}

impl Operation for Linear {
    const VARIANTS: usize = 13;
    // Rows for as many large tiles as a device has multiprocessors, of more steps than a pipeline has stages; and for a sum
    // over them that is cut into slices; gradients of more than one tile along each side, in all epilogues.
    const LARGE: &'static [(usize, Size)] = &[
        (0, Size { batch: 2, side: 8451, channels: 136, extra: 72 }),
        (5, Size { batch: 2, side: 8451, channels: 8, extra: 72 }),
        (10, Size { batch: 2, side: 133, channels: 264, extra: 40 }),
        (11, Size { batch: 2, side: 133, channels: 264, extra: 40 }),
        (12, Size { batch: 2, side: 133, channels: 40, extra: 264 }),
    ];
    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "linear.fwd",
            Pass::Dgrad => "linear.dgrad",
            Pass::Wgrad => "linear.wgrad",
            Pass::BiasGrad => "linear.bias_grad",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let matrices = self.matrices(inputs)?;
        let rows = matrices[0].shape;
        let weight = |features: [usize; 2]| Misfit::shape("w", matrices[1].shape, features);
        let real = |shape| -> Result<_, Misfit> {
            Misfit::unless(Spec { shape, kind: self.output }.is_real(), || "the output must be real".into())?;
            Ok(Outputs::new([Spec { shape, kind: self.output }]))
        };
        match self.pass {
            Pass::Fwd => {
                let outputs = matrices[1].shape.dims()[0];
                weight([outputs, rows.last()])?;
                let bias = Spec::exact([outputs]);
                Misfit::unless(matrices[2..].iter().all(|&spec| spec == bias), || format!("bias is not {bias:?}"))?;
                let y = real(rows.with_last(outputs))?;
                let unit = self.epilogue == Epilogue::Gelu;
                Misfit::unless(!unit || self.packed, || "gelu is of packed rows".into())?;
                Ok(if unit { Outputs::new([y.specs[0]; 2]) } else { y })
            }
            Pass::Dgrad => {
                let inputs = matrices[1].shape.last();
                weight([rows.last(), inputs])?;
                let outputs = real(rows.with_last(inputs))?;
                let Some(&before) = matrices.get(2) else { return Ok(outputs) };
                Misfit::unless(before == outputs.specs[0], || format!("before is {before:?} and dx {:?}", outputs.specs[0]))?;
                if self.epilogue == Epilogue::Add {
                    return Ok(outputs.overwriting(0, 2));
                }
                Misfit::unless(self.packed, || "gelu is of packed rows".into())?;
                Ok(outputs)
            }
            Pass::Wgrad => {
                let x = matrices[1].shape;
                Misfit::shape("dy", rows, x.with_last(rows.last()))?;
                Ok(Outputs::new([Spec::exact([rows.last(), x.last()])]))
            }
            Pass::BiasGrad => Ok(Outputs::new([Spec::exact([rows.last()])])),
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let alone = self.pass == Pass::Fwd && self.epilogue == Epilogue::Store;
        Misfit::unless(alone, || format!("{} has no gradient rule", self.name()))?;
        let (dy, kind) = (at.seed(0)?, r.spec(at.inputs[0]).kind);
        let offsets = if self.packed { &at.inputs[at.inputs.len() - 1..] } else { &[] };
        let mut record = |wanted: bool, pass: Pass, output: Kind, inputs: &[Value]| -> Result<_, Misfit> {
            let op = Self { pass, bias: false, packed: self.packed, output, epilogue: Epilogue::Store };
            if wanted { Ok(Some(r.one(op, &[inputs, offsets].concat())?)) } else { Ok(None) }
        };
        let mut gradients = vec![
            record(at.wanted[0], Pass::Dgrad, kind, &[dy, at.inputs[1]])?,
            record(at.wanted[1], Pass::Wgrad, Kind::Exact, &[dy, at.inputs[0]])?,
        ];
        if self.bias {
            gradients.push(record(at.wanted[2], Pass::BiasGrad, Kind::Exact, &[dy])?);
        }
        gradients.extend(offsets.iter().map(|_| None));
        Ok(gradients)
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let rows = inputs[0].shape.rows() as u64;
        match self.pass {
            Pass::Fwd | Pass::Dgrad => 2 * rows * inputs[1].shape.elements() as u64,
            Pass::Wgrad => 2 * rows * outputs[0].shape.elements() as u64,
            Pass::BiasGrad => inputs[0].shape.elements() as u64,
        }
    }

    fn operands(&self) -> &'static [usize] {
        if self.pass == Pass::BiasGrad { &[] } else { &[0, 1] }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        let alone = self.epilogue == Epilogue::Store;
        vec![if alone { Candidate::legal(KERNEL) } else { Candidate::refused(KERNEL, "it has no epilogue") }]
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        cpu::run(self, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        if self.pass == Pass::BiasGrad { &[cuda::KERNEL] } else { &[WGMMA, MMA, cuda::KERNEL] }
    }

    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        if kernel == cuda::KERNEL { cuda::run(self, io) } else { cuda_mma::run(self, kernel, io) }
    }

    fn wgsl(&self) -> &'static [&'static str] {
        if self.pass == Pass::BiasGrad { &[wgsl::KERNEL] } else { &[COOPERATIVE, wgsl::KERNEL] }
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let Size { batch, side, channels: inputs, extra: outputs } = *size;
        // Plain, packed, and (for the forward pass) plain with bias; the last four have an epilogue.
        let (pass, packed, bias) = [
            (Pass::Fwd, false, false),
            (Pass::Fwd, false, true),
            (Pass::Fwd, true, true),
            (Pass::Dgrad, false, false),
            (Pass::Dgrad, true, false),
            (Pass::Wgrad, false, false),
            (Pass::Wgrad, true, false),
            (Pass::BiasGrad, false, false),
            (Pass::BiasGrad, true, false),
            (Pass::Dgrad, false, false),
            (Pass::Dgrad, true, false),
            (Pass::Dgrad, true, false),
            (Pass::Fwd, true, true),
        ][variant];
        let epilogues = [Epilogue::Store, Epilogue::Add, Epilogue::Add, Epilogue::GeluSlope, Epilogue::Gelu];
        let epilogue = epilogues[variant.saturating_sub(8)];
        let output = if (bias || epilogue == Epilogue::Add) && !packed { Kind::Exact } else { Kind::Activation };
        let rows = batch * side;
        // Packed values are told from others by their capacity.
        let capacity = (rows + 3..).find(|capacity| ![inputs, outputs].contains(capacity)).expect("one of three");
        let matrix = |features: usize| match packed {
            true => Spec::activation([capacity, features]),
            false => Spec::activation([batch, side, features]),
        };
        let (x, dy, weight) = (matrix(inputs), matrix(outputs), Spec::exact([outputs, inputs]));
        let case = Case::new(Self { pass, bias, packed, output, epilogue });
        let case = match pass {
            Pass::Fwd => case.normal(x, 1.0, rng).normal(weight, 1.0, rng),
            Pass::Dgrad => case.normal(dy, 1.0, rng).normal(weight, 1.0, rng),
            Pass::Wgrad => case.normal(dy, 1.0, rng).normal(x, 1.0, rng),
            Pass::BiasGrad => case.normal(dy, 1.0, rng),
        };
        let case = if bias { case.normal(Spec::exact([outputs]), 1.0, rng) } else { case };
        let before = Spec { kind: output, ..x };
        let met = matches!(epilogue, Epilogue::Add | Epilogue::GeluSlope);
        let case = if met { case.normal(before, 1.0, rng) } else { case };
        let case = match (pass, bias) {
            (Pass::Fwd, true) if epilogue == Epilogue::Gelu => case,
            (Pass::Fwd, true) => case.differentiable(&[0, 1, 2]),
            (Pass::Fwd, false) => case.differentiable(&[0, 1]),
            _ => case,
        };
        if !packed {
            return case;
        }
        let offsets = (0..=batch).map(|sequence| (sequence * side) as i32).collect();
        case.indices([batch + 1], offsets).packed(capacity, rows)
    }
}
