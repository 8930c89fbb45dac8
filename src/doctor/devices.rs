//! What this machine offers, and what of it this build uses.

use std::collections::BTreeSet;
use std::fs;

use serde::Serialize;

use crate::cpu::simd;
use crate::train::{Device, footprint};

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
    /// The word for `--device`, or the name it will have.
    pub name: &'static str,
    /// Whether this build can use it.
    pub built_in: bool,
    /// Whether it is what runs where nothing is said.
    pub default: bool,
    /// Why that is so.
    pub why: String,
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

/// Every backend, those that are not built in too; the default one first.
pub fn backends() -> Vec<Backend> {
    let (best, about) = Device::best();
    let gpu = best != Device::Cpu;
    let cpu = if gpu { "a GPU is faster".to_owned() } else { format!("there is no CUDA device: {about}") };
    let cpu = Backend { name: "cpu", built_in: true, default: !gpu, why: cpu };
    let built_in = cfg!(feature = "cuda");
    let why = if gpu || !built_in { about.clone() } else { format!("built in, and not usable here: {about}") };
    let cuda = Backend { name: "cuda", built_in, default: gpu, why };
    let emulated = "the kernels for CUDA, executed and checked on the processor: to verify, far too slow to train";
    let emulated = Backend { name: "cuda-emulated", built_in: true, default: false, why: emulated.into() };
    let wgpu = Backend { name: "wgpu", built_in: cfg!(feature = "wgpu"), default: false, why: adapters() };
    let [first, second] = if gpu { [cuda, cpu] } else { [cpu, cuda] };
    vec![first, second, emulated, wgpu]
}

/// What wgpu reaches, by number; and what it cannot do yet.
fn adapters() -> String {
    #[cfg(feature = "wgpu")]
    {
        let listed = crate::wgpu::adapter::list();
        let one = |(at, found): (usize, &crate::wgpu::adapter::Adapter)| {
            let software = if found.software { ", the processor in disguise" } else { "" };
            format!("wgpu:{at} is {} by {}{software}", found.name, found.api)
        };
        let found: Vec<String> = listed.iter().enumerate().map(one).collect();
        let found = if found.is_empty() { "no adapter: install a driver for Vulkan".into() } else { found.join("; ") };
        format!(
            "only to verify, for few ops have shaders yet (g2d plan --device wgpu names the first that lacks one); {found}"
        )
    }
    #[cfg(not(feature = "wgpu"))]
    return "this build is without the feature `wgpu`".into();
}
