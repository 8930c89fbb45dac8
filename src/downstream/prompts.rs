//! Sentences that say that a finding is there, and that it is not (CheXzero's pairs, BioViL's ensembles).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::encoder::normalise;
use crate::error::Error;

/// Templates for a class without sentences of its own; `{}` stands for its name in lower case. Each side is an ensemble:
/// the mean of its embeddings counts.
const POSITIVE: &[&str] = &["{}", "there is {}", "findings consistent with {}"];
const NEGATIVE: &[&str] = &["no {}", "there is no {}", "no evidence of {}"];

/// The two sides of one class.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// It is there.
    pub positive: Vec<String>,
    /// It is not.
    pub negative: Vec<String>,
}

impl Prompts {
    /// The templates with the name of a class.
    pub fn of(class: &str) -> Self {
        let name = class.to_lowercase().replace('_', " ");
        let fill = |templates: &[&str]| templates.iter().map(|template| template.replace("{}", &name)).collect();
        Self { positive: fill(POSITIVE), negative: fill(NEGATIVE) }
    }
}

/// Prompts of every class: its `own` sentences, or templates with its name.
///
/// # Errors
/// If `own` names a class that is not there, or a side is empty.
pub fn prompts(classes: &[String], own: &BTreeMap<String, Prompts>) -> Result<Vec<Prompts>, Error> {
    for (class, sides) in own {
        if !classes.contains(class) {
            let known = classes.join(", ");
            return Err(Error::Usage(format!("prompts for {class:?}: the data have no such class; they have {known}")));
        }
        if sides.positive.is_empty() || sides.negative.is_empty() {
            return Err(Error::Usage(format!("prompts for {class:?}: give positive and negative sentences")));
        }
    }
    Ok(classes.iter().map(|class| own.get(class).cloned().unwrap_or_else(|| Prompts::of(class))).collect())
}

/// Embeddings `[projection_dim]` of the two sides of a class: of each the renormalised mean of its sentences'.
#[derive(Clone, Debug)]
pub struct Sides {
    positive: Vec<f32>,
    negative: Vec<f32>,
}

impl Sides {
    /// What the text tower makes of them: `embed` gives embeddings [sentences, projection_dim], each of length 1.
    ///
    /// # Errors
    /// Those of `embed`.
    pub fn of(prompts: &Prompts, mut embed: impl FnMut(&[String]) -> Result<Vec<f32>, Error>) -> Result<Self, Error> {
        let mut mean = |sentences: &[String]| -> Result<Vec<f32>, Error> {
            let rows = embed(sentences)?;
            let mut sum = vec![0.0; rows.len() / sentences.len()];
            for row in rows.chunks_exact(sum.len()) {
                sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += number);
            }
            let width = sum.len();
            normalise(&mut sum, width);
            Ok(sum)
        };
        Ok(Self { positive: mean(&prompts.positive)?, negative: mean(&prompts.negative)? })
    }
}

/// Scores `[classes]` of a film by its embedding `[projection_dim]`: exp(cos⁺) / (exp(cos⁺) + exp(cos⁻)).
pub fn scores(film: &[f32], sides: &[Sides]) -> Vec<f64> {
    let mut film = film.to_vec();
    let width = film.len();
    normalise(&mut film, width);
    let cosine = |text: &[f32]| f64::from(film.iter().zip(text).map(|(a, b)| a * b).sum::<f32>());
    sides.iter().map(|side| 1.0 / (1.0 + (cosine(&side.negative) - cosine(&side.positive)).exp())).collect()
}
