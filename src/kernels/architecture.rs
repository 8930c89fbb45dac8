//! Which texts of kernels a CUDA device takes.

use std::fmt;

use super::find;

/// The texts that a device takes: those for `sm_80` run on every later GPU too, those for `sm_90a` on Hopper alone (PTX ISA
/// 11.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Architecture {
    /// Those for sm_80.
    #[default]
    Sm80,
    /// Those for sm_80 and those for sm_90a.
    Sm90a,
}

impl Architecture {
    /// Of a GPU of this compute capability: major, minor.
    pub fn of(capability: (u32, u32)) -> Self {
        if capability == (9, 0) { Self::Sm90a } else { Self::Sm80 }
    }

    /// What the kernel of that name needs and the device is not; `None` if nothing, or if it is not among those that ship.
    pub fn lacks(self, symbol: &str) -> Option<&'static str> {
        let (module, _) = find(symbol)?;
        (self == Self::Sm80 && module.target == Self::Sm90a.name()).then_some("compute capability 9.0")
    }

    /// Its name in PTX.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sm80 => "sm_80",
            Self::Sm90a => "sm_90a",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Architecture;
    use crate::kernels::MODULES;

    #[test]
    fn only_hopper_takes_what_is_written_for_it() {
        let hopper = Architecture::of((9, 0));
        assert_eq!(hopper, Architecture::Sm90a);
        for capability in [(8, 0), (8, 9), (10, 0), (12, 0)] {
            assert_eq!(Architecture::of(capability), Architecture::Sm80, "{capability:?}");
        }
        for module in MODULES {
            for entry in module.entries {
                assert_eq!(hopper.lacks(entry.symbol), None, "{}", entry.symbol);
                let needs = (module.target == "sm_90a").then_some("compute capability 9.0");
                assert_eq!(Architecture::Sm80.lacks(entry.symbol), needs, "{}", entry.symbol);
            }
        }
        assert_eq!(Architecture::Sm80.lacks("a_kernel_of_another_crate"), None);
    }
}
