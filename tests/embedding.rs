//! The library inside another program: `tests/embed/`, a crate that depends on this one by path, without features.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::ledger;

/// What the engine alone does without.
const NOT_IN_THE_ENGINE: [&str; 8] =
    ["clap", "tokenizers", "image", "indicatif", "toml", "ctrlc", "csv", "fast_image_resize"];

fn crate_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/embed")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("embed")
}

fn cargo(arguments: &[&str]) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments).current_dir(crate_folder()).env("CARGO_TARGET_DIR", target());
    // What cargo sets for this test's own crate.
    for name in ["CARGO_MANIFEST_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    let output = command.output().expect("cargo can be run");
    assert!(output.status.success(), "cargo {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn another_crate_trains_and_segments_with_the_engine_alone() {
    // The same versions as this crate, so that nothing needs to be downloaded.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    fs::copy(lock, crate_folder().join("Cargo.lock")).unwrap();

    let tree = String::from_utf8(cargo(&["tree", "--offline", "-e", "normal", "--prefix", "none"]).stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    for there in ["g2d", "gemm", "rayon", "safetensors"] {
        assert!(names.contains(&there), "{there} is not in the tree:\n{tree}");
    }
    for other in NOT_IN_THE_ENGINE {
        assert!(!names.contains(&other), "the engine alone depends on {other}:\n{tree}");
    }

    cargo(&["build", "--release", "--offline"]);
    let binary = target().join("release").join(format!("embed{}", std::env::consts::EXE_SUFFIX));
    let run = Command::new(binary).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{text}{errors}");
    assert_eq!(errors, "", "the library prints");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "the library prints:\n{text}");
    for (step, line) in lines[..3].iter().enumerate() {
        let losses = line.strip_prefix(&format!("step {step}: ")).unwrap();
        let losses: Vec<f64> = losses.split(' ').map(|loss| loss.parse().unwrap()).collect();
        assert!(losses.iter().all(|loss| loss.is_finite() && *loss > 0.0), "{line}");
        assert_eq!(losses[0], losses[1], "two sessions of one seed differ");
        assert_ne!(losses[0], losses[2], "two sessions of different seeds do not");
    }
    assert_eq!(lines[3], "mask: 4096 numbers, probabilities true, equal true");
    assert_eq!(lines[4], "signals: untouched");
    assert_eq!(lines[5], "global thread pool: untouched");
    ledger::ran("cpu", "embedded by path without features: two sessions, three steps, a film segmented");
}
