//! Annotations as COCO has them, a JSON file with `images`, `categories` and `annotations`, as rows of the table that MS-CXR
//! publishes beside it.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::stems::stem;
use crate::data::error::Error;
use crate::data::file;

/// A file longer than this is not read; the published one has about a megabyte.
const BYTES: u64 = 64 << 20;

#[derive(Deserialize)]
struct Coco {
    images: Vec<Image>,
    categories: Vec<Category>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: u64,
    file_name: String,
    path: String,
    width: f64,
    height: f64,
}

#[derive(Deserialize)]
struct Category {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: u64,
    category_id: u64,
    label_text: String,
    bbox: [f64; 4],
    split: Option<String>,
}

/// An annotation: the line it begins in, and the values of the table's columns.
pub(super) type Row = (u64, HashMap<&'static str, String>);

/// Reads the annotations in their order.
///
/// # Errors
/// If the file cannot be read or is no such JSON, or an annotation is of an image or a category that is not there.
pub(super) fn read(path: &Path) -> Result<Vec<Row>, Error> {
    let fault = |line: u64, what: String| Error::Table { path: path.to_owned(), line, what };
    let bytes = file::read(path, BYTES).map_err(Error::io("read", path))?;
    let coco: Coco = serde_json::from_slice(&bytes).map_err(|error| {
        let what = "this should be MS-CXR's JSON, with images, categories and annotations";
        fault(error.line() as u64, format!("{error}; {what}"))
    })?;
    let images: HashMap<u64, &Image> = coco.images.iter().map(|one| (one.id, one)).collect();
    let categories: HashMap<u64, &str> = coco.categories.iter().map(|one| (one.id, one.name.as_str())).collect();
    let row = |(one, line): (&Annotation, u64)| {
        let stranger = |what: &str, id| fault(line, format!("there is no {what} {id}, which this annotation is of"));
        let image = images.get(&one.image_id).ok_or_else(|| stranger("image", one.image_id))?;
        let category = categories.get(&one.category_id).ok_or_else(|| stranger("category", one.category_id))?;
        let [x, y, w, h] = one.bbox.map(|number| number.to_string());
        let (width, height) = (image.width.to_string(), image.height.to_string());
        let values = [
            ("dicom_id", stem(&image.file_name).to_owned()),
            ("category_name", (*category).to_owned()),
            ("label_text", one.label_text.clone()),
            ("path", image.path.clone()),
            ("x", x),
            ("y", y),
            ("w", w),
            ("h", h),
            ("image_width", width),
            ("image_height", height),
            ("split", one.split.clone().unwrap_or_default()),
        ];
        Ok((line, values.into()))
    };
    coco.annotations.iter().zip(lines(&bytes, "annotations")).map(row).collect()
}

/// The lines in which the objects begin that are in the list `key` of the outermost object.
fn lines(json: &[u8], key: &str) -> Vec<u64> {
    let (mut found, mut line, mut depth, mut within) = (Vec::new(), 1, 0, false);
    // Where the string began that is being read, and the last one that was read.
    let (mut begun, mut last, mut escaped): (Option<usize>, &[u8], bool) = (None, b"", false);
    for (at, &byte) in json.iter().enumerate() {
        if let Some(start) = begun {
            if byte == b'"' && !escaped {
                (begun, last) = (None, &json[start..at]);
            }
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => begun = Some(at + 1),
            b'\n' => line += 1,
            b'[' | b'{' => {
                within = if depth == 1 { byte == b'[' && last == key.as_bytes() } else { within };
                if within && depth == 2 && byte == b'{' {
                    found.push(line);
                }
                depth += 1;
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_have_the_lines_they_begin_in() {
        let json = b"{\"info\": {\"annotations\": [{}]},\n\"annotations\": [\n {\"a\": \"[{\\\"\n\"}, {\"b\": [{}]},\n\n{}],\n\"images\": [{}]}";
        assert_eq!(lines(json, "annotations"), [3, 3, 5]);
    }
}
