//! A model for programs of one's own: opened to use it, or to train it and use it meanwhile. The embedding surface.
//!
//! ```no_run
//! use g2d::Session;
//! use g2d::train::Resources;
//!
//! let mut model = Session::open("runs/1".as_ref(), &Resources::default(), 1)?;
//! let film = model.film("film.png".as_ref())?;
//! let found = model.ground(&film, "left pleural effusion")?;
//! println!("similarity {:.2}", found.similarity);
//! # Ok::<(), g2d::Error>(())
//! ```
//!
//! A session is [`Send`] and [`Sync`]: it may move between threads, and what takes `&self` may be called by several at once.
//! What computes takes `&mut self`, so one call at a time; two sessions share nothing but the processor. Each has a pool of
//! threads of its own. Given the same films, texts and weights the results are the same to the last bit, whatever the number of
//! threads; another `batch` may round differently.

pub mod settings;

use std::fmt::Display;
use std::path::Path;

use crate::checkpoint::{Others, folder, folder_beside, names, write_beside};
use crate::data::augment::Recipe;
use crate::data::decode::{Fault, Source};
use crate::data::prepare::{Resize, prepare};
use crate::data::tokenizer::Tokenizer;
use crate::downstream::metrics::grid::Grid;
use crate::downstream::{Part, Subject, Values, Words, cosines};
use crate::error::Error;
use crate::model::batch::{self, Shapes, TextBatch};
use crate::model::config::{Config, DecoderObjective};
use crate::model::g2d;
use crate::train::config::RunConfig;
use crate::train::reader::{Reader, finite, normalise};
use crate::train::session::{self, Films, StepMetrics};
use crate::train::{Engine, Options, Resources};

/// See the [module](self).
pub struct Session {
    held: Held,
    words: Words,
    last: Option<StepMetrics>,
}

/// Whose states they are.
enum Held {
    /// Weights and running statistics alone.
    Use(Box<(Engine, Reader)>),
    /// All that training needs.
    Train(Box<session::Session>, Recipe),
}

/// Where on a film a phrase is true.
#[derive(Clone, Debug, PartialEq)]
pub struct Grounded {
    /// Cosine of the phrase with what the attention pool would make of each cell alone, blended to the film's pixels
    /// [side, side]. Warm is high; it is no probability.
    pub map: Vec<f32>,
    /// Cosine of the phrase with the whole film.
    pub similarity: f32,
}

// As the module says.
const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Session>();
};

impl Session {
    /// Opens a model to use it: the newest checkpoint of a run's folder, a checkpoint or a file of weights in one, or a model's
    /// folder ([`Subject::of`]). It holds weights and running statistics, no gradients and no moments. `batch` films or texts
    /// are computed at once; more are taken piece by piece, and fewer take as long as `batch`.
    ///
    /// # Errors
    /// If the weights cannot be read or do not fit, or the device is not there or too small.
    pub fn open(weights: &Path, on: &Resources, batch: usize) -> Result<Self, Error> {
        let subject = Subject::of(weights)?;
        subject.needs("a session", &[Part::Encoder, Part::ImageProjection])?;
        let decoder_objective = match subject.has(Part::Decoder) {
            true => subject.config.decoder_objective,
            false => DecoderObjective::None,
        };
        let config = Config { decoder_objective, ..subject.config.clone() };
        let shapes = Shapes { batch, text_len: subject.text_length, source: batch::Source::Bytes };
        let texts = subject.has(Part::Text);
        let whole =
            if texts { g2d::record_evaluate(&config, &shapes)? } else { g2d::record_explain(&config, &shapes)? };
        let (engine, plans) = subject.engine(on, whole.finish(), Reader::programs(&config, &shapes, texts)?)?;
        let reader = Reader::of(plans, &config, &shapes, texts);
        Ok(Self { held: Held::Use(Box::new((engine, reader))), words: Words::of(&subject)?, last: None })
    }

    /// A model with fresh weights to train. `config.train` says the batch, the longest text, the augmentation of films and what
    /// is drawn; its schedule and what it says of validation and checkpoints are the caller's business. Without a tokenizer it
    /// takes texts as tokens. [`crate::train::defaults::settings`] makes a `config` that learns.
    ///
    /// # Errors
    /// If the settings cannot be, the tokenizer has more pieces than the model, or there is no room for a step.
    pub fn train(config: &RunConfig, on: &Resources, tokenizer: Option<Tokenizer>) -> Result<Self, Error> {
        config.validate()?;
        let RunConfig { model, train } = config;
        let words = Words::new(tokenizer, model, train.text_length)?;
        let session = session::Session::open(Options {
            precision: train.precision,
            device: on.device,
            kernels: on.kernels,
            groups: train.groups.clone(),
            seed: train.seed,
            threads: on.threads,
            launch_by_launch: on.launch_by_launch,
            ..Options::new(model.clone(), train.batch, train.text_length)
        })?;
        Ok(Self { held: Held::Train(Box::new(session), train.augment), words, last: None })
    }

    /// The model.
    pub fn config(&self) -> &Config {
        match &self.held {
            Held::Use(held) => held.1.config(),
            Held::Train(session, _) => &session.options().config,
        }
    }

    /// Films or texts at once, and tokens there is room for in a text.
    pub fn shapes(&self) -> Shapes {
        match &self.held {
            Held::Use(held) => *held.1.shapes(),
            Held::Train(session, _) => session.options().shapes(),
        }
    }

    /// Bytes of the slabs it holds on its device.
    pub fn memory(&self) -> u64 {
        match &self.held {
            Held::Use(held) => held.0.memory(),
            Held::Train(session, _) => session.memory(),
        }
    }

    /// Whether it was opened to be trained.
    pub fn trains(&self) -> bool {
        matches!(self.held, Held::Train(..))
    }

    /// Steps taken since it was opened.
    pub fn steps(&self) -> u64 {
        match &self.held {
            Held::Use(_) => 0,
            Held::Train(session, _) => session.steps(),
        }
    }

    /// What the last step left behind; none before the first.
    pub fn metrics(&self) -> Option<&StepMetrics> {
        self.last.as_ref()
    }

    /// One training step on a whole batch: stored pixels [batch, side, side], which are augmented here, and a text each, as
    /// tokens. Nothing is updated if a loss or gradient is not finite.
    ///
    /// # Errors
    /// If it was opened to be used only, the batch does not fit, or the step gave a number that is not finite.
    pub fn step<T: AsRef<[i32]>>(
        &mut self,
        pixels: &[u8],
        texts: &[T],
        learning_rate: f64,
    ) -> Result<StepMetrics, Error> {
        let Held::Train(session, augment) = &mut self.held else {
            let why = "this session was opened to use its model: open one that trains";
            return Err(Error::Usage(why.into()));
        };
        let Options { config, batch, text_length, seed, .. } = session.options();
        let (batch, side, step) = (*batch, config.image_size, session.steps());
        if texts.len() != batch || pixels.len() != batch * side * side {
            let (pixels, texts) = (pixels.len(), texts.len());
            return Err(Error::Usage(format!(
                "a step takes {batch} films of {side} by {side} pixels and a text each; {pixels} pixels and {texts} texts were given"
            )));
        }
        if !(learning_rate >= 0.0 && learning_rate.is_finite()) {
            return Err(Error::Usage(format!("a learning rate of {learning_rate}: give a number from 0 up")));
        }
        let drawn: Vec<f32> = (0..batch).flat_map(|place| augment.draw(side, *seed, step, place)).collect();
        let lengths: Vec<usize> = texts.iter().map(|text| text.as_ref().len()).collect();
        let tokens: Vec<i32> = texts.iter().flat_map(|text| text.as_ref()).copied().collect();
        let text = TextBatch::pack(&tokens, &lengths, *text_length, config)?;
        let metrics = session.step(Films::Bytes(pixels, &drawn), &text, learning_rate)?;
        self.last = Some(metrics);
        Ok(metrics)
    }

    /// Writes a model's folder, new or empty, which appears whole or not at all: `weights.safetensors` under published names,
    /// `config.json` and, if there is a tokenizer, `tokenizer.json`. [`Session::open`] and `g2d export` read it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        folder_beside(
            folder,
            |error| Error::io(folder)(error),
            |beside| {
                let write = |name: &str, text: &str| {
                    let path = beside.join(name);
                    write_beside(&path, text.as_bytes()).map_err(Error::io(path))
                };
                let weights = beside.join(folder::WEIGHTS);
                match &self.held {
                    Held::Use(held) => held.0.save(&weights, &names::weights(held.0.program()))?,
                    Held::Train(session, _) => session.save_weights(&weights)?,
                }
                write("config.json", &(serde_json::to_string_pretty(self.config()).unwrap_or_default() + "\n"))?;
                self.words.tokenizer().map_or(Ok(()), |tokenizer| write("tokenizer.json", tokenizer.json()))
            },
        )
    }

    /// Reads weights of the same model: a file of them, or what [`Session::open`] takes. The moments of training stay as they
    /// are; those of a checkpoint are read by [`train::run`](crate::train::run).
    ///
    /// # Errors
    /// If they cannot be read or do not fit; then nothing was changed.
    pub fn load(&mut self, weights: &Path) -> Result<(), Error> {
        let file = match weights.is_file() {
            true => weights.to_owned(),
            false => Subject::of(weights)?.weights.unwrap_or_default(),
        };
        match &mut self.held {
            Held::Use(held) => {
                let wanted = names::weights(held.0.program());
                held.0.load(&file, &wanted, Others::Left).map(drop)
            }
            Held::Train(session, _) => session.load_weights(&file).map(drop),
        }
    }

    /// A film's file, PNG, JPEG or DICOM, as stored pixels [side, side]: borders cropped, fitted into the model's square.
    ///
    /// # Errors
    /// If it cannot be read as a film.
    pub fn film(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.prepared(Source::open(path), &path.display())
    }

    /// The same of a file's bytes that lie in memory.
    ///
    /// # Errors
    /// As [`Session::film`].
    pub fn film_of(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.prepared(Source::of_bytes(bytes), &"the film")
    }

    fn prepared(&self, source: Result<Source, Fault>, film: &dyn Display) -> Result<Vec<u8>, Error> {
        let pixels = source.and_then(Source::decode).and_then(|it| prepare(it, self.config().image_size, Resize::Fit));
        Ok(pixels.map_err(|why| Error::Film { film: film.to_string(), why })?.0)
    }

    /// Tokens of a text by the model's tokenizer; a longer one than it takes is cut as in training.
    ///
    /// # Errors
    /// If there is no tokenizer.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, Error> {
        self.words.report(text)
    }

    fn reader(&mut self) -> (&Reader, &mut Engine) {
        match &mut self.held {
            Held::Use(held) => (&held.1, &mut held.0),
            Held::Train(session, _) => session.reader(),
        }
    }

    /// Embeddings [films, projection_dim], each of length 1, of stored pixels [films, side, side]. Their products with those of
    /// texts are cosines.
    ///
    /// # Errors
    /// If these are no whole films, or a number is not finite.
    pub fn embed_films(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        let (reader, engine) = self.reader();
        let embedding = reader.films(engine, pixels, &["out.image_embedding"])?.remove(0);
        let mut embedding: Vec<f32> = embedding.into_iter().map(|number| number as f32).collect();
        finite("a film", &embedding)?;
        normalise(&mut embedding, reader.config().projection_dim);
        Ok(embedding)
    }

    /// Embeddings [texts, projection_dim], each of length 1; longer texts are cut as in training.
    ///
    /// # Errors
    /// If there is no tokenizer or text tower, or a number is not finite.
    pub fn embed_texts<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Vec<f32>, Error> {
        let tokens = self.words.reports(texts)?;
        self.embed_tokens(&tokens)
    }

    /// The same of texts as tokens, each of 1 to [`Session::shapes`]`.text_len`.
    ///
    /// # Errors
    /// If there is no text tower, a text is empty, too long or of another vocabulary, or a number is not finite.
    pub fn embed_tokens<T: AsRef<[i32]>>(&mut self, texts: &[T]) -> Result<Vec<f32>, Error> {
        let (reader, engine) = self.reader();
        reader.texts(engine, texts)
    }

    /// The predicted masks' probabilities [films, side, side] for stored pixels [films, side, side].
    ///
    /// # Errors
    /// If there is no decoder that learned masks, these are no whole films, or a number is not finite.
    pub fn segment(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        let (reader, engine) = self.reader();
        reader.masks(engine, pixels)
    }

    /// Where on one film, stored pixels [side, side], a phrase is true.
    ///
    /// # Errors
    /// If there is no tokenizer or text tower, the phrase is empty or longer than the model takes, this is not one film, or a
    /// number is not finite.
    pub fn ground(&mut self, pixels: &[u8], phrase: &str) -> Result<Grounded, Error> {
        let phrase = self.words.prompt(phrase)?;
        let (reader, engine) = self.reader();
        let side = reader.config().image_size;
        if pixels.len() != side * side {
            let what = format!("{} pixels are not one film of {side} by {side}", pixels.len());
            return Err(Error::Usage(format!("{what}: a phrase is looked for on one film at a time")));
        }
        let text = reader.texts(engine, &[phrase])?;
        let found = reader.films(engine, pixels, &["out.image_embedding", "out.cells"])?;
        found.iter().try_for_each(|numbers| finite("the film", numbers))?;
        let [embedding, cells] = [0, 1].map(|at| &found[at]);
        let map = cosines(&Values::of(engine)?.apply(cells), &text);
        let map = Grid::new(map, side / 32, side / 32).and_then(|grid| grid.bilinear(side, side));
        let map = map.map_err(|why| Error::Usage(format!("these weights ground no phrase: {why}")))?;
        let similarity = cosines(embedding, &text)[0] as f32;
        Ok(Grounded { map: map.values().iter().map(|&cosine| cosine as f32).collect(), similarity })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::train::defaults::{self, Start};

    /// A model in use holds no gradients, no moments and no activations that wait for a reverse pass.
    #[test]
    fn a_model_in_use_holds_what_it_uses() {
        let on = Resources { threads: 1, ..Resources::default() };
        let mut config = defaults::settings("micro", "default", Start::Scratch, 61, 1).unwrap();
        (config.train.batch, config.train.text_length) = (2, 8);
        let training = Session::train(&config, &on, None).unwrap();
        let folder = std::env::temp_dir().join(format!("g2d-session-{}", std::process::id()));
        training.save(&folder).unwrap();
        let weights = fs::metadata(folder.join(folder::WEIGHTS)).unwrap().len();
        let opened = Session::open(&folder, &on, 2).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let Held::Use(held) = &opened.held else { panic!("opened to be used") };
        assert!(names::moments(held.0.program()).is_empty() && held.0.program().gradients.is_empty());
        // Gradients and two moments are as large as the weights, whose file has names besides.
        let (less, more) = (opened.memory(), training.memory());
        assert!(less + 3 * (weights - weights / 4) < more, "{less} bytes to use, {more} to train, weights {weights}");
    }
}
