//! What the tensors of a sampled launch hold: laws that make each number from its place, so that nothing is stored.

use std::sync::Arc;

use crate::base::{DType, Kind, Rng, Spec};
use crate::cuda::driver::emulated::Make;
use crate::data::augment::Recipe;
use crate::model::batch::TextBatch;
use crate::ops::Op;
use crate::ops::attention_pool::AttentionPool;
use crate::ops::batch_norm::{BatchNorm, Gate};
use crate::ops::layer_norm::LayerNorm;
use crate::program::plan::{Launch, Plan};

/// First stream of the numbers.
const STREAM: u32 = 0x0c00_0000;

/// How numbers come about.
#[derive(Clone)]
enum Law {
    /// Standard normal.
    Normal,
    /// Uniform in [0, 1).
    Unit,
    /// Uniform in [0.5, 1.5): variances and the like.
    Positive,
    /// Standard normal, rounded to multiples of a sixteenth.
    Sixteenths,
    /// Integers below this.
    Below(usize),
    /// These, over and over.
    These(Arc<[f64]>),
}

/// The numbers of one tensor.
#[derive(Clone)]
pub struct Content {
    law: Law,
    seed: u64,
    stream: u32,
    /// As what they are stored.
    pub dtype: DType,
}

impl Content {
    /// Standard normal numbers; another stream gives others.
    pub fn normal(dtype: DType, seed: u64, stream: u32) -> Self {
        Self { law: Law::Normal, seed, stream: STREAM + stream, dtype }
    }

    /// Nothing but zeros.
    pub fn zero(dtype: DType) -> Self {
        Self { law: Law::These(Arc::new([0.0])), seed: 0, stream: STREAM, dtype }
    }

    /// Where the rows of each word begin in the order of the rows; `count` such numbers.
    pub fn starts(texts: &TextBatch, count: usize) -> Self {
        let words: Vec<i32> = texts.order.iter().map(|&row| texts.ids[row as usize]).collect();
        let start = |word: usize| words.partition_point(|&other| (other as usize) < word) as f64;
        Self { law: Law::These((0..count).map(start).collect()), seed: 0, stream: STREAM, dtype: DType::I32 }
    }

    /// Other numbers of the same law; those of draw 0 are its own.
    pub fn drawn(&self, draw: u64) -> Self {
        Self { seed: self.seed.wrapping_add(draw << 32), ..self.clone() }
    }

    /// The number at a place, as stored.
    pub fn number(&self, at: usize) -> f64 {
        let rng = || Rng::new(self.seed, self.stream, at as u64);
        let number = match &self.law {
            Law::Normal => rng().normal(),
            Law::Unit => rng().unit(),
            Law::Positive => rng().uniform(0.5, 1.5),
            Law::Sixteenths => (rng().normal() * 16.0).round() / 16.0,
            Law::Below(count) => rng().below(*count) as f64,
            Law::These(numbers) => numbers[at % numbers.len()],
        };
        match self.dtype {
            DType::Bf16 => half::bf16::from_f64(number).to_f64(),
            DType::F32 => f64::from(number as f32),
            _ => number,
        }
    }

    /// The same for a device.
    pub fn make(&self) -> Make {
        let content = self.clone();
        Arc::new(move |offset, bytes| {
            let size = content.dtype.bytes();
            let numbers = (offset / size..).take(bytes.len() / size).map(|at| content.number(at));
            bytes.copy_from_slice(&content.dtype.encode(numbers));
        })
    }
}

/// What inputs and outputs of a launch hold; an output what it held before.
pub fn contents(plan: &Plan, launch: &Launch, texts: &TextBatch, seed: u64) -> Vec<Content> {
    let inputs = launch.inputs.len();
    let of = |(index, &buffer): (usize, &usize)| {
        let named = plan.inputs.iter().find(|(_, input)| *input == buffer && index < inputs);
        let spec = plan.buffers[buffer].spec;
        let law = named.and_then(|(name, _)| input(name, spec, texts)).unwrap_or_else(|| law(launch, index, spec));
        Content { law, seed, stream: STREAM + index as u32, dtype: plan.buffers[buffer].dtype }
    };
    let mut all: Vec<Content> = launch.inputs.iter().chain(&launch.outputs).enumerate().map(of).collect();
    // What an output overwrites it holds before.
    for (output, overwrite) in launch.overwrites.iter().enumerate() {
        if let Some((input, _)) = *overwrite {
            all[inputs + output] = all[input].clone();
        }
    }
    all
}

/// What is uploaded under a name, if it is bound by more than its type.
fn input(name: &str, spec: Spec, texts: &TextBatch) -> Option<Law> {
    let integers = |integers: &[i32]| Law::These(integers.iter().map(|&integer| integer.into()).collect());
    Some(match name {
        "ids" => integers(&texts.ids),
        "order" => integers(&texts.order),
        "offsets" => integers(&texts.offsets),
        "lengths" => integers(&texts.lengths),
        "augmentation" => Law::These(Recipe::None.draw(1, 0, 0, 0).iter().map(|&number| number.into()).collect()),
        "image" => Law::Unit,
        _ if spec.kind == Kind::Bytes => Law::Below(256),
        _ => return None,
    })
}

/// Of x, mean, variance, gamma and beta where the sign of what follows from them is a gate: every y is zero between two
/// sixteenths, and rounding closes no gate.
fn gated(index: usize, affine: bool) -> Option<Law> {
    let these = |numbers: &[f64]| Some(Law::These(numbers.into()));
    match index {
        1 => Some(Law::Sixteenths),
        2 => these(&[-0.53125, 0.03125, 0.21875]),
        3 => these(&[1.0, 0.25]),
        4 if affine => these(&[1.0, -0.5, 2.0, 0.5, -1.0]),
        5 if affine => these(&[0.25, -0.5, 0.0, 1.0, 0.5, -0.25, 0.75]),
        _ => None,
    }
}

/// The law of another value: what the definition of its op demands.
fn law(launch: &Launch, index: usize, spec: Spec) -> Law {
    let output = index.checked_sub(launch.inputs.len());
    if let (Op::BatchNorm(BatchNorm::Backward { affine, gate: Gate::Normalised, .. }), None) = (launch.op, output)
        && let Some(law) = gated(index, affine)
    {
        return law;
    }
    match (launch.op, index, output) {
        (_, _, _) if spec.kind == Kind::Bytes => Law::Below(2),
        (_, _, _) if spec.kind == Kind::Index => Law::Below(2),
        // Variances, reciprocals of deviations, second moments.
        (Op::BatchNorm(BatchNorm::Train { .. }), _, Some(2))
        | (Op::BatchNorm(BatchNorm::Apply { .. }), 2, _)
        | (Op::BatchNorm(BatchNorm::Running { .. }), 1 | 3, _)
        | (Op::BatchNorm(BatchNorm::Backward { .. }), 3, None)
        | (Op::LayerNorm(LayerNorm::Bwd), 3, None) => Law::Positive,
        // Learning rate and corrections; that the gradient is finite.
        (Op::AdamW(_), 0, _) => Law::These(Arc::new([0.05, 0.271, 0.003])),
        (Op::AdamW(_), 1, _) => Law::These(Arc::new([1.5, 0.0])),
        (Op::AdamW(adamw), _, None) => {
            let stride = 3 + usize::from(adamw.gradient);
            if (index - 2) % stride == stride - 1 { Law::Positive } else { Law::Normal }
        }
        // Attention and gray values.
        (Op::AttentionPool(AttentionPool::AttendBwd { .. }), 2 | 3, None)
        | (
            Op::MaskThreshold(_) | Op::PseudoMask(_) | Op::BodyMask(_) | Op::Ingest(_) | Op::SegmentationLoss(_),
            _,
            None,
        ) => Law::Unit,
        _ => Law::Normal,
    }
}
