//! The command line: one file per verb, which parses, calls the library and prints.

mod step;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

/// Pre-trains G2D on chest radiographs and their reports.
#[derive(Parser)]
#[command(name = "g2d", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Devices that this build can use.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Device {
    /// The processor.
    Cpu,
}

#[derive(Subcommand)]
enum Verb {
    Step(step::Step),
}

/// Runs the command. Exit codes: 0 done, 2 input that cannot be used (one sentence on standard error).
pub fn main() -> ExitCode {
    let result: Result<(), Error> = match Cli::parse().verb {
        Verb::Step(step) => step.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
