//! What random cases do not reach: cells that are all equal, not finite or in clusters whose threshold is known.

use super::reference::find;
use super::{Aggregation, MaskThreshold, Rule};
use crate::base::Shape;
use crate::program::host::{HostInput, HostOutput};
use crate::program::{HostIo, Operation};

#[test]
fn equal_cells_are_their_own_threshold() {
    for rule in [Rule::Mean, Rule::Gmm] {
        assert_eq!(find(rule, &[0.1f32; 7]), 0.1);
        assert_eq!(find(rule, &[0.3f64]), 0.3);
        assert_eq!(find(rule, &[1e-30f32, 2e-30]), 1.5e-30, "no deviation in f32");
    }
}

#[test]
fn cells_that_are_no_numbers_have_no_threshold() {
    for rule in [Rule::Mean, Rule::Gmm] {
        assert!(find(rule, &[0.1, f64::NAN, 0.3]).is_nan());
        assert!(!find(rule, &[0.1f32, f32::INFINITY, 0.3]).is_finite());
    }
}

#[test]
fn two_clusters_are_parted_between_them() {
    // Of equal clusters the middle, whatever scale and offset.
    for (scale, offset) in [(1.0f64, 0.0f64), (1e-3, 0.015), (50.0, -7.0)] {
        let cells = [-1.1, -1.0, -0.9, 0.9, 1.0, 1.1].map(|z| z * scale + offset);
        let found = find(Rule::Gmm, &cells);
        assert!((found - offset).abs() < 1e-6 * scale, "{found} instead of {offset}");
    }
    // One bright cell among 63 dim ones: they are dim at the threshold, it is not.
    let mut cells: Vec<f64> = (0..64).map(|at| f64::from(at % 7) / 100.0).collect();
    cells[11] = 1.0;
    let found = find(Rule::Gmm, &cells);
    assert!(found > 0.06 && found < 1.0, "{found}");
}

/// What scikit-learn 1.9 gives: `GaussianMixture(2, means_init=[[-1], [1]], precisions_init=[[[1]], [[1]]],
/// weights_init=[.5, .5], reg_covar=1e-3, max_iter=50, tol=0)` on the standardised cells (tests/oracle/mixture.py).
#[test]
fn scikit_learn_parts_them_at_the_same_place() {
    let skewed: Vec<f64> = (0..36).map(|at| (f64::from(at) / 9.0).exp() / 60.0).collect();
    let spread: Vec<f64> = (0..16).map(|at| f64::from(at * at % 23) / 23.0).collect();
    for (cells, wanted) in [(&skewed, SKEWED), (&spread, SPREAD)] {
        let found = find(Rule::Gmm, cells);
        assert!((found - wanted).abs() < 1e-6, "{found} instead of {wanted}");
    }
}

const SKEWED: f64 = 0.127_822_464_247_770_05;
const SPREAD: f64 = 0.435_709_152_082_614_24;

#[test]
fn a_cell_is_what_the_aggregation_says() {
    let map = [1.0, 5.0, 3.0, 2.0, f64::NAN, 4.0];
    let cells = |aggregation| {
        let op = MaskThreshold { aggregation, rule: Rule::Mean };
        let (mut cells, mut threshold) = ([0.0; 2], [0.0]);
        let outputs = vec![
            (Shape::from([1, 1, 1, 2]), HostOutput::Numbers(&mut cells[..])),
            (Shape::from([1]), HostOutput::Numbers(&mut threshold[..])),
        ];
        op.reference(&mut HostIo::new(vec![(Shape::from([1, 3, 1, 2]), HostInput::Numbers(&map[..]))], outputs));
        cells
    };
    assert_eq!(cells(Aggregation::Single { head: 1 }), [3.0, 2.0]);
    assert!(cells(Aggregation::Max)[0].is_nan() && cells(Aggregation::Max)[1] == 5.0);
    assert!(cells(Aggregation::Mean)[0].is_nan() && cells(Aggregation::Mean)[1] == 11.0 / 3.0);
}
