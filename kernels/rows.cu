// Rows: the first row of each sequence, and its gradient.
//
// Formula   y[b] = x[offsets[b]]; dx[offsets[b]] = dy[b], zero in the other real rows
// Pointers  from     x [rows, channels] or dy [batch, channels] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte
//                    aligned
//           to       y [batch, channels] or dx [rows, channels], likewise
//           offsets  [batch + 1] i32, ascending; rows from the last one on are neither read nor written
// Launch    one block of 128 per row of `to`; no dynamic shared memory
// Numbers   no arithmetic
// Assumes   numbers of each value < 2^31: src/ops/rows/cuda.rs checks
#include "include/packed.cuh"
#include "include/vector.cuh"

struct Rows {
    const void *from;
    void *to;
    const i32 *offsets;
    u32 batch;
    u32 channels;
};

template <class T> __device__ __forceinline__ void copy_row(const Rows &p, u32 source, bool there) {
    const T *from = static_cast<const T *>(p.from) + source * p.channels;
    T *to = static_cast<T *>(p.to) + blockIdx.x * p.channels;
    const bool aligned = p.channels % EIGHT == 0;
    for (u32 at = threadIdx.x * EIGHT; at < p.channels; at += 128 * EIGHT) {
        float x[8] = {};
        if (there) load8(x, from + at, p.channels - at, aligned);
        store8(to + at, x, p.channels - at, aligned);
    }
}

template <class T> __device__ __forceinline__ void put_back(const Rows &p) {
    const i32 row = i32(blockIdx.x);
    if (row >= p.offsets[p.batch]) return;
    const u32 sequence = sequence_of(p.offsets, p.batch, row);
    copy_row<T>(p, sequence, p.offsets[sequence] == row);
}

extern "C" __global__ void __launch_bounds__(128) rows_fwd_f32_eights_sm80(const Rows p) { copy_row<float>(p, p.offsets[blockIdx.x], true); }
extern "C" __global__ void __launch_bounds__(128) rows_fwd_bf16_eights_sm80(const Rows p) { copy_row<bf16>(p, p.offsets[blockIdx.x], true); }
extern "C" __global__ void __launch_bounds__(128) rows_bwd_f32_eights_sm80(const Rows p) { put_back<float>(p); }
extern "C" __global__ void __launch_bounds__(128) rows_bwd_bf16_eights_sm80(const Rows p) { put_back<bf16>(p); }
