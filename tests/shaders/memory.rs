//! A GPU with too little memory for a step.

use super::common::command::empty;
use super::common::ledger;
use super::stand_in::StandIn;

const STEP: &str = "bench step --device wgpu --preset micro --warmup 0 --steps 1 --batch";

#[test]
fn where_memory_runs_out_the_batch_that_fits_is_told() {
    let folder = empty("memory");
    let Some(driver) = StandIn::new(&folder) else { return };
    let memory = 96 << 20;
    let refused = driver.run(&format!("{STEP} 256"), &[("STAND_IN_MEMORY", memory)]);
    refused.refused(&["Arena takes ", "the GPU has no ", "use a smaller batch", "; a batch of "]);
    let told = refused.errors.rsplit_once("a batch of ").and_then(|(_, rest)| rest.split_once(' '));
    let fits: u64 = told.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("{refused:?}"));
    // A film takes 0.7 MiB, and 64 MiB are left for what wgpu takes beside slabs. What is told does fit.
    assert!((16..=64).contains(&fits), "{refused:?}");
    driver.run(&format!("{STEP} {fits}"), &[("STAND_IN_MEMORY", memory)]).done();
    ledger::ran("wgpu", format!("a GPU of {} MiB: a batch of {fits} is told", memory >> 20));
}
