//! The programs in `examples/`, run as their first lines say.
#![cfg(feature = "data")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use common::ledger;
use g2d::data::phantom::{self, Style};

/// Runs an example; how it ended and what it printed.
fn run(name: &str, arguments: &[&Path]) -> (Output, String) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["run", "--release", "--offline", "--quiet", "--example", name, "--"]).args(arguments);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// Runs an example that has to succeed; what it printed.
fn example(name: &str, arguments: &[&Path]) -> String {
    let (output, text) = run(name, arguments);
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Trains the example's own network; the losses that it printed and the share that it classified right.
fn custom_model(device: &str, steps: &str) -> (Vec<f64>, f64) {
    let text = example("custom_model", &["--device", device, "--steps", steps].map(Path::new));
    let losses = text.lines().filter_map(|line| line.split_once("loss ")).map(|(_, loss)| loss.parse().unwrap());
    let share = text.lines().find_map(|line| line.strip_prefix("classified right: ")?.strip_suffix(" %"));
    (losses.collect(), share.unwrap_or_else(|| panic!("{text}")).parse().unwrap())
}

#[test]
fn a_network_of_ones_own_learns_on_every_device() {
    let (losses, right) = custom_model("cpu", "150");
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.5 * first, "loss {first} fell to {last} only");
    assert!(right >= 80.0, "{right} % are classified right, 33 % are chance");
    let (wanted, _) = custom_model("cpu", "3");
    let mut devices = vec!["cuda-emulated"];
    #[cfg(feature = "wgpu")]
    match g2d::wgpu::adapter::list().is_empty() {
        true => ledger::skipped("wgpu", "there is no adapter: a network of one's own is not trained", ledger::VULKAN),
        false => devices.push("wgpu"),
    }
    for device in devices {
        let (losses, _) = custom_model(device, "3");
        assert_eq!(losses.len(), wanted.len());
        for (loss, wanted) in losses.iter().zip(&wanted) {
            // Printed to four decimals; and AdamW's first steps divide a gradient by its own size, so the last bits of a small
            // one move its weight by a part of the learning rate, 0.01.
            assert!((loss - wanted).abs() <= 1e-3, "{device}: losses {losses:?}, {wanted} on the processor");
        }
        ledger::ran(device, "another network, with an op of its own: three steps");
    }
    ledger::ran("cpu", format!("another network, with an op of its own: 150 steps, {right} % right"));
}

#[test]
fn a_kernel_of_ones_own_passes_and_each_planted_fault_is_reported() {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/row_sum").join(name);
    let good = example("verify_my_kernel", &[&file("good.ptx")]);
    assert!(good.starts_with("row_sum/row_sum: ") && good.contains("cases passed"), "{good}");
    let (output, faulty) = run("verify_my_kernel", &[&file("faulty.ptx")]);
    assert_eq!(output.status.code(), Some(2), "{faulty}");
    let faults = [
        // The smallest case: fewer columns than are taken at a time.
        ("wrong", &["instead of", "on Activation[1,1]"][..]),
        ("race", &["race in shared memory"]),
        ("bounds", &["out of bounds"]),
        ("unwritten", &["uninitialised read"]),
    ];
    assert_eq!(faulty.lines().count(), faults.len(), "{faulty}");
    for (fault, expected) in faults {
        let start = format!("row_sum/row_sum_{fault}: FAILED: ");
        let line = faulty.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{faulty}"));
        assert!(expected.iter().all(|expected| line.contains(expected)), "{line}");
    }
    let (output, text) = run("verify_my_kernel", &[&file("none.ptx")]);
    assert!(!output.status.success() && text.is_empty(), "{text}");
    ledger::ran("cuda-emulated", "a kernel of one's own verified, four planted faults reported");
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

    let pictures = folder.join("pictures/of embed"); // made by the example
    let text = example("embed", &[&folder.join("run"), &film, "pleural effusion".as_ref(), &pictures]);
    assert!(text.starts_with("similarity ") && text.contains("warmest at column"), "{text}");
    // The other example's mask, and a heat map from coldest to warmest.
    let picture = |name: &str| image::open(pictures.join(name)).unwrap().into_luma8();
    let heat = picture("heat.png");
    // The two open the model for another number of films, of which a product may take its sums in another order.
    let furthest = picture("mask.png").pixels().zip(mask.pixels()).map(|(a, b)| a[0].abs_diff(b[0])).max();
    assert!(furthest.is_some_and(|levels| levels <= 1), "masks differ by {furthest:?} of 255 levels");
    assert_eq!(
        (heat.pixels().map(|pixel| pixel[0]).min(), heat.pixels().map(|pixel| pixel[0]).max()),
        (Some(0), Some(255))
    );
    ledger::ran("cpu", "three steps on phantoms; a film segmented and a phrase grounded from the checkpoint");
}
