//! `g2d pack dicom`: a folder of DICOM files into shards.

use std::path::PathBuf;

use clap::Args;

use super::pack::{ResizeWord, finish, progress};
use crate::data::PackOptions;
use crate::data::archive::{ArchiveOptions, find};
use crate::data::pack_found;
use crate::error::Error;

/// Packs a folder of DICOM files, without names: films and patients are called by digests.
#[derive(Args)]
#[command(
    after_help = "reports.csv has the column text and one or more of file (path within FOLDER), sop_uid, study_uid, accession. \
    Without it films are packed without text, for downstream tasks. Messages name files by the path given; shards hold neither \
    paths nor ids nor any other element than view position and modality.\n\nExamples:\n  \
    g2d pack dicom archive --reports reports.csv --out shards\n  \
    g2d pack dicom archive --modality DX --size 512 --out films"
)]
pub struct PackDicom {
    /// Folder of DICOM files, searched to its depths; they are recognised by content, whatever they are called.
    folder: PathBuf,
    /// The table of reports.
    #[arg(long)]
    reports: Option<PathBuf>,
    /// Folder to write, new or empty.
    #[arg(long)]
    out: PathBuf,
    /// Modalities that are films; others are left out and counted.
    #[arg(long, value_delimiter = ',', default_value = "CR,DX,DR")]
    modality: Vec<String>,
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
    /// Seed of the split by patient.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; 0: all cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print what became of the files as JSON.
    #[arg(long)]
    json: bool,
}

impl PackDicom {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let options = PackOptions {
            size: self.size,
            resize: self.resize.into(),
            tokenizer: self.tokenizer.clone(),
            lowercase: !self.keep_case,
            seed: self.seed,
            threads: self.threads,
            ..PackOptions::new(&self.folder, &self.out)
        };
        let archive = ArchiveOptions {
            folder: self.folder.clone(),
            reports: self.reports.clone(),
            modalities: self.modality.clone(),
            threads: self.threads,
        };
        let cancelled = super::cancelled()?;
        let found = progress("looking", |progress| find(&archive, progress, cancelled))?;
        let funnel = progress("packing", |progress| pack_found(&found, &options, progress, cancelled))?;
        finish(&funnel, &self.out, self.json);
        Ok(())
    }
}
