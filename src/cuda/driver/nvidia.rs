//! The driver interface on NVIDIA's own driver, which is looked for at run time (cudarc, driver API).
//!
//! cudarc panics where the library or one of its functions is missing, so [`Nvidia::open`] asks for both before the
//! first call: the library by name, its functions by the driver's version. Streams do not wait for the default stream,
//! and nothing is tracked: order is what events say.

#![allow(unsafe_code, reason = "calls of the vendor's driver, which is C")]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError as Code};
use cudarc::driver::sys;

use super::refusal::{Versions, explained};
use super::{
    Address, Attributes, Driver, DriverError, Event, Function, Graph, Launch, Module, Properties, Resource, Staging,
    Stream, Swizzle, TensorMap, TensorMapSpec, TensorType, Window, beyond,
};
use crate::kernels::manifest;

/// The first CUDA version whose driver has every function called here (cuEventElapsedTime_v2 is the last to come).
const OLDEST: i32 = 12080;

/// One GPU.
#[derive(Debug)]
pub struct Nvidia {
    device: sys::CUdevice,
    /// The device's primary context, a pointer.
    context: usize,
    properties: Properties,
    /// As the driver tells it.
    version: i32,
    handles: Mutex<Handles>,
}

/// What the handles stand for. The driver's own are pointers, and it does not survive wrong ones.
#[derive(Debug, Default)]
struct Handles {
    last: u64,
    modules: HashMap<u64, Loaded>,
    functions: HashMap<u64, Kernel>,
    streams: HashMap<u64, usize>,
    events: HashMap<u64, usize>,
    graphs: HashMap<u64, usize>,
    /// Address and bytes of page-locked memory.
    staging: HashMap<u64, (usize, usize)>,
}

#[derive(Debug)]
struct Loaded {
    raw: usize,
    name: String,
    /// Bytes of each kernel's parameter block, which the driver does not tell.
    parameter_bytes: HashMap<String, u32>,
}

#[derive(Debug)]
struct Kernel {
    raw: usize,
    module: u64,
    name: String,
    parameter_bytes: u32,
}

impl Handles {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

/// The driver's words for a call that failed.
fn call<T>(call: &'static str, result: Result<T, Code>) -> Result<T, DriverError> {
    result.map_err(|code| {
        let text = code.error_string().map(|text| text.to_string_lossy().into_owned());
        DriverError::Call { call, code: code.0 as i32, text: text.unwrap_or_else(|_| "no text".into()) }
    })
}

/// What a table has under a handle.
fn known<'a, T>(table: &'a HashMap<u64, T>, what: &str, handle: u64) -> Result<&'a T, DriverError> {
    table.get(&handle).ok_or_else(|| DriverError::Invalid(format!("{what} {handle} is not one of this device's")))
}

impl Nvidia {
    /// The device with this number, from 0. [`DriverError::Absent`] where there is no driver, one too old, or no such
    /// device.
    pub fn open(ordinal: u32) -> Result<Self, DriverError> {
        let absent = |why: String| DriverError::Absent(why);
        // SAFETY: loads and unloads the vendor's library, whose initialisers may run anywhere.
        if !unsafe { sys::is_culib_present() } {
            return Err(absent("the NVIDIA driver (libcuda.so.1) is not installed".into()));
        }
        let mut version = 0;
        // SAFETY: writes one integer.
        call("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version) }.result())?;
        if version < OLDEST {
            let dotted = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
            let (has, needs) = (dotted(version), dotted(OLDEST));
            return Err(absent(format!("the NVIDIA driver is one for CUDA {has}, {needs} is needed; update it")));
        }
        result::init().map_err(|code| absent(code.to_string()))?;
        let count = call("cuDeviceGetCount", result::device::get_count())?;
        let number = i32::try_from(ordinal).ok().filter(|&number| number < count);
        let number = number.ok_or_else(|| absent(format!("device {ordinal} was asked for, there are {count}")))?;
        let device = call("cuDeviceGet", result::device::get(number))?;
        let properties = properties(device)?;
        // SAFETY: the device is one that the driver gave; the context is released when this is dropped.
        let context = call("cuDevicePrimaryCtxRetain", unsafe { result::primary_ctx::retain(device) })? as usize;
        Ok(Self { device, context, properties, version, handles: Mutex::default() })
    }

    /// Makes the context that of the calling thread, as every call needs, and gives the tables.
    fn enter(&self) -> Result<MutexGuard<'_, Handles>, DriverError> {
        // SAFETY: the context is retained as long as `self` lives.
        call("cuCtxSetCurrent", unsafe { result::ctx::set_current(self.context as sys::CUcontext) })?;
        Ok(self.handles.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The driver's stream, with the context entered.
    fn at(&self, stream: Stream) -> Result<sys::CUstream, DriverError> {
        let handles = self.enter()?;
        match stream {
            Stream::DEFAULT => Ok(null_mut()),
            Stream(handle) => Ok(*known(&handles.streams, "stream", handle)? as sys::CUstream),
        }
    }

    /// The driver's event.
    fn mark(&self, event: Event) -> Result<sys::CUevent, DriverError> {
        Ok(*known(&self.enter()?.events, "event", event.0)? as sys::CUevent)
    }

    /// The driver's kernel and the size of its parameter block.
    fn kernel(&self, function: Function) -> Result<(sys::CUfunction, u32, String), DriverError> {
        let handles = self.enter()?;
        let kernel = known(&handles.functions, "function", function.0)?;
        Ok((kernel.raw as sys::CUfunction, kernel.parameter_bytes, kernel.name.clone()))
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        // SAFETY: retained in `open`; nobody else has handles of this device. What it says does not matter any more.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

fn properties(device: sys::CUdevice) -> Result<Properties, DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let get = |attribute| {
        // SAFETY: the device is one that the driver gave.
        let value = call("cuDeviceGetAttribute", unsafe { result::device::get_attribute(device, attribute) })?;
        Ok::<u32, DriverError>(value.unsigned_abs())
    };
    Ok(Properties {
        name: call("cuDeviceGetName", result::device::get_name(device))?,
        capability: (
            get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        // SAFETY: as above.
        memory: call("cuDeviceTotalMem", unsafe { result::device::total_mem(device) })? as u64,
        shared_per_block: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
    })
}

/// Loads a text; if it is refused, the driver's code and what its compiler says.
fn load(text: &CString) -> Result<sys::CUmodule, (Code, String)> {
    let mut log = vec![0u8; 8192];
    let mut options =
        [sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    // A size is passed in the place of a pointer.
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut module = null_mut();
    // SAFETY: the text ends with a zero; the driver writes the module and at most `log.len()` bytes of the log.
    let code = unsafe {
        sys::cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    code.result().map(|()| module).map_err(|code| {
        let said = log.split(|&byte| byte == 0).next().unwrap_or_default();
        (code, String::from_utf8_lossy(said).trim().to_owned())
    })
}

impl Driver for Nvidia {
    fn properties(&self) -> Properties {
        self.properties.clone()
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let _entered = self.enter()?;
        // SAFETY: the context is entered.
        match unsafe { result::malloc_sync(bytes as usize) } {
            Ok(address) => Ok(Address(address)),
            Err(Code(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                let (free, total) = call("cuMemGetInfo", result::mem_get_info())?;
                let (allocated, total) = ((total - free) as u64, total as u64);
                Err(DriverError::OutOfMemory { bytes, allocated, total })
            }
            Err(code) => call("cuMemAlloc", Err(code)),
        }
    }

    fn free(&self, at: Address) -> Result<(), DriverError> {
        let _entered = self.enter()?;
        // SAFETY: the driver knows its allocations and refuses other addresses.
        call("cuMemFree", unsafe { result::free_sync(at.0) })
    }

    fn free_memory(&self) -> Result<u64, DriverError> {
        let _entered = self.enter()?;
        Ok(call("cuMemGetInfo", result::mem_get_info())?.0 as u64)
    }

    fn upload(&self, to: Address, bytes: &[u8], stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        // SAFETY: the driver checks the device's range; the host's bytes stay borrowed until the stream has passed.
        call("cuMemcpyHtoDAsync", unsafe { result::memcpy_htod_async(to.0, bytes, on) })?;
        // SAFETY: the stream is one of this device's.
        call("cuStreamSynchronize", unsafe { result::stream::synchronize(on) })
    }

    fn staging(&self, bytes: u64) -> Result<Staging, DriverError> {
        let mut handles = self.enter()?;
        // SAFETY: the context is entered.
        let raw = call("cuMemHostAlloc", unsafe { result::malloc_host(bytes as usize, 0) })? as usize;
        let handle = handles.next();
        handles.staging.insert(handle, (raw, bytes as usize));
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
        let on = self.at(stream)?;
        let handles = self.enter()?;
        let (raw, held) = *known(&handles.staging, "staging memory", staging.0)?;
        let end = (at as usize).checked_add(bytes.len()).filter(|&end| end <= held);
        end.ok_or_else(|| beyond(at, bytes.len(), held))?;
        // SAFETY: the bytes lie in an allocation of the driver that the lock on the handles keeps; whose copy is under way is
        // not written, as the caller promises, and if it is, the device gets other numbers.
        let staged = unsafe {
            let staged = (raw as *mut u8).add(at as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), staged, bytes.len());
            std::slice::from_raw_parts(staged, bytes.len())
        };
        // SAFETY: the driver checks the device's range; page-locked memory stays until it is destroyed.
        call("cuMemcpyHtoDAsync", unsafe { result::memcpy_htod_async(to.0, staged, on) })
    }

    fn download(&self, from: Address, bytes: &mut [u8], stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        // SAFETY: the driver checks the device's range; the host's bytes stay borrowed until the stream has passed.
        call("cuMemcpyDtoHAsync", unsafe { result::memcpy_dtoh_async(bytes, from.0, on) })?;
        // SAFETY: the stream is one of this device's.
        call("cuStreamSynchronize", unsafe { result::stream::synchronize(on) })
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        // SAFETY: device memory alone, whose ranges the driver checks.
        call("cuMemcpyDtoDAsync", unsafe { result::memcpy_dtod_async(to.0, from.0, bytes as usize, on) })
    }

    fn fill(&self, to: Address, value: u8, bytes: u64, stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        // SAFETY: device memory alone, whose range the driver checks.
        call("cuMemsetD8Async", unsafe { result::memset_d8_async(to.0, value, bytes as usize, on) })
    }

    fn load(&self, name: &str, ptx: &str) -> Result<Module, DriverError> {
        let fault = |log: String| DriverError::Load { module: name.to_owned(), log };
        let entries = manifest::entries(ptx).map_err(|error| fault(error.to_string()))?;
        let parameter_bytes = entries.into_iter().map(|entry| (entry.symbol, entry.parameter_bytes as u32)).collect();
        let text = CString::new(ptx).map_err(|_| fault("the text has a zero byte".into()))?;
        let mut handles = self.enter()?;
        let versions = Versions { driver: self.version, capability: self.properties.capability };
        let refused =
            |(code, log): (Code, String)| fault(explained(ptx, versions).unwrap_or_else(|| format!("{code} {log}")));
        let raw = load(&text).map_err(refused)? as usize;
        let handle = handles.next();
        handles.modules.insert(handle, Loaded { raw, name: name.to_owned(), parameter_bytes });
        Ok(Module(handle))
    }

    fn function(&self, module: Module, name: &str) -> Result<Function, DriverError> {
        let mut handles = self.enter()?;
        let loaded = known(&handles.modules, "module", module.0)?;
        let absent = || DriverError::NoFunction { module: loaded.name.clone(), name: name.to_owned() };
        let parameter_bytes = *loaded.parameter_bytes.get(name).ok_or_else(absent)?;
        let symbol = CString::new(name).map_err(|_| absent())?;
        // SAFETY: the module is loaded, the name ends with a zero.
        let raw = unsafe { result::module::get_function(loaded.raw as sys::CUmodule, symbol) };
        let raw = call("cuModuleGetFunction", raw)? as usize;
        let handle = handles.next();
        handles.functions.insert(handle, Kernel { raw, module: module.0, name: name.to_owned(), parameter_bytes });
        Ok(Function(handle))
    }

    fn attributes(&self, function: Function) -> Result<Attributes, DriverError> {
        use sys::CUfunction_attribute_enum as Attribute;
        let (kernel, parameter_bytes, _) = self.kernel(function)?;
        let get = |attribute| {
            // SAFETY: the kernel's module is loaded.
            let value = unsafe { result::function::get_function_attribute(kernel, attribute) };
            Ok::<u32, DriverError>(call("cuFuncGetAttribute", value)?.unsigned_abs())
        };
        Ok(Attributes {
            parameter_bytes,
            static_shared: get(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            local: get(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            registers: get(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            max_threads: get(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }

    fn allow_shared(&self, function: Function, bytes: u32) -> Result<(), DriverError> {
        let (kernel, _, name) = self.kernel(function)?;
        let allowed = u64::from(self.properties.shared_per_block);
        if u64::from(bytes) > allowed {
            let what = format!("dynamic shared memory of `{name}` in bytes");
            return Err(DriverError::Limit { what, asked: u64::from(bytes), allowed });
        }
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the kernel's module is loaded.
        let set = unsafe { result::function::set_function_attribute(kernel, attribute, bytes as i32) };
        call("cuFuncSetAttribute", set)
    }

    fn launch(&self, function: Function, launch: Launch, parameters: &[u8], stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        let (kernel, wanted, name) = self.kernel(function)?;
        if parameters.len() != wanted as usize {
            let got = parameters.len();
            return Err(DriverError::Invalid(format!("kernel `{name}` takes {wanted} bytes of parameters, got {got}")));
        }
        let (Launch { grid, block, shared }, mut bytes) = (launch, parameters.len());
        let mut extra = [
            sys::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT as usize as *mut c_void,
            parameters.as_ptr().cast_mut().cast(),
            sys::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT as usize as *mut c_void,
            (&raw mut bytes).cast(),
            sys::CU_LAUNCH_PARAM_END_AS_INT as usize as *mut c_void,
        ];
        let extra = if parameters.is_empty() { null_mut() } else { extra.as_mut_ptr() };
        let ([gx, gy, gz], [bx, by, bz]) = (grid, block);
        // SAFETY: the driver copies the parameters, of the kernel's own size, before it returns and does not write
        // them. What the kernel does with addresses among them is confined to the device.
        let code =
            unsafe { sys::cuLaunchKernel(kernel, gx, gy, gz, bx, by, bz, shared, on, null_mut(), extra) }.result();
        call("cuLaunchKernel", code)
    }

    fn tensor_map(&self, spec: &TensorMapSpec) -> Result<TensorMap, DriverError> {
        let _entered = self.enter()?;
        encode(spec)
    }

    fn stream(&self) -> Result<Stream, DriverError> {
        let mut handles = self.enter()?;
        let raw = call("cuStreamCreate", result::stream::create(result::stream::StreamKind::NonBlocking))? as usize;
        let handle = handles.next();
        handles.streams.insert(handle, raw);
        Ok(Stream(handle))
    }

    fn synchronize(&self, stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        // SAFETY: the stream is one of this device's.
        call("cuStreamSynchronize", unsafe { result::stream::synchronize(on) })
    }

    fn event(&self) -> Result<Event, DriverError> {
        let mut handles = self.enter()?;
        let raw = call("cuEventCreate", result::event::create(sys::CUevent_flags_enum::CU_EVENT_DEFAULT))? as usize;
        let handle = handles.next();
        handles.events.insert(handle, raw);
        Ok(Event(handle))
    }

    fn record(&self, event: Event, stream: Stream) -> Result<(), DriverError> {
        let (event, on) = (self.mark(event)?, self.at(stream)?);
        // SAFETY: both are this device's.
        call("cuEventRecord", unsafe { result::event::record(event, on) })
    }

    fn wait(&self, stream: Stream, event: Event) -> Result<(), DriverError> {
        let (event, on) = (self.mark(event)?, self.at(stream)?);
        let flags = sys::CUevent_wait_flags_enum::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both are this device's.
        call("cuStreamWaitEvent", unsafe { result::stream::wait_event(on, event, flags) })
    }

    fn wait_for(&self, event: Event) -> Result<(), DriverError> {
        let event = self.mark(event)?;
        // SAFETY: it is this device's.
        call("cuEventSynchronize", unsafe { result::event::synchronize(event) })
    }

    fn elapsed(&self, start: Event, end: Event) -> Result<f32, DriverError> {
        let (start, end) = (self.mark(start)?, self.mark(end)?);
        // SAFETY: both are this device's.
        call("cuEventElapsedTime", unsafe { result::event::elapsed(start, end) })
    }

    fn begin_capture(&self, stream: Stream) -> Result<(), DriverError> {
        if stream == Stream::DEFAULT {
            return Err(DriverError::Invalid("the default stream cannot be captured; take another one".into()));
        }
        let on = self.at(stream)?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is one of this device's.
        call("cuStreamBeginCapture", unsafe { result::stream::begin_capture(on, mode) })
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph, DriverError> {
        let on = self.at(stream)?;
        // SAFETY: the stream is one of this device's; the recording is given back once it has been instantiated.
        let instantiated = unsafe {
            let recorded = call("cuStreamEndCapture", result::stream::end_capture(on))?;
            let mut graph = null_mut();
            let code = sys::cuGraphInstantiateWithFlags(&mut graph, recorded, 0).result();
            call("cuGraphDestroy", result::graph::destroy(recorded))?;
            call("cuGraphInstantiate", code.map(|()| graph))?
        };
        let mut handles = self.enter()?;
        let handle = handles.next();
        handles.graphs.insert(handle, instantiated as usize);
        Ok(Graph(handle))
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<(), DriverError> {
        let on = self.at(stream)?;
        let graph = *known(&self.enter()?.graphs, "graph", graph.0)? as sys::CUgraphExec;
        // SAFETY: both are this device's.
        call("cuGraphLaunch", unsafe { result::graph::launch(graph, on) })
    }

    fn destroy(&self, resource: Resource) -> Result<(), DriverError> {
        let mut handles = self.enter()?;
        let unknown = || DriverError::Invalid(format!("{resource:?} is not one of this device's"));
        // What is destroyed here is this device's, and its handle is forgotten before the driver is told.
        match resource {
            Resource::Module(Module(handle)) => {
                let module = handles.modules.remove(&handle).ok_or_else(unknown)?;
                handles.functions.retain(|_, kernel| kernel.module != handle);
                // SAFETY: it is this device's, and no handle names it any more.
                call("cuModuleUnload", unsafe { result::module::unload(module.raw as sys::CUmodule) })
            }
            Resource::Stream(Stream(handle)) => {
                let raw = handles.streams.remove(&handle).ok_or_else(unknown)? as sys::CUstream;
                // SAFETY: it is this device's, and no handle names it any more.
                call("cuStreamSynchronize", unsafe { result::stream::synchronize(raw) })?;
                // SAFETY: it is this device's, and no handle names it any more.
                call("cuStreamDestroy", unsafe { result::stream::destroy(raw) })
            }
            Resource::Event(Event(handle)) => {
                let raw = handles.events.remove(&handle).ok_or_else(unknown)? as sys::CUevent;
                // SAFETY: it is this device's, and no handle names it any more.
                call("cuEventDestroy", unsafe { result::event::destroy(raw) })
            }
            Resource::Graph(Graph(handle)) => {
                let raw = handles.graphs.remove(&handle).ok_or_else(unknown)? as sys::CUgraphExec;
                // SAFETY: it is this device's, and no handle names it any more.
                call("cuGraphExecDestroy", unsafe { result::graph::exec_destroy(raw) })
            }
            Resource::Staging(Staging(handle)) => {
                let (raw, _) = handles.staging.remove(&handle).ok_or_else(unknown)?;
                // SAFETY: it is this device's, and no handle names it any more.
                call("cuMemFreeHost", unsafe { result::free_host(raw as *mut c_void) })
            }
        }
    }
}

/// Encodes a tensor map (cuTensorMapEncodeTiled, cuTensorMapEncodeIm2col).
fn encode(spec: &TensorMapSpec) -> Result<TensorMap, DriverError> {
    // The driver reads as many numbers as the rank says, and gives no reason when it refuses them.
    spec.check()?;
    let rank = spec.sizes.len();
    let (dtype, swizzle) = (element(spec.dtype), permutation(spec.swizzle));
    let interleave = sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE;
    let promotion = sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
    let outside = sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    let (address, dimensions) = (spec.address.0 as *mut c_void, rank as u32);
    let (sizes, strides, steps) = (spec.sizes.as_ptr(), spec.strides.as_ptr(), spec.steps.as_ptr());
    // SAFETY: the lists are as long as the rank says, which was checked; the address is recorded, not followed.
    let code = unsafe {
        match &spec.window {
            Window::Tile(sides) => sys::cuTensorMapEncodeTiled(
                &mut map,
                dtype,
                dimensions,
                address,
                sizes,
                strides,
                sides.as_ptr(),
                steps,
                interleave,
                swizzle,
                promotion,
                outside,
            ),
            Window::Im2col { lower, upper, channels, pixels } => sys::cuTensorMapEncodeIm2col(
                &mut map,
                dtype,
                dimensions,
                address,
                sizes,
                strides,
                lower.as_ptr(),
                upper.as_ptr(),
                *channels,
                *pixels,
                steps,
                interleave,
                swizzle,
                promotion,
                outside,
            ),
        }
    };
    call("cuTensorMapEncode", code.result())?;
    Ok(TensorMap(map.opaque))
}

fn element(dtype: TensorType) -> sys::CUtensorMapDataType {
    match dtype {
        TensorType::U8 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_UINT8,
        TensorType::Bf16 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        TensorType::F16 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        TensorType::F32 => sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
    }
}

fn permutation(swizzle: Swizzle) -> sys::CUtensorMapSwizzle {
    match swizzle {
        Swizzle::None => sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::B32 => sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::B64 => sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::B128 => sys::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B,
    }
}
