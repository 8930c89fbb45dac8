//! A real plan, launch by launch: what each launch makes of the numbers that lie in its inputs, against the reference on
//! the same numbers.

use serde::Serialize;

use super::cases::{self, Data, Values};
use super::compare::{Storage, Yardstick, compare};
use super::device::{self, Target, storage};
use crate::base::{DType, Kind, Rng, Spec};
use crate::error::Error;
use crate::program::host::Extent;
use crate::program::plan::{Launch, Plan};
use crate::train::session::Session;

const STREAM: u32 = u32::from_be_bytes(*b"shdw");

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

/// Does the last step of a session again, and every launch of it on `target` too, in memory of its own, in which everything
/// is poisoned that may not be read. Both must give the same bits. Returns how many launches there were.
///
/// # Errors
/// The first launch that gives other bits, or that `target` reports.
pub fn repeated<T: Target + Send>(session: &mut Session, target: &mut T) -> Result<usize, String> {
    let plan = session.step_plan();
    let mut found = None;
    let watched = session.watch(&mut |taken| {
        let launch = &plan.launches[taken.at];
        let (given, got) = (values(&plan, &launch.inputs, taken.inputs), values(&plan, &launch.outputs, taken.outputs));
        if let Err(what) = repeat(&plan, launch, given, &got, target) {
            let place = format!("launch {} ({}, {} by {})", taken.at, launch.scope, launch.op.name(), launch.kernel);
            found.get_or_insert(format!("{place}: {what}"));
        }
    });
    watched.map_err(|error| error.to_string())?;
    found.map_or(Ok(plan.launches.len()), Err)
}

fn repeat<T: Target>(
    plan: &Plan,
    launch: &Launch,
    mut given: Values<f64>,
    got: &Values<f64>,
    target: &mut T,
) -> Result<(), String> {
    let extent = extent(plan, launch, &given);
    for (spec, data) in &mut given {
        data.poison_behind(cases::real_elements(spec.shape, extent));
    }
    let made = device::launch(target, &launch.op, launch.kernel, &given, 0xAA, plan.precision, &mut |_| {});
    let made = made.map_err(|failure| failure.to_string())?;
    for (at, ((spec, made), (_, got))) in made.iter().zip(got).enumerate() {
        let real = cases::real_elements(spec.shape, extent);
        let bits = |data: &Data<f64>| data.to_f64(real).into_iter().map(f64::to_bits).collect::<Vec<u64>>();
        let other = bits(made).iter().zip(&bits(got)).position(|(made, got)| made != got);
        other.map_or(Ok(()), |element| Err(format!("output {at} {}: other bits from {element} on", spec.shape)))?;
    }
    Ok(())
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

/// Most draws behind a yardstick.
const DRAWS: u64 = 128;

/// The numbers of a launch's inputs, each a little off, as they are stored: of the same size, and rounded otherwise.
fn nudged(plan: &Plan, launch: &Launch, given: &Values<f64>, draw: u64) -> Values<f64> {
    let one = |(at, (spec, data)): (usize, &(Spec, Data<f64>))| {
        let Data::Numbers(numbers) = data else { return (*spec, data.clone()) };
        let mut rng = Rng::new(draw, STREAM, at as u64);
        let dtype = plan.buffers[launch.inputs[at]].dtype;
        let stored = if dtype == DType::Bf16 { Storage::Bf16 } else { Storage::F32 };
        let off = |&number: &f64| stored.round(number * (1.0 + rng.uniform(-0.01, 0.01)));
        (*spec, Data::Numbers(numbers.iter().map(off).collect()))
    };
    given.iter().enumerate().map(one).collect()
}

/// What a launch should make of its inputs, and what plain arithmetic in f32 makes of them.
fn defined(launch: &Launch, given: &Values<f64>) -> (Values<f64>, Values<f32>) {
    let narrow: Values<f32> = given.iter().map(|(spec, data)| (*spec, data.to())).collect();
    let truth = cases::launch::<f64>(&launch.op, &|io| launch.op.reference(io), given, 0);
    (truth, cases::launch::<f32>(&launch.op, &|io| launch.op.reference(io), &narrow, 0))
}

/// How much of the tolerance the outputs of a launch use up, given what its inputs held; or what is wrong with them.
///
/// There is one draw of a launch's numbers. Its tiles stand in for others at first; where that is too little, the launch is
/// defined anew on numbers nearby until the yardstick has as many errors as the rule wants.
pub(super) fn judge(plan: &Plan, launch: &Launch, given: &Values<f64>, got: &Values<f64>) -> Result<f64, String> {
    let (truth, plain) = defined(launch, given);
    let storage = storage(plan.precision);
    let extent = extent(plan, launch, given);
    let mut used: f64 = 0.0;
    for (at, (spec, got)) in got.iter().enumerate() {
        let spec: Spec = *spec;
        let real = cases::real_elements(spec.shape, extent);
        let stored = cases::stored(spec, storage);
        let rounded = |plain: &Values<f32>| {
            let mut plain = plain[at].1.to_f64(real);
            if spec.kind == Kind::Activation {
                plain.iter_mut().for_each(|number| *number = stored.round(*number));
            }
            plain
        };
        let (got, truth, plain) = (got.to_f64(real), truth[at].1.to_f64(real), rounded(&plain));
        let here = |what: String| format!("output {at} {}: {what}", spec.shape);
        if spec.is_real() && real > 0 {
            let columns = spec.shape.last();
            let yardstick = Yardstick::of_tiles(&truth, &plain, columns);
            let first = compare(&truth, &plain, &got, columns, stored, &yardstick);
            let verdict = first.or_else(|_| {
                let mut yardstick = Yardstick::default();
                yardstick.add(&truth, &plain, columns);
                let mut draws = 1;
                while draws < DRAWS && !yardstick.complete() {
                    let (truth, plain) = defined(launch, &nudged(plan, launch, given, draws));
                    yardstick.add(&truth[at].1.to_f64(real), &rounded(&plain), columns);
                    draws += 1;
                }
                compare(&truth, &plain, &got, columns, stored, &yardstick)
            });
            used = used.max(verdict.map_err(here)?);
        } else if got != plain {
            return Err(here("integers differ".into()));
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{Reports, Shapes, Source};
    use crate::model::config::Config;
    use crate::program::{Kernels, Precision};
    use crate::train::session::step_plan;

    #[test]
    fn nearby_draws_excuse_roundings_and_no_mistakes() {
        let shapes = Shapes { batch: 2, text_len: 8, source: Source::Bytes };
        let config = Config { warmup_steps: 0, ..Config::preset("micro").unwrap() };
        let plan = step_plan(&config, &shapes, Reports::Tokens, Precision::Exact, Kernels::Reference).unwrap();
        let launch = plan.launches.iter().find(|launch| launch.op.name() == "layer_norm.fwd").unwrap();
        let mut rng = Rng::new(0, STREAM, 0);
        let given: Values<f64> = (launch.inputs.iter().map(|&at| &plan.buffers[at]))
            .map(|buffer| {
                let elements = buffer.spec.shape.elements();
                let numbers = match buffer.dtype {
                    DType::I32 => (0..elements).map(|at| (8 * at) as f64).collect(),
                    _ => (0..elements).map(|_| Storage::F32.round(rng.normal())).collect(),
                };
                (buffer.spec, Data::stored(numbers, buffer.dtype))
            })
            .collect();
        let (_, plain) = defined(launch, &given);
        let mut got: Values<f64> = plain.iter().map(|(spec, data)| (*spec, data.to())).collect();
        let used = judge(&plan, launch, &given, &got).unwrap();
        assert!(used <= 1.0, "{used}");
        let Data::Numbers(numbers) = &mut got[0].1 else { panic!("a norm gives numbers") };
        numbers[3] += 1e-5;
        assert!(judge(&plan, launch, &given, &got).unwrap_err().contains("error"));
        let Data::Numbers(numbers) = &mut got[0].1 else { panic!("a norm gives numbers") };
        numbers[3] = f64::NAN;
        assert!(judge(&plan, launch, &given, &got).is_err());
    }
}
