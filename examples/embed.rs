//! The library in use: how well a sentence fits a film, where on the film it is true, and what the model outlines, as numbers
//! and as two pictures. Of the newest checkpoint of a run, or a model's folder.
//!
//!     cargo run --release --example embed -- RUN FILM.png "left pleural effusion" FOLDER

use std::error::Error;
use std::path::Path;

use g2d::Session;
use g2d::train::Resources;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, film, sentence, out] = arguments.as_slice() else {
        return Err("give a run's folder, a film, a sentence, and a folder for the pictures".into());
    };
    let mut model = Session::open(weights.as_ref(), &Resources::default(), 1)?;
    let side = model.config().image_size;
    let pixels = model.film(film.as_ref())?;

    // Both embeddings are of length 1: their product is the cosine.
    let (film, text) = (model.embed_films(&pixels)?, model.embed_texts(&[sentence])?);
    let similarity: f32 = film.iter().zip(&text).map(|(film, text)| film * text).sum();
    let heat = model.ground(&pixels, sentence)?.map;
    let mask = model.segment(&pixels)?;

    std::fs::create_dir_all(out)?;
    let (low, high) = heat.iter().fold((f32::MAX, f32::MIN), |(low, high), &heat| (low.min(heat), high.max(heat)));
    let warmest = heat.iter().position(|&heat| heat == high).unwrap_or(0);
    let picture = |name: &str, parts: &mut dyn Iterator<Item = f32>| {
        let gray: Vec<u8> = parts.map(|part| (255.0 * part).round() as u8).collect();
        image::save_buffer(Path::new(out).join(name), &gray, side as u32, side as u32, image::ColorType::L8)
    };
    picture("heat.png", &mut heat.iter().map(|heat| (heat - low) / (high - low).max(f32::MIN_POSITIVE)))?;
    picture("mask.png", &mut mask.iter().copied())?;
    println!("similarity {similarity:.3}; warmest at column {}, row {}", warmest % side, warmest / side);
    println!(
        "{:.1} % of the film lie within the mask",
        mask.iter().filter(|&&part| part > 0.5).count() as f64 * 100.0 / mask.len() as f64
    );
    Ok(())
}
