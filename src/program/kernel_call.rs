//! A kernel launch as data: what an op's `cuda.rs` says is to be done, without a device.

use super::tensor_map::TensorMapSpec;

/// One launch of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCall {
    /// The kernel's name, unique among all that ship.
    pub symbol: &'static str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory per block.
    pub shared_bytes: u32,
    /// The kernel's parameter block: the bytes of its `repr(C)` struct.
    pub parameters: Vec<u8>,
    /// Tensor maps among the parameters: the byte at which the 128 of each begin, a multiple of 64, and what it describes. The
    /// device that loads the kernel writes them there.
    pub maps: Vec<(usize, TensorMapSpec)>,
    /// Of a gradient that sums over rows: how many of these the blocks of each y add up. Their sums lie in the workspace,
    /// [grid y, elements of the gradient], and the next call adds these up. 0: the call is none such.
    pub part: usize,
}

impl KernelCall {
    /// A launch of `blocks` blocks of `threads` threads along x.
    pub fn linear(symbol: &'static str, blocks: u32, threads: u32, parameters: &impl bytemuck::NoUninit) -> Self {
        let parameters = bytemuck::bytes_of(parameters).to_vec();
        Self {
            symbol,
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared_bytes: 0,
            parameters,
            maps: Vec::new(),
            part: 0,
        }
    }
}
