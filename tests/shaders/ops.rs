//! Every op of the registry that has WGSL kernels, every kind of its cases, many shapes: each kernel on the first adapter
//! against the reference.
//!
//! `G2D_OPS=conv2d,linear` tries only these.

use g2d::base::Rng;
use g2d::kernels::Library;
use g2d::model::batch::{Source, TextBatch};
use g2d::model::config::{Config, RECIPES};
use g2d::ops::Op;
use g2d::ops::conv2d::Conv2d;
use g2d::program::{Operation, Size};
use g2d::train::Device;
use g2d::train::session::{Films, Options, Session};
use g2d::verify::cases::Expected;
use g2d::verify::compare::Storage;
use g2d::verify::device::{Failure, planned, run};
use g2d::verify::shadow::repeated;
use g2d::verify::suite::Suite;
use g2d::verify::{Shaders, Spot};
use g2d::wgpu::adapter::{self, Checks};

use super::common::{cases, ledger};

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
    let passed = |kernel: &str| report.kernels.iter().any(|(name, line)| name.ends_with(kernel) && line.passed > 0);
    if only.is_empty() {
        assert_eq!(passed("/subgroups"), adapter.offered.subgroups.is_some());
        assert_eq!(passed("/cooperative"), adapter.offered.cooperative);
    }
    if !adapter.offered.cooperative {
        let what =
            format!("{} offers no cooperative matrices of f32: shaders with them are validated, not run", adapter.name);
        ledger::skipped("cooperative", what, "G2D_WGPU_EXTRAS=1 and an adapter that has them, as Apple's by Metal");
    }
    let (kernels, entries) = (report.kernels.len(), report.entries.len());
    ledger::ran("wgpu", format!("{kernels} kernels of ops ({entries} entries) on {}", adapter.name));
}

/// Shaders on the first adapter, each with and without what wgpu adds to them; `None` where there is none.
fn with_and_without_checks(group: &str) -> Option<[Shaders; 2]> {
    if adapter::list().is_empty() {
        ledger::skipped("wgpu", format!("there is no adapter: {group} without checks are not tried"), ledger::VULKAN);
        return None;
    }
    Some(
        [Checks::On, Checks::Off]
            .map(|checks| Shaders::new(adapter::open(0, checks).expect("an adapter that is listed opens"))),
    )
}

/// The image gradient of a 7x7 kernel whose 19 320 numbers, each summed product by product in f32, have one that is off by
/// 3.44e-6, where 3.30e-6 is allowed: sums must be more exact than that.
#[test]
fn products_are_summed_more_exactly_than_one_by_one() {
    let Some([mut target, _]) = with_and_without_checks("sums of products") else { return };
    let draw = |at: u64| {
        let size = Size { batch: 3, side: 4, channels: 115, extra: 4 };
        planned(Conv2d::case(12, &size, &mut Rng::new(3_503_418_384 + at, 461, 0)).map(Op::from), Storage::F32)
    };
    let (case, expected) = (draw(0), Expected::new(draw, Storage::F32).expect("the definition takes it"));
    for &kernel in case.op.wgsl() {
        let got = run(&mut target, &case, kernel, Storage::F32).unwrap_or_else(|failure| panic!("{kernel}: {failure}"));
        expected.accepts(&got).unwrap_or_else(|what| panic!("{kernel}: {what}"));
    }
}

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn kernels_give_the_same_bits_without_the_checks_that_wgpu_adds() {
    let Some(mut targets) = with_and_without_checks("kernels") else { return };
    let sizes = [
        cases::COMFORTABLE,
        Size { batch: 1, side: 1, channels: 1, extra: 1 },
        Size { batch: 3, side: 11, channels: 70, extra: 9 },
    ];
    let mut kernels = 0;
    for (position, variant) in cases::registry() {
        for (draw, &size) in sizes.iter().enumerate() {
            let spot = Spot { subject: position.into(), variant, size, draw: draw as u64, storage: Storage::F32 };
            let case = spot.case();
            for &kernel in case.op.wgsl() {
                let bits = targets.each_mut().map(|target| match run(target, &case, kernel, spot.storage) {
                    Ok(outputs) => outputs.into_iter().map(|(_, numbers)| bits(&numbers)).collect(),
                    Err(Failure::Refused(_)) => Vec::new(),
                    Err(failure) => panic!("{kernel} of {}: {failure}", cases::describe(&case)),
                });
                assert!(bits[0] == bits[1], "{kernel} of {}", cases::describe(&case));
                kernels += usize::from(!bits[0].is_empty());
            }
        }
    }
    assert!(kernels > 0, "every kernel was refused");
    ledger::ran("wgpu", format!("{kernels} kernels and shapes with and without checks, the same bits"));
}

#[test]
fn a_step_in_guarded_memory_without_checks_gives_the_same_bits() {
    let Some([_, mut unchecked]) = with_and_without_checks("steps") else { return };
    for recipe in RECIPES {
        let config = Config { warmup_steps: 0, ..Config::preset("micro").unwrap() }.with_recipe(recipe).unwrap();
        let options =
            Options { source: Source::Numbers, device: Device::Wgpu(0), ..Options::new(config.clone(), 3, 8) };
        let mut session = Session::open(options).unwrap();
        let pixels = 3 * config.image_size * config.image_size;
        let films: Vec<f32> = (0..pixels).map(|at| 0.5 + 0.4 * (at as f32 / 37.0).sin()).collect();
        let text = TextBatch::pack(&[2, 5, 3, 2, 9, 8, 3, 2, 3], &[3, 4, 2], 8, &config).unwrap();
        session.step(Films::Numbers(&films), &text, 1e-3).unwrap();
        let launches = repeated(&mut session, &mut unchecked).unwrap_or_else(|what| panic!("recipe {recipe}: {what}"));
        ledger::ran("wgpu", format!("a step of {recipe}: {launches} launches in guarded memory without checks"));
    }
}
