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
use crate::kernels::shaders::{Extras, Offered};
use crate::program::device::ALIGNMENT;

/// Whether wgpu writes checks into shaders: of bounds, divisors and loops; and clears their workgroup memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checks {
    /// As it does for any shader.
    On,
    /// Not for ours, to show that they never need them.
    Off,
}

/// All adapters; `wgpu:N` is the one at position N.
pub fn list() -> Vec<Adapter> {
    adapters().iter().map(describe).collect()
}

/// What is known of the adapter of that number; `None` if this machine has no adapter at all.
///
/// # Errors
/// If there are others, but none of that number; or if shaders cannot run on it.
pub fn find(number: u32) -> Result<Option<Adapter>, GpuError> {
    let adapters = list();
    match adapters.get(number as usize) {
        None if !adapters.is_empty() => Err(missing(number, &adapters)),
        found => found.map(|found| usable(found).map(|()| found.clone())).transpose(),
    }
}

/// That shaders can run on it, and that what it may use is said in words that are known.
fn usable(adapter: &Adapter) -> Result<(), GpuError> {
    Extras::wanted().map_err(GpuError::Invalid)?;
    let unable = |lacks: String| GpuError::Absent(format!("shaders cannot run on {}: {lacks}", adapter.name));
    adapter.limits.lacks().map_or(Ok(()), |lacks| Err(unable(lacks)))
}

/// The first adapter that is a real GPU on which shaders can run, with its number. On Linux none is looked for where no GPU has
/// a device file, for looking takes time, and drivers that run on the processor print lines of their own.
pub fn real() -> Option<(u32, Adapter)> {
    let there = |file: &&str| Path::new(file).exists();
    if cfg!(target_os = "linux") && !["/dev/dri", "/dev/nvidia0", "/dev/dxg"].iter().any(there) {
        return None;
    }
    first_real(list())
}

fn first_real(adapters: Vec<Adapter>) -> Option<(u32, Adapter)> {
    (0..).zip(adapters).find(|(_, adapter)| !adapter.software && adapter.limits.lacks().is_none())
}

/// Opens the adapter of that number.
///
/// # Errors
/// If there is none of that number, shaders cannot run on it, or it refuses.
pub fn open(number: u32, checks: Checks) -> Result<Arc<dyn Gpu>, GpuError> {
    let adapters = adapters();
    let described = || adapters.iter().map(describe).collect::<Vec<_>>();
    let adapter = adapters.get(number as usize).ok_or_else(|| missing(number, &described()))?;
    usable(&describe(adapter))?;
    let offered = offered(adapter);
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..native::descriptor(offered) };
    let opened = wait(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|why| GpuError::Absent(format!("{}: {why}", describe(adapter).name)))?;
    Ok(Arc::new(Native::new(device, queue, (piece(&adapter.limits()), offered), checks)))
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
    // Who opens an adapter is told of other words than those that are known.
    let extras = Extras::wanted().unwrap_or_default();
    let of_f32 = |made: &wgpu::CooperativeMatrixProperties| {
        let f32 = wgpu::CooperativeScalarType::F32;
        [made.m_size, made.n_size, made.k_size] == [8; 3] && [made.ab_type, made.cr_type] == [f32; 2]
    };
    let cooperative = extras == Extras::All && adapter.cooperative_matrix_properties().iter().any(of_f32);
    let subgroups = features(adapter).subgroups.filter(|&[fewest, _]| extras.takes(fewest));
    Offered { subgroups, cooperative, extras }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::MOST_GROUPS;
    use crate::wgpu::gpu::{STORAGE_BUFFERS, WORKGROUP_MEMORY, WORKGROUP_THREADS};

    fn made_up(name: &str, software: bool, storage_buffers: u32) -> Adapter {
        let (workgroup_memory, workgroup_threads, groups) = (WORKGROUP_MEMORY, WORKGROUP_THREADS, MOST_GROUPS);
        let (buffer, binding) = (1 << 30, 1 << 30);
        Adapter {
            name: name.into(),
            api: "vulkan".into(),
            driver: String::new(),
            software,
            piece: 1 << 30,
            limits: Limits { buffer, binding, storage_buffers, workgroup_memory, workgroup_threads, groups },
            features: Features { f16: false, subgroups: None, cooperative_matrices: Vec::new() },
            offered: Offered::default(),
            more: Vec::new(),
        }
    }

    #[test]
    fn no_software_adapter_is_taken_for_a_gpu_and_none_on_which_shaders_cannot_run() {
        let [small, gpu, processor] = [("small", false, 4), ("gpu", false, 8), ("processor", true, STORAGE_BUFFERS)]
            .map(|(name, software, buffers)| made_up(name, software, buffers));
        let taken = |adapters: &[&Adapter]| {
            first_real(adapters.iter().map(|&adapter| adapter.clone()).collect()).map(|(at, found)| (at, found.name))
        };
        assert_eq!(taken(&[]), None);
        assert_eq!(taken(&[&processor]), None);
        assert_eq!(taken(&[&small, &processor]), None);
        assert_eq!(taken(&[&gpu, &processor]), Some((0, "gpu".into())));
        assert_eq!(taken(&[&small, &gpu, &processor]), Some((1, "gpu".into())));
        let refused = usable(&small).expect_err("it allows too little").to_string();
        assert!(refused.contains("shaders cannot run on small: it allows 4 storage buffers"), "{refused}");
        usable(&processor).unwrap();
    }
}
