//! The scores and the threshold of a pseudo mask where they are not the heads' mean and a quantile of the pixels: the
//! paper's ablations (table 5).
//!
//! Input: map \[B,heads,h,w\]. Outputs: cells \[B,1,h,w\], threshold \[B\]. A cell is the `aggregation` of the heads'
//! attention there; the threshold follows from the h·w cells of the image by the `rule`. Cells that are all equal have
//! that number as threshold; if one is not a number, neither is the threshold. By definition not differentiable.
//!
//! | rule | threshold |
//! |---|---|
//! | `Mean` | the mean of the cells |
//! | `Gmm` | where the upper of two Gaussians becomes the more likely |
//!
//! `Gmm`. Cells become z = (cell − mean) / deviation, with the deviation of all n (not n − 1). A mixture of two Gaussians
//! begins at means ∓1, variances 1, weights ½, and takes 50 steps of expectation and maximisation; each variance is what
//! the step gives plus 1e-3, each sum of responsibilities plus 1e-12. With m < M the final means, the log-odds of the
//! component at M grow from m to M; halving that interval 30 times finds where they become positive, m if they are so
//! throughout, M if nowhere. The threshold is that z, times the deviation, plus the mean. These are the steps of
//! scikit-learn's `GaussianMixture` on z with `reg_covar=1e-3` and the same start, which also adds some 1e-15 where we add
//! 1e-12 and stops at a tolerance.

mod cuda;
mod reference;
#[cfg(test)]
mod tests;
mod wgsl;

use crate::base::{Number, Rng, Spec};
use crate::kernels::shaders::SUBGROUPS;
use crate::program::{
    Backward, Case, DeviceIo, HostIo, Misfit, Operation, Outputs, Recorder, ShaderIo, Size, Value,
};

/// Steps of expectation and maximisation.
const STEPS: usize = 50;
/// How often the interval between the means is halved.
const HALVINGS: usize = 30;
/// Added to each variance, in squares of the cells' deviation.
const VARIANCE: f64 = 1e-3;
/// Added to each component's sum of responsibilities.
const PRESENCE: f64 = 1e-12;

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MaskThreshold {
    /// From heads to cells.
    pub aggregation: Aggregation,
    /// From cells to the threshold.
    pub rule: Rule,
}

/// What a cell is of its heads' attention.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Aggregation {
    /// The mean.
    Mean,
    /// The largest.
    Max,
    /// That of one head.
    Single {
        /// Its number, from 0.
        head: usize,
    },
}

/// What the threshold is of the cells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// Their mean.
    Mean,
    /// Where two Gaussians part them.
    Gmm,
}

impl MaskThreshold {
    /// As kernels take it: the first head, how many count, whether the largest counts; and whether the rule is `Gmm`.
    fn code(&self, heads: usize) -> [u32; 4] {
        let [first, count, largest] = match self.aggregation {
            Aggregation::Mean => [0, heads as u32, 0],
            Aggregation::Max => [0, heads as u32, 1],
            Aggregation::Single { head } => [head as u32, 1, 0],
        };
        [first, count, largest, u32::from(self.rule == Rule::Gmm)]
    }
}

impl Operation for MaskThreshold {
    const VARIANTS: usize = 4;
    // More cells than a workgroup has threads.
    const LARGE: &'static [(usize, Size)] = &[(1, Size { batch: 2, side: 20, channels: 19, extra: 3 })];

    fn name(&self) -> &'static str {
        "mask_threshold"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [map] = Misfit::inputs(inputs)?;
        let &[batch, heads, rows, columns] = map.shape.dims() else {
            return Err(Misfit::new(format!("map has shape {}, [B,heads,h,w] is needed", map.shape)));
        };
        Misfit::unless(map.is_real() && heads > 0 && rows > 0 && columns > 0, || format!("map {map:?} has no cells"))?;
        if let Aggregation::Single { head } = self.aggregation {
            Misfit::unless(head < heads, || format!("there is no head {head}: there are {heads}, counted from 0"))?;
        }
        Ok(Outputs::new([Spec::exact([batch, 1, rows, columns]), Spec::exact([batch])]))
    }

    fn vjp(&self, _r: &mut Recorder, _at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Ok(vec![None])
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let cells = outputs[0].shape.elements() as u64;
        let steps = if self.rule == Rule::Gmm { STEPS as u64 } else { 0 };
        inputs[0].shape.elements() as u64 + cells * (1 + 20 * steps)
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        reference::run(self, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        &[cuda::KERNEL]
    }

    fn run_cuda(&self, _kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        cuda::run(self, io)
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &[SUBGROUPS, wgsl::KERNEL]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        wgsl::run(self, io)
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let heads = 1 + size.extra % 4;
        let aggregation =
            [Aggregation::Mean, Aggregation::Max, Aggregation::Single { head: heads - 1 }, Aggregation::Mean][variant];
        let op = Self { aggregation, rule: if variant == 0 { Rule::Mean } else { Rule::Gmm } };
        let cells = (size.side + 1) * (size.channels + 1);
        // Most cells are dim, some are bright in all heads, as attention is where it found something.
        let bright: Vec<bool> = (0..size.batch * cells).map(|_| rng.chance(0.25)).collect();
        let number = |at: usize, rng: &mut Rng| {
            let cell = at / (heads * cells) * cells + at % cells;
            rng.uniform(0.0, 0.4) + if bright[cell] { 1.0 } else { 0.0 }
        };
        let map = Spec::exact([size.batch, heads, size.side + 1, size.channels + 1]);
        let numbers = (0..map.shape.elements()).map(|at| number(at, rng)).collect();
        Case::new(op).numbers(map, numbers)
    }
}
