//! What the emulated device looks for, and how it schedules: every checker has a switch, every choice a seed.

use std::fmt;
use std::str::FromStr;

use crate::base::Rng;

/// Which checkers run. All of them by default.
///
/// An access that a switched-off checker would have reported goes on as well as it can: reads outside any allocation
/// give zero and writes there are dropped, misaligned accesses are done byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// Accesses outside an allocation, outside shared memory or outside the thread's local memory.
    pub bounds: bool,
    /// Addresses that are no multiple of the access's size.
    pub alignment: bool,
    /// Reads of global or shared memory that nobody wrote.
    pub initialized: bool,
    /// Uses of registers that the thread has not written; moving one to another is no use.
    pub registers: bool,
    /// Conflicting accesses to shared memory that nothing orders.
    pub shared_races: bool,
    /// Conflicting accesses to global memory that nothing orders: between the warps of a CTA, and between CTAs of one
    /// launch, where plain writes are seen only through release and acquire (PTX ISA 8).
    pub global_races: bool,
    /// Accesses to what an asynchronous copy is still writing.
    pub pending_copies: bool,
    /// What a thread wrote, or an mbarrier that it made, used by the async proxy without a proxy fence between.
    pub proxies: bool,
    /// Registers of matrix products of warpgroups: used before the wait for the product, or by it without `wgmma.fence`.
    pub products: bool,
    /// Barriers used with different or impossible thread counts or numbers, or reached by a part of a warp.
    pub barriers: bool,
    /// Warp-wide instructions that not all named lanes execute, and shuffles from lanes outside their members.
    pub collectives: bool,
    /// Threads that spin while no memory changes. Without it they go on, until [`Options::limit`] if there is one. Where
    /// nothing can go on at all, as at a barrier that nobody else reaches, the launch ends all the same.
    pub deadlock: bool,
    /// Launches that a driver would refuse.
    pub limits: bool,
    /// Accepts that lanes of one warp see each other's memory accesses without `bar.warp.sync`, as if they always ran
    /// in step. Off by default: since sm_70 they need not.
    pub lockstep: bool,
}

/// A checker's place in [`Checks`].
type Switch = fn(&mut Checks) -> &mut bool;

/// Every checker by the name of its field.
const SWITCHES: [(&str, Switch); 13] = [
    ("bounds", |checks| &mut checks.bounds),
    ("alignment", |checks| &mut checks.alignment),
    ("initialized", |checks| &mut checks.initialized),
    ("registers", |checks| &mut checks.registers),
    ("shared_races", |checks| &mut checks.shared_races),
    ("global_races", |checks| &mut checks.global_races),
    ("pending_copies", |checks| &mut checks.pending_copies),
    ("proxies", |checks| &mut checks.proxies),
    ("products", |checks| &mut checks.products),
    ("barriers", |checks| &mut checks.barriers),
    ("collectives", |checks| &mut checks.collectives),
    ("deadlock", |checks| &mut checks.deadlock),
    ("limits", |checks| &mut checks.limits),
];

/// A name that is no checker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no checker `{0}`; there are {names}", names = SWITCHES.map(|(name, _)| name).join(", "))]
pub struct UnknownChecker(pub String);

impl Default for Checks {
    fn default() -> Self {
        Self::all(true)
    }
}

impl Checks {
    /// No checker at all; launches run fastest.
    pub fn none() -> Self {
        Self::all(false)
    }

    /// Every checker but those named.
    pub fn without<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownChecker> {
        let mut checks = Self::all(true);
        for name in names {
            let switch = SWITCHES.iter().find(|(known, _)| *known == name);
            let (_, switch) = switch.ok_or_else(|| UnknownChecker(name.to_owned()))?;
            *switch(&mut checks) = false;
        }
        Ok(checks)
    }

    /// The names of all checkers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SWITCHES.iter().map(|(name, _)| *name)
    }

    /// Every checker on, or every one off; lanes run in step where nobody looks.
    fn all(on: bool) -> Self {
        Self {
            bounds: on,
            alignment: on,
            initialized: on,
            registers: on,
            shared_races: on,
            global_races: on,
            pending_copies: on,
            proxies: on,
            products: on,
            barriers: on,
            collectives: on,
            deadlock: on,
            limits: on,
            lockstep: !on,
        }
    }
}

/// When an asynchronous copy takes effect. A right program gives the same result with each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completion {
    /// As late as the program allows, at the wait that covers it.
    #[default]
    Late,
    /// At once.
    Early,
    /// Each copy one or the other, by the seed.
    Random,
}

const COMPLETIONS: [Completion; 3] = [Completion::Late, Completion::Early, Completion::Random];

/// A name that is no completion's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no completion `{0}`; there are late, early and random")]
pub struct UnknownCompletion(pub String);

impl FromStr for Completion {
    type Err = UnknownCompletion;

    fn from_str(name: &str) -> Result<Self, UnknownCompletion> {
        let known = COMPLETIONS.into_iter().find(|known| known.to_string() == name);
        known.ok_or_else(|| UnknownCompletion(name.to_owned()))
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Late => "late",
            Self::Early => "early",
            Self::Random => "random",
        })
    }
}

impl Completion {
    /// Late, early and random in turn, so that a few seeds try all of them; seed 0 is late.
    pub fn of_seed(seed: u64) -> Self {
        COMPLETIONS[(seed % COMPLETIONS.len() as u64) as usize]
    }
}

/// How the device behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Checkers.
    pub checks: Checks,
    /// When asynchronous copies take effect.
    pub completion: Completion,
    /// Orders warps, CTAs and the lanes of atomics; 0 is the natural order. The same seed gives the same run.
    pub seed: u64,
    /// Warp instructions after which a launch is given up; no limit if none.
    pub limit: Option<u64>,
    /// Whether matrix instructions sum as Hopper's tensor cores are known to, bit for bit, instead of rounding in order of k.
    pub exact_sums: bool,
}

impl fmt::Display for Options {
    /// As `g2d emulate` takes them.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "--seed {} --completion {}", self.seed, self.completion)?;
        let mut checks = self.checks;
        let off = SWITCHES.iter().filter(|(_, switch)| !*switch(&mut checks)).map(|(name, _)| *name);
        let off = off.collect::<Vec<_>>().join(",");
        if !off.is_empty() {
            write!(to, " --off {off}")?;
        }
        if self.checks.lockstep {
            write!(to, " --lockstep")?;
        }
        if self.exact_sums {
            write!(to, " --exact-sums")?;
        }
        self.limit.map_or(Ok(()), |limit| write!(to, " --limit {limit}"))
    }
}

/// Streams of random numbers, one per kind of choice, so that one does not shift another.
pub(super) const STREAM_BLOCKS: u32 = 1;
pub(super) const STREAM_WARPS: u32 = 2;
pub(super) const STREAM_LANES: u32 = 3;
pub(super) const STREAM_COPIES: u32 = 4;

/// Rounds of the Feistel network that orders CTAs.
const ROUNDS: usize = 6;

/// The numbers 0..count in the order that the seed gives them, one by one, as a grid has up to 2^32 of them: a Feistel
/// network permutes the numbers below a power of four, and those beyond the count are passed over.
pub(super) fn permuted(seed: u64, stream: u32, index: u64, count: u64) -> impl Iterator<Item = u64> {
    let half = (64 - count.saturating_sub(1).leading_zeros()).div_ceil(2).max(1);
    let low = (1u64 << half) - 1;
    let mut rng = Rng::new(seed, stream, index);
    let keys: [u64; ROUNDS] = std::array::from_fn(|_| rng.next_u32().into());
    let mix = move |value: u64, key: u64| {
        let mixed = (value ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32 & low
    };
    let place = move |number: u64| {
        if seed == 0 {
            return number;
        }
        let (left, right) = keys.iter().fold((number >> half, number & low), |(l, r), &key| (r, l ^ mix(r, key)));
        left << half | right
    };
    let all = if count == 0 { 0 } else { 1u64 << (2 * half) };
    (0..all).map(place).filter(move |number| *number < count).take(count as usize)
}

/// The indices 0..count in the order that the seed gives them.
pub(super) fn order(seed: u64, stream: u32, index: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if seed != 0 {
        Rng::new(seed, stream, index).shuffle(&mut order);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_checker_is_switched_off_by_its_name() {
        let all = SWITCHES.map(|(name, _)| name);
        assert_eq!(Checks::without(all), Ok(Checks { lockstep: false, ..Checks::none() }));
        assert_eq!(Checks::without([]), Ok(Checks::default()));
        assert_eq!(Checks::without(["bounds"]), Ok(Checks { bounds: false, ..Checks::default() }));
        let error = Checks::without(["bound"]).expect_err("no such checker").to_string();
        assert!(error.contains("`bound`") && all.iter().all(|name| error.contains(name)), "{error}");
    }

    #[test]
    fn options_are_written_as_the_command_takes_them() {
        assert_eq!(Options::default().to_string(), "--seed 0 --completion late");
        let checks = Checks { lockstep: true, ..Checks::without(["bounds", "deadlock"]).expect("checkers") };
        let options = Options { checks, completion: Completion::Random, seed: 7, limit: Some(900), exact_sums: true };
        let text = "--seed 7 --completion random --off bounds,deadlock --lockstep --exact-sums --limit 900";
        assert_eq!(options.to_string(), text);
    }

    #[test]
    fn completions_are_known_by_name_and_seeds_try_all_of_them() {
        for seed in 0..6 {
            let completion = Completion::of_seed(seed);
            assert_eq!(completion.to_string().parse(), Ok(completion));
            assert_eq!(completion, [Completion::Late, Completion::Early, Completion::Random][seed as usize % 3]);
        }
        let error = "soon".parse::<Completion>().expect_err("no such completion").to_string();
        assert!(COMPLETIONS.iter().all(|completion| error.contains(&completion.to_string())), "{error}");
    }

    #[test]
    fn every_number_comes_once_and_seeds_differ() {
        for count in [0, 1, 2, 3, 8, 100, 4097] {
            for seed in 0..4 {
                let mut numbers: Vec<u64> = permuted(seed, STREAM_BLOCKS, 1, count).collect();
                numbers.sort_unstable();
                assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{count}, seed {seed}");
            }
        }
        let first = |seed| permuted(seed, STREAM_BLOCKS, 1, 1 << 31).take(8).collect::<Vec<_>>();
        assert_eq!(first(0), (0..8).collect::<Vec<_>>());
        assert!(first(1) != first(2) && first(1) != first(0) && first(1) == first(1));
    }
}
