//! What the tests share. Every test file compiles all of it and uses a part.
#![allow(dead_code, reason = "no test file uses all of it")]

pub mod cases;
pub mod compare;
pub mod interpret;
pub mod ledger;
pub mod scan;
