// Sums of partial results: a kernel leaves a row of numbers for each of its slices, a second one adds them up by columns.
#pragma once
#include "reduce.cuh"

constexpr u32 SLICE_COLUMNS = 8;             // of a block of 256: a sector of 32 bytes
constexpr u32 SLICE_LINES = 256 / SLICE_COLUMNS; // slices that such a block reads at a time

// The sum of column `column` of partials [slices, columns]. A thread adds every 32nd slice, a warp its four by a
// butterfly, then warps in order. Thread t of the block of 256 asks for the column t % 8 of its block and gets the result;
// all take part. `scratch` is shared memory of 64 numbers.
__device__ __forceinline__ float sum_of_slices(const float *partials, u32 slices, u32 columns, u32 column, float *scratch) {
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 4
        for (u32 slice = threadIdx.x / SLICE_COLUMNS; slice < slices; slice += SLICE_LINES)
            sum += partials[u64(slice) * columns + column];
    }
    for (u32 step = SLICE_COLUMNS; step < 32; step *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    __syncthreads(); // an earlier sum through the same scratch is read
    if (threadIdx.x % 32 < SLICE_COLUMNS) scratch[threadIdx.x / 32 * SLICE_COLUMNS + threadIdx.x % 32] = sum;
    __syncthreads();
    sum = 0.0f;
    for (u32 warp = 0; warp < 8; ++warp) sum += scratch[warp * SLICE_COLUMNS + threadIdx.x % SLICE_COLUMNS];
    return sum;
}
