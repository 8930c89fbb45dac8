// CrossEntropy: the cross entropy between the softmax of a row and its class, mean over the rows, and its gradient.
//
// Formula   lse = log sum exp x; loss = mean over rows of lse - x[class]; dx = seed / rows * (exp(x - lse) - [class])
// Pointers  x        [rows, count] contiguous, f32, or bf16 if narrow_x, 256-byte aligned
//           classes  [rows] i32
//           losses   [rows] f32: written by `fwd`, read by `finish`; seed  [1] f32: of `bwd` alone
//           out      of `finish` loss [1] f32, of `bwd` dx as x
// Launch    fwd and bwd: grid (rows / 8 rounded up), block 256; finish: one block of 256; no dynamic shared memory
// Numbers   Sums are f32: lanes in strides of 32, then a butterfly; of the rows, threads in strides of 256, a warp by a
//           butterfly, warps in order.
// Assumes   0 <= class < count, by who writes the classes; 0 < rows * count < 2^31: src/ops/cross_entropy/cuda.rs checks
#include "include/reduce.cuh"

struct CrossEntropy {
    const void *x;
    const i32 *classes;
    const float *seed;
    float *losses;
    void *out;
    u32 rows;
    u32 count;
    u32 narrow_x;
    u32 unused;
};

__device__ __forceinline__ u32 lane() { return threadIdx.x % 32; }

__device__ __forceinline__ float load(const CrossEntropy &p, u32 at) {
    return p.narrow_x ? widen(static_cast<const bf16 *>(p.x)[at]) : static_cast<const float *>(p.x)[at];
}

// lse of the row that begins at `first`, for every lane of its warp.
__device__ __forceinline__ float log_sum_exp(const CrossEntropy &p, u32 first) {
    float highest = -3.402823466e38f, sum = 0.0f;
    for (u32 at = lane(); at < p.count; at += 32) highest = fmaxf(highest, load(p, first + at));
    highest = warp_max(highest);
    for (u32 at = lane(); at < p.count; at += 32) sum += expf(load(p, first + at) - highest);
    return highest + logf(warp_sum(sum));
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_fwd_any_warps_sm80(const CrossEntropy p) {
    const u32 row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= p.rows) return;
    const float lse = log_sum_exp(p, row * p.count);
    if (lane() == 0) p.losses[row] = lse - load(p, row * p.count + p.classes[row]);
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_finish_f32_block_sm80(const CrossEntropy p) {
    __shared__ float scratch[8];
    float sum = 0.0f;
    for (u32 row = threadIdx.x; row < p.rows; row += 256) sum += p.losses[row];
    sum = block_sum<256>(sum, scratch);
    if (threadIdx.x == 0) *static_cast<float *>(p.out) = sum / float(p.rows);
}

extern "C" __global__ void __launch_bounds__(256) cross_entropy_bwd_any_warps_sm80(const CrossEntropy p) {
    const u32 row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= p.rows) return;
    const u32 first = row * p.count, hit = p.classes[row];
    const float lse = log_sum_exp(p, first), each = *p.seed / float(p.rows);
    for (u32 at = lane(); at < p.count; at += 32) {
        const float dx = each * (expf(load(p, first + at) - lse) - (at == hit ? 1.0f : 0.0f));
        if (p.narrow_x) static_cast<bf16 *>(p.out)[first + at] = narrow<bf16>(dx);
        else static_cast<float *>(p.out)[first + at] = dx;
    }
}
