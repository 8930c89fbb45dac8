//! The language in which a step is written down: ops on typed values, their gradients, and what becomes of the list.
pub mod check;
pub mod device;
mod foreign;
pub mod grad;
pub mod host;
mod kernel_call;
pub mod memory;
pub mod op;
pub mod pass;
mod placed;
pub mod plan;
pub mod record;
mod refused;
mod shader_call;

pub use check::Checked;
pub use device::{DeviceBuffer, DeviceIo, ShaderIo};
pub use foreign::Foreign;
pub use host::{Case, HostIo};
pub use kernel_call::KernelCall;
pub use op::{Backward, Candidate, Cost, Misfit, Operation, Outputs, Pass, Size};
pub use pass::layout::StateLayout;
pub use pass::precision::Precision;
pub use placed::Placed;
pub use plan::{Kernels, Plan, plan};
pub use record::{Program, Recorder, Value};
pub use refused::{considered, refused};
pub use shader_call::{Binding, ShaderCall};
