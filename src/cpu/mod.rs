//! What the fast CPU kernels share.
pub mod matmul;
