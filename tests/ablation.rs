//! The switches of the paper's ablations: the gradient of each one's step against central differences in f64, and two
//! steps with each; what a model whose decoder learned no masks cannot do.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::cases::Data;
use common::interpret::Values;
use g2d::base::{Kind, Rng};
use g2d::model::batch::{Reports, Shapes, Source, TextBatch};
use g2d::model::config::{Config, DecoderObjective};
use g2d::model::g2d::{Phase, record_step};
use g2d::model::init;
use g2d::model::interference::{Interference, OUTPUTS, record_interference};
use g2d::program::Program;
use g2d::train::session::{Films, Options, Session, StepMetrics};

const SHAPES: Shapes = Shapes { batch: 3, text_len: 5, source: Source::Numbers };

/// Settings as `--set` takes them; the first is the default.
const SWITCHES: &[&[(&str, &str)]] = &[
    &[],
    &[("decoder_objective", "none")],
    &[("decoder_objective", "reconstruction")],
    &[("decoder_objective", "shuffled-masks")],
    &[("mask_threshold", "median")],
    &[("mask_threshold", "mean")],
    &[("mask_threshold", "gmm")],
    &[("mask_aggregation", "max")],
    &[("mask_aggregation", "single"), ("mask_head", "2")],
    &[("mask_aggregation", "per-head")],
    &[("mask_aggregation", "per-head"), ("mask_threshold", "gmm"), ("decoder_objective", "shuffled-masks")],
    &[("mask_body", "none")],
    &[("mask_smooth", "none")],
];

/// 3 x 3 cells of attention, whose scores differ from head to head.
fn config(switches: &[(&str, &str)]) -> Config {
    let micro = Config::preset("micro").unwrap();
    let mut config = Config { image_size: 96, resnet_width: 2, decoder_channels: vec![6, 5, 4, 3, 2], ..micro };
    switches.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    config
}

fn films(side: usize) -> Vec<f32> {
    let mut rng = Rng::new(7, 2, 0);
    (0..SHAPES.batch * side * side).map(|_| rng.uniform(0.0, 1.0) as f32).collect()
}

fn text(config: &Config) -> TextBatch {
    TextBatch::pack(&[2, 9, 3, 2, 7, 5, 8, 3, 2, 4, 3], &[3, 5, 3], SHAPES.text_len, config).unwrap()
}

/// Inputs and fresh states of a program, by name.
fn data(program: &Program, config: &Config) -> BTreeMap<String, Data<f64>> {
    let text = text(config);
    let film = films(config.image_size).into_iter().map(f64::from).collect();
    let inputs = [("ids", text.ids), ("order", text.order), ("offsets", text.offsets), ("lengths", text.lengths)];
    let inputs = inputs.map(|(name, numbers)| (name.to_owned(), Data::Indices(numbers)));
    let states = program.states.iter().map(|state| {
        let spec = program.spec(state.value);
        let numbers = init::draw(state.init, &state.name, spec.shape.elements(), 5).into_iter();
        let numbers = match spec.kind {
            Kind::Index => Data::Indices(numbers.map(|number| number as i32).collect()),
            _ => Data::Numbers(numbers.map(f64::from).collect()),
        };
        (state.name.clone(), numbers)
    });
    states.chain(inputs).chain([("image".to_owned(), Data::Numbers(film))]).collect()
}

/// Computes a program's first nodes. States are handed in as if they were uploaded.
fn walk(program: &Program, data: &BTreeMap<String, Data<f64>>, nodes: usize) -> Values<f64> {
    let mut walked = program.clone();
    walked.inputs.extend(program.states.iter().map(|state| (state.name.clone(), state.value)));
    let inputs: Vec<Data<f64>> = walked.inputs.iter().map(|(name, _)| data[name].clone()).collect();
    Values::new(&walked, &inputs).run(&walked.nodes[..nodes])
}

#[test]
fn gradients_are_those_of_central_differences() {
    // Small, for the loss has a kink wherever a number behind a ReLU passes zero.
    const STEP: f64 = 1e-8;
    for switches in SWITCHES {
        let config = config(switches);
        let program = record_step(&config, &SHAPES, Phase::Full, Reports::Tokens).unwrap().finish();
        let data = data(&program, &config);
        let total = program.output("loss.total").unwrap();
        let forward = 1 + program.nodes.iter().position(|node| node.outputs.contains(&total)).unwrap();
        let values = walk(&program, &data, program.nodes.len());
        for part in ["img_model.encoder.", "img_model.decoder.", "img_model.segmentation_head.", "attnpool.", "proj_"] {
            let mut rng = Rng::new(9, 3, 0);
            let mut directions = BTreeMap::new();
            let mut slope = 0.0;
            for &(at, gradient) in &program.gradients {
                let name = &program.states[at].name;
                if name.starts_with(part) {
                    let gradient = values.get(gradient).numbers();
                    let direction: Vec<f64> = gradient.iter().map(|_| rng.normal()).collect();
                    slope += gradient.iter().zip(&direction).map(|(gradient, along)| gradient * along).sum::<f64>();
                    directions.insert(name.clone(), direction);
                }
            }
            let decoder = part.starts_with("img_model.decoder") || part.starts_with("img_model.segmentation");
            let wanted = !decoder || config.decoder_objective.decodes();
            assert_eq!(!directions.is_empty(), wanted, "{switches:?}: {part} has a gradient, or has none");
            let loss = |step: f64| {
                let mut moved = data.clone();
                for (name, direction) in &directions {
                    let numbers = data[name].numbers().iter().zip(direction);
                    moved.insert(name.clone(), Data::Numbers(numbers.map(|(x, along)| x + step * along).collect()));
                }
                walk(&program, &moved, forward).get(total).numbers()[0]
            };
            let found = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let ok = (found - slope).abs() <= 1e-4 * slope.abs() + 1e-5;
            assert!(ok, "{switches:?}: the slope along {part} is {slope}, central differences give {found}");
        }
    }
}

fn open(config: Config) -> Session {
    let options =
        Options { source: Source::Numbers, threads: 1, ..Options::new(config, SHAPES.batch, SHAPES.text_len) };
    Session::open(options).unwrap()
}

fn step(session: &mut Session) -> StepMetrics {
    let config = session.options().config.clone();
    session.step(Films::Numbers(&films(config.image_size)), &text(&config), 1e-3).unwrap()
}

#[test]
fn each_trains_and_differs_from_the_default() {
    let usual = step(&mut open(config(&[])));
    for switches in &SWITCHES[1..] {
        let mut session = open(config(switches));
        let decodes = session.options().config.decoder_objective.decodes();
        let head = |session: &Session| session.state("img_model.segmentation_head.0.weight").unwrap();
        let (before, first) = (head(&session), step(&mut session));
        let second = step(&mut session);
        assert!(second.total.is_finite() && second.total != first.total, "{switches:?}: {first:?}, then {second:?}");
        assert_eq!(first.contrastive, usual.contrastive, "{switches:?} changes the contrastive loss");
        assert_ne!(first.segmentation, usual.segmentation, "{switches:?} changes nothing");
        assert_eq!((first.segmentation.is_some(), before.is_some()), (decodes, decodes), "{switches:?}");
        assert!(!decodes || head(&session) != before, "{switches:?}: the decoder learns nothing");
        assert!(first.mask_area > 0.0 && first.mask_area < 1.0, "{switches:?}: {first:?}");
    }
}

#[test]
fn without_a_decoder_of_masks_nothing_is_segmented() {
    for objective in ["none", "reconstruction"] {
        let mut session = open(config(&[("decoder_objective", objective)]));
        let side = session.options().config.image_size;
        let error = session.segment(&vec![0; side * side]).unwrap_err().to_string();
        assert!(error.contains("decoder_objective"), "{error}");
        let text = text(&session.options().config);
        let found = session.evaluate(Films::Numbers(&films(side)), &text).unwrap();
        assert!(found.logits.is_empty() && found.mask.len() == SHAPES.batch * side * side);
    }
}

#[test]
fn weights_with_a_decoder_are_taken_without_it_and_not_the_other_way_round() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ablation-{}", std::process::id()));
    let (mut whole, mut encoder) = (open(config(&[])), open(config(&[("decoder_objective", "none")])));
    assert_eq!(encoder.options().config.decoder_objective, DecoderObjective::None);
    whole.save_weights(&path).unwrap();
    let notes = encoder.load_weights(&path).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].contains("img_model.decoder."), "{notes:?}");
    encoder.save_weights(&path).unwrap();
    let error = whole.load_weights(&path).unwrap_err().to_string();
    assert!(error.contains("missing: img_model.decoder."), "{error}");
    std::fs::remove_file(path).unwrap();
}

/// The decoder's gradient is what the whole step's has beyond that of the warm-up.
#[test]
fn interference_is_that_of_the_gradients_of_both_phases() {
    for switches in [&[][..], &[("decoder_objective", "reconstruction"), ("segmentation_weight", "3")]] {
        let config = config(switches);
        let gradient = |phase| {
            let program = record_step(&config, &SHAPES, phase, Reports::Tokens).unwrap().finish();
            let values = walk(&program, &data(&program, &config), program.nodes.len());
            let shared = |at: &usize| program.states[*at].name.starts_with("img_model.encoder.");
            let mut gradients: Vec<_> = program.gradients.iter().filter(|(at, _)| shared(at)).copied().collect();
            gradients.sort_by_key(|&(at, _)| at);
            gradients.iter().flat_map(|&(_, gradient)| values.get(gradient).numbers().to_vec()).collect::<Vec<f64>>()
        };
        let (contrastive, whole) = (gradient(Phase::Warmup), gradient(Phase::Full));
        let decoder: Vec<f64> =
            whole.iter().zip(&contrastive).map(|(whole, contrastive)| whole - contrastive).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let [first, second] = [&contrastive, &decoder].map(|gradient| dot(gradient, gradient).sqrt());
        let wanted = Interference { cosine: dot(&contrastive, &decoder) / first / second, norm_ratio: second / first };

        let program = record_interference(&config, &SHAPES).unwrap().finish();
        let values = walk(&program, &data(&program, &config), program.nodes.len());
        let squares = OUTPUTS.map(|name| values.get(program.output(name).unwrap()).numbers()[0]);
        let found = Interference::of_squares(squares).unwrap();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
        assert!(
            near(found.cosine, wanted.cosine) && near(found.norm_ratio, wanted.norm_ratio),
            "{found:?}, {wanted:?}"
        );
    }
    let without = config(&[("decoder_objective", "none")]);
    assert!(record_interference(&without, &SHAPES).unwrap_err().to_string().contains("decoder_objective"));
    assert_eq!(Interference::of_squares([1.0, 0.0, 1.0]), None);
}
