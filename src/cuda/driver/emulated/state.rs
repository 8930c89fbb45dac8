//! What the emulated device holds, and work that it does: copies, fills, launches.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::{Address, DriverError, Event, Function as FunctionHandle, Launch, Module, Stream};
use super::checks::Options;
use super::counters::Counters;
use super::decode;
use super::footprint::Footprint;
use super::instr::{Function, SHARED_BASE};
use super::limits;
use super::memory::Memory;
use super::order::Locations;
use super::registers::LANES;
use super::report::Report;
use super::schedule::{Grid, Shape};
use super::staged::Staged;
use super::streams::Streams;
use crate::cuda::ptx;

/// Bytes of global memory.
pub(super) const MEMORY: u64 = 16 << 30;

pub(super) const MULTIPROCESSORS: u32 = 132;

/// A kernel with what was set for it.
pub(super) struct Loaded {
    pub(super) module: u64,
    pub(super) code: Arc<Function>,
    pub(super) footprint: Footprint,
    pub(super) allowed_shared: u32,
}

/// Work that a stream can be given.
#[derive(Clone)]
pub(super) enum Command {
    Copy { to: Address, from: Address, bytes: u64 },
    Fill { to: Address, value: u8, bytes: u64 },
    Launch { function: FunctionHandle, launch: Launch, parameters: Arc<[u8]> },
    Record(Event),
}

#[derive(Default)]
pub(super) struct State {
    pub(super) options: Options,
    /// The CTAs of a launch that run, by number; all of them if none.
    pub(super) sample: Option<Vec<u64>>,
    pub(super) memory: Memory,
    /// Bytes of memory, if not [`MEMORY`].
    pub(super) capacity: Option<u64>,
    pub(super) modules: HashMap<u64, (String, Vec<u64>)>,
    pub(super) functions: HashMap<u64, Loaded>,
    pub(super) streams: Streams,
    pub(super) graphs: HashMap<u64, Arc<[Command]>>,
    pub(super) captures: HashMap<u64, Vec<Command>>,
    pub(super) staged: Staged,
    pub(super) handles: u64,
    /// Number of the next CTA.
    pub(super) blocks: u32,
    /// The emulated clock.
    pub(super) steps: u64,
    pub(super) counters: Counters,
    pub(super) report: Option<Report>,
}

impl State {
    pub(super) fn handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// Does work, or records it where the stream is being captured.
    pub(super) fn submit(&mut self, stream: Stream, command: Command) -> Result<(), DriverError> {
        self.streams.known(stream.0)?;
        match self.captures.get_mut(&stream.0) {
            Some(commands) => {
                commands.push(command);
                Ok(())
            }
            None => self.perform(stream, &command),
        }
    }

    pub(super) fn perform(&mut self, stream: Stream, command: &Command) -> Result<(), DriverError> {
        if let Command::Record(event) = command {
            return self.streams.record(event.0, stream.0, self.steps);
        }
        self.streams.begin(stream.0);
        match command {
            Command::Copy { to, from, bytes } => {
                let overlap = to.0 < from.0.saturating_add(*bytes) && from.0 < to.0.saturating_add(*bytes);
                let done = if overlap { None } else { self.memory.copy(to.0, from.0, *bytes as usize) };
                done.ok_or_else(|| self.nowhere("copy", &[*to, *from], *bytes))?;
                self.touch(stream, "a copy", *from, *bytes as usize, false)?;
                self.touch(stream, "a copy", *to, *bytes as usize, true)
            }
            Command::Fill { to, value, bytes } => {
                let done = self.memory.fill(to.0, *value, *bytes as usize);
                done.ok_or_else(|| self.nowhere("fill", &[*to], *bytes))?;
                self.touch(stream, "a fill", *to, *bytes as usize, true)
            }
            Command::Launch { function, launch, parameters } => {
                let launched = self.launch(*function, *launch, parameters)?;
                if !self.streams.several() {
                    return Ok(());
                }
                let kernel = self.functions.get(&function.0).map_or_else(String::new, |held| held.code.name.clone());
                let mut touched = self.memory.touched_in(launched).into_iter();
                touched.try_for_each(|(segment, bytes, writes)| self.meet(stream, &kernel, segment, bytes, writes))
            }
            Command::Record(_) => Ok(()),
        }
    }

    /// Work of a stream, the one that it began last, touches bytes at an address.
    pub(super) fn touch(
        &mut self,
        stream: Stream,
        what: &str,
        at: Address,
        bytes: usize,
        writes: bool,
    ) -> Result<(), DriverError> {
        // As with launches: work of one stream is in order, and is asked of number by number where a plan is sampled.
        if !self.streams.several() {
            return Ok(());
        }
        let Some(spot) = self.memory.spot(at.0, bytes) else { return Ok(()) };
        self.meet(stream, what, spot.segment, spot.offset..spot.offset + bytes, writes)
    }

    /// The same in a segment of memory; a fault if another stream may do what does not go with it at the same time.
    pub(super) fn meet(
        &mut self,
        stream: Stream,
        what: &str,
        segment: usize,
        bytes: Range<usize>,
        writes: bool,
    ) -> Result<(), DriverError> {
        let does = |writes: bool| if writes { "writes" } else { "reads" };
        let Range { start, end } = bytes;
        self.streams.touch(stream.0, segment, bytes, writes).map_err(|other| {
            let label = self.memory.segment(segment).map_or("", |held| held.label.as_str());
            let Range { start: from, end: to } = other.bytes;
            DriverError::Invalid(format!(
                "{what} on stream {} {} bytes {start} to {end} of {label}, of which work on stream {} {} bytes {from} to {to}, and \
                 nothing orders the two: one has to wait for an event of the other's stream",
                stream.0,
                does(writes),
                other.stream,
                does(other.writes)
            ))
        })
    }

    /// A stream begins an upload: its number.
    pub(super) fn begin_upload(&mut self, stream: Stream) -> Result<u64, DriverError> {
        self.streams.known(stream.0)?;
        if self.captures.contains_key(&stream.0) {
            return Err(DriverError::Invalid("an upload cannot be captured".to_owned()));
        }
        Ok(self.streams.begin(stream.0))
    }

    pub(super) fn upload(&mut self, to: Address, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        let done = self.memory.write(to.0, bytes);
        done.ok_or_else(|| self.nowhere("upload", &[to], bytes.len() as u64))?;
        self.touch(stream, "an upload", to, bytes.len(), true)
    }

    pub(super) fn nowhere(&self, what: &str, at: &[Address], bytes: u64) -> DriverError {
        let places: Vec<String> = at.iter().map(|at| self.memory.describe(at.0)).collect();
        DriverError::Invalid(format!("{what} of {bytes} bytes at {}: not within one allocation", places.join(" and ")))
    }

    /// Runs a kernel; the number of its first CTA.
    pub(super) fn launch(
        &mut self,
        function: FunctionHandle,
        launch: Launch,
        parameters: &[u8],
    ) -> Result<u32, DriverError> {
        let Some(loaded) = self.functions.get(&function.0) else { return Err(no_function(function)) };
        let (code, footprint) = (Arc::clone(&loaded.code), loaded.footprint);
        if self.options.checks.limits {
            limits::check_launch(&code, &launch, parameters.len(), loaded.allowed_shared)?;
        }
        let threads = launch.block.iter().try_fold(1u32, |product, extent| product.checked_mul(*extent)).unwrap_or(0);
        let blocks = limits::count_blocks(&code, &launch)?;
        let shared = u64::from(code.shared_bytes) + u64::from(launch.shared);
        let possible = shared <= limits::SHARED_MOST.into() && parameters.len() == code.param_bytes;
        if !possible || threads == 0 || u64::from(threads) > limits::THREADS || blocks == 0 {
            let text = format!("`{}` cannot be launched so: {launch:?}, {} bytes", code.name, parameters.len());
            return Err(DriverError::Invalid(text));
        }
        let threads = threads as usize;
        let end = if launch.shared == 0 { code.shared_end } else { code.dynamic_shared + launch.shared };
        let shape = Shape {
            launch,
            threads,
            warps: threads.div_ceil(LANES),
            shared_bytes: (end - SHARED_BASE) as usize,
            shared_total: code.shared_bytes + launch.shared,
            multiprocessors: MULTIPROCESSORS,
        };
        let first = self.number_blocks(blocks);
        self.memory.begin_launch();
        let mut grid = Grid {
            function: &code,
            options: self.options,
            memory: &mut self.memory,
            params: parameters,
            shape,
            sample: self.sample.as_deref(),
            footprint,
            first,
            counters: Counters::default(),
            locations: Locations::default(),
            steps: self.steps,
            end: self.options.limit.map_or(u64::MAX, |limit| self.steps.saturating_add(limit)),
            changes: 0,
            choices: 0,
        };
        let outcome = grid.run();
        (self.counters, self.steps) = (grid.counters, grid.steps);
        self.report = outcome.err().map(|report| *report);
        match &self.report {
            Some(report) => Err(DriverError::Fault { kernel: report.kernel.clone(), report: report.to_string() }),
            None => Ok(first),
        }
    }

    /// Numbers for the CTAs of a launch; when they run out, what earlier launches wrote is forgotten.
    pub(super) fn number_blocks(&mut self, count: u32) -> u32 {
        if self.blocks.max(1).checked_add(count).is_none() {
            self.forget_launches();
        }
        let first = self.blocks.max(1);
        self.blocks = first.saturating_add(count);
        first
    }

    /// Numbers CTAs from the start: nothing that an earlier launch wrote is known as one's any more.
    pub(super) fn forget_launches(&mut self) {
        self.memory.segments_mut().for_each(super::memory::Segment::forget_launches);
        self.blocks = 0;
    }

    /// Whether so many more bytes can be allocated.
    pub(super) fn room(&self, bytes: u64) -> Result<(), DriverError> {
        let (allocated, total) = (self.memory.allocated(), self.capacity.unwrap_or(MEMORY));
        if allocated.saturating_add(bytes) > total {
            return Err(DriverError::OutOfMemory { bytes, allocated, total });
        }
        Ok(())
    }

    /// Loads a module: its variables first, since code holds their addresses.
    pub(super) fn load(&mut self, name: &str, text: &str) -> Result<Module, DriverError> {
        let failed = |log: String| DriverError::Load { module: name.to_owned(), log };
        let ast = ptx::parse(text).map_err(|error| failed(error.to_string()))?;
        let bytes = ast.variables.iter().filter(|variable| variable.space != "shared");
        let bytes = bytes.fold(0, |sum: u64, variable| sum.saturating_add(variable.bytes as u64));
        self.room(bytes)?;
        let variables = decode::variables(&ast).map_err(|error| failed(error.to_string()))?;
        let mut addresses = HashMap::new();
        for variable in &variables {
            let at = self.memory.allocate(format!("`{}` of {name}", variable.name), variable.bytes.max(1));
            addresses.insert(variable.name.clone(), at);
            self.memory.write(at, &variable.initial);
            if let Some(segment) = self.memory.segment_of(at) {
                segment.constant = variable.constant;
            }
        }
        let decoded = decode::functions(&ast, &|name: &str| addresses.get(name).copied());
        let checked = decoded.map_err(|error| failed(error.to_string())).and_then(|functions| {
            functions.iter().try_for_each(limits::check_static_shared)?;
            if self.options.checks.limits {
                functions.iter().try_for_each(limits::check_parameters)?;
            }
            Ok(functions)
        });
        let functions = match checked {
            Ok(functions) => functions,
            Err(error) => {
                addresses.values().for_each(|at| {
                    self.memory.free(*at);
                });
                return Err(error);
            }
        };
        let module = self.handle();
        self.modules.insert(module, (name.to_owned(), addresses.into_values().collect()));
        for code in functions {
            let (handle, footprint) = (self.handle(), Footprint::of(&code));
            let allowed_shared = limits::SHARED_DEFAULT;
            self.functions.insert(handle, Loaded { module, code: Arc::new(code), footprint, allowed_shared });
        }
        Ok(Module(module))
    }
}

pub(super) fn no_function(function: FunctionHandle) -> DriverError {
    DriverError::Invalid(format!("there is no function {}", function.0))
}
