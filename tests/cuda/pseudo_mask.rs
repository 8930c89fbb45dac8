//! The pseudo mask: bit for bit the f32 reference, in both forms of the quantile; and against f64, where a pixel may
//! differ only if its score lies beside the cut.

use g2d::base::{Number, Real, Rng, Shape};
use g2d::ops::pseudo_mask::cuda::{self, Buffers, Form};
use g2d::ops::pseudo_mask::{Bilateral, Compare, PseudoMask, Upsample};
use g2d::program::host::{HostInput, HostOutput};
use g2d::program::{HostIo, Operation};
use proptest::prelude::*;

use super::device::{Device, cases, catch, tampered};

const SYMBOL: &str = "pseudo_mask_select_f32_sm80";

/// What the scores look like.
#[derive(Clone, Copy, Debug)]
enum Map {
    /// Anything in [0, 1).
    Attention,
    /// Both signs, many magnitudes, zeros of both signs.
    Wild,
    /// A few multiples of a quarter: ties, and sums without rounding.
    Coarse,
    /// One number.
    Constant,
    /// Anything, and one NaN.
    Nan,
    /// Anything, and one infinity.
    Infinite,
}

#[derive(Clone, Debug)]
struct Case {
    op: PseudoMask,
    shape: [usize; 4],
    map: Vec<f32>,
    body: Vec<u8>,
    threshold: Vec<f32>,
}

impl Case {
    fn new(op: PseudoMask, shape: [usize; 4], kind: Map, body: f64, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 1, 0);
        let constant = rng.uniform(-1.0, 1.0);
        let draw = |rng: &mut Rng| match kind {
            Map::Coarse => rng.below(5) as f64 / 4.0 - 0.5,
            Map::Constant => constant,
            Map::Wild => rng.normal() * *rng.pick(&[1.0, 1e10, 1e-30, 0.0, -0.0]),
            Map::Attention | Map::Nan | Map::Infinite => rng.unit(),
        };
        let mut map: Vec<f32> = (0..shape.iter().product()).map(|_| draw(&mut rng) as f32).collect();
        let at = rng.below(map.len());
        match kind {
            Map::Nan => map[at] = f32::NAN,
            Map::Infinite => map[at] = f32::INFINITY,
            _ => {}
        }
        let pixels = shape[0] * op.height * op.width;
        // Bytes other than 0 and 1 are body as well.
        let body = (0..pixels).map(|_| if rng.chance(body) { 1 + rng.below(255) as u8 } else { 0 }).collect();
        let drawn = |rng: &mut Rng| if let Map::Nan = kind { f64::NAN } else { draw(rng) };
        let threshold = (0..shape[0]).map(|_| drawn(&mut rng) as f32).collect();
        Self { op, shape, map, body, threshold }
    }

    /// The mask by the op's reference, in the type `N`.
    fn reference<N: Number>(&self) -> Vec<N> {
        let map: Vec<N> = self.map.iter().map(|&number| N::of(f64::from(number))).collect();
        let plane = Shape::from([self.shape[0], self.op.height, self.op.width]);
        let mut mask = vec![N::of(f64::NAN); plane.elements()];
        let mut inputs = vec![(self.shape.into(), HostInput::Numbers(&map[..]))];
        if self.op.body {
            inputs.push((plane, HostInput::Bytes(&self.body)));
        }
        let threshold: Vec<N> = self.threshold.iter().map(|&number| N::of(f64::from(number))).collect();
        if self.op.given {
            inputs.push(([threshold.len()].into(), HostInput::Numbers(&threshold)));
        }
        self.op.reference(&mut HostIo::new(inputs, vec![(plane, HostOutput::Numbers(&mut mask[..]))]));
        mask
    }

    /// The mask by the kernels.
    fn kernel(&self, form: Form, seed: u64, text: Option<String>) -> Result<Vec<f32>, String> {
        let device = Device::new(seed, text);
        let bytes = cuda::workspace_bytes(&self.op, self.shape.into()).map_err(|misfit| misfit.to_string())?;
        let pixels = self.body.len();
        let (map, body) = (device.put(&self.map), device.put(&self.body));
        let (bits, mask) = (device.room(bytes), device.poison(pixels));
        let threshold = device.put(&self.threshold).0;
        let body = if self.op.body { body.0 } else { 0 };
        let at = Buffers { map: map.0, body, threshold, bits: bits.0, mask: mask.0 };
        let calls = cuda::calls(&self.op, self.shape.into(), form, at).map_err(|misfit| misfit.to_string())?;
        device.run(&calls).map_err(|error| error.to_string())?;
        Ok(device.get(mask, pixels))
    }

    /// The forms that can do this op.
    fn forms(&self) -> Vec<Form> {
        let counted = self.op.upsample == Upsample::Nearest && self.shape[2] * self.shape[3] <= 64;
        if counted { vec![Form::Counting, Form::Radix] } else { vec![Form::Radix] }
    }

    fn check(&self, seed: u64, text: &Option<String>) -> Result<(), String> {
        let (plain, truth) = (self.reference::<f32>(), self.reference::<f64>());
        for form in self.forms() {
            let got = self.kernel(form, seed, text.clone())?;
            let here = |why: String| format!("{form:?}, {:?} of {:?}: {why}", self.op, self.shape);
            if let Some(at) = (0..got.len()).find(|&at| got[at].to_bits() != plain[at].to_bits()) {
                return Err(here(format!("{} at {at}, the f32 reference has {}", got[at], plain[at])));
            }
            self.near(&truth, &got).map_err(here)?;
        }
        Ok(())
    }

    /// Whether a mask is the f64 one, but for pixels whose score lies beside the cut and what is smoothed with them.
    fn near(&self, truth: &[f64], got: &[f32]) -> Result<(), String> {
        let (height, width) = (self.op.height, self.op.width);
        let radius = self.op.smooth.map_or(0, |filter| filter.diameter / 2);
        for image in 0..self.shape[0] {
            let beside = self.beside_the_cut((image + self.op.shift) % self.shape[0]);
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let at = (image * height + y) * width + x;
                let rows = y.saturating_sub(radius)..(y + radius + 1).min(height);
                let columns = x.saturating_sub(radius)..(x + radius + 1).min(width);
                let doubtful = rows.flat_map(|y| columns.clone().map(move |x| y * width + x)).any(|at| beside[at]);
                let ok = (f64::from(got[at]) - truth[at]).abs() <= 1e-5 || doubtful;
                if !ok {
                    return Err(format!("{} at {at}, the f64 reference has {}", got[at], truth[at]));
                }
            }
        }
        Ok(())
    }

    /// Which scores of an image are within f32's rounding of the cut, by the textbook in f64: the mean over the heads,
    /// the upsampled plane, sorted, the quantile between two of them.
    fn beside_the_cut(&self, image: usize) -> Vec<bool> {
        let [_, heads, rows, columns] = self.shape;
        let (op, cells) = (&self.op, rows * columns);
        let mean = |cell: usize| {
            let of = |head: usize| f64::from(self.map[(image * heads + head) * cells + cell]);
            (0..heads).map(of).sum::<f64>() / heads as f64
        };
        let magnitude = |head: usize, cell: usize| f64::from(self.map[(image * heads + head) * cells + cell]).abs();
        let largest = (0..heads).flat_map(|head| (0..cells).map(move |cell| magnitude(head, cell))).fold(0.0, f64::max);
        let along = |pixel: usize, pixels: usize, cells: usize| {
            let source = ((pixel as f64 + 0.5) * cells as f64 / pixels as f64 - 0.5).clamp(0.0, cells as f64 - 1.0);
            (source as usize, (source as usize + 1).min(cells - 1), source.fract())
        };
        let score = |y: usize, x: usize| {
            let inside = !op.body || self.body[(image * op.height + y) * op.width + x] != 0;
            let value = match op.upsample {
                Upsample::Nearest => mean(y * rows / op.height * columns + x * columns / op.width),
                Upsample::Bilinear => {
                    let ((top, bottom, down), (left, right, across)) =
                        (along(y, op.height, rows), along(x, op.width, columns));
                    let pair =
                        |row: usize| mean(row * columns + left) * (1.0 - across) + mean(row * columns + right) * across;
                    pair(top) * (1.0 - down) + pair(bottom) * down
                }
            };
            value * f64::from(u8::from(inside))
        };
        let scores: Vec<f64> =
            (0..op.height).flat_map(|y| (0..op.width).map(move |x| (y, x))).map(|(y, x)| score(y, x)).collect();
        let mut sorted = scores.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = op.quantile.0 * (scores.len() - 1) as f64;
        let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        let quantile = below + rank.fract() * (above - below);
        let cut = if op.given { f64::from(self.threshold[image]) } else { quantile };
        scores.iter().map(|score| (score - cut).abs() <= 1e-5 * largest).collect()
    }
}

fn kinds() -> impl Strategy<Value = Map> {
    prop_oneof![
        3 => Just(Map::Attention), 2 => Just(Map::Wild), 3 => Just(Map::Coarse), 1 => Just(Map::Constant),
        1 => Just(Map::Nan), 1 => Just(Map::Infinite),
    ]
}

fn ops() -> impl Strategy<Value = PseudoMask> {
    let smooth = (1..16usize, 0.5..4.0, 0.3..2.0).prop_map(|(diameter, space, value)| Bilateral {
        diameter,
        sigma_space: Real(space),
        sigma_value: Real(value),
    });
    let upsample = prop_oneof![Just(Upsample::Nearest), Just(Upsample::Bilinear)];
    let compare = prop_oneof![Just(Compare::AtLeast), Just(Compare::Above)];
    let quantile = prop_oneof![Just(0.0), Just(0.5), Just(0.85), Just(1.0), 0.0..1.0];
    let sides = (1..100usize, 1..100usize);
    let given = prop_oneof![3 => Just(false), 1 => Just(true)];
    (sides, (quantile, given), upsample, compare, any::<bool>(), prop::option::of(smooth)).prop_map(
        |((height, width), (quantile, given), upsample, compare, body, smooth)| PseudoMask {
            height,
            width,
            quantile: Real(quantile),
            given,
            upsample,
            compare,
            body,
            smooth,
            shift: 0,
        },
    )
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn the_kernels_are_the_reference(
        op in ops(),
        shape in (1..3usize, 1..6usize, 1..10usize, 1..10usize),
        kind in kinds(),
        body in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        shifted: bool,
        seed: u64,
    ) {
        let op = PseudoMask { shift: if shifted { shape.0 / 2 } else { 0 }, ..op };
        let case = Case::new(op, [shape.0, shape.1, shape.2, shape.3], kind, body, seed);
        if let Err(why) = case.check(seed, &None) {
            prop_assert!(false, "{}", why);
        }
    }
}

const PUBLISHED: PseudoMask = PseudoMask {
    height: 256,
    width: 256,
    quantile: Real(0.85),
    given: false,
    upsample: Upsample::Nearest,
    compare: Compare::Above,
    body: false,
    smooth: None,
    shift: 0,
};

#[test]
fn the_published_form_marks_nine_cells() {
    let case = Case::new(PUBLISHED, [2, 4, 8, 8], Map::Attention, 1.0, 5);
    for form in [Form::Counting, Form::Radix] {
        let mask = case.kernel(form, 1, None).unwrap();
        let marked = |image: &[f32]| image.iter().filter(|&&m| m == 1.0).count();
        let marked: Vec<usize> = mask.chunks(256 * 256).map(marked).collect();
        assert_eq!(marked, [9 * 32 * 32; 2], "{form:?}");
    }
}

#[test]
fn the_form_of_the_paper_at_full_size() {
    let smooth = Bilateral { diameter: 9, sigma_space: Real(3.0), sigma_value: Real(1.0) };
    for upsample in [Upsample::Nearest, Upsample::Bilinear] {
        let op = PseudoMask { upsample, compare: Compare::AtLeast, body: true, smooth: Some(smooth), ..PUBLISHED };
        Case::new(op, [1, 4, 8, 8], Map::Attention, 0.6, 6).check(2, &None).unwrap();
    }
}

/// Planes on which every part of the kernels matters.
fn telling() -> Vec<Case> {
    let smooth = Bilateral { diameter: 7, sigma_space: Real(1.5), sigma_value: Real(0.8) };
    let op =
        PseudoMask { height: 45, width: 90, compare: Compare::AtLeast, body: true, smooth: Some(smooth), ..PUBLISHED };
    let bilinear = PseudoMask { upsample: Upsample::Bilinear, ..op };
    let cases = [
        (op, [2, 3, 8, 7], Map::Attention, 0.7),
        (op, [1, 1, 8, 8], Map::Coarse, 0.9),
        (op, [1, 2, 4, 4], Map::Nan, 0.9),
        (op, [1, 1, 3, 3], Map::Infinite, 0.5),
        (bilinear, [2, 3, 8, 7], Map::Attention, 0.7),
        (bilinear, [1, 3, 5, 6], Map::Wild, 1.0),
        (PseudoMask { height: 20, quantile: Real(0.3), ..bilinear }, [1, 2, 6, 6], Map::Wild, 1.0),
        (PseudoMask { body: false, smooth: None, quantile: Real(0.999), ..bilinear }, [1, 1, 45, 33], Map::Wild, 1.0),
        (PseudoMask { height: 8, width: 8, body: false, ..op }, [1, 1, 8, 8], Map::Attention, 1.0),
        (PseudoMask { height: 8, width: 8, body: false, quantile: Real(0.7), ..op }, [1, 1, 8, 8], Map::Attention, 1.0),
        (PseudoMask { body: false, ..op }, [1, 1, 3, 3], Map::Infinite, 1.0),
        (PseudoMask { body: false, ..op }, [1, 1, 3, 3], Map::Nan, 1.0),
        // Most cells have no pixel, so neither has the NaN.
        (PseudoMask { height: 3, width: 3, body: false, ..op }, [1, 1, 8, 8], Map::Nan, 1.0),
        // Outside of the outermost centres scores are equal but for roundings, and the cut falls among them.
        (PseudoMask { quantile: Real(0.97), ..bilinear }, [1, 3, 2, 2], Map::Attention, 1.0),
        (PseudoMask { height: 20, quantile: Real(0.97), ..bilinear }, [1, 3, 2, 2], Map::Attention, 1.0),
        (PseudoMask { compare: Compare::Above, quantile: Real(0.25), ..op }, [1, 1, 2, 2], Map::Constant, 0.8),
        (PseudoMask { given: true, shift: 2, ..op }, [3, 2, 5, 5], Map::Attention, 0.7),
    ];
    let build = |(seed, (op, shape, kind, body))| Case::new(op, shape, kind, body, seed as u64);
    cases.into_iter().enumerate().map(build).collect()
}

fn check_all(cases: &[Case], text: &Option<String>) -> Result<(), String> {
    (1..3).try_for_each(|seed| cases.iter().try_for_each(|case| case.check(seed, text)))
}

#[test]
fn faults_are_found() {
    let cases = telling();
    let faults = [
        ("add.rn.f32 total, total, value", "mov.f32 total, value"),
        ("ld.param.f32 factor, [select+56]", "mov.f32 factor, 0f00000000"),
        ("and.pred p, p, q;", ""),
        ("setp.lt.and.u32 p, j, tid, p", "setp.le.and.u32 p, j, tid, p"),
        ("setp.lt.or.f32 p, score, own, p", "setp.le.or.f32 p, score, own, p"),
        ("setp.lt.and.u32 p, below, end, p", "setp.le.and.u32 p, below, end, p"),
        ("or.pred bad, bad, p;\n    setp.nan.f32 p, value, value", "setp.nan.f32 p, value, value"),
        ("selp.u32 shift, 10, 0, p", "selp.u32 shift, 9, 0, p"),
        ("and.b32 digit, digit, 2047", "and.b32 digit, digit, 1023"),
        ("setp.eq.and.u32 inside, n, prefix, inside", "setp.le.and.u32 inside, n, prefix, inside"),
        ("shfl.sync.up.b32 t|p, upto, 8, 0", "shfl.sync.up.b32 t|p, upto, 4, 0"),
        ("@above_it min.u32 least, least, key", "min.u32 least, least, key"),
        ("mul.rn.f32 cut, cut, factor", "mul.rn.f32 cut, cut, cut"),
        ("selp.f32 value, high, low, from_above", "mov.f32 value, low"),
        ("popc.b32 n, peers", "mov.u32 n, 1"),
        ("setp.eq.and.u32 leads, n, 0, inside", "setp.eq.u32 leads, n, 0"),
        ("setp.ge.and.f32 p, score, cut, q", "setp.gt.and.f32 p, score, cut, q"),
        ("setp.gt.and.f32 p, score, cut, q", "setp.ge.and.f32 p, score, cut, q"),
        ("mov.f32 to_far, weight", "mov.f32 to_far, to_near"),
        ("max.f32 source, source, 0f00000000", "abs.f32 source, source"),
        ("fma.rn.f32 score, pair_top, to_top, score", "fma.rn.f32 score, pair_bottom, to_top, score"),
        ("fma.rn.f32 score, bl, value, score", "fma.rn.f32 score, br, value, score"),
        ("setp.le.and.s32 valid, d2, square, valid", "setp.lt.and.s32 valid, d2, square, valid"),
        ("setp.lt.u32 valid, column, width", "setp.le.u32 valid, column, width"),
        ("xor.b32 n, value, own", "and.b32 n, value, own"),
        ("selp.u32 low, before, this, near", "mov.u32 low, this"),
        ("selp.u32 high, this, after, near", "mov.u32 high, after"),
        ("ld.global.u32 before, [a+-4]", "ld.global.u32 before, [a]"),
        ("add.s32 dy, dy, 1", "add.s32 dy, dy, 2"),
        ("mad.wide.u32 a, seen, 4, threshold", "mad.wide.u32 a, image, 4, threshold"),
        ("mul.wide.u32 plane, seen, pixels", "mul.wide.u32 plane, image, pixels"),
        ("mul.wide.u32 bytes, seen, n", "mul.wide.u32 bytes, image, n"),
        ("@p sub.u32 seen, seen, n", "@p mov.u32 seen, 1"),
    ];
    catch(SYMBOL, &faults, |text| check_all(&cases, &text));
}

#[test]
fn every_barrier_is_needed() {
    let cases = telling();
    check_all(&cases, &None).expect("the kernels that ship pass");
    let mut barriers = 0;
    // A barrier that also asks for NaNs keeps asking, thread by thread.
    for (barrier, asks) in [("bar.sync 0;", ""), ("bar.red.or.pred bad, 0, bad;", "or.pred bad, bad, bad;")] {
        for nth in 0.. {
            let Some(text) = tampered(SYMBOL, barrier, nth, asks) else { break };
            assert!(check_all(&cases, &Some(text)).is_err(), "{barrier} number {nth} can be left out unnoticed");
            barriers += 1;
        }
    }
    assert_eq!(barriers, 9, "barriers in the text");
}
