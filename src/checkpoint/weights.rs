//! Reads files of weights under published names, safetensors or `torch.save`'s, and writes safetensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensorError, View, serialize_to_file};

use super::names;
use super::tensors::{Tensor, TensorFile};
use crate::base::Kind;
use crate::program::Program;
use crate::program::record::State;

/// Numbers of one state in the engine's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Of parameters, moments and running statistics.
    Real(Vec<f32>),
    /// Of counts.
    Index(Vec<i32>),
}

/// What a file gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Position in [`Program::states`] and numbers, in the order asked for.
    pub tensors: Vec<(usize, Numbers)>,
    /// What was passed over, a line each.
    pub notes: Vec<String>,
}

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file system said no.
    #[error("{path}: {source}{}", crate::base::hint(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Not a safetensors file, or not a whole one.
    #[error("{path} is damaged or no safetensors file ({source}): fetch or save it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SafeTensorError,
    },
    /// A file that is read, but cannot be used.
    #[error("{path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// Numbers that are not finite (NaN or infinity), or beyond f32.
    #[error(
        "{path} holds numbers that are not finite{}: use weights from before the run that made them went astray",
        list("tensors", tensors)
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Names of the tensors, each with how many of its numbers are not finite.
        tensors: Vec<String>,
    },
    /// Tensors that do not fit the model, all of them.
    #[error(
        "{path} does not fit this model{}{}{}: use weights of the same configuration (g2d pretrain: --config with the config.json of their run)",
        list("missing", missing),
        list("unexpected", unexpected),
        list("misshapen", misshapen)
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Names the model needs and the file lacks.
        missing: Vec<String>,
        /// Names of the file that the model does not know.
        unexpected: Vec<String>,
        /// Of other shape or type, each with what it is and what is needed.
        misshapen: Vec<String>,
    },
}

impl WeightsError {
    /// A file that cannot be used, and why.
    pub(super) fn unusable(path: &Path, why: impl Into<String>) -> Self {
        Self::Unusable { path: path.into(), why: why.into() }
    }
}

/// `; 12 missing: a, b, ...`, the first few by name; nothing if there are none.
pub(super) fn list(what: &str, names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    match names.len() {
        0 => String::new(),
        count => format!("; {count} {what}: {}{more}", names[..count.min(SHOWN)].join(", ")),
    }
}

/// What is said of tensors that a file holds besides those that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They are refused, but for those known to be unused: the file is not of this model.
    Refused,
    /// They are left alone: a part of the model is wanted.
    Left,
}

/// Names of the tensors in a file.
pub fn tensor_names(path: &Path) -> Result<Vec<String>, WeightsError> {
    Ok(TensorFile::open(path)?.tensors().keys().cloned().collect())
}

/// Reads the states at the positions `wanted` (see [`names::weights`]) from a file that holds these and perhaps `others`.
/// Takes f64, f32, bf16 and f16; every number must be finite.
pub fn load(path: &Path, program: &Program, wanted: &[usize], others: Others) -> Result<Loaded, WeightsError> {
    let file = TensorFile::open(path)?;
    let mut others_left: BTreeSet<&str> = file.tensors().keys().map(String::as_str).collect();
    let (mut found, mut missing, mut misshapen) = (Vec::new(), Vec::new(), Vec::new());
    for &at in wanted {
        let state = &program.states[at];
        others_left.remove(state.name.as_str());
        match file.get(&state.name).map(|tensor| read(program, state, &file, tensor)) {
            None => missing.push(state.name.clone()),
            Some(Err(why)) => misshapen.push(why),
            Some(Ok(numbers)) => found.push((at, numbers)),
        }
    }
    let mut rest: Vec<String> = others_left.into_iter().map(String::from).collect();
    if others == Others::Left {
        rest.clear();
    }
    let (passed, unexpected): (Vec<String>, Vec<String>) =
        rest.into_iter().partition(|name| names::unused(program, name));
    if !(missing.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
        return Err(WeightsError::Mismatch { path: path.into(), missing, unexpected, misshapen });
    }
    let tensors: Vec<String> =
        found.iter().filter_map(|(at, numbers)| numbers.astray(&program.states[*at].name)).collect();
    if !tensors.is_empty() {
        return Err(WeightsError::NotFinite { path: path.into(), tensors });
    }
    let note = format!("{}: passed over what nothing uses{}", path.display(), list("tensors", &passed));
    Ok(Loaded { tensors: found, notes: if passed.is_empty() { Vec::new() } else { vec![note] } })
}

/// The numbers that a file's tensor gives a state, or what is wrong with it.
fn read(program: &Program, state: &State, file: &TensorFile, tensor: &Tensor) -> Result<Numbers, String> {
    let wanted = names::file_shape(program, state);
    let misfit = || format!("{} is {:?} {:?}, {wanted:?} is needed", state.name, tensor.dtype, tensor.shape);
    // A count may also be written as one number of shape [1].
    let scalar = wanted.is_empty() && tensor.shape == [1];
    if tensor.shape != wanted && !scalar {
        return Err(misfit());
    }
    let numbers = match program.spec(state.value).kind {
        Kind::Index => file.counts(tensor).map(|counts| Numbers::counts(&state.name, counts)).transpose()?,
        _ => file.reals(tensor).map(|numbers| Numbers::real(program, state, numbers)),
    };
    numbers.ok_or_else(misfit)
}

impl Numbers {
    /// Of real numbers in a file's order.
    pub(super) fn real(program: &Program, state: &State, numbers: Vec<f32>) -> Self {
        Self::Real(names::from_file(state.layout, program.spec(state.value).shape, numbers))
    }

    /// Of counts.
    pub(super) fn counts(name: &str, counts: Vec<i64>) -> Result<Self, String> {
        let counts: Result<Vec<i32>, _> = counts.into_iter().map(i32::try_from).collect();
        counts.map(Self::Index).map_err(|_| format!("{name} is a count beyond 32 bits"))
    }

    /// Name and how many are not finite, if any are not.
    pub(super) fn astray(&self, name: &str) -> Option<String> {
        let Self::Real(numbers) = self else { return None };
        let count = numbers.iter().filter(|number| !number.is_finite()).count();
        (count > 0).then(|| format!("{name} ({count} of {})", numbers.len()))
    }
}

/// A tensor on its way into a file.
struct Outgoing<'a> {
    state: &'a State,
    program: &'a Program,
    shape: Vec<usize>,
    numbers: &'a Numbers,
}

impl View for Outgoing<'_> {
    fn dtype(&self) -> Dtype {
        match self.numbers {
            Numbers::Real(_) => Dtype::F32,
            Numbers::Index(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.numbers {
            Numbers::Real(numbers) => {
                let shape = self.program.spec(self.state.value).shape;
                let ordered = names::to_file(self.state.layout, shape, numbers.clone());
                ordered.into_iter().flat_map(f32::to_le_bytes).collect()
            }
            Numbers::Index(numbers) => numbers.iter().flat_map(|&count| i64::from(count).to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        match self.numbers {
            Numbers::Real(numbers) => 4 * numbers.len(),
            Numbers::Index(numbers) => 8 * numbers.len(),
        }
    }
}

/// Writes states (position and numbers) as f32, counts as i64, under their names. The file appears whole or not at
/// all: it is written beside `path`, synced and renamed.
///
/// ```
/// use g2d::checkpoint::{Numbers, Others, load, save, tensor_names};
/// use g2d::program::Recorder;
/// use g2d::program::record::Init;
///
/// let mut r = Recorder::new();
/// r.scope("head", |r| r.parameter("bias", [3], Init::Constant(0.0)));
/// let program = r.finish();
/// let path = std::env::temp_dir().join(format!("g2d-weights-{}.safetensors", std::process::id()));
/// let numbers = Numbers::Real(vec![1.0, 2.0, 3.0]);
///
/// save(&path, &program, &[(0, numbers.clone())])?;
/// assert_eq!(tensor_names(&path)?, ["head.bias"]);
/// assert_eq!(load(&path, &program, &[0], Others::Refused)?.tensors, [(0, numbers)]);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), g2d::checkpoint::WeightsError>(())
/// ```
pub fn save(path: &Path, program: &Program, tensors: &[(usize, Numbers)]) -> Result<(), WeightsError> {
    let outgoing = tensors.iter().map(|(at, numbers)| {
        let state = &program.states[*at];
        (state.name.as_str(), Outgoing { state, program, shape: names::file_shape(program, state), numbers })
    });
    write(path, outgoing, None)
}

/// Writes tensors and words, beside `path`, synced and renamed.
pub(super) fn write<V: View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (impl AsRef<str> + Ord + std::fmt::Display, V)>,
    words: Option<BTreeMap<String, String>>,
) -> Result<(), WeightsError> {
    let path = &super::place(path).map_err(|source| WeightsError::File { path: path.into(), source })?;
    let beside = super::beside(path);
    // The library makes a temporary file, which nobody else may read: it gets the permissions of any new file.
    let permissions = File::create(&beside).and_then(|file| Ok(file.metadata()?.permissions()));
    let written = permissions.and_then(|permissions| {
        let unordered: Option<HashMap<String, String>> =
            words.as_ref().map(|words| words.clone().into_iter().collect());
        serialize_to_file(tensors, unordered, &beside).map_err(|error| match error {
            SafeTensorError::IoError(error) => error,
            other => io::Error::other(other.to_string()),
        })?;
        if let Some(words) = &words {
            put_in_order(&beside, words)?;
        }
        fs::set_permissions(&beside, permissions)?;
        File::open(&beside)?.sync_all()?;
        fs::rename(&beside, path)?;
        sync_directory(path)
    });
    written.map_err(|source| {
        // What is left beside is of no use; if it cannot be removed either, the first error is the one to tell.
        let _ = fs::remove_file(&beside);
        WeightsError::File { path: path.into(), source }
    })
}

/// The library writes words in an order of chance. Writes them once more over themselves in theirs, so that the same weights
/// are the same bytes.
fn put_in_order(path: &Path, words: &BTreeMap<String, String>) -> io::Result<()> {
    const BEFORE: &[u8] = b"{\"__metadata__\":";
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut head = [0; 8 + BEFORE.len()];
    file.read_exact(&mut head)?;
    if head[8..] != *BEFORE {
        return Err(io::Error::other("words do not come first in its header"));
    }
    file.write_all(serde_json::to_string(words)?.as_bytes())
}

/// Makes a rename last; only Unix has directories that can be synced.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if cfg!(unix) && !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::base::Spec;
    use crate::program::Recorder;
    use crate::program::record::{FileLayout, Init, Role};

    fn program() -> Program {
        let mut r = Recorder::new();
        let role = Role::Parameter { trainable: true };
        r.state("conv.weight", Spec::exact([2, 1, 3, 2]), role, Init::Constant(0.0), FileLayout::Conv2d);
        r.state("proj.weight", Spec::exact([2, 3]), role, Init::Constant(0.0), FileLayout::Conv1d);
        r.state("batches", Spec::index([1]), Role::Statistic, Init::Constant(0.0), FileLayout::Same);
        r.finish()
    }

    fn numbers() -> Vec<(usize, Numbers)> {
        vec![
            (0, Numbers::Real((0..12).map(|x| x as f32).collect())),
            (1, Numbers::Real((0..6).map(|x| 0.5 * x as f32).collect())),
            (2, Numbers::Index(vec![7])),
        ]
    }

    /// A directory of its own for one test, removed at its end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("g2d-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn saved_weights_load_and_nothing_is_left_beside() {
        let (directory, program) = (Directory::new("round-trip"), program());
        let path = directory.0.join("w.safetensors");
        save(&path, &program, &numbers()).unwrap();
        assert_eq!(
            load(&path, &program, &[0, 1, 2], Others::Refused).unwrap(),
            Loaded { tensors: numbers(), notes: vec![] }
        );
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("conv.weight").unwrap().shape(), [2, 2, 1, 3]);
        assert_eq!(file.tensor("proj.weight").unwrap().shape(), [2, 3, 1]);
        assert_eq!(file.tensor("batches").unwrap().shape(), [0; 0]);
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
        let other = directory.0.join("other");
        File::create(&other).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions(), fs::metadata(&other).unwrap().permissions());
        assert!(save(&directory.0.join("no/where"), &program, &numbers()).is_err());
    }

    #[test]
    fn everything_that_does_not_fit_is_named_at_once() {
        let (directory, program) = (Directory::new("mismatch"), program());
        let path = directory.0.join("w.safetensors");
        let mut other = Recorder::new();
        for (name, dims) in [("proj.weight", [2, 3]), ("extra", [1, 1]), ("pseudo_conv.weight", [1, 1])] {
            other.parameter(name, dims, Init::Constant(0.0));
        }
        let other = other.finish();
        let tensors: Vec<_> = [6, 1, 1].into_iter().map(|n| Numbers::Real(vec![0.0; n])).enumerate().collect();
        save(&path, &other, &tensors).unwrap();
        let error = load(&path, &program, &[0, 1, 2], Others::Refused).unwrap_err();
        let WeightsError::Mismatch { missing, unexpected, misshapen, .. } = &error else { panic!("{error}") };
        assert_eq!((missing.len(), unexpected.as_slice(), misshapen.len()), (2, &["extra".to_string()][..], 1));
        let text = error.to_string();
        assert!(text.contains("2 missing: conv.weight, batches") && text.contains("[2, 3, 1] is needed"), "{text}");
    }

    #[test]
    fn unused_tensors_are_passed_over_with_a_note() {
        let (directory, mut r) = (Directory::new("unused"), Recorder::new());
        for name in ["w", "pseudo_conv.weight", "lm_model.pooler.dense.bias"] {
            r.parameter(name, [1], Init::Constant(0.0));
        }
        let (program, path) = (r.finish(), directory.0.join("w.safetensors"));
        let tensors: Vec<_> = (0..3).map(|at| (at, Numbers::Real(vec![1.0]))).collect();
        save(&path, &program, &tensors).unwrap();
        let loaded = load(&path, &program, &[0], Others::Refused).unwrap();
        assert_eq!((loaded.tensors.len(), loaded.notes.len()), (1, 1));
        assert!(loaded.notes[0].contains("pseudo_conv.weight"));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_by_name() {
        let (directory, program) = (Directory::new("not-finite"), program());
        let path = directory.0.join("w.safetensors");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut tensors = numbers();
            tensors[1].1 = Numbers::Real(vec![0.0, bad, 1.0, 2.0, bad, 3.0]);
            save(&path, &program, &tensors).unwrap();
            let text = load(&path, &program, &[0, 1, 2], Others::Refused).unwrap_err().to_string();
            assert!(text.contains("w.safetensors") && text.contains("proj.weight (2 of 6)"), "{text}");
        }
    }

    #[test]
    fn damaged_files_are_refused_without_panic() {
        let (directory, program) = (Directory::new("damaged"), program());
        let path = directory.0.join("w.safetensors");
        save(&path, &program, &numbers()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(load(&path, &program, &[0, 1, 2], Others::Refused).is_err(), "{length} bytes were taken");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs::write(&path, &bytes).unwrap();
            // A changed number cannot be seen; it must only not panic.
            let _ = load(&path, &program, &[0, 1, 2], Others::Refused);
        }
        assert!(
            load(&directory.0.join("none"), &program, &[0], Others::Refused).unwrap_err().to_string().contains("none")
        );
        assert!(load(&directory.0, &program, &[0], Others::Refused).is_err());
    }
}
