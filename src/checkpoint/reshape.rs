//! Tensors of files as states of a program, from other shapes too where these are the same thing.

use super::names;
use super::tensors::{Tensor, TensorFile};
use super::weights::Numbers;
use crate::base::Kind;
use crate::program::Program;
use crate::program::record::State;

/// The numbers that a tensor gives a state, with what was done if its shape is another; or what is wrong with it.
pub fn read(
    program: &Program,
    state: &State,
    file: &TensorFile,
    tensor: &Tensor,
    row: usize,
) -> Result<(Numbers, Option<&'static str>), String> {
    let wanted = names::file_shape(program, state);
    let misfit = || format!("{} is {:?} {:?}, {wanted:?} is needed", state.name, tensor.dtype, tensor.shape);
    let elements: usize = wanted.iter().product();
    let squeezed = |shape: &[usize]| shape.iter().copied().filter(|&extent| extent > 1).collect::<Vec<_>>();
    if program.spec(state.value).kind == Kind::Index {
        let counts = file.counts(tensor).filter(|counts| counts.len() == elements).ok_or_else(misfit)?;
        return Ok((Numbers::counts(&state.name, counts)?, None));
    }
    let numbers = file.reals(tensor).ok_or_else(misfit)?;
    let (numbers, how) = if tensor.shape == wanted {
        (numbers, None)
    } else if state.name.contains(".segmentation_head.") && numbers.len() > elements && tensor.shape[1..] == wanted[1..]
    {
        let own = numbers.get(row * elements..(row + 1) * elements).ok_or_else(misfit)?;
        (own.to_vec(), Some("its row of a head for several maps"))
    } else if let (&[out, 1, height, width], &[_, 3, ..]) = (&tensor.shape[..], &wanted[..])
        && [out, 3, height, width] == wanted[..]
    {
        // The three channels of a film are alike: a third for each gives the same sums.
        let planes = numbers.chunks_exact(height * width);
        (
            planes.flat_map(|plane| plane.repeat(3)).map(|weight| weight / 3.0).collect(),
            Some("a third for each channel"),
        )
    } else if squeezed(&tensor.shape) == squeezed(&wanted) {
        (numbers, Some("extents of 1 put in or taken out"))
    } else {
        return Err(misfit());
    };
    Ok((Numbers::real(program, state, numbers), how))
}
