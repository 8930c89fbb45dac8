//! The segmentation loss in shapes and stored types that no case of the registry has, and with faults.

use g2d::base::{Rng, Spec};
use g2d::ops::Op;
use g2d::ops::segmentation_loss::{Form, SegmentationLoss};
use g2d::program::{Case, Pass};
use g2d::verify::compare::Storage;
use proptest::prelude::*;

use super::device::{Trial, cases, catch, check_all, each_is_needed};

const SYMBOL: &str = "segmentation_loss_sums_any_sm80";

/// A case like those of the op, of any extents; the mask may be an activation.
fn draw(pass: Pass, form: Form, [batch, height, width]: [usize; 3], mask: Spec, draw: u64) -> Case<Op> {
    let rng = &mut Rng::new(draw, 7, 0);
    let logits = Spec::activation([batch, height, width, 1]);
    let mask = Spec { shape: [batch, height, width].into(), ..mask };
    // Logits above zero keep the raw Dice quotient away from its pole.
    let (low, high) = if form == Form::RawDice02Bce { (0.2, 3.0) } else { (-6.0, 6.0) };
    let case = Case::new(SegmentationLoss { pass, form });
    let case = match pass {
        Pass::Fwd => case.uniform(logits, low, high, rng).uniform(mask, 0.0, 1.0, rng),
        Pass::Bwd => {
            let case = case.normal(Spec::exact([1]), 1.0, rng).uniform(logits, -6.0, 6.0, rng);
            case.uniform(mask, 0.0, 1.0, rng).uniform(Spec::exact([batch, 3]), 0.5, 5.0, rng)
        }
    };
    case.map(Op::from)
}

fn trial(pass: Pass, form: Form, extents: [usize; 3], mask: Spec, seed: u64, storage: Storage) -> Trial {
    Trial::new(|at| draw(pass, form, extents, mask, seed.wrapping_add(at)), storage, "chunks")
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn any_extents_and_types(
        backward: bool,
        raw: bool,
        extents in (1..4usize, 1..120usize, 1..90usize),
        narrow_mask: bool,
        half: bool,
        seed: u64,
    ) {
        let (pass, form) = (if backward { Pass::Bwd } else { Pass::Fwd }, if raw { Form::RawDice02Bce } else { Form::DiceBce });
        let mask = if narrow_mask { Spec::activation([1]) } else { Spec::exact([1]) };
        let storage = if half { Storage::Bf16 } else { Storage::F32 };
        let trial = trial(pass, form, [extents.0, extents.1, extents.2], mask, seed, storage);
        if let Err(why) = trial.check(seed, SYMBOL, None) {
            prop_assert!(false, "{:?} {:?} of {:?}, mask {:?}, {:?}: {}", pass, form, extents, mask, storage, why);
        }
    }
}

/// Few draws on which every part of the kernels matters.
fn telling() -> Vec<Trial> {
    let mut trials = Vec::new();
    // Of two logits: some lie near zero, where the logarithm needs its last term.
    for seed in 0..16 {
        trials.push(trial(Pass::Fwd, Form::DiceBce, [2, 1, 1], Spec::exact([1]), seed, Storage::F32));
    }
    for pass in [Pass::Fwd, Pass::Bwd] {
        let exact = Spec::exact([1]);
        trials.push(trial(pass, Form::DiceBce, [2, 1, 3], exact, 1, Storage::F32));
        trials.push(trial(pass, Form::DiceBce, [2, 70, 64], exact, 1, Storage::F32));
        trials.push(trial(pass, Form::RawDice02Bce, [300, 1, 2], exact, 2, Storage::F32));
        trials.push(trial(pass, Form::DiceBce, [3, 6, 6], Spec::activation([1]), 3, Storage::Bf16));
        trials.push(trial(pass, Form::DiceBce, [2, 3, 5], Spec::activation([1]), 3, Storage::Bf16));
    }
    trials
}

#[test]
fn faults_are_found() {
    let trials = telling();
    let faults = [
        ("add.u32 end, chunk, 4096", "add.u32 end, chunk, 4092"),
        ("min.u32 end, end, pixels", ""),
        ("selp.u32 width, 4, 1, wide", "mov.u32 width, 4"),
        ("fma.rn.f32 r, i, 0fBF317218, r", "fma.rn.f32 r, i, 0fBF317200, r"),
        ("fma.rn.f32 u, u, r, 0f3C088889", "mul.rn.f32 u, u, r"),
        ("selp.f32 sigmoid, r, share, negative", "mov.f32 sigmoid, share"),
        ("selp.f32 chance, x, sigmoid, raw", "mov.f32 chance, sigmoid"),
        ("fma.rn.f32 log, log, z2, 0f3DE38E39", "mul.rn.f32 log, log, z2"),
        ("min.f32 r, x, 0f00000000", "mov.f32 r, x"),
        ("mov.f32 x1, x2", ""),
        ("shfl.sync.bfly.b32 low, bits, 8, 31", "shfl.sync.bfly.b32 low, bits, 4, 31"),
        ("setp.gt.u32 p, tid, 3", "setp.gt.u32 p, tid, 2"),
        ("and.b32 bits, low, 0xFFFF0000", "mov.b32 bits, low"),
        ("add.u32 image, image, 256", "add.u32 image, image, 512"),
        ("add.rn.f32 below, below, 0f3727C5AC", "add.rn.f32 below, below, 0f3F800000"),
        ("div.rn.f32 bce, bce, pixel_count", "div.rn.f32 bce, bce, image_count"),
        ("mul.rn.f32 by_mask, dice, 0fC0000000", "mul.rn.f32 by_mask, dice, 0f40000000"),
        ("selp.f32 slope, 0f3F800000, slope, raw", ""),
        ("cvt.rn.bf16x2.f32 pair1, d3, d2", "cvt.rn.bf16x2.f32 pair1, d2, d3"),
    ];
    catch(SYMBOL, &faults, |text| check_all(&trials, SYMBOL, text));
}

#[test]
fn every_barrier_is_needed() {
    let trials = telling();
    let found = each_is_needed(SYMBOL, &["bar.sync 0;"], |text| check_all(&trials, SYMBOL, text));
    assert_eq!(found, 2, "barriers in the text");
}
