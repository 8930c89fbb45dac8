//! The registers of one warp: planes of 32 lanes, one plane per virtual register.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// One 32-bit register of a warp, lane by lane.
pub type Row = [u32; LANES];

/// One 64-bit register of a warp, lane by lane.
pub type WideRow = [u64; LANES];

/// Index of a plane of 32 bits: registers `.b8` to `.b32`. A narrower value is zero-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(pub u16);

/// Index of a plane of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wide(pub u16);

/// Index of a predicate: one bit per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Predicate(pub u16);

/// A register of any class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// Nothing: the value is thrown away (`_` in the text).
    Sink,
    /// At most 32 bits.
    Word(Word),
    /// 64 bits.
    Wide(Wide),
    /// A predicate.
    Predicate(Predicate),
}

impl From<Word> for Register {
    fn from(word: Word) -> Self {
        Self::Word(word)
    }
}

impl From<Wide> for Register {
    fn from(wide: Wide) -> Self {
        Self::Wide(wide)
    }
}

impl From<Predicate> for Register {
    fn from(predicate: Predicate) -> Self {
        Self::Predicate(predicate)
    }
}

/// How many registers of each class a function has, preloaded ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterCounts {
    /// Planes of 32 bits.
    pub words: u16,
    /// Planes of 64 bits.
    pub wides: u16,
    /// Predicates.
    pub predicates: u16,
}

/// All registers of one warp. An index comes from the function that the registers were made for, so it always fits.
#[derive(Clone, Debug)]
pub struct Registers {
    /// 32-bit planes, by [`Word`].
    pub words: Vec<Row>,
    /// 64-bit planes, by [`Wide`].
    pub wides: Vec<WideRow>,
    /// Predicates, bit l for lane l, by [`Predicate`].
    pub predicates: Vec<u32>,
}

impl Registers {
    /// All zero.
    pub fn new(counts: RegisterCounts) -> Self {
        Self {
            words: vec![[0; LANES]; usize::from(counts.words)],
            wides: vec![[0; LANES]; usize::from(counts.wides)],
            predicates: vec![0; usize::from(counts.predicates)],
        }
    }

    /// The plane of a 32-bit register.
    pub fn word(&self, register: Word) -> &Row {
        &self.words[usize::from(register.0)]
    }

    /// The plane of a 32-bit register, to write.
    pub fn word_mut(&mut self, register: Word) -> &mut Row {
        &mut self.words[usize::from(register.0)]
    }

    /// The plane of a 64-bit register.
    pub fn wide(&self, register: Wide) -> &WideRow {
        &self.wides[usize::from(register.0)]
    }

    /// The plane of a 64-bit register, to write.
    pub fn wide_mut(&mut self, register: Wide) -> &mut WideRow {
        &mut self.wides[usize::from(register.0)]
    }

    /// The lanes in which a predicate holds.
    pub fn predicate(&self, register: Predicate) -> u32 {
        self.predicates[usize::from(register.0)]
    }

    /// Sets a predicate in the lanes of `mask`.
    pub fn set_predicate(&mut self, register: Predicate, value: u32, mask: u32) {
        let predicate = &mut self.predicates[usize::from(register.0)];
        *predicate = *predicate & !mask | value & mask;
    }

    /// One lane of a register, zero-extended; 0 of a sink.
    pub fn lane(&self, register: Register, lane: usize) -> u64 {
        match register {
            Register::Sink => 0,
            Register::Word(word) => u64::from(self.word(word)[lane]),
            Register::Wide(wide) => self.wide(wide)[lane],
            Register::Predicate(predicate) => u64::from(self.predicate(predicate) >> lane & 1),
        }
    }

    /// Sets the lanes of `mask` of a register to the low bits of `value`.
    pub fn fill(&mut self, register: Register, value: u64, mask: u32) {
        match register {
            Register::Word(word) if mask == u32::MAX => self.word_mut(word).fill(value as u32),
            Register::Wide(wide) if mask == u32::MAX => self.wide_mut(wide).fill(value),
            register => {
                let lanes = (0..LANES).filter(|lane| mask >> lane & 1 == 1);
                lanes.for_each(|lane| self.set_lane(register, lane, value));
            }
        }
    }

    /// Sets one lane of a register to the low bits of `value`.
    pub fn set_lane(&mut self, register: Register, lane: usize, value: u64) {
        match register {
            Register::Sink => {}
            Register::Word(word) => self.word_mut(word)[lane] = value as u32,
            Register::Wide(wide) => self.wide_mut(wide)[lane] = value,
            Register::Predicate(predicate) => self.set_predicate(predicate, (value as u32 & 1) << lane, 1 << lane),
        }
    }
}
