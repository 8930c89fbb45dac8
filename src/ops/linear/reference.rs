//! The definition of [`Linear`](super::Linear).

use super::{Epilogue, Linear, Pass};
use crate::base::Number;
use crate::ops::gelu::{distribution, slope};
use crate::program::HostIo;

/// Row by row.
pub fn run<N: Number>(op: &Linear, io: &mut HostIo<'_, N>) {
    let (out, rows) = (io.take(0), op.rows(io));
    let (a, features) = (io.numbers(0), io.shape(0).last());
    match op.pass {
        Pass::Fwd => {
            let (weight, outputs) = (io.numbers(1), io.output_shape(0).last());
            for (at, out) in out[..rows * outputs].iter_mut().enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                *out = if op.bias { io.numbers(2)[output] } else { N::ZERO };
                for input in 0..features {
                    *out += a[row * features + input] * weight[output * features + input];
                }
            }
            if op.epilogue == Epilogue::Gelu {
                let units = io.take(1).iter_mut().zip(&*out).take(rows * outputs);
                units.for_each(|(unit, &y)| *unit = y * distribution(y));
            }
        }
        Pass::Dgrad => {
            let (weight, inputs) = (io.numbers(1), io.output_shape(0).last());
            for (at, out) in out[..rows * inputs].iter_mut().enumerate() {
                let (row, input) = (at / inputs, at % inputs);
                let sum = (0..features).map(|output| a[row * features + output] * weight[output * inputs + input]).sum();
                *out = match op.epilogue {
                    Epilogue::Store | Epilogue::Gelu => sum,
                    // `out` holds before on entry.
                    Epilogue::Add => sum + *out,
                    Epilogue::GeluSlope => sum * slope(io.numbers(2)[at]),
                };
            }
        }
        Pass::Wgrad => {
            let (x, inputs) = (io.numbers(1), io.shape(1).last());
            for (at, out) in out.iter_mut().enumerate() {
                let (output, input) = (at / inputs, at % inputs);
                *out = (0..rows).map(|row| a[row * features + output] * x[row * inputs + input]).sum();
            }
        }
        Pass::BiasGrad => {
            for (output, out) in out.iter_mut().enumerate() {
                *out = (0..rows).map(|row| a[row * features + output]).sum();
            }
        }
    }
}
