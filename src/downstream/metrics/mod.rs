//! The figures of the downstream tasks: pure functions of predictions and truths.
//!
//! Every figure comes as one number, or per film where it is a mean over films, so that
//! [`Estimate`](crate::base::Estimate) can resample films. A figure that has no value says why ([`Undefined`]); none
//! is ever NaN.

pub mod classification;
pub mod detection;
pub mod grid;
pub mod grounding;
pub mod overlap;
pub mod retrieval;

/// Why a figure has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undefined {
    /// Nothing was measured.
    #[error("there is nothing to measure")]
    Empty,
    /// Two lists that belong together differ in length.
    #[error("{found} values where {expected} are needed")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// An input is NaN or infinite.
    #[error("value {0} (counted from 0) is not finite")]
    NotFinite(usize),
    /// No positive example.
    #[error("none of the examples is positive")]
    NoPositives,
    /// No negative example.
    #[error("none of the examples is negative")]
    NoNegatives,
    /// All values are the same.
    #[error("the values do not vary")]
    Constant,
    /// A label that is not among the classes.
    #[error("label {label}, but there are {classes} classes, counted from 0")]
    Label {
        /// The label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A box whose right or lower edge lies before the left or upper one, or that is not finite.
    #[error("a box is inverted or not finite")]
    Inverted,
    /// A query to which nothing belongs.
    #[error("nothing belongs to query {0} (counted from 0)")]
    NoMatch(usize),
    /// Fewer candidates than are to be looked at.
    #[error("{candidates} candidates, but the first {k} are asked for")]
    TooFew {
        /// Candidates.
        candidates: usize,
        /// How many are looked at.
        k: usize,
    },
}

/// Fails if `found` is not `expected`, or if it is zero.
fn lengths(found: usize, expected: usize) -> Result<(), Undefined> {
    match found {
        _ if found != expected => Err(Undefined::Length { found, expected }),
        0 => Err(Undefined::Empty),
        _ => Ok(()),
    }
}

/// Fails at the first value that is not finite.
fn finite(values: &[f64]) -> Result<(), Undefined> {
    values.iter().position(|value| !value.is_finite()).map_or(Ok(()), |at| Err(Undefined::NotFinite(at)))
}
