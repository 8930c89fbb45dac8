//! The shaders that ship: every `kernels/NAME.wgsl`, as text.

/// One shader.
#[derive(Debug)]
pub struct Shader {
    /// Its file in `kernels/`, without the ending.
    pub name: &'static str,
    /// The prelude and the text of the file.
    pub text: &'static str,
}

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
