//! What the fast kernels of [`Conv2d`](super::Conv2d) read and write: padded rows of the image that is convolved,
//! and blocks of rows of what comes out.

use super::geometry::Geometry;
use crate::base::Number;

/// The image that is convolved.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a, N> {
    /// Its extents.
    pub geometry: Geometry,
    /// x.
    pub x: &'a [N],
    /// The skip connection; empty if there is none.
    pub skip: &'a [N],
}

impl<N: Number> Image<'_, N> {
    /// Numbers in a padded row.
    pub fn pitch(&self) -> usize {
        (self.geometry.width + 2 * self.geometry.padding) * self.geometry.depth()
    }

    /// Fills `band` with the padded rows that the windows of `count` rows of y from `first` on see: upsampled,
    /// concatenated, with zeros around. `first` counts through all images; all rows are of the same one.
    pub fn band(&self, first: usize, count: usize, band: &mut Vec<N>) {
        let g = &self.geometry;
        let image = first / g.out_height;
        let (first, count) = (first % g.out_height * g.stride, (count - 1) * g.stride + g.kernel);
        band.resize(count * self.pitch(), N::ZERO);
        let edge = g.padding * g.depth();
        for (at, line) in band.chunks_exact_mut(self.pitch()).enumerate() {
            match (first + at).checked_sub(g.padding).filter(|&row| row < g.height) {
                None => line.fill(N::ZERO),
                Some(row) => {
                    line[..edge].fill(N::ZERO);
                    line[edge + g.width * g.depth()..].fill(N::ZERO);
                    self.row(image, row, &mut line[edge..edge + g.width * g.depth()]);
                }
            }
        }
    }

    fn row(&self, image: usize, row: usize, line: &mut [N]) {
        let g = &self.geometry;
        let x = &self.x[g.x_at(image, row, 0)..][..g.width / g.scale * g.channels];
        if g.scale == 1 {
            return line.copy_from_slice(x);
        }
        let doubled = line.chunks_exact_mut(2 * g.depth()).zip(x.chunks_exact(g.channels));
        for (pair, pixel) in doubled {
            pair[..g.channels].copy_from_slice(pixel);
            pair[g.depth()..][..g.channels].copy_from_slice(pixel);
        }
        if g.skip > 0 {
            let skip = &self.skip[g.skip_at(image, row, 0)..][..g.width * g.skip];
            for (pixel, skip) in line.chunks_exact_mut(g.depth()).zip(skip.chunks_exact(g.skip)) {
                pixel[g.channels..].copy_from_slice(skip);
            }
        }
    }

    /// Fills `columns` [windows, kernel · kernel · depth] with the windows of one row of y. `band` is scratch.
    pub fn columns(&self, row: usize, band: &mut Vec<N>, columns: &mut [N]) {
        let g = &self.geometry;
        self.band(row, 1, band);
        let run = g.kernel * g.depth();
        for (at, window) in columns.chunks_exact_mut(g.window()).enumerate() {
            for (line, part) in band.chunks_exact(self.pitch()).zip(window.chunks_exact_mut(run)) {
                part.copy_from_slice(&line[at * g.stride * g.depth()..][..run]);
            }
        }
    }
}

/// Rows of an output that are computed together.
#[derive(Debug)]
pub struct Rows<'a, N> {
    /// The first of them, counted through all images.
    pub first: usize,
    /// How many they are.
    pub count: usize,
    numbers: &'a mut [N],
    skip: &'a mut [N],
    /// 2 if they are rows of an upsampled image with its skip connection, of which four pixels are added up; else 1.
    fold: usize,
}

impl<'a, N: Number> Rows<'a, N> {
    /// All rows of an output that is stored as it is.
    pub fn plain(numbers: &'a mut [N], count: usize) -> Self {
        Self { first: 0, count, numbers, skip: &mut [], fold: 1 }
    }

    /// All rows of an upsampled image whose pixels are added up two by two into x, with its skip connection.
    pub fn folded(x: &'a mut [N], skip: &'a mut [N], count: usize) -> Self {
        Self { first: 0, count, numbers: x, skip, fold: 2 }
    }

    /// Blocks of `rows` rows, fewer where another image of `image` rows begins. Both are even if rows are folded.
    pub fn blocks(mut self, rows: usize, image: usize) -> Vec<Self> {
        let mut blocks = Vec::new();
        while self.count > 0 {
            let count = rows.min(image - self.first % image).min(self.count);
            let (numbers, numbers_behind) =
                self.numbers.split_at_mut(self.numbers.len() / (self.count / self.fold) * (count / self.fold));
            let (skip, skip_behind) = self.skip.split_at_mut(self.skip.len() / self.count * count);
            blocks.push(Self { count, numbers, skip, ..self });
            (self.numbers, self.skip) = (numbers_behind, skip_behind);
            (self.first, self.count) = (self.first + count, self.count - count);
        }
        blocks
    }

    /// Has `fill` write the rows, of `width` pixels each, by way of `scratch` if they are to be folded.
    pub fn write(self, width: usize, scratch: &mut Vec<N>, fill: impl FnOnce(&mut [N])) {
        if self.fold == 1 {
            return fill(self.numbers);
        }
        let pixels = self.count * width;
        let (channels, skips) = (self.numbers.len() / (pixels / 4), self.skip.len() / pixels);
        scratch.resize(pixels * (channels + skips), N::ZERO);
        fill(scratch);
        self.numbers.fill(N::ZERO);
        for (at, pixel) in scratch.chunks_exact(channels + skips).enumerate() {
            let target = at / width / 2 * (width / 2) + at % width / 2;
            let target = &mut self.numbers[target * channels..][..channels];
            target.iter_mut().zip(pixel).for_each(|(sum, &number)| *sum += number);
            self.skip[at * skips..][..skips].copy_from_slice(&pixel[channels..]);
        }
    }
}
