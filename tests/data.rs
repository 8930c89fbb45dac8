//! Films and tables in, shards out: packing, reading what was packed, damaged input, tokens.
#![cfg(feature = "data")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use common::ledger;
use g2d::base::random::Rng;
use g2d::data::funnel::Funnel;
use g2d::data::pack::Progress;
use g2d::data::pairs::Pair;
use g2d::data::prepare::Resize;
use g2d::data::split::Splits;
use g2d::data::tokenizer::Tokenizer;
use g2d::data::{Dataset, Error, PackOptions, PairsTable, Split, pack, vocabulary};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma};
use proptest::prelude::*;

const TEXT: &str = "No focal consolidation. Heart size is normal.";

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("data").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A smooth picture without borders, values 40 to 215.
fn picture(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        let wave = (f64::from(x) / 9.0).sin() + (f64::from(y) / 13.0).cos();
        Luma([(127.5 + wave * 43.75) as u8])
    })
}

fn write_table(dir: &Path, name: &str, lines: &[&str]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

/// `count` films of different sizes with texts; every fourth text is empty, two films per patient.
fn small_set(dir: &Path, count: usize) -> PathBuf {
    let mut lines = vec!["id,image,text,patient_id,site".to_owned()];
    for film in 0..count {
        let name = format!("{film}.png");
        picture(40 + film as u32, 90 - film as u32).save(dir.join(&name)).unwrap();
        let text = if film % 4 == 3 { String::new() } else { format!("\"{TEXT} Film {film}, number {film}.\"") };
        lines.push(format!("film-{film},{name},{text},p{},north", film / 2));
    }
    write_table(dir, "pairs.csv", &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Packs the table `pairs.csv` beside the folder to write.
fn run(options: &PackOptions) -> Result<Funnel, Error> {
    run_with(None, options)
}

fn run_with(boxes: Option<&Path>, options: &PackOptions) -> Result<Funnel, Error> {
    pack(&table(boxes, options)?, options, &|_| {}, &AtomicBool::new(false))
}

fn table(boxes: Option<&Path>, options: &PackOptions) -> Result<PairsTable, Error> {
    PairsTable::open(&options.out.with_file_name("pairs.csv"), boxes)
}

fn options(pairs: &Path, size: usize) -> PackOptions {
    PackOptions { size, ..PackOptions::new(pairs.with_file_name("out")) }
}

fn packed(name: &str, count: usize, size: usize) -> Dataset {
    let options = options(&small_set(&folder(name), count), size);
    run(&options).unwrap();
    Dataset::open(&options.out).unwrap()
}

fn error_of(lines: &[&str], name: &str) -> String {
    let dir = folder(name);
    picture(40, 40).save(dir.join("a.png")).unwrap();
    let options = options(&write_table(&dir, "pairs.csv", lines), 32);
    let error = run(&options).unwrap_err().to_string();
    assert!(!options.out.exists(), "a refused pack left something behind");
    error
}

#[test]
fn every_kind_of_file_gives_the_same_film() {
    let dir = folder("kinds");
    let gray = DynamicImage::from(picture(96, 64));
    let wide: ImageBuffer<Luma<u16>, Vec<u16>> =
        ImageBuffer::from_fn(96, 64, |x, y| Luma([u16::from(picture(96, 64).get_pixel(x, y).0[0]) * 16]));
    let kinds: [(&str, DynamicImage); 9] = [
        ("gray.png", gray.clone()),
        ("alpha.png", gray.to_luma_alpha8().into()),
        ("rgb.png", gray.to_rgb8().into()),
        ("rgba.png", gray.to_rgba8().into()),
        ("gray.jpg", gray.clone()),
        ("rgb.jpg", gray.to_rgb8().into()),
        ("wide.png", wide.clone().into()),
        ("wide-rgb.png", DynamicImage::from(wide.clone()).to_rgb16().into()),
        ("wide-rgba.png", DynamicImage::from(wide).to_rgba16().into()),
    ];
    let mut lines = vec!["id,image,text".to_owned()];
    for (name, image) in &kinds {
        image.save(dir.join(name)).unwrap();
        lines.push(format!("{name},{name},{TEXT}"));
    }
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let options = PackOptions { resize: Resize::Stretch, ..options(&write_table(&dir, "pairs.csv", &lines), 64) };
    assert_eq!(run(&options).unwrap().kept, kinds.len());
    let dataset = Dataset::open(&options.out).unwrap();
    let first = dataset.pixels(0);
    for (index, (name, _)) in kinds.iter().enumerate() {
        let farthest = first.iter().zip(dataset.pixels(index)).map(|(&expected, &value)| {
            // A 16-bit film is windowed: 40..215 becomes 0..255.
            let windowed =
                if name.starts_with("wide") { f64::from(value) / 255.0 * 175.0 + 40.0 } else { value.into() };
            (f64::from(expected) - windowed).abs()
        });
        let farthest = farthest.fold(0.0, f64::max);
        let bound = if name.ends_with("jpg") {
            8.0
        } else if name.starts_with("wide") {
            3.0
        } else {
            0.0
        };
        assert!(farthest <= bound, "{name}: {farthest} levels off");
    }
}

#[test]
fn colours_become_luma() {
    let dir = folder("luma");
    let picture =
        image::RgbImage::from_fn(64, 64, |x, _| image::Rgb(if x < 32 { [200, 50, 100] } else { [20, 180, 60] }));
    picture.save(dir.join("a.png")).unwrap();
    let options = options(&write_table(&dir, "pairs.csv", &["id,image,text", "a,a.png,"]), 64);
    run(&options).unwrap();
    let dataset = Dataset::open(&options.out).unwrap();
    // 0.299 R + 0.587 G + 0.114 B
    assert_eq!((dataset.pixels(0)[0], dataset.pixels(0)[63]), (101, 118));
}

/// Smallest rectangle around what is chosen: x, y, width, height.
fn bounds(values: &[u8], size: usize, chosen: impl Fn(u8) -> bool) -> [f32; 4] {
    let at: Vec<_> = (0..values.len()).filter(|&at| chosen(values[at])).map(|at| (at % size, at / size)).collect();
    let (left, right) = (at.iter().map(|at| at.0).min().unwrap(), at.iter().map(|at| at.0).max().unwrap());
    let (top, bottom) = (at.iter().map(|at| at.1).min().unwrap(), at.iter().map(|at| at.1).max().unwrap());
    [left, top, right + 1 - left, bottom + 1 - top].map(|value| value as f32)
}

#[test]
fn boxes_and_masks_follow_crop_and_resize() {
    let dir = folder("geometry");
    // 200 x 300 with a black border of 30 above, a white one of 20 on the right, and a bright rectangle.
    let (x, y, w, h) = (50, 120, 60, 90);
    let inside = |px: u32, py: u32| (x..x + w).contains(&px) && (y..y + h).contains(&py);
    let film = GrayImage::from_fn(200, 300, |px, py| match (px, py) {
        (180.., 30..) => Luma([255]),
        (_, ..30) => Luma([0]),
        _ if inside(px, py) => Luma([230]),
        _ => Luma([60 + ((px * 7 + py * 3) % 40) as u8]),
    });
    film.save(dir.join("film.png")).unwrap();
    GrayImage::from_fn(200, 300, |px, py| Luma([if inside(px, py) { 255 } else { 0 }]))
        .save(dir.join("mask.png"))
        .unwrap();
    let pairs = write_table(&dir, "pairs.csv", &["id,image,text,mask", "a,film.png,,mask.png", "b,film.png,,"]);
    let rows = ["id,label,x,y,w,h,more", "a,bright,50,120,60,90,1", "a,cropped away,0,0,200,20,1", "z,x,1,1,1,1,1"];
    let boxes = write_table(&dir, "boxes.csv", &rows);
    // Cropped to 180 x 270; fit scales by 128/270 and centres the width, stretch scales each side.
    let fit = (128.0 / 270.0, 128.0 / 270.0, 21.0);
    for (resize, (across, down, margin)) in [(Resize::Fit, fit), (Resize::Stretch, (128.0 / 180.0, 128.0 / 270.0, 0.0))]
    {
        let _ = fs::remove_dir_all(dir.join("out"));
        let options = PackOptions { resize, ..options(&pairs, 128) };
        let funnel = run_with(Some(&boxes), &options).unwrap();
        assert_eq!((funnel.masks, funnel.boxes, funnel.boxes_outside), (1, 1, 1));
        assert!(funnel.warnings.iter().any(|warning| warning.contains("first: z")), "{:?}", funnel.warnings);
        let dataset = Dataset::open(&options.out).unwrap();
        let record = dataset.record(0).unwrap();
        let expected = [margin + 50.0 * across, (120.0 - 30.0) * down, 60.0 * across, 90.0 * down];
        let [one] = &record.boxes[..] else { panic!("{:?}", record.boxes) };
        let seen = bounds(record.pixels, 128, |value| value > 200);
        let mask = bounds(record.mask.unwrap(), 128, |value| value == 255);
        for axis in 0..4 {
            assert!(([one.x, one.y, one.w, one.h][axis] - expected[axis]).abs() <= 1.0, "{one:?}, not {expected:?}");
            assert!((seen[axis] - expected[axis]).abs() <= 1.5, "film {seen:?}, not {expected:?}");
            assert!((mask[axis] - expected[axis]).abs() <= 1.0, "mask {mask:?}, not {expected:?}");
        }
        let padding = (0..128).filter(|x| record.pixels[64 * 128 + x] == 0).count();
        assert_eq!(padding, if resize == Resize::Fit { 43 } else { 0 });
        assert_eq!(dataset.record(1).unwrap().mask, None);
    }
}

#[test]
fn official_wraps_the_brightest_value() {
    let dir = folder("official");
    // The zero border goes; 10..60 becomes 0..256, so 60 becomes 0 and 35 becomes 128.
    let film = GrayImage::from_fn(6, 5, |x, y| {
        Luma([match (x, y) {
            (2, 1) => 60,
            (3, 1) => 35,
            (2..4, 1..3) => 10,
            _ => 0,
        }])
    });
    film.save(dir.join("a.png")).unwrap();
    let options = PackOptions {
        resize: Resize::Official,
        ..options(&write_table(&dir, "pairs.csv", &["id,image,text", "a,a.png,"]), 2)
    };
    run(&options).unwrap();
    assert_eq!(Dataset::open(&options.out).unwrap().pixels(0), [0, 128, 0, 0]);
}

#[test]
fn records_come_back_whole() {
    let dataset = packed("whole", 10, 48);
    dataset.verify(&mut |_, _| {}).unwrap();
    assert_eq!((dataset.len(), dataset.size()), (10, 48));
    let tokenizer = Tokenizer::load(&dataset.tokenizer_path(), false).unwrap();
    assert_eq!(tokenizer.vocab_size(), dataset.vocab_size());
    for index in 0..10 {
        let record = dataset.record(index).unwrap();
        assert_eq!(record.id, format!("film-{index}"));
        assert_eq!(record.patient_id, format!("p{}", index / 2));
        assert_eq!(record.columns["site"], "north");
        let expected = if record.text.is_empty() { vec![] } else { tokenizer.encode(&record.text).unwrap() };
        assert_eq!((record.tokens, record.text.is_empty()), (&expected[..], index % 4 == 3));
        assert!(!expected.contains(&1), "the corpus's own words are known: {expected:?}");
    }
    let all: Vec<_> = Split::ALL.iter().flat_map(|&split| dataset.select(Some(split), false)).collect();
    assert_eq!((all.len(), dataset.select(None, true).len()), (10, 8));
    assert!(Split::ALL.iter().all(|&split| dataset.select(Some(split), true).is_sorted()));
}

#[test]
fn the_funnel_counts_what_was_dropped_and_why() {
    let dir = folder("funnel");
    let film = picture(60, 60);
    film.save(dir.join("good.png")).unwrap();
    film.save(dir.join("good.jpg")).unwrap();
    picture(30, 60).save(dir.join("narrow.png")).unwrap();
    GrayImage::from_pixel(60, 60, Luma([7])).save(dir.join("blank.png")).unwrap();
    fs::write(dir.join("foreign.png"), "this is no picture").unwrap();
    for (name, cut) in [("good.png", "cut.png"), ("good.jpg", "cut.jpg")] {
        let bytes = fs::read(dir.join(name)).unwrap();
        fs::write(dir.join(cut), &bytes[..bytes.len() * 3 / 4]).unwrap();
    }
    let mut lines = vec!["id,image,text,mask,split"];
    lines.extend(["1,good.png,a,,train", "2,gone.png,a,,train", "3,foreign.png,a,,train", "4,cut.png,a,,train"]);
    lines.extend(["5,cut.jpg,a,,train", "6,blank.png,a,,train", "7,good.png,a,narrow.png,train"]);
    lines.extend(["8,good.png,a,gone.png,train", "9,good.jpg,,,val", "10,good.jpg,\" \",good.png,test"]);
    lines.extend(["11,good.png,a,,train", "12,good.png,a,,train", "13,good.png,a,,train", "14,good.png,a,,train"]);
    let options = options(&write_table(&dir, "pairs.csv", &lines), 32);
    let funnel = run(&options).unwrap();
    assert_eq!((funnel.rows, funnel.kept, funnel.empty_text, funnel.masks), (14, 7, 2, 1));
    let dropped: Vec<_> = funnel.dropped.iter().map(|(reason, dropped)| (reason.as_str(), dropped.count)).collect();
    let expected = [
        ("image: blank", 1),
        ("image: damaged or truncated", 2),
        ("image: file missing", 1),
        ("image: neither PNG, JPEG nor DICOM", 1),
        ("mask: file missing", 1),
        ("mask: size differs from the image's", 1),
    ];
    assert_eq!(dropped, expected);
    let example = &funnel.dropped["image: damaged or truncated"].examples[0];
    assert!(example.starts_with("line 5, id 4: cut.png: "), "{example}");
    let shown = funnel.to_string();
    assert!(shown.contains("14 rows read") && shown.contains("7 kept (train 5, val 1, test 1)"), "{shown}");
    let dataset = Dataset::open(&options.out).unwrap();
    assert_eq!((dataset.len(), dataset.select(Some(Split::Train), true).len()), (7, 5));

    // One good row less and more than half would be lost.
    fs::remove_dir_all(&options.out).unwrap();
    lines.pop();
    write_table(&dir, "pairs.csv", &lines);
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("7 of 13 rows") && error.contains("line 5, id 4: cut.png"), "{error}");
    assert!(!options.out.exists());
}

#[test]
fn tables_that_break_a_rule_are_refused_with_the_line() {
    let cases: [(&[&str], &[&str]); 9] = [
        (&["id,picture,text", "a,a.png,x"], &["line 1", "\"image\"", "picture"]),
        (&["id,image,text", "a,a.png,x", "b,a.png,x", "a,a.png,x"], &["line 4", "\"a\"", "line 2"]),
        (&["id,image,text", "a,a.png,x,y"], &["line 2", "4 values", "3"]),
        (&["id,image,text", ",a.png,x"], &["line 2", "id or image is empty"]),
        (&["id,image,text,split", "a,a.png,x,dev"], &["line 2", "\"dev\"", "train, val, test"]),
        (&["id,image,text"], &["no lines"]),
        (&["id,image,text,text", "a,a.png,x,x"], &["line 1", "twice"]),
        (
            &["id,image,text,patient_id,split", "a,a.png,x,p,train", "b,a.png,x,q,val", "c,a.png,x,p,test"],
            &["patient \"p\"", "\"train\" at line 2", "\"test\" at line 4"],
        ),
        (&["id,image,text", "a,a.png,\"two", "lines\"", "a,a.png,x"], &["line 4", "line 2"]),
    ];
    for (number, (lines, parts)) in cases.iter().enumerate() {
        let error = error_of(lines, &format!("table-{number}"));
        assert!(error.contains("pairs.csv"), "{error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{error:?} lacks one of {parts:?}");
    }
    let dir = folder("table-bytes");
    fs::write(dir.join("pairs.csv"), b"id,image,text\na,a.png,\xFF\xFE\n").unwrap();
    let error = run(&options(&dir.join("pairs.csv"), 32)).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("UTF-8"), "{error}");
    fs::remove_file(dir.join("pairs.csv")).unwrap();
    let error = run(&options(&dir.join("pairs.csv"), 32)).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("pairs.csv"), "{error}");
    let pairs = small_set(&folder("table-boxes"), 2);
    let boxes = write_table(pairs.parent().unwrap(), "boxes.csv", &["id,label,x,y,w,h", "film-0,x,1,2,wide,4"]);
    let error = run_with(Some(&boxes), &options(&pairs, 32)).unwrap_err().to_string();
    assert!(error.contains("boxes.csv, line 2: w is \"wide\""), "{error}");
}

fn splits(pairs: &[Pair], seed: u64) -> Vec<Split> {
    let mut splits = Splits::new(seed);
    pairs.iter().for_each(|pair| splits.note(pair, Path::new("pairs.csv")).unwrap());
    pairs.iter().map(|pair| splits.of(pair)).collect()
}

#[test]
fn patients_are_drawn_whole_and_in_the_stated_shares() {
    let pair = |film: usize| Pair { id: film.to_string(), patient_id: format!("p{}", film / 2), ..Pair::default() };
    let pairs: Vec<_> = (0..8000).map(pair).collect();
    let splits = splits(&pairs, 1);
    assert!(splits.chunks(2).all(|films| films[0] == films[1]));
    for (split, share) in Split::ALL.into_iter().zip([0.8, 0.1, 0.1]) {
        let seen = splits.iter().filter(|&&of| of == split).count() as f64 / 8000.0;
        assert!((seen - share).abs() <= 0.02, "{split:?}: {seen}");
    }
    assert_ne!(splits, self::splits(&pairs, 2));
    // A film without a split goes where the table puts its patient.
    let mut pairs = pairs[..2].to_vec();
    for given in Split::ALL {
        pairs[0].split = Some(given);
        assert_eq!(self::splits(&pairs, 1), [given, given]);
    }
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(read).collect();
    files.sort();
    files
}

#[test]
fn packs_are_the_same_bytes_whatever_the_threads() {
    let dir = folder("threads");
    let pairs = small_set(&dir, 30);
    let packs = [1, 4, 4].map(|threads| {
        let _ = fs::remove_dir_all(dir.join("out"));
        let options = PackOptions { threads, ..options(&pairs, 32) };
        run(&options).unwrap();
        files(&options.out)
    });
    assert_eq!(
        packs[0].iter().map(|file| &file.0).collect::<Vec<_>>(),
        ["dataset.json", "shard-00000.g2d", "tokenizer.json"]
    );
    assert!(packs[0] == packs[1] && packs[1] == packs[2]);
}

#[test]
fn a_folder_in_use_is_refused_and_an_unfinished_pack_starts_over() {
    let dir = folder("in-use");
    let options = options(&small_set(&dir, 4), 32);
    fs::create_dir_all(&options.out).unwrap();
    fs::write(options.out.join("tokenizer.json"), "mine").unwrap();
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("it holds tokenizer.json"), "{error}");
    assert_eq!(fs::read(options.out.join("tokenizer.json")).unwrap(), b"mine");

    // What a killed pack leaves: the marker and parts, no dataset.json.
    fs::write(options.out.join("unfinished.pack"), "").unwrap();
    fs::write(options.out.join("shard-00000.g2d"), "half").unwrap();
    fs::write(options.out.join("shard-00007.g2d"), "half").unwrap();
    let error = Dataset::open(&options.out).err().unwrap().to_string();
    assert!(error.contains("packing did not finish"), "{error}");
    run(&options).unwrap();
    assert_eq!(files(&options.out).len(), 3);
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");

    fs::remove_dir_all(&options.out).unwrap();
    let cancelled = pack(&table(None, &options).unwrap(), &options, &|_| {}, &AtomicBool::new(true));
    assert!(matches!(cancelled, Err(Error::Cancelled(_))) && !options.out.exists());
}

#[test]
fn progress_counts_every_row_once() {
    let options = options(&small_set(&folder("progress"), 9), 32);
    let seen = std::sync::Mutex::new(Vec::new());
    let note = |progress: Progress| seen.lock().unwrap().push((progress.done, progress.total));
    pack(&table(None, &options).unwrap(), &options, &note, &AtomicBool::new(false)).unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    assert_eq!(seen, (1..=9).map(|done| (done, 9)).collect::<Vec<_>>());
}

/// Opens and reads everything; whether a fault was found.
fn read_all(dir: &Path) -> Result<(), Error> {
    let dataset = Dataset::open(dir)?;
    for index in 0..dataset.len() {
        dataset.record(index)?;
    }
    dataset.verify(&mut |_, _| {})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// No panic, and no damage that goes unseen.
    #[test]
    fn damaged_sets_are_errors(file in 0..3usize, place in 0.0..1.0f64, kind in 0..3u8, header in any::<bool>()) {
        static SOUND: std::sync::OnceLock<Vec<(String, Vec<u8>)>> = std::sync::OnceLock::new();
        let sound = SOUND.get_or_init(|| {
            packed("damage-sound", 5, 16);
            files(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("data/damage-sound/out"))
        });
        let dir = folder("damage");
        let mut damaged = sound.clone();
        let bytes = &mut damaged[file].1;
        let reach = if header { bytes.len().min(64) } else { bytes.len() };
        let at = (place * reach as f64) as usize;
        match kind {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << (at % 8),
            _ => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = !*byte),
        }
        for (name, bytes) in &damaged {
            fs::write(dir.join(name), bytes).unwrap();
        }
        // What `dataset.json` says of how the data was made is not covered by the digest.
        let made = file == 0 && sound[0].1.windows(6).position(|word| word == b"\"made\"").unwrap() <= at;
        prop_assert!(read_all(&dir).is_err() || made, "file {file}, kind {kind}, byte {at}: unseen");
    }

    /// Whatever the bytes, decoding ends with a film or a fault.
    #[test]
    fn damaged_images_never_panic(jpeg in any::<bool>(), cut in 0.0..1.0f64, flips in prop::collection::vec((0.0..1.0f64, any::<u8>()), 0..6)) {
        let path = folder("damaged-image").join("film");
        let format = if jpeg { image::ImageFormat::Jpeg } else { image::ImageFormat::Png };
        let mut bytes = fs::read(sound_image(format)).unwrap();
        if flips.is_empty() {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        for (place, value) in &flips {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] = *value;
        }
        fs::write(&path, &bytes).unwrap();
        let film = g2d::data::decode::film(&path);
        // The mark behind the last pixel may be lost, but no pixel.
        let whole = || g2d::data::decode::film(&sound_image(format));
        prop_assert!(!flips.is_empty() || film.is_err() || film == whole(), "a truncated image was taken for whole");
    }
}

fn sound_image(format: image::ImageFormat) -> PathBuf {
    let path = folder("sound-image").join("film");
    picture(40, 30).save_with_format(&path, format).unwrap();
    path
}

fn vocab_file(name: &str) -> PathBuf {
    let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nheart\nHeart\n##s\nno\nedema\n.\ncafe\n1\n##2\n##3\nresume\n";
    let path = folder(name).join("vocab.txt");
    fs::write(&path, pieces).unwrap();
    path
}

#[test]
fn a_bert_vocabulary_gives_the_known_ids() {
    let path = vocab_file("vocab");
    let lower = Tokenizer::load(&path, true).unwrap();
    let cased = Tokenizer::load(&path, false).unwrap();
    let cases: [(&str, &[u32], &[u32]); 6] = [
        ("heart", &[5], &[5]),
        ("Heart. HEARTS", &[5, 10, 5, 7], &[6, 10, 1]),
        ("No edema.", &[8, 9, 10], &[1, 9, 10]),
        ("Café r\u{e9}sum\u{e9}", &[11, 15], &[1, 1]),
        ("123 12 4", &[12, 13, 14, 12, 13, 1], &[12, 13, 14, 12, 13, 1]),
        ("  heart\n\tedema\u{0}", &[5, 9], &[5, 9]),
    ];
    for (text, in_lower, in_cased) in cases {
        let framed = |ids: &[u32]| [&[2], ids, &[3]].concat();
        assert_eq!(lower.encode(text).unwrap(), framed(in_lower), "{text:?}");
        assert_eq!(cased.encode(text).unwrap(), framed(in_cased), "{text:?} as it is");
    }
    let long = lower.encode(&"heart ".repeat(600)).unwrap();
    assert_eq!((long.len(), long[0], long[510], long[511]), (512, 2, 5, 3));
    // Through tokenizer.json: the same, and lower-casing on demand.
    let json = path.with_file_name("tokenizer.json");
    fs::write(&json, cased.json()).unwrap();
    assert_eq!(Tokenizer::load(&json, false).unwrap().encode("Heart").unwrap(), [2, 6, 3]);
    assert_eq!(Tokenizer::load(&json, true).unwrap().encode("Heart").unwrap(), [2, 5, 3]);
    assert_eq!(Tokenizer::load(&json, true).unwrap().vocab_size(), 16);
}

#[test]
fn a_file_that_is_no_vocabulary_is_refused() {
    let dir = folder("no-vocab");
    let cases: [(&[u8], &str); 6] = [
        (b"", "[PAD]"),
        (b"[PAD]\nheart\nlung\n", "[UNK]"),
        (b"[CLS]\n[SEP]\n[UNK]\n[PAD]\n", "id 0"),
        (b"a\nb\na\n", "line 3"),
        (b"{\"model\": 3}", "not a tokenizer"),
        (b"\xFF\xD8\xFF", "UTF-8"),
    ];
    for (content, part) in cases {
        let path = dir.join("vocab.txt");
        fs::write(&path, content).unwrap();
        let error = Tokenizer::load(&path, true).err().unwrap().to_string();
        assert!(error.contains("vocab.txt") && error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn a_vocabulary_is_trained_the_same_way_every_time() {
    let counts = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)];
    let counts = counts.into_iter().map(|(word, count)| (word.to_owned(), count)).collect();
    let vocabulary = vocabulary::train(&counts, 64);
    // 11 letters in alphabetical order, then merges: es 9, est 9, ow 7 (before lo, by its ids), low 7.
    assert_eq!(vocabulary[5..8], ["##d", "##e", "##i"]);
    let merges: Vec<_> = vocabulary[5 + 11..].iter().map(String::as_str).collect();
    assert_eq!(merges[..4], ["##es", "##est", "##ow", "low"]);
    assert!(["newest", "widest", "lower"].iter().all(|word| merges.contains(word)), "{merges:?}");
    let unique: std::collections::HashSet<_> = vocabulary.iter().collect();
    assert_eq!(unique.len(), vocabulary.len());
    assert_eq!(vocabulary::train(&counts, 20).len(), 20);
    let texts = [TEXT, "The heart is enlarged.", "No effusion, no pneumothorax; no edema."];
    let forward = Tokenizer::trained(texts.into_iter(), true).unwrap();
    let backward = Tokenizer::trained(texts.into_iter().rev(), true).unwrap();
    assert_eq!(forward.json(), backward.json());
}

#[test]
fn random_text_is_never_too_much_for_the_tokenizer() {
    let tokenizer = Tokenizer::trained([TEXT].into_iter(), true).unwrap();
    let mut rng = Rng::new(4, 0, 0);
    for _ in 0..200 {
        let text: String = (0..rng.below(300)).filter_map(|_| char::from_u32(rng.below(0x3000) as u32)).collect();
        let ids = tokenizer.encode(&text).unwrap();
        assert!((2..=512).contains(&ids.len()) && ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    }
}

#[test]
fn real_films_are_packed_without_loss() {
    let Some(source) = std::env::var_os("G2D_CXR_REAL").map(PathBuf::from) else {
        let what = "real films were not packed: G2D_CXR_REAL names no folder of pairs.csv, boxes.csv and images";
        return ledger::skipped("real-data", what, "G2D_CXR_REAL=DIR cargo test --release --test data");
    };
    let out = folder("real").join("out");
    let (table, options) =
        (PairsTable::open(&source.join("pairs.csv"), Some(&source.join("boxes.csv"))), PackOptions::new(out));
    let funnel = pack(&table.unwrap(), &options, &|_| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!((funnel.kept, funnel.dropped.len()), (funnel.rows, 0), "{funnel}");
    let dataset = Dataset::open(&options.out).unwrap();
    dataset.verify(&mut |_, _| {}).unwrap();
    for index in dataset.select(None, false) {
        let record = dataset.record(index).unwrap();
        let brightness = record.pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / record.pixels.len() as f64;
        assert!((20.0..235.0).contains(&brightness), "{}: mean {brightness}", record.id);
        assert!(record.boxes.iter().all(|one| one.x >= 0.0 && one.x + one.w <= 256.01 && one.y + one.h <= 256.01));
    }
    ledger::ran("real-data", format!("{} real films packed without loss", funnel.kept));
}
