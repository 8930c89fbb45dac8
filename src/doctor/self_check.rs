//! A few steps of the smallest model: the fast kernels against their definitions, and against themselves.

use super::Check;
use crate::base::random::Rng;
use crate::data::augment::Recipe;
use crate::error::Error;
use crate::model::batch::TextBatch;
use crate::model::config::Config;
use crate::program::Kernels;
use crate::train::Device;
use crate::train::session::{Films, Options, Session};

const STEPS: usize = 3;
const BATCH: usize = 4;
const STREAM: u32 = u32::from_be_bytes(*b"self");
/// How far losses of f32 kernels may lie from those of their definitions, relative.
const TOLERANCE: f64 = 1e-3;

/// Runs the check, in well under a second. The emulated device would take minutes; the processor stands in for it.
pub fn run(device: Device) -> Result<Check, Error> {
    let device = if device.schedule().is_some() { Device::Cpu } else { device };
    let [defined, one, all] =
        [(Device::Cpu, Kernels::Reference, 0), (device, Kernels::Best, 1), (device, Kernels::Best, 0)]
            .map(|(device, kernels, threads)| losses(device, kernels, threads));
    let (defined, one, all) = (defined?, one?, all?);
    let apart = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(1e-6);
    let error =
        defined.iter().zip(&one).map(apart).fold(0.0, |most: f64, error| if error <= most { most } else { error });
    let same = one.iter().zip(&all).all(|(a, b)| a.to_bits() == b.to_bits());
    let found = format!(
        "{STEPS} steps of the preset micro on {device}: losses {error:.1e} from those of the definitions, {} on one thread and on all",
        if same { "the same bits" } else { "other bits" }
    );
    let fix = "do not trust this machine or this build: test its memory, then cargo test --release";
    Ok(if error <= TOLERANCE && same {
        Check::passed("self-check", found)
    } else {
        Check::failed("self-check", found, fix)
    })
}

/// Loss and gradient norm of each step.
fn losses(device: Device, kernels: Kernels, threads: usize) -> Result<Vec<f64>, Error> {
    let config = Config { warmup_steps: 0, frozen_text_layers: 0, ..Config::preset("micro")? };
    let (side, length) = (config.image_size, config.max_positions.min(16));
    let mut rng = Rng::new(0, STREAM, 0);
    let pixels: Vec<u8> = (0..BATCH * side * side).map(|_| rng.below(256) as u8).collect();
    let augmentation = Recipe::None.draw(side, 0, 0, 0).repeat(BATCH);
    let lengths: Vec<usize> = (0..BATCH).map(|at| length - at).collect();
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|_| rng.below(config.vocab_size) as i32).collect();
    let text = TextBatch::pack(&tokens, &lengths, length, &config)?;
    let mut session = Session::open(Options { device, kernels, threads, ..Options::new(config, BATCH, length) })?;
    let mut losses = Vec::new();
    for _ in 0..STEPS {
        let metrics = session.step(Films::Bytes(&pixels, &augmentation), &text, 1e-4)?;
        losses.extend([metrics.total, metrics.grad_norm].into_iter().chain(metrics.segmentation));
    }
    Ok(losses)
}
