//! The library trains: draws phantoms, takes three steps of the smallest model on them and leaves a run with its checkpoint.
//!
//!     cargo run --release --example train -- FOLDER

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use g2d::train::Device;
use g2d::train::defaults::{self, Start};
use g2d::train::quickstart::{self, Phantoms};
use g2d::train::resident::Resident;
use g2d::train::run::{self, Event, Manifest, Run};

const PRESET: &str = "micro";
const RECIPE: &str = "default";
const STEPS: u64 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args().nth(1).unwrap_or("runs/example".into()).into();
    let never = AtomicBool::new(false);
    let what = Phantoms { train: 48, held_out: 16, size: 64, threads: 0 };
    let data = quickstart::phantoms(&folder.join("phantoms"), what, &|_, _| {}, &never)?;

    let mut config = defaults::settings(PRESET, RECIPE, Start::of(RECIPE, false), data.train.vocab_size(), STEPS)?;
    config.set("batch", "8")?;
    config.set("lr", "1e-3")?;
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").into(),
        preset: PRESET.into(),
        recipe: RECIPE.into(),
        seed: config.train.seed,
        horizon: config.train.schedule.steps,
        data: data.train.folder().into(),
        data_digest: data.train.digest().into(),
        held_out: Some(data.held_out.folder().into()),
        weights: None,
        init: Default::default(),
        device: "cpu".into(),
        resident: false,
        moves: Vec::new(),
    };
    let run = Run {
        folder: folder.join("run"),
        config,
        manifest,
        data,
        stop_at: STEPS,
        resume: false,
        device: Device::Cpu,
        threads: 0,
        resident: Resident::Auto,
        launch_by_launch: false,
        log_interference: false,
    };
    let mut observe = |event: Event<'_>| {
        if let Event::Step(line) = event {
            println!("step {}: loss {:.4}, {:.0} samples/s", line.step, line.total, line.samples_per_s);
        }
    };
    let summary = run::run(&run, Vec::new(), &mut observe, &never)?;
    println!("checkpoint: {}", relative(&summary.checkpoint, &folder));
    Ok(())
}

fn relative(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}
