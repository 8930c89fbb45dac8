//! `cp.async` (PTX ISA 9.7.9.25.3): sizes, zero fill, groups, and late, early or mixed completion.

use g2d::cuda::driver::emulated::{Check, Checks, Completion, Options};

use crate::harness::Case;

const SHARED: &str = ".shared .align 16 .b32 s[512];";

/// Where a checker is switched.
type Switch = fn(&mut Checks) -> &mut bool;

fn copy(instruction: &str, wait: &str) -> Vec<u32> {
    let body = format!(
        "mov.u32 %r0, s; shl.b32 %r1, %tx, 4; add.u32 %r1, %r0, %r1; mul.wide.u32 %rd1, %tx, 16; add.u64 %rd1, %a, %rd1;
        mov.u32 %r5, 4; setp.gt.u32 %p1, %tx, 1;
        {instruction} {wait}
        bar.sync 0; shl.b32 %r2, %tx, 2; add.u32 %r2, %r0, %r2; ld.shared.u32 %r3, [%r2]; st.global.u32 [%tb], %r3;"
    );
    let case = Case::new(&body).module(SHARED).a(1..257);
    case.words()[..16].to_vec()
}

#[test]
fn sixteen_bytes_are_copied() {
    for wait in ["cp.async.wait_all;", "cp.async.commit_group; cp.async.wait_group 0;"] {
        let expected: Vec<u32> = (1..17).collect();
        assert_eq!(copy("cp.async.cg.shared.global [%r1], [%rd1], 16;", wait), expected, "{wait}");
        assert_eq!(copy("cp.async.ca.shared.global [%r1], [%rd1], 16;", wait), expected, "{wait}");
        let hinted = "cp.async.cg.shared.global.L2::128B [%r1], [%rd1], 16;";
        assert_eq!(copy(hinted, wait), expected, "{wait}");
    }
}

#[test]
fn what_is_not_read_is_zero() {
    let zeros = |kept: u32| (1..17).map(|word| if (word - 1) % 4 < kept { word } else { 0 }).collect::<Vec<_>>();
    let wait = "cp.async.wait_all;";
    assert_eq!(copy("cp.async.cg.shared.global [%r1], [%rd1], 16, %r5;", wait), zeros(1));
    assert_eq!(copy("cp.async.cg.shared.global [%r1], [%rd1], 16, 8;", wait), zeros(2));
    assert_eq!(copy("cp.async.cg.shared.global [%r1], [%rd1], 16, 0;", wait), zeros(0));
    let ignoring = copy("cp.async.cg.shared.global [%r1], [%rd1], 16, %p1;", wait);
    assert_eq!(ignoring, (1..17).map(|word| if word <= 8 { word } else { 0 }).collect::<Vec<_>>());
}

#[test]
fn small_copies_have_their_own_sizes() {
    for bytes in [4, 8] {
        let body = format!(
            "mov.u32 %r0, s; mul.lo.u32 %r1, %tx, {bytes}; add.u32 %r1, %r0, %r1; mul.wide.u32 %rd1, %tx, {bytes};
            add.u64 %rd1, %a, %rd1; cp.async.ca.shared.global [%r1], [%rd1], {bytes}; cp.async.wait_all; bar.sync 0;
            shl.b32 %r2, %tx, 2; add.u32 %r2, %r0, %r2; ld.shared.u32 %r3, [%r2]; st.global.u32 [%tb], %r3;"
        );
        assert_eq!(Case::new(&body).module(SHARED).words()[..32], (0..32).collect::<Vec<_>>());
    }
}

/// Three stages of copies, of which `wait` leaves the youngest under way; reads the stage before.
fn pipeline(wait: &str) -> Case {
    let stage = |number: u32| {
        format!("cp.async.ca.shared.global [%r1+{}], [%ta+{}], 4; cp.async.commit_group;", 128 * number, 128 * number)
    };
    Case::new(&format!(
        "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1; {} {} {}
        {wait} ld.shared.u32 %r2, [%r1+128]; st.global.u32 [%tb], %r2;",
        stage(0),
        stage(1),
        stage(2)
    ))
    .module(SHARED)
}

#[test]
fn groups_complete_in_order() {
    assert_eq!(pipeline("cp.async.wait_group 1;").words()[..32], (32..64).collect::<Vec<_>>());
    for early in ["cp.async.wait_group 2;", ""] {
        pipeline(early).provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
    }
}

#[test]
fn late_copies_show_poison_where_nobody_checks() {
    let mut options = Options::default();
    options.checks.pending_copies = false;
    let words = |completion| pipeline("").run(Options { completion, ..options }).expect("unchecked").b[..32].to_vec();
    assert_eq!(words(Completion::Late), [u32::MAX; 32]);
    assert_eq!(words(Completion::Early), (32..64).collect::<Vec<_>>());
}

#[test]
fn a_wait_is_for_the_thread_that_waits() {
    // Lane 1 waits for its own copy, not for lane 0's.
    let body = "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;
        cp.async.ca.shared.global [%r1], [%ta], 4; cp.async.commit_group;
        setp.eq.u32 %p1, %tx, 0; @!%p1 cp.async.wait_group 0; bar.sync 0; ld.shared.u32 %r2, [%r0];";
    let case = Case::new(body).module(SHARED);
    let report = case.provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
    assert!(report.text.contains("warp 0 lane 0"), "{report}");
}

#[test]
fn sources_and_destinations_are_checked() {
    let switches: [(Check, Switch); 3] = [
        (Check::Bounds, |checks| &mut checks.bounds),
        (Check::Alignment, |checks| &mut checks.alignment),
        (Check::Initialized, |checks| &mut checks.initialized),
    ];
    let [bounds, alignment, initialized] = switches;
    for (body, (check, switch)) in [
        ("cp.async.ca.shared.global [%r1], [%a+1024], 4;", bounds),
        ("cp.async.ca.shared.global [%r1], [%a+2], 4;", alignment),
        ("cp.async.cg.shared.global [%r1+4], [%a], 16;", alignment),
        ("cp.async.cg.shared.global [%r1+2048], [%a], 16;", bounds),
        ("cp.async.ca.shared.global [%r1], [%c], 4;", initialized),
        ("mov.u32 %r2, 5; cp.async.ca.shared.global [%r1], [%a], 4, %r2; cp.async.wait_all;", bounds),
    ] {
        let case = Case::new(&format!("mov.u32 %r1, s; {body}")).module(SHARED).threads(1);
        case.provokes(check, |checks| *switch(checks) = false);
    }
}

#[test]
fn sources_stay_as_they_are_until_the_wait() {
    let case = |before: &str, after: &str| {
        Case::new(&format!(
            "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;
            cp.async.ca.shared.global [%r1], [%ta], 4; cp.async.commit_group;
            {before}
            cp.async.wait_group 0;
            {after}
            ld.shared.u32 %r2, [%r1]; st.global.u32 [%tb], %r2;"
        ))
        .module(SHARED)
        .a(100..356)
    };
    let change = "st.global.u32 [%ta], 7;";
    assert_eq!(case("", change).words()[..32], (100..132).collect::<Vec<_>>());
    let report = case(change, "").provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
    assert!(report.text.contains("the source of the copy begun at PTX line"), "{report}");
    assert!(report.text.contains("4 bytes at byte 0 of a") && report.lane.is_some(), "{report}");
    assert!(report.other.is_some_and(|place| place.ptx_line < report.place.ptx_line), "who wrote");
    for completion in [Completion::Early, Completion::Random] {
        let report = case(change, "").run(Options { completion, ..Options::default() }).expect_err("a changed source");
        assert_eq!(report.check, Check::PendingCopy, "{report}");
    }
    // Another lane's write counts as well, and so does another warp's between barriers.
    let next = "xor.b32 %r3, %tx, 1; mul.wide.u32 %rd1, %r3, 4; add.u64 %rd1, %a, %rd1; st.global.u32 [%rd1], 7;";
    case(next, "").provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
    let across = "xor.b32 %r3, %tx, 32; mul.wide.u32 %rd1, %r3, 4; add.u64 %rd1, %a, %rd1; st.global.u32 [%rd1], 7;";
    let across = format!("bar.sync 0; {across} bar.sync 0;");
    case(&across, "").threads(64).provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
}

#[test]
fn four_lanes_copying_to_one_place_race() {
    let body = "mov.u32 %r1, s; cp.async.ca.shared.global [%r1], [%ta], 4; cp.async.wait_all;";
    let case = Case::new(body).module(SHARED).threads(4);
    case.provokes(Check::PendingCopy, |checks| (checks.pending_copies, checks.shared_races) = (false, false));
    let races = Options { checks: Checks { pending_copies: false, ..Checks::default() }, ..Options::default() };
    assert_eq!(case.run(races).expect_err("a race").check, Check::SharedRace);
}
