//! Staging memory: what was written into it and which copies nobody has waited for. Copies are made when they are given to
//! a stream; that a program does not count on it is checked.

use std::collections::HashMap;
use std::ops::Range;

use super::super::{DriverError, beyond};
use super::streams::Clock;

/// All staging memory, by handle.
#[derive(Debug, Default)]
pub struct Staged {
    memories: HashMap<u64, Memory>,
}

#[derive(Debug)]
struct Memory {
    bytes: usize,
    pending: Vec<Copy>,
}

/// A copy that may not be done: work of that number of that stream.
#[derive(Debug)]
struct Copy {
    range: Range<usize>,
    stream: u64,
    number: u64,
}

impl Memory {
    /// Drops the copies of which the host knows that they are done.
    fn settle(&mut self, host: &Clock) {
        self.pending.retain(|copy| !host.covers(copy.stream, copy.number));
    }
}

impl Staged {
    /// New memory.
    pub fn insert(&mut self, handle: u64, bytes: usize) {
        self.memories.insert(handle, Memory { bytes, pending: Vec::new() });
    }

    /// Takes memory back, where the host knows so much to be done; whether it was there, or the fault that it is still read.
    pub fn remove(&mut self, handle: u64, host: &Clock) -> Result<bool, DriverError> {
        self.memories.values_mut().for_each(|memory| memory.settle(host));
        if self.memories.get(&handle).is_some_and(|memory| !memory.pending.is_empty()) {
            return Err(DriverError::Invalid("staging memory is given back before its copies were awaited".into()));
        }
        Ok(self.memories.remove(&handle).is_some())
    }

    /// Notes that bytes are written, where the host knows so much to be done, and their copy begun: work of a stream, by number.
    pub fn copy(
        &mut self,
        handle: u64,
        at: u64,
        bytes: usize,
        (stream, number): (u64, u64),
        host: &Clock,
    ) -> Result<(), DriverError> {
        let unknown = || DriverError::Invalid(format!("there is no staging memory {handle}"));
        let memory = self.memories.get_mut(&handle).ok_or_else(unknown)?;
        memory.settle(host);
        let end = (at as usize).checked_add(bytes).filter(|&end| end <= memory.bytes);
        let range = at as usize..end.ok_or_else(|| beyond(at, bytes, memory.bytes))?;
        let meets = |copy: &&Copy| copy.range.start < range.end && range.start < copy.range.end;
        if let Some(copy) = memory.pending.iter().find(meets) {
            let Range { start, end } = copy.range;
            let text =
                format!("bytes {start} to {end} of staging memory are written again before their copy was awaited");
            return Err(DriverError::Invalid(text));
        }
        memory.pending.push(Copy { range, stream, number });
        Ok(())
    }
}
