//! What the tests share. Every test file compiles all of it and uses a part.
#![allow(dead_code, reason = "no test file uses all of it")]

pub mod cases;
#[cfg(feature = "cli")]
pub mod command;
pub mod compare;
pub mod films;
pub mod fixtures;
pub mod interpret;
pub mod ledger;
pub mod scan;
