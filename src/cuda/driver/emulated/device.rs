//! The emulated device as a [`Driver`]: handles, streams, graphs, launches.
//!
//! Work is done when it is submitted, whatever the stream. Events tell the time of the emulated clock, one nanosecond
//! per warp instruction, so that they too are the same in every run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{
    Address, Attributes, Driver, DriverError, Event, Function as FunctionHandle, Graph, Launch, Module, Properties,
    Resource, Staging, Stream, TensorMap, TensorMapSpec,
};
use super::checks::Options;
use super::counters::Counters;
use super::decode;
use super::footprint::Footprint;
use super::instr::{Function, SHARED_BASE};
use super::limits;
use super::made::Make;
use super::memory::Memory;
use super::order::Locations;
use super::registers::LANES;
use super::report::Report;
use super::schedule::{Grid, Shape};
use super::staged::Staged;
use super::tensor_map;
use crate::cuda::ptx;

/// Bytes of global memory.
const MEMORY: u64 = 16 << 30;

/// Bytes of one allocation at most: an address holds 32 bits of offset.
const ALLOCATION: u64 = (1 << 32) - 256;

const MULTIPROCESSORS: u32 = 132;

/// A kernel with what was set for it.
struct Loaded {
    module: u64,
    code: Arc<Function>,
    footprint: Footprint,
    allowed_shared: u32,
}

/// Work that a stream can be given.
#[derive(Clone)]
enum Command {
    Copy { to: Address, from: Address, bytes: u64 },
    Fill { to: Address, value: u8, bytes: u64 },
    Launch { function: FunctionHandle, launch: Launch, parameters: Arc<[u8]> },
    Record(Event),
}

#[derive(Default)]
struct State {
    options: Options,
    /// The CTAs of a launch that run, by number; all of them if none.
    sample: Option<Vec<u64>>,
    memory: Memory,
    /// Bytes of memory, if not [`MEMORY`].
    capacity: Option<u64>,
    modules: HashMap<u64, (String, Vec<u64>)>,
    functions: HashMap<u64, Loaded>,
    streams: HashSet<u64>,
    events: HashMap<u64, Option<u64>>,
    graphs: HashMap<u64, Arc<[Command]>>,
    captures: HashMap<u64, Vec<Command>>,
    staged: Staged,
    handles: u64,
    /// Number of the next CTA.
    blocks: u32,
    /// The emulated clock.
    steps: u64,
    counters: Counters,
    report: Option<Report>,
}

/// The emulated device.
///
/// ```
/// # use g2d::cuda::driver::{Driver, Launch, Stream, emulated::Emulated};
/// let device = Emulated::default();
/// let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n
///     .visible .entry seven(.param .u64 to) {
///         .reg .b64 %rd<2>;
///         ld.param.u64 %rd1, [to];
///         st.global.u32 [%rd1], 7;
///         ret;
///     }";
/// let module = device.load("seven.ptx", ptx)?;
/// let seven = device.function(module, "seven")?;
/// let to = device.allocate(4)?;
/// device.launch(seven, Launch::linear(1, 1), &to.0.to_le_bytes(), Stream::DEFAULT)?;
/// let mut bytes = [0; 4];
/// device.download(to, &mut bytes, Stream::DEFAULT)?;
/// assert_eq!(u32::from_le_bytes(bytes), 7);
/// # Ok::<(), g2d::cuda::driver::DriverError>(())
/// ```
#[derive(Default)]
pub struct Emulated {
    state: Mutex<State>,
}

impl Emulated {
    /// A device with these checkers, completion and seed.
    pub fn new(options: Options) -> Self {
        Self { state: Mutex::new(State { options, ..State::default() }) }
    }

    /// Changes how later launches run: CTAs are numbered anew, so that a seed gives the same run as on a new device.
    pub fn set_options(&self, options: Options) {
        let mut state = self.state();
        state.options = options;
        state.forget_launches();
    }

    /// How launches run.
    pub fn options(&self) -> Options {
        self.state().options
    }

    /// Gives the device so many bytes of memory.
    pub fn set_memory(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    /// Of later launches only these CTAs run, numbered with x fastest; all again with none.
    pub fn set_sample(&self, blocks: Option<Vec<u64>>) {
        self.state().sample = blocks;
    }

    /// Memory that holds from the start what `make` makes of it, and takes up only what is touched: it does not count
    /// towards the device's memory.
    pub fn allocate_made(&self, bytes: u64, make: Make) -> Result<Address, DriverError> {
        let mut state = self.state();
        allocatable(bytes)?;
        Ok(Address(state.memory.allocate_made(format!("allocation of {bytes} bytes"), bytes as usize, make)))
    }

    /// The ranges of bytes that were written in an allocation, in order.
    pub fn written(&self, at: Address) -> Vec<std::ops::Range<usize>> {
        self.state().memory.written(at.0)
    }

    /// The ranges of 32-byte sectors of an allocation that the last launch to touch it read, and those that it wrote, in order.
    pub fn sectors(&self, at: Address) -> [Vec<std::ops::Range<usize>>; 2] {
        self.state().memory.sectors(at.0)
    }

    /// Names an allocation for reports; false if none begins there.
    pub fn label(&self, at: Address, name: &str) -> bool {
        let mut state = self.state();
        let segment = state.memory.segment_of(at.0).filter(|_| at.0 as u32 == 0);
        segment.map(|segment| segment.label = name.to_owned()).is_some()
    }

    /// Counters of the last launch, as far as it came.
    pub fn counters(&self) -> Counters {
        self.state().counters
    }

    /// The report of the last launch, if it ended in a fault.
    pub fn report(&self) -> Option<Report> {
        self.state().report.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    fn known(&self, stream: Stream) -> Result<(), DriverError> {
        if stream == Stream::DEFAULT || self.streams.contains(&stream.0) {
            return Ok(());
        }
        Err(DriverError::Invalid(format!("there is no stream {}", stream.0)))
    }

    /// Does work, or records it where the stream is being captured.
    fn submit(&mut self, stream: Stream, command: Command) -> Result<(), DriverError> {
        self.known(stream)?;
        match self.captures.get_mut(&stream.0) {
            Some(commands) => {
                commands.push(command);
                Ok(())
            }
            None => self.perform(&command),
        }
    }

    fn perform(&mut self, command: &Command) -> Result<(), DriverError> {
        match command {
            Command::Copy { to, from, bytes } => {
                let overlap = to.0 < from.0.saturating_add(*bytes) && from.0 < to.0.saturating_add(*bytes);
                let done = if overlap { None } else { self.memory.copy(to.0, from.0, *bytes as usize) };
                done.ok_or_else(|| self.nowhere("copy", &[*to, *from], *bytes))
            }
            Command::Fill { to, value, bytes } => {
                let done = self.memory.fill(to.0, *value, *bytes as usize);
                done.ok_or_else(|| self.nowhere("fill", &[*to], *bytes))
            }
            Command::Record(event) => {
                let now = self.steps;
                let mark = self.events.get_mut(&event.0);
                mark.map(|mark| *mark = Some(now)).ok_or_else(|| no_event(*event))
            }
            Command::Launch { function, launch, parameters } => self.launch(*function, *launch, parameters),
        }
    }

    fn nowhere(&self, what: &str, at: &[Address], bytes: u64) -> DriverError {
        let places: Vec<String> = at.iter().map(|at| self.memory.describe(at.0)).collect();
        DriverError::Invalid(format!("{what} of {bytes} bytes at {}: not within one allocation", places.join(" and ")))
    }

    fn launch(&mut self, function: FunctionHandle, launch: Launch, parameters: &[u8]) -> Result<(), DriverError> {
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
            None => Ok(()),
        }
    }

    /// Numbers for the CTAs of a launch; when they run out, what earlier launches wrote is forgotten.
    fn number_blocks(&mut self, count: u32) -> u32 {
        if self.blocks.max(1).checked_add(count).is_none() {
            self.forget_launches();
        }
        let first = self.blocks.max(1);
        self.blocks = first.saturating_add(count);
        first
    }

    /// Numbers CTAs from the start: nothing that an earlier launch wrote is known as one's any more.
    fn forget_launches(&mut self) {
        self.memory.segments_mut().for_each(super::memory::Segment::forget_launches);
        self.blocks = 0;
    }

    /// Whether so many more bytes can be allocated.
    fn room(&self, bytes: u64) -> Result<(), DriverError> {
        let (allocated, total) = (self.memory.allocated(), self.capacity.unwrap_or(MEMORY));
        if allocated.saturating_add(bytes) > total {
            return Err(DriverError::OutOfMemory { bytes, allocated, total });
        }
        Ok(())
    }

    /// Loads a module: its variables first, since code holds their addresses.
    fn load(&mut self, name: &str, text: &str) -> Result<Module, DriverError> {
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

/// Whether so much can be one allocation.
fn allocatable(bytes: u64) -> Result<(), DriverError> {
    if bytes == 0 || bytes > ALLOCATION {
        let what = "bytes of one allocation (at least 1)".to_owned();
        return Err(DriverError::Limit { what, asked: bytes, allowed: ALLOCATION });
    }
    Ok(())
}

fn no_function(function: FunctionHandle) -> DriverError {
    DriverError::Invalid(format!("there is no function {}", function.0))
}

fn no_event(event: Event) -> DriverError {
    DriverError::Invalid(format!("there is no event {}", event.0))
}

impl Driver for Emulated {
    fn properties(&self) -> Properties {
        Properties {
            name: "emulated device".to_owned(),
            capability: (9, 0),
            multiprocessors: MULTIPROCESSORS,
            memory: self.state().capacity.unwrap_or(MEMORY),
            shared_per_block: limits::SHARED_MOST,
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let mut state = self.state();
        allocatable(bytes)?;
        state.room(bytes)?;
        let label = format!("allocation of {bytes} bytes");
        Ok(Address(state.memory.allocate(label, bytes as usize)))
    }

    fn free(&self, at: Address) -> Result<(), DriverError> {
        if self.state().memory.free(at.0) {
            return Ok(());
        }
        Err(DriverError::Invalid(format!("no allocation begins at {:#x}", at.0)))
    }

    fn upload(&self, to: Address, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.known(stream)?;
        if state.captures.contains_key(&stream.0) {
            return Err(DriverError::Invalid("an upload cannot be captured".to_owned()));
        }
        let done = state.memory.write(to.0, bytes);
        done.ok_or_else(|| state.nowhere("upload", &[to], bytes.len() as u64))
    }

    fn staging(&self, bytes: u64) -> Result<Staging, DriverError> {
        let mut state = self.state();
        let handle = state.handle();
        state.staged.insert(handle, bytes as usize);
        Ok(Staging(handle))
    }

    fn upload_staged(
        &self,
        to: Address,
        staging: Staging,
        at: u64,
        bytes: &[u8],
        stream: Stream,
    ) -> Result<(), DriverError> {
        self.state().staged.copy(staging.0, at, bytes.len(), stream.0)?;
        self.upload(to, bytes, stream)
    }

    fn wait_for(&self, event: Event) -> Result<(), DriverError> {
        let mut state = self.state();
        if !state.events.contains_key(&event.0) {
            return Err(no_event(event));
        }
        state.staged.passed(event.0);
        Ok(())
    }

    fn download(&self, from: Address, bytes: &mut [u8], stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.known(stream)?;
        state.memory.reach(from.0, bytes.len());
        if state.captures.contains_key(&stream.0) {
            return Err(DriverError::Invalid("a download cannot be captured".to_owned()));
        }
        match state.memory.bytes(from.0, bytes.len()) {
            Some(held) => bytes.copy_from_slice(held),
            None => return Err(state.nowhere("download", &[from], bytes.len() as u64)),
        }
        Ok(())
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.state().submit(stream, Command::Copy { to, from, bytes })
    }

    fn fill(&self, to: Address, value: u8, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        self.state().submit(stream, Command::Fill { to, value, bytes })
    }

    fn load(&self, name: &str, ptx: &str) -> Result<Module, DriverError> {
        self.state().load(name, ptx)
    }

    fn function(&self, module: Module, name: &str) -> Result<FunctionHandle, DriverError> {
        let state = self.state();
        let Some((module_name, _)) = state.modules.get(&module.0) else {
            return Err(DriverError::Invalid(format!("there is no module {}", module.0)));
        };
        let mut functions = state.functions.iter();
        let found = functions.find(|(_, loaded)| loaded.module == module.0 && loaded.code.name == name);
        found
            .map(|(handle, _)| FunctionHandle(*handle))
            .ok_or_else(|| DriverError::NoFunction { module: module_name.clone(), name: name.to_owned() })
    }

    fn attributes(&self, function: FunctionHandle) -> Result<Attributes, DriverError> {
        let state = self.state();
        let loaded = state.functions.get(&function.0).ok_or_else(|| no_function(function))?;
        let most = loaded.code.max_threads.map_or(limits::THREADS as u32, |most| most.iter().product());
        Ok(Attributes {
            parameter_bytes: loaded.code.param_bytes as u32,
            static_shared: loaded.code.shared_bytes,
            local: loaded.code.local_bytes,
            registers: 0,
            max_threads: most,
        })
    }

    fn allow_shared(&self, function: FunctionHandle, bytes: u32) -> Result<(), DriverError> {
        let mut state = self.state();
        let loaded = state.functions.get_mut(&function.0).ok_or_else(|| no_function(function))?;
        let allowed = limits::SHARED_MOST.saturating_sub(loaded.code.shared_bytes);
        if bytes > allowed {
            let what = format!("dynamic shared memory to allow `{}`", loaded.code.name);
            return Err(DriverError::Limit { what, asked: bytes.into(), allowed: allowed.into() });
        }
        loaded.allowed_shared = bytes.max(loaded.allowed_shared);
        Ok(())
    }

    fn launch(
        &self,
        function: FunctionHandle,
        launch: Launch,
        parameters: &[u8],
        stream: Stream,
    ) -> Result<(), DriverError> {
        self.state().submit(stream, Command::Launch { function, launch, parameters: parameters.into() })
    }

    fn tensor_map(&self, spec: &TensorMapSpec) -> Result<TensorMap, DriverError> {
        tensor_map::encode(spec)
    }

    fn stream(&self) -> Result<Stream, DriverError> {
        let mut state = self.state();
        let handle = state.handle();
        state.streams.insert(handle);
        Ok(Stream(handle))
    }

    fn synchronize(&self, stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.known(stream)?;
        state.staged.synchronized(stream.0);
        Ok(())
    }

    fn event(&self) -> Result<Event, DriverError> {
        let mut state = self.state();
        let handle = state.handle();
        state.events.insert(handle, None);
        Ok(Event(handle))
    }

    fn record(&self, event: Event, stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.submit(stream, Command::Record(event))?;
        if !state.captures.contains_key(&stream.0) {
            state.staged.mark(event.0, stream.0);
        }
        Ok(())
    }

    fn wait(&self, stream: Stream, event: Event) -> Result<(), DriverError> {
        let state = self.state();
        state.known(stream)?;
        state.events.get(&event.0).map(|_| ()).ok_or_else(|| no_event(event))
    }

    fn elapsed(&self, start: Event, end: Event) -> Result<f32, DriverError> {
        let state = self.state();
        let passed = |event: Event| match state.events.get(&event.0) {
            Some(Some(at)) => Ok(*at),
            Some(None) => Err(DriverError::Invalid(format!("event {} was never recorded", event.0))),
            None => Err(no_event(event)),
        };
        Ok((passed(end)? as f64 - passed(start)? as f64) as f32 / 1e6)
    }

    fn begin_capture(&self, stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.known(stream)?;
        if stream == Stream::DEFAULT || state.captures.contains_key(&stream.0) {
            let text = format!("stream {} cannot be captured: it is the default one, or being captured", stream.0);
            return Err(DriverError::Invalid(text));
        }
        state.captures.insert(stream.0, Vec::new());
        Ok(())
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph, DriverError> {
        let mut state = self.state();
        let Some(commands) = state.captures.remove(&stream.0) else {
            return Err(DriverError::Invalid(format!("stream {} is not being captured", stream.0)));
        };
        let handle = state.handle();
        state.graphs.insert(handle, commands.into());
        Ok(Graph(handle))
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        let Some(commands) = state.graphs.get(&graph.0).cloned() else {
            return Err(DriverError::Invalid(format!("there is no graph {}", graph.0)));
        };
        commands.iter().try_for_each(|command| state.submit(stream, command.clone()))
    }

    fn destroy(&self, resource: Resource) -> Result<(), DriverError> {
        let mut state = self.state();
        let there = match resource {
            Resource::Stream(stream) => state.streams.remove(&stream.0),
            Resource::Event(event) => state.events.remove(&event.0).is_some(),
            Resource::Graph(graph) => state.graphs.remove(&graph.0).is_some(),
            Resource::Staging(staging) => state.staged.remove(staging.0)?,
            Resource::Module(module) => match state.modules.remove(&module.0) {
                Some((_, variables)) => {
                    state.functions.retain(|_, loaded| loaded.module != module.0);
                    variables.iter().for_each(|at| {
                        state.memory.free(*at);
                    });
                    true
                }
                None => false,
            },
        };
        if there { Ok(()) } else { Err(DriverError::Invalid(format!("there is no {resource:?} to destroy"))) }
    }
}
