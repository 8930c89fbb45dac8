//! A folder of DICOM files as rows: which of them are films, whose, and with which report.
//!
//! Nothing that identifies anybody leaves this file: films and patients are named by digests under a key that is itself
//! a digest of everybody's ids in the folder. Who has the folder can make them again; who has not cannot, not even for a
//! patient whose id is known.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::decode::Fault;
use super::decode::dicom::{Identity, identity};
use super::error::Error;
use super::file;
use super::funnel::{EXAMPLES, Filter, Oddity};
use super::pack::Progress;
use super::pairs::{BadRow, Pair};
use super::rows::{Row, Rows};
use super::table::Table;

/// View positions that are stored: those of PS3.3 C.8.1.1 (CR) and C.8.11.5 (DX), and what archives write besides (MIMIC-CXR-JPG
/// has all but `LAT`, `RPO`). Whatever else stands there may be anybody's name.
const VIEWS: [&str; 21] = [
    "AP",
    "PA",
    "LL",
    "RL",
    "RLD",
    "LLD",
    "RLO",
    "LLO",
    "LATERAL",
    "LAT",
    "LAO",
    "RAO",
    "LPO",
    "RPO",
    "AP AXIAL",
    "AP LLD",
    "AP RLD",
    "PA LLD",
    "PA RLD",
    "XTABLE LATERAL",
    "SWIMMERS",
];
/// Modalities that are named in counts (PS3.3 C.7.3.1.1.1: those an archive of films has beside them).
const MODALITIES: [&str; 24] = [
    "CR", "CT", "DX", "DR", "ES", "IO", "KO", "MG", "MR", "NM", "OT", "PR", "PT", "PX", "RF", "RG", "RTIMAGE",
    "RTPLAN", "SC", "SEG", "SR", "US", "XA", "XC",
];

/// The term that a value is, if it is one of these.
fn term<'a>(value: &[u8], known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().find(|term| term.as_bytes() == value)
}

/// The modality of a film, if it is one that was asked for.
fn wanted<'a>(film: &Identity, modalities: &'a [String]) -> Option<&'a str> {
    term(&film.modality, modalities.iter().map(String::as_str))
}

/// Where to look, and for what.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// The folder, searched to its depths.
    pub folder: PathBuf,
    /// A table of reports; see [`find`].
    pub reports: Option<PathBuf>,
    /// The modalities that are films.
    pub modalities: Vec<String>,
    /// Threads; 0 is one per processor.
    pub threads: usize,
}

/// Films that were found in a folder.
pub struct Found {
    /// What the rows' files are relative to.
    pub folder: PathBuf,
    /// The rows, by the paths of their files.
    pub rows: Vec<Row>,
    /// What was left out before.
    pub filters: Vec<Filter>,
    /// What looks odd but stops nothing.
    pub warnings: Vec<String>,
}

impl Rows for Found {
    fn path(&self) -> &Path {
        &self.folder
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn read(&self) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + '_>, Error> {
        Ok(Box::new(self.rows.iter().cloned().map(Ok)))
    }

    fn filters(&self) -> &[Filter] {
        &self.filters
    }

    fn warnings(&self, _: &dyn Fn(&str) -> bool) -> Vec<String> {
        self.warnings.clone()
    }

    fn nameless(&self) -> bool {
        true
    }
}

/// Searches a folder for DICOM films, which are recognised by content. A film without readable elements becomes a row
/// too: packing says what is wrong with it.
///
/// A report belongs to the films that its line of the table names: by `file` (the path within the folder), `sop_uid`,
/// `study_uid` or `accession`, the first of these that fits; `text` is the report.
///
/// # Errors
/// If the folder or the table cannot be read, two reports have the same name, there is no film, or `cancelled`.
pub fn find(
    options: &ArchiveOptions,
    progress: &(dyn Fn(Progress) + Sync),
    cancelled: &AtomicBool,
) -> Result<Found, Error> {
    let mut reports = options.reports.as_deref().map(Reports::read).transpose()?;
    let files = file::below(&options.folder)?;
    let pool = crate::base::threads::pool(options.threads).map_err(Error::Option)?;
    let done = AtomicUsize::new(0);
    let look = |file: &PathBuf| {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::UNPACKED);
        }
        let found = identity(&options.folder.join(file));
        progress(Progress { done: done.fetch_add(1, Ordering::Relaxed) + 1, total: files.len() });
        Ok(found)
    };
    let looked: Vec<_> = pool.install(|| files.par_iter().map(look).collect::<Result<_, _>>())?;
    let key = pack_key(looked.iter().filter_map(|found| found.as_ref().ok()?.as_ref()));
    let read = looked.iter().flatten().flatten().filter(|one| one.read && wanted(one, &options.modalities).is_some());
    let mut sieve = Sieve {
        key,
        modalities: &options.modalities,
        read: read.map(|one| one.film.clone()).collect(),
        films: HashSet::new(),
        counts: Counts::default(),
    };
    let mut rows = Vec::new();
    if let Some(reports) = &mut reports {
        for (file, found) in files.iter().zip(&looked) {
            if let (Some(file), Ok(Some(one))) = (file.to_str(), found) {
                reports.follow(file, one);
            }
        }
    }
    for (file, found) in files.iter().zip(looked) {
        rows.extend(sieve.row(file, found, reports.as_mut()));
    }
    let filters = sieve.counts.filters(files.len(), &options.modalities);
    if rows.is_empty() {
        let counts: Vec<_> = filters.iter().map(|filter| format!("{} {}", filter.kept, filter.name)).collect();
        let (folder, counts) = (options.folder.display(), counts.join(", "));
        return Err(Error::Option(format!("{folder}: there is no film ({counts}); see --modality")));
    }
    let warnings = reports.and_then(|reports| reports.unused()).into_iter().collect();
    Ok(Found { folder: options.folder.clone(), rows, filters, warnings })
}

/// The key of a pack's pseudonyms.
fn pack_key<'a>(identities: impl Iterator<Item = &'a Identity>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for one in identities {
        for name in [&one.film, &one.study, &one.patient] {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        }
    }
    *hasher.finalize().as_bytes()
}

/// What becomes of the files.
struct Sieve<'a> {
    key: [u8; 32],
    modalities: &'a [String],
    /// Those of which a copy has a transfer syntax that is read.
    read: HashSet<Vec<u8>>,
    /// Those met so far.
    films: HashSet<Vec<u8>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    /// Files that are no DICOM.
    foreign: Oddity,
    modalities: BTreeMap<&'static str, usize>,
    /// Copies of films of which another is kept.
    again: Oddity,
}

impl Sieve<'_> {
    /// 32 hexadecimal digits for a name of a kind.
    fn pseudonym(&self, kind: &str, name: &[u8]) -> String {
        let digest = blake3::keyed_hash(&self.key, &[kind.as_bytes(), b"\0", name].concat());
        digest.to_hex()[..32].to_owned()
    }

    fn row(
        &mut self,
        path: &Path,
        found: Result<Option<Identity>, Fault>,
        reports: Option<&mut Reports>,
    ) -> Option<Row> {
        let shown = path.display().to_string();
        let bad = |reason, what: &str| Some(Err(BadRow { line: 0, reason, what: format!("{shown}: {what}") }));
        let Some(file) = path.to_str() else { return bad("file name is not UTF-8", "rename it") };
        let one = match found {
            Ok(Some(one)) => one,
            Ok(None) => {
                self.counts.foreign.note(|| shown);
                return None;
            }
            // Packing meets the same fault.
            Err(_) => {
                let id = self.pseudonym("file", file.as_bytes());
                return Some(Ok(Pair { id, image: file.to_owned(), ..Pair::default() }));
            }
        };
        let Some(modality) = wanted(&one, self.modalities) else {
            let modality = match term(&one.modality, MODALITIES) {
                Some(known) => known,
                None if one.modality.is_empty() => "none given",
                None => "another",
            };
            *self.counts.modalities.entry(modality).or_default() += 1;
            return None;
        };
        if one.film.is_empty() {
            return bad("no SOP Instance UID", "it has no SOP Instance UID, so that it cannot be told from others");
        }
        // Of copies that differ in their coding one that is read counts.
        if !one.read && self.read.contains(&one.film) || !self.films.insert(one.film.clone()) {
            self.counts.again.note(|| shown);
            return None;
        }
        let patient_id = match (&one.patient[..], &one.study[..]) {
            ([], []) => String::new(),
            ([], study) => self.pseudonym("study", study),
            (patient, _) => self.pseudonym("patient", patient),
        };
        Some(Ok(Pair {
            id: self.pseudonym("film", &one.film),
            image: file.to_owned(),
            text: reports.map(|reports| reports.of(file, &one)).unwrap_or_default(),
            patient_id,
            columns: [("modality".to_owned(), modality.to_owned())].into(),
            view: term(&one.view, VIEWS).unwrap_or_default().to_owned(),
            ..Pair::default()
        }))
    }
}

impl Counts {
    fn filters(self, files: usize, modalities: &[String]) -> Vec<Filter> {
        let filter =
            |name: String, kept, dropped, examples| Filter { name, kept, dropped, examples, ..Filter::default() };
        let others: usize = self.modalities.values().sum();
        let each = self.modalities.iter().map(|(modality, count)| format!("{modality}: {count}")).collect();
        let dicom = files - self.foreign.count;
        vec![
            filter("files are DICOM".into(), dicom, self.foreign.count, self.foreign.examples),
            filter(format!("of modality {}, or unreadable", modalities.join(", ")), dicom - others, others, each),
            filter(
                "first that is read of their SOP Instance UID, or without one".into(),
                dicom - others - self.again.count,
                self.again.count,
                self.again.examples,
            ),
        ]
    }
}

/// Columns that say whose a report is, the most particular first.
const NAMES: [&str; 4] = ["file", "sop_uid", "study_uid", "accession"];

/// A table of reports, in memory.
struct Reports {
    /// Line, text, and whether a film took it.
    reports: Vec<(u64, String, bool)>,
    /// Which report has which name: column, name.
    names: HashMap<(usize, Vec<u8>), usize>,
}

impl Reports {
    fn read(path: &Path) -> Result<Self, Error> {
        let fault = |line, what| Error::Table { path: path.to_owned(), line, what };
        let mut table = Table::open(path, &["text"])?;
        if !NAMES.iter().any(|name| table.column(name).is_some()) {
            return Err(fault(1, format!("none of the columns {NAMES:?} is there to say whose reports these are")));
        }
        let (mut reports, mut names) = (Vec::<(u64, String, bool)>::new(), HashMap::new());
        while let Some(row) = table.next()? {
            let (line, values) = row.map_err(|bad| fault(bad.line, bad.what))?;
            for (column, name) in NAMES.iter().enumerate() {
                let Some(name) = values.get(name).map(|name| name.trim()).filter(|name| !name.is_empty()) else {
                    continue;
                };
                if let Some(first) = names.insert((column, name.as_bytes().to_owned()), reports.len()) {
                    let (what, first) = (NAMES[column], reports[first].0);
                    // Not the name: it may be somebody's.
                    return Err(fault(
                        line,
                        format!("its {what} is already at line {first}; put both texts in one row"),
                    ));
                }
            }
            reports.push((line, values["text"].trim().to_owned(), false));
        }
        Ok(Self { reports, names })
    }

    /// A report that names a file is of the film in it, whichever copy of that is kept.
    fn follow(&mut self, file: &str, film: &Identity) {
        if let Some(&report) = self.names.get(&(0, file.replace('\\', "/").into_bytes())) {
            self.names.entry((1, film.film.clone())).or_insert(report);
        }
    }

    /// The report of a film; empty if there is none.
    fn of(&mut self, file: &str, film: &Identity) -> String {
        let names =
            [file.replace('\\', "/").as_bytes(), &film.film, &film.study, &film.accession].map(<[u8]>::to_owned);
        let fits = names.into_iter().enumerate().find_map(|name| self.names.get(&name));
        let Some(report) = fits.and_then(|&at| self.reports.get_mut(at)) else { return String::new() };
        report.2 = true;
        report.1.clone()
    }

    /// What there is to say about reports that no film took.
    fn unused(&self) -> Option<String> {
        let unused: Vec<_> =
            self.reports.iter().filter(|report| !report.2).map(|report| report.0.to_string()).collect();
        let first = unused.iter().take(EXAMPLES).cloned().collect::<Vec<_>>().join(", ");
        let (count, all) = (unused.len(), self.reports.len());
        (count > 0).then(|| format!("{count} of {all} reports belong to no film (the first at line {first})"))
    }
}
