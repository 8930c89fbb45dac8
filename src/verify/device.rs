//! Runs a case on a CUDA device: everything in memory of its own, outputs poisoned.

use super::cases::{self, Data, Flat, Values};
use super::compare::Storage;
use crate::base::{DType, Kind, Spec};
use crate::cuda::Modules;
use crate::cuda::driver::{Address, DriverError, Stream};
use crate::ops::Op;
use crate::program::{Case, DeviceBuffer, DeviceIo, Misfit, Precision};

/// Why a kernel gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It does not take these inputs: no fault.
    #[error("refused: {0}")]
    Refused(#[from] Misfit),
    /// The device, or one of its checkers, refused.
    #[error("{0}")]
    Driver(#[from] DriverError),
    /// What came out is not a result: unwritten, not finite, or written where nothing may be.
    #[error("{0}")]
    Wrong(String),
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

/// Runs a [`planned`] case by the CUDA kernel of that name.
pub fn run(
    modules: &mut Modules,
    case: &Case<Op>,
    kernel: &'static str,
    storage: Storage,
) -> Result<Vec<Flat>, Failure> {
    let mut failure = None;
    let launched = cases::run_by::<f64>(case, |inputs, byte| {
        launch(modules, &case.op, kernel, inputs, byte, precision(storage), &mut |_| {}).map_err(|why| {
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
struct Room<'a> {
    modules: &'a mut Modules,
    taken: Vec<Address>,
}

impl Room<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<u64, DriverError> {
        let at = self.take(bytes.len())?;
        if !bytes.is_empty() {
            self.modules.driver.upload(Address(at), bytes, Stream::DEFAULT)?;
        }
        Ok(at)
    }

    fn take(&mut self, bytes: usize) -> Result<u64, DriverError> {
        let at = self.modules.driver.allocate(bytes.max(1) as u64)?;
        self.taken.push(at);
        Ok(at.0)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        for &at in &self.taken {
            // After a fault the device may refuse; there is nobody left to tell.
            let _ = self.modules.driver.free(at);
        }
    }
}

/// One launch. Outputs start out poisoned, or as the input they overwrite; that input is then poisoned. `launched` is told
/// the name of each kernel behind its launch.
pub(super) fn launch(
    modules: &mut Modules,
    op: &Op,
    kernel: &'static str,
    inputs: &[(Spec, Data<f64>)],
    byte: u8,
    precision: Precision,
    launched: &mut dyn FnMut(&str),
) -> Result<Values<f64>, Failure> {
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
    let mut unplaced = DeviceIo::unplaced(&typed(&specs), &typed(&inferred.specs));
    op.run_cuda(kernel, &mut unplaced)?;
    let needs = unplaced.finish();
    let mut room = Room { modules, taken: Vec::new() };
    let mut place = |values: &Values<f64>| -> Result<Vec<DeviceBuffer>, DriverError> {
        let put = |(spec, data): &(Spec, Data<f64>)| {
            let dtype = precision.dtype(spec.kind);
            Ok(DeviceBuffer { spec: *spec, dtype, address: room.put(&encode(data, dtype))? })
        };
        values.iter().map(put).collect()
    };
    let (sources, targets) = (place(&given)?, place(&made)?);
    let (workspace, constants) = (room.take(needs.workspace_bytes)?, room.take(needs.constants.len())?);
    let mut io = DeviceIo::new(sources, targets.clone(), workspace, constants);
    op.run_cuda(kernel, &mut io)?;
    let asked = io.finish();
    if !asked.constants.is_empty() {
        room.modules.driver.upload(Address(constants), &asked.constants, Stream::DEFAULT)?;
    }
    for call in &asked.calls {
        room.modules.launch(call, Stream::DEFAULT)?;
        launched(call.symbol);
    }
    room.modules.driver.synchronize(Stream::DEFAULT)?;
    let read = |buffer: &DeviceBuffer| -> Result<(Spec, Data<f64>), DriverError> {
        let mut bytes = vec![0; buffer.spec.shape.elements() * buffer.dtype.bytes()];
        if !bytes.is_empty() {
            room.modules.driver.download(Address(buffer.address), &mut bytes, Stream::DEFAULT)?;
        }
        Ok((buffer.spec, decode(&bytes, buffer.dtype)))
    };
    Ok(targets.iter().map(read).collect::<Result<_, _>>()?)
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
