//! `g2d import`: a whole model made of others' weights.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;
use serde_json::json;

use super::pack::with_bar;
use crate::checkpoint::import::{Import as Tower, Report, Sources};
use crate::checkpoint::{folder, folder_beside, write_beside};
use crate::data::pack::Progress;
use crate::data::tokenizer::Tokenizer;
use crate::error::Error;
use crate::model::config::{Config, RECIPES};
use crate::train::imported;

/// Makes a whole model of others' weights and says what became of each name. What the files lack is drawn.
#[derive(Args)]
#[command(
    after_help = "A ResNet-50 from torchvision or timm, a BERT as transformers writes it, checkpoints of G2D and MGCA; safetensors, or \
    files of torch.save, whose pickles are read and not executed. The sizes of the model follow from the files.\n\nExamples:\n  \
    g2d import --init image=resnet50.pth,text=Bio_ClinicalBERT --out imported\n  \
    g2d import --init image=resnet50.safetensors --recipe official --out imported --json\n  \
    g2d pack --pairs pairs.csv --tokenizer imported/tokenizer.json --out shards\n  \
    g2d pretrain --data shards --config imported/model.toml --weights imported/weights.safetensors"
)]
pub struct Import {
    /// What is taken, image=FILE,text=FILE_OR_FOLDER, or one of them.
    #[arg(long, value_name = "image=FILE,text=FILE", required = true)]
    init: Vec<String>,
    /// Folder to write, new or empty: weights.safetensors, config.json, model.toml, report.json, tokenizer.json.
    #[arg(long)]
    out: PathBuf,
    /// Whose mask and losses the model has.
    #[arg(long, default_value = "default", value_parser = clap::builder::PossibleValuesParser::new(RECIPES))]
    recipe: String,
    /// One field of the model's configuration, KEY=VALUE; may be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seed of what is drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keep capitals; the published models lower-case, even into a cased vocabulary.
    #[arg(long)]
    keep_case: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let cancelled = super::cancelled()?;
        super::new_or_empty(&self.out)?;
        let towers = Sources::parse(&self.init).map_err(Error::Usage)?.open()?;
        let mut config = imported::config(&Config::preset("full")?.with_recipe(&self.recipe)?, &towers)?;
        for setting in &self.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                Error::Usage(format!("--set {setting}: write it as KEY=VALUE, for instance image_size=224"))
            })?;
            config.set(key.trim(), value.trim())?;
        }
        config.validate()?;
        let reports = folder_beside(
            &self.out,
            |error| Error::io(&self.out)(error),
            |beside| self.fill(beside, &config, &towers, cancelled),
        )?;
        if self.json {
            println!("{}", json!({ "config": config, "towers": reports }));
        } else {
            reports.iter().for_each(|report| print!("{report}"));
            println!("written to {}; every name stands in report.json", self.out.display());
        }
        Ok(())
    }

    fn fill(
        &self,
        folder: &Path,
        config: &Config,
        towers: &[Tower],
        cancelled: &AtomicBool,
    ) -> Result<Vec<Report>, Error> {
        let reports = with_bar("making {bar:30} {pos}/{len} tensors", |progress| {
            let told = |done, total| progress(Progress { done, total });
            imported::write(&folder.join(folder::WEIGHTS), config, towers, self.seed, &told, cancelled)
        })?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            write_beside(&path, text.as_bytes()).map_err(Error::io(path))
        };
        if let Some(vocabulary) = towers.iter().find_map(Tower::vocabulary) {
            write("tokenizer.json", Tokenizer::load(vocabulary, !self.keep_case)?.json().into())?;
        }
        write("config.json", serde_json::to_string_pretty(config).unwrap_or_default() + "\n")?;
        write("report.json", serde_json::to_string_pretty(&reports).unwrap_or_default() + "\n")?;
        write("model.toml", sizes(config))?;
        Ok(reports)
    }
}

/// The fields that shape tensors, for `--config`; those that say how to train are the run's.
fn sizes(config: &Config) -> String {
    const SHAPING: [&str; 18] = [
        "image_size",
        "resnet_layers",
        "resnet_width",
        "decoder_channels",
        "projection_hidden",
        "projection_dim",
        "attention_heads",
        "attention_head_dim",
        "vocab_size",
        "text_hidden",
        "text_layers",
        "text_heads",
        "text_intermediate",
        "max_positions",
        "frozen_text_layers",
        "decoder_objective",
        "mask_aggregation",
        "normalise",
    ];
    let json = serde_json::to_value(config).unwrap_or_default();
    // Numbers, strings and lists of numbers are written alike in both languages.
    SHAPING.iter().map(|key| format!("{key} = {}\n", json[key])).collect()
}
