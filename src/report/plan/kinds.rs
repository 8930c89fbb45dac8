//! What a launch belongs to: a family of ops, and a part of the model.

/// Families of ops by folder of `ops/`; a family's position is its colour.
pub const FAMILIES: [(&str, &[&str]); 9] = [
    ("op of another crate", &[]),
    ("convolution", &["conv2d"]),
    ("matrix product", &["linear"]),
    ("attention", &["attention", "attention_pool"]),
    ("normalisation", &["batch_norm", "layer_norm"]),
    ("activation, pooling", &["gelu", "leaky_relu", "max_pool", "spatial_mean"]),
    (
        "mask, loss",
        &[
            "body_mask",
            "clip_loss",
            "cross_entropy",
            "dice_loss",
            "elementwise_loss",
            "mask_threshold",
            "pseudo_mask",
            "segmentation_loss",
        ],
    ),
    ("input, gather, sum", &["accumulate", "convert", "embed", "ingest", "rows"]),
    ("optimizer", &["adamw", "finite"]),
];

/// The family of an op, by its name.
pub fn family(op: &str) -> usize {
    let folder = op.split('.').next().unwrap_or(op);
    FAMILIES.iter().position(|(_, folders)| folders.contains(&folder)).unwrap_or(0)
}

/// Parts of the model by how their scopes begin, the first that fits; what stands there in place of `#` is a number. Behind
/// them the region they lie in.
const PARTS: [(&str, &str, &str); 17] = [
    ("ingest", "stem", "image encoder"),
    ("img_model.encoder.layer", "layer #", "image encoder"),
    ("img_model.encoder", "stem", "image encoder"),
    ("bound", "stem", "image encoder"),
    ("proj_v", "projection, pool", "image encoder"),
    ("attnpool", "projection, pool", "image encoder"),
    ("img_model.decoder.blocks.", "decoder block #", "decoder"),
    ("img_model.segmentation_head", "mask head", "decoder"),
    ("mask", "masks, losses", "losses"),
    ("loss", "masks, losses", "losses"),
    ("img_model", "masks, losses", "losses"),
    ("mean", "masks, losses", "losses"),
    ("proj_t", "text projection", "text encoder"),
    ("lm_model.embeddings", "BERT embeddings", "text encoder"),
    ("lm_model.encoder.layer.", "BERT layer #", "text encoder"),
    ("lm_model", "BERT", "text encoder"),
    ("optimizer", "optimizer", "optimizer"),
];

/// Where a launch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The part of the model.
    pub part: String,
    /// A larger part.
    pub region: String,
    /// It computes a gradient.
    pub backward: bool,
}

/// Where a scope stands. Gradients have a `'` behind the scope of what they are gradients of; the first of them, of the loss by
/// itself, has no scope.
pub fn place(scope: &str) -> Place {
    let (name, backward) = match scope.strip_suffix('\'') {
        Some(name) => (name, true),
        None if scope.is_empty() => ("loss", true),
        None => (scope, false),
    };
    let known = PARTS.iter().find_map(|&(start, part, region)| {
        let rest = name.strip_prefix(start)?;
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
        Some((part.replace('#', digits), region.to_owned()))
    });
    let (part, region) = known.unwrap_or_else(|| {
        let first = name.split('.').next().unwrap_or(name).to_owned();
        (first.clone(), first)
    });
    Place { part, region, backward }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::REGISTRY;

    #[test]
    fn every_op_has_a_family() {
        let without: Vec<&str> = REGISTRY.iter().map(|&(op, _)| op).filter(|op| family(op) == 0).collect();
        assert_eq!(without, [""; 0]);
        let folders: usize = FAMILIES.iter().map(|(_, folders)| folders.len()).sum();
        assert_eq!(folders, REGISTRY.len(), "a family names an op that is not there, or one has two families");
        assert_eq!((family("conv2d.dgrad"), family("swiglu.fwd")), (1, 0));
    }

    #[test]
    fn scopes_have_their_parts() {
        for (scope, part, region, backward) in [
            ("ingest", "stem", "image encoder", false),
            ("img_model.encoder.bn1'", "stem", "image encoder", true),
            ("img_model.encoder.layer3.0.conv1", "layer 3", "image encoder", false),
            ("img_model.decoder.blocks.4.conv2.1'", "decoder block 4", "decoder", true),
            ("lm_model.encoder.layer.11.output.dense", "BERT layer 11", "text encoder", false),
            ("", "masks, losses", "losses", true),
            ("optimizer.all", "optimizer", "optimizer", false),
            ("mine.1.gate'", "mine", "mine", true),
        ] {
            let wanted = Place { part: part.into(), region: region.into(), backward };
            assert_eq!(place(scope), wanted, "{scope}");
        }
    }
}
