//! The last test target: prints what ran and what was skipped, and fails if something required is missing. It has no
//! harness, so that the table is always shown.

mod common;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use common::ledger::{self, Entry};

fn main() -> ExitCode {
    must_fail();
    let run = ledger::run_folder();
    let (table, missing) = ledger::table(read(&run), &ledger::required());
    eprint!("{table}");
    remove(&run);
    for old in fs::read_dir(ledger::folder()).into_iter().flatten().flatten() {
        let age = old.metadata().and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(24 * 3600)) {
            remove(&old.path());
        }
    }
    if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A run that noted nothing has no folder.
fn read(run: &Path) -> Vec<Entry> {
    let files = fs::read_dir(run).into_iter().flatten().flatten();
    let text: String = files.map(|file| fs::read_to_string(file.path()).expect("the ledger can be read")).collect();
    text.lines().map(|line| serde_json::from_str(line).expect("the ledger holds what `append` wrote")).collect()
}

/// Another `cargo test` may be removing the same folder.
fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

/// A skip of something required, and something required that nobody mentions, are failures; nothing else is.
fn must_fail() {
    let entry = |name: &str, enable: Option<&str>| Entry {
        name: name.to_owned(),
        test: String::new(),
        what: String::new(),
        enable: enable.map(str::to_owned),
    };
    let entries = || vec![entry("cpu", None), entry("oracle", None), entry("oracle", Some("tests/oracle/run"))];
    let missing = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        ledger::table(entries(), &names).1
    };
    assert_eq!(missing(&["cpu", "oracle", "unheard-of"]), ["oracle", "unheard-of"]);
    assert_eq!(missing(&["cpu"]), [""; 0]);
}
