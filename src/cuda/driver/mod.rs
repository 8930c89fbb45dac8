//! The driver interface: everything the engine asks of a CUDA device, as one trait with two implementations.
//!
//! Handles are small numbers, valid for the device that gave them. Work given to one stream is done in order; work on
//! different streams is ordered by events only. Host memory handed to [`Driver::upload`], [`Driver::upload_staged`] and
//! [`Driver::download`] is free again when the call returns. Kernel arguments are one byte buffer in the layout of the kernel's `.param`
//! block (PTX ISA 5.1.6): each argument at the next multiple of its own alignment, which is what `repr(C)` gives.

pub mod emulated;
#[cfg(feature = "cuda")]
pub mod nvidia;
#[cfg(feature = "cuda")]
mod refusal;
mod tensor_map;

pub use crate::program::{Address, Swizzle, TensorMapSpec, TensorType, Window};

macro_rules! handles {
    ($($(#[$meaning:meta])* $name:ident;)*) => {$(
        $(#[$meaning])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    )*};
}

handles! {
    /// A loaded module: the code of one PTX text.
    Module;
    /// A kernel of a loaded module.
    Function;
    /// A queue of work, done in order.
    Stream;
    /// A mark in a stream, with the time at which it was passed.
    Event;
    /// Recorded work that is launched as one.
    Graph;
    /// Page-locked memory of the host, which a device reads without the host's help.
    Staging;
}

impl Stream {
    /// The stream that every device has from the start.
    pub const DEFAULT: Self = Self(0);
}

/// What [`Driver::destroy`] gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A module with all its functions.
    Module(Module),
    /// A stream; what was given to it is finished first.
    Stream(Stream),
    /// An event.
    Event(Event),
    /// A graph.
    Graph(Graph),
    /// Staging memory; every copy from it has to be done.
    Staging(Staging),
}

/// What a device is and allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// The device's own name.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Global memory in bytes.
    pub memory: u64,
    /// Shared memory in bytes that one block may have after [`Driver::allow_shared`].
    pub shared_per_block: u32,
}

/// What the driver knows about a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Attributes {
    /// Bytes of the parameter block; the buffer of a launch has exactly these.
    pub parameter_bytes: u32,
    /// Bytes of shared memory the code declares itself.
    pub static_shared: u32,
    /// Bytes of local memory per thread: arrays and spills.
    pub local: u32,
    /// Registers per thread; 0 where unknown, as on the emulated device, which has as many as the text names.
    pub registers: u32,
    /// Threads per block that the kernel can run with.
    pub max_threads: u32,
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory; above 48 KiB only after [`Driver::allow_shared`].
    pub shared: u32,
}

impl Launch {
    /// One-dimensional: `blocks` blocks of `threads` threads, no dynamic shared memory.
    pub fn linear(blocks: u32, threads: u32) -> Self {
        Self { grid: [blocks, 1, 1], block: [threads, 1, 1], shared: 0 }
    }

    /// The same with this much dynamic shared memory.
    pub fn with_shared(self, bytes: u32) -> Self {
        Self { shared: bytes, ..self }
    }
}

/// An encoded tensor map: opaque, passed to kernels by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct TensorMap(pub [u64; 16]);

/// What a device refuses or reports.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// There is no such device here.
    #[error("no CUDA device: {0}")]
    Absent(String),
    /// Too little device memory.
    #[error("the device has no {bytes} bytes left: {allocated} of {total} are allocated; use a smaller batch")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes allocated already.
        allocated: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// PTX that the device does not take; the text names the line.
    #[error("module `{module}` cannot be loaded: {log}")]
    Load {
        /// Name of the module.
        module: String,
        /// What was found, and where.
        log: String,
    },
    /// A kernel that the module lacks.
    #[error("module `{module}` has no kernel `{name}`")]
    NoFunction {
        /// Name of the module.
        module: String,
        /// Name asked for.
        name: String,
    },
    /// More than the device allows.
    #[error("{what} is {asked}, the device allows {allowed}")]
    Limit {
        /// The quantity, with the kernel where there is one.
        what: String,
        /// What was asked for.
        asked: u64,
        /// The bound.
        allowed: u64,
    },
    /// A handle, address or argument that means nothing to this device.
    #[error("{0}")]
    Invalid(String),
    /// A kernel did what it must not; the text is the whole report.
    #[error("kernel `{kernel}` failed: {report}")]
    Fault {
        /// The kernel.
        kernel: String,
        /// What, where, by whom.
        report: String,
    },
    /// A call of the vendor's driver that failed.
    #[error("{call} failed: {text} ({code})")]
    Call {
        /// Name of the call.
        call: &'static str,
        /// The driver's number.
        code: i32,
        /// The driver's words.
        text: String,
    },
}

/// Bytes that staging memory of `held` bytes does not have.
fn beyond(at: u64, bytes: usize, held: usize) -> DriverError {
    DriverError::Invalid(format!("{bytes} bytes from byte {at} of staging memory, which has {held}"))
}

/// A CUDA device.
///
/// An error of an asynchronous call may be reported by a later call on the same device, as GPUs do; the emulated
/// device reports at once. After a [`DriverError::Fault`] the memory's contents are unspecified.
pub trait Driver: Send + Sync {
    /// What the device is.
    fn properties(&self) -> Properties;

    /// Global memory of `bytes` bytes, at least 256-byte aligned, contents undefined; `bytes` is at least 1.
    fn allocate(&self, bytes: u64) -> Result<Address, DriverError>;

    /// Gives back what [`Self::allocate`] gave.
    fn free(&self, at: Address) -> Result<(), DriverError>;

    /// Bytes of global memory that nobody has allocated.
    fn free_memory(&self) -> Result<u64, DriverError>;

    /// Host to device.
    fn upload(&self, to: Address, bytes: &[u8], stream: Stream) -> Result<(), DriverError>;

    /// Page-locked host memory of so many bytes, at least 1; given back by [`Self::destroy`].
    fn staging(&self, bytes: u64) -> Result<Staging, DriverError>;

    /// Writes bytes into staging memory, from byte `at` on, and gives the stream their copy to the device; does not wait for
    /// it. That part of the staging memory may be written again when the copy is done: when an event recorded behind it has
    /// been awaited ([`Self::wait_for`]), or the stream.
    fn upload_staged(
        &self,
        to: Address,
        staging: Staging,
        at: u64,
        bytes: &[u8],
        stream: Stream,
    ) -> Result<(), DriverError>;

    /// Device to host; returns when the bytes are there.
    fn download(&self, from: Address, bytes: &mut [u8], stream: Stream) -> Result<(), DriverError>;

    /// Device to device; the ranges must not overlap.
    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<(), DriverError>;

    /// Writes one byte value `bytes` times.
    fn fill(&self, to: Address, value: u8, bytes: u64, stream: Stream) -> Result<(), DriverError>;

    /// Loads PTX text under a name for messages.
    fn load(&self, name: &str, ptx: &str) -> Result<Module, DriverError>;

    /// A kernel of a module.
    fn function(&self, module: Module, name: &str) -> Result<Function, DriverError>;

    /// What is known about a kernel.
    fn attributes(&self, function: Function) -> Result<Attributes, DriverError>;

    /// Lets launches of the kernel have up to `bytes` of dynamic shared memory; needed above 48 KiB.
    fn allow_shared(&self, function: Function, bytes: u32) -> Result<(), DriverError>;

    /// Starts a kernel. `parameters` is its whole parameter block, [`Attributes::parameter_bytes`] long.
    fn launch(&self, function: Function, launch: Launch, parameters: &[u8], stream: Stream) -> Result<(), DriverError>;

    /// Encodes a tensor for the copy engine.
    fn tensor_map(&self, spec: &TensorMapSpec) -> Result<TensorMap, DriverError>;

    /// A new stream.
    fn stream(&self) -> Result<Stream, DriverError>;

    /// Waits until the stream's work is done.
    fn synchronize(&self, stream: Stream) -> Result<(), DriverError>;

    /// A new event.
    fn event(&self) -> Result<Event, DriverError>;

    /// Marks this point of the stream.
    fn record(&self, event: Event, stream: Stream) -> Result<(), DriverError>;

    /// Later work of the stream waits for the event.
    fn wait(&self, stream: Stream, event: Event) -> Result<(), DriverError>;

    /// The host waits until the event has passed; not at all if it was never recorded.
    fn wait_for(&self, event: Event) -> Result<(), DriverError>;

    /// Milliseconds between two events that have passed.
    fn elapsed(&self, start: Event, end: Event) -> Result<f32, DriverError>;

    /// From here on, work given to the stream is recorded, not done. The default stream cannot be captured.
    fn begin_capture(&self, stream: Stream) -> Result<(), DriverError>;

    /// Ends the recording; the graph holds it.
    fn end_capture(&self, stream: Stream) -> Result<Graph, DriverError>;

    /// Does the recorded work.
    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<(), DriverError>;

    /// Gives a resource back.
    fn destroy(&self, resource: Resource) -> Result<(), DriverError>;
}
