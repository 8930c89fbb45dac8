//! Decoded instructions: what the decoder makes of PTX statements and the machine executes.
//!
//! Who executes what:
//!
//! * [`Op::Scalar`]: everything that only reads and writes registers (arithmetic, comparisons, conversions, moves,
//!   address-space conversions). [`scalar::execute`](super::scalar::execute) does it for all 32 lanes under a mask; the
//!   machine hands on the registers and the mask and knows nothing more about it.
//! * Every other [`Op`]: the machine (memory, control flow, everything that concerns several lanes, time).
//!
//! Immediates and special registers are registers too: planes beyond the declared ones that the machine fills once when
//! a warp starts ([`Function::constants`], [`Function::specials`]), so fetching an operand is one index. Calls are
//! inlined by the decoder, with arguments in the local frame; there is no call stack. Parameters, shared, local and
//! module variables are numbers here: every address is a register (or nothing) plus an offset.
//!
//! Registers of at most 16 bits live in 32-bit planes, zero-extended; whoever writes one keeps the upper half zero.
//! Section numbers are those of the PTX ISA manual, version 9.0.

use super::asynchronous::{Bulk, BulkTensor, Wgmma};
pub use super::function::{Function, LaneOrder, Param, SharedVariable, Source, Special, Variable};
use super::registers::{Predicate, Register, Wide, Word};
use super::scalar::Scalar;

/// First valid address of a CTA's shared memory; the driver keeps what lies below, and null pointers point there.
pub const SHARED_BASE: u32 = 1024;

/// Generic address of shared address 0 (5.1, 6.4.1: generic addressing).
pub const SHARED_WINDOW: u64 = 0x7fff_ff01_0000_0000;

/// Generic address of local address 0.
pub const LOCAL_WINDOW: u64 = 0x7fff_ff02_0000_0000;

/// Generic address of the first byte of the kernel's parameters.
pub const PARAM_WINDOW: u64 = 0x7fff_ff03_0000_0000;

/// Bytes of each of the three windows.
pub const WINDOW_BYTES: u64 = 1 << 32;

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instr {
    /// Lanes that take part: those where the predicate holds (or does not); all active lanes without.
    pub guard: Option<Guard>,
    /// What to do.
    pub op: Op,
    /// Where it stands.
    pub source: Source,
}

/// A guard predicate (`@p`, `@!p`; 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The predicate.
    pub predicate: Predicate,
    /// Whether the lanes where it does not hold take part.
    pub negated: bool,
}

/// State spaces of addresses (5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// Decided by the address, by the windows above; everything else is global.
    Generic,
    /// Global memory.
    Global,
    /// `.const`: addresses are those of global memory; read only.
    Const,
    /// The CTA's shared memory; 32-bit addresses from [`SHARED_BASE`] on.
    Shared,
    /// The thread's own memory, from 0 on.
    Local,
    /// The kernel's parameters, from 0 on; read only, the same for all threads.
    Param,
}

/// The register of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// None: the offset is the address.
    None,
    /// 32 bits, zero-extended.
    Word(Word),
    /// 64 bits.
    Wide(Wide),
}

/// An address: base plus offset, modulo 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The register.
    pub base: Base,
    /// Bytes to add.
    pub offset: i64,
}

/// Scope of a fence or of an ordered access (8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `.cta`.
    Cta,
    /// `.cluster`.
    Cluster,
    /// `.gpu`.
    Gpu,
    /// `.sys`.
    System,
}

/// Memory order of an access (8.4 and the `.sem` of 9.7.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Plain.
    Weak,
    /// `.volatile`: not removed, orders like relaxed at system scope.
    Volatile,
    /// `.relaxed`: the default of atomics.
    Relaxed(Scope),
    /// `.acquire`.
    Acquire(Scope),
    /// `.release`.
    Release(Scope),
    /// `.acq_rel`.
    AcquireRelease(Scope),
}

/// `ld` (9.7.9.8), `ld.global.nc` (9.7.9.9), `ldu`.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Where from.
    pub space: Space,
    /// Bytes of one element: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Elements: 1, 2 or 4; the address must be aligned to `count · bytes`.
    pub count: u8,
    /// Whether an element is sign-extended to the width of its register instead of zero-extended.
    pub signed: bool,
    /// Whether the register has 16 bits, so that what is extended is cut to 16 bits.
    pub half: bool,
    /// Whether it is `.nc`: the memory must not be written during the launch.
    pub non_coherent: bool,
    /// Memory order.
    pub order: Order,
    /// One register per element, sinks after that; all of one class but for sinks.
    pub to: [Register; 4],
    /// Where.
    pub address: Address,
}

/// `st` (9.7.9.11): the low bytes of each register.
#[derive(Clone, Copy, Debug)]
pub struct Store {
    /// Where to.
    pub space: Space,
    /// Bytes of one element: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Elements: 1, 2 or 4; the address must be aligned to `count · bytes`.
    pub count: u8,
    /// Memory order.
    pub order: Order,
    /// One register per element, sinks after that.
    pub from: [Register; 4],
    /// Where.
    pub address: Address,
}

/// What an atomic operation does with the memory's value m and its operand b (9.7.13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// m & b.
    And,
    /// m | b.
    Or,
    /// m ^ b.
    Xor,
    /// b.
    Exchange,
    /// c where m equals b, else m.
    CompareExchange,
    /// m + b.
    Add,
    /// 0 where m ≥ b, else m + 1.
    Increment,
    /// b where m is 0 or above b, else m - 1.
    Decrement,
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
}

/// Type of an atomic's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicType {
    /// `.b16` (compare-and-exchange only).
    B16,
    /// `.b32`, `.u32`.
    U32,
    /// `.s32`.
    S32,
    /// `.b64`, `.u64`.
    U64,
    /// `.s64`.
    S64,
    /// `.f32`: addition flushes subnormals in global memory, and nowhere else.
    F32,
    /// `.f64`.
    F64,
    /// `.f16` (`.noftz`).
    F16,
    /// `.bf16` (`.noftz`).
    Bf16,
    /// `.f16x2`: atomic per half.
    F16x2,
    /// `.bf16x2`: atomic per half.
    Bf16x2,
}

impl AtomicType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::B16 | Self::F16 | Self::Bf16 => 2,
            Self::U64 | Self::S64 | Self::F64 => 8,
            _ => 4,
        }
    }
}

/// `atom` (9.7.13.5) and `red` (9.7.13.6). Vector forms are atomic per element.
#[derive(Clone, Debug)]
pub struct Atomic {
    /// Where.
    pub space: Space,
    /// What to compute.
    pub op: AtomicOp,
    /// Element type.
    pub kind: AtomicType,
    /// Memory order.
    pub order: Order,
    /// Where the address is; aligned to `from.len() · bytes`.
    pub address: Address,
    /// Receives the old values, one per element; empty for `red`.
    pub to: Vec<Register>,
    /// Operands b, one per element (1, 2, 4 or 8).
    pub from: Vec<Register>,
    /// Operand c of compare-and-exchange; else a sink.
    pub swap: Register,
}

/// What a barrier instruction does (9.7.13.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierKind {
    /// `bar.sync`, `barrier.sync`: arrives and waits.
    Sync,
    /// `bar.arrive`: arrives and goes on.
    Arrive,
    /// `bar.red.popc.u32`: as sync, and counts the threads whose predicate holds.
    CountTrue(Word, Guard),
    /// `bar.red.and.pred`: as sync, and tells whether all predicates hold.
    All(Predicate, Guard),
    /// `bar.red.or.pred`: as sync, and tells whether any predicate holds.
    Any(Predicate, Guard),
}

/// `bar`, `barrier` (9.7.13.1).
#[derive(Clone, Copy, Debug)]
pub struct Barrier {
    /// What it does.
    pub kind: BarrierKind,
    /// Register with the barrier's number, 0 to 15.
    pub id: Word,
    /// Register with the number of threads; all of the CTA without.
    pub threads: Option<Word>,
    /// Whether all threads of the warp must execute it together (`bar` and `.aligned`).
    pub aligned: bool,
}

/// Mode of `shfl.sync` (9.7.9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShuffleMode {
    /// From the lane `b` below.
    Up,
    /// From the lane `b` above.
    Down,
    /// From the lane whose number differs by XOR with `b`.
    Butterfly,
    /// From lane `b`.
    Index,
}

/// `shfl.sync.mode.b32 d|p, a, b, c, mask` (9.7.9.6).
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    /// Which lane to read.
    pub mode: ShuffleMode,
    /// Receives the value.
    pub to: Word,
    /// Receives whether the lane read lies within the segment.
    pub valid: Option<Predicate>,
    /// Value to give.
    pub value: Word,
    /// Lane or distance.
    pub lane: Word,
    /// Segment mask (bits 8 to 12) and clamp (bits 0 to 4).
    pub control: Word,
    /// Lanes that take part.
    pub members: Word,
}

/// `vote.sync` (9.7.13.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteKind {
    /// Whether the predicate holds in all members.
    All(Predicate),
    /// Whether it holds in any member.
    Any(Predicate),
    /// Whether all members agree.
    Uniform(Predicate),
    /// The members where it holds.
    Ballot(Word),
}

/// Operation of `redux.sync` (9.7.13.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduxOp {
    /// Sum modulo 2^32.
    Add,
    /// Smallest, unsigned.
    MinUnsigned,
    /// Largest, unsigned.
    MaxUnsigned,
    /// Smallest, signed.
    MinSigned,
    /// Largest, signed.
    MaxSigned,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
}

/// `cp.async` (9.7.9.25.3.1): 4, 8 or 16 bytes from global to shared memory.
#[derive(Clone, Copy, Debug)]
pub struct CpAsync {
    /// Shared address, aligned to `bytes`.
    pub to: Address,
    /// Global address, aligned to `bytes`.
    pub from: Address,
    /// Bytes written.
    pub bytes: u8,
    /// Register with the bytes read, the rest being zero; all without.
    pub source_bytes: Option<Word>,
    /// `ignore-src`: where the predicate holds, nothing is read and zeros are written.
    pub ignore_source: Option<Guard>,
}

/// What is done to an mbarrier (9.7.13.15).
#[derive(Clone, Copy, Debug)]
pub enum MbarrierOp {
    /// `mbarrier.init`: memory becomes one whose phases take so many arrivals.
    Init(Word),
    /// `mbarrier.inval`: it becomes plain memory again.
    Invalidate,
    /// `mbarrier.arrive`, `mbarrier.arrive_drop`.
    Arrive {
        /// Receives the state before: the phase, and how many arrivals it lacked.
        state: Register,
        /// How many arrivals this is.
        count: Word,
        /// Whether later phases expect so many fewer (`arrive_drop`).
        drops: bool,
        /// Whether it may be the last arrival of a phase (without `.noComplete`).
        completes: bool,
        /// Bytes that it announces first (`.expect_tx`).
        expects: Option<Word>,
    },
    /// `mbarrier.expect_tx`: the phase lacks so many bytes more.
    ExpectBytes(Word),
    /// `mbarrier.complete_tx`: so many bytes have come, in the place of a copy.
    CompleteBytes(Word),
    /// `mbarrier.test_wait`, `mbarrier.try_wait`: whether the phase of a state is complete.
    TestState(Predicate, Wide),
    /// The same with `.parity`: whether the phase of this parity, the current one or that before, is complete.
    TestParity(Predicate, Word),
    /// `cp.async.mbarrier.arrive`: an arrival when all earlier copies of the thread are complete.
    ArriveCopies {
        /// Whether the phase already counts on it (`.noinc`); else it takes one arrival more.
        expected: bool,
    },
}

/// `mbarrier`, `cp.async.mbarrier.arrive`.
#[derive(Clone, Copy, Debug)]
pub struct Mbarrier {
    /// `.shared` or generic.
    pub space: Space,
    /// Where it lies, aligned to 8 bytes.
    pub address: Address,
    /// What is done to it.
    pub op: MbarrierOp,
    /// Whether a wait in vain lets others run (`try_wait`).
    pub suspends: bool,
}

/// Operand type of `mma.sync` (9.7.14.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MmaType {
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// TensorFloat-32: 32-bit registers whose low 13 bits do not count.
    Tf32,
}

/// `mma.sync.aligned.m16n8kK.row.col` (9.7.14.5). Fragments: `a` and `b` packed two 16-bit values per register.
#[derive(Clone, Copy, Debug)]
pub struct Mma {
    /// K: 16 or 8 for 16-bit operands, 8 or 4 for tf32.
    pub k: u8,
    /// Type of A and B.
    pub kind: MmaType,
    /// Whether C and D are f16 (two registers) instead of f32 (four).
    pub half_sum: bool,
    /// D: 4 registers, or the first 2.
    pub d: [Word; 4],
    /// A: k16 16-bit and k8 tf32 4 registers, else the first 2.
    pub a: [Word; 4],
    /// B: k16 16-bit and k8 tf32 2 registers, else the first.
    pub b: [Word; 2],
    /// C: as D.
    pub c: [Word; 4],
}

/// `ldmatrix` (9.7.14.5.15) and `stmatrix` (9.7.14.5.16) of 8×8 matrices of 16-bit elements.
#[derive(Clone, Copy, Debug)]
pub struct MatrixMove {
    /// Matrices: 1, 2 or 4.
    pub count: u8,
    /// `.trans`.
    pub transposed: bool,
    /// `.shared` or generic.
    pub space: Space,
    /// One register per matrix; those after that are without meaning.
    pub registers: [Word; 4],
    /// Row address of each lane.
    pub address: Address,
}

/// Which clock is read (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// `%clock`, `%clock64`: cycles.
    Cycles,
    /// `%clock_hi`: upper 32 bits of the cycles.
    CyclesHigh,
    /// `%globaltimer`: nanoseconds.
    Nanoseconds,
}

/// What an instruction does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Registers only: [`scalar::execute`](super::scalar::execute).
    Scalar(Scalar),
    /// Reads memory.
    Load(Load),
    /// Writes memory.
    Store(Store),
    /// `atom`, `red`.
    Atomic(Box<Atomic>),
    /// `bra` (9.7.12.3): the lanes that take part go to an instruction.
    Branch(u32),
    /// `brx.idx` (9.7.12.4): lane by lane to the instruction that a register selects.
    BranchIndexed(Word, Box<[u32]>),
    /// `exit`, and `ret` of an entry (9.7.12.6, 9.7.12.7).
    Exit,
    /// `trap` (9.7.19.4), `brkpt`.
    Trap,
    /// `nanosleep` (9.7.19.2): lets others go on.
    Yield,
    /// `bar`, `barrier`.
    Barrier(Barrier),
    /// `bar.warp.sync` (9.7.13.2); the register holds the members.
    WarpSync(Word),
    /// `fence`, `membar` (9.7.13.4): never weak nor volatile; sequentially consistent ones are acquire and release.
    Fence(Order),
    /// `shfl.sync`.
    Shuffle(Shuffle),
    /// `vote.sync`: kind, predicate of each lane, members.
    Vote(VoteKind, Guard, Word),
    /// `match.any.sync` (9.7.13.10): members with the same value. Destination, value, members.
    MatchAny(Word, Register, Word),
    /// `match.all.sync`: members if all have the same value, else 0; and whether. Destination, whether, value, members.
    MatchAll(Word, Option<Predicate>, Register, Word),
    /// `redux.sync`: operation, destination, value, members.
    Redux(ReduxOp, Word, Word, Word),
    /// `activemask` (9.7.13.11).
    ActiveMask(Word),
    /// `elect.sync` (9.7.13.14): elected lane, whether it is this one, members.
    Elect(Option<Word>, Predicate, Word),
    /// `cp.async`.
    CpAsync(CpAsync),
    /// `cp.async.commit_group`.
    CpAsyncCommit,
    /// `cp.async.wait_group n`: all but the n youngest groups are complete.
    CpAsyncWait(u32),
    /// `cp.async.wait_all`: commits, and all are complete.
    CpAsyncWaitAll,
    /// `mbarrier`.
    Mbarrier(Mbarrier),
    /// `ldmatrix`.
    LoadMatrix(MatrixMove),
    /// `stmatrix`.
    StoreMatrix(MatrixMove),
    /// `mma.sync`.
    Mma(Mma),
    /// `cp.async.bulk`, `cp.reduce.async.bulk`.
    Bulk(Box<Bulk>),
    /// `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor`.
    BulkTensor(Box<BulkTensor>),
    /// `cp.async.bulk.commit_group`.
    BulkCommit,
    /// `cp.async.bulk.wait_group n`, with `.read` or without: all but the n youngest groups are complete.
    BulkWait(u32),
    /// `fence.proxy.async`: what is known by then, the async proxy sees.
    FenceProxy,
    /// `fence.mbarrier_init`: the async proxy sees the mbarriers that were made.
    FenceMbarriers,
    /// `wgmma.mma_async`.
    Wgmma(Box<Wgmma>),
    /// `wgmma.fence`: registers are as other instructions left them.
    WgmmaFence,
    /// `wgmma.commit_group`.
    WgmmaCommit,
    /// `wgmma.wait_group n`: all but the n youngest groups are complete.
    WgmmaWait(u32),
    /// `setmaxnreg`: registers of each thread of the warpgroup.
    SetRegisters(u32),
    /// `prefetch`, `prefetchu` (9.7.9.15): a hint; the address need not be valid.
    Prefetch(Space, Address),
    /// `discard.global.L2` (9.7.9.17): the 128 bytes there lose their value.
    Discard(Space, Address),
    /// Reads a clock; the register has 32 or 64 bits.
    ReadClock(Register, Clock),
}
