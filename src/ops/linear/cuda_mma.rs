//! [`Linear`] on CUDA's tensor cores: one [`Product`] for each pass but that of the bias.

use super::matmul::{Form, Product, run as multiply};
use super::{Epilogue, Linear, Pass};
use crate::program::{DeviceIo, Misfit};

/// Asks for the launches of a product by the kernel of that name.
pub fn run(op: &Linear, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
    let (a, out) = (io.input(0), io.output(0));
    let (rows, features) = (a.spec.shape.rows(), a.spec.shape.last());
    let columns = out.spec.shape.last();
    let product = match op.pass {
        Pass::Fwd => Product { form: Form::Forward, m: rows, n: columns, k: features },
        Pass::Dgrad => Product { form: Form::ByInput, m: rows, n: columns, k: features },
        Pass::Wgrad => Product { form: Form::ByWeight, m: features, n: columns, k: rows },
        Pass::BiasGrad => return Err(Misfit::new("the gradient of a bias is no product")),
    };
    let extent = op.packed.then(|| {
        // The last offset says how many rows there are.
        let offsets = io.input(io.input_count() - 1);
        offsets.address + 4 * (offsets.spec.shape.elements() as u64 - 1)
    });
    let bias = op.bias.then(|| io.input(2));
    let before = match op.epilogue {
        Epilogue::Store => 0,
        // What is added to lies where the sums go.
        Epilogue::Add => out.address,
        Epilogue::GeluSlope => io.input(2).address,
        Epilogue::Gelu => io.output(1).address,
    };
    multiply(kernel, product, [a, io.input(1), out], bias, extent, (op.epilogue, before), io)
}
