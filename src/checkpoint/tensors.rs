//! Files of named tensors as others write them: safetensors, what `torch.save` makes, and graphs of ONNX. Everything is checked when a file
//! is opened; numbers are converted when they are asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};

use super::WeightsError;
use super::{legacy, onnx, torch};

/// Longest file that is read, bytes.
const LONGEST: u64 = 1 << 34;
/// Most extents of a tensor, as in torch.
pub(super) const MOST_EXTENTS: usize = 64;
/// Tensors may share numbers, as tied weights do; all together they hold at most so many times the file's bytes.
const SHARED: u64 = 8;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// A zip archive with a pickle, or before PyTorch 1.6 a row of pickles, by `torch.save`.
    Torch,
    /// A graph, whose initialisers are the tensors.
    Onnx,
}

/// A tensor as it lies in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Extents.
    pub shape: Vec<usize>,
    /// From one to the next along each extent, in numbers.
    pub(super) strides: Vec<usize>,
    /// Its first byte in the file.
    pub(super) start: usize,
}

impl Tensor {
    /// One whose numbers lie row by row from a byte on.
    pub(super) fn rows(dtype: Dtype, shape: Vec<usize>, start: usize) -> Self {
        let mut strides = vec![1usize; shape.len()];
        for at in (1..strides.len()).rev() {
            strides[at - 1] = strides[at].saturating_mul(shape[at]);
        }
        Self { dtype, shape, strides, start }
    }

    /// How many numbers it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.elements() * self.dtype.bitsize() / 8
    }

    fn contiguous(&self) -> bool {
        let mut wanted = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&extent, &stride)| {
            let fits = extent == 1 || stride == wanted;
            wanted *= extent;
            fits
        }) || self.elements() == 0
    }
}

/// An open file of tensors, in memory.
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Tensor>,
    /// What it is.
    pub format: Format,
    /// Words that came with it.
    pub metadata: BTreeMap<String, String>,
    /// The key of the file under which the tensors stood, if they were not at the top.
    pub under: Option<&'static str>,
}

impl TensorFile {
    /// Opens a file, whatever it is called.
    ///
    /// # Errors
    /// If it cannot be read, is cut or damaged, is neither safetensors, by `torch.save` nor ONNX, or wants to run code.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let fail = |source| WeightsError::File { path: path.into(), source };
        let bytes = whole(path).map_err(fail)?;
        let file = Self {
            path: path.into(),
            bytes: Vec::new(),
            tensors: BTreeMap::new(),
            format: Format::Torch,
            metadata: BTreeMap::new(),
            under: None,
        };
        let unusable = |why: String| WeightsError::unusable(path, why);
        // A length of eight bytes and JSON: safetensors, whatever the length begins with.
        let header = bytes.get(8) == Some(&b'{');
        let file = if bytes.starts_with(torch::ZIP) {
            let held = torch::read(&bytes).map_err(unusable)?;
            Self { tensors: unique(held.tensors).map_err(unusable)?, under: held.under, ..file }
        } else if bytes.starts_with(legacy::PICKLE) && !header {
            let held = legacy::read(&bytes).map_err(unusable)?;
            Self { tensors: unique(held.tensors).map_err(unusable)?, under: held.under, ..file }
        } else if legacy::is_tar(&bytes) && !header {
            return Err(unusable(
                "it is a tar archive, as PyTorch wrote before 0.1.10; where you trust it, write it anew in Python: \
                 torch.save(torch.load(OLD, weights_only=False), NEW)"
                    .into(),
            ));
        } else if bytes.starts_with(onnx::START) && !header {
            let (tensors, metadata) = onnx::read(&bytes).map_err(unusable)?;
            Self { tensors: unique(tensors).map_err(unusable)?, metadata, format: Format::Onnx, ..file }
        } else {
            let (tensors, metadata) = safetensors(&bytes).map_err(|source| match bytes.get(8) {
                Some(b'{') => WeightsError::Damaged { path: path.into(), source },
                _ => unusable("it is neither safetensors, a file of torch.save nor ONNX; give one of these".into()),
            })?;
            Self { tensors, metadata, format: Format::Safetensors, ..file }
        };
        let all: u64 = file.tensors.values().map(|tensor| tensor.bytes() as u64).sum();
        if all > SHARED * bytes.len() as u64 {
            return Err(unusable(format!("its {} tensors overlap: save them apart", file.tensors.len())));
        }
        Ok(Self { bytes, ..file })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// BLAKE3 of the whole file, hexadecimal.
    pub fn digest(&self) -> String {
        blake3::hash(&self.bytes).to_hex().to_string()
    }

    /// Names and tensors, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Bytes of a tensor's numbers, row by row, little-endian.
    pub fn data(&self, tensor: &Tensor) -> Cow<'_, [u8]> {
        if tensor.contiguous() {
            return Cow::Borrowed(&self.bytes[tensor.start..][..tensor.bytes()]);
        }
        let width = tensor.dtype.bitsize() / 8;
        let mut gathered = Vec::with_capacity(tensor.bytes());
        let mut index = vec![0; tensor.shape.len()];
        for _ in 0..tensor.elements() {
            let offset: usize = index.iter().zip(&tensor.strides).map(|(at, stride)| at * stride).sum();
            gathered.extend_from_slice(&self.bytes[tensor.start + offset * width..][..width]);
            for (at, &extent) in index.iter_mut().zip(&tensor.shape).rev() {
                *at += 1;
                if *at < extent {
                    break;
                }
                *at = 0;
            }
        }
        Cow::Owned(gathered)
    }

    /// A tensor's numbers, row by row, if they are real.
    pub fn reals(&self, tensor: &Tensor) -> Option<Vec<f32>> {
        reals(tensor.dtype, &self.data(tensor))
    }

    /// A tensor's numbers, row by row, if they are counts.
    pub fn counts(&self, tensor: &Tensor) -> Option<Vec<i64>> {
        counts(tensor.dtype, &self.data(tensor))
    }
}

/// Real numbers of a type as f32; `None` if the type is no real one.
pub(super) fn reals(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F64 => each(bytes, |eight| f64::from_le_bytes(eight) as f32),
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::BF16 => each(bytes, |two| bf16::from_le_bytes(two).to_f32()),
        Dtype::F16 => each(bytes, |two| f16::from_le_bytes(two).to_f32()),
        _ => return None,
    })
}

/// Integers of a type; `None` if the type is none that counts have.
pub(super) fn counts(dtype: Dtype, bytes: &[u8]) -> Option<Vec<i64>> {
    Some(match dtype {
        Dtype::I64 => each(bytes, i64::from_le_bytes),
        Dtype::I32 => each(bytes, |four| i32::from_le_bytes(four).into()),
        _ => return None,
    })
}

/// Every number of `BYTES` bytes; a file does not align them.
fn each<const BYTES: usize, T>(bytes: &[u8], number: impl Fn([u8; BYTES]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&chunk| number(chunk)).collect()
}

type Parts = (BTreeMap<String, Tensor>, BTreeMap<String, String>);

fn safetensors(bytes: &[u8]) -> Result<Parts, safetensors::SafeTensorError> {
    // Every range is checked against the file.
    let (header, metadata) = SafeTensors::read_metadata(bytes)?;
    let words = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let start = 8 + header + info.data_offsets.0;
        (name, Tensor::rows(info.dtype, info.shape.clone(), start))
    });
    Ok((tensors.collect(), words))
}

fn unique(tensors: Vec<(String, Tensor)>) -> Result<BTreeMap<String, Tensor>, String> {
    let count = tensors.len();
    let map: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    if map.len() == count { Ok(map) } else { Err("two of its tensors have one name: save them apart".into()) }
}

/// Reads a regular file.
fn whole(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before opening: a pipe nobody writes to would wait here.
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no file; name one"));
    }
    if about.len() > LONGEST {
        return Err(io::Error::other(format!("{} bytes are too many for weights", about.len())));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(about.len() as usize)?;
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
