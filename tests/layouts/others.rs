//! `g2d pack chexpert`, `rsna`, `siim`, `nih`, `openi`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use g2d::base::random::Rng;
use g2d::data::{Dataset, Split};

use super::command::empty;
use super::{dataset, filter, filters, index, packed, refused, warned, write, write_film};

pub const CHEXPERT: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung \
                        Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural \
                        Effusion,Pleural Other,Fracture,Support Devices";

#[test]
fn chexpert_keeps_frontal_films_with_labels_and_draws_validation_by_patient() {
    let folder = empty("chexpert");
    let mut rng = Rng::new(1, 1, 0);
    let (mut frontal, mut all) = (0, 0);
    for (table, patients, first) in [("train", 120, 1), ("valid", 8, 64541)] {
        let mut text = format!("{CHEXPERT}\n");
        for patient in first..first + patients {
            for view in 1..2 + rng.below(3) {
                let lateral = view == 2;
                let word = if lateral { "lateral" } else { "frontal" };
                let path = format!("{table}/patient{patient:05}/study1/view{view}_{word}.jpg");
                write_film(&folder.join("set").join(&path), 20, 24, patient);
                let labels: Vec<&str> = (0..14).map(|_| ["", "", "1.0", "0.0", "-1.0"][rng.below(5)]).collect();
                let (kind, view) = if lateral { ("Lateral", "") } else { ("Frontal", "AP") };
                writeln!(text, "CheXpert-v1.0-small/{path},Male,67,{kind},{view},{}", labels.join(",")).unwrap();
                frontal += u64::from(!lateral);
                all += 1;
            }
        }
        write(&folder.join(format!("set/{table}.csv")), text.as_bytes());
    }
    let known = "train/patient90000/study1/view1_frontal";
    write_film(&folder.join(format!("set/{known}.jpg")), 20, 24, 0);
    let table = fs::read_to_string(folder.join("set/train.csv")).unwrap();
    let row = format!("CheXpert-v1.0-small/{known}.jpg,Female,50,Frontal,PA,,,-1.0,,1.0,-1.0,0.0,,,,,,,\n");
    write(&folder.join("set/train.csv"), format!("{table}{row}").as_bytes());

    let line = "pack chexpert --root set --size 16 --out out";
    let funnel = packed(&folder, line);
    assert_eq!(filters(&funnel).first().map(|first| first.1), Some(all + 1));
    assert_eq!(
        (filter(&funnel, "frontal")["kept"].as_u64(), funnel["kept"].as_u64()),
        (Some(frontal + 1), Some(frontal + 1))
    );
    let dataset = dataset(&folder);
    let record = dataset.record(index(&dataset, known)).unwrap();
    assert_eq!(
        record.labels().collect::<Vec<_>>(),
        ["Lung Lesion", "Edema"],
        "uncertain edema is present by MGCA's rule"
    );
    let column = |name: &str| record.columns[name].as_str();
    assert_eq!((column("absent"), column("uncertain"), column("age")), ("Consolidation", "Cardiomegaly;Edema", "50"));
    assert_eq!((record.view.as_str(), record.patient_id.as_str()), ("PA", "patient90000"));
    let patients = |split| -> BTreeSet<String> {
        dataset.select(Some(split), false).into_iter().map(|film| dataset.record(film).unwrap().patient_id).collect()
    };
    let [train, val, test] = Split::ALL.map(patients);
    assert!(
        train.is_disjoint(&val)
            && !val.is_empty()
            && test.len() == 8
            && test.iter().all(|name| name.as_str() > "patient6")
    );
}

#[test]
fn a_film_of_chexpert_is_normal_if_nothing_is_uncertain_and_that_is_not_denied() {
    let folder = empty("chexpert-normal");
    // Nothing written, only a label absent, only one uncertain, the finding of nothing denied, an uncertain one that is present.
    let few = [",,,,,,,,,,,,,", ",,0.0,,,,,,,,,,,", ",,,,,,,-1.0,,,,,,", "0.0,,,,,,,,,,,,,", ",,,,,-1.0,,,,,,,,"];
    let name = |at: usize| format!("train/patient{at:05}/study1/view1_frontal");
    let mut table = format!("{CHEXPERT}\n");
    for (at, labels) in few.iter().enumerate() {
        write_film(&folder.join(format!("set/{}.jpg", name(at))), 20, 24, 0);
        writeln!(table, "CheXpert-v1.0-small/{}.jpg,Male,60,Frontal,PA,{labels}", name(at)).unwrap();
    }
    write(&folder.join("set/train.csv"), table.as_bytes());
    write(&folder.join("set/valid.csv"), format!("{CHEXPERT}\n").as_bytes());
    packed(&folder, "pack chexpert --root set --size 16 --out out");
    let dataset = dataset(&folder);
    let stated = |at: usize| dataset.record(index(&dataset, &name(at))).unwrap().findings;
    assert_eq!([0, 1, 2, 3, 4].map(stated), ["No Finding", "No Finding", "", "", "Edema"]);
}

#[test]
fn chexpert_tables_that_are_missing_or_hold_other_values_are_refused() {
    let folder = empty("chexpert-refused");
    write(&folder.join("set/train.csv"), format!("{CHEXPERT}\n").as_bytes());
    refused(&folder, "pack chexpert --root set --out none", &["there is no valid.csv in set"]);
    write(
        &folder.join("set/valid.csv"),
        format!("{CHEXPERT}\na/valid/p/s/v.jpg,,,Frontal,AP,2{}\n", ",".repeat(13)).as_bytes(),
    );
    refused(&folder, "pack chexpert --root set --out none", &["valid.csv, line 2: No Finding is \"2\""]);
}

#[test]
fn rsna_has_a_row_a_box_and_its_films_whatever_their_size() {
    let folder = empty("rsna");
    let (mut labels, mut classes) = ("patientId,x,y,width,height,Target\n".to_owned(), "patientId,class\n".to_owned());
    for patient in 0..50 {
        let id = format!("{patient:08x}-aaaa-bbbb");
        let boxes = if patient % 3 == 0 { 1 + patient % 2 } else { 0 };
        for at in 0..boxes {
            writeln!(labels, "{id},{}.0,512.0,128.0,256.0,1", 128 + at * 512).unwrap();
            writeln!(classes, "{id},Lung Opacity").unwrap();
        }
        if boxes == 0 {
            writeln!(labels, "{id},,,,,0").unwrap();
            writeln!(classes, "{id},No Lung Opacity / Not Normal").unwrap();
        }
        // Conversions at a sixteenth of the size; one film is not there.
        if patient != 7 {
            write_film(&folder.join(format!("set/stage_2_train_images/{id}.png")), 64, 64, patient);
        }
    }
    write(&folder.join("set/stage_2_train_labels.csv"), labels.as_bytes());
    write(&folder.join("set/stage_2_detailed_class_info.csv"), classes.as_bytes());
    let line = "pack rsna --root set --size 64 --resize stretch --out out";
    let funnel = packed(&folder, line);
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts, funnel["kept"].as_u64(), funnel["boxes"].as_u64()), (vec![50, 49], Some(49), Some(25)));
    let example = filter(&funnel, "with a film")["examples"][0].as_str().unwrap();
    assert!(example.contains("00000007-aaaa-bbbb") && example.contains("there is no"), "{example}");
    // 60 / 20 / 20 of fifty, one of them without its film.
    let split = |name: &str| funnel["splits"][name].as_u64().unwrap();
    assert!(split("train") >= 29 && split("val") >= 9 && split("test") >= 9, "{funnel}");
    let dataset = dataset(&folder);
    let record = dataset.record(index(&dataset, "00000003-aaaa-bbbb")).unwrap();
    assert_eq!((record.findings.as_str(), record.columns["class"].as_str()), ("Pneumonia", "Lung Opacity"));
    let places: Vec<[f32; 4]> = record.boxes.iter().map(|one| [one.x, one.y, one.w, one.h]).collect();
    assert_eq!(places, [[8.0, 32.0, 8.0, 16.0], [40.0, 32.0, 8.0, 16.0]]);
    let within =
        |at: usize| (32..48).contains(&(at / 64)) && ((8..16).contains(&(at % 64)) || (40..48).contains(&(at % 64)));
    assert!(record.mask.unwrap().iter().enumerate().all(|(at, &value)| (value == 255) == within(at)));
    let healthy = dataset.record(index(&dataset, "00000001-aaaa-bbbb")).unwrap();
    assert_eq!((healthy.findings.as_str(), healthy.mask.unwrap().iter().max()), ("No Finding", Some(&0)));

    let bad = |rows: &str, words: &[&str]| {
        write(&folder.join("set/stage_2_train_labels.csv"), format!("{labels}{rows}\n").as_bytes());
        refused(&folder, "pack rsna --root set --out none", words);
    };
    bad(
        "00000001-aaaa-bbbb,1,2,3,4,1",
        &["labels.csv, line ", "00000001-aaaa-bbbb has a box here and Target 0 at line"],
    );
    bad("x,1,2,3,,1", &["height is \"\", not a number"]);
    bad("x,1,2,3,4,2", &["Target is \"2\", neither 0 nor 1"]);
}

#[test]
fn a_film_of_another_shape_than_its_boxes_is_left_out() {
    let folder = empty("rsna-shape");
    let rows: String = (0..6).map(|film| format!("f{film},10,20,30,40,1\n")).collect();
    write(
        &folder.join("set/stage_2_train_labels.csv"),
        format!("patientId,x,y,width,height,Target\n{rows}").as_bytes(),
    );
    for film in 0..6 {
        write_film(&folder.join(format!("set/f{film}.png")), 64, if film == 0 { 40 } else { 64 }, film);
    }
    let funnel = packed(&folder, "pack rsna --root set --size 16 --out out");
    let dropped = &funnel["dropped"]["image: another shape than its boxes and mask"];
    assert_eq!(dropped["count"].as_u64(), Some(1), "{funnel}");
    assert!(dropped["examples"][0].as_str().unwrap().contains("the film is 64x40"), "{dropped}");
    assert!(warned(&funnel, &["no detailed classes", "stage_2_detailed_class_info.csv in set"]));
}

#[test]
fn siim_masks_are_unfolded_from_run_lengths() {
    let folder = empty("siim");
    // A rectangle of columns 256..260, rows 512..768, as gaps and lengths; the second row adds column 1, rows 0..64.
    let mut rectangle = format!("{} 256", 256 * 1024 + 512);
    (0..3).for_each(|_| rectangle.push_str(" 768 256"));
    let mut table = "ImageId, EncodedPixels\n".to_owned();
    writeln!(table, "1.2.276.0.1,{rectangle}\n1.2.276.0.1, 1024 64").unwrap();
    for film in 2..40 {
        writeln!(table, "1.2.276.0.{film}, -1").unwrap();
    }
    write(&folder.join("set/train-rle.csv"), table.as_bytes());
    for film in 1..40 {
        let name = format!("1.2.276.0.{film}");
        write_film(&folder.join(format!("set/dicom-images-train/{film}/{film}/{name}.png")), 512, 512, film);
    }
    let funnel = packed(&folder, "pack siim --root set --size 512 --out out");
    assert_eq!((funnel["kept"].as_u64(), funnel["masks"].as_u64()), (Some(39), Some(39)));
    let dataset = dataset(&folder);
    let record = dataset.record(index(&dataset, "1.2.276.0.1")).unwrap();
    assert_eq!(record.findings, "Pneumothorax");
    let within = |at: usize| {
        let (x, y) = (at % 512, at / 512);
        (128..130).contains(&x) && (256..384).contains(&y) || x == 0 && y < 32
    };
    assert!(record.mask.unwrap().iter().enumerate().all(|(at, &value)| (value == 255) == within(at)));
    assert_eq!(dataset.record(index(&dataset, "1.2.276.0.2")).unwrap().findings, "No Finding");

    let bad = |row: &str, words: &[&str]| {
        write(&folder.join("set/train-rle.csv"), format!("{table}{row}\n").as_bytes());
        refused(&folder, "pack siim --root set --out none", words);
    };
    let overrun = ["train-rle.csv, line 42: x: run 2 (1048570 2)", "pixels 1048575 to 1048577, of 1048576"];
    bad("x,1 4 1048570 2", &overrun);
    bad("x,1 4 7", &["line 42", "7, which has no partner"]);
    bad("1.2.276.0.1,-1", &["line 42", "has a mask here or at line 2"]);
}

#[test]
fn nih_has_labels_boxes_and_the_official_lists() {
    let folder = empty("nih");
    let mut entries = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
                       OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        .to_owned();
    let (mut train, mut test) = (String::new(), String::new());
    for film in 0..120 {
        let (patient, follow_up) = (film / 2, film % 2);
        let name = format!("{patient:08}_{follow_up:03}.png");
        let labels = ["No Finding", "Cardiomegaly|Effusion", "Infiltration"][film % 3];
        writeln!(entries, "{name},{labels},{follow_up},{patient},058Y,M,PA,2682,2749,0.143,0.143,").unwrap();
        writeln!(if patient < 50 { &mut train } else { &mut test }, "{name}").unwrap();
        if film != 8 {
            write_film(&folder.join(format!("set/images_{:03}/images/{name}", film / 50)), 64, 64, film as u32);
        }
    }
    writeln!(entries, "00000099_000.png,Mass,0,99,058Y,M,PA,2682,2749,0.143,0.143,").unwrap();
    let boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n\
                 00000001_000.png,Infiltrate,256.0,512.0,128.0,64.0,,,\n99999999_000.png,Mass,1,2,3,4,,,\n";
    for (name, text) in [
        ("Data_Entry_2017.csv", entries.as_str()),
        ("BBox_List_2017.csv", boxes),
        ("train_val_list.txt", &train),
        ("test_list.txt", &test),
    ] {
        write(&folder.join("set").join(name), text.as_bytes());
    }
    let line = "pack nih --root set --size 64 --resize stretch --out out";
    let funnel = packed(&folder, line);
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts, funnel["splits"]["test"].as_u64()), (vec![121, 121, 120, 119], Some(20)));
    assert!(filter(&funnel, "in one of")["examples"][0].as_str().unwrap().contains("it is in neither"));
    assert!(warned(&funnel, &["boxes of BBox_List_2017.csv are of no film", "99999999_000.png"]), "{funnel}");
    assert!(funnel["splits"]["val"].as_u64() > Some(0));
    let dataset = dataset(&folder);
    let record = dataset.record(index(&dataset, "00000001_000")).unwrap();
    let [one] = &record.boxes[..] else { panic!("{:?}", record.boxes) };
    assert_eq!((one.label.as_str(), [one.x, one.y, one.w, one.h]), ("Infiltration", [16.0, 32.0, 8.0, 4.0]));
    let column = |name: &str| record.columns[name].as_str();
    assert_eq!((record.findings.as_str(), column("age"), column("sex")), ("Infiltration", "058Y", "M"));
    assert_eq!(dataset.record(index(&dataset, "00000000_001")).unwrap().findings, "Cardiomegaly;Effusion");
    // The table of 2020 calls a column otherwise.
    let entries = entries.replace("Patient Gender", "Patient Sex");
    write(&folder.join("set/Data_Entry_2017_v2020.csv"), entries.as_bytes());
    let _ = fs::remove_dir_all(folder.join("out"));
    packed(&folder, line);
    let again = super::dataset(&folder);
    assert_eq!(again.record(index(&again, "00000001_000")).unwrap().columns["sex"], "M");
    fs::remove_file(folder.join("set/test_list.txt")).unwrap();
    refused(&folder, "pack nih --root set --out none", &["there is no test_list.txt in set"]);
}

fn report(number: usize) -> String {
    let findings = if number == 3 { String::new() } else { format!("Heart {number} normal &amp; lungs clear. XXXX.") };
    let films: String = (0..1 + number % 2)
        .map(|film| {
            format!(
                "<parentImage id=\"CXR{number}_1_IM-0{number:03}-{film}\"><caption>Xray Chest</caption></parentImage>"
            )
        })
        .collect();
    let term = if number.is_multiple_of(2) {
        "<major>normal</major>"
    } else {
        "<major>Cardiomegaly/mild</major><major>Opacity/lung/base</major>"
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><eCitation><uId id=\"CXR{number}\"/><MedlineCitation><Article><Abstract>\
         <AbstractText Label=\"COMPARISON\">None.</AbstractText><AbstractText Label=\"FINDINGS\">{findings}</AbstractText>\
         <AbstractText Label=\"IMPRESSION\"></AbstractText></Abstract></Article></MedlineCitation>\
         <MeSH>{term}<automatic>x</automatic></MeSH>{films}</eCitation>"
    )
}

#[test]
fn open_i_is_read_from_xml_and_from_the_csv_pair() {
    let folder = empty("openi");
    for number in 1..=20 {
        write(&folder.join(format!("reports/{number}.xml")), report(number).as_bytes());
        for film in 0..1 + number % 2 {
            write_film(&folder.join(format!("films/CXR{number}_1_IM-0{number:03}-{film}.png")), 20, 20, number as u32);
        }
    }
    write(&folder.join("reports/21.xml"), &report(21).as_bytes()[..300]);
    write(&folder.join("reports/22.xml"), b"<eCitation><uId id=\"CXR22\"/></eCitation>");
    let funnel = packed(&folder, "pack openi --images films --reports reports --size 16 --out out");
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!((counts, funnel["kept"].as_u64()), (vec![30, 30, 30, 28, 28], Some(28)), "one report has no text");
    assert!(warned(&funnel, &["1 of the files passed over, being no report", "21.xml: "]), "{funnel}");
    assert!(warned(&funnel, &["1 of the reports without a film", "22.xml"]), "{funnel}");
    let data = dataset(&folder);
    let record = data.record(index(&data, "CXR1_1_IM-0001-1")).unwrap();
    assert_eq!(
        (record.text.as_str(), record.findings.as_str()),
        ("Heart 1 normal & lungs clear. XXXX.", "Cardiomegaly;Opacity")
    );
    assert_eq!(
        (record.patient_id.as_str(), record.columns["mesh"].as_str()),
        ("CXR1", "Cardiomegaly/mild;Opacity/lung/base")
    );
    assert_eq!(data.record(index(&data, "CXR2_1_IM-0002-0")).unwrap().findings, "No Finding");

    let (mut reports, mut projections) = (
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n".to_owned(),
        "uid,filename,projection\n".to_owned(),
    );
    for number in 1..=20 {
        writeln!(reports, "{number},normal,normal,Xray,,,\"Lungs, clear.\",Normal {number}.").unwrap();
        for (film, view) in ["Frontal", "Lateral"].iter().enumerate() {
            writeln!(projections, "{number},{number}_IM-{film}.dcm.png,{view}").unwrap();
            write_film(&folder.join(format!("kaggle/{number}_IM-{film}.dcm.png")), 20, 20, number);
        }
    }
    projections.push_str("77,77_IM-0.dcm.png,Frontal\n");
    write(&folder.join("indiana_reports.csv"), reports.as_bytes());
    let line = "pack openi --images kaggle --reports indiana_reports.csv --size 16 --out kaggle-out";
    refused(&folder, line, &["there is no indiana_projections.csv in"]);
    write(&folder.join("indiana_projections.csv"), projections.as_bytes());
    let funnel = packed(&folder, line);
    let counts: Vec<u64> = filters(&funnel).into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [41, 21, 21, 20, 20, 20], "{funnel}");
    let data = Dataset::open(&folder.join("kaggle-out")).unwrap();
    let record = data.record(index(&data, "4_IM-0.dcm")).unwrap();
    assert_eq!((record.text.as_str(), record.view.as_str()), ("Normal 4. Lungs, clear.", "Frontal"));
}
