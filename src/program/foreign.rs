//! Ops that are defined outside this crate: the same [contract](super::op) behind a pointer, so that [`Op`](crate::ops::Op) holds them
//! beside its own and stays a small value that can be copied, compared and printed.

use std::any::{Any, TypeId};
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use super::device::{DeviceIo, ShaderIo};
use super::host::HostIo;
use super::op::{Backward, Candidate, Misfit, Operation, Outputs};
use super::record::{Recorder, Value};
use crate::base::{Number, Spec};
use crate::kernels::Brought;

/// An op that is defined outside this crate, with its parameters. Two are equal if they are of one type and equal there.
#[derive(Clone, Copy)]
pub struct Foreign(&'static dyn Erased);

impl Foreign {
    /// Any op behind a pointer. Each different value is kept as long as the process lives, once: there are as many as a
    /// program has different nodes.
    pub fn of<O: Operation>(op: O) -> Self {
        static KNOWN: Mutex<Vec<Foreign>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&same) = known.iter().find(|known| known.0.same(&op)) {
            return same;
        }
        let new = Self(Box::leak(Box::new(op)));
        known.push(new);
        new
    }

    /// What the op's own methods do.
    pub(crate) fn op(self) -> &'static dyn Erased {
        self.0
    }

    /// See [`Operation::reference`].
    pub fn reference<N: Number>(self, io: &mut HostIo<'_, N>) {
        match of_f32::<N>() {
            true => self.0.reference_f32(&mut io.under_another_name()),
            false => self.0.reference_f64(&mut io.under_another_name()),
        }
    }

    /// See [`Operation::run_cpu`].
    pub fn run_cpu<N: Number>(self, kernel: &'static str, io: &mut HostIo<'_, N>) {
        match of_f32::<N>() {
            true => self.0.run_cpu_f32(kernel, &mut io.under_another_name()),
            false => self.0.run_cpu_f64(kernel, &mut io.under_another_name()),
        }
    }
}

/// There are two types of numbers.
fn of_f32<N: Number>() -> bool {
    TypeId::of::<N>() == TypeId::of::<f32>()
}

impl PartialEq for Foreign {
    fn eq(&self, other: &Self) -> bool {
        self.0.same(other.0)
    }
}

impl Eq for Foreign {}

impl Hash for Foreign {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_into(state);
    }
}

impl Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// [`Operation`] without what needs to know the type: every op has it.
pub(crate) trait Erased: Any + Debug + Send + Sync {
    fn same(&self, other: &dyn Any) -> bool;
    fn hash_into(&self, state: &mut dyn Hasher);
    fn name(&self) -> &'static str;
    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit>;
    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit>;
    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64;
    fn operands(&self) -> &'static [usize];
    fn reference_f32(&self, io: &mut HostIo<'_, f32>);
    fn reference_f64(&self, io: &mut HostIo<'_, f64>);
    fn cpu(&self, inputs: &[Spec]) -> Vec<Candidate>;
    fn run_cpu_f32(&self, kernel: &'static str, io: &mut HostIo<'_, f32>);
    fn run_cpu_f64(&self, kernel: &'static str, io: &mut HostIo<'_, f64>);
    fn cuda(&self) -> &'static [&'static str];
    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit>;
    fn wgsl(&self) -> &'static [&'static str];
    fn run_wgsl(&self, kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit>;
    fn ptx(&self) -> &'static [Brought];
    fn shaders(&self) -> &'static [Brought];
}

impl<O: Operation> Erased for O {
    fn same(&self, other: &dyn Any) -> bool {
        other.downcast_ref() == Some(self)
    }

    fn hash_into(&self, mut state: &mut dyn Hasher) {
        TypeId::of::<O>().hash(&mut state);
        self.hash(&mut state);
    }

    fn name(&self) -> &'static str {
        Operation::name(self)
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        Operation::infer(self, inputs)
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Operation::vjp(self, r, at)
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        Operation::flops(self, inputs, outputs)
    }

    fn operands(&self) -> &'static [usize] {
        Operation::operands(self)
    }

    fn reference_f32(&self, io: &mut HostIo<'_, f32>) {
        self.reference(io);
    }

    fn reference_f64(&self, io: &mut HostIo<'_, f64>) {
        self.reference(io);
    }

    fn cpu(&self, inputs: &[Spec]) -> Vec<Candidate> {
        Operation::cpu(self, inputs)
    }

    fn run_cpu_f32(&self, kernel: &'static str, io: &mut HostIo<'_, f32>) {
        self.run_cpu(kernel, io);
    }

    fn run_cpu_f64(&self, kernel: &'static str, io: &mut HostIo<'_, f64>) {
        self.run_cpu(kernel, io);
    }

    fn cuda(&self) -> &'static [&'static str] {
        Operation::cuda(self)
    }

    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        Operation::run_cuda(self, kernel, io)
    }

    fn wgsl(&self) -> &'static [&'static str] {
        Operation::wgsl(self)
    }

    fn run_wgsl(&self, kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        Operation::run_wgsl(self, kernel, io)
    }

    fn ptx(&self) -> &'static [Brought] {
        O::PTX
    }

    fn shaders(&self) -> &'static [Brought] {
        O::WGSL
    }
}
