//! `g2d step`: runs a case of the executable specification.

use std::path::PathBuf;

use clap::Args;

use crate::base::counted;
use crate::error::Error;
use crate::program::{Kernels, Precision};
use crate::train::case;
use crate::verify::specification;

/// Runs the training steps of a case made by tests/oracle/torch_g2d.py, and writes every tensor of them.
#[derive(Args)]
#[command(
    after_help = "Example:\n  g2d step --case tests/fixtures/default --out result.safetensors --precision f64\n  \
    python tests/oracle/torch_g2d.py compare tests/fixtures/default result.safetensors --rtol 1e-5\n  \
    g2d step --case tests/fixtures/default --out result.safetensors --device cuda --compare"
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
    /// What to run on: auto, cpu, cuda[:N], cuda-emulated[:sm_90a][:SCHEDULE] or wgpu[:N].
    #[arg(long, default_value = "cpu")]
    device: super::DeviceWord,
    /// Run the references, the definition of every op, instead of the fast kernels.
    #[arg(long)]
    reference: bool,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Hold the result to expected.safetensors and tolerance.json of the case, as tests/oracle/torch_g2d.py compare does;
    /// exit code 2 if a tensor is further off.
    #[arg(long)]
    compare: bool,
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
        let compare = || specification::judge(&self.case, &self.out, precision);
        let used = self.compare.then(compare).transpose()?;
        if self.json {
            let mut report = serde_json::to_value(&report).unwrap_or_default();
            report["used"] = used.into();
            println!("{report}");
        } else {
            let decoder = report.segmentation.map_or_else(String::new, |loss| format!(", segmentation {loss:.6}"));
            println!(
                "{} of {}: loss {:.6} (contrastive {:.6}{decoder}); {} tensors in {}",
                counted(report.steps, "step"),
                counted(report.batch, "pair"),
                report.total,
                report.contrastive,
                report.tensors,
                self.out.display()
            );
            if let Some(used) = used {
                println!("every tensor within the specification, {used:.3} of what is allowed at worst");
            }
        }
        Ok(())
    }
}
