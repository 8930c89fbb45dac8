//! Products on tensor cores: whole numbers, of which every product and every sum is exact in f32, so that a result is right
//! or wrong to the last bit; in tiles, slices and shapes that no case of an op has.

use g2d::base::Rng;
use g2d::cuda::driver::Address;
use g2d::ops::linear::Epilogue;
use g2d::ops::linear::matmul::{Addresses, Cut, Form, Product, Tile};
use g2d::ops::linear::wgmma;
use g2d::program::{KernelCall, Misfit};
use half::bf16;
use proptest::prelude::*;

use super::device::{Device, cases, catch, each_is_needed};

const SYMBOL: &str = "matmul_mma_bf16_128x128_sm80";

/// More than any result, and a bf16.
const UNWRITTEN: f32 = 131072.0;

/// Which kernel, and how it cuts the product.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Mma(Cut),
    /// With so many blocks a slice at most.
    Wgmma(wgmma::Cut, u32),
}

#[derive(Clone, Debug)]
pub struct Case {
    pub product: Product,
    pub by: By,
    pub half: bool,
    pub bias: bool,
    /// Whether the product is added to what is there.
    pub add: bool,
    /// Rows of a that are there, if not all of them are.
    pub extent: Option<usize>,
    pub draw: u64,
}

/// The operands of a case, row by row as they are stored.
struct Operands {
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
    /// What is there before.
    before: Vec<f32>,
}

impl Case {
    fn operands(&self) -> Operands {
        let Product { m, n, k, .. } = self.product;
        let mut rng = Rng::new(self.draw, 0, 0);
        let mut whole = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.below(17) as f32 - 8.0).collect() };
        let (a, b, bias) = (whole(m * k), whole(k * n), whole(n));
        let before = if self.add { whole(m * n) } else { vec![UNWRITTEN; m * n] };
        Operands { a, b, bias, before }
    }

    fn workspace_bytes(&self) -> usize {
        match self.by {
            By::Mma(cut) => self.product.workspace_bytes(cut),
            By::Wgmma(cut, _) => cut.workspace_bytes(&self.product),
        }
    }

    fn calls(&self, at: Addresses) -> Result<Vec<KernelCall>, Misfit> {
        match self.by {
            By::Mma(cut) => self.product.calls(cut, self.half, at),
            By::Wgmma(cut, blocks) => {
                let mut calls = wgmma::calls(&self.product, cut, self.half, at)?;
                calls[0].grid[0] = calls[0].grid[0].min(blocks);
                Ok(calls)
            }
        }
    }

    /// The result by the definition, and what is there before where nothing may be written.
    fn expected(&self, Operands { a, b, bias, before }: &Operands) -> Vec<f32> {
        let Product { form, m, n, k } = self.product;
        let rows = if form == Form::ByWeight { m } else { self.extent.unwrap_or(m) };
        let inner = if form == Form::ByWeight { self.extent.unwrap_or(k) } else { k };
        let mut out = before.clone();
        for (i, row) in out.chunks_mut(n).enumerate().take(rows) {
            if !self.add {
                row.copy_from_slice(&if self.bias { bias.clone() } else { vec![0.0; n] });
            }
            for l in 0..inner {
                let left = if form == Form::ByWeight { a[l * m + i] } else { a[i * k + l] };
                for (j, number) in row.iter_mut().enumerate() {
                    *number += left * if form == Form::Forward { b[j * k + l] } else { b[l * n + j] };
                }
            }
        }
        out
    }

    fn kernel(&self, operands: &Operands, seed: u64, text: Option<String>) -> Result<Vec<f32>, String> {
        let device = Device::new(seed, text);
        let Product { form, m, n, k } = self.product;
        let stored = |numbers: &[f32]| numbers.iter().map(|&number| bf16::from_f32(number)).collect::<Vec<_>>();
        let (mut a, mut b) = (stored(&operands.a), stored(&operands.b));
        if let Some(extent) = self.extent {
            // What is not there is not read.
            a[extent * if form == Form::ByWeight { m } else { k }..].fill(bf16::NAN);
            if form == Form::ByWeight {
                b[extent * n..].fill(bf16::NAN);
            }
        }
        let out = if self.half { device.put(&stored(&operands.before)) } else { device.put(&operands.before) };
        let at = Addresses {
            a: device.put(&a).0,
            b: device.put(&b).0,
            bias: if self.bias { device.put(&operands.bias).0 } else { 0 },
            extent: self.extent.map_or(0, |extent| device.put(&[extent as i32]).0),
            partials: device.room(self.workspace_bytes()).0,
            out: out.0,
            epilogue: if self.add { Epilogue::Add } else { Epilogue::Store },
            before: if self.add { out.0 } else { 0 },
        };
        let calls = self.calls(at).map_err(|misfit| misfit.to_string())?;
        device.run(&calls).map_err(|error| error.to_string())?;
        let widened = |at: Address| device.get::<bf16>(at, m * n).into_iter().map(f32::from).collect();
        Ok(if self.half { widened(out) } else { device.get(out, m * n) })
    }

    pub fn check(&self, seed: u64, text: Option<String>) -> Result<(), String> {
        let operands = self.operands();
        let mut expected = self.expected(&operands);
        if self.half {
            expected.iter_mut().for_each(|number| *number = bf16::from_f32(*number).to_f32());
        }
        let got = self.kernel(&operands, seed, text)?;
        match (0..got.len()).find(|&at| got[at] != expected[at]) {
            Some(at) => {
                let (row, column) = (at / self.product.n, at % self.product.n);
                Err(format!("{} instead of {} in row {row}, column {column} of {self:?}", got[at], expected[at]))
            }
            None => Ok(()),
        }
    }
}

pub fn forms() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Forward), Just(Form::ByInput), Just(Form::ByWeight)]
}

/// Up to three tiles along each side, and up to six stages of the inner extent.
fn any_case() -> impl Strategy<Value = Case> {
    let sides = (1..200usize, 1..200usize, prop_oneof![1..9usize, 1..200usize]);
    let cut = (prop_oneof![Just(Tile::Large), Just(Tile::Small)], 1..7usize);
    let rest = (any::<bool>(), any::<bool>(), prop::option::of(0.0..1.0), any::<u64>());
    (forms(), sides, cut, rest).prop_map(|(form, (m, n, k), (tile, steps), rest)| {
        let (m, n, k) = match form {
            Form::Forward => (m, n, k.next_multiple_of(8)),
            Form::ByInput => (m, n.next_multiple_of(8), k.next_multiple_of(8)),
            Form::ByWeight => (m.next_multiple_of(8), n.next_multiple_of(8), k),
        };
        drawn(Product { form, m, n, k }, [32, steps], rest, |slice| By::Mma(Cut { tile, slice }))
    })
}

/// What any case draws besides the product and its cut: bf16, a bias or something to add to, the part of the rows that is there,
/// numbers.
pub type Rest = (bool, bool, Option<f64>, u64);

/// A case of a product whose slices, where it comes in any, are `steps` times `step`.
pub fn drawn(product: Product, [step, steps]: [usize; 2], rest: Rest, by: impl FnOnce(usize) -> By) -> Case {
    let (half, bias, extent, draw) = rest;
    let Product { form, m, k, .. } = product;
    // Only the gradient of a weight comes in slices, and is f32 without bias.
    let by_weight = form == Form::ByWeight;
    let by = by(if by_weight { step * steps } else { k.next_multiple_of(step) });
    let rows = if by_weight { k } else { m };
    let extent = extent.map(|share| (share * (rows + 1) as f64) as usize);
    // Gradients by an input alone are added, in bf16 and without bias.
    let add = bias && half && form == Form::ByInput;
    Case { product, by, half: half && !by_weight, bias: bias && !by_weight && !add, add, extent, draw }
}

proptest! {
    #![proptest_config(cases(96))]
    #[test]
    fn products_are_exact(case in any_case(), seed: u64) {
        if let Err(why) = case.check(seed, None) {
            prop_assert!(false, "{}", why);
        }
    }
}

/// Products on which every part of the kernels matters: ragged, of more than one warp, of more turns than stages.
fn telling() -> Vec<Case> {
    let case = |tile, form, [m, n, k]: [usize; 3], slice, extent| {
        let by_weight = form == Form::ByWeight;
        let product = Product { form, m, n, k };
        Case {
            product,
            by: By::Mma(Cut { tile, slice }),
            half: !by_weight,
            bias: form == Form::Forward,
            add: form == Form::ByInput,
            extent,
            draw: 3,
        }
    };
    let of = |tile, m, n| {
        [
            case(tile, Form::Forward, [m + 3, n - 3, 232], 256, Some(m - 5)),
            case(tile, Form::ByInput, [m - 1, n + 8, 200], 224, None),
            case(tile, Form::ByWeight, [m, n, 421], 224, Some(411)),
            // Of the last tile's columns less than half are there; of the slices only the first has rows.
            case(tile, Form::Forward, [20, n + 21, 40], 64, None),
            case(tile, Form::ByWeight, [m, n, 421], 224, Some(100)),
        ]
    };
    [of(Tile::Large, 120, 128), of(Tile::Small, 64, 56)].concat()
}

fn check_all(cases: &[Case], text: Option<String>) -> Result<(), String> {
    cases.iter().try_for_each(|case| case.check(1, text.clone()))
}

#[test]
fn faults_are_found() {
    let cases = telling();
    let faults = [
        ("@a_by_k min.u32 k, k, flag", "@a_by_k mov.u32 flag, flag"),
        ("@!a_by_k min.u32 m, m, flag", ""),
        ("selp.u32 a_limit1, limit, 0, p", "mov.u32 a_limit1, limit"),
        ("selp.u32 b_limit0, limit, 0, p", "mov.u32 b_limit0, limit"),
        ("sub.u32 limit, limit, 16", ""),
        ("xor.b32 pa11, pa01, 32", "mov.u32 pa11, pa01"),
        ("xor.b32 pb11, pb01, 32", "add.u32 pb11, pb01, 32"),
        ("setp.lt.s32 there, at, b_limit1", "setp.le.s32 there, at, b_limit1"),
        ("setp.lt.u32 inside, column, n", "setp.le.u32 inside, column, n"),
        ("add.rn.f32 value, value, bias", ""),
        ("setp.ge.u32 p, row, m", "setp.gt.u32 p, row, m"),
        ("cvt.rn.bf16.f32 rounded, value", "cvt.rz.bf16.f32 rounded, value"),
        ("add.rn.f32 value, before, value", ""),
        ("add.u32 done, done, 64", ""),
        ("mul.wide.u32 wide, n, 16", "mul.wide.u32 wide, n, 8"),
        ("setp.lt.u32 there, line, m", "setp.le.u32 there, line, m"),
        ("sub.u32 slices, slices, 1", "mov.u32 slices, 0"),
        (
            "{c60, c61, c62, c63}, {a30, a31, a32, a33}, {b12, b13}",
            "{c60, c61, c62, c63}, {a30, a31, a32, a33}, {b10, b13}",
        ),
    ];
    catch(SYMBOL, &faults, |text| check_all(&cases, text));
}

#[test]
fn every_barrier_wait_and_commit_is_needed() {
    let cases = telling();
    let statements = [
        "bar.sync 0;",
        "bar.warp.sync 0xffffffff;",
        "cp.async.commit_group;",
        "cp.async.wait_group 1;",
        "cp.async.wait_group 2;",
        "cp.async.wait_all;",
    ];
    let found = each_is_needed(SYMBOL, &statements, |text| check_all(&cases, text));
    assert_eq!(found, 16, "two kernels of two barriers, two for a warp, two commits and two waits each");
}
