//! Which configurations cannot be.

use super::config::{Config, ConfigError, MaskAggregation, MaskSmooth};

/// Largest size taken: products of extents stay within 64 bits.
const LARGEST: usize = 1 << 16;
/// Most bottlenecks of a stage: seven times ResNet-152's, and a step that can still be recorded and planned.
const DEEPEST: usize = 256;

impl Config {
    /// Names every impossible value, each in one sentence.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = self.impossible_sizes();
        found.extend(self.impossible_numbers());
        if found.is_empty() { Ok(()) } else { Err(ConfigError::Impossible(found)) }
    }

    fn impossible_sizes(&self) -> Vec<String> {
        let mut found = Vec::new();
        let sizes = [
            ("image_size", self.image_size, 1 << 14),
            ("resnet_width", self.resnet_width, LARGEST),
            ("projection_hidden", self.projection_hidden, LARGEST),
            ("projection_dim", self.projection_dim, LARGEST),
            ("attention_heads", self.attention_heads, LARGEST),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("text_hidden", self.text_hidden, LARGEST),
            ("text_heads", self.text_heads, LARGEST),
            ("text_intermediate", self.text_intermediate, LARGEST),
            ("max_positions", self.max_positions, LARGEST),
        ];
        for (name, size, largest) in sizes {
            if size == 0 || size > largest {
                found.push(format!("{name} is {size}; it must lie in 1 to {largest}"));
            }
        }
        for (name, size, largest) in [
            ("attention_head_dim", self.attention_head_dim, LARGEST),
            ("text_layers", self.text_layers, 1024),
            ("bilateral_diameter", self.bilateral_diameter, 255),
        ] {
            if size > largest {
                found.push(format!("{name} is {size}; it must be at most {largest}"));
            }
        }
        if !self.image_size.is_multiple_of(32) {
            found.push(format!("image_size is {}; it must be a multiple of 32", self.image_size));
        }
        for (name, list, wanted, largest) in [
            ("resnet_layers", &self.resnet_layers, 4, DEEPEST),
            ("decoder_channels", &self.decoder_channels, 5, LARGEST),
        ] {
            if list.len() != wanted || list.iter().any(|&size| size == 0 || size > largest) {
                found.push(format!("{name} is {list:?}; it must be {wanted} numbers, each in 1 to {largest}"));
            }
        }
        if self.text_heads > 0 && !self.text_hidden.is_multiple_of(self.text_heads) {
            found.push(format!("text_heads is {}; it must divide text_hidden, {}", self.text_heads, self.text_hidden));
        }
        if self.mask_aggregation == MaskAggregation::Single && self.mask_head >= self.attention_heads {
            let (head, heads) = (self.mask_head, self.attention_heads);
            found.push(format!("mask_head is {head}; there are attention_heads = {heads}, counted from 0"));
        }
        if self.frozen_text_layers > self.text_layers {
            let (frozen, layers) = (self.frozen_text_layers, self.text_layers);
            found.push(format!("frozen_text_layers is {frozen}; there are text_layers = {layers} to freeze"));
        }
        found
    }

    fn impossible_numbers(&self) -> Vec<String> {
        let mut found = Vec::new();
        let positive = f64::MIN_POSITIVE;
        let mut within = |name: &str, value: f64, low: f64, high: f64, range: &str| {
            // Written so that NaN is impossible too.
            if !(value >= low && value <= high) {
                found.push(format!("{name} is {value}; it must be {range}"));
            }
        };
        within("temperature", self.temperature, positive, f64::MAX, "a number above 0");
        within("quantile", self.quantile, positive, 1.0 - f64::EPSILON / 2.0, "above 0 and below 1");
        within("body_threshold", self.body_threshold, 0.0, 1.0, "in [0, 1]");
        if self.mask_smooth == MaskSmooth::Bilateral {
            within("bilateral_sigma_space", self.bilateral_sigma_space, positive, f64::MAX, "a number above 0");
            within("bilateral_sigma_value", self.bilateral_sigma_value, positive, f64::MAX, "a number above 0");
        }
        within("segmentation_weight", self.segmentation_weight, 0.0, f64::MAX, "a number not below 0");
        within("learning_rate", self.learning_rate, 0.0, f64::MAX, "a number not below 0");
        within("weight_decay", self.weight_decay, 0.0, f64::MAX, "a number not below 0");
        within("adam_eps", self.adam_eps, positive, f64::MAX, "a number above 0");
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{PRESETS, RECIPES, Segmentation};
    use super::*;

    #[test]
    fn presets_and_recipes_are_possible() {
        for preset in PRESETS {
            for recipe in RECIPES {
                Config::preset(preset).unwrap().with_recipe(recipe).unwrap().validate().unwrap();
            }
        }
        assert_eq!(Config::default().with_recipe("paper").unwrap().head_dim(), 43);
    }

    #[test]
    fn every_impossible_value_is_named_at_once() {
        let config = Config {
            image_size: 100,
            resnet_layers: vec![3, 4, 6],
            decoder_channels: vec![8, 8, 8, 8, 0],
            attention_heads: 0,
            text_heads: 5,
            frozen_text_layers: 13,
            mask_aggregation: MaskAggregation::Single,
            mask_head: 1,
            quantile: 1.0,
            temperature: f64::NAN,
            adam_eps: 0.0,
            ..Config::default()
        };
        let ConfigError::Impossible(found) = config.validate().unwrap_err() else { panic!("another error") };
        for name in [
            "image_size",
            "resnet_layers",
            "decoder_channels",
            "attention_heads",
            "text_heads",
            "frozen_text_layers",
            "mask_head",
            "quantile",
            "temperature",
            "adam_eps",
        ] {
            assert!(found.iter().any(|sentence| sentence.starts_with(name)), "{name} is not named in {found:?}");
        }
        assert_eq!(found.len(), 10);
        assert!(Config { image_size: 0, ..Config::default() }.validate().is_err());
        let deep = |most: usize| Config { resnet_layers: vec![3, most, 6, 3], ..Config::default() }.validate();
        assert!(deep(256).is_ok() && deep(257).unwrap_err().to_string().contains("1 to 256"));
    }

    #[test]
    fn fields_are_set_from_text() {
        let mut config = Config::default();
        config.set("segmentation", "raw-dice+0.2bce").unwrap();
        config.set("resnet_layers", "1,2,1,1").unwrap();
        config.set("learning_rate", "1e-3").unwrap();
        config.set("segmentation_weight", "2").unwrap();
        assert_eq!(config.segmentation, Segmentation::RawDice02Bce);
        assert_eq!(config.resnet_layers, [1, 2, 1, 1]);
        assert_eq!((config.learning_rate, config.segmentation_weight), (1e-3, 2.0));
        let error = config.set("learning_rat", "1").unwrap_err().to_string();
        assert!(error.contains("did you mean `learning_rate`"), "{error}");
        let error = config.set("contrastive", "both").unwrap_err().to_string();
        assert!(error.contains("two-way-sum"), "{error}");
        assert!(config.set("image_size", "-1").is_err() && config.set("image_size", "").is_err());
    }

    #[test]
    fn json_is_read_strictly_and_round_trips() {
        let config = Config::preset("micro").unwrap().with_recipe("official").unwrap();
        assert_eq!(Config::from_json(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert_eq!(Config::from_json("{}").unwrap(), Config::default());
        for damaged in ["", "{", "[]", "{\"image\": 3}", "{\"image_size\": \"x\"}", "{\"image_size\": 33}"] {
            assert!(Config::from_json(damaged).is_err(), "{damaged}");
        }
    }
}
