//! One film with all that is known about it, as it lies in a shard.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest token list a record holds, `[CLS]` and `[SEP]` included (the text encoder's limit).
pub const MAX_TOKENS: usize = 512;

/// Which part of the data a film belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Split {
    /// Seen in training.
    #[default]
    Train = 0,
    /// Watched while training.
    Val = 1,
    /// Kept for the end.
    Test = 2,
}

impl Split {
    /// All splits, in the order of their codes in a shard.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        ["train", "val", "test"][self as usize]
    }

    /// Reads `train`, `val` (also `valid`, `validate`, `validation`) or `test`, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        match word.trim().to_ascii_lowercase().as_str() {
            "train" => Some(Self::Train),
            "val" | "valid" | "validate" | "validation" => Some(Self::Val),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

/// A labelled rectangle in pixels of the packed film: `x` to the right and `y` down from its upper left corner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundingBox {
    /// What it surrounds.
    pub label: String,
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
}

/// One film. Texts that were not given are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Unique name of the film.
    pub id: String,
    /// Whose film it is.
    pub patient_id: String,
    /// Projection, as the table wrote it (`PA`, `AP`, ...).
    pub view: String,
    /// Labels as the table wrote them; see [`Record::labels`]. Empty: not stated, which is another thing than a label that
    /// says that nothing was found (`No Finding`).
    pub findings: String,
    /// The report.
    pub text: String,
    /// Rectangles on the packed film.
    pub boxes: Vec<BoundingBox>,
    /// The table's further columns by name.
    pub columns: BTreeMap<String, String>,
    /// Part of the data.
    #[serde(skip)]
    pub split: Split,
    /// Gray values [size, size], 0 black.
    #[serde(skip)]
    pub pixels: &'a [u8],
    /// Values of the mask [size, size] as they were in its file (0 outside), if the film has one.
    #[serde(skip)]
    pub mask: Option<&'a [u8]>,
    /// Token ids of the text, `[CLS] ... [SEP]`, at most [`MAX_TOKENS`]; empty if there is no text.
    #[serde(skip)]
    pub tokens: &'a [u32],
}

impl Record<'_> {
    /// The single labels in `findings`, which are separated by `;`.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.findings.split(';').map(str::trim).filter(|label| !label.is_empty())
    }
}
