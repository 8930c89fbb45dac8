//! All that shapes the step: the fields of the specification's `Config`, its presets and its recipes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// How pixels in [0, 1] become the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// As they are.
    Unit,
    /// Minus ImageNet's mean, over its standard deviation, per channel (released code).
    Imagenet,
}

/// Which directions of the contrastive loss count (paper, equation 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contrastive {
    /// Image to text plus text to image (released code).
    TwoWaySum,
    /// Their mean.
    TwoWayMean,
    /// Image to text alone (paper).
    ImageToText,
}

/// The loss on the pseudo mask (paper, equation 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Segmentation {
    /// Half of Dice on sigmoid outputs plus BCE (paper).
    #[serde(rename = "dice+bce")]
    DiceBce,
    /// Dice on raw logits plus 0.2 BCE (released code).
    #[serde(rename = "raw-dice+0.2bce")]
    RawDice02Bce,
}

/// What the decoder is trained to give (paper, table 5; shuffled masks: table 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderObjective {
    /// The pseudo mask of its film.
    PseudoSegmentation,
    /// Nothing: there is no decoder, and weights hold none.
    None,
    /// The film itself, in [0, 1], by the mean squared error of what it gives, to which nothing is applied.
    Reconstruction,
    /// The pseudo mask of the next film of the batch.
    ShuffledMasks,
}

impl DecoderObjective {
    /// Whether there is a decoder.
    pub fn decodes(self) -> bool {
        self != Self::None
    }

    /// Whether there is a decoder and it learns masks.
    pub fn segments(self) -> bool {
        matches!(self, Self::PseudoSegmentation | Self::ShuffledMasks)
    }
}

/// How the attention of several heads becomes the pseudo mask's scores (paper, table 5: with and without aggregation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskAggregation {
    /// Their mean (paper).
    Mean,
    /// Of each cell the largest.
    Max,
    /// The head `mask_head` alone.
    Single,
    /// Not: each head gives a mask, and the decoder a map for each of them.
    PerHead,
}

/// Where the pseudo mask's threshold lies (paper, table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskThreshold {
    /// At the quantile `quantile` of the pixels' scores.
    Quantile,
    /// At their median: the quantile 0.5, whatever `quantile` is.
    Median,
    /// At the mean of the cells' scores.
    Mean,
    /// Where, of two Gaussians fitted to the cells' scores, the upper one becomes the more likely
    /// ([`mask_threshold`](crate::ops::mask_threshold)).
    Gmm,
}

/// How the attention map is brought to the size of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskUpsample {
    /// Each cell a square.
    Nearest,
    /// Bilinear, corners not aligned.
    Bilinear,
}

/// Whether the mask is confined to the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskBody {
    /// To the largest bright component, holes filled.
    Threshold,
    /// No (released code).
    None,
}

/// How a score is compared with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaskCompare {
    /// At least (paper).
    #[serde(rename = ">=")]
    AtLeast,
    /// Above (released code).
    #[serde(rename = ">")]
    Above,
}

/// Whether the mask is smoothed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskSmooth {
    /// By a bilateral filter (paper).
    Bilateral,
    /// No (released code).
    None,
}

/// Which text positions the statistics of `proj_t`'s batch norm see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextStatistics {
    /// Only tokens of the reports.
    RealTokens,
    /// Every position up to the common length (released code).
    Padded,
}

/// All that shapes the step. Sizes are in pixels, tokens or channels; the default is the preset `full` with the
/// recipe `default`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Side of the square films, a multiple of 32.
    pub image_size: usize,
    /// Bottlenecks in each of the encoder's four stages.
    pub resnet_layers: Vec<usize>,
    /// Channels behind the stem; stages have 4, 8, 16 and 32 times as many.
    pub resnet_width: usize,
    /// Channels of the decoder's five blocks.
    pub decoder_channels: Vec<usize>,
    /// Channels inside both projections.
    pub projection_hidden: usize,
    /// Length of the embeddings.
    pub projection_dim: usize,
    /// Heads of the attention pool.
    pub attention_heads: usize,
    /// Width of one such head; 0: `projection_dim` / `attention_heads`, rounded up.
    pub attention_head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the text encoder.
    pub text_hidden: usize,
    /// Its layers.
    pub text_layers: usize,
    /// Its heads.
    pub text_heads: usize,
    /// Width inside its feed-forward blocks.
    pub text_intermediate: usize,
    /// The longest text it can take, in tokens.
    pub max_positions: usize,
    /// How many of its first layers do not learn.
    pub frozen_text_layers: usize,
    /// Whether its embeddings do not learn either; as published they do. With it no gradient goes through frozen layers, and
    /// what these make of a report stays the same.
    pub frozen_embeddings: bool,
    /// The contrastive loss divides similarities by it.
    pub temperature: f64,
    /// Part of the film's pixels below the pseudo mask's threshold, where that is a quantile.
    pub quantile: f64,
    /// How pixels become input.
    pub normalise: Normalise,
    /// Directions of the contrastive loss.
    pub contrastive: Contrastive,
    /// Form of the segmentation loss.
    pub segmentation: Segmentation,
    /// What the decoder learns.
    pub decoder_objective: DecoderObjective,
    /// From heads to scores.
    pub mask_aggregation: MaskAggregation,
    /// The head whose attention counts where that is `single`, from 0.
    pub mask_head: usize,
    /// Where the threshold lies.
    pub mask_threshold: MaskThreshold,
    /// From attention map to film size.
    pub mask_upsample: MaskUpsample,
    /// Confinement of the mask.
    pub mask_body: MaskBody,
    /// Brightness in [0, 1] above which a pixel may be body.
    pub body_threshold: f64,
    /// Comparison with the threshold.
    pub mask_compare: MaskCompare,
    /// Smoothing of the mask.
    pub mask_smooth: MaskSmooth,
    /// Diameter of the bilateral filter, pixels.
    pub bilateral_diameter: usize,
    /// Its width in space, pixels.
    pub bilateral_sigma_space: f64,
    /// Its width in values; masks hold 0 and 1.
    pub bilateral_sigma_value: f64,
    /// What the text projection's statistics see.
    pub text_statistics: TextStatistics,
    /// Factor of the decoder's loss.
    pub segmentation_weight: f64,
    /// The decoder's loss counts from this step on.
    pub warmup_steps: usize,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// AdamW's epsilon.
    pub adam_eps: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: 256,
            resnet_layers: vec![3, 4, 6, 3],
            resnet_width: 64,
            decoder_channels: vec![256, 128, 64, 32, 16],
            projection_hidden: 128,
            projection_dim: 128,
            attention_heads: 4,
            attention_head_dim: 0,
            vocab_size: 28996,
            text_hidden: 768,
            text_layers: 12,
            text_heads: 12,
            text_intermediate: 3072,
            max_positions: 512,
            frozen_text_layers: 9,
            frozen_embeddings: false,
            temperature: 0.07,
            quantile: 0.85,
            normalise: Normalise::Unit,
            contrastive: Contrastive::TwoWaySum,
            segmentation: Segmentation::DiceBce,
            decoder_objective: DecoderObjective::PseudoSegmentation,
            mask_aggregation: MaskAggregation::Mean,
            mask_head: 0,
            mask_threshold: MaskThreshold::Quantile,
            mask_upsample: MaskUpsample::Nearest,
            mask_body: MaskBody::Threshold,
            body_threshold: 0.1,
            mask_compare: MaskCompare::AtLeast,
            mask_smooth: MaskSmooth::Bilateral,
            bilateral_diameter: 9,
            bilateral_sigma_space: 3.0,
            bilateral_sigma_value: 1.0,
            text_statistics: TextStatistics::RealTokens,
            segmentation_weight: 1.0,
            warmup_steps: 0,
            learning_rate: 2e-5,
            weight_decay: 1e-8,
            adam_eps: 1e-8,
        }
    }
}

/// The presets, smallest first.
pub const PRESETS: [&str; 4] = ["micro", "tiny", "small", "full"];

/// The recipes: ours; the paper's mask and loss; the released code's.
pub const RECIPES: [&str; 3] = ["default", "paper", "official"];

/// Why there is no such configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A preset, recipe or key that does not exist.
    #[error("there is no {what} `{name}`{}all: {all}", likely(closest))]
    Unknown {
        /// "preset", "recipe" or "key".
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The one that exists and is most similar, if one is similar.
        closest: Option<String>,
        /// All that exist.
        all: String,
    },
    /// A value of a type or word that the key does not take.
    #[error("{key} cannot be {value}: {why}")]
    Value {
        /// The key.
        key: String,
        /// The text given for it.
        value: String,
        /// What it takes.
        why: String,
    },
    /// Text that is no configuration; the reason names line and column.
    #[error("the configuration cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Values that cannot be, one sentence each.
    #[error("the configuration is impossible: {}", .0.join("; "))]
    Impossible(Vec<String>),
}

impl ConfigError {
    /// The error for a `name` that is none of `all`.
    pub fn unknown<'a>(what: &'static str, name: &str, all: impl IntoIterator<Item = &'a str>) -> Self {
        let all: Vec<&str> = all.into_iter().collect();
        let apart = all.iter().map(|&other| (distance(name, other), other)).min();
        let closest = apart.filter(|&(letters, _)| letters <= name.len() / 2).map(|(_, other)| other.into());
        Self::Unknown { what, name: name.into(), closest, all: all.join(", ") }
    }
}

fn likely(closest: &Option<String>) -> String {
    closest.as_ref().map_or("; ".into(), |closest| format!("; did you mean `{closest}`? "))
}

/// How many letters must be put in, left out or changed to make `b` from `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, &right) in b.iter().enumerate() {
            let changed = corner + usize::from(left != right);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl Config {
    /// The preset of that name with the recipe `default`.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let full = Self::default();
        Ok(match name {
            "micro" => Self {
                resnet_width: 4,
                decoder_channels: vec![16, 8, 8, 4, 4],
                projection_hidden: 16,
                projection_dim: 16,
                vocab_size: 61,
                text_hidden: 16,
                text_layers: 2,
                text_heads: 2,
                text_intermediate: 32,
                max_positions: 32,
                image_size: 64,
                ..Self::preset("tiny")?
            },
            "tiny" => Self {
                image_size: 128,
                resnet_layers: vec![1, 1, 1, 1],
                resnet_width: 8,
                decoder_channels: vec![32, 16, 16, 8, 8],
                projection_hidden: 32,
                projection_dim: 32,
                vocab_size: 211,
                text_hidden: 32,
                text_layers: 3,
                text_heads: 4,
                text_intermediate: 64,
                max_positions: 64,
                frozen_text_layers: 1,
                adam_eps: 1e-3,
                ..full
            },
            "small" => Self {
                image_size: 128,
                resnet_layers: vec![2, 2, 2, 2],
                resnet_width: 32,
                decoder_channels: vec![128, 64, 32, 16, 16],
                projection_hidden: 64,
                projection_dim: 64,
                vocab_size: 2048,
                text_hidden: 128,
                text_layers: 4,
                text_heads: 4,
                text_intermediate: 512,
                max_positions: 128,
                frozen_text_layers: 2,
                adam_eps: 1e-3,
                ..full
            },
            "full" => full,
            _ => return Err(ConfigError::unknown("preset", name, PRESETS)),
        })
    }

    /// This configuration with the fields of a recipe put over it.
    pub fn with_recipe(self, name: &str) -> Result<Self, ConfigError> {
        Ok(match name {
            "default" => self,
            "paper" => Self { contrastive: Contrastive::ImageToText, attention_heads: 3, ..self },
            "official" => Self {
                normalise: Normalise::Imagenet,
                segmentation: Segmentation::RawDice02Bce,
                mask_body: MaskBody::None,
                mask_compare: MaskCompare::Above,
                mask_smooth: MaskSmooth::None,
                text_statistics: TextStatistics::Padded,
                ..self
            },
            _ => return Err(ConfigError::unknown("recipe", name, RECIPES)),
        })
    }

    /// Reads and validates a configuration; fields left out have their defaults.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        // A list would be taken too, its elements as fields in order.
        serde_json::from_str::<serde_json::Map<String, Json>>(text)?;
        let config: Self = serde_json::from_str(text)?;
        config.validate()?;
        Ok(config)
    }

    /// Sets the field `key` from text, as `--set key=value` does; lists are written `1,1,1,1`. Does not validate.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        *self = with_field(self, key, value)?;
        Ok(())
    }

    /// Width of one head of the attention pool.
    pub fn head_dim(&self) -> usize {
        match self.attention_head_dim {
            0 => self.projection_dim.div_ceil(self.attention_heads),
            given => given,
        }
    }

    /// How many pseudo masks a film has.
    pub fn masks(&self) -> usize {
        if self.mask_aggregation == MaskAggregation::PerHead { self.attention_heads } else { 1 }
    }

    /// Whether the batch carries every position up to the common length.
    pub fn padded(&self) -> bool {
        self.text_statistics == TextStatistics::Padded
    }
}

/// `settings` with one field set from text. Public for the settings of a run, which are set the same way.
pub fn with_field<T: Serialize + DeserializeOwned>(settings: &T, key: &str, value: &str) -> Result<T, ConfigError> {
    let mut json = serde_json::to_value(settings)?;
    let fields = json.as_object_mut().into_iter().flatten();
    let keys: Vec<&str> = fields.map(|(name, _)| name.as_str()).collect();
    if !keys.contains(&key) {
        return Err(ConfigError::unknown("key", key, keys));
    }
    let parsed = match json[key] {
        Json::Array(_) => serde_json::from_str(&format!("[{}]", value.trim_matches(['[', ']']))),
        Json::String(_) => Ok(Json::String(value.into())),
        _ => serde_json::from_str(value),
    };
    let takes = match json[key] {
        Json::Array(_) => Some("it takes whole numbers with commas between them"),
        Json::Bool(_) => Some("it takes true or false"),
        Json::Number(ref now) if now.is_f64() => Some("it takes a number"),
        Json::Number(_) => Some("it takes a whole number from 0 up"),
        _ => None,
    };
    let fail = |why: serde_json::Error| ConfigError::Value {
        key: key.into(),
        value: value.into(),
        why: takes.map_or_else(|| why.to_string(), str::to_owned),
    };
    json[key] = parsed.map_err(fail)?;
    serde_json::from_value(json).map_err(fail)
}
