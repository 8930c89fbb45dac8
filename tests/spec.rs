//! The training step against the executable specification: the cases in `tests/fixtures/`, which PyTorch computed in
//! float64, and fresh random ones where PyTorch is installed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::fixtures::{Tensor, Tensors, cases, name, read, rms};
use common::ledger;
use g2d::program::{Kernels, Precision};
use g2d::train::Device;
use g2d::train::case;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What f64 may differ by.
const F64_RTOL: f64 = 1e-5;
/// The part of the largest rms of its kind below which a tensor counts as zero: in f64, and in float32.
const F64_FLOOR: f64 = 1e-6;
const FLOAT32_FLOOR: f64 = 1e-4;
/// The specification's measure, `errors` in `tests/oracle/torch_g2d.py`: rms(got - want) / (rms(want) + floor) of
/// every tensor of `want`, the floor being `part` of the largest rms among tensors of its kind (out, grad, ...).
/// Infinite for a tensor that `got` lacks, has in another shape, or fills with what is no number.
fn errors<'a>(want: &'a Tensors, got: &Tensors, part: f64) -> BTreeMap<&'a str, f64> {
    let kind = |name: &'a str| name.split('.').next().unwrap_or(name);
    let mut floor: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, (_, numbers)) in want {
        let floor = floor.entry(kind(name)).or_default();
        *floor = floor.max(part * rms(numbers.iter().copied()));
    }
    let error = |name: &'a str, (shape, want): &Tensor| {
        let Some((_, got)) = got.get(name).filter(|(other, _)| other == shape) else { return f64::INFINITY };
        let difference = rms(want.iter().zip(got).map(|(want, got)| got - want));
        let error = difference / (rms(want.iter().copied()) + floor[kind(name)] + 1e-12);
        if error.is_nan() { f64::INFINITY } else { error }
    };
    want.iter().map(|(name, tensor)| (name.as_str(), error(name, tensor))).collect()
}

/// Tensors beyond what is allowed, and the largest part of it that any one takes up.
fn beyond(errors: &BTreeMap<&str, f64>, allowed: impl Fn(&str) -> f64) -> (Vec<String>, f64) {
    let bad = errors.iter().filter(|&(&name, &error)| {
        let ok = error <= allowed(name);
        !ok
    });
    let bad = bad.map(|(name, error)| format!("{name}: error {error:.2e}, allowed {:.2e}", allowed(name))).collect();
    (bad, errors.iter().map(|(&name, &error)| error / allowed(name)).fold(0.0, f64::max))
}

/// Runs a case; the file it wrote.
fn step(case: &Path, precision: Precision, kernels: Kernels, threads: usize) -> PathBuf {
    on(Device::Cpu, case, precision, kernels, threads)
}

/// Runs a case on a device; the file it wrote.
fn on(device: Device, case: &Path, precision: Precision, kernels: Kernels, threads: usize) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spec");
    fs::create_dir_all(&folder).unwrap();
    let out = folder.join(format!("{}-{}-{device}-{kernels:?}-{threads}.safetensors", name(case), precision.name()));
    let report =
        case::run(case, &out, precision, device, kernels, threads, false).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.total.is_finite());
    out
}

#[test]
fn f64_agrees_on_every_tensor() {
    for case in cases() {
        let want = read(&case.join("expected.safetensors"));
        for kernels in [Kernels::Reference, Kernels::Best] {
            let got = read(&step(&case, Precision::F64, kernels, 0));
            let (bad, part) = beyond(&errors(&want, &got, F64_FLOOR), |_| F64_RTOL);
            assert!(bad.is_empty(), "{}, {kernels:?}: {} tensors:\n{}", name(&case), bad.len(), bad.join("\n"));
            println!(
                "{} f64 {kernels:?}: largest error {:.1e} over {} tensors",
                name(&case),
                part * F64_RTOL,
                want.len()
            );
        }
    }
    ledger::ran("cpu", "f64 within 1e-5 of PyTorch on every tensor of the fixtures, references and best kernels");
}

/// The kernels that run by default agree on every tensor. The references at float32 add up one number after the other:
/// what they lose (about 1e-5 of a loss after three steps) flips a gate of `steps-3`, so only their outputs and losses
/// are held here; as definitions they are held in f64.
#[test]
fn exact_is_within_each_tensors_tolerance() {
    for case in cases() {
        let want = read(&case.join("expected.safetensors"));
        let text = fs::read_to_string(case.join("tolerance.json")).unwrap();
        let tolerance: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
        for kernels in [Kernels::Reference, Kernels::Best] {
            let got = read(&step(&case, Precision::Exact, kernels, 0));
            let mut errors = errors(&want, &got, FLOAT32_FLOOR);
            errors.retain(|name, _| kernels == Kernels::Best || name.starts_with("out.") || name.starts_with("loss."));
            let (bad, part) = beyond(&errors, |name| tolerance[name]);
            assert!(bad.is_empty(), "{}, {kernels:?}: {} tensors:\n{}", name(&case), bad.len(), bad.join("\n"));
            println!("{} exact {kernels:?}: at most {part:.3} of what is allowed", name(&case));
        }
    }
    ledger::ran("cpu", "fp32 within tolerance.json on every tensor of the fixtures, best kernels");
}

/// Numbers of schedules of the emulated device.
const SCHEDULES: [u64; 2] = [1, 2];

/// The PTX that ships, on the emulated device with every checker: whole steps of every recipe, and the same bits on two
/// schedules.
#[test]
fn exact_on_the_emulated_cuda_device() {
    for case in cases() {
        let want = read(&case.join("expected.safetensors"));
        let text = fs::read_to_string(case.join("tolerance.json")).unwrap();
        let tolerance: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
        let [one, other] =
            SCHEDULES.map(|number| on(Device::CudaEmulated(number), &case, Precision::Exact, Kernels::Best, 1));
        let got = read(&one);
        let (bad, part) = beyond(&errors(&want, &got, FLOAT32_FLOOR), |name| tolerance[name]);
        assert!(bad.is_empty(), "{}: {} tensors:\n{}", name(&case), bad.len(), bad.join("\n"));
        let same = fs::read(one).unwrap() == fs::read(other).unwrap();
        assert!(same, "{}: schedules {SCHEDULES:?} give other bits", name(&case));
        println!("{} exact on cuda-emulated: at most {part:.3} of what is allowed", name(&case));
    }
    ledger::ran(
        "emulated",
        "whole steps of the fixtures in fp32 within tolerance.json, the same bits on two schedules",
    );
}

/// What `tests/mixed.rs` holds to the tolerance rule.
#[test]
fn mixed_gives_the_same_bits_on_every_schedule_of_the_emulated_device() {
    for case in cases() {
        let [one, other] = SCHEDULES.map(|number| {
            fs::read(on(Device::CudaEmulated(number), &case, Precision::Mixed, Kernels::Best, 1)).unwrap()
        });
        assert!(one == other, "{}: schedules {SCHEDULES:?} give other bits", name(&case));
    }
    ledger::ran("emulated", "whole steps of the fixtures in mixed, the same bits on two schedules");
}

#[test]
fn threads_and_repetition_change_no_bit() {
    for case in cases() {
        for precision in [Precision::F64, Precision::Exact, Precision::Mixed] {
            let one = fs::read(step(&case, precision, Kernels::Best, 1)).unwrap();
            for threads in [2, 3] {
                let more = fs::read(step(&case, precision, Kernels::Best, threads)).unwrap();
                assert!(one == more, "{} {}: {threads} threads give other bits", name(&case), precision.name());
            }
            let again = fs::read(step(&case, precision, Kernels::Best, 1)).unwrap();
            assert!(one == again, "{} {}: another run gives other bits", name(&case), precision.name());
        }
    }
}

/// What the comparison is for: a wrong result does not pass it.
#[test]
fn wrong_results_are_refused() {
    let want = read(&cases()[0].join("expected.safetensors"));
    let refused = |got: &Tensors, part: f64, allowed: f64| beyond(&errors(&want, got, part), |_| allowed).0.len();
    for (part, allowed) in [(F64_FLOOR, F64_RTOL), (FLOAT32_FLOOR, 5e-3)] {
        assert_eq!(refused(&want, part, allowed), 0);
        for tensor in want.keys().filter(|name| rms(want[*name].1.iter().copied()) > 1e-6) {
            let changed = |change: &dyn Fn(&mut Tensor)| {
                let mut got = want.clone();
                change(got.get_mut(tensor).unwrap());
                got
            };
            let nan = changed(&|(_, numbers)| numbers[0] = f64::NAN);
            assert_eq!(refused(&nan, part, allowed), 1, "{tensor} with a NaN passes");
            let reshaped = changed(&|(shape, _)| shape.push(1));
            assert_eq!(refused(&reshaped, part, allowed), 1, "{tensor} of another shape passes");
            let most = |numbers: &[f64]| numbers.iter().fold(0.0, |most: f64, number| most.max(number.abs()));
            let element = changed(&|(_, numbers)| {
                let largest = most(numbers);
                *numbers.iter_mut().find(|number| number.abs() == largest).unwrap() *= -1.0;
            });
            assert_eq!(refused(&element, F64_FLOOR, F64_RTOL), 1, "{tensor} with an element's sign changed passes");
            let mut missing = want.clone();
            missing.remove(tensor);
            assert_eq!(refused(&missing, part, allowed), 1, "a result without {tensor} passes");
        }
    }
}

/// Cases that PyTorch makes anew, if it is installed: `tests/oracle/run` with these arguments. `what` they are, for the ledger.
#[cfg(feature = "cli")]
fn fresh_cases(arguments: &[&str], what: &str) {
    let oracle = Path::new(ROOT).join("tests/oracle");
    let target = std::env::var_os("G2D_ORACLE_VENV").map_or(Path::new(ROOT).join("target/oracle"), PathBuf::from);
    let installed = fs::read(target.join("complete")).ok() == fs::read(oracle.join("requirements.txt")).ok();
    if !installed {
        let missed = format!("{what} were not made: PyTorch is not installed for them (the fixtures ran)");
        return ledger::skipped("oracle", missed, "tests/oracle/setup && cargo test --release --test spec");
    }
    let binary = env!("CARGO_BIN_EXE_g2d");
    let run = std::process::Command::new(oracle.join("run")).args(arguments).env("G2D", binary).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    println!("{text}");
    assert!(run.status.success(), "{text}");
    ledger::ran("oracle", format!("{what} (seeds in the output of --nocapture); more: tests/oracle/run"));
}

/// All recipes, odd sizes, several steps.
#[cfg(feature = "cli")]
#[test]
fn fresh_cases_agree() {
    fresh_cases(&["--quick", "--count", "3"], "3 fresh random cases");
}

/// Always the same one, for it takes longest; .ci/run has more.
#[cfg(feature = "cli")]
#[test]
fn a_fresh_case_agrees_on_the_emulated_device() {
    let arguments = ["--quick", "--count", "1", "--seed", "489944", "--device", "cuda-emulated"];
    fresh_cases(&arguments, "one fresh random case on the emulated device");
}
