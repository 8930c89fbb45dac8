//! Splits of published scripts against those that the scripts' libraries draw: `tests/oracle/splits.py` made the numbers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use g2d::data::layout::chexpert::{Choice, Uncertain, open};
use g2d::data::layout::{covidx, object_cxr, rsna, siim};
use g2d::data::pairs::Pair;
use g2d::data::rows::Rows;
use g2d::data::{Dataset, Split};

use super::command::empty;
use super::others::CHEXPERT;
use super::{filters, packed, refused, warned, write, write_film};

/// How many rows, and which: the sum of (row + 1)², modulo 10⁹ + 7; the first row has line 2.
fn fingerprint<'a>(films: impl Iterator<Item = &'a Pair>, first: u64) -> (usize, u64) {
    films.fold((0, 0), |(count, sum), film| {
        let row = film.line - first + 1;
        (count + 1, (sum + row * row) % 1_000_000_007)
    })
}

fn films(rows: &dyn Rows) -> Vec<Pair> {
    rows.read().unwrap().map(|row| row.unwrap().unwrap()).collect()
}

const FIVE: [&str; 5] = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"];

/// A CheXpert of so many rows, as `tests/oracle/splits.py` has it; no films.
fn chexpert(folder: &Path, rows: usize) -> PathBuf {
    let labels: Vec<&str> = CHEXPERT.split(',').skip(5).collect();
    let mut table = format!("{CHEXPERT}\n");
    for row in 0..rows {
        let value = |label: &str| {
            let alone = row % 7 < 5 && label == FIVE[row % 7];
            let two = row % 7 == 6 && (label == FIVE[row % 5] || label == "Lung Opacity");
            match label {
                _ if alone || two => "1.0",
                "Pneumonia" if row.is_multiple_of(13) => "-1.0",
                "Fracture" if row.is_multiple_of(17) => "0.0",
                _ => "",
            }
        };
        let (view, projection) = if row % 11 == 3 { ("Lateral", "") } else { ("Frontal", "AP") };
        let path = format!("CheXpert-v1.0/train/patient{:05}/study1/view{row}.jpg", row / 3);
        let values: Vec<&str> = labels.iter().map(|label| value(label)).collect();
        writeln!(table, "{path},Male,67,{view},{projection},{}", values.join(",")).unwrap();
    }
    let root = folder.join("set");
    write(&root.join("train.csv"), table.as_bytes());
    let test = "CheXpert-v1.0/valid/patient64541/study1/view1.jpg,Male,67,Frontal,AP,1.0";
    write(&root.join("valid.csv"), format!("{CHEXPERT}\n{test}{}\n", ",".repeat(13)).as_bytes());
    root
}

#[test]
fn chexpert_5x200_and_mgca_s_split_are_those_of_its_script() {
    let root = chexpert(&empty("chexpert-mgca"), 9000);
    let five = open(&root, Uncertain::Mgca, &Choice::FiveTimes200, 0, true).unwrap();
    let chosen = films(&five);
    assert_eq!(fingerprint(chosen.iter(), 2), (1000, 778_863_711));
    for label in FIVE {
        assert_eq!(chosen.iter().filter(|film| film.findings == label).count(), 200, "{label}");
    }
    assert!(chosen.iter().all(|film| film.split == Some(Split::Test)) && !five.by_film());

    let mgca = open(&root, Uncertain::Mgca, &Choice::Mgca, 0, true).unwrap();
    let left = films(&mgca);
    let kept = |split| left.iter().filter(move |film| film.split == Some(split));
    assert_eq!(kept(Split::Test).count(), 1);
    assert!(mgca.by_film());
    let (names, counts): (Vec<_>, Vec<_>) = mgca.filters().iter().map(|one| (one.name.as_str(), one.kept)).unzip();
    assert_eq!(names[3], "in a split of MGCA's script");
    assert_eq!(counts[3], 5000 + 1345 + 1, "with lateral films: validation, training without those, test");
    let warnings = mgca.warnings(&|_| true).join("\n");
    assert!(warnings.starts_with("2206 of the 5000 validation films"), "{warnings}");
    assert!(warnings.contains("patients are on several sides of this split"), "{warnings}");
    // The frontal ones of them.
    assert_eq!(fingerprint(kept(Split::Val), 2), (4507, 411_698_785));
    assert_eq!(fingerprint(kept(Split::Train), 2), (1210, 243_768_844));
}

#[test]
fn a_list_of_films_is_packed_for_testing() {
    let folder = empty("chexpert-list");
    let root = chexpert(&folder, 60);
    let paths: Vec<String> = (0..60).map(|row| format!("train/patient{:05}/study1/view{row}.jpg", row / 3)).collect();
    for (row, path) in paths.iter().enumerate() {
        write_film(&root.join(path), 20, 24, row as u32);
    }
    let list = format!(",Path\n0,CheXpert-v1.0/{}\n1,/somebody/CheXpert/{}\n2,a/train/p/s/v.jpg\n", paths[4], paths[8]);
    write(&folder.join("chexpert_5x200.csv"), list.as_bytes());
    let line = "pack chexpert --root set --list chexpert_5x200.csv --size 16 --out out";
    let funnel = packed(&folder, line);
    assert_eq!((funnel["kept"].as_u64(), funnel["splits"]["test"].as_u64()), (Some(2), Some(2)));
    assert!(filters(&funnel).iter().any(|(name, kept)| name == "in chexpert_5x200.csv" && *kept == 2), "{funnel}");
    assert!(warned(&funnel, &["1 films of chexpert_5x200.csv are not in train.csv", "train/p/s/v.jpg"]), "{funnel}");
    let data = Dataset::open(&folder.join("out")).unwrap();
    let ids: BTreeSet<String> = (0..data.len()).map(|film| data.record(film).unwrap().id).collect();
    assert_eq!(ids, [4, 8].map(|row| paths[row].trim_end_matches(".jpg").to_owned()).into());

    refused(
        &folder,
        "pack chexpert --root set --split 5x200 --out none",
        &["train.csv", "have Atelectasis", "200 are needed"],
    );
    refused(&folder, "pack chexpert --root set --split mgca --out none", &["train.csv", "200 are needed"]);
    write(&folder.join("other.csv"), b"File\na\n");
    refused(&folder, "pack chexpert --root set --list other.csv --out none", &["other.csv", "[\"Path\"] are missing"]);
    write(&folder.join("other.csv"), b"Path\na/train/b\n");
    refused(&folder, "pack chexpert --root set --list other.csv --out none", &["no film is left", "in other.csv"]);
}

#[test]
fn rsna_and_siim_are_split_as_by_mgca_s_scripts() {
    let root = empty("split-halves");
    let (mut boxes, mut runs) =
        ("patientId,x,y,width,height,Target\n".to_owned(), "ImageId, EncodedPixels\n".to_owned());
    for film in 0..103 {
        writeln!(boxes, "{film:04},,,,,0").unwrap();
        writeln!(runs, "{film:04}, -1").unwrap();
        write_film(&root.join(format!("{film:04}.png")), 20, 20, film);
    }
    write(&root.join("stage_2_train_labels.csv"), boxes.as_bytes());
    write(&root.join("train-rle.csv"), runs.as_bytes());
    let sides = |films: Vec<Pair>| {
        [Split::Val, Split::Test].map(|side| fingerprint(films.iter().filter(|film| film.split == Some(side)), 2))
    };
    assert_eq!(sides(films(&rsna::open(&root, true).unwrap())), [(21, 79_001), (21, 81_712)]);
    assert_eq!(sides(films(&siim::open(&root, true).unwrap())), [(16, 51_648), (15, 50_719)]);
}

#[test]
fn covidx_and_object_cxr_draw_validation_as_scikit_learn() {
    let folder = empty("split-lists");
    let root = folder.join("set");
    let mut list = String::new();
    for film in 0..103 {
        writeln!(list, "{film} {film}.png normal a").unwrap();
        write_film(&root.join(format!("train/{film}.png")), 20, 20, film);
    }
    write(&root.join("train_COVIDx9A.txt"), list.as_bytes());
    write_film(&root.join("test/t.png"), 20, 20, 1);
    write(&root.join("test_COVIDx9A.txt"), b"1 t.png normal b\n");
    let drawn = films(&covidx::open(&root, true).unwrap());
    let validation =
        |films: &[Pair], first: u64| fingerprint(films.iter().filter(|film| film.split == Some(Split::Val)), first);
    assert_eq!(validation(&drawn, 1), (21, 56_294));

    let rows: String = (0..103).map(|film| format!("{film}.png,\n")).collect();
    write(&root.join("train.csv"), format!("image_name,annotation\n{rows}").as_bytes());
    write(&root.join("dev.csv"), b"image_name,annotation\nt.png,0 1 1 9 9\n");
    let drawn = films(&object_cxr::open(&root, true).unwrap());
    assert_eq!(validation(&drawn, 2), (21, 56_294));
}
