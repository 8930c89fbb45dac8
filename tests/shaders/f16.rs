//! What f16 would make of the numbers that a step multiplies: why no shader stores it (benches/NOTES.md).

use std::collections::BTreeMap;

use g2d::bench::step::{Stepper, Work};
use g2d::model::config::Config;
use g2d::program::Precision;
use g2d::train::Device;
use half::f16;

use super::common::ledger;

/// Numbers of a kind, none of them zero, and what becomes of them.
#[derive(Default, Debug)]
struct Kept {
    numbers: usize,
    /// Come out as zero.
    vanish: usize,
    /// Come out as infinite.
    overflow: usize,
    /// Come out as another number.
    change: usize,
}

impl Kept {
    fn take(&mut self, number: f64) {
        if number == 0.0 {
            return;
        }
        let stored = f16::from_f64(number).to_f64();
        self.numbers += 1;
        self.vanish += usize::from(stored == 0.0);
        self.overflow += usize::from(stored.is_infinite());
        self.change += usize::from(stored != number);
    }

    fn percent(&self, of: usize) -> f64 {
        100.0 * of as f64 / self.numbers as f64
    }
}

/// Gradients of an untrained `small`, 8 pairs, in the fourth step, as `mixed` stores them; and what its forward pass multiplies.
#[test]
fn gradients_leave_the_range_of_f16_and_forward_operands_do_not() {
    let work = Work {
        config: Config { warmup_steps: 0, ..Config::preset("small").unwrap() },
        batch: 8,
        text_length: 64,
        real_tokens: None,
        precision: Precision::Mixed,
        device: Device::Cpu,
        threads: 0,
        launch_by_launch: false,
    };
    let mut stepper = Stepper::open(&work).unwrap();
    for _ in 0..4 {
        stepper.step().unwrap();
    }
    let session = stepper.session();
    let plan = session.step_plan();
    let mut kept: BTreeMap<&str, Kept> = BTreeMap::new();
    let look = &mut |taken: g2d::train::session::Taken| {
        let name = plan.launches[taken.at].op.name();
        let (kind, of) = match name {
            "conv2d.fwd" | "linear.fwd" | "attention.fwd" => ("forward operands", &taken.inputs[..2]),
            "conv2d.dgrad" | "linear.dgrad" | "conv2d.wgrad" | "linear.wgrad" => ("gradients", &taken.inputs[..1]),
            _ => return,
        };
        of.iter().flatten().for_each(|&number| kept.entry(kind).or_default().take(number));
    };
    session.watch(look).unwrap();
    for (kind, kept) in &kept {
        let share = [kept.vanish, kept.change, kept.overflow].map(|of| kept.percent(of));
        println!(
            "{kind}: {} numbers, in f16 {:.3} % vanish, {:.3} % change, {:.3} % overflow",
            kept.numbers, share[0], share[1], share[2]
        );
    }
    let (forward, gradients) = (&kept["forward operands"], &kept["gradients"]);
    assert!(gradients.percent(gradients.vanish) > 1.0, "{gradients:?}");
    assert!(forward.overflow == 0 && forward.percent(forward.vanish) < 0.1, "{forward:?}");
    ledger::ran("f16", "its range against the operands of a step");
}
