//! Open-i (Indiana University): reports as XML, or the pair of csv files that Kaggle carries.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::captions::Captions;
use super::sections::Sections;
use super::stems::{Stems, stem};
use super::{Layout, Oddity, REPORT_BYTES, Sieve, file_name, find};
use crate::data::error::Error;
use crate::data::file;
use crate::data::pairs::Pair;
use crate::data::table::Table;

const PROJECTIONS: &str = "indiana_projections.csv";

/// Reads the reports: `reports` is the folder of the XML files (`ecgen-radiology`), or `indiana_reports.csv` with
/// `indiana_projections.csv` beside it; films are found below `images`, by name. Labels are the headings of the MeSH
/// terms. XML does not tell projections: all films of a report are kept; of the csv files the frontal ones. No split is
/// published: rows have none.
///
/// # Errors
/// If a table or folder is not there or cannot be read; if more than half of the films lack what they need (with `strict`:
/// if one does, or if an XML file is no report).
pub fn open(images: &Path, reports: &Path, captions: Captions, strict: bool) -> Result<Layout<Pair>, Error> {
    let mut warnings = Vec::new();
    let mut sieve = if reports.is_dir() {
        Sieve::new(reports, from_xml(reports, captions, strict, &mut warnings)?, "", strict)
    } else {
        let folder = reports.parent().filter(|folder| !folder.as_os_str().is_empty());
        let projections = find(folder.unwrap_or(Path::new(".")), &[PROJECTIONS])?;
        let films = from_csv(&projections, reports, captions, &mut warnings)?;
        let mut sieve = Sieve::new(&projections, films, "", strict);
        sieve.choose("of view Frontal", "", |film| film.view.eq_ignore_ascii_case("Frontal"))?;
        sieve
    };
    sieve.first_of_each()?;
    sieve.require("with a report", "", |film| match film.patient_id.as_str() {
        "" => Err("its report is not there".into()),
        _ => Ok(()),
    })?;
    let name = format!("with a text of findings or impression, captions {}", captions.name());
    sieve.choose(&name, "", |film| !film.text.is_empty())?;
    sieve.find_films(&Stems::below(images)?)?;
    Ok(sieve.rows(images, warnings))
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

/// Films of all XML files in a folder, in order of their names; `line` is the file's number. Files that are no report are a
/// warning, if `strict` an error.
fn from_xml(folder: &Path, captions: Captions, strict: bool, warnings: &mut Vec<String>) -> Result<Vec<Pair>, Error> {
    let (mut films, mut broken, mut without) = (Vec::new(), Oddity::default(), Oddity::default());
    let files = xml_files(folder)?;
    if files.is_empty() {
        return Err(Error::NoTable { folder: folder.to_owned(), names: "report (.xml)".into() });
    }
    for (at, path) in files.iter().enumerate() {
        let bytes = file::read(path, REPORT_BYTES).map_err(Error::io("read", path))?;
        let text = String::from_utf8_lossy(&bytes);
        let parsed = Document::parse(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string());
        match parsed.and_then(|document| report(&document)) {
            Ok((_, ids)) if ids.is_empty() => without.note(|| file_name(path)),
            Ok((report, ids)) => films.extend(ids.iter().map(|id| report.film(id, at as u64 + 1, captions))),
            Err(what) if strict => {
                let todo = "repair or remove the file, or leave out --strict";
                return Err(Error::Option(format!("{}: {what}; {todo}", path.display())));
            }
            Err(what) => broken.note(|| format!("{}: {what}", file_name(path))),
        }
    }
    warnings.extend(broken.warning("of the files passed over, being no report"));
    warnings.extend(without.warning("of the reports without a film"));
    Ok(films)
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

fn from_csv(
    projections: &Path,
    reports: &Path,
    captions: Captions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Pair>, Error> {
    let reports = report_table(reports, warnings)?;
    let mut table = Table::open(projections, &["uid", "filename", "projection"])?;
    let (mut films, mut met) = (Vec::new(), HashSet::new());
    while let Some(row) = table.next()? {
        let (line, values) = row.map_err(|bad| bad.error(projections))?;
        let id = stem(values["filename"]);
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
    warnings.extend(strangers.warning("reports have no film"));
    Ok(films)
}

fn report_table(path: &Path, warnings: &mut Vec<String>) -> Result<BTreeMap<String, Report>, Error> {
    let mut table = Table::open(path, &["uid", "MeSH", "findings", "impression"])?;
    let (mut reports, mut again) = (BTreeMap::new(), Oddity::default());
    while let Some(row) = table.next()? {
        let (_, values) = row.map_err(|bad| bad.error(path))?;
        let value = |name: &str| values[name].trim().to_owned();
        let uid = value("uid");
        let sections = Sections { impression: value("impression"), findings: value("findings"), ..Sections::default() };
        let terms = value("MeSH").split(';').map(|term| term.trim().to_owned()).collect();
        if reports.insert(uid.clone(), Report { uid: uid.clone(), sections, terms }).is_some() {
            again.note(|| uid);
        }
    }
    warnings.extend(again.warning(&format!("rows of {} repeat a report; the last was taken", file_name(path))));
    Ok(reports)
}
