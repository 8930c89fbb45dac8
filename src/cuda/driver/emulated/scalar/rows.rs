//! Loops over the 32 lanes of a warp, compiled for the widest vectors of the processor.
#![allow(unsafe_code)] // A function compiled for an instruction set may be called only where the processor has it.

use std::sync::LazyLock;

use crate::cuda::driver::emulated::registers::{LANES, Registers, Wide, Word};

/// Runs `work` compiled for AVX-512, or AVX2 with FMA, or as everything else is, by what the processor has. What is
/// inlined into it is compiled so. Every lane computes what a scalar loop would: the bits do not depend on the choice.
#[inline(always)]
pub fn vectorised(work: impl FnOnce()) {
    #[cfg(target_arch = "x86_64")]
    match *LEVEL {
        // SAFETY: the level was found by asking the processor; AVX2 and FMA are part of AVX-512F.
        Level::Avx512 => return unsafe { avx512(work) },
        // SAFETY: the level was found by asking the processor.
        Level::Avx2 => return unsafe { avx2(work) },
        Level::Baseline => {}
    }
    work();
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
enum Level {
    Avx512,
    Avx2,
    Baseline,
}

#[cfg(target_arch = "x86_64")]
static LEVEL: LazyLock<Level> = LazyLock::new(|| match () {
    () if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl") =>
    {
        Level::Avx512
    }
    () if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => Level::Avx2,
    () => Level::Baseline,
});

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn avx512(work: impl FnOnce()) {
    work();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(work: impl FnOnce()) {
    work();
}

/// A class of registers that hold one number per lane.
pub trait Plane: Copy {
    /// The number.
    type Lane: Copy + Default;
    /// All lanes.
    fn row(self, registers: &Registers) -> &[Self::Lane; LANES];
    /// All lanes, to write.
    fn row_mut(self, registers: &mut Registers) -> &mut [Self::Lane; LANES];
}

impl Plane for Word {
    type Lane = u32;
    #[inline(always)]
    fn row(self, registers: &Registers) -> &[u32; LANES] {
        registers.word(self)
    }
    #[inline(always)]
    fn row_mut(self, registers: &mut Registers) -> &mut [u32; LANES] {
        registers.word_mut(self)
    }
}

impl Plane for Wide {
    type Lane = u64;
    #[inline(always)]
    fn row(self, registers: &Registers) -> &[u64; LANES] {
        registers.wide(self)
    }
    #[inline(always)]
    fn row_mut(self, registers: &mut Registers) -> &mut [u64; LANES] {
        registers.wide_mut(self)
    }
}

/// Writes the lanes of `mask`.
#[inline(always)]
pub fn write<T: Plane>(registers: &mut Registers, mask: u32, to: T, values: [T::Lane; LANES]) {
    let row = to.row_mut(registers);
    if mask == u32::MAX {
        *row = values;
    } else {
        for lane in 0..LANES {
            row[lane] = if mask >> lane & 1 == 1 { values[lane] } else { row[lane] };
        }
    }
}

/// `to` = `f(a)` in the lanes of `mask`. `f` is computed in every lane, so it must be total.
#[inline(always)]
pub fn map1<T: Plane, A: Plane>(registers: &mut Registers, mask: u32, to: T, a: A, f: impl Fn(A::Lane) -> T::Lane) {
    let mut values = [T::Lane::default(); LANES];
    let a = a.row(registers);
    for lane in 0..LANES {
        values[lane] = f(a[lane]);
    }
    write(registers, mask, to, values);
}

/// `to` = `f(a, b)` in the lanes of `mask`.
#[inline(always)]
pub fn map2<T: Plane, A: Plane, B: Plane>(
    registers: &mut Registers,
    mask: u32,
    to: T,
    (a, b): (A, B),
    f: impl Fn(A::Lane, B::Lane) -> T::Lane,
) {
    let mut values = [T::Lane::default(); LANES];
    let (a, b) = (a.row(registers), b.row(registers));
    for lane in 0..LANES {
        values[lane] = f(a[lane], b[lane]);
    }
    write(registers, mask, to, values);
}

/// `to` = `f(a, b, c)` in the lanes of `mask`.
#[inline(always)]
pub fn map3<T: Plane, A: Plane, B: Plane, C: Plane>(
    registers: &mut Registers,
    mask: u32,
    to: T,
    (a, b, c): (A, B, C),
    f: impl Fn(A::Lane, B::Lane, C::Lane) -> T::Lane,
) {
    let mut values = [T::Lane::default(); LANES];
    let (a, b, c) = (a.row(registers), b.row(registers), c.row(registers));
    for lane in 0..LANES {
        values[lane] = f(a[lane], b[lane], c[lane]);
    }
    write(registers, mask, to, values);
}

/// `to` = `f(a, b, c, d)` in the lanes of `mask`.
#[inline(always)]
pub fn map4<T: Plane, A: Plane, C: Plane>(
    registers: &mut Registers,
    mask: u32,
    to: T,
    (a, b, c, d): (A, A, C, C),
    f: impl Fn(A::Lane, A::Lane, C::Lane, C::Lane) -> T::Lane,
) {
    let mut values = [T::Lane::default(); LANES];
    let (a, b, c, d) = (a.row(registers), b.row(registers), c.row(registers), d.row(registers));
    for lane in 0..LANES {
        values[lane] = f(a[lane], b[lane], c[lane], d[lane]);
    }
    write(registers, mask, to, values);
}

/// The lanes in which `f(a, b)` holds.
#[inline(always)]
pub fn lanes_where<A: Plane>(registers: &Registers, (a, b): (A, A), f: impl Fn(A::Lane, A::Lane) -> bool) -> u32 {
    let (a, b) = (a.row(registers), b.row(registers));
    let mut lanes = 0;
    for lane in 0..LANES {
        lanes |= u32::from(f(a[lane], b[lane])) << lane;
    }
    lanes
}
