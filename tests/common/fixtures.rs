//! The cases in `tests/fixtures/`, and files of tensors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

/// Shape and numbers.
pub type Tensor = (Vec<usize>, Vec<f64>);

/// Shape and numbers by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Every tensor of a file.
pub fn read(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |dtype: Dtype, data: &[u8]| -> Vec<f64> {
        match dtype {
            Dtype::F32 => data.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four).into()).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|&eight| i64::from_le_bytes(eight) as f64).collect(),
            other => panic!("{}: {other:?} is not what a case holds", path.display()),
        }
    };
    let tensors = file.tensors().into_iter();
    tensors.map(|(name, view)| (name, (view.shape().to_vec(), numbers(view.dtype(), view.data())))).collect()
}

/// Root mean square.
pub fn rms(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len().max(1) as f64;
    (numbers.map(|number| number * number).sum::<f64>() / count).sqrt()
}

/// The folders of the fixtures that are training steps.
pub fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = paths.filter(|path| path.join("config.json").is_file()).collect();
    cases.sort();
    assert!(cases.len() >= 6, "the fixtures are {cases:?}");
    cases
}

/// A case's name.
pub fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}
