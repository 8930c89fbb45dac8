//! What must hold for every phantom.

use super::*;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

const STYLES: [Style; 2] = [Style::Training, Style::Evaluation];
static NEVER: AtomicBool = AtomicBool::new(false);

/// Findings and reports of many films, without drawing them.
fn reports(style: Style, count: u64) -> Vec<(Vec<Finding>, String)> {
    let film = |index| {
        let findings = finding::draw(&mut Rng::new(11, FINDINGS, index));
        let text = report::write(style.words(), &findings, "PA", &mut Rng::new(11, REPORT, index));
        (findings, text)
    };
    (0..count).map(film).collect()
}

/// Words that name a kind.
fn names(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Opacity => &["opacity", "opacities", "opacification", "ground-glass", "infiltrate"],
        Kind::Consolidation => &["consolidation", "consolidated", "airspace disease"],
        Kind::Nodule => &["nodule", "nodular", "lesion"],
        Kind::Effusion => &["effusion", "pleural fluid"],
        Kind::Pneumothorax => &["pneumothorax", "pleural air"],
        Kind::Cardiomegaly => &["cardiomegaly", "enlarged", "enlargement"],
        Kind::Device(Device::EndotrachealTube) => &["endotracheal", "tracheal tube"],
        Kind::Device(Device::NasogastricTube) => &["gastric tube", "feeding tube"],
        Kind::Device(Device::CentralLine) => &["central venous catheter", "central line", "venous line"],
        Kind::Device(Device::ChestTube) => &["chest tube", "drain"],
        Kind::Device(Device::Pacemaker) => &["pacemaker", "pacing"],
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
    assert_eq!(draw(Style::Training, 3, 5), draw(Style::Training, 3, 5));
    assert_ne!(draw(Style::Training, 3, 5).pixels, draw(Style::Training, 4, 5).pixels);
    assert_ne!(draw(Style::Training, 3, 5).pixels, draw(Style::Training, 3, 6).pixels);
}

#[test]
fn a_folder_holds_the_same_films_whatever_its_count_and_threads() {
    let (small, large) = (Folder::new("small"), Folder::new("large"));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    one.install(|| write(&small.0, Style::Evaluation, 3, 9, &|_| (), &NEVER)).unwrap();
    write(&large.0, Style::Evaluation, 6, 9, &|_| (), &NEVER).unwrap();
    for index in 0..3 {
        for folder in ["images", "masks"] {
            let name = format!("{folder}/pe9-{index:06}.png");
            let [a, b] = [&small.0, &large.0].map(|root| std::fs::read(root.join(&name)).unwrap());
            assert_eq!(a, b, "{name}");
        }
    }
    let rows = |folder: &Folder| {
        let mut reader = csv::Reader::from_path(folder.0.join("pairs.csv")).unwrap();
        reader.records().map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(rows(&small), rows(&large)[..3]);
    let film = draw(Style::Evaluation, 9, 2);
    let read = image::open(small.0.join("images/pe9-000002.png")).unwrap().into_luma8();
    assert_eq!((read.dimensions(), read.into_raw()), ((film.width as u32, film.height as u32), film.pixels));
    assert_eq!(&rows(&small)[2][2], film.text);
}

#[test]
fn a_folder_that_holds_anything_is_left_alone() {
    let folder = Folder::new("taken");
    std::fs::create_dir_all(&folder.0).unwrap();
    std::fs::write(folder.0.join("mine.txt"), "x").unwrap();
    assert!(matches!(write(&folder.0, Style::Training, 1, 0, &|_| (), &NEVER), Err(Error::NotEmpty(_))));
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn drawing_stops_when_it_is_told_to() {
    let folder = Folder::new("stopped");
    let stop = AtomicBool::new(false);
    let drawn = write(&folder.0, Style::Training, 400, 0, &|_| stop.store(true, Ordering::Relaxed), &stop);
    assert!(matches!(drawn, Err(Error::Cancelled)));
    assert!(std::fs::read_dir(folder.0.join("images")).unwrap().count() < 300 && !folder.0.join("pairs.csv").exists());
}

#[test]
fn a_thousand_reports_hold_many_texts_and_every_finding_side_zone_and_size() {
    let reports = reports(Style::Training, 1000);
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
    let all = STYLES.map(|style| reports(style, 1000).into_iter().map(move |report| (style, report)));
    for (style, (findings, text)) in all.into_iter().flatten() {
        let (both, grades) = match style {
            Style::Training => ("bilateral", ["mild", "moderate", "severe"]),
            Style::Evaluation => ("both", ["slight", "moderate", "marked"]),
        };
        let words = text.split_whitespace().count();
        let sentences: Vec<String> = text.split('.').map(str::to_lowercase).filter(|it| !it.is_empty()).collect();
        assert!((10..=40).contains(&words) && (1..=5).contains(&sentences.len()), "{text}");
        for finding in &findings {
            let word = |name: String| name.to_lowercase();
            let mut wanted = Vec::new();
            wanted.extend(finding.zone.map(|zone| word(format!("{zone:?}"))));
            match (finding.side, finding.kind, finding.size) {
                (Side::Both, ..) => wanted.push(both.into()),
                (Side::Middle, Kind::Cardiomegaly, Some(size)) => {
                    wanted.push(grades[size as usize].into());
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
        const CLEAR: [&str; 5] = ["clear", "normal study", "free of disease", "lungs within normal", "heart and lungs"];
        let clear = sentences.iter().any(|it| CLEAR.iter().any(|words| it.contains(words)));
        let lung = findings.iter().any(|it| it.zone.is_some());
        assert!(!(clear && lung), "{text}");
    }
}

fn negated(sentence: &str) -> bool {
    let sentence = sentence.trim();
    let starts = ["no ", "there is no ", "neither ", "negative for ", "without "];
    starts.iter().any(|start| sentence.starts_with(start))
        || sentence.contains(" not ")
        || sentence.ends_with(" absent")
}

#[test]
fn masks_and_boxes_mark_the_findings_and_films_look_exposed() {
    let mut counted = 0;
    for film in STYLES.into_iter().flat_map(|style| (0..120).map(move |index| draw(style, 5, index))) {
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
    assert!(counted > 160);
}

#[test]
fn a_finding_on_the_right_lies_on_the_left_of_the_image() {
    for film in STYLES.into_iter().flat_map(|style| (0..60).map(move |index| draw(style, 6, index))) {
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
    let films: Vec<Film> = (0..40).map(|index| draw(Style::Training, 8, index)).collect();
    let patients: HashSet<_> = films.iter().map(|film| &film.patient_id).collect();
    let pairs: HashSet<_> = films.iter().map(|film| (&film.patient_id, film.split)).collect();
    assert!(patients.len() < films.len());
    assert_eq!(patients.len(), pairs.len());
    assert!(films.iter().any(|film| film.split != "train"));
}

#[test]
fn styles_differ_in_everything_but_what_they_show() {
    for index in 0..40 {
        let [one, other] = STYLES.map(|style| draw(style, 5, index));
        assert_eq!((&one.findings, one.view, one.boxes.len()), (&other.findings, other.view, other.boxes.len()));
        assert!(one.id != other.id && one.patient_id != other.patient_id);
        assert!(one.pixels != other.pixels && one.text != other.text);
    }
    let sentences = STYLES.map(|style| {
        let texts = reports(style, 4000).into_iter().map(|(_, text)| text);
        texts.flat_map(|text| text.split('.').map(|it| it.trim().to_owned()).collect::<Vec<_>>()).collect()
    });
    let [one, other]: [HashSet<String>; 2] = sentences;
    let shared: Vec<_> = one.intersection(&other).filter(|sentence| !sentence.is_empty()).collect();
    assert!(shared.is_empty() && one.len() > 300 && other.len() > 300, "{} {} {shared:?}", one.len(), other.len());
}

/// Weights are trained on these films and measured against them: whoever changes one bit counts `shards::DRAWING` up.
#[test]
fn films_and_reports_of_training_stay_what_they_are() {
    assert_eq!(shards::DRAWING, 3);
    let mut texts = blake3::Hasher::new();
    for index in 0..1000 {
        texts.update(said(Style::Training, 1, index).text.as_bytes());
    }
    assert_eq!(texts.finalize().to_hex().as_str(), "554053378c5a99dc01131cc3ab6ac9e9b631ad82ca8ac937ee66c1407f4cd291");
    // The last bits of exponentials and sines are the C library's, which has one answer with fused multiply-adds.
    #[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
    if std::arch::is_x86_feature_detected!("fma") {
        let mut films = blake3::Hasher::new();
        for film in (0..24).map(|index| draw(Style::Training, 1, index)) {
            films.update(&film.pixels).update(&film.mask).update(format!("{:?}", film.boxes).as_bytes());
        }
        assert_eq!(
            films.finalize().to_hex().as_str(),
            "8a1b7e933aea92122a3700cda0742d237ffb84aa1631f6623e61e7b7fc39fefe"
        );
    }
}
