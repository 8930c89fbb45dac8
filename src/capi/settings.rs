//! What a model is trained with, as the caller writes it: an object of JSON.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::call::Failure;
use super::g2d_status::G2D_DEVICE;
use crate::Session;
use crate::data::tokenizer::Tokenizer;
use crate::downstream::Subject;
use crate::error::Error;
use crate::model::config::Config;
use crate::train::defaults::{self, Start};
use crate::train::{Device, Resources};

/// What is no setting of a run; `run` holds those that are.
#[derive(Deserialize)]
struct Settings {
    weights: Option<PathBuf>,
    preset: Option<String>,
    #[serde(default = "plain")]
    recipe: String,
    tokenizer: Option<PathBuf>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    threads: usize,
    #[serde(flatten)]
    run: Map<String, Value>,
}

fn plain() -> String {
    "default".into()
}

/// A device by its word.
pub(super) fn device(word: &str) -> Result<Device, Failure> {
    word.parse().map_err(|why| Failure { status: G2D_DEVICE, sentence: format!("there is no device `{word}`: {why}") })
}

/// Opens a model to be trained.
pub(super) fn open(text: &str) -> Result<Session, Failure> {
    let unreadable = |error| Failure::argument(format!("`settings` cannot be read: {error}"));
    let settings: Settings = serde_json::from_str(text).map_err(unreadable)?;
    if settings.weights.is_some() && settings.preset.is_some() {
        let why = "`preset` beside `weights`: the model is that of the weights; leave `preset` out";
        return Err(Error::Usage(why.into()).into());
    }
    let preset = settings.preset.as_deref().unwrap_or("full");
    let from = settings.weights.as_deref().map(Subject::of).transpose()?;
    let beside = from.as_ref().map(|subject| subject.tokenizer.clone()).filter(|path| path.exists());
    let tokenizer = settings.tokenizer.or(beside).map(|path| Tokenizer::load(&path, false)).transpose();
    let tokenizer = tokenizer.map_err(Error::from)?;
    let vocabulary = match &tokenizer {
        Some(tokenizer) => tokenizer.vocab_size(),
        None => Config::preset(preset).map_err(Error::from)?.vocab_size,
    };
    let start = Start::of(&settings.recipe, from.is_some());
    // The caller has a schedule of its own: nothing of one is used here.
    let run = defaults::settings(preset, &settings.recipe, start, vocabulary, 1);
    let mut run = run.map_err(Error::from)?;
    if let Some(subject) = &from {
        run.model = subject.config.clone();
        run.train.text_length = run.train.text_length.min(subject.text_length);
    }
    for (key, value) in &settings.run {
        // As it would stand behind `--set KEY=`.
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        run.set(key, &word).map_err(Error::from)?;
    }
    let device = settings.device.as_deref().map_or(Ok(Device::Cpu), device)?;
    let on = Resources { device, threads: settings.threads, ..Resources::default() };
    let mut session = Session::train(&run, &on, tokenizer)?;
    if let Some(weights) = from.and_then(|subject| subject.weights) {
        session.load(&weights)?;
    }
    Ok(session)
}
