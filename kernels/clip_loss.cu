// Contrastive loss between images and texts, and its gradient. Rows and columns offset .. offset + count are own.
//
// Formula   i = x / max(|x|, 1e-12) of the images, t of the texts; s = i · tT / temperature
//           loss = weight0 · mean over own i of (log sum exp s[i, :] - s[i, i]) + weight1 · the same of the columns s[:, i]
//           ds[i, j] = seed / count / temperature · (weight0 · (exp(s[i, j] - lse of row i) - [i = j]) if i is own
//                    + weight1 · (exp(s[i, j] - lse of column j) - [i = j]) if j is own)
//           di = ds · t, dt = dsT · i; d_image = (di - i (i · di)) / |x|, d_text likewise
//           top1, top5 = share of own images whose own text is among the 1, 5 most similar
// Pointers  see the struct; everything between the first kernel and the last is f32 in workspace, contiguous, 256-byte
//           aligned; rows of `units` are i, then t
// Launch    block 256, static shared memory; grids: `units` and `bwd_any_warps` ceil(2 * rows / 8), a warp to a row;
//           `similarities` ceil(rows / 32)^2; `softmax` ceil(count / 32); `finish` 1; `bwd_f32_softmax` ceil(rows * rows /
//           256); `bwd_f32_32x32` (ceil(rows / 32) * ceil(features / 32), 2)
// Numbers   f32. Of a row by lanes in strides of 32, then a butterfly; of a column by warps in strides of 8, then in order
//           of warps; products in order of their inner extent; the loss by threads in strides of 256, a butterfly, warps.
// Assumes   2 * rows * features, rows * rows < 2^31; offset + count <= rows: src/ops/clip_loss/cuda.rs and `infer` check
#include "include/reduce.cuh"

struct ClipLoss {
    const void *image, *text; // [rows, features], f32, or bf16 by `narrow_image`, `narrow_text`; all are 256-byte aligned
    const float *seed;        // [1], of the gradient
    float *units;             // [2 * rows, features]
    float *norms;             // [2 * rows]
    float *s;                 // [rows, rows], ds in the end
    float *lse;               // [2, count]: of rows, of columns
    u32 *before;              // [count]: texts that are more similar than the own one
    float *d_units;           // [2 * rows, features]
    void *out, *second, *third; // loss, top1, top5, [1] f32 each; or d_image, d_text as image and text
    u32 rows, features, offset, count;
    u32 narrow_image, narrow_text;
    float temperature, weight0, weight1;
    u32 unused;
};

constexpr int THREADS = 256;
constexpr u32 WARPS = THREADS / 32;
constexpr float SMALLEST_NORM = 1e-12f;
constexpr u32 TILE = 32;

__device__ __forceinline__ u32 lane() { return threadIdx.x % 32; }
__device__ __forceinline__ u32 warp() { return threadIdx.x / 32; }

// Number `at` of a tensor that is bf16 if `narrow`.
__device__ __forceinline__ float get(const void *from, u64 at, u32 narrow) {
    return narrow ? widen(static_cast<const bf16 *>(from)[at]) : static_cast<const float *>(from)[at];
}

// Units and norms. A warp to a row: image rows, then text rows.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_units_any_warps_sm80(const ClipLoss p) {
    const u32 row = blockIdx.x * WARPS + warp();
    if (row >= 2 * p.rows) return;
    const bool text = row >= p.rows;
    const void *from = text ? p.text : p.image;
    const u32 narrow = text ? p.narrow_text : p.narrow_image;
    const u64 first = u64(text ? row - p.rows : row) * p.features, to = u64(row) * p.features;
    float square = 0.0f;
    for (u32 at = lane(); at < p.features; at += 32) {
        const float x = get(from, first + at, narrow);
        square += x * x;
    }
    const float root = sqrtf(warp_sum(square));
    const float norm = root < SMALLEST_NORM ? SMALLEST_NORM : root; // NaN stays NaN
    for (u32 at = lane(); at < p.features; at += 32) p.units[to + at] = get(from, first + at, narrow) / norm;
    if (lane() == 0) p.norms[row] = norm;
}

// Calls put(row, column, sum) for a tile of 32 x 32 of a · b: a is [rows, depth] in memory (A_K) or [depth, rows], b is
// [columns, depth] (B_K) or [depth, columns]. A thread has four rows, 8 apart, of a column. f32, in order of depth.
template <bool A_K, bool B_K, class Put>
__device__ __forceinline__ void product(const float *a, const float *b, u32 rows, u32 columns, u32 depth, u32 row, u32 column, Put put) {
    __shared__ __align__(16) float left[TILE][TILE + 4]; // by row: 16-byte writes down the lines have no conflicts
    __shared__ float right[TILE][TILE + 1];              // by depth
    float sums[4] = {};
    for (u32 begin = 0; begin < depth; begin += TILE) {
        // Lanes follow memory.
        const u32 line = A_K ? threadIdx.x / 8 : lane(), along = (A_K ? threadIdx.x % 8 : warp()) * 4;
        float four[4];
#pragma unroll
        for (u32 e = 0; e < 4; ++e) {
            const u32 k = begin + along + e;
            const bool any = row + line < rows && k < depth;
            four[e] = any ? a[A_K ? u64(row + line) * depth + k : u64(k) * rows + row + line] : 0.0f;
        }
        *reinterpret_cast<float4 *>(&left[line][along]) = make_float4(four[0], four[1], four[2], four[3]);
#pragma unroll
        for (u32 turn = 0; turn < TILE / WARPS; ++turn) {
            const u32 down = warp() + turn * WARPS, k = B_K ? lane() : down, across = B_K ? down : lane();
            const bool any = column + across < columns && begin + k < depth;
            right[k][across] = any ? b[B_K ? u64(column + across) * depth + begin + k : u64(begin + k) * columns + column + across] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (u32 k = 0; k < TILE; k += 4) {
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                const float4 x = *reinterpret_cast<const float4 *>(&left[warp() + i * WARPS][k]);
                sums[i] += x.x * right[k][lane()];
                sums[i] += x.y * right[k + 1][lane()];
                sums[i] += x.z * right[k + 2][lane()];
                sums[i] += x.w * right[k + 3][lane()];
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        const u32 down = row + warp() + i * WARPS;
        if (down < rows && column + lane() < columns) put(down, column + lane(), sums[i]);
    }
}

// s.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_similarities_f32_32x32_sm80(const ClipLoss p) {
    const u32 across = (p.rows + TILE - 1) / TILE;
    const float *texts = p.units + u64(p.rows) * p.features;
    product<true, true>(p.units, texts, p.rows, p.rows, p.features, blockIdx.x / across * TILE, blockIdx.x % across * TILE,
                        [&](u32 row, u32 column, float sum) { p.s[u64(row) * p.rows + column] = sum / p.temperature; });
}

// lse of own rows and columns, and how many texts come before the own one. A block has 32 of them: each warp four rows; for
// the columns each lane one, of which each warp has every eighth row.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_softmax_f32_blocks_sm80(const ClipLoss p) {
    __shared__ float scratch[2][WARPS][32];
    const float lowest = -3.402823466e38f;
    for (u32 turn = 0; turn < 32 / WARPS; ++turn) {
        const u32 own = blockIdx.x * 32 + warp() + turn * WARPS;
        if (own >= p.count) break;
        const float *line = p.s + u64(p.offset + own) * p.rows;
        const float similar = line[p.offset + own];
        float highest = lowest, sum = 0.0f;
        u32 before = 0;
        for (u32 at = lane(); at < p.rows; at += 32) {
            highest = fmaxf(highest, line[at]);
            before += !(line[at] <= similar); // NaN is more similar, so that it is no hit
        }
        highest = warp_max(highest);
        for (u32 at = lane(); at < p.rows; at += 32) sum += expf(line[at] - highest);
        sum = warp_sum(sum);
        for (int step = 16; step > 0; step /= 2) before += __shfl_xor_sync(ALL_LANES, before, step);
        if (lane() == 0) {
            p.lse[own] = highest + logf(sum);
            p.before[own] = before;
        }
    }
    const u32 own = blockIdx.x * 32 + lane();
    const bool any = own < p.count;
    const float *column = p.s + p.offset + own;
    float highest = lowest, sum = 0.0f;
    for (u32 at = warp(); any && at < p.rows; at += WARPS) highest = fmaxf(highest, column[u64(at) * p.rows]);
    scratch[0][warp()][lane()] = highest;
    __syncthreads();
#pragma unroll
    for (u32 other = 0; other < WARPS; ++other) highest = fmaxf(highest, scratch[0][other][lane()]);
    for (u32 at = warp(); any && at < p.rows; at += WARPS) sum += expf(column[u64(at) * p.rows] - highest);
    scratch[1][warp()][lane()] = sum;
    __syncthreads();
    if (warp() == 0 && any) {
        sum = 0.0f;
#pragma unroll
        for (u32 other = 0; other < WARPS; ++other) sum += scratch[1][other][lane()];
        p.lse[p.count + own] = highest + logf(sum);
    }
}

// loss, top1 and top5.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_fwd_f32_finish_sm80(const ClipLoss p) {
    __shared__ float scratch[WARPS];
    float by_row = 0.0f, by_column = 0.0f, top1 = 0.0f, top5 = 0.0f;
    for (u32 at = threadIdx.x; at < p.count; at += THREADS) {
        const float similar = p.s[u64(p.offset + at) * p.rows + p.offset + at];
        by_row += p.lse[at] - similar;
        by_column += p.lse[p.count + at] - similar;
        top1 += p.before[at] < 1;
        top5 += p.before[at] < 5;
    }
    by_row = block_sum<THREADS>(by_row, scratch), by_column = block_sum<THREADS>(by_column, scratch);
    top1 = block_sum<THREADS>(top1, scratch), top5 = block_sum<THREADS>(top5, scratch);
    if (threadIdx.x == 0) {
        const float count = float(p.count);
        *static_cast<float *>(p.out) = p.weight0 * (by_row / count) + p.weight1 * (by_column / count);
        *static_cast<float *>(p.second) = top1 / count;
        *static_cast<float *>(p.third) = top5 / count;
    }
}

// ds in the place of s.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_bwd_f32_softmax_sm80(const ClipLoss p) {
    const u32 at = blockIdx.x * THREADS + threadIdx.x;
    if (at >= p.rows * p.rows) return;
    const u32 row = at / p.rows, column = at % p.rows;
    const u32 own_row = row - p.offset, own_column = column - p.offset; // below count if own
    const float s = p.s[at], same = row == column ? 1.0f : 0.0f;
    float ds = 0.0f;
    if (own_row < p.count) ds += *p.seed * p.weight0 / float(p.count) / p.temperature * (expf(s - p.lse[own_row]) - same);
    if (own_column < p.count)
        ds += *p.seed * p.weight1 / float(p.count) / p.temperature * (expf(s - p.lse[p.count + own_column]) - same);
    p.s[at] = ds;
}

// Gradients by the units: di, dt.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_bwd_f32_32x32_sm80(const ClipLoss p) {
    const u32 across = (p.features + TILE - 1) / TILE, row = blockIdx.x / across * TILE, column = blockIdx.x % across * TILE;
    const u64 half = u64(p.rows) * p.features;
    if (blockIdx.y == 0)
        product<true, false>(p.s, p.units + half, p.rows, p.features, p.rows, row, column,
                             [&](u32 row, u32 column, float sum) { p.d_units[u64(row) * p.features + column] = sum; });
    else
        product<false, false>(p.s, p.units, p.rows, p.features, p.rows, row, column,
                              [&](u32 row, u32 column, float sum) { p.d_units[half + u64(row) * p.features + column] = sum; });
}

// Through the norms: dx = (du - u (u · du)) / |x|, du / 1e-12 where the norm was below. A warp to a row.
extern "C" __global__ void __launch_bounds__(THREADS) clip_loss_bwd_any_warps_sm80(const ClipLoss p) {
    const u32 row = blockIdx.x * WARPS + warp();
    if (row >= 2 * p.rows) return;
    const bool text = row >= p.rows;
    const u64 from = u64(row) * p.features, to = u64(text ? row - p.rows : row) * p.features;
    const float norm = p.norms[row];
    float dot = 0.0f;
    if (norm != SMALLEST_NORM)
        for (u32 at = lane(); at < p.features; at += 32) dot += p.units[from + at] * p.d_units[from + at];
    dot = warp_sum(dot);
    for (u32 at = lane(); at < p.features; at += 32) {
        const float dx = (p.d_units[from + at] - p.units[from + at] * dot) / norm;
        void *out = text ? p.second : p.out;
        if (text ? p.narrow_text : p.narrow_image)
            static_cast<bf16 *>(out)[to + at] = narrow<bf16>(dx);
        else
            static_cast<float *>(out)[to + at] = dx;
    }
}
