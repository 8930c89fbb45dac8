//! Every op of the registry that has CUDA kernels, every kind of its cases, many shapes, f32 and bf16 storage: each kernel
//! on the emulated device, with every checker, against the reference.
//!
//! `G2D_PTX=FOLDER` takes texts from a folder laid out like `ptx/` instead of those that ship, and
//! `G2D_OPS=conv2d,linear` tries only these: to work on a kernel without building anew.

use std::collections::BTreeSet;

use g2d::kernels::MODULES;
use g2d::ops::REGISTRY;
use g2d::program::Size;
use g2d::verify::Spot;
use g2d::verify::compare::Storage;
use g2d::verify::device::Failure;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::common::{cases, ledger};
use super::device;

/// Shapes tried for each kind of case and storage.
const SHAPES: u32 = 5;

/// Small shapes, and some that are wider than a kernel's tile along one side: references are plain loops.
fn sizes() -> impl Strategy<Value = (Size, u64)> {
    let small = || 1..=9usize;
    let size = prop_oneof![
        3 => (1..=3usize, small(), small(), small()),
        1 => (1..=2usize, 10..=16usize, small(), small()),
        1 => (1..=2usize, small(), 10..=140usize, small()),
        1 => (1..=2usize, small(), small(), 10..=140usize),
    ];
    (size, any::<u64>().no_shrink())
        .prop_map(|((batch, side, channels, extra), draw)| (Size { batch, side, channels, extra }, draw))
}

/// What ran: kernels of ops, and entries of PTX texts.
#[derive(Default)]
struct Ran {
    kernels: BTreeSet<String>,
    entries: BTreeSet<String>,
}

fn check(position: usize, variant: usize, size: Size, draw: u64, ran: &mut Ran) -> Result<(), String> {
    for storage in [Storage::F32, Storage::Bf16] {
        let spot = Spot { subject: position.into(), variant, size, draw, storage };
        let op = spot.case().op;
        let mut expected = None;
        for &kernel in op.cuda() {
            let expected = match &expected {
                Some(expected) => expected,
                None => expected.insert(spot.expected().map_err(|failure| failure.to_string())?),
            };
            let mut modules = device::modules(draw, device::library());
            let checked = spot.check(&mut modules, kernel, expected);
            ran.entries.extend(modules.asked().map(|(symbol, _)| symbol.to_owned()));
            match checked {
                Ok(_) => drop(ran.kernels.insert(format!("{}/{kernel}", op.name()))),
                Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(format!("{kernel}, {}: {failure}", cases::name(storage))),
            }
        }
    }
    Ok(())
}

#[test]
fn kernels_agree_with_the_reference() {
    let only = std::env::var("G2D_OPS").ok();
    let wanted = |op: &str| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == op));
    let (mut failures, mut ran) = (Vec::new(), Ran::default());
    for (position, variant) in cases::registry() {
        let (op, _) = REGISTRY[position];
        let has_kernels = !cases::case(position, variant, &cases::COMFORTABLE, 0).op.cuda().is_empty();
        if !wanted(op) || !has_kernels {
            continue;
        }
        let config = device::cases(SHAPES);
        // Each kind of case its own shapes: what one of them misses another has.
        let mut seed = [0; 32];
        seed[..3].copy_from_slice(&[position as u8, variant as u8, 1]);
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let ran = std::cell::RefCell::new(&mut ran);
        let result = runner.run(&sizes(), |(size, draw)| {
            check(position, variant, size, draw, &mut ran.borrow_mut()).map_err(TestCaseError::fail)
        });
        for size in cases::large(position, variant) {
            if let Err(why) = check(position, variant, size, 1, &mut ran.borrow_mut()) {
                failures.push(format!("{op} variant {variant}, {size:?}: {why}"));
            }
        }
        if let Err(TestError::Fail(why, (size, draw))) = result {
            let case = cases::describe(&cases::case(position, variant, &size, draw));
            failures.push(format!("{op} variant {variant}: {why}\n  smallest: {case}\n  {size:?}, draw {draw}"));
        }
    }
    assert!(failures.is_empty(), "{} kinds of cases fail:\n{}", failures.len(), failures.join("\n"));
    let shipped = MODULES.iter().flat_map(|module| module.entries).map(|entry| entry.symbol);
    let untried: Vec<&str> = shipped.filter(|&symbol| !ran.entries.contains(symbol)).collect();
    assert!(only.is_some() || untried.is_empty(), "no case launches {untried:?}");
    let (kernels, entries) = (ran.kernels.len(), ran.entries.len());
    ledger::ran("emulated", format!("{kernels} kernels of ops ({entries} entries), f32 and bf16 storage"));
}
