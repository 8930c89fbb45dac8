//! What the tests share. Every test file compiles all of it and uses a part.
#![allow(dead_code, reason = "no test file uses all of it")]

#[cfg(feature = "cli")]
pub mod browser;
#[cfg(feature = "cli")]
pub mod command;
pub mod counts;
pub mod films;
pub mod fixtures;
pub mod ledger;
pub mod scan;
pub mod torch_files;

#[allow(unused_imports, reason = "no test file uses all")]
pub use g2d::verify::{cases, compare, interpret};
