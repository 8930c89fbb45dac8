//! Shards in, batches out: augmentation and loading, which need no feature.

use std::path::Path;
use std::sync::Arc;

use g2d::base::random::Rng;
use g2d::data::augment::{NUMBERS, Recipe};
use g2d::data::dataset::DatasetWriter;
use g2d::data::loader::{Batches, HostBatch, Loader, LoaderOptions};
use g2d::data::{Dataset, Record};

/// `count` films of random pixels; every fourth has no text, the others 9 to 28 tokens.
fn dataset(name: &str, count: usize, size: usize) -> Dataset {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("batches").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    let mut writer = DatasetWriter::create(&dir, size, false).unwrap();
    for film in 0..count {
        let mut rng = Rng::new(1, 0, film as u64);
        let pixels: Vec<u8> = (0..size * size).map(|_| rng.below(256) as u8).collect();
        let length = if film % 4 == 3 { 0 } else { 9 + rng.below(20) };
        let tokens: Vec<u32> = (0..length).map(|_| rng.below(100) as u32).collect();
        let record = Record { id: film.to_string(), pixels: &pixels, tokens: &tokens, ..Record::default() };
        writer.push(&record).unwrap();
    }
    writer.finish("{}", 100, serde_json::Value::Null).unwrap();
    Dataset::open(&dir).unwrap()
}

#[test]
fn augmentation_is_a_pure_function_and_none_is_the_identity() {
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    assert_eq!(Recipe::None.draw(256, 5, 6, 7), identity);
    for recipe in [Recipe::Default, Recipe::Paper, Recipe::Official] {
        let draws = |seed, epoch| (0..50).map(|sample| recipe.draw(256, seed, epoch, sample)).collect::<Vec<_>>();
        assert_eq!(draws(1, 2), draws(1, 2));
        assert!(draws(1, 2) != draws(1, 3) && draws(1, 2) != draws(2, 2));
        assert!(draws(1, 2).windows(2).any(|pair| pair[0] != pair[1]));
    }
}

/// Where the centre-based homography takes a point.
fn map(numbers: &[f32], x: f64, y: f64) -> [f64; 2] {
    let row = |row: usize| f64::from(numbers[row]) * x + f64::from(numbers[row + 1]) * y + f64::from(numbers[row + 2]);
    [row(0) / row(6), row(3) / row(6)]
}

/// The inverse of a homography, up to a factor.
fn adjugate(numbers: &[f32; NUMBERS]) -> [f32; 9] {
    let minor = |row: usize, column: usize| {
        let at = |down: usize, across: usize| f64::from(numbers[(row + down) % 3 * 3 + (column + across) % 3]);
        (at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)) as f32
    };
    std::array::from_fn(|index| minor(index % 3, index / 3))
}

#[test]
fn augmentation_stays_within_its_stated_ranges() {
    let (mut moved, mut stretched) = (0, 0);
    for sample in 0..2000 {
        let numbers = Recipe::Official.draw(256, 3, 0, sample);
        // Inverse of rotate(shear(p)): c = -sin, d = cos, a = cos - sin tan, b = cos tan + sin; the centre stays.
        let [a, b, _, c, d] = [0, 1, 2, 3, 4].map(|at| f64::from(numbers[at]));
        let (angle, tan) = ((-c).atan2(d), b * d + a * c);
        assert!(angle.to_degrees().abs() <= 15.001 && tan.atan().to_degrees().abs() <= 15.001);
        assert!((a * d - b * c - 1.0).abs() <= 1e-5);
        assert!(map(&numbers, 128.0, 128.0).iter().all(|at| (at - 128.0).abs() <= 1e-3));
        assert!(numbers[9..11].iter().all(|factor| (0.8..1.2).contains(factor)) && numbers[11..] == [0.0, 0.0]);

        let numbers = Recipe::Default.draw(256, 3, 0, sample);
        let [a, b, _, c, d] = [0, 1, 2, 3, 4].map(|at| f64::from(numbers[at]));
        let scale = 1.0 / (a * d - b * c).sqrt();
        assert!(
            (0.9..1.1001).contains(&scale) && (-c).atan2(d).to_degrees().abs() <= 7.001,
            "mirrored or out of range"
        );
        let centre = map(&numbers, 128.0, 128.0);
        assert!((centre[0] - 128.0).hypot(centre[1] - 128.0) <= 0.04 * 256.0 * 2f64.sqrt() / 0.9 + 1e-3);
        assert!(numbers[9..11].iter().all(|factor| (0.85..1.15).contains(factor)) && numbers[11..] == [0.0, 1.0]);

        let numbers = Recipe::Paper.draw(256, 3, 0, sample);
        moved += usize::from(numbers[..9] != Recipe::None.draw(256, 0, 0, 0)[..9]);
        stretched += usize::from(numbers[11] == 1.0);
        // Forwards, each corner of the film lands at most a quarter of the side inwards.
        let forward = adjugate(&numbers);
        for corner in [[0.0, 0.0], [256.0, 0.0], [256.0, 256.0], [0.0, 256.0]] {
            for (from, to) in corner.into_iter().zip(map(&forward, corner[0], corner[1])) {
                let inwards = if from == 0.0 { to } else { from - to };
                assert!((-0.01..=64.01).contains(&inwards), "{corner:?} lands at {to}");
            }
        }
        assert!(numbers[9..11] == [1.0, 1.0] && numbers[12] == 1.0);
    }
    assert!((900..1100).contains(&moved) && (900..1100).contains(&stretched), "{moved} {stretched}");
}

fn loader_options(batch: usize, image_size: usize) -> LoaderOptions {
    LoaderOptions { batch, image_size, text_len: 8, seed: 9, recipe: Recipe::Default }
}

#[test]
fn batches_are_a_function_of_the_step() {
    let dataset = Arc::new(dataset("batches", 23, 32));
    let samples = dataset.select(None, true);
    let batches = Arc::new(Batches::new(dataset.clone(), samples.clone(), loader_options(4, 32)).unwrap());
    assert_eq!((samples.len(), batches.per_epoch()), (18, 4));
    let expected: Vec<HostBatch> = (0..12).map(|step| batches.at(step).unwrap()).collect();
    for epoch in 0..3 {
        let mut seen: Vec<_> = expected[epoch * 4..][..4].iter().flat_map(|batch| batch.samples.clone()).collect();
        seen.sort();
        seen.dedup();
        assert!(seen.len() == 16 && seen.iter().all(|sample| samples.contains(sample)));
        assert!(expected[epoch * 4..][..4].iter().all(|batch| batch.epoch == epoch as u64));
    }
    assert_ne!(expected[0].samples, expected[4].samples);
    for (start, workers) in [(0, 1), (0, 3), (5, 2), (11, 4)] {
        let loaded: Vec<_> = Loader::start(batches.clone(), start, workers)
            .unwrap()
            .take(12 - start as usize)
            .map(Result::unwrap)
            .collect();
        assert!(loaded == expected[start as usize..], "from {start} with {workers} workers");
    }
    let without = Batches::new(dataset.clone(), samples, loader_options(4, 32)).unwrap().without_pixels();
    assert_eq!(without.at(3).unwrap(), HostBatch { pixels: Vec::new(), ..expected[3].clone() });
    let one = &expected[3];
    assert_eq!((one.pixels.len(), one.augmentation.len(), one.lengths.len()), (4 * 32 * 32, 4 * NUMBERS, 4));
    let mut at = 0;
    for (row, &sample) in one.samples.iter().enumerate() {
        assert_eq!(one.pixels[row * 1024..][..1024], *dataset.pixels(sample));
        assert_eq!(one.augmentation[row * NUMBERS..][..NUMBERS], Recipe::Default.draw(32, 9, one.epoch, sample));
        let tokens: Vec<_> = dataset.tokens(sample).iter().map(|&token| token as i32).collect();
        assert!(tokens.len() > 8 && one.lengths[row] == 8);
        assert_eq!(one.tokens[at..][..8], [&tokens[..7], &tokens[tokens.len() - 1..]].concat());
        at += 8;
    }
    assert_eq!(at, one.tokens.len());
}

#[test]
fn smaller_images_are_area_averages() {
    let dataset = Arc::new(dataset("average", 6, 48));
    for size in [24, 32, 47, 1] {
        let batches = Batches::new(dataset.clone(), vec![0, 1], loader_options(1, size)).unwrap();
        let pixels = batches.gather(&[1], 0).unwrap().pixels;
        let ratio = 48.0 / size as f64;
        let overlap = |output: usize, input: usize| {
            let (from, to) = (output as f64 * ratio, (output + 1) as f64 * ratio);
            (to.min(input as f64 + 1.0) - from.max(input as f64)).max(0.0) / ratio
        };
        for y in 0..size {
            for x in 0..size {
                let film = dataset.pixels(1);
                let part = |at: usize| overlap(y, at / 48) * overlap(x, at % 48) * f64::from(film[at]);
                let mean: f64 = (0..48 * 48).map(part).sum();
                let got = f64::from(pixels[y * size + x]);
                assert!((got - mean).abs() <= 0.5 + 1e-6, "{size}: {got}, not {mean}");
            }
        }
    }
}

#[test]
fn impossible_batches_are_refused() {
    let dataset = Arc::new(dataset("impossible", 6, 32));
    let error =
        |samples: Vec<usize>, options| Batches::new(dataset.clone(), samples, options).err().unwrap().to_string();
    assert!(error(vec![0, 1, 2], loader_options(4, 32)).contains("3 films can be used, a batch has 4"));
    assert!(error(vec![0, 1], loader_options(2, 64)).contains("pack again with size 64"));
    assert!(error(vec![0, 6], loader_options(2, 32)).contains("film 6"));
    assert!(error(vec![0, 1], loader_options(0, 32)).contains("batch 0"));
    assert!(error(vec![0, 1], LoaderOptions { text_len: 1, ..loader_options(2, 32) }).contains("text length 1"));
}
