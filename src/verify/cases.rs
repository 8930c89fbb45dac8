//! Runs an op on host memory with everything poisoned that it may not read and everything it has to write.

use crate::base::{DType, Kind, Number, Rng, Shape, Spec};
use crate::ops::{self, Op};
use crate::program::host::{CaseData, Extent, HostInput, HostOutput};
use crate::program::{Case, HostIo, Size};

use super::compare::{DRAWN, Storage, Yardstick, compare};

/// Numbers of one value in host memory.
#[derive(Clone, PartialEq, Debug)]
pub enum Data<N> {
    /// Real numbers.
    Numbers(Vec<N>),
    /// 32-bit integers.
    Indices(Vec<i32>),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl<N: Number> Data<N> {
    /// Numbers no op should ever see: NaN, the lowest integer, a byte of choice.
    pub fn poison(spec: Spec, byte: u8) -> Self {
        let elements = spec.shape.elements();
        match spec.kind {
            Kind::Activation | Kind::Exact => Self::Numbers(vec![N::of(f64::NAN); elements]),
            Kind::Index => Self::Indices(vec![i32::MIN; elements]),
            Kind::Bytes => Self::Bytes(vec![byte; elements]),
        }
    }

    /// The numbers of a test case.
    pub fn of(data: &CaseData) -> Self {
        match data {
            CaseData::Numbers(numbers) => Self::Numbers(numbers.iter().map(|&number| N::of(number)).collect()),
            CaseData::Indices(indices) => Self::Indices(indices.clone()),
            CaseData::Bytes(bytes) => Self::Bytes(bytes.clone()),
        }
    }

    /// Poisons what lies behind `real` elements.
    pub fn poison_behind(&mut self, real: usize) {
        match self {
            Self::Numbers(numbers) => numbers[real..].fill(N::of(f64::NAN)),
            Self::Indices(indices) => indices[real..].fill(i32::MIN),
            Self::Bytes(bytes) => bytes[real..].fill(0xAA),
        }
    }

    /// The first `real` elements as f64, whatever they are.
    pub fn to_f64(&self, real: usize) -> Vec<f64> {
        match self {
            Self::Numbers(numbers) => numbers[..real].iter().map(|number| number.to_f64()).collect(),
            Self::Indices(indices) => indices[..real].iter().map(|&index| f64::from(index)).collect(),
            Self::Bytes(bytes) => bytes[..real].iter().map(|&byte| f64::from(byte)).collect(),
        }
    }

    /// Numbers that were stored as `dtype`.
    pub fn stored(numbers: Vec<f64>, dtype: DType) -> Self {
        match dtype {
            DType::I32 => Self::Indices(numbers.into_iter().map(|number| number as i32).collect()),
            DType::U8 => Self::Bytes(numbers.into_iter().map(|number| number as u8).collect()),
            _ => Self::Numbers(numbers.into_iter().map(N::of).collect()),
        }
    }

    /// The same numbers in another type.
    pub fn to<M: Number>(&self) -> Data<M> {
        match self {
            Self::Numbers(numbers) => Data::Numbers(numbers.iter().map(|number| M::of(number.to_f64())).collect()),
            Self::Indices(indices) => Data::Indices(indices.clone()),
            Self::Bytes(bytes) => Data::Bytes(bytes.clone()),
        }
    }

    /// Real numbers; none for other data.
    pub fn numbers(&self) -> &[N] {
        if let Self::Numbers(numbers) = self { numbers } else { &[] }
    }

    fn input(&self) -> HostInput<'_, N> {
        match self {
            Self::Numbers(numbers) => HostInput::Numbers(numbers),
            Self::Indices(indices) => HostInput::Indices(indices),
            Self::Bytes(bytes) => HostInput::Bytes(bytes),
        }
    }

    fn output(&mut self) -> HostOutput<'_, N> {
        match self {
            Self::Numbers(numbers) => HostOutput::Numbers(numbers),
            Self::Indices(indices) => HostOutput::Indices(indices),
            Self::Bytes(bytes) => HostOutput::Bytes(bytes),
        }
    }
}

/// How many leading elements of a value are real.
pub fn real_elements(shape: Shape, extent: Option<Extent>) -> usize {
    match extent {
        Some(extent) if shape.dims().first() == Some(&extent.capacity) => {
            shape.elements() / extent.capacity * extent.rows
        }
        _ => shape.elements(),
    }
}

/// Specs of a case's inputs.
pub fn specs(case: &Case<Op>) -> Vec<Spec> {
    case.inputs.iter().map(|&(spec, _)| spec).collect()
}

/// The op and the shapes of a case, for messages.
pub fn describe(case: &Case<Op>) -> String {
    let inputs: Vec<String> = specs(case).iter().map(|spec| format!("{:?}{}", spec.kind, spec.shape)).collect();
    format!("{:?} on {} extent {:?}", case.op, inputs.join(" "), case.extent)
}

/// Something that fills outputs: the reference, a CPU kernel, or a fault made up by a test.
pub type Kernel<'a, N> = &'a dyn Fn(&mut HostIo<'_, N>);

/// One launch. Outputs start out poisoned, or as the input they overwrite; that input is then handed in as poison.
pub fn launch<N: Number>(op: &Op, kernel: Kernel<'_, N>, inputs: &[(Spec, Data<N>)], byte: u8) -> Vec<(Spec, Data<N>)> {
    let specs: Vec<Spec> = inputs.iter().map(|&(spec, _)| spec).collect();
    let outputs = op.infer(&specs).unwrap_or_else(|misfit| panic!("{op:?} on {specs:?}: {misfit}"));
    let mut given = inputs.to_vec();
    let mut made: Vec<(Spec, Data<N>)> = Vec::new();
    for (&spec, overwrite) in outputs.specs.iter().zip(&outputs.overwrites) {
        let poison = Data::poison(spec, byte);
        made.push((spec, overwrite.map_or(poison, |overwrite| inputs[overwrite.input].1.clone())));
    }
    for overwrite in outputs.overwrites.iter().flatten() {
        given[overwrite.input].1 = Data::poison(inputs[overwrite.input].0, byte);
    }
    let read = given.iter().map(|(spec, data)| (spec.shape, data.input())).collect();
    let written = made.iter_mut().map(|(spec, data)| (spec.shape, data.output())).collect();
    kernel(&mut HostIo::new(read, written));
    made
}

/// Values with their specs, as launches take and give them.
pub type Values<N> = Vec<(Spec, Data<N>)>;

/// Runs a case: rows behind its extent are poisoned, and what comes out must be written in full, finite, and untouched
/// behind the extent.
pub fn run<N: Number>(case: &Case<Op>, kernel: Kernel<'_, N>) -> Result<Values<N>, String> {
    case.op.infer(&specs(case)).map_err(|misfit| format!("its own case does not fit: {misfit}"))?;
    run_by(case, |inputs, byte| Ok(launch(&case.op, kernel, inputs, byte)))
}

/// The same for whatever launches: `launch` takes inputs and the byte with which bytes are poisoned, and gives outputs.
pub fn run_by<N: Number>(
    case: &Case<Op>,
    mut launch: impl FnMut(&[(Spec, Data<N>)], u8) -> Result<Values<N>, String>,
) -> Result<Values<N>, String> {
    let mut inputs: Values<N> = case.inputs.iter().map(|(spec, data)| (*spec, Data::of(data))).collect();
    for (spec, data) in &mut inputs {
        data.poison_behind(real_elements(spec.shape, case.extent));
    }
    let made = launch(&inputs, 0xAA)?;
    for (at, (spec, data)) in made.iter().enumerate() {
        let real = real_elements(spec.shape, case.extent);
        check_written(data, real).map_err(|what| format!("output {at} {}: {what}", spec.shape))?;
    }
    if made.iter().any(|(spec, _)| spec.kind == Kind::Bytes) {
        let again = launch(&inputs, 0x55)?;
        for (at, ((spec, first), (_, second))) in made.iter().zip(&again).enumerate() {
            let real = real_elements(spec.shape, case.extent);
            if spec.kind == Kind::Bytes && first.to_f64(real) != second.to_f64(real) {
                return Err(format!("output {at} {}: bytes are left unwritten", spec.shape));
            }
        }
    }
    Ok(made)
}

fn check_written<N: Number>(data: &Data<N>, real: usize) -> Result<(), String> {
    let (unwritten, touched) = match data {
        Data::Numbers(numbers) => (
            numbers[..real].iter().position(|number| !number.is_finite()),
            numbers[real..].iter().position(|number| !number.to_f64().is_nan()),
        ),
        Data::Indices(indices) => (
            indices[..real].iter().position(|&index| index == i32::MIN),
            indices[real..].iter().position(|&index| index != i32::MIN),
        ),
        Data::Bytes(bytes) => (None, bytes[real..].iter().position(|&byte| byte != 0xAA)),
    };
    match (unwritten, touched) {
        (None, None) => Ok(()),
        (Some(at), _) => Err(format!("element {at} is poison, infinite or unwritten")),
        (None, Some(at)) => Err(format!("element {} lies behind the extent and was written", real + at)),
    }
}

/// The storage of a value when activations are stored as `storage`.
pub fn stored(spec: Spec, storage: Storage) -> Storage {
    if storage == Storage::Bf16 && spec.kind != Kind::Activation { Storage::F32 } else { storage }
}

/// The case with its inputs rounded as they are stored.
pub fn rounded(mut case: Case<Op>, storage: Storage) -> Case<Op> {
    let operands = case.op.operands();
    for (at, (spec, data)) in case.inputs.iter_mut().enumerate() {
        let storage = if operands.contains(&at) { storage } else { stored(*spec, storage) };
        if let CaseData::Numbers(numbers) = data {
            numbers.iter_mut().for_each(|number| *number = storage.round(*number));
        }
    }
    case
}

/// One output as the comparer takes it: spec, and its real elements as f64.
pub type Flat = (Spec, Vec<f64>);

/// Runs a case and flattens what comes out, rounded as it is stored.
pub fn flat<N: Number>(case: &Case<Op>, kernel: Kernel<'_, N>, storage: Storage) -> Result<Vec<Flat>, String> {
    let outputs = run::<N>(case, kernel)?;
    Ok(flattened(case, outputs, storage))
}

/// The real elements of outputs, rounded as they are stored.
pub fn flattened<N: Number>(case: &Case<Op>, outputs: Values<N>, storage: Storage) -> Vec<Flat> {
    let flatten = |(spec, data): (Spec, Data<N>)| {
        let mut numbers = data.to_f64(real_elements(spec.shape, case.extent));
        if storage == Storage::Bf16 && spec.kind == Kind::Activation {
            numbers.iter_mut().for_each(|number| *number = storage.round(*number));
        }
        (spec, numbers)
    };
    outputs.into_iter().map(flatten).collect()
}

/// What a result is held against: truth, plain result and yardstick of every output.
pub struct Expected {
    storage: Storage,
    /// The reference in f64.
    pub truth: Vec<Flat>,
    /// The reference in f32, stored.
    pub plain: Vec<Flat>,
    yardsticks: Vec<Yardstick>,
}

impl Expected {
    /// Computes it for the first of some draws of the same shapes, and the yardsticks from as many as these need.
    /// `draw` makes cases that are already [`rounded`].
    pub fn new(draw: impl Fn(u64) -> Case<Op>, storage: Storage) -> Result<Self, String> {
        let both = |case: &Case<Op>| -> Result<Self, String> {
            let truth = flat::<f64>(case, &|io| case.op.reference(io), Storage::F64)?;
            let plain = flat::<f32>(case, &|io| case.op.reference(io), storage)?;
            Ok(Self { storage, truth, plain, yardsticks: Vec::new() })
        };
        let mut expected = both(&draw(0)).map_err(|what| format!("the reference: {what}"))?;
        let mut yardsticks = vec![Yardstick::default(); expected.truth.len()];
        for at in 0..DRAWN {
            let drawn = both(&draw(at as u64))?;
            if at > 0 && drawn.jumped() {
                continue;
            }
            for ((yardstick, (spec, truth)), (_, plain)) in yardsticks.iter_mut().zip(&drawn.truth).zip(&drawn.plain) {
                yardstick.add(truth, plain, spec.shape.last());
            }
            if yardsticks.iter().all(Yardstick::complete) {
                break;
            }
        }
        expected.yardsticks = yardsticks;
        Ok(expected)
    }

    /// The same for results stored otherwise, of inputs rounded in the same way.
    pub fn stored_as(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }

    /// Whether the plain result jumped: a threshold was met in one precision and missed in the other. Such a draw
    /// accepts almost anything.
    pub fn jumped(&self) -> bool {
        let far = |((_, truth), (_, plain)): (&Flat, &Flat)| {
            let scale = truth.iter().fold(0.0, |scale: f64, number| scale.max(number.abs()));
            truth.iter().zip(plain).any(|(truth, plain)| (truth - plain).abs() > 1e-2 * scale)
        };
        self.truth.iter().zip(&self.plain).any(far)
    }

    /// Holds results against it; how much of what is allowed is used up at worst. Integers and bytes must be equal to the
    /// plain result.
    pub fn accepts(&self, got: &[Flat]) -> Result<f64, String> {
        let mut used: f64 = 0.0;
        for (at, (_, got)) in got.iter().enumerate() {
            let (spec, truth) = &self.truth[at];
            let (_, plain) = &self.plain[at];
            let verdict = if spec.is_real() {
                compare(truth, plain, got, spec.shape.last(), stored(*spec, self.storage), &self.yardsticks[at])
            } else if got == plain {
                Ok(0.0)
            } else {
                Err("integers differ".to_owned())
            };
            used = used.max(verdict.map_err(|what| format!("output {at} {}: {what}", spec.shape))?);
        }
        Ok(used)
    }
}

/// Every op of the registry with every kind of its cases: position and variant.
pub fn registry() -> impl Iterator<Item = (usize, usize)> {
    ops::REGISTRY.iter().enumerate().flat_map(|(op, &(_, variants))| (0..variants).map(move |variant| (op, variant)))
}

/// A case of the registry; `draw` names the numbers in it.
pub fn case(position: usize, variant: usize, size: &Size, draw: u64) -> Case<Op> {
    ops::case(position, variant, size, &mut Rng::new(draw, (position * 64 + variant) as u32, 0))
}

/// Sizes at which a device does what it does at no small one.
pub fn large(position: usize, variant: usize) -> impl Iterator<Item = Size> {
    super::Subject::from(position).large(variant)
}

/// A size at which nothing degenerates.
pub const COMFORTABLE: Size = Size { batch: 2, side: 5, channels: 6, extra: 4 };

/// The name of a storage type in messages.
pub fn name(storage: Storage) -> &'static str {
    match storage {
        Storage::F64 => DType::F64.name(),
        Storage::F32 => DType::F32.name(),
        Storage::Bf16 => DType::Bf16.name(),
    }
}
