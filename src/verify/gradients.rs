//! The gradient rule of an op against central differences in f64, with random cotangents, in a graph where each input has a
//! second consumer.

use super::cases::{self, COMFORTABLE, Data, real_elements};
use super::interpret::Values;
use crate::base::{Number, Real, Rng};
use crate::ops::Op;
use crate::ops::accumulate::Accumulate;
use crate::program::record::RecordError;
use crate::program::{Case, Program, Recorder, Size, Value};

/// Shapes on which rules are tried.
pub const SIZES: [Size; 3] =
    [COMFORTABLE, Size { batch: 1, side: 3, channels: 2, extra: 1 }, Size { batch: 3, side: 4, channels: 5, extra: 7 }];
/// Steps of differences in f64, relative to the largest number of the input that is moved.
pub const STEP: f64 = 1e-5;
/// Single elements probed of every input, besides directions through all of them.
const ELEMENTS: usize = 12;
/// What a gradient may be off, relative to its norm.
const RELATIVE: f64 = 1e-6;

/// Holds the rule of the case's op against central differences.
///
/// # Errors
/// What is wrong with it.
pub fn check(case: &Case<Op>) -> Result<(), String> {
    let recorded = Recorded::whole(case)?;
    recorded.check::<f64>(&recorded.analytic(), STEP)
}

/// A recorded forward pass, its gradient, and numbers for all declared inputs.
#[derive(Clone, Debug)]
pub struct Recorded {
    case: Case<Op>,
    /// What was recorded: forward pass, objective, gradients.
    pub program: Program,
    forward: usize,
    /// What the objective sums up: a value and which declared input is its cotangent.
    terms: Vec<(Value, usize)>,
    /// Which input of the case, and its gradient; `None` if it reaches nothing.
    gradients: Vec<(usize, Option<Value>)>,
    data: Vec<Data<f64>>,
}

impl Recorded {
    /// Records the case's op; seeds some of its outputs with random cotangents; if `twice`, each differentiable input
    /// also feeds a second op whose output is seeded too.
    fn record(case: Case<Op>, seeded: &[usize], twice: bool) -> Result<Self, RecordError> {
        let mut rng = Rng::new(11, 0, 0);
        let mut r = Recorder::new();
        let mut data: Vec<Data<f64>> = case.inputs.iter().map(|(_, data)| Data::of(data)).collect();
        let inputs: Vec<Value> = case.inputs.iter().map(|&(spec, _)| r.input("input", spec)).collect();
        let outputs = r.node(case.op, &inputs)?;
        let mut ends: Vec<Value> = seeded.iter().map(|&output| outputs[output]).collect();
        if twice {
            for &input in &case.differentiable {
                ends.push(r.one(Accumulate::Scale { scale: Real(1.3) }, &[inputs[input]])?);
            }
        }
        let forward = r.program().nodes.len();
        let mut seeds = Vec::new();
        let mut terms = Vec::new();
        for end in ends {
            let spec = r.spec(end);
            terms.push((end, data.len()));
            seeds.push((end, r.input("cotangent", spec)));
            data.push(Data::Numbers((0..spec.shape.elements()).map(|_| rng.normal()).collect()));
        }
        for (&(spec, _), data) in case.inputs.iter().zip(&mut data) {
            data.poison_behind(real_elements(spec.shape, case.extent));
        }
        for (&(_, cotangent), &(_, at)) in seeds.iter().zip(&terms) {
            data[at].poison_behind(real_elements(r.shape(cotangent), case.extent));
        }
        let wrt: Vec<Value> = case.differentiable.iter().map(|&input| inputs[input]).collect();
        let gradients = case.differentiable.iter().copied().zip(r.reverse(&seeds, &wrt)?).collect();
        Ok(Self { case, program: r.finish(), forward, terms, gradients, data })
    }

    /// The case's op with every output seeded that carries a gradient.
    ///
    /// # Errors
    /// If no output carries a gradient, or a differentiable input gets none.
    pub fn whole(case: &Case<Op>) -> Result<Self, String> {
        let outputs = case.op.infer(&cases::specs(case)).map_err(|misfit| misfit.to_string())?.specs;
        let carries = |&output: &usize| {
            outputs[output].is_real()
                && Self::record(case.clone(), &[output], false)
                    .is_ok_and(|recorded| recorded.gradients.iter().any(|(_, gradient)| gradient.is_some()))
        };
        let seeded: Vec<usize> = (0..outputs.len()).filter(carries).collect();
        if seeded.is_empty() {
            let why = Self::record(case.clone(), &[0], false).err();
            return Err(format!("no output carries a gradient: {}", why.map_or(String::new(), |why| why.to_string())));
        }
        let alone = Self::record(case.clone(), &seeded, false).map_err(|error| error.to_string())?;
        if let Some((input, _)) = alone.gradients.iter().find(|(_, gradient)| gradient.is_none()) {
            return Err(format!("no gradient reaches the differentiable input {input}"));
        }
        Self::record(case.clone(), &seeded, true).map_err(|error| error.to_string())
    }

    /// Gradients by every differentiable input, real rows only.
    pub fn analytic(&self) -> Vec<Vec<f64>> {
        let values = Values::new(&self.program, &self.data).run(&self.program.nodes);
        let real = |input: usize| real_elements(self.case.inputs[input].0.shape, self.case.extent);
        let of = |value: Option<Value>, input| values.get(value.expect("checked by `whole`")).to_f64(real(input));
        self.gradients.iter().map(|&(input, value)| of(value, input)).collect()
    }

    /// Values of all terms with one input moved along a direction, computed in `N`.
    fn moved<N: Number>(&self, input: usize, direction: &[f64], step: f64) -> Vec<Vec<f64>> {
        let mut data = self.data.clone();
        if let Data::Numbers(numbers) = &mut data[input] {
            numbers.iter_mut().zip(direction).for_each(|(number, along)| *number += step * along);
        }
        let data: Vec<Data<N>> = data.iter().map(Data::to).collect();
        let values = Values::new(&self.program, &data).run(&self.program.nodes[..self.forward]);
        self.terms.iter().map(|&(value, cotangent)| values.get(value).to_f64(self.real(cotangent))).collect()
    }

    fn real(&self, declared: usize) -> usize {
        real_elements(self.program.spec(self.program.inputs[declared].1).shape, self.case.extent)
    }

    /// The central difference of the objective along a direction, and how large its terms are.
    fn difference<N: Number>(&self, input: usize, direction: &[f64], step: f64) -> (f64, f64) {
        let (up, down) = (self.moved::<N>(input, direction, step), self.moved::<N>(input, direction, -step));
        let mut sums = (0.0, 0.0);
        for ((up, down), &(_, cotangent)) in up.iter().zip(&down).zip(&self.terms) {
            for ((up, down), cotangent) in up.iter().zip(down).zip(self.data[cotangent].numbers()) {
                sums.0 += cotangent * (up - down);
                sums.1 += (cotangent * up).abs();
            }
        }
        (sums.0 / (2.0 * step), sums.1)
    }

    /// Holds gradients against central differences: along random directions through the whole input, and for single
    /// elements. Differences are taken in `N` with a step relative to the input's numbers.
    ///
    /// # Errors
    /// The first that does not agree.
    pub fn check<N: Number>(&self, gradients: &[Vec<f64>], relative_step: f64) -> Result<(), String> {
        let mut rng = Rng::new(12, 0, 0);
        for (&(input, _), gradient) in self.gradients.iter().zip(gradients) {
            let elements = gradient.len();
            if elements == 0 {
                continue;
            }
            let largest =
                self.data[input].numbers()[..elements].iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            let step = relative_step * if largest > 0.0 { largest } else { 1.0 };
            for probe in 0..2 + ELEMENTS.min(elements) {
                let element = rng.below(elements);
                let direction: Vec<f64> = (0..elements)
                    .map(|at| if probe < 2 { rng.normal() } else { f64::from(u8::from(at == element)) })
                    .collect();
                let along: f64 = gradient.iter().zip(&direction).map(|(a, b)| a * b).sum();
                // A direction may cross a kink of relu or max within the larger step; hardly within both.
                let agrees = |step: f64| {
                    let (numeric, size) = self.difference::<N>(input, &direction, step);
                    let bound = RELATIVE * norm(gradient) * norm(&direction) + 1e-10 * size;
                    ((numeric - along).abs() <= bound, numeric)
                };
                let (ok, numeric) = agrees(step);
                if !ok && !agrees(step / 8.0).0 {
                    let what = if probe < 2 { "a direction".to_owned() } else { format!("element {element}") };
                    return Err(format!("input {input}, {what}: gradient {along:e}, central difference {numeric:e}"));
                }
            }
        }
        Ok(())
    }
}

fn norm(numbers: &[f64]) -> f64 {
    numbers.iter().map(|number| number * number).sum::<f64>().sqrt()
}
