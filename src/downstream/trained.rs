//! What training itself wrote down, as figures: how losses and masks went over a run, how the losses interfered, and the last
//! validation. So a table can have it beside the downstream tasks.

use std::path::Path;

use super::evaluation::PROTOCOL;
use super::report::{Figure, Report};
use crate::base::Estimate;
use crate::error::Error;
use crate::train::metrics::{StepLine, ValidationLine};
use crate::train::run::METRICS;

/// The task's name in figures.
pub const TASK: &str = "pretrain";
/// Parts of a run that are told apart.
const PARTS: usize = 4;

/// A quantity of a step, where the step has it.
type Quantity = fn(&StepLine) -> Option<f64>;

/// The figures of the run in `folder`. Of steps an interval is of the mean over the part's steps; steps are not independent, so
/// it tells how they vary, not how another run would.
///
/// # Errors
/// If its metrics cannot be read.
pub fn report(folder: &Path) -> Result<Report, Error> {
    let path = folder.join(METRICS);
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
    let steps: Vec<StepLine> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let last = text.lines().rev().find_map(|line| serde_json::from_str::<ValidationLine>(line).ok());
    let mut figures = Vec::new();
    if let Some(ValidationLine { validation: found, .. }) = last {
        let setting = format!("{} held-out films, {} reports", found.films, found.reports);
        let known = [
            ("top-1", Some(found.top1)),
            ("top-5", Some(found.top5)),
            ("Dice of the predicted mask", found.dice),
            ("Dice of the pseudo mask", found.pseudo_dice),
            ("Dice of the best constant square", found.central_dice),
        ];
        figures.extend(known.into_iter().filter_map(|(metric, found)| Some(figure(&setting, metric, found?))));
    }
    for (metric, of) in [
        ("contrastive loss", (|step| Some(step.contrastive)) as Quantity),
        ("decoder's loss", |step| step.segmentation),
        ("area of the pseudo mask", |step| Some(step.mask_area)),
        ("IoU with the film's last pseudo mask", |step| step.mask_iou_previous),
        ("cosine of the losses' gradients", |step| step.interference_cosine),
        ("length of the decoder's gradient over the contrastive one's", |step| step.interference_norm_ratio),
    ] {
        for part in steps.chunks(steps.len().div_ceil(PARTS).max(1)) {
            let setting = format!("steps {} to {}", part[0].step, part[part.len() - 1].step);
            let values: Vec<f64> = part.iter().filter_map(of).collect();
            figures.extend(Estimate::of_mean(&values).map(|found| figure(&setting, metric, found)));
        }
    }
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL,
        subject: folder.display().to_string(),
        data: String::new(),
        data_digest: String::new(),
        splits: Vec::new(),
        budget: String::new(),
        notes: Vec::new(),
        seconds: 0.0,
        figures,
    })
}

fn figure(setting: &str, metric: &str, estimate: Estimate) -> Figure {
    let [task, setting, class, metric] = [TASK, setting, "all", metric].map(str::to_owned);
    Figure { task, setting, class, metric, estimate, seeds: Vec::new() }
}
