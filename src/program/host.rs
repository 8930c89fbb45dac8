//! What a reference or CPU kernel sees of its inputs and outputs, and test cases for it.

use crate::base::{Kind, Number, Rng, Shape, Spec};

/// One input in host memory.
#[derive(Clone, Copy, Debug)]
pub enum HostInput<'a, N> {
    /// Real numbers.
    Numbers(&'a [N]),
    /// 32-bit integers.
    Indices(&'a [i32]),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// One output in host memory.
#[derive(Debug)]
pub enum HostOutput<'a, N> {
    /// Real numbers.
    Numbers(&'a mut [N]),
    /// 32-bit integers.
    Indices(&'a mut [i32]),
    /// Bytes.
    Bytes(&'a mut [u8]),
}

/// Inputs and outputs of one launch on the CPU. Positions and kinds are those that `infer` accepted; asking for
/// another kind is a mistake in the op and panics.
///
/// An input that is overwritten in place must not be read here: its numbers stand in the output on entry.
#[derive(Debug)]
pub struct HostIo<'a, N> {
    inputs: Vec<(Shape, HostInput<'a, N>)>,
    outputs: Vec<(Shape, HostOutput<'a, N>)>,
}

impl<'a, N: Number> HostIo<'a, N> {
    /// Gathers inputs and outputs.
    pub fn new(inputs: Vec<(Shape, HostInput<'a, N>)>, outputs: Vec<(Shape, HostOutput<'a, N>)>) -> Self {
        Self { inputs, outputs }
    }

    /// The same, where `M` is `N`, of which a compiler knows nothing.
    pub(super) fn under_another_name<M: Number>(&mut self) -> HostIo<'_, M> {
        let input = |&(shape, input): &(Shape, HostInput<'a, N>)| {
            let input = match input {
                HostInput::Numbers(numbers) => HostInput::Numbers(bytemuck::cast_slice(numbers)),
                HostInput::Indices(indices) => HostInput::Indices(indices),
                HostInput::Bytes(bytes) => HostInput::Bytes(bytes),
            };
            (shape, input)
        };
        let inputs = self.inputs.iter().map(input).collect();
        let outputs = self.outputs.iter_mut().map(|(shape, output)| {
            let output = match output {
                HostOutput::Numbers(numbers) => HostOutput::Numbers(bytemuck::cast_slice_mut(numbers)),
                HostOutput::Indices(indices) => HostOutput::Indices(indices),
                HostOutput::Bytes(bytes) => HostOutput::Bytes(bytes),
            };
            (*shape, output)
        });
        HostIo { inputs, outputs: outputs.collect() }
    }

    /// How many inputs there are.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Shape of an input.
    pub fn shape(&self, input: usize) -> Shape {
        self.inputs[input].0
    }

    /// Extents of an input, which has exactly `RANK` of them.
    pub fn dims<const RANK: usize>(&self, input: usize) -> [usize; RANK] {
        self.inputs[input].0.dims().try_into().expect("infer checked the rank")
    }

    /// Shape of an output.
    pub fn output_shape(&self, output: usize) -> Shape {
        self.outputs[output].0
    }

    /// Extents of an output, which has exactly `RANK` of them.
    pub fn output_dims<const RANK: usize>(&self, output: usize) -> [usize; RANK] {
        self.outputs[output].0.dims().try_into().expect("infer checked the rank")
    }

    /// An input of real numbers.
    pub fn numbers(&self, input: usize) -> &'a [N] {
        match self.inputs[input].1 {
            HostInput::Numbers(numbers) => numbers,
            _ => panic!("input {input} holds no real numbers"),
        }
    }

    /// An input of integers.
    pub fn indices(&self, input: usize) -> &'a [i32] {
        match self.inputs[input].1 {
            HostInput::Indices(indices) => indices,
            _ => panic!("input {input} holds no integers"),
        }
    }

    /// An input of bytes.
    pub fn bytes(&self, input: usize) -> &'a [u8] {
        match self.inputs[input].1 {
            HostInput::Bytes(bytes) => bytes,
            _ => panic!("input {input} holds no bytes"),
        }
    }

    /// How many rows of a packed value are real: the last of its row offsets, which are input `offsets`.
    pub fn extent(&self, offsets: usize) -> usize {
        self.indices(offsets).last().map_or(0, |&rows| rows as usize)
    }

    /// Hands out an output of real numbers; once.
    pub fn take(&mut self, output: usize) -> &'a mut [N] {
        match &mut self.outputs[output].1 {
            HostOutput::Numbers(numbers) => std::mem::take(numbers),
            _ => panic!("output {output} holds no real numbers"),
        }
    }

    /// Hands out an output of integers; once.
    pub fn take_indices(&mut self, output: usize) -> &'a mut [i32] {
        match &mut self.outputs[output].1 {
            HostOutput::Indices(indices) => std::mem::take(indices),
            _ => panic!("output {output} holds no integers"),
        }
    }

    /// Hands out an output of bytes; once.
    pub fn take_bytes(&mut self, output: usize) -> &'a mut [u8] {
        match &mut self.outputs[output].1 {
            HostOutput::Bytes(bytes) => std::mem::take(bytes),
            _ => panic!("output {output} holds no bytes"),
        }
    }
}

/// Numbers for one input of a test case.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseData {
    /// Real numbers.
    Numbers(Vec<f64>),
    /// 32-bit integers.
    Indices(Vec<i32>),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// An op with inputs to try it on. Tests of every backend enumerate these.
#[derive(Clone, Debug)]
pub struct Case<O> {
    /// The op.
    pub op: O,
    /// Spec and numbers of every input.
    pub inputs: Vec<(Spec, CaseData)>,
    /// Inputs that have a gradient, to be held against central differences; empty for backward passes.
    pub differentiable: Vec<usize>,
    /// For packed values: how many rows are real. Rows behind those are poisoned in inputs of as many rows as
    /// `capacity`, and outputs of as many rows must leave them alone.
    pub extent: Option<Extent>,
}

/// Real rows of packed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows there is room for: the first extent of a packed value.
    pub capacity: usize,
    /// Rows that hold something.
    pub rows: usize,
}

impl<O> Case<O> {
    /// A case without inputs; add them with the methods below.
    pub fn new(op: O) -> Self {
        Self { op, inputs: Vec::new(), differentiable: Vec::new(), extent: None }
    }

    /// Adds an input of standard normal numbers times `scale`.
    pub fn normal(mut self, spec: Spec, scale: f64, rng: &mut Rng) -> Self {
        let numbers = (0..spec.shape.elements()).map(|_| scale * rng.normal()).collect();
        self.inputs.push((spec, CaseData::Numbers(numbers)));
        self
    }

    /// Adds an input of numbers uniform in [low, high).
    pub fn uniform(mut self, spec: Spec, low: f64, high: f64, rng: &mut Rng) -> Self {
        let numbers = (0..spec.shape.elements()).map(|_| rng.uniform(low, high)).collect();
        self.inputs.push((spec, CaseData::Numbers(numbers)));
        self
    }

    /// Adds an input of given real numbers.
    pub fn numbers(mut self, spec: Spec, numbers: Vec<f64>) -> Self {
        self.inputs.push((spec, CaseData::Numbers(numbers)));
        self
    }

    /// Adds an input of given integers.
    pub fn indices(mut self, shape: impl Into<Shape>, indices: Vec<i32>) -> Self {
        self.inputs.push((Spec { shape: shape.into(), kind: Kind::Index }, CaseData::Indices(indices)));
        self
    }

    /// Adds an input of given bytes.
    pub fn bytes(mut self, shape: impl Into<Shape>, bytes: Vec<u8>) -> Self {
        self.inputs.push((Spec { shape: shape.into(), kind: Kind::Bytes }, CaseData::Bytes(bytes)));
        self
    }

    /// Says which inputs have a gradient.
    pub fn differentiable(mut self, inputs: &[usize]) -> Self {
        self.differentiable = inputs.to_vec();
        self
    }

    /// Says how many rows of packed values are real.
    pub fn packed(mut self, capacity: usize, rows: usize) -> Self {
        self.extent = Some(Extent { capacity, rows });
        self
    }

    /// The same case for the registry's enum.
    pub fn map<P>(self, op: impl FnOnce(O) -> P) -> Case<P> {
        Case { op: op(self.op), inputs: self.inputs, differentiable: self.differentiable, extent: self.extent }
    }
}
