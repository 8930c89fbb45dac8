//! The one error of the library's surface. Each layer has its own; here they meet.

use std::path::PathBuf;

/// What can go wrong. Every sentence says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that cannot be.
    #[error(transparent)]
    Config(#[from] crate::model::config::ConfigError),
    /// Shapes that do not fit, found while recording.
    #[error("the model cannot be recorded: {0}")]
    Record(#[from] crate::program::record::RecordError),
    /// A program without a plan.
    #[error(transparent)]
    Plan(#[from] crate::program::plan::PlanError),
    /// Parameter groups that do not fit the model.
    #[error(transparent)]
    Groups(#[from] crate::train::groups::GroupError),
    /// Weights that do not fit, or cannot be read or written.
    #[error(transparent)]
    Weights(#[from] crate::checkpoint::WeightsError),
    /// Data that cannot be read or packed.
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    /// Phantoms that cannot be written.
    #[cfg(feature = "data")]
    #[error(transparent)]
    Phantom(#[from] crate::data::phantom::Error),
    /// A film that cannot be read.
    #[cfg(feature = "data")]
    #[error("{film}: {why}")]
    Film {
        /// Its file, or what it was given as.
        film: String,
        /// Why.
        why: crate::data::decode::Fault,
    },
    /// A checkpoint or run folder that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// The session's threads could not be started.
    #[error("{0}")]
    Threads(String),
    /// A batch of another size than the session was opened for.
    #[error("input `{name}` holds {got} numbers, the session was opened for {wanted}")]
    Input {
        /// Name of the input.
        name: String,
        /// How many numbers the plan takes.
        wanted: usize,
        /// How many were given.
        got: usize,
    },
    /// A loss or gradient that is not a finite number.
    #[error(
        "step {step}: {op} in {scope} made the first number that is not finite{}; nothing was updated; try a lower \
             lr, or look at these films",
        films_text(films)
    )]
    NotFinite {
        /// The step, counted from 1 as in `metrics.jsonl`.
        step: u64,
        /// Where in the model.
        scope: String,
        /// The op.
        op: String,
        /// Ids of the batch's films, where known.
        films: Vec<String>,
    },
    /// Weights by which a model in use makes numbers that are not finite: nothing it says then means anything.
    #[error("{what} became a number that is not finite: these weights cannot be used; take an earlier checkpoint")]
    Unusable {
        /// What was computed on.
        what: String,
    },
    /// A device that is not there, or that refuses.
    #[error(transparent)]
    Device(#[from] crate::cuda::driver::DriverError),
    /// A plan that cannot be replayed on a device.
    #[error(transparent)]
    Replay(#[from] crate::cuda::replay::ReplayError),
    /// A step that a device, or this machine, has too little memory for.
    #[error("{source}; {}", fits_text(*fits))]
    Memory {
        /// What does not fit.
        source: Box<Error>,
        /// The largest batch that fits; 0 if none does.
        fits: usize,
    },
    /// A GPU that is not there, or that refuses.
    #[error(transparent)]
    Gpu(#[from] crate::wgpu::GpuError),
    /// A plan that cannot be replayed on a GPU.
    #[error(transparent)]
    GpuReplay(#[from] crate::wgpu::replay::ReplayError),
    /// Texts that make no batch.
    #[error(transparent)]
    Text(#[from] crate::model::batch::TextError),
    /// The folder of kernels that cannot be brought up to date.
    #[error(transparent)]
    Kernels(#[from] crate::kernels::WriteError),
    /// A request that cannot be met.
    #[error("{0}")]
    Usage(String),
    /// The caller asked to stop before it was done; the sentence says what is kept.
    #[error("stopped; {0}")]
    Stopped(String),
    /// The thread that reads batches ended.
    #[error("the thread that reads batches ended unexpectedly; the run can be resumed from its last checkpoint")]
    LoaderStopped,
    /// A case of the specification that cannot be run.
    #[error("{path}: {why}")]
    Case {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}{}", crate::base::hint(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn fits_text(batch: usize) -> String {
    match batch {
        0 => "not even a batch of 1 fits: take a smaller preset, or a device with more memory".into(),
        _ => format!("a batch of {batch} fits"),
    }
}

fn films_text(films: &[String]) -> String {
    if films.is_empty() { String::new() } else { format!(" (films {})", films.join(", ")) }
}

impl Error {
    /// Names the films of the batch that gave a number that is not finite.
    pub fn with_films(mut self, ids: Vec<String>) -> Self {
        if let Self::NotFinite { films, .. } = &mut self {
            *films = ids;
        }
        self
    }

    /// Whether it is no fault: the caller asked to stop.
    pub fn stopped(&self) -> bool {
        #[cfg(feature = "data")]
        if matches!(self, Self::Phantom(crate::data::phantom::Error::Cancelled)) {
            return true;
        }
        matches!(self, Self::Stopped(_) | Self::Data(crate::data::Error::Cancelled(_)))
    }

    /// Ties an input-output error to its file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
