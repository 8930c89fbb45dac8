//! [`Gelu`](super::Gelu) over blocks in parallel; in `f32` with an error function and an exponential without branches
//! or calls, which the compiler turns into vector instructions.

use std::any::TypeId;
use std::f32::consts::FRAC_1_SQRT_2;

use rayon::prelude::*;

use super::reference;
use crate::base::Number;
use crate::cpu::math::{erf, exp};
use crate::cpu::simd;
use crate::program::HostIo;

/// Numbers that are one piece of work.
const BLOCK: usize = 4096;

/// y = x · Φ(x).
pub fn fwd<N: Number>(io: &mut HostIo<'_, N>) {
    let real = io.extent(1) * io.shape(0).last();
    let (x, y) = (&io.numbers(0)[..real], &mut io.take(0)[..real]);
    if TypeId::of::<N>() == TypeId::of::<f32>() {
        let (x, y): (&[f32], &mut [f32]) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(y));
        each(
            y,
            x,
            #[inline(always)]
            |_, x| x * distribution(x),
        );
    } else {
        each(y, x, |_, x| x * reference::distribution(x));
    }
}

/// dx = dy · (Φ(x) + x · φ(x)); `dx` holds dy on entry.
pub fn bwd<N: Number>(io: &mut HostIo<'_, N>) {
    let real = io.extent(2) * io.shape(1).last();
    let (x, dx) = (&io.numbers(1)[..real], &mut io.take(0)[..real]);
    if TypeId::of::<N>() == TypeId::of::<f32>() {
        let (x, dx): (&[f32], &mut [f32]) = (bytemuck::cast_slice(x), bytemuck::cast_slice_mut(dx));
        each(
            dx,
            x,
            #[inline(always)]
            |dy, x| dy * (distribution(x) + x * density(x)),
        );
    } else {
        each(dx, x, |dy, x| dy * reference::slope(x));
    }
}

/// out = of(out, x), number by number.
fn each<N: Number>(out: &mut [N], x: &[N], of: impl Fn(N, N) -> N + Sync) {
    out.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(out, x)| {
        simd::vectorised(
            #[inline(always)]
            || out.iter_mut().zip(x).for_each(|(out, &x)| *out = of(*out, x)),
        );
    });
}

// Inlined always: the loops above become vector instructions only if no call is left in them.

#[inline(always)]
fn distribution(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

#[inline(always)]
fn density(x: f32) -> f32 {
    const SCALE: f32 = 0.398_942_3; // 1 / √(2π)
    exp(-0.5 * x * x) * SCALE
}
