//! `g2d pack dicom`: a folder of DICOM files into shards.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::pack::{Shared, with_bar};
use crate::data::archive::{ArchiveOptions, find};
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
pub struct Dicom {
    /// Folder of DICOM files, searched to its depths; they are recognised by content, whatever they are called.
    folder: PathBuf,
    /// The table of reports.
    #[arg(long)]
    reports: Option<PathBuf>,
    /// Modalities that are films; others are left out and counted.
    #[arg(long, value_delimiter = ',', default_value = "CR,DX,DR")]
    modality: Vec<String>,
    #[command(flatten)]
    shared: Shared,
}

impl Dicom {
    /// Runs it.
    pub fn run(&self, cancelled: &AtomicBool) -> Result<(), Error> {
        let archive = ArchiveOptions {
            folder: self.folder.clone(),
            reports: self.reports.clone(),
            modalities: self.modality.clone(),
            threads: self.shared.options().threads,
        };
        let found = with_bar("looking {bar:30} {pos}/{len} {eta}", |progress| find(&archive, progress, cancelled))?;
        self.shared.pack(&found, cancelled)
    }
}
