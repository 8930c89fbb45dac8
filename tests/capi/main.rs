//! The interface for C: its header is the one that its source gives, and programs in C use, train and misuse it, in threads and
//! under the address sanitizer, through the library that ships.
#![cfg(all(feature = "capi", feature = "cli", unix))]

#[path = "../common/command.rs"]
#[allow(dead_code)]
mod command;
#[path = "../common/ledger.rs"]
#[allow(dead_code)]
mod ledger;

mod header;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use command::{Ended, g2d};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// For programs that the sanitizers watch.
const SANITIZED: [&str; 4] = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

/// Builds a library by these words behind `cargo`, as everybody does; where it lies.
fn built(words: &str) -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(words.split(' ')).args(["--offline", "--message-format=json"]).current_dir(ROOT);
    let built = cargo.output().expect("cargo can be run");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let text = String::from_utf8(built.stdout).unwrap();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut ours = messages.filter(|message| {
        message["target"]["kind"] == serde_json::json!(["example"]) && message["target"]["name"] == "g2d"
    });
    let artifact = ours.next().expect("cargo tells what it built");
    PathBuf::from(artifact["filenames"][0].as_str().unwrap())
}

/// The shared library.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| built("build --release --example g2d"))
}

/// A run of two steps, a film, and room for what is built; made once.
struct World {
    folder: PathBuf,
    run: PathBuf,
    film: PathBuf,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = command::empty("world");
        g2d(&folder, "phantom --count 40 --seed 5 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
        g2d(&folder, "pretrain --data shards --preset micro --steps 2 --batch 4 --device cpu --out run").done();
        let film = fs::read_dir(folder.join("drawn/images")).unwrap().next().unwrap().unwrap().path();
        World { run: folder.join("run"), film, folder }
    })
}

/// Whether there is a compiler for C; skips loudly without.
fn compiler() -> bool {
    let there = Command::new("cc").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        ledger::skipped(
            "c",
            "there is no C compiler `cc`",
            "apt-get install gcc g++, then cargo test --release --test capi",
        );
    }
    there
}

/// Compiles; whatever the compiler would say is an error.
fn compile(compiler: &str, arguments: &[&str]) {
    let strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-I", "src/capi"];
    let output = Command::new(compiler).args(strict).args(arguments).current_dir(ROOT).output();
    let output = output.expect("the compiler can be run");
    assert!(output.status.success(), "{compiler} {arguments:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds a program of one file and the library.
fn program(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let out = world().folder.join(name);
    let [out_word, library] = [&out, library()].map(|path: &Path| path.to_str().unwrap());
    compile("cc", &[&["-std=c11", source, library, "-lm", "-pthread", "-o", out_word], flags].concat());
    out
}

fn run(program: &Path, arguments: &[&Path]) -> Ended {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&world().folder);
    command.env("ASAN_OPTIONS", "detect_leaks=1").env("UBSAN_OPTIONS", "print_stacktrace=1");
    // Looking for GPUs loads graphics drivers, which leak on their own; which of it is found depends on where they lay.
    command.env("VK_DRIVER_FILES", "/dev/null").env("VK_ICD_FILENAMES", "/dev/null");
    Ended::of(command.output().expect("a program that was built can be run"))
}

/// Runs a task of `calls.c`.
fn calls(program: &Path, task: &str, beside: &[&Path]) -> Ended {
    let World { run: model, film, .. } = world();
    run(program, &[&[Path::new(task), model, film], beside].concat())
}

#[test]
fn the_header_is_c_and_cpp() {
    if !compiler() {
        return;
    }
    for standard in ["c11", "c23"].iter().filter(|&&standard| standard == "c11" || knows(standard)) {
        compile("cc", &["-x", "c", &format!("-std={standard}"), "-fsyntax-only", "src/capi/g2d.h"]);
    }
    if Command::new("c++").arg("--version").output().is_err() {
        return ledger::skipped(
            "c++",
            "there is no C++ compiler `c++`",
            "apt-get install g++, then cargo test --release --test capi",
        );
    }
    compile("c++", &["-x", "c++", "-std=c++17", "-fsyntax-only", "src/capi/g2d.h"]);
    ledger::ran("c++", "the header is read as C++17");
}

fn knows(standard: &str) -> bool {
    let empty =
        Command::new("cc").args(["-x", "c", &format!("-std={standard}"), "-fsyntax-only", "/dev/null"]).output();
    empty.is_ok_and(|output| output.status.success())
}

#[test]
fn the_examples_use_and_train_a_model() {
    if !compiler() {
        return;
    }
    let World { folder, run: model, film } = world();
    for (flags, name) in [(&[][..], "plain"), (&SANITIZED[..], "sanitized")] {
        let embed = program("examples/c/embed.c", &format!("embed-{name}"), flags);
        let text = run(&embed, &[model, film, Path::new("pleural effusion")]).done();
        // What `g2d explain` says of the same film.
        let line = format!("explain --weights run --image {} --text pleural_effusion --json", film.display());
        let words: Vec<&str> =
            line.split(' ').map(|word| if word == "pleural_effusion" { "pleural effusion" } else { word }).collect();
        let explained = Ended::of(command::command(folder, &words).output().unwrap()).done();
        let explained: Value = serde_json::from_str(&explained).unwrap();
        let similarity = text.strip_prefix("similarity ").and_then(|rest| rest.split(';').next()).unwrap();
        assert_eq!(similarity, format!("{:.3}", explained["similarity"].as_f64().unwrap()), "{text}");
        let area = format!("{:.1} % of the film", 100.0 * explained["predicted_area"].as_f64().unwrap());
        assert!(text.contains(&area), "{text}{explained}");
        assert_eq!(run(&embed, &[Path::new("nowhere"), film, Path::new("a")]).code, Some(2));

        let train = program("examples/c/train.c", &format!("train-{name}"), flags);
        let out = folder.join(format!("trained-{name}"));
        let text = run(&train, &[&out]).done();
        let losses: Vec<f64> =
            text.lines().filter_map(|line| line.split_once("loss ")?.1.split(',').next()?.parse().ok()).collect();
        assert!(losses.len() == 8 && losses.iter().all(|loss| loss.is_finite()) && losses[7] < losses[0], "{text}");
        assert!(text.contains("64 of 64 numbers are the same"), "{text}");
        // The command reads what was saved.
        g2d(folder, &format!("export trained-{name} --format smp --out {name}.safetensors")).done();
        assert_eq!(run(&train, &[&out]).code, Some(2), "a folder that is not empty is not overwritten");
    }
    ledger::ran(
        "c",
        "examples/c built with cc, run, and run under address and undefined-behaviour sanitizers without a leak",
    );
}

#[test]
fn the_static_library_is_linked_by_the_line_that_is_documented() {
    if !compiler() {
        return;
    }
    let page = fs::read_to_string(Path::new(ROOT).join("docs/embedding.md")).unwrap();
    let documented = |before: &str| page.split_once(before).unwrap().1.split_once('`').unwrap().0;
    // Not while the shared one is built: both are of one target.
    let shared = program("examples/c/embed.c", "embed-shared", &[]);
    let library = built(documented("A static library: `cargo "));
    assert_eq!(library.file_name().unwrap(), "libg2d.a");
    let alone = world().folder.join("embed-static");
    let [out, library] = [&alone, &library].map(|path| path.to_str().unwrap());
    let with: Vec<&str> = documented("target/release/examples/libg2d.a ").split(' ').collect();
    compile("cc", &[&["-std=c11", "examples/c/embed.c", library], &with[..], &["-o", out]].concat());
    let World { run: model, film, .. } = world();
    let said = [alone, shared].map(|program| run(&program, &[model, film, Path::new("pleural effusion")]).done());
    assert!(said[0].starts_with("similarity ") && said[0] == said[1], "{said:?}");
}

#[test]
fn calls_that_are_wrong_are_refused() {
    if compiler() {
        let program = program("tests/capi/calls.c", "misuse", &SANITIZED);
        calls(&program, "misuse", &[&world().folder.join("misused")]).done();
        assert!(world().film.is_file(), "a film was overwritten");
        let left = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains("partial");
        assert!(
            !fs::read_dir(&world().folder).unwrap().any(|entry| left(entry.unwrap())),
            "a half-written model was left"
        );
    }
}

#[test]
fn threads_share_sessions_or_have_their_own() {
    if compiler() {
        calls(&program("tests/capi/calls.c", "threads", &SANITIZED), "threads", &[]).done();
    }
}

/// What the sanitizers are trusted with, they report.
#[test]
fn a_leak_and_a_lie_about_a_buffer_are_reported() {
    if compiler() {
        let program = program("tests/capi/calls.c", "faulty", &SANITIZED);
        for (task, report) in [("leak", "LeakSanitizer"), ("lie", "heap-buffer-overflow")] {
            let ended = calls(&program, task, &[]);
            assert!(ended.code != Some(0) && ended.errors.contains(report), "{task}: {ended:?}");
        }
    }
}
