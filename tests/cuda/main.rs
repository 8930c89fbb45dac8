//! The kernels that ship, executed on the emulated device by the calls that their ops make, against the ops' references.
//! A kernel that has been tampered with must be caught.

mod adamw;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod pseudo_mask;

use common::ledger;
use g2d::kernels::{MODULES, Origin};

#[test]
fn every_shipped_kernel_has_a_test_here() {
    let tested = [adamw::SYMBOLS, pseudo_mask::SYMBOLS].concat();
    let shipped = MODULES.iter().flat_map(|module| module.entries).map(|entry| entry.symbol);
    let untested: Vec<&str> = shipped.filter(|symbol| !tested.contains(symbol)).collect();
    assert_eq!(untested, [""; 0]);
    let by_hand = MODULES.iter().filter(|module| module.origin == Origin::Hand).count();
    ledger::ran("emulated", format!("{} kernels, {by_hand} files by hand", tested.len()));
}
