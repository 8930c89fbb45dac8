// Convolution of images of at most a few channels, as the first of a network is: the numbers that a window has in a row of the
// image are one run, in shared memory as in the image. Windows begin any even number of them apart, so that two neighbouring numbers
// are a word, of which fragments of mma consist: they are loaded word by word, without conflicts, where ldmatrix wants 16 bytes.
//
// | pass | rows of the product | columns | inner extent |
// |---|---|---|---|
// | fwd | pixels of y, 32 a warp | 64 output channels | eights of numbers of a window, down its rows |
// | wgrad | eights of numbers of a window | 64 output channels | pixels of y, 16 at a time |
//
// Images are [batch, rows, columns, channels] and weights w [O, k, k, channels] in bf16. An eight is eight numbers of a window's row; the
// first begins at an even number, the one before the window if need be, and the last ends behind it: what is beside the window is
// multiplied by a weight of zero, or its sum is not stored. A tile is `tile_rows` x 32 pixels of y; of the image its rows come with the
// margin that windows reach, the next tile's while one is multiplied. A fragment holds two eights; where one is left, it is both.
#include "include/vector.cuh"

constexpr u32 THREADS = 256, WARPS = 8;
constexpr u32 ACROSS = 32;   // pixels of y in a row of a tile
constexpr u32 COLUMNS = 64;  // output channels of a block
constexpr u32 EIGHTS = 32;   // of a window at most
constexpr u32 LINE = 128;    // bytes of the outputs of a pixel
constexpr u32 DY_ROWS = 4;   // of a tile of wgrad

struct Conv {
    const bf16 *image;
    const bf16 *other;   // fwd w, wgrad dy
    const float *bias;   // fwd: [outputs] or null
    void *out;
    u32 height, width;   // of the image: rows, and numbers of a row
    u32 rows, cols;      // pixels of a picture of y
    u32 outputs;
    u32 kernel, run;     // of a window: rows, and numbers of a row
    u32 lead;            // 1 if an eight begins before the window
    u32 eights;          // of a window's row
    u32 stride, step;    // from window to window: rows, and numbers of a row
    u32 padding;         // rows above the image
    u32 before;          // numbers in a tile's row before the image's, if it is the first of a row; a multiple of 8
    u32 start;           // bytes in a tile's row to the first eight of its first window
    u32 image_rows, pieces; // of the image in a tile: rows, and 16 bytes each of a row
    u32 tile_rows, tiles_down, tiles_across, tiles;
    u32 tiles_of_block;
    u32 half;            // out is bf16
    u32 vector;          // rows of the image are multiples of 16 bytes
    u32 stages_at, stage; // bytes of shared memory
};

extern __shared__ __align__(1024) char memory[];

__device__ __forceinline__ u32 word(u32 at) { return *reinterpret_cast<const u32 *>(memory + at); }

// The first pixel of a tile.
struct Tile {
    u32 image, row, col;

    __device__ __forceinline__ Tile(const Conv &p, u32 at) {
        u32 rest = at / p.tiles_across;
        col = (at - rest * p.tiles_across) * ACROSS;
        image = rest / p.tiles_down;
        row = (rest - image * p.tiles_down) * p.tile_rows;
    }
};

// Has the image of a tile copied, a row a warp; zeros are what is outside.
__device__ __forceinline__ void bring_image(const Conv &p, const Tile &tile, char *to) {
    for (u32 down = threadIdx.x / 32; down < p.image_rows; down += WARPS) {
        const u32 row = tile.row * p.stride - p.padding + down, count = row < p.height ? p.width : 0;
        const bf16 *line = p.image + (count > 0 ? u64(tile.image * p.height + row) * p.width : 0);
        for (u32 piece = threadIdx.x % 32; piece < p.pieces; piece += 32) {
            char *at = to + 16 * (down * p.pieces + piece);
            const u32 first = tile.col * p.step - p.before + 8 * piece;
            if (p.vector) {
                const bool inside = first < count;
                ptx::cp_async_16(at, line + (inside ? first : 0), inside ? 16 : 0);
            } else {
                u32 numbers[8];
#pragma unroll
                for (u32 e = 0; e < 8; ++e) numbers[e] = first + e < count ? line[first + e].bits : 0;
                *reinterpret_cast<uint4 *>(at) = uint4{numbers[0] | numbers[1] << 16, numbers[2] | numbers[3] << 16,
                                                       numbers[4] | numbers[5] << 16, numbers[6] | numbers[7] << 16};
            }
        }
    }
}

// Where an eight of a window lies, in bytes behind the first; the last stands for those behind it.
__device__ __forceinline__ u32 place(const Conv &p, u32 eight) {
    eight = min(eight, p.kernel * p.eights - 1);
    return 16 * (eight / p.eights * p.pieces + eight % p.eights);
}

// Weights [64][eights] from `to` on. Columns are ordered so that a thread has twice eight neighbouring sums of a pixel.
__device__ __forceinline__ void bring_weights(const Conv &p, u32 steps, char *to, u32 pitch) {
    const u32 window = p.kernel * p.run;
    for (u32 at = threadIdx.x; at < COLUMNS * 16 * steps; at += THREADS) {
        const u32 number = at % (16 * steps), n = at / (16 * steps);
        const u32 column = blockIdx.y * COLUMNS + n / 32 * 32 + n % 8 / 2 * 8 + n / 8 % 4 * 2 + n % 2;
        const u32 row = number / 8 / p.eights, along = number - row * 8 * p.eights - p.lead;
        const bool inside = column < p.outputs && row < p.kernel && along < p.run;
        reinterpret_cast<bf16 *>(to + n * pitch)[number] = inside ? p.other[u64(column) * window + row * p.run + along] : bf16{0};
    }
}

// Stores what a thread has of a pixel: eight sums from number `number` of out on, of which `bias` are the channels' or null.
__device__ __forceinline__ void store(const Conv &p, u64 number, const float *bias, float (&sums)[8]) {
    if (bias) {
        float added[8];
        load_aligned(added, bias);
#pragma unroll
        for (int at = 0; at < 8; ++at) sums[at] += added[at];
    }
    if (p.half) store_aligned(static_cast<bf16 *>(p.out) + number, sums);
    else store_aligned(static_cast<float *>(p.out) + number, sums);
}

// A warp has a row of a tile, as two products of 16 pixels by 64 channels.
__device__ __forceinline__ void forward(const Conv &p) {
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 steps = (p.kernel * p.eights + 1) / 2, pitch = 32 * steps + 16, eight_windows = 16 * p.step;
    if (threadIdx.x < EIGHTS) reinterpret_cast<u32 *>(memory)[threadIdx.x] = place(p, threadIdx.x);
    bring_weights(p, steps, memory + 4 * EIGHTS, pitch);
    const char *b = memory + 4 * EIGHTS + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16;
    const u32 a = p.stages_at + p.start + warp * p.stride * 16 * p.pieces + lane / 4 * 2 * p.step + lane % 4 * 4;
    const u32 begin = blockIdx.x * p.tiles_of_block, end = min(p.tiles, begin + p.tiles_of_block);
    u32 stage = 0;
    for (u32 next = begin; next <= end; ++next) {
        ptx::cp_async_wait<0>();
        __syncthreads(); // the tile before has come, and all have read the other stage
        const u32 windows = a + stage;
        stage = p.stage - stage;
        if (next < end) bring_image(p, Tile(p, next), memory + p.stages_at + stage);
        ptx::cp_async_commit();
        if (next == begin) continue;
        float c[2][COLUMNS / 8][4] = {};
        for (u32 step = 0; step < steps; ++step) {
            const uint2 eights = reinterpret_cast<const uint2 *>(memory)[step];
            u32 columns[COLUMNS / 16][4];
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; ++j) ptx::ldmatrix_x4(columns[j], b + 16 * j * pitch + 32 * step);
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const u32 first = windows + 2 * i * eight_windows, second = first + eight_windows;
                const u32 pixels[4] = {word(first + eights.x), word(second + eights.x), word(first + eights.y), word(second + eights.y)};
#pragma unroll
                for (int j = 0; j < COLUMNS / 8; ++j) ptx::mma_m16n8k16(c[i][j], pixels, columns[j / 2][j % 2 * 2], columns[j / 2][j % 2 * 2 + 1]);
            }
        }
        const Tile tile(p, next - 1);
        if (tile.row + warp >= p.rows) continue;
        const u64 row = u64(tile.image * p.rows + tile.row + warp) * p.cols;
#pragma unroll
        for (int part = 0; part < 2; ++part) {
            const u32 column = blockIdx.y * COLUMNS + part * 32 + lane % 4 * 8;
            if (column >= p.outputs) continue;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const u32 across = tile.col + 8 * i + lane / 4;
                if (across >= p.cols) continue;
                float sums[8];
#pragma unroll
                for (int s = 0; s < 8; ++s) sums[s] = c[i / 2][4 * part + s / 2][i % 2 * 2 + s % 2];
                store(p, (row + across) * p.outputs + column, p.bias ? p.bias + column : nullptr, sums);
            }
        }
    }
}

// dy of a tile: of every pixel a line of eights of outputs, of which neighbours have theirs in another order, so that they fill all banks.
__device__ __forceinline__ void bring_dy(const Conv &p, const Tile &tile, char *to) {
    static_assert(THREADS == 8 * ACROSS, "a thread has an eight of every row");
    const u32 eight = threadIdx.x % 8, across = threadIdx.x / 8, column = blockIdx.y * COLUMNS + 8 * eight, col = tile.col + across;
    const u64 pixel = u64(tile.image * p.rows + tile.row) * p.cols + col;
    to += across * LINE + (eight ^ across % 8) * 16;
#pragma unroll
    for (u32 row = 0; row < DY_ROWS; ++row) {
        const bool inside = tile.row + row < p.rows && col < p.cols && column < p.outputs;
        ptx::cp_async_16(to + row * ACROSS * LINE, p.other + (inside ? (pixel + row * p.cols) * p.outputs + column : 0), inside ? 16 : 0);
    }
}

// Writes the block's part of d_w: sums of products `quarter` + 4 i of 16 numbers by the channels of that half.
__device__ __forceinline__ void write_gradient(const Conv &p, const float (&c)[4][4][4], u32 quarter, u32 half) {
    const u32 lane = threadIdx.x % 32, all = p.kernel * p.eights, products = (all + 1) / 2;
    float2 *pairs = reinterpret_cast<float2 *>(memory);
    const u32 pitch = 16 * products + 4; // written without conflicts
    __syncthreads(); // tiles are read
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        if (quarter + 4 * i >= products) break;
#pragma unroll
        for (u32 j = 0; j < 4; ++j) {
            float2 *to = pairs + (32 * half + 8 * j + lane % 4 * 2) * (pitch / 2) + 8 * (quarter + 4 * i) + lane / 4;
            to[0] = float2{c[i][j][0], c[i][j][2]};
            to[pitch / 2] = float2{c[i][j][1], c[i][j][3]};
        }
    }
    __syncthreads();
    const float *sums = reinterpret_cast<const float *>(memory);
    const u32 window = p.kernel * p.run, columns = min(COLUMNS, p.outputs - blockIdx.y * COLUMNS);
    float *out = static_cast<float *>(p.out) + (u64(blockIdx.x) * p.outputs + blockIdx.y * COLUMNS) * window;
    for (u32 column = threadIdx.x / 32; column < columns; column += WARPS) {
        for (u32 number = lane; number < 8 * all; number += 32) {
            const u32 row = number / 8 / p.eights, along = number - row * 8 * p.eights - p.lead;
            if (along < p.run) out[column * window + row * p.run + along] = sums[column * pitch + number];
        }
    }
}

// A warp has every fourth product of 16 numbers of a window by 32 channels. Of its 16 pixels a thread loads the words of four that
// lie 4 apart, so that those of a warp fill different banks: these are k 2t, 2t + 1, 2t + 8 and 2t + 9 of thread t.
__device__ __forceinline__ void weight_gradient(const Conv &p) {
    const u32 lane = threadIdx.x % 32, quarter = threadIdx.x / 32 % 4, half = threadIdx.x / 32 / 4;
    const u32 products = (p.kernel * p.eights + 1) / 2, four_windows = 8 * p.step, next_row = p.stride * 16 * p.pieces;
    u32 x[4];
#pragma unroll
    for (u32 i = 0; i < 4; ++i) {
        const u32 offset = place(p, 2 * (quarter + 4 * i) + lane / 16) + lane / 4 % 4 * 4 + lane % 4 * 2 * p.step;
        x[i] = DY_ROWS * ACROSS * LINE + p.start + offset;
    }
    const u32 pixel = lane / 8 % 2 * 8 + lane % 2 * 4 + lane % 8 / 2;
    u32 dy[2];
#pragma unroll
    for (u32 j = 0; j < 2; ++j) dy[j] = pixel * LINE + ((4 * half + 2 * j + lane / 16) ^ pixel % 8) * 16;
    const u32 begin = blockIdx.x * p.tiles_of_block, end = min(p.tiles, begin + p.tiles_of_block);
    float c[4][4][4] = {};
    u32 stage = 0;
    for (u32 next = begin; next <= end; ++next) {
        ptx::cp_async_wait<0>();
        __syncthreads(); // the tile before has come, and all have read the other stage
        u32 pixels = stage, row = stage;
        stage = p.stage - stage;
        if (next < end) {
            const Tile tile(p, next);
            bring_dy(p, tile, memory + stage);
            bring_image(p, tile, memory + stage + DY_ROWS * ACROSS * LINE);
        }
        ptx::cp_async_commit();
        if (next == begin) continue;
        for (u32 down = 0; down < DY_ROWS; ++down, row += next_row) {
#pragma unroll
            for (u32 half_row = 0; half_row < 2; ++half_row, pixels += 16 * LINE) {
                u32 outputs[2][4];
#pragma unroll
                for (int j = 0; j < 2; ++j) ptx::ldmatrix_x4_trans(outputs[j], memory + dy[j] + pixels);
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    if (quarter + 4 * i >= products) break;
                    const u32 of = x[i] + row + half_row * 4 * four_windows;
                    const u32 a = word(of), b = word(of + four_windows), d = word(of + 2 * four_windows), e = word(of + 3 * four_windows);
                    // Rows 0 to 7 are even numbers of the window, rows 8 to 15 odd ones.
                    const u32 numbers[4] = {__byte_perm(a, b, 0x5410), __byte_perm(a, b, 0x7632), __byte_perm(d, e, 0x5410),
                                            __byte_perm(d, e, 0x7632)};
#pragma unroll
                    for (int j = 0; j < 4; ++j) ptx::mma_m16n8k16(c[i][j], numbers, outputs[j / 2][j % 2 * 2], outputs[j / 2][j % 2 * 2 + 1]);
                }
            }
        }
    }
    write_gradient(p, c, quarter, half);
}

#define KERNEL(NAME, BODY) \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME(const __grid_constant__ Conv p) { BODY(p); }

// Formula   y[b,i,j,o] = bias[o] + sum over u, v, c of image[b, i·s - p + u, j·s - p + v, c] · w[o,u,v,c]
// Pointers  image x [B,H,W,C], other w [O,k,k,C] bf16; bias [O] f32; out y [B,rows,cols,O] f32 or, if half, bf16; 16-byte aligned
// Launch    grid (ceil(tiles / tiles_of_block), ceil(O / 64)), block 256, dynamic shared memory: 128 bytes, the weights, two stages
// Numbers   f32 sums, in order of u, v, c; the bias last. A number beside a window counts for zero times itself: NaN if it is not finite
// Assumes   s·C is even and at most 8, O a multiple of 8, a window has at most 32 eights; what is counted is below 2^31: src/ops/conv2d/stem.rs checks
KERNEL(conv2d_stem_fwd_bf16_256x64_sm80, forward)

// Formula   d_w[o,u,v,c] = sum over b, i, j of dy[b,i,j,o] · image[b, i·s - p + u, j·s - p + v, c]
// Pointers  image x, other dy [B,rows,cols,O] bf16; out f32: d_w [O,k,k,C], or partials [gridDim.x, O,k,k,C], which linear.cu
//           adds; 16-byte aligned
// Launch    grid as above, block 256, dynamic shared memory: two stages or, if they are more, sums
// Numbers   f32 sums, in order of tiles, rows, 16 pixels; outside the picture zero times a number, NaN if it is not finite
// Assumes   as above
KERNEL(conv2d_stem_wgrad_bf16_128x64_sm80, weight_gradient)
