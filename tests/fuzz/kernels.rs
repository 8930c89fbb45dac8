//! PTX: parsed, decoded and run on the emulated device. A mutated kernel may be refused or reported, and may end
//! otherwise than before; it never takes the device with it.

use g2d::cuda::driver::emulated::{Checks, Emulated, Options};
use g2d::cuda::driver::{Driver, Launch, Stream};

use super::fuzz;

/// Loops, shared memory, a barrier, shuffles, an atomic, a call, matrix instructions, asynchronous copies.
const SEEDS: [&str; 3] = [
    "
.version 8.0
.target sm_80
.address_size 64
.shared .align 16 .b8 tile[256];
.visible .entry kernel(.param .u64 a, .param .u64 b, .param .u32 n)
{
    .reg .pred %p<4>;
    .reg .b32 %r<16>;
    .reg .b64 %rd<8>;
    .reg .f32 %f<4>;
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd3, %r2, 4;
    add.u64 %rd4, %rd1, %rd3;
    mov.u32 %r3, 0;
LOOP:
    setp.ge.u32 %p1, %r3, %r1;
    @%p1 bra DONE;
    ld.global.u32 %r4, [%rd4];
    mad.lo.u32 %r5, %r4, 3, %r3;
    add.u32 %r3, %r3, 1;
    bra LOOP;
DONE:
    mov.u32 %r6, tile;
    mad.lo.u32 %r6, %r2, 4, %r6;
    st.shared.u32 [%r6], %r5;
    bar.sync 0;
    ld.shared.u32 %r7, [%r6];
    shfl.sync.bfly.b32 %r8, %r7, 1, 0x1f, 0xffffffff;
    cvt.rn.f32.u32 %f1, %r8;
    fma.rn.f32 %f2, %f1, 0f3F000000, %f1;
    add.u64 %rd5, %rd2, %rd3;
    st.global.f32 [%rd5], %f2;
    atom.global.add.u32 %r9, [%rd2+128], %r7;
    ret;
}
",
    "
.version 8.0
.target sm_80
.address_size 64
.visible .entry kernel(.param .u64 a, .param .u64 b, .param .u32 n)
{
    .reg .b32 %r<16>;
    .reg .b64 %rd<8>;
    .reg .f32 %f<8>;
    .shared .align 16 .b8 held[1024];
    ld.param.u64 %rd1, [a];
    ld.param.u64 %rd2, [b];
    mov.u32 %r1, %laneid;
    mov.u32 %r2, held;
    mad.lo.u32 %r3, %r1, 16, %r2;
    mul.wide.u32 %rd3, %r1, 16;
    add.u64 %rd4, %rd1, %rd3;
    cp.async.cg.shared.global [%r3], [%rd4], 16;
    cp.async.commit_group;
    cp.async.wait_group 0;
    bar.warp.sync 0xffffffff;
    ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r3];
    mov.f32 %f1, 0f00000000;
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, {%r4, %r5, %r6, %r7}, {%r4, %r5}, \
{%f1, %f1, %f1, %f1};
    mul.wide.u32 %rd5, %r1, 8;
    add.u64 %rd6, %rd2, %rd5;
    st.global.v2.f32 [%rd6], {%f2, %f3};
    st.global.f32 [%rd6+512], %f4;
    ret;
}
",
    "
.version 8.0
.target sm_80
.address_size 64
.global .align 4 .u32 counts[4] = {1, 2, 3, 4};
.func (.param .b32 out) twice(.param .b32 of)
{
    .reg .b32 %r<3>;
    ld.param.b32 %r1, [of];
    shl.b32 %r2, %r1, 1;
    st.param.b32 [out], %r2;
    ret;
}
.visible .entry kernel(.param .u64 a, .param .u64 b, .param .u32 n)
.maxntid 64, 1, 1
{
    .reg .pred %p<4>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<6>;
    .reg .f64 %fd<3>;
    ld.param.u64 %rd1, [b];
    mov.u64 %rd2, counts;
    ld.global.u32 %r1, [%rd2+4];
    mov.u32 %r2, %tid.x;
    setp.lt.u32 %p1, %r2, 16;
    selp.b32 %r3, %r1, %r2, %p1;
    vote.sync.ballot.b32 %r4, %p1, 0xffffffff;
    popc.b32 %r5, %r4;
    @!%p1 bra SKIP;
    prmt.b32 %r3, %r3, %r5, 0x5410;
SKIP:
    cvt.rn.f64.u32 %fd1, %r3;
    sqrt.rn.f64 %fd2, %fd1;
    mul.wide.u32 %rd3, %r2, 8;
    add.u64 %rd4, %rd1, %rd3;
    st.global.f64 [%rd4], %fd2;
    ret;
}
",
];

/// Whether a module is loaded and its kernel run to an end.
fn run(text: &str, checks: Checks) -> bool {
    let device = Emulated::new(Options { checks, limit: Some(4_000), ..Options::default() });
    let stream = Stream::DEFAULT;
    let mut parameters = Vec::new();
    for _ in 0..2 {
        let memory = device.allocate(1024).unwrap();
        device.fill(memory, 1, 1024, stream).unwrap();
        parameters.extend(memory.0.to_le_bytes());
    }
    parameters.extend(3u32.to_le_bytes());
    let Ok(module) = device.load("mutated.ptx", text) else { return false };
    let Ok(kernel) = device.function(module, "kernel") else { return false };
    device.launch(kernel, Launch::linear(1, 32), &parameters, stream).is_ok()
}

#[test]
fn ptx() {
    let seeds: Vec<Vec<u8>> = SEEDS.iter().map(|text| text.as_bytes().to_vec()).collect();
    for (number, seed) in seeds.iter().enumerate() {
        assert!(run(std::str::from_utf8(seed).unwrap(), Checks::default()), "seed {number} does not run");
    }
    fuzz("ptx", seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        // Without checks a kernel goes on where a report would have stopped it.
        let unchecked = run(&text, Checks::none());
        run(&text, Checks::default()) || unchecked
    });
}
