//! The tables: `pairs.csv` (a film and its report a line) and `boxes.csv` (a rectangle a line).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::layout::outline::Outline;
use super::layout::rle::Run;
use super::record::{BoundingBox, Split};
use super::rows::{Row, Rows};
use super::table::{self, Table};

/// A film and what is known of it: one line of `pairs.csv`, or what a layout gathers from several tables.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    /// Line in the file, the header being line 1; 0 where there is no table.
    pub line: u64,
    /// Unique name.
    pub id: String,
    /// The film's file, relative to [`Rows::folder`].
    pub image: String,
    /// The report, without blanks around it; may be empty.
    pub text: String,
    /// Whose film it is; empty if not given.
    pub patient_id: String,
    /// Part of the data, if given.
    pub split: Option<Split>,
    /// Projection, if given.
    pub view: String,
    /// Labels, if given.
    pub findings: String,
    /// The mask.
    pub mask: Mask,
    /// Rectangles in pixels of the film, or of the frame.
    pub boxes: Vec<BoundingBox>,
    /// Width and height of the film that boxes and runs are measured on, where the layout says so: a film that was made
    /// smaller has them scaled. `None`: they are measured on the film as it is.
    pub frame: Option<(u32, u32)>,
    /// Further columns that are not empty.
    pub columns: BTreeMap<String, String>,
}

/// Where a film's mask comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mask {
    /// There is none.
    #[default]
    None,
    /// A file, relative to [`Rows::folder`].
    File(String),
    /// Runs of 255 on the frame, column by column; no run is an empty mask.
    Runs(Vec<Run>),
    /// Outlines in pixels of the film as it is, filled with 255; no outline is an empty mask.
    Drawn(Vec<Outline>),
}

/// A row that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// Line in the file, the header being line 1.
    pub line: u64,
    /// The reason without particulars, to count by.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub what: String,
}

impl BadRow {
    /// As an error, where a bad row ends the reading.
    pub(super) fn error(self, path: &Path) -> Error {
        Error::Table { path: path.to_owned(), line: self.line, what: self.what }
    }
}

/// The rows of `pairs.csv`, read one by one: columns `id`, `image`, `text`, and optional `patient_id`, `split`, `view`,
/// `findings`, `mask`; others are carried along.
pub struct Pairs(Table);

impl Pairs {
    /// Opens the table and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is no csv table in UTF-8, or lacks a column.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(Table::open(path, &["id", "image", "text"])?))
    }
}

impl Iterator for Pairs {
    /// A row, or why it cannot be used; an error if the table cannot be read on.
    type Item = Result<Result<Pair, BadRow>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.next() {
            Ok(Some(row)) => Some(Ok(row.and_then(pair))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn pair((line, mut values): table::Row) -> Result<Pair, BadRow> {
    let mut take = |name: &str| values.remove(name).unwrap_or_default().trim().to_owned();
    let mut pair = Pair {
        line,
        id: take("id"),
        image: take("image"),
        text: take("text"),
        patient_id: take("patient_id"),
        view: take("view"),
        findings: take("findings"),
        ..Pair::default()
    };
    let mask = take("mask");
    pair.mask = if mask.is_empty() { Mask::None } else { Mask::File(mask) };
    let split = take("split");
    let bad = |reason, what| Err(BadRow { line, reason, what });
    if pair.id.is_empty() || pair.image.is_empty() {
        return bad("id or image is empty", "id or image is empty; fill it in or remove the line".to_owned());
    }
    pair.split = Split::parse(&split);
    if pair.split.is_none() && !split.is_empty() {
        return bad("unknown split", format!("split {split:?} is none of train, val, test (or empty)"));
    }
    let others = values.into_iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
    pair.columns = others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(pair)
}

/// `pairs.csv` and, if there is one, `boxes.csv`, to be packed.
pub struct PairsTable {
    path: PathBuf,
    boxes: HashMap<String, Vec<BoundingBox>>,
}

impl PairsTable {
    /// Takes a table of films and reports; its boxes are read here.
    ///
    /// # Errors
    /// As [`read_boxes`].
    pub fn open(pairs: &Path, boxes: Option<&Path>) -> Result<Self, Error> {
        Ok(Self { path: pairs.to_owned(), boxes: boxes.map(read_boxes).transpose()?.unwrap_or_default() })
    }
}

impl Rows for PairsTable {
    fn path(&self) -> &Path {
        &self.path
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn read(&self) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + '_>, Error> {
        let boxed = |mut pair: Pair| {
            pair.boxes = self.boxes.get(&pair.id).cloned().unwrap_or_default();
            pair
        };
        Ok(Box::new(Pairs::open(&self.path)?.map(move |row| Ok(row?.map(boxed)))))
    }

    fn warnings(&self, has: &dyn Fn(&str) -> bool) -> Vec<String> {
        let strangers = || self.boxes.keys().filter(|id| !has(id));
        let one = |first: &String| {
            format!("boxes of {} ids of which no row was packed (first: {first})", strangers().count())
        };
        strangers().min().map(one).into_iter().collect()
    }
}

/// Most memory that boxes may take, bytes: two to three million boxes.
const BOXES_BYTES: usize = 384 << 20;
/// What a box, or an id, takes beside its letters, with what growing tables hold in reserve.
const ENTRY_BYTES: usize = 128;

/// Reads `boxes.csv`: columns `id`, `label`, `x`, `y`, `w`, `h` in pixels of the image; others are ignored. The boxes
/// come by id, each list in the order of the file.
///
/// # Errors
/// If it cannot be read, is no csv table, lacks a column, a number is missing or impossible, or the boxes are more than
/// fit into 384 MiB.
pub fn read_boxes(path: &Path) -> Result<HashMap<String, Vec<BoundingBox>>, Error> {
    boxes_within(path, BOXES_BYTES)
}

fn boxes_within(path: &Path, most: usize) -> Result<HashMap<String, Vec<BoundingBox>>, Error> {
    let mut held = 0;
    let mut boxes: HashMap<String, Vec<BoundingBox>> = HashMap::new();
    let mut table = Table::open(path, &["id", "label", "x", "y", "w", "h"])?;
    while let Some(row) = table.next()? {
        let one = row.and_then(|(line, values)| {
            Ok((
                values["id"].trim().to_owned(),
                bounding_box(&values).map_err(|what| BadRow { line, reason: "", what })?,
            ))
        });
        let (id, one) = one.map_err(|bad| bad.error(path))?;
        let line = table.line();
        held += ENTRY_BYTES + one.label.len();
        if !boxes.contains_key(&id) {
            held += ENTRY_BYTES + id.len();
        }
        if held > most {
            let what =
                format!("the boxes up to here take {} MiB of memory; pack the films in several parts", most >> 20);
            return Err(Error::Table { path: path.to_owned(), line, what });
        }
        boxes.entry(id).or_default().push(one);
    }
    Ok(boxes)
}

fn bounding_box(values: &HashMap<&str, &str>) -> Result<BoundingBox, String> {
    rectangle(values, ["x", "y", "w", "h"], values["label"].trim())
}

/// A box from the columns of its left, top, width and height.
pub(super) fn rectangle(values: &HashMap<&str, &str>, names: [&str; 4], label: &str) -> Result<BoundingBox, String> {
    let number = |name: &str| match values[name].trim().parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(format!("{name} is {:?}, not a number", values[name])),
    };
    let [x, y, w, h] = [number(names[0])?, number(names[1])?, number(names[2])?, number(names[3])?];
    if w <= 0.0 || h <= 0.0 {
        return Err(format!("a box of {w} by {h} pixels is empty or inverted; remove the line"));
    }
    Ok(BoundingBox { label: label.to_owned(), x, y, w, h })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_cover_nothing_are_refused() {
        let of = |w, h| {
            let values: HashMap<&str, &str> = [("x", "4"), ("y", "5"), ("w", w), ("h", h), ("label", "Mass")].into();
            bounding_box(&values)
        };
        assert_eq!(of("2", "3").map(|one| (one.x, one.y, one.w, one.h)), Ok((4.0, 5.0, 2.0, 3.0)));
        for (w, h) in [("-2", "3"), ("2", "-0.5"), ("0", "3"), ("2", "0")] {
            let wanted = format!("a box of {w} by {h} pixels is empty or inverted; remove the line");
            assert_eq!(of(w, h), Err(wanted));
        }
        assert!(of("NaN", "3").is_err() && of("2", "inf").is_err());
    }

    /// Rows where an editor shows them, whatever ends the lines, with empty lines between and lines within values.
    #[test]
    fn rows_have_the_line_they_begin_in() {
        let path = std::env::temp_dir().join(format!("g2d-lines-{}.csv", std::process::id()));
        for end in ["\n", "\r\n"] {
            for last in [end, ""] {
                let lines =
                    ["id,image,text", "a,a.png,x", "", "", "b,b.png,\"one", "two", "three\"", "c,c.png", "d,d.png,z"];
                std::fs::write(&path, lines.join(end) + last).unwrap();
                let rows = Pairs::open(&path).unwrap().map(|row| match row.unwrap() {
                    Ok(pair) => (pair.line, pair.id),
                    Err(bad) => (bad.line, bad.reason.to_owned()),
                });
                let wanted = [(2, "a"), (5, "b"), (8, "wrong number of values"), (9, "d")];
                assert!(rows.eq(wanted.map(|(line, what)| (line, what.to_owned()))), "lines end with {end:?}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn boxes_beyond_the_memory_for_them_are_refused_with_the_line() {
        let path = std::env::temp_dir().join(format!("g2d-boxes-{}.csv", std::process::id()));
        let rows: String = (0..8).map(|at| format!("film-{at},nodule,1,2,3,4\n")).collect();
        std::fs::write(&path, format!("id,label,x,y,w,h\n{rows}")).unwrap();
        let entry = 2 * ENTRY_BYTES + "film-0".len() + "nodule".len();
        let (fits, over) = (boxes_within(&path, 8 * entry), boxes_within(&path, 8 * entry - 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(fits.unwrap().len(), 8);
        let error = over.unwrap_err().to_string();
        assert!(error.contains("line 9") && error.contains("in several parts"), "{error}");
    }
}
