//! An op of one's own: the gated unit SwiGLU (Shazeer, 2020), with σ(a) = 1 / (1 + exp(−a)).
//!
//! | pass | inputs (one shape) | outputs |
//! |---|---|---|
//! | `Fwd` | a, b | y = a · σ(a) · b |
//! | `Bwd` | dy, a, b | da = dy · b · σ(a) · (1 + a · (1 − σ(a))), db = dy · a · σ(a) |

use bytemuck::{Pod, Zeroable};
use g2d::base::{Number, Rng, Spec};
use g2d::kernels::Brought;
use g2d::ops::Op;
use g2d::program::device::{count, exact};
use g2d::program::{
    Backward, Case, DeviceIo, HostIo, KernelCall, Misfit, Operation, Outputs, Pass, Recorder, ShaderIo, Size, Value,
};

/// See the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SwiGlu {
    /// Forward or backward.
    pub pass: Pass,
}

/// So that a recorder takes it as it takes the engine's own.
impl From<SwiGlu> for Op {
    fn from(op: SwiGlu) -> Self {
        Self::foreign(op)
    }
}

/// Parameters of the entries of `swiglu.ptx`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    dy: u64,
    a: u64,
    b: u64,
    /// y or da.
    first: u64,
    db: u64,
    count: u64,
}

impl Operation for SwiGlu {
    const VARIANTS: usize = 2;
    const PTX: &'static [Brought] = &[Brought { name: "swiglu.ptx", text: include_str!("swiglu.ptx") }];
    const WGSL: &'static [Brought] = &[Brought { name: "swiglu", text: include_str!("swiglu.wgsl") }];

    fn name(&self) -> &'static str {
        match self.pass {
            Pass::Fwd => "swiglu.fwd",
            Pass::Bwd => "swiglu.bwd",
        }
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let values = match self.pass {
            Pass::Fwd => Misfit::inputs::<2>(inputs)?.to_vec(),
            Pass::Bwd => Misfit::inputs::<3>(inputs)?.to_vec(),
        };
        let alike = values.iter().all(|value| value.is_real() && *value == values[0]);
        Misfit::unless(alike, || format!("{values:?} are not real numbers of one shape and kind"))?;
        Ok(Outputs::new(vec![values[0]; if self.pass == Pass::Fwd { 1 } else { 2 }]))
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        Misfit::unless(self.pass == Pass::Fwd, || format!("{} has no gradient rule", self.name()))?;
        let gradients = r.node(Self { pass: Pass::Bwd }, &[at.seed(0)?, at.inputs[0], at.inputs[1]])?;
        Ok(gradients.into_iter().map(Some).collect())
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        // An exponential counts as 20.
        24 * (inputs[0].shape.elements() * outputs.len()) as u64
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        let sigmoid = |a: N| N::ONE / (N::ONE + (-a).exp());
        if self.pass == Pass::Fwd {
            let (a, b) = (io.numbers(0), io.numbers(1));
            for (at, y) in io.take(0).iter_mut().enumerate() {
                *y = a[at] * sigmoid(a[at]) * b[at];
            }
            return;
        }
        let (dy, a, b) = (io.numbers(0), io.numbers(1), io.numbers(2));
        let (da, db) = (io.take(0), io.take(1));
        for (at, &dy) in dy.iter().enumerate() {
            let s = sigmoid(a[at]);
            da[at] = dy * b[at] * s * (N::ONE + a[at] * (N::ONE - s));
            db[at] = dy * a[at] * s;
        }
    }

    fn cuda(&self) -> &'static [&'static str] {
        &["numbers"]
    }

    fn run_cuda(&self, _kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        let backward = usize::from(self.pass == Pass::Bwd);
        let (a, b) = (exact("a", io.input(backward))?, exact("b", io.input(backward + 1))?);
        let [dy, db] = if backward == 1 { [exact("dy", io.input(0))?, exact("db", io.output(1))?] } else { [0, 0] };
        let numbers = count("the count of numbers", io.shape(0).elements())?;
        let parameters = Parameters { dy, a, b, first: exact("y", io.output(0))?, db, count: numbers.into() };
        let symbol = if backward == 1 { "swiglu_bwd_f32" } else { "swiglu_fwd_f32" };
        if numbers > 0 {
            io.launch(KernelCall::linear(symbol, numbers.div_ceil(256), 256, &parameters));
        }
        Ok(())
    }

    fn wgsl(&self) -> &'static [&'static str] {
        &["numbers"]
    }

    fn run_wgsl(&self, _kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        let numbers = io.shape(0).elements() as u32;
        let values = (0..io.input_count()).map(|at| io.input(at)).chain((0..io.output_count()).map(|at| io.output(at)));
        let bindings: Vec<_> = values.map(|value| value.binding()).collect();
        io.each(if self.pass == Pass::Fwd { "swiglu.fwd" } else { "swiglu.bwd" }, numbers, bindings, &numbers);
        Ok(())
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        let spec = Spec::activation([size.batch, size.side, size.channels]);
        let pass = if variant == 0 { Pass::Fwd } else { Pass::Bwd };
        let case = Case::new(Self { pass }).normal(spec, 1.0, rng).normal(spec, 1.0, rng);
        if variant == 0 { case.differentiable(&[0, 1]) } else { case.normal(spec, 1.0, rng) }
    }
}
