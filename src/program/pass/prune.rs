//! Drops nodes that nothing asks for. Asked for are the program's outputs and every update of state: parameters and
//! moments, and the running statistics, which move also where nothing downstream reads them.

use crate::program::record::{Origin, Program};

/// The program without nodes that reach neither an output nor an update of state. Values keep their positions.
pub fn prune(mut program: Program) -> Program {
    let mut needed = vec![false; program.values.len()];
    for &(_, value) in &program.outputs {
        needed[value.index()] = true;
    }
    let mut keep = vec![false; program.nodes.len()];
    for (at, node) in program.nodes.iter().enumerate().rev() {
        let updates = node.overwrites.iter().any(|overwrite| overwrite.is_some_and(|overwrite| overwrite.must));
        keep[at] = updates || node.outputs.iter().any(|output| needed[output.index()]);
        if keep[at] {
            for input in &node.inputs {
                needed[input.index()] = true;
            }
        }
    }
    let mut kept = keep.iter();
    program.nodes.retain(|_| kept.next() == Some(&true));
    renumber(&mut program);
    program
}

/// Writes the positions of nodes back into the origins of the values they make.
pub(super) fn renumber(program: &mut Program) {
    for (at, node) in program.nodes.iter().enumerate() {
        for (position, output) in node.outputs.iter().enumerate() {
            program.values[output.index()].origin = Origin::Node(at, position);
        }
    }
}
