//! How near each kernel comes to what its device can do: `g2d bench kernels`.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::Spread;
use super::step::{Stepper, Work};
use crate::base::ceilings::Ceilings;
use crate::error::Error;
use crate::program::Plan;
use crate::program::plan::Launch;

/// Inputs whose shapes are told; AdamW has a thousand.
const NAMED: usize = 3;
/// FLOP that take as long as moving a byte, roughly: makes one number of a launch's work.
const FLOP_PER_BYTE: u64 = 8;
/// Measurements of a kernel, and the seconds that each is made to take by doing the launch again and again.
const MEASUREMENTS: usize = 5;
const SECONDS: f64 = 0.02;
const MOST_TIMES: f64 = 1000.0;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it ran on.
    pub device: String,
    /// What that does at best; `None` where it is not measured.
    pub ceilings: Option<Ceilings>,
    /// The kernels, by op and pass.
    pub kernels: Vec<KernelTime>,
}

/// One kernel at the largest shapes that the step has for it.
#[derive(Clone, Debug, Serialize)]
pub struct KernelTime {
    /// Op and pass.
    pub op: String,
    /// The kernel chosen.
    pub kernel: String,
    /// Shapes of the first inputs.
    pub shapes: Vec<String>,
    /// Launches of this op and kernel in the step.
    pub launches: usize,
    /// Seconds of this one.
    pub seconds: Spread,
    /// FLOP of it.
    pub flops: u64,
    /// Bytes that it must read and write.
    pub bytes: u64,
    /// Percent of the multiply-add ceiling.
    pub percent_multiply_add: Option<f64>,
    /// Percent of the copy ceiling, by compulsory bytes.
    pub percent_copy: Option<f64>,
}

/// Times the largest launch of every op and kernel within a step of `work`, on the numbers of a real step.
///
/// # Errors
/// If the configuration cannot be, there is no memory for it, texts do not fit it, or a launch fails.
pub fn run(work: &Work) -> Result<Report, Error> {
    let mut stepper = Stepper::open(work)?;
    stepper.step()?;
    let session = stepper.session();
    let ceilings = session.ceilings()?;
    let plan = session.step_plan();
    let mut kernels = Vec::new();
    for (at, launches) in largest(&plan) {
        let mut seconds = |times: usize| {
            let start = Instant::now();
            session.repeat(at, times)?;
            Ok::<f64, Error>(start.elapsed().as_secs_f64() / times as f64)
        };
        seconds(1)?;
        let times = (SECONDS / seconds(1)?).clamp(1.0, MOST_TIMES) as usize;
        let measured = (0..MEASUREMENTS).map(|_| seconds(times)).collect::<Result<_, _>>()?;
        kernels.push(told(&plan, &plan.launches[at], launches, Spread::of(measured), ceilings.as_ref()));
    }
    Ok(Report { device: work.device.to_string(), ceilings, kernels })
}

/// Position of the largest launch of every op and kernel, and how many launches of it there are.
fn largest(plan: &Plan) -> Vec<(usize, usize)> {
    let work = |at: usize| plan.launches[at].cost.flops + FLOP_PER_BYTE * plan.launches[at].cost.bytes;
    let mut found: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for (at, launch) in plan.launches.iter().enumerate() {
        let (largest, launches) = found.entry((launch.op.name(), launch.kernel)).or_insert((at, 0));
        *launches += 1;
        if work(at) > work(*largest) {
            *largest = at;
        }
    }
    found.into_values().collect()
}

fn told(plan: &Plan, launch: &Launch, launches: usize, seconds: Spread, ceilings: Option<&Ceilings>) -> KernelTime {
    let shape = |&at: &usize| plan.buffers[at].spec.shape.to_string();
    KernelTime {
        op: launch.op.name().into(),
        kernel: launch.kernel.into(),
        shapes: launch.inputs.iter().take(NAMED).map(shape).collect(),
        launches,
        flops: launch.cost.flops,
        bytes: launch.cost.bytes,
        percent_multiply_add: ceilings.map(|at| at.percent_multiply_add(launch.cost.flops, seconds.median)),
        percent_copy: ceilings.map(|at| at.percent_copy(launch.cost.bytes, seconds.median)),
        seconds,
    }
}
