//! `g2d plan`: prints the step, launch by launch.

use clap::Args;

use super::model::Model;
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::program::Kernels;
use crate::train::session;

/// Prints the plan of a training step: one line per launch, then memory by class. Needs no weights and no device.
#[derive(Args)]
#[command(
    after_help = "A line: position, scope, op/kernel, outputs with type, shape and address <- addresses of inputs, GFLOP, MiB.\n\
    Addresses are slab+offset: w weights, g gradients, m v moments, f frozen, s statistics, i inputs, a arena.\n\n\
    Example:\n  g2d plan --preset full --batch 64 --text-len 256"
)]
pub struct Plan {
    #[command(flatten)]
    model: Model,
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
        let kernels = self.model.device().kernels(Kernels::Best);
        let plan = session::step_plan(&config, &shapes, self.model.precision(), kernels)?;
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
