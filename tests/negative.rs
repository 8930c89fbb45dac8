//! Prepared faults: the comparer, the runner of cases and, for every op of the registry, mutated outputs and a mutated
//! reference have to be rejected.

mod common;

use common::cases::{self, COMFORTABLE, Expected, flat, registry, rounded, run};
use common::compare::{Storage, TILE, Yardstick, compare};
use g2d::base::{Real, Rng, Spec};
use g2d::ops::accumulate::Accumulate;
use g2d::ops::{Op, REGISTRY};
use g2d::program::Case;
use g2d::program::host::CaseData;

/// Inputs on which the outputs of a case do not depend, whatever is in them: folder, variant, input.
const WITHOUT_INFLUENCE: &[(&str, usize, usize)] = &[
    // A loss counts only where it is not finite.
    ("finite", 0, 3),
];

/// A fault in one output; `None` where it would change nothing to speak of.
type Fault = fn(Spec, &[f64], &mut Rng) -> Option<Vec<f64>>;

const FAULTS: [(&str, Fault); 9] = [
    ("one element 1 % larger", |_, numbers, rng| {
        let large = |at: &usize| numbers[*at].abs() >= 0.1 * scale(numbers) && numbers[*at] != 0.0;
        let large: Vec<usize> = (0..numbers.len()).filter(large).collect();
        let at = *large.get(rng.below(large.len().max(1)))?;
        Some(with(numbers, |numbers| numbers[at] *= 1.01))
    }),
    ("one NaN", |_, numbers, rng| Some(with(numbers, |numbers| numbers[rng.below(numbers.len())] = f64::NAN))),
    ("one infinite", |_, numbers, rng| {
        Some(with(numbers, |numbers| numbers[rng.below(numbers.len())] = f64::INFINITY))
    }),
    ("all zero", |_, numbers, _| noticeable(numbers, vec![0.0; numbers.len()])),
    ("two neighbours swapped", |_, numbers, _| {
        let apart = |&at: &usize| (numbers[at] - numbers[at - 1]).abs();
        let at = (1..numbers.len()).max_by(|a, b| apart(a).total_cmp(&apart(b)))?;
        noticeable(numbers, with(numbers, |numbers| numbers.swap(at - 1, at)))
    }),
    ("two tiles swapped", |spec, numbers, _| {
        let columns = spec.shape.last();
        let tile = TILE * columns;
        let swapped = |numbers: &mut [f64]| {
            let (first, second) = numbers.split_at_mut(tile);
            first.swap_with_slice(&mut second[..tile]);
        };
        (numbers.len() >= 2 * tile).then(|| with(numbers, swapped)).and_then(|wrong| noticeable(numbers, wrong))
    }),
    ("the last channel left out", |spec, numbers, _| {
        let columns = spec.shape.last();
        noticeable(
            numbers,
            with(numbers, |numbers| numbers.iter_mut().skip(columns - 1).step_by(columns).for_each(zero)),
        )
    }),
    ("the last row left out", |spec, numbers, _| {
        let rest = numbers.len() - spec.shape.last().min(numbers.len());
        noticeable(numbers, with(numbers, |numbers| numbers[rest..].iter_mut().for_each(zero)))
    }),
    ("one number missing", |_, numbers, _| Some(numbers[1..].to_vec())),
];

fn zero(number: &mut f64) {
    *number = 0.0;
}

fn scale(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |scale, number| scale.max(number.abs()))
}

fn with(numbers: &[f64], change: impl FnOnce(&mut [f64])) -> Vec<f64> {
    let mut changed = numbers.to_vec();
    change(&mut changed);
    changed
}

/// The changed numbers, if some number changed by a thousandth of the largest.
fn noticeable(numbers: &[f64], changed: Vec<f64>) -> Option<Vec<f64>> {
    let largest = numbers.iter().zip(&changed).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
    (largest > 1e-3 * scale(numbers)).then_some(changed)
}

/// A case of the registry at a size where nothing degenerates, and what its results are held against.
fn prepared(position: usize, variant: usize) -> (Case<Op>, Expected) {
    let draw = |draw| rounded(cases::case(position, variant, &COMFORTABLE, draw), Storage::F32);
    let expected = |first| {
        let case: Case<Op> = draw(first);
        let expected = Expected::new(|at| draw(first + at), Storage::F32);
        (expected.unwrap_or_else(|what| panic!("{}: {what}", cases::describe(&case))), case)
    };
    let (expected, case) = (0..8).map(expected).find(|(expected, _)| !expected.jumped()).expect("some draw is calm");
    (case, expected)
}

#[test]
fn mutated_outputs_are_rejected_for_every_op() {
    let mut missed = Vec::new();
    for (position, variant) in registry() {
        let (case, expected) = prepared(position, variant);
        let mut rng = Rng::new(3, position as u32, variant as u64);
        let about = cases::describe(&case);
        if let Err(what) = expected.accepts(&expected.plain) {
            missed.push(format!("{about}: the plain result: {what}"));
        }
        for output in 0..expected.plain.len() {
            let (spec, numbers) = &expected.plain[output];
            for (what, fault) in FAULTS {
                if let Some(wrong) = fault(*spec, numbers, &mut rng) {
                    let mut got = expected.plain.clone();
                    got[output].1 = wrong;
                    if expected.accepts(&got).is_ok() {
                        missed.push(format!("{about}: output {output}: {what}"));
                    }
                }
            }
        }
    }
    assert!(missed.is_empty(), "{} faults are not rejected:\n{}", missed.len(), missed.join("\n"));
}

/// An input read in another order and another size, in three ways: some ops see only the order of numbers.
fn mutations(case: &Case<Op>, input: usize) -> Vec<Case<Op>> {
    let CaseData::Numbers(numbers) = &case.inputs[input].1 else { return Vec::new() };
    let real = cases::real_elements(case.inputs[input].0.shape, case.extent);
    let mutation = |reorder: fn(&mut [f64])| {
        let mut numbers = numbers.clone();
        reorder(&mut numbers[..real]);
        numbers.iter_mut().for_each(|number| *number = 1.3 * *number + 0.1);
        let mut case = case.clone();
        case.inputs[input].1 = CaseData::Numbers(numbers);
        rounded(case, Storage::F32)
    };
    let negated: fn(&mut [f64]) = |numbers| numbers.iter_mut().for_each(|number| *number = -*number);
    [|numbers: &mut [f64]| numbers.rotate_right(1), <[f64]>::reverse, negated].map(mutation).into()
}

/// A reference that reads an input wrongly is caught, whichever input it is.
#[test]
fn a_mutated_reference_is_rejected_for_every_op() {
    let mut unexpected = Vec::new();
    for (position, variant) in registry() {
        let (case, expected) = prepared(position, variant);
        let (folder, _) = REGISTRY[position];
        for input in 0..case.inputs.len() {
            let rejected = |mutated: &Case<Op>| {
                let got = flat::<f32>(mutated, &|io| mutated.op.reference(io), Storage::F32);
                got.and_then(|got| expected.accepts(&got)).is_err()
            };
            let mutations = mutations(&case, input);
            let excepted = WITHOUT_INFLUENCE.contains(&(folder, variant, input));
            if !mutations.is_empty() && mutations.iter().any(rejected) == excepted {
                unexpected.push(format!("input {input} of variant {variant}: {}", cases::describe(&case)));
            }
        }
    }
    assert!(unexpected.is_empty(), "mutations not as expected:\n{}", unexpected.join("\n"));
}

/// 40 x 12 numbers of very different sizes, and what f32 makes of them.
fn sample() -> (Vec<f64>, Vec<f64>) {
    let mut rng = Rng::new(5, 0, 0);
    let truth: Vec<f64> = (0..480).map(|at| rng.normal() * if (240..384).contains(&at) { 1e-4 } else { 1.0 }).collect();
    let plain = truth.iter().map(|number| number * (1.0 + rng.uniform(-2e-7, 2e-7))).collect();
    (truth, plain)
}

#[test]
fn the_comparer_rejects_prepared_faults() {
    let (truth, plain) = sample();
    let judge = |got: &[f64]| compare(&truth, &plain, got, 12, Storage::F32, &Yardstick::default());
    assert!(judge(&plain).is_ok());
    assert_eq!(judge(&truth), Ok(0.0));
    let mut rng = Rng::new(6, 0, 0);
    for (what, fault) in FAULTS {
        let wrong = fault(Spec::exact([40, 12]), &plain, &mut rng).expect("the sample suffers from every fault");
        assert!(judge(&wrong).is_err(), "{what}: not rejected");
    }
    assert!(judge(&[]).is_err(), "nothing at all: not rejected");
    let twice: Vec<f64> = truth.iter().zip(&plain).map(|(truth, plain)| truth + 4.0 * (plain - truth)).collect();
    assert!(judge(&twice).is_err(), "four times the plain error: not rejected");
}

/// An error that is small beside the tensor and large beside its own tile.
#[test]
fn the_comparer_looks_at_each_tile() {
    let (truth, plain) = sample();
    let mut wrong = plain.clone();
    wrong[300] += 1e-7;
    let error = (wrong[300] - truth[300]).abs();
    assert!(error <= 2e-7, "the fault hides in the tensor as a whole");
    let verdict = compare(&truth, &plain, &wrong, 12, Storage::F32, &Yardstick::default());
    assert!(verdict.unwrap_err().contains("tile"));
}

/// A NaN in the truth or in the plain result accepts nothing.
#[test]
fn nan_never_widens_the_bound() {
    let (truth, plain) = sample();
    for at in [0, 7, 479] {
        let spoilt = |numbers: &[f64]| with(numbers, |numbers| numbers[at] = f64::NAN);
        assert!(compare(&truth, &spoilt(&plain), &plain, 12, Storage::F32, &Yardstick::default()).is_err());
        assert!(compare(&spoilt(&truth), &plain, &plain, 12, Storage::F32, &Yardstick::default()).is_err());
    }
}

#[test]
fn the_runner_rejects_kernels_that_break_the_contract() {
    let mut rng = Rng::new(8, 0, 0);
    let spec = Spec::activation([6, 3]);
    let scaled: Case<Op> = Case::new(Accumulate::Scale { scale: Real(2.0) }).normal(spec, 1.0, &mut rng).map(Op::from);
    let packed = Case { extent: scaled.clone().packed(6, 4).extent, ..scaled.clone() };
    let added: Case<Op> = Case::new(Accumulate::Add { scale: Real(2.0) })
        .normal(spec, 1.0, &mut rng)
        .normal(spec, 1.0, &mut rng)
        .map(Op::from);
    for case in [&scaled, &packed, &added] {
        run::<f64>(case, &|io| case.op.reference(io)).unwrap();
    }
    let unwritten = run::<f64>(&scaled, &|io| io.take(0)[1..].fill(1.0));
    assert!(unwritten.unwrap_err().contains("element 0 is poison"));
    let behind = run::<f64>(&packed, &|io| io.take(0)[..13].fill(1.0));
    assert!(behind.unwrap_err().contains("element 12 lies behind the extent"));
    let read_behind = run::<f64>(&packed, &|io| {
        let sum: f64 = io.numbers(0).iter().sum();
        io.take(0)[..12].fill(sum);
    });
    assert!(read_behind.is_err());
    let read_overwritten = run::<f64>(&added, &|io| {
        let (a, b) = (io.numbers(0), io.numbers(1));
        io.take(0).iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a + 2.0 * b);
    });
    assert!(read_overwritten.is_err());
}
