//! Evaluates a recorded program node by node with the references, in memory of its own for every value. It is not the
//! planner and shares nothing with it.

use super::cases::{Data, launch};
use crate::base::{Number, Spec};
use crate::program::record::Node;
use crate::program::{Program, Value};

/// Values computed so far, by their position in the program.
pub struct Values<N>(Vec<Option<(Spec, Data<N>)>>);

impl<N: Number> Values<N> {
    /// Declared inputs of the program, in their order; there may be fewer than declared.
    pub fn new(program: &Program, inputs: &[Data<N>]) -> Self {
        let mut values = vec![None; program.values.len()];
        for ((_, value), data) in program.inputs.iter().zip(inputs) {
            values[value.index()] = Some((program.spec(*value), data.clone()));
        }
        Self(values)
    }

    /// Runs some nodes in their order.
    pub fn run(mut self, nodes: &[Node]) -> Self {
        for node in nodes {
            let inputs: Vec<(Spec, Data<N>)> = node.inputs.iter().map(|&value| self.known(value).clone()).collect();
            let outputs = launch(&node.op, &|io| node.op.reference(io), &inputs, 0xAA);
            for (value, output) in node.outputs.iter().zip(outputs) {
                self.0[value.index()] = Some(output);
            }
        }
        self
    }

    fn known(&self, value: Value) -> &(Spec, Data<N>) {
        self.0[value.index()].as_ref().expect("a node reads what an earlier node or the caller made")
    }

    /// Numbers of a value that has been computed.
    pub fn get(&self, value: Value) -> &Data<N> {
        &self.known(value).1
    }
}
