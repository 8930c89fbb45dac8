//! Normalisation and films in shapes that no case of the registry has: several blocks along the channels, more slices
//! than are added up at a time, rows of several warps, more pixels than threads.

use g2d::ops::REGISTRY;
use g2d::program::Size;
use g2d::verify::Spot;
use g2d::verify::compare::Storage;

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
    let variants: Vec<usize> = (0..12).collect();
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
