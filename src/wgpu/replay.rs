//! Replays plans on a GPU: slabs are allocated once, the dispatches of every launch are made ready once, and a step is then
//! their submission in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::ceilings::ceilings;
use super::gpu::{Gpu, GpuError, Recording};
use crate::base::ceilings::Ceilings;
use crate::program::plan::{Buffer, Launch, Plan, Slab, slabs};
use crate::program::{Binding, Checked, Misfit, Placed, ShaderCall, ShaderIo};

/// Launches that are submitted at a time, at most: systems reset a GPU that works on one submission for seconds.
const SUBMITTED: usize = 32;
/// FLOP that are submitted at a time, if it is more than one launch: a fifth of a second where a small GPU reaches 100 GFLOP/s.
const FLOP_SUBMITTED: u64 = 20_000_000_000;

/// Why a plan cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A slab does not fit.
    #[error("{slab:?} takes {bytes} bytes: {source}")]
    Memory {
        /// Which slab.
        slab: Slab,
        /// Its size.
        bytes: u64,
        /// What the GPU says.
        source: GpuError,
    },
    /// A launch failed, or cannot be made.
    #[error("launch {at} of the plan ({scope}, {op} by {kernel}): {source}")]
    Launch {
        /// Position in the plan.
        at: usize,
        /// Where in the model.
        scope: String,
        /// The op.
        op: &'static str,
        /// The kernel within the op.
        kernel: &'static str,
        /// What the GPU says.
        source: GpuError,
    },
    /// A copy or an allocation failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// A plan with what each of its launches submits.
struct Bound {
    plan: Arc<Checked>,
    launches: Vec<Recording>,
    replayed: bool,
}

/// Plans on one GPU, on the same slabs.
pub struct Replay {
    gpu: Arc<dyn Gpu>,
    /// Address and size.
    slabs: BTreeMap<Slab, (u64, u64)>,
    /// Copies of slabs; see [`Replay::keep`].
    kept: BTreeMap<Slab, u64>,
    /// Everything that was allocated, to be given back.
    allocated: Vec<u64>,
    plans: Vec<Bound>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("slabs", &self.slabs).field("plans", &self.plans.len()).finish_non_exhaustive()
    }
}

impl Replay {
    /// Takes memory for these plans, which share their states, and binds them. All of it is zero: rows that no text has
    /// are written by nobody, but added up by kernels that are not told how many there are.
    pub fn open(gpu: Arc<dyn Gpu>, plans: &[Arc<Checked>]) -> Result<Self, ReplayError> {
        let mut replay =
            Self { gpu, slabs: BTreeMap::new(), kept: BTreeMap::new(), allocated: Vec::new(), plans: Vec::new() };
        for launch in plans.iter().flat_map(|plan| &plan.launches) {
            replay.gpu.bring(launch.op.shaders())?;
        }
        for (slab, bytes) in slabs(plans) {
            let at = replay.allocate(bytes).map_err(|source| ReplayError::Memory { slab, bytes, source })?;
            replay.slabs.insert(slab, (at, bytes));
        }
        for plan in plans {
            let launches = (0..plan.launches.len()).map(|at| {
                let made = replay.bind(plan, at);
                made.map_err(|source| failed(&plan.launches[at], at, source))
            });
            let launches = launches.collect::<Result<_, _>>()?;
            replay.plans.push(Bound { plan: plan.clone(), launches, replayed: false });
        }
        Ok(replay)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, GpuError> {
        let at = self.gpu.allocate(bytes)?;
        self.allocated.push(at);
        Ok(at)
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        self.slabs.get(&buffer.slab).map_or(0, |&(base, _)| base) + buffer.offset as u64
    }

    fn bind(&mut self, plan: &Plan, at: usize) -> Result<Recording, GpuError> {
        let launch = &plan.launches[at];
        let placed = Placed::new(plan, at, |buffer| self.address(buffer));
        let copies = placed.copies().filter_map(|[to, from]| copy(to.binding(), from.binding()));
        let mut calls: Vec<ShaderCall> = copies.collect();
        let refused = |misfit: Misfit| GpuError::Invalid(misfit.to_string());
        let run = |io: &mut ShaderIo| launch.op.run_wgsl(launch.kernel, io).map_err(refused);
        calls.extend(placed.calls(run, |constants| {
            let at = self.allocate(constants.len() as u64)?;
            self.gpu.upload(at, constants).map(|()| at)
        })?);
        self.gpu.record(&calls)
    }

    /// Where a plan stands among those that are bound.
    fn bound(&self, plan: &Arc<Checked>) -> Result<usize, GpuError> {
        let found = self.plans.iter().position(|bound| Arc::ptr_eq(&bound.plan, plan));
        found.ok_or_else(|| GpuError::Invalid("the plan is none of those that were put on the GPU".into()))
    }

    /// Runs every launch. The first time launch by launch, so that an error names its place. Returns when all of it is
    /// submitted.
    pub fn replay(&mut self, plan: &Arc<Checked>) -> Result<(), ReplayError> {
        let bound = self.bound(plan)?;
        if !self.plans[bound].replayed {
            for at in 0..plan.launches.len() {
                self.run(plan, at, 1)?;
            }
            self.plans[bound].replayed = true;
            return Ok(());
        }
        let launches = &self.plans[bound].launches;
        let of_plan = submissions(plan.launches.iter().map(|launch| launch.cost.flops));
        Ok(of_plan.into_iter().try_for_each(|some| self.gpu.submit(&launches[some]))?)
    }

    /// Runs the launch that stands `at` that position, `times` times in a row, and waits for the last.
    pub fn run(&mut self, plan: &Arc<Checked>, at: usize, times: usize) -> Result<(), ReplayError> {
        let recordings = vec![self.plans[self.bound(plan)?].launches[at]; times];
        let repeated = submissions(recordings.iter().map(|_| plan.launches[at].cost.flops));
        let mut submitted = repeated.into_iter().map(|some| self.gpu.submit(&recordings[some]));
        let done = submitted.try_for_each(|done| done).and_then(|()| self.gpu.synchronize());
        done.map_err(|source| failed(&plan.launches[at], at, source))
    }

    /// What the GPU does at best.
    pub fn ceilings(&self) -> Result<Ceilings, GpuError> {
        ceilings(&*self.gpu)
    }

    /// The numbers of a buffer.
    pub fn read(&self, buffer: &Buffer) -> Result<Vec<f64>, GpuError> {
        let mut bytes = vec![0; buffer.bytes()];
        self.gpu.download(self.address(buffer), &mut bytes)?;
        Ok(buffer.dtype.decode(&bytes))
    }

    /// Writes a buffer whole, each number rounded once.
    pub fn write(&mut self, buffer: &Buffer, numbers: impl Iterator<Item = f64>) -> Result<(), GpuError> {
        self.upload(buffer, &buffer.dtype.encode(numbers))
    }

    /// Writes a buffer whole, as stored.
    pub fn upload(&mut self, buffer: &Buffer, bytes: &[u8]) -> Result<(), GpuError> {
        if bytes.len() != buffer.bytes() {
            let (got, wanted) = (bytes.len(), buffer.bytes());
            return Err(GpuError::Invalid(format!("{got} bytes for a buffer of {wanted}")));
        }
        self.gpu.upload(self.address(buffer), bytes)
    }

    /// Copies a slab aside, on the GPU.
    pub fn keep(&mut self, slab: Slab) -> Result<(), GpuError> {
        let Some(&(from, bytes)) = self.slabs.get(&slab) else { return Ok(()) };
        let to = match self.kept.get(&slab) {
            Some(&to) => to,
            None => {
                let to = self.allocate(bytes)?;
                *self.kept.entry(slab).or_insert(to)
            }
        };
        self.copy(to, from, bytes)
    }

    /// Puts back what [`Replay::keep`] copied.
    pub fn restore(&mut self, slab: Slab) -> Result<(), GpuError> {
        let (Some(&(to, bytes)), Some(&from)) = (self.slabs.get(&slab), self.kept.get(&slab)) else { return Ok(()) };
        self.copy(to, from, bytes)
    }

    /// Copies whole slabs, in pieces that can be bound: both are cut alike.
    fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), GpuError> {
        let piece = self.gpu.piece();
        let calls = (0..bytes.div_ceil(piece)).filter_map(|at| {
            let start = at * piece;
            let at = |base: u64| Binding { address: base + start, bytes: piece.min(bytes - start) };
            copy(at(to), at(from))
        });
        let calls: Vec<ShaderCall> = calls.collect();
        let recording = self.gpu.record(&calls)?;
        let done = self.gpu.submit(&[recording]);
        self.gpu.forget(recording);
        done
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        // What a GPU that is lost says to this does not matter any more.
        let _ = self.gpu.synchronize();
        self.plans.iter().flat_map(|bound| &bound.launches).for_each(|&recording| self.gpu.forget(recording));
        self.allocated.iter().for_each(|&at| self.gpu.free(at));
    }
}

/// The dispatch that copies a value, whole words of it; none if it is empty.
fn copy(to: Binding, from: Binding) -> Option<ShaderCall> {
    let words = to.bytes.div_ceil(4) as u32;
    (words > 0).then(|| ShaderCall::linear("memory.copy", words.div_ceil(256), [from, to], &words))
}

/// Which launches are submitted together, in order, by the FLOP of each.
fn submissions(flops: impl Iterator<Item = u64>) -> Vec<Range<usize>> {
    let mut parts: Vec<(Range<usize>, u64)> = Vec::new();
    for (at, flop) in flops.enumerate() {
        match parts.last_mut() {
            Some((part, sum)) if part.len() < SUBMITTED && *sum + flop <= FLOP_SUBMITTED => {
                part.end += 1;
                *sum += flop;
            }
            _ => parts.push((at..at + 1, flop)),
        }
    }
    parts.into_iter().map(|(part, _)| part).collect()
}

fn failed(launch: &Launch, at: usize, source: GpuError) -> ReplayError {
    let (scope, op, kernel) = (launch.scope.clone(), launch.op.name(), launch.kernel);
    ReplayError::Launch { at, scope, op, kernel, source }
}

#[cfg(test)]
mod tests {
    use super::{FLOP_SUBMITTED, SUBMITTED, submissions};

    #[test]
    fn launches_are_submitted_in_order_and_neither_too_many_nor_too_costly_at_a_time() {
        let cut = |flops: &[u64]| submissions(flops.iter().copied());
        assert!(cut(&[]).is_empty());
        assert_eq!(cut(&[0; SUBMITTED + 1]), [0..SUBMITTED, SUBMITTED..SUBMITTED + 1]);
        let half = FLOP_SUBMITTED / 2;
        assert_eq!(cut(&[half, half, 1]), [0..2, 2..3]);
        assert_eq!(cut(&[1, 3 * FLOP_SUBMITTED, 1, half]), [0..1, 1..2, 2..4], "one launch is not cut");
    }
}
