//! Bulk copies and copies of tensors (PTX ISA 9.7.9.25.4, 9.7.9.27): as late, or as early, as the program allows.
//!
//! A copy into shared memory is complete when its bytes have been counted by its mbarrier, at the latest when somebody looks at
//! that in vain; until then its destination holds NaN patterns. One out of shared memory belongs to a group of its thread,
//! and takes effect, if not at once, at the wait for that group, be it for reading only.

use super::super::TensorMapSpec;
use super::access::{Access, little, resolve};
use super::asynchronous::{Bulk, BulkTensor, Way};
use super::atomic::combine;
use super::boxes::{Row, Run, box_bytes, rows, runs};
use super::clocks::{Agent, Stamp};
use super::copy::POISON;
use super::execute::{Context, lanes};
use super::instr::{Address, AtomicOp, AtomicType, Op, Space};
use super::mbarrier::MBARRIER_BYTES;
use super::registers::LANES;
use super::report::{Check, Finding, Outcome, Place};
use super::shared::Reader;
use super::tensor_map::{MAP_ALIGN, MAP_BYTES, decode};
use crate::cuda::driver::{Swizzle, TensorType, Window};

/// Bytes that addresses and sizes of bulk copies are multiples of.
const CHUNK: usize = 16;

/// Bytes that boxes of tensors begin at multiples of in shared memory.
const BOX_ALIGN: u64 = 128;

/// A copy into shared memory that is under way.
#[derive(Clone, Debug)]
pub struct Transfer {
    runs: Vec<Run>,
    bytes: u32,
    /// Offset of the mbarrier that counts its bytes.
    pub mbarrier: usize,
    lane: usize,
    pc: usize,
    /// What the source held at the start.
    source: Vec<u8>,
}

/// A copy out of shared memory that nobody has waited for.
#[derive(Clone, Debug)]
struct Store {
    runs: Vec<Run>,
    reduce: Option<(AtomicOp, AtomicType)>,
    lane: usize,
    group: u32,
    pc: usize,
    done: bool,
}

/// The copies out of shared memory that a warp has begun.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    pending: Vec<Store>,
    /// Groups that each lane has closed.
    committed: [u32; LANES],
}

impl Stores {
    /// `cp.async.bulk.commit_group`.
    pub fn commit(&mut self, active: u32) {
        lanes(active).for_each(|lane| self.committed[lane] += 1);
    }
}

/// What one lane copies.
struct Piece {
    rows: Vec<Row>,
    bytes: usize,
    swizzle: Swizzle,
    /// Where in shared memory.
    shared: usize,
    reduce: Option<(AtomicOp, AtomicType)>,
}

impl Context<'_, '_> {
    /// `cp.async.bulk`, `cp.reduce.async.bulk`.
    pub(super) fn bulk(&mut self, bulk: &Bulk, active: u32) -> Outcome {
        let (shared, global) = (self.addresses(&bulk.shared), self.addresses(&bulk.global));
        for lane in lanes(active) {
            let bytes = self.warp.registers.word(bulk.bytes)[lane] as usize;
            let odd = [shared[lane], global[lane], bytes as u64].into_iter().find(|n| n % CHUNK as u64 != 0);
            if let Some(odd) = odd.filter(|_| self.checks().alignment) {
                let text = format!("a bulk copy with {odd:#x} for an address or size; they are multiples of {CHUNK}");
                return Err(Finding::new(Check::Alignment, lane, text));
            }
            if bytes == 0 {
                return Err(Finding::new(Check::Bounds, lane, "a bulk copy of no bytes"));
            }
            let rows = vec![Row { at: 0, bytes, inside: Some((0..bytes, global[lane])) }];
            let reduce = match bulk.way {
                Way::Reduce(op, Some(kind)) => Some((op, kind)),
                _ => None,
            };
            let Some(shared) = self.bulk_spot(shared[lane], bytes, lane)? else { continue };
            self.begin(bulk.way, Piece { rows, bytes, swizzle: Swizzle::None, shared, reduce }, lane)?;
        }
        Ok(())
    }

    /// `cp.async.bulk.tensor`, `cp.reduce.async.bulk.tensor`.
    pub(super) fn bulk_tensor(&mut self, copy: &BulkTensor, active: u32) -> Outcome {
        let (shared, maps) = (self.addresses(&copy.shared), self.addresses(&copy.map));
        for lane in lanes(active) {
            let map = self.tensor_map(maps[lane], lane)?;
            self.check_form(copy, &map, lane)?;
            let at = |word| i64::from(self.warp.registers.word(word)[lane] as i32);
            let coordinates: Vec<i64> =
                copy.coordinates[..usize::from(copy.rank)].iter().map(|word| at(*word)).collect();
            let offsets: Vec<i64> = copy.offsets.iter().flatten().map(|word| i64::from(at(*word) as i16)).collect();
            if self.checks().alignment && !shared[lane].is_multiple_of(BOX_ALIGN) {
                let at = shared[lane];
                let text =
                    format!("a box of a tensor at shared address {at:#x}; it begins at multiples of {BOX_ALIGN}");
                return Err(Finding::new(Check::Alignment, lane, text));
            }
            let (rows, bytes) = (rows(&map, &coordinates, &offsets), box_bytes(&map));
            let reduce = match copy.way {
                Way::Reduce(op, _) => Some((op, self.element(op, map.dtype, lane)?)),
                Way::Load(_) | Way::Store => None,
            };
            let Some(shared) = self.bulk_spot(shared[lane], bytes, lane)? else { continue };
            self.begin(copy.way, Piece { rows, bytes, swizzle: map.swizzle, shared, reduce }, lane)?;
        }
        Ok(())
    }

    /// The tensor map at a generic address.
    fn tensor_map(&self, address: u64, lane: usize) -> Outcome<TensorMapSpec> {
        let fault = |check, what: &str| {
            Err(Finding::new(check, lane, format!("the tensor map of this copy, at {address:#x}, {what}")))
        };
        if !address.is_multiple_of(MAP_ALIGN) {
            return fault(Check::Alignment, "is not aligned to 64 bytes");
        }
        let (space, at) = resolve(address);
        let bytes = match space {
            Space::Param => self.grid.params.get(at as usize..(at as usize).saturating_add(MAP_BYTES)),
            Space::Global => self.grid.memory.bytes(at, MAP_BYTES),
            _ => return fault(Check::Bounds, "lies neither in the parameters nor in global memory"),
        };
        let Some(bytes) = bytes else { return fault(Check::Bounds, "lies in no memory") };
        let map = decode(&little(bytes, 0));
        map.map_or_else(|| fault(Check::Trap, "is none that the driver has encoded"), Ok)
    }

    fn check_form(&self, copy: &BulkTensor, map: &TensorMapSpec, lane: usize) -> Outcome {
        let (rank, im2col) = (map.sizes.len(), matches!(map.window, Window::Im2col { .. }));
        if rank == usize::from(copy.rank) && im2col == copy.im2col {
            return Ok(());
        }
        let name = |im2col: bool| if im2col { "for im2col" } else { "for tiles" };
        let text = format!(
            "a copy of {} dimensions {} with a tensor map of {rank} dimensions {}",
            copy.rank,
            name(copy.im2col),
            name(im2col)
        );
        Err(Finding::new(Check::Trap, lane, text))
    }

    /// The type in which elements of a tensor are combined.
    fn element(&self, op: AtomicOp, dtype: TensorType, lane: usize) -> Outcome<AtomicType> {
        match (dtype, op) {
            (TensorType::F32, AtomicOp::Add) => Ok(AtomicType::F32),
            (TensorType::Bf16, AtomicOp::Add | AtomicOp::Min | AtomicOp::Max) => Ok(AtomicType::Bf16),
            (TensorType::F16, AtomicOp::Add | AtomicOp::Min | AtomicOp::Max) => Ok(AtomicType::F16),
            _ => Err(Finding::new(Check::Trap, lane, format!("{dtype:?} elements cannot be combined by {op:?}"))),
        }
    }

    /// Offset of a copy's bytes in shared memory; nothing if they lie outside and nobody minds.
    fn bulk_spot(&self, address: u64, bytes: usize, lane: usize) -> Outcome<Option<usize>> {
        match self.block.shared.spot(address, bytes) {
            None if self.checks().bounds => Err(self.block.shared.outside(address, bytes, "bulk copy", lane)),
            spot => Ok(spot),
        }
    }

    /// Begins what one lane copies.
    fn begin(&mut self, way: Way, piece: Piece, lane: usize) -> Outcome {
        let runs = runs(&piece.rows, piece.shared, piece.swizzle);
        let held = self.block.shared.data().len();
        if let Some(run) = runs.iter().find(|run| run.shared + run.bytes > held) {
            let address = u64::from(super::instr::SHARED_BASE) + run.shared as u64;
            return Err(self.block.shared.outside(address, run.bytes, "bulk copy", lane));
        }
        self.grid.counters.bulk_bytes += piece.bytes as u64;
        let sectors = self.grid.counters.global_sectors;
        self.check_rows(&piece, matches!(way, Way::Load(_)), lane)?;
        self.grid.counters.bulk_sectors += self.grid.counters.global_sectors - sectors;
        match way {
            Way::Load(mbarrier) => self.begin_load(&mbarrier, piece.bytes as u32, runs, lane),
            Way::Store | Way::Reduce(..) => self.begin_store(piece.reduce, runs, lane),
        }
    }

    /// Checks and counts the bytes in global memory, row by row.
    fn check_rows(&mut self, piece: &Piece, loads: bool, lane: usize) -> Outcome {
        for (range, address) in piece.rows.iter().filter_map(|row| row.inside.clone()) {
            let what = if loads { "bulk copy from" } else { "bulk copy to" };
            let Some(spot) = self.grid.memory.spot(address, range.len()) else {
                if self.checks().bounds {
                    return Err(self.grid.memory.outside(address, range.len(), what, lane));
                }
                continue;
            };
            if let Some(held) = self.grid.memory.segment_mut(spot.segment) {
                held.reach(spot.offset, range.len());
            }
            self.count_run(spot.segment, spot.offset, range.len(), !loads);
            if loads {
                self.check_bulk_read(spot.segment, spot.offset, range.len(), lane)?;
            }
        }
        Ok(())
    }

    fn check_bulk_read(&self, segment: usize, offset: usize, bytes: usize, lane: usize) -> Outcome {
        let Some(held) = self.grid.memory.segment(segment) else { return Ok(()) };
        if self.checks().initialized && !held.is_whole() && !held.is_written_run(offset, bytes) {
            let text = format!("{bytes} bytes at byte {offset} of {}, not all of which were written", held.label);
            return Err(Finding::new(Check::Initialized, lane, text));
        }
        if !self.checks().global_races || !held.trace.is_of(self.grid.first) {
            return Ok(());
        }
        let party = self.party(Access::weak("bulk copy from", bytes));
        if let Some(other) = held.trace.conflict(offset, bytes, &party, lane) {
            return Err(self.global_race("reads", segment, offset, lane, other));
        }
        // What a bulk copy wrote, at its start or at the wait for it, is the async proxy's own.
        let own = |pc: usize| {
            let op = self.grid.function.code.get(pc).map(|instr| &instr.op);
            matches!(op, Some(Op::Bulk(_) | Op::BulkTensor(_) | Op::BulkWait(_)))
        };
        let unseen =
            |(owner, stamp): &(u32, Stamp)| !own(stamp.pc()) && !self.warp.learning.proxies(1 << lane, *owner, *stamp);
        match held.trace.written_since(offset, bytes, self.grid.first).filter(unseen) {
            Some((_, stamp)) if self.checks().proxies => {
                let text = format!(
                    "the async proxy reads byte {offset} of {}, which this launch has written, and no fence.proxy.async lies \
                     between",
                    held.label
                );
                Err(Finding::new(Check::Proxy, lane, text).against(stamp.pc()))
            }
            _ => Ok(()),
        }
    }

    fn begin_load(&mut self, mbarrier: &Address, bytes: u32, runs: Vec<Run>, lane: usize) -> Outcome {
        let address = self.addresses(mbarrier)[lane];
        let access = Access { what: "mbarrier", bytes: MBARRIER_BYTES, strong: true, wide: false };
        if self.checks().alignment && !address.is_multiple_of(MBARRIER_BYTES as u64) {
            return Err(self.misaligned(Space::Shared, address, access, lane));
        }
        let Some(mbarrier) = self.bulk_spot(address, MBARRIER_BYTES, lane)? else { return Ok(()) };
        self.check_proxy_mbarrier(mbarrier, lane)?;
        let (actor, shared) = (self.warp.actor(false, self.block.serial), &mut self.block.shared);
        shared.begin_transfer(&actor, lane, runs.iter().map(|run| (run.shared, run.bytes)))?;
        for run in &runs {
            shared.data_mut()[run.shared..run.shared + run.bytes].fill(POISON);
        }
        let source = if self.checks().pending_copies { self.bulk_source(&runs) } else { Vec::new() };
        let transfer = Transfer { runs, bytes, mbarrier, lane, pc: self.warp.pc, source };
        match self.is_early() {
            true => self.finish(&transfer),
            false => {
                self.block.transfers.push(transfer);
                Ok(())
            }
        }
    }

    /// What global memory holds where a copy reads it.
    fn bulk_source(&self, runs: &[Run]) -> Vec<u8> {
        let inside = runs.iter().filter_map(|run| self.grid.memory.bytes(run.global?, run.bytes));
        inside.flatten().copied().collect()
    }

    /// Completes the copies whose bytes an mbarrier counts.
    pub(super) fn finish_transfers(&mut self, mbarrier: usize) -> Outcome {
        if self.block.transfers.is_empty() {
            return Ok(());
        }
        let (done, left) =
            std::mem::take(&mut self.block.transfers).into_iter().partition(|it| it.mbarrier == mbarrier);
        self.block.transfers = left;
        let done: Vec<Transfer> = done;
        done.iter().try_for_each(|transfer| self.finish(transfer))
    }

    /// A copy into shared memory takes effect, and its bytes are counted.
    fn finish(&mut self, transfer: &Transfer) -> Outcome {
        if self.checks().pending_copies && self.bulk_source(&transfer.runs) != transfer.source {
            let begun = Place::of(self.grid.function, transfer.pc);
            let text = format!("the source of the bulk copy begun at {begun} changed before it was complete");
            return Err(Finding::new(Check::PendingCopy, None, text).against(transfer.pc));
        }
        for run in &transfer.runs {
            let to = &mut self.block.shared.data_mut()[run.shared..run.shared + run.bytes];
            match run.global.and_then(|address| self.grid.memory.bytes(address, run.bytes)) {
                Some(bytes) => to.copy_from_slice(bytes),
                None => to.fill(0),
            }
        }
        let (agent, count) = self.complete_copy(transfer.mbarrier, transfer.lane, transfer.bytes)?;
        let stamp = Stamp::of_agent(agent, count, transfer.pc);
        self.block.shared.end_transfer(stamp, transfer.runs.iter().map(|run| (run.shared, run.bytes)));
        self.grid.changes += 1;
        Ok(())
    }

    fn begin_store(&mut self, reduce: Option<(AtomicOp, AtomicType)>, runs: Vec<Run>, lane: usize) -> Outcome {
        let group = self.warp.stores.committed[lane];
        let (actor, shared) = (self.warp.actor(false, self.block.serial), &mut self.block.shared);
        let reader = (Reader::Thread(self.warp.index, lane), group + 1);
        let pieces = runs.iter().filter(|run| run.global.is_some()).map(|run| (run.shared, run.bytes));
        shared.read_by_proxy(&actor, 1 << lane, reader, pieces)?;
        let mut store = Store { runs, reduce, lane, group, pc: self.warp.pc, done: false };
        if self.is_early() {
            self.carry_store(&mut store)?;
        }
        self.warp.stores.pending.push(store);
        Ok(())
    }

    /// `cp.async.bulk.wait_group`: all but the `youngest` last groups of each lane have been read, and written.
    pub(super) fn wait_stores(&mut self, active: u32, youngest: u32) -> Outcome {
        for lane in lanes(active) {
            let complete = self.warp.stores.committed[lane].saturating_sub(youngest);
            self.finish_stores(lane, complete)?;
            let agent = Agent::of_thread(self.warp.index, lane);
            self.warp.learn_agent(self.block.serial, 1 << lane, agent, complete);
        }
        Ok(())
    }

    /// The groups of a lane before this one take effect.
    fn finish_stores(&mut self, lane: usize, before: u32) -> Outcome {
        let mut pending = std::mem::take(&mut self.warp.stores.pending);
        for store in pending.iter_mut().filter(|store| store.lane == lane && store.group < before) {
            self.carry_store(store)?;
        }
        pending.retain(|store| store.lane != lane || store.group >= before);
        self.warp.stores.pending = pending;
        Ok(())
    }

    fn carry_store(&mut self, store: &mut Store) -> Outcome {
        if std::mem::replace(&mut store.done, true) {
            return Ok(());
        }
        for run in &store.runs {
            let Some(address) = run.global else { continue };
            let bytes = self.block.shared.data()[run.shared..run.shared + run.bytes].to_vec();
            self.write_bulk(address, bytes, store)?;
        }
        self.grid.changes += 1;
        Ok(())
    }

    fn write_bulk(&mut self, address: u64, mut bytes: Vec<u8>, store: &Store) -> Outcome {
        let Some(spot) = self.grid.memory.spot(address, bytes.len()) else { return Ok(()) };
        let wide = store.reduce.is_some();
        let access = Access { what: "bulk copy to", bytes: bytes.len(), strong: wide, wide };
        let (first, shift, owner) = (self.grid.first, self.grid.footprint.global_shift, self.block.serial);
        let stamp = self.warp.stamp(wide).with_wide(wide).with_lane(store.lane);
        let races = self.checks().global_races;
        if let Some(held) = self.grid.memory.segment_mut(spot.segment) {
            if held.constant {
                let text = format!("bulk copy to constant memory, {}", held.label);
                return Err(Finding::new(Check::Bounds, store.lane, text).against(store.pc));
            }
            if races && !held.trace.is_of(first) {
                held.trace.begin(first, held.data.len(), shift);
            }
        }
        let party = self.party(access);
        let held = self.grid.memory.segment(spot.segment);
        let other = held.and_then(|held| held.trace.conflict(spot.offset, bytes.len(), &party, store.lane));
        if let Some(other) = other.filter(|_| races) {
            return Err(self.global_race("writes", spot.segment, spot.offset, store.lane, other));
        }
        let Some(held) = self.grid.memory.segment_mut(spot.segment) else { return Ok(()) };
        let to = &mut held.data[spot.offset..spot.offset + bytes.len()];
        if let Some((op, kind)) = store.reduce {
            reduce(op, kind, to, &mut bytes);
        }
        to.copy_from_slice(&bytes);
        held.mark(spot.offset, bytes.len());
        if races {
            held.trace.note(spot.offset, bytes.len(), owner, stamp);
        }
        Ok(())
    }

    /// What may not be under way when lanes exit: copies whose shared memory goes with the CTA.
    pub(super) fn leave_copies(&mut self, exiting: u32) -> Outcome {
        let left = self.warp.stores.pending.iter().find(|store| exiting >> store.lane & 1 == 1);
        if let Some(Store { lane, pc, .. }) = left.filter(|_| self.checks().pending_copies) {
            let text = "ends before it has waited for its bulk copy to be read from shared memory";
            return Err(Finding::new(Check::PendingCopy, *lane, text).against(*pc));
        }
        lanes(exiting).try_for_each(|lane| self.finish_stores(lane, u32::MAX))?;
        let last = self.block.live == exiting.count_ones();
        match self.block.transfers.first().filter(|_| last && self.checks().pending_copies) {
            Some(Transfer { lane, pc, .. }) => {
                let text = "the block ends while a bulk copy into its shared memory is under way";
                Err(Finding::new(Check::PendingCopy, *lane, text).against(*pc))
            }
            None => Ok(()),
        }
    }
}

/// Combines elements with what is there.
fn reduce(op: AtomicOp, kind: AtomicType, there: &[u8], bytes: &mut [u8]) {
    let width = kind.bytes();
    let number = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..width].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    for (old, operand) in there.chunks_exact(width).zip(bytes.chunks_exact_mut(width)) {
        let new = combine(op, kind, number(old), number(operand), 0, true);
        operand.copy_from_slice(&new.to_le_bytes()[..width]);
    }
}
