//! How fresh parameters are drawn: bounds and deviations after torch's initialisers, and the numbers themselves.

use rayon::prelude::*;

use crate::base::Rng;
use crate::program::record::Init;

/// An initialiser by its name in the field. Fans are torch's: inputs, or outputs, times kernel area.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scheme {
    /// Normal, He's deviation by fan-out: torchvision's ResNet.
    KaimingNormal,
    /// Uniform, He's bound by fan-in: the decoder of segmentation_models.pytorch.
    KaimingUniform,
    /// Uniform, Glorot's bound: projections, attention pool, segmentation head.
    XavierUniform,
    /// Normal with deviation 1 / √width: text encoders. BERT's 0.02 belongs to its own pre-training; from there `[CLS]`
    /// says next to nothing of its text, and a contrastive loss stays at chance for hundreds of steps.
    Text,
}

impl Scheme {
    /// For weights.
    pub fn weight(self, fan_in: usize, fan_out: usize) -> Init {
        let (inputs, outputs) = (fan_in as f64, fan_out as f64);
        match self {
            Self::KaimingNormal => Init::Normal((2.0 / outputs).sqrt()),
            Self::KaimingUniform => Init::Uniform((6.0 / inputs).sqrt()),
            Self::XavierUniform => Init::Uniform((6.0 / (inputs + outputs)).sqrt()),
            Self::Text => Init::Normal(inputs.min(outputs).recip().sqrt()),
        }
    }

    /// For embeddings of `width` numbers of which row 0 stands for padding: zero, as transformers' BERT starts it
    /// (torch's `padding_idx=0`), and as it stays, for it gets no gradient.
    pub fn embedding(self, width: usize) -> Init {
        match self.weight(width, width) {
            Init::Normal(deviation) => Init::Embedding { deviation, width },
            other => other,
        }
    }
}

/// Numbers drawn at a time from one stream; independent chunks are drawn by as many threads as there are.
const CHUNK: usize = 1 << 16;

/// The first numbers of the parameter `name`. They depend on `seed`, `name` and their place in it, on nothing else.
pub fn draw(init: Init, name: &str, elements: usize, seed: u64) -> Vec<f32> {
    let mut numbers = vec![0.0; elements];
    let digest = blake3::hash(name.as_bytes());
    let index = digest.as_bytes()[..8].iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    numbers.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, numbers)| {
        let mut rng = Rng::new(seed, chunk as u32, index);
        numbers.fill_with(|| match init {
            Init::Constant(value) => value as f32,
            Init::Normal(deviation) | Init::Embedding { deviation, .. } => (deviation * rng.normal()) as f32,
            Init::Uniform(bound) => rng.uniform(-bound, bound) as f32,
        });
    });
    if let Init::Embedding { width, .. } = init {
        numbers[..width.min(elements)].fill(0.0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_and_name_and_have_their_moments() {
        let count = 3 * CHUNK / 2;
        let first = draw(Init::Normal(0.02), "a.weight", count, 1);
        assert_eq!(first, draw(Init::Normal(0.02), "a.weight", count, 1));
        assert_eq!(first[..100], draw(Init::Normal(0.02), "a.weight", 100, 1));
        assert_ne!(first[..100], draw(Init::Normal(0.02), "b.weight", 100, 1));
        assert_ne!(first[..100], draw(Init::Normal(0.02), "a.weight", 100, 2));
        assert_ne!(first[..100], first[CHUNK..CHUNK + 100]);
        let deviation = (first.iter().map(|x| f64::from(x * x)).sum::<f64>() / count as f64).sqrt();
        assert!((deviation / 0.02 - 1.0).abs() < 0.02, "{deviation}");
        let uniform = draw(Scheme::XavierUniform.weight(48, 48), "u", count, 3);
        assert!(uniform.iter().all(|x| x.abs() <= 0.25) && uniform.iter().any(|x| x.abs() > 0.249));
        assert!(draw(Init::Constant(1.0), "ones", 3, 4) == [1.0; 3]);
        let table = draw(Scheme::Text.embedding(16), "a.weight", 160, 1);
        let plain = draw(Scheme::Text.weight(16, 16), "a.weight", 160, 1);
        assert!(table[..16] == [0.0; 16] && table[16..] == plain[16..] && plain[..16] != [0.0; 16]);
    }
}
