//! [`BodyMask`](super::BodyMask), images side by side. Pixels are taken in runs along rows, and runs that touch are
//! joined: a film has some hundred runs, where it has thousands of pixels.

use std::ops::Range;

use rayon::prelude::*;

use super::BodyMask;
use crate::base::Number;
use crate::program::HostIo;

/// Images do not depend on each other.
pub fn run<N: Number>(op: &BodyMask, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(0);
    let bodies = io.take_bytes(0).par_chunks_mut(height * width);
    let images = io.numbers(0).par_chunks(height * width).zip(bodies);
    images.for_each(|(plane, body)| image(plane, op.threshold.to(), width, body));
}

/// The body of one image.
fn image<N: Number>(plane: &[N], threshold: N, width: usize, body: &mut [u8]) {
    let bright = Runs::new(plane.len(), width, |at| plane[at] > threshold);
    let Some(largest) = bright.largest() else { return body.fill(1) };
    body.fill(0);
    for (at, run) in bright.runs.iter().enumerate() {
        if bright.root(at) == largest {
            body[run.clone()].fill(1);
        }
    }
    let rest = Runs::new(body.len(), width, |at| body[at] == 0);
    let (top, bottom) = (width, body.len() - width);
    let mut outside = vec![false; rest.runs.len()];
    for (at, run) in rest.runs.iter().enumerate() {
        let at_side = run.start.is_multiple_of(width) || run.end.is_multiple_of(width);
        outside[rest.root(at)] |= at_side || run.start < top || run.end > bottom;
    }
    body.fill(1);
    for (at, run) in rest.runs.iter().enumerate() {
        if outside[rest.root(at)] {
            body[run.clone()].fill(0);
        }
    }
}

/// Runs of member pixels along rows, in raster order, and which of them are 4-connected.
struct Runs {
    runs: Vec<Range<usize>>,
    /// For each run an earlier one of its component, or itself.
    joined: Vec<usize>,
}

impl Runs {
    fn new(pixels: usize, width: usize, member: impl Fn(usize) -> bool) -> Self {
        let mut found = Self { runs: Vec::new(), joined: Vec::new() };
        let mut above = 0..0;
        for row in (0..pixels).step_by(width) {
            let first = found.runs.len();
            let mut at = row;
            while at < row + width {
                let start = (at..row + width).find(|&at| member(at)).unwrap_or(row + width);
                at = (start..row + width).find(|&at| !member(at)).unwrap_or(row + width);
                if start < at {
                    found.joined.push(found.runs.len());
                    found.runs.push(start..at);
                }
            }
            let here = first..found.runs.len();
            found.join(above, here.clone(), width);
            above = here;
        }
        found
    }

    /// Joins the runs of two neighbouring rows that share a column.
    fn join(&mut self, mut above: Range<usize>, mut here: Range<usize>, width: usize) {
        while !above.is_empty() && !here.is_empty() {
            let (upper, lower) = (&self.runs[above.start], &self.runs[here.start]);
            let (upper, lower) = (upper.start + width..upper.end + width, lower.clone());
            if upper.start < lower.end && lower.start < upper.end {
                let (a, b) = (self.root(above.start), self.root(here.start));
                self.joined[a.max(b)] = a.min(b);
            }
            if upper.end <= lower.end {
                above.start += 1;
            } else {
                here.start += 1;
            }
        }
    }

    /// The first run of a run's component.
    fn root(&self, mut run: usize) -> usize {
        while self.joined[run] != run {
            run = self.joined[run];
        }
        run
    }

    /// The first run of the component with the most pixels, the first such in raster order.
    fn largest(&self) -> Option<usize> {
        let mut sizes = vec![0; self.runs.len()];
        for (at, run) in self.runs.iter().enumerate() {
            sizes[self.root(at)] += run.len();
        }
        (0..sizes.len()).rev().max_by_key(|&at| sizes[at])
    }
}
