//! What is in a file of tensors, line by line.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tensors::{Format, Tensor, TensorFile};

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Type of its numbers, as safetensors calls it.
    pub dtype: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// BLAKE3 of its numbers row by row, hexadecimal: equal in every format that holds the same numbers in the same type.
    pub blake3: String,
    /// How many of its numbers are NaN or infinite.
    pub not_finite: usize,
}

/// A file of tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// What the file is.
    pub format: Format,
    /// Its length.
    pub bytes: usize,
    /// BLAKE3 of all of it, hexadecimal.
    pub blake3: String,
    /// The key under which the tensors stand, if not at the top.
    pub under: Option<&'static str>,
    /// Words that came with it.
    pub metadata: BTreeMap<String, String>,
    /// Its tensors, by name.
    pub tensors: Vec<Line>,
}

impl Contents {
    /// Of an open file.
    pub fn of(file: &TensorFile) -> Self {
        let line = |(name, tensor): (&String, &Tensor)| {
            let astray = |number: &f32| !number.is_finite();
            Line {
                name: name.clone(),
                dtype: format!("{:?}", tensor.dtype),
                shape: tensor.shape.clone(),
                blake3: blake3::hash(&file.data(tensor)).to_hex().to_string(),
                not_finite: file.reals(tensor).map_or(0, |numbers| numbers.iter().filter(|n| astray(n)).count()),
            }
        };
        Self {
            format: file.format,
            bytes: file.size(),
            blake3: file.digest(),
            under: file.under,
            metadata: file.metadata.clone(),
            tensors: file.tensors().iter().map(line).collect(),
        }
    }
}
