//! Files of `torch.save` since PyTorch 1.6: a zip archive of stored files, of which `data.pkl` says what the others hold.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use rawzip::{CompressionMethod, ZipArchive, ZipSliceArchive};

use super::pickle::{Object, Pickle, View};
use super::tensors::Tensor;

/// How the zip archive begins.
pub const ZIP: &[u8] = b"PK\x03\x04";
/// Where models are kept in files that hold more than one.
const MODELS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];
/// Most entries of an archive.
const MOST_FILES: usize = 1 << 16;

/// What a file holds.
pub struct Held {
    /// Names and tensors, in the file's order.
    pub tensors: Vec<(String, Tensor)>,
    /// The key under which they stood, if that was not the top.
    pub under: Option<&'static str>,
}

/// Reads names and places of the tensors in the bytes of a file that begins with [`ZIP`].
///
/// # Errors
/// In words, if it is damaged or no such file, or wants to run code.
pub fn read(bytes: &[u8]) -> Result<Held, String> {
    let files = Files::of(bytes)?;
    let (pickle, _) = Pickle::read(&bytes[files.named("data.pkl")?])?;
    held(&pickle, |key| files.named(&format!("data/{key}")))
}

/// Names and places of the tensors that a pickle describes; `storage` tells at which bytes of the file the numbers of a key lie.
///
/// # Errors
/// In words, if it describes none by name, or one that its storage does not hold.
pub(super) fn held(pickle: &Pickle, storage: impl Fn(&str) -> Result<Range<usize>, String>) -> Result<Held, String> {
    let root: HashMap<&str, &Object> = pickle.entries(pickle.root()).collect();
    let nested = |key: &&'static str| root.get(key).is_some_and(|inner| tensors(pickle, inner).next().is_some());
    // A container may hold tensors of its own beside the model's (a counter, a queue).
    let under = MODELS.into_iter().find(nested);
    let found: Vec<_> = tensors(pickle, under.map_or(pickle.root(), |key| root[key])).collect();
    if found.is_empty() {
        let mut keys: Vec<&str> = root.keys().copied().collect();
        keys.sort_unstable();
        keys.truncate(8);
        let keys = if keys.is_empty() { "nothing by name".into() } else { keys.join(", ") };
        let models = MODELS.join(", ");
        return Err(format!("it holds {keys}, and no tensors by name there or under {models}; save a state_dict"));
    }
    let mut tensors = Vec::new();
    let mut ranges = HashMap::new();
    for (name, view) in found {
        let range = match ranges.get(&view.storage.key) {
            Some(range) => Range::clone(range),
            None => {
                let range = storage(&view.storage.key)?;
                ranges.insert(view.storage.key.clone(), range.clone());
                range
            }
        };
        tensors.push((name.to_owned(), placed(view, range).map_err(|why| format!("{name} {why}"))?));
    }
    Ok(Held { tensors, under })
}

fn tensors<'a>(pickle: &'a Pickle, dict: &'a Object) -> impl Iterator<Item = (&'a str, &'a View)> {
    let tensor = |(name, object): (&'a str, &'a Object)| match object {
        Object::Tensor(view) => Some((name, &**view)),
        _ => None,
    };
    pickle.entries(dict).filter_map(tensor)
}

/// A view of a storage that lies at these bytes of the file.
fn placed(view: &View, storage: Range<usize>) -> Result<Tensor, String> {
    let width = (view.storage.dtype.bitsize() / 8) as u64;
    let bytes = (storage.end - storage.start) as u64;
    if view.storage.elements.checked_mul(width) != Some(bytes) {
        let (said, there) = (view.storage.elements, bytes / width);
        return Err(format!("lies in a storage of {said} numbers, of which {there} are there"));
    }
    let part = &view.storage.part;
    let held = part.end - part.start;
    if view.shape.len() != view.strides.len() {
        return Err("has other extents than strides".into());
    }
    let elements = view.shape.iter().try_fold(1u64, |product, &extent| product.checked_mul(extent));
    let last = view.shape.iter().zip(&view.strides).try_fold(view.offset, |last, (&extent, &stride)| {
        extent.saturating_sub(1).checked_mul(stride)?.checked_add(last)
    });
    let empty = elements == Some(0);
    match (elements, last) {
        (Some(elements), Some(last)) if elements <= held && (empty || last < held) => {}
        _ => return Err(format!("reaches beyond its storage of {held} numbers, or overlaps itself")),
    }
    let narrow = |numbers: &[u64]| numbers.iter().map(|&number| number as usize).collect();
    let start = if empty { storage.start } else { storage.start + ((part.start + view.offset) * width) as usize };
    Ok(Tensor { dtype: view.storage.dtype, shape: narrow(&view.shape), strides: narrow(&view.strides), start })
}

/// The files in an archive, by their names below its one folder.
struct Files<'a> {
    archive: ZipSliceArchive<&'a [u8]>,
    entries: HashMap<Vec<u8>, rawzip::ZipArchiveEntryWayfinder>,
    folder: Vec<u8>,
}

impl<'a> Files<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        let damaged = |error: rawzip::Error| format!("it is a damaged or cut zip archive ({error}): fetch it again");
        let archive = ZipArchive::from_slice(bytes).map_err(damaged)?;
        let (mut entries, mut ranges, mut folder) = (HashMap::new(), Vec::new(), None);
        for entry in archive.entries() {
            let entry = entry.map_err(damaged)?;
            let name = entry.file_path().as_bytes().to_vec();
            if entries.len() == MOST_FILES {
                return Err(format!("it is a zip archive of more than {MOST_FILES} files: not one of torch"));
            }
            if entry.compression_method() != CompressionMethod::STORE {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(format!("{name} in it is compressed, which torch does not do: unpack and zip it with -0"));
            }
            ranges.push(archive.get_entry(entry.wayfinder()).map_err(damaged)?.compressed_data_range());
            if let Some(root) = name.strip_suffix(b"data.pkl") {
                folder = Some(root.to_vec());
            }
            if entries.insert(name, entry.wayfinder()).is_some() {
                return Err("two files in it have one name: fetch it again".into());
            }
        }
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err("files in it overlap: fetch it again".into());
        }
        let folder = folder.ok_or("it is a zip archive without data.pkl: not a file of torch.save")?;
        let files = Self { archive, entries, folder };
        match files.named("byteorder").map(|order| &bytes[order]) {
            Ok(order) if order != b"little" => {
                Err("its numbers are big-endian: save it on a little-endian machine".into())
            }
            _ => Ok(files),
        }
    }

    /// Where the bytes of a file lie; their checksum is right.
    fn named(&self, name: &str) -> Result<Range<usize>, String> {
        let path: Vec<u8> = [&self.folder, name.as_bytes()].concat();
        let missing = || format!("{name} is missing in it: fetch it again");
        let entry = self.archive.get_entry(*self.entries.get(&path).ok_or_else(missing)?);
        let entry = entry.map_err(|error| format!("{name} in it is cut ({error}): fetch it again"))?;
        let mut reader = entry.verifying_reader(entry.data());
        io::copy(&mut reader, &mut io::sink())
            .map_err(|error| format!("{name} in it is damaged ({error}): fetch it again"))?;
        let (start, end) = entry.compressed_data_range();
        Ok(start as usize..end as usize)
    }
}
