//! A made-up MIMIC-CXR-JPG with reports: ids, folders, tables and headings by its rules, nothing of its content.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use g2d::base::random::Rng;

use super::{write, write_film};

/// How a study's report looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Both,
    Impression,
    Findings,
    /// Neither heading; what describes the film follows the last section's first paragraph.
    LastParagraph,
    /// An addendum above the report.
    Addendum,
    Misspelt,
    Crlf,
    /// An impression of two words.
    Short,
    /// Headings with nothing behind them.
    Hollow,
    Empty,
    /// There is no file.
    Missing,
    /// One of the studies with a range of characters of its own.
    Range,
}

const KINDS: [Kind; 11] = [
    Kind::Both,
    Kind::Impression,
    Kind::Findings,
    Kind::LastParagraph,
    Kind::Addendum,
    Kind::Misspelt,
    Kind::Crlf,
    Kind::Short,
    Kind::Hollow,
    Kind::Empty,
    Kind::Missing,
];

impl Kind {
    pub fn has_sections(self) -> bool {
        !matches!(self, Self::LastParagraph | Self::Hollow | Self::Empty | Self::Missing | Self::Range)
    }
}

/// What is the matter with a film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Fine,
    Absent,
    Cut,
    NotInSplit,
    OtherStudyInSplit,
}

pub struct Film {
    pub dicom: String,
    pub view: &'static str,
    pub state: State,
}

pub struct Study {
    pub subject: u32,
    pub id: u32,
    pub split: &'static str,
    pub kind: Kind,
    pub impression: String,
    pub findings: String,
    pub films: Vec<Film>,
    /// As the table writes them; no row if `None`.
    pub labels: Option<[&'static str; 14]>,
}

impl Study {
    pub fn folder(&self) -> String {
        format!("files/p{}/p{}/s{}", &self.subject.to_string()[..2], self.subject, self.id)
    }

    /// What the caption `default` makes of it.
    pub fn text(&self) -> String {
        let words = format!("{} {}", self.impression, self.findings);
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn report(&self) -> String {
        let (impression, findings) = (&self.impression, &self.findings);
        let head = "                                 FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  \
                    ___F with cough  // ? pneumonia\n \n COMPARISON:  ___.\n \n";
        let both = format!("{head} FINDINGS: \n \n {findings}\n \n IMPRESSION: \n \n {impression}\n");
        match self.kind {
            Kind::Both => both,
            Kind::Impression => format!("{head} IMPRESSION:  {impression}\n"),
            Kind::Findings => format!("{head} FINDINGS:  {findings}\n"),
            Kind::LastParagraph => format!("{head} {impression}\n"),
            Kind::Addendum => format!("                                 ADDENDUM\n Read again.\n ____________\n{both}"),
            Kind::Misspelt => both.replace("FINDINGS", "FINDNGS").replace("IMPRESSION", "IMPRESSON"),
            Kind::Crlf => both.replace('\n', "\r\n"),
            Kind::Short => format!("{head} IMPRESSION:  {impression}\n"),
            Kind::Hollow => " FINAL REPORT\n FINDINGS: \n \n IMPRESSION: \n".into(),
            Kind::Empty | Kind::Missing => String::new(),
            Kind::Range => format!("{head:<201.201}{impression:<148}{findings}"),
        }
    }
}

pub struct Tree {
    pub images: PathBuf,
    pub reports: PathBuf,
    pub studies: Vec<Study>,
}

const SENTENCES: [&str; 8] = [
    "The lungs are clear.",
    "No pleural effusion or pneumothorax.",
    "Heart size is at the upper limit of normal.",
    "Small left effusion, unchanged since ___.",
    "A right internal jugular line ends in the upper cava.",
    "Streaky opacity at the left base, likely atelectasis.",
    "Old rib fractures on the right.",
    "Mild vascular congestion.",
];

fn sentences(rng: &mut Rng) -> String {
    let count = 2 + rng.below(3);
    let chosen: Vec<&str> = (0..count).map(|_| SENTENCES[rng.below(8)]).collect();
    chosen.join("\n ")
}

fn study(rng: &mut Rng, subject: u32, id: u32, split: &'static str) -> Study {
    let kind = match id {
        50525523 => Kind::Range,
        _ => KINDS[[0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10][rng.below(16)]],
    };
    let numbered = format!("1. {}\n 2. {}", SENTENCES[rng.below(8)], SENTENCES[rng.below(8)]);
    let (mut impression, mut findings) = (if rng.below(2) == 0 { numbered } else { sentences(rng) }, sentences(rng));
    match kind {
        Kind::Short => (impression, findings) = ("No change.".into(), String::new()),
        Kind::Range => (impression, findings) = ("This range alone tells of the film.".into(), String::new()),
        Kind::Impression | Kind::LastParagraph => findings.clear(),
        Kind::Findings => impression.clear(),
        Kind::Hollow | Kind::Empty | Kind::Missing => (impression, findings) = (String::new(), String::new()),
        _ => {}
    }
    let films = (0..1 + rng.below(3)).map(|_| Film {
        dicom: std::array::from_fn::<_, 5, _>(|_| format!("{:08x}", rng.next_u32())).join("-"),
        view: ["PA", "PA", "AP", "AP", "LATERAL", "LL", ""][rng.below(7)],
        state: match rng.below(60) {
            0 => State::Absent,
            1 => State::Cut,
            2 => State::NotInSplit,
            3 => State::OtherStudyInSplit,
            _ => State::Fine,
        },
    });
    let films = films.collect();
    let labels =
        (rng.below(20) > 0).then(|| std::array::from_fn(|_| ["", "", "", "", "1.0", "0.0", "-1.0"][rng.below(7)]));
    Study { subject, id, split, kind, impression, findings, films, labels }
}

/// Writes a tree of `count` studies into `folder`; tables are named `.csv` with this ending behind.
pub fn make(folder: &Path, count: usize, seed: u64, ending: &str) -> Tree {
    let mut rng = Rng::new(seed, 7, 0);
    let mut studies: Vec<Study> = Vec::new();
    while studies.len() < count {
        let subject = [10, 11, 19][rng.below(3)] * 1_000_000 + studies.len() as u32 * 37;
        let split = ["train", "train", "train", "train", "validate", "test"][rng.below(6)];
        for _ in 0..(1 + rng.below(4)).min(count - studies.len()) {
            let id = if studies.len() == 5 { 50525523 } else { 51_000_000 + studies.len() as u32 * 11 };
            studies.push(study(&mut rng, subject, id, split));
        }
    }
    let tree = Tree { images: folder.join("jpg"), reports: folder.join("cxr"), studies };
    for study in &tree.studies {
        if study.kind != Kind::Missing {
            write(&tree.reports.join(study.folder() + ".txt"), study.report().as_bytes());
        }
        for (at, film) in study.films.iter().enumerate() {
            let path = tree.images.join(study.folder()).join(format!("{}.jpg", film.dicom));
            if film.state != State::Absent {
                write_film(&path, 26, 20 + at as u32, study.id);
            }
            if film.state == State::Cut {
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
    }
    tree.write_tables(ending);
    tree
}

const METADATA: &str = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,\
                        StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,\
                        PatientOrientationCodeSequence_CodeMeaning";
pub const LABELS: &str = "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,\
                      Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,\
                      Pneumothorax,Support Devices";

impl Tree {
    pub fn table(&self, name: &str, ending: &str) -> PathBuf {
        self.images.join(format!("mimic-cxr-2.0.0-{name}.csv{ending}"))
    }

    pub fn films(&self) -> impl Iterator<Item = (&Study, &Film)> {
        self.studies.iter().flat_map(|study| study.films.iter().map(move |film| (study, film)))
    }

    pub fn write_tables(&self, ending: &str) {
        let mut metadata = format!("{METADATA}\n");
        let mut split = "dicom_id,study_id,subject_id,split\n".to_owned();
        let mut labels = format!("{LABELS}\n");
        for (study, film) in self.films() {
            let (dicom, view) = (&film.dicom, film.view);
            let (subject, id) = (study.subject, study.id);
            let rest = "2544,3056,21800506,213014.531,CHEST (PA AND LAT),postero-anterior,Erect";
            writeln!(metadata, "{dicom},{subject},{id},\"CHEST, PA\",{view},{rest}").unwrap();
            let id = if film.state == State::OtherStudyInSplit { id + 1 } else { id };
            if film.state != State::NotInSplit {
                writeln!(split, "{dicom},{id},{subject},{}", study.split).unwrap();
            }
        }
        for study in &self.studies {
            if let Some(values) = &study.labels {
                writeln!(labels, "{},{},{}", study.subject, study.id, values.join(",")).unwrap();
            }
        }
        for (name, text) in [("metadata", metadata), ("split", split), ("chexpert", labels)] {
            write(&self.table(name, ending), text.as_bytes());
        }
    }

    /// The table of sections that the published sectioner makes of the reports.
    pub fn write_sectioned(&self, path: &Path) {
        let mut text = "study,impression,findings,last_paragraph,comparison\n".to_owned();
        for study in self.studies.iter().filter(|study| !matches!(study.kind, Kind::Missing | Kind::Range)) {
            let last = study.kind == Kind::LastParagraph;
            let impression = if last { "" } else { &study.impression };
            let paragraph = if last { &study.impression } else { "" };
            writeln!(text, "s{},\"{impression}\",\"{}\",\"{paragraph}\",___.", study.id, study.findings).unwrap();
        }
        write(path, text.as_bytes());
    }

    /// The table that MGCA makes of it.
    pub fn write_master(&self, path: &Path) {
        let mut text = "Path,dicom_id,subject_id,study_id,ViewPosition,impression,findings,split\n".to_owned();
        let frontal = |film: &Film| ["PA", "AP"].contains(&film.view);
        let joins = |film: &Film| !matches!(film.state, State::NotInSplit | State::OtherStudyInSplit);
        for (study, film) in
            self.films().filter(|(study, film)| study.kind.has_sections() && frontal(film) && joins(film))
        {
            let or_blank = |text: &str| if text.is_empty() { " ".to_owned() } else { text.to_owned() };
            let (impression, findings) = (or_blank(&study.impression), or_blank(&study.findings));
            let split = if study.split == "train" { "train" } else { "valid" };
            let path = format!("2.0.0/{}/{}.jpg", study.folder(), film.dicom);
            let ids = format!("{},{},s{},{}", film.dicom, study.subject, study.id, film.view);
            writeln!(text, "{path},{ids},\"{impression}\",\"{findings}\",{split}").unwrap();
        }
        write(path, text.as_bytes());
    }
}
