//! Extents of one convolution, and where the element of its input lies in memory.

use super::{Conv2d, Pass, Source};
use crate::program::Misfit;
use crate::program::device::count;

/// Extents of one convolution, whatever the pass.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Rows of the image that is convolved: after upsampling.
    pub height: usize,
    /// Columns of the image that is convolved.
    pub width: usize,
    /// Channels of x.
    pub channels: usize,
    /// Channels of the skip connection behind those of x.
    pub skip: usize,
    /// Rows of y.
    pub out_height: usize,
    /// Columns of y.
    pub out_width: usize,
    /// Channels of y.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// Pixels of the image for one of x, along a side: 2 if x is upsampled.
    pub scale: usize,
}

impl Geometry {
    /// The geometry of `op` on inputs of these extents, with the first output.
    pub fn new(op: &Conv2d, input: impl Fn(usize) -> [usize; 4], output: [usize; 4]) -> Self {
        let (x, y, weight) = match op.pass {
            Pass::Fwd => (input(0), output, input(1 + usize::from(op.has_skip()))),
            Pass::Dgrad { .. } => (output, input(0), input(1)),
            Pass::Wgrad => (input(1), input(0), output),
        };
        let scale = if op.source == Source::Plain { 1 } else { 2 };
        Self {
            batch: x[0],
            height: x[1] * scale,
            width: x[2] * scale,
            channels: x[3],
            skip: weight[3] - x[3],
            out_height: y[1],
            out_width: y[2],
            outputs: y[3],
            kernel: op.kernel,
            stride: op.stride,
            padding: op.padding,
            scale,
        }
    }

    /// Refuses what the 32 bits of a device's kernels cannot count.
    pub fn countable(&self) -> Result<(), Misfit> {
        let product = |extents: &[usize]| extents.iter().fold(1usize, |product, &extent| product.saturating_mul(extent));
        count("pixels of the image", product(&[self.batch, self.height, self.width]))?;
        count("pixels of y", product(&[self.batch, self.out_height, self.out_width]))?;
        count("numbers of a window", product(&[self.kernel, self.kernel, self.depth()]))?;
        count("windows of dy", product(&[self.kernel, self.kernel, self.outputs, self.scale, self.scale]))?;
        count("the stride", self.stride)?;
        let padded = self.height.max(self.width).saturating_add(self.padding.saturating_mul(2));
        Misfit::unless(padded < 1 << 30, || format!("{padded} padded pixels along a side, kernels count to 2^30"))
    }

    /// Channels of the image that is convolved.
    pub fn depth(&self) -> usize {
        self.channels + self.skip
    }

    /// Numbers in a window.
    pub fn window(&self) -> usize {
        self.kernel * self.kernel * self.depth()
    }

    /// Position in x of the first channel of a pixel of the image.
    pub fn x_at(&self, image: usize, row: usize, col: usize) -> usize {
        let (height, width) = (self.height / self.scale, self.width / self.scale);
        ((image * height + row / self.scale) * width + col / self.scale) * self.channels
    }

    /// Position in the skip connection of the first channel of a pixel of the image.
    pub fn skip_at(&self, image: usize, row: usize, col: usize) -> usize {
        ((image * self.height + row) * self.width + col) * self.skip
    }
}
