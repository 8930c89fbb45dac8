//! The first row of every packed sequence, which is the text's \[CLS\] state.
//!
//! | pass | inputs | output |
//! |---|---|---|
//! | `Fwd` | x [rows, C], offsets [B+1] | y [B, C]: y\[b\] = x\[offsets\[b\]\] |
//! | `Bwd { rows }` | dy [B, C], offsets [B+1] | dx [rows, C], zero in the other rows |
//!
//! Packed values have room for more rows than there are: the rows from the last offset on are neither read nor
//! written, here and in every op that takes offsets.

mod cuda;
mod reference;
mod wgsl;

use crate::base::{Kind, Number, Rng, Shape, Spec};
use crate::program::{Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rows {
    /// Picks.
    Fwd,
    /// Puts back.
    Bwd {
        /// Rows there is room for in dx.
        rows: usize,
    },
}

impl Operation for Rows {
    const VARIANTS: usize = 2;

    fn name(&self) -> &'static str {
        match self {
            Self::Fwd => "rows.fwd",
            Self::Bwd { .. } => "rows.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [value, offsets] = Misfit::inputs(inputs)?;
        match *self {
            Self::Fwd => {
                let [_, channels] = packed("x", value, offsets)?;
                Ok(Outputs::new([Spec { shape: [offsets.shape.last() - 1, channels].into(), ..value }]))
            }
            Self::Bwd { rows } => {
                let channels = value.shape.last();
                let dx = Spec { shape: [rows, channels].into(), ..value };
                packed("dx", dx, offsets)?;
                real("dy", value, [offsets.shape.last() - 1, channels])?;
                Ok(Outputs::new([dx]))
            }
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let rows = match self {
            Self::Fwd => r.shape(at.inputs[0]).rows(),
            Self::Bwd { .. } => return Err(Misfit::new("rows.bwd has no gradient rule")),
        };
        Ok(vec![Some(r.one(Self::Bwd { rows }, &[at.seed(0)?, at.inputs[1]])?), None])
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self {
            Self::Fwd => reference::fwd(io),
            Self::Bwd { .. } => reference::bwd(io),
        }
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
        let Packing { offsets, extent, capacity } = Packing::draw(size, rng);
        let case = match variant {
            0 => {
                Case::new(Self::Fwd).normal(Spec::activation([capacity, size.channels]), 1.0, rng).differentiable(&[0])
            }
            _ => {
                Case::new(Self::Bwd { rows: capacity }).normal(Spec::activation([size.batch, size.channels]), 1.0, rng)
            }
        };
        case.indices([offsets.len()], offsets).packed(capacity, extent)
    }
}

/// Extents of a packed value, [capacity, features]; or a misfit if it or its row offsets are something else.
pub(super) fn packed(name: &str, value: Spec, row_offsets: Spec) -> Result<[usize; 2], Misfit> {
    offsets(row_offsets)?;
    (value.shape.dims().try_into().ok().filter(|_| value.is_real()))
        .ok_or_else(|| Misfit::new(format!("{name} has to be packed as [rows, features], got {value:?}")))
}

/// Unless `spec` can be row offsets, a misfit.
pub(super) fn offsets(spec: Spec) -> Result<(), Misfit> {
    Misfit::unless(spec.kind == Kind::Index && spec.shape.rank() == 1 && spec.shape.last() >= 2, || {
        format!("row offsets have to be integers [batch + 1], got {spec:?}")
    })
}

/// Unless `spec` holds real numbers of that shape, a misfit that names it.
pub(super) fn real(name: &str, spec: Spec, wanted: impl Into<Shape>) -> Result<(), Misfit> {
    Misfit::unless(spec.is_real(), || format!("{name} has to be real numbers, got {spec:?}"))?;
    Misfit::shape(name, spec.shape, wanted)
}

/// Random packed sequences for test cases.
pub(super) struct Packing {
    /// Row offsets of `size.batch` sequences of 1 to `size.side` rows.
    pub offsets: Vec<i32>,
    /// Rows that hold something.
    pub extent: usize,
    /// Rows there is room for; no other extent that [`Size`] allows, so that nothing else looks packed.
    pub capacity: usize,
}

impl Packing {
    /// Draws lengths.
    pub fn draw(size: &Size, rng: &mut Rng) -> Self {
        let mut offsets = vec![0];
        for sequence in 0..size.batch {
            offsets.push(offsets[sequence] + 1 + rng.below(size.side) as i32);
        }
        let extent = offsets[size.batch] as usize;
        // No other extent of a case, each a number of its size or a few more, may be taken for the rows.
        let another =
            |rows: usize| [size.side, size.channels, size.extra].iter().any(|&at| (at..at + 4).contains(&rows));
        let capacity = (extent + 12..).find(|&rows| !another(rows)).unwrap_or(extent + 12);
        Self { offsets, extent, capacity }
    }
}
