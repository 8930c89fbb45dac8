//! What `g2d bench counters` counts: known work, what is committed, and that a kernel which does more is caught.
//! `G2D_BLESS=1 cargo test --release --test counters` writes the files of `small` in benches/results anew.
#![cfg(feature = "cli")]

mod common;

use std::path::Path;
use std::process::Command;

use common::ledger;
use g2d::base::{Kind, Real, Spec};
use g2d::bench::counters::baseline::{self, grown};
use g2d::bench::counters::roofline::Chip;
use g2d::bench::counters::{Line, Report, Work, plan, run};
use g2d::kernels::{Architecture, Library};
use g2d::model::batch::Reports;
use g2d::model::config::Config;
use g2d::ops::accumulate::Accumulate;
use g2d::ops::attention::Attention;
use g2d::ops::conv2d::{self, Conv2d};
use g2d::ops::gelu::Gelu;
use g2d::ops::leaky_relu::LeakyRelu;
use g2d::ops::linear::{Linear, Pass};
use g2d::program::{self, Checked, Kernels, Plan, Precision, Recorder, StateLayout, Value};

/// What is committed of the plan that the default suite counts, for each architecture.
const COMMITTED: [(&str, &str); 2] =
    [("sm_80", "benches/results/counters-small.json"), ("sm_90a", "benches/results/counters-small-sm90a.json")];

fn micro() -> (Work, Checked) {
    let config = Config { warmup_steps: 0, ..Config::preset("micro").expect("a preset") };
    let chip = Chip::of("h200").expect("it is known");
    let (reports, architecture) = (Reports::Tokens, Architecture::Sm80);
    let work = Work { config, batch: 4, text_length: 16, reports, precision: Precision::Mixed, chip, architecture };
    let plan = plan(&work).expect("it can be planned");
    (work, plan)
}

/// Some launches of the smallest plan, with these kernels.
fn counted(op: &str, library: &Library) -> Report {
    let (work, whole) = micro();
    let mut some = Plan::clone(&whole);
    some.launches.retain(|launch| launch.op.name() == op);
    assert!(!some.launches.is_empty(), "there is no {op}");
    run(&work, &some, library, &|_, _| {}).expect("it can be counted")
}

#[test]
fn known_work_is_counted() {
    let shipped = Library::shipped();
    for line in counted("accumulate.add", &shipped).lines {
        // Every byte once, in whole sectors.
        let sectors = line.floor_bytes.div_ceil(32);
        assert_eq!(line.calls.len(), 1);
        let call = &line.calls[0];
        let most = sectors + sectors / 20 + 4;
        assert!((sectors..=most).contains(&call.sectors), "{} sectors, floor {sectors}", call.sectors);
        assert_eq!((call.tensor_flops, call.conflicts, call.spilled), (0, 0, Some(0)));
        assert_eq!(call.device_bytes, call.distinct_bytes);
    }
    // AdamW's own formula has so many operations for a number (three of them divisions or roots).
    let lines = counted("adamw", &shipped).lines;
    let line = &lines[0];
    let per_number = line.sum(|call| call.flops) as f64 / (line.floor_flops as f64);
    assert!((0.5..2.0).contains(&per_number), "{per_number} of the definition's FLOP");
}

#[test]
fn the_sums_are_those_of_the_launches() {
    let (work, whole) = micro();
    let mut some = Plan::clone(&whole);
    some.launches.retain(|launch| launch.op.name().starts_with("layer_norm"));
    let report = run(&work, &some, &Library::shipped(), &|_, _| {}).expect("it can be counted");
    let sum =
        |of: &dyn Fn(&Line) -> u64| report.lines.iter().map(|line| line.launches.len() as u64 * of(line)).sum::<u64>();
    assert_eq!(report.totals.launches, some.launches.len());
    assert_eq!(report.totals.floor_bytes, sum(&|line| line.floor_bytes));
    assert_eq!(report.totals.device_bytes, sum(&|line| line.sum(|call| call.device_bytes)));
    assert_eq!(report.totals.sector_bytes, 32 * sum(&|line| line.sum(|call| call.sectors)));
    let predicted: f64 = report.lines.iter().map(|line| line.launches.len() as f64 * line.predicted_us()).sum();
    let step = report.totals.predicted.iter().find(|step| step.chip == "h200").expect("every chip is told");
    // Times of launches are written down to a nanosecond, so each is half of one off at most; a hundredth more for the sum's own
    // rounding.
    let bound = 1.01 * 0.5e-3 * report.totals.kernels as f64;
    assert!((1e6 * step.seconds - predicted).abs() <= bound, "{step:?} {predicted}, {bound} at most");
    assert!(step.seconds > step.floor_seconds);
}

/// What the kernels of one linear map of 16 384 rows, 768 x 768, are counted to do: an attention projection of 64 texts.
fn projection(pass: Pass, architecture: Architecture) -> Line {
    const ROWS: usize = 1 << 14;
    let (work, _) = micro();
    let work = Work { architecture, ..work };
    let mut r = Recorder::new();
    let rows = r.input("rows", Spec::activation([ROWS, 768]));
    let other = if pass == Pass::Wgrad { [ROWS, 768] } else { [768, 768] };
    let other = r.input("other", Spec::activation(other));
    let made = r.one(Linear { pass, ..Linear::fwd() }, &[rows, other]).expect("they fit");
    r.output("made", made);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let plan = g2d::program::plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels");
    let mut lines = run(&work, &plan, &Library::shipped(), &|_, _| {}).expect("it can be counted").lines;
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

/// benches/NOTES.md has the table, of four times as many rows.
#[test]
fn products_for_hopper_take_less_and_conflict_nowhere() {
    for pass in [Pass::Fwd, Pass::Dgrad, Pass::Wgrad] {
        let [old, new] = [Architecture::Sm80, Architecture::Sm90a].map(|of| projection(pass, of));
        assert_eq!((&*old.kernel, &*new.kernel), ("mma", "wgmma"));
        for line in [&old, &new] {
            println!(
                "{} {}: floor {} MB, device {:.2} of it, touched {} MB, L1 {} MB, {} k instructions, {} conflicts, {:?} registers, \
                 {:.1} us",
                line.op,
                line.kernel,
                line.floor_bytes / 1_000_000,
                line.sum(|call| call.device_bytes) as f64 / line.floor_bytes as f64,
                line.sum(|call| call.touched_bytes) / 1_000_000,
                line.sum(|call| 32 * call.sectors) / 1_000_000,
                line.sum(|call| call.warp_instructions) / 1000,
                line.sum(|call| call.conflicts),
                line.calls[0].registers,
                line.predicted_us(),
            );
        }
        assert!(new.predicted_us() < 0.8 * old.predicted_us());
        // The gradient of a weight writes partial sums too.
        if pass != Pass::Wgrad {
            assert!(new.sum(|call| call.device_bytes) as f64 <= 1.3 * new.floor_bytes as f64);
        }
        assert_eq!((new.calls[0].conflicts, new.calls[0].spilled), (0, Some(0)));
        // Tiles are whole, so what is multiplied is what the definition asks for; blocks have two tiles or three, and some stand for all.
        let multiplied = new.calls[0].tensor_flops as f64 / new.floor_flops as f64;
        assert!((multiplied - 1.0).abs() < 0.05, "{multiplied}");
    }
}

/// What stands behind a product.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Sum,
    GeluSlope,
    Gelu,
}

/// A linear map of 64 reports of 256 tokens, 768 x 768, or its gradient by its input, and what is behind it. Where its result is also read
/// before that, they are two launches.
fn with_epilogue(behind: Behind, read_besides: bool, architecture: Architecture) -> Vec<Line> {
    const REPORTS: usize = 64;
    let (work, _) = micro();
    let work = Work { config: Config::default(), batch: REPORTS, text_length: 256, architecture, ..work };
    let mut r = Recorder::new();
    let [dy, before] = ["dy", "before"].map(|name| r.input(name, Spec::activation([256 * REPORTS, 768])));
    let weight = r.input("weight", Spec::activation([768, 768]));
    let offsets = r.input("offsets", Spec::index([REPORTS + 1]));
    let pass = if matches!(behind, Behind::Gelu) { Pass::Fwd } else { Pass::Dgrad };
    let result = r.one(Linear { pass, ..Linear::fwd().packed() }, &[dy, weight, offsets]).expect("they fit");
    if read_besides {
        let read = r.one(LeakyRelu::fwd(0.5), &[result]).expect("it fits");
        r.output("read", read);
    }
    let made = match behind {
        // What is added to has to be computed, or it would not be overwritten.
        Behind::Sum => {
            let before = r.one(LeakyRelu::fwd(0.5), &[before]).expect("it fits");
            r.one(Accumulate::Add { scale: Real(1.0) }, &[before, result])
        }
        Behind::GeluSlope => r.one(Gelu::Bwd, &[result, before, offsets]),
        Behind::Gelu => r.one(Gelu::Fwd, &[result, offsets]),
    };
    r.output("made", made.expect("they fit"));
    if matches!(behind, Behind::Gelu) {
        // Its gradient reads it.
        r.output("result", result);
    }
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let plan = g2d::program::plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels");
    let lines = run(&work, &plan, &Library::shipped(), &|_, _| {}).expect("it can be counted").lines;
    lines.into_iter().filter(|line| line.op != "leaky_relu.fwd").collect()
}

/// benches/NOTES.md has what it is worth to a step.
#[test]
fn what_a_product_does_in_its_epilogue_costs_less_than_by_itself() {
    for (behind, architecture) in [Behind::Sum, Behind::GeluSlope, Behind::Gelu]
        .into_iter()
        .flat_map(|behind| [Architecture::Sm80, Architecture::Sm90a].map(|of| (behind, of)))
    {
        let [joined, apart] = [false, true].map(|read_besides| with_epilogue(behind, read_besides, architecture));
        assert_eq!((joined.len(), apart.len()), (1, 2));
        let line = &joined[0];
        println!(
            "{architecture} {behind:?} by {}: floor {} MB, device {:.2} of it, {} k instructions (product {}), {:.1} us, apart {:.1} + {:.1}",
            line.kernel,
            line.floor_bytes / 1_000_000,
            line.sum(|call| call.device_bytes) as f64 / line.floor_bytes as f64,
            line.sum(|call| call.warp_instructions) / 1000,
            apart[0].sum(|call| call.warp_instructions) / 1000,
            line.predicted_us(),
            apart[0].predicted_us(),
            apart[1].predicted_us(),
        );
        assert!(line.predicted_us() < apart[0].predicted_us() + 0.5 * apart[1].predicted_us());
        assert!(line.sum(|call| call.device_bytes) as f64 <= 1.1 * line.floor_bytes as f64);
        assert_eq!((line.sum(|call| call.conflicts), line.calls[0].spilled), (0, Some(0)));
    }
}

/// A convolution of 32 images of 16 x 16 pixels, 256 to 256 channels, and its gradients: a layer of ResNet in an eighth of a batch.
fn neighbourhood(pass: conv2d::Pass, architecture: Architecture) -> Line {
    let (work, _) = micro();
    let work = Work { architecture, ..work };
    let mut r = Recorder::new();
    let pixels = r.input("pixels", Spec::activation([32, 16, 16, 256]));
    let other = if pass == conv2d::Pass::Wgrad { [32, 16, 16, 256] } else { [256, 3, 3, 256] };
    let other = r.input("other", Spec::activation(other));
    let output = if pass == conv2d::Pass::Wgrad { Kind::Exact } else { Kind::Activation };
    let made = r.one(Conv2d { pass, output, ..Conv2d::fwd(3) }, &[pixels, other]).expect("they fit");
    r.output("made", made);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let plan = g2d::program::plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels");
    run(&work, &plan, &Library::shipped(), &|_, _| {}).expect("it can be counted").lines.remove(0)
}

#[test]
fn convolutions_for_hopper_take_less_and_conflict_nowhere() {
    for pass in [conv2d::Pass::Fwd, conv2d::Pass::Dgrad { height: 16, width: 16, channels: 256 }, conv2d::Pass::Wgrad] {
        let [old, new] = [Architecture::Sm80, Architecture::Sm90a].map(|of| neighbourhood(pass, of));
        // By `mma.sync` both, the second of which is not bound by issue.
        let most = match old.kernel.as_str() {
            "gather" => 0.6,
            conv2d::HALO => 0.9,
            other => panic!("{other} for sm_80"),
        };
        assert!(new.kernel.starts_with("im2col"), "{} {}", old.kernel, new.kernel);
        println!(
            "{}: {:.1} us by {}, {:.1} us by {}",
            new.op,
            old.predicted_us(),
            old.kernel,
            new.predicted_us(),
            new.kernel
        );
        assert!(new.predicted_us() < most * old.predicted_us(), "{} {}", new.predicted_us(), old.predicted_us());
        assert_eq!((new.calls[0].conflicts, new.calls[0].spilled), (0, Some(0)));
        let multiplied = new.calls[0].tensor_flops as f64 / new.floor_flops as f64;
        assert!((multiplied - 1.0).abs() < 0.05, "{multiplied}");
    }
}

/// The first convolution of `full`, of 256 images, or its gradient by weights.
fn stem(pass: conv2d::Pass) -> Line {
    let (work, _) = micro();
    let mut r = Recorder::new();
    let wgrad = pass == conv2d::Pass::Wgrad;
    let (x, w, y) = ([256, 256, 256, 3], [64, 7, 7, 3], [256, 128, 128, 64]);
    let [first, second] = (if wgrad { [y, x] } else { [x, w] }).map(Spec::activation);
    let inputs = [r.input("first", first), r.input("second", second)];
    let output = if wgrad { Kind::Exact } else { Kind::Activation };
    let made = r.one(Conv2d { pass, output, ..Conv2d::fwd(7).stride(2).padding(3) }, &inputs).expect("they fit");
    r.output("made", made);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let plan = g2d::program::plan(program, &states, Kernels::Cuda(Architecture::Sm80)).expect("there are kernels");
    run(&work, &plan, &Library::shipped(), &|_, _| {}).expect("it can be counted").lines.remove(0)
}

/// benches/NOTES.md has the figures.
#[test]
fn the_stem_multiplies_few_zeros_and_conflicts_nowhere() {
    for pass in [conv2d::Pass::Fwd, conv2d::Pass::Wgrad] {
        let line = stem(pass);
        assert_eq!(line.kernel, conv2d::STEM);
        for call in &line.calls {
            println!(
                "{}: {} k instructions, {:.3} of the floor through L1, device {:.3}, {} conflicts, {:?} registers, {:.1} us by {:?}",
                call.symbol,
                call.warp_instructions / 1000,
                32.0 * call.sectors as f64 / line.floor_bytes as f64,
                call.device_bytes as f64 / line.floor_bytes as f64,
                call.conflicts,
                call.registers,
                call.predicted_us,
                call.bound
            );
            assert_eq!((call.conflicts, call.spilled), (0, Some(0)), "{}", call.symbol);
        }
        assert!(line.sum(|call| 32 * call.sectors) as f64 <= 1.3 * line.floor_bytes as f64);
        // A window of 147 numbers is 21 eights and one to make pairs.
        let multiplied = line.sum(|call| call.tensor_flops) as f64 / line.floor_flops as f64;
        assert!((multiplied - 176.0 / 147.0).abs() < 0.05, "{multiplied}");
        assert!(line.predicted_us() < 230.0, "{}", line.predicted_us());
    }
}

/// Attention of 22 reports of 256 tokens, 12 heads of 64 features, and its gradient: two heads for each multiprocessor.
fn attention(pass: program::Pass, architecture: Architecture) -> Line {
    const REPORTS: usize = 22;
    let (work, _) = micro();
    let work = Work { config: Config::default(), batch: REPORTS, text_length: 256, architecture, ..work };
    let mut r = Recorder::new();
    let x = Spec::activation([256 * REPORTS, 768]);
    let mut inputs: Vec<Value> = ["q", "k", "v"].map(|name| r.input(name, x)).into();
    if pass == program::Pass::Bwd {
        inputs.insert(0, r.input("d_context", x));
        inputs.push(r.input("context", x));
        inputs.push(r.input("lse", Spec::exact([256 * REPORTS, 12])));
    }
    inputs.push(r.input("offsets", Spec::index([REPORTS + 1])));
    inputs.push(r.input("lengths", Spec::index([REPORTS])));
    let made = r.node(Attention { pass, heads: 12 }, &inputs).expect("they fit");
    made.iter().zip(["a", "b", "c"]).for_each(|(&made, name)| r.output(name, made));
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let plan = g2d::program::plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels");
    run(&work, &plan, &Library::shipped(), &|_, _| {}).expect("it can be counted").lines.remove(0)
}

#[test]
fn attention_for_hopper_takes_less_and_conflicts_nowhere() {
    for (pass, most) in [(program::Pass::Fwd, 0.5), (program::Pass::Bwd, 0.4)] {
        let [old, new] = [Architecture::Sm80, Architecture::Sm90a].map(|of| attention(pass, of));
        assert_eq!((&*old.kernel, &*new.kernel), ("tiles", "warpgroups"));
        for line in [&old, &new] {
            println!(
                "{} {}: floor {:.1} MB, device {:.2} of it, L1 {} MB, {} k instructions, {} conflicts, {:?} registers, {:.1} us, {:?}",
                line.op,
                line.kernel,
                line.floor_bytes as f64 / 1e6,
                line.sum(|call| call.device_bytes) as f64 / line.floor_bytes as f64,
                line.sum(|call| 32 * call.sectors) / 1_000_000,
                line.sum(|call| call.warp_instructions) / 1000,
                line.sum(|call| call.conflicts),
                line.calls[0].registers,
                line.predicted_us(),
                line.calls[0].bound,
            );
        }
        assert!(new.predicted_us() < most * old.predicted_us(), "{} {}", new.predicted_us(), old.predicted_us());
        assert!(new.sum(|call| call.device_bytes) as f64 <= 1.05 * new.floor_bytes as f64);
        assert_eq!((new.calls[0].conflicts, new.calls[0].spilled), (0, Some(0)));
    }
}

/// A text of a kernel with every line that holds `what` twice.
fn doubled(library: &Library, symbol: &str, what: &str) -> Library {
    let (path, text) = library.find(symbol).map(|(text, _)| (text.path.clone(), text.ptx.clone())).expect(symbol);
    let (before, kernel) = text.split_at(text.find(&format!(".entry {symbol}")).expect("its entry"));
    let twice = |line: &str| if line.contains(what) { format!("{line}\n{line}\n") } else { format!("{line}\n") };
    let doubled: String = kernel.lines().map(twice).collect();
    let mut changed = library.clone();
    changed.replace(&path, format!("{before}{doubled}")).expect("a text with more instructions");
    changed
}

#[test]
fn a_kernel_that_does_more_is_caught() {
    let shipped = Library::shipped();
    for (op, symbol, what, figure) in [
        ("accumulate.add", "accumulate_add_bf16_eights_sm80", "ld.global", "sectors"),
        ("accumulate.add", "accumulate_add_bf16_eights_sm80", "fma.rn", "FLOP"),
        ("accumulate.add", "accumulate_add_bf16_eights_sm80", "fma.rn", "warp instructions"),
        // Of a product whose epilogue does as much for any numbers, wrong ones too.
        ("conv2d.fwd", "matmul_mma_bf16_64x64_sm80", "mma.sync", "tensor FLOP"),
    ] {
        let before = counted(op, &shipped).lines;
        assert_eq!(grown(&before, &counted(op, &shipped).lines), [""; 0], "counts are the same every time");
        let after = counted(op, &doubled(&shipped, symbol, what)).lines;
        let worse = grown(&before, &after);
        assert!(
            worse.iter().any(|line| line.contains(symbol) && line.contains(figure)),
            "{op}, {what} twice: {worse:?}"
        );
        assert_eq!(grown(&after, &before), [""; 0], "less is no step back");
    }
}

#[test]
fn a_file_that_does_not_fit_the_plan_is_told() {
    let lines = counted("accumulate.add", &Library::shipped()).lines;
    let mut other = lines.clone();
    other[0].calls[0].symbol = "another".into();
    let worse = grown(&other, &lines).join("\n");
    assert!(
        worse.contains("not among the committed") && worse.contains("another") && worse.contains("no longer"),
        "{worse}"
    );
    let mut spilled = lines.clone();
    spilled[0].calls[0].spilled = Some(8);
    spilled[0].calls[0].conflicts += 1;
    let worse = grown(&lines, &spilled).join("\n");
    assert!(worse.contains("8 bytes spilled, 0 are") && worse.contains("1 conflicts, 0 are"), "{worse}");
    let mut often = lines.clone();
    often[0].launches.push(99);
    let worse = grown(&lines, &often).join("\n");
    assert!(worse.contains(" launches, ") && worse.lines().count() == 1, "{worse}");
    for (text, why) in [("", "it is empty"), ("{}\n", "line 1 is not"), ("no", "line 1 is not")] {
        let error = baseline::read(text).expect_err("no counts").to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Runs the command in the repository.
fn command(line: &str) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_g2d"))
        .args(line.split_whitespace())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// By the command, as it is written down in the files.
#[test]
fn no_count_of_the_small_plan_has_grown() {
    for (target, file) in COMMITTED {
        let line = format!("bench counters --preset small --batch 8 --text-len 64 --target {target} --json");
        if std::env::var_os("G2D_BLESS").is_some() {
            let (code, out, errors) = command(&line);
            assert_eq!(code, Some(0), "{errors}");
            std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), out).expect("the file can be written");
            continue;
        }
        let (code, out, errors) = command(&format!("{line} --against {file}"));
        assert_eq!(code, Some(0), "{errors}\nG2D_BLESS=1 writes {file} anew, if this is as it should be");
        let (head, lines) = baseline::read(&out).expect("the command writes what it reads");
        let (kernels, launches) = (lines.iter().map(|line| line.calls.len()).sum::<usize>(), head.totals.launches);
        ledger::ran(
            "emulated",
            format!("{launches} launches for {target} counted, none more than is committed ({kernels} kernels)"),
        );
    }
}

#[test]
fn what_cannot_be_counted_is_refused_in_one_sentence() {
    for (line, words) in [
        ("bench counters --preset micro --text-len 100000 --batch 1", "max_positions"),
        ("bench counters --preset micro --batch 0", "batch"),
        ("bench counters --preset micro --against no/such/file", "no/such/file"),
        ("bench counters --preset micro --against Cargo.toml", "line 1 is not of a file of counts"),
        ("bench counters --chip h300", "h300"),
        ("bench scaling --preset micro --batches 2 --text-lens 100000", "max_positions"),
    ] {
        let (code, out, errors) = command(line);
        assert_eq!((code, errors.trim_end().lines().count()), (Some(2), 1), "{line}: {out}{errors}");
        assert!(errors.contains(words), "{line}: {errors}");
    }
}

#[test]
fn scaling_says_what_was_run_and_what_only_planned() {
    let run = |line: &str| {
        let (code, out, errors) = command(&format!("bench scaling --preset micro {line} --json"));
        assert_eq!(code, Some(0), "{errors}");
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    };
    let rows = run("--batches 2,4 --text-lens 8,16 --steps 1 --threads 1");
    let sizes: Vec<_> = rows.iter().map(|row| (row["batch"].as_u64(), row["text_len"].as_u64())).collect();
    assert_eq!(sizes, [(2, 8), (4, 8), (2, 16), (4, 16)].map(|(batch, length)| (Some(batch), Some(length))));
    assert!(rows.iter().all(|row| row["measured"]["samples_per_s"].as_f64().is_some_and(|rate| rate > 0.0)));
    let bytes = |row: &serde_json::Value| row["planned_bytes"].as_u64().expect("a number");
    assert!(bytes(&rows[1]) > bytes(&rows[0]) && bytes(&rows[2]) >= bytes(&rows[0]));
    let rows = run("--batches 64 --plan-only");
    assert!(rows[0]["measured"].is_null() && rows[0]["not_run"] == "planned only", "{rows:?}");
}
