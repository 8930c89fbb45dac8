//! Attention and the contrastive loss in more tiles than [`ops`](super::ops) tries: references are plain loops.

use g2d::base::{Rng, Spec};
use g2d::ops::Op;
use g2d::ops::attention::Attention;
use g2d::ops::clip_loss::{ClipLoss, Directions};
use g2d::program::{Case, Pass};
use g2d::verify::compare::Storage;

use super::device::Trial;

/// Attention in sequences of so many rows and keys.
fn attention(pass: Pass, sequences: &[[i32; 2]], heads: usize, depth: usize, draw: u64) -> Case<Op> {
    let rng = &mut Rng::new(draw, 9, 0);
    let mut offsets = vec![0];
    offsets.extend(sequences.iter().scan(0, |end, [rows, _]| {
        *end += rows;
        Some(*end)
    }));
    let extent = offsets[sequences.len()] as usize;
    let capacity = extent + 200;
    let x = Spec::activation([capacity, heads * depth]);
    let case = Case::new(Attention { pass, heads });
    let case = match pass {
        Pass::Fwd => case.normal(x, 1.0, rng).normal(x, 1.0, rng).normal(x, 1.0, rng),
        Pass::Bwd => {
            let case = case.normal(x, 1.0, rng).normal(x, 0.5, rng).normal(x, 0.5, rng);
            let case = case.normal(x, 1.0, rng).normal(x, 1.0, rng);
            case.uniform(Spec::exact([capacity, heads]), 3.0, 4.0, rng)
        }
    };
    let lengths = sequences.iter().map(|&[_, keys]| keys).collect();
    let case = case.indices([offsets.len()], offsets).indices([sequences.len()], lengths);
    case.packed(capacity, extent).map(Op::from)
}

/// The contrastive loss of 71 rows, of which 37 are own.
fn clip_loss(pass: Pass, draw: u64) -> Case<Op> {
    let rng = &mut Rng::new(draw, 9, 1);
    let case = Case::new(ClipLoss { pass, ..ClipLoss::fwd(Directions::TwoWayMean, 0.3, 17, 37) });
    let case = if pass == Pass::Bwd { case.normal(Spec::exact([1]), 1.0, rng) } else { case };
    let x = Spec::activation([71, 41]);
    case.normal(x, 1.0, rng).normal(x, 1.0, rng).map(Op::from)
}

/// Both passes, f32 and bf16.
fn check(draw: impl Fn(Pass, u64) -> Case<Op>, symbols: [&str; 2]) {
    for (pass, symbol) in [Pass::Fwd, Pass::Bwd].into_iter().zip(symbols) {
        for storage in [Storage::F32, Storage::Bf16] {
            if let Err(why) = Trial::new(|at| draw(pass, at), storage, "tiles").check(1, symbol, None) {
                panic!("{pass:?} of {}, {storage:?}: {why}", g2d::verify::cases::describe(&draw(pass, 0)));
            }
        }
    }
}

#[test]
fn long_sequences_and_wide_heads_agree_with_the_reference() {
    let long: &[[i32; 2]] = &[[150, 131], [1, 1], [70, 70], [66, 3]];
    let short: &[[i32; 2]] = &[[5, 3]; 40];
    // Pieces of 16 bytes and not, one chunk of features and two; more sequences than a warp has lanes.
    for (sequences, heads, depth) in [(long, 2, 64), (long, 1, 72), (long, 1, 67), (short, 1, 8)] {
        let symbols = ["attention_fwd_f32_any_sm80", "attention_bwd_f32_dq_sm80"];
        check(|pass, at| attention(pass, sequences, heads, depth, at), symbols);
    }
}

#[test]
fn large_batches_agree_with_the_reference() {
    check(clip_loss, ["clip_loss_fwd_f32_finish_sm80", "clip_loss_bwd_any_warps_sm80"]);
}
