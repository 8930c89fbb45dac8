//! DICOM: every kind of file against pydicom, bad files, and folders packed without a trace of whose they are.
#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::command::{empty, g2d, listing};
use dicom_core::value::{DataSetSequence, PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use g2d::base::random::Rng;
use g2d::data::decode::{Fault, Samples, film};
use g2d::data::{Dataset, Split};
use proptest::prelude::*;
use serde_json::Value as Json;

/// Files of every kind and what pydicom makes of them: `tests/oracle/dicom.py`.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dicom")
}

fn levels(samples: Samples) -> (u64, Vec<i64>) {
    match samples {
        Samples::Eight(values) => (8, values.into_iter().map(i64::from).collect()),
        Samples::Sixteen(values) => (16, values.into_iter().map(i64::from).collect()),
    }
}

#[test]
fn gray_is_what_pydicom_gives() {
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: BTreeMap<String, Json> = serde_json::from_str(&text).unwrap();
    assert!(expected.len() >= 28, "{} pictures", expected.len());
    for (name, wanted) in expected {
        let film = film(&fixtures().join(format!("{name}.dcm"))).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!((film.width, film.height), (16, 12), "{name}");
        let (bits, gray) = levels(film.samples);
        let theirs: Vec<i64> = wanted["gray"].as_array().unwrap().iter().map(|one| one.as_i64().unwrap()).collect();
        assert_eq!(bits, wanted["bits"].as_u64().unwrap(), "{name}");
        let farthest = gray.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).max().unwrap();
        // Decoders of lossy JPEG may differ by a level.
        let bound = if name == "jpeg-baseline" { 1 } else { 0 };
        assert!(gray.len() == theirs.len() && farthest <= bound, "{name}: {farthest} levels off");
    }
}

fn fault(path: &Path) -> Fault {
    film(path).expect_err("this is no film that is read")
}

#[test]
fn codings_that_are_not_read_are_named() {
    let said = fault(&fixtures().join("refused-jpeg-ls.dcm")).reason().into_owned();
    assert!(said.contains(uids::JPEGLS_LOSSLESS) && said.contains("JPEG-LS Lossless"), "{said}");
    let said = fault(&fixtures().join("refused-jpeg-12.dcm")).reason().into_owned();
    assert!(said.contains("lossy JPEG of 12 bits"), "{said}");
}

/// A file in the making.
struct Made {
    object: InMemDicomObject,
    syntax: &'static str,
    film: String,
}

impl Made {
    /// A film of smooth gray in 12 bits.
    fn film(seed: u64, rows: u16, columns: u16) -> Self {
        let mut drawn = Rng::new(seed, 7, 0);
        let [a, b] = [drawn.unit() * 20.0 + 9.0, drawn.unit() * 20.0 + 9.0];
        let value = |at: usize| {
            let (x, y) = ((at % usize::from(columns)) as f64, (at / usize::from(columns)) as f64);
            (2047.0 + ((x / a).sin() + (y / b).cos()) * 900.0) as u16
        };
        let pixels: Vec<u16> = (0..usize::from(rows) * usize::from(columns)).map(value).collect();
        let film = format!("1.2.826.0.1.{seed}");
        let mut made = Self { object: InMemDicomObject::new_empty(), syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN, film };
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::ROWS, rows),
            (tags::COLUMNS, columns),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, 12),
            (tags::HIGH_BIT, 11),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            made = made.number(tag, value);
        }
        made = made.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2").text(tags::MODALITY, VR::CS, "DX");
        made.object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into())));
        made
    }

    fn number(mut self, tag: Tag, value: u16) -> Self {
        self.object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        self
    }

    fn text(mut self, tag: Tag, vr: VR, value: &str) -> Self {
        self.object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        self
    }

    fn without(mut self, tag: Tag) -> Self {
        self.object.remove_element(tag);
        self
    }

    fn coded(mut self, syntax: &'static str, fragments: &[&[u8]]) -> Self {
        let fragments: Vec<Vec<u8>> = fragments.iter().map(|bytes| bytes.to_vec()).collect();
        let sequence = PixelFragmentSequence::new(Vec::<u32>::new(), fragments);
        self.object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(sequence)));
        self.syntax = syntax;
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        let film = self.film.clone();
        self.object.put(DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from(film.as_str())));
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(self.syntax)
            .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.1.1")
            .media_storage_sop_instance_uid(film);
        let mut bytes = Vec::new();
        self.object.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
        // What is written to a writer has no preamble.
        if bytes.starts_with(b"DICM") { [&[0; 128][..], &bytes].concat() } else { bytes }
    }

    fn save(self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.bytes()).unwrap();
    }
}

#[test]
fn bits_above_and_below_the_stored_ones_are_left_out() {
    let folder = empty("high-bit");
    let words: Vec<u16> = (0..64u16).map(|at| at << 4 | 0xF00F).collect();
    let mut made = Made::film(1, 8, 8).number(tags::BITS_STORED, 8).number(tags::HIGH_BIT, 11);
    made.object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into())));
    made.save(&folder.join("a.dcm"));
    assert_eq!(levels(film(&folder.join("a.dcm")).unwrap().samples), (8, (0..64).collect()));
}

#[test]
fn what_is_no_film_in_gray_is_refused_in_one_sentence() {
    let folder = empty("refused");
    let path = folder.join("a.dcm");
    let film = || Made::film(3, 20, 30);
    let mut item = InMemDicomObject::new_empty();
    item.put(DataElement::new(tags::LUT_DESCRIPTOR, VR::US, PrimitiveValue::Empty));
    let cases: Vec<(Made, &str)> = vec![
        (film().text(tags::NUMBER_OF_FRAMES, VR::IS, "2"), "several frames"),
        (film().number(tags::SAMPLES_PER_PIXEL, 3), "in colour"),
        (film().text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"), "in colour"),
        (film().without(tags::PHOTOMETRIC_INTERPRETATION), "photometric interpretation is missing"),
        (film().number(tags::BITS_ALLOCATED, 32), "32 bits allocated"),
        (film().number(tags::BITS_STORED, 0), "0 bits stored"),
        (film().number(tags::HIGH_BIT, 3), "contradict each other"),
        (film().number(tags::ROWS, 0), "no pixels"),
        (film().without(tags::COLUMNS), "(0028,0011) is missing"),
        (film().without(tags::PIXEL_DATA), "no pixel data"),
        (film().number(tags::ROWS, 21), "fewer pixels"),
        (film().number(tags::ROWS, 60000).number(tags::COLUMNS, 60000), "make the image smaller"),
        (film().text(tags::WINDOW_CENTER, VR::DS, "wide"), "(0028,1050) is not a number"),
        (film().coded(uids::RLE_LOSSLESS, &[b"too short"]), "RLE pixel data cannot be decoded"),
        (film().coded(uids::JPEG_BASELINE8_BIT, &[b"no JPEG!"]), "JPEG pixel data cannot be decoded"),
        (film().coded(uids::JPEG2000, &[b"no JPEG "]), "JPEG 2000 pixel data cannot be decoded"),
        (film().coded(uids::JPEGXL, &[b"JXL"]), "1.2.840.10008.1.2.4.112"),
    ];
    for (made, said) in cases {
        made.save(&path);
        let fault = fault(&path).to_string();
        assert!(fault.contains(said), "{fault}, not {said:?}");
    }
    let mut made = film();
    made.object.put(DataElement::new(tags::VOILUT_SEQUENCE, VR::SQ, DataSetSequence::from(vec![item])));
    made.save(&path);
    assert!(g2d::data::decode::film(&path).is_ok(), "an empty table is no table");
}

#[test]
fn lengths_are_believed_as_far_as_the_file_goes() {
    let folder = empty("lengths");
    let path = folder.join("a.dcm");
    let whole = Made::film(4, 20, 30).text(tags::PATIENT_COMMENTS, VR::LT, "none").bytes();
    // Every length field that can be found is made enormous: two bytes or four behind the name of a kind of value.
    let mut tried = 0;
    for at in 132..whole.len() - 12 {
        let long = [b"OB", b"OW", b"UN", b"UT", b"SQ"].iter().any(|kind| whole[at..].starts_with(*kind));
        let mut bytes = whole.clone();
        let field = if long { at + 4..at + 8 } else { at + 2..at + 4 };
        bytes[field].fill(0xFE);
        if whole[at].is_ascii_uppercase() && whole[at + 1].is_ascii_uppercase() {
            fs::write(&path, bytes).unwrap();
            let _ = film(&path); // a film or a fault
            tried += 1;
        }
    }
    assert!(tried > 10, "{tried} fields");
}

/// Every kind of coding, small.
fn valid() -> Vec<Vec<u8>> {
    let files = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "dcm")).collect();
    files.sort();
    files.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn any_damage(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dicom-{name}-{}.dcm", std::process::id()));
    fs::write(&path, bytes).unwrap();
    if let Err(fault) = film(&path) {
        assert!(!fault.to_string().contains('\n'), "{fault}");
    }
    let _ = g2d::data::decode::dicom::identity(&path);
    fs::remove_file(&path).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncated_files_give_a_film_or_a_fault(which: prop::sample::Index, end: prop::sample::Index) {
        let files = valid();
        let bytes = which.get(&files);
        let end = end.index(bytes.len());
        any_damage("cut", &bytes[..end]);
    }

    #[test]
    fn flipped_bytes_give_a_film_or_a_fault(
        which: prop::sample::Index, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let files = valid();
        let mut bytes = which.get(&files).clone();
        for (at, value) in flips {
            // Behind the preamble, where it tells.
            let at = 132 + at.index(bytes.len() - 132);
            bytes[at] = value;
        }
        any_damage("flipped", &bytes);
    }
}

/// Elements that say who somebody is, each with a value that occurs nowhere else.
fn plant(made: Made, number: usize) -> (Made, Vec<String>) {
    let names = [
        (tags::PATIENT_NAME, VR::PN, "Quastenflosser^Xaver"),
        (tags::PATIENT_ID, VR::LO, "KENNUNG-77"),
        (tags::PATIENT_BIRTH_DATE, VR::DA, "193102"),
        (tags::PATIENT_ADDRESS, VR::LO, "Zwetschgenweg"),
        (tags::OTHER_PATIENT_NAMES, VR::PN, "Nebenname^Yrsa"),
        (tags::PATIENT_COMMENTS, VR::LT, "Kommentar"),
        (tags::INSTITUTION_NAME, VR::LO, "Spital Wolkenkuckucksheim"),
        (tags::INSTITUTION_ADDRESS, VR::ST, "Anstaltsgasse"),
        (tags::STATION_NAME, VR::SH, "GERAET-XQ"),
        (tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Zuweiser^Quirin"),
        (tags::OPERATORS_NAME, VR::PN, "Bediener^Vroni"),
        (tags::ACCESSION_NUMBER, VR::SH, "ZUGANG-9"),
        (tags::STUDY_ID, VR::SH, "STUDIE-X"),
        (tags::STUDY_DATE, VR::DA, "197703"),
        (tags::STUDY_DESCRIPTION, VR::LO, "Beschreibung"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.777.888.1"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.777.999.1"),
        (tags::DEVICE_SERIAL_NUMBER, VR::LO, "SERIENNR-55"),
        (Tag(0x0011, 0x0010), VR::LO, "FIRMA GEHEIM"),
        (Tag(0x0011, 0x1001), VR::LO, "Privatperson"),
    ];
    let mut planted = vec![format!("1.2.826.0.1.{}", 1000 + number)];
    let mut made = made;
    for (tag, vr, word) in names {
        // Dates have eight digits; two films a patient, each of its own study.
        let value = match (vr, tag) {
            (VR::DA, _) => format!("{word}{:02}", 1 + number),
            (_, tags::PATIENT_ID) => format!("{word}{:03}", number / 2),
            _ => format!("{word}{number:03}"),
        };
        made = made.text(tag, vr, &value);
        planted.push(value);
    }
    // And within a sequence.
    let nested = format!("Innenname^Nr{number:03}");
    let mut item = InMemDicomObject::new_empty();
    item.put(DataElement::new(tags::PATIENT_NAME, VR::PN, PrimitiveValue::from(nested.as_str())));
    made.object.put(DataElement::new(tags::REFERENCED_PATIENT_SEQUENCE, VR::SQ, DataSetSequence::from(vec![item])));
    planted.push(nested);
    (made, planted)
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// A name and a date, written where a code belongs: as view positions, as modalities.
const ASTRAY: [&str; 4] = ["MUSTERFRAU_X", "19310228", "BEISPIELMANN", "19770331"];

/// A folder of 20 films of 10 patients with planted names, of which three cannot be used, beside files that are no films.
fn archive(name: &str) -> (PathBuf, Vec<String>) {
    let folder = empty(name);
    let mut planted = Vec::new();
    for number in 0..20 {
        let film = Made::film(1000 + number as u64, 40 + number as u16, 50);
        let (mut made, words) = plant(film, number);
        planted.extend(words);
        made = made.text(tags::VIEW_POSITION, VR::CS, if number % 3 == 0 { "LL" } else { "PA" });
        made = match number {
            7 | 8 => {
                planted.push(ASTRAY[number - 7].to_owned());
                made.text(tags::VIEW_POSITION, VR::CS, ASTRAY[number - 7])
            }
            4 => made.text(tags::NUMBER_OF_FRAMES, VR::IS, "7"),
            5 => made.coded(uids::JPEGLS_LOSSLESS, &[b"coded somehow"]),
            6 => made.number(tags::ROWS, 999),
            _ => made,
        };
        // With an ending and without.
        let file = if number % 2 == 0 { format!("{number:02}.dcm") } else { format!("{number:02}") };
        made.save(&folder.join("in").join(format!("d{}", number % 3)).join(file));
    }
    fs::write(folder.join("in/notes.txt"), "nothing").unwrap();
    fs::copy(folder.join("in/d0/00.dcm"), folder.join("in/d1/again.dcm")).unwrap();
    for (number, modality) in ["MG", ASTRAY[2], ASTRAY[3]].into_iter().enumerate() {
        let file = folder.join(format!("in/other/{number}.dcm"));
        Made::film(5000 + number as u64, 30, 30).text(tags::MODALITY, VR::CS, modality).save(&file);
    }
    planted.extend(ASTRAY[2..].iter().map(|word| (*word).to_owned()));
    (folder, planted)
}

#[test]
fn no_identifying_element_reaches_any_output() {
    let (folder, planted) = archive("planted");
    assert_eq!(planted.len(), 20 * 22 + 4);
    let reports = "study_uid,text\n1.2.777.888.1000,clear\n1.2.777.888.1000,again\n";
    fs::write(folder.join("reports.csv"), reports).unwrap();
    let refused = g2d(&folder, "pack dicom in --size 32 --reports reports.csv --out none");
    refused.refused(&["line 3", "study_uid is already at line 2"]);
    let mut outputs: Vec<(String, Vec<u8>)> = vec![("errors".into(), refused.errors.into_bytes())];
    let reports: String = (0..20).map(|film| format!("1.2.777.888.1{film:03},The lungs are clear.\n")).collect();
    fs::write(folder.join("reports.csv"), format!("study_uid,text\n{reports}")).unwrap();
    for line in [
        "pack dicom in --size 32 --out shards",
        "pack dicom in --size 32 --out shards-json --json",
        "pack dicom in --size 64 --reports reports.csv --out pairs",
        "pretrain --data pairs --preset micro --steps 1 --batch 2 --device cpu --out run",
        "report run",
        "export run --format hf --out bert",
        "export run --format onnx --out g2d.onnx",
    ] {
        let ended = g2d(&folder, line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        outputs.push((format!("stdout, {line}"), ended.out.into_bytes()));
        outputs.push((format!("stderr, {line}"), ended.errors.into_bytes()));
    }
    let written = ["shards", "shards-json", "pairs", "run", "bert"].map(|name| listing(&folder.join(name)));
    let files: Vec<_> =
        written.into_iter().flatten().chain([folder.join("g2d.onnx")]).filter(|path| path.is_file()).collect();
    assert!(files.len() >= 20, "{files:?}");
    outputs.extend(files.into_iter().map(|path| (path.display().to_string(), fs::read(&path).unwrap())));
    // What is searched for is there to be found in what was read.
    let first = fs::read(folder.join("in/d0/00.dcm")).unwrap();
    assert!(planted[..22].iter().all(|word| holds(&first, word)), "the first film lacks what was planted");
    for (file, word) in ["d1/07", "d2/08.dcm", "other/1.dcm", "other/2.dcm"].into_iter().zip(ASTRAY) {
        assert!(holds(&fs::read(folder.join("in").join(file)).unwrap(), word), "{file} lacks {word}");
    }
    let found: Vec<_> = outputs
        .iter()
        .flat_map(|(name, bytes)| planted.iter().filter(|word| holds(bytes, word)).map(move |word| (name, word)))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_folder_is_packed_by_patient_and_every_file_is_accounted_for() {
    let (folder, _) = archive("counted");
    let reports = "study_uid,accession,file,text\n1.2.777.888.1000,,,Clear lungs.\n,ZUGANG-9001,,Small effusion.\n\
                   ,,d2/02.dcm,Large heart.\n9.9.9,,,Nobody's.\n,,d0/gone.dcm,Nobody's either.\n";
    fs::write(folder.join("reports.csv"), reports).unwrap();
    let ended = g2d(&folder, "pack dicom in --size 32 --reports reports.csv --out shards --json");
    let funnel: Json = serde_json::from_str(&ended.done()).unwrap();
    let filters: Vec<_> =
        funnel["filters"].as_array().unwrap().iter().map(|one| (&one["kept"], &one["dropped"])).collect();
    assert_eq!(
        format!("{filters:?}"),
        format!("{:?}", [(24, 1), (21, 3), (20, 1)].map(|(a, b)| (Json::from(a), Json::from(b))))
    );
    assert_eq!((&funnel["rows"], &funnel["kept"], &funnel["empty_text"]), (&20.into(), &17.into(), &14.into()));
    let dropped: BTreeMap<String, Json> = serde_json::from_value(funnel["dropped"].clone()).unwrap();
    let reasons: Vec<_> = dropped.iter().map(|(reason, what)| format!("{} {reason}", what["count"])).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for said in [
        "1 image: DICOM not read: several frames",
        "1 image: DICOM not read: transfer syntax 1.2.840.10008.1.2.4.80",
        "1 image: damaged or truncated",
    ] {
        assert!(reasons.iter().any(|reason| reason.starts_with(said)), "{said} is not in {reasons:?}");
    }
    assert!(funnel["dropped"].to_string().contains("d1/04.dcm: "), "the file is not named: {}", funnel["dropped"]);
    assert!(funnel["warnings"].to_string().contains("2 of 5 reports belong to no film (the first at line 5, 6)"));
    // The folder that travels names no file.
    assert!(!fs::read_to_string(folder.join("shards/dataset.json")).unwrap().contains(".dcm"));
    let dataset = Dataset::open(&folder.join("shards")).unwrap();
    let mut splits: BTreeMap<String, Split> = BTreeMap::new();
    let (mut texts, mut views) = (Vec::new(), BTreeMap::<String, usize>::new());
    for index in 0..dataset.len() {
        let record = dataset.record(index).unwrap();
        assert_eq!(record.columns["modality"], "DX");
        *views.entry(record.view.clone()).or_default() += 1;
        assert!(record.id.len() == 32 && record.id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", record.id);
        assert_eq!(*splits.entry(record.patient_id.clone()).or_insert(record.split), record.split);
        texts.extend((!record.text.is_empty()).then(|| record.text.clone()));
    }
    texts.sort();
    assert_eq!(texts, ["Clear lungs.", "Large heart.", "Small effusion."]);
    // Films 4 to 6 are not read; 7 and 8 say what is no view.
    assert_eq!(views, [("", 2), ("LL", 6), ("PA", 9)].map(|(view, films)| (view.to_owned(), films)).into());
    // Films 4 and 5 are both of patient 2.
    assert_eq!(splits.len(), 9);
    let again = g2d(&folder, "pack dicom in --size 32 --reports reports.csv --out again --threads 1");
    again.done();
    let digest = |name: &str| Dataset::open(&folder.join(name)).unwrap().digest().to_owned();
    assert_eq!(digest("shards"), digest("again"), "the shards depend on the number of threads");
}

#[test]
fn a_copy_that_is_read_goes_before_an_original_that_is_not() {
    let folder = empty("converted");
    for film in 0..4 {
        let original = || Made::film(film, 40, 50).coded(uids::JPEGLS_LOSSLESS, &[b"coded somehow"]);
        original().save(&folder.join(format!("in/{film}.dcm")));
        original().save(&folder.join(format!("in/{film}-again.dcm")));
        // Another modality is no copy that could be taken.
        let modality = if film == 3 { "OT" } else { "DX" };
        Made::film(film, 40, 50)
            .text(tags::MODALITY, VR::CS, modality)
            .save(&folder.join(format!("in/{film}.raw.dcm")));
    }
    let funnel: Json =
        serde_json::from_str(&g2d(&folder, "pack dicom in --size 32 --out shards --json").done()).unwrap();
    assert_eq!((&funnel["rows"], &funnel["kept"]), (&4.into(), &3.into()), "{funnel}");
    assert!(funnel["dropped"].to_string().contains("JPEG-LS"), "{funnel}");
}

#[test]
fn a_film_in_a_table_may_be_a_dicom_file() {
    let folder = empty("table");
    for seed in 0..4 {
        Made::film(seed, 40, 50).save(&folder.join(format!("{seed}.dcm")));
    }
    let rows: String = (0..4).map(|seed| format!("film-{seed},{seed}.dcm,Clear lungs.\n")).collect();
    fs::write(folder.join("pairs.csv"), format!("id,image,text\n{rows}")).unwrap();
    let told = g2d(&folder, "pack --pairs pairs.csv --size 32 --out shards").done();
    assert!(told.contains("4 kept"), "{told}");
}

#[test]
fn a_folder_without_films_is_refused() {
    let folder = empty("no-films");
    fs::create_dir(folder.join("in")).unwrap();
    g2d(&folder, "pack dicom in --out shards").refused(&["there is no film"]);
    Made::film(1, 30, 30).text(tags::MODALITY, VR::CS, "CT").save(&folder.join("in/ct"));
    g2d(&folder, "pack dicom in --out shards").refused(&["there is no film", "1 files are DICOM", "--modality"]);
    g2d(&folder, "pack dicom gone --out shards").refused(&["gone"]);
    fs::write(folder.join("reports.csv"), "id,text\na,b\n").unwrap();
    let line = "pack dicom in --modality CT --reports reports.csv --out shards";
    g2d(&folder, line).refused(&["reports.csv, line 1", "study_uid"]);
    assert!(!folder.join("shards").exists());
}

/// For `tests/oracle/dicom.py compare`: `G2D_DICOM=FOLDER G2D_DUMP=FOLDER cargo test --test dicom -- --ignored dumped`.
#[test]
#[ignore = "reads a folder of the caller's"]
fn films_are_dumped() {
    let [from, to] = ["G2D_DICOM", "G2D_DUMP"].map(|name| PathBuf::from(std::env::var(name).expect("both are given")));
    fs::create_dir_all(&to).unwrap();
    for path in listing(&from).into_iter().filter(|path| path.is_file()) {
        let begun = std::time::Instant::now();
        let film = film(&path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        println!(
            "{name}: {:?}, {}",
            begun.elapsed(),
            film.as_ref().map_or_else(|fault| fault.to_string(), |_| "read".into())
        );
        let Ok(film) = film else { continue };
        let (bits, values) = levels(film.samples);
        let mut bytes: Vec<u8> =
            [film.width as u32, film.height as u32, bits as u32].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend(values.into_iter().flat_map(|value| value.to_le_bytes().into_iter().take(bits as usize / 8)));
        fs::write(to.join(format!("{name}.gray")), bytes).unwrap();
    }
}
