//! The decoder: PTX statements to instructions that the machine executes.
//!
//! Every word and every operand of a statement must be taken by whoever decodes its opcode; what is left over, an
//! opcode that is not known, or a combination of types that does not exist is an error with form and line. Nothing is
//! ignored. Sections are those of the PTX ISA manual, version 9.0.

mod arithmetic;
mod assigned;
mod asynchronous;
mod bits;
mod compare;
mod control;
mod convert;
mod kind;
mod mbarrier;
mod memory;
mod operand;
mod products;
mod statement;
mod warp;

use std::collections::BTreeSet;

use super::instr::{Function, Variable};
use crate::cuda::ptx::{Module, Operand, SyntaxError, type_bytes};
use statement::Decoder;

/// A statement that cannot be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: `{form}`: {what}")]
pub struct DecodeError {
    /// Line of the text, from 1.
    pub line: u32,
    /// Opcode with its modifiers, or the directive.
    pub form: String,
    /// What is wrong or not supported.
    pub what: String,
}

impl From<SyntaxError> for DecodeError {
    fn from(error: SyntaxError) -> Self {
        Self { line: error.line, form: "syntax".into(), what: error.what }
    }
}

/// Highest architecture of the instruction set built so far: `sm_NN`, for NN up to this.
const NEWEST_TARGET: u32 = 90;

/// Bytes of one variable of a module.
const MOST_VARIABLE: usize = 1 << 30;

/// The `.global` and `.const` variables of a module, for the device to place and to initialise.
pub fn variables(module: &Module) -> Result<Vec<Variable>, DecodeError> {
    let global = module.variables.iter().filter(|variable| variable.space != "shared");
    global
        .map(|variable| {
            let fault = |what: &str| DecodeError {
                line: variable.line,
                form: format!(".{} {}", variable.space, variable.name),
                what: what.into(),
            };
            if variable.external {
                return Err(fault("variables of other modules are not supported"));
            }
            if variable.bytes > MOST_VARIABLE {
                return Err(fault("a variable is above 1 GiB"));
            }
            let mut initial = Vec::with_capacity(variable.bytes);
            let element = type_bytes(&variable.kind).unwrap_or(1);
            for value in &variable.initial {
                let bytes = initial_bits(value, &variable.kind).map_err(fault)?.to_le_bytes();
                initial.extend_from_slice(bytes.get(..element).ok_or_else(|| fault("initial values have 64 bits"))?);
            }
            if initial.len() > variable.bytes {
                return Err(fault("there are more initial values than elements"));
            }
            initial.resize(variable.bytes, 0);
            let constant = variable.space == "const";
            let (name, bytes, align) = (variable.name.clone(), variable.bytes, variable.align);
            Ok(Variable { name, constant, bytes, align, initial })
        })
        .collect()
}

/// The bits of one initial value (5.4.4) of a type.
fn initial_bits(value: &Operand, kind: &str) -> Result<u64, &'static str> {
    match (value, kind) {
        (_, "f16" | "f16x2" | "bf16" | "bf16x2" | "tf32" | "pred") => {
            Err("variables of this type have no initial value")
        }
        (Operand::Integer(_), "f32" | "f64") => Err("an integer stands where a float belongs"),
        (&Operand::Integer(value), _) => Ok(value as u64),
        (&Operand::F32(bits), "f32" | "b32") => Ok(bits.into()),
        (&Operand::F64(bits), "f32") => Ok((f64::from_bits(bits) as f32).to_bits().into()),
        (&Operand::F64(bits), "f64" | "b64") => Ok(bits),
        (Operand::F32(_) | Operand::F64(_), _) => Err("a float of another type stands here"),
        _ => Err("addresses as initial values are not supported"),
    }
}

/// All entries of a module, with calls inlined. `address` tells where a variable of [`variables`] lies.
pub fn functions(module: &Module, address: &dyn Fn(&str) -> Option<u64>) -> Result<Vec<Function>, DecodeError> {
    let fault = |what: String| DecodeError { line: 1, form: format!(".target {}", module.target), what };
    let digits = module.target.trim_start_matches("sm_").trim_end_matches(['a', 'f']);
    let target: u32 = digits.parse().map_err(|_| fault("this is not an architecture of the form sm_NN".into()))?;
    if target > NEWEST_TARGET {
        return Err(fault(format!("architectures after sm_{NEWEST_TARGET} are not supported")));
    }
    if module.address_bits != 64 {
        return Err(fault("addresses must have 64 bits (.address_size 64)".into()));
    }
    let entries = module.functions.iter().filter(|function| function.entry && function.defined);
    entries.map(|entry| Decoder::entry(module, entry, target, address)).collect()
}

/// The forms that a module uses: opcodes with their modifiers, in order.
pub fn forms(module: &Module) -> BTreeSet<String> {
    let statements = module.functions.iter().flat_map(|function| &function.statements);
    statements.map(|statement| statement.form()).collect()
}
