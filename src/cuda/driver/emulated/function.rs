//! What a module holds once decoded: entries with their parameters and shared variables, module variables, source lines.

use super::instr::Instr;
use super::registers::{Register, RegisterCounts};

/// One entry of a module, ready to run.
#[derive(Clone, Debug)]
pub struct Function {
    /// Name of the entry.
    pub name: String,
    /// Instructions; a branch names an index. The last one never falls through.
    pub code: Vec<Instr>,
    /// Sizes of the register planes.
    pub registers: RegisterCounts,
    /// Registers to fill with the same value in all lanes when a warp starts. A predicate is all ones or all zero.
    pub constants: Vec<(Register, u64)>,
    /// Registers to fill from special registers when a warp starts.
    pub specials: Vec<(Register, Special)>,
    /// Parameters in order.
    pub params: Vec<Param>,
    /// Bytes of all parameters.
    pub param_bytes: usize,
    /// Static shared variables, by address from [`SHARED_BASE`](super::instr::SHARED_BASE) on.
    pub shared: Vec<SharedVariable>,
    /// Bytes of static shared memory as a driver counts them: without the gaps that the decoder leaves between variables.
    pub shared_bytes: u32,
    /// Shared address after the last static variable.
    pub shared_end: u32,
    /// Shared address of dynamic shared memory (`.extern .shared`), at or after the end of the static part.
    pub dynamic_shared: u32,
    /// Bytes of local memory per thread: local variables and the arguments of inlined calls.
    pub local_bytes: u32,
    /// `.maxntid` (11.4.2): the most threads per CTA, as the product of the three numbers.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid` (11.4.3): the CTA must have exactly these extents.
    pub required_threads: Option<[u32; 3]>,
    /// Registers that may be read before they are written.
    pub watched: Watched,
    /// Registers of matrix products of warpgroups.
    pub products: Products,
    /// Files that [`Source::file`] indexes, by `.file` (11.5.3); empty without line information.
    pub files: Vec<String>,
}

/// What is followed of registers that may be read before they are written; empty if there are none.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The registers' names, or nothing for one that the text does not name.
    pub names: Vec<String>,
    /// By instruction, what it does to them, as indices into `names`.
    pub touches: Vec<Option<Box<Touch>>>,
}

/// What instructions do to the registers of matrix products of warpgroups; empty if there are none.
#[derive(Clone, Debug, Default)]
pub struct Products {
    /// The registers' names.
    pub names: Vec<String>,
    /// By instruction, what it does to them, as indices into `names`.
    pub touches: Vec<Option<Box<ProductTouch>>>,
}

/// What an instruction does to registers of products. A product reads factors, and writes accumulators.
#[derive(Clone, Debug)]
pub struct ProductTouch {
    /// What it reads.
    pub reads: Vec<u16>,
    /// What it writes.
    pub writes: Vec<u16>,
}

/// What an instruction does to watched registers. What every path has written by then is left out.
#[derive(Clone, Debug)]
pub struct Touch {
    /// Its guard.
    pub guard: Option<u32>,
    /// What it uses.
    pub reads: Vec<u32>,
    /// What its lanes hold out to each other.
    pub offers: Option<u32>,
    /// What it passes on to all that it writes, which is as good as written where any of these is.
    pub carries: Vec<u32>,
    /// What it writes.
    pub writes: Vec<u32>,
}

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name in the text.
    pub name: String,
    /// Byte offset in the parameter buffer.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
    /// Alignment in bytes.
    pub align: usize,
}

/// A shared variable with its place, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedVariable {
    /// Name in the text.
    pub name: String,
    /// Shared address.
    pub address: u32,
    /// Bytes; 0 for a dynamic one.
    pub bytes: u32,
}

/// A `.global` or `.const` variable of a module; the device gives it memory before the functions are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name in the text.
    pub name: String,
    /// Whether kernels may only read it (`.const`).
    pub constant: bool,
    /// Bytes.
    pub bytes: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Initial bytes, as many as `bytes`; a variable without initialiser is zero (5.4.4).
    pub initial: Vec<u8>,
}

/// Where an instruction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Line of the PTX text, from 1.
    pub ptx_line: u32,
    /// Line of the source by `.loc`; 0 without line information.
    pub line: u32,
    /// Index into [`Function::files`]; without meaning where `line` is 0.
    pub file: u16,
}

/// A special register that holds one value per thread for the whole launch (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// `%tid.x/y/z`.
    Tid(u8),
    /// `%ntid.x/y/z`.
    Ntid(u8),
    /// `%ctaid.x/y/z`.
    Ctaid(u8),
    /// `%nctaid.x/y/z`.
    Nctaid(u8),
    /// `%laneid`.
    LaneId,
    /// `%warpid`.
    WarpId,
    /// `%nwarpid`.
    WarpCount,
    /// `%smid`.
    SmId,
    /// `%nsmid`.
    SmCount,
    /// `%lanemask_eq`, `_le`, `_lt`, `_ge`, `_gt`.
    LaneMask(LaneOrder),
    /// `%dynamic_smem_size`.
    DynamicSharedBytes,
    /// `%total_smem_size`: static and dynamic.
    TotalSharedBytes,
}

impl Special {
    /// Whether lanes of a warp may see different values.
    pub fn varies(self) -> bool {
        matches!(self, Self::Tid(_) | Self::LaneId | Self::LaneMask(_))
    }
}

/// Which lanes a `%lanemask` names, relative to the lane itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneOrder {
    /// The lane itself.
    Equal,
    /// The lane and those before.
    LessOrEqual,
    /// Those before.
    Less,
    /// The lane and those after.
    GreaterOrEqual,
    /// Those after.
    Greater,
}
