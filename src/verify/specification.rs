//! What a whole step gave against the executable specification: `expected.safetensors` and `tolerance.json` of a case that
//! `tests/oracle/torch_g2d.py` made. The measure is its `errors`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};

use crate::error::Error;
use crate::program::Precision;

/// Shape and numbers of tensors, by name.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f64>)>;

/// What f64 may differ by.
pub const F64_RTOL: f64 = 1e-5;
/// The part of the largest rms of its kind below which a tensor counts as zero: in f64, and in float32.
pub const F64_FLOOR: f64 = 1e-6;
/// See [`F64_FLOOR`].
pub const FLOAT32_FLOOR: f64 = 1e-4;

fn rms(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len().max(1) as f64;
    (numbers.map(|number| number * number).sum::<f64>() / count).sqrt()
}

/// rms(got - want) / (rms(want) + floor) of every tensor of `want`, the floor being `part` of the largest rms among tensors
/// of its kind (out, grad, ...). Infinite for a tensor that `got` lacks, has in another shape, or fills with what is no
/// number.
pub fn errors<'a>(want: &'a Tensors, got: &Tensors, part: f64) -> BTreeMap<&'a str, f64> {
    let kind = |name: &'a str| name.split('.').next().unwrap_or(name);
    let mut floor: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, (_, numbers)) in want {
        let floor = floor.entry(kind(name)).or_default();
        *floor = floor.max(part * rms(numbers.iter().copied()));
    }
    let error = |name: &'a str, (shape, want): &(Vec<usize>, Vec<f64>)| {
        let Some((_, got)) = got.get(name).filter(|(other, _)| other == shape) else { return f64::INFINITY };
        let difference = rms(want.iter().zip(got).map(|(want, got)| got - want));
        let error = difference / (rms(want.iter().copied()) + floor[kind(name)] + 1e-12);
        if error.is_nan() { f64::INFINITY } else { error }
    };
    want.iter().map(|(name, tensor)| (name.as_str(), error(name, tensor))).collect()
}

/// Tensors beyond what is allowed, and the largest part of it that any one takes up.
pub fn beyond(errors: &BTreeMap<&str, f64>, allowed: impl Fn(&str) -> f64) -> (Vec<String>, f64) {
    let bad = errors.iter().filter(|&(&name, &error)| {
        let ok = error <= allowed(name);
        !ok
    });
    let bad = bad.map(|(name, error)| format!("{name}: error {error:.2e}, allowed {:.2e}", allowed(name))).collect();
    (bad, errors.iter().map(|(&name, &error)| error / allowed(name)).fold(0.0, f64::max))
}

/// Holds the file that a step of the case wrote to the specification: the largest part of what is allowed.
///
/// # Errors
/// If a tensor is further off, or a file cannot be read.
pub fn judge(case: &Path, result: &Path, precision: Precision) -> Result<f64, Error> {
    let tolerance = tolerance(&case.join("tolerance.json"))?;
    let (want, got) = (read(&case.join("expected.safetensors"))?, read(result)?);
    let (floor, rtol) = match precision {
        Precision::F64 => (F64_FLOOR, Some(F64_RTOL)),
        Precision::Exact => (FLOAT32_FLOOR, None),
        Precision::Mixed => {
            let what = "the specification has no tolerance of whole steps in mixed; take exact, or g2d verify --shadow";
            return Err(Error::Usage(what.into()));
        }
    };
    // A tensor without a tolerance is allowed nothing.
    let allowed = |name: &str| rtol.or_else(|| tolerance.get(name).copied()).unwrap_or(0.0);
    let (bad, part) = beyond(&errors(&want, &got, floor), allowed);
    match bad.first() {
        None => Ok(part),
        Some(first) => {
            let (bad, all, case) = (bad.len(), want.len(), case.display());
            Err(Error::Usage(format!("{bad} of {all} tensors of {case} are beyond what is allowed, the first {first}")))
        }
    }
}

fn tolerance(path: &Path) -> Result<BTreeMap<String, f64>, Error> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::Case { path: path.into(), why: error.to_string() })
}

fn read(path: &Path) -> Result<Tensors, Error> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let wrong = |why: String| Error::Case { path: path.into(), why };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(format!("no safetensors file: {error}")))?;
    let tensor = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let numbers = match view.dtype() {
            Dtype::F32 => view.data().as_chunks().0.iter().map(|&four| f32::from_le_bytes(four).into()).collect(),
            // Counts of batches.
            Dtype::I64 => view.data().as_chunks().0.iter().map(|&eight| i64::from_le_bytes(eight) as f64).collect(),
            other => return Err(wrong(format!("tensor `{name}` is {other:?}, neither F32 nor I64"))),
        };
        Ok((name, (view.shape().to_vec(), numbers)))
    };
    file.tensors().into_iter().map(tensor).collect()
}
