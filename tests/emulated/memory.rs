//! Loads, stores, atomics, hints: every space, width and vector (PTX ISA 9.7.9, 9.7.13.5).

use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::{Check, Checks, Class, Options};

use crate::harness::Case;

fn first(body: &str) -> u32 {
    Case::new(body).a([0x8182_8384, 0x0506_0788, 3, 4, 5, 6, 7, 8]).words()[0]
}

#[test]
fn loads_extend_to_their_registers() {
    assert_eq!(first("ld.global.u8 %r1, [%a]; st.global.u32 [%b], %r1;"), 0x84);
    assert_eq!(first("ld.global.s8 %r1, [%a]; st.global.u32 [%b], %r1;"), 0xffff_ff84);
    assert_eq!(first("ld.global.u16 %r1, [%a+2]; st.global.u32 [%b], %r1;"), 0x8182);
    assert_eq!(first("ld.global.s16 %r1, [%a+2]; st.global.u32 [%b], %r1;"), 0xffff_8182);
    assert_eq!(first("ld.global.s8 %h1, [%a]; cvt.u32.u16 %r1, %h1; st.global.u32 [%b], %r1;"), 0xff84);
    assert_eq!(first("ld.global.s32 %rd1, [%a]; shr.u64 %rd1, %rd1, 32; st.global.u32 [%b], %rd1;"), u32::MAX);
    assert_eq!(first("ld.global.u32 %rd1, [%a]; shr.u64 %rd1, %rd1, 32; st.global.u32 [%b], %rd1;"), 0);
    assert_eq!(first("ld.global.u64 %rd1, [%a]; shr.u64 %rd1, %rd1, 32; st.global.u32 [%b], %rd1;"), 0x0506_0788);
}

#[test]
fn vectors_are_loaded_and_stored() {
    let words = |body: &str| Case::new(body).threads(1).words()[..8].to_vec();
    let expect = |count: u32| (0..8).map(|word| if word < count { word } else { 0 }).collect::<Vec<_>>();
    assert_eq!(words("ld.global.v2.u32 {%r1,%r2}, [%a]; st.global.v2.u32 [%b], {%r1,%r2};"), expect(2));
    assert_eq!(words("ld.global.v4.f32 {%f1,%f2,%f3,%f4}, [%a]; st.global.v4.f32 [%b], {%f1,%f2,%f3,%f4};"), expect(4));
    assert_eq!(words("ld.global.v2.u64 {%rd1,%rd2}, [%a]; st.global.v2.u64 [%b], {%rd1,%rd2};"), expect(4));
    assert_eq!(words("ld.global.v4.u16 {%h1,%h2,%h3,%h4}, [%a]; st.global.v4.u16 [%b], {%h1,%h2,%h3,%h4};"), expect(2));
    let shared = ".shared .align 16 .b8 s[16]; mov.u32 %r9, s;";
    let copies = "ld.global.v4.f32 {%f1,%f2,%f3,%f4}, [%a]; st.shared.v4.f32 [%r9], {%f1,%f2,%f3,%f4};
        ld.shared.v4.f32 {%f5,%f6,%f7,%f8}, [%r9]; st.global.v4.f32 [%b], {%f5,%f6,%f7,%f8};";
    assert_eq!(words(&format!("{shared} {copies}")), expect(4));
    assert_eq!(
        words("ld.global.v4.u8 {%h1,%h2,%h3,%h4}, [%a+4]; st.global.v4.u8 [%b+4], {%h1,%h2,%h3,%h4};"),
        expect(2)
    );
}

#[test]
fn every_space_holds_what_was_stored() {
    for (declaration, space) in [(".shared .align 8 .b64 v[64];", "shared"), (".local .align 8 .b64 v[64];", "local")] {
        let body = format!(
            "{declaration} mov.u64 %rd1, v; mul.wide.u32 %rd2, %tx, 8; add.u64 %rd1, %rd1, %rd2;
            cvta.{space}.u64 %rd3, %rd1;
            st.{space}.u32 [%rd1], %tx; st.u32 [%rd3+4], 9;
            ld.u32 %r1, [%rd3]; ld.{space}.u32 %r2, [%rd1+4]; mad.lo.u32 %r1, %r1, 10, %r2;
            cvta.to.{space}.u64 %rd4, %rd3; ld.{space}.u32 %r3, [%rd4]; add.u32 %r1, %r1, %r3;
            st.global.u32 [%tb], %r1;"
        );
        let expected: Vec<u32> = (0..32).map(|lane| lane * 11 + 9).collect();
        assert_eq!(Case::new(&body).words()[..32], expected, "{space}");
    }
}

#[test]
fn lanes_may_point_into_different_spaces() {
    let body = ".shared .align 4 .b32 s[32]; mov.u64 %rd1, s; cvta.shared.u64 %rd1, %rd1; mul.wide.u32 %rd2, %tx, 4;
        add.u64 %rd1, %rd1, %rd2; and.b32 %r1, %tx, 1; setp.eq.u32 %p1, %r1, 0; selp.b64 %rd3, %rd1, %tb, %p1;
        st.u32 [%rd3], %tx; ld.u32 %r2, [%rd3]; st.global.u32 [%tb], %r2;";
    assert_eq!(Case::new(body).words()[..32], (0..32).collect::<Vec<_>>());
}

#[test]
fn lanes_may_point_into_different_allocations() {
    let body = "and.b32 %r1, %tx, 1; setp.eq.u32 %p1, %r1, 0; selp.b64 %rd3, %ta, %tc, %p1;
        st.global.u32 [%tc], 77; ld.global.u32 %r2, [%rd3]; st.global.u32 [%tb], %r2;";
    let expected: Vec<u32> = (0..32).map(|lane| if lane % 2 == 0 { lane } else { 77 }).collect();
    assert_eq!(Case::new(body).words()[..32], expected);
}

#[test]
fn module_variables_have_memory() {
    let body = "mov.u64 %rd1, table; mul.wide.u32 %rd2, %tx, 4; add.u64 %rd1, %rd1, %rd2; ld.const.u32 %r1, [%rd1];
        mov.u64 %rd3, counter; atom.global.add.u32 %r2, [%rd3], 1; bar.warp.sync 0xffffffff;
        ld.global.u32 %r2, [%rd3]; mad.lo.u32 %r1, %r1, 100, %r2; st.global.u32 [%tb], %r1;";
    let case = Case::new(body).module(".const .align 4 .u32 table[4] = {5, 6, 7, 8}; .global .align 4 .u32 counter;");
    assert_eq!(case.threads(4).words()[..4], [504, 604, 704, 804]);
}

#[test]
fn shared_memory_can_be_dynamic() {
    let body = "mov.u32 %r0, d; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1; st.shared.u32 [%r1], %tx;
        bar.sync 0; mov.u32 %r3, %dynamic_smem_size; add.u32 %r4, %r0, %r3; ld.shared.u32 %r2, [%r4+-4];
        st.global.u32 [%tb], %r2;";
    let case = Case::new(body).module(".extern .shared .align 16 .b8 d[];");
    assert_eq!(case.launch(Launch::linear(1, 64).with_shared(256)).words()[0], 63);
}

#[test]
fn atomics_return_the_old_value_and_leave_the_new() {
    // Operation, type, words of a, operand: word 0 of a afterwards.
    for (form, start, operand, end) in [
        ("add.u32", 5, "7", 5 + 32 * 7),
        ("add.s32", 5, "-1", 5 - 32),
        ("min.s32", 5, "-3", -3),
        ("max.u32", 5, "9", 9),
        ("min.u32", 5, "3", 3),
        ("max.s32", -5, "-4", -4),
        ("and.b32", 7, "10", 2),
        ("or.b32", 5, "10", 15),
        ("exch.b32", 5, "8", 8),
        ("inc.u32", 0, "6", 32 % 7),
        ("dec.u32", 0, "6", 3),
    ] {
        let body = format!(
            "atom.global.{form} %r1, [%a], {operand}; bar.warp.sync -1; ld.global.u32 %r2, [%a]; st.global.u32 [%tb], %r2;"
        );
        assert_eq!(Case::new(&body).a([start as u32]).words()[0] as i32, end, "atom.global.{form}");
        let body = format!(
            ".shared .align 4 .b32 s; st.shared.u32 [s], {start}; bar.warp.sync -1;
            red.shared.{form} [s], {operand}; bar.warp.sync -1; ld.shared.u32 %r2, [s]; st.global.u32 [%tb], %r2;"
        );
        if !form.starts_with("exch") {
            assert_eq!(Case::new(&body).words()[0] as i32, end, "red.shared.{form}");
        }
    }
}

#[test]
fn atomics_have_all_widths() {
    let run = |body: &str, a: &[u32]| Case::new(body).a(a.iter().copied()).threads(1).words()[..4].to_vec();
    assert_eq!(
        run(
            "atom.global.add.u64 %rd1, [%a], 5; ld.global.u64 %rd2, [%a]; st.global.v2.u64 [%b], {%rd1, %rd2};",
            &[u32::MAX, 1]
        ),
        [u32::MAX, 1, 4, 2]
    );
    assert_eq!(
        run(
            "atom.global.max.u64 %rd1, [%a], 9; ld.global.u64 %rd2, [%a]; st.global.v2.u64 [%b], {%rd1, %rd2};",
            &[3, 0]
        ),
        [3, 0, 9, 0]
    );
    assert_eq!(
        run(
            "mov.b64 %rd3, 3; mov.b64 %rd4, 8; atom.global.cas.b64 %rd1, [%a], %rd3, %rd4; ld.global.u64 %rd2, [%a]; st.global.v2.u64 [%b], {%rd1, %rd2};",
            &[3, 0]
        ),
        [3, 0, 8, 0]
    );
    assert_eq!(
        run("atom.global.cas.b32 %r1, [%a], 3, 8; ld.global.u32 %r2, [%a]; st.global.v2.u32 [%b], {%r1, %r2};", &[3]),
        [3, 8, 0, 0]
    );
    assert_eq!(
        run(
            "mov.b16 %h1, 3; mov.b16 %h2, 8; atom.global.cas.b16 %h3, [%a], %h1, %h2; ld.global.u32 %r2, [%a]; st.global.u32 [%b], %r2;",
            &[3 | 5 << 16]
        )[0],
        8 | 5 << 16
    );
    assert_eq!(
        run(
            "mov.f64 %rd3, 0d3FF0000000000000; red.global.add.f64 [%a], %rd3; ld.global.u32 %r2, [%a+4]; st.global.u32 [%b], %r2;",
            &[0, 0x3ff0_0000]
        )[0],
        0x4000_0000
    );
}

#[test]
fn float_atomics_add() {
    let body = "atom.global.add.f32 %f1, [%a], 0f3F800000; bar.warp.sync -1; ld.global.u32 %r1, [%a]; st.global.u32 [%tb], %r1;";
    assert_eq!(Case::new(body).a([0]).floats()[0], 32.0);
    // bf16 1.0 and 2.0 added to zero.
    let body = "mov.b32 %r1, 0x40003F80; red.global.add.noftz.bf16x2 [%a], %r1; ld.global.u32 %r1, [%a]; st.global.u32 [%b], %r1;";
    assert_eq!(Case::new(body).a([0]).threads(1).target("sm_90").words()[0], 0x4000_3f80);
    let body = "mov.b32 %r1, 0x40003C00; atom.global.add.noftz.f16x2 %r2, [%a], %r1; ld.global.u32 %r1, [%a]; st.global.u32 [%b], %r1;";
    assert_eq!(Case::new(body).a([0x3c00]).threads(1).words()[0], 0x4000_4000);
}

#[test]
fn vector_reductions_add_element_by_element() {
    let body = "red.global.add.v4.f32 [%a], {0f3F800000, 0f40000000, 0f3F800000, 0f40000000};
        ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%a]; st.global.v4.u32 [%b], {%r1,%r2,%r3,%r4};";
    let body = body.replace("{0f3F800000, 0f40000000, 0f3F800000, 0f40000000}", "{%f1, %f2, %f1, %f2}");
    let body = format!("mov.f32 %f1, 0f3F800000; mov.f32 %f2, 0f40000000; {body}");
    let case = Case::new(&body).a([0; 4]).threads(1).target("sm_90");
    assert_eq!(case.floats()[..4], [1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn hints_do_nothing_and_discard_forgets() {
    Case::new("prefetch.global.L2 [%a]; prefetch.global.L1 [%ta]; prefetchu.L1 [%a];").words();
    let case = Case::new("discard.global.L2 [%b], 128; ld.global.u32 %r1, [%b+4]; st.global.u32 [%b+256], %r1;");
    assert_eq!(case.report().check, g2d::cuda::driver::emulated::Check::Initialized);
}

#[test]
fn clocks_go_forward() {
    let body = "mov.u64 %rd1, %clock64; mov.u32 %r1, %clock; mov.u64 %rd2, %globaltimer; mov.u64 %rd3, %clock64;
        sub.u64 %rd4, %rd3, %rd1; st.global.u64 [%b], %rd4;";
    assert!(Case::new(body).threads(1).words()[0] > 0);
}

#[test]
fn traffic_is_counted() {
    let counters = |body: &str| Case::new(body).run(Options::default()).expect("no fault").counters;
    let copy = counters("ld.global.u32 %r1, [%ta]; st.global.u32 [%tb], %r1;");
    assert_eq!((copy.global_sectors, copy.global_unique_bytes, copy.global_bytes), (8, 256, 256));
    assert_eq!((copy.instructions(Class::Global), copy.instructions(Class::Private)), (2, 4));
    let sums = counters(
        "add.u32 %r1, %tx, 1; mov.f32 %f1, 0f3F800000; add.f32 %f2, %f1, %f1; ex2.approx.f32 %f3, %f2; cvt.rzi.s32.f32 %r2, %f3;",
    );
    let of = |class| sums.instructions(class);
    assert_eq!((of(Class::Float), of(Class::Special), of(Class::Conversion), of(Class::Double)), (1, 1, 1, 0));
    assert_eq!((sums.flops, sums.tensor_flops), (2 * 32, 0), "an addition and an approximation");
    let some = counters(
        "mov.f32 %f1, 0f3F800000; setp.lt.u32 %p1, %tx, 5; @%p1 fma.rn.f32 %f2, %f1, %f1, %f1; neg.f32 %f3, %f1;
        mov.b32 %r1, 0; fma.rn.bf16x2 %r2, %r1, %r1, %r1; .reg .f64 %fd<3>; mov.f64 %fd1, 0d3FF0000000000000; mul.f64 %fd2, %fd1, %fd1;",
    );
    assert_eq!(some.flops, 5 * 2 + 32 * 4 + 32, "lanes that run, two of a fused multiply-add, pairs, no sign");
    let strided = counters(
        "mul.wide.u32 %rd1, %tx, 32; add.u64 %rd1, %a, %rd1; ld.global.u32 %r1, [%rd1]; ld.global.u32 %r2, [%rd1];",
    );
    assert_eq!((strided.global_sectors, strided.global_unique_bytes), (64, 1024));
    let one = counters("ld.global.u32 %r1, [%a];");
    assert_eq!((one.global_sectors, one.global_unique_bytes, one.global_bytes), (1, 32, 128));
    let shared = counters(
        ".shared .b32 s[1024]; mov.u32 %r0, s; shl.b32 %r1, %tx, 7; add.u32 %r1, %r1, %r0; st.shared.u32 [%r1], 1;",
    );
    assert_eq!(shared.shared_conflicts, 31);
}

/// A warp at consecutive addresses is served as one; with two lanes exchanged the very same bytes are served lane by lane.
#[test]
fn whole_warps_at_consecutive_addresses_do_what_lanes_do_one_by_one() {
    for (kind, bytes, registers) in [
        ("u8", 1, "%h1"),
        ("s8", 1, "%r1"),
        ("u16", 2, "%h1"),
        ("s16", 2, "%r1"),
        ("b16", 2, "%r1"),
        ("f32", 4, "%f1"),
        ("s32", 4, "%rd1"),
        ("v2.u16", 4, "{%h1,%h2}"),
        ("u64", 8, "%rd1"),
        ("v2.f32", 8, "{%f1,%f2}"),
        ("v4.u16", 8, "{%h1,_,%h3,%h4}"),
        ("v4.u32", 16, "{%r1,%r2,%r3,%r4}"),
        ("v2.u64", 16, "{%rd1,%rd2}"),
    ] {
        let from = registers.replace('_', "%h5");
        let run = |exchange: u32| {
            let body = format!(
                "mov.b16 %h5, 7; and.b32 %r9, %tx, 30; setp.eq.u32 %p1, %r9, 12; mov.u32 %r8, %tx;
                @%p1 xor.b32 %r8, %tx, {exchange}; mul.wide.u32 %rd9, %r8, {bytes}; add.u64 %rd7, %a, %rd9;
                add.u64 %rd8, %b, %rd9; ld.global.{kind} {registers}, [%rd7+64]; st.global.{kind} [%rd8+32], {from};
                ld.global.{kind} {registers}, [%rd8+32]; st.global.{kind} [%rd8+32], {from};"
            );
            let a = (0..256u32).map(|at| at.wrapping_mul(0x9e37_79b9));
            let case = Case::new(&body).a(a);
            let ran = case.run(Options::default()).unwrap_or_else(|report| panic!("{kind}: {report}"));
            let unchecked = case.run(Options { checks: Checks::none(), ..Options::default() }).expect("no check");
            assert_eq!(ran, unchecked, "{kind}");
            ran
        };
        let (together, apart) = (run(0), run(1));
        assert_eq!(together, apart, "{kind}");
        assert!(together.b[8..8 + 8 * bytes].iter().any(|word| *word != 0) && together.counters.global_sectors > 0);
    }
}

#[test]
fn whole_warps_at_consecutive_addresses_are_reported_by_their_lane() {
    let case = Case::new("setp.ne.u32 %p1, %tx, 9; @%p1 st.global.u32 [%tc], %tx; ld.global.u32 %r1, [%tc];");
    let report = case.provokes(Check::Initialized, |checks| checks.initialized = false);
    assert_eq!(report.lane, Some((9, [9, 0, 0])), "{report}");
    let case = Case::new("shl.b32 %r1, %tx, 2; cvt.u64.u32 %rd1, %r1; add.u64 %rd1, %b, %rd1;
        setp.eq.u32 %p1, %tx, 41; @%p1 st.global.u32 [%b+20], 7; setp.lt.u32 %p2, %tx, 32; @%p2 st.global.u32 [%rd1], 9;")
    .threads(64);
    let reports: Vec<_> = (0..8).filter_map(|seed| case.run(Options { seed, ..Options::default() }).err()).collect();
    assert!(!reports.is_empty());
    for report in reports {
        assert_eq!(report.check, Check::GlobalRace, "{report}");
        assert!(matches!(report.lane, Some((5 | 9, _))) && report.text.contains("byte 20 of b"), "{report}");
    }
    let case = Case::new("st.global.u32 [%tb+900], %tx;");
    assert_eq!(case.report().lane, Some((31, [31, 0, 0])));
    let case = Case::new("ld.global.u32 %r1, [%ta+2];");
    assert_eq!((case.report().check, case.report().lane), (Check::Alignment, Some((0, [0, 0, 0]))));
    let constant = ".const .align 4 .b8 k[128];";
    let case = Case::new("mov.u64 %rd1, k; cvta.const.u64 %rd1, %rd1; mul.wide.u32 %rd2, %tx, 4; add.u64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], %tx;").module(constant);
    assert!(case.report().text.contains("constant memory"));
}
