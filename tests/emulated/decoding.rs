//! What the parser and the decoder refuse, and how they say so; scopes, calls, variables, line information.

use g2d::cuda::driver::emulated::decode;
use g2d::cuda::driver::emulated::instr::{Function, Op, SHARED_BASE};
use g2d::cuda::ptx;

use crate::harness::Case;

/// The entries of a module, or the message.
pub fn decoded(text: &str) -> Result<Vec<Function>, String> {
    let module = ptx::parse(text).map_err(|error| error.to_string())?;
    let variables = decode::variables(&module).map_err(|error| error.to_string())?;
    let address = |name: &str| variables.iter().any(|variable| variable.name == name).then_some(1 << 32);
    decode::functions(&module, &address).map_err(|error| error.to_string())
}

pub fn module(target: &str, body: &str) -> String {
    format!(
        ".version 8.6\n.target {target}\n.address_size 64\n.visible .entry k(.param .u64 p)\n{{\n.reg .pred %p<4>;\n\
         .reg .b16 %h<9>;\n.reg .b32 %r<40>;\n.reg .f32 %f<9>;\n.reg .b64 %d<9>;\n{body}\nret;\n}}\n"
    )
}

#[track_caller]
fn refused(target: &str, statement: &str) -> String {
    match decoded(&module(target, statement)) {
        Ok(_) => panic!("accepted: {statement}"),
        Err(message) => message,
    }
}

#[test]
fn forms_that_do_not_exist_are_named_with_their_line() {
    for statement in [
        "add.foo.u32 %r1, %r2, %r3;",
        "add.sat.u32 %r1, %r2, %r3;",
        "add.ftz.s32 %r1, %r2, %r3;",
        "cvt.sat.s32.u16 %r1, %h1;",
        "cvt.sat.u32.u32 %r1, %r2;",
        "add.ftz.f64 %d1, %d2, %d3;",
        "mul.u32 %r1, %r2, %r3;",
        "mul.wide.u64 %d1, %d2, %d3;",
        "fma.f32 %f1, %f2, %f3, %f4;",
        "fma.rn.ftz.bf16 %h1, %h2, %h3, %h4;",
        "div.f32 %f1, %f2, %f3;",
        "sqrt.f32 %f1, %f2;",
        "ex2.f32 %f1, %f2;",
        "min.rn.f32 %f1, %f2, %f3;",
        "setp.lt.b32 %p1, %r1, %r2;",
        "setp.lo.s32 %p1, %r1, %r2;",
        "setp.ltu.s32 %p1, %r1, %r2;",
        "setp.equ.ftz.f64 %p1, %d1, %d2;",
        "selp.pred %p1, %p2, %p3, %p1;",
        "shl.u32 %r1, %r2, %r3;",
        "cvt.f32.s32 %f1, %r1;",
        "cvt.rni.f32.s32 %f1, %r1;",
        "cvt.rn.s32.f32 %r1, %f1;",
        "cvt.rn.f64.f32 %d1, %f1;",
        "cvt.u32.f32 %r1, %f1;",
        "cvt.rn.u32.u16 %r1, %h1;",
        "cvt.rm.bf16.f32 %h1, %f1;",
        "ld.global.v3.u32 {%r1,%r2,%r3}, [%d1];",
        "ld.global.v4.u64 {%d1,%d2,%d3,%d4}, [%d5];",
        "ld.shared.nc.u32 %r1, [%r2];",
        "ld.global.f16 %h1, [%d1];",
        "ld.acquire.global.u32 %r1, [%d1];",
        "st.const.u32 [%d1], %r1;",
        "st.acquire.gpu.global.u32 [%d1], %r1;",
        "atom.global.add.s64 %d1, [%d2], %d3;",
        "atom.global.min.f32 %f1, [%d2], %f3;",
        "atom.global.add.f16 %h1, [%d2], %h3;",
        "red.global.cas.b32 [%d1], %r1, %r2;",
        "red.acquire.gpu.global.add.u32 [%d1], %r1;",
        "bar.sync.foo 0;",
        "bar.arrive 0;",
        "shfl.bfly.b32 %r1, %r2, 1, 31;",
        "shfl.sync.bfly.u32 %r1, %r2, 1, 31, -1;",
        "vote.sync.ballot.pred %p1, %p2, -1;",
        "redux.sync.and.u32 %r1, %r2, -1;",
        "cp.async.cg.shared.global [%r1], [%d1], 8;",
        "ldmatrix.sync.aligned.m8n8.x3.shared.b16 {%r1,%r2,%r3}, [%r4];",
        "mma.sync.aligned.m16n8k4.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r3}, {%f1,%f2,%f3,%f4};",
        "frobnicate.u32 %r1;",
    ] {
        let message = refused("sm_80", statement);
        let form = statement.split_whitespace().next().expect("a form");
        assert!(message.contains(&format!("`{form}`")) && message.contains("line 11"), "{statement}: {message}");
    }
}

#[test]
fn forms_of_clusters_and_others_of_hopper_are_refused_by_name() {
    for statement in [
        "barrier.cluster.arrive.aligned;",
        "griddepcontrol.wait;",
        "griddepcontrol.launch_dependents;",
        "mapa.shared::cluster.u32 %r1, %r2, %r3;",
        "mov.u32 %r1, %cluster_ctarank;",
        "ld.shared::cluster.u32 %r1, [%r2];",
        "mbarrier.arrive.shared::cluster.b64 _, [%r1];",
        "setmaxnreg.inc.sync.aligned.u32 236;",
        "setmaxnreg.dec.sync.aligned.u32 16;",
        "fence.proxy.alias;",
        "fence.proxy.tensormap::generic.release.gpu;",
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%d1, \
         {%r2, %r3}], [%r4], %h1;",
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r1], [%r2], 16, [%r3];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r1], [%d1, {%r2}], [%r4];",
        "cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%d1, {%r2, %r3}], [%r4], {};",
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.bf16 [%d1], [%r1], 16;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16 {%r1, %r2}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%f1, %f2, %f3, %f1}, %d1, %d2, 1, 1, 1;",
        "wgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%f1, %f2, %f3, %f1}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3}, %d1, %d2, 1, 1, 1, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f1}, %d1, %d2, 1, 1, 2, 0, 0;",
        "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%f1, %f2, %f3, %f1}, %d1, %d2, 1, 1, 1, 0, 0;",
    ] {
        let message = refused("sm_90a", statement);
        let form = statement.split([' ', ';']).next().expect("a form");
        assert!(message.contains(&format!("`{form}`")), "{statement}: {message}");
    }
}

#[test]
fn forms_need_their_architecture() {
    for statement in [
        "add.bf16 %h1, %h2, %h3;",
        "tanh.approx.bf16 %h1, %h2;",
        "setp.gt.bf16 %p1, %h1, %h2;",
        "elect.sync %r1|%p1, -1;",
        "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r1], {%r2};",
        "cvt.rn.tf32.f32 %r1, %f1;",
        "mbarrier.arrive.shared.b64 _, [%r1], 2;",
    ] {
        assert!(decoded(&module("sm_90", statement)).is_ok(), "{statement}");
        refused("sm_80", statement);
    }
    for statement in [
        "wgmma.fence.sync.aligned;",
        "wgmma.wait_group.sync.aligned 1;",
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1, %f2, %f3, %f1}, %d1, %d2, 1, 1, 1, 0, 0;",
        "setmaxnreg.inc.sync.aligned.u32 232;",
    ] {
        assert!(decoded(&module("sm_90a", statement)).is_ok(), "{statement}");
        assert!(refused("sm_90", statement).contains("needs the target sm_90a"), "{statement}");
    }
    for statement in [
        "mbarrier.arrive.expect_tx.shared::cta.b64 %d1, [%r1], %r2;",
        "mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], %r2;",
        "cp.async.bulk.commit_group;",
        "fence.proxy.async.shared::cta;",
        "fence.mbarrier_init.release.cluster;",
        "prefetch.tensormap [%d1];",
    ] {
        assert!(decoded(&module("sm_90", statement)).is_ok(), "{statement}");
        refused("sm_80", statement);
    }
    refused("sm_75", "redux.sync.add.u32 %r1, %r2, -1;");
    refused("sm_75", "mbarrier.init.shared.b64 [%r1], 1;");
    assert!(refused("sm_100", "").contains("sm_90"));
}

#[test]
fn operands_must_fit() {
    for statement in [
        "add.u32 %r1, %r2;",
        "add.u32 %r1, %r2, %r3, %r4;",
        "add.u32 %d1, %r2, %r3;",
        "add.u32 %r1, %h2, %r3;",
        "add.u32 %r1, %r2, %r99;",
        "add.u32 5, %r2, %r3;",
        "add.f32 %f1, %f2, 1;",
        "add.u32 %r1, %r2, 0f3F800000;",
        "mov.u32 %r1, %tid;",
        "mov.u32 %r1, %pm0;",
        "mov.b64 %d1, {%r1, %r2, %r3};",
        "ld.global.u32 %r1, [nowhere];",
        "ld.global.u32 %r1, [p];",
        "ld.global.u32 %h1, [%d1];",
        "st.param.u32 [p], %r1;",
        "ld.global.u32 %r1, %d1;",
        "bra nowhere;",
        "@%r1 bra end; end:",
        "call nothing;",
        "lop3.b32 %r1, %r2, %r3, %r4, 256;",
    ] {
        refused("sm_80", statement);
    }
}

#[test]
fn broken_text_is_refused_with_its_line() {
    for (text, line) in [
        ("", 1),
        (".version 8.0\n.target sm_80\n.address_size 64\n.entry k() {\n  add.u32 %r1, %r2, %r3\n}", 6),
        (".version 8.0\n.target sm_80\n/* open", 3),
        (".version 8.0\n.target sm_80\n.global .u33 x;", 3),
        (".version 8.0\n.target sm_80\n.entry k() { .reg .b32 %r<999999999>; }", 3),
        (".version 8.0\n.target sm_80\n.entry k() {", 3),
        (".version 8.0\n.target sm_80\n.frob x;", 3),
        (".version 8.0\n.target sm_80\n.entry k() { mov.u32 %r1, 99999999999999999999999; }", 3),
        (".version 8.0\n.target sm_80\n.global .u32 é;", 3),
    ] {
        let message = decoded(text).expect_err(text);
        assert!(message.contains(&format!("line {line}:")), "{text}: {message}");
    }
    let message = decoded(".version 8.0\n.target sm_80\n.entry k() { ret; }").expect_err("32-bit addresses");
    assert!(message.contains("64 bits"), "{message}");
}

#[test]
fn any_prefix_and_any_changed_byte_of_a_module_is_handled() {
    let text =
        module("sm_80", "@%p1 bra L; { .reg .b32 x; mov.b32 x, 0x7; } L: ld.global.v2.u32 {%r1, %r2}, [%d1+-4];");
    for end in 0..text.len() {
        let _ = decoded(&text[..end]);
    }
    for at in 0..text.len() {
        for byte in *b"{}[]<>;,.:@!%0\"/ " {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = byte;
            let _ = decoded(&String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn names_and_labels_belong_to_their_braces() {
    let inner = "{ .reg .b32 x; .reg .pred q; mov.u32 x, 0; L: add.u32 x, x, 1; setp.lt.u32 q, x, COUNT; @q bra L; \
        add.u32 %r1, %r1, x; }";
    let body = format!(
        "mov.u32 %r1, 0; {} {} st.global.u32 [%tb], %r1;",
        inner.replace("COUNT", "3"),
        inner.replace("COUNT", "40")
    );
    assert_eq!(Case::new(&body).words()[..32], [43; 32]);
}

const FUNCTIONS: &str = "
.func (.param .b32 result) twice(.param .b32 value)
{
    .reg .b32 %r<3>;
    .reg .pred %p;
    ld.param.u32 %r1, [value];
    setp.gt.u32 %p, %r1, 100;
    shl.b32 %r1, %r1, 1;
    st.param.b32 [result], %r1;
    @%p ret;
    add.u32 %r1, %r1, 1;
    st.param.b32 [result], %r1;
    ret;
}
.func (.param .b32 result) four_times(.param .b32 value)
{
    .reg .b32 %r<3>;
    ld.param.u32 %r1, [value];
    { .param .b32 a; st.param.b32 [a], %r1; .param .b32 b; call.uni (b), twice, (a); ld.param.b32 %r1, [b]; }
    { .param .b32 a; st.param.b32 [a], %r1; .param .b32 b; call (b), twice, (a); ld.param.b32 %r1, [b]; }
    st.param.b32 [result], %r1;
    ret;
}
.func again(.param .b32 value) { { .param .b32 a; st.param.b32 [a], 1; call.uni again, (a); } ret; }";

#[test]
fn calls_are_inlined() {
    let call = "{ .param .b32 in; st.param.b32 [in], %r1; .param .b32 out; GUARD call.uni (out), four_times, (in); \
        ld.param.b32 %r1, [out]; }";
    let body = format!("add.u32 %r1, %tx, 90; {} st.global.u32 [%tb], %r1;", call.replace("GUARD", ""));
    let twice = |value: u32| if value > 100 { 2 * value } else { 2 * value + 1 };
    let expected: Vec<u32> = (0..32).map(|lane| twice(twice(lane + 90))).collect();
    assert_eq!(Case::new(&body).module(FUNCTIONS).words()[..32], expected);
    let body = format!(
        "add.u32 %r1, %tx, 90; setp.lt.u32 %p1, %tx, 7; {} st.global.u32 [%tb], %r1;",
        call.replace("GUARD", "st.param.b32 [out], %tx; @%p1")
    );
    let expected: Vec<u32> = (0..32).map(|lane| if lane < 7 { twice(twice(lane + 90)) } else { lane }).collect();
    assert_eq!(Case::new(&body).module(FUNCTIONS).words()[..32], expected);
}

#[test]
fn calls_that_cannot_be_inlined_are_refused() {
    let with = |body: &str| decoded(&module("sm_80", body).replace(".visible", &format!("{FUNCTIONS}\n.visible")));
    let call = "{ .param .b32 a; st.param.b32 [a], 1; call.uni again, (a); }";
    assert!(with(call).expect_err("recursion").contains("recursion"));
    assert!(with("call.uni twice;").is_err());
    assert!(with("{ .param .b32 a; call.uni twice, (a); }").is_err());
    assert!(with("call.uni (%r1), twice, (%r2);").is_err());
    let doubling = (1..40).map(|n| format!(".func f{n}() {{ call f{0}; call f{0}; }}\n", n - 1)).collect::<String>();
    let text = module("sm_80", "call f39;").replace(".visible", &format!(".func f0() {{ }}\n{doubling}.visible"));
    assert!(decoded(&text).expect_err("2^39 calls").contains("calls"));
}

#[test]
fn variables_have_places_and_initial_values() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.global .align 8 .u32 g[2][2] = {{1, 2}, {0x30}};\n\
        .const .f32 c = 0f3F800000;\n.global .u8 z[3];\n.extern .shared .align 64 .b8 dynamic[];\n\
        .entry k() {\n.shared .align 4 .b8 a[5];\n.shared .b64 b;\n.reg .b64 %d<4>;\n\
        mov.u64 %d1, a; mov.u64 %d2, b; mov.u64 %d3, dynamic;\nret; }";
    let variables = decode::variables(&ptx::parse(text).expect("text")).expect("variables");
    let found: Vec<_> = variables.iter().map(|v| (v.name.as_str(), v.constant, v.align, v.initial.clone())).collect();
    let g = vec![1, 0, 0, 0, 2, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(found, [("g", false, 8, g), ("c", true, 4, vec![0, 0, 0x80, 0x3f]), ("z", false, 1, vec![0; 3])]);
    let narrow = text.replace("ret; }", ".reg .b32 %r<2>; mov.u32 %r1, g; ret; }");
    assert!(decoded(&narrow).expect_err("a global address in 32 bits").contains("64 bits"));
    let function = &decoded(text).expect("decodes")[0];
    let places: Vec<_> = function.shared.iter().map(|v| (v.name.as_str(), v.address - SHARED_BASE, v.bytes)).collect();
    // With gaps of 1 KiB, which do not count.
    assert_eq!(places, [("a", 0, 5), ("b", 1024 + 8, 8), ("dynamic", 2048 + 64, 0)]);
    assert_eq!((function.shared_bytes, function.dynamic_shared), (16, SHARED_BASE + 2048 + 64));
    for wrong in [
        ".global .f32 g = 1;",
        ".global .f64 g = 0f3F800000;",
        ".global .f16 g = 0f3F800000;",
        ".global .u32 g = 1.0;",
        ".global .u32 g = {1, 2};",
        ".extern .global .u32 g;",
        ".global .u64 g = other;",
        ".global .u8 g[4000000000];",
    ] {
        let text = format!(".version 8.0\n.target sm_80\n.address_size 64\n{wrong}\n");
        assert!(decode::variables(&ptx::parse(&text).expect("text")).is_err(), "{wrong}");
    }
}

#[test]
fn parameters_and_limits_are_those_of_the_entry() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.file 1 \"a.cu\"\n.visible .entry k(.param .u8 a, \
        .param .align 8 .b8 b[12], .param .u64 .ptr .global .align 16 c)\n.maxntid 128, 2\n.minnctapersm 1\n\
        { .reg .b32 %r<2>;\n.loc 1 42 3\nmov.u32 %r1, %tid.x;\nret; }\n.entry e() .reqntid 32 { }";
    let functions = decoded(text).expect("decodes");
    let params: Vec<_> = functions[0].params.iter().map(|p| (p.name.as_str(), p.offset, p.bytes)).collect();
    assert_eq!(params, [("a", 0, 1), ("b", 8, 12), ("c", 24, 8)]);
    assert_eq!((functions[0].param_bytes, functions[0].max_threads), (32, Some([128, 2, 1])));
    let source = functions[0].code[0].source;
    assert_eq!((source.line, functions[0].files[usize::from(source.file)].as_str()), (42, "a.cu"));
    assert_eq!(functions[1].required_threads, Some([32, 1, 1]));
    assert!(matches!(functions[1].code[0].op, Op::Exit));
    let cluster = text.replace(".minnctapersm 1", ".reqnctapercluster 2");
    assert!(decoded(&cluster).expect_err("clusters").contains("reqnctapercluster"));
}
