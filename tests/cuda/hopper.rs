//! Plans for Hopper: which kernels they take and why, where their tensors lie; and a whole step by these kernels.

use std::sync::Arc;

use g2d::base::{Rng, Spec};
use g2d::cuda::Modules;
use g2d::cuda::driver::emulated::Emulated;
use g2d::cuda::driver::{Attributes, Driver};
use g2d::kernels::{Architecture, Library};
use g2d::model::batch::{Reports, Shapes, Source, TextBatch};
use g2d::model::config::Config;
use g2d::ops::Op;
use g2d::ops::attention::Attention;
use g2d::ops::conv2d::{Conv2d, HALO, IM2COL, STEM};
use g2d::ops::linear::matmul::WGMMA;
use g2d::ops::linear::{Epilogue, Linear};
use g2d::program::{
    Candidate, DeviceIo, KernelCall, Kernels, Misfit, Plan, Precision, Recorder, StateLayout, considered, plan,
};
use g2d::train::Device;
use g2d::train::session::{Films, Options, Session, step_plan};
use g2d::verify::compare::Storage;
use g2d::verify::device::{Failure, Target};
use g2d::verify::shadow::repeated;

/// One linear map of so many rows, in bf16.
fn planned(rows: usize, features: [usize; 2], architecture: Architecture) -> Plan {
    let mut r = Recorder::new();
    let x = r.input("x", Spec::activation([rows, features[0]]));
    let w = r.input("w", Spec::activation([features[1], features[0]]));
    let y = r.scope("layer", |r| r.one(Linear::fwd(), &[x, w])).expect("they fit");
    r.output("y", y);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels").into_plan()
}

/// What becomes of each kernel of the only launch.
fn tried(plan: &Plan) -> Vec<Candidate> {
    considered(plan, &plan.launches[0])
}

#[test]
fn a_plan_takes_what_its_device_has_and_what_is_predicted_to_take_less() {
    let large = |architecture| planned(1 << 16, [768, 768], architecture);
    let (old, new) = (large(Architecture::Sm80), large(Architecture::Sm90a));
    assert_eq!((old.launches[0].kernel, new.launches[0].kernel), ("mma", "wgmma"));
    let why = tried(&old)[0].refusal.clone().expect("it is refused");
    assert!(why.contains("compute capability 9.0") && why.contains("sm_80"), "{why}");
    let times = tried(&new).into_iter().map(|candidate| candidate.predicted).collect::<Vec<_>>();
    assert!(times[0] < times[1] && times[1].is_some() && times[2].is_none(), "{times:?}");
    // Six tiles for 132 multiprocessors.
    let small = planned(256, [768, 768], Architecture::Sm90a);
    let times = tried(&small).into_iter().map(|candidate| candidate.predicted).collect::<Vec<_>>();
    assert!(small.launches[0].kernel == "mma" && times[1] < times[0] && times[0].is_some(), "{times:?}");
    let ragged = planned(1 << 16, [768, 772], Architecture::Sm90a);
    let why = tried(&ragged)[0].refusal.clone().expect("it is refused");
    assert!(ragged.launches[0].kernel == "mma" && why.contains("multiples of 8"), "{why}");
}

/// Which kernel a convolution gets in bf16, and what becomes of each.
fn chosen(conv: Conv2d, x: [usize; 4], outputs: usize, architecture: Architecture) -> (&'static str, Vec<Candidate>) {
    let mut r = Recorder::new();
    let w = r.input("w", Spec::activation([outputs, conv.kernel, conv.kernel, x[3]]));
    let x = r.input("x", Spec::activation(x));
    let y = r.one(conv, &[x, w]).expect("they fit");
    r.output("y", y);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    let plan = plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels").into_plan();
    (plan.launches[0].kernel, tried(&plan))
}

#[test]
fn a_convolution_gets_tiles_of_its_own_width() {
    let three = Conv2d::fwd(3);
    let on = |channels: usize, outputs| chosen(three, [256, 16, 16, channels], outputs, Architecture::Sm90a).0;
    assert_eq!([on(256, 256), on(128, 128), on(64, 64)], ["im2col256", "im2col128", "im2col64"]);
    // Of few channels most of a box is zeros, and of as few columns most of a tile.
    assert_eq!([on(16, 16), on(32, 32)], [HALO; 2]);
    let stem = |of| chosen(Conv2d::fwd(7).stride(2).padding(3), [256, 256, 256, 3], 64, of).0;
    assert_eq!([Architecture::Sm80, Architecture::Sm90a].map(stem), [STEM; 2]);
    let (kernel, tried) = chosen(three, [256, 16, 16, 256], 256, Architecture::Sm80);
    assert_eq!(kernel, "gather");
    assert!(tried[1].refusal.as_ref().is_some_and(|why| why.contains("compute capability 9.0")), "{tried:?}");
    let (kernel, tried) = chosen(three, [256, 16, 16, 12], 64, Architecture::Sm90a);
    assert!(kernel == HALO && tried[1].refusal.as_ref().is_some_and(|why| why.contains("multiples of 8")));
    // Of single pixels a narrow product is one of them too.
    let narrow = chosen(Conv2d::fwd(1), [256, 64, 64, 64], 64, Architecture::Sm90a);
    let refused: Vec<_> = narrow.1.iter().filter(|of| of.refusal.is_some()).map(|of| of.name).collect();
    assert_eq!(refused, [HALO, STEM], "{narrow:?}");
}

/// Which kernel attention of so many sequences and rows of each gets in bf16, with 12 heads of `depth` features.
fn attention(sequences: usize, rows: usize, depth: usize, architecture: Architecture) -> Plan {
    let mut r = Recorder::new();
    let [q, k, v] = ["q", "k", "v"].map(|name| r.input(name, Spec::activation([sequences * rows, 12 * depth])));
    let offsets = r.input("offsets", Spec::index([sequences + 1]));
    let lengths = r.input("lengths", Spec::index([sequences]));
    let made = r.node(Attention::fwd(12), &[q, k, v, offsets, lengths]).expect("they fit");
    r.output("context", made[0]);
    let program = r.finish();
    let states = StateLayout::of(&program, Precision::Mixed);
    plan(program, &states, Kernels::Cuda(architecture)).expect("there are kernels").into_plan()
}

#[test]
fn attention_goes_by_warpgroups_where_there_are_heads_for_the_multiprocessors() {
    let [many, old] = [Architecture::Sm90a, Architecture::Sm80].map(|of| attention(256, 256, 64, of));
    assert_eq!((many.launches[0].kernel, old.launches[0].kernel), ("warpgroups", "tiles"));
    let why = tried(&old)[0].refusal.clone().expect("it is refused");
    assert!(why.contains("compute capability 9.0"), "{why}");
    // One long sequence: twelve blocks have a head each, where tiles of its rows go to all multiprocessors.
    let one = attention(1, 4096, 64, Architecture::Sm90a);
    let times = tried(&one).into_iter().map(|candidate| candidate.predicted).collect::<Vec<_>>();
    assert!(one.launches[0].kernel == "tiles" && times[1] < times[0] && times[1].is_some(), "{times:?}");
    let narrow = attention(256, 256, 32, Architecture::Sm90a);
    let why = tried(&narrow)[0].refusal.clone().expect("it is refused");
    assert!(narrow.launches[0].kernel == "tiles" && why.contains("heads of 64"), "{why}");
}

/// Of the largest step, on both architectures: all sums that are left are the loss and the gradient of what is pooled, which no
/// product makes; and gelu and its gradient are joined too.
#[test]
fn sums_are_made_in_the_products_that_write_them_last() {
    let config = Config::preset("full").and_then(|config| config.with_recipe("official")).expect("there is one");
    let shapes = Shapes { batch: 256, text_len: 256, source: Source::Bytes };
    for architecture in [Architecture::Sm80, Architecture::Sm90a] {
        let kernels = Kernels::Cuda(architecture);
        let plan = step_plan(&config, &shapes, Reports::Tokens, Precision::Mixed, kernels).expect("it can be planned");
        let scopes = |wanted: &dyn Fn(&Op) -> bool| -> Vec<&str> {
            plan.launches.iter().filter(|launch| wanted(&launch.op)).map(|launch| launch.scope.as_str()).collect()
        };
        let left = scopes(&|op| op.name() == "accumulate.add");
        assert!(scopes(&|op| op.name().starts_with("gelu.")).is_empty(), "{architecture}");
        assert_eq!(left, ["loss", "img_model.encoder.maxpool'"], "{architecture}");
        let made = scopes(&|op| {
            matches!(op, Op::Linear(op) if op.epilogue == Epilogue::Add) || matches!(op, Op::Conv2d(op) if op.add)
        });
        assert_eq!(made.len(), 68, "{architecture}");
    }
}

#[test]
fn a_plan_says_where_its_tensors_lie() {
    let text = planned(1 << 16, [768, 264], Architecture::Sm90a).to_string();
    let maps: Vec<&str> = text.lines().filter(|line| line.contains("map of")).collect();
    assert_eq!(
        maps,
        [
            "     map of i+0: Bf16 [768, 65536] strides [1536] Tile([64, 128]) swizzle B128",
            "     map of i+6000000: Bf16 [768, 264] strides [1536] Tile([64, 256]) swizzle B128",
        ],
        "{text}"
    );
    let old = planned(1 << 16, [768, 264], Architecture::Sm80).to_string();
    assert!(!old.contains("map of"), "{old}");
}

/// The kernels of this device with every product by `wgmma` that it takes; counts them. The gradient by a convolution's weights is
/// left out: its partial sums are others; and convolutions of few channels, which add their channels in another order.
struct Products {
    modules: Modules,
    launched: usize,
}

impl Target for Products {
    type Call = KernelCall;

    const STORAGES: &'static [Storage] = Modules::STORAGES;

    fn kernels(op: &Op) -> &'static [&'static str] {
        Modules::kernels(op)
    }

    fn ask(op: &Op, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        let hopper = [WGMMA, IM2COL[0], IM2COL[1], IM2COL[2]];
        let takes = |name: &&'static str| op.cuda().contains(name) && op.run_cuda(name, &mut copy(io)).is_ok();
        let own_order = op.name() == "conv2d.wgrad" || [HALO, STEM].contains(&kernel);
        let others: Vec<_> = if own_order { Vec::new() } else { hopper.into_iter().filter(takes).collect() };
        // Each width gets its share of the shapes.
        let turn = io.output(0).spec.shape.rows() % others.len().max(1);
        op.run_cuda(others.get(turn).copied().unwrap_or(kernel), io)
    }

    fn symbol(call: &KernelCall) -> &'static str {
        call.symbol
    }

    fn asked(&self) -> Vec<(String, Option<Attributes>)> {
        Target::asked(&self.modules)
    }

    fn bring(&mut self, op: &Op) -> Result<(), Failure> {
        Target::bring(&mut self.modules, op)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, Failure> {
        Target::allocate(&mut self.modules, bytes)
    }

    fn free(&mut self, at: u64) {
        Target::free(&mut self.modules, at);
    }

    fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure> {
        Target::upload(&mut self.modules, to, bytes)
    }

    fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        Target::download(&mut self.modules, from, bytes)
    }

    fn launch(&mut self, call: &KernelCall) -> Result<(), Failure> {
        self.launched += usize::from(!call.maps.is_empty());
        Target::launch(&mut self.modules, call)
    }

    fn synchronize(&mut self) -> Result<(), Failure> {
        Target::synchronize(&mut self.modules)
    }
}

/// The same values, of which nothing is asked yet.
fn copy(io: &DeviceIo) -> DeviceIo {
    let inputs = (0..io.input_count()).map(|at| io.input(at)).collect();
    DeviceIo::new(inputs, (0..io.output_count()).map(|at| io.output(at)).collect(), 0, 0)
}

/// The emulated device adds in order of k by either instruction: so each launch gives the same bits, and the step stays as near to
/// the specification as `tests/mixed.rs` has it.
#[test]
fn a_step_with_its_products_by_wgmma_gives_the_same_bits() {
    let config = Config { warmup_steps: 0, ..Config::preset("micro").expect("a preset") };
    let (device, precision) = (Device::HopperEmulated(0), Precision::Mixed);
    let options = Options { device, precision, source: Source::Numbers, ..Options::new(config.clone(), 4, 16) };
    let mut session = Session::open(options).expect("it fits");
    let mut rng = Rng::new(17, 0, 0);
    let films: Vec<f32> =
        (0..4 * config.image_size * config.image_size).map(|_| rng.uniform(0.0, 1.0) as f32).collect();
    let lengths = [16, 5, 11, 3];
    let tokens: Vec<i32> = (0..lengths.iter().sum()).map(|_| rng.below(config.vocab_size) as i32).collect();
    let texts = TextBatch::pack(&tokens, &lengths, 16, &config).expect("they fit");
    session.step(Films::Numbers(&films), &texts, 1e-3).expect("a step");
    let emulated: Arc<dyn Driver> = Arc::new(Emulated::default());
    let mut products = Products { modules: Modules::new(emulated, Library::shipped()), launched: 0 };
    repeated(&mut session, &mut products).unwrap_or_else(|what| panic!("{what}"));
    assert!(products.launched > 60, "{} products only", products.launched);
}
