//! `g2d explain`: how one film's mask comes about, as a strip of pictures and as numbers.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use font8x8::UnicodeFonts;
use image::{Rgb, RgbImage};

use super::DeviceWord;
use super::eval::subject;
use crate::data::decode;
use crate::data::prepare::{Resize, prepare};
use crate::downstream::explain::{Explanation, Numbers, Stage, explain};
use crate::error::Error;
use crate::report::heat;
use crate::train::Resources;

/// Shows how the pseudo mask of one film comes about: the film, each head's attention, their mean, upsampled, body mask, binary,
/// smoothed, the predicted mask, and where a text is true.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d explain --image film.png\n  \
    g2d explain --weights runs/1 --image film.png --text \"right pleural effusion\" --out explained.png\n  \
    g2d explain --image film.png --json               the numbers, for programs\n\n\
    Warm colours are high. Attention says where the film's embedding is taken from, of high weight, whatever is there: it is\n\
    no probability of a finding.")]
pub struct Explain {
    /// A run's folder, a file of weights in one, or `random`; by default the newest run in runs/.
    #[arg(long)]
    weights: Option<String>,
    /// The film: PNG, JPEG or DICOM.
    #[arg(long)]
    image: PathBuf,
    /// A sentence to look for.
    #[arg(long)]
    text: Option<String>,
    /// Where the strip is written, as PNG; by default beside the film's name in the working folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What to run on: auto (the best real device), cpu, cuda[:N], cuda-emulated[:sm_90a][:SCHEDULE] or wgpu[:N].
    #[arg(long, default_value = "cpu")]
    device: DeviceWord,
    /// Print the numbers as JSON.
    #[arg(long)]
    json: bool,
}

/// Pixels between pictures, and of the line of text above each.
const GAP: usize = 4;
const CAPTION: usize = 14;

impl Explain {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let out = self.out.clone().unwrap_or_else(|| {
            let stem = self.image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            PathBuf::from(format!("{stem}-explained.png"))
        });
        let same = |a: &Path, b: &Path| fs::canonicalize(a).ok().is_some_and(|a| fs::canonicalize(b).ok() == Some(a));
        if same(&out, &self.image) || out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
            let what = "the strip is written as PNG: give --out a name that ends in .png and is not the film itself";
            return Err(Error::Usage(format!("--out {}: {what}", out.display())));
        }
        let (subject, _) = subject(self.weights.as_deref())?;
        let unreadable = |why: decode::Fault| {
            Error::Usage(format!("{}: {why}; give a PNG, JPEG or DICOM film", self.image.display()))
        };
        let film = decode::film(&self.image).map_err(unreadable)?;
        let (pixels, _) = prepare(film, subject.config.image_size, Resize::Fit).map_err(unreadable)?;
        let on = Resources { device: self.device.resolve(), ..Resources::default() };
        let explained = explain(&subject, &on, &pixels, self.text.as_deref())?;
        write(&strip(&explained), &out)?;
        if self.json {
            println!("{}", serde_json::to_value(&explained.numbers).unwrap_or_default());
            return Ok(());
        }
        println!("{}\n{}written to {}", subject.name, told(&explained.numbers), out.display());
        Ok(())
    }
}

/// A line for each number that there is.
fn told(numbers: &Numbers) -> String {
    let n = numbers;
    let lines = [
        ("agreement of the heads", n.head_agreement),
        ("entropy of the attention, 1 being flat", Some(n.attention_entropy)),
        ("film within the body mask", n.body_area),
        ("film within the binary mask", Some(n.binary_area)),
        ("mean of the smoothed mask", Some(n.mask_area)),
        ("film within the predicted mask", n.predicted_area),
        ("Dice of predicted and smoothed mask", n.predicted_dice),
        ("cosine of film and text", n.similarity),
    ];
    let lines = lines.into_iter().filter_map(|(name, value)| Some(format!("  {name:38} {:6.3}\n", value?)));
    let heads = if n.heads == 1 { "1 head".into() } else { format!("{} heads", n.heads) };
    format!("  attention of {heads} over {0} x {0} cells\n{1}", n.cells, lines.collect::<String>())
}

/// Pixels of a tile at least: what smaller models see is magnified, so that names fit and a finding can be seen.
const TILE: usize = 192;

/// All stages side by side, each under its name.
fn strip(explained: &Explanation) -> RgbImage {
    let (from, count) = (explained.side, explained.stages.len());
    let magnified = TILE.div_ceil(from);
    let side = from * magnified;
    let mut picture = RgbImage::from_pixel(
        (count * (side + GAP) + GAP) as u32,
        (side + CAPTION + 2 * GAP) as u32,
        Rgb([255, 255, 255]),
    );
    let film = &explained.stages[0].pixels;
    for (at, stage) in explained.stages.iter().enumerate() {
        let left = GAP + at * (side + GAP);
        caption(&mut picture, left, side, &stage.name);
        for pixel in 0..side * side {
            let place = ((left + pixel % side) as u32, (GAP + CAPTION + pixel / side) as u32);
            let (x, y) = (pixel % side / magnified, pixel / side / magnified);
            picture.put_pixel(place.0, place.1, colour(stage, film, y * from + x));
        }
    }
    picture
}

/// A pixel of a stage: the film in gray, and over it, where it is warm, the heat.
fn colour(stage: &Stage, film: &[f64], pixel: usize) -> Rgb<u8> {
    let gray = film[pixel];
    if !stage.heat {
        return Rgb([(gray * 255.0) as u8; 3]);
    }
    let (colour, cover) = heat(stage.pixels[pixel].clamp(0.0, 1.0));
    Rgb(colour.map(|heat| ((heat * cover + gray * (1.0 - cover)) * 255.0).round() as u8))
}

/// Writes a name above a picture, cut where it is too long.
fn caption(picture: &mut RgbImage, left: usize, width: usize, name: &str) {
    for (at, letter) in name.chars().take(width / 8).enumerate() {
        let glyph = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default();
        for (row, line) in glyph.iter().enumerate() {
            for column in (0..8).filter(|column| line >> column & 1 == 1) {
                picture.put_pixel((left + 8 * at + column) as u32, (GAP + row) as u32, Rgb([0, 0, 0]));
            }
        }
    }
}

/// Writes a picture beside its place, in a folder that is made if need be, and renames it.
fn write(picture: &RgbImage, path: &Path) -> Result<(), Error> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    crate::checkpoint::write_beside(path, &bytes.into_inner()).map_err(Error::io(path))
}
