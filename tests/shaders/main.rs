//! The shaders that ship: read, validated and compared with what the ops ask for, without any adapter; and, where there is
//! an adapter, run on it against the ops' references.
#![cfg(feature = "wgpu")]

#[path = "../common/mod.rs"]
mod common;

mod adapter;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod lost;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod memory;
#[cfg(feature = "cli")]
mod offered;
mod ops;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod stand_in;
mod texts;
mod trains;
