//! The definition of [`Accumulate`](super::Accumulate).

use super::Accumulate;
use crate::base::Number;
use crate::program::HostIo;

/// Element by element.
pub fn run<N: Number>(op: &Accumulate, io: &mut HostIo<'_, N>) {
    let out = io.take(0);
    match op {
        // `out` holds a on entry.
        Accumulate::Add { scale } => {
            for (out, &b) in out.iter_mut().zip(io.numbers(1)) {
                *out += scale.to::<N>() * b;
            }
        }
        Accumulate::Scale { scale } => {
            for (out, &b) in out.iter_mut().zip(io.numbers(0)) {
                *out = scale.to::<N>() * b;
            }
        }
        Accumulate::Fill { value } => out.fill(value.to()),
    }
}
