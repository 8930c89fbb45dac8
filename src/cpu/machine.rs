//! What this machine does at best: the ceilings beside which times are read.

use std::convert::Infallible;
use std::hint::black_box;

use rayon::prelude::*;

use super::simd;
use crate::base::ceilings::{Ceilings, best};

/// Sums kept at once: enough to hide the latency of a multiply-add at the widest vectors.
const SUMS: usize = 256;
const ROUNDS: usize = 1 << 16;
/// Numbers copied by each thread.
const COPIED: usize = 1 << 23;

/// Measures both ceilings of all threads of the current rayon pool together, in a fraction of a second.
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
        multiply_add_gflops: rate(multiply_add) / 1e9,
        copy_gb_per_s: rate(copy) / 1e9,
        instructions: simd::instructions(),
    }
}

fn rate(mut work: impl FnMut() -> f64) -> f64 {
    let Ok(rate) = best(|| Ok::<f64, Infallible>(work()));
    rate
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
