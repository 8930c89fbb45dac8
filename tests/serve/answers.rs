//! What is answered is what the library and the other verbs compute.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use g2d::data::prepare::{Resize, prepare};
use g2d::data::{Dataset, decode};
use g2d::downstream::explain::explain;
use g2d::downstream::prompts::Prompts;
use g2d::downstream::{Encoder, Subject};
use g2d::train::Resources;
use serde_json::Value;

use super::common::command::{empty, g2d, listing};
use super::{Server, film, films, world};

/// Gray values of a film's file at the model's size.
pub fn pixels(path: &Path) -> Vec<u8> {
    prepare(decode::film(path).unwrap(), 64, Resize::Fit).unwrap().0
}

/// Names and pixels of what was answered.
fn stages(answer: &Value) -> Vec<(String, Vec<u8>)> {
    let stage = |stage: &Value| {
        (stage["name"].as_str().unwrap().into(), BASE64_STANDARD.decode(stage["pixels"].as_str().unwrap()).unwrap())
    };
    answer["stages"].as_array().unwrap().iter().map(stage).collect()
}

/// How far a cosine of f32 may be from that of another batch: 16 products, rounded to 2^-24 each. Measured: 1.8e-8.
const ROUNDED: f64 = 1e-6;

fn numbers(values: &Value, name: &str) -> Vec<f64> {
    values.as_array().unwrap().iter().map(|value| value[name].as_f64().unwrap()).collect()
}

#[test]
fn a_film_is_explained_as_by_the_command_and_the_library() {
    let server = Server::usual("explained");
    let path = &films()[0];
    let answer = server.explain("?text=pleural%20effusion", &film()).well();
    let subject = Subject::of_run(&world().join("run")).unwrap();
    let pixels = pixels(path);
    let library = explain(&subject, &Resources::default(), &pixels, Some("pleural effusion")).unwrap();
    let wanted: Vec<(String, Vec<u8>)> = (library.stages.iter())
        .map(|stage| (stage.name.clone(), stage.pixels.iter().map(|pixel| (pixel * 255.0).round() as u8).collect()))
        .collect();
    assert_eq!(stages(&answer), wanted);
    assert_eq!((&wanted[0].0[..], &wanted[0].1), ("film", &pixels));
    assert_eq!(answer["side"], 64);
    assert_eq!(wanted.last().unwrap().0, "\"pleural effusion\"");
    // The command reads a file, and its phrase may hold no blank here.
    let answer = server.explain("?text=effusion", &film()).well();
    let out = empty("explained").join("explained.png"); // another test looks at what lies in this folder
    let line =
        format!("explain --weights run --image {} --text effusion --json --out {}", path.display(), out.display());
    let told: Value = serde_json::from_str(&g2d(world(), &line).done()).unwrap();
    assert_eq!(answer["numbers"], told);
    // Another phrase is another map, no phrase is none, and other films do not shine through.
    let plain = server.explain("", &film()).well();
    assert_eq!(stages(&plain), wanted[..wanted.len() - 1]);
    assert!(plain["numbers"]["similarity"].is_null());
    let other = server.explain("?text=effusion", &fs::read(&films()[1]).unwrap()).well();
    assert_ne!(stages(&other)[1..], stages(&answer)[1..]);
    assert_eq!(server.explain("?text=effusion", &film()).well(), answer);
    server.stop();
}

#[test]
fn findings_and_reports_are_the_nearest() {
    let server = Server::usual("nearest");
    let model = server.get("/model").well();
    let answer = server.explain("", &film()).well();
    let dataset = Arc::new(Dataset::open(&world().join("shards")).unwrap());
    let subject = Subject::of_run(&world().join("run")).unwrap();
    let mut encoder = Encoder::open(&subject, &Resources::default()).unwrap();
    let shown = pixels(&films()[0]);
    let sample = (0..dataset.len()).find(|&sample| dataset.pixels(sample) == shown).expect("the film is packed");
    let image = encoder.films(&dataset, &[sample], false, &|_| ()).unwrap().embedding;
    let cosine = |text: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        dot(&image, text) / (dot(&image, &image) * dot(text, text)).sqrt()
    };
    // Every text once, by its likeness; of the findings, as the mean of each side's sentences says.
    let texts: BTreeSet<String> = (0..dataset.len()).map(|sample| dataset.record(sample).unwrap().text).collect();
    assert_eq!(model["reports"], texts.len());
    let mut near: Vec<(f64, String)> = Vec::new();
    for text in texts {
        near.push((cosine(&encoder.reports(&[&text]).unwrap()), text));
    }
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let reports = &answer["reports"];
    let found = numbers(reports, "similarity");
    assert!(found.len() == 5 && found.is_sorted_by(|a, b| a >= b), "{reports}");
    for (report, (similarity, _)) in reports.as_array().unwrap().iter().zip(&near) {
        assert!((report["similarity"].as_f64().unwrap() - similarity).abs() <= ROUNDED, "{report} {similarity}");
        let text = report["text"].as_str().unwrap();
        let (own, _) = near.iter().find(|(_, known)| known == text).expect("it is a report of these shards");
        assert!((own - similarity).abs() <= ROUNDED, "{text} is at {own}, not {similarity}");
    }
    let findings = answer["findings"].as_array().unwrap();
    let names: Vec<&Value> = findings.iter().map(|finding| &finding["name"]).collect();
    assert_eq!(names, model["findings"].as_array().unwrap().iter().collect::<Vec<_>>());
    assert!(names.iter().any(|name| *name == "Effusion"), "{names:?}");
    for (finding, score) in findings.iter().zip(numbers(&answer["findings"], "score")) {
        let prompts = Prompts::of(finding["name"].as_str().unwrap());
        let mut side = |sentences: &[String]| {
            let rows = encoder.prompts(sentences).unwrap();
            let width = image.len();
            cosine(&(0..width).map(|at| rows.iter().skip(at).step_by(width).sum::<f32>()).collect::<Vec<_>>())
        };
        let wanted = 1.0 / (1.0 + (side(&prompts.negative) - side(&prompts.positive)).exp());
        assert!((score - wanted).abs() <= ROUNDED, "{finding}: {wanted}");
    }
}

/// A DICOM file of 8 bits of these gray values.
fn dicom(rows: u16, columns: u16, gray: Vec<u8>) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    let uid = "1.2.826.0.1.4711";
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, rows),
        (tags::COLUMNS, columns),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    object.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from("MONOCHROME2")));
    object.put(DataElement::new(tags::PATIENT_NAME, VR::PN, PrimitiveValue::from("Doe^Jane")));
    object.put(DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from(uid)));
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(gray.into())));
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .media_storage_sop_class_uid("1.2.840.10008.5.1.4.1.1.1.1")
        .media_storage_sop_instance_uid(uid);
    let mut bytes = Vec::new();
    object.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
    bytes
}

#[test]
fn every_format_is_taken_and_nothing_of_it_kept_or_told() {
    let server = Server::start("formats", "--weights run");
    let before = listing(world());
    let png = server.explain("?text=effusion", &film()).well();
    let gray = image::load_from_memory(&film()).unwrap().to_luma8();
    let (width, height) = gray.dimensions();
    let made = dicom(height as u16, width as u16, gray.clone().into_raw());
    let answer = server.explain("?text=effusion", &made);
    assert_eq!(answer.well(), png, "the same gray values are the same film");
    for part in ["Doe", "Jane", "4711"] {
        assert!(!String::from_utf8_lossy(&answer.body).contains(part), "{part}");
        assert!(!server.errors().contains(part), "{part}");
    }
    let mut jpeg = std::io::Cursor::new(Vec::new());
    gray.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    server.explain("?text=effusion", jpeg.get_ref()).well();
    assert!(png["reports"].as_array().unwrap().is_empty(), "no data were given");
    let model = server.get("/model").well();
    assert!(model["findings"].as_array().unwrap().iter().any(|name| name == "Cardiomegaly"), "{model}");
    assert_eq!(listing(world()), before);
    server.stop();
}

#[test]
fn a_body_may_come_in_chunks() {
    let server = Server::start("chunks", "--weights run");
    let film = film();
    let head = format!("POST /explain HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", server.address);
    let mut request = head.into_bytes();
    for part in film.chunks(1000) {
        request.extend(format!("{:x}\r\n", part.len()).bytes());
        request.extend(part);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    assert_eq!(server.ask(&request).well(), server.explain("", &film).well());
}
