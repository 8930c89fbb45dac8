//! States, threads and memory on one device, and plans replayed there: what a session and every downstream task hold.

use std::path::Path;
use std::sync::Arc;

use super::device::Device;
use super::footprint;
use super::machine::{Machine, Opened};
use crate::base::Kind;
use crate::checkpoint::{self, Loaded, Numbers, Others};
use crate::error::Error;
use crate::model::batch::TextBatch;
use crate::model::init;
use crate::model::optimizer::Group;
use crate::program::pass::layout::StatePlace;
use crate::program::plan::{Buffer, Kernels, Plan, slabs};
use crate::program::{Checked, Precision, Program, StateLayout, plan};

/// What an engine computes on and how.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// What it computes on.
    pub device: Device,
    /// How numbers are stored.
    pub precision: Precision,
    /// Which kernels may run on the processor.
    pub kernels: Kernels,
    /// Threads of a pool of its own; 0: as many as there are cores.
    pub threads: usize,
    /// Waits for each launch on a GPU, so that an error names its place in the plan; slow.
    pub launch_by_launch: bool,
}

impl Default for Resources {
    /// The processor, in f32, on all cores.
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            precision: Precision::Exact,
            kernels: Kernels::Best,
            threads: 0,
            launch_by_launch: false,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Engine {
    precision: Precision,
    launch_by_launch: bool,
    program: Program,
    states: StateLayout,
    memory: u64,
    pub(super) machine: Machine,
    pub(super) pool: rayon::ThreadPool,
}

impl Engine {
    /// Holds the states of `whole` and memory for `programs`, whose states are among them. Returns the plans of
    /// `programs`. States begin as zeros.
    ///
    /// # Errors
    /// If the device is not there, or too small; on the processor, if there is too little memory.
    pub fn open(on: &Resources, whole: Program, programs: Vec<Program>) -> Result<(Self, Vec<Arc<Checked>>), Error> {
        let device = Opened::of(on.device)?;
        let capacity = device.capacity();
        let states = StateLayout::in_pieces(&whole, on.precision, capacity.piece);
        let kernels = on.device.kernels(on.kernels, capacity);
        let planned = |program| Ok::<_, Error>(Arc::new(plan(program, &states, kernels)?));
        let plans: Vec<_> = programs.into_iter().map(planned).collect::<Result<_, _>>()?;
        if on.device == Device::Cpu {
            footprint::fits("the model", slabs(&plans).values().sum())?;
        }
        Ok((Self::hold(on, device, whole, states, &plans)?, plans))
    }

    /// Holds the states of `program` as `states` lays them out, and memory for `plans`.
    pub(super) fn hold(
        on: &Resources,
        device: Opened,
        program: Program,
        states: StateLayout,
        plans: &[Arc<Checked>],
    ) -> Result<Self, Error> {
        let pool = crate::base::threads::pool(on.threads).map_err(Error::Threads)?;
        let machine = device.hold(plans)?;
        let memory = slabs(plans).values().sum();
        let (precision, launch_by_launch) = (on.precision, on.launch_by_launch);
        Ok(Self { precision, launch_by_launch, program, states, memory, machine, pool })
    }

    /// Draws fresh numbers for every state.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn initialise(&mut self, seed: u64) -> Result<(), Error> {
        self.draw(seed, |_| true)
    }

    /// Draws fresh numbers for the states of these names.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn draw(&mut self, seed: u64, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
        let states = self.states.states.iter().filter(|(name, _)| wanted(name));
        let places: Vec<(String, StatePlace)> = states.map(|(name, place)| (name.clone(), place.clone())).collect();
        for (name, place) in places {
            let elements = place.spec.shape.elements();
            let numbers = self.pool.install(|| init::draw(place.init, &name, elements, seed));
            self.machine.write(&self.buffer(&place), numbers.into_iter().map(f64::from))?;
        }
        Ok(())
    }

    fn buffer(&self, place: &StatePlace) -> Buffer {
        let dtype = self.precision.dtype(place.spec.kind);
        Buffer { slab: place.slab, offset: place.offset, spec: place.spec, dtype }
    }

    /// The program whose states are held.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Bytes of its slabs on the device.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Where every state lies.
    pub fn states(&self) -> &StateLayout {
        &self.states
    }

    /// The threads it computes on.
    pub fn pool(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// The numbers of a state, in the engine's order; `None` if there is no such state.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn state(&self, name: &str) -> Result<Option<Vec<f64>>, Error> {
        let place = self.states.states.get(name);
        place.map(|place| self.machine.read(&self.buffer(place))).transpose()
    }

    /// Writes the numbers of a state, as many as it has, in the engine's order.
    ///
    /// # Errors
    /// If there is no such state, it has another number of numbers, or the device refuses.
    pub fn set_state(&mut self, name: &str, numbers: &[f64]) -> Result<(), Error> {
        let place = self.states.states.get(name);
        let wanted = place.map_or(0, |place| place.spec.shape.elements());
        match place {
            Some(place) if wanted == numbers.len() => {
                let buffer = self.buffer(place);
                self.machine.write(&buffer, numbers.iter().copied())
            }
            _ => Err(Error::Input { name: name.into(), wanted, got: numbers.len() }),
        }
    }

    /// Reads the states at the positions `wanted` of [`Engine::program`] from a file of weights, which may hold `others`.
    ///
    /// # Errors
    /// If the file cannot be read, lacks a state, has one of another shape, or holds numbers that are not finite; then nothing
    /// was changed. If the device refuses.
    pub fn load(&mut self, path: &Path, wanted: &[usize], others: Others) -> Result<Loaded, Error> {
        let loaded = checkpoint::load(path, &self.program, wanted, others)?;
        self.put(&loaded.tensors)?;
        Ok(loaded)
    }

    /// Writes states, by their positions in [`Engine::program`].
    pub fn put(&mut self, tensors: &[(usize, Numbers)]) -> Result<(), Error> {
        for (at, numbers) in tensors {
            let buffer = self.buffer(&self.states.states[&self.program.states[*at].name]);
            match numbers {
                Numbers::Real(numbers) => self.machine.write(&buffer, numbers.iter().map(|&number| number.into()))?,
                Numbers::Index(numbers) => self.machine.write(&buffer, numbers.iter().map(|&number| number.into()))?,
            }
        }
        Ok(())
    }

    /// Writes the states at the positions `wanted` to a file of weights, beside and renamed.
    ///
    /// # Errors
    /// If the file cannot be written, or the device refuses.
    pub fn save(&self, path: &Path, wanted: &[usize]) -> Result<(), Error> {
        let read = |&at: &usize| {
            let state = &self.program.states[at];
            let numbers = self.state(&state.name)?.unwrap_or_default().into_iter();
            Ok(match self.program.spec(state.value).kind {
                Kind::Index => (at, Numbers::Index(numbers.map(|number| number as i32).collect())),
                _ => (at, Numbers::Real(numbers.map(|number| number as f32).collect())),
            })
        };
        let tensors: Vec<(usize, Numbers)> = wanted.iter().map(read).collect::<Result<_, Error>>()?;
        Ok(checkpoint::save(path, &self.program, &tensors)?)
    }

    /// Writes an input of a plan, as many numbers as it takes, each rounded once.
    ///
    /// # Errors
    /// If the plan has no such input or takes another number of numbers, or the device refuses.
    pub fn write(&mut self, plan: &Plan, name: &str, numbers: &[f32]) -> Result<(), Error> {
        let buffer = input(plan, name, numbers.len())?;
        self.machine.write(&buffer, numbers.iter().map(|&number| number.into()))
    }

    /// Writes an input of a plan as it is stored: bytes, indices, or numbers of the stored type.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub fn upload<T: bytemuck::NoUninit>(&mut self, plan: &Plan, name: &str, numbers: &[T]) -> Result<(), Error> {
        let elements = plan.input(name).map_or(0, |buffer| size_of_val(numbers).div_ceil(buffer.dtype.bytes()));
        let buffer = input(plan, name, elements)?;
        self.machine.upload(&buffer, bytemuck::cast_slice(numbers))
    }

    /// Fills an input of a plan with rows of the table that lies on the device, one for each of its leading extent.
    pub(super) fn gather(&mut self, plan: &Plan, name: &str, rows: &[u32]) -> Result<(), Error> {
        let each = plan.input(name).map_or(0, |buffer| buffer.spec.shape.elements() / buffer.spec.shape.dims()[0]);
        let buffer = input(plan, name, rows.len() * each)?;
        let held = self.machine.cuda().ok_or_else(|| Error::Usage("films stay on CUDA devices alone".into()))?;
        Ok(held.gather(&buffer, rows)?)
    }

    /// Writes the texts' inputs of a plan.
    pub fn write_texts(&mut self, plan: &Plan, text: &TextBatch) -> Result<(), Error> {
        for (name, numbers) in
            [("ids", &text.ids), ("order", &text.order), ("offsets", &text.offsets), ("lengths", &text.lengths)]
        {
            self.upload(plan, name, numbers)?;
        }
        Ok(())
    }

    /// Writes what AdamW takes besides gradients: for each group its learning rate and the corrections of the moments
    /// after so many steps, this one among them.
    pub fn write_rates(
        &mut self,
        plan: &Plan,
        groups: &[(Group, f64)],
        learning_rate: f64,
        count: u64,
    ) -> Result<(), Error> {
        for (group, factor) in groups {
            let power = |beta: f64| 1.0 - beta.powi(count as i32);
            let scalars = [learning_rate * factor, power(group.beta1), power(group.beta2)];
            if let Some(&buffer) = plan.input(&format!("adamw.{}", group.name)) {
                self.machine.write(&buffer, scalars.into_iter())?;
            }
        }
        Ok(())
    }

    /// Runs a plan, one of those that the engine was opened for.
    ///
    /// # Errors
    /// If the device refuses or is lost.
    pub fn replay(&mut self, plan: &Arc<Checked>) -> Result<(), Error> {
        self.pool.install(|| self.machine.replay(plan, self.launch_by_launch))
    }

    /// An output of the last replay, whose plan this was, by name: `out.*`, `loss.*`; `None` if the plan has none of this name.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn output(&self, plan: &Plan, name: &str) -> Result<Option<Vec<f64>>, Error> {
        plan.output(name).map(|buffer| self.machine.read(buffer)).transpose()
    }

    /// The first number of such an output; NaN if there is none.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn scalar(&self, plan: &Plan, name: &str) -> Result<f64, Error> {
        Ok(self.output(plan, name)?.map_or(f64::NAN, |numbers| numbers[0]))
    }

    /// The gradient that the last replay, whose plan this was, left for a parameter, in the engine's order.
    pub fn gradient(&self, plan: &Plan, parameter: &str) -> Result<Option<Vec<f64>>, Error> {
        let buffer = plan.gradients.iter().find(|(name, _)| name == parameter);
        buffer.map(|(_, buffer)| self.machine.read(&plan.buffers[*buffer])).transpose()
    }

    /// Sets the running statistics aside, for [`Engine::not_finite`].
    pub fn keep_statistics(&mut self) -> Result<(), Error> {
        self.machine.keep_statistics()
    }

    /// Puts the running statistics back.
    pub fn restore_statistics(&mut self) -> Result<(), Error> {
        self.machine.restore_statistics()
    }

    /// Replays a step to find where the first number appeared that is not finite. AdamW, which comes behind it, has
    /// updated nothing and is not reached; running statistics are put back.
    pub fn not_finite(&mut self, plan: &Arc<Checked>, step: u64) -> Result<Error, Error> {
        self.machine.restore_statistics()?;
        let found = self.pool.install(|| self.machine.first_non_finite(plan))?;
        self.machine.restore_statistics()?;
        let place = found.map(|at| (plan.launches[at].scope.clone(), plan.launches[at].op.name().to_string()));
        let (scope, op) = place.unwrap_or_else(|| ("the step".into(), "an op".into()));
        Ok(Error::NotFinite { step, scope, op, films: Vec::new() })
    }
}

/// The buffer of a plan's input, if it takes so many numbers.
fn input(plan: &Plan, name: &str, elements: usize) -> Result<Buffer, Error> {
    let buffer = *plan.input(name).ok_or_else(|| Error::Input { name: name.into(), wanted: 0, got: elements })?;
    let wanted = buffer.spec.shape.elements();
    if wanted != elements {
        return Err(Error::Input { name: name.into(), wanted, got: elements });
    }
    Ok(buffer)
}
