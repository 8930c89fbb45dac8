// LeakyRelu: a rectified linear unit with a slope below zero, and its gradient.
//
// Formula   `fwd`: y = x where x > 0, else slope x; `bwd`: dx = dy where y > 0, else slope dy
// Pointers  y    [count] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte aligned: of `bwd` alone
//           out  the same: x or dy on entry, y or dx in the end
// Launch    grid (count / 2048 rounded up), block 256; no dynamic shared memory
// Numbers   f32, rounded once when stored; no sum over numbers, hence no order
// Assumes   count < 2^31: src/ops/leaky_relu/cuda.rs checks
#include "include/vector.cuh"

struct LeakyRelu {
    const void *y;
    void *out;
    float slope;
    u32 count;
};

template <class T, bool BACKWARD> __device__ __forceinline__ void leaky_relu(const LeakyRelu &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    T *out = static_cast<T *>(p.out) + at;
    float result[8], y[8];
    load8(result, out, p.count - at, true);
    if (BACKWARD) load8(y, static_cast<const T *>(p.y) + at, p.count - at, true);
#pragma unroll
    for (int i = 0; i < 8; ++i) result[i] = (BACKWARD ? y[i] : result[i]) > 0.0f ? result[i] : p.slope * result[i];
    store8(out, result, p.count - at, true);
}

extern "C" __global__ void __launch_bounds__(256) leaky_relu_fwd_f32_eights_sm80(const LeakyRelu p) { leaky_relu<float, false>(p); }
extern "C" __global__ void __launch_bounds__(256) leaky_relu_fwd_bf16_eights_sm80(const LeakyRelu p) { leaky_relu<bf16, false>(p); }
extern "C" __global__ void __launch_bounds__(256) leaky_relu_bwd_f32_eights_sm80(const LeakyRelu p) { leaky_relu<float, true>(p); }
extern "C" __global__ void __launch_bounds__(256) leaky_relu_bwd_bf16_eights_sm80(const LeakyRelu p) { leaky_relu<bf16, true>(p); }
