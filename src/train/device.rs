//! What a session computes on, by name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::cuda::driver::emulated::{Completion, Emulated, Options};
#[cfg(feature = "cuda")]
use crate::cuda::driver::nvidia::Nvidia;
use crate::cuda::driver::{Driver, DriverError};
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
        let (name, number) = word.split_once(':').map_or((word, None), |(name, number)| (name, Some(number)));
        match (name, number) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda-emulated", number) => numbered(number, "schedule").map(Self::CudaEmulated),
            ("cuda", number) => numbered(number, "GPU").map(Self::Cuda),
            ("wgpu", number) => numbered(number, "GPU").map(Self::Wgpu),
            _ => Err("there are cpu, cuda, cuda:N, cuda-emulated, cuda-emulated:SCHEDULE, wgpu and wgpu:N".into()),
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
        if let Some(adapter) = adapter::real() {
            return (Self::Wgpu(0), adapter.name);
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
            Self::CudaEmulated(number) => Ok(Some(Arc::new(Emulated::new(schedule(number))))),
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

    /// The kernels that a plan for it takes, where `host` are those of the processor, and an adapter offers this.
    pub fn kernels(self, host: Kernels, offered: Offered) -> Kernels {
        match self {
            Self::Cpu => host,
            Self::Cuda(_) | Self::CudaEmulated(_) => Kernels::Cuda,
            Self::Wgpu(_) => Kernels::Wgsl(offered),
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
}

impl Default for Capacity {
    /// Of a device that holds each slab whole, and runs no shaders.
    fn default() -> Self {
        Self { piece: usize::MAX, offered: Offered::default() }
    }
}

impl Capacity {
    /// Of an adapter.
    pub fn new(piece: u64, offered: Offered) -> Self {
        Self { piece: usize::try_from(piece).unwrap_or(usize::MAX), offered }
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
        ] {
            assert!(word.parse::<Device>().is_err(), "{word}");
        }
    }
}
