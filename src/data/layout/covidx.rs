//! COVIDx 9A: lists of films in three classes that exclude each other, words between blanks.

use std::path::{Path, PathBuf};

use super::{Layout, Sieve, find, published};
use crate::data::error::Error;
use crate::data::file;
use crate::data::pairs::Pair;
use crate::data::record::Split;

const LISTS: [[&str; 4]; 2] = [
    ["train_COVIDx9A.txt", "train_COVIDx9B.txt", "train_COVIDx8A.txt", "train.txt"],
    ["test_COVIDx9A.txt", "test_COVIDx9B.txt", "test_COVIDx8A.txt", "test.txt"],
];
/// A list longer than this is not read, bytes.
const LIST_BYTES: u64 = 1 << 26;
/// The classes as the lists call them, and as labels: all three are of their own, so that classes exclude each other.
const CLASSES: [(&str, &str); 3] = [("normal", "Normal"), ("pneumonia", "Pneumonia"), ("COVID-19", "COVID-19")];
/// Share of the training list that is trained on (MGCA, covidx.py).
const TRAINED: f64 = 0.8;

/// Reads both lists of `root`; films lie in its `train/` and `test/`. The test list is the test split. Validation is MGCA's:
/// a fifth of the training list's lines, by seed 0. It is drawn by film: patients on both sides are a warning.
///
/// # Errors
/// If a list is not there, cannot be read or breaks a rule; if more than half of the films lack what they need (with
/// `strict`: if one does).
pub fn open(root: &Path, strict: bool) -> Result<Layout<Pair>, Error> {
    let train = find(root, &LISTS[0])?;
    let mut films = listed(&train, "train")?;
    let trained = (films.len() as f64 * TRAINED) as usize;
    let splits = published::held_out(films.len(), films.len() - trained);
    films.iter_mut().zip(splits).for_each(|(film, split)| film.split = Some(split));
    // Beside the training list of this name: lists of other versions have other films.
    let name = LISTS[1][LISTS[0].iter().position(|name| train.ends_with(name)).unwrap_or_default()];
    let test = listed(&find(root, &[name])?, "test")?;
    films.extend(test.into_iter().map(|film| Pair { split: Some(Split::Test), ..film }));
    // Lines are of either list; a film's name begins with which.
    let both = PathBuf::from(format!("{} and {name}", train.display()));
    let mut sieve = Sieve::new(&both, films, "30,386 (23,988 / 5,998 / 400) in the G2D paper", strict);
    sieve.first_of_each()?;
    sieve.need_films(root)?;
    Ok(sieve.rows(root, Vec::new()).split_by_film())
}

/// The films of a list: patient, file, class, source. Names of files may hold blanks.
fn listed(path: &Path, folder: &str) -> Result<Vec<Pair>, Error> {
    let bytes = file::read(path, LIST_BYTES).map_err(Error::io("read", path))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let film = |(text, line): (&str, u64)| {
        let fault = |what: String| Error::Table { path: path.to_owned(), line, what };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [patient, name @ .., class, source] = &words[..] else {
            return Err(fault(format!("{} words, where patient, file, class and source should be", words.len())));
        };
        let label = CLASSES.iter().find(|(word, _)| class.eq_ignore_ascii_case(word)).map(|(_, label)| *label);
        let known = CLASSES.map(|(word, _)| word).join(", ");
        let label = label.ok_or_else(|| {
            fault(format!("class {class:?} is none of {known}; give the lists of three classes, as COVIDx 9A has them"))
        })?;
        if name.is_empty() {
            return Err(fault("there is no name of a file before the class".into()));
        }
        let image = format!("{folder}/{}", name.join(" "));
        Ok(Pair {
            line,
            id: image.clone(),
            image,
            // Sources number their patients each from the beginning.
            patient_id: format!("{source} {patient}"),
            findings: label.into(),
            columns: super::columns([("source", (*source).to_owned())]),
            ..Pair::default()
        })
    };
    lines.map(film).collect()
}
