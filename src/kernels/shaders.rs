//! The shaders that ship: every `kernels/NAME.wgsl`, as text.

use super::Brought;

/// One shader.
#[derive(Clone, Copy, Debug)]
pub struct Shader {
    /// Its file in `kernels/`, without the ending.
    pub name: &'static str,
    /// The prelude and the text of the file; of one that an op of another crate brings along, its text alone.
    pub text: &'static str,
}

/// What stands before every shader: `WIDTH`, `flat`, sums of a workgroup, exact functions.
pub const PRELUDE: &str = include_str!("../../kernels/include/prelude.wgsl");

macro_rules! shaders {
    ($($name:literal,)*) => {
        /// Every shader.
        pub static SHADERS: &[Shader] = &[$(Shader {
            name: $name,
            text: concat!(
                include_str!("../../kernels/include/prelude.wgsl"),
                include_str!(concat!("../../kernels/", $name, ".wgsl")),
            ),
        },)*];
    };
}

shaders! {
    "accumulate",
    "adamw",
    "attention",
    "attention_pool",
    "batch_norm",
    "body_mask",
    "ceilings",
    "clip_loss",
    "conv2d",
    "cross_entropy",
    "dice_loss",
    "elementwise_loss",
    "embed",
    "finite",
    "gelu",
    "ingest",
    "layer_norm",
    "leaky_relu",
    "linear",
    "mask_threshold",
    "max_pool",
    "memory",
    "pseudo_mask",
    "rows",
    "segmentation_loss",
    "spatial_mean",
}

impl Shader {
    /// Names of its entries: the functions behind `@compute`.
    pub fn entries(&self) -> impl Iterator<Item = &'static str> + use<> {
        let behind = self.text.split("@compute").skip(1);
        behind.filter_map(|text| text.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name.trim())
    }

    /// The name of the entry that `symbol` names as `FILE.ENTRY`, if it is one of these.
    pub fn entry(&self, symbol: &str) -> Option<&'static str> {
        let (file, wanted) = symbol.split_once('.')?;
        self.entries().find(|&entry| file == self.name && entry == wanted)
    }
}

impl From<Brought> for Shader {
    fn from(Brought { name, text }: Brought) -> Self {
        Self { name, text }
    }
}

/// The shader and the name of the entry that `symbol` names as `FILE.ENTRY`; `None` if there is none.
pub fn find(symbol: &str) -> Option<(&'static Shader, &'static str)> {
    SHADERS.iter().find_map(|shader| Some((shader, shader.entry(symbol)?)))
}

#[cfg(test)]
mod tests {
    use super::{SHADERS, find};

    #[test]
    fn entries_are_found_by_name() {
        let (shader, entry) = find("gelu.bwd").expect("it ships");
        assert_eq!((shader.name, entry), ("gelu", "bwd"));
        assert!(find("gelu").is_none() && find("gelu.distribution").is_none() && find("nothing.fwd").is_none());
    }

    #[test]
    fn every_file_is_in_the_table() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let files = std::fs::read_dir(folder).expect("the folder of kernels").flatten();
        let names = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".wgsl")?.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        assert_eq!(names, SHADERS.iter().map(|shader| shader.name).collect::<Vec<_>>());
    }
}
