//! What the async proxy does in shared memory (PTX ISA 8.3, 8.9.1.1): bulk copies write and read it, matrix products of
//! warpgroups read it, and threads are ordered with them through mbarriers, bulk groups and waits for products.
//!
//! What a thread wrote must be ordered before such an access, and a `fence.proxy.async` must lie between. Neighbouring
//! granules mostly have the same history, so what was found in order for one is not looked up again for the next.

use super::{Actor, BARRIER, GAP, PENDING, Shared, WRITTEN, unordered};
use crate::cuda::driver::emulated::clocks::{Agent, Stamp};
use crate::cuda::driver::emulated::report::{Check, Finding, Outcome};

/// Warpgroups of a CTA at most.
const WARPGROUPS: usize = 8;

/// Entries of a granule: each warpgroup's last product, and the last bulk copy (`count << 10 | thread`).
const COLUMNS: usize = WARPGROUPS + 1;

/// Who in the async proxy reads.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    /// A matrix product of this warpgroup.
    Warpgroup(usize),
    /// A bulk copy that this lane of a warp has begun.
    Thread(usize, usize),
}

/// What was found to be in order before.
#[derive(Default)]
struct Found {
    write: Stamp,
    reads: [u32; COLUMNS],
}

impl Shared {
    /// Notes the start of a copy by the async proxy into these pieces, each with its bytes.
    pub fn begin_transfer(
        &mut self,
        actor: &Actor<'_>,
        lane: usize,
        pieces: impl Iterator<Item = (usize, usize)>,
    ) -> Outcome {
        self.proxied = true;
        let mut found = Found::default();
        let state = if self.watch.pending { WRITTEN | PENDING } else { WRITTEN };
        for (offset, bytes) in pieces {
            let cells = self.cells(offset, bytes);
            if self.state[cells.clone()].iter().any(|state| state & (PENDING | GAP | BARRIER) != 0) {
                self.state_fault(cells.clone(), lane, "write")?;
            }
            for cell in cells.clone().filter(|_| self.watch.races) {
                self.check_earlier_write(actor, 1 << lane, cell, "writes", &mut found)?;
                self.check_earlier_reads(actor, lane, cell, &mut found)?;
            }
            self.state[cells.clone()].fill(state);
            if self.watch.races || self.watch.pending {
                self.writes[cells].fill(actor.stamp.with_lane(lane));
            }
        }
        Ok(())
    }

    /// Notes the end of such a copy, which an agent counts.
    pub fn end_transfer(&mut self, stamp: Stamp, pieces: impl Iterator<Item = (usize, usize)>) {
        for (offset, bytes) in pieces {
            let cells = self.cells(offset, bytes);
            self.state[cells.clone()].fill(WRITTEN);
            if self.watch.races {
                self.writes[cells].fill(stamp);
            }
        }
    }

    /// Notes a read of these pieces by the async proxy, which `lanes` have begun and which is complete when its count is.
    pub fn read_by_proxy(
        &mut self,
        actor: &Actor<'_>,
        lanes: u32,
        (reader, count): (Reader, u32),
        pieces: impl Iterator<Item = (usize, usize)>,
    ) -> Outcome {
        self.proxied = true;
        let (column, entry) = match reader {
            Reader::Warpgroup(number) => (number % WARPGROUPS, count),
            Reader::Thread(warp, lane) => (WARPGROUPS, count << 10 | (warp * 32 + lane) as u32 & 1023),
        };
        if self.proxy_reads.is_empty() && self.watch.races {
            self.proxy_reads = vec![0; self.state.len() * COLUMNS];
        }
        let mut found = Found::default();
        for (offset, bytes) in pieces {
            let cells = self.cells(offset, bytes);
            let seen = self.state[cells.clone()].iter().fold((WRITTEN, 0), |(all, any), one| (all & one, any | one));
            if seen != (WRITTEN, WRITTEN) {
                self.state_fault(cells.clone(), lanes.trailing_zeros() as usize, "read")?;
            }
            for cell in cells.filter(|_| self.watch.races) {
                self.check_earlier_write(actor, lanes, cell, "reads", &mut found)?;
                self.proxy_reads[cell * COLUMNS + column] = entry;
            }
        }
        Ok(())
    }

    /// Looks for a write that is not ordered before an access of the async proxy, or that it does not see.
    fn check_earlier_write(
        &self,
        actor: &Actor<'_>,
        lanes: u32,
        cell: usize,
        does: &str,
        found: &mut Found,
    ) -> Outcome {
        let write = self.writes[cell];
        if write == found.write || self.state[cell] & WRITTEN == 0 {
            return Ok(());
        }
        if unordered(actor, write, lanes) {
            return Err(self.race(cell, lanes.trailing_zeros() as usize, does, "wrote", write));
        }
        let sees = write.agent().is_some() || actor.learning.proxies(lanes, actor.owner, write);
        if self.watch.proxies && !sees {
            return Err(self.unseen(cell, lanes.trailing_zeros() as usize, does, write));
        }
        found.write = write;
        Ok(())
    }

    #[cold]
    fn unseen(&self, cell: usize, lane: usize, does: &str, write: Stamp) -> Box<Finding> {
        let (place, warp, other) = (self.describe(cell), write.warp(), write.lane());
        let text = format!(
            "the async proxy {does} {place}, which warp {warp} lane {other} wrote, and no fence.proxy.async lies between"
        );
        Finding::new(Check::Proxy, lane, text).against(write.pc())
    }

    /// Looks for reads that are not ordered before a write of the async proxy.
    fn check_earlier_reads(&self, actor: &Actor<'_>, lane: usize, cell: usize, found: &mut Found) -> Outcome {
        let reads = &self.reads[cell * self.warps..(cell + 1) * self.warps];
        if reads.iter().fold(0, |latest, entry| latest.max(*entry)) >> 6 > actor.floor {
            self.check_reads(actor, lane, cell)?;
        }
        match self.proxy_reads.get(cell * COLUMNS..(cell + 1) * COLUMNS) {
            Some(entries) if entries != found.reads => {
                self.check_proxy_reads(actor, lane, cell)?;
                found.reads.copy_from_slice(entries);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Looks for reads of the async proxy that may not be complete when a write is made.
    pub(super) fn check_proxy_reads(&self, actor: &Actor<'_>, lane: usize, cell: usize) -> Outcome {
        let entries = self.proxy_reads[cell * COLUMNS..(cell + 1) * COLUMNS].iter().enumerate();
        for (column, entry) in entries.filter(|(_, entry)| **entry != 0) {
            let (warp, thread) = ((entry & 1023) as usize / 32, (entry & 31) as usize);
            let (agent, count) = match column {
                WARPGROUPS => (Agent::of_thread(warp, thread), entry >> 10),
                group => (Agent::of_warpgroup(group), *entry),
            };
            if actor.learning.covers(1 << lane, actor.owner, Stamp::of_agent(agent, count, 0)) {
                continue;
            }
            let who = match column {
                WARPGROUPS => format!("a bulk copy that warp {warp} lane {thread} began reads"),
                group => format!("a matrix product of warpgroup {group} reads"),
            };
            return Err(self.conflict(cell, lane, "writes", &format!("{who} (nobody here has waited for it)")));
        }
        Ok(())
    }
}
