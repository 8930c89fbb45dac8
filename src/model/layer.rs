//! Layers recorded together with their parameters, under the names torch gives these.

use super::init::Scheme;
use crate::base::{Kind, Real, Spec};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv2d::Conv2d;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::linear::Linear;
use crate::program::record::{FileLayout, Init, RecordError, Role};
use crate::program::{Recorder, Value};

/// torch's default for BatchNorm.
const BATCH_NORM_EPS: f64 = 1e-5;
/// torch's default for BatchNorm: the part of a running statistic that one batch replaces.
const BATCH_NORM_MOMENTUM: f64 = 0.1;
/// BERT's.
const LAYER_NORM_EPS: f64 = 1e-12;

/// What batch norm normalises with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's own; running statistics move.
    Batch,
    /// The running ones, which stay.
    Running,
}

/// Records a convolution of `inputs` (a map [batch, height, width, channels] and, if the op takes one, its skip) to
/// `out` channels, with `weight` and, if the op has one, `bias`.
pub fn conv2d(
    r: &mut Recorder,
    op: Conv2d,
    inputs: &[Value],
    out: usize,
    scheme: Scheme,
) -> Result<Value, RecordError> {
    let channels: usize = inputs.iter().map(|&input| r.shape(input).last()).sum();
    let area = op.kernel * op.kernel;
    let spec = Spec::exact([out, op.kernel, op.kernel, channels]);
    let init = scheme.weight(channels * area, out * area);
    let mut inputs = inputs.to_vec();
    inputs.push(r.state("weight", spec, Role::Parameter { trainable: true }, init, FileLayout::Conv2d));
    if op.bias {
        inputs.push(r.parameter("bias", [out], Init::Constant(0.0)));
    }
    r.one(op, &inputs)
}

/// A linear layer's attributes.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// How it starts.
    pub scheme: Scheme,
    /// Whether it adds a bias.
    pub bias: bool,
    /// Whether it learns.
    pub trainable: bool,
    /// Order of the weight in files.
    pub layout: FileLayout,
    /// Kind of what it makes.
    pub output: Kind,
    /// Row offsets, if its rows are packed texts.
    pub offsets: Option<Value>,
}

impl Dense {
    /// A layer with a bias, which starts at zero: what is the same for all films and texts would drown what differs.
    /// Its rows are all real.
    pub fn xavier() -> Self {
        Self {
            scheme: Scheme::XavierUniform,
            bias: true,
            trainable: true,
            layout: FileLayout::Same,
            output: Kind::Activation,
            offsets: None,
        }
    }

    /// Records the layer: [.., in] → [.., `out`], with `weight` and perhaps `bias`.
    pub fn record(self, r: &mut Recorder, x: Value, out: usize) -> Result<Value, RecordError> {
        let (features, role) = (r.shape(x).last(), Role::Parameter { trainable: self.trainable });
        let init = self.scheme.weight(features, out);
        let mut inputs = vec![x, r.state("weight", Spec::exact([out, features]), role, init, self.layout)];
        if self.bias {
            inputs.push(r.state("bias", Spec::exact([out]), role, Init::Constant(0.0), FileLayout::Same));
        }
        inputs.extend(self.offsets);
        let packed = self.offsets.is_some();
        r.one(Linear { bias: self.bias, packed, output: self.output, ..Linear::fwd() }, &inputs)
    }
}

/// A batch norm's attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Norm {
    /// Whether it has `weight` and `bias`.
    pub affine: bool,
    /// Whether ReLU follows.
    pub relu: bool,
    /// What is added before ReLU.
    pub residual: Option<Value>,
    /// Row offsets, if its rows are packed texts; the statistics then see the rows below the last offset.
    pub offsets: Option<Value>,
}

impl Norm {
    /// Affine, with ReLU behind: the usual one.
    pub fn relu() -> Self {
        Self { affine: true, relu: true, ..Self::default() }
    }

    /// Affine, nothing behind.
    pub fn plain() -> Self {
        Self { affine: true, ..Self::default() }
    }

    /// Records the layer on [.., channels].
    pub fn record(self, r: &mut Recorder, x: Value, statistics: Statistics) -> Result<Value, RecordError> {
        let channels = r.shape(x).last();
        let affine = self.affine.then(|| {
            [("weight", 1.0), ("bias", 0.0)].map(|(name, start)| r.parameter(name, [channels], Init::Constant(start)))
        });
        let mut statistic =
            |name: &str, spec, start| r.state(name, spec, Role::Statistic, Init::Constant(start), FileLayout::Same);
        let mean = statistic("running_mean", Spec::exact([channels]), 0.0);
        let variance = statistic("running_var", Spec::exact([channels]), 1.0);
        let batches = statistic("num_batches_tracked", Spec::index([1]), 0.0);
        let behind = affine.into_iter().flatten().chain(self.residual).chain(self.offsets);
        let packed = self.offsets.is_some();
        let (eps, relu, residual) = (Real(BATCH_NORM_EPS), self.relu, self.residual.is_some());
        let affine = self.affine;
        match statistics {
            Statistics::Running => {
                let inputs: Vec<Value> = [x, mean, variance].into_iter().chain(behind).collect();
                r.one(BatchNorm::Apply { affine, relu, residual, packed, eps }, &inputs)
            }
            Statistics::Batch => {
                let inputs: Vec<Value> = [x].into_iter().chain(behind).collect();
                let made = r.node(BatchNorm::Train { affine, relu, residual, packed, eps }, &inputs)?;
                let running = [made[1], made[2], mean, variance, batches];
                let inputs: Vec<Value> = running.into_iter().chain(self.offsets).collect();
                let rows = r.shape(x).rows();
                r.node(BatchNorm::Running { momentum: Real(BATCH_NORM_MOMENTUM), rows, packed }, &inputs)?;
                Ok(made[0])
            }
        }
    }
}

/// Records layer norm of `x` plus `residual`, both packed [rows, features], with `weight` and `bias`.
pub fn layer_norm(
    r: &mut Recorder,
    x: Value,
    residual: Option<Value>,
    offsets: Value,
    trainable: bool,
) -> Result<Value, RecordError> {
    let (spec, role) = (Spec::exact([r.shape(x).last()]), Role::Parameter { trainable });
    let affine = [("weight", 1.0), ("bias", 0.0)]
        .map(|(name, start)| r.state(name, spec, role, Init::Constant(start), FileLayout::Same));
    let inputs: Vec<Value> = [x].into_iter().chain(residual).chain(affine).chain([offsets]).collect();
    let op = LayerNorm::Fwd { residual: residual.is_some(), eps: Real(LAYER_NORM_EPS) };
    Ok(r.node(op, &inputs)?[0])
}
