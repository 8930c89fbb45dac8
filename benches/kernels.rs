//! The ops that take the time of a step, each at its largest shapes in `small` (8 pairs of 64 tokens) and `full`
//! (2 pairs of 256 tokens, recipe `official`): one launch of the real plan at a time, on made-up numbers.

use std::collections::BTreeMap;

use criterion::{Criterion, Throughput};
use g2d::base::{Kind, Rng, Spec};
use g2d::model::batch::{Reports, Shapes, Source};
use g2d::model::config::Config;
use g2d::ops::Op;
use g2d::ops::conv2d;
use g2d::program::host::{HostInput, HostOutput};
use g2d::program::plan::{Launch, REFERENCE};
use g2d::program::{HostIo, Kernels, Plan, Precision};
use g2d::train::session;

mod settings;

/// Folders of the ops measured.
const HOT: [&str; 7] = ["adamw", "attention", "batch_norm", "conv2d", "gelu", "layer_norm", "linear"];
/// Launches that move less are not measured.
const FEWEST_BYTES: u64 = 1 << 16;
/// FLOP that take as long as moving a byte, roughly: makes one number of a launch's work.
const FLOP_PER_BYTE: u64 = 8;
/// Numbers drawn for an input.
const DRAWN: usize = 1 << 16;
/// Inputs whose shapes are part of a name; AdamW has a thousand.
const NAMED: usize = 3;

/// What stands behind one input or output of a launch.
#[derive(Clone)]
enum Data {
    Numbers(Vec<f32>),
    Indices(Vec<i32>),
    Bytes(Vec<u8>),
}

impl Data {
    /// Positive numbers, which any op takes, the same ones again and again; integers are zero.
    fn of(spec: Spec, rng: &mut Rng) -> Self {
        let elements = spec.shape.elements();
        match spec.kind {
            Kind::Activation | Kind::Exact => {
                let some: Vec<f32> = (0..elements.min(DRAWN)).map(|_| rng.uniform(0.1, 1.0) as f32).collect();
                Self::Numbers(some.iter().copied().cycle().take(elements).collect())
            }
            Kind::Index => Self::Indices(vec![0; elements]),
            Kind::Bytes => Self::Bytes(vec![1; elements]),
        }
    }

    /// A value on which it depends how much a launch does: where texts lie, all of full length; that every gradient is
    /// finite.
    fn deciding(plan: &Plan, buffer: usize, shapes: &Shapes) -> Option<Self> {
        let row = |text: usize| (text * shapes.text_len) as i32;
        let input = plan.inputs.iter().find(|&&(_, input)| input == buffer);
        match input.map(|(name, _)| name.as_str()) {
            Some("offsets") => Some(Self::Indices((0..=shapes.batch).map(row).collect())),
            Some("lengths") => Some(Self::Indices(vec![row(1); shapes.batch])),
            Some(_) => None,
            None => {
                let maker = plan.launches.iter().find(|launch| launch.outputs.contains(&buffer))?;
                matches!(maker.op, Op::Finite(_)).then(|| Self::Numbers(vec![1.0, 0.0]))
            }
        }
    }

    fn input(&self) -> HostInput<'_, f32> {
        match self {
            Self::Numbers(numbers) => HostInput::Numbers(numbers),
            Self::Indices(indices) => HostInput::Indices(indices),
            Self::Bytes(bytes) => HostInput::Bytes(bytes),
        }
    }

    fn output(&mut self) -> HostOutput<'_, f32> {
        match self {
            Self::Numbers(numbers) => HostOutput::Numbers(numbers),
            Self::Indices(indices) => HostOutput::Indices(indices),
            Self::Bytes(bytes) => HostOutput::Bytes(bytes),
        }
    }
}

/// The largest launch of each hot op and pass, for convolutions of each kind of kernel; named.
fn largest(plan: &Plan) -> BTreeMap<String, &Launch> {
    let work = |launch: &Launch| launch.cost.flops + FLOP_PER_BYTE * launch.cost.bytes;
    let mut found: BTreeMap<String, &Launch> = BTreeMap::new();
    for launch in plan.launches.iter().filter(|launch| launch.cost.bytes >= FEWEST_BYTES) {
        let name = launch.op.name();
        if !HOT.contains(&name.split('.').next().unwrap_or(name)) {
            continue;
        }
        let kind = match launch.op {
            Op::Conv2d(conv) => {
                let upsampled = if conv.source == conv2d::Source::Plain { "" } else { " upsampled" };
                format!("{name} {0}x{0}{upsampled}", conv.kernel)
            }
            _ => name.to_owned(),
        };
        let largest = found.entry(kind).or_insert(launch);
        if work(launch) > work(largest) {
            *largest = launch;
        }
    }
    found
}

fn launch(criterion: &mut Criterion, preset: &str, kind: &str, plan: &Plan, shapes: &Shapes, launch: &Launch) {
    let mut rng = Rng::new(0, 0, 0);
    let spec = |&at: &usize| plan.buffers[at].spec;
    let inputs: Vec<(Spec, Data)> = (launch.inputs.iter())
        .map(|at| (spec(at), Data::deciding(plan, *at, shapes).unwrap_or_else(|| Data::of(spec(at), &mut rng))))
        .collect();
    let mut outputs: Vec<(Spec, Data)> =
        launch.outputs.iter().map(|at| (spec(at), Data::of(spec(at), &mut rng))).collect();
    let mut group = criterion.benchmark_group(format!("{preset} {kind}"));
    group.throughput(match launch.cost.flops {
        0 => Throughput::Bytes(launch.cost.bytes),
        flops => Throughput::Elements(flops),
    });
    let shapes: Vec<String> = inputs.iter().take(NAMED).map(|(spec, _)| spec.shape.to_string()).collect();
    group.bench_function(shapes.join(" "), |bencher| {
        bencher.iter(|| {
            let inputs = inputs.iter().map(|(spec, data)| (spec.shape, data.input())).collect();
            let outputs = outputs.iter_mut().map(|(spec, data)| (spec.shape, data.output())).collect();
            let mut io = HostIo::new(inputs, outputs);
            match launch.kernel {
                REFERENCE => launch.op.reference(&mut io),
                kernel => launch.op.run_cpu(kernel, &mut io),
            }
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = settings::criterion(1);
    for (preset, recipe, batch, text_len) in [("small", "default", 8, 64), ("full", "official", 2, 256)] {
        let config = Config::preset(preset).and_then(|config| config.with_recipe(recipe)).expect("a preset");
        let shapes = Shapes { batch, text_len, source: Source::Bytes };
        let plan = session::step_plan(&config, &shapes, Reports::Tokens, Precision::Exact, Kernels::Best)
            .expect("a preset has a plan");
        for (kind, largest) in largest(&plan) {
            launch(&mut criterion, preset, &kind, &plan, &shapes, largest);
        }
    }
    criterion.final_summary();
}
