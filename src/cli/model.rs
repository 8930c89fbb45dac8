//! Which step is meant: the flags that `g2d plan` and `g2d bench step` share.

use clap::Args;

use super::text::Text;
use super::{DeviceWord, PrecisionWord};
use crate::error::Error;
use crate::model::config::{Config, PRESETS, RECIPES};
use crate::program::Precision;
use crate::train::{Device, defaults};

/// A model and its batch.
#[derive(Args)]
pub struct Model {
    /// Size of the model.
    #[arg(long, default_value = "tiny", value_parser = clap::builder::PossibleValuesParser::new(PRESETS))]
    pub preset: String,
    /// Whose mask and losses.
    #[arg(long, default_value = "default", value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    pub recipe: String,
    /// Pairs a step.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Tokens per report at most; by default the preset's longest, at most 256.
    #[arg(long)]
    text_len: Option<usize>,
    /// How numbers are stored.
    #[arg(long, value_enum, default_value = "exact")]
    precision: PrecisionWord,
    /// What it runs on: auto, cpu, cuda[:N], cuda-emulated[:sm_90a] or wgpu[:N].
    #[arg(long, default_value = "cpu")]
    device: DeviceWord,
    #[command(flatten)]
    text: Text,
}

impl Model {
    /// The configuration of the whole step: no warm-up before the segmentation loss.
    pub fn config(&self) -> Result<Config, Error> {
        let mut config = Config { warmup_steps: 0, ..Config::preset(&self.preset)?.with_recipe(&self.recipe)? };
        self.text.apply(&mut config);
        Ok(config)
    }

    /// The switches of the text tower.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Tokens per report at most.
    pub fn text_length(&self, config: &Config) -> usize {
        self.text_len.unwrap_or(defaults::text_length(config))
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        self.device.resolve()
    }

    /// How numbers are stored.
    pub fn precision(&self) -> Precision {
        self.precision.into()
    }
}
