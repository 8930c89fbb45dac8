// The PTX instructions that only Hopper has (sm_90a), as ptx.cuh has those of every GPU: barriers that count bytes, copies of
// boxes of tensors, products of warpgroups.
#pragma once
#include "numeric.cuh"

// A tensor map as the driver encodes it, to be among a kernel's parameters.
struct alignas(64) TensorMap {
    u64 words[16];
};

namespace ptx {

// 9.7.13.15.9 mbarrier.init: a phase ends when so many arrivals, and the bytes that they expect, are there.
__device__ __forceinline__ void mbarrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// 9.7.13.4 fence.mbarrier_init: the copy engine sees what was initialised.
__device__ __forceinline__ void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// 9.7.13.15.13 mbarrier.arrive, and the same with bytes to wait for.
__device__ __forceinline__ void mbarrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void mbarrier_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// 9.7.13.15.16 mbarrier.try_wait: until the phase of that parity has ended.
__device__ __forceinline__ void mbarrier_wait(u32 barrier, u32 parity) {
    u32 ended;
    do {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(ended)
                     : "r"(barrier), "r"(parity)
                     : "memory");
    } while (!ended);
}

// 9.7.9.27.1.2 cp.async.bulk.tensor: a box of three dimensions, innermost coordinate first.
__device__ __forceinline__ void copy_box(u32 to, const TensorMap &map, u32 barrier, u32 x, u32 y, u32 z) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];"
                 :
                 : "r"(to), "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier)
                 : "memory");
}

// The same of pixels of an image: channels from `channel` on, at `col` and `row` of image `image` and on, each further by the
// offsets.
__device__ __forceinline__ void copy_pixels(u32 to, const TensorMap &map, u32 barrier, u32 channel, i32 col, i32 row, u32 image,
                                            u16 right, u16 down) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
                 "[%6], {%7, %8};"
                 :
                 : "r"(to), "l"(&map), "r"(channel), "r"(col), "r"(row), "r"(image), "r"(barrier), "h"(right), "h"(down)
                 : "memory");
}

#define F4(c, i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define F16(c, i) F4(c, i), F4(c, i + 4), F4(c, i + 8), F4(c, i + 12)
#define F32(c, i) F16(c, i), F16(c, i + 16)
#define SUMS_64                                                                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                                     \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NEXT_64                                                                                                                  \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                                           \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SUMS_128 SUMS_64 ", " NEXT_64
#define SUMS_256                                                                                                                 \
    SUMS_128 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "                                \
             "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                                  \
             "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "                      \
             "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define ONE(n, adds, a_lines, b_lines)                                                                                           \
    "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" SUMS_##n "}, a, b, " adds ", 1, 1, " a_lines ", " b_lines ";\n"
#define NEXT(a_step, b_step) "add.u64 a, a, " a_step ";\nadd.u64 b, b, " b_step ";\n"
// 16 of k further: 16 lines of 128 bytes, or 32 bytes of a line, counted in 16 bytes.
#define WGMMA_K64(n, a, b, adds, a_lines, b_lines, a_step, b_step, ...)                                                          \
    template <int N, int A_LINES, int B_LINES>                                                                                   \
    __device__ __forceinline__ void wgmma_k64_##n(float (&c)[N / 2], u64 a_at, u64 b_at, u32 adding) {                           \
        asm volatile("{\n.reg .pred adds;\n.reg .b64 a, b;\n"                                                                    \
                     "setp.ne.u32 adds, " adds ", 0;\nmov.b64 a, " a ";\nmov.b64 b, " b ";\n"                                    \
                     "wgmma.fence.sync.aligned;\n" ONE(n, "adds", a_lines, b_lines) NEXT(a_step, b_step)                         \
                         ONE(n, "1", a_lines, b_lines) NEXT(a_step, b_step) ONE(n, "1", a_lines, b_lines) NEXT(a_step, b_step)   \
                             ONE(n, "1", a_lines, b_lines) "wgmma.commit_group.sync.aligned;\n"                                  \
                                                           "wgmma.wait_group.sync.aligned 0;\n}"                                 \
                     : __VA_ARGS__                                                                                               \
                     : "l"(a_at), "l"(b_at), "r"(adding), "n"(A_LINES), "n"(B_LINES), "n"(A_LINES ? 128 : 2),                    \
                       "n"(B_LINES ? 128 : 2)                                                                                    \
                     : "memory");                                                                                                \
    }
WGMMA_K64(64, "%32", "%33", "%34", "%35", "%36", "%37", "%38", F32(c, 0))
WGMMA_K64(128, "%64", "%65", "%66", "%67", "%68", "%69", "%70", F32(c, 0), F32(c, 32))
WGMMA_K64(256, "%128", "%129", "%130", "%131", "%132", "%133", "%134", F32(c, 0), F32(c, 32), F32(c, 64), F32(c, 96))
// The same of 64 columns with a in registers, of each 16 of k four, as ldmatrix brings them (9.7.15.5.1.1); and two of these at a time.
#define OF_REGISTERS(sums, a, b, adds, b_lines)                                                                                  \
    "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" sums "}, {" a "}, " b ", " adds ", 1, 1, " b_lines ";\n"
#define FOUR_OF_REGISTERS(sums, a0, a1, a2, a3, b, b_lines, b_step)                                                              \
    OF_REGISTERS(sums, a0, b, "adds", b_lines) "add.u64 " b ", " b ", " b_step ";\n"                                             \
    OF_REGISTERS(sums, a1, b, "1", b_lines) "add.u64 " b ", " b ", " b_step ";\n"                                                \
    OF_REGISTERS(sums, a2, b, "1", b_lines) "add.u64 " b ", " b ", " b_step ";\n"                                                \
    OF_REGISTERS(sums, a3, b, "1", b_lines)
#define A4(a, i) "r"(a[i]), "r"(a[i + 1]), "r"(a[i + 2]), "r"(a[i + 3])
#define A16(a) A4(a, 0), A4(a, 4), A4(a, 8), A4(a, 12)
template <int B_LINES, int ADDS> __device__ __forceinline__ void wgmma_k64(float (&c)[32], const u32 (&a)[16], u64 b) {
    asm volatile("{\n.reg .pred adds;\n.reg .b64 b;\nsetp.ne.u32 adds, %49, 0;\nmov.b64 b, %48;\nwgmma.fence.sync.aligned;\n"
                 FOUR_OF_REGISTERS(SUMS_64, "%32, %33, %34, %35", "%36, %37, %38, %39", "%40, %41, %42, %43",
                                   "%44, %45, %46, %47", "b", "%50", "%51")
                 "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}"
                 : F32(c, 0)
                 : A16(a), "l"(b), "n"(ADDS), "n"(B_LINES), "n"(B_LINES ? 128 : 2)
                 : "memory");
}
template <int B_LINES, int ADDS>
__device__ __forceinline__ void wgmma_k64(float (&c)[32], const u32 (&a)[16], u64 b, float (&c2)[32], const u32 (&a2)[16], u64 b2) {
    asm volatile("{\n.reg .pred adds;\n.reg .b64 b, b2;\n"
                 "setp.ne.u32 adds, %98, 0;\nmov.b64 b, %96;\nmov.b64 b2, %97;\nwgmma.fence.sync.aligned;\n"
                 FOUR_OF_REGISTERS(SUMS_64, "%64, %65, %66, %67", "%68, %69, %70, %71", "%72, %73, %74, %75",
                                   "%76, %77, %78, %79", "b", "%99", "%100")
                 FOUR_OF_REGISTERS(NEXT_64, "%80, %81, %82, %83", "%84, %85, %86, %87", "%88, %89, %90, %91",
                                   "%92, %93, %94, %95", "b2", "%99", "%100")
                 "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n}"
                 : F32(c, 0), F32(c2, 0)
                 : A16(a), A16(a2), "l"(b), "l"(b2), "n"(ADDS), "n"(B_LINES), "n"(B_LINES ? 128 : 2)
                 : "memory");
}
#undef OF_REGISTERS
#undef FOUR_OF_REGISTERS
#undef A4
#undef A16
#undef F4
#undef F16
#undef F32
#undef SUMS_64
#undef NEXT_64
#undef SUMS_128
#undef SUMS_256
#undef ONE
#undef NEXT
#undef WGMMA_K64

// 9.7.15.5 wgmma: c += a · b, 64 x N sums a warpgroup, of 64 numbers of k, and waits for them; c = a · b if `adds` is 0. A and b are
// matrix descriptors, of which the numbers of k lie innermost or, if A_LINES or B_LINES is 1, the lines.
template <int N, int A_LINES, int B_LINES>
__device__ __forceinline__ void wgmma_k64(float (&c)[N / 2], u64 a, u64 b, u32 adds) {
    if constexpr (N == 64) wgmma_k64_64<N, A_LINES, B_LINES>(c, a, b, adds);
    if constexpr (N == 128) wgmma_k64_128<N, A_LINES, B_LINES>(c, a, b, adds);
    if constexpr (N == 256) wgmma_k64_256<N, A_LINES, B_LINES>(c, a, b, adds);
}

// 9.7.13.4 fence.proxy.async: the copy engine and the tensor cores see what was written to shared memory.
__device__ __forceinline__ void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// 9.7.13.1 bar.sync: so many threads of the block meet at the barrier of that number.
template <int THREADS> __device__ __forceinline__ void bar_sync(u32 barrier) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(THREADS) : "memory");
}

// 9.7.19.5 setmaxnreg: a warpgroup gives registers back, or takes more; so many has each of its threads then.
template <int COUNT> __device__ __forceinline__ void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> __device__ __forceinline__ void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// 9.7.3.20 ex2.approx.ftz: two to that power.
__device__ __forceinline__ float ex2(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

} // namespace ptx
