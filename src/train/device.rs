//! What a session computes on, by name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::cuda::driver::emulated::{Completion, Emulated, Options};
#[cfg(feature = "cuda")]
use crate::cuda::driver::nvidia::Nvidia;
use crate::cuda::driver::{Driver, DriverError};
use crate::kernels::Architecture;
use crate::kernels::shaders::Offered;
use crate::program::Kernels;
#[cfg(feature = "wgpu")]
use crate::wgpu::adapter;
use crate::wgpu::{Adapter, Gpu, GpuError};

/// A device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(u32),
    /// The emulated CUDA device: the PTX that ships, executed and checked on the processor on a [`schedule`], by its number.
    CudaEmulated(u64),
    /// The same as a Hopper GPU, which takes the kernels for sm_90a too.
    HopperEmulated(u64),
    /// Any GPU, by its number among the adapters that wgpu finds.
    Wgpu(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::CudaEmulated(0) => f.write_str("cuda-emulated"),
            Self::CudaEmulated(number) => write!(f, "cuda-emulated:{number}"),
            Self::HopperEmulated(0) => f.write_str("cuda-emulated:sm_90a"),
            Self::HopperEmulated(number) => write!(f, "cuda-emulated:sm_90a:{number}"),
            Self::Wgpu(number) => write!(f, "wgpu:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        fn numbered<N: FromStr + Default>(number: Option<&str>, of: &str) -> Result<N, String> {
            let parse = |number: &str| number.parse().map_err(|_| format!("`{number}` is no number of a {of}"));
            number.map_or_else(|| Ok(N::default()), parse)
        }
        if let Some(number) = word.strip_prefix("cuda-emulated:sm_90a") {
            return match (number, number.strip_prefix(':')) {
                ("", _) => Ok(Self::HopperEmulated(0)),
                (_, Some(number)) => numbered(Some(number), "schedule").map(Self::HopperEmulated),
                _ => Err(format!("there is `cuda-emulated:sm_90a`, not `{word}`")),
            };
        }
        let (name, number) = word.split_once(':').map_or((word, None), |(name, number)| (name, Some(number)));
        match (name, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda-emulated", number) => numbered(number, "schedule").map(Self::CudaEmulated),
            ("cuda", number) => numbered(number, "GPU").map(Self::Cuda),
            ("wgpu", number) => numbered(number, "GPU").map(Self::Wgpu),
            _ => Err("there are cpu, cuda, cuda:N, cuda-emulated[:sm_90a][:SCHEDULE], wgpu and wgpu:N".into()),
        }
    }
}

impl Device {
    /// The best real device: the first NVIDIA GPU, or else another GPU, or else the processor and why there is no GPU.
    /// Never the emulated one, and no processor in disguise.
    pub fn best() -> (Self, String) {
        let absent = match Self::Cuda(0).driver() {
            Ok(Some(driver)) => return (Self::Cuda(0), driver.properties().name),
            Ok(None) => String::new(),
            Err(error) => error.to_string(),
        };
        #[cfg(feature = "wgpu")]
        if let Some((number, adapter)) = adapter::real() {
            return (Self::Wgpu(number), adapter.name);
        }
        (Self::Cpu, absent)
    }

    /// Its driver; none for what is no CUDA device.
    pub fn driver(self) -> Result<Option<Arc<dyn Driver>>, DriverError> {
        match self {
            Self::Cpu | Self::Wgpu(_) => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => Ok(Some(Arc::new(Nvidia::open(number)?))),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(DriverError::Absent("this build is without the feature `cuda`".into())),
            Self::CudaEmulated(number) | Self::HopperEmulated(number) => {
                Ok(Some(Arc::new(Emulated::new(schedule(number)))))
            }
        }
    }

    /// The GPU behind it; none for what is not reached by wgpu.
    pub fn gpu(self) -> Result<Option<Arc<dyn Gpu>>, GpuError> {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu(number) => Ok(Some(adapter::open(number, adapter::Checks::On)?)),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu(_) => Err(GpuError::Absent("this build is without the feature `wgpu`".into())),
            _ => Ok(None),
        }
    }

    /// What is known of the adapter behind it, which is not opened; none for what is not reached by wgpu, and where there is
    /// no adapter at all.
    pub fn adapter(self) -> Result<Option<Adapter>, GpuError> {
        match self {
            #[cfg(feature = "wgpu")]
            Self::Wgpu(number) => adapter::find(number),
            _ => Ok(None),
        }
    }

    /// The schedule of the emulated device; `None` for every other one.
    pub fn schedule(self) -> Option<u64> {
        match self {
            Self::CudaEmulated(number) | Self::HopperEmulated(number) => Some(number),
            _ => None,
        }
    }

    /// Whether the processor plays it, which takes up to seconds for a film: the emulated device, and an adapter in software.
    pub fn disguised(self) -> bool {
        self.schedule().is_some() || self.adapter().ok().flatten().is_some_and(|adapter| adapter.software)
    }

    /// Which texts of kernels are taken on it, which `driver` is the driver of.
    pub fn architecture(self, driver: &dyn Driver) -> Architecture {
        match self {
            Self::CudaEmulated(_) => Architecture::Sm80,
            _ => Architecture::of(driver.properties().capability),
        }
    }

    /// What decides which plan it gets, whole slabs apart: of the device that is here, and of the least where there is none.
    pub fn capacity(self) -> Capacity {
        let driver = self.driver().ok().flatten();
        let architecture = driver.map_or(Architecture::default(), |driver| self.architecture(&*driver));
        Capacity { architecture, ..Capacity::default() }
    }

    /// The kernels that a plan for it takes, where `host` are those of the processor, and it is a device of such capacity.
    pub fn kernels(self, host: Kernels, capacity: Capacity) -> Kernels {
        match self {
            Self::Cpu => host,
            Self::Cuda(_) | Self::CudaEmulated(_) | Self::HopperEmulated(_) => Kernels::Cuda(capacity.architecture),
            Self::Wgpu(_) => Kernels::Wgsl(capacity.offered),
        }
    }
}

/// What of a device decides which plan it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Bytes of a slab that lie in one buffer: no value may cross a multiple of them.
    pub piece: usize,
    /// What shaders may use.
    pub offered: Offered,
    /// Which texts of CUDA kernels it takes.
    pub architecture: Architecture,
}

impl Default for Capacity {
    /// Of a device that holds each slab whole, and runs no more than every one does.
    fn default() -> Self {
        Self { piece: usize::MAX, offered: Offered::default(), architecture: Architecture::default() }
    }
}

impl Capacity {
    /// Of an adapter.
    pub fn new(piece: u64, offered: Offered) -> Self {
        Self { piece: usize::try_from(piece).unwrap_or(usize::MAX), offered, ..Self::default() }
    }
}

/// How the emulated device orders what may come in any order: CTAs, warps, lanes of atomics, ends of asynchronous copies.
/// Schedule 0 is the natural one, on which copies end as late as they may; every other one is drawn from its number.
pub fn schedule(number: u64) -> Options {
    let completion = if number == 0 { Completion::Late } else { Completion::Random };
    Options { seed: number, completion, ..Options::default() }
}

#[cfg(test)]
mod tests {
    use super::Device;

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [
            Device::Cpu,
            Device::Cuda(0),
            Device::Cuda(7),
            Device::CudaEmulated(0),
            Device::CudaEmulated(9),
            Device::HopperEmulated(0),
            Device::HopperEmulated(9),
            Device::Wgpu(3),
        ] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("wgpu".parse(), Ok(Device::Wgpu(0)));
        for word in [
            "",
            "gpu",
            "cpu:0",
            "cuda:",
            "cuda:x",
            "cuda7",
            "cuda:-1",
            "cuda:99999999999",
            "wgpu:",
            "wgpu:x",
            "cuda-emulated:x",
            "cuda-emulated:sm_90",
            "cuda-emulated:sm_90a:",
            "cuda-emulated:sm_90a7",
            "cuda-emulated:7:sm_90a",
        ] {
            assert!(word.parse::<Device>().is_err(), "{word}");
        }
    }
}
