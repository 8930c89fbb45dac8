//! Proves that a plan is sound, without looking at how it was made.
//!
//! The launches are walked with a record of which buffer's numbers each byte holds. A read must find its own buffer's
//! numbers whole; so no two live values overlap and everything is written before it is read.

use std::ops::Deref;

use super::op::{Candidate, Overwrite};
use super::pass::layout::ALIGNMENT;
use super::plan::{Backend, Buffer, Launch, Plan, Slab};
use super::select::{candidates, try_kernel};
use crate::base::{DType, Spec};

/// A plan that has passed [`check`] and can no longer be changed: the only kind that a backend replays, for its slices
/// of slabs are as sound as the plan.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked(Plan);

impl Checked {
    /// Checks a plan.
    pub fn new(plan: Plan) -> Result<Self, Fault> {
        check(&plan)?;
        Ok(Self(plan))
    }

    /// The plan, to be changed.
    pub fn into_plan(self) -> Plan {
        self.0
    }
}

impl Deref for Checked {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.0
    }
}

/// What is wrong with a plan, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A launch, or a name, refers to a buffer that is not there.
    #[error("the plan refers to buffer {buffer} of {count}")]
    NoBuffer {
        /// The position referred to.
        buffer: usize,
        /// How many there are.
        count: usize,
    },
    /// A buffer reaches beyond its slab.
    #[error("buffer {buffer} ends at byte {end} of {slab:?}, which has {size}")]
    OutOfBounds {
        /// Position in the plan's buffers.
        buffer: usize,
        /// Its slab.
        slab: Slab,
        /// Where it ends.
        end: usize,
        /// Bytes of the slab.
        size: usize,
    },
    /// A buffer does not start at a multiple of the alignment.
    #[error("buffer {buffer} starts at byte {offset}, not a multiple of {ALIGNMENT}")]
    Misaligned {
        /// Position in the plan's buffers.
        buffer: usize,
        /// Where it starts.
        offset: usize,
    },
    /// A buffer lies across two pieces of its slab.
    #[error("buffer {buffer} lies at bytes {offset} to {end}, across a multiple of {piece}")]
    Split {
        /// Position in the plan's buffers.
        buffer: usize,
        /// Where it starts.
        offset: usize,
        /// Where it ends.
        end: usize,
        /// The size of a piece.
        piece: usize,
    },
    /// A buffer is stored in another type than the plan's precision gives its kind.
    #[error("buffer {buffer} is not stored in the type that the plan's precision gives its kind")]
    WrongType {
        /// Position in the plan's buffers.
        buffer: usize,
    },
    /// A launch reads numbers that are not there: never written, or overwritten since.
    #[error(
        "launch {launch} ({scope}) reads buffer {buffer}, whose numbers are not there (never written, or overwritten)"
    )]
    Stale {
        /// Position in the plan's launches.
        launch: usize,
        /// Its scope.
        scope: String,
        /// Position in the plan's buffers.
        buffer: usize,
    },
    /// A launch writes where it also reads or writes something else.
    #[error("launch {launch} ({scope}) writes buffer {buffer} over buffer {other}, which it also uses")]
    Overlap {
        /// Position in the plan's launches.
        launch: usize,
        /// Its scope.
        scope: String,
        /// The output.
        buffer: usize,
        /// The other buffer.
        other: usize,
    },
    /// Something that can be read after the step has been overwritten.
    #[error("output {name} does not survive the step")]
    LostOutput {
        /// Its name.
        name: String,
    },
    /// A launch takes another kind or shape than its op makes.
    #[error("launch {launch} ({scope}): {why}")]
    Misfit {
        /// Position in the plan's launches.
        launch: usize,
        /// Its scope.
        scope: String,
        /// What does not fit.
        why: String,
    },
}

fn overlap(a: &Buffer, b: &Buffer) -> bool {
    a.slab == b.slab && a.offset < b.end() && b.offset < a.end()
}

/// Checks bounds, alignment, shapes, kernels, write-before-read, overlaps. Costs milliseconds; runs on every plan.
pub fn check(plan: &Plan) -> Result<(), Fault> {
    let used =
        plan.launches.iter().flat_map(|launch| launch.inputs.iter().chain(&launch.outputs).chain(&launch.workspace));
    let named = plan.inputs.iter().chain(&plan.outputs).chain(&plan.gradients).map(|(_, buffer)| buffer);
    let count = plan.buffers.len();
    if let Some(&buffer) = used.chain(named).find(|&&buffer| buffer >= count) {
        return Err(Fault::NoBuffer { buffer, count });
    }
    for (at, buffer) in plan.buffers.iter().enumerate() {
        let (end, size) = (buffer.end(), plan.slabs.get(&buffer.slab).copied().unwrap_or(0));
        if end > size {
            return Err(Fault::OutOfBounds { buffer: at, slab: buffer.slab, end, size });
        }
        if !buffer.offset.is_multiple_of(ALIGNMENT) {
            return Err(Fault::Misaligned { buffer: at, offset: buffer.offset });
        }
        if buffer.bytes() > 0 && buffer.offset / plan.piece != (end - 1) / plan.piece {
            return Err(Fault::Split { buffer: at, offset: buffer.offset, end, piece: plan.piece });
        }
        if buffer.dtype != plan.precision.dtype(buffer.spec.kind) {
            return Err(Fault::WrongType { buffer: at });
        }
    }
    // Present from the start: what is uploaded, and state. A state has several buffers, one per update; the ones
    // made by updates are recognised as outputs below.
    let mut made = vec![false; plan.buffers.len()];
    for launch in &plan.launches {
        for &written in launch.outputs.iter().chain(&launch.workspace) {
            made[written] = true;
        }
    }
    let transient = |buffer: &Buffer| matches!(buffer.slab, Slab::Arena | Slab::Gradients);
    let mut valid: Vec<usize> =
        (0..plan.buffers.len()).filter(|&at| !made[at] && !transient(&plan.buffers[at])).collect();
    for (at, launch) in plan.launches.iter().enumerate() {
        check_launch(plan, at, &valid)?;
        for &written in launch.outputs.iter().chain(&launch.workspace) {
            valid.retain(|&other| !overlap(&plan.buffers[written], &plan.buffers[other]));
        }
        valid.extend(&launch.outputs);
    }
    for (name, buffer) in &plan.outputs {
        if !valid.contains(buffer) {
            return Err(Fault::LostOutput { name: name.clone() });
        }
    }
    Ok(())
}

fn check_launch(plan: &Plan, at: usize, valid: &[usize]) -> Result<(), Fault> {
    let launch = &plan.launches[at];
    let scope = || launch.scope.clone();
    check_op(plan, launch).map_err(|why| Fault::Misfit { launch: at, scope: scope(), why })?;
    for &input in &launch.inputs {
        if !valid.contains(&input) {
            return Err(Fault::Stale { launch: at, scope: scope(), buffer: input });
        }
    }
    if let Some(workspace) = launch.workspace {
        let overlaps = |&&other: &&usize| overlap(&plan.buffers[workspace], &plan.buffers[other]);
        if let Some(&other) = launch.inputs.iter().chain(&launch.outputs).find(overlaps) {
            return Err(Fault::Overlap { launch: at, scope: scope(), buffer: workspace, other });
        }
    }
    for (position, &output) in launch.outputs.iter().enumerate() {
        let in_place = launch.overwrites[position].filter(|&(_, same)| same).map(|(input, _)| input);
        let place = |at: usize| (plan.buffers[at].slab, plan.buffers[at].offset, plan.buffers[at].bytes());
        if in_place.is_some_and(|input| place(launch.inputs[input]) != place(output)) {
            let why = format!("output {position} is updated in place, but does not lie where its input does");
            return Err(Fault::Misfit { launch: at, scope: scope(), why });
        }
        for (other_position, &other) in launch.outputs.iter().enumerate() {
            if other_position != position && overlap(&plan.buffers[output], &plan.buffers[other]) {
                return Err(Fault::Overlap { launch: at, scope: scope(), buffer: output, other });
            }
        }
        for (input_position, &input) in launch.inputs.iter().enumerate() {
            let (a, b) = (&plan.buffers[output], &plan.buffers[input]);
            if Some(input_position) != in_place && overlap(a, b) {
                return Err(Fault::Overlap { launch: at, scope: scope(), buffer: output, other: input });
            }
        }
    }
    Ok(())
}

/// Whether op, kernel and buffers fit each other: shapes and kinds, and which outputs start out as which inputs.
fn check_op(plan: &Plan, launch: &Launch) -> Result<(), String> {
    let specs = |buffers: &[usize]| buffers.iter().map(|&buffer| plan.buffers[buffer].spec).collect::<Vec<Spec>>();
    let (inputs, outputs) = (specs(&launch.inputs), specs(&launch.outputs));
    let inferred = launch.op.infer(&inputs).map_err(|misfit| misfit.to_string())?;
    if inferred.specs != outputs {
        return Err("its outputs are not what the op makes of its inputs".into());
    }
    let agree = |(output, planned): (usize, &Option<(usize, bool)>)| match (inferred.overwrites[output], *planned) {
        (None, None) => true,
        (Some(Overwrite { input, must }), Some((planned, in_place))) => {
            input == planned && inputs.get(input) == Some(&outputs[output]) && (in_place || !must)
        }
        _ => false,
    };
    if launch.overwrites.len() != outputs.len() || !launch.overwrites.iter().enumerate().all(agree) {
        return Err("it does not overwrite the inputs that the op overwrites".into());
    }
    check_kernel(plan, launch, &inputs)
}

/// Whether the chosen kernel takes these buffers, in the workspace it was given.
fn check_kernel(plan: &Plan, launch: &Launch, inputs: &[Spec]) -> Result<(), String> {
    let space = launch.workspace.map_or(0, |workspace| plan.buffers[workspace].bytes());
    let stored = |buffers: &[usize]| -> Vec<(Spec, DType)> {
        buffers.iter().map(|&at| (plan.buffers[at].spec, plan.buffers[at].dtype)).collect()
    };
    let needed = match plan.backend {
        Backend::Cpu => {
            let legal = |candidate: &Candidate| candidate.name == launch.kernel && candidate.refusal.is_none();
            candidates(&launch.op, inputs).iter().any(legal).then_some(0)
        }
        backend => {
            let (inputs, outputs) = (stored(&launch.inputs), stored(&launch.outputs));
            try_kernel(backend, &launch.op, launch.kernel, &inputs, &outputs).ok().map(|needs| needs.workspace)
        }
    };
    match needed {
        None => Err(format!("it has no kernel {} for these inputs", launch.kernel)),
        Some(needed) if needed > space => Err(format!("its kernel needs {needed} bytes of workspace, not {space}")),
        Some(_) => Ok(()),
    }
}
