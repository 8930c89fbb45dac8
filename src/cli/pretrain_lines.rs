//! What `g2d pretrain` prints: the lines of a run while it trains, and how it ended.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::base::counted;
use crate::model::config::Config;
use crate::train::metrics::StepLine;
use crate::train::run::{Event, Manifest, Run, Summary};
use crate::train::validate::Validation;
use crate::verify::last_step::Repetition;

pub(super) fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    bar.set_style(super::style("step {pos}/{len} {bar:24} {elapsed}/{duration}  {msg}"));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// Steps between printed lines where there is no terminal for a bar.
const PRINT_EVERY: u64 = 20;

/// Says a line above the bar.
pub(super) fn say(bar: &ProgressBar, line: String) {
    if bar.is_hidden() { eprintln!("{line}") } else { bar.println(line) }
}

/// The loss of a step and what it is the sum of.
fn loss(line: &StepLine, model: &Config) -> String {
    let StepLine { step, total, contrastive, segmentation, .. } = line;
    let sum = format!("loss {total:.3} = contrastive {contrastive:.3}");
    let Some(decoder) = segmentation else { return sum };
    match model.segmentation_weight {
        _ if *step <= model.warmup_steps as u64 => format!("{sum} (segmentation {decoder:.3} does not count yet)"),
        1.0 => format!("{sum} + segmentation {decoder:.3}"),
        weight => format!("{sum} + {weight} x segmentation {decoder:.3}"),
    }
}

pub(super) fn show(bar: &ProgressBar, json: bool, event: Event<'_>, model: &Config, last: &mut Option<u64>) {
    let say = |line: String| say(bar, line);
    match event {
        Event::Verified(done, all) => bar.set_message(format!("compared digests: {} of {} MiB", done >> 20, all >> 20)),
        Event::Resident(done, all) => {
            bar.set_message(format!("films on the device: {} of {} MiB", done >> 20, all >> 20))
        }
        Event::Started(0) => {}
        Event::Started(steps) if bar.length().is_some_and(|all| all <= steps) => {
            say(format!("has taken its {} already; --steps {} goes on", counted(steps, "step"), steps + 100));
        }
        Event::Started(steps) => {
            bar.set_position(steps);
            bar.reset_eta();
            say(format!("continues after step {steps}"));
        }
        Event::Note(note) => say(note.to_string()),
        Event::Step(line) => {
            let (top1, speed) = (line.top1, line.samples_per_s);
            let message = format!("{}, top-1 {top1:.2}, {speed:.0} samples/s", loss(line, model));
            let due = last.is_none_or(|last| line.step >= last + PRINT_EVERY) || bar.length() == Some(line.step);
            if bar.is_hidden() && due {
                *last = Some(line.step);
                eprintln!("step {}: {message}", line.step);
            }
            bar.set_position(line.step);
            bar.set_message(message);
        }
        Event::Validated(step, validation, _) if !json => say(format!("after step {step}: {}", found(validation))),
        Event::Validated(..) | Event::Saved(_) | Event::Finished(..) => {}
    }
}

pub(super) fn on_the_emulated_device(Repetition { repeated, left_out }: &Repetition) -> String {
    if repeated.is_empty() && left_out.is_empty() {
        return String::new();
    }
    let mut text = "launches of the last batch, from the PTX that ships, on the emulated CUDA device:\n".to_owned();
    for launch in repeated {
        let kernels: Vec<String> = launch.kernels.iter().map(|(symbol, file)| format!("{symbol} ({file})")).collect();
        let mask = match launch.same {
            Some(true) => "; mask equal to the processor's, to 1e-6",
            // What differs is told as a failure.
            Some(false) | None => "",
        };
        let verdict = match &launch.failure {
            Some(what) => format!("FAILED: {what}"),
            None => format!("{:.2} of the tolerance, no checker report{mask}", launch.used),
        };
        let (op, instructions) = (launch.op, launch.instructions as f64 / 1e6);
        text += &format!("  {op:26} {instructions:7.2} M instructions  {verdict}\n    {}\n", kernels.join(", "));
    }
    for left in left_out {
        text += &format!("  {:26} left out: {}\n", left.op, left.why);
    }
    text
}

fn found(validation: &Validation) -> String {
    let mut text = format!(
        "retrieval of {} top-1 {} (best constant answer {:.3}), top-5 {} ({:.3})",
        counted(validation.reports, "report"),
        validation.top1,
        validation.constant1,
        validation.top5,
        validation.constant5
    );
    if let (Some(dice), Some(central)) = (&validation.dice, &validation.central_dice) {
        text += &format!("; Dice {dice} (best central square {:.3})", central.value);
    }
    text
}

/// How it ended; `page` is the line that names the page.
pub(super) fn text(run: &Run, summary: &Summary, page: &str) -> String {
    let folder = run.folder.display();
    if summary.interrupted {
        return format!(
            "stopped after step {}; saved in {}\n{page}continue: g2d pretrain --resume --out {folder}\n",
            summary.steps,
            summary.checkpoint.display()
        );
    }
    let Manifest { preset, recipe, .. } = &run.manifest;
    let mut text = format!(
        "{} of preset {preset} with recipe {recipe} in {:.0} s; run in {folder}\n",
        counted(summary.steps, "step"),
        summary.seconds
    );
    if let (Some(before), Some(after)) = (&summary.before, &summary.after) {
        text += &format!(
            "on {} with {} [95 % intervals]:\n  \
             finds the report      top-1 {}, top-5 {}; {:.3} and {:.3} for the best constant answer\n",
            counted(after.films, "held-out film"),
            counted(after.reports, "distinct report"),
            after.top1,
            after.top5,
            after.constant1,
            after.constant5
        );
        if let (Some(dice), Some(first), Some(central)) = (&after.dice, &before.dice, &after.central_dice) {
            text += &format!(
                "  outlines the finding  Dice {dice} on {} with a mask; {} before training, {} for the best \
                 constant central square\n",
                counted(dice.n, "film"),
                first,
                central
            );
        }
        if !run.config.model.decoder_objective.segments() {
            text += "  outlines nothing      its decoder_objective is none or reconstruction\n";
        }
    }
    text += &format!("{page}weights: {}\n", summary.checkpoint.join("weights.safetensors").display());
    text + &match run.manifest.held_out {
        Some(_) => {
            "next: what it is good for: g2d eval all; your own films: g2d pack --pairs pairs.csv --out shards\n".into()
        }
        None if summary.steps < run.manifest.horizon => {
            format!(
                "next: on to the end of its schedule, step {}: g2d pretrain --resume --out {folder}\n",
                run.manifest.horizon
            )
        }
        None => format!("next: what it is good for: g2d eval all --weights {folder}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_step_is_the_sum_that_it_says() {
        let line = |step| -> StepLine {
            serde_json::from_value(serde_json::json!({
                "step": step, "loss.total": 4.5, "loss.contrastive": 4.0, "loss.segmentation": 1.0, "top1": 0.0, "top5": 0.0,
                "mask.area": 0.0, "mask.iou_previous": null, "lr": 0.1, "grad_norm": 1.0, "samples_per_s": 1.0
            }))
            .unwrap()
        };
        let model = Config { warmup_steps: 3, segmentation_weight: 0.5, ..Config::preset("micro").unwrap() };
        assert_eq!(loss(&line(3), &model), "loss 4.500 = contrastive 4.000 (segmentation 1.000 does not count yet)");
        assert_eq!(loss(&line(4), &model), "loss 4.500 = contrastive 4.000 + 0.5 x segmentation 1.000");
        let plain = Config { segmentation_weight: 1.0, ..model };
        assert_eq!(loss(&line(4), &plain), "loss 4.500 = contrastive 4.000 + segmentation 1.000");
        let alone = StepLine { segmentation: None, ..line(4) };
        assert_eq!(loss(&alone, &plain), "loss 4.500 = contrastive 4.000");
    }
}
