//! A network of one's own on the engine: a small convolutional net learns to tell drawn discs, frames and crosses apart. It is
//! recorded, differentiated, planned and trained as G2D is, on any device, and one of its ops is defined here: SwiGLU.
//!
//!     cargo run --release --example custom_model -- --device cpu --steps 150
//!
//! `--device` takes cpu, wgpu, cuda or cuda-emulated.

mod swiglu;

use std::error::Error;
use std::str::FromStr;

use g2d::base::{Rng, Spec};
use g2d::model::init::Scheme;
use g2d::model::layer::{Dense, conv2d};
use g2d::model::optimizer::{self, Group};
use g2d::ops::conv2d::Conv2d;
use g2d::ops::cross_entropy::CrossEntropy;
use g2d::ops::leaky_relu::LeakyRelu;
use g2d::ops::spatial_mean::SpatialMean;
use g2d::program::record::RecordError;
use g2d::program::{Checked, Pass, Program, Recorder, Value};
use g2d::train::{Device, Engine, Resources};

use swiglu::SwiGlu;

const BATCH: usize = 16;
const SIDE: usize = 16;
const CLASSES: usize = 3;
const LEARNING_RATE: f64 = 1e-2;

/// The net: image [batch, side, side, 1] → logits [batch, classes].
fn net(r: &mut Recorder) -> Result<Value, RecordError> {
    let mut x = r.input("image", Spec::activation([BATCH, SIDE, SIDE, 1]));
    for (layer, channels) in [("conv1", 8), ("conv2", 16)] {
        let op = Conv2d::fwd(3).stride(2).bias();
        x = r.scope(layer, |r| conv2d(r, op, &[x], channels, Scheme::KaimingUniform))?;
        x = r.one(LeakyRelu::fwd(0.1), &[x])?;
    }
    let features = r.one(SpatialMean::Fwd, &[x])?;
    let [gate, value] = ["gate", "value"].map(|layer| r.scope(layer, |r| Dense::xavier().record(r, features, 24)));
    let hidden = r.one(SwiGlu { pass: Pass::Fwd }, &[gate?, value?])?;
    let logits = r.scope("classifier", |r| Dense::xavier().record(r, hidden, CLASSES))?;
    r.output("logits", logits);
    Ok(logits)
}

/// The step: the net, its loss, the gradients and AdamW; and the net alone, on the same weights.
fn record() -> Result<(Program, Program, Group), RecordError> {
    let mut r = Recorder::new();
    let logits = net(&mut r)?;
    let classes = r.input("classes", Spec::index([BATCH]));
    let loss = r.one(CrossEntropy::fwd(), &[logits, classes])?;
    r.output("loss.total", loss);
    r.differentiate(loss)?;
    let parameters = optimizer::trainable(r.program()).collect();
    let group = Group { name: "all".into(), parameters, weight_decay: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
    optimizer::optimize(&mut r, std::slice::from_ref(&group))?;
    let mut alone = Recorder::new();
    net(&mut alone)?;
    Ok((r.finish(), alone.finish(), group))
}

/// Batch of that number: pixels [batch, side, side, 1] and classes [batch].
fn draw(seed: u64, number: u64) -> (Vec<f32>, Vec<i32>) {
    let mut rng = Rng::new(seed, 0, number);
    let (mut pixels, mut classes) = (Vec::new(), Vec::new());
    for _ in 0..BATCH {
        let class = rng.below(CLASSES);
        let [y, x] = [0, 1].map(|_| rng.uniform(0.35, 0.65) * SIDE as f64);
        let radius = rng.uniform(0.2, 0.3) * SIDE as f64;
        pixels.extend((0..SIDE * SIDE).map(|at| {
            let (dy, dx) = ((at / SIDE) as f64 - y, (at % SIDE) as f64 - x);
            let (far, near) = (dy.abs().max(dx.abs()), dy.abs().min(dx.abs()));
            let inside = match class {
                0 => dy.hypot(dx) < radius,
                1 => far < radius && far > radius - 2.0,
                _ => near < 1.0 && far < radius,
            };
            (f64::from(u8::from(inside)) + 0.3 * rng.normal()) as f32
        }));
        classes.push(class as i32);
    }
    (pixels, classes)
}

/// The share of a fresh batch that is classified right.
fn accuracy(engine: &mut Engine, alone: &std::sync::Arc<Checked>) -> Result<f64, g2d::Error> {
    let (pixels, classes) = draw(2, 0);
    engine.write(alone, "image", &pixels)?;
    engine.replay(alone)?;
    let logits = engine.output(alone, "logits")?.unwrap_or_default();
    let best = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let right = logits.chunks(CLASSES).zip(&classes).filter(|&(row, &class)| best(row) == Some(class as usize));
    Ok(right.count() as f64 / BATCH as f64)
}

/// The word behind `--name`, or else `default`.
fn argument<T: FromStr>(name: &str, default: T) -> Result<T, T::Err> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map_or(Ok(default), |word| word.parse())
}

fn main() -> Result<(), Box<dyn Error>> {
    let device: Device = argument("--device", Device::Cpu)?;
    let steps: u64 = argument("--steps", 150)?;
    let (step, alone, group) = record()?;
    let on = Resources { device, ..Resources::default() };
    let (mut engine, plans) = Engine::open(&on, step.clone(), vec![step, alone])?;
    let [step, alone] = &plans[..] else { unreachable!("two programs were given") };
    engine.initialise(1)?;
    println!("{device}: {} launches a step", step.launches.len());
    for number in 1..=steps {
        let (pixels, classes) = draw(1, number);
        engine.write(step, "image", &pixels)?;
        engine.upload(step, "classes", &classes)?;
        engine.write_rates(step, &[(group.clone(), 1.0)], LEARNING_RATE, number)?;
        engine.replay(step)?;
        if number == 1 || number % 25 == 0 || number == steps {
            println!("step {number}: loss {:.4}", engine.scalar(step, "loss.total")?);
        }
    }
    println!("classified right: {:.0} %", 100.0 * accuracy(&mut engine, alone)?);
    Ok(())
}
