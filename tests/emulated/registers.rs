//! Uses of registers that the thread has not written.

use g2d::cuda::driver::emulated::{Check, Checks, Options};

use crate::harness::Case;

/// %p1 holds in the lower half of the warp.
const HALF: &str = "setp.lt.u32 %p1, %tx, 16;";

#[track_caller]
fn reported(body: &str, lane: usize, words: &str) {
    let report = Case::new(body).provokes(Check::Register, |checks| checks.registers = false);
    assert_eq!(report.lane.map(|(lane, _)| lane), Some(lane), "{report}");
    assert!(report.text.contains(words), "{report}");
}

#[track_caller]
fn clean(body: &str) {
    Case::new(body).words();
}

#[test]
fn a_register_that_nobody_wrote_is_reported_with_kernel_line_and_lane() {
    let case = Case::new("mov.u32 %r1, 5;\nadd.u32 %r2, %r1, %r3;\nst.global.u32 [%tb], %r2;");
    let report = case.provokes(Check::Register, |checks| checks.registers = false);
    let line = case.ptx().lines().position(|line| line.contains("%r3;")).expect("the line") + 1;
    let text = report.to_string();
    for part in ["uninitialised register", &format!("PTX line {line}"), "`%r3`", "lane 0", "thread (0,0,0)"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert_eq!(report.kernel, "kernel");
    let checks = Checks { registers: false, ..Checks::default() };
    assert_eq!(case.run(Options { checks, ..Options::default() }).expect("the checker is off").b[..32], [5; 32]);
}

#[test]
fn every_use_counts() {
    for (body, name) in [
        ("st.global.u32 [%tb], %r1;", "`%r1`"),
        ("cvt.u64.u32 %rd2, %r1; and.b64 %rd2, %rd2, 0; add.u64 %rd2, %tb, %rd2; st.global.u32 [%rd2], 1;", "`%r1`"),
        ("and.b64 %rd2, %rd1, 0; add.u64 %rd2, %tb, %rd2; st.global.u32 [%rd2], 1;", "`%rd1`"),
        ("@%p1 st.global.u32 [%tb], 1;", "`%p1`"),
        ("@%p1 bra end; st.global.u32 [%tb], 1; end:", "`%p1`"),
        ("setp.eq.f32 %p1, %f1, 0f00000000;", "`%f1`"),
        ("selp.u32 %r1, 1, 0, %p1;", "`%p1`"),
        ("add.s16 %h2, %h1, 1;", "`%h1`"),
        ("atom.global.add.u32 %r1, [%b], %r2;", "`%r2`"),
        ("vote.sync.any.pred %p2, %p1, -1;", "`%p1`"),
        ("redux.sync.add.u32 %r1, %r2, -1;", "`%r2`"),
    ] {
        reported(body, 0, name);
    }
}

#[test]
fn lanes_are_told_apart() {
    let write = |by: &str, then: &str| format!("{HALF} {by} {then} st.global.u32 [%tb], %r2;");
    let then = "add.u32 %r2, %r1, 1;";
    reported(&write("@%p1 mov.u32 %r1, 7;", then), 16, "`%r1`");
    reported(&write("@!%p1 bra skip; mov.u32 %r1, 7; skip:", then), 16, "`%r1`");
    reported(&write("@%p1 bra skip; mov.u32 %r1, 7; skip:", then), 0, "`%r1`");
    reported(&write("@%p1 bra low; mov.u32 %r1, 7; bra end; low: mov.u32 %r3, 7; end:", then), 0, "`%r1`");
    clean(&write("@%p1 mov.u32 %r1, 7; @!%p1 mov.u32 %r1, 8;", then));
    clean(&write("@%p1 bra low; mov.u32 %r1, 7; bra end; low: mov.u32 %r1, 8; end:", then));
}

#[test]
fn lanes_that_are_predicated_off_use_nothing() {
    clean(&format!("{HALF} @%p1 mov.u32 %r1, 7; @%p1 add.u32 %r2, %r1, 1; @%p1 st.global.u32 [%tb], %r2;"));
    clean(&format!("{HALF} @%p1 mov.u32 %r1, 7; @!%p1 bra end; st.global.u32 [%tb], %r1; end:"));
    clean("setp.gt.u32 %p1, %tx, 99; @%p1 st.global.u32 [%tb], %r1;");
}

#[test]
fn a_loop_may_use_what_it_wrote_the_round_before_and_no_sooner() {
    let body = |first: &str| {
        format!(
            "mov.u32 %r1, 0; again: setp.eq.u32 %p1, %r1, {first}; @%p1 mov.u32 %r2, 3;
            setp.ge.u32 %p2, %r1, 1; @%p2 add.u32 %r2, %r2, 1; add.u32 %r1, %r1, 1;
            setp.lt.u32 %p3, %r1, 4; @%p3 bra again; st.global.u32 [%tb], %r2;"
        )
    };
    clean(&body("0"));
    reported(&body("2"), 0, "`%r2`");
}

#[test]
fn moving_is_no_use_and_what_was_moved_counts_as_unwritten() {
    clean("mov.u32 %r2, %r1; mov.b64 %rd1, {%r2, %r3}; mov.b64 {%r4, %r5}, %rd1;");
    clean(&format!("{HALF} @%p1 mov.u32 %r1, 7; mov.u32 %r2, %r1; @%p1 st.global.u32 [%tb], %r2;"));
    clean(&format!("{HALF} @%p1 mov.u32 %r1, 7; selp.u32 %r2, %r1, 0, %p1; st.global.u32 [%tb], %r2;"));
    reported("mov.u32 %r2, %r1; st.global.u32 [%tb], %r2;", 0, "`%r2`");
    reported(&format!("{HALF} @%p1 mov.u32 %r1, 7; mov.u32 %r2, %r1; st.global.u32 [%tb], %r2;"), 16, "`%r2`");
    reported("mov.b64 %rd1, {%r1, %r2}; st.global.u64 [%b], %rd1;", 0, "`%rd1`");
    // What was written before is gone.
    reported("mov.u32 %r2, 1; mov.u32 %r2, %r1; st.global.u32 [%tb], %r2;", 0, "`%r2`");
    clean("xor.b32 %r1, %r1, %r1; st.global.u32 [%tb], %r1;");
}

#[test]
fn a_shuffle_uses_what_it_takes() {
    let one = "setp.eq.u32 %p1, %tx, 0; @%p1 mov.u32 %r1, 7;";
    clean(&format!("{one} shfl.sync.idx.b32 %r1, %r1, 0, 31, -1; st.global.u32 [%tb], %r1;"));
    clean(&format!("{one} shfl.sync.idx.b32 %r2, %r1, 0, 31, -1; st.global.u32 [%tb], %r2;"));
    let taken = "`%r1` is taken from lane 1, which has not written it";
    reported(&format!("{one} shfl.sync.idx.b32 %r1, %r1, 1, 31, -1;"), 0, taken);
    reported(&format!("{one} shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;"), 0, taken);
    // Half of the warp comes later.
    let late = "setp.lt.u32 %p2, %tx, 16; @%p2 bra go; mov.u32 %r3, 0; go:";
    clean(&format!("{one} {late} shfl.sync.idx.b32 %r1, %r1, 0, 31, -1; st.global.u32 [%tb], %r1;"));
}

#[test]
fn what_the_lanes_of_an_earlier_block_wrote_does_not_count() {
    let body = "setp.eq.u32 %p1, %cx, 0; @%p1 mov.u32 %r1, 7; st.global.u32 [%tb], %r1;";
    let report = Case::new(body).launch(g2d::cuda::driver::Launch::linear(2, 32)).report();
    assert_eq!((report.check, report.block), (Check::Register, [1, 0, 0]), "{report}");
}
