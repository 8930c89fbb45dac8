//! What this machine offers, and what of it this build uses.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use crate::cpu::simd;
use crate::train::{Device, footprint};
use crate::wgpu::Adapter;

/// The processor and its memory.
#[derive(Clone, Debug, Serialize)]
pub struct Processor {
    /// Its name, if the system says.
    pub model: Option<String>,
    /// `x86_64`, `aarch64`, ...
    pub architecture: &'static str,
    /// Cores, if the system says.
    pub cores: Option<usize>,
    /// Threads that this process may use; the default of every verb.
    pub threads: usize,
    /// Instruction sets that matter here, those it has.
    pub instructions: Vec<&'static str>,
    /// The vectors that our loops use of these.
    pub vectors: &'static str,
    /// All memory, bytes.
    pub memory: Option<u64>,
    /// Memory that is free to use now, bytes.
    pub memory_available: Option<u64>,
}

/// Something that steps can run on.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    /// The word for `--device`.
    pub name: String,
    /// Whether this build can use it.
    pub built_in: bool,
    /// Whether it is what runs where nothing is said.
    pub default: bool,
    /// Why that is so.
    pub why: String,
    /// What an adapter of wgpu's allows and offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
}

/// The processor of this machine.
pub fn processor() -> Processor {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |field: &'static str| {
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.filter(move |(name, _)| name.trim() == field).map(|(_, value)| value.trim().to_owned())
    };
    let cores: BTreeSet<(String, String)> = values("physical id").zip(values("core id")).collect();
    Processor {
        model: values("model name").next(),
        architecture: std::env::consts::ARCH,
        cores: (!cores.is_empty()).then_some(cores.len()),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        instructions: instructions(),
        vectors: simd::instructions(),
        memory: footprint::total_memory(),
        memory_available: footprint::available_memory(),
    }
}

fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let known: [(&'static str, bool); 0] = [];
    known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// Everything that steps can run on, built in or not; the default one first.
pub fn backends() -> Vec<Backend> {
    let (best, about) = Device::best();
    let default = |device: Device| device == best;
    let cpu = match best {
        Device::Cpu => format!("there is no GPU: {about}"),
        _ => "a GPU is faster".to_owned(),
    };
    let cpu = Backend { name: "cpu".into(), built_in: true, default: default(Device::Cpu), why: cpu, adapter: None };
    let cuda = match Device::Cuda(0).driver() {
        Ok(driver) => driver.map_or_else(String::new, |driver| driver.properties().name),
        Err(why) if cfg!(feature = "cuda") => format!("built in, and not usable here: {why}"),
        Err(why) => why.to_string(),
    };
    let built_in = cfg!(feature = "cuda");
    let cuda = Backend { name: "cuda".into(), built_in, default: default(Device::Cuda(0)), why: cuda, adapter: None };
    let emulated = "the kernels for CUDA, executed and checked on the processor: to verify, far too slow to train";
    let emulated =
        Backend { name: "cuda-emulated".into(), built_in: true, default: false, why: emulated.into(), adapter: None };
    let mut all: Vec<Backend> = [cpu, cuda, emulated].into_iter().chain(adapters(&default)).collect();
    all.sort_by_key(|backend| !backend.default);
    all
}

/// What wgpu reaches, by number.
fn adapters(default: &dyn Fn(Device) -> bool) -> Vec<Backend> {
    let nothing = |built_in, why: &str| {
        vec![Backend { name: "wgpu".into(), built_in, default: false, why: why.into(), adapter: None }]
    };
    #[cfg(feature = "wgpu")]
    {
        let listed = crate::wgpu::adapter::list();
        if listed.is_empty() {
            return nothing(true, "no adapter: install a driver for Vulkan, such as Debian's mesa-vulkan-drivers");
        }
        let one = |(at, found): (usize, Adapter)| {
            let device = Device::Wgpu(at as u32);
            let software =
                if found.software { "; the processor in disguise: to verify, never chosen by itself" } else { "" };
            let piece = found.piece as f64 / f64::from(1 << 30);
            let unable =
                found.limits.lacks().map_or_else(String::new, |lacks| format!("; shaders cannot run on it: {lacks}"));
            let why = format!(
                "{} by {} ({}), values of up to {piece:.2} GiB{software}{unable}",
                found.name, found.api, found.driver
            );
            let (name, default) = (device.to_string(), default(device));
            Backend { name, built_in: true, default, why, adapter: Some(found) }
        };
        listed.into_iter().enumerate().map(one).collect()
    }
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = default;
        nothing(false, "this build is without the feature `wgpu`")
    }
}
