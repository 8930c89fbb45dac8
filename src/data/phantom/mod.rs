//! Phantoms: synthetic chest radiographs with reports, true masks and boxes, drawn from a seed.
//!
//! A film is a function of `(style, seed, index)` alone: the same whatever the count and the number of threads. They are
//! for trying, training and testing the machinery; they are no data about patients.

mod anatomy;
mod canvas;
mod chest;
mod devices;
mod film;
mod finding;
mod folder;
mod lesions;
mod report;
pub mod shards;
mod skeleton;
mod style;
#[cfg(test)]
mod tests;
mod wording;

pub use finding::{Device, Finding, Kind, Side, Size, Zone};
pub use folder::{Error, write};
pub use style::Style;

use crate::base::random::Rng;

/// Streams of random numbers; each is a function of seed and patient or film.
const PATIENT: u32 = 0x5048_0001;
const POSE: u32 = 0x5048_0002;
const FINDINGS: u32 = 0x5048_0003;
const LESIONS: u32 = 0x5048_0004;
const EXPOSURE: u32 = 0x5048_0005;
const REPORT: u32 = 0x5048_0006;
const SHARE: u32 = 0x5048_0007;
const VIEW: u32 = 0x5048_0008;
const LATER: u32 = 0x5048_0009;

/// A box around one finding, in pixels of the film; `x`, `y` is its upper left pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The finding's label.
    pub label: &'static str,
    /// Leftmost column.
    pub x: usize,
    /// Topmost row.
    pub y: usize,
    /// Columns covered.
    pub w: usize,
    /// Rows covered.
    pub h: usize,
}

/// One synthetic radiograph with all that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Film {
    /// Unique for style, seed and index.
    pub id: String,
    /// The patient; some have two films, always of one split.
    pub patient_id: String,
    /// `train`, `val` or `test`: 80, 10 and 10 of 100 patients.
    pub split: &'static str,
    /// `PA` or `AP`.
    pub view: &'static str,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Gray values, [height, width], 0 black.
    pub pixels: Vec<u8>,
    /// 255 where a finding is, 0 elsewhere, [height, width].
    pub mask: Vec<u8>,
    /// The report.
    pub text: String,
    /// What it shows; empty for a normal film.
    pub findings: Vec<Finding>,
    /// A box for each finding, two for a bilateral one.
    pub boxes: Vec<Bounds>,
}

impl Film {
    /// Labels of its findings, separated by `;`. Everything is known of a phantom, so this is never empty: a normal film
    /// says so.
    fn labels(&self) -> String {
        let labels: Vec<&str> = self.findings.iter().map(|finding| finding.kind.label()).collect();
        if labels.is_empty() { "No Finding".into() } else { labels.join(";") }
    }
}

/// Ways in which the same findings are worded.
const WORDINGS: u64 = 3;

/// The lots a report's words are drawn with. They depend on what is found and on one of a few habits, not on the seed:
/// as in a department, the same findings come in the same few wordings, so words tell findings and not films.
fn wording(findings: &[Finding], view: &str, index: u64) -> Rng {
    let digest = blake3::hash(format!("{findings:?} {view}").as_bytes());
    let what = digest.as_bytes()[..4].iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    Rng::new(0, REPORT, what * WORDINGS + index % WORDINGS)
}

/// Of so many films in a row, beginning at a multiple, the first two may be one patient's, the others never are.
const TOGETHER: u64 = 4;

/// Longest side of a film in pixels, unless another is asked for.
const LONGEST: usize = 320;

/// What a film shows and its report says.
struct Said {
    findings: Vec<Finding>,
    portable: bool,
    view: &'static str,
    text: String,
}

/// What film `index` of `seed` shows and says; nothing is drawn. What it shows is the same in both styles.
fn said(style: Style, seed: u64, index: u64) -> Said {
    let findings = finding::draw(&mut Rng::new(seed, FINDINGS, index));
    let portable = Rng::new(seed, VIEW, index).chance(0.5);
    let view = if portable { "AP" } else { "PA" };
    let text = report::write(style.words(), &findings, view, &mut wording(&findings, view, index));
    Said { findings, portable, view, text }
}

/// Draws film `index` of `seed`.
pub fn draw(style: Style, seed: u64, index: u64) -> Film {
    draw_sized(style, seed, index, LONGEST)
}

/// The same film (but for its grain) with sides of at most `longest` pixels.
fn draw_sized(style: Style, seed: u64, index: u64, longest: usize) -> Film {
    let Said { findings, portable, view, text } = said(style, seed, index);
    let follows = index % TOGETHER == 1 && Rng::new(seed, SHARE, index).chance(0.6);
    let patient = if follows { index - 1 } else { index };
    let mut lots = Rng::new(seed, PATIENT, patient);
    let split = match lots.below(10) {
        0..8 => "train",
        8 => "val",
        _ => "test",
    };
    let mut anatomy = anatomy::Anatomy::draw(style.build(), &mut lots, &mut Rng::new(seed, LATER, patient));
    let mut lots = Rng::new(seed, POSE, index);
    if portable {
        anatomy.bedside(&mut lots);
    }
    if let Some(finding) = findings.iter().find(|finding| finding.kind == Kind::Cardiomegaly) {
        let ratio = [0.57, 0.645, 0.72][finding.size.unwrap_or(Size::Moderate) as usize];
        anatomy.enlarge(ratio + canvas::between(&mut lots, -0.015, 0.015));
    }
    let technique = style.technique();
    let frame = film::frame(technique, portable, longest, &mut lots);
    let (width, height) = (frame.width, frame.height);
    let pose = anatomy::Pose::draw(portable, technique.turned, &mut lots);
    let mut chest = chest::Chest::new(anatomy, frame, pose);
    let mut lots = Rng::new(seed, LESIONS, index);
    for finding in &findings {
        lesions::lay(&mut chest, finding, &mut lots);
    }
    let pixels = film::develop(technique, &mut chest, &mut Rng::new(seed, EXPOSURE, index));
    Film {
        id: format!("{}{seed}-{index:06}", style.prefix()),
        patient_id: format!("{}{seed}-p{patient:06}", style.prefix()),
        split,
        view,
        width,
        height,
        pixels,
        mask: chest.mask,
        text,
        findings,
        boxes: chest.boxes,
    }
}
