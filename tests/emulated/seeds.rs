//! Seeds: they permute CTAs, warps and the lanes of atomics, and the same seed gives the same run.

use std::collections::BTreeSet;

use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::Options;

use crate::harness::Case;

/// Seeds that are tried.
const SEEDS: u64 = 8;

/// The order in which eight parties draw tickets at word 64 of b: `who` has the party's number in its first lane, in %r2.
/// Seed 0 must give the natural order, every other seed one of its own, each the same again.
#[track_caller]
fn permutes(who: &str, launch: Launch) {
    let case = Case::new(&format!(
        "{who} @!%p1 bra end; atom.global.add.u32 %r1, [%b+256], 1; mul.wide.u32 %rd1, %r2, 4; add.u64 %rd1, %b, %rd1;
        st.global.u32 [%rd1], %r1; end:"
    ))
    .launch(launch);
    let run = |seed| case.run(Options { seed, ..Options::default() }).expect("no fault").b[..8].to_vec();
    let natural: Vec<u32> = (0..8).collect();
    assert_eq!(run(0), natural);
    let orders: Vec<Vec<u32>> = (0..SEEDS).map(run).collect();
    for (seed, order) in (0..).zip(&orders) {
        assert_eq!(run(seed), *order, "seed {seed} once more");
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, natural, "seed {seed}: everybody draws once");
    }
    let different: BTreeSet<&Vec<u32>> = orders.iter().collect();
    assert_eq!(different.len(), orders.len(), "every seed has an order of its own: {orders:?}");
}

#[test]
fn seeds_permute_blocks() {
    permutes("setp.eq.u32 %p1, %tx, 0; mov.u32 %r2, %cx;", Launch::linear(8, 32));
}

#[test]
fn seeds_permute_the_warps_of_a_block() {
    permutes("and.b32 %r3, %tx, 31; setp.eq.u32 %p1, %r3, 0; shr.u32 %r2, %tx, 5;", Launch::linear(1, 256));
}

#[test]
fn seeds_permute_the_lanes_of_atomics() {
    permutes("setp.lt.u32 %p1, %tx, 8; mov.u32 %r2, %tx;", Launch::linear(1, 32));
}

#[test]
fn seeds_permute_warps_anew_in_every_round() {
    // Between barriers the warps draw tickets; the orders of two rounds differ.
    let case = Case::new(
        "and.b32 %r3, %tx, 31; setp.eq.u32 %p1, %r3, 0; shr.u32 %r2, %tx, 5; mov.u32 %r4, 0; mov.u64 %rd2, %b;
        round: mul.wide.u32 %rd1, %r2, 4; add.u64 %rd1, %rd2, %rd1; @%p1 atom.global.add.u32 %r1, [%b+512], 1;
        @%p1 st.global.u32 [%rd1], %r1; bar.sync 0; add.u64 %rd2, %rd2, 32; add.u32 %r4, %r4, 1;
        setp.lt.u32 %p2, %r4, 3; @%p2 bra round;",
    )
    .threads(256);
    let words = case.run(Options { seed: 1, ..Options::default() }).expect("no fault").b;
    let rounds: BTreeSet<Vec<u32>> =
        words[..24].chunks(8).map(|round| round.iter().map(|at| at % 8).collect()).collect();
    assert_eq!(rounds.len(), 3, "{rounds:?}");
}
