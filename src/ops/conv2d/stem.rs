//! [`Conv2d`] of images of very few channels on CUDA, forward and by weights: `kernels/conv2d_stem.cu`, to which a row of a window is one
//! run of numbers.

use bytemuck::{Pod, Zeroable};

use super::geometry::Geometry;
use super::halo::{BLOCKS, LEAST_RUN, THREADS, shared, turn};
use super::{Conv2d, Pass};
use crate::base::DType;
use crate::ops::linear::cuda::{sum_parts, whole};
use crate::ops::linear::predicted::{MULTIPROCESSORS, Work, moved};
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "stem";
const FWD: &str = "conv2d_stem_fwd_bf16_256x64_sm80";
const WGRAD: &str = "conv2d_stem_wgrad_bf16_128x64_sm80";
/// Output channels of a block.
const COLUMNS: usize = 64;
/// Pixels of y in a row of a tile, and rows of a tile of each pass.
const ACROSS: usize = 32;
const FWD_ROWS: usize = 8;
const WGRAD_ROWS: usize = 4;
/// Numbers that are multiplied at a time: those from window to window at most.
const EIGHT: usize = 8;
/// Eights of a window at most, and bytes of the table of them.
const EIGHTS: usize = 32;
const TABLE: usize = 4 * EIGHTS;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable, Debug)]
#[repr(C)]
struct Parameters {
    image: u64,
    other: u64,
    bias: u64,
    out: u64,
    height: u32,
    width: u32,
    rows: u32,
    cols: u32,
    outputs: u32,
    kernel: u32,
    run: u32,
    lead: u32,
    eights: u32,
    stride: u32,
    step: u32,
    padding: u32,
    before: u32,
    start: u32,
    image_rows: u32,
    pieces: u32,
    tile_rows: u32,
    tiles_down: u32,
    tiles_across: u32,
    tiles: u32,
    tiles_of_block: u32,
    half: u32,
    vector: u32,
    stages_at: u32,
    stage: u32,
    unused: u32,
}

impl Parameters {
    /// What is the same for both passes, for tiles of so many rows.
    fn new(g: &Geometry, tile_rows: usize) -> Result<Self, Misfit> {
        let (step, run) = (g.stride * g.channels, g.kernel * g.channels);
        Misfit::unless(step.is_multiple_of(2) && step <= EIGHT, || {
            format!("windows are {step} numbers of a row apart: an even count is needed, {EIGHT} at most")
        })?;
        let margin = g.padding * g.channels;
        count("numbers of a padded row", (g.width * g.channels).saturating_add(2 * margin))?;
        let before = margin.next_multiple_of(EIGHT);
        let lead = (before - margin) % 2;
        let start = before - margin - lead;
        let eights = (lead + run).div_ceil(EIGHT);
        Misfit::unless(g.kernel * eights <= EIGHTS, || {
            format!("a window has {} eights of numbers, {EIGHTS} at most are taken", g.kernel * eights)
        })?;
        // The first eight of a row fills other banks than the last of the row before, with which it is loaded.
        let (reached, behind) = ((start + (ACROSS - 1) * step).div_ceil(EIGHT) + eights, (3 + eights) % 8);
        let pieces = reached.saturating_sub(behind).next_multiple_of(8) + behind;
        let image_rows = (tile_rows - 1) * g.stride + g.kernel;
        let tiles = [g.out_height.div_ceil(tile_rows), g.out_width.div_ceil(ACROSS)];
        Ok(Self {
            height: g.height as u32,
            width: (g.width * g.channels) as u32,
            rows: g.out_height as u32,
            cols: g.out_width as u32,
            outputs: g.outputs as u32,
            kernel: g.kernel as u32,
            run: run as u32,
            lead: lead as u32,
            eights: eights as u32,
            stride: g.stride as u32,
            step: step as u32,
            padding: g.padding as u32,
            before: before as u32,
            start: 2 * start as u32,
            image_rows: image_rows as u32,
            pieces: pieces as u32,
            tile_rows: tile_rows as u32,
            tiles_down: tiles[0] as u32,
            tiles_across: tiles[1] as u32,
            tiles: count("tiles", g.batch.saturating_mul(tiles[0] * tiles[1]))?,
            vector: whole(g.width * g.channels, false),
            ..Self::zeroed()
        })
    }

    /// Products of 16 numbers that cover a window.
    fn sixteens(&self) -> usize {
        (self.kernel * self.eights).div_ceil(2) as usize
    }

    /// Bytes of the image of a tile.
    fn image_bytes(&self) -> usize {
        (16 * self.image_rows * self.pieces).next_multiple_of(128) as usize
    }

    /// Blocks along x, of which each takes `tiles_of_block` tiles.
    fn blocks(&self) -> u32 {
        self.tiles.div_ceil(self.tiles_of_block)
    }

    /// The launch of so many bytes of shared memory.
    fn call(&self, symbol: &'static str, shared_bytes: usize) -> Result<KernelCall, Misfit> {
        let call = KernelCall::linear(symbol, self.blocks(), THREADS, self);
        let grid = [self.blocks(), self.outputs.div_ceil(COLUMNS as u32), 1];
        Ok(KernelCall { grid, shared_bytes: shared(shared_bytes)?, ..call })
    }

    /// Seconds that the busiest multiprocessor takes, of so many numbers of a window multiplied and instructions of warps for a tile.
    fn busy(&self, multiplied: usize, issued: f64) -> f64 {
        let blocks = self.blocks() as usize * (self.outputs as usize).div_ceil(COLUMNS);
        let products = 2.0 * (self.tile_rows as usize * ACROSS * COLUMNS * multiplied) as f64;
        blocks.div_ceil(MULTIPROCESSORS) as f64 * f64::from(self.tiles_of_block) * turn(products, issued)
    }

    /// Instructions of the warps that bring the image of a tile, as counted, about.
    fn brought(&self) -> f64 {
        f64::from(self.image_rows * (20 + 20 * self.pieces.div_ceil(32)))
    }
}

/// Asks for the launches.
pub fn run(op: &Conv2d, io: &mut DeviceIo) -> Result<(), Misfit> {
    let g = Geometry::new(op, |at| io.dims(at), io.output_dims(0));
    g.countable()?;
    let operands = 0..io.input_count() - usize::from(op.bias);
    let narrow = operands.map(|at| io.input(at)).all(|operand| operand.dtype == DType::Bf16);
    Misfit::unless(narrow, || "not all operands are bf16".into())?;
    Misfit::unless(g.scale == 1, || "it takes no upsampled image".into())?;
    Misfit::unless(g.outputs.is_multiple_of(EIGHT), || format!("{} channels of y, not a multiple of {EIGHT}", g.outputs))?;
    Misfit::unless(g.kernel > 1, || "windows of single pixels share none".into())?;
    match op.pass {
        Pass::Fwd => forward(op, &g, io),
        Pass::Dgrad { .. } => Err(Misfit::new("it has no gradient by the image")),
        Pass::Wgrad => weight_gradient(&g, io),
    }
}

/// Tiles of a block, if so many are on a device at a time.
fn tiles_of_block(p: &Parameters) -> u32 {
    p.tiles.div_ceil((BLOCKS as u32 / p.outputs.div_ceil(COLUMNS as u32)).max(1))
}

fn forward(op: &Conv2d, g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (out, p) = (io.output(0), Parameters::new(g, FWD_ROWS)?);
    let stages_at = (TABLE + COLUMNS * (2 * 2 * EIGHT * p.sixteens() + 16)).next_multiple_of(128);
    let p = Parameters {
        image: io.input(0).address,
        other: io.input(1).address,
        bias: if op.bias { io.input(2).address } else { 0 },
        out: out.address,
        tiles_of_block: tiles_of_block(&p),
        half: u32::from(out.dtype == DType::Bf16),
        stages_at: stages_at as u32,
        stage: p.image_bytes() as u32,
        ..p
    };
    io.launch(p.call(FWD, stages_at + 2 * p.image_bytes())?);
    let issued = 8.0 * (52.0 * p.sixteens() as f64 + 490.0) + p.brought();
    io.predict(Work { busy: p.busy(16 * p.sixteens(), issued), moved: moved(io), again: 0.0 }.seconds());
    Ok(())
}

/// d_w, in runs of tiles.
fn weight_gradient(g: &Geometry, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (out, p) = (io.output(0), Parameters::new(g, WGRAD_ROWS)?);
    Misfit::unless(out.dtype == DType::F32, || "d_w is stored as f32".into())?;
    let stage = 2 * COLUMNS * WGRAD_ROWS * ACROSS + p.image_bytes();
    let p = Parameters {
        image: io.input(1).address,
        other: io.input(0).address,
        out: out.address,
        tiles_of_block: tiles_of_block(&p).max(LEAST_RUN),
        stage: stage as u32,
        ..p
    };
    let (blocks, numbers) = (p.blocks() as usize, g.outputs * g.window());
    let partial_bytes = if blocks > 1 { 4 * blocks * numbers } else { 0 };
    let partials = io.workspace(partial_bytes);
    let sums = 4 * COLUMNS * (2 * EIGHT * p.sixteens() + 4);
    let p = Parameters { out: if blocks > 1 { partials } else { out.address }, ..p };
    io.launch(p.call(WGRAD, (2 * stage).max(sums))?);
    if blocks > 1 {
        io.launch(sum_parts(partials, (out.address, numbers), blocks)?);
    }
    // Each quarter of a multiprocessor has every fourth product of 16 numbers: the one with most of them is waited for.
    let longest = 4 * 2 * EIGHT * p.sixteens().div_ceil(4);
    let issued = 64.0 * (15.0 + 20.0 * p.sixteens() as f64 / 4.0) + 1560.0 + p.brought();
    let again = partial_bytes as f64;
    io.predict(Work { busy: p.busy(longest, issued), moved: moved(io) + again, again }.seconds());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FWD, Parameters, WGRAD};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>(vec![FWD, WGRAD]);
    }
}
