//! `g2d sweep`: a grid of settings, each trained with several seeds and evaluated; a table and a plot at the end. `g2d study`
//! runs sweeps that come with the program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::pretrain::RUNS;
use super::store::local;
use super::{CANCELLED, STOPPED, cancelled};
use crate::data::Dataset;
use crate::downstream::Report;
use crate::downstream::evaluation::PROTOCOL;
use crate::downstream::summary::{Cell, Summary};
use crate::downstream::tasks::Task;
use crate::downstream::trained;
use crate::error::Error;
use crate::train::defaults;

/// Trains and evaluates every combination of settings in a file, with each seed, and sums up. What is finished is kept: started
/// again, it goes on.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d sweep examples/sweeps/objectives.toml\n  \
    g2d sweep mine.toml --out sweeps/mine\n\n\
    A file:\n  \
    title = \"Which objective of the decoder\"\n  \
    seeds = [0, 1, 2]\n  \
    pretrain = [\"--steps\", \"600\"]        # further arguments of g2d pretrain\n  \
    tasks = [\"probe\", \"segment\"]         # of g2d eval; pretrain: what training itself wrote down\n  \
    random = true                        # also weights that were never trained\n  \
    show = [\"probe: f5, 1 % of training\"] # what is plotted: how names of rows begin, * for anything\n  \
    [grid]                               # keys and values as in --set\n  \
    decoder_objective = [\"pseudo-segmentation\", \"none\"]")]
pub struct Sweep {
    /// The file.
    file: PathBuf,
    /// Where runs go, and table and plot, these into a folder named as the file; by default runs/sweeps. Sweeps share runs there.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

/// What a file of a sweep says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub(super) title: String,
    /// What is known of the question, printed above the table.
    #[serde(default)]
    about: String,
    #[serde(default = "one_seed")]
    seeds: Vec<u64>,
    #[serde(default)]
    pretrain: Vec<String>,
    tasks: Vec<String>,
    #[serde(default)]
    eval: Vec<String>,
    #[serde(default)]
    random: bool,
    #[serde(default)]
    show: Vec<String>,
    #[serde(default)]
    grid: BTreeMap<String, Vec<toml::Value>>,
}

fn one_seed() -> Vec<u64> {
    vec![0]
}

/// The name under which a sweep asks for what training itself wrote down.
const PRETRAIN: &str = trained::TASK;

impl Plan {
    /// Reads what stands in a file, which is called `origin` in errors.
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let fault = |what: String| Error::Usage(format!("{origin}: {what}"));
        let plan: Self = toml::from_str(text)
            .map_err(|error| fault(format!("{}; g2d sweep --help shows a file", error.message())))?;
        let known: Vec<&str> = Task::ALL.map(Task::name).into_iter().chain([PRETRAIN]).collect();
        if let Some(other) = plan.tasks.iter().find(|task| !known.contains(&task.as_str())) {
            return Err(fault(format!("there is no task {other:?}; there are {}", known.join(", "))));
        }
        if plan.tasks.is_empty() || plan.seeds.is_empty() {
            return Err(fault("tasks and seeds must not be empty".into()));
        }
        if let Some((key, _)) = plan.grid.iter().find(|(_, values)| values.is_empty()) {
            return Err(fault(format!("grid.{key} has no values")));
        }
        // A key or value that the last run would refuse is refused before the first.
        for setting in plan.combinations().iter().flatten() {
            let mut config = defaults::first_run(defaults::VOCABULARY, 1)?;
            let (key, value) = setting.split_once('=').unwrap_or_default();
            config.set(key, value).map_err(|why| fault(format!("grid.{key}: {why}")))?;
        }
        Ok(plan)
    }

    /// Every combination: settings as KEY=VALUE.
    fn combinations(&self) -> Vec<Vec<String>> {
        let mut all = vec![Vec::new()];
        for (key, values) in &self.grid {
            let with = |own: &Vec<String>, value: &toml::Value| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                own.iter().cloned().chain([format!("{key}={value}")]).collect()
            };
            all = all.iter().flat_map(|own| values.iter().map(move |value| with(own, value))).collect();
        }
        all
    }
}

impl Sweep {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let text = std::fs::read_to_string(&self.file).map_err(Error::io(&self.file))?;
        let plan = Plan::parse(&text, &self.file.display().to_string())?;
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        carry_out(&plan, self.out.as_deref(), &name, self.json)
    }
}

/// Trains and evaluates what is not yet in `out` (runs/sweeps if nothing is said), writes table and plot to its folder `name`, and
/// prints the table. Runs and reports lie in `out` under what they were made with, so sweeps share them.
pub(super) fn carry_out(plan: &Plan, out: Option<&Path>, name: &str, json: bool) -> Result<(), Error> {
    cancelled()?;
    let default = Path::new(RUNS).join("sweeps");
    let out = out.unwrap_or(&default);
    let summary = summed_up(plan, out)?;
    let folder = out.join(name);
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    summary.write(&folder.join("table"))?;
    let plot = folder.join("plot.svg");
    crate::checkpoint::write_beside(&plot, super::plot::dots(&summary, &plan.show)?.as_bytes())
        .map_err(Error::io(&plot))?;
    match json {
        true => println!("{}", serde_json::to_string(&summary).unwrap_or_default()),
        false => println!("{}\nwritten to {}: table.md, table.json, plot.svg", summary.text(), folder.display()),
    }
    Ok(())
}

/// Trains and evaluates what is not yet there.
fn summed_up(plan: &Plan, out: &Path) -> Result<Summary, Error> {
    let combinations = plan.combinations();
    let count = (combinations.len() + usize::from(plan.random)) * plan.seeds.len();
    let (mut cells, mut done, mut first) = (Vec::new(), 0, None);
    for settings in &combinations {
        let title = if settings.is_empty() { "trained".into() } else { settings.join(", ") };
        for &seed in &plan.seeds {
            done += 1;
            eprintln!("[{done}/{count}] {title}, seed {seed}");
            let run = trained_run(plan, settings, &title, seed, out)?;
            cells.push(Cell { title: title.clone(), seed, reports: reports(plan, &run, None)? });
            first.get_or_insert(run);
        }
    }
    // Weights that were never trained have the model of the first combination.
    for (&seed, run) in plan.seeds.iter().filter(|_| plan.random).zip(first.iter().cycle()) {
        done += 1;
        eprintln!("[{done}/{count}] random weights, seed {seed}");
        cells.push(Cell { title: "random".into(), seed, reports: reports(plan, run, Some(seed))? });
    }
    Ok(Summary::of(&plan.title, &plan.about, &cells))
}

/// Letters, digits, `.` and `-` as they are, everything else as `_`.
fn file_name(title: &str) -> String {
    title
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || ".-=".contains(letter) { letter } else { '_' })
        .collect()
}

/// Of arguments, the data that they name and the program's version, so that what was made with others has another name.
fn digest(arguments: &[String]) -> Result<String, Error> {
    let mut hashed = format!("{}\n{}", env!("CARGO_PKG_VERSION"), arguments.join("\n"));
    for data in arguments.windows(2).filter(|pair| pair[0] == "--data").map(|pair| Path::new(&pair[1])) {
        hashed += Dataset::open(&local(data)?)?.digest();
    }
    Ok(blake3::hash(hashed.as_bytes()).to_hex()[..8].to_owned())
}

/// Trains a run in `out`, unless it is trained; one that was stopped goes on.
fn trained_run(plan: &Plan, settings: &[String], title: &str, seed: u64, out: &Path) -> Result<PathBuf, Error> {
    let mut arguments = plan.pretrain.clone();
    arguments.extend(["--set".into(), format!("seed={seed}")]);
    arguments.extend(settings.iter().flat_map(|setting| ["--set".into(), setting.clone()]));
    let run = out.join(format!("{}-seed{seed}-{}", file_name(title), digest(&arguments)?));
    let finished = run.join("finished.json");
    if finished.exists() {
        return Ok(run);
    }
    let mut call = vec!["pretrain".to_owned(), "--json".into(), "--out".into(), run.display().to_string()];
    if run.join("manifest.json").exists() {
        // The settings are the run's own; of the arguments only where to stop is said again.
        call.push("--resume".into());
        let stops = |word: &&String| ["--steps", "--epochs"].iter().any(|stop| word.starts_with(stop));
        if let Some(at) = plan.pretrain.iter().position(|word| stops(&word)) {
            let words = if plan.pretrain[at].contains('=') { 1 } else { 2 };
            call.extend(plan.pretrain[at..].iter().take(words).cloned());
        }
    } else {
        call.extend(arguments.clone());
    }
    child(&call)?;
    let text = serde_json::to_string(&arguments).unwrap_or_default();
    crate::checkpoint::write_beside(&finished, text.as_bytes()).map_err(Error::io(&finished))?;
    Ok(run)
}

/// The reports of a run, or of fresh weights of its model, task by task; those that exist are read, unless they were made by
/// another protocol: these are made again.
fn reports(plan: &Plan, run: &Path, random: Option<u64>) -> Result<Vec<Report>, Error> {
    let report = |task: &String| {
        let weights = random.map_or("trained".into(), |seed| format!("random{seed}"));
        let path = run.join("sweep").join(format!("{task}-{weights}-{}.json", digest(&plan.eval)?));
        let made = path.exists().then(|| Report::read(&path)).transpose()?;
        if let Some(report) = made.filter(|report| report.protocol == PROTOCOL) {
            return Ok(report);
        }
        let subject = match random {
            Some(seed) => format!("random:{seed}:{}", run.display()),
            None => run.display().to_string(),
        };
        let mut call = vec!["eval".to_owned(), task.clone(), "--weights".into(), subject];
        call.extend(["--out".into(), path.display().to_string()]);
        call.extend(plan.eval.clone());
        child(&call)?;
        Report::read(&path)
    };
    let mut found: Vec<Report> =
        plan.tasks.iter().filter(|task| *task != PRETRAIN).map(report).collect::<Result<_, Error>>()?;
    // What was never trained wrote nothing down.
    if random.is_none() && plan.tasks.iter().any(|task| task == PRETRAIN) {
        found.insert(0, trained::report(run)?);
    }
    Ok(found)
}

/// Runs this program with other arguments: each part has its own memory, and is stopped with this one.
fn child(arguments: &[String]) -> Result<(), Error> {
    let stopped = || Error::Stopped("what was finished is kept, and the same sweep goes on from there".into());
    if CANCELLED.load(Ordering::SeqCst) {
        return Err(stopped());
    }
    let program =
        std::env::current_exe().map_err(|error| Error::Usage(format!("this program cannot be found: {error}")))?;
    let mut command = Command::new(&program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    // In a group of its own Ctrl-C does not reach it, and it is told once.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(Error::io(&program))?;
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(Error::io(&program))? {
            break status;
        }
        if !told && CANCELLED.load(Ordering::SeqCst) {
            told = true;
            stop(&child);
        }
        thread::sleep(Duration::from_millis(20));
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(STOPPED) => Err(stopped()),
        _ => Err(Error::Usage(format!(
            "g2d {} ended with {status}; what was finished is kept, and the same sweep goes on from there",
            arguments.join(" "),
        ))),
    }
}

/// Asks it to stop as Ctrl-C would; where there are no signals it is waited for.
#[cfg_attr(not(unix), allow(unused_variables))]
fn stop(child: &Child) {
    #[cfg(unix)]
    if let Ok(id) = child.id().try_into() {
        // One that has just ended is seen next.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM);
    }
}
