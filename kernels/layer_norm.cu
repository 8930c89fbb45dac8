// LayerNorm of packed rows [capacity, channels], and its gradient.
//
// Formula   fwd     s = x + residual?; y = gamma (s - mean) / sqrt(var + eps) + beta; mean, rstd; sum = s if there is a
//                   residual
//           bwd     dx = rstd (g - mean(g) - n mean(g n)), g = gamma dy, n = (s - mean) rstd; of each slice the partials of
//                   dgamma = sum dy n, dbeta = sum dy
//           finish  partials -> dgamma, dbeta
// Pointers  x, residual, sum, out      [capacity, channels] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte
//                     aligned. bwd: x is s; out holds dy on entry
//           mean, rstd                 [capacity] f32
//           gamma, beta, dgamma, dbeta [channels] f32, 256-byte aligned
//           partials                   [slices, 2, channels] f32, workspace, 256-byte aligned
//           extent                     one i32: the number of real rows; the others are neither read nor written
// Launch    fwd and bwd: a thread for eight channels, rounded up to whole warps; a block for `slice` rows (a multiple of
//           two), grid ceil(capacity / slice); finish: eight of the 2 channels columns a block of 256. No dynamic shared
//           memory
// Numbers   Sums are f32. Of a row: eight numbers of a thread, a warp by a butterfly, warps in order; the variance is taken
//           about the mean. Of a column: row after row of a slice, slices as in include/slices.cuh.
// Assumes   channels <= 4096, numbers of x < 2^31, f32 vectors: src/ops/layer_norm/cuda.rs checks
#include "include/slices.cuh"
#include "include/vector.cuh"

struct LayerNorm {
    const void *x;
    const void *residual;
    const float *gamma;
    const float *beta;
    void *out;
    float *mean;
    float *rstd;
    void *sum;
    float *dgamma;
    float *dbeta;
    float *partials;
    const i32 *extent;
    u32 channels;
    u32 slice;
    float eps;
    u32 unused;
};

constexpr int ROWS = 2; // that a block works at side by side: their loads and their sums are under way together
constexpr u32 MOST_WARPS = 16;

// This thread's eight channels of the rows of a block. WHOLE: all eight are there and lie at a multiple of 16 bytes, or none.
template <bool WHOLE> struct Share {
    u32 first, end, channel, valid;

    __device__ __forceinline__ explicit Share(const LayerNorm &p) {
        first = blockIdx.x * p.slice;
        end = min(first + p.slice, u32(*p.extent));
        channel = threadIdx.x * EIGHT;
        valid = channel < p.channels ? p.channels - channel : 0;
    }

    // Zeros of a row that is not there. If WHOLE something is read then too, the last row or the first channels: without a
    // branch the loads of a thread do not wait for each other.
    template <class T> __device__ __forceinline__ void load(const LayerNorm &p, float (&to)[8], const void *from, u32 row) const {
        const T *base = static_cast<const T *>(from);
        const bool there = row < end && valid > 0;
        if (WHOLE) {
            load_aligned(to, base + min(row, end - 1) * p.channels + (valid > 0 ? channel : 0));
#pragma unroll
            for (int i = 0; i < 8; ++i) to[i] = there ? to[i] : 0.0f;
        } else {
            load8(to, base + row * p.channels + channel, there ? valid : 0, false);
        }
    }
    template <class T> __device__ __forceinline__ void store(const LayerNorm &p, void *to, const float (&from)[8], u32 row) const {
        store8(static_cast<T *>(to) + row * p.channels + channel, from, row < end ? valid : 0, WHOLE);
    }
};

// Sums of a block of up to 16 warps, COUNT of them at a time; every thread has the results. `scratch` is shared memory.
template <int COUNT> __device__ __forceinline__ void block_sums(float (&x)[COUNT], float (*scratch)[COUNT]) {
    const u32 warps = blockDim.x / 32;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) x[i] = warp_sum(x[i]);
    __syncthreads(); // earlier sums through the same scratch are read
    if (threadIdx.x % 32 == 0) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) scratch[threadIdx.x / 32][i] = x[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < COUNT; ++i) x[i] = scratch[0][i];
    for (u32 warp = 1; warp < warps; ++warp) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) x[i] += scratch[warp][i];
    }
}

template <class T, bool WHOLE> __device__ __forceinline__ void forward(const LayerNorm &p, float (*scratch)[ROWS]) {
    const Share<WHOLE> share(p);
    float gamma[8], beta[8];
    load8(gamma, p.gamma + share.channel, share.valid, true);
    load8(beta, p.beta + share.channel, share.valid, true);
    for (u32 first = share.first; first < share.end; first += ROWS) {
        float s[ROWS][8], mean[ROWS], squares[ROWS] = {};
#pragma unroll
        for (int row = 0; row < ROWS; ++row) share.template load<T>(p, s[row], p.x, first + row);
        if (p.residual) {
#pragma unroll
            for (int row = 0; row < ROWS; ++row) {
                float residual[8];
                share.template load<T>(p, residual, p.residual, first + row);
#pragma unroll
                for (int i = 0; i < 8; ++i) s[row][i] += residual[i];
            }
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            if (p.residual) share.template store<T>(p, p.sum, s[row], first + row);
            mean[row] = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; ++i) mean[row] += s[row][i];
        }
        block_sums(mean, scratch);
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            mean[row] /= float(p.channels);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                s[row][i] -= mean[row];
                squares[row] += u32(i) < share.valid ? s[row][i] * s[row][i] : 0.0f;
            }
        }
        block_sums(squares, scratch);
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            const float rstd = 1.0f / sqrtf(squares[row] / float(p.channels) + p.eps);
#pragma unroll
            for (int i = 0; i < 8; ++i) s[row][i] = gamma[i] * s[row][i] * rstd + beta[i];
            share.template store<T>(p, p.out, s[row], first + row);
            if (threadIdx.x == 0 && first + row < share.end) {
                p.mean[first + row] = mean[row];
                p.rstd[first + row] = rstd;
            }
        }
    }
}

template <class T, bool WHOLE> __device__ __forceinline__ void backward(const LayerNorm &p, float (*scratch)[2 * ROWS]) {
    const Share<WHOLE> share(p);
    if (share.first >= share.end) return;
    float gamma[8], dgamma[8] = {}, dbeta[8] = {};
    load8(gamma, p.gamma + share.channel, share.valid, true);
    for (u32 first = share.first; first < share.end; first += ROWS) {
        float g[ROWS][8], n[ROWS][8], rstd[ROWS], sums[2 * ROWS] = {};
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            share.template load<T>(p, g[row], p.out, first + row);
            share.template load<T>(p, n[row], p.x, first + row);
        }
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            const bool there = first + row < share.end;
            const float mean = there ? p.mean[first + row] : 0.0f;
            rstd[row] = there ? p.rstd[first + row] : 0.0f;
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                n[row][i] = (n[row][i] - mean) * rstd[row];
                // Behind the last channel g is zero.
                dgamma[i] += g[row][i] * n[row][i];
                dbeta[i] += g[row][i];
                g[row][i] *= gamma[i];
                sums[2 * row] += g[row][i];
                sums[2 * row + 1] += g[row][i] * n[row][i];
            }
        }
        block_sums(sums, scratch);
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
            const float mean = sums[2 * row] / float(p.channels), along = sums[2 * row + 1] / float(p.channels);
#pragma unroll
            for (int i = 0; i < 8; ++i) g[row][i] = rstd[row] * (g[row][i] - mean - n[row][i] * along);
            share.template store<T>(p, p.out, g[row], first + row);
        }
    }
    float *to = p.partials + u64(blockIdx.x) * 2 * p.channels + share.channel;
    store8(to, dgamma, share.valid, WHOLE);
    store8(to + p.channels, dbeta, share.valid, WHOLE);
}

template <class T> __device__ __forceinline__ void forward(const LayerNorm &p) {
    __shared__ float scratch[MOST_WARPS][ROWS];
    if (p.channels % EIGHT == 0) forward<T, true>(p, scratch);
    else forward<T, false>(p, scratch);
}

template <class T> __device__ __forceinline__ void backward(const LayerNorm &p) {
    __shared__ float scratch[MOST_WARPS][2 * ROWS];
    if (p.channels % EIGHT == 0) backward<T, true>(p, scratch);
    else backward<T, false>(p, scratch);
}

extern "C" __global__ void __launch_bounds__(512) layer_norm_fwd_f32_rows_sm80(const LayerNorm p) { forward<float>(p); }
extern "C" __global__ void __launch_bounds__(512) layer_norm_fwd_bf16_rows_sm80(const LayerNorm p) { forward<bf16>(p); }
extern "C" __global__ void __launch_bounds__(512) layer_norm_bwd_f32_rows_sm80(const LayerNorm p) { backward<float>(p); }
extern "C" __global__ void __launch_bounds__(512) layer_norm_bwd_bf16_rows_sm80(const LayerNorm p) { backward<bf16>(p); }

extern "C" __global__ void __launch_bounds__(256) layer_norm_finish_f32_columns_sm80(const LayerNorm p) {
    __shared__ float scratch[64];
    const u32 column = blockIdx.x * SLICE_COLUMNS + threadIdx.x % SLICE_COLUMNS;
    const u32 slices = (u32(*p.extent) + p.slice - 1) / p.slice;
    const float sum = sum_of_slices(p.partials, slices, 2 * p.channels, column, scratch);
    if (threadIdx.x >= SLICE_COLUMNS || column >= 2 * p.channels) return;
    if (column < p.channels) p.dgamma[column] = sum;
    else p.dbeta[column - p.channels] = sum;
}
