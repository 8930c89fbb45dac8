//! A GPU with too little memory for a step.

use super::common::command::empty;
use super::common::ledger;
use super::stand_in::StandIn;

const STEP: &str = "bench step --device wgpu --preset micro --warmup 0 --steps 1 --batch";

#[test]
fn the_batch_that_is_told_where_memory_runs_out_fits_and_no_much_larger_one_does() {
    let folder = empty("memory");
    let Some(driver) = StandIn::new(&folder) else { return };
    let memory = 96 << 20;
    let run = |batch: u64| driver.run(&format!("{STEP} {batch}"), &[("STAND_IN_MEMORY", memory)]);
    let refused = run(256);
    refused.refused(&["Arena takes ", "the GPU has no ", "use a smaller batch", "; a batch of "]);
    let told = refused.errors.rsplit_once("a batch of ").and_then(|(_, rest)| rest.split_once(' '));
    let fits: u64 = told.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("{refused:?}"));
    run(fits).done();
    // A part is left for what wgpu takes beside slabs.
    run(fits * 4).refused(&["the GPU has no ", "a batch of "]);
    ledger::ran("wgpu", format!("a GPU of {} MiB: a batch of {fits} is told, and fits", memory >> 20));
}
