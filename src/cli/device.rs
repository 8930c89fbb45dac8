//! `--device`: what to run on.

use std::str::FromStr;

use crate::train::Device;

/// A device, as it is said on the command line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DeviceWord {
    /// The best that this machine has.
    Auto,
    /// This one.
    This(Device),
}

impl FromStr for DeviceWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word == "auto" {
            return Ok(Self::Auto);
        }
        word.parse().map(Self::This).map_err(|why: String| format!("{why}; or auto, the best there is"))
    }
}

impl DeviceWord {
    /// The device; says on standard error what was chosen where nothing was asked for.
    pub fn resolve(self) -> Device {
        match self {
            Self::This(device) => device,
            Self::Auto => {
                let (device, why) = Device::best();
                eprintln!("runs on {device} ({why})");
                device
            }
        }
    }
}
