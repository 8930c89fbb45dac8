//! Divergence, and everything that the lanes of a warp do together (PTX ISA 9.7.9.6, 9.7.12, 9.7.13).

use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::{Check, Class, Options};

use crate::harness::Case;

fn lanes(body: &str) -> Vec<u32> {
    Case::new(body).words()[..32].to_vec()
}

fn each(value: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(value).collect()
}

#[test]
fn branches_diverge_and_meet_again() {
    let body = "and.b32 %r1, %tx, 1; setp.eq.u32 %p1, %r1, 0; @%p1 bra even; mov.u32 %r2, 100; bra join;
        even: mov.u32 %r2, 200; join: add.u32 %r2, %r2, %tx; st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| lane + if lane % 2 == 0 { 200 } else { 100 }));
    // One store: the lanes were together again.
    let counters = Case::new(body).run(Options::default()).expect("no fault").counters;
    assert_eq!(counters.instructions(Class::Global), 1);
}

#[test]
fn loops_run_as_often_as_each_lane_needs() {
    let body = "mov.u32 %r1, 0; mov.u32 %r2, 0; loop: setp.gt.u32 %p1, %r1, %tx; @%p1 bra done; add.u32 %r2, %r2, %r1;
        add.u32 %r1, %r1, 1; bra loop; done: st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| lane * (lane + 1) / 2));
}

#[test]
fn lanes_that_spin_on_each_other_make_progress() {
    // Each lane waits until the lane before it has had its turn.
    let body = "wait: ld.volatile.global.u32 %r1, [%b+512]; setp.ne.u32 %p1, %r1, %tx; @%p1 bra wait;
        add.u32 %r2, %r1, 1; st.volatile.global.u32 [%b+512], %r2; st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| lane + 1));
    let sleeping = body.replace("@%p1 bra wait;", "@!%p1 bra go; nanosleep.u32 20; bra wait; go:");
    assert_eq!(lanes(&sleeping), each(|lane| lane + 1));
}

#[test]
fn some_lanes_exit_early() {
    let body = "setp.gt.u32 %p1, %tx, 9; @%p1 exit; st.global.u32 [%tb], 1; bar.sync 0; st.global.u32 [%tb], 2;";
    let expected: Vec<u32> = (0..64).map(|thread| if thread < 10 { 2 } else { 0 }).collect();
    assert_eq!(Case::new(body).threads(64).words()[..64], expected);
    let body = "setp.gt.u32 %p1, %tx, 9; @%p1 ret; st.global.u32 [%tb], 1;";
    assert_eq!(lanes(body), each(|lane| u32::from(lane < 10)));
}

#[test]
fn indexed_branches_go_where_the_table_says() {
    let body = "and.b32 %r1, %tx, 3; ts: .branchtargets l0, l1, l2, l3; brx.idx %r1, ts;
        l0: mov.u32 %r2, 10; bra j; l1: mov.u32 %r2, 11; bra j; l2: mov.u32 %r2, 12; bra j; l3: mov.u32 %r2, 13; bra j;
        j: st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| 10 + lane % 4));
}

#[test]
fn shuffles_read_the_lane_they_name() {
    let shuffle = |mode: &str, by: &str, control: &str| {
        lanes(&format!(
            "shfl.sync.{mode}.b32 %r1|%p1, %tx, {by}, {control}, 0xffffffff; selp.u32 %r2, 100, 0, %p1;
            add.u32 %r1, %r1, %r2; st.global.u32 [%tb], %r1;"
        ))
    };
    assert_eq!(shuffle("bfly", "5", "31"), each(|lane| 100 + (lane ^ 5)));
    assert_eq!(shuffle("up", "3", "0"), each(|lane| if lane < 3 { lane } else { 100 + lane - 3 }));
    assert_eq!(shuffle("down", "3", "31"), each(|lane| if lane > 28 { lane } else { 100 + lane + 3 }));
    assert_eq!(shuffle("idx", "7", "31"), each(|_| 107));
    // Segments of 8 lanes.
    assert_eq!(shuffle("idx", "3", "0x181f"), each(|lane| 100 + lane / 8 * 8 + 3));
    assert_eq!(shuffle("down", "3", "0x181f"), each(|lane| if lane % 8 > 4 { lane } else { 100 + lane + 3 }));
    assert_eq!(shuffle("up", "3", "0x1800"), each(|lane| if lane % 8 < 3 { lane } else { 100 + lane - 3 }));
    assert_eq!(shuffle("bfly", "9", "0x181f"), each(|lane| if lane % 16 < 8 { lane } else { 100 + (lane ^ 9) }));
}

#[test]
fn halves_of_a_warp_shuffle_on_their_own() {
    let body = "setp.lt.u32 %p1, %tx, 16; selp.u32 %r1, 0xffff, 0xffff0000, %p1; @%p1 bra low;
        shfl.sync.bfly.b32 %r2, %tx, 1, 31, %r1; add.u32 %r2, %r2, 100; bra join;
        low: shfl.sync.bfly.b32 %r2, %tx, 2, 31, %r1; join: st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| if lane < 16 { lane ^ 2 } else { 100 + (lane ^ 1) }));
    let body = "setp.lt.u32 %p1, %tx, 16; selp.u32 %r1, 0xffff, 0xffff0000, %p1;
        redux.sync.add.u32 %r2, %tx, %r1; st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| if lane < 16 { 120 } else { 376 }));
}

#[test]
fn collectives_wait_for_lanes_that_come_later() {
    // Odd lanes take a detour before the vote.
    let body = "and.b32 %r1, %tx, 1; setp.eq.u32 %p1, %r1, 0; @%p1 bra vote; add.u32 %r1, %r1, 5; bra vote;
        vote: setp.gt.u32 %p2, %tx, 7; vote.sync.ballot.b32 %r2, %p2, 0xffffffff; st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|_| 0xffff_ff00));
    // The tail before the head in the text: the later lanes jump backwards to where the others gather.
    let body = "mov.u32 %r3, 0; setp.lt.u32 %p1, %tx, 16; @%p1 bra meet; bra far;
        meet: shfl.sync.bfly.b32 %r2, %tx, 16, 31, 0xffffffff; bra out; far: mov.u32 %r3, 1; bra meet;
        out: st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| lane ^ 16));
}

#[test]
fn votes_tell_what_the_members_hold() {
    let vote = |kind: &str, limit: u32| {
        lanes(&format!(
            "setp.lt.u32 %p1, %tx, {limit}; vote.sync.{kind}.pred %p2, %p1, 0xffffffff; selp.u32 %r1, 1, 0, %p2;
            st.global.u32 [%tb], %r1;"
        ))[9]
    };
    assert_eq!((vote("all", 32), vote("all", 31), vote("any", 0), vote("any", 1)), (1, 0, 0, 1));
    assert_eq!((vote("uni", 32), vote("uni", 31), vote("uni", 0)), (1, 0, 1));
    let ballot = "setp.lt.u32 %p1, %tx, 4; vote.sync.ballot.b32 %r1, !%p1, 0xffffffff; st.global.u32 [%tb], %r1;";
    assert_eq!(lanes(ballot), each(|_| 0xffff_fff0));
}

#[test]
fn matches_find_equal_values() {
    let body = "and.b32 %r1, %tx, 3; match.any.sync.b32 %r2, %r1, 0xffffffff; st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| 0x1111_1111 << (lane % 4)));
    let body = "mov.b64 %rd1, 7; match.all.sync.b64 %r2|%p1, %rd1, 0xffffffff; selp.u32 %r3, %r2, 0, %p1; st.global.u32 [%tb], %r3;";
    assert_eq!(lanes(body), each(|_| u32::MAX));
    let body = "match.all.sync.b32 %r2|%p1, %tx, 0xffffffff; selp.u32 %r3, 5, %r2, %p1; st.global.u32 [%tb], %r3;";
    assert_eq!(lanes(body), each(|_| 0));
}

#[test]
fn reductions_combine_all_members() {
    let redux = |form: &str| {
        lanes(&format!("sub.u32 %r1, %tx, 3; redux.sync.{form} %r2, %r1, 0xffffffff; st.global.u32 [%tb], %r2;"))[5]
            as i32
    };
    assert_eq!((redux("add.s32"), redux("add.u32")), (400, 400));
    assert_eq!((redux("min.s32"), redux("max.s32"), redux("min.u32"), redux("max.u32")), (-3, 28, 0, -1));
    assert_eq!((redux("and.b32"), redux("or.b32")), (0, -1));
    assert_eq!(redux("xor.b32"), (0..32u32).fold(0, |all, lane| all ^ lane.wrapping_sub(3)) as i32);
}

#[test]
fn active_lanes_are_known() {
    let body = "setp.lt.u32 %p1, %tx, 5; mov.u32 %r1, 0; @%p1 activemask.b32 %r1; st.global.u32 [%tb], %r1;";
    assert_eq!(lanes(body), each(|lane| if lane < 5 { 31 } else { 0 }));
}

#[test]
fn one_lane_is_elected_another_one_by_another_seed() {
    let case = Case::new(
        "elect.sync %r1|%p1, 0xffffffff; selp.u32 %r2, 100, 0, %p1; add.u32 %r1, %r1, %r2; st.global.u32 [%tb], %r1;",
    )
    .target("sm_90");
    let run = |seed| case.run(Options { seed, ..Options::default() }).expect("no fault").b[..32].to_vec();
    assert_eq!(run(0), each(|lane| if lane == 0 { 100 } else { 0 }));
    let leaders: std::collections::BTreeSet<u32> = (0..8).map(|seed| run(seed)[0] % 100).collect();
    assert!(leaders.len() > 1, "{leaders:?}");
    let leader = run(3)[0] % 100;
    assert_eq!(run(3), each(|lane| leader + if lane == leader { 100 } else { 0 }));
}

#[test]
fn warp_barriers_may_stand_at_two_places() {
    let body =
        ".shared .b32 s[32]; mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1; st.shared.u32 [%r1], %tx;
        setp.lt.u32 %p1, %tx, 16; @%p1 bra low; bar.warp.sync 0xffffffff; bra join; low: bar.warp.sync 0xffffffff;
        join: xor.b32 %r1, %r1, 64; ld.shared.u32 %r2, [%r1]; st.global.u32 [%tb], %r2;";
    assert_eq!(lanes(body), each(|lane| lane ^ 16));
    let report =
        Case::new("setp.lt.u32 %p1, %tx, 16; @%p1 bar.warp.sync 0xffffffff; @!%p1 bra end; end: @!%p1 bar.sync 1, 64;")
            .report();
    assert!(matches!(report.check, Check::Deadlock | Check::Barrier), "{report}");
}

#[test]
fn constant_predicates_hold_in_all_lanes() {
    for (value, expected) in [("1", 7), ("-1", 7), ("0", 9)] {
        let body = format!("mov.pred %p1, {value}; selp.u32 %r1, 7, 9, %p1; st.global.u32 [%tb], %r1;");
        assert_eq!(lanes(&body), each(|_| expected), "{value}");
    }
}

#[test]
fn special_registers_say_where_a_thread_is() {
    let of = |register: &str, launch: Launch| {
        let case = Case::new(&format!(
            "mov.u32 %r1, {register}; mov.u32 %r2, %tid.y; mad.lo.u32 %r2, %r2, %nx, %tx; mul.wide.u32 %rd1, %r2, 4; add.u64 %rd1, %b, %rd1; setp.eq.u32 %p1, %cx, 1; @%p1 st.global.u32 [%rd1], %r1;"
        ));
        case.launch(launch).words()[..48].to_vec()
    };
    let launch = Launch { grid: [2, 1, 1], block: [8, 6, 1], shared: 0 };
    let expect = |value: fn(u32) -> u32| (0..48).map(value).collect::<Vec<_>>();
    assert_eq!(of("%tid.x", launch), expect(|thread| thread % 8));
    assert_eq!(of("%tid.y", launch), expect(|thread| thread / 8));
    assert_eq!(of("%laneid", launch), expect(|thread| thread % 32));
    assert_eq!(of("%warpid", launch), expect(|thread| thread / 32));
    assert_eq!(of("%nwarpid", launch), expect(|_| 2));
    assert_eq!(of("%ntid.y", launch), expect(|_| 6));
    assert_eq!(of("%ctaid.x", launch), expect(|_| 1));
    assert_eq!(of("%nctaid.x", launch), expect(|_| 2));
    assert_eq!(of("%lanemask_lt", launch), expect(|thread| (1 << (thread % 32)) - 1));
    assert_eq!(of("%lanemask_ge", launch), expect(|thread| u32::MAX << (thread % 32)));
    assert_eq!(of("%lanemask_eq", launch), expect(|thread| 1 << (thread % 32)));
    assert_eq!(of("%lanemask_le", launch), expect(|thread| ((2u64 << (thread % 32)) - 1) as u32));
    assert_eq!(of("%lanemask_gt", launch), expect(|thread| !(((2u64 << (thread % 32)) - 1) as u32)));
}
