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
use g2d::verify::specification::{F64_FLOOR, F64_RTOL, FLOAT32_FLOOR, beyond, errors, judge};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

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

#[test]
fn exact_is_within_each_tensors_tolerance() {
    for case in cases() {
        let want = read(&case.join("expected.safetensors"));
        let text = fs::read_to_string(case.join("tolerance.json")).unwrap();
        let tolerance: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
        for kernels in [Kernels::Reference, Kernels::Best] {
            let got = read(&step(&case, Precision::Exact, kernels, 0));
            let (bad, part) = beyond(&errors(&want, &got, FLOAT32_FLOOR), |name| tolerance[name]);
            assert!(bad.is_empty(), "{}, {kernels:?}: {} tensors:\n{}", name(&case), bad.len(), bad.join("\n"));
            println!("{} exact {kernels:?}: at most {part:.3} of what is allowed", name(&case));
        }
    }
    ledger::ran("cpu", "fp32 within tolerance.json on every tensor of the fixtures, references and best kernels");
}

/// Numbers of schedules of the emulated device.
const SCHEDULES: [u64; 2] = [1, 2];

/// Whole steps of every recipe in f32 on two devices: within what each tensor is allowed, and the same bits.
fn exact_on(devices: [Device; 2]) {
    for case in cases() {
        let want = read(&case.join("expected.safetensors"));
        let text = fs::read_to_string(case.join("tolerance.json")).unwrap();
        let tolerance: BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
        // Two runs on one device write the same file: the first is read before the second begins.
        let [(got, one), (_, other)] = devices.map(|device| {
            let file = on(device, &case, Precision::Exact, Kernels::Best, 1);
            (read(&file), fs::read(&file).unwrap())
        });
        let (bad, part) = beyond(&errors(&want, &got, FLOAT32_FLOOR), |name| tolerance[name]);
        assert!(bad.is_empty(), "{}: {} tensors:\n{}", name(&case), bad.len(), bad.join("\n"));
        assert!(one == other, "{}: {} and {} give other bits", name(&case), devices[0], devices[1]);
        println!("{} exact on {}: at most {part:.3} of what is allowed", name(&case), devices[0]);
    }
}

/// The shaders that ship, on the first adapter.
#[cfg(feature = "wgpu")]
#[test]
fn exact_through_wgpu() {
    let Some(adapter) = g2d::wgpu::adapter::list().into_iter().next() else {
        return ledger::skipped("wgpu", "there is no adapter: no whole step is tried", ledger::VULKAN);
    };
    exact_on([Device::Wgpu(0); 2]);
    let what = "whole steps of the fixtures in fp32 within tolerance.json, the same bits twice";
    ledger::ran("wgpu", format!("{what}, on {}", adapter.name));
}

/// The PTX that ships, on the emulated device with every checker, the same bits on two schedules.
#[test]
fn exact_on_the_emulated_cuda_device() {
    exact_on(SCHEDULES.map(Device::CudaEmulated));
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

/// `g2d step --compare`: a result is held to its own case.
#[test]
fn the_command_holds_a_result_to_its_case() {
    let (case, other) = (&cases()[0], &cases()[1]);
    let made = step(case, Precision::Exact, Kernels::Best, 0);
    assert!(judge(case, &made, Precision::Exact).unwrap() <= 1.0);
    let error = judge(other, &made, Precision::Exact).unwrap_err().to_string();
    assert!(error.contains("are beyond what is allowed, the first"), "{error}");
    assert!(judge(case, &made, Precision::F64).is_err() && judge(case, &made, Precision::Mixed).is_err());
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
