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
        let state = |name: &str| Ok::<_, Error>(engine.state(&format!("attnpool.{name}"))?.unwrap_or_default());
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
