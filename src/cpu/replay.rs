//! Replays a plan in host memory, launch by launch.
//!
//! A plan in f64 is computed in f64, every other one in f32. Values stored as bf16 are widened before a launch and
//! rounded behind it, so every kernel computes on the rounded numbers, as kernels on a GPU do.
#![allow(unsafe_code)] // Slices of one slab for several buffers at once; a checked plan keeps them disjoint.

use std::collections::BTreeMap;

use half::bf16;

use super::memory::Memory;
use crate::base::{DType, Number, Shape};
use crate::program::host::{HostInput, HostIo, HostOutput};
use crate::program::plan::{Buffer, Launch, Plan, REFERENCE, SLABS, Slab};
use crate::program::{Checked, Precision};

/// Runs every launch. Inputs and states must have been written; threads are those of the current rayon pool.
///
/// ```
/// use g2d::base::Spec;
/// use g2d::cpu::{Memory, replay};
/// use g2d::ops::leaky_relu::LeakyRelu;
/// use g2d::program::{Kernels, Precision, Recorder, StateLayout, plan};
///
/// let mut r = Recorder::new();
/// let x = r.input("x", Spec::activation([4]));
/// let y = r.one(LeakyRelu::fwd(0.5), &[x])?;
/// r.output("y", y);
/// let program = r.finish();
/// let states = StateLayout::of(&program, Precision::Exact);
/// let plan = plan(program, &states, Kernels::Best)?;
///
/// let mut memory = Memory::default();
/// memory.fit(&plan);
/// memory.write(plan.input("x").unwrap(), [-4.0, -1.0, 0.0, 3.0].into_iter());
/// replay(&plan, &mut memory);
/// assert_eq!(memory.read(plan.output("y").unwrap()), [-2.0, -0.5, 0.0, 3.0]);
/// # Ok::<(), g2d::Error>(())
/// ```
pub fn replay(plan: &Checked, memory: &mut Memory) {
    memory.fit(plan);
    for at in 0..plan.launches.len() {
        run(plan, at, memory);
    }
}

/// Like [`replay`], with NaN in every byte of the arena that holds nothing alive: a wrong lifetime shows up as NaN.
pub fn replay_poisoned(plan: &Checked, memory: &mut Memory) {
    memory.fit(plan);
    let mut last_use = vec![0; plan.buffers.len()];
    for (at, launch) in plan.launches.iter().enumerate() {
        for &buffer in launch.inputs.iter().chain(&launch.outputs) {
            last_use[buffer] = at;
        }
    }
    for (_, buffer) in &plan.outputs {
        last_use[*buffer] = usize::MAX;
    }
    memory.slab_mut(Slab::Arena).fill(0xFF);
    for (at, launch) in plan.launches.iter().enumerate() {
        run(plan, at, memory);
        let alive = |other: usize| last_use[other] > at;
        for &buffer in launch.inputs.iter().chain(&launch.outputs) {
            let handed_on = launch.overwrites.iter().zip(&launch.outputs).any(|(overwrite, &output)| {
                overwrite.is_some_and(|(input, same)| same && launch.inputs[input] == buffer) && alive(output)
            });
            if !alive(buffer) && !handed_on && plan.buffers[buffer].slab == Slab::Arena {
                memory.bytes_mut(&plan.buffers[buffer]).fill(0xFF);
            }
        }
    }
}

/// Runs the launch that stands `at` that position, in memory that [fits](Memory::fit) the plan.
pub fn run(plan: &Checked, at: usize, memory: &mut Memory) {
    let launch = &plan.launches[at];
    match plan.precision {
        Precision::F64 => run_as::<f64>(plan, launch, memory),
        Precision::Exact | Precision::Mixed => run_as::<f32>(plan, launch, memory),
    }
}

/// Start and length of every slab. Taken from a `&mut Memory` that stays borrowed while these are used.
struct Bases(BTreeMap<Slab, (*mut u8, usize)>);

impl Bases {
    fn new(memory: &mut Memory) -> Self {
        let mut base = |slab: Slab| {
            let bytes = memory.slab_mut(slab);
            (bytes.as_mut_ptr(), bytes.len())
        };
        Self(SLABS.iter().map(|&slab| (slab, base(slab))).collect())
    }

    /// The start of a buffer, after checking that it lies inside its slab and is aligned for `T`.
    fn start<T>(&self, buffer: &Buffer) -> *mut T {
        let (base, length) = self.0[&buffer.slab];
        assert!(buffer.end() <= length, "a buffer lies inside its slab");
        assert!(buffer.offset.is_multiple_of(align_of::<T>()), "a buffer is aligned");
        // SAFETY: the offset lies inside the allocation, as just checked.
        unsafe { base.add(buffer.offset).cast() }
    }

    /// A buffer to be read.
    ///
    /// # Safety
    /// Nothing may write to these bytes while the slice lives, and `T` must be the stored type.
    unsafe fn slice<'a, T>(&self, buffer: &Buffer) -> &'a [T] {
        // SAFETY: in bounds and aligned (`start`), initialised (slabs are zeroed when made), not written (the caller).
        unsafe { std::slice::from_raw_parts(self.start(buffer), buffer.spec.shape.elements()) }
    }

    /// A buffer to be written, which starts out as a copy of another one if it is `copied`.
    ///
    /// # Safety
    /// Nothing else may read or write these bytes while the slice lives, `T` must be the stored type of both, and
    /// both must lie apart.
    unsafe fn slice_mut<'a, T: Copy>(&self, buffer: &Buffer, copied: Option<&Buffer>) -> &'a mut [T] {
        // SAFETY: in bounds and aligned (`start`), initialised, exclusive (the caller); so is the copied one.
        unsafe {
            let slice = std::slice::from_raw_parts_mut(self.start(buffer), buffer.spec.shape.elements());
            if let Some(copied) = copied {
                slice.copy_from_slice(self.slice(copied));
            }
            slice
        }
    }
}

/// One launch's buffers as slices, and the narrow ones among them widened.
struct Widened<N> {
    inputs: Vec<Vec<N>>,
    outputs: Vec<Vec<N>>,
}

/// Numbers of a narrow buffer, widened.
fn wide<N: Number>(bases: &Bases, buffer: &Buffer) -> Vec<N> {
    // SAFETY: nothing is written while the numbers are copied; the stored type is bf16 (every caller asks).
    let narrow = unsafe { bases.slice::<bf16>(buffer) };
    narrow.iter().map(|number| N::of(number.to_f64())).collect()
}

/// Whether an input's memory is taken over by an output.
fn taken_over(launch: &Launch, input: usize) -> bool {
    launch.overwrites.iter().flatten().any(|&(from, same)| same && from == input)
}

impl<N: Number> Widened<N> {
    fn new(plan: &Plan, launch: &Launch, bases: &Bases) -> Self {
        let buffer = |position: &usize| &plan.buffers[*position];
        let narrow = |buffer: &Buffer| buffer.dtype == DType::Bf16;
        let inputs = launch.inputs.iter().map(buffer).enumerate();
        let inputs = inputs.map(
            |(at, input)| {
                if narrow(input) && !taken_over(launch, at) { wide(bases, input) } else { Vec::new() }
            },
        );
        let outputs = launch.outputs.iter().map(buffer).zip(&launch.overwrites);
        let outputs = outputs.map(|(output, overwrite)| match overwrite {
            _ if !narrow(output) => Vec::new(),
            Some((input, _)) => wide(bases, buffer(&launch.inputs[*input])),
            None => vec![N::ZERO; output.spec.shape.elements()],
        });
        Self { inputs: inputs.collect(), outputs: outputs.collect() }
    }
}

fn run_as<N: Number>(plan: &Plan, launch: &Launch, memory: &mut Memory) {
    let bases = Bases::new(memory);
    let mut widened = Widened::<N>::new(plan, launch, &bases);
    let mut io = HostIo::new(
        host_inputs(plan, launch, &bases, &widened.inputs),
        host_outputs(plan, launch, &bases, &mut widened.outputs),
    );
    if launch.kernel == REFERENCE {
        launch.op.reference(&mut io);
    } else {
        launch.op.run_cpu(launch.kernel, &mut io);
    }
    for (&output, rounded) in launch.outputs.iter().zip(&widened.outputs) {
        let output = &plan.buffers[output];
        if output.dtype == DType::Bf16 {
            let narrow: &mut [bf16] = bytemuck::cast_slice_mut(memory.bytes_mut(output));
            for (out, number) in narrow.iter_mut().zip(rounded) {
                *out = bf16::from_f64(number.to_f64());
            }
        }
    }
}

fn host_inputs<'a, N: Number>(
    plan: &Plan,
    launch: &Launch,
    bases: &Bases,
    widened: &'a [Vec<N>],
) -> Vec<(Shape, HostInput<'a, N>)> {
    let host = |(at, &position): (usize, &usize)| {
        let input = &plan.buffers[position];
        let in_place = taken_over(launch, at);
        // SAFETY: the plan is checked: no output of the launch overlaps this input, but for those updated in place,
        // which are handed out as empty slices; the stored type decides the element type.
        let data = unsafe {
            match input.dtype {
                DType::I32 if in_place => HostInput::Indices(&[]),
                _ if in_place => HostInput::Numbers(&[]),
                DType::Bf16 => HostInput::Numbers(&widened[at][..]),
                DType::F32 | DType::F64 => HostInput::Numbers(bases.slice::<N>(input)),
                DType::I32 => HostInput::Indices(bases.slice::<i32>(input)),
                DType::U8 => HostInput::Bytes(bases.slice::<u8>(input)),
            }
        };
        (input.spec.shape, data)
    };
    launch.inputs.iter().enumerate().map(host).collect()
}

fn host_outputs<'a, N: Number>(
    plan: &Plan,
    launch: &Launch,
    bases: &Bases,
    rounded: &'a mut [Vec<N>],
) -> Vec<(Shape, HostOutput<'a, N>)> {
    let host = |(at, rounded): (usize, &'a mut Vec<N>)| {
        let output = &plan.buffers[launch.outputs[at]];
        let copied =
            launch.overwrites[at].filter(|&(_, same)| !same).map(|(input, _)| &plan.buffers[launch.inputs[input]]);
        // SAFETY: the plan is checked: this output overlaps no other output and no input but the one it updates.
        let data = unsafe {
            match output.dtype {
                DType::Bf16 => HostOutput::Numbers(&mut rounded[..]),
                DType::F32 | DType::F64 => HostOutput::Numbers(bases.slice_mut::<N>(output, copied)),
                DType::I32 => HostOutput::Indices(bases.slice_mut::<i32>(output, copied)),
                DType::U8 => HostOutput::Bytes(bases.slice_mut::<u8>(output, copied)),
            }
        };
        (output.spec.shape, data)
    };
    rounded.iter_mut().enumerate().map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Spec;
    use crate::ops::leaky_relu::LeakyRelu;
    use crate::program::{Kernels, Recorder, StateLayout, plan};

    /// Few numbers, so that Miri can look at the slices of one slab that a launch holds at once.
    #[test]
    fn a_value_may_take_over_the_memory_of_another_in_every_precision() {
        for precision in [Precision::F64, Precision::Exact, Precision::Mixed] {
            let mut r = Recorder::new();
            let x = r.input("x", Spec::activation([4]));
            let half = LeakyRelu::fwd(0.5);
            let y = r.one(half, &[x]).unwrap();
            let z = r.one(half, &[y]).unwrap();
            r.output("z", z);
            let program = r.finish();
            let states = StateLayout::of(&program, precision);
            let plan = plan(program, &states, Kernels::Best).unwrap();
            let mut overwrites = plan.launches.iter().flat_map(|launch| &launch.overwrites).flatten();
            assert!(overwrites.any(|&(_, same)| same), "{precision:?}: nothing is done in place");
            for replay in [replay, replay_poisoned] {
                let mut memory = Memory::default();
                memory.fit(&plan);
                memory.write(plan.input("x").unwrap(), [-4.0, -1.0, 0.0, 3.0].into_iter());
                replay(&plan, &mut memory);
                assert_eq!(memory.read(plan.output("z").unwrap()), [-1.0, -0.25, 0.0, 3.0], "{precision:?}");
            }
        }
    }
}
