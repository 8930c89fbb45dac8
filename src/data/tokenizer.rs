//! Text to token ids, by the `tokenizers` crate: a BERT vocabulary, a `tokenizer.json`, or a vocabulary of our own.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::error::Error;
use super::file;
use super::record::MAX_TOKENS;
use super::vocabulary::{CONTINUES, SPECIAL, train};

/// Pieces of a vocabulary trained on the corpus, at most.
pub const TRAINED_PIECES: usize = 2048;
/// A word of more characters is `[UNK]`, as in BERT.
const WORD_CHARACTERS: usize = 100;
/// Longest file that is read.
const FILE_BYTES: u64 = 1 << 26;
/// Largest vocabulary; a model has a row of weights for each piece.
const MAX_PIECES: usize = 1 << 21;
/// Different words that are counted at once; beyond, the rarest are forgotten.
const WORDS: usize = 1 << 19;
/// Texts that are counted at a time: this many, or this many bytes.
const TEXTS: (usize, usize) = (1 << 12, 1 << 24);

/// Turns text into `[CLS] ... [SEP]`.
///
/// ```
/// use g2d::data::tokenizer::Tokenizer;
///
/// let reports = ["no pleural effusion", "small left pleural effusion", "no effusion"];
/// let tokenizer = Tokenizer::trained(reports.iter(), true)?;
/// let tokens = tokenizer.encode("No effusion")?;
/// assert_eq!((tokens[0], tokens.last()), (2, Some(&3))); // [CLS], [SEP]
/// assert_eq!(tokens, tokenizer.encode("no EFFUSION")?);
/// assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()));
/// # Ok::<(), g2d::data::Error>(())
/// ```
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    json: String,
    begin: u32,
    end: u32,
    unknown: u32,
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads `vocab.txt` (BERT WordPiece, a piece a line) or `tokenizer.json`, told apart by content.
    ///
    /// With `lowercase` text is lower-cased whatever the file says, as the released code does even with a cased
    /// vocabulary; without, a `vocab.txt` is used as cased and a `tokenizer.json` as it says.
    ///
    /// # Errors
    /// If it cannot be read, is neither, or lacks `[UNK]`, `[CLS]`, `[SEP]` or has `[PAD]` elsewhere than at 0.
    pub fn load(path: &Path, lowercase: bool) -> Result<Self, Error> {
        let text = file::read(path, FILE_BYTES).map_err(Error::io("read", path))?;
        let fault = |what: String| Error::Tokenizer { path: path.to_owned(), what };
        let text = String::from_utf8(text).map_err(|_| fault("this is not UTF-8 text".into()))?;
        if !text.trim_start().starts_with('{') {
            let pieces: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
            return Self::from_pieces(&pieces, lowercase, path);
        }
        let mut json: Value = serde_json::from_str(&text).map_err(|error| fault(format!("damaged json: {error}")))?;
        if let Some(fields) = json.as_object_mut() {
            // Both are done here; a cut or padding of the file's own would go before it.
            fields.insert("truncation".into(), Value::Null);
            fields.insert("padding".into(), Value::Null);
            if lowercase {
                let normalizer = fields.entry("normalizer").or_insert(Value::Null);
                *normalizer = lower(normalizer.take());
            }
        }
        Self::from_json(&json, path)
    }

    /// Trains a WordPiece vocabulary of at most [`TRAINED_PIECES`] pieces on `texts`, in parallel on the current thread
    /// pool. The same texts, in any order, give the same vocabulary (unless there are more different words than can be
    /// counted, half a million; then the same texts in the same order do).
    ///
    /// # Errors
    /// If a text cannot be normalised.
    pub fn trained<T: AsRef<str> + Sync>(texts: impl Iterator<Item = T>, lowercase: bool) -> Result<Self, Error> {
        let path = Path::new("trained on the corpus");
        let fault = |error: tokenizers::Error| Error::Tokenizer { path: path.to_owned(), what: error.to_string() };
        let mut texts = texts.fuse();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        loop {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while chunk.len() < TEXTS.0
                && bytes < TEXTS.1
                && let Some(text) = texts.next()
            {
                bytes += text.as_ref().len();
                chunk.push(text);
            }
            if chunk.is_empty() {
                break;
            }
            let parts: Result<Vec<_>, _> = chunk.par_chunks(64).map(|texts| count_words(texts, lowercase)).collect();
            for (word, count) in parts.map_err(fault)?.into_iter().flatten() {
                *counts.entry(word).or_default() += count;
            }
            let mut rare = 1;
            while counts.len() > WORDS {
                counts.retain(|_, count| *count > rare);
                rare *= 2;
            }
        }
        Self::from_pieces(&train(&counts, TRAINED_PIECES), lowercase, path)
    }

    fn from_pieces(pieces: &[String], lowercase: bool, path: &Path) -> Result<Self, Error> {
        let fault = |what: String| Error::Tokenizer { path: path.to_owned(), what };
        let mut vocabulary = serde_json::Map::new();
        for (id, piece) in pieces.iter().enumerate() {
            if vocabulary.insert(piece.clone(), id.into()).is_some() {
                return Err(fault(format!("line {}: {piece:?} occurs twice; this should be a vocab.txt", id + 1)));
            }
        }
        if let Some(name) = SPECIAL[..4].iter().find(|name| !vocabulary.contains_key(**name)) {
            return Err(fault(format!("it has no {name}; give the vocab.txt of a BERT")));
        }
        let id_of = |name: &str| vocabulary.get(name).and_then(Value::as_u64);
        let special = |name: &&str| {
            let (id, no) = (id_of(name)?, false);
            Some(json!({"id": id, "content": name, "single_word": no, "lstrip": no, "rstrip": no, "normalized": no,
                        "special": true}))
        };
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": SPECIAL.iter().filter_map(special).collect::<Vec<_>>(),
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": null, "lowercase": lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing",
                               "sep": ["[SEP]", id_of("[SEP]")], "cls": ["[CLS]", id_of("[CLS]")]},
            "decoder": {"type": "WordPiece", "prefix": CONTINUES, "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": CONTINUES,
                      "max_input_chars_per_word": WORD_CHARACTERS, "vocab": vocabulary}
        });
        Self::from_json(&json, path)
    }

    fn from_json(json: &Value, path: &Path) -> Result<Self, Error> {
        let fault = |what: String| Error::Tokenizer { path: path.to_owned(), what };
        if let Some(piece) = unmergeable(&json["model"]) {
            return Err(fault(format!(
                "the merge with {piece:?} lacks the continuing_subword_prefix; give a BERT one"
            )));
        }
        let json = json.to_string();
        let inner = tokenizers::Tokenizer::from_bytes(&json).map_err(|error| {
            fault(format!("not a tokenizer ({error}); give a vocab.txt of BERT or a tokenizer.json"))
        })?;
        let id =
            |name: &str| inner.token_to_id(name).ok_or_else(|| fault(format!("it has no {name}; give a BERT one")));
        let (begin, end, unknown) = (id("[CLS]")?, id("[SEP]")?, id("[UNK]")?);
        if id("[PAD]")? != 0 {
            return Err(fault("[PAD] must have the id 0".into()));
        }
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |&last| last as usize + 1);
        if vocab_size > MAX_PIECES {
            return Err(fault(format!("its ids reach {vocab_size}, {MAX_PIECES} are the limit; give a BERT one")));
        }
        Ok(Self { inner, path: path.to_owned(), json, begin, end, unknown, vocab_size })
    }

    /// Token ids of a text: `[CLS]`, at most [`MAX_TOKENS`] - 2 pieces, `[SEP]`.
    ///
    /// # Errors
    /// If the tokenizer cannot handle the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let fault = |error: tokenizers::Error| Error::Tokenizer { path: self.path.clone(), what: error.to_string() };
        let encoded = self.inner.encode(text, false).map_err(fault)?;
        let pieces = encoded.get_ids().iter().copied().take(MAX_TOKENS - 2);
        Ok(std::iter::once(self.begin).chain(pieces).chain([self.end]).collect())
    }

    /// What stands for a piece that it does not have.
    pub fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Where it was read, or what it was made of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Token ids are below this.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether the other one has the same pieces under the same ids.
    pub fn same_pieces(&self, other: &Self) -> bool {
        self.inner.get_vocab(true) == other.inner.get_vocab(true)
    }

    /// The same tokenizer as the text of a `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// How often each word occurs; words too long to be looked up are left out.
fn count_words<T: AsRef<str>>(texts: &[T], lowercase: bool) -> tokenizers::Result<HashMap<String, u64>> {
    let normalizer = BertNormalizer::new(true, true, None, lowercase);
    let mut counts = HashMap::new();
    for text in texts {
        let mut normalized = NormalizedString::from(text.as_ref());
        normalizer.normalize(&mut normalized)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            if word.chars().nth(WORD_CHARACTERS).is_none() {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// The normalizer, made to lower-case.
fn lower(mut normalizer: Value) -> Value {
    match normalizer.get("type").and_then(Value::as_str) {
        Some("BertNormalizer") => {
            normalizer["lowercase"] = true.into();
            normalizer
        }
        Some(_) => json!({"type": "Sequence", "normalizers": [normalizer, {"type": "Lowercase"}]}),
        None => json!({"type": "Lowercase"}),
    }
}

/// A piece that a byte-pair model merges onto another though it lacks the prefix of pieces that continue a word: the
/// library would cut the prefix off all the same, and panic where the piece is shorter.
fn unmergeable(model: &Value) -> Option<&str> {
    let prefix = model["continuing_subword_prefix"].as_str().filter(|prefix| !prefix.is_empty())?;
    let merges = model["merges"].as_array()?.iter();
    let mut right = merges.filter_map(|merge| match merge {
        Value::String(both) => both.split_once(' ').map(|(_, right)| right),
        _ => merge.get(1).and_then(Value::as_str),
    });
    right.find(|piece| !piece.starts_with(prefix))
}
