//! Steps in `mixed`, which stores activations as bf16. A mask moves by whole cells where two of them nearly tie, so masks,
//! losses and gradients are not held against another run's: the mask is made again from the run's own attention map,
//! and losses and gradients are held against the references in f64 that are given this mask.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::cases::Data;
use common::compare::Storage;
use common::fixtures::{self, cases, name, rms};
use common::interpret::Values;
use common::ledger;
use g2d::base::{Kind, Rng};
use g2d::model::batch::{Reports, Shapes, Source, TextBatch};
use g2d::model::config::Config;
use g2d::model::g2d::{Phase, record_step};
use g2d::program::record::Role;
use g2d::program::{Kernels, Precision, Program, Value};
use g2d::train::Device;
use g2d::train::session::{Films, Options, Session};

/// Numbers by name: `loss.*`, `grad.*`.
type Numbers = BTreeMap<String, Vec<f64>>;

/// How many times the plain computation is drawn for each step: on its own weights, and on others beside them.
const DRAWS: u64 = 4;
/// What float32 makes of the smoothing's weights; a pixel that changes sides differs by far more.
const SMOOTHING: f64 = 1e-5;

/// One batch of a case.
struct Batch {
    image: Vec<f32>,
    text: TextBatch,
    size: usize,
    text_len: usize,
}

fn batches(case: &Path, config: &Config) -> Vec<Batch> {
    let paths = (0..).map(|at| case.join(format!("batch-{at}.safetensors"))).take_while(|path| path.exists());
    let read = |path: PathBuf| {
        let tensors = fixtures::read(&path);
        let (shape, ids) = &tensors["input_ids"];
        let (size, text_len) = (shape[0], shape[1]);
        let lengths: Vec<usize> =
            tensors["attention_mask"].1.chunks(text_len).map(|row| row.iter().sum::<f64>() as usize).collect();
        let rows = ids.chunks(text_len).zip(&lengths);
        let tokens: Vec<i32> = rows.flat_map(|(row, &length)| row[..length].iter().map(|&id| id as i32)).collect();
        let text = TextBatch::pack(&tokens, &lengths, text_len, config).unwrap();
        Batch { image: tensors["image"].1.iter().map(|&number| number as f32).collect(), text, size, text_len }
    };
    paths.map(read).collect()
}

/// A step that was taken, and what the references in f64 make of its inputs, states and mask.
struct Step {
    /// The file of the weights before it.
    weights: Vec<u8>,
    got: Numbers,
    truth: Numbers,
    /// The run's mask, and the one of its own attention map.
    masks: [Vec<f64>; 2],
}

fn output(program: &Program, name: &str) -> Value {
    program.outputs.iter().find(|(output, _)| output == name).expect("the program has this output").1
}

/// Walks the nodes of a program that make the mask, or all others, with the references in f64 on what is given.
fn walk(program: &Program, mask: bool, given: Vec<(Value, Data<f64>)>) -> (Program, Values<f64>) {
    let mut walked = program.clone();
    let (values, data): (Vec<Value>, Vec<Data<f64>>) = given.into_iter().unzip();
    walked.inputs = values.into_iter().map(|value| (String::new(), value)).collect();
    walked.nodes.retain(|node| (node.scope == "mask") == mask);
    let values = Values::new(&walked, &data).run(&walked.nodes);
    (walked, values)
}

/// A case: where it lies, and what is in it.
struct Case {
    path: PathBuf,
    config: Config,
    batches: Vec<Batch>,
}

impl Case {
    fn read(path: PathBuf) -> Self {
        let config = Config::from_json(&fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
        Self { batches: batches(&path, &config), config, path }
    }

    /// A session in `mixed` with these weights.
    fn open(&self, device: Device, kernels: Kernels, weights: &Path) -> Session {
        let Batch { size, text_len, .. } = self.batches[0];
        let options = Options {
            source: Source::Numbers,
            precision: Precision::Mixed,
            device,
            kernels,
            ..Options::new(self.config.clone(), size, text_len)
        };
        let mut session = Session::open(options).unwrap();
        session.load_weights(weights).unwrap();
        session
    }

    /// All steps on a device.
    fn steps(&self, device: Device) -> Vec<Step> {
        let mut session = self.open(device, Kernels::Best, &self.path.join("weights.safetensors"));
        // What was written for Hopper takes part there, small as the case is.
        let plan = session.step_plan();
        let of = |pass: &'static str| plan.launches.iter().filter(move |launch| launch.op.name() == pass);
        // No gradient by an image: those of the cases are small enough for `halo`.
        let im2col = ["conv2d.fwd", "conv2d.wgrad"]
            .map(|pass| of(pass).filter(|launch| launch.kernel.starts_with("im2col")).count());
        let hopper = matches!(device, Device::HopperEmulated(_));
        assert!(im2col.iter().all(|&count| (count > 0) == hopper), "{im2col:?} convolutions by im2col on {device}");
        (0..self.batches.len()).map(|at| self.step(&mut session, at)).collect()
    }

    /// Whether the segmentation loss counts in a step.
    fn counts(&self, at: usize) -> bool {
        at >= self.config.warmup_steps && self.config.segmentation_weight != 0.0
    }

    /// Takes step number `at`.
    fn step(&self, session: &mut Session, at: usize) -> Step {
        let (config, batch) = (&self.config, &self.batches[at]);
        let phase = if self.counts(at) { Phase::Full } else { Phase::Warmup };
        let shapes = Shapes { batch: batch.size, text_len: batch.text_len, source: Source::Numbers };
        let program = record_step(config, &shapes, phase, Reports::Tokens).unwrap().finish();
        let mut given: Vec<(Value, Data<f64>)> = program
            .states
            .iter()
            .map(|state| {
                let numbers = session.state(&state.name).unwrap().unwrap();
                let index = program.spec(state.value).kind == Kind::Index;
                let indices = || numbers.iter().map(|&number| number as i32).collect();
                (state.value, if index { Data::Indices(indices()) } else { Data::Numbers(numbers) })
            })
            .collect();
        let before = self.file("before");
        session.save_weights(&before).unwrap();
        let weights = fs::read(before).unwrap();
        let plan = session.step_plan();
        session.step(Films::Numbers(&batch.image), &batch.text, config.learning_rate).unwrap();

        let image: Vec<f64> = batch.image.iter().map(|&number| number.into()).collect();
        let map = session.output(&plan, "out.attention_map").unwrap().unwrap();
        let mask = session.output(&plan, "out.pseudo_mask").unwrap().unwrap();
        let mut own = vec![(output(&program, "out.attention_map"), Data::Numbers(map))];
        for (name, value) in &program.inputs {
            let data = match name.as_str() {
                "image" => Data::Numbers(image.clone()),
                "ids" => Data::Indices(batch.text.ids.clone()),
                "order" => Data::Indices(batch.text.order.clone()),
                "offsets" => Data::Indices(batch.text.offsets.clone()),
                "lengths" => Data::Indices(batch.text.lengths.clone()),
                other => panic!("input {other} is not known here"),
            };
            own.extend((name == "image").then(|| (*value, data.clone())));
            given.push((*value, data));
        }
        let (_, made) = walk(&program, true, own);
        let remade = made.get(output(&program, "out.pseudo_mask")).numbers().to_vec();
        given.push((output(&program, "out.pseudo_mask"), Data::Numbers(mask.clone())));
        let (_, values) = walk(&program, false, given);
        let read = |value: Value| values.get(value).to_f64(program.spec(value).shape.elements());

        let (mut got, mut truth) = (Numbers::new(), Numbers::new());
        for (name, value) in program.outputs.iter().filter(|(name, _)| name.starts_with("loss.")) {
            got.insert(name.clone(), session.output(&plan, name).unwrap().unwrap());
            truth.insert(name.clone(), read(*value));
        }
        for &(at, value) in &program.gradients {
            let name = &program.states[at].name;
            assert_eq!(program.states[at].role, Role::Parameter { trainable: true });
            got.insert(format!("grad.{name}"), session.gradient(&plan, name).unwrap().unwrap());
            truth.insert(format!("grad.{name}"), read(value));
        }
        Step { weights, got, truth, masks: [mask, remade] }
    }

    /// A file of this test.
    fn file(&self, what: &str) -> PathBuf {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mixed");
        fs::create_dir_all(&folder).unwrap();
        folder.join(format!("{}-{what}-{:?}.safetensors", name(&self.path), std::thread::current().id()))
    }

    /// A file of weights, each changed by less than one rounding to bf16 where `draw` is not zero, so that other numbers
    /// are rounded up.
    fn beside(&self, weights: &[u8], draw: u64) -> PathBuf {
        let mut rng = Rng::new(draw, u32::from_be_bytes(*b"near"), 0);
        let part = if draw == 0 { 0.0 } else { Storage::Bf16.rounding() };
        let file = safetensors::SafeTensors::deserialize(weights).unwrap();
        let mut near = |number: f32| (f64::from(number) * (1.0 + rng.uniform(-1.0, 1.0) * part)) as f32;
        // The reader's order is another one every time; the numbers drawn shall not be.
        let mut tensors = file.tensors();
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        let changed: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, view)| {
                let data = match view.dtype() {
                    safetensors::Dtype::F32 => {
                        let numbers = bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
                        numbers.into_iter().flat_map(|number| near(number).to_le_bytes()).collect()
                    }
                    _ => view.data().to_vec(),
                };
                (name, view.dtype(), view.shape().to_vec(), data)
            })
            .collect();
        let views = changed.iter().map(|(name, dtype, shape, data)| {
            (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let path = self.file("beside");
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        path
    }

    /// The largest error, tensor by tensor, of the plain computation of step number `at` from these weights: the
    /// references, which round where the plan stores.
    fn plain(&self, weights: &[u8], at: usize) -> BTreeMap<String, f64> {
        let mut worst: BTreeMap<String, f64> = BTreeMap::new();
        // A session begins at its first step: this one, with what counts in it.
        let Batch { image, text, size, text_len } = &self.batches[at];
        let batch = Batch { image: image.clone(), text: text.clone(), size: *size, text_len: *text_len };
        let warmup_steps = usize::from(!self.counts(at));
        let alone = Self {
            path: self.path.clone(),
            config: Config { warmup_steps, ..self.config.clone() },
            batches: vec![batch],
        };
        for draw in 0..DRAWS {
            let mut session = alone.open(Device::Cpu, Kernels::Reference, &self.beside(weights, draw));
            let step = alone.step(&mut session, 0);
            assert_eq!(mask_differs(&step.masks), None, "{} {at}: the reference's own mask", name(&self.path));
            for (tensor, error) in errors(&step) {
                let worst = worst.entry(tensor.to_owned()).or_default();
                *worst = worst.max(error);
            }
        }
        worst
    }
}

/// Where a mask is not the one of the attention map.
fn mask_differs([mask, remade]: &[Vec<f64>; 2]) -> Option<usize> {
    let same = |(a, b): (&f64, &f64)| (a - b).abs() <= SMOOTHING;
    assert_eq!(mask.len(), remade.len());
    mask.iter().zip(remade).position(|pair| !same(pair))
}

/// What errors of each tensor are relative to: its rms, and a thousandth of the largest rms of a gradient, or of a loss.
fn scales(truth: &Numbers) -> BTreeMap<&str, f64> {
    let gradient = |name: &str| name.starts_with("grad.");
    let floors = [false, true].map(|of| {
        let same = truth.iter().filter(|(name, _)| gradient(name) == of);
        1e-3 * same.map(|(_, numbers)| rms(numbers.iter().copied())).fold(0.0, f64::max)
    });
    let scale = |name: &str, numbers: &Vec<f64>| rms(numbers.iter().copied()) + floors[usize::from(gradient(name))];
    truth.iter().map(|(name, numbers)| (name.as_str(), scale(name, numbers))).collect()
}

/// rms(got - truth) of every tensor, relative. Infinite where there is no number.
fn errors(step: &Step) -> BTreeMap<&str, f64> {
    let error = |(name, scale): (&'_ str, f64)| {
        let (got, truth) = (&step.got[name], &step.truth[name]);
        assert_eq!(got.len(), truth.len(), "{name}");
        let error = rms(got.iter().zip(truth).map(|(got, truth)| got - truth)) / scale;
        if error.is_nan() { f64::INFINITY } else { error }
    };
    scales(&step.truth).into_iter().map(|(name, scale)| (name, error((name, scale)))).collect()
}

/// What a tensor may be off: twice the plain error, and one rounding of what is stored.
fn bound(plain: f64) -> f64 {
    2.0 * plain + Storage::Bf16.rounding()
}

/// Tensors of a step that are further off, and the largest part of what is allowed that any one takes up.
fn beyond(step: &Step, plain: &BTreeMap<String, f64>) -> (Vec<String>, f64) {
    let errors = errors(step);
    let bad = errors.iter().filter(|&(&name, &error)| {
        let ok = error <= bound(plain[name]);
        !ok
    });
    let bad = bad.map(|(&name, error)| format!("{name}: error {error:.2e}, allowed {:.2e}", bound(plain[name])));
    let part = errors.iter().map(|(&name, &error)| error / bound(plain[name])).fold(0.0, f64::max);
    (bad.collect(), part)
}

#[test]
fn masks_losses_and_gradients_hold() {
    let mut tensors = 0;
    for case in cases().into_iter().map(Case::read) {
        for device in [Device::Cpu, Device::CudaEmulated(0), Device::HopperEmulated(0)] {
            for (number, step) in case.steps(device).iter().enumerate() {
                let at = format!("{} on {device}, step {number}", name(&case.path));
                if let Some(pixel) = mask_differs(&step.masks) {
                    let [mask, remade] = &step.masks;
                    panic!("{at}, pixel {pixel}: {} instead of {}", mask[pixel], remade[pixel]);
                }
                let (bad, part) = beyond(step, &case.plain(&step.weights, number));
                assert!(bad.is_empty(), "{at}: {} tensors:\n{}", bad.len(), bad.join("\n"));
                println!("{at}: the same mask; at most {part:.2} of what is allowed");
                tensors += step.truth.len();
            }
        }
    }
    // The emulated device is two of the three.
    let third = tensors / 3;
    for (backend, tensors) in [("cpu", third), ("emulated", 2 * third)] {
        ledger::ran(
            backend,
            format!("{tensors} losses and gradients of steps in mixed, given the run's mask; masks remade"),
        );
    }
}

/// What the comparison is for: a wrong result does not pass it.
#[test]
fn wrong_masks_losses_and_gradients_are_refused() {
    let case = Case::read(cases().remove(0));
    let mut step = case.steps(Device::Cpu).remove(0);
    let plain = case.plain(&step.weights, 0);
    assert_eq!((beyond(&step, &plain).0, mask_differs(&step.masks)), (Vec::new(), None));
    for wrong in [f64::NAN, 0.0] {
        let pixel = step.masks[1].iter().position(|&pixel| pixel > 0.5).unwrap();
        let right = std::mem::replace(&mut step.masks[0][pixel], wrong);
        assert_eq!(mask_differs(&step.masks), Some(pixel), "a mask with {wrong} passes");
        step.masks[0][pixel] = right;
    }
    let scales: BTreeMap<String, f64> =
        scales(&step.truth).into_iter().map(|(name, scale)| (name.to_owned(), scale)).collect();
    for (tensor, scale) in scales {
        let allowed = bound(plain[&tensor]) * scale;
        for (off, refused) in [(f64::NAN, 1), (1.1 * allowed, 1), (-1.1 * allowed, 1), (0.9 * allowed, 0)] {
            let wrong = step.truth[&tensor].iter().map(|right| right + off).collect();
            let got = step.got.insert(tensor.clone(), wrong).unwrap();
            assert_eq!(beyond(&step, &plain).0.len(), refused, "{tensor}, {off} off where {allowed} is allowed");
            step.got.insert(tensor.clone(), got);
        }
        if tensor.starts_with("loss.") {
            let got = step.got[&tensor].clone();
            step.got.insert(tensor.clone(), got.iter().map(|loss| 1.1 * loss).collect());
            assert_eq!(beyond(&step, &plain).0.len(), 1, "{tensor} that is a tenth off passes");
            step.got.insert(tensor, got);
        }
    }
}
