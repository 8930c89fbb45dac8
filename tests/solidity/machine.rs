//! `g2d devices` and `g2d doctor`: what they say holds.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::command::{command, empty, g2d, with_peak_memory};
use crate::places::made;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn devices_says_what_is_built_in_and_what_is_the_default() {
    let folder = empty("devices");
    let text = g2d(&folder, "devices").done();
    for words in ["processor", "default", "cuda-emulated", "wgpu"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let found = json(&g2d(&folder, "devices --json").done());
    let defaults: Vec<&Value> =
        found["backends"].as_array().unwrap().iter().filter(|backend| backend["default"] == true).collect();
    // The processor, unless there is a GPU: the one that a run takes without being told.
    let name = match g2d::train::Device::best().0 {
        g2d::train::Device::Cuda(_) => "cuda".to_owned(),
        best => best.to_string(),
    };
    assert_eq!(
        (defaults.len(), &defaults[0]["name"], &defaults[0]["built_in"]),
        (1, &name.as_str().into(), &true.into())
    );
    let cuda = found["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == "cuda").unwrap();
    assert_eq!(cuda["built_in"], cfg!(feature = "cuda"));
    assert!(found["processor"]["threads"].as_u64().unwrap() >= 1);
}

#[test]
fn a_sound_machine_gets_a_good_verdict() {
    let text = g2d(made(), "doctor --data shards --preset micro --batch 4").done();
    for words in
        ["memory", "disk", "data", "every digest agrees", "self-check", "the same bits", "verdict: this run will work"]
    {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let found = json(&g2d(made(), "doctor --preset micro --batch 4 --json").done());
    assert_eq!(found["ok"], true);
}

#[test]
fn what_will_not_work_gets_a_verdict_and_a_fix() {
    let found = g2d(made(), "doctor --preset full --batch 65536");
    assert!(found.out.contains("BAD  memory") && found.out.contains("ok   self-check"), "{found:?}");
    found.refused(&["will not work", "memory: give --batch"]);
    g2d(made(), "doctor --data shards --preset tiny").refused(&["data: the preset takes 128 pixels", "--size 128"]);
    g2d(made(), "doctor --data none --preset micro").refused(&["data: give --data the folder"]);
    g2d(made(), "doctor --preset micro --device cuda:99").refused(&["device: give another --device"]);
    g2d(made(), "doctor --preset micro --batch 1").refused(&["batch is 1"]);
    // One bit of a film, which opening the shards does not see.
    let folder = empty("doctor-flipped");
    fs::create_dir(folder.join("shards")).unwrap();
    for entry in fs::read_dir(made().join("shards")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join("shards").join(path.file_name().unwrap())).unwrap();
    }
    let shard = folder.join("shards/shard-00000.g2d");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[5000] ^= 4;
    fs::write(&shard, bytes).unwrap();
    let found = g2d(&folder, "doctor --data shards --preset micro --batch 4");
    assert!(found.out.contains("shard-00000.g2d: the content is not what was packed"), "{found:?}");
    found.refused(&["data: pack the data again"]);
    // A run looks too, whenever it starts.
    let run = "pretrain --data shards --preset micro --batch 4 --steps 1 --out run";
    g2d(&folder, run).refused(&["shard-00000.g2d", "the content is not what was packed"]);
    assert!(!folder.join("run").exists());
    let resumed = "pretrain --resume --data shards --steps 3 --out ../made/run";
    g2d(&folder, resumed).refused(&["shard-00000.g2d", "the content is not what was packed"]);
    bytes_restored(&shard);
    g2d(&folder, run).done();
}

/// Puts the bit back that was flipped.
fn bytes_restored(shard: &Path) {
    let mut bytes = fs::read(shard).unwrap();
    bytes[5000] ^= 4;
    fs::write(shard, bytes).unwrap();
}

#[test]
fn without_flags_the_default_run_is_judged() {
    let folder = empty("doctor-default");
    let found = json(&g2d(&folder, "doctor --json").done());
    let disk = found["checks"].as_array().unwrap().iter().find(|check| check["name"] == "disk").unwrap();
    assert!(disk["found"].as_str().unwrap().contains("phantoms that are still to be drawn 0."), "{disk}");
    // The same step as a run's, by its settings.
    let plan = json(&g2d(&folder, "plan --preset tiny --batch 32 --json").done());
    assert!(found["footprint"]["memory"].as_u64().unwrap() > plan["slabs"]["Arena"].as_u64().unwrap());
    let small =
        |flags: &str| json(&g2d(&folder, &format!("doctor {flags} --json")).done())["footprint"]["memory"].clone();
    assert!(small("--precision mixed").as_u64() < found["footprint"]["memory"].as_u64(), "mixed takes less");
    assert_ne!(small("--recipe official"), found["footprint"]["memory"], "recipes take different memory");
    g2d(&folder, "doctor --precision f64").refused(&["precision f64 is for `g2d step`"]);
    let data = json(&g2d(made(), "doctor --data shards --preset micro --batch 4 --json").done());
    let disk = data["checks"].as_array().unwrap().iter().find(|check| check["name"] == "disk").unwrap();
    assert!(!disk["found"].as_str().unwrap().contains("phantoms"), "{disk}");
}

#[test]
fn too_large_a_run_is_refused_before_it_takes_the_memory() {
    let wide = "--set text_hidden=65536 --set text_heads=1 --set text_intermediate=65536";
    let line = format!("pretrain --data shards --preset micro --batch 4 --steps 1 --out wide {wide}");
    let (ended, most) = with_peak_memory(command(made(), &line.split_whitespace().collect::<Vec<_>>()));
    ended.refused(&["training needs about", "are available", "smaller"]);
    assert!(most < 500_000_000, "{} MB", most / 1_000_000);
    assert!(!made().join("wide").exists());
}

#[test]
fn a_case_that_is_too_large_is_refused_before_it_takes_the_memory() {
    let folder = empty("large-case");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/default");
    for file in ["weights.safetensors", "batch-0.safetensors", "config.json"] {
        fs::copy(fixture.join(file), folder.join(file)).unwrap();
    }
    let mut config = json(&fs::read_to_string(folder.join("config.json")).unwrap());
    for (key, value) in [("text_hidden", 65536), ("text_heads", 1), ("text_intermediate", 65536)] {
        config[key] = value.into();
    }
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let line = ["step", "--case", ".", "--out", "result.safetensors"];
    let (ended, most) = with_peak_memory(command(&folder, &line));
    ended.refused(&["training needs about", "are available"]);
    assert!(most < 500_000_000, "{} MB", most / 1_000_000);
}

#[test]
fn the_predicted_memory_is_what_a_run_takes() {
    let folder = empty("prediction");
    made();
    g2d(&folder, "pack --pairs ../made/drawn/pairs.csv --size 128 --out shards").done();
    let work = "--data shards --preset tiny --batch 16";
    let predicted = json(&g2d(&folder, &format!("doctor {work} --json")).done())["footprint"].clone();
    let run = format!("pretrain {work} --steps 1 --out run");
    let (ended, most) = with_peak_memory(command(&folder, &run.split_whitespace().collect::<Vec<_>>()));
    ended.done();
    let ratio = most as f64 / predicted["memory"].as_f64().unwrap();
    // A small run does not use all that is set aside for what is not planned.
    assert!((0.5..=1.1).contains(&ratio), "{most} bytes were held, {ratio:.2} of what was predicted");
    let files = fs::read_dir(folder.join("run/checkpoints/step-00000001")).unwrap();
    let written: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let ratio = written as f64 / predicted["checkpoint"].as_f64().unwrap();
    assert!((0.9..=1.05).contains(&ratio), "{written} bytes were written, {ratio:.2} of what was predicted");
}
