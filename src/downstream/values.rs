//! What the attention pool would make of single cells.
//!
//! The contrastive loss compares a report with what the pool makes of all cells: c_proj(out_proj(Σ attention · value)). A
//! projected cell itself is never compared with a text. Had the pool looked at one cell alone, it would have made
//! c_proj(out_proj(value)) of it, in the space in which reports lie (as MaskCLIP reads CLIP: Zhou et al., 2022).

use crate::error::Error;
use crate::train::Engine;

/// The pool's maps of a cell's token, one behind the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Added to cells [cells, dim].
    positional: Vec<f64>,
    /// Value, output, and last projection.
    layers: [Layer; 3],
}

/// A linear layer: weight [out, in], bias \[out\].
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

impl Layer {
    fn of(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.weight.chunks_exact(x.len()).zip(&self.bias);
        rows.map(|(row, bias)| bias + row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>()).collect()
    }
}

impl Values {
    /// Those of the model that `engine` holds.
    pub fn of(engine: &Engine) -> Result<Self, Error> {
        let absent = |name: &str| Error::Usage(format!("the model has no attnpool.{name}"));
        let state = |name: &str| engine.state(&format!("attnpool.{name}"))?.ok_or_else(|| absent(name));
        let layer = |name: &str| {
            Ok::<_, Error>(Layer { weight: state(&format!("{name}weight"))?, bias: state(&format!("{name}bias"))? })
        };
        // Query, key and value lie behind each other.
        let third = |all: Vec<f64>| all[all.len() / 3 * 2..].to_vec();
        let all = layer("mhsa.in_proj_")?;
        let value = Layer { weight: third(all.weight), bias: third(all.bias) };
        let last = layer("c_proj.")?;
        // The first token is the mean of the cells.
        let positional = state("positional_embedding")?.split_off(last.bias.len());
        Ok(Self { positional, layers: [value, layer("mhsa.out_proj.")?, last] })
    }

    /// What the pool would make of each cell of a film [cells, dim]; the same shape.
    pub fn apply(&self, cells: &[f64]) -> Vec<f64> {
        let dim = self.layers[2].bias.len();
        let one = |(cell, positional): (&[f64], &[f64])| {
            let token: Vec<f64> = cell.iter().zip(positional).map(|(a, b)| a + b).collect();
            self.layers.iter().fold(token, |x, layer| layer.of(&x))
        };
        cells.chunks_exact(dim).zip(self.positional.chunks_exact(dim)).flat_map(one).collect()
    }
}

/// Cosine of each row of `rows` with a text of length 1.
pub fn cosines(rows: &[f64], text: &[f32]) -> Vec<f64> {
    let cosine = |row: &[f64]| {
        let length = row.iter().map(|number| number * number).sum::<f64>().sqrt().max(1e-12);
        row.iter().zip(text).map(|(a, &b)| a * f64::from(b)).sum::<f64>() / length
    };
    rows.chunks_exact(text.len()).map(cosine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::{Shapes, Source};
    use crate::model::config::Config;
    use crate::model::g2d;
    use crate::train::Resources;

    /// With one head the pool's output is the attention's mean of what it would make of each token alone.
    #[test]
    fn the_pool_is_the_attended_mean_of_its_values() {
        let config =
            Config { attention_heads: 1, attention_head_dim: 12, image_size: 96, ..Config::preset("micro").unwrap() };
        let shapes = Shapes { batch: 1, text_len: 2, source: Source::Numbers };
        let program = g2d::record_images(&config, &shapes).unwrap().finish();
        let (mut engine, plans) = Engine::open(&Resources::default(), program.clone(), vec![program]).unwrap();
        engine.initialise(5).unwrap();
        let film: Vec<f32> = (0..96 * 96).map(|pixel| (pixel * 37 % 101) as f32 / 100.0).collect();
        engine.write(&plans[0], "image", &film).unwrap();
        engine.replay(&plans[0]).unwrap();
        let read = |name: &str| engine.output(&plans[0], name).unwrap().unwrap();
        let (cells, attention, embedding) = (read("out.cells"), read("out.attention_map"), read("out.image_embedding"));
        let dim = config.projection_dim;
        let values = Values::of(&engine).unwrap();
        // The first token, the mean of the cells, has the first row of the positional embedding.
        let mean: Vec<f64> =
            (0..dim).map(|at| cells.iter().skip(at).step_by(dim).sum::<f64>() / attention.len() as f64).collect();
        let all = engine.state("attnpool.positional_embedding").unwrap().unwrap();
        let first = Values { positional: all[..dim].to_vec(), ..values.clone() }.apply(&mean);
        let made = values.apply(&cells);
        let rest = 1.0 - attention.iter().sum::<f64>();
        for at in 0..dim {
            let cells: f64 = attention.iter().zip(made.iter().skip(at).step_by(dim)).map(|(a, b)| a * b).sum();
            let pooled = rest * first[at] + cells;
            assert!((pooled - embedding[at]).abs() < 1e-5 * (1.0 + embedding[at].abs()), "{pooled} {}", embedding[at]);
        }
    }
}
