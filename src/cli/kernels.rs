//! `g2d kernels`: which kernels this program carries; after an edit, their manifest.

use std::path::Path;

use crate::base::counted;
use crate::error::Error;
use crate::kernels::{self, MODULES, Module, Origin, STALE};

/// Lists the CUDA kernels in this program, or writes ptx/ of the repository anew.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  g2d kernels\n  g2d kernels --check\n  g2d kernels --write\n\n\
                        After an edit of ptx/hand or kernels/, build, run `g2d kernels --write` in the repository's \
                        folder and build again. kernels/toolchain.sh fetches the compiler and the assembler.")]
pub struct Kernels {
    /// Write what was compiled and the manifest into ptx/ of the current folder. Where the environment variable
    /// G2D_PTXAS names an assembler, it must take every file without spilling registers.
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Check the texts in this program: listed as they are and, in a checkout, the same as its ptx/; with G2D_PTXAS,
    /// assembled without spills or warnings; with G2D_NVCC, what kernels/ of the checkout compiles to, to the byte. Says
    /// what was checked and what could not be.
    #[arg(long)]
    check: bool,
    /// Print the list as JSON.
    #[arg(long, conflicts_with_all = ["check", "write"])]
    json: bool,
}

#[derive(serde::Serialize)]
struct Listed {
    file: String,
    origin: &'static str,
    target: &'static str,
    entries: Vec<Entry>,
}

#[derive(serde::Serialize)]
struct Entry {
    kernel: &'static str,
    parameter_bytes: usize,
}

impl Kernels {
    /// Runs the command.
    pub fn run(self) -> Result<(), Error> {
        if self.write {
            let written = kernels::write(Path::new("."), std::env::var_os("G2D_PTXAS").as_deref())?;
            for path in &written {
                println!("ptx/{path}");
            }
            println!("{} written", counted(written.len(), "file"));
            return Ok(());
        }
        if self.check {
            let [nvcc, ptxas] = ["G2D_NVCC", "G2D_PTXAS"].map(std::env::var_os);
            for line in kernels::check(Path::new("."), nvcc.as_deref(), ptxas.as_deref())? {
                println!("{line}");
            }
            return Ok(());
        }
        let listed: Vec<Listed> = MODULES.iter().map(listed).collect();
        if self.json {
            println!("{}", serde_json::to_string(&listed).unwrap_or_default());
            return Ok(());
        }
        for Listed { file, origin, target, entries } in listed {
            println!("{file}: {origin}, for {target}");
            for Entry { kernel, parameter_bytes } in entries {
                println!("  {kernel:40} {parameter_bytes:5} bytes of parameters");
            }
        }
        for path in STALE {
            println!("ptx/{path}: left out, its sources have changed");
        }
        Ok(())
    }
}

fn listed(module: &Module) -> Listed {
    let origin = match module.origin {
        Origin::Hand => "written by hand",
        Origin::Compiled => "compiled now",
        Origin::Committed => "compiled before",
    };
    let entries = module.entries.iter();
    let entries = entries.map(|entry| Entry { kernel: entry.symbol, parameter_bytes: entry.parameter_bytes });
    Listed { file: format!("ptx/{}", module.path), origin, target: module.target, entries: entries.collect() }
}
