//! Rules about the source itself: what lies where, who may refer to whom, how long things may be.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::ledger;
use common::scan::{code_only, crate_modules, functions, words};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Everything that may lie at the top.
const TOP: &str = "Cargo.toml Cargo.lock kernels src python build.rs ptx tests benches README.md docs examples .ci .gitignore \
                   rustfmt.toml LICENSE-MIT LICENSE-APACHE .git target runs shards";

/// Modules from the bottom up; a module may refer to its own row and to those before.
const LAYERS: &[&[&str]] = &[
    // The texts of the kernels are data, like the numbers.
    &["base", "kernels"],
    &["program", "ops"],
    &["cpu", "wgpu", "cuda"],
    &["model", "data", "checkpoint"],
    // The error of the library's surface names the errors of every layer below; training is part of that surface.
    &["train", "error"],
    &["downstream", "report", "bench", "doctor", "verify", "session"],
    &["cli", "capi"],
];
const BACKENDS: &[&str] = &["cpu", "wgpu", "cuda"];

/// Where `unsafe` may stand, each use with its reason.
const UNSAFE: &[&str] = &[
    "src/cuda/driver/nvidia.rs",
    "src/cuda/driver/emulated/scalar/rows.rs",
    "src/wgpu/native.rs",
    "src/cpu/",
    "src/base/",
    "src/data/shard",
    "src/capi/",
    "tests/fuzz/",
];

const RUST_LINES: usize = 600;
const KERNEL_LINES: usize = 800;
const FUNCTION_LINES: usize = 60;
const FIXTURE_BYTES: u64 = 6 << 20;

/// Files of the repository by git; without git, those on disk that are not obviously built.
fn files() -> Vec<String> {
    let git = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(ROOT).output();
    let listed = match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => String::new(),
    };
    let mut files: Vec<String> = listed.lines().map(str::to_owned).collect();
    if files.is_empty() {
        walk(Path::new(ROOT), "", &mut files);
    }
    files.retain(|file| Path::new(ROOT).join(file).is_file());
    files.sort();
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the repository can be read").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if ["target", ".git", "runs", "shards", "__pycache__"].contains(&name.as_str()) {
            continue;
        } else if entry.path().is_dir() {
            walk(&entry.path(), &format!("{path}/"), files);
        } else {
            files.push(path);
        }
    }
}

fn read(file: &str) -> String {
    String::from_utf8_lossy(&fs::read(Path::new(ROOT).join(file)).expect("a listed file can be read")).into_owned()
}

/// Every file that ends so, with its text.
fn sources(ending: &str) -> Vec<(String, String)> {
    files().into_iter().filter(|file| file.ends_with(ending)).map(|file| (file.clone(), read(&file))).collect()
}

/// Applies a rule to all files and fails with every breach.
fn hold(breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<String> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

#[test]
fn only_the_agreed_entries_lie_at_the_top() {
    let allowed: BTreeSet<&str> = TOP.split_whitespace().collect();
    let files = files();
    let top: BTreeSet<&str> = files.iter().map(|file| file.split('/').next().unwrap_or(file)).collect();
    hold(top.difference(&allowed).map(|entry| format!("{entry} may not lie at the top")));
}

/// Those of them that may be absent: what is built or made by running.
const NOT_KEPT: &str = ".git target runs shards";

#[test]
fn every_agreed_entry_is_kept() {
    let files = files();
    let top: BTreeSet<&str> = files.iter().map(|file| file.split('/').next().unwrap_or(file)).collect();
    let needed = TOP.split_whitespace().filter(|entry| NOT_KEPT.split_whitespace().all(|made| made != *entry));
    hold(needed.filter(|entry| !top.contains(entry)).map(|entry| format!("{entry} is missing at the top")));
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// References of one file under `src/` that go upwards, or from ops and models to a backend.
fn upward(file: &str, source: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let own = path.split(['/', '.']).next().unwrap_or(path);
    if ["lib", "main"].contains(&own) {
        return Vec::new();
    }
    let Some(height) = layer(own) else { return vec![format!("{file}: module {own} has no layer; add it to LAYERS")] };
    // A fast CPU kernel stands in its op's folder and uses the vector loops and matrix products of the backend.
    let kernel = |to: &str| own == "ops" && file.rsplit('/').next().is_some_and(|name| name.starts_with(to));
    let fault = |to: &str| match layer(to) {
        _ if kernel(to) => None,
        None => Some(format!("crate::{to}, which has no layer")),
        Some(other) if other > height => Some(format!("crate::{to}, which lies above {own}")),
        Some(_) if BACKENDS.contains(&to) && BACKENDS.contains(&own) && own != to => {
            Some(format!("crate::{to}, another backend"))
        }
        Some(_) if BACKENDS.contains(&to) && own == "model" => Some(format!("crate::{to}, a backend")),
        Some(_) => None,
    };
    let named = crate_modules(&code_only(source)).into_iter();
    // Macros and items of lib.rs itself have no layer of their own.
    let named = named.filter(|(module, _)| module.starts_with(|first: char| first.is_ascii_lowercase()));
    named.filter_map(|(to, line)| fault(&to).map(|what| format!("{file}:{line} refers to {what}"))).collect()
}

#[test]
fn no_module_refers_upwards() {
    hold(
        sources(".rs").iter().filter(|(file, _)| file.starts_with("src/")).flat_map(|(file, text)| upward(file, text)),
    );
}

#[test]
fn upward_references_are_found() {
    let faults = [
        ("src/base/shape.rs", "use crate::program::Value;"),
        ("src/program/plan.rs", "fn f() { crate::cpu::replay(); }"),
        ("src/ops/conv2d/mod.rs", "use crate::{base::{Spec, Rng}, cpu::product};"),
        ("src/model/unet.rs", "use crate::cuda::Driver;"),
        ("src/cuda/replay.rs", "use crate::cpu::replay;"),
        ("src/elsewhere.rs", ""),
    ];
    for (file, source) in faults {
        assert_eq!(upward(file, source).len(), 1, "{file}: {source}");
    }
    let fine = [
        ("src/ops/conv2d/cpu.rs", "use crate::cpu::product;"),
        ("src/program/plan.rs", "// crate::cpu replays it\nuse crate::{base::Spec, ops::Op};"),
        ("src/train/session.rs", "use crate::cpu::replay; const A: &str = \"crate::cli::b\";"),
    ];
    for (file, source) in fine {
        assert_eq!(upward(file, source), [""; 0], "{file}: {source}");
    }
}

/// Breaches of the budgets in one Rust file.
fn too_long(file: &str, source: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let lines = source.lines().count();
    if lines > RUST_LINES {
        breaches.push(format!("{file}: {lines} lines, {RUST_LINES} are the limit"));
    }
    for (name, line, lines) in functions(&code_only(source)) {
        if lines > FUNCTION_LINES {
            breaches.push(format!("{file}:{line}: fn {name} has {lines} lines, {FUNCTION_LINES} are the limit"));
        }
    }
    breaches
}

#[test]
fn files_and_functions_stay_within_their_budgets() {
    let rust = sources(".rs").into_iter().flat_map(|(file, text)| too_long(&file, &text));
    let kernels = [".cu", ".cuh", ".wgsl"].into_iter().flat_map(sources).filter_map(|(file, text)| {
        let lines = text.lines().count();
        (lines > KERNEL_LINES).then(|| format!("{file}: {lines} lines, {KERNEL_LINES} are the limit"))
    });
    hold(rust.chain(kernels));
}

#[test]
fn long_files_and_functions_are_found() {
    let body = |lines| format!("fn f(a: [u8; 2]) -> char {{\n{}    '}}'\n}}\n", "    g(\"}\"); // }\n".repeat(lines));
    assert_eq!(too_long("a.rs", &body(57)), [""; 0]);
    assert_eq!(too_long("a.rs", &body(58)).len(), 1);
    assert_eq!(too_long("a.rs", &"\n".repeat(601)).len(), 1);
    let nested = format!("impl A {{\nfn declared(&self);\nfn a() {{ if b {{ c }} }}\n{}\n}}", body(80));
    let found: Vec<(String, usize, usize)> = functions(&code_only(&nested));
    assert_eq!(found, [("a".to_owned(), 3, 1), ("f".to_owned(), 4, 83)]);
}

/// Words that may not stand in library code, and where they may.
fn forbidden(file: &str, source: &str) -> Vec<String> {
    let code = code_only(source);
    let mut breaches = Vec::new();
    let mut forbid = |word: &str, allowed: bool, why: &str| {
        for at in words(&code, word).filter(|_| !allowed) {
            let line = code[..at].matches('\n').count() + 1;
            breaches.push(format!("{file}:{line}: {word}: {why}"));
        }
    };
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| file.starts_with(prefix));
    let command = starts(&["src/cli/", "src/main.rs", "build.rs"]) || !starts(&["src/"]);
    forbid("unsafe", starts(UNSAFE), "allowed in few files only");
    for word in ["asm!", "global_asm!"] {
        forbid(word, false, "assembly lives in kernels/include");
    }
    for word in ["todo!", "unimplemented!", "dbg!"] {
        forbid(word, false, "unfinished");
    }
    for word in ["println!", "print!", "eprintln!", "eprint!"] {
        forbid(word, command, "the library prints nothing");
    }
    forbid("build_global", command, "the library builds no global thread pool");
    forbid("ctrlc", command, "the library installs no signal handler");
    breaches
}

#[test]
fn library_code_is_finished_silent_and_safe() {
    hold(sources(".rs").iter().flat_map(|(file, text)| forbidden(file, text)));
}

#[test]
fn forbidden_words_are_found() {
    let faults = [
        "unsafe { a() }",
        "asm!(\"nop\")",
        concat!("to", "do!()"), // put together, so that a search for what is unfinished does not find this
        "dbg!(a)",
        "println!(\"a\")",
        "pool.build_global()",
    ];
    for source in faults {
        assert_eq!(forbidden("src/model/unet.rs", source).len(), 1, "{source}");
    }
    let fine = "// unsafe\nconst A: &str = \"todo!\"; fn print(plan: &Plan) { plan.print() }";
    assert_eq!(forbidden("src/model/unet.rs", fine), [""; 0]);
    assert_eq!(forbidden("src/cli/plan.rs", "println!(\"a\")"), [""; 0]);
}

/// Of every `unsafe` with its reason: the function around it, and the reason.
fn reasons(source: &str) -> Vec<(String, String)> {
    let (code, lines) = (code_only(source), source.lines().map(str::trim).collect::<Vec<_>>());
    let known = functions(&code);
    let text = |line: &str| line.trim_start_matches('/').trim().to_owned();
    let mut found = Vec::new();
    for start in (0..lines.len()).filter(|&at| text(lines[at]).starts_with("SAFETY:") && lines[at].starts_with("//")) {
        let comment = lines[start..].iter().take_while(|line| line.starts_with("//")).count();
        let reason: Vec<String> = lines[start..start + comment].iter().map(|line| text(line)).collect();
        let end = start + comment + lines[start + comment..].iter().take_while(|line| line.starts_with('#')).count();
        let around = known.iter().filter(|(_, first, count)| (*first..first + count).contains(&(end + 1)));
        let name = around.min_by_key(|(_, _, count)| count).map_or(lines[end].trim_end_matches(" {"), |it| &it.0);
        found.push((name.replace('|', "\\|"), reason.join(" ")["SAFETY:".len()..].trim().replace('|', "\\|")));
    }
    found
}

/// docs/unsafe.md is the list of all of them; `G2D_BLESS=1 cargo test --release --test architecture` writes it.
#[test]
fn every_unsafe_is_listed_with_its_reason() {
    let mut text = "# Every `unsafe`, and why it is sound\n\nWritten by `G2D_BLESS=1 cargo test --release --test \
                    architecture`, from the comments beside the code; in no other file of src/ does the word stand.\n"
        .to_owned();
    for (file, source) in sources(".rs").iter().filter(|(file, _)| file.starts_with("src/")) {
        let (found, uses) = (reasons(source), words(&code_only(source), "unsafe").count());
        assert!(found.len() >= uses.min(1) && uses <= 2 * found.len(), "{file}: {uses} uses, {} reasons", found.len());
        let rows = found.iter().map(|(name, reason)| format!("| `{name}` | {reason} |\n"));
        if uses > 0 {
            text += &format!("\n## {file}\n\n| where | why it is sound |\n|---|---|\n{}", rows.collect::<String>());
        }
    }
    if std::env::var_os("G2D_BLESS").is_some() {
        fs::write(Path::new(ROOT).join("docs/unsafe.md"), &text).unwrap();
    }
    assert!(read("docs/unsafe.md") == text, "docs/unsafe.md is not what the code says; G2D_BLESS=1 writes it");
}

#[test]
fn reasons_are_found() {
    let source =
        "fn a() {\n// SAFETY: one\n// and | two.\nunsafe { b() }\n}\n// SAFETY: three.\nunsafe impl Sync for A {}";
    let expected = [("a", "one and \\| two."), ("unsafe impl Sync for A {}", "three.")];
    assert_eq!(reasons(source), expected.map(|(name, why)| (name.to_owned(), why.to_owned())));
}

#[test]
fn assembly_in_kernels_stays_in_include() {
    let kernels = [".cu", ".cuh"].into_iter().flat_map(sources);
    let outside = kernels.filter(|(file, _)| !file.starts_with("kernels/include/"));
    hold(outside.filter(|(_, text)| words(&code_only(text), "asm").next().is_some()).map(|(file, _)| file));
}

#[test]
fn every_file_says_first_what_it_is() {
    let rust = sources(".rs").into_iter().filter(|(_, text)| !text.starts_with("//! "));
    hold(rust.map(|(file, _)| format!("{file}: the first line says what it is")));
}

#[test]
fn no_module_is_a_drawer() {
    let drawer = |file: &String| {
        let vague = ["utils", "util", "helpers", "helper", "common", "misc"];
        file.starts_with("src/") && file.split(['/', '.']).any(|part| vague.contains(&part))
    };
    hold(files().into_iter().filter(drawer));
}

#[test]
fn every_op_folder_is_registered_and_complete() {
    let files = files();
    let folders: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.strip_prefix("src/ops/")?.split_once('/'))
        .map(|(folder, _)| folder)
        .collect();
    let registered: BTreeSet<&str> = g2d::ops::REGISTRY.iter().map(|&(folder, _)| folder).collect();
    assert_eq!(folders, registered, "folders of src/ops and lines of the registry");
    hold(
        folders
            .iter()
            .flat_map(|folder| ["mod.rs", "reference.rs"].map(|file| format!("src/ops/{folder}/{file}")).into_iter())
            .filter(|file| !files.contains(file)),
    );
}

/// Lines of text that name a place on somebody's machine or beside the repository.
fn foreign_paths(file: &str, text: &str) -> Vec<String> {
    let roots = ["/work", "/root", "/home", "/Users", "/tmp/bash_jobs", "../shared"];
    let names = |line: &str| {
        roots.iter().any(|root| {
            let path = format!("{root}/");
            line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                root.starts_with('.')
                    || !before.is_some_and(|before| before.is_alphanumeric() || "._-/}".contains(before))
            })
        })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| names(line));
    lines.map(|(at, line)| format!("{file}:{}: {}", at + 1, line.trim())).collect()
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let readable = |file: &String| !file.starts_with("tests/architecture.rs") && !file.starts_with("ptx/");
    let texts = files().into_iter().filter(readable).filter_map(|file| {
        let text = fs::read_to_string(Path::new(ROOT).join(&file)).ok()?;
        Some((file, text))
    });
    hold(texts.flat_map(|(file, text)| foreign_paths(&file, &text)));
}

#[test]
fn places_on_one_machine_are_found() {
    for fault in ["open(\"/home/me/a\")", concat!("see /wo", "rk/shared/a"), "--data ../shared/films/pairs.csv"] {
        assert_eq!(foreign_paths("a", fault).len(), 1, "{fault}");
    }
    for fine in ["src/work/a.rs", "https://host/home/a", "path = \"../..\"", "$HOME/home.txt"] {
        assert_eq!(foreign_paths("a", fine), [""; 0], "{fine}");
    }
}

#[test]
fn fixtures_stay_small() {
    let size = |file: &String| fs::metadata(Path::new(ROOT).join(file)).map_or(0, |data| data.len());
    let bytes: u64 = files().iter().filter(|file| file.starts_with("tests/fixtures/")).map(size).sum();
    assert!(bytes <= FIXTURE_BYTES, "tests/fixtures holds {bytes} bytes, {FIXTURE_BYTES} are the limit");
}

/// Words before the flags, and flags, of every command of ours in the fenced blocks of a Markdown text.
fn commands(markdown: &str) -> Vec<(String, Vec<String>)> {
    let blocks = markdown.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).map(|line| line.split('#').next().unwrap_or(line).trim());
    let lines = lines.filter(|line| !line.contains(" --example ")); // run by tests/examples.rs
    let ours = lines.flat_map(|line| line.split("&&")).filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("g2d ").or_else(|| Some(line.strip_prefix("cargo run ")?.split_once(" -- ")?.1))
    });
    ours.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let verb: Vec<&str> = words.iter().copied().take_while(|word| !word.starts_with("--")).collect();
        (verb.join(" "), words.into_iter().filter(|word| word.starts_with("--")).map(str::to_owned).collect())
    })
    .collect()
}

#[test]
fn commands_of_the_readme_exist() {
    if !Path::new(ROOT).join("README.md").exists() {
        return ledger::skipped("readme", "README.md is not written yet", "write README.md");
    }
    let Some(binary) = option_env!("CARGO_BIN_EXE_g2d") else {
        return ledger::skipped("readme", "the command is not built without `cli`", "cargo test --release");
    };
    let found = commands(&read("README.md"));
    assert!(!found.is_empty(), "README.md shows no command");
    for (verb, flags) in &found {
        let words = verb.split(' ').chain(["--help"]);
        let help = Command::new(binary).args(words).output().expect("the command runs");
        assert!(help.status.success(), "README.md names `{verb}`, which the command does not know");
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        for flag in flags.iter().map(|flag| flag.split('=').next().unwrap_or(flag)) {
            assert!(text.contains(flag), "README.md gives `{verb}` the flag {flag}, which it does not know");
        }
    }
    ledger::ran("readme", format!("{} commands of README.md exist", found.len()));
}

#[test]
fn commands_are_read_from_markdown() {
    let text = "g2d not this\n```sh\ncargo run --release -- pretrain --steps 5 # now\ncargo test --release\n\
                g2d pack --pairs a.csv && g2d verify\ng2d pack mimic --out a\n\
                cargo run --example a -- --b\n```\n";
    let flags = |flags: &[&str]| flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>();
    let expected = [
        ("pretrain", flags(&["--steps"])),
        ("pack", flags(&["--pairs"])),
        ("verify", flags(&[])),
        ("pack mimic", flags(&["--out"])),
    ];
    assert_eq!(commands(text), expected.map(|(verb, flags)| (verb.to_owned(), flags)));
}

/// What the comment above a kernel, or above the kernels of a file, says, in this order.
const HEADER: &[&str] = &["Formula", "Pointers", "Launch", "Numbers", "Assumes"];
/// Kernels of a file, and of all.
const KERNELS: [usize; 2] = [12, 135];

/// The parts of a header block, as they follow each other in a file.
fn parts(source: &str) -> Vec<&str> {
    let labels = source.lines().filter_map(|line| {
        let (label, rest) = line.strip_prefix("// ")?.split_once("  ")?;
        HEADER.iter().find(|&&part| part == label && !rest.trim().is_empty())
    });
    labels.copied().collect()
}

#[test]
fn every_kernel_stands_under_its_formula_pointers_launch_numbers_and_assumptions() {
    let mut all = 0;
    hold([sources(".cu"), sources(".ptx")].concat().into_iter().flat_map(|(file, source)| {
        if file.starts_with("ptx/sm_") || !(file.starts_with("kernels/") || file.starts_with("ptx/")) {
            return Vec::new();
        }
        let [name, entry] = match &file {
            file if file.ends_with(".sm90a.cu") => ["_sm90a,"; 2],
            file if file.ends_with(".cu") => ["_sm80"; 2],
            _ => [".entry", ".visible .entry"],
        };
        let (first, kernels) = (source.find(name), source.matches(entry).count());
        all += kernels;
        let mut breaches = Vec::new();
        if first.is_none_or(|at| !parts(&source[..at]).starts_with(HEADER)) {
            breaches.push(format!("{file}: its first kernel has no header of {HEADER:?}"));
        }
        if parts(&source).chunks(HEADER.len()).any(|block| block != HEADER) {
            breaches.push(format!("{file}: a header block is not {HEADER:?}, in this order"));
        }
        if kernels > KERNELS[0] {
            breaches.push(format!("{file}: {kernels} kernels, at most {}", KERNELS[0]));
        }
        breaches
    }));
    assert!(all > 0 && all <= KERNELS[1], "{all} kernels");
}

#[test]
fn a_header_without_a_part_is_noticed() {
    let whole = "// Formula   y = x\n// Pointers  x\n// Launch    grid\n// Numbers   f32\n// Assumes   little\n";
    assert_eq!(parts(whole), HEADER);
    assert_ne!(parts(&whole.replace("// Numbers   f32\n", "")), HEADER);
    assert_ne!(parts(&whole.replace("Numbers   f32", "Numbers   ")), HEADER);
}
