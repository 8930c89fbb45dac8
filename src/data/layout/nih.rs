//! NIH ChestX-ray14: `Data_Entry_2017`, `BBox_List_2017` and the official lists.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

use super::stems::{Stems, stem};
use super::{Layout, Oddity, Sieve, file_name, find, find_if_any};
use crate::data::error::Error;
use crate::data::pairs::{Pair, rectangle};
use crate::data::record::Split;
use crate::data::split;
use crate::data::table::Table;

/// Every label of the set, as its tables write them.
const LABELS: [&str; 15] = [
    "No Finding",
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
];
const ENTRIES: [&str; 2] = ["Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"];
const BOXES: &str = "BBox_List_2017.csv";
const LISTS: [&str; 2] = ["train_val_list.txt", "test_list.txt"];
/// Width and height that boxes are measured on: those of the published films.
const FRAME: (u32, u32) = (1024, 1024);
/// Share of the patients of `train_val_list.txt` that becomes validation: 8,652 of 86,524 films in the G2D paper.
const VALIDATION: f64 = 0.1;

/// Reads the tables and lists of `root` and finds the films below it, by name. Test is the official list; validation is
/// drawn from the patients of the other by `seed`.
///
/// # Errors
/// If a table or list is not there, cannot be read or breaks a rule; if more than half of the films lack what they need
/// (with `strict`: if one does).
pub fn open(root: &Path, seed: u64, strict: bool) -> Result<Layout<Pair>, Error> {
    let table = find(root, &ENTRIES)?;
    let mut films = entries(&table)?;
    let mut warnings = Vec::new();
    match find_if_any(root, &[BOXES]) {
        Some(path) => warnings.extend(add_boxes(&mut films, &path)?),
        None => warnings.push(format!("no boxes: there is no {BOXES} in {}", root.display())),
    }
    let mut unknown = Oddity::default();
    for film in &films {
        for label in film.findings.split(';').filter(|label| !LABELS.contains(label)) {
            unknown.note(|| format!("{label:?} of {}", film.id));
        }
    }
    warnings.extend(unknown.warning("labels are none of the set's 15, and are kept"));
    let [train, test] = [list(root, LISTS[0])?, list(root, LISTS[1])?];
    let known: HashSet<&str> = films.iter().map(|film| film.id.as_str()).collect();
    let mut strangers = Oddity::default();
    for id in train.union(&test).filter(|id| !known.contains(id.as_str())) {
        strangers.note(|| id.clone());
    }
    let what = format!("films of {} and {} are not in {}", LISTS[0], LISTS[1], file_name(&table));
    warnings.extend(strangers.warning(&what));
    for film in &mut films {
        film.split = match (train.contains(&film.id), test.contains(&film.id)) {
            (true, false) if split::unit(seed, &film.patient_id) < VALIDATION => Some(Split::Val),
            (true, false) => Some(Split::Train),
            (false, true) => Some(Split::Test),
            _ => None,
        };
    }
    let mut sieve = Sieve::new(&table, films, "112,120 (77,872 / 8,652 / 25,596) in the G2D paper", strict);
    sieve.first_of_each()?;
    sieve.require(&format!("in one of {} and {}", LISTS[0], LISTS[1]), "", |film| match film.split {
        Some(_) => Ok(()),
        None if train.contains(&film.id) => Err("it is in both".into()),
        None => Err("it is in neither".into()),
    })?;
    sieve.find_films(&Stems::below(root)?)?;
    Ok(sieve.rows(root, warnings))
}

fn entries(path: &Path) -> Result<Vec<Pair>, Error> {
    let mut table = Table::open(path, &["Image Index", "Finding Labels", "Patient ID", "View Position"])?;
    let mut films = Vec::new();
    while let Some(row) = table.next()? {
        let (line, values) = row.map_err(|bad| bad.error(path))?;
        let value = |name: &str| values.get(name).map_or_else(String::new, |value| value.trim().to_owned());
        // The table of 2020 calls it sex.
        let sex = if values.contains_key("Patient Sex") { value("Patient Sex") } else { value("Patient Gender") };
        let further = [("age", value("Patient Age")), ("sex", sex), ("follow_up", value("Follow-up #"))];
        films.push(Pair {
            line,
            id: stem(values["Image Index"]).to_owned(),
            patient_id: value("Patient ID"),
            view: value("View Position"),
            findings: value("Finding Labels").replace('|', ";"),
            frame: Some(FRAME),
            columns: super::columns(further),
            ..Pair::default()
        });
    }
    Ok(films)
}

/// Adds the boxes; a warning of those whose film is not in the table.
fn add_boxes(films: &mut [Pair], path: &Path) -> Result<Option<String>, Error> {
    // The header has commas within its brackets: its names are cut there.
    let mut table = Table::open(path, &["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"])?;
    let places: HashMap<String, usize> = films.iter().enumerate().map(|(at, film)| (film.id.clone(), at)).collect();
    let mut strangers = Oddity::default();
    while let Some(row) = table.next()? {
        let read = row.map_err(|bad| (bad.line, bad.what)).and_then(|(line, values)| {
            // The boxes call it otherwise than the labels.
            let label = values["Finding Label"].trim().replace("Infiltrate", "Infiltration");
            let one = rectangle(&values, ["Bbox [x", "y", "w", "h]"], &label).map_err(|what| (line, what))?;
            match places.get(stem(values["Image Index"])) {
                Some(&place) => films[place].boxes.push(one),
                None => strangers.note(|| values["Image Index"].to_owned()),
            }
            Ok(())
        });
        read.map_err(|(line, what)| Error::Table { path: path.to_owned(), line, what })?;
    }
    Ok(strangers.warning(&format!("boxes of {} are of no film in the table", file_name(path))))
}

/// The films of a list, a name a line.
fn list(root: &Path, name: &str) -> Result<BTreeSet<String>, Error> {
    let path = find(root, &[name])?;
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Ok(text.lines().map(stem).filter(|stem| !stem.is_empty()).map(str::to_owned).collect())
}
