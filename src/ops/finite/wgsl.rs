//! [`Finite`](super::Finite) in WGSL: `kernels/finite.wgsl`. Each input is cut into pieces of a workgroup each, whose sums a
//! last workgroup adds in order.

use bytemuck::{Pod, Zeroable};

use super::Finite;
use crate::program::device::count;
use crate::program::{Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "pieces";
/// Numbers of one piece, at most: 16 for each thread.
const NUMBERS: usize = 4096;
/// Bytes of what a piece leaves: a sum and a count.
const PARTIAL: usize = 8;

/// Parameters of the pieces of an input.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Piece {
    count: u32,
    first: u32,
    summed: u32,
}

/// Asks for the dispatches.
pub fn run(op: &Finite, io: &mut ShaderIo) -> Result<(), Misfit> {
    let pieces = (0..io.input_count()).map(|at| io.shape(at).elements().div_ceil(NUMBERS)).sum();
    let all = count("the count of pieces", pieces)?;
    // A binding is never empty.
    let partials = io.scratch(PARTIAL * pieces.max(1));
    let mut first = 0;
    for at in 0..io.input_count() {
        let input = io.input(at);
        let count = io.shape(at).elements() as u32;
        let groups = count.div_ceil(NUMBERS as u32);
        if groups > 0 {
            let summed = u32::from(at < io.input_count() - op.losses);
            let parameters = Piece { count, first, summed };
            io.launch(ShaderCall::linear("finite.piece", groups, [partials, input.binding()], &parameters));
        }
        first += groups;
    }
    io.launch(ShaderCall::linear("finite.finish", 1, [partials, io.output(0).binding()], &all));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{NUMBERS, run};
    use crate::base::{DType, Spec};
    use crate::ops::finite::Finite;
    use crate::program::ShaderIo;

    #[test]
    fn pieces_of_all_inputs_lie_one_behind_another() {
        let inputs = [NUMBERS + 3, 0, 1].map(|numbers| (Spec::exact([numbers]), DType::F32));
        let asked = |inputs: &[(Spec, DType)]| {
            let mut io = ShaderIo::unplaced(inputs, &[(Spec::exact([2]), DType::F32)]);
            run(&Finite { losses: inputs.len().min(1) }, &mut io).expect("it fits");
            io.finish()
        };
        let made = asked(&inputs);
        let parameters: Vec<&[u32]> = made.calls.iter().map(|call| bytemuck::cast_slice(&call.parameters)).collect();
        assert_eq!(parameters, [&[NUMBERS as u32 + 3, 0, 1][..], &[1, 2, 0], &[3]]);
        assert_eq!(made.calls[0].groups, [2, 1, 1]);
        assert_eq!(asked(&[]).calls.len(), 1, "zeros are written");
    }
}
