//! Bytes of every kind for everything that reads files: valid files are mutated (bits, bytes, lengths, cuts, splices)
//! by seeded random numbers. Nothing may panic or take memory without bound.
//!
//! `G2D_FUZZ_SECONDS=60 cargo test --release --test fuzz` takes so long for each target; the default is short. With
//! `G2D_FUZZ_COUNTS=FILE` (`common/counts.rs`) runs add up and none repeats another's inputs. Seeds, and what was found, lie in `tests/corpus/TARGET/`: read first, then mutated. `G2D_BLESS=1` writes small valid files there.
#![cfg(feature = "cli")]
#![allow(unsafe_code)] // the allocator that counts

#[path = "../common/mod.rs"]
mod common;
mod kernels;
mod mutate;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::counts::{self, Counts};
use common::films::{Png, cmyk_jpeg, interlaced_rows, rows};
use common::ledger;
use common::torch_files::{dict, file as torch_file, legacy_state_dict, state_dict, view};
use g2d::base::random::Rng;
use g2d::checkpoint::inspect::Contents;
use g2d::checkpoint::{TensorFile, folder, names, weights};
use g2d::data::prepare::{Resize, prepare};
use g2d::data::shard::Shard;
use g2d::data::survey::Survey;
use g2d::data::tokenizer::Tokenizer;
use g2d::data::{Dataset, PackOptions, PairsTable, decode, pack, pairs};
use g2d::model::batch::{Reports, Shapes, Source};
use g2d::model::config::Config;
use g2d::program::{Kernels, Precision, Program};
use g2d::train::config::RunConfig;
use g2d::train::defaults::{self, Start};
use g2d::train::metrics::MaskMemory;
use g2d::train::{Options, Session, session};
use mutate::{Seeds, mutated};
use serde_json::json;

/// The system's allocator, which counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that reading one input may hold: what decoding a film may take, and some more.
const LIMIT: usize = decode::MEMORY as usize + (96 << 20);

/// Largest file that is kept in the corpus.
const SEED_BYTES: usize = 8 << 10;

/// One at a time: memory is counted for the whole process.
static TURN: Mutex<()> = Mutex::new(());

/// Files of a corpus by path: seeds, and what was found before.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// Inputs of a target where no time is given.
const INPUTS: u64 = 2000;

/// Reads one input; whether it was taken for valid. A panic, too much memory and too long a time end the test, and the input
/// is kept.
fn fed(target: &str, name: &str, bytes: &[u8], read: &mut impl FnMut(&[u8]) -> bool) -> bool {
    MOST.store(HELD.load(Ordering::Relaxed), Ordering::Relaxed);
    let before = HELD.load(Ordering::Relaxed);
    let start = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| read(bytes)));
    let (took, most) = (start.elapsed(), MOST.load(Ordering::Relaxed).saturating_sub(before));
    let slow = took > Duration::from_secs(120);
    if read.is_err() || most > LIMIT || slow {
        let kept =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}-{}", blake3::hash(bytes).to_hex()));
        fs::write(&kept, bytes).unwrap();
        let what = if read.is_err() { "a panic".into() } else { format!("{} MB in {took:?}", most >> 20) };
        panic!("{target}, {name}: {what}; the input is kept as {}", kept.display());
    }
    read.unwrap_or(false)
}

/// Feeds the corpus, the valid files, then mutations of all of these, until the time is over.
fn fuzz(target: &str, mut seeds: Vec<Vec<u8>>, mut read: impl FnMut(&[u8]) -> bool) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let known = corpus(target);
    for (path, bytes) in &known {
        fed(target, path, bytes, &mut read);
    }
    for (number, seed) in seeds.iter().enumerate() {
        let name = format!("seed {number}");
        assert!(fed(target, &name, seed, &mut read), "{target}, {name}: a valid file is not taken for valid");
    }
    if std::env::var_os("G2D_BLESS").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate().filter(|(_, seed)| seed.len() <= SEED_BYTES) {
            if known.iter().all(|(_, bytes)| bytes != seed) {
                fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
            }
        }
    }
    seeds.extend(known.iter().map(|(_, bytes)| bytes.clone()));
    let seeds = Seeds::of(seeds);
    let (start, asked, mut counts) = (Instant::now(), counts::seconds(), Counts::of(target));
    // Without a time that was asked for, the same inputs on every machine, or the first of them on a slow one.
    let (time, most) = (Duration::from_secs_f64(asked.unwrap_or(2.0)), asked.map_or(INPUTS, |_| u64::MAX));
    while start.elapsed() < time && counts.inputs < most {
        let mut rng = Rng::new(u64::from_le_bytes(*b"fuzzing!"), counts.seed, counts.next);
        let name = format!("input {} of seed {}", counts.next, counts.seed);
        counts.add(fed(target, &name, &mutated(&mut rng, &seeds), &mut read));
    }
    counts.write();
    let Counts { inputs, valid, .. } = counts;
    ledger::ran(
        "fuzz",
        format!("{target}: {inputs} inputs, {valid} of them still valid, {} of the corpus", known.len()),
    );
}

/// An empty folder of one test's own.
fn empty(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", counts::stream())).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Puts an input where it is read. Not over the last one, which may be mapped; and file systems that guard against files that
/// are cut off wait for the disk then.
fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

fn picture(x: usize, y: usize) -> u8 {
    60 + (x * 3 + y) as u8
}

fn encoded(format: image::ImageFormat, image: &image::DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn images() {
    let gray = image::GrayImage::from_fn(33, 25, |x, y| image::Luma([picture(x as usize, y as usize)]));
    let gray = image::DynamicImage::from(gray);
    let (plain, woven) = (rows(20, 20, picture), interlaced_rows(20, 20, picture));
    let mut seeds = vec![
        encoded(image::ImageFormat::Png, &gray),
        encoded(image::ImageFormat::Png, &gray.to_rgba16().into()),
        encoded(image::ImageFormat::Jpeg, &gray),
        encoded(image::ImageFormat::Jpeg, &gray.to_rgb8().into()),
        cmyk_jpeg(3, 2, |x, y| (60 + x * 30 + y) as u8),
        Png::gray(20, 20, 8, &plain).bytes(),
        Png { interlaced: true, ..Png::gray(20, 20, 8, &woven) }.bytes(),
    ];
    let palette = (*b"PLTE", (0..=255u8).flat_map(|level| [level; 3]).collect());
    seeds.push(
        Png { colour: 3, chunks: vec![palette, (*b"tRNS", vec![9; 40])], ..Png::gray(20, 20, 8, &plain) }.bytes(),
    );
    fuzz("image", seeds, |bytes| {
        // One film at a time, as packing holds it: a header of a few bytes may ask for 450 MB.
        let film = || decode::Source::of_bytes(bytes.to_vec()).and_then(decode::Source::decode);
        [Resize::Fit, Resize::Stretch, Resize::Official].into_iter().all(|resize| {
            let film = film();
            film.map(|film| drop(prepare(film, 32, resize))).is_ok()
        })
    });
}

/// Files of every kind that `dicom.rs` holds against pydicom.
#[test]
fn dicom() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dicom");
    let files = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension() == Some("dcm".as_ref())).collect();
    files.sort();
    let read = |bytes: &[u8]| decode::Source::of_bytes(bytes.to_vec()).and_then(decode::Source::decode).is_ok();
    let seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).filter(|bytes| read(bytes)).collect();
    assert!(seeds.len() >= 28, "{} films", seeds.len());
    fuzz("dicom", seeds, read);
}

#[test]
fn tables() {
    let folder = empty("tables");
    let path = folder.join("pairs.csv");
    let read = |bytes: &[u8]| {
        put(&path, bytes);
        let boxes = pairs::read_boxes(&path).is_ok();
        let table = PairsTable::open(&path, None).unwrap();
        let survey =
            [true, false].map(|strict| Survey::of(&table, 0, strict).map(|survey| survey.rows().unwrap().count()));
        // Rows come in order, from lines that there are; lines that end now so, now so, may be counted one off.
        if let Ok(pairs) = pairs::Pairs::open(&path) {
            let (mut line, most) = (0, bytes.iter().filter(|&&byte| byte == b'\n').count() as u64 + 2);
            for pair in pairs.map_while(Result::ok).filter_map(Result::ok) {
                assert!((line..=most).contains(&pair.line), "{pair:?} behind line {line}, of {most}");
                assert!(!pair.id.is_empty() && !pair.image.is_empty(), "{pair:?}");
                line = pair.line;
            }
        }
        boxes || survey.iter().any(Result::is_ok)
    };
    // The corpus has the tables, good ones and what was found.
    fuzz("csv", Vec::new(), read);
}

#[test]
fn tokenizers() {
    let path = empty("tokenizers").join("tokenizer.json");
    let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nheart\n##s\nno\n.\n";
    fs::write(&path, pieces).unwrap();
    let wordpiece = Tokenizer::load(&path, true).unwrap().json().to_owned();
    let special = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let added: Vec<_> = (0..).zip(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]).map(|(id, name)| special(id, name)).collect();
    let bpe = json!({"version": "1.0", "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": added, "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Removed", "invert": false},
        "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "h": 4, "e": 5, "he": 6}, "merges": ["h e"]}});
    let unigram = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": "``"}, "content": "\""}, "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true},
        "post_processor": null, "decoder": null,
        "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": false, "vocab": [["[PAD]", 0.0], ["[UNK]", 0.0], ["[CLS]", 0.0], ["[SEP]", 0.0], ["he", -1.5], ["a", -2.0]]}});
    let seeds = [pieces.to_owned(), wordpiece, bpe.to_string(), unigram.to_string()].map(String::into_bytes).to_vec();
    fuzz("tokenizer", seeds, |bytes| {
        put(&path, bytes);
        let Ok(tokenizer) = Tokenizer::load(&path, bytes.len() % 2 == 0) else { return false };
        for text in ["Hearts, no heart.\n\u{df}\u{301} \u{4eac}", ""] {
            // A text that cannot be encoded is an error; ids that are not in the vocabulary are not.
            if let Ok(ids) = tokenizer.encode(text) {
                assert!((2..=512).contains(&ids.len()) && ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            }
        }
        true
    });
}

/// A session with the fewest weights: they are written and read for every input.
fn smallest() -> Session {
    let micro = Config::preset("micro").unwrap();
    let config = Config { resnet_width: 1, decoder_channels: vec![2; 5], text_layers: 1, ..micro };
    Session::open(Options { threads: 1, ..Options::new(config, 2, 8) }).unwrap()
}

#[test]
fn safetensors() {
    let folder = empty("safetensors");
    let session = smallest();
    let program: &Program = session.program();
    let path = folder.join("w.safetensors");
    session.save_weights(&path).unwrap();
    let wanted = names::weights(program);
    let seed = fs::read(&path).unwrap();
    fuzz("safetensors", vec![seed], |bytes| {
        put(&path, bytes);
        weights::load(&path, program, &wanted, weights::Others::Refused).is_ok()
    });
}

/// Files of torch.save: archives as they are, and pickles in archives that are whole, for checksums stop most of the others.
#[test]
fn torch_files_and_graphs() {
    let path = empty("torch").join("w.pth");
    let tensor = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec(), vec![0.5; shape.iter().product()]);
    let tensors = [tensor("conv1.weight", &[2, 3, 1, 1]), tensor("bn1.bias", &[2])];
    let open = |bytes: &[u8]| {
        put(&path, bytes);
        let Ok(file) = TensorFile::open(&path) else { return false };
        Contents::of(&file);
        true
    };
    fuzz("torch", vec![state_dict(&tensors, "state_dict"), legacy_state_dict(&tensors)], open);
    let pickle = dict(&[("a".into(), view("FloatStorage", "0", 4, 0, &[2, 2], &[2, 1]))]);
    fuzz("pickle", vec![pickle], |bytes| open(&torch_file(bytes, &[vec![0.5; 4]])));
    // ModelProto { ir_version: 8, graph: { initializer: { dims: 1, data_type: FLOAT, name: "a", raw_data } } }.
    let graph = b"\x08\x08\x3a\x0f\x2a\x0d\x08\x01\x10\x01\x42\x01a\x4a\x04\0\0\0\0";
    fuzz("onnx", vec![graph.to_vec()], open);
}

/// Films packed at 16 pixels, one with mask and boxes.
fn packed() -> PathBuf {
    let folder = empty("packed");
    fs::write(folder.join("a.png"), Png::gray(20, 20, 8, &rows(20, 20, picture)).bytes()).unwrap();
    fs::write(
        folder.join("pairs.csv"),
        "id,image,text,mask,site\na,a.png,No heart.,a.png,x\nb,a.png,,,\nc,a.png,Heart.,,y\n",
    )
    .unwrap();
    fs::write(folder.join("boxes.csv"), "id,label,x,y,w,h\na,nodule,1,2,3,4\n").unwrap();
    let out = folder.join("out");
    let options = PackOptions { size: 16, ..PackOptions::new(&out) };
    let table = PairsTable::open(&folder.join("pairs.csv"), Some(&folder.join("boxes.csv"))).unwrap();
    pack(&table, &options, &|_| {}, &AtomicBool::new(false)).unwrap();
    out
}

#[test]
fn shards() {
    let out = {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        packed()
    };
    let [shard, manifest] = ["shard-00000.g2d", "dataset.json"].map(|name| out.join(name));
    let vocabulary = Dataset::open(&out).unwrap().vocab_size();
    let seed = fs::read(&shard).unwrap();
    fuzz("shard", vec![seed.clone()], |bytes| {
        put(&shard, bytes);
        let Ok(shard) = Shard::open(&shard, vocabulary) else { return false };
        for position in 0..shard.len() {
            let _ = shard.record(position);
        }
        shard.digest();
        true
    });
    fs::write(&shard, seed).unwrap();
    let seed = fs::read(&manifest).unwrap();
    fuzz("dataset", vec![seed], |bytes| {
        put(&manifest, bytes);
        Dataset::open(&out).is_ok()
    });
}

/// Mutated files with right digests too, so that reading goes on behind these; all the way into a session.
#[test]
fn checkpoints() {
    let folder = empty("checkpoints");
    let mut session = smallest();
    let mut masks = MaskMemory::default();
    masks.update(&[3], &vec![1.0; 64 * 64], 64);
    let progress = folder::Progress { version: "0".into(), step: 3, data_digest: "d".into(), history: masks };
    let checkpoint = session.save_checkpoint(&folder, &progress).unwrap();
    let digests = checkpoint.join("digests.b3");
    let lines = fs::read_to_string(&digests).unwrap();
    for file in ["progress.json", folder::WEIGHTS, folder::MOMENTS] {
        let path = checkpoint.join(file);
        let seed = fs::read(&path).unwrap();
        let digest = lines.lines().find_map(|line| line.strip_suffix(&format!("  {file}"))).unwrap();
        let target = format!("checkpoint-{}", file.split('.').next().unwrap());
        fuzz(&target, vec![seed.clone()], |bytes| {
            put(&path, bytes);
            put(&digests, lines.replace(digest, blake3::hash(bytes).to_hex().as_str()).as_bytes());
            folder::verify(&checkpoint).expect("the digests are right");
            let Ok(mut read) = session.load_checkpoint::<MaskMemory>(&checkpoint) else { return false };
            read.history.update(&[3, 4], &vec![0.5; 2 * 64 * 64], 64);
            true
        });
        fs::write(&path, seed).unwrap();
        fs::write(&digests, &lines).unwrap();
    }
    fuzz("checkpoint-digests", vec![lines.clone().into_bytes()], |bytes| {
        put(&digests, bytes);
        folder::verify(&checkpoint).is_ok()
    });
}

/// Plans what is left of a configuration, if that is a model of everyday size.
fn plan(config: &RunConfig) -> bool {
    let (model, train) = (&config.model, &config.train);
    if config.validate().is_err() {
        return false;
    }
    if model.resnet_layers.iter().sum::<usize>() + model.text_layers > 200 || train.batch > 1 << 16 {
        return true;
    }
    let shapes = Shapes { batch: train.batch, text_len: train.text_length, source: Source::Bytes };
    session::step_plan(model, &shapes, Reports::Tokens, Precision::Exact, Kernels::Best).is_ok()
}

#[test]
fn configurations() {
    let config = defaults::settings("micro", "default", Start::Scratch, 61, 10).unwrap();
    let json = serde_json::to_vec_pretty(&config).unwrap();
    fuzz("config", vec![json], |bytes| serde_json::from_slice::<RunConfig>(bytes).is_ok_and(|config| plan(&config)));
    let values: BTreeMap<String, serde_json::Value> = serde_json::from_value(json!(config.model)).unwrap();
    let mut toml: String = values.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    toml += "seed = 3\nbatch = 8\n[schedule]\nsteps = 100\nwarmup = 5\n[[groups]]\nname = \"all\"\npattern = \"*\"\n";
    fuzz("toml", vec![toml.into_bytes()], |bytes| {
        let mut config = config.clone();
        let text = String::from_utf8_lossy(bytes);
        g2d::cli::settings::apply_toml(&mut config, &text).is_ok() && plan(&config)
    });
}
