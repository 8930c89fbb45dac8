//! Loops compiled for the widest vectors of the processor they run on.
#![allow(unsafe_code)] // A function compiled for an instruction set may be called only where the processor has it.

use std::sync::atomic::{AtomicU8, Ordering};

/// Vectors that loops are compiled for, the narrowest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Vectors {
    /// What the target has at least, on x86-64 SSE2, as everything else is compiled.
    Baseline,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F, DQ, BW and VL.
    Avx512,
}

impl Vectors {
    /// All, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Avx2, Self::Avx512];

    /// The widest that this processor has.
    pub fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let narrower = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if narrower
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                return Self::Avx512;
            }
            if narrower {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }
}

static MOST: AtomicU8 = AtomicU8::new(Vectors::Avx512 as u8);

/// From now on [`vectorised`] uses no wider vectors than these, in the whole process: to test and to time what
/// processors without the wider ones run. Results keep every bit. The `gemm` crate chooses for itself.
pub fn limit(most: Vectors) {
    MOST.store(most as u8, Ordering::Relaxed);
}

/// The vectors that [`vectorised`] uses: the processor's widest, or the [`limit`].
pub fn vectors() -> Vectors {
    let most = Vectors::ALL[usize::from(MOST.load(Ordering::Relaxed))];
    Vectors::widest().min(most)
}

/// Runs `work` compiled for AVX-512, or AVX2 with FMA, or as everything else is, by what the processor has. Mark the
/// closure `#[inline(always)]`: only what is inlined here is compiled so. Every lane computes what a scalar loop would,
/// so the bits do not depend on the choice.
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    match vectors() {
        // SAFETY: the processor has these instructions, for `vectors` never exceeds `widest`.
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx512 => unsafe { avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Vectors::Avx2 => unsafe { avx2(work) },
        _ => work(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// The name of the vectors that [`vectorised`] uses here.
pub fn instructions() -> &'static str {
    match vectors() {
        Vectors::Avx512 => "avx512",
        Vectors::Avx2 => "avx2",
        Vectors::Baseline => std::env::consts::ARCH,
    }
}
