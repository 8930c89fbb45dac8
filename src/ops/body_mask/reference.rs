//! The definition of [`BodyMask`](super::BodyMask).

use super::BodyMask;
use crate::base::Number;
use crate::program::HostIo;

/// Image by image.
pub fn run<N: Number>(op: &BodyMask, io: &mut HostIo<'_, N>) {
    let [_, height, width] = io.dims(0);
    let images = io.numbers(0).chunks(height * width).zip(io.take_bytes(0).chunks_mut(height * width));
    images.for_each(|(plane, body)| image(plane, op.threshold.to(), width, body));
}

/// The body of one image.
pub fn image<N: Number>(plane: &[N], threshold: N, width: usize, body: &mut [u8]) {
    let bright: Vec<bool> = plane.iter().map(|&value| value > threshold).collect();
    let mut largest = Vec::new();
    let mut seen = vec![false; plane.len()];
    for at in 0..plane.len() {
        let found = component(at, width, &bright, &mut seen);
        if found.len() > largest.len() {
            largest = found;
        }
    }
    body.fill(1);
    if largest.is_empty() {
        return;
    }
    let mut rest = vec![true; plane.len()];
    largest.iter().for_each(|&at| rest[at] = false);
    seen.fill(false);
    for at in 0..plane.len() {
        let (x, last_row) = (at % width, at >= plane.len() - width);
        if at < width || last_row || x == 0 || x == width - 1 {
            component(at, width, &rest, &mut seen).iter().for_each(|&outside| body[outside] = 0);
        }
    }
}

/// The pixels of `members` that are 4-connected to `from`, which are then `seen`; none if `from` is no member or was
/// seen before.
fn component(from: usize, width: usize, members: &[bool], seen: &mut [bool]) -> Vec<usize> {
    let mut found = Vec::new();
    let visit = |at: usize, found: &mut Vec<usize>, seen: &mut [bool]| {
        if members[at] && !seen[at] {
            seen[at] = true;
            found.push(at);
        }
    };
    visit(from, &mut found, seen);
    let mut next = 0;
    while next < found.len() {
        let at = found[next];
        next += 1;
        if at >= width {
            visit(at - width, &mut found, seen);
        }
        if at + width < members.len() {
            visit(at + width, &mut found, seen);
        }
        if at % width > 0 {
            visit(at - 1, &mut found, seen);
        }
        if (at + 1) % width > 0 {
            visit(at + 1, &mut found, seen);
        }
    }
    found
}
