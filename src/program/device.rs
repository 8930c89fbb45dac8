//! What an op's `cuda.rs` or `wgsl.rs` sees of one launch of a plan: buffers with addresses go in, calls come out. No device
//! is touched: a plan is made, checked and printed on machines that have none.

use super::kernel_call::KernelCall;
use super::op::Misfit;
use super::shader_call::ShaderCall;
use crate::base::{DType, Shape, Spec};

/// Bytes that every buffer, workspace and constant starts at a multiple of.
pub const ALIGNMENT: u64 = 256;

/// A value in device memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceBuffer {
    /// Shape and kind.
    pub spec: Spec,
    /// Stored type.
    pub dtype: DType,
    /// Its first byte; a multiple of [`ALIGNMENT`].
    pub address: u64,
}

impl DeviceBuffer {
    /// Of two kernels the one for this stored type, f32 or bf16; or the misfit that it is neither.
    pub fn symbol(&self, [of_f32, of_bf16]: [&'static str; 2]) -> Result<&'static str, Misfit> {
        match self.dtype {
            DType::F32 => Ok(of_f32),
            DType::Bf16 => Ok(of_bf16),
            other => Err(Misfit::new(format!("values are {}, f32 or bf16 is needed", other.name()))),
        }
    }

    /// Address of the last of these 32-bit integers: of row offsets, how many rows are real.
    pub fn last_index(&self) -> u64 {
        self.address + 4 * (self.spec.shape.last() as u64 - 1)
    }
}

/// Inputs and outputs of one launch on a device, and what the op makes of them. As on the host
/// ([`HostIo`](super::HostIo)), an output that overwrites an input holds that input's numbers when the first kernel starts,
/// and the input itself must not be read then.
#[derive(Debug)]
pub struct DeviceIo<C = KernelCall> {
    inputs: Vec<DeviceBuffer>,
    outputs: Vec<DeviceBuffer>,
    room: u64,
    workspace_bytes: usize,
    constants_at: u64,
    constants: Vec<u8>,
    gap: u64,
    parts: Vec<(u64, usize)>,
    calls: Vec<C>,
    predicted: Option<f64>,
}

/// What bytes behind constants hold that belong to none: not a number.
const UNUSED: u8 = 0xFF;

/// One launch on a device of shaders.
pub type ShaderIo = DeviceIo<ShaderCall>;

impl<C> DeviceIo<C> {
    /// Gathers inputs and outputs; workspace begins at `room`, constants at `constants_at`.
    pub fn new(inputs: Vec<DeviceBuffer>, outputs: Vec<DeviceBuffer>, room: u64, constants_at: u64) -> Self {
        let (constants, parts, calls) = (Vec::new(), Vec::new(), Vec::new());
        let (workspace_bytes, gap, predicted) = (0, 0, None);
        Self { inputs, outputs, room, workspace_bytes, constants_at, constants, gap, parts, calls, predicted }
    }

    /// Leaves so many bytes, a multiple of [`ALIGNMENT`], unused behind every workspace and constant, to be guarded.
    pub fn apart(mut self, gap: u64) -> Self {
        self.gap = gap;
        self
    }

    /// Of values that lie nowhere yet: to ask for legality and sizes. Addresses differ and are aligned.
    pub fn unplaced(inputs: &[(Spec, DType)], outputs: &[(Spec, DType)]) -> Self {
        let at = |(index, &(spec, dtype)): (usize, &(Spec, DType))| DeviceBuffer {
            spec,
            dtype,
            address: (index as u64 + 1) << 40,
        };
        let all: Vec<DeviceBuffer> = inputs.iter().chain(outputs).enumerate().map(at).collect();
        let (inputs, outputs) = all.split_at(inputs.len());
        let behind = (all.len() as u64 + 1) << 40;
        Self::new(inputs.to_vec(), outputs.to_vec(), behind, behind + (1 << 40))
    }

    /// How many inputs there are.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// How many outputs there are.
    pub fn output_count(&self) -> usize {
        self.outputs.len()
    }

    /// An input.
    pub fn input(&self, at: usize) -> DeviceBuffer {
        self.inputs[at]
    }

    /// An output.
    pub fn output(&self, at: usize) -> DeviceBuffer {
        self.outputs[at]
    }

    /// Shape of an input.
    pub fn shape(&self, input: usize) -> Shape {
        self.inputs[input].spec.shape
    }

    /// Extents of an input, which has exactly `RANK` of them.
    pub fn dims<const RANK: usize>(&self, input: usize) -> [usize; RANK] {
        self.inputs[input].spec.shape.dims().try_into().expect("infer checked the rank")
    }

    /// Extents of an output, which has exactly `RANK` of them.
    pub fn output_dims<const RANK: usize>(&self, output: usize) -> [usize; RANK] {
        self.outputs[output].spec.shape.dims().try_into().expect("infer checked the rank")
    }

    /// Memory for the time of this launch, uninitialised; its address. Several requests lie one behind another.
    pub fn workspace(&mut self, bytes: usize) -> u64 {
        let at = self.room + self.workspace_bytes as u64;
        self.workspace_bytes += bytes.next_multiple_of(ALIGNMENT as usize) + self.gap as usize;
        self.parts.push((at, bytes));
        at
    }

    /// Bytes that are uploaded once, when the plan is put on a device, and never change; their address.
    pub fn constant(&mut self, bytes: &[u8]) -> u64 {
        let at = self.constants_at + self.constants.len() as u64;
        self.constants.extend_from_slice(bytes);
        self.constants.resize(self.constants.len().next_multiple_of(ALIGNMENT as usize) + self.gap as usize, UNUSED);
        self.parts.push((at, bytes.len()));
        at
    }

    /// A kernel to be launched, behind those before it.
    pub fn launch(&mut self, call: C) {
        self.calls.push(call);
    }

    /// Says how many seconds the kernels are predicted to take, by which those of one op are compared.
    pub fn predict(&mut self, seconds: f64) {
        self.predicted = Some(seconds);
    }

    /// The kernels asked for so far.
    pub(super) fn calls_mut(&mut self) -> impl Iterator<Item = &mut C> {
        self.calls.iter_mut()
    }

    /// What came of it.
    pub fn finish(self) -> DeviceCalls<C> {
        let Self { calls, workspace_bytes, constants, parts, predicted, .. } = self;
        DeviceCalls { calls, workspace_bytes, constants, parts, predicted }
    }
}

impl DeviceIo {
    /// Says of the last kernel that blocks of each y add up so many rows; see [`KernelCall::part`].
    pub fn partial(&mut self, part: usize) {
        self.calls_mut().last().into_iter().for_each(|call| call.part = part);
    }
}

/// What an op asks of a device for one launch.
#[derive(Debug)]
pub struct DeviceCalls<C = KernelCall> {
    /// Kernels in order; none if there is nothing to do.
    pub calls: Vec<C>,
    /// Bytes of workspace.
    pub workspace_bytes: usize,
    /// What is uploaded once.
    pub constants: Vec<u8>,
    /// Address and bytes of each workspace and constant.
    pub parts: Vec<(u64, usize)>,
    /// Seconds that it is predicted to take, if the op says so.
    pub predicted: Option<f64>,
}

/// An extent as kernels count it, in 32 bits and below 2^31; or the misfit that names it.
pub fn count(what: &str, extent: usize) -> Result<u32, Misfit> {
    let fits = u32::try_from(extent).ok().filter(|&extent| extent <= i32::MAX as u32);
    fits.ok_or_else(|| Misfit::new(format!("{what} is {extent}, kernels count to 2^31 - 1")))
}

/// Address of numbers that have to be stored as f32; or the misfit that names them.
pub fn exact(name: &str, buffer: DeviceBuffer) -> Result<u64, Misfit> {
    Misfit::unless(buffer.dtype == DType::F32, || format!("{name} is {}, f32 is needed", buffer.dtype.name()))?;
    Ok(buffer.address)
}
