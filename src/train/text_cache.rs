//! What the frozen part of the text encoder makes of reports, each computed once.
//!
//! With frozen embeddings ([`frozen_embeddings`](crate::model::config::Config::frozen_embeddings)) the states behind the last
//! frozen layer depend on a report alone. They are kept in the machine's memory as the device stores them, `text_hidden` numbers a
//! token. A report is computed by itself, so its states do not depend on the batch that it first came in, and a resumed run has the
//! same. Within a batch they may be others by a rounding: a product of few rows may be cut along its depth where one of many is not.

use std::collections::HashMap;
use std::sync::Arc;

use super::engine::Engine;
use crate::base::DType;
use crate::error::Error;
use crate::model::batch::{STATES, TextBatch};
use crate::model::config::Config;
use crate::program::Checked;
use crate::program::plan::Plan;

/// See the [module](self).
#[derive(Debug)]
pub struct TextCache {
    /// Of [`record_text_states`](crate::model::g2d::record_text_states) for one report.
    plan: Arc<Checked>,
    text_len: usize,
    /// By tokens and rows of a report: its states, as stored.
    known: HashMap<(Vec<i32>, usize), Vec<u8>>,
}

impl TextCache {
    /// Computes states of reports of at most `text_len` tokens by such a plan.
    pub(super) fn new(plan: Arc<Checked>, text_len: usize) -> Self {
        Self { plan, text_len, known: HashMap::new() }
    }

    /// Whether the states of a report stay the same while this model is trained.
    ///
    /// # Errors
    /// If they do not.
    pub(super) fn allowed(config: &Config) -> Result<(), String> {
        let (frozen, layers) = (config.frozen_embeddings, config.frozen_text_layers);
        if frozen && layers > 0 {
            return Ok(());
        }
        Err(format!(
            "text_cache keeps what frozen layers make of a report, and frozen_embeddings is {frozen}, frozen_text_layers {layers}: \
             freeze the embeddings (--freeze embeddings) and layers that have learned already (--init or --weights, or --set \
             frozen_text_layers=N), or leave the cache out"
        ))
    }

    /// Reports whose states are kept.
    pub fn reports(&self) -> usize {
        self.known.len()
    }

    /// Bytes of these states.
    pub fn bytes(&self) -> usize {
        self.known.values().map(Vec::len).sum()
    }

    /// Forgets all: other weights make other states.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// Whether the states of all these reports are kept.
    pub(super) fn knows(&self, text: &TextBatch) -> bool {
        reports_of(text, self.text_len).all(|(_, key)| self.known.contains_key(&key))
    }

    /// Computes the states of those reports that are not known yet, as a plan takes them.
    ///
    /// # Errors
    /// If the device refuses.
    pub(super) fn learn(&mut self, engine: &mut Engine, plan: &Plan, text: &TextBatch) -> Result<(), Error> {
        let dtype = plan.input(STATES).ok_or_else(|| unfit(0, text.ids.len()))?.dtype;
        for (alone, key) in reports_of(text, self.text_len) {
            if !self.known.contains_key(&key) {
                let made = self.compute(engine, &alone, dtype)?;
                self.known.insert(key, made);
            }
        }
        Ok(())
    }

    /// Writes the texts' inputs of a plan that takes them as states, of reports that [are known](Self::learn).
    ///
    /// # Errors
    /// If the device refuses.
    pub(super) fn write(&self, engine: &mut Engine, plan: &Plan, text: &TextBatch) -> Result<(), Error> {
        let buffer = *plan.input(STATES).ok_or_else(|| unfit(0, text.ids.len()))?;
        let mut states = Vec::with_capacity(buffer.bytes());
        reports_of(text, self.text_len).for_each(|(_, key)| states.extend_from_slice(&self.known[&key]));
        states.resize(buffer.bytes(), 0);
        engine.upload(plan, STATES, &states)?;
        engine.upload(plan, "offsets", &text.offsets)?;
        engine.upload(plan, "lengths", &text.lengths)
    }

    /// The states of one report, as a plan stores them that takes them.
    fn compute(&self, engine: &mut Engine, alone: &TextBatch, dtype: DType) -> Result<Vec<u8>, Error> {
        engine.write_texts(&self.plan, alone)?;
        engine.replay(&self.plan)?;
        let numbers = engine.output(&self.plan, "out.text_states")?.ok_or_else(|| unfit(self.text_len, 0))?;
        let used = numbers.len() / self.text_len * alone.offsets[1] as usize;
        Ok(dtype.encode(numbers.into_iter().take(used)))
    }
}

/// The reports of a batch, each with what its states are known by.
fn reports_of(text: &TextBatch, text_len: usize) -> impl Iterator<Item = (TextBatch, (Vec<i32>, usize))> {
    (0..text.lengths.len()).map(move |at| {
        let alone = text.alone(at, text_len);
        let key = (alone.ids[..alone.lengths[0] as usize].to_vec(), alone.offsets[1] as usize);
        (alone, key)
    })
}

/// States that are not there, or not taken.
fn unfit(wanted: usize, got: usize) -> Error {
    Error::Input { name: STATES.into(), wanted, got }
}

#[cfg(test)]
mod tests {
    use crate::model::batch::{Source, TextBatch};
    use crate::model::config::Config;
    use crate::train::Device;
    use crate::train::session::{Films, Options, Session};

    /// A batch is taken while a step is computed if all its reports are known, and is then the same.
    #[test]
    fn batches_of_known_reports_come_ahead() {
        let config = Config {
            warmup_steps: 0,
            frozen_text_layers: 1,
            frozen_embeddings: true,
            ..Config::preset("micro").unwrap()
        };
        let open = || {
            let options = Options::new(config.clone(), 2, 8);
            let device = Device::CudaEmulated(0);
            Session::open(Options { source: Source::Numbers, device, text_cache: true, ..options }).unwrap()
        };
        let films: Vec<f32> = (0..2 * config.image_size.pow(2)).map(|at| (at % 97) as f32 / 97.0).collect();
        let batch = |tokens: &[i32], lengths: &[usize]| TextBatch::pack(tokens, lengths, 8, &config).unwrap();
        let texts = [batch(&[2, 5, 3, 2, 9, 8, 3], &[3, 4]), batch(&[2, 7, 3, 2, 9, 8, 3], &[3, 4])];
        let (mut ahead, mut plain) = (open(), open());
        let mut put = false;
        for (step, taken) in [(0, false), (1, true), (0, false)].into_iter().enumerate() {
            let (text, next) = (&texts[taken.0], &texts[1 - taken.0]);
            if !put {
                ahead.put(Films::Numbers(&films), text).unwrap();
            }
            ahead.begin(1e-2).unwrap();
            put = step < 2 && ahead.put_ahead(Films::Numbers(&films), next).unwrap();
            assert_eq!(put, taken.1, "step {step}");
            let losses = [ahead.finish(), plain.step(Films::Numbers(&films), text, 1e-2)].map(|line| line.unwrap());
            assert_eq!(losses[0], losses[1], "step {step}");
        }
        assert!(ahead.begin(1e-2).is_err(), "it has no batch");
    }
}
