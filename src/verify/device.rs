//! Runs a case on a device: everything in memory of its own, outputs poisoned.

use super::cases::{self, Data, Flat, Values};
use super::compare::Storage;
use crate::base::{DType, Kind, Spec};
use crate::cuda::driver::{Attributes, DriverError};
use crate::ops::Op;
use crate::program::{Case, DeviceBuffer, DeviceIo, Misfit, Precision};
use crate::wgpu::GpuError;

/// Why a kernel gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It does not take these inputs: no fault.
    #[error("refused: {0}")]
    Refused(#[from] Misfit),
    /// The device, or one of its checkers, refused.
    #[error("{0}")]
    Driver(#[from] DriverError),
    /// The GPU refused.
    #[error("{0}")]
    Gpu(#[from] GpuError),
    /// What came out is not a result: unwritten, not finite, or written where nothing may be.
    #[error("{0}")]
    Wrong(String),
    /// It came about on this schedule of the emulated device.
    #[error("{failure}; on schedule {schedule}, which --device cuda-emulated:{schedule} repeats")]
    On {
        /// Number of the schedule.
        schedule: u64,
        /// What came about.
        failure: Box<Failure>,
    },
}

impl Failure {
    /// With the schedule on which it came about; a refusal has none.
    pub(super) fn on(self, schedule: u64) -> Self {
        if matches!(self, Self::Refused(_)) { self } else { Self::On { schedule, failure: Box::new(self) } }
    }

    /// Whether a checker of the emulated device, or a GPU, reported what the kernel did.
    pub fn is_report(&self) -> bool {
        match self {
            Self::Driver(DriverError::Fault { .. }) => true,
            Self::On { failure, .. } => failure.is_report(),
            _ => false,
        }
    }
}

/// What runs single launches: memory by address, and kernels as the ops ask for them.
pub trait Target {
    /// What an op asks for.
    type Call;

    /// How activations may be stored.
    const STORAGES: &'static [Storage];

    /// Bytes that are left behind every workspace and constant within an allocation, to be guarded.
    const GAP: u64 = 0;

    /// Names of its kernels for an op.
    fn kernels(op: &Op) -> &'static [&'static str];

    /// What the kernel of that name asks for.
    fn ask(op: &Op, kernel: &'static str, io: &mut DeviceIo<Self::Call>) -> Result<(), Misfit>;

    /// Name of what a call runs.
    fn symbol(call: &Self::Call) -> &'static str;

    /// Names of everything that was run, with what each takes of the device where that is known.
    fn asked(&self) -> Vec<(String, Option<Attributes>)>;

    /// Takes kernels from the texts that an op brings along too.
    fn bring(&mut self, op: &Op) -> Result<(), Failure>;

    /// Memory, at least one byte.
    fn allocate(&mut self, bytes: u64) -> Result<u64, Failure>;

    /// Gives it back.
    fn free(&mut self, at: u64);

    /// Guards what lies behind these parts of allocations, each an address and bytes: [`Self::GAP`] bytes.
    fn guard(&mut self, _parts: &[(u64, usize)]) {}

    /// Host to device, at least one byte.
    fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure>;

    /// Device to host, at least one byte, when everything is done.
    fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), Failure>;

    /// Runs a call.
    fn launch(&mut self, call: &Self::Call) -> Result<(), Failure>;

    /// Waits until everything is done.
    fn synchronize(&mut self) -> Result<(), Failure>;
}

/// How a plan stores values when activations are stored as `storage`.
pub fn precision(storage: Storage) -> Precision {
    match storage {
        Storage::F64 => Precision::F64,
        Storage::F32 => Precision::Exact,
        Storage::Bf16 => Precision::Mixed,
    }
}

/// How activations are stored by a plan of this precision.
pub fn storage(precision: Precision) -> Storage {
    match precision {
        Precision::F64 => Storage::F64,
        Precision::Exact => Storage::F32,
        Precision::Mixed => Storage::Bf16,
    }
}

/// The case as a plan of this storage has it: operands of matrix products are activations, for plans store them as these.
pub fn planned(mut case: Case<Op>, storage: Storage) -> Case<Op> {
    if storage == Storage::Bf16 {
        for &operand in case.op.operands() {
            if case.inputs[operand].0.kind == Kind::Exact {
                case.inputs[operand].0.kind = Kind::Activation;
            }
        }
    }
    cases::rounded(case, storage)
}

/// Runs a [`planned`] case by the kernel of that name.
pub fn run<T: Target>(
    target: &mut T,
    case: &Case<Op>,
    kernel: &'static str,
    storage: Storage,
) -> Result<Vec<Flat>, Failure> {
    let mut failure = None;
    let launched = cases::run_by::<f64>(case, |inputs, byte| {
        launch(target, &case.op, kernel, inputs, byte, precision(storage), &mut |_| {}).map_err(|why| {
            failure = Some(why);
            String::new()
        })
    });
    match (failure, launched) {
        (Some(why), _) => Err(why),
        (None, Err(what)) => Err(Failure::Wrong(what)),
        (None, Ok(outputs)) => Ok(cases::flattened(case, outputs, storage)),
    }
}

/// Memory of a device that is given back.
struct Room<'a, T: Target> {
    target: &'a mut T,
    taken: Vec<u64>,
}

impl<T: Target> Room<'_, T> {
    fn put(&mut self, bytes: &[u8]) -> Result<u64, Failure> {
        let at = self.take(bytes.len())?;
        if !bytes.is_empty() {
            self.target.upload(at, bytes)?;
        }
        Ok(at)
    }

    fn take(&mut self, bytes: usize) -> Result<u64, Failure> {
        let at = self.target.allocate(bytes.max(1) as u64)?;
        self.taken.push(at);
        Ok(at)
    }
}

impl<T: Target> Drop for Room<'_, T> {
    fn drop(&mut self) {
        self.taken.iter().for_each(|&at| self.target.free(at));
    }
}

/// One launch. Outputs start out poisoned, or as the input they overwrite; that input is then poisoned. `launched` is told
/// the name of each kernel behind its launch.
pub(super) fn launch<T: Target>(
    target: &mut T,
    op: &Op,
    kernel: &'static str,
    inputs: &[(Spec, Data<f64>)],
    byte: u8,
    precision: Precision,
    launched: &mut dyn FnMut(&str),
) -> Result<Values<f64>, Failure> {
    target.bring(op)?;
    let specs: Vec<Spec> = inputs.iter().map(|&(spec, _)| spec).collect();
    let inferred = op.infer(&specs)?;
    let mut given = inputs.to_vec();
    let mut made: Values<f64> = Vec::new();
    for (&spec, overwrite) in inferred.specs.iter().zip(&inferred.overwrites) {
        let poison = Data::poison(spec, byte);
        made.push((spec, overwrite.map_or(poison, |overwrite| inputs[overwrite.input].1.clone())));
    }
    for overwrite in inferred.overwrites.iter().flatten() {
        given[overwrite.input].1 = Data::poison(inputs[overwrite.input].0, byte);
    }
    let stored = |spec: Spec| (spec, precision.dtype(spec.kind));
    let typed = |specs: &[Spec]| specs.iter().map(|&spec| stored(spec)).collect::<Vec<_>>();
    let mut unplaced = DeviceIo::unplaced(&typed(&specs), &typed(&inferred.specs)).apart(T::GAP);
    T::ask(op, kernel, &mut unplaced)?;
    let needs = unplaced.finish();
    let mut room = Room { target, taken: Vec::new() };
    let mut place = |values: &Values<f64>| -> Result<Vec<DeviceBuffer>, Failure> {
        let put = |(spec, data): &(Spec, Data<f64>)| {
            let dtype = precision.dtype(spec.kind);
            Ok(DeviceBuffer { spec: *spec, dtype, address: room.put(&encode(data, dtype))? })
        };
        values.iter().map(put).collect()
    };
    let (sources, targets) = (place(&given)?, place(&made)?);
    let (workspace, constants) = (room.take(needs.workspace_bytes)?, room.take(needs.constants.len())?);
    let mut io = DeviceIo::new(sources, targets.clone(), workspace, constants).apart(T::GAP);
    T::ask(op, kernel, &mut io)?;
    let asked = io.finish();
    if !asked.constants.is_empty() {
        room.target.upload(constants, &asked.constants)?;
    }
    room.target.guard(&asked.parts);
    for call in &asked.calls {
        room.target.launch(call)?;
        launched(T::symbol(call));
    }
    room.target.synchronize()?;
    let read = |buffer: &DeviceBuffer| -> Result<(Spec, Data<f64>), Failure> {
        let mut bytes = vec![0; buffer.spec.shape.elements() * buffer.dtype.bytes()];
        if !bytes.is_empty() {
            room.target.download(buffer.address, &mut bytes)?;
        }
        Ok((buffer.spec, decode(&bytes, buffer.dtype)))
    };
    targets.iter().map(read).collect()
}

/// Values as a device stores them.
fn encode(data: &Data<f64>, dtype: DType) -> Vec<u8> {
    match data {
        Data::Numbers(numbers) => dtype.encode(numbers.iter().copied()),
        Data::Indices(indices) => bytemuck::cast_slice(indices).to_vec(),
        Data::Bytes(bytes) => bytes.clone(),
    }
}

/// The opposite of [`encode`].
fn decode(bytes: &[u8], dtype: DType) -> Data<f64> {
    match dtype {
        DType::I32 => Data::Indices(bytemuck::pod_collect_to_vec(bytes)),
        DType::U8 => Data::Bytes(bytes.to_vec()),
        _ => Data::Numbers(dtype.decode(bytes)),
    }
}
