//! The command: what it prints, and that bad input gives one sentence, exit code 2 and nothing half-written.
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const VERBS: [&str; 17] = [
    "pretrain", "pack", "phantom", "plan", "step", "bench", "emulate", "kernels", "devices", "doctor", "eval",
    "explain", "sweep", "study", "report", "serve", "watch",
];
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    errors: String,
}

fn command(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_g2d"));
    command.args(line.split_whitespace()).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs `g2d LINE` in a folder; arguments hold no blanks.
fn g2d(folder: &Path, line: &str) -> Ended {
    let output = command(folder, line).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
}

fn done(folder: &Path, line: &str) -> String {
    let ended = g2d(folder, line);
    assert_eq!(ended.code, Some(0), "g2d {line}: {ended:?}");
    ended.out
}

/// Everything in a folder, by path.
fn listing(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

/// The command is refused with one sentence that holds all of `words`, and leaves the folder as it was.
#[track_caller]
fn refused(folder: &Path, line: &str, words: &[&str]) {
    let before = listing(folder);
    let ended = g2d(folder, line);
    assert_eq!(ended.code, Some(2), "g2d {line}: {ended:?}");
    // What `auto` took may stand before it.
    let chosen = ended.errors.lines().take_while(|line| line.starts_with("runs on ")).count();
    let error: Vec<&str> = ended.errors.trim_end().lines().skip(chosen).collect();
    assert!(chosen <= 1 && error.len() == 1 && error[0].starts_with("error: "), "{line}: {ended:?}");
    assert_eq!(ended.out, "", "g2d {line} prints before it fails");
    for word in words {
        assert!(ended.errors.contains(word), "g2d {line} does not say {word:?}: {}", ended.errors);
    }
    assert!(!ended.errors.contains("panicked"), "{}", ended.errors);
    let after = listing(folder);
    assert_eq!(before, after, "g2d {line} leaves something behind");
}

/// An empty folder of one test's own.
fn empty(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Phantoms in `drawn`, their shards in `shards`, and `run`, a run of three steps.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = empty("made");
        assert!(done(&folder, "phantom --count 24 --seed 3 --out drawn").contains("g2d pack"));
        let packed = done(&folder, "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 64 --out shards");
        assert!(packed.contains("24 rows read") && packed.contains("g2d pretrain --data shards"), "{packed}");
        let trained = done(&folder, "pretrain --data shards --preset micro --batch 4 --steps 3 --out run");
        assert!(trained.contains("3 steps of preset micro with recipe default"), "{trained}");
        assert!(trained.contains("weights.safetensors"), "{trained}");
        let manifest = fs::read_to_string(folder.join("run/manifest.json")).unwrap();
        assert!(manifest.contains(r#""preset": "micro""#) && manifest.contains(r#""recipe": "default""#), "{manifest}");
        folder
    })
}

const PRETRAIN: &str = "pretrain --data shards --preset micro --batch 4 --steps 2 --out other";

#[test]
fn every_verb_has_an_example() {
    let folder = empty("help");
    let all = done(&folder, "--help");
    for verb in VERBS {
        assert!(all.contains(verb), "{verb} is not in the help");
        let help = done(&folder, &format!("{verb} --help"));
        let example = help.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("g2d {verb} ")), "{verb} --help has no example");
    }
    assert!(done(&folder, "--version").starts_with("g2d "));
}

#[test]
fn the_plan_is_the_golden_one() {
    let golden = fs::read_to_string(Path::new(ROOT).join("tests/golden/plan-tiny.txt")).unwrap();
    assert_eq!(done(&empty("plan"), "plan --preset tiny"), golden);
    let json: serde_json::Value = serde_json::from_str(&done(&empty("plan"), "plan --preset tiny --json")).unwrap();
    assert!(json["live_bound"].as_u64().unwrap() <= json["slabs"]["Arena"].as_u64().unwrap());
}

#[test]
fn unknown_words_end_with_the_known_ones() {
    let folder = empty("words");
    for (line, words) in [
        ("plan --preset tny", &["'tny'", "--preset", "micro, tiny, small, full"][..]),
        ("pretrain --recipe offical", &["'offical'", "default, paper, official"]),
        ("plan --device gpu", &["'gpu'", "cpu"]),
        ("pretrain --stps 3", &["'--stps'", "--steps"]),
        ("pretain", &["'pretain'", "pretrain"]),
        ("pretrain --steps 0", &["'0'", "--steps"]),
        ("pretrain --steps", &["--steps", "value"]),
        ("pretrain --steps 3 --epochs 2", &["--steps", "--epochs"]),
        ("pretrain now", &["'now'"]),
        ("pretrain --resident maybe", &["'maybe'", "auto, on and off"]),
        ("pack", &["--pairs", "--out"]),
        ("phantom --count three --out films", &["'three'", "--count"]),
    ] {
        refused(&folder, line, words);
        refused(&folder, line, &["; see --help"]);
    }
}

/// Without a verb the help is shown, not a sentence.
#[test]
fn no_verb_is_answered_with_the_help() {
    let ended = g2d(&empty("no-verb"), "");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("Usage:") && ended.errors.contains("pretrain"), "{ended:?}");
}

#[test]
fn bad_settings_are_refused() {
    let folder = made();
    for (setting, words) in [
        ("learning_rat=1", &["learning_rat", "learning_rate"][..]),
        ("schedule.step=3", &["`schedule.step`", "schedule.steps", "schedule.warmup", "learning_rate"]),
        ("schedule.steps=0", &["schedule.steps is 0", "at least 1"]),
        ("schedule.steps=soon", &["schedule.steps", "soon"]),
        ("image_size=100", &["image_size is 100", "multiple of 32"]),
        ("image_size=0", &["image_size is 0"]),
        ("image_size=-32", &["image_size", "-32"]),
        ("quantile=1.5", &["quantile is 1.5", "below 1"]),
        ("quantile=nan", &["quantile", "nan"]),
        ("attention_heads=0", &["attention_heads is 0"]),
        ("text_heads=0", &["text_heads is 0"]),
        ("vocab_size=3", &["vocab_size is 3", "tokenizer"]),
        ("text_heads=5", &["text_heads is 5", "text_hidden"]),
        ("resnet_layers=1,1", &["resnet_layers", "4"]),
        ("mask_body=maybe", &["mask_body", "maybe", "threshold"]),
        ("temperature=0", &["temperature is 0"]),
        ("lr=fast", &["lr cannot be fast", "a number"]),
        ("batch=1", &["batch is 1", "2"]),
        ("batch=0", &["batch is 0"]),
        ("batch=1000", &["1000"]),
        ("text_length=1000", &["text_length is 1000", "max_positions"]),
        ("image_size=128", &["64", "128", "pack"]),
        ("lr", &["KEY=VALUE"]),
    ] {
        let line = PRETRAIN.replace("--batch 4 ", "--set batch=4 ");
        refused(folder, &format!("{line} --set {setting}"), words);
    }
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A 0 that is said is a 0, and the horizon stays what it was at the first start.
#[test]
fn zeros_are_zeros_and_the_horizon_is_fixed() {
    let folder = &copy("horizon", "shards");
    let line = PRETRAIN.replace("--data shards", "--data .").replace("--out other", "--out zeros");
    done(folder, &format!("{line} --set schedule.steps=40"));
    let config = json(&folder.join("zeros/config.json"));
    let lengths = |config: &serde_json::Value| {
        let schedule = &config["train"]["schedule"];
        [&schedule["steps"], &schedule["warmup"], &config["model"]["warmup_steps"]].map(|n| n.as_u64().unwrap())
    };
    assert_eq!(lengths(&config), [40, 2, 6], "what is not said follows from the horizon that was");
    assert_eq!(json(&folder.join("zeros/manifest.json"))["schedule.steps"], 40);
    done(folder, "pretrain --resume --out zeros --steps 3");
    assert_eq!(json(&folder.join("zeros/manifest.json"))["schedule.steps"], 40);
    let text = fs::read_to_string(folder.join("zeros/config.json")).unwrap();
    fs::write(folder.join("zeros/config.json"), text.replace("\"steps\": 40", "\"steps\": 50")).unwrap();
    refused(folder, "pretrain --resume --out zeros --steps 4", &["schedule.steps 50", "fixes it at 40"]);
    fs::remove_dir_all(folder.join("zeros")).unwrap();

    let zero = "--set schedule.steps=40 --set schedule.warmup=0 --set warmup_steps=0 --set schedule.floor=0";
    done(folder, &format!("{line} {zero}"));
    let config = json(&folder.join("zeros/config.json"));
    assert_eq!((lengths(&config), &config["train"]["schedule"]["floor"]), ([40, 0, 0], &0.0.into()));
    let metrics = fs::read_to_string(folder.join("zeros/metrics.jsonl")).unwrap();
    let first = metrics.lines().find(|line| line.contains("loss.total")).unwrap();
    let first: serde_json::Value = serde_json::from_str(first).unwrap();
    // What docs and other programs read, and nothing else.
    let keys = "grad_norm loss.contrastive loss.segmentation loss.total lr mask.area mask.iou_previous samples_per_s step \
                top1 top5";
    let mut found: Vec<&str> = first.as_object().unwrap().keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, keys.split_whitespace().collect::<Vec<_>>());
    let number = |key: &str| first[key].as_f64().unwrap();
    assert_eq!(number("lr"), config["model"]["learning_rate"].as_f64().unwrap(), "no rise");
    assert!(number("loss.total") > number("loss.contrastive"), "the segmentation loss counts from the first step on");
    fs::remove_dir_all(folder.join("zeros")).unwrap();
}

/// `--steps` says where to stop, and nothing else.
#[test]
fn a_run_that_is_stopped_by_steps_and_resumed_is_the_one_that_went_on() {
    // A folder of its own: others look whether theirs stays as it was.
    let folder = &copy("stopped", "shards");
    let line = "pretrain --data . --preset micro --batch 4";
    done(folder, &format!("{line} --steps 4 --out straight"));
    done(folder, &format!("{line} --steps 2 --out halted"));
    done(folder, "pretrain --resume --out halted --steps 4");
    let weights = |run: &str| fs::read(folder.join(run).join("checkpoints/step-00000004/weights.safetensors")).unwrap();
    assert!(weights("straight") == weights("halted"), "the resumed run has other weights");
}

#[test]
fn bad_config_files_are_refused() {
    let folder = made();
    let bad = empty("configs");
    for (name, text, words) in [
        ("unknown.toml", "learning_rat = 1e-4\n", &["learning_rat", "learning_rate"][..]),
        ("value.toml", "quantile = 1.5\n", &["quantile is 1.5"]),
        ("syntax.toml", "seed = 1\nquantile = = 2\n", &["syntax.toml", "line 2"]),
        ("foreign.toml", "\u{89}PNG\u{1}\n", &["foreign.toml", "line 1"]),
        ("schedule.toml", "[schedule]\nwarm = 3\n", &["`schedule.warm`", "`schedule.warmup`", "schedule.toml"]),
        ("groups.toml", "[[groups]]\nname = \"a\"\npattern = \"nothing*\"\n", &["matches no group's pattern"]),
        ("group.toml", "[[groups]]\nnme = \"a\"\n", &["group.toml", "nme"]),
    ] {
        let path = bad.join(name);
        fs::write(&path, text).unwrap();
        refused(folder, &format!("{PRETRAIN} --config {}", path.display()), words);
    }
    refused(folder, &format!("{PRETRAIN} --config none.toml"), &["none.toml"]);
    fs::write(bad.join("bytes.toml"), [0xFF, 0xFE, 0x00]).unwrap();
    refused(folder, &format!("{PRETRAIN} --config {}", bad.join("bytes.toml").display()), &["bytes.toml"]);
}

/// A table of three films; `change` may spoil it, or the films.
fn table(name: &str, change: impl FnOnce(&Path, String) -> String) -> PathBuf {
    let folder = empty(name);
    let drawn = made().join("drawn/images");
    let mut films: Vec<PathBuf> = fs::read_dir(drawn).unwrap().map(|entry| entry.unwrap().path()).collect();
    films.sort();
    let mut text = String::from("id,image,text,patient_id,split\n");
    for (at, film) in films[..3].iter().enumerate() {
        fs::copy(film, folder.join(format!("{at}.png"))).unwrap();
        text += &format!("film-{at},{at}.png,No effusion.,p{},train\n", at / 2);
    }
    let text = change(&folder, text);
    fs::write(folder.join("pairs.csv"), text).unwrap();
    folder
}

#[test]
fn bad_tables_are_refused() {
    let pack = "pack --pairs pairs.csv --size 64 --out out";
    let same = |_: &Path, text: String| text;
    let folder = table("table", same);
    refused(&folder, "pack --pairs none.csv --out out", &["none.csv", "check"]);
    refused(&folder, &format!("{pack} --boxes none.csv"), &["none.csv"]);
    refused(&folder, &format!("{pack} --tokenizer none.txt"), &["none.txt"]);
    refused(&folder, &format!("{pack} --tokenizer 0.png"), &["0.png"]);
    refused(&folder, "pack --pairs pairs.csv --size 0 --out out", &["0"]);
    refused(&folder, "pack --pairs 0.png --out out", &["0.png", "line 1"]);
    refused(&folder, "pack --pairs pairs.csv --size 64 --out .", &["not empty"]);
    fs::write(folder.join("boxes.csv"), "id,label,x,y,w,h\nfilm-0,nodule,1,2,three,4\n").unwrap();
    refused(&folder, &format!("{pack} --boxes boxes.csv"), &["boxes.csv", "line 2", "three"]);
    done(&folder, pack);

    let replaced = |name: &str, from: &'static str, to: &'static str| {
        table(name, move |_, text| {
            assert!(text.contains(from));
            text.replacen(from, to, 1)
        })
    };
    let folder = replaced("ids", "film-2,", "film-0,");
    refused(&folder, pack, &["pairs.csv", "line 4", "film-0", "line 2", "unique"]);
    let folder =
        replaced("patient", "p0,train\nfilm-1,1.png,No effusion.,p0,train", "p0,train\nfilm-1,1.png,None.,p0,test");
    refused(&folder, pack, &["pairs.csv", "p0", "line 2", "line 3", "same split"]);
    refused(&replaced("columns", "text,", "report,"), pack, &["pairs.csv", "line 1", "text"]);
    let strict = format!("{pack} --strict");
    refused(&replaced("split", "p1,train", "p1,trian"), &strict, &["pairs.csv", "line 4", "trian"]);
    refused(&replaced("values", "p1,train", "p1,train,extra"), &strict, &["pairs.csv", "line 4"]);
    refused(&table("no-lines", |_, _| "id,image,text\n".into()), pack, &["pairs.csv"]);
    refused(&table("no-text", |_, _| String::new()), pack, &["pairs.csv"]);
}

#[test]
fn bad_films_are_dropped_and_counted_or_refused() {
    let pack = "pack --pairs pairs.csv --size 64 --out out";
    fn truncate(film: &Path) {
        let whole = fs::read(film).unwrap();
        fs::write(film, &whole[..whole.len() / 2]).unwrap();
    }
    let spoil = |name: &str, films: usize, how: fn(&Path)| {
        table(name, |folder, text| {
            (0..films).for_each(|at| how(&folder.join(format!("{at}.png"))));
            text
        })
    };
    type Fault = (&'static str, fn(&Path), &'static str);
    let bad: [Fault; 3] = [
        ("film-missing", |film| fs::remove_file(film).unwrap(), "missing"),
        ("film-truncated", truncate, "truncated"),
        ("film-foreign", |film| fs::write(film, "GIF89a, as it were").unwrap(), "neither PNG, JPEG nor DICOM"),
    ];
    for (name, how, reason) in bad {
        let text = done(&spoil(name, 1, how), pack);
        for words in ["3 rows read", "1 dropped", reason, "film-0", "0.png", "2 kept"] {
            assert!(text.contains(words), "{name}: {words} is not in {text}");
        }
        refused(&spoil(name, 3, how), pack, &["pairs.csv", "3 of 3", reason, "film-0", "0.png"]);
    }
}

/// A copy of one of the made folders, for a test to spoil.
fn copy(name: &str, of: &str) -> PathBuf {
    let (to, from) = (empty(name), made().join(of));
    for path in listing(&from) {
        let copy = to.join(path.strip_prefix(&from).unwrap());
        if path.is_dir() {
            fs::create_dir_all(copy).unwrap();
        } else {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(path, copy).unwrap();
        }
    }
    to
}

#[test]
fn bad_shards_are_refused() {
    let folder = made();
    let with = |data: &Path| PRETRAIN.replace("--data shards", &format!("--data {}", data.display()));
    refused(folder, &with(Path::new("none")), &["none"]);
    refused(folder, &with(&empty("shards-empty")), &["dataset.json"]);
    for file in ["dataset.json", "shard-00000.g2d", "tokenizer.json"] {
        let shards = copy("shards-spoilt", "shards");
        let path = shards.join(file);
        let whole = fs::read(&path).unwrap();
        if file != "tokenizer.json" {
            fs::write(&path, &whole[..whole.len() / 2]).unwrap();
            refused(folder, &with(&shards), &[file]);
            fs::write(&path, "foreign").unwrap();
            refused(folder, &with(&shards), &[file]);
        }
        fs::remove_file(&path).unwrap();
        refused(folder, &with(&shards), &[file]);
    }
}

#[test]
fn bad_weights_and_checkpoints_are_refused() {
    let folder = made();
    let checkpoint = folder.join("run/checkpoints/step-00000003");
    let weights = checkpoint.join("weights.safetensors");
    let bad = empty("weights");
    let whole = fs::read(&weights).unwrap();
    fs::write(bad.join("truncated.safetensors"), &whole[..whole.len() / 2]).unwrap();
    fs::write(bad.join("foreign.safetensors"), "PK, as it were, and more than eight bytes").unwrap();
    fs::write(bad.join("empty.safetensors"), "").unwrap();
    for name in ["truncated", "foreign", "empty", "none"] {
        let path = bad.join(format!("{name}.safetensors"));
        refused(folder, &format!("{PRETRAIN} --weights {}", path.display()), &[name]);
    }
    let wider = format!("{PRETRAIN} --set projection_dim=24 --weights {}", weights.display());
    refused(folder, &wider, &["weights.safetensors", "misshapen", "proj_v.", "24", "same configuration"]);
    let deeper = format!("{PRETRAIN} --set text_layers=3 --weights {}", weights.display());
    refused(folder, &deeper, &["missing", "lm_model.encoder.layer.2."]);

    refused(folder, &format!("{PRETRAIN} --device cpu --resident on"), &["--resident on", "not for cpu"]);
    refused(folder, "pretrain --resume --out nowhere", &["nowhere"]);
    refused(&empty("no-runs"), "pretrain --resume", &["runs"]);
    for kept in ["--preset micro", "--recipe paper", "--set seed=1", "--batch 4", "--weights w.safetensors"] {
        let flag = kept.split(' ').next().unwrap();
        refused(folder, &format!("pretrain --resume --out run {kept}"), &[flag, "keeps its settings"]);
    }
    refused(folder, "pretrain --data shards --preset micro --steps 2 --out run", &["run", "--resume"]);
    for file in ["weights.safetensors", "moments.safetensors", "progress.json"] {
        let run = copy("run-spoilt", "run");
        let path = run.join("checkpoints/step-00000003").join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        refused(folder, &format!("pretrain --resume --steps 5 --out {}", run.display()), &[file]);
    }
    let run = copy("run-spoilt", "run");
    fs::write(run.join("config.json"), "{}").unwrap();
    refused(folder, &format!("pretrain --resume --steps 5 --out {}", run.display()), &["config.json"]);
}

#[test]
fn bad_cases_are_refused() {
    let fixture = Path::new(ROOT).join("tests/fixtures/default");
    let other = Path::new(ROOT).join("tests/fixtures/odd");
    let spoil = |change: &dyn Fn(&Path)| {
        let folder = empty("case");
        fs::create_dir(folder.join("case")).unwrap();
        for file in ["config.json", "weights.safetensors", "batch-0.safetensors"] {
            fs::copy(fixture.join(file), folder.join("case").join(file)).unwrap();
        }
        change(&folder.join("case"));
        folder
    };
    let step = "step --case case --out result.safetensors";
    for file in ["config.json", "weights.safetensors", "batch-0.safetensors"] {
        refused(&spoil(&|case| fs::remove_file(case.join(file)).unwrap()), step, &[file]);
        refused(&spoil(&|case| fs::write(case.join(file), "foreign").unwrap()), step, &[file]);
        let half = |case: &Path| {
            let whole = fs::read(case.join(file)).unwrap();
            fs::write(case.join(file), &whole[..whole.len() / 2]).unwrap();
        };
        refused(&spoil(&half), step, &[file]);
    }
    let from_other = |file: &'static str| {
        let other = other.join(file);
        move |case: &Path| assert!(fs::copy(&other, case.join(file)).unwrap() > 0)
    };
    let words = &["weights.safetensors", "unexpected", "misshapen"];
    refused(&spoil(&from_other("weights.safetensors")), step, words);
    refused(&spoil(&from_other("batch-0.safetensors")), step, &["batch-0.safetensors", "image"]);
    let config = |from: &'static str, to: &'static str| {
        move |case: &Path| {
            let text = fs::read_to_string(case.join("config.json")).unwrap();
            assert!(text.contains(from));
            fs::write(case.join("config.json"), text.replace(from, to)).unwrap();
        }
    };
    refused(&spoil(&config("\"quantile\": 0.85", "\"quantile\": 1.5")), step, &["config.json", "quantile is 1.5"]);
    refused(&spoil(&config("\"quantile\"", "\"quantil\"")), step, &["config.json", "quantil"]);
    refused(&spoil(&config("\"attention_heads\": 4", "\"attention_heads\": 0")), step, &["attention_heads is 0"]);
    refused(&spoil(&|_| {}), "step --case case --out no/where.safetensors", &["where.safetensors"]);
    done(&spoil(&|_| {}), step);
    refused(&empty("plan-batch"), "plan --preset micro --batch 0", &["batch of 0"]);
    refused(&empty("plan-text"), "plan --preset micro --text-len 99", &["99", "max_positions"]);
}

#[cfg(unix)]
#[test]
fn a_terminated_run_saves_and_says_how_to_go_on() {
    use std::time::{Duration, Instant};
    let folder = copy("terminated", "shards");
    let line = "pretrain --data . --preset micro --batch 4 --steps 1000000 --out run";
    let child = command(&folder, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (metrics, started) = (folder.join("run/metrics.jsonl"), Instant::now());
    while fs::read_to_string(&metrics).unwrap_or_default().matches("loss.total").count() < 2 {
        assert!(started.elapsed() < Duration::from_secs(120), "no step is taken");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("stopped after step") && text.contains("g2d pretrain --resume --out run"), "{text}");
    let steps = fs::read_to_string(&metrics).unwrap().matches("loss.total").count();
    assert!(folder.join(format!("run/checkpoints/step-{steps:08}/progress.json")).is_file());
    let more = done(&folder, &format!("pretrain --resume --out run --steps {}", steps + 2));
    assert!(more.contains(&format!("{} steps", steps + 2)), "{more}");
    assert_eq!(fs::read_to_string(&metrics).unwrap().matches("loss.total").count(), steps + 2);
}

#[test]
fn a_kernel_is_emulated_and_its_fault_is_reported() {
    let folder = empty("emulate");
    let kernel = |store: &str| {
        let text = format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry own(.param .u64 to, .param .f32 by)\n{{\n\
             .reg .b32 %r<3>; .reg .b64 %d<4>; .reg .f32 %f<4>;\nld.param.u64 %d1, [to];\nld.param.f32 %f1, [by];\n\
             mov.u32 %r1, %tid.x;\nmul.wide.u32 %d2, %r1, 4;\nadd.u64 %d3, %d1, %d2;\nld.global.f32 %f2, [%d3];\n\
             mul.f32 %f3, %f2, %f1;\n{store}\nret;\n}}\n"
        );
        fs::write(folder.join("own.ptx"), text).unwrap();
    };
    kernel("st.global.f32 [%d3], %f3;");
    let line = "emulate own.ptx --kernel own --block 64 --arg f32[64]=range --arg f32:1.5";
    let out = done(&folder, line);
    assert!(out.contains("no fault") && out.contains("argument 0: 0 1.5 3 4.5 6 7.5 9 10.5 …"), "{out}");
    kernel("st.global.f32 [%d3+4], %f3;");
    let ended = g2d(&folder, line);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for word in ["kernel `own`", "line 12", "argument 0", "race", "seed 0"] {
        assert!(ended.errors.contains(word), "{word}: {}", ended.errors);
    }
    kernel("st.global.f32 [%d3], %f3;\nfrobnicate.f32 %f3;");
    refused(&folder, line, &["line 15", "frobnicate.f32"]);
    kernel("");
    refused(&folder, "emulate own.ptx --kernel other", &["`own`"]);
    refused(&folder, "emulate own.ptx --kernel own --arg f32[64]", &["to: 8 bytes", "by: 4 bytes"]);
    refused(&folder, "emulate own.ptx --kernel own --arg f33:1", &["f33:1"]);
    refused(&folder, "emulate none.ptx --kernel own", &["none.ptx"]);
    let unknown = "emulate own.ptx --kernel own --off bounds,luck --arg f32[64] --arg f32:1";
    refused(&folder, unknown, &["luck", "shared_races", "limits"]);
    refused(&folder, "emulate own.ptx --kernel own --arg u8=@. --arg f32:1", &[". is not a regular file"]);
    #[cfg(unix)]
    for line in ["emulate own.ptx --kernel own --arg u8=@/dev/zero --arg f32:1", "emulate /dev/zero --kernel own"] {
        refused(&folder, line, &["/dev/zero is not a regular file"]);
    }
    kernel("again: st.global.f32 [%d3], %f3;\nadd.f32 %f3, %f3, 0f3f800000;\nbra again;");
    refused(
        &folder,
        "emulate own.ptx --kernel own --block 32 --limit 20000 --arg f32[32]=0 --arg f32:1",
        &["limit of instructions", "has run 20000 warp instructions", "in the loop from PTX line 14 to PTX line 16"],
    );
}

/// The last example of `g2d emulate --help` runs a kernel that ships.
#[test]
fn a_shipped_kernel_is_emulated_as_the_help_says() {
    let help = done(Path::new(ROOT), "emulate --help");
    let example = help.split("g2d ").find(|example| example.starts_with("emulate ptx/")).expect("an example");
    // Arguments here hold no blanks, and no shell takes the quotes.
    let line = example.replace(['\\', '\''], "").replace(", ", ",");
    let out = done(Path::new(ROOT), &line);
    assert!(out.contains("no fault") && out.contains("argument 0.1: 0 0.5 1 1.5 2 2.5 3 3.5 …"), "{out}");
}

#[test]
fn golden_vectors_are_compared_and_recorded() {
    let folder = empty("golden");
    fs::create_dir(folder.join("own")).unwrap();
    let text =
        |sum: &str| format!("origin: a test\n\nadd.u32 d, a, b | d:b32 | a:b32 b:b32\n00000001 00000002 -> {sum}\n");
    let write = |text: &str| fs::write(folder.join("own/sums.txt"), text).unwrap();
    write(&text("00000003"));
    let line = "verify --device cuda-emulated --golden own";
    assert_eq!(done(&folder, line), "sums.txt: 0 cases differ\n");
    write(&text("00000004"));
    let ended = g2d(&folder, &format!("{line} --record here/recorded"));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.out.contains("1 cases differ") && ended.out.contains("line 3: add.u32 d, a, b"), "{ended:?}");
    assert!(ended.errors.contains("cuda-emulated: 1 golden cases differ"), "{ended:?}");
    let recorded = fs::read_to_string(folder.join("here/recorded/sums.txt")).unwrap();
    assert!(recorded.starts_with("origin: emulated device") && recorded.ends_with("00000001 00000002 -> 00000003\n"));
    let json = g2d(&folder, &format!("{line} --json"));
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&json["passed"], &json["golden"][0]["file"]), (&false.into(), &"sums.txt".into()));
    refused(&folder, "verify --device cpu --golden own", &["cuda-emulated"]);
    refused(&folder, "verify --device cuda-emulated --golden none", &["none"]);
    refused(&folder, "verify --device cuda-emulated --golden here", &["here holds no golden vectors"]);
    refused(&folder, "verify --device cuda-emulated --record own", &["--golden"]);
    for (text, words) in [
        ("add.u32", ["own/sums.txt", "origin"]),
        ("origin: x\n\nadd.u32 d, a, b | d:b32 | a:b32 b:b32\n1 -> 3\n", ["line 4", "not a case"]),
        ("origin: x\n\nfrob.u32 d, a | d:b32 | a:b32\n1 -> 3\n", ["line 3", "frob.u32"]),
        ("origin: x\n\nadd.u32 d, a, b | d: | a:b32 b:b32\n1 2 -> 3\n", ["line 3", "own/sums.txt"]),
        ("origin: x\n\nmov.b32 d, 1 | d:b32 | \n -> 1\n", ["line 3", "own/sums.txt"]),
    ] {
        write(text);
        refused(&folder, line, &words);
    }
}

#[test]
fn kernels_are_checked_as_far_as_can_be_and_it_says_how_far() {
    let folder = empty("kernels-check");
    let elsewhere = done(&folder, "kernels --check");
    assert!(elsewhere.contains("not compared with a checkout: there is no ptx/MANIFEST"), "{elsewhere}");
    let here = done(Path::new(ROOT), "kernels --check");
    assert!(here.contains("texts of ptx/ in this folder: the same, and listed"), "{here}");
    fs::create_dir_all(folder.join("ptx")).unwrap();
    fs::write(folder.join("ptx/MANIFEST"), "").unwrap();
    refused(&folder, "kernels --check", &["ptx"]);
}

#[test]
fn a_planned_step_is_sampled_on_the_emulated_device_alone() {
    let folder = empty("verify-plan");
    refused(&folder, "verify --device cpu --plan micro --batch 2 --sample", &["--sample runs on cuda-emulated"]);
    refused(&folder, "verify --device cuda-emulated --plan micro --batch 0 --sample", &["batch of 0"]);
}
