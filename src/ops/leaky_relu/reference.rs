//! The definition of [`LeakyRelu`](super::LeakyRelu).

use super::LeakyRelu;
use crate::base::Number;
use crate::program::{HostIo, Pass};

/// Element by element; `out` holds x, or dy, on entry.
pub fn run<N: Number>(op: &LeakyRelu, io: &mut HostIo<'_, N>) {
    let out = io.take(0);
    let y = (op.pass == Pass::Bwd).then(|| io.numbers(1));
    for (at, out) in out.iter_mut().enumerate() {
        let above = y.map_or(*out, |y| y[at]) > N::ZERO;
        *out = if above { *out } else { op.slope.to::<N>() * *out };
    }
}
