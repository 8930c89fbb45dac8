//! Attention on Hopper's tensor cores, on packed sequences that no case of the registry has: as the op's tolerance has it, and with
//! every barrier, fence, wait and arrival of the two kernels left out in turn.

use g2d::base::{Rng, Spec};
use g2d::ops::Op;
use g2d::ops::attention::Attention;
use g2d::program::{Case, Pass};
use g2d::verify::compare::Storage;
use proptest::prelude::*;

use super::device::{Trial, cases};
use super::im2col::tampered;

const KERNEL: &str = "warpgroups";
const FWD: &str = "attention_fwd_bf16_128x64_sm90a";
const BWD: &str = "attention_bwd_bf16_128x64_sm90a";

/// Schedules on which copies take effect early, and late.
const SEEDS: [u64; 2] = [1, 3];

/// Heads, and of each sequence its rows and how many of these are keys.
#[derive(Clone, Debug)]
struct Packed {
    heads: usize,
    sequences: Vec<[usize; 2]>,
}

impl Packed {
    fn of(heads: usize, sequences: impl Into<Vec<[usize; 2]>>) -> Self {
        Self { heads, sequences: sequences.into() }
    }

    /// Numbers like those of the op's own cases, with room behind the last sequence.
    fn case(&self, pass: Pass, draw: u64) -> Case<Op> {
        let rng = &mut Rng::new(draw, 9, 0);
        let mut offsets = vec![0];
        self.sequences.iter().for_each(|[rows, _]| offsets.push(offsets[offsets.len() - 1] + *rows as i32));
        let lengths = self.sequences.iter().map(|[_, keys]| *keys as i32).collect();
        let extent = offsets[self.sequences.len()] as usize;
        let capacity = extent + 13;
        let x = Spec::activation([capacity, self.heads * 64]);
        let op = Attention { pass, heads: self.heads };
        let case = match pass {
            Pass::Fwd => Case::new(op).normal(x, 1.0, rng).normal(x, 1.0, rng).normal(x, 1.0, rng),
            Pass::Bwd => {
                let lse = Spec::exact([capacity, self.heads]);
                let case = Case::new(op).normal(x, 1.0, rng).normal(x, 0.5, rng).normal(x, 0.5, rng);
                case.normal(x, 1.0, rng).normal(x, 1.0, rng).uniform(lse, 1.0, 2.0, rng)
            }
        };
        let case = case.indices([offsets.len()], offsets).indices([self.sequences.len()], lengths);
        case.packed(capacity, extent).map(Op::from)
    }

    fn trial(&self, pass: Pass, seed: u64) -> Trial {
        Trial::new(|at| self.case(pass, seed.wrapping_add(at)), Storage::Bf16, KERNEL)
    }

    /// Both passes on all schedules.
    fn check(&self) {
        for pass in [Pass::Fwd, Pass::Bwd] {
            let trial = self.trial(pass, 5);
            for seed in SEEDS {
                trial.check(seed, FWD, None).unwrap_or_else(|why| panic!("{pass:?} of {self:?}: {why}"));
            }
        }
    }
}

#[test]
fn one_token_attends_to_itself() {
    Packed::of(1, [[1, 1]]).check();
}

#[test]
fn lengths_need_not_fill_tiles() {
    Packed::of(2, [[100, 77], [129, 129], [7, 7]]).check();
}

/// Rows behind the keys, whole tiles and groups of them among these: no gradient reaches them as keys.
#[test]
fn padding_attends_and_is_not_attended_to() {
    Packed::of(2, [[130, 5], [65, 64], [300, 100]]).check();
}

#[test]
fn long_sequences_go_round_the_stages() {
    Packed::of(1, [[512, 512]]).check();
    Packed::of(1, [[600, 577]]).check();
}

/// 135 heads for 132 blocks: some have a second one, with the stages and statistics that the first has left.
#[test]
fn a_block_goes_round_the_heads() {
    let sequences: Vec<[usize; 2]> = (0..45).map(|at| [1 + at * 29 % 70, 1 + at * 29 % 70 * 2 / 3]).collect();
    Packed::of(3, sequences).check();
}

fn any_packed() -> impl Strategy<Value = Packed> {
    let rows = prop_oneof![3 => 1..70usize, 2 => 60..140usize, 1 => 180..280usize];
    let sequence = (rows, any::<prop::sample::Index>()).prop_map(|(rows, keys)| [rows, 1 + keys.index(rows)]);
    (1..4usize, prop::collection::vec(sequence, 1..4)).prop_map(|(heads, sequences)| Packed { heads, sequences })
}

proptest! {
    #![proptest_config(cases(16))]
    #[test]
    fn any_sequences_are_within_the_tolerance(packed in any_packed(), backward: bool, seed: u64) {
        let pass = if backward { Pass::Bwd } else { Pass::Fwd };
        if let Err(why) = packed.trial(pass, seed).check(seed, FWD, None) {
            prop_assert!(false, "{:?} of {:?}: {}", pass, packed, why);
        }
    }
}

/// What stands in the text of each kernel, and what in its place must be noticed.
const FAULTS: [(&str, &str); 12] = [
    ("bar.sync", "//"),
    ("bar.warp.sync", "//"),
    ("fence.mbarrier_init", "//"),
    ("fence.proxy.async", "//"),
    ("wgmma.fence.sync", "//"),
    ("wgmma.commit_group", "//"),
    ("wgmma.wait_group", "//"),
    ("mbarrier.try_wait.parity.shared::cta.b64 p,", "setp.eq.u32 p, 0, 0; //"),
    ("mbarrier.arrive.shared::cta.b64", "//"),
    ("mbarrier.arrive.expect_tx", "//"),
    ("setp.ne.u32 adds, 0, 0;", "setp.ne.u32 adds, 1, 0;"),
    ("shfl.sync.bfly.b32", "//"),
];

#[test]
fn every_barrier_wait_and_arrival_is_needed() {
    // Tiles and groups that are not full, and full ones; padding behind the keys; more stages than there are.
    let packed = Packed::of(1, [[333, 170], [260, 128]]);
    let mut unnoticed = Vec::new();
    for (pass, symbol) in [(Pass::Fwd, FWD), (Pass::Bwd, BWD)] {
        let trial = packed.trial(pass, 5);
        SEEDS.iter().for_each(|&seed| trial.check(seed, symbol, None).unwrap_or_else(|why| panic!("{symbol}: {why}")));
        for (from, to) in FAULTS {
            let mut found = 0;
            while let Some(text) = tampered(symbol, from, found, to) {
                if SEEDS.iter().all(|&seed| trial.check(seed, symbol, Some(text.clone())).is_ok()) {
                    unnoticed.push((symbol, from, found));
                }
                found += 1;
            }
            assert!(found > 0, "{symbol} has no `{from}`");
        }
    }
    assert_eq!(unnoticed, [], "left out unnoticed");
}
