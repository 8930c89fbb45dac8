//! One launch of a plan on the emulated device without its tensors: values that laws make where they are read, the kernels
//! with the grids and parameters of the plan, and single blocks of these.

use std::collections::HashMap;
use std::sync::Arc;

use super::content::{Content, contents};
use crate::base::{DType, Spec};
use crate::cuda::Modules;
use crate::cuda::driver::emulated::{Emulated, Options};
use crate::cuda::driver::{Address, Driver, DriverError, Stream};
use crate::kernels::Library;
use crate::model::batch::TextBatch;
use crate::ops::Op;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::embed::Embed;
use crate::program::plan::{Launch, Plan};
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

/// A value of a launch: one of its inputs, outputs, or its workspace.
#[derive(Clone)]
pub(super) struct Value {
    pub spec: Spec,
    pub content: Content,
}

/// Inputs, outputs and workspace of a launch, with its kernels.
pub struct Opened<'a> {
    /// The launch.
    pub launch: &'a Launch,
    /// What is launched; the parameters name no memory yet.
    pub calls: Vec<KernelCall>,
    pub(super) texts: &'a TextBatch,
    pub(super) seed: u64,
    pub(super) values: Vec<Value>,
    /// Position of the workspace among the values, behind inputs and outputs.
    pub(super) workspace: usize,
}

/// An emulated device with the kernels of a library; each thread has one of its own.
pub struct Machine {
    /// The device.
    pub device: Arc<Emulated>,
    modules: Modules,
}

impl Machine {
    /// A device with nothing on it.
    pub fn new(library: &Library, options: Options) -> Self {
        let device = Arc::new(Emulated::new(options));
        Self { modules: Modules::new(device.clone(), library.clone()), device }
    }

    /// Runs some blocks of a kernel, numbered with x fastest.
    pub fn run(&mut self, call: &KernelCall, blocks: Vec<u64>) -> Result<(), DriverError> {
        self.device.set_sample(Some(blocks));
        self.modules.launch(call, Stream::DEFAULT)
    }

    /// Gives memory back.
    pub fn free(&self, taken: Vec<Address>) {
        for address in taken {
            // After a fault the device may refuse; there is nobody left to tell.
            let _ = self.device.free(address);
        }
    }
}

/// Positions of the launches of a plan, those together that are one: equal ops, kernels, shapes and stored types.
pub fn different(plan: &Plan) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known = HashMap::new();
    for at in 0..plan.launches.len() {
        let group = *known.entry(key(plan, at)).or_insert(groups.len());
        groups.resize(groups.len().max(group + 1), Vec::new());
        groups[group].push(at);
    }
    groups
}

/// What makes two launches the same.
#[allow(clippy::type_complexity)]
fn key(plan: &Plan, at: usize) -> (Op, &'static str, Vec<(Spec, DType)>, Vec<Option<(usize, bool)>>, Vec<&str>) {
    let launch = &plan.launches[at];
    let buffers = launch.inputs.iter().chain(&launch.outputs).map(|&buffer| &plan.buffers[buffer]);
    let named = |buffer: usize| plan.inputs.iter().find(|(_, input)| *input == buffer);
    let names = launch.inputs.iter().map(|&buffer| named(buffer).map_or("", |(name, _)| name));
    let stored = buffers.map(|buffer| (buffer.spec, buffer.dtype)).collect();
    (launch.op, launch.kernel, stored, launch.overwrites.clone(), names.collect())
}

impl<'a> Opened<'a> {
    /// A launch of a plan for CUDA, with the texts of its batch; numbers follow from the seed.
    pub fn new(plan: &Plan, launch: &'a Launch, texts: &'a TextBatch, seed: u64) -> Result<Self, Misfit> {
        let stored = |&buffer: &usize| (plan.buffers[buffer].spec, plan.buffers[buffer].dtype);
        let [inputs, outputs] = [&launch.inputs, &launch.outputs].map(|of| of.iter().map(stored).collect::<Vec<_>>());
        let mut io = DeviceIo::unplaced(&inputs, &outputs);
        launch.op.run_cuda(launch.kernel, &mut io)?;
        let needs = io.finish();
        let contents = contents(plan, launch, texts, seed);
        let mut values: Vec<Value> =
            inputs.iter().chain(&outputs).zip(contents).map(|(&(spec, _), content)| Value { spec, content }).collect();
        let workspace = values.len();
        let content = match launch.op {
            // See `batch_norm_gradient`.
            Op::BatchNorm(BatchNorm::Backward { .. }) => Content::zero(DType::F32),
            Op::Embed(Embed::Bwd { .. }) => Content::starts(texts, needs.workspace_bytes / 4),
            _ => Content::normal(DType::F32, seed, workspace as u32),
        };
        values.push(Value { spec: Spec::exact([needs.workspace_bytes / 4]), content });
        Ok(Self { launch, calls: needs.calls, texts, seed, values, workspace })
    }

    /// Bytes of every value, the workspace last.
    pub fn bytes(&self) -> impl Iterator<Item = u64> {
        self.values.iter().map(|value| (value.spec.shape.elements() * value.content.dtype.bytes()) as u64)
    }

    /// Memory of its own for a kernel of the launch, all of which is added to `taken`: where the values lie, and the kernel
    /// with the parameters that say so.
    ///
    /// # Errors
    /// If the device has no such memory, or the op refuses.
    pub fn place(
        &self,
        device: &Emulated,
        at: usize,
        taken: &mut Vec<Address>,
    ) -> Result<(Vec<Address>, KernelCall), DriverError> {
        let inputs = self.launch.inputs.len();
        let mut addresses: Vec<Address> = Vec::new();
        for (index, (value, bytes)) in self.values.iter().zip(self.bytes()).enumerate() {
            let output = index.checked_sub(inputs).and_then(|output| *self.launch.overwrites.get(output)?);
            let address = match output {
                Some((input, true)) => addresses[input],
                // What a first kernel finds in its outputs and in the workspace nobody has written.
                None if index >= inputs && at == 0 => device.allocate(bytes.max(1))?,
                _ => device.allocate_made(bytes.max(1), value.content.make())?,
            };
            if !matches!(output, Some((_, true))) {
                taken.push(address);
            }
            addresses.push(address);
        }
        let placed = |index: usize| {
            let Value { spec, ref content } = self.values[index];
            DeviceBuffer { spec, dtype: content.dtype, address: addresses[index].0 }
        };
        let room = addresses[self.workspace].0;
        let asked = |constants: u64| {
            let outputs = (inputs..self.workspace).map(placed).collect();
            let mut io = DeviceIo::new((0..inputs).map(placed).collect(), outputs, room, constants);
            self.launch.op.run_cuda(self.launch.kernel, &mut io).map(|()| io.finish())
        };
        let refused = |misfit: Misfit| DriverError::Invalid(misfit.to_string());
        let mut calls = asked(0).map_err(refused)?;
        if !calls.constants.is_empty() {
            let constants = device.allocate(calls.constants.len() as u64)?;
            taken.push(constants);
            calls = asked(constants.0).map_err(refused)?;
            device.upload(constants, &calls.constants, Stream::DEFAULT)?;
        }
        Ok((addresses, calls.calls.swap_remove(at)))
    }
}
