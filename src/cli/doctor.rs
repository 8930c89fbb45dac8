//! `g2d doctor`: whether a run would work here, before it is started.

use std::path::PathBuf;

use clap::Args;

use crate::doctor::{self, Diagnosis, Question};
use crate::error::Error;
use crate::model::config::PRESETS;

/// Looks whether memory and disk suffice for a run, whether shards are what was packed, and whether the kernels compute
/// what they should. Exit code 0: all is well; 2: it is not, and what to do.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d doctor\n  g2d doctor --data shards\n  \
    g2d doctor --preset full --batch 64 --text-len 256 --json")]
pub struct Doctor {
    /// Folder of shards made by `g2d pack`: every digest is compared.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Size of the model.
    #[arg(long, default_value = "tiny", value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    preset: String,
    /// Pairs a step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Tokens per report; by default as `g2d pretrain`.
    #[arg(long)]
    text_len: Option<usize>,
    /// Where runs would be written.
    #[arg(long, default_value = "runs")]
    out: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let diagnosis = doctor::examine(&Question {
            data: self.data.clone(),
            preset: self.preset.clone(),
            batch: self.batch,
            text_length: self.text_len,
            out: self.out.clone(),
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
