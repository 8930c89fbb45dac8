//! [`Gpu`] by the crate `wgpu`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferDescriptor,
    BufferUsages, CommandEncoderDescriptor, ComputePassDescriptor, ComputePipeline, ComputePipelineDescriptor, Device,
    DeviceDescriptor, ExperimentalFeatures, Features, MapMode, MemoryHints, PipelineCompilationOptions, PollType,
    Queue, ShaderModule, ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource,
};

use super::adapter::Checks;
use super::caught::caught;
use super::gpu::{Gpu, GpuError, Recording};
use crate::kernels::Brought;
use crate::kernels::shaders::{self, Offered, PRELUDE, SHADERS, Shader};
use crate::program::device::ALIGNMENT;
use crate::program::{Binding, ShaderCall};

/// Bytes that are copied at a time: a word.
const WORD: u64 = 4;
/// Bytes to which it is found out how much memory is left.
const LEAST: u64 = 1 << 20;

/// An adapter in use.
pub struct Native {
    device: Device,
    queue: Queue,
    piece: u64,
    offered: Offered,
    checks: Checks,
    faults: Arc<Mutex<Faults>>,
    /// Locked throughout every call, so that what is reported meanwhile belongs to it.
    held: Mutex<Held>,
}

/// What the device has reported.
#[derive(Default)]
struct Faults {
    /// The first error that was not yet told.
    error: Option<wgpu::Error>,
    /// Why the device is lost.
    lost: Option<String>,
}

/// What lies on the device.
#[derive(Default)]
struct Held {
    /// By address.
    allocations: BTreeMap<u64, Vec<Buffer>>,
    /// Shaders that do not ship, without the prelude.
    brought: Vec<Shader>,
    modules: HashMap<&'static str, ShaderModule>,
    pipelines: HashMap<&'static str, ComputePipeline>,
    recordings: HashMap<Recording, Vec<Dispatch>>,
    /// The next recording's number.
    next: u64,
}

struct Dispatch {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    groups: [u32; 3],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn invalid(what: String) -> GpuError {
    GpuError::Invalid(what)
}

/// What has to be asked of an adapter for shaders to use what it offers.
pub fn descriptor(offered: Offered) -> DeviceDescriptor<'static> {
    let mut required_features = Features::empty();
    required_features.set(Features::SUBGROUP, offered.subgroups.is_some());
    required_features.set(Features::EXPERIMENTAL_COOPERATIVE_MATRIX, offered.cooperative);
    let experimental_features = match offered.cooperative {
        // SAFETY: wgpu has cooperative matrices as an experiment, which may still have bugs that its validation does not catch. The texts
        // that use them are ours, in workgroup memory alone, and held against the definition of the op wherever tests find an
        // adapter that offers them.
        #[allow(unsafe_code)]
        true => unsafe { ExperimentalFeatures::enabled() },
        false => ExperimentalFeatures::disabled(),
    };
    // Slabs are large and get blocks of their own whatever is asked for; beside them small blocks are enough.
    let memory_hints = MemoryHints::MemoryUsage;
    DeviceDescriptor { required_features, experimental_features, memory_hints, ..DeviceDescriptor::default() }
}

impl Native {
    /// On a device that takes buffers and bindings of so many bytes and offers this.
    pub fn new(device: Device, queue: Queue, (piece, offered): (u64, Offered), checks: Checks) -> Self {
        let faults = Arc::new(Mutex::new(Faults::default()));
        let reported = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&reported).error.get_or_insert(error);
        }));
        let reported = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            let why = if message.is_empty() { format!("{reason:?}") } else { message };
            lock(&reported).lost.get_or_insert(why);
        });
        Self { device, queue, piece, offered, checks, faults, held: Mutex::default() }
    }

    /// What was reported since the last time, made into an error by `of`; a lost device is that and nothing else.
    fn told(&self, of: impl FnOnce(wgpu::Error) -> GpuError) -> Result<(), GpuError> {
        let mut faults = lock(&self.faults);
        let error = faults.error.take();
        match (&faults.lost, error) {
            (Some(why), _) => Err(GpuError::Lost(why.clone())),
            (None, Some(error)) => Err(of(error)),
            (None, None) => Ok(()),
        }
    }

    /// Waits until everything submitted is done. Where a driver tells of a loss then, wgpu panics; a device that is known to
    /// be lost is not asked again.
    fn wait(&self) -> Result<(), GpuError> {
        self.told(|error| invalid(error.to_string()))?;
        let waited = caught(|| self.device.poll(PollType::wait_indefinitely()));
        if let Err(why) = waited.and_then(|waited| waited.map_err(|why| why.to_string())) {
            lock(&self.faults).lost.get_or_insert(format!("wgpu ended with: {why}"));
        }
        self.told(|error| invalid(error.to_string()))
    }

    /// A buffer beside those that are `held`, and others of `beside` bytes.
    fn buffer(&self, held: &Held, beside: u64, bytes: u64, usage: BufferUsages) -> Result<Buffer, GpuError> {
        let buffer = self.created(bytes, usage);
        buffer.map_err(|error| match error {
            GpuError::OutOfMemory { .. } => {
                let taken: u64 = held.allocations.values().flatten().map(Buffer::size).sum();
                GpuError::OutOfMemory { bytes, room: taken + beside + self.left(bytes) }
            }
            other => other,
        })
    }

    fn created(&self, bytes: u64, usage: BufferUsages) -> Result<Buffer, GpuError> {
        let buffer =
            self.device.create_buffer(&BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false });
        self.told(|error| match error {
            wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory { bytes, room: 0 },
            other => invalid(other.to_string()),
        })?;
        Ok(buffer)
    }

    /// Bytes that are left where so many were refused: what is granted of ever smaller halves. All of it is given back.
    fn left(&self, refused: u64) -> u64 {
        let halves = std::iter::successors(Some(refused / 2), |half| Some(half / 2));
        let asked = halves.take_while(|&half| half >= LEAST).map(|half| half / ALIGNMENT * ALIGNMENT);
        // Each is held while the next is asked for.
        let granted: Vec<Buffer> = asked.filter_map(|half| self.created(half, BufferUsages::STORAGE).ok()).collect();
        granted.iter().map(Buffer::size).sum()
    }

    /// The buffer in which `bytes` bytes from that address on lie, rounded up to whole words, and where in it.
    fn find<'a>(&self, held: &'a Held, at: u64, bytes: u64) -> Result<(&'a Buffer, u64, u64), GpuError> {
        let nowhere = || invalid(format!("{bytes} bytes at address {at:#x} are not allocated as one piece"));
        let (&base, buffers) = held.allocations.range(..=at).next_back().ok_or_else(nowhere)?;
        let (piece, offset) = ((at - base) / self.piece, (at - base) % self.piece);
        let bytes = bytes.next_multiple_of(WORD).max(WORD);
        let buffer = buffers.get(piece as usize).filter(|buffer| offset + bytes <= buffer.size());
        buffer.map(|buffer| (buffer, offset, bytes)).ok_or_else(nowhere)
    }

    fn module(&self, name: &str, text: Cow<'_, str>, checks: Checks) -> ShaderModule {
        let descriptor = ShaderModuleDescriptor { label: Some(name), source: ShaderSource::Wgsl(text) };
        match checks {
            Checks::On => self.device.create_shader_module(descriptor),
            // SAFETY: without the checks that wgpu writes into shaders, one that leaves a buffer, divides by zero or never ends does
            // whatever the driver makes of it. The texts are ours and not a user's (`pipeline`), and without the checks, in memory
            // guarded on both sides, each stays within its buffers and gives the same bits (tests/shaders).
            #[allow(unsafe_code)]
            Checks::Off => unsafe {
                self.device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked())
            },
        }
    }

    fn pipeline(&self, held: &mut Held, symbol: &'static str) -> Result<ComputePipeline, GpuError> {
        if let Some(pipeline) = held.pipelines.get(symbol) {
            return Ok(pipeline.clone());
        }
        let refused = |why: String| GpuError::Shader { symbol: symbol.into(), why };
        if let Some(why) = self.offered.lacks(symbol) {
            return Err(refused(why.into()));
        }
        let (entry, checks, module) = match shaders::find(symbol) {
            Some((shader, entry)) => {
                let module = || self.module(shader.name, shader.text.into(), self.checks);
                (entry, self.checks, held.modules.entry(shader.name).or_insert_with(module))
            }
            None => {
                let found = held.brought.iter().find_map(|shader| Some((*shader, shader.entry(symbol)?)));
                let (shader, entry) = found.ok_or_else(|| refused("it does not ship, and no op brings it".into()))?;
                // What somebody else wrote keeps every check.
                let module = || self.module(shader.name, format!("{PRELUDE}{}", shader.text).into(), Checks::On);
                (entry, Checks::On, held.modules.entry(shader.name).or_insert_with(module))
            }
        };
        let pipeline = self.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(symbol),
            layout: None,
            module,
            entry_point: Some(entry),
            compilation_options: PipelineCompilationOptions {
                zero_initialize_workgroup_memory: checks == Checks::On,
                ..PipelineCompilationOptions::default()
            },
            cache: None,
        });
        self.told(|error| refused(error.to_string()))?;
        held.pipelines.insert(symbol, pipeline.clone());
        Ok(pipeline)
    }

    fn dispatch(&self, held: &mut Held, call: &ShaderCall, room: (&Buffer, u64)) -> Result<Dispatch, GpuError> {
        let pipeline = self.pipeline(held, call.symbol)?;
        let (parameters, offset) = room;
        let size = NonZero::new(call.parameters.len() as u64);
        let uniform = BufferBinding { buffer: parameters, offset, size };
        let mut entries = vec![BindGroupEntry { binding: 0, resource: BindingResource::Buffer(uniform) }];
        for (at, &Binding { address, bytes }) in call.bindings.iter().enumerate() {
            if bytes > self.piece {
                let what = format!("bytes of binding {} of {}", at + 1, call.symbol);
                return Err(GpuError::Limit { what, asked: bytes, allowed: self.piece });
            }
            let (buffer, offset, bytes) = self.find(held, address, bytes)?;
            let range = BufferBinding { buffer, offset, size: NonZero::new(bytes) };
            entries.push(BindGroupEntry { binding: at as u32 + 1, resource: BindingResource::Buffer(range) });
        }
        let layout = pipeline.get_bind_group_layout(0);
        let descriptor = BindGroupDescriptor { label: Some(call.symbol), layout: &layout, entries: &entries };
        let bindings = self.device.create_bind_group(&descriptor);
        self.told(|error| GpuError::Shader { symbol: call.symbol.into(), why: error.to_string() })?;
        Ok(Dispatch { pipeline, bindings, groups: call.groups })
    }
}

impl Gpu for Native {
    fn piece(&self) -> u64 {
        self.piece
    }

    fn offered(&self) -> Offered {
        self.offered
    }

    fn allocate(&self, bytes: u64) -> Result<u64, GpuError> {
        let mut held = lock(&self.held);
        let whole = bytes.max(1).next_multiple_of(ALIGNMENT);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let piece = |start: u64| self.buffer(&held, start, self.piece.min(whole - start), usage);
        let starts = (0..whole.div_ceil(self.piece)).map(|at| at * self.piece);
        let buffers = starts.map(piece).collect::<Result<Vec<_>, _>>()?;
        let end = |(base, buffers): (&u64, &Vec<Buffer>)| base + buffers.iter().map(Buffer::size).sum::<u64>();
        let at = held.allocations.last_key_value().map_or(0, end) + ALIGNMENT;
        held.allocations.insert(at, buffers);
        Ok(at)
    }

    fn free(&self, at: u64) {
        lock(&self.held).allocations.remove(&at);
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), GpuError> {
        let held = lock(&self.held);
        let (buffer, offset, whole) = self.find(&held, to, bytes.len() as u64)?;
        if whole == bytes.len() as u64 {
            self.queue.write_buffer(buffer, offset, bytes);
        } else {
            let mut words = bytes.to_vec();
            words.resize(whole as usize, 0);
            self.queue.write_buffer(buffer, offset, &words);
        }
        self.told(|error| invalid(error.to_string()))
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        let held = lock(&self.held);
        let (buffer, offset, whole) = self.find(&held, from, bytes.len() as u64)?;
        let staging = self.buffer(&held, 0, whole, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let mut encoder = self.device.create_command_encoder(&CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, whole);
        self.queue.submit([encoder.finish()]);
        let (sender, mapped) = mpsc::channel();
        // Who waits below outlives the call.
        staging.map_async(MapMode::Read, .., move |result| drop(sender.send(result)));
        self.wait()?;
        let failed = |why: String| invalid(format!("memory of the GPU cannot be read: {why}"));
        mapped.recv().map_err(|why| failed(why.to_string()))?.map_err(|why| failed(why.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|why| failed(why.to_string()))?;
        bytes.copy_from_slice(&view[..bytes.len()]);
        Ok(())
    }

    fn bring(&self, shaders: &'static [Brought]) -> Result<(), GpuError> {
        let mut held = lock(&self.held);
        for &one in shaders {
            match SHADERS.iter().chain(&held.brought).find(|shader| shader.name == one.name) {
                None => held.brought.push(one.into()),
                Some(shader) if shader.text == one.text => {}
                Some(_) => {
                    let why = "another shader has that name; give it another".into();
                    return Err(GpuError::Shader { symbol: one.name.into(), why });
                }
            }
        }
        Ok(())
    }

    fn record(&self, calls: &[ShaderCall]) -> Result<Recording, GpuError> {
        let mut held = lock(&self.held);
        let mut parameters = Vec::new();
        let starts: Vec<u64> = calls
            .iter()
            .map(|call| {
                let start = parameters.len();
                parameters.extend_from_slice(&call.parameters);
                parameters.resize(parameters.len().next_multiple_of(ALIGNMENT as usize), 0);
                start as u64
            })
            .collect();
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let uniforms = self.buffer(&held, 0, (parameters.len() as u64).max(ALIGNMENT), usage)?;
        self.queue.write_buffer(&uniforms, 0, &parameters);
        let dispatches =
            calls.iter().zip(starts).map(|(call, start)| self.dispatch(&mut held, call, (&uniforms, start)));
        let dispatches = dispatches.collect::<Result<Vec<_>, _>>()?;
        let recording = Recording(held.next);
        held.next += 1;
        held.recordings.insert(recording, dispatches);
        Ok(recording)
    }

    fn forget(&self, recording: Recording) {
        lock(&self.held).recordings.remove(&recording);
    }

    fn submit(&self, recordings: &[Recording]) -> Result<(), GpuError> {
        let held = lock(&self.held);
        let mut encoder = self.device.create_command_encoder(&CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
            for recording in recordings {
                let dispatches = held.recordings.get(recording);
                for dispatch in dispatches.ok_or_else(|| invalid(format!("{recording:?} is not there")))? {
                    let [x, y, z] = dispatch.groups;
                    pass.set_pipeline(&dispatch.pipeline);
                    pass.set_bind_group(0, &dispatch.bindings, &[]);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
        self.queue.submit([encoder.finish()]);
        self.told(|error| invalid(error.to_string()))
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        let _held = lock(&self.held);
        self.wait()
    }
}
