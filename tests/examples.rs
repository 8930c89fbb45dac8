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
fn the_examples_train_segment_and_ground() {
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

    let text = example("embed", &[&folder.join("run"), &film, "pleural effusion".as_ref(), &folder]);
    assert!(text.starts_with("similarity ") && text.contains("warmest at column"), "{text}");
    // The other example's mask, and a heat map from coldest to warmest.
    let picture = |name: &str| image::open(folder.join(name)).unwrap().into_luma8();
    let heat = picture("heat.png");
    assert!(picture("mask.png").pixels().zip(mask.pixels()).all(|(a, b)| a[0].abs_diff(b[0]) <= 1));
    assert_eq!(
        (heat.pixels().map(|pixel| pixel[0]).min(), heat.pixels().map(|pixel| pixel[0]).max()),
        (Some(0), Some(255))
    );
    ledger::ran("cpu", "three steps on phantoms; a film segmented and a phrase grounded from the checkpoint");
}
