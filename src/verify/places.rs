//! Elements of a value by their places along its extents: which of those that a block wrote are compared, and where they
//! stand in a part of the value.

use std::collections::BTreeSet;

use super::restrict::Axes;
use crate::ops::Op;
use crate::ops::conv2d::Pass;

/// Places that are compared at most: along the last extent of a block's results, along a value seen as one row, and along the
/// outputs and the channels of a convolution's weight, each of which is a sum over pixels.
const MOST_COLUMNS: usize = 16;
const MOST_ELEMENTS: usize = 4096;
const MOST_WEIGHTS: usize = 4;
/// Rows of pixels that are compared of a block of a convolution: one that goes round many tiles writes whole images, whose
/// definition would take minutes.
const MOST_ROWS: usize = 64;

/// The places along each extent that elements lie at, fewer where there are many.
pub fn thinned(op: &Op, dims: &[usize], elements: &[usize]) -> Axes {
    let mut axes: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); dims.len()];
    let row = |element: usize| match (op, dims) {
        (Op::Conv2d(conv), &[_, _, width, channels]) if conv.pass != Pass::Wgrad => element / (width * channels),
        _ => 0,
    };
    let behind = elements.iter().map(|&element| row(element)).min().map_or(0, |first| first + MOST_ROWS);
    for &element in elements.iter().filter(|&&element| row(element) < behind) {
        let mut rest = element;
        for (axis, &extent) in axes.iter_mut().zip(dims).rev() {
            axis.insert(rest % extent);
            rest /= extent;
        }
    }
    let weights = matches!(op, Op::Conv2d(conv) if conv.pass == Pass::Wgrad);
    let most = |axis: usize| match (weights, dims.len()) {
        (true, _) if axis == 0 || axis == 3 => MOST_WEIGHTS,
        (false, 1) => MOST_ELEMENTS,
        (false, count) if axis + 1 == count => MOST_COLUMNS,
        _ => usize::MAX,
    };
    // Evenly, the first and the last among them.
    let thin = |(axis, places): (usize, BTreeSet<usize>)| {
        let (places, most) = (places.into_iter().collect::<Vec<_>>(), most(axis));
        if places.len() <= most {
            return places;
        }
        (0..most).map(|at| places[at * (places.len() - 1) / (most - 1)]).collect()
    };
    axes.into_iter().enumerate().map(thin).collect()
}

/// Position along each axis of an element; `None` where it is not in it.
pub fn positions(dims: &[usize], axes: &Axes, element: usize) -> Option<Vec<usize>> {
    let (mut rest, mut positions) = (element, Vec::new());
    for (axis, &extent) in axes.iter().zip(dims).rev() {
        positions.push(axis.binary_search(&(rest % extent)).ok()?);
        rest /= extent;
    }
    positions.reverse();
    Some(positions)
}

/// Where an element of the whole stands in the part that is kept.
pub fn place_in(dims: &[usize], kept: &Axes, kept_dims: &[usize], element: usize) -> Option<usize> {
    let positions = positions(dims, kept, element)?;
    Some(positions.iter().zip(kept_dims).fold(0, |at, (position, extent)| at * extent + position))
}

/// Flat places of all combinations of the axes, the last one fastest.
pub fn product<'a>(dims: &'a [usize], axes: &'a Axes) -> impl Iterator<Item = usize> + 'a {
    let count: usize = axes.iter().map(Vec::len).product();
    (0..count).map(move |index| {
        let (mut rest, mut at, mut stride) = (index, 0, 1);
        for (axis, &extent) in axes.iter().zip(dims).rev() {
            at += axis[rest % axis.len()] * stride;
            (rest, stride) = (rest / axis.len(), stride * extent);
        }
        at
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv2d::Conv2d;

    #[test]
    fn of_many_rows_of_pixels_the_first_are_compared() {
        // The last ten rows of an image and all of the next, 100 by 4 pixels of 8 channels.
        let dims = [3, 100, 4, 8];
        let written: Vec<usize> = (90 * 32..200 * 32).collect();
        let axes = thinned(&Conv2d::fwd(3).into(), &dims, &written);
        assert_eq!((axes[0].as_slice(), axes[1].len()), (&[0, 1][..], MOST_ROWS));
        assert_eq!(axes[1].last(), Some(&99));
        let compared = written.iter().filter(|&&at| positions(&dims, &axes, at).is_some_and(|at| at[0] == 0));
        assert_eq!(compared.count(), 10 * 32, "of the first image all that was written");
    }
}
