//! A real plan, launch by launch: what each launch makes of the numbers that lie in its inputs, against the reference on
//! the same numbers.

use serde::Serialize;

use super::cases::{self, Data, Values};
use super::compare::{Yardstick, compare};
use super::device::storage;
use crate::base::{Kind, Spec};
use crate::error::Error;
use crate::program::host::Extent;
use crate::program::plan::{Launch, Plan};
use crate::train::session::Session;

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

/// Does the last step of a session again, on its device, and looks at what every launch made of what it was given.
pub fn shadow(session: &mut Session, observe: &mut (dyn FnMut(&Shadowed) + Send)) -> Result<Vec<Shadowed>, Error> {
    let plan = session.step_plan();
    let mut all = Vec::new();
    session.watch(&mut |taken| {
        let launch = &plan.launches[taken.at];
        let (given, got) = (values(&plan, &launch.inputs, taken.inputs), values(&plan, &launch.outputs, taken.outputs));
        let (used, failure) = match judge(&plan, launch, &given, &got) {
            Ok(used) => (used, None),
            Err(what) => (f64::NAN, Some(what)),
        };
        let kernel = format!("{}/{}", launch.op.name(), launch.kernel);
        let shadowed = Shadowed { at: taken.at, scope: launch.scope.clone(), kernel, used, failure };
        observe(&shadowed);
        all.push(shadowed);
    })?;
    Ok(all)
}

/// What buffers held, as their ops take it.
pub(super) fn values(plan: &Plan, buffers: &[usize], numbers: Vec<Vec<f64>>) -> Values<f64> {
    let buffers = buffers.iter().map(|&buffer| &plan.buffers[buffer]);
    buffers.zip(numbers).map(|(buffer, numbers)| (buffer.spec, Data::stored(numbers, buffer.dtype))).collect()
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
            let yardstick = Yardstick::of_tiles(&truth, &plain, columns);
            used = used.max(compare(&truth, &plain, &got, columns, stored, &yardstick).map_err(here)?);
        } else if got != plain {
            return Err(here("integers differ".into()));
        }
    }
    Ok(used)
}
