//! How long every benchmark runs: all of them together take less than five minutes on two cores.

use std::time::Duration;

use criterion::Criterion;

/// Ten samples within about so many seconds, after a short warm-up; flags of the command line override it.
pub fn criterion(seconds: u64) -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(seconds))
        .configure_from_args()
}
