//! Which kernel of an op a plan takes: of those that take the values, on what the device is, the first in the op's order, or
//! one behind it that is predicted to take less time.

use std::collections::BTreeMap;

use super::device::{DeviceIo, ShaderIo};
use super::op::{Candidate, Misfit};
use super::plan::{Backend, Launch, Plan, REFERENCE};
use crate::base::{DType, Spec};
use crate::ops::Op;

/// What a kernel of a device needs for a launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Bytes of workspace.
    pub workspace: usize,
    /// Seconds that it is predicted to take; see [`Candidate::predicted`].
    pub predicted: Option<f64>,
}

/// The best of a device's kernels that takes these values, with the bytes of workspace it needs; or why none does.
pub(super) fn device_kernel(
    backend: Backend,
    op: &Op,
    inputs: &[(Spec, DType)],
    outputs: &[(Spec, DType)],
) -> Result<(&'static str, usize), String> {
    let (mut legal, mut refusals) = (Vec::new(), Vec::new());
    for &kernel in backend.kernels(op) {
        match try_kernel(backend, op, kernel, inputs, outputs) {
            Ok(needs) => legal.push((kernel, needs)),
            Err(misfit) => refusals.push(format!("{kernel}: {misfit}")),
        }
    }
    let best =
        legal.into_iter().reduce(|best, other| if faster(other.1.predicted, best.1.predicted) { other } else { best });
    best.map(|(kernel, needs)| (kernel, needs.workspace)).ok_or_else(|| {
        if refusals.is_empty() {
            refusals.push("it has none".into());
        }
        refusals.join("; ")
    })
}

/// Whether both are known and the first is less.
fn faster(one: Option<f64>, other: Option<f64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one < other)
}

/// What a device's kernel needs for these values, or why it cannot take them.
pub(super) fn try_kernel(
    backend: Backend,
    op: &Op,
    kernel: &'static str,
    inputs: &[(Spec, DType)],
    outputs: &[(Spec, DType)],
) -> Result<Needs, Misfit> {
    if let Backend::Wgpu(offered) = backend {
        let mut io = ShaderIo::unplaced(inputs, outputs);
        op.run_wgsl(kernel, &mut io)?;
        let asked = io.finish();
        let lacking = asked.calls.iter().find_map(|call| offered.lacks(call.symbol));
        Misfit::unless(lacking.is_none(), || lacking.unwrap_or_default().to_owned())?;
        return Ok(Needs { workspace: asked.workspace_bytes, predicted: asked.predicted });
    }
    let mut io = DeviceIo::unplaced(inputs, outputs);
    op.run_cuda(kernel, &mut io)?;
    let asked = io.finish();
    if let Backend::Cuda(architecture) = backend {
        let lacking = asked.calls.iter().find_map(|call| architecture.lacks(call.symbol));
        Misfit::unless(lacking.is_none(), || {
            format!("it needs {}, and the plan is for {architecture}", lacking.unwrap_or_default())
        })?;
    }
    Ok(Needs { workspace: asked.workspace_bytes, predicted: asked.predicted })
}

/// Every CPU kernel of an op on these inputs, best first; the reference, which does everything, comes last.
pub fn candidates(op: &Op, inputs: &[Spec]) -> Vec<Candidate> {
    let mut candidates = op.cpu(inputs);
    candidates.push(Candidate::legal(REFERENCE));
    candidates
}

/// Every kernel that the backend of a plan has for one of its launches, in the order in which they are preferred: of those that
/// refuse nothing the first is the chosen one, or one that is predicted to take less, unless references were asked for.
pub fn considered(plan: &Plan, launch: &Launch) -> Vec<Candidate> {
    let stored = |&buffer: &usize| (plan.buffers[buffer].spec, plan.buffers[buffer].dtype);
    let [inputs, outputs] = [&launch.inputs, &launch.outputs].map(|of| of.iter().map(stored).collect::<Vec<_>>());
    if plan.backend == Backend::Cpu {
        return candidates(&launch.op, &inputs.iter().map(|&(spec, _)| spec).collect::<Vec<_>>());
    }
    let kernels = plan.backend.kernels(&launch.op).iter();
    let tried = kernels.map(|&name| match try_kernel(plan.backend, &launch.op, name, &inputs, &outputs) {
        Ok(needs) => Candidate { predicted: needs.predicted, ..Candidate::legal(name) },
        Err(misfit) => Candidate::refused(name, misfit.to_string()),
    });
    tried.collect()
}

/// Of each kernel that is better than the one some launch has, by `op/kernel`: the reason why it was refused there, once for
/// each reason, with the number of launches.
pub fn refused(plan: &Plan) -> BTreeMap<(String, String), usize> {
    let mut found = BTreeMap::new();
    for launch in &plan.launches {
        let better = considered(plan, launch).into_iter().take_while(|candidate| candidate.name != launch.kernel);
        for (kernel, why) in better.filter_map(|candidate| Some((candidate.name, candidate.refusal?))) {
            *found.entry((format!("{}/{kernel}", launch.op.name()), why)).or_default() += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::faster;

    #[test]
    fn only_what_is_predicted_is_compared() {
        assert!(faster(Some(1.0), Some(2.0)) && !faster(Some(2.0), Some(1.0)) && !faster(Some(1.0), Some(1.0)));
        assert!(!faster(None, Some(1.0)) && !faster(Some(1.0), None) && !faster(Some(f64::NAN), Some(1.0)));
    }
}
