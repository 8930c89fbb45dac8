// ElementwiseLoss: the mean over all numbers of a weighted loss of each, and its gradient.
//
// Formula   loss = mean of weight * l(x, t); dx = seed / count * weight * l'(x, t). By form, with e = (1 - t) x - log sigmoid(x):
//           0: l = e, l' = sigmoid(x) - t; 1: l = (x - t)^2, l' = 2 (x - t); 2, with z = (2t - 1) x: l = sigmoid(-z)^2 e,
//           l' = sigmoid(-z)^2 (sigmoid(x) - t - 2 (2t - 1) sigmoid(z) e)
//           With channels, numbers 2 and 3 of each so many have form 1.
// Pointers  x       [count], f32 or bf16; target, weight  [count], f32, or bf16 if narrow; all contiguous, 256-byte aligned;
//                   without weight all weigh 1
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
    const void *weight;
    const float *seed;
    void *out;
    u32 count;
    u32 blocks;
    u32 form;
    u32 channels;
    u32 narrow_target;
    u32 narrow_weight;
};

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The loss of the number that stands at `at`, or its slope.
template <bool SLOPE> __device__ __forceinline__ float element(const ElementwiseLoss &p, u32 at, float x, float t) {
    if (p.form == 1 || (p.channels && at % p.channels / 2 == 1)) return SLOPE ? 2.0f * (x - t) : (x - t) * (x - t);
    if (SLOPE && p.form == 0) return sigmoid(x) - t;
    const float entropy = (1.0f - t) * x - (fminf(x, 0.0f) - log1pf(expf(-fabsf(x))));
    if (p.form == 0) return entropy;
    const float sign = 2.0f * t - 1.0f, wrong = sigmoid(-sign * x);
    return wrong * wrong * (SLOPE ? sigmoid(x) - t - 2.0f * sign * sigmoid(sign * x) * entropy : entropy);
}

// Eight of the constants.
__device__ __forceinline__ void read(float (&to)[8], const void *from, u32 narrow, u32 at, u32 valid) {
    if (narrow) load8(to, static_cast<const bf16 *>(from) + at, valid, true);
    else load8(to, static_cast<const float *>(from) + at, valid, true);
}

// The weighted losses of eight numbers, or the slopes; those behind the last are zero.
template <class T, bool SLOPE> __device__ __forceinline__ void elements(const ElementwiseLoss &p, u32 at, float (&out)[8]) {
    const u32 valid = p.count - at;
    float x[8], t[8], weight[8] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    load8(x, static_cast<const T *>(p.x) + at, valid, true);
    read(t, p.target, p.narrow_target, at, valid);
    if (p.weight) read(weight, p.weight, p.narrow_weight, at, valid);
#pragma unroll
    for (u32 i = 0; i < EIGHT; ++i) {
        const float each = weight[i] * element<SLOPE>(p, at + i, x[i], t[i]);
        out[i] = i < valid ? each : 0.0f;
    }
}

template <class T> __device__ __forceinline__ void forward(const ElementwiseLoss &p) {
    __shared__ float scratch[8];
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    float sum = 0.0f;
    if (at < p.count) {
        float each[8];
        elements<T, false>(p, at, each);
#pragma unroll
        for (u32 i = 0; i < EIGHT; ++i) sum += each[i];
    }
    sum = block_sum<256>(sum, scratch);
    if (threadIdx.x == 0) static_cast<float *>(p.out)[blockIdx.x] = sum;
}

template <class T> __device__ __forceinline__ void backward(const ElementwiseLoss &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    const float seed = *p.seed / float(p.count);
    float each[8];
    elements<T, true>(p, at, each);
#pragma unroll
    for (int i = 0; i < 8; ++i) each[i] *= seed;
    store8(static_cast<T *>(p.out) + at, each, p.count - at, true);
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
