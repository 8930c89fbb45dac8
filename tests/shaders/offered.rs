//! What not every adapter offers: which kernels plans take because of it, and that a step is the specification's with and
//! without.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use g2d::wgpu::{Adapter, adapter};

use super::common::command::{Ended, command, empty};
use super::common::fixtures::{cases, name};
use super::common::ledger;

/// The variable that lets plans use all that adapters offer, or nothing of it.
const EXTRAS: (&str, &str) = ("G2D_WGPU_EXTRAS", "1");
const PLAIN: (&str, &str) = ("G2D_WGPU_EXTRAS", "0");
/// The variable that tells lavapipe how many bits its vectors have: 32 times the threads of a subgroup.
const BITS: &str = "LP_NATIVE_VECTOR_WIDTH";
/// Ops whose sums are made by subgroups.
const OPS: [&str; 5] = ["attention_pool", "clip_loss", "finite", "layer_norm", "mask_threshold"];

/// The first adapter, if it offers subgroups; skips loudly where there is none.
fn with_subgroups(group: &str) -> Option<Adapter> {
    let found = adapter::list().into_iter().next().filter(|adapter| adapter.features.subgroups.is_some());
    if found.is_none() {
        ledger::skipped("wgpu", format!("there is no adapter that offers subgroups: {group}"), ledger::VULKAN);
    }
    found
}

/// Runs a line with some variables set.
fn with(folder: &Path, line: &str, variables: &[(&str, &str)]) -> Ended {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = command(folder, &words);
    command.envs(variables.iter().copied()).env("NODEVICE_SELECT", "1");
    Ended::of(command.output().expect("the command starts"))
}

/// Every `op/kernel` of a plan that `g2d plan` printed.
fn kernels(plan: &str) -> BTreeSet<&str> {
    let launches = plan.lines().filter(|line| line.contains(" GFLOP ") && line.contains(" -> "));
    launches.filter_map(|line| line.split_whitespace().nth(2)).collect()
}

#[test]
fn plans_take_what_the_adapter_offers_and_say_what_they_do_not() {
    let Some(adapter) = with_subgroups("no plan is compared") else { return };
    let line = "plan --device wgpu --preset micro --batch 2";
    let folder = empty("offered");
    let [offered, told] = [EXTRAS, PLAIN].map(|set| with(&folder, line, &[set]).done());
    let (offered, plain) = (kernels(&offered), kernels(&told));
    for kernel in ["layer_norm.fwd", "layer_norm.bwd", "clip_loss.bwd", "finite"] {
        let by = format!("{kernel}/subgroups");
        assert!(offered.contains(&*by), "{by} is not among {offered:?}");
        assert!(!plain.contains(&*by), "{by} is taken where nothing is offered");
        let said = format!("{by}: it needs subgroups, and G2D_WGPU_EXTRAS is 0");
        assert!(told.contains(&said), "not told: {said}");
    }
    ledger::ran("wgpu", format!("plans with and without what {} offers", adapter.name));
}

#[test]
fn a_step_with_what_the_adapter_offers_is_the_specifications_too() {
    let Some(adapter) = with_subgroups("steps are tried in one form alone") else { return };
    let folder = empty("extras");
    for case in cases() {
        let line = format!("step --case {} --device wgpu --compare --threads 1 --out", case.display());
        with(&folder, &format!("{line} offered.safetensors"), &[EXTRAS]).done();
        if name(&case) == "default" {
            with(&folder, &format!("{line} plain.safetensors"), &[PLAIN]).done();
            let read = |file: &str| fs::read(folder.join(file)).expect("the command wrote it");
            assert!(read("plain.safetensors") != read("offered.safetensors"), "the same bits, so the same kernels");
        }
    }
    ledger::ran("wgpu", format!("steps of the fixtures with all that {} offers", adapter.name));
}

#[test]
fn sums_do_not_depend_on_the_size_of_subgroups() {
    let Some(adapter) = with_subgroups("no other size is tried") else { return };
    if !adapter.name.contains("llvmpipe") {
        return ledger::skipped("lavapipe", "the first adapter has subgroups of its own size alone", ledger::VULKAN);
    }
    let folder = empty("sizes");
    let ops = OPS.map(|op| format!(" --op {op}")).concat();
    for threads in [4, 8, 16] {
        let bits = (32 * threads).to_string();
        let devices = with(&folder, "devices --json", &[(BITS, &bits), EXTRAS]).done();
        let devices: serde_json::Value = serde_json::from_str(&devices).expect("it is JSON");
        let adapters = devices["backends"].as_array().expect("a list").iter().map(|backend| &backend["adapter"]);
        let sizes: Vec<_> = adapters.filter_map(|adapter| adapter["offered"]["subgroups"].as_array()).collect();
        assert!(sizes.iter().any(|size| **size == [threads, threads]), "{BITS}={bits} makes subgroups of {sizes:?}");
        let report =
            with(&folder, &format!("verify --device wgpu --cases 3 --json{ops}"), &[(BITS, &bits), EXTRAS]).done();
        let report: serde_json::Value = serde_json::from_str(&report).expect("it is JSON");
        let kernels = report["report"]["kernels"].as_object().expect("they are listed by name");
        for op in OPS {
            let by = |name: &str| name.starts_with(op) && name.ends_with("/subgroups");
            let passed = kernels.iter().filter(|(name, _)| by(name)).filter_map(|(_, line)| line["passed"].as_u64());
            assert!(passed.sum::<u64>() > 0, "no sum by subgroups was tried for {op}: {report}");
        }
    }
    ledger::ran("wgpu", "sums by subgroups of 4, of 8 and of 16 threads");
}

#[test]
fn a_word_for_extras_that_is_not_known_is_refused() {
    if adapter::list().is_empty() {
        return ledger::skipped("wgpu", "there is no adapter whose extras could be asked for", ledger::VULKAN);
    }
    let folder = empty("words");
    for line in ["plan --device wgpu --preset micro", "verify --device wgpu --op gelu --cases 1"] {
        with(&folder, line, &[("G2D_WGPU_EXTRAS", "yes")]).refused(&["G2D_WGPU_EXTRAS is \"yes\"; set it to 0 or 1"]);
    }
}
