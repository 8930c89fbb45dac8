//! What a run uses where nothing is said. Tuned once, on phantoms; see docs/training.md.

use super::config::{RunConfig, TrainConfig};
use super::groups::Rule;
use super::schedule::Schedule;
use crate::data::augment::Recipe;
use crate::model::config::{Config, ConfigError, MaskUpsample};
use crate::program::Precision;

/// Longest report a run takes by default, tokens.
const TEXT_LENGTH: usize = 256;

/// Pairs a step.
pub const BATCH: usize = 32;

/// Pairs a step where the processor plays the device.
pub const DISGUISED_BATCH: usize = 4;

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

impl Start {
    /// Where a run with this recipe starts from, with `imported` weights or without.
    pub fn of(recipe: &str, imported: bool) -> Self {
        if recipe == "official" || imported { Self::Published } else { Self::Scratch }
    }
}

/// The settings of a run by preset and recipe, for a vocabulary of `vocab_size` tokens and a schedule whose horizon is
/// `horizon` steps: with it go the learning rate's rise, the step from which the segmentation loss counts (within the
/// first fifth) and how often there is a validation. What a user says is put over these, so a 0 there is a 0.
pub fn settings(
    preset: &str,
    recipe: &str,
    start: Start,
    vocab_size: usize,
    horizon: u64,
) -> Result<RunConfig, ConfigError> {
    let mut model = Config::preset(preset)?.with_recipe(recipe)?;
    model.vocab_size = vocab_size;
    model.warmup_steps = (horizon / 5).min(200) as usize;
    let mut train = TrainConfig {
        seed: 0,
        batch: BATCH,
        text_length: text_length(&model),
        augment: Recipe::Default,
        precision: Precision::Exact,
        schedule: Schedule::default(),
        groups: vec![Rule::everything()],
        text_cache: false,
        validate_every: horizon.div_ceil(3).clamp(1, 100),
        checkpoint_every: 100,
    };
    match recipe {
        "official" => (train.augment, train.schedule) = (Recipe::Official, Schedule::official()),
        "paper" => train.augment = Recipe::Paper,
        _ => {}
    }
    train.schedule.steps = horizon;
    if start == Start::Scratch {
        model.frozen_text_layers = 0;
        model.learning_rate = 2e-3;
        model.adam_eps = 1e-8;
        model.weight_decay = 1e-4;
        model.warmup_steps = (horizon * 3 / 20).min(200) as usize;
        train.schedule.warmup = (horizon / 20).min(500);
    }
    Ok(RunConfig { model, train })
}

/// Tokens to which texts are cut where nothing is said.
pub fn text_length(model: &Config) -> usize {
    model.max_positions.min(TEXT_LENGTH)
}

/// The horizon of the first run's schedule where it takes so many steps: it ends before the learning rate does, within a
/// few minutes; `--resume` goes on to the horizon.
pub fn first_horizon(steps: u64) -> u64 {
    steps.saturating_mul(13) / 10
}

/// The settings of the first run, the one that is given neither data nor a preset nor a recipe: `tiny`, changed so that
/// a few minutes on phantoms give masks that lie on the findings (docs/training.md has what was compared). More cells
/// of attention, blended instead of square; a thinner decoder, which pays for them; a milder temperature, which finds
/// something to look at sooner; one wide head of attention, for of four some look at the heart on every film; and no
/// augmentation, for phantoms vary by themselves.
pub fn first_run(vocab_size: usize, horizon: u64) -> Result<RunConfig, ConfigError> {
    let mut config = settings("tiny", "default", Start::Scratch, vocab_size, horizon)?;
    config.model.image_size = 192;
    config.model.mask_upsample = MaskUpsample::Bilinear;
    config.model.quantile = 0.8;
    config.model.decoder_channels = vec![16, 8, 8, 4, 4];
    config.model.temperature = 0.12;
    (config.model.attention_heads, config.model.attention_head_dim) = (1, 32);
    config.train.augment = Recipe::None;
    config.train.batch = 24;
    config.train.validate_every = horizon.div_ceil(5).max(1);
    Ok(config)
}
