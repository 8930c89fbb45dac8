// A linear map of the last extent in any shape, f32 and bf16, and the sums over rows that gradients by a bias are.
//
// Rows may be packed: capacity `rows`, extent on the device. Rows behind the extent are neither read nor written.
#include "include/tile.cuh"

struct Linear {
    const void *a;      // x, or dy for the gradients
    const void *b;      // w; wgrad: x
    const float *bias;  // [columns] or null
    const i32 *extent;  // how many rows hold something; null if all do
    void *out;          // y, dx, dw or partials [gridDim.y, lines, columns]
    u32 rows;           // capacity
    u32 lines, columns; // of the product; lines is of no account where these are the rows
    u32 depth;          // inner extent, of no account where these are the rows
    u32 column_tiles;   // ceil(columns / 64)
    u32 part;           // wgrad: rows of a block
    u32 vector_a, vector_b, vector_out; // 1 if the rows are multiples of 16 bytes
    u32 wide;           // 1 if `out` is f32 though T is bf16
    u32 add;            // dx: 1 if the sums are added to what `out` holds
    u32 unused;
};

struct Bias {
    const void *dy;
    const i32 *extent;
    float *out;   // db or partials [gridDim.y, features]
    u32 rows;     // capacity
    u32 features;
    u32 part;     // rows of a block
    u32 vector;   // 1 if numbers are read in pieces of 16 bytes
    u32 span;     // numbers that a block reads in a turn: whole rows, or a part of one
    u32 advance;  // numbers from turn to turn: span, or features if span is a part of a row
};

struct Partials {
    const float *partials; // [count, size]
    float *out;            // [size]
    u32 size, count;
};

constexpr int BN = 64;

__device__ __forceinline__ u32 rows_of(const i32 *extent, u32 rows) { return extent ? u32(*extent) : rows; }

// Writes the sums of lines `first`, ... to `out`, as Out.
template <class Out>
__device__ __forceinline__ void finish(const Linear &p, Out *out, const char *shared, u32 first, u32 lines, u32 column) {
    const float *bias = p.bias ? p.bias + column : nullptr;
    out += u64(first) * p.columns + column;
    write_sums<Out, BM, BN, SUM_PITCH<BN, false>>(shared, lines - first, p.columns - column, p.vector_out, bias, p.add,
                                                  [&](u32 line) { return out + u64(line) * p.columns; });
}

// The product of rows of a with b: with its rows (B_K: y = x · wT) or with its columns (dx = dy · w).
template <class T, bool B_K> __device__ __forceinline__ void map_rows(const Linear &p) {
    __shared__ __align__(16) char shared[SHARED_BYTES<T, BN, true, B_K, false>];
    u32 column = blockIdx.x % p.column_tiles * BN, first = blockIdx.x / p.column_tiles * BM;
    u32 rows = rows_of(p.extent, p.rows), steps = (p.depth + BK<T> - 1) / BK<T>;
    if (first >= rows) return;
    Rows<T, BM> a(p.a, first, rows, p.depth, p.vector_a);
    if constexpr (B_K) {
        Rows<T, BN> b(p.b, column, p.columns, p.depth, p.vector_b);
        multiply<T, BN, true, true, false>(a, b, steps, shared);
    } else {
        Columns<T, BN> b(p.b, column, p.columns, 0, p.depth, p.vector_b);
        multiply<T, BN, true, false, false>(a, b, steps, shared);
    }
    if (p.wide)
        finish(p, static_cast<float *>(p.out), shared, first, rows, column);
    else
        finish(p, static_cast<T *>(p.out), shared, first, rows, column);
}

template <class T> __device__ __forceinline__ void weight_gradient(const Linear &p) {
    __shared__ __align__(16) char shared[SHARED_BYTES<T, BN, false, false, false>];
    u32 column = blockIdx.x % p.column_tiles * BN, first = blockIdx.x / p.column_tiles * BM;
    u32 begin = blockIdx.y * p.part, end = min(rows_of(p.extent, p.rows), begin + p.part);
    u32 steps = end > begin ? (end - begin + BK<T> - 1) / BK<T> : 0; // a part behind the extent is zero
    Columns<T, BM> a(p.a, first, p.lines, begin, end, p.vector_a);
    Columns<T, BN> b(p.b, column, p.columns, begin, end, p.vector_b);
    multiply<T, BN, false, false, false>(a, b, steps, shared);
    float *out = static_cast<float *>(p.out) + u64(blockIdx.y) * p.lines * p.columns;
    finish(p, out, shared, first, p.lines, column);
}

// A thread keeps its places in a turn, which spans whole rows or a part of one, so each of its sums is of one feature.
template <class T> __device__ __forceinline__ void bias_gradient(const Bias &p) {
    __shared__ float shared[THREADS * PER<T>];
    u32 width = p.vector ? PER<T> : 1, own = threadIdx.x * width, column = blockIdx.x * p.span;
    u32 begin = blockIdx.y * p.part, end = min(rows_of(p.extent, p.rows), begin + p.part);
    u64 numbers = end > begin ? u64(end - begin) * p.features : 0;
    const T *dy = static_cast<const T *>(p.dy) + u64(begin) * p.features;
    u32 span = p.advance == p.span ? p.span : min(p.span, p.features - column);
    float sums[PER<T>] = {};
    if (own < span) {
        for (u64 at = column + own; at < numbers; at += p.advance) {
            if (p.vector && at + PER<T> <= numbers) {
                float piece[PER<T>];
                widen_piece(dy + at, piece);
#pragma unroll
                for (int e = 0; e < PER<T>; ++e) sums[e] += piece[e];
            } else {
#pragma unroll
                for (int e = 0; e < PER<T>; ++e)
                    if (e < width && at + e < numbers) sums[e] += widen(dy[at + e]);
            }
        }
#pragma unroll
        for (int e = 0; e < PER<T>; ++e)
            if (e < width) shared[own + e] = sums[e];
    }
    __syncthreads();
    float *out = p.out + u64(blockIdx.y) * p.features + column;
    for (u32 feature = threadIdx.x; feature < min(span, p.features); feature += THREADS) {
        float sum = 0.0f;
        for (u32 at = feature; at < span; at += p.features) sum += shared[at];
        out[feature] = sum;
    }
}

#define KERNEL(NAME, PARAMETERS, BODY) \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME(PARAMETERS p) { BODY(p); }

// Formula   y[r,o] = sum over i of x[r,i] · w[o,i] + bias[o]
// Pointers  a x [rows,depth] T; b w [columns,depth] T; bias [columns] f32; out y [rows,columns] T, or f32 if wide; all
//           contiguous, 16-byte aligned
// Launch    grid (ceil(rows / 128) · column_tiles), block 256, static shared memory
// Numbers   f32 sums, in order of i; the bias last
// Assumes   extents below 2^31: src/ops/linear/cuda.rs checks; 0 <= *extent <= rows: src/model/batch.rs does
KERNEL(linear_fwd_f32_any_sm80, Linear, (map_rows<float, true>))
KERNEL(linear_fwd_bf16_any_sm80, Linear, (map_rows<bf16, true>))

// Formula   dx[r,i] = dx before, if add, + sum over o of dy[r,o] · w[o,i]
// Pointers  a dy [rows,depth] T; b w [depth,columns] T; out dx [rows,columns] T, or f32 if wide; all contiguous, 16-byte
//           aligned
// Launch    as fwd
// Numbers   f32 sums, in order of o; what is added to last
// Assumes   as fwd
KERNEL(linear_dgrad_f32_any_sm80, Linear, (map_rows<float, false>))
KERNEL(linear_dgrad_bf16_any_sm80, Linear, (map_rows<bf16, false>))

// Formula   dw[o,i] = sum over the rows r of dy[r,o] · x[r,i]
// Pointers  a dy [rows,lines] T; b x [rows,columns] T; out f32: dw [lines,columns], or partials [gridDim.y,lines,columns]; all
//           contiguous, 16-byte aligned
// Launch    grid (ceil(lines / 128) · column_tiles, ceil(rows / part)), block 256, static shared memory
// Numbers   f32 sums, in order of r
// Assumes   as fwd; wide is 1
KERNEL(linear_wgrad_f32_any_sm80, Linear, weight_gradient<float>)
KERNEL(linear_wgrad_bf16_any_sm80, Linear, weight_gradient<bf16>)

// Formula   db[f] = sum over the rows r of dy[r,f]
// Pointers  dy [rows,features] T; out f32: db [features], or partials [gridDim.y,features]; contiguous, 16-byte aligned
// Launch    grid (ceil(features / span), or 1 if span is whole rows; ceil(rows / part)), block 256, static shared memory
// Numbers   f32 sums: of a thread in order of r, then of a block's threads in their order
// Assumes   span is at most 256 pieces (numbers, unless vector); if it spans rows, a multiple of features and, if vector, of a
//           piece, as part · features is; if not, vector only where features is a multiple of a piece: src/ops/linear/cuda.rs
//           sees to it
KERNEL(linear_bias_grad_f32_any_sm80, Bias, bias_gradient<float>)
KERNEL(linear_bias_grad_bf16_any_sm80, Bias, bias_gradient<bf16>)

// Formula   out[i] = sum over p of partials[p,i]
// Pointers  partials [count,size] f32; out [size] f32; contiguous, 4-byte aligned
// Launch    grid (ceil(size / 32)), block 256: eight groups of a warp's width, each a run of partials
// Numbers   f32 sums, in order of p within a group, then of the groups
// Assumes   size and count below 2^31: src/ops/linear/cuda.rs checks
extern "C" __global__ void __launch_bounds__(THREADS) linear_sum_f32_partials_sm80(Partials p) {
    __shared__ float shared[8][32];
    u32 lane = threadIdx.x % 32, group = threadIdx.x / 32, at = blockIdx.x * 32 + lane;
    u32 run = (p.count + 7) / 8, end = min(p.count, group * run + run);
    float sum = 0.0f;
    if (at < p.size) {
#pragma unroll 4
        for (u32 partial = group * run; partial < end; ++partial) sum += p.partials[u64(partial) * p.size + at];
    }
    shared[group][lane] = sum;
    __syncthreads();
    if (group > 0 || at >= p.size) return;
#pragma unroll
    for (int other = 1; other < 8; ++other) sum += shared[other][lane];
    p.out[at] = sum;
}
