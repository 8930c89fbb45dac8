//! Files as `torch.save` writes them, made here: a zip of stored files and a pickle of protocol 2; before PyTorch 1.6 pickles in
//! a row.

use std::io::Write;

/// A tensor of f32: name, extents, numbers row by row.
pub type Tensor = (String, Vec<usize>, Vec<f32>);

/// A zip archive of stored files.
pub fn zip(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    let mut archive = rawzip::ZipArchiveWriter::new(&mut out);
    for (name, bytes) in files {
        let (mut entry, config) = archive.new_file(name.as_str()).start().expect("a file of the archive begins");
        let mut writer = config.wrap(&mut entry);
        writer.write_all(bytes).expect("memory can be written");
        let (_, output) = writer.finish().expect("a file of the archive ends");
        entry.finish(output).expect("a file of the archive ends");
    }
    archive.finish().expect("the archive ends");
    out.into_inner()
}

/// A string of a pickle.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn tuple(numbers: &[usize]) -> Vec<u8> {
    let each = numbers.iter().flat_map(|&number| [b"J", &(number as u32).to_le_bytes()[..]].concat());
    [&b"("[..], &each.collect::<Vec<u8>>(), b"t"].concat()
}

/// What a pickle says of one tensor: a view of the storage `key` of so many numbers of the type `storage`.
pub fn view(storage: &str, key: &str, held: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let tail = [number(offset), tuple(shape), tuple(strides), b"\x89ccollections\nOrderedDict\n)RtR".to_vec()].concat();
    [b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(), outside(storage, key, held), b"tQ".to_vec(), tail].concat()
}

/// The same of a part of the storage, `held` numbers and from `part` on `length`, as before PyTorch 0.4.
pub fn part_of_old(key: &str, held: usize, part: usize, length: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let part = [&b"("[..], &text("part"), &number(part), &number(length), b"ttQ"].concat();
    let tail = [number(0), tuple(shape), tuple(strides), b"tR".to_vec()].concat();
    let tensor =
        [b"ctorch._utils\n_rebuild_tensor\n((".to_vec(), outside("FloatStorage", key, held), part, tail].concat();
    // A parameter of the tensor, with its state of three behind.
    [&b"ctorch.nn.parameter\nParameter\n("[..], &tensor, b"tR(\x88\x89Ntb"].concat()
}

fn number(number: usize) -> Vec<u8> {
    [b"J", &(number as u32).to_le_bytes()[..]].concat()
}

/// What refers to a storage, but for what may follow.
fn outside(storage: &str, key: &str, held: usize) -> Vec<u8> {
    let parts = [text("storage"), format!("ctorch\n{storage}\n").into_bytes(), text(key), text("cpu"), number(held)];
    parts.concat()
}

/// A pickle of a dict of names and what was said of each.
pub fn dict(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = entries.iter().flat_map(|(name, object)| [text(name), object.clone()].concat()).collect();
    [&b"}("[..], &body, b"u"].concat()
}

/// A file whose pickle is `object`, with storages of f32.
pub fn file(object: &[u8], storages: &[Vec<f32>]) -> Vec<u8> {
    let pickle = [&b"\x80\x02"[..], object, b"."].concat();
    let mut files = vec![("archive/data.pkl".to_owned(), pickle), ("archive/byteorder".into(), b"little".to_vec())];
    for (key, numbers) in storages.iter().enumerate() {
        files.push((format!("archive/data/{key}"), numbers.iter().flat_map(|number| number.to_le_bytes()).collect()));
    }
    zip(&files)
}

/// The same as PyTorch 0.1.10 to 1.5 wrote it; keys of storages are their numbers.
pub fn legacy(object: &[u8], storages: &[Vec<f32>]) -> Vec<u8> {
    let machine = [&b"\x80\x02}("[..], &text("little_endian"), b"\x88u."].concat();
    let keys: Vec<u8> = (0..storages.len()).flat_map(|key| text(&key.to_string())).collect();
    let mut bytes = [
        &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."[..],
        &machine,
        b"\x80\x02",
        object,
        b".\x80\x02](",
        &keys,
        b"e.",
    ]
    .concat();
    for numbers in storages {
        bytes.extend((numbers.len() as u64).to_le_bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    bytes
}

/// A state dict, each tensor with a storage of its own; below `under`, if that is not empty.
pub fn state_dict(tensors: &[Tensor], under: &str) -> Vec<u8> {
    let (mut object, storages) = described(tensors);
    if !under.is_empty() {
        object = dict(&[(under.to_owned(), object)]);
    }
    file(&object, &storages)
}

/// The same as PyTorch 0.1.10 to 1.5 wrote it.
pub fn legacy_state_dict(tensors: &[Tensor]) -> Vec<u8> {
    let (object, storages) = described(tensors);
    legacy(&object, &storages)
}

/// A pickle of tensors by name, and their storages.
fn described(tensors: &[Tensor]) -> (Vec<u8>, Vec<Vec<f32>>) {
    let entry = |(key, (name, shape, numbers)): (usize, &Tensor)| {
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at];
        }
        (name.clone(), view("FloatStorage", &key.to_string(), numbers.len(), 0, shape, &strides))
    };
    let object = dict(&tensors.iter().enumerate().map(entry).collect::<Vec<_>>());
    (object, tensors.iter().map(|(_, _, numbers)| numbers.clone()).collect())
}
