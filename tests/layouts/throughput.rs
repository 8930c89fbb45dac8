//! Every layout on a plain tree of any size: all of it is packed, and how fast. The table of docs/layouts.md is what
//! `cargo test --release --test layouts -- --ignored --nocapture throughput` prints.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::command::empty;
use super::others::CHEXPERT;
use super::{packed, write, write_film};

/// Films of every tree, unless `G2D_LAYOUT_FILMS` gives another number.
const FILMS: usize = 20_000;
/// Width and height: what a layout costs beside decoding.
const SIDE: u32 = 64;

/// A tree of so many films, of which the names are links to a few.
struct Tree {
    root: PathBuf,
    films: usize,
}

impl Tree {
    fn new(name: &str, films: usize) -> Self {
        let root = empty(&format!("throughput-{name}"));
        for seed in 0..8 {
            write_film(&root.join(format!("drawn/{seed}.png")), SIDE, SIDE, seed);
            write_film(&root.join(format!("drawn/{seed}.jpg")), SIDE, SIDE, seed);
        }
        Self { root, films }
    }

    /// A film at a place in the tree, as the ending of its name says.
    fn film(&self, number: usize, path: &str) {
        let path = self.root.join(path);
        let ending = path.extension().unwrap().to_str().unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::hard_link(self.root.join(format!("drawn/{}.{ending}", number % 8)), &path).unwrap();
    }

    /// A table at a place in the tree: its header and a line a film, which may be several or none.
    fn table(&self, path: &str, header: &str, line: impl Fn(usize) -> String) {
        let lines = (0..self.films).map(line).filter(|line| !line.is_empty());
        let header = if header.is_empty() { String::new() } else { format!("{header}\n") };
        write(&self.root.join(path), lines.fold(header, |text, line| text + &line + "\n").as_bytes());
    }

    /// Whether a film is one of the last tenth.
    fn last(&self, film: usize) -> bool {
        film >= self.films - self.films / 10
    }
}

const SENTENCES: &str = "The lungs are clear. The heart is of normal size";

fn mimic(tree: &Tree) -> &'static str {
    let ids = |film: usize| (10_000_000 + film / 4, 50_000_000 + film / 2, format!("{film:08x}-0-0-0-0"));
    let split = |film: usize| if tree.last(film) { "test" } else { "train" };
    let tables = "mimic/mimic-cxr-2.0.0-";
    tree.table(&format!("{tables}metadata.csv.gz"), "dicom_id,subject_id,study_id,ViewPosition", |film| {
        let (subject, study, dicom) = ids(film);
        let folder = format!("files/p10/p{subject}/s{study}");
        tree.film(film, &format!("mimic/{folder}/{dicom}.jpg"));
        let report =
            format!(" FINAL REPORT\n \n FINDINGS: \n \n {SENTENCES} {study}.\n \n IMPRESSION: \n \n Nothing new.\n");
        write(&tree.root.join(format!("reports/{folder}.txt")), report.as_bytes());
        format!("{dicom},{subject},{study},PA")
    });
    tree.table(&format!("{tables}split.csv.gz"), "dicom_id,study_id,subject_id,split", |film| {
        let (subject, study, dicom) = ids(film);
        format!("{dicom},{study},{subject},{}", split(film / 4 * 4))
    });
    let labels = "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,No \
                  Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices";
    tree.table(&format!("{tables}chexpert.csv.gz"), &format!("subject_id,study_id,{labels}"), |film| {
        let (subject, study, _) = ids(film);
        if film % 2 == 0 { format!("{subject},{study},1.0,,0.0,-1.0,,,,,,1.0,,,,") } else { String::new() }
    });
    "mimic --images mimic --reports reports"
}

fn chexpert(tree: &Tree) -> &'static str {
    for (table, last) in [("train", false), ("valid", true)] {
        tree.table(&format!("{table}.csv"), CHEXPERT, |film| {
            if tree.last(film) != last {
                return String::new();
            }
            let path = format!("{table}/patient{film:05}/study1/view1_frontal.jpg");
            tree.film(film, &path);
            format!("CheXpert-v1.0-small/{path},Male,67,Frontal,AP,,,1.0,,,-1.0,0.0,,,,1.0,,,")
        });
    }
    "chexpert --root ."
}

fn rsna(tree: &Tree) -> &'static str {
    tree.table("stage_2_train_labels.csv", "patientId,x,y,width,height,Target", |film| {
        tree.film(film, &format!("films/{film:08x}.png"));
        let place = if film % 3 == 0 { "128,512,256,128,1" } else { ",,,,0" };
        format!("{film:08x},{place}")
    });
    tree.table("stage_2_detailed_class_info.csv", "patientId,class", |film| format!("{film:08x},Normal"));
    "rsna --root ."
}

fn siim(tree: &Tree) -> &'static str {
    tree.table("train-rle.csv", "ImageId, EncodedPixels", |film| {
        tree.film(film, &format!("films/1.2.276.{film}.png"));
        format!("1.2.276.{film}, {}", if film % 3 == 0 { "262656 256 768 256 768 256" } else { "-1" })
    });
    "siim --root ."
}

fn nih(tree: &Tree) -> &'static str {
    let header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,\
                  Height],OriginalImagePixelSpacing[x,y],";
    let name = |film: usize| format!("{:08}_{:03}.png", film / 2, film % 2);
    tree.table("Data_Entry_2017.csv", header, |film| {
        tree.film(film, &format!("images/{}", name(film)));
        format!("{},Cardiomegaly|Effusion,0,{},058Y,M,PA,2682,2749,0.143,0.143,", name(film), film / 2)
    });
    tree.table("BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", |film| {
        if film % 20 == 0 { format!("{},Effusion,256.0,512.0,128.0,64.0,,,", name(film)) } else { String::new() }
    });
    for (list, last) in [("train_val_list.txt", false), ("test_list.txt", true)] {
        tree.table(list, "", |film| if tree.last(film / 2 * 2) == last { name(film) } else { String::new() });
    }
    "nih --root ."
}

fn openi(tree: &Tree) -> &'static str {
    for film in 0..tree.films {
        tree.film(film, &format!("films/CXR{film}_IM-0.png"));
        let report = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><eCitation><uId id=\"CXR{film}\"/><MedlineCitation><Article><Abstract>\
             <AbstractText Label=\"FINDINGS\">{SENTENCES} {film}.</AbstractText></Abstract></Article></MedlineCitation>\
             <MeSH><major>normal</major></MeSH><parentImage id=\"CXR{film}_IM-0\"/></eCitation>"
        );
        write(&tree.root.join(format!("reports/{film}.xml")), report.as_bytes());
    }
    "openi --images films --reports reports"
}

fn ms_cxr(tree: &Tree) -> &'static str {
    let header = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split";
    tree.table("MS_CXR_Local_Alignment_v1.1.0.csv", header, |film| {
        let path = format!("files/p10/p{}/s{}/{film:08x}.jpg", 10_000_000 + film, 50_000_000 + film);
        tree.film(film, &path);
        let split = if tree.last(film) { "test" } else { "train" };
        format!("{film:08x},Pneumonia,left lower lobe,{path},8,8,32,16,{SIDE},{SIDE},{split}")
    });
    "ms-cxr --images . --phrases ."
}

fn vindr(tree: &Tree) -> &'static str {
    tree.table("annotations_train.csv", "image_id,rad_id,class_name,x_min,y_min,x_max,y_max", |film| {
        tree.film(film, &format!("train/{film:08x}.png"));
        let seen = ["Cardiomegaly,8,16,40,48", "No finding,,,,"][film % 2];
        (1..4).map(|reader| format!("{film:08x},R{reader},{seen}")).collect::<Vec<_>>().join("\n")
    });
    "vindr --root ."
}

fn object_cxr(tree: &Tree) -> &'static str {
    for (table, last) in [("train", false), ("dev", true)] {
        tree.table(&format!("{table}.csv"), "image_name,annotation", |film| {
            if tree.last(film) != last {
                return String::new();
            }
            tree.film(film, &format!("{table}/{film:05}.jpg"));
            format!("{film:05}.jpg,{}", ["", "0 8 16 24 48;1 40 40 48 56", "2 8 8 16 8 12 24"][film % 3])
        });
    }
    "object-cxr --root ."
}

fn covidx(tree: &Tree) -> &'static str {
    for (part, last) in [("train", false), ("test", true)] {
        tree.table(&format!("{part}_COVIDx9A.txt"), "", |film| {
            if tree.last(film) != last {
                return String::new();
            }
            tree.film(film, &format!("{part}/{film}.png"));
            format!("{film} {film}.png {} rsna", ["normal", "pneumonia", "COVID-19"][film % 3])
        });
    }
    "covidx --root ."
}

fn dicom(tree: &Tree) -> &'static str {
    for film in 0..tree.films {
        write(&tree.root.join(format!("archive/{}/{film}", film / 100)), &dicom_film(film));
    }
    tree.table("reports.csv", "sop_uid,text", |film| format!("1.2.3.{film},{SENTENCES} {film}."));
    "dicom archive --reports reports.csv"
}

/// A film as an archive has it: explicit little endian, nothing compressed.
fn dicom_film(film: usize) -> Vec<u8> {
    let mut file = [&[0; 128][..], b"DICM"].concat();
    let mut element = |group: u16, number: u16, kind: &[u8; 2], value: &[u8]| {
        let padded = value.len().next_multiple_of(2);
        file.extend([group.to_le_bytes(), number.to_le_bytes(), *kind].concat());
        match kind {
            b"OW" => file.extend([&[0; 2][..], &(padded as u32).to_le_bytes()].concat()),
            _ => file.extend((padded as u16).to_le_bytes()),
        }
        file.extend(value);
        file.resize(file.len() + padded - value.len(), if kind == b"UI" { 0 } else { b' ' });
    };
    let syntax = b"1.2.840.10008.1.2.1";
    element(2, 0, b"UL", &(8 + 20_u32).to_le_bytes());
    element(2, 0x10, b"UI", syntax);
    element(8, 0x18, b"UI", format!("1.2.3.{film}").as_bytes());
    element(8, 0x60, b"CS", b"DX");
    element(0x10, 0x20, b"LO", format!("{}", film / 4).as_bytes());
    element(0x20, 0xD, b"UI", format!("1.2.4.{}", film / 2).as_bytes());
    element(0x28, 2, b"US", &1_u16.to_le_bytes());
    element(0x28, 4, b"CS", b"MONOCHROME2");
    for (number, value) in [(0x10, SIDE as u16), (0x11, SIDE as u16), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)] {
        element(0x28, number, b"US", &value.to_le_bytes());
    }
    element(0x7FE0, 0x10, b"OW", super::film(SIDE, SIDE, film as u32 % 8).as_raw());
    file
}

type Layout = (&'static str, fn(&Tree) -> &'static str);

const LAYOUTS: [Layout; 11] = [
    ("mimic", mimic),
    ("chexpert", chexpert),
    ("rsna", rsna),
    ("siim", siim),
    ("nih", nih),
    ("openi", openi),
    ("ms-cxr", ms_cxr),
    ("vindr", vindr),
    ("object-cxr", object_cxr),
    ("covidx", covidx),
    ("dicom", dicom),
];

/// Packs a tree of every layout, asserts that all of it is packed, and tells how many seconds each took.
fn pack_all(films: usize) -> Vec<(&'static str, f64)> {
    let pack = |(name, make): Layout| {
        let tree = Tree::new(name, films);
        let line = make(&tree);
        let begun = Instant::now();
        let funnel = packed(&tree.root, &format!("pack {line} --size {SIDE} --out out"));
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(funnel["kept"].as_u64(), Some(films as u64), "{name}: {funnel}");
        fs::remove_dir_all(&tree.root).unwrap();
        (name, seconds)
    };
    LAYOUTS.map(pack).into()
}

#[test]
fn all_of_a_plain_tree_is_packed_in_every_layout() {
    pack_all(40);
}

#[test]
#[ignore = "minutes; it measures"]
fn throughput() {
    let films = std::env::var("G2D_LAYOUT_FILMS").map_or(FILMS, |films| films.parse().expect("a number"));
    let mut table = "| | films | films/s |\n|---|---|---|\n".to_owned();
    for (name, seconds) in pack_all(films) {
        writeln!(table, "| `{name}` | {films} | {:.0} |", films as f64 / seconds).unwrap();
    }
    println!("{table}");
}
