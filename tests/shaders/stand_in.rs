//! A Vulkan driver that can lose its device or run out of memory: `vulkan.c`, between wgpu and the driver that is there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use g2d::wgpu::adapter;

use super::common::command::{Ended, command};
use super::common::ledger;

/// The stand-in, compiled.
pub struct StandIn {
    folder: PathBuf,
}

/// It stays loaded where adapters are listed before one is opened: else the real loader, of the same name, would be taken then.
const KEPT: &str = "-Wl,-z,nodelete";

impl StandIn {
    /// Compiles it into that folder; skips loudly where there is no adapter to stand in for, or no compiler of C.
    pub fn new(folder: &Path) -> Option<Self> {
        if adapter::list().is_empty() {
            ledger::skipped("wgpu", "there is no adapter: none is lost, and none runs out of memory", ledger::VULKAN);
            return None;
        }
        let cc = |arguments: &[&str]| Command::new("cc").args(arguments).output();
        let Ok(found) = cc(&["-print-file-name=libvulkan.so.1"]) else {
            ledger::skipped(
                "c",
                "there is no cc: no adapter is lost, and none runs out of memory",
                "apt-get install gcc",
            );
            return None;
        };
        let real = String::from_utf8(found.stdout).expect("a path is text");
        // Of what it does not find it says the name again.
        if !Path::new(real.trim()).is_absolute() {
            ledger::skipped(
                "wgpu",
                "the Vulkan loader is not where cc looks: none is lost",
                "apt-get install libvulkan1",
            );
            return None;
        }
        let real = format!("-DREAL=\"{}\"", real.trim());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shaders/vulkan.c");
        let library = folder.join("libvulkan.so.1");
        let library = library.to_str().expect("the target folder is text");
        let made = cc(&["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", KEPT, &real, "-o", library, source, "-ldl"]);
        let made = made.expect("it ran before");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self { folder: folder.to_owned() })
    }

    /// Runs a line in its folder, with variables that say what becomes of the device.
    pub fn run(&self, line: &str, variables: &[(&str, u64)]) -> Ended {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = command(&self.folder, &words);
        let mut libraries = OsString::from(&self.folder);
        if let Some(others) = std::env::var_os("LD_LIBRARY_PATH") {
            libraries.push(":");
            libraries.push(others);
        }
        // Without the layer of Mesa that prints a line of its own where XDG_RUNTIME_DIR is not set.
        command.env("LD_LIBRARY_PATH", libraries).env("STAND_IN_COUNTS", self.counts()).env("NODEVICE_SELECT", "1");
        command.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
        Ended::of(command.output().expect("the command starts"))
    }

    /// Waits and submissions of the last run.
    pub fn counted(&self) -> [u64; 2] {
        let text = std::fs::read_to_string(self.counts()).expect("the stand-in was not used");
        let mut counts = text.split_whitespace().map(|count| count.parse().expect("it is a count"));
        [(); 2].map(|()| counts.next().expect("there are two"))
    }

    fn counts(&self) -> PathBuf {
        self.folder.join("counts")
    }
}
