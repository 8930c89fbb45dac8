//! A WordPiece vocabulary from a corpus: merges of frequent pairs (Sennrich and others 2016), as `tokenizers`' own
//! trainer builds it, but with every tie decided, so that the same texts give the same vocabulary.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Special tokens, in the order of their ids; padding is 0 as in BERT.
pub const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// What begins a piece that continues a word.
pub const CONTINUES: &str = "##";
/// A pair seen less often than this is not merged.
const MIN_COUNT: u64 = 2;

struct Word {
    pieces: Vec<u32>,
    count: u64,
}

/// Pieces in the order of their ids, at most `limit` (which should be well above the number of letters): the special
/// tokens, the letters (at most half of `limit`, the most frequent), then merged pieces, most frequent first.
pub fn train(counts: &BTreeMap<String, u64>, limit: usize) -> Vec<String> {
    let mut vocabulary: Vec<String> = SPECIAL.map(str::to_owned).to_vec();
    vocabulary.extend(letters(counts, limit / 2));
    let mut ids: HashMap<String, u32> = (0..).zip(&vocabulary).map(|(id, piece)| (piece.clone(), id)).collect();
    let spell = |(word, &count): (&String, &u64)| {
        let pieces = spelled(word).map(|piece| ids.get(&piece).copied()).collect::<Option<_>>()?;
        Some(Word { pieces, count })
    };
    let mut words: Vec<Word> = counts.iter().filter_map(spell).collect();
    let mut pairs: HashMap<(u32, u32), u64> = HashMap::new();
    let mut found_in: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
    for (index, word) in words.iter().enumerate() {
        for pair in neighbours(&word.pieces) {
            *pairs.entry(pair).or_default() += word.count;
            found_in.entry(pair).or_default().push(index);
        }
    }
    while vocabulary.len() < limit {
        let best = pairs.iter().max_by_key(|(pair, count)| (**count, Reverse(**pair)));
        let Some((&pair, _)) = best.filter(|(_, count)| **count >= MIN_COUNT) else { break };
        let (first, second) = (&vocabulary[pair.0 as usize], &vocabulary[pair.1 as usize]);
        let piece = format!("{first}{}", second.strip_prefix(CONTINUES).unwrap_or(second));
        let merged = *ids.entry(piece.clone()).or_insert(vocabulary.len() as u32);
        if merged as usize == vocabulary.len() {
            vocabulary.push(piece);
        }
        for index in found_in.remove(&pair).unwrap_or_default() {
            let word = &mut words[index];
            for old in neighbours(&word.pieces) {
                *pairs.entry(old).or_default() -= word.count;
            }
            merge(&mut word.pieces, pair, merged);
            for new in neighbours(&word.pieces) {
                *pairs.entry(new).or_default() += word.count;
                if new.0 == merged || new.1 == merged {
                    found_in.entry(new).or_default().push(index);
                }
            }
        }
        pairs.remove(&pair);
        pairs.retain(|_, count| *count > 0);
    }
    vocabulary
}

/// The letters of a word as pieces: all but the first continue it.
fn spelled(word: &str) -> impl Iterator<Item = String> {
    word.chars().enumerate().map(|(at, letter)| if at == 0 { letter.into() } else { format!("{CONTINUES}{letter}") })
}

/// The most frequent letters, in alphabetical order.
fn letters(counts: &BTreeMap<String, u64>, limit: usize) -> Vec<String> {
    let mut letters: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in counts {
        for piece in spelled(word) {
            *letters.entry(piece).or_default() += count;
        }
    }
    let mut ranked: Vec<_> = letters.into_iter().collect();
    ranked.sort_by_key(|(_, count)| Reverse(*count));
    ranked.truncate(limit);
    let mut chosen: Vec<String> = ranked.into_iter().map(|(piece, _)| piece).collect();
    chosen.sort();
    chosen
}

fn neighbours(pieces: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    pieces.windows(2).map(|pair| (pair[0], pair[1]))
}

fn merge(pieces: &mut Vec<u32>, pair: (u32, u32), merged: u32) {
    let mut at = 0;
    while at + 1 < pieces.len() {
        if (pieces[at], pieces[at + 1]) == pair {
            pieces[at] = merged;
            pieces.remove(at + 1);
        }
        at += 1;
    }
}
