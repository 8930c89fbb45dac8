//! Programs before and behind the passes: interpreted node by node in f64, they give the same bits. What gets a
//! gradient and what does not; contrast over several ranks; packed reports.

mod common;

use std::collections::BTreeMap;

use common::cases::Data;
use common::interpret::Values;
use g2d::base::{Kind, Real, Rng, Spec};
use g2d::cpu::{self, Memory};
use g2d::model::batch::{Reports, Shapes, Source, TextBatch};
use g2d::model::config::{Config, TextStatistics};
use g2d::model::g2d::{Phase, record_step};
use g2d::model::init;
use g2d::model::optimizer::{Group, optimize, trainable};
use g2d::ops::Op;
use g2d::ops::accumulate::Accumulate;
use g2d::ops::clip_loss::{ClipLoss, Directions};
use g2d::ops::conv2d::Conv2d;
use g2d::ops::gelu::Gelu;
use g2d::ops::leaky_relu::LeakyRelu;
use g2d::ops::linear::{Epilogue, Linear, Pass};
use g2d::program::pass::fuse::fuse;
use g2d::program::pass::place::place;
use g2d::program::pass::precision::precision;
use g2d::program::pass::prune::prune;
use g2d::program::plan::Buffer;
use g2d::program::record::{Init, Origin, Role};
use g2d::program::{Kernels, Precision, Program, Recorder, StateLayout, Value, plan};
use g2d::train::session::{Films, Options, Session};
use proptest::prelude::*;

const SHAPES: Shapes = Shapes { batch: 2, text_len: 5, source: Source::Numbers };

fn config() -> Config {
    let config = Config::preset("micro").unwrap();
    Config { resnet_width: 2, decoder_channels: vec![6, 5, 4, 3, 2], vocab_size: 19, text_intermediate: 12, ..config }
}

fn program(phase: Phase) -> Program {
    let config = config();
    let mut recorder = record_step(&config, &SHAPES, phase, Reports::Tokens).unwrap();
    let group = Group::all(recorder.program(), &config);
    optimize(&mut recorder, &[group]).unwrap();
    recorder.finish()
}

fn texts(lengths: &[usize], text_len: usize, config: &Config) -> TextBatch {
    let mut rng = Rng::new(3, 1, 0);
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|_| rng.below(config.vocab_size) as i32).collect();
    TextBatch::pack(&tokens, lengths, text_len, config).unwrap()
}

fn film(films: usize, side: usize) -> Vec<f32> {
    let mut rng = Rng::new(3, 2, 0);
    (0..films * side * side).map(|_| rng.uniform(0.0, 1.0) as f32).collect()
}

/// Inputs by name, and fresh states by name, as a program declares them.
fn data(program: &Program) -> BTreeMap<String, Data<f64>> {
    let config = config();
    let text = texts(&[5, 3], SHAPES.text_len, &config);
    let mut data = BTreeMap::new();
    for (name, _) in &program.inputs {
        let numbers = match name.as_str() {
            "image" => Data::Numbers(film(SHAPES.batch, config.image_size).into_iter().map(f64::from).collect()),
            "ids" => Data::Indices(text.ids.clone()),
            "order" => Data::Indices(text.order.clone()),
            "offsets" => Data::Indices(text.offsets.clone()),
            "lengths" => Data::Indices(text.lengths.clone()),
            "adamw.all" => Data::Numbers(vec![1e-3, 0.1, 0.001]),
            other => panic!("input {other} is not known here"),
        };
        data.insert(name.clone(), numbers);
    }
    for state in &program.states {
        let spec = program.spec(state.value);
        let numbers = init::draw(state.init, &state.name, spec.shape.elements(), 5);
        data.insert(
            state.name.clone(),
            match spec.kind {
                Kind::Index => Data::Indices(numbers.into_iter().map(|number| number as i32).collect()),
                _ => Data::Numbers(numbers.into_iter().map(f64::from).collect()),
            },
        );
    }
    data
}

/// The bits of everything that can be read behind a step: outputs, gradients, updated states.
type Bits = BTreeMap<String, Vec<u64>>;

fn bits(numbers: &[f64]) -> Vec<u64> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// The value that a state has behind the step.
fn updated(program: &Program, before: Value) -> Option<Value> {
    program.nodes.iter().find_map(|node| {
        let updates = node.overwrites.iter().position(|overwrite| {
            overwrite.is_some_and(|overwrite| overwrite.must && node.inputs[overwrite.input] == before)
        });
        updates.map(|position| node.outputs[position])
    })
}

fn readable(program: &Program) -> Vec<(String, Value)> {
    let gradients = program.gradients.iter();
    let gradients = gradients.map(|&(at, value)| (format!("grad.{}", program.states[at].name), value));
    let states = program.states.iter();
    let states = states.filter_map(|state| Some((format!("new.{}", state.name), updated(program, state.value)?)));
    program.outputs.iter().cloned().chain(gradients).chain(states).collect()
}

/// Walks a program with the references. States are handed in as if they were uploaded.
fn interpret(program: &Program) -> Bits {
    let data = data(program);
    let mut walked = program.clone();
    walked.inputs.extend(program.states.iter().map(|state| (state.name.clone(), state.value)));
    let inputs: Vec<Data<f64>> = walked.inputs.iter().map(|(name, _)| data[name].clone()).collect();
    let values = Values::new(&walked, &inputs).run(&walked.nodes);
    let read = |value: Value| bits(&values.get(value).to_f64(program.spec(value).shape.elements()));
    readable(program).into_iter().map(|(name, value)| (name, read(value))).collect()
}

fn assert_same(a: &Bits, b: &Bits) {
    assert!(a.keys().eq(b.keys()), "other values can be read");
    for (name, bits) in a {
        assert!(*bits == b[name], "{name} has other bits");
    }
}

#[test]
fn passes_keep_every_bit() {
    let program = program(Phase::Full);
    let whole = interpret(&program);
    assert!(whole["loss.total"].iter().all(|&bits| f64::from_bits(bits).is_finite()));
    assert!(whole.len() > 3 * program.gradients.len(), "outputs, gradients, weights and moments are compared");
    let pruned = prune(program.clone());
    assert_same(&whole, &interpret(&pruned));
    assert_eq!(prune(pruned.clone()), pruned, "pruning twice changes more than pruning once");
    for same in [Precision::F64, Precision::Exact] {
        assert_eq!(precision(pruned.clone(), same), pruned);
    }
    // Under `mixed` there are conversions; what they round to is a matter of storage, and in f64 nothing is rounded.
    let mixed = precision(pruned.clone(), Precision::Mixed);
    let converted = mixed.nodes.len() - pruned.nodes.len();
    assert!(converted > 20, "only {converted} operands are converted");
    assert_same(&whole, &interpret(&mixed));
    for node in &mixed.nodes {
        let operands = node.op.operands().iter().map(|&operand| mixed.spec(node.inputs[operand]).kind);
        assert!(operands.into_iter().all(|kind| kind != Kind::Exact), "{}: a product reads wide numbers", node.scope);
    }
}

/// A few maps of images of `channels` channels, or of packed rows, each of the input or of what another one made, and the gradients by
/// the input and by all weights of what nobody reads.
fn graph(rng: &mut Rng, channels: usize, packed: bool) -> Program {
    let mut r = Recorder::new();
    let spec = if packed { Spec::activation([7, channels]) } else { Spec::activation([2, 3, 5, channels]) };
    let mut values = vec![r.input("x", spec)];
    let offsets = packed.then(|| r.input("offsets", Spec::index([3])));
    let (mut wrt, mut last, mut read) = (values.clone(), vec![], vec![]);
    for _ in 0..2 + rng.below(6) {
        let from = rng.below(values.len());
        let mut map = |op: Op, weight: Option<Spec>, offsets: Option<Value>| {
            let weight = weight.map(|spec| r.input("w", spec));
            wrt.extend(weight);
            let inputs: Vec<Value> = [values[from]].into_iter().chain(weight).chain(offsets).collect();
            r.one(op, &inputs).unwrap()
        };
        let kernel = |side: usize| Some(Spec::exact([channels, side, side, channels]));
        let matrix = Some(Spec::exact([channels, channels]));
        let made = match (rng.below(5), packed) {
            (0, _) => map(LeakyRelu::fwd(0.3).into(), None, None),
            (1 | 2, true) => map(Gelu::Fwd.into(), None, offsets),
            (_, true) => map(Linear::fwd().packed().into(), matrix, offsets),
            (1, false) => map(Conv2d::fwd(1).into(), kernel(1), None),
            (2, false) => map(Conv2d::fwd(3).into(), kernel(3), None),
            (3, false) => map(Conv2d::fwd(1).stride(2).padding(0).into(), kernel(1), None),
            (_, false) => map(Linear::fwd().into(), matrix, None),
        };
        read.push(from);
        if r.spec(made) == spec { &mut values } else { &mut last }.push(made);
    }
    last.extend(values.iter().enumerate().filter(|(at, _)| !read.contains(at)).map(|(_, &value)| value));
    let seeds: Vec<(Value, Value)> = last.into_iter().map(|value| (value, r.input("seed", r.spec(value)))).collect();
    for gradient in r.reverse(&seeds, &wrt).unwrap().into_iter().flatten() {
        r.output("gradient", gradient);
    }
    r.finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn joined_nodes_do_what_their_expansions_do(seed: u64, channels in 1..5usize, packed: bool) {
        let rng = &mut Rng::new(seed, 0, 0);
        let program = graph(rng, channels, packed);
        let data: Vec<Data<f64>> = program.inputs.iter().map(|(name, value)| {
            if name == "offsets" {
                return Data::Indices(vec![0, 4, 7]);
            }
            Data::Numbers((0..program.spec(*value).shape.elements()).map(|_| rng.normal()).collect())
        }).collect();
        let joined = fuse(program.clone(), |_, _| Some("any"));
        prop_assert_eq!(&fuse(joined.clone(), |_, _| Some("any")), &joined, "nothing is left to be joined");
        let [expected, got] = [&program, &joined].map(|program| Values::new(program, &data).run(&program.nodes));
        for &(_, value) in &program.outputs {
            let numbers = |of: &Values<f64>| of.get(value).to_f64(program.spec(value).shape.elements());
            let (expected, got) = (numbers(&expected), numbers(&got));
            let largest = expected.iter().fold(0.0, |most: f64, number| most.max(number.abs()));
            for (expected, got) in expected.iter().zip(&got) {
                prop_assert!((expected - got).abs() <= 8.0 * f64::EPSILON * largest, "{got} instead of {expected}");
            }
        }
    }
}

/// What is added to a value that is added to again, or that is read besides, is not joined; what no kernel joins stays as it is.
#[test]
fn sums_are_joined_where_nobody_misses_a_part() {
    let added = |program: &Program| {
        let adds = |op: &Op| {
            matches!(op, Op::Linear(op) if op.epilogue == Epilogue::Add) || matches!(op, Op::Conv2d(op) if op.add)
        };
        program.nodes.iter().filter(|node| adds(&node.op)).count()
    };
    let record = |read_besides: bool| {
        let mut r = Recorder::new();
        let [x, dy] = ["x", "dy"].map(|name| r.input(name, Spec::activation([4, 3])));
        let w = r.input("w", Spec::exact([3, 3]));
        let y = r.one(Linear::fwd(), &[x, w]).unwrap();
        let gradient = r.reverse(&[(x, dy), (y, dy)], &[x]).unwrap()[0].unwrap();
        r.output("gradient", gradient);
        if read_besides {
            let part = r.program().nodes.iter().find(|node| node.op.name() == "linear.dgrad").unwrap().outputs[0];
            r.output("part", part);
        }
        r.finish()
    };
    assert_eq!([false, true].map(|read_besides| added(&fuse(record(read_besides), |_, _| Some("any")))), [1, 0]);
    let doubled = {
        let mut r = Recorder::new();
        let [dy, w] = [[4, 3], [3, 3]].map(|shape| r.input("value", Spec::activation(shape)));
        let part = r.one(Linear { pass: Pass::Dgrad, ..Linear::fwd() }, &[dy, w]).unwrap();
        let twice = r.one(Accumulate::Add { scale: Real(1.0) }, &[part, part]).unwrap();
        r.output("twice", twice);
        r.finish()
    };
    assert_eq!(fuse(doubled.clone(), |_, _| Some("any")), doubled);
    let alone =
        |_: &Program, node: &g2d::program::record::Node| Some(if node.inputs.len() == 2 { "one" } else { "other" });
    let program = record(false);
    assert_eq!(fuse(program.clone(), alone), program);
    assert_eq!(fuse(program.clone(), |_, _| None), program);
}

/// What gelu is of stays where others read it; not joined is what is read before gelu is made, or has other rows.
#[test]
fn gelu_is_joined_with_the_map_before_it() {
    let ops = |between: bool, other_rows: bool| {
        let mut r = Recorder::new();
        let x = r.input("x", Spec::activation([4, 3]));
        let w = r.input("w", Spec::activation([5, 3]));
        let [offsets, others] = ["offsets", "others"].map(|name| r.input(name, Spec::index([3])));
        let y = r.one(Linear::fwd().packed(), &[x, w, offsets]).unwrap();
        if between {
            let read = r.one(LeakyRelu::fwd(0.5), &[y]).unwrap();
            r.output("read", read);
        }
        let made = r.one(Gelu::Fwd, &[y, if other_rows { others } else { offsets }]).unwrap();
        let behind = r.one(LeakyRelu::fwd(0.5), &[y]).unwrap();
        [("made", made), ("behind", behind), ("y", y)].into_iter().for_each(|(name, value)| r.output(name, value));
        let fused = fuse(r.finish(), |_, _| Some("any"));
        fused.nodes.iter().map(|node| (node.op.name(), node.outputs.len())).collect::<Vec<_>>()
    };
    assert_eq!(ops(false, false), [("linear.fwd", 2), ("leaky_relu.fwd", 1)]);
    let apart = [("linear.fwd", 1), ("gelu.fwd", 1), ("leaky_relu.fwd", 1)];
    assert_eq!(ops(false, true), apart);
    assert_eq!(ops(true, false), [apart[0], apart[2], apart[1], apart[2]]);
}

/// Planner, in-place updates and replay against the interpreter, which has memory of its own for every value.
#[test]
fn replay_gives_the_interpreters_bits() {
    for phase in [Phase::Warmup, Phase::Full] {
        let program = program(phase);
        let states = StateLayout::of(&program, Precision::F64);
        let plan = plan(program.clone(), &states, Kernels::Reference).unwrap();
        let mut memory = Memory::default();
        memory.fit(&plan);
        let data = data(&program);
        let count = |data: &Data<f64>| {
            data.to_f64(match data {
                Data::Numbers(numbers) => numbers.len(),
                Data::Indices(indices) => indices.len(),
                Data::Bytes(bytes) => bytes.len(),
            })
        };
        for (name, at) in &plan.inputs {
            memory.write(&plan.buffers[*at], count(&data[name]).into_iter());
        }
        let buffer = |name: &str| {
            let place = &states.states[name];
            let dtype = Precision::F64.dtype(place.spec.kind);
            Buffer { slab: place.slab, offset: place.offset, spec: place.spec, dtype }
        };
        for state in &program.states {
            memory.write(&buffer(&state.name), count(&data[&state.name]).into_iter());
        }
        cpu::replay(&plan, &mut memory);
        for (name, wanted) in interpret(&program) {
            let got = if let Some(name) = name.strip_prefix("new.") {
                memory.read(&buffer(name))
            } else if let Some(name) = name.strip_prefix("grad.") {
                let (_, at) = plan.gradients.iter().find(|(gradient, _)| gradient == name).unwrap();
                memory.read(&plan.buffers[*at])
            } else {
                memory.read(plan.output(&name).unwrap())
            };
            assert!(bits(&got) == wanted, "{phase:?}: {name} has other bits");
        }
    }
}

/// Without AdamW, which asks for every loss.
#[test]
fn what_nothing_asks_for_is_dropped_and_statistics_stay() {
    let mut program = record_step(&config(), &SHAPES, Phase::Warmup, Reports::Tokens).unwrap().finish();
    let statistics = |program: &Program| {
        let of_state = |value: Value| match program.values[value.index()].origin {
            Origin::State(at) => program.states[at].role == Role::Statistic,
            _ => false,
        };
        let updates = program.nodes.iter().flat_map(|node| {
            node.overwrites
                .iter()
                .flatten()
                .filter(|overwrite| overwrite.must)
                .map(|overwrite| node.inputs[overwrite.input])
        });
        updates.filter(|&value| of_state(value)).count()
    };
    let declared = program.states.iter().filter(|state| state.role == Role::Statistic).count();
    assert_eq!(statistics(&program), declared);
    program.outputs.retain(|(name, _)| name == "loss.total");
    let pruned = prune(program.clone());
    assert_eq!(statistics(&pruned), declared, "a running statistic no longer moves");
    let left = |scope: &str| pruned.nodes.iter().filter(|node| node.scope.starts_with(scope)).count();
    assert_eq!(left("mask"), 0, "the mask is computed though nothing asks for it");
    assert!(program.nodes.len() > pruned.nodes.len());
    let head = |program: &Program| program.nodes.iter().filter(|node| node.scope.contains("segmentation_head")).count();
    assert!(head(&program) > 0 && head(&pruned) == 0, "the segmentation head runs though nothing asks for it");
}

#[test]
fn warmup_gives_the_decoder_no_gradient_and_frozen_layers_never_get_one() {
    for (phase, decoded) in [(Phase::Warmup, false), (Phase::Full, true)] {
        let program = program(phase);
        let names: Vec<&str> = program.gradients.iter().map(|&(at, _)| program.states[at].name.as_str()).collect();
        let decodes = |name: &&&str| name.contains(".decoder.") || name.contains("segmentation_head");
        assert_eq!(names.iter().any(|name| decodes(&name)), decoded, "{phase:?}");
        let backward = |scope: &str| scope.contains(".decoder.") && scope.ends_with('\'');
        assert_eq!(program.nodes.iter().any(|node| backward(&node.scope)), decoded, "{phase:?}");
        for state in program.states.iter().filter(|state| state.role == Role::Parameter { trainable: false }) {
            assert!(state.name.starts_with("lm_model.encoder.layer.0."), "{} is frozen", state.name);
            assert!(!names.contains(&state.name.as_str()), "{} is frozen and has a gradient", state.name);
            assert_eq!(updated(&program, state.value), None, "{} is frozen and is updated", state.name);
        }
        assert!(names.iter().any(|name| name.starts_with("lm_model.embeddings.")), "embeddings always learn");
        let reached = trainable(&program).filter(|&at| program.gradients.iter().any(|&(with, _)| with == at)).count();
        assert_eq!(reached, names.len(), "something else than a trainable parameter has a gradient");
    }
}

#[test]
fn only_the_last_reader_takes_over_memory() {
    let program = prune(program(Phase::Full));
    let homes = place(&program);
    let mut taken = 0;
    for (at, node) in program.nodes.iter().enumerate() {
        for (output, overwrite) in node.outputs.iter().zip(&node.overwrites) {
            let home = homes[output.index()];
            let Some(overwrite) = overwrite else {
                assert_eq!(home, *output, "{}: takes over memory without leave", node.scope);
                continue;
            };
            let source = node.inputs[overwrite.input];
            if home == *output {
                assert!(!overwrite.must, "{}: a state is not updated where it lies", node.scope);
                continue;
            }
            assert_eq!(home, homes[source.index()]);
            let read_later = program.nodes[at + 1..].iter().any(|later| later.inputs.contains(&source));
            assert!(!read_later, "{}: overwrites what is read later", node.scope);
            assert!(program.outputs.iter().all(|&(_, output)| output != source));
            taken += usize::from(!overwrite.must);
        }
    }
    assert!(taken > 10, "only {taken} values take over memory");
}

/// Loss and gradients of the contrast over some rows, in f64.
fn contrast(directions: Directions, rows: usize, offset: usize, count: usize) -> (f64, Vec<Vec<f64>>) {
    let mut r = Recorder::new();
    let [image, text] = ["image", "text"].map(|name| r.parameter(name, [rows, 7], Init::Constant(0.0)));
    let made = r.node(ClipLoss::fwd(directions, 0.07, offset, count), &[image, text]).unwrap();
    r.differentiate(made[0]).unwrap();
    let mut program = r.finish();
    program.inputs = program.states.iter().map(|state| (state.name.clone(), state.value)).collect();
    let mut rng = Rng::new(11, 4, 0);
    let inputs = [0, 1].map(|_| Data::Numbers((0..rows * 7).map(|_| rng.normal()).collect::<Vec<f64>>()));
    let values = Values::new(&program, &inputs).run(&program.nodes);
    let gradient = |value: Value| {
        let (_, gradient) = program.gradients.iter().find(|&&(at, _)| program.states[at].value == value).unwrap();
        values.get(*gradient).numbers().to_vec()
    };
    (values.get(made[0]).numbers()[0], vec![gradient(image), gradient(text)])
}

#[test]
fn ranks_add_up_to_the_whole_batch() {
    const ROWS: usize = 9;
    for directions in [Directions::TwoWaySum, Directions::TwoWayMean, Directions::ImageToText] {
        let (loss, gradients) = contrast(directions, ROWS, 0, ROWS);
        let mut sum = 0.0;
        let mut sums = vec![vec![0.0; ROWS * 7]; 2];
        for (offset, count) in [(0, 4), (4, 3), (7, 2)] {
            let (part, gradients) = contrast(directions, ROWS, offset, count);
            let share = count as f64 / ROWS as f64;
            assert!((part - loss).abs() > 1e-6, "the rows of one rank give the loss of all");
            sum += share * part;
            for (sum, gradient) in sums.iter_mut().flatten().zip(gradients.iter().flatten()) {
                *sum += share * gradient;
            }
        }
        assert!((sum - loss).abs() <= 1e-13 * loss.abs(), "{directions:?}: {sum} instead of {loss}");
        for (sum, whole) in sums.iter().flatten().zip(gradients.iter().flatten()) {
            assert!((sum - whole).abs() <= 1e-13, "{directions:?}: gradient {sum} instead of {whole}");
        }
    }
}

/// Losses, outputs, gradients and new weights of two f64 steps of a session.
fn steps(config: &Config, text_length: usize, lengths: &[usize], kernels: Kernels) -> Bits {
    let options = Options {
        source: Source::Numbers,
        precision: Precision::F64,
        kernels,
        threads: 1,
        ..Options::new(config.clone(), lengths.len(), text_length)
    };
    let mut session = Session::open(options).unwrap();
    let films = film(lengths.len(), config.image_size);
    let text = texts(lengths, text_length, config);
    let plan = session.step_plan().clone();
    let mut found = Bits::new();
    for step in 0..2 {
        session.step(Films::Numbers(&films), &text, 1e-3).unwrap();
        for (name, _) in &plan.outputs {
            found.insert(format!("{step} {name}"), bits(&session.output(&plan, name).unwrap().unwrap()));
        }
        for (name, _) in &plan.gradients {
            found.insert(format!("{step} grad.{name}"), bits(&session.gradient(&plan, name).unwrap().unwrap()));
            found.insert(format!("{step} new.{name}"), bits(&session.state(name).unwrap().unwrap()));
        }
    }
    found
}

#[test]
fn room_for_longer_reports_changes_no_bit() {
    let lengths = [5, 3, 8];
    for kernels in [Kernels::Reference, Kernels::Best] {
        let tight = steps(&config(), 8, &lengths, kernels);
        assert_same(&tight, &steps(&config(), 21, &lengths, kernels));
    }
}

#[test]
fn full_reports_packed_and_padded_are_the_same() {
    let padded = Config { text_statistics: TextStatistics::Padded, ..config() };
    let full = [6; 3];
    assert_same(&steps(&config(), 6, &full, Kernels::Best), &steps(&padded, 6, &full, Kernels::Best));
    // And with shorter ones they are not: the statistics see the padding.
    let short = [6, 2, 4];
    let (packed, padded) = (steps(&config(), 6, &short, Kernels::Best), steps(&padded, 6, &short, Kernels::Best));
    assert_ne!(packed["0 loss.contrastive"], padded["0 loss.contrastive"]);
}
