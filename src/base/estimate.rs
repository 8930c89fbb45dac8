//! A figure with its interval.

use serde::{Deserialize, Serialize};

use super::Rng;

/// Stream of the bootstrap's random numbers.
const STREAM: u32 = 0x0b00;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// A figure over films (or other units), with the 95 % interval of a percentile bootstrap over them (Efron and
/// Tibshirani 1993, chapter 13): 1000 resamples, always the same ones for the same number of units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure over all units. Runs from before wrote it as `mean`.
    #[serde(alias = "mean")]
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Units.
    pub n: usize,
}

impl Estimate {
    /// What `statistic` gives for the units 0..n, and where 95 % of what it gives for n units drawn from them with
    /// replacement lie. It is called with indices below `n`.
    ///
    /// Resamples without a value (`None` or not finite; for instance one class only) are left out: the interval is
    /// that of the others. `None` if there are no units, if all of them together have no value or if no resample
    /// has one.
    pub fn of_statistic(n: usize, statistic: impl Fn(&[usize]) -> Option<f64>) -> Option<Self> {
        if n == 0 {
            return None;
        }
        let statistic = |units: &[usize]| statistic(units).filter(|value| value.is_finite());
        let mut units: Vec<usize> = (0..n).collect();
        let value = statistic(&units)?;
        let mut resample = |at: usize| {
            let mut rng = Rng::new(n as u64, STREAM, at as u64);
            units.iter_mut().for_each(|unit| *unit = rng.below(n));
            statistic(&units)
        };
        let mut values: Vec<f64> = (0..RESAMPLES).filter_map(&mut resample).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let tail = values.len() / 40;
        Some(Self { value, low: values[tail], high: values[last - tail], n })
    }

    /// The mean of one value per unit, with its interval. `None` without values or if one of them is not finite.
    pub fn of_mean(values: &[f64]) -> Option<Self> {
        if !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mean = |units: &[usize]| Some(units.iter().map(|&unit| values[unit]).sum::<f64>() / units.len() as f64);
        Self::of_statistic(values.len(), mean)
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alternating(n: usize) -> Vec<f64> {
        (0..n).map(|at| (at % 2) as f64).collect()
    }

    #[test]
    fn intervals_hold_the_mean_and_shrink() {
        let [few, many] = [20, 2000].map(|n| Estimate::of_mean(&alternating(n)).unwrap());
        assert!(few.low < 0.5 && few.high > 0.5 && many.low < 0.5 && many.high > 0.5);
        assert!(many.high - many.low < (few.high - few.low) / 5.0);
        // The width of a normal interval is 2 x 1.96 standard errors, here 0.5 / sqrt(n).
        let normal = 2.0 * 1.96 * 0.5 / f64::sqrt(2000.0);
        assert!(((many.high - many.low) / normal - 1.0).abs() < 0.1);
    }

    #[test]
    fn the_same_units_give_the_same_interval() {
        let values = alternating(37);
        assert_eq!(Estimate::of_mean(&values), Estimate::of_mean(&values));
        assert_eq!(Estimate::of_mean(&[0.25; 5]).unwrap(), Estimate { value: 0.25, low: 0.25, high: 0.25, n: 5 });
    }

    #[test]
    fn resamples_without_a_value_are_left_out() {
        // Defined only where both units are drawn, and then always 7: half of all resamples.
        let both = |units: &[usize]| (units.contains(&0) && units.contains(&1)).then_some(7.0);
        assert_eq!(Estimate::of_statistic(2, both).unwrap(), Estimate { value: 7.0, low: 7.0, high: 7.0, n: 2 });
        let infinite = |units: &[usize]| Some(if units.contains(&0) && units.contains(&1) { 7.0 } else { f64::NAN });
        assert_eq!(Estimate::of_statistic(2, infinite), Estimate::of_statistic(2, both));
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(Estimate::of_mean(&[]), None);
        assert_eq!(Estimate::of_mean(&[1.0, f64::NAN]), None);
        assert_eq!(Estimate::of_statistic(3, |_| None), None);
        let only_all = |units: &[usize]| (units == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).then_some(1.0);
        assert_eq!(Estimate::of_statistic(10, only_all), None);
    }

    #[test]
    fn shown_with_its_interval_and_read_from_older_runs() {
        let estimate = Estimate { value: 0.207, low: 0.184, high: 0.231, n: 9 };
        assert_eq!(estimate.to_string(), "0.207 [0.184, 0.231]");
        let older = r#"{"mean":0.207,"low":0.184,"high":0.231,"n":9}"#;
        assert_eq!(serde_json::from_str::<Estimate>(older).unwrap(), estimate);
    }
}
