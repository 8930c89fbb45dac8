//! Kernels that others wrote, compiled by tests/third_party/run: right results without a report, on several seeds.

use std::path::PathBuf;

use g2d::base::Rng;
use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::Checks;
use g2d::cuda::driver::emulated::trial::{Argument, Trial};
use half::f16;

/// A kernel with its launch and arguments, and what the host computes in its place.
struct Kernel {
    name: &'static str,
    launch: Launch,
    arguments: Vec<Argument>,
    /// Which of the buffers has the results.
    result: usize,
    /// No value: the kernel does not write there.
    expected: Vec<Option<f64>>,
    /// Most that a result may be off.
    within: f64,
    /// Whether the results are halves.
    half: bool,
}

fn floats(values: &[f32]) -> Argument {
    Argument::Buffer(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn halves(values: &[f32]) -> Argument {
    Argument::Buffer(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect())
}

fn int(value: usize) -> Argument {
    Argument::Value((value as u32).to_le_bytes().to_vec())
}

fn float(value: f32) -> Argument {
    Argument::Value(value.to_le_bytes().to_vec())
}

/// Whole numbers from -2 to 2, whose sums of products are exact in every order.
fn whole(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0, 0);
    (0..count).map(|_| rng.below(5) as f32 - 2.0).collect()
}

/// Numbers in eighths.
fn eighths(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0, 0);
    (0..count).map(|_| rng.below(33) as f32 / 8.0 - 2.0).collect()
}

/// a [rows, inner] times b [columns, inner] transposed.
fn product(a: &[f32], b: &[f32], inner: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    a.chunks(inner).flat_map(|a| b.chunks(inner).map(move |b| dot(a, b))).collect()
}

fn softmax(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    let powers: Vec<f64> = logits.map(f64::exp).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// llm.c, `matmul_forward_kernel4`: 128 × 128 tiles in f32 through shared memory.
fn matmul() -> Kernel {
    let (rows, inner, columns) = (128, 64, 256);
    let (a, b, bias) = (whole(1, rows * inner), whole(2, columns * inner), whole(3, columns));
    let expected = product(&a, &b, inner).into_iter().enumerate();
    let expected = expected.map(|(at, sum)| Some(sum + f64::from(bias[at % columns]))).collect();
    Kernel {
        name: "matmul_forward_kernel4",
        result: 0,
        launch: Launch { grid: [1, 2, 1], block: [16, 16, 1], shared: 0 },
        arguments: vec![
            Argument::Uninitialized(4 * rows * columns),
            floats(&a),
            floats(&b),
            floats(&bias),
            int(inner),
            int(columns),
        ],
        expected,
        within: 0.0,
        half: false,
    }
}

/// llm.c, `layernorm_forward_kernel3`: a warp per row.
fn layer_norm() -> Kernel {
    let (rows, width) = (5, 70);
    let (x, weight, bias) = (eighths(4, rows * width), eighths(5, width), eighths(6, width));
    let normed = x.chunks(width).flat_map(|row| {
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        let affine =
            |(at, x): (usize, &f32)| Some((f64::from(*x) - mean) * scale * f64::from(weight[at]) + f64::from(bias[at]));
        row.iter().enumerate().map(affine).collect::<Vec<_>>()
    });
    Kernel {
        name: "layernorm_forward_kernel3",
        result: 0,
        launch: Launch::linear(3, 64),
        expected: normed.collect(),
        arguments: vec![
            Argument::Uninitialized(4 * rows * width),
            Argument::Uninitialized(4 * rows),
            Argument::Uninitialized(4 * rows),
            floats(&x),
            floats(&weight),
            floats(&bias),
            int(rows),
            int(width),
        ],
        within: 1e-5,
        half: false,
    }
}

/// llm.c, `softmax_forward_kernel5`: causal, online, a warp per row.
fn causal_softmax() -> Kernel {
    let (matrices, width, scale) = (2, 44, 0.25);
    let x = eighths(7, matrices * width * width);
    let rows = x.chunks(width).enumerate().flat_map(|(row, x)| {
        let kept = x[..row % width + 1].iter().map(|x| f64::from(scale) * f64::from(*x));
        let weights = softmax(kept).into_iter().map(Some);
        weights.chain(std::iter::repeat(None)).take(width).collect::<Vec<_>>()
    });
    Kernel {
        name: "softmax_forward_kernel5",
        result: 0,
        launch: Launch::linear(11, 256),
        expected: rows.collect(),
        arguments: vec![Argument::Uninitialized(4 * x.len()), float(scale), floats(&x), int(matrices), int(width)],
        within: 1e-6,
        half: false,
    }
}

/// llm.c, `attention_forward_kernel2`: causal attention by tiles of 32 with a running softmax.
fn attention() -> Kernel {
    let (heads, length, width, tile) = (2, 64, 16, 32);
    let numbers = |seed| eighths(seed, heads * length * width);
    let (q, k, v) = (numbers(8), numbers(9), numbers(10));
    let row = |x: &[f32], head: usize, at: usize| x[(head * length + at) * width..][..width].to_vec();
    let mut expected = Vec::new();
    for (head, at) in (0..heads).flat_map(|head| (0..length).map(move |at| (head, at))) {
        let logit = |other| product(&row(&q, head, at), &row(&k, head, other), width)[0] / (width as f64).sqrt();
        let weights = softmax((0..=at).map(logit));
        let weighted = |x: usize| {
            let terms = weights.iter().enumerate().map(|(other, weight)| weight * f64::from(row(&v, head, other)[x]));
            Some(terms.sum())
        };
        expected.extend((0..width).map(weighted));
    }
    // As the launcher sets it, by bytes.
    let least = f32::from_bits(0xf0f0_f0f0);
    Kernel {
        name: "attention_forward_kernel2",
        result: 5,
        launch: Launch {
            grid: [1, heads as u32, 1],
            block: [tile as u32, 1, 1],
            shared: 4 * (3 * tile * width + tile * tile) as u32,
        },
        arguments: vec![
            floats(&q),
            floats(&k),
            floats(&v),
            int(length),
            int(width),
            int(length / tile),
            int(length / tile),
            int(tile),
            int(tile),
            float(1.0 / (width as f32).sqrt()),
            floats(&vec![0.0; heads * length]),
            floats(&vec![least; heads * length]),
            floats(&vec![0.0; heads * length * width]),
        ],
        expected,
        within: 1e-5,
        half: false,
    }
}

/// llm.c, `norm_kernel2<float>`: a sum of squares by warps and atomics.
fn norm() -> Kernel {
    let x = whole(11, 1000);
    let sum = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    Kernel {
        name: "norm_kernel2",
        result: 0,
        launch: Launch::linear(3, 64),
        arguments: vec![floats(&[0.0]), floats(&x), Argument::Value((x.len() as u64).to_le_bytes().to_vec())],
        expected: vec![Some(sum)],
        within: 0.0,
        half: false,
    }
}

/// LeetCUDA, `hgemm_mma_stage_tn` with three stages: `cp.async`, `ldmatrix`, `mma.sync` in f16.
fn hgemm() -> Kernel {
    let (rows, columns, inner) = (128, 256, 64);
    let (a, b) = (whole(12, rows * inner), whole(13, columns * inner));
    Kernel {
        name: "hgemm_mma_stage_tn",
        result: 2,
        launch: Launch { grid: [2, 1, 1], block: [256, 1, 1], shared: 3 * 2 * 128 * 16 * 2 },
        arguments: vec![
            halves(&a),
            halves(&b),
            Argument::Uninitialized(2 * rows * columns),
            int(rows),
            int(columns),
            int(inner),
        ],
        expected: product(&a, &b, inner).into_iter().map(Some).collect(),
        within: 0.0,
        half: true,
    }
}

impl Kernel {
    fn check(&self, folder: &std::path::Path) {
        let path = folder.join(self.name).with_extension("ptx");
        let ptx = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kernel = ptx.split_once(".entry ").and_then(|(_, rest)| rest.split_once('(')).expect("an entry").0;
        let (launch, arguments) = (self.launch, self.arguments.clone());
        let checks = Checks::default();
        let trial = Trial {
            file: self.name,
            ptx: &ptx,
            kernel,
            launch,
            arguments,
            checks,
            seeds: 0..4,
            completion: None,
            limit: None,
            exact_sums: false,
        };
        let outcome = trial.run().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert!(outcome.difference.is_none(), "{}: seeds differ: {:?}", self.name, outcome.difference);
        let result = &outcome.buffers[self.result];
        let values: Vec<f64> = match self.half {
            true => result.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]).into()).collect(),
            false => result.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]).into()).collect(),
        };
        for (at, (value, expected)) in values.iter().zip(&self.expected).enumerate() {
            let Some(expected) = expected else { continue };
            assert!((value - expected).abs() <= self.within, "{}: element {at} is {value}, not {expected}", self.name);
        }
        let instructions = outcome.counters.total_instructions();
        println!("{}: right on four seeds, no report, {instructions} warp instructions each", self.name);
    }
}

#[test]
#[ignore = "needs texts of others: tests/third_party/run"]
fn third_party_kernels_are_right_and_clean() {
    let folder = PathBuf::from(std::env::var_os("G2D_THIRD_PARTY").expect("G2D_THIRD_PARTY: a folder of PTX texts"));
    for kernel in [matmul(), layer_norm(), causal_softmax(), attention(), norm(), hgemm()] {
        kernel.check(&folder);
    }
}
