// Accumulate: sums of tensors, and numbers that are the same everywhere.
//
// Formula   `add`: out = out + scale * b; `scale`: out = scale * b; `fill`: out = scale
// Pointers  b, out  [count] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte aligned; out of `add` holds a on
//                   entry; `fill` reads no b, and its out is [1] f32
// Launch    grid (count / 2048 rounded up), block 256; no dynamic shared memory
// Numbers   f32, rounded once when stored; no sum over numbers, hence no order
// Assumes   count < 2^31: src/ops/accumulate/cuda.rs checks
#include "include/vector.cuh"

struct Accumulate {
    const void *b;
    void *out;
    float scale;
    u32 count;
};

template <class T, bool ADD> __device__ __forceinline__ void accumulate(const Accumulate &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    T *out = static_cast<T *>(p.out) + at;
    float b[8], a[8] = {};
    load8(b, static_cast<const T *>(p.b) + at, p.count - at, true);
    if (ADD) load8(a, out, p.count - at, true);
#pragma unroll
    for (int i = 0; i < 8; ++i) a[i] = ADD ? a[i] + p.scale * b[i] : p.scale * b[i];
    store8(out, a, p.count - at, true);
}

extern "C" __global__ void __launch_bounds__(256) accumulate_add_f32_eights_sm80(const Accumulate p) { accumulate<float, true>(p); }
extern "C" __global__ void __launch_bounds__(256) accumulate_add_bf16_eights_sm80(const Accumulate p) { accumulate<bf16, true>(p); }
extern "C" __global__ void __launch_bounds__(256) accumulate_scale_f32_eights_sm80(const Accumulate p) { accumulate<float, false>(p); }
extern "C" __global__ void __launch_bounds__(256) accumulate_scale_bf16_eights_sm80(const Accumulate p) { accumulate<bf16, false>(p); }

extern "C" __global__ void __launch_bounds__(256) accumulate_fill_f32_eights_sm80(const Accumulate p) {
    if (threadIdx.x == 0) *static_cast<float *>(p.out) = p.scale;
}
