//! What of a plan lies in the arena, and from which launch to which: read from the plan alone.

use std::collections::HashMap;

use super::memory::Interval;
use super::plan::{Plan, Slab};

/// A stretch of the arena and what it holds: one value, or several of which each overwrites the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// From when to when, and how much. What can be read after the step lasts until behind the last launch.
    pub interval: Interval,
    /// Bytes from the start of the arena.
    pub offset: usize,
    /// The first of the values: a position in [`Plan::buffers`].
    pub buffer: usize,
    /// It is no value, but what the kernels of one launch use among themselves.
    pub workspace: bool,
}

/// All that ever lies in the arena, in the order in which it is first touched. The most bytes of it that are alive at once
/// ([`live_bound`](super::memory::live_bound)) are the plan's [`live_bound`](Plan::live_bound).
pub fn residents(plan: &Plan) -> Vec<Resident> {
    // The buffer in whose memory another one is made.
    let mut home: Vec<usize> = (0..plan.buffers.len()).collect();
    let mut known: HashMap<usize, usize> = HashMap::new();
    let mut found: Vec<Resident> = Vec::new();
    for (at, launch) in plan.launches.iter().enumerate() {
        for (&output, overwrite) in launch.outputs.iter().zip(&launch.overwrites) {
            if let Some((input, true)) = *overwrite {
                home[output] = home[launch.inputs[input]];
            }
        }
        for &touched in launch.inputs.iter().chain(&launch.outputs).chain(&launch.workspace) {
            let buffer = &plan.buffers[touched];
            if buffer.slab != Slab::Arena {
                continue;
            }
            let resident = *known.entry(home[touched]).or_insert_with(|| {
                let interval = Interval { first: at, last: at, bytes: buffer.bytes() };
                let workspace = launch.workspace == Some(touched);
                found.push(Resident { interval, offset: buffer.offset, buffer: touched, workspace });
                found.len() - 1
            });
            found[resident].interval.last = at;
        }
    }
    for (_, output) in &plan.outputs {
        if let Some(&resident) = known.get(&home[*output]) {
            found[resident].interval.last = plan.launches.len();
        }
    }
    found
}
