//! Every op of the registry that has WGSL kernels, every kind of its cases, many shapes: each kernel on the first adapter
//! against the reference.
//!
//! `G2D_OPS=conv2d,linear` tries only these.

use g2d::kernels::Library;
use g2d::train::Device;
use g2d::verify::suite::Suite;
use g2d::wgpu::adapter;

use super::common::ledger;

/// Shapes tried for each kind of case.
const SHAPES: usize = 5;

#[test]
fn kernels_agree_with_the_reference() {
    let Some(adapter) = adapter::list().into_iter().next() else {
        return ledger::skipped("wgpu", "there is no adapter: shaders are validated, not run", ledger::VULKAN);
    };
    let only = std::env::var("G2D_OPS").unwrap_or_default();
    let ops = only.split(',').filter(|op| !op.is_empty()).map(str::to_owned).collect();
    let suite = Suite { device: Device::Wgpu(0), ops, cases: SHAPES, seed: 6, library: Library::shipped() };
    let report = suite.run(&|_, _| {}).expect("the ops are known and the adapter opens");
    let failures = report.kernels.iter().filter_map(|(name, line)| Some(format!("{name}: {}", line.failure.as_ref()?)));
    let failures: Vec<String> = failures.collect();
    assert!(failures.is_empty(), "{} kernels fail on {}:\n{}", failures.len(), adapter.name, failures.join("\n"));
    assert!(report.uncovered.is_empty(), "no shader does {:?}", report.uncovered);
    assert!(report.untried.is_empty(), "no case dispatches {:?}", report.untried);
    let (kernels, entries) = (report.kernels.len(), report.entries.len());
    ledger::ran("wgpu", format!("{kernels} kernels of ops ({entries} entries) on {}", adapter.name));
}
