//! What a product is predicted to take on an H200, by which its kernels are compared. Nothing of it is measured.

use super::matmul::Product;
use crate::program::{DeviceBuffer, DeviceIo};

/// Multiprocessors.
pub const MULTIPROCESSORS: usize = 132;
/// bf16 products that `wgmma` reaches in practice, FLOP/s: as the design states them (no record of it in this repository).
pub const TENSOR: f64 = 790e12;
/// Part of that which `mma.sync` is taken to reach on Hopper. Luo and others (arXiv 2402.13499) found 62.9 % of the peak, of which
/// `TENSOR` is 80 %: this may be too little. Not measured here.
pub const SYNCHRONOUS: f64 = 0.63;
/// Copying, bytes read and written a second, as the design states it.
pub const BANDWIDTH: f64 = 4.3e12;
/// Boost clock, Hz (data sheet).
pub const CLOCK: f64 = 1.98e9;
/// Warp instructions that a multiprocessor issues in a clock.
pub const ISSUED: f64 = 4.0;
/// Bytes that a multiprocessor gets of L2 in a clock (whitepapers of A100 and H100).
pub const L2_BYTES: f64 = 64.0;
/// Seconds that a kernel takes beyond its work, within a graph: ramp, tail and the gap behind it. Not measured.
pub const LAUNCH: f64 = 2e-6;

/// Seconds of `blocks` blocks that multiply tiles of `tile` numbers along m, n and k each, at so many FLOP/s of the whole chip:
/// they go round the multiprocessors, of which a last round leaves some idle. So many bytes are read and written at least; partial
/// sums of several slices are written, read again and added.
pub fn seconds(product: &Product, [tile, blocks, slices]: [usize; 3], rate: f64, moved: f64) -> f64 {
    let rounds = blocks.div_ceil(MULTIPROCESSORS) as f64;
    let busy = rounds * 2.0 * tile as f64 / (rate / MULTIPROCESSORS as f64);
    let again = product.partials_bytes(slices) as f64;
    Work { busy, moved: moved + again, again }.seconds()
}

/// What a kernel does.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Seconds that the busiest of its multiprocessors computes, or is brought operands.
    pub busy: f64,
    /// Bytes that are read and written at least.
    pub moved: f64,
    /// Bytes of partial sums that a second kernel adds; 0 if there is none.
    pub again: f64,
}

impl Work {
    /// Seconds that it takes.
    pub fn seconds(&self) -> f64 {
        let added = if self.again > 0.0 { self.again / BANDWIDTH + LAUNCH } else { 0.0 };
        self.busy.max(self.moved / BANDWIDTH) + LAUNCH + added
    }
}

/// Bytes of all inputs and outputs of a launch.
pub fn moved(io: &DeviceIo) -> f64 {
    let bytes = |buffer: DeviceBuffer| (buffer.spec.shape.elements() * buffer.dtype.bytes()) as f64;
    let read = (0..io.input_count()).map(|at| bytes(io.input(at)));
    read.chain((0..io.output_count()).map(|at| bytes(io.output(at)))).sum()
}

#[cfg(test)]
mod tests {
    use super::super::matmul::Form;
    use super::*;

    #[test]
    fn the_last_round_counts_whole() {
        let product = Product { form: Form::Forward, m: 1 << 16, n: 1 << 12, k: 1 << 12 };
        let tile = 128 * 128 * (1 << 12);
        let of = |blocks| seconds(&product, [tile, blocks, 1], TENSOR, 1.0) - LAUNCH;
        let round = 2.0 * tile as f64 * MULTIPROCESSORS as f64 / TENSOR;
        assert!((of(132 * 100) - 100.0 * round).abs() < 1e-9 && (of(132 * 100 + 1) - 101.0 * round).abs() < 1e-9);
    }

    #[test]
    fn memory_bounds_what_multiplies_little() {
        let product = Product { form: Form::Forward, m: 1 << 20, n: 64, k: 64 };
        let bytes = (1 << 20) as f64 * (2.0 * 64.0 + 4.0 * 64.0) + 2.0 * 64.0 * 64.0;
        assert!((seconds(&product, [1, 1, 1], TENSOR, bytes) - LAUNCH - bytes / BANDWIDTH).abs() < 1e-12);
        let again = 3.0 * 4.0 * 64.0 * (1 << 20) as f64;
        let sliced = seconds(&product, [1, 1, 3], TENSOR, bytes);
        assert!((sliced - 2.0 * LAUNCH - (bytes + 2.0 * again) / BANDWIDTH).abs() < 1e-12);
    }
}
