//! Extents of one convolution, and where the element of its input lies in memory.

use super::{Conv2d, Pass, Source};
use crate::base::Number;
use crate::program::HostIo;

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
    /// The geometry of `op` on these inputs and outputs.
    pub fn new<N: Number>(op: &Conv2d, io: &HostIo<'_, N>) -> Self {
        let skip = usize::from(op.has_skip());
        let (x, y, weight): ([usize; 4], [usize; 4], [usize; 4]) = match op.pass {
            Pass::Fwd => (io.dims(0), io.output_dims(0), io.dims(1 + skip)),
            Pass::Dgrad { .. } => (io.output_dims(0), io.dims(0), io.dims(1)),
            Pass::Wgrad => (io.dims(1), io.dims(0), io.output_dims(0)),
        };
        Self::of(op, x, y, weight)
    }

    /// The geometry of `op` on x, y and w of these extents.
    pub fn of(op: &Conv2d, x: [usize; 4], y: [usize; 4], weight: [usize; 4]) -> Self {
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
