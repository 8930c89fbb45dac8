//! Normalisation and films in shapes that no case of the registry has: several blocks along the channels, more slices
//! than are added up at a time, rows of several warps, more pixels than threads.

use g2d::base::{Real, Rng, Spec};
use g2d::ops::batch_norm::{BatchNorm, Gate};
use g2d::ops::{Op, REGISTRY};
use g2d::program::{Case, Operation, Size};
use g2d::verify::Spot;
use g2d::verify::compare::Storage;
use g2d::verify::device::{planned, run};

use super::common::cases;
use super::device;

/// Holds these kinds of cases of an op, of this size, against the reference.
fn check(op: &str, variants: &[usize], size: Size) {
    let position = REGISTRY.iter().position(|&(name, _)| name == op).expect("it is registered");
    for (draw, &variant) in variants.iter().enumerate() {
        for storage in [Storage::F32, Storage::Bf16] {
            let spot = Spot { subject: position.into(), variant, size, draw: draw as u64, storage };
            let expected = spot.expected().expect("the reference");
            for &kernel in spot.case().op.cuda() {
                let mut modules = device::modules(draw as u64, device::library());
                if let Err(failure) = spot.check(&mut modules, kernel, &expected) {
                    panic!("{}, {}: {failure}", cases::describe(&spot.case()), cases::name(storage));
                }
            }
        }
    }
}

#[test]
fn channels_of_several_blocks() {
    let variants: Vec<usize> = (0..14).collect();
    check("batch_norm", &variants, Size { batch: 1, side: 3, channels: 300, extra: 1 });
    check("batch_norm", &[1, 8], Size { batch: 1, side: 3, channels: 512, extra: 1 });
}

#[test]
fn more_slices_than_are_added_up_at_a_time() {
    check("batch_norm", &[1, 8], Size { batch: 1, side: 14, channels: 129, extra: 1 });
    // Slices of several rows, too, for the gradient by gamma and beta.
    check("layer_norm", &[2], Size { batch: 3, side: 1000, channels: 6, extra: 1 });
}

#[test]
fn rows_of_several_warps() {
    for channels in [766, 331, 2050] {
        check("layer_norm", &[0, 1, 2], Size { batch: 2, side: 4, channels, extra: 1 });
    }
}

#[test]
fn films_of_more_pixels_than_threads() {
    // Planes that begin at multiples of 16 bytes, and others.
    check("ingest", &[0, 1, 2, 3], Size { batch: 3, side: 63, channels: 1, extra: 39 });
    check("ingest", &[0, 1], Size { batch: 2, side: 44, channels: 1, extra: 50 });
}

/// All of it for every kernel that normalises: on the emulated device, on the processor, and the definition.
const RUNS: [&str; 3] = ["eights", "blocked", "reference"];

/// The first output of an op, as stored, by one of these.
fn first(by: &str, op: BatchNorm, inputs: &[(Spec, Vec<f64>)], storage: Storage) -> Vec<f64> {
    let case = Case::new(Op::from(op));
    let case = inputs.iter().fold(case, |case, (spec, numbers)| case.numbers(*spec, numbers.clone()));
    let case = planned(case, storage);
    let made = match by {
        "eights" => run(&mut device::modules(1, device::library()), &case, "eights", storage).expect("it runs"),
        "blocked" => cases::flat::<f32>(&case, &|io| op.run_cpu("blocked", io), storage).expect("it runs"),
        _ => cases::flat::<f32>(&case, &|io| op.reference(io), storage).expect("it runs"),
    };
    made.into_iter().next().expect("an output").1
}

/// Of every third row x lies where y is zero, as near as it can be stored: there the rounding of the forward pass decides.
#[test]
fn the_gate_found_anew_is_that_of_the_output() {
    let eps = Real(1e-5);
    for (channels, storage) in [16, 9].into_iter().flat_map(|of| [(of, Storage::F32), (of, Storage::Bf16)]) {
        let mut rng = Rng::new(11, channels as u32, 0);
        let [mean, gamma, beta] = [(); 3].map(|()| (0..channels).map(|_| rng.normal()).collect::<Vec<f64>>());
        let var: Vec<f64> = (0..channels).map(|_| rng.uniform(0.5, 2.0)).collect();
        let zero = |c: usize| mean[c] - beta[c] * (var[c] + eps.0).sqrt() / gamma[c];
        let x = (0..300 * channels).map(|at| if at / channels % 3 == 0 { zero(at % channels) } else { rng.normal() });
        let x: Vec<f64> = x.collect();
        let dy: Vec<f64> = x.iter().map(|_| rng.normal()).collect();
        let (whole, vector) = (Spec::activation([300, channels]), Spec::exact([channels]));
        let [x, dy] = [x, dy].map(|numbers| (whole, numbers));
        let [mean, var, gamma, beta] = [mean, var, gamma, beta].map(|numbers| (vector, numbers));
        for by in RUNS {
            let apply = BatchNorm::Apply { affine: true, relu: true, residual: false, packed: false, eps };
            let given = [&x, &mean, &var, &gamma, &beta].map(Clone::clone);
            let y = first(by, apply, &given, storage);
            assert!(y.iter().any(|&y| 0.0 < y && y < 1e-2) && y.contains(&0.0), "{by}: no y is nearly zero");
            let [anew, of_y] = [(Gate::Normalised, beta.clone()), (Gate::Output, (whole, y))].map(|(gate, last)| {
                let back = |gate| BatchNorm::Backward {
                    affine: true,
                    gate,
                    residual: false,
                    packed: false,
                    eps,
                    constant: false,
                };
                let given = [&dy, &x, &mean, &var, &gamma, &last].map(Clone::clone);
                first(by, back(gate), &given, storage)
            });
            assert!(anew == of_y, "{by}, {channels} channels, {storage:?}: the gates differ");
        }
    }
}
