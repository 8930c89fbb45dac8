//! `g2d pack`: films and reports into shards.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::data::Split;
use crate::data::pack::{PackOptions, pack};
use crate::data::prepare::Resize;
use crate::error::Error;
use crate::train::defaults::BATCH;

/// Packs films and reports into shards: decode, crop, resize, tokenise, split by patient, once.
#[derive(Args)]
#[command(
    after_help = "pairs.csv has the columns id,image,text and, if known, patient_id,split,view,findings,mask; any others are \
    carried along. Paths are relative to it.\n\nExamples:\n  \
    g2d pack --pairs pairs.csv --out shards\n  \
    g2d pack --pairs pairs.csv --boxes boxes.csv --size 224 --out shards\n  \
    g2d pack --pairs pairs.csv --tokenizer vocab.txt --out shards"
)]
pub struct Pack {
    /// The table of films and reports.
    #[arg(long)]
    pairs: PathBuf,
    /// The table of boxes, id,label,x,y,w,h in pixels of the film.
    #[arg(long)]
    boxes: Option<PathBuf>,
    /// Folder to write, new or empty.
    #[arg(long)]
    out: PathBuf,
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

#[derive(Clone, Copy, clap::ValueEnum)]
enum ResizeWord {
    /// Borders cropped, aspect kept, padded to a square.
    Fit,
    /// Aspect lost.
    Stretch,
    /// As the released code.
    Official,
}

impl Pack {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let options = PackOptions {
            boxes: self.boxes.clone(),
            size: self.size,
            resize: match self.resize {
                ResizeWord::Fit => Resize::Fit,
                ResizeWord::Stretch => Resize::Stretch,
                ResizeWord::Official => Resize::Official,
            },
            tokenizer: self.tokenizer.clone(),
            lowercase: !self.keep_case,
            seed: self.seed,
            threads: self.threads,
            strict: self.strict,
            ..PackOptions::new(&self.pairs, &self.out)
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(super::style("packing {bar:30} {pos}/{len} {eta}"));
        let progress = |packed: crate::data::pack::Progress| {
            bar.set_length(packed.total as u64);
            bar.set_position(packed.done as u64);
        };
        let funnel = pack(&options, &progress, super::cancelled()?);
        bar.finish_and_clear();
        let funnel = funnel?;
        if self.json {
            println!("{}", serde_json::to_string(&funnel).unwrap_or_default());
        } else {
            // A batch is no larger than the films there are.
            let train = funnel.splits.get(&Split::Train).copied().unwrap_or_default();
            let batch = if train < BATCH { format!(" --batch {}", (train / 2).max(2)) } else { String::new() };
            println!("{funnel}\npacked in {}", self.out.display());
            if funnel.empty_text < funnel.kept {
                println!("next: g2d pretrain --data {}{batch}", self.out.display());
            }
        }
        Ok(())
    }
}
