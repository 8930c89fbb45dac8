//! MIMIC-CXR-JPG 2.0.0 and 2.1.0 with the reports of MIMIC-CXR.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::captions::Captions;
use super::sections::{Sections, singled_out, singled_out_count};
use super::{Film, Layout, Oddity, REPORT_BYTES, Sieve, file_name, find, find_if_any};
use crate::data::error::Error;
use crate::data::file;
use crate::data::pack::Progress;
use crate::data::pairs::Pair;
use crate::data::record::Split;
use crate::data::table::Table;

const METADATA: [&str; 2] = ["mimic-cxr-2.0.0-metadata.csv.gz", "mimic-cxr-2.0.0-metadata.csv"];
const SPLIT: [&str; 2] = ["mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-split.csv"];
const CHEXPERT: [&str; 2] = ["mimic-cxr-2.0.0-chexpert.csv.gz", "mimic-cxr-2.0.0-chexpert.csv"];
/// Of the table of labels.
const LABELS: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
];

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct Mimic {
    /// The folder of MIMIC-CXR-JPG: `files/` and the tables.
    pub images: PathBuf,
    /// The folder of the reports, which holds `files/`; or `mimic_cxr_sectioned.csv`; or MGCA's `master.csv`.
    pub reports: PathBuf,
    /// How reports become texts.
    pub captions: Captions,
    /// Projections that are kept (`ViewPosition`).
    pub views: Vec<String>,
}

/// A film that a table lists.
pub struct Listed {
    line: u64,
    dicom: Box<str>,
    subject: u32,
    study: u32,
    view: Box<str>,
    split: Option<Split>,
    /// What was found of its study; made last.
    about: Option<Arc<Study>>,
}

/// What the films of a study share.
struct Study {
    text: String,
    labels: Labels,
}

/// Labels as bits, in the order of [`LABELS`].
#[derive(Clone, Copy, Default)]
struct Labels {
    present: u16,
    absent: u16,
    uncertain: u16,
}

fn named(bits: u16) -> String {
    let set = LABELS.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(";")
}

impl Film for Listed {
    fn line(&self) -> u64 {
        self.line
    }

    fn id(&self) -> &str {
        &self.dicom
    }

    fn pair(&self) -> Pair {
        let labels = self.about.as_ref().map_or_else(Labels::default, |about| about.labels);
        let further = [
            ("study_id", format!("s{}", self.study)),
            ("absent", named(labels.absent)),
            ("uncertain", named(labels.uncertain)),
        ];
        Pair {
            line: self.line,
            id: self.dicom.to_string(),
            image: format!("{}/{}.jpg", study_path(self.subject, self.study), self.dicom),
            text: self.about.as_ref().map_or_else(String::new, |about| about.text.clone()),
            patient_id: self.subject.to_string(),
            split: self.split,
            view: self.view.to_string(),
            findings: named(labels.present),
            columns: super::columns(further),
            ..Pair::default()
        }
    }
}

/// Where a study lies in either tree: `files/p10/p10000032/s50414267`.
fn study_path(subject: u32, study: u32) -> String {
    let digits = subject.to_string();
    format!("files/p{}/p{digits}/s{study}", digits.get(..2).unwrap_or(&digits))
}

/// The number of a patient or study, which some tables write with a letter before it.
fn number(text: &str, letter: char) -> Option<u32> {
    let text = text.trim();
    text.strip_prefix(letter).unwrap_or(text).parse().ok()
}

/// What became of a study's report.
enum Report {
    /// There is no such file, or no such row.
    Missing(String),
    /// The published table of sections leaves it out.
    SingledOut,
    /// Neither findings nor impression (nor a last paragraph, where that would do).
    NoSection,
    /// The text that was made of it; empty if too little was left.
    Text(String),
}

/// What a table of sections says, by study.
type SectionTable = HashMap<u32, Sections>;

/// Reads the tables and the reports of the films that are kept, filter by filter. `threads` (0: one per processor) read
/// reports; `progress` is told how many.
///
/// # Errors
/// If a table or a folder is not there, cannot be read or breaks a rule; if more than half of the films lack what they
/// need (with `strict`: if one does); if none is left; if `cancelled`.
pub fn open(
    what: &Mimic,
    strict: bool,
    threads: usize,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Layout<Listed>, Error> {
    let source = Source::of(&what.reports)?;
    let mut warnings = Vec::new();
    let (table, split) = match &source {
        Source::Master(table) => (table.clone(), find_if_any(&what.images, &SPLIT)),
        _ => (find(&what.images, &METADATA)?, Some(find(&what.images, &SPLIT)?)),
    };
    let mut sieve = joined(listed(&table)?, &table, split, strict, &mut warnings)?;
    let known: HashSet<u32> = sieve.films.iter().map(|film| film.study).collect();
    let views: Vec<&str> = what.views.iter().map(|view| view.trim()).collect();
    let reported = if views == ["PA", "AP"] || views == ["AP", "PA"] { "243,334 frontal films, CheXmask" } else { "" };
    sieve.choose(&format!("of view {}", views.join(" or ")), reported, |film| views.contains(&&*film.view))?;
    let wanted: HashMap<u32, u32> = sieve.films.iter().map(|film| (film.study, film.subject)).collect();
    let reports = match &source {
        Source::Tree(folder) => {
            let pool = crate::base::threads::pool(threads).map_err(Error::Option)?;
            pool.install(|| from_tree(folder, wanted, what.captions, progress, cancelled))?
        }
        Source::Sectioned(table) | Source::Master(table) => {
            from_table(section_table(table, &known, &mut warnings)?, wanted, what.captions)
        }
    };
    read_through(&mut sieve, &reports, what.captions, matches!(source, Source::Tree(_)))?;
    let labels = match find_if_any(&what.images, &CHEXPERT) {
        Some(table) => label_table(&table, &known, &mut warnings)?,
        None => {
            let (names, folder) = (CHEXPERT.join(" nor "), what.images.display());
            warnings.push(format!("no labels: there is neither {names} in {folder}"));
            HashMap::new()
        }
    };
    describe(&mut sieve.films, reports, &labels, &mut warnings);
    Ok(sieve.rows(&what.images, warnings))
}

/// Where reports come from.
enum Source {
    Tree(PathBuf),
    Sectioned(PathBuf),
    Master(PathBuf),
}

impl Source {
    fn of(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return match path.join("files").is_dir() {
                true => Ok(Self::Tree(path.to_owned())),
                false => Err(Error::NoTable { folder: path.to_owned(), names: "folder files with reports".into() }),
            };
        }
        let table = Table::open(path, &["impression", "findings"])?;
        match (table.column("study"), table.column("dicom_id")) {
            (_, Some(_)) => Ok(Self::Master(path.to_owned())),
            (Some(_), None) => Ok(Self::Sectioned(path.to_owned())),
            (None, None) => {
                let what = "it has neither the column study (mimic_cxr_sectioned.csv) nor dicom_id (MGCA's master.csv)";
                Err(Error::Table { path: path.to_owned(), line: 1, what: what.into() })
            }
        }
    }
}

/// The films that a table lists; those whose row breaks a rule have study 0.
fn listed(path: &Path) -> Result<Vec<Listed>, Error> {
    let mut table = Table::open(path, &["dicom_id", "subject_id", "study_id", "ViewPosition"])?;
    let at = ["dicom_id", "subject_id", "study_id", "ViewPosition", "split"].map(|name| table.column(name));
    let mut films = Vec::new();
    while let Some(row) = table.values()? {
        let value = |column: usize| match (&row, at[column]) {
            (Ok(values), Some(at)) => values.get(at).unwrap_or_default().trim(),
            _ => "",
        };
        let (subject, study) = (number(value(1), 'p'), number(value(2), 's'));
        let (dicom, view) = (value(0).into(), value(3).into());
        let split = Split::parse(value(4));
        let (subject, study) = subject.zip(study).unwrap_or_default();
        films.push(Listed { line: table.line(), dicom, subject, study, view, split, about: None });
    }
    Ok(films)
}

/// Films with their split: that of the official table, else that of the table which lists them.
fn joined(
    films: Vec<Listed>,
    table: &Path,
    split: Option<PathBuf>,
    strict: bool,
    warnings: &mut Vec<String>,
) -> Result<Sieve<Listed>, Error> {
    let mut sieve =
        Sieve::new(table, films, "377,110 in MIMIC-CXR-JPG, 213,384 in the G2D paper's master table", strict);
    sieve.require("with a readable row", "", |film| match film.study {
        0 => Err("dicom_id, subject_id or study_id is missing or no number, or the row has other columns".into()),
        _ if film.dicom.is_empty() => Err("dicom_id is empty".into()),
        _ => Ok(()),
    })?;
    sieve.first_of_each()?;
    let Some(split) = split else {
        sieve.require("with a split", "", |film| film.split.map(|_| ()).ok_or("split is not known".to_owned()))?;
        return Ok(sieve);
    };
    let mut splits = split_table(&split)?;
    for film in &mut sieve.films {
        let found = splits.get_mut(&film.dicom);
        film.split = found.filter(|found| (found.0, found.1) == (film.subject, film.study)).map(|found| {
            found.3 = true;
            found.2
        });
    }
    let name = format!("in {} with the same patient and study", file_name(&split));
    sieve.require(&name, "377,110 in MIMIC-CXR-JPG", |film| match (film.split, splits.get(&film.dicom)) {
        (Some(_), _) => Ok(()),
        (None, None) => Err(format!("it is not in {}", file_name(&split))),
        (None, Some(other)) => {
            Err(format!("it is of p{} s{} here, of p{} s{} there", film.subject, film.study, other.0, other.1))
        }
    })?;
    let mut strangers = Oddity::default();
    // In order, so that the same files give the same examples.
    let mut unmet: Vec<&str> = splits.iter().filter(|(_, found)| !found.3).map(|(dicom, _)| &**dicom).collect();
    unmet.sort_unstable();
    for dicom in unmet {
        strangers.note(|| dicom.to_owned());
    }
    warnings.extend(strangers.warning(&format!("films of {} are not in {}", file_name(&split), file_name(table))));
    Ok(sieve)
}

/// Patient, study, split, and whether a film was found, by film.
type SplitTable = HashMap<Box<str>, (u32, u32, Split, bool)>;

fn split_table(path: &Path) -> Result<SplitTable, Error> {
    let mut table = Table::open(path, &["dicom_id", "study_id", "subject_id", "split"])?;
    let at = ["dicom_id", "subject_id", "study_id", "split"].map(|name| table.column(name).unwrap_or_default());
    let mut splits = SplitTable::new();
    while let Some(row) = table.values()? {
        let entry = row.map_err(|bad| bad.what).and_then(|values| {
            let [dicom, subject, study, split] = at.map(|at| values.get(at).unwrap_or_default());
            let ids = number(subject, 'p').zip(number(study, 's'));
            let (subject, study) = ids.ok_or_else(|| format!("{subject:?} or {study:?} is not a number"))?;
            let split =
                Split::parse(split).ok_or_else(|| format!("split {split:?} is none of train, validate, test"))?;
            Ok((dicom.trim().into(), (subject, study, split, false)))
        });
        let repeated = entry.and_then(|(dicom, entry): (Box<str>, _)| match splits.insert(dicom.clone(), entry) {
            Some(before) if before != entry => Err(format!("{dicom} is here twice, with different values")),
            _ => Ok(()),
        });
        repeated.map_err(|what| Error::Table { path: path.to_owned(), line: table.line(), what })?;
    }
    Ok(splits)
}

/// What the reports in the tree say, by study; `wanted` are studies and their patients.
fn from_tree(
    folder: &Path,
    wanted: HashMap<u32, u32>,
    captions: Captions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<HashMap<u32, Report>, Error> {
    let (done, total) = (AtomicUsize::new(0), wanted.len());
    let one = |(study, subject): (u32, u32)| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::UNPACKED);
        }
        let path = study_path(subject, study) + ".txt";
        let report = match file::read(&folder.join(&path), REPORT_BYTES) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Report::Missing(format!("there is no {path}"))
            }
            Err(error) => Report::Missing(format!("{path}: {error}")),
            Ok(bytes) => told(study, &String::from_utf8_lossy(&bytes), captions),
        };
        progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
        Ok((study, report))
    };
    wanted.into_par_iter().map(one).collect()
}

fn told(study: u32, report: &str, captions: Captions) -> Report {
    match singled_out(study, report) {
        Some(_) if !captions.whole_reports() => Report::SingledOut,
        Some(text) => of_sections(&Sections { last_paragraph: text, ..Sections::default() }, captions),
        None => of_sections(&Sections::of(report), captions),
    }
}

fn of_sections(sections: &Sections, captions: Captions) -> Report {
    let last = if captions.whole_reports() { sections.last_paragraph.as_str() } else { "" };
    match [&sections.impression, &sections.findings, last].iter().all(|section| section.trim().is_empty()) {
        true => Report::NoSection,
        false => Report::Text(captions.text(sections)),
    }
}

/// The same from a table of sections.
fn from_table(mut table: SectionTable, wanted: HashMap<u32, u32>, captions: Captions) -> HashMap<u32, Report> {
    let mut one = |study| match table.remove(&study) {
        Some(sections) => of_sections(&sections, captions),
        // Of these 54 the published table has none.
        None if singled_out(study, "").is_some() => Report::SingledOut,
        None => Report::Missing(format!("s{study} is not in the table of sections")),
    };
    wanted.into_keys().map(|study| (study, one(study))).collect()
}

fn section_table(path: &Path, known: &HashSet<u32>, warnings: &mut Vec<String>) -> Result<SectionTable, Error> {
    let mut table = Table::open(path, &["impression", "findings"])?;
    let study = table.column("study").or(table.column("study_id"));
    let at = [study, table.column("impression"), table.column("findings"), table.column("last_paragraph")];
    let (mut sections, mut strangers, mut again) = (SectionTable::new(), Oddity::default(), Oddity::default());
    let master = table.column("dicom_id").is_some();
    while let Some(row) = table.values()? {
        let read = row.map_err(|bad| bad.what).and_then(|values| {
            let value = |column: usize| at[column].and_then(|at| values.get(at)).unwrap_or_default().trim();
            let study = number(value(0), 's').ok_or_else(|| format!("study {:?} is not s and a number", value(0)))?;
            let [impression, findings, last_paragraph] = [1, 2, 3].map(|column| value(column).to_owned());
            Ok((study, Sections { impression, findings, last_paragraph }))
        });
        let (study, found) = read.map_err(|what| Error::Table { path: path.to_owned(), line: table.line(), what })?;
        if !known.contains(&study) {
            strangers.note(|| format!("s{study}"));
        } else if sections.insert(study, found).is_some() && !master {
            again.note(|| format!("s{study}"));
        }
    }
    warnings.extend(strangers.warning(&format!("studies of {} have no film", file_name(path))));
    warnings.extend(again.warning(&format!("rows of {} repeat a study; the last was taken", file_name(path))));
    Ok(sections)
}

/// The filters that look at reports.
fn read_through(
    sieve: &mut Sieve<Listed>,
    reports: &HashMap<u32, Report>,
    captions: Captions,
    tree: bool,
) -> Result<(), Error> {
    let of = |film: &Listed| reports.get(&film.study);
    sieve.require("with a report", "227,827 reports of all views", |film| match of(film) {
        Some(Report::Missing(what)) => Err(what.clone()),
        _ => Ok(()),
    })?;
    // Whole reports that are there have texts by these rules.
    if !(tree && captions.whole_reports()) {
        let (count, reported) = (singled_out_count(), "none of them is in mimic_cxr_sectioned.csv");
        let name = format!("not of the {count} studies that have rules of their own");
        sieve.choose(&name, reported, |film| !matches!(of(film), Some(Report::SingledOut)))?;
    }
    let (sections, known) = match captions.whole_reports() {
        true => ("findings, impression or a last paragraph", ""),
        false => ("findings or impression", "headings: 187,759 impression, 149,842 findings, MIT-LCP"),
    };
    sieve.choose(&format!("with {sections}"), known, |film| !matches!(of(film), Some(Report::NoSection)))?;
    let (words, known) = match captions {
        Captions::Default => ("", ""),
        Captions::Mgca => (" of three words", "187,147 by an MGCA user (its issue 42), 213,384 in the G2D paper"),
        Captions::Official => ("", "213,384 pairs in the G2D paper"),
    };
    let name = format!("with a text{words}, captions {}", captions.name());
    sieve.choose(&name, known, |film| !matches!(of(film), Some(Report::Text(text)) if text.is_empty()))
}

/// Labels by study.
fn label_table(path: &Path, known: &HashSet<u32>, warnings: &mut Vec<String>) -> Result<HashMap<u32, Labels>, Error> {
    let mut table = Table::open(path, &[&["study_id"], &LABELS[..]].concat())?;
    let study = table.column("study_id").unwrap_or_default();
    let at = LABELS.map(|label| table.column(label).unwrap_or_default());
    let (mut labels, mut strangers, mut again) = (HashMap::new(), Oddity::default(), Oddity::default());
    while let Some(row) = table.values()? {
        let read = row.map_err(|bad| bad.what).and_then(|values| {
            let value = |at: usize| values.get(at).unwrap_or_default().trim();
            let study = number(value(study), 's').ok_or_else(|| format!("study_id {:?} is no number", value(study)))?;
            let mut found = Labels::default();
            for (bit, at) in at.into_iter().enumerate() {
                match value(at) {
                    "" => {}
                    "1.0" | "1" => found.present |= 1 << bit,
                    "0.0" | "0" => found.absent |= 1 << bit,
                    "-1.0" | "-1" => found.uncertain |= 1 << bit,
                    other => return Err(format!("{} is {other:?}, none of 1.0, 0.0, -1.0, empty", LABELS[bit])),
                }
            }
            Ok((study, found))
        });
        let (study, found) = read.map_err(|what| Error::Table { path: path.to_owned(), line: table.line(), what })?;
        let repeated = labels.insert(study, found).is_some();
        if !known.contains(&study) {
            strangers.note(|| format!("s{study}"));
        } else if repeated {
            again.note(|| format!("s{study}"));
        }
    }
    warnings.extend(strangers.warning(&format!("studies of {} have no film", file_name(path))));
    warnings.extend(again.warning(&format!("rows of {} repeat a study; the last was taken", file_name(path))));
    Ok(labels)
}

/// Gives the films that are left what is known of their studies.
fn describe(
    films: &mut [Listed],
    mut reports: HashMap<u32, Report>,
    labels: &HashMap<u32, Labels>,
    warnings: &mut Vec<String>,
) {
    let (mut studies, mut without): (HashMap<u32, Arc<Study>>, _) = (HashMap::new(), Oddity::default());
    for film in films {
        let about = studies.entry(film.study).or_insert_with(|| {
            let text = match reports.remove(&film.study) {
                Some(Report::Text(text)) => text,
                _ => String::new(),
            };
            if !labels.is_empty() && !labels.contains_key(&film.study) {
                without.note(|| format!("s{}", film.study));
            }
            Arc::new(Study { text, labels: labels.get(&film.study).copied().unwrap_or_default() })
        });
        film.about = Some(about.clone());
    }
    warnings.extend(without.warning("studies have no row in the table of labels"));
}
