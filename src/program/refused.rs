//! Which kernels a plan would have preferred and could not take.

use std::collections::BTreeMap;

use super::plan::{Backend, Launch, Plan, candidates, try_kernel};
use crate::base::{DType, Spec};

/// Of each kernel that is better than the one some launch has, by `op/kernel`: the reason why it was refused there, once for
/// each reason, with the number of launches.
pub fn refused(plan: &Plan) -> BTreeMap<(String, String), usize> {
    let mut found = BTreeMap::new();
    for launch in &plan.launches {
        for (kernel, why) in better(plan, launch) {
            *found.entry((format!("{}/{kernel}", launch.op.name()), why)).or_default() += 1;
        }
    }
    found
}

/// The kernels before the one that a launch has, each with the reason against it.
fn better(plan: &Plan, launch: &Launch) -> Vec<(&'static str, String)> {
    let stored = |buffers: &[usize]| -> Vec<(Spec, DType)> {
        buffers.iter().map(|&at| (plan.buffers[at].spec, plan.buffers[at].dtype)).collect()
    };
    let (inputs, outputs) = (stored(&launch.inputs), stored(&launch.outputs));
    match plan.backend {
        Backend::Cpu => {
            let specs: Vec<Spec> = inputs.iter().map(|&(spec, _)| spec).collect();
            let candidates = candidates(&launch.op, &specs).into_iter();
            let better = candidates.take_while(|candidate| candidate.name != launch.kernel);
            better.filter_map(|candidate| Some((candidate.name, candidate.refusal?))).collect()
        }
        backend => {
            let kernels = backend.kernels(&launch.op).iter().take_while(|&&kernel| kernel != launch.kernel);
            let why = |&kernel: &&'static str| try_kernel(backend, &launch.op, kernel, &inputs, &outputs).err();
            kernels.filter_map(|kernel| Some((*kernel, why(kernel)?.to_string()))).collect()
        }
    }
}
