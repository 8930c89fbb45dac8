//! Every checker: provoked, with a report that names what a person needs, and silent when switched off.

use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::{Check, Checks, Options, Place};

use crate::harness::Case;

const SHARED: &str = ".shared .align 16 .b32 s[256];";

/// Puts the address of the thread's word of `s` into %r1.
const MINE: &str = "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;";

#[test]
fn reads_beyond_an_allocation_are_reported_at_any_distance() {
    for (offset, words) in [("1024", "byte 1024 of a, which has 1024 bytes"), ("-4", "4 bytes before a")] {
        let case = Case::new(&format!("ld.global.u32 %r1, [%a+{offset}]; st.global.u32 [%tb], %r1;"));
        let report = case.provokes(Check::Bounds, |checks| checks.bounds = false);
        assert!(report.text.contains(words), "{report}");
        assert_eq!(report.lane, Some((0, [0, 0, 0])));
    }
    let case = Case::new("st.global.u32 [%ta+900], %tx;");
    let report = case.provokes(Check::Bounds, |checks| checks.bounds = false);
    assert_eq!(report.lane, Some((31, [31, 0, 0])), "the first lane that is outside: 4 · 31 + 900 + 4 > 1024");
}

#[test]
fn reads_of_memory_that_is_nobodys_are_reported() {
    let case = Case::new("mov.u64 %rd1, 64; ld.global.u32 %r1, [%rd1];");
    case.provokes(Check::Bounds, |checks| checks.bounds = false);
    let case = Case::new("mov.u32 %r1, 5000; ld.shared.u32 %r2, [%r1];");
    case.provokes(Check::Bounds, |checks| checks.bounds = false);
    let case = Case::new(".local .align 4 .b32 l[2]; mov.u64 %rd1, l; ld.local.u32 %r2, [%rd1+8];");
    case.provokes(Check::Bounds, |checks| checks.bounds = false);
}

#[test]
fn misaligned_accesses_are_reported() {
    let case = Case::new("ld.global.u32 %r1, [%a+2]; st.global.u32 [%tb], %r1;");
    let report = case.provokes(Check::Alignment, |checks| checks.alignment = false);
    assert!(report.text.contains("4 bytes at") && report.text.ends_with("byte 2 of a"), "{report}");
    let case = Case::new("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%a+8];");
    case.provokes(Check::Alignment, |checks| checks.alignment = false);
    let case = Case::new("st.global.u32 [%tb], %tx;\nld.global.u64 %rd1, [%b+20];");
    let report =
        case.provokes(Check::Alignment, |checks| *checks = Checks { global_races: false, alignment: false, ..*checks });
    let line = case.ptx().lines().position(|line| line.contains("[%tb]")).expect("the line") + 1;
    let words = format!("byte 20 of b, which warp 0 lane 5 wrote last, at PTX line {line}");
    assert!(report.text.contains(&words), "{words}: {report}");
    let case =
        Case::new(&format!("{MINE} st.shared.u32 [%r1], 7;\nbar.sync 0; ld.shared.u32 %r2, [%r1+2];")).module(SHARED);
    let report =
        case.provokes(Check::Alignment, |checks| *checks = Checks { initialized: false, alignment: false, ..*checks });
    assert!(report.text.contains("shared byte 2 of `s`, which warp 0 lane 0 wrote last"), "{report}");
    let case =
        Case::new(".local .align 4 .b32 l[2]; mov.u64 %rd1, l; st.local.u32 [%rd1], 7; ld.local.u32 %r2, [%rd1+1];");
    let report = case.provokes(Check::Alignment, |checks| checks.alignment = false);
    assert!(report.text.contains("byte 1 of the thread's local memory"), "{report}");
    let outside = Case::new("ld.global.u32 %r1, [%a+4097];").report();
    assert!(outside.check == Check::Alignment && outside.text.contains("in no allocation"), "{outside}");
}

#[test]
fn uninitialised_reads_are_reported() {
    let case = Case::new("ld.global.u32 %r1, [%tc];");
    let report = case.provokes(Check::Initialized, |checks| checks.initialized = false);
    assert!(report.text.contains("of c"), "{report}");
    let case = Case::new(&format!("{MINE} ld.shared.u32 %r2, [%r1];")).module(SHARED);
    let report = case.provokes(Check::Initialized, |checks| checks.initialized = false);
    assert!(report.text.contains("`s`"), "{report}");
}

#[test]
fn overruns_of_one_shared_variable_into_the_next_are_reported() {
    let two = ".shared .align 4 .b32 s[256]; .shared .align 16 .b32 t[256];";
    let case = |access: &str| Case::new(&format!("mov.u32 %r0, s; mov.u32 %r1, t; {access}")).module(two).threads(1);
    for (access, words) in [
        ("st.shared.u32 [%r0+1024], 1;", "write of shared memory at byte 1024 of `s`, which has 1024 bytes"),
        ("st.shared.u32 [%r1+-4], 1;", "the byte 4 bytes before `t`"),
        ("st.shared.v4.u32 [%r1+1024], {%n, %n, %n, %n};", "shared address"),
    ] {
        let report = case(access).report();
        assert_eq!(report.check, Check::Bounds, "{report}");
        assert!(report.text.contains(words), "{report}");
    }
    case("st.shared.u32 [%r0+1024], 1;").provokes(Check::Bounds, |checks| checks.bounds = false);
    let report = case("ld.shared.u32 %r2, [%r0+1024];").report();
    assert_eq!(report.check, Check::Bounds, "{report}");
    case("st.shared.u32 [%r0+1020], 1; st.shared.u32 [%r1], 1; st.shared.u32 [%r1+1020], 1;").words();
}

#[test]
fn dynamic_shared_memory_may_be_divided_at_will_and_nothing_runs_over_into_it() {
    let two = ".shared .align 4 .b32 s[8]; .extern .shared .align 16 .b8 d[]; .extern .shared .align 4 .b8 e[];";
    let launch = Launch { shared: 256, ..Launch::linear(1, 1) };
    let case = |access: &str| {
        Case::new(&format!("mov.u32 %r0, s; mov.u32 %r1, d; mov.u32 %r2, e; {access}")).module(two).launch(launch)
    };
    case("st.shared.u32 [%r0+28], 1; st.shared.u32 [%r1], 2; st.shared.u32 [%r2+252], 3;").words();
    for access in ["st.shared.u32 [%r0+32], 1;", "st.shared.u32 [%r1+256], 1;", "st.shared.u32 [%r1+-4], 1;"] {
        assert_eq!(case(access).report().check, Check::Bounds, "{access}");
    }
}

/// Reverses a CTA's words through shared memory; without `between` its warps race.
fn reversal(between: &str) -> Case {
    Case::new(&format!(
        "{MINE}
        ld.global.u32 %r2, [%ta];
        st.shared.u32 [%r1], %r2;
        {between}
        sub.u32 %r3, 127, %tx;
        shl.b32 %r3, %r3, 2;
        add.u32 %r3, %r0, %r3;
        ld.shared.u32 %r4, [%r3];
        st.global.u32 [%tb], %r4;"
    ))
    .module(SHARED)
    .threads(128)
}

#[test]
fn shared_races_are_reported_with_both_parties() {
    assert_eq!(reversal("bar.sync 0;").words()[..128], (0..128).rev().collect::<Vec<_>>());
    // In the natural order the first warp reads what nobody wrote; in others it races.
    let options =
        |seed| Options { seed, checks: Checks { initialized: false, ..Checks::default() }, ..Options::default() };
    let report = reversal("").run(options(0)).expect_err("a race");
    assert_eq!(report.check, Check::SharedRace, "{report}");
    assert!(report.text.contains("`s`") && report.text.contains("which warp"), "{report}");
    let checks = Checks { shared_races: false, initialized: false, ..Checks::default() };
    assert!(reversal("").run(Options { checks, ..Options::default() }).is_ok());
}

#[test]
fn lanes_of_a_warp_race_unless_they_synchronise_or_lockstep_is_granted() {
    let body = |between: &str| {
        let body = format!(
            "{MINE} st.shared.u32 [%r1], %tx; {between} xor.b32 %r1, %r1, 4; ld.shared.u32 %r2, [%r1]; st.global.u32 [%tb], %r2;"
        );
        Case::new(&body).module(SHARED)
    };
    assert_eq!(body("bar.warp.sync 0xffffffff;").words()[..4], [1, 0, 3, 2]);
    body("").provokes(Check::SharedRace, |checks| checks.shared_races = false);
    body("").provokes(Check::SharedRace, |checks| checks.lockstep = true);
}

#[test]
fn writing_what_others_still_read_is_a_race() {
    let body = |between: &str| {
        let body = format!(
            "{MINE}
            st.shared.u32 [%r1], %tx;
            bar.sync 0;
            ld.shared.u32 %r2, [%r0];
            {between}
            st.shared.u32 [%r1], %r2;"
        );
        Case::new(&body).module(SHARED).threads(64)
    };
    body("bar.sync 0;").words();
    let report = body("").provokes(Check::SharedRace, |checks| checks.shared_races = false);
    assert!(report.text.contains("read"), "{report}");
}

#[test]
fn a_writer_that_read_too_is_not_named_as_the_other_reader() {
    for (writer, other) in [("0", "warp 0 lane 31 and other lanes read"), ("31", "other lanes of warp 0 read")] {
        let body = format!(
            "mov.u32 %r0, s; setp.eq.u32 %p1, %tx, {writer}; @%p1 st.shared.u32 [%r0], 1; bar.warp.sync -1;
            ld.shared.u32 %r1, [%r0]; @%p1 st.shared.u32 [%r0], 2; st.global.u32 [%tb], %r1;"
        );
        let report = Case::new(&body).module(SHARED).report();
        assert_eq!(report.check, Check::SharedRace, "{report}");
        assert!(report.text.contains(other), "{report}");
    }
}

#[test]
fn two_writers_of_different_values_race_and_of_the_same_do_not() {
    let body =
        |value: &str| Case::new(&format!("mov.u32 %r0, s; st.shared.u32 [%r0], {value};")).module(SHARED).threads(64);
    body("7").words();
    body("%tx").provokes(Check::SharedRace, |checks| checks.shared_races = false);
}

#[test]
fn plain_writes_of_other_blocks_are_reported() {
    // Block 1 reads what block 0 wrote.
    let case = Case::new(
        "setp.ne.u32 %p1, %cx, 0;
        @!%p1 st.global.u32 [%tb], 5;
        @%p1 ld.global.u32 %r1, [%b];
        @%p1 st.global.u32 [%tb], %r1;",
    )
    .launch(Launch::linear(2, 32));
    let report = case.provokes(Check::GlobalRace, |checks| checks.global_races = false);
    assert!(report.text.contains("block (0,0,0)") && report.text.contains("of b"), "{report}");
}

#[test]
fn warps_of_a_block_race_in_global_memory_too() {
    let case = |between: &str| {
        Case::new(&format!(
            "st.global.u32 [%tb], %tx; {between} xor.b32 %r1, %tx, 32; mul.wide.u32 %rd1, %r1, 4;
            add.u64 %rd1, %b, %rd1; ld.global.u32 %r2, [%rd1]; st.global.u32 [%tb+512], %r2;"
        ))
        .threads(64)
    };
    case("bar.sync 0;").words();
    case("").report();
    let checks = Checks { global_races: false, ..Checks::default() };
    assert!(case("").run(Options { checks, ..Options::default() }).is_ok());
}

#[test]
fn non_coherent_loads_must_not_see_what_the_launch_wrote() {
    let case = Case::new("st.global.u32 [%tb], 5; ld.global.nc.u32 %r1, [%tb];");
    let report = case.provokes(Check::GlobalRace, |checks| checks.global_races = false);
    assert!(report.text.contains("ld.global.nc"), "{report}");
}

#[test]
fn copies_must_be_waited_for() {
    let case = Case::new(
        "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;
        cp.async.ca.shared.global [%r1], [%ta], 4;
        cp.async.commit_group;
        ld.shared.u32 %r2, [%r1];",
    )
    .module(SHARED);
    let report = case.provokes(Check::PendingCopy, |checks| checks.pending_copies = false);
    assert!(report.text.contains("copies") && report.other.is_some(), "{report}");
}

#[test]
fn barriers_must_be_used_alike() {
    for (body, words) in [
        ("bar.sync 1, 40;", "whole warps"),
        ("bar.sync 1, 0;", "whole warps"),
        ("setp.lt.u32 %p1, %tx, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 1, 32;", "others arrived"),
        ("setp.lt.u32 %p1, %tx, 32; @%p1 bar.sync 1, 64; @!%p1 bar.red.and.pred %p2, 1, 64, %p1;", "reduce"),
    ] {
        let report = Case::new(body).threads(64).provokes(Check::Barrier, |checks| checks.barriers = false);
        assert!(report.text.contains(words), "{report}");
        assert!(report.text.contains("lanes 0xffffffff") && report.lane.is_some(), "{report}");
    }
    // Without the checker these cannot go on, or name no barrier.
    for (body, words, without) in [
        ("bar.sync 1, 128;", "whole warps", Check::Deadlock),
        ("mov.u32 %r1, 16; bar.sync %r1;", "0 to 15", Check::Barrier),
        ("barrier.sync %tx, 64;", "in one lane", Check::Barrier),
    ] {
        let case = Case::new(body).threads(64);
        let report = case.report();
        assert!(report.check == Check::Barrier && report.text.contains(words) && report.lane.is_some(), "{report}");
        let checks = Checks { barriers: false, ..Checks::default() };
        let report = case.run(Options { checks, ..Options::default() }).expect_err("impossible");
        assert_eq!(report.check, without, "{report}");
    }
    let report = Case::new("setp.lt.u32 %p1, %tx, 9; @%p1 barrier.sync 1, 48;").report();
    assert!(report.text.contains("lanes 0x000001ff") && report.lane == Some((0, [0, 0, 0])), "{report}");
}

#[test]
fn halves_of_a_warp_at_two_places_are_reported() {
    let body = "setp.lt.u32 %p1, %tx, 40; @%p1 bra other; bar.sync 0; bra end; other: bar.sync 0; end:";
    Case::new(body).threads(64).provokes(Check::Barrier, |checks| checks.barriers = false);
}

#[test]
fn a_barrier_in_divergent_code_is_reported() {
    let case = Case::new("setp.lt.u32 %p1, %tx, 40; @%p1 bar.sync 0; bar.sync 1;").threads(64);
    let report = case.report();
    assert_eq!(report.check, Check::Barrier, "{report}");
    assert!(report.text.contains("lanes 0x000000ff"), "{report}");
}

#[test]
fn divergence_in_collectives_is_reported() {
    for body in [
        "setp.lt.u32 %p1, %tx, 16; @%p1 shfl.sync.bfly.b32 %r1, %tx, 1, 31, 0xffffffff;",
        "setp.lt.u32 %p1, %tx, 16; @%p1 vote.sync.ballot.b32 %r1, %p1, 0xffffffff;",
        "setp.lt.u32 %p1, %tx, 16; @%p1 redux.sync.add.u32 %r1, %tx, 0xffffffff;",
        "setp.lt.u32 %p1, %tx, 16; @%p1 match.any.sync.b32 %r1, %tx, 0xffffffff;",
        "setp.lt.u32 %p1, %tx, 16; shfl.sync.bfly.b32 %r1, %tx, 1, 31, 0x0000ffff;",
        "setp.lt.u32 %p1, %tx, 16; @%p1 shfl.sync.bfly.b32 %r1, %tx, 16, 31, 0x0000ffff;",
    ] {
        let case = Case::new(&format!("{body} vote.sync.any.pred %p2, %p1, 0xffffffff;"));
        case.provokes(Check::Collective, |checks| checks.collectives = false);
    }
    // A partial warp cannot multiply matrices.
    let mma = "mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
        mov.u32 %r0, 0; mov.u32 %r1, 0; mov.u32 %r2, 0; mov.u32 %r3, 0; mov.u32 %r4, 0; mov.u32 %r5, 0;
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f0,%f1,%f2,%f3};";
    Case::new(mma).threads(24).provokes(Check::Collective, |checks| checks.collectives = false);
}

#[test]
fn deadlocks_name_every_waiting_place() {
    let case = Case::new("setp.lt.u32 %p1, %tx, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 2, 64;").threads(64);
    let report = case.report();
    assert_eq!(report.check, Check::Deadlock, "{report}");
    assert!(report.text.contains("barrier 1 (32 of 64") && report.text.contains("barrier 2 (32 of 64"), "{report}");
    assert!(report.text.contains("PTX line") && report.lane.is_some(), "{report}");
    let checks = Checks { deadlock: false, ..Checks::default() };
    let report = case.run(Options { checks, ..Options::default() }).expect_err("nothing can go on");
    assert_eq!(report.check, Check::Deadlock, "there is no going on without the checker: {report}");
}

#[test]
fn threads_that_spin_for_ever_are_reported() {
    let case = Case::new("wait: ld.volatile.global.u32 %r1, [%b]; setp.eq.u32 %p1, %r1, 0; @%p1 bra wait;");
    let report = case.report();
    assert_eq!(report.check, Check::Deadlock, "{report}");
    assert!(report.text.contains("spin"), "{report}");
    assert!(report.text.contains("(block (0,0,0) warp 0 lane 0: byte 0 of b)"), "nobody wrote there: {report}");
    assert_eq!(report.lane, Some((0, [0, 0, 0])));
    let checks = Checks { deadlock: false, ..Checks::default() };
    for seed in 0..2 {
        let options = Options { seed, checks, limit: Some(1 << 20), ..Options::default() };
        let report = case.run(options).expect_err("it goes on to the limit");
        assert_eq!(report.check, Check::Limit, "{report}");
        assert!(report.text.contains("1048576 warp instructions") && report.lane.is_some(), "{report}");
    }
}

#[test]
fn a_spin_names_the_memory_and_who_wrote_there_last() {
    let body = |wait: &str| {
        format!(
            "setp.eq.u32 %p1, %tx, 0;\n@%p1 st.relaxed.gpu.global.u32 [%b+8], 2;\n@%p1 st.shared.u32 [s+4], 2;
            bar.sync 0;\nwait:\n{wait}\nsetp.ne.u32 %p2, %r1, 3;\n@%p2 bra wait;"
        )
    };
    for (wait, place, store) in [
        ("ld.relaxed.gpu.global.u32 %r1, [%b+8];", "byte 8 of b", "[%b+8], 2"),
        ("ld.volatile.shared.u32 %r1, [s+4];", "shared byte 4 of `s`", "[s+4], 2"),
        ("add.u64 %rd1, %b, 8; ld.relaxed.gpu.u32 %r1, [%b+8];", "byte 8 of b", "[%b+8], 2"),
    ] {
        let case = Case::new(&body(wait)).module(SHARED).threads(64);
        let line = |text: &str| case.ptx().lines().position(|line| line.contains(text)).expect("the line") + 1;
        let words = format!("{place}, which warp 0 lane 0 wrote last, at PTX line {}", line(store));
        let report = case.report();
        assert_eq!(report.check, Check::Deadlock, "{report}");
        assert!(report.text.contains(&words), "`{words}` is not in: {report}");
        let given_up = case.run(Options { limit: Some(3000), ..Options::default() }).expect_err("it has no end");
        assert!(given_up.check == Check::Limit && given_up.text.contains(&words), "`{words}` is not in: {given_up}");
    }
    // An address that the loop itself changes is not known.
    let report =
        Case::new(&body("add.u64 %rd1, %b, 8; ld.relaxed.gpu.global.u32 %r1, [%rd1];")).module(SHARED).report();
    assert!(report.check == Check::Deadlock && !report.text.contains("of b"), "{report}");
}

#[test]
fn stores_without_end_are_given_up_with_the_loop() {
    // The counter changes memory for ever: no deadlock, and nothing that is read.
    let case = Case::new("mov.u32 %r1, 0;\nround: add.u32 %r1, %r1, 1;\nst.global.u32 [%tb], %r1;\nbra round;");
    let options = Options { limit: Some(100_000), ..Options::default() };
    let report = case.run(options).expect_err("it has no end");
    assert_eq!(report.check, Check::Limit, "{report}");
    let line = |text: &str| case.ptx().lines().position(|line| line.contains(text)).expect("the line") + 1;
    let (first, last) = (line("round: add"), line("bra round"));
    for words in [
        "has run 100000 warp instructions".to_owned(),
        format!("in the loop from PTX line {first} to PTX line {last}, which reads no memory"),
    ] {
        assert!(report.text.contains(&words), "`{words}` is not in: {report}");
    }
    // The same value for ever changes nothing: without a limit too it ends.
    let same = Case::new("round: st.global.u32 [%tb], 7; bra round;").report();
    assert_eq!(same.check, Check::Deadlock, "{same}");
    assert!(same.text.contains("no memory changes") && same.text.contains("in the loop from"), "{same}");
}

#[test]
fn traps_are_reported() {
    assert_eq!(Case::new("trap;").report().check, Check::Trap);
}

/// A kernel with the fault that one switch is for.
fn faulty(switch: &str) -> Case {
    let shared = |body: &str| Case::new(&format!("{MINE} {body}")).module(SHARED);
    match switch {
        "bounds" => Case::new("ld.global.u32 %r1, [%a+1024];"),
        "alignment" => Case::new("ld.global.u32 %r1, [%a+2];"),
        "initialized" => Case::new("ld.global.u32 %r1, [%tc];"),
        "registers" => Case::new("add.u32 %r1, %r2, 1; st.global.u32 [%tb], %r1;"),
        "shared_races" => shared("st.shared.u32 [%r0], %tx;"),
        "global_races" => Case::new("st.global.u32 [%b], %tx;").threads(64),
        "pending_copies" => shared("cp.async.ca.shared.global [%r1], [%ta], 4; ld.shared.u32 %r2, [%r1];"),
        "proxies" => Case::new(
            "mov.u32 %r0, s; setp.ne.u32 %p1, %tx, 0; @%p1 bra done; st.shared.v4.u32 [%r0], {%tx, %tx, %tx, %tx};
            cp.async.bulk.global.shared::cta.bulk_group [%b], [%r0], 16; cp.async.bulk.commit_group;
            cp.async.bulk.wait_group 0; done:",
        )
        .module(".shared .align 16 .b8 s[16];")
        .target("sm_90a"),
        "products" => crate::products::without_fence(),
        "barriers" => Case::new("bar.sync 1, 40;").threads(64),
        "collectives" => Case::new("setp.eq.u32 %p1, %tx, 0; @%p1 shfl.sync.bfly.b32 %r1, %tx, 1, 31, 0xffffffff;"),
        // It has an end, after more sleep than the checker believes in.
        "deadlock" => Case::new(
            "mov.u32 %r1, 0; wait: nanosleep.u32 20; add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, 5000; @%p1 bra wait;",
        ),
        other => panic!("no test provokes the checker `{other}`"),
    }
}

#[test]
fn every_checker_is_provoked_and_silent_when_left_out() {
    // What a driver would refuse has no report: driver.rs.
    for name in Checks::names().filter(|name| *name != "limits") {
        let report = faulty(name).report();
        let checks = Checks::without([name]).expect("a checker");
        let silent = faulty(name).run(Options { checks, ..Options::default() });
        assert!(silent.is_ok(), "`{name}` is left out of\n{report}\nand there is still {silent:?}");
    }
}

#[test]
fn a_report_names_the_source_where_the_text_has_its_lines() {
    let body = |lines: [&str; 2]| {
        let [first, second] = lines;
        format!("{MINE}\n{first}\nst.shared.u32 [%r1], %tx;\n{second}\nld.shared.u32 %r2, [%r0];")
    };
    let case = |lines: [&str; 2]| Case::new(&body(lines)).module(&format!("{SHARED}\n.file 7 \"own/sum.cu\""));
    let own = case([".loc 7 41 3", ".loc 7 42 9"]);
    let line = |text: &str| own.ptx().lines().position(|line| line.contains(text)).expect("the line") as u32 + 1;
    let (read, write) = (line("ld.shared.u32 %r2"), line("st.shared.u32 [%r1]"));
    let report = own.provokes(Check::SharedRace, |checks| checks.shared_races = false);
    let source = |line| Some(("own/sum.cu".to_owned(), line));
    assert_eq!(report.place, Place { ptx_line: read, source: source(42) });
    assert_eq!(report.other, Some(Place { ptx_line: write, source: source(41) }));
    let text = report.to_string();
    for words in [
        format!("race in shared memory at own/sum.cu:42 (PTX line {read})"),
        format!("the other access is at own/sum.cu:41 (PTX line {write})"),
    ] {
        assert!(text.contains(&words), "`{words}` is not in: {text}");
    }
    let plain = case(["", ""]).report();
    assert_eq!(plain.place, Place { ptx_line: read, source: None });
    assert!(plain.to_string().contains(&format!("race in shared memory at PTX line {read}: ")), "{plain}");
}

#[test]
fn a_report_names_kernel_line_thread_and_seed() {
    let case = Case::new("setp.eq.u32 %p1, %tx, 3; @%p1 ld.global.u32 %r1, [%a+4096];").launch(Launch::linear(2, 64));
    let report = case.run(Options { seed: 5, ..Options::default() }).expect_err("out of bounds");
    let text = report.to_string();
    let line = case.ptx().lines().position(|line| line.contains("4096")).expect("the line") + 1;
    for part in ["out of bounds", &format!("PTX line {line}"), "lane 3", "thread (3,0,0)", "seed 5", "of a"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert_eq!(report.kernel, "kernel");
    let again = case.run(Options { seed: 5, ..Options::default() }).expect_err("out of bounds");
    assert_eq!(report, again, "the same seed gives the same report");
}
