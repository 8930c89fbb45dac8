//! RSNA Pneumonia Detection Challenge (stage 2): boxes of lung opacities.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::stems::Stems;
use super::{Layout, Oddity, Sieve, file_name, find, find_if_any, published, rle};
use crate::data::error::Error;
use crate::data::pairs::{Mask, Pair, rectangle};
use crate::data::record::BoundingBox;
use crate::data::table::Table;

const LABELS: &str = "stage_2_train_labels.csv";
const CLASSES: &str = "stage_2_detailed_class_info.csv";
/// Width and height of all films, which boxes are measured on.
const FRAME: (u32, u32) = (1024, 1024);
/// The one label.
const LABEL: &str = "Pneumonia";

/// Reads the tables of `root` and finds the films below it, by name; those converted to PNG or JPEG before DICOM. Films
/// with boxes are labelled `Pneumonia`, others `No Finding`, with the detailed class in the column `class`; the mask is the
/// boxes, filled, as MGCA has it. The split is MGCA's for detection and segmentation: 60 / 20 / 20 of the patients by seed 0.
///
/// # Errors
/// If a table is not there, cannot be read or breaks a rule; if more than half of the films are not there (with `strict`:
/// if one is not).
pub fn open(root: &Path, strict: bool) -> Result<Layout<Pair>, Error> {
    let table = find(root, &[LABELS])?;
    let mut films: Vec<Pair> = labelled(&table)?.into_values().collect();
    let splits = published::mgca(films.len(), 40);
    films.iter_mut().zip(splits).for_each(|(film, split)| film.split = Some(split));
    let mut warnings = Vec::new();
    match find_if_any(root, &[CLASSES]) {
        Some(path) => warnings.extend(classify(&mut films, &path)?),
        None => warnings.push(format!("no detailed classes: there is no {CLASSES} in {}", root.display())),
    }
    let mut sieve = Sieve::new(&table, films, "26,684 (16,010 / 5,337 / 5,337) in the G2D paper", strict);
    sieve.find_films(&Stems::below(root)?)?;
    sieve.films.sort_by_key(|film| film.line);
    Ok(sieve.rows(root, warnings))
}

/// Films by patient, with their boxes: a row a box.
fn labelled(path: &Path) -> Result<BTreeMap<String, Pair>, Error> {
    let mut table = Table::open(path, &["patientId", "x", "y", "width", "height", "Target"])?;
    let mut films: BTreeMap<String, Pair> = BTreeMap::new();
    while let Some(row) = table.next()? {
        let read = row.map_err(|bad| (bad.line, bad.what)).and_then(|(line, values)| {
            let boxed = target(&values).map_err(|what| (line, what))?;
            Ok((line, values["patientId"].trim().to_owned(), boxed))
        });
        let fault = |line: u64, what: String| Error::Table { path: path.to_owned(), line, what };
        let (line, id, boxed) = read.map_err(|(line, what)| fault(line, what))?;
        let new = || Pair {
            line,
            id: id.clone(),
            patient_id: id.clone(),
            findings: if boxed.is_some() { LABEL.into() } else { "No Finding".into() },
            frame: Some(FRAME),
            ..Pair::default()
        };
        let film = films.entry(id.clone()).or_insert_with(new);
        match (boxed, film.line == line) {
            (None, true) => {}
            (Some(_), false) if film.boxes.is_empty() => {
                return Err(fault(line, format!("{id} has a box here and Target 0 at line {}", film.line)));
            }
            (Some(one), _) => film.boxes.push(one),
            (None, false) => {
                return Err(fault(line, format!("{id} has Target 0 here and is already at line {}", film.line)));
            }
        }
    }
    for film in films.values_mut() {
        film.mask = Mask::Runs(rle::of_boxes(&film.boxes, FRAME));
    }
    Ok(films)
}

/// The box of a row; `None` where nothing was found.
fn target(values: &HashMap<&str, &str>) -> Result<Option<BoundingBox>, String> {
    match values["Target"].trim() {
        "0" => Ok(None),
        "1" => rectangle(values, ["x", "y", "width", "height"], LABEL).map(Some),
        other => Err(format!("Target is {other:?}, neither 0 nor 1")),
    }
}

/// Adds the detailed classes; warnings of rows that contradict each other and of those without a film.
fn classify(films: &mut [Pair], path: &Path) -> Result<Vec<String>, Error> {
    let mut table = Table::open(path, &["patientId", "class"])?;
    let (mut classes, mut again) = (BTreeMap::<String, String>::new(), Oddity::default());
    while let Some(row) = table.next()? {
        let (_, values) = row.map_err(|bad| bad.error(path))?;
        let (id, class) = (values["patientId"].trim(), values["class"].trim());
        // A film has a row a box, all of one class.
        if classes.insert(id.to_owned(), class.to_owned()).is_some_and(|before| before != class) {
            again.note(|| id.to_owned());
        }
    }
    for film in films {
        film.columns.extend(classes.remove(&film.id).map(|class| ("class".to_owned(), class)));
    }
    let mut strangers = Oddity::default();
    for id in classes.into_keys() {
        strangers.note(|| id);
    }
    let name = file_name(path);
    let again = again.warning(&format!("rows of {name} give a film another class; the last was taken"));
    Ok(strangers.warning(&format!("films of {name} are not in {LABELS}")).into_iter().chain(again).collect())
}
