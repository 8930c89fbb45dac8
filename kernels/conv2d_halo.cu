// Convolution of images of few channels: a tile of the image comes into shared memory once, with the margin that its windows
// reach, and every tap reads it there.
//
// | pass | rows of the product | columns | inner extent, in this order, 16 at a time |
// |---|---|---|---|
// | windows: fwd, dgrad | pixels of y; of d_x or d_skip | their channels, 16 or 32 a block | 16 channels of x or of skip, taps |
// | weights: wgrad | 16 channels of x or of skip for each tap | 16 output channels | tiles, rows, classes, 16 pixels |
//
// Images are [batch, rows, columns, channels] and weights w [O, k, k, depth] in bf16. What is walked over, what the classes of
// pixels are and what an entry of an axis is stands in conv2d.sm90a.cu and src/ops/conv2d/walk.rs. A tile is `tile_rows` x 16 places
// of the walk, each with `classes` x `classes` pixels: the four of an upsampled image lie side by side in a block, and read the
// same tile of x. Rows of a product are 16 neighbours of one class.
//
// In shared memory a pixel has a line of 32 bytes: 16 channels. The halves of the second four of eight lines are exchanged, so
// that eight lines in a row fill all banks; where windows lie 2 apart, even columns come before odd ones for the same reason.
// Two stages take turns: copies of the next tile, or of its next channels, are under way while one is multiplied.
#include "include/numeric.cuh"

constexpr u32 THREADS = 256, WARPS = 8;
constexpr u32 ACROSS = 16; // places in a row of a tile
constexpr u32 LINE = 32;   // bytes of 16 channels
constexpr u32 TAPS = 9;    // of a gradient by weights
constexpr u32 PITCH = 20;  // numbers from output to output in its sums, which are written without conflicts

// One axis, as conv2d.sm90a.cu has it.
struct Axis {
    u64 taps, image, skip;
    u32 entries;
    u32 pixels;
    i32 image_first, skip_first;
};

struct Image {
    const bf16 *at; // [batch, height, width, channels]
    u32 height, width, channels;
    u32 chunks;     // of 16 channels
    u32 step;       // from window to window: 1 or 2
    u32 rows, cols; // of a tile with its margin
    u32 split;      // lines from an even column to the odd one behind it, if step is 2
    u32 pitch;      // lines from row to row
    u32 vector;     // channels are a multiple of 8
};

struct Conv {
    Image image, skip;  // x, of dgrad dy; the skip connection, without chunks if there is none
    Image dy;           // wgrad: its windows are the pixels of a place
    const bf16 *w;      // fwd, dgrad: its number [column 0, tap 0, channel 0]
    const float *bias;  // [columns] or null
    void *out;
    Axis down, across;
    u32 classes;        // 1 or 2: pixels of a place along an axis
    u32 tile_rows, tiles_down, tiles_across, tiles;
    u32 run;            // tiles of a block
    u32 columns;        // of the product
    u32 kernel;
    u32 w_column, w_tap, w_channel; // numbers from one to the next
    u32 half, vector_out;           // out is bf16; its columns are a multiple of what a thread stores
    u32 block_chunks, block_groups; // wgrad: of a block, chunks and 16 outputs each: 1, 2 or 4; 1 or 2
    u32 weights_at, stages_at, stage, chunk_bytes, dy_bytes; // bytes of shared memory, whose beginning tables take
};

extern __shared__ __align__(1024) char memory[];

__device__ __forceinline__ u32 bits(u64 all, u32 at) { return u32(all >> (4 * at)) & 15; }

// A place in shared memory from that of its line and half.
__device__ __forceinline__ char *exchanged(u32 at) { return memory + (at ^ (at >> 3 & 16)); }

__device__ __forceinline__ u32 line(const Image &x, u32 row, u32 col) {
    return row * x.pitch + (x.step == 2 ? col % 2 * x.split + col / 2 : col);
}

// The first place of a tile.
struct Tile {
    u32 image, row, col;

    __device__ __forceinline__ Tile(const Conv &p, u32 at) {
        u32 rest = at / p.tiles_across;
        col = (at - rest * p.tiles_across) * ACROSS;
        image = rest / p.tiles_down;
        row = (rest - image * p.tiles_down) * p.tile_rows;
    }
};

// Has 16 channels of a tile copied: of the rows and columns of image `image` from (row, col) on, zeros outside. A thread copies the same
// half of every 128th pixel.
__device__ __forceinline__ void bring(const Image &x, u32 chunk, u32 image, i32 row, i32 col, u32 to) {
    const u32 channel = 16 * chunk + threadIdx.x % 2 * 8, height = channel < x.channels ? x.height : 0;
    const bf16 *first = x.at + u64(image) * x.height * x.width * x.channels + (height > 0 ? channel : 0);
    const u32 inverse = 0xffffffffu / x.cols + 1; // divides what is below 2^32 / cols
    to += threadIdx.x % 2 * 16;
    for (u32 pixel = threadIdx.x / 2; pixel < x.rows * x.cols; pixel += THREADS / 2) {
        u32 down = __umulhi(pixel, inverse), across = pixel - down * x.cols, at_row = row + down, at_col = col + across;
        bool inside = at_row < height && at_col < x.width;
        const bf16 *from = first + u64(inside ? at_row * x.width + at_col : 0) * x.channels;
        char *at = exchanged(to + LINE * line(x, down, across));
        if (x.vector) {
            ptx::cp_async_16(at, from, inside ? 16 : 0);
        } else {
            u32 numbers[8];
#pragma unroll
            for (u32 e = 0; e < 8; ++e) numbers[e] = inside && channel + e < x.channels ? from[e].bits : 0;
            *reinterpret_cast<uint4 *>(at) = uint4{numbers[0] | numbers[1] << 16, numbers[2] | numbers[3] << 16,
                                                   numbers[4] | numbers[5] << 16, numbers[6] | numbers[7] << 16};
        }
    }
}

__device__ __forceinline__ void bring_image(const Conv &p, u32 chunk, const Tile &tile, u32 to) {
    i32 row = p.down.image_first + i32(tile.row * p.image.step), col = p.across.image_first + i32(tile.col * p.image.step);
    bring(p.image, chunk, tile.image, row, col, to);
}

// Channels of the image or, behind its chunks, of the skip connection.
__device__ __forceinline__ void bring_chunk(const Conv &p, u32 chunk, const Tile &tile, u32 to) {
    if (chunk < p.image.chunks) {
        bring_image(p, chunk, tile, to);
    } else {
        i32 row = p.down.skip_first + i32(tile.row * p.skip.step), col = p.across.skip_first + i32(tile.col * p.skip.step);
        bring(p.skip, chunk - p.image.chunks, tile.image, row, col, to);
    }
}

// Taps of a window: entries of an axis are those of each class.
__device__ __forceinline__ u32 taps_of(const Conv &p) {
    return p.down.entries / p.classes * (p.across.entries / p.classes);
}

// Tables at the beginning of shared memory: of every tap four bytes' counts from a window's first pixel to the one that it meets in
// the tile of x, by class or of windows one below another; the same of the skip connection; and where its weights lie.
__device__ __forceinline__ void tabulate(const Conv &p) {
    u32 *table = reinterpret_cast<u32 *>(memory);
    const u32 taps = taps_of(p), across = p.across.entries / p.classes;
    for (u32 at = threadIdx.x; at < 4 * taps; at += THREADS) {
        u32 four = at % 4, i = at / 4 / across, j = at / 4 % across;
        u32 tap = bits(p.down.taps, i) * p.kernel + bits(p.across.taps, j), below = four;
        if (p.classes == 2) i += four / 2 * (p.down.entries / 2), j += four % 2 * across, below = 0;
        table[at] = LINE * line(p.image, bits(p.down.image, i) + below * p.image.step, bits(p.across.image, j));
        table[4 * taps + at] = LINE * line(p.skip, bits(p.down.skip, i) + below * p.skip.step, bits(p.across.skip, j));
        if (four == 0) table[8 * taps + at / 4] = LINE * tap;
    }
}

// Weights [N][chunk, tap, 16 channels], each line 16 bytes longer. Columns are ordered so that a thread's sums of a pixel are those of
// neighbours: N / 4 of them.
template <int N> __device__ __forceinline__ void bring_weights(const Conv &p, u32 chunks, u32 pitch) {
    const u32 taps = p.kernel * p.kernel;
    for (u32 at = threadIdx.x; at < N * chunks * taps * 16; at += THREADS) {
        u32 c = at % 16, tap = at / 16 % taps, rest = at / 16 / taps, chunk = rest % chunks, n = rest / chunks;
        u32 column = blockIdx.y * N + n % 8 / 2 * (N / 4) + n / 8 * 2 + n % 2;
        bool skip = chunk >= p.image.chunks;
        u32 channel = 16 * (skip ? chunk - p.image.chunks : chunk) + c;
        bool inside = column < p.columns && channel < (skip ? p.skip.channels : p.image.channels);
        u64 number = u64(column) * p.w_column + tap * p.w_tap + u64(channel + (skip ? p.image.channels : 0)) * p.w_channel;
        bf16 *to = reinterpret_cast<bf16 *>(memory + p.weights_at + n * pitch + LINE * (chunk * taps + tap)) + c;
        *to = inside ? p.w[number] : bf16{0};
    }
}

// Stores the sums that a thread has of a pixel, from number `number` of out on: N / 4 columns from `column` on.
template <int N> __device__ __forceinline__ void store(const Conv &p, u64 number, u32 column, float (&sums)[N / 4]) {
    constexpr int RUN = N / 4;
    if (p.bias) {
#pragma unroll
        for (int at = 0; at < RUN; ++at) sums[at] += column + at < p.columns ? p.bias[column + at] : 0.0f;
    }
    bf16 *halves = static_cast<bf16 *>(p.out) + number;
    float *wholes = static_cast<float *>(p.out) + number;
    if (!p.vector_out) {
#pragma unroll
        for (int at = 0; at < RUN; ++at) {
            if (column + at >= p.columns) continue;
            if (p.half) halves[at] = narrow<bf16>(sums[at]);
            else wholes[at] = sums[at];
        }
    } else if (p.half) {
        u32 words[RUN / 2];
#pragma unroll
        for (int at = 0; at < RUN / 2; ++at) words[at] = ptx::bf16x2_of(sums[2 * at], sums[2 * at + 1]);
        if constexpr (RUN == 4) *reinterpret_cast<uint2 *>(halves) = {words[0], words[1]};
        if constexpr (RUN == 8) *reinterpret_cast<uint4 *>(halves) = {words[0], words[1], words[2], words[3]};
    } else {
#pragma unroll
        for (int at = 0; at < RUN; at += 4)
            *reinterpret_cast<float4 *>(wholes + at) = {sums[at], sums[at + 1], sums[at + 2], sums[at + 3]};
    }
}

template <int COUNT> struct alignas(4 * COUNT) Offsets {
    u32 of[COUNT];
};

// Adds the products of 16 channels and all taps: MI tiles of 16 windows, of which the first pixels' lines begin at `a` and their
// offsets from it at `offsets`, with N columns, of which 16 lie `pitch` bytes each from `b` on.
template <int N, int MI>
__device__ __forceinline__ void multiply(float (&c)[MI][N / 8][4], const u32 *offsets, const u32 *places, u32 taps, u32 a, u32 b, u32 pitch) {
    for (u32 tap = 0; tap < taps; ++tap) {
        const auto offset = *reinterpret_cast<const Offsets<MI> *>(offsets + 4 * tap);
        u32 weights[N / 16][4];
#pragma unroll
        for (int j = 0; j < N / 16; ++j) ptx::ldmatrix_x4(weights[j], memory + b + places[tap] + 16 * j * pitch);
#pragma unroll
        for (int i = 0; i < MI; ++i) {
            u32 windows[4];
            ptx::ldmatrix_x4(windows, exchanged(a + offset.of[i]));
#pragma unroll
            for (int j = 0; j < N / 8; ++j) ptx::mma_m16n8k16(c[i][j], windows, weights[j / 2][j % 2 * 2], weights[j / 2][j % 2 * 2 + 1]);
        }
    }
}

template <int N> __device__ __forceinline__ void windows(const Conv &p) {
    constexpr int MI = N == 16 ? 4 : 2; // tiles of 16 windows in a warp
    const u32 lane = threadIdx.x % 32, first = threadIdx.x / 32 * MI;
    const u32 chunks = p.image.chunks + p.skip.chunks, taps = taps_of(p), kernel_taps = p.kernel * p.kernel;
    const u32 pitch = LINE * chunks * kernel_taps + 16;
    // Four windows are those of a place, or of places one below another.
    const u32 four = first % 4, row = first / 4 * (p.classes == 1 ? 4 : 1);
    const u32 *table = reinterpret_cast<const u32 *>(memory), *places = table + 8 * taps;
    const u32 a = p.stages_at + LINE * (lane % 16) + lane / 16 * 16;
    const u32 a_image = a + LINE * row * p.image.step * p.image.pitch, a_skip = a + LINE * row * p.skip.step * p.skip.pitch;
    const u32 b = p.weights_at + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16;
    tabulate(p);
    bring_weights<N>(p, chunks, pitch);
    const u32 begin = blockIdx.x * p.run, end = min(p.tiles, begin + p.run);
    bring_image(p, 0, Tile(p, begin), p.stages_at);
    ptx::cp_async_commit();
    u32 stage = 0;
    for (u32 at = begin; at < end; ++at) {
        float c[MI][N / 8][4] = {};
        for (u32 chunk = 0; chunk < chunks; ++chunk, stage ^= 1) {
            ptx::cp_async_wait<0>();
            __syncthreads(); // this stage has come, and all have read the other
            bool last = chunk + 1 == chunks;
            if (!last || at + 1 < end) bring_chunk(p, last ? 0 : chunk + 1, Tile(p, last ? at + 1 : at), p.stages_at + (stage ^ 1) * p.stage);
            ptx::cp_async_commit();
            bool skip = chunk >= p.image.chunks;
            multiply<N, MI>(c, table + (skip ? 4 * taps : 0) + four, places, taps, (skip ? a_skip : a_image) + stage * p.stage,
                            b + LINE * chunk * kernel_taps, pitch);
        }
        const Tile tile(p, at);
        const u32 width = p.across.pixels * p.classes, column = blockIdx.y * N + lane % 4 * (N / 4);
        const u64 first = u64(tile.image) * (p.down.pixels * p.classes) * width * p.columns + column;
        if (column >= p.columns) continue;
#pragma unroll
        for (int i = 0; i < MI; ++i) {
            const u32 down = tile.row + row + (p.classes == 1 ? four + i : 0);
            const u32 out_row = p.classes == 1 ? down : 2 * down + (four + i) / 2;
#pragma unroll
            for (int eight = 0; eight < 2; ++eight) {
                const u32 across = tile.col + lane / 4 + 8 * eight;
                if (down >= p.down.pixels || across >= p.across.pixels) continue;
                const u32 out_col = p.classes == 1 ? across : 2 * across + (four + i) % 2;
                float sums[N / 4];
#pragma unroll
                for (int s = 0; s < N / 4; ++s) sums[s] = c[i][s / 2][2 * eight + s % 2];
                store<N>(p, first + u64(out_row * width + out_col) * p.columns, column, sums);
            }
        }
    }
}

// Has the tile of a block's channels and outputs copied: chunks and groups one behind another.
__device__ __forceinline__ void bring_block(const Conv &p, const Tile &tile, u32 to) {
    for (u32 at = 0; at < p.block_chunks; ++at) {
        u32 chunk = blockIdx.y * p.block_chunks + at;
        if (chunk < p.image.chunks + p.skip.chunks) bring_chunk(p, chunk, tile, to + at * p.chunk_bytes);
    }
    to += p.block_chunks * p.chunk_bytes;
    for (u32 at = 0; at < p.block_groups; ++at) {
        u32 group = blockIdx.z * p.block_groups + at;
        if (group < p.dy.chunks) bring(p.dy, group, tile.image, tile.row * p.classes, tile.col * p.classes, to + at * p.dy_bytes);
    }
}

// The part of d_w of a warp, summed over its rows of a tile: of all taps 16 channels, whose tile begins at `x`, by 16 outputs, whose tile
// begins at `dy`. From row to row there are a multiple of eight lines, so halves are exchanged alike.
__device__ __forceinline__ void add_rows(const Conv &p, float (&c)[TAPS][2][4], bool skip, u32 share, u32 shares, u32 x, u32 dy) {
    const u32 lane = threadIdx.x % 32;
    const u32 *offsets = reinterpret_cast<const u32 *>(memory) + (skip ? 4 * TAPS : 0);
    const u32 from_row = LINE * (skip ? p.skip.step * p.skip.pitch : p.image.step * p.image.pitch);
    const u32 from_dy = LINE * p.classes * p.dy.pitch;
    x += LINE * (lane % 8 + lane / 16 * 8) + lane / 8 % 2 * 16;
    dy += LINE * (lane % 16) + lane / 16 * 16;
    for (u32 number = 0; number < p.classes * p.classes; ++number) {
        const char *from[TAPS];
#pragma unroll
        for (u32 tap = 0; tap < TAPS; ++tap) from[tap] = exchanged(x + offsets[4 * tap + number]);
        const char *of_dy = exchanged(dy + (p.classes == 1 ? 0 : LINE * (number / 2 * p.dy.pitch + number % 2 * p.dy.split)));
        for (u32 row = share; row < p.tile_rows; row += shares) {
            u32 outputs[4];
            ptx::ldmatrix_x4_trans(outputs, of_dy + row * from_dy);
#pragma unroll
            for (u32 tap = 0; tap < TAPS; ++tap) {
                u32 channels[4];
                ptx::ldmatrix_x4_trans(channels, from[tap] + row * from_row);
                ptx::mma_m16n8k16(c[tap][0], channels, outputs[0], outputs[1]);
                ptx::mma_m16n8k16(c[tap][1], channels, outputs[2], outputs[3]);
            }
        }
    }
}

// Adds up what the warps of a unit have, in order of their shares, [unit, tap, output, channel] in shared memory.
__device__ __forceinline__ void add_shares(float *sums, const float (&c)[TAPS][2][4], u32 unit, u32 share, u32 shares) {
    const u32 lane = threadIdx.x % 32;
    float *own = sums + unit * TAPS * 16 * PITCH + lane % 4 * 2 * PITCH + lane / 4;
    for (u32 turn = 0; turn < shares; ++turn) {
        __syncthreads(); // tiles are read, and sums of the share before written
        if (turn != share) continue;
#pragma unroll
        for (u32 tap = 0; tap < TAPS; ++tap) {
#pragma unroll
            for (int at = 0; at < 8; ++at) {
                float *to = own + (16 * tap + at / 4 * 8 + at % 2) * PITCH + at / 2 % 2 * 8;
                *to = (turn == 0 ? 0.0f : *to) + c[tap][at / 4][at % 4];
            }
        }
    }
    __syncthreads();
}

__device__ __forceinline__ void weights(const Conv &p) {
    const u32 units = p.block_chunks * p.block_groups, warp = threadIdx.x / 32, unit = warp % units;
    const u32 first_chunk = blockIdx.y * p.block_chunks, first_group = blockIdx.z * p.block_groups;
    const u32 chunk = unit % p.block_chunks, group = unit / p.block_chunks, chunks = p.image.chunks + p.skip.chunks;
    const bool there = first_chunk + chunk < chunks && first_group + group < p.dy.chunks;
    const u32 x = p.stages_at + chunk * p.chunk_bytes, dy = p.stages_at + p.block_chunks * p.chunk_bytes + group * p.dy_bytes;
    tabulate(p);
    const u32 begin = blockIdx.x * p.run, end = min(p.tiles, begin + p.run);
    bring_block(p, Tile(p, begin), p.stages_at);
    ptx::cp_async_commit();
    float c[TAPS][2][4] = {};
    u32 stage = 0;
    for (u32 at = begin; at < end; ++at, stage ^= 1) {
        ptx::cp_async_wait<0>();
        __syncthreads(); // this stage has come, and all have read the other
        if (at + 1 < end) bring_block(p, Tile(p, at + 1), p.stages_at + (stage ^ 1) * p.stage);
        ptx::cp_async_commit();
        if (there) add_rows(p, c, first_chunk + chunk >= p.image.chunks, warp / units, WARPS / units, x + stage * p.stage, dy + stage * p.stage);
    }
    float *sums = reinterpret_cast<float *>(memory + p.stages_at);
    add_shares(sums, c, unit, warp / units, WARPS / units);
    const u32 depth = p.image.channels + p.skip.channels, window = TAPS * depth;
    float *out = static_cast<float *>(p.out) + u64(blockIdx.x) * p.columns * window;
    for (u32 at = threadIdx.x; at < units * TAPS * 256; at += THREADS) {
        u32 channel = at % 16, output = at / 16 % 16, tap = at / 256 % TAPS, of = at / 256 / TAPS;
        u32 of_chunk = first_chunk + of % p.block_chunks, column = 16 * (first_group + of / p.block_chunks) + output;
        bool skip = of_chunk >= p.image.chunks;
        u32 number = 16 * (skip ? of_chunk - p.image.chunks : of_chunk) + channel;
        if (column >= p.columns || number >= (skip ? p.skip.channels : p.image.channels)) continue;
        out[u64(column) * window + tap * depth + (skip ? p.image.channels : 0) + number] =
            sums[((of * TAPS + tap) * 16 + output) * PITCH + channel];
    }
}

#define KERNEL(NAME, BODY) \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME(const __grid_constant__ Conv p) { BODY(p); }

// Formula   y[b,i,j,o] = bias[o] + sum over u, v, c of image[b, i·s - p + u, j·s - p + v, c] · w[o,u,v,c]; of dgrad
//           d[b,r,q,c] = sum over the image pixels of (r,q), their taps u, v and o of dy[b, r+p-u, q+p-v, o] · w[o,u,v,c]
// Pointers  image x [B,H,W,C], or dy [B,Ho,Wo,O]; skip [B,2H,2W,Cs]; w [O,k,k,C+Cs], from the channel on that is column 0 of dgrad: bf16;
//           bias [O] f32; out y, d_x or d_skip [B,rows,cols,columns] f32 or, if half, bf16; images and out 16-byte aligned
// Launch    grid (ceil(tiles / run), ceil(columns / N)), block 256, dynamic shared memory: tables of 36 bytes a tap, the weights, two
//           stages
// Numbers   f32 sums, in order of 16 channels of x, then of the skip, then taps, then channels; the bias last
// Assumes   windows are 1 or 2 apart; what is counted is below 2^31: src/ops/conv2d/halo.rs checks
KERNEL(conv2d_halo_windows_bf16_512x16_sm80, (windows<16>))
KERNEL(conv2d_halo_windows_bf16_256x32_sm80, (windows<32>))

// Formula   d_w[o,u,v,c] = sum over b, i, j of dy[b,i,j,o] · image[b, i·s - p + u, j·s - p + v, c]
// Pointers  image, skip as above, dy [B,Ho,Wo,O], bf16, 16-byte aligned; out f32: d_w [O,k,k,depth], or partials [gridDim.x, O,k,k,depth],
//           which matmul_reduce_f32_sm80 adds
// Launch    grid (ceil(tiles / run), ceil(chunks / block_chunks), ceil(groups / block_groups)), block 256, dynamic shared memory: tables
//           of 36 bytes a tap, two stages or, if they are more, sums
// Numbers   f32 sums, each warp's in order of tiles, rows, classes, pixels; then those of the warps
// Assumes   as above; k is 3; from row to row of x and dy in shared memory lie a multiple of eight lines
KERNEL(conv2d_halo_weights_bf16_16x16_sm80, (weights))
