//! The emulated device as a [`Driver`]: handles, streams, graphs, launches.
//!
//! Work is done when it is submitted, whatever the stream; what a GPU may do in another order is a fault. Events tell the
//! time of the emulated clock, one nanosecond per warp instruction, so that they too are the same in every run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{
    Address, Attributes, Driver, DriverError, Event, Function as FunctionHandle, Graph, Launch, Module, Properties,
    Resource, Staging, Stream, TensorMap, TensorMapSpec,
};
use super::checks::Options;
use super::counters::Counters;
use super::limits;
use super::made::Make;
use super::report::Report;
use super::state::{Command, MEMORY, MULTIPROCESSORS, State, no_function};
use super::tensor_map;

/// Bytes of one allocation at most: an address holds 32 bits of offset.
const ALLOCATION: u64 = (1 << 32) - 256;

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

/// Whether so much can be one allocation.
fn allocatable(bytes: u64) -> Result<(), DriverError> {
    if bytes == 0 || bytes > ALLOCATION {
        let what = "bytes of one allocation (at least 1)".to_owned();
        return Err(DriverError::Limit { what, asked: bytes, allowed: ALLOCATION });
    }
    Ok(())
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
        let mut state = self.state();
        let spot = state.memory.spot(at.0, 0);
        if state.memory.free(at.0) {
            spot.iter().for_each(|spot| state.streams.forget(spot.segment));
            return Ok(());
        }
        Err(DriverError::Invalid(format!("no allocation begins at {:#x}", at.0)))
    }

    fn free_memory(&self) -> Result<u64, DriverError> {
        let state = self.state();
        Ok(state.capacity.unwrap_or(MEMORY).saturating_sub(state.memory.allocated()))
    }

    fn upload(&self, to: Address, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.begin_upload(stream)?;
        state.upload(to, bytes, stream)?;
        state.streams.waited(stream.0);
        Ok(())
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
        let mut guard = self.state();
        let state = &mut *guard;
        let number = state.begin_upload(stream)?;
        state.staged.copy(staging.0, at, bytes.len(), (stream.0, number), state.streams.host())?;
        state.upload(to, bytes, stream)
    }

    fn wait_for(&self, event: Event) -> Result<(), DriverError> {
        self.state().streams.wait_for(event.0)
    }

    fn download(&self, from: Address, bytes: &mut [u8], stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.streams.known(stream.0)?;
        state.memory.reach(from.0, bytes.len());
        if state.captures.contains_key(&stream.0) {
            return Err(DriverError::Invalid("a download cannot be captured".to_owned()));
        }
        match state.memory.bytes(from.0, bytes.len()) {
            Some(held) => bytes.copy_from_slice(held),
            None => return Err(state.nowhere("download", &[from], bytes.len() as u64)),
        }
        state.streams.begin(stream.0);
        state.touch(stream, "a download", from, bytes.len(), false)?;
        state.streams.waited(stream.0);
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
        state.streams.known(stream.0)?;
        state.streams.waited(stream.0);
        Ok(())
    }

    fn event(&self) -> Result<Event, DriverError> {
        let mut state = self.state();
        let handle = state.handle();
        state.streams.insert_event(handle);
        Ok(Event(handle))
    }

    fn record(&self, event: Event, stream: Stream) -> Result<(), DriverError> {
        self.state().submit(stream, Command::Record(event))
    }

    fn wait(&self, stream: Stream, event: Event) -> Result<(), DriverError> {
        let mut state = self.state();
        state.streams.known(stream.0)?;
        if state.captures.contains_key(&stream.0) {
            return Err(DriverError::Invalid("a wait for an event outside cannot be captured".to_owned()));
        }
        state.streams.wait(stream.0, event.0)
    }

    fn elapsed(&self, start: Event, end: Event) -> Result<f32, DriverError> {
        let state = self.state();
        let passed = |event: Event| state.streams.passed(event.0);
        Ok((passed(end)? as f64 - passed(start)? as f64) as f32 / 1e6)
    }

    fn begin_capture(&self, stream: Stream) -> Result<(), DriverError> {
        let mut state = self.state();
        state.streams.known(stream.0)?;
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
        let mut guard = self.state();
        let state = &mut *guard;
        let there = match resource {
            Resource::Stream(stream) => state.streams.remove(stream.0),
            Resource::Event(event) => state.streams.remove_event(event.0),
            Resource::Graph(graph) => state.graphs.remove(&graph.0).is_some(),
            Resource::Staging(staging) => state.staged.remove(staging.0, state.streams.host())?,
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
