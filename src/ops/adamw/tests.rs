//! Gradients that are not finite, which random cases do not have.

use super::AdamW;
use crate::base::Real;
use crate::program::host::{HostInput, HostOutput};
use crate::program::{HostIo, Operation};

#[test]
fn nothing_changes_where_a_gradient_is_not_finite() {
    let op = AdamW { beta1: Real(0.9), beta2: Real(0.999), eps: Real(1e-8), weight_decay: Real(0.1), gradient: true };
    for (finite, moves) in
        [([1.0, 0.0], true), ([1.0, 1.0], false), ([1.0, f64::NAN], false), ([f64::INFINITY, 0.0], false)]
    {
        for kernel in [None, Some("chunks")] {
            let (scalars, gradient, poison) = ([0.1, 0.1, 0.001], [0.5; 3], [f64::NAN; 3]);
            let inputs: [&[f64]; 6] = [&scalars, &finite, &gradient, &poison, &poison, &poison];
            let mut state = [[1.0; 3], [0.25; 3], [0.125; 3]];
            let read = inputs.iter().map(|input| ([input.len()].into(), HostInput::Numbers(input))).collect();
            let written = state.iter_mut().map(|part| ([3].into(), HostOutput::Numbers(part))).collect();
            let mut io = HostIo::new(read, written);
            match kernel {
                Some(kernel) => op.run_cpu(kernel, &mut io),
                None => op.reference(&mut io),
            }
            assert_eq!(state != [[1.0; 3], [0.25; 3], [0.125; 3]], moves, "finite {finite:?}, kernel {kernel:?}");
        }
    }
}
