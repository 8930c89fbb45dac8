//! Statements on the host, one after the other, with all lanes in step: memory, and what lanes do together.

use std::collections::HashMap;

use g2d::verify::golden::Group;

use super::{low, matrices, number, results};

pub const WARP: usize = 32;

/// Where the inputs, the results and the parameters lie, and shared memory.
const SOURCE: u64 = 1 << 32;
const TARGET: u64 = 2 << 32;
const PARAMETERS: u64 = 3 << 32;
const SHARED: u64 = 1 << 12;

/// A thread: its registers, and the label up to which it passes over everything.
#[derive(Clone, Default)]
struct Lane {
    registers: HashMap<String, u64>,
    until: Option<String>,
}

/// What the threads of a group have.
pub struct Machine {
    lanes: Vec<Lane>,
    memory: HashMap<u64, u8>,
    /// Bits of registers.
    bits: HashMap<String, u32>,
    /// Addresses of variables.
    variables: HashMap<String, u64>,
    /// By address.
    mbarriers: HashMap<u64, Mbarrier>,
}

/// Barriers in shared memory: phase, arrivals that it lacks, arrivals of the next.
#[derive(Clone, Copy)]
struct Mbarrier {
    phase: u64,
    lacks: u64,
    next: u64,
}

/// Parts of a list, which commas divide outside of braces and brackets.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let outside = |c: char| {
        depth += i32::from("{[".contains(c)) - i32::from("}]".contains(c));
        c == ',' && depth == 0
    };
    text.split(outside).map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The elements of a vector, or the one operand.
pub fn elements(operand: &str) -> Vec<&str> {
    parts(operand.trim_matches(['{', '}']))
}

/// Bits of the type that a word names.
fn bits_of(word: &str) -> Option<u32> {
    if word == "pred" {
        return Some(1);
    }
    let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    digits.parse().ok().filter(|bits| word.starts_with(['b', 'u', 's', 'f']) && [8, 16, 32, 64].contains(bits))
}

/// The results of all cases of a group, or nothing where there is no rule for a statement.
pub fn run(group: &Group) -> Option<Vec<Vec<Option<u64>>>> {
    let mut machine = Machine {
        lanes: vec![Lane::default(); group.cases.len()],
        memory: HashMap::new(),
        bits: HashMap::from([("source".into(), 64), ("target".into(), 64), ("thread".into(), 32)]),
        variables: HashMap::new(),
        mbarriers: HashMap::new(),
    };
    for (at, name) in ["from", "to", "count"].into_iter().enumerate() {
        machine.variables.insert(name.into(), PARAMETERS + 8 * at as u64);
    }
    machine.write(PARAMETERS, SOURCE, 8);
    machine.write(PARAMETERS + 8, TARGET, 8);
    machine.write(PARAMETERS + 16, group.cases.len() as u64, 4);
    for (name, kind) in group.inputs.iter().chain(&group.outputs) {
        machine.bits.insert(name.clone(), bits_of(kind)?);
    }
    for (at, case) in group.cases.iter().enumerate() {
        let source = SOURCE + (8 * at * group.inputs.len()) as u64;
        for (input, ((name, _), value)) in group.inputs.iter().zip(&case.inputs).enumerate() {
            machine.write(source + 8 * input as u64, *value, 8);
            machine.set(at, name, *value);
        }
        machine.set(at, "thread", at as u64);
        machine.set(at, "source", source);
        machine.set(at, "target", TARGET + (8 * at * group.outputs.len()) as u64);
    }
    for statement in group.statements.split(';') {
        machine.statement(statement.trim())?;
    }
    let of_lane = |lane: &Lane| group.outputs.iter().map(|(name, _)| lane.registers.get(name).copied()).collect();
    Some(machine.lanes.iter().map(of_lane).collect())
}

impl Machine {
    pub fn read(&self, address: u64, bytes: u32) -> Option<u64> {
        let byte = |at: u32| self.memory.get(&(address + u64::from(at))).map(|byte| u64::from(*byte) << (8 * at));
        (0..bytes).map(byte).sum()
    }

    fn write(&mut self, address: u64, value: u64, bytes: u32) {
        for at in 0..bytes {
            self.memory.insert(address + u64::from(at), (value >> (8 * at)) as u8);
        }
    }

    pub fn set(&mut self, lane: usize, name: &str, value: u64) {
        let bits = self.bits.get(name).copied().unwrap_or(64);
        self.lanes[lane].registers.insert(name.to_owned(), value & low(bits));
    }

    /// A register, a variable's address or a number.
    pub fn value(&self, lane: usize, operand: &str) -> Option<u64> {
        let held = self.lanes[lane].registers.get(operand).or_else(|| self.variables.get(operand));
        let hex = || u64::from_str_radix(operand.strip_prefix("0x")?, 16).ok();
        held.copied().or_else(hex).or_else(|| operand.parse().ok().map(|number: i64| number as u64))
    }

    /// `[base]` or `[base+offset]`.
    pub fn address(&self, lane: usize, operand: &str) -> Option<u64> {
        let inside = operand.strip_prefix('[')?.strip_suffix(']')?;
        let (base, offset) = inside.split_once('+').unwrap_or((inside, "0"));
        Some(self.value(lane, base)? + offset.parse::<u64>().ok()?)
    }

    fn statement(&mut self, text: &str) -> Option<()> {
        let name = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric());
        if let Some((label, rest)) = text.split_once(':').filter(|(label, _)| name(label)) {
            let passed = self.lanes.iter_mut().filter(|lane| lane.until.as_deref() == Some(label));
            passed.for_each(|lane| lane.until = None);
            return self.statement(rest.trim());
        }
        if let Some(declared) = text.strip_prefix(".reg .") {
            let (kind, names) = declared.split_once(' ')?;
            self.bits.extend(
                parts(names)
                    .into_iter()
                    .map(|name| Some((name.to_owned(), bits_of(kind)?)))
                    .collect::<Option<Vec<_>>>()?,
            );
            return Some(());
        }
        if let Some(declared) = text.strip_prefix(".shared ") {
            let name = declared.rsplit(' ').next()?.split('[').next()?;
            self.variables.insert(name.to_owned(), SHARED);
            return Some(());
        }
        let (guard, text) = match text.strip_prefix('@') {
            Some(guarded) => guarded.split_once(' ').map(|(guard, text)| (Some(guard), text))?,
            None => (None, text),
        };
        let (form, operands) = text.split_once(' ').unwrap_or((text, ""));
        let mut active = Vec::new();
        for lane in (0..self.lanes.len()).filter(|lane| self.lanes[*lane].until.is_none()) {
            let holds = match guard.map(|guard| (guard.trim_start_matches('!'), guard.starts_with('!'))) {
                Some((predicate, negated)) => (self.value(lane, predicate)? != 0) != negated,
                None => true,
            };
            active.extend(holds.then_some(lane));
        }
        self.execute(form, operands, &active)
    }

    fn execute(&mut self, form: &str, operands: &str, active: &[usize]) -> Option<()> {
        let (words, list) = (form.split('.').collect::<Vec<_>>(), parts(operands));
        match words[0] {
            "bra" => active.iter().for_each(|lane| self.lanes[*lane].until = Some(operands.to_owned())),
            "bar" if words[1] == "red" => return self.barrier_reduction(&list, active),
            // Lanes in step wait for nobody, and copies are done at once.
            "bar" | "membar" => {}
            "mbarrier" | "cp" if words.contains(&"b64") => {
                for &lane in active {
                    self.mbarrier(&words, &list, lane)?;
                }
            }
            "cp" if list.len() < 3 => {}
            "ld" | "st" | "cp" | "atom" | "red" | "cvta" => {
                for &lane in active {
                    self.access(&words, &list, lane)?;
                }
            }
            "shfl" | "vote" | "match" | "redux" | "ldmatrix" | "mma" => {
                for first in (0..self.lanes.len()).step_by(WARP) {
                    let warp: Vec<usize> = (first..first + WARP).collect();
                    if !warp.iter().all(|lane| active.contains(lane)) {
                        return None;
                    }
                    match words[0] {
                        "ldmatrix" => matrices::load(self, &words, &list, first)?,
                        "mma" => matrices::multiply(self, &words, &list, first)?,
                        _ => self.together(&words, &list, first)?,
                    }
                }
            }
            _ => {
                for &lane in active {
                    self.scalar(form, operands, &list, lane)?;
                }
            }
        }
        Some(())
    }

    /// What reads and writes registers of one lane only.
    fn scalar(&mut self, form: &str, operands: &str, list: &[&str], lane: usize) -> Option<()> {
        let to = elements(list[0]);
        let from = list[1..].iter().flat_map(|operand| elements(operand));
        let values = from.map(|operand| self.value(lane, operand)).collect::<Option<Vec<_>>>()?;
        let bits = *self.bits.get(to[0])?;
        let whole = if list[0].starts_with('{') { bits * to.len() as u32 } else { bits };
        let found = results(&format!("{form} {operands}"), whole, &values)?;
        to.iter().zip(found).try_for_each(|(name, value)| value.map(|value| self.set(lane, name, value)))
    }

    fn access(&mut self, words: &[&str], list: &[&str], lane: usize) -> Option<()> {
        if words[0] == "cvta" {
            let value = self.value(lane, list[1])?;
            self.set(lane, list[0], value);
            return Some(());
        }
        if words[0] == "cp" {
            let (to, from, bytes) = (self.address(lane, list[0])?, self.address(lane, list[1])?, list[2].parse().ok()?);
            let held = list.get(3).map_or(Some(bytes), |count| self.value(lane, count))?;
            for at in 0..bytes {
                let byte = if at < held { self.read(from + at, 1)? } else { 0 };
                self.write(to + at, byte, 1);
            }
            return Some(());
        }
        let kind = *words.last()?;
        let (bits, signed) = (bits_of(kind)?, kind.starts_with('s'));
        let bytes = bits / 8;
        if matches!(words[0], "atom" | "red") {
            let at = usize::from(words[0] == "atom");
            let address = self.address(lane, list[at])?;
            let (old, by) = (self.read(address, bytes)?, self.value(lane, list[at + 1])? & low(bits));
            let swap = list.get(at + 2).map_or(Some(0), |swap| self.value(lane, swap))?;
            self.write(address, combined(words, kind, old, by, swap)?, bytes);
            if at == 1 {
                self.set(lane, list[0], old);
            }
            return Some(());
        }
        let (registers, place) = if words[0] == "ld" { (list[0], list[1]) } else { (list[1], list[0]) };
        let address = self.address(lane, place)?;
        for (at, register) in (0..).zip(elements(registers)) {
            let place = address + at * u64::from(bytes);
            match words[0] {
                "ld" => {
                    let value = self.read(place, bytes)?;
                    self.set(lane, register, number(value, bits, signed) as u64);
                }
                _ => self.write(place, self.value(lane, register)?, bytes),
            }
        }
        Some(())
    }

    /// `mbarrier`, `cp.async.mbarrier.arrive`; a state is the phase above what it lacked.
    fn mbarrier(&mut self, words: &[&str], list: &[&str], lane: usize) -> Option<()> {
        let (verb, copies) = if words[0] == "cp" { ("arrive", true) } else { (words[1], false) };
        if verb == "pending_count" {
            let state = self.value(lane, list[1])?;
            self.set(lane, list[0], state & low(32));
            return Some(());
        }
        let place = self.address(lane, list.iter().find(|operand| operand.starts_with('['))?)?;
        if verb == "init" {
            let lacks = self.value(lane, list[1])?;
            self.mbarriers.insert(place, Mbarrier { phase: 0, lacks, next: lacks });
            return Some(());
        }
        let mut held = *self.mbarriers.get(&place)?;
        match verb {
            "arrive" | "arrive_drop" => {
                let count = list.get(2).map_or(Some(1), |count| self.value(lane, count))?;
                // Copies in step are complete: the arrival that a phase did not count on comes and goes.
                let count = if copies && !words.contains(&"noinc") { 0 } else { count };
                if !copies && list[0] != "_" {
                    self.set(lane, list[0], held.phase << 32 | held.lacks);
                }
                held.next -= if verb == "arrive_drop" { count } else { 0 };
                held.lacks -= count;
                if held.lacks == 0 {
                    (held.phase, held.lacks) = (held.phase + 1, held.next);
                }
            }
            "test_wait" => {
                let asked = self.value(lane, list[2])?;
                let parity = words.contains(&"parity");
                let done = if parity { held.phase % 2 != asked } else { held.phase != asked >> 32 };
                self.set(lane, list[0], done.into());
            }
            "inval" => {
                self.mbarriers.remove(&place);
                return Some(());
            }
            _ => return None,
        }
        self.mbarriers.insert(place, held);
        Some(())
    }

    fn barrier_reduction(&mut self, list: &[&str], active: &[usize]) -> Option<()> {
        let all = active.iter().map(|lane| self.value(*lane, list[2])).collect::<Option<Vec<_>>>()?;
        let any = all.iter().any(|holds| *holds != 0);
        active.iter().for_each(|lane| self.set(*lane, list[0], any.into()));
        Some(())
    }

    /// Shuffles, votes, matches and reductions of the warp whose lanes begin at `first`; all lanes are members.
    fn together(&mut self, words: &[&str], list: &[&str], first: usize) -> Option<()> {
        let lanes = || first..first + WARP;
        let (to, second) = list[0].split_once('|').map_or((list[0], None), |(to, second)| (to, Some(second)));
        let values = lanes().map(|lane| self.value(lane, list[1])).collect::<Option<Vec<_>>>()?;
        let mask = |holds: &dyn Fn(u64) -> bool| {
            (0..).zip(&values).filter(|(_, value)| holds(**value)).map(|(at, _)| 1u64 << at).sum::<u64>()
        };
        for lane in lanes() {
            let own = values[lane - first];
            let (value, also) = match (words[0], words[2]) {
                ("shfl", mode) => {
                    let (by, control) = (self.value(lane, list[2])?, self.value(lane, list[3])?);
                    let (from, valid) = shuffled(mode, (lane - first) as i64, by as i64 & 31, control as i64);
                    (values[from], valid)
                }
                ("vote", "ballot") => (mask(&|value| value != 0), false),
                ("vote", "all") => (u64::from(values.iter().all(|value| *value != 0)), false),
                ("vote", "any") => (u64::from(values.iter().any(|value| *value != 0)), false),
                ("vote", "uni") => (u64::from(values.iter().all(|value| *value == own)), false),
                ("match", _) if words[1] == "any" => (mask(&|value| value == own), false),
                ("match", _) => {
                    let all = values.iter().all(|value| *value == own);
                    (if all { low(32) } else { 0 }, all)
                }
                ("redux", _) => {
                    let mut rest = values[1..].iter();
                    (rest.try_fold(values[0], |sum, value| combined(words, words[3], sum, *value, 0))?, false)
                }
                _ => return None,
            };
            self.set(lane, to, value);
            second.into_iter().for_each(|second| self.set(lane, second, also.into()));
        }
        Some(())
    }
}

/// Lane that a shuffle reads, and whether it lies in the segment (9.7.9.6).
fn shuffled(mode: &str, lane: i64, by: i64, control: i64) -> (usize, bool) {
    let (clamp, segment) = (control & 31, control >> 8 & 31);
    let (most, least) = (lane & segment | clamp & !segment, lane & segment);
    let (from, valid) = match mode {
        "up" => (lane - by, lane - by >= most),
        "down" => (lane + by, lane + by <= most),
        "bfly" => (lane ^ by, lane ^ by <= most),
        _ => (least | by & !segment, least | by & !segment <= most),
    };
    (if valid { from } else { lane } as usize, valid)
}

/// What `atom`, `red` and `redux` make of two numbers.
fn combined(words: &[&str], kind: &str, old: u64, by: u64, swap: u64) -> Option<u64> {
    let bits = bits_of(kind)?;
    if kind == "f32" && words.contains(&"add") {
        return Some((f32::from_bits(old as u32) + f32::from_bits(by as u32)).to_bits().into());
    }
    let (a, b) = (number(old, bits, kind.starts_with('s')), number(by, bits, kind.starts_with('s')));
    let known = |word: &&&str| ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"].contains(*word);
    let value = match *words.iter().find(known)? {
        "add" => a + b,
        "min" => a.min(b),
        "max" => a.max(b),
        "and" => a & b,
        "or" => a | b,
        "xor" => a ^ b,
        "exch" => b,
        "cas" if a == b => i128::from(swap),
        "inc" if a >= b => 0,
        "inc" => a + 1,
        "dec" if a == 0 || a > b => b,
        "dec" => a - 1,
        _ => a,
    };
    Some(value as u64 & low(bits))
}
