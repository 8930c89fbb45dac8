//! The programs in `examples/`, run one after the other as their first lines say.
#![cfg(feature = "data")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use common::ledger;
use g2d::data::phantom::{self, Style};

/// Runs an example; what it printed.
fn example(name: &str, arguments: &[&Path]) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["run", "--release", "--offline", "--quiet", "--example", name, "--"]).args(arguments);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn the_examples_train_and_segment() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let _ = fs::remove_dir_all(&folder);
    let text = example("train", &[&folder]);
    let steps: Vec<&str> = text.lines().filter(|line| line.starts_with("step ")).collect();
    assert_eq!(steps.len(), 3, "{text}");
    assert!(text.contains("checkpoint: run/checkpoints/step-00000003"), "{text}");

    phantom::write(&folder.join("drawn"), Style::Training, 1, 5, &|_| {}, &AtomicBool::new(false)).unwrap();
    let film = fs::read_dir(folder.join("drawn/images")).unwrap().next().unwrap().unwrap().path();
    let mask = folder.join("mask.png");
    let text = example("segment", &[&folder.join("run"), &film, &mask]);
    assert!(text.contains("64 x 64 pixels"), "{text}");
    let mask = image::open(&mask).unwrap().into_luma8();
    assert_eq!(mask.dimensions(), (64, 64));
    assert!(mask.pixels().any(|pixel| pixel != mask.get_pixel(0, 0)), "the mask is the same everywhere");
    ledger::ran("cpu", "three steps on phantoms, a film segmented from the checkpoint");
}
