//! The command `g2d`: turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    g2d::cli::main()
}
