//! Weights for others: the names, files and orders that segmentation_models_pytorch, torchvision, transformers and ONNX read.

mod onnx;
mod protobuf;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, View};
use serde_json::{Value as Json, json};

use super::tensors::TensorFile;
use super::weights::{self, WeightsError};
use super::write_beside;
use crate::model::config::Config;

pub use onnx::onnx;

/// What is exported.
pub struct Model<'a> {
    /// Its weights, under published names.
    pub weights: &'a TensorFile,
    /// What it computes.
    pub config: &'a Config,
    /// Where it comes from, as is written into the file; no paths.
    pub provenance: BTreeMap<String, String>,
}

/// A tensor on its way out.
struct Outgoing<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Cow<'a, [u8]>,
}

impl View for Outgoing<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

type Tensors<'a> = BTreeMap<String, Outgoing<'a>>;

impl<'a> Model<'a> {
    /// Tensors whose names begin with one of `parts`, without `cut`. The numbers of all of them are finite.
    fn named(&self, parts: &[&str], cut: &str) -> Result<Tensors<'a>, WeightsError> {
        let mut astray = Vec::new();
        let mut found = BTreeMap::new();
        for (name, tensor) in self.weights.tensors() {
            let Some(short) = name.strip_prefix(cut).filter(|_| parts.iter().any(|part| name.starts_with(part))) else {
                continue;
            };
            if let Some(numbers) = self.weights.reals(tensor) {
                astray.extend(weights::Numbers::Real(numbers).astray(name));
            }
            let data = self.weights.data(tensor);
            found.insert(short.to_owned(), Outgoing { dtype: tensor.dtype, shape: tensor.shape.clone(), data });
        }
        if !astray.is_empty() {
            return Err(WeightsError::NotFinite { path: self.weights.path().into(), tensors: astray });
        }
        for part in parts {
            if !self.weights.tensors().keys().any(|name| name.starts_with(part)) {
                let why = format!(
                    "it has no tensor {part}*, which this format needs; export weights that were saved with it"
                );
                return Err(WeightsError::unusable(self.weights.path(), why));
            }
        }
        Ok(found)
    }

    /// Encoder, decoder and head; heads of several maps as one.
    fn unet(&self) -> Result<Tensors<'a>, WeightsError> {
        const PARTS: [&str; 3] = ["img_model.encoder.", "img_model.decoder.", "img_model.segmentation_head."];
        let mut found = self.named(&PARTS, "img_model.")?;
        for end in ["weight", "bias"] {
            let name = |at: usize| format!("segmentation_head.{at}.{end}");
            let Some(mut first) = found.remove(&name(0)) else { continue };
            for at in 1.. {
                let Some(next) = found.remove(&name(at)) else { break };
                first.shape[0] += next.shape[0];
                first.data.to_mut().extend_from_slice(&next.data);
            }
            found.insert(name(0), first);
        }
        Ok(found)
    }

    fn write(&self, tensors: Tensors<'_>, path: &Path) -> Result<(), WeightsError> {
        let mut words = self.provenance.clone();
        words.insert("format".into(), "pt".into()); // what transformers asks for
        weights::write(path, tensors, Some(words))
    }
}

/// Writes the state of `segmentation_models_pytorch.Unet("resnet50", classes=N)`, whole; N is the number of masks, mostly 1.
///
/// # Errors
/// If there is no decoder, a number is not finite, or the file cannot be written.
pub fn smp(model: &Model<'_>, path: &Path) -> Result<(), WeightsError> {
    model.write(model.unet()?, path)
}

/// Writes the state of `torchvision.models.resnet50`: without `fc`, which nothing here trains, or with one of zeros for so
/// many `classes`.
///
/// # Errors
/// If a number is not finite, or the file cannot be written.
pub fn torchvision(model: &Model<'_>, classes: Option<usize>, path: &Path) -> Result<(), WeightsError> {
    let mut tensors = model.named(&["img_model.encoder."], "img_model.encoder.")?;
    if let Some(classes) = classes {
        let features = 32 * model.config.resnet_width;
        for (name, shape) in [("fc.weight", vec![classes, features]), ("fc.bias", vec![classes])] {
            let data = Cow::Owned(vec![0; 4 * shape.iter().product::<usize>()]);
            tensors.insert(name.into(), Outgoing { dtype: Dtype::F32, shape, data });
        }
    }
    model.write(tensors, path)
}

/// Writes a folder that transformers opens: `config.json`, `model.safetensors` (BertModel without its pooler) and, from the
/// text of a `tokenizer.json`, `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`. Files appear whole; the folder is new.
///
/// # Errors
/// If the tokenizer is no WordPiece of at most as many pieces as the embedding has rows, or a file cannot be written.
pub fn hf(model: &Model<'_>, tokenizer: &str, folder: &Path) -> Result<(), WeightsError> {
    let config = model.config;
    let tensors = model.named(&["lm_model."], "lm_model.")?;
    let unusable = |why: String| WeightsError::unusable(model.weights.path(), why);
    let json: Json = serde_json::from_str(tokenizer).map_err(|error| unusable(format!("its tokenizer: {error}")))?;
    let pieces = pieces(&json["model"]).map_err(unusable)?;
    if pieces.len() > config.vocab_size {
        let rows = config.vocab_size;
        return Err(unusable(format!(
            "its tokenizer has {} pieces, its embedding {rows} rows: not of one run",
            pieces.len()
        )));
    }
    let about = json!({
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": config.vocab_size, "hidden_size": config.text_hidden,
        "num_hidden_layers": config.text_layers, "num_attention_heads": config.text_heads,
        "intermediate_size": config.text_intermediate, "max_position_embeddings": config.max_positions,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "position_embedding_type": "absolute",
        "torch_dtype": "float32",
    });
    let words = json!({
        "tokenizer_class": "BertTokenizer", "do_lower_case": json["normalizer"]["lowercase"].as_bool().unwrap_or(false),
        "model_max_length": config.max_positions, "tokenize_chinese_chars": true, "strip_accents": null,
        "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
    });
    let io = |path: PathBuf, source| WeightsError::File { path, source };
    super::folder_beside(
        folder,
        |source| io(folder.into(), source),
        |beside| {
            model.write(tensors, &beside.join("model.safetensors"))?;
            let files = [
                ("config.json", pretty(&about)),
                ("tokenizer_config.json", pretty(&words)),
                ("tokenizer.json", tokenizer.into()),
                ("vocab.txt", pieces.iter().flat_map(|piece| [piece, "\n"]).collect()),
            ];
            for (name, text) in files {
                write_beside(&beside.join(name), text.as_bytes()).map_err(|source| io(folder.join(name), source))?;
            }
            Ok(())
        },
    )
}

fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}

/// The pieces of a WordPiece model in the order of their ids, which have no gaps.
fn pieces(model: &Json) -> Result<Vec<&str>, String> {
    let vocabulary = model["vocab"].as_object().filter(|_| model["type"] == "WordPiece");
    let vocabulary = vocabulary.ok_or("its tokenizer is no WordPiece, which a BERT of transformers needs")?;
    let mut pieces = vec![""; vocabulary.len()];
    for (piece, id) in vocabulary {
        let place = id.as_u64().and_then(|id| pieces.get_mut(id as usize));
        *place.ok_or("the ids of its tokenizer have gaps, which vocab.txt cannot have")? = piece;
    }
    Ok(pieces)
}
