//! Files of `torch.save` of PyTorch 0.1.10 to 1.5: five pickles in a row (a magic number, the protocol, what machine wrote it, the
//! object, the keys of its storages), then of each key how many numbers it has, in 8 bytes, and these.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{Object, Pickle};
use super::torch::{Held, held};

/// How pickles begin, and with them such files.
pub const PICKLE: &[u8] = b"\x80";
/// The magic number as a pickle writes it: 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
/// The one protocol that there was.
const PROTOCOL: i64 = 1001;
/// Where a tar archive says that it is one, and how.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Whether the bytes are those of a tar archive, as PyTorch wrote before 0.1.10.
pub fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1))
}

/// Reads names and places of the tensors in the bytes of a file that begins with [`PICKLE`].
///
/// # Errors
/// In words, if it is damaged or no such file, or wants to run code.
pub fn read(bytes: &[u8]) -> Result<Held, String> {
    let mut at = 0;
    let mut next = || {
        let (pickle, length) = Pickle::read(&bytes[at..])?;
        at += length;
        Ok::<_, String>((pickle, at))
    };
    let (_, end) = next()?;
    if !bytes[..end].windows(MAGIC.len()).any(|window| window == MAGIC) {
        return Err("it is a bare pickle and no file of torch.save: write it with torch.save(state_dict, FILE)".into());
    }
    if next()?.0.root() != &Object::Integer(PROTOCOL) {
        return Err(format!("its protocol is not {PROTOCOL}, the one that PyTorch had before 1.6: fetch it again"));
    }
    let (machine, _) = next()?;
    let little = machine.entries(machine.root()).any(|entry| entry == ("little_endian", &Object::Integer(1)));
    if !little {
        return Err("its numbers are not little-endian: save it on a little-endian machine".into());
    }
    let (object, _) = next()?;
    let (keys, end) = next()?;
    let storages = storages(bytes, end, &object, &keys)?;
    held(&object, |key| {
        storages
            .get(key)
            .cloned()
            .ok_or_else(|| format!("the numbers of storage {key} are missing in it: fetch it again"))
    })
}

/// Where the numbers of each key lie: from `at` on, in the order of `keys`.
fn storages<'a>(
    bytes: &[u8],
    mut at: usize,
    object: &Pickle,
    keys: &'a Pickle,
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let widths: HashMap<&str, usize> =
        object.storages().map(|storage| (&*storage.key, storage.dtype.bitsize() / 8)).collect();
    let Object::List(list) = keys.root() else { return Err("its list of storages is no list: fetch it again".into()) };
    let mut found = HashMap::new();
    for &key in list {
        let (key, width) = match keys.get(key) {
            Object::Text(key) => (&**key, widths.get(&**key)),
            _ => ("", None),
        };
        let width = *width.ok_or("its list of storages has one that no tensor lies in: fetch it again")?;
        let cut = || format!("it ends within the numbers of storage {key}: fetch it again");
        let (count, behind) = bytes[at..].split_first_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(width));
        let length = length.filter(|&length| length <= behind.len()).ok_or_else(cut)?;
        let start = at + count.len();
        at = start + length;
        if found.insert(key, start..at).is_some() {
            return Err(format!("its list of storages has {key} twice: fetch it again"));
        }
    }
    Ok(found)
}
