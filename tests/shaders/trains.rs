//! The same steps on the processor and on an adapter.

use g2d::model::batch::{Source, TextBatch};
use g2d::model::config::{Config, RECIPES};
use g2d::train::Device;
use g2d::train::session::{Films, Options, Session};
use g2d::wgpu::adapter;

use super::common::ledger;

const STEPS: usize = 3;
const RATE: f64 = 1e-3;
/// What losses may differ by, relative: 256 units of f32. Sums in another order differ by some units already in the first
/// step; the optimizer divides each gradient by its own size, so a weight whose gradient is mere rounding may go another way,
/// but by no more than the rate and where the loss is flat.
const GAP: f64 = 256.0 * f32::EPSILON as f64;

/// The loss of each of a few steps from the same weights on the same batch.
fn losses(device: Device, config: &Config) -> Vec<f64> {
    let batch = 4;
    let options = Options { source: Source::Numbers, device, ..Options::new(config.clone(), batch, 8) };
    let mut session = Session::open(options).expect("micro fits everywhere");
    let pixels = batch * config.image_size * config.image_size;
    let films: Vec<f32> = (0..pixels).map(|at| 0.5 + 0.4 * (at as f32 / 37.0).sin()).collect();
    let text = TextBatch::pack(&[2, 5, 3, 2, 9, 8, 3, 2, 3, 2, 7, 3], &[3, 4, 2, 3], 8, config).expect("it is a batch");
    let mut step = || session.step(Films::Numbers(&films), &text, RATE).expect("the step runs").total;
    (0..STEPS).map(|_| step()).collect()
}

#[test]
fn losses_of_steps_follow_those_of_the_processor() {
    if adapter::list().is_empty() {
        return ledger::skipped("wgpu", "there is no adapter: nothing is trained on one", ledger::VULKAN);
    }
    for recipe in RECIPES {
        let config = Config { warmup_steps: 0, ..Config::preset("micro").unwrap() }.with_recipe(recipe).unwrap();
        let [on_cpu, on_adapter] = [Device::Cpu, Device::Wgpu(0)].map(|device| losses(device, &config));
        let moved = (on_cpu[STEPS - 1] - on_cpu[0]).abs() / on_cpu[0].abs();
        assert!(moved > 100.0 * GAP, "{recipe}: steps change the loss by {moved:e} alone: {on_cpu:?}");
        let gaps = on_cpu.iter().zip(&on_adapter).map(|(cpu, adapter)| (adapter - cpu).abs() / cpu.abs());
        let gaps: Vec<f64> = gaps.collect();
        assert!(gaps.iter().all(|&gap| gap <= GAP), "{recipe}: {gaps:?}, for {on_cpu:?} and {on_adapter:?}");
        println!("{recipe}: losses differ by {gaps:?} of them");
    }
    ledger::ran("wgpu", format!("losses of {STEPS} steps of each recipe follow the processor's"));
}
