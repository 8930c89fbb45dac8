//! Single ops of g2d and of burn on the same GPU through wgpu, in turn.
//!
//!     cargo run --release --manifest-path benches/peers/burn/Cargo.toml [-- N]
//!
//! N is the number of a discrete GPU, or of a software adapter, among those that `g2d devices` lists; 0 if it is left out. Each op is measured nine times
//! by both in turn, each time as often in a row as makes a fifth of a second, waiting for the last; figures are medians.
//! burn runs with autotuning and fusion; what it tunes, it tunes before the first measurement. Layouts are each one's own:
//! burn's images are [batch, channels, rows, columns], g2d's [batch, rows, columns, channels].

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::module::{attention, conv2d, layer_norm};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions};
use burn::tensor::{Device, DeviceKind, Distribution, Tensor};
use g2d::base::{Kind, Rng, Spec};
use g2d::ops::{attention as ours_attention, conv2d as ours_conv2d, layer_norm as ours_layer_norm, linear};
use g2d::program::{Checked, Kernels, Precision, Recorder, StateLayout, Value, plan};
use g2d::wgpu::adapter::{self, Checks};
use g2d::wgpu::{Gpu, Replay};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MEASUREMENTS: usize = 9;
const SECONDS: f64 = 0.2;

/// Rows of a product, and of layer norm.
const ROWS: usize = 1024;
const FEATURES: usize = 768;
/// Images, their side and channels.
const IMAGES: [usize; 3] = [8, 64, 64];
/// Sequences, rows of each, heads; 64 features a head.
const SEQUENCES: [usize; 3] = [4, 256, 12];
const DEPTH: usize = 64;

fn main() -> Result<()> {
    let number: u32 = std::env::args().nth(1).map_or(Ok(0), |word| word.parse())?;
    let found = adapter::list();
    let chosen = found.get(number as usize).ok_or("there is no such adapter")?;
    println!("{} by {}, {}", chosen.name, chosen.api, chosen.driver);
    let device = Device::wgpu(if chosen.software { DeviceKind::Cpu } else { DeviceKind::DiscreteGpu(number as usize) });
    let gpu = adapter::open(number, Checks::On)?;
    println!("{:34} {:>10} {:>10} {:>6}", "op", "g2d, ms", "burn, ms", "ratio");
    for (name, ours, theirs) in [
        ("product 1024x768 · 768x768", product(&gpu)?, burn_product(&device)),
        ("conv 3x3 64 of 8x64x64x64, forward", convolution(&gpu, false)?, burn_convolution(&device)),
        ("the same, forward and backward", convolution(&gpu, true)?, burn_convolution_gradient(&device)),
        ("attention 4x256, 12 heads of 64", attend(&gpu)?, burn_attention(&device)),
        ("layer norm 1024x768", norm(&gpu)?, burn_norm(&device)),
    ] {
        let (ours, theirs) = in_turn(ours, theirs)?;
        println!("{name:34} {:10.3} {:10.3} {:6.2}", ours * 1e3, theirs * 1e3, theirs / ours);
    }
    Ok(())
}

/// Something that is done so often in a row, and waited for.
type Work = Box<dyn FnMut(usize) -> Result<()>>;

/// Median seconds of both.
fn in_turn(mut ours: Work, mut theirs: Work) -> Result<(f64, f64)> {
    let time = |work: &mut Work, times: usize| -> Result<f64> {
        let start = Instant::now();
        work(times)?;
        Ok(start.elapsed().as_secs_f64() / times as f64)
    };
    let mut often = |work: &mut Work| -> Result<usize> {
        work(2)?;
        Ok((SECONDS / time(work, 1)?).clamp(1.0, 2000.0) as usize)
    };
    let times = [often(&mut ours)?, often(&mut theirs)?];
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..MEASUREMENTS {
        seconds[0].push(time(&mut ours, times[0])?);
        seconds[1].push(time(&mut theirs, times[1])?);
    }
    let [ours, theirs] = seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[MEASUREMENTS / 2]
    });
    Ok((ours, theirs))
}

/// The steps of a program that `record` writes down, on random numbers; where texts lie, all of the same length.
fn recorded(gpu: &Arc<dyn Gpu>, record: impl FnOnce(&mut Recorder) -> Result<Vec<Value>>) -> Result<Work> {
    let mut recorder = Recorder::new();
    for (at, value) in record(&mut recorder)?.into_iter().enumerate() {
        recorder.output(format!("out.{at}"), value);
    }
    let program = recorder.finish();
    let states = StateLayout::in_pieces(&program, Precision::Exact, gpu.piece() as usize);
    let plan: Arc<Checked> = Arc::new(plan(program, &states, Kernels::Wgsl(gpu.offered()))?);
    let mut replay = Replay::open(gpu.clone(), &[plan.clone()])?;
    let mut rng = Rng::new(0, 0, 0);
    for (_, at) in &plan.inputs {
        let buffer = &plan.buffers[*at];
        let count = buffer.spec.shape.elements();
        match buffer.spec.kind {
            Kind::Index if count == SEQUENCES[0] => replay.write(buffer, (0..count).map(|_| SEQUENCES[1] as f64))?,
            Kind::Index => replay.write(buffer, (0..count).map(|at| (at * SEQUENCES[1]) as f64))?,
            _ => replay.write(buffer, (0..count).map(|_| rng.uniform(-1.0, 1.0)))?,
        }
    }
    let gpu = gpu.clone();
    Ok(Box::new(move |times| {
        for _ in 0..times {
            replay.replay(&plan)?;
        }
        Ok(gpu.synchronize()?)
    }))
}

fn product(gpu: &Arc<dyn Gpu>) -> Result<Work> {
    recorded(gpu, |recorder| {
        let x = recorder.input("x", Spec::activation([ROWS, FEATURES]));
        let w = recorder.input("w", Spec::activation([FEATURES, FEATURES]));
        Ok(vec![recorder.one(linear::Linear::fwd(), &[x, w])?])
    })
}

fn convolution(gpu: &Arc<dyn Gpu>, backward: bool) -> Result<Work> {
    let [batch, side, channels] = IMAGES;
    recorded(gpu, |recorder| {
        let image = Spec::activation([batch, side, side, channels]);
        let (x, dy) = (recorder.input("x", image), recorder.input("dy", image));
        let w = recorder.input("w", Spec::activation([channels, 3, 3, channels]));
        let fwd = ours_conv2d::Conv2d::fwd(3);
        let y = recorder.one(fwd, &[x, w])?;
        if !backward {
            return Ok(vec![y]);
        }
        let pass = ours_conv2d::Pass::Dgrad { height: side, width: side, channels };
        let dx = recorder.one(ours_conv2d::Conv2d { pass, ..fwd }, &[dy, w])?;
        let dw = recorder.one(ours_conv2d::Conv2d { pass: ours_conv2d::Pass::Wgrad, ..fwd }, &[dy, x])?;
        Ok(vec![y, dx, dw])
    })
}

fn attend(gpu: &Arc<dyn Gpu>) -> Result<Work> {
    let [sequences, rows, heads] = SEQUENCES;
    recorded(gpu, |recorder| {
        let [q, k, v] =
            ["q", "k", "v"].map(|name| recorder.input(name, Spec::activation([sequences * rows, heads * DEPTH])));
        let offsets = recorder.input("offsets", Spec::index([sequences + 1]));
        let lengths = recorder.input("lengths", Spec::index([sequences]));
        Ok(recorder.node(ours_attention::Attention::fwd(heads), &[q, k, v, offsets, lengths])?)
    })
}

fn norm(gpu: &Arc<dyn Gpu>) -> Result<Work> {
    recorded(gpu, |recorder| {
        let x = recorder.input("x", Spec::activation([ROWS, FEATURES]));
        let [gamma, beta] = ["gamma", "beta"].map(|name| recorder.input(name, Spec::exact([FEATURES])));
        let offsets = recorder.input("offsets", Spec::index([ROWS / SEQUENCES[1] + 1]));
        Ok(recorder.node(ours_layer_norm::LayerNorm::fwd(1e-12), &[x, gamma, beta, offsets])?)
    })
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

/// Does it so often, drops what it makes, and waits.
fn burning<T: 'static>(device: &Device, once: impl Fn() -> T + 'static) -> Work {
    let device = device.clone();
    Box::new(move |times| {
        (0..times).for_each(|_| drop(once()));
        Ok(device.sync()?)
    })
}

fn burn_product(device: &Device) -> Work {
    let (x, w) = (random([ROWS, FEATURES], device), random([FEATURES, FEATURES], device));
    burning(device, move || x.clone().matmul(w.clone()))
}

fn images(device: &Device) -> (Tensor<4>, Tensor<4>) {
    let [batch, side, channels] = IMAGES;
    (random([batch, channels, side, side], device), random([channels, channels, 3, 3], device))
}

fn burn_convolution(device: &Device) -> Work {
    let (x, w) = images(device);
    burning(device, move || conv2d(x.clone(), w.clone(), None, options()))
}

fn options() -> ConvOptions<2> {
    ConvOptions::new([1, 1], [1, 1], [1, 1], 1)
}

fn burn_convolution_gradient(device: &Device) -> Work {
    let learning = device.clone().autodiff();
    let (x, w) = images(&learning);
    let (x, w) = (x.require_grad(), w.require_grad());
    burning(device, move || {
        let gradients = conv2d(x.clone(), w.clone(), None, options()).backward();
        (x.grad(&gradients), w.grad(&gradients))
    })
}

fn burn_attention(device: &Device) -> Work {
    let [sequences, rows, heads] = SEQUENCES;
    let [q, k, v] = [0; 3].map(|_| random([sequences, heads, rows, DEPTH], device));
    burning(device, move || {
        attention(q.clone(), k.clone(), v.clone(), None, None, AttentionModuleOptions::default())
    })
}

fn burn_norm(device: &Device) -> Work {
    let x: Tensor<2> = random([ROWS, FEATURES], device);
    let [gamma, beta]: [Tensor<1>; 2] = [0; 2].map(|_| random([FEATURES], device));
    burning(device, move || layer_norm(x.clone(), gamma.clone(), Some(beta.clone()), 1e-12))
}
