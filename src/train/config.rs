//! All that shapes a run: the model's configuration and what training adds to it.

use serde::{Deserialize, Serialize};

use super::groups::Rule;
use super::schedule::{Kind, Schedule};
use super::text_cache::TextCache;
use crate::data::augment::Recipe;
use crate::model::config::{Config, ConfigError, with_field};
use crate::program::Precision;

/// The settings of a run, resolved; stored with it as `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The model, its losses and AdamW's numbers.
    pub model: Config,
    /// What training adds.
    pub train: TrainConfig,
}

/// What training adds to the model's configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of weights, order and augmentation.
    pub seed: u64,
    /// Pairs a step.
    pub batch: usize,
    /// Reports are cut to this many tokens.
    pub text_length: usize,
    /// Augmentation of the films.
    pub augment: Recipe,
    /// How numbers are stored.
    pub precision: Precision,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// Parameter groups; the first pattern that matches a name has it.
    pub groups: Vec<Rule>,
    /// Keeps what the frozen part of the text encoder makes of each report, instead of computing it in every step; the
    /// embeddings have to be frozen.
    #[serde(default)]
    pub text_cache: bool,
    /// Steps between validations.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl RunConfig {
    /// Sets one key from text: a field of the model's configuration, one of training's, `lr` (which is the model's
    /// `learning_rate`) or `schedule.FIELD`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let set = match (key, key.strip_prefix("schedule.")) {
            (_, Some(field)) => {
                with_field(&self.train.schedule, field, value).map(|schedule| self.train.schedule = schedule)
            }
            ("lr", _) => self.model.set("learning_rate", value),
            _ => match self.model.set(key, value) {
                Err(ConfigError::Unknown { .. }) => with_field(&self.train, key, value).map(|train| self.train = train),
                other => other,
            },
        };
        set.map_err(|error| match error {
            ConfigError::Unknown { .. } => ConfigError::unknown("key", key, self.keys().iter().map(String::as_str)),
            ConfigError::Value { value, why, .. } => ConfigError::Value { key: key.into(), value, why },
            other => other,
        })
    }

    /// Every key that [`RunConfig::set`] takes.
    pub fn keys(&self) -> Vec<String> {
        let names = |value: serde_json::Result<serde_json::Value>| -> Vec<String> {
            value.ok().and_then(|json| Some(json.as_object()?.keys().cloned().collect())).unwrap_or_default()
        };
        let mut keys = names(serde_json::to_value(&self.model));
        keys.extend(
            names(serde_json::to_value(&self.train)).into_iter().filter(|key| key != "schedule" && key != "groups"),
        );
        keys.extend(
            names(serde_json::to_value(self.train.schedule)).into_iter().map(|field| format!("schedule.{field}")),
        );
        keys.push("lr".into());
        keys
    }

    /// Every impossible value in one sentence each; the model's own first.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate()?;
        let (model, train) = (&self.model, &self.train);
        let mut wrong = Vec::new();
        let mut check = |ok: bool, why: String| {
            if !ok {
                wrong.push(why);
            }
        };
        check(train.precision != Precision::F64, "precision f64 is for `g2d step`; a run takes exact or mixed".into());
        check(train.batch >= 2, format!("batch is {}; the contrastive loss needs at least 2 pairs", train.batch));
        check(
            (3..=model.max_positions).contains(&train.text_length),
            format!(
                "text_length is {}; it must be from 3 to max_positions, {}",
                train.text_length, model.max_positions
            ),
        );
        let cache = if train.text_cache { TextCache::allowed(model) } else { Ok(()) };
        check(cache.is_ok(), cache.err().unwrap_or_default());
        check(train.validate_every > 0, "validate_every is 0; the least is 1".into());
        check(train.checkpoint_every > 0, "checkpoint_every is 0; the least is 1".into());
        check(
            train.schedule.steps > 0 || train.schedule.kind != Kind::WarmupCosine,
            "schedule.steps is 0; a warmup-cosine schedule needs at least 1 step to its floor".into(),
        );
        check(train.schedule.period > 0, "schedule.period is 0; the least is 1".into());
        check(
            train.schedule.floor.is_finite() && train.schedule.floor >= 0.0,
            format!("schedule.floor is {}; it must be a number from 0 up", train.schedule.floor),
        );
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError::Impossible(wrong)) }
    }
}
