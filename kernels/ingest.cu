// Ingest: films as the encoder reads them.
//
// Formula   From bytes: each output pixel's centre goes through a homography to a place in the film, which is sampled there
//           (nearest or bilinear, 0 outside); then stretch, brightness and contrast about the mean.
//           image = (plane - mean of channel) / deviation of channel, three channels alike
// Pointers  pixels        [images, height, width] bytes: of `bytes` alone
//           augmentation  [images, 13] f32, as src/ops/ingest/mod.rs lists them: of `bytes` alone
//           plane         [images, height, width] f32: written by `bytes`, read by `numbers`
//           image         [images, height, width, 3], f32 or bf16 (the dtype of the symbol)
//           All contiguous, 256-byte aligned.
// Launch    bytes: grid (images), block 1024; numbers: block 256, a thread for eight pixels of all images together. No
//           dynamic shared memory
// Numbers   f32. Places and samples are computed as written, each operation rounded: a place next to the edge of a pixel
//           lies on the same side as by the definition in f32. The sum for the mean: every 1024th pixel by a thread, a warp
//           by a butterfly, warps in order.
// Assumes   0 < height, width <= 2^24, pixels of a film, and of all films for `numbers`, < 2^31: src/ops/ingest/cuda.rs
//           checks
#include "include/reduce.cuh"
#include "include/vector.cuh"

struct Ingest {
    const u8 *pixels;
    const float *augmentation;
    float *plane;
    void *image;
    u32 height;
    u32 width;
    u32 count;
    float means[3];
    float deviations[3];
    u32 unused;
};

constexpr u32 THREADS = 1024;

// The gray of the pixel in column x and row y of the film, both whole numbers; 0 outside, or where they are NaN.
__device__ __forceinline__ float gray(const Ingest &p, const u8 *film, float x, float y) {
    const bool inside = x >= 0.0f && x < float(p.width) && y >= 0.0f && y < float(p.height);
    return inside ? float(film[u32(y) * p.width + u32(x)]) / 255.0f : 0.0f;
}

__device__ __forceinline__ float mix(float a, float b, float part) {
    return __fadd_rn(__fmul_rn(a, 1.0f - part), __fmul_rn(b, part));
}

// Pixel `at` of the output, sampled from the film.
__device__ __forceinline__ float sample(const Ingest &p, const u8 *film, const float *numbers, u32 at) {
    const u32 row = at / p.width;
    const float x = float(at - row * p.width) + 0.5f, y = float(row) + 0.5f;
    auto line = [&](int of) {
        return __fadd_rn(__fadd_rn(__fmul_rn(numbers[3 * of], x), __fmul_rn(numbers[3 * of + 1], y)), numbers[3 * of + 2]);
    };
    const float w = line(2), u = line(0) / w, v = line(1) / w;
    if (numbers[12] == 0.0f) return gray(p, film, floorf(u), floorf(v));
    const float left = floorf(u - 0.5f), top = floorf(v - 0.5f);
    const float right = u - 0.5f - left, bottom = v - 0.5f - top;
    const float above = mix(gray(p, film, left, top), gray(p, film, left + 1.0f, top), right);
    const float below = mix(gray(p, film, left, top + 1.0f), gray(p, film, left + 1.0f, top + 1.0f), right);
    const float mixed = mix(above, below, bottom);
    // A homography that sends a pixel to infinity leaves it outside of the film.
    return fabsf(mixed) < __int_as_float(0x7f800000) ? mixed : 0.0f;
}

__device__ __forceinline__ float clamped(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

// Writes the three channels of eight pixels, the first of which is pixel `at` of `image`.
template <class T> __device__ __forceinline__ void put(const Ingest &p, T *image, u32 at, u32 count, const float (&plane)[8], bool aligned) {
    const u32 valid = 3 * min(count - at, EIGHT);
#pragma unroll
    for (u32 third = 0; third < 3; ++third) {
        float out[8];
#pragma unroll
        for (u32 i = 0; i < EIGHT; ++i) {
            const u32 number = third * EIGHT + i;
            out[i] = (plane[number / 3] - p.means[number % 3]) / p.deviations[number % 3];
        }
        const u32 before = third * EIGHT;
        store8(image + u64(at) * 3 + before, out, valid > before ? valid - before : 0, aligned);
    }
}

template <class T> __device__ __forceinline__ void from_bytes(const Ingest &p) {
    __shared__ float scratch[THREADS / 32];
    const u32 count = p.height * p.width;
    const u64 first = u64(blockIdx.x) * count;
    const u8 *film = p.pixels + first;
    float *plane = p.plane + first;
    T *image = static_cast<T *>(p.image) + 3 * first;
    const float *numbers = p.augmentation + blockIdx.x * 13;
    const bool stretch = numbers[11] != 0.0f;
    const float brightness = numbers[9], contrast = numbers[10];

    float brightest = 0.0f, darkest = 1.0f;
    for (u32 at = threadIdx.x; at < count; at += THREADS) {
        const float x = sample(p, film, numbers, at);
        plane[at] = x;
        brightest = fmaxf(brightest, x);
        darkest = fminf(darkest, x);
    }
    brightest = block_max<THREADS>(brightest, scratch);
    darkest = -block_max<THREADS>(-darkest, scratch);

    float sum = 0.0f;
    for (u32 at = threadIdx.x; at < count; at += THREADS) {
        float x = plane[at];
        if (stretch && darkest < brightest) x = (x - darkest) / (brightest - darkest);
        x = clamped(brightness * x);
        plane[at] = x;
        sum += x;
    }
    const float mean = block_sum<THREADS>(sum, scratch) / float(count);

    // Threads take other pixels than before: the barriers of the sum lie between.
    const bool aligned = count % EIGHT == 0;
    for (u32 at = threadIdx.x * EIGHT; at < count; at += THREADS * EIGHT) {
        float x[8];
        load8(x, plane + at, count - at, aligned);
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = clamped(contrast * x[i] + (1.0f - contrast) * mean);
        store8(plane + at, x, count - at, aligned);
        put(p, image, at, count, x, aligned);
    }
}

template <class T> __device__ __forceinline__ void from_numbers(const Ingest &p) {
    const u32 at = (blockIdx.x * 256 + threadIdx.x) * EIGHT;
    if (at >= p.count) return;
    float x[8];
    load8(x, p.plane + at, p.count - at, true);
    put(p, static_cast<T *>(p.image), at, p.count, x, true);
}

extern "C" __global__ void __launch_bounds__(1024) ingest_bytes_f32_images_sm80(const Ingest p) { from_bytes<float>(p); }
extern "C" __global__ void __launch_bounds__(1024) ingest_bytes_bf16_images_sm80(const Ingest p) { from_bytes<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) ingest_numbers_f32_eights_sm80(const Ingest p) { from_numbers<float>(p); }
extern "C" __global__ void __launch_bounds__(256) ingest_numbers_bf16_eights_sm80(const Ingest p) { from_numbers<bf16>(p); }
