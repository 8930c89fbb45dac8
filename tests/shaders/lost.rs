//! Runs whose GPU is lost on the way: one sentence, nothing lost that was saved, and the same bits once they are resumed.

use std::fs;
use std::path::Path;

use g2d::checkpoint::folder;

use super::common::command::{empty, g2d};
use super::common::ledger;
use super::stand_in::StandIn;

const TRAIN: &str = "pretrain --device wgpu --data shards --preset micro --batch 2 --steps 12 --set checkpoint_every=2 --set \
                     validate_every=100 --threads 1 --out";

/// Weights and moments behind the last step.
fn state(run: &Path) -> [Vec<u8>; 2] {
    let last = run.join("checkpoints/step-00000012");
    [folder::WEIGHTS, folder::MOMENTS].map(|file| fs::read(last.join(file)).expect("the run has come to its end"))
}

#[test]
fn a_run_whose_gpu_is_lost_keeps_its_checkpoint_and_ends_in_the_same_bits() {
    let folder = empty("lost");
    let Some(driver) = StandIn::new(&folder) else { return };
    g2d(&folder, "phantom --count 30 --seed 7 --out drawn").done();
    g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
    driver.run(&format!("{TRAIN} straight"), &[]).done();
    let [waits, submissions] = driver.counted();
    // Behind three quarters of them some checkpoints are written, and steps are left.
    for (kind, count) in [("STAND_IN_WAITS", waits), ("STAND_IN_SUBMISSIONS", submissions)] {
        let lost = driver.run(&format!("{TRAIN} {kind}"), &[(kind, count * 3 / 4)]);
        lost.refused(&["the GPU was lost", "resumed from its last checkpoint"]);
        let run = folder.join(kind);
        let checkpoints = folder::list(&run).unwrap();
        assert!(!checkpoints.is_empty(), "{kind}: it was lost before the first checkpoint");
        assert!(!run.join("checkpoints/step-00000012").exists(), "{kind}: it was lost behind its last step");
        for checkpoint in &checkpoints {
            folder::verify(checkpoint).unwrap_or_else(|error| panic!("{kind}: {error}"));
        }
        g2d(&folder, &format!("pretrain --resume --device wgpu --threads 1 --steps 12 --out {kind}")).done();
        assert!(state(&run) == state(&folder.join("straight")), "{kind}: other weights or moments");
    }
    ledger::ran("wgpu", "runs whose GPU is lost at a wait and at a submission, resumed to the same bits");
}

/// A loss before the first step, while weights are uploaded.
#[test]
fn a_gpu_that_is_lost_at_once_ends_in_one_sentence() {
    let folder = empty("lost-at-once");
    let Some(driver) = StandIn::new(&folder) else { return };
    for kind in ["STAND_IN_WAITS", "STAND_IN_SUBMISSIONS"] {
        let line = "bench step --device wgpu --preset micro --batch 2 --warmup 0 --steps 1";
        driver.run(line, &[(kind, 0)]).refused(&["the GPU was lost"]);
    }
}
