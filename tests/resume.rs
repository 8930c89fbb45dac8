//! Runs that stop and go on: the same bits as runs that do not, whatever the number of threads; and runs that meet a
//! number that is not finite.
#![cfg(feature = "data")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use g2d::Error;
use g2d::checkpoint::folder;
use g2d::data::augment::Recipe;
use g2d::data::loader::{Batches, LoaderOptions};
use g2d::data::{Dataset, PackOptions, PairsTable, Split, pack, phantom};
use g2d::model::batch::TextBatch;
use g2d::model::config::Config;
use g2d::program::Precision;
use g2d::train::Device;
use g2d::train::config::{RunConfig, TrainConfig};
use g2d::train::groups::Rule;
use g2d::train::resident::Resident;
use g2d::train::run::{self, Data, Event, Manifest, Run, Summary};
use g2d::train::schedule::{Kind, Schedule};
use g2d::train::session::{Films, Options, Session};

const FILMS: usize = 36;
const BATCH: usize = 4;
const STEPS: u64 = 10;
static NEVER: AtomicBool = AtomicBool::new(false);

/// An empty folder of one test's own.
fn empty(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resume").join(name);
    let _ = fs::remove_dir_all(&path);
    path
}

/// Phantoms, packed at 64 pixels.
fn shards() -> &'static Path {
    static SHARDS: OnceLock<PathBuf> = OnceLock::new();
    SHARDS.get_or_init(|| {
        let (drawn, packed) = (empty("drawn"), empty("shards"));
        phantom::write(&drawn, phantom::Style::Training, FILMS, 9, &|_| {}, &NEVER).unwrap();
        let options = PackOptions { size: 64, ..PackOptions::new(&packed) };
        let table = PairsTable::open(&drawn.join("pairs.csv"), None).unwrap();
        let funnel = pack(&table, &options, &|_| {}, &AtomicBool::new(false)).unwrap();
        assert!(
            funnel.splits.contains_key(&Split::Val),
            "these phantoms hold nothing to validate on; take another seed"
        );
        packed
    })
}

/// A run of the smallest model, with augmentation, warm-ups and more epochs than one.
fn task(folder: &Path, stop_at: u64, resume: bool, threads: usize) -> Run {
    let data = Dataset::open(shards()).unwrap();
    let model = Config {
        vocab_size: data.vocab_size(),
        frozen_text_layers: 0,
        warmup_steps: 3,
        learning_rate: 1e-3,
        ..Config::preset("micro").unwrap()
    };
    let train = TrainConfig {
        seed: 9,
        batch: BATCH,
        text_length: 24,
        augment: Recipe::Default,
        precision: Precision::Exact,
        schedule: Schedule { steps: STEPS, warmup: 2, ..Schedule::default() },
        text_cache: false,
        groups: vec![
            Rule { name: "plain".into(), pattern: "*bias".into(), weight_decay: Some(0.0), learning_rate_factor: 2.0 },
            Rule::everything(),
        ],
        validate_every: 100,
        checkpoint_every: 4,
    };
    let manifest = Manifest {
        version: "test".into(),
        preset: "micro".into(),
        recipe: "default".into(),
        seed: train.seed,
        horizon: train.schedule.steps,
        data: shards().to_owned(),
        data_digest: data.digest().into(),
        held_out: None,
        weights: None,
        init: Default::default(),
        device: "cpu".into(),
        resident: false,
        moves: Vec::new(),
    };
    let config = RunConfig { model, train };
    let folder = folder.to_owned();
    let (data, device, resident, launch_by_launch) = (Data::split(data), Device::Cpu, Resident::Off, false);
    let log_interference = false;
    Run {
        folder,
        config,
        manifest,
        data,
        stop_at,
        resume,
        device,
        threads,
        resident,
        launch_by_launch,
        log_interference,
    }
}

fn go(task: &Run) -> Summary {
    run::run(task, Vec::new(), &mut |_| {}, &NEVER).unwrap()
}

/// Lines of steps in `metrics.jsonl`, without their speed.
fn steps(folder: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let steps = lines.filter(|line| line.get("validation").is_none());
    steps
        .map(|mut line| {
            assert!(line.as_object_mut().unwrap().remove("samples_per_s").unwrap().as_f64().unwrap() > 0.0);
            line
        })
        .collect()
}

/// Weights and moments of a run's newest checkpoint, byte for byte.
fn state(folder: &Path) -> [Vec<u8>; 2] {
    let newest = folder::newest(folder).unwrap().expect("a run leaves a checkpoint");
    assert!(newest.ends_with(format!("step-{STEPS:08}")), "{}", newest.display());
    [folder::WEIGHTS, folder::MOMENTS].map(|file| fs::read(newest.join(file)).unwrap())
}

/// The run that is not interrupted.
fn straight() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = empty("straight");
        let summary = go(&task(&folder, STEPS, false, 1));
        assert_eq!((summary.steps, summary.interrupted), (STEPS, false));
        folder
    })
}

fn assert_same(folder: &Path) {
    for ((file, a), b) in ["weights", "moments"].iter().zip(state(straight())).zip(state(folder)) {
        assert!(
            a == b,
            "{}: the {file} have other bytes than those of a run that was not interrupted",
            folder.display()
        );
    }
    assert_eq!(steps(folder), steps(straight()));
}

#[test]
fn every_step_has_its_line() {
    let lines = steps(straight());
    assert_eq!(lines.len() as u64, STEPS);
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(line["step"], at + 1);
        for key in
            ["loss.total", "loss.contrastive", "loss.segmentation", "top1", "top5", "mask.area", "lr", "grad_norm"]
        {
            assert!(line[key].is_f64(), "{key} is missing in {line}");
        }
        let parts = line["loss.contrastive"].as_f64().unwrap()
            + if at < 3 { 0.0 } else { line["loss.segmentation"].as_f64().unwrap() };
        assert!((line["loss.total"].as_f64().unwrap() - parts).abs() < 1e-5, "{line}");
    }
    let seen_again = lines.iter().any(|line| line["mask.iou_previous"].is_f64());
    assert!(seen_again, "no film is seen twice: the run is too short to test epochs");
    assert!(state(straight())[1].len() > state(straight())[0].len(), "moments are twice the weights that learn");
}

#[test]
fn five_and_five_are_ten() {
    let folder = empty("resumed");
    let summary = go(&task(&folder, 5, false, 1));
    assert_eq!((summary.steps, summary.interrupted), (5, false));
    assert_eq!(steps(&folder).len(), 5);
    // What a run that was killed leaves behind: half a checkpoint, and lines behind the last whole one.
    let unfinished = folder.join("checkpoints/.step-00000009.unfinished");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join(folder::WEIGHTS), "half").unwrap();
    let metrics = folder.join("metrics.jsonl");
    let lost = fs::read_to_string(&metrics).unwrap() + "{\"step\":6,\"loss.total\":0.5}\n{\"step\":7,\"los";
    fs::write(&metrics, lost).unwrap();
    let summary = go(&task(&folder, STEPS, true, 1));
    assert_eq!((summary.steps, summary.interrupted), (STEPS, false));
    assert_same(&folder);
}

#[test]
fn a_run_that_goes_on_on_another_device_says_so_and_writes_it_down() {
    let folder = empty("moved");
    go(&task(&folder, 3, false, 1));
    let resumed = |device, steps| {
        let (_, manifest) = run::read(&folder).unwrap();
        let task = Run { device, manifest, ..task(&folder, steps, true, 1) };
        let mut said = String::new();
        let mut observe = |event: run::Event<'_>| {
            if let run::Event::Note(note) = event {
                said += note;
            }
        };
        run::run(&task, Vec::new(), &mut observe, &NEVER).unwrap();
        (said, run::read(&folder).unwrap().1)
    };
    let (said, manifest) = resumed(Device::CudaEmulated(0), 3);
    assert!(said.is_empty() && manifest.moves.is_empty(), "nothing is computed there: {said}");
    let (said, manifest) = resumed(Device::CudaEmulated(0), 4);
    assert!(said.contains("from step 4 on it is computed on cuda-emulated, before on cpu"), "{said}");
    assert_eq!((manifest.device.as_str(), manifest.last_device()), ("cpu", "cuda-emulated"));
    let moved = |after, device: &str| run::Move { after, device: device.into() };
    assert_eq!(manifest.moves, [moved(3, "cuda-emulated")]);
    let (said, manifest) = resumed(Device::Cpu, 5);
    assert!(said.contains("from step 5 on it is computed on cpu, before on cuda-emulated"), "{said}");
    assert_eq!(manifest.moves, [moved(3, "cuda-emulated"), moved(4, "cpu")]);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for threads in [2, 3] {
        let folder = empty(&format!("threads-{threads}"));
        go(&task(&folder, STEPS, false, threads));
        assert_same(&folder);
    }
}

#[test]
fn a_cancelled_run_saves_and_goes_on() {
    let folder = empty("cancelled");
    let cancelled = AtomicBool::new(false);
    let mut saved = Vec::new();
    let summary = run::run(
        &task(&folder, STEPS, false, 2),
        Vec::new(),
        &mut |event| match event {
            Event::Step(line) if line.step == 3 => cancelled.store(true, Ordering::SeqCst),
            Event::Saved(path) => saved.push(path.to_owned()),
            _ => {}
        },
        &cancelled,
    );
    let summary = summary.unwrap();
    assert_eq!((summary.steps, summary.interrupted), (3, true));
    assert_eq!(saved, [folder.join("checkpoints/step-00000003")]);
    assert_eq!(summary.checkpoint, saved[0]);
    let mut started = None;
    let observe = &mut |event: Event<'_>| {
        if let Event::Started(steps) = event {
            started = Some(steps);
        }
    };
    run::run(&task(&folder, STEPS, true, 1), Vec::new(), observe, &NEVER).unwrap();
    assert_eq!(started, Some(3));
    assert_same(&folder);
}

/// A validation takes a while, and it is when people lose patience; before the first step, too.
#[test]
fn a_run_cancelled_while_it_validates_saves_what_it_has() {
    for (step, validations) in [(0, 1), (3, 2)] {
        let folder = empty(&format!("cancelled-validating-{step}"));
        let (cancelled, mut seen) = (AtomicBool::new(false), 0);
        let mut task = task(&folder, STEPS, false, 2);
        task.config.train.validate_every = 3;
        task.data.held_out = Arc::new(Dataset::open(shards()).unwrap());
        let observe = &mut |event: Event<'_>| {
            if let Event::Validated(..) = event {
                seen += 1;
                cancelled.store(seen == validations, Ordering::SeqCst);
            }
        };
        let summary = run::run(&task, Vec::new(), observe, &cancelled).unwrap();
        assert_eq!((summary.steps, summary.interrupted), (step, true));
        assert_eq!(summary.checkpoint, folder.join(format!("checkpoints/step-{step:08}")));
        task.resume = true;
        go(&task);
        assert_same(&folder);
        let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        assert_eq!(text.matches("\"validation\"").count(), 5, "before, after steps 3, 6 and 9, and at the end");
    }
}

/// States of reports are kept in memory alone, and computed again by a process that goes on.
#[test]
fn a_run_that_keeps_states_of_reports_goes_on_to_the_same_bits() {
    let run = |folder: &Path, steps, resume, cached| {
        let mut task = task(folder, steps, resume, 2);
        (task.config.model.frozen_text_layers, task.config.model.frozen_embeddings) = (1, true);
        task.config.train.text_cache = cached;
        go(&task)
    };
    let (whole, stopped, without) = (empty("cached"), empty("cached-stopped"), empty("not-cached"));
    run(&whole, STEPS, false, true);
    run(&stopped, 5, false, true);
    run(&stopped, STEPS, true, true);
    run(&without, STEPS, false, false);
    for other in [&stopped, &without] {
        assert!(state(&whole) == state(other), "{}: other bytes than those of one run with a cache", other.display());
        assert_eq!(steps(&whole), steps(other));
    }
}

/// What a run on a device leaves whose batches come while the step before is computed, and whose films may lie there, is what
/// steps leave that are given theirs one by one; validations and the losses' interference, which have inputs of their own, lie
/// between.
#[test]
fn batches_that_come_ahead_change_nothing() {
    const TAKEN: u64 = 3;
    let task = |resident, name: &str| {
        let mut task = task(&empty(name), TAKEN, false, 2);
        (task.device, task.resident, task.log_interference) = (Device::CudaEmulated(0), resident, true);
        task.config.model.warmup_steps = 2;
        (task.config.train.batch, task.config.train.validate_every) = (2, 2);
        task
    };
    let runs = [Resident::Off, Resident::On].map(|resident| task(resident, &format!("ahead-{resident:?}")));
    let (losses, weights) = one_by_one(&runs[0], TAKEN);
    for run in &runs {
        let mut said = String::new();
        let mut observe = |event: Event<'_>| match event {
            Event::Note(note) => said += note,
            Event::Resident(done, all) => assert!(0 < done && done <= all),
            _ => {}
        };
        let left = run::run(run, Vec::new(), &mut observe, &NEVER).unwrap().checkpoint.join(folder::WEIGHTS);
        let stays = run.resident == Resident::On;
        assert_eq!(said.contains("films stay on cuda-emulated"), stays, "{said}");
        assert_eq!(run::read(&run.folder).unwrap().1.resident, stays);
        let lines: Vec<f64> = steps(&run.folder).iter().map(|line| line["loss.total"].as_f64().unwrap()).collect();
        assert_eq!(lines, losses, "{:?}", run.resident);
        assert!(fs::read(left).unwrap() == weights, "{:?}: other weights", run.resident);
    }
}

/// Losses of so many steps with the settings and data of a run, each given its batch when the one before is done; and the file
/// of weights that they leave.
fn one_by_one(task: &Run, taken: u64) -> (Vec<f64>, Vec<u8>) {
    let RunConfig { model, train } = &task.config;
    let (groups, seed) = (train.groups.clone(), train.seed);
    let options = Options::new(model.clone(), train.batch, train.text_length);
    let mut session = Session::open(Options { device: task.device, groups, seed, ..options }).unwrap();
    let options = LoaderOptions {
        batch: train.batch,
        image_size: model.image_size,
        text_len: train.text_length,
        seed,
        recipe: train.augment,
    };
    let films = task.data.train.select(Some(Split::Train), true);
    let batches = Batches::new(task.data.train.clone(), films, options).unwrap();
    let step = |step| {
        let batch = batches.at(step).unwrap();
        let text = TextBatch::pack(&batch.tokens, &batch.lengths, train.text_length, model).unwrap();
        let rate = train.schedule.learning_rate(model.learning_rate, step);
        session.step(Films::Bytes(&batch.pixels, &batch.augmentation), &text, rate).unwrap().total
    };
    let losses = (0..taken).map(step).collect();
    let path = empty("one-by-one.safetensors");
    session.save_weights(&path).unwrap();
    (losses, fs::read(path).unwrap())
}

/// A run that was killed before its first checkpoint starts again, from the same weights.
#[test]
fn a_run_without_a_checkpoint_starts_again_from_its_weights() {
    let weights = folder::newest(straight()).unwrap().unwrap().join(folder::WEIGHTS);
    let run = |folder: &Path, steps, resume| {
        let mut task = task(folder, steps, resume, 2);
        task.manifest.weights = Some(weights.clone());
        go(&task)
    };
    let (whole, killed) = (empty("from-weights"), empty("from-weights-killed"));
    run(&whole, 2, false);
    run(&killed, 1, false);
    fs::remove_dir_all(killed.join("checkpoints")).unwrap();
    run(&killed, 2, true);
    assert_eq!(steps(&whole), steps(&killed));
    assert!(steps(&whole)[0]["loss.total"] != steps(straight())[0]["loss.total"]);
}

#[test]
fn numbers_that_are_not_finite_end_a_run_with_their_place_and_films() {
    let folder = empty("not-finite");
    let mut task = task(&folder, STEPS, false, 1);
    task.config.model.learning_rate = 1e30;
    task.config.train.schedule.kind = Kind::Constant;
    task.config.train.checkpoint_every = 1;
    let error = run::run(&task, Vec::new(), &mut |_| {}, &NEVER).unwrap_err();
    let text = error.to_string();
    let Error::NotFinite { step, scope, op, films } = error else { panic!("{text}") };
    // The steps before this one were taken and written down, and nothing after them.
    assert!((2..=STEPS).contains(&step), "{text}");
    assert_eq!(steps(&folder).len() as u64, step - 1);
    assert!(folder::newest(&folder).unwrap().unwrap().ends_with(format!("step-{:08}", step - 1)));
    assert!(!scope.is_empty() && !op.is_empty() && scope != "the step", "{text}");
    let ids: HashSet<&String> = films.iter().collect();
    assert!(ids.len() == BATCH && films.iter().all(|id| id.starts_with("ph9-")), "{text}");
    assert!(films.iter().all(|id| text.contains(id.as_str())) && text.contains(&op), "{text}");
}

#[test]
fn other_data_and_damaged_checkpoints_are_refused() {
    let folder = empty("other-data");
    go(&task(&folder, 1, false, 1));
    let metrics = fs::read(folder.join("metrics.jsonl")).unwrap();
    let mut other = task(&folder, STEPS, true, 1);
    other.manifest.data_digest = "of other data".into();
    let error = run::run(&other, Vec::new(), &mut |_| {}, &NEVER).unwrap_err().to_string();
    assert!(error.contains("other data") && error.contains("step-00000001"), "{error}");
    let checkpoint = folder::newest(&folder).unwrap().unwrap();
    for file in [folder::WEIGHTS, folder::MOMENTS, "progress.json"] {
        let path = checkpoint.join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = run::run(&task(&folder, STEPS, true, 1), Vec::new(), &mut |_| {}, &NEVER).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(fs::read(folder.join("metrics.jsonl")).unwrap(), metrics, "a run that was refused wrote metrics");
    go(&task(&folder, 2, true, 1));
}
