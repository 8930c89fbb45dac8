//! What random cases do not reach: the quantile by counting, on planes with ties and without.

use super::cpu::counted_quantile;
use super::{Compare, PseudoMask, Upsample};
use crate::base::{Real, Rng};

#[test]
fn counting_gives_the_quantile_of_the_sorted_plane() {
    for draw in 0..200 {
        let mut rng = Rng::new(5, 0, draw);
        let values: Vec<f64> = (0..1 + rng.below(9)).map(|_| rng.below(6) as f64 / 7.0).collect();
        let counted: Vec<(f64, usize)> = values.iter().map(|&value| (value, 1 + rng.below(40))).collect();
        let mut plane: Vec<f64> = counted.iter().flat_map(|&(value, count)| vec![value; count]).collect();
        plane.sort_by(f64::total_cmp);
        let quantile = *rng.pick(&[0.0, 0.5, 0.85, 1.0, 0.31]);
        let op = PseudoMask {
            height: 1,
            width: plane.len(),
            quantile: Real(quantile),
            given: false,
            upsample: Upsample::Nearest,
            compare: Compare::AtLeast,
            body: false,
            smooth: None,
            shift: 0,
        };
        let rank = quantile * (plane.len() - 1) as f64;
        let (below, above) = (plane[rank.floor() as usize], plane[rank.ceil() as usize]);
        let cut = counted_quantile(&op, counted).unwrap();
        if below == above {
            assert_eq!(cut, below, "draw {draw}: equal order statistics are the cut");
        } else {
            let wanted = below + rank.fract() * (above - below);
            assert!((cut - wanted).abs() <= 1e-15, "draw {draw}: {cut} is not {wanted}");
        }
    }
}

#[test]
fn a_score_that_is_no_number_has_no_quantile() {
    let op = PseudoMask {
        height: 1,
        width: 3,
        quantile: Real(0.5),
        given: false,
        upsample: Upsample::Nearest,
        compare: Compare::AtLeast,
        body: false,
        smooth: None,
        shift: 0,
    };
    assert_eq!(counted_quantile(&op, vec![(f64::NAN, 1), (0.5, 2)]), None);
    assert_eq!(counted_quantile(&op, vec![(0.25, 1), (0.5, 2)]), Some(0.5));
}
