//! Sessions that meet a number that is not finite: the step is refused and nothing is updated. And the surface for programs of
//! one's own.

#[cfg(feature = "cli")]
#[path = "../common/command.rs"]
#[allow(dead_code)]
mod command;
#[cfg(feature = "cli")]
mod surface;
mod text_cache;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use g2d::Error;
use g2d::model::batch::{Source, TextBatch};
use g2d::model::config::Config;
use g2d::train::session::{Films, Options, Session};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The last bias of the decoder: nothing but the segmentation loss depends on it.
const DECODER_BIAS: &str = "img_model.segmentation_head.0.bias";

fn config(warmup_steps: usize) -> Config {
    Config { warmup_steps, frozen_text_layers: 0, ..Config::preset("micro").unwrap() }
}

fn open(config: Config) -> Session {
    Session::open(Options { source: Source::Numbers, threads: 1, ..Options::new(config, 3, 8) }).unwrap()
}

fn step(session: &mut Session, brightness: f32) -> Result<f64, Error> {
    let config = session.options().config.clone();
    let pixels = 3 * config.image_size * config.image_size;
    let films: Vec<f32> = (0..pixels).map(|at| brightness * (0.5 + 0.4 * (at as f32 / 37.0).sin())).collect();
    let text = TextBatch::pack(&[2, 5, 3, 2, 9, 8, 3, 2, 3], &[3, 4, 2], 8, &config).unwrap();
    Ok(session.step(Films::Numbers(&films), &text, 1e-2)?.total)
}

/// Bits of every weight, moment and running statistic.
fn states(session: &Session) -> BTreeMap<String, Vec<u64>> {
    let bits = |name: &String| session.state(name).unwrap().unwrap().iter().map(|number| number.to_bits()).collect();
    session.states().states.keys().map(|name| (name.clone(), bits(name))).collect()
}

/// Sets all numbers of one weight.
fn set(session: &mut Session, name: &str, number: f32) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("session-{}", std::process::id()));
    session.save_weights(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let elements = file.tensor(name).unwrap().shape().iter().product();
    let numbers = number.to_le_bytes().repeat(elements);
    let tensors = file.tensors().into_iter().map(|(other, view)| {
        let shape = view.shape().to_vec();
        let changed = if other == name { TensorView::new(Dtype::F32, shape, &numbers).unwrap() } else { view };
        (other, changed)
    });
    fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    session.load_weights(&path).unwrap();
    fs::remove_file(path).unwrap();
}

/// A step is refused, its error names a place that starts so, and nothing is updated; with other films it goes on.
fn refused(session: &mut Session, brightness: f32, place: &str) {
    let (steps, before) = (session.steps(), states(session));
    let error = step(session, brightness).unwrap_err();
    let Error::NotFinite { step, scope, .. } = &error else { panic!("{error}") };
    assert!(*step == steps + 1 && scope.starts_with(place), "{error}");
    assert_eq!(session.steps(), steps);
    for (name, bits) in states(session) {
        assert!(bits == before[&name], "{name} was updated");
    }
}

/// During the warm-up no gradient comes from the segmentation loss, so only the loss itself can tell.
#[test]
fn a_segmentation_loss_that_is_no_number_updates_nothing() {
    for warmup_steps in [0, 5] {
        let mut session = open(config(warmup_steps));
        step(&mut session, 1.0).unwrap();
        set(&mut session, DECODER_BIAS, f32::MAX); // weights that are not finite are not even loaded
        refused(&mut session, 1.0, "loss");
        set(&mut session, DECODER_BIAS, 0.0);
        step(&mut session, 1.0).unwrap();
    }
}

#[test]
fn films_that_are_no_numbers_update_nothing() {
    let mut session = open(config(5));
    refused(&mut session, f32::NAN, "");
    step(&mut session, 1.0).unwrap();
}

/// Every gradient is finite, but not the sum of their squares: such a step would overflow the second moments.
#[test]
fn a_gradient_too_long_to_be_measured_updates_nothing() {
    let mut session = open(Config { segmentation_weight: 1e25, ..config(0) });
    refused(&mut session, 1.0, "optimizer");
}
