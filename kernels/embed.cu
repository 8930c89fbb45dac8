// Embed: the vectors of packed tokens, and the gradients of the three tables.
//
// Formula   x[row] = word[ids[row]] + position[row - start of its sequence] + token_type[0]; a table's gradient sums dx over
//           the rows that read the entry. Of type 0, which all rows have, it is the sum over the positions; of type 1 and of
//           word 0, the padding token, zero.
// Pointers  word, position, token_type  [vocabulary, channels], [positions, channels], [2, channels] f32: the tables, or
//                    their gradients
//           x        [rows, channels], f32 or bf16: x, or dx
//           ids      [rows] i32, each below vocabulary
//           order    [rows] i32: the real rows sorted by (id, row)
//           offsets  [batch + 1] i32, ascending from 0; rows from the last offset on are neither read nor written, nor are
//                    their ids and order
//           starts   [vocabulary + 1] u32, made by `starts`: where in order the rows of each word begin
//           All contiguous, 256-byte aligned.
// Launch    fwd: grid (rows), block 128; starts: grid ((vocabulary + 1) / 256 rounded up), block 256; gradients: grid (rows
//           of the table, channels / 256 rounded up), block 256, `type` after `position`; no dynamic shared memory
// Numbers   f32 sums: each of eight warps adds every eighth row of dx in the order of rows (of sequences, for a position),
//           then the warps are added in order
// Assumes   numbers of each value < 2^31: src/ops/embed/cuda.rs checks; ids, offsets, and no sequence longer than positions:
//           src/model/batch.rs checks
#include "include/packed.cuh"
#include "include/vector.cuh"

struct Embed {
    float *word;
    float *position;
    float *token_type;
    void *x;
    const i32 *ids;
    const i32 *order;
    const i32 *offsets;
    u32 *starts;
    u32 batch;
    u32 vocabulary;
    u32 positions;
    u32 channels;
};

constexpr u32 WARPS = 8;

template <class T> __device__ __forceinline__ void forward(const Embed &p) {
    const i32 row = i32(blockIdx.x);
    if (row >= p.offsets[p.batch]) return;
    const i32 place = row - p.offsets[sequence_of(p.offsets, p.batch, row)];
    const float *word = p.word + u32(p.ids[row]) * p.channels, *position = p.position + u32(place) * p.channels;
    T *x = static_cast<T *>(p.x) + u32(row) * p.channels;
    const bool aligned = p.channels % EIGHT == 0;
    for (u32 at = threadIdx.x * EIGHT; at < p.channels; at += 128 * EIGHT) {
        const u32 valid = p.channels - at;
        float sum[8], more[8], type[8];
        load8(sum, word + at, valid, aligned);
        load8(more, position + at, valid, aligned);
        load8(type, p.token_type + at, valid, aligned);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] = sum[i] + more[i] + type[i];
        store8(x + at, sum, valid, aligned);
    }
}

// Writes to row blockIdx.x of `to` the sum of `count` rows of `from`: row_of says which, or -1 for none. `count` is the same
// for the whole block.
template <class T, class RowOf>
__device__ __forceinline__ void sum_rows(const T *from, float *to, u32 channels, u32 count, RowOf row_of) {
    __shared__ float partial[WARPS][8][32];
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const u32 channel = (blockIdx.y * 32 + lane) * EIGHT;
    const u32 valid = channel < channels ? channels - channel : 0;
    const bool aligned = channels % EIGHT == 0;
    float sum[8] = {};
#pragma unroll 2
    for (u32 at = warp; at < count; at += WARPS) {
        const i32 row = row_of(at);
        if (row < 0) continue;
        float x[8];
        load8(x, from + u32(row) * channels + channel, valid, aligned);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += x[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) partial[warp][i][lane] = sum[i];
    __syncthreads();
    if (warp > 0) return;
    for (u32 other = 1; other < min(count, WARPS); ++other) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += partial[other][i][lane];
    }
    store8(to + blockIdx.x * channels + channel, sum, valid, aligned);
}

template <class T> __device__ __forceinline__ void word(const Embed &p) {
    const u32 id = blockIdx.x, first = p.starts[id], end = p.starts[id + 1];
    sum_rows(static_cast<const T *>(p.x), p.word, p.channels, id == 0 ? 0 : end - first,
             [&](u32 at) { return p.order[first + at]; });
}

template <class T> __device__ __forceinline__ void position(const Embed &p) {
    sum_rows(static_cast<const T *>(p.x), p.position, p.channels, p.batch, [&](u32 sequence) {
        const i32 row = p.offsets[sequence] + i32(blockIdx.x);
        return row < p.offsets[sequence + 1] ? row : -1;
    });
}

extern "C" __global__ void __launch_bounds__(128) embed_fwd_f32_eights_sm80(const Embed p) { forward<float>(p); }
extern "C" __global__ void __launch_bounds__(128) embed_fwd_bf16_eights_sm80(const Embed p) { forward<bf16>(p); }

extern "C" __global__ void __launch_bounds__(256) embed_starts_i32_search_sm80(const Embed p) {
    const u32 id = blockIdx.x * 256 + threadIdx.x;
    if (id > p.vocabulary) return;
    // The first place in order whose word is not below this one.
    u32 low = 0, high = u32(p.offsets[p.batch]);
    while (low < high) {
        const u32 middle = (low + high) / 2;
        if (u32(p.ids[p.order[middle]]) < id) low = middle + 1;
        else high = middle;
    }
    p.starts[id] = low;
}

extern "C" __global__ void __launch_bounds__(256) embed_word_f32_warps_sm80(const Embed p) { word<float>(p); }
extern "C" __global__ void __launch_bounds__(256) embed_word_bf16_warps_sm80(const Embed p) { word<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) embed_position_f32_warps_sm80(const Embed p) { position<float>(p); }
extern "C" __global__ void __launch_bounds__(256) embed_position_bf16_warps_sm80(const Embed p) { position<bf16>(p); }

extern "C" __global__ void __launch_bounds__(256) embed_type_f32_warps_sm80(const Embed p) {
    sum_rows(p.position, p.token_type, p.channels, blockIdx.x == 0 ? p.positions : 0, [](u32 at) { return i32(at); });
}
