//! Between states and tensors in files: which belong there, their shapes and the order of their numbers.

use crate::base::{Kind, Shape};
use crate::program::Program;
use crate::program::record::{FileLayout, Role, State};

/// Positions of the states that a file of weights holds: parameters and statistics.
pub fn weights(program: &Program) -> Vec<usize> {
    positions(program, |role| role != Role::Moment)
}

/// Positions of AdamW's moments.
pub fn moments(program: &Program) -> Vec<usize> {
    positions(program, |role| role == Role::Moment)
}

fn positions(program: &Program, wanted: impl Fn(Role) -> bool) -> Vec<usize> {
    program.states.iter().enumerate().filter(|(_, state)| wanted(state.role)).map(|(at, _)| at).collect()
}

/// Tensors of files that nothing in this program uses: of published ones a dead convolution, BERT's pooler and a buffer of
/// old transformers; the decoder's, if the program has no decoder.
pub fn unused(program: &Program, name: &str) -> bool {
    let decodes =
        |name: &str| name.starts_with("img_model.decoder.") || name.starts_with("img_model.segmentation_head.");
    let without = || !program.states.iter().any(|state| decodes(&state.name));
    name.starts_with("pseudo_conv.")
        || name.starts_with("lm_model.pooler.")
        || name.ends_with(".position_ids")
        || decodes(name) && without()
}

/// Shape in a file. Counts, which are \[1\] here, are scalars there.
pub fn file_shape(program: &Program, state: &State) -> Vec<usize> {
    let spec = program.spec(state.value);
    if spec.kind == Kind::Index { Vec::new() } else { state.layout.file_shape(spec.shape) }
}

/// Numbers in the engine's order from those in a file's; `shape` is the engine's.
pub fn from_file<T: Copy>(layout: FileLayout, shape: Shape, numbers: Vec<T>) -> Vec<T> {
    match (layout, shape.dims()) {
        (FileLayout::Conv2d, &[_, height, width, channels]) => transpose(numbers, channels, height * width),
        _ => numbers,
    }
}

/// Numbers in a file's order from those in the engine's; `shape` is the engine's.
pub fn to_file<T: Copy>(layout: FileLayout, shape: Shape, numbers: Vec<T>) -> Vec<T> {
    match (layout, shape.dims()) {
        (FileLayout::Conv2d, &[_, height, width, channels]) => transpose(numbers, height * width, channels),
        _ => numbers,
    }
}

/// Swaps the two inner extents of [.., rows, columns].
fn transpose<T: Copy>(numbers: Vec<T>, rows: usize, columns: usize) -> Vec<T> {
    if rows == 1 || columns == 1 {
        return numbers;
    }
    let mut turned = Vec::with_capacity(numbers.len());
    for block in numbers.chunks_exact(rows * columns) {
        for column in 0..columns {
            turned.extend((0..rows).map(|row| block[row * columns + column]));
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convolutions_turn_and_return() {
        let shape = Shape::from([2, 1, 3, 2]);
        let file: Vec<i32> = vec![0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32];
        let engine = from_file(FileLayout::Conv2d, shape, file.clone());
        assert_eq!(engine, [0, 10, 1, 11, 2, 12, 20, 30, 21, 31, 22, 32]);
        assert_eq!(to_file(FileLayout::Conv2d, shape, engine), file);
        assert_eq!(FileLayout::Conv2d.file_shape(shape), [2, 2, 1, 3]);
    }
}
