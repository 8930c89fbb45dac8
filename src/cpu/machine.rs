//! What this machine does at best: the ceilings beside which times are read.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;

use super::simd;

/// Rates of all threads of the current rayon pool together.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// f32 multiply-adds in registers, 2 FLOP each, in GFLOP/s.
    pub multiply_add_gflops: f64,
    /// Copying far more than a cache holds, bytes read plus bytes written, in GB/s.
    pub copy_gb_per_s: f64,
    /// The vectors used.
    pub instructions: &'static str,
}

/// Sums kept at once: enough to hide the latency of a multiply-add at the widest vectors.
const SUMS: usize = 256;
const ROUNDS: usize = 1 << 16;
/// Numbers copied by each thread.
const COPIED: usize = 1 << 23;
const REPEATS: usize = 5;

/// Measures both ceilings: the best of a few repeats, in a fraction of a second.
pub fn ceilings() -> Ceilings {
    let threads = rayon::current_num_threads();
    let multiply_add = || {
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| multiply_adds());
        (threads * SUMS * ROUNDS * 2) as f64
    };
    let mut pairs: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
    (0..threads).into_par_iter().map(|_| (vec![1.0; COPIED], vec![2.0; COPIED])).collect_into_vec(&mut pairs);
    let copy = || {
        pairs.par_iter_mut().with_max_len(1).for_each(|(to, from)| black_box(to).copy_from_slice(black_box(from)));
        (threads * COPIED * 2 * size_of::<f32>()) as f64
    };
    Ceilings {
        multiply_add_gflops: best(multiply_add) / 1e9,
        copy_gb_per_s: best(copy) / 1e9,
        instructions: simd::instructions(),
    }
}

/// The highest rate of what `work` says it has done.
fn best(mut work: impl FnMut() -> f64) -> f64 {
    let mut rate = || {
        let start = Instant::now();
        work() / start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(|_| rate()).fold(0.0, f64::max)
}

fn multiply_adds() {
    simd::vectorised(
        #[inline(always)]
        || {
            let mut sums = [0.5f32; SUMS];
            let (factor, addend) = (black_box(0.999_f32), black_box(0.001_f32));
            for _ in 0..ROUNDS {
                sums.iter_mut().for_each(|sum| *sum = sum.mul_add(factor, addend));
            }
            black_box(sums);
        },
    );
}

/// The most memory this process has held at once, bytes. `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    bytes_said("/proc/self/status", "VmHWM:")
}

/// What a file of Linux's says in a line `FIELD N kB`, bytes. `None` where there is no such file or line.
pub fn bytes_said(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
