//! A few launches of a session's step, taken with the numbers that they had on the processor and done again from the PTX
//! that ships, on the emulated device under every checker: so a run on any machine says something of its GPU kernels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cases::Data;
use super::device::{self, Failure};
use super::shadow::{judge, values};
use crate::cuda::Modules;
use crate::cuda::driver::emulated::{Emulated, Options};
use crate::error::Error;
use crate::kernels::Library;
use crate::model::batch::TextBatch;
use crate::program::plan::{Launch, Plan};
use crate::train::session::{Films, Session, Taken};

/// Launches that promise more floating-point operations than this are passed over; up to it the device needs seconds.
const MOST_FLOPS: u64 = 300_000_000;

/// No launch is begun when so much time has passed: with the last one, all of it stays within half a minute.
const BUDGET: Duration = Duration::from_secs(20);

/// What became of one launch.
#[derive(Clone, Debug, Serialize)]
pub struct Repeated {
    /// `op.pass`.
    pub op: &'static str,
    /// Where in the model.
    pub scope: String,
    /// The kernels that did it, and the PTX texts that they come from.
    pub kernels: Vec<(String, String)>,
    /// Warp instructions.
    pub instructions: u64,
    /// Part of the tolerance that was used up at worst; against the reference in f64 on the same numbers.
    pub used: f64,
    /// For masks: whether it is that of the processor in every pixel, to [`ROUNDING`]; if not, that is a failure.
    pub same: Option<bool>,
    /// What a checker reported, or what is wrong with the result.
    pub failure: Option<String>,
}

/// A pass of which no launch was repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// `op.pass`.
    pub op: &'static str,
    /// Why.
    pub why: String,
}

/// What became of all passes that are looked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Repetition {
    /// Those that were repeated.
    pub repeated: Vec<Repeated>,
    /// The others.
    pub left_out: Vec<LeftOut>,
}

/// The passes that are looked at: of each the launch with the least work.
const PASSES: [&str; 6] =
    ["pseudo_mask", "conv2d.fwd", "conv2d.dgrad", "conv2d.wgrad", "attention_pool.attend", "attention_pool.attend_bwd"];

/// Picks launches of the step of this batch and repeats them on the emulated device.
pub fn repeat(session: &mut Session, films: Films<'_>, text: &TextBatch) -> Result<Repetition, Error> {
    let start = Instant::now();
    let plan = session.step_plan();
    let (wanted, left_out) = picked(&plan, MOST_FLOPS);
    let taken = session.take(films, text, &wanted)?;
    let mut all = Repetition { repeated: Vec::new(), left_out };
    // In the order of the passes, not of the plan: what matters most comes first.
    for &at in &wanted {
        let op = plan.launches[at].op.name();
        match taken.iter().find(|taken| taken.at == at) {
            None => all.left_out.push(LeftOut { op, why: "it comes behind the update".into() }),
            Some(_) if start.elapsed() > BUDGET => {
                let why = format!("the {} s for this were used up", BUDGET.as_secs());
                all.left_out.push(LeftOut { op, why });
            }
            Some(taken) => all.repeated.push(on_device(session, taken)),
        }
    }
    Ok(all)
}

/// Of each pass the launch with the least work, if that is no more than `most` floating-point operations.
fn picked(plan: &Plan, most: u64) -> (Vec<usize>, Vec<LeftOut>) {
    // A kernel of one pixel is a matrix product; one that is wider says more of a convolution.
    let wide = |launch: &Launch| match launch.op {
        crate::ops::Op::Conv2d(conv) => conv.kernel > 1,
        _ => true,
    };
    let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
    for op in PASSES {
        let of_pass = plan.launches.iter().enumerate().filter(|(_, launch)| launch.op.name() == op && wide(launch));
        let mut leave = |why| left_out.push(LeftOut { op, why });
        match of_pass.min_by_key(|(_, launch)| launch.cost.flops) {
            None => leave("the step has none".into()),
            Some((at, launch)) if launch.cost.flops <= most => wanted.push(at),
            Some((_, launch)) => {
                let millions = |flops: u64| flops.div_ceil(1_000_000);
                let (least, most) = (millions(launch.cost.flops), millions(most));
                leave(format!("the least launch is {least} MFLOP, and only up to {most} are done in seconds"));
            }
        }
    }
    (wanted, left_out)
}

fn on_device(session: &Session, taken: &Taken) -> Repeated {
    let plan = session.step_plan();
    let launch = &plan.launches[taken.at];
    let mut repeated = Repeated {
        op: launch.op.name(),
        scope: launch.scope.clone(),
        kernels: Vec::new(),
        instructions: 0,
        used: f64::NAN,
        same: None,
        failure: None,
    };
    let inputs = values(&plan, &launch.inputs, taken.inputs.clone());
    let outputs = values(&plan, &launch.outputs, taken.outputs.clone());
    let emulated = Arc::new(Emulated::new(Options::default()));
    let library = Library::shipped();
    let mut modules = Modules::new(emulated.clone(), library.clone());
    for &kernel in launch.op.cuda() {
        let mut count = |symbol: &str| {
            repeated.instructions += emulated.counters().total_instructions();
            let text = library.find(symbol).map_or_else(String::new, |(text, _)| text.path.clone());
            repeated.kernels.push((symbol.into(), text));
        };
        let made = device::launch(&mut modules, &launch.op, kernel, &inputs, 0, plan.precision, &mut count);
        match made {
            Err(Failure::Refused(_)) => continue,
            Err(failure) => repeated.failure = Some(failure.to_string()),
            Ok(made) => {
                match judge(&plan, launch, &inputs, &made) {
                    Ok(used) => repeated.used = used,
                    Err(what) => repeated.failure = Some(what),
                }
                repeated.same = (launch.op.name() == "pseudo_mask").then(|| same(&made[0].1, &outputs[0].1));
                if repeated.same == Some(false) {
                    repeated.failure.get_or_insert("the mask is not the processor's".into());
                }
            }
        }
        return repeated;
    }
    repeated.failure = Some("no CUDA kernel takes it".into());
    repeated
}

/// How far pixels of one mask may lie apart: both are f32, and the sums of the filter may differ in their last bits.
pub const ROUNDING: f64 = 1e-6;

fn same(a: &Data<f64>, b: &Data<f64>) -> bool {
    let (a, b) = (a.numbers(), b.numbers());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ROUNDING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{Reports, Shapes, Source};
    use crate::model::config::Config;
    use crate::program::{Kernels, Precision};
    use crate::train::session::step_plan;

    #[test]
    fn a_pass_that_is_left_out_is_told_with_the_reason() {
        let shapes = Shapes { batch: 2, text_len: 8, source: Source::Bytes };
        let config = Config { warmup_steps: 0, ..Config::preset("micro").unwrap() };
        let plan = step_plan(&config, &shapes, Reports::Tokens, Precision::Exact, Kernels::Best).unwrap();
        let (all, left_out) = picked(&plan, MOST_FLOPS);
        assert_eq!((all.len(), left_out), (PASSES.len(), Vec::new()));
        let least = all.iter().map(|&at| plan.launches[at].cost.flops).min().unwrap();
        let (few, left_out) = picked(&plan, least);
        assert_eq!(few.len() + left_out.len(), PASSES.len());
        assert!(!few.is_empty() && !left_out.is_empty(), "{left_out:?}");
        assert!(left_out.iter().all(|left| left.why.contains("MFLOP")), "{left_out:?}");
    }

    #[test]
    fn a_mask_is_the_same_in_every_pixel_or_it_is_not() {
        let mask = |numbers: &[f64]| Data::Numbers(numbers.to_vec());
        let right = mask(&[0.0, 1.0, 0.5]);
        assert!(same(&right, &mask(&[0.0, 1.0, 0.5 + 5e-7])));
        for wrong in [&[0.0, 1.0, 0.5 + 2e-6][..], &[0.0, f64::NAN, 0.5], &[0.0, 1.0], &[1.0, 1.0, 0.5]] {
            assert!(!same(&right, &mask(wrong)), "{wrong:?}");
        }
    }
}
