// GELU and its gradient; Phi and phi are the normal distribution and its density.
//
// Formula   y = x Phi(x); dx = dy (Phi(x) + x phi(x))
// Pointers  x       [rows, channels] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte aligned
//           out     the same: y, or dx, which holds dy on entry
//           extent  one i32: how many rows are real; the others are neither read nor written
// Launch    grid (capacity * channels / 2048 rounded up), block 256; no dynamic shared memory
// Numbers   f32, rounded once when stored; no sum over numbers, hence no order
// Assumes   capacity * channels < 2^31: src/ops/gelu/cuda.rs checks
#include "include/vector.cuh"

struct Gelu {
    const void *x;
    void *out;
    const i32 *extent;
    u32 channels;
    u32 unused;
};

__device__ __forceinline__ float distribution(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118f)); }
__device__ __forceinline__ float density(float x) { return expf(-0.5f * x * x) * 0.39894228040f; }

template <class T, bool BACKWARD> __device__ __forceinline__ void gelu(const Gelu &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    const u32 count = u32(*p.extent) * p.channels;
    if (at >= count) return;
    T *out = static_cast<T *>(p.out) + at;
    float x[8], result[8];
    load8(x, static_cast<const T *>(p.x) + at, count - at, true);
    if (BACKWARD) load8(result, out, count - at, true);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        result[i] = BACKWARD ? result[i] * (distribution(x[i]) + x[i] * density(x[i])) : x[i] * distribution(x[i]);
    }
    store8(out, result, count - at, true);
}

extern "C" __global__ void __launch_bounds__(256) gelu_fwd_f32_eights_sm80(const Gelu p) { gelu<float, false>(p); }
extern "C" __global__ void __launch_bounds__(256) gelu_fwd_bf16_eights_sm80(const Gelu p) { gelu<bf16, false>(p); }
extern "C" __global__ void __launch_bounds__(256) gelu_bwd_f32_eights_sm80(const Gelu p) { gelu<float, true>(p); }
extern "C" __global__ void __launch_bounds__(256) gelu_bwd_bf16_eights_sm80(const Gelu p) { gelu<bf16, true>(p); }
