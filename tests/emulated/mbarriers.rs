//! Barriers in shared memory (PTX ISA 9.7.13.15).

use g2d::cuda::driver::emulated::{Check, Checks, Options};

use crate::harness::Case;

/// An mbarrier `m` for so many arrivals, made by thread 0, and what follows.
fn with(arrivals: u32, body: &str) -> Case {
    Case::new(&format!("setp.eq.u32 %p1, %tx, 0; @%p1 mbarrier.init.shared.b64 [m], {arrivals}; bar.sync 0; {body}"))
        .module(".shared .align 8 .b64 m; .shared .align 8 .b64 o; .shared .align 4 .b32 s[64];")
}

#[test]
fn a_phase_is_complete_when_all_have_arrived() {
    let body =
        "mbarrier.arrive.shared.b64 %rd1, [m]; wait: mbarrier.test_wait.acquire.cta.shared::cta.b64 %p2, [m], %rd1;
        @!%p2 bra wait; mbarrier.test_wait.parity.shared::cta.b64 %p3, [m], 0;
        mbarrier.test_wait.parity.shared::cta.b64 %p4, [m], 1; selp.u32 %r1, 1, 0, %p3; selp.u32 %r2, 2, 0, %p4;
        add.u32 %r1, %r1, %r2; st.global.u32 [%tb], %r1;";
    assert_eq!(with(96, body).threads(96).words()[..96], [1; 96]);
}

#[test]
fn states_hold_what_a_phase_lacked() {
    let body = "mbarrier.arrive.noComplete.shared.b64 %rd1, [m], 2; mbarrier.arrive_drop.shared.b64 %rd2, [m];
        mbarrier.arrive.shared.b64 %rd3, [m]; mbarrier.arrive.shared.b64 %rd4, [m];
        mbarrier.pending_count.b64 %r1, %rd1; mbarrier.pending_count.b64 %r2, %rd2; mbarrier.pending_count.b64 %r3, %rd3;
        mbarrier.pending_count.b64 %r4, %rd4; mbarrier.test_wait.shared.b64 %p2, [m], %rd3;
        mbarrier.test_wait.shared.b64 %p3, [m], %rd4; selp.u32 %r5, 1, 0, %p2; selp.u32 %r6, 1, 0, %p3;
        st.global.v4.u32 [%b], {%r1, %r2, %r3, %r4}; st.global.v2.u32 [%b+16], {%r5, %r6};";
    let words = with(4, body).threads(1).words();
    assert_eq!(words[..6], [4, 2, 1, 3, 1, 0], "the second phase expects one less");
}

#[test]
fn memory_can_be_used_again() {
    let body = "mbarrier.inval.shared.b64 [m]; st.shared.u64 [m], 7; ld.shared.u64 %rd1, [m]; st.global.u64 [%b], %rd1;
        mbarrier.init.shared.b64 [m], 1; mov.u64 %rd2, m; cvta.shared.u64 %rd2, %rd2; mbarrier.arrive.b64 %rd3, [%rd2];
        mbarrier.test_wait.b64 %p2, [%rd2], %rd3; selp.u32 %r1, 1, 0, %p2; st.global.u32 [%b+8], %r1;";
    assert_eq!(with(1, body).threads(1).words()[..3], [7, 0, 1]);
}

#[test]
fn copies_arrive_when_they_are_complete() {
    let copy = "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1; xor.b32 %r2, %r1, 4;
        cp.async.ca.shared.global [%r1], [%ta], 4;";
    let wait = "wait: mbarrier.test_wait.parity.shared::cta.b64 %p2, [m], 0; @!%p2 bra wait;
        ld.shared.u32 %r3, [%r2]; st.global.u32 [%tb], %r3;";
    let expected: Vec<u32> = (0..32).map(|lane| lane ^ 1).collect();
    for arrive in [
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [m];",
        "cp.async.mbarrier.arrive.shared.b64 [m]; mbarrier.arrive.shared::cta.b64 _, [m];",
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [m]; cp.async.wait_all;",
    ] {
        assert_eq!(with(32, &format!("{copy} {arrive} {wait}")).words()[..32], expected, "{arrive}");
    }
    // Who does not wait finds the copy under way, or complete without an order.
    let hasty = "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [m]; ld.shared.u32 %r3, [%r2];";
    let hasty = with(32, &format!("{copy} {hasty}"));
    hasty.provokes(Check::PendingCopy, |checks| (checks.pending_copies, checks.shared_races) = (false, false));
    // An arrival alone waits for no copy.
    let plain = format!("{copy} mbarrier.arrive.shared.b64 _, [m]; {wait}");
    with(32, &plain).provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
}

#[test]
fn misuse_is_reported() {
    for (arrivals, body, words) in [
        (1, "mbarrier.init.shared.b64 [m], 1;", "mbarrier.inval comes first"),
        (1, "mbarrier.init.shared.b64 [o], 0;", "1 to 1048575"),
        (1, "mbarrier.init.shared.b64 [o], 0x100000;", "1 to 1048575"),
        (2, "mbarrier.arrive.noComplete.shared.b64 _, [m], 2;", "completes the phase"),
        (2, "mbarrier.arrive.noComplete.shared.b64 _, [m], 3;", "3 arrivals, which must be 1 to 2"),
        (2, "mbarrier.arrive.noComplete.shared.b64 _, [m], 0;", "0 arrivals"),
        (1, "mbarrier.test_wait.parity.shared::cta.b64 %p2, [m], 2;", "0 or 1"),
        (0xfffff, "cp.async.mbarrier.arrive.shared.b64 [m];", "as many arrivals as it can"),
        (1, "ld.shared.u32 %r1, [m+4];", "only its instructions may touch"),
        (1, "st.shared.u32 [m], 1;", "only its instructions may touch"),
        (
            1,
            "mbarrier.init.shared.b64 [o], 1; mbarrier.arrive.shared.b64 %rd1, [o];
            mbarrier.test_wait.shared.b64 %p2, [m], %rd1;",
            "not one of this mbarrier",
        ),
        (
            1,
            "mbarrier.arrive.shared.b64 %rd1, [m]; mbarrier.arrive.shared.b64 _, [m]; mbarrier.arrive.shared.b64 _, [m];
            mbarrier.test_wait.shared.b64 %p2, [m], %rd1;",
            "is of phase 0; only the last two",
        ),
        (1, "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [m]; mbarrier.inval.shared.b64 [m];", "still to arrive"),
    ] {
        let report = with(arrivals, body).threads(1).provokes(Check::Barrier, |checks| checks.barriers = false);
        assert!(report.text.contains(words) && report.lane.is_some(), "`{words}` is not in: {report}");
    }
    // One that was never made can be used by no one.
    for body in ["mbarrier.arrive.shared.b64 _, [o];", "mbarrier.test_wait.parity.shared::cta.b64 %p2, [o], 0;"] {
        let report = with(1, body).threads(1).report();
        assert!(report.check == Check::Barrier && report.text.contains("by mbarrier.init"), "{report}");
    }
    let report = with(1, "mbarrier.init.shared.b64 [m+12], 1;").threads(1).report();
    assert_eq!(report.check, Check::Alignment, "{report}");
    let report = with(1, "mbarrier.init.b64 [%b], 1;").threads(1).report();
    assert!(report.check == Check::Bounds && report.text.contains("lies in shared memory"), "{report}");
}

#[test]
fn more_arrivals_than_expected_are_reported() {
    // 32 arrivals complete two phases of 16. Once all have dropped out, a phase expects none.
    with(16, "mbarrier.arrive.shared.b64 _, [m];").words();
    let drops = "mbarrier.arrive_drop.shared.b64 _, [m]; bar.sync 0; mbarrier.arrive.shared.b64 _, [m];";
    let report = with(32, drops).provokes(Check::Barrier, |checks| checks.barriers = false);
    assert!(report.text.contains("1 arrivals, which must be 1 to 0"), "{report}");
}

#[test]
fn an_mbarrier_must_be_made_before_others_use_it() {
    let body = "setp.eq.u32 %p1, %tx, 0; @%p1 mbarrier.init.shared.b64 [m], 64; mbarrier.arrive.shared.b64 _, [m];";
    let case = Case { body: body.into(), ..with(1, "") }.threads(64);
    case.provokes(Check::SharedRace, |checks| checks.shared_races = false);
}

#[test]
fn a_phase_that_nobody_completes_is_a_deadlock() {
    let body =
        "mbarrier.arrive.shared.b64 %rd1, [m]; wait: mbarrier.test_wait.shared.b64 %p2, [m], %rd1; @!%p2 bra wait;";
    let report = with(33, body).report();
    assert_eq!(report.check, Check::Deadlock, "{report}");
    assert!(report.text.contains("shared byte 0 of `m`, an mbarrier whose phase 0 lacks 1 arrivals"), "{report}");
    let checks = Checks { deadlock: false, ..Checks::default() };
    let report = with(33, body).run(Options { checks, limit: Some(9000), ..Options::default() }).expect_err("no end");
    assert_eq!(report.check, Check::Limit, "{report}");
}
