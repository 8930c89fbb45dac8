//! `g2d inspect`: what is in a file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::pack::with_bar;
use super::store::local;
use crate::base::counted;
use crate::checkpoint::beside::run_of;
use crate::checkpoint::import::weights_file;
use crate::checkpoint::inspect::Contents;
use crate::checkpoint::{TensorFile, folder};
use crate::data::Dataset;
use crate::data::dataset::MANIFEST;
use crate::data::pack::Progress;
use crate::data::shard::Shard;
use crate::error::Error;

/// Shows what is in a file: names, shapes, types, digests and where it comes from. Nothing in it is executed.
#[derive(Args)]
#[command(
    after_help = "Reads checkpoints, exports, safetensors, files of torch.save (.pth, .bin, .ckpt), ONNX, shards and packed data \
    sets. Digests are BLAKE3; a tensor's is of its numbers, so the same numbers have it in every format.\n\nExamples:\n  \
    g2d inspect runs/1                                the newest checkpoint\n  \
    g2d inspect resnet50.pth\n  \
    g2d inspect unet.safetensors --json\n  \
    g2d inspect shards/shard-00000.g2d"
)]
pub struct Inspect {
    /// The file, or a folder: a run, a checkpoint, a packed data set, or one that transformers wrote;
    /// or a packed data set as s3://bucket/folder.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let path = &local(&self.path)?;
        let found = if path.join(MANIFEST).is_file() {
            dataset(path)?
        } else if is_shard(path) {
            shard(path)?
        } else {
            tensors(&weights_file(path)?)?
        };
        if self.json {
            println!("{found}");
        } else {
            print!("{}", text(&found));
        }
        Ok(())
    }
}

/// Where weights come from, as far as the folders that they lie in say; no paths and no names of films.
pub(super) fn provenance(weights: &Path) -> BTreeMap<String, String> {
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    let mut found = BTreeMap::new();
    let mut take = |json: Option<Value>, keys: &[&str]| {
        for key in keys {
            match json.as_ref().map(|json| &json[*key]) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => drop(found.insert(format!("g2d.{key}"), text.clone())),
                Some(other) => drop(found.insert(format!("g2d.{key}"), other.to_string())),
            }
        }
    };
    let run = run_of(weights).map(|run| run.join("manifest.json"));
    take(run.and_then(read), &["preset", "recipe", "seed", "schedule.steps", "data_digest", "device", "moves"]);
    take(read(weights.with_file_name("progress.json")), &["version", "step"]);
    found
}

fn tensors(path: &Path) -> Result<Value, Error> {
    let mut provenance = provenance(path);
    if let Some(checkpoint) = path.parent().filter(|folder| folder.join("digests.b3").is_file()) {
        folder::verify(checkpoint)?;
        provenance.insert("g2d.digests".into(), "agree".into());
    }
    let mut found = serde_json::to_value(Contents::of(&TensorFile::open(path)?)).unwrap_or_default();
    for (key, value) in provenance {
        found["metadata"][key] = value.into();
    }
    found["path"] = path.display().to_string().into();
    Ok(found)
}

fn is_shard(path: &Path) -> bool {
    let mut magic = [0; 8];
    // Of a pipe nothing is read: it might never end.
    path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"G2DSHARD"
}

fn shard(path: &Path) -> Result<Value, Error> {
    let shard = Shard::open(path, usize::MAX)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let known = folder.join(MANIFEST).is_file().then(|| Dataset::open(folder)).transpose()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digests = match known.and_then(|dataset| dataset.verify_shard(&name)).transpose()? {
        Some(()) => format!("match {MANIFEST}"),
        None => format!("not compared: no {MANIFEST} beside it names it"),
    };
    let mut splits: BTreeMap<String, usize> = BTreeMap::new();
    let mut tokens = 0;
    for film in 0..shard.len() {
        *splits.entry(format!("{:?}", shard.split(film)).to_lowercase()).or_default() += 1;
        tokens += shard.tokens(film).len();
    }
    Ok(json!({
        "path": path.display().to_string(), "format": "shard", "bytes": shard.bytes(), "blake3": shard.digest(),
        "metadata": {
            "films": shard.len(), "size": shard.size(), "tokens": tokens, "splits": splits, "digests": digests,
        },
    }))
}

fn dataset(path: &Path) -> Result<Value, Error> {
    let dataset = Dataset::open(path)?;
    with_bar("comparing digests {bar:30} {pos}/{len} MiB", |progress| {
        dataset.verify(&mut |done, total| {
            progress(Progress { done: (done >> 20) as usize, total: (total >> 20) as usize });
        })
    })?;
    let mut made = dataset.made().clone();
    let splits = made.pointer("/funnel/splits").cloned();
    if let Some(fields) = made.as_object_mut() {
        fields.remove("funnel");
    }
    let [films, size, shards, vocabulary] = [dataset.len(), dataset.size(), dataset.shards(), dataset.vocab_size()];
    Ok(json!({
        "path": path.display().to_string(), "format": "shards", "blake3": dataset.digest(),
        "metadata": {
            "films": films, "size": size, "shards": shards, "vocab_size": vocabulary, "splits": splits, "made": made,
            "digests": format!("match {MANIFEST}"),
        },
    }))
}

/// A value in words: of an object its keys with their values, of a list its items.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            // Words of others may be JSON themselves.
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => plain(&inner),
            _ => text.clone(),
        },
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) if items.iter().any(|item| item.is_object()) => {
            items.iter().map(plain).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

fn text(found: &Value) -> String {
    let mut text = format!("{}  {}\n", plain(&found["path"]), plain(&found["format"]));
    let mut line = |key: &str, value: &Value| {
        if !value.is_null() {
            text += &format!("  {key:22} {}\n", plain(value));
        }
    };
    ["bytes", "blake3", "under"].iter().for_each(|key| line(key, &found[*key]));
    let words = found["metadata"].as_object().into_iter().flatten();
    words.for_each(|(key, value)| line(&key.trim_start_matches("g2d.").replace('_', " "), value));
    let tensors = found["tensors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let width = tensors.iter().map(|tensor| plain(&tensor["name"]).len()).max().unwrap_or(0);
    for tensor in tensors {
        let [name, dtype, shape, digest] = ["name", "dtype", "shape", "blake3"].map(|key| plain(&tensor[key]));
        let astray = match tensor["not_finite"].as_u64() {
            Some(0) | None => String::new(),
            Some(count) => format!("  {count} NaN or infinite"),
        };
        text += &format!("{name:width$}  {dtype:4} {shape:20} {}{astray}\n", &digest[..digest.len().min(16)]);
    }
    let numbers = |tensor: &Value| {
        let extents = tensor["shape"].as_array().map(Vec::as_slice).unwrap_or_default();
        extents.iter().filter_map(Value::as_u64).product::<u64>()
    };
    if !tensors.is_empty() {
        let numbers = tensors.iter().map(numbers).sum::<u64>();
        text += &format!("{}, {}\n", counted(tensors.len(), "tensor"), counted(numbers, "number"));
    }
    text
}
