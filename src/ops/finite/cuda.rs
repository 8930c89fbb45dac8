//! [`Finite`](super::Finite) on CUDA: `kernels/finite.cu`. Inputs are cut into pieces of a block each, whose sums a last
//! block adds in order.

use bytemuck::{Pod, Zeroable};

use super::Finite;
use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernels within the op.
pub const KERNEL: &str = "pieces";
const PIECE: &str = "finite_piece_f32_eights_sm80";
const FINISH: &str = "finite_finish_f32_block_sm80";
/// Numbers of one piece, at most: two turns of 256 threads with eight numbers each.
const NUMBERS: usize = 4096;
/// Bytes of what a piece leaves: a sum and a count.
const PARTIAL: usize = 8;

/// One piece of an input: a row of the table that the kernel reads.
#[derive(Clone, Copy, Pod, Zeroable, Debug, PartialEq, Eq)]
#[repr(C)]
struct Piece {
    numbers: u64,
    count: u32,
    summed: u32,
}

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    table: u64,
    partials: u64,
    out: u64,
    pieces: u32,
    unused: u32,
}

/// Asks for the launches.
pub fn run(op: &Finite, io: &mut DeviceIo) -> Result<(), Misfit> {
    let mut table = Vec::new();
    for at in 0..io.input_count() {
        let input = io.input(at);
        Misfit::unless(input.dtype == DType::F32, || format!("input {at} is {}, f32 is needed", input.dtype.name()))?;
        let summed = u32::from(at < io.input_count() - op.losses);
        table.extend(cut(input.address, input.spec.shape.elements(), summed));
    }
    let pieces = count("the count of pieces", table.len())?;
    let parameters = Parameters {
        table: io.constant(bytemuck::cast_slice(&table)),
        partials: io.workspace(PARTIAL * table.len()),
        out: io.output(0).address,
        pieces,
        unused: 0,
    };
    if pieces > 0 {
        io.launch(KernelCall::linear(PIECE, pieces, 256, &parameters));
    }
    io.launch(KernelCall::linear(FINISH, 1, 256, &parameters));
    Ok(())
}

/// The pieces of an input.
fn cut(address: u64, elements: usize, summed: u32) -> impl Iterator<Item = Piece> {
    (0..elements).step_by(NUMBERS).map(move |start| Piece {
        numbers: address + 4 * start as u64,
        count: NUMBERS.min(elements - start) as u32,
        summed,
    })
}

#[cfg(test)]
mod tests {
    use super::{FINISH, NUMBERS, PIECE, Parameters, Piece, cut};

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([PIECE, FINISH]);
        assert_eq!(size_of::<Piece>(), 16, "the kernel's struct Piece");
    }

    #[test]
    fn inputs_are_cut_into_pieces() {
        let pieces: Vec<Piece> = cut(256, NUMBERS + 3, 1).collect();
        let row = |numbers, count| Piece { numbers, count, summed: 1 };
        assert_eq!(pieces, [row(256, NUMBERS as u32), row(256 + 4 * NUMBERS as u64, 3)]);
        assert_eq!(cut(256, 0, 1).count(), 0);
    }
}
