//! `g2d::Session`: what it gives is what `g2d explain` and `g2d eval` compute, trained weights come back from a folder, and
//! what cannot be done is refused.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::command::{self, g2d};
use ::g2d::Session;
use ::g2d::data::Dataset;
use ::g2d::data::tokenizer::Tokenizer;
use ::g2d::downstream::explain::explain;
use ::g2d::downstream::{Encoder, Subject};
use ::g2d::train::defaults::{self, Start};
use ::g2d::train::reader::normalise;
use ::g2d::train::{Resources, config::RunConfig};

const PHRASE: &str = "pleural effusion";

/// A folder with a run of two steps and its shards; made once.
fn world() -> &'static PathBuf {
    static WORLD: OnceLock<PathBuf> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = command::empty("surface");
        g2d(&folder, "phantom --count 40 --seed 5 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
        g2d(&folder, "pretrain --data shards --preset micro --steps 2 --batch 4 --device cpu --out run").done();
        folder
    })
}

fn on() -> Resources {
    Resources { threads: 2, ..Resources::default() }
}

fn opened(batch: usize) -> Session {
    Session::open(&world().join("run"), &on(), batch).unwrap()
}

fn film() -> PathBuf {
    fs::read_dir(world().join("drawn/images")).unwrap().next().unwrap().unwrap().path()
}

/// How far apart numbers of f32 may be that were computed with others beside them, or that have length 1: some dozen roundings of
/// 2^-24. Measured: 1.8e-7.
const ROUNDED: f64 = 1e-6;

/// Every number is within `bound` of its partner.
#[track_caller]
fn near(found: &[f32], wanted: &[f64], bound: f64) {
    assert_eq!(found.len(), wanted.len());
    let worst = found
        .iter()
        .zip(wanted)
        .map(|(&a, &b)| (f64::from(a) - b).abs())
        .fold(0.0, |a: f64, b| if a >= b { a } else { b });
    assert!(worst <= bound, "{worst}");
}

#[test]
fn a_session_gives_what_explain_shows() {
    let subject = Subject::of_run(&world().join("run")).unwrap();
    for batch in [1, 3] {
        let mut session = opened(batch);
        let pixels = session.film(&film()).unwrap();
        assert_eq!(session.film_of(fs::read(film()).unwrap()).unwrap(), pixels);
        let shown = explain(&subject, &on(), &pixels, Some(PHRASE)).unwrap();
        let stage = |name: &str| &shown.stages.iter().find(|stage| stage.name == name).unwrap().pixels;
        near(&session.segment(&pixels).unwrap(), stage("predicted mask"), ROUNDED);
        let found = session.ground(&pixels, PHRASE).unwrap();
        near(&[found.similarity], &[shown.numbers.similarity.unwrap()], ROUNDED);
        // There it is stretched to 0 to 1, and roundings with it: the map's range may be a tenth.
        let (low, high) = found.map.iter().fold((f32::MAX, f32::MIN), |(low, high), &it| (low.min(it), high.max(it)));
        let stretched: Vec<f32> = found.map.iter().map(|it| (it - low) / (high - low)).collect();
        near(&stretched, stage(&format!("\"{PHRASE}\"")), 10.0 * ROUNDED);
        assert!(high > low && found.map.iter().all(|cosine| cosine.abs() <= 1.0));
        // The cosine is also the product of the embeddings.
        let (film, text) = (session.embed_films(&pixels).unwrap(), session.embed_texts(&[PHRASE]).unwrap());
        let product: f64 = film.iter().zip(&text).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        near(&[found.similarity], &[product], ROUNDED);
    }
}

/// The downstream tasks compute 16 films at a time: then bits are the same.
#[test]
fn a_session_gives_what_eval_computes() {
    let subject = Subject::of_run(&world().join("run")).unwrap();
    let data = Arc::new(Dataset::open(&world().join("shards")).unwrap());
    let mut encoder = Encoder::open(&subject, &on()).unwrap();
    let mut session = opened(16);
    let films: Vec<usize> = (0..21).collect();
    let mut wanted = encoder.films(&data, &films, false, &|_| ()).unwrap().embedding;
    normalise(&mut wanted, subject.config.projection_dim);
    let pixels: Vec<u8> = films.iter().flat_map(|&film| data.pixels(film)).copied().collect();
    assert_eq!(session.embed_films(&pixels).unwrap(), wanted);
    let texts = ["no finding", PHRASE, "a text that is much longer than the model takes. ".repeat(20).as_str()]
        .map(str::to_owned);
    assert_eq!(session.embed_texts(&texts).unwrap(), encoder.reports(&texts).unwrap());
    assert_eq!(session.embed_texts(&texts[..2]).unwrap(), encoder.prompts(&texts[..2]).unwrap());
    assert_eq!(session.encode(&texts[2]).unwrap().len(), session.shapes().text_len);
}

fn settings() -> (RunConfig, Tokenizer) {
    let tokenizer = Tokenizer::load(&world().join("shards/tokenizer.json"), false).unwrap();
    let mut config = defaults::settings("micro", "default", Start::Scratch, tokenizer.vocab_size(), 1).unwrap();
    config.train.batch = 4;
    (config, tokenizer)
}

#[test]
fn a_session_trains_and_its_model_comes_back() {
    let data = Dataset::open(&world().join("shards")).unwrap();
    let (config, tokenizer) = settings();
    let mut session = Session::train(&config, &on(), Some(tokenizer)).unwrap();
    assert!(session.trains() && session.metrics().is_none());
    let films = data.select(None, true);
    let pixels: Vec<u8> = films[..4].iter().flat_map(|&film| data.pixels(film)).copied().collect();
    let reports = films[..4].iter().map(|&film| session.encode(&data.record(film).unwrap().text).unwrap());
    let reports: Vec<Vec<i32>> = reports.collect();
    let fresh = session.embed_films(&pixels).unwrap();
    let losses: Vec<f64> = (0..4).map(|_| session.step(&pixels, &reports, 2e-3).unwrap().total).collect();
    assert!(losses[3] < losses[0], "{losses:?}");
    assert_eq!((session.steps(), session.metrics().unwrap().total), (4, losses[3]));
    let trained = session.embed_films(&pixels).unwrap();
    assert_ne!(fresh, trained);

    let folder = world().join("saved");
    session.save(&folder).unwrap();
    assert!(session.save(&folder).is_err(), "a folder that is not empty was overwritten");
    let mut again = Session::open(&folder, &on(), 4).unwrap();
    let mut loaded = Session::train(&settings().0, &on(), Some(settings().1)).unwrap();
    loaded.load(&folder).unwrap();
    for other in [&mut again, &mut loaded] {
        assert_eq!(other.embed_films(&pixels).unwrap(), trained);
        assert_eq!(other.embed_texts(&[PHRASE]).unwrap(), session.embed_texts(&[PHRASE]).unwrap());
        assert_eq!(other.segment(&pixels).unwrap(), session.segment(&pixels).unwrap());
        assert_eq!(other.ground(&pixels[..4096], PHRASE).unwrap(), session.ground(&pixels[..4096], PHRASE).unwrap());
    }
    let refused = |result: Result<(), ::g2d::Error>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(again.step(&pixels, &reports, 1e-3).map(drop), "open one that trains");
    refused(session.step(&pixels[1..], &reports, 1e-3).map(drop), "4 films of 64 by 64");
    refused(session.step(&pixels, &reports[1..], 1e-3).map(drop), "3 texts");
    refused(session.step(&pixels, &reports, f64::INFINITY).map(drop), "learning rate");
    refused(session.segment(&pixels[1..]).map(drop), "prepare each");
    refused(session.ground(&pixels, PHRASE).map(drop), "one film");
    refused(session.ground(&pixels[..4096], " ").map(drop), "no word");
    refused(session.ground(&pixels[..4096], "肺 炎").map(drop), "has no word of the prompt");
    refused(session.load(&film()), &film().display().to_string());
    let mut other = settings().0;
    other.model.projection_dim = 8;
    Session::train(&other, &on(), None).unwrap().save(&world().join("other")).unwrap();
    refused(again.load(&world().join("other")), "does not fit");
    assert_eq!(again.embed_films(&pixels).unwrap(), trained, "weights that do not fit changed something");
}

/// A model's folder without its tokenizer takes tokens, and says what texts need.
#[test]
fn a_model_without_tokenizer_takes_tokens() {
    let folder = world().join("silent");
    let mut session = Session::train(&settings().0, &on(), None).unwrap();
    session.save(&folder).unwrap();
    let mut opened = Session::open(&folder, &on(), 2).unwrap();
    assert!(session.encode("effusion").unwrap_err().to_string().contains("without a tokenizer"));
    assert!(opened.encode("effusion").unwrap_err().to_string().contains("silent/tokenizer.json"));
    let texts = [[2, 9, 3], [2, 8, 3]];
    let found = opened.embed_tokens(&texts).unwrap();
    near(&found, &session.embed_tokens(&texts).unwrap().iter().map(|&it| it.into()).collect::<Vec<f64>>(), ROUNDED);
    let dim = opened.config().projection_dim;
    for row in found.chunks_exact(dim) {
        near(&[row.iter().map(|it| it * it).sum::<f32>()], &[1.0], ROUNDED);
    }
}
