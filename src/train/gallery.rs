//! The films of a validation that are shown: a few, the same ones each time, with what the model makes of them.

use super::session::Evaluation;
use crate::data::{Dataset, Record};
use crate::error::Error;

/// Most films that are shown.
pub const FILMS: usize = 4;

/// Films with what the model makes of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gallery {
    /// Pixels along a side of a film.
    pub side: usize,
    /// Cells along a side of an attention map.
    pub cells: usize,
    /// The films.
    pub films: Vec<Shown>,
}

/// One film.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its name in the data set.
    pub id: String,
    /// Its report.
    pub report: String,
    /// Gray values [side, side].
    pub pixels: Vec<u8>,
    /// Its true mask [side, side], if it has one that is not empty.
    pub truth: Option<Vec<bool>>,
    /// Mean of the heads' attention [cells, cells].
    pub attention: Vec<f64>,
    /// Pseudo mask [side, side], from 0 to 1.
    pub pseudo: Vec<f64>,
    /// Probability of the predicted mask [side, side]; `None` without a decoder that learns masks.
    pub predicted: Option<Vec<f64>>,
}

/// Which of `samples` are shown: films with a true mask if there are any, spread over all. The same samples give the same
/// films, so a resumed run goes on with those it had.
///
/// # Errors
/// If a record cannot be read.
pub fn choose(dataset: &Dataset, samples: &[usize]) -> Result<Vec<usize>, Error> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for &sample in samples {
        let marked = |mask: &[u8]| mask.iter().any(|&value| value > 127);
        let outlined = dataset.record(sample)?.mask.is_some_and(marked);
        if outlined { found.push(sample) } else { others.push(sample) }
    }
    let spread = |from: &[usize], wanted: usize| {
        let wanted = wanted.min(from.len());
        (0..wanted).map(|at| from[at * from.len() / wanted]).collect::<Vec<usize>>()
    };
    let mut chosen = spread(&found, FILMS);
    chosen.extend(spread(&others, FILMS - chosen.len()));
    Ok(chosen)
}

impl Shown {
    /// Film `at` of a batch that was evaluated.
    pub(super) fn of(
        record: &Record<'_>,
        truth: Option<Vec<bool>>,
        pixels: &[u8],
        out: &Evaluation,
        [at, side, cells]: [usize; 3],
    ) -> Self {
        let plane = at * side * side..(at + 1) * side * side;
        let heads = out.attention.len() * side * side / (out.mask.len() * cells * cells).max(1);
        let maps = &out.attention[at * heads * cells * cells..(at + 1) * heads * cells * cells];
        let mean = |cell| maps.iter().skip(cell).step_by(cells * cells).sum::<f64>() / heads as f64;
        let probability = |&logit: &f64| 1.0 / (1.0 + (-logit).exp());
        Self {
            id: record.id.clone(),
            report: record.text.clone(),
            pixels: pixels[plane.clone()].to_vec(),
            truth,
            attention: (0..cells * cells).map(mean).collect(),
            pseudo: out.mask[plane.clone()].to_vec(),
            predicted: out.logits.get(plane).map(|logits| logits.iter().map(probability).collect()),
        }
    }
}
