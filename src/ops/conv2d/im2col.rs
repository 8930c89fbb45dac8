//! [`Conv2d`] on Hopper's tensor cores: `kernels/conv2d.sm90a.cu`, whose windows the copy engine gathers. Its tensor maps walk over
//! the pixels of one class, to which every tap lies at the same distance; see [`Axis`].

use bytemuck::{Pod, Zeroable};

use super::geometry::Geometry;
use super::walk::{Axis, Told, sides};
use super::{Conv2d, Pass};
use crate::base::DType;
use crate::ops::linear::matmul::reduce;
use crate::ops::linear::predicted::{BANDWIDTH, CLOCK, L2_BYTES, LAUNCH, MULTIPROCESSORS, TENSOR, Work, moved};
use crate::program::device::count;
use crate::program::{Address, DeviceIo, KernelCall, Misfit, Operation, Swizzle, TensorMapSpec, TensorType, Window};

/// Names of the kernels within the op, by the columns of a tile: the widest first.
pub const KERNELS: [&str; 3] = ["im2col256", "im2col128", "im2col64"];
/// Of each pass.
const FWD: [&str; 3] =
    ["conv2d_fwd_bf16_128x256_sm90a", "conv2d_fwd_bf16_128x128_sm90a", "conv2d_fwd_bf16_128x64_sm90a"];
const DGRAD: [&str; 3] =
    ["conv2d_dgrad_bf16_128x256_sm90a", "conv2d_dgrad_bf16_128x128_sm90a", "conv2d_dgrad_bf16_128x64_sm90a"];
const WGRAD: [&str; 3] =
    ["conv2d_wgrad_bf16_128x256_sm90a", "conv2d_wgrad_bf16_128x128_sm90a", "conv2d_wgrad_bf16_128x64_sm90a"];
/// Columns of a tile.
const WIDTHS: [usize; 3] = [256, 128, 64];
/// Rows of a tile.
const ROWS: usize = 128;
/// Numbers of the inner extent in a turn, and channels of a box.
const STEP: usize = 64;
/// Numbers of 16 bytes, of which lines that the copy engine reads consist.
const CHUNK: usize = 8;
const THREADS: u32 = 384;
/// All stages, eight warps' sums, two barriers of each of up to eight stages.
const SHARED: u32 = 196_608 + 8 * 4096 + 2 * 8 * 8;
/// Bytes of a tensor map.
const MAP: usize = 128;
/// Pixels between neighbouring ones of a box at most.
const STRIDE: usize = 8;
/// Turns below which a slice is not worth its partial sums, and slices at most.
const LEAST_SLICE: usize = 8;
const MOST_SLICES: usize = 64;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Parameters {
    /// Tensor maps, which the device writes: of the image, the skip connection, and the other operand.
    maps: [[u8; MAP]; 3],
    bias: u64,
    out: u64,
    down: Told,
    across: Told,
    batch: u32,
    columns: u32,
    column_tiles: u32,
    image_chunks: u32,
    skip_chunks: u32,
    image_channels: u32,
    skip_channels: u32,
    image_step: u32,
    skip_step: u32,
    kernel: u32,
    weight_first: u32,
    out_first: u32,
    out_image: u32,
    out_row: u32,
    out_step: u32,
    half: u32,
    classes: u32,
    other_step: u32,
    slice: u32,
    add: u32,
    /// The struct is a multiple of its alignment.
    nothing: [u32; 4],
}

/// A map of an image \[batch,rows,columns,channels\] that walks over its pixels from `first` on, so many along each axis, `step`
/// apart; down, then across.
fn pixels_map(at: u64, dims: [usize; 4], walked: [(usize, i64); 2], step: usize, pixels: usize) -> TensorMapSpec {
    let [batch, rows, columns, channels] = dims.map(|extent| extent as u64);
    let corner = |(walked, first): (usize, i64), size: u64| (first + (walked * step) as i64 - size as i64) as i32;
    let [down, across] = walked;
    TensorMapSpec {
        dtype: TensorType::Bf16,
        address: Address(at),
        sizes: vec![channels, columns, rows, batch],
        strides: vec![2 * channels, 2 * channels * columns, 2 * channels * columns * rows],
        window: Window::Im2col {
            lower: vec![across.1 as i32, down.1 as i32],
            upper: vec![corner(across, columns), corner(down, rows)],
            channels: STEP as u32,
            pixels: pixels as u32,
        },
        steps: vec![1, step as u32, step as u32, 1],
        swizzle: Swizzle::B128,
    }
}

/// A map of w \[O,k,k,depth\] as \[O,k·k,depth\], of whose boxes one has 64 channels of one tap, and so many lines of O.
fn weights_map(at: u64, g: &Geometry, lines: usize) -> TensorMapSpec {
    let [depth, taps, outputs] = [g.depth(), g.kernel * g.kernel, g.outputs].map(|extent| extent as u64);
    TensorMapSpec {
        dtype: TensorType::Bf16,
        address: Address(at),
        sizes: vec![depth, taps, outputs],
        strides: vec![2 * depth, 2 * depth * taps],
        window: Window::Tile(vec![STEP as u32, 1, lines as u32]),
        steps: vec![1, 1, 1],
        swizzle: Swizzle::B128,
    }
}

/// A product of so many rows and columns, of so many turns.
#[derive(Clone, Copy, Debug)]
struct Product {
    /// Which of [`KERNELS`].
    kernel: usize,
    rows: usize,
    columns: usize,
    turns: usize,
    /// Turns of a slice.
    slice: usize,
}

impl Product {
    /// In one piece; of pixels that no tap reaches a turn is counted.
    fn whole(kernel: usize, rows: usize, columns: usize, turns: usize) -> Self {
        Self { kernel, rows, columns, turns: turns.max(1), slice: turns.max(1) }
    }

    /// In the slices that are predicted to take least, partial sums written and read: by shapes alone, so that every device that
    /// takes this kernel adds in the same order.
    fn sliced(self) -> Self {
        let most = (self.turns / LEAST_SLICE).clamp(1, MOST_SLICES);
        let cut = (1..=most).map(|slices| Self { slice: self.turns.div_ceil(slices), ..self });
        let sums = 4.0 * (self.rows * self.columns) as f64;
        let seconds = |cut: &Self| cut.seconds() + 2.0 * (cut.slices() - 1) as f64 * sums / BANDWIDTH;
        cut.min_by(|one, other| seconds(one).total_cmp(&seconds(other))).unwrap_or(self)
    }

    fn items(&self) -> usize {
        self.rows.div_ceil(ROWS).saturating_mul(self.columns.div_ceil(WIDTHS[self.kernel]))
    }

    fn slices(&self) -> usize {
        self.turns.div_ceil(self.slice)
    }

    /// Seconds of the tensor cores, or of bringing the operands where that takes longer.
    fn seconds(&self) -> f64 {
        let width = WIDTHS[self.kernel];
        let products = 2.0 * (ROWS * width * STEP) as f64 / (TENSOR / MULTIPROCESSORS as f64);
        let brought = 2.0 * ((ROWS + width) * STEP) as f64 / (L2_BYTES * CLOCK);
        let rounds = self.items().saturating_mul(self.slices()).div_ceil(MULTIPROCESSORS);
        rounds as f64 * self.slice as f64 * products.max(brought)
    }

    /// Its launch, to which the parameters are told as far as it decides them.
    fn call(
        &self,
        symbols: [&'static str; 3],
        p: Parameters,
        maps: Vec<(usize, TensorMapSpec)>,
    ) -> Result<KernelCall, Misfit> {
        let parameters = Parameters {
            columns: self.columns as u32,
            column_tiles: self.columns.div_ceil(WIDTHS[self.kernel]) as u32,
            slice: count("turns of a slice", self.slice)?,
            ..p
        };
        // A block to each multiprocessor goes round the items; slices are many, and are dealt out item by item.
        let most = if self.slices() > 1 { u32::MAX } else { MULTIPROCESSORS as u32 };
        let blocks = count("tiles", self.items())?.min(most);
        let call = KernelCall::linear(symbols[self.kernel], blocks, THREADS, &parameters);
        Ok(KernelCall { grid: [blocks, self.slices() as u32, 1], shared_bytes: SHARED, maps, ..call })
    }
}

/// Asks for the launches of the kernel of that name.
pub fn run(op: &Conv2d, kernel: &str, io: &mut DeviceIo) -> Result<(), Misfit> {
    let kernel = KERNELS.iter().position(|name| *name == kernel).unwrap_or(0);
    let g = Geometry::new(op, |at| io.dims(at), io.output_dims(0));
    g.countable()?;
    legal(op, &g, io)?;
    match op.pass {
        Pass::Fwd => forward(op, &g, kernel, io),
        Pass::Dgrad { .. } => input_gradients(op, &g, kernel, io),
        Pass::Wgrad => weight_gradient(&g, kernel, io),
    }
}

fn legal(op: &Conv2d, g: &Geometry, io: &DeviceIo) -> Result<(), Misfit> {
    let narrow = op.operands().iter().all(|&at| io.input(at).dtype == DType::Bf16);
    Misfit::unless(narrow, || "not all operands are bf16".into())?;
    Misfit::unless(!op.add || io.output(0).dtype == DType::Bf16, || "it adds to bf16 alone".into())?;
    let channels = [g.channels, g.skip, g.outputs];
    Misfit::unless(channels.iter().all(|channels| channels.is_multiple_of(CHUNK)), || {
        format!("{channels:?} channels, the copy engine needs multiples of {CHUNK}")
    })?;
    Misfit::unless(g.stride <= STRIDE && g.padding < g.kernel, || {
        format!("stride {} with padding {}: at most {STRIDE}, and less than the kernel's side", g.stride, g.padding)
    })?;
    let same = (g.height, g.width) == (g.out_height, g.out_width);
    Misfit::unless(g.scale == 1 || g.stride == 1 && same, || "of an upsampled image y has not its extents".into())
}

/// What is the same for all passes: the walk over `axes`, down and across, of an image of so many channels and a skip connection.
fn parameters(g: &Geometry, axes: &[Axis; 2], [image, skip]: [usize; 2]) -> Result<Parameters, Misfit> {
    let [down, across] = axes;
    Ok(Parameters {
        down: down.told()?,
        across: across.told()?,
        batch: g.batch as u32,
        image_chunks: image.div_ceil(STEP) as u32,
        skip_chunks: skip.div_ceil(STEP) as u32,
        image_channels: image as u32,
        skip_channels: skip as u32,
        image_step: down.step[0] as u32,
        skip_step: down.step[1] as u32,
        kernel: g.kernel as u32,
        out_step: 1,
        ..Parameters::zeroed()
    })
}

/// Where the images lie that are walked over: that of `axes` of index 0, or the skip connection.
fn walked(axes: &[Axis; 2], image: usize) -> [(usize, i64); 2] {
    axes.each_ref().map(|axis| (axis.pixels, axis.first[image]))
}

fn forward(op: &Conv2d, g: &Geometry, kernel: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let skips = usize::from(op.has_skip());
    let (x, weights, out) = (io.input(0), io.input(1 + skips), io.output(0));
    let mut busy = 0.0;
    for class in 0..g.scale * g.scale {
        let [row, col] = [class / g.scale, class % g.scale];
        let axes = [(row, sides(g)[0]), (col, sides(g)[1])].map(|(class, side)| side.windows(class..class + 1));
        let p = Parameters {
            bias: if op.bias { io.input(2 + skips).address } else { 0 },
            out: out.address,
            out_first: (row * g.out_width + col) as u32,
            out_image: (g.out_height * g.out_width) as u32,
            out_row: (g.scale * g.out_width) as u32,
            out_step: g.scale as u32,
            half: u32::from(out.dtype == DType::Bf16),
            ..parameters(g, &axes, [g.channels, g.skip])?
        };
        let chunks = (p.image_chunks + p.skip_chunks) as usize;
        let rows = g.batch * axes[0].pixels * axes[1].pixels;
        let product = Product::whole(kernel, rows, g.outputs, g.kernel * g.kernel * chunks);
        let dims = [g.batch, g.height / g.scale, g.width / g.scale, g.channels];
        let mut maps = vec![(0, pixels_map(x.address, dims, walked(&axes, 0), axes[0].step[0], ROWS))];
        if skips > 0 {
            let dims = [g.batch, g.height, g.width, g.skip];
            maps.push((MAP, pixels_map(io.input(1).address, dims, walked(&axes, 1), axes[0].step[1], ROWS)));
        }
        maps.push((2 * MAP, weights_map(weights.address, g, WIDTHS[kernel])));
        busy += product.seconds();
        io.launch(product.call(FWD, p, maps)?);
    }
    predict(io, busy, g.scale * g.scale, 0.0);
    Ok(())
}

/// d_x, then d_skip: the same kernel for other channels of w.
fn input_gradients(op: &Conv2d, g: &Geometry, kernel: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (dy, weights) = (io.input(0), io.input(1));
    let (mut busy, mut launches) = (0.0, 0);
    for (output, scale, first, columns) in [(0, g.scale, 0, g.channels), (1, 1, g.channels, g.skip)] {
        for class in 0..if columns > 0 { g.stride * g.stride } else { 0 } {
            let [row, col] = [class / g.stride, class % g.stride];
            let axes = [(row, sides(g)[0]), (col, sides(g)[1])].map(|(class, side)| side.reached(scale, class));
            let rows = g.batch * axes[0].pixels * axes[1].pixels;
            let taps = axes[0].entries.len() * axes[1].entries.len();
            // Pixels that no tap reaches stay as they are where there is something to add to.
            if rows == 0 || op.add && taps == 0 {
                continue;
            }
            let out = io.output(output);
            let width = g.width / scale;
            let p = Parameters {
                out: out.address,
                weight_first: first as u32,
                out_first: (row * width + col) as u32,
                out_image: (g.height / scale * width) as u32,
                out_row: (g.stride * width) as u32,
                out_step: g.stride as u32,
                half: u32::from(out.dtype == DType::Bf16),
                add: u32::from(op.add),
                ..parameters(g, &axes, [g.outputs, 0])?
            };
            let product = Product::whole(kernel, rows, columns, taps * p.image_chunks as usize);
            let dims = [g.batch, g.out_height, g.out_width, g.outputs];
            let maps = vec![
                (0, pixels_map(dy.address, dims, walked(&axes, 0), axes[0].step[0], ROWS)),
                (2 * MAP, weights_map(weights.address, g, STEP)),
            ];
            busy += product.seconds();
            launches += 1;
            io.launch(product.call(DGRAD, p, maps)?);
        }
    }
    predict(io, busy, launches, 0.0);
    Ok(())
}

/// d_w, in slices.
fn weight_gradient(g: &Geometry, kernel: usize, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (dy, x, out) = (io.input(0), io.input(1), io.output(0));
    Misfit::unless(out.dtype == DType::F32, || "d_w is stored as f32".into())?;
    let axes = sides(g).map(|side| side.windows(0..g.scale));
    let p = parameters(g, &axes, [g.channels, g.skip])?;
    let pixels = g.batch * axes[0].pixels * axes[1].pixels;
    let chunks = (p.image_chunks + p.skip_chunks) as usize;
    let turns = g.scale * g.scale * pixels.div_ceil(STEP);
    let product = Product::whole(kernel, STEP * g.kernel * g.kernel * chunks, g.outputs, turns).sliced();
    let (slices, numbers) = (product.slices(), g.outputs * g.window());
    let partial_bytes = if slices > 1 { 4 * slices * numbers } else { 0 };
    let partials = io.workspace(partial_bytes);
    let p = Parameters {
        out: if slices > 1 { partials } else { out.address },
        classes: g.scale as u32,
        other_step: g.scale as u32,
        ..p
    };
    let dims = [g.batch, g.height / g.scale, g.width / g.scale, g.channels];
    let mut maps = vec![(0, pixels_map(x.address, dims, walked(&axes, 0), axes[0].step[0], STEP))];
    if g.skip > 0 {
        let dims = [g.batch, g.height, g.width, g.skip];
        maps.push((MAP, pixels_map(io.input(2).address, dims, walked(&axes, 1), axes[0].step[1], STEP)));
    }
    let from_first = axes.each_ref().map(|axis| (axis.pixels, 0));
    let dims = [g.batch, g.out_height, g.out_width, g.outputs];
    maps.push((2 * MAP, pixels_map(dy.address, dims, from_first, g.scale, STEP)));
    let summed = product.call(WGRAD, p, maps)?;
    // Slices of a doubled image's gradient are not runs of rows of dy.
    let part = if slices > 1 && g.scale == 1 { STEP * product.slice } else { 0 };
    io.launch(KernelCall { part, ..summed });
    if slices > 1 {
        io.launch(reduce(partials, out.address, numbers, slices)?);
    }
    predict(io, product.seconds(), 1, partial_bytes as f64);
    Ok(())
}

/// Tells how long launches are predicted to take whose products take so many seconds, and which write so many bytes of partial sums.
fn predict(io: &mut DeviceIo, busy: f64, launches: usize, partials: f64) {
    let work = Work { busy, moved: moved(io) + partials, again: partials };
    io.predict(work.seconds() + launches.saturating_sub(1) as f64 * LAUNCH);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([FWD, DGRAD, WGRAD].concat());
    }

    #[test]
    fn maps_walk_over_as_many_pixels_as_there_are() {
        let window = |walked, dims, step| match pixels_map(0x1000, dims, walked, step, 128).window {
            Window::Im2col { lower, upper, channels, pixels } => (lower, upper, channels, pixels),
            Window::Tile(_) => unreachable!("it is for im2col"),
        };
        assert_eq!(window([(9, -1), (7, -1)], [2, 9, 7, 8], 1), (vec![-1, -1], vec![-1, -1], 64, 128));
        assert_eq!(window([(5, -1), (4, -1)], [2, 9, 8, 8], 2), (vec![-1, -1], vec![-1, 0], 64, 128));
        let map = pixels_map(0x1000, [2, 9, 7, 8], [(9, -1), (7, -1)], 1, 128);
        assert_eq!((map.sizes, map.strides), (vec![8, 7, 9, 2], vec![16, 112, 1008]));
    }

    #[test]
    fn products_are_cut_so_that_multiprocessors_are_busy() {
        // A gradient of 512 x 9 x 512 in 72 tiles: two rounds of 144 or one of 72 leave half of them idle.
        let cut = Product::whole(0, 9 * 512, 512, 256).sliced();
        assert!(cut.slices() > 1 && cut.seconds() < 0.7 * Product::whole(0, 9 * 512, 512, 256).seconds());
        assert_eq!(Product::whole(2, 576, 64, 7).sliced().slices(), 1, "too short to be cut");
        assert_eq!(Product::whole(2, 128, 8, 0).slices(), 1, "zeros are stored too");
    }
}
