//! [`AttentionPool`] on CUDA: `ptx/hand/attention_pool.ptx`, one kernel for each pass.

use bytemuck::{Pod, Zeroable};

use super::AttentionPool;
use crate::base::DType;
use crate::ops::linear::matmul::reduce;
use crate::program::device::{count, exact};
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "blocks";
const TOKENS: &str = "attention_pool_tokens_any_sm80";
const TOKENS_BWD: &str = "attention_pool_tokens_bwd_any_sm80";
const ATTEND: &str = "attention_pool_attend_any_sm80";
const ATTEND_BWD: &str = "attention_pool_attend_bwd_any_sm80";
const THREADS: u32 = 256;
/// Threads that keep a large device busy: as many as 132 multiprocessors hold.
const BUSY: usize = 132 * 2048;
/// Images of a slice of their sum, at least.
const LEAST_SLICE: usize = 16;
/// Tokens whose two numbers fit the shared memory that every device gives.
const MOST_TOKENS: usize = 4096;

/// Parameters of the kernel of `Tokens`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Tokens {
    x: u64,
    positional: u64,
    out: u64,
    cells: u32,
    features: u32,
    groups: u32,
    parts: u32,
    half: u32,
    wide: u32,
}

/// Parameters of the kernel of `TokensBwd`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct TokensGradient {
    dt: u64,
    dx: u64,
    sums: u64,
    images: u32,
    slice: u32,
    tokens: u32,
    features: u32,
    groups: u32,
    parts: u32,
    half: u32,
    wide: u32,
    inverse: f32,
    unused: u32,
}

/// Parameters of the kernel of `Attend`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Attend {
    qkv: u64,
    context: u64,
    map: u64,
    own: u64,
    tokens: u32,
    heads: u32,
    size: u32,
    half: u32,
    wide: u32,
    root: f32,
}

/// Parameters of the kernel of `AttendBwd`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct AttendGradient {
    d_context: u64,
    qkv: u64,
    map: u64,
    own: u64,
    d_qkv: u64,
    tokens: u32,
    heads: u32,
    size: u32,
    flags: u32,
    root: f32,
    unused: u32,
}

/// Whether a value is stored as bf16; if not, it is f32.
fn half(name: &str, buffer: DeviceBuffer) -> Result<bool, Misfit> {
    match buffer.dtype {
        DType::Bf16 => Ok(true),
        DType::F32 => Ok(false),
        other => Err(Misfit::new(format!("{name} is {}, f32 or bf16 is needed", other.name()))),
    }
}

/// Asks for the launches of a pass. Without images or features there is nothing to compute, but for a sum of none.
pub fn run(op: &AttentionPool, io: &mut DeviceIo) -> Result<(), Misfit> {
    let [rows, features] = [io.shape(0).rows(), io.shape(0).last()];
    Misfit::unless(rows > 0 && features > 0, || format!("{} numbers need no launch", io.shape(0)))?;
    match *op {
        AttentionPool::Tokens => tokens(io),
        AttentionPool::TokensBwd { .. } => tokens_bwd(io),
        AttentionPool::Attend { heads, .. } => attend(heads, io),
        AttentionPool::AttendBwd { heads } => attend_bwd(heads, io),
    }
}

/// How features are dealt to threads: groups of four where rows permit it, and blocks of groups.
struct Groups {
    features: u32,
    wide: u32,
    groups: u32,
    parts: u32,
}

impl Groups {
    fn new(features: usize) -> Result<Self, Misfit> {
        let features = count("features", features)?;
        let wide = features.is_multiple_of(4);
        let groups = if wide { features / 4 } else { features };
        Ok(Self { features, wide: u32::from(wide), groups, parts: groups.div_ceil(THREADS) })
    }
}

fn tokens(io: &mut DeviceIo) -> Result<(), Misfit> {
    let (x, out) = (io.input(0), io.output(0));
    let [images, tokens, features] = io.output_dims(0);
    let Groups { features, wide, groups, parts } = Groups::new(features)?;
    count("tokens of all images", images.saturating_mul(tokens))?;
    let parameters = Tokens {
        x: x.address,
        positional: exact("positional", io.input(1))?,
        out: out.address,
        cells: tokens as u32 - 1,
        features,
        groups,
        parts,
        half: u32::from(half("x", x)?),
        wide,
    };
    let blocks = count("blocks", images.saturating_mul(parts as usize))?;
    io.launch(KernelCall::linear(TOKENS, blocks, THREADS, &parameters));
    Ok(())
}

fn tokens_bwd(io: &mut DeviceIo) -> Result<(), Misfit> {
    let (dt, dx, sums) = (io.input(0), io.output(0), io.output(1));
    let [images, tokens, features] = io.dims(0);
    let numbers = tokens.saturating_mul(features);
    let Groups { features, wide, groups, parts } = Groups::new(features)?;
    count("tokens of all images", images.saturating_mul(tokens))?;
    // Shapes alone decide, so that every device adds in the same order.
    let wanted = BUSY.div_ceil(tokens * groups as usize).min(images / LEAST_SLICE).max(1);
    let slice = images.div_ceil(wanted);
    let slices = images.div_ceil(slice);
    let partials = if slices > 1 { io.workspace(4 * slices * numbers) } else { sums.address };
    let parameters = TokensGradient {
        dt: dt.address,
        dx: dx.address,
        sums: partials,
        images: images as u32,
        slice: slice as u32,
        tokens: tokens as u32,
        features,
        groups,
        parts,
        half: u32::from(half("dt", dt)?),
        wide,
        inverse: (1.0 / (tokens - 1) as f64) as f32,
        unused: 0,
    };
    let blocks = count("blocks", slices.saturating_mul(tokens).saturating_mul(parts as usize))?;
    io.launch(KernelCall::linear(TOKENS_BWD, blocks, THREADS, &parameters));
    if slices > 1 {
        io.launch(reduce(partials, sums.address, numbers, slices)?);
    }
    Ok(())
}

/// Blocks of a launch with one for each head of each image, and the size of a head.
fn heads_of(qkv: DeviceBuffer, heads: usize) -> Result<(u32, u32, u32), Misfit> {
    let dims = qkv.spec.shape.dims();
    let (images, tokens, size) = (dims[0], dims[1], dims[2] / 3 / heads);
    Misfit::unless(tokens <= MOST_TOKENS, || format!("{tokens} tokens, at most {MOST_TOKENS} fit shared memory"))?;
    count("tokens of all images", images.saturating_mul(tokens))?;
    count("bytes of a head", size.saturating_mul(4))?;
    Ok((count("heads of all images", images.saturating_mul(heads))?, tokens as u32, size as u32))
}

fn attend(heads: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let qkv = io.input(0);
    let (blocks, tokens, size) = heads_of(qkv, heads)?;
    let parameters = Attend {
        qkv: qkv.address,
        context: io.output(0).address,
        map: io.output(1).address,
        own: io.output(2).address,
        tokens,
        heads: heads as u32,
        size,
        half: u32::from(half("qkv", qkv)?),
        wide: u32::from(size.is_multiple_of(2)),
        root: f64::from(size).sqrt() as f32,
    };
    let call = KernelCall::linear(ATTEND, blocks, THREADS, &parameters);
    io.launch(KernelCall { shared_bytes: 8 * tokens, ..call });
    Ok(())
}

fn attend_bwd(heads: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (d_context, qkv) = (io.input(0), io.input(1));
    let (blocks, tokens, size) = heads_of(qkv, heads)?;
    let flags = [half("qkv", qkv)?, half("d_context", d_context)?, size.is_multiple_of(2)];
    let parameters = AttendGradient {
        d_context: d_context.address,
        qkv: qkv.address,
        map: exact("map", io.input(2))?,
        own: exact("own", io.input(3))?,
        d_qkv: io.output(0).address,
        tokens,
        heads: heads as u32,
        size,
        flags: flags.iter().enumerate().map(|(bit, &flag)| u32::from(flag) << bit).sum(),
        root: f64::from(size).sqrt() as f32,
        unused: 0,
    };
    let call = KernelCall::linear(ATTEND_BWD, blocks, THREADS, &parameters);
    io.launch(KernelCall { shared_bytes: 8 * tokens, ..call });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ATTEND, ATTEND_BWD, Attend, AttendGradient, TOKENS, TOKENS_BWD, Tokens, TokensGradient, run};
    use crate::base::{DType, Spec};
    use crate::ops::attention_pool::AttentionPool;
    use crate::program::device::DeviceCalls;
    use crate::program::{DeviceIo, Misfit, Operation};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Tokens>([TOKENS]);
        crate::kernels::assert_parameters::<TokensGradient>([TOKENS_BWD]);
        crate::kernels::assert_parameters::<Attend>([ATTEND]);
        crate::kernels::assert_parameters::<AttendGradient>([ATTEND_BWD]);
    }

    fn asked(op: AttentionPool, input: Spec) -> Result<DeviceCalls, Misfit> {
        let typed = |spec: Spec| (spec, if spec == input { DType::Bf16 } else { DType::F32 });
        let outputs: Vec<_> = op.infer(&[input])?.specs.into_iter().map(typed).collect();
        let mut io = DeviceIo::unplaced(&[typed(input)], &outputs);
        run(&op, &mut io)?;
        Ok(io.finish())
    }

    #[test]
    fn a_sum_over_many_images_is_cut() {
        let op = AttentionPool::TokensBwd { height: 8, width: 8 };
        let grids = |images| {
            let calls = asked(op, Spec::activation([images, 65, 2048])).unwrap().calls;
            calls.iter().map(|call| call.grid[0]).collect::<Vec<_>>()
        };
        assert_eq!(grids(256), [9 * 65 * 2, 520], "9 slices of 29 images; rows of 512 groups");
        assert_eq!(grids(31), [65 * 2]);
    }

    #[test]
    fn more_tokens_than_shared_memory_holds_are_refused() {
        let refused = |height, width| {
            let op = AttentionPool::Attend { heads: 2, height, width };
            asked(op, Spec::activation([1, height * width + 1, 12])).is_err()
        };
        assert!(!refused(1, 4095) && refused(64, 64));
    }
}
