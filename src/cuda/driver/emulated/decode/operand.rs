//! Operands: registers, special registers, immediates, variables, addresses (6).

use super::kind::Kind;
use super::statement::{Decoder, Place, Result};
use crate::cuda::driver::emulated::instr::{
    Address, Base, Guard, LOCAL_WINDOW, LaneOrder, Op, PARAM_WINDOW, SHARED_WINDOW, Space, Special,
};
use crate::cuda::driver::emulated::registers::{Predicate, Register, Wide, Word};
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::driver::emulated::scalar::integer::{Narrow, Unary, WideUnary};
use crate::cuda::ptx::{Operand, Symbol, type_bytes};

impl<'m> Decoder<'m> {
    /// A declared register and its bits, or nothing if the name is something else.
    pub(super) fn register_named(&mut self, name: &'m str) -> Result<Option<(Register, u8)>> {
        let scope = self.scope();
        let function = self.frame().function;
        let Some(Symbol::Register(number)) = function.symbol(scope, name) else { return Ok(None) };
        let number = number as usize;
        let kind = function.registers[number].as_str();
        let bits = if kind == "pred" { 1 } else { type_bytes(kind).map_or(0, |bytes| 8 * bytes as u8) };
        if bits > 64 {
            return Err(self.fault(format!("registers of 128 bits such as {name} are not supported")));
        }
        if let Some(register) = self.frame().registers[number] {
            return Ok(Some((register, bits)));
        }
        let register = self.allocate(bits)?;
        self.frame_mut().registers[number] = Some(register);
        self.names.insert(register, name);
        Ok(Some((register, bits)))
    }

    /// The predicate of this name.
    pub(super) fn predicate_named(&mut self, name: &'m str) -> Result<Predicate> {
        match self.register_named(name)? {
            Some((Register::Predicate(predicate), _)) => Ok(predicate),
            _ => Err(self.fault(format!("{name} is not a predicate"))),
        }
    }

    /// A register with the same value in all lanes.
    pub(super) fn constant(&mut self, bits: u8, value: u64) -> Result<Register> {
        let bits = if bits < 32 && bits > 1 { 32 } else { bits };
        if let Some(&register) = self.constants.get(&(bits, value)) {
            return Ok(register);
        }
        let register = self.allocate(bits)?;
        self.constants.insert((bits, value), register);
        self.out.constants.push((register, value));
        Ok(register)
    }

    /// A 32-bit register with the same value in all lanes.
    pub(super) fn constant_word(&mut self, value: u32) -> Result<Word> {
        match self.constant(32, u64::from(value))? {
            Register::Word(word) => Ok(word),
            _ => self.unsupported(),
        }
    }

    /// The bits of an immediate of a type.
    fn immediate(&self, operand: &Operand, kind: Kind) -> Result<Option<u64>> {
        let most = u64::MAX >> (64 - u32::from(kind.bits().max(1)));
        Ok(Some(match (operand, kind) {
            (Operand::Integer(_), Kind::F32 | Kind::F64) => {
                return Err(self.fault("an integer stands where a float belongs"));
            }
            (&Operand::Integer(value), _) => value as u64 & most,
            (&Operand::F32(bits), Kind::F32 | Kind::Bits(32)) => u64::from(bits),
            (&Operand::F64(bits), Kind::F64 | Kind::Bits(64)) => bits,
            (&Operand::F64(bits), Kind::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            (Operand::F32(_) | Operand::F64(_), _) => return Err(self.fault("a float of another type stands here")),
            _ => return Ok(None),
        }))
    }

    /// An operand to read: a register of exactly the type's size, an immediate, a special register or an address.
    pub(super) fn source(&mut self, operand: &'m Operand, kind: Kind) -> Result<Register> {
        if let Some(value) = self.immediate(operand, kind)? {
            return self.constant(kind.bits(), value);
        }
        let (name, offset) = match operand {
            Operand::Name(name) => (name, 0),
            Operand::Offset(name, offset) => (name, *offset),
            _ => return Err(self.fault("an operand is not a register or a number")),
        };
        if let Some((register, bits)) = self.register_named(name)?.filter(|_| offset == 0) {
            if bits != kind.bits() {
                return Err(self.fault(format!("{name} has {bits} bits instead of {}", kind.bits())));
            }
            return Ok(register);
        }
        if name == "WARP_SZ" {
            return self.constant(kind.bits(), 32);
        }
        if let Some(special) = special(name).filter(|_| kind.bits() == 32) {
            return Ok(Register::Word(self.special(special)?));
        }
        match self.place_named(name)? {
            Some((Space::Global | Space::Const, _)) if kind.bits() < 64 => {
                Err(self.fault(format!("the address of {name} has 64 bits instead of {}", kind.bits())))
            }
            Some((_, address)) if kind.bits() >= 32 => {
                self.constant(kind.bits(), address.wrapping_add_signed(offset) & u64::MAX >> (64 - kind.bits()))
            }
            _ => Err(self.fault(format!("{name} is not known or not supported here"))),
        }
    }

    /// The register that holds a special register.
    fn special(&mut self, special: Special) -> Result<Word> {
        if let Some(&word) = self.specials.get(&special) {
            return Ok(word);
        }
        let Register::Word(word) = self.allocate(32)? else { return self.unsupported() };
        self.specials.insert(special, word);
        self.out.specials.push((Register::Word(word), special));
        Ok(word)
    }

    /// Operand `at`, to read, of at most 32 bits.
    pub(super) fn word(&mut self, at: usize, kind: Kind) -> Result<Word> {
        let operand = self.operand(at)?;
        match self.source(operand, kind)? {
            Register::Word(word) => Ok(word),
            _ => Err(self.fault(format!("operand {} does not have 32 bits", at + 1))),
        }
    }

    /// Operand `at`, to read, of 64 bits.
    pub(super) fn wide(&mut self, at: usize, kind: Kind) -> Result<Wide> {
        let operand = self.operand(at)?;
        match self.source(operand, kind)? {
            Register::Wide(wide) => Ok(wide),
            _ => Err(self.fault(format!("operand {} does not have 64 bits", at + 1))),
        }
    }

    /// Operands from `at` on, to read, of at most 32 bits.
    pub(super) fn words<const N: usize>(&mut self, at: usize, kind: Kind) -> Result<[Word; N]> {
        let mut words = [Word(0); N];
        for (n, word) in words.iter_mut().enumerate() {
            *word = self.word(at + n, kind)?;
        }
        Ok(words)
    }

    /// Operands from `at` on, to read, of 64 bits.
    pub(super) fn wides<const N: usize>(&mut self, at: usize, kind: Kind) -> Result<[Wide; N]> {
        let mut wides = [Wide(0); N];
        for (n, wide) in wides.iter_mut().enumerate() {
            *wide = self.wide(at + n, kind)?;
        }
        Ok(wides)
    }

    /// A register to write, of exactly so many bits; more are allowed where `wider`.
    pub(super) fn target_of(&mut self, operand: &'m Operand, bits: u8, wider: bool) -> Result<(Register, u8)> {
        let Operand::Name(name) = operand else { return Err(self.fault("a destination is not a register")) };
        match self.register_named(name)? {
            Some((register, found)) if found == bits || wider && found > bits => Ok((register, found)),
            Some((_, found)) => Err(self.fault(format!("{name} has {found} bits instead of {bits}"))),
            None => Err(self.fault(format!("{name} is not a register"))),
        }
    }

    /// Operand 0, to write, of at most 32 bits.
    pub(super) fn destination_word(&mut self, bits: u8) -> Result<Word> {
        let operand = self.operand(0)?;
        match self.target_of(operand, bits, false)? {
            (Register::Word(word), _) => Ok(word),
            _ => Err(self.fault("the destination does not have 32 bits")),
        }
    }

    /// Operand 0, to write, of 64 bits.
    pub(super) fn destination_wide(&mut self) -> Result<Wide> {
        let operand = self.operand(0)?;
        match self.target_of(operand, 64, false)? {
            (Register::Wide(wide), _) => Ok(wide),
            _ => Err(self.fault("the destination does not have 64 bits")),
        }
    }

    /// A predicate to write.
    pub(super) fn predicate_of(&mut self, operand: &'m Operand) -> Result<Predicate> {
        match operand {
            Operand::Name(name) => self.predicate_named(name),
            _ => Err(self.fault("a predicate belongs here")),
        }
    }

    /// A predicate to read: `p`, `!p`, or a number, which holds unless it is 0.
    pub(super) fn condition(&mut self, at: usize) -> Result<Guard> {
        match self.operand(at)? {
            Operand::Name(name) => Ok(Guard { predicate: self.predicate_named(name)?, negated: false }),
            Operand::Not(name) => Ok(Guard { predicate: self.predicate_named(name)?, negated: true }),
            Operand::Integer(value) => match self.constant(1, if *value == 0 { 0 } else { u64::MAX })? {
                Register::Predicate(predicate) => Ok(Guard { predicate, negated: false }),
                _ => self.unsupported(),
            },
            _ => Err(self.fault(format!("operand {} is not a predicate", at + 1))),
        }
    }

    /// An operand whose register may have more bits than the type: its low 32 bits, or less.
    pub(super) fn low_word(&mut self, at: usize, kind: Kind) -> Result<Word> {
        let operand = self.operand(at)?;
        let Operand::Name(name) = operand else { return self.word(at, kind) };
        match self.register_named(name)? {
            Some((Register::Wide(wide), _)) => {
                let Register::Word(word) = self.allocate(32)? else { return self.unsupported() };
                let truncate = Narrow::Truncate { bits: kind.bits(), signed: false, keep: 32 };
                self.scalar(Scalar::Narrow(truncate, word, wide))?;
                Ok(word)
            }
            Some((Register::Word(wider), bits)) if bits > kind.bits() => {
                let Register::Word(word) = self.allocate(32)? else { return self.unsupported() };
                let extend = Unary::Extend { bits: kind.bits(), signed: false, keep: 32 };
                self.scalar(Scalar::Unary(extend, word, wider))?;
                Ok(word)
            }
            _ => self.word(at, kind),
        }
    }

    /// Where a variable, parameter or module variable lies.
    pub(super) fn place_named(&mut self, name: &str) -> Result<Option<Place>> {
        let frame = self.frame();
        if let Some(&place) = frame.params.get(name) {
            return Ok(Some(place));
        }
        let function = frame.function;
        if let Some(Symbol::Variable(number)) = function.symbol(self.scope(), name) {
            if let Some(&place) = self.frame().variables.get(&number) {
                return Ok(Some(place));
            }
            let variable = &function.variables[number];
            let place = match variable.space.as_str() {
                "shared" => (Space::Shared, self.shared(variable)?),
                "local" | "param" => (Space::Local, self.local(variable.bytes, variable.align)?),
                space => return Err(self.fault(format!("variables in .{space} within a function are not supported"))),
            };
            self.frame_mut().variables.insert(number, place);
            return Ok(Some(place));
        }
        let Some(variable) = self.module.variables.iter().find(|variable| variable.name == name) else {
            return Ok(None);
        };
        if variable.space == "shared" {
            if let Some(&address) = self.module_shared.get(name) {
                return Ok(Some((Space::Shared, address)));
            }
            let address = self.shared(variable)?;
            self.module_shared.insert(&variable.name, address);
            return Ok(Some((Space::Shared, address)));
        }
        let space = if variable.space == "const" { Space::Const } else { Space::Global };
        let address = (self.address)(name).ok_or_else(|| self.fault(format!("{name} has no address")))?;
        Ok(Some((space, address)))
    }

    /// Operand `at` as an address in a space, and the space in which it really lies (parameters of calls are local).
    pub(super) fn address(&mut self, at: usize, space: Space) -> Result<(Space, Address)> {
        let (place, rest) = self.address_and_rest(at, space)?;
        if rest.is_empty() { Ok(place) } else { Err(self.fault("coordinates belong to tensors")) }
    }

    /// Operand `at` as a generic address of a tensor map, and what follows in its brackets: coordinates, innermost first.
    pub(super) fn tensor(&mut self, at: usize) -> Result<(Address, &'m [Operand])> {
        let ((_, address), rest) = self.address_and_rest(at, Space::Generic)?;
        Ok((address, rest))
    }

    fn address_and_rest(&mut self, at: usize, space: Space) -> Result<((Space, Address), &'m [Operand])> {
        let Operand::Address { base, offset, rest } = self.operand(at)? else {
            return Err(self.fault(format!("operand {} is not an address", at + 1)));
        };
        Ok((self.address_of(base, offset, space)?, rest))
    }

    fn address_of(&mut self, base: &'m Operand, offset: &i64, space: Space) -> Result<(Space, Address)> {
        let name = match base {
            Operand::Name(name) => name,
            Operand::Integer(value) => {
                let offset = offset.wrapping_add(*value as i64);
                return Ok((space, Address { base: Base::None, offset }));
            }
            _ => return Err(self.fault("an address is a register, a variable or a number")),
        };
        // The parameters of an inlined function lie in local memory.
        let register_space = if space == Space::Param && self.frames.len() > 1 { Space::Local } else { space };
        match self.register_named(name)? {
            Some((Register::Wide(wide), _)) => {
                return Ok((register_space, Address { base: Base::Wide(wide), offset: *offset }));
            }
            Some((Register::Word(word), 32)) => {
                return Ok((register_space, Address { base: Base::Word(word), offset: *offset }));
            }
            Some(_) => return Err(self.fault(format!("{name} cannot hold an address"))),
            None => {}
        }
        let Some((lies, address)) = self.place_named(name)? else {
            return Err(self.fault(format!("{name} is not known")));
        };
        let address = (address as i64).wrapping_add(*offset);
        let of = |space, address| Ok((space, Address { base: Base::None, offset: address }));
        match (space, lies) {
            (Space::Generic, _) => of(Space::Generic, address.wrapping_add(window(lies) as i64)),
            (Space::Param, Space::Local) => of(Space::Local, address),
            _ if space == lies => of(space, address),
            _ => Err(self.fault(format!("{name} does not lie in the space of the instruction"))),
        }
    }

    /// Appends a move of the value of operand `from` into a register.
    pub(super) fn push_move(&mut self, to: Register, from: Register) -> Result<()> {
        let scalar = match (to, from) {
            (Register::Word(to), Register::Word(from)) => Scalar::Unary(Unary::Move, to, from),
            (Register::Wide(to), Register::Wide(from)) => Scalar::WideUnary(WideUnary::Move, to, from),
            (Register::Predicate(to), Register::Predicate(predicate)) => {
                Scalar::Predicate(to, Guard { predicate, negated: false })
            }
            _ => return Err(self.fault("source and destination differ in size")),
        };
        self.push(Op::Scalar(scalar));
        Ok(())
    }
}

/// What is added to an address of a space to make it generic.
pub fn window(space: Space) -> u64 {
    match space {
        Space::Shared => SHARED_WINDOW,
        Space::Local => LOCAL_WINDOW,
        Space::Param => PARAM_WINDOW,
        Space::Generic | Space::Global | Space::Const => 0,
    }
}

/// The special register of a name (10).
fn special(name: &str) -> Option<Special> {
    let axis = |suffix: &str| match suffix {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((register, suffix)) = name.split_once('.') {
        let axis = axis(suffix)?;
        return match register {
            "%tid" => Some(Special::Tid(axis)),
            "%ntid" => Some(Special::Ntid(axis)),
            "%ctaid" => Some(Special::Ctaid(axis)),
            "%nctaid" => Some(Special::Nctaid(axis)),
            _ => None,
        };
    }
    Some(match name {
        "%laneid" => Special::LaneId,
        "%warpid" => Special::WarpId,
        "%nwarpid" => Special::WarpCount,
        "%smid" => Special::SmId,
        "%nsmid" => Special::SmCount,
        "%lanemask_eq" => Special::LaneMask(LaneOrder::Equal),
        "%lanemask_le" => Special::LaneMask(LaneOrder::LessOrEqual),
        "%lanemask_lt" => Special::LaneMask(LaneOrder::Less),
        "%lanemask_ge" => Special::LaneMask(LaneOrder::GreaterOrEqual),
        "%lanemask_gt" => Special::LaneMask(LaneOrder::Greater),
        "%dynamic_smem_size" => Special::DynamicSharedBytes,
        "%total_smem_size" => Special::TotalSharedBytes,
        _ => return None,
    })
}
