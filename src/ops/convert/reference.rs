//! The definition of [`Convert`](super::Convert).

use crate::base::Number;
use crate::program::HostIo;

/// A copy: on the CPU both kinds are stored in the same type.
pub fn run<N: Number>(io: &mut HostIo<'_, N>) {
    io.take(0).copy_from_slice(io.numbers(0));
}
