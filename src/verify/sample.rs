//! The launches of a real plan at its real size, on the emulated device: of each kernel some blocks run, with the grid and
//! the parameters of the plan, and what they write is held against the op's definition of just those elements.
//!
//! No tensor is there whole. Every input has a law that makes each of its numbers from its place; the device
//! makes what a block reads when it reads it, the host what the definition reads of the small problem to which the op is
//! cut down ([`restrict`](super::restrict)). Each kernel of a launch starts from such memory, also where an earlier one of
//! the same launch would have written: it is held against its own function.
//!
//! Launches of equal ops, kernels, shapes and stored types are one and run once.

use std::collections::BTreeSet;
use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

use super::cases::{self, Data, Values};
use super::compare::{DRAWN, Storage, TILE, Yardstick, compare};
use super::opened::{Machine, Opened, different};
use super::places::{place_in, positions, product, thinned};
use super::restrict::{Axes, Given, Less, Whole, view};
use crate::base::{DType, Kind, Rng, Shape, Spec};
use crate::cuda::driver::emulated::Options;
use crate::cuda::driver::{Address, Driver, Stream};
use crate::kernels::Library;
use crate::model::batch::TextBatch;
use crate::ops::Op;
use crate::ops::batch_norm::{BatchNorm, Gate};
use crate::ops::gelu::Gelu;
use crate::ops::linear::cuda::summed;
use crate::ops::linear::matmul::reduced;
use crate::ops::linear::{Epilogue, Linear};
use crate::program::KernelCall;
use crate::program::plan::Plan;

/// Stream of the random blocks.
const STREAM: u32 = 0x5a3b;
/// Random blocks beside the first, the last of the first row, and the last.
const RANDOM: usize = 2;

/// What is sampled.
pub struct Sample<'a> {
    /// The plan, for CUDA.
    pub plan: &'a Plan,
    /// The texts of its batch.
    pub texts: &'a TextBatch,
    /// Where kernels come from.
    pub library: &'a Library,
    /// From which blocks and numbers are drawn.
    pub seed: u64,
}

/// What became of one kernel of a launch.
#[derive(Clone, Debug, Serialize)]
pub struct Sampled {
    /// Positions of the launches in the plan that are this one.
    pub launches: Vec<usize>,
    /// Where in the model the first of them is.
    pub scope: String,
    /// Op and pass.
    pub op: &'static str,
    /// The kernel's name.
    pub kernel: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Blocks that ran under the checkers.
    pub blocks: usize,
    /// Elements held against the definition.
    pub elements: usize,
    /// Part of the tolerance that was used up at worst.
    pub used: f64,
    /// Why not all that the blocks wrote was compared.
    pub uncompared: Option<String>,
    /// What is wrong: a checker's report, or the difference.
    pub failure: Option<String>,
}

/// One kernel of a launch, with what it computes: an op on values of the launch.
struct Meaning {
    op: Op,
    /// Positions among the values.
    inputs: Vec<usize>,
    /// For each output the value it lies in, and its spec.
    outputs: Vec<(usize, Spec)>,
    /// Rows that one y adds up, if the output is one partial sum of many.
    part: usize,
}

/// What one block did.
#[derive(Default)]
struct Found {
    elements: usize,
    used: f64,
    uncompared: BTreeSet<String>,
    wrote: bool,
}

impl Sample<'_> {
    /// Runs it. `observe` is told how many different launches are done, of how many.
    pub fn run(&self, observe: &(dyn Fn(usize, usize) + Sync)) -> Vec<Sampled> {
        let groups = different(self.plan);
        let done = std::sync::atomic::AtomicUsize::new(0);
        let machine = || Machine::new(self.library, Options { seed: self.seed, ..Options::default() });
        let sampled = |machine: &mut Machine, group: &Vec<usize>| {
            let all = self.launch(machine, group);
            observe(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, groups.len());
            all
        };
        let nested: Vec<Vec<Sampled>> = groups.par_iter().with_max_len(1).map_init(machine, sampled).collect();
        nested.into_iter().flatten().collect()
    }

    fn launch(&self, machine: &mut Machine, group: &[usize]) -> Vec<Sampled> {
        let launch = &self.plan.launches[group[0]];
        let opened = Opened::new(self.plan, launch, self.texts, self.seed);
        let line = |kernel: &str, grid, failure| Sampled {
            launches: group.to_vec(),
            scope: launch.scope.clone(),
            op: launch.op.name(),
            kernel: kernel.to_owned(),
            grid,
            blocks: 0,
            elements: 0,
            used: 0.0,
            uncompared: None,
            failure,
        };
        match opened {
            Err(why) => vec![line(launch.kernel, [0; 3], Some(why.to_string()))],
            Ok(opened) => (0..opened.calls.len())
                .map(|call| {
                    let KernelCall { symbol, grid, .. } = opened.calls[call];
                    let mut sampled = line(symbol, grid, None);
                    if let Err(why) = opened.call(machine, call, &mut sampled) {
                        sampled.failure = Some(why);
                    }
                    sampled
                })
                .collect(),
        }
    }
}

/// Some blocks of a grid.
fn blocks(seed: u64, [x, y, z]: [u32; 3]) -> BTreeSet<u64> {
    let all = u64::from(x) * u64::from(y) * u64::from(z);
    let mut rng = Rng::new(seed, STREAM, all);
    let random = (0..RANDOM).map(|_| rng.below(all as usize) as u64);
    random.chain([0, u64::from(x) - 1, all - 1]).collect()
}

impl Opened<'_> {
    /// What a kernel of the launch computes; or why that cannot be said of single elements.
    fn meaning(&self, at: usize) -> Result<Meaning, &'static str> {
        let (call, inputs) = (&self.calls[at], self.launch.inputs.len());
        let whole = Meaning {
            op: self.launch.op,
            inputs: (0..inputs).collect(),
            outputs: (inputs..self.workspace).map(|value| (value, self.values[value].spec)).collect(),
            part: call.part,
        };
        if call.part > 0 {
            return Ok(Meaning { outputs: vec![(self.workspace, self.values[inputs].spec)], ..whole });
        }
        if let Some(parts) = reduced(call).or_else(|| summed(call)) {
            // The sum of the parts is the sum of the rows of a matrix. Of what each part is need not be known.
            let size = self.values[inputs].spec.shape.elements();
            return Ok(Meaning {
                op: Linear::bias_grad().into(),
                inputs: vec![self.workspace],
                outputs: vec![(inputs, Spec::exact([size]))],
                part: parts,
            });
        }
        match self.launch.op {
            Op::BatchNorm(BatchNorm::Train { affine, relu, residual, packed, eps }) => {
                if at + 1 < self.calls.len() {
                    return Err("statistics sum over the rows of the batch");
                }
                let op = BatchNorm::Apply { affine, relu, residual, packed, eps }.into();
                let given = [0, inputs + 1, inputs + 2].into_iter().chain(1..inputs).collect();
                Ok(Meaning { op, inputs: given, outputs: vec![(inputs, self.values[inputs].spec)], part: 0 })
            }
            Op::BatchNorm(norm @ BatchNorm::Backward { .. }) => self.batch_norm_gradient(at, norm, whole),
            Op::Linear(linear) if linear.epilogue == Epilogue::GeluSlope && self.calls.len() > 1 => {
                // The product, and gelu's gradient of it where it lies.
                let (op, given) = match at {
                    0 => (Linear { epilogue: Epilogue::Store, ..linear }.into(), vec![0, 1, 3]),
                    _ => (Gelu::Bwd.into(), vec![inputs, 2, 3]),
                };
                Ok(Meaning { op, inputs: given, ..whole })
            }
            Op::Linear(linear) if linear.epilogue == Epilogue::Gelu && self.calls.len() > 1 => {
                // The product, and gelu of it.
                let (op, given) = match at {
                    0 => (Linear { epilogue: Epilogue::Store, ..linear }.into(), whole.inputs),
                    _ => (Gelu::Fwd.into(), vec![inputs, inputs - 1]),
                };
                Ok(Meaning { op, inputs: given, outputs: vec![whole.outputs[at]], part: whole.part })
            }
            Op::Attention(_) if at > 0 => Err("it reads of the workspace what only the kernel before can have written"),
            Op::Embed(_) | Op::ClipLoss(_) | Op::SegmentationLoss(_) | Op::Finite(_) | Op::PseudoMask(_)
                if self.calls.len() > 1 =>
            {
                Err("its kernels share a sum over the batch or over images")
            }
            _ => Ok(whole),
        }
    }

    /// Of the kernels of batch norm's gradient the first masks dy, where there is a residual. The last adds what follows from
    /// two sums over the batch; with these zero, as the workspace is here, it is the gradient with constant statistics, of a
    /// dy that is masked where the first kernel did so.
    fn batch_norm_gradient(&self, at: usize, norm: BatchNorm, whole: Meaning) -> Result<Meaning, &'static str> {
        let BatchNorm::Backward { affine, gate, residual, packed, eps, .. } = norm else { return Ok(whole) };
        let constant =
            |gate, residual| BatchNorm::Backward { affine, gate, residual, packed, eps, constant: true }.into();
        if at == 0 && residual {
            return Ok(Meaning { op: constant(gate, true), ..whole });
        }
        if at + 1 < self.calls.len() {
            return Err("it sums over the rows of the batch");
        }
        // y, by which is masked, stands behind dy, x, mean, var and gamma.
        let y = residual.then_some(4 + usize::from(affine));
        let inputs = whole.inputs.into_iter().filter(|&input| Some(input) != y).collect();
        let outputs = whole.outputs.into_iter().take(1).collect();
        let gate = if residual { Gate::Open } else { gate };
        Ok(Meaning { op: constant(gate, false), inputs, outputs, part: 0 })
    }

    /// One kernel of the launch: some of its blocks, each in memory of its own.
    fn call(&self, machine: &mut Machine, at: usize, sampled: &mut Sampled) -> Result<(), String> {
        if matches!(self.launch.op, Op::Embed(_)) && at > 0 {
            sampled.uncompared =
                Some("not run: it reads places from the workspace, which the kernel before writes".into());
            return Ok(());
        }
        let meaning = self.meaning(at);
        let mut uncompared = BTreeSet::new();
        let mut wrote = false;
        for block in blocks(self.seed, self.calls[at].grid) {
            let here = |what: String| format!("block {block}: {what}");
            let found = self.block(machine, at, block, &meaning).map_err(here)?;
            sampled.blocks += 1;
            sampled.elements += found.elements;
            sampled.used = sampled.used.max(found.used);
            uncompared.extend(found.uncompared);
            wrote |= found.wrote;
        }
        sampled.uncompared = (!uncompared.is_empty()).then(|| uncompared.into_iter().collect::<Vec<_>>().join("; "));
        if wrote { Ok(()) } else { Err("no block of the sample wrote anything".into()) }
    }

    fn block(
        &self,
        machine: &mut Machine,
        at: usize,
        block: u64,
        meaning: &Result<Meaning, &'static str>,
    ) -> Result<Found, String> {
        let mut taken = Vec::new();
        let placed = self.place(&machine.device, at, &mut taken);
        let run = placed.and_then(|(addresses, call)| machine.run(&call, vec![block]).map(|()| addresses));
        let found = run.map_err(|error| error.to_string()).and_then(|addresses| {
            let meaning = match meaning {
                Ok(meaning) => meaning,
                Err(why) => {
                    let wrote = addresses.iter().any(|&address| !machine.device.written(address).is_empty());
                    return Ok(Found { wrote, uncompared: BTreeSet::from([(*why).to_owned()]), ..Found::default() });
                }
            };
            self.judge(machine, at, &addresses, meaning)
        });
        machine.free(taken);
        found
    }

    /// Holds all that a block wrote against the definition.
    fn judge(&self, machine: &Machine, at: usize, addresses: &[Address], meaning: &Meaning) -> Result<Found, String> {
        let mut found = Found::default();
        let (inputs, others) = addresses.split_at(self.launch.inputs.len());
        let foreign = |address: &Address| !others.contains(address) && !machine.device.written(*address).is_empty();
        if let Some(input) = inputs.iter().position(foreign) {
            return Err(format!("it wrote into input {input}"));
        }
        for (value, address) in addresses.iter().enumerate().skip(self.launch.inputs.len()) {
            let dtype = self.values[value].content.dtype;
            let written = machine.device.written(*address);
            found.wrote |= !written.is_empty();
            let elements: Vec<usize> = written
                .iter()
                .flat_map(|range| range.start / dtype.bytes()..range.end.div_ceil(dtype.bytes()))
                .collect();
            if elements.is_empty() {
                continue;
            }
            let Some(output) = meaning.outputs.iter().position(|&(of, _)| of == value) else {
                if at + 1 < self.calls.len() {
                    found.uncompared.insert("what it leaves in the workspace is for the next kernel".into());
                }
                continue;
            };
            let judged = self.output(machine, *address, meaning, output, &elements);
            match judged.map_err(|what| format!("output {output} {}: {what}", meaning.outputs[output].1.shape))? {
                Ok((elements, used)) => {
                    (found.elements, found.used) = (found.elements + elements, found.used.max(used))
                }
                Err(why) => drop(found.uncompared.insert(why.to_owned())),
            }
        }
        Ok(found)
    }

    /// Holds the `written` elements of one output against the definition: how many are compared, and how much of the
    /// tolerance is used up; or why they cannot be.
    fn output(
        &self,
        machine: &Machine,
        address: Address,
        meaning: &Meaning,
        output: usize,
        written: &[usize],
    ) -> Result<Result<(usize, f64), &'static str>, String> {
        let (value, spec) = meaning.outputs[output];
        let (size, dims) = (spec.shape.elements(), view(&meaning.op, spec.shape));
        let partial = meaning.part > 0 && value == self.workspace;
        let inputs = self.input_specs(meaning);
        // Of a partial sum: which part, and the rows that it sums over.
        let part = if partial { written[0] / size } else { 0 };
        let last = inputs.first().map_or(0, |spec| spec.shape.rows());
        let rows = partial.then(|| part * meaning.part..last.min((part + 1) * meaning.part));
        let places: Vec<usize> = written.iter().map(|at| at - part * size).collect();
        if places.iter().any(|&at| at >= size) {
            return Err("one block wrote into several partial sums".into());
        }
        let wanted = thinned(&meaning.op, &dims, &places);
        let outputs: Vec<Spec> = meaning.outputs.iter().map(|&(_, spec)| spec).collect();
        let (op, texts) = (&meaning.op, self.texts);
        let rows = rows.map(|rows| rows.start..rows.end.min(self.real_rows(meaning, rows.end)).max(rows.start));
        let chosen: Vec<usize> = places.iter().copied().filter(|&at| positions(&dims, &wanted, at).is_some()).collect();
        let got = self.read(machine, address, value, &chosen, part * size)?;
        if rows.as_ref().is_some_and(Range::is_empty) {
            let zero = got.iter().all(|&number| number == 0.0);
            return if zero { Ok(Ok((got.len(), 0.0))) } else { Err("the sum over no rows is not zero".into()) };
        }
        let whole = Whole { op, inputs: &inputs, outputs: &outputs, output, texts, rows: rows.as_ref() };
        let less = match whole.restrict(&wanted) {
            Ok(less) => less,
            Err(why) => return Ok(Err(why)),
        };
        let kept_dims: Vec<usize> = less.kept.iter().map(Vec::len).collect();
        let at: Vec<usize> = chosen
            .iter()
            .map(|&at| place_in(&dims, &less.kept, &kept_dims, at).ok_or("a block wrote what the small problem lacks"))
            .collect::<Result<_, _>>()?;
        let draw = |draw| self.given(meaning, &less, &inputs, rows.as_ref(), draw);
        let columns = wanted.last().map_or(1, Vec::len).min(chosen.len()).max(1);
        let stored = storage(self.values[value].content.dtype);
        judge(&less, &draw, spec.kind, (&at, &got), columns, stored).map(|used| Ok((chosen.len(), used)))
    }

    /// Specs of the inputs that a meaning takes.
    fn input_specs(&self, meaning: &Meaning) -> Vec<Spec> {
        let of = |&value: &usize| match value == self.workspace {
            true => Spec::exact([meaning.part, meaning.outputs[0].1.shape.elements()]),
            false => self.values[value].spec,
        };
        meaning.inputs.iter().map(of).collect()
    }

    /// Of `rows` rows those that are real: all, unless they are packed.
    fn real_rows(&self, meaning: &Meaning, rows: usize) -> usize {
        match meaning.op {
            Op::Linear(Linear { packed: true, .. }) => self.texts.offsets.last().map_or(0, |&last| last as usize),
            _ => rows,
        }
    }

    /// The chosen elements of a value, `skip` elements from its start on.
    fn read(
        &self,
        machine: &Machine,
        address: Address,
        value: usize,
        chosen: &[usize],
        skip: usize,
    ) -> Result<Vec<f64>, String> {
        let dtype = self.values[value].content.dtype;
        let one = |&at: &usize| {
            let mut bytes = vec![0; dtype.bytes()];
            let from = address.offset(((skip + at) * dtype.bytes()) as u64);
            machine.device.download(from, &mut bytes, Stream::DEFAULT).map_err(|error| error.to_string())?;
            Ok(dtype.decode(&bytes)[0])
        };
        chosen.iter().map(one).collect()
    }

    /// Numbers of the small problem's inputs: those of the launch, or of another draw.
    fn given(
        &self,
        meaning: &Meaning,
        less: &Less,
        inputs: &[Spec],
        rows: Option<&Range<usize>>,
        draw: u64,
    ) -> Values<f64> {
        let numbers = |input: usize, dims: &[usize], axes: &Axes| {
            let content = self.values[meaning.inputs[input]].content.drawn(draw);
            // dy of a convolution's partial sum is zero in pixels of other parts.
            let counts = |at: usize| {
                let row = at / inputs[input].shape.last();
                input > 0 || !matches!(meaning.op, Op::Conv2d(_)) || rows.is_none_or(|rows| rows.contains(&row))
            };
            let numbers = product(dims, axes).map(|at| if counts(at) { content.number(at) } else { 0.0 });
            Data::stored(numbers.collect(), content.dtype)
        };
        let one = |given: &Given| match given {
            Given::Integers(integers) => (Spec::index([integers.len()]), Data::Indices(integers.clone())),
            Given::Kept { input, dims, axes } => {
                let extents: Vec<usize> = axes.iter().map(Vec::len).collect();
                let shape = Shape::try_new(&extents).unwrap_or(inputs[*input].shape);
                (Spec { shape, kind: inputs[*input].kind }, numbers(*input, dims, axes))
            }
        };
        less.inputs.iter().map(one).collect()
    }
}

fn storage(dtype: DType) -> Storage {
    if dtype == DType::Bf16 { Storage::Bf16 } else { Storage::F32 }
}

/// How much of the tolerance `got` uses up, which stands at these places of the small problem's output. Where one draw of
/// its inputs says too little of the plain error, tiles of further draws stand beside it.
fn judge(
    less: &Less,
    draw: &dyn Fn(u64) -> Values<f64>,
    kind: Kind,
    (at, got): (&[usize], &[f64]),
    columns: usize,
    stored: Storage,
) -> Result<f64, String> {
    let given = draw(0);
    let specs: Vec<Spec> = given.iter().map(|&(spec, _)| spec).collect();
    let made = less.op.infer(&specs).map_err(|misfit| format!("the small problem {:?}: {misfit}", less.op))?;
    let kept: usize = less.kept.iter().map(Vec::len).product();
    if made.specs[less.output].shape.elements() != kept {
        return Err(format!(
            "the small problem {:?} has {} for {kept} elements",
            less.op, made.specs[less.output].shape
        ));
    }
    let both = |given: &Values<f64>| {
        let narrow: Values<f32> = given.iter().map(|(spec, data)| (*spec, data.to())).collect();
        let truth = cases::launch::<f64>(&less.op, &|io| less.op.reference(io), given, 0);
        let plain = cases::launch::<f32>(&less.op, &|io| less.op.reference(io), &narrow, 0);
        let (truth, plain) = (truth[less.output].1.to_f64(kept), plain[less.output].1.to_f64(kept));
        let pairs = at.iter().map(|&at| (truth[at], stored.round(plain[at])));
        pairs.unzip::<f64, f64, Vec<f64>, Vec<f64>>()
    };
    let (truth, plain) = both(&given);
    if !matches!(kind, Kind::Activation | Kind::Exact) {
        return if got == truth { Ok(0.0) } else { Err("integers differ".into()) };
    }
    let (mut truths, mut plains) = (truth.clone(), plain.clone());
    let rows = at.len().div_ceil(columns);
    let whole_tiles = rows.next_multiple_of(TILE) * columns;
    let enough = DRAWN.div_ceil(rows.min(columns));
    let mut drawn = 1;
    loop {
        let yardstick = Yardstick::of_tiles(&truths, &plains, columns);
        let verdict = compare(&truth, &plain, got, columns, stored, &yardstick);
        if verdict.is_ok() || drawn == enough {
            return verdict;
        }
        let (truth, plain) = both(&draw(drawn as u64));
        for (all, more) in [(&mut truths, truth), (&mut plains, plain)] {
            all.resize(drawn * whole_tiles, 0.0);
            all.extend(more);
        }
        drawn += 1;
    }
}
