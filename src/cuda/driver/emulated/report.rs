//! What the emulated device reports: one fault of one kernel, with everything needed to find and to replay it.

use std::fmt;

use super::checks::Options;
use super::instr::{Function, Source};

/// Which checker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Access outside what the kernel may touch.
    Bounds,
    /// Address that is no multiple of the access's size.
    Alignment,
    /// Read of memory that nobody wrote.
    Initialized,
    /// Use of a register that the thread has not written.
    Register,
    /// Unordered conflicting accesses to shared memory.
    SharedRace,
    /// Unordered conflicting accesses to global memory.
    GlobalRace,
    /// Access to the destination of a copy that no wait has covered.
    PendingCopy,
    /// Access of the async proxy to what a thread wrote, without a proxy fence between.
    Proxy,
    /// Register of a matrix product of a warpgroup used before a wait for it, or changed without `wgmma.fence` before it.
    Product,
    /// Misuse of a barrier.
    Barrier,
    /// Divergence in a warp-wide instruction.
    Collective,
    /// Nothing can go on.
    Deadlock,
    /// `trap`, or an instruction that cannot be executed with these operands.
    Trap,
    /// More warp instructions than [`Options::limit`](super::Options::limit) allows.
    Limit,
}

impl Check {
    fn text(self) -> &'static str {
        match self {
            Self::Bounds => "out of bounds",
            Self::Alignment => "misaligned",
            Self::Initialized => "uninitialised read",
            Self::Register => "uninitialised register",
            Self::SharedRace => "race in shared memory",
            Self::GlobalRace => "race in global memory",
            Self::PendingCopy => "copy not waited for",
            Self::Proxy => "missing proxy fence",
            Self::Product => "register of a matrix product",
            Self::Barrier => "barrier misuse",
            Self::Collective => "divergence in a warp-wide instruction",
            Self::Deadlock => "deadlock",
            Self::Trap => "trap",
            Self::Limit => "limit of instructions",
        }
    }
}

/// A fault as the place that finds it knows it: without the kernel and the instruction.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub check: Check,
    pub lane: Option<usize>,
    pub text: String,
    /// Instruction of the other party.
    pub other: Option<usize>,
}

impl Finding {
    pub fn new(check: Check, lane: impl Into<Option<usize>>, text: impl Into<String>) -> Box<Self> {
        Box::new(Self { check, lane: lane.into(), text: text.into(), other: None })
    }

    pub fn against(mut self: Box<Self>, pc: usize) -> Box<Self> {
        self.other = Some(pc);
        self
    }
}

/// What executing gives, or the fault that ends the launch.
pub(super) type Outcome<T = ()> = Result<T, Box<Finding>>;

/// A place in a kernel's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line of the PTX text.
    pub ptx_line: u32,
    /// File and line of the source it was compiled from, where the PTX says so.
    pub source: Option<(String, u32)>,
}

impl Place {
    pub(super) fn of(function: &Function, pc: usize) -> Self {
        let Source { ptx_line, line, file } = function.code.get(pc).map(|instr| instr.source).unwrap_or_default();
        let name = function.files.get(usize::from(file)).cloned().unwrap_or_default();
        Self { ptx_line, source: (line != 0).then_some((name, line)) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some((file, line)) => write!(to, "{file}:{line} (PTX line {})", self.ptx_line),
            None => write!(to, "PTX line {}", self.ptx_line),
        }
    }
}

/// One fault. It ends its launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Which checker found it.
    pub check: Check,
    /// The kernel.
    pub kernel: String,
    /// Where in its code.
    pub place: Place,
    /// The CTA.
    pub block: [u32; 3],
    /// The warp within the CTA.
    pub warp: usize,
    /// The lane, where one is to blame, with its thread index.
    pub lane: Option<(usize, [u32; 3])>,
    /// What happened: address, allocation, the other party.
    pub text: String,
    /// Where the other party's access stands, where it is known.
    pub other: Option<Place>,
    /// How the device ran; the same options give the same fault.
    pub options: Options,
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        write!(
            to,
            "{} at {}: {}; by block ({x},{y},{z}) warp {}",
            self.check.text(),
            self.place,
            self.text,
            self.warp
        )?;
        if let Some((lane, [x, y, z])) = self.lane {
            write!(to, " lane {lane}, thread ({x},{y},{z})")?;
        }
        if let Some(other) = &self.other {
            write!(to, "; the other access is at {other}")?;
        }
        write!(to, "; replay with {}", self.options)
    }
}
