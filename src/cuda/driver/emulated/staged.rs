//! Staging memory: what was written into it and which copies nobody has waited for. Copies are made when they are given to
//! a stream; that a program does not count on it is checked.

use std::collections::HashMap;
use std::ops::Range;

use super::super::{DriverError, beyond};

/// All staging memory, by handle.
#[derive(Debug, Default)]
pub struct Staged {
    memories: HashMap<u64, Memory>,
    /// Number of the last copy.
    last: u64,
    /// Stream and last copy at the time of each event's recording.
    marks: HashMap<u64, (u64, u64)>,
}

#[derive(Debug)]
struct Memory {
    bytes: usize,
    pending: Vec<Copy>,
}

/// A copy that may not be done.
#[derive(Debug)]
struct Copy {
    range: Range<usize>,
    stream: u64,
    number: u64,
}

impl Staged {
    /// New memory.
    pub fn insert(&mut self, handle: u64, bytes: usize) {
        self.memories.insert(handle, Memory { bytes, pending: Vec::new() });
    }

    /// Takes memory back; whether it was there, or the fault that it is still read.
    pub fn remove(&mut self, handle: u64) -> Result<bool, DriverError> {
        if self.memories.get(&handle).is_some_and(|memory| !memory.pending.is_empty()) {
            return Err(DriverError::Invalid("staging memory is given back before its copies were awaited".into()));
        }
        Ok(self.memories.remove(&handle).is_some())
    }

    /// Notes that bytes are written, and their copy begun on a stream.
    pub fn copy(&mut self, handle: u64, at: u64, bytes: usize, stream: u64) -> Result<(), DriverError> {
        let unknown = || DriverError::Invalid(format!("there is no staging memory {handle}"));
        let memory = self.memories.get_mut(&handle).ok_or_else(unknown)?;
        let end = (at as usize).checked_add(bytes).filter(|&end| end <= memory.bytes);
        let range = at as usize..end.ok_or_else(|| beyond(at, bytes, memory.bytes))?;
        let meets = |copy: &&Copy| copy.range.start < range.end && range.start < copy.range.end;
        if let Some(copy) = memory.pending.iter().find(meets) {
            let Range { start, end } = copy.range;
            let text =
                format!("bytes {start} to {end} of staging memory are written again before their copy was awaited");
            return Err(DriverError::Invalid(text));
        }
        self.last += 1;
        memory.pending.push(Copy { range, stream, number: self.last });
        Ok(())
    }

    /// An event marks a stream.
    pub fn mark(&mut self, event: u64, stream: u64) {
        self.marks.insert(event, (stream, self.last));
    }

    /// The host has waited for an event.
    pub fn passed(&mut self, event: u64) {
        if let Some(&(stream, last)) = self.marks.get(&event) {
            self.done(stream, last);
        }
    }

    /// The host has waited for a stream.
    pub fn synchronized(&mut self, stream: u64) {
        self.done(stream, self.last);
    }

    fn done(&mut self, stream: u64, last: u64) {
        let pending = |copy: &Copy| copy.stream != stream || copy.number > last;
        self.memories.values_mut().for_each(|memory| memory.pending.retain(pending));
    }
}
