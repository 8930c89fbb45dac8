//! Runs whose GPU is lost on the way: one sentence, nothing lost that was saved, and the same bits once they are resumed.

use std::fs;
use std::path::Path;

use g2d::checkpoint::folder;
use g2d::wgpu::adapter;

use super::common::command::{Ended, command, empty, g2d};
use super::common::ledger;

const TRAIN: &str = "pretrain --device wgpu --data shards --preset micro --batch 2 --steps 6 --set checkpoint_every=2 --set \
                     validate_every=100 --threads 1 --out";

/// Runs a line on a GPU that is lost behind so many submissions.
fn losing(folder: &Path, line: &str, submissions: u64) -> Ended {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = command(folder, &words);
    command.env("G2D_LOSE_GPU", submissions.to_string());
    Ended::of(command.output().expect("the command starts"))
}

/// Weights and moments behind the last step.
fn state(run: &Path) -> [Vec<u8>; 2] {
    let last = run.join("checkpoints/step-00000006");
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
    let run = folder.join("run");
    // Ever later, until there is a checkpoint to go on from.
    let mut submissions = 256;
    while folder::newest(&run).ok().flatten().is_none() {
        let _ = fs::remove_dir_all(&run);
        let ended = losing(&folder, &format!("{TRAIN} run"), submissions);
        ended.refused(&["the GPU was lost", "resumed from its last checkpoint"]);
        submissions += submissions / 2;
    }
    let checkpoints = folder::list(&run).unwrap();
    for checkpoint in &checkpoints {
        folder::verify(checkpoint).unwrap_or_else(|error| panic!("{error}"));
    }
    g2d(&folder, "pretrain --resume --device wgpu --threads 1 --steps 6 --out run").done();
    assert!(state(&run) == state(&folder.join("straight")), "other weights or moments");
    let saved = checkpoints.len();
    ledger::ran(
        "wgpu",
        format!("a run lost behind {submissions} submissions and {saved} checkpoints, resumed to the same bits"),
    );
}
