//! The library in use: loads a run's newest checkpoint and writes the mask it predicts for a film, white where a finding is
//! most probable, at the side the model takes.
//!
//!     cargo run --release --example segment -- RUN FILM.png MASK.png

use std::error::Error;
use std::path::PathBuf;

use g2d::checkpoint::folder::{self, WEIGHTS};
use g2d::data::decode;
use g2d::data::prepare::{Resize, prepare};
use g2d::train::run;
use g2d::train::session::{Options, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, film, out] = paths.as_slice() else {
        return Err("give a run's folder, a film, and where to write the mask".into());
    };
    let (config, _) = run::read(run)?;
    let checkpoint = folder::newest(run)?.ok_or("the run has no checkpoint yet")?;
    let side = config.model.image_size;
    let mut session = Session::open(Options::new(config.model, config.train.batch, config.train.text_length))?;
    session.load_weights(&checkpoint.join(WEIGHTS))?;

    let (pixels, _) = prepare(decode::film(film)?, side, Resize::Fit)?;
    let mask: Vec<u8> =
        session.segment(&pixels)?.iter().map(|probability| (255.0 * probability).round() as u8).collect();
    let largest = mask.iter().max().copied().unwrap_or(0);
    image::save_buffer(out, &mask, side as u32, side as u32, image::ColorType::L8)?;
    println!("{}: {side} x {side} pixels, largest probability {:.2}", out.display(), f32::from(largest) / 255.0);
    Ok(())
}
