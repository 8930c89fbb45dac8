//! `g2d bench`: what it reports belongs together, and what it writes is gone afterwards. Nothing here depends on how fast
//! the machine is.
#![cfg(feature = "cli")]

use std::process::Command;
use std::time::Duration;

use g2d::bench::loader::{self, Synthetic};
use g2d::bench::{Spread, kernels, step};
use g2d::model::config::Config;
use g2d::program::Precision;
use g2d::train::Device;
use serde_json::Value;

fn micro() -> step::Work {
    step::Work {
        config: Config::preset("micro").unwrap(),
        batch: 2,
        text_length: 8,
        real_tokens: None,
        precision: Precision::Exact,
        device: Device::Cpu,
        threads: 1,
        launch_by_launch: false,
        text_cache: false,
    }
}

#[test]
fn a_report_of_the_step_belongs_together() {
    let report = step::run(&micro(), 1, 3).unwrap();
    let sum = |of: fn(&step::OpTime) -> f64| report.ops.iter().map(of).sum::<f64>();
    assert!((sum(|op| op.percent) - 100.0).abs() < 1e-6, "{}", sum(|op| op.percent));
    assert_eq!(report.ops.iter().map(|op| op.launches).sum::<usize>(), report.launches.len());
    assert!((report.samples_per_s * report.step_s.median - 2.0).abs() < 1e-9);
    assert!(report.step_s.lower <= report.step_s.median && report.step_s.median <= report.step_s.upper);
    assert!(report.floor_s.is_some_and(|floor| floor > 0.0 && floor.is_finite()));
    assert_eq!(report.threads, 1);
}

#[test]
fn every_kind_of_kernel_in_a_step_is_timed_once() {
    let report = kernels::run(&micro()).unwrap();
    let kinds: Vec<(&str, &str)> = report.kernels.iter().map(|kernel| (&*kernel.op, &*kernel.kernel)).collect();
    let step = step::run(&micro(), 0, 1).unwrap();
    let mut of_step: Vec<(&str, &str)> = step.ops.iter().map(|op| (&*op.op, &*op.kernel)).collect();
    of_step.sort_unstable();
    assert_eq!(kinds, of_step);
    assert_eq!(report.kernels.iter().map(|kernel| kernel.launches).sum::<usize>(), step.launches.len());
    let ceilings = report.ceilings.expect("a processor has ceilings");
    for kernel in &report.kernels {
        let per_second = kernel.flops as f64 / kernel.seconds.median;
        let percent = kernel.percent_multiply_add.unwrap() / 100.0 * ceilings.multiply_add_gflops * 1e9;
        assert!(kernel.seconds.median > 0.0 && (per_second - percent).abs() <= 1e-6 * per_second, "{kernel:?}");
    }
}

#[test]
fn a_spread_has_its_quartiles() {
    let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
    assert_eq!((spread.lower, spread.median, spread.upper), (2.0, 3.0, 4.0));
}

#[test]
fn the_loader_gives_batches_of_random_films() {
    let films = Synthetic::write(16).unwrap();
    let work = loader::Work { data: films.path().to_owned(), batch: 4, image_size: 8, threads: 2 };
    let batch = loader::open(&work).unwrap().next().unwrap().unwrap();
    assert_eq!((batch.pixels.len(), batch.lengths.len()), (4 * 8 * 8, 4));
    let report = loader::run(&work, Duration::ZERO).unwrap();
    assert!(report.samples_per_s.median > 0.0 && report.films == 4096);
    for impossible in [loader::Work { batch: 0, ..work.clone() }, loader::Work { image_size: 17, ..work.clone() }] {
        assert!(loader::run(&impossible, Duration::ZERO).is_err(), "{impossible:?}");
    }
    let folder = films.path().to_owned();
    drop(films);
    assert!(!folder.exists());
}

/// Runs the command; exit code, output, errors.
fn command(line: &str, folder: &std::path::Path) -> (Option<i32>, String, String) {
    let binary = env!("CARGO_BIN_EXE_g2d");
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(binary);
    let done = command.args(line.split(' ')).env("TMPDIR", folder).current_dir(root).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_step_is_measured_with_all_that_identifies_it() {
    let folder = std::env::temp_dir();
    let what = "bench step --preset micro --recipe paper --batch 2 --text-len 8 --precision mixed --threads 1";
    let (code, out, errors) = command(&format!("{what} --warmup 0 --steps 1 --json"), &folder);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&out).unwrap();
    let words = ["preset", "recipe", "precision", "version"].map(|key| report[key].as_str().unwrap());
    assert_eq!(words, ["micro", "paper", "mixed", env!("CARGO_PKG_VERSION")]);
    let counts = ["batch", "text_len", "threads", "warmup", "steps"].map(|key| report[key].as_u64().unwrap());
    assert_eq!(counts, [2, 8, 1, 0, 1]);
    assert_eq!(report["first_step_s"], report["step_s"]["median"], "without warm-up the first step is the one timed");
    assert!(report["machine"]["threads"].as_u64().unwrap() >= 1 && report["machine"]["memory"].is_u64());
    if std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() {
        let revision = report["revision"].as_str().unwrap().trim_end_matches("-dirty");
        assert!(revision.len() == 40 && revision.chars().all(|digit| digit.is_ascii_hexdigit()), "{revision}");
    }
    let text = command(&format!("{what} --warmup 1 --steps 2"), &folder).1;
    assert!(text.contains("samples/s on cpu: a step of 2 pairs takes") && text.contains("adamw"), "{text}");
}

#[test]
fn what_cannot_be_measured_is_refused_in_one_sentence() {
    let folder = std::env::temp_dir();
    for (line, words) in [
        ("bench step --preset micro --steps 0", "steps is 0; time at least 1"),
        ("bench step --preset micro --steps none", "'none'"),
        ("bench step --preset full --batch 20000", "training needs about"),
        ("bench step --preset micro --text-len 64", "max_positions"),
        ("bench kernels --preset full --batch 20000", "training needs about"),
    ] {
        let (code, out, errors) = command(line, &folder);
        assert_eq!((code, out.as_str(), errors.trim_end().lines().count()), (Some(2), "", 1), "{line}: {errors}");
        assert!(errors.contains(words), "{line}: {errors}");
    }
}

#[test]
fn the_command_prints_json_and_leaves_nothing() {
    let folder = std::env::temp_dir().join(format!("g2d-bench-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let run = |line: &str| command(line, &folder);
    let (code, out, _) = run("bench loader --size 32 --batch 4 --seconds 0 --threads 1 --json");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["batch"].as_u64(), report["threads"].as_u64()), (Some(0), Some(4), Some(1)));
    let (code, out, _) = run("bench loader --size 0");
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let left = std::fs::read_dir(&folder).unwrap().count();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(left, 0);
}
