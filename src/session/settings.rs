//! What a model is trained with, and on, as a caller in another language writes it: an object of JSON.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Session;
use crate::cuda::driver::DriverError;
use crate::data::tokenizer::Tokenizer;
use crate::downstream::Subject;
use crate::error::Error;
use crate::model::config::Config;
use crate::train::defaults::{self, Start};
use crate::train::{Device, Resources};

/// All of a training session. What is no setting of a run has a key of its own, each of which may be left out: `weights` (what
/// [`Session::open`] takes, to go on from), or else `preset` for fresh ones; `recipe`; `tokenizer` (a file); `device`;
/// `threads`. Every other key is one that [`RunConfig::set`](crate::train::config::RunConfig::set) takes.
#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
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
///
/// # Errors
/// If there is none of that name.
pub fn device(word: &str) -> Result<Device, Error> {
    word.parse().map_err(|why| Error::Device(DriverError::Invalid(format!("there is no device `{word}`: {why}"))))
}

impl Settings {
    /// Opens a model to be trained.
    ///
    /// # Errors
    /// As [`Session::train`] and [`Session::load`], or if a file cannot be read, or a key or value cannot be.
    pub fn open(self) -> Result<Session, Error> {
        if self.weights.is_some() && self.preset.is_some() {
            let why = "`preset` beside `weights`: the model is that of the weights; leave `preset` out";
            return Err(Error::Usage(why.into()));
        }
        let preset = self.preset.as_deref().unwrap_or("full");
        let from = self.weights.as_deref().map(Subject::of).transpose()?;
        let beside = from.as_ref().map(|subject| subject.tokenizer.clone()).filter(|path| path.exists());
        let tokenizer = self.tokenizer.or(beside).map(|path| Tokenizer::load(&path, false)).transpose()?;
        let vocabulary = match &tokenizer {
            Some(tokenizer) => tokenizer.vocab_size(),
            None => Config::preset(preset)?.vocab_size,
        };
        let start = Start::of(&self.recipe, from.is_some());
        // The caller has a schedule of its own: nothing of one is used here.
        let mut run = defaults::settings(preset, &self.recipe, start, vocabulary, 1)?;
        if let Some(subject) = &from {
            run.model = subject.config.clone();
            run.train.text_length = run.train.text_length.min(subject.text_length);
        }
        for (key, value) in &self.run {
            // As it would stand behind `--set KEY=`.
            let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            run.set(key, &word)?;
        }
        let device = self.device.as_deref().map_or(Ok(Device::Cpu), device)?;
        let on = Resources { device, threads: self.threads, ..Resources::default() };
        let mut session = Session::train(&run, &on, tokenizer)?;
        if let Some(weights) = from.and_then(|subject| subject.weights) {
            session.load(&weights)?;
        }
        Ok(session)
    }
}
