//! What is evaluated: weights, the model they belong to and the tokenizer they were trained with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::beside::run_of;
use crate::checkpoint::{self, Others, folder, names};
use crate::data::dataset::TOKENIZER;
use crate::error::Error;
use crate::model::config::Config;
use crate::program::{Checked, Program};
use crate::train::{Engine, Resources, defaults, run};

/// A part of the published model that a task may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The image encoder.
    Encoder,
    /// Image projection and attention pool: what makes an embedding of the encoder's deepest map.
    ImageProjection,
    /// The decoder with its head.
    Decoder,
    /// The text encoder with its projection.
    Text,
}

impl Part {
    const ALL: [Self; 4] = [Self::Encoder, Self::ImageProjection, Self::Decoder, Self::Text];

    /// How the names of its tensors begin.
    pub fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Encoder => &["img_model.encoder."],
            Self::ImageProjection => &["proj_v.", "attnpool."],
            Self::Decoder => &["img_model.decoder.", "img_model.segmentation_head."],
            Self::Text => &["lm_model.", "proj_t."],
        }
    }

    /// What a person calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Encoder => "image encoder",
            Self::ImageProjection => "image projection",
            Self::Decoder => "decoder",
            Self::Text => "text tower",
        }
    }
}

/// What is said of other folders and configurations.
const FOREIGN: &str = "this is none of ours; name a run, a file of weights in one, or a folder made by g2d import";

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Subject {
    /// How it is called in tables.
    pub name: String,
    /// The model.
    pub config: Config,
    /// Where its weights lie; without, they are drawn.
    pub weights: Option<PathBuf>,
    /// Seed of weights that are drawn, and of what is learned on top: the run's own, or the one that was asked for.
    pub seed: u64,
    /// Reports and prompts are cut to this many tokens.
    pub text_length: usize,
    /// The tokenizer of its text encoder, `tokenizer.json` or `vocab.txt`.
    pub tokenizer: PathBuf,
    /// The data it was trained on; nothing if it was imported.
    pub trained_on: Option<PathBuf>,
    parts: BTreeSet<Part>,
}

impl Subject {
    /// What a path names: the newest checkpoint of a run, a checkpoint or file of weights in one, or a folder that `g2d import`
    /// wrote or its file of weights.
    ///
    /// # Errors
    /// If it is none of these, or cannot be read.
    pub fn of(path: &Path) -> Result<Self, Error> {
        if path.join("manifest.json").is_file() {
            return Self::of_run(path);
        }
        let weights = if path.is_dir() { path.join(folder::WEIGHTS) } else { path.to_owned() };
        let config = weights.with_file_name("config.json");
        match (run_of(&weights), config.is_file()) {
            (None, true) => Self::imported(weights, &config),
            (None, false) if path.is_dir() => Err(no_model(path, FOREIGN)),
            _ => Self::of_file(&weights),
        }
    }

    /// Weights that `g2d import` wrote, with the configuration and tokenizer beside them.
    fn imported(weights: PathBuf, config: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(config).map_err(Error::io(config))?;
        let foreign = |error| no_model(config, format!("{FOREIGN} ({error})"));
        let model = Config::from_json(&text).map_err(foreign)?;
        Ok(Self {
            name: format!("imported weights in {}", config.parent().unwrap_or(Path::new("")).display()),
            seed: 0,
            text_length: defaults::text_length(&model),
            tokenizer: weights.with_file_name(TOKENIZER),
            trained_on: None,
            parts: parts(&weights)?,
            config: model,
            weights: Some(weights),
        })
    }

    /// The newest checkpoint of the run in `folder`.
    ///
    /// # Errors
    /// If it is no run, or has no checkpoint yet.
    pub fn of_run(folder: &Path) -> Result<Self, Error> {
        let empty = || no_model(folder, "there is no checkpoint yet; train first: g2d pretrain");
        let checkpoint = folder::newest(folder)?.ok_or_else(empty)?;
        folder::verify(&checkpoint)?;
        Self::of_file(&checkpoint.join(folder::WEIGHTS))
    }

    /// A file of weights in a checkpoint of a run, whose settings and tokenizer are the run's.
    ///
    /// # Errors
    /// If it does not lie in a run, or cannot be read.
    pub fn of_file(weights: &Path) -> Result<Self, Error> {
        if !weights.exists() {
            let what = "there is no such run or file of weights; name a run's folder or a file in its checkpoints";
            return Err(no_model(weights, what));
        }
        let run = run_of(weights).ok_or_else(|| {
            let what = "it lies in no run, so its model is not known; put it into a run's folder beside config.json and \
                        manifest.json, or name a run";
            no_model(weights, what)
        })?;
        let parts = parts(weights)?;
        let step = weights.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = format!("{} {}", run.display(), step.unwrap_or_default());
        Ok(Self { name, weights: Some(weights.into()), parts, ..Self::settings(run)? })
    }

    /// Fresh weights of the model that the run in `folder` has, drawn by `seed`: what pre-training is compared with.
    ///
    /// # Errors
    /// If it is no run.
    pub fn random(folder: &Path, seed: u64) -> Result<Self, Error> {
        let name = format!("random weights, seed {seed}, of the model of {}", folder.display());
        Ok(Self { name, seed, ..Self::settings(folder)? })
    }

    fn settings(folder: &Path) -> Result<Self, Error> {
        let (config, manifest) = run::read(folder)?;
        Ok(Self {
            name: String::new(),
            config: config.model,
            weights: None,
            seed: config.train.seed,
            text_length: config.train.text_length,
            tokenizer: folder.join(TOKENIZER),
            trained_on: Some(manifest.data),
            parts: Part::ALL.into(),
        })
    }

    /// An engine for `programs`, whose states are all in `whole`, that holds the model's weights: the file's or, where it was
    /// never trained, those that its seed draws.
    ///
    /// # Errors
    /// If the weights cannot be read or do not fit, or the device has no room.
    pub fn engine(
        &self,
        on: &Resources,
        whole: Program,
        programs: Vec<Program>,
    ) -> Result<(Engine, Vec<Arc<Checked>>), Error> {
        let (mut engine, plans) = Engine::open(on, whole, programs)?;
        engine.initialise(self.seed)?;
        if let Some(weights) = &self.weights {
            let wanted = names::weights(engine.program());
            engine.load(weights, &wanted, Others::Left)?;
        }
        Ok((engine, plans))
    }

    /// Whether its weights have a part.
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Refuses a task that needs parts which the weights lack.
    ///
    /// # Errors
    /// With the parts that are missing.
    pub fn needs(&self, task: &str, parts: &[Part]) -> Result<(), Error> {
        let missing: Vec<&str> = parts.iter().filter(|part| !self.has(**part)).map(|part| part.name()).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Error::Usage(format!(
                "{task} needs the {} and {} has none; evaluate weights that were saved with it",
                missing.join(" and the "),
                self.name
            ))),
        }
    }
}

fn no_model(path: &Path, why: impl Into<String>) -> Error {
    Error::NoModel { path: path.into(), why: why.into() }
}

/// The parts of which a file of weights has any tensor.
fn parts(weights: &Path) -> Result<BTreeSet<Part>, Error> {
    let names = checkpoint::tensor_names(weights)?;
    let has = |part: &Part| part.prefixes().iter().all(|prefix| names.iter().any(|name| name.starts_with(prefix)));
    Ok(Part::ALL.into_iter().filter(has).collect())
}
