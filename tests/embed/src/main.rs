//! Two models in one process: three training steps on made-up films each, then a film is segmented.

use std::error::Error;

use g2d::base::Rng;
use g2d::data::augment::Recipe;
use g2d::model::batch::TextBatch;
use g2d::model::config::Config;
use g2d::train::session::{Films, Options, Session};

const BATCH: usize = 4;
const TEXT_LENGTH: usize = 8;

/// A dark field with a bright disc somewhere: side by side pixels.
fn film(side: usize, rng: &mut Rng) -> Vec<u8> {
    let [y, x] = [0, 1].map(|_| rng.uniform(0.3, 0.7) * side as f64);
    let inside = |at: usize| {
        let (dy, dx) = ((at / side) as f64 - y, (at % side) as f64 - x);
        dy * dy + dx * dx < (side * side) as f64 / 16.0
    };
    (0..side * side).map(|at| if inside(at) { 200 } else { 30 } + rng.below(40) as u8).collect()
}

fn open(seed: u64) -> Result<Session, g2d::Error> {
    let config = Config { learning_rate: 1e-3, frozen_text_layers: 0, ..Config::preset("micro")? };
    Session::open(Options { seed, threads: 2, ..Options::new(config, BATCH, TEXT_LENGTH) })
}

/// One step on the batch of that number; the loss.
fn step(session: &mut Session, number: u64) -> Result<f64, g2d::Error> {
    let config = session.options().config.clone();
    let mut rng = Rng::new(1, 1, number);
    let pixels: Vec<u8> = (0..BATCH).flat_map(|_| film(config.image_size, &mut rng)).collect();
    let augmentation: Vec<f32> =
        (0..BATCH).flat_map(|sample| Recipe::Default.draw(config.image_size, 1, number, sample)).collect();
    let lengths: Vec<usize> = (0..BATCH).map(|_| 3 + rng.below(TEXT_LENGTH - 2)).collect();
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|_| rng.below(config.vocab_size) as i32).collect();
    let text = TextBatch::pack(&tokens, &lengths, TEXT_LENGTH, &config)?;
    Ok(session.step(Films::Bytes(&pixels, &augmentation), &text, config.learning_rate)?.total)
}

/// Signals 1 to 31 that this process catches, a bit each, where the system tells. Those above are the C library's own:
/// it catches some of them once there are threads.
fn caught() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & 0x7fff_ffff)
}

fn main() -> Result<(), Box<dyn Error>> {
    let before = caught();
    let (mut first, mut second) = (open(1)?, open(1)?);
    let mut other = open(2)?;
    for number in 0..3 {
        // Interleaved: sessions share nothing, so the two of one seed stay equal to the last bit.
        let (a, b, c) = (step(&mut first, number)?, step(&mut second, number)?, step(&mut other, number)?);
        println!("step {number}: {a} {b} {c}");
    }
    let side = first.options().config.image_size;
    let pixels = film(side, &mut Rng::new(1, 2, 0));
    let (mask, again) = (first.segment(&pixels)?, second.segment(&pixels)?);
    let probabilities = mask.iter().all(|&part| (0.0..=1.0).contains(&part));
    println!("mask: {} numbers, probabilities {probabilities}, equal {}", mask.len(), mask == again);
    println!("signals: {}", if caught() == before { "untouched" } else { "caught by the library" });
    let free = rayon::ThreadPoolBuilder::new().num_threads(1).build_global().is_ok();
    println!("global thread pool: {}", if free { "untouched" } else { "built by the library" });
    Ok(())
}
