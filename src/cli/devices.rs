//! `g2d devices`: what this machine offers.

use clap::Args;

use crate::doctor::devices::{Backend, Processor, backends, processor};
use crate::error::Error;

/// Prints what this machine offers, what runs by default, and why.
#[derive(Args)]
#[command(after_help = "Examples:\n  g2d devices\n  g2d devices --json")]
pub struct Devices {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Devices {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let (processor, backends) = (processor(), backends());
        if self.json {
            println!("{}", serde_json::json!({ "processor": processor, "backends": backends }));
        } else {
            print!("{}", text(&processor, &backends));
        }
        Ok(())
    }
}

fn text(processor: &Processor, backends: &[Backend]) -> String {
    let gib = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        None => "unknown".into(),
    };
    let mut text = format!(
        "processor     {} ({}), {} threads{}\ninstructions  {}; loops use {}\nmemory        {}, {} available\n\n",
        processor.model.as_deref().unwrap_or("unknown"),
        processor.architecture,
        processor.threads,
        processor.cores.map_or(String::new(), |cores| format!(" on {cores} cores")),
        processor.instructions.join(" "),
        processor.vectors,
        gib(processor.memory),
        gib(processor.memory_available)
    );
    for backend in backends {
        let state = if backend.default { "default" } else { "" };
        text += &format!("{:13} {state:8} {}\n", backend.name, backend.why);
    }
    text
}
