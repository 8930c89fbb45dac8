//! Runs a case on the processor.

use super::cases::{self, Expected};
use super::compare::Storage;
use super::device::Failure;
use crate::ops::Op;
use crate::program::plan::REFERENCE;
use crate::program::{Case, candidates};

/// Kernels that may run a case. The reference is one of them: it is what runs where an op has no other.
pub fn kernels(case: &Case<Op>) -> Vec<&'static str> {
    let legal = candidates(&case.op, &cases::specs(case)).into_iter().filter(|candidate| candidate.refusal.is_none());
    legal.map(|candidate| candidate.name).collect()
}

/// Runs a case by that kernel in f32 and holds the result against `expected`: how much of the tolerance is used up.
pub fn check(case: &Case<Op>, kernel: &'static str, storage: Storage, expected: &Expected) -> Result<f64, Failure> {
    let run = |io: &mut crate::program::HostIo<'_, f32>| match kernel {
        REFERENCE => case.op.reference(io),
        _ => case.op.run_cpu(kernel, io),
    };
    let got = cases::flat::<f32>(case, &run, storage).map_err(Failure::Wrong)?;
    expected.accepts(&got).map_err(Failure::Wrong)
}
