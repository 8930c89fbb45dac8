// MaskThreshold: an image's scores from the heads' attention, and the threshold among them.
//
// Formula   cell = mean or maximum over `counted` heads from `first` on; threshold = the mean of the cells, or where the
//           upper of two Gaussians becomes the more likely: src/ops/mask_threshold/mod.rs has the steps. Cells that are all
//           equal are their own threshold.
// Pointers  map        [images, heads, count] f32 contiguous, 4-byte aligned
//           cells      [images, count] f32, likewise
//           threshold  [images] f32, likewise
// Launch    a warp to an image: grid images / 4 rounded up, block 128; no dynamic shared memory
// Numbers   f32. Heads are added in their order; sums over cells by lanes in strides of 32, then by a butterfly.
// Assumes   heads, count > 0, first + counted <= heads and numbers of the map < 2^31: src/ops/mask_threshold/cuda.rs checks
#include "include/reduce.cuh"

struct MaskThreshold {
    const float *map;
    float *cells;
    float *threshold;
    u32 images;
    u32 heads;
    u32 count;
    u32 first;
    u32 counted;
    u32 largest;
    u32 mixture;
    u32 unused;
};

constexpr int STEPS = 50;
constexpr int HALVINGS = 30;
constexpr float VARIANCE = 1e-3f;
constexpr float PRESENCE = 1e-12f;

// A Gaussian: its mean, variance and part of the mixture.
struct Component {
    float mean, variance, weight;

    // Logarithm of its density, less a constant.
    __device__ __forceinline__ float log_density(float z) const {
        return logf(weight) - 0.5f * logf(variance) - 0.5f * (z - mean) * (z - mean) / variance;
    }
};

// Of the second component against the first.
__device__ __forceinline__ float log_odds(const Component &a, const Component &b, float z) {
    return b.log_density(z) - a.log_density(z);
}

// What is computed of a cell, summed over all cells of the warp's image; every lane has the sum.
template <class F> __device__ __forceinline__ float sum(const float *cells, u32 count, F of) {
    float own = 0.0f;
    for (u32 at = threadIdx.x % 32; at < count; at += 32) own += of(cells[at]);
    return warp_sum(own);
}

// What is most likely, given how far each cell belongs to the component.
template <class F> __device__ __forceinline__ Component fit(const float *cells, u32 count, F belongs, float mean, float deviation) {
    const float presence = sum(cells, count, belongs) + PRESENCE;
    const float centre = sum(cells, count, [&](float x) { return belongs(x) * ((x - mean) / deviation); }) / presence;
    const float squares = sum(cells, count, [&](float x) {
        const float z = (x - mean) / deviation;
        return belongs(x) * (z - centre) * (z - centre);
    });
    return Component{centre, squares / presence + VARIANCE, presence / float(count)};
}

extern "C" __global__ void __launch_bounds__(128) mask_threshold_fwd_f32_warps_sm80(const MaskThreshold p) {
    const u32 image = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (image >= p.images) return;
    const float *map = p.map + (image * p.heads + p.first) * p.count;
    float *cells = p.cells + image * p.count;
    // A lane reads back only the cells that it wrote.
    bool differ = false;
    for (u32 at = lane; at < p.count; at += 32) {
        float cell = p.largest ? map[at] : 0.0f;
        for (u32 head = 0; head < p.counted; ++head) {
            const float next = map[head * p.count + at];
            if (!p.largest) cell += next;
            else if (cell == cell && !(cell >= next)) cell = next; // NaN is taken and stays
        }
        cells[at] = p.largest ? cell : cell / float(p.counted);
    }
    const float some = __shfl_sync(ALL_LANES, lane == 0 ? cells[0] : 0.0f, 0);
    for (u32 at = lane; at < p.count; at += 32) differ |= cells[at] != some;
    const bool equal = !__any_sync(ALL_LANES, differ);
    const float mean = sum(cells, p.count, [](float x) { return x; }) / float(p.count);
    const float square = sum(cells, p.count, [&](float x) { return (x - mean) * (x - mean); }) / float(p.count);
    const float deviation = sqrtf(square);
    float threshold = equal ? some : mean;
    if (p.mixture && !equal && deviation > 0.0f && deviation < __int_as_float(0x7f800000)) {
        Component a{-1.0f, 1.0f, 0.5f}, b{1.0f, 1.0f, 0.5f};
        for (int step = 0; step < STEPS; ++step) {
            const auto upper = [&, a, b](float x) { return 1.0f / (1.0f + expf(-log_odds(a, b, (x - mean) / deviation))); };
            const auto lower = [&](float x) { return 1.0f - upper(x); };
            const Component below = fit(cells, p.count, lower, mean, deviation);
            b = fit(cells, p.count, upper, mean, deviation);
            a = below;
        }
        if (a.mean > b.mean) {
            const Component c = a;
            a = b, b = c;
        }
        float low = a.mean, high = b.mean;
        if (log_odds(a, b, low) > 0.0f) high = low;
        for (int halving = 0; halving < HALVINGS; ++halving) {
            const float middle = (low + high) * 0.5f;
            if (log_odds(a, b, middle) > 0.0f) high = middle;
            else low = middle;
        }
        threshold = high * deviation + mean;
    }
    if (lane == 0) p.threshold[image] = threshold;
}
