//! Decides which outputs take over the memory of an input.

use crate::program::op::Overwrite;
use crate::program::record::{Origin, Program, Value};

/// For each value the value whose memory it lies in: itself, or the first of a chain of in-place updates.
///
/// State is always updated where it lies. Elsewhere an output takes over an input's memory if its op permits it and
/// this node is the last that reads it.
pub fn place(program: &Program) -> Vec<Value> {
    let mut last_read = vec![0; program.values.len()];
    for (at, node) in program.nodes.iter().enumerate() {
        for input in &node.inputs {
            last_read[input.index()] = at;
        }
    }
    for &(_, output) in &program.outputs {
        last_read[output.index()] = usize::MAX;
    }
    let mut home: Vec<Option<Value>> = vec![None; program.values.len()];
    let of = |home: &[Option<Value>], value: Value| home[value.index()].unwrap_or(value);
    for (at, node) in program.nodes.iter().enumerate() {
        for (output, overwrite) in node.outputs.iter().zip(&node.overwrites) {
            let Some(Overwrite { input, must }) = *overwrite else { continue };
            let source = node.inputs[input];
            let computed = matches!(program.values[source.index()].origin, Origin::Node(..));
            let read_once = node.inputs.iter().filter(|&&other| other == source).count() == 1;
            if must || (computed && read_once && last_read[source.index()] == at) {
                home[output.index()] = Some(of(&home, source));
            }
        }
    }
    let values = program.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
    let mut result: Vec<Value> = Vec::new();
    if let Some(&any) = values.clone().next() {
        result = (0..program.values.len()).map(|index| any.sibling(index)).collect();
    }
    for value in values {
        result[value.index()] = of(&home, *value);
    }
    result
}
