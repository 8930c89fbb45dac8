// Sums and maxima over a warp or a block, in an order that the shapes fix: two runs give the same bits.
#pragma once
#include "numeric.cuh"

constexpr u32 ALL_LANES = 0xffffffffu;

// Over the 32 lanes, by a butterfly; every lane has the result. All lanes take part.
__device__ __forceinline__ float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// Over a one-dimensional block of THREADS threads (a multiple of 32, at most 1024), in the order of the warps; every
// thread has the result. All threads take part. `scratch` is shared memory of THREADS / 32 numbers.
template <int THREADS> __device__ __forceinline__ float block_sum(float x, float *scratch) {
    x = warp_sum(x);
    __syncthreads(); // an earlier reduction through the same scratch is read
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < THREADS / 32; ++warp) sum += scratch[warp];
    return sum;
}

template <int THREADS> __device__ __forceinline__ float block_max(float x, float *scratch) {
    x = warp_max(x);
    __syncthreads(); // an earlier reduction through the same scratch is read
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    float most = scratch[0];
    for (int warp = 1; warp < THREADS / 32; ++warp) most = fmaxf(most, scratch[warp]);
    return most;
}
