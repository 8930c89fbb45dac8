//! CUDA: the driver interface, the PTX language, and the device that executes PTX without a GPU.
//!
//! [`driver::Driver`] is the one seam. What launches kernels is written against it and cannot tell a GPU from the
//! emulated device. The PTX that runs on either is the text that ships.

pub mod driver;
mod modules;
pub mod ptx;
pub mod replay;
mod uploads;

pub use modules::{Modules, parameters};
pub use replay::Replay;
