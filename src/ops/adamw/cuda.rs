//! [`AdamW`] on CUDA: `ptx/hand/adamw.ptx`. All parameters in one launch, cut into pieces of a block each.

use bytemuck::{Pod, Zeroable};

use super::AdamW;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// Name of the kernel within the op.
pub const KERNEL: &str = "pieces";
/// The kernel.
const SYMBOL: &str = "adamw_update_f32_sm80";
/// Numbers of one piece, at most: four turns of 256 threads with four numbers each.
const PIECE: usize = 4096;
/// Bytes that addresses are a multiple of: four numbers are read at a time.
const ALIGN: u64 = 16;

/// Addresses of one parameter and what belongs to it, f32 all of them, each a multiple of 16.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its gradient; of no account if the op has none.
    pub gradient: u64,
    /// Its weights.
    pub weights: u64,
    /// Their first moments.
    pub first: u64,
    /// Their second moments.
    pub second: u64,
    /// How many numbers each of these holds.
    pub elements: usize,
}

/// One piece of a parameter: a row of the table that the kernel reads.
#[derive(Clone, Copy, Pod, Zeroable, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Piece {
    gradient: u64,
    weights: u64,
    first: u64,
    second: u64,
    count: u32,
    unused: u32,
}

/// The kernel's parameters.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Update {
    table: u64,
    scalars: u64,
    finite: u64,
    weight_decay: f32,
    toward1: f32,
    beta1: f32,
    beta2: f32,
    toward2: f32,
    eps: f32,
    gradient: u32,
    unused: u32,
}

/// The table for these parameters: it depends on addresses alone, so it is uploaded once, to an address that is a
/// multiple of 8. Fails where an address does not suit the kernel.
pub fn table(op: &AdamW, parameters: &[Parameter]) -> Result<Vec<Piece>, Misfit> {
    let mut pieces = Vec::new();
    for (at, parameter) in parameters.iter().enumerate() {
        let Parameter { gradient, weights, first, second, elements } = *parameter;
        let addresses = [if op.gradient { gradient } else { 0 }, weights, first, second];
        Misfit::unless(addresses.iter().all(|address| address.is_multiple_of(ALIGN)), || {
            format!("parameter {at} lies at {addresses:#x?}, multiples of {ALIGN} are needed")
        })?;
        for start in (0..elements).step_by(PIECE) {
            let [gradient, weights, first, second] = addresses.map(|address| address.wrapping_add(4 * start as u64));
            let count = PIECE.min(elements - start) as u32;
            pieces.push(Piece { gradient, weights, first, second, count, unused: 0 });
        }
    }
    let most = i32::MAX as usize;
    Misfit::unless(pieces.len() <= most, || format!("{} pieces, at most {most} fit one launch", pieces.len()))?;
    Ok(pieces)
}

/// Asks for the launch that updates all parameters.
pub fn run(op: &AdamW, io: &mut DeviceIo) -> Result<(), Misfit> {
    let stride = op.stride();
    let parameter = |at: usize| {
        // Updated in place: weights and moments lie where the outputs do.
        let [weights, first, second] = [0, 1, 2].map(|part| io.output(3 * at + part).address);
        let elements = io.output(3 * at).spec.shape.elements();
        let gradient = if op.gradient { io.input(2 + at * stride).address } else { 0 };
        Parameter { gradient, weights, first, second, elements }
    };
    let parameters: Vec<Parameter> = (0..io.output_count() / 3).map(parameter).collect();
    let pieces = table(op, &parameters)?;
    let (scalars, finite) = (io.input(0).address, io.input(1).address);
    let at = io.constant(bytemuck::cast_slice(&pieces));
    if let Some(call) = call(op, at, pieces.len(), scalars, finite) {
        io.launch(call);
    }
    Ok(())
}

/// The launch for a table of `pieces` rows; none if it is empty.
pub fn call(op: &AdamW, table: u64, pieces: usize, scalars: u64, finite: u64) -> Option<KernelCall> {
    let parameters = Update {
        table,
        scalars,
        finite,
        weight_decay: op.weight_decay.to(),
        toward1: (1.0 - op.beta1.0) as f32,
        beta1: op.beta1.to(),
        beta2: op.beta2.to(),
        toward2: (1.0 - op.beta2.0) as f32,
        eps: op.eps.to(),
        gradient: u32::from(op.gradient),
        unused: 0,
    };
    (pieces > 0).then(|| KernelCall::linear(SYMBOL, pieces as u32, 256, &parameters))
}

#[cfg(test)]
mod tests {
    use super::{PIECE, Parameter, Piece, SYMBOL, Update, table};
    use crate::base::Real;
    use crate::ops::adamw::AdamW;

    const OP: AdamW =
        AdamW { beta1: Real(0.9), beta2: Real(0.999), eps: Real(1e-8), weight_decay: Real(0.01), gradient: true };

    #[test]
    fn the_kernel_declares_the_same_parameters() {
        let (_, entry) = crate::kernels::find(SYMBOL).expect("it ships");
        assert_eq!(size_of::<Update>(), entry.parameter_bytes);
        assert_eq!(align_of::<Update>(), entry.parameter_align);
        assert_eq!(size_of::<Piece>(), 40, "what the kernel multiplies a row by");
    }

    #[test]
    fn parameters_are_cut_into_pieces() {
        let parameter =
            |elements| Parameter { gradient: 0, weights: 1 << 20, first: 2 << 20, second: 3 << 20, elements };
        let pieces = table(&OP, &[parameter(PIECE + 1), parameter(0), parameter(3)]).unwrap();
        let counts: Vec<u32> = pieces.iter().map(|piece| piece.count).collect();
        assert_eq!(counts, [PIECE as u32, 1, 3]);
        assert_eq!(pieces[1].second, (3 << 20) + 4 * PIECE as u64);
    }

    #[test]
    fn addresses_that_are_not_aligned_are_refused() {
        for (weights, gradient) in [(8, 0), (0, 4)] {
            let parameter = Parameter { gradient, weights, first: 0, second: 0, elements: 1 };
            assert!(table(&OP, &[parameter]).is_err());
        }
        let unread = Parameter { gradient: 4, weights: 0, first: 0, second: 0, elements: 1 };
        assert!(table(&AdamW { gradient: false, ..OP }, &[unread]).is_ok(), "no gradient is read");
    }
}
