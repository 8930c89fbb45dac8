//! Which bytes of a tensor a copy moves, and where they lie in shared memory (PTX ISA 5.5).

use super::super::{Swizzle, TensorMapSpec, Window};

/// Bytes that stay together when chunks are permuted.
const CHUNK: usize = 16;

/// Consecutive bytes of a box in shared memory, as far as they follow each other in the tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Bytes of the box before it.
    pub at: usize,
    /// Its bytes.
    pub bytes: usize,
    /// Which of them lie within the tensor, and the address of the first of these; the others are filled, or not stored.
    pub inside: Option<(std::ops::Range<usize>, u64)>,
}

/// Consecutive bytes on both sides of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Offset in shared memory.
    pub shared: usize,
    /// Bytes.
    pub bytes: usize,
    /// Address in global memory; none outside the tensor.
    pub global: Option<u64>,
}

/// Where an address of shared memory lies once its chunk is permuted (5.5.7): bits 4 and up are combined with bits 7 and up.
#[inline]
pub fn swizzled(address: usize, swizzle: Swizzle) -> usize {
    let mask = match swizzle {
        Swizzle::None => 0,
        Swizzle::B32 => 1,
        Swizzle::B64 => 3,
        Swizzle::B128 => 7,
    };
    address ^ (address >> 7 & mask) << 4
}

/// Bytes of a box, those outside the tensor included.
pub fn box_bytes(map: &TensorMapSpec) -> usize {
    let elements: usize = match &map.window {
        Window::Tile(_) => counts(map).iter().product(),
        Window::Im2col { channels, pixels, .. } => *channels as usize * *pixels as usize,
    };
    elements * map.dtype.bytes() as usize
}

/// Elements of a box that are copied along each dimension. Steps of the innermost one do not count.
fn counts(map: &TensorMapSpec) -> Vec<usize> {
    let Window::Tile(sides) = &map.window else { return Vec::new() };
    let steps = std::iter::once(1).chain(map.steps.iter().skip(1).copied());
    sides.iter().zip(steps).map(|(side, step)| side.div_ceil(step) as usize).collect()
}

/// The rows of the box that begins at these coordinates; `offsets` are those of im2col.
pub fn rows(map: &TensorMapSpec, coordinates: &[i64], offsets: &[i64]) -> Vec<Row> {
    match &map.window {
        Window::Tile(_) => tile(map, coordinates),
        Window::Im2col { lower, upper, channels, pixels } => {
            let walk = Walk { map, lower, upper, offsets };
            walk.rows(coordinates, *channels as usize, *pixels as usize)
        }
    }
}

/// A row of `count` elements from coordinate `first` on along the innermost dimension; `rest` is the address of its element 0,
/// if the other coordinates lie in the tensor.
fn row(map: &TensorMapSpec, number: usize, count: usize, first: i64, rest: Option<u64>) -> Row {
    let bytes = map.dtype.bytes() as usize;
    let (from, to) = ((-first).max(0), (map.sizes[0] as i64 - first).clamp(0, count as i64));
    let inside = rest.filter(|_| from < to).map(|address| {
        let begin = address.wrapping_add_signed((first + from) * bytes as i64);
        (from as usize * bytes..to as usize * bytes, begin)
    });
    Row { at: number * count * bytes, bytes: count * bytes, inside }
}

/// The address of the element at these outer coordinates, if they lie in the tensor.
fn outer(map: &TensorMapSpec, coordinates: impl Iterator<Item = i64>) -> Option<u64> {
    let mut address = map.address.0;
    for ((at, size), stride) in coordinates.zip(&map.sizes[1..]).zip(&map.strides) {
        if at < 0 || at >= *size as i64 {
            return None;
        }
        address = address.wrapping_add((at as u64).wrapping_mul(*stride));
    }
    Some(address)
}

fn tile(map: &TensorMapSpec, coordinates: &[i64]) -> Vec<Row> {
    let counts = counts(map);
    let rows = counts[1..].iter().product::<usize>();
    let of_row = |number: usize| {
        let mut left = number;
        let others = (1..counts.len()).map(|axis| {
            let index = left % counts[axis];
            left /= counts[axis];
            coordinates[axis] + index as i64 * i64::from(map.steps[axis])
        });
        let rest = outer(map, others.collect::<Vec<_>>().into_iter());
        row(map, number, counts[0], coordinates[0], rest)
    };
    (0..rows).map(of_row).collect()
}

/// A walk over the pixels of a bounding box, innermost dimension first, image by image.
struct Walk<'m> {
    map: &'m TensorMapSpec,
    lower: &'m [i32],
    upper: &'m [i32],
    offsets: &'m [i64],
}

impl Walk<'_> {
    fn rows(&self, coordinates: &[i64], channels: usize, pixels: usize) -> Vec<Row> {
        let mut at = coordinates[1..].to_vec();
        let mut rows = Vec::with_capacity(pixels);
        for number in 0..pixels {
            let offset = |axis: usize| self.offsets.get(axis).copied().unwrap_or(0);
            let rest = outer(self.map, at.iter().enumerate().map(|(axis, base)| base + offset(axis)));
            rows.push(row(self.map, number, channels, coordinates[0], rest));
            self.advance(&mut at);
        }
        rows
    }

    /// To the next pixel: beyond the upper corner of one dimension it goes on from the lower one, one further along the next.
    fn advance(&self, at: &mut [i64]) {
        let corners = self.lower.iter().zip(self.upper);
        let extents = self.map.steps[1..].iter().zip(&self.map.sizes[1..]);
        for ((place, (lower, upper)), (step, size)) in at.iter_mut().zip(corners).zip(extents) {
            *place += i64::from(*step);
            if *place < *size as i64 + i64::from(*upper) {
                return;
            }
            *place = (*lower).into();
        }
        if let Some(image) = at.last_mut() {
            *image += 1;
        }
    }
}

/// Rows in shared memory from an offset on, cut where chunks are permuted and at the edge of the tensor.
pub fn runs(rows: &[Row], shared: usize, swizzle: Swizzle) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for row in rows {
        let (inside, address) = row.inside.clone().unwrap_or((0..0, 0));
        let mut done = 0;
        while done < row.bytes {
            let at = shared + row.at + done;
            let edge = [inside.start, inside.end, row.bytes].into_iter().find(|edge| *edge > done).unwrap_or(row.bytes);
            let bytes = (CHUNK - at % CHUNK).min(edge - done);
            let global = inside.contains(&done).then(|| address + (done - inside.start) as u64);
            let run = Run { shared: swizzled(at, swizzle), bytes, global };
            done += bytes;
            let follows = |last: &&mut Run| {
                let next = last.global.map(|address| address + last.bytes as u64);
                last.shared + last.bytes == run.shared && next == run.global
            };
            match runs.last_mut().filter(follows) {
                Some(last) => last.bytes += bytes,
                None => runs.push(run),
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::super::super::{Address, TensorType};
    use super::*;

    fn map(sizes: &[u64], window: Window, steps: &[u32]) -> TensorMapSpec {
        let strides = sizes.iter().scan(2, |bytes, size| {
            *bytes *= size;
            Some(*bytes)
        });
        TensorMapSpec {
            dtype: TensorType::Bf16,
            address: Address(0x1_0000_0000),
            sizes: sizes.to_vec(),
            strides: strides.take(sizes.len() - 1).collect(),
            window,
            steps: steps.to_vec(),
            swizzle: Swizzle::None,
        }
    }

    /// The element that each place of the box comes from, by number in the tensor.
    fn elements(map: &TensorMapSpec, coordinates: &[i64], offsets: &[i64]) -> Vec<Option<u64>> {
        let rows = rows(map, coordinates, offsets);
        let mut all = vec![None; box_bytes(map) / 2];
        for run in runs(&rows, 0, Swizzle::None) {
            for byte in (0..run.bytes).step_by(2) {
                all[(run.shared + byte) / 2] = run.global.map(|at| (at - map.address.0 + byte as u64) / 2);
            }
        }
        all
    }

    #[test]
    fn a_tile_is_cut_at_every_edge() {
        let map = map(&[24, 5, 3], Window::Tile(vec![8, 3, 4]), &[1, 1, 2]);
        for (x, y, z) in [(0, 0, 0), (-3, 1, 0), (20, 3, 2), (-8, 0, 0), (4, -2, -2), (7, 5, 1), (16, 2, 3)] {
            let mut expected = Vec::new();
            for (dz, dy, dx) in (0..2).flat_map(|z| (0..3).flat_map(move |y| (0..8).map(move |x| (z, y, x)))) {
                let (x, y, z): (i64, i64, i64) = (x + dx, y + dy, z + 2 * dz);
                let inside = (0..24).contains(&x) && (0..5).contains(&y) && (0..3).contains(&z);
                expected.push(inside.then(|| ((z * 5 + y) * 24 + x) as u64));
            }
            assert_eq!(elements(&map, &[x, y, z], &[]), expected, "{x} {y} {z}");
        }
    }

    /// Pixels of a 3×3 convolution with padding 1, and stride 1 or 2, as two loops give them.
    #[test]
    fn pixels_are_those_of_a_convolution() {
        let (width, height, images) = (7i64, 5i64, 3i64);
        for stride in [1, 2] {
            let window = Window::Im2col { lower: vec![-1, -1], upper: vec![-1, -1], channels: 8, pixels: 9 };
            let map = map(&[8, width as u64, height as u64, images as u64], window, &[1, stride, stride, 1]);
            let stride = i64::from(stride);
            let (columns, lines) = ((width - 1) / stride + 1, (height - 1) / stride + 1);
            for first in [0, 3, columns * lines - 2, 2 * columns * lines] {
                for (right, down) in (0..9).map(|tap| (tap % 3, tap / 3)) {
                    let place = |pixel: i64| (pixel % columns, pixel / columns % lines, pixel / columns / lines);
                    let (x, y, image) = place(first);
                    let found = elements(&map, &[0, x * stride - 1, y * stride - 1, image], &[right, down]);
                    let expected = (first..first + 9).flat_map(|pixel| {
                        let (x, y, image) = place(pixel);
                        let (x, y) = (x * stride - 1 + right, y * stride - 1 + down);
                        let inside = (0..width).contains(&x) && (0..height).contains(&y) && image < images;
                        (0..8).map(move |channel| {
                            inside.then(|| (((image * height + y) * width + x) * 8 + channel) as u64)
                        })
                    });
                    assert_eq!(found, expected.collect::<Vec<_>>(), "stride {stride}, pixel {first}, {right} {down}");
                }
            }
        }
    }

    #[test]
    fn chunks_are_permuted_within_their_span() {
        for (swizzle, span) in [(Swizzle::B32, 2), (Swizzle::B64, 4), (Swizzle::B128, 8)] {
            for chunk in 0..64 {
                let (line, at) = (chunk / 8, chunk % 8);
                let expected = line * 8 + (at ^ (line % span));
                assert_eq!(swizzled(16 * chunk + 5, swizzle), 16 * expected + 5, "{swizzle:?} {chunk}");
            }
        }
        let rows = [Row { at: 128, bytes: 128, inside: Some((0..128, 4096)) }];
        let cut = runs(&rows, 0, Swizzle::B128);
        assert_eq!(cut.len(), 8);
        assert_eq!(cut[0], Run { shared: 144, bytes: 16, global: Some(4096) });
        assert_eq!(runs(&rows, 0, Swizzle::None), [Run { shared: 128, bytes: 128, global: Some(4096) }]);
    }
}
