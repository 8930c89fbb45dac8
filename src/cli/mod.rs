//! The command line: one file per verb, which parses, calls the library and prints.

/// Prints to standard output, as the macro of the same name, but without a panic where nobody reads (`g2d plan | head`)
/// or the disk is full.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::write_out(format_args!($($text)*)) };
}
/// As `print!`, and ends the line.
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::write_out(format_args!("{}\n", format_args!($($text)*))) };
}

mod bench;
mod bench_counters;
mod bench_scaling;
mod device;
mod devices;
mod doctor;
mod emulate;
mod eval;
mod explain;
mod export;
mod import;
mod inspect;
mod kernels;
mod model;
mod pack;
mod pack_dicom;
mod pack_layout;
mod phantom;
mod plan;
mod plot;
mod pretrain;
mod pretrain_lines;
mod report;
#[cfg(feature = "serve")]
mod serve;
pub mod settings;
mod step;
mod store;
mod study;
mod sweep;
mod text;
mod verify;
mod watch;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use indicatif::ProgressStyle;

use self::device::DeviceWord;
use crate::error::Error;
use crate::program::Precision;

/// Pre-trains G2D on chest radiographs and their reports.
#[derive(Parser)]
#[command(
    name = "g2d",
    version,
    arg_required_else_help = true,
    after_help = "Start with: g2d pretrain\nEvery verb has examples: g2d VERB --help"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// How numbers are stored and computed.
#[derive(Clone, Copy, clap::ValueEnum)]
enum PrecisionWord {
    /// Everything f64.
    F64,
    /// Everything f32.
    Exact,
    /// Activations bf16, everything else f32.
    Mixed,
}

impl From<PrecisionWord> for Precision {
    fn from(word: PrecisionWord) -> Self {
        match word {
            PrecisionWord::F64 => Self::F64,
            PrecisionWord::Exact => Self::Exact,
            PrecisionWord::Mixed => Self::Mixed,
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    Pretrain(pretrain::Pretrain),
    Pack(pack::Pack),
    Phantom(phantom::Phantom),
    Plan(plan::Plan),
    Step(step::Step),
    Study(study::Study),
    Sweep(sweep::Sweep),
    Bench(bench::Bench),
    Devices(devices::Devices),
    Emulate(emulate::Emulate),
    Eval(eval::Eval),
    Explain(explain::Explain),
    Export(export::Export),
    Import(import::Import),
    Inspect(inspect::Inspect),
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    Doctor(doctor::Doctor),
    Kernels(kernels::Kernels),
    Report(report::Report),
    Verify(verify::Verify),
    Watch(watch::Watch),
}

/// Runs the command. Exit codes: 0 done, 2 input that cannot be used (one sentence on standard error), 130 stopped by Ctrl-C or
/// SIGTERM (one sentence says what is kept).
pub fn main() -> ExitCode {
    #[cfg(unix)]
    withstand_file_size_limits();
    #[cfg(feature = "wgpu")]
    crate::wgpu::silence();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) if !help.use_stderr() || help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            help.exit()
        }
        Err(error) => {
            eprintln!("{}", one_sentence(&error.render().to_string()));
            return ExitCode::from(2);
        }
    };
    let result: Result<(), Error> = match cli.verb {
        Verb::Pretrain(pretrain) => pretrain.run(),
        Verb::Pack(pack) => pack.run(),
        Verb::Phantom(phantom) => phantom.run(),
        Verb::Plan(plan) => plan.run(),
        Verb::Step(step) => step.run(),
        Verb::Study(study) => study.run(),
        Verb::Sweep(sweep) => sweep.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Devices(devices) => devices.run(),
        Verb::Emulate(emulate) => emulate.run(),
        Verb::Eval(eval) => eval.run(),
        Verb::Explain(explain) => explain.run(),
        Verb::Export(export) => export.run(),
        Verb::Import(import) => import.run(),
        Verb::Inspect(inspect) => inspect.run(),
        #[cfg(feature = "serve")]
        Verb::Serve(serve) => serve.run(),
        Verb::Doctor(doctor) => doctor.run(),
        Verb::Kernels(kernels) => kernels.run(),
        Verb::Report(report) => report.run(),
        Verb::Verify(verify) => verify.run(),
        Verb::Watch(watch) => watch.run(),
    };
    match result {
        // What follows in a script shall not go on with half of it.
        Ok(()) if CANCELLED.load(Ordering::SeqCst) => ExitCode::from(STOPPED),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.stopped() => {
            eprintln!("{error}");
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// A whole number that is not 0, for clap.
fn from_one<N: std::str::FromStr + PartialOrd + From<u8>>(word: &str) -> Result<N, &'static str> {
    word.parse().ok().filter(|number| *number >= N::from(1)).ok_or("give a whole number from 1 on")
}

/// Beyond a limit of the file size (`ulimit -f`) a write then fails, with a sentence and nothing half-written, where it would end
/// the process. Threads take over what their first one blocks, so it comes before any other.
#[cfg(unix)]
fn withstand_file_size_limits() {
    use nix::sys::signal::{SigSet, Signal};
    // Where it cannot be blocked all is as it was.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
}

/// The parser's own text spreads what is wrong, what is known and a tip over several lines, and ends with the usage.
fn one_sentence(text: &str) -> String {
    let said = text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let lines = said.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.fold(String::new(), |said, line| match () {
        () if said.is_empty() => line.into(),
        () if said.ends_with(':') || line.starts_with('[') => format!("{said} {line}"),
        () => format!("{said}; {line}"),
    });
    joined + "; see --help"
}

/// Refuses a folder to write that holds something, or that cannot be made beside its place and renamed.
fn new_or_empty(out: &Path) -> Result<(), Error> {
    if out.file_name().is_none() {
        return Err(Error::Usage(format!("{}: give --out a folder by its name", out.display())));
    }
    if out.exists() && fs::read_dir(out).map_err(Error::io(out))?.next().is_some() {
        return Err(Error::Usage(format!("{} is not empty; give --out a new or empty folder", out.display())));
    }
    Ok(())
}

/// Writes to standard output. A reader that went away has what it wanted; any other failure ends the program with exit
/// code 2.
fn write_out(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("error: standard output: {error}; give it a place that can be written");
            std::process::exit(2);
        }
    }
}

static CANCELLED: AtomicBool = AtomicBool::new(false);
/// The exit code of what was stopped, as shells have it.
const STOPPED: u8 = 130;

/// Becomes true at Ctrl-C or SIGTERM; a second Ctrl-C ends the program at once.
fn cancelled() -> Result<&'static AtomicBool, Error> {
    ctrlc::set_handler(|| {
        if CANCELLED.swap(true, Ordering::SeqCst) {
            std::process::exit(STOPPED.into());
        }
        eprintln!("stopping (once more to stop at once)");
    })
    .map_err(|error| Error::Usage(format!("signals cannot be handled: {error}")))?;
    Ok(&CANCELLED)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
