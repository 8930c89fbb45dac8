//! Runs a small kernel on the emulated device.
//!
//! Every kernel has the parameters a, b, c (pointers) and n, and finds them in registers, with its thread number `%tx`,
//! its number in the grid `%gx`, and `%ta`, `%tb`, `%tc`: the addresses of word `%gx` of a, b and c. Tensor maps follow as
//! parameters `map0`, `map1`, …
//!
//! With `G2D_ASSEMBLE` set to the path of `ptxas`, every text for sm_90a that runs is assembled too.

use std::collections::BTreeSet;
use std::sync::Mutex;

use g2d::cuda::driver::emulated::{Check, Checks, Completion, Counters, Emulated, Options, Report};
use g2d::cuda::driver::{Address, Driver, DriverError, Launch, Stream, TensorMapSpec};

const HEAD: &str = "
.version 8.0
.target TARGET
.address_size 64
MODULE
.visible .entry kernel(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 nMAPS)
{
    .reg .pred %p<16>;
    .reg .b16 %h<16>;
    .reg .b32 %r<64>;
    .reg .f32 %f<64>;
    .reg .b64 %rd<32>;
    .reg .b64 %a, %b, %c, %ta, %tb, %tc, %off;
    .reg .b32 %n, %tx, %cx, %nx, %gx;
    ld.param.u64 %a, [a];
    ld.param.u64 %b, [b];
    ld.param.u64 %c, [c];
    ld.param.u32 %n, [n];
    mov.u32 %tx, %tid.x;
    mov.u32 %cx, %ctaid.x;
    mov.u32 %nx, %ntid.x;
    mad.lo.u32 %gx, %cx, %nx, %tx;
    mul.wide.u32 %off, %gx, 4;
    add.u64 %ta, %a, %off;
    add.u64 %tb, %b, %off;
    add.u64 %tc, %c, %off;
";

/// A kernel with its data and its launch.
#[derive(Clone)]
pub struct Case {
    pub module: String,
    pub body: String,
    pub target: &'static str,
    pub a: Vec<u32>,
    /// Words of b and of c; b is filled with zeros, c is not written.
    pub b: usize,
    pub c: usize,
    pub n: u32,
    pub launch: Launch,
    pub maps: Vec<(Buffer, u64, TensorMapSpec)>,
}

/// A buffer that a tensor map describes.
#[derive(Clone, Copy, Debug)]
pub enum Buffer {
    A,
    B,
}

/// What a run left.
#[derive(Debug, PartialEq)]
pub struct Ran {
    pub b: Vec<u32>,
    pub counters: Counters,
}

impl Case {
    /// One warp; a holds 0, 1, 2, … (256 words), b 256 words.
    pub fn new(body: &str) -> Self {
        Self {
            module: String::new(),
            body: body.to_owned(),
            target: "sm_80",
            a: (0..256).collect(),
            b: 256,
            c: 256,
            n: 256,
            launch: Launch::linear(1, 32),
            maps: Vec::new(),
        }
    }

    pub fn module(self, module: &str) -> Self {
        Self { module: module.to_owned(), ..self }
    }

    pub fn target(self, target: &'static str) -> Self {
        Self { target, ..self }
    }

    pub fn a(self, a: impl IntoIterator<Item = u32>) -> Self {
        Self { a: a.into_iter().collect(), ..self }
    }

    pub fn n(self, n: u32) -> Self {
        Self { n, ..self }
    }

    pub fn threads(self, threads: u32) -> Self {
        self.launch(Launch::linear(1, threads))
    }

    /// Adds a tensor map of a buffer from a byte on; the address in `spec` does not count.
    pub fn map(mut self, of: Buffer, at: u64, spec: TensorMapSpec) -> Self {
        self.maps.push((of, at, spec));
        self
    }

    pub fn launch(self, launch: Launch) -> Self {
        Self { launch, ..self }
    }

    pub fn ptx(&self) -> String {
        let maps: String = (0..self.maps.len()).map(|at| format!(", .param .align 64 .b8 map{at}[128]")).collect();
        let head =
            HEAD.replace("TARGET", self.target).replace("MODULE", &self.module).replace("nMAPS", &format!("n{maps}"));
        format!("{head}\n{}\n    ret;\n}}\n", self.body)
    }

    /// Runs on a device with these options.
    pub fn run(&self, options: Options) -> Result<Ran, Box<Report>> {
        self.assemble();
        let device = Emulated::new(options);
        let stream = Stream::DEFAULT;
        let (a, b, c) = (
            self.memory(&device, "a", self.a.len()),
            self.memory(&device, "b", self.b),
            self.memory(&device, "c", self.c),
        );
        let bytes: Vec<u8> = self.a.iter().flat_map(|word| word.to_le_bytes()).collect();
        device.upload(a, &bytes, stream).expect("upload");
        device.fill(b, 0, 4 * self.b as u64, stream).expect("fill");
        let module = device.load("case.ptx", &self.ptx()).unwrap_or_else(|error| panic!("{error}\n{}", self.ptx()));
        let kernel = device.function(module, "kernel").expect("the kernel is there");
        device.allow_shared(kernel, 100 << 10).expect("shared memory");
        let mut parameters: Vec<u8> = [a, b, c].iter().flat_map(|at| at.0.to_le_bytes()).collect();
        parameters.extend(self.n.to_le_bytes());
        for (of, at, spec) in &self.maps {
            let buffer = [a, b][*of as usize];
            let map = device.tensor_map(&TensorMapSpec { address: buffer.offset(*at), ..spec.clone() }).expect("a map");
            parameters.resize(parameters.len().next_multiple_of(64), 0);
            parameters.extend(map.0.iter().flat_map(|word| word.to_le_bytes()));
        }
        match device.launch(kernel, self.launch, &parameters, stream) {
            Ok(()) => {}
            Err(DriverError::Fault { .. }) => return Err(Box::new(device.report().expect("a fault has a report"))),
            Err(error) => panic!("{error}"),
        }
        let mut bytes = vec![0; 4 * self.b];
        device.download(b, &mut bytes, stream).expect("download");
        let words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        Ok(Ran { b: words.collect(), counters: device.counters() })
    }

    /// Has the vendor's assembler take the text, where it is at hand, once.
    fn assemble(&self) {
        static DONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let Some(ptxas) = std::env::var_os("G2D_ASSEMBLE").filter(|_| self.target == "sm_90a") else { return };
        let text = self.ptx();
        let mut done = DONE.lock().expect("no other test has failed in here");
        if !done.insert(text.clone()) {
            return;
        }
        let path = std::env::temp_dir().join(format!("g2d-{}-assembled.ptx", std::process::id()));
        std::fs::write(&path, &text).expect("the folder of temporary files can be written");
        let assembled = std::process::Command::new(ptxas).args(["-arch=sm_90a", "-o", "/dev/null"]).arg(&path).output();
        let assembled = assembled.expect("the assembler runs");
        assert!(assembled.status.success(), "{}\n{text}", String::from_utf8_lossy(&assembled.stderr));
    }

    fn memory(&self, device: &Emulated, name: &str, words: usize) -> Address {
        let at = device.allocate(4 * words as u64).expect("memory");
        assert!(device.label(at, name));
        at
    }

    /// Runs in the natural order and in three others, with late, early and mixed completion; all must agree.
    pub fn words(&self) -> Vec<u32> {
        let run = |options| self.run(options).unwrap_or_else(|report| panic!("{report}"));
        let first = run(Options::default()).b;
        for (seed, completion) in [(1, Completion::Random), (2, Completion::Early), (3, Completion::Late)] {
            let other = run(Options { seed, completion, ..Options::default() });
            assert_eq!(first, other.b, "seed {seed}, {completion:?}");
        }
        first
    }

    pub fn floats(&self) -> Vec<f32> {
        self.words().into_iter().map(f32::from_bits).collect()
    }

    /// The report that the natural order gives.
    #[track_caller]
    pub fn report(&self) -> Box<Report> {
        self.run(Options::default()).expect_err("the kernel has a fault")
    }

    /// Fails with this check under one of a few seeds, and passes with `off` applied to the checks.
    #[track_caller]
    pub fn provokes(&self, check: Check, off: impl Fn(&mut Checks)) -> Box<Report> {
        let report = self.report();
        assert_eq!(report.check, check, "{report}");
        let mut checks = Checks::default();
        off(&mut checks);
        if let Err(report) = self.run(Options { checks, ..Options::default() }) {
            panic!("still reported with the checker off: {report}");
        }
        report
    }
}
