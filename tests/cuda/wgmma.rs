//! The product on Hopper's tensor cores, as `matmul` tries those of `mma.sync`: whole numbers, so that a result is right or wrong
//! to the last bit; ragged along every side, in slices, with fewer blocks than tiles.

use g2d::ops::linear::matmul::{Form, Product};
use g2d::ops::linear::wgmma::Cut;
use proptest::prelude::*;

use super::device::{cases, catch, each_is_needed};
use super::matmul::{By, Case, drawn, forms};

const SYMBOL: &str = "matmul_wgmma_bf16_128x256_sm90a";

/// Schedules on which copies take effect early, and late.
const SEEDS: [u64; 2] = [1, 3];

/// Up to three tiles along a side, and up to six stages of the inner extent.
fn any_case() -> impl Strategy<Value = Case> {
    let side = |tile: usize| prop_oneof![2 => 1..tile, 1 => tile..=2 * tile + 8];
    let sides = (side(128), side(256), prop_oneof![1..64usize, 1..390usize]);
    let cut = (1..4usize, 1..5u32);
    let rest = (any::<bool>(), any::<bool>(), prop::option::of(0.0..1.0), any::<u64>());
    (forms(), sides, cut, rest).prop_map(|(form, (m, n, k), (steps, blocks), rest)| {
        let by_weight = form == Form::ByWeight;
        let eights = |extent: usize, needed: bool| if needed { extent.next_multiple_of(8) } else { extent };
        let (m, n, k) = (eights(m, by_weight), eights(n, true), eights(k, !by_weight));
        let by = |slice: usize| By::Wgmma(Cut { slice, slices: k.div_ceil(slice) }, blocks);
        drawn(Product { form, m, n, k }, [64, steps], rest, by)
    })
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn products_are_exact(case in any_case(), seed: u64) {
        if let Err(why) = case.check(seed, None) {
            prop_assert!(false, "{}", why);
        }
    }
}

/// Products on which every part of the kernel matters: ragged, of several tiles to a block, of more turns than stages.
fn telling() -> Vec<Case> {
    let case = |form, [m, n, k]: [usize; 3], slices: usize, blocks, extent| {
        let slice = k.div_ceil(slices).next_multiple_of(64);
        let by = By::Wgmma(Cut { slice, slices: k.div_ceil(slice) }, blocks);
        let product = Product { form, m, n, k };
        let by_input = form == Form::ByInput;
        Case { product, by, half: by_input, bias: form == Form::Forward, add: by_input, extent, draw: 3 }
    };
    vec![
        // Six turns and two tiles to a block; rows of the last tile are there in part.
        case(Form::Forward, [259, 72, 328], 1, 2, Some(201)),
        case(Form::ByInput, [70, 264, 200], 1, 1, Some(67)),
        Case { add: false, ..case(Form::ByInput, [70, 264, 200], 1, 1, None) },
        case(Form::ByWeight, [136, 72, 421], 2, 1, Some(411)),
        // Of the slices only the first has rows.
        case(Form::ByWeight, [8, 264, 200], 2, 9, Some(100)),
    ]
}

fn check_all(cases: &[Case], text: Option<String>) -> Result<(), String> {
    SEEDS.iter().try_for_each(|&seed| cases.iter().try_for_each(|case| case.check(seed, text.clone())))
}

#[test]
fn faults_are_found() {
    let cases = telling();
    let faults = [
        ("@a_by_k min.u32 k, k, flag", "@a_by_k mov.u32 flag, flag"),
        ("@!a_by_k min.u32 rows, rows, flag", ""),
        ("setp.lt.u32 inside, column, n", "setp.le.u32 inside, column, n"),
        ("setp.lt.u32 there, at, rows", "setp.le.u32 there, at, rows"),
        ("add.rn.f32 v1, v1, bias1", ""),
        ("cvt.rn.bf16x2.f32 low, v1, v0", "cvt.rn.bf16x2.f32 low, v0, v1"),
        ("setp.ge.s32 p, t, left", "setp.gt.s32 p, t, left"),
        ("setp.lt.u32 p, line, 384", "setp.lt.u32 p, line, 128"),
        ("or.b64 b_first, b_first, 0x4000004002000000", "or.b64 b_first, b_first, 0x4000004001000000"),
        ("selp.b64 a_step, 128, 2, a_by_k", "selp.b64 a_step, 64, 2, a_by_k"),
        ("selp.b64 b_step, 128, 2, b_by_k", "selp.b64 b_step, 128, 4, b_by_k"),
        ("a_at, b_at, adds, 1, 1, 0, 1", "a_at, b_at, 1, 1, 1, 0, 1"),
        ("setp.eq.u32 adds, item, item", "setp.ne.u32 adds, item, item"),
        ("{c124, c125}", "{c124, c121}"),
        ("add.u32 t, m0, 64", "add.u32 t, m0, 56"),
        ("add.u32 item, item, grid", "add.u32 item, item, items"),
        ("xor.b32 to, to, 64", ""),
        ("add.rn.f32 v3, bias3, v3", ""),
        ("shl.b32 bias0, e14, 16", "shl.b32 bias0, e13, 16"),
    ];
    catch(SYMBOL, &faults, |text| check_all(&cases, text));
}

#[test]
fn every_barrier_wait_and_commit_is_needed() {
    let cases = telling();
    let statements = [
        "bar.sync 0;",
        "bar.sync 1, 256;",
        "bar.warp.sync 0xffffffff;",
        "fence.mbarrier_init.release.cluster;",
        "fence.proxy.async.shared::cta;",
        "wgmma.fence.sync.aligned;",
        "wgmma.commit_group.sync.aligned;",
        "wgmma.wait_group.sync.aligned 1;",
        "wgmma.wait_group.sync.aligned 0;",
        "@!p bra ARRIVED;",
        "@!p bra FREE;",
        "@later mbarrier.arrive.shared::cta.b64 _, [given];",
        "@lead mbarrier.arrive.shared::cta.b64 _, [given];",
    ];
    let found = each_is_needed(SYMBOL, &statements, |text| check_all(&cases, text));
    assert_eq!(found, 18, "three forms with a fence and a commit each, two for a warp, one of each other");
}
