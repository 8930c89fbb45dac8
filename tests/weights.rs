//! Weights in and out through the command: what is read from others is what is written for others, number for number, and
//! what cannot be used is refused in one sentence with nothing written.
#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use common::command::{Ended, empty, g2d, listing};
use common::ledger;
use common::torch_files::{Tensor, dict, file, legacy, legacy_state_dict, part_of_old, state_dict, view};
use g2d::checkpoint::TensorFile;
use g2d::checkpoint::import::{Import, Tower};
use g2d::data::Dataset;
use g2d::data::tokenizer::Tokenizer;
use g2d::downstream::Subject;
use g2d::model::batch::{Reports, Shapes, Source, TextBatch, Texts};
use g2d::model::config::Config;
use g2d::model::{bert, g2d as model};
use g2d::program::Recorder;
use g2d::train::session::Films;
use g2d::train::{Engine, Resources, imported};
use serde_json::{Value, json};

const PIECES: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nheart\n##s\nno\nleft\nright\n.\n";

/// Flags that make what is drawn beside an image tower small.
const SMALL: &str = "--set image_size=64 --set vocab_size=9 --set text_hidden=8 --set text_layers=1 --set frozen_text_layers=0 \
                     --set text_heads=2 --set text_intermediate=8";

/// A micro model with weights drawn by `seed`, as `g2d import` writes it: `weights.safetensors`, `config.json`.
fn drawn(folder: &Path, seed: u64) -> Config {
    let config = Config { vocab_size: PIECES.lines().count(), text_heads: 2, ..Config::preset("micro").unwrap() };
    fs::create_dir_all(folder).unwrap();
    let weights = folder.join("weights.safetensors");
    imported::write(&weights, &config, &[], seed, &|_, _| {}, &AtomicBool::new(false)).unwrap();
    fs::write(folder.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    fs::write(folder.join("vocab.txt"), PIECES).unwrap();
    let tokenizer = Tokenizer::load(&folder.join("vocab.txt"), true).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer.json()).unwrap();
    config
}

/// Nothing half-written is left.
fn clean(folder: &Path) {
    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let found: Vec<_> = listing(folder).into_iter().filter(hidden).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// Real tensors of a file below a prefix, without it.
fn below(path: &Path, prefix: &str) -> Vec<Tensor> {
    let file = TensorFile::open(path).unwrap();
    let real = |(name, tensor): (&String, &g2d::checkpoint::tensors::Tensor)| {
        Some((name.strip_prefix(prefix)?.to_owned(), tensor.shape.clone(), file.reals(tensor)?))
    };
    file.tensors().iter().filter_map(real).collect()
}

/// A folder as transformers wrote them some years ago, of the text tower of a drawn model.
fn bert_folder(folder: &Path, weights: &Path, config: &Config) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let old = |(name, shape, numbers): Tensor| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        (format!("bert.{name}"), shape, numbers)
    };
    let mut tensors: Vec<Tensor> = below(weights, "lm_model.").into_iter().map(old).collect();
    tensors.push(("bert.pooler.dense.bias".into(), vec![1], vec![1.0]));
    fs::write(folder.join("pytorch_model.bin"), state_dict(&tensors, "")).unwrap();
    let about = json!({"model_type": "bert", "num_attention_heads": config.text_heads, "hidden_act": "gelu"});
    fs::write(folder.join("config.json"), about.to_string()).unwrap();
    fs::write(folder.join("vocab.txt"), PIECES).unwrap();
    folder.into()
}

fn json_of(ended: Ended) -> Value {
    serde_json::from_str(&ended.done()).unwrap()
}

/// Digests of a file's tensors by name, as `g2d inspect` tells them.
fn digests(folder: &Path, file: &str) -> BTreeMap<String, String> {
    let found = json_of(g2d(folder, &format!("inspect {file} --json")));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    found["tensors"].as_array().unwrap().iter().map(|tensor| (text(&tensor["name"]), text(&tensor["blake3"]))).collect()
}

#[test]
fn what_is_imported_is_what_was_there_and_every_name_is_accounted_for() {
    let folder = empty("imported");
    let config = drawn(&folder.join("one"), 1);
    let weights = folder.join("one/weights.safetensors");
    let mut resnet = below(&weights, "img_model.encoder.");
    resnet.push(("fc.weight".into(), vec![2, 1], vec![0.5, 0.5]));
    fs::write(folder.join("resnet.pth"), state_dict(&resnet, "state_dict")).unwrap();
    bert_folder(&folder.join("bert"), &weights, &config);
    let report = json_of(g2d(
        &folder,
        "import --init image=resnet.pth,text=bert --out two --seed 2 --json --set image_size=64 --set projection_dim=16 \
         --set projection_hidden=16 --set decoder_channels=16,8,8,4,4",
    ));
    let [image, text] = [&report["towers"][0], &report["towers"][1]];
    assert_eq!(image["unexpected"], json!(["fc.weight"]));
    assert_eq!(text["unexpected"], json!(["bert.pooler.dense.bias"]));
    assert_eq!((&image["prefix"], &text["prefix"]), (&json!(""), &json!("bert.")));
    let missing: Vec<&str> = image["missing"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(
        missing.contains(&"attnpool.c_proj.weight") && missing.contains(&"img_model.encoder.bn1.num_batches_tracked")
    );
    assert_eq!(image["loaded"].as_array().unwrap().len(), resnet.len() - 1);
    let [one, two] = ["one", "two"].map(|name| digests(&folder, &format!("{name}/weights.safetensors")));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, digest) in &one {
        let taken = name.starts_with("img_model.encoder.") || name.starts_with("lm_model.");
        assert!(!taken || *digest == two[name], "{name} changed on its way");
    }
    assert_ne!(one["proj_v.0.weight"], two["proj_v.0.weight"], "what was not imported is drawn by the seed");
    let stored: Value = serde_json::from_str(&fs::read_to_string(folder.join("two/report.json")).unwrap()).unwrap();
    assert_eq!(stored, report["towers"]);
    let printed = g2d(
        &folder,
        "import --init image=resnet.pth,text=bert --out three --set image_size=64 --set projection_dim=16 \
         --set projection_hidden=16 --set decoder_channels=16,8,8,4,4",
    )
    .done();
    assert!(printed.contains("  loaded      ") && printed.contains("every name stands in report.json"), "{printed}");
    let more = resnet.len() - 1 - 3;
    assert!(printed.contains(&format!("and {more} more\n")) && printed.lines().count() < 30, "{printed}");
}

#[test]
fn exports_hold_the_same_numbers_under_the_names_of_others() {
    let folder = empty("exported");
    drawn(&folder.join("one"), 1);
    let all = digests(&folder, "one/weights.safetensors");
    for (format, out, prefix, more) in [
        ("smp", "unet.safetensors", "img_model.", 0),
        ("torchvision --fc 3", "resnet.safetensors", "img_model.encoder.", 2),
        ("hf", "bert", "lm_model.", 0),
    ] {
        g2d(&folder, &format!("export one --format {format} --out {out}")).done();
        let found = digests(&folder, out);
        let wanted: BTreeMap<String, String> = all
            .iter()
            .filter_map(|(name, digest)| Some((name.strip_prefix(prefix)?.to_owned(), digest.clone())))
            .collect();
        assert_eq!(found.len(), wanted.len() + more, "{format}");
        assert!(wanted.iter().all(|(name, digest)| found[name] == *digest), "{format}");
    }
    assert_eq!(fs::read_to_string(folder.join("bert/vocab.txt")).unwrap(), PIECES);
    g2d(&folder, "export one --format onnx --out g2d.onnx").done();
    let graph = digests(&folder, "g2d.onnx");
    assert_eq!(graph["encoder.conv1.weight"], all["img_model.encoder.conv1.weight"]);
    let report = json_of(g2d(&folder, &format!("import --init image=g2d.onnx --out graph --json {SMALL}")));
    assert_eq!((&report["towers"][0]["format"], &report["towers"][0]["prefix"]), (&json!("onnx"), &json!("encoder.")));
    let again = digests(&folder, "graph/weights.safetensors");
    for name in
        all.keys().filter(|name| name.starts_with("img_model.encoder.") && !name.ends_with("num_batches_tracked"))
    {
        assert_eq!(all[name], again[name], "{name} through ONNX");
    }
    // What was exported is imported again.
    let report = json_of(g2d(&folder, "import --init image=unet.safetensors,text=bert --out again --json"));
    assert_eq!(report["config"]["decoder_channels"], json!([16, 8, 8, 4, 4]));
    let again = digests(&folder, "again/weights.safetensors");
    for (name, digest) in all.iter().filter(|(name, _)| name.starts_with("img_model.") || name.starts_with("lm_model."))
    {
        assert_eq!(*digest, again[name], "{name}");
    }
    clean(&folder);
}

#[test]
fn a_gray_stem_and_other_strides_are_read() {
    let folder = empty("shapes");
    drawn(&folder.join("one"), 1);
    let mut resnet = below(&folder.join("one/weights.safetensors"), "img_model.encoder.");
    let stem = resnet.iter_mut().find(|(name, ..)| name == "conv1.weight").unwrap();
    let gray: Vec<f32> = (0..4 * 49).map(|at| at as f32).collect();
    *stem = ("conv1.weight".into(), vec![4, 1, 7, 7], gray.clone());
    fs::write(folder.join("gray.pth"), state_dict(&resnet, "")).unwrap();
    let report = json_of(g2d(&folder, &format!("import --init image=gray.pth --out two --json {SMALL}")));
    assert_eq!(report["towers"][0]["reshaped"][0]["from"], json!([4, 1, 7, 7]));
    let read = below(&folder.join("two/weights.safetensors"), "img_model.encoder.conv1.");
    let (_, shape, numbers) = &read[0];
    assert_eq!(shape, &[4, 3, 7, 7]);
    assert_eq!(numbers[49..98], gray[..49].iter().map(|weight| weight / 3.0).collect::<Vec<_>>());
    // Transposed, and from the middle of a storage.
    let turned = dict(&[("a".into(), view("FloatStorage", "0", 7, 1, &[3, 2], &[1, 3]))]);
    fs::write(folder.join("turned.pth"), file(&turned, &[vec![9.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])).unwrap();
    assert_eq!(below(&folder.join("turned.pth"), "")[0].2, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn files_of_older_versions_of_pytorch_are_read() {
    let folder = empty("old");
    drawn(&folder.join("one"), 1);
    let resnet = below(&folder.join("one/weights.safetensors"), "img_model.encoder.");
    let path = folder.join("old.pth");
    fs::write(&path, legacy_state_dict(&resnet)).unwrap();
    assert_eq!(below(&path, ""), resnet);
    // Before 0.4: a parameter of a part of a storage, transposed, beside all of another.
    let parts =
        [("a", part_of_old("1", 7, 2, 4, &[2, 2], &[1, 2])), ("b", view("FloatStorage", "0", 1, 0, &[1], &[1]))];
    let object = dict(&parts.map(|(name, object)| (name.to_owned(), object)));
    let whole = legacy(&object, &[vec![8.0], vec![9.0, 9.0, 1.0, 2.0, 3.0, 4.0, 9.0]]);
    fs::write(&path, &whole).unwrap();
    assert_eq!(
        below(&path, ""),
        [("a".into(), vec![2, 2], vec![1.0, 3.0, 2.0, 4.0]), ("b".into(), vec![1], vec![8.0])]
    );
    for (part, length, shape) in [(4, 4, [2, 2]), (2, 3, [2, 2]), (7, 1, [1, 1])] {
        let object = dict(&[("a".to_owned(), part_of_old("0", 7, part, length, &shape, &[1, 2]))]);
        fs::write(&path, legacy(&object, &[vec![0.0; 7]])).unwrap();
        assert!(TensorFile::open(&path).is_err(), "{length} from {part} on");
    }
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(TensorFile::open(&path).is_err(), "{length} bytes were taken");
    }
    let big = legacy(&object, &[vec![8.0], vec![9.0; 7]]);
    let at = big.windows(13).position(|word| word == b"little_endian").unwrap() + 13;
    fs::write(&path, [&big[..at], b"\x89", &big[at + 1..]].concat()).unwrap();
    assert!(TensorFile::open(&path).err().unwrap().to_string().contains("not little-endian"));
}

#[test]
fn files_of_older_versions_that_cannot_be_used_are_refused_in_one_sentence() {
    let folder = empty("old-refused");
    let whole = legacy_state_dict(&[("a".into(), vec![2], vec![1.0, 2.0])]);
    for (name, bytes, words) in [
        ("cut.pth", whole[..whole.len() - 1].to_vec(), &["ends within the numbers of storage 0", "fetch it again"][..]),
        ("head.pth", whole[..20].to_vec(), &["cut short"]),
        ("system.pth", legacy(b"cposix\nsystem\nX\x02\x00\x00\x00ls\x85R", &[]), &["posix.system", "not executed"]),
        ("bare.pth", b"\x80\x02}.".to_vec(), &["bare pickle"]),
        ("tar.pth", [&b"sys_info"[..], &[0; 249], b"ustar"].concat(), &["tar archive", "torch.save(torch.load("]),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
        g2d(&folder, &format!("inspect {name}")).refused(words);
    }
}

/// Flags that make what is drawn beside a text tower of a drawn model small.
const SMALL_IMAGE: &str = "--set image_size=64 --set resnet_layers=1,1,1,1 --set resnet_width=4 --set decoder_channels=16,8,8,4,4 \
                           --set projection_dim=16 --set projection_hidden=16";

#[test]
fn what_shapes_do_not_tell_is_set_told_by_a_configuration_of_ours_or_noted() {
    let folder = empty("heads");
    drawn(&folder.join("one"), 1);
    let weights = folder.join("one/weights.safetensors");
    // A vocabulary of a padded embedding, and no config.json.
    let mut bert = below(&weights, "lm_model.");
    let words = bert.iter_mut().find(|(name, ..)| name == "embeddings.word_embeddings.weight").unwrap();
    words.2.resize(16 * words.1[1], 0.0);
    words.1[0] = 16;
    fs::create_dir(folder.join("bert")).unwrap();
    fs::write(folder.join("bert/pytorch_model.bin"), state_dict(&bert, "")).unwrap();
    fs::write(folder.join("bert/vocab.txt"), PIECES).unwrap();
    let line = format!("import --init text=bert --json {SMALL_IMAGE}");
    g2d(&folder, &format!("{line} --out no")).refused(&["text_heads"]);
    let report = json_of(g2d(&folder, &format!("{line} --set text_heads=2 --out text")));
    assert_eq!((&report["config"]["vocab_size"], &report["config"]["text_heads"]), (&json!(16), &json!(2)));
    let notes = report["towers"][0]["notes"].to_string();
    for said in ["11 pieces", "16 rows", "padding", "2 as in the model"] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    // The published checkpoint has an attention pool.
    let published = state_dict(&below(&weights, ""), "model_state_dict");
    fs::create_dir(folder.join("published")).unwrap();
    fs::write(folder.join("published/checkpoint.pth"), published).unwrap();
    let line = format!("import --init image=published/checkpoint.pth --json {SMALL}");
    let report = json_of(g2d(&folder, &format!("{line} --out image")));
    let notes = report["towers"][0]["notes"].to_string();
    assert!(notes.contains("4 as in the model; if it has others, --set attention_heads=N"), "{notes}");
    g2d(&folder, &format!("{line} --set attention_heads=3 --out no"))
        .refused(&["attnpool.", "--set attention_heads=N"]);
    // Ours say it themselves.
    let config = Config { attention_heads: 2, ..Config::preset("micro").unwrap() };
    fs::create_dir(folder.join("two")).unwrap();
    let weights = folder.join("two/weights.safetensors");
    imported::write(&weights, &config, &[], 1, &|_, _| {}, &AtomicBool::new(false)).unwrap();
    fs::write(folder.join("two/config.json"), json!({"model": config, "train": {}}).to_string()).unwrap();
    let report =
        json_of(g2d(&folder, &format!("import --init image=two/weights.safetensors --json {SMALL} --out again")));
    assert_eq!((&report["config"]["attention_heads"], &report["towers"][0]["notes"]), (&json!(2), &json!([])));
    assert!(!folder.join("no").exists());
}

#[test]
fn a_run_starts_from_towers_of_others_and_says_so() {
    let folder = empty("run");
    let config = drawn(&folder.join("one"), 1);
    let weights = folder.join("one/weights.safetensors");
    fs::write(folder.join("resnet.pth"), state_dict(&below(&weights, "img_model.encoder."), "")).unwrap();
    bert_folder(&folder.join("bert"), &weights, &config);
    g2d(&folder, "phantom --count 24 --seed 3 --out drawn").done();
    g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --tokenizer bert/vocab.txt --out shards").done();
    let run = "pretrain --data shards --preset micro --steps 1 --batch 4 --device cpu --set lr=0 --set text_length=32";
    g2d(&folder, &format!("{run} --init image=resnet.pth,text=bert --out run")).done();
    let (one, trained) = (digests(&folder, "one/weights.safetensors"), digests(&folder, "run"));
    for name in ["img_model.encoder.layer3.0.conv2.weight", "lm_model.encoder.layer.1.output.dense.weight"] {
        assert_eq!(one[name], trained[name], "{name}");
    }
    let report: Value = serde_json::from_str(&fs::read_to_string(folder.join("run/init.json")).unwrap()).unwrap();
    assert_eq!(report.as_array().unwrap().len(), 2);
    let inspected = json_of(g2d(&folder, "inspect run --json"));
    assert_eq!(
        (&inspected["metadata"]["g2d.step"], &inspected["metadata"]["g2d.preset"]),
        (&json!("1"), &json!("micro"))
    );
    assert!(!inspected["metadata"].to_string().contains(folder.to_str().unwrap()), "a path is no provenance");
    // The vocabulary of other shards, and another preset.
    g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out others").done();
    let other = run.replace("shards", "others");
    g2d(&folder, &format!("{other} --init text=bert --out no")).refused(&[
        "another vocabulary",
        "--tokenizer",
        "vocab.txt",
    ]);
    fs::rename(folder.join("bert/vocab.txt"), folder.join("vocab.txt")).unwrap();
    g2d(&folder, &format!("{other} --init text=bert --out no")).refused(&["11 rows", "pieces", "vocabulary"]);
    let trusted = g2d(&folder, &format!("{run} --init text=bert --out trusted"));
    assert!(trusted.code == Some(0) && trusted.errors.contains("taken on trust"), "{trusted:?}");
    let tokenizer = Tokenizer::load(&folder.join("vocab.txt"), true).unwrap();
    fs::write(folder.join("bert/tokenizer.json"), tokenizer.json()).unwrap();
    let told = g2d(&folder, &format!("{run} --init text=bert --out told"));
    assert!(told.code == Some(0) && !told.errors.contains("taken on trust"), "{told:?}");
    g2d(&folder, &format!("{other} --init text=bert --out no")).refused(&["another vocabulary", "tokenizer.json"]);
    // A run is named as `eval` names it, by its folder, and brings its vocabulary.
    g2d(&folder, &format!("{run} --weights run --out again")).done();
    let again = digests(&folder, "again");
    assert_eq!(trained["proj_v.0.weight"], again["proj_v.0.weight"]);
    let manifest = fs::read_to_string(folder.join("again/manifest.json")).unwrap();
    assert!(manifest.contains("run/checkpoints/step-00000001/weights.safetensors"), "{manifest}");
    g2d(&folder, &format!("{run} --init text=run,image=run/checkpoints/step-00000001 --out towers")).done();
    for start in ["--weights run", "--weights run/checkpoints/step-00000001/weights.safetensors", "--init text=run"] {
        let words = ["another vocabulary", "--tokenizer", "run/tokenizer.json"];
        g2d(&folder, &format!("{other} --set vocab_size={} {start} --out no", config.vocab_size)).refused(&words);
    }
    g2d(&folder, &format!("{run} --weights drawn --out no")).refused(&["drawn: this is none of ours"]);
    let other = run.replace("micro", "tiny");
    g2d(&folder, &format!("{run} --set projection_dim=48 --weights run --out no"))
        .refused(&["--config with the config.json of their run"]);
    g2d(&folder, &format!("{other} --weights run --config run/config.json --out configured")).done();
    g2d(&folder, "export run --format smp --out run/checkpoints/new").refused(&["among a run's checkpoints"]);
    g2d(&folder, &format!("{other} --init image=resnet.pth --out no")).refused(&["resnet_width", "--preset micro"]);
    g2d(&folder, &format!("{run} --init image=a.pth --init image=b.pth --out no")).refused(&["one file for each"]);
    assert!(!folder.join("no").exists());
}

#[test]
fn what_was_imported_is_evaluated_on_shards_that_are_named() {
    let folder = empty("evaluated");
    drawn(&folder.join("one"), 1);
    g2d(&folder, "phantom --count 60 --seed 3 --out drawn").done();
    g2d(
        &folder,
        "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 64 --tokenizer one/vocab.txt --out shards",
    )
    .done();
    g2d(&folder, "eval retrieve --weights one --device cpu").refused(&["imported weights in one", "--data"]);
    for weights in ["one", "one/weights.safetensors"] {
        let line = format!("eval retrieve --weights {weights} --data shards --device cpu --json");
        let report = json_of(g2d(&folder, &line));
        assert!(report["subject"].as_str().unwrap().contains("imported weights in one"), "{report}");
    }
    assert!(folder.join("one/eval").is_dir());
    g2d(&folder, "eval retrieve --weights shards --data shards")
        .refused(&["shards: this is none of ours", "g2d import"]);
}

#[test]
fn inspect_compares_the_digests_of_shards_and_says_so() {
    let folder = empty("inspected");
    g2d(&folder, "phantom --count 24 --seed 3 --out drawn").done();
    g2d(&folder, "pack --pairs drawn/pairs.csv --size 32 --out shards").done();
    let shard = folder.join("shards/shard-00000.g2d");
    for path in ["shards", "shards/shard-00000.g2d"] {
        let found = json_of(g2d(&folder, &format!("inspect {path} --json")));
        assert_eq!(found["metadata"]["digests"], json!("match dataset.json"), "{found}");
        let text = g2d(&folder, &format!("inspect {path}")).done();
        assert!(text.contains("match dataset.json") && !text.contains(['{', '"']), "{text}");
    }
    let told = g2d(&folder, "inspect shards").done();
    assert!(told.contains("resize fit") && told.contains("tokenizer trained"), "{told}");
    fs::copy(&shard, folder.join("alone.g2d")).unwrap();
    let alone = json_of(g2d(&folder, "inspect alone.g2d --json"));
    assert!(alone["metadata"]["digests"].as_str().unwrap().starts_with("not compared"), "{alone}");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[1000] ^= 1;
    fs::write(&shard, bytes).unwrap();
    for path in ["shards", "shards/shard-00000.g2d"] {
        g2d(&folder, &format!("inspect {path}")).refused(&["shard-00000.g2d", "digests differ"]);
    }
}

#[test]
fn what_cannot_be_used_is_refused_and_nothing_is_written() {
    let folder = empty("refused");
    drawn(&folder.join("one"), 1);
    let weights = folder.join("one/weights.safetensors");
    let resnet = below(&weights, "img_model.encoder.");
    let whole = state_dict(&resnet, "");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let changed = |change: &dyn Fn(&mut Tensor)| {
        let mut tensors = resnet.clone();
        tensors.iter_mut().filter(|(name, ..)| name == "layer2.0.conv2.weight").for_each(change);
        state_dict(&tensors, "")
    };
    write("cut.pth", &whole[..whole.len() / 2]);
    write("system.pth", &file(b"cposix\nsystem\nX\x02\x00\x00\x00ls\x85R", &[]));
    write("text.pth", b"these are no weights at all");
    write("nan.pth", &changed(&|(_, _, numbers)| numbers[3] = f32::NAN));
    write(
        "narrow.pth",
        &changed(&|(_, shape, numbers)| {
            shape[0] -= 1;
            numbers.truncate(shape.iter().product());
        }),
    );
    write(
        "lacking.pth",
        &state_dict(
            &resnet.iter().filter(|(name, ..)| name != "layer2.0.conv2.weight").cloned().collect::<Vec<_>>(),
            "",
        ),
    );
    write("nameless.pth", &state_dict(&[("a".into(), vec![1], vec![1.0])], ""));
    for (name, storage, held, strides) in
        [("long.pth", "FloatStorage", 4, [1]), ("far.pth", "FloatStorage", 2, [3]), ("type.pth", "Weird", 2, [1])]
    {
        let object = dict(&[("layer1.0.conv1.weight".into(), view(storage, "0", held, 0, &[2], &strides))]);
        write(name, &file(&object, &[vec![0.0; 2]]));
    }
    for (name, words) in [
        ("cut.pth", &["zip"][..]),
        ("system.pth", &["posix.system", "not executed"]),
        ("text.pth", &["neither safetensors"]),
        ("nan.pth", &["layer2.0.conv2.weight (1 of"]),
        ("narrow.pth", &["layer2.0.conv2.weight", "is needed"]),
        ("lacking.pth", &["1 missing: img_model.encoder.layer2.0.conv2.weight"]),
        ("nameless.pth", &["no ResNet", "its first are a"]),
        ("long.pth", &["storage of 4 numbers, of which 2"]),
        ("far.pth", &["reaches beyond its storage"]),
        ("type.pth", &["torch.Weird"]),
        ("none.pth", &["none.pth"]),
    ] {
        g2d(&folder, &format!("import --init image={name} --out no")).refused(words);
    }
    assert!(!folder.join("no").exists());
    clean(&folder);
}

#[test]
fn folders_that_do_not_fit_are_refused() {
    let folder = empty("folders");
    let config = drawn(&folder.join("one"), 1);
    let weights = folder.join("one/weights.safetensors");
    let bert = bert_folder(&folder.join("bert"), &weights, &config);
    fs::write(bert.join("vocab.txt"), "[PAD]\n").unwrap();
    g2d(&folder, "import --init text=bert --out no").refused(&["1 pieces", "11 rows"]);
    fs::write(bert.join("vocab.txt"), PIECES).unwrap();
    fs::write(bert.join("config.json"), "{\"hidden_act\": \"relu\"}").unwrap();
    g2d(&folder, "import --init text=bert --out no").refused(&["hidden_act", "relu"]);
    g2d(&folder, "export one --format smp --fc 3 --out no").refused(&["--fc"]);
    g2d(&folder, "export one --format smp --out nowhere/no").refused(&["nowhere is no folder"]);
    g2d(&folder, "pretrain --resume --out nowhere").refused(&["nowhere is no run"]);
    g2d(&folder, "import --init image=one/weights.safetensors --out .").refused(&["by its name"]);
    g2d(&folder, "export bert --format smp --out no").refused(&["bert/config.json", "made by g2d import"]);
    g2d(&folder, "inspect .").refused(&["name a file"]);
    assert!(!folder.join("no").exists());
    clean(&folder);
}

/// Largest difference over the largest number, or over 1. Numbers have to be finite, for `max` passes over NaN.
fn apart(found: &[f64], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().all(|number| number.is_finite()), "not finite");
    let most = wanted.iter().fold(1.0f64, |most, &number| most.max(f64::from(number).abs()));
    let worst = found.iter().zip(wanted).fold(0.0f64, |worst, (a, &b)| worst.max((a - f64::from(b)).abs()));
    worst / most
}

#[test]
#[should_panic(expected = "not finite")]
fn what_is_not_finite_is_apart() {
    apart(&[0.5, f64::NAN], &[0.5, 0.5]);
}

/// What `tests/oracle/weights` made: our features, masks and hidden states beside those of PyTorch's libraries for what we
/// exported, and our tokens beside transformers'.
#[test]
fn others_compute_the_same() {
    let Some(case) = std::env::var_os("G2D_WEIGHTS_CASE").map(PathBuf::from) else {
        return ledger::skipped("weights", "exports in PyTorch's libraries, a real BERT", "tests/oracle/weights");
    };
    let expected = TensorFile::open(&case.join("expected.safetensors")).unwrap();
    let model = Subject::of(&case.join("model")).unwrap();
    same_of_films(&expected, &model);
    let sentences = sentences(&case);
    let bert = PathBuf::from(fs::read_to_string(case.join("minilm")).unwrap());
    let tokenizer = Tokenizer::load(&bert.join("vocab.txt"), true).unwrap();
    for (sentence, ids) in &sentences {
        assert_eq!(tokenizer.encode(sentence).unwrap(), *ids, "{sentence:?}");
    }
    println!("{} sentences: the same tokens", sentences.len());
    same_of_texts(&expected, &model, &bert, &sentences[..8]);
    ledger::ran("weights", "exports in PyTorch's libraries, a real BERT");
}

/// What `tests/oracle/chain.py` made: a tree of a published layout was packed, trained on and exported, and PyTorch's libraries
/// computed on films of its shards. Here the engine does, with the run's own checkpoint.
#[test]
fn a_run_on_a_published_layout_computes_the_same_elsewhere() {
    let Some(case) = std::env::var_os("G2D_CHAIN_CASE").map(PathBuf::from) else {
        return ledger::skipped("weights", "from a MIMIC tree to PyTorch's libraries", "tests/oracle/weights");
    };
    let expected = TensorFile::open(&case.join("expected.safetensors")).unwrap();
    let model = Subject::of(&case.join("run")).unwrap();
    let dataset = Dataset::open(&case.join("shards")).unwrap();
    let films: Vec<usize> = serde_json::from_str(&fs::read_to_string(case.join("films.json")).unwrap()).unwrap();
    let pixels = films.iter().flat_map(|&film| dataset.pixels(film)).map(|&gray| f32::from(gray) / 255.0);
    assert!(pixels.eq(expected.reals(expected.get("image").unwrap()).unwrap()), "films read by both");
    same_of_films(&expected, &model);
    same_of_texts(&expected, &model, &case.join("bert"), &sentences(&case));
    ledger::ran("weights", "from a MIMIC tree to PyTorch's libraries");
}

/// Texts and their tokens.
fn sentences(case: &Path) -> Vec<(String, Vec<u32>)> {
    serde_json::from_str(&fs::read_to_string(case.join("sentences.json")).unwrap()).unwrap()
}

/// Features, embeddings and masks of the films in a case.
fn same_of_films(expected: &TensorFile, subject: &Subject) {
    let wanted = |name: &str| expected.reals(expected.get(name).unwrap()).unwrap();
    let (config, image) = (&subject.config, wanted("image"));
    let batch = image.len() / config.image_size.pow(2);
    let shapes = Shapes { batch, text_len: config.max_positions.min(64), source: Source::Numbers };
    let programs = [model::record_images(config, &shapes), model::record_segment(config, &shapes)];
    let programs = programs.map(|recorder| recorder.unwrap().finish()).to_vec();
    let whole = model::record_evaluate(config, &shapes).unwrap().finish();
    let (mut engine, plans) = Engine::open(&Resources::default(), whole, programs).unwrap();
    let states = g2d::checkpoint::names::weights(engine.program());
    engine.load(subject.weights.as_deref().unwrap(), &states, g2d::checkpoint::Others::Refused).unwrap();
    let names = [
        ("out.f5", "features", 0),
        ("out.image_embedding", "image_embedding", 0),
        ("out.segmentation_logits", "logits", 1),
    ];
    for (name, theirs, plan) in names {
        Films::Numbers(&image).write(&mut engine, &plans[plan]).unwrap();
        engine.replay(&plans[plan]).unwrap();
        let apart = apart(&engine.output(&plans[plan], name).unwrap().unwrap(), &wanted(theirs));
        println!("{theirs}: {apart:.1e} apart");
        assert!(apart <= 1e-4, "{theirs}: {apart}");
    }
}

/// Hidden states of these texts, of the BERT in a folder.
fn same_of_texts(expected: &TensorFile, subject: &Subject, bert: &Path, sentences: &[(String, Vec<u32>)]) {
    let wanted = expected.reals(expected.get("hidden").unwrap()).unwrap();
    let apart = apart(&hidden(bert, &subject.config, sentences), &wanted);
    println!("hidden states: {apart:.1e} apart");
    assert!(apart <= 1e-4, "hidden states: {apart}");
}

/// Hidden states of sentences, [tokens of all, text_hidden], of the BERT in a folder.
fn hidden(folder: &Path, config: &Config, sentences: &[(String, Vec<u32>)]) -> Vec<f64> {
    let lengths: Vec<usize> = sentences.iter().map(|(_, ids)| ids.len()).collect();
    let shapes = Shapes { batch: lengths.len(), text_len: *lengths.iter().max().unwrap(), source: Source::Numbers };
    let mut r = Recorder::new();
    let texts = Texts::declare(&mut r, config, &shapes, Reports::Tokens);
    let states = r.scope("lm_model", |r| bert::encoder(r, config, &texts)).unwrap();
    r.output("out.hidden", states);
    let program = r.finish();
    let (mut engine, plans) = Engine::open(&Resources::default(), program.clone(), vec![program]).unwrap();
    let (tensors, _) = Import::open(Tower::Text, folder).unwrap().load(engine.program(), config).unwrap();
    engine.put(&tensors).unwrap();
    let tokens: Vec<i32> = sentences.iter().flat_map(|(_, ids)| ids.iter().map(|&id| id as i32)).collect();
    let batch = TextBatch::pack(&tokens, &lengths, shapes.text_len, config).unwrap();
    engine.write_texts(&plans[0], &batch).unwrap();
    engine.replay(&plans[0]).unwrap();
    let states = engine.output(&plans[0], "out.hidden").unwrap().unwrap();
    states[..tokens.len() * config.text_hidden].to_vec()
}
