//! BERT's embeddings (Devlin et al., 2019): word, position within the sequence, and token type 0, added up.
//!
//! | pass | inputs | outputs |
//! |---|---|---|
//! | `Fwd` | word [V, H], position [P, H], token_type [2, H], ids [rows], order [rows], offsets [B+1] | x [rows, H] |
//! | `Bwd { vocabulary, positions }` | dx [rows, H], ids, order, offsets | dword [V, H], dposition [P, H], dtype [2, H] |
//!
//! x\[r\] = word\[ids\[r\]\] + position\[r − offsets\[b\]\] + token_type\[0\] for row r of sequence b; `Bwd` sums the rows of dx that
//! took each row. `order` lists the real rows sorted by (id, row); the fast gradient finds there what it adds up for each word.
//! Row 0 of dword stays zero: id 0 is the padding token, as with torch's `padding_idx`. Row 1 of dtype is zero. Rows
//! from the last offset on are neither read nor written.

mod cpu;
mod cuda;
mod reference;
mod wgsl;

use crate::base::{Kind, Number, Rng, Spec};
use crate::ops::rows::{self, Packing};
use crate::program::{
    Backward, Candidate, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Embed {
    /// Looks up.
    Fwd,
    /// Gradient by the three tables.
    Bwd {
        /// Rows of the word table.
        vocabulary: usize,
        /// Rows of the position table.
        positions: usize,
    },
}

impl Operation for Embed {
    const VARIANTS: usize = 2;
    // Words of many rows and of few; channels of several workgroups.
    const LARGE: &'static [(usize, Size)] = &[
        (1, Size { batch: 3, side: 60, channels: 300, extra: 2 }),
        (1, Size { batch: 3, side: 60, channels: 263, extra: 70 }),
    ];

    fn name(&self) -> &'static str {
        match self {
            Self::Fwd => "embed.fwd",
            Self::Bwd { .. } => "embed.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        match *self {
            Self::Fwd => {
                let [word, position, token_type, ids, order, offsets] = Misfit::inputs(inputs)?;
                let hidden = word.shape.last();
                rows::real("word", word, [word.shape.rows(), hidden])?;
                rows::real("position", position, [position.shape.rows(), hidden])?;
                rows::real("token_type", token_type, [2, hidden])?;
                let x = Spec::activation([ids.shape.elements(), hidden]);
                check_tokens(x, ids, order, offsets)?;
                Ok(Outputs::new([x]))
            }
            Self::Bwd { vocabulary, positions } => {
                let [dx, ids, order, offsets] = Misfit::inputs(inputs)?;
                check_tokens(dx, ids, order, offsets)?;
                Ok(Outputs::new([vocabulary, positions, 2].map(|rows| Spec::exact([rows, dx.shape.last()]))))
            }
        }
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let Self::Fwd = self else { return Err(Misfit::new("embed.bwd has no gradient rule")) };
        let [vocabulary, positions] = [at.inputs[0], at.inputs[1]].map(|table| r.shape(table).rows());
        let tables =
            r.node(Self::Bwd { vocabulary, positions }, &[at.seed(0)?, at.inputs[3], at.inputs[4], at.inputs[5]])?;
        Ok(vec![Some(tables[0]), Some(tables[1]), Some(tables[2]), None, None, None])
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        match self {
            Self::Fwd => 2 * outputs[0].shape.elements() as u64,
            Self::Bwd { .. } => 3 * inputs[0].shape.elements() as u64,
        }
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        match self {
            Self::Fwd => reference::fwd(io),
            Self::Bwd { .. } => reference::bwd(io),
        }
    }

    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        match self {
            Self::Fwd => Vec::new(),
            Self::Bwd { .. } => vec![Candidate::legal("sorted")],
        }
    }

    fn run_cpu<N: Number>(&self, _kernel: &'static str, io: &mut HostIo<'_, N>) {
        match self {
            Self::Fwd => reference::fwd(io),
            Self::Bwd { .. } => cpu::bwd(io),
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
        let packing = Packing::draw(size, rng);
        let (capacity, extent) = (packing.capacity, packing.extent);
        let (vocabulary, positions) = (1 + size.extra, 1 + size.side);
        // Forward without the padding token: its gradient is zero by definition, not by calculus.
        let first = usize::from(variant == 0);
        let ids: Vec<i32> = (0..capacity).map(|_| (first + rng.below(vocabulary - first)) as i32).collect();
        let mut order: Vec<i32> = (0..capacity as i32).collect();
        order[..extent].sort_by_key(|&row| (ids[row as usize], row));
        let case = match variant {
            0 => Case::new(Self::Fwd)
                .normal(Spec::exact([vocabulary, size.channels]), 1.0, rng)
                .normal(Spec::exact([positions, size.channels]), 1.0, rng)
                .normal(Spec::exact([2, size.channels]), 1.0, rng)
                .differentiable(&[0, 1, 2]),
            _ => Case::new(Self::Bwd { vocabulary, positions }).normal(
                Spec::activation([capacity, size.channels]),
                1.0,
                rng,
            ),
        };
        case.indices([capacity], ids)
            .indices([capacity], order)
            .indices([packing.offsets.len()], packing.offsets)
            .packed(capacity, extent)
    }
}

/// A misfit unless `x` is packed and has one id and one place in the order for each row.
fn check_tokens(x: Spec, ids: Spec, order: Spec, offsets: Spec) -> Result<(), Misfit> {
    let [rows, _] = rows::packed("x", x, offsets)?;
    for (name, spec) in [("ids", ids), ("order", order)] {
        Misfit::shape(name, spec.shape, [rows])?;
        Misfit::unless(spec.kind == Kind::Index, || format!("{name} have to be integers, got {spec:?}"))?;
    }
    Ok(())
}
