//! `g2d pack`: films and reports into shards.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::pack_layout::LayoutVerb;
use super::store::refuse_to_write;
use crate::data::pack::{PackOptions, Progress, pack};
use crate::data::prepare::Resize;
use crate::data::rows::Rows;
use crate::data::{PairsTable, Split};
use crate::error::Error;
use crate::train::defaults::BATCH;

/// Packs films and reports into shards: decode, crop, resize, tokenise, split by patient, once.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "pairs.csv has the columns id,image,text and, if known, patient_id,split,view,findings,mask; any others are \
    carried along. Paths are relative to it. The commands above read published data sets as they were fetched.\n\n\
    Examples:\n  \
    g2d pack --pairs pairs.csv --out shards\n  \
    g2d pack --pairs pairs.csv --boxes boxes.csv --size 224 --out shards\n  \
    g2d pack --pairs pairs.csv --tokenizer vocab.txt --out shards\n  \
    g2d pack mimic --images mimic-cxr-jpg/2.1.0 --reports mimic-cxr/2.0.0 --out shards\n  \
    g2d pack dicom archive --reports reports.csv --out shards"
)]
pub struct Pack {
    #[command(subcommand)]
    layout: Option<LayoutVerb>,
    /// The table of films and reports.
    #[arg(long, required = true)]
    pairs: Option<PathBuf>,
    /// The table of boxes, id,label,x,y,w,h in pixels of the film.
    #[arg(long)]
    boxes: Option<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

/// What packing takes, wherever rows come from.
#[derive(Args)]
pub struct Shared {
    /// Folder to write, new or empty.
    // No plain path: it is not needed before a command of its own that asks for it.
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
    /// End at the first row that cannot be used; by default such rows are left out and counted. What contradicts itself (an id twice, a
    /// patient in two splits, an impossible box) ends it always.
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
        let cancelled = super::cancelled()?;
        match (&self.layout, &self.pairs) {
            (Some(layout), _) => layout.run(cancelled),
            (None, Some(pairs)) => self.shared.pack(&PairsTable::open(pairs, self.boxes.as_deref())?, cancelled),
            (None, None) => Err(Error::Usage("nothing to pack: give --pairs".into())),
        }
    }
}

impl Shared {
    /// How to pack.
    pub fn options(&self) -> PackOptions {
        PackOptions {
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
            ..PackOptions::new(self.out.clone().unwrap_or_default())
        }
    }

    /// Packs rows and prints what became of them.
    pub fn pack(&self, rows: &dyn Rows, cancelled: &AtomicBool) -> Result<(), Error> {
        let options = self.options();
        refuse_to_write(&options.out)?;
        let funnel =
            with_bar("packing {bar:30} {pos}/{len} {eta}", |progress| pack(rows, &options, progress, cancelled))?;
        if self.json {
            println!("{}", serde_json::to_string(&funnel).unwrap_or_default());
        } else {
            // A batch is no larger than the films there are.
            let train = funnel.splits.get(&Split::Train).copied().unwrap_or_default();
            let batch = if train < BATCH { format!(" --batch {}", (train / 2).max(2)) } else { String::new() };
            println!("{funnel}\npacked in {}", options.out.display());
            if funnel.empty_text < funnel.kept && train >= 2 {
                println!("next: g2d pretrain --data {}{batch}", options.out.display());
            }
        }
        Ok(())
    }
}

/// Does something long while a bar shows how far it is.
pub(super) fn with_bar<T, E>(
    template: &str,
    work: impl FnOnce(&(dyn Fn(Progress) + Sync)) -> Result<T, E>,
) -> Result<T, Error>
where
    Error: From<E>,
{
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(super::style(template));
    let result = work(&|progress: Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    });
    bar.finish_and_clear();
    Ok(result?)
}
