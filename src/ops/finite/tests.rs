//! Numbers that are not finite, which random cases do not have.

use super::{Finite, cpu, reference};
use crate::program::HostIo;
use crate::program::host::{HostInput, HostOutput};

fn both(losses: usize, inputs: &[Vec<f32>]) -> [[f32; 2]; 2] {
    [reference::run, cpu::run].map(|run: fn(&Finite, &mut HostIo<'_, f32>)| {
        let mut out = [0.0; 2];
        let read = inputs.iter().map(|input| ([input.len()].into(), HostInput::Numbers(input))).collect();
        run(&Finite { losses }, &mut HostIo::new(read, vec![([2].into(), HostOutput::Numbers(&mut out))]));
        out
    })
}

#[test]
fn every_number_that_is_not_finite_is_counted() {
    let mut long = vec![1.0; 100_000];
    (long[0], long[40_000], long[99_999]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    for [_, bad] in both(0, &[long, vec![], vec![f32::NAN, 2.0]]) {
        assert_eq!(bad, 4.0);
    }
}

#[test]
fn a_sum_that_overflows_has_no_bad_numbers() {
    for [squares, bad] in both(0, &[vec![1e30; 20]]) {
        assert_eq!((squares, bad), (f32::INFINITY, 0.0));
    }
}

#[test]
fn losses_are_counted_and_not_summed() {
    for numbers in both(2, &[vec![3.0, 4.0], vec![f32::NAN], vec![5.0]]) {
        assert_eq!(numbers, [25.0, 1.0]);
    }
}
