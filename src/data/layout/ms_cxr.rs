//! MS-CXR: phrases of reports with the boxes that they are about, on films of MIMIC-CXR-JPG.

use std::collections::HashMap;
use std::path::Path;

use super::{Layout, Sieve, coco, find};
use crate::data::error::Error;
use crate::data::pairs::{Pair, rectangle};
use crate::data::record::Split;
use crate::data::table::{Row, Table};

/// The table and, of the same annotations, the JSON that it was made from.
const TABLES: [&str; 4] = [
    "MS_CXR_Local_Alignment_v1.1.0.csv",
    "MS_CXR_Local_Alignment_v1.1.0.json",
    "MS_CXR_Local_Alignment_v1.0.0.csv",
    "MS_CXR_Local_Alignment_v1.0.0.json",
];

/// What boxes and films are labelled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// The phrase, so that grounding asks for what the report says.
    #[default]
    Phrase,
    /// One of the eight findings.
    Finding,
}

/// Reads the table of phrases, csv or JSON by its ending, `phrases` or one of the published names in that folder; `images` is the folder of MIMIC-CXR-JPG that
/// holds `files/`. A film's text is its phrases, its box has the label that `label` says; the split is the table's (1.1.0),
/// else all films are for testing.
///
/// # Errors
/// If the table is not there, cannot be read or breaks a rule; if more than half of the films are not there (with `strict`:
/// if one is not).
pub fn open(images: &Path, phrases: &Path, label: Label, strict: bool) -> Result<Layout<Pair>, Error> {
    let table = if phrases.is_dir() { find(phrases, &TABLES)? } else { phrases.to_owned() };
    let films = phrased(&table, label)?;
    let mut sieve = Sieve::new(&table, films, "1,162 pairs of phrase and box in version 1.0.0", strict);
    sieve.need_films(images)?;
    Ok(sieve.rows(images, Vec::new()))
}

/// A row of the table.
struct Phrase {
    film: Pair,
    phrase: String,
    finding: String,
}

fn phrased(path: &Path, label: Label) -> Result<Vec<Pair>, Error> {
    let columns =
        ["dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height"];
    let fault = |line: u64, what: String| Error::Table { path: path.to_owned(), line, what };
    let mut gathered = Gathered { label, ..Gathered::default() };
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
        for (line, values) in coco::read(path)? {
            let values = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            gathered.add((line, values)).map_err(|what| fault(line, what))?;
        }
    } else {
        let mut table = Table::open(path, &columns)?;
        while let Some(row) = table.next()? {
            let row = row.map_err(|bad| fault(bad.line, bad.what))?;
            let line = row.0;
            gathered.add(row).map_err(|what| fault(line, what))?;
        }
    }
    for (film, phrases) in gathered.films.iter_mut().zip(gathered.said) {
        film.text = phrases.join(" ");
    }
    Ok(gathered.films)
}

/// Films with the phrases that were read so far.
#[derive(Default)]
struct Gathered {
    label: Label,
    films: Vec<Pair>,
    /// Where a film stands.
    places: HashMap<String, usize>,
    /// The phrases of each film.
    said: Vec<Vec<String>>,
}

impl Gathered {
    fn add(&mut self, row: Row<'_>) -> Result<(), String> {
        let Phrase { film: mut one, phrase, finding } = phrase(row, self.label)?;
        let place = *self.places.entry(one.id.clone()).or_insert(self.films.len());
        if place == self.films.len() {
            self.films.push(Pair { boxes: Vec::new(), ..one.clone() });
            self.said.push(Vec::new());
        }
        let film = &mut self.films[place];
        if (&film.image, film.frame, film.split) != (&one.image, one.frame, one.split) {
            return Err(format!("{} has another path, size or split here than at line {}", one.id, film.line));
        }
        film.boxes.append(&mut one.boxes);
        // A phrase about two places has a row for each.
        add(&mut film.findings, if self.label == Label::Phrase { &phrase } else { &finding });
        add(film.columns.entry("findings".to_owned()).or_default(), &finding);
        if !self.said[place].contains(&phrase) {
            self.said[place].push(phrase);
        }
        Ok(())
    }
}

/// Adds a label to a list of labels, if it is not there.
fn add(list: &mut String, label: &str) {
    if !list.split(';').any(|one| one == label) {
        *list += if list.is_empty() { "" } else { ";" };
        *list += label;
    }
}

fn phrase((line, values): Row<'_>, label: Label) -> Result<Phrase, String> {
    let value = |name: &str| values[name].trim();
    // Labels are written between semicolons.
    let [phrase, finding] = [value("label_text"), value("category_name")].map(|text| text.replace(';', ","));
    let image = value("path").trim_start_matches('/').to_owned();
    let patient = image.split('/').find(|part| {
        part.strip_prefix('p')
            .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let patient =
        patient.ok_or_else(|| format!("path {image:?} has no patient: files/p10/p10000032/... is expected"))?;
    if value("dicom_id").is_empty() || phrase.is_empty() || finding.is_empty() {
        return Err("dicom_id, label_text or category_name is empty".into());
    }
    let side = |name: &str| match value(name).parse::<f32>() {
        Ok(side) if (1.0..=65535.0).contains(&side) => Ok(side as u32),
        _ => Err(format!("{name} is {:?}, not a number of pixels", value(name))),
    };
    let split = match values.get("split").map(|word| word.trim()) {
        None | Some("") => Split::Test,
        Some(word) => Split::parse(word).ok_or_else(|| format!("split {word:?} is none of train, val, test"))?,
    };
    let own = if label == Label::Phrase { &phrase } else { &finding };
    let film = Pair {
        line,
        id: value("dicom_id").to_owned(),
        boxes: vec![rectangle(&values, ["x", "y", "w", "h"], own)?],
        frame: Some((side("image_width")?, side("image_height")?)),
        patient_id: patient[1..].to_owned(),
        split: Some(split),
        image,
        ..Pair::default()
    };
    Ok(Phrase { film, phrase, finding })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_within_the_words_of_another_is_told_too_and_none_twice() {
        let path = std::env::temp_dir().join(format!("g2d-ms-cxr-{}.csv", std::process::id()));
        let row = |phrase: &str, x: u32| {
            format!("a,Pleural Effusion,{phrase},files/p10/p10000001/s1/a.jpg,{x},1,20,20,1280,2560\n")
        };
        let head = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height\n";
        let table = [head, &row("left effusion", 1), &row("effusion", 40), &row("effusion", 80)].concat();
        std::fs::write(&path, table).unwrap();
        let films = phrased(&path, Label::Phrase).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((films.len(), films[0].text.as_str(), films[0].boxes.len()), (1, "left effusion effusion", 3));
        assert_eq!(films[0].findings, "left effusion;effusion");
    }
}
