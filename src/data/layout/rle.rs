//! Masks as run lengths, in the form that SIIM published.

use crate::data::record::BoundingBox;

/// A run of the mask: pixels `start..start + length` of the film, counted down its columns, column after column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First pixel.
    pub start: u32,
    /// Pixels, at least 1.
    pub length: u32,
}

/// Reads `gap length gap length ...`: each gap counts from the end of the run before (the first from 0), on a frame of
/// `pixels`. Gaps and lengths, not starts, and columns, not rows: the published form, unlike most others.
///
/// # Errors
/// In words with the numbers: something that is no number, a number without its partner, an empty run, or a run that
/// ends beyond the frame.
pub fn parse(text: &str, pixels: u32) -> Result<Vec<Run>, String> {
    let number = |word: &str| word.parse::<u32>().map_err(|_| format!("{word:.20?} is not a number"));
    let numbers = text.split_whitespace().map(number).collect::<Result<Vec<u32>, String>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    if let [alone] = rest {
        return Err(format!("the run lengths end with {alone}, which has no partner"));
    }
    let mut runs = Vec::with_capacity(pairs.len());
    let mut end = 0u64;
    for (at, &[gap, length]) in pairs.iter().enumerate() {
        let start = end + u64::from(gap);
        end = start + u64::from(length);
        if length == 0 || end > u64::from(pixels) {
            let place = format!("run {} ({gap} {length}) covers pixels {start} to {end}", at + 1);
            return Err(format!("{place}, of {pixels}; starts must count from the end of the run before"));
        }
        runs.push(Run { start: start as u32, length });
    }
    Ok(runs)
}

/// The runs of filled boxes on a frame (width, height), in whole pixels.
pub(super) fn of_boxes(boxes: &[BoundingBox], frame: (u32, u32)) -> Vec<Run> {
    let within = |from: f32, length: f32, most: u32| {
        let end = (from + length).round().clamp(0.0, most as f32) as u32;
        (from.round().clamp(0.0, most as f32) as u32, end)
    };
    let columns = boxes.iter().flat_map(|one| {
        let ((left, right), (top, bottom)) = (within(one.x, one.w, frame.0), within(one.y, one.h, frame.1));
        (left..right).map(move |column| Run { start: column * frame.1 + top, length: bottom - top })
    });
    columns.filter(|run| run.length > 0).collect()
}

/// The mask [height, width] of a film of this shape, 255 within the runs, which were measured on a frame of another
/// size; nearest neighbour. Both are (width, height), at least 1.
pub(in crate::data) fn paint(runs: &[Run], frame: (usize, usize), shape: (usize, usize)) -> Vec<u8> {
    let mut covered = vec![0u8; frame.0 * frame.1];
    for run in runs {
        let from = (run.start as usize).min(covered.len());
        let to = (from + run.length as usize).min(covered.len());
        covered[from..to].fill(255);
    }
    let source = |at: usize, of: usize, length: usize| (2 * at + 1) * length / (2 * of);
    let value = |y: usize, x: usize| covered[source(x, shape.0, frame.0) * frame.1 + source(y, shape.1, frame.1)];
    (0..shape.1).flat_map(|y| (0..shape.0).map(move |x| (y, x))).map(|(y, x)| value(y, x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_down_columns_and_gaps_count_from_the_run_before() {
        // A frame of 3 x 4: pixels 1, 2 of the first column, then, 3 further, pixels 1, 2 of the second.
        let runs = parse("1 2 2 2", 12).unwrap();
        assert_eq!(runs, [Run { start: 1, length: 2 }, Run { start: 5, length: 2 }]);
        let painted = paint(&runs, (3, 4), (3, 4));
        assert_eq!(painted, [0, 0, 0, 255, 255, 0, 255, 255, 0, 0, 0, 0]);
        // Twice the size: each pixel four times.
        let twice = paint(&runs, (3, 4), (6, 8));
        assert!((0..48).all(|at| twice[at] == painted[at / 6 / 2 * 3 + at % 6 / 2]));
    }

    #[test]
    fn boxes_are_filled() {
        let one = |x, y, w, h| BoundingBox { label: String::new(), x, y, w, h };
        let painted = paint(&of_boxes(&[one(1.0, 2.0, 2.0, 1.0), one(-3.0, 3.0, 4.0, 9.0)], (3, 4)), (3, 4), (3, 4));
        assert_eq!(painted, [0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 0, 0]);
    }

    #[test]
    fn what_overruns_or_is_no_number_is_refused_with_its_numbers() {
        for (text, words) in [
            ("1 2 9 1", &["run 2 (9 1)", "12 to 13, of 12"][..]),
            ("4294967295 4294967295", &["8589934590"]),
            ("1 2 3", &["3", "no partner"]),
            ("1 x", &["\"x\" is not a number"]),
            ("-1 4", &["\"-1\""]),
            ("2 0", &["run 1 (2 0)"]),
        ] {
            let error = parse(text, 12).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
        assert_eq!(parse("11 1", 12).unwrap(), [Run { start: 11, length: 1 }]);
    }
}
