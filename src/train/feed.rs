//! The batches of a run, in order: where the device takes it, the next one is on its way there while a step is computed.

use super::config::RunConfig;
use super::session::{Films, Session};
use crate::data::loader::{HostBatch, Loader};
use crate::error::Error;
use crate::model::batch::TextBatch;

/// A batch as the session takes it.
pub struct Pairs {
    /// What the loader made.
    pub batch: HostBatch,
    /// Where its films lie on the device, if they do.
    rows: Option<Vec<u32>>,
    /// Its reports.
    pub text: TextBatch,
    /// The session was given it already.
    pub put: bool,
}

impl Pairs {
    /// Its films.
    pub fn films(&self) -> Films<'_> {
        match &self.rows {
            Some(rows) => Films::Rows(rows, &self.batch.augmentation),
            None => Films::Bytes(&self.batch.pixels, &self.batch.augmentation),
        }
    }
}

/// See the [module](self).
pub struct Feed {
    loader: Loader,
    /// The films that lie on the device, in order of their numbers, if they do.
    resident: Option<Vec<usize>>,
    /// The next one, if it was taken ahead.
    next: Option<Pairs>,
}

impl Feed {
    /// What a loader hands out; its films lie on the device in this order, or come with it.
    pub fn new(loader: Loader, resident: Option<Vec<usize>>) -> Self {
        Self { loader, resident, next: None }
    }

    /// The batch of the next step.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn take(&mut self, config: &RunConfig) -> Result<Pairs, Error> {
        if let Some(next) = self.next.take() {
            return Ok(next);
        }
        let batch = self.loader.next().ok_or(Error::LoaderStopped)??;
        let text = TextBatch::pack(&batch.tokens, &batch.lengths, config.train.text_length, &config.model)?;
        let row = |films: &Vec<usize>, sample| films.binary_search(sample).ok().map(|row| row as u32);
        let rows = self.resident.as_ref().and_then(|films| batch.samples.iter().map(|at| row(films, at)).collect());
        Ok(Pairs { batch, rows, text, put: false })
    }

    /// Takes the batch of the next step while one is computed, and gives it to a session that can have it now.
    ///
    /// # Errors
    /// If it cannot be read, or the device refuses.
    pub fn ahead(&mut self, config: &RunConfig, session: &mut Session) -> Result<(), Error> {
        let mut next = self.take(config)?;
        next.put = session.put_ahead(next.films(), &next.text)?;
        self.next = Some(next);
        Ok(())
    }
}
