//! Barriers in shared memory (PTX ISA 9.7.13.15): phases, arrivals, transactions, waits, and copies that arrive when they are
//! complete.
//!
//! What an mbarrier holds is kept beside shared memory; its 8 bytes there are marked, since nothing but these instructions
//! may touch them. An arrival releases to those who find its phase complete. What a thread wrote before it asked for an
//! arrival of its copies counts as released by that too, which the manual does not promise.

use std::collections::BTreeMap;

use super::access::{Access, Offsets};
use super::clocks::{Agent, Stamp};
use super::copy::Pending;
use super::execute::{Context, lanes};
use super::instr::{Mbarrier, MbarrierOp, Scope, Space};
use super::order::{Locations, Released};
use super::registers::Word;
use super::report::{Check, Finding, Outcome};
use super::shared::{Shared, unordered};

/// Bytes of an mbarrier.
pub const MBARRIER_BYTES: usize = 8;

/// Most arrivals of a phase.
const MOST: u32 = (1 << 20) - 1;

/// Most bytes that a phase lacks, or has too many of.
const MOST_BYTES: i64 = (1 << 20) - 1;

/// A state: arrivals that the phase lacked in the low half, where the mbarrier lies (in units of its size), the phase.
const PLACE_BIT: u32 = 32;
const PHASE_BIT: u32 = 47;
const PHASES: u32 = 1 << (64 - PHASE_BIT);

/// One mbarrier.
#[derive(Clone, Copy, Debug)]
struct Object {
    phase: u32,
    /// Arrivals that the phase lacks.
    lacks: u32,
    /// Arrivals of the next phase.
    expected: u32,
    /// Bytes of transactions that the phase lacks; fewer than none before they are announced.
    bytes: i64,
    /// Whether somebody has arrived in this phase.
    begun: bool,
    /// Number of the phase among those of all mbarriers of the CTA.
    epoch: u32,
    /// Who made it.
    made: Stamp,
    /// Who showed it to the async proxy by `fence.mbarrier_init`.
    fenced: Option<Stamp>,
}

impl Object {
    fn state(&self, offset: usize) -> u64 {
        let place = (offset / MBARRIER_BYTES) as u64;
        u64::from(self.lacks) | place << PLACE_BIT | u64::from(self.phase % PHASES) << PHASE_BIT
    }
}

/// Copies of a warp that arrive at mbarriers when they are complete.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// Their warp.
    pub warp: usize,
    /// They.
    pub(super) copies: Vec<Pending>,
    /// Lanes that have not arrived, and at which mbarriers.
    mask: u32,
    at: Offsets,
    /// What is known to those who find the phase complete.
    released: Released,
    /// When the warp asked for it.
    pub(super) stamp: Stamp,
}

/// The mbarriers of a CTA.
#[derive(Debug, Default)]
pub struct Mbarriers {
    objects: BTreeMap<usize, Object>,
    arriving: Vec<Arriving>,
    /// Phases begun so far.
    epochs: u32,
}

/// Where arrivals of a phase publish, and those who find it complete look: phases take turns.
fn location(offset: usize, phase: u32) -> u64 {
    (1 + u64::from(phase % 2)) << 32 | offset as u64
}

impl Mbarriers {
    /// Takes out the copies that are still to arrive.
    pub fn take_arriving(&mut self) -> Vec<Arriving> {
        std::mem::take(&mut self.arriving)
    }

    /// Puts them back.
    pub fn put_arriving(&mut self, arriving: Vec<Arriving>) {
        self.arriving = arriving;
    }

    /// For reports: what is missing, if an mbarrier lies there.
    pub fn describe(&self, offset: usize) -> String {
        self.objects.get(&offset).map_or_else(String::new, |object| {
            let bytes = if object.bytes == 0 { String::new() } else { format!(" and {} bytes", object.bytes) };
            format!(", an mbarrier whose phase {} lacks {} arrivals{bytes}", object.phase, object.lacks)
        })
    }

    fn get(&mut self, offset: usize, lane: usize, shared: &Shared) -> Outcome<&mut Object> {
        self.objects.get_mut(&offset).ok_or_else(|| {
            let text = format!("no mbarrier has been made at {} by mbarrier.init", shared.describe_byte(offset));
            Finding::new(Check::Barrier, lane, text)
        })
    }

    /// Arrivals, which publish what was released; a phase that lacks no more is complete. The state before.
    fn arrive(&mut self, offset: usize, count: u32, drops: bool, released: &Released, to: &mut Locations) -> u64 {
        let Some(object) = self.objects.get_mut(&offset) else { return 0 };
        let state = object.state(offset);
        to.publish(location(offset, object.phase), released, object.begun, false);
        object.begun = true;
        object.expected = object.expected.saturating_sub(if drops { count } else { 0 });
        object.lacks = object.lacks.saturating_sub(count);
        self.advance(offset);
        state
    }

    /// Bytes are announced, or (below none) have come; a phase that lacks nothing more is complete.
    fn transact(&mut self, offset: usize, bytes: i64) {
        if let Some(object) = self.objects.get_mut(&offset) {
            object.bytes += bytes;
            self.advance(offset);
        }
    }

    fn advance(&mut self, offset: usize) {
        let Some(object) = self.objects.get_mut(&offset) else { return };
        if object.lacks == 0 && object.bytes == 0 {
            let phase = object.phase.wrapping_add(1);
            self.epochs += 1;
            *object = Object { phase, lacks: object.expected, begun: false, epoch: self.epochs, ..*object };
        }
    }

    /// A copy is complete: its bytes have come, which those who find the phase complete know.
    fn complete_copy(&mut self, offset: usize, bytes: u32, released: &Released, to: &mut Locations) {
        if let Some(object) = self.objects.get_mut(&offset) {
            to.publish(location(offset, object.phase), released, object.begun, false);
            object.begun = true;
            self.transact(offset, -i64::from(bytes));
        }
    }

    /// `fence.mbarrier_init` by some lanes of a warp: the async proxy sees what they have made.
    pub fn show(&mut self, active: u32, stamp: Stamp) {
        let made_here = |made: Stamp| made.warp() == stamp.warp() && active >> made.lane() & 1 == 1;
        for object in self.objects.values_mut().filter(|object| object.fenced.is_none() && made_here(object.made)) {
            object.fenced = Some(stamp.with_lane(object.made.lane()));
        }
    }
}

impl Context<'_, '_> {
    /// `mbarrier`, `cp.async.mbarrier.arrive`.
    pub(super) fn mbarrier(&mut self, mbarrier: &Mbarrier, active: u32) -> Outcome {
        let access = Access { what: "mbarrier", bytes: MBARRIER_BYTES, strong: true, wide: false };
        let addresses = self.addresses(&mbarrier.address);
        self.by_space(mbarrier.space, addresses, active, |this, space, addresses, mask| {
            this.check_alignment(space, addresses, mask, access)?;
            if space != Space::Shared {
                let text = format!("mbarrier in {space:?} memory; it lies in shared memory");
                return Err(Finding::new(Check::Bounds, mask.trailing_zeros() as usize, text));
            }
            let (at, mask) = this.shared_spots(addresses, mask, access)?;
            match mbarrier.op {
                MbarrierOp::Init(count) => this.init_mbarriers(&at, mask, count),
                MbarrierOp::Invalidate => this.invalidate_mbarriers(&at, mask),
                MbarrierOp::Arrive { .. } => this.arrive(&at, mask, mbarrier.op),
                MbarrierOp::ExpectBytes(bytes) => this.transact(&at, mask, bytes, 1),
                MbarrierOp::CompleteBytes(bytes) => this.transact(&at, mask, bytes, -1),
                MbarrierOp::TestState(..) | MbarrierOp::TestParity(..) => this.test_wait(&at, mask, mbarrier.op),
                MbarrierOp::ArriveCopies { expected } => this.arrive_copies(&at, mask, expected),
            }
        })
    }

    fn misuse<T>(&self, offset: usize, lane: usize, what: String) -> Outcome<T> {
        let place = self.block.shared.describe_byte(offset) + &self.block.mbarriers.describe(offset);
        Err(Finding::new(Check::Barrier, lane, format!("{place}: {what}")))
    }

    /// An mbarrier that is there, of which a lane makes use.
    fn used(&mut self, offset: usize, lane: usize) -> Outcome<Object> {
        let (actor, shared) = (self.warp.actor(true, self.block.serial), &mut self.block.shared);
        let object = *self.block.mbarriers.get(offset, lane, shared)?;
        shared.use_barrier(&actor, lane, offset, MBARRIER_BYTES, object.made)?;
        Ok(object)
    }

    fn init_mbarriers(&mut self, at: &Offsets, mask: u32, count: Word) -> Outcome {
        for lane in lanes(mask) {
            let (offset, count) = (at[lane], self.warp.registers.word(count)[lane]);
            let there = self.block.mbarriers.objects.contains_key(&offset);
            if self.checks().barriers && there {
                return self.misuse(
                    offset,
                    lane,
                    "mbarrier.init of what is one already; mbarrier.inval comes first".into(),
                );
            }
            if self.checks().barriers && !(1..=MOST).contains(&count) {
                return self.misuse(offset, lane, format!("mbarrier.init for {count} arrivals; it takes 1 to {MOST}"));
            }
            if there {
                self.block.shared.mark_barrier(offset, MBARRIER_BYTES, false);
            }
            let actor = self.warp.actor(false, self.block.serial);
            self.block.shared.write(&actor, lane, offset, MBARRIER_BYTES, false)?;
            self.block.shared.mark_barrier(offset, MBARRIER_BYTES, true);
            let made = self.warp.stamp(false).with_lane(lane);
            self.block.mbarriers.epochs += 1;
            let (epoch, fenced) = (self.block.mbarriers.epochs, None);
            let object =
                Object { phase: 0, lacks: count, expected: count, bytes: 0, begun: false, epoch, made, fenced };
            self.block.mbarriers.objects.insert(offset, object);
            self.grid.changes += 1;
        }
        Ok(())
    }

    fn invalidate_mbarriers(&mut self, at: &Offsets, mask: u32) -> Outcome {
        for lane in lanes(mask) {
            let offset = at[lane];
            self.used(offset, lane)?;
            let comes = |arriving: &Arriving| lanes(arriving.mask).any(|lane| arriving.at[lane] == offset);
            let comes = self.block.mbarriers.arriving.iter().any(comes)
                || self.block.transfers.iter().any(|transfer| transfer.mbarrier == offset);
            if self.checks().barriers && comes {
                return self.misuse(offset, lane, "mbarrier.inval while copies are still to arrive".into());
            }
            self.block.mbarriers.objects.remove(&offset);
            self.block.shared.mark_barrier(offset, MBARRIER_BYTES, false);
            self.grid.changes += 1;
        }
        Ok(())
    }

    /// Looks for more arrivals than a phase lacks.
    fn check_arrivals(&self, offset: usize, lane: usize, object: Object, count: u32, completes: bool) -> Outcome {
        if !self.checks().barriers {
            return Ok(());
        }
        if count == 0 || count > object.lacks {
            return self.misuse(offset, lane, format!("{count} arrivals, which must be 1 to {}", object.lacks));
        }
        if count == object.lacks && !completes {
            return self.misuse(offset, lane, "an arrival with .noComplete, which completes the phase".into());
        }
        Ok(())
    }

    fn arrive(&mut self, at: &Offsets, mask: u32, op: MbarrierOp) -> Outcome {
        let MbarrierOp::Arrive { state, count, drops, completes, expects } = op else { return Ok(()) };
        self.release(Scope::Cta, mask);
        for lane in self.lane_order().into_iter().filter(|lane| mask >> lane & 1 == 1) {
            let (offset, count) = (at[lane], self.warp.registers.word(count)[lane]);
            let object = self.used(offset, lane)?;
            self.check_arrivals(offset, lane, object, count, completes)?;
            if let Some(bytes) = expects {
                let bytes = self.warp.registers.word(bytes)[lane].into();
                self.check_bytes(offset, lane, object.bytes + bytes)?;
                self.block.mbarriers.transact(offset, bytes);
            }
            let (released, locations) = (self.warp.learning.released(), &mut self.block.locations);
            let before = self.block.mbarriers.arrive(offset, count, drops, released, locations);
            self.warp.registers.set_lane(state, lane, before);
            self.grid.changes += 1;
        }
        Ok(())
    }

    /// Looks for more bytes than a phase can lack.
    fn check_bytes(&self, offset: usize, lane: usize, bytes: i64) -> Outcome {
        if self.checks().barriers && bytes.abs() > MOST_BYTES {
            return self.misuse(
                offset,
                lane,
                format!("it would lack {bytes} bytes; at most {MOST_BYTES} can be counted"),
            );
        }
        Ok(())
    }

    /// `mbarrier.expect_tx`, `mbarrier.complete_tx`.
    fn transact(&mut self, at: &Offsets, mask: u32, bytes: Word, sign: i64) -> Outcome {
        for lane in lanes(mask) {
            let bytes = sign * i64::from(self.warp.registers.word(bytes)[lane]);
            let object = self.used(at[lane], lane)?;
            self.check_bytes(at[lane], lane, object.bytes + bytes)?;
            self.block.mbarriers.transact(at[lane], bytes);
            self.grid.changes += 1;
        }
        Ok(())
    }

    /// Looks whether the copy engine can use an mbarrier on behalf of a lane: it is there, and the async proxy sees it.
    pub(super) fn check_proxy_mbarrier(&mut self, offset: usize, lane: usize) -> Outcome {
        let Object { made, fenced, .. } = self.used(offset, lane)?;
        let actor = self.warp.actor(false, self.block.serial);
        let shown = fenced.is_some_and(|fenced| !unordered(&actor, fenced, 1 << lane));
        if !self.checks().proxies || shown || actor.learning.proxies(1 << lane, actor.owner, made) {
            return Ok(());
        }
        let text = format!(
            "the copy engine uses the mbarrier at {}, and neither fence.mbarrier_init nor fence.proxy.async lies between \
             its mbarrier.init and this",
            self.block.shared.describe_byte(offset)
        );
        Err(Finding::new(Check::Proxy, lane, text).against(made.pc()))
    }

    /// A copy of so many bytes is complete; the agent and its count of which that is a part.
    pub(super) fn complete_copy(&mut self, offset: usize, lane: usize, bytes: u32) -> Outcome<(Agent, u32)> {
        let shared = &self.block.shared;
        let object = *self.block.mbarriers.get(offset, lane, shared)?;
        self.check_bytes(offset, lane, object.bytes - i64::from(bytes))?;
        let (agent, count, serial) = (Agent::of_mbarrier(offset), object.epoch, self.block.serial);
        let released = Released::of_agent(serial, agent, count);
        self.block.mbarriers.complete_copy(offset, bytes, &released, &mut self.block.locations);
        Ok((agent, count))
    }

    fn test_wait(&mut self, at: &Offsets, mask: u32, op: MbarrierOp) -> Outcome {
        let (mut complete, mut to) = (0, None);
        for lane in lanes(mask) {
            let object = self.used(at[lane], lane)?;
            let done = match op {
                MbarrierOp::TestState(predicate, state) => {
                    to = Some(predicate);
                    self.is_complete(at[lane], lane, object, self.warp.registers.wide(state)[lane])?
                }
                MbarrierOp::TestParity(predicate, parity) => {
                    to = Some(predicate);
                    let parity = self.warp.registers.word(parity)[lane];
                    if self.checks().barriers && parity > 1 {
                        return self.misuse(at[lane], lane, format!("a parity of {parity}; it is 0 or 1"));
                    }
                    object.phase % 2 != parity % 2
                }
                _ => false,
            };
            if done {
                complete |= 1 << lane;
                let place = location(at[lane], object.phase.wrapping_sub(1));
                let observed = self.block.locations.observe(place, self.block.serial);
                self.warp.learning.see(1 << lane, observed, false);
            }
        }
        self.warp.acquire(complete, false);
        if let Some(to) = to {
            self.warp.registers.set_predicate(to, complete, mask);
        }
        // Copies may take until somebody waits for them.
        for lane in lanes(mask & !complete) {
            self.deliver(|offset| offset == at[lane])?;
            self.finish_transfers(at[lane])?;
        }
        Ok(())
    }

    /// Whether a test of these lanes has found a phase that is not complete.
    pub(super) fn waits_in_vain(&self, op: MbarrierOp, active: u32) -> bool {
        let (MbarrierOp::TestState(found, _) | MbarrierOp::TestParity(found, _)) = op else { return false };
        active & !self.warp.registers.predicate(found) != 0
    }

    /// Whether the phase of a state is complete: it is that which runs, or the one before.
    fn is_complete(&self, offset: usize, lane: usize, object: Object, state: u64) -> Outcome<bool> {
        let (place, phase) = (state >> PLACE_BIT & ((1 << (PHASE_BIT - PLACE_BIT)) - 1), (state >> PHASE_BIT) as u32);
        let now = object.phase % PHASES;
        if self.checks().barriers && place != (offset / MBARRIER_BYTES) as u64 {
            return self.misuse(offset, lane, "the state that is waited for is not one of this mbarrier".into());
        }
        if self.checks().barriers && phase != now && (phase + 1) % PHASES != now {
            let text = format!("the state that is waited for is of phase {phase}; only the last two can be waited for");
            return self.misuse(offset, lane, text);
        }
        Ok(phase != now)
    }

    /// `cp.async.mbarrier.arrive`: the copies so far will arrive, at once or when somebody waits.
    fn arrive_copies(&mut self, at: &Offsets, mask: u32, expected: bool) -> Outcome {
        for lane in lanes(mask) {
            let object = self.used(at[lane], lane)?;
            if self.checks().barriers && !expected && object.lacks >= MOST {
                return self.misuse(at[lane], lane, "it lacks as many arrivals as it can".into());
            }
            let shared = &self.block.shared;
            self.block.mbarriers.get(at[lane], lane, shared)?.lacks += u32::from(!expected);
        }
        // This is no fence: what the warp has released otherwise stays as it is.
        let (before, stamp) = (self.warp.learning.clone(), self.warp.stamp(false));
        self.release(Scope::Cta, mask);
        let released = self.warp.learning.released().clone();
        self.warp.learning = before;
        let (warp, copies) = (self.warp.index, self.warp.copies.take(mask));
        let mut all = self.block.mbarriers.take_arriving();
        self.block.mbarriers.put_arriving(vec![Arriving { warp, copies, mask, at: *at, released, stamp }]);
        if self.is_early() {
            self.deliver(|_| true)?;
        }
        all.extend(self.block.mbarriers.take_arriving());
        self.block.mbarriers.put_arriving(all);
        Ok(())
    }

    /// Completes the copies that arrive at some mbarriers, and their arrivals.
    fn deliver(&mut self, at: impl Fn(usize) -> bool) -> Outcome {
        let mut arriving = self.block.mbarriers.take_arriving();
        for arrival in &mut arriving {
            for lane in lanes(arrival.mask).filter(|lane| at(arrival.at[*lane])).collect::<Vec<_>>() {
                for copies in &mut arrival.copies {
                    self.complete(copies, 1 << lane, arrival.stamp)?;
                }
                arrival.mask &= !(1 << lane);
                let offset = arrival.at[lane];
                let shared = &self.block.shared;
                let object = *self.block.mbarriers.get(offset, lane, shared)?;
                self.check_arrivals(offset, lane, object, 1, true)?;
                self.block.mbarriers.arrive(offset, 1, false, &arrival.released, &mut self.block.locations);
                self.grid.changes += 1;
            }
        }
        arriving.retain(|arrival| arrival.mask != 0);
        self.block.mbarriers.put_arriving(arriving);
        Ok(())
    }
}
