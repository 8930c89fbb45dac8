//! Which kernels a plan would have preferred and could not take.

use std::collections::BTreeMap;

use super::plan::{Plan, considered};

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
