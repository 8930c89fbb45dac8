//! Assigns stored types. Ops do not decide; they say what a value holds, and this pass says how wide it is stored.

use std::collections::HashMap;

use super::prune::renumber;
use crate::base::{DType, Kind};
use crate::ops::convert::Convert;
use crate::program::record::{Node, Origin, Program, Value, ValueInfo};

/// How real numbers are stored. Every sum is accumulated in f32 or wider in all three.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Everything f64, computed in f64: what gradients and the specification are held against.
    F64,
    /// Everything f32.
    Exact,
    /// Activations and their gradients bf16; statistics, losses, weight gradients, master weights and moments f32.
    Mixed,
}

impl Precision {
    /// The stored type of a kind of value.
    pub fn dtype(self, kind: Kind) -> DType {
        match (kind, self) {
            (Kind::Index, _) => DType::I32,
            (Kind::Bytes, _) => DType::U8,
            (_, Self::F64) => DType::F64,
            (Kind::Activation, Self::Mixed) => DType::Bf16,
            _ => DType::F32,
        }
    }

    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::Exact => "exact",
            Self::Mixed => "mixed",
        }
    }
}

/// Under `mixed`, gives matrix products a narrow copy of operands that are stored wide: one conversion of each
/// parameter, before its first use. Under the other two the program stays as it is.
pub fn precision(mut program: Program, precision: Precision) -> Program {
    if precision != Precision::Mixed {
        return program;
    }
    let mut narrow: HashMap<Value, Value> = HashMap::new();
    let mut nodes = Vec::with_capacity(program.nodes.len());
    for mut node in std::mem::take(&mut program.nodes) {
        for &operand in node.op.operands() {
            let wide = node.inputs[operand];
            let spec = program.values[wide.index()].spec;
            if spec.kind != Kind::Exact {
                continue;
            }
            node.inputs[operand] = *narrow.entry(wide).or_insert_with(|| {
                let mut spec = spec;
                spec.kind = Kind::Activation;
                let value = wide.sibling(program.values.len());
                program.values.push(ValueInfo { spec, origin: Origin::Node(0, 0) });
                nodes.push(Node {
                    op: Convert { to: Kind::Activation }.into(),
                    inputs: vec![wide],
                    outputs: vec![value],
                    overwrites: vec![None],
                    scope: node.scope.clone(),
                });
                value
            });
        }
        nodes.push(node);
    }
    program.nodes = nodes;
    renumber(&mut program);
    program
}
