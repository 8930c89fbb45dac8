//! What became of the rows of a table.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::record::Split;

/// Examples kept per reason.
pub(super) const EXAMPLES: usize = 3;
/// An example is cut to this length.
const EXAMPLE_CHARACTERS: usize = 400;

/// Rows dropped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// The first of them: line, id, file, particulars.
    pub examples: Vec<String>,
}

/// A filter that the films of a published data set, or the files of a folder, passed before they became rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Filter {
    /// What is kept.
    pub name: String,
    /// Films left by it.
    pub kept: usize,
    /// Films it took away.
    pub dropped: usize,
    /// The first of those that should not be there at all, and what is wrong with them; of modalities, how many of each.
    pub examples: Vec<String>,
    /// What the literature reports for this filter, and where; empty if nothing was found.
    pub reported: String,
}

/// Counts what is odd, with the first few cases.
#[derive(Default)]
pub(super) struct Oddity {
    pub(super) count: usize,
    pub(super) examples: Vec<String>,
}

impl Oddity {
    pub(super) fn note(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    /// A warning, if there was any.
    pub(super) fn warning(&self, what: &str) -> Option<String> {
        (self.count > 0).then(|| format!("{} {what} (such as {})", self.count, self.examples.join(", ")))
    }
}

/// Counts of packing, from rows read to films kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Funnel {
    /// What came before the rows: the filters of a layout or of a folder, in order; none for a table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Rows in the table.
    pub rows: usize,
    /// Films packed.
    pub kept: usize,
    /// Rows dropped, by reason.
    pub dropped: BTreeMap<String, Dropped>,
    /// Films kept whose text is empty: there for downstream tasks, left out of pre-training.
    pub empty_text: usize,
    /// Films kept per split.
    pub splits: BTreeMap<Split, usize>,
    /// [`super::Dataset::split_digest`] of every split that has films.
    pub split_digests: BTreeMap<Split, String>,
    /// Films kept that have a mask.
    pub masks: usize,
    /// Boxes kept.
    pub boxes: usize,
    /// Boxes left out: outside their film, or on a border that was cropped.
    pub boxes_outside: usize,
    /// Texts that fill the longest length (512 tokens) and may have been cut to it.
    pub longest_texts: usize,
    /// Pieces in the vocabulary.
    pub vocabulary: usize,
    /// What looks odd but stops nothing.
    pub warnings: Vec<String>,
}

impl Funnel {
    /// Counts a dropped row.
    pub(super) fn drop_row(&mut self, reason: String, example: String) {
        let dropped = self.dropped.entry(reason).or_default();
        dropped.count += 1;
        if dropped.examples.len() < EXAMPLES {
            dropped.examples.push(example.chars().take(EXAMPLE_CHARACTERS).collect());
        }
    }

    /// The same without examples, which name files: what may lie beside films that are given away.
    pub(super) fn without_examples(&self) -> Self {
        let mut bare = self.clone();
        bare.filters.iter_mut().for_each(|filter| filter.examples.clear());
        bare.dropped.values_mut().for_each(|dropped| dropped.examples.clear());
        bare
    }

    /// The reasons on one line, each with its count and first example.
    pub(super) fn reasons(&self) -> String {
        let one = |(reason, dropped): (&String, &Dropped)| {
            format!("{reason}: {} (first: {})", dropped.count, dropped.examples.first().map_or("", String::as_str))
        };
        self.dropped.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Funnel {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        for Filter { name, kept, dropped, examples, reported } in &self.filters {
            let lost = if *dropped > 0 { format!(", {dropped} left out") } else { String::new() };
            let known = if reported.is_empty() { String::new() } else { format!(" [reported: {reported}]") };
            writeln!(out, "{kept:>8} {name}{lost}{known}")?;
            examples.iter().try_for_each(|example| writeln!(out, "{:>8}   {example}", ""))?;
        }
        let splits = Split::ALL.map(|split| format!("{} {}", split.name(), self.splits.get(&split).unwrap_or(&0)));
        writeln!(out, "{:>8} rows read", self.rows)?;
        for (reason, dropped) in &self.dropped {
            writeln!(out, "{:>8} dropped: {reason}", dropped.count)?;
            for example in &dropped.examples {
                writeln!(out, "{:>8}   {example}", "")?;
            }
        }
        writeln!(out, "{:>8} kept ({})", self.kept, splits.join(", "))?;
        for (split, digest) in &self.split_digests {
            writeln!(out, "{:>8}   films of {} by digest {:.16}", "", split.name(), digest)?;
        }
        writeln!(out, "{:>8} of them with empty text, left out of pre-training", self.empty_text)?;
        writeln!(
            out,
            "{:>8} with text, {} of them at the longest length",
            self.kept - self.empty_text,
            self.longest_texts
        )?;
        writeln!(out, "{:>8} with a mask", self.masks)?;
        writeln!(out, "{:>8} boxes", self.boxes)?;
        if self.boxes_outside > 0 {
            writeln!(
                out,
                "{:>8} boxes left out: outside their film, or on a border that was cropped",
                self.boxes_outside
            )?;
        }
        write!(out, "{:>8} pieces in the vocabulary", self.vocabulary)?;
        self.warnings.iter().try_for_each(|warning| write!(out, "\n warning: {warning}"))
    }
}
