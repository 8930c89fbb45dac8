//! What a product is predicted to take on an H200, by which its kernels are compared. Nothing of it is measured.

use super::matmul::Product;

/// Multiprocessors.
pub const MULTIPROCESSORS: usize = 132;
/// bf16 products that `wgmma` reaches in practice, FLOP/s: as the design states them (no record of it in this repository).
pub const TENSOR: f64 = 790e12;
/// Part of that which `mma.sync` is taken to reach on Hopper. Luo and others (arXiv 2402.13499) found 62.9 % of the peak, of which
/// `TENSOR` is 80 %: this may be too little. Not measured here.
pub const SYNCHRONOUS: f64 = 0.63;
/// Copying, bytes read and written a second, as the design states it.
pub const BANDWIDTH: f64 = 4.3e12;
/// Seconds that a kernel takes beyond its work, within a graph: ramp, tail and the gap behind it. Not measured.
pub const LAUNCH: f64 = 2e-6;

/// Seconds of `blocks` blocks that multiply tiles of `tile` numbers along m, n and k each, at so many FLOP/s of the whole chip:
/// they go round the multiprocessors, of which a last round leaves some idle. Operands are read and `slices` results written
/// at least once; those of several slices are read again and added.
pub fn seconds(product: &Product, [tile, blocks, slices]: [usize; 3], rate: f64) -> f64 {
    let rounds = blocks.div_ceil(MULTIPROCESSORS) as f64;
    let work = rounds * 2.0 * tile as f64 / (rate / MULTIPROCESSORS as f64);
    let [m, n, k] = [product.m, product.n, product.k].map(|extent| extent as f64);
    let result = 4.0 * m * n * slices as f64;
    let moved = (2.0 * (m * k + n * k) + result) / BANDWIDTH;
    let added = if slices > 1 { result / BANDWIDTH + LAUNCH } else { 0.0 };
    work.max(moved) + LAUNCH + added
}

#[cfg(test)]
mod tests {
    use super::super::matmul::Form;
    use super::*;

    #[test]
    fn the_last_round_counts_whole() {
        let product = Product { form: Form::Forward, m: 1 << 16, n: 1 << 12, k: 1 << 12 };
        let tile = 128 * 128 * (1 << 12);
        let of = |blocks| seconds(&product, [tile, blocks, 1], TENSOR) - LAUNCH;
        let round = 2.0 * tile as f64 * MULTIPROCESSORS as f64 / TENSOR;
        assert!((of(132 * 100) - 100.0 * round).abs() < 1e-9 && (of(132 * 100 + 1) - 101.0 * round).abs() < 1e-9);
    }

    #[test]
    fn memory_bounds_what_multiplies_little() {
        let product = Product { form: Form::Forward, m: 1 << 20, n: 64, k: 64 };
        let bytes = (1 << 20) as f64 * (2.0 * 64.0 + 4.0 * 64.0) + 2.0 * 64.0 * 64.0;
        assert!((seconds(&product, [1, 1, 1], TENSOR) - LAUNCH - bytes / BANDWIDTH).abs() < 1e-12);
    }
}
