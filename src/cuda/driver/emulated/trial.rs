//! One kernel of one's own under the checkers, in several orders: what `g2d emulate` runs.

use super::{Checks, Completion, Counters, Emulated, Options};
use crate::cuda::driver::{Address, Driver, DriverError, Launch, Stream};
use crate::cuda::ptx;

/// What a parameter of the kernel receives.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// These bytes. As a field of a struct they are aligned to the largest power of two that divides their number, to 16
    /// at most: a number or a CUDA vector to its size.
    Value(Vec<u8>),
    /// The address of a buffer of its own with these bytes.
    Buffer(Vec<u8>),
    /// The address of a buffer of so many bytes that nobody wrote yet.
    Uninitialized(usize),
    /// A struct passed by value, with these fields, laid out as C does: each at the next multiple of its alignment, the
    /// whole filled up to a multiple of the largest. The fields of an array are written out one by one.
    Struct(Vec<Argument>),
}

/// Most bytes that a field is aligned to.
const MOST_ALIGNMENT: usize = 16;

impl Argument {
    /// Its alignment as a field of a struct, in bytes.
    fn alignment(&self) -> usize {
        match self {
            Self::Value(bytes) => 1 << bytes.len().max(1).trailing_zeros().min(MOST_ALIGNMENT.ilog2()),
            Self::Buffer(_) | Self::Uninitialized(_) => size_of::<Address>(),
            Self::Struct(fields) => fields.iter().map(Self::alignment).max().unwrap_or(1),
        }
    }

    /// Its bytes in the parameter block.
    fn bytes(&self) -> usize {
        match self {
            Self::Value(bytes) => bytes.len(),
            Self::Buffer(_) | Self::Uninitialized(_) => size_of::<Address>(),
            Self::Struct(fields) => {
                let last = offsets(fields).zip(fields).last();
                let end = last.map_or(0, |(offset, field)| offset + field.bytes());
                end.next_multiple_of(self.alignment())
            }
        }
    }
}

/// Where the fields of a struct lie in it.
fn offsets(fields: &[Argument]) -> impl Iterator<Item = usize> {
    fields.iter().scan(0usize, |end, field| {
        let offset = end.next_multiple_of(field.alignment());
        *end = offset + field.bytes();
        Some(offset)
    })
}

/// A launch to try.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// Name of the PTX text, for messages.
    pub file: &'a str,
    /// The PTX text.
    pub ptx: &'a str,
    /// Name of the entry.
    pub kernel: &'a str,
    /// Grid, block, dynamic shared memory.
    pub launch: Launch,
    /// One per parameter.
    pub arguments: Vec<Argument>,
    /// What is looked for.
    pub checks: Checks,
    /// Seeds to run with, at least one. Seed 0 is the natural order.
    pub seeds: std::ops::Range<u64>,
    /// When asynchronous copies take effect; [by the seed](Completion::of_seed) if not given.
    pub completion: Option<Completion>,
    /// Warp instructions after which a launch is given up.
    pub limit: Option<u64>,
    /// Whether matrix instructions sum as tensor cores do.
    pub exact_sums: bool,
}

/// What a trial without a fault gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the first seed left in the buffers, in the order of the arguments.
    pub buffers: Vec<Vec<u8>>,
    /// What reports call the buffers: `argument 2`, or `argument 2.0` for the first field of a struct.
    pub names: Vec<String>,
    /// Counters of the first seed's launch.
    pub counters: Counters,
    /// The first difference of another seed's buffers.
    pub difference: Option<Difference>,
}

/// A result that depends on the order of warps, lanes of atomics or CTAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The seed whose result differs from that of the first one.
    pub seed: u64,
    /// Which buffer, counted from 0.
    pub buffer: usize,
    /// The first byte that differs.
    pub byte: usize,
}

/// A trial that cannot be run, or that found a fault.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The text is not PTX.
    #[error("{file}: {error}")]
    Syntax {
        /// Name of the text.
        file: String,
        /// What is wrong.
        error: ptx::SyntaxError,
    },
    /// There is no such entry.
    #[error("{file} has no kernel `{kernel}`; it has {entries}")]
    Kernel {
        /// Name of the text.
        file: String,
        /// What was asked for.
        kernel: String,
        /// What there is.
        entries: String,
    },
    /// The arguments are not those of the kernel.
    #[error("kernel `{kernel}` takes ({parameters}); {what}")]
    Arguments {
        /// The entry.
        kernel: String,
        /// Its parameters with their types.
        parameters: String,
        /// What does not fit.
        what: String,
    },
    /// The device refuses something, or the kernel has a fault: the error holds the report.
    #[error("{0}")]
    Driver(#[from] DriverError),
}

impl Trial<'_> {
    /// Runs the kernel once per seed, on fresh memory each time, and ends at the first fault.
    pub fn run(&self) -> Result<Outcome, TrialError> {
        let (offsets, end) = self.offsets()?;
        let mut first: Option<Outcome> = None;
        for seed in self.seeds.clone() {
            let completion = self.completion.unwrap_or_else(|| Completion::of_seed(seed));
            let (checks, limit, exact_sums) = (self.checks, self.limit, self.exact_sums);
            let options = Options { checks, seed, completion, limit, exact_sums };
            let other = self.once(&offsets, end, options)?;
            match &mut first {
                None => first = Some(other),
                Some(first) if first.difference.is_none() => {
                    first.difference = differs(&first.buffers, &other.buffers, seed);
                }
                Some(_) => {}
            }
        }
        first.ok_or_else(|| DriverError::Invalid("a trial needs at least one seed".into()).into())
    }

    /// Where each argument lies in the parameter block, and the bytes of the block.
    fn offsets(&self) -> Result<(Vec<usize>, usize), TrialError> {
        let module = ptx::parse(self.ptx).map_err(|error| TrialError::Syntax { file: self.file.into(), error })?;
        let entries = || module.functions.iter().filter(|function| function.entry);
        let Some(entry) = entries().find(|entry| entry.name == self.kernel) else {
            let names: Vec<String> = entries().map(|entry| format!("`{}`", entry.name)).collect();
            let entries = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(TrialError::Kernel { file: self.file.into(), kernel: self.kernel.into(), entries });
        };
        let texts = entry.params.iter().map(|param| format!("{} {}: {} bytes", param.kind, param.name, param.bytes));
        let parameters = texts.collect::<Vec<_>>().join(", ");
        let wrong =
            |what| Err(TrialError::Arguments { kernel: self.kernel.into(), parameters: parameters.clone(), what });
        if entry.params.len() != self.arguments.len() {
            return wrong(format!("{} arguments were given", self.arguments.len()));
        }
        let (mut places, mut end) = (Vec::new(), 0usize);
        for (param, argument) in entry.params.iter().zip(&self.arguments) {
            let bytes = argument.bytes();
            if bytes != param.bytes {
                let fields = match argument {
                    Argument::Struct(fields) => {
                        format!(", with its fields at {:?}", offsets(fields).collect::<Vec<_>>())
                    }
                    _ => String::new(),
                };
                return wrong(format!("the argument for {} has {bytes} bytes{fields}", param.name));
            }
            let offset = end.next_multiple_of(param.align.max(1));
            places.push(offset);
            end = offset + bytes;
        }
        Ok((places, end))
    }

    fn once(&self, places: &[usize], end: usize, options: Options) -> Result<Outcome, TrialError> {
        let device = Emulated::new(options);
        let mut given = Given { device: &device, parameters: vec![0; end], buffers: Vec::new(), names: Vec::new() };
        for (at, (argument, &place)) in self.arguments.iter().zip(places).enumerate() {
            given.give(argument, place, format!("argument {at}"))?;
        }
        let Given { parameters, buffers, names, .. } = given;
        let module = device.load(self.file, self.ptx)?;
        let kernel = device.function(module, self.kernel)?;
        device.allow_shared(kernel, self.launch.shared)?;
        device.launch(kernel, self.launch, &parameters, Stream::DEFAULT)?;
        let contents = buffers.into_iter().map(|(address, bytes)| {
            let mut content = vec![0; bytes];
            device.download(address, &mut content, Stream::DEFAULT).map(|()| content)
        });
        let buffers = contents.collect::<Result<Vec<_>, _>>()?;
        Ok(Outcome { buffers, names, counters: device.counters(), difference: None })
    }
}

/// Arguments on their way to a launch.
struct Given<'d> {
    device: &'d Emulated,
    /// The parameter block.
    parameters: Vec<u8>,
    buffers: Vec<(Address, usize)>,
    names: Vec<String>,
}

impl Given<'_> {
    /// Writes an argument into the parameter block and makes the buffers it points to.
    fn give(&mut self, argument: &Argument, place: usize, name: String) -> Result<(), DriverError> {
        let bytes = match argument {
            Argument::Value(bytes) => {
                self.parameters[place..place + bytes.len()].copy_from_slice(bytes);
                return Ok(());
            }
            Argument::Struct(fields) => {
                let mut fields = offsets(fields).zip(fields).enumerate();
                return fields
                    .try_for_each(|(at, (offset, field))| self.give(field, place + offset, format!("{name}.{at}")));
            }
            Argument::Buffer(bytes) => bytes.len(),
            Argument::Uninitialized(bytes) => *bytes,
        };
        let address = self.device.allocate(bytes as u64)?;
        self.device.label(address, &name);
        if let Argument::Buffer(bytes) = argument {
            self.device.upload(address, bytes, Stream::DEFAULT)?;
        }
        self.parameters[place..place + size_of::<Address>()].copy_from_slice(&address.0.to_le_bytes());
        self.buffers.push((address, bytes));
        self.names.push(name);
        Ok(())
    }
}

fn differs(first: &[Vec<u8>], other: &[Vec<u8>], seed: u64) -> Option<Difference> {
    first.iter().zip(other).enumerate().find_map(|(buffer, (a, b))| {
        let byte = a.iter().zip(b).position(|(a, b)| a != b)?;
        Some(Difference { seed, buffer, byte })
    })
}
