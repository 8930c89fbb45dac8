//! A kernel of one's own under the checkers: arguments, faults, results that depend on the order.

use g2d::cuda::driver::Launch;
use g2d::cuda::driver::emulated::trial::{Argument, Trial, TrialError};
use g2d::cuda::driver::emulated::{Checks, Completion};

fn trial<'a>(ptx: &'a str, arguments: &[Argument]) -> Trial<'a> {
    Trial {
        file: "own.ptx",
        ptx,
        kernel: "own",
        launch: Launch::linear(2, 32),
        arguments: arguments.to_vec(),
        checks: Checks::default(),
        seeds: 0..6,
        completion: None,
        limit: None,
        exact_sums: false,
    }
}

fn kernel(body: &str) -> String {
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry own(.param .u32 n, .param .u64 to)\n{{\n\
         .reg .b32 %r<9>; .reg .b64 %d<9>; .reg .f32 %f<9>; .reg .pred %p<3>;\n ld.param.u64 %d1, [to];\n\
         ld.param.u32 %r1, [n]; mov.u32 %r2, %tid.x; mov.u32 %r3, %ctaid.x; mad.lo.u32 %r4, %r3, 32, %r2;\n\
         mul.wide.u32 %d2, %r4, 4; add.u64 %d3, %d1, %d2;\n{body}\n ret;\n}}\n"
    )
}

fn value(n: u32) -> Argument {
    Argument::Value(n.to_le_bytes().to_vec())
}

#[test]
fn a_right_kernel_gives_its_results_and_counters() {
    let ptx = kernel("add.u32 %r5, %r4, %r1; st.global.u32 [%d3], %r5;");
    let outcome = trial(&ptx, &[value(7), Argument::Uninitialized(256)]).run().expect("no fault");
    let expected: Vec<u8> = (7..71u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!((outcome.buffers, outcome.difference), (vec![expected], None));
    assert!(outcome.counters.total_instructions() >= 20);
}

#[test]
fn a_fault_is_reported_with_argument_line_and_seed() {
    let ptx = kernel("st.global.u32 [%d3+4], %r4;");
    let error = trial(&ptx, &[value(7), Argument::Uninitialized(256)]).run().expect_err("beyond the end").to_string();
    for part in ["own", "argument 1", "lane 31", "seed 0"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_struct_is_laid_out_as_c_does() {
    // char at 0, double at 8, a struct of a short and a pointer at 16 and 24, float at 32; 40 bytes in all.
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry own(.param .align 8 .b8 p[40])\n{\n\
        .reg .b32 %r<4>; .reg .b64 %d<4>; .reg .f32 %f<4>; .reg .f64 %x;\nld.param.u8 %r1, [p]; \
        ld.param.f64 %x, [p+8]; ld.param.u16 %r2, [p+16]; ld.param.u64 %d1, [p+24]; ld.param.f32 %f1, [p+32];\n\
        cvt.rn.f32.f64 %f2, %x; st.global.v4.b32 [%d1], {%r1, %r2, %f1, %f2}; ret; }";
    let of = |bytes: &[u8]| Argument::Value(bytes.to_vec());
    let inner = Argument::Struct(vec![of(&7u16.to_le_bytes()), Argument::Uninitialized(16)]);
    let fields = vec![of(&[5]), of(&2.5f64.to_le_bytes()), inner, of(&0.5f32.to_le_bytes())];
    let one = Trial { launch: Launch::linear(1, 1), ..trial(ptx, &[Argument::Struct(fields.clone())]) };
    let outcome = one.run().expect("no fault");
    let expected: Vec<u8> =
        [5, 7, 0.5f32.to_bits(), 2.5f32.to_bits()].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!((outcome.buffers, outcome.names), (vec![expected], vec!["argument 0.2.1".to_owned()]));
    let short = Argument::Struct(fields[..3].to_vec());
    let error = Trial { arguments: vec![short], ..one }.run().expect_err("32 bytes").to_string();
    assert!(error.contains("p: 40 bytes") && error.contains("32 bytes, with its fields at [0, 8, 16]"), "{error}");
}

#[test]
fn a_checker_is_left_out_when_told() {
    let ptx = kernel("st.global.u32 [%d3+4], %r4;");
    let checks = Checks::without(["bounds"]).expect("a checker");
    let unchecked = Trial { checks, ..trial(&ptx, &[value(7), Argument::Uninitialized(256)]) };
    assert!(unchecked.run().is_ok());
}

#[test]
fn a_result_that_depends_on_the_order_is_found() {
    let ptx = kernel("atom.global.add.u32 %r5, [%d1], 1; add.u64 %d3, %d3, 4; st.global.u32 [%d3], %r5;");
    let outcome = trial(&ptx, &[value(7), Argument::Buffer(vec![0; 260])]).run().expect("no fault");
    let difference = outcome.difference.expect("tickets are drawn in any order");
    assert!(difference.seed > 0 && difference.buffer == 0 && difference.byte >= 4, "{difference:?}");
}

#[test]
fn seeds_try_every_completion_unless_one_is_given() {
    // Reads what a copy that nobody waited for has written so far: NaN when it is late.
    let ptx = kernel(
        "{ .shared .align 4 .b32 s[32]; mov.u32 %r5, s; mad.lo.u32 %r5, %r2, 4, %r5;
        cp.async.ca.shared.global [%r5], [%d3], 4; ld.shared.u32 %r6, [%r5]; cp.async.wait_all; st.global.u32 [%d3], %r6; }",
    );
    let arguments = [value(7), Argument::Buffer(vec![1; 256])];
    let checks = Checks { pending_copies: false, ..Checks::default() };
    let by_seed = Trial { checks, ..trial(&ptx, &arguments) };
    let outcome = by_seed.run().expect("no fault");
    assert_eq!((outcome.buffers[0].clone(), outcome.difference.map(|found| found.seed)), (vec![255; 256], Some(1)));
    for (completion, byte) in [(Completion::Late, 255), (Completion::Early, 1)] {
        let outcome = Trial { completion: Some(completion), ..by_seed.clone() }.run().expect("no fault");
        assert_eq!((outcome.buffers[0].clone(), outcome.difference), (vec![byte; 256], None), "{completion}");
    }
    let error = trial(&ptx, &arguments).run().expect_err("nobody waited").to_string();
    assert!(error.ends_with("replay with --seed 0 --completion late"), "{error}");
}

#[test]
fn a_kernel_that_does_not_end_is_given_up_at_its_line() {
    let ptx = kernel("again:\n st.global.u32 [%d1], 1;\n bra again;");
    let launch = Launch::linear(1, 1);
    let endless = Trial { limit: Some(5000), launch, ..trial(&ptx, &[value(7), Argument::Uninitialized(256)]) };
    let error = endless.run().expect_err("it never ends").to_string();
    assert!(error.contains("5000 warp instructions") && error.contains("line 1"), "{error}");
    let ptx = kernel("st.global.u32 [%d3], %r4;");
    let ends = Trial { limit: Some(5000), ..trial(&ptx, &[value(7), Argument::Uninitialized(256)]) };
    assert!(ends.run().is_ok());
    let wide = Trial { launch: Launch::linear(i32::MAX as u32, 1), limit: Some(500), seeds: 1..2, ..endless };
    assert!(wide.run().is_err(), "a seed orders any grid at once");
}

#[test]
fn arguments_must_be_those_of_the_kernel() {
    let ptx = kernel("");
    for wrong in [vec![], vec![value(7)], vec![Argument::Uninitialized(8), Argument::Uninitialized(8)]] {
        let error = trial(&ptx, &wrong).run().expect_err("wrong arguments");
        assert!(matches!(&error, TrialError::Arguments { parameters, .. } if parameters.contains("u64 to")), "{error}");
    }
    let fine = [value(7), Argument::Uninitialized(8)];
    let other = Trial { kernel: "other", ..trial(&ptx, &fine) };
    assert!(other.run().expect_err("no such kernel").to_string().contains("`own`"));
    assert!(Trial { seeds: 0..0, ..trial(&ptx, &fine) }.run().is_err());
    assert!(matches!(trial("{", &fine).run(), Err(TrialError::Syntax { .. })));
}
