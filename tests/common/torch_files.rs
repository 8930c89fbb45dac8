//! Files as `torch.save` writes them, made here: a zip of stored files and a pickle of protocol 2.

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
    let number = |number: usize| [b"J", &(number as u32).to_le_bytes()[..]].concat();
    let parts = [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{storage}\n").into_bytes(),
        text(key),
        text("cpu"),
        number(held),
        b"tQ".to_vec(),
        number(offset),
        tuple(shape),
        tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ];
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

/// A state dict, each tensor with a storage of its own; below `under`, if that is not empty.
pub fn state_dict(tensors: &[Tensor], under: &str) -> Vec<u8> {
    let entry = |(key, (name, shape, numbers)): (usize, &Tensor)| {
        let mut strides = vec![1; shape.len()];
        for at in (1..shape.len()).rev() {
            strides[at - 1] = strides[at] * shape[at];
        }
        (name.clone(), view("FloatStorage", &key.to_string(), numbers.len(), 0, shape, &strides))
    };
    let mut object = dict(&tensors.iter().enumerate().map(entry).collect::<Vec<_>>());
    if !under.is_empty() {
        object = dict(&[(under.to_owned(), object)]);
    }
    file(&object, &tensors.iter().map(|(_, _, numbers)| numbers.clone()).collect::<Vec<_>>())
}
