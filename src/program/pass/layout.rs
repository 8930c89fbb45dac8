//! Gives everything that lives as long as the run its place, and every gradient the place that matches.
//!
//! Trainable parameters lie in their slab in the order in which their gradients complete in the reverse pass, and the
//! gradient and moment slabs have the same offsets. So a run of finished gradients is one contiguous range of the
//! gradient slab (a bucket for an exchange between devices), and one update walks four slabs in step.

use std::collections::{BTreeMap, HashSet};

use super::precision::Precision;
use crate::program::plan::Slab;
use crate::program::record::{FileLayout, Init, Program, Role};

/// Every buffer starts at a multiple of this many bytes.
pub const ALIGNMENT: usize = 256;

/// `bytes` rounded up to the alignment of buffers.
pub fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// The first aligned place from `offset` on at which `bytes` bytes lie within one piece of so many bytes: a buffer of a
/// device may hold no more of a slab than that, and a value must lie in one buffer. They must fit into a piece.
pub fn in_piece(offset: usize, bytes: usize, piece: usize) -> usize {
    let last = offset + bytes.saturating_sub(1);
    if offset / piece == last / piece { offset } else { last / piece * piece }
}

/// Where a state lies, how it starts and how files order it.
#[derive(Clone, Debug, PartialEq)]
pub struct StatePlace {
    /// Its slab.
    pub slab: Slab,
    /// Bytes from the start of the slab.
    pub offset: usize,
    /// Shape and kind.
    pub spec: crate::base::Spec,
    /// What it is for.
    pub role: Role,
    /// How it starts.
    pub init: Init,
    /// Its order in files.
    pub layout: FileLayout,
}

/// The places of all states of a model, by name. Several plans on the same slabs share one.
#[derive(Clone, Debug, PartialEq)]
pub struct StateLayout {
    /// Places by published name; moments as `<parameter>.m` and `<parameter>.v`.
    pub states: BTreeMap<String, StatePlace>,
    /// Trainable parameters in the order in which their gradients complete, with byte ranges of the gradient slab.
    pub gradients: Vec<(String, std::ops::Range<usize>)>,
    /// How real numbers are stored.
    pub precision: Precision,
    /// No value crosses a multiple of so many bytes of its slab ([`in_piece`]).
    pub piece: usize,
    sizes: BTreeMap<Slab, usize>,
}

impl StateLayout {
    /// Places for all states of `program`, in slabs that are one piece each.
    pub fn of(program: &Program, precision: Precision) -> Self {
        Self::in_pieces(program, precision, usize::MAX)
    }

    /// Places for all states of `program`, none across a multiple of `piece` bytes. Trainable parameters without gradient
    /// come last.
    pub fn in_pieces(program: &Program, precision: Precision, piece: usize) -> Self {
        let (states, gradients, sizes) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        let mut layout = Self { states, gradients, precision, piece, sizes };
        let complete: Vec<usize> = program.gradients.iter().map(|&(state, _)| state).collect();
        let reached: HashSet<usize> = complete.iter().copied().collect();
        let trainable = |at: usize| program.states[at].role == Role::Parameter { trainable: true };
        let rest = (0..program.states.len()).filter(|&at| trainable(at) && !reached.contains(&at));
        for at in complete.iter().copied().chain(rest) {
            let name = &program.states[at].name;
            let range = layout.put(program, at, Slab::Weights);
            for (suffix, slab) in [(".m", Slab::FirstMoments), (".v", Slab::SecondMoments)] {
                if let Some(moment) = program.states.iter().position(|state| state.name == format!("{name}{suffix}")) {
                    layout.put(program, moment, slab);
                }
            }
            layout.gradients.push((name.clone(), range));
        }
        let trained = layout.size(Slab::Weights);
        layout.sizes.insert(Slab::Gradients, trained);
        for at in 0..program.states.len() {
            match program.states[at].role {
                Role::Parameter { trainable: false } => drop(layout.put(program, at, Slab::Frozen)),
                Role::Statistic => drop(layout.put(program, at, Slab::Statistics)),
                _ => {}
            }
        }
        layout
    }

    fn put(&mut self, program: &Program, at: usize, slab: Slab) -> std::ops::Range<usize> {
        let state = &program.states[at];
        let spec = program.spec(state.value);
        let dtype = self.precision.dtype(spec.kind);
        let size = self.sizes.entry(slab).or_default();
        let bytes = spec.shape.elements() * dtype.bytes();
        let offset = in_piece(*size, bytes, self.piece);
        *size = offset + aligned(bytes);
        let place = StatePlace { slab, offset, spec, role: state.role, init: state.init, layout: state.layout };
        self.states.insert(state.name.clone(), place);
        offset..offset + bytes
    }

    /// Bytes of a slab that holds states or gradients.
    pub fn size(&self, slab: Slab) -> usize {
        self.sizes.get(&slab).copied().unwrap_or(0)
    }
}
