//! Opcodes, control flow and calls (9.7.12, 9.7.19).

use std::collections::HashMap;

use super::kind::Kind;
use super::statement::{Decoder, Place, Result};
use crate::cuda::driver::emulated::instr::{Guard, Op};
use crate::cuda::driver::emulated::scalar::compare::Logic;
use crate::cuda::driver::emulated::scalar::float::{self, Double};
use crate::cuda::driver::emulated::scalar::integer::{Narrow, Unary};
use crate::cuda::ptx::{self, Operand};

/// Inlined calls within each other.
const DEEPEST_CALL: usize = 64;

/// Inlined calls of one entry: calls of functions that call others multiply.
const MOST_CALLS: usize = 1 << 16;

/// Instructions of one entry with everything inlined.
const MOST_INSTRUCTIONS: usize = 1 << 22;

impl<'m> Decoder<'m> {
    /// Decodes the statement at hand.
    pub(super) fn opcode(&mut self) -> Result<()> {
        if self.out.code.len() > MOST_INSTRUCTIONS {
            return Err(self.fault(format!("the kernel has more than {MOST_INSTRUCTIONS} instructions")));
        }
        match self.opcode_word() {
            "add" => self.sum(false),
            "sub" => self.sum(true),
            "mul" => self.product(),
            "mad" => self.multiply_add(),
            "fma" => {
                let kind = self.kind()?;
                self.fused(kind)
            }
            "div" => self.quotient(),
            "rem" => self.remainder(),
            "min" => self.extremum(false),
            "max" => self.extremum(true),
            "neg" => self.sign(false),
            "abs" => self.sign(true),
            "sad" => self.absolute_difference(),
            "sqrt" => self.root_or_reciprocal(float::Unary::Root, Double::Root),
            "rcp" => self.root_or_reciprocal(float::Unary::Reciprocal, Double::Reciprocal),
            "rsqrt" => self.approximation(float::Unary::ReciprocalRoot),
            "sin" => self.approximation(float::Unary::Sin),
            "cos" => self.approximation(float::Unary::Cos),
            "lg2" => self.approximation(float::Unary::Log2),
            "ex2" => self.approximation(float::Unary::Exp2),
            "tanh" => self.approximation(float::Unary::Tanh),
            "copysign" => self.copy_sign(),
            "setp" => self.set_predicate(),
            "set" => self.set(),
            "selp" => self.select(),
            "mov" => self.mov(),
            "cvt" => self.convert(),
            "cvta" => self.convert_address(),
            "isspacep" => self.is_space(),
            _ => self.bit_opcode(),
        }
    }

    fn bit_opcode(&mut self) -> Result<()> {
        match self.opcode_word() {
            "and" => self.logic(Logic::And),
            "or" => self.logic(Logic::Or),
            "xor" => self.logic(Logic::Xor),
            "not" => self.not(),
            "cnot" => self.logical_not(),
            "lop3" => self.lop3(),
            "shl" => self.shift(true),
            "shr" => self.shift(false),
            "shf" => self.funnel_shift(),
            "popc" => self.count_bits(Unary::CountOnes, Narrow::CountOnes),
            "clz" => self.count_bits(Unary::LeadingZeros, Narrow::LeadingZeros),
            "bfind" => self.find(),
            "brev" => self.reverse(),
            "bfe" => self.extract(),
            "bfi" => self.insert(),
            "bmsk" => self.bit_mask(),
            "prmt" => self.permute(),
            "ld" | "ldu" => self.load(),
            "st" => self.store(),
            "atom" => self.atomic(true),
            "red" => self.atomic(false),
            "cp" => self.cp_async(),
            "prefetch" | "prefetchu" | "applypriority" | "discard" => self.hint(),
            "createpolicy" => self.create_policy(),
            "fence" | "membar" => self.fence(),
            _ => self.warp_opcode(),
        }
    }

    fn warp_opcode(&mut self) -> Result<()> {
        match self.opcode_word() {
            "bar" | "barrier" => self.barrier(),
            "mbarrier" => self.mbarrier(),
            "shfl" => self.shuffle(),
            "vote" => self.vote(),
            "match" => self.matching(),
            "redux" => self.redux(),
            "activemask" => self.active_mask(),
            "elect" => self.elect(),
            "ldmatrix" => self.matrix_move(true),
            "stmatrix" => self.matrix_move(false),
            "mma" => self.mma(),
            "wgmma" => self.wgmma(),
            "setmaxnreg" => self.set_registers(),
            "bra" => self.branch(),
            "brx" => self.branch_indexed(),
            "call" => self.call(),
            "ret" => self.ret(),
            "exit" => self.plain(Op::Exit),
            "trap" | "brkpt" => self.plain(Op::Trap),
            "nanosleep" => {
                self.require(&[("u32", ())])?;
                self.word(0, Kind::Unsigned(32))?;
                self.plain(Op::Yield)
            }
            _ => self.unsupported(),
        }
    }

    fn plain(&mut self, op: Op) -> Result<()> {
        self.push(op);
        Ok(())
    }

    /// Appends a branch to a statement of the function at hand.
    fn branch_to(&mut self, target: usize) {
        let at = self.out.code.len();
        self.push(Op::Branch(0));
        self.frame_mut().branches.push((at, vec![target]));
    }

    fn label(&self, name: &str) -> Result<usize> {
        let target = self.frame().function.label(self.scope(), name);
        target.ok_or_else(|| self.fault(format!("there is no label {name}")))
    }

    /// `bra` (9.7.12.3).
    fn branch(&mut self) -> Result<()> {
        self.flag("uni");
        let Operand::Name(name) = self.operand(0)? else { return Err(self.fault("the target is not a label")) };
        let target = self.label(name)?;
        self.branch_to(target);
        Ok(())
    }

    /// `brx.idx` (9.7.12.4).
    fn branch_indexed(&mut self) -> Result<()> {
        self.require(&[("idx", ())])?;
        self.flag("uni");
        let index = self.word(0, Kind::Unsigned(32))?;
        let Operand::Name(name) = self.operand(1)? else { return Err(self.fault("the targets are not a table")) };
        let table = self.frame().function.table(self.scope(), name);
        let labels = table.ok_or_else(|| self.fault(format!("there is no table {name}")))?;
        let targets = labels.iter().map(|label| self.label(label)).collect::<Result<Vec<_>>>()?;
        let at = self.out.code.len();
        self.push(Op::BranchIndexed(index, Box::new([])));
        self.frame_mut().branches.push((at, targets));
        Ok(())
    }

    /// `ret` (9.7.12.6): an entry ends; an inlined function goes to its end.
    fn ret(&mut self) -> Result<()> {
        self.flag("uni");
        if self.frames.len() == 1 {
            self.push(Op::Exit);
        } else {
            let end = self.frame().function.statements.len();
            self.branch_to(end);
        }
        Ok(())
    }

    /// `call` (9.7.12.5): the function is inlined; its parameters are the variables named in the call.
    fn call(&mut self) -> Result<()> {
        self.flag("uni");
        let mut lists: [&[Operand]; 2] = [&[]; 2];
        let (mut callee, count) = (None, self.count());
        for at in 0..count {
            match self.operand(at)? {
                Operand::List(list) => lists[usize::from(callee.is_some())] = list,
                Operand::Name(name) if callee.is_none() => callee = Some(name),
                _ => return Err(self.fault("calls through registers are not supported")),
            }
        }
        let ([results, arguments], Some(name)) = (lists, callee) else {
            return Err(self.fault("the function is not a name"));
        };
        if name == "__assertfail" {
            return self.plain(Op::Trap);
        }
        let callee = self.module.functions.iter().find(|function| function.name == *name && function.defined);
        let Some(callee) = callee else {
            return Err(self.fault(format!("{name} is not a function of this module")));
        };
        let inside = self.frames.iter().any(|frame| frame.function.name == *name);
        if inside || self.frames.len() > DEEPEST_CALL {
            return Err(self.fault(format!("{name} calls itself; recursion is not supported")));
        }
        self.calls += 1;
        if self.calls > MOST_CALLS {
            return Err(self.fault(format!("the kernel has more than {MOST_CALLS} calls, each of which is inlined")));
        }
        let params = self.arguments(callee, results, arguments)?;
        self.end()?;
        self.inline(callee, params)
    }

    /// The places of the callee's parameters and results: those of the caller's variables.
    fn arguments(
        &mut self,
        callee: &'m ptx::Function,
        results: &'m [Operand],
        arguments: &'m [Operand],
    ) -> Result<HashMap<&'m str, Place>> {
        if callee.params.len() != arguments.len() || callee.returns.len() != results.len() {
            return Err(self.fault(format!("{} does not take these arguments", callee.name)));
        }
        let mut places = HashMap::new();
        let formal = callee.returns.iter().chain(&callee.params);
        for (formal, actual) in formal.zip(results.iter().chain(arguments)) {
            let place = match actual {
                Operand::Name(name) if formal.space == "param" => self.place_named(name)?,
                _ => None,
            };
            let place = place.ok_or_else(|| self.fault("an argument is not a .param variable"))?;
            places.insert(formal.name.as_str(), place);
        }
        Ok(places)
    }

    /// Decodes the callee here; lanes that a guard excludes branch around it.
    fn inline(&mut self, callee: &'m ptx::Function, params: HashMap<&'m str, Place>) -> Result<()> {
        let around = self.take_guard().map(|guard| Guard { negated: !guard.negated, ..guard });
        if around.is_some() {
            self.set_guard(around);
            let next = self.frame().starts.len();
            self.branch_to(next);
        }
        let call = self.save();
        self.function(callee, params)?;
        self.restore(call);
        Ok(())
    }
}
