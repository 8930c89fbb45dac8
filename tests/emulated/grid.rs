//! Several CTAs: order, release and acquire, grid-wide barriers (PTX ISA 8.7 to 8.9).

use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::{Check, Checks, Options};

use crate::harness::Case;

/// Every block stores a partial result; the last one to count itself adds them up.
fn last_block(fence: &str, acquire: &str) -> Case {
    Case::new(&format!(
        "setp.ne.u32 %p1, %tx, 0; @%p1 bra end;
        add.u32 %r1, %cx, 1; mul.wide.u32 %rd1, %cx, 4; add.u64 %rd1, %c, %rd1; st.global.u32 [%rd1], %r1;
        {fence}
        atom.global.inc.u32 %r2, [%b], 1000;
        setp.ne.u32 %p2, %r2, 7; @%p2 bra end;
        {acquire}
        mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u64 %rd2, %c;
        sum: ld.global.u32 %r5, [%rd2]; add.u32 %r4, %r4, %r5; add.u64 %rd2, %rd2, 4; add.u32 %r3, %r3, 1;
        setp.lt.u32 %p3, %r3, 8; @%p3 bra sum;
        st.global.u32 [%b+4], %r4;
        end:"
    ))
    .launch(Launch::linear(8, 32))
}

#[test]
fn partial_results_are_seen_through_fences_and_a_counter() {
    for fence in ["membar.gl;", "fence.acq_rel.gpu;", "fence.sc.sys;"] {
        assert_eq!(last_block(fence, fence).words()[1], 36, "{fence}");
    }
    let released = last_block("", "").body.replace("atom.global.inc", "atom.acq_rel.gpu.global.inc");
    let case = Case { body: released, ..last_block("", "") };
    assert_eq!(case.words()[1], 36, "the atomic itself releases and acquires");
}

#[test]
fn a_missing_or_too_narrow_fence_between_blocks_is_reported() {
    for (fence, acquire) in [("", "membar.gl;"), ("membar.gl;", ""), ("", ""), ("membar.cta;", "membar.gl;")] {
        let report = last_block(fence, acquire).provokes(Check::GlobalRace, |checks| checks.global_races = false);
        assert!(report.text.contains("release and acquire"), "{report}");
    }
}

/// All blocks wait for each other, then read their neighbour's word.
fn grid_barrier(fence: &str) -> Case {
    Case::new(&format!(
        "st.global.u32 [%tc], %gx; bar.sync 0; setp.ne.u32 %p1, %tx, 0; @%p1 bra joined;
        {fence} atom.global.add.u32 %r1, [%b+512], 1;
        wait: ld.relaxed.gpu.global.u32 %r2, [%b+512]; setp.lt.u32 %p2, %r2, 4; @%p2 bra wait; {fence}
        joined: bar.sync 0; xor.b32 %r3, %gx, 32; mul.wide.u32 %rd1, %r3, 4; add.u64 %rd1, %c, %rd1;
        ld.global.u32 %r4, [%rd1]; st.global.u32 [%tb], %r4;"
    ))
    .launch(Launch::linear(4, 32))
}

#[test]
fn blocks_can_wait_for_each_other() {
    assert_eq!(grid_barrier("fence.acq_rel.gpu;").words()[..128], (0..128).map(|word| word ^ 32).collect::<Vec<_>>());
    assert_eq!(grid_barrier("").report().check, Check::GlobalRace);
}

#[test]
fn release_and_acquire_accesses_order_without_fences() {
    let body = "setp.ne.u32 %p1, %tx, 0; @%p1 bra end; setp.eq.u32 %p2, %cx, 1; @%p2 bra reader;
        st.global.u32 [%c], 41; st.RELEASE.global.u32 [%b+4], 1; bra end;
        reader: ld.ACQUIRE.global.u32 %r1, [%b+4]; setp.eq.u32 %p3, %r1, 0; @%p3 bra reader;
        ld.global.u32 %r2, [%c]; st.global.u32 [%b], %r2; end:";
    let case = |release: &str, acquire: &str| {
        let body = body.replace("RELEASE", release).replace("ACQUIRE", acquire);
        Case::new(&body).launch(Launch::linear(2, 32))
    };
    assert_eq!(case("release.gpu", "acquire.gpu").words()[..2], [41, 1]);
    assert_eq!(case("release.gpu", "relaxed.gpu").report().check, Check::GlobalRace);
    assert_eq!(case("relaxed.gpu", "acquire.gpu").report().check, Check::GlobalRace);
    assert_eq!(case("release.cta", "acquire.gpu").report().check, Check::GlobalRace);
}

/// One block passes a word on through a flag, with these fences or accesses before and after it.
fn passed_on(before: &str, write: &str, read: &str, after: &str) -> Case {
    Case::new(&format!(
        "setp.ne.u32 %p1, %tx, 0; @%p1 bra end; setp.eq.u32 %p2, %cx, 1; @%p2 bra reader;
        st.global.u32 [%c], 41; {before} st.{write}.global.u32 [%b+4], 1; bra end;
        reader: ld.{read}.global.u32 %r1, [%b+4]; setp.eq.u32 %p3, %r1, 0; @%p3 bra reader;
        {after} ld.global.u32 %r2, [%c]; st.global.u32 [%b], %r2; end:"
    ))
    .launch(Launch::linear(2, 32))
}

#[test]
fn what_one_lane_acquires_holds_for_the_others_once_they_synchronise() {
    let body = |between: &str| {
        format!(
            "setp.ne.u32 %p1, %tx, 0; setp.eq.u32 %p2, %cx, 1; @%p2 bra reader;
            @%p1 bra end; st.global.u32 [%c], 41; st.release.gpu.global.u32 [%b+256], 1; bra end;
            reader: @%p1 bra joined;
            wait: ld.acquire.gpu.global.u32 %r1, [%b+256]; setp.eq.u32 %p3, %r1, 0; @%p3 bra wait;
            joined: {between} ld.global.u32 %r2, [%c]; st.global.u32 [%tb+-128], %r2; end:"
        )
    };
    let case = |between: &str| Case::new(&body(between)).launch(Launch::linear(2, 32));
    for between in ["bar.warp.sync -1;", "bar.sync 0;"] {
        assert_eq!(case(between).words()[..32], [41; 32], "{between}");
    }
    let report = case("").report();
    assert_eq!((report.check, report.lane.map(|(lane, _)| lane)), (Check::GlobalRace, Some(1)), "{report}");
    let options = Options { checks: Checks { lockstep: true, ..Checks::default() }, ..Options::default() };
    assert_eq!(case("").run(options).expect("in step").b[..32], [41; 32]);
}

#[test]
fn a_release_does_not_acquire_and_an_acquire_does_not_release() {
    let (acquire, release) = ("fence.acquire.gpu;", "fence.release.gpu;");
    assert_eq!(passed_on(release, "relaxed.gpu", "relaxed.gpu", acquire).words()[0], 41);
    let wrong = [
        passed_on(release, "relaxed.gpu", "relaxed.gpu", release),
        passed_on(acquire, "relaxed.gpu", "relaxed.gpu", acquire),
        passed_on("", "release.gpu", "relaxed.gpu", "st.release.gpu.global.u32 [%b+8], 1;"),
    ];
    wrong.iter().for_each(|case| assert_eq!(case.report().check, Check::GlobalRace, "{}", case.body));
}

#[test]
fn cta_scope_orders_nothing_between_blocks() {
    let (fence, narrow) = ("fence.acq_rel.gpu;", "fence.acq_rel.cta;");
    let wrong = [
        passed_on("", "release.gpu", "acquire.cta", ""),
        passed_on(fence, "relaxed.cta", "relaxed.gpu", fence),
        passed_on(fence, "relaxed.gpu", "relaxed.cta", fence),
        passed_on(fence, "relaxed.gpu", "relaxed.gpu", narrow),
        passed_on(narrow, "relaxed.gpu", "relaxed.gpu", fence),
        Case::new("red.relaxed.cta.global.add.u32 [%b], 1;").launch(Launch::linear(2, 32)),
    ];
    wrong.iter().for_each(|case| assert_eq!(case.report().check, Check::GlobalRace, "{}", case.body));
    assert_eq!(passed_on(fence, "relaxed.gpu", "relaxed.gpu", fence).words()[0], 41);
}

#[test]
fn cta_scope_orders_the_warps_of_a_block() {
    let body = "setp.ne.u32 %p1, %tx, 0; setp.ne.u32 %p2, %tx, 32; setp.lt.u32 %p3, %tx, 32; @!%p3 bra reader;
        @%p1 bra end; st.global.u32 [%c], 41; st.release.cta.global.u32 [%b+4], 1; bra end; reader: @%p2 bra end;
        wait: ld.acquire.cta.global.u32 %r1, [%b+4]; setp.eq.u32 %p4, %r1, 0; @%p4 bra wait;
        ld.global.u32 %r2, [%c]; st.global.u32 [%b], %r2; end:";
    for (release, acquire) in [("cta", "cta"), ("gpu", "cta"), ("cta", "gpu")] {
        let body = body.replace("release.cta", &format!("release.{release}"));
        let case = Case::new(&body.replace("acquire.cta", &format!("acquire.{acquire}"))).threads(64);
        assert_eq!(case.words()[0], 41, "{release}, {acquire}");
    }
}

#[test]
fn blocks_that_wait_for_more_than_can_be_resident_are_reported() {
    let case = Case::new(
        "setp.ne.u32 %p1, %tx, 0; @%p1 bra end; atom.global.add.u32 %r1, [%b], 1;
        wait: ld.relaxed.gpu.global.u32 %r2, [%b]; setp.lt.u32 %p2, %r2, 1000; @%p2 bra wait; end:",
    )
    .launch(Launch::linear(1000, 32));
    let report = case.report();
    assert_eq!(report.check, Check::Deadlock, "{report}");
}

#[test]
fn neighbouring_bytes_of_two_blocks_do_not_race() {
    let body = "mov.b16 %h1, 5; cvt.u64.u32 %rd1, %gx; add.u64 %rd1, %b, %rd1; st.global.u8 [%rd1], %h1;
        ld.global.u8 %r1, [%rd1]; add.u32 %r1, %r1, 1; st.global.u8 [%rd1], %r1;";
    let words = Case::new(body).launch(Launch::linear(3, 31)).words();
    assert_eq!(words[..23], [0x0606_0606; 23]);
}

#[test]
fn a_loop_that_changes_memory_is_no_spin() {
    // Registers and program counter are the same whenever the warp yields; only the counter in memory moves on.
    let body = "count: atom.global.add.u32 %r1, [%b], 1; setp.lt.u32 %p1, %r1, 100000; mov.u32 %r1, 0; @%p1 bra count;";
    assert_eq!(Case::new(body).launch(Launch::linear(2, 1)).words()[0], 100_002);
}
