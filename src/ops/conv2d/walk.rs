//! How kernels on CUDA walk over the pixels of a convolution: those of one class, to which every tap lies at the same distance.

use bytemuck::{Pod, Zeroable};

use super::geometry::Geometry;
use crate::program::Misfit;
use crate::program::device::count;

/// Taps along an axis, of all classes, and how far they reach: kernels are told in four bits each.
const REACH: usize = 16;

/// How the kernel walks along one axis: over pixels of one class, of each of which the window begins `step` further than that of the
/// one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// How many.
    pub pixels: usize,
    /// Of each tap: its number, and how far behind the window's beginning it lies in the image and in the skip connection.
    pub entries: Vec<[usize; 3]>,
    /// Where the first window begins in the image, and in the skip connection.
    pub first: [i64; 2],
    /// From window to window there.
    pub step: [usize; 2],
}

/// One axis as the kernel is told it.
#[derive(Clone, Copy, Pod, Zeroable, Debug)]
#[repr(C)]
pub struct Told {
    taps: u64,
    image: u64,
    skip: u64,
    /// Taps, of all classes.
    pub entries: u32,
    pixels: u32,
    image_first: i32,
    skip_first: i32,
}

/// What an axis of a convolution is.
#[derive(Clone, Copy)]
pub struct Side {
    /// Pixels of the image that is convolved, and of y.
    extents: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Pixels of the image for one of x.
    scale: usize,
}

impl Side {
    /// The windows of pixels of y: of all of them, or, of an upsampled image, of those classes, by whether they lie on an even or on an
    /// odd place. Window u of pixel `scale` · i + c begins at pixel i + ⌊(c - p + u) / scale⌋ of x.
    pub fn windows(self, classes: std::ops::Range<usize>) -> Axis {
        let (scale, padding) = (self.scale as i64, self.padding as i64);
        let begin = |class: usize| class as i64 - padding;
        let first = begin(classes.start).div_euclid(scale);
        let entry = |class: usize, u: usize| {
            let image = (begin(class) + u as i64).div_euclid(scale) - first;
            [u, image as usize, class - classes.start + u]
        };
        let step = [if self.scale == 1 { self.stride } else { 1 }, self.scale];
        Axis {
            pixels: self.extents[1] / self.scale,
            entries: classes.clone().flat_map(|class| (0..self.kernel).map(move |u| entry(class, u))).collect(),
            first: [first, begin(classes.start)],
            step,
        }
    }

    /// The pixels of dy that reach pixels of x, of which there is one for `scale` of the image: of a class, those that lie `stride`
    /// apart, at whole distances; of a doubled image, for each of its two pixels in turn. Pixel r is reached by tap u from
    /// (r + p - u) / s.
    pub fn reached(self, scale: usize, class: usize) -> Axis {
        let Self { kernel, stride, padding, .. } = self;
        let from = (class + padding) as i64;
        let by = |row: usize| {
            let from = from + row as i64;
            (from as usize % stride..kernel)
                .step_by(stride)
                .map(move |u| (u, (from - u as i64).div_euclid(stride as i64)))
        };
        let all: Vec<(usize, i64)> = (0..scale).flat_map(by).collect();
        let first = all.iter().map(|&(_, place)| place).min().unwrap_or(0);
        let apart = stride.max(scale);
        Axis {
            pixels: self.extents[0].saturating_sub(class).div_ceil(apart),
            entries: all.into_iter().map(|(u, place)| [u, (place - first) as usize, 0]).collect(),
            first: [first, 0],
            step: [scale, 1],
        }
    }
}

impl Axis {
    /// As kernels are told it.
    ///
    /// # Errors
    /// If four bits are too few for it.
    pub fn told(&self) -> Result<Told, Misfit> {
        let far = self.entries.iter().flatten().any(|&number| number >= REACH);
        Misfit::unless(!far && self.entries.len() <= REACH, || {
            format!("{} taps along an axis, or they reach too far: both are told in {REACH}", self.entries.len())
        })?;
        let bits = |of: usize| self.entries.iter().rev().fold(0, |bits, entry| bits << 4 | entry[of] as u64);
        Ok(Told {
            taps: bits(0),
            image: bits(1),
            skip: bits(2),
            entries: self.entries.len() as u32,
            pixels: count("pixels of an axis", self.pixels)?,
            image_first: self.first[0] as i32,
            skip_first: self.first[1] as i32,
        })
    }
}

/// Down, then across.
pub fn sides(g: &Geometry) -> [Side; 2] {
    [[g.height, g.out_height], [g.width, g.out_width]].map(|extents| Side {
        extents,
        kernel: g.kernel,
        stride: g.stride,
        padding: g.padding,
        scale: g.scale,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(extents: [usize; 2], [kernel, stride, padding, scale]: [usize; 4]) -> Side {
        Side { extents, kernel, stride, padding, scale }
    }

    /// Every pixel of y and every tap, by the definition, against where the walk finds it.
    #[test]
    fn windows_lie_where_the_definition_has_them() {
        for (extents, [kernel, stride, padding, scale]) in
            [([9, 5], [3, 2, 1, 1]), ([7, 7], [3, 1, 1, 1]), ([8, 8], [3, 1, 1, 2]), ([6, 6], [5, 1, 2, 2])]
        {
            let side = side(extents, [kernel, stride, padding, scale]);
            let mut seen = 0;
            for class in 0..scale {
                let axis = side.windows(class..class + 1);
                for (i, &[tap, image, skip]) in
                    (0..axis.pixels).flat_map(|i| axis.entries.iter().map(move |entry| (i, entry)))
                {
                    let at = ((scale * i + class) * stride + tap) as i64 - padding as i64;
                    let walked = |which: usize, offset: usize| axis.first[which] + (i * axis.step[which] + offset) as i64;
                    assert_eq!(walked(0, image), at.div_euclid(scale as i64), "{extents:?}, class {class}");
                    assert!(scale == 1 || walked(1, skip) == at, "{extents:?}, class {class}");
                    seen += 1;
                }
            }
            assert_eq!(seen, extents[1] * kernel);
        }
        // Of a gradient by weights both classes are walked at once, from where the first begins.
        let both = side([8, 8], [3, 1, 1, 2]).windows(0..2);
        assert_eq!(both.entries, [[0, 0, 0], [1, 1, 1], [2, 1, 2], [0, 1, 1], [1, 1, 2], [2, 2, 3]]);
        assert_eq!((both.pixels, both.first, both.step), (4, [-1, -1], [1, 2]));
    }

    /// Every pair of a pixel of y and a tap reaches one pixel of the image.
    #[test]
    fn every_pixel_is_reached_as_often_as_the_definition_has_it() {
        for (extents, [kernel, stride, padding]) in [([9, 5], [3, 2, 1]), ([7, 7], [3, 1, 1]), ([9, 5], [1, 2, 0])] {
            let side = side(extents, [kernel, stride, padding, 1]);
            let mut found = Vec::new();
            for class in 0..stride {
                let axis = side.reached(1, class);
                for (i, &[tap, place, _]) in
                    (0..axis.pixels).flat_map(|i| axis.entries.iter().map(move |entry| (i, entry)))
                {
                    let y = axis.first[0] + (i + place) as i64;
                    if (0..extents[1] as i64).contains(&y) {
                        found.push((y as usize, tap, stride * i + class));
                    }
                }
            }
            found.sort_unstable();
            let pairs = (0..extents[1]).flat_map(|y| (0..kernel).map(move |tap| (y, tap)));
            let reached = pairs.filter_map(|(y, tap)| Some((y, tap, (y * stride + tap).checked_sub(padding)?)));
            assert_eq!(found, reached.filter(|&(.., x)| x < extents[0]).collect::<Vec<_>>(), "{extents:?}");
        }
        let doubled = side([8, 8], [3, 1, 1, 2]).reached(2, 0);
        assert_eq!(doubled.entries, [[0, 2, 0], [1, 1, 0], [2, 0, 0], [0, 3, 0], [1, 2, 0], [2, 1, 0]]);
        assert_eq!((doubled.pixels, doubled.first[0], doubled.step[0]), (4, -1, 2));
    }
}
