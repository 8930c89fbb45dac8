//! Forms of the coverage list that move data, each spelled out: loads and stores of every space, address conversions,
//! parameters, atomics of every type (PTX ISA 9.7.9, 9.7.13.5, 9.7.13.6).

use crate::harness::Case;

/// In %rd1 and %rd2 the thread's 16 bytes of a and b, in %rd3 and %rd4 shared and local room, in %rd5 that of %rd3 as a
/// generic address.
const ROOM: &str = ".shared .align 16 .b8 s[1024]; .local .align 16 .b8 l[32]; mov.u64 %rd3, s; mov.u64 %rd4, l;
    mul.wide.u32 %rd9, %tx, 16; add.u64 %rd1, %a, %rd9; add.u64 %rd2, %b, %rd9; add.u64 %rd3, %rd3, %rd9;
    cvta.shared.u64 %rd5, %rd3;";

/// Bytes per thread, and how they come from %rd1 to %rd2.
const WAYS: [(usize, &str); 16] = [
    (
        4,
        "ld.global.f32 %f1, [%rd1]; st.shared.f32 [%rd3], %f1; ld.shared.f32 %f2, [%rd3]; st.local.f32 [%rd4], %f2;
        ld.local.f32 %f3, [%rd4]; st.f32 [%rd5], %f3; ld.f32 %f4, [%rd5]; st.global.f32 [%rd2], %f4;",
    ),
    (
        8,
        "ld.global.v2.f32 {%f1, %f2}, [%rd1]; st.shared.v2.f32 [%rd3], {%f1, %f2}; ld.shared.v2.f32 {%f3, %f4}, [%rd3];
        st.v2.f32 [%rd5], {%f3, %f4}; ld.v2.f32 {%f5, %f6}, [%rd5]; st.global.v2.f32 [%rd2], {%f5, %f6};",
    ),
    (
        16,
        "ld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1]; st.local.v4.f32 [%rd4], {%f1, %f2, %f3, %f4};
        ld.local.v4.u32 {%r1, %r2, %r3, %r4}, [%rd4]; st.local.v4.u32 [%rd4+16], {%r1, %r2, %r3, %r4};
        ld.local.v4.f32 {%f5, %f6, %f7, %f8}, [%rd4+16]; st.global.v4.f32 [%rd2], {%f5, %f6, %f7, %f8};",
    ),
    (
        8,
        "ld.global.v2.u32 {%r1, %r2}, [%rd1]; st.local.v2.u32 [%rd4], {%r1, %r2}; ld.local.v2.u32 {%r3, %r4}, [%rd4];
        st.global.v2.u32 [%rd2], {%r3, %r4};",
    ),
    (8, "ld.global.f64 %rd6, [%rd1]; st.global.f64 [%rd2], %rd6;"),
    (
        8,
        "ld.global.u64 %rd6, [%rd1]; st.shared.u64 [%rd3], %rd6; ld.shared.u64 %rd7, [%rd3]; st.global.u64 [%rd2], %rd7;",
    ),
    (
        8,
        "ld.global.u64 %rd6, [%rd1]; { .param .b64 p; st.param.b64 [p], %rd6; ld.param.b64 %rd7, [p]; } st.global.u64 [%rd2], %rd7;",
    ),
    (
        4,
        "ld.global.nc.f32 %f1, [%rd1]; { .param .f32 p; st.param.f32 [p], %f1; ld.param.f32 %f2, [p]; } st.global.f32 [%rd2], %f2;",
    ),
    (1, "ld.global.nc.u8 %h1, [%rd1]; st.shared.u8 [%rd3], %h1; ld.shared.u8 %h2, [%rd3]; st.global.u8 [%rd2], %h2;"),
    (
        2,
        "ld.global.u16 %h1, [%rd1]; st.u16 [%rd5], %h1; ld.shared.u16 %h2, [%rd3]; st.shared.u16 [%rd3], %h2; ld.u16 %h3, [%rd5]; st.global.u16 [%rd2], %h3;",
    ),
    (2, "ld.global.b16 %h1, [%rd1]; st.global.wt.b16 [%rd2], %h1;"),
    (4, "ld.global.v2.u16 {%h1, %h2}, [%rd1]; st.global.v2.u16 [%rd2], {%h1, %h2};"),
    (4, "ld.global.nc.v2.u16 {%h1, %h2}, [%rd1]; st.global.v2.u16 [%rd2], {%h1, %h2};"),
    (4, "ld.volatile.global.f32 %f1, [%rd1]; st.volatile.global.f32 [%rd2], %f1;"),
    (
        4,
        "ld.global.u32 %r1, [%rd1]; st.u32 [%rd5], %r1; cvta.to.shared.u64 %rd6, %rd5; ld.shared.u32 %r2, [%rd6];
        st.global.u32 [%rd2], %r2;",
    ),
    (4, "ldu.global.u32 %r1, [%rd1]; bra.uni on; on: st.global.u32 [%rd2], %r1;"),
];

#[test]
fn data_arrive_by_every_way() {
    for (bytes, way) in WAYS {
        let words: Vec<u32> = (0..128).map(|word| 0x3f80_0000 + word * 0x0101_0101).collect();
        let kept = |at: usize, word: u32| match bytes.saturating_sub(at % 4 * 4) {
            0 => 0,
            1 => word & 0xff,
            2 => word & 0xffff,
            _ => word,
        };
        let expected: Vec<u32> = words.iter().enumerate().map(|(at, &word)| kept(at, word)).collect();
        assert_eq!(Case::new(&format!("{ROOM} {way}")).a(words).words()[..128], expected, "{way}");
    }
}

#[test]
fn cache_policies_change_nothing() {
    let body = "createpolicy.fractional.L2::evict_last.b64 %rd1, 1.0; membar.sys;
        ld.global.L2::cache_hint.u32 %r1, [%ta], %rd1; st.global.L2::cache_hint.u32 [%tb], %r1, %rd1;";
    assert_eq!(Case::new(body).words()[..32], (0..32).collect::<Vec<_>>());
}

#[test]
fn parameters_are_read_in_every_way() {
    let body = "ld.param.v2.u64 {%rd1, %rd2}, [a]; setp.eq.u64 %p1, %rd1, %a; setp.eq.and.b64 %p1, %rd2, %b, %p1;
        ld.param.v2.u32 {%r1, %r2}, [a]; mov.b64 %rd3, {%r1, %r2}; setp.eq.and.b64 %p1, %rd3, %a, %p1;
        ld.param.v2.f32 {%f2, %f3}, [b]; mov.b64 %rd6, {%f2, %f3}; setp.eq.and.b64 %p1, %rd6, %b, %p1;
        ld.param.v4.u32 {%r7, %r8, %r9, %r10}, [a]; mov.b64 %rd7, {%r7, %r8}; setp.eq.and.b64 %p1, %rd7, %a, %p1;
        mov.b64 %rd8, {%r9, %r10}; setp.eq.and.b64 %p1, %rd8, %b, %p1;
        ld.param.f32 %f1, [n]; mov.b32 %r3, %f1; setp.eq.and.b32 %p1, %r3, %n, %p1;
        mov.u64 %rd4, n; ld.param.u32 %r4, [%rd4]; setp.eq.and.b32 %p1, %r4, %n, %p1;
        cvta.param.u64 %rd5, %rd4; ld.u32 %r5, [%rd5]; setp.eq.and.b32 %p1, %r5, %n, %p1;
        selp.u32 %r6, 7, 0, %p1; st.global.u32 [%tb], %r6;";
    assert_eq!(Case::new(body).n(99).words()[..32], [7; 32]);
}

#[test]
fn generic_addresses_tell_their_space() {
    let module = ".global .align 4 .u32 g[2] = {5, 6}; .const .f32 k = 0f40490FDB;";
    let body = format!(
        "{ROOM} cvta.local.u64 %rd6, %rd4; mov.u64 %rd7, g; cvta.global.u64 %rd7, %rd7;
        isspacep.shared %p1, %rd5; isspacep.local %p2, %rd6; isspacep.global %p3, %rd7;
        isspacep.shared %p4, %rd6; isspacep.local %p5, %rd7; isspacep.global %p6, %rd5;
        selp.u32 %r1, 1, 0, %p1; selp.u32 %r2, 2, 0, %p2; selp.u32 %r3, 4, 0, %p3; selp.u32 %r4, 8, 0, %p4;
        selp.u32 %r5, 16, 0, %p5; selp.u32 %r6, 32, 0, %p6; or.b32 %r1, %r1, %r2; or.b32 %r1, %r1, %r3;
        or.b32 %r1, %r1, %r4; or.b32 %r1, %r1, %r5; or.b32 %r1, %r1, %r6; st.global.u32 [%rd2], %r1;
        cvta.to.global.u64 %rd8, %rd7; ld.global.u32 %r7, [%rd8+4]; st.global.u32 [%rd2+4], %r7;
        ld.const.f32 %f1, [k]; st.global.f32 [%rd2+8], %f1; ld.global.u32 %r8, [g]; st.global.u32 [%rd2+12], %r8;"
    );
    assert_eq!(Case::new(&body).module(module).words()[..4], [7, 6, 0x4049_0fdb, 5]);
}

/// b[0] after all 32 lanes, of values lane - 5.
fn reduced(setup: &str, statement: &str) -> u64 {
    let body = format!("sub.s32 %r1, %tx, 5; cvt.s64.s32 %rd1, %r1; cvt.rn.f32.s32 %f1, %r1; {setup} {statement}");
    let words = Case::new(&body).target("sm_90").words();
    u64::from(words[0]) | u64::from(words[1]) << 32
}

#[test]
fn extremes_of_every_type() {
    for (statement, expected) in [
        ("red.global.min.s32 [%b], %r1;", 0xffff_fffb),
        ("red.global.max.s32 [%b], %r1;", 26),
        ("red.global.min.u32 [%b], %r1;", 0),
        ("red.global.max.u32 [%b], %r1;", 0xffff_ffff),
        ("red.global.min.s64 [%b], %rd1;", 0xffff_ffff_ffff_fffb),
        ("red.global.max.s64 [%b], %rd1;", 26),
        ("red.global.min.u64 [%b], %rd1;", 0),
        ("red.global.max.u64 [%b], %rd1;", 0xffff_ffff_ffff_ffff),
        ("atom.global.min.s32 %r2, [%b], %r1;", 0xffff_fffb),
        ("atom.global.max.s32 %r2, [%b], %r1;", 26),
        ("atom.global.min.s64 %rd2, [%b], %rd1;", 0xffff_ffff_ffff_fffb),
        ("atom.global.max.s64 %rd2, [%b], %rd1;", 26),
        ("atom.global.min.u64 %rd2, [%b], %rd1;", 0),
        ("atom.global.max.u64 %rd2, [%b], %rd1;", 0xffff_ffff_ffff_ffff),
    ] {
        assert_eq!(reduced("", statement), expected, "{statement}");
    }
}

#[test]
fn sums_of_every_type() {
    let one = |bits: u64| move |at: u64| bits << at;
    let (f16, bf16) = (one(0x5000), one(0x4200));
    for (setup, statement, expected) in [
        ("mov.f64 %rd2, 0d3FF0000000000000;", "atom.global.add.f64 %rd3, [%b], %rd2;", 32.0f64.to_bits()),
        ("", "atom.global.add.v2.f32 {%f2, %f3}, [%b], {%f1, 0f3F800000};", 0x4200_0000_43a8_0000),
        ("", "atom.global.add.v4.f32 {%f2, %f3, %f4, %f5}, [%b], {%f1, %f1, %f1, %f1};", 0x43a8_0000_43a8_0000),
        ("", "red.relaxed.gpu.global.add.v4.f32 [%b], {%f1, %f1, %f1, %f1};", 0x43a8_0000_43a8_0000),
        ("mov.b32 %r2, 0x3c003c00;", "atom.add.noftz.f16x2 %r3, [%b], %r2;", f16(0) | f16(16)),
        ("mov.b32 %r2, 0x3f803f80;", "atom.add.noftz.bf16x2 %r3, [%b], %r2;", bf16(0) | bf16(16)),
        (
            "mov.b32 %r2, 0x3f803f80;",
            "red.global.add.noftz.v4.bf16x2 [%b], {%r2, %r2, %r2, %r2};",
            bf16(0) | bf16(16) | bf16(32) | bf16(48),
        ),
        (
            "mov.b16 %h1, 0x3f80;",
            "red.global.add.noftz.v8.bf16 [%b], {%h1, %h1, %h1, %h1, %h1, %h1, %h1, %h1};",
            bf16(0) | bf16(16) | bf16(32) | bf16(48),
        ),
    ] {
        assert_eq!(reduced(setup, statement), expected, "{statement}");
    }
    let body = ".shared .u32 sum; setp.eq.u32 %p1, %tx, 0; @%p1 st.shared.u32 [sum], 1; bar.sync 0; atom.shared.add.u32 %r1, [sum], %tx; bar.sync 0;
        ld.shared.u32 %r2, [sum]; st.global.u32 [%tb], %r2;";
    assert_eq!(Case::new(body).words()[0], 497);
}

#[test]
fn lanes_with_equal_wide_values_find_each_other() {
    let body = "and.b32 %r1, %tx, 1; cvt.u64.u32 %rd1, %r1; shl.b64 %rd1, %rd1, 40;
        match.any.sync.b64 %r2, %rd1, 0xffffffff; st.global.u32 [%tb], %r2;";
    let expected: Vec<u32> = (0..32).map(|lane| if lane % 2 == 0 { 0x5555_5555 } else { 0xaaaa_aaaa }).collect();
    assert_eq!(Case::new(body).words()[..32], expected);
}

#[test]
fn matrices_in_both_spellings_of_shared_memory() {
    for store in
        ["stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r1]", "stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%r1]"]
    {
        let body = format!(
            ".shared .align 16 .b8 s[512]; mov.u32 %r0, s; mad.lo.u32 %r1, %tx, 16, %r0; ld.global.u32 %r2, [%ta];
            ld.global.u32 %r3, [%ta+128]; ld.global.u32 %r4, [%ta+256]; ld.global.u32 %r5, [%ta+384];
            {store}, {{%r2, %r3, %r4, %r5}}; bar.warp.sync 0xffffffff;
            ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {{%r6, %r7, %r8, %r9}}, [%r1]; st.global.u32 [%tb], %r6;
            st.global.u32 [%tb+128], %r7; st.global.u32 [%tb+256], %r8; st.global.u32 [%tb+384], %r9;"
        );
        assert_eq!(Case::new(&body).target("sm_90").words()[..128], (0..128).collect::<Vec<_>>(), "{store}");
    }
}

#[test]
fn functions_take_and_return_words() {
    let module = ".func (.param .b32 out) twice(.param .b32 in) { .reg .b32 %v; ld.param.b32 %v, [in];
        shl.b32 %v, %v, 1; st.param.b32 [out], %v; ret; }";
    let body = "{ .param .b32 given; .param .b32 got; st.param.b32 [given], %tx; call.uni (got), twice, (given);
        ld.param.b32 %r1, [got]; } setp.lt.u32 %p1, %tx, 8; @%p1 bra end; st.global.u32 [%tb], %r1; end:";
    let expected: Vec<u32> = (0..32).map(|lane| if lane < 8 { 0 } else { 2 * lane }).collect();
    assert_eq!(Case::new(body).module(module).words()[..32], expected);
}
