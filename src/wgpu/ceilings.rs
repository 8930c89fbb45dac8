//! What a GPU does at best, measured by shaders of its own.

use bytemuck::{Pod, Zeroable};

use super::gpu::{Gpu, GpuError};
use crate::base::ceilings::{Ceilings, best};
use crate::program::{Binding, ShaderCall};

/// Threads that multiply and add: several for each lane of a large GPU.
const THREADS: u64 = 1 << 18;
/// Bytes copied, at most: far more than a cache holds.
const COPIED: u64 = 1 << 27;
/// Rounds of the first trial; the work grows until a trial takes a fraction of a second, in which starting it is lost.
const ROUNDS: u32 = 64;
const LONG_ENOUGH: f64 = 0.05;
/// FLOP of a round and thread in `kernels/ceilings.wgsl`.
const FLOP: f64 = 64.0;

/// Parameters of both shaders.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    count: u32,
    rounds: u32,
    factor: f32,
    addend: f32,
}

/// Measures both ceilings: the best of a few repeats, in a second or two. Beside a step that leaves little memory less is copied.
///
/// # Errors
/// If the GPU has no 16 MiB left, or refuses.
pub fn ceilings(gpu: &dyn Gpu) -> Result<Ceilings, GpuError> {
    let mut bytes = COPIED.min(gpu.piece());
    loop {
        match copying(gpu, bytes) {
            Err(GpuError::OutOfMemory { .. }) if bytes >= 16 << 20 => bytes /= 2,
            other => return other,
        }
    }
}

fn copying(gpu: &dyn Gpu, bytes: u64) -> Result<Ceilings, GpuError> {
    let from = gpu.allocate(bytes)?;
    let measured = gpu.allocate(bytes).and_then(|to| {
        let measured = measure(gpu, [from, to].map(|address| Binding { address, bytes }));
        gpu.free(to);
        measured
    });
    gpu.free(from);
    measured
}

fn measure(gpu: &dyn Gpu, [from, to]: [Binding; 2]) -> Result<Ceilings, GpuError> {
    let groups = |threads: u64| (threads / 256) as u32;
    let multiply_adds = |rounds| {
        let parameters = Parameters { count: THREADS as u32, rounds, factor: 0.999, addend: 0.001 };
        ShaderCall::linear("ceilings.multiply_add", groups(THREADS), [from], &parameters)
    };
    let pieces = from.bytes / 16;
    let parameters = Parameters { count: pieces as u32, ..Parameters::zeroed() };
    let copy = ShaderCall::linear("ceilings.copy", groups(pieces + 255), [from, to], &parameters);
    Ok(Ceilings {
        multiply_add_gflops: rate(gpu, |work| {
            (multiply_adds(ROUNDS * work), 1, FLOP * (ROUNDS * work) as f64 * THREADS as f64)
        })?,
        copy_gb_per_s: rate(gpu, |work| (copy.clone(), work, 2.0 * f64::from(work) * from.bytes as f64))?,
        instructions: "shaders",
    })
}

/// The best rate, in billions a second, of a call submitted so many times, by the amount that this does, as `of` gives
/// them for ever more work.
fn rate(gpu: &dyn Gpu, of: impl Fn(u32) -> (ShaderCall, u32, f64)) -> Result<f64, GpuError> {
    let mut work = 1;
    loop {
        let (call, times, amount) = of(work);
        let recording = gpu.record(&[call])?;
        let submit = || {
            gpu.submit(&vec![recording; times as usize])?;
            gpu.synchronize().map(|()| amount)
        };
        // The first time a shader is also compiled.
        let measured = submit().and_then(|_| best(submit));
        gpu.forget(recording);
        let rate = measured?;
        if amount / rate > LONG_ENOUGH || work >= 1 << 12 {
            return Ok(rate / 1e9);
        }
        work *= 4;
    }
}
