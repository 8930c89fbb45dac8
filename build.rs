//! Makes the table of shipped kernels out of `ptx/`: what is built, tested and shipped is what `ptx/MANIFEST` lists.
//!
//! A checkout needs no compiler. Files written by hand are embedded as they stand. A file compiled from `kernels/` is
//! embedded if it and its sources are those that the manifest lists; if not, it is compiled anew by the compiler that
//! `G2D_NVCC` names or, without that, the one that `kernels/toolchain.sh` installed in `target/toolchain`, and left out with
//! a warning where there is none. `g2d kernels --write` moves what was compiled into `ptx/` and lists everything anew. No
//! GPU is looked for.

#[path = "src/kernels/compile.rs"]
mod compile;
#[path = "src/kernels/embed.rs"]
mod embed;
#[path = "src/kernels/manifest.rs"]
mod manifest;

use std::path::PathBuf;
use std::{env, process};

fn main() {
    let sources = ["src/kernels/manifest.rs", "src/kernels/compile.rs", "src/kernels/embed.rs"];
    for path in ["ptx", "kernels"].into_iter().chain(sources) {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed=G2D_NVCC");
    let folder = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let (root, out) = (folder("CARGO_MANIFEST_DIR"), folder("OUT_DIR"));
    let nvcc = env::var_os("G2D_NVCC").map(PathBuf::from).or_else(|| embed::installed(&root));
    match embed::table(&root, &out, nvcc.as_deref()) {
        Ok(embedded) => {
            embedded.said.iter().for_each(|line| println!("cargo::warning={line}"));
            if embedded.lacks_compiler {
                // Looked for again at every build until it is there.
                println!("cargo::rerun-if-changed={}/complete", embed::TOOLCHAIN);
            }
        }
        Err(why) => {
            eprintln!("ptx: {why}");
            process::exit(1);
        }
    }
}
