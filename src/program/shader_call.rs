//! A dispatch of a shader as data: what an op's `wgsl.rs` says is to be done, without a device.

use super::device::{DeviceBuffer, ShaderIo, count};
use super::op::Misfit;
use crate::base::DType;
use crate::kernels::shaders;

/// Workgroups along one dimension of a dispatch that every adapter takes.
pub const MOST_GROUPS: u32 = 65535;

/// A range of device memory that a shader sees as one storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its first byte; a multiple of [`ALIGNMENT`](super::device::ALIGNMENT).
    pub address: u64,
    /// How many bytes it has; at least one.
    pub bytes: u64,
}

impl DeviceBuffer {
    /// The whole value, as a shader sees it.
    pub fn binding(self) -> Binding {
        Binding { address: self.address, bytes: (self.spec.shape.elements() * self.dtype.bytes()) as u64 }
    }
}

impl ShaderIo {
    /// Refuses what no shader takes: real numbers that are not f32, and values of 2^31 numbers or more.
    pub fn check(&self) -> Result<(), Misfit> {
        let inputs = (0..self.input_count()).map(|at| ("input", at, self.input(at)));
        let outputs = (0..self.output_count()).map(|at| ("output", at, self.output(at)));
        for (what, at, value) in inputs.chain(outputs) {
            count(&format!("the count of numbers of {what} {at}"), value.spec.shape.elements())?;
            Misfit::unless(!value.spec.is_real() || value.dtype == DType::F32, || {
                let stored = value.dtype.name();
                format!("{what} {at} is {stored}, and shaders store f32 alone; take --precision exact")
            })?;
        }
        Ok(())
    }

    /// Asks for a dispatch with a thread to each of so many numbers; for none if there are none.
    pub fn each(
        &mut self,
        symbol: &'static str,
        numbers: u32,
        bindings: impl Into<Vec<Binding>>,
        parameters: &impl bytemuck::NoUninit,
    ) {
        if numbers > 0 {
            self.launch(ShaderCall::linear(symbol, numbers.div_ceil(256), bindings, parameters));
        }
    }

    /// Asks for the same of the shaders in the form of the kernel of that name, where there are such.
    pub fn in_form(&mut self, kernel: &'static str) {
        self.calls_mut().for_each(|call| call.symbol = shaders::in_form(kernel, call.symbol));
    }

    /// [`workspace`](ShaderIo::workspace) of at least one byte, as a shader sees it.
    pub fn scratch(&mut self, bytes: usize) -> Binding {
        Binding { address: self.workspace(bytes), bytes: bytes as u64 }
    }

    /// A [`constant`](ShaderIo::constant) of at least one byte, as a shader sees it.
    pub fn table(&mut self, bytes: &[u8]) -> Binding {
        Binding { address: self.constant(bytes), bytes: bytes.len() as u64 }
    }
}

/// One dispatch of one entry of a shader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShaderCall {
    /// `FILE.ENTRY`: the shader `kernels/FILE.wgsl` and the entry in it.
    pub symbol: &'static str,
    /// Workgroups along x, y, z.
    pub groups: [u32; 3],
    /// The storage buffers that the entry uses: bindings 1, 2, ... of group 0.
    pub bindings: Vec<Binding>,
    /// The uniform at binding 0 of group 0: the bytes of its `repr(C)` struct.
    pub parameters: Vec<u8>,
}

impl ShaderCall {
    /// A dispatch of `groups` workgroups in a row: along x, and where they are too many for that, along y too. The shader
    /// numbers them by `flat` and does nothing in those that are too many.
    pub fn linear(
        symbol: &'static str,
        groups: u32,
        bindings: impl Into<Vec<Binding>>,
        parameters: &impl bytemuck::NoUninit,
    ) -> Self {
        let rows = groups.div_ceil(MOST_GROUPS).max(1);
        let groups = [groups.div_ceil(rows), rows, 1];
        Self { symbol, groups, bindings: bindings.into(), parameters: bytemuck::bytes_of(parameters).to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::ShaderCall;

    #[test]
    fn rows_of_workgroups_are_folded_where_they_are_too_long() {
        let folded = |groups| ShaderCall::linear("a.b", groups, [], &0u32).groups;
        assert_eq!(folded(1), [1, 1, 1]);
        assert_eq!(folded(65535), [65535, 1, 1]);
        assert_eq!(folded(65536), [32768, 2, 1]);
        assert_eq!(folded(131_071), [43691, 3, 1], "two more than there are to do");
    }
}
