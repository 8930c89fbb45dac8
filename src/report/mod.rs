//! What a run shows of itself while it trains: a page, and TensorBoard's event files. Both are made from the files in the run's
//! folder, `metrics.jsonl` and the pictures in `gallery/`, so they can be made again at any time and say nothing that those do not.
//! And the page of a [`plan`], which needs no run.

pub(crate) mod chart;
pub(crate) mod charts;
mod events;
mod gallery;
pub(crate) mod markup;
mod metrics;
mod page;
mod picture;
pub mod plan;

use std::path::{Path, PathBuf};

pub use gallery::COLUMNS;
pub use metrics::{Growing, Table};
pub use picture::heat;

use self::events::EventFile;
use crate::error::Error;
use crate::train::run::{CONFIG, Event};

/// The page, within a run's folder.
pub const PAGE: &str = "report.html";
/// The folder of event files, within a run's.
pub const EVENTS: &str = "tensorboard";

/// Keeps page, pictures and event files of a run up to date while it is told of it. What cannot be written now is tried again
/// with the next validation, and keeps none of the others from being written.
pub struct Reporter {
    folder: PathBuf,
    /// Nothing is written before the run has begun.
    begun: bool,
    /// None where it could not be written: what lies there may end in half a record, and a new one is made.
    events: Option<EventFile>,
    /// Steps of its validations; `None` while they could not be read.
    validations: Option<Vec<u64>>,
}

impl Reporter {
    /// For the run in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), begun: false, events: None, validations: None }
    }

    /// Takes in what happened. It has to be told of everything, in order, also behind an error.
    ///
    /// # Errors
    /// If a file cannot be read or written: the first of them.
    pub fn observe(&mut self, event: &Event<'_>) -> Result<(), Error> {
        match event {
            Event::Started(_) => {
                self.begun = true;
                first_error([self.read(), self.remade(), self.page()])
            }
            Event::Step(_) => {
                self.events.as_mut().map_or(Ok(()), EventFile::extend).inspect_err(|_| self.events = None)
            }
            &Event::Validated(step, _, films) => {
                let known = match &mut self.validations {
                    Some(known) => {
                        known.push(step);
                        Ok(())
                    }
                    None => self.read(), // this one is among them
                };
                let steps = self.validations.as_deref().unwrap_or_default();
                let pictures = known.and_then(|()| gallery::save(&self.folder, steps, films));
                let events = match &mut self.events {
                    Some(events) => events.extend().inspect_err(|_| self.events = None),
                    None => self.remade(),
                };
                first_error([pictures, events, self.page()])
            }
            // A run that is not validated has its page rewritten now and then all the same.
            Event::Saved(_) if self.validations.as_ref().is_some_and(Vec::is_empty) => {
                let events = if self.events.is_none() { self.remade() } else { Ok(()) };
                first_error([events, self.page(), Ok(())])
            }
            _ => Ok(()),
        }
    }

    /// Writes the page for the last time; the path of it, or `None` if the run has not begun.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn finish(&self) -> Result<Option<PathBuf>, Error> {
        self.begun.then(|| self.page().map(|()| self.folder.join(PAGE))).transpose()
    }

    fn read(&mut self) -> Result<(), Error> {
        self.validations = Some(Table::read(&self.folder)?.validations);
        Ok(())
    }

    fn page(&self) -> Result<(), Error> {
        page::write(&self.folder).map(drop)
    }

    fn remade(&mut self) -> Result<(), Error> {
        self.events = Some(EventFile::remake(&self.folder)?);
        Ok(())
    }
}

fn first_error(all: [Result<(), Error>; 3]) -> Result<(), Error> {
    all.into_iter().collect()
}

/// What a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Steps in `metrics.jsonl`.
    pub steps: usize,
    /// Validations there.
    pub validations: usize,
    /// Films in the gallery.
    pub films: usize,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// Makes the page of a run anew.
///
/// # Errors
/// If the folder holds no run, or the page cannot be written.
pub fn make_page(folder: &Path) -> Result<Shown, Error> {
    must_be_run(folder)?;
    page::write(folder)
}

/// Refuses a folder that holds no run.
///
/// # Errors
/// If it has no settings of one.
pub fn must_be_run(folder: &Path) -> Result<(), Error> {
    if !folder.join(CONFIG).is_file() {
        let (folder, there) = (folder.display(), folder.exists());
        let why = if there { format!("is no run: it has no {CONFIG}") } else { "does not exist".into() };
        return Err(Error::Usage(format!("{folder} {why}; name a folder that g2d pretrain made")));
    }
    Ok(())
}

/// Makes the event files of a run anew. Nobody else may be writing the run.
///
/// # Errors
/// If a file cannot be read or written.
pub fn make_events(folder: &Path) -> Result<(), Error> {
    EventFile::remake(folder).map(drop)
}
