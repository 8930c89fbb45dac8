// BatchNorm of rows [rows, channels] with the statistics of the batch, its gradient, and running statistics.
//
// Formula   statistics  x -> partials: sum and squared deviations of each slice     moments    partials -> mean, var
//           apply       out = y = relu?(gamma? (x - mean) / sqrt(var + eps) + beta? + residual?)
//           sums        g = dy, with a gate where gate > 0, with `relu` where apply has y > 0; x, mean -> partials: sum g,
//                       sum g (x - mean); writes g if `keep`
//           totals      partials, var -> dgamma?, dbeta?, shift = dbeta / rows, slope = dgamma / (rows sqrt(var + eps))
//           gradient    out = dx = gamma? / sqrt(var + eps) (g - ((x - mean) slope + shift)), g as in sums
//           running     r = (1 - momentum) r + momentum statistic, of the variance that of a sample: times n / (n - 1)
// Pointers  x, residual, gate, out, g  [rows, channels] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte
//                     aligned; residual, gate may be null; out may be g
//           mean, var, gamma, beta, dgamma, dbeta  [channels] f32, 256-byte aligned; gamma with beta or dgamma with dbeta
//                     may be null
//           partials  [slices, 2, channels] f32; totals  [2, channels] f32: workspace, 256-byte aligned
//           extent    one i32: how many rows are real, the others are neither read nor written; null: all are
// Launch    block 256. statistics, apply, sums, gradient: a block has 8 * 2^across_bits channels of `slice` rows, so the
//           grid is ceil(rows / slice) * parts, parts = ceil(channels / (8 * 2^across_bits)); moments and totals: eight
//           channels a block; running: a channel a thread. No dynamic shared memory
// Numbers   Sums are f32. Squared deviations are taken of four rows at a time, about their own mean, and merged (Chan,
//           Golub, LeVeque 1979): no cancellation, whatever the mean. A thread takes every 256 / 2^across_bits-th row of
//           its slice, threads are merged in a tree, slices as in include/slices.cuh: the shapes alone fix the order.
// Assumes   numbers of x < 2^31, f32 vectors: src/ops/batch_norm/cuda.rs checks
#include "include/slices.cuh"
#include "include/vector.cuh"

struct BatchNorm {
    const void *x;
    const void *residual;
    const void *gate;
    void *out;
    void *g;
    float *mean;
    float *var;
    const float *gamma;
    const float *beta;
    float *dgamma;
    float *dbeta;
    float *partials;
    float *totals;
    const i32 *extent;
    u32 rows;
    u32 channels;
    u32 across_bits;
    u32 parts;
    u32 slice;
    float eps;
    u32 relu;
    u32 keep;
    u32 constant;
    u32 unused;
};

struct Running {
    const float *mean;
    const float *var;
    float *running_mean;
    float *running_var;
    i32 *batches;
    const i32 *extent;
    u32 rows;
    u32 channels;
    float momentum;
    u32 unused;
};

__device__ __forceinline__ u32 real_rows(const BatchNorm &p) { return p.extent ? u32(*p.extent) : p.rows; }

// Rows of a slice.
__device__ __forceinline__ u32 rows_of(const BatchNorm &p, u32 slice, u32 rows) { return min(p.slice, rows - slice * p.slice); }

// Eight channels of every `step`-th row from `row` up to `end`: this thread's share of a slice; no rows for a thread behind
// the last channel.
struct Share {
    u32 slice, row, end, step, channel, valid;
    bool whole; // eight channels of every row lie at a multiple of 16 bytes

    __device__ __forceinline__ explicit Share(const BatchNorm &p) {
        const u32 part = blockIdx.x % p.parts, rows = real_rows(p);
        slice = blockIdx.x / p.parts;
        end = min(slice * p.slice + p.slice, rows);
        step = 256 >> p.across_bits;
        channel = ((part << p.across_bits) + (threadIdx.x & ((1u << p.across_bits) - 1))) * EIGHT;
        valid = channel < p.channels ? p.channels - channel : 0;
        row = valid == 0 ? end : slice * p.slice + (threadIdx.x >> p.across_bits);
        whole = p.channels % EIGHT == 0;
    }

    // Whether the slice has no rows: then the whole block has nothing to do.
    __device__ __forceinline__ bool empty(const BatchNorm &p) const { return slice * p.slice >= end; }

    // N channels, eight or, of rows that are no multiple of eight long, one after another: eight of them would take too many
    // registers, one by one as they would have to be loaded.
    template <class T, int N> __device__ __forceinline__ void load(const BatchNorm &p, float (&to)[N], const void *from, u32 row) const {
        const T *at = static_cast<const T *>(from) + row * p.channels + channel;
        if constexpr (N == EIGHT) load_aligned(to, at);
        else to[0] = widen(*at);
    }
    template <class T, int N> __device__ __forceinline__ void store(const BatchNorm &p, void *to, const float (&from)[N], u32 row) const {
        T *at = static_cast<T *>(to) + row * p.channels + channel;
        if constexpr (N == EIGHT) store_aligned(at, from);
        else *at = narrow<T>(from[0]);
    }
    // Of a vector over channels; `missing` where there is none.
    template <int N> __device__ __forceinline__ void vector(float (&to)[N], const float *from, float missing) const {
#pragma unroll
        for (int i = 0; i < N; ++i) to[i] = missing;
        if (!from) return;
        if constexpr (N == EIGHT) load_aligned(to, from + channel);
        else to[0] = from[channel];
    }
    // The same rows of one of the channels.
    __device__ __forceinline__ Share only(u32 at) const {
        Share one = *this;
        one.channel += at;
        return one;
    }
};

// Gives `eight` the share of a thread, or `one` each of its channels in turn, with its number.
template <class Eight, class One> __device__ __forceinline__ void each(const Share &share, Eight eight, One one) {
    if (share.row >= share.end) return;
    if (share.whole) {
        eight(share);
        return;
    }
#pragma unroll 1
    for (u32 at = 0; at < min(share.valid, EIGHT); ++at) one(share.only(at), at);
}

// Number `at` of eight, in registers whose numbers the compiler knows.
__device__ __forceinline__ void put(float (&eight)[8], u32 at, float number) {
#pragma unroll
    for (u32 i = 0; i < EIGHT; ++i) eight[i] = i == at ? number : eight[i];
}

// How this thread's channels are normalised: forward and backward by the same instructions, so that both have the same sign.
template <int N> struct Normal {
    float mean[N], scale[N], beta[N];

    __device__ __forceinline__ Normal(const BatchNorm &p, const Share &share) {
        float var[N];
        share.vector(mean, p.mean, 0.0f);
        share.vector(beta, p.beta, 0.0f);
        share.vector(var, p.var, 1.0f);
        share.vector(scale, p.gamma, 1.0f);
#pragma unroll
        for (int i = 0; i < N; ++i) scale[i] /= sqrtf(var[i] + p.eps);
    }
    __device__ __forceinline__ float operator()(float centred, int i) const { return fmaf(centred, scale[i], beta[i]); }
};

// How the sums of `count` numbers and of `more` others are put together.
struct Merge {
    float inverse, inverse2, weight;

    __device__ __forceinline__ Merge(float count, float more)
        : inverse(count > 0.0f ? 1.0f / count : 0.0f), inverse2(1.0f / more), weight(count * more / (count + more)) {}

    // Sum and squared deviations from the mean.
    __device__ __forceinline__ void operator()(float &sum, float &squares, float sum2, float squares2) const {
        const float apart = sum2 * inverse2 - sum * inverse;
        squares += squares2 + apart * apart * weight;
        sum += sum2;
    }
};

// Merges what the threads of one block have for the same channels into the first of them, rows halved at every step.
template <class Join> __device__ __forceinline__ void fold(u32 across_bits, float &count, float (&a)[8], float (&b)[8], Join join) {
    __shared__ float first[8][128], second[8][128], counts[128];
    for (u32 half = 128; half >> across_bits > 0; half /= 2) {
        if (threadIdx.x >= half && threadIdx.x < 2 * half) {
            const u32 at = threadIdx.x - half;
            counts[at] = count;
#pragma unroll
            for (int i = 0; i < 8; ++i) first[i][at] = a[i], second[i][at] = b[i];
        }
        __syncthreads();
        if (threadIdx.x < half) {
            const float more = counts[threadIdx.x];
            float a2[8], b2[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) a2[i] = first[i][threadIdx.x], b2[i] = second[i][threadIdx.x];
            join(more, a2, b2);
        }
        __syncthreads();
    }
}

// The first thread of each group of channels writes what the block has.
__device__ __forceinline__ void put_partials(const BatchNorm &p, const Share &share, const float (&a)[8], const float (&b)[8]) {
    if (threadIdx.x >> p.across_bits) return;
    float *to = p.partials + u64(share.slice) * 2 * p.channels + share.channel;
    store8(to, a, share.valid, share.whole);
    store8(to + p.channels, b, share.valid, share.whole);
}

// Merges the next ROWS rows.
template <class T, int N, int ROWS>
__device__ __forceinline__ void take(const BatchNorm &p, Share &share, float &count, float *sum, float *squares) {
    float x[ROWS][N];
#pragma unroll
    for (int row = 0; row < ROWS; ++row) share.load<T>(p, x[row], p.x, share.row + row * share.step);
    const Merge merge(count, ROWS);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        float more = x[0][i], apart = 0.0f;
#pragma unroll
        for (int row = 1; row < ROWS; ++row) more += x[row][i];
        const float mean = more * (1.0f / ROWS);
#pragma unroll
        for (int row = 0; row < ROWS; ++row) apart += (x[row][i] - mean) * (x[row][i] - mean);
        merge(sum[i], squares[i], more, apart);
    }
    count += ROWS;
    share.row += ROWS * share.step;
}

// All rows; how many they are.
template <class T, int N> __device__ __forceinline__ float take_all(const BatchNorm &p, Share share, float *sum, float *squares) {
    float count = 0.0f;
    while (share.row + 3 * share.step < share.end) take<T, N, 4>(p, share, count, sum, squares);
    while (share.row < share.end) take<T, N, 1>(p, share, count, sum, squares);
    return count;
}

template <class T> __device__ __forceinline__ void statistics(const BatchNorm &p) {
    const Share share(p);
    if (share.empty(p)) return;
    float sum[8] = {}, squares[8] = {}, count = 0.0f;
    each(share, [&](const Share &all) { count = take_all<T, 8>(p, all, sum, squares); },
         [&](const Share &one, u32 at) {
             float a = 0.0f, b = 0.0f;
             count = take_all<T, 1>(p, one, &a, &b);
             put(sum, at, a), put(squares, at, b);
         });
    fold(p.across_bits, count, sum, squares, [&](float more, const float (&sum2)[8], const float (&squares2)[8]) {
        if (more == 0.0f) return;
        const Merge merge(count, more);
#pragma unroll
        for (int i = 0; i < 8; ++i) merge(sum[i], squares[i], sum2[i], squares2[i]);
        count += more;
    });
    put_partials(p, share, sum, squares);
}

template <class T, int N> __device__ __forceinline__ void apply(const BatchNorm &p, Share share) {
    const Normal<N> normal(p, share);
    for (; share.row < share.end; share.row += share.step) {
        float x[N], residual[N] = {};
        if (p.residual) share.load<T>(p, residual, p.residual, share.row);
        share.load<T>(p, x, p.x, share.row);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float y = normal(x[i] - normal.mean[i], i) + residual[i];
            x[i] = p.relu && y < 0.0f ? 0.0f : y; // not fmaxf, which would hide a NaN
        }
        share.store<T>(p, p.out, x, share.row);
    }
}

// x - mean of a row, and g: dy, or zero where the ReLU was closed.
template <class T, int N>
__device__ __forceinline__ void load_gradient(const BatchNorm &p, const Share &share, const Normal<N> &normal, float (&centred)[N], float (&g)[N]) {
    share.load<T>(p, centred, p.x, share.row);
#pragma unroll
    for (int i = 0; i < N; ++i) centred[i] -= normal.mean[i];
    share.load<T>(p, g, p.g, share.row);
    if (p.gate) {
        float y[N];
        share.load<T>(p, y, p.gate, share.row);
#pragma unroll
        for (int i = 0; i < N; ++i) g[i] = y[i] > 0.0f ? g[i] : 0.0f;
    } else if (p.relu) {
#pragma unroll
        for (int i = 0; i < N; ++i) g[i] = normal(centred[i], i) > 0.0f ? g[i] : 0.0f;
    }
}

template <class T, int N> __device__ __forceinline__ void add_all(const BatchNorm &p, Share share, float *sum, float *products) {
    const Normal<N> normal(p, share);
    for (; share.row < share.end; share.row += share.step) {
        float g[N], centred[N];
        load_gradient<T>(p, share, normal, centred, g);
        if (p.keep) share.store<T>(p, p.g, g, share.row);
#pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += g[i], products[i] += g[i] * centred[i];
    }
}

template <class T> __device__ __forceinline__ void sums(const BatchNorm &p) {
    const Share share(p);
    if (share.empty(p)) return;
    float sum[8] = {}, products[8] = {}, count = 0.0f;
    each(share, [&](const Share &all) { add_all<T, 8>(p, all, sum, products); },
         [&](const Share &one, u32 at) {
             float a = 0.0f, b = 0.0f;
             add_all<T, 1>(p, one, &a, &b);
             put(sum, at, a), put(products, at, b);
         });
    fold(p.across_bits, count, sum, products, [&](float, const float (&sum2)[8], const float (&products2)[8]) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += sum2[i], products[i] += products2[i];
    });
    put_partials(p, share, sum, products);
}

template <class T, int N> __device__ __forceinline__ void gradient(const BatchNorm &p, Share share) {
    const Normal<N> normal(p, share);
    float shift[N], slope[N];
    share.vector(shift, p.totals, 0.0f);
    share.vector(slope, p.totals + p.channels, 0.0f);
    for (; share.row < share.end; share.row += share.step) {
        float g[N], centred[N];
        load_gradient<T>(p, share, normal, centred, g);
#pragma unroll
        for (int i = 0; i < N; ++i) g[i] = normal.scale[i] * (g[i] - (centred[i] * slope[i] + shift[i]));
        share.store<T>(p, p.out, g, share.row);
    }
}

template <class T> __device__ __forceinline__ void apply(const BatchNorm &p) {
    each(Share(p), [&](const Share &all) { apply<T, 8>(p, all); }, [&](const Share &one, u32) { apply<T, 1>(p, one); });
}

template <class T> __device__ __forceinline__ void gradient(const BatchNorm &p) {
    each(Share(p), [&](const Share &all) { gradient<T, 8>(p, all); }, [&](const Share &one, u32) { gradient<T, 1>(p, one); });
}

extern "C" __global__ void __launch_bounds__(256) batch_norm_statistics_f32_eights_sm80(const BatchNorm p) { statistics<float>(p); }
extern "C" __global__ void __launch_bounds__(256) batch_norm_statistics_bf16_eights_sm80(const BatchNorm p) { statistics<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) batch_norm_apply_f32_eights_sm80(const BatchNorm p) { apply<float>(p); }
extern "C" __global__ void __launch_bounds__(256) batch_norm_apply_bf16_eights_sm80(const BatchNorm p) { apply<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) batch_norm_sums_f32_eights_sm80(const BatchNorm p) { sums<float>(p); }
extern "C" __global__ void __launch_bounds__(256) batch_norm_sums_bf16_eights_sm80(const BatchNorm p) { sums<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) batch_norm_gradient_f32_eights_sm80(const BatchNorm p) { gradient<float>(p); }
extern "C" __global__ void __launch_bounds__(256, 4) batch_norm_gradient_bf16_eights_sm80(const BatchNorm p) { gradient<bf16>(p); }

// Slices are merged by threads in strides of 32, four lanes of a warp by a butterfly, then warps in order.
extern "C" __global__ void __launch_bounds__(256) batch_norm_moments_f32_columns_sm80(const BatchNorm p) {
    __shared__ float counts[8], all_sums[8][SLICE_COLUMNS], all_squares[8][SLICE_COLUMNS];
    const u32 rows = real_rows(p), slices = (rows + p.slice - 1) / p.slice, lane = threadIdx.x % SLICE_COLUMNS;
    const u32 channel = blockIdx.x * SLICE_COLUMNS + lane;
    float sum = 0.0f, squares = 0.0f, count = 0.0f;
    auto join = [&](float more, float sum2, float squares2) {
        if (more == 0.0f) return;
        Merge(count, more)(sum, squares, sum2, squares2);
        count += more;
    };
    if (channel < p.channels) {
        const float *partials = p.partials + channel;
        for (u32 slice = threadIdx.x / SLICE_COLUMNS; slice < slices; slice += SLICE_LINES) {
            const u64 at = u64(slice) * 2 * p.channels;
            join(float(rows_of(p, slice, rows)), partials[at], partials[at + p.channels]);
        }
    }
    for (u32 step = SLICE_COLUMNS; step < 32; step *= 2) {
        const float more = __shfl_xor_sync(ALL_LANES, count, step), sum2 = __shfl_xor_sync(ALL_LANES, sum, step);
        join(more, sum2, __shfl_xor_sync(ALL_LANES, squares, step));
    }
    const u32 warp = threadIdx.x / 32;
    if (threadIdx.x % 32 < SLICE_COLUMNS) {
        if (lane == 0) counts[warp] = count;
        all_sums[warp][lane] = sum;
        all_squares[warp][lane] = squares;
    }
    __syncthreads();
    if (threadIdx.x >= SLICE_COLUMNS || channel >= p.channels) return;
    for (u32 other = 1; other < 8; ++other) join(counts[other], all_sums[other][lane], all_squares[other][lane]);
    p.mean[channel] = sum / count;
    p.var[channel] = squares / count;
}

extern "C" __global__ void __launch_bounds__(256) batch_norm_totals_f32_columns_sm80(const BatchNorm p) {
    __shared__ float scratch[64];
    const u32 rows = real_rows(p), slices = (rows + p.slice - 1) / p.slice;
    const u32 channel = blockIdx.x * SLICE_COLUMNS + threadIdx.x % SLICE_COLUMNS, there = channel < p.channels;
    // A column that is not there adds nothing.
    const float sum = sum_of_slices(p.partials, slices, 2 * p.channels, there ? channel : 2 * p.channels, scratch);
    const float products = sum_of_slices(p.partials, slices, 2 * p.channels, p.channels + channel, scratch);
    if (threadIdx.x >= SLICE_COLUMNS || !there) return;
    const float deviation = sqrtf(p.var[channel] + p.eps), dgamma = products / deviation;
    p.totals[channel] = p.constant ? 0.0f : sum / float(rows);
    p.totals[p.channels + channel] = p.constant ? 0.0f : dgamma / deviation / float(rows);
    if (p.dgamma) {
        p.dgamma[channel] = dgamma;
        p.dbeta[channel] = sum;
    }
}

// running = (1 - momentum) running + momentum batch, the variance that of a sample: n / (n - 1). Counts the batch.
extern "C" __global__ void __launch_bounds__(256) batch_norm_running_f32_channels_sm80(const Running p) {
    const u32 channel = blockIdx.x * 256 + threadIdx.x;
    if (channel == 0) ++*p.batches;
    if (channel >= p.channels) return;
    const u32 rows = p.extent ? u32(*p.extent) : p.rows;
    const float unbiased = float(rows) / float(max(rows, 2u) - 1);
    p.running_mean[channel] = (1.0f - p.momentum) * p.running_mean[channel] + p.momentum * p.mean[channel];
    p.running_var[channel] = (1.0f - p.momentum) * p.running_var[channel] + p.momentum * unbiased * p.var[channel];
}
