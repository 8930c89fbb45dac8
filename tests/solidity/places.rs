//! Places that cannot be written or read as hoped, and files that are not what was written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use g2d::base::random::Rng;
use g2d::checkpoint::folder;

use crate::common::command::{command, empty, g2d, listing, shell};
use crate::common::ledger;

/// Phantoms in `drawn`, their shards in `shards`, and `run`, a run of two steps with two checkpoints.
pub fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = empty("made");
        g2d(&folder, "phantom --count 24 --seed 3 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
        let run = "pretrain --data shards --preset micro --batch 4 --steps 2 --set checkpoint_every=1 --out run";
        g2d(&folder, run).done();
        folder
    })
}

/// A folder with a copy of the shards, and of the run if wanted.
fn copied(name: &str, with_run: bool) -> PathBuf {
    let to = empty(name);
    for path in listing(made()) {
        let inside = path.strip_prefix(made()).unwrap();
        if inside.starts_with("shards") || with_run && inside.starts_with("run") {
            let copy = to.join(inside);
            if path.is_dir() {
                fs::create_dir_all(copy).unwrap();
            } else {
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                fs::copy(&path, copy).unwrap();
            }
        }
    }
    to
}

const PRETRAIN: &str = "pretrain --data shards --preset micro --batch 4 --steps 4 --set checkpoint_every=2 --out new";

#[test]
fn names_with_blanks_and_letters_of_any_script_work() {
    let folder = empty("B\u{fc}ro \u{6771}\u{4eac}, 100 %");
    let films = folder.join("die Bilder");
    fs::create_dir_all(&films).unwrap();
    let mut table = String::from("id,image,text,split\n");
    let mut drawn: Vec<PathBuf> = listing(&made().join("drawn/images")).into_iter().collect();
    drawn.truncate(8);
    for (at, film) in drawn.iter().enumerate() {
        fs::copy(film, films.join(format!("B\u{fc}ste {at}.png"))).unwrap();
        table += &format!("\u{e9} {at},die Bilder/B\u{fc}ste {at}.png,Kein Erguss.,train\n");
    }
    fs::write(folder.join("Tabelle \u{3b1}.csv"), table).unwrap();
    let run =
        |arguments: &[&str]| crate::common::command::Ended::of(command(&folder, arguments).output().unwrap()).done();
    run(&["pack", "--pairs", "Tabelle \u{3b1}.csv", "--out", "die Daten", "--size", "64"]);
    let words = ["--data", "die Daten", "--preset", "micro", "--batch", "4", "--steps", "2", "--out", "ein Lauf"];
    assert!(run(&[&["pretrain"][..], &words].concat()).contains("ein Lauf"));
    run(&["pretrain", "--resume", "--steps", "3", "--out", "ein Lauf"]);
}

#[test]
fn folders_where_files_should_be_are_refused_and_files_where_folders_should_be() {
    let folder = copied("folders", false);
    fs::write(folder.join("file"), "mine").unwrap();
    let before = listing(&folder);
    for (line, words) in [
        ("pack --pairs shards --out out", &["shards", "folder"][..]),
        ("pack --pairs ../made/drawn/pairs.csv --tokenizer shards --out out", &["shards", "folder"]),
        ("pack --pairs ../made/drawn/pairs.csv --boxes shards --out out", &["shards", "folder"]),
        ("pack --pairs ../made/drawn/pairs.csv --out file", &["file"]),
        ("pack --pairs ../made/drawn/pairs.csv --out file/below", &["file"]),
        ("pretrain --data file --preset micro", &["file"]),
        ("phantom --count 1 --out file", &["file"]),
    ] {
        g2d(&folder, line).refused(words);
    }
    for (more, words) in [
        ("--config shards", "shards"),
        ("--weights shards", "shards"),
        ("--out file", "file"),
        ("--out file/run", "file"),
    ] {
        let line =
            if more.starts_with("--out") { PRETRAIN.replace("--out new", more) } else { format!("{PRETRAIN} {more}") };
        g2d(&folder, &line).refused(&[words]);
    }
    assert_eq!((listing(&folder), fs::read(folder.join("file")).unwrap()), (before, b"mine".to_vec()));
    // A folder in the place of a shard, a checkpoint's file, the metrics.
    let folder = copied("folders-within", true);
    let replace = |inside: &str| {
        fs::remove_file(folder.join(inside)).unwrap();
        fs::create_dir(folder.join(inside)).unwrap();
    };
    replace("run/metrics.jsonl");
    g2d(&folder, "pretrain --resume --data shards --steps 3 --out run").refused(&["metrics.jsonl"]);
    replace("run/checkpoints/step-00000002/moments.safetensors");
    g2d(&folder, "pretrain --resume --data shards --steps 3 --out run").refused(&["moments.safetensors"]);
    replace("shards/shard-00000.g2d");
    g2d(&folder, PRETRAIN).refused(&["shard-00000.g2d"]);
}

#[cfg(unix)]
#[test]
fn links_that_turn_in_circles_are_refused() {
    let folder = empty("circles");
    std::os::unix::fs::symlink("b", folder.join("a")).unwrap();
    std::os::unix::fs::symlink("a", folder.join("b")).unwrap();
    for line in [
        "pack --pairs a --out out",
        "pretrain --data a",
        "pretrain --resume --out a",
        "pack --pairs ../made/drawn/pairs.csv --out a",
    ] {
        made();
        g2d(&folder, line).refused(&["a"]);
    }
}

/// `ulimit -f` makes every write beyond a length fail, as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_with_a_sentence_and_leaves_nothing_half_written() {
    let folder = copied("full", true);
    let limited = |line: &str| shell(&folder, &format!("ulimit -f 40; exec \"$G2D\" {line}"));
    limited("pack --pairs ../made/drawn/pairs.csv --size 64 --out out").refused(&["cannot write", "shard-00000.g2d"]);
    assert!(!folder.join("out").exists());
    // The run starts, but no checkpoint fits.
    limited(PRETRAIN).refused(&["weights.safetensors"]);
    assert_eq!(folder::list(&folder.join("new")).unwrap(), [""; 0].map(PathBuf::from));
    assert_eq!(listing(&folder.join("new/checkpoints")).len(), 0, "half a checkpoint is left");
    // With room again it goes on, and is the run it would have been.
    g2d(&folder, "pretrain --resume --data shards --steps 4 --out new").done();
    g2d(&folder, &PRETRAIN.replace("--out new", "--out other")).done();
    let weights = |run: &str| fs::read(folder.join(run).join("checkpoints/step-00000004/weights.safetensors")).unwrap();
    assert!(weights("new") == weights("other"));
    // A run that has checkpoints keeps them.
    limited("pretrain --resume --data shards --steps 3 --out run").refused(&["weights.safetensors"]);
    assert_eq!(folder::list(&folder.join("run")).unwrap().len(), 2);
    g2d(&folder, "pretrain --resume --data shards --steps 3 --out run").done();
}

#[cfg(unix)]
#[test]
fn output_nobody_takes_is_no_panic() {
    let folder = empty("output");
    let closed = shell(&folder, "\"$G2D\" plan --preset tiny | head -n 1");
    assert_eq!((closed.code, closed.out.lines().count(), closed.errors.as_str()), (Some(0), 1, ""));
    if Path::new("/dev/full").exists() {
        shell(&folder, "exec \"$G2D\" plan --preset tiny > /dev/full").refused(&["standard output"]);
    }
}

#[cfg(unix)]
#[test]
fn places_that_may_not_be_written_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = copied("read-only", true);
    let allow = |mode| fs::set_permissions(folder.join("shut"), fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(folder.join("shut")).unwrap();
    allow(0o555);
    // Root may write everywhere; then the command runs as another user, where the system has a way to.
    let root = fs::write(folder.join("shut/probe"), "").is_ok();
    let other_user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    if root && shell(&folder, &format!("{other_user} \"$G2D\" --version")).code != Some(0) {
        let why = "this user may write where writing is forbidden (root), and there is no setpriv that lets another \
                   user run the command from where it is built";
        return ledger::skipped("read-only", why, "cargo test --release --test solidity, as a user who is not root");
    }
    let _ = fs::remove_file(folder.join("shut/probe"));
    let run = |line: &str| match root {
        true => shell(&folder, &format!("exec {other_user} \"$G2D\" {line}")),
        false => g2d(&folder, line),
    };
    run("pack --pairs ../made/drawn/pairs.csv --out shut/out").refused(&["shut"]);
    run("phantom --count 1 --out shut/out").refused(&["shut"]);
    run(&PRETRAIN.replace("--out new", "--out shut/run")).refused(&["shut"]);
    assert_eq!(listing(&folder.join("shut")).len(), 0);
    allow(0o755);
    ledger::ran("read-only", "output folders that may not be written are refused");
}

/// Every flipped bit of a checkpoint is seen before anything is loaded.
#[test]
fn changed_checkpoints_are_refused_with_the_file() {
    let folder = copied("checkpoints", true);
    let [older, newest] = [1, 2].map(|step| folder.join(format!("run/checkpoints/step-{step:08}")));
    folder::verify(&newest).unwrap();
    let mut rng = Rng::new(1, 0, 0);
    for file in ["weights.safetensors", "moments.safetensors", "progress.json", "digests.b3"] {
        let path = newest.join(file);
        let whole = fs::read(&path).unwrap();
        for flip in 0..60 {
            let mut bytes = whole.clone();
            // Every bit of the first bytes, then any.
            let at = if flip < 16 { flip } else { rng.below(bytes.len()) };
            bytes[at] ^= 1 << rng.below(8);
            fs::write(&path, &bytes).unwrap();
            let error = folder::verify(&newest).unwrap_err().to_string();
            let named = error.contains(file) || file == "digests.b3" && error.contains("step-00000002");
            assert!(named, "{file}, byte {at}: {error}");
        }
        let foreign = fs::read(older.join(file)).unwrap();
        for bytes in [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), b"", b"PK, as it were", &foreign] {
            fs::write(&path, bytes).unwrap();
            assert!(folder::verify(&newest).is_err(), "{file} of {} bytes", bytes.len());
        }
        g2d(&folder, "pretrain --resume --data shards --steps 3 --out run").refused(&["step-00000002", "delete this"]);
        fs::remove_file(&path).unwrap();
        assert!(folder::verify(&newest).unwrap_err().to_string().contains(file));
        fs::write(&path, whole).unwrap();
    }
    folder::verify(&newest).unwrap();
    // What the sentence says helps, also where no other checkpoint is left.
    let resume = "pretrain --resume --data shards --steps 3 --out run";
    fs::write(newest.join("weights.safetensors"), "").unwrap();
    g2d(&folder, resume).refused(&["to resume from the one before it"]);
    fs::remove_dir_all(&newest).unwrap();
    fs::write(older.join("weights.safetensors"), "").unwrap();
    g2d(&folder, resume).refused(&["no checkpoint before it", "--resume starts at the first step"]);
    fs::remove_dir_all(&older).unwrap();
    g2d(&folder, resume).done();
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let folder = copied("nan", true);
    let mut weights = fs::read(folder.join("run/checkpoints/step-00000002/weights.safetensors")).unwrap();
    let at = weights.len() - 4;
    weights[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&weights[8..8 + header]).unwrap();
    let end = (weights.len() - 8 - header) as u64;
    let last = tensors.as_object().unwrap().iter().find(|(_, tensor)| tensor["data_offsets"][1] == end).unwrap();
    assert_eq!(last.1["dtype"], "F32", "the last tensor must be of real numbers");
    fs::write(folder.join("nan.safetensors"), &weights).unwrap();
    let before = listing(&folder);
    g2d(&folder, &format!("{PRETRAIN} --weights nan.safetensors")).refused(&["nan.safetensors", "not finite", last.0]);
    assert_eq!(listing(&folder), before);
}

/// Waits until a run has written lines of steps.
fn wait_for_steps(child: &mut Child, run: &Path, count: usize) {
    let start = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().matches("loss.total").count() < count {
        assert!(start.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(), "no step is taken");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_second_process_on_a_run_is_refused() {
    let folder = copied("two", false);
    let endless = PRETRAIN.replace("--steps 4", "--steps 1000000");
    let words: Vec<&str> = endless.split_whitespace().collect();
    let mut first = command(&folder, &words).spawn().unwrap();
    wait_for_steps(&mut first, &folder.join("new"), 3);
    let second = g2d(&folder, "pretrain --resume --data shards --steps 2000000 --out new");
    second.refused(&["new", "another process is writing this run"]);
    g2d(&folder, &endless).refused(&["new", "--resume"]);
    first.kill().unwrap();
    first.wait().unwrap();
    // A lock dies with its process.
    g2d(&folder, "pretrain --resume --data shards --steps 1 --out new").done();
}

#[test]
fn imported_weights_survive_a_kill_before_the_first_checkpoint() {
    let folder = copied("imported", true);
    let weights = "--weights run/checkpoints/step-00000002/weights.safetensors";
    let lone = "--set checkpoint_every=1000 --set schedule.steps=1000";
    let line = format!("{} {weights}", PRETRAIN.replace("--set checkpoint_every=2", lone));
    g2d(&folder, &line.replace("--out new", "--out straight")).done();
    let endless = line.replace("--steps 4", "--steps 1000");
    let words: Vec<&str> = endless.split_whitespace().collect();
    let mut killed = command(&folder, &words).spawn().unwrap();
    wait_for_steps(&mut killed, &folder.join("new"), 1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    g2d(&folder, "pretrain --resume --data shards --steps 4 --out new").done();
    let [new, straight] = ["new", "straight"]
        .map(|run| fs::read(folder.join(run).join("checkpoints/step-00000004/weights.safetensors")).unwrap());
    assert!(new == straight);
}

#[test]
fn a_shard_that_is_cut_while_in_use_ends_the_run_with_a_sentence_and_loses_nothing() {
    let folder = copied("cut", false);
    let line = PRETRAIN.replace("--steps 4", "--set schedule.steps=1000");
    let (endless, shard) = (format!("{line} --steps 1000"), folder.join("shards/shard-00000.g2d"));
    let words: Vec<&str> = endless.split_whitespace().collect();
    let mut cut = command(&folder, &words).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&mut cut, &folder.join("new"), 3);
    let whole = fs::read(&shard).unwrap();
    fs::OpenOptions::new().write(true).open(&shard).unwrap().set_len(8192).unwrap();
    let ended = cut.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(errors.contains("shard-00000.g2d") && errors.contains("was cut to 8192 of"), "{errors}");
    assert_eq!(ended.status.code(), Some(2), "{errors}");
    // Until the shard is back nothing goes on; then the run is the one that was never disturbed.
    g2d(&folder, "pretrain --resume --out new").refused(&["shard-00000.g2d"]);
    fs::write(&shard, whole).unwrap();
    let step = |run: &str| -> u64 {
        let newest = folder::newest(&folder.join(run)).unwrap().unwrap();
        newest.file_name().unwrap().to_str().unwrap()["step-".len()..].parse().unwrap()
    };
    let steps = step("new") + 3;
    g2d(&folder, &format!("pretrain --resume --steps {steps} --out new")).done();
    g2d(&folder, &format!("{line} --steps {steps}").replace("--out new", "--out straight")).done();
    let weights = |run: &str| fs::read(folder.join(format!("{run}/checkpoints/step-{steps:08}/weights.safetensors")));
    assert!(weights("new").unwrap() == weights("straight").unwrap());
}

#[test]
fn a_clock_that_is_set_back_changes_nothing() {
    let folder = copied("clock", true);
    // Everything that lies there was written in a century to come.
    let later = SystemTime::now() + Duration::from_secs(100 * 365 * 86400);
    for path in listing(&folder).into_iter().filter(|path| path.is_file()) {
        fs::File::options().append(true).open(&path).unwrap().set_modified(later).unwrap();
    }
    g2d(&folder, "pretrain --resume --steps 4 --data shards --out run").done();
    let line = PRETRAIN.replace("--steps 4 --set checkpoint_every=2", "--steps 2 --set checkpoint_every=1");
    g2d(&folder, &line).done();
    g2d(&folder, "pretrain --resume --steps 4 --out new").done();
    let weights = |run: &str| fs::read(folder.join(format!("{run}/checkpoints/step-00000004/weights.safetensors")));
    assert!(weights("run").unwrap() == weights("new").unwrap());
}

#[test]
fn a_damaged_copy_of_what_lies_in_an_object_store_is_to_be_fetched_again() {
    let folder = copied("fetched", false);
    let shard = folder.join("shards/shard-00000.g2d");
    fs::write(&shard, "foreign").unwrap();
    g2d(&folder, PRETRAIN).refused(&["shard-00000.g2d", "pack the data again"]);
    // What a folder that is filled from a store holds.
    fs::write(folder.join("shards/fetch.lock"), "").unwrap();
    g2d(&folder, PRETRAIN).refused(&["delete shards/shard-00000.g2d", "s3:// address once more"]);
}

#[test]
fn reports_are_cut_to_what_a_model_has_positions_for() {
    let folder = copied("positions", false);
    let short = format!("{PRETRAIN} --set max_positions=16");
    let ended = g2d(&folder, &short);
    assert!(ended.errors.contains("reports are cut to 16 tokens"), "{ended:?}");
    ended.done();
    let asked = short.replace("--out new", "--set text_length=24 --out other");
    g2d(&folder, &asked).refused(&["text_length is 24", "max_positions, 16"]);
}

#[test]
fn an_object_store_is_not_written_to_and_read_only_by_a_command_built_for_it() {
    let folder = empty("store");
    fs::write(folder.join("pairs.csv"), "id,image,text\na,a.png,x\n").unwrap();
    let line = "pack --pairs pairs.csv --out s3://films/shards";
    g2d(&folder, line)
        .refused(&["s3://films/shards: an object store is not written to", "copy it there, dataset.json last"]);
    #[cfg(not(feature = "s3"))]
    for line in ["pretrain --data s3://films/shards --out run", "inspect s3://films/shards"] {
        g2d(&folder, line).refused(&["s3://films/shards: this g2d was built without object stores", "--features s3"]);
    }
    assert_eq!(listing(&folder).len(), 1);
}
