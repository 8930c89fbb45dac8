//! Runs whose GPU is lost on the way: one sentence, nothing lost that was saved, and the same bits once they are resumed.

use std::fs;
use std::path::Path;

use g2d::checkpoint::folder;
use g2d::wgpu::adapter;

use super::common::command::{Ended, command, empty, g2d};
use super::common::ledger;

const TRAIN: &str = "pretrain --device wgpu --data shards --preset micro --batch 2 --steps 12 --set checkpoint_every=2 --set \
                     validate_every=100 --threads 1 --out";

/// Runs a line on a GPU that is lost behind so many submissions.
fn losing(folder: &Path, line: &str, submissions: u64) -> Ended {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = command(folder, &words);
    // Without the layer of Mesa that prints a line of its own where XDG_RUNTIME_DIR is not set.
    command.env("G2D_LOSE_GPU", submissions.to_string()).env("NODEVICE_SELECT", "1");
    Ended::of(command.output().expect("the command starts"))
}

/// Weights and moments behind the last step.
fn state(run: &Path) -> [Vec<u8>; 2] {
    let last = run.join("checkpoints/step-00000012");
    [folder::WEIGHTS, folder::MOMENTS].map(|file| fs::read(last.join(file)).expect("the run has come to its end"))
}

#[test]
fn a_run_whose_gpu_is_lost_keeps_its_checkpoint_and_ends_in_the_same_bits() {
    if adapter::list().is_empty() {
        return ledger::skipped("wgpu", "there is no adapter: none is lost", ledger::VULKAN);
    }
    let folder = empty("lost");
    g2d(&folder, "phantom --count 30 --seed 7 --out drawn").done();
    g2d(&folder, "pack --pairs drawn/pairs.csv --size 64 --out shards").done();
    g2d(&folder, &format!("{TRAIN} straight")).done();
    let plan = g2d(&folder, "plan --device wgpu --preset micro --batch 2 --json").done();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    // The first step submits every launch by itself and each later one some ten times, the validation before them fewer than
    // a hundred times: that ends the run in the middle.
    let submissions = plan["launches"].as_u64().unwrap() + 130;
    losing(&folder, &format!("{TRAIN} run"), submissions)
        .refused(&["the GPU was lost", "resumed from its last checkpoint"]);
    let run = folder.join("run");
    let checkpoints = folder::list(&run).unwrap();
    assert!(!checkpoints.is_empty(), "it was lost before the first checkpoint");
    assert!(!run.join("checkpoints/step-00000012").exists(), "it was lost behind its last step");
    for checkpoint in &checkpoints {
        folder::verify(checkpoint).unwrap_or_else(|error| panic!("{error}"));
    }
    g2d(&folder, "pretrain --resume --device wgpu --threads 1 --steps 12 --out run").done();
    assert!(state(&run) == state(&folder.join("straight")), "other weights or moments");
    ledger::ran("wgpu", format!("a run lost behind {submissions} submissions, resumed to the same bits"));
}
