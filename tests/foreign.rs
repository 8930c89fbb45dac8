//! Ops that are defined outside the crate: SwiGLU of `examples/` is held to what the crate's own ops are held to, and ops
//! with prepared faults have to be caught.

mod common;
#[path = "../examples/swiglu/mod.rs"]
mod swiglu;

use std::collections::HashSet;
use std::sync::Arc;

use common::ledger;
use g2d::base::{Number, Rng, Spec};
use g2d::kernels::shaders::Offered;
use g2d::kernels::{Architecture, Brought, Library, manifest};
use g2d::ops::Op;
use g2d::program::record::Init;
use g2d::program::{
    Backward, Case, DeviceIo, HostIo, Kernels, Misfit, Operation, Outputs, Pass, Precision, Recorder, Size,
    StateLayout, Value, plan,
};
use g2d::train::{Device, Engine, Resources};
use g2d::verify::suite::{Report, Suite};
use swiglu::SwiGlu;

const FORWARD: SwiGlu = SwiGlu { pass: Pass::Fwd };

fn tried<O: Operation>(device: Device) -> Report {
    let suite = Suite { cases: 3, ..Suite::new(device) };
    suite.foreign::<O>().unwrap_or_else(|error| panic!("{device}: {error}"))
}

/// The processor, the emulated device, and the first adapter where there is one.
fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu, Device::CudaEmulated(0)];
    #[cfg(feature = "wgpu")]
    if !g2d::wgpu::adapter::list().is_empty() {
        devices.push(Device::Wgpu(0));
        return devices;
    }
    ledger::skipped("wgpu", "there is no adapter: shaders of foreign ops are not tried", ledger::VULKAN);
    devices
}

#[test]
fn an_op_of_another_crate_is_verified_as_ours_are() {
    for device in devices() {
        let report = tried::<SwiGlu>(device);
        assert!(report.passed(), "{device}: {report:?}");
        let kernel = if device == Device::Cpu { "reference" } else { "numbers" };
        for pass in ["swiglu.fwd", "swiglu.bwd"] {
            let line = &report.kernels[&format!("{pass}/{kernel}")];
            assert!(line.passed >= 3 && line.used <= 1.0, "{device}: {pass}: {line:?}");
        }
        assert_eq!(report.rules.keys().collect::<Vec<_>>(), [&"swiglu.fwd"], "{device}");
        assert_eq!(report.entries.len(), if device == Device::Cpu { 0 } else { 2 }, "{device}");
        let name = device.to_string();
        ledger::ran(name.trim_end_matches(":0"), "an op defined outside the crate: kernels, gradient rule");
    }
}

/// SwiGLU with a fault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Faulty<const FAULT: u8>(SwiGlu);

/// The two gradients stand for each other.
const SWAPPED: u8 = 0;
/// The reference leaves the first number of an output out.
const UNWRITTEN: u8 = 1;
/// Inputs of its own cases are refused.
const REFUSED: u8 = 2;
/// No case launches the entry of the backward pass.
const UNTRIED: u8 = 3;
/// Kernels are given fewer bytes of parameters than they take.
const SHORT: u8 = 4;
/// The second input is taken for the first.
const MISREAD: u8 = 5;

impl<const FAULT: u8> Operation for Faulty<FAULT> {
    const VARIANTS: usize = if FAULT == UNTRIED { 1 } else { 2 };
    const PTX: &'static [Brought] = SwiGlu::PTX;

    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        Misfit::unless(FAULT != REFUSED, || "no input fits".into())?;
        self.0.infer(inputs)
    }

    fn vjp(&self, r: &mut Recorder, at: &Backward<'_>) -> Result<Vec<Option<Value>>, Misfit> {
        let mut gradients = self.0.vjp(r, at)?;
        if FAULT == SWAPPED {
            gradients.reverse();
        }
        Ok(gradients)
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        let values = (0..io.input_count()).map(|at| io.numbers(at));
        let mut values: Vec<&[N]> = values.collect();
        if FAULT == MISREAD {
            values.reverse();
        }
        let shape = io.shape(0);
        let mut made = vec![vec![N::ZERO; shape.elements()]; if self.0.pass == Pass::Fwd { 1 } else { 2 }];
        let inputs = values.into_iter().map(|values| (shape, g2d::program::host::HostInput::Numbers(values)));
        let outputs = made.iter_mut().map(|made| (shape, g2d::program::host::HostOutput::Numbers(made)));
        self.0.reference(&mut HostIo::new(inputs.collect(), outputs.collect()));
        let first = usize::from(FAULT == UNWRITTEN);
        made.iter().enumerate().for_each(|(at, made)| io.take(at)[first..].copy_from_slice(&made[first..]));
    }

    fn cuda(&self) -> &'static [&'static str] {
        self.0.cuda()
    }

    fn run_cuda(&self, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        let mut whole = DeviceIo::new(
            (0..io.input_count()).map(|at| io.input(at)).collect(),
            (0..io.output_count()).map(|at| io.output(at)).collect(),
            0,
            0,
        );
        self.0.run_cuda(kernel, &mut whole)?;
        for mut call in whole.finish().calls {
            if FAULT == SHORT {
                call.parameters.truncate(40);
            }
            io.launch(call);
        }
        Ok(())
    }

    fn case(variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        SwiGlu::case(variant, size, rng).map(Self)
    }
}

/// What is said of a fault.
fn said(report: &Report) -> String {
    assert!(!report.passed(), "not noticed: {report:?}");
    let failures = report.kernels.values().filter_map(|line| line.failure.clone());
    let rules = report.rules.values().flatten().cloned();
    failures.chain(rules).chain(report.untried.clone()).collect::<Vec<_>>().join("\n")
}

#[test]
fn faults_of_ops_of_other_crates_are_reported() {
    let device = Device::CudaEmulated(0);
    let swapped = said(&tried::<Faulty<SWAPPED>>(device));
    assert!(swapped.contains("central difference"), "{swapped}");
    let unwritten = said(&tried::<Faulty<UNWRITTEN>>(device));
    assert!(unwritten.contains("element 0 is poison, infinite or unwritten"), "{unwritten}");
    let refused = said(&tried::<Faulty<REFUSED>>(device));
    assert!(refused.contains("its own case does not fit: no input fits"), "{refused}");
    let untried = said(&tried::<Faulty<UNTRIED>>(device));
    assert_eq!(untried, "swiglu_bwd_f32");
    let short = said(&tried::<Faulty<SHORT>>(device));
    assert!(short.contains("48") && short.contains("40"), "{short}");
    // The reference of the forward pass reads its inputs in the other order: the kernel is the one that is right.
    let misread = said(&tried::<Faulty<MISREAD>>(device));
    assert!(misread.contains("error") && misread.contains("instead of"), "{misread}");
}

#[test]
fn a_failing_case_is_made_small() {
    let misread = tried::<Faulty<MISREAD>>(Device::CudaEmulated(0));
    let failure = misread.kernels["swiglu.fwd/numbers"].failure.clone().unwrap();
    assert!(failure.contains("Activation[1,1,1] Activation[1,1,1]"), "{failure}");
}

#[test]
fn ops_of_other_crates_are_compared_and_printed() {
    let (once, again) = (Op::from(FORWARD), Op::from(FORWARD));
    let others = [Op::from(SwiGlu { pass: Pass::Bwd }), Op::foreign(Faulty::<SWAPPED>(FORWARD))];
    assert_eq!(once, again);
    assert!(others.iter().all(|&other| other != once));
    assert_ne!(Op::foreign(Faulty::<SWAPPED>(FORWARD)), Op::foreign(Faulty::<UNTRIED>(FORWARD)));
    let different: HashSet<Op> = [once, again].into_iter().chain(others).collect();
    assert_eq!(different.len(), 3);
    assert_eq!(format!("{once:?}"), "Foreign(SwiGlu { pass: Fwd })");
    assert_eq!(once.name(), "swiglu.fwd");
}

/// loss = Σ w · swiglu(a, b) over a parameter a, all of 40 numbers; of another SwiGLU if one is given.
fn recorded(op: Op) -> Recorder {
    let mut r = Recorder::new();
    let a = r.parameter("a", [1, 40], Init::Normal(1.0));
    let b = r.input("b", Spec::exact([1, 40]));
    let weights = r.input("weights", Spec::exact([1, 40]));
    let y = r.one(op, &[a, b]).unwrap();
    let product = g2d::ops::linear::Linear::fwd().output(g2d::base::Kind::Exact);
    let loss = r.one(product, &[y, weights]).unwrap();
    r.output("loss", loss);
    r
}

#[test]
fn plans_print_the_kernels_that_an_op_brings_along() {
    let program = recorded(FORWARD.into()).finish();
    let planned = |kernels, precision| plan(program.clone(), &StateLayout::of(&program, precision), kernels);
    let cuda = planned(Kernels::Cuda(Architecture::default()), Precision::Exact).unwrap();
    let digest = manifest::digest(include_str!("../examples/swiglu/swiglu.ptx"));
    let text = cuda.to_string();
    assert!(text.contains("swiglu.fwd/numbers -> f32[1,40]"), "{text}");
    assert!(text.contains(&format!("kernels of swiglu.ptx, blake3 {digest}\n")), "{text}");
    assert_eq!(*cuda, *planned(Kernels::Cuda(Architecture::default()), Precision::Exact).unwrap());
    assert!(
        planned(Kernels::Wgsl(Offered::default()), Precision::Exact)
            .unwrap()
            .to_string()
            .contains("kernels of swiglu, blake3 ")
    );
    assert!(!planned(Kernels::Best, Precision::Exact).unwrap().to_string().contains("blake3"));
}

#[test]
fn a_stored_type_that_an_op_of_another_crate_does_not_take_is_told_when_planning() {
    let mut r = Recorder::new();
    let [a, b] = ["a", "b"].map(|name| r.input(name, Spec::activation([8])));
    let y = r.one(FORWARD, &[a, b]).unwrap();
    r.output("y", y);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let refused = plan(program.clone(), &states, Kernels::Cuda(Architecture::default())).unwrap_err().to_string();
    assert!(refused.contains("no cuda kernel does swiglu.fwd: numbers: a is bf16, f32 is needed"), "{refused}");
    plan(program, &states, Kernels::Best).unwrap();
}

/// Loss and gradient by a.
fn step(device: Device, precision: Precision) -> (f64, Vec<f64>) {
    let mut r = recorded(FORWARD.into());
    let loss = r.program().output("loss").unwrap();
    let seed = r.input("seed", r.spec(loss));
    let a = r.program().states[0].value;
    let gradient = r.reverse(&[(loss, seed)], &[a]).unwrap()[0].unwrap();
    r.output("gradient", gradient);
    let program = r.finish();
    let on = Resources { device, precision, ..Resources::default() };
    let (mut engine, plans) = Engine::open(&on, program.clone(), vec![program]).unwrap();
    let plan: &Arc<_> = &plans[0];
    engine.initialise(5).unwrap();
    let numbers = |stream| {
        let mut rng = Rng::new(5, stream, 0);
        (0..40).map(|_| rng.normal() as f32).collect::<Vec<_>>()
    };
    engine.write(plan, "b", &numbers(1)).unwrap();
    engine.write(plan, "weights", &numbers(2)).unwrap();
    engine.write(plan, "seed", &[1.0]).unwrap();
    engine.replay(plan).unwrap();
    (engine.scalar(plan, "loss").unwrap(), engine.output(plan, "gradient").unwrap().unwrap())
}

#[test]
fn an_op_of_another_crate_runs_in_plans_of_every_device() {
    let (truth, slope) = step(Device::Cpu, Precision::F64);
    assert!(truth.abs() > 0.1, "{truth}");
    for device in devices() {
        let (loss, gradient) = step(device, Precision::Exact);
        assert!((loss - truth).abs() <= 1e-5 * truth.abs().max(1.0), "{device}: {loss} and {truth}");
        assert_eq!(gradient.len(), slope.len());
        for (got, wanted) in gradient.iter().zip(&slope) {
            assert!((got - wanted).abs() <= 1e-5 * wanted.abs().max(1.0), "{device}: {got} and {wanted}");
        }
    }
}

#[test]
fn texts_that_share_a_name_or_a_kernel_are_refused() {
    let mut library = Library::shipped();
    let shipped = library.texts.len();
    library.bring(SwiGlu::PTX).unwrap();
    library.bring(SwiGlu::PTX).unwrap();
    assert_eq!(library.texts.len(), shipped + 1, "the same text is there once");
    let same_name = [Brought { name: "swiglu.ptx", text: ".visible .entry other() { ret; }" }];
    let same_kernel = [Brought { name: "other.ptx", text: ".visible .entry swiglu_fwd_f32() { ret; }" }];
    let ours = [Brought { name: "other.ptx", text: ".visible .entry adamw_update_f32_sm80() { ret; }" }];
    for (clash, with) in [(same_name, "swiglu.ptx"), (same_kernel, "swiglu.ptx"), (ours, "adamw.ptx")] {
        let refused = library.bring(&clash).unwrap_err().to_string();
        assert!(refused.contains(with) && refused.contains("give it another"), "{refused}");
    }
    assert_eq!(library.texts.len(), shipped + 1);
}
