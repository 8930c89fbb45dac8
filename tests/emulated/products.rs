//! Matrix products of warpgroups (PTX ISA 9.7.15): every layout against a plain product, and every report.

use g2d::base::Rng;
use g2d::cuda::driver::emulated::{Check, Completion, Options};
use g2d::cuda::driver::{Address, Swizzle, TensorMapSpec, TensorType, Window};
use half::{bf16, f16};

use crate::harness::{Buffer, Case};

/// A kind of elements: bytes of one, its tensor map's type, and how whole numbers become elements.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bf16,
    F16,
    Tf32,
}

impl Kind {
    fn bytes(self) -> usize {
        if self == Self::Tf32 { 4 } else { 2 }
    }

    /// Depth of one product.
    fn depth(self) -> usize {
        32 / self.bytes()
    }

    fn dtype(self) -> TensorType {
        match self {
            Self::Bf16 => TensorType::Bf16,
            Self::F16 => TensorType::F16,
            Self::Tf32 => TensorType::F32,
        }
    }

    fn encode(self, value: f32) -> Vec<u8> {
        match self {
            Self::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
            Self::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            Self::Tf32 => value.to_le_bytes().to_vec(),
        }
    }
}

/// The forms with their columns.
const FORMS: [(&str, usize, Kind); 7] = [
    ("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16", 8, Kind::Bf16),
    ("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16", 64, Kind::Bf16),
    ("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16", 128, Kind::Bf16),
    ("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16", 192, Kind::Bf16),
    ("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16", 256, Kind::Bf16),
    ("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16", 64, Kind::F16),
    ("wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32", 64, Kind::Tf32),
];

/// One product to try.
struct Product {
    form: &'static str,
    columns: usize,
    kind: Kind,
    swizzle: Swizzle,
    /// Whether A and B lie with rows, or columns, innermost.
    transposed: [bool; 2],
    left_in_registers: bool,
    /// Factors -1 of A and B.
    negated: [bool; 2],
}

const ROWS: usize = 64;

/// Bytes of shared memory before B.
const B_AT: usize = 8 << 10;

fn span(swizzle: Swizzle) -> usize {
    swizzle.span().map_or(16, |bytes| bytes as usize)
}

fn integers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0, 0);
    (0..count).map(|_| rng.below(9) as f32 - 4.0).collect()
}

impl Product {
    fn depth(&self) -> usize {
        (2 * self.kind.depth()).max(span(self.swizzle) / self.kind.bytes())
    }

    /// A tensor map that brings a factor of so many lines into shared memory, tile after tile as wide as the span.
    fn map(&self, lines: usize, transposed: bool) -> TensorMapSpec {
        let (bytes, depth) = (self.kind.bytes(), self.depth());
        let wide = span(self.swizzle) / bytes;
        let (inner, outer) = if transposed { (lines, depth) } else { (depth, lines) };
        let sizes = [wide, outer, inner / wide];
        TensorMapSpec {
            dtype: self.kind.dtype(),
            address: Address(0),
            sizes: sizes.map(|size| size as u64).to_vec(),
            strides: vec![(inner * bytes) as u64, (wide * bytes) as u64],
            window: Window::Tile(sizes.map(|size| size as u32).to_vec()),
            steps: vec![1; 3],
            swizzle: self.swizzle,
        }
    }

    /// Everything but the start address of a descriptor, and the bytes from one step of k to the next.
    fn descriptor(&self, lines: usize, transposed: bool) -> (u64, Vec<usize>) {
        let (bytes, depth, span) = (self.kind.bytes(), self.depth(), span(self.swizzle));
        let swizzled = self.swizzle != Swizzle::None;
        let (leading, stride) = match (transposed, swizzled) {
            (false, true) => (16, 8 * span),
            (false, false) => (16 * lines, 128),
            (true, true) => (depth * span, 8 * span),
            (true, false) => (128, 16 * depth),
        };
        let code = match self.swizzle {
            Swizzle::None => 0u64,
            Swizzle::B128 => 1,
            Swizzle::B64 => 2,
            Swizzle::B32 => 3,
        };
        let step = |k: usize| match transposed {
            true => k * span,
            false => k * bytes / span * lines * span + k * bytes % span,
        };
        let steps = (0..depth).step_by(self.kind.depth()).map(step).collect();
        ((leading as u64 >> 4) << 16 | (stride as u64 >> 4) << 32 | code << 62, steps)
    }

    /// Elements of a factor in global memory: [line][depth], or the other way round.
    fn words(&self, values: &[f32], lines: usize, transposed: bool) -> Vec<u32> {
        let depth = self.depth();
        let at = |outer: usize, inner: usize| if transposed { inner * depth + outer } else { outer * depth + inner };
        let (outer, inner) = if transposed { (depth, lines) } else { (lines, depth) };
        let all = (0..outer).flat_map(|outer| (0..inner).map(move |inner| (outer, inner)));
        let bytes: Vec<u8> = all.flat_map(|(outer, inner)| self.kind.encode(values[at(outer, inner)])).collect();
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    }

    /// The products, one for each step of k.
    fn products(&self, steps_a: &[usize], steps_b: &[usize]) -> String {
        let sums: Vec<String> = (0..self.columns / 2).map(|at| format!("%d{at}")).collect();
        let factor = |negated| if negated { "-1" } else { "1" };
        let [negated_a, negated_b] = self.negated.map(factor);
        let [flag_a, flag_b] = self.transposed.map(u32::from);
        let flags = match (self.kind, self.left_in_registers) {
            (Kind::Tf32, _) => String::new(),
            (_, true) => format!(", {flag_b}"),
            (_, false) => format!(", {flag_a}, {flag_b}"),
        };
        let mut products = String::new();
        for (number, (at_a, at_b)) in steps_a.iter().zip(steps_b).enumerate() {
            let left = match self.left_in_registers {
                true => format!(
                    "{{%x{0}, %x{1}, %x{2}, %x{3}}}",
                    4 * number,
                    4 * number + 1,
                    4 * number + 2,
                    4 * number + 3
                ),
                false => format!("%da{number}"),
            };
            products += &format!(
                "add.u64 %da{number}, %da, {}; add.u64 %db{number}, %db, {}; setp.ne.u32 %p7, {number}, 0;
                {} {{{}}}, {left}, %db{number}, %p7, {negated_a}, {negated_b}{flags};\n",
                at_a >> 4,
                at_b >> 4,
                self.form,
                sums.join(", ")
            );
        }
        products
    }

    /// Loads both factors, multiplies step by step, stores every register.
    fn case(&self, a: &[f32], b: &[f32]) -> Case {
        let (depth, columns, bytes) = (self.depth(), self.columns, self.kind.bytes());
        let (high_a, steps_a) = self.descriptor(ROWS, self.transposed[0]);
        let (high_b, steps_b) = self.descriptor(columns, self.transposed[1]);
        let sums: Vec<String> = (0..columns / 2).map(|at| format!("%d{at}")).collect();
        let products = self.products(&steps_a, &steps_b);
        let stores: String =
            sums.iter().enumerate().map(|(at, sum)| format!("st.global.f32 [%rd3+{}], {sum};", 4 * at)).collect();
        let (count, steps, bytes_a) = (columns / 2, steps_a.len(), ROWS * depth * bytes);
        let body = format!(
            ".reg .f32 %d<{count}>; .reg .b64 %da, %db, %da<{steps}>, %db<{steps}>; .reg .b32 %x<{}>;
            mov.u32 %r0, s; mov.u32 %r1, m; mov.u64 %rd9, map0; cvta.param.u64 %rd9, %rd9; mov.u64 %rd8, map1;
            cvta.param.u64 %rd8, %rd8; setp.ne.u32 %p1, %tx, 0; @%p1 bra made;
            mbarrier.init.shared::cta.b64 [%r1], 1; fence.mbarrier_init.release.cluster;
            mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {};
            cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r0], [%rd9, {{0, 0, 0}}], [%r1];
            cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r0+{B_AT}], [%rd8, {{0, 0, 0}}], [%r1];
            made: bar.sync 0;
            full: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r1], 0; @!%p2 bra full;
            shr.u32 %r2, %r0, 4; cvt.u64.u32 %da, %r2; add.u64 %db, %da, {}; or.b64 %da, %da, {high_a:#x}; or.b64 %db, %db, {high_b:#x};
            {}
            wgmma.fence.sync.aligned;
            {products}
            wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
            mul.wide.u32 %rd3, %tx, {}; add.u64 %rd3, %b, %rd3; {stores}",
            4 * steps,
            bytes_a + columns * depth * bytes,
            B_AT >> 4,
            if self.left_in_registers { self.left_loads() } else { String::new() },
            4 * count,
        );
        let (words_a, words_b) = (self.words(a, ROWS, self.transposed[0]), self.words(b, columns, self.transposed[1]));
        let after_a = 4 * words_a.len() as u64;
        let data: Vec<u32> = words_a.into_iter().chain(words_b).collect();
        let module = format!(".shared .align 1024 .b8 s[{}]; .shared .align 8 .b64 m;", B_AT + (32 << 10));
        let (map_a, map_b) = (self.map(ROWS, self.transposed[0]), self.map(columns, self.transposed[1]));
        let case = Case::new(&body).module(&module).target("sm_90a").threads(128).a(data);
        Case { b: 128 * count, ..case.map(Buffer::A, 0, map_a).map(Buffer::A, after_a, map_b) }
    }

    /// Loads A from global memory, [row][k], into registers as `mma.sync` has it.
    fn left_loads(&self) -> String {
        let (bytes, row) = (self.kind.bytes(), self.depth() * self.kind.bytes());
        let each = 4 / bytes;
        let mut text = format!(
            "shr.u32 %r3, %tx, 5; shl.b32 %r3, %r3, 4; and.b32 %r4, %tx, 31; shr.u32 %r5, %r4, 2; add.u32 %r3, %r3, %r5;
            and.b32 %r4, %r4, 3; mul.lo.u32 %r3, %r3, {row}; mad.lo.u32 %r3, %r4, 4, %r3; cvt.u64.u32 %rd1, %r3;
            add.u64 %rd1, %a, %rd1;\n"
        );
        for (number, step) in (0..self.depth()).step_by(self.kind.depth()).enumerate() {
            for (register, (high, right)) in [(0, 0), (8, 0), (0, 4), (8, 4)].into_iter().enumerate() {
                let at = high * row + (step + right * each) * bytes;
                text += &format!("ld.global.b32 %x{}, [%rd1+{at}];", 4 * number + register);
            }
        }
        text
    }

    /// The plain product, thread by thread and register by register.
    fn expected(&self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let depth = self.depth();
        let sign = if self.negated[0] == self.negated[1] { 1.0 } else { -1.0 };
        let dot = |row: usize, column: usize| -> f64 {
            let (a, b) = (&a[row * depth..][..depth], &b[column * depth..][..depth]);
            sign * a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let all = (0..128).flat_map(|thread| (0..self.columns / 2).map(move |register| (thread, register)));
        all.map(|(thread, register)| {
            let row = thread / 32 * 16 + thread % 32 / 4 + 8 * (register / 2 % 2);
            dot(row, 8 * (register / 4) + 2 * (thread % 4) + register % 2) as f32
        })
        .collect()
    }

    fn check(&self) {
        let (a, b) = (integers(1, ROWS * self.depth()), integers(2, self.columns * self.depth()));
        let (case, expected) = (self.case(&a, &b), self.expected(&a, &b));
        let name = format!("{} {:?} {:?} {}", self.form, self.swizzle, self.transposed, self.left_in_registers);
        for exact_sums in [false, true] {
            let ran = case.run(Options { exact_sums, ..Options::default() });
            let ran = ran.unwrap_or_else(|report| panic!("{name}: {report}"));
            let found: Vec<f32> = ran.b.into_iter().map(f32::from_bits).collect();
            let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            assert_eq!(wrong, None, "{name}, exact {exact_sums}: {:?}", wrong.map(|at| (found[at], expected[at])));
            assert_eq!(ran.counters.tensor_flops, 2 * (ROWS * self.columns * self.depth()) as u64);
        }
    }
}

const SWIZZLES: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

fn plain(number: usize, swizzle: Swizzle) -> Product {
    let (form, columns, kind) = FORMS[number];
    Product { form, columns, kind, swizzle, transposed: [false; 2], left_in_registers: false, negated: [false; 2] }
}

#[test]
fn products_of_every_layout_are_plain_products() {
    for swizzle in SWIZZLES {
        for transposed in [[false, false], [true, false], [false, true], [true, true]] {
            for number in [1, 5] {
                Product { transposed, ..plain(number, swizzle) }.check();
            }
        }
    }
}

#[test]
fn products_of_every_form_are_plain_products() {
    for number in 0..FORMS.len() {
        plain(number, Swizzle::B128).check();
        plain(number, Swizzle::B32).check();
    }
    plain(6, Swizzle::None).check();
    plain(6, Swizzle::B64).check();
    Product { transposed: [true, true], ..plain(4, Swizzle::B128) }.check();
}

#[test]
fn factors_come_from_registers_and_may_be_negated() {
    for number in [1, 5, 6] {
        Product { left_in_registers: true, ..plain(number, Swizzle::B64) }.check();
        for negated in [[true, false], [false, true], [true, true]] {
            Product { left_in_registers: negated[0], negated, ..plain(number, Swizzle::B128) }.check();
        }
    }
    Product { left_in_registers: true, transposed: [false, true], ..plain(1, Swizzle::B128) }.check();
}

#[test]
fn sums_of_fractions_agree_within_their_bound() {
    let product = plain(1, Swizzle::B128);
    let mut rng = Rng::new(5, 0, 0);
    let mut fractions = |count: usize| -> Vec<f32> {
        (0..count).map(|_| bf16::from_f32(rng.below(2001) as f32 / 1000.0 - 1.0).to_f32()).collect()
    };
    let (a, b) = (fractions(ROWS * 64), fractions(64 * 64));
    let (case, expected) = (product.case(&a, &b), product.expected(&a, &b));
    // Sums of so many products are off by the depth times half a unit in the last place of the sum of their sizes at most.
    let size = |numbers: &[f32]| numbers.iter().map(|number| number.abs()).collect::<Vec<f32>>();
    let sizes = product.expected(&size(&a), &size(&b));
    let mut differ = 0;
    let runs = [false, true].map(|exact_sums| {
        case.run(Options { exact_sums, ..Options::default() }).unwrap_or_else(|report| panic!("{report}")).b
    });
    for ((plain, exact), (expected, size)) in runs[0].iter().zip(&runs[1]).zip(expected.iter().zip(&sizes)) {
        for found in [plain, exact] {
            let (off, bound) = ((f32::from_bits(*found) - expected).abs(), 64.0 * (2f32).powi(-24) * size);
            assert!(off <= bound, "{off} off, {bound} at most");
        }
        differ += usize::from(plain != exact);
    }
    assert!(differ > 100, "the two ways of summing differ in last bits");
}

/// A product of zeros that the block's threads have written, with what comes before, between and after its parts.
fn small(parts: [&str; 4]) -> Case {
    let [before, fence, between, after] = parts;
    let body = format!(
        "mov.u32 %r0, s; shl.b32 %r1, %tx, 5; add.u32 %r1, %r0, %r1; mov.u32 %r2, 0; mov.f32 %f0, 0f00000000;
        st.shared.v4.u32 [%r1], {{%r2, %r2, %r2, %r2}}; st.shared.v4.u32 [%r1+16], {{%r2, %r2, %r2, %r2}}; {fence} bar.sync 0;
        mov.f32 %f1, 0f3F800000; mov.f32 %f2, %f1; mov.f32 %f3, %f1; mov.u32 %r20, 0; mov.u32 %r21, 0; mov.u32 %r22, 0;
        mov.u32 %r23, 0; mov.f32 %f4, %f1; mov.f32 %f5, %f1; mov.f32 %f6, %f1; mov.f32 %f7, %f1; mov.f32 %f0, %f1;
        shr.u32 %r3, %r0, 4; cvt.u64.u32 %rd1, %r3; or.b64 %rd1, %rd1, 0x0000001000080000; setp.lt.u32 %p3, %tx, 32;
        {before}
        wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f0, %f1, %f2, %f3}}, {{%r20, %r21, %r22, %r23}}, %rd1, 1, 1, 1, 0;
        {between} {after} st.global.f32 [%tb], %f3;"
    );
    Case::new(&body).module(".shared .align 1024 .b8 s[4096];").target("sm_90a").threads(128)
}

const PROXY: &str = "fence.proxy.async.shared::cta;";
const FENCE: &str = "wgmma.fence.sync.aligned;";
const COMMIT: &str = "wgmma.commit_group.sync.aligned;";
const WAIT: &str = "wgmma.wait_group.sync.aligned 0;";

/// A product without the fence before it.
pub fn without_fence() -> Case {
    small(["", PROXY, COMMIT, WAIT])
}

#[test]
fn misused_products_are_reported() {
    let right = small([FENCE, PROXY, COMMIT, WAIT]);
    assert_eq!(right.floats()[..128], [1.0; 128]);
    let another = "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}, %rd1, %rd1, 1, \
        1, 1, 0, 0; wgmma.commit_group.sync.aligned;";
    for (parts, check, words) in [
        (["", PROXY, COMMIT, WAIT], Check::Product, "no wgmma.fence before the first"),
        (
            [&format!("{FENCE} mov.f32 %f2, 0f00000000;"), PROXY, COMMIT, WAIT],
            Check::Product,
            "`%f2` was used otherwise",
        ),
        ([&format!("{FENCE} mov.u32 %r21, 0;"), PROXY, COMMIT, WAIT], Check::Product, "`%r21` was used otherwise"),
        ([FENCE, PROXY, &format!("{COMMIT} add.f32 %f9, %f1, %f1;"), WAIT], Check::Product, "`%f1` is read before"),
        (
            [FENCE, PROXY, &format!("{COMMIT} mov.f32 %f1, 0f00000000;"), WAIT],
            Check::Product,
            "`%f1` is written before",
        ),
        ([FENCE, PROXY, &format!("{COMMIT} mov.u32 %r22, 7;"), WAIT], Check::Product, "`%r22` is written before"),
        ([FENCE, PROXY, COMMIT, ""], Check::Product, "`%f3` is read before"),
        ([FENCE, PROXY, "", WAIT], Check::Product, "`%f3` is read before"),
        ([FENCE, PROXY, &format!("{COMMIT} {another}"), WAIT], Check::Product, "a product of another shape"),
        ([FENCE, "", COMMIT, WAIT], Check::Proxy, "no fence.proxy.async lies between"),
    ] {
        let report = small(parts).provokes(check, |checks| (checks.products, checks.proxies) = (false, false));
        assert!(report.text.contains(words), "`{words}` is not in: {report}");
    }
    let lone = small([FENCE, PROXY, COMMIT, "ret;"]);
    lone.provokes(Check::Product, |checks| checks.products = false);
}

#[test]
fn products_into_one_sum_take_effect_in_order() {
    // The first replaces the ones in the sums, the second adds.
    let first = format!(
        "{FENCE} setp.ge.u32 %p5, %tx, 128; wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{%f0, %f1, %f2, %f3}}, \
         {{%r20, %r21, %r22, %r23}}, %rd1, %p5, 1, 1, 0;"
    );
    let case = small([&first, PROXY, COMMIT, WAIT]);
    let ones = ["%r2", "%r20", "%r21", "%r22", "%r23"].iter().fold(case.body.clone(), |body, register| {
        body.replace(&format!("mov.u32 {register}, 0;"), &format!("mov.u32 {register}, 0x3F803F80;"))
    });
    let case = Case { body: ones, ..case };
    for seed in 0..8 {
        let ran = case.run(Options { seed, completion: Completion::Random, ..Options::default() });
        let words = ran.unwrap_or_else(|report| panic!("{report}")).b;
        assert_eq!(words[..128], [32f32.to_bits(); 128], "seed {seed}");
    }
}

#[test]
fn factors_may_not_change_under_a_product() {
    for between in [
        "wgmma.commit_group.sync.aligned; st.shared.u32 [%r0], 1;",
        // Another thread, which has waited at a barrier but for no product.
        "wgmma.commit_group.sync.aligned; bar.sync 0; @%p3 st.shared.u32 [%r0], 1;",
    ] {
        let report =
            small([FENCE, PROXY, between, WAIT]).provokes(Check::SharedRace, |checks| checks.shared_races = false);
        assert!(report.text.contains("a matrix product of warpgroup 0 reads"), "{report}");
    }
    let waits = format!("{WAIT} bar.sync 0; setp.eq.u32 %p4, %tx, 77; @%p4 st.shared.u32 [%r0], 1;");
    small([FENCE, PROXY, COMMIT, &waits]).words();
    // What is written must be ordered before the product as well.
    let late = small([FENCE, PROXY, COMMIT, WAIT]);
    let late = Case { body: late.body.replace("bar.sync 0;", ""), ..late };
    late.provokes(Check::SharedRace, |checks| checks.shared_races = false);
}

#[test]
fn warpgroups_act_together() {
    let lanes = "add.u32 %r4, %r3, %tx; cvt.u64.u32 %rd2, %r4;";
    let by_lane = small([&format!("{lanes} {FENCE}"), PROXY, COMMIT, WAIT]);
    let by_lane = Case { body: by_lane.body.replace("%r23}, %rd1", "%r23}, %rd2"), ..by_lane };
    let report = by_lane.report();
    assert!(report.check == Check::Collective && report.text.contains("the descriptor of B is"), "{report}");
    let warp = "shr.u32 %r4, %tx, 5; shl.b32 %r4, %r4, 1; add.u32 %r4, %r3, %r4; cvt.u64.u32 %rd1, %r4;";
    let report = small([&format!("{warp} {FENCE}"), PROXY, COMMIT, WAIT]).report();
    assert!(report.check == Check::Collective && report.text.contains("with the same operands"), "{report}");
    let scale = small([&format!("setp.lt.u32 %p4, %tx, 7; {FENCE}"), PROXY, COMMIT, WAIT]);
    let scale = Case { body: scale.body.replace("%rd1, 1, 1", "%rd1, %p4, 1"), ..scale };
    assert!(scale.report().text.contains("scale-d holds in lanes 0x0000007f only"), "{}", scale.report());
    let report = small([&format!("@%p3 bra end; {FENCE}"), PROXY, COMMIT, &format!("{WAIT} end:")]).report();
    assert_eq!(report.check, Check::Deadlock, "{report}");
    let report = small([&format!("@%p3 bra end; {FENCE}"), PROXY, COMMIT, "ret; end:"]).report();
    assert_eq!(report.check, Check::Product, "{report}");
    let few = small([FENCE, PROXY, COMMIT, WAIT]).threads(96);
    assert!(few.report().text.contains("whole warpgroups of 128 threads"), "{}", few.report());
}

#[test]
fn descriptors_must_mean_something() {
    for (bits, words) in [("0x0002000000000000", "base offset 1"), ("0x0010000000000000", "mean nothing")] {
        let case = small([&format!("or.b64 %rd1, %rd1, {bits}; {FENCE}"), PROXY, COMMIT, WAIT]);
        let report = case.report();
        assert!(report.check == Check::Trap && report.text.contains(words), "{report}");
    }
    let report = small([&format!("add.u64 %rd1, %rd1, 0x1000; {FENCE}"), PROXY, COMMIT, WAIT]).report();
    assert!(report.check == Check::Bounds && report.text.contains("read of a matrix factor"), "{report}");
}

#[test]
fn registers_are_shared_out_among_warpgroups() {
    let text = |count: [u32; 2]| {
        format!(
            "setp.lt.u32 %p1, %tx, 128; @%p1 bra first; setmaxnreg.dec.sync.aligned.u32 {}; bra done;
            first: setmaxnreg.inc.sync.aligned.u32 {}; done: st.global.u32 [%tb], 1;",
            count[0], count[1]
        )
    };
    let case = |count| Case::new(&text(count)).target("sm_90a").threads(256);
    assert_eq!(case([40, 232]).words()[..256], [1; 256]);
    let report = case([256, 264 - 8]).words();
    assert_eq!(report[..256], [1; 256]);
    let three = Case::new(&text([176, 176])).target("sm_90a").threads(384);
    let three = Case { b: 384, a: vec![0; 384], ..three };
    assert!(three.report().text.contains("512"), "{}", three.report());
    let part =
        "setp.lt.u32 %p1, %tx, 32; @%p1 bra done; setmaxnreg.dec.sync.aligned.u32 40; done: st.global.u32 [%tb], 1;";
    let part = Case::new(part).target("sm_90a").threads(128);
    let report = part.provokes(Check::Collective, |checks| checks.collectives = false);
    assert!(report.text.contains("only warps 0b1110 of warpgroup 0"), "{report}");
}
