//! Labels and splits of packed data, and the phantoms of the evaluation style.
#![cfg(feature = "data")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use g2d::data::{Dataset, PackOptions, Split, pack};
use g2d::train::quickstart;
use image::{GrayImage, Luma};

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("labels").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn labels_and_films_of_each_split_are_told() {
    let dir = folder("labels");
    GrayImage::from_fn(40, 40, |x, y| Luma([(5 * x + y) as u8])).save(dir.join("a.png")).unwrap();
    let rows = [
        "id,image,text,split,findings",
        "a,a.png,,train,Nodule;Edema",
        "b,a.png,,train,",
        "c,a.png,,train,Edema; Edema",
        "d,a.png,,test,No Finding",
        "e,a.png,,test,Edema",
    ];
    let packed = |name: &str, rows: &[&str], size: usize| {
        fs::write(dir.join("pairs.csv"), rows.join("\n")).unwrap();
        let options = PackOptions { size, ..PackOptions::new(dir.join("pairs.csv"), dir.join(name)) };
        pack(&options, &|_| {}, &AtomicBool::new(false)).unwrap();
        Dataset::open(&options.out).unwrap()
    };
    let dataset = packed("one", &rows, 32);
    let counts = dataset.label_counts().unwrap();
    assert_eq!((counts.films, counts.not_stated), ([3, 0, 2], [1, 0, 0]));
    let labels: Vec<_> = counts.labels.iter().map(|(label, films)| (label.as_str(), *films)).collect();
    assert_eq!(labels, [("Edema", [2, 0, 1]), ("No Finding", [0, 0, 1]), ("Nodule", [1, 0, 0])]);
    assert_eq!(counts.missing(Split::Test), ["Nodule"]);
    assert_eq!(counts.missing(Split::Val).len(), 3);
    // The films in order and the split count, the size does not; an id cannot be cut otherwise.
    let digests = |dataset: &Dataset| Split::ALL.map(|split| dataset.split_digest(split).unwrap());
    let of_all = digests(&dataset);
    assert!(of_all[0] != of_all[1] && of_all[1] != of_all[2]);
    assert_eq!(digests(&packed("larger", &rows, 48)), of_all);
    let mut turned = rows;
    turned.swap(1, 2);
    let turned = digests(&packed("turned", &turned, 32));
    assert_eq!((turned[0] == of_all[0], &turned[1..]), (false, &of_all[1..]));
    let joined = ["id,image,text,split", "de,a.png,,test", "f,a.png,,test"];
    let split = ["id,image,text,split", "d,a.png,,test", "ef,a.png,,test"];
    assert_ne!(digests(&packed("joined", &joined, 32))[2], digests(&packed("split", &split, 32))[2]);
}

#[test]
fn evaluation_phantoms_are_others_and_of_every_label() {
    let dir = folder("evaluation");
    let never = AtomicBool::new(false);
    let drawn = |part: &str, counts: [usize; 3], threads: usize| {
        quickstart::evaluation_phantoms(&dir.join(part), 32, counts, threads, &|_, _| {}, &never).unwrap()
    };
    let what = quickstart::Phantoms { train: 400, held_out: 1, size: 32, threads: 0 };
    let train = quickstart::phantoms(&dir.join("all"), what, &|_, _| {}, &never).unwrap().train;
    let counts = quickstart::EVALUATION;
    let others = drawn("all", counts, 0);
    let tokenizers = [&train, &others].map(|dataset| fs::read(dataset.tokenizer_path()).unwrap());
    assert_eq!(tokenizers[0], tokenizers[1]);
    // The same whatever the threads, and opened again.
    let few = [10, 6, 5];
    assert_eq!(drawn("one", few, 1).digest(), drawn("two", few, 2).digest());
    assert_eq!(drawn("all", counts, 1).digest(), others.digest());

    let labels = others.label_counts().unwrap();
    assert_eq!((labels.films, labels.not_stated, labels.labels.len()), (counts, [0; 3], 8));
    assert_eq!(
        labels.labels.keys().collect::<Vec<_>>(),
        train.label_counts().unwrap().labels.keys().collect::<Vec<_>>()
    );
    let fewest = labels.labels.values().flatten().min().unwrap();
    assert!(*fewest >= 5, "{labels:?}");

    let texts: HashSet<String> = (0..train.len()).map(|index| train.record(index).unwrap().text).collect();
    let (mut patients, mut unknown, mut tokens) = (HashMap::new(), 0, 0);
    for index in 0..others.len() {
        let film = others.record(index).unwrap();
        assert!(!texts.contains(&film.text), "{}", film.text);
        assert_eq!(*patients.entry(film.patient_id.clone()).or_insert(film.split), film.split, "{}", film.id);
        let normal = film.findings == "No Finding";
        assert_eq!((film.boxes.is_empty(), film.mask.unwrap().iter().all(|&value| value == 0)), (normal, normal));
        unknown += film.tokens.iter().filter(|&&token| token == 1).count();
        tokens += film.tokens.len();
    }
    assert!(unknown * 100 < tokens, "{unknown} of {tokens} tokens are [UNK]");
}
