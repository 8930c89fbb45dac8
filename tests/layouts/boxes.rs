//! `g2d pack ms-cxr`, `vindr`, `object-cxr`, `covidx`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use g2d::data::{Dataset, Split};
use serde_json::{Value, json};

use super::command::empty;
use super::{dataset, filter, filters, index, packed, places, refused, warned, write, write_film};

const PHRASES: &str = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height";

/// Where the film of a number lies in MIMIC-CXR-JPG.
fn in_mimic(film: usize) -> String {
    format!("files/p10/p1000{:04}/s5{film:07}/film{film}.jpg", film / 2)
}

/// A table of phrases in `ms`, on twenty films in `jpg`, of which one is missing; the table's text.
fn phrases(folder: &Path) -> String {
    let mut table = format!("{PHRASES},split\n");
    for film in 0..20 {
        let split = ["train", "val", "test"][film / 2 % 3];
        let path = in_mimic(film);
        // Of one thing that is in two places there are two rows.
        for side in 0..1 + film % 2 {
            let phrase = format!("\"small effusion; left, {film}\"");
            writeln!(table, "film{film},Pleural Effusion,{phrase},{path},{},640,320,640,1280,2560,{split}", side * 640)
                .unwrap();
        }
        if film == 4 {
            writeln!(table, "film4,Cardiomegaly,heart is large,{path},0,0,640,640,1280,2560,{split}").unwrap();
        }
        if film != 9 {
            write_film(&folder.join("jpg").join(&path), 32, 64, film as u32);
        }
    }
    let name = "MS_CXR_Local_Alignment_v1.1.0.csv";
    write(&folder.join("ms").join(name), table.as_bytes());
    table
}

#[test]
fn ms_cxr_has_phrases_with_boxes_on_films_of_mimic() {
    let folder = empty("ms-cxr");
    let table = phrases(&folder);
    let line = "pack ms-cxr --images jpg --phrases ms --size 64 --out out";
    let funnel = packed(&folder, line);
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts, funnel["kept"].as_u64(), funnel["boxes"].as_u64()), (vec![20, 19], Some(19), Some(29)));
    let example = filter(&funnel, "with a film")["examples"][0].as_str().unwrap();
    assert!(example.contains("film9: there is no files/p10/"), "{example}");
    let data = dataset(&folder);
    let record = data.record(index(&data, "film4")).unwrap();
    assert_eq!(record.findings, "small effusion, left, 4;heart is large");
    assert_eq!((record.text.as_str(), record.split), ("small effusion, left, 4 heart is large", Split::Test));
    assert_eq!(
        (record.patient_id.as_str(), record.columns["findings"].as_str()),
        ("10000002", "Pleural Effusion;Cardiomegaly")
    );
    // A fortieth of the published size, in the middle of a square.
    let [effusion, heart] =
        [("small effusion, left, 4", [16.0, 16.0, 8.0, 16.0]), ("heart is large", [16.0, 0.0, 16.0, 16.0])];
    assert_eq!(places(&record), [effusion, heart]);
    let twice = data.record(index(&data, "film5")).unwrap();
    assert_eq!((twice.findings.as_str(), twice.boxes.len()), ("small effusion, left, 5", 2));

    let by_finding = packed(&folder, &format!("{} --label finding", line.replace("--out out", "--out found")));
    assert_eq!(by_finding["split_digests"], funnel["split_digests"]);
    let data = Dataset::open(&folder.join("found")).unwrap();
    let record = data.record(index(&data, "film4")).unwrap();
    assert_eq!((record.findings.as_str(), places(&record)[1].0), ("Pleural Effusion;Cardiomegaly", "Cardiomegaly"));
    // Version 1.0.0 has no split: all is for testing.
    let older: String = table.lines().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0)).collect();
    write(&folder.join("older.csv"), older.as_bytes());
    let funnel = packed(&folder, "pack ms-cxr --images jpg --phrases older.csv --size 64 --out older");
    assert_eq!(funnel["splits"]["test"].as_u64(), Some(19));
}

/// The JSON that a table of phrases was made from: images in the order of their films, an annotation a row.
fn as_coco(table: &str) -> Value {
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let (mut images, mut annotations) = (std::collections::BTreeMap::new(), Vec::new());
    for row in &rows {
        let number = |at: usize| row[at].parse::<f64>().unwrap();
        let image = row[0].trim_start_matches("film").parse::<u64>().unwrap() + 100;
        images.entry(image).or_insert_with(|| {
            let (name, width, height) = (format!("{}.jpg", &row[0]), number(8), number(9));
            json!({ "id": image, "file_name": name, "path": row[3], "width": width, "height": height, "num_annotations": 1 })
        });
        annotations.push(json!({
            "id": annotations.len(), "image_id": image, "category_id": 7 + u64::from(&row[1] == "Cardiomegaly"),
            "label_text": row[2], "bbox": [number(4), number(5), number(6), number(7)], "split": row[10],
        }));
    }
    let categories = json!([{ "id": 7, "name": "Pleural Effusion" }, { "id": 8, "name": "Cardiomegaly" }]);
    json!({ "info": {}, "images": images.into_values().collect::<Vec<_>>(), "categories": categories, "annotations": annotations })
}

#[test]
fn ms_cxr_as_json_is_packed_as_its_table_is() {
    let folder = empty("ms-cxr-json");
    let table = phrases(&folder);
    let coco = as_coco(&table);
    let write_json = |name: &str, json: &Value| {
        write(&folder.join(name), serde_json::to_string_pretty(json).unwrap().as_bytes());
    };
    // A folder with nothing but the JSON is found too.
    write_json("json/MS_CXR_Local_Alignment_v1.1.0.json", &coco);
    packed(&folder, "pack ms-cxr --images jpg --phrases ms --size 64 --out out");
    packed(&folder, "pack ms-cxr --images jpg --phrases json --size 64 --out other");
    let [table, json] = ["out", "other"].map(|name| Dataset::open(&folder.join(name)).unwrap());
    assert_eq!((table.len(), table.digest()), (19, json.digest()));

    let bad = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut changed = coco.clone();
        change(&mut changed);
        write_json("bad.json", &changed);
        refused(&folder, "pack ms-cxr --images jpg --phrases bad.json --out none", words);
    };
    bad(&|json| json["annotations"][3]["image_id"] = 5.into(), &["bad.json, line ", "there is no image 5, which"]);
    bad(&|json| json["annotations"][3]["category_id"] = 5.into(), &["there is no category 5"]);
    bad(
        &|json| json["annotations"][0]["label_text"] = "".into(),
        &["bad.json, line ", "label_text or category_name is empty"],
    );
    bad(&|json| json["annotations"][0]["bbox"] = json!([1, 2, 0, 4]), &["a box of 0 by 4 pixels is empty"]);
    bad(&|json| json["annotations"][0]["bbox"] = json!([1, 2]), &["invalid length 2", "MS-CXR's JSON"]);
    bad(&|json| json["images"] = Value::Null, &["bad.json, line ", "this should be MS-CXR's JSON, with images"]);
    let text = fs::read_to_string(folder.join("json/MS_CXR_Local_Alignment_v1.1.0.json")).unwrap();
    write(&folder.join("cut.json"), &text.as_bytes()[..text.len() / 2]);
    refused(&folder, "pack ms-cxr --images jpg --phrases cut.json --out none", &["cut.json, line ", "EOF"]);
}

#[test]
fn ms_cxr_tables_that_break_a_rule_are_refused() {
    let folder = empty("ms-cxr-refused");
    let table = phrases(&folder);
    let line = "pack ms-cxr --images jpg --phrases ms --size 64 --out out";
    let bad = |row: &str, words: &[&str]| {
        write(&folder.join("bad.csv"), format!("{table}{row}\n").as_bytes());
        refused(&folder, "pack ms-cxr --images jpg --phrases bad.csv --out none", words);
    };
    let path = in_mimic(4);
    bad(
        &format!("film4,A,b,{path},1,1,2,2,999,2560,test"),
        &["line 33", "another path, size or split here than at line 8"],
    );
    bad(&format!("x,A,b,{path},1,1,0,2,1280,2560,test"), &["line 33", "0 by 2 pixels is empty"]);
    bad(&format!("x,A,b,{path},1,1,2,2,wide,2560,test"), &["image_width is \"wide\""]);
    bad(&format!("x,A,,{path},1,1,2,2,1280,2560,test"), &["label_text or category_name is empty"]);
    bad(&format!("x,A,b,{path},1,1,2,2,1280,2560,dev"), &["split \"dev\" is none of"]);
    bad("x,A,b,films/x.jpg,1,1,2,2,1280,2560,test", &["has no patient"]);
    refused(
        &folder,
        "pack ms-cxr --images jpg --phrases jpg --out none",
        &["there is no MS_CXR_Local_Alignment_v1.1.0.csv or"],
    );
    refused(
        &folder,
        &format!("{line} --strict").replace("--out out", "--out none"),
        &["film9: there is no", "leave out --strict"],
    );
}

const BOXES: &str = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max";

/// Films of a challenge: each read by three, of whom the first two see the same thing on every third film.
fn readings(films: usize) -> String {
    let mut table = format!("{BOXES}\n");
    for film in 0..films {
        for reader in 1..=3 {
            match (film % 3, reader) {
                (0, 1) => writeln!(table, "f{film:03},R1,Cardiomegaly,160,320,480,640").unwrap(),
                (0, 2) => writeln!(table, "f{film:03},R2,Cardiomegaly,192,320,512,640").unwrap(),
                (0, _) => writeln!(table, "f{film:03},R3,ILD,0,0,64,64").unwrap(),
                (1, _) => writeln!(table, "f{film:03},R{reader},No finding,,,,").unwrap(),
                (_, 1) => writeln!(table, "f{film:03},R1,ILD,0,0,64,64").unwrap(),
                _ => writeln!(table, "f{film:03},R{reader},{},,,,", ["No finding", "Other diseases"][reader - 2])
                    .unwrap(),
            }
        }
    }
    table
}

#[test]
fn vindr_takes_what_radiologists_agree_on_and_their_mean_boxes() {
    let folder = empty("vindr");
    let root = folder.join("set");
    write(&root.join("annotations/annotations_train.csv"), readings(103).as_bytes());
    let mut test = "image_id,class_name,x_min,y_min,x_max,y_max\n".to_owned();
    let mut labels = "image_id,ILD,Pneumonia,Other disease,No finding\n".to_owned();
    for film in 0..10 {
        match film % 2 {
            0 => writeln!(test, "t{film},ILD,0,0,320,160").unwrap(),
            _ => writeln!(test, "t{film},No finding,,,,").unwrap(),
        }
        writeln!(labels, "t{film},{0},{0},{0},{1}", 1 - film % 2, film % 2).unwrap();
    }
    test.push_str("t0,ILD,5,5,5,9\n");
    write(&root.join("annotations/annotations_test.csv"), test.as_bytes());
    write(&root.join("annotations/image_labels_test.csv"), labels.as_bytes());
    for film in 0..103 {
        write_film(&root.join(format!("train/f{film:03}.png")), 64, 64, film);
    }
    (0..10).for_each(|film| write_film(&root.join(format!("test/t{film}.png")), 64, 64, film));
    let line = "pack vindr --root set --size 64 --resize stretch --out out";
    let funnel = packed(&folder, line);
    assert!(warned(&funnel, &["converted films have boxes measured on their originals", "train/f000.png"]), "{funnel}");
    assert!(warned(&funnel, &["1 boxes have no area", "line 12 of annotations_test.csv"]), "{funnel}");
    let of = |split: &str| funnel["splits"][split].as_u64();
    assert_eq!([of("train"), of("val"), of("test")], [Some(82), Some(21), Some(10)], "a fifth, drawn as CXR-CLIP does");
    fs::remove_dir_all(folder.join("out")).unwrap();

    // Ten times the size of the conversions.
    let rows: String = (0..103).map(|film| format!("f{film:03},640,640\n")).collect();
    write(&root.join("train_meta.csv"), format!("image_id,dim0,dim1\n{rows}").as_bytes());
    let funnel = packed(&folder, line);
    assert!(warned(&funnel, &["converted films", "test/t0.png"]) && !warned(&funnel, &["train/f000.png"]), "{funnel}");
    let data = dataset(&folder);
    let told = |id: &str| {
        let record = data.record(index(&data, id)).unwrap();
        (
            record.findings.clone(),
            places(&record).into_iter().map(|(label, place)| (label.to_owned(), place)).collect::<Vec<_>>(),
        )
    };
    let place = ("Cardiomegaly".to_owned(), [17.6, 32.0, 32.0, 32.0]);
    let (findings, boxes) = told("f003");
    assert_eq!(findings, "Cardiomegaly", "one of three saw ILD");
    assert!(
        boxes.len() == 1 && boxes[0].0 == place.0 && (0..4).all(|at| (boxes[0].1[at] - place.1[at]).abs() < 1e-3),
        "{boxes:?}"
    );
    assert_eq!((told("f001").0, told("f002").0), ("No Finding".into(), String::new()), "nobody agrees on f002");
    assert_eq!(told("t0"), ("ILD;Other diseases;Pneumonia".into(), vec![("ILD".into(), [0.0, 0.0, 64.0, 64.0])]));
    let record = data.record(index(&data, "f002")).unwrap();
    assert_eq!(record.columns["votes"], "ILD:1;No Finding:1;Other diseases:1");

    fs::remove_dir_all(folder.join("out")).unwrap();
    packed(&folder, &format!("{line} --votes 1"));
    let data = dataset(&folder);
    let record = data.record(index(&data, "f002")).unwrap();
    assert_eq!(record.findings, "ILD;Other diseases", "beside a finding nobody's film is normal");
}

#[test]
fn vindr_tables_that_break_a_rule_are_refused() {
    let folder = empty("vindr-refused");
    let root = folder.join("set");
    fs::create_dir_all(folder.join("out")).unwrap();
    let bad = |row: &str, words: &[&str]| {
        write(&root.join("annotations/annotations_train.csv"), format!("{}{row}\n", readings(6)).as_bytes());
        refused(&folder, "pack vindr --root set --out none", words);
    };
    bad("f001,R1,ILD,1,2,x,4", &["annotations_train.csv, line 20", "x_max is \"x\""]);
    bad("f001,R1,ILD", &["line 20", "3 values where the header has 7"]);
    write(&root.join("annotations/annotations_train.csv"), readings(6).as_bytes());
    write(&root.join("annotations/image_labels_train.csv"), b"image_id,rad_id,ILD\nf001,R1,maybe\n");
    refused(
        &folder,
        "pack vindr --root set --out none",
        &["image_labels_train.csv, line 2", "ILD is \"maybe\", neither 0 nor 1"],
    );
    refused(
        &folder,
        "pack vindr --root out --out none",
        &["there is no annotations/annotations_train.csv or", "train.csv in out"],
    );
}

#[test]
fn vindr_as_the_challenge_has_it_is_read_without_test_films() {
    let folder = empty("vindr-challenge");
    let table = readings(30).replace(BOXES, "image_id,rad_id,class_name,x_min,y_min,x_max,y_max,class_id");
    let table: String =
        table.lines().map(|line| format!("{line}{}\n", if line.starts_with('f') { ",3" } else { "" })).collect();
    write(&folder.join("set/train.csv"), table.as_bytes());
    (0..30).for_each(|film| write_film(&folder.join(format!("set/train/f{film:03}.jpg")), 640, 640, film));
    let funnel = packed(&folder, "pack vindr --root set --size 16 --out out");
    assert_eq!((funnel["kept"].as_u64(), funnel["boxes"].as_u64()), (Some(30), Some(10)));
    assert!(warned(&funnel, &["no test films: there is no annotations/annotations_test.csv or"]), "{funnel}");
}

#[test]
fn object_cxr_has_the_bounds_of_what_was_drawn() {
    let folder = empty("object-cxr");
    let (mut train, mut dev) = ("image_name,annotation\n".to_owned(), "image_name,annotation\n".to_owned());
    for film in 0..40 {
        let drawn = ["", "0 8 16 24 48;1 40 40 48 56", "2 8 8 16 8 12 24"][film % 3];
        writeln!(if film < 30 { &mut train } else { &mut dev }, "{film:05}.jpg,{drawn}").unwrap();
        let part = if film < 30 { "train" } else { "dev" };
        if film != 3 {
            write_film(&folder.join(format!("set/{part}/{film:05}.jpg")), 64, 64, film as u32);
        }
    }
    dev.push_str("00003x.jpg,0 5 5 5 9\n");
    write_film(&folder.join("set/dev/00003x.jpg"), 64, 64, 3);
    write(&folder.join("set/train.csv"), train.as_bytes());
    write(&folder.join("set/dev.csv"), dev.as_bytes());
    let funnel = packed(&folder, "pack object-cxr --root set --size 64 --out out");
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts, funnel["kept"].as_u64()), (vec![41, 41, 40], Some(40)));
    assert_eq!(funnel["splits"]["test"].as_u64(), Some(11));
    assert!(warned(&funnel, &["1 objects have no area", "0 5 5 5 9 on 00003x"]), "{funnel}");
    let data = dataset(&folder);
    let record = data.record(index(&data, "00001")).unwrap();
    let object = "Foreign Object";
    assert_eq!(places(&record), [(object, [8.0, 16.0, 16.0, 32.0]), (object, [40.0, 40.0, 8.0, 16.0])]);
    assert_eq!(places(&data.record(index(&data, "00002")).unwrap()), [(object, [8.0, 8.0, 8.0, 16.0])]);
    // The middle of an object is in its mask, a corner of an ellipse's or a triangle's bounds is not.
    let masked = |id: &str, x: usize, y: usize| data.record(index(&data, id)).unwrap().mask.unwrap()[y * 64 + x];
    assert_eq!([masked("00001", 8, 16), masked("00001", 44, 48), masked("00001", 40, 40)], [255, 255, 0]);
    assert_eq!([masked("00002", 12, 12), masked("00002", 8, 23), masked("00000", 12, 12)], [255, 0, 0]);
    assert_eq!(funnel["masks"].as_u64(), Some(40), "a film without objects has an empty mask");
    let findings = ["00001", "00000"].map(|id| data.record(index(&data, id)).unwrap().findings);
    assert_eq!(findings, [object, "No Finding"]);

    let bad = |row: &str, words: &[&str]| {
        write(&folder.join("set/dev.csv"), format!("image_name,annotation\n{row}\n").as_bytes());
        refused(&folder, "pack object-cxr --root set --out none", words);
    };
    bad("x.jpg,3 1 2 3 4", &["dev.csv, line 2: x: ", "begins with \"3\""]);
    bad("x.jpg,0 1 2 3", &["has 3 numbers"]);
    bad("x.jpg,0 1 2 3 four", &["\"four\" in", "is not a number"]);
    fs::remove_file(folder.join("set/dev.csv")).unwrap();
    refused(&folder, "pack object-cxr --root set --out none", &["there is no dev.csv in set"]);
}

#[test]
fn covidx_has_three_classes_and_names_with_blanks() {
    let folder = empty("covidx");
    let root = folder.join("set");
    let (mut train, mut test) = (String::new(), String::new());
    for film in 0..60 {
        let class = ["normal", "pneumonia", "COVID-19"][film % 3];
        let name = if film == 5 { "SARS-10 (a) copy.png".into() } else { format!("{film}.png") };
        let (list, part) = if film < 50 { (&mut train, "train") } else { (&mut test, "test") };
        // Ten films of each patient, of two sources that count from 1.
        writeln!(list, "{} {name} {class} {}", film / 10 % 2, ["rsna", "sirm"][film / 20 % 2]).unwrap();
        if film != 7 {
            write_film(&root.join(part).join(name), 20, 20, film as u32);
        }
    }
    train.push('\n');
    write(&root.join("train_COVIDx9B.txt"), train.as_bytes());
    refused(&folder, "pack covidx --root set --out none", &["there is no test_COVIDx9B.txt in set"]);
    write(&root.join("test_COVIDx9B.txt"), test.as_bytes());
    let funnel = packed(&folder, "pack covidx --root set --size 16 --out out");
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts, funnel["splits"]["test"].as_u64()), (vec![60, 60, 59], Some(10)));
    assert!(filter(&funnel, "with a film")["examples"][0].as_str().unwrap().contains("there is no train/7.png"));
    assert!(warned(&funnel, &["patients are on several sides of this split"]), "{funnel}");
    let data = dataset(&folder);
    let record = data.record(index(&data, "train/SARS-10 (a) copy.png")).unwrap();
    assert_eq!((record.findings.as_str(), record.patient_id.as_str()), ("COVID-19", "rsna 0"));
    assert_eq!(record.columns["source"], "rsna");
    assert_eq!(data.record(index(&data, "train/0.png")).unwrap().findings, "Normal");

    let bad = |line: &str, words: &[&str]| {
        write(&root.join("test_COVIDx9B.txt"), format!("{test}{line}\n").as_bytes());
        refused(&folder, "pack covidx --root set --out none", words);
    };
    bad(
        "1 a.png positive cohen",
        &["test_COVIDx9B.txt, line 11", "class \"positive\" is none of normal, pneumonia, COVID-19"],
    );
    bad("1 normal cohen", &["line 11", "no name of a file"]);
    bad("1", &["line 11", "1 words, where patient, file, class and source"]);
}
