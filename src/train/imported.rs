//! Weights of a whole model made of towers of others, with what they lack drawn fresh.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::Kind;
use crate::checkpoint::import::{Import, Report};
use crate::checkpoint::{self, Numbers, names};
use crate::error::Error;
use crate::model::batch::{Shapes, Source};
use crate::model::config::{Config, ConfigError};
use crate::model::{g2d, init};

/// The model that `towers` are of: `base` with the sizes of their tensors. It is not validated: what the files do not tell may
/// still have to be set.
///
/// # Errors
/// If a size is of no kind that a model has.
pub fn config(base: &Config, towers: &[Import]) -> Result<Config, Error> {
    let mut json = serde_json::to_value(base).unwrap_or_default();
    for (key, value) in towers.iter().flat_map(Import::settings) {
        json[key] = value;
    }
    // A base with fewer frozen layers than the towers have keeps them; one with more freezes all.
    if json["frozen_text_layers"].as_u64() > json["text_layers"].as_u64() {
        json["frozen_text_layers"] = json["text_layers"].clone();
    }
    Ok(serde_json::from_value(json).map_err(ConfigError::from)?)
}

/// Writes the weights of the model `config` to a file: those of `towers`, the others drawn by `seed`. Returns what became of
/// the towers' names. `progress` is told how many tensors there are of how many; `cancelled` is looked at between them.
///
/// # Errors
/// If a tower does not fit, the file cannot be written, or it is cancelled.
pub fn write(
    path: &Path,
    config: &Config,
    towers: &[Import],
    seed: u64,
    progress: &dyn Fn(usize, usize),
    cancelled: &AtomicBool,
) -> Result<Vec<Report>, Error> {
    let shapes = Shapes { batch: 1, text_len: 1, source: Source::Bytes };
    let program = g2d::record_evaluate(config, &shapes)?.finish();
    let mut numbers: Vec<Option<Numbers>> = vec![None; program.states.len()];
    let mut reports = Vec::new();
    for tower in towers {
        tower.check(config)?;
        let (found, report) = tower.load(&program, config)?;
        found.into_iter().for_each(|(at, found)| numbers[at] = Some(found));
        reports.push(report);
    }
    let wanted = names::weights(&program);
    let mut tensors = Vec::with_capacity(wanted.len());
    for &at in &wanted {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Stopped("no weights were kept, the same command starts over".into()));
        }
        progress(tensors.len(), wanted.len());
        let state = &program.states[at];
        let spec = program.spec(state.value);
        let drawn = || match spec.kind {
            Kind::Index => Numbers::Index(vec![0; spec.shape.elements()]),
            _ => Numbers::Real(init::draw(state.init, &state.name, spec.shape.elements(), seed)),
        };
        tensors.push((at, numbers[at].take().unwrap_or_else(drawn)));
    }
    checkpoint::save(path, &program, &tensors)?;
    Ok(reports)
}
