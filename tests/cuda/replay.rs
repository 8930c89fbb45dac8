//! Where in its plan a launch failed: not told by a graph, but launch by launch.

use std::sync::Arc;

use g2d::cuda::Replay;
use g2d::cuda::driver::emulated::{Emulated, Options};
use g2d::cuda::replay::ReplayError;
use g2d::kernels::{Architecture, Library};
use g2d::model::batch::{Reports, Shapes, Source};
use g2d::model::config::Config;
use g2d::program::{Checked, Kernels, Precision};
use g2d::train::session::step_plan;

/// A step of the smallest preset.
fn step() -> Arc<Checked> {
    let shapes = Shapes { batch: 2, text_len: 8, source: Source::Bytes };
    let config = Config { warmup_steps: 0, ..Config::preset("micro").unwrap() };
    let kernels = Kernels::Cuda(Architecture::default());
    Arc::new(step_plan(&config, &shapes, Reports::Tokens, Precision::Exact, kernels).unwrap())
}

/// A device that gives up a launch of more than so many warp instructions stands for one on which a launch fails.
#[test]
fn a_launch_that_fails_in_a_graph_is_found_launch_by_launch() {
    let plan = step();
    let device = Arc::new(Emulated::default());
    let mut replay = Replay::open(device.clone(), Library::shipped(), std::slice::from_ref(&plan)).unwrap();
    let mut longest = 0;
    for at in 0..plan.launches.len() {
        replay.run(&plan, at).unwrap();
        longest = longest.max(device.counters().total_instructions());
    }
    replay.replay(&plan, false).unwrap();
    device.set_options(Options { limit: Some(longest - 1), ..Options::default() });
    let graph = replay.replay(&plan, false).unwrap_err();
    assert!(matches!(graph, ReplayError::Graph { .. }), "{graph}");
    assert!(graph.to_string().contains("run again with --replay to find the launch"), "{graph}");
    let found = replay.replay(&plan, true).unwrap_err();
    let ReplayError::Launch { at, .. } = &found else { panic!("{found}") };
    let launch = &plan.launches[*at];
    let place = format!("launch {at} of the plan ({}, {} by {})", launch.scope, launch.op.name(), launch.kernel);
    assert!(found.to_string().starts_with(&place), "{found}");
    assert!(found.to_string().contains("kernel `"), "{found}");
}

/// Rows of what stays on the device fill an input; what lies behind the table is refused.
#[test]
fn rows_are_taken_from_what_stays_on_the_device() {
    let plan = step();
    let mut replay =
        Replay::open(Arc::new(Emulated::default()), Library::shipped(), std::slice::from_ref(&plan)).unwrap();
    let pixels = *plan.input("pixels").unwrap();
    let film = pixels.bytes() / 2;
    assert!(replay.gather(&pixels, &[0, 0]).is_err(), "there is no table");
    replay.reserve_table(3 * film as u64).unwrap();
    for at in 0..3u8 {
        replay.write_table(u64::from(at) * film as u64, &vec![10 + at; film]).unwrap();
    }
    replay.gather(&pixels, &[2, 0]).unwrap();
    let first_and_last = |replay: &Replay| {
        let held = replay.read(&pixels).unwrap();
        [held[0], held[film - 1], held[film], held[2 * film - 1]]
    };
    assert_eq!(first_and_last(&replay), [12.0, 12.0, 10.0, 10.0]);
    replay.ahead(true);
    replay.gather(&pixels, &[1, 1]).unwrap();
    replay.ahead(false);
    assert_eq!(first_and_last(&replay), [12.0, 12.0, 10.0, 10.0], "they have not landed");
    replay.land().unwrap();
    assert_eq!(first_and_last(&replay), [11.0; 4]);
    let beyond = replay.gather(&pixels, &[0, 3]).unwrap_err().to_string();
    assert!(beyond.contains(&format!("no {film} bytes at byte {}", 3 * film)), "{beyond}");
    assert!(replay.write_table(1, &vec![0; 3 * film]).is_err());
}
