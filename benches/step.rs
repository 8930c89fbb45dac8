//! Whole training steps of `tiny` and `small`: 8 pairs, reports of 64 tokens.

use criterion::Throughput;
use g2d::bench::step::{Stepper, Work};
use g2d::model::config::Config;
use g2d::program::Precision;
use g2d::train::Device;

mod settings;

fn main() {
    let mut criterion = settings::criterion(5);
    let mut group = criterion.benchmark_group("step");
    for preset in ["tiny", "small"] {
        let mut stepper = Stepper::open(&Work {
            config: Config::preset(preset).expect("a preset"),
            batch: 8,
            text_length: 64,
            real_tokens: None,
            precision: Precision::Exact,
            device: Device::Cpu,
            threads: 0,
            launch_by_launch: false,
        })
        .expect("a preset can be trained");
        group.throughput(Throughput::Elements(8));
        group.bench_function(preset, |bencher| bencher.iter(|| stepper.step().expect("the numbers are finite")));
    }
    group.finish();
    criterion.final_summary();
}
