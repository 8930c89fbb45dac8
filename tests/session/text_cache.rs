//! Frozen embeddings take gradients away and change nothing else; states of reports that are kept change nothing but,
//! where products are cut otherwise, roundings.

use std::collections::BTreeMap;

use g2d::Error;
use g2d::model::batch::{Source, TextBatch};
use g2d::model::config::{Config, TextStatistics};
use g2d::program::Precision;
use g2d::train::Device;
use g2d::train::session::{Films, Options, Session};

const TEXT_LEN: usize = 8;

/// Three reports each; the second and third of the first batch come again.
const REPORTS: [&[&[i32]]; 3] = [
    &[&[2, 5, 3], &[2, 9, 8, 3], &[2, 7, 6, 5, 3]],
    &[&[2, 9, 8, 3], &[2, 11, 3], &[2, 7, 6, 5, 3]],
    &[&[2, 7, 6, 5, 3], &[2, 9, 8, 3], &[2, 9, 8, 4, 4, 3]],
];

fn config(statistics: TextStatistics, frozen_embeddings: bool) -> Config {
    let micro = Config::preset("micro").unwrap();
    Config { warmup_steps: 0, frozen_text_layers: 1, frozen_embeddings, text_statistics: statistics, ..micro }
}

fn open(config: Config, device: Device, text_cache: bool) -> Session {
    opened(config, Precision::Exact, device, text_cache)
}

fn opened(config: Config, precision: Precision, device: Device, text_cache: bool) -> Session {
    let options = Options {
        source: Source::Numbers,
        precision,
        threads: 1,
        device,
        text_cache,
        ..Options::new(config, 3, TEXT_LEN)
    };
    Session::open(options).unwrap()
}

/// One step on a batch of [`REPORTS`]; the loss.
fn step(session: &mut Session, batch: usize) -> f64 {
    let config = session.options().config.clone();
    let pixels = 3 * config.image_size * config.image_size;
    let films: Vec<f32> = (0..pixels).map(|at| 0.5 + 0.4 * ((at + batch) as f32 / 37.0).sin()).collect();
    let lengths: Vec<usize> = REPORTS[batch].iter().map(|report| report.len()).collect();
    let text = TextBatch::pack(&REPORTS[batch].concat(), &lengths, TEXT_LEN, &config).unwrap();
    session.step(Films::Numbers(&films), &text, 1e-2).unwrap().total
}

/// Bits of the last step's gradients.
fn gradients(session: &Session) -> BTreeMap<String, Vec<u64>> {
    let plan = session.step_plan();
    let bits = |name: &String| {
        let numbers = session.gradient(&plan, name).unwrap().unwrap();
        numbers.iter().map(|number| number.to_bits()).collect::<Vec<u64>>()
    };
    plan.gradients.iter().map(|(name, _)| (name.clone(), bits(name))).collect()
}

#[test]
fn frozen_embeddings_take_their_gradients_and_the_way_to_them_and_nothing_else() {
    let [mut learning, mut frozen] =
        [false, true].map(|frozen| open(config(TextStatistics::RealTokens, frozen), Device::Cpu, false));
    assert_eq!(step(&mut learning, 0).to_bits(), step(&mut frozen, 0).to_bits());
    let (mut all, left) = (gradients(&learning), gradients(&frozen));
    let embeddings: Vec<String> = all.keys().filter(|name| name.contains(".embeddings.")).cloned().collect();
    assert_eq!(embeddings.len(), 5, "three tables, weight and bias of a layer norm");
    embeddings.iter().for_each(|name| drop(all.remove(name)));
    let apart: Vec<&String> = all.keys().filter(|&name| left.get(name) != all.get(name)).collect();
    assert!(apart.is_empty() && left.len() == all.len(), "other gradients, or none, of {apart:?}");
    let ops = |session: &Session| -> Vec<&'static str> {
        let plan = session.step_plan();
        let own = plan.launches.iter().filter(|launch| launch.scope.contains("lm_model.encoder.layer.0"));
        own.map(|launch| launch.op.name()).collect()
    };
    let backward = |session: &Session| ops(session).iter().filter(|name| !name.ends_with(".fwd")).count();
    assert!(backward(&learning) > 0, "{:?}", ops(&learning));
    assert_eq!(backward(&frozen), 0, "{:?}", ops(&frozen));
}

/// Also where a batch is padded, where a report is the beginning of another one, and as bf16.
#[test]
fn states_that_are_kept_give_the_same_bits() {
    for (statistics, precision) in [
        (TextStatistics::RealTokens, Precision::Exact),
        (TextStatistics::Padded, Precision::Exact),
        (TextStatistics::RealTokens, Precision::Mixed),
    ] {
        let [mut kept, mut computed] =
            [true, false].map(|cache| opened(config(statistics, true), precision, Device::Cpu, cache));
        for (batch, reports) in [3, 4, 5].into_iter().enumerate() {
            let what = format!("{statistics:?}, {precision:?}, batch {batch}");
            assert_eq!(step(&mut kept, batch).to_bits(), step(&mut computed, batch).to_bits(), "{what}");
            assert!(gradients(&kept) == gradients(&computed), "{what}");
            assert_eq!(kept.text_cache().unwrap().reports(), reports);
        }
        assert!(kept.step_plan().launches.len() < computed.step_plan().launches.len());
        assert!(
            super::states(&kept) == super::states(&computed),
            "{statistics:?}: other weights, moments or statistics"
        );
    }
}

/// A product of few rows and great depth is cut along it on the processor, one of more rows is not.
#[test]
fn where_products_are_cut_otherwise_states_are_the_same_to_rounding() {
    let config = Config { text_intermediate: 4096, ..config(TextStatistics::Padded, true) };
    let [mut kept, mut computed] = [true, false].map(|cache| open(config.clone(), Device::Cpu, cache));
    let [kept, computed] = [step(&mut kept, 0), step(&mut computed, 0)];
    // Some dozens of roundings of f32 on the way to a loss of about 2.
    assert!((kept - computed).abs() <= 64.0 * f64::from(f32::EPSILON) * computed.abs(), "{kept} {computed}");
}

#[test]
fn states_are_forgotten_with_the_weights_that_made_them() {
    let mut session = open(config(TextStatistics::RealTokens, true), Device::Cpu, true);
    step(&mut session, 0);
    super::set(&mut session, "lm_model.encoder.layer.0.output.dense.weight", 0.0);
    assert_eq!(session.text_cache().unwrap().reports(), 0);
    let mut other = open(config(TextStatistics::RealTokens, true), Device::Cpu, false);
    step(&mut other, 0);
    super::set(&mut other, "lm_model.encoder.layer.0.output.dense.weight", 0.0);
    assert_eq!(step(&mut session, 1).to_bits(), step(&mut other, 1).to_bits());
}

#[test]
fn states_are_kept_on_a_device_as_well() {
    let losses = |device, cache| {
        let mut session = open(config(TextStatistics::RealTokens, true), device, cache);
        [step(&mut session, 0), step(&mut session, 1)].map(f64::to_bits)
    };
    let device = Device::CudaEmulated(0);
    assert_eq!(losses(device, true), losses(device, false));
}

#[test]
fn what_learns_cannot_be_kept() {
    for (frozen_embeddings, frozen_text_layers) in [(false, 1), (true, 0)] {
        let config = Config { frozen_text_layers, ..config(TextStatistics::RealTokens, frozen_embeddings) };
        let options = Options { text_cache: true, ..Options::new(config, 3, TEXT_LEN) };
        let Err(Error::Usage(said)) = Session::open(options) else { panic!("it was opened") };
        let told = format!("frozen_embeddings is {frozen_embeddings}, frozen_text_layers {frozen_text_layers}");
        assert!(said.contains(&told) && said.contains("freeze"), "{said}");
    }
}
