//! Convolutions on Hopper's tensor cores: whole numbers, of which every product and every sum is exact in f32, so that a result is
//! right or wrong to the last bit; in shapes that no case of the op has, with fewer blocks than tiles.

use g2d::base::{DType, Kind, Rng, Spec};
use g2d::cuda::driver::Address;
use g2d::ops::Op;
use g2d::ops::conv2d::{Conv2d, IM2COL, Pass, Source};
use g2d::program::{Case, DeviceBuffer, DeviceIo};
use g2d::verify::cases::{Data, flat};
use g2d::verify::compare::Storage;
use half::bf16;
use proptest::prelude::*;

use super::device::{Device, cases, library};

/// Schedules on which copies take effect early, and late.
const SEEDS: [u64; 2] = [1, 3];

/// More than any result, and a bf16.
const UNWRITTEN: f32 = 131072.0;

/// A convolution with the extents of what it is of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Its pass's extents are set by [`Shape::case`].
    pub conv: Conv2d,
    /// Of x.
    pub extents: [usize; 4],
    /// Channels of the skip connection.
    pub skip: usize,
    /// Channels of y.
    pub outputs: usize,
    /// Which kernel.
    pub kernel: &'static str,
    /// Blocks of a slice at most, where tensor maps are read.
    pub blocks: u32,
}

impl Shape {
    fn case(&self) -> Case<Op> {
        let rng = &mut Rng::new(7, 0, 0);
        let mut whole = |case: Case<Conv2d>, spec: Spec| {
            let numbers = (0..spec.shape.elements()).map(|_| rng.below(5) as f64 - 2.0).collect();
            case.numbers(spec, numbers)
        };
        let [batch, height, width, channels] = self.extents;
        let Conv2d { kernel, stride, padding, .. } = self.conv;
        let scale = if self.conv.source == Source::Plain { 1 } else { 2 };
        let windows = |side: usize| (scale * side + 2 * padding - kernel) / stride + 1;
        let x = Spec::activation(self.extents);
        let skip = Spec::activation([batch, 2 * height, 2 * width, self.skip]);
        let weights = Spec::activation([self.outputs, kernel, kernel, channels + self.skip]);
        let dy = Spec::activation([batch, windows(height), windows(width), self.outputs]);
        let images = |case, whole: &mut dyn FnMut(Case<Conv2d>, Spec) -> Case<Conv2d>| {
            let case = whole(case, x);
            if self.skip > 0 { whole(case, skip) } else { case }
        };
        let case = match self.conv.pass {
            Pass::Fwd => {
                let case = images(Case::new(self.conv), &mut whole);
                let case = whole(case, weights);
                if self.conv.bias { whole(case, Spec::exact([self.outputs])) } else { case }
            }
            Pass::Dgrad { .. } => {
                let pass = Pass::Dgrad { height, width, channels };
                let case = whole(Case::new(Conv2d { pass, bias: false, ..self.conv }), dy);
                let case = whole(case, weights);
                if self.conv.add { whole(case, Spec { kind: self.conv.output, ..x }) } else { case }
            }
            Pass::Wgrad => {
                let case = whole(Case::new(Conv2d { bias: false, output: Kind::Exact, ..self.conv }), dy);
                images(case, &mut whole)
            }
        };
        case.map(Op::from)
    }

    /// Whether the kernel gives what the definition does, if `text` takes the place of the one that ships.
    pub fn check(&self, seed: u64, text: Option<String>) -> Result<(), String> {
        let case = self.case();
        let expected = flat::<f64>(&case, &|io| case.op.reference(io), Storage::F64)?;
        let device = Device::new(seed, text);
        let stored = |spec: Spec| if spec.kind == Kind::Exact { DType::F32 } else { DType::Bf16 };
        let put = |numbers: &[f64], dtype| match dtype {
            DType::F32 => device.put(&numbers.iter().map(|&number| number as f32).collect::<Vec<_>>()),
            _ => device.put(&numbers.iter().map(|&number| bf16::from_f64(number)).collect::<Vec<_>>()),
        };
        let buffer = |spec: Spec, numbers: &[f64]| {
            let dtype = stored(spec);
            DeviceBuffer { spec, dtype, address: put(numbers, dtype).0 }
        };
        let inputs = case.inputs.iter().map(|(spec, data)| {
            let Data::Numbers(numbers) = Data::<f64>::of(data) else { unreachable!("all are real numbers") };
            buffer(*spec, &numbers)
        });
        let inputs: Vec<DeviceBuffer> = inputs.collect();
        let poison = |(spec, numbers): &(Spec, Vec<f64>)| buffer(*spec, &vec![f64::from(UNWRITTEN); numbers.len()]);
        // What is added to lies where the sums go.
        let before = self.conv.add.then(|| DeviceBuffer { spec: expected[0].0, ..inputs[2] });
        let outputs: Vec<DeviceBuffer> =
            before.map_or_else(|| expected.iter().map(poison).collect(), |before| vec![before]);
        let asked = |room| {
            let mut io = DeviceIo::new(inputs.clone(), outputs.clone(), room, 0);
            case.op.run_cuda(self.kernel, &mut io).map(|()| io.finish()).map_err(|misfit| misfit.to_string())
        };
        let mut calls = asked(device.room(asked(0)?.workspace_bytes).0)?.calls;
        calls
            .iter_mut()
            .filter(|call| !call.maps.is_empty())
            .for_each(|call| call.grid[0] = call.grid[0].min(self.blocks));
        device.run(&calls).map_err(|error| error.to_string())?;
        for ((spec, expected), out) in expected.iter().zip(&outputs) {
            let at = Address(out.address);
            let got: Vec<f64> = match out.dtype {
                DType::F32 => device.get::<f32>(at, expected.len()).into_iter().map(f64::from).collect(),
                _ => device.get::<bf16>(at, expected.len()).into_iter().map(f64::from).collect(),
            };
            let rounded = |number: f64| if out.dtype == DType::F32 { number } else { bf16::from_f64(number).to_f64() };
            if let Some(at) = (0..got.len()).find(|&at| got[at] != rounded(expected[at])) {
                return Err(format!("{} instead of {} at {at} of {}: {self:?}", got[at], expected[at], spec.shape));
            }
        }
        Ok(())
    }
}

/// Of extents that [`Shape`] has.
pub fn dgrad() -> Pass {
    Pass::Dgrad { height: 0, width: 0, channels: 0 }
}

/// Up to three tiles along a side, and up to six turns of a stage; what is too large to be computed by the definition is made
/// smaller.
fn any_shape() -> impl Strategy<Value = Shape> {
    let passes = prop_oneof![Just(Pass::Fwd), Just(dgrad()), Just(Pass::Wgrad)];
    let windows = (1..5usize, 1..4usize, any::<prop::sample::Index>(), 0..4usize);
    let eights = |most: usize| (1..=most / 8).prop_map(|eights| 8 * eights);
    let depths = (eights(136), eights(136), prop_oneof![3 => eights(72), 1 => eights(280)]);
    let rest = (1..4usize, 1..20usize, 1..20usize, any::<bool>(), any::<bool>(), (1..4u32, 0..3usize));
    (passes, windows, depths, rest).prop_map(|(pass, windows, (channels, skip, outputs), rest)| {
        let (kernel, stride, padding, source) = windows;
        let (batch, height, width, bias, exact, (blocks, kernel_of)) = rest;
        let doubled = source > 1;
        let source =
            [Source::Plain, Source::Plain, Source::Upsampled { skip: false }, Source::Upsampled { skip: true }][source];
        let kernel = if doubled { kernel / 2 * 2 + 1 } else { kernel };
        let (stride, padding) = if doubled { (1, kernel / 2) } else { (stride, padding.index(kernel)) };
        let skip = if source == (Source::Upsampled { skip: true }) { skip } else { 0 };
        let output = if exact { Kind::Exact } else { Kind::Activation };
        let add = bias && !exact && pass == dgrad() && source == Source::Plain;
        let conv = Conv2d { pass, kernel, stride, padding, source, bias, output, add };
        let (height, width) = (height.max(kernel), width.max(kernel));
        let small = if doubled { 2 } else { 1 };
        let extents = [batch, height / small + 1, width / small + 1, channels];
        let products = |extents: [usize; 4]| {
            extents[..3].iter().product::<usize>() * small * small / stride / stride
                * kernel
                * kernel
                * (channels + skip)
                * outputs
        };
        let (channels, outputs) =
            if products(extents) > 1 << 24 { (channels.min(72), outputs.min(72)) } else { (channels, outputs) };
        Shape {
            conv,
            extents: [extents[0], extents[1], extents[2], channels],
            skip,
            outputs,
            kernel: IM2COL[kernel_of],
            blocks,
        }
    })
}

proptest! {
    #![proptest_config(cases(48))]
    #[test]
    fn convolutions_are_exact(shape in any_shape(), seed: u64) {
        if let Err(why) = shape.check(seed, None) {
            prop_assert!(false, "{}", why);
        }
    }
}

/// For each of the nine kernels a shape on which every part of it matters: ragged, of more turns than stages, of several tiles to a
/// block, in slices.
fn telling() -> Vec<(String, Shape)> {
    let plain = Conv2d::fwd(3);
    let doubled = plain.upsampled(true);
    let [dgrad, wgrad] = [dgrad(), Pass::Wgrad].map(|pass| move |conv: Conv2d| Conv2d { pass, ..conv });
    let shape = |width: usize, conv: Conv2d, extents, skip, outputs| {
        let kernel = IM2COL[[256, 128, 64].iter().position(|of| *of == width).expect("a width")];
        let pass = case_name(conv.pass);
        (format!("conv2d_{pass}_bf16_128x{width}_sm90a"), Shape { conv, extents, skip, outputs, kernel, blocks: 1 })
    };
    vec![
        shape(64, plain.bias(), [2, 9, 8, 72], 0, 40),
        shape(128, doubled, [3, 7, 7, 16], 72, 104),
        shape(256, plain.output(Kind::Exact).stride(2), [2, 19, 18, 8], 0, 264),
        shape(64, Conv2d { add: true, ..dgrad(plain.stride(2)) }, [2, 18, 17, 40], 0, 72),
        shape(128, dgrad(doubled), [2, 9, 8, 104], 104, 8),
        shape(256, Conv2d { add: true, ..dgrad(plain) }, [1, 13, 12, 264], 0, 16),
        shape(64, wgrad(doubled), [3, 12, 11, 8], 72, 16),
        shape(128, wgrad(plain), [2, 23, 24, 40], 0, 104),
        shape(256, wgrad(plain.stride(2)), [2, 22, 21, 8], 0, 264),
    ]
}

fn case_name(pass: Pass) -> &'static str {
    match pass {
        Pass::Fwd => "fwd",
        Pass::Dgrad { .. } => "dgrad",
        Pass::Wgrad => "wgrad",
    }
}

/// What stands in the text of each kernel, and what in its place must be noticed: a wait that does not, an arrival that is missing.
const FAULTS: [(&str, &str); 9] = [
    ("bar.sync", "//"),
    ("bar.warp.sync", "//"),
    ("fence.mbarrier_init", "//"),
    ("wgmma.fence.sync", "//"),
    ("wgmma.commit_group", "//"),
    ("wgmma.wait_group", "//"),
    ("mbarrier.try_wait.parity.shared::cta.b64 p,", "setp.eq.u32 p, 0, 0; //"),
    ("mbarrier.arrive.shared::cta.b64", "//"),
    ("b, adds, 1, 1", "b, 1, 1, 1"),
];

/// The text with the `nth` occurrence of `from` in that kernel replaced; `None` if there are fewer.
pub(super) fn tampered(symbol: &str, from: &str, nth: usize, to: &str) -> Option<String> {
    let library = library();
    let (module, _) = library.find(symbol).expect("it ships");
    let begin = module.ptx.find(&format!(".entry {symbol}"))?;
    let end = module.ptx[begin + 1..].find(".entry ").map_or(module.ptx.len(), |next| begin + 1 + next);
    let (at, _) = module.ptx[begin..end].match_indices(from).nth(nth)?;
    let (before, behind) = module.ptx.split_at(begin + at);
    Some(format!("{before}{to}{}", &behind[from.len()..]))
}

/// Panics unless every kernel is right, and each fault in its text is noticed, wherever it is put.
pub fn faults_are_noticed(telling: Vec<(String, Shape)>, faults: &[(&str, &str)]) {
    for (symbol, shape) in telling {
        SEEDS.iter().for_each(|&seed| shape.check(seed, None).unwrap_or_else(|why| panic!("{symbol}: {why}")));
        for (from, to) in faults {
            let mut found = 0;
            while let Some(text) = tampered(&symbol, from, found, to) {
                let noticed = SEEDS.iter().any(|&seed| shape.check(seed, Some(text.clone())).is_err());
                assert!(noticed, "{symbol}: `{from}` number {found} can be `{to}` unnoticed");
                found += 1;
            }
            assert!(found > 0, "{symbol} has no `{from}`");
        }
    }
}

#[test]
fn every_barrier_wait_and_arrival_is_needed() {
    faults_are_noticed(telling(), &FAULTS);
}
