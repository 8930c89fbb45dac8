//! The definition of [`MaskThreshold`](super::MaskThreshold).

use super::{Aggregation, HALVINGS, MaskThreshold, PRESENCE, Rule, STEPS, VARIANCE};
use crate::base::Number;
use crate::program::HostIo;

/// Image by image.
pub fn run<N: Number>(op: &MaskThreshold, io: &mut HostIo<'_, N>) {
    let [_, heads, rows, columns] = io.dims(0);
    let count = rows * columns;
    let outputs = io.take(0).chunks_mut(count).zip(io.take(1));
    for (map, (cells, threshold)) in io.numbers(0).chunks(heads * count).zip(outputs) {
        for (at, cell) in cells.iter_mut().enumerate() {
            *cell = aggregate(op.aggregation, map.iter().skip(at).step_by(count).copied(), heads);
        }
        *threshold = find(op.rule, cells);
    }
}

fn aggregate<N: Number>(aggregation: Aggregation, mut of_heads: impl Iterator<Item = N>, heads: usize) -> N {
    match aggregation {
        Aggregation::Mean => of_heads.sum::<N>() / N::count(heads),
        Aggregation::Max => of_heads.fold(N::LOWEST, |most, next| {
            let is_nan = most.partial_cmp(&most).is_none();
            if is_nan || most >= next { most } else { next }
        }),
        Aggregation::Single { head } => of_heads.nth(head).unwrap_or(N::ZERO),
    }
}

/// The threshold of an image's cells.
pub fn find<N: Number>(rule: Rule, cells: &[N]) -> N {
    if cells.iter().all(|&cell| cell == cells[0]) {
        return cells[0];
    }
    let count = N::count(cells.len());
    let mean = cells.iter().copied().sum::<N>() / count;
    let deviation = (cells.iter().map(|&cell| (cell - mean) * (cell - mean)).sum::<N>() / count).sqrt();
    // Cells that are not finite have no deviation, and those that are too close none that can be told from zero.
    if rule == Rule::Mean || !deviation.is_finite() || deviation == N::ZERO {
        return mean;
    }
    let z: Vec<N> = cells.iter().map(|&cell| (cell - mean) / deviation).collect();
    let mut mixture = [-N::ONE, N::ONE].map(|mean| Component { mean, variance: N::ONE, weight: N::of(0.5) });
    for _ in 0..STEPS {
        let upper: Vec<N> = z.iter().map(|&z| N::ONE / (N::ONE + (-log_odds(&mixture, z)).exp())).collect();
        let lower: Vec<N> = upper.iter().map(|&upper| N::ONE - upper).collect();
        mixture = [Component::of(&z, &lower), Component::of(&z, &upper)];
    }
    boundary(mixture) * deviation + mean
}

/// A Gaussian and its part of the mixture.
#[derive(Clone, Copy)]
struct Component<N> {
    mean: N,
    variance: N,
    weight: N,
}

impl<N: Number> Component<N> {
    /// What is most likely, given how far each number belongs to it.
    fn of(z: &[N], responsibilities: &[N]) -> Self {
        let presence = responsibilities.iter().copied().sum::<N>() + N::of(PRESENCE);
        let weighted = |of: &dyn Fn(N) -> N| z.iter().zip(responsibilities).map(|(&z, &r)| r * of(z)).sum::<N>();
        let mean = weighted(&|z| z) / presence;
        let variance = weighted(&|z| (z - mean) * (z - mean)) / presence + N::of(VARIANCE);
        Self { mean, variance, weight: presence / N::count(z.len()) }
    }

    /// Logarithm of its density at z, less a constant.
    fn log_density(&self, z: N) -> N {
        let half = N::of(0.5);
        self.weight.ln() - half * self.variance.ln() - half * (z - self.mean) * (z - self.mean) / self.variance
    }
}

/// Of the second component against the first.
fn log_odds<N: Number>([first, second]: &[Component<N>; 2], z: N) -> N {
    second.log_density(z) - first.log_density(z)
}

/// Where, between the two means, the component of the larger mean becomes the more likely.
fn boundary<N: Number>([a, b]: [Component<N>; 2]) -> N {
    let mixture = if a.mean <= b.mean { [a, b] } else { [b, a] };
    let [mut low, mut high] = mixture.map(|component| component.mean);
    if log_odds(&mixture, low) > N::ZERO {
        return low;
    }
    for _ in 0..HALVINGS {
        let middle = (low + high) * N::of(0.5);
        if log_odds(&mixture, middle) > N::ZERO { high = middle } else { low = middle }
    }
    high
}
