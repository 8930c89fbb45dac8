//! `g2d plan`: prints the step, launch by launch.

use std::sync::Arc;

use clap::Args;

use super::model::Model;
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::program::{self, Checked, Kernels, considered, refused};
use crate::train::{Capacity, Device, Options, session};
use crate::wgpu::Adapter;

/// Prints the plan of a training step: one line per launch, then memory by class. Needs no weights and no device; with
/// `--device wgpu` it is held against the limits of the adapter, if there is one.
#[derive(Args)]
#[command(
    after_help = "A line: position, scope, op/kernel, outputs with type, shape and address <- addresses of inputs, GFLOP, MiB.\n\
    Addresses are slab+offset: w weights, g gradients, m v moments, f frozen, s statistics, i inputs, a arena. Of --device wgpu, behind\n\
    them: kernels that would be better and were not taken, and why.\n\n\
    Examples:\n  g2d plan --preset full --batch 64 --text-len 256\n  \
    g2d plan --device cuda-emulated --preset full --precision mixed --why\n  \
    g2d plan --device cuda-emulated:sm_90a --preset full --batch 256 --precision mixed --why   as on a Hopper GPU"
)]
pub struct Plan {
    #[command(flatten)]
    model: Model,
    /// Under each launch every other kernel that could do it, and why it was not chosen. Kernels of an op have an order, by
    /// measurements and counts where they were written; the first that takes the shapes is chosen, or one behind it that is
    /// predicted to take less.
    #[arg(long, conflicts_with = "json")]
    why: bool,
    /// Print slabs, live bound and work as JSON instead.
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let config = self.model.config()?;
        let text_len = self.model.text_length(&config);
        let shapes = Shapes { batch: self.model.batch, text_len, source: Source::Bytes };
        let (device, precision) = (self.model.device(), self.model.precision());
        let adapter = device.adapter()?;
        let plan = match &adapter {
            None => Arc::new(session::step_plan(
                &config,
                &shapes,
                self.model.text().reports(),
                precision,
                device.kernels(Kernels::Best, device.capacity()),
            )?),
            Some(adapter) => {
                let text_cache = self.model.text().cache();
                let options =
                    Options { device, precision, text_cache, ..Options::new(config, self.model.batch, text_len) };
                session::plan_within(&options, Capacity::new(adapter.piece, adapter.offered))?
            }
        };
        if self.json {
            let slabs = plan.slabs.iter().map(|(slab, bytes)| (format!("{slab:?}"), (*bytes).into()));
            let work = plan.cost();
            let summary = serde_json::json!({
                "launches": plan.launches.len(),
                "slabs": slabs.collect::<serde_json::Map<String, serde_json::Value>>(),
                "live_bound": plan.live_bound,
                "flops": work.flops,
                "bytes": work.bytes,
                "adapter": adapter,
                "refused": refused(&plan).into_iter().map(|((kernel, why), launches)| {
                    serde_json::json!({ "kernel": kernel, "why": why, "launches": launches })
                }).collect::<Vec<_>>(),
            });
            println!("{summary}");
        } else {
            let text = if self.why { with_losers(&plan) } else { plan.to_string() };
            print!("{text}{}", held(device, adapter.as_ref(), &plan));
            if let Device::Wgpu(_) = device {
                for ((kernel, why), launches) in refused(&plan) {
                    println!("not taken for {launches} launches: {kernel}: {why}");
                }
            }
        }
        Ok(())
    }
}

/// The plan with a line for each kernel that was not chosen, under its launch.
fn with_losers(plan: &program::Plan) -> String {
    let printed = plan.to_string();
    let mut lines = printed.lines().peekable();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for launch in &plan.launches {
        let line = lines.next().unwrap_or_default();
        text += &format!("{line}\n");
        while let Some(map) = lines.next_if(|line| line.starts_with("     map of ")) {
            text += &format!("{map}\n");
        }
        let considered = considered(plan, launch);
        let chosen = considered.iter().position(|candidate| candidate.name == launch.kernel);
        for (at, loser) in considered.iter().enumerate().filter(|&(at, _)| Some(at) != chosen) {
            let predicted = chosen.and_then(|chosen| loser.predicted.zip(considered[chosen].predicted));
            let why = loser.refusal.clone().unwrap_or_else(|| match (predicted, Some(at) > chosen) {
                (Some((seconds, other)), _) => {
                    format!(
                        "takes this in {:.1} us by prediction, {} in {:.1}",
                        1e6 * seconds,
                        launch.kernel,
                        1e6 * other
                    )
                }
                (None, true) => format!("takes this, and stands behind {} in the op's order", launch.kernel),
                (None, false) => "takes this, and was not asked for".into(),
            });
            text += &format!("     not {}: {why}\n", loser.name);
        }
    }
    lines.for_each(|line| text += &format!("{line}\n"));
    text
}

/// What the adapter that would be used makes of the slabs; nothing for devices that are not reached by wgpu.
fn held(device: Device, adapter: Option<&Adapter>, plan: &Checked) -> String {
    let Some(adapter) = adapter else {
        return match device {
            Device::Wgpu(_) => "no adapter is here to hold the plan against its limits\n".into(),
            _ => String::new(),
        };
    };
    let piece = adapter.piece as usize;
    let cut = plan.slabs.iter().filter(|&(_, &bytes)| bytes > piece);
    let cut: Vec<String> = cut.map(|(slab, bytes)| format!("{slab:?} into {}", bytes.div_ceil(piece))).collect();
    let cut = if cut.is_empty() { "no slab is cut".to_owned() } else { format!("cuts {}", cut.join(", ")) };
    format!("{device}, {}: buffers of {:.0} MiB; {cut}\n", adapter.name, piece as f64 / f64::from(1 << 20))
}
