//! What real life brings: files of every kind, tables of every making, full disks, two processes at once. Everything
//! here is handled, or refused in one sentence with exit code 2, nothing half-written, never a panic.
#![cfg(feature = "cli")]

#[path = "../common/mod.rs"]
mod common;
mod films;
mod machine;
mod places;
mod tables;
