//! Registers that may be read before they are written.
//!
//! A must-analysis over the control flow (which registers has every path to here written?) proves most reads harmless,
//! and only the rest is watched while a kernel runs, lane by lane. A lane follows one path, so what holds on every path
//! holds in every lane. Copies are not uses: compilers move what no path has written, for lanes that will not use it.

use std::collections::{BTreeSet, HashMap};

use crate::cuda::driver::emulated::function::{Touch, Watched};
use crate::cuda::driver::emulated::instr::{Function, Instr, Op};
use crate::cuda::driver::emulated::operands::Operands;
use crate::cuda::driver::emulated::registers::Register;

/// One bit per register.
type Bits = Vec<u64>;

/// The registers of a function, numbered through.
struct Numbers {
    words: usize,
    wides: usize,
    all: usize,
}

impl Numbers {
    fn of(&self, register: Register) -> usize {
        match register {
            Register::Word(word) => usize::from(word.0),
            Register::Wide(wide) => self.words + usize::from(wide.0),
            Register::Predicate(predicate) => self.words + self.wides + usize::from(predicate.0),
            Register::Sink => self.all,
        }
    }
}

/// What to watch in a function; `names` has the registers that the text declares.
pub(super) fn watched(function: &Function, names: &HashMap<Register, &str>) -> Watched {
    let counts = function.registers;
    let [words, wides, predicates] = [counts.words, counts.wides, counts.predicates].map(usize::from);
    let numbers = Numbers { words, wides, all: words + wides + predicates };
    let operands: Vec<Operands> = function.code.iter().map(|instr| Operands::of(&instr.op)).collect();
    let before = before_blocks(function, &operands, &numbers);
    let mut doubtful = BTreeSet::new();
    each(function, &operands, &numbers, &before, |at, assigned| {
        let operands = &operands[at];
        let guard = function.code[at].guard.map(|guard| Register::Predicate(guard.predicate));
        let read = operands.reads.iter().chain(&operands.carries).chain(&operands.offers).copied().chain(guard);
        doubtful.extend(read.map(|register| numbers.of(register)).filter(|number| !has(assigned, *number)));
    });
    if doubtful.is_empty() {
        return Watched::default();
    }
    let slots: HashMap<usize, u32> = doubtful.iter().copied().zip(0..).collect();
    let mut watched = Watched { names: vec![String::new(); slots.len()], touches: vec![None; function.code.len()] };
    for (register, name) in names {
        if let Some(slot) = slots.get(&numbers.of(*register)) {
            watched.names[*slot as usize] = (*name).to_owned();
        }
    }
    each(function, &operands, &numbers, &before, |at, assigned| {
        watched.touches[at] = touch(&function.code[at], &operands[at], &numbers, assigned, &slots);
    });
    watched
}

/// What an instruction does to watched registers, if anything.
fn touch(
    instr: &Instr,
    operands: &Operands,
    numbers: &Numbers,
    assigned: &Bits,
    slots: &HashMap<usize, u32>,
) -> Option<Box<Touch>> {
    let open = |register: Register| {
        let number = numbers.of(register);
        if has(assigned, number) { None } else { slots.get(&number).copied() }
    };
    let carried = operands.carries.iter().all(|register| open(*register).is_some());
    let carries = operands.carries.iter().filter(|_| carried).filter_map(|register| open(*register)).collect();
    let touch = Touch {
        guard: instr.guard.and_then(|guard| open(Register::Predicate(guard.predicate))),
        reads: operands.reads.iter().filter_map(|register| open(*register)).collect(),
        offers: operands.offers.and_then(open),
        carries,
        writes: operands.writes.iter().filter_map(|register| slots.get(&numbers.of(*register)).copied()).collect(),
    };
    let any = touch.guard.or(touch.offers).is_some() || !touch.reads.is_empty() || !touch.writes.is_empty();
    any.then(|| Box::new(touch))
}

fn has(bits: &Bits, number: usize) -> bool {
    bits[number / 64] >> (number % 64) & 1 == 1
}

/// What is assigned before the first instruction of every basic block.
fn before_blocks(function: &Function, operands: &[Operands], numbers: &Numbers) -> HashMap<usize, Bits> {
    let mut first = vec![0u64; numbers.all / 64 + 1];
    let presets = function.constants.iter().map(|(register, _)| register);
    for register in presets.chain(function.specials.iter().map(|(register, _)| register)).chain([&Register::Sink]) {
        let number = numbers.of(*register);
        first[number / 64] |= 1 << (number % 64);
    }
    let leaders: BTreeSet<usize> = (0..function.code.len()).flat_map(|at| jumps(function, at)).collect();
    let mut before = HashMap::from([(0, first)]);
    let mut work = BTreeSet::from([0]);
    while let Some(leader) = work.pop_first() {
        let (mut assigned, mut at) = (before[&leader].clone(), leader);
        let next = loop {
            let Some(instr) = function.code.get(at) else { break Vec::new() };
            pass(instr, &operands[at], numbers, &mut assigned);
            let next = successors(function, at);
            at += 1;
            if next != [at] || leaders.contains(&at) {
                break next;
            }
        };
        for target in next {
            match before.get_mut(&target) {
                Some(held) => {
                    let met: Bits = held.iter().zip(&assigned).map(|(held, assigned)| held & assigned).collect();
                    if met != *held {
                        *held = met;
                        work.insert(target);
                    }
                }
                None => {
                    before.insert(target, assigned.clone());
                    work.insert(target);
                }
            }
        }
    }
    before
}

/// Visits every instruction that can be reached with what is assigned before it.
fn each(
    function: &Function,
    operands: &[Operands],
    numbers: &Numbers,
    before: &HashMap<usize, Bits>,
    mut visit: impl FnMut(usize, &Bits),
) {
    for (leader, assigned) in before {
        let (mut assigned, mut at) = (assigned.clone(), *leader);
        while let Some(instr) = function.code.get(at) {
            visit(at, &assigned);
            pass(instr, &operands[at], numbers, &mut assigned);
            let next = successors(function, at);
            at += 1;
            if next != [at] || before.contains_key(&at) {
                break;
            }
        }
    }
}

/// What is assigned after an instruction.
fn pass(instr: &Instr, operands: &Operands, numbers: &Numbers, assigned: &mut Bits) {
    let carries = &operands.carries;
    let whole = carries.is_empty() || carries.iter().any(|register| has(assigned, numbers.of(*register)));
    for number in operands.writes.iter().map(|register| numbers.of(*register)) {
        if !whole {
            assigned[number / 64] &= !(1 << (number % 64));
        } else if instr.guard.is_none() {
            assigned[number / 64] |= 1 << (number % 64);
        }
    }
}

/// Where control flow may go after an instruction other than to the next one; the next one too where it may go elsewhere.
fn jumps(function: &Function, at: usize) -> Vec<usize> {
    let next = successors(function, at);
    if next == [at + 1] { Vec::new() } else { next }
}

fn successors(function: &Function, at: usize) -> Vec<usize> {
    let instr = &function.code[at];
    let mut targets = match &instr.op {
        Op::Branch(target) => vec![*target as usize],
        Op::BranchIndexed(_, targets) => targets.iter().map(|target| *target as usize).collect(),
        Op::Exit | Op::Trap => Vec::new(),
        _ => return vec![at + 1],
    };
    if instr.guard.is_some() {
        targets.push(at + 1);
    }
    targets
}
