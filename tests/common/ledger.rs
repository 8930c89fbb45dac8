//! Who ran and who was skipped. Each test process appends lines to a file of its own; the last test target,
//! `zz_ledger`, reads them, prints a table and removes them.
//!
//! The processes of one `cargo test` have one parent. Files lie in a folder named after it, so a table never shows
//! what an earlier, partial or interrupted run left behind; folders older than a day are removed with the next table.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The variable that turns skips into failures: names of backends and oracles, separated by commas.
pub const REQUIRE: &str = "G2D_REQUIRE";

/// What makes tests run that need an adapter of wgpu's.
pub const VULKAN: &str = "install a Vulkan driver, such as apt-get install mesa-vulkan-drivers libvulkan1, then cargo test \
                          --release";

/// One line of the ledger.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// Backend or oracle.
    pub name: String,
    /// The test file that says so.
    pub test: String,
    /// What ran; or what did not and why.
    pub what: String,
    /// For what was skipped: the command that makes it run.
    pub enable: Option<String>,
}

/// The folder of all runs of this checkout; several checkouts may share a target folder.
pub fn folder() -> PathBuf {
    let mut checkout = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut checkout);
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-{:016x}", checkout.finish()))
}

/// The folder of the run this process belongs to.
pub fn run_folder() -> PathBuf {
    #[cfg(unix)]
    let run = std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    let run = 0;
    folder().join(run.to_string())
}

/// Names listed in `G2D_REQUIRE`.
pub fn required() -> Vec<String> {
    let list = std::env::var(REQUIRE).unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Notes that something ran on a backend or against an oracle.
pub fn ran(name: &str, what: impl Into<String>) {
    append(Entry { name: name.to_owned(), test: test(), what: what.into(), enable: None });
}

/// Notes that something did not run, and the command that makes it run. Panics if it is required; otherwise the
/// calling test returns.
pub fn skipped(name: &str, what: impl Into<String>, enable: &str) {
    let what = what.into();
    append(Entry { name: name.to_owned(), test: test(), what: what.clone(), enable: Some(enable.to_owned()) });
    assert!(!required().contains(&name.to_owned()), "{REQUIRE} asks for {name}, but {what}; run: {enable}");
}

fn test() -> String {
    env!("CARGO_CRATE_NAME").to_owned()
}

fn append(entry: Entry) {
    let folder = run_folder();
    fs::create_dir_all(&folder).expect("the target folder can be written");
    let path = folder.join(format!("{}-{}.jsonl", entry.test, std::process::id()));
    let line = serde_json::to_string(&entry).expect("strings can be written as JSON") + "\n";
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the ledger can be written");
    file.write_all(line.as_bytes()).expect("the ledger can be written");
}

/// The table of some entries, and what is required but did not run.
pub fn table(mut entries: Vec<Entry>, required: &[String]) -> (String, Vec<String>) {
    entries.sort();
    entries.dedup();
    let mut text = String::from("\nledger: what ran and what was skipped\n");
    for Entry { name, test, what, enable } in &entries {
        match enable {
            None => text += &format!("  ran      {name:<12} {test}: {what}\n"),
            Some(enable) => {
                text += &format!("  SKIPPED  {name:<12} {test}: {what}\n{:24}to enable: {enable}\n", "");
            }
        }
    }
    if entries.is_empty() {
        text += "  nothing was noted in this run\n";
    }
    let ran = |name: &String| entries.iter().any(|entry| entry.name == *name && entry.enable.is_none());
    let skipped = |name: &String| entries.iter().any(|entry| entry.name == *name && entry.enable.is_some());
    let missing: Vec<String> = required.iter().filter(|name| !ran(name) || skipped(name)).cloned().collect();
    if missing.is_empty() {
        text += &format!("  {REQUIRE}=NAME,... turns skips of these names into failures\n");
    } else {
        text += &format!("  FAILED: {REQUIRE} asks for what did not run in full: {}\n", missing.join(", "));
    }
    (text, missing)
}
