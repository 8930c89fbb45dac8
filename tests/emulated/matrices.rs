//! `ldmatrix`, `stmatrix`, `mma.sync` (PTX ISA 9.7.14.5).

use g2d::base::Rng;
use g2d::cuda::driver::emulated::Options;
use half::{bf16, f16};

use crate::harness::Case;

/// 4 matrices of 8×8 16-bit elements: element e of the whole is e.
fn tiles() -> Vec<u32> {
    (0..128).map(|word| (2 * word) | ((2 * word + 1) << 16)).collect()
}

/// Copies a into shared memory and puts the address of the lane's row into %r1.
const FILL: &str = ".shared .align 16 .b8 s[512]; mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;
    ld.global.u32 %r2, [%ta]; st.shared.u32 [%r1], %r2; ld.global.u32 %r2, [%ta+128]; st.shared.u32 [%r1+128], %r2;
    ld.global.u32 %r2, [%ta+256]; st.shared.u32 [%r1+256], %r2; ld.global.u32 %r2, [%ta+384]; st.shared.u32 [%r1+384], %r2;
    bar.warp.sync 0xffffffff; shl.b32 %r1, %tx, 4; add.u32 %r1, %r0, %r1;";

fn element(matrix: u32, row: u32, column: u32) -> u32 {
    64 * matrix + 8 * row + column
}

#[test]
fn matrices_are_loaded_straight_and_transposed() {
    for count in [1, 2, 4] {
        for transposed in [false, true] {
            let registers = ["{%r4}", "{%r4, %r5}", "", "{%r4, %r5, %r6, %r7}"][count - 1];
            let stores: String =
                (0..count).map(|at| format!("st.global.u32 [%tb+{}], %r{};", 128 * at, 4 + at)).collect();
            let form = if transposed { ".trans" } else { "" };
            let body =
                format!("{FILL} ldmatrix.sync.aligned.m8n8.x{count}{form}.shared.b16 {registers}, [%r1]; {stores}");
            let words = Case::new(&body).a(tiles()).words();
            for (at, word) in words[..32 * count].iter().enumerate() {
                let (matrix, group, pair) = (at as u32 / 32, at as u32 % 32 / 4, 2 * (at as u32 % 4));
                let expected = match transposed {
                    false => element(matrix, group, pair) | element(matrix, group, pair + 1) << 16,
                    true => element(matrix, pair, group) | element(matrix, pair + 1, group) << 16,
                };
                assert_eq!(*word, expected, "x{count}{form}, word {at}");
            }
        }
    }
}

#[test]
fn stored_matrices_are_those_that_were_loaded() {
    for form in ["", ".trans"] {
        let body = format!(
            ".shared .align 16 .b8 t[512]; {FILL} mov.u32 %r10, t; shl.b32 %r11, %tx, 4; add.u32 %r11, %r10, %r11;
            ldmatrix.sync.aligned.m8n8.x4{form}.shared.b16 {{%r4, %r5, %r6, %r7}}, [%r1];
            stmatrix.sync.aligned.m8n8.x4{form}.shared.b16 [%r11], {{%r4, %r5, %r6, %r7}};
            bar.warp.sync 0xffffffff; shl.b32 %r12, %tx, 2; add.u32 %r12, %r10, %r12;
            ld.shared.u32 %r13, [%r12]; st.global.u32 [%tb], %r13; ld.shared.u32 %r13, [%r12+384]; st.global.u32 [%tb+384], %r13;"
        );
        let words = Case::new(&body).a(tiles()).target("sm_90").words();
        assert_eq!((&words[..32], &words[96..128]), (&tiles()[..32], &tiles()[96..128]), "{form}");
    }
}

/// How a number becomes an operand, and back.
type Code = (fn(f32) -> u32, fn(u32) -> f32);

/// A form of `mma.sync`, and how its 16-bit or tf32 operands are encoded.
struct Form {
    name: &'static str,
    k: usize,
    tf32: bool,
    half_sum: bool,
    encode: fn(f32) -> u32,
    decode: fn(u32) -> f32,
}

impl Form {
    /// The registers of all lanes, lane after lane: A, B, C.
    fn fragments(&self, a: &[u32], b: &[u32], c: &[u32]) -> Vec<u32> {
        let (k, span) = (self.k, if self.tf32 { 4 } else { 8 });
        let half = |word: u32| u32::from(f16::from_f32((self.decode)(word)).to_bits());
        let mut words = Vec::new();
        for lane in 0..32 {
            let (group, at) = (lane / 4, lane % 4);
            let wide = |of: &dyn Fn(usize) -> u32, base: usize| match self.tf32 {
                true => of(base + at),
                false => of(base + 2 * at) | (of(base + 2 * at + 1) << 16),
            };
            for step in 0..k / span {
                words.extend([0, 8].map(|high| wide(&|column| a[(group + high) * k + column], span * step)));
            }
            words.extend((0..k / span).map(|step| wide(&|row| b[row * 8 + group], span * step)));
            for high in [0, 8] {
                let [first, second] = [0, 1].map(|next| c[(group + high) * 8 + 2 * at + next]);
                match self.half_sum {
                    true => words.push(half(first) | (half(second) << 16)),
                    false => words.extend([first, second].map(|word| (self.decode)(word).to_bits())),
                }
            }
        }
        words
    }

    /// Loads the fragments, multiplies, stores D register by register.
    fn body(&self, per_lane: usize) -> String {
        let names = |from: usize, count: usize| {
            let names: Vec<String> = (from..from + count).map(|at| format!("%r{at}")).collect();
            format!("{{{}}}", names.join(", "))
        };
        let loads: String =
            (0..per_lane).map(|at| format!("ld.global.u32 %r{}, [%rd1+{}];", 10 + at, 4 * at)).collect();
        let (a, b) = if self.tf32 { (self.k / 2, self.k / 4) } else { (self.k / 4, self.k / 8) };
        let c = if self.half_sum { 2 } else { 4 };
        let stores: String = (0..c).map(|at| format!("st.global.u32 [%tb+{}], %r{};", 128 * at, 40 + at)).collect();
        let operands = [names(40, c), names(10, a), names(10 + a, b), names(10 + a + b, c)].join(", ");
        let (stride, name) = (4 * per_lane, self.name);
        format!(
            "mul.wide.u32 %rd1, %tx, {stride}; add.u64 %rd1, %a, %rd1; {loads} mma.sync.aligned.{name} {operands};
            {stores}"
        )
    }

    /// Multiplies small integers, whose sums are exact in any order.
    fn check(&self) {
        let (k, decode) = (self.k, self.decode);
        let mut rng = Rng::new(3, 0, k as u64);
        let mut draw =
            |count: usize| (0..count).map(|_| (self.encode)(rng.below(17) as f32 - 8.0)).collect::<Vec<u32>>();
        let (a, b, c) = (draw(16 * k), draw(k * 8), draw(16 * 8));
        let words = self.fragments(&a, &b, &c);
        let case = Case::new(&self.body(words.len() / 32)).a(words);
        let got = case.words();
        for (row, column) in (0..16).flat_map(|row| (0..8).map(move |column| (row, column))) {
            let product = |at: usize| decode(a[row * k + at]) * decode(b[at * 8 + column]);
            let sum = decode(c[row * 8 + column]) + (0..k).map(product).sum::<f32>();
            let (lane, high) = (row % 8 * 4 + column / 2, row / 8);
            let value = match self.half_sum {
                true => f16::from_bits((got[32 * high + lane] >> (16 * (column % 2))) as u16).to_f32(),
                false => f32::from_bits(got[32 * (2 * high + column % 2) + lane]),
            };
            assert_eq!(value, sum, "{}: row {row}, column {column}", self.name);
        }
        let counters = case.run(Options::default()).expect("no fault").counters;
        assert_eq!(counters.tensor_flops, 2 * 16 * 8 * k as u64);
    }
}

#[test]
fn products_of_every_shape_and_type_are_exact_on_integers() {
    let brain: Code = (|value| bf16::from_f32(value).to_bits().into(), |word| bf16::from_bits(word as u16).to_f32());
    let half: Code = (|value| f16::from_f32(value).to_bits().into(), |word| f16::from_bits(word as u16).to_f32());
    let single: Code = (f32::to_bits, f32::from_bits);
    for (name, k, (encode, decode)) in [
        ("m16n8k16.row.col.f32.bf16.bf16.f32", 16, brain),
        ("m16n8k8.row.col.f32.bf16.bf16.f32", 8, brain),
        ("m16n8k16.row.col.f32.f16.f16.f32", 16, half),
        ("m16n8k8.row.col.f32.f16.f16.f32", 8, half),
        ("m16n8k16.row.col.f16.f16.f16.f16", 16, half),
        ("m16n8k8.row.col.f16.f16.f16.f16", 8, half),
        ("m16n8k8.row.col.f32.tf32.tf32.f32", 8, single),
        ("m16n8k4.row.col.f32.tf32.tf32.f32", 4, single),
    ] {
        let (tf32, half_sum) = (name.contains("tf32"), name.contains("col.f16"));
        Form { name, k, tf32, half_sum, encode, decode }.check();
    }
}

#[test]
fn tf32_ignores_the_low_bits() {
    // A has 1 + 2^-20 everywhere, which counts as 1.
    let ones = "{%r1, %r1, %r1, %r1}";
    let body = format!(
        "mov.b32 %r1, 0x3f800008; mov.b32 %r2, 0x3f800000; mov.f32 %f1, 0f00000000;
        mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {{%f4,%f5,%f6,%f7}}, {ones}, {{%r2,%r2}}, {{%f1,%f1,%f1,%f1}};
        st.global.f32 [%tb], %f4;"
    );
    assert_eq!(Case::new(&body).floats()[..32], [8.0; 32]);
}
