//! The kernels that ship: every PTX text with its entries, as `build.rs` found them in `ptx/`, and the manifest's upkeep;
//! and the shaders, which need no building.

mod architecture;
mod check;
mod compile;
mod library;
pub mod manifest;
pub mod resources;
pub mod shaders;
mod write;

pub use architecture::Architecture;
pub use check::check;
pub use library::{Library, Text};
pub use write::{WriteError, write};

/// One PTX text.
#[derive(Debug)]
pub struct Module {
    /// Its path in `ptx/`.
    pub path: &'static str,
    /// The line that `ptx/MANIFEST` should have for it.
    pub line: &'static str,
    /// The architecture it is written for, `sm_80` or `sm_90a`.
    pub target: &'static str,
    /// Where the text comes from.
    pub origin: Origin,
    /// Whether the manifest lists it just so.
    pub listed: bool,
    /// The text itself.
    pub text: &'static str,
    /// Its kernels.
    pub entries: &'static [Entry],
}

/// Where a text comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Written as PTX.
    Hand,
    /// Compiled while this program was built.
    Compiled,
    /// Compiled before and committed.
    Committed,
}

/// A text of kernels that an op of another crate brings along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Brought {
    /// What it is called: of PTX the path in a [`Library`], of a shader the `NAME` in `NAME.ENTRY`. No two texts may share it.
    pub name: &'static str,
    /// PTX, or WGSL without the [prelude](shaders::PRELUDE).
    pub text: &'static str,
}

/// A kernel of a module.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub symbol: &'static str,
    /// Bytes of its parameter block (PTX ISA 5.1.6).
    pub parameter_bytes: usize,
    /// Alignment of that block.
    pub parameter_align: usize,
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// The kernel of that name and the module it is in; `None` if it is not shipped (see [`STALE`]).
pub fn find(symbol: &str) -> Option<(&'static Module, &'static Entry)> {
    let entries = MODULES.iter().flat_map(|module| module.entries.iter().map(move |entry| (module, entry)));
    entries.into_iter().find(|(_, entry)| entry.symbol == symbol)
}

/// That kernels take their parameters as the Rust side lays them out.
#[cfg(test)]
pub(crate) fn assert_parameters<P>(symbols: impl IntoIterator<Item = &'static str>) {
    for symbol in symbols {
        let (_, entry) = find(symbol).expect("it ships");
        let declared = (entry.parameter_bytes, entry.parameter_align);
        assert_eq!((size_of::<P>(), align_of::<P>()), declared, "{symbol}");
    }
}

#[cfg(test)]
mod tests {
    use super::manifest::{Entry, entries, parse};
    use super::{MODULES, STALE, find};

    #[test]
    fn everything_shipped_is_listed() {
        for module in MODULES {
            assert!(module.listed, "ptx/{} is not as listed; run `g2d kernels --write`", module.path);
        }
        assert_eq!(STALE, [""; 0], "not made from the committed sources");
    }

    #[test]
    fn no_text_names_a_place_on_a_machine() {
        for line in MODULES.iter().flat_map(|module| module.text.lines()) {
            assert!(!line.trim_start().starts_with(".section"), "{line}");
            assert!(!line.trim_start().starts_with(".file") || !line.contains(['/', '\\']), "{line}");
        }
    }

    #[test]
    fn no_two_kernels_share_a_name() {
        for module in MODULES {
            for entry in module.entries {
                assert!(std::ptr::eq(find(entry.symbol).unwrap().1, entry), "{} twice", entry.symbol);
            }
        }
    }

    /// Layouts that ptxas was asked about.
    #[test]
    fn parameter_blocks_are_measured() {
        let text = ".visible .entry a(\n .param .u8 p, // .entry not_this(\n .param .u64 .ptr .global .align 256 q,\n\
                    .param .align 16 .b8 r[20]\n)\n{ ret; }\n.entry b { ret; }\n.entry c() {}\n.func d(.param .u64 p) {}";
        let entry = |symbol: &str, parameter_bytes, parameter_align| Entry {
            symbol: symbol.into(),
            parameter_bytes,
            parameter_align,
        };
        assert_eq!(entries(text).unwrap(), [entry("a", 36, 16), entry("b", 0, 1), entry("c", 0, 1)]);
        assert!(entries(".entry a(.param .mystery p) {}").is_err());
    }

    #[test]
    fn a_manifest_of_other_form_is_refused() {
        assert_eq!(parse("# remark\n\na.ptx 1 - hand - x,y\n").unwrap()[0].symbols, "x,y");
        assert!(parse("a.ptx 1 - hand -").is_err());
        assert!(parse("a.ptx 1 - hand - x\na.ptx 1 - hand - x").is_err());
    }
}
