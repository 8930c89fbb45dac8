//! AdamW: bit for bit the f32 reference, and as near to the f64 reference as that is.

use g2d::base::{Real, Rng};
use g2d::ops::adamw::AdamW;
use g2d::ops::adamw::cuda::{self, Parameter};
use g2d::program::host::{HostInput, HostOutput};
use g2d::program::{HostIo, Operation};
use proptest::prelude::*;

use super::common::compare::{Storage, Yardstick, compare};
use super::device::{Device, cases, catch};

const SYMBOL: &str = "adamw_update_f32_sm80";

/// The numbers of one launch: for each parameter gradient, weights, moments.
#[derive(Clone)]
struct Case {
    op: AdamW,
    scalars: [f32; 3],
    finite: [f32; 2],
    parameters: Vec<[Vec<f32>; 4]>,
}

impl Case {
    fn new(sizes: &[usize], beta1: f64, gradient: bool, seed: u64) -> Self {
        let op = AdamW { beta1: Real(beta1), beta2: Real(0.999), eps: Real(1e-8), weight_decay: Real(0.05), gradient };
        let mut rng = Rng::new(seed, 0, 0);
        let step = 1 + rng.below(1000) as i32;
        let scalars = [rng.uniform(1e-5, 0.1), 1.0 - beta1.powi(step), 1.0 - 0.999f64.powi(step)].map(|n| n as f32);
        let mut draw = |count: usize, scale: f64| -> Vec<f32> {
            // Zeros and very small numbers among the others: the denominator is eps alone there.
            (0..count).map(|_| (rng.normal() * scale * *rng.pick(&[1.0, 1.0, 1e-20, 0.0])) as f32).collect()
        };
        let parameters = sizes.iter().map(|&size| {
            let seconds = draw(size, 0.01).into_iter().map(f32::abs).collect();
            [draw(size, 1.0), draw(size, 1.0), draw(size, 0.1), seconds]
        });
        Self { op, scalars, finite: [1.5, 0.0], parameters: parameters.collect() }
    }

    /// Weights and moments after the op's reference, in the type `N`.
    fn reference<N: g2d::base::Number>(&self) -> Vec<Vec<N>> {
        let wide = |numbers: &[f32]| -> Vec<N> { numbers.iter().map(|&number| N::of(f64::from(number))).collect() };
        let (scalars, finite) = (wide(&self.scalars), wide(&self.finite));
        let parts: Vec<Vec<N>> = self.parameters.iter().flatten().map(|part| wide(part)).collect();
        let mut state: Vec<Vec<N>> =
            self.parameters.iter().flat_map(|parts| &parts[1..]).map(|part| wide(part)).collect();
        let mut inputs =
            vec![([3].into(), HostInput::Numbers(&scalars[..])), ([2].into(), HostInput::Numbers(&finite[..]))];
        for (at, part) in parts.iter().enumerate().filter(|(at, _)| self.op.gradient || at % 4 != 0) {
            // What is updated in place may be read in the outputs only.
            let read = if at % 4 == 0 { &part[..] } else { &[] };
            inputs.push(([part.len()].into(), HostInput::Numbers(read)));
        }
        let outputs = state.iter_mut().map(|part| ([part.len()].into(), HostOutput::Numbers(&mut part[..]))).collect();
        self.op.reference(&mut HostIo::new(inputs, outputs));
        state
    }

    /// Weights and moments after the kernel.
    fn kernel(&self, seed: u64, text: Option<String>) -> Result<Vec<Vec<f32>>, String> {
        let device = Device::new(seed, text);
        let placed: Vec<Parameter> = (self.parameters.iter())
            .map(|[gradient, weights, first, second]| Parameter {
                gradient: if self.op.gradient { device.put(gradient).0 } else { 0 },
                weights: device.put(weights).0,
                first: device.put(first).0,
                second: device.put(second).0,
                elements: weights.len(),
            })
            .collect();
        let pieces = cuda::table(&self.op, &placed).map_err(|misfit| misfit.to_string())?;
        let (scalars, finite) = (device.put(&self.scalars), device.put(&self.finite));
        let call = cuda::call(&self.op, device.put(&pieces).0, pieces.len(), scalars.0, finite.0);
        device.run(&Vec::from_iter(call)).map_err(|error| error.to_string())?;
        let parts = placed.iter().flat_map(|at| [at.weights, at.first, at.second].map(|part| (part, at.elements)));
        Ok(parts.map(|(part, elements)| device.get(g2d::cuda::driver::Address(part), elements)).collect())
    }

    fn check(&self, seed: u64, text: Option<String>) -> Result<(), String> {
        let got = self.kernel(seed, text)?;
        let (plain, truth) = (self.reference::<f32>(), self.reference::<f64>());
        let wide = |numbers: &[f32]| -> Vec<f64> { numbers.iter().map(|&number| f64::from(number)).collect() };
        for (part, ((got, plain), truth)) in got.iter().zip(&plain).zip(&truth).enumerate() {
            let (parameter, part) = (part / 3, ["weights", "first moment", "second moment"][part % 3]);
            let here = |what: String| format!("parameter {parameter}, {part}: {what}");
            if got.is_empty() {
                continue;
            }
            compare(truth, &wide(plain), &wide(got), got.len(), Storage::F32, &Yardstick::default()).map_err(here)?;
            let same = |(got, plain): (&f32, &f32)| got.to_bits() == plain.to_bits();
            if let Some(at) = got.iter().zip(plain).position(|pair| !same(pair)) {
                return Err(here(format!("{:e} at {at}, the f32 reference has {:e}", got[at], plain[at])));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn the_kernel_is_the_reference(
        sizes in prop::collection::vec(prop_oneof![0..9usize, 1000..1100usize, 4090..4100usize, 1..9000usize], 1..4),
        beta1 in prop_oneof![Just(0.9), Just(0.5), Just(0.3)],
        gradient: bool,
        seed: u64,
    ) {
        let case = Case::new(&sizes, beta1, gradient, seed);
        if let Err(why) = case.check(seed, None) {
            prop_assert!(false, "{}", why);
        }
    }
}

#[test]
fn a_step_that_is_not_finite_is_refused() {
    for finite in [[1.0, 1.0], [1.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY, 0.0], [f32::NAN, 0.0]] {
        let case = Case { finite, ..Case::new(&[5, 1030], 0.9, true, 3) };
        let before: Vec<Vec<f32>> = case.parameters.iter().flat_map(|parts| parts[1..].to_vec()).collect();
        assert_eq!(case.kernel(1, None).unwrap(), before, "finite {finite:?}");
    }
}

#[test]
fn faults_are_found() {
    let faults = [
        ("sub.rn.f32 keep", "add.rn.f32 keep"),
        ("setp.neu.f32 refused", "setp.ne.f32 refused"),
        ("setp.geu.f32 infinite", "setp.eq.f32 infinite"),
        ("selp.f32 base, m2, g2, near", "mov.f32 base, m2"),
        ("selp.f32 factor, toward1, factor, near", "mov.f32 factor, toward1"),
        ("mul.rn.f32 v1, beta2, v1", "mul.rn.f32 v1, beta1, v1"),
        ("div.rn.f32 scale, scale, root2", "mul.rn.f32 scale, scale, root2"),
        ("add.rn.f32 scale, scale, eps", "add.rn.f32 scale, scale, toward2"),
        ("setp.ge.u32 whole, left, 4", "setp.ge.u32 whole, left, 3"),
        ("setp.ge.u32 third, left, 3", "setp.ge.u32 third, left, 4"),
        ("@reads ld.global.v4.f32", "ld.global.v4.f32"),
        ("add.u32 at, at, 1024", "add.u32 at, at, 1020"),
        ("add.u32 at, at, 1024", "add.u32 at, at, 1028"),
        ("mad.wide.u32 row, block, 40, table", "mad.wide.u32 row, block, 48, table"),
        ("@second st.global.f32 [am+4], m1", ""),
    ];
    let check = |text: Option<String>| {
        for (case, (gradient, beta1)) in [(true, 0.9), (false, 0.9), (true, 0.3)].into_iter().enumerate() {
            Case::new(&[4096 + 1027, 2, 7], beta1, gradient, case as u64).check(1, text.clone())?;
        }
        for finite in [[1.0, f32::NAN], [f32::NAN, 0.0]] {
            let case = Case { finite, ..Case::new(&[5], 0.9, true, 3) };
            case.check(1, text.clone())?;
        }
        Ok(())
    };
    catch(SYMBOL, &faults, check);
}
