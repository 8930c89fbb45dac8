//! Published data sets in exactly their layouts, made up from a seed, through `g2d pack NAME`: every filter's count against
//! what was made, what is carried, and bad input.
#![cfg(feature = "cli")]

mod boxes;
#[path = "../common/command.rs"]
#[allow(dead_code)]
mod command;
mod mimic;
mod mimic_tree;
mod others;
mod splits;
mod throughput;

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use g2d::data::{Dataset, Record};
use serde_json::Value;

/// Runs a line that packs and reads its JSON.
fn packed(folder: &Path, line: &str) -> Value {
    serde_json::from_str(&command::g2d(folder, &format!("{line} --json")).done()).expect("the funnel is JSON")
}

/// Name and count of every filter.
fn filters(funnel: &Value) -> Vec<(String, u64)> {
    let filters = funnel["filters"].as_array().expect("there are filters").iter();
    filters.map(|one| (one["name"].as_str().unwrap().to_owned(), one["kept"].as_u64().unwrap())).collect()
}

/// The filter whose name holds a word.
fn filter<'a>(funnel: &'a Value, word: &str) -> &'a Value {
    let mut filters = funnel["filters"].as_array().expect("there are filters").iter();
    filters.find(|one| one["name"].as_str().unwrap().contains(word)).unwrap_or_else(|| panic!("{word}: {funnel}"))
}

/// Whether a warning holds all words.
fn warned(funnel: &Value, words: &[&str]) -> bool {
    let mut warnings = funnel["warnings"].as_array().expect("there are warnings").iter();
    warnings.any(|warning| words.iter().all(|word| warning.as_str().unwrap().contains(word)))
}

/// Packing `line` is refused with these words and leaves nothing.
#[track_caller]
fn refused(folder: &Path, line: &str, words: &[&str]) {
    let before = command::listing(folder);
    command::g2d(folder, line).refused(words);
    assert_eq!(before, command::listing(folder));
}

/// What was packed.
fn dataset(folder: &Path) -> Dataset {
    Dataset::open(&folder.join("out")).unwrap()
}

/// The films of a data set, by id.
fn index(dataset: &Dataset, id: &str) -> usize {
    (0..dataset.len()).find(|&film| dataset.record(film).unwrap().id == id).unwrap_or_else(|| panic!("{id} is packed"))
}

/// The boxes of a record: label, left, top, width, height.
fn places<'a>(record: &'a Record<'_>) -> Vec<(&'a str, [f32; 4])> {
    record.boxes.iter().map(|one| (one.label.as_str(), [one.x, one.y, one.w, one.h])).collect()
}

/// Writes a file, gzipped if its name says so, and the folders above it.
fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.extension().is_some_and(|ending| ending == "gz") {
        let mut gzip = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap();
    } else {
        fs::write(path, bytes).unwrap();
    }
}

/// A small gray film with something on it.
fn film(width: u32, height: u32, seed: u32) -> image::GrayImage {
    image::GrayImage::from_fn(width, height, |x, y| image::Luma([40 + ((x * 7 + y * 5 + seed * 13) % 160) as u8]))
}

/// Writes a film as PNG or JPEG, as its name says.
fn write_film(path: &Path, width: u32, height: u32, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    film(width, height, seed).save(path).unwrap();
}
