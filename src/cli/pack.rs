//! `g2d pack`: films and reports into shards.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::pack_dicom::PackDicom;
use crate::data::Split;
use crate::data::funnel::Funnel;
use crate::data::pack::{PackOptions, Progress, pack};
use crate::data::prepare::Resize;
use crate::error::Error;
use crate::train::defaults::BATCH;

/// Packs films and reports into shards: decode, crop, resize, tokenise, split by patient, once.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "pairs.csv has the columns id,image,text and, if known, patient_id,split,view,findings,mask; any others are \
    carried along. Paths are relative to it.\n\nExamples:\n  \
    g2d pack --pairs pairs.csv --out shards\n  \
    g2d pack --pairs pairs.csv --boxes boxes.csv --size 224 --out shards\n  \
    g2d pack --pairs pairs.csv --tokenizer vocab.txt --out shards\n  \
    g2d pack dicom archive --reports reports.csv --out shards"
)]
pub struct Pack {
    #[command(subcommand)]
    source: Option<Source>,
    /// The table of films and reports.
    #[arg(long, required = true)]
    pairs: Option<PathBuf>,
    /// The table of boxes, id,label,x,y,w,h in pixels of the film.
    #[arg(long)]
    boxes: Option<PathBuf>,
    /// Folder to write, new or empty.
    #[arg(long, required = true)]
    out: Option<PathBuf>,
    /// Side of a packed film, pixels.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// How films become square.
    #[arg(long, value_enum, default_value = "fit")]
    resize: ResizeWord,
    /// vocab.txt or tokenizer.json; without it a vocabulary is trained on the reports and stored with the shards.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Keep capitals; the published models lower-case, even into a cased vocabulary.
    #[arg(long)]
    keep_case: bool,
    /// Seed of the split by patient, where the table has none.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// End at the first row that cannot be used; by default such rows are left out and counted.
    #[arg(long)]
    strict: bool,
    /// Print what became of the rows as JSON.
    #[arg(long)]
    json: bool,
}

/// What is packed instead of a table.
#[derive(Subcommand)]
enum Source {
    Dicom(PackDicom),
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum ResizeWord {
    /// Borders cropped, aspect kept, padded to a square.
    Fit,
    /// Aspect lost.
    Stretch,
    /// As the released code.
    Official,
}

impl From<ResizeWord> for Resize {
    fn from(word: ResizeWord) -> Self {
        match word {
            ResizeWord::Fit => Self::Fit,
            ResizeWord::Stretch => Self::Stretch,
            ResizeWord::Official => Self::Official,
        }
    }
}

impl Pack {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let (pairs, out) = match (&self.source, &self.pairs, &self.out) {
            (Some(Source::Dicom(dicom)), ..) => return dicom.run(),
            (None, Some(pairs), Some(out)) => (pairs, out),
            _ => return Err(Error::Usage("--pairs and --out are missing; see --help".into())),
        };
        let options = PackOptions {
            boxes: self.boxes.clone(),
            size: self.size,
            resize: self.resize.into(),
            tokenizer: self.tokenizer.clone(),
            lowercase: !self.keep_case,
            seed: self.seed,
            threads: self.threads,
            strict: self.strict,
            ..PackOptions::new(pairs, out)
        };
        let cancelled = super::cancelled()?;
        let funnel = progress("packing", |progress| pack(&options, progress, cancelled))?;
        finish(&funnel, out, self.json);
        Ok(())
    }
}

/// Does some work under a progress bar.
pub(super) fn progress<T>(name: &str, work: impl FnOnce(&(dyn Fn(Progress) + Sync)) -> T) -> T {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(super::style(&format!("{name} {{bar:30}} {{pos}}/{{len}} {{eta}}")));
    let done = work(&|progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    done
}

/// Prints what became of the rows, and what to do next.
pub(super) fn finish(funnel: &Funnel, out: &Path, json: bool) {
    if json {
        println!("{}", serde_json::to_string(funnel).unwrap_or_default());
        return;
    }
    // A batch is no larger than the films there are.
    let train = funnel.splits.get(&Split::Train).copied().unwrap_or_default();
    let batch = if train < BATCH { format!(" --batch {}", (train / 2).max(2)) } else { String::new() };
    println!("{funnel}\npacked in {}", out.display());
    if funnel.empty_text < funnel.kept {
        println!("next: g2d pretrain --data {}{batch}", out.display());
    }
}
