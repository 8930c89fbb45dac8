//! Object-CXR: foreign objects on chest films, each drawn as a box, an ellipse or a polygon.

use std::path::Path;

use super::outline::Outline;
use super::stems::{Stems, stem};
use super::{Layout, Oddity, Sieve, find, published};
use crate::data::error::Error;
use crate::data::pairs::{Mask, Pair};
use crate::data::record::{BoundingBox, Split};
use crate::data::table::Table;

/// The one label.
const LABEL: &str = "Foreign Object";
/// Share of `train.csv` that is validation: 1,600 of 8,000 in the papers of MGCA and G2D; MGCA's script has 0.1.
const VALIDATION: f64 = 0.2;

/// Reads `train.csv` and `dev.csv` of `root` and finds the films below it, by name. Boxes are the bounds of what was drawn,
/// the mask is its inside. Films without any are `No Finding`, with an empty mask. `dev.csv` is the test split, as in the literature; a fifth of `train.csv` is validation,
/// drawn as MGCA draws it, by seed 0: no patients are known.
///
/// # Errors
/// If a table is not there, cannot be read or breaks a rule; if more than half of the films are not there (with `strict`:
/// if one is not).
pub fn open(root: &Path, strict: bool) -> Result<Layout<Pair>, Error> {
    let (train, mut empty) = (find(root, &["train.csv"])?, Oddity::default());
    let mut films = drawn_on(&train, &mut empty)?;
    let held_out = (films.len() as f64 * VALIDATION).ceil() as usize;
    let splits = published::held_out(films.len(), held_out);
    films.iter_mut().zip(splits).for_each(|(film, split)| film.split = Some(split));
    let test = drawn_on(&find(root, &["dev.csv"])?, &mut empty)?;
    films.extend(test.into_iter().map(|film| Pair { split: Some(Split::Test), ..film }));
    // Lines are of either table.
    let both = train.with_file_name("train.csv and dev.csv");
    let mut sieve = Sieve::new(&both, films, "9,000 (6,400 / 1,600 / 1,000) in the G2D paper", strict);
    sieve.first_of_each()?;
    sieve.find_films(&Stems::below(root)?)?;
    Ok(sieve.rows(root, empty.warning("objects have no area and were left out").into_iter().collect()))
}

/// Films with what was drawn on them; objects without area are noted.
fn drawn_on(path: &Path, empty: &mut Oddity) -> Result<Vec<Pair>, Error> {
    let mut table = Table::open(path, &["image_name", "annotation"])?;
    let mut films = Vec::new();
    while let Some(row) = table.next()? {
        let (line, values) = row.map_err(|bad| bad.error(path))?;
        let id = stem(values["image_name"]).to_owned();
        let (mut boxes, mut outlines) = (Vec::new(), Vec::new());
        for drawn in values["annotation"].split(';').map(str::trim).filter(|drawn| !drawn.is_empty()) {
            let fault = |what| Error::Table { path: path.to_owned(), line, what };
            let outline = outline(drawn).map_err(|what| fault(format!("{id}: {what}")))?;
            let [x, y, right, bottom] = outline.bounds();
            if right <= x || bottom <= y {
                empty.note(|| format!("{drawn} on {id}"));
                continue;
            }
            boxes.push(BoundingBox { label: LABEL.into(), x, y, w: right - x, h: bottom - y });
            outlines.push(outline);
        }
        let findings = if boxes.is_empty() { "No Finding".into() } else { LABEL.into() };
        films.push(Pair { line, id, boxes, findings, mask: Mask::Drawn(outlines), ..Pair::default() });
    }
    Ok(films)
}

/// `0 x y x y` (a box by two corners), `1 x y x y` (an ellipse by the box around it) or `2 x y x y ...` (a polygon).
fn outline(drawn: &str) -> Result<Outline, String> {
    let mut words = drawn.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let number = |word: &str| match word.parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{word:.20?} in {drawn:.80?} is not a number")),
    };
    let numbers = words.map(number).collect::<Result<Vec<f32>, String>>()?;
    let (corners, rest) = numbers.as_chunks::<2>();
    let enough = match kind {
        "0" | "1" => corners.len() == 2,
        "2" => corners.len() >= 3,
        _ => {
            return Err(format!(
                "{drawn:.80?} begins with {kind:.20?}, which is none of 0, 1, 2 (box, ellipse, polygon)"
            ));
        }
    };
    if !enough || !rest.is_empty() {
        let needed = "two corners, a polygon at least three, and each corner two numbers";
        return Err(format!("{drawn:.80?} has {} numbers; boxes and ellipses have {needed}", numbers.len()));
    }
    let polygon = Outline::Polygon(corners.to_vec());
    Ok(match kind {
        "0" => Outline::Box(polygon.bounds()),
        "1" => Outline::Ellipse(polygon.bounds()),
        _ => polygon,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_is_read() {
        assert_eq!(outline("0 10 20 30 60"), Ok(Outline::Box([10.0, 20.0, 30.0, 60.0])));
        assert_eq!(outline("1 30 60 10 20"), Ok(Outline::Ellipse([10.0, 20.0, 30.0, 60.0])), "corners in any order");
        let polygon = outline("2 5 9 1 7 3 2 4 4").unwrap();
        assert_eq!(polygon, Outline::Polygon(vec![[5.0, 9.0], [1.0, 7.0], [3.0, 2.0], [4.0, 4.0]]));
        assert_eq!(polygon.bounds(), [1.0, 2.0, 5.0, 9.0]);
        for wrong in
            ["3 1 2 3 4", "0 1 2 3", "0 1 2 3 4 5 6", "2 1 2 3 4", "2 1 2 3 4 5", "1 a 2 3 4", "0 1 2 3 inf", ""]
        {
            assert!(outline(wrong).is_err(), "{wrong}");
        }
    }
}
