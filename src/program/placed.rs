//! A launch of a plan on a device: its values at their addresses, and what its op asks for there.

use super::device::{DeviceBuffer, DeviceIo};
use super::kernel_call::KernelCall;
use super::op::Misfit;
use super::plan::{Buffer, Launch, Plan, SLABS};

/// The values of a launch at their addresses.
#[derive(Debug)]
pub struct Placed<'a> {
    launch: &'a Launch,
    inputs: Vec<DeviceBuffer>,
    outputs: Vec<DeviceBuffer>,
    room: u64,
}

impl<'a> Placed<'a> {
    /// The launch that stands `at` that position, where `address` says that buffers begin.
    pub fn new(plan: &'a Plan, at: usize, address: impl Fn(&Buffer) -> u64) -> Self {
        let launch = &plan.launches[at];
        let placed = |&at: &usize| {
            let buffer = &plan.buffers[at];
            DeviceBuffer { spec: buffer.spec, dtype: buffer.dtype, address: address(buffer) }
        };
        Self {
            launch,
            inputs: launch.inputs.iter().map(placed).collect(),
            outputs: launch.outputs.iter().map(placed).collect(),
            room: launch.workspace.map_or(0, |workspace| address(&plan.buffers[workspace])),
        }
    }

    /// What has to be copied before its kernels run, each as target and source: outputs that start out as an input which
    /// lies elsewhere.
    pub fn copies(&self) -> impl Iterator<Item = [DeviceBuffer; 2]> {
        let overwrites = self.outputs.iter().zip(&self.launch.overwrites);
        overwrites.filter_map(|(&output, overwrite)| match *overwrite {
            Some((input, false)) => Some([output, self.inputs[input]]),
            _ => None,
        })
    }

    /// The calls that `run` asks for. Where there are constants, `upload` puts them on the device and tells their address.
    pub fn calls<C, E>(
        &self,
        run: impl Fn(&mut DeviceIo<C>) -> Result<(), E>,
        upload: impl FnOnce(&[u8]) -> Result<u64, E>,
    ) -> Result<Vec<C>, E> {
        let asked = |constants: u64| {
            let mut io = DeviceIo::new(self.inputs.clone(), self.outputs.clone(), self.room, constants);
            run(&mut io).map(|()| io.finish())
        };
        let made = asked(0)?;
        if made.constants.is_empty() {
            return Ok(made.calls);
        }
        Ok(asked(upload(&made.constants)?)?.calls)
    }
}

/// Bits of an address below the number of its slab, in [`described`].
const SLAB_BITS: u32 = 48;

/// The tensor maps of a launch on CUDA in words, each with the buffer, `name`d, in which its tensor begins: part of what a plan
/// says.
pub(super) fn described(plan: &Plan, at: usize, name: impl Fn(&Buffer) -> String) -> Vec<String> {
    let number = |buffer: &Buffer| SLABS.iter().position(|&slab| slab == buffer.slab).unwrap_or(SLABS.len()) as u64;
    let address = |buffer: &Buffer| (number(buffer) << SLAB_BITS) + buffer.offset as u64;
    let launch = &plan.launches[at];
    let run = |io: &mut DeviceIo<KernelCall>| launch.op.run_cuda(launch.kernel, io);
    let calls = Placed::new(plan, at, address).calls(run, |_| Ok::<u64, Misfit>(0)).unwrap_or_default();
    let used = || launch.inputs.iter().chain(&launch.outputs).chain(&launch.workspace).map(|&at| &plan.buffers[at]);
    let maps = calls.into_iter().flat_map(|call| call.maps);
    let told = maps.map(|(_, map)| {
        let begins = used().find(|buffer| address(buffer) == map.address.0).map_or_else(String::new, &name);
        format!(
            "map of {begins}: {:?} {:?} strides {:?} {:?} swizzle {:?}",
            map.dtype, map.sizes, map.strides, map.window, map.swizzle
        )
    });
    told.collect()
}
