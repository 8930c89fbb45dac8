//! What a device does at best: the ceilings beside which times are read.

use std::time::Instant;

use serde::Serialize;

/// The highest rates that a device was seen to reach.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// f32 multiply-adds in registers, 2 FLOP each, in GFLOP/s.
    pub multiply_add_gflops: f64,
    /// Copying far more than a cache holds, bytes read plus bytes written, in GB/s.
    pub copy_gb_per_s: f64,
    /// The vectors of the processor that were used; `shaders` on a GPU.
    pub instructions: &'static str,
}

impl Ceilings {
    /// Percent of the multiply-add ceiling that so many FLOP in so many seconds reach.
    pub fn percent_multiply_add(&self, flops: u64, seconds: f64) -> f64 {
        flops as f64 / seconds / 1e7 / self.multiply_add_gflops
    }

    /// Percent of the copy ceiling that so many bytes, read and written, in so many seconds reach.
    pub fn percent_copy(&self, bytes: u64, seconds: f64) -> f64 {
        bytes as f64 / seconds / 1e7 / self.copy_gb_per_s
    }
}

/// The highest rate, per second, of what `work` says it has done, over a few repeats.
///
/// # Errors
/// That of `work`.
pub fn best<E>(mut work: impl FnMut() -> Result<f64, E>) -> Result<f64, E> {
    const REPEATS: usize = 5;
    let mut highest = 0.0f64;
    for _ in 0..REPEATS {
        let start = Instant::now();
        highest = highest.max(work()? / start.elapsed().as_secs_f64());
    }
    Ok(highest)
}
