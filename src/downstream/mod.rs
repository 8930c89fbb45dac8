//! The downstream tasks: what pre-training is good for, measured.
//!
//! A [`Subject`] (weights, model, tokenizer) is tried on a [`Cohort`] (films, labels, splits) by an [`Evaluation`], task by
//! task; every figure comes with an interval and says of which films it is.

pub mod cohort;
pub mod evaluation;
pub mod explain;
pub mod metrics;
pub mod prompts;
mod rand_augment;
pub mod report;
pub mod subject;
pub mod summary;
pub mod tasks;
pub mod trained;
pub mod viewer;

mod classified;
mod encoder;
mod imaged;
mod learner;
mod values;
mod varied;
mod words;
mod yolo;

pub use cohort::Cohort;
pub use encoder::{Encoder, Features};
pub use evaluation::{Budget, Choices, Evaluation};
pub use learner::{Fit, Fitted, Learner};
pub use report::{Figure, Report};
pub use subject::{Part, Subject};
pub use tasks::Task;
pub(crate) use values::{Values, cosines};
pub use viewer::Viewer;
pub(crate) use words::Words;
