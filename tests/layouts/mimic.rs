//! `g2d pack mimic`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use g2d::data::layout::{self, Captions};
use g2d::data::rows::Rows;
use g2d::data::{Dataset, Split};

use super::command::{empty, g2d, listing};
use super::mimic_tree::{Film, Kind, LABELS, State, Study, Tree, make};
use super::{filter, filters, packed, warned, write};

const LINE: &str = "pack mimic --images jpg --reports cxr --size 16 --out out";

/// Films left after each filter, counted on what was made.
fn expected(tree: &Tree, captions: Captions) -> Vec<u64> {
    let mut films: Vec<(&Study, &Film)> = tree.films().collect();
    let mut counts = vec![films.len() as u64; 3];
    let mut keep = |wanted: &dyn Fn(&Study, &Film) -> bool| {
        films.retain(|(study, film)| wanted(study, film));
        counts.push(films.len() as u64);
    };
    keep(&|_, film| !matches!(film.state, State::NotInSplit | State::OtherStudyInSplit));
    keep(&|_, film| ["PA", "AP"].contains(&film.view));
    keep(&|study, _| study.kind != Kind::Missing);
    let whole = captions == Captions::Default;
    if !whole {
        keep(&|study, _| study.kind != Kind::Range);
    }
    keep(&|study, _| study.kind.has_sections() || whole && matches!(study.kind, Kind::LastParagraph | Kind::Range));
    keep(&|study, _| captions != Captions::Mgca || study.kind != Kind::Short);
    keep(&|_, film| film.state == State::Fine);
    counts
}

#[test]
fn a_tree_of_a_thousand_studies_gives_the_funnel_that_was_made() {
    let folder = empty("mimic-thousand");
    let tree = make(&folder, 1000, 1, ".gz");
    for (word, captions) in [("default", Captions::Default), ("mgca", Captions::Mgca), ("official", Captions::Official)]
    {
        let _ = fs::remove_dir_all(folder.join("out"));
        let funnel = packed(&folder, &format!("{LINE} --captions {word}"));
        let mut counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
        counts.push(funnel["kept"].as_u64().unwrap());
        assert_eq!(counts, expected(&tree, captions), "{word}: {funnel:#}");
        assert!(filter(&funnel, "films in")["reported"].as_str().unwrap().contains("377,110"));
        let missing = filter(&funnel, "with a report")["examples"].as_array().unwrap();
        assert!(missing.len() == 3 && missing[0].as_str().unwrap().contains("there is no files/p1"), "{missing:?}");
    }
}

/// Writes the tree that `tests/oracle/chain.py` packs, trains on and exports from, and what its funnel has to be.
#[test]
#[ignore = "writes into the folder G2D_CHAIN_CASE; tests/oracle/weights runs it"]
fn the_tree_of_the_chain_is_written() {
    let folder = std::path::PathBuf::from(std::env::var_os("G2D_CHAIN_CASE").expect("G2D_CHAIN_CASE names a folder"));
    let mut tree = make(&folder, 1000, 1, ".gz");
    // A run is validated on all films of this split, and twice: a few are enough.
    for study in tree.studies.iter_mut().skip(50).filter(|study| study.split == "validate") {
        study.split = "test";
    }
    tree.write_tables(".gz");
    let counts = serde_json::to_vec(&expected(&tree, Captions::Default)).unwrap();
    fs::write(folder.join("funnel.json"), counts).unwrap();
}

#[test]
fn films_carry_text_labels_view_patient_and_the_official_split() {
    let folder = empty("mimic-carried");
    let tree = make(&folder, 60, 2, "");
    let funnel = packed(&folder, LINE);
    let made: BTreeMap<&str, (&Study, &Film)> =
        tree.films().map(|(study, film)| (film.dicom.as_str(), (study, film))).collect();
    let dataset = Dataset::open(&folder.join("out")).unwrap();
    for index in 0..dataset.len() {
        let record = dataset.record(index).unwrap();
        let (study, film) = made[record.id.as_str()];
        assert_eq!(record.text, study.text(), "{:?}", study.kind);
        assert_eq!((record.view.as_str(), record.patient_id), (film.view, study.subject.to_string()));
        assert_eq!(Some(record.split), Split::parse(study.split));
        assert_eq!(record.columns["study_id"], format!("s{}", study.id));
        let labelled = |value: &str| study.labels.map_or(0, |all| all.iter().filter(|&&one| one == value).count());
        let count = |list: &str| list.split(';').filter(|label| !label.is_empty()).count();
        assert_eq!(count(&record.findings), labelled("1.0"), "{}", record.findings);
        for (column, value) in [("absent", "0.0"), ("uncertain", "-1.0")] {
            assert_eq!(record.columns.get(column).map_or(0, |list| count(list)), labelled(value));
        }
    }
    for (split, digest) in funnel["split_digests"].as_object().unwrap() {
        assert_eq!(*digest, dataset.split_digest(Split::parse(split).unwrap()).unwrap());
    }
    assert!(warned(&funnel, &["studies have no row in the table of labels"]), "{funnel}");
}

#[test]
fn the_tree_the_sectioned_table_and_the_master_table_give_the_same_films() {
    let folder = empty("mimic-sources");
    let tree = make(&folder, 120, 3, ".gz");
    tree.write_sectioned(&folder.join("mimic_cxr_sectioned.csv"));
    tree.write_master(&folder.join("master.csv"));
    let digests = ["cxr", "mimic_cxr_sectioned.csv", "master.csv"].map(|reports| {
        let _ = fs::remove_dir_all(folder.join("out"));
        let line = LINE.replace("--reports cxr", &format!("--reports {reports}"));
        let funnel = packed(&folder, &format!("{line} --captions mgca"));
        let dataset = Dataset::open(&folder.join("out")).unwrap();
        let texts: Vec<String> = (0..dataset.len()).map(|film| dataset.record(film).unwrap().text).collect();
        (funnel["split_digests"].clone(), texts)
    });
    assert!(digests[0].1.len() > 50 && digests[0] == digests[1] && digests[1] == digests[2]);
    // Without the official table validation and test are one, as MGCA merged them.
    fs::remove_file(tree.table("split", ".gz")).unwrap();
    let line = LINE.replace("--reports cxr --size 16 --out out", "--reports master.csv --size 16 --out merged");
    let funnel = packed(&folder, &line);
    assert!(funnel["splits"]["val"].as_u64() > Some(0) && funnel["splits"]["test"].is_null(), "{funnel}");
}

#[test]
fn what_the_table_of_sections_leaves_out_by_its_rules_is_no_fault() {
    let folder = empty("mimic-strict");
    let mut tree = make(&folder, 40, 3, "");
    for study in &mut tree.studies {
        study.films.retain(|film| film.state == State::Fine);
    }
    tree.studies.retain(|study| study.kind != Kind::Missing);
    let frontal = |film: &&Film| ["PA", "AP"].contains(&film.view);
    let ranges = tree.studies.iter_mut().find(|study| study.kind == Kind::Range).expect("one has a rule of its own");
    let own = &mut ranges.films;
    if !own.iter().any(|film| frontal(&film)) {
        own.iter_mut().for_each(|film| film.view = "PA");
    }
    let dropped = own.iter().filter(frontal).count() as u64;
    assert!(dropped > 0);
    tree.write_tables("");
    tree.write_sectioned(&folder.join("sectioned.csv"));
    for captions in ["default", "mgca"] {
        let _ = fs::remove_dir_all(folder.join("out"));
        let line = LINE.replace("--reports cxr", "--reports sectioned.csv");
        let funnel = packed(&folder, &format!("{line} --strict --captions {captions}"));
        let left = filter(&funnel, "rules of their own");
        assert_eq!(
            (left["dropped"].as_u64(), filter(&funnel, "with a report")["dropped"].as_u64()),
            (Some(dropped), Some(0))
        );
    }
    // A study that no rule leaves out has to be there.
    write(&folder.join("sectioned.csv"), b"study,impression,findings,last_paragraph\ns1,a,b,c\n");
    let line = LINE.replace("--reports cxr", "--reports sectioned.csv --strict").replace("--out out", "--out none");
    g2d(&folder, &line).refused(&["is not in the table of sections"]);
}

#[test]
fn views_are_chosen_by_name() {
    let folder = empty("mimic-views");
    let tree = make(&folder, 40, 4, "");
    let funnel = packed(&folder, &format!("{LINE} --views LATERAL,LL"));
    let joined = |film: &Film| !matches!(film.state, State::NotInSplit | State::OtherStudyInSplit);
    let lateral = tree.films().filter(|(_, film)| joined(film) && ["LATERAL", "LL"].contains(&film.view)).count();
    assert_eq!(filter(&funnel, "of view LATERAL or LL")["kept"].as_u64(), Some(lateral as u64));
    g2d(&folder, &LINE.replace("--size", "--views XX --size")).refused(&["no film is left", "of view XX"]);
}

/// A small tree and a change to it, after which packing is refused with these words and leaves nothing.
#[track_caller]
fn refused(name: &str, change: impl Fn(&Tree), line: &str, words: &[&str]) {
    let folder = empty(name);
    let tree = make(&folder, 30, 5, ".gz");
    change(&tree);
    let before = listing(&folder);
    g2d(&folder, line).refused(words);
    assert_eq!(before, listing(&folder));
}

#[test]
fn tables_that_are_missing_cut_short_or_do_not_join_are_refused_in_one_sentence() {
    let remove = |name: &'static str| move |tree: &Tree| fs::remove_file(tree.table(name, ".gz")).unwrap();
    let no_table = ["there is no mimic-cxr-2.0.0-metadata.csv.gz or mimic-cxr-2.0.0-metadata.csv in jpg"];
    refused("mimic-no-metadata", remove("metadata"), LINE, &no_table);
    refused("mimic-no-split", remove("split"), LINE, &["there is no mimic-cxr-2.0.0-split.csv.gz", "in jpg"]);
    let no_reports = ["there is no folder files with reports in jpg/files"];
    refused("mimic-no-reports", |_| {}, &LINE.replace("--reports cxr", "--reports jpg/files"), &no_reports);
    let cut = |tree: &Tree| {
        let path = tree.table("metadata", ".gz");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    };
    refused("mimic-cut", cut, LINE, &["metadata.csv.gz", "damaged or cut short", "fetch it again"]);
    let strangers = |tree: &Tree| {
        let rows = "dicom_id,study_id,subject_id,split\nx,50000001,10000001,train\n";
        write(&tree.table("split", ".gz"), rows.as_bytes());
    };
    let words = [
        "rows could not be used",
        "not in mimic-cxr-2.0.0-split.csv.gz with the same",
        "it is not in mimic",
        "; line 3",
    ];
    refused("mimic-join", strangers, LINE, &words);
    let wrong = |tree: &Tree| write(&tree.table("split", ".gz"), b"dicom_id,study_id,subject_id,split\nx,1,1,dev\n");
    refused("mimic-word", wrong, LINE, &["split.csv.gz, line 2", "\"dev\" is none of train, validate, test"]);
    let table = |tree: &Tree| write(&tree.images.join("other.csv"), b"impression,findings\na,b\n");
    refused(
        "mimic-table",
        table,
        &LINE.replace("--reports cxr", "--reports jpg/other.csv"),
        &["neither the column study"],
    );
}

#[test]
fn duplicates_and_broken_rows_are_counted_or_refused_when_strict() {
    let folder = empty("mimic-duplicates");
    let tree = make(&folder, 30, 6, "");
    let path = tree.table("metadata", "");
    let table = fs::read_to_string(&path).unwrap();
    let second = table.lines().nth(1).unwrap();
    fs::write(&path, format!("{table}{second}\nzz,none,none,a,PA,1,1,1,1,a,b,c\n")).unwrap();
    let funnel = packed(&folder, LINE);
    let count = table.lines().count();
    let again = filter(&funnel, "first time");
    let example = again["examples"][0].as_str().unwrap();
    let unreadable = filter(&funnel, "readable row")["dropped"].as_u64();
    assert_eq!((again["dropped"].as_u64(), unreadable), (Some(1), Some(1)));
    assert!(example.starts_with(&format!("line {}", count + 1)) && example.contains("already at line 2"), "{example}");
    g2d(&folder, &LINE.replace("--out out", "--strict --out strict")).refused(&["metadata.csv, line "]);
}

/// A table as long as the real one is read, joined and filtered.
#[test]
fn the_real_number_of_rows_is_read_and_joined_in_seconds() {
    use std::fmt::Write;
    let folder = empty("mimic-rows");
    let mut metadata = "dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\n".to_owned();
    let mut split = "dicom_id,study_id,subject_id,split\n".to_owned();
    let mut sectioned = "study,impression,findings,last_paragraph,comparison\n".to_owned();
    let mut labels = format!("{LABELS}\n");
    let rows = 377_110;
    for row in 0..rows {
        let (subject, study) = (10_000_000 + row / 6, 50_000_000 + row / 2);
        let dicom = format!("{row:08x}-00000000-00000000-00000000-00000000");
        let view = ["PA", "AP", "LATERAL"][row % 3];
        writeln!(metadata, "{dicom},{subject},{study},{view},2544,3056").unwrap();
        writeln!(split, "{dicom},{study},{subject},train").unwrap();
        if row % 2 == 0 {
            writeln!(sectioned, "s{study},\"1. No acute disease.\n 2. Line in place.\",Lungs are clear.,,").unwrap();
            writeln!(labels, "{subject},{study},1.0{}", ",".repeat(13)).unwrap();
        }
    }
    for (name, text) in [("metadata", metadata), ("split", split), ("chexpert", labels)] {
        write(&folder.join(format!("jpg/mimic-cxr-2.0.0-{name}.csv.gz")), text.as_bytes());
    }
    write(&folder.join("sectioned.csv"), sectioned.as_bytes());
    let what = layout::Mimic {
        images: folder.join("jpg"),
        reports: folder.join("sectioned.csv"),
        captions: Captions::Mgca,
        views: vec!["PA".into(), "AP".into()],
    };
    let (films, seconds) = timed(|| layout::mimic::open(&what, false, 0, &|_| {}, &AtomicBool::new(false)).unwrap());
    println!("{rows} rows were read, joined and filtered in {seconds:.1} s");
    assert!(films.warnings(&|_| true).is_empty(), "all tables join");
    assert!(films.read().unwrap().all(|row| row.unwrap().unwrap().findings == "Atelectasis"));
    assert_eq!(films.filters().last().unwrap().kept, rows - rows / 3);
    assert_eq!(films.read().unwrap().count(), rows - rows / 3);
    let most = if cfg!(debug_assertions) { 60.0 } else { 10.0 };
    assert!(seconds < most, "{seconds} s");
}

/// What some work gives, and how many seconds this thread computed for it, since other processes and tests share the
/// machine; where the system does not tell, seconds on the clock.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let computed = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    let (begun, before) = (std::time::Instant::now(), computed());
    let done = work();
    let seconds = match (before, computed()) {
        // Some kernels have the file and only zeros in it.
        (Some(before), Some(after)) if after > before => (after - before) / 1e9,
        _ => begun.elapsed().as_secs_f64(),
    };
    (done, seconds)
}
