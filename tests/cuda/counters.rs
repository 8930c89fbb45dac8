//! The matrix products written by hand against the compiled one, by the counters of the emulated device on one case.

use std::sync::Arc;

use g2d::base::{Rng, Spec};
use g2d::cuda::Modules;
use g2d::cuda::driver::emulated::{Class, Counters, Emulated};
use g2d::kernels::Library;
use g2d::ops::Op;
use g2d::ops::linear::Linear;
use g2d::program::Case;
use g2d::verify::compare::Storage;
use g2d::verify::device::{planned, run};

/// What the kernel of that name does on 512 rows of 256 numbers times 256 columns, bf16.
fn counted(kernel: &'static str) -> Counters {
    let rng = &mut Rng::new(3, 9, 2);
    let (x, w) = (Spec::activation([512, 256]), Spec::exact([256, 256]));
    let case: Case<Op> = Case::new(Linear::fwd()).normal(x, 1.0, rng).normal(w, 1.0, rng).map(Op::from);
    let device = Arc::new(Emulated::default());
    let mut modules = Modules::new(device.clone(), Library::shipped());
    run(&mut modules, &planned(case, Storage::Bf16), kernel, Storage::Bf16).unwrap();
    device.counters()
}

/// So that they are the default: benches/NOTES.md has the table.
#[test]
fn the_products_by_hand_take_no_more_than_the_compiled_one() {
    let [hopper, hand, compiled] = ["wgmma", "mma", "any"].map(counted);
    for (name, counters) in [("by hand for Hopper", hopper), ("by hand", hand), ("compiled", compiled)] {
        println!(
            "{name}: {} warp instructions, {} of matrices, {} sectors of 32 bytes, {} conflicts",
            counters.total_instructions(),
            counters.instructions(Class::Matrix),
            counters.global_sectors,
            counters.shared_conflicts
        );
    }
    assert!(hopper.total_instructions() <= hand.total_instructions());
    assert!(hopper.global_sectors <= hand.global_sectors && hopper.shared_conflicts == 0);
    // Its tiles of 64 x 64 are brought more often than the compiled one's of 128 x 64.
    assert!(hand.total_instructions() <= compiled.total_instructions());
    assert!(hand.global_sectors as f64 <= 1.3 * compiled.global_sectors as f64 && hand.shared_conflicts == 0);
}
