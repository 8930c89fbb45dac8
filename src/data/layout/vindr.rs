//! VinDr-CXR: boxes and labels of 17 radiologists, three for each film of training, a consensus for those of testing; as
//! PhysioNet has it, or the training part as the VinBigData challenge has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::stems::Stems;
use super::{Layout, Oddity, Sieve, file_name, find, find_if_any, published};
use crate::data::error::Error;
use crate::data::pairs::Pair;
use crate::data::record::{BoundingBox, Split};
use crate::data::table::Table;

const BOXES: [[&str; 3]; 2] = [
    ["annotations/annotations_train.csv", "annotations_train.csv", "train.csv"],
    ["annotations/annotations_test.csv", "annotations_test.csv", "test.csv"],
];
const LABELS: [[&str; 2]; 2] = [
    ["annotations/image_labels_train.csv", "image_labels_train.csv"],
    ["annotations/image_labels_test.csv", "image_labels_test.csv"],
];
/// Sizes of the films before they were converted, as those who publish conversions give them.
const SIZES: [&str; 2] = ["train_meta.csv", "test_meta.csv"];
/// Share of the training films that is validation (CXR-CLIP).
const VALIDATION: f64 = 0.2;
/// Boxes of one label by different radiologists that overlap so much (intersection over union) are of one thing.
const SAME: f32 = 0.5;

/// What was said of a film.
#[derive(Default)]
struct Reading {
    line: u64,
    /// Who gave each label; consensus is nobody's.
    votes: BTreeMap<String, BTreeSet<String>>,
    boxes: Vec<(String, BoundingBox)>,
}

/// Films by name, in which order validation is drawn.
type Readings = BTreeMap<String, Reading>;

/// Reads the tables of `root` and finds the films below it, by name. A training film has the labels that at least `votes` of its
/// radiologists gave, and their boxes; what different ones drew around one thing becomes the mean. Test films have the
/// consensus. Validation is a fifth of the training films, drawn as CXR-CLIP does, by seed 0: no patients are known.
///
/// # Errors
/// If the table of training is not there, a table cannot be read or breaks a rule; if more than half of the films are not there
/// (with `strict`: if one is not).
pub fn open(root: &Path, votes: usize, strict: bool) -> Result<Layout<Pair>, Error> {
    let (mut warnings, mut empty) = (Vec::new(), Oddity::default());
    let table = find(root, &BOXES[0])?;
    let train = films(read(&table, find_if_any(root, &LABELS[0]), &mut empty)?, votes);
    let held_out = (train.len() as f64 * VALIDATION).ceil() as usize;
    let splits = published::held_out(train.len(), held_out);
    let mut all: Vec<Pair> = train.into_iter().zip(splits).map(|(film, split)| at(film, split)).collect();
    match find_if_any(root, &BOXES[1]) {
        Some(table) => {
            let test = films(read(&table, find_if_any(root, &LABELS[1]), &mut empty)?, 1);
            all.extend(test.into_iter().map(|film| at(film, Split::Test)));
        }
        None => warnings.push(format!("no test films: there is no {} in {}", BOXES[1].join(" or "), root.display())),
    }
    warnings.extend(empty.warning("boxes have no area and were left out"));
    // Lines are of either table.
    let name = PathBuf::from(format!("{} and test", table.display()));
    let mut sieve = Sieve::new(&name, all, "18,000 (15,000 of training, 3,000 of testing)", strict);
    sieve.first_of_each()?;
    sieve.find_films(&Stems::below(root)?)?;
    warnings.extend(frames(&mut sieve.films, root)?);
    Ok(sieve.rows(root, warnings))
}

fn at(film: Pair, split: Split) -> Pair {
    Pair { split: Some(split), ..film }
}

/// Both tables of a part: boxes, and labels of whole films, which the challenge does not have.
fn read(boxes: &Path, labels: Option<PathBuf>, empty: &mut Oddity) -> Result<Readings, Error> {
    let mut films = Readings::new();
    let mut table = Table::open(boxes, &["image_id", "class_name", "x_min", "y_min", "x_max", "y_max"])?;
    while let Some(row) = table.next()? {
        let read = row.map_err(|bad| (bad.line, bad.what)).and_then(|(line, values)| {
            let (film, reader) = (values["image_id"].trim(), values.get("rad_id").map_or("", |name| name.trim()));
            let label = label(values["class_name"]);
            let reading = films.entry(film.to_owned()).or_insert_with(|| Reading { line, ..Reading::default() });
            reading.votes.entry(label.clone()).or_default().insert(reader.to_owned());
            match corners(&values, &label).map_err(|what| (line, what))? {
                Some(one) if one.w > 0.0 && one.h > 0.0 => reading.boxes.push((reader.to_owned(), one)),
                Some(_) => empty.note(|| format!("line {line} of {}", file_name(boxes))),
                None => {}
            }
            Ok(())
        });
        read.map_err(|(line, what)| Error::Table { path: boxes.to_owned(), line, what })?;
    }
    if let Some(path) = labels {
        vote(&mut films, &path)?;
    }
    Ok(films)
}

/// Adds the labels of whole films: a column each.
fn vote(films: &mut Readings, path: &Path) -> Result<(), Error> {
    let mut table = Table::open(path, &["image_id"])?;
    while let Some(row) = table.next()? {
        let (line, values) = row.map_err(|bad| bad.error(path))?;
        let (film, reader) = (values["image_id"].trim(), values.get("rad_id").map_or("", |name| name.trim()));
        let reading = films.entry(film.to_owned()).or_insert_with(|| Reading { line, ..Reading::default() });
        for (name, value) in values.iter().filter(|(name, _)| !["image_id", "rad_id", ""].contains(name)) {
            match value.trim() {
                "1" | "1.0" => drop(reading.votes.entry(label(name)).or_default().insert(reader.to_owned())),
                "0" | "0.0" | "" => {}
                other => {
                    let what = format!("{name} is {other:?}, neither 0 nor 1");
                    return Err(Error::Table { path: path.to_owned(), line, what });
                }
            }
        }
    }
    Ok(())
}

/// A label as all tables should write it.
fn label(name: &str) -> String {
    match name.trim() {
        "No finding" => "No Finding".into(),
        // The tables of training and testing differ.
        "Other disease" => "Other diseases".into(),
        name => name.to_owned(),
    }
}

/// The box of a row; `None` where nothing was drawn.
fn corners(values: &HashMap<&str, &str>, label: &str) -> Result<Option<BoundingBox>, String> {
    let names = ["x_min", "y_min", "x_max", "y_max"];
    if names.iter().all(|name| values[name].trim().is_empty()) {
        return Ok(None);
    }
    let number = |name: &str| match values[name].trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{name} is {:?}, not a number", values[name])),
    };
    let [left, top, right, bottom] = [number(names[0])?, number(names[1])?, number(names[2])?, number(names[3])?];
    // The challenge writes boxes of normal films as one pixel.
    let none = label == "No Finding";
    Ok((!none).then(|| BoundingBox { label: label.into(), x: left, y: top, w: right - left, h: bottom - top }))
}

/// What at least `votes` radiologists, or all who looked if they were fewer, say of each film.
fn films(readings: Readings, votes: usize) -> Vec<Pair> {
    let film = |(id, reading): (String, Reading)| {
        let readers: BTreeSet<&String> = reading.votes.values().flatten().collect();
        let needed = votes.min(readers.len());
        let given = |label: &str| reading.votes.get(label).is_some_and(|by| by.len() >= needed);
        let labels: Vec<&str> = reading.votes.keys().map(String::as_str).filter(|label| given(label)).collect();
        let counts: Vec<String> = reading.votes.iter().map(|(label, by)| format!("{label}:{}", by.len())).collect();
        // A consensus is nobody's: there is no vote to be told.
        let named = readers.iter().any(|reader| !reader.is_empty());
        let told = |text: String| if named { text } else { String::new() };
        let further = [("votes", told(counts.join(";"))), ("radiologists", told(readers.len().to_string()))];
        // Beside a finding that is agreed on nobody's film is normal.
        let normal = labels == ["No Finding"];
        let findings: Vec<&str> = labels.iter().copied().filter(|label| normal || *label != "No Finding").collect();
        Pair {
            line: reading.line,
            findings: findings.join(";"),
            boxes: merged(reading.boxes.iter().filter(|(_, one)| given(&one.label))),
            columns: super::columns(further),
            id,
            ..Pair::default()
        }
    };
    readings.into_iter().map(film).collect()
}

/// Boxes of which those that different radiologists drew around one thing are one, their mean.
fn merged<'a>(boxes: impl Iterator<Item = &'a (String, BoundingBox)>) -> Vec<BoundingBox> {
    let mut groups: Vec<(BoundingBox, BTreeSet<&str>)> = Vec::new();
    for (reader, one) in boxes {
        let same = groups.iter_mut().find(|(mean, readers)| {
            mean.label == one.label && !readers.contains(reader.as_str()) && overlap(mean, one) >= SAME
        });
        let Some((mean, readers)) = same else {
            groups.push((one.clone(), [reader.as_str()].into()));
            continue;
        };
        let part = 1.0 / (readers.len() + 1) as f32;
        let of = |mean: f32, one: f32| mean + (one - mean) * part;
        let [x, y, w, h] = [of(mean.x, one.x), of(mean.y, one.y), of(mean.w, one.w), of(mean.h, one.h)];
        *mean = BoundingBox { label: one.label.clone(), x, y, w, h };
        readers.insert(reader);
    }
    groups.into_iter().map(|(mean, _)| mean).collect()
}

/// Intersection over union.
fn overlap(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let along = |start: f32, length: f32, other: f32, reach: f32| {
        ((start + length).min(other + reach) - start.max(other)).max(0.0)
    };
    let both = along(a.x, a.w, b.x, b.w) * along(a.y, a.h, b.y, b.h);
    both / (a.w * a.h + b.w * b.h - both)
}

/// Notes what boxes are measured on, where the films that were found are conversions; a warning if that is not known.
fn frames(films: &mut [Pair], root: &Path) -> Result<Option<String>, Error> {
    let mut sizes: HashMap<String, (u32, u32)> = HashMap::new();
    for path in SIZES.iter().filter_map(|name| find_if_any(root, &[name])) {
        let mut table = Table::open(&path, &["image_id", "dim0", "dim1"])?;
        while let Some(row) = table.next()? {
            let (line, values) = row.map_err(|bad| bad.error(&path))?;
            let [height, width] = ["dim0", "dim1"].map(|name| values[name].trim().parse::<f32>().unwrap_or(0.0));
            if !(1.0..=65535.0).contains(&height) || !(1.0..=65535.0).contains(&width) {
                let what = "dim0 or dim1 is no number of pixels".to_owned();
                return Err(Error::Table { path, line, what });
            }
            sizes.insert(values["image_id"].trim().to_owned(), (width as u32, height as u32));
        }
    }
    let mut unknown = Oddity::default();
    for film in films.iter_mut().filter(|film| !film.boxes.is_empty()) {
        film.frame = sizes.get(&film.id).copied();
        let original = [".dcm", ".dicom"].iter().any(|ending| film.image.to_ascii_lowercase().ends_with(ending));
        if film.frame.is_none() && !original {
            unknown.note(|| film.image.clone());
        }
    }
    let what = "converted films have boxes measured on their originals, whose size train_meta.csv (image_id, dim0, dim1) does not \
                say: the boxes are right only if they were not made smaller";
    Ok(unknown.warning(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_around_one_thing_by_different_readers_become_their_mean() {
        let one = |reader: &str, label: &str, x: f32, w: f32| {
            (reader.to_owned(), BoundingBox { label: label.into(), x, y: 0.0, w, h: 10.0 })
        };
        let boxes = [
            one("r1", "A", 0.0, 10.0),
            one("r2", "A", 2.0, 10.0),
            one("r2", "A", 0.0, 10.0),
            one("r3", "A", 40.0, 10.0),
            one("r3", "B", 0.0, 10.0),
        ];
        let places: Vec<(f32, f32)> = merged(boxes.iter()).into_iter().map(|one| (one.x, one.w)).collect();
        assert_eq!(places, [(1.0, 10.0), (0.0, 10.0), (40.0, 10.0), (0.0, 10.0)]);
        let mean = |a: f32, b: f32| merged([one("r1", "A", a, 10.0), one("r2", "A", b, 10.0)].iter()).len();
        // Apart by a third of their width they overlap by a half.
        assert_eq!((mean(0.0, 3.3), mean(0.0, 3.4)), (1, 2));
    }
}
