// SpatialMean: the mean over the pixels of an image, and its gradient.
//
// Formula   y[b, c] = sum over pixels of x[b, ., c] / pixels; dx[b, ., c] = dy[b, c] / pixels
// Pointers  from  x [batch, pixels, channels] or dy [batch, channels] contiguous, f32 or bf16 (the dtype of the symbol),
//                 256-byte aligned
//           to    y [batch, channels] or dx [batch, pixels, channels], likewise
// Launch    a thread for eight channels of a row of `to`: grid (rows of `to` * groups / 256 rounded up), block 256; no
//           dynamic shared memory
// Numbers   Sums are f32, pixel after pixel.
// Assumes   numbers of each value < 2^31: src/ops/spatial_mean/cuda.rs checks
#include "include/vector.cuh"

struct SpatialMean {
    const void *from;
    void *to;
    u32 rows;
    u32 pixels;
    u32 channels;
    u32 groups;
};

template <class T, bool BACKWARD> __device__ __forceinline__ void spatial_mean(const SpatialMean &p) {
    const u32 thread = blockIdx.x * 256 + threadIdx.x, row = thread / p.groups;
    if (row >= p.rows) return;
    const u32 channel = (thread - row * p.groups) * EIGHT, valid = p.channels - channel;
    const bool aligned = p.channels % EIGHT == 0;
    // Pixels of x that are added up for this row; the gradient has one.
    const u32 first = BACKWARD ? row / p.pixels : row * p.pixels, pixels = BACKWARD ? 1 : p.pixels;
    const T *from = static_cast<const T *>(p.from) + first * p.channels + channel;
    float sum[8] = {};
#pragma unroll 4
    for (u32 pixel = 0; pixel < pixels; ++pixel) {
        float x[8];
        load8(x, from + pixel * p.channels, valid, aligned);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += x[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] /= float(p.pixels);
    store8(static_cast<T *>(p.to) + row * p.channels + channel, sum, valid, aligned);
}

extern "C" __global__ void __launch_bounds__(256) spatial_mean_fwd_f32_eights_sm80(const SpatialMean p) { spatial_mean<float, false>(p); }
extern "C" __global__ void __launch_bounds__(256) spatial_mean_fwd_bf16_eights_sm80(const SpatialMean p) { spatial_mean<bf16, false>(p); }
extern "C" __global__ void __launch_bounds__(256) spatial_mean_bwd_f32_eights_sm80(const SpatialMean p) { spatial_mean<float, true>(p); }
extern "C" __global__ void __launch_bounds__(256) spatial_mean_bwd_bf16_eights_sm80(const SpatialMean p) { spatial_mean<bf16, true>(p); }
