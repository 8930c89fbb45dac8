//! Boxes: their overlap, suppression of doubles, average precision as COCO computes it and by the published protocol.

use std::collections::BTreeMap;

use super::Undefined;

/// A rectangle by its edges, in pixels; x to the right, y down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rectangle {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rectangle {
    /// The rectangle between these edges. Undefined if it is inverted or not finite; it may be empty.
    pub fn new(left: f64, top: f64, right: f64, bottom: f64) -> Result<Self, Undefined> {
        let upright = left <= right && top <= bottom;
        let fine = upright && [left, top, right, bottom].iter().all(|edge| edge.is_finite());
        if fine { Ok(Self { left, top, right, bottom }) } else { Err(Undefined::Inverted) }
    }

    /// Left, upper, right and lower edge.
    pub fn edges(&self) -> [f64; 4] {
        [self.left, self.top, self.right, self.bottom]
    }

    fn area(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// The common area over that of the union; 0 if nothing is in common.
    pub fn iou(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if width <= 0.0 || height <= 0.0 {
            return 0.0;
        }
        let both = width * height;
        both / (self.area() + other.area() - both)
    }
}

/// A rectangle that a model found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Where.
    pub place: Rectangle,
    /// How sure the model is.
    pub score: f64,
    /// What.
    pub class: usize,
}

/// A rectangle that was labelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Where.
    pub place: Rectangle,
    /// What.
    pub class: usize,
}

/// Suppression of doubles: going from the highest score down, a detection is dropped if its IoU with a kept one of its
/// class is above `most`. Returns the kept ones' numbers, the highest score first, as torchvision's `batched_nms` does;
/// of equal scores the first comes first.
///
/// The published detection pipeline drops at IoU = `most` already and measures rectangles one pixel larger.
pub fn suppress(detections: &[Detection], most: f64) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for at in by_score(detections) {
        let one = &detections[at];
        let double = |&other: &usize| {
            let other = &detections[other];
            other.class == one.class && other.place.iou(&one.place) > most
        };
        if !kept.iter().any(double) {
            kept.push(at);
        }
    }
    kept
}

fn by_score(detections: &[Detection]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..detections.len()).collect();
    order.sort_by(|&a, &b| detections[b].score.total_cmp(&detections[a].score));
    order
}

/// COCO's IoU thresholds .50:.95:.05, to the last bit as pycocotools computes them.
pub const COCO: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95];
/// The published protocol's (MGCA).
pub const PUBLISHED: [f64; 8] = [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75];
/// Detections of one class that count in an image: those with the highest scores.
const MOST: usize = 100;

/// One class in one image.
#[derive(Clone, Debug, Default, PartialEq)]
struct Matched {
    /// Scores of the detections, the highest first.
    scores: Vec<f64>,
    /// For each threshold, which of them found a truth.
    hits: Vec<Vec<bool>>,
    /// Labelled rectangles.
    truths: usize,
}

/// One image, its detections assigned to its truths.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    classes: BTreeMap<usize, Matched>,
    thresholds: usize,
    has_both: bool,
}

impl Image {
    /// Assigns as COCO does: from the highest score down, each of at most 100 detections of a class takes the truth of
    /// that class with the highest IoU, at least the threshold, that is not yet taken (of equal ones the last), for
    /// each of `thresholds` ([`COCO`], [`PUBLISHED`]) anew. Rectangles of any size count.
    pub fn new(detections: &[Detection], truths: &[Truth], thresholds: &[f64]) -> Result<Self, Undefined> {
        if let Some(at) = detections.iter().position(|one| !one.score.is_finite()) {
            return Err(Undefined::NotFinite(at));
        }
        let order = by_score(detections);
        let found = detections.iter().map(|one| one.class);
        let mut classes: BTreeMap<usize, Matched> =
            found.chain(truths.iter().map(|truth| truth.class)).map(|class| (class, Matched::default())).collect();
        for (&class, matched) in &mut classes {
            let detections = order.iter().map(|&at| &detections[at]).filter(|one| one.class == class).take(MOST);
            let detections: Vec<&Detection> = detections.collect();
            let truths: Vec<&Truth> = truths.iter().filter(|truth| truth.class == class).collect();
            let ious: Vec<Vec<f64>> =
                detections.iter().map(|one| truths.iter().map(|truth| one.place.iou(&truth.place)).collect()).collect();
            matched.scores = detections.iter().map(|one| one.score).collect();
            matched.hits = thresholds.iter().map(|&least| assign(&ious, truths.len(), least)).collect();
            matched.truths = truths.len();
        }
        let has_both = !detections.is_empty() && !truths.is_empty();
        Ok(Self { classes, thresholds: thresholds.len(), has_both })
    }

    /// Whether the published protocol counts the image. It leaves out images without detections, together with what
    /// should have been found in them, and images without truths, together with what was found in them by mistake.
    pub fn is_published(&self) -> bool {
        self.has_both
    }
}

/// Which detections take a truth; `ious` is [detections, truths], the highest score first.
fn assign(ious: &[Vec<f64>], truths: usize, least: f64) -> Vec<bool> {
    let mut taken = vec![false; truths];
    let mut hit = |ious: &Vec<f64>| {
        let free = (0..truths).filter(|&truth| !taken[truth] && ious[truth] >= least);
        let best = free.max_by(|&a, &b| ious[a].total_cmp(&ious[b])); // of equal ones the last
        best.inspect(|&truth| taken[truth] = true).is_some()
    };
    ious.iter().map(&mut hit).collect()
}

/// Average precision at each threshold that the images were made with: the mean over classes with truths of COCO's
/// area under the curve, read at recall 0, 0.01 ... 1. Their mean over [`COCO`] is mAP, the first of them AP50; over
/// [`PUBLISHED`] and images that are [published](Image::is_published) it is the published figure.
///
/// Undefined without truths.
pub fn average_precisions(images: &[&Image]) -> Result<Vec<f64>, Undefined> {
    let thresholds = images.first().ok_or(Undefined::Empty)?.thresholds;
    if let Some(other) = images.iter().find(|image| image.thresholds != thresholds) {
        return Err(Undefined::Length { found: other.thresholds, expected: thresholds });
    }
    let mut classes: BTreeMap<usize, Vec<&Matched>> = BTreeMap::new();
    for (&class, matched) in images.iter().flat_map(|image| &image.classes) {
        classes.entry(class).or_default().push(matched);
    }
    classes.retain(|_, images| images.iter().any(|image| image.truths > 0));
    if classes.is_empty() {
        return Err(Undefined::NoPositives);
    }
    let mut sums = vec![0.0; thresholds];
    for images in classes.values() {
        let truths: usize = images.iter().map(|image| image.truths).sum();
        let numbered = images.iter().enumerate();
        let mut order: Vec<(usize, usize)> =
            numbered.flat_map(|(at, image)| (0..image.scores.len()).map(move |one| (at, one))).collect();
        order.sort_by(|a, b| images[b.0].scores[b.1].total_cmp(&images[a.0].scores[a.1]));
        for (threshold, sum) in sums.iter_mut().enumerate() {
            *sum += interpolated(order.iter().map(|&(at, one)| images[at].hits[threshold][one]), truths);
        }
    }
    Ok(sums.iter().map(|sum| sum / classes.len() as f64).collect())
}

/// The mean of precision at recall 0, 0.01 ... 1, at each the best reached at that recall or a higher one. `hits` are
/// all detections, the highest score first.
fn interpolated(hits: impl Iterator<Item = bool>, truths: usize) -> f64 {
    let mut found = 0;
    let mut curve: Vec<(f64, f64)> = hits
        .enumerate()
        .map(|(before, hit)| {
            found += usize::from(hit);
            (found as f64 / truths as f64, found as f64 / (before + 1) as f64)
        })
        .collect();
    for at in (1..curve.len()).rev() {
        curve[at - 1].1 = curve[at - 1].1.max(curve[at].1);
    }
    let precision =
        |recall: f64| curve.get(curve.partition_point(|point| point.0 < recall)).map_or(0.0, |point| point.1);
    (0..=100).map(|percent| precision(f64::from(percent) * 0.01)).sum::<f64>() / 101.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rectangle(left: f64, top: f64, right: f64, bottom: f64) -> Rectangle {
        Rectangle::new(left, top, right, bottom).unwrap()
    }

    /// A detection of class 0, ten high, from `left` to `right`.
    fn found(left: f64, right: f64, score: f64) -> Detection {
        Detection { place: rectangle(left, 0.0, right, 10.0), score, class: 0 }
    }

    fn labelled(left: f64, right: f64) -> Truth {
        Truth { place: rectangle(left, 0.0, right, 10.0), class: 0 }
    }

    fn precisions(images: &[(&[Detection], &[Truth])]) -> Result<Vec<f64>, Undefined> {
        let images: Vec<Image> =
            images.iter().map(|(found, truths)| Image::new(found, truths, &COCO)).collect::<Result<_, _>>()?;
        average_precisions(&images.iter().collect::<Vec<_>>())
    }

    #[test]
    fn overlap_by_hand() {
        let one = rectangle(0.0, 0.0, 4.0, 2.0);
        assert_eq!(one.iou(&rectangle(2.0, 1.0, 6.0, 3.0)), 2.0 / 14.0);
        assert_eq!(one.iou(&one), 1.0);
        assert_eq!(one.iou(&rectangle(4.0, 0.0, 5.0, 2.0)), 0.0);
        let empty = rectangle(1.0, 1.0, 1.0, 1.0);
        assert_eq!((one.iou(&empty), empty.iou(&empty)), (0.0, 0.0));
        for [left, top, right, bottom] in [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, f64::NAN, 1.0]] {
            assert_eq!(Rectangle::new(left, top, right, bottom), Err(Undefined::Inverted));
        }
        assert_eq!(Rectangle::new(0.0, 0.0, f64::INFINITY, 1.0), Err(Undefined::Inverted));
    }

    #[test]
    fn doubles_are_suppressed_within_their_class() {
        let mut detections = [found(0.0, 10.0, 0.5), found(0.0, 9.0, 0.9), found(5.0, 15.0, 0.7), found(0.0, 9.0, 0.9)];
        assert_eq!(suppress(&detections, 0.5), [1, 2]);
        assert_eq!(suppress(&detections, 0.9), [1, 2, 0]); // an IoU of exactly 0.9 is not above it
        detections[0].class = 1;
        assert_eq!(suppress(&detections, 0.5), [1, 2, 0]);
        assert_eq!(suppress(&[], 0.5), [0; 0]);
    }

    #[test]
    fn precision_by_hand() {
        let all = [labelled(0.0, 10.0), labelled(20.0, 30.0)];
        assert_eq!(precisions(&[(&[found(0.0, 10.0, 0.9), found(20.0, 30.0, 0.8)], &all)]), Ok(vec![1.0; 10]));
        // Half is found, with one mistake before it: precision 1/2 up to recall 1/2, at 51 of 101 points.
        let half = precisions(&[(&[found(50.0, 60.0, 0.9), found(0.0, 10.0, 0.8)], &all)]).unwrap();
        assert!(half.iter().all(|value| (value - 0.5 * 51.0 / 101.0).abs() < 1e-12));
        // IoU 0.8 counts at the thresholds up to it.
        let near = precisions(&[(&[found(0.0, 8.0, 0.9)], &all[..1])]).unwrap();
        assert_eq!(near, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_truth_is_found_once() {
        let twice = precisions(&[(&[found(0.0, 10.0, 0.8), found(0.0, 10.0, 0.9)], &[labelled(0.0, 10.0)])]);
        assert_eq!(twice, Ok(vec![1.0; 10])); // the mistake comes after full recall
        let both = [labelled(0.0, 10.0), labelled(20.0, 30.0)];
        let double = precisions(&[(&[found(0.0, 10.0, 0.9), found(0.0, 10.0, 0.8), found(20.0, 30.0, 0.7)], &both)]);
        let expected = (51.0 + 50.0 * 2.0 / 3.0) / 101.0;
        assert!((double.unwrap()[0] - expected).abs() < 1e-12);
    }

    #[test]
    fn nothing_found_and_nothing_to_find() {
        assert_eq!(precisions(&[(&[], &[labelled(0.0, 1.0)])]), Ok(vec![0.0; 10]));
        assert_eq!(precisions(&[(&[found(0.0, 1.0, 0.5)], &[])]), Err(Undefined::NoPositives));
        assert_eq!(precisions(&[(&[], &[])]), Err(Undefined::NoPositives));
        assert_eq!(precisions(&[]), Err(Undefined::Empty));
        let unsure = Image::new(&[found(0.0, 1.0, f64::NAN)], &[], &COCO);
        assert_eq!(unsure, Err(Undefined::NotFinite(0)));
        let images = [Image::new(&[], &[], &COCO).unwrap(), Image::new(&[], &[], &PUBLISHED).unwrap()];
        let mixed = average_precisions(&[&images[0], &images[1]]);
        assert_eq!(mixed, Err(Undefined::Length { found: 8, expected: 10 }));
    }

    #[test]
    fn only_a_hundred_detections_count() {
        let mut detections = vec![found(50.0, 60.0, 0.9); 100];
        detections.push(found(0.0, 10.0, 0.1));
        assert_eq!(precisions(&[(&detections, &[labelled(0.0, 10.0)])]), Ok(vec![0.0; 10]));
        let last = precisions(&[(&detections[1..], &[labelled(0.0, 10.0)])]).unwrap();
        assert!((last[0] - 0.01).abs() < 1e-12);
    }

    #[test]
    fn the_published_protocol_leaves_out_one_sided_images() {
        let (one, truth) = ([found(0.0, 10.0, 0.9)], [labelled(0.0, 10.0)]);
        let images: [Image; 4] = [(&one[..], &truth[..]), (&one, &[]), (&[], &truth), (&[], &[])]
            .map(|(found, truths)| Image::new(found, truths, &PUBLISHED).unwrap());
        assert_eq!(images.each_ref().map(Image::is_published), [true, false, false, false]);
        let published: Vec<&Image> = images.iter().filter(|image| image.is_published()).collect();
        assert_eq!(average_precisions(&published), Ok(vec![1.0; 8]));
        let whole = average_precisions(&images.iter().collect::<Vec<_>>()).unwrap();
        assert!((whole[0] - 51.0 / 101.0).abs() < 1e-12); // one of two is found
    }
}
