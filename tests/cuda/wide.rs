//! Small ops on shapes that no case of the registry has, or has by chance: rows of whole pieces, tables wider than a block,
//! more pieces than threads.

use g2d::base::{Rng, Spec};
use g2d::ops::embed::Embed;
use g2d::ops::finite::Finite;
use g2d::ops::{Op, REGISTRY};
use g2d::program::{Case, Size};
use g2d::verify::Spot;
use g2d::verify::compare::Storage;

use super::common::cases;
use super::device::{self, Trial, each_is_needed};

/// Ops that take eight neighbouring numbers at a time.
const BY_EIGHTS: [&str; 10] = [
    "accumulate",
    "convert",
    "dice_loss",
    "elementwise_loss",
    "embed",
    "gelu",
    "leaky_relu",
    "max_pool",
    "rows",
    "spatial_mean",
];

#[test]
fn rows_of_whole_pieces_and_others() {
    let spots = cases::registry().filter(|&(position, _)| BY_EIGHTS.contains(&REGISTRY[position].0));
    for (position, variant) in spots {
        for (channels, storage) in [(24, Storage::F32), (24, Storage::Bf16), (20, Storage::F32), (20, Storage::Bf16)] {
            let size = Size { batch: 3, side: 7, channels, extra: 5 };
            let spot = Spot { subject: position.into(), variant, size, draw: 3, storage };
            let op = spot.case().op;
            let expected = spot.expected().expect("the reference");
            for &kernel in op.cuda() {
                let checked = spot.check(&mut device::modules(3, device::library()), kernel, &expected);
                checked.unwrap_or_else(|why| panic!("{}/{kernel}, {channels} channels, {storage:?}: {why}", op.name()));
            }
        }
    }
}

/// Reports of up to 30 tokens, most of which are one of a few words.
fn embedding(backward: bool, channels: usize, draw: u64) -> Case<Op> {
    let rng = &mut Rng::new(draw, 11, 0);
    let (vocabulary, positions, batch) = (300, 40, 20);
    let mut offsets = vec![0];
    (0..batch).for_each(|at| offsets.push(offsets[at] + 1 + rng.below(30) as i32));
    let extent = offsets[batch] as usize;
    // Not another extent, which would look packed.
    let capacity = 1000;
    let ids: Vec<i32> = (0..capacity).map(|at| rng.below(if at % 4 == 0 { vocabulary } else { 4 }) as i32).collect();
    let mut order: Vec<i32> = (0..capacity as i32).collect();
    order[..extent].sort_by_key(|&row| (ids[row as usize], row));
    let case = if backward {
        Case::new(Embed::Bwd { vocabulary, positions }).normal(Spec::activation([capacity, channels]), 1.0, rng)
    } else {
        let table = |rows: usize| Spec::exact([rows, channels]);
        let case = Case::new(Embed::Fwd).normal(table(vocabulary), 1.0, rng);
        case.normal(table(positions), 1.0, rng).normal(table(2), 1.0, rng)
    };
    let case = case.indices([capacity], ids).indices([capacity], order).indices([batch + 1], offsets);
    case.packed(capacity, extent).map(Op::from)
}

const WORD: &str = "embed_word_f32_warps_sm80";

#[test]
fn embeddings_wider_than_a_block() {
    for (backward, channels) in [(false, 264), (false, 301), (true, 264), (true, 301)] {
        for storage in [Storage::F32, Storage::Bf16] {
            let trial = Trial::new(|at| embedding(backward, channels, at), storage, "rows");
            for seed in [0, 1] {
                let checked = trial.check(seed, WORD, None);
                checked.unwrap_or_else(|why| panic!("backward {backward}, {channels} channels, {storage:?}: {why}"));
            }
        }
    }
}

#[test]
fn every_barrier_of_the_embedding_is_needed() {
    let trials = [Storage::F32, Storage::Bf16].map(|storage| Trial::new(|at| embedding(true, 9, at), storage, "rows"));
    let check = |text: Option<String>| trials.iter().try_for_each(|trial| trial.check(1, WORD, text.clone()));
    assert_eq!(each_is_needed(WORD, &["bar.sync \t0;"], check), 5, "one in each gradient");
}

#[test]
fn many_gradients_and_losses_that_are_not_finite() {
    let draw = |draw| {
        let rng = &mut Rng::new(draw, 12, 0);
        let gradient = |case: Case<Finite>, count: usize, rng: &mut Rng| case.normal(Spec::exact([count]), 1.0, rng);
        let mut case = gradient(Case::new(Finite { losses: 3 }), 10_001, rng);
        for at in 0..300 {
            case = gradient(case, at % 5, rng);
        }
        let loss = |case: Case<Finite>, numbers: Vec<f64>| case.numbers(Spec::exact([numbers.len()]), numbers);
        let bad = (0..5000).map(|at| if at % 3 == 0 { f64::NAN } else { 1.0 }).collect();
        loss(loss(loss(case, vec![f64::INFINITY, f64::NEG_INFINITY]), bad), vec![7.0]).map(Op::from)
    };
    let trial = Trial::new(draw, Storage::F32, "pieces");
    for seed in [0, 1] {
        trial.check(seed, "finite_piece_f32_eights_sm80", None).expect("agrees");
    }
}
