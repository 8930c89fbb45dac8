//! The plan: launches, buffers, slabs. Plain data that can be printed, checked, compared and replayed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::check::{Checked, Fault};
use super::memory::{self, Interval};
use super::op::{Candidate, Cost};
use super::pass::fuse::fuse;
use super::pass::layout::{StateLayout, aligned, in_piece};
use super::pass::place::place;
use super::pass::precision::{Precision, precision};
use super::pass::prune::prune;
use super::placed::described;
use super::record::{Node, Origin, Program, Value};
use super::select::{candidates, device_kernel};
use crate::base::{DType, Spec};
use crate::kernels::shaders::Offered;
use crate::kernels::{Architecture, manifest};
use crate::ops::Op;

/// A class of memory, one allocation each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Slab {
    /// Trainable parameters, in the order in which their gradients complete.
    Weights,
    /// Gradients, at the same offsets as their parameters.
    Gradients,
    /// Adam's first moments, at the same offsets.
    FirstMoments,
    /// Adam's second moments, at the same offsets.
    SecondMoments,
    /// Parameters that do not learn.
    Frozen,
    /// Running statistics.
    Statistics,
    /// What is uploaded for every step.
    Inputs,
    /// Everything that lives within a step, planned.
    Arena,
}

/// All slabs.
pub const SLABS: [Slab; 8] = [
    Slab::Weights,
    Slab::Gradients,
    Slab::FirstMoments,
    Slab::SecondMoments,
    Slab::Frozen,
    Slab::Statistics,
    Slab::Inputs,
    Slab::Arena,
];

/// A range of a slab that holds one value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Buffer {
    /// Its slab.
    pub slab: Slab,
    /// Bytes from the start of the slab.
    pub offset: usize,
    /// Shape and kind.
    pub spec: Spec,
    /// Stored type.
    pub dtype: DType,
}

impl Buffer {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.spec.shape.elements().saturating_mul(self.dtype.bytes())
    }

    /// Where it ends, bytes from the start of the slab.
    pub fn end(&self) -> usize {
        self.offset.saturating_add(self.bytes())
    }
}

/// One kernel call.
#[derive(Clone, PartialEq, Debug)]
pub struct Launch {
    /// The op.
    pub op: Op,
    /// The chosen kernel: a candidate's name, or [`REFERENCE`].
    pub kernel: &'static str,
    /// Positions in [`Plan::buffers`].
    pub inputs: Vec<usize>,
    /// Positions in [`Plan::buffers`].
    pub outputs: Vec<usize>,
    /// For each output that starts out as a copy of an input: that input, and whether it lies in the same memory.
    pub overwrites: Vec<Option<(usize, bool)>>,
    /// Memory that its kernels use among themselves, in the arena: a position in [`Plan::buffers`].
    pub workspace: Option<usize>,
    /// Where in the model it was recorded.
    pub scope: String,
    /// Its work.
    pub cost: Cost,
}

/// Name of the kernel that is an op's definition.
pub const REFERENCE: &str = "reference";

/// Which kernels may be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kernels {
    /// The best legal candidate of each op.
    #[default]
    Best,
    /// The references: the definition of the step.
    Reference,
    /// The best CUDA kernel of each op that is legal on a GPU of this architecture.
    Cuda(Architecture),
    /// The best WGSL kernel of each op that is legal on an adapter which offers this.
    Wgsl(Offered),
}

/// What replays a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// [`crate::cpu`].
    Cpu,
    /// [`crate::cuda`], on a GPU of this architecture.
    Cuda(Architecture),
    /// [`mod@crate::wgpu`], on an adapter that offers this.
    Wgpu(Offered),
}

impl Backend {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::Wgpu(_) => "wgpu",
        }
    }

    /// Names of a device's kernels for an op, best first; none for the processor.
    pub(super) fn kernels(self, op: &Op) -> &'static [&'static str] {
        match self {
            Self::Cpu => &[],
            Self::Cuda(_) => op.cuda(),
            Self::Wgpu(_) => op.wgsl(),
        }
    }
}

impl Kernels {
    /// Where these run.
    pub fn backend(self) -> Backend {
        match self {
            Self::Best | Self::Reference => Backend::Cpu,
            Self::Cuda(architecture) => Backend::Cuda(architecture),
            Self::Wgsl(offered) => Backend::Wgpu(offered),
        }
    }
}

/// What a backend replays, once it is [`Checked`].
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// What its kernels run on.
    pub backend: Backend,
    /// How real numbers are stored.
    pub precision: Precision,
    /// In order.
    pub launches: Vec<Launch>,
    /// Every value that is read or written.
    pub buffers: Vec<Buffer>,
    /// What is uploaded: name, position in `buffers`.
    pub inputs: Vec<(String, usize)>,
    /// What can be read after a step: name, position in `buffers`.
    pub outputs: Vec<(String, usize)>,
    /// Gradients of trainable parameters by the parameter's name, in the order in which they complete.
    pub gradients: Vec<(String, usize)>,
    /// No buffer crosses a multiple of so many bytes of its slab.
    pub piece: usize,
    /// Bytes of each slab.
    pub slabs: BTreeMap<Slab, usize>,
    /// Bytes of the arena alive at the worst moment.
    pub live_bound: usize,
}

/// Why a program has no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The program declares a state that the slabs do not hold, or hold in another shape.
    #[error("state {name} of shape {shape} is not in the slabs: both must come from one configuration")]
    UnknownState {
        /// Its name.
        name: String,
        /// Its shape in the program.
        shape: String,
    },
    /// An op that no kernel of the backend can do.
    #[error("{scope}: no {backend} kernel does {op}: {why}")]
    NoKernel {
        /// Where in the model.
        scope: String,
        /// The backend.
        backend: &'static str,
        /// The op.
        op: &'static str,
        /// What each kernel refuses.
        why: String,
    },
    /// A value, or the workspace of a launch, that no buffer of the device can hold.
    #[error("{scope}, {op}: a value of {bytes} bytes, and the device has buffers of {piece}")]
    TooLarge {
        /// Where in the model.
        scope: String,
        /// The op that reads or makes it.
        op: &'static str,
        /// Its size.
        bytes: usize,
        /// The most that a buffer holds.
        piece: usize,
    },
    /// The finished plan is not sound: a fault of this crate.
    #[error("the plan is not sound: {0}")]
    Unsound(#[from] Fault),
}

/// The slabs that hold what each of these plans needs, with their bytes.
pub fn slabs<'p, P: std::ops::Deref<Target = Plan> + 'p>(
    plans: impl IntoIterator<Item = &'p std::sync::Arc<P>>,
) -> BTreeMap<Slab, u64> {
    let mut sizes: BTreeMap<Slab, u64> = BTreeMap::new();
    for (&slab, &bytes) in plans.into_iter().flat_map(|plan| &plan.slabs) {
        let size = sizes.entry(slab).or_default();
        *size = (*size).max(bytes as u64);
    }
    sizes
}

/// Plans one program on slabs that hold `states`: passes, kernels, addresses, proof.
///
/// ```
/// use g2d::base::Spec;
/// use g2d::kernels::Architecture;
/// use g2d::ops::leaky_relu::LeakyRelu;
/// use g2d::program::{Kernels, Precision, Recorder, StateLayout, plan};
///
/// let mut r = Recorder::new();
/// let x = r.input("x", Spec::activation([2, 3]));
/// let y = r.scope("layer", |r| r.one(LeakyRelu::fwd(0.1), &[x]))?;
/// r.output("y", y);
/// let program = r.finish();
/// let states = StateLayout::of(&program, Precision::Exact);
///
/// // For a GPU, on a machine that has none.
/// let planned = plan(program, &states, Kernels::Cuda(Architecture::default()))?;
/// assert_eq!(planned.launches.len(), 1);
/// assert!(planned.to_string().contains("layer leaky_relu.fwd/eights"));
/// # Ok::<(), g2d::Error>(())
/// ```
pub fn plan(program: Program, states: &StateLayout, kernels: Kernels) -> Result<Checked, PlanError> {
    let program = joined(precision(prune(program), states.precision), states.precision, kernels);
    let home = place(&program);
    let (fixed, inputs_end) = fixed_places(&program, states, &home)?;
    let chosen: Vec<Choice> =
        program.nodes.iter().map(|node| choose(&program, node, states.precision, kernels)).collect::<Result<_, _>>()?;
    fits_pieces(&program, states, &chosen)?;
    let (arena, placement) = arena_places(&program, states, &home, &fixed, &chosen);
    let mut builder = Builder { program: &program, states, buffers: Vec::new(), known: HashMap::new() };
    let mut buffer = |value: Value| {
        let (slab, offset) = fixed.get(&home[value.index()]).copied().unwrap_or_else(|| {
            (Slab::Arena, arena.get(&home[value.index()]).map_or(0, |&interval| placement.offsets[interval]))
        });
        builder.buffer(value, slab, offset)
    };
    let mut launches = Vec::with_capacity(program.nodes.len());
    for (node, choice) in program.nodes.iter().zip(&chosen) {
        let inputs: Vec<usize> = node.inputs.iter().map(|&value| buffer(value)).collect();
        let outputs: Vec<usize> = node.outputs.iter().map(|&value| buffer(value)).collect();
        let overwrites = node.outputs.iter().zip(&node.overwrites).map(|(output, overwrite)| {
            let overwrite = (*overwrite)?;
            let source = node.inputs[overwrite.input];
            Some((overwrite.input, home[output.index()] == home[source.index()]))
        });
        launches.push(Launch {
            op: node.op,
            kernel: choice.kernel,
            inputs,
            outputs,
            overwrites: overwrites.collect(),
            workspace: None,
            scope: node.scope.clone(),
            cost: choice.cost,
        });
    }
    let inputs = program.inputs.iter().map(|(name, value)| (name.clone(), buffer(*value))).collect();
    let outputs = program.outputs.iter().map(|(name, value)| (name.clone(), buffer(*value))).collect();
    let gradients = program.gradients.iter().map(|&(state, value)| (program.states[state].name.clone(), buffer(value)));
    let gradients = gradients.collect();
    let mut buffers = builder.buffers;
    // The intervals of workspaces come last, in the order of the launches.
    let spaces = chosen.iter().filter(|choice| choice.workspace > 0).count();
    let mut workspaces = placement.offsets[placement.offsets.len() - spaces..].iter().copied();
    for (launch, choice) in launches.iter_mut().zip(&chosen).filter(|(_, choice)| choice.workspace > 0) {
        launch.workspace = Some(buffers.len());
        let spec = Spec::bytes([choice.workspace]);
        buffers.push(Buffer { slab: Slab::Arena, offset: workspaces.next().unwrap_or(0), spec, dtype: DType::U8 });
    }
    let mut slabs: BTreeMap<Slab, usize> = SLABS.iter().map(|&slab| (slab, states.size(slab))).collect();
    slabs.insert(Slab::Inputs, inputs_end);
    slabs.insert(Slab::Arena, placement.arena);
    let precision = states.precision;
    let live_bound = placement.live_bound;
    let backend = kernels.backend();
    let piece = states.piece;
    let plan = Plan { backend, precision, launches, buffers, inputs, outputs, gradients, piece, slabs, live_bound };
    Ok(Checked::new(plan)?)
}

/// The program with nodes joined where the kernels that the plan takes do both. The references stay as they were recorded: they
/// are the definition.
fn joined(program: Program, precision: Precision, kernels: Kernels) -> Program {
    fuse(program, |program, node| {
        let choice = choose(program, node, precision, kernels).ok();
        choice.map(|choice| choice.kernel).filter(|&kernel| kernel != REFERENCE)
    })
}

struct Builder<'a> {
    program: &'a Program,
    states: &'a StateLayout,
    buffers: Vec<Buffer>,
    known: HashMap<Value, usize>,
}

impl Builder<'_> {
    fn buffer(&mut self, value: Value, slab: Slab, offset: usize) -> usize {
        *self.known.entry(value).or_insert_with(|| {
            let spec = self.program.spec(value);
            self.buffers.push(Buffer { slab, offset, spec, dtype: self.states.precision.dtype(spec.kind) });
            self.buffers.len() - 1
        })
    }
}

/// Bytes of a value as it is stored.
fn stored_bytes(program: &Program, precision: Precision, value: Value) -> usize {
    let spec = program.spec(value);
    spec.shape.elements().saturating_mul(precision.dtype(spec.kind).bytes())
}

/// Refuses what is larger than a piece of a slab.
fn fits_pieces(program: &Program, states: &StateLayout, chosen: &[Choice]) -> Result<(), PlanError> {
    for (node, choice) in program.nodes.iter().zip(chosen) {
        let values = node.inputs.iter().chain(&node.outputs);
        let sizes = values.map(|&value| stored_bytes(program, states.precision, value));
        let bytes = sizes.chain([choice.workspace]).max().unwrap_or(0);
        if bytes > states.piece {
            let (scope, op) = (node.scope.clone(), node.op.name());
            return Err(PlanError::TooLarge { scope, op, bytes, piece: states.piece });
        }
    }
    Ok(())
}

/// Slab and offset of values.
type Places = HashMap<Value, (Slab, usize)>;

/// Places of values that do not lie in the arena: states, inputs, gradients of parameters; and where the inputs end.
fn fixed_places(program: &Program, states: &StateLayout, home: &[Value]) -> Result<(Places, usize), PlanError> {
    let mut fixed = HashMap::new();
    for state in &program.states {
        let spec = program.spec(state.value);
        let place = states.states.get(&state.name).filter(|place| place.spec == spec);
        let place =
            place.ok_or_else(|| PlanError::UnknownState { name: state.name.clone(), shape: spec.shape.to_string() })?;
        fixed.insert(state.value, (place.slab, place.offset));
    }
    let mut end = 0;
    for &(_, value) in &program.inputs {
        let bytes = stored_bytes(program, states.precision, value);
        let offset = in_piece(end, bytes, states.piece);
        fixed.insert(value, (Slab::Inputs, offset));
        end = offset + aligned(bytes);
    }
    for &(state, value) in &program.gradients {
        if matches!(program.values[value.index()].origin, Origin::Node(..)) {
            let place = &states.states[&program.states[state].name];
            fixed.insert(home[value.index()], (Slab::Gradients, place.offset));
        }
    }
    Ok((fixed, end))
}

/// Lifetimes of everything else, and their places.
fn arena_places(
    program: &Program,
    states: &StateLayout,
    home: &[Value],
    fixed: &Places,
    chosen: &[Choice],
) -> (HashMap<Value, usize>, memory::Placement) {
    let mut known: HashMap<Value, usize> = HashMap::new();
    let mut intervals: Vec<Interval> = Vec::new();
    for (at, node) in program.nodes.iter().enumerate() {
        for value in node.inputs.iter().chain(&node.outputs) {
            let home = home[value.index()];
            if fixed.contains_key(&home) {
                continue;
            }
            let bytes = stored_bytes(program, states.precision, *value);
            let interval = *known.entry(home).or_insert_with(|| {
                intervals.push(Interval { first: at, last: at, bytes });
                intervals.len() - 1
            });
            intervals[interval].last = at;
        }
    }
    for &(_, output) in &program.outputs {
        if let Some(&interval) = known.get(&home[output.index()]) {
            intervals[interval].last = program.nodes.len();
        }
    }
    for (at, choice) in chosen.iter().enumerate().filter(|(_, choice)| choice.workspace > 0) {
        intervals.push(Interval { first: at, last: at, bytes: choice.workspace });
    }
    let placement = memory::place(&intervals, states.piece);
    (known, placement)
}

/// What was chosen for a node.
struct Choice {
    kernel: &'static str,
    cost: Cost,
    /// Bytes.
    workspace: usize,
}

fn choose(program: &Program, node: &Node, precision: Precision, kernels: Kernels) -> Result<Choice, PlanError> {
    let stored = |value: &Value| {
        let spec = program.spec(*value);
        (spec, precision.dtype(spec.kind))
    };
    let inputs: Vec<(Spec, DType)> = node.inputs.iter().map(stored).collect();
    let outputs: Vec<(Spec, DType)> = node.outputs.iter().map(stored).collect();
    let specs = |values: &[(Spec, DType)]| values.iter().map(|&(spec, _)| spec).collect::<Vec<Spec>>();
    let (in_specs, out_specs) = (specs(&inputs), specs(&outputs));
    let bytes = inputs.iter().chain(&outputs).map(|(spec, dtype)| (spec.shape.elements() * dtype.bytes()) as u64).sum();
    let cost = Cost { flops: node.op.flops(&in_specs, &out_specs), bytes };
    let legal = |candidate: &Candidate| candidate.refusal.is_none();
    let (kernel, workspace) = match kernels {
        Kernels::Reference => (REFERENCE, 0),
        Kernels::Best => (candidates(&node.op, &in_specs).iter().find(|c| legal(c)).map_or(REFERENCE, |c| c.name), 0),
        Kernels::Cuda(_) | Kernels::Wgsl(_) => {
            let backend = kernels.backend();
            device_kernel(backend, &node.op, &inputs, &outputs).map_err(|why| PlanError::NoKernel {
                scope: node.scope.clone(),
                backend: backend.name(),
                op: node.op.name(),
                why,
            })?
        }
    };
    Ok(Choice { kernel, cost, workspace })
}

impl Plan {
    /// The buffer that can be read under that name.
    pub fn output(&self, name: &str) -> Option<&Buffer> {
        self.outputs.iter().find(|(output, _)| output == name).map(|&(_, buffer)| &self.buffers[buffer])
    }

    /// The buffer that is uploaded under that name.
    pub fn input(&self, name: &str) -> Option<&Buffer> {
        self.inputs.iter().find(|(input, _)| input == name).map(|&(_, buffer)| &self.buffers[buffer])
    }

    /// Names and digests (blake3) of the texts from which its kernels come that ops of other crates bring along.
    pub fn brought(&self) -> BTreeMap<&'static str, String> {
        let texts = self.launches.iter().flat_map(|launch| match self.backend {
            Backend::Cpu => &[],
            Backend::Cuda(_) => launch.op.ptx(),
            Backend::Wgpu(_) => launch.op.shaders(),
        });
        texts.map(|text| (text.name, manifest::digest(text.text))).collect()
    }

    /// Work of all launches.
    pub fn cost(&self) -> Cost {
        self.launches.iter().fold(Cost::default(), |sum, launch| Cost {
            flops: sum.flops + launch.cost.flops,
            bytes: sum.bytes + launch.cost.bytes,
        })
    }
}

/// `slab+offset` in hexadecimal, as plans print addresses.
fn address(buffer: &Buffer) -> String {
    let slab = match buffer.slab {
        Slab::Weights => "w",
        Slab::Gradients => "g",
        Slab::FirstMoments => "m",
        Slab::SecondMoments => "v",
        Slab::Frozen => "f",
        Slab::Statistics => "s",
        Slab::Inputs => "i",
        Slab::Arena => "a",
    };
    format!("{slab}+{:x}", buffer.offset)
}

/// One line per launch (scope, kernel, outputs with their addresses, addresses of the inputs, GFLOP, MiB), with one for each of
/// its tensor maps, one per text of
/// kernels that an op of another crate brings along, then memory by class.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        let total = self.cost();
        writeln!(
            f,
            "{}, {}: {} launches, {:.3} GFLOP, {:.1} MiB read or written",
            self.backend.name(),
            self.precision.name(),
            self.launches.len(),
            total.flops as f64 / 1e9,
            total.bytes as f64 / f64::from(1 << 20)
        )?;
        for (at, launch) in self.launches.iter().enumerate() {
            let list = |buffers: &[usize], text: &dyn Fn(&Buffer) -> String| {
                let mut shown: Vec<String> =
                    buffers.iter().take(SHOWN).map(|&buffer| text(&self.buffers[buffer])).collect();
                if buffers.len() > SHOWN {
                    shown.push(format!("+{} more", buffers.len() - SHOWN));
                }
                shown.join(" ")
            };
            let whole = |buffer: &Buffer| format!("{}{}@{}", buffer.dtype.name(), buffer.spec.shape, address(buffer));
            let in_place = launch.overwrites.iter().flatten().any(|&(_, same)| same);
            writeln!(
                f,
                "{at:4} {} {}/{}{} -> {} <- {} {:.4} GFLOP {:.3} MiB",
                launch.scope,
                launch.op.name(),
                launch.kernel,
                if in_place { " in place" } else { "" },
                list(&launch.outputs, &whole),
                list(&launch.inputs, &address),
                launch.cost.flops as f64 / 1e9,
                launch.cost.bytes as f64 / f64::from(1 << 20)
            )?;
            if let Backend::Cuda(Architecture::Sm90a) = self.backend {
                described(self, at, address).iter().try_for_each(|map| writeln!(f, "     {map}"))?;
            }
        }
        for (name, digest) in self.brought() {
            writeln!(f, "kernels of {name}, blake3 {digest}")?;
        }
        for (slab, bytes) in &self.slabs {
            writeln!(f, "{:14} {bytes:12} bytes", format!("{slab:?}"))?;
        }
        let over = (self.slabs[&Slab::Arena] as f64 / self.live_bound.max(1) as f64 - 1.0) * 100.0;
        writeln!(f, "live bound of the arena {} bytes; the arena is {over:.2} % over it", self.live_bound)
    }
}
