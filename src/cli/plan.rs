//! `g2d plan`: the step, launch by launch, as text or as a page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::model::Model;
use crate::base::counted;
use crate::bench::counters::roofline::{CHIPS, Chip};
use crate::checkpoint::write_beside;
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::program::{self, Checked, Kernels, Precision, considered, refused};
use crate::report::plan::{About, Rates, page};
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
    g2d plan --device cuda-emulated:sm_90a --preset full --batch 256 --precision mixed --why   as on a Hopper GPU\n  \
    g2d plan --preset full --html plan.html   a page: launches, least times, memory"
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
    /// Write the plan as a page instead: launches by the time they take at least, the heaviest, memory over the launches. One file,
    /// which needs no network.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "why"])]
    html: Option<PathBuf>,
    /// Of --html: rates, by which least times are told. What a GPU (a100, h100 or h200) is taken to sustain, less than its data
    /// sheet says, or GFLOP/s and GB/s, as `g2d bench kernels` measures those of a machine.
    #[arg(long, value_name = "CHIP|GFLOPS,GBPS", value_parser = ceilings, default_value = "h200", requires = "html")]
    ceilings: Ceilings,
}

/// See `--ceilings`.
#[derive(Clone, Copy)]
enum Ceilings {
    Of(Chip),
    /// FLOP/s, bytes a second.
    At(f64, f64),
}

fn ceilings(word: &str) -> Result<Ceilings, String> {
    let rate = |word: &str| word.trim().parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    let rates = || word.split_once(',').and_then(|(flops, bytes)| rate(flops).zip(rate(bytes)));
    match Chip::of(word) {
        Some(chip) => Ok(Ceilings::Of(chip)),
        None => rates().map(|(flops, bytes)| Ceilings::At(1e9 * flops, 1e9 * bytes)).ok_or_else(|| {
            let chips = CHIPS.map(|chip| chip.name).join(", ");
            format!("is no chip that is known ({chips}), and not GFLOP/s and GB/s as in 150,20")
        }),
    }
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
        if let Some(file) = &self.html {
            self.write_page(file, &plan, adapter.as_ref(), text_len)?;
        } else if self.json {
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
            print!("{text}");
            held(device, adapter.as_ref(), &plan).iter().for_each(|line| println!("{line}"));
        }
        Ok(())
    }

    fn write_page(&self, file: &Path, plan: &Checked, adapter: Option<&Adapter>, text_len: usize) -> Result<(), Error> {
        let Model { preset, recipe, batch, .. } = &self.model;
        let (device, precision) = (self.model.device(), self.model.precision());
        let rates = match self.ceilings {
            Ceilings::At(flops, bandwidth) => Rates { name: "the rates of --ceilings".into(), flops, bandwidth },
            // Only what is stored as bf16 goes through the units for products.
            Ceilings::Of(chip) => Rates {
                name: format!("what one {} is taken to sustain", chip.name.to_uppercase()),
                flops: if precision == Precision::Mixed { chip.tensor } else { chip.flops },
                bandwidth: chip.bandwidth,
            },
        };
        let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        let about = About {
            title: format!("{preset}, recipe {recipe}"),
            lede: format!(
                "{} of at most {text_len} tokens \u{b7} {device} \u{b7} {}",
                counted(*batch, "pair"),
                precision.name()
            ),
            command: ["g2d".into()].into_iter().chain(words).collect::<Vec<_>>().join(" "),
            notes: held(device, adapter, plan),
        };
        write_beside(file, page(plan, &about, &rates).as_bytes()).map_err(Error::io(file))?;
        println!("{}: {} launches", file.display(), plan.launches.len());
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

/// What the adapter that would be used makes of the slabs, and what it makes impossible; nothing for devices that are not reached
/// by wgpu.
fn held(device: Device, adapter: Option<&Adapter>, plan: &Checked) -> Vec<String> {
    let Device::Wgpu(_) = device else { return Vec::new() };
    let refused = refused(plan).into_iter();
    let refused = refused
        .map(|((kernel, why), launches)| format!("not taken for {}: {kernel}: {why}", counted(launches, "launch")));
    let Some(adapter) = adapter else {
        return ["no adapter is here to hold the plan against its limits".into()].into_iter().chain(refused).collect();
    };
    let piece = adapter.piece as usize;
    let cut = plan.slabs.iter().filter(|&(_, &bytes)| bytes > piece);
    let cut: Vec<String> = cut.map(|(slab, bytes)| format!("{slab:?} into {}", bytes.div_ceil(piece))).collect();
    let cut = if cut.is_empty() { "no slab is cut".to_owned() } else { format!("cuts {}", cut.join(", ")) };
    let limits = format!("{device}, {}: buffers of {:.0} MiB; {cut}", adapter.name, piece as f64 / f64::from(1 << 20));
    [limits].into_iter().chain(refused).collect()
}
