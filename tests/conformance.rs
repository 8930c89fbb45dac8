//! Every op of the registry, every kind of its cases, many shapes: references keep their contract, and every CPU kernel
//! agrees with the reference in f64, f32 and bf16 storage, with one thread and with three, at every width of vectors that
//! the processor has.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::cases::{self, COMFORTABLE, Expected, flat, registry};
use common::compare::Storage;
use common::ledger;
use g2d::base::{Kind, Number, Rng, Shape, Spec};
use g2d::cpu::simd::{self, Vectors};
use g2d::ops::{Op, REGISTRY};
use g2d::program::{Case, Size};
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Shapes tried for each kind of case.
const SHAPES: u32 = 12;

fn sizes() -> impl Strategy<Value = (Size, u64)> {
    let size = (1..=3usize, 1..=9usize, 1..=9usize, 1..=9usize);
    (size, any::<u64>().no_shrink())
        .prop_map(|((batch, side, channels, extra), draw)| (Size { batch, side, channels, extra }, draw))
}

/// Tries `check` on shapes for every kind of case, always the same ones, and reports the smallest that fails of each.
fn for_every_case(check: impl Fn(usize, usize, &Size, u64) -> Result<(), String>) {
    let mut failures = Vec::new();
    for (position, variant) in registry() {
        let config = Config { cases: SHAPES, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let result =
            runner.run(&sizes(), |(size, draw)| check(position, variant, &size, draw).map_err(TestCaseError::fail));
        if let Err(TestError::Fail(why, (size, draw))) = result {
            let case = cases::describe(&cases::case(position, variant, &size, draw));
            let (op, _) = REGISTRY[position];
            failures.push(format!("{op} variant {variant}: {why}\n  smallest: {case}\n  {size:?}, draw {draw}"));
        }
    }
    assert!(failures.is_empty(), "{} kinds of cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn references_keep_their_contract() {
    for_every_case(|position, variant, size, draw| {
        let case = cases::case(position, variant, size, draw);
        let specs = cases::specs(&case);
        let outputs = case.op.infer(&specs).map_err(|misfit| format!("its own case does not fit: {misfit}"))?;
        for (spec, overwrite) in outputs.specs.iter().zip(&outputs.overwrites) {
            if overwrite.is_some_and(|overwrite| specs.get(overwrite.input) != Some(spec)) {
                return Err(format!("{overwrite:?} does not have the output's spec {spec:?}"));
            }
        }
        if case.op.operands().iter().any(|&operand| operand >= specs.len()) {
            return Err("an operand is no input".to_owned());
        }
        if case.differentiable.iter().any(|&input| !specs[input].is_real()) {
            return Err("a differentiable input holds no real numbers".to_owned());
        }
        case.op.flops(&specs, &outputs.specs);
        flat::<f64>(&case, &|io| case.op.reference(io), Storage::F64)?;
        flat::<f32>(&case, &|io| case.op.reference(io), Storage::F32)?;
        Ok(())
    });
    let kinds = registry().count();
    ledger::ran("reference", format!("{} ops, {kinds} kinds of cases x {SHAPES} shapes, f32 and f64", REGISTRY.len()));
}

#[test]
fn cpu_kernels_agree_with_the_reference() {
    let pools = [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let [one, three] = &pools;
    for_every_case(|position, variant, size, draw| {
        let mut computed = None;
        for storage in [Storage::F32, Storage::F64, Storage::Bf16] {
            let drawn = |at: u64| cases::rounded(cases::case(position, variant, size, draw.wrapping_add(at)), storage);
            let case = drawn(0);
            let kernels = legal(&case);
            if kernels.is_empty() {
                return Ok(());
            }
            // Inputs of f32 and of f64 are rounded alike, so one computation serves both.
            let expected = match computed.take() {
                Some(of_f32) if storage == Storage::F64 => Expected::stored_as(of_f32, storage),
                _ => Expected::new(drawn, storage)?,
            };
            for kernel in kernels {
                let agree = if storage == Storage::F64 {
                    agrees::<f64>(&case, kernel, &expected, storage, one, three)
                } else {
                    agrees::<f32>(&case, kernel, &expected, storage, one, three)
                };
                agree.map_err(|what| format!("{kernel} in {}: {what}", cases::name(storage)))?;
            }
            computed = Some(expected);
        }
        Ok(())
    });
    let kernels: BTreeSet<(&str, &str)> = registry()
        .map(|(position, variant)| cases::case(position, variant, &COMFORTABLE, 0))
        .flat_map(|case| legal(&case).into_iter().map(move |kernel| (case.op.name(), kernel)))
        .collect();
    let storages = "f32, f64 and bf16 storage, 1 and 3 threads";
    let widths: Vec<&str> = widths().map(named).collect();
    ledger::ran("cpu", format!("{} kernels beside the references, {storages}, {}", kernels.len(), widths.join(", ")));
    if Vectors::widest() < Vectors::Avx512 {
        let what = "the processor has no AVX-512: loops compiled for it did not run";
        ledger::skipped("cpu", what, "cargo test --release --test conformance, on a processor that has");
    }
}

/// The widths of vectors that the processor has.
fn widths() -> impl Iterator<Item = Vectors> {
    Vectors::ALL.into_iter().filter(|&width| width <= Vectors::widest())
}

/// Sets the width from now on, and names it.
fn named(width: Vectors) -> &'static str {
    simd::limit(width);
    assert_eq!(simd::vectors(), width);
    simd::instructions()
}

/// Names of the CPU kernels that may run a case.
fn legal(case: &Case<Op>) -> Vec<&'static str> {
    let candidates = case.op.cpu(&cases::specs(case));
    candidates.into_iter().filter(|candidate| candidate.refusal.is_none()).map(|candidate| candidate.name).collect()
}

fn agrees<N: Number>(
    case: &Case<Op>,
    kernel: &'static str,
    expected: &Expected,
    storage: Storage,
    one: &rayon::ThreadPool,
    three: &rayon::ThreadPool,
) -> Result<(), String> {
    let run = || flat::<N>(case, &|io| case.op.run_cpu(kernel, io), storage);
    let bits = |numbers: &[f64]| -> Vec<u64> { numbers.iter().map(|number| number.to_bits()).collect() };
    let same = |a: &[cases::Flat], b: &[cases::Flat], what: &str| {
        let differs = a.iter().zip(b).position(|((_, a), (_, b))| bits(a) != bits(b));
        differs.map_or(Ok(()), |at| Err(format!("output {at} depends on the {what}")))
    };
    // The widest comes last and stays.
    let mut narrower: Option<Vec<cases::Flat>> = None;
    for width in widths() {
        simd::limit(width);
        let alone = one.install(run)?;
        same(&narrower.unwrap_or_else(|| alone.clone()), &alone, "width of vectors")?;
        narrower = Some(alone);
    }
    let alone = narrower.unwrap_or_default();
    same(&alone, &three.install(run)?, "number of threads")?;
    expected.accepts(&alone).map(drop)
}

/// Specs made wrong in some way, and whether no op could accept them.
fn wrong(mut specs: Vec<Spec>, rng: &mut Rng) -> (Vec<Spec>, bool) {
    let at = if specs.is_empty() { 0 } else { rng.below(specs.len()) };
    let ways = if specs.is_empty() { 1 } else { 6 };
    match rng.below(ways) {
        0 => specs.push(Spec::bytes([2, 3, 4, 5, 6])),
        1 => specs[at].kind = if specs[at].is_real() { Kind::Bytes } else { Kind::Exact },
        2 => {
            let dims: Vec<usize> = (0..rng.below(6)).map(|_| rng.below(7)).collect();
            specs[at].shape = Shape::try_new(&dims).unwrap();
            return (specs, false);
        }
        3 => {
            let mut dims = specs[at].shape.dims().to_vec();
            if !dims.is_empty() {
                let which = rng.below(dims.len());
                dims[which] = *rng.pick(&[0, 1, dims[which] + 1, 1 << 40]);
            }
            specs[at].shape = Shape::try_new(&dims).unwrap();
            return (specs, false);
        }
        4 => {
            specs.truncate(at);
            return (specs, false);
        }
        _ => {
            rng.shuffle(&mut specs);
            return (specs, false);
        }
    }
    (specs, true)
}

#[test]
fn infer_is_total() {
    let mut failures = BTreeMap::new();
    for (position, variant) in registry() {
        let mut rng = Rng::new(7, position as u32, variant as u64);
        for _ in 0..60 {
            let case = cases::case(position, variant, &COMFORTABLE, rng.below(1000) as u64);
            let (specs, impossible) = wrong(cases::specs(&case), &mut rng);
            let what = match catch_unwind(AssertUnwindSafe(|| case.op.infer(&specs))) {
                Err(_) => "panics on",
                Ok(Ok(_)) if impossible => "accepts",
                Ok(Err(misfit)) if misfit.to_string().is_empty() => "does not say why it rejects",
                Ok(_) => continue,
            };
            failures.entry((position, variant, what)).or_insert(format!("{:?} {what} {specs:?}", case.op));
        }
    }
    let failures: Vec<String> = failures.into_values().collect();
    assert!(failures.is_empty(), "{} faults:\n{}", failures.len(), failures.join("\n"));
}
