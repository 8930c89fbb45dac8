//! The recorder: model code runs once and leaves a list of nodes behind.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::op::{Misfit, Outputs};
use crate::base::{Shape, Spec};
use crate::ops::Op;

/// A value of a program: an index, and which recorder it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Value {
    index: u32,
    recorder: u32,
}

impl Value {
    /// Its position in [`Program::values`].
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The value at another position of the same program.
    pub(super) fn sibling(self, index: usize) -> Self {
        Self { index: index as u32, ..self }
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Uploaded for every step; a position in [`Program::inputs`].
    Input(usize),
    /// Lives as long as the run; a position in [`Program::states`].
    State(usize),
    /// Computed; a position in [`Program::nodes`] and which of its outputs.
    Node(usize, usize),
}

/// What is known about a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Shape and kind.
    pub spec: Spec,
    /// Where it comes from.
    pub origin: Origin,
}

/// One recorded op.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<Value>,
    /// What it makes.
    pub outputs: Vec<Value>,
    /// For each output, the input it overwrites or may overwrite.
    pub overwrites: Vec<Option<super::op::Overwrite>>,
    /// Where in the model it was recorded: `img_model.encoder.layer3.0.conv2`; backward nodes end in `'`.
    pub scope: String,
}

/// How the numbers of a fresh parameter are drawn. Fans are those of torch: `fan_in` = inputs times kernel area.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
    /// Normal, but for a first row of zeros: embeddings, of which the first stands for padding.
    Embedding {
        /// Standard deviation.
        deviation: f64,
        /// Length of a row.
        width: usize,
    },
}

/// The order of numbers in a file, where it differs from the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// The file has the engine's shape.
    Same,
    /// Engine [out, height, width, in]; file [out, in, height, width] (torch's conv2d).
    Conv2d,
    /// Engine [out, 1, 1, in] or [out, in]; file [out, in, 1] (torch's conv1d of width 1).
    Conv1d,
}

impl FileLayout {
    /// The shape in a file of a value of shape `engine`.
    pub fn file_shape(self, engine: Shape) -> Vec<usize> {
        let dims = engine.dims();
        match self {
            Self::Same => dims.to_vec(),
            Self::Conv2d => vec![dims[0], dims[3], dims[1], dims[2]],
            Self::Conv1d => vec![dims[0], engine.last(), 1],
        }
    }
}

/// What a state is for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Role {
    /// A parameter; frozen ones get no gradient.
    Parameter {
        /// Whether it learns.
        trainable: bool,
    },
    /// A running statistic or a count of batches.
    Statistic,
    /// Adam's moment; its name is the parameter's with `.m` or `.v`.
    Moment,
}

/// Numbers that live as long as the run.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The published name.
    pub name: String,
    /// Its value before the step.
    pub value: Value,
    /// What it is for.
    pub role: Role,
    /// How it starts.
    pub init: Init,
    /// Its order in files.
    pub layout: FileLayout,
}

/// A recorded step: a list of nodes in the order in which they run, and the values between them. Passes turn
/// programs into programs; the planner turns one into a [`crate::program::plan::Plan`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The list.
    pub nodes: Vec<Node>,
    /// Every value.
    pub values: Vec<ValueInfo>,
    /// What is uploaded, by name.
    pub inputs: Vec<(String, Value)>,
    /// What lives as long as the run.
    pub states: Vec<State>,
    /// What can be read after a step, by name.
    pub outputs: Vec<(String, Value)>,
    /// Gradient of each trainable parameter in the order in which gradients complete: position in `states`, value.
    pub gradients: Vec<(usize, Value)>,
}

impl Program {
    /// Spec of a value.
    pub fn spec(&self, value: Value) -> Spec {
        self.values[value.index()].spec
    }

    /// The state of that name.
    pub fn state(&self, name: &str) -> Option<&State> {
        self.states.iter().find(|state| state.name == name)
    }

    /// The value that can be read under that name.
    pub fn output(&self, name: &str) -> Option<Value> {
        self.outputs.iter().find(|(output, _)| output == name).map(|&(_, value)| value)
    }
}

/// A mistake in a recording, with the place where it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Scope of the node.
    pub scope: String,
    /// The op.
    pub op: String,
    /// What does not fit.
    pub misfit: Misfit,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.scope, self.op, self.misfit)
    }
}

impl std::error::Error for RecordError {}

/// A mistake met inside a gradient rule, on its way to a [`RecordError`] of its own.
impl From<RecordError> for Misfit {
    fn from(error: RecordError) -> Self {
        Self(format!("{} ({})", error.misfit, error.op))
    }
}

/// Writes a program down. Scopes become the prefixes of parameter names.
///
/// ```
/// use g2d::base::Spec;
/// use g2d::ops::cross_entropy::CrossEntropy;
/// use g2d::ops::linear::Linear;
/// use g2d::program::Recorder;
/// use g2d::program::record::Init;
///
/// let mut r = Recorder::new();
/// let x = r.input("x", Spec::activation([4, 8]));
/// let classes = r.input("classes", Spec::index([4]));
/// let logits = r.scope("head", |r| {
///     let weight = r.parameter("weight", [3, 8], Init::Normal(0.1));
///     r.one(Linear::fwd(), &[x, weight])
/// })?;
/// assert_eq!(r.shape(logits).dims(), [4, 3]);
/// let loss = r.one(CrossEntropy::fwd(), &[logits, classes])?;
/// r.differentiate(loss)?;
///
/// let program = r.finish();
/// assert_eq!(program.states[0].name, "head.weight");
/// assert_eq!(program.gradients.len(), 1);
/// # Ok::<(), g2d::program::record::RecordError>(())
/// ```
///
/// What does not fit is found here and told with its scope:
///
/// ```
/// # use g2d::base::Spec;
/// # use g2d::program::Recorder;
/// # use g2d::ops::linear::Linear;
/// let mut r = Recorder::new();
/// let [x, w] = [[4, 8], [3, 7]].map(|shape| r.input("value", Spec::exact(shape)));
/// let refused = r.scope("head", |r| r.one(Linear::fwd(), &[x, w])).unwrap_err();
/// assert!(refused.to_string().starts_with("head: linear.fwd: "));
/// ```
#[derive(Debug)]
pub struct Recorder {
    identity: u32,
    pub(super) scopes: Vec<String>,
    /// The program so far.
    pub(super) program: Program,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty recording.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self { identity: NEXT.fetch_add(1, Ordering::Relaxed), scopes: Vec::new(), program: Program::default() }
    }

    /// Records `body` under a further scope.
    pub fn scope<T>(&mut self, name: impl Into<String>, body: impl FnOnce(&mut Self) -> T) -> T {
        self.scopes.push(name.into());
        let result = body(self);
        self.scopes.pop();
        result
    }

    /// `name` behind the current scopes: `img_model.encoder.conv1.weight`.
    pub fn path(&self, name: &str) -> String {
        let mut path = self.scopes.join(".");
        if !path.is_empty() && !name.is_empty() {
            path.push('.');
        }
        path + name
    }

    fn value(&mut self, spec: Spec, origin: Origin) -> Value {
        self.program.values.push(ValueInfo { spec, origin });
        Value { index: (self.program.values.len() - 1) as u32, recorder: self.identity }
    }

    /// Declares something that is uploaded for every step.
    pub fn input(&mut self, name: impl Into<String>, spec: Spec) -> Value {
        let value = self.value(spec, Origin::Input(self.program.inputs.len()));
        self.program.inputs.push((name.into(), value));
        value
    }

    /// Declares state under the current scopes.
    pub fn state(&mut self, name: &str, spec: Spec, role: Role, init: Init, layout: FileLayout) -> Value {
        let value = self.value(spec, Origin::State(self.program.states.len()));
        self.program.states.push(State { name: self.path(name), value, role, init, layout });
        value
    }

    /// Declares a trainable parameter in the engine's own order.
    pub fn parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Value {
        self.state(name, Spec::exact(shape), Role::Parameter { trainable: true }, init, FileLayout::Same)
    }

    /// Keeps parameters from learning whose names are `frozen`; before gradients are asked for.
    pub fn freeze(&mut self, frozen: impl Fn(&str) -> bool) {
        for state in &mut self.program.states {
            if let Role::Parameter { trainable } = &mut state.role {
                *trainable &= !frozen(&state.name);
            }
        }
    }

    /// Spec of a value.
    pub fn spec(&self, value: Value) -> Spec {
        self.program.spec(value)
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> Shape {
        self.program.spec(value).shape
    }

    /// Records an op with one output.
    ///
    /// # Errors
    /// As [`Recorder::node`].
    pub fn one(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Value, RecordError> {
        let outputs = self.node(op, inputs)?;
        debug_assert_eq!(outputs.len(), 1);
        Ok(outputs[0])
    }

    /// Records an op; its outputs.
    ///
    /// # Errors
    /// If an input belongs to another recorder, or shapes, kinds or number of the inputs are not what the op takes.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Result<Vec<Value>, RecordError> {
        let op = op.into();
        let fail = |misfit| RecordError { scope: self.path(""), op: op.name().into(), misfit };
        if inputs.iter().any(|value| value.recorder != self.identity) {
            return Err(fail(Misfit::new("an input belongs to another recorder")));
        }
        let specs: Vec<Spec> = inputs.iter().map(|&value| self.spec(value)).collect();
        let Outputs { specs, overwrites } = op.infer(&specs).map_err(fail)?;
        let node = self.program.nodes.len();
        let outputs: Vec<Value> =
            specs.into_iter().enumerate().map(|(at, spec)| self.value(spec, Origin::Node(node, at))).collect();
        let scope = self.path("");
        self.program.nodes.push(Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), overwrites, scope });
        Ok(outputs)
    }

    /// Makes a value readable after the step under `name`.
    pub fn output(&mut self, name: impl Into<String>, value: Value) {
        self.program.outputs.push((name.into(), value));
    }

    /// The program so far.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Ends the recording.
    pub fn finish(self) -> Program {
        self.program
    }
}
