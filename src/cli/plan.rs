//! `g2d plan`: prints the step, launch by launch.

use clap::Args;

use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::{Kernels, Precision};
use crate::train::session;

/// Prints the plan of a training step: one line per launch, then memory by class. Needs no weights and no device.
#[derive(Args)]
#[command(
    after_help = "A line: position, scope, op/kernel, outputs with type, shape and address <- addresses of inputs, GFLOP, MiB.\n\
    Addresses are slab+offset: w weights, g gradients, m v moments, f frozen, s statistics, i inputs, a arena.\n\n\
    Example:\n  g2d plan --preset full --batch 64 --text-len 256"
)]
pub struct Plan {
    /// Size of the model.
    #[arg(long, default_value = "tiny", value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// Whose mask and losses.
    #[arg(long, default_value = "default", value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: String,
    /// Pairs a step.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Tokens per report; by default the preset's longest, at most 256.
    #[arg(long)]
    text_len: Option<usize>,
    /// How numbers are stored.
    #[arg(long, value_enum, default_value = "exact")]
    precision: super::PrecisionWord,
    /// What it is planned for.
    #[arg(long, value_enum, default_value = "cpu")]
    device: super::Device,
    /// Print slabs, live bound and work as JSON instead.
    #[arg(long)]
    json: bool,
}

impl Plan {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let super::Device::Cpu = self.device;
        let config = Config::preset(&self.preset)?.with_recipe(&self.recipe)?;
        let text_len = self.text_len.unwrap_or(config.max_positions.min(256));
        let shapes = Shapes { batch: self.batch, text_len, source: Source::Bytes };
        let plan = session::step_plan(&config, &shapes, Precision::from(self.precision), Kernels::Best)?;
        if self.json {
            let slabs = plan.slabs.iter().map(|(slab, bytes)| (format!("{slab:?}"), (*bytes).into()));
            let work = plan.cost();
            let summary = serde_json::json!({
                "launches": plan.launches.len(),
                "slabs": slabs.collect::<serde_json::Map<String, serde_json::Value>>(),
                "live_bound": plan.live_bound,
                "flops": work.flops,
                "bytes": work.bytes,
            });
            println!("{summary}");
        } else {
            print!("{}", *plan);
        }
        Ok(())
    }
}
