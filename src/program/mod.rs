//! The language in which a step is written down: ops on typed values, their gradients, and what becomes of the list.
pub mod grad;
pub mod host;
pub mod op;
pub mod record;

pub use host::{Case, HostIo};
pub use op::{Backward, Candidate, Cost, Misfit, Operation, Outputs, Size};
pub use record::{Program, Recorder, Value};
