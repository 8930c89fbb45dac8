//! The adapters of this machine, by number: real ones first.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags};

use super::gpu::{Adapter, Features, Gpu, GpuError, Limits};
use super::native::{self, Native};
use crate::kernels::shaders::Offered;
use crate::program::device::ALIGNMENT;

/// Whether wgpu writes checks into shaders: of bounds, divisors and loops; and clears their workgroup memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checks {
    /// As it does for any shader.
    On,
    /// Not for ours, to show that they never need them.
    Off,
}

/// For tests of what becomes of a run whose GPU is lost: the device is destroyed behind so many submissions.
const LOSE: &str = "G2D_LOSE_GPU";
/// `0`: plans use nothing that not every adapter offers, to measure what it is worth or where a driver has it wrong. `1`: all
/// that the adapter offers, small subgroups too and cooperative matrices, which wgpu has as an experiment. Otherwise large
/// subgroups alone.
const EXTRAS: &str = "G2D_WGPU_EXTRAS";
/// Threads of the adapter's largest subgroups, at least, for sums by them: with 32 a workgroup of 256 adds up eight parts. With
/// eight threads, and so 32 parts, sums by subgroups are slower than the tree, as measured on lavapipe (benches/NOTES.md).
const LARGE: u32 = 32;

/// All adapters; `wgpu:N` is the one at position N.
pub fn list() -> Vec<Adapter> {
    adapters().iter().map(describe).collect()
}

/// What is known of the adapter of that number; `None` if this machine has no adapter at all.
///
/// # Errors
/// If there are others, but none of that number.
pub fn find(number: u32) -> Result<Option<Adapter>, GpuError> {
    let adapters = list();
    match adapters.get(number as usize) {
        None if !adapters.is_empty() => Err(missing(number, &adapters)),
        found => Ok(found.cloned()),
    }
}

/// The first adapter, if it is a real GPU. On Linux none is looked for where no GPU has a device file, for looking takes
/// time, and drivers that run on the processor print lines of their own.
pub fn real() -> Option<Adapter> {
    let there = |file: &&str| Path::new(file).exists();
    if cfg!(target_os = "linux") && !["/dev/dri", "/dev/nvidia0", "/dev/dxg"].iter().any(there) {
        return None;
    }
    // Real ones are listed first.
    list().into_iter().next().filter(|adapter| !adapter.software)
}

/// Opens the adapter of that number.
///
/// # Errors
/// If there is none of that number, or it refuses.
pub fn open(number: u32, checks: Checks) -> Result<Arc<dyn Gpu>, GpuError> {
    let adapters = adapters();
    let described = || adapters.iter().map(describe).collect::<Vec<_>>();
    let adapter = adapters.get(number as usize).ok_or_else(|| missing(number, &described()))?;
    let offered = offered(adapter);
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..native::descriptor(offered) };
    let opened = wait(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|why| GpuError::Absent(format!("{}: {why}", describe(adapter).name)))?;
    let lost_behind = std::env::var(LOSE).ok().and_then(|submissions| submissions.parse().ok());
    Ok(Arc::new(Native::new(device, queue, (piece(&adapter.limits()), offered), checks, lost_behind)))
}

/// Real adapters first, discrete ones before others; those alike as the system lists them.
fn adapters() -> Vec<wgpu::Adapter> {
    // Without validation layers, whatever the environment says: shaders are validated before they reach a driver.
    let descriptor = InstanceDescriptor {
        backends: Backends::PRIMARY,
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    };
    let mut adapters = wait(Instance::new(descriptor).enumerate_adapters(Backends::PRIMARY));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    });
    adapters
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), features(adapter));
    let software = info.device_type == DeviceType::Cpu;
    Adapter {
        name: info.name,
        api: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software,
        piece: piece(&limits),
        limits: Limits {
            buffer: limits.max_buffer_size,
            binding: limits.max_storage_buffer_binding_size,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
            groups: limits.max_compute_workgroups_per_dimension,
        },
        more: more(software, &features),
        features,
        offered: offered(adapter),
    }
}

/// What plans for it make use of.
fn offered(adapter: &wgpu::Adapter) -> Offered {
    let extras = std::env::var(EXTRAS).unwrap_or_default();
    if extras == "0" {
        return Offered::default();
    }
    let of_f32 = |made: &wgpu::CooperativeMatrixProperties| {
        let f32 = wgpu::CooperativeScalarType::F32;
        [made.m_size, made.n_size, made.k_size] == [8; 3] && [made.ab_type, made.cr_type] == [f32; 2]
    };
    let cooperative = extras == "1" && adapter.cooperative_matrix_properties().iter().any(of_f32);
    let subgroups = features(adapter).subgroups.filter(|&[_, most]| most >= LARGE || extras == "1");
    Offered { subgroups, cooperative }
}

fn features(adapter: &wgpu::Adapter) -> Features {
    let (info, offered) = (adapter.get_info(), adapter.features());
    let product = |made: wgpu::CooperativeMatrixProperties| {
        format!("{}x{}x{} {:?} -> {:?}", made.m_size, made.n_size, made.k_size, made.ab_type, made.cr_type)
    };
    let subgroups = [info.subgroup_min_size, info.subgroup_max_size];
    Features {
        f16: offered.contains(wgpu::Features::SHADER_F16),
        subgroups: offered.contains(wgpu::Features::SUBGROUP).then_some(subgroups),
        cooperative_matrices: adapter.cooperative_matrix_properties().into_iter().map(product).collect(),
    }
}

/// What could be installed for more than this adapter offers.
fn more(software: bool, features: &Features) -> Vec<String> {
    let mut more = Vec::new();
    if software {
        let drivers = "mesa-vulkan-drivers for AMD and Intel, the vendor's own for NVIDIA (Debian: nvidia-vulkan-icd)";
        more.push(format!("a GPU of this machine, if it has one, needs its Vulkan driver: {drivers}"));
    }
    let lacking = [
        ("f16", !features.f16),
        ("subgroups", features.subgroups.is_none()),
        ("cooperative matrices", features.cooperative_matrices.is_empty()),
    ];
    let lacking: Vec<&str> = lacking.into_iter().filter(|(_, lacks)| *lacks).map(|(what, _)| what).collect();
    if !lacking.is_empty() {
        more.push(format!("a newer driver may offer what this one does not: {}", lacking.join(", ")));
    }
    more
}

/// Bytes that a buffer may have and a binding too.
fn piece(limits: &wgpu::Limits) -> u64 {
    limits.max_buffer_size.min(limits.max_storage_buffer_binding_size) / ALIGNMENT * ALIGNMENT
}

fn missing(number: u32, adapters: &[Adapter]) -> GpuError {
    let listed = |(at, adapter): (usize, &Adapter)| format!("wgpu:{at} is {}", adapter.name);
    let there: Vec<String> = adapters.iter().enumerate().map(listed).collect();
    GpuError::Absent(match there.len() {
        0 => "no adapter was found; install a driver for Vulkan, such as Debian's mesa-vulkan-drivers".into(),
        _ => format!("there is no adapter {number}; {}", there.join(", ")),
    })
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
