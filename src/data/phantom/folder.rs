//! A folder of phantoms in the formats real data comes in: `pairs.csv`, `boxes.csv`, `images/`, `masks/`.

use super::{Film, Style, draw};
use rayon::prelude::*;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Why a folder of phantoms was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds something already.
    #[error("{0}: the folder is not empty; name a new or an empty one")]
    NotEmpty(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}; check the path, its permissions and the free space")]
    File {
        /// What was to be read or written.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped; no film was kept, the same command starts over")]
    Cancelled,
    /// A film could not be encoded.
    #[error("{path}: the film could not be written: {source}")]
    Image {
        /// The film's file.
        path: PathBuf,
        /// What the encoder said.
        source: image::ImageError,
    },
}

/// Draws films 0..`count` of `seed` in one style into a new or empty folder, in parallel on the current thread pool; `progress`
/// hears how many are written, `cancelled` is looked at between films. `pairs.csv` comes last, so that a folder without it is known
/// to be unfinished.
///
/// # Errors
/// [`Error::NotEmpty`] if `out` holds anything, [`Error::Cancelled`], else whatever the file system or the encoder refused.
pub fn write(
    out: &Path,
    style: Style,
    count: usize,
    seed: u64,
    progress: &(dyn Fn(usize) + Sync),
    cancelled: &AtomicBool,
) -> Result<(), Error> {
    for folder in [out.to_path_buf(), out.join("images"), out.join("masks")] {
        if folder == out && out.exists() {
            let mut entries = fs::read_dir(out).map_err(at(out))?;
            if entries.next().is_some() {
                return Err(Error::NotEmpty(out.into()));
            }
        }
        fs::create_dir_all(&folder).map_err(at(&folder))?;
    }
    let written = AtomicUsize::new(0);
    let rows: Vec<Film> = (0..count as u64)
        .into_par_iter()
        .map(|index| {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let mut film = draw(style, seed, index);
            save(&out.join(image_path(&film)), film.width, film.height, &std::mem::take(&mut film.pixels))?;
            save(&out.join(mask_path(&film)), film.width, film.height, &std::mem::take(&mut film.mask))?;
            progress(written.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(film)
        })
        .collect::<Result<_, _>>()?;
    table(&out.join("boxes.csv"), &boxes(&rows))?;
    table(&out.join("pairs.csv"), &pairs(&rows))
}

fn image_path(film: &Film) -> String {
    format!("images/{}.png", film.id)
}

fn mask_path(film: &Film) -> String {
    format!("masks/{}.png", film.id)
}

fn pairs(films: &[Film]) -> Vec<Vec<String>> {
    let header = ["id", "image", "text", "patient_id", "split", "view", "findings", "mask"].map(String::from).to_vec();
    let rows = films.iter().map(|film| {
        let fields = [
            &film.id,
            &image_path(film),
            &film.text,
            &film.patient_id,
            film.split,
            film.view,
            &film.labels(),
            &mask_path(film),
        ];
        fields.map(String::from).to_vec()
    });
    [header].into_iter().chain(rows).collect()
}

fn boxes(films: &[Film]) -> Vec<Vec<String>> {
    let header = ["id", "image", "label", "x", "y", "w", "h"].map(String::from).to_vec();
    let rows = films.iter().flat_map(|film| {
        film.boxes.iter().map(|it| {
            let numbers = [it.x, it.y, it.w, it.h].map(|number| number.to_string());
            [film.id.clone(), image_path(film), it.label.into()].into_iter().chain(numbers).collect()
        })
    });
    [header].into_iter().chain(rows).collect()
}

/// Writes a gray PNG beside its place and renames it.
fn save(path: &Path, width: usize, height: usize, pixels: &[u8]) -> Result<(), Error> {
    use image::ImageEncoder;
    use image::codecs::png::{CompressionType, FilterType, PngEncoder};
    beside(path, |file| {
        PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Adaptive)
            .write_image(pixels, width as u32, height as u32, image::ExtendedColorType::L8)
            .map_err(|source| Error::Image { path: path.into(), source })
    })
}

/// Writes a table, synced: only tables are, for a film can be drawn again and thousands of syncs take long.
fn table(path: &Path, rows: &[Vec<String>]) -> Result<(), Error> {
    beside(path, |file| {
        let mut writer = csv::Writer::from_writer(&mut *file);
        for row in rows {
            writer.write_record(row).map_err(|error| at(path)(error.into()))?;
        }
        writer.flush().map_err(at(path))?;
        drop(writer);
        file.get_ref().sync_all().map_err(at(path))
    })
}

/// Fills a temporary file beside `path` and gives it its name.
fn beside(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>) -> Result<(), Error> {
    let part = path.with_extension("part");
    let mut file = BufWriter::new(File::create(&part).map_err(at(&part))?);
    fill(&mut file)?;
    file.flush().map_err(at(&part))?;
    fs::rename(&part, path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<'_> {
    move |source| Error::File { path: path.into(), source }
}
