//! [`Conv2d`] of images of few channels on CUDA: `kernels/conv2d_halo.cu`, which brings a tile of the image with its margin into
//! shared memory once, for all taps.

use bytemuck::{Pod, Zeroable};

use super::geometry::Geometry;
use super::walk::{Axis, Told, sides};
use super::{Conv2d, Pass};
use crate::base::DType;
use crate::ops::linear::matmul::reduce;
use crate::ops::linear::predicted::{CLOCK, ISSUED, MULTIPROCESSORS, SYNCHRONOUS, TENSOR, Work};
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit, Operation};

/// Name of the kernels within the op.
pub const KERNEL: &str = "halo";
/// Of pixels, for at most 16 columns and for more; and of weights.
const WINDOWS: [&str; 2] = ["conv2d_halo_windows_bf16_512x16_sm80", "conv2d_halo_windows_bf16_256x32_sm80"];
const WEIGHTS: &str = "conv2d_halo_weights_bf16_16x16_sm80";
/// Columns of a tile of each.
const COLUMNS: [usize; 2] = [16, 32];
/// Windows of a tile of each.
const TILE: [usize; 2] = [512, 256];
/// Threads of a block.
pub const THREADS: u32 = 256;
/// Places of the walk in a row of a tile.
const ACROSS: usize = 16;
/// Channels that are multiplied at a time, and bytes of them.
const CHUNK: usize = 16;
const LINE: usize = 32;
/// Side of the kernel of a gradient by weights, and bytes of the sums of 16 channels by 16 outputs of one tap.
const SIDE: usize = 3;
const SUMS: usize = 4 * 16 * 20;
/// Tiles of a gradient by weights below which a block is not worth its partial sums.
pub const LEAST_RUN: u32 = 4;
/// Blocks, of which two are on each multiprocessor.
pub const BLOCKS: usize = 2 * MULTIPROCESSORS;
/// Bytes of shared memory that a block can have on every GPU that runs texts for sm_80.
const SHARED: usize = 99 << 10;

/// An image that is read by way of shared memory.
#[derive(Clone, Copy, Pod, Zeroable, Debug)]
#[repr(C)]
struct Picture {
    at: u64,
    height: u32,
    width: u32,
    channels: u32,
    chunks: u32,
    step: u32,
    rows: u32,
    cols: u32,
    split: u32,
    pitch: u32,
    vector: u32,
}

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable, Debug)]
#[repr(C)]
struct Parameters {
    image: Picture,
    skip: Picture,
    dy: Picture,
    weights: u64,
    bias: u64,
    out: u64,
    down: Told,
    across: Told,
    classes: u32,
    tile_rows: u32,
    tiles_down: u32,
    tiles_across: u32,
    tiles: u32,
    run: u32,
    columns: u32,
    kernel: u32,
    weight_column: u32,
    weight_tap: u32,
    weight_channel: u32,
    half: u32,
    vector_out: u32,
    block_chunks: u32,
    block_groups: u32,
    weights_at: u32,
    stages_at: u32,
    stage: u32,
    chunk_bytes: u32,
    dy_bytes: u32,
}

impl Picture {
    /// Of an image of these rows, columns and channels, of which a tile holds what windows at `places` reach, `step` apart and
    /// `reach` far, down and across.
    fn new(at: u64, [height, width, channels]: [usize; 3], places: [usize; 2], step: usize, reach: [usize; 2]) -> Self {
        let [rows, cols] = [0, 1].map(|axis| (places[axis] - 1) * step + reach[axis] + 1);
        // Two lines more than a multiple of four, so that even and odd columns side by side fill different banks.
        let split = (cols.div_ceil(2) + 1) / 4 * 4 + 2;
        Self {
            at,
            height: height as u32,
            width: width as u32,
            channels: channels as u32,
            chunks: channels.div_ceil(CHUNK) as u32,
            step: step as u32,
            rows: rows as u32,
            cols: cols as u32,
            split: split as u32,
            pitch: if step == 2 { 2 * split } else { cols } as u32,
            vector: u32::from(channels.is_multiple_of(8)),
        }
    }

    /// With a multiple of eight lines from row to row, in which halves are exchanged alike.
    fn even(self) -> Self {
        Self { pitch: self.pitch.next_multiple_of(8), ..self }
    }

    /// Of one image.
    fn numbers(&self) -> f64 {
        f64::from(self.height) * f64::from(self.width) * f64::from(self.channels)
    }

    /// Instructions of the warps that bring a tile of 16 channels, as counted, about.
    fn issued(&self) -> f64 {
        42.0 / 16.0 * f64::from(self.rows * self.cols) + 480.0
    }

    /// Bytes of a tile of 16 channels.
    fn bytes(&self) -> usize {
        self.rows as usize * self.pitch as usize * LINE
    }
}

/// What is convolved with what, of the walk over `axes`, down and across.
struct Walk<'a> {
    axes: &'a [Axis; 2],
    /// Of each of the image and the skip connection its address, rows, columns and channels.
    sources: [(u64, [usize; 3]); 2],
    classes: usize,
    batch: usize,
}

impl Walk<'_> {
    /// What the kernels are told of it, for tiles of so many rows.
    fn parameters(&self, g: &Geometry, tile_rows: usize) -> Result<Parameters, Misfit> {
        let [down, across] = self.axes;
        let steps = down.step;
        Misfit::unless(steps.iter().all(|&step| step == 1 || step == 2), || {
            format!("windows are {steps:?} pixels apart: 1 or 2 is needed")
        })?;
        let picture = |which: usize| {
            let farthest = |axis: &Axis| axis.entries.iter().map(|entry| entry[1 + which]).max().unwrap_or(0);
            let (at, extents) = self.sources[which];
            Picture::new(at, extents, [tile_rows, ACROSS], steps[which], self.axes.each_ref().map(farthest))
        };
        let tiles = [down.pixels.div_ceil(tile_rows), across.pixels.div_ceil(ACROSS)];
        let all = count("tiles", self.batch.saturating_mul(tiles[0] * tiles[1]))?;
        Ok(Parameters {
            image: picture(0),
            skip: picture(1),
            down: down.told()?,
            across: across.told()?,
            classes: self.classes as u32,
            tile_rows: tile_rows as u32,
            tiles_down: tiles[0] as u32,
            tiles_across: tiles[1] as u32,
            tiles: all,
            run: all.div_ceil(BLOCKS as u32),
            kernel: g.kernel as u32,
            ..Parameters::zeroed()
        })
    }
}

impl Parameters {
    /// Channels of all sources, 16 at a time.
    fn chunks(&self) -> usize {
        (self.image.chunks + self.skip.chunks) as usize
    }

    /// Taps of a window.
    fn taps(&self) -> usize {
        (self.down.entries / self.classes * (self.across.entries / self.classes)) as usize
    }

    /// Bytes of the tables at the beginning of shared memory: nine words a tap.
    fn tables(&self) -> usize {
        (36 * self.taps()).next_multiple_of(256)
    }

    /// Bytes of the larger of the tiles of 16 channels.
    fn chunk_bytes(&self) -> usize {
        let skip = if self.skip.chunks > 0 { self.skip.bytes() } else { 0 };
        self.image.bytes().max(skip)
    }

    /// Asks for the launch of that form that makes an output of so many columns; seconds that it is predicted to take.
    fn launch(self, io: &mut DeviceIo, form: usize, output: usize, columns: usize) -> Result<f64, Misfit> {
        let (weights_at, stage) = (self.tables(), self.chunk_bytes());
        let weights = COLUMNS[form] * (LINE * self.chunks() * (self.kernel * self.kernel) as usize + 16);
        let stages_at = (weights_at + weights).next_multiple_of(256);
        let out = io.output(output);
        let p = Self {
            out: out.address,
            columns: columns as u32,
            half: u32::from(out.dtype == DType::Bf16),
            vector_out: u32::from(columns.is_multiple_of(COLUMNS[form] / 4)),
            weights_at: weights_at as u32,
            stages_at: stages_at as u32,
            stage: stage as u32,
            ..self
        };
        let column_tiles = columns.div_ceil(COLUMNS[form]);
        let call = KernelCall::linear(WINDOWS[form], p.tiles.div_ceil(p.run), THREADS, &p);
        let grid = [call.grid[0], column_tiles as u32, 1];
        io.launch(KernelCall { grid, shared_bytes: shared(stages_at + 2 * stage)?, ..call });
        let read = 2.0 * f64::from(p.tiles / (p.tiles_down * p.tiles_across)) * (p.image.numbers() + p.skip.numbers());
        let written = (out.spec.shape.elements() * out.dtype.bytes()) as f64;
        let tiles = column_tiles as f64;
        Ok(Work { busy: p.busy(form, column_tiles), moved: tiles * read + written, again: 0.0 }.seconds())
    }

    /// Seconds that the busiest multiprocessor takes for so many tiles of columns: of its products, or of instructions.
    fn busy(&self, form: usize, column_tiles: usize) -> f64 {
        // As counted, about: what eight warps issue for a tap, for what they bring, and for what they store.
        let tap = 8.0 * [38.0, 35.0][form];
        let issued = self.chunks() as f64 * (self.taps() as f64 * tap + self.image.issued()) + [1900.0, 1500.0][form];
        let products = 2.0 * (TILE[form] * COLUMNS[form] * CHUNK * self.taps() * self.chunks()) as f64;
        self.tiles_of_one(column_tiles) * turn(products, issued)
    }

    /// Tiles of the busiest multiprocessor, of so many blocks for each run.
    fn tiles_of_one(&self, blocks: usize) -> f64 {
        let all = self.tiles.div_ceil(self.run) as usize * blocks;
        all.div_ceil(MULTIPROCESSORS) as f64 * f64::from(self.run)
    }
}

/// Seconds of so many floating-point operations of products, or of so many instructions, on one multiprocessor.
pub fn turn(products: f64, issued: f64) -> f64 {
    (products * MULTIPROCESSORS as f64 / (TENSOR * SYNCHRONOUS)).max(issued / (ISSUED * CLOCK))
}

/// What blocks of a gradient by weights do.
struct Blocks {
    /// Chunks of channels and groups of outputs, of all and of a block.
    all: [usize; 2],
    own: [usize; 2],
    /// Bytes of a stage, and of all shared memory.
    stage: usize,
    shared: usize,
}

impl Blocks {
    /// With as many chunks and groups as there are and have room: eight units of both at most, one a warp.
    fn new(p: &Parameters, outputs: usize) -> Self {
        let all = [p.chunks(), outputs.div_ceil(CHUNK)];
        let of = |own: [usize; 2]| {
            let stage = own[0] * p.chunk_bytes() + own[1] * p.dy.bytes();
            let shared = p.tables() + (2 * stage).max(own[0] * own[1] * p.taps() * SUMS);
            Self { all, own, stage, shared }
        };
        let mut sizes = [[4, 2], [4, 1], [2, 2], [2, 1], [1, 2]].into_iter().map(of);
        let fits = |own: [usize; 2]| own[0] < 2 * all[0] && own[1] < 2 * all[1];
        sizes.find(|blocks| fits(blocks.own) && blocks.shared <= SHARED).unwrap_or_else(|| of([1, 1]))
    }

    /// How many there are for a run of tiles: by chunks, and by groups.
    fn counts(&self) -> [usize; 2] {
        [0, 1].map(|of| self.all[of].div_ceil(self.own[of]))
    }

    /// Seconds that all are predicted to take, with so many bytes of partial sums. Each reads what it multiplies, so what other
    /// blocks have too is read again.
    fn seconds(&self, p: &Parameters, g: &Geometry, again: f64) -> f64 {
        let ([by_chunks, by_groups], units) = (self.counts(), self.own[0] * self.own[1]);
        let read = (p.image.numbers() + p.skip.numbers()) * by_groups as f64 + p.dy.numbers() * by_chunks as f64;
        let rows = p.tile_rows as usize * g.scale * g.scale;
        let products = 2.0 * (units * p.taps() * CHUNK * CHUNK * ACROSS * rows) as f64;
        // As counted, about: what warps issue for 16 pixels, for where their taps lie, and for what they bring.
        let multiplied = (70 * rows * units + 480 * g.scale * g.scale) as f64;
        let issued = multiplied + self.own[0] as f64 * p.image.issued() + self.own[1] as f64 * p.dy.issued();
        let busy = p.tiles_of_one(by_chunks * by_groups) * turn(products, issued);
        Work { busy, moved: 2.0 * g.batch as f64 * read + again, again }.seconds()
    }
}

/// Bytes of shared memory of a block, if it can have them.
pub fn shared(bytes: usize) -> Result<u32, Misfit> {
    Misfit::unless(bytes <= SHARED, || format!("a block needs {bytes} bytes of shared memory, {SHARED} are there"))?;
    Ok(bytes as u32)
}

/// Asks for the launches.
pub fn run(op: &Conv2d, io: &mut DeviceIo) -> Result<(), Misfit> {
    let g = Geometry::new(op, |at| io.dims(at), io.output_dims(0));
    g.countable()?;
    let narrow = op.operands().iter().all(|&at| io.input(at).dtype == DType::Bf16);
    Misfit::unless(narrow, || "not all operands are bf16".into())?;
    Misfit::unless(!op.add, || "it adds to nothing".into())?;
    Misfit::unless(g.kernel > 1, || "windows of single pixels share none".into())?;
    let same = (g.height, g.width) == (g.out_height, g.out_width);
    Misfit::unless(g.scale == 1 || g.stride == 1 && same, || "of an upsampled image y has not its extents".into())?;
    match op.pass {
        Pass::Fwd => forward(op, &g, io),
        Pass::Dgrad { .. } => input_gradients(&g, io),
        Pass::Wgrad => weight_gradient(&g, io),
    }
}

/// Which of the kernels makes so many columns, of windows so far apart in x or dy: of those that lie 2 apart fewer have room.
fn form(columns: usize, step: usize) -> usize {
    usize::from(columns > COLUMNS[0] || step > 1)
}

/// x and the skip connection: address, rows, columns and channels.
fn sources(g: &Geometry, x: u64, skip: u64) -> [(u64, [usize; 3]); 2] {
    [(x, [g.height / g.scale, g.width / g.scale, g.channels]), (skip, [g.height, g.width, g.skip])]
}

fn forward(op: &Conv2d, g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let skips = usize::from(op.has_skip());
    let weights = io.input(1 + skips);
    let axes = sides(g).map(|side| side.windows(0..g.scale));
    let (skip, form) = (if skips > 0 { io.input(1).address } else { 0 }, form(g.outputs, g.stride));
    let walk = Walk { axes: &axes, sources: sources(g, io.input(0).address, skip), classes: g.scale, batch: g.batch };
    let p = Parameters {
        weights: weights.address,
        bias: if op.bias { io.input(2 + skips).address } else { 0 },
        weight_column: g.window() as u32,
        weight_tap: g.depth() as u32,
        weight_channel: 1,
        ..walk.parameters(g, TILE[form] / ACROSS / (g.scale * g.scale))?
    };
    let seconds = p.launch(io, form, 0, g.outputs)?;
    io.predict(seconds);
    Ok(())
}

/// d_x, then d_skip: the same kernel for other channels of w.
fn input_gradients(g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    Misfit::unless(g.stride == 1, || format!("stride {}: one class of pixels is needed", g.stride))?;
    let (dy, weights, mut seconds) = (io.input(0), io.input(1), 0.0);
    for (output, scale, first, columns) in [(0, g.scale, 0, g.channels), (1, 1, g.channels, g.skip)] {
        if columns == 0 {
            continue;
        }
        let (form, axes) = (form(columns, scale), sides(g).map(|side| side.reached(scale, 0)));
        let dims = [g.out_height, g.out_width, g.outputs];
        let walk = Walk { axes: &axes, sources: [(dy.address, dims), (0, [0; 3])], classes: 1, batch: g.batch };
        let p = Parameters {
            weights: weights.address + 2 * first as u64,
            weight_column: 1,
            weight_tap: g.depth() as u32,
            weight_channel: g.window() as u32,
            ..walk.parameters(g, TILE[form] / ACROSS)?
        };
        seconds += p.launch(io, form, output, columns)?;
    }
    io.predict(seconds);
    Ok(())
}

/// d_w, in runs of tiles.
fn weight_gradient(g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (dy, x, out) = (io.input(0), io.input(1), io.output(0));
    Misfit::unless(out.dtype == DType::F32, || "d_w is stored as f32".into())?;
    Misfit::unless(g.kernel == SIDE, || format!("a kernel of {}, for its weights {SIDE} is needed", g.kernel))?;
    let axes = sides(g).map(|side| side.windows(0..g.scale));
    let skip = if g.skip > 0 { io.input(2).address } else { 0 };
    let walk = Walk { axes: &axes, sources: sources(g, x.address, skip), classes: g.scale, batch: g.batch };
    let tile_rows = ACROSS / g.scale;
    let dims = [g.out_height, g.out_width, g.outputs];
    let p = walk.parameters(g, tile_rows)?;
    let p = Parameters {
        image: p.image.even(),
        skip: p.skip.even(),
        dy: Picture::new(dy.address, dims, [tile_rows, ACROSS], g.scale, [g.scale - 1; 2]).even(),
        columns: g.outputs as u32,
        ..p
    };
    let blocks = Blocks::new(&p, g.outputs);
    let [by_chunks, by_groups] = blocks.counts();
    let run = p.tiles.div_ceil((BLOCKS / (by_chunks * by_groups)).max(1) as u32).max(LEAST_RUN);
    let (slices, numbers) = (p.tiles.div_ceil(run) as usize, g.outputs * g.window());
    let partials = if slices > 1 { io.workspace(4 * slices * numbers) } else { 0 };
    let p = Parameters {
        out: if slices > 1 { partials } else { out.address },
        run,
        block_chunks: blocks.own[0] as u32,
        block_groups: blocks.own[1] as u32,
        stages_at: p.tables() as u32,
        stage: blocks.stage as u32,
        chunk_bytes: p.chunk_bytes() as u32,
        dy_bytes: p.dy.bytes() as u32,
        ..p
    };
    let call = KernelCall::linear(WEIGHTS, slices as u32, THREADS, &p);
    let grid = [slices as u32, by_chunks as u32, by_groups as u32];
    io.launch(KernelCall { grid, shared_bytes: shared(blocks.shared)?, ..call });
    let again = if slices > 1 { 4.0 * (slices * numbers) as f64 } else { 0.0 };
    if slices > 1 {
        io.launch(reduce(partials, out.address, numbers, slices)?);
    }
    io.predict(blocks.seconds(&p, g, again));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Parameters, WEIGHTS, WINDOWS};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([WINDOWS[0], WINDOWS[1], WEIGHTS].to_vec());
    }
}
