//! PTX text to a syntax tree: directives, functions, scoped registers, variables and labels, statements.
//!
//! The grammar is generic (predicate, dotted opcode, operands): what an opcode or a modifier means is the decoder's
//! business. Sections are those of the PTX ISA manual, version 9.0.

mod lex;
mod parse;

use std::collections::HashMap;

pub use parse::parse;

/// The text is not PTX.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {what}")]
pub struct SyntaxError {
    /// Line of the text, from 1.
    pub line: u32,
    /// What was expected and what was found.
    pub what: String,
}

/// One PTX text.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// `.version` (11.1.1): major and minor.
    pub version: (u32, u32),
    /// `.target` (11.1.2), its first word: `sm_80`, `sm_90a`, …
    pub target: String,
    /// `.address_size` (11.1.3); 32 without.
    pub address_bits: u32,
    /// `.file` (11.5.3): index and name.
    pub files: Vec<(u32, String)>,
    /// Variables of the module.
    pub variables: Vec<Variable>,
    /// Entries and functions, those that are only declared included.
    pub functions: Vec<Function>,
}

/// A declared variable or parameter (5.4).
#[derive(Clone, Debug)]
pub struct Variable {
    /// State space without its dot: `global`, `const`, `shared`, `local`, `param`.
    pub space: String,
    /// Name.
    pub name: String,
    /// Type without its dot.
    pub kind: String,
    /// `.align`, or the alignment of the type.
    pub align: usize,
    /// Bytes of all elements; 0 for an array without extent.
    pub bytes: usize,
    /// Whether it is `.extern`.
    pub external: bool,
    /// Initialiser: one value per element, as far as given.
    pub initial: Vec<Operand>,
    /// Line of the text.
    pub line: u32,
}

/// A function or an entry (11.2).
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Name.
    pub name: String,
    /// Whether it is a kernel (`.entry`).
    pub entry: bool,
    /// Parameters in order.
    pub params: Vec<Variable>,
    /// Returned values in order.
    pub returns: Vec<Variable>,
    /// Performance directives (11.4): name without its dot, numbers.
    pub directives: Vec<(String, Vec<u32>)>,
    /// Statements in order; empty if only declared.
    pub statements: Vec<Statement>,
    /// Scopes; the first is the function's own.
    pub scopes: Vec<Scope>,
    /// Types of all registers, by their number.
    pub registers: Vec<String>,
    /// Variables declared in it.
    pub variables: Vec<Variable>,
    /// Whether it has a body.
    pub defined: bool,
    /// Line of the text.
    pub line: u32,
}

/// What is declared between two braces.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The scope around it.
    pub parent: Option<usize>,
    /// Names declared singly.
    pub symbols: HashMap<String, Symbol>,
    /// Registers declared by range (`%r<154>`): prefix, count, number of the first.
    pub ranges: Vec<(String, u32, u32)>,
    /// Labels: index of the statement that follows.
    pub labels: HashMap<String, usize>,
    /// `.branchtargets` (11.3.1): labels of a table.
    pub tables: HashMap<String, Vec<String>>,
}

/// What a name in a function stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// A register: its number in [`Function::registers`].
    Register(u32),
    /// A variable: its number in [`Function::variables`].
    Variable(usize),
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Line of the text.
    pub line: u32,
    /// `.loc` (11.5.4) above it: file index and line.
    pub location: Option<(u32, u32)>,
    /// Guard predicate, and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// Opcode: the first word.
    pub opcode: String,
    /// The words after it, without dots.
    pub modifiers: Vec<String>,
    /// Operands.
    pub operands: Vec<Operand>,
    /// Scope in which names are looked up.
    pub scope: usize,
}

impl Statement {
    /// Opcode and modifiers as in the text: `ld.global.v2.f32`.
    pub fn form(&self) -> String {
        self.modifiers.iter().fold(self.opcode.clone(), |form, modifier| form + "." + modifier)
    }
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, variable, label or function.
    Name(String),
    /// A variable plus bytes.
    Offset(String, i64),
    /// An integer; at most 64 bits, signed or unsigned.
    Integer(i128),
    /// `0f` and eight digits.
    F32(u32),
    /// `0d` and sixteen digits, or a decimal fraction.
    F64(u64),
    /// `{a, b, …}`.
    Vector(Vec<Operand>),
    /// `(a, b, …)` of a call.
    List(Vec<Operand>),
    /// `[base + offset, …]`.
    Address {
        /// Register, variable or number.
        base: Box<Operand>,
        /// Bytes to add.
        offset: i64,
        /// What follows a comma within the brackets (coordinates of a tensor).
        rest: Vec<Operand>,
    },
    /// `!p`.
    Not(String),
    /// `p|q`.
    Pair(Box<Operand>, Box<Operand>),
    /// `_`.
    Sink,
}

impl Function {
    /// What a name stands for in a scope.
    pub fn symbol(&self, scope: usize, name: &str) -> Option<Symbol> {
        let mut at = Some(scope);
        while let Some(scope) = at.and_then(|at| self.scopes.get(at)) {
            if let Some(&symbol) = scope.symbols.get(name) {
                return Some(symbol);
            }
            for (prefix, count, first) in &scope.ranges {
                let number = name.strip_prefix(prefix.as_str()).and_then(|digits| digits.parse::<u32>().ok());
                if let Some(number) = number.filter(|number| number < count) {
                    return Some(Symbol::Register(first + number));
                }
            }
            at = scope.parent;
        }
        None
    }

    /// The statement that a label names in a scope.
    pub fn label(&self, scope: usize, name: &str) -> Option<usize> {
        self.look_up(scope, |scope| scope.labels.get(name).copied())
    }

    /// The labels of a branch table.
    pub fn table(&self, scope: usize, name: &str) -> Option<&[String]> {
        self.look_up(scope, |scope| scope.tables.get(name).map(Vec::as_slice))
    }

    fn look_up<'a, T>(&'a self, scope: usize, find: impl Fn(&'a Scope) -> Option<T>) -> Option<T> {
        let scopes = std::iter::successors(self.scopes.get(scope), |scope| self.scopes.get(scope.parent?));
        scopes.into_iter().find_map(find)
    }
}

/// Bytes of a fundamental type (5.2.1), without its dot.
pub fn type_bytes(kind: &str) -> Option<usize> {
    Some(match kind {
        "b8" | "u8" | "s8" | "pred" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" | "tf32" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        "b128" => 16,
        _ => return None,
    })
}
