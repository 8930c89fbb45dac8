//! What lies beside a file of weights and tells what the shapes in it do not: a configuration, a vocabulary.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::WeightsError;

fn read(path: PathBuf) -> Result<Option<(PathBuf, Vec<u8>)>, WeightsError> {
    match fs::read(&path) {
        Ok(bytes) => Ok(Some((path, bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WeightsError::File { path, source }),
    }
}

/// The run's folder that a file lies in.
pub fn run_of(file: &Path) -> Option<&Path> {
    file.ancestors().skip(1).find(|folder| folder.join("manifest.json").is_file())
}

/// Those of `keys` of our configuration, with their values, that the `config.json` beside a file of weights tells, or that of the
/// run which the file lies in. One that transformers wrote tells `text_heads`.
///
/// # Errors
/// If it cannot be read, or describes another model than the text tower.
pub fn told(weights: &Path, keys: &[&'static str]) -> Result<Vec<(&'static str, Json)>, WeightsError> {
    let beside = read(weights.with_file_name("config.json"))?;
    let found = match run_of(weights) {
        Some(run) if beside.is_none() => read(run.join("config.json"))?,
        _ => beside,
    };
    let Some((path, bytes)) = found else { return Ok(Vec::new()) };
    let config: Json = serde_json::from_slice(&bytes)
        .map_err(|error| WeightsError::unusable(&path, format!("{error}; give the folder as it was written")))?;
    // A run's has the model's within it.
    let own = if config["model"].is_object() { &config["model"] } else { &config };
    if own["text_heads"].is_u64() {
        let value = |key: &&'static str| Some((*key, own[*key].clone())).filter(|(_, value)| value.is_u64());
        return Ok(keys.iter().filter_map(value).collect());
    }
    if !keys.contains(&"text_heads") {
        return Ok(Vec::new());
    }
    let heads = heads(&config).map_err(|why| WeightsError::unusable(&path, why))?;
    Ok(heads.map(|heads| ("text_heads", json!(heads))).into_iter().collect())
}

/// Heads by a `config.json` of transformers, which has to describe what the model computes.
fn heads(config: &Json) -> Result<Option<usize>, String> {
    let wanted = [
        ("model_type", json!("bert")),
        ("hidden_act", json!("gelu")),
        ("position_embedding_type", json!("absolute")),
        ("layer_norm_eps", json!(1e-12)),
        ("type_vocab_size", json!(2)),
        ("is_decoder", json!(false)),
    ];
    let wrong = |(key, wanted): (&str, Json)| {
        let given = &config[key];
        (!given.is_null() && *given != wanted).then(|| format!("{key} is {given}, {wanted} is needed"))
    };
    let wrong: Vec<String> = wanted.into_iter().filter_map(wrong).collect();
    if !wrong.is_empty() {
        return Err(format!("{}: it is another model than the text tower; give a BERT", wrong.join(", ")));
    }
    Ok(config["num_attention_heads"].as_u64().map(|heads| heads as usize))
}

/// The vocabulary beside a file of weights, `vocab.txt` or else `tokenizer.json`, or that of the run which the file lies in, and
/// how many pieces it has.
///
/// # Errors
/// If it cannot be read, or is none.
pub fn vocabulary(weights: &Path) -> Result<Option<(PathBuf, usize)>, WeightsError> {
    if let Some((path, bytes)) = read(weights.with_file_name("vocab.txt"))? {
        return Ok(Some((path, String::from_utf8_lossy(&bytes).lines().count())));
    }
    let found = match (read(weights.with_file_name("tokenizer.json"))?, run_of(weights)) {
        (None, Some(run)) => read(run.join("tokenizer.json"))?,
        (beside, _) => beside,
    };
    let Some((path, bytes)) = found else { return Ok(None) };
    let json: Json = serde_json::from_slice(&bytes).unwrap_or_default();
    let added = json["added_tokens"].as_array().into_iter().flatten().filter_map(|token| token["id"].as_u64());
    let ids =
        json["model"]["vocab"].as_object().into_iter().flat_map(|pieces| pieces.values()).filter_map(Json::as_u64);
    match ids.chain(added).max() {
        Some(last) => Ok(Some((path, (last as usize).saturating_add(1)))),
        None => Err(WeightsError::unusable(&path, "it is no tokenizer with pieces and their ids; give a BERT's")),
    }
}
