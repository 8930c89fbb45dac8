//! How a step grows with batch and length of the reports: pairs per second where it runs, memory by the planner where it
//! does not, and what a start takes: `g2d bench scaling`.

use std::time::Instant;

use serde::Serialize;

use super::Spread;
use super::step::{Stepper, Work};
use crate::error::Error;
use crate::train::Capacity;
use crate::train::session::{self, Options};

/// One size of the step.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Pairs a step.
    pub batch: usize,
    /// Tokens of every report.
    pub text_len: usize,
    /// Bytes of all slabs of the plan: what the step takes at its peak, but for code and buffers of the process.
    pub planned_bytes: u64,
    /// Seconds to record and plan it.
    pub plan_s: f64,
    /// What was measured; `None` if it was not run.
    pub measured: Option<Measured>,
    /// Why it was not run.
    pub not_run: Option<String>,
}

/// What a step of that size takes.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Pairs per second, from the median step.
    pub samples_per_s: f64,
    /// Seconds of a step.
    pub step_s: Spread,
    /// Seconds from nothing to a model in memory with all its plans.
    pub open_s: f64,
    /// Seconds of the first step; on a GPU it captures the graph.
    pub first_step_s: f64,
}

/// Plans a size and, if `steps` is not zero, times so many steps behind the first. A step that the memory of the device does
/// not hold is not run, and the row says so.
///
/// # Errors
/// If the configuration cannot be, texts do not fit it, or a step fails.
pub fn row(work: &Work, steps: usize) -> Result<Row, Error> {
    let options = Options {
        precision: work.precision,
        device: work.device,
        ..Options::new(work.config.clone(), work.batch, work.text_length)
    };
    let start = Instant::now();
    let plan = session::plan_within(&options, Capacity::default())?;
    let plan_s = start.elapsed().as_secs_f64();
    let planned_bytes = plan.slabs.values().map(|&bytes| bytes as u64).sum();
    let (batch, text_len) = (work.batch, work.text_length);
    let row = |measured, not_run| Row { batch, text_len, planned_bytes, plan_s, measured, not_run };
    if steps == 0 {
        return Ok(row(None, Some("planned only".into())));
    }
    match measured(work, steps) {
        Ok(measured) => Ok(row(Some(measured), None)),
        Err(error @ Error::Memory { .. }) => Ok(row(None, Some(error.to_string()))),
        Err(error) => Err(error),
    }
}

fn measured(work: &Work, steps: usize) -> Result<Measured, Error> {
    let start = Instant::now();
    let mut stepper = Stepper::open(work)?;
    let open_s = start.elapsed().as_secs_f64();
    let first_step_s = stepper.step()?;
    let step_s = Spread::of((0..steps).map(|_| stepper.step()).collect::<Result<_, Error>>()?);
    Ok(Measured { samples_per_s: work.batch as f64 / step_s.median, step_s, open_s, first_step_s })
}
