//! Small kernels of the kinds that ship, each with every synchronisation that it needs and the words that it must give.

use g2d::base::Rng;
use g2d::cuda::driver::{Address, Launch, Swizzle, TensorMapSpec, TensorType, Window};
use half::bf16;

use crate::harness::{Buffer, Case};

/// A kernel, its name, and what b must hold from word 0 on.
pub struct Kernel {
    pub name: &'static str,
    pub case: Case,
    pub expected: Vec<u32>,
}

const SHARED: &str = ".shared .align 16 .b8 s[4096];";

/// The address of the thread's word of `s` in %r1, of `s` in %r0.
const MINE: &str = "mov.u32 %r0, s; shl.b32 %r1, %tx, 2; add.u32 %r1, %r0, %r1;";

fn kernel(name: &'static str, body: &str, threads: u32, expected: impl IntoIterator<Item = u32>) -> Kernel {
    let case = Case::new(body).module(SHARED).threads(threads);
    Kernel { name, case, expected: expected.into_iter().collect() }
}

/// All of them.
pub fn all() -> Vec<Kernel> {
    vec![
        reduction(),
        transposition(),
        histogram(),
        warp_scan(),
        vote_between_warps(),
        ring(),
        double_buffer(),
        product(),
        last_block(),
        grid_barrier(),
        flag_between_warps(),
        hand_over(),
        countdown(),
        tickets(),
        full_and_empty(),
        copies_that_arrive(),
        warp_specialised_product(),
    ]
}

/// Sum of a block by halving, twice, so that the memory is used again.
fn reduction() -> Kernel {
    let body = format!(
        "{MINE} mov.u32 %r9, 0;
        again: ld.global.u32 %r2, [%ta]; add.u32 %r2, %r2, %r9; st.shared.u32 [%r1], %r2; mov.u32 %r2, 64;
        half: bar.sync 0; setp.ge.u32 %p1, %tx, %r2; @%p1 bra skip; shl.b32 %r3, %r2, 2; add.u32 %r3, %r1, %r3;
        ld.shared.u32 %r4, [%r3]; ld.shared.u32 %r5, [%r1]; add.u32 %r4, %r4, %r5; st.shared.u32 [%r1], %r4;
        skip: shr.u32 %r2, %r2, 1; setp.ne.u32 %p2, %r2, 0; @%p2 bra half;
        bar.sync 0; ld.shared.u32 %r6, [%r0]; bar.sync 0;
        add.u32 %r9, %r9, 1; setp.lt.u32 %p3, %r9, 2; @%p3 bra again; st.global.u32 [%tb], %r6;"
    );
    kernel("reduction", &body, 128, [127 * 64 + 128; 128])
}

/// A 16×16 tile through padded shared memory.
fn transposition() -> Kernel {
    let body =
        "mov.u32 %r0, s; and.b32 %r1, %tx, 15; shr.u32 %r2, %tx, 4; mad.lo.u32 %r3, %r2, 17, %r1; shl.b32 %r3, %r3, 2;
        add.u32 %r3, %r0, %r3; ld.global.u32 %r4, [%ta]; st.shared.u32 [%r3], %r4; bar.sync 0;
        mad.lo.u32 %r5, %r1, 17, %r2; shl.b32 %r5, %r5, 2; add.u32 %r5, %r0, %r5; ld.shared.u32 %r6, [%r5];
        st.global.u32 [%tb], %r6;";
    kernel("transposition", body, 256, (0..256).map(|at| at % 16 * 16 + at / 16))
}

/// 16 bins by shared atomics: clear, count, read.
fn histogram() -> Kernel {
    let body = format!(
        "{MINE} setp.lt.u32 %p1, %tx, 16; @%p1 st.shared.u32 [%r1], 0; bar.sync 0;
        mul.lo.u32 %r2, %tx, 7; shr.u32 %r2, %r2, 3; and.b32 %r2, %r2, 15; shl.b32 %r2, %r2, 2; add.u32 %r2, %r0, %r2;
        red.shared.add.u32 [%r2], 1; bar.sync 0; @%p1 ld.shared.u32 %r3, [%r1]; @%p1 st.global.u32 [%tb], %r3;"
    );
    let count = |bin| (0..96).filter(|thread| thread * 7 / 8 % 16 == bin).count() as u32;
    kernel("histogram", &body, 96, (0..16).map(count))
}

/// Inclusive sums within a warp through shared memory, by doubling distances.
fn warp_scan() -> Kernel {
    let body = format!(
        "{MINE} mov.u32 %r2, %tx; mov.u32 %r3, 1;
        step: st.shared.u32 [%r1], %r2; bar.warp.sync 0xffffffff; setp.lt.u32 %p1, %tx, %r3; shl.b32 %r4, %r3, 2;
        sub.u32 %r4, %r1, %r4; mov.u32 %r5, 0; @!%p1 ld.shared.u32 %r5, [%r4]; add.u32 %r2, %r2, %r5;
        bar.warp.sync 0xffffffff; shl.b32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 32; @%p2 bra step; st.global.u32 [%tb], %r2;"
    );
    kernel("warp scan", &body, 32, (0..32).map(|lane| lane * (lane + 1) / 2))
}

/// A barrier that counts also orders what was stored before it.
fn vote_between_warps() -> Kernel {
    let body = format!(
        "{MINE} st.shared.u32 [%r1], %tx; setp.lt.u32 %p1, %tx, 40; mov.u32 %r2, 0; bar.red.popc.u32 %r2, 0, %p1;
        xor.b32 %r3, %tx, 32; shl.b32 %r3, %r3, 2; add.u32 %r3, %r0, %r3; ld.shared.u32 %r4, [%r3];
        add.u32 %r4, %r4, %r2; st.global.u32 [%tb], %r4;"
    );
    kernel("vote between warps", &body, 64, (0..64).map(|thread| (thread ^ 32) + 40))
}

/// A warp produces, another one consumes; barriers 1 and 2 say full and empty.
fn ring() -> Kernel {
    let body = "mov.u32 %r0, s; and.b32 %r1, %tx, 31; shl.b32 %r1, %r1, 2; add.u32 %r1, %r0, %r1; mov.u32 %r9, 0;
        mov.u32 %r5, 0; setp.ge.u32 %p1, %tx, 32; @%p1 bra consumer;
        produce: bar.sync 2, 64; mad.lo.u32 %r2, %r9, 100, %tx; st.shared.u32 [%r1], %r2; bar.arrive 1, 64;
        add.u32 %r9, %r9, 1; setp.lt.u32 %p2, %r9, 4; @%p2 bra produce; bra end;
        consumer: bar.arrive 2, 64;
        consume: bar.sync 1, 64; ld.shared.u32 %r3, [%r1]; add.u32 %r5, %r5, %r3; add.u32 %r9, %r9, 1;
        setp.ge.u32 %p3, %r9, 4; @%p3 bra consumed; bar.arrive 2, 64; bra consume;
        consumed: sub.u32 %r6, %tx, 32; mul.wide.u32 %rd1, %r6, 4; add.u64 %rd1, %b, %rd1; st.global.u32 [%rd1], %r5;
        end:";
    kernel("ring", body, 64, (0..32).map(|lane| 600 + 4 * lane))
}

/// Copies into one half of a buffer while the other half is read by the neighbouring warp.
fn double_buffer() -> Kernel {
    let body = format!(
        "{MINE} mov.u64 %rd1, %ta; mov.u32 %r9, 0; mov.u32 %r5, 0; mov.u32 %r6, 0;
        cp.async.ca.shared.global [%r1], [%rd1], 4; cp.async.commit_group;
        round: add.u64 %rd1, %rd1, 256; xor.b32 %r6, %r6, 256; setp.lt.u32 %p1, %r9, 3; @!%p1 bra last;
        add.u32 %r7, %r1, %r6; cp.async.ca.shared.global [%r7], [%rd1], 4;
        last: cp.async.commit_group; cp.async.wait_group 1; bar.sync 0;
        xor.b32 %r8, %r6, 256; add.u32 %r8, %r1, %r8; xor.b32 %r8, %r8, 128; ld.shared.u32 %r3, [%r8];
        add.u32 %r5, %r5, %r3; bar.sync 0; add.u32 %r9, %r9, 1; setp.lt.u32 %p2, %r9, 4; @%p2 bra round;
        st.global.u32 [%tb], %r5;"
    );
    kernel("double buffer", &body, 64, (0..64).map(|thread| 4 * (thread ^ 32) + 64 * 6))
}

/// C = A·Bᵀ, 32×8 with K = 64 in bf16: three stages of `cp.async`, `ldmatrix`, `mma.sync`, C through shared memory.
fn product() -> Kernel {
    let stage = "add.u32 %r7, %r0, %r6; add.u32 %r7, %r7, %r3; cp.async.cg.shared.global [%r7], [%rd1], 16;
        @%p1 cp.async.cg.shared.global [%r7+1024], [%rd2], 16; add.u64 %rd1, %rd1, 32; add.u64 %rd2, %rd2, 32;";
    let body = format!(
        "mov.u32 %r0, s; shr.u32 %r1, %tx, 1; and.b32 %r2, %tx, 1; shl.b32 %r3, %tx, 4; shl.b32 %r4, %r1, 7;
        shl.b32 %r5, %r2, 4; add.u32 %r4, %r4, %r5; cvt.u64.u32 %rd1, %r4; add.u64 %rd1, %a, %rd1; add.u64 %rd2, %rd1, 4096;
        setp.lt.u32 %p1, %tx, 16;
        mov.u32 %r6, 0; {stage} cp.async.commit_group; mov.u32 %r6, 1280; {stage} cp.async.commit_group;
        mov.u32 %r6, 2560; mov.u32 %r8, 0; mov.u32 %r9, 0;
        and.b32 %r10, %tx, 31; shr.u32 %r11, %tx, 5; and.b32 %r12, %r10, 15; shr.u32 %r13, %r10, 4;
        mad.lo.u32 %r14, %r11, 16, %r12; shl.b32 %r14, %r14, 5; mad.lo.u32 %r14, %r13, 16, %r14; add.u32 %r14, %r14, %r0;
        and.b32 %r15, %r10, 7; shl.b32 %r15, %r15, 5; shr.u32 %r16, %r12, 3; mad.lo.u32 %r15, %r16, 16, %r15;
        add.u32 %r15, %r15, %r0; add.u32 %r15, %r15, 1024;
        mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
        step: cp.async.wait_group 1; bar.sync 0; add.u32 %r20, %r14, %r8; add.u32 %r21, %r15, %r8;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r22, %r23, %r24, %r25}}, [%r20];
        ldmatrix.sync.aligned.m8n8.x2.shared.b16 {{%r26, %r27}}, [%r21];
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{%f0,%f1,%f2,%f3}}, {{%r22,%r23,%r24,%r25}}, {{%r26,%r27}}, {{%f0,%f1,%f2,%f3}};
        setp.ge.u32 %p2, %r9, 2; @%p2 bra loaded; {stage}
        loaded: cp.async.commit_group; mov.u32 %r6, %r8; add.u32 %r8, %r8, 1280; setp.eq.u32 %p3, %r8, 3840;
        selp.u32 %r8, 0, %r8, %p3; add.u32 %r9, %r9, 1; setp.lt.u32 %p4, %r9, 4; @%p4 bra step;
        bar.sync 0; shr.u32 %r30, %r10, 2; mad.lo.u32 %r30, %r11, 16, %r30; and.b32 %r31, %r10, 3; shl.b32 %r30, %r30, 5;
        shl.b32 %r31, %r31, 3; add.u32 %r30, %r30, %r31; add.u32 %r30, %r30, %r0;
        st.shared.v2.f32 [%r30], {{%f0, %f1}}; st.shared.v2.f32 [%r30+256], {{%f2, %f3}}; bar.sync 0;
        add.u32 %r32, %r0, %r3; ld.shared.v4.u32 {{%r40, %r41, %r42, %r43}}, [%r32];
        mul.wide.u32 %rd3, %tx, 16; add.u64 %rd3, %b, %rd3; st.global.v4.u32 [%rd3], {{%r40, %r41, %r42, %r43}};"
    );
    let mut rng = Rng::new(1, 0, 0);
    let values: Vec<f32> = (0..40 * 64).map(|_| rng.below(9) as f32 - 4.0).collect();
    let dot =
        |row: usize, column: usize| (0..64).map(|k| values[row * 64 + k] * values[(32 + column) * 64 + k]).sum::<f32>();
    let expected = (0..256).map(|at| dot(at / 8, at % 8).to_bits());
    let bits = |value: f32| u32::from(bf16::from_f32(value).to_bits());
    let words = values.chunks_exact(2).map(|pair| bits(pair[0]) | bits(pair[1]) << 16);
    let made = kernel("product", &body, 64, expected);
    Kernel { case: made.case.a(words), ..made }
}

/// Every block stores a sum; the last one to count itself adds them up.
fn last_block() -> Kernel {
    let body = format!(
        "{MINE} st.shared.u32 [%r1], 1; bar.sync 0; setp.ne.u32 %p1, %tx, 0; @%p1 bra joined;
        ld.shared.u32 %r2, [%r0]; ld.shared.u32 %r3, [%r0+128]; add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %cx;
        mul.wide.u32 %rd1, %cx, 4; add.u64 %rd1, %c, %rd1; st.global.u32 [%rd1], %r2; membar.gl;
        atom.global.inc.u32 %r4, [%b+1000], 7; st.shared.u32 [%r0], %r4; membar.gl;
        joined: bar.sync 0; ld.shared.u32 %r5, [%r0]; setp.ne.u32 %p2, %r5, 7; @%p2 bra end;
        setp.ge.u32 %p3, %tx, 8; @%p3 bra end; mul.wide.u32 %rd2, %tx, 4; add.u64 %rd2, %c, %rd2;
        ld.global.u32 %r6, [%rd2]; add.u64 %rd3, %b, %off; mul.wide.u32 %rd4, %tx, 4; add.u64 %rd4, %b, %rd4;
        st.global.u32 [%rd4], %r6; end:"
    );
    let made = kernel("last block", &body, 64, (0..8).map(|block| block + 2));
    Kernel { case: made.case.launch(Launch::linear(8, 64)), ..made }
}

/// All blocks wait for each other, then read what another block stored.
fn grid_barrier() -> Kernel {
    let body = "st.global.u32 [%tc], %gx; bar.sync 0; setp.ne.u32 %p1, %tx, 0; @%p1 bra joined;
        fence.acq_rel.gpu; atom.global.add.u32 %r1, [%b+1000], 1;
        wait: ld.relaxed.gpu.global.u32 %r2, [%b+1000]; setp.lt.u32 %p2, %r2, 3; @%p2 bra wait; fence.acq_rel.gpu;
        joined: bar.sync 0; add.u32 %r3, %gx, 96; rem.u32 %r3, %r3, 192; mul.wide.u32 %rd1, %r3, 4; add.u64 %rd1, %c, %rd1;
        ld.global.u32 %r4, [%rd1]; st.global.u32 [%tb], %r4;";
    let made = kernel("grid barrier", body, 64, (0..192).map(|word| (word + 96) % 192));
    Kernel { case: made.case.launch(Launch::linear(3, 64)), ..made }
}

/// A warp hands data to another one of its block by a flag in global memory and fences of CTA scope.
fn flag_between_warps() -> Kernel {
    let body = "setp.ge.u32 %p1, %tx, 32; @%p1 bra reader; st.global.u32 [%tc], 7; bar.warp.sync 0xffffffff;
        setp.ne.u32 %p2, %tx, 0; @%p2 bra end; fence.acq_rel.cta; st.volatile.global.u32 [%b+1000], 1; bra end;
        reader: ld.volatile.global.u32 %r1, [%b+1000]; setp.eq.u32 %p3, %r1, 0; @%p3 bra reader; fence.acq_rel.cta;
        ld.global.u32 %r2, [%tc+-128]; st.global.u32 [%tb+-128], %r2; end:";
    kernel("flag between warps", body, 64, [7; 32])
}

/// The words of a block reach the next one through a released flag: no fence, only `st.release` and `ld.acquire`.
fn hand_over() -> Kernel {
    let body = "setp.eq.u32 %p3, %tx, 0; setp.eq.u32 %p4, %cx, 0; mul.wide.u32 %rd2, %cx, 4; add.u64 %rd2, %c, %rd2;
        mov.u32 %r2, %gx; @%p4 bra write; @!%p3 bra joined;
        wait: ld.acquire.gpu.global.u32 %r1, [%b+1000]; setp.lt.u32 %p1, %r1, %cx; @%p1 bra wait;
        joined: bar.sync 0; xor.b32 %r3, %tx, 32; sub.u32 %r4, %cx, 1; mad.lo.u32 %r3, %r4, 64, %r3;
        mul.wide.u32 %rd1, %r3, 4; add.u64 %rd1, %c, %rd1; ld.global.u32 %r2, [%rd1]; add.u32 %r2, %r2, %gx;
        write: st.global.u32 [%tc], %r2; st.global.u32 [%tb], %r2; bar.sync 0; add.u32 %r5, %cx, 1;
        @%p3 st.release.gpu.global.u32 [%b+1000], %r5;";
    let mut words: Vec<u32> = (0..64).collect();
    for block in 1..3 {
        let before = words[64 * (block - 1)..].to_vec();
        words.extend((0..64).map(|thread| before[thread ^ 32] + (64 * block + thread) as u32));
    }
    let made = kernel("hand-over between blocks", body, 64, words);
    Kernel { case: made.case.launch(Launch::linear(3, 64)), ..made }
}

/// Blocks store a word and count themselves by `red.release`; block 0 waits for all of them by `ld.acquire`.
fn countdown() -> Kernel {
    let body =
        "setp.ne.u32 %p1, %tx, 0; setp.ne.u32 %p2, %cx, 0; @!%p2 bra waits; st.global.u32 [%tc], %gx; bar.sync 0;
        @!%p1 red.release.gpu.global.add.u32 [%b+1000], 1; bra end;
        waits: @%p1 bra joined;
        wait: ld.acquire.gpu.global.u32 %r1, [%b+1000]; setp.lt.u32 %p3, %r1, 3; @%p3 bra wait;
        joined: bar.sync 0; ld.global.u32 %r2, [%tc+256]; ld.global.u32 %r3, [%tc+512]; ld.global.u32 %r4, [%tc+768];
        add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4; st.global.u32 [%tb], %r2; end:";
    let made = kernel("countdown", body, 64, (0..64).map(|thread| 3 * thread + 64 * 6));
    Kernel { case: Case { c: 1024, ..made.case.launch(Launch::linear(4, 64)) }, ..made }
}

/// The last block by an atomic that itself releases what the block stored and acquires what the others did.
fn tickets() -> Kernel {
    let body = "mov.u32 %r0, s; setp.ne.u32 %p1, %tx, 0; st.global.u32 [%tc], %gx; bar.sync 0;
        @%p1 bra joined; atom.acq_rel.gpu.global.add.u32 %r1, [%b+1000], 1; st.shared.u32 [%r0], %r1;
        joined: bar.sync 0; ld.shared.u32 %r1, [%r0]; setp.ne.u32 %p2, %r1, 3; @%p2 bra end;
        mul.wide.u32 %rd1, %tx, 4; add.u64 %rd2, %c, %rd1; add.u64 %rd3, %b, %rd1; mov.u32 %r2, 0; mov.u32 %r3, 0;
        sum: ld.global.u32 %r4, [%rd2]; add.u32 %r2, %r2, %r4; add.u64 %rd2, %rd2, 128; add.u32 %r3, %r3, 1;
        setp.lt.u32 %p3, %r3, 4; @%p3 bra sum; st.global.u32 [%rd3], %r2; end:";
    let made = kernel("tickets", body, 32, (0..32).map(|thread| 4 * thread + 32 * 6));
    Kernel { case: made.case.launch(Launch::linear(4, 32)), ..made }
}

/// A warp produces, another one consumes; mbarriers say full and empty, phase by phase.
fn full_and_empty() -> Kernel {
    let body = ".shared .align 8 .b64 full; .shared .align 8 .b64 empty; mov.u32 %r0, s; and.b32 %r1, %tx, 31;
        shl.b32 %r2, %r1, 2; xor.b32 %r3, %r2, 4; add.u32 %r2, %r0, %r2; add.u32 %r3, %r0, %r3; mov.u32 %r9, 0; mov.u32 %r5, 0;
        setp.eq.u32 %p1, %tx, 0; @%p1 mbarrier.init.shared.b64 [full], 32; @%p1 mbarrier.init.shared::cta.b64 [empty], 32;
        bar.sync 0; setp.ge.u32 %p2, %tx, 32; @%p2 bra consume;
        produce: and.b32 %r4, %r9, 1; xor.b32 %r4, %r4, 1;
        vacant: mbarrier.test_wait.parity.shared::cta.b64 %p3, [empty], %r4; @!%p3 bra vacant;
        mad.lo.u32 %r6, %r9, 100, %tx; st.shared.u32 [%r2], %r6; mbarrier.arrive.shared.b64 _, [full];
        add.u32 %r9, %r9, 1; setp.lt.u32 %p4, %r9, 4; @%p4 bra produce; bra end;
        consume: and.b32 %r4, %r9, 1;
        filled: mbarrier.test_wait.parity.shared::cta.b64 %p3, [full], %r4; @!%p3 bra filled;
        ld.shared.u32 %r6, [%r3]; add.u32 %r5, %r5, %r6; add.u32 %r9, %r9, 1; setp.ge.u32 %p4, %r9, 4; @%p4 bra consumed;
        mbarrier.arrive.release.cta.shared::cta.b64 _, [empty]; bra consume;
        consumed: mul.wide.u32 %rd1, %r1, 4; add.u64 %rd1, %b, %rd1; st.global.u32 [%rd1], %r5; end:";
    kernel("full and empty", body, 64, (0..32).map(|lane| 600 + 4 * (lane ^ 1)))
}

/// Each thread copies a word and lets the copy arrive at an mbarrier; all wait there and read another thread's.
fn copies_that_arrive() -> Kernel {
    let body = format!(
        ".shared .align 8 .b64 done; {MINE} setp.eq.u32 %p1, %tx, 0; @%p1 mbarrier.init.shared.b64 [done], 64; bar.sync 0;
        cp.async.ca.shared.global [%r1], [%ta], 4; cp.async.mbarrier.arrive.shared.b64 [done];
        mbarrier.arrive.shared.b64 %rd1, [done];
        wait: mbarrier.test_wait.shared.b64 %p2, [done], %rd1; @!%p2 bra wait;
        xor.b32 %r2, %tx, 33; shl.b32 %r2, %r2, 2; add.u32 %r2, %r0, %r2; ld.shared.u32 %r3, [%r2];
        st.global.u32 [%tb], %r3;"
    );
    kernel("copies that arrive", &body, 64, (0..64).map(|thread| thread ^ 33))
}

/// Its text: thread 128 brings tiles, threads 0 to 127 multiply.
const SPECIALISED: &str = "mov.u32 %r0, s; mov.u32 %r1, m; mov.u64 %rd7, map0; cvta.param.u64 %rd7, %rd7; mov.u64 %rd8, map1;
        cvta.param.u64 %rd8, %rd8; mov.u64 %rd9, map2; cvta.param.u64 %rd9, %rd9; setp.ne.u32 %p1, %tx, 0; @%p1 bra made;
        mbarrier.init.shared::cta.b64 [%r1], 1; mbarrier.init.shared::cta.b64 [%r1+8], 1;
        mbarrier.init.shared::cta.b64 [%r1+16], 1; mbarrier.init.shared::cta.b64 [%r1+24], 1;
        fence.mbarrier_init.release.cluster;
        made: bar.sync 0; mov.u32 %r2, 0; setp.ge.u32 %p2, %tx, 128; @%p2 bra producer;
        mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0; mov.f32 %f4, %f0; mov.f32 %f5, %f0;
        mov.f32 %f6, %f0; mov.f32 %f7, %f0; setmaxnreg.inc.sync.aligned.u32 232;
        multiply: and.b32 %r3, %r2, 1; shr.u32 %r4, %r2, 1; and.b32 %r4, %r4, 1; shl.b32 %r5, %r3, 3; add.u32 %r5, %r1, %r5;
        full: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r5], %r4; @!%p3 bra full;
        shl.b32 %r6, %r3, 12; add.u32 %r6, %r0, %r6; shr.u32 %r7, %r6, 4; cvt.u64.u32 %rd1, %r7;
        or.b64 %rd1, %rd1, 0xc000001000010000; add.u64 %rd2, %rd1, 128; wgmma.fence.sync.aligned;
        wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}, %rd1, %rd2, 1, 1, 1, 0, 0;
        wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
        @!%p1 mbarrier.arrive.shared::cta.b64 _, [%r5+16];
        add.u32 %r2, %r2, 1; setp.lt.u32 %p4, %r2, 4; @%p4 bra multiply;
        shr.u32 %r8, %tx, 5; shl.b32 %r8, %r8, 4; and.b32 %r9, %tx, 31; shr.u32 %r10, %r9, 2; add.u32 %r8, %r8, %r10;
        and.b32 %r9, %r9, 3; shl.b32 %r8, %r8, 6; mad.lo.u32 %r8, %r9, 8, %r8; add.u32 %r8, %r0, %r8;
        st.shared.v2.f32 [%r8+8192], {%f0, %f1}; st.shared.v2.f32 [%r8+8704], {%f2, %f3};
        st.shared.v2.f32 [%r8+8224], {%f4, %f5}; st.shared.v2.f32 [%r8+8736], {%f6, %f7};
        fence.proxy.async.shared::cta; bar.sync 1, 128; @%p1 bra done;
        cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%rd9, {0, 0}], [%r0+8192];
        cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; bra done;
        producer: setmaxnreg.dec.sync.aligned.u32 40; setp.ne.u32 %p5, %tx, 128; @%p5 bra done;
        bring: and.b32 %r3, %r2, 1; shr.u32 %r4, %r2, 1; and.b32 %r4, %r4, 1; xor.b32 %r4, %r4, 1; shl.b32 %r5, %r3, 3;
        add.u32 %r5, %r1, %r5; shl.b32 %r6, %r3, 12; add.u32 %r6, %r0, %r6; shl.b32 %r7, %r2, 4;
        empty: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r5+16], %r4; @!%p3 bra empty;
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r5], 2560;
        cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6], [%rd7, {%r7, 0}], [%r5];
        cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r6+2048], [%rd8, {%r7, 0}], [%r5];
        add.u32 %r2, %r2, 1; setp.lt.u32 %p4, %r2, 4; @%p4 bra bring;
        done:";

/// A [64, 64] times B [16, 64] transposed: one warpgroup multiplies what a thread of the other brings in two stages, and the
/// result goes through shared memory as a box of a tensor.
fn warp_specialised_product() -> Kernel {
    const ROWS: usize = 64;
    const COLUMNS: usize = 16;
    const DEPTH: usize = 64;
    let mut rng = Rng::new(13, 0, 0);
    let mut whole = |count: usize| (0..count).map(|_| rng.below(7) as f32 - 3.0).collect::<Vec<_>>();
    let (a, b) = (whole(ROWS * DEPTH), whole(COLUMNS * DEPTH));
    let words = a.chunks(2).chain(b.chunks(2)).map(|pair| {
        let [low, high] = [pair[0], pair[1]].map(|value| u32::from(bf16::from_f32(value).to_bits()));
        low | high << 16
    });
    let map = |dtype, inner: usize, outer: usize, side: u32, swizzle| TensorMapSpec {
        dtype,
        address: Address(0),
        sizes: vec![inner as u64, outer as u64],
        strides: vec![inner as u64 * u64::from(dtype.bytes())],
        window: Window::Tile(vec![side, outer as u32]),
        steps: vec![1, 1],
        swizzle,
    };
    let dot = |at: usize| -> f32 {
        let (a, b) = (&a[at / COLUMNS * DEPTH..][..DEPTH], &b[at % COLUMNS * DEPTH..][..DEPTH]);
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    };
    let module = ".shared .align 1024 .b8 s[12288]; .shared .align 8 .b64 m[4];";
    let case = Case::new(SPECIALISED).module(module).target("sm_90a").threads(256).a(words.collect::<Vec<_>>());
    let case = Case { b: ROWS * COLUMNS, ..case }
        .map(Buffer::A, 0, map(TensorType::Bf16, DEPTH, ROWS, 16, Swizzle::B32))
        .map(Buffer::A, (2 * ROWS * DEPTH) as u64, map(TensorType::Bf16, DEPTH, COLUMNS, 16, Swizzle::B32))
        .map(Buffer::B, 0, map(TensorType::F32, COLUMNS, ROWS, 16, Swizzle::None));
    let expected = (0..ROWS * COLUMNS).map(|at| dot(at).to_bits()).collect();
    Kernel { name: "warp-specialised product", case, expected }
}
