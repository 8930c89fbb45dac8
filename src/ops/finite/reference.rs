//! The definition of [`Finite`](super::Finite).

use super::Finite;
use crate::base::Number;
use crate::program::HostIo;

/// One number after the other.
pub fn run<N: Number>(op: &Finite, io: &mut HostIo<'_, N>) {
    let (mut squares, mut bad) = (N::ZERO, 0);
    for input in 0..io.input_count() {
        let summed = input < io.input_count() - op.losses;
        for &value in io.numbers(input) {
            if summed {
                squares += value * value;
            }
            bad += usize::from(!value.is_finite());
        }
    }
    io.take(0).copy_from_slice(&[squares, N::count(bad)]);
}
