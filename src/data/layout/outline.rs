//! Masks drawn by hand: boxes, ellipses and polygons in pixels of the film.

/// What was drawn around a thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Outline {
    /// A box, by left, top, right and bottom.
    Box([f32; 4]),
    /// An ellipse, by the left, top, right and bottom of the box around it.
    Ellipse([f32; 4]),
    /// A polygon, by its corners (x, y); where it crosses itself, what is inside twice is outside.
    Polygon(Vec<[f32; 2]>),
}

impl Outline {
    /// The left, top, right and bottom of the box around it.
    pub fn bounds(&self) -> [f32; 4] {
        match self {
            Self::Box(bounds) | Self::Ellipse(bounds) => *bounds,
            Self::Polygon(corners) => {
                let end = |axis: usize, pick: fn(f32, f32) -> f32| {
                    corners.iter().map(|corner| corner[axis]).reduce(pick).unwrap_or_default()
                };
                [end(0, f32::min), end(1, f32::min), end(0, f32::max), end(1, f32::max)]
            }
        }
    }

    /// Where it begins and ends, again and again, on a line across the film at height `y`.
    fn crossings(&self, y: f32) -> Vec<f32> {
        let [left, top, right, bottom] = self.bounds();
        match self {
            _ if y < top || y >= bottom => Vec::new(),
            Self::Box(_) => vec![left, right],
            Self::Ellipse(_) => {
                let (middle, off) = ((left + right) / 2.0, (2.0 * y - top - bottom) / (bottom - top));
                let half = (right - left) / 2.0 * (1.0 - off * off).max(0.0).sqrt();
                vec![middle - half, middle + half]
            }
            Self::Polygon(corners) => {
                let edges = corners.iter().zip(corners.iter().cycle().skip(1));
                let crossed = edges.filter(|(from, to)| (from[1] <= y) != (to[1] <= y));
                let mut found: Vec<f32> =
                    crossed.map(|(from, to)| from[0] + (y - from[1]) / (to[1] - from[1]) * (to[0] - from[0])).collect();
                found.sort_by(f32::total_cmp);
                found
            }
        }
    }
}

/// The mask [height, width] of a film of this shape (width, height), 255 where the middle of a pixel is within an outline.
pub(in crate::data) fn paint(outlines: &[Outline], shape: (usize, usize)) -> Vec<u8> {
    let mut mask = vec![0; shape.0 * shape.1];
    let pixel = |place: f32, most: usize| (place - 0.5).ceil().clamp(0.0, most as f32) as usize;
    for outline in outlines {
        let [_, top, _, bottom] = outline.bounds();
        for row in pixel(top, shape.1)..pixel(bottom, shape.1) {
            for ends in outline.crossings(row as f32 + 0.5).as_chunks::<2>().0 {
                let [from, to] = ends.map(|place| pixel(place, shape.0));
                mask[row * shape.0..][from..to].fill(255);
            }
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(outline: Outline, shape: (usize, usize)) -> Vec<String> {
        let mask = paint(&[outline], shape);
        mask.chunks(shape.0)
            .map(|row| row.iter().map(|&value| if value == 255 { '#' } else { '.' }).collect())
            .collect()
    }

    #[test]
    fn pixels_whose_middle_is_inside_are_painted() {
        assert_eq!(rows(Outline::Box([1.0, -3.0, 2.6, 1.5]), (4, 3)), [".##.", "....", "...."]);
        assert_eq!(rows(Outline::Ellipse([0.0, 0.0, 6.0, 4.0]), (7, 4)), [".####..", "######.", "######.", ".####.."]);
        let triangle = Outline::Polygon(vec![[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]);
        assert_eq!(rows(triangle, (5, 4)), ["###..", "##...", "#....", "....."]);
        // An hourglass, beyond the film on one side, and a frame that goes around its hole the other way.
        let hourglass = Outline::Polygon(vec![[-2.0, 0.0], [6.0, 0.0], [-2.0, 4.0], [6.0, 4.0]]);
        assert_eq!(rows(hourglass, (5, 4)), ["#####", ".##..", ".##..", "#####"]);
        let frame =
            [[0., 0.], [4., 0.], [4., 4.], [0., 4.], [0., 0.], [1., 1.], [1., 3.], [3., 3.], [3., 1.], [1., 1.]];
        assert_eq!(rows(Outline::Polygon(frame.to_vec()), (4, 4)), ["####", "#..#", "#..#", "####"]);
        let outside = Outline::Box([9.0, 9.0, 12.0, 12.0]);
        assert_eq!(paint(&[outside, Outline::Box([1.0, 1.0, 1.0, 5.0])], (3, 3)), [0; 9]);
    }
}
