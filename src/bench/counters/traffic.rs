//! How many bytes a kernel moves between its blocks and memory: what each block touches, what of it is different, and what a
//! stated model of the L2 cache lets through to device memory.

use std::ops::Range;

use crate::cuda::driver::emulated::SECTOR;

/// Part of the L2 cache that keeps values for the whole of a kernel; the rest is taken by what streams through.
const KEPT: f64 = 0.5;
/// A value of which blocks together read more than so many times its bytes is read again.
const AGAIN: f64 = 1.02;

/// Ranges of sectors that a block touches of a value, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint(pub Vec<Range<usize>>);

impl Footprint {
    /// How many there are.
    pub fn sectors(&self) -> u64 {
        self.0.iter().map(|range| range.len() as u64).sum()
    }
}

/// What a kernel moves of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Bytes that it has.
    pub bytes: u64,
    /// Bytes that blocks read, each sector once a block.
    pub read: u64,
    /// Bytes that blocks write, each sector once a block.
    pub written: u64,
    /// Part of what blocks read side by side that is different.
    pub let_through: f64,
}

impl Value {
    /// Many values as one, of which nothing is read again by another block.
    pub fn together(values: &[Self]) -> Self {
        let sum = |of: &dyn Fn(&Self) -> u64| values.iter().map(of).fold(0, u64::saturating_add);
        let bytes = sum(&|value| if value.bytes == u64::MAX { 0 } else { value.bytes });
        Self { bytes, read: sum(&|value| value.read), written: sum(&|value| value.written), let_through: 1.0 }
    }

    /// Whether blocks read sectors that others read too.
    pub fn is_read_again(&self) -> bool {
        self.read as f64 > AGAIN * self.size() as f64
    }

    /// Bytes of its sectors.
    fn size(&self) -> u64 {
        self.bytes.checked_next_multiple_of(SECTOR as u64).unwrap_or(u64::MAX)
    }

    /// Different bytes that are read.
    fn distinct(&self) -> u64 {
        self.read.min(self.size())
    }

    /// Different bytes that are written.
    fn distinct_written(&self) -> u64 {
        self.written.min(self.size())
    }

    /// Where its footprints are gathered, if it is read again.
    pub fn union(&self) -> Option<Union> {
        let sectors = (self.bytes as usize).div_ceil(SECTOR);
        self.is_read_again().then(|| Union { bits: vec![0; sectors.div_ceil(64)], sectors, added: 0 })
    }
}

/// The sectors of one value that blocks touch together.
pub struct Union {
    bits: Vec<u64>,
    sectors: usize,
    added: u64,
}

impl Union {
    /// Adds a footprint moved by so many sectors, as far as it lies in the value then.
    pub fn add(&mut self, footprint: &Footprint, by: i64) {
        let moved = |at: usize| (at as i64 + by).clamp(0, self.sectors as i64) as usize;
        for range in footprint.0.iter().map(|range| moved(range.start)..moved(range.end)) {
            self.added += range.len() as u64;
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min((at | 63) + 1);
                self.bits[at >> 6] |= (u64::MAX >> (64 - (end - at))) << (at & 63);
                at = end;
            }
        }
    }

    /// Part of all that was added that is different.
    pub fn let_through(&self) -> f64 {
        let different: u64 = self.bits.iter().map(|bits| u64::from(bits.count_ones())).sum();
        if self.added == 0 { 1.0 } else { different as f64 / self.added as f64 }
    }
}

/// What a kernel moves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Its values.
    pub values: Vec<Value>,
}

impl Traffic {
    /// Bytes that blocks touch, each sector once a block for reading and once for writing: what L2 delivers if a
    /// block's own cache keeps all that it reads.
    pub fn touched(&self) -> u64 {
        self.values.iter().map(|value| value.read + value.written).sum()
    }

    /// Different bytes, read and written.
    pub fn distinct(&self) -> u64 {
        self.values.iter().map(|value| value.distinct() + value.distinct_written()).sum()
    }

    /// Bytes that cross the bus of device memory with an L2 cache of so many bytes: the smallest values that together take
    /// half of it are read once; of others what blocks side by side read is read once, but nothing is kept for those that
    /// follow. What is written is written once.
    pub fn device(&self, l2: u64) -> u64 {
        let mut values: Vec<&Value> = self.values.iter().collect();
        values.sort_by_key(|value| value.distinct());
        let (mut kept, mut bytes) = (0, 0);
        for value in values {
            kept += value.distinct();
            let streamed = (value.read as f64 * value.let_through).round() as u64;
            let read = if kept as f64 <= KEPT * l2 as f64 { value.distinct() } else { streamed.max(value.distinct()) };
            bytes += read + value.distinct_written();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: u64, read: u64, written: u64, let_through: f64) -> Value {
        Value { bytes, read, written, let_through }
    }

    #[test]
    fn what_blocks_share_is_let_through_once() {
        let shared = value(32 * 1000, 32 * 8000, 0, 1.0);
        let mut union = shared.union().expect("it is read again");
        let footprint = Footprint(vec![0..100, 500..530]);
        union.add(&footprint, 0);
        union.add(&footprint, 0);
        assert_eq!(union.let_through(), 0.5);
        union.add(&footprint, 100);
        assert_eq!(union.let_through(), 260.0 / 390.0);
        // What lies outside is not there.
        let mut union = shared.union().expect("it is read again");
        union.add(&footprint, -50);
        union.add(&footprint, 480);
        assert_eq!((union.added, union.let_through()), (50 + 30 + 100 + 20, 1.0));
        assert!(value(64, 64, 0, 1.0).union().is_none());
    }

    #[test]
    fn the_cache_keeps_small_values_and_lets_large_ones_through() {
        let (weights, image) = (value(1 << 20, 64 << 20, 0, 0.5), value(256 << 20, 512 << 20, 0, 0.75));
        let out = value(32 << 20, 0, 32 << 20, 1.0);
        let traffic = Traffic { values: vec![image.clone(), weights, out] };
        assert_eq!(traffic.touched(), (64 + 512 + 32) << 20);
        assert_eq!(traffic.distinct(), (1 + 256 + 32) << 20);
        assert_eq!(traffic.device(40 << 20), (1 + 384 + 32) << 20);
        assert_eq!(traffic.device(1 << 20), (32 + 384 + 32) << 20, "too small for the weights");
        assert_eq!(traffic.device(1 << 30), traffic.distinct());
        // A value is read once at least.
        let traffic = Traffic { values: vec![Value { let_through: 0.1, ..image }] };
        assert_eq!(traffic.device(0), 256 << 20);
    }

    #[test]
    fn many_values_are_one() {
        let constants = value(u64::MAX, 32, 0, 1.0);
        let together = Value::together(&[value(64, 640, 64, 1.0), value(1000, 0, 64, 1.0), constants]);
        assert_eq!(together, value(1064, 672, 128, 1.0));
        assert_eq!(Traffic { values: vec![together] }.distinct(), 672 + 128);
    }
}
