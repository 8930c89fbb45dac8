//! The shaders that ship: every `kernels/NAME.wgsl`, as text; some also in a form for adapters that offer more.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;

/// One shader.
#[derive(Debug)]
pub struct Shader {
    /// What stands before the dot of its symbols.
    pub name: &'static str,
    /// Its file in `kernels/`, without the ending.
    pub file: &'static str,
    /// What an adapter must offer.
    pub needs: &'static [Need],
    /// What is included, then the text of the file.
    pub text: &'static str,
}

/// What not every adapter offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Threads of a subgroup exchange numbers without a barrier.
    Subgroups,
}

impl Need {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subgroups => "subgroups",
        }
    }
}

/// What an adapter offers beyond what every adapter has, as far as shaders make use of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Offered {
    /// Threads of a subgroup, fewest and most; `None` where there are no subgroups.
    pub subgroups: Option<[u32; 2]>,
}

impl Offered {
    /// What the shader of that symbol needs and is not offered.
    pub fn lacks(&self, symbol: &str) -> Option<Need> {
        let needs = find(symbol).map_or(&[][..], |(shader, _)| shader.needs);
        needs.iter().copied().find(|need| match need {
            Need::Subgroups => self.subgroups.is_none(),
        })
    }
}

/// Name, within an op, of the kernels whose sums over a workgroup are made by subgroups.
pub const SUBGROUPS: &str = "subgroups";

/// Symbols of the shaders with subgroups, by those of the plain ones.
static BY_SUBGROUPS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let shaders = SHADERS.iter().filter(|shader| shader.needs.contains(&Need::Subgroups));
    let entries = shaders.flat_map(|shader| shader.entries().map(move |entry| (shader, entry)));
    entries.map(|(shader, entry)| (format!("{}.{entry}", shader.file), format!("{}.{entry}", shader.name))).collect()
});

/// The symbol of the same entry in the form with subgroups; itself, if there is none.
pub fn by_subgroups(symbol: &'static str) -> &'static str {
    BY_SUBGROUPS.get(symbol).map_or(symbol, String::as_str)
}

macro_rules! shader {
    ($name:expr, $file:literal, $needs:expr, $first:literal, $sums:literal) => {
        Shader {
            name: $name,
            file: $file,
            needs: $needs,
            text: concat!(
                $first,
                include_str!("../../kernels/include/prelude.wgsl"),
                include_str!(concat!("../../kernels/include/", $sums, ".wgsl")),
                include_str!(concat!("../../kernels/", $file, ".wgsl")),
            ),
        }
    };
}

macro_rules! shaders {
    (plain: $($plain:literal)* subgroups: $($by:literal)*) => {
        /// Every shader.
        pub static SHADERS: &[Shader] = &[
            $(shader!($plain, $plain, &[], "", "tree"),)*
            $(shader!(concat!($by, "_subgroups"), $by, &[Need::Subgroups], "enable subgroups;\n", "subgroups"),)*
        ];
    };
}

shaders! {
    plain:
    "accumulate"
    "adamw"
    "attention"
    "attention_pool"
    "batch_norm"
    "body_mask"
    "ceilings"
    "clip_loss"
    "conv2d"
    "cross_entropy"
    "dice_loss"
    "elementwise_loss"
    "embed"
    "finite"
    "gelu"
    "ingest"
    "layer_norm"
    "leaky_relu"
    "linear"
    "mask_threshold"
    "max_pool"
    "memory"
    "pseudo_mask"
    "rows"
    "segmentation_loss"
    "spatial_mean"
    subgroups:
    "attention_pool"
    "clip_loss"
    "finite"
    "layer_norm"
    "mask_threshold"
}

impl Shader {
    /// Names of its entries: the functions behind `@compute`.
    pub fn entries(&self) -> impl Iterator<Item = &'static str> {
        let behind = self.text.split("@compute").skip(1);
        behind.filter_map(|text| text.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name.trim())
    }
}

/// The shader and the name of the entry that `symbol` names as `FILE.ENTRY`; `None` if there is none.
pub fn find(symbol: &str) -> Option<(&'static Shader, &'static str)> {
    let (file, wanted) = symbol.split_once('.')?;
    let shader = SHADERS.iter().find(|shader| shader.name == file)?;
    shader.entries().find(|&entry| entry == wanted).map(|entry| (shader, entry))
}

#[cfg(test)]
mod tests {
    use super::{Need, Offered, SHADERS, by_subgroups, find};

    #[test]
    fn entries_are_found_by_name() {
        let (shader, entry) = find("gelu.bwd").expect("it ships");
        assert_eq!((shader.name, entry), ("gelu", "bwd"));
        assert!(find("gelu").is_none() && find("gelu.distribution").is_none() && find("nothing.fwd").is_none());
    }

    #[test]
    fn what_an_adapter_does_not_offer_is_lacking() {
        let (none, eight) = (Offered::default(), Offered { subgroups: Some([8, 8]) });
        let by = by_subgroups("layer_norm.fwd");
        assert!(by == "layer_norm_subgroups.fwd" && find(by).is_some());
        assert_eq!((none.lacks(by), eight.lacks(by)), (Some(Need::Subgroups), None));
        assert_eq!((none.lacks("layer_norm.fwd"), by_subgroups("gelu.fwd")), (None, "gelu.fwd"));
    }

    #[test]
    fn every_file_is_in_the_table() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let files = std::fs::read_dir(folder).expect("the folder of kernels").flatten();
        let names = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".wgsl")?.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        let plain = SHADERS.iter().filter(|shader| shader.needs.is_empty());
        assert_eq!(names, plain.map(|shader| shader.file).collect::<Vec<_>>());
    }
}
