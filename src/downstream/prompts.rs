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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_the_renormalised_mean_of_its_sentences() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let prompts = Prompts { positive: words(&["there", "also there"]), negative: words(&["not there"]) };
        let embed = |sentences: &[String]| {
            let row = |sentence: &String| match sentence.as_str() {
                "there" => [1.0, 0.0, 0.0],
                "also there" => [0.0, 0.8, 0.6],
                _ => [0.0, 0.0, -1.0],
            };
            Ok(sentences.iter().flat_map(row).collect())
        };
        let sides = Sides::of(&prompts, embed).unwrap();
        let apart =
            |a: &[f32], b: [f64; 3]| a.iter().zip(b).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
        let half = 0.5f64.sqrt();
        assert!(apart(&sides.positive, [half, 0.8 * half, 0.6 * half]) < 1e-6, "{sides:?}");
        assert!(apart(&sides.negative, [0.0, 0.0, -1.0]) < 1e-6, "{sides:?}");
    }

    #[test]
    fn a_film_scores_by_the_side_it_is_closer_to() {
        let side =
            |positive: [f32; 2], negative: [f32; 2]| Sides { positive: positive.into(), negative: negative.into() };
        let sides = [side([1.0, 0.0], [-0.6, 0.8]), side([-1.0, 0.0], [0.0, 1.0]), side([0.0, 1.0], [0.0, 1.0])];
        // Of length 5, with cosines 0.8 and 0, -0.8 and 0.6, 0.6 and 0.6.
        let found = scores(&[4.0, 3.0], &sides);
        let softmax = |positive: f64, negative: f64| positive.exp() / (positive.exp() + negative.exp());
        let wanted = [softmax(0.8, 0.0), softmax(-0.8, 0.6), 0.5];
        assert!(found.len() == 3 && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn own_sentences_take_the_place_of_templates() {
        let classes = ["Pleural_Effusion".to_owned(), "Mass".to_owned()];
        let own = Prompts { positive: vec!["mass seen".into()], negative: vec!["clear".into()] };
        let all = prompts(&classes, &[("Mass".to_owned(), own.clone())].into()).unwrap();
        assert_eq!(
            (&all[0].positive[1], &all[0].negative[0]),
            (&"there is pleural effusion".into(), &"no pleural effusion".into())
        );
        assert_eq!(all[1], own);
    }
}
