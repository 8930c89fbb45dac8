// Convolution on Hopper's tensor cores: the products of conv2d.cu by wgmma, whose windows the copy engine gathers.
//
// | pass | rows of the product, 128 a tile | columns, 64, 128 or 256 a tile | inner extent, in this order, 64 numbers a turn |
// |---|---|---|---|
// | fwd | pixels of y of one class | output channels | taps, channels of x, then of the skip connection |
// | dgrad | pixels of d_x or d_skip of one class | their channels | taps, output channels |
// | wgrad | taps, channels | output channels | classes, pixels of y of each; a slice of them for each y of the grid |
//
// Images are [batch, rows, columns, channels] and weights w [O, k, k, depth] in bf16, channels multiples of 8. Pixels of a class are
// those that lie `out_step` apart, beginning with one of the first: all of them, but for strided dgrad and upsampled fwd. Seen from
// them every tap is at the same distance in every image that is gathered, which src/ops/conv2d/im2col.rs tells for each tap of an
// axis, in four bits each. So a tile of a tap is a box of 128 pixels and 64 channels, read by a tensor map for im2col, which puts
// zeros outside of the image and beyond its channels.
//
// Products are exact and sums f32, over k in its order, 16 at a time as wgmma adds them; rounded once, when stored.
//
// A third warpgroup produces: one of its threads has the copy engine bring the boxes of a turn into one of the stages of shared memory,
// while warps 0 to 3 and 4 to 7, a warpgroup each, multiply 64 rows each. A barrier `full` of a stage counts the bytes that
// arrived, a barrier `empty` the warps that are done with it. Lines of a box have 128 bytes, swizzled.
#include "include/hopper.cuh"

constexpr u32 WARPS = 8;                           // that multiply
constexpr u32 RING = 196608;                       // bytes of all stages
template <int BN> constexpr u32 STAGE = (128 + BN) * 128; // a, then b
template <int BN> constexpr u32 STAGES = RING / STAGE<BN>;
constexpr u32 BARRIERS = RING + WARPS * 4096;      // behind 16 rows x 64 columns of f32 for each warp

// One axis of an image: of each entry, four bits each, its tap, and how far behind the window's beginning it lies in the image and
// in the skip connection. Entries are taps; of wgrad those of each class in turn.
struct Axis {
    u64 taps, image, skip;
    u32 entries;
    u32 pixels;               // that are walked
    i32 image_first, skip_first; // where the first window begins
};

struct Conv {
    TensorMap image, skip, other; // im2col of x, of the skip connection and, of wgrad, of dy; else w [O, k * k, depth]
    const float *bias;            // [columns] or null
    void *out;
    Axis down, across;
    u32 batch;
    u32 columns;                     // of the product
    u32 column_tiles;                // ceil(columns / BN)
    u32 image_chunks, skip_chunks;   // of 64 channels
    u32 image_channels, skip_channels;
    u32 image_step, skip_step;       // from window to window
    u32 kernel;
    u32 weight_first;                // dgrad: channel of w that is column 0
    u32 out_first, out_image, out_row, out_step; // the pixel of out that the first window makes; from image to image, row to row, ...
    u32 half;                        // out is bf16
    u32 classes, other_step, slice;  // wgrad: along an axis; from window to window in dy; turns of a slice
    u32 add;                         // dgrad into bf16: the sums are added to what out holds
};

__device__ __forceinline__ u32 bits(u64 all, u32 at) { return u32(all >> (4 * at)) & 15; }

// A pixel of the walk.
struct Pixel {
    u32 col, row, image;

    __device__ __forceinline__ Pixel(const Conv &p, u32 at) {
        u32 rest = at / p.across.pixels;
        col = at - rest * p.across.pixels;
        image = rest / p.down.pixels;
        row = rest - image * p.down.pixels;
    }
};

__device__ __forceinline__ u32 pixels_of(const Conv &p) { return p.batch * p.down.pixels * p.across.pixels; }

// Which stage is next, and the parity of its phase.
template <int BN> struct Ring {
    u32 memory, stage = 0, phase = 0;

    __device__ __forceinline__ explicit Ring(u32 memory) : memory(memory) {}
    __device__ __forceinline__ u32 full() const { return memory + BARRIERS + 8 * stage; }
    __device__ __forceinline__ u32 empty() const { return full() + 8 * STAGES<BN>; }
    __device__ __forceinline__ u32 a() const { return memory + stage * STAGE<BN>; }
    __device__ __forceinline__ u32 b() const { return a() + 128 * 128; }
    __device__ __forceinline__ void advance() {
        if (++stage == STAGES<BN>) stage = 0, phase ^= 1;
    }
    // For the producer: waits for room. A stage begins empty, so the first wait is for the phase before.
    __device__ __forceinline__ void begin() const {
        ptx::mbarrier_wait(empty(), phase ^ 1);
        ptx::mbarrier_expect(full(), STAGE<BN>);
    }
};

// Channels `chunk` * 64 and on of the image or, behind its chunks, of the skip connection: a box of pixels.
__device__ __forceinline__ void gather(const Conv &p, u32 to, u32 barrier, const Pixel &pixel, u32 row_entry, u32 col_entry, u32 chunk) {
    bool skip = p.skip_chunks > 0 && chunk >= p.image_chunks;
    u32 channel = 64 * (skip ? chunk - p.image_chunks : chunk), step = skip ? p.skip_step : p.image_step;
    i32 col = (skip ? p.across.skip_first : p.across.image_first) + i32(pixel.col * step);
    i32 row = (skip ? p.down.skip_first : p.down.image_first) + i32(pixel.row * step);
    u32 right = bits(skip ? p.across.skip : p.across.image, col_entry), below = bits(skip ? p.down.skip : p.down.image, row_entry);
    ptx::copy_pixels(to, skip ? p.skip : p.image, barrier, channel, col, row, pixel.image, u16(right), u16(below));
}

// The producer of fwd and, TURNED, dgrad.
template <int BN, bool TURNED> __device__ __forceinline__ void bring_windows(const Conv &p, Ring<BN> ring, u32 items) {
    u32 chunks = p.image_chunks + p.skip_chunks;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        u32 tile = item / p.column_tiles, column = (item - tile * p.column_tiles) * BN;
        Pixel pixel(p, tile * 128);
        for (u32 i = 0; i < p.down.entries; ++i) {
            for (u32 j = 0; j < p.across.entries; ++j) {
                u32 tap = bits(p.down.taps, i) * p.kernel + bits(p.across.taps, j);
                for (u32 chunk = 0; chunk < chunks; ++chunk) {
                    ring.begin();
                    gather(p, ring.a(), ring.full(), pixel, i, j, chunk);
                    if (TURNED) {
#pragma unroll
                        for (u32 at = 0; at < BN; at += 64) {
                            u32 channel = p.weight_first + column + at;
                            ptx::copy_box(ring.b() + 128 * at, p.other, ring.full(), channel, tap, 64 * chunk);
                        }
                    } else {
                        bool skip = chunk >= p.image_chunks;
                        u32 channel = skip ? p.image_channels + 64 * (chunk - p.image_chunks) : 64 * chunk;
                        ptx::copy_box(ring.b(), p.other, ring.full(), channel, tap, column);
                    }
                    ring.advance();
                }
            }
        }
    }
}

// 64 rows of the product of wgrad: channels of one tap.
struct Rows {
    u32 chunk, row, col; // entries of the first class

    __device__ __forceinline__ Rows(const Conv &p, u32 at) {
        u32 chunks = p.image_chunks + p.skip_chunks, tap = at / chunks;
        chunk = at - tap * chunks;
        row = tap / p.kernel;
        col = tap - row * p.kernel;
    }
    __device__ __forceinline__ bool there(const Conv &p) const { return row < p.kernel; }
};

// Turns of wgrad in all, and in the slice of this block.
__device__ __forceinline__ u32 turns_of_class(const Conv &p) { return (pixels_of(p) + 63) / 64; }
__device__ __forceinline__ u32 turns_of_slice(const Conv &p) {
    return min(p.slice, p.classes * p.classes * turns_of_class(p) - blockIdx.y * p.slice);
}

// The producer of wgrad.
template <int BN> __device__ __forceinline__ void bring_pixels(const Conv &p, Ring<BN> ring, u32 items) {
    u32 of_class = turns_of_class(p), turns = turns_of_slice(p), first = blockIdx.y * p.slice;
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        u32 tile = item / p.column_tiles, column = (item - tile * p.column_tiles) * BN;
        for (u32 turn = first; turn < first + turns; ++turn) {
            u32 number = turn / of_class, class_row = number / p.classes, class_col = number - class_row * p.classes;
            Pixel pixel(p, 64 * (turn - number * of_class));
            ring.begin();
#pragma unroll
            for (u32 half = 0; half < 2; ++half) {
                Rows rows(p, 2 * tile + half);
                // Behind the last tap there are only channels that no image has: zeros.
                u32 chunk = rows.there(p) ? rows.chunk : p.image_chunks + p.skip_chunks;
                gather(p, ring.a() + 8192 * half, ring.full(), pixel, class_row * p.kernel + rows.row % p.kernel,
                       class_col * p.kernel + rows.col, chunk);
            }
#pragma unroll
            for (u32 at = 0; at < BN; at += 64)
                ptx::copy_pixels(ring.b() + 128 * at, p.other, ring.full(), column + at, i32(pixel.col * p.other_step),
                                 i32(pixel.row * p.other_step), pixel.image, u16(class_col), u16(class_row));
            ring.advance();
        }
    }
}

// Sums of a tile: those of this thread, as wgmma leaves them.
template <int BN, int A_LINES, int B_LINES>
__device__ __forceinline__ void multiply(Ring<BN> &ring, float (&c)[BN / 2], u32 turns) {
    // Swizzled by 128 bytes; eight lines are 1024 bytes, 64 columns 8192. Addresses count 16 bytes.
    constexpr u64 LAYOUT = 0x4000004002000000;
    u32 own = threadIdx.x / 128 * 8192; // 64 rows in either layout
    if (turns == 0) {                   // no tap reaches these pixels
#pragma unroll
        for (int at = 0; at < BN / 2; ++at) c[at] = 0;
    }
    for (u32 turn = 0; turn < turns; ++turn) {
        ptx::mbarrier_wait(ring.full(), ring.phase);
        u64 a = LAYOUT | (ring.a() + own & 0x3ffff) >> 4, b = LAYOUT | (ring.b() & 0x3ffff) >> 4;
        ptx::wgmma_k64<BN, A_LINES, B_LINES>(c, a, b, turn);
        if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(ring.empty());
        ring.advance();
    }
}

// The place in the warp's 4096 bytes of chunk `chunk` (16 bytes) of row `row`: neither the way in nor the way out two threads need the
// same bank.
__device__ __forceinline__ u32 place(u32 row, u32 chunk) { return 256 * row + 16 * (chunk ^ row % 4 * 2); }

// Rows of a thread that are read at once where sums are added to them: the sums take most registers.
template <int BN> constexpr u32 AT_ONCE = BN == 256 ? 2 : 4;

// Stores a tile of fwd or, TURNED, dgrad by way of shared memory, 16 rows x 64 columns of a warp at a time.
template <int BN, bool TURNED>
__device__ __forceinline__ void store_pixels(const Conv &p, char *own, const float (&c)[BN / 2], u32 first, u32 column) {
    const u32 lane = threadIdx.x % 32;
    first += threadIdx.x / 32 * 16;
    const u32 pixels = pixels_of(p);
#pragma unroll
    for (int block = 0; block < BN; block += 64) {
        if (column + block >= p.columns) break;
        __syncwarp(); // what was there is read
        const float *sums = c + block / 2;
#pragma unroll
        for (int eight = 0; eight < 8; ++eight) {
            u32 chunk = 2 * eight + lane % 4 / 2, within = lane % 2 * 8;
            *reinterpret_cast<float2 *>(own + place(lane / 4, chunk) + within) = {sums[4 * eight], sums[4 * eight + 1]};
            *reinterpret_cast<float2 *>(own + place(lane / 4 + 8, chunk) + within) = {sums[4 * eight + 2], sums[4 * eight + 3]};
        }
        __syncwarp();
        const u32 at = column + block + lane % 16 * 4; // columns are a multiple of 4: all four are there, or none
        const bool inside = at < p.columns;
        float4 bias = {0, 0, 0, 0};
        if (p.bias && inside) bias = *reinterpret_cast<const float4 *>(p.bias + at);
        // Of the thread's rows, which lie two apart: whether it is there, its four sums, and their place in out.
        auto there = [&](u32 row) { return inside && first + row < pixels; };
        auto four = [&](u32 row) { return *reinterpret_cast<const float4 *>(own + place(row, lane % 16)); };
        auto number = [&](u32 row) {
            u32 to = first + row;
            if (p.out_step > 1) {
                Pixel pixel(p, to);
                to = p.out_first + pixel.image * p.out_image + pixel.row * p.out_row + pixel.col * p.out_step;
            }
            return u64(to) * p.columns + at;
        };
        bf16 *half = static_cast<bf16 *>(p.out);
        if (TURNED && p.add) {
#pragma unroll 1
            for (u32 begin = lane / 16; begin < 16; begin += 2 * AT_ONCE<BN>) {
                uint2 before[AT_ONCE<BN>]; // all of these are under way before the first is waited for
#pragma unroll
                for (u32 at = 0; at < AT_ONCE<BN>; ++at)
                    if (there(begin + 2 * at)) before[at] = *reinterpret_cast<const uint2 *>(half + number(begin + 2 * at));
#pragma unroll
                for (u32 at = 0; at < AT_ONCE<BN>; ++at) {
                    const u32 row = begin + 2 * at, low = before[at].x, high = before[at].y;
                    float4 v = four(row);
                    if (there(row))
                        *reinterpret_cast<uint2 *>(half + number(row)) = {
                            ptx::bf16x2_of(__uint_as_float(low << 16) + v.x, __uint_as_float(low & 0xffff0000u) + v.y),
                            ptx::bf16x2_of(__uint_as_float(high << 16) + v.z, __uint_as_float(high & 0xffff0000u) + v.w)};
                }
            }
            continue;
        }
#pragma unroll 1 // the sums take most registers
        for (int two = 0; two < 8; ++two) {
            u32 row = 2 * two + lane / 16;
            float4 v = four(row);
            if (there(row)) {
                v = {v.x + bias.x, v.y + bias.y, v.z + bias.z, v.w + bias.w};
                if (p.half)
                    *reinterpret_cast<uint2 *>(half + number(row)) = {ptx::bf16x2_of(v.x, v.y), ptx::bf16x2_of(v.z, v.w)};
                else
                    *reinterpret_cast<float4 *>(static_cast<float *>(p.out) + number(row)) = v;
            }
        }
    }
}

// Word of the warp's 4096 bytes for a column and one of 16 rows, turned: rows innermost.
__device__ __forceinline__ u32 turned(u32 column, u32 row) { return (16 * column + row) ^ (column / 2 % 4 * 8); }

// Stores a tile of wgrad, whose columns are lines of d_w: 16 numbers of 64 lines of a warp at a time.
template <int BN> __device__ __forceinline__ void store_weights(const Conv &p, float *own, const float (&c)[BN / 2], u32 tile, u32 column) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    Rows rows(p, 2 * tile + warp / 4);
    bool skip = rows.chunk >= p.image_chunks;
    u32 depth = p.image_channels + p.skip_channels, window = p.kernel * p.kernel * depth;
    u32 channel = 64 * (skip ? rows.chunk - p.image_chunks : rows.chunk) + warp % 4 * 16 + lane % 4 * 4;
    // Channels are a multiple of 4: all four are there, or none.
    bool inside = rows.there(p) && channel < (skip ? p.skip_channels : p.image_channels);
    float *out = static_cast<float *>(p.out) + u64(blockIdx.y) * p.columns * window + (rows.row * p.kernel + rows.col) * depth +
                 (skip ? p.image_channels : 0) + channel;
    const u32 two = lane % 4 * 2, eighth = lane / 4; // sums of a thread lie in columns two and two + 1, rows eighth and 8 further
    float *const to[4] = {own + turned(two, eighth), own + turned(two + 1, eighth), own + turned(two, eighth + 8),
                          own + turned(two + 1, eighth + 8)};
#pragma unroll
    for (int block = 0; block < BN; block += 64) {
        if (column + block >= p.columns) break;
        __syncwarp(); // what was there is read
        const float *sums = c + block / 2;
#pragma unroll
        for (int eight = 0; eight < 8; ++eight) {
#pragma unroll
            for (int at = 0; at < 4; ++at) to[at][128 * eight] = sums[4 * eight + at];
        }
        __syncwarp();
#pragma unroll 1 // the sums take most registers
        for (int eight = 0; eight < 8; ++eight) {
            u32 at = 8 * eight + lane / 4, line = column + block + at;
            float4 v = *reinterpret_cast<const float4 *>(own + turned(at, lane % 4 * 4));
            if (inside && line < p.columns) *reinterpret_cast<float4 *>(out + u64(line) * window) = v;
        }
    }
}

extern __shared__ __align__(1024) char memory[];

// Makes the barriers, once.
template <int BN> __device__ __forceinline__ u32 prepare() {
    u32 base = ptx::shared_address(memory);
    if (threadIdx.x == 0) {
#pragma unroll
        for (u32 stage = 0; stage < STAGES<BN>; ++stage) {
            ptx::mbarrier_init(base + BARRIERS + 8 * stage, 1);
            ptx::mbarrier_init(base + BARRIERS + 8 * (STAGES<BN> + stage), WARPS);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    return base;
}

template <int BN, bool TURNED> __device__ __forceinline__ void windows(const Conv &p) {
    Ring<BN> ring(prepare<BN>());
    const u32 items = (pixels_of(p) + 127) / 128 * p.column_tiles;
    if (threadIdx.x >= 32 * WARPS) {
        if (threadIdx.x == 32 * WARPS) bring_windows<BN, TURNED>(p, ring, items);
        return;
    }
    const u32 turns = p.down.entries * p.across.entries * (p.image_chunks + p.skip_chunks);
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        float c[BN / 2];
        multiply<BN, 0, TURNED>(ring, c, turns);
        u32 tile = item / p.column_tiles, column = (item - tile * p.column_tiles) * BN;
        store_pixels<BN, TURNED>(p, memory + RING + threadIdx.x / 32 * 4096, c, tile * 128, column);
    }
}

template <int BN> __device__ __forceinline__ void weights(const Conv &p) {
    Ring<BN> ring(prepare<BN>());
    const u32 taps = p.kernel * p.kernel;
    const u32 items = (taps * (p.image_chunks + p.skip_chunks) + 1) / 2 * p.column_tiles;
    if (threadIdx.x >= 32 * WARPS) {
        if (threadIdx.x == 32 * WARPS) bring_pixels<BN>(p, ring, items);
        return;
    }
    const u32 turns = turns_of_slice(p);
    for (u32 item = blockIdx.x; item < items; item += gridDim.x) {
        float c[BN / 2];
        multiply<BN, 1, 1>(ring, c, turns);
        u32 tile = item / p.column_tiles, column = (item - tile * p.column_tiles) * BN;
        store_weights<BN>(p, reinterpret_cast<float *>(memory + RING) + threadIdx.x / 32 * 1024, c, tile, column);
    }
}

#define KERNEL(NAME, BODY) \
    extern "C" __global__ void __launch_bounds__(384, 1) NAME(const __grid_constant__ Conv p) { BODY(p); }

// Formula   y[b,i,j,o] = bias[o] + sum over u, v, c of image[b, i·s - p + u, j·s - p + v, c] · w[o,u,v,c]
// Pointers  image x [B,H,W,C], skip [B,2H,2W,Cs], other w [O,k·k,C+Cs]: bf16 by tensor maps, x and skip for im2col in boxes of 128
//           pixels x 64 channels, w in boxes of 64 channels of a tap x as many outputs as a tile has columns; bias [O] f32; out
//           y [B,Ho,Wo,O] f32 or, if half, bf16; bias and out 16-byte aligned
// Launch    grid (as many blocks as there are tiles, or fewer: block i of x has the tiles i, i + x, ..., those of the same rows in a
//           row), block 384, 229504 bytes of dynamic shared memory; a launch for each class
// Numbers   f32 sums, in order of u, v, c; the bias last
// Assumes   channels and outputs are multiples of 8; what is counted is below 2^31: src/ops/conv2d/im2col.rs checks
KERNEL(conv2d_fwd_bf16_128x64_sm90a, (windows<64, false>))
KERNEL(conv2d_fwd_bf16_128x128_sm90a, (windows<128, false>))
KERNEL(conv2d_fwd_bf16_128x256_sm90a, (windows<256, false>))

// Formula   d[b,r,q,c] = d before, if add, + sum over the image pixels of (r,q), their taps u, v and o of dy[b, (r+p-u)/s, (q+p-v)/s, o] · w[o,u,v,c]
// Pointers  image dy [B,Ho,Wo,O] as x of fwd; other w [O,k·k,depth], bf16 by a tensor map in boxes of 64 channels of a tap x 64 outputs,
//           channels from weight_first on; out d_x or d_skip [B,rows,cols,columns] f32 or, if half, bf16, 16-byte aligned
// Launch    as fwd; a launch for each class
// Numbers   f32 sums, in order of (image row, u), (image column, v), o; what is added to last
// Assumes   as fwd
KERNEL(conv2d_dgrad_bf16_128x64_sm90a, (windows<64, true>))
KERNEL(conv2d_dgrad_bf16_128x128_sm90a, (windows<128, true>))
KERNEL(conv2d_dgrad_bf16_128x256_sm90a, (windows<256, true>))

// Formula   d_w[o,u,v,c] = sum over b, i, j of dy[b,i,j,o] · image[b, i·s - p + u, j·s - p + v, c]
// Pointers  image, skip as of fwd and other dy [B,Ho,Wo,O], bf16 by tensor maps for im2col in boxes of 64 pixels x 64 channels; out f32:
//           d_w [O,k,k,depth], or partials [gridDim.y, O,k,k,depth], which matmul_reduce_f32_sm80 adds; 16-byte aligned
// Launch    grid (as fwd, ceil(turns of 64 pixels of all classes / slice)), block 384, 229504 bytes of dynamic shared memory
// Numbers   f32 sums, in order of classes, then b, i, j
// Assumes   as fwd
KERNEL(conv2d_wgrad_bf16_128x64_sm90a, (weights<64>))
KERNEL(conv2d_wgrad_bf16_128x128_sm90a, (weights<128>))
KERNEL(conv2d_wgrad_bf16_128x256_sm90a, (weights<256>))
