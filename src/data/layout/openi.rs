//! Open-i (Indiana University): reports as XML, or the pair of csv files that Kaggle carries.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::captions::Captions;
use super::sections::Sections;
use super::stems::Stems;
use super::{Layout, Oddity, Sieve, file_name, find};
use crate::data::error::Error;
use crate::data::file;
use crate::data::pairs::Pair;
use crate::data::table::Table;

const PROJECTIONS: &str = "indiana_projections.csv";
/// A report longer than this is not read, bytes.
const REPORT_BYTES: u64 = 1 << 20;

/// Reads the reports: `reports` is the folder of the XML files (`ecgen-radiology`), or `indiana_reports.csv` with
/// `indiana_projections.csv` beside it; films are found below `images`, by name. Labels are the first words of the MeSH
/// terms. XML does not tell projections: all films of a report are kept; of the csv files the frontal ones. No split is
/// published: rows have none.
///
/// # Errors
/// If a table or folder is not there or cannot be read; if more than half of the films lack what they need (with `strict`:
/// if one does).
pub fn open(images: &Path, reports: &Path, captions: Captions, strict: bool) -> Result<Layout<Pair>, Error> {
    let (mut sieve, warnings) = if reports.is_dir() {
        let (films, warning) = from_xml(reports, captions)?;
        (Sieve::new(reports, films, "7,470 of 3,955 reports, Open-i", strict), warning)
    } else {
        let folder = reports.parent().filter(|folder| !folder.as_os_str().is_empty());
        let projections = find(folder.unwrap_or(Path::new(".")), &[PROJECTIONS])?;
        let (films, warning) = from_csv(&projections, reports, captions)?;
        let mut sieve = Sieve::new(&projections, films, "7,470 of 3,955 reports, Open-i", strict);
        sieve.choose("of view Frontal", "", |film| film.view.eq_ignore_ascii_case("Frontal"))?;
        (sieve, warning)
    };
    let mut seen = std::collections::HashSet::new();
    sieve.require("listed for the first time", "", |film| match seen.insert(film.id.clone()) {
        true => Ok(()),
        false => Err("it is listed before".into()),
    })?;
    sieve.require("with a report", "", |film| match film.patient_id.as_str() {
        "" => Err("its report is not there".into()),
        _ => Ok(()),
    })?;
    let name = format!("with a text of findings or impression, captions {}", captions.name());
    sieve.choose(&name, "", |film| !film.text.is_empty())?;
    sieve.find_films(&Stems::below(images)?)?;
    Ok(sieve.rows(images, warnings.into_iter().collect()))
}

/// What a report says.
#[derive(Clone, Default)]
struct Report {
    uid: String,
    sections: Sections,
    /// MeSH terms: a heading, then qualifiers behind strokes.
    terms: Vec<String>,
}

impl Report {
    fn film(&self, id: &str, line: u64, captions: Captions) -> Pair {
        let mut labels: Vec<&str> = Vec::new();
        for term in &self.terms {
            let heading = term.split('/').next().unwrap_or_default().trim();
            let label = if heading.eq_ignore_ascii_case("normal") { "No Finding" } else { heading };
            if !label.is_empty() && !heading.eq_ignore_ascii_case("no indexing") && !labels.contains(&label) {
                labels.push(label);
            }
        }
        Pair {
            line,
            id: id.to_owned(),
            patient_id: self.uid.clone(),
            text: captions.text(&self.sections),
            findings: labels.join(";"),
            columns: super::columns([("mesh", self.terms.join(";"))]),
            ..Pair::default()
        }
    }
}

/// Films of all XML files below a folder, in order of their names; `line` is the file's number. A warning of those files
/// that are no report.
fn from_xml(folder: &Path, captions: Captions) -> Result<(Vec<Pair>, Option<String>), Error> {
    let (mut films, mut broken) = (Vec::new(), Oddity::default());
    let files = xml_files(folder)?;
    if files.is_empty() {
        return Err(Error::NoTable { folder: folder.to_owned(), names: "report (.xml)".into() });
    }
    for (at, path) in files.iter().enumerate() {
        let bytes = file::read(path, REPORT_BYTES).map_err(Error::io("read", path))?;
        let text = String::from_utf8_lossy(&bytes);
        let parsed = Document::parse(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string());
        match parsed.and_then(|document| report(&document)) {
            Ok((report, ids)) => films.extend(ids.iter().map(|id| report.film(id, at as u64 + 1, captions))),
            Err(what) => broken.note(|| format!("{}: {what}", file_name(path))),
        }
    }
    Ok((films, broken.warning("files are no reports and were passed over")))
}

fn xml_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read =
        || -> std::io::Result<Vec<PathBuf>> { std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut files = read().map_err(Error::io("read", folder))?;
    files.retain(|path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("xml")));
    files.sort();
    Ok(files)
}

/// A report and the names of its films.
fn report(document: &Document) -> Result<(Report, Vec<String>), String> {
    let all = |name: &'static str| document.descendants().filter(move |node| node.has_tag_name(name));
    let text = |node: Node| node.text().unwrap_or_default().trim().to_owned();
    let section = |label: &str| {
        let mut sections = all("AbstractText");
        let found = sections.find(|node| node.attribute("Label").is_some_and(|own| own.eq_ignore_ascii_case(label)));
        found.map(text).unwrap_or_default()
    };
    let uid = all("uId").find_map(|node| node.attribute("id")).ok_or("it has no uId")?.to_owned();
    let sections = Sections { impression: section("IMPRESSION"), findings: section("FINDINGS"), ..Sections::default() };
    let terms = all("major").map(text).filter(|term| !term.is_empty()).collect();
    let films = all("parentImage").filter_map(|node| node.attribute("id")).map(str::to_owned).collect();
    Ok((Report { uid, sections, terms }, films))
}

fn from_csv(projections: &Path, reports: &Path, captions: Captions) -> Result<(Vec<Pair>, Option<String>), Error> {
    let reports = report_table(reports)?;
    let mut table = Table::open(projections, &["uid", "filename", "projection"])?;
    let (mut films, mut met) = (Vec::new(), HashSet::new());
    while let Some(row) = table.next()? {
        let (line, values) =
            row.map_err(|bad| Error::Table { path: projections.to_owned(), line: bad.line, what: bad.what })?;
        let name = values["filename"].trim();
        let id = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let none = Report::default();
        let report = match reports.get_key_value(values["uid"].trim()) {
            Some((uid, report)) => {
                met.insert(uid.as_str());
                report
            }
            None => &none,
        };
        films.push(Pair { view: values["projection"].trim().to_owned(), ..report.film(id, line, captions) });
    }
    let mut strangers = Oddity::default();
    for uid in reports.keys().filter(|uid| !met.contains(uid.as_str())) {
        strangers.note(|| uid.clone());
    }
    Ok((films, strangers.warning("reports have no film")))
}

fn report_table(path: &Path) -> Result<BTreeMap<String, Report>, Error> {
    let mut table = Table::open(path, &["uid", "MeSH", "findings", "impression"])?;
    let mut reports = BTreeMap::new();
    while let Some(row) = table.next()? {
        let (_, values) = row.map_err(|bad| Error::Table { path: path.to_owned(), line: bad.line, what: bad.what })?;
        let value = |name: &str| values[name].trim().to_owned();
        let uid = value("uid");
        let sections = Sections { impression: value("impression"), findings: value("findings"), ..Sections::default() };
        let terms = value("MeSH").split(';').map(|term| term.trim().to_owned()).collect();
        reports.insert(uid.clone(), Report { uid, sections, terms });
    }
    Ok(reports)
}
