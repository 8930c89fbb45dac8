//! Counted bytes over floor bytes for every launch of `full` at 256 pairs: what its CUDA kernels move, without a GPU.

use g2d::bench::counters::roofline::Chip;
use g2d::bench::counters::{Work, plan, run};
use g2d::kernels::{Architecture, Library};
use g2d::model::batch::Reports;
use g2d::model::config::Config;
use g2d::program::Precision;

fn main() {
    // With --test everything runs once, as criterion has it: then a small plan will do.
    let test = std::env::args().any(|argument| argument == "--test");
    let (preset, batch) = if test { ("micro", 2) } else { ("full", 256) };
    let config = Config::preset(preset).and_then(|config| config.with_recipe("official")).expect("a preset");
    let work = Work {
        batch,
        text_length: config.max_positions.min(256),
        config: Config { warmup_steps: 0, ..config },
        reports: Reports::Tokens,
        precision: Precision::Mixed,
        chip: Chip::of("h200").expect("it is known"),
        architecture: Architecture::Sm80,
    };
    let plan = plan(&work).expect("a preset has a plan");
    let report = run(&work, &plan, &Library::shipped(), &|_, _| {}).expect("what ships can be counted");
    println!(
        "counted bytes over floor of every launch of {preset}, {batch} pairs (emulated device, nothing is timed):"
    );
    for line in &report.lines {
        let over = |bytes: u64| bytes as f64 / line.floor_bytes.max(1) as f64;
        println!(
            "{:3}x {:30} floor {:9.2} MB, device memory {:6.2} of it, L1 {:7.2}  {}",
            line.launches.len(),
            format!("{}/{}", line.op, line.kernel),
            line.floor_bytes as f64 / 1e6,
            over(line.sum(|call| call.device_bytes)),
            over(line.sum(|call| 32 * call.sectors)),
            line.scope(),
        );
    }
    let totals = &report.totals;
    let over = totals.device_bytes as f64 / totals.floor_bytes as f64;
    println!(
        "all {} launches: floor {:.1} GB, device memory {over:.2} of it",
        totals.launches,
        totals.floor_bytes as f64 / 1e9
    );
    for step in &totals.predicted {
        println!("{}: predicted {:.0} samples/s, floor {:.0}", step.chip, step.samples_per_s, step.floor_samples_per_s);
    }
}
