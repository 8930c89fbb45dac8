//! Published data sets as their owners lay them out: each layout reads its tables and passes its films through counted
//! filters; what is left are rows as of `pairs.csv`, packed in the same way.

pub mod captions;
pub mod chexpert;
mod coco;
pub mod covidx;
pub mod mimic;
pub mod ms_cxr;
pub mod nih;
pub mod object_cxr;
pub mod openi;
pub mod outline;
mod published;
pub mod rle;
pub mod rsna;
pub mod sections;
pub mod siim;
mod stems;
pub mod vindr;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::funnel::{EXAMPLES, Filter, Oddity};
use super::pairs::Pair;
use super::record::Split;
use super::rows::{Row, Rows};

use self::stems::Stems;

pub use captions::Captions;
pub use mimic::Mimic;

/// A film of a data set, held in little memory.
pub trait Film: Send + Sync {
    /// Its line in the table that lists the films.
    fn line(&self) -> u64;

    /// Its name.
    fn id(&self) -> &str;

    /// All that is known of it.
    fn pair(&self) -> Pair;
}

impl Film for Pair {
    fn line(&self) -> u64 {
        self.line
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn pair(&self) -> Pair {
        self.clone()
    }
}

/// A data set that was read: its films behind the filters.
pub struct Layout<F> {
    table: PathBuf,
    folder: PathBuf,
    films: Vec<F>,
    filters: Vec<Filter>,
    warnings: Vec<String>,
    by_film: bool,
}

impl Layout<Pair> {
    /// The same with a split that was published film by film: patients on several sides are no error but a warning.
    fn split_by_film(mut self) -> Self {
        let mut sides: BTreeMap<&str, Split> = BTreeMap::new();
        let (mut again, mut split) = (Oddity::default(), BTreeMap::new());
        for film in self.films.iter().filter(|film| !film.patient_id.is_empty()) {
            let Some(side) = film.split else { continue };
            if *sides.entry(&film.patient_id).or_insert(side) != side && split.insert(&film.patient_id, ()).is_none() {
                again.note(|| film.patient_id.clone());
            }
        }
        self.warnings.extend(again.warning("patients are on several sides of this split, which was published by film"));
        self.by_film = true;
        self
    }
}

impl<F: Film> Rows for Layout<F> {
    fn path(&self) -> &Path {
        &self.table
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn read(&self) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + '_>, Error> {
        Ok(Box::new(self.films.iter().map(|film| Ok(Ok(film.pair())))))
    }

    fn filters(&self) -> &[Filter] {
        &self.filters
    }

    fn by_film(&self) -> bool {
        self.by_film
    }

    fn warnings(&self, _has: &dyn Fn(&str) -> bool) -> Vec<String> {
        self.warnings.clone()
    }
}

/// Films on their way through the filters.
struct Sieve<F> {
    /// The table that lists them.
    table: PathBuf,
    /// What a filter takes away that should not be there is an error.
    strict: bool,
    films: Vec<F>,
    filters: Vec<Filter>,
}

impl<F: Film> Sieve<F> {
    /// All films that a table lists.
    fn new(table: &Path, films: Vec<F>, reported: &str, strict: bool) -> Self {
        let name = format!("films in {}", file_name(table));
        let filters = vec![Filter { name, kept: films.len(), reported: reported.into(), ..Filter::default() }];
        Self { table: table.to_owned(), strict, films, filters }
    }

    /// Keeps the films that are wanted.
    fn choose(&mut self, name: &str, reported: &str, wanted: impl Fn(&F) -> bool) -> Result<(), Error> {
        let before = self.films.len();
        self.films.retain(wanted);
        self.note(name, reported, before, Vec::new())
    }

    /// Keeps the films that are in order; of others `check` says what is wrong.
    ///
    /// # Errors
    /// If one is not and packing is strict; if more than half are not; if none is left.
    fn require(
        &mut self,
        name: &str,
        reported: &str,
        mut check: impl FnMut(&F) -> Result<(), String>,
    ) -> Result<(), Error> {
        let (before, mut examples, mut first) = (self.films.len(), Vec::new(), None);
        self.films.retain(|film| {
            let Err(what) = check(film) else { return true };
            if examples.len() < EXAMPLES {
                examples.push(format!("line {}, {}: {what}", film.line(), film.id()));
            }
            first.get_or_insert_with(|| (film.line(), format!("{}: {what}", film.id())));
            false
        });
        let path = || self.table.clone();
        if let Some((line, what)) = first.filter(|_| self.strict) {
            return Err(Error::Table { path: path(), line, what: what + "; repair it, or leave out --strict" });
        }
        let dropped = before - self.films.len();
        if 2 * dropped > before {
            let reasons = format!("not {name}: {}", examples.join("; "));
            return Err(Error::TooManyDropped { path: path(), dropped, rows: before, reasons });
        }
        self.note(name, reported, before, examples)
    }

    /// Keeps the first film of each name.
    ///
    /// # Errors
    /// As [`Self::require`].
    fn first_of_each(&mut self) -> Result<(), Error> {
        let mut seen = HashMap::with_capacity(self.films.len());
        self.require("listed for the first time", "", |film| match seen.insert(film.id().to_owned(), film.line()) {
            Some(line) => Err(format!("it is already at line {line}")),
            None => Ok(()),
        })
    }

    fn note(&mut self, name: &str, reported: &str, before: usize, examples: Vec<String>) -> Result<(), Error> {
        let kept = self.films.len();
        let (name, reported) = (name.to_owned(), reported.to_owned());
        if kept == 0 {
            let what = format!("no film is left of {before} by the filter {name:?}");
            return Err(Error::Table { path: self.table.clone(), line: 1, what });
        }
        self.filters.push(Filter { name, kept, dropped: before - kept, examples, reported });
        Ok(())
    }

    /// What is left, as rows; `folder` is what their files are relative to.
    fn rows(self, folder: &Path, warnings: Vec<String>) -> Layout<F> {
        let Self { table, films, filters, .. } = self;
        Layout { table, folder: folder.to_owned(), films, filters, warnings, by_film: false }
    }
}

impl Sieve<Pair> {
    /// Gives every film its file; those without one are not in order.
    fn find_films(&mut self, stems: &Stems) -> Result<(), Error> {
        for film in &mut self.films {
            film.image = stems.get(&film.id).unwrap_or_default().to_owned();
        }
        self.require("with a film", "", |film| match film.image.as_str() {
            "" => Err(format!("there is no {}.png, .jpg or .dcm", film.id)),
            _ => Ok(()),
        })
    }

    /// Keeps the films whose file is below a folder, where the table says.
    fn need_films(&mut self, folder: &Path) -> Result<(), Error> {
        self.require("with a film", "", |film| match folder.join(&film.image).is_file() {
            true => Ok(()),
            false => Err(format!("there is no {}", film.image)),
        })
    }
}

/// Further columns, without empty ones.
fn columns<const N: usize>(columns: [(&str, String); N]) -> BTreeMap<String, String> {
    let filled = columns.into_iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A report longer than this is not read, bytes.
const REPORT_BYTES: u64 = 1 << 20;

/// A path's last part.
fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The first of some files that there is in a folder.
///
/// # Errors
/// If there is none: which were looked for, and where.
fn find(folder: &Path, names: &[&str]) -> Result<PathBuf, Error> {
    find_if_any(folder, names).ok_or_else(|| Error::NoTable { folder: folder.to_owned(), names: names.join(" or ") })
}

fn find_if_any(folder: &Path, names: &[&str]) -> Option<PathBuf> {
    names.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}
