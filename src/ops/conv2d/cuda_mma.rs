//! [`Conv2d`] of single pixels on CUDA's tensor cores: a [`Product`] whose rows are the pixels.

use super::{Conv2d, Pass, Source};
use crate::ops::linear::Epilogue;
use crate::ops::linear::matmul::{Form, Product, run as multiply};
use crate::program::{DeviceIo, Misfit};

/// Asks for the launches of a product by the kernel of that name.
pub fn run(op: &Conv2d, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
    let single = (op.kernel, op.stride, op.padding, op.source) == (1, 1, 0, Source::Plain);
    Misfit::unless(single, || "only a plain convolution of single pixels is a product".into())?;
    let (a, b, out) = (io.input(0), io.input(1), io.output(0));
    let (pixels, channels) = (a.spec.shape.rows(), a.spec.shape.last());
    let columns = out.spec.shape.last();
    let product = match op.pass {
        Pass::Fwd => Product { form: Form::Forward, m: pixels, n: columns, k: channels },
        Pass::Dgrad { .. } => Product { form: Form::ByInput, m: pixels, n: columns, k: channels },
        Pass::Wgrad => Product { form: Form::ByWeight, m: channels, n: columns, k: pixels },
    };
    let bias = op.bias.then(|| io.input(2));
    let epilogue = if op.add { (Epilogue::Add, out.address) } else { (Epilogue::Store, 0) };
    multiply(kernel, product, [a, b, out], bias, None, epilogue, io)
}
