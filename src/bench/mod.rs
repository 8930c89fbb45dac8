//! Measurements that a user can repeat: rates, times and the ceilings beside them.

pub mod counters;
pub mod kernels;
pub mod loader;
pub mod scaling;
pub mod step;

use serde::Serialize;

/// Median of repeated measurements and the quartiles beside it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// A quarter of the measurements lie below.
    pub lower: f64,
    /// A quarter of the measurements lie above.
    pub upper: f64,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
        Self { median: at(0.5), lower: at(0.25), upper: at(0.75) }
    }
}
