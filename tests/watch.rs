//! `g2d watch`: one frame where there is no terminal; in one, through a pseudo-terminal, that it is given back whatever ends it.
#![cfg(feature = "cli")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::command::{Ended, empty, g2d, listing, shell};
use common::ledger;

/// A run of six steps in `run`, in a folder of a test's own.
fn ran(test: &str) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = empty("made");
        g2d(&folder, "phantom --count 30 --seed 3 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 64 --out shards").done();
        g2d(&folder, "pretrain --data shards --preset micro --batch 4 --steps 6 --out run").done();
        folder
    });
    let folder = empty(test);
    fs::create_dir(folder.join("run")).unwrap();
    for file in ["config.json", "manifest.json", "metrics.jsonl", "run.lock"] {
        fs::copy(made.join("run").join(file), folder.join("run").join(file)).unwrap();
    }
    folder
}

#[test]
fn one_frame_is_printed_and_nothing_touched() {
    let folder = ran("once");
    let before = listing(&folder);
    let text = g2d(&folder, "watch run --once").done();
    for words in ["finished", "preset micro", "step 6 of 6", "validated after step 6", "Loss", "Learning rate"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Standard output is no terminal.
    let piped = g2d(&folder, "watch run").done();
    assert_eq!(piped.lines().skip(2).collect::<Vec<_>>(), text.lines().skip(2).collect::<Vec<_>>());
    assert!(!text.contains('\u{1b}'), "colours in what is no terminal: {text:?}");
    // The newest one.
    fs::create_dir(folder.join("runs")).unwrap();
    fs::rename(folder.join("run"), folder.join("runs/mine")).unwrap();
    assert!(g2d(&folder, "watch").done().contains("runs/mine"));
    fs::rename(folder.join("runs/mine"), folder.join("run")).unwrap();
    fs::remove_dir(folder.join("runs")).unwrap();
    assert_eq!(listing(&folder), before);
}

#[test]
fn a_run_that_is_written_is_said_to_train_and_half_a_line_is_waited_for() {
    let folder = ran("written");
    let lock = fs::File::open(folder.join("run/run.lock")).unwrap();
    lock.lock().unwrap();
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    fs::write(folder.join("run/metrics.jsonl"), format!("{metrics}{{\"step\":7,\"loss.to")).unwrap();
    let text = g2d(&folder, "watch run").done();
    assert!(text.contains("\u{25cf} training") && text.contains("step 6 of 6"), "{text}");
    drop(lock);
    fs::write(folder.join("run/run.lock"), "9\n").unwrap();
    let text = g2d(&folder, "watch run").done();
    assert!(text.contains("not running") && text.contains("step 6 of 9, 67 %"), "{text}");
    // Of a run from before the step was written there.
    fs::write(folder.join("run/run.lock"), "").unwrap();
    assert!(g2d(&folder, "watch run").done().contains("step 6 of 200"));
    fs::remove_file(folder.join("run/metrics.jsonl")).unwrap();
    assert!(g2d(&folder, "watch run").done().contains("no step has been taken yet"));
}

#[test]
fn what_is_no_run_is_one_sentence() {
    let folder = ran("no-run");
    g2d(&folder, "watch").refused(&["there is no run in runs/"]);
    g2d(&folder, "watch nowhere").refused(&["nowhere does not exist"]);
    fs::write(folder.join("run/manifest.json"), "{").unwrap();
    g2d(&folder, "watch run").refused(&["run/manifest.json"]);
}

/// What the command does in a terminal of 80 by 24 in which `$typed` is typed.
fn in_terminal(folder: &Path, typed: &str) -> Ended {
    shell(
        folder,
        &format!(
            "({typed}) | script --quiet --return --log-out /dev/null \
             --command \"stty rows 24 cols 80; sh -c 'echo \\$\\$ > pid; exec $G2D watch run'; code=\\$?; stty -a; exit \\$code\""
        ),
    )
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    if shell(&empty("script"), "script --version && stty --version").code != Some(0) {
        let install = "install script and stty (util-linux, coreutils), then cargo test --release";
        return ledger::skipped("terminal", "g2d watch was not tried in a terminal: there is no script", install);
    }
    let folder = ran("terminal");
    let signal = "sleep 2; kill -TERM $(cat pid); sleep 2";
    for (name, typed, code, said) in [
        ("q", "sleep 2; printf '\\t'; sleep 1; printf q", 0, "charts 1 of"),
        ("Ctrl-C", "sleep 2; printf '\\003'", 130, "charts 1 of"),
        ("SIGTERM", signal, 130, "charts 1 of"),
        ("a run that vanishes", "sleep 2; rm -r run; sleep 3", 2, "error: run is gone, or no run any more"),
    ] {
        let ended = in_terminal(&folder, typed);
        assert_eq!(ended.code, Some(code), "{name}: {ended:?}");
        let (entered, left) = (ended.out.rfind("\u{1b}[?1049h"), ended.out.rfind("\u{1b}[?1049l"));
        assert!(entered.is_some() && entered < left, "{name}: the other screen is not left: {ended:?}");
        // Cooked again: lines, echo, signals.
        let state = ended.out[left.unwrap()..].to_owned();
        for word in [" icanon", " echo ", " isig", " icrnl"] {
            assert!(state.replace("\r\n", " ").contains(word), "{name}: {word} is off: {state}");
        }
        assert!(ended.out.contains(said), "{name}: {ended:?}");
    }
    ledger::ran("terminal", "g2d watch in a pseudo-terminal, ended by q, Ctrl-C, SIGTERM and a run that vanishes");
}
