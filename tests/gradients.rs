//! Every gradient rule of the registry against central differences in f64, with random cotangents, in a graph where
//! each input has a second consumer.

mod common;

use std::collections::BTreeSet;

use common::cases::{self, COMFORTABLE, registry};
use common::ledger;
use g2d::verify::gradients::{self, Recorded, SIZES, STEP};

/// Passes that nothing differentiates: they only run in a step's update or its bookkeeping, make constants, or are
/// declared not differentiable.
const WITHOUT_GRADIENT: &[&str] = &[
    "accumulate.fill",
    "adamw",
    "batch_norm.running",
    "body_mask",
    "finite",
    "ingest.bytes",
    "ingest.numbers",
    "mask_threshold",
    "pseudo_mask",
];

#[test]
fn gradient_rules_agree_with_central_differences() {
    let mut failures = Vec::new();
    let mut rules = BTreeSet::new();
    for (position, variant) in registry() {
        for (draw, size) in SIZES.iter().enumerate() {
            let case = cases::case(position, variant, size, draw as u64);
            if case.differentiable.is_empty() {
                continue;
            }
            rules.insert(case.op.name());
            if let Err(what) = gradients::check(&case) {
                failures.push(format!("variant {variant}: {}\n  {what}", cases::describe(&case)));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{} kinds of cases fail:\n{}", failures.len(), failures.join("\n"));
    ledger::ran("gradients", format!("{} passes with a rule, central differences in f64", rules.len()));
}

/// Every pass has a rule that is tested above, or is recorded by such a rule, or is listed as having none.
#[test]
fn no_pass_escapes() {
    let mut all = BTreeSet::new();
    let mut known: BTreeSet<&str> = WITHOUT_GRADIENT.iter().copied().collect();
    for (position, variant) in registry() {
        let case = cases::case(position, variant, &COMFORTABLE, 0);
        all.insert(case.op.name());
        if !case.differentiable.is_empty() {
            known.insert(case.op.name());
            if let Ok(subject) = Recorded::whole(&case) {
                known.extend(subject.program.nodes.iter().map(|node| node.op.name()));
            }
        }
    }
    let escaped: Vec<_> = all.difference(&known).collect();
    assert!(escaped.is_empty(), "no gradient test reaches {escaped:?}");
}

/// Spoils a gradient.
type Fault = fn(&mut [f64]);

#[test]
fn wrong_gradients_are_rejected() {
    let case = cases::case(0, 0, &COMFORTABLE, 0);
    let subject = Recorded::whole(&case).unwrap();
    let right = subject.analytic();
    subject.check::<f64>(&right, STEP).unwrap();
    let faults: [(&str, Fault); 4] = [
        ("0.1 % too large", |numbers| numbers.iter_mut().for_each(|number| *number *= 1.001)),
        ("one element dropped", |numbers| numbers[3] = 0.0),
        ("one element NaN", |numbers| numbers[3] = f64::NAN),
        ("neighbours swapped", |numbers| numbers.swap(2, 3)),
    ];
    for (what, fault) in faults {
        for input in 0..right.len() {
            let mut wrong = right.clone();
            fault(&mut wrong[input]);
            assert!(subject.check::<f64>(&wrong, STEP).is_err(), "input {input}: {what}: not rejected");
        }
    }
}

/// Differences in f32 with a step of f64's size are noise: the check has to notice its own misuse.
#[test]
fn a_step_too_small_for_f32_is_rejected() {
    let subject = Recorded::whole(&cases::case(0, 1, &COMFORTABLE, 0)).unwrap();
    assert!(subject.check::<f32>(&subject.analytic(), 1e-9).is_err());
}
