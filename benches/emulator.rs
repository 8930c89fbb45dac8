//! Speed of the emulated CUDA device on one thread, with every checker and with none: warp instructions per second on
//! an addition and a GELU, floating-point operations per second on a matrix product. With every checker each is also
//! set against its floor: the median of a few launches, on a machine that does nothing else.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use g2d::cuda::driver::emulated::{Checks, Emulated, Options};
use g2d::cuda::driver::{Address, Driver, DriverError, Launch, Stream};
use half::bf16;

mod settings;

/// Elements of the elementwise kernels.
const ELEMENTS: u32 = 1 << 18;
/// C = A·Bᵀ: rows of A, rows of B, columns of both.
const M: u32 = 256;
const N: u32 = 256;
const K: u32 = 512;
/// Bytes of a row of a tile in shared memory: 32 numbers, and 16 bytes that keep rows off each other's banks.
const ROW: u32 = 80;
/// Bytes of a stage: tiles of A and of B, 128 rows each.
const STAGE: u32 = 2 * 128 * ROW;
const STAGES: u32 = 3;

/// Launches whose median is set against the floor.
const LAUNCHES: usize = 15;

/// What a kernel should reach with every check on one core.
struct Floor {
    /// Units of work per second.
    rate: f64,
    /// The unit in which it is shown, and its name.
    unit: (f64, &'static str),
}

const ELEMENTWISE: Floor = Floor { rate: 8e6, unit: (1e6, "M warp instructions/s") };
const PRODUCT: Floor = Floor { rate: 2e9, unit: (1e9, "GFLOP/s") };

impl Floor {
    /// Says how far above it the median of some launches lies, each of so much work.
    fn compare(&self, name: &str, bench: &Bench, work: u64) -> Result<(), DriverError> {
        let mut times = [Duration::ZERO; LAUNCHES];
        for time in &mut times {
            let begin = Instant::now();
            bench.run()?;
            *time = begin.elapsed();
        }
        times.sort_unstable();
        let rate = work as f64 / times[LAUNCHES / 2].as_secs_f64();
        let (unit, unit_name) = self.unit;
        println!(
            "emulated {name}, every check: {:.1} {unit_name}, floor {:.1}, ratio {:.2}",
            rate / unit,
            self.rate / unit,
            rate / self.rate
        );
        Ok(())
    }
}

const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

/// c = f(a, b): 256 threads per block; `body` makes `z` of `x` and `y`.
fn elementwise(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry kernel(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 count) {{
        .reg .b32 i, t, n; .reg .b64 p, q, r; .reg .f32 x, y, z, u, v; .reg .pred beyond;
        ld.param.u64 p, [a]; ld.param.u64 q, [b]; ld.param.u64 r, [c]; ld.param.u32 n, [count];
        mov.u32 i, %ctaid.x; mov.u32 t, %tid.x; mad.lo.u32 i, i, 256, t; setp.ge.u32 beyond, i, n; @beyond ret;
        mad.wide.u32 p, i, 4, p; mad.wide.u32 q, i, 4, q; mad.wide.u32 r, i, 4, r;
        ld.global.f32 x, [p]; ld.global.f32 y, [q]; {body} st.global.f32 [r], z; ret; }}"
    )
}

/// GELU of a sum, by tanh as x·sigmoid(2u): constants are 0.044715 and -2·√(2/π)·log₂e.
const GELU: &str = "add.f32 x, x, y; mul.f32 u, x, x; fma.rn.f32 u, u, 0f3D372713, 0f3F800000; mul.f32 u, u, x;
    mul.f32 u, u, 0fC0135761; ex2.approx.ftz.f32 v, u; add.f32 v, v, 0f3F800000; rcp.approx.ftz.f32 v, v;
    mul.f32 z, x, v;";

/// C [M, N] f32 = A [M, K] · B [N, K]ᵀ in bf16: tiles of 128 by 128 by 32, eight warps of 64 by 32, three stages.
fn product() -> String {
    let load = format!(
        "add.u32 at, to, fill; cp.async.cg.shared.global [at], [a0], 16; cp.async.cg.shared.global [at+{}], [a1], 16;
        cp.async.cg.shared.global [at+{}], [b0], 16; cp.async.cg.shared.global [at+{}], [b1], 16; add.u64 a0, a0, 64;
        add.u64 a1, a1, 64; add.u64 b0, b0, 64; add.u64 b1, b1, 64; add.u32 fill, fill, {STAGE};
        setp.eq.u32 p, fill, {}; selp.u32 fill, 0, fill, p;",
        64 * ROW,
        128 * ROW,
        192 * ROW,
        STAGES * STAGE
    );
    format!(
        "{HEAD}.extern .shared .align 16 .b8 tiles[];
        .visible .entry kernel(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 k) {{
        .reg .b32 t, row, column, pitch, at, to, fill, use, left, x, y, lane, m, n, ra, rb, fa, fb, %a<16>, %b<8>;
        .reg .b64 a0, a1, b0, b1, out, wide; .reg .f32 %c<64>; .reg .pred p;
        mov.u32 t, %tid.x; shr.u32 row, t, 2; and.b32 column, t, 3; shl.b32 column, column, 4; ld.param.u32 left, [k];
        shl.b32 pitch, left, 1; shr.u32 left, left, 5; cvt.u64.u32 wide, column;
        ld.param.u64 a0, [a]; mov.u32 y, %ctaid.y; mad.lo.u32 at, y, 128, row; mad.wide.u32 a0, at, pitch, a0;
        add.u64 a0, a0, wide; mad.wide.u32 a1, pitch, 64, a0;
        ld.param.u64 b0, [b]; mov.u32 x, %ctaid.x; mad.lo.u32 at, x, 128, row; mad.wide.u32 b0, at, pitch, b0;
        add.u64 b0, b0, wide; mad.wide.u32 b1, pitch, 64, b0;
        mov.u32 to, tiles; mad.lo.u32 to, row, {ROW}, to; add.u32 to, to, column; mov.u32 fill, 0; mov.u32 use, 0;
        {load} cp.async.commit_group; {load} cp.async.commit_group;
        and.b32 lane, t, 31; shr.u32 m, t, 7; shr.u32 n, t, 5; and.b32 n, n, 3; mov.u32 ra, tiles;
        and.b32 at, lane, 15; mad.lo.u32 at, m, 64, at; mad.lo.u32 ra, at, {ROW}, ra; shr.u32 at, lane, 4;
        mad.lo.u32 ra, at, 16, ra; mov.u32 rb, tiles; mad.lo.u32 at, at, 8, 0; and.b32 row, lane, 7;
        add.u32 at, at, row; mad.lo.u32 at, n, 32, at; mad.lo.u32 rb, at, {ROW}, rb; shr.u32 at, lane, 3;
        and.b32 at, at, 1; mad.lo.u32 rb, at, 16, rb; add.u32 rb, rb, {};
        {} step: cp.async.wait_group 1; bar.sync 0; setp.lt.u32 p, left, 3; @p bra loaded; {load}
        loaded: cp.async.commit_group; add.u32 fa, ra, use; add.u32 fb, rb, use; add.u32 use, use, {STAGE};
        setp.eq.u32 p, use, {}; selp.u32 use, 0, use, p; {} sub.u32 left, left, 1; setp.ne.u32 p, left, 0; @p bra step;
        mad.lo.u32 row, y, 2, m; shl.b32 row, row, 6; shr.u32 at, lane, 2; add.u32 row, row, at; mov.u32 pitch, %nctaid.x;
        shl.b32 pitch, pitch, 9; ld.param.u64 out, [c]; mad.wide.u32 out, row, pitch, out; mad.lo.u32 at, x, 4, n;
        shl.b32 at, at, 5; and.b32 column, lane, 3; mad.lo.u32 at, column, 2, at; mad.wide.u32 out, at, 4, out; {}
        ret; }}",
        128 * ROW,
        (0..64).map(|at| format!("mov.f32 %c{at}, 0f00000000; ")).collect::<String>(),
        STAGES * STAGE,
        multiply(0) + &multiply(32),
        store()
    )
}

/// 16 columns of the tiles: fragments from `offset` bytes on, then 4 by 4 products.
fn multiply(offset: u32) -> String {
    let mut text = String::new();
    for (file, from, count) in [("a", "fa", 4), ("b", "fb", 2)] {
        for tile in 0..count {
            let [r0, r1, r2, r3] = [0, 1, 2, 3].map(|part| format!("%{file}{}", 4 * tile + part));
            let at = 16 * ROW * tile + offset;
            text += &format!("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{{r0}, {r1}, {r2}, {r3}}}, [{from}+{at}];\n");
        }
    }
    for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
        let [c0, c1, c2, c3] = [0, 1, 2, 3].map(|part| format!("%c{}", 16 * row + 4 * column + part));
        let [a0, a1, a2, a3] = [0, 1, 2, 3].map(|part| format!("%a{}", 4 * row + part));
        text += &format!(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{{c0}, {c1}, {c2}, {c3}}}, {{{a0}, {a1}, {a2}, {a3}}}, \
             {{%b{}, %b{}}}, {{{c0}, {c1}, {c2}, {c3}}};\n",
            2 * column,
            2 * column + 1
        );
    }
    text
}

/// The warp's 64 by 32 sums, eight rows at a time.
fn store() -> String {
    let mut text = String::new();
    for eighth in 0..8 {
        for column in 0..4 {
            let first = 16 * (eighth / 2) + 4 * column + 2 * (eighth % 2);
            text += &format!("st.global.v2.f32 [out+{}], {{%c{first}, %c{}}};\n", 32 * column, first + 1);
        }
        text += "mad.wide.u32 out, pitch, 8, out;\n";
    }
    text
}

/// A device with a kernel, three buffers and a launch.
struct Bench {
    device: Emulated,
    function: g2d::cuda::driver::Function,
    launch: Launch,
    parameters: Vec<u8>,
    result: Address,
}

impl Bench {
    fn new(
        ptx: &str,
        launch: Launch,
        checks: Checks,
        [a, b]: [&[u8]; 2],
        result: u32,
        last: u32,
    ) -> Result<Self, DriverError> {
        let device = Emulated::new(Options { checks, ..Options::default() });
        let place = |bytes: &[u8]| {
            let address = device.allocate(bytes.len() as u64)?;
            device.upload(address, bytes, Stream::DEFAULT).map(|()| address)
        };
        let (a, b, result) = (place(a)?, place(b)?, device.allocate(4 * u64::from(result))?);
        let mut parameters: Vec<u8> = [a, b, result].iter().flat_map(|at| at.0.to_le_bytes()).collect();
        parameters.extend(last.to_le_bytes());
        let module = device.load("bench", ptx)?;
        let function = device.function(module, "kernel")?;
        device.allow_shared(function, launch.shared)?;
        Ok(Self { device, function, launch, parameters, result })
    }

    fn run(&self) -> Result<(), DriverError> {
        self.device.launch(self.function, self.launch, &self.parameters, Stream::DEFAULT)
    }

    /// The first `count` results.
    fn first(&self, count: usize) -> Result<Vec<f32>, DriverError> {
        let mut bytes = vec![0; 4 * count];
        self.device.download(self.result, &mut bytes, Stream::DEFAULT)?;
        Ok(bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
    }
}

type Mode = (&'static str, fn() -> Checks);

const MODES: [Mode; 2] = [("every check", Checks::default), ("no check", Checks::none)];

/// Warp instructions per second; the first results must be near `expected`.
fn measure_elementwise(
    criterion: &mut Criterion,
    name: &str,
    body: &str,
    expected: fn(f32) -> f32,
) -> Result<(), DriverError> {
    let input = |at: u32| (at % 64) as f32 / 16.0 - 2.0;
    let numbers: Vec<u8> = (0..ELEMENTS).flat_map(|at| input(at).to_le_bytes()).collect();
    for (mode, checks) in MODES {
        let launch = Launch::linear(ELEMENTS / 256, 256);
        let bench = Bench::new(&elementwise(body), launch, checks(), [&numbers, &numbers], ELEMENTS, ELEMENTS)?;
        bench.run()?;
        for (at, found) in (0..).zip(bench.first(64)?) {
            let expected = expected(2.0 * input(at));
            assert!((found - expected).abs() <= 1e-5, "{name} of element {at}: {found}, not {expected}");
        }
        let work = bench.device.counters().total_instructions();
        if checks() == Checks::default() {
            ELEMENTWISE.compare(name, &bench, work)?;
        }
        let mut group = criterion.benchmark_group(format!("emulated {name}, warp instructions"));
        group.throughput(Throughput::Elements(work));
        group.bench_function(mode, |bencher| bencher.iter(|| bench.run().expect("it ran before")));
        group.finish();
    }
    Ok(())
}

/// FLOP per second; the first row must be exact.
fn measure_product(criterion: &mut Criterion) -> Result<(), DriverError> {
    let number = |at: u32, of: u32| ((at * of) >> 3) % 7;
    let matrix = |rows: u32, of: u32| -> Vec<u8> {
        (0..rows * K).flat_map(|at| bf16::from_f32(number(at, of) as f32).to_le_bytes()).collect()
    };
    let (a, b) = (matrix(M, 5), matrix(N, 3));
    let expected: Vec<f32> =
        (0..N).map(|column| (0..K).map(|k| number(k, 5) * number(column * K + k, 3)).sum::<u32>() as f32).collect();
    for (mode, checks) in MODES {
        let launch = Launch { grid: [N / 128, M / 128, 1], block: [256, 1, 1], shared: STAGES * STAGE };
        let bench = Bench::new(&product(), launch, checks(), [&a, &b], M * N, K)?;
        bench.run()?;
        assert_eq!(bench.first(N as usize)?, expected, "the first row of the product");
        let work = bench.device.counters().tensor_flops;
        if checks() == Checks::default() {
            PRODUCT.compare("product", &bench, work)?;
        }
        let mut group = criterion.benchmark_group("emulated product of 256x512 and 512x256, FLOP");
        group.throughput(Throughput::Elements(work));
        group.bench_function(mode, |bencher| bencher.iter(|| bench.run().expect("it ran before")));
        group.finish();
    }
    Ok(())
}

fn main() -> Result<(), DriverError> {
    let mut criterion = settings::criterion(2);
    measure_elementwise(&mut criterion, "addition", "add.f32 z, x, y;", |sum| sum)?;
    measure_elementwise(&mut criterion, "GELU", GELU, |x| {
        x * 0.5 * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
    })?;
    measure_product(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
