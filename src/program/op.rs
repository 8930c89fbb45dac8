//! The contract between an op and everything that records, differentiates, plans, runs or tests it.

use std::fmt::Debug;
use std::hash::Hash;

use super::device::{DeviceIo, ShaderIo};
use super::host::{Case, HostIo};
use super::record::{Recorder, Value};
use crate::base::{Number, Rng, Shape, Spec};
use crate::kernels::Brought;

/// An op: what is computed, how its gradient is recorded, and which kernels can do it. One folder in `ops/`, one
/// line in the registry; or any type of another crate, which records it as [`Op::foreign`](crate::ops::Op::foreign). An op
/// with several passes (forward, input gradient, ...) holds the pass as a field.
pub trait Operation: Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// How many kinds of test cases [`Operation::case`] makes: at least one for each pass.
    const VARIANTS: usize;

    /// Kinds of test cases, and sizes at which a device does for them what it does at no small one: by another kernel, or
    /// in a loop.
    const LARGE: &'static [(usize, Size)] = &[];

    /// Name of the CPU kernel that does whatever the op does, faster than the reference; most ops have one or none.
    const KERNEL: Option<&'static str> = None;

    /// PTX that an op of another crate brings along: the entries that [`Operation::run_cuda`] launches.
    const PTX: &'static [Brought] = &[];

    /// Shaders that an op of another crate brings along: what [`Operation::run_wgsl`] dispatches as `NAME.ENTRY`. Before each
    /// stands [`PRELUDE`](crate::kernels::shaders::PRELUDE), as before those that ship.
    const WGSL: &'static [Brought] = &[];

    /// `op` or `op.pass`, as in kernel symbols: `conv2d.dgrad`.
    fn name(&self) -> &'static str;

    /// Output specs and permitted overwrites; or why the inputs do not fit.
    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit>;

    /// Records the gradient: one contribution per input, `None` where none is wanted (`at.wanted`) or the op is by
    /// definition not differentiable there. The default is for passes that nothing differentiates.
    fn vjp(&self, _r: &mut Recorder, _at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Err(Misfit::new(format!("{} has no gradient rule", self.name())))
    }

    /// Floating-point operations; compulsory bytes follow from the specs. The default is for ops without arithmetic.
    fn flops(&self, _inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        0
    }

    /// Inputs that are operands of a matrix product, hence read in the storage type of activations under `mixed`
    /// even where they are parameters.
    fn operands(&self) -> &'static [usize] {
        &[]
    }

    /// The definition: plain loops, generic over the number type. Outputs that overwrite an input (see
    /// [`Outputs::overwriting`]) hold that input's numbers on entry.
    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>);

    /// CPU kernels faster than the reference, best first, each legal or with the reason why it is not. The default
    /// is for ops without a choice.
    fn cpu(&self, _inputs: &[Spec]) -> Vec<Candidate> {
        Self::KERNEL.map(Candidate::legal).into_iter().collect()
    }

    /// Runs the CPU kernel that [`Operation::cpu`] offered under that name.
    fn run_cpu<N: Number>(&self, kernel: &'static str, io: &mut HostIo<'_, N>) {
        let _ = kernel;
        self.reference(io);
    }

    /// Names of the CUDA kernels for this op, best first; none if there is none yet.
    fn cuda(&self) -> &'static [&'static str] {
        &[]
    }

    /// Asks `io` for the launches by which the CUDA kernel of that name does what the op does; or says why it cannot.
    /// Data alone: the same inputs give the same calls.
    fn run_cuda(&self, kernel: &'static str, _io: &mut DeviceIo) -> Result<(), Misfit> {
        Err(Misfit::new(format!("{} has no CUDA kernel {kernel}", self.name())))
    }

    /// Names of the WGSL kernels for this op, best first; none if there is none yet.
    fn wgsl(&self) -> &'static [&'static str] {
        &[]
    }

    /// Asks `io` for the dispatches by which the WGSL kernel of that name does what the op does; or says why it cannot.
    /// Data alone, as for CUDA.
    fn run_wgsl(&self, kernel: &'static str, _io: &mut ShaderIo) -> Result<(), Misfit> {
        Err(Misfit::new(format!("{} has no WGSL kernel {kernel}", self.name())))
    }

    /// A test case from a few small numbers; smaller numbers give smaller shapes. `variant` is below
    /// [`Operation::VARIANTS`].
    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self>;
}

/// Which of the two passes an op is, where it has these two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Pass {
    /// The op itself.
    Fwd,
    /// Its gradient.
    Bwd,
}

/// What an op makes of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// One spec per output.
    pub specs: Vec<Spec>,
    /// For each output the input whose memory it may (or must) take over.
    pub overwrites: Vec<Option<Overwrite>>,
}

/// An output that starts out as a copy of an input: in that input's memory if `must`, or if the planner finds that
/// nobody reads the input later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwrite {
    /// Position of the input.
    pub input: usize,
    /// The input is state (a parameter, a moment, a running statistic) and is updated where it lies.
    pub must: bool,
}

impl Outputs {
    /// Outputs in memory of their own.
    pub fn new(specs: impl Into<Vec<Spec>>) -> Self {
        let specs = specs.into();
        Self { overwrites: vec![None; specs.len()], specs }
    }

    /// Says that `output` starts out as `input` and may lie in its memory.
    pub fn overwriting(mut self, output: usize, input: usize) -> Self {
        self.overwrites[output] = Some(Overwrite { input, must: false });
        self
    }

    /// Says that `output` is `input` (state), updated in place.
    pub fn updating(mut self, output: usize, input: usize) -> Self {
        self.overwrites[output] = Some(Overwrite { input, must: true });
        self
    }
}

/// Where and for whom a gradient is recorded.
#[derive(Debug)]
pub struct Backward<'a> {
    /// The op's inputs.
    pub inputs: &'a [Value],
    /// The op's outputs.
    pub outputs: &'a [Value],
    /// The gradient of the loss by each output; `None` where it is zero. At least one is there.
    pub seeds: &'a [Option<Value>],
    /// For each input whether its gradient is wanted.
    pub wanted: &'a [bool],
}

impl Backward<'_> {
    /// The gradient by the output `index`, for rules that cannot do without it.
    pub fn seed(&self, index: usize) -> Result<Value, Misfit> {
        self.seeds[index].ok_or_else(|| Misfit::new(format!("output {index} reaches no loss")))
    }
}

/// Why inputs do not fit an op. The recorder adds scope and op.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(pub String);

impl Misfit {
    /// A misfit with its sentence.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// Unless `ok`, the misfit that `why` tells.
    pub fn unless(ok: bool, why: impl FnOnce() -> String) -> Result<(), Self> {
        if ok { Ok(()) } else { Err(Self(why())) }
    }

    /// The inputs as an array of `N` specs, or a misfit that says how many there should be.
    pub fn inputs<const N: usize>(inputs: &[Spec]) -> Result<[Spec; N], Self> {
        inputs.try_into().map_err(|_| Self(format!("takes {N} inputs, got {}", inputs.len())))
    }

    /// Unless `shape` equals `wanted`, a misfit that names the input.
    pub fn shape(name: &str, shape: Shape, wanted: impl Into<Shape>) -> Result<(), Self> {
        let wanted = wanted.into();
        Self::unless(shape == wanted, || format!("{name} has shape {shape}, {wanted} is needed"))
    }
}

/// A kernel that exists for an op and could be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name within the op.
    pub name: &'static str,
    /// Why it cannot be used here; `None` if it can.
    pub refusal: Option<String>,
    /// Seconds that it is predicted to take on the GPUs for which the op's kernels are compared by prediction.
    pub predicted: Option<f64>,
}

impl Candidate {
    /// A candidate that fits.
    pub fn legal(name: &'static str) -> Self {
        Self { name, refusal: None, predicted: None }
    }

    /// A candidate that does not.
    pub fn refused(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, refusal: Some(why.into()), predicted: None }
    }
}

/// Work of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes that have to cross the memory bus at least once: every input read, every output written.
    pub bytes: u64,
}

/// A few small numbers from which ops make test cases. All are at least 1.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Images or reports, 1 to 3.
    pub batch: usize,
    /// Pixels or rows along a side, 1 to 9.
    pub side: usize,
    /// Channels or features, 1 to 9.
    pub channels: usize,
    /// A second such number (output channels, heads, ...), 1 to 9.
    pub extra: usize,
}
