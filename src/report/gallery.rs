//! Pictures of a run's validations as files in its folder: each as one gray PNG with a row for each film, so that a run that is
//! resumed has them still.
//!
//! | in `gallery/` | |
//! |---|---|
//! | `films.json` | what the films are called, and what their reports say |
//! | `films.png` | film, true mask |
//! | `step-NNNNNNNN.png` | attention, pseudo mask and, if masks are learned, predicted mask after so many steps |

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use image::ExtendedColorType;
use serde::{Deserialize, Serialize};

use super::picture::{bytes, gray, png, shrink, squares};
use crate::checkpoint::write_beside;
use crate::error::Error;
use crate::train::gallery::Gallery;

/// The folder, within a run's.
const FOLDER: &str = "gallery";
const FILMS: &str = "films.json";
const PICTURE: &str = "films.png";
/// Most validations that are kept and shown.
pub const COLUMNS: usize = 12;
/// Pixels along a side of a film at most.
const TILE: usize = 128;
/// Letters of a report that are kept.
const LETTERS: usize = 400;
/// A file longer than this is none of ours.
const LONGEST: u64 = 1 << 26;

/// A film of the gallery, as `films.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Film {
    /// Its name in the data set.
    pub id: String,
    /// Its report.
    pub report: String,
}

/// A gallery as it lies in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Pixels along a side of a tile.
    pub tile: usize,
    /// The films,
    pub films: Vec<Film>,
    /// of each its pixels and its true mask [tile, tile],
    pub pixels: Vec<Vec<Vec<u8>>>,
    /// and what was made of them, in the order of steps.
    pub moments: Vec<Moment>,
}

/// What the model made of the films at one validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// Steps taken.
    pub step: u64,
    /// Of each film attention, pseudo mask and perhaps predicted mask [tile, tile].
    pub maps: Vec<Vec<Vec<u8>>>,
}

/// Whether the validation at place `at` of `count` is kept: every one, every second, every fourth and so on, as many as
/// [`COLUMNS`] hold, and the last. What is not kept is not kept later either.
pub fn is_kept(at: usize, count: usize) -> bool {
    let mut apart = 1;
    while count.div_ceil(apart) + 1 > COLUMNS {
        apart *= 2;
    }
    at.is_multiple_of(apart) || at + 1 == count
}

/// The largest part of `side` that a tile may have.
fn tile(side: usize) -> usize {
    (1..=side).map(|parts| side / parts).find(|tile| side.is_multiple_of(*tile) && *tile <= TILE).unwrap_or(side)
}

fn picture_of(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:08}.png"))
}

/// Writes the pictures of the last of these validations, and removes those that are kept no longer.
///
/// # Errors
/// If a file cannot be written.
pub fn save(run: &Path, validations: &[u64], gallery: &Gallery) -> Result<(), Error> {
    let (Some(&step), false) = (validations.last(), gallery.films.is_empty()) else { return Ok(()) };
    let (side, folder) = (gallery.side, run.join(FOLDER));
    let tile = tile(side);
    fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let films = gallery.films.iter();
    let names =
        films.clone().map(|film| Film { id: film.id.clone(), report: film.report.chars().take(LETTERS).collect() });
    let mut text = serde_json::to_string_pretty(&names.collect::<Vec<_>>()).unwrap_or_default();
    text.push('\n');
    let small = |plane: &[f64]| bytes(&shrink(plane, side, tile));
    let shown = films.clone().map(|film| {
        let pixels: Vec<f64> = film.pixels.iter().map(|&pixel| f64::from(pixel) / 255.0).collect();
        let truth = film
            .truth
            .as_ref()
            .map_or_else(Vec::new, |mask| mask.iter().map(|&set| f64::from(u8::from(set))).collect());
        vec![small(&pixels), if truth.is_empty() { vec![0; tile * tile] } else { small(&truth) }]
    });
    let made = films.map(|film| {
        let attention = bytes(&squares(&film.attention, gallery.cells, tile));
        [attention, small(&film.pseudo)].into_iter().chain(film.predicted.as_ref().map(|mask| small(mask))).collect()
    });
    let files = [
        (folder.join(FILMS), Some(text.into_bytes())),
        (folder.join(PICTURE), sheet(&shown.collect::<Vec<_>>(), tile)),
        (picture_of(&folder, step), sheet(&made.collect::<Vec<_>>(), tile)),
    ];
    for (path, content) in files {
        let content =
            content.ok_or_else(|| Error::Usage(format!("{}: the pictures are not all of one size", path.display())))?;
        write_beside(&path, &content).map_err(Error::io(&path))?;
    }
    prune(&folder, validations)
}

/// Removes pictures of steps that are not kept, or that a run which was cut off has not come back to.
fn prune(folder: &Path, validations: &[u64]) -> Result<(), Error> {
    let kept: Vec<PathBuf> = kept(validations).map(|step| picture_of(folder, step)).collect();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))?.filter_map(Result::ok) {
        let ours = entry.file_name().to_string_lossy().starts_with("step-");
        if ours && !kept.contains(&entry.path()) {
            fs::remove_file(entry.path()).map_err(Error::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Steps of the validations that are kept.
fn kept(validations: &[u64]) -> impl Iterator<Item = u64> {
    validations.iter().enumerate().filter(|(at, _)| is_kept(*at, validations.len())).map(|(_, &step)| step)
}

/// Planes [tile, tile] side by side, a row for each film, as a gray PNG.
fn sheet(rows: &[Vec<Vec<u8>>], tile: usize) -> Option<Vec<u8>> {
    let columns = rows.first()?.len();
    let mut pixels = Vec::with_capacity(rows.len() * columns * tile * tile);
    for row in rows {
        for y in 0..tile {
            row.iter().for_each(|plane| pixels.extend_from_slice(&plane[y * tile..(y + 1) * tile]));
        }
    }
    png(&pixels, [columns * tile, rows.len() * tile], ExtendedColorType::L8)
}

/// The planes of films, and their side.
type Sheet = (Vec<Vec<Vec<u8>>>, usize);

/// The planes of a sheet of so many films; their side.
fn planes(file: &[u8], films: usize, columns: std::ops::RangeInclusive<usize>) -> Option<Sheet> {
    let (pixels, [width, height]) = gray(file)?;
    let tile = height / films.max(1);
    let across = width.checked_div(tile)?;
    let fits = tile > 1 && tile * films == height && tile * across == width && columns.contains(&across);
    let plane = |film: usize, column: usize| {
        let row = |y: usize| pixels[(film * tile + y) * width + column * tile..][..tile].iter().copied();
        (0..tile).flat_map(row).collect::<Vec<u8>>()
    };
    let film = |film: usize| (0..across).map(|column| plane(film, column)).collect();
    fits.then(|| ((0..films).map(film).collect(), tile))
}

/// A file as bytes; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let bytes = fs::metadata(path).and_then(|data| if data.len() > LONGEST { Ok(Vec::new()) } else { fs::read(path) });
    match bytes {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The gallery of a run with these validations, if it has one. What cannot be read is left out and told.
pub fn load(run: &Path, validations: &[u64]) -> (Option<Kept>, Vec<String>) {
    let folder = run.join(FOLDER);
    let damaged = |name: &str| format!("{FOLDER}/{name} is damaged and left out");
    let films = match read(&folder.join(FILMS)) {
        Ok(None) => return (None, Vec::new()),
        Ok(Some(bytes)) => serde_json::from_slice::<Vec<Film>>(&bytes).ok().filter(|films| !films.is_empty()),
        Err(why) => return (None, vec![why]),
    };
    let Some(films) = films else { return (None, vec![damaged(FILMS)]) };
    let shown = read(&folder.join(PICTURE)).ok().flatten().and_then(|file| planes(&file, films.len(), 2..=2));
    let Some((pixels, tile)) = shown else { return (None, vec![damaged(PICTURE)]) };
    let (mut moments, mut notes) = (Vec::new(), Vec::new());
    for step in kept(validations) {
        match moment(run, step, films.len()) {
            Ok(Some((maps, side))) if side == tile => moments.push(Moment { step, maps }),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => notes.push(damaged(&format!("step-{step:08}.png"))),
        }
    }
    (Some(Kept { tile, films, pixels, moments }), notes)
}

/// The maps of one validation and their side; `None` if there is no picture of it.
fn moment(run: &Path, step: u64, films: usize) -> Result<Option<Sheet>, String> {
    let path = picture_of(&run.join(FOLDER), step);
    let Some(file) = read(&path)? else { return Ok(None) };
    planes(&file, films, 2..=3).map(Some).ok_or_else(|| format!("{} is damaged", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::gallery::Shown;

    #[test]
    fn few_are_kept_the_first_and_the_last_among_them_and_none_comes_back() {
        for count in 1..300 {
            let kept: Vec<usize> = (0..count).filter(|&at| is_kept(at, count)).collect();
            assert!(kept.len() <= COLUMNS && kept.len() >= count.min(COLUMNS / 2), "{count}: {kept:?}");
            assert!(kept[0] == 0 && kept[kept.len() - 1] == count - 1, "{count}: {kept:?}");
            let later: Vec<usize> = (0..count).filter(|&at| is_kept(at, count + 1)).collect();
            assert!(later.iter().all(|at| kept.contains(at)), "{count}: {kept:?} and then {later:?}");
        }
    }

    #[test]
    fn tiles_divide_films() {
        assert_eq!([32, 64, 128, 160, 192, 224, 256, 352, 448].map(tile), [32, 64, 128, 80, 96, 112, 128, 88, 112]);
    }

    fn gallery(predicted: bool) -> Gallery {
        let side = 64;
        let shown = |film: usize| Shown {
            id: format!("film {film}"),
            report: "words ".repeat(200),
            pixels: (0..side * side).map(|at| (at * (film + 1) % 251) as u8).collect(),
            truth: (film == 0).then(|| (0..side * side).map(|at| at % side < 20).collect()),
            attention: vec![0.1, 0.2, 0.3, 0.4],
            pseudo: vec![0.25; side * side],
            predicted: predicted.then(|| vec![0.75; side * side]),
        };
        Gallery { side, cells: 2, films: (0..2).map(shown).collect() }
    }

    #[test]
    fn what_is_saved_is_loaded_and_what_is_damaged_is_told() {
        let run = std::env::temp_dir().join(format!("g2d-gallery-{}", std::process::id()));
        let _ = fs::remove_dir_all(&run);
        let validations: Vec<u64> = (0..20).map(|at| at * 5).collect();
        for (at, _) in validations.iter().enumerate() {
            save(&run, &validations[..=at], &gallery(at % 2 == 0)).unwrap();
        }
        let (found, notes) = load(&run, &validations);
        let found = found.unwrap();
        assert_eq!(notes, [""; 0]);
        assert_eq!(
            found.moments.iter().map(|moment| moment.step).collect::<Vec<_>>(),
            [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95]
        );
        assert_eq!(fs::read_dir(run.join(FOLDER)).unwrap().count(), 13);
        assert_eq!((found.tile, found.films[1].id.as_str(), found.films[1].report.len()), (64, "film 1", LETTERS));
        assert_eq!(found.pixels[1][0], gallery(true).films[1].pixels);
        assert!(found.pixels[0][1][0] == 255 && found.pixels[1][1].iter().all(|&value| value == 0));
        assert_eq!(found.moments[0].maps[1].iter().map(|map| map[5]).collect::<Vec<_>>(), [0, 64, 191]);
        assert_eq!(found.moments[10].maps[0].len(), 2, "without a predicted mask");
        let path = picture_of(&run.join(FOLDER), 40);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let (found, notes) = load(&run, &validations);
        assert_eq!((found.unwrap().moments.len(), notes.len()), (10, 1), "{notes:?}");
        fs::write(run.join(FOLDER).join(FILMS), "[").unwrap();
        assert!(matches!(load(&run, &validations), (None, notes) if notes.len() == 1));
        fs::remove_dir_all(run).unwrap();
    }
}
