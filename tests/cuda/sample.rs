//! Blocks of a planned step on memory that is made when it is read, against the definition of the elements they write.

use g2d::kernels::{Architecture, Library};
use g2d::model::batch::{Reports, Shapes, Source, TextBatch};
use g2d::model::config::Config;
use g2d::program::{Checked, Kernels, Plan, Precision};
use g2d::train::session::step_plan;
use g2d::verify::sample::{Sample, Sampled};

use super::common::ledger;
use super::device;

/// Pairs: more than the tests of single kernels have.
const BATCH: usize = 5;
const TOKENS: usize = 12;

/// The step of the smallest preset, and texts for it.
fn planned(precision: Precision) -> (Checked, TextBatch) {
    let config = Config { warmup_steps: 0, ..Config::preset("micro").expect("a preset") };
    let shapes = Shapes { batch: BATCH, text_len: TOKENS, source: Source::Bytes };
    let kernels = Kernels::Cuda(Architecture::default());
    let plan = step_plan(&config, &shapes, Reports::Tokens, precision, kernels).expect("it can be planned");
    let lengths: Vec<usize> = (0..BATCH).map(|text| TOKENS - text).collect();
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|at: usize| (at % config.vocab_size) as i32).collect();
    let texts = TextBatch::pack(&tokens, &lengths, TOKENS, &config).expect("they fit");
    (plan, texts)
}

fn sampled(plan: &Plan, texts: &TextBatch, library: &Library) -> Vec<Sampled> {
    Sample { plan, texts, library, seed: 3 }.run(&|_, _| {})
}

fn failures(lines: &[Sampled]) -> Vec<String> {
    let failed = lines.iter().filter_map(|line| Some((line, line.failure.as_ref()?)));
    failed.map(|(line, what)| format!("{} {} {}: {what}", line.scope, line.op, line.kernel)).collect()
}

#[test]
fn blocks_of_a_planned_step_agree_with_the_definition() {
    let (mut blocks, mut elements, mut kernels) = (0, 0, 0);
    for precision in [Precision::Exact, Precision::Mixed] {
        let (plan, texts) = planned(precision);
        let lines = sampled(&plan, &texts, &device::library());
        assert_eq!(failures(&lines), [""; 0]);
        let mut covered: Vec<usize> = lines.iter().flat_map(|line| line.launches.clone()).collect();
        covered.sort_unstable();
        covered.dedup();
        assert_eq!(covered, (0..plan.launches.len()).collect::<Vec<_>>(), "every launch is some line's");
        for op in ["conv2d.fwd", "conv2d.dgrad", "conv2d.wgrad", "linear.fwd", "attention.fwd", "adamw", "max_pool.bwd"]
        {
            assert!(lines.iter().any(|line| line.op == op && line.elements > 0), "{op} is not compared");
        }
        blocks += lines.iter().map(|line| line.blocks).sum::<usize>();
        elements += lines.iter().map(|line| line.elements).sum::<usize>();
        kernels += lines.len();
    }
    ledger::ran(
        "emulated",
        format!("{blocks} blocks of {kernels} kernels of a planned step, {elements} elements compared"),
    );
}

/// Each is a text of a kernel that is replaced, and what by; each has to make a launch of that op fail.
#[test]
fn a_kernel_that_is_wrong_is_caught() {
    let faults = [
        ("conv2d.fwd", "conv2d_fwd_f32_128x64_sm80", "fma.rn.f32", "sub.rn.f32"),
        ("linear.wgrad", "linear_wgrad_f32_any_sm80", "fma.rn.f32", "sub.rn.f32"),
        ("accumulate.add", "accumulate_add_f32_eights_sm80", "fma.rn.f32", "sub.rn.f32"),
        ("adamw", "adamw_update_f32_sm80", "sqrt.rn.f32", "abs.f32"),
    ];
    let (plan, texts) = planned(Precision::Exact);
    for (op, symbol, from, to) in faults {
        let mut library = device::library();
        let (path, text) = library.find(symbol).map(|(text, _)| (text.path.clone(), text.ptx.clone())).expect(symbol);
        let (before, kernel) = text.split_at(text.find(&format!(".entry {symbol}")).expect("its entry"));
        // A product and a sum take other operands: three become two.
        let faulty = match from {
            "fma.rn.f32" => without_last_operand(kernel, from, to),
            _ => kernel.replace(from, to),
        };
        assert_ne!(faulty, kernel, "{symbol} has no `{from}`");
        library.replace(&path, format!("{before}{faulty}")).expect("a text with other instructions");
        let mut launches = Plan::clone(&plan);
        launches.launches.retain(|launch| launch.op.name() == op);
        assert!(!failures(&sampled(&launches, &texts, &library)).is_empty(), "{op} with `{to}` passes");
    }
}

/// Every `from` with its last operand as `to` without it.
fn without_last_operand(text: &str, from: &str, to: &str) -> String {
    let line = |line: &str| match line.contains(from) {
        true => line.replace(from, to).rsplit_once(',').map_or(String::new(), |(before, _)| format!("{before};")),
        false => line.to_owned(),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}
