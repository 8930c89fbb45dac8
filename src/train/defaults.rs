//! What a run uses where nothing is said. Tuned once, on phantoms; see docs/training.md.

use super::config::{RunConfig, TrainConfig};
use super::groups::Rule;
use super::schedule::Schedule;
use crate::data::augment::Recipe;
use crate::model::config::{Config, ConfigError};
use crate::program::Precision;

/// Longest report a run takes by default, tokens.
const TEXT_LENGTH: usize = 256;

/// Tokens of a vocabulary that is not known yet: as many as packing trains at most.
pub const VOCABULARY: usize = 2048;

/// Where a run starts from, and so which values it has by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Fresh weights: everything learns, at a rate and with a warm-up at which it does.
    Scratch,
    /// The published values: for imported weights, and for the recipe `official`.
    Published,
}

/// The settings of a run by preset and recipe, for a vocabulary of `vocab_size` tokens.
pub fn settings(preset: &str, recipe: &str, start: Start, vocab_size: usize) -> Result<RunConfig, ConfigError> {
    let mut model = Config::preset(preset)?.with_recipe(recipe)?;
    model.vocab_size = vocab_size;
    let mut train = TrainConfig {
        seed: 0,
        batch: 32,
        text_length: model.max_positions.min(TEXT_LENGTH),
        augment: Recipe::Default,
        precision: Precision::Exact,
        schedule: Schedule::default(),
        groups: vec![Rule::everything()],
        validate_every: 100,
        checkpoint_every: 100,
    };
    match recipe {
        "official" => (train.augment, train.schedule) = (Recipe::Official, Schedule::official()),
        "paper" => train.augment = Recipe::Paper,
        _ => {}
    }
    if start == Start::Scratch {
        model.frozen_text_layers = 0;
        model.learning_rate = 2e-3;
        model.adam_eps = 1e-8;
        model.weight_decay = 1e-4;
    }
    Ok(RunConfig { model, train })
}

/// Fixes what depends on the length of the run, where nothing was said: the horizon of the schedule, its rise, and the
/// step from which the segmentation loss counts (within the first fifth).
pub fn fix_length(config: &mut RunConfig, start: Start, steps: u64) {
    let schedule = &mut config.train.schedule;
    if schedule.steps == 0 {
        schedule.steps = steps;
    }
    if start == Start::Scratch {
        if schedule.warmup == 0 {
            schedule.warmup = (schedule.steps / 20).min(500);
        }
        if config.model.warmup_steps == 0 {
            config.model.warmup_steps = (schedule.steps * 3 / 20).min(200) as usize;
        }
    } else if config.model.warmup_steps == 0 {
        config.model.warmup_steps = 200.min(schedule.steps / 5) as usize;
    }
    config.train.validate_every = config.train.validate_every.min(schedule.steps.div_ceil(3).max(1));
}
