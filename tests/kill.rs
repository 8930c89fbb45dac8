//! Processes that are killed (SIGKILL) at random moments of packing, of training on each device, and of exporting:
//! nothing half-written looks finished, and what is taken up again ends in the same bytes as what was never disturbed.
//!
//! `G2D_KILLS=50 cargo test --release --test kill` kills each 50 times at work; the default is a few.
#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::command::{Ended, command, empty, g2d, listing};
use common::ledger;
use g2d::base::random::Rng;
use g2d::checkpoint::folder;
use g2d::data::Dataset;

/// One test at a time, so that moments are spread over the work and not over waiting for another test.
static TURN: Mutex<()> = Mutex::new(());

const PACK: &str = "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 128 --threads 2 --out";

/// How often each is killed at work; `few` unless it is said. A process that has ended before its moment does not count,
/// and another moment is drawn.
fn kills(few: usize) -> usize {
    let wanted = std::env::var("G2D_KILLS").ok().map(|count| count.parse().expect("G2D_KILLS is a number"));
    wanted.unwrap_or(few)
}

/// The next moment to kill at, and how many were drawn; they may not all miss.
fn moment(rng: &mut Rng, whole: Duration, drawn: &mut usize, kills: usize) -> Duration {
    *drawn += 1;
    assert!(*drawn <= 20 * kills, "{drawn} processes were started, and too few of them met at work");
    whole.mul_f64(rng.unit())
}

fn note(what: String, kills: usize) {
    ledger::ran("kill", format!("{what} (G2D_KILLS={kills} cargo test --release --test kill)"));
}

fn start(folder: &Path, line: &str) -> Child {
    command(folder, &line.split_whitespace().collect::<Vec<_>>()).spawn().unwrap()
}

/// Lets a child run for a while and kills it; whether it was still at work.
fn killed(mut child: Child, after: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap(); // SIGKILL on Unix
    !child.wait().unwrap().success()
}

/// Does it once undisturbed and tells how long it takes.
fn undisturbed(folder: &Path, line: &str) -> Duration {
    let start = Instant::now();
    g2d(folder, line).done();
    start.elapsed()
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.map(|path| (path.file_name().unwrap().into(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn phantoms_that_are_stopped_or_killed_leave_no_folder_in_the_way() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = empty("phantom");
    let line = "phantom --count 3000 --seed 2 --out drawn";
    let drawing = |child: &mut Child| {
        let begun = Instant::now();
        let name = format!(".drawn.{}-", child.id());
        let beside =
            || listing(&folder).iter().any(|path| path.ends_with("images") && path.to_string_lossy().contains(&name));
        while !beside() {
            assert!(child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60), "it never drew");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut child = start(&folder, line);
    drawing(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.join("drawn").exists());
    #[cfg(unix)]
    {
        let mut child = start(&folder, line);
        drawing(&mut child);
        Ended::told(child, "-INT").stopped(&["no film was kept"]);
    }
    assert!(!folder.join("drawn").exists());
    assert!(g2d(&folder, "phantom --count 1 --seed 2 --out one").done().starts_with("1 film in one\n"));
    g2d(&folder, "phantom --count 3 --seed 2 --out drawn").done();
    g2d(&folder, "phantom --count 3 --seed 2 --out drawn").refused(&["drawn is not empty"]);
}

#[test]
fn a_killed_pack_is_never_taken_for_whole_and_starts_over() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = empty("pack");
    g2d(&folder, "phantom --count 100 --seed 6 --out drawn").done();
    // The first one also reads films that are not in memory yet.
    let whole = ["straight", "again"].map(|out| undisturbed(&folder, &format!("{PACK} {out}")))[1];
    let kills = kills(5);
    let (mut rng, mut drawn, mut at_work, mut begun) = (Rng::new(6, 0, 0), 0, 0, 0);
    while at_work < kills {
        if killed(start(&folder, &format!("{PACK} out")), moment(&mut rng, whole, &mut drawn, kills)) {
            at_work += 1;
            begun += usize::from(folder.join("out").exists());
            // Whole, or refused.
            if let Ok(dataset) = Dataset::open(&folder.join("out")) {
                dataset.verify(&mut |_, _| {}).unwrap();
            }
        }
        // Killed twice in a row now and then; then packed to the end.
        if (at_work % 3 != 2 || at_work == kills) && !folder.join("out/dataset.json").exists() {
            g2d(&folder, &format!("{PACK} out")).done();
        }
        if folder.join("out/dataset.json").exists() {
            assert!(files(&folder.join("out")) == files(&folder.join("straight")), "after kill {at_work}");
            fs::remove_dir_all(folder.join("out")).unwrap();
        }
    }
    note(format!("packing: {at_work} kills at work, {begun} with files begun; {drawn} moments drawn"), kills);
}

#[cfg(unix)]
#[test]
fn a_stopped_pack_evaluation_or_sweep_says_what_is_kept_and_is_no_error() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = empty("stopped");
    g2d(&folder, "phantom --style evaluation --count 150 --seed 6 --out drawn").done();
    let pack = format!("{} shards", PACK.replace("128", "64"));
    let stopped = |line: &str, signal: &str, begun: &dyn Fn() -> bool| {
        let (mut child, since) = (start(&folder, line), Instant::now());
        while !begun() {
            assert!(
                child.try_wait().unwrap().is_none() && since.elapsed() < Duration::from_secs(120),
                "it never began"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ended::told(child, signal)
    };
    let ended = stopped(&pack, "-INT", &|| folder.join("shards").exists());
    ended.stopped(&["nothing of this pack was kept"]);
    assert!(Dataset::open(&folder.join("shards")).is_err());
    g2d(&folder, &pack).done();
    let line =
        "pretrain --data shards --preset micro --set max_positions=96 --steps 1 --batch 8 --device cpu --out run";
    g2d(&folder, line).done();
    let line = "eval all --weights run --data shards --device cpu --out first";
    let ended = stopped(line, "-INT", &|| folder.join("first.json").exists());
    ended.stopped(&["the tasks that were done are in first.json"]);
    // The sweep alone is told, and its run saves.
    let sweep = "title = \"long\"\npretrain = [\"--data\", \"shards\", \"--preset\", \"micro\", \"--batch\", \"8\", \
                 \"--set\", \"max_positions=96\", \"--device\", \"cpu\", \"--steps\", \"1000000\"]\ntasks = [\"pretrain\"]\n";
    fs::write(folder.join("long.toml"), sweep).unwrap();
    let run = || fs::read_dir(folder.join("swept")).into_iter().flatten().map(|run| run.unwrap().path()).next();
    let begun = || run().is_some_and(|run| run.join("metrics.jsonl").exists());
    let ended = stopped("sweep long.toml --out swept", "-TERM", &begun);
    ended.stopped(&["what was finished is kept, and the same sweep goes on"]);
    assert!(folder::newest(&run().unwrap()).unwrap().is_some(), "the run did not save: {ended:?}");
}

/// Every checkpoint that looks finished is.
fn checkpoints_are_whole(run: &Path) -> usize {
    let checkpoints = folder::list(run).unwrap();
    for checkpoint in &checkpoints {
        folder::verify(checkpoint).unwrap_or_else(|error| panic!("{error}"));
    }
    checkpoints.len()
}

/// The step of the newest checkpoint, 0 without one. None is lost: it is as new as the newest `before`, and as new as what
/// `metrics.jsonl` says of the steps taken, whose last line may be cut off.
fn newest(run: &Path, every: usize, before: usize) -> usize {
    let step = |path: PathBuf| path.file_name().unwrap().to_str().unwrap()["step-".len()..].parse().unwrap();
    let newest: usize = folder::newest(run).unwrap().map_or(0, step);
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole).lines();
    let step = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap() as usize;
    let taken = whole.map(step).max().unwrap_or(0);
    // A step is written there before it is saved.
    let saved = taken.saturating_sub(1) / every * every;
    assert!(
        newest >= saved.max(before),
        "{newest} is the newest checkpoint; {taken} steps were taken, {before} was there"
    );
    newest
}

/// The first step that a call took, by what it printed.
fn first_step(errors: &str) -> Option<usize> {
    let step = |line: &str| line.strip_prefix("step ")?.split_once(':')?.0.parse().ok();
    errors.lines().find_map(step)
}

/// Steps of a run without their speed, and validations.
fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("samples_per_s");
        line
    };
    text.lines().map(line).collect()
}

/// Training, killed and resumed on one device.
struct Training {
    /// The device's name.
    device: &'static str,
    /// How many steps it takes, with a checkpoint every `every`.
    steps: usize,
    every: usize,
    /// Kills unless more are asked for.
    few: usize,
}

impl Training {
    fn line(&self, out: &str, run: &Path) -> String {
        let Self { device, steps, every, .. } = self;
        let begin = if run.exists() {
            "pretrain --resume".to_owned()
        } else {
            let half = steps / 2;
            format!(
                "pretrain --data shards --preset micro --batch 4 --set checkpoint_every={every} --set validate_every={half}"
            )
        };
        format!("{begin} --steps {steps} --device {device} --threads 1 --out {out}")
    }

    fn kill(&self) {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (device, kills) = (self.device, kills(self.few));
        let folder = empty(&format!("train-{device}"));
        g2d(&folder, "phantom --count 40 --seed 7 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
        let whole = undisturbed(&folder, &self.line("straight", &folder.join("straight")));
        let last = |run: &str| files(&folder.join(run).join(format!("checkpoints/step-{:08}", self.steps)));
        let weights =
            |run: &str| last(run).into_iter().filter(|(name, _)| name.extension() == Some("safetensors".as_ref()));
        let straight: Vec<_> = weights("straight").collect();
        assert_eq!(straight.len(), 2);
        let run = folder.join("run");
        let (mut rng, mut drawn, mut at_work, mut saved, mut finished, mut chain) = (Rng::new(7, 0, 0), 0, 0, 0, 0, 0);
        let mut kept = 0;
        while at_work < kills {
            let hit = killed(start(&folder, &self.line("run", &run)), moment(&mut rng, whole, &mut drawn, kills));
            if hit {
                (at_work, chain) = (at_work + 1, chain + 1);
                saved += usize::from(checkpoints_are_whole(&run) > 0);
            }
            kept = newest(&run, self.every, kept);
            // A chain ends after three kills, with a run that came to its end by itself, and with the last kill.
            if !hit || chain == 3 || at_work == kills {
                let ended = g2d(&folder, &self.line("run", &run));
                let expected = (kept < self.steps).then_some(kept + 1);
                assert_eq!(first_step(&ended.errors), expected, "after kill {at_work}: {ended:?}");
                ended.done();
                assert!(weights("run").eq(straight.iter().cloned()), "after kill {at_work}: other weights or moments");
                assert_eq!(metrics(&run), metrics(&folder.join("straight")), "after kill {at_work}");
                assert_eq!(checkpoints_are_whole(&run), folder::KEPT);
                fs::remove_dir_all(&run).unwrap();
                (finished, chain, kept) = (finished + 1, 0, 0);
            }
        }
        let what = format!(
            "training on {device}: {at_work} kills at work, {saved} with checkpoints, {finished} runs ended in the same \
             bits; {drawn} moments drawn"
        );
        note(what, kills);
    }
}

#[test]
fn a_killed_run_loses_no_checkpoint_and_ends_in_the_same_bits() {
    Training { device: "cpu", steps: 40, every: 3, few: 5 }.kill();
}

#[test]
fn a_killed_run_on_the_emulated_device_ends_in_the_same_bits() {
    Training { device: "cuda-emulated", steps: 4, every: 1, few: 1 }.kill();
}

#[cfg(feature = "wgpu")]
#[test]
fn a_killed_run_through_wgpu_ends_in_the_same_bits() {
    if g2d::wgpu::adapter::list().is_empty() {
        return ledger::skipped("wgpu", "there is no adapter: nothing is killed on one", ledger::VULKAN);
    }
    Training { device: "wgpu:0", steps: 12, every: 2, few: 2 }.kill();
}

#[test]
fn a_killed_export_leaves_the_whole_file_or_none() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (folder, kills) = (empty("export"), kills(5));
    g2d(&folder, "phantom --count 12 --seed 7 --out drawn").done();
    g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
    g2d(&folder, "pretrain --data shards --preset micro --steps 1 --batch 4 --device cpu --out run").done();
    let (mut rng, mut drawn, mut at_work, mut there) = (Rng::new(8, 0, 0), 0, 0, 0);
    let formats = [("smp", "unet.safetensors"), ("hf", "bert"), ("onnx", "unet.onnx")];
    let line = |format: &str, out: &str| format!("export run --format {format} --out {out}");
    let mut whole = Duration::ZERO;
    for (format, out) in formats {
        whole = whole.max(undisturbed(&folder, &line(format, &format!("straight-{out}"))));
    }
    while at_work < kills {
        let (format, out) = formats[drawn % formats.len()];
        at_work += usize::from(killed(start(&folder, &line(format, out)), moment(&mut rng, whole, &mut drawn, kills)));
        let (path, straight) = (folder.join(out), folder.join(format!("straight-{out}")));
        there += usize::from(path.exists());
        // What lies under the name is whole; what does not is made by the next call.
        if !path.exists() {
            g2d(&folder, &line(format, out)).done();
        }
        if path.is_dir() {
            assert!(files(&path) == files(&straight), "{format} after kill {at_work}");
            fs::remove_dir_all(&path).unwrap();
        } else {
            assert!(fs::read(&path).unwrap() == fs::read(&straight).unwrap(), "{format} after kill {at_work}");
            fs::remove_file(&path).unwrap();
        }
    }
    note(format!("exporting: {at_work} kills at work, {there} files or folders there; {drawn} moments drawn"), kills);
}
