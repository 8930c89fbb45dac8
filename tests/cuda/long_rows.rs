//! `linear` on rows longer than those that [`ops`](super::ops) tries: sums over rows are cut along the features there.

use g2d::ops::REGISTRY;
use g2d::program::Size;
use g2d::verify::Spot;
use g2d::verify::compare::Storage;
use g2d::verify::device::Failure;

use super::device;

#[test]
fn sums_over_long_rows_agree_with_the_reference() {
    let position = REGISTRY.iter().position(|&(op, _)| op == "linear").expect("it is an op");
    // Plain and packed rows; neither whole pieces of 16 bytes nor one turn of a block, then pieces but more than a turn.
    for (variant, extra) in [(7, 259), (8, 259), (7, 2056), (8, 2056)] {
        for storage in [Storage::F32, Storage::Bf16] {
            let size = Size { batch: 2, side: 20, channels: 1, extra };
            let spot = Spot { subject: position.into(), variant, size, draw: 3, storage };
            let expected = spot.expected().expect("the reference is right");
            for kernel in spot.case().op.cuda() {
                match spot.check(&mut device::modules(1, device::library()), kernel, &expected) {
                    Ok(_) | Err(Failure::Refused(_)) => {}
                    Err(why) => panic!("{kernel} on rows of {extra}, {storage:?}: {why}"),
                }
            }
        }
    }
}
