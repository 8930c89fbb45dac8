//! [`AttentionPool`] in WGSL: `kernels/attention_pool.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::AttentionPool;
use crate::program::device::count;
use crate::program::{DeviceBuffer, Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "heads";
/// Tokens whose numbers fit the workgroup memory that every adapter gives.
const MOST_TOKENS: usize = 3072;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    images: u32,
    tokens: u32,
    heads: u32,
    size: u32,
    root: f32,
}

/// Parameters for tokens of some features, of which each head has a part of the last extent.
fn parameters(tokens: DeviceBuffer, heads: usize, part: usize) -> Parameters {
    let dims = tokens.spec.shape.dims();
    let size = dims[2] / part / heads;
    let root = (size as f64).sqrt() as f32;
    Parameters { images: dims[0] as u32, tokens: dims[1] as u32, heads: heads as u32, size: size as u32, root }
}

/// Asks for the dispatches of a pass. Without features there is nothing to compute, and without images nothing but a sum
/// of none.
pub fn run(op: &AttentionPool, io: &mut ShaderIo) -> Result<(), Misfit> {
    match *op {
        AttentionPool::Tokens => {
            let [x, positional, out] = [io.input(0), io.input(1), io.output(0)];
            let parameters = parameters(out, 1, 1);
            let threads = parameters.images * parameters.size;
            let bindings = [x, positional, out].map(|buffer| buffer.binding());
            io.each("attention_pool.tokens", threads, bindings, &parameters);
            Ok(())
        }
        AttentionPool::TokensBwd { .. } => tokens_bwd(io),
        AttentionPool::Attend { heads, .. } => {
            let [qkv, context, map, own] = [io.input(0), io.output(0), io.output(1), io.output(2)];
            let bindings = [qkv, map, own, context];
            attend(io, "attention_pool.attend", heads, &bindings)
        }
        AttentionPool::AttendBwd { heads } => {
            let [d_context, qkv, map, own] = [0, 1, 2, 3].map(|input| io.input(input));
            let bindings = [qkv, map, own, d_context, io.output(0)];
            attend(io, "attention_pool.attend_bwd", heads, &bindings)
        }
    }
}

fn tokens_bwd(io: &mut ShaderIo) -> Result<(), Misfit> {
    let [dt, dx, d_positional] = [io.input(0), io.output(0), io.output(1)];
    let parameters = parameters(dt, 1, 1);
    Misfit::unless(parameters.images > 0, || "a sum over no images needs a fill".into())?;
    for (symbol, out) in [("attention_pool.cells", dx), ("attention_pool.positions", d_positional)] {
        io.each(symbol, out.spec.shape.elements() as u32, [dt.binding(), out.binding()], &parameters);
    }
    Ok(())
}

/// A pass with a workgroup for each head of each image; the first of the buffers is qkv.
fn attend(io: &mut ShaderIo, symbol: &'static str, heads: usize, buffers: &[DeviceBuffer]) -> Result<(), Misfit> {
    let parameters = parameters(buffers[0], heads, 3);
    let tokens = parameters.tokens as usize;
    Misfit::unless(tokens <= MOST_TOKENS, || format!("{tokens} tokens, at most {MOST_TOKENS} fit workgroup memory"))?;
    if buffers[0].spec.shape.elements() > 0 {
        let groups = count("heads of all images", (parameters.images as usize).saturating_mul(heads))?;
        let bindings: Vec<_> = buffers.iter().map(|buffer| buffer.binding()).collect();
        io.launch(ShaderCall::linear(symbol, groups, bindings, &parameters));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::base::{DType, Spec};
    use crate::ops::attention_pool::AttentionPool;
    use crate::program::{Operation, ShaderIo};

    #[test]
    fn more_tokens_than_workgroup_memory_holds_are_refused() {
        let refused = |height, width| {
            let (op, qkv) = (AttentionPool::Attend { heads: 2, height, width }, [1, height * width + 1, 12]);
            let inputs = [Spec::activation(qkv)];
            let stored = |specs: &[Spec]| specs.iter().map(|&spec| (spec, DType::F32)).collect::<Vec<_>>();
            let outputs = op.infer(&inputs).unwrap().specs;
            run(&op, &mut ShaderIo::unplaced(&stored(&inputs), &stored(&outputs))).is_err()
        };
        assert!(!refused(1, 3071) && refused(64, 48));
    }
}
