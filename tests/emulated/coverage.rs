//! No form is used by committed PTX for sm_80 that no golden kernel executes, none by any that is not listed, and none is listed
//! that no test names. Golden kernels run on every GPU and have no tensor maps: what sm_90a adds is tried by the kernels in
//! `kernels.rs` and `tensors.rs`.

use std::collections::{BTreeMap, BTreeSet};
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

/// Forms that have a test: those that golden kernels execute, and those that stand in the texts of this folder's tests, whole
/// and outside comments. That these are executed is not proved here; of what ships it is, below.
fn tested() -> BTreeSet<String> {
    let folder = Path::new(ROOT).join("tests/emulated");
    let this = Path::new(file!()).file_name();
    let sources = files(&folder, ".rs").into_iter().chain(files(&folder, ".ptx"));
    let sources = sources
        .filter(|path| path.file_name() != this && !path.ends_with("decoding.rs") && !path.ends_with("refused.rs"));
    let mut tested = golden();
    for text in sources.map(|path| read(&path)) {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        tested.extend(code.flat_map(words).map(str::to_owned));
    }
    tested
}

/// The forms of the list.
fn list() -> impl Iterator<Item = &'static str> {
    LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[test]
fn every_form_of_the_list_is_tested() {
    let tested = tested();
    let missing: Vec<&str> = list().filter(|form| !tested.contains(*form)).collect();
    assert!(missing.is_empty(), "{} forms without a test:\n{}", missing.len(), missing.join("\n"));
}

/// Forms that golden kernels execute, in every thread: their results are compared, here and on a GPU.
pub fn golden() -> BTreeSet<String> {
    let text = |group: &g2d::verify::golden::Group| ptx::parse(&group.ptx()).expect("a golden kernel is PTX");
    crate::golden::groups().iter().flat_map(|(_, group)| decode::forms(&text(group))).collect()
}

/// Forms of the texts that ship for one of these targets, each with a text that has it.
fn committed(targets: &[&str]) -> BTreeMap<String, String> {
    let texts = files(&Path::new(ROOT).join("ptx"), ".ptx").into_iter().flat_map(|path| {
        let module = ptx::parse(&read(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let forms = if targets.contains(&module.target.as_str()) { decode::forms(&module) } else { BTreeSet::new() };
        forms.into_iter().map(move |form| (form, path.display().to_string()))
    });
    texts.collect()
}

#[test]
fn golden_kernels_execute_every_form_of_committed_ptx() {
    let golden = golden();
    let missing = committed(&["sm_80"]).into_iter().filter(|(form, _)| !golden.contains(form));
    let missing: Vec<String> = missing.map(|(form, path)| format!("{path}: {form}")).collect();
    assert!(missing.is_empty(), "{} forms that no golden kernel executes:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn every_form_of_committed_ptx_is_listed() {
    let listed: BTreeSet<&str> = list().collect();
    let missing: Vec<String> =
        committed(&["sm_80", "sm_90a"]).into_keys().filter(|form| !listed.contains(form.as_str())).collect();
    assert!(missing.is_empty(), "{} forms are not in forms.txt:\n{}", missing.len(), missing.join("\n"));
}

#[test]
fn a_form_that_nobody_tests_is_found() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.entry k() { add.u32 a, b, c; frobnicate.s7 a; }";
    let forms = decode::forms(&ptx::parse(text).expect("text"));
    let tested = tested();
    assert_eq!(forms.iter().filter(|form| !tested.contains(*form)).collect::<Vec<_>>(), ["frobnicate.s7"]);
    assert_eq!(forms.iter().filter(|form| !golden().contains(*form)).collect::<Vec<_>>(), ["frobnicate.s7"]);
}
