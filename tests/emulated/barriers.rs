//! CTA barriers (PTX ISA 9.7.13.1).

use g2d::cuda::driver::emulated::Check;

use crate::harness::Case;

const SHARED: &str = ".shared .align 4 .b32 s[256];";

#[test]
fn all_threads_meet_at_a_barrier() {
    for barrier in
        ["bar.sync 0;", "barrier.sync 3;", "barrier.sync.aligned 2;", "bar.sync 1, 128;", "barrier.cta.sync.aligned 0;"]
    {
        let body = format!(
            "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1; st.shared.u32 [%r1], %tx; {barrier}
            xor.b32 %r1, %tx, 96; shl.b32 %r1, %r1, 2; add.u32 %r1, %r0, %r1; ld.shared.u32 %r2, [%r1];
            st.global.u32 [%tb], %r2;"
        );
        let words = Case::new(&body).module(SHARED).threads(128).words();
        assert_eq!(words[..128], (0..128).map(|thread| thread ^ 96).collect::<Vec<_>>(), "{barrier}");
    }
}

#[test]
fn producers_arrive_and_consumers_wait() {
    // Warp 0 fills, warp 1 reads; the producer goes on without waiting.
    let body = "mov.u32 %r0, s; and.b32 %r1, %tx, 31; shl.b32 %r1, %r1, 2; add.u32 %r1, %r0, %r1;
        setp.lt.u32 %p1, %tx, 32; @!%p1 bra consumer;
        st.shared.u32 [%r1], %tx; bar.arrive 1, 64; bra done;
        consumer: bar.sync 1, 64; ld.shared.u32 %r2, [%r1]; st.global.u32 [%tb], %r2; done:";
    let words = Case::new(body).module(SHARED).threads(64).words();
    assert_eq!(words[32..64], (0..32).collect::<Vec<_>>());
}

#[test]
fn barriers_of_other_numbers_do_not_wait_for_each_other() {
    let body = "mov.u32 %r0, s; shr.u32 %r3, %tx, 6; add.u32 %r3, %r3, 1; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;
        st.shared.u32 [%r1], %tx; bar.sync %r3, 64; xor.b32 %r1, %tx, 32; shl.b32 %r1, %r1, 2; add.u32 %r1, %r0, %r1;
        ld.shared.u32 %r2, [%r1]; st.global.u32 [%tb], %r2;";
    let words = Case::new(body).module(SHARED).threads(128).words();
    assert_eq!(words[..128], (0..128).map(|thread| thread ^ 32).collect::<Vec<_>>());
}

#[test]
fn barriers_reduce_predicates() {
    let reduce = |form: &str, limit: u32| {
        let case = Case::new(&format!(
            "setp.lt.u32 %p1, %tx, {limit}; bar.red.{form}; selp.u32 %r1, 1, 0, %p2; st.global.u32 [%tb], %r1;"
        ));
        case.threads(96).words()[90]
    };
    assert_eq!((reduce("or.pred %p2, 0, %p1", 0), reduce("or.pred %p2, 0, %p1", 1)), (0, 1));
    assert_eq!((reduce("and.pred %p2, 0, %p1", 96), reduce("and.pred %p2, 0, %p1", 95)), (1, 0));
    assert_eq!(reduce("and.pred %p2, 0, !%p1", 0), 1);
    let partial = "setp.lt.u32 %p1, %tx, LIMIT; bar.red.and.pred %p2, 0, 64, %p1; selp.u32 %r1, 1, 0, %p2; st.global.u32 [%tb], %r1;";
    let partial = |limit: &str| Case::new(&partial.replace("LIMIT", limit)).threads(40).words()[0];
    assert_eq!((partial("40"), partial("39")), (1, 0), "the last warp has 8 threads, and counts as 32");
    let count = "setp.lt.u32 %p1, %tx, 41; bar.red.popc.u32 %r1, 0, %p1; st.global.u32 [%tb], %r1;";
    assert_eq!(Case::new(count).threads(96).words()[..96], [41; 96]);
    let counted = "setp.lt.u32 %p1, %tx, 41; bar.red.popc.u32 %r1, 2, 96, !%p1; st.global.u32 [%tb], %r1;";
    assert_eq!(Case::new(counted).threads(96).words()[..96], [55; 96]);
}

#[test]
fn divergent_lanes_arrive_at_an_unaligned_barrier_in_their_own_time() {
    let body = "setp.lt.u32 %p1, %tx, 7; @%p1 bra early; barrier.sync 1; bra join; early: barrier.sync 1;
        join: st.global.u32 [%tb], 1;";
    assert_eq!(Case::new(body).threads(64).words()[..64], [1; 64]);
}

#[test]
fn many_rounds_of_a_tree_reduction_are_clean() {
    let body = "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1; st.shared.u32 [%r1], %tx; mov.u32 %r2, 64;
        round: bar.sync 0; setp.ge.u32 %p1, %tx, %r2; @%p1 bra skip; shl.b32 %r3, %r2, 2; add.u32 %r3, %r1, %r3;
        ld.shared.u32 %r4, [%r3]; ld.shared.u32 %r5, [%r1]; add.u32 %r4, %r4, %r5; st.shared.u32 [%r1], %r4;
        skip: shr.u32 %r2, %r2, 1; setp.ne.u32 %p2, %r2, 0; @%p2 bra round;
        bar.sync 0; ld.shared.u32 %r6, [%r0]; st.global.u32 [%tb], %r6;";
    assert_eq!(Case::new(body).module(SHARED).threads(128).words()[..128], [127 * 64; 128]);
}

#[test]
fn a_warp_must_not_arrive_twice_at_one_barrier() {
    let case = Case::new("bar.arrive 1, 64; bar.arrive 1, 64;").threads(64);
    let report = case.provokes(Check::Barrier, |checks| checks.barriers = false);
    assert!(report.text.contains("arrived already"), "{report}");
}

#[test]
fn those_who_wait_are_let_go_before_anybody_arrives_again() {
    // Warp 1 waits twice; in whatever order, each of warp 0's rounds lets it go once.
    let body = "setp.lt.u32 %p1, %tx, 32; @!%p1 bra waits; bar.sync 2, 64; bar.arrive 1, 64; bar.sync 2, 64; bar.arrive 1, 64;
        bra end; waits: bar.arrive 2, 64; bar.sync 1, 64; bar.arrive 2, 64; bar.sync 1, 64; st.global.u32 [%tb], 1; end:";
    assert_eq!(Case::new(body).threads(64).words()[32..64], [1; 32]);
}
