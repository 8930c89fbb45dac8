//! The decoder's state: one entry being decoded, the functions inlined into it, and the statement at hand.

use std::collections::HashMap;

use super::DecodeError;
use super::assigned;
use super::kind::Kind;
use super::products;
use crate::cuda::driver::emulated::function::{Products, Watched};
use crate::cuda::driver::emulated::instr::{
    Function, Guard, Instr, Op, Param, SHARED_BASE, SharedVariable, Source, Space, Special,
};
use crate::cuda::driver::emulated::registers::{Predicate, Register, RegisterCounts, Wide, Word};
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::ptx::{self, Operand, Statement};

/// What decoding a part of a statement gives.
pub type Result<T> = std::result::Result<T, DecodeError>;

/// Where a variable lies: its space and its address there.
pub type Place = (Space, u64);

/// A function being decoded: the entry, or one inlined into it.
pub struct Frame<'m> {
    /// Its text.
    pub function: &'m ptx::Function,
    /// Registers that have been met, by their number.
    pub registers: Vec<Option<Register>>,
    /// Variables that have been met, by their number.
    pub variables: HashMap<usize, Place>,
    /// Parameters and return values by name.
    pub params: HashMap<&'m str, Place>,
    /// Code index of each statement.
    pub starts: Vec<u32>,
    /// Branches to fill in: code index and target statements (one, or those of a table).
    pub branches: Vec<(usize, Vec<usize>)>,
}

/// Decodes one entry.
pub struct Decoder<'m> {
    pub(super) module: &'m ptx::Module,
    pub(super) target: u32,
    pub(super) address: &'m dyn Fn(&str) -> Option<u64>,
    pub(super) frames: Vec<Frame<'m>>,
    pub(super) out: Function,
    pub(super) constants: HashMap<(u8, u64), Register>,
    pub(super) specials: HashMap<Special, Word>,
    pub(super) module_shared: HashMap<&'m str, u64>,
    pub(super) calls: usize,
    /// Registers that the text declares.
    pub(super) names: HashMap<Register, &'m str>,
    statement: &'m Statement,
    words: Vec<&'m str>,
    used: u64,
    guard: Option<Guard>,
    dynamic_align: u32,
    /// Bytes of the gaps between shared variables so far.
    gaps: u32,
}

impl<'m> Decoder<'m> {
    /// Decodes an entry for the architecture `target`.
    pub fn entry(
        module: &'m ptx::Module,
        entry: &'m ptx::Function,
        target: u32,
        address: &'m dyn Fn(&str) -> Option<u64>,
    ) -> Result<Function> {
        // Dynamic shared memory begins where the static part ends, which is known once everything has been decoded.
        let first = Self::pass(module, entry, target, address, SHARED_BASE)?;
        let dynamic = first.dynamic_shared;
        if dynamic == SHARED_BASE { Ok(first) } else { Self::pass(module, entry, target, address, dynamic) }
    }

    fn pass(
        module: &'m ptx::Module,
        entry: &'m ptx::Function,
        target: u32,
        address: &'m dyn Fn(&str) -> Option<u64>,
        dynamic_shared: u32,
    ) -> Result<Function> {
        let (params, param_bytes) = parameters(entry);
        let places = params.iter().zip(&entry.params);
        let places = places.map(|(at, param)| (param.name.as_str(), (Space::Param, at.offset as u64))).collect();
        let (max_threads, required_threads) = limits(entry)?;
        let out = Function {
            name: entry.name.clone(),
            code: Vec::new(),
            registers: RegisterCounts::default(),
            constants: Vec::new(),
            specials: Vec::new(),
            params,
            param_bytes,
            shared: Vec::new(),
            shared_bytes: 0,
            shared_end: SHARED_BASE,
            dynamic_shared,
            local_bytes: 0,
            max_threads,
            required_threads,
            watched: Watched::default(),
            products: Products::default(),
            files: module.files.iter().map(|(_, name)| name.clone()).collect(),
        };
        let Some(statement) = entry.statements.first() else { return empty(out) };
        let (frames, words) = (Vec::new(), Vec::new());
        let (constants, specials, module_shared) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (used, guard, dynamic_align) = (0, None, DYNAMIC_ALIGN);
        let mut decoder = Self {
            module,
            target,
            address,
            frames,
            out,
            constants,
            specials,
            module_shared,
            calls: 0,
            names: HashMap::new(),
            statement,
            words,
            used,
            guard,
            dynamic_align,
            gaps: 0,
        };
        decoder.function(entry, places)?;
        Ok(decoder.finish())
    }

    /// What was decoded, with what follows from the whole.
    fn finish(mut self) -> Function {
        self.guard = None;
        self.push(Op::Exit);
        let (end, align) = (SHARED_BASE + self.out.shared_bytes, self.dynamic_align);
        let gaps = if end == SHARED_BASE { 0 } else { widened(self.gaps, align) };
        self.out.dynamic_shared = end.next_multiple_of(align) + gaps;
        self.out.watched = assigned::watched(&self.out, &self.names);
        self.out.products = products::products(&self.out, &self.names);
        self.out
    }

    /// Decodes the statements of a function into the code.
    pub(super) fn function(&mut self, function: &'m ptx::Function, params: HashMap<&'m str, Place>) -> Result<()> {
        self.frames.push(Frame {
            function,
            registers: vec![None; function.registers.len()],
            variables: HashMap::new(),
            params,
            starts: Vec::with_capacity(function.statements.len() + 1),
            branches: Vec::new(),
        });
        for statement in &function.statements {
            let start = self.out.code.len() as u32;
            self.frame_mut().starts.push(start);
            self.begin(statement)?;
            self.opcode()?;
            self.end()?;
        }
        let end = self.out.code.len() as u32;
        let Some(mut frame) = self.frames.pop() else { return Ok(()) };
        frame.starts.push(end);
        for (at, targets) in frame.branches {
            let starts: Box<[u32]> = targets.iter().map(|&target| frame.starts[target]).collect();
            match &mut self.out.code[at].op {
                Op::BranchIndexed(_, table) => *table = starts,
                op => *op = Op::Branch(starts[0]),
            }
        }
        Ok(())
    }

    fn begin(&mut self, statement: &'m Statement) -> Result<()> {
        (self.statement, self.used, self.guard) = (statement, 0, None);
        self.words = statement.modifiers.iter().map(String::as_str).collect();
        if let Some((name, negated)) = &statement.guard {
            let predicate = self.predicate_named(name)?;
            self.guard = Some(Guard { predicate, negated: *negated });
        }
        Ok(())
    }

    /// Whether everything of the statement has been taken.
    pub(super) fn end(&self) -> Result<()> {
        if let Some(word) = self.words.first() {
            return Err(self.fault(format!("modifier `.{word}` does not belong to a form that is supported")));
        }
        let count = self.statement.operands.len();
        if count > 63 || self.used != (1 << count) - 1 {
            return Err(self.fault(format!("{count} operands are not what this form takes")));
        }
        Ok(())
    }

    /// An error about the statement at hand.
    pub(super) fn fault(&self, what: impl Into<String>) -> DecodeError {
        DecodeError { line: self.statement.line, form: self.statement.form(), what: what.into() }
    }

    /// An error for a form that does not exist or is not supported.
    pub(super) fn unsupported<T>(&self) -> Result<T> {
        Err(self.fault("the emulated device does not know this form"))
    }

    /// Refuses forms that the module's architecture lacks.
    pub(super) fn needs(&self, target: u32) -> Result<()> {
        if self.target >= target {
            return Ok(());
        }
        Err(self.fault(format!("needs sm_{target}, the module is for sm_{}", self.target)))
    }

    /// Refuses forms that only the architecture `sm_90a` has (11.1.2).
    pub(super) fn needs_hopper(&self) -> Result<()> {
        if self.module.target == "sm_90a" {
            return Ok(());
        }
        Err(self.fault(format!("needs the target sm_90a, the module is for {}", self.module.target)))
    }

    pub(super) fn frame(&self) -> &Frame<'m> {
        &self.frames[self.frames.len() - 1]
    }

    pub(super) fn frame_mut(&mut self) -> &mut Frame<'m> {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    pub(super) fn opcode_word(&self) -> &'m str {
        &self.statement.opcode
    }

    pub(super) fn scope(&self) -> usize {
        self.statement.scope
    }

    /// Number of operands.
    pub(super) fn count(&self) -> usize {
        self.statement.operands.len()
    }

    /// Operand `at`, which is taken thereby.
    pub(super) fn operand(&mut self, at: usize) -> Result<&'m Operand> {
        self.used |= 1 << at.min(63);
        self.statement.operands.get(at).ok_or_else(|| self.fault(format!("operand {} is missing", at + 1)))
    }

    /// Takes a modifier if it is there.
    pub(super) fn flag(&mut self, word: &str) -> bool {
        let at = self.words.iter().position(|&found| found == word);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// Takes the first modifier that stands for something.
    pub(super) fn take<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        let find = |word: &&str| choices.iter().find(|(name, _)| name == word).map(|&(_, value)| value);
        let at = self.words.iter().position(|word| find(word).is_some())?;
        find(&self.words.remove(at))
    }

    /// As [`Self::take`], and an error without one.
    pub(super) fn require<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T> {
        let names = || choices.iter().map(|(name, _)| format!(".{name}")).collect::<Vec<_>>().join(", ");
        self.take(choices).ok_or_else(|| self.fault(format!("one of {} is missing", names())))
    }

    /// Takes the last modifier, which is a type.
    pub(super) fn kind(&mut self) -> Result<Kind> {
        let kind = self.words.last().and_then(|word| Kind::parse(word));
        self.words.pop();
        kind.ok_or_else(|| self.fault("the last modifier is not a type"))
    }

    /// Appends an instruction.
    pub(super) fn push(&mut self, op: Op) {
        let files = &self.module.files;
        let (line, file) = match self.statement.location {
            Some((index, line)) => (line, files.iter().position(|(number, _)| *number == index).unwrap_or(0) as u16),
            None => (0, 0),
        };
        let source = Source { ptx_line: self.statement.line, line, file };
        self.out.code.push(Instr { guard: self.guard, op, source });
    }

    /// Appends an operation on registers.
    pub(super) fn scalar(&mut self, scalar: Scalar) -> Result<()> {
        self.push(Op::Scalar(scalar));
        Ok(())
    }

    /// Takes the guard from the statement at hand: what is pushed next runs in all lanes.
    pub(super) fn take_guard(&mut self) -> Option<Guard> {
        self.guard.take()
    }

    /// Guards what is pushed next.
    pub(super) fn set_guard(&mut self, guard: Option<Guard>) {
        self.guard = guard;
    }

    /// The statement at hand, to come back to with [`Self::restore`] after an inlined function.
    pub(super) fn save(&self) -> (&'m Statement, u64) {
        (self.statement, self.used)
    }

    /// Goes back to a statement whose modifiers have all been taken.
    pub(super) fn restore(&mut self, (statement, used): (&'m Statement, u64)) {
        (self.statement, self.used) = (statement, used);
        self.words.clear();
    }

    /// A new register of so many bits; 1 is a predicate.
    pub(super) fn allocate(&mut self, bits: u8) -> Result<Register> {
        let counts = &mut self.out.registers;
        let count = match bits {
            1 => &mut counts.predicates,
            64 => &mut counts.wides,
            _ => &mut counts.words,
        };
        let number = *count;
        let Some(next) = number.checked_add(1) else { return Err(self.fault("there are more than 65535 registers")) };
        *count = next;
        Ok(match bits {
            1 => Register::Predicate(Predicate(number)),
            64 => Register::Wide(Wide(number)),
            _ => Register::Word(Word(number)),
        })
    }

    /// Room in local memory.
    pub(super) fn local(&mut self, bytes: usize, align: usize) -> Result<u64> {
        let at = u64::from(self.out.local_bytes).next_multiple_of(align.max(1) as u64);
        let end = u32::try_from(at + bytes as u64).ok().filter(|&end| end <= MOST_LOCAL);
        self.out.local_bytes = end.ok_or_else(|| self.fault("local memory is above 512 KiB per thread"))?;
        Ok(at)
    }

    /// Room in shared memory.
    pub(super) fn shared(&mut self, variable: &ptx::Variable) -> Result<u64> {
        if variable.external {
            let address = self.out.dynamic_shared;
            self.dynamic_align = self.dynamic_align.max(variable.align as u32);
            self.out.shared.push(SharedVariable { name: variable.name.clone(), address, bytes: 0 });
            return Ok(u64::from(address));
        }
        let at = u64::from(SHARED_BASE + self.out.shared_bytes).next_multiple_of(variable.align as u64);
        let end = at + variable.bytes as u64 - u64::from(SHARED_BASE);
        let end = u32::try_from(end).ok().filter(|&end| end <= MOST_SHARED);
        let end = end.ok_or_else(|| self.fault("static shared memory is above 227 KiB"))?;
        if self.out.shared_bytes > 0 {
            self.gaps = widened(self.gaps, variable.align as u32);
        }
        self.out.shared_bytes = end;
        self.out.shared_end = SHARED_BASE + end + self.gaps;
        let (name, address, bytes) = (variable.name.clone(), at as u32 + self.gaps, variable.bytes as u32);
        self.out.shared.push(SharedVariable { name, address, bytes });
        Ok(u64::from(address))
    }
}

/// The gaps between shared variables so far with one more, before a variable of some alignment. A multiple of the 128
/// bytes of all banks, so that gaps change no conflicts.
fn widened(gaps: u32, align: u32) -> u32 {
    (gaps + GAP).next_multiple_of(align.max(128))
}

/// Bytes between two static shared variables, and before dynamic shared memory: accesses to them are faults.
const GAP: u32 = 1024;

/// Least alignment of the beginning of dynamic shared memory.
const DYNAMIC_ALIGN: u32 = 16;

const MOST_LOCAL: u32 = 512 << 10;
const MOST_SHARED: u32 = 227 << 10;

/// An entry without statements returns at once.
fn empty(mut out: Function) -> Result<Function> {
    out.dynamic_shared = SHARED_BASE;
    out.code.push(Instr { guard: None, op: Op::Exit, source: Source::default() });
    Ok(out)
}

type Limits = (Option<[u32; 3]>, Option<[u32; 3]>);

/// The performance directives of an entry: most threads, required threads.
fn limits(entry: &ptx::Function) -> Result<Limits> {
    let (mut most, mut required) = (None, None);
    for (name, numbers) in &entry.directives {
        let extents = || std::array::from_fn(|at| numbers.get(at).copied().unwrap_or(1));
        match name.as_str() {
            "maxntid" => most = Some(extents()),
            "reqntid" => required = Some(extents()),
            // They advise the assembler about registers and residency.
            "minnctapersm" | "maxnctapersm" | "maxnreg" => {}
            _ => {
                let (line, form) = (entry.line, format!(".{name}"));
                return Err(DecodeError {
                    line,
                    form,
                    what: "the emulated device does not know this directive".into(),
                });
            }
        }
    }
    Ok((most, required))
}

/// Where the parameters of a kernel lie in its block, and the block's size (PTX ISA 5.1.6).
fn parameters(entry: &ptx::Function) -> (Vec<Param>, usize) {
    let (mut params, mut bytes) = (Vec::new(), 0usize);
    for param in &entry.params {
        let offset = bytes.next_multiple_of(param.align.max(1));
        bytes = offset + param.bytes;
        params.push(Param { name: param.name.clone(), offset, bytes: param.bytes, align: param.align });
    }
    (params, bytes)
}
