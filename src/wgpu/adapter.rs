//! The adapters of this machine, by number: real ones first.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use serde::Serialize;
use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags};

use super::gpu::{Gpu, GpuError};
use super::native::Native;
use crate::program::device::ALIGNMENT;

/// An adapter, as `g2d devices` tells of it.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// Its own name.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub api: String,
    /// Its driver.
    pub driver: String,
    /// Whether it is the processor in disguise; such a one is never chosen by itself.
    pub software: bool,
    /// Bytes of one value, at most: what a buffer holds of a slab.
    pub piece: u64,
}

/// All adapters; `wgpu:N` is the one at position N.
pub fn list() -> Vec<Adapter> {
    adapters().iter().map(describe).collect()
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
pub fn open(number: u32) -> Result<Arc<dyn Gpu>, GpuError> {
    let adapters = adapters();
    let adapter = adapters.get(number as usize).ok_or_else(|| GpuError::Absent(missing(number, &adapters)))?;
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let opened = wait(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|why| GpuError::Absent(format!("{}: {why}", describe(adapter).name)))?;
    Ok(Arc::new(Native::new(device, queue, piece(&adapter.limits()))))
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
    let (info, limits) = (adapter.get_info(), adapter.limits());
    Adapter {
        name: info.name,
        api: info.backend.to_str().to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software: info.device_type == DeviceType::Cpu,
        piece: piece(&limits),
    }
}

/// Bytes that a buffer may have and a binding too.
fn piece(limits: &wgpu::Limits) -> u64 {
    limits.max_buffer_size.min(limits.max_storage_buffer_binding_size) / ALIGNMENT * ALIGNMENT
}

fn missing(number: u32, adapters: &[wgpu::Adapter]) -> String {
    let listed = |(at, adapter)| format!("wgpu:{at} is {}", describe(adapter).name);
    let there: Vec<String> = adapters.iter().enumerate().map(listed).collect();
    match there.len() {
        0 => "no adapter was found; install a driver for Vulkan, such as Debian's mesa-vulkan-drivers".into(),
        _ => format!("there is no adapter {number}; {}", there.join(", ")),
    }
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
