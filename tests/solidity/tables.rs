//! Tables of every making, and texts of every length.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use g2d::data::funnel::Funnel;
use g2d::data::pairs::{Pair, Pairs};
use g2d::data::{Dataset, Error, PackOptions, PairsTable, pack};

use crate::common::command::{Ended, command, computed, empty, peak_memory};
use crate::common::films::{Png, rows};

fn options(folder: &Path, table: &[u8]) -> PackOptions {
    let rows = rows(40, 40, |x, y| 60 + (3 * x + y) as u8);
    fs::write(folder.join("a.png"), Png::gray(40, 40, 8, &rows).bytes()).unwrap();
    fs::write(folder.join("pairs.csv"), table).unwrap();
    PackOptions { size: 32, ..PackOptions::new(folder.join("out")) }
}

fn packed(options: &PackOptions) -> Result<Funnel, Error> {
    let table = PairsTable::open(&options.out.with_file_name("pairs.csv"), None)?;
    pack(&table, options, &|_| {}, &AtomicBool::new(false))
}

fn pairs(name: &str, table: &str) -> Vec<Pair> {
    let path = empty(name).join("pairs.csv");
    fs::write(&path, table).unwrap();
    Pairs::open(&path).unwrap().map(|row| row.unwrap().unwrap()).collect()
}

#[test]
fn tables_of_every_making_are_read_alike() {
    let plain = "id,image,text\na,a.png,\"No effusion, \"\"clear\"\" lungs.\nHeart normal.\"\nb,\"a.png\",Clear.\n";
    let expected = "No effusion, \"clear\" lungs.\nHeart normal.";
    for (name, table) in [
        ("plain", plain.to_owned()),
        ("bom", format!("\u{feff}{plain}")),
        ("crlf", plain.replace('\n', "\r\n")),
        ("no-last-line-end", plain.trim_end().to_owned()),
        ("blanks-in-header", plain.replacen("id,image,text", "id, image , text", 1)),
        ("empty-lines", plain.replace("b,", "\n\nb,")),
        ("quoted-header", plain.replacen("id,image,text", "\"id\",\"image\",\"text\"", 1)),
    ] {
        let found = pairs(name, &table);
        assert_eq!(found.len(), 2, "{name}");
        assert_eq!((found[0].id.as_str(), found[0].image.as_str()), ("a", "a.png"), "{name}");
        assert_eq!(
            (found[0].text.replace("\r\n", "\n").as_str(), found[1].text.as_str()),
            (expected, "Clear."),
            "{name}"
        );
        assert!(found[0].columns.is_empty() && found[1].line > found[0].line, "{name}");
    }
}

#[test]
fn other_encodings_and_open_quotes_are_refused_in_one_sentence() {
    let text = "id,image,text\na,a.png,Gro\u{df}\n";
    let units = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let latin: Vec<u8> = text.chars().map(|letter| letter as u8).collect();
    let open = format!("id,image,text\na,a.png,\"no end\n{}", "b,a.png,Clear lungs.\n".repeat(60_000));
    for (name, table, words) in [
        ("latin-1", latin, &["line 2", "not UTF-8", "Latin-1"][..]),
        ("utf-16-le", units(u16::to_le_bytes), &["line 1", "UTF-16", "save the table as UTF-8"]),
        ("utf-16-be", units(u16::to_be_bytes), &["line 1", "UTF-16"]),
        ("utf-16-bom", [vec![0xFF, 0xFE], units(u16::to_le_bytes)].concat(), &["line 1", "UTF-16"]),
        ("open-quote", open.into_bytes(), &["line 2", "a quote is not closed"]),
        (
            "short-open-quote",
            b"id,image,text\na,a.png,x\nb,b.png,\"no end\nc,c.png,y\n".into(),
            &["line 3", "a quote is not closed"],
        ),
        (
            "open-quote-in-the-last-row",
            b"id,image,text\na,a.png,x\nb,b.png,\"no end\n".into(),
            &["line 3", "a quote is not closed"],
        ),
        ("semicolons", b"id;image;text\na;a.png;x\n".into(), &["line 1", "separated by commas", "';'"]),
        ("a-picture", Png::gray(1, 1, 8, &[0, 1]).bytes(), &["line 1"]),
    ] {
        let options = options(&empty(name), &table);
        let error = packed(&options).unwrap_err().to_string();
        assert!(error.contains("pairs.csv") && words.iter().all(|word| error.contains(word)), "{name}: {error}");
        assert!(!options.out.exists() && error.len() < 1000, "{name}");
    }
}

#[test]
fn bad_rows_are_counted_or_refused_when_strict() {
    let table = "id,image,text,split\na,a.png,x,train\nb,a.png,one, too many,train\nc,a.png\n,a.png,no id,train\nd,,x,train\n\
                 e,a.png,x,dev\nf,a.png,x,val\ng,a.png,x,test\nh,a.png,x,\ni,a.png,,\nj,a.png,x,\n";
    let mut options = options(&empty("bad-rows"), table.as_bytes());
    let error = packed(&PackOptions { strict: true, ..options.clone() }).unwrap_err().to_string();
    assert!(error.contains("pairs.csv, line 3: 5 values where the header has 4"), "{error}");
    assert!(!options.out.exists());
    let funnel = packed(&options).unwrap();
    let dropped: Vec<_> = funnel.dropped.iter().map(|(reason, dropped)| (reason.as_str(), dropped.count)).collect();
    let expected = [("row: id or image is empty", 2), ("row: unknown split", 1), ("row: wrong number of values", 2)];
    assert_eq!((funnel.rows, funnel.kept, &dropped[..]), (11, 6, &expected[..]), "{funnel}");
    assert!(funnel.dropped["row: unknown split"].examples[0].starts_with("line 7, "), "{funnel}");
    Dataset::open(&options.out).unwrap().verify(&mut |_, _| {}).unwrap();
    // What concerns more than one row is never passed over.
    options.out = options.out.with_file_name("again");
    fs::write(options.out.with_file_name("pairs.csv"), format!("{table}a,a.png,x,\n")).unwrap();
    let error = packed(&options).unwrap_err().to_string();
    assert!(error.contains("line 13") && error.contains("\"a\" is already at line 2"), "{error}");
}

#[test]
fn empty_and_endless_texts_are_packed() {
    let letters = "x".repeat(100_000);
    let words = "No pleural effusion. ".repeat(100_000 / 21);
    let table = format!(
        "id,image,text,split\na,a.png,,train\nb,a.png,{letters},train\nc,a.png,{words},train\nd,a.png,   ,train\n"
    );
    let options = options(&empty("texts"), table.as_bytes());
    let start = Instant::now();
    let funnel = packed(&options).unwrap();
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    assert_eq!((funnel.kept, funnel.empty_text, funnel.longest_texts), (4, 2, 1), "{funnel}");
    let dataset = Dataset::open(&options.out).unwrap();
    let [letters_of, words_of] = [1, 2].map(|film| dataset.record(film).unwrap());
    assert_eq!((letters_of.text.as_str(), letters_of.tokens), (letters.as_str(), &[2, 1, 3][..]), "one unknown word");
    assert_eq!((words_of.text.as_str(), words_of.tokens.len()), (words.trim(), 512));
}

#[test]
fn a_million_rows_take_seconds_and_little_memory() {
    let folder = empty("million");
    let mut table = String::from("id,image,text,patient_id\n");
    for row in 0..1_000_000 {
        writeln!(table, "f{row},none.png,\"Film {row}: no focal consolidation, no effusion.\",p{}", row / 3).unwrap();
    }
    fs::write(folder.join("pairs.csv"), table).unwrap();
    fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nno\n").unwrap();
    let arguments = ["pack", "--pairs", "pairs.csv", "--out", "out", "--tokenizer", "vocab.txt", "--size", "32"];
    let mut child = command(&folder, &arguments).spawn().unwrap();
    let (mut most, mut seconds) = (0, 0.0);
    while child.try_wait().unwrap().is_none() {
        most = peak_memory(&child).map_or(most, |bytes| bytes.max(most));
        seconds = computed(&child).unwrap_or(seconds);
        std::thread::sleep(Duration::from_millis(2));
    }
    let ended = Ended::of(child.wait_with_output().unwrap());
    // The table is read to its end, and every film looked for, before it is said that there are none.
    ended.refused(&["1000000 of 1000000 rows", "image: file missing: 1000000 (first: line 2, id f0"]);
    assert!(most > 0 && most < 300_000_000, "{} MB", most / 1_000_000);
    assert!(seconds < 30.0, "{seconds} s");
    fs::remove_file(folder.join("pairs.csv")).unwrap();
}
