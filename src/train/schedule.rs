//! Learning rates: a pure function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the learning rate moves. Its numbers are fixed when a run starts and stand in its `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The form.
    pub kind: Kind,
    /// The horizon: the step at which `warmup-cosine` reaches the floor, and at which a run ends that is not told
    /// otherwise. Fixed in the run's manifest at its first start.
    pub steps: u64,
    /// `warmup-cosine`: steps of the linear rise from zero.
    pub warmup: u64,
    /// `cosine-restarts`: steps from one restart to the next.
    pub period: u64,
    /// The lowest learning rate.
    pub floor: f64,
}

/// The forms of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Linear rise, then half a cosine down to the floor (paper, section 4).
    WarmupCosine,
    /// Half a cosine down to the floor every `period` steps, then back (released code; torch's
    /// CosineAnnealingWarmRestarts).
    CosineRestarts,
    /// The same throughout.
    Constant,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { kind: Kind::WarmupCosine, steps: 0, warmup: 0, period: 200, floor: 1e-8 }
    }
}

impl Schedule {
    /// The released code's schedule.
    pub fn official() -> Self {
        Self { kind: Kind::CosineRestarts, ..Self::default() }
    }

    /// The learning rate of step `step` (counted from 0), where `peak` is the highest.
    pub fn learning_rate(&self, peak: f64, step: u64) -> f64 {
        let floor = self.floor.min(peak);
        let cosine = |part: f64| floor + (peak - floor) * (1.0 + (PI * part).cos()) / 2.0;
        match self.kind {
            Kind::Constant => peak,
            Kind::CosineRestarts => cosine((step % self.period.max(1)) as f64 / self.period.max(1) as f64),
            Kind::WarmupCosine if step < self.warmup => peak * (step + 1) as f64 / self.warmup as f64,
            Kind::WarmupCosine => {
                let length = self.steps.saturating_sub(self.warmup).max(1);
                cosine(((step - self.warmup) as f64 / length as f64).min(1.0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(T_0=200, eta_min=1e-8) at 2e-5.
    #[test]
    fn restarts_follow_torch() {
        let schedule = Schedule::official();
        let at = |step| schedule.learning_rate(2e-5, step);
        assert!((at(0) - 2e-5).abs() < 1e-18);
        assert!((at(100) - (1e-8 + (2e-5 - 1e-8) / 2.0)).abs() < 1e-18);
        assert!((at(199) - 1.000_123_303_3e-8).abs() < 1.3e-9, "{}", at(199));
        assert!((at(200) - 2e-5).abs() < 1e-18, "back at the peak");
        assert!((at(201) - at(1)).abs() < 1e-18);
    }

    #[test]
    fn warmup_rises_linearly_and_ends_at_the_floor() {
        let schedule = Schedule { steps: 100, warmup: 10, floor: 1e-6, ..Schedule::default() };
        assert!((schedule.learning_rate(1e-3, 0) - 1e-4).abs() < 1e-15);
        assert!((schedule.learning_rate(1e-3, 9) - 1e-3).abs() < 1e-15);
        assert!((schedule.learning_rate(1e-3, 100) - 1e-6).abs() < 1e-15);
        assert!((schedule.learning_rate(1e-3, 5000) - 1e-6).abs() < 1e-15, "and stays there");
        assert!(
            (0..99)
                .all(|step| step < 10 || schedule.learning_rate(1e-3, step) >= schedule.learning_rate(1e-3, step + 1))
        );
    }
}
