//! SIIM-ACR Pneumothorax Segmentation: `train-rle.csv`.

use std::collections::HashMap;
use std::path::Path;

use super::stems::Stems;
use super::{Layout, Sieve, find, published, rle};
use crate::data::error::Error;
use crate::data::pairs::{Mask, Pair};
use crate::data::table::Table;

const TABLES: [&str; 2] = ["train-rle.csv", "stage_2_train.csv"];
/// Width and height of all films, which runs are measured on.
const FRAME: (u32, u32) = (1024, 1024);

/// Reads the table of `root` and finds the films below it, by name; those converted to PNG or JPEG before DICOM. Several
/// rows of a film are one mask. The split is that of MGCA's script, 70 / 15 / 15 by seed 0, over films rather than rows, in
/// the order of the table: no film is on two sides.
///
/// # Errors
/// If the table is not there, cannot be read or breaks a rule (run lengths that overrun the film are one); if more than
/// half of the films are not there (with `strict`: if one is not).
pub fn open(root: &Path, strict: bool) -> Result<Layout<Pair>, Error> {
    let table = find(root, &TABLES)?;
    let mut films = masked(&table)?;
    let splits = published::mgca(films.len(), 30);
    films.iter_mut().zip(splits).for_each(|(film, split)| film.split = Some(split));
    let mut sieve = Sieve::new(&table, films, "12,047 (8,433 / 1,807 / 1,807) in the G2D paper", strict);
    sieve.find_films(&Stems::below(root)?)?;
    Ok(sieve.rows(root, Vec::new()))
}

/// Films in the order of the table, with their masks.
fn masked(path: &Path) -> Result<Vec<Pair>, Error> {
    // The published header has a blank before the second name, and its values may have one.
    let mut table = Table::open(path, &["ImageId", "EncodedPixels"])?;
    let (mut films, mut places): (Vec<Pair>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    while let Some(row) = table.next()? {
        let read = row.map_err(|bad| (bad.line, bad.what)).and_then(|(line, values)| {
            let id = values["ImageId"].trim().to_owned();
            let runs = match values["EncodedPixels"].trim() {
                "-1" => Vec::new(),
                text => rle::parse(text, FRAME.0 * FRAME.1).map_err(|what| (line, format!("{id}: {what}")))?,
            };
            if id.is_empty() {
                return Err((line, "ImageId is empty".to_owned()));
            }
            let place = *places.entry(id.clone()).or_insert(films.len());
            if place == films.len() {
                films.push(Pair { line, id, frame: Some(FRAME), mask: Mask::Runs(runs), ..Pair::default() });
                return Ok(());
            }
            let Pair { line: first, mask: Mask::Runs(before), .. } = &mut films[place] else { return Ok(()) };
            match before.is_empty() == runs.is_empty() {
                true => before.extend(runs),
                false => return Err((line, format!("{id} has a mask here or at line {first}, and none at the other"))),
            }
            Ok(())
        });
        read.map_err(|(line, what)| Error::Table { path: path.to_owned(), line, what })?;
    }
    for film in &mut films {
        let healthy = film.mask == Mask::Runs(Vec::new());
        film.findings = if healthy { "No Finding".into() } else { "Pneumothorax".into() };
    }
    Ok(films)
}
