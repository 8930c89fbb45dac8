//! Sampled blocks of one kernel: what they count, which sectors of which values they touch, and what follows for all of
//! its blocks.

use std::collections::HashSet;
use std::ops::Range;

use crate::cuda::driver::Address;
use crate::cuda::driver::emulated::{Checks, Counters, Options, SECTOR};
use crate::kernels::Architecture;
use crate::program::KernelCall;
use crate::verify::opened::{Machine, Opened};

use super::traffic::{Footprint, Traffic, Value};

/// Blocks of a kernel that run whole, at least and at most: the middle one, the last, the first, then those between.
const WHOLE: Range<usize> = 3..9;
/// The most where the launch has many values, for its blocks are of all sizes then.
const OF_MANY: usize = 257;
/// Warp instructions after which no further block runs whole.
const INSTRUCTIONS: u64 = 400_000;
/// Blocks that are taken to run side by side: two on each of 132 multiprocessors.
const ABREAST: u64 = 264;
/// Warp instructions by each of their warps that show where such a block begins to read.
const BEGINNING: u64 = 600;
/// Launches of more values than this (AdamW) are taken as one value.
const VALUES: usize = 16;

/// What all blocks of a kernel do together.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// Blocks that ran whole.
    pub sampled: usize,
    /// Sectors of 32 bytes that accesses to global memory ask for, summed over warp instructions.
    pub sectors: u64,
    /// Floating-point operations outside matrix instructions.
    pub flops: u64,
    /// Floating-point operations of matrix instructions.
    pub tensor_flops: u64,
    /// If these are `wgmma`, those of the block that has most of them.
    pub longest: Option<u64>,
    /// Instructions of warps.
    pub warp_instructions: u64,
    /// Passes through the banks of shared memory beyond what the bytes need.
    pub conflicts: u64,
    /// What moves between the kernel and memory.
    pub traffic: Traffic,
}

/// What one block did.
struct Block {
    counters: Counters,
    /// Of each allocation the sectors read, and those written.
    touched: Vec<[Footprint; 2]>,
}

/// Options for counting: nothing is checked but that launches end.
pub fn options(seed: u64) -> Options {
    let checks = Checks { deadlock: true, ..Checks::none() };
    Options { checks, seed, ..Options::default() }
}

/// Counts a kernel of a launch from some of its blocks.
///
/// # Errors
/// In one sentence, if a block cannot be run.
pub fn count(opened: &Opened<'_>, machine: &mut Machine, at: usize) -> Result<Count, String> {
    let call = &opened.calls[at];
    let all = call.grid.iter().map(|&blocks| u64::from(blocks)).product::<u64>();
    let mut blocks: Vec<(u64, Block)> = Vec::new();
    let mut spent = 0;
    let most = if opened.bytes().count() > VALUES { OF_MANY } else { WHOLE.end };
    for number in order(all, most) {
        if blocks.len() >= WHOLE.start && spent > INSTRUCTIONS {
            break;
        }
        let block = whole(opened, machine, at, number)?;
        spent += block.counters.total_instructions();
        blocks.push((number, block));
    }
    let weights = weights(all, &blocks.iter().map(|&(number, _)| number).collect::<Vec<_>>());
    let sum = |of: &dyn Fn(&Block) -> u64| {
        let terms = blocks.iter().zip(&weights).map(|((_, block), weight)| of(block) as f64 * weight);
        terms.sum::<f64>().round() as u64
    };
    let longest = blocks.iter().map(|(_, block)| block.counters.tensor_flops).max();
    let sectors = |at: usize, kind: usize| sum(&|block| block.touched[at][kind].sectors());
    let sizes = sizes(opened, blocks[0].1.touched.len());
    let values = (0..sizes.len()).map(|at| Value {
        bytes: sizes[at],
        read: SECTOR as u64 * sectors(at, 0),
        written: SECTOR as u64 * sectors(at, 1),
        let_through: 1.0,
    });
    let mut values: Vec<Value> = values.collect();
    if values.len() > VALUES {
        values = vec![Value::together(&values)];
    } else if values.iter().any(Value::is_read_again) {
        abreast(opened, machine, at, &blocks[0], &mut values)?;
    }
    Ok(Count {
        sampled: blocks.len(),
        sectors: sum(&|block| block.counters.global_sectors),
        flops: sum(&|block| block.counters.flops),
        tensor_flops: sum(&|block| block.counters.tensor_flops),
        longest: Architecture::Sm80.lacks(call.symbol).and(longest),
        warp_instructions: sum(&|block| block.counters.total_instructions()),
        conflicts: sum(&|block| block.counters.shared_conflicts),
        traffic: Traffic { values },
    })
}

/// Numbers of blocks in the order in which they are tried, at most so many: the middle one, the last, the first, then those
/// half-way between.
fn order(all: u64, most: usize) -> Vec<u64> {
    let mut numbers = vec![all / 2, all - 1, 0];
    let mut parts = 4;
    while numbers.len() < most && parts <= 2 * most as u64 {
        numbers
            .extend((1..parts).step_by(2).map(|part| (u128::from(all) * u128::from(part) / u128::from(parts)) as u64));
        parts *= 2;
    }
    let mut seen = HashSet::new();
    numbers.retain(|&number| seen.insert(number));
    numbers.truncate(most);
    numbers
}

/// How many blocks each of those that ran stands for: the first and the last for themselves, the others for all others.
fn weights(all: u64, numbers: &[u64]) -> Vec<f64> {
    let is_end = |number: u64| number == 0 || number == all - 1;
    let ends = numbers.iter().filter(|&&number| is_end(number)).count();
    let each = (all as f64 - ends as f64) / (numbers.len() - ends).max(1) as f64;
    numbers.iter().map(|&number| if is_end(number) { 1.0 } else { each }).collect()
}

/// Bytes of each of so many allocations: the values that have memory of their own, then constants.
fn sizes(opened: &Opened<'_>, count: usize) -> Vec<u64> {
    let inputs = opened.launch.inputs.len();
    let in_place = |index: usize| {
        let output = index.checked_sub(inputs).and_then(|output| *opened.launch.overwrites.get(output)?);
        matches!(output, Some((_, true)))
    };
    let own = opened.bytes().enumerate().filter(|&(index, _)| !in_place(index)).map(|(_, bytes)| bytes);
    own.chain(std::iter::repeat(u64::MAX)).take(count).collect()
}

/// Runs one block in memory of its own.
fn whole(opened: &Opened<'_>, machine: &mut Machine, at: usize, number: u64) -> Result<Block, String> {
    let mut taken = Vec::new();
    let placed = opened.place(&machine.device, at, &mut taken);
    let run = placed.and_then(|(_, call)| machine.run(&call, vec![number]));
    let block = run.map(|()| Block { counters: machine.device.counters(), touched: touched(machine, &taken) });
    machine.free(taken);
    block.map_err(|error| format!("block {number} of {}: {error}", opened.calls[at].symbol))
}

fn touched(machine: &Machine, taken: &[Address]) -> Vec<[Footprint; 2]> {
    taken.iter().map(|&address| machine.device.sectors(address).map(Footprint)).collect()
}

/// How much of what blocks read that run side by side is let through to memory, for each value: every block is taken to
/// read what the middle one reads, moved to where it begins to read itself.
fn abreast(
    opened: &Opened<'_>,
    machine: &mut Machine,
    at: usize,
    (middle, whole): &(u64, Block),
    values: &mut [Value],
) -> Result<(), String> {
    let mut taken = Vec::new();
    let placed = opened.place(&machine.device, at, &mut taken).map_err(|error| error.to_string());
    let result = placed.map(|(_, call)| {
        let before = machine.device.options();
        machine.device.set_options(Options { limit: Some(BEGINNING * warps(&call)), ..before });
        let all = call.grid.iter().map(|&blocks| u64::from(blocks)).product::<u64>();
        let count = all.min(ABREAST);
        let first = (middle - (count / 2).min(*middle)).min(all - count);
        let origin = beginnings(machine, &call, *middle, &taken);
        let mut unions: Vec<_> = values.iter().map(|value| value.union()).collect();
        for number in first..first + count {
            let begins = beginnings(machine, &call, number, &taken);
            for (value, union) in unions.iter_mut().enumerate() {
                if let (Some(union), Some(from), Some(to)) = (union, origin[value], begins[value]) {
                    union.add(&whole.touched[value][0], to as i64 - from as i64);
                }
            }
        }
        machine.device.set_options(before);
        for (value, union) in values.iter_mut().zip(unions) {
            value.let_through = union.map_or(1.0, |union| union.let_through());
        }
    });
    machine.free(taken);
    result
}

fn warps(call: &KernelCall) -> u64 {
    u64::from(call.block.iter().product::<u32>()).div_ceil(32)
}

/// The first sector of each allocation that a block reads within its first instructions.
fn beginnings(machine: &mut Machine, call: &KernelCall, number: u64, taken: &[Address]) -> Vec<Option<usize>> {
    // It is given up at the limit, and has read by then what it begins with.
    let _ = machine.run(call, vec![number]);
    taken.iter().map(|&address| machine.device.sectors(address)[0].first().map(|range| range.start)).collect()
}

#[cfg(test)]
mod tests {
    use super::{order, weights};

    #[test]
    fn blocks_stand_for_all_of_a_grid() {
        assert_eq!(order(1, 9), [0]);
        assert_eq!(order(2, 9), [1, 0]);
        assert_eq!(order(1 << 40, 9)[..5], [1 << 39, (1 << 40) - 1, 0, 1 << 38, 3 << 38]);
        assert_eq!((order(1000, 9).len(), order(1000, 257).len()), (9, 257));
        for all in [1, 2, 3, 5, 9, 1000] {
            for some in 1..=order(all, 9).len() {
                let numbers = &order(all, 9)[..some];
                let sum: f64 = weights(all, numbers).iter().sum();
                let whole = numbers.iter().any(|&number| number != 0 && number != all - 1);
                assert!(!whole || (sum - all as f64).abs() < 1e-9, "{all}: {numbers:?} stand for {sum}");
            }
        }
        assert_eq!(weights(10, &[5, 9, 0]), [8.0, 1.0, 1.0]);
    }
}
