//! The shaders that ship: every `kernels/NAME.wgsl`, as text; some also in a form for adapters that offer more.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;

use super::Brought;

/// One shader.
#[derive(Clone, Copy, Debug)]
pub struct Shader {
    /// What stands before the dot of its symbols.
    pub name: &'static str,
    /// Its file in `kernels/`, without the ending.
    pub file: &'static str,
    /// Which of the forms of that file.
    pub form: Form,
    /// What is included, then the text of the file; of one that an op of another crate brings along, its text alone.
    pub text: &'static str,
}

/// What stands before a shader of another crate: `WIDTH`, `flat`, exact functions, sums of a workgroup.
pub const PRELUDE: &str =
    concat!(include_str!("../../kernels/include/prelude.wgsl"), include_str!("../../kernels/include/tree.wgsl"));

/// What a file is completed by: the same functions, in terms of what an adapter offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// By what every adapter has.
    Plain,
    /// Sums over a workgroup by its subgroups.
    Subgroups,
    /// Products of matrices by cooperative matrices.
    Cooperative,
}

/// Which of what an adapter offers plans may use, as the environment says by `G2D_WGPU_EXTRAS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extras {
    /// `0`: nothing, to measure what it is worth or where a driver has it wrong.
    None,
    /// Nothing is said: subgroups of 32 threads or more.
    #[default]
    Large,
    /// `1`: smaller subgroups too, and cooperative matrices, which wgpu has as an experiment.
    All,
}

/// Threads of the adapter's smallest subgroups, at least, for sums by them: with 32 a workgroup of 256 adds up eight parts. With
/// eight threads, and so 32 parts, sums by subgroups are slower than the tree, as measured on lavapipe (benches/NOTES.md).
const LARGE: u32 = 32;

impl Extras {
    /// What the environment says.
    ///
    /// # Errors
    /// A sentence, if it says what is not known.
    pub fn wanted() -> Result<Self, String> {
        Self::of(&std::env::var_os("G2D_WGPU_EXTRAS").unwrap_or_default().to_string_lossy())
    }

    fn of(word: &str) -> Result<Self, String> {
        match word {
            "0" => Ok(Self::None),
            "" => Ok(Self::Large),
            "1" => Ok(Self::All),
            other => Err(format!("G2D_WGPU_EXTRAS is {other:?}; set it to 0 or 1, or unset it")),
        }
    }

    /// Whether sums are made by subgroups the smallest of which have so many threads.
    pub fn takes(self, fewest: u32) -> bool {
        match self {
            Self::None => false,
            Self::Large => fewest >= LARGE,
            Self::All => true,
        }
    }
}

/// What an adapter offers beyond what every adapter has, as far as shaders make use of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Offered {
    /// Threads of a subgroup, fewest and most; `None` where there are no subgroups, or none that are worth it.
    pub subgroups: Option<[u32; 2]>,
    /// Products of cooperative matrices of 8 x 8 x 8, f32 throughout.
    pub cooperative: bool,
    /// What of it is wanted.
    #[serde(skip)]
    pub extras: Extras,
}

impl Offered {
    /// Why the shader of that symbol cannot be used: what it needs and is not offered.
    pub fn lacks(&self, symbol: &str) -> Option<&'static str> {
        find(symbol).and_then(|(shader, _)| self.lacks_for(shader.form))
    }

    /// The same of a form.
    pub fn lacks_for(&self, form: Form) -> Option<&'static str> {
        match (form, self.extras) {
            (Form::Plain, _) => None,
            (Form::Cooperative, Extras::All) if !self.cooperative => {
                Some("it needs cooperative matrices of f32, 8 x 8 x 8, and the adapter does not offer such")
            }
            (Form::Cooperative, _) if !self.cooperative => {
                Some("it needs cooperative matrices of f32, 8 x 8 x 8, and G2D_WGPU_EXTRAS is not 1")
            }
            _ if self.subgroups.is_some() => None,
            (_, Extras::None) => Some("it needs subgroups, and G2D_WGPU_EXTRAS is 0"),
            (_, Extras::Large) => Some(
                "it needs subgroups of at least 32 threads, and the adapter does not offer such (smaller ones serve where \
                 G2D_WGPU_EXTRAS is 1)",
            ),
            (_, Extras::All) => Some("it needs subgroups, and the adapter does not offer such"),
        }
    }
}

/// Name, within an op, of the kernels that are its plain ones in [`Form::Subgroups`].
pub const SUBGROUPS: &str = "subgroups";
/// The same in [`Form::Cooperative`].
pub const COOPERATIVE: &str = "cooperative";

/// Symbols of other forms, by the kernel's name, then by the plain symbol.
static IN_FORM: LazyLock<BTreeMap<&str, BTreeMap<String, String>>> = LazyLock::new(|| {
    let of_form = |form| {
        let shaders = SHADERS.iter().filter(move |shader| shader.form == form);
        let entries = shaders.flat_map(|shader| shader.entries().map(move |entry| (shader, entry)));
        entries
            .map(|(shader, entry)| (format!("{}.{entry}", shader.file), format!("{}.{entry}", shader.name)))
            .collect()
    };
    BTreeMap::from([(SUBGROUPS, of_form(Form::Subgroups)), (COOPERATIVE, of_form(Form::Cooperative))])
});

/// The symbol of the same entry in the form of the kernel of that name; itself, if there is none.
pub fn in_form(kernel: &'static str, symbol: &'static str) -> &'static str {
    IN_FORM.get(kernel).and_then(|symbols| symbols.get(symbol)).map_or(symbol, String::as_str)
}

macro_rules! shader {
    ($name:expr, $file:literal, $form:ident, $enabled:literal, $sums:literal, $products:literal) => {
        Shader {
            name: $name,
            file: $file,
            form: Form::$form,
            text: concat!(
                $enabled,
                include_str!("../../kernels/include/prelude.wgsl"),
                include_str!(concat!("../../kernels/include/", $sums, ".wgsl")),
                include_str!(concat!("../../kernels/include/", $products, ".wgsl")),
                include_str!("../../kernels/include/rotate.wgsl"),
                include_str!(concat!("../../kernels/", $file, ".wgsl")),
            ),
        }
    };
}

macro_rules! shaders {
    (plain: $($plain:literal)* subgroups: $($sums:literal)* cooperative: $($products:literal)*) => {
        /// Every shader.
        pub static SHADERS: &[Shader] = &[
            $(shader!($plain, $plain, Plain, "", "tree", "products"),)*
            $(shader!(
                concat!($sums, "_subgroups"), $sums, Subgroups, "", "subgroups", "products"
            ),)*
            $(shader!(
                concat!($products, "_cooperative"), $products, Cooperative,
                "enable wgpu_cooperative_matrix;\n", "subgroups", "cooperative"
            ),)*
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
    cooperative:
    "linear"
}

/// Files that come in a form, in order.
pub fn files(form: Form) -> Vec<&'static str> {
    SHADERS.iter().filter(|shader| shader.form == form).map(|shader| shader.file).collect()
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
        Self { name, file: name, form: Form::Plain, text }
    }
}

/// The shader and the name of the entry that `symbol` names as `FILE.ENTRY`; `None` if there is none.
pub fn find(symbol: &str) -> Option<(&'static Shader, &'static str)> {
    SHADERS.iter().find_map(|shader| Some((shader, shader.entry(symbol)?)))
}

#[cfg(test)]
mod tests {
    use super::{COOPERATIVE, Extras, Form, Offered, SUBGROUPS, files, find, in_form};

    #[test]
    fn entries_are_found_by_name() {
        let (shader, entry) = find("gelu.bwd").expect("it ships");
        assert_eq!((shader.name, entry), ("gelu", "bwd"));
        assert!(find("gelu").is_none() && find("gelu.distribution").is_none() && find("nothing.fwd").is_none());
    }

    #[test]
    fn what_an_adapter_does_not_offer_is_lacking() {
        let none = Offered::default();
        let subgroups = Offered { subgroups: Some([8, 8]), ..none };
        let all = Offered { cooperative: true, ..subgroups };
        let lacking = |symbol| [none, subgroups, all].map(|offered| offered.lacks(symbol).is_some());
        let by = |kernel| in_form(kernel, "linear.fwd");
        assert_eq!(
            (by("tiles"), by(SUBGROUPS), by(COOPERATIVE)),
            ("linear.fwd", "linear.fwd", "linear_cooperative.fwd")
        );
        assert_eq!(lacking("linear.fwd"), [false; 3]);
        assert_eq!(lacking(in_form(SUBGROUPS, "layer_norm.fwd")), [true, false, false]);
        assert_eq!(lacking(by(COOPERATIVE)), [true, true, false]);
    }

    #[test]
    fn what_is_lacking_is_told_with_its_own_reason() {
        let told = |extras, form| Offered { extras, ..Offered::default() }.lacks_for(form).expect("nothing is offered");
        let [subgroups, matrices] = ["it needs subgroups", "it needs cooperative matrices"];
        for (extras, form, needs, why) in [
            (Extras::None, Form::Subgroups, subgroups, "G2D_WGPU_EXTRAS is 0"),
            (Extras::Large, Form::Subgroups, subgroups, "the adapter does not offer such (smaller ones"),
            (Extras::All, Form::Subgroups, subgroups, "the adapter does not offer such"),
            (Extras::None, Form::Cooperative, matrices, "G2D_WGPU_EXTRAS is not 1"),
            (Extras::Large, Form::Cooperative, matrices, "G2D_WGPU_EXTRAS is not 1"),
            (Extras::All, Form::Cooperative, matrices, "the adapter does not offer such"),
        ] {
            let told = told(extras, form);
            assert!(told.starts_with(needs) && told.contains(why), "{extras:?} {form:?}: {told}");
        }
    }

    #[test]
    fn extras_are_told_in_words_that_are_known() {
        assert_eq!(["0", "", "1"].map(Extras::of), [Ok(Extras::None), Ok(Extras::Large), Ok(Extras::All)]);
        let refused = Extras::of("yes").expect_err("it is no word for it");
        assert_eq!(refused, "G2D_WGPU_EXTRAS is \"yes\"; set it to 0 or 1, or unset it");
        let taken = |extras: Extras| [4, 31, 32, 64].map(|fewest| extras.takes(fewest));
        assert_eq!(taken(Extras::None), [false; 4]);
        assert_eq!(taken(Extras::Large), [false, false, true, true]);
        assert_eq!(taken(Extras::All), [true; 4]);
    }

    #[test]
    fn every_file_is_in_the_table() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let listed = std::fs::read_dir(folder).expect("the folder of kernels").flatten();
        let names = listed.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".wgsl")?.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        assert_eq!(names, files(Form::Plain));
    }
}
