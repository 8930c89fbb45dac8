//! One kernel of one's own under all checkers, in several orders: what `g2d emulate` runs.

use super::{Completion, Counters, Emulated, Options};
use crate::cuda::driver::{Driver, DriverError, Launch, Stream};
use crate::cuda::ptx;

/// What a parameter of the kernel receives.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// These bytes.
    Value(Vec<u8>),
    /// The address of a buffer of its own with these bytes.
    Buffer(Vec<u8>),
    /// The address of a buffer of so many bytes that nobody wrote yet.
    Uninitialized(usize),
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
    /// Seeds to run with, at least one. Seed 0 is the natural order with copies completed late.
    pub seeds: std::ops::Range<u64>,
    /// Warp instructions after which a launch is given up.
    pub limit: Option<u64>,
}

/// What a trial without a fault gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the first seed left in the buffers, in the order of the arguments.
    pub buffers: Vec<Vec<u8>>,
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
        let offsets = self.offsets()?;
        let mut first: Option<Outcome> = None;
        for seed in self.seeds.clone() {
            let completion = if seed == 0 { Completion::Late } else { Completion::Random };
            let (buffers, counters) =
                self.once(&offsets, Options { seed, completion, limit: self.limit, ..Options::default() })?;
            match &mut first {
                None => first = Some(Outcome { buffers, counters, difference: None }),
                Some(first) if first.difference.is_none() => first.difference = differs(&first.buffers, &buffers, seed),
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
        let (mut offsets, mut end) = (Vec::new(), 0usize);
        for (param, argument) in entry.params.iter().zip(&self.arguments) {
            let bytes = if let Argument::Value(bytes) = argument { bytes.len() } else { 8 };
            if bytes != param.bytes {
                return wrong(format!("the argument for {} has {bytes} bytes", param.name));
            }
            let offset = end.next_multiple_of(param.align.max(1));
            offsets.push(offset);
            end = offset + bytes;
        }
        Ok((offsets, end))
    }

    fn once(
        &self,
        (offsets, end): &(Vec<usize>, usize),
        options: Options,
    ) -> Result<(Vec<Vec<u8>>, Counters), TrialError> {
        let device = Emulated::new(options);
        let (mut parameters, mut buffers) = (vec![0; *end], Vec::new());
        for (at, (argument, &offset)) in self.arguments.iter().zip(offsets).enumerate() {
            let bytes = match argument {
                Argument::Value(bytes) => {
                    parameters[offset..offset + bytes.len()].copy_from_slice(bytes);
                    continue;
                }
                Argument::Buffer(bytes) => bytes.len(),
                Argument::Uninitialized(bytes) => *bytes,
            };
            let address = device.allocate(bytes as u64)?;
            device.label(address, &format!("argument {at}"));
            if let Argument::Buffer(bytes) = argument {
                device.upload(address, bytes, Stream::DEFAULT)?;
            }
            parameters[offset..offset + 8].copy_from_slice(&address.0.to_le_bytes());
            buffers.push((address, bytes));
        }
        let module = device.load(self.file, self.ptx)?;
        let kernel = device.function(module, self.kernel)?;
        device.allow_shared(kernel, self.launch.shared)?;
        device.launch(kernel, self.launch, &parameters, Stream::DEFAULT)?;
        let contents = buffers.into_iter().map(|(address, bytes)| {
            let mut content = vec![0; bytes];
            device.download(address, &mut content, Stream::DEFAULT).map(|()| content)
        });
        let contents = contents.collect::<Result<Vec<_>, _>>()?;
        Ok((contents, device.counters()))
    }
}

fn differs(first: &[Vec<u8>], other: &[Vec<u8>], seed: u64) -> Option<Difference> {
    first.iter().zip(other).enumerate().find_map(|(buffer, (a, b))| {
        let byte = a.iter().zip(b).position(|(a, b)| a != b)?;
        Some(Difference { seed, buffer, byte })
    })
}
