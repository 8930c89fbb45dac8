//! Valid inputs with one to a few changes: bits, bytes, lengths, cuts, splices; in JSON values, in tables (and in
//! assembly, whose operands are cells) whole cells and rows.

use g2d::base::random::Rng;
use serde_json::json;

/// Numbers that lengths and counts go wrong at.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    i64::MAX as u64,
    u64::MAX,
];
/// The same for files of text.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "1e999",
    "nan",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\n",
    "null",
    "65535",
    "4294967296",
    "18446744073709551615",
    "\u{0}",
];

/// All values in a JSON text that hold no others.
fn leaves(value: &mut serde_json::Value) -> Vec<&mut serde_json::Value> {
    match value {
        serde_json::Value::Array(values) => values.iter_mut().flat_map(leaves).collect(),
        serde_json::Value::Object(fields) => fields.values_mut().flat_map(leaves).collect(),
        leaf => vec![leaf],
    }
}

/// A JSON text with a value or two replaced: it stays JSON, so that what reads it goes on behind the parser.
fn with_other_values(rng: &mut Rng, mut json: serde_json::Value) -> Vec<u8> {
    for _ in 0..1 + rng.below(2) {
        let mut leaves = leaves(&mut json);
        if leaves.is_empty() {
            break;
        }
        let other = (**rng.pick(&leaves)).clone();
        let at = rng.below(leaves.len());
        *leaves[at] = match rng.below(6) {
            0 => json!(rng.pick(&EDGES)),
            1 => json!(-(rng.below(1 << 20) as f64) * 1e-3),
            2 => json!(rng.pick(&WORDS)),
            3 => json!([]),
            4 => json!({}),
            _ => other,
        };
    }
    json.to_string().into_bytes()
}

/// A table with a few cells, or rows, changed: most rows stay rows.
fn with_other_cells(rng: &mut Rng, table: &str) -> Vec<u8> {
    let mut rows: Vec<Vec<String>> = table.split('\n').map(|row| row.split(',').map(str::to_owned).collect()).collect();
    for _ in 0..1 + rng.below(4) {
        let row = rng.below(rows.len());
        let other = rng.pick(&rows).clone();
        let cell = rng.below(rows[row].len());
        match rng.below(6) {
            0 => rows.insert(row, other),
            1 => rows[row].push(String::new()),
            2 => rows[row].truncate(cell.max(1)),
            3 => rows[row].swap(0, cell),
            _ => {
                let word = if rng.chance(0.5) { (*rng.pick(&WORDS)).to_owned() } else { rng.pick(&other).clone() };
                rows[row].get_mut(cell).into_iter().for_each(|cell| *cell = word.clone());
            }
        }
    }
    rows.iter().map(|row| row.join(",")).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Valid inputs, and what the text among them means, which is read once.
pub struct Seeds {
    bytes: Vec<Vec<u8>>,
    meanings: Vec<Meaning>,
}

enum Meaning {
    Json(serde_json::Value),
    Table(String),
    None,
}

impl Seeds {
    /// Of these.
    pub fn of(bytes: Vec<Vec<u8>>) -> Self {
        let meaning = |seed: &Vec<u8>| match (serde_json::from_slice(seed), std::str::from_utf8(seed)) {
            (Ok(json @ serde_json::Value::Object(_)), _) => Meaning::Json(json),
            (_, Ok(table)) if table.contains(',') && table.contains('\n') => Meaning::Table(table.to_owned()),
            _ => Meaning::None,
        };
        Self { meanings: bytes.iter().map(meaning).collect(), bytes }
    }
}

/// A valid input with one to a few changes: among the bytes, or in what they mean.
pub fn mutated(rng: &mut Rng, seeds: &Seeds) -> Vec<u8> {
    let seed = rng.below(seeds.bytes.len());
    if rng.chance(0.5) {
        match &seeds.meanings[seed] {
            Meaning::Json(json) => return with_other_values(rng, json.clone()),
            Meaning::Table(table) => return with_other_cells(rng, table),
            Meaning::None => {}
        }
    }
    with_other_bytes(rng, seeds.bytes[seed].clone(), &seeds.bytes)
}

fn with_other_bytes(rng: &mut Rng, mut bytes: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
    for _ in 0..1 + rng.below(4) {
        let length = bytes.len().max(1);
        // Headers decide more than what follows.
        let reach = if rng.chance(0.5) { length.min(96) } else { length };
        let at = rng.below(reach).min(bytes.len());
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8)),
            2 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = rng.below(256) as u8),
            3 | 4 => {
                let width = [1, 2, 4, 8][rng.below(4)];
                let edge = *rng.pick(&EDGES);
                let edge = if rng.chance(0.5) { edge.to_le_bytes() } else { (edge << (64 - 8 * width)).to_be_bytes() };
                bytes.iter_mut().skip(at).zip(&edge[..width]).for_each(|(byte, &edge)| *byte = edge);
            }
            5 => {
                let other = rng.pick(seeds);
                let from = rng.below(other.len().max(1)).min(other.len());
                let part = &other[from..][..rng.below(other.len() - from + 1).min(4096)];
                bytes.splice(at..at, part.iter().copied());
            }
            6 => {
                let end = (at + rng.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let word = rng.pick(&WORDS).bytes();
                let end = (at + rng.below(12)).min(bytes.len());
                bytes.splice(at..end, word);
            }
        }
    }
    bytes
}
