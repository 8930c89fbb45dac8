//! No form is used by committed PTX that no test of the emulated device executes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use g2d::cuda::driver::emulated::decode;
use g2d::cuda::ptx;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The coverage list: what sm_80 kernels from the compiler and by hand use. Every form has a test, and decodes.
const LIST: &str = include_str!("forms.txt");

/// Files below a folder that end so.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path, ending) } else { vec![path] })
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Words of a text that may be forms: an opcode with modifiers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let in_form = |c: char| c.is_ascii_alphanumeric() || "._:".contains(c);
    text.split(move |c| !in_form(c)).map(|word| word.trim_matches([':', '.'])).filter(|word| !word.is_empty())
}

/// Forms that tests execute: those of the golden vectors, those written out in the tests of this folder, and those that
/// tests put together, which `forms.txt` marks.
fn tested() -> BTreeSet<String> {
    let folder = Path::new(ROOT).join("tests/emulated");
    let this = Path::new(file!()).file_name();
    let sources = files(&folder, ".rs").into_iter().chain(files(&folder, ".ptx"));
    let sources = sources.filter(|path| path.file_name() != this && !path.ends_with("decoding.rs"));
    let mut tested: BTreeSet<String> =
        sources.flat_map(|path| words(&read(&path)).map(str::to_owned).collect::<Vec<_>>()).collect();
    for (_, group) in crate::golden::groups() {
        tested.extend(words(&group.statements).map(str::to_owned));
    }
    tested.extend(list().filter(|(_, composed)| *composed).map(|(form, _)| form.to_owned()));
    tested
}

/// Forms of the list, and whether tests compose their names.
fn list() -> impl Iterator<Item = (&'static str, bool)> {
    let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.strip_suffix(" composed").map_or((line, false), |form| (form, true)))
}

#[test]
fn every_form_of_the_list_is_tested() {
    let tested = tested();
    let missing: Vec<&str> = list().map(|(form, _)| form).filter(|form| !tested.contains(*form)).collect();
    assert!(missing.is_empty(), "{} forms without a test:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn every_form_of_committed_ptx_is_tested() {
    let tested = tested();
    let mut missing = Vec::new();
    for path in files(&Path::new(ROOT).join("ptx"), ".ptx") {
        let module = ptx::parse(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let untested = decode::forms(&module).into_iter().filter(|form| !tested.contains(form));
        missing.extend(untested.map(|form| format!("{}: {form}", path.display())));
    }
    assert!(missing.is_empty(), "{} forms that no test executes:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn a_form_that_nobody_tests_is_found() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { add.u32 a, b, c; frobnicate.s7 a; }";
    let forms = decode::forms(&ptx::parse(text).expect("text"));
    let tested = tested();
    assert_eq!(forms.into_iter().filter(|form| !tested.contains(form)).collect::<Vec<_>>(), ["frobnicate.s7"]);
}
