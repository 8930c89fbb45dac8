//! Attention pooling in shapes and stored types that no case of the registry has, and with faults.

use g2d::base::{Rng, Spec};
use g2d::ops::Op;
use g2d::ops::attention_pool::AttentionPool;
use g2d::program::Case;
use g2d::verify::compare::Storage;
use proptest::prelude::*;

use super::device::{Trial, cases, catch, check_all, each_is_needed};

const SYMBOL: &str = "attention_pool_attend_any_sm80";

/// Extents of a case: images, rows and columns of cells, heads, features of a head or of a cell.
type Extents = [usize; 5];

/// A case like those of the op; queries, keys and values are as large as `scale` says, and the gradient of the context may be exact where the projections are not.
fn draw(pass: usize, [batch, height, width, heads, size]: Extents, context: Spec, scale: f64, draw: u64) -> Case<Op> {
    let rng = &mut Rng::new(draw, 8, 0);
    let (tokens, inner) = (height * width + 1, heads * size);
    let qkv = Spec::activation([batch, tokens, 3 * inner]);
    let case = match pass {
        0 => {
            let x = Spec::activation([batch, height, width, size]);
            Case::new(AttentionPool::Tokens).normal(x, 1.0, rng).normal(Spec::exact([tokens, size]), 1.0, rng)
        }
        1 => {
            let dt = Spec::activation([batch, tokens, size]);
            Case::new(AttentionPool::TokensBwd { height, width }).normal(dt, 1.0, rng)
        }
        2 => Case::new(AttentionPool::Attend { heads, height, width }).normal(qkv, scale, rng),
        _ => {
            let (shares, context) = (2.0 / tokens as f64, Spec { shape: [batch, inner].into(), ..context });
            let case = Case::new(AttentionPool::AttendBwd { heads }).normal(context, 1.0, rng).normal(qkv, scale, rng);
            let case = case.uniform(Spec::exact([batch, heads, height, width]), 0.0, shares, rng);
            case.uniform(Spec::exact([batch, heads]), 0.0, shares, rng)
        }
    };
    case.map(Op::from)
}

fn trial(pass: usize, extents: Extents, context: Spec, scale: f64, seed: u64, storage: Storage) -> Trial {
    Trial::new(|at| draw(pass, extents, context, scale, seed.wrapping_add(at)), storage, "blocks")
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn any_extents_and_types(
        pass in 0..4usize,
        extents in (prop_oneof![3 => 1..4usize, 1 => 30..40usize], 1..7usize, 1..8usize, 1..4usize, 1..90usize),
        exact_context: bool,
        scale in prop_oneof![4 => Just(1.0), 1 => Just(6.0)],
        half: bool,
        seed: u64,
    ) {
        let extents = [extents.0, extents.1, extents.2, extents.3, extents.4];
        let context = if exact_context { Spec::exact([1]) } else { Spec::activation([1]) };
        let storage = if half { Storage::Bf16 } else { Storage::F32 };
        if let Err(why) = trial(pass, extents, context, scale, seed, storage).check(seed, SYMBOL, None) {
            prop_assert!(false, "pass {} of {:?}, scale {}, {:?}: {}", pass, extents, scale, storage, why);
        }
    }
}

/// Few draws on which every part of the kernels matters.
fn telling() -> Vec<Trial> {
    let mut trials = Vec::new();
    for pass in 0..4 {
        // Four features at a time, two, one; more than a warp's lanes and more tokens than warps.
        for (extents, storage) in [
            ([2, 2, 5, 2, 70], Storage::F32),
            ([33, 3, 3, 1, 12], Storage::Bf16),
            ([2, 17, 16, 2, 7], Storage::F32),
            ([2, 1, 2, 2, 33], Storage::Bf16),
        ] {
            trials.push(trial(pass, extents, Spec::activation([1]), 1.0, 5, storage));
        }
    }
    // Scores whose exponentials overflow.
    trials.push(trial(2, [2, 3, 3, 2, 16], Spec::activation([1]), 8.0, 5, Storage::F32));
    trials
}

#[test]
fn faults_are_found() {
    let trials = telling();
    let faults = [
        ("setp.ge.u32 p, group, groups", "setp.gt.u32 p, group, groups"),
        ("add.u32 rows, rows, image", ""),
        ("div.rn.f32 s2, s2, count", ""),
        ("cvt.rn.bf16x2.f32 pair1, y3, y2", "cvt.rn.bf16x2.f32 pair1, y2, y3"),
        ("min.u32 end, end, images", ""),
        ("sub.u32 row, row, image", ""),
        ("fma.rn.f32 y1, y1, inverse, x1", "add.rn.f32 y1, y1, x1"),
        ("@!cell bra NEXT", ""),
        ("fma.rn.f32 dot, x1, y1, dot", ""),
        ("div.rn.f32 dot, dot, root", ""),
        ("sub.rn.f32 value, value, largest", ""),
        ("shfl.sync.bfly.b32 low, bits, 4, 31", "shfl.sync.bfly.b32 low, bits, 8, 31"),
        ("fma.rn.f32 u, u, r, 0f3D2AAAAB", "mul.rn.f32 u, u, r"),
        ("add.u32 token, token, 256", "add.u32 token, token, 257"),
        (
            "setp.eq.u32 p, token, 0;\n    @p st.global.f32 [own]",
            "setp.ne.u32 p, token, 0;\n    @p st.global.f32 [own]",
        ),
        ("fma.rn.f32 s1, weight, y1, s1", "fma.rn.f32 s1, weight, y0, s1"),
        ("add.u32 begin, begin, stride", "add.u32 begin, begin, size"),
        ("@outside bra PART_DONE", ""),
        ("sub.rn.f32 value, value, mean", ""),
        ("mul.rn.f32 y1, value, x1", "mul.rn.f32 y1, value, x0"),
    ];
    catch(SYMBOL, &faults, |text| check_all(&trials, SYMBOL, text));
}

#[test]
fn every_barrier_is_needed() {
    let trials = telling();
    let found = each_is_needed(SYMBOL, &["bar.sync 0;"], |text| check_all(&trials, SYMBOL, text));
    assert_eq!(found, 8, "two kernels with four barriers each");
}
