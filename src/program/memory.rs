//! Lifetimes to offsets: where in the arena each value lies.

use std::ops::Range;

use super::pass::layout::{aligned, in_piece};

/// A stretch of the arena that is needed from one launch to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The launch that writes it first.
    pub first: usize,
    /// The last launch that reads it (or writes it).
    pub last: usize,
    /// How much is needed; rounded up to the alignment of buffers.
    pub bytes: usize,
}

/// Offsets and what they cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Offset of each interval.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub arena: usize,
    /// Bytes alive at the worst moment: no placement needs less.
    pub live_bound: usize,
}

/// Places intervals so that those alive at the same time do not overlap, and none lies across a multiple of `piece` bytes.
///
/// Each is put into the smallest hole that the already placed ones leave it. Which one comes first decides how good
/// the result is, so a few orders are tried and the smallest arena wins.
pub fn place(intervals: &[Interval], piece: usize) -> Placement {
    let live_bound = live_bound(intervals);
    type Key = fn(&Interval) -> (usize, usize);
    let orders: [Key; 3] = [
        |interval| (interval.bytes, interval.last - interval.first),
        |interval| (interval.bytes * (interval.last - interval.first + 1), interval.bytes),
        |interval| (interval.last - interval.first, interval.bytes),
    ];
    let mut best: Option<Placement> = None;
    for key in orders {
        let mut order: Vec<usize> = (0..intervals.len()).collect();
        order.sort_by_key(|&at| (std::cmp::Reverse(key(&intervals[at])), intervals[at].first, at));
        let (offsets, arena) = place_in_order(intervals, &order, piece);
        if best.as_ref().is_none_or(|best| arena < best.arena) {
            best = Some(Placement { offsets, arena, live_bound });
        }
        if arena == live_bound {
            break;
        }
    }
    best.unwrap_or(Placement { offsets: Vec::new(), arena: 0, live_bound })
}

fn place_in_order(intervals: &[Interval], order: &[usize], piece: usize) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; intervals.len()];
    let mut placed: Vec<(Range<usize>, usize)> = Vec::new(); // sorted by start of the address range
    let mut arena = 0;
    for &at in order {
        let interval = &intervals[at];
        let bytes = aligned(interval.bytes);
        let (mut best, mut end) = (None::<(usize, usize)>, 0); // (size of the hole, offset)
        for (range, other) in &placed {
            let other = &intervals[*other];
            if other.last < interval.first || interval.last < other.first {
                continue;
            }
            let offset = in_piece(end, bytes, piece);
            if range.start >= offset + bytes {
                let hole = range.start - end;
                if best.is_none_or(|(smallest, _)| hole < smallest) {
                    best = Some((hole, offset));
                }
            }
            end = end.max(range.end);
        }
        let offset = best.map_or_else(|| in_piece(end, bytes, piece), |(_, offset)| offset);
        offsets[at] = offset;
        arena = arena.max(offset + bytes);
        let position = placed.partition_point(|(range, _)| range.start <= offset);
        placed.insert(position, (offset..offset + bytes, at));
    }
    (offsets, arena)
}

/// Bytes alive at each launch, up to the last that any interval reaches.
pub fn live(intervals: &[Interval]) -> Vec<usize> {
    let launches = intervals.iter().map(|interval| interval.last + 1).max().unwrap_or(0);
    let mut change = vec![0isize; launches + 1];
    for interval in intervals {
        change[interval.first] += aligned(interval.bytes) as isize;
        change[interval.last + 1] -= aligned(interval.bytes) as isize;
    }
    let alive = change[..launches].iter().scan(0, |live, change| {
        *live += change;
        Some(*live as usize)
    });
    alive.collect()
}

/// Bytes alive at the worst moment.
pub fn live_bound(intervals: &[Interval]) -> usize {
    live(intervals).into_iter().max().unwrap_or(0)
}
