//! Switches of the text tower, which `pretrain`, `plan`, `bench step` and `bench counters` share.

use clap::{Args, ValueEnum};

use crate::model::batch::Reports;
use crate::model::config::{Config, TextStatistics};

/// See the [module](self).
#[derive(Args, Clone, Copy)]
pub struct Text {
    /// What the batch norm of the text head sees: every position up to the common length (published), or real tokens, which are then
    /// packed and the only ones computed. By default the recipe's.
    #[arg(long, value_enum, value_name = "WHAT")]
    text_stats: Option<Seen>,
    /// What else does not learn, besides the frozen layers. With the embeddings no gradient goes through those layers.
    #[arg(long, value_enum, value_name = "WHAT")]
    freeze: Option<Frozen>,
    /// Keep in memory what the frozen layers make of each report, and compute it once.
    #[arg(long)]
    text_cache: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Seen {
    /// Every position.
    Padded,
    /// Real tokens.
    RealTokens,
}

#[derive(Clone, Copy, ValueEnum)]
enum Frozen {
    /// Word, position and type embeddings and their layer norm.
    Embeddings,
}

impl Text {
    /// Puts what was said over a configuration.
    pub fn apply(&self, config: &mut Config) {
        match self.text_stats {
            Some(Seen::Padded) => config.text_statistics = TextStatistics::Padded,
            Some(Seen::RealTokens) => config.text_statistics = TextStatistics::RealTokens,
            None => {}
        }
        if let Some(Frozen::Embeddings) = self.freeze {
            config.frozen_embeddings = true;
        }
    }

    /// Whether what frozen layers make is kept.
    pub fn cache(&self) -> bool {
        self.text_cache
    }

    /// How reports arrive at a step.
    pub fn reports(&self) -> Reports {
        if self.text_cache { Reports::States } else { Reports::Tokens }
    }

    /// Whether anything was said.
    pub fn any(&self) -> bool {
        self.text_stats.is_some() || self.freeze.is_some() || self.text_cache
    }

    /// What was said, as flags.
    pub fn flags(&self) -> String {
        let word = |value: Option<clap::builder::PossibleValue>, flag: &str| {
            value.map_or_else(String::new, |value| format!(" --{flag} {}", value.get_name()))
        };
        let stats = word(self.text_stats.and_then(|seen| seen.to_possible_value()), "text-stats");
        let freeze = word(self.freeze.and_then(|frozen| frozen.to_possible_value()), "freeze");
        format!("{stats}{freeze}{}", if self.text_cache { " --text-cache" } else { "" })
    }
}
