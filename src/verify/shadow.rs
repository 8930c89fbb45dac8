//! A real plan, launch by launch: what each launch makes of the numbers that lie in its inputs, against the reference on
//! the same numbers.

use std::sync::Arc;

use serde::Serialize;

use super::cases::{self, Data, Values};
use super::compare::{Yardstick, compare};
use super::device::storage;
use crate::base::{Kind, Spec};
use crate::cuda::Replay;
use crate::cuda::replay::ReplayError;
use crate::program::Checked;
use crate::program::host::Extent;
use crate::program::plan::{Launch, Plan};

/// What became of one launch.
#[derive(Clone, Debug, Serialize)]
pub struct Shadowed {
    /// Position in the plan.
    pub at: usize,
    /// Where in the model.
    pub scope: String,
    /// `op.pass/kernel`.
    pub kernel: String,
    /// Part of the tolerance that was used up at worst.
    pub used: f64,
    /// What is wrong with its outputs.
    pub failure: Option<String>,
}

/// Runs every launch of a plan on its device and looks at what it made. Inputs and states must have been written.
pub fn shadow(
    replay: &mut Replay,
    plan: &Arc<Checked>,
    observe: &mut dyn FnMut(&Shadowed),
) -> Result<Vec<Shadowed>, ReplayError> {
    let mut all = Vec::new();
    for (at, launch) in plan.launches.iter().enumerate() {
        let given = read(replay, plan, &launch.inputs)?;
        replay.run(plan, at)?;
        let got = read(replay, plan, &launch.outputs)?;
        let verdict = judge(plan, launch, &given, &got);
        let (used, failure) = match verdict {
            Ok(used) => (used, None),
            Err(what) => (f64::NAN, Some(what)),
        };
        let kernel = format!("{}/{}", launch.op.name(), launch.kernel);
        let shadowed = Shadowed { at, scope: launch.scope.clone(), kernel, used, failure };
        observe(&shadowed);
        all.push(shadowed);
    }
    Ok(all)
}

fn read(replay: &Replay, plan: &Plan, buffers: &[usize]) -> Result<Values<f64>, ReplayError> {
    let value = |&buffer: &usize| {
        let buffer = &plan.buffers[buffer];
        Ok((buffer.spec, Data::stored(replay.read(buffer)?, buffer.dtype)))
    };
    buffers.iter().map(value).collect()
}

/// How many rows of packed text are real, if the launch is told: if it takes the row offsets.
fn extent(plan: &Plan, launch: &Launch, given: &Values<f64>) -> Option<Extent> {
    let named = |name: &str| plan.inputs.iter().find(|(input, _)| input == name).map(|&(_, buffer)| buffer);
    let (offsets, ids) = (named("offsets")?, named("ids")?);
    let at = launch.inputs.iter().position(|&input| input == offsets)?;
    let Data::Indices(offsets) = &given[at].1 else { return None };
    let rows = offsets.last().map_or(0, |&rows| rows as usize);
    Some(Extent { capacity: plan.buffers[ids].spec.shape.elements(), rows })
}

/// How much of the tolerance the outputs of a launch use up, given what its inputs held; or what is wrong with them.
pub(super) fn judge(plan: &Plan, launch: &Launch, given: &Values<f64>, got: &Values<f64>) -> Result<f64, String> {
    let narrow: Values<f32> = given.iter().map(|(spec, data)| (*spec, data.to())).collect();
    let truth = cases::launch::<f64>(&launch.op, &|io| launch.op.reference(io), given, 0);
    let plain = cases::launch::<f32>(&launch.op, &|io| launch.op.reference(io), &narrow, 0);
    let storage = storage(plan.precision);
    let extent = extent(plan, launch, given);
    let mut used: f64 = 0.0;
    for (at, (spec, got)) in got.iter().enumerate() {
        let spec: Spec = *spec;
        let real = cases::real_elements(spec.shape, extent);
        let (got, truth, mut plain) = (got.to_f64(real), truth[at].1.to_f64(real), plain[at].1.to_f64(real));
        let stored = cases::stored(spec, storage);
        if spec.kind == Kind::Activation {
            plain.iter_mut().for_each(|number| *number = stored.round(*number));
        }
        let here = |what: String| format!("output {at} {}: {what}", spec.shape);
        if spec.is_real() && real > 0 {
            let columns = spec.shape.last();
            used = used.max(compare(&truth, &plain, &got, columns, stored, &Yardstick::default()).map_err(here)?);
        } else if got != plain {
            return Err(here("integers differ".into()));
        }
    }
    Ok(used)
}
