//! `g2d step`: runs a case of the executable specification.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::program::{Kernels, Precision};
use crate::train::case;

/// Runs the training steps of a case made by tests/oracle/torch_g2d.py, and writes every tensor of them.
#[derive(Args)]
#[command(
    after_help = "Example:\n  g2d step --case tests/fixtures/default --out result.safetensors --precision f64\n  \
    python tests/oracle/torch_g2d.py compare tests/fixtures/default result.safetensors --rtol 1e-5"
)]
pub struct Step {
    /// Folder with config.json, weights.safetensors and batch-0.safetensors (batch-1, ...).
    #[arg(long)]
    case: PathBuf,
    /// Where to write outputs, losses, gradients and updates.
    #[arg(long)]
    out: PathBuf,
    /// How numbers are stored and computed.
    #[arg(long, value_enum, default_value = "exact")]
    precision: super::PrecisionWord,
    /// What to run on: auto, cpu, cuda[:N], cuda-emulated[:SCHEDULE] or wgpu[:N].
    #[arg(long, default_value = "cpu")]
    device: super::DeviceWord,
    /// Run the references, the definition of every op, instead of the fast kernels.
    #[arg(long)]
    reference: bool,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Wait for each launch on a GPU, so that an error names its place in the plan; slow.
    #[arg(long)]
    replay: bool,
    /// Print the losses as JSON.
    #[arg(long)]
    json: bool,
}

impl Step {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let precision = Precision::from(self.precision);
        let kernels = if self.reference { Kernels::Reference } else { Kernels::Best };
        let (device, threads) = (self.device.resolve(), self.threads);
        let report = case::run(&self.case, &self.out, precision, device, kernels, threads, self.replay)?;
        report.notes.iter().for_each(|note| eprintln!("{note}"));
        if self.json {
            println!("{}", serde_json::to_string(&report).unwrap_or_default());
        } else {
            println!(
                "{} step(s) of {} pairs: loss {:.6} = contrastive {:.6} and segmentation {:.6}; {} tensors in {}",
                report.steps,
                report.batch,
                report.total,
                report.contrastive,
                report.segmentation,
                report.tensors,
                self.out.display()
            );
        }
        Ok(())
    }
}
