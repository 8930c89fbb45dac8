// DiceLoss: a loss from the Dice coefficient of all pixels of a batch taken together, and its gradient.
//
// Formula   p = sigmoid(x); D = (2 sum pt + 1) / below, below = sum p + sum t + 1; loss = 1 - D, or -ln D if log;
//           dx = seed / below * (D - 2t) * p (1 - p), over D if log
// Pointers  logits    [count] x, f32, or bf16 if narrow_logits; mask  [count] t, f32, or bf16 if narrow_mask; both
//                     contiguous, 256-byte aligned
//           partials  [3, blocks] f32: pt, p, t of a block; written by `fwd`, read by `finish`
//           sums      [3] f32: of pt, p, t; written by `finish`, read by `bwd`; seed  [1] f32: of `bwd` alone
//           out       of `finish` loss [1] f32, of `bwd` dx [count] as logits
// Launch    fwd and bwd: grid (count / 2048 rounded up), block 256; finish: one block of 256; no dynamic shared memory
// Numbers   Sums are f32: eight numbers of a thread, a warp by a butterfly, warps in order; partials by threads in strides
//           of 256, then likewise.
// Assumes   0 < count < 2^31: src/ops/dice_loss/cuda.rs checks
#include "include/reduce.cuh"
#include "include/vector.cuh"

struct DiceLoss {
    const void *logits;
    const void *mask;
    const float *seed;
    float *partials;
    float *sums;
    void *out;
    u32 count;
    u32 blocks;
    u32 narrow_logits;
    u32 narrow_mask;
    u32 log;
    u32 unused;
};

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ void read(float (&to)[8], const void *from, u32 narrow, u32 at, u32 valid) {
    if (narrow) load8(to, static_cast<const bf16 *>(from) + at, valid, true);
    else load8(to, static_cast<const float *>(from) + at, valid, true);
}

extern "C" __global__ void __launch_bounds__(256) dice_loss_fwd_any_eights_sm80(const DiceLoss p) {
    __shared__ float scratch[8];
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    float sums[3] = {};
    if (at < p.count) {
        float x[8], t[8];
        read(x, p.logits, p.narrow_logits, at, p.count - at);
        read(t, p.mask, p.narrow_mask, at, p.count - at);
#pragma unroll
        for (u32 i = 0; i < EIGHT; ++i) {
            const float share = i < p.count - at ? sigmoid(x[i]) : 0.0f; // t is zero there
            sums[0] += share * t[i];
            sums[1] += share;
            sums[2] += t[i];
        }
    }
#pragma unroll
    for (u32 part = 0; part < 3; ++part) {
        const float sum = block_sum<256>(sums[part], scratch);
        if (threadIdx.x == 0) p.partials[part * p.blocks + blockIdx.x] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(256) dice_loss_finish_f32_block_sm80(const DiceLoss p) {
    __shared__ float scratch[8];
    float sums[3] = {};
#pragma unroll
    for (u32 part = 0; part < 3; ++part) {
        for (u32 at = threadIdx.x; at < p.blocks; at += 256) sums[part] += p.partials[part * p.blocks + at];
        sums[part] = block_sum<256>(sums[part], scratch);
        if (threadIdx.x == 0) p.sums[part] = sums[part];
    }
    const float dice = (2.0f * sums[0] + 1.0f) / (sums[1] + sums[2] + 1.0f);
    if (threadIdx.x == 0) *static_cast<float *>(p.out) = p.log ? -logf(dice) : 1.0f - dice;
}

extern "C" __global__ void __launch_bounds__(256) dice_loss_bwd_any_eights_sm80(const DiceLoss p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    const float below = p.sums[1] + p.sums[2] + 1.0f, dice = (2.0f * p.sums[0] + 1.0f) / below;
    const float seed = *p.seed / below, each = p.log ? seed / dice : seed;
    float x[8], t[8];
    read(x, p.logits, p.narrow_logits, at, p.count - at);
    read(t, p.mask, p.narrow_mask, at, p.count - at);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const float share = sigmoid(x[i]);
        x[i] = each * (dice - 2.0f * t[i]) * (share * (1.0f - share));
    }
    if (p.narrow_logits) store8(static_cast<bf16 *>(p.out) + at, x, p.count - at, true);
    else store8(static_cast<float *>(p.out) + at, x, p.count - at, true);
}
