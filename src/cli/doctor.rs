//! `g2d doctor`: whether a run would work here, before it is started.

use std::path::{Path, PathBuf};

use clap::Args;

use super::pretrain::{self, PHANTOMS};
use super::store::local;
use crate::doctor::{self, Diagnosis, Question};
use crate::error::Error;
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::train::quickstart::{self, Phantoms};

/// Says whether a run would work here; without flags, the one that `g2d pretrain` without flags starts. Looks whether memory
/// and disk suffice, whether shards are what was packed, and whether the kernels compute what they should. Exit code 0:
/// all is well; 2: it is not, and what to do.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  g2d doctor\n  g2d doctor --data shards\n  g2d doctor --device cuda --preset full --batch 128\n  \
    g2d doctor --preset full --batch 64 --text-len 256 --json"
)]
pub struct Doctor {
    /// Folder of shards made by `g2d pack`, or s3://bucket/folder: every digest is compared. Without it the run
    /// draws phantoms.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Size of the model; by default as `g2d pretrain`.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: Option<String>,
    /// Whose mask, losses and schedule; by default as `g2d pretrain`.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: Option<String>,
    /// How numbers are stored: exact or mixed.
    #[arg(long, value_enum, default_value = "exact")]
    precision: super::PrecisionWord,
    /// Pairs a step; by default as `g2d pretrain`.
    #[arg(long)]
    batch: Option<usize>,
    /// Tokens per report; by default as `g2d pretrain`.
    #[arg(long)]
    text_len: Option<usize>,
    /// What it would run on: auto, cpu, cuda[:N], cuda-emulated[:sm_90a] or wgpu[:N].
    #[arg(long, default_value = "auto")]
    device: super::DeviceWord,
    /// Where runs would be written.
    #[arg(long, default_value = pretrain::RUNS)]
    out: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let size = match &self.preset {
            Some(preset) => Config::preset(preset)?.image_size,
            None => PHANTOMS.size,
        };
        let phantoms =
            || quickstart::to_write(&pretrain::phantoms_in(Path::new(pretrain::RUNS)), Phantoms { size, ..PHANTOMS });
        let diagnosis = doctor::examine(&Question {
            data: self.data.as_deref().map(local).transpose()?,
            preset: self.preset.clone(),
            recipe: self.recipe.clone(),
            precision: self.precision.into(),
            drawn: if self.data.is_none() { phantoms() } else { 0 },
            batch: self.batch,
            text_length: self.text_len,
            out: self.out.clone(),
            device: self.device.resolve(),
        })?;
        if self.json {
            println!("{}", serde_json::to_string(&diagnosis).unwrap_or_default());
        } else {
            print!("{}", text(&diagnosis));
        }
        let fixes: Vec<String> = (diagnosis.checks.iter())
            .filter_map(|check| Some(format!("{}: {}", check.name, check.fix.as_ref()?)))
            .collect();
        match diagnosis.ok {
            true if self.json => Ok(()),
            true => {
                println!("verdict: this run will work here");
                Ok(())
            }
            false => Err(Error::Usage(format!("this run will not work here; {}", fixes.join("; ")))),
        }
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let line = |check: &doctor::Check| {
        format!("{:4} {:11} {}\n", if check.ok { "ok" } else { "BAD" }, check.name, check.found)
    };
    diagnosis.checks.iter().map(line).collect()
}
