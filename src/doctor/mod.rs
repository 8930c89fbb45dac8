//! Whether this machine can do what is asked of it: memory, disk, data, and that the kernels compute what they should.

pub mod devices;
mod self_check;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::counted;
use crate::checkpoint::folder::KEPT;
use crate::data::{Dataset, Split};
use crate::error::Error;
use crate::model::batch::{Reports, Shapes, Source};
use crate::program::{Kernels, Precision};
use crate::train::config::RunConfig;
use crate::train::defaults::{self, Start};
use crate::train::footprint::{self, Footprint};
use crate::train::{Device, session};

/// The run that is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// A packed data set, if there is one already.
    pub data: Option<PathBuf>,
    /// Size of the model. Without preset, recipe and data it is the first run that is asked about.
    pub preset: Option<String>,
    /// Whose mask, losses and schedule.
    pub recipe: Option<String>,
    /// How numbers are stored.
    pub precision: Precision,
    /// Bytes of data that the run writes before it starts.
    pub drawn: u64,
    /// Pairs a step; as many as a run takes by default if `None`.
    pub batch: Option<usize>,
    /// Tokens of the longest report; the preset's default if `None`.
    pub text_length: Option<usize>,
    /// Where runs are written.
    pub out: PathBuf,
    /// What it runs on.
    pub device: Device,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do, if it is not.
    pub fix: Option<String>,
}

impl Check {
    fn passed(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), fix: None }
    }

    fn failed(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, ok: false, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Whether all is as it should be.
    pub ok: bool,
    /// Predicted needs of the run.
    pub footprint: Footprint,
    /// The checks, in order.
    pub checks: Vec<Check>,
}

/// Looks at everything. Nothing is written but in memory.
///
/// # Errors
/// If the question itself is impossible: an unknown preset, a batch or a text length the model cannot take.
pub fn examine(question: &Question) -> Result<Diagnosis, Error> {
    let (data, dataset) = match question.data.as_deref().map(open) {
        None => (None, None),
        Some(Ok(dataset)) => (None, Some(dataset)),
        Some(Err(check)) => (Some(check), None),
    };
    let vocabulary = dataset.as_ref().map_or(defaults::VOCABULARY, Dataset::vocab_size);
    let mut config = match (&question.data, &question.preset, &question.recipe) {
        (None, None, None) => defaults::first_run(vocabulary, 1)?,
        (_, preset, recipe) => {
            let recipe = recipe.as_deref().unwrap_or("default");
            let preset = preset.as_deref().unwrap_or("tiny");
            defaults::settings(preset, recipe, Start::of(recipe, false), vocabulary, 1)?
        }
    };
    config.train.precision = question.precision;
    config.train.batch = question.batch.unwrap_or(config.train.batch);
    config.train.text_length = question.text_length.unwrap_or(config.train.text_length);
    config.validate()?;
    let footprint = footprint_of(&config, question.device)?;
    let data = data.or_else(|| dataset.map(|dataset| fits(&dataset, &config)));
    let (device, room) = device(question.device);
    // A device that is not there computes nothing; the processor is looked at all the same.
    let computes = if device.as_ref().is_none_or(|device| device.ok) { question.device } else { Device::Cpu };
    let mut checks: Vec<Check> = device.into_iter().collect();
    checks.extend([memory(&config, &footprint, question.device, room), disk(question, &footprint)]);
    checks.extend(data);
    checks.push(self_check::run(computes)?);
    Ok(Diagnosis { ok: checks.iter().all(|check| check.ok), footprint, checks })
}

/// Looks for a device that is not the processor; with its memory in bytes, where that limits a run.
fn device(device: Device) -> (Option<Check>, Option<u64>) {
    match device.driver() {
        Ok(None) => (None, footprint::available_memory()),
        // It lies in the processor's memory.
        Ok(Some(_)) if device.schedule().is_some() => {
            let found = "the kernels for CUDA, executed and checked on the processor: to verify, far too slow to train";
            (Some(Check::passed("device", found)), footprint::available_memory())
        }
        Ok(Some(driver)) => {
            let found = driver.properties();
            (Some(Check::passed("device", format!("{device}: {}", found.name))), Some(found.memory))
        }
        Err(error) => (Some(Check::failed("device", error.to_string(), "give another --device (g2d devices)")), None),
    }
}

fn footprint_of(config: &RunConfig, device: Device) -> Result<Footprint, Error> {
    let shapes = Shapes { batch: config.train.batch, text_len: config.train.text_length, source: Source::Bytes };
    let kernels = device.kernels(Kernels::Best, device.capacity());
    let plan = session::step_plan(&config.model, &shapes, Reports::Tokens, config.train.precision, kernels)?;
    Ok(Footprint::of(&plan))
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}

fn memory(config: &RunConfig, footprint: &Footprint, device: Device, available: Option<u64>) -> Check {
    let name = "memory";
    let needed = format!("a step of {} pairs needs about {}", config.train.batch, gib(footprint.memory));
    let Some(available) = available else {
        return Check::passed(name, format!("{needed}; this system does not say how much there is"));
    };
    let found = format!("{needed}, {} are available", gib(available));
    if footprint.memory <= available {
        return Check::passed(name, found);
    }
    let mut smaller = config.clone();
    while smaller.train.batch > 2 {
        smaller.train.batch = (smaller.train.batch / 2).max(2);
        if footprint_of(&smaller, device).is_ok_and(|needed| needed.memory <= available) {
            return Check::failed(name, found, format!("give --batch {}", smaller.train.batch));
        }
    }
    Check::failed(name, found, "give a smaller --preset, or end other programs")
}

/// Runs keep a few checkpoints, and write the next before they delete the oldest.
fn disk(question: &Question, footprint: &Footprint) -> Check {
    let (name, checkpoints) = ("disk", footprint.checkpoint * (KEPT as u64 + 1));
    let needed = checkpoints + question.drawn;
    let place = question.out.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("."));
    let mut found = format!("{} checkpoints take {}", KEPT + 1, gib(checkpoints));
    if question.drawn > 0 {
        found += &format!(", phantoms that are still to be drawn {}", gib(question.drawn));
    }
    match free_disk(place) {
        None => Check::passed(name, format!("{found}; this system does not say how much is free")),
        Some(free) => {
            let found = format!("{found}, {} are free in {}", gib(free), place.display());
            match needed <= free {
                true => Check::passed(name, found),
                false => Check::failed(name, found, "free some space, or give --out a folder on another disk"),
            }
        }
    }
}

/// Bytes that may still be written in the file system of a folder. `None` where the system does not say.
fn free_disk(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
        .ok()
        .map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    #[cfg(not(unix))]
    return None;
}

/// Opens shards and compares all digests.
fn open(data: &Path) -> Result<Dataset, Check> {
    let sound = Dataset::open(data).and_then(|dataset| dataset.verify(&mut |_, _| {}).map(|()| dataset));
    sound.map_err(|error| match data.is_dir() {
        true => Check::failed("data", error.to_string(), "pack the data again: g2d pack --help"),
        false => {
            Check::failed("data", format!("{} is no folder", data.display()), "give --data the folder of the shards")
        }
    })
}

fn fits(data: &Dataset, config: &RunConfig) -> Check {
    let name = "data";
    let usable = data.select(Some(Split::Train), true).len();
    let found = format!(
        "{}: {} of {} pixels in {}, every digest agrees; {usable} can be trained on",
        data.folder().display(),
        counted(data.len(), "film"),
        data.size(),
        counted(data.shards(), "shard")
    );
    let (side, batch) = (config.model.image_size, config.train.batch);
    if data.size() < side {
        Check::failed(name, found, format!("the preset takes {side} pixels: pack again with --size {side}"))
    } else if usable < batch {
        Check::failed(name, found, format!("a batch has {batch}: give a smaller --batch or pack more films"))
    } else {
        Check::passed(name, found)
    }
}
