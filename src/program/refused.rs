//! Which kernels a plan could choose from, and which it would have preferred and could not take.

use std::collections::BTreeMap;

use super::op::Candidate;
use super::plan::{Backend, Launch, Plan, candidates, try_kernel};

/// Every kernel that the backend of a plan has for one of its launches, in the order in which they are preferred: the first
/// that refuses nothing is the chosen one, unless references were asked for.
pub fn considered(plan: &Plan, launch: &Launch) -> Vec<Candidate> {
    let stored = |&buffer: &usize| (plan.buffers[buffer].spec, plan.buffers[buffer].dtype);
    let [inputs, outputs] = [&launch.inputs, &launch.outputs].map(|of| of.iter().map(stored).collect::<Vec<_>>());
    if plan.backend == Backend::Cpu {
        return candidates(&launch.op, &inputs.iter().map(|&(spec, _)| spec).collect::<Vec<_>>());
    }
    let kernels = plan.backend.kernels(&launch.op).iter();
    let tried = kernels.map(|&name| match try_kernel(plan.backend, &launch.op, name, &inputs, &outputs) {
        Ok(_) => Candidate::legal(name),
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
