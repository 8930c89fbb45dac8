// Body mask: where the body is, by the largest component of what is bright.
//
// Formula   body = the largest 4-connected component of the pixels above a threshold (the first in raster order wins a
//           tie), with its holes; all pixels if none is above. A hole is what is not 4-connected to the border.
// Pointers  plane  [images, height, width] f32 contiguous, 4-byte aligned
//           body   [images, height, width] bytes, 0 or 1
//           work   for each image 2 * height * words + height * (width + 1) + 2 words of 32 bits, words = ceil(width / 32)
// Launch    grid images, block 512, no dynamic shared memory.
//           Pixels are taken in runs along rows, a run being named by its first pixel. Runs that touch are joined by union
//           and find over those names (the smaller name is the parent), rows in pairs, then pairs of pairs, ...: so trees
//           stay low, whatever the film. What warps change while others read goes through integer atomics and volatile
//           reads.
// Numbers   integers alone. The outcome does not depend on the order: a component's root is its smallest name.
// Assumes   height, width > 0 and fewer than 2^31 words of work for an image: src/ops/body_mask/cuda.rs checks
#include "include/numeric.cuh"

struct BodyMask {
    const float *plane;
    u8 *body;
    u32 *work;
    u32 height, width;
    float threshold;
    u32 unused;
};

constexpr u32 THREADS = 512;
constexpr u32 WARPS = THREADS / 32;
constexpr u32 OUTSIDE = 0; // the name of the border

__device__ __forceinline__ u32 lane() { return threadIdx.x % 32; }

// Runs of set bits of an image.
struct Runs {
    const u32 *bits;      // [height, words]
    volatile u32 *parent; // by name; the root of a component is its own
    u32 height, width, words;

    // Lines have one name more than pixels: behind each first pixel of a run stands a name that no run has.
    __device__ __forceinline__ u32 name(u32 y, u32 x) const { return 1 + y * (width + 1) + x; }

    __device__ __forceinline__ bool member(u32 y, u32 x) const { return x < width && bits[y * words + x / 32] >> x % 32 & 1; }
    __device__ __forceinline__ bool starts(u32 y, u32 x) const { return member(y, x) && (x == 0 || !member(y, x - 1)); }

    // The name of the run in which the pixel is.
    __device__ __forceinline__ u32 run(u32 y, u32 x) const {
        const u32 *line = bits + y * words;
        u32 word = x / 32, clear = ~line[word] & ((1u << x % 32) - 1);
        while (!clear && word > 0) clear = ~line[--word];
        return name(y, clear ? word * 32 + 32 - __clz(clear) : 0);
    }

    // The column behind the run that is there.
    __device__ __forceinline__ u32 end(u32 y, u32 x) const {
        const u32 *line = bits + y * words;
        u32 word = x / 32, clear = ~line[word] & ~((1u << x % 32) - 1);
        while (!clear && ++word < words) clear = ~line[word];
        return clear ? min(word * 32 + __ffs(clear) - 1, width) : width;
    }

    __device__ __forceinline__ u32 root(u32 at) const {
        u32 up = parent[at];
        while (up != at) {
            at = up;
            up = parent[at];
        }
        return at;
    }

    __device__ __forceinline__ void unite(u32 a, u32 b) const {
        while (true) {
            a = root(a), b = root(b);
            if (a == b) return;
            const u32 larger = max(a, b), smaller = min(a, b);
            const u32 before = atomicMin(const_cast<u32 *>(parent) + larger, smaller);
            if (before == larger) return;
            a = before, b = smaller; // somebody was faster: what was there has to be joined as well
        }
    }

    // Calls f(y, x) for all pixels of lines first, first + step, ..., a warp to a line, also for those behind its end: all
    // lanes take part.
    template <class F> __device__ __forceinline__ void each(u32 first, u32 step, F f) const {
        for (u32 y = first + threadIdx.x / 32 * step; y < height; y += WARPS * step)
            for (u32 x = lane(); x < words * 32; x += 32) f(y, x);
    }

    // Every run a component of its own.
    __device__ __forceinline__ void separate() const {
        each(0, 1, [&](u32 y, u32 x) {
            if (starts(y, x)) parent[name(y, x)] = name(y, x);
        });
    }

    // Joins runs of neighbouring lines that share a column.
    __device__ __forceinline__ void join() const {
        for (u32 step = 1; step < height; step *= 2) {
            __syncthreads();
            each(step, 2 * step, [&](u32 y, u32 x) {
                const bool touch = member(y, x) && member(y - 1, x);
                // One of the columns that they share does.
                if (touch && (x == 0 || !member(y, x - 1) || !member(y - 1, x - 1))) unite(run(y, x), run(y - 1, x));
            });
        }
        // Runs point to their roots, so that pixels find them at once. Other warps may still join: a root is left alone, and
        // whatever else is above a run leads to the same root in the end.
        each(0, 1, [&](u32 y, u32 x) {
            if (!starts(y, x)) return;
            const u32 own = name(y, x), up = root(own);
            if (up != own) parent[own] = up;
        });
        __syncthreads();
    }
};

extern "C" __global__ void __launch_bounds__(THREADS) body_mask_fwd_f32_runs_sm80(const BodyMask p) {
    __shared__ u64 best[WARPS];
    const u32 words = (p.width + 31) / 32, pixels = p.height * p.width, lines = p.height * words;
    u32 *work = p.work + u64(blockIdx.x) * (2 * lines + p.height * (p.width + 1) + 2);
    u32 *sizes = work + 2 * lines + 1; // behind the name of a root
    const Runs bright{work, work + 2 * lines, p.height, p.width, words};
    const Runs rest{work + lines, work + 2 * lines, p.height, p.width, words};
    const float *plane = p.plane + u64(blockIdx.x) * pixels;
    u8 *body = p.body + u64(blockIdx.x) * pixels;

    bright.each(0, 1, [&](u32 y, u32 x) {
        const u32 bits = __ballot_sync(0xffffffffu, x < p.width && plane[y * p.width + x] > p.threshold);
        if (lane() == 0) work[y * words + x / 32] = bits;
    });
    __syncthreads();
    bright.separate();
    bright.each(0, 1, [&](u32 y, u32 x) {
        if (bright.starts(y, x)) sizes[bright.name(y, x)] = 0;
    });
    bright.join();
    bright.each(0, 1, [&](u32 y, u32 x) {
        if (bright.starts(y, x)) atomicAdd(sizes + bright.root(bright.name(y, x)), bright.end(y, x) - x);
    });
    __syncthreads();
    // Size and name of the largest, the smaller name if sizes are equal.
    u64 largest = 0;
    bright.each(0, 1, [&](u32 y, u32 x) {
        const u32 name = bright.name(y, x);
        if (bright.starts(y, x) && bright.parent[name] == name) largest = max(largest, u64(sizes[name]) << 32 | ~name);
    });
    for (int step = 16; step > 0; step /= 2) largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, step));
    if (lane() == 0) best[threadIdx.x / 32] = largest;
    __syncthreads();
    for (u32 warp = 0; warp < WARPS; ++warp) largest = max(largest, best[warp]);
    if (largest == 0) {
        for (u32 at = threadIdx.x; at < pixels; at += THREADS) body[at] = 1;
        return;
    }
    const u32 root = ~u32(largest);

    bright.each(0, 1, [&](u32 y, u32 x) {
        const bool in = bright.member(y, x) && bright.root(bright.run(y, x)) == root;
        const u32 bits = __ballot_sync(0xffffffffu, x < p.width && !in);
        if (lane() == 0) work[lines + y * words + x / 32] = bits;
    });
    __syncthreads();
    if (threadIdx.x == 0) rest.parent[OUTSIDE] = OUTSIDE;
    rest.separate();
    __syncthreads();
    rest.each(0, 1, [&](u32 y, u32 x) {
        const bool border = y == 0 || y == p.height - 1 || x == 0 || x == p.width - 1;
        if (border && rest.member(y, x)) rest.unite(rest.run(y, x), OUTSIDE);
    });
    rest.join();
    rest.each(0, 1, [&](u32 y, u32 x) {
        if (x < p.width) body[y * p.width + x] = !(rest.member(y, x) && rest.root(rest.run(y, x)) == OUTSIDE);
    });
}
