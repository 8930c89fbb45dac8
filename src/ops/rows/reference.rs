//! The definition of [`Rows`](super::Rows).

use crate::base::Number;
use crate::program::HostIo;

/// y\[b\] = x\[offsets\[b\]\].
pub fn fwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, channels] = io.dims(0);
    let (x, offsets, y) = (io.numbers(0), io.indices(1), io.take(0));
    for (y, &first) in y.chunks_exact_mut(channels).zip(offsets) {
        y.copy_from_slice(&x[first as usize * channels..][..channels]);
    }
}

/// dx\[offsets\[b\]\] = dy\[b\], and zero in the other real rows.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let [_, channels] = io.dims(0);
    let (dy, offsets, extent, dx) = (io.numbers(0), io.indices(1), io.extent(1), io.take(0));
    dx[..extent * channels].fill(N::ZERO);
    for (dy, &first) in dy.chunks_exact(channels).zip(offsets) {
        dx[first as usize * channels..][..channels].copy_from_slice(dy);
    }
}
