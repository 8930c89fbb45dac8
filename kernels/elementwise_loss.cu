// ElementwiseLoss: the mean over all numbers of a loss of each, and its gradient.
//
// Formula   loss = mean of (1 - t) x - log sigmoid(x), or of (x - t)^2
//           dx = seed / count * (sigmoid(x) - t), or seed / count * 2 (x - t)
// Pointers  x       [count], f32 or bf16; target  [count], f32, or bf16 if narrow_target; all contiguous, 256-byte aligned
//           seed    [1] f32: of the gradient alone
//           out     of `fwd` partials [blocks] f32, of `finish` loss [1] f32, of `bwd` dx [count] as x
// Launch    fwd and bwd: grid (count / 2048 rounded up), block 256; finish: one block of 256, x being the partials and
//           blocks their number; no dynamic shared memory
// Numbers   Sums are f32: eight numbers of a thread, a warp by a butterfly, warps in order; partials by threads in strides
//           of 256, then likewise.
// Assumes   0 < count < 2^31: src/ops/elementwise_loss/cuda.rs checks
#include "include/reduce.cuh"
#include "include/vector.cuh"

struct ElementwiseLoss {
    const void *x;
    const void *target;
    const float *seed;
    void *out;
    u32 count;
    u32 blocks;
    u32 narrow_target;
    u32 squared;
};

__device__ __forceinline__ float loss_of(const ElementwiseLoss &p, float x, float t) {
    if (p.squared) return (x - t) * (x - t);
    return (1.0f - t) * x - (fminf(x, 0.0f) - log1pf(expf(-fabsf(x))));
}

__device__ __forceinline__ float slope_of(const ElementwiseLoss &p, float x, float t) {
    return p.squared ? 2.0f * (x - t) : 1.0f / (1.0f + expf(-x)) - t;
}

// Eight numbers and their targets.
template <class T> __device__ __forceinline__ void read(const ElementwiseLoss &p, u32 at, float (&x)[8], float (&t)[8]) {
    const u32 valid = p.count - at;
    load8(x, static_cast<const T *>(p.x) + at, valid, true);
    if (p.narrow_target) load8(t, static_cast<const bf16 *>(p.target) + at, valid, true);
    else load8(t, static_cast<const float *>(p.target) + at, valid, true);
}

template <class T> __device__ __forceinline__ void forward(const ElementwiseLoss &p) {
    __shared__ float scratch[8];
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    float sum = 0.0f;
    if (at < p.count) {
        float x[8], t[8];
        read<T>(p, at, x, t);
#pragma unroll
        for (u32 i = 0; i < EIGHT; ++i) sum += i < p.count - at ? loss_of(p, x[i], t[i]) : 0.0f;
    }
    sum = block_sum<256>(sum, scratch);
    if (threadIdx.x == 0) static_cast<float *>(p.out)[blockIdx.x] = sum;
}

template <class T> __device__ __forceinline__ void backward(const ElementwiseLoss &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    const float each = *p.seed / float(p.count);
    float x[8], t[8];
    read<T>(p, at, x, t);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = each * slope_of(p, x[i], t[i]);
    store8(static_cast<T *>(p.out) + at, x, p.count - at, true);
}

extern "C" __global__ void __launch_bounds__(256) elementwise_loss_fwd_f32_eights_sm80(const ElementwiseLoss p) { forward<float>(p); }
extern "C" __global__ void __launch_bounds__(256) elementwise_loss_fwd_bf16_eights_sm80(const ElementwiseLoss p) { forward<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) elementwise_loss_bwd_f32_eights_sm80(const ElementwiseLoss p) { backward<float>(p); }
extern "C" __global__ void __launch_bounds__(256) elementwise_loss_bwd_bf16_eights_sm80(const ElementwiseLoss p) { backward<bf16>(p); }

extern "C" __global__ void __launch_bounds__(256) elementwise_loss_finish_f32_block_sm80(const ElementwiseLoss p) {
    __shared__ float scratch[8];
    float sum = 0.0f;
    for (u32 at = threadIdx.x; at < p.blocks; at += 256) sum += static_cast<const float *>(p.x)[at];
    sum = block_sum<256>(sum, scratch);
    if (threadIdx.x == 0) *static_cast<float *>(p.out) = sum / float(p.count);
}
