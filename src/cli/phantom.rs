//! `g2d phantom`: draws radiographs that are nobody's.

use std::path::PathBuf;

use clap::Args;

use super::pack::with_bar;
use crate::base::counted;
use crate::checkpoint::folder_beside;
use crate::data::pack::Progress;
use crate::data::phantom::{self, Style};
use crate::error::Error;

/// Draws phantoms: chest radiographs with reports, true masks and boxes, in the files that `g2d pack` reads.
#[derive(Args)]
#[command(after_help = "Example:\n  g2d phantom --count 500 --seed 1 --out phantoms\n  \
    g2d pack --pairs phantoms/pairs.csv --boxes phantoms/boxes.csv --out shards\n  \
    g2d phantom --style evaluation --count 500 --seed 3 --out others")]
pub struct Phantom {
    /// How many films.
    #[arg(long, value_parser = super::from_one::<u32>)]
    count: u32,
    /// Whose chests, and in which words they are reported. Film i of a seed has the same findings in both styles.
    #[arg(long, value_enum, default_value = "training")]
    style: StyleWord,
    /// Film i of a style and seed is the same, however many are drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write, new or empty.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StyleWord {
    /// As the phantoms of a run without data.
    Training,
    /// Other proportions, exposures and positions, and reports that share no sentence with those of training.
    Evaluation,
}

impl Phantom {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let cancelled = super::cancelled()?;
        super::new_or_empty(&self.out)?;
        let pool = crate::base::threads::pool(0).map_err(Error::Threads)?;
        let style = match self.style {
            StyleWord::Training => Style::Training,
            StyleWord::Evaluation => Style::Evaluation,
        };
        let (total, seed) = (self.count as usize, self.seed);
        with_bar("drawing {bar:30} {pos}/{len} {eta}", |progress| {
            let told = |done| progress(Progress { done, total });
            // It appears whole or not at all: half a folder would keep the next try from it.
            let io = |error| Error::io(&self.out)(error);
            folder_beside(&self.out, io, |beside| {
                Ok::<_, Error>(pool.install(|| phantom::write(beside, style, total, seed, &told, cancelled))?)
            })
        })?;
        let out = self.out.display();
        println!(
            "{} in {out}\nnext: g2d pack --pairs {out}/pairs.csv --boxes {out}/boxes.csv --out shards",
            counted(self.count, "film")
        );
        Ok(())
    }
}
