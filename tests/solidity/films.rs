//! Films of every kind of file.

use std::fs;
use std::path::PathBuf;

use g2d::data::decode::{Fault, Film, Samples, film};

use crate::common::command::{self, command, empty, with_peak_memory};
use crate::common::films::{Png, cmyk_jpeg, interlaced_rows, rows};

const SIDE: usize = 40;

/// A picture without borders, 60 to 216.
fn value(x: usize, y: usize) -> u8 {
    60 + (x * 3 + y) as u8
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = empty(&format!("film-{name}")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn eight(film: Film) -> Vec<u8> {
    match film.samples {
        Samples::Eight(values) => values,
        Samples::Sixteen(_) => panic!("8 bits were expected"),
    }
}

fn picture() -> Vec<u8> {
    (0..SIDE * SIDE).map(|at| value(at % SIDE, at / SIDE)).collect()
}

fn gray() -> Vec<u8> {
    Png::gray(SIDE as u32, SIDE as u32, 8, &rows(SIDE, SIDE, value)).bytes()
}

#[test]
fn every_kind_of_png_gives_the_same_picture() {
    let side = SIDE as u32;
    let plain = rows(SIDE, SIDE, value);
    let woven = interlaced_rows(SIDE, SIDE, value);
    let sixteen: Vec<u8> = plain
        .chunks(SIDE + 1)
        .flat_map(|row| {
            row.iter().enumerate().flat_map(|(at, &value)| if at == 0 { vec![0] } else { vec![value, 0x80] })
        })
        .collect();
    let with_alpha: Vec<u8> = plain
        .chunks(SIDE + 1)
        .flat_map(|row| {
            row.iter().enumerate().flat_map(|(at, &value)| if at == 0 { vec![0] } else { vec![value, (at * 5) as u8] })
        })
        .collect();
    let palette = || (*b"PLTE", (0..=255u8).flat_map(|level| [level; 3]).collect::<Vec<u8>>());
    let clear = || (*b"tRNS", vec![0; 100]);
    let frames = vec![
        (*b"acTL", [0, 0, 0, 2, 0, 0, 0, 0].to_vec()),
        (
            *b"fcTL",
            [[0, 0, 0, 0], side.to_be_bytes(), side.to_be_bytes(), [0; 4], [0; 4], [0, 1, 0, 10], [0; 4]].concat()
                [..26]
                .to_vec(),
        ),
    ];
    let base = Png::gray(side, side, 8, &plain);
    let kinds = [
        ("gray.png", base.clone()),
        ("wrong-extension.jpg", base.clone()),
        ("no-extension", base.clone()),
        ("interlaced.png", Png { interlaced: true, rows: &woven, ..base.clone() }),
        ("palette.png", Png { colour: 3, chunks: vec![palette()], ..base.clone() }),
        ("palette-clear.png", Png { colour: 3, chunks: vec![palette(), clear()], ..base.clone() }),
        ("gray-alpha.png", Png { colour: 4, rows: &with_alpha, ..base.clone() }),
        ("gray-key.png", Png { chunks: vec![(*b"tRNS", vec![0, 100])], ..base.clone() }),
        ("animated.png", Png { chunks: frames, ..base.clone() }),
    ];
    for (name, png) in kinds {
        let film = film(&written(name, &png.bytes())).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!((film.width, film.height), (SIDE, SIDE), "{name}");
        assert_eq!(eight(film), picture(), "{name}");
    }
    let wide = film(&written("sixteen.png", &Png { bits: 16, rows: &sixteen, ..base }.bytes())).unwrap();
    let Samples::Sixteen(values) = wide.samples else { panic!("16 bits were expected") };
    assert!(values.iter().zip(picture()).all(|(&wide, value)| wide == u16::from(value) << 8 | 0x80));
}

#[test]
fn a_cmyk_jpeg_becomes_gray() {
    let level = |x: u16, y: u16| (20 + x * 25 + y * 20) as u8;
    let film = film(&written("cmyk.jpg", &cmyk_jpeg(6, 4, level))).unwrap();
    assert_eq!((film.width, film.height), (48, 32));
    for (at, &gray) in eight(film).iter().enumerate() {
        let expected = level((at % 48 / 8) as u16, (at / 48 / 8) as u16);
        assert!(gray.abs_diff(expected) <= 2, "pixel {at}: {gray}, not {expected}");
    }
}

/// A ramp drawn for this test, written by Pillow at quality 100: several scans over the whole film.
#[test]
fn a_progressive_jpeg_is_read_whole() {
    let bytes = include_bytes!("progressive.jpg");
    assert!(bytes.windows(2).any(|pair| pair == [0xFF, 0xC2]), "progressive");
    let film = film(&written("progressive.jpg", bytes)).unwrap();
    assert_eq!((film.width, film.height), (16, 8));
    for (at, &gray) in eight(film).iter().enumerate() {
        let expected = (at % 16 * 10 + at / 16 * 4) as u8;
        assert!(gray.abs_diff(expected) <= 2, "pixel {at}: {gray}, not {expected}");
    }
}

#[test]
fn what_is_no_film_is_a_fault_with_its_reason() {
    let gray = gray();
    let whole = Png::gray(SIDE as u32, SIDE as u32, 8, &[]);
    let jpeg = cmyk_jpeg(4, 4, |x, y| (x * 40 + y) as u8);
    let size_at = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap() + 5;
    let mut flat = jpeg.clone();
    flat[size_at..size_at + 2].fill(0);
    let mut huge = jpeg.clone();
    huge[size_at..size_at + 4].fill(0xFF);
    let reason = |name: &str, bytes: &[u8]| film(&written(name, bytes)).unwrap_err();
    for (name, bytes, expected) in [
        ("empty.png", &b""[..], "it is empty"),
        ("text.png", b"this is no picture", "neither PNG, JPEG nor DICOM"),
        ("moving.gif", b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,", "neither PNG, JPEG nor DICOM"),
        ("flat.png", &Png { width: 0, ..whole.clone() }.bytes(), "no pixels"),
        ("flat.jpg", &flat, "no pixels"),
        ("no-data.png", &whole.bytes(), "damaged"),
        ("cut-header.png", &gray[..20], "damaged"),
        ("cut.png", &gray[..gray.len() / 2], "damaged"),
        ("cut-header.jpg", &jpeg[..30], "damaged"),
        ("cut.jpg", &jpeg[..jpeg.len() - 2], "no end marker"),
        // Refused by what the header says, before any memory is taken.
        (
            "huge.png",
            &Png { width: 1 << 14, height: 1 << 14, bits: 16, colour: 6, ..whole.clone() }.bytes(),
            "2048 MiB",
        ),
        ("endless.png", &Png { width: u32::MAX, height: u32::MAX, ..whole }.bytes(), "MiB"),
        ("huge.jpg", &huge, "65535 x 65535"),
    ] {
        let fault = reason(name, bytes).to_string();
        assert!(fault.contains(expected), "{name}: {fault}");
    }
    // Too small to be a film, but an image: one pixel is one value.
    let one = film(&written("one.png", &Png::gray(1, 1, 8, &[0, 7]).bytes())).unwrap();
    assert_eq!((one.width, one.height, eight(one)), (1, 1, vec![7]));
}

#[test]
fn no_file_is_a_fault_too() {
    let folder = empty("no-file");
    assert_eq!(film(&folder.join("none.png")).unwrap_err(), Fault::Missing);
    assert!(matches!(film(&folder).unwrap_err(), Fault::Unreadable(why) if why.contains("folder")));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("b.png", folder.join("a.png")).unwrap();
        std::os::unix::fs::symlink("a.png", folder.join("b.png")).unwrap();
        let fault = film(&folder.join("a.png")).unwrap_err();
        assert!(matches!(&fault, Fault::Unreadable(_)), "{fault}");
        // A pipe nobody writes to: reading it would wait forever.
        let pipe = folder.join("pipe.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(matches!(film(&pipe).unwrap_err(), Fault::Unreadable(why) if why.contains("pipe")));
    }
}

/// Packs a table of these films, a row each, and tells the most memory it took.
fn packed(name: &str, files: &[(&str, Vec<u8>)], rows: usize, more: &[&str]) -> (command::Ended, u64) {
    let folder = empty(name);
    for (file, bytes) in files {
        fs::write(folder.join(file), bytes).unwrap();
    }
    let lines = (0..rows).map(|row| format!("film-{row},{},No effusion.\n", files[row % files.len()].0));
    fs::write(folder.join("pairs.csv"), lines.fold("id,image,text\n".to_owned(), |all, line| all + &line)).unwrap();
    let arguments = ["pack", "--pairs", "pairs.csv", "--out", "out", "--size", "64"];
    with_peak_memory(command(&folder, &[&arguments[..], more].concat()))
}

#[test]
fn a_film_of_16384_by_16384_is_packed_below_1_gb() {
    let side = 1 << 14;
    let rows: Vec<u8> = (0..side)
        .flat_map(|y| [vec![0], vec![if y / 512 % 2 == 0 { 0x0F } else { 0xF3 }; side / 8]].concat())
        .collect();
    let bytes = Png::gray(side as u32, side as u32, 1, &rows).bytes();
    let (ended, most) = packed("sixteen-k", &[("16k.png", bytes)], 2, &["--threads", "2"]);
    assert!(ended.done().contains("2 kept"));
    assert!(most > 0 && most < 1_000_000_000, "{} MB", most / 1_000_000);
}

#[test]
fn many_films_of_2000_by_2000_are_packed_well_below_1_gb() {
    let noise = |x: usize, y: usize| (x.wrapping_mul(2_654_435_761).wrapping_add(y * 40_503) >> 7) as u8;
    let bytes = Png::gray(2000, 2000, 8, &rows(2000, 2000, noise)).bytes();
    let (ended, most) = packed("many", &[("a.png", bytes)], 200, &["--threads", "8"]);
    assert!(ended.done().contains("200 kept"));
    assert!(most > 0 && most < 500_000_000, "{} MB", most / 1_000_000);
}

#[test]
fn strict_packing_ends_at_the_first_bad_row() {
    let files = [("good.png", gray()), ("other.png", gray()), ("cut.png", gray()[..90].to_vec())];
    let (ended, _) = packed("lenient", &files, 6, &[]);
    let text = ended.done();
    assert!(text.contains("4 kept") && text.contains("2 dropped: image: damaged"), "{text}");
    let (ended, _) = packed("strict", &files, 6, &["--strict"]);
    ended.refused(&["pairs.csv, line 4", "film-2", "cut.png", "--strict"]);
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("solidity/strict/out");
    assert!(out.with_file_name("pairs.csv").exists() && !out.exists());
}
