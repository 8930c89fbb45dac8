//! What a step is fed: its declaration in a program, and texts packed on the host.

use super::config::{Config, Normalise};
use crate::base::Spec;
use crate::ops::ingest::{self, Ingest};
use crate::program::record::RecordError;
use crate::program::{Misfit, Recorder, Value};

/// The input that reports come by where they come as states ([`Reports::States`]).
pub const STATES: &str = "states";

/// Most pairs in one batch.
const LARGEST_BATCH: usize = 1 << 16;

/// How films arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// As bytes, `pixels` [batch, side, side], with 13 numbers of `augmentation` each (see [`ingest`]).
    Bytes,
    /// As numbers in [0, 1], `image` [batch, side, side].
    Numbers,
}

/// Extents of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Pairs.
    pub batch: usize,
    /// Tokens there is room for per report.
    pub text_len: usize,
    /// How films arrive.
    pub source: Source,
}

impl Shapes {
    /// Rows there is room for in packed values.
    pub fn capacity(&self) -> usize {
        self.batch * self.text_len
    }

    /// Why a batch of these extents cannot be, for a validated configuration.
    pub(super) fn check(&self, config: &Config) -> Result<(), Misfit> {
        let Self { batch, text_len, .. } = *self;
        Misfit::unless((1..=LARGEST_BATCH).contains(&batch), || {
            format!("a batch of {batch} pairs: 1 to {LARGEST_BATCH} can be taken")
        })?;
        Misfit::unless((1..=config.max_positions).contains(&text_len), || {
            format!("texts of {text_len} tokens: 1 to max_positions = {} can be taken", config.max_positions)
        })?;
        Misfit::unless(self.capacity() <= i32::MAX as usize, || {
            format!("{batch} texts of {text_len} tokens are more rows than 32 bits count")
        })
    }
}

/// Films, as declared.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// Gray values in [0, 1], [batch, side, side].
    pub plane: Value,
    /// The network's input, [batch, side, side, 3].
    pub image: Value,
}

impl Images {
    /// Declares films and records their way into the network.
    pub fn declare(r: &mut Recorder, config: &Config, shapes: &Shapes) -> Result<Self, RecordError> {
        let normalise = match config.normalise {
            Normalise::Unit => ingest::Normalise::Unit,
            Normalise::Imagenet => ingest::Normalise::Imagenet,
        };
        let film = [shapes.batch, config.image_size, config.image_size];
        match shapes.source {
            Source::Bytes => {
                let pixels = r.input("pixels", Spec::bytes(film));
                let augmentation = r.input("augmentation", Spec::exact([shapes.batch, ingest::AUGMENTATION]));
                let op = Ingest { source: ingest::Source::Bytes, normalise };
                let made = r.scope("ingest", |r| r.node(op, &[pixels, augmentation]))?;
                Ok(Self { plane: made[0], image: made[1] })
            }
            Source::Numbers => {
                let plane = r.input("image", Spec::exact(film));
                let op = Ingest { source: ingest::Source::Numbers, normalise };
                Ok(Self { plane, image: r.scope("ingest", |r| r.one(op, &[plane]))? })
            }
        }
    }
}

/// How reports arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// As tokens, `ids` and `order`.
    Tokens,
    /// As what the frozen part of the text encoder makes of them, `states` [capacity, text_hidden].
    States,
}

/// The rows of texts, as declared.
#[derive(Clone, Copy, Debug)]
pub enum Rows {
    /// Indices: the token of each row \[capacity\], and rows in order of their tokens \[capacity\].
    Tokens {
        /// Token of each row.
        ids: Value,
        /// Rows in order of their tokens.
        order: Value,
    },
    /// What the frozen part of the text encoder made of them, [capacity, text_hidden].
    States(Value),
}

/// Texts, as declared.
#[derive(Clone, Copy, Debug)]
pub struct Texts {
    /// What is known of each row.
    pub rows: Rows,
    /// First row of each text and, last, how many rows there are, [batch + 1].
    pub offsets: Value,
    /// Real tokens of each text, \[batch\].
    pub lengths: Value,
}

impl Texts {
    /// Declares texts.
    pub fn declare(r: &mut Recorder, config: &Config, shapes: &Shapes, reports: Reports) -> Self {
        let rows = match reports {
            Reports::Tokens => Rows::Tokens {
                ids: r.input("ids", Spec::index([shapes.capacity()])),
                order: r.input("order", Spec::index([shapes.capacity()])),
            },
            Reports::States => Rows::States(r.input(STATES, Spec::activation([shapes.capacity(), config.text_hidden]))),
        };
        Self {
            rows,
            offsets: r.input("offsets", Spec::index([shapes.batch + 1])),
            lengths: r.input("lengths", Spec::index([shapes.batch])),
        }
    }
}

/// A batch of pairs, as declared.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// Films.
    pub images: Images,
    /// Reports.
    pub texts: Texts,
}

impl Batch {
    /// Declares films and reports.
    pub fn declare(r: &mut Recorder, config: &Config, shapes: &Shapes, reports: Reports) -> Result<Self, RecordError> {
        Ok(Self { images: Images::declare(r, config, shapes)?, texts: Texts::declare(r, config, shapes, reports) })
    }
}

/// Why texts do not make a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A text that is empty or longer than there is room for.
    #[error(
        "text {text} of the batch has {length} tokens; there is room for 1 to {text_len}: truncate it or leave it out"
    )]
    Length {
        /// Its place in the batch.
        text: usize,
        /// Its tokens.
        length: usize,
        /// Room.
        text_len: usize,
    },
    /// Lengths that do not add up to the number of tokens.
    #[error("{tokens} tokens were given for texts of {lengths} tokens together")]
    Count {
        /// Tokens given.
        tokens: usize,
        /// Sum of the lengths.
        lengths: usize,
    },
    /// One token in all, of which a batch norm would see one value.
    #[error("a batch of one text of one token: its batch norm sees one value; give more text or more pairs")]
    Alone,
    /// A token outside the vocabulary.
    #[error(
        "token {place} of the batch is {token}; the vocabulary (vocab_size) has {vocab_size}: use its own tokenizer"
    )]
    Token {
        /// Its place among the batch's tokens.
        place: usize,
        /// The token.
        token: i32,
        /// Tokens there are.
        vocab_size: usize,
    },
}

/// Texts as a step takes them; see [`Texts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextBatch {
    /// Token of each row.
    pub ids: Vec<i32>,
    /// Rows in order of (token, row).
    pub order: Vec<i32>,
    /// First row of each text, then their number.
    pub offsets: Vec<i32>,
    /// Real tokens of each text.
    pub lengths: Vec<i32>,
}

impl TextBatch {
    /// Packs `tokens`, the texts one behind the other, of which `lengths` tells where they end. With text statistics
    /// over real tokens the rows lie as given; over padded ones each text has `text_len` rows, the last of them
    /// token 0.
    pub fn pack(tokens: &[i32], lengths: &[usize], text_len: usize, config: &Config) -> Result<Self, TextError> {
        let sum = lengths.iter().sum();
        if sum != tokens.len() {
            return Err(TextError::Count { tokens: tokens.len(), lengths: sum });
        }
        if let Some((text, &length)) = lengths.iter().enumerate().find(|&(_, &length)| length == 0 || length > text_len)
        {
            return Err(TextError::Length { text, length, text_len });
        }
        let vocab_size = config.vocab_size;
        let foreign = |token: i32| usize::try_from(token).map_or(true, |token| token >= vocab_size);
        if let Some((place, &token)) = tokens.iter().enumerate().find(|&(_, &token)| foreign(token)) {
            return Err(TextError::Token { place, token, vocab_size });
        }
        if lengths.len() == 1 && sum == 1 && !config.padded() {
            return Err(TextError::Alone);
        }
        Ok(Self::lay(tokens, lengths, text_len, config.padded()))
    }

    /// The text at `at` alone, with the rows that it has in this batch.
    pub fn alone(&self, at: usize, text_len: usize) -> Self {
        let (first, rows) = (self.offsets[at] as usize, (self.offsets[at + 1] - self.offsets[at]) as usize);
        let length = self.lengths[at] as usize;
        Self::lay(&self.ids[first..first + length], &[length], text_len, rows > length)
    }

    /// Texts that fit, one behind the other, or each with `text_len` rows.
    fn lay(tokens: &[i32], lengths: &[usize], text_len: usize, padded: bool) -> Self {
        let mut ids = vec![0; lengths.len() * text_len];
        let (mut offsets, mut row, mut rest) = (vec![0], 0, tokens);
        for &length in lengths {
            let (text, behind) = rest.split_at(length);
            ids[row..row + length].copy_from_slice(text);
            row += if padded { text_len } else { length };
            offsets.push(row as i32);
            rest = behind;
        }
        let mut order: Vec<i32> = (0..row as i32).collect();
        order.sort_by_key(|&row| ids[row as usize]);
        order.resize(ids.len(), 0);
        Self { ids, order, offsets, lengths: lengths.iter().map(|&length| length as i32).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::TextStatistics;

    #[test]
    fn texts_are_packed_or_padded() {
        let mut config = Config::preset("micro").unwrap();
        let packed = TextBatch::pack(&[2, 9, 3, 2, 3], &[3, 2], 4, &config).unwrap();
        assert_eq!(packed.ids, [2, 9, 3, 2, 3, 0, 0, 0]);
        assert_eq!(packed.offsets, [0, 3, 5]);
        assert_eq!(packed.lengths, [3, 2]);
        assert_eq!(packed.order[..5], [0, 3, 2, 4, 1]);
        config.text_statistics = TextStatistics::Padded;
        let padded = TextBatch::pack(&[2, 9, 3, 2, 3], &[3, 2], 4, &config).unwrap();
        assert_eq!(padded.ids, [2, 9, 3, 0, 2, 3, 0, 0]);
        assert_eq!(padded.offsets, [0, 4, 8]);
        assert_eq!(padded.order, [3, 6, 7, 0, 4, 2, 5, 1]);
        for batch in [packed, padded] {
            let alone = batch.alone(1, 4);
            assert_eq!(alone.ids, [2, 3, 0, 0]);
            assert_eq!((alone.offsets[1], &*alone.lengths), (batch.offsets[2] - batch.offsets[1], &[2][..]));
        }
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        let config = Config::preset("micro").unwrap();
        let pack = |tokens: &[i32], lengths: &[usize]| TextBatch::pack(tokens, lengths, 4, &config);
        assert!(matches!(pack(&[1; 5], &[5]), Err(TextError::Length { text: 0, length: 5, .. })));
        assert!(matches!(pack(&[1; 2], &[2, 0]), Err(TextError::Length { text: 1, .. })));
        assert!(matches!(pack(&[1; 3], &[2]), Err(TextError::Count { .. })));
        assert!(matches!(pack(&[1, 61], &[2]), Err(TextError::Token { place: 1, .. })));
        assert!(matches!(pack(&[-1], &[1]), Err(TextError::Token { place: 0, .. })));
    }
}
