//! Counts held against those that are committed: a kernel whose counts grow is a step back, and is named.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Call, Line, Totals};

/// The first line of a file of counts: what was counted, by what, and the sums.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The model.
    pub preset: String,
    /// Whose mask and losses.
    pub recipe: String,
    /// Pairs a step.
    pub batch: usize,
    /// Tokens of every report.
    pub text_len: usize,
    /// How numbers are stored.
    pub precision: String,
    /// For which launches and device bytes are told.
    pub chip: String,
    /// Whose kernels the plan takes.
    pub target: String,
    /// Digest of the plan.
    pub plan: String,
    /// Version of this crate.
    pub version: String,
    /// The checkout, by git; `None` where there was none.
    pub revision: Option<String>,
    /// The command that writes this.
    pub command: String,
    /// Sums over the step.
    pub totals: Totals,
}

/// A file of counts: a line of JSON for the head, then one for each different launch.
pub fn written(head: &Head, lines: &[Line]) -> String {
    let json = |value: serde_json::Result<String>| value.unwrap_or_default() + "\n";
    lines.iter().fold(json(serde_json::to_string(head)), |text, line| text + &json(serde_json::to_string(line)))
}

/// Reads such a file.
///
/// # Errors
/// In one sentence, with the line that is none of a file of counts.
pub fn read(text: &str) -> Result<(Head, Vec<Line>), String> {
    let wrong = |at: usize, error: serde_json::Error| format!("line {} is not of a file of counts: {error}", at + 1);
    let mut lines = text.lines().enumerate();
    let (_, head) = lines.next().ok_or("it is empty; `g2d bench counters --json` writes such a file")?;
    let head = serde_json::from_str(head).map_err(|error| wrong(0, error))?;
    let lines = lines.map(|(at, line)| serde_json::from_str(line).map_err(|error| wrong(at, error)));
    Ok((head, lines.collect::<Result<_, _>>()?))
}

/// A count by which a kernel is held, by name.
type Figure = (&'static str, fn(&Call) -> u64);

const FIGURES: [Figure; 7] = [
    ("sectors", |call| call.sectors),
    ("bytes that blocks touch", |call| call.touched_bytes),
    ("warp instructions", |call| call.warp_instructions),
    ("conflicts", |call| call.conflicts),
    ("FLOP", |call| call.flops),
    ("tensor FLOP", |call| call.tensor_flops),
    ("bytes spilled", |call| call.spilled.unwrap_or(0).into()),
];

/// What tells a kernel on its shapes from all others: op, position among the op's kernels, symbol, grid, shapes.
type Key<'a> = (&'a str, usize, &'a str, [u32; 3], &'a [String]);

fn key<'a>(line: &'a Line, position: usize, call: &'a Call) -> Key<'a> {
    (&line.op, position, &call.symbol, call.grid, &line.shapes)
}

fn calls(lines: &[Line]) -> impl Iterator<Item = (&Line, usize, &Call)> {
    lines.iter().flat_map(|line| line.calls.iter().enumerate().map(move |(position, call)| (line, position, call)))
}

/// How often each kernel is launched on its shapes.
fn launches(lines: &[Line]) -> BTreeMap<Key<'_>, usize> {
    let mut found = BTreeMap::new();
    for (line, position, call) in calls(lines) {
        *found.entry(key(line, position, call)).or_default() += line.launches.len();
    }
    found
}

/// What is worse in `new` than in `old`, a sentence for each: a count that has grown, a kernel that is launched more often, a
/// kernel that the one has and the other has not on these shapes.
pub fn grown(old: &[Line], new: &[Line]) -> Vec<String> {
    let mut known: HashMap<_, ([u64; FIGURES.len()], bool)> = HashMap::new();
    for (line, position, call) in calls(old) {
        // Launches that differ in something that no figure shows have the same key: the larger counts hold.
        let (held, _) = known.entry(key(line, position, call)).or_default();
        held.iter_mut().zip(FIGURES).for_each(|(held, (_, of))| *held = of(call).max(*held));
    }
    let mut worse = Vec::new();
    for (line, position, call) in calls(new) {
        let place = format!("{} {} {} at {:?}", line.op, call.symbol, line.shapes.join(" "), line.scope());
        let Some((held, met)) = known.get_mut(&key(line, position, call)) else {
            worse.push(format!("{place}: is not among the committed counts"));
            continue;
        };
        *met = true;
        for ((name, of), held) in FIGURES.iter().zip(*held).filter(|((_, of), held)| of(call) > *held) {
            worse.push(format!("{place}: {} {name}, {held} are committed", of(call)));
        }
    }
    let before = launches(old);
    for (kernel, count) in launches(new) {
        if let Some(held) = before.get(&kernel).filter(|&&held| count > held) {
            let (op, _, symbol, grid, shapes) = kernel;
            let place = format!("{op} {symbol} {} on {grid:?}", shapes.join(" "));
            worse.push(format!("{place}: {count} launches, {held} are committed"));
        }
    }
    let mut gone: Vec<String> = known
        .iter()
        .filter(|(_, (_, met))| !met)
        .map(|((op, _, symbol, grid, shapes), _)| {
            format!("{op} {symbol} {} on {grid:?}: is committed and no longer launched", shapes.join(" "))
        })
        .collect();
    gone.sort_unstable();
    worse.extend(gone);
    worse
}
