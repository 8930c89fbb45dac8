// MaxPool, and its gradient.
//
// Formula   y = the maximum over each window; dx = the sum of dy over the windows whose first maximum (last NaN, if there is
//           one) is this pixel
// Pointers  x    [batch, height, width, channels] contiguous, f32 or bf16 (the dtype of the symbol), 256-byte aligned
//           y    [batch, rows, columns, channels], likewise: y or dy; dx as x
// Launch    a thread for eight channels of a pixel of y, or of dx: grid (pixels * groups / 256 rounded up), block 256; no
//           dynamic shared memory
// Numbers   Sums of the gradient are f32, window by window, rows first.
// Assumes   every window holds a pixel: `infer` sees to it; numbers of each value < 2^31: src/ops/max_pool/cuda.rs checks
#include "include/vector.cuh"

struct MaxPool {
    const void *x;
    void *y;
    void *dx;
    u32 batch;
    i32 height;
    i32 width;
    i32 rows;
    i32 columns;
    u32 channels;
    u32 groups;
    i32 kernel;
    i32 stride;
    i32 padding;
};

// A pixel, and the first of eight channels, of which `valid` are there.
struct Place {
    u32 image;
    i32 row;
    i32 column;
    u32 channel;
    u32 valid;
    bool there;
};

__device__ __forceinline__ Place place(const MaxPool &p, i32 height, i32 width) {
    const u32 thread = blockIdx.x * 256 + threadIdx.x, pixel = thread / p.groups;
    const u32 channel = (thread - pixel * p.groups) * EIGHT, line = pixel / u32(width);
    const u32 image = line / u32(height);
    return {image, i32(line - image * height), i32(pixel - line * width), channel, p.channels - channel, image < p.batch};
}

template <class T> __device__ __forceinline__ void forward(const MaxPool &p) {
    const Place at = place(p, p.rows, p.columns);
    if (!at.there) return;
    const bool aligned = p.channels % EIGHT == 0;
    const i32 top = at.row * p.stride - p.padding, left = at.column * p.stride - p.padding;
    const i32 bottom = min(top + p.kernel, p.height), right = min(left + p.kernel, p.width);
    float best[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) best[i] = -__int_as_float(0x7f800000);
    for (i32 row = max(top, 0); row < bottom; ++row) {
        for (i32 column = max(left, 0); column < right; ++column) {
            const u32 pixel = (at.image * p.height + row) * p.width + column;
            float x[8];
            load8(x, static_cast<const T *>(p.x) + pixel * p.channels + at.channel, at.valid, aligned);
#pragma unroll
            for (int i = 0; i < 8; ++i) best[i] = x[i] > best[i] || x[i] != x[i] ? x[i] : best[i];
        }
    }
    const u32 pixel = (at.image * p.rows + at.row) * p.columns + at.column;
    store8(static_cast<T *>(p.y) + pixel * p.channels + at.channel, best, at.valid, aligned);
}

// Adds dy of a window to the channels whose maximum lies at the pixel of `at`.
template <class T>
__device__ __forceinline__ void add_window(const MaxPool &p, const Place &at, i32 window_row, i32 window_column, float (&sum)[8]) {
    const bool aligned = p.channels % EIGHT == 0;
    const i32 top = max(window_row * p.stride - p.padding, 0), left = max(window_column * p.stride - p.padding, 0);
    const i32 bottom = min(window_row * p.stride - p.padding + p.kernel, p.height);
    const i32 right = min(window_column * p.stride - p.padding + p.kernel, p.width);
    float best[8] = {};
    u32 mine = 0;
    for (i32 row = top; row < bottom; ++row) {
        for (i32 column = left; column < right; ++column) {
            const u32 pixel = (at.image * p.height + row) * p.width + column;
            const bool first = row == top && column == left, here = row == at.row && column == at.column;
            float x[8];
            load8(x, static_cast<const T *>(p.x) + pixel * p.channels + at.channel, at.valid, aligned);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                if (first || x[i] > best[i] || x[i] != x[i]) {
                    best[i] = x[i];
                    mine = (mine & ~(1u << i)) | (u32(here) << i);
                }
            }
        }
    }
    const u32 pixel = (at.image * p.rows + window_row) * p.columns + window_column;
    float dy[8];
    load8(dy, static_cast<const T *>(p.y) + pixel * p.channels + at.channel, at.valid, aligned);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += mine >> i & 1 ? dy[i] : 0.0f;
}

template <class T> __device__ __forceinline__ void backward(const MaxPool &p) {
    const Place at = place(p, p.height, p.width);
    if (!at.there) return;
    float sum[8] = {};
    // Windows w with w * stride - padding <= pixel < w * stride - padding + kernel.
    const i32 bottom = min((at.row + p.padding) / p.stride, p.rows - 1);
    const i32 right = min((at.column + p.padding) / p.stride, p.columns - 1);
    const i32 top = max(at.row + p.padding - p.kernel + p.stride, 0) / p.stride;
    const i32 left = max(at.column + p.padding - p.kernel + p.stride, 0) / p.stride;
    for (i32 row = top; row <= bottom; ++row) {
        for (i32 column = left; column <= right; ++column) add_window<T>(p, at, row, column, sum);
    }
    const u32 pixel = (at.image * p.height + at.row) * p.width + at.column;
    store8(static_cast<T *>(p.dx) + pixel * p.channels + at.channel, sum, at.valid, p.channels % EIGHT == 0);
}

extern "C" __global__ void __launch_bounds__(256) max_pool_fwd_f32_eights_sm80(const MaxPool p) { forward<float>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool_fwd_bf16_eights_sm80(const MaxPool p) { forward<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool_bwd_f32_eights_sm80(const MaxPool p) { backward<float>(p); }
extern "C" __global__ void __launch_bounds__(256) max_pool_bwd_bf16_eights_sm80(const MaxPool p) { backward<bf16>(p); }
