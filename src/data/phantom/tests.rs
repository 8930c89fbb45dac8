//! What must hold for every phantom.

use super::*;
use std::collections::HashSet;
use std::path::PathBuf;

/// Findings and reports of many films, without drawing them.
fn reports(count: u64) -> Vec<(Vec<Finding>, String)> {
    let film = |index| {
        let findings = finding::draw(&mut Rng::new(11, FINDINGS, index));
        let text = report::write(&findings, "PA", &mut Rng::new(11, REPORT, index));
        (findings, text)
    };
    (0..count).map(film).collect()
}

/// Words that name a kind.
fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Opacity => &["opacity", "opacities"],
        Kind::Consolidation => &["consolidation"],
        Kind::Nodule => &["nodule"],
        Kind::Effusion => &["effusion"],
        Kind::Pneumothorax => &["pneumothorax"],
        Kind::Cardiomegaly => &["cardiomegaly", "enlarged"],
        Kind::Device(Device::EndotrachealTube) => &["endotracheal tube"],
        Kind::Device(Device::NasogastricTube) => &["nasogastric tube"],
        Kind::Device(Device::CentralLine) => &["central venous catheter"],
        Kind::Device(Device::ChestTube) => &["chest tube"],
        Kind::Device(Device::Pacemaker) => &["pacemaker"],
    }
}

const KINDS: [Kind; 11] = [
    Kind::Opacity,
    Kind::Consolidation,
    Kind::Nodule,
    Kind::Effusion,
    Kind::Pneumothorax,
    Kind::Cardiomegaly,
    Kind::Device(Device::EndotrachealTube),
    Kind::Device(Device::NasogastricTube),
    Kind::Device(Device::CentralLine),
    Kind::Device(Device::ChestTube),
    Kind::Device(Device::Pacemaker),
];

/// An empty folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("g2d-phantom-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_film_depends_on_seed_and_index_alone() {
    assert_eq!(draw(3, 5), draw(3, 5));
    assert_ne!(draw(3, 5).pixels, draw(4, 5).pixels);
    assert_ne!(draw(3, 5).pixels, draw(3, 6).pixels);
}

#[test]
fn a_folder_holds_the_same_films_whatever_its_count_and_threads() {
    let (small, large) = (Folder::new("small"), Folder::new("large"));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| write(&small.0, 3, 9, &|_| ())).unwrap();
    write(&large.0, 6, 9, &|_| ()).unwrap();
    for index in 0..3 {
        for folder in ["images", "masks"] {
            let name = format!("{folder}/ph9-{index:06}.png");
            let [a, b] = [&small.0, &large.0].map(|root| std::fs::read(root.join(&name)).unwrap());
            assert_eq!(a, b, "{name}");
        }
    }
    let rows = |folder: &Folder| {
        let mut reader = csv::Reader::from_path(folder.0.join("pairs.csv")).unwrap();
        reader.records().map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(rows(&small), rows(&large)[..3]);
    let film = draw(9, 2);
    let read = image::open(small.0.join("images/ph9-000002.png")).unwrap().into_luma8();
    assert_eq!((read.dimensions(), read.into_raw()), ((film.width as u32, film.height as u32), film.pixels));
    assert_eq!(&rows(&small)[2][2], film.text);
}

#[test]
fn a_folder_that_holds_anything_is_left_alone() {
    let folder = Folder::new("taken");
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join("mine.txt"), "x").unwrap();
    assert!(matches!(write(&folder.0, 1, 0, &|_| ()), Err(Error::NotEmpty(_))));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn a_thousand_reports_hold_many_texts_and_every_finding_side_zone_and_size() {
    let reports = reports(1000);
    let texts: HashSet<_> = reports.iter().map(|(_, text)| text).collect();
    assert!(texts.len() >= 200, "{}", texts.len());
    let found: Vec<&Finding> = reports.iter().flat_map(|(findings, _)| findings).collect();
    for kind in KINDS {
        assert!(found.iter().any(|it| it.kind == kind), "{kind:?}");
    }
    for kind in [Kind::Opacity, Kind::Consolidation, Kind::Nodule] {
        for side in [Side::Right, Side::Left] {
            for zone in [Zone::Upper, Zone::Mid, Zone::Lower] {
                for size in [Size::Small, Size::Moderate, Size::Large] {
                    let wanted = Finding { kind, side, zone: Some(zone), size: Some(size) };
                    assert!(found.contains(&&wanted), "{wanted:?}");
                }
            }
        }
    }
    let normal = reports.iter().filter(|(findings, _)| findings.is_empty()).count();
    let two = reports.iter().filter(|(findings, _)| findings.len() == 2).count();
    assert!((130..230).contains(&normal) && (60..150).contains(&two), "{normal} normal, {two} with two");
}

#[test]
fn a_report_names_what_is_there_and_asserts_nothing_else() {
    for (findings, text) in reports(1000) {
        let words = text.split_whitespace().count();
        let sentences: Vec<String> = text.split('.').map(str::to_lowercase).filter(|it| !it.is_empty()).collect();
        assert!((10..=40).contains(&words) && (1..=5).contains(&sentences.len()), "{text}");
        for finding in &findings {
            let word = |name: String| name.to_lowercase();
            let mut wanted = Vec::new();
            wanted.extend(finding.zone.map(|zone| word(format!("{zone:?}"))));
            match (finding.side, finding.kind, finding.size) {
                (Side::Both, ..) => wanted.push("bilateral".into()),
                (Side::Middle, Kind::Cardiomegaly, Some(size)) => {
                    wanted.push(["mild", "moderate", "severe"][size as usize].into());
                }
                (Side::Middle, ..) => (),
                (side, ..) => wanted.push(word(format!("{side:?}"))),
            }
            if finding.side != Side::Middle {
                wanted.extend(finding.size.map(|size| word(format!("{size:?}"))));
            }
            let told = |sentence: &&String| {
                names(finding.kind).iter().any(|name| sentence.contains(name)) && !negated(sentence)
            };
            let sentence = sentences.iter().find(told).unwrap_or_else(|| panic!("{finding:?} is not in: {text}"));
            assert!(wanted.iter().all(|word| sentence.contains(word)), "{wanted:?} not in: {sentence}");
        }
        for kind in KINDS.into_iter().filter(|kind| findings.iter().all(|it| it.kind != *kind)) {
            let asserted = |it: &&String| names(kind).iter().any(|name| it.contains(name)) && !negated(it);
            assert_eq!(sentences.iter().find(asserted), None, "no {kind:?} is there");
        }
        let clear = sentences.iter().any(|it| it.contains("clear") || it.contains("normal study"));
        let lung = findings.iter().any(|it| it.zone.is_some());
        assert!(!(clear && lung), "{text}");
    }
}

fn negated(sentence: &str) -> bool {
    let sentence = sentence.trim();
    ["no ", "there is no "].iter().any(|start| sentence.starts_with(start)) || sentence.contains(" not ")
}

#[test]
fn masks_and_boxes_mark_the_findings_and_films_look_exposed() {
    let mut counted = 0;
    for index in 0..120 {
        let film = draw(5, index);
        assert_eq!((film.pixels.len(), film.mask.len()), (film.width * film.height, film.width * film.height));
        assert_eq!(film.width.max(film.height), 320);
        let marked: Vec<[usize; 2]> = (0..film.mask.len())
            .filter(|&pixel| film.mask[pixel] != 0)
            .map(|pixel| [pixel % film.width, pixel / film.width])
            .collect();
        assert!(film.mask.iter().all(|value| matches!(value, 0 | 255)));
        let expected: usize = film.findings.iter().map(|it| if it.side == Side::Both { 2 } else { 1 }).sum();
        assert_eq!(film.boxes.len(), expected, "{}: {:?}", film.id, film.findings);
        assert_eq!(marked.is_empty(), film.findings.is_empty(), "{}", film.id);
        let inside =
            |it: &Bounds, [x, y]: [usize; 2]| (it.x..it.x + it.w).contains(&x) && (it.y..it.y + it.h).contains(&y);
        assert!(marked.iter().all(|&at| film.boxes.iter().any(|it| inside(it, at))), "{}", film.id);
        for it in &film.boxes {
            assert!(it.w > 2 && it.h > 2 && it.x + it.w <= film.width && it.y + it.h <= film.height, "{it:?}");
            assert!(marked.iter().any(|&at| inside(it, at)), "{}: {it:?}", film.id);
        }
        let gray: Vec<f64> = film.pixels.iter().map(|&value| f64::from(value) / 255.0).collect();
        let mean = gray.iter().sum::<f64>() / gray.len() as f64;
        let spread = (gray.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / gray.len() as f64).sqrt();
        assert!((0.25..0.85).contains(&mean) && (0.08..0.36).contains(&spread), "{}: {mean} {spread}", film.id);
        counted += film.boxes.len();
    }
    assert!(counted > 80);
}

#[test]
fn a_finding_on_the_right_lies_on_the_left_of_the_image() {
    for index in 0..60 {
        let film = draw(6, index);
        for finding in film.findings.iter().filter(|it| it.zone.is_some() && it.side != Side::Both) {
            let label = finding.kind.label();
            let middles = film.boxes.iter().filter(|it| it.label == label).map(|it| 2 * it.x + it.w);
            for middle in middles {
                assert_eq!(middle < film.width, finding.side == Side::Right, "{}: {finding:?}", film.id);
            }
        }
    }
}

#[test]
fn a_patient_stays_in_one_split_and_some_have_two_films() {
    let films: Vec<Film> = (0..40).map(|index| draw(8, index)).collect();
    let patients: HashSet<_> = films.iter().map(|film| &film.patient_id).collect();
    let pairs: HashSet<_> = films.iter().map(|film| (&film.patient_id, film.split)).collect();
    assert!(patients.len() < films.len());
    assert_eq!(patients.len(), pairs.len());
    assert!(films.iter().any(|film| film.split != "train"));
}
