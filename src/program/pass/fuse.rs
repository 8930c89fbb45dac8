//! Joins a node with the one that goes on with what it makes, where a kernel does both: what lies between them then crosses
//! memory once less, or not at all.
//!
//! | rule | expansion, as it was recorded | joined |
//! |---|---|---|
//! | `sum` | part = gradient by an input; out = `accumulate.add`(before, part) | the gradient, added to before, with one rounding |
//! | `gelu` | y = linear map; out = `gelu.fwd`(y) | the map gives both |
//! | `slope` | dy = gradient by an input of a linear map; dx = `gelu.bwd`(dy, x) | the gradient, multiplied by the slope at x, with one rounding |
//!
//! A sum of several contributions is joined with the one that is added last, for only there all others are complete; the order
//! is that of the list.

use super::prune::renumber;
use crate::base::Real;
use crate::ops::Op;
use crate::ops::accumulate::Accumulate;
use crate::ops::conv2d::{self, Conv2d, Source};
use crate::ops::gelu::Gelu;
use crate::ops::linear::{self, Epilogue, Linear};
use crate::program::op::Overwrite;
use crate::program::record::{Node, Origin, Program, Value};

/// What takes the place of two nodes: the position of the first, and the node to stand where the second does.
type Joined = (usize, Node);

/// All rules; each looks whether the node at a position is the second of its two.
const RULES: [fn(&Program, usize) -> Option<Joined>; 3] = [sum, gelu, slope];

/// The program with nodes joined whose first the device does by the same kernel alone and joined; `kernel` names that which a
/// plan takes for a node, if it takes one that can be joined. Values keep their positions.
pub fn fuse(mut program: Program, kernel: impl Fn(&Program, &Node) -> Option<&'static str>) -> Program {
    let mut gone = vec![false; program.nodes.len()];
    for at in 0..program.nodes.len() {
        let Some((first, node)) = RULES.iter().find_map(|rule| rule(&program, at)) else { continue };
        let joined = kernel(&program, &node);
        if joined.is_some() && joined == kernel(&program, &program.nodes[first]) && movable(&program, first, at, &node)
        {
            program.nodes[at] = node;
            gone[first] = true;
        }
    }
    let mut gone = gone.into_iter();
    program.nodes.retain(|_| gone.next() == Some(false));
    renumber(&mut program);
    program
}

/// Whether nobody misses what the node at `first` makes if `node` stands in its place at `at`, which makes it later or not at all,
/// and nothing that it reads is updated before.
fn movable(program: &Program, first: usize, at: usize, node: &Node) -> bool {
    let made = |value: &Value| program.nodes[first].outputs.contains(value);
    let lost = |value: &Value| made(value) && !node.outputs.contains(value);
    let reads = |node: &Node| node.inputs.iter().filter(|value| lost(value)).count();
    let all: usize = program.nodes.iter().map(reads).sum();
    let updates = |other: &Node| {
        let updated = other.overwrites.iter().flatten().filter(|overwrite| overwrite.must);
        updated.map(|overwrite| other.inputs[overwrite.input]).any(|value| node.inputs.contains(&value))
    };
    all == reads(&program.nodes[at])
        && !node.inputs.iter().any(lost)
        && !program.outputs.iter().any(|(_, value)| lost(value))
        && !program.gradients.iter().any(|(_, value)| lost(value))
        && !program.nodes[first + 1..at].iter().any(|other| updates(other) || other.inputs.iter().any(made))
}

/// The node that makes a value as its first output.
fn maker(program: &Program, value: Value) -> Option<usize> {
    match program.values[value.index()].origin {
        Origin::Node(at, 0) => Some(at),
        _ => None,
    }
}

/// A gradient by an input that is added to an earlier value.
fn sum(program: &Program, at: usize) -> Option<Joined> {
    let node = &program.nodes[at];
    let &[before, part] = node.inputs.as_slice() else { return None };
    if node.op != (Accumulate::Add { scale: Real(1.0) }).into() {
        return None;
    }
    let first = maker(program, part)?;
    let op: Op = match program.nodes[first].op {
        Op::Linear(op) if op.pass == linear::Pass::Dgrad && op.epilogue == Epilogue::Store => {
            Linear { epilogue: Epilogue::Add, ..op }.into()
        }
        Op::Conv2d(op) if matches!(op.pass, conv2d::Pass::Dgrad { .. }) && op.source == Source::Plain && !op.add => {
            Conv2d { add: true, ..op }.into()
        }
        _ => return None,
    };
    let Node { inputs, scope, .. } = &program.nodes[first];
    let mut inputs = inputs.clone();
    inputs.insert(2, before);
    let overwrites = vec![Some(Overwrite { input: 2, must: false })];
    Some((first, Node { op, inputs, outputs: node.outputs.clone(), overwrites, scope: scope.clone() }))
}

/// Gelu of what a linear map makes of the same rows.
fn gelu(program: &Program, at: usize) -> Option<Joined> {
    let node = &program.nodes[at];
    let &[y, offsets] = node.inputs.as_slice() else { return None };
    let first = maker(program, y)?;
    let Node { op: Op::Linear(op), inputs, outputs, scope, .. } = &program.nodes[first] else { return None };
    let alone = op.pass == linear::Pass::Fwd && op.packed && op.epilogue == Epilogue::Store;
    if node.op != Gelu::Fwd.into() || !alone || inputs.last() != Some(&offsets) {
        return None;
    }
    let op = Linear { epilogue: Epilogue::Gelu, ..*op }.into();
    let outputs = [outputs.as_slice(), &node.outputs].concat();
    let overwrites = vec![None; outputs.len()];
    Some((first, Node { op, inputs: inputs.clone(), outputs, overwrites, scope: scope.clone() }))
}

/// Gelu's gradient by what it was of, where its own gradient is one by the input of a linear map of the same rows.
fn slope(program: &Program, at: usize) -> Option<Joined> {
    let node = &program.nodes[at];
    let &[dy, x, offsets] = node.inputs.as_slice() else { return None };
    let first = maker(program, dy)?;
    let Node { op: Op::Linear(op), inputs, scope, .. } = &program.nodes[first] else { return None };
    let &[d_out, weight, of_map] = inputs.as_slice() else { return None };
    let alone = op.pass == linear::Pass::Dgrad && op.packed && op.epilogue == Epilogue::Store;
    if node.op != Gelu::Bwd.into() || !alone || of_map != offsets {
        return None;
    }
    let op = Linear { epilogue: Epilogue::GeluSlope, ..*op }.into();
    let inputs = vec![d_out, weight, x, offsets];
    Some((first, Node { op, inputs, outputs: node.outputs.clone(), overwrites: vec![None], scope: scope.clone() }))
}
