//! `g2d pack mimic` and its like: published data sets, as they were fetched, into shards.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand, ValueEnum};

use super::pack::{Shared, with_bar};
use super::pack_dicom::Dicom;
use crate::data::layout::chexpert::{Choice, Uncertain};
use crate::data::layout::ms_cxr::Label;
use crate::data::layout::{self, Captions};
use crate::error::Error;

/// A published data set, or an archive.
#[derive(Subcommand)]
pub enum LayoutVerb {
    Dicom(Dicom),
    Mimic(Mimic),
    Chexpert(Chexpert),
    /// RSNA Pneumonia Detection: boxes, and their area as mask; the 60 / 20 / 20 split of MGCA and G2D.
    #[command(
        after_help = "The folder holds stage_2_train_labels.csv, stage_2_detailed_class_info.csv and, anywhere, the films by \
        patientId; PNG or JPEG conversions go before .dcm. Boxes are scaled to films that were made smaller.\n\nExample:\n  \
        g2d pack rsna --root rsna-pneumonia-detection-challenge --out shards"
    )]
    Rsna(Rooted),
    /// SIIM-ACR Pneumothorax: masks from run lengths; the 70 / 15 / 15 split of MGCA, by film.
    #[command(
        after_help = "The folder holds train-rle.csv (or stage_2_train.csv) and, anywhere, the films by ImageId; PNG or JPEG \
        conversions go before .dcm. Masks are scaled to films that were made smaller.\n\nExample:\n  \
        g2d pack siim --root siim-acr-pneumothorax-segmentation --out shards"
    )]
    Siim(Rooted),
    /// NIH ChestX-ray14: labels, boxes, the official lists.
    #[command(
        after_help = "The folder holds Data_Entry_2017.csv (or _v2020), BBox_List_2017.csv, train_val_list.txt, test_list.txt \
        and the films. test_list.txt is the test split; a tenth of the patients of train_val_list.txt becomes validation, drawn \
        by --seed.\n\nExample:\n  \
        g2d pack nih --root ChestX-ray14 --out shards"
    )]
    Nih(Rooted),
    Openi(Openi),
    MsCxr(MsCxr),
    Vindr(Vindr),
    /// Object-CXR: boxes around foreign objects, and masks; MGCA's 80 / 20 of train.csv, dev.csv for testing.
    #[command(
        after_help = "The folder holds train.csv, dev.csv and, anywhere, the films by name. Ellipses and polygons become the boxes \
        around them, and masks.\n\nExample:\n  \
        g2d pack object-cxr --root object-CXR --out shards"
    )]
    ObjectCxr(Rooted),
    /// COVIDx 9A: normal, pneumonia, COVID-19; MGCA's 80 / 20 of the training list, by film, and the test list.
    #[command(
        after_help = "The folder holds train_COVIDx9A.txt and test_COVIDx9A.txt (or 9B, 8A, or train.txt and test.txt) and the films \
        in train/ and test/.\n\nExample:\n  \
        g2d pack covidx --root COVIDx --out shards"
    )]
    Covidx(Rooted),
}

impl LayoutVerb {
    /// Runs it.
    pub fn run(&self, cancelled: &AtomicBool) -> Result<(), Error> {
        match self {
            Self::Dicom(dicom) => dicom.run(cancelled),
            Self::Mimic(mimic) => mimic.run(cancelled),
            Self::Chexpert(chexpert) => chexpert.run(cancelled),
            Self::Rsna(Rooted { root, shared }) => {
                shared.pack(&layout::rsna::open(root, shared.options().strict)?, cancelled)
            }
            Self::Siim(Rooted { root, shared }) => {
                shared.pack(&layout::siim::open(root, shared.options().strict)?, cancelled)
            }
            Self::Nih(Rooted { root, shared }) => {
                let options = shared.options();
                shared.pack(&layout::nih::open(root, options.seed, options.strict)?, cancelled)
            }
            Self::Openi(openi) => {
                let strict = openi.shared.options().strict;
                let films = layout::openi::open(&openi.images, &openi.reports, openi.captions.into(), strict)?;
                openi.shared.pack(&films, cancelled)
            }
            Self::MsCxr(MsCxr { images, phrases, label, shared }) => {
                let label = if *label == LabelWord::Phrase { Label::Phrase } else { Label::Finding };
                shared.pack(&layout::ms_cxr::open(images, phrases, label, shared.options().strict)?, cancelled)
            }
            Self::Vindr(Vindr { root, votes, shared }) => {
                shared.pack(&layout::vindr::open(root, usize::from(*votes), shared.options().strict)?, cancelled)
            }
            Self::ObjectCxr(Rooted { root, shared }) => {
                shared.pack(&layout::object_cxr::open(root, shared.options().strict)?, cancelled)
            }
            Self::Covidx(Rooted { root, shared }) => {
                shared.pack(&layout::covidx::open(root, shared.options().strict)?, cancelled)
            }
        }
    }
}

/// MIMIC-CXR-JPG with its reports: views chosen, reports cut into sections, the official split.
#[derive(Args)]
#[command(after_help = "Beside every count the funnel shows what the literature reports for it.\n\nExamples:\n  \
    g2d pack mimic --images mimic-cxr-jpg/2.1.0 --reports mimic-cxr/2.0.0 --out shards\n  \
    g2d pack mimic --images mimic-cxr-jpg/2.1.0 --reports mimic_cxr_sectioned.csv --captions mgca --out shards\n  \
    g2d pack mimic --images mimic-cxr-jpg/2.1.0 --reports master.csv --captions official --resize official --out shards")]
pub struct Mimic {
    /// Folder with files/ and the tables mimic-cxr-2.0.0-*.csv.gz (or .csv).
    #[arg(long)]
    images: PathBuf,
    /// Folder of the reports, with files/; or mimic_cxr_sectioned.csv; or MGCA's master.csv.
    #[arg(long)]
    reports: PathBuf,
    /// How reports become texts.
    #[arg(long, value_enum, default_value = "default")]
    captions: CaptionsWord,
    /// Projections to keep, as ViewPosition has them.
    #[arg(long, value_delimiter = ',', default_values_t = ["PA".to_owned(), "AP".to_owned()])]
    views: Vec<String>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Clone, Copy, ValueEnum)]
enum CaptionsWord {
    /// Impression and findings, else the last paragraph, as written.
    Default,
    /// MGCA's: words in small letters, at least three.
    Mgca,
    /// The released G2D code's: impression and findings joined without a blank.
    Official,
}

impl From<CaptionsWord> for Captions {
    fn from(word: CaptionsWord) -> Self {
        match word {
            CaptionsWord::Default => Self::Default,
            CaptionsWord::Mgca => Self::Mgca,
            CaptionsWord::Official => Self::Official,
        }
    }
}

impl Mimic {
    fn run(&self, cancelled: &AtomicBool) -> Result<(), Error> {
        let what = layout::Mimic {
            images: self.images.clone(),
            reports: self.reports.clone(),
            captions: self.captions.into(),
            views: self.views.clone(),
        };
        let options = self.shared.options();
        let rows = with_bar("reading reports {bar:30} {pos}/{len} {eta}", |progress| {
            layout::mimic::open(&what, options.strict, options.threads, progress, cancelled)
        })?;
        self.shared.pack(&rows, cancelled)
    }
}

/// CheXpert: frontal films with 14 labels; valid.csv is the test split.
#[derive(Args)]
#[command(after_help = "By default validation is drawn from the patients of train.csv by --seed.\n\nExamples:\n  \
    g2d pack chexpert --root CheXpert-v1.0-small --out shards\n  \
    g2d pack chexpert --root CheXpert-v1.0 --uncertain zeros --size 224 --out shards\n  \
    g2d pack chexpert --root CheXpert-v1.0 --split mgca --out chexpert-mgca\n  \
    g2d pack chexpert --root CheXpert-v1.0 --split 5x200 --out chexpert-5x200\n  \
    g2d pack chexpert --root CheXpert-v1.0 --list chexpert_5x200.csv --out chexpert-5x200")]
pub struct Chexpert {
    /// Folder with train.csv, valid.csv, train/ and valid/.
    #[arg(long)]
    root: PathBuf,
    /// What becomes of uncertain labels (-1).
    #[arg(long, value_enum, default_value = "mgca")]
    uncertain: UncertainWord,
    /// Which films, and how they are split.
    #[arg(long, value_enum, default_value = "patients")]
    split: SplitWord,
    /// Only the films of this csv (column Path), for testing: CheXpert 5x200 as GLoRIA's authors give it out.
    #[arg(long, value_name = "FILE", conflicts_with = "split")]
    list: Option<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitWord {
    /// Validation by patient; valid.csv is the test split.
    Patients,
    /// As MGCA's script draws it, by film: patients are on both sides.
    Mgca,
    /// CheXpert 5x200 by MGCA's script: 200 films of each of five labels alone, for testing.
    #[value(name = "5x200")]
    FiveTimes200,
}

#[derive(Clone, Copy, ValueEnum)]
enum UncertainWord {
    /// Present for atelectasis, edema and pleural effusion, absent for others.
    Mgca,
    /// Present.
    Ones,
    /// Absent.
    Zeros,
}

impl Chexpert {
    fn run(&self, cancelled: &AtomicBool) -> Result<(), Error> {
        let uncertain = match self.uncertain {
            UncertainWord::Mgca => Uncertain::Mgca,
            UncertainWord::Ones => Uncertain::Ones,
            UncertainWord::Zeros => Uncertain::Zeros,
        };
        let choice = match (&self.list, self.split) {
            (Some(list), _) => Choice::Listed(list.clone()),
            (None, SplitWord::Patients) => Choice::Patients,
            (None, SplitWord::Mgca) => Choice::Mgca,
            (None, SplitWord::FiveTimes200) => Choice::FiveTimes200,
        };
        let options = self.shared.options();
        let films = layout::chexpert::open(&self.root, uncertain, &choice, options.seed, options.strict)?;
        self.shared.pack(&films, cancelled)
    }
}

/// A data set whose files are all below one folder.
#[derive(Args)]
pub struct Rooted {
    /// The folder of the data set, as it was fetched.
    #[arg(long)]
    root: PathBuf,
    #[command(flatten)]
    shared: Shared,
}

/// Open-i: films with reports, as XML or as Kaggle's pair of csv files.
#[derive(Args)]
#[command(
    after_help = "No split is published: reports are drawn by --seed. XML does not tell projections; with the csv files \
    frontal films are kept.\n\nExamples:\n  \
    g2d pack openi --images NLMCXR_png --reports ecgen-radiology --out shards\n  \
    g2d pack openi --images images_normalized --reports indiana_reports.csv --out shards"
)]
pub struct Openi {
    /// Folder of the films.
    #[arg(long)]
    images: PathBuf,
    /// Folder of the XML reports; or indiana_reports.csv, with indiana_projections.csv beside it.
    #[arg(long)]
    reports: PathBuf,
    /// How reports become texts.
    #[arg(long, value_enum, default_value = "default")]
    captions: CaptionsWord,
    #[command(flatten)]
    shared: Shared,
}

/// MS-CXR: phrases with boxes, on films of MIMIC-CXR-JPG.
#[derive(Args)]
#[command(
    after_help = "The table's split is kept; without one (version 1.0.0) all films are for testing. With --label phrase, `g2d eval \
    ground` looks for what each phrase says.\n\nExamples:\n  \
    g2d pack ms-cxr --images mimic-cxr-jpg/2.1.0 --phrases ms-cxr/1.1.0 --out shards\n  \
    g2d pack ms-cxr --images mimic-cxr-jpg/2.1.0 --phrases MS_CXR_Local_Alignment_v1.1.0.csv --label finding --out shards"
)]
pub struct MsCxr {
    /// Folder of MIMIC-CXR-JPG, with files/.
    #[arg(long)]
    images: PathBuf,
    /// MS_CXR_Local_Alignment_v1.1.0.csv or .json (or 1.0.0), or the folder that holds it.
    #[arg(long)]
    phrases: PathBuf,
    /// What boxes and films are labelled with.
    #[arg(long, value_enum, default_value = "phrase")]
    label: LabelWord,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LabelWord {
    /// The phrase.
    Phrase,
    /// One of the eight findings.
    Finding,
}

/// VinDr-CXR: labels and boxes of three radiologists, a consensus for test films; PhysioNet's or the challenge's tables.
#[derive(Args)]
#[command(
    after_help = "The folder holds annotations_train.csv and annotations_test.csv, image_labels_train.csv and image_labels_test.csv \
    (or the challenge's train.csv), also in annotations/, and, anywhere, the films by image_id; PNG or JPEG conversions go before \
    .dicom and need train_meta.csv (image_id, dim0, dim1: rows and columns before) if they were made smaller. Validation is \
    CXR-CLIP's fifth of the training films.\n\nExamples:\n  \
    g2d pack vindr --root vindr-cxr/1.0.0 --out shards\n  \
    g2d pack vindr --root vinbigdata --votes 1 --out shards"
)]
pub struct Vindr {
    /// The folder of the data set, as it was fetched.
    #[arg(long)]
    root: PathBuf,
    /// Radiologists who have to give a training film a label.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    votes: u8,
    #[command(flatten)]
    shared: Shared,
}
