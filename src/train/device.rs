//! What a session computes on, by name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::cuda::driver::emulated::{Emulated, Options};
#[cfg(feature = "cuda")]
use crate::cuda::driver::nvidia::Nvidia;
use crate::cuda::driver::{Driver, DriverError};
use crate::program::Kernels;

/// A device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(u32),
    /// The emulated CUDA device: the PTX that ships, executed and checked on the processor.
    CudaEmulated,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::CudaEmulated => f.write_str("cuda-emulated"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let number = word.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        match (word, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda-emulated", _) => Ok(Self::CudaEmulated),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(number)) if word.starts_with("cuda:") => {
                let number = number.parse().map_err(|_| format!("`{number}` is no number of a GPU"))?;
                Ok(Self::Cuda(number))
            }
            _ => Err("there are cpu, cuda, cuda:N and cuda-emulated".into()),
        }
    }
}

impl Device {
    /// The best real device: the first NVIDIA GPU, or else the processor and why there is no GPU. Never the emulated one.
    pub fn best() -> (Self, String) {
        match Self::Cuda(0).driver() {
            Ok(Some(driver)) => (Self::Cuda(0), driver.properties().name),
            Ok(None) => (Self::Cpu, String::new()),
            Err(error) => (Self::Cpu, error.to_string()),
        }
    }

    /// Its driver; none for the processor.
    pub fn driver(self) -> Result<Option<Arc<dyn Driver>>, DriverError> {
        match self {
            Self::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => Ok(Some(Arc::new(Nvidia::open(number)?))),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DriverError::Absent("this build is without the feature `cuda`".into())),
            Self::CudaEmulated => Ok(Some(Arc::new(Emulated::new(Options::default())))),
        }
    }

    /// The kernels that a plan for it takes, where `host` are those of the processor.
    pub fn kernels(self, host: Kernels) -> Kernels {
        if self == Self::Cpu { host } else { Kernels::Cuda }
    }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(7), Device::CudaEmulated] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for word in ["", "gpu", "cuda:", "cuda:x", "cuda7", "cuda:-1", "cuda:99999999999"] {
            assert!(word.parse::<Device>().is_err(), "{word}");
        }
    }
}
