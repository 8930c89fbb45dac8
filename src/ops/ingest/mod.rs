//! Films as the encoder reads them: augmented, normalised, three channels alike.
//!
//! | source | inputs | outputs |
//! |---|---|---|
//! | `Bytes` | pixels \[B,H,W\] bytes, augmentation \[B,13\] | plane \[B,H,W\] in \[0,1\], image \[B,H,W,3\] |
//! | `Numbers` | plane \[B,H,W\] in \[0,1\] | image \[B,H,W,3\] |
//!
//! The 13 numbers of an image, in the order in which they act:
//!
//! * 0..9: a row-major homography that takes the centre (x + ½, y + ½, 1) of an output pixel to input coordinates
//!   (u, v, w); the place is (u/w, v/w). What lies outside the film is 0.
//! * 12: 0 takes the pixel in which the place lies, 1 interpolates between the four nearest pixel centres.
//! * 11: 1 stretches the film's darkest to 0 and its brightest to 1; a film of one gray is left alone.
//! * 9: brightness, x ← clamp(factor · x).
//! * 10: contrast about the film's mean after that, x ← clamp(factor · x + (1 − factor) · mean).
//!
//! `Normalise::Imagenet` then takes each channel's mean off and divides by its deviation.

mod cpu;
mod cuda;
mod reference;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::program::{Candidate, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, ShaderIo, Size};

/// How many numbers say how an image is augmented.
pub const AUGMENTATION: usize = 13;

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ingest {
    /// Where films come from.
    pub source: Source,
    /// How they are normalised.
    pub normalise: Normalise,
}

/// Where films come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Stored bytes, to be augmented.
    Bytes,
    /// Numbers in [0, 1], taken as they are.
    Numbers,
}

/// How films are normalised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Normalise {
    /// Not at all: [0, 1].
    Unit,
    /// Minus ImageNet's mean, over its deviation, per channel.
    Imagenet,
}

impl Normalise {
    /// Mean and deviation of the three channels.
    pub(crate) fn channels(self) -> [(f64, f64); 3] {
        match self {
            Self::Unit => [(0.0, 1.0); 3],
            Self::Imagenet => [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)],
        }
    }
}

impl Operation for Ingest {
    const VARIANTS: usize = 4;

    fn name(&self) -> &'static str {
        match self.source {
            Source::Bytes => "ingest.bytes",
            Source::Numbers => "ingest.numbers",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let (film, kind) = match self.source {
            Source::Bytes => {
                let [pixels, augmentation] = Misfit::inputs(inputs)?;
                let batch = pixels.shape.dims().first().copied().unwrap_or(0);
                Misfit::shape("augmentation", augmentation.shape, [batch, AUGMENTATION])?;
                Misfit::unless(augmentation.kind == Kind::Exact, || "augmentation has to be exact".into())?;
                (pixels, Kind::Bytes)
            }
            Source::Numbers => {
                let [plane] = Misfit::inputs(inputs)?;
                (plane, Kind::Exact)
            }
        };
        let &[batch, height, width] = film.shape.dims() else {
            return Err(Misfit::new(format!("films have shape {}, [B,H,W] is needed", film.shape)));
        };
        Misfit::unless(film.kind == kind, || format!("films are {:?}, {kind:?} is needed", film.kind))?;
        Misfit::unless(height > 0 && width > 0, || format!("films of shape {} have no pixels", film.shape))?;
        let image = Spec::activation([batch, height, width, 3]);
        Ok(match self.source {
            Source::Bytes => Outputs::new([Spec::exact(film.shape), image]),
            Source::Numbers => Outputs::new([image]),
        })
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let each = match self.source {
            Source::Bytes => 30,
            Source::Numbers => 6,
        };
        each * inputs[0].shape.elements() as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        vec![Candidate::legal("images")]
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        cpu::run(self, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[cuda::KERNEL]
    }

    fn run_cuda(&self, _kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        cuda::run(self, io)
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let shape = [size.batch, size.side + 1, size.extra + 1];
        let normalise = [Normalise::Unit, Normalise::Imagenet][variant % 2];
        if variant >= 2 {
            let op = Self { source: Source::Numbers, normalise };
            return Case::new(op).uniform(Spec::exact(shape), 0.0, 1.0, rng);
        }
        let bytes = (0..shape.iter().product()).map(|_| rng.below(256) as u8).collect();
        let mut numbers = Vec::new();
        for image in 0..size.batch {
            // A map near the identity, with some perspective; both interpolations and stretches in turn.
            for (at, one) in [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0].into_iter().enumerate() {
                let spread = [0.2, 0.2, 0.6, 0.2, 0.2, 0.6, 0.01, 0.01, 0.05][at];
                numbers.push(one + rng.uniform(-spread, spread));
            }
            let stretch = f64::from((image + variant).is_multiple_of(3));
            let interpolate = f64::from((image + variant).is_multiple_of(2));
            numbers.extend([rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2), stretch, interpolate]);
        }
        let op = Self { source: Source::Bytes, normalise };
        Case::new(op).bytes(shape, bytes).numbers(Spec::exact([size.batch, AUGMENTATION]), numbers)
    }
}
