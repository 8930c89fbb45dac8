//! What the four warps of a warpgroup do together (PTX ISA 9.7.15, 9.7.19.5): matrix products that run by themselves, and
//! `setmaxnreg`.
//!
//! A product takes effect at the wait that covers it, or at once, as copies do. Until then its accumulators may not be touched,
//! nor may what it reads be changed. It ends for the warpgroup as a whole: a wait for it ends when all four warps have begun
//! it, and then what it read may be written by whoever knows that any of them has waited.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::asynchronous::{Accumulate, Left, Wgmma};
use super::clocks::Agent;
use super::descriptor::{CHUNK, Descriptor};
use super::execute::{Context, Flow};
use super::function::{Function, ProductTouch};
use super::instr::Op;
use super::product::Factors;
use super::registers::LANES;
use super::report::{Check, Finding, Outcome, Place};
use super::shared::Reader;

/// Warps of a warpgroup.
pub const WARPS: usize = 4;

/// Bits of a step, one for each warp.
const ALL: u8 = (1 << WARPS) - 1;

/// Rows of A and D that one warp has.
pub const ROWS: usize = 16;

/// Registers of a multiprocessor for each lane of a warpgroup.
const REGISTERS: u32 = 65_536 / (WARPS * LANES) as u32;

/// One instruction that all warps of a warpgroup execute.
#[derive(Clone, Debug)]
struct Step {
    pc: usize,
    values: [u64; 3],
    /// Warps that have come to it.
    warps: u8,
}

/// The steps of one warpgroup, those aside to which all have come.
#[derive(Clone, Debug, Default)]
struct Group {
    /// Number of the first step kept.
    first: u32,
    steps: VecDeque<Step>,
    /// Steps of each warp so far.
    done: [u32; WARPS],
    /// Registers that it was last given by `setmaxnreg`.
    registers: Option<u32>,
    /// What products read in shared memory, by step, with the warps that have yet to take it up.
    factors: BTreeMap<u32, (Rc<Factors>, usize)>,
}

/// The warpgroups of a CTA.
#[derive(Clone, Debug, Default)]
pub struct Warpgroups {
    groups: Vec<Group>,
}

impl Warpgroups {
    fn of(&mut self, warp: usize) -> &mut Group {
        let number = warp / WARPS;
        if self.groups.len() <= number {
            self.groups.resize_with(number + 1, Group::default);
        }
        &mut self.groups[number]
    }

    /// A warp comes to its next step. The step's number, or the place of another one to which other warps came.
    fn join(&mut self, warp: usize, pc: usize, values: [u64; 3]) -> Result<u32, usize> {
        let group = self.of(warp);
        let number = group.done[warp % WARPS];
        group.done[warp % WARPS] += 1;
        let at = (number - group.first) as usize;
        if at == group.steps.len() {
            group.steps.push_back(Step { pc, values, warps: 0 });
        }
        let step = &mut group.steps[at];
        if (step.pc, step.values) != (pc, values) {
            return Err(step.pc);
        }
        step.warps |= 1 << (warp % WARPS);
        while group.steps.front().is_some_and(|step| step.warps == ALL) {
            group.steps.pop_front();
            group.first += 1;
        }
        Ok(number)
    }

    /// Whether all warps have come to a step of this warp's group.
    fn all_came(&self, warp: usize, number: u32) -> bool {
        self.groups.get(warp / WARPS).is_some_and(|group| number < group.first)
    }

    /// What a product read when it took effect for another warp.
    pub fn read_factors(&mut self, warp: usize, number: u32) -> Option<Rc<Factors>> {
        let kept = &mut self.of(warp).factors;
        let (factors, left) = kept.get_mut(&number)?;
        *left -= 1;
        let (factors, last) = (Rc::clone(factors), *left == 0);
        if last {
            kept.remove(&number);
        }
        Some(factors)
    }

    /// Keeps what a product read for the other warps.
    pub fn keep_factors(&mut self, warp: usize, number: u32, factors: &Rc<Factors>) {
        self.of(warp).factors.insert(number, (Rc::clone(factors), WARPS - 1));
    }

    /// A step to which not all warps came: warpgroup, instruction, the warps that did.
    fn incomplete(&self) -> Option<(usize, usize, u8)> {
        let mut groups = self.groups.iter().enumerate();
        groups.find_map(|(number, group)| group.steps.front().map(|step| (number, step.pc, step.warps)))
    }
}

/// What is known of a register that products use.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// Read or written by other instructions since the last `wgmma.fence`.
    read: bool,
    written: bool,
    /// Products under way that sum into it, and that read it.
    sums: u16,
    inputs: u16,
    /// The last product that sums into it.
    last: usize,
}

/// A product that a warp has begun.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pc: usize,
    /// Its step in the warpgroup.
    pub number: u32,
    group: u32,
    /// Descriptor of A, unless that is in registers.
    pub a: u64,
    /// Descriptor of B.
    pub b: u64,
    /// Whether it is added to the accumulators.
    pub adds: bool,
    done: bool,
}

/// The products that a warp has begun and not waited for, and the registers they use.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    uses: Vec<Use>,
    pending: VecDeque<Product>,
    committed: u32,
    /// Whether there was a `wgmma.fence` at all.
    fenced: bool,
}

impl InFlight {
    /// Nothing, for the registers of a function.
    pub fn new(function: &Function) -> Self {
        Self { uses: vec![Use::default(); function.products.names.len()], ..Self::default() }
    }

    /// `wgmma.commit_group`.
    pub fn commit(&mut self) {
        self.committed += 1;
    }

    /// `wgmma.fence`.
    pub fn fence(&mut self) {
        self.fenced = true;
        self.uses.iter_mut().for_each(|it| (it.read, it.written) = (false, false));
    }
}

impl Context<'_, '_> {
    /// Follows registers of products through other instructions.
    pub(super) fn follow_products(&mut self, touch: &ProductTouch) -> Outcome {
        let (uses, names) = (&mut self.warp.products.uses, &self.grid.function.products.names);
        let fault = |slot: u16, what: &str| {
            let text = format!("`{}` is {what} before the wait for the matrix product that", names[usize::from(slot)]);
            Err(Finding::new(Check::Product, None, text + " uses it"))
        };
        for slot in touch.reads.iter().copied() {
            let it = &mut uses[usize::from(slot)];
            if it.sums > 0 {
                return fault(slot, "read");
            }
            it.read = true;
        }
        for slot in touch.writes.iter().copied() {
            let it = &mut uses[usize::from(slot)];
            if it.sums > 0 || it.inputs > 0 {
                return fault(slot, "written");
            }
            it.written = true;
        }
        Ok(())
    }

    /// Looks whether a product may use its registers, and notes that it does.
    fn use_registers(&mut self, touch: &ProductTouch) -> Outcome {
        let function: &Function = self.grid.function;
        let own = &function.code[self.warp.pc].op;
        let alike = |other: usize| {
            let other = &function.code[other].op;
            matches!((own, other), (Op::Wgmma(own), Op::Wgmma(other)) if own.d == other.d && own.kind == other.kind)
        };
        // The accumulators of a product mostly have the same history, so that of the first is looked up once.
        let (here, mut alike_with) = (self.warp.pc, None);
        let names = &function.products.names;
        let fault = |slot: u16, what: &str| {
            let text = format!("`{}` {what}", names[usize::from(slot)]);
            Err(Finding::new(Check::Product, None, text))
        };
        let flight = &mut self.warp.products;
        let looks = self.grid.options.checks.products;
        let unfenced = "was used otherwise since the last wgmma.fence, which must lie between that and a product";
        if looks && !flight.fenced {
            return Err(Finding::new(Check::Product, None, "there is no wgmma.fence before the first matrix product"));
        }
        for slot in touch.reads.iter().copied() {
            let it = &mut flight.uses[usize::from(slot)];
            if looks && it.written {
                return fault(slot, unfenced);
            }
            if looks && it.sums > 0 {
                return fault(slot, "is a factor here, and another product still sums into it");
            }
            it.inputs += 1;
        }
        for slot in touch.writes.iter().copied() {
            let it = &mut flight.uses[usize::from(slot)];
            if looks && (it.read || it.written) {
                return fault(slot, unfenced);
            }
            let unlike = it.sums > 0 && alike_with != Some(it.last) && !alike(it.last);
            if looks && (it.inputs > 0 || unlike) {
                return fault(slot, "is summed into, and a product of another shape, or as a factor, still uses it");
            }
            alike_with = if it.sums > 0 { Some(it.last) } else { alike_with };
            (it.sums, it.last) = (it.sums + 1, here);
        }
        Ok(())
    }

    /// A value that all lanes must have.
    fn same_in_all(&self, values: &[u64; LANES], what: &str) -> Outcome<u64> {
        match values.iter().position(|value| *value != values[0]) {
            Some(lane) => {
                let text = format!("{what} {:#x} in lane 0, {:#x} here", values[0], values[lane]);
                Err(Finding::new(Check::Collective, lane, text))
            }
            None => Ok(values[0]),
        }
    }

    /// Comes to a step of the warpgroup; its number.
    fn join_warpgroup(&mut self, values: [u64; 3]) -> Outcome<u32> {
        if !self.grid.shape.threads.is_multiple_of(WARPS * LANES) {
            let text = format!("needs whole warpgroups of 128 threads; the block has {}", self.grid.shape.threads);
            return Err(Finding::new(Check::Collective, None, text));
        }
        let (warp, pc) = (self.warp.index, self.warp.pc);
        self.grid.changes += 1;
        self.block.warpgroups.join(warp, pc, values).map_err(|other| {
            let place = Place::of(self.grid.function, other);
            let text = format!(
                "the warps of warpgroup {} must come here together with the same operands; another one came to {place}",
                warp / WARPS
            );
            Finding::new(Check::Collective, None, text).against(other)
        })
    }

    /// `setmaxnreg` (9.7.19.5): the pool must have what is asked for, once all warpgroups have said what they need.
    pub(super) fn set_registers(&mut self, count: u32) -> Outcome {
        self.join_warpgroup([count.into(), u64::MAX, 0])?;
        self.block.warpgroups.of(self.warp.index).registers = Some(count);
        let groups = self.grid.shape.threads / (WARPS * LANES);
        let asked: Vec<u32> = self.block.warpgroups.groups.iter().filter_map(|group| group.registers).collect();
        let sum: u32 = asked.iter().sum();
        if asked.len() == groups && sum > REGISTERS && self.checks().limits {
            let text = format!("the warpgroups want {asked:?} registers a thread, {sum} in all; there are {REGISTERS}");
            return Err(Finding::new(Check::Trap, None, text));
        }
        Ok(())
    }

    /// `wgmma.mma_async`.
    pub(super) fn wgmma(&mut self, wgmma: &Wgmma) -> Outcome {
        let registers = &self.warp.registers;
        let a = match wgmma.a {
            Left::Shared(a) => self.same_in_all(registers.wide(a), "the descriptor of A is")?,
            Left::Registers(_) => 0,
        };
        let b = self.same_in_all(registers.wide(wgmma.b), "the descriptor of B is")?;
        let adds = match wgmma.accumulate {
            Accumulate::Always => u32::MAX,
            Accumulate::If(guard) => self.guarded(guard, u32::MAX),
        };
        if adds != 0 && adds != u32::MAX {
            let text = format!("scale-d holds in lanes {adds:#010x} only; it is the same in all of the warpgroup");
            return Err(Finding::new(Check::Collective, None, text));
        }
        let number = self.join_warpgroup([a, b, adds.into()])?;
        let function: &Function = self.grid.function;
        if let Some(touch) = function.products.touches.get(self.warp.pc).and_then(Option::as_ref) {
            self.use_registers(touch)?;
        }
        self.read_factors(wgmma, a, b, number)?;
        let group = self.warp.products.committed;
        let mut product = Product { pc: self.warp.pc, number, group, a, b, adds: adds != 0, done: false };
        self.grid.counters.tensor_flops += 2 * (ROWS * usize::from(wgmma.columns) * wgmma.depth()) as u64;
        if self.is_early() {
            self.carry_products()?;
            self.multiply(wgmma, &product)?;
            product.done = true;
        }
        self.warp.products.pending.push_back(product);
        Ok(())
    }

    /// The products of the warp so far take effect: in the order in which they were begun, which those that sum into the same
    /// registers keep.
    fn carry_products(&mut self) -> Outcome {
        let function: &Function = self.grid.function;
        for at in 0..self.warp.products.pending.len() {
            let product = self.warp.products.pending[at];
            let Op::Wgmma(wgmma) = &function.code[product.pc].op else { continue };
            if !product.done {
                self.multiply(wgmma, &product)?;
                self.warp.products.pending[at].done = true;
            }
        }
        Ok(())
    }

    /// Checks and notes what a product reads in shared memory.
    fn read_factors(&mut self, wgmma: &Wgmma, a: u64, b: u64, number: u32) -> Outcome {
        let mut places = Vec::new();
        let first = self.warp.index % WARPS * ROWS;
        if let Left::Shared(_) = wgmma.a {
            self.each_chunk(wgmma, a, wgmma.transposed[0], first..first + ROWS, |_, _, at| places.push(at))?;
        }
        self.each_chunk(wgmma, b, wgmma.transposed[1], 0..wgmma.columns.into(), |_, _, at| places.push(at))?;
        let (actor, shared) = (self.warp.actor(false, self.block.serial), &mut self.block.shared);
        let reader = (Reader::Warpgroup(self.warp.index / WARPS), number + 1);
        shared.read_by_proxy(&actor, u32::MAX, reader, places.into_iter().map(|offset| (offset, CHUNK)))
    }

    /// Visits the chunks of a factor in shared memory: line and depth of the first element, place.
    #[inline]
    pub(super) fn each_chunk(
        &self,
        wgmma: &Wgmma,
        bits: u64,
        transposed: bool,
        lines: std::ops::Range<usize>,
        mut visit: impl FnMut(usize, usize, usize),
    ) -> Outcome {
        let descriptor = self.descriptor(bits)?;
        let elements = CHUNK * wgmma.depth() / 32;
        let (step, depth) = if transposed { (elements, 1) } else { (1, elements) };
        for i in lines.step_by(step) {
            for k in (0..wgmma.depth()).step_by(depth) {
                visit(i, k, self.chunk_spot(descriptor.chunk(transposed, elements, i, k))?);
            }
        }
        Ok(())
    }

    /// A decoded descriptor, or the fault of one that is not modelled.
    pub(super) fn descriptor(&self, bits: u64) -> Outcome<Descriptor> {
        Descriptor::decode(bits).map_err(|text| Finding::new(Check::Trap, None, text))
    }

    /// Offset of a chunk of a factor in shared memory.
    pub(super) fn chunk_spot(&self, address: usize) -> Outcome<usize> {
        let shared = &self.block.shared;
        let spot = shared.spot(address as u64, CHUNK);
        spot.ok_or_else(|| shared.outside(address as u64, CHUNK, "read of a matrix factor", 0))
    }

    /// `wgmma.wait_group`: all but the `youngest` last groups are complete. Not before all warps have begun them.
    pub(super) fn wait_products(&mut self, youngest: u32) -> Outcome<Flow> {
        let complete = self.warp.products.committed.saturating_sub(youngest);
        let due = |product: &&Product| product.group < complete;
        let last = self.warp.products.pending.iter().take_while(due).last().copied();
        let Some(last) = last else { return Ok(Flow::Next) };
        if !self.block.warpgroups.all_came(self.warp.index, last.number) {
            return Ok(Flow::Again);
        }
        let function: &Function = self.grid.function;
        while let Some(product) = self.warp.products.pending.front().copied().filter(|product| product.group < complete)
        {
            self.warp.products.pending.pop_front();
            let Op::Wgmma(wgmma) = &function.code[product.pc].op else { continue };
            if !product.done {
                self.multiply(wgmma, &product)?;
            }
            if let Some(touch) = function.products.touches.get(product.pc).and_then(Option::as_ref) {
                let uses = &mut self.warp.products.uses;
                touch.reads.iter().for_each(|slot| uses[usize::from(*slot)].inputs -= 1);
                touch.writes.iter().for_each(|slot| uses[usize::from(*slot)].sums -= 1);
            }
        }
        let agent = Agent::of_warpgroup(self.warp.index / WARPS);
        self.warp.learn_agent(self.block.serial, u32::MAX, agent, last.number + 1);
        self.grid.changes += 1;
        Ok(Flow::Next)
    }

    /// What may not be left when lanes exit.
    pub(super) fn leave_products(&mut self, exiting: u32) -> Outcome {
        let all = self.warp.live == exiting;
        if let Some(product) = self.warp.products.pending.front().filter(|_| all && self.checks().products) {
            let text = "the warp ends before it has waited for its matrix product";
            return Err(Finding::new(Check::Product, None, text).against(product.pc));
        }
        let last = self.block.live == exiting.count_ones() && self.checks().collectives;
        match self.block.warpgroups.incomplete().filter(|_| last) {
            Some((group, pc, warps)) => {
                let text =
                    format!("the block ends and only warps {warps:#06b} of warpgroup {group} came to an instruction");
                Err(Finding::new(Check::Collective, None, text + " that all must execute").against(pc))
            }
            None => Ok(()),
        }
    }
}
