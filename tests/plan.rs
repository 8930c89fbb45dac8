//! Plans: the planner's arena against its lower bound, gradients in one row, the checker against broken plans, replay
//! with poison, and the plan of `tiny` as text.

mod common;

use std::path::Path;

use common::ledger;
use g2d::base::{DType, Rng, Shape};
use g2d::cpu::{self, Memory};
use g2d::kernels::Architecture;
use g2d::kernels::shaders::{Extras, Offered};
use g2d::model::batch::{Reports, Shapes, Source, TextBatch};
use g2d::model::config::{Config, RECIPES};
use g2d::model::g2d::{Phase, record_step};
use g2d::model::init;
use g2d::model::optimizer::{Group, optimize};
use g2d::program::check::{Fault, check};
use g2d::program::lifetimes::residents;
use g2d::program::memory::{self, Interval};
use g2d::program::pass::layout::{ALIGNMENT, aligned};
use g2d::program::plan::{Buffer, Launch, PlanError, REFERENCE, Slab};
use g2d::program::{Checked, Kernels, Plan, Precision, Program, StateLayout, plan};
use proptest::prelude::*;

/// The recorded step with its optimizer, of one group, as `g2d plan` has it.
fn program(config: &Config, shapes: &Shapes, phase: Phase) -> Program {
    let mut recorder = record_step(config, shapes, phase, Reports::Tokens).unwrap();
    let group = Group::all(recorder.program(), config);
    optimize(&mut recorder, &[group]).unwrap();
    recorder.finish()
}

fn preset(name: &str, batch: usize, text_len: usize) -> (Config, Shapes) {
    (Config::preset(name).unwrap(), Shapes { batch, text_len, source: Source::Bytes })
}

fn planned(config: &Config, shapes: &Shapes, precision: Precision, kernels: Kernels) -> (Checked, StateLayout) {
    let program = program(config, shapes, Phase::Full);
    let states = StateLayout::of(&program, precision);
    (plan(program, &states, kernels).unwrap(), states)
}

/// A plan to be changed.
fn micro() -> Plan {
    let (config, shapes) = preset("micro", 2, 8);
    planned(&config, &shapes, Precision::Exact, Kernels::Best).0.into_plan()
}

/// A size that pieces may have: the largest of the intervals and some more, or no limit.
fn piece(intervals: &[Interval], more: Option<usize>) -> usize {
    let largest = intervals.iter().map(|interval| aligned(interval.bytes)).max().unwrap_or(ALIGNMENT);
    more.map_or(usize::MAX, |more| largest + more * ALIGNMENT)
}

fn intervals() -> impl Strategy<Value = Vec<Interval>> {
    let interval = (0..40usize, 0..12usize, prop_oneof![1..300usize, 1..20_000usize, Just(256usize), Just(4096usize)]);
    prop::collection::vec(
        interval.prop_map(|(first, length, bytes)| Interval { first, last: first + length, bytes }),
        0..80,
    )
}

proptest! {
    #[test]
    fn values_alive_together_lie_apart(intervals in intervals(), more in prop::option::of(0..100usize)) {
        let piece = piece(&intervals, more);
        let placed = memory::place(&intervals, piece);
        let range = |at: usize| placed.offsets[at]..placed.offsets[at] + aligned(intervals[at].bytes);
        for (at, a) in intervals.iter().enumerate() {
            prop_assert!(placed.offsets[at].is_multiple_of(ALIGNMENT) && range(at).end <= placed.arena);
            prop_assert_eq!(range(at).start / piece, (range(at).end - 1) / piece, "{:?} across {}", range(at), piece);
            for (other, b) in intervals.iter().enumerate().skip(at + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = range(at).end <= range(other).start || range(other).end <= range(at).start;
                prop_assert!(!together || apart, "{:?} at {:?} and {:?} at {:?}", a, range(at), b, range(other));
            }
        }
        let alive = |now: usize| -> usize {
            let alive = intervals.iter().filter(|interval| (interval.first..=interval.last).contains(&now));
            alive.map(|interval| aligned(interval.bytes)).sum()
        };
        let most = (0..60).map(alive).max().unwrap_or(0);
        prop_assert_eq!(placed.live_bound, most);
        prop_assert!(placed.arena >= most);
    }
}

#[test]
fn the_arena_is_within_two_percent_of_the_live_bound() {
    for name in ["tiny", "small", "full"] {
        let (config, shapes) = preset(name, 8, 64);
        for phase in [Phase::Full, Phase::Warmup] {
            let program = program(&config, &shapes, phase);
            for precision in [Precision::Exact, Precision::Mixed] {
                let states = StateLayout::of(&program, precision);
                let plan = plan(program.clone(), &states, Kernels::Best).unwrap();
                let (arena, bound) = (plan.slabs[&Slab::Arena], plan.live_bound);
                let over = (arena as f64 / bound as f64 - 1.0) * 100.0;
                let step = format!("{name} {phase:?} {}", precision.name());
                println!("{step}, batch 8, 64 tokens: live bound {bound}, arena {arena} bytes, {over:.2} % over it");
                assert!(arena >= bound && over <= 2.0, "{step}: the arena is {over:.2} % over the live bound");
                if phase == Phase::Full && precision == Precision::Exact {
                    let mebibytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
                    let (bound, arena) = (mebibytes(bound), mebibytes(arena));
                    ledger::ran(
                        "cpu",
                        format!("{name}: live bound {bound:.2} MiB, arena {arena:.2} MiB ({over:.2} %)"),
                    );
                }
            }
        }
    }
}

/// What a finished plan says of its arena is what the planner placed: the same bytes at the worst moment, and nothing over
/// anything else while both are needed.
#[test]
fn residents_of_the_arena_are_read_from_the_plan_alone() {
    for kernels in [Kernels::Best, Kernels::Cuda(Architecture::Sm80), Kernels::Cuda(Architecture::Sm90a)] {
        for name in ["micro", "tiny", "full"] {
            let (config, shapes) = preset(name, 2, 16);
            let (plan, _) = planned(&config, &shapes, Precision::Mixed, kernels);
            let residents = residents(&plan);
            let intervals: Vec<Interval> = residents.iter().map(|resident| resident.interval.clone()).collect();
            assert_eq!(memory::live_bound(&intervals), plan.live_bound, "{name}, {kernels:?}");
            let spaces = plan.launches.iter().filter(|launch| launch.workspace.is_some()).count();
            assert_eq!(residents.iter().filter(|resident| resident.workspace).count(), spaces);
            for (at, a) in residents.iter().enumerate() {
                for b in &residents[at + 1..] {
                    let together = a.interval.first <= b.interval.last && b.interval.first <= a.interval.last;
                    let apart = a.offset + a.interval.bytes <= b.offset || b.offset + b.interval.bytes <= a.offset;
                    assert!(!together || apart, "{name}, {kernels:?}: {a:?} and {b:?}");
                }
            }
        }
    }
}

/// `G2D_BLESS=1 cargo test --release --test plan` writes the file anew.
#[test]
fn the_plan_of_tiny_reads_as_it_did() {
    let (config, shapes) = preset("tiny", 8, 64);
    let text = planned(&config, &shapes, Precision::Exact, Kernels::Best).0.to_string();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan-tiny.txt");
    if std::env::var_os("G2D_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines = golden.lines().zip(text.lines()).enumerate();
    let first = lines.find(|(_, (golden, now))| golden != now).map_or(golden.lines().count(), |(line, _)| line);
    assert!(
        golden == text,
        "the plan differs from tests/golden/plan-tiny.txt first at line {}:\n{}\nis now\n{}\nif that is meant: \
         G2D_BLESS=1 cargo test --release --test plan",
        first + 1,
        golden.lines().nth(first).unwrap_or("(nothing)"),
        text.lines().nth(first).unwrap_or("(nothing)"),
    );
}

#[test]
fn gradients_lie_in_one_row_in_the_order_in_which_they_complete() {
    for name in ["micro", "tiny"] {
        let (config, shapes) = preset(name, 2, 8);
        let (plan, states) = planned(&config, &shapes, Precision::Exact, Kernels::Best);
        let mut end = 0;
        for (name, range) in &states.gradients {
            assert_eq!(range.start, aligned(end), "{name} does not follow the gradient before it");
            end = range.end;
        }
        assert_eq!(aligned(end), states.size(Slab::Gradients));
        let order: Vec<&String> = plan.gradients.iter().map(|(name, _)| name).collect();
        assert_eq!(order, states.gradients.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let mut completed = 0;
        for ((name, at), (_, range)) in plan.gradients.iter().zip(&states.gradients) {
            let buffer = &plan.buffers[*at];
            assert_eq!((buffer.slab, buffer.offset..buffer.offset + buffer.bytes()), (Slab::Gradients, range.clone()));
            let parameter = &states.states[name];
            assert_eq!((parameter.slab, parameter.offset), (Slab::Weights, range.start), "{name}");
            for (moment, slab) in [("m", Slab::FirstMoments), ("v", Slab::SecondMoments)] {
                let moment = &states.states[&format!("{name}.{moment}")];
                assert_eq!((moment.slab, moment.offset), (slab, range.start), "{name}");
            }
            let writes = |at: &usize| {
                let mut outputs = plan.launches[*at].outputs.iter().map(|&output| &plan.buffers[output]);
                outputs.any(|output| output.slab == Slab::Gradients && range.contains(&output.offset))
            };
            let last = (0..plan.launches.len()).rev().find(writes).expect("a gradient is written");
            assert!(plan.launches[last].outputs.contains(at), "{name}: what is written last is not the gradient");
            assert!(last >= completed, "{name} completes at launch {last}, the one before it at {completed}");
            completed = last;
        }
    }
}

/// Memory of a plan with fresh weights and a made-up batch.
fn filled(plan: &Plan, states: &StateLayout, config: &Config, shapes: &Shapes) -> Memory {
    let mut memory = Memory::default();
    memory.fit(plan);
    for (name, place) in &states.states {
        let dtype = states.precision.dtype(place.spec.kind);
        let buffer = Buffer { slab: place.slab, offset: place.offset, spec: place.spec, dtype };
        let numbers = init::draw(place.init, name, place.spec.shape.elements(), 7);
        memory.write(&buffer, numbers.into_iter().map(f64::from));
    }
    let mut rng = Rng::new(7, 1, 0);
    let lengths: Vec<usize> = (0..shapes.batch).map(|text| 3 + (2 * text) % (shapes.text_len - 2)).collect();
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|_| rng.below(config.vocab_size) as i32).collect();
    let text = TextBatch::pack(&tokens, &lengths, shapes.text_len, config).unwrap();
    let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    let side = config.image_size;
    for (name, at) in &plan.inputs {
        let buffer = &plan.buffers[*at];
        let texts = |numbers: &[i32]| numbers.iter().map(|&number| f64::from(number)).collect::<Vec<f64>>();
        let numbers: Vec<f64> = match name.as_str() {
            // A bright body on black with noise: every film has a mask.
            "pixels" => (0..shapes.batch * side * side)
                .map(|at| {
                    let (y, x) = (at / side % side, at % side);
                    let body = y.abs_diff(side / 2).max(x.abs_diff(side / 2)) < side * 3 / 8;
                    if body { rng.uniform(60.0, 250.0).floor() } else { 0.0 }
                })
                .collect(),
            "augmentation" => identity.repeat(shapes.batch),
            "ids" => texts(&text.ids),
            "order" => texts(&text.order),
            "offsets" => texts(&text.offsets),
            "lengths" => texts(&text.lengths),
            "adamw.all" => vec![1e-3, 0.1, 0.001],
            other => panic!("input {other} is not known here"),
        };
        memory.write(buffer, numbers.into_iter());
    }
    memory
}

/// Everything that can be read after a step: outputs, and whatever lives on.
fn readable(plan: &Plan, memory: &Memory) -> Vec<(String, Vec<u8>)> {
    let outputs = plan.outputs.iter().map(|(name, at)| (name.clone(), memory.bytes(&plan.buffers[*at]).to_vec()));
    let lasting =
        [Slab::Weights, Slab::Gradients, Slab::FirstMoments, Slab::SecondMoments, Slab::Frozen, Slab::Statistics];
    outputs.chain(lasting.iter().map(|&slab| (format!("{slab:?}"), memory.slab(slab).to_vec()))).collect()
}

#[test]
fn poison_in_dead_memory_changes_nothing() {
    for (name, precision) in [
        ("micro", Precision::F64),
        ("micro", Precision::Exact),
        ("micro", Precision::Mixed),
        ("tiny", Precision::Exact),
    ] {
        let (config, shapes) = preset(name, 3, 12);
        let (plan, states) = planned(&config, &shapes, precision, Kernels::Best);
        let mut plain = filled(&plan, &states, &config, &shapes);
        let before = plain.slab(Slab::Weights).to_vec();
        let mut poisoned = filled(&plan, &states, &config, &shapes);
        cpu::replay(&plan, &mut plain);
        cpu::replay_poisoned(&plan, &mut poisoned);
        assert!(before != plain.slab(Slab::Weights), "{name}: the step changed no weight");
        for ((output, plain), (_, poisoned)) in readable(&plan, &plain).iter().zip(&readable(&plan, &poisoned)) {
            assert!(plain == poisoned, "{name} {}: {output} depends on memory that holds nothing", precision.name());
        }
    }
}

/// What a read before its write finds: NaN, where memory without poison holds something finite. The plan ends before
/// the write, for one that goes on with the read has no [`Checked`] form.
#[test]
fn poison_shows_a_read_before_its_write() {
    let (config, shapes) = preset("micro", 3, 12);
    let (plan, states) = planned(&config, &shapes, Precision::Exact, Kernels::Best);
    let at = read_at_once(&plan);
    let unwritten = plan.buffers[plan.launches[at].outputs[0]];
    let mut start = plan.into_plan();
    start.launches.truncate(at);
    start.outputs.clear();
    let start = Checked::new(start).unwrap();
    let found = |replay: fn(&Checked, &mut Memory)| {
        let mut memory = filled(&start, &states, &config, &shapes);
        replay(&start, &mut memory);
        memory.read(&unwritten)
    };
    assert!(found(cpu::replay).iter().all(|number| number.is_finite()), "memory without poison hides the fault");
    assert!(found(cpu::replay_poisoned).iter().all(|number| number.is_nan()));
}

/// The first launch whose only output, in the arena, the next one reads; neither updates anything in place.
fn read_at_once(plan: &Plan) -> usize {
    let plain = |at: usize| plan.launches[at].overwrites.iter().all(Option::is_none);
    let found = (0..plan.launches.len() - 1).find(|&at| {
        let output = plan.launches[at].outputs[0];
        let alone = plan.launches[at].outputs.len() == 1 && plan.buffers[output].slab == Slab::Arena;
        alone && plain(at) && plain(at + 1) && plan.launches[at + 1].inputs.contains(&output)
    });
    found.expect("some launch reads what the one before it made")
}

/// Launches that write, and that last read, a buffer.
fn lifetime(plan: &Plan, buffer: usize) -> Option<(usize, usize)> {
    let written = plan.launches.iter().position(|launch| launch.outputs.contains(&buffer))?;
    let read = plan.launches.iter().rposition(|launch| launch.inputs.contains(&buffer))?;
    Some((written, read))
}

/// Arena buffers that no launch updates in place or makes by such an update.
fn independent(plan: &Plan) -> Vec<usize> {
    let mut chained = vec![false; plan.buffers.len()];
    for launch in &plan.launches {
        for (&output, overwrite) in launch.outputs.iter().zip(&launch.overwrites) {
            if let Some((input, _)) = overwrite {
                (chained[output], chained[launch.inputs[*input]]) = (true, true);
            }
        }
    }
    (0..plan.buffers.len()).filter(|&at| !chained[at] && plan.buffers[at].slab == Slab::Arena).collect()
}

#[test]
fn a_buffer_on_a_live_one_is_found() {
    let mut plan = micro();
    check(&plan).unwrap();
    let free = independent(&plan);
    let found = free.iter().find_map(|&victim| {
        let (written, read) = lifetime(&plan, victim)?;
        let over = free.iter().find(|&&over| {
            let Some((at, _)) = lifetime(&plan, over) else { return false };
            let uses = plan.launches[at].inputs.contains(&victim);
            written < at && at < read && !uses && plan.buffers[over].bytes() <= plan.buffers[victim].bytes()
        })?;
        Some((victim, *over))
    });
    let (victim, over) = found.expect("some buffer is alive while another one is written");
    plan.buffers[over].offset = plan.buffers[victim].offset;
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Stale { buffer, .. } if buffer == victim), "{fault}");
}

#[test]
fn a_read_before_its_write_is_found() {
    let mut plan = micro();
    let at = read_at_once(&plan);
    let output = plan.launches[at].outputs[0];
    plan.launches.swap(at, at + 1);
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Stale { launch, buffer, .. } if (launch, buffer) == (at, output)), "{fault}");
}

#[test]
fn a_buffer_beyond_its_slab_is_found() {
    for slab in [Slab::Arena, Slab::Weights, Slab::Gradients, Slab::Inputs, Slab::Statistics] {
        let mut plan = micro();
        let at = plan.buffers.iter().position(|buffer| buffer.slab == slab).unwrap();
        plan.buffers[at].offset = plan.slabs[&slab];
        let fault = check(&plan).unwrap_err();
        assert!(matches!(fault, Fault::OutOfBounds { buffer, .. } if buffer == at), "{fault}");
    }
}

#[test]
fn a_misaligned_buffer_is_found() {
    let mut plan = micro();
    let inside = |buffer: &Buffer| buffer.offset + buffer.bytes() + 4 <= plan.slabs[&buffer.slab];
    let at = plan.buffers.iter().position(inside).unwrap();
    plan.buffers[at].offset += 4;
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Misaligned { buffer, .. } if buffer == at), "{fault}");
}

#[test]
fn a_buffer_across_two_pieces_is_found() {
    let mut plan = micro();
    let at = plan.buffers.iter().position(|buffer| buffer.bytes() > 2 * ALIGNMENT).unwrap();
    plan.piece = plan.buffers[at].offset + ALIGNMENT;
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Split { buffer, .. } if buffer <= at), "{fault}");
}

/// Devices whose buffers are smaller than a slab: all plans of a model fit as soon as the largest value does.
#[test]
fn slabs_in_pieces_hold_every_value_in_one() {
    let (config, shapes) = preset("micro", 2, 8);
    let program = program(&config, &shapes, Phase::Full);
    let planned = |piece| {
        let states = StateLayout::in_pieces(&program, Precision::Exact, piece);
        plan(program.clone(), &states, Kernels::Best)
    };
    let whole = planned(usize::MAX).unwrap();
    let largest = aligned(whole.buffers.iter().map(Buffer::bytes).max().unwrap());
    for piece in [largest, largest + ALIGNMENT, 3 * largest] {
        let cut = planned(piece).unwrap();
        assert_eq!((cut.piece, cut.launches.len()), (piece, whole.launches.len()));
        assert!(cut.slabs[&Slab::Weights] >= whole.slabs[&Slab::Weights]);
        for of in [Slab::Gradients, Slab::FirstMoments, Slab::SecondMoments] {
            assert_eq!(cut.slabs[&of], cut.slabs[&Slab::Weights], "{of:?} has the offsets of the weights");
        }
    }
    let error = planned(largest - ALIGNMENT).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, PlanError::TooLarge { .. }) && said.contains(&(largest - ALIGNMENT).to_string()), "{said}");
}

#[test]
fn a_lost_output_is_found() {
    let mut plan = micro();
    let name = "out.image_embedding";
    let kept = plan.outputs.iter().find(|(output, _)| output == name).unwrap().1;
    let (_, read) = lifetime(&plan, kept).unwrap();
    let over = independent(&plan).into_iter().find(|&over| {
        let small = plan.buffers[over].bytes() <= plan.buffers[kept].bytes();
        over != kept && small && lifetime(&plan, over).is_some_and(|(written, _)| written > read)
    });
    plan.buffers[over.expect("something small is written late")].offset = plan.buffers[kept].offset;
    assert_eq!(check(&plan).unwrap_err(), Fault::LostOutput { name: name.into() });
}

#[test]
fn an_update_in_place_of_what_is_read_later_is_found() {
    let mut plan = micro();
    let in_place = plan.launches.iter().position(|launch| {
        launch
            .overwrites
            .iter()
            .flatten()
            .any(|&(input, same)| same && plan.buffers[launch.inputs[input]].slab == Slab::Arena)
    });
    let at = in_place.expect("some activation is updated in place");
    let input = plan.launches[at].overwrites.iter().flatten().next().unwrap().0;
    let buffer = plan.launches[at].inputs[input];
    plan.launches.insert(at + 1, plan.launches[at].clone());
    let fault = check(&plan).unwrap_err();
    assert!(
        matches!(fault, Fault::Stale { launch, buffer: read, .. } if (launch, read) == (at + 1, buffer)),
        "{fault}"
    );
}

#[test]
fn an_update_in_place_that_moves_is_found() {
    let mut plan = micro();
    let found = plan.launches.iter().enumerate().find_map(|(at, launch)| {
        let position = launch.overwrites.iter().position(|overwrite| overwrite.is_some_and(|(_, same)| same))?;
        let output = launch.outputs[position];
        (plan.buffers[output].slab == Slab::Arena).then_some((at, output))
    });
    let (at, output) = found.expect("some activation is updated in place");
    plan.buffers[output].offset = plan.slabs[&Slab::Arena];
    *plan.slabs.get_mut(&Slab::Arena).unwrap() += aligned(plan.buffers[output].bytes());
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Misfit { launch, .. } if launch == at), "{fault}");
}

#[test]
fn two_outputs_in_one_place_are_found() {
    let mut plan = micro();
    let two = plan.launches.iter().position(|launch| {
        let plain = launch.overwrites.iter().all(Option::is_none);
        plain && launch.outputs.iter().filter(|&&output| plan.buffers[output].slab == Slab::Arena).count() >= 2
    });
    let at = two.expect("some launch makes two values");
    let in_arena = |output: &usize| plan.buffers[*output].slab == Slab::Arena;
    let arena: Vec<usize> = plan.launches[at].outputs.iter().copied().filter(in_arena).collect();
    let (large, small) = if plan.buffers[arena[0]].bytes() >= plan.buffers[arena[1]].bytes() { (0, 1) } else { (1, 0) };
    plan.buffers[arena[small]].offset = plan.buffers[arena[large]].offset;
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Overlap { launch, .. } if launch == at), "{fault}");
}

#[test]
fn a_wrong_shape_or_type_is_found() {
    let mut plan = micro();
    let output = plan.launches[0].outputs[0];
    let elements = plan.buffers[output].spec.shape.elements();
    plan.buffers[output].spec.shape = Shape::from([elements]);
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::Misfit { launch: 0, .. }), "{fault}");

    let mut plan = micro();
    let at = plan.buffers.iter().position(|buffer| buffer.dtype == DType::F32).unwrap();
    plan.buffers[at].dtype = DType::Bf16;
    let fault = check(&plan).unwrap_err();
    assert!(matches!(fault, Fault::WrongType { buffer } if buffer == at), "{fault}");
}

#[test]
fn an_unknown_buffer_or_kernel_or_overwrite_is_found() {
    let mut plan = micro();
    let count = plan.buffers.len();
    plan.outputs[0].1 = count;
    assert_eq!(check(&plan).unwrap_err(), Fault::NoBuffer { buffer: count, count });

    let mut plan = micro();
    plan.launches[1].inputs[0] = usize::MAX;
    assert_eq!(check(&plan).unwrap_err(), Fault::NoBuffer { buffer: usize::MAX, count });

    let misfit = |change: fn(&mut Launch), why: &str| {
        let mut plan = micro();
        let at = plan.launches.iter().position(|launch| launch.overwrites.iter().any(Option::is_some)).unwrap();
        change(&mut plan.launches[at]);
        let fault = check(&plan).unwrap_err();
        assert!(matches!(fault, Fault::Misfit { launch, .. } if launch == at), "{fault}");
        assert!(fault.to_string().contains(why), "{fault}");
    };
    misfit(|launch| launch.kernel = "imagined", "no kernel imagined");
    misfit(|launch| launch.overwrites.clear(), "does not overwrite");
    misfit(|launch| launch.overwrites.fill(None), "does not overwrite");
    misfit(|launch| launch.overwrites.iter_mut().flatten().for_each(|(input, _)| *input += 1), "does not overwrite");
}

/// Sizes whose product or sum cannot be counted do not wrap around into something small.
#[test]
fn a_buffer_too_large_to_count_is_found() {
    for change in [
        |buffer: &mut Buffer| buffer.offset = usize::MAX - (ALIGNMENT - 1),
        |buffer: &mut Buffer| buffer.spec.shape = Shape::from([1 << 33, 1 << 31]),
    ] {
        let mut plan = micro();
        change(&mut plan.buffers[0]);
        let fault = check(&plan).unwrap_err();
        assert!(matches!(fault, Fault::OutOfBounds { buffer: 0, end: usize::MAX, .. }), "{fault}");
    }
}

/// Every op of every recipe has kernels on each device; planning needs neither a GPU nor a driver.
#[test]
fn every_recipe_has_a_plan_on_every_device() {
    let shapes = Shapes { batch: 2, text_len: 8, source: Source::Bytes };
    for recipe in RECIPES {
        let config = Config::preset("micro").unwrap().with_recipe(recipe).unwrap();
        for phase in [Phase::Full, Phase::Warmup] {
            let program = program(&config, &shapes, phase);
            for (kernels, precision) in [
                (Kernels::Cuda(Architecture::default()), Precision::Exact),
                (Kernels::Cuda(Architecture::default()), Precision::Mixed),
                (Kernels::Cuda(Architecture::Sm90a), Precision::Mixed),
                (Kernels::Wgsl(Offered::default()), Precision::Exact),
                (
                    Kernels::Wgsl(Offered { subgroups: Some([4, 128]), cooperative: true, extras: Extras::All }),
                    Precision::Exact,
                ),
            ] {
                let states = StateLayout::of(&program, precision);
                let planned = plan(program.clone(), &states, kernels);
                let planned = planned.unwrap_or_else(|error| panic!("{recipe} {phase:?} {kernels:?}: {error}"));
                assert!(planned.launches.iter().all(|launch| launch.kernel != REFERENCE), "{recipe} {kernels:?}");
            }
        }
    }
}

#[test]
fn states_of_another_configuration_are_refused() {
    let (config, shapes) = preset("micro", 2, 8);
    let (_, states) = planned(&config, &shapes, Precision::Exact, Kernels::Best);
    let wider = Config { projection_dim: 24, ..config };
    let error = plan(program(&wider, &shapes, Phase::Full), &states, Kernels::Best).unwrap_err();
    assert!(matches!(&error, PlanError::UnknownState { name, .. } if name.starts_with("proj_")), "{error}");
    let deeper = Config { text_layers: 3, ..Config::preset("micro").unwrap() };
    let error = plan(program(&deeper, &shapes, Phase::Full), &states, Kernels::Best).unwrap_err();
    assert!(matches!(&error, PlanError::UnknownState { name, .. } if name.contains("layer.2.")), "{error}");
}
