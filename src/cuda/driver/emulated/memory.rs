//! Global memory: every allocation in a 4 GiB segment of its own, with a map of what was written.
//!
//! An address is `segment << 32 | offset`, so that one comparison finds every overrun, however far it goes, and a
//! negative offset lands in another segment.

use std::collections::HashMap;

use super::made::{Made, Make};
use super::order::Trace;
use super::report::{Check, Finding, Outcome};

/// Bytes of the sectors that memory traffic is counted in.
pub const SECTOR: usize = 32;

/// First segment; below it lie addresses that are mistakes.
const FIRST: u64 = 1;

/// One allocation.
#[derive(Debug)]
pub struct Segment {
    /// Name for reports.
    pub label: String,
    /// Contents.
    pub data: Vec<u8>,
    /// Bit i of byte b: byte 8 b + i was written.
    written: Vec<u8>,
    /// Whether all was written.
    whole: bool,
    /// What there is where nobody has written, if anything.
    made: Option<Made>,
    /// Whether kernels may only read it.
    pub constant: bool,
    /// Who wrote what in the current launch.
    pub trace: Trace,
    /// Bit per sector that the launch `touched_in` read, and per sector that it wrote.
    touched: [Vec<u64>; 2],
    touched_in: u32,
}

impl Segment {
    fn new(label: String, bytes: usize) -> Self {
        Self {
            label,
            data: vec![0; bytes],
            written: vec![0; bytes.div_ceil(8) + 8],
            whole: false,
            made: None,
            constant: false,
            trace: Trace::default(),
            touched: Default::default(),
            touched_in: 0,
        }
    }

    /// Marks bytes as written.
    pub fn mark(&mut self, offset: usize, bytes: usize) {
        if self.whole {
            return;
        }
        if bytes >= self.data.len() {
            self.whole = true;
        } else if bytes <= 16 {
            let bits = ((1u32 << bytes) - 1) << (offset & 7);
            let at = offset >> 3;
            self.written[at] |= bits as u8;
            self.written[at + 1] |= (bits >> 8) as u8;
            self.written[at + 2] |= (bits >> 16) as u8;
        } else {
            let whole = offset.next_multiple_of(8)..(offset + bytes) / 8 * 8;
            self.written[whole.start / 8..whole.end / 8].fill(u8::MAX);
            let ends = (offset..whole.start).chain(whole.end..offset + bytes);
            ends.for_each(|byte| self.written[byte >> 3] |= 1 << (byte & 7));
        }
    }

    /// Marks bytes as never written.
    pub fn forget(&mut self, offset: usize, bytes: usize) {
        if self.whole {
            self.whole = false;
            self.written.fill(u8::MAX);
        }
        (offset..offset + bytes).for_each(|byte| self.written[byte >> 3] &= !(1 << (byte & 7)));
    }

    /// Whether all of at most 16 bytes were written: what one lane can read at once.
    #[inline]
    pub fn is_written(&self, offset: usize, bytes: usize) -> bool {
        if self.is_whole() {
            return true;
        }
        self.is_marked(offset, bytes)
    }

    /// Whether all of at most 16 bytes were written one by one, in memory that is not whole.
    fn is_marked(&self, offset: usize, bytes: usize) -> bool {
        let at = offset >> 3;
        let bits =
            u32::from(self.written[at]) | u32::from(self.written[at + 1]) << 8 | u32::from(self.written[at + 2]) << 16;
        let wanted = ((1u32 << bytes) - 1) << (offset & 7);
        bits & wanted == wanted
    }

    /// Whether all of these bytes, any number of them, were written.
    pub fn is_written_run(&self, offset: usize, bytes: usize) -> bool {
        let whole = offset.next_multiple_of(8)..(offset + bytes) / 8 * 8;
        if whole.start >= whole.end {
            return (offset..offset + bytes).all(|byte| self.is_written(byte, 1));
        }
        let mut ends = (offset..whole.start).chain(whole.end..offset + bytes);
        self.written[whole.start / 8..whole.end / 8].iter().all(|bits| *bits == u8::MAX)
            && ends.all(|byte| self.is_written(byte, 1))
    }

    /// Whether all bytes hold something, so that no read of this segment needs a check.
    pub fn is_whole(&self) -> bool {
        self.whole || self.made.is_some()
    }

    /// Makes what is there from the start and was not made yet, before it is read or written.
    #[inline]
    pub fn reach(&mut self, offset: usize, bytes: usize) {
        if let Some(made) = &mut self.made {
            made.reach(&mut self.data, offset, bytes);
        }
    }

    /// The ranges of bytes that were written, in order.
    fn written_ranges(&self) -> Vec<std::ops::Range<usize>> {
        let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
        if self.whole {
            ranges.push(0..self.data.len());
            return ranges;
        }
        // Most of a large segment is not, so it is looked through in stretches.
        const STRETCH: usize = 64;
        let stretches = self.written.chunks(STRETCH).enumerate().filter(|(_, bits)| bits.iter().any(|bits| *bits != 0));
        let bytes = stretches.flat_map(|(stretch, bits)| stretch * STRETCH..stretch * STRETCH + bits.len());
        let marked =
            bytes.flat_map(|byte| 8 * byte..8 * byte + 8).filter(|&at| at < self.data.len() && self.is_marked(at, 1));
        for at in marked {
            match ranges.last_mut().filter(|range| range.end == at) {
                Some(range) => range.end += 1,
                None => ranges.push(at..at + 1),
            }
        }
        ranges
    }

    /// Forgets what earlier launches wrote and touched, before their numbers are used again.
    pub fn forget_launches(&mut self) {
        (self.trace, self.touched_in) = (Trace::default(), 0);
    }

    /// Marks a sector as read or written in a launch; says whether it was neither before.
    #[inline]
    pub fn touch(&mut self, sector: usize, launch: u32, writes: bool) -> bool {
        if self.touched_in != launch {
            self.touched_in = launch;
            self.touched = [(); 2].map(|()| vec![0; self.data.len().div_ceil(SECTOR * 64)]);
        }
        let (word, bit) = (sector >> 6, 1u64 << (sector & 63));
        let new = (self.touched[0][word] | self.touched[1][word]) & bit == 0;
        self.touched[usize::from(writes)][word] |= bit;
        new
    }

    /// The bytes from the first to the last sector that the last launch to touch it read, and so with those that it wrote.
    fn extent(&self) -> [Option<std::ops::Range<usize>>; 2] {
        self.touched.each_ref().map(|touched| {
            let some = |bits: &u64| *bits != 0;
            let (first, last) = (touched.iter().position(some)?, touched.iter().rposition(some)?);
            let first = 64 * first + touched[first].trailing_zeros() as usize;
            let last = 64 * last + 63 - touched[last].leading_zeros() as usize;
            Some(first * SECTOR..((last + 1) * SECTOR).min(self.data.len()))
        })
    }

    /// The ranges of sectors that the last launch to touch it read, and those that it wrote, in order.
    fn sectors(&self) -> [Vec<std::ops::Range<usize>>; 2] {
        self.touched.each_ref().map(|touched| {
            let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
            for (word, &bits) in touched.iter().enumerate().filter(|(_, bits)| **bits != 0) {
                for sector in (64 * word..).take(64).filter(|sector| bits >> (sector & 63) & 1 == 1) {
                    match ranges.last_mut().filter(|range| range.end == sector) {
                        Some(range) => range.end += 1,
                        None => ranges.push(sector..sector + 1),
                    }
                }
            }
            ranges
        })
    }
}

/// What is kept of an allocation that was taken back.
#[derive(Debug)]
struct Freed {
    label: String,
    bytes: usize,
    /// Launches until then.
    launches: u64,
}

/// All global memory of the device.
#[derive(Debug, Default)]
pub struct Memory {
    segments: Vec<Option<Segment>>,
    freed: HashMap<u64, Freed>,
    allocated: u64,
    /// Launches so far.
    launches: u64,
}

/// A segment and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Index of the segment.
    pub segment: usize,
    /// Byte offset.
    pub offset: usize,
}

impl Memory {
    /// Gives memory an address.
    pub fn allocate(&mut self, label: String, bytes: usize) -> u64 {
        self.segments.push(Some(Segment::new(label, bytes)));
        self.allocated += bytes as u64;
        (self.segments.len() as u64 - 1 + FIRST) << 32
    }

    /// Gives memory that holds what `make` makes an address; it takes up what is touched.
    pub fn allocate_made(&mut self, label: String, bytes: usize, make: Make) -> u64 {
        let at = self.allocate(label, bytes);
        if let Some(segment) = self.segment_of(at) {
            segment.made = Some(Made::new(make, bytes));
        }
        at
    }

    /// The ranges of bytes that were written in an allocation, in order.
    pub fn written(&mut self, address: u64) -> Vec<std::ops::Range<usize>> {
        self.segment_of(address).map_or(Vec::new(), |segment| segment.written_ranges())
    }

    /// The sectors of an allocation that the last launch to touch it read, and those that it wrote.
    pub fn sectors(&mut self, address: u64) -> [Vec<std::ops::Range<usize>>; 2] {
        self.segment_of(address).map_or_else(Default::default, |segment| segment.sectors())
    }

    /// Segments that a launch touched, by the number of its first CTA: which bytes, and whether it wrote there.
    pub fn touched_in(&self, launch: u32) -> Vec<(usize, std::ops::Range<usize>, bool)> {
        let segments = self.segments.iter().enumerate().filter_map(|(at, held)| Some((at, held.as_ref()?)));
        let touched = segments.filter(|(_, held)| held.touched_in == launch).flat_map(|(at, held)| {
            let extents = held.extent().into_iter().zip([false, true]);
            extents.filter_map(move |(bytes, writes)| Some((at, bytes?, writes)))
        });
        touched.collect()
    }

    /// Makes what is there from the start, before the host reads it.
    pub fn reach(&mut self, address: u64, bytes: usize) {
        if let Some(spot) = self.spot(address, bytes)
            && let Some(segment) = self.segment_mut(spot.segment)
        {
            segment.reach(spot.offset, bytes);
        }
    }

    /// Takes memory back; false if no allocation begins there. Its address is never given again.
    pub fn free(&mut self, address: u64) -> bool {
        let Some(Spot { segment, offset: 0 }) = self.spot(address, 0) else { return false };
        if let Some(gone) = self.segments[segment].take() {
            self.allocated -= gone.data.len() as u64;
            let freed = Freed { label: gone.label, bytes: gone.data.len(), launches: self.launches };
            self.freed.insert(address >> 32, freed);
        }
        true
    }

    /// Counts a launch that begins.
    pub fn begin_launch(&mut self) {
        self.launches += 1;
    }

    /// Bytes allocated now.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Where `bytes` bytes at an address lie, if all of them lie in one allocation.
    #[inline]
    pub fn spot(&self, address: u64, bytes: usize) -> Option<Spot> {
        let segment = (address >> 32).checked_sub(FIRST)? as usize;
        let offset = address as u32 as usize;
        let held = self.segments.get(segment)?.as_ref()?;
        let rest = held.data.len().checked_sub(offset)?;
        (bytes <= rest).then_some(Spot { segment, offset })
    }

    /// A segment that [`Self::spot`] named.
    #[inline]
    pub fn segment(&self, index: usize) -> Option<&Segment> {
        self.segments.get(index)?.as_ref()
    }

    /// A segment that [`Self::spot`] named, to write.
    #[inline]
    pub fn segment_mut(&mut self, index: usize) -> Option<&mut Segment> {
        self.segments.get_mut(index)?.as_mut()
    }

    /// The segment that an address falls into, whatever its offset.
    pub fn segment_of(&mut self, address: u64) -> Option<&mut Segment> {
        self.segment_mut((address >> 32).checked_sub(FIRST)? as usize)
    }

    /// All segments there are.
    pub fn segments_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        self.segments.iter_mut().flatten()
    }

    /// Bytes at an address, if they lie in one allocation.
    pub fn bytes(&self, address: u64, count: usize) -> Option<&[u8]> {
        let spot = self.spot(address, count)?;
        self.segment(spot.segment)?.data.get(spot.offset..spot.offset + count)
    }

    /// The fault of an access that lies in no allocation, or goes beyond one.
    pub fn outside(&self, address: u64, bytes: usize, what: &str, lane: usize) -> Box<Finding> {
        let inside = (address >> 32).checked_sub(FIRST).and_then(|index| self.segments.get(index as usize));
        let offset = address & 0xffff_ffff;
        let place = match inside {
            Some(Some(held)) => format!("byte {offset} of {}, which has {} bytes", held.label, held.data.len()),
            Some(None) => self.was(address),
            None => self.below(address),
        };
        Finding::new(Check::Bounds, lane, format!("{what} of {bytes} bytes at {address:#x}: {place}"))
    }

    /// The allocation that an address lay in until it was freed.
    fn was(&self, address: u64) -> String {
        let Some(Freed { label, bytes, launches }) = self.freed.get(&(address >> 32)) else {
            return "no allocation".to_owned();
        };
        let ago = match self.launches - launches {
            0 => "after the last launch".to_owned(),
            1 => "before this launch".to_owned(),
            more => format!("before the last {more} launches"),
        };
        let (offset, begin) = (address & 0xffff_ffff, address >> 32 << 32);
        format!("byte {offset} of {label}, which had {bytes} bytes from {begin:#x} on and was freed {ago}")
    }

    /// Where an address lies that belongs to no segment: before the first byte of one, if it is close to it.
    fn below(&self, address: u64) -> String {
        let next = ((address >> 32) + 1).checked_sub(FIRST).and_then(|index| self.segments.get(index as usize));
        match next {
            Some(Some(held)) if address as u32 > 0xf000_0000 => {
                format!("{} bytes before {}", (1u64 << 32) - u64::from(address as u32), held.label)
            }
            _ => "no allocation".to_owned(),
        }
    }

    /// Name and offset of an address, for reports.
    pub fn describe(&self, address: u64) -> String {
        let held = self.spot(address, 1).and_then(|spot| Some((self.segment(spot.segment)?, spot.offset)));
        match held {
            Some((held, offset)) => format!("byte {offset} of {}", held.label),
            None if self.freed.contains_key(&(address >> 32)) => self.was(address),
            None => format!("{address:#x}"),
        }
    }

    /// Writes from the host.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Option<()> {
        let spot = self.spot(address, bytes.len())?;
        let segment = self.segment_mut(spot.segment)?;
        segment.reach(spot.offset, bytes.len());
        segment.data[spot.offset..spot.offset + bytes.len()].copy_from_slice(bytes);
        segment.mark(spot.offset, bytes.len());
        Some(())
    }

    /// Writes one value many times.
    pub fn fill(&mut self, address: u64, value: u8, count: usize) -> Option<()> {
        let spot = self.spot(address, count)?;
        let segment = self.segment_mut(spot.segment)?;
        segment.reach(spot.offset, count);
        segment.data[spot.offset..spot.offset + count].fill(value);
        segment.mark(spot.offset, count);
        Some(())
    }

    /// Copies within the device, with what is known about what was written.
    pub fn copy(&mut self, to: u64, from: u64, count: usize) -> Option<()> {
        let (source, target) = (self.spot(from, count)?, self.spot(to, count)?);
        [from, to].into_iter().for_each(|at| self.reach(at, count));
        let held = self.segment(source.segment)?;
        let data = held.data[source.offset..source.offset + count].to_vec();
        let gaps: Vec<usize> = match held.is_whole() {
            true => Vec::new(),
            false => (0..count).filter(|byte| !held.is_written(source.offset + byte, 1)).collect(),
        };
        let segment = self.segment_mut(target.segment)?;
        segment.data[target.offset..target.offset + count].copy_from_slice(&data);
        segment.mark(target.offset, count);
        gaps.iter().for_each(|byte| segment.forget(target.offset + byte, 1));
        Some(())
    }

    /// Looks for bytes that a kernel reads and nobody wrote.
    pub fn require_written(&self, spot: Spot, bytes: usize, lane: usize) -> Outcome {
        let Some(held) = self.segment(spot.segment) else { return Ok(()) };
        if held.is_written(spot.offset, bytes) {
            return Ok(());
        }
        let text = format!("{bytes} bytes at byte {} of {} were never written", spot.offset, held.label);
        Err(Finding::new(Check::Initialized, lane, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_known_one_by_one() {
        let mut memory = Memory::default();
        let at = memory.allocate("a".into(), 100);
        let spot = |offset| Spot { segment: 0, offset };
        assert!(memory.require_written(spot(5), 1, 0).is_err());
        memory.write(at + 5, &[1, 2, 3]).expect("in bounds");
        assert!(memory.require_written(spot(5), 3, 0).is_ok());
        assert!(memory.require_written(spot(4), 4, 0).is_err());
        assert!(memory.require_written(spot(5), 4, 0).is_err());
        for (offset, bytes) in [(40, 3), (43, 30)] {
            memory.write(at + offset, &vec![0; bytes]).expect("in bounds");
        }
        let written = |offset, bytes| memory.segment(0).is_some_and(|held| held.is_written_run(offset, bytes));
        assert!(written(40, 33) && written(41, 3) && written(48, 16) && written(45, 20) && written(5, 3));
        assert!(!written(39, 33) && !written(40, 34) && !written(5, 4) && !written(64, 16) && !written(10, 40));
        memory.fill(at, 0, 100).expect("in bounds");
        assert!(memory.segment(0).is_some_and(Segment::is_whole));
        memory.segment_mut(0).expect("there").forget(50, 2);
        assert!(memory.require_written(spot(48), 2, 0).is_ok() && memory.require_written(spot(48), 3, 0).is_err());
        let other = memory.allocate("b".into(), 100);
        memory.copy(other, at, 100).expect("in bounds");
        assert!(memory.require_written(Spot { segment: 1, offset: 51 }, 1, 0).is_err(), "gaps are copied");
    }

    #[test]
    fn sectors_are_told_apart_by_what_was_done() {
        let mut memory = Memory::default();
        let at = memory.allocate("a".into(), 32 * 200);
        assert!(memory.sectors(at).iter().all(Vec::is_empty), "nothing has touched it");
        let segment = memory.segment_mut(0).expect("there");
        let touched = [(63, false), (64, false), (64, true), (65, false), (199, true), (3, false)];
        let new = touched.map(|(sector, writes)| segment.touch(sector, 7, writes));
        assert_eq!(new, [true, true, false, true, true, true]);
        assert_eq!(memory.sectors(at), [vec![3..4, 63..66], vec![64..65, 199..200]]);
        assert_eq!(memory.touched_in(7), [(0, 3 * 32..66 * 32, false), (0, 64 * 32..200 * 32, true)]);
        assert!(memory.touched_in(6).is_empty());
        assert!(memory.segment_mut(0).expect("there").touch(3, 8, true));
        let [read, wrote] = memory.sectors(at);
        assert!(read.is_empty() && wrote.iter().eq([&(3..4)]), "only the last launch counts");
    }

    #[test]
    fn nothing_lies_outside() {
        let mut memory = Memory::default();
        let at = memory.allocate("a".into(), 16);
        assert!(memory.spot(at + 12, 4).is_some() && memory.spot(at + 13, 4).is_none());
        assert!(memory.fill(at + 4, 0, usize::MAX).is_none() && memory.write(at + 17, &[]).is_none());
        assert!(memory.spot(at - 4, 4).is_none() && memory.spot(0, 1).is_none() && memory.spot(u64::MAX, 1).is_none());
        assert!(memory.outside(at - 4, 4, "read", 0).text.contains("4 bytes before a"));
        assert!(memory.free(at) && !memory.free(at) && memory.spot(at, 1).is_none());
        assert_ne!(memory.allocate("c".into(), 16), at, "addresses are not used twice");
    }
}
