//! RSNA Pneumonia Detection Challenge (stage 2): boxes of lung opacities.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::stems::Stems;
use super::{Layout, Sieve, find, find_if_any, published, rle};
use crate::data::error::Error;
use crate::data::pairs::{Mask, Pair};
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
        Some(path) => classify(&mut films, &path)?,
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
        "1" => {
            let number = |name: &str| match values[name].trim().parse::<f32>() {
                Ok(number) if number.is_finite() => Ok(number),
                _ => Err(format!("{name} is {:?}, not a number", values[name])),
            };
            let [x, y, w, h] = [number("x")?, number("y")?, number("width")?, number("height")?];
            match w > 0.0 && h > 0.0 {
                true => Ok(Some(BoundingBox { label: LABEL.into(), x, y, w, h })),
                false => Err(format!("a box of {w} by {h} pixels is empty")),
            }
        }
        other => Err(format!("Target is {other:?}, neither 0 nor 1")),
    }
}

fn classify(films: &mut [Pair], path: &Path) -> Result<(), Error> {
    let mut table = Table::open(path, &["patientId", "class"])?;
    let mut classes: HashMap<String, String> = HashMap::new();
    while let Some(row) = table.next()? {
        let (_, values) = row.map_err(|bad| Error::Table { path: path.to_owned(), line: bad.line, what: bad.what })?;
        classes.insert(values["patientId"].trim().to_owned(), values["class"].trim().to_owned());
    }
    for film in films {
        film.columns.extend(classes.remove(&film.id).map(|class| ("class".to_owned(), class)));
    }
    Ok(())
}
