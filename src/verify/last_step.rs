//! A few launches of a session's step, taken with the numbers that they had on the processor and done again from the PTX
//! that ships, on the emulated device under every checker: so a run on any machine says something of its GPU kernels.

use std::sync::Arc;

use serde::Serialize;

use super::cases::Data;
use super::device::{self, Failure};
use super::shadow::{judge, values};
use crate::cuda::Modules;
use crate::cuda::driver::emulated::{Emulated, Options};
use crate::error::Error;
use crate::kernels::Library;
use crate::model::batch::TextBatch;
use crate::program::plan::Launch;
use crate::train::session::{Films, Session, Taken};

/// Launches are picked until they promise more floating-point operations than this, which the device does in seconds.
const MOST_FLOPS: u64 = 300_000_000;

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

/// The passes that are looked at: of each the launch with the least work.
const PASSES: [&str; 6] =
    ["pseudo_mask", "conv2d.fwd", "conv2d.dgrad", "conv2d.wgrad", "attention_pool.attend", "attention_pool.attend_bwd"];

/// Picks launches of the step of this batch and repeats them on the emulated device.
pub fn repeat(session: &mut Session, films: Films<'_>, text: &TextBatch) -> Result<Vec<Repeated>, Error> {
    let plan = session.step_plan();
    let least = |pass: &str| {
        let of_pass = plan.launches.iter().enumerate();
        let of_pass = of_pass.filter(|(_, launch)| launch.op.name() == pass);
        // A kernel of one pixel is a matrix product; one that is wider says more of a convolution.
        let wide = |launch: &Launch| match launch.op {
            crate::ops::Op::Conv2d(conv) => conv.kernel > 1,
            _ => true,
        };
        of_pass.filter(|(_, launch)| wide(launch)).min_by_key(|(_, launch)| launch.cost.flops).map(|(at, _)| at)
    };
    let fits = |&at: &usize| plan.launches[at].cost.flops <= MOST_FLOPS;
    let wanted: Vec<usize> = PASSES.iter().filter_map(|pass| least(pass)).filter(fits).collect();
    let taken = session.take(films, text, &wanted)?;
    Ok(taken.iter().map(|taken| on_device(session, taken)).collect())
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
