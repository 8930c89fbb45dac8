// Multi-head self-attention within packed sequences, f32 and bf16, and its gradient. Features of a head are `depth`.
//
// Formula   fwd  a = softmax(scale * q · kT), context = a · v, lse = log sum exp of the logits of each row
//           dq   ds = a * (d_context · vT - delta), delta = sum over features of d_context * context; dq = scale * ds · k
//           dkv  dk = scale * dsT · q, dv = aT · d_context
//           Keys are the first lengths[sequence] rows of their sequence.
// Pointers  q, k, v, d_context, context, out, second  [rows, heads * depth] contiguous, f32 or bf16 (the dtype of the
//                    symbol), 256-byte aligned. out: context, dq or dk; second: dv. Rows from the last offset on are
//                    neither read nor written.
//           offsets  [sequences + 1] i32, ascending from 0, in rows; lengths  [sequences] i32, at most the rows of each
//           lse      [rows, heads] f32, written by fwd; delta [rows, heads] f32, written by dq, read by dkv
// Launch    grid (rows / 64 + sequences) * heads * chunks, chunks = depth / 64 rounded up; block 128; dynamic shared
//           memory: fwd 3 tiles of 64 * (64 * size + 16) bytes, dq and dkv 4 tiles and 512 bytes; f32 one tile more.
//           A block has a tile of 64 rows of one sequence and one head: queries, or keys for dk and dv. It goes through
//           the tiles of 64 rows on the other side; nothing of the size of queries x keys reaches memory. Features come
//           in chunks of 64: with more per head a block makes one chunk of the result, and the logits anew for each. Four
//           warps, 16 rows of the tile each.
// Numbers   f32 by FFMA; bf16 by mma.m16n8k16 with f32 sums, attention and its gradient rounded to bf16 as operands. Over
//           features chunk by chunk in their order, over the other side tile by tile in its order.
// Assumes   rows, grid < 2^31; `vector` only if depth is a multiple of 16 bytes: src/ops/attention/cuda.rs checks
#include "include/vector.cuh"

struct Attention {
    const void *q, *k, *v, *d_context, *context; // [rows, heads * depth] of T, 256-byte aligned; the last two of the gradient
    const i32 *offsets;                          // [sequences + 1], rows
    const i32 *lengths;                          // [sequences], keys of each, at most its rows
    float *lse;                                  // [rows, heads], written by fwd, read by the gradient
    float *delta;                                // [rows, heads], written by dq, read by dkv
    void *out, *second;                          // context; dq; dk and dv: [rows, heads * depth] of T
    u32 sequences, heads, depth;
    u32 chunks;                                  // ceil(depth / 64)
    u32 vector;                                  // 1 if depth is a multiple of 16 bytes
    float scale;                                 // 1 / sqrt(depth)
};

constexpr int THREADS = 128;
constexpr u32 TILE = 64;

// A tile in shared memory: 64 lines of 64 numbers, 16 bytes apart. Eight lines in a row start in eight different groups of
// four banks: 16-byte reads and ldmatrix down the lines have no conflicts.
template <class T> constexpr u32 PER = 16 / sizeof(T);
template <class T> constexpr u32 PITCH = TILE * sizeof(T) + 16;
template <class T> constexpr u32 TILE_BYTES = TILE * PITCH<T>;

__device__ __forceinline__ u32 lane() { return threadIdx.x % 32; }
__device__ __forceinline__ u32 first_row() { return threadIdx.x / 32 * 16; }

// What a block works on.
struct Place {
    u32 sequence;
    u32 first; // row of the sequence
    u32 rows;  // of the sequence
    u32 begin; // of the tile within the sequence
    u32 head, chunk;
};

// Blocks are dealt to the tiles of all sequences, heads within a tile, chunks within a head. False behind the last tile.
// Every warp searches for itself, 32 sequences at a time.
__device__ __forceinline__ bool find(const Attention &p, Place &at) {
    at.chunk = blockIdx.x % p.chunks;
    at.head = blockIdx.x / p.chunks % p.heads;
    u32 tile = blockIdx.x / p.chunks / p.heads;
    for (u32 base = 0; base < p.sequences; base += 32) {
        const u32 sequence = base + lane();
        u32 first = 0, rows = 0;
        if (sequence < p.sequences) {
            first = p.offsets[sequence];
            rows = p.offsets[sequence + 1] - first;
        }
        const u32 tiles = (rows + TILE - 1) / TILE;
        u32 upto = tiles;
        for (u32 step = 1; step < 32; step *= 2) {
            const u32 before = __shfl_up_sync(0xffffffffu, upto, step);
            if (lane() >= step) upto += before;
        }
        const u32 found = __ballot_sync(0xffffffffu, tile < upto);
        if (found) {
            const int owner = __ffs(found) - 1;
            at.sequence = base + owner;
            at.first = __shfl_sync(0xffffffffu, first, owner);
            at.rows = __shfl_sync(0xffffffffu, rows, owner);
            at.begin = (tile - __shfl_sync(0xffffffffu, upto - tiles, owner)) * TILE;
            return true;
        }
        tile -= __shfl_sync(0xffffffffu, upto, 31);
    }
    return false;
}

// Copies rows begin .. end of the sequence, at most 64, of a chunk of features into a tile, zeros where there are none.
template <class T>
__device__ __forceinline__ void load(const Attention &p, const Place &at, char *tile, const void *matrix, u32 begin, u32 end, u32 chunk) {
    constexpr u32 ACROSS = TILE / PER<T>;
    const u32 line = threadIdx.x / ACROSS, along = threadIdx.x % ACROSS * PER<T>, feature = chunk * TILE + along;
    const u64 stride = u64(p.heads) * p.depth;
    const T *all = static_cast<const T *>(matrix);
    const T *from = all + (at.first + begin + line) * stride + at.head * p.depth + feature;
    char *to = tile + line * PITCH<T> + along * sizeof(T);
#pragma unroll 1 // inlined where it is called, it would be most of the text
    for (u32 down = line; down < TILE; down += THREADS / ACROSS) {
        const bool row = begin + down < end;
        if (p.vector) {
            const bool any = row && feature < p.depth;
            ptx::cp_async_16(to, any ? from : all, any ? 16 : 0);
        } else {
#pragma unroll
            for (u32 e = 0; e < PER<T>; ++e)
                reinterpret_cast<T *>(to)[e] = row && feature + e < p.depth ? from[e] : narrow<T>(0.0f);
        }
        from += THREADS / ACROSS * stride;
        to += THREADS / ACROSS * PITCH<T>;
    }
}

// 64 x 64 sums, 32 of each thread: c[i][j] stands in the thread's row `slot(i, j)`, which is row `row(slot)` of the tile.
// Of the other side's rows the first `groups` times 16 count; none for warps all of whose own rows lie behind the end.
template <class T> struct Sums;

// Lanes are two rows of 16; a thread has eight rows and four columns.
template <> struct Sums<float> {
    static constexpr int SLOTS = 8, LANES = 16; // rows of a thread; neighbouring lanes that share them
    float c[8][4] = {};

    static __device__ __forceinline__ int slot(int i, int) { return i; }
    static __device__ __forceinline__ u32 row(int slot) { return first_row() + 2 * slot + lane() / 16; }
    // Columns of sums by `rows` and by `weighted`.
    static __device__ __forceinline__ u32 across(int, int j) { return lane() % 16 + 16 * j; }
    static __device__ __forceinline__ u32 along(int, int j) { return lane() % 16 * 4 + j; }

    // c += a · bT over 16 * steps numbers of the lines.
    __device__ __forceinline__ void rows(const char *a, const char *b, u32 steps, u32 groups) {
        if (groups == 0) return;
        for (u32 k = 0; k < 16 * steps; k += 4) {
            float4 y[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) y[j] = *reinterpret_cast<const float4 *>(b + across(0, j) * PITCH<float> + k * 4);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const float4 x = *reinterpret_cast<const float4 *>(a + row(i) * PITCH<float> + k * 4);
#pragma unroll
                for (int j = 0; j < 4; ++j) {
                    c[i][j] += x.x * y[j].x;
                    c[i][j] += x.y * y[j].y;
                    c[i][j] += x.z * y[j].z;
                    c[i][j] += x.w * y[j].w;
                }
            }
        }
    }

    // c += weights · b, the weights being sums by `rows`; they go through the warp's own lines of `scratch`.
    __device__ __forceinline__ void weighted(const Sums &weights, char *scratch, const char *b, u32 groups) {
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j)
                *reinterpret_cast<float *>(scratch + row(i) * PITCH<float> + across(i, j) * 4) = weights.c[i][j];
        __syncwarp();
        for (u32 k = 0; k < 16 * groups; k += 4) {
            float4 y[4];
#pragma unroll
            for (int e = 0; e < 4; ++e) y[e] = *reinterpret_cast<const float4 *>(b + (k + e) * PITCH<float> + along(0, 0) * 4);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const float4 x = *reinterpret_cast<const float4 *>(scratch + row(i) * PITCH<float> + k * 4);
                const float w[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    c[i][0] += w[e] * y[e].x;
                    c[i][1] += w[e] * y[e].y;
                    c[i][2] += w[e] * y[e].z;
                    c[i][3] += w[e] * y[e].w;
                }
            }
        }
        __syncwarp(); // the lines are read before they are written again
    }
};

// c[j] is the j-th product of 16 x 8 of the warp's rows.
template <> struct Sums<bf16> {
    static constexpr int SLOTS = 2, LANES = 4;
    float c[8][4] = {};

    static __device__ __forceinline__ int slot(int, int j) { return j / 2; }
    static __device__ __forceinline__ u32 row(int slot) { return first_row() + 8 * slot + lane() / 4; }
    static __device__ __forceinline__ u32 across(int i, int j) { return 8 * i + lane() % 4 * 2 + j % 2; }
    static __device__ __forceinline__ u32 along(int i, int j) { return across(i, j); }

    __device__ __forceinline__ void rows(const char *a, const char *b, u32 steps, u32 groups) {
        if (groups == 0) return;
        const u32 eighth = lane() / 8, in = lane() % 8;
        a += (first_row() + eighth % 2 * 8 + in) * PITCH<bf16> + eighth / 2 * 16;
        b += (eighth / 2 * 8 + in) * PITCH<bf16> + eighth % 2 * 16;
        for (u32 step = 0; step < steps; ++step) {
            unsigned x[4], y[4];
            ptx::ldmatrix_x4(x, a + step * 32);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) {
                if (i >= groups) break;
                ptx::ldmatrix_x4(y, b + 16 * i * PITCH<bf16> + step * 32);
                ptx::mma_m16n8k16(c[2 * i], x, y[0], y[1]);
                ptx::mma_m16n8k16(c[2 * i + 1], x, y[2], y[3]);
            }
        }
    }

    // Sums of two products side by side are, rounded, an operand of 16 x 16.
    __device__ __forceinline__ void weighted(const Sums &weights, char *, const char *b, u32 groups) {
        const u32 eighth = lane() / 8, in = lane() % 8;
        b += (eighth % 2 * 8 + in) * PITCH<bf16> + eighth / 2 * 16;
#pragma unroll
        for (u32 k = 0; k < 4; ++k) {
            if (k >= groups) break;
            const float(&left)[4] = weights.c[2 * k], (&right)[4] = weights.c[2 * k + 1];
            const unsigned x[4] = {ptx::bf16x2_of(left[0], left[1]), ptx::bf16x2_of(left[2], left[3]),
                                   ptx::bf16x2_of(right[0], right[1]), ptx::bf16x2_of(right[2], right[3])};
            unsigned y[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                ptx::ldmatrix_x4_trans(y, b + 16 * k * PITCH<bf16> + 32 * i);
                ptx::mma_m16n8k16(c[2 * i], x, y[0], y[1]);
                ptx::mma_m16n8k16(c[2 * i + 1], x, y[2], y[3]);
            }
        }
    }
};

// Calls f(i, j) for the 32 sums of a thread.
template <class F> __device__ __forceinline__ void each(F f) {
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) f(i, j);
}

// Writes the sums of a chunk of features to the tile's rows, by way of the warp's own lines of `tile`, which nobody else
// reads.
template <class T>
__device__ __forceinline__ void store(const Attention &p, const Place &at, const Sums<T> &sums, char *tile, void *matrix) {
    constexpr u32 ACROSS = TILE / PER<T>;
    __syncwarp();
    each([&](int i, int j) {
        char *line = tile + Sums<T>::row(Sums<T>::slot(i, j)) * PITCH<T>;
        reinterpret_cast<T *>(line)[Sums<T>::along(i, j)] = narrow<T>(sums.c[i][j]);
    });
    __syncwarp();
    const u32 along = lane() % ACROSS * PER<T>, feature = at.chunk * TILE + along;
    for (u32 line = first_row() + lane() / ACROSS; line < first_row() + 16; line += 32 / ACROSS) {
        if (at.begin + line >= at.rows || feature >= p.depth) continue;
        const char *from = tile + line * PITCH<T> + along * sizeof(T);
        T *to = static_cast<T *>(matrix) + (u64(at.first + at.begin + line) * p.heads + at.head) * p.depth + feature;
        if (p.vector) {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
        } else {
#pragma unroll
            for (u32 e = 0; e < PER<T>; ++e)
                if (feature + e < p.depth) to[e] = reinterpret_cast<const T *>(from)[e];
        }
    }
}

// Steps of 16 features of a chunk.
__device__ __forceinline__ u32 steps_of(const Attention &p, u32 chunk) { return (min(p.depth - chunk * TILE, TILE) + 15) / 16; }

// Groups of 16 of the other side's rows begin .. end, for a warp with rows before `own_end`.
__device__ __forceinline__ u32 groups_of(const Place &at, u32 own_end, u32 begin, u32 end) {
    return at.begin + first_row() < own_end ? (min(end - begin, TILE) + 15) / 16 : 0;
}

// context and lse of a tile of queries, the softmax online: with m the highest logit so far, sums of exp(logit - m) and of
// exp(logit - m) · v, scaled when m grows. While one of k and v is multiplied the other is copied.
template <class T> __device__ __forceinline__ void forward(const Attention &p) {
    extern __shared__ __align__(16) char shared[];
    Place at;
    if (!find(p, at)) return;
    char *q = shared, *k = q + TILE_BYTES<T>, *v = k + TILE_BYTES<T>, *scratch = v + TILE_BYTES<T>;
    const u32 keys = p.lengths[at.sequence];
    using Tile = Sums<T>;
    Tile sums;
    float highest[Tile::SLOTS], total[Tile::SLOTS];
#pragma unroll
    for (int slot = 0; slot < Tile::SLOTS; ++slot) highest[slot] = __int_as_float(0xff800000), total[slot] = 0.0f;
    auto load_operands = [&](u32 begin, u32 chunk) {
        if (p.chunks > 1 || begin == 0) load<T>(p, at, q, p.q, at.begin, at.rows, chunk);
        load<T>(p, at, k, p.k, begin, keys, chunk);
        ptx::cp_async_commit();
    };
    load_operands(0, 0);
    for (u32 begin = 0; begin < keys; begin += TILE) {
        load<T>(p, at, v, p.v, begin, keys, at.chunk);
        ptx::cp_async_commit();
        const u32 groups = groups_of(at, at.rows, begin, keys);
        Tile weights;
        for (u32 chunk = 0; chunk < p.chunks; ++chunk) {
            if (chunk == 0) ptx::cp_async_wait<1>();
            else ptx::cp_async_wait<0>();
            __syncthreads(); // q and k have come
            weights.rows(q, k, steps_of(p, chunk), groups);
            __syncthreads(); // and are read
            if (chunk + 1 < p.chunks) load_operands(begin, chunk + 1);
        }
        if (begin + TILE < keys) load_operands(begin + TILE, 0);
        else ptx::cp_async_commit(); // a group in any case: so one wait serves all tiles
        float peak[Tile::SLOTS];
#pragma unroll
        for (int slot = 0; slot < Tile::SLOTS; ++slot) peak[slot] = highest[slot];
        each([&](int i, int j) {
            float &weight = weights.c[i][j], &most = peak[Tile::slot(i, j)];
            weight = begin + Tile::across(i, j) < keys ? weight * p.scale : __int_as_float(0xff800000);
            most = fmaxf(most, weight);
        });
#pragma unroll
        for (int slot = 0; slot < Tile::SLOTS; ++slot) {
            for (int step = Tile::LANES / 2; step > 0; step /= 2)
                peak[slot] = fmaxf(peak[slot], __shfl_xor_sync(0xffffffffu, peak[slot], step));
            const float kept = expf(highest[slot] - peak[slot]);
            highest[slot] = peak[slot];
            total[slot] *= kept;
            peak[slot] = kept;
        }
        each([&](int i, int j) {
            const int slot = Tile::slot(i, j);
            weights.c[i][j] = expf(weights.c[i][j] - highest[slot]);
            total[slot] += weights.c[i][j];
            sums.c[i][j] *= peak[slot];
        });
        ptx::cp_async_wait<1>();
        __syncthreads(); // v has come
        sums.weighted(weights, scratch, v, groups);
        __syncthreads(); // and is read
    }
    ptx::cp_async_wait<0>();
#pragma unroll
    for (int slot = 0; slot < Tile::SLOTS; ++slot) {
        for (int step = Tile::LANES / 2; step > 0; step /= 2) total[slot] += __shfl_xor_sync(0xffffffffu, total[slot], step);
        const u32 row = at.begin + Tile::row(slot);
        if (at.chunk == 0 && lane() % Tile::LANES == 0 && row < at.rows)
            p.lse[u64(at.first + row) * p.heads + at.head] = highest[slot] + logf(total[slot]);
    }
    each([&](int i, int j) { sums.c[i][j] /= total[Tile::slot(i, j)]; });
    store(p, at, sums, q, p.out);
}

// What both kernels of the gradient need of a block.
template <class T> struct Gradient {
    char *a, *a2, *b, *b2, *scratch;
    float *lse, *delta; // of 64 queries

    __device__ __forceinline__ explicit Gradient(char *shared) {
        lse = reinterpret_cast<float *>(shared), delta = lse + TILE;
        a = shared + 2 * TILE * sizeof(float), a2 = a + TILE_BYTES<T>;
        b = a2 + TILE_BYTES<T>, b2 = b + TILE_BYTES<T>, scratch = b2 + TILE_BYTES<T>;
    }
};

// Chunk by chunk, s += a · bT and t += a2 · b2T; a and a2 from rows `begin` of x and x2, b and b2 from rows `other` of y and
// y2. In the end b and b2 hold the chunk of the result.
template <class T>
__device__ __forceinline__ void products(const Attention &p, const Place &at, const Gradient<T> &in, Sums<T> &s, Sums<T> &t,
                                         const void *x, const void *x2, u32 end, bool first, const void *y, const void *y2,
                                         u32 other, u32 other_end) {
    const u32 groups = groups_of(at, end, other, other_end);
    auto load_other = [&](u32 chunk) {
        load<T>(p, at, in.b, y, other, other_end, chunk);
        load<T>(p, at, in.b2, y2, other, other_end, chunk);
        ptx::cp_async_commit();
        ptx::cp_async_wait<0>();
        __syncthreads();
    };
    for (u32 chunk = 0; chunk < p.chunks; ++chunk) {
        __syncthreads(); // what lies there is read
        if (first || p.chunks > 1) {
            load<T>(p, at, in.a, x, at.begin, end, chunk);
            load<T>(p, at, in.a2, x2, at.begin, end, chunk);
        }
        load_other(chunk);
        s.rows(in.a, in.b, steps_of(p, chunk), groups);
        t.rows(in.a2, in.b2, steps_of(p, chunk), groups);
    }
    if (p.chunks > 1) {
        __syncthreads();
        load_other(at.chunk);
    }
}

// delta and dq of a tile of queries: dq = sum over keys of ds · k, ds = p · (d_context · v - delta) / sqrt D.
template <class T> __device__ __forceinline__ void queries(const Attention &p) {
    extern __shared__ __align__(16) char shared[];
    Place at;
    if (!find(p, at)) return;
    const Gradient<T> in(shared);
    const u32 keys = p.lengths[at.sequence];
    // Four rows of the warp at a time, by eight lanes each.
#pragma unroll
    for (u32 turn = 0; turn < 4; ++turn) {
        const u32 line = first_row() + 4 * turn + lane() / 8;
        const bool any = at.begin + line < at.rows;
        const u64 row = u64(at.first + at.begin + line) * p.heads + at.head, from = row * p.depth;
        float sum = 0.0f;
        for (u32 feature = lane() % 8 * EIGHT; any && feature < p.depth; feature += 8 * EIGHT) {
            float d[8], c[8];
            load8(d, static_cast<const T *>(p.d_context) + from + feature, p.depth - feature, p.vector);
            load8(c, static_cast<const T *>(p.context) + from + feature, p.depth - feature, p.vector);
#pragma unroll
            for (u32 e = 0; e < EIGHT; ++e) sum += d[e] * c[e];
        }
        for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane() % 8 == 0) {
            in.delta[line] = sum;
            in.lse[line] = any ? p.lse[row] : 0.0f;
            if (any && at.chunk == 0) p.delta[row] = sum;
        }
    }
    using Tile = Sums<T>;
    Tile sums;
    for (u32 begin = 0; begin < keys; begin += TILE) {
        Tile s, t;
        products(p, at, in, s, t, p.q, p.d_context, at.rows, begin == 0, p.k, p.v, begin, keys);
        each([&](int i, int j) {
            const u32 row = Tile::row(Tile::slot(i, j));
            const float weight = begin + Tile::across(i, j) < keys ? expf(s.c[i][j] * p.scale - in.lse[row]) : 0.0f;
            s.c[i][j] = weight * (t.c[i][j] - in.delta[row]) * p.scale;
        });
        sums.weighted(s, in.scratch, in.b, groups_of(at, at.rows, begin, keys));
    }
    store(p, at, sums, in.a, p.out);
}

// dk and dv of a tile of keys: dv = sum over queries of p · d_context, dk = sum of ds · q. Rows that are no keys get zeros.
template <class T> __device__ __forceinline__ void keys(const Attention &p) {
    extern __shared__ __align__(16) char shared[];
    Place at;
    if (!find(p, at)) return;
    const Gradient<T> in(shared);
    const u32 keys = p.lengths[at.sequence];
    using Tile = Sums<T>;
    Tile dk, dv;
    const u32 queries = at.begin < keys ? at.rows : 0;
    for (u32 begin = 0; begin < queries; begin += TILE) {
        __syncthreads(); // lse and delta are read
        if (threadIdx.x < TILE) {
            const u64 row = u64(at.first + begin + threadIdx.x) * p.heads + at.head;
            const bool any = begin + threadIdx.x < queries;
            in.lse[threadIdx.x] = any ? p.lse[row] : 0.0f;
            in.delta[threadIdx.x] = any ? p.delta[row] : 0.0f;
        }
        Tile s, t;
        products(p, at, in, s, t, p.k, p.v, keys, begin == 0, p.q, p.d_context, begin, queries);
        each([&](int i, int j) {
            const u32 query = Tile::across(i, j);
            const bool any = begin + query < queries && at.begin + Tile::row(Tile::slot(i, j)) < keys;
            s.c[i][j] = any ? expf(s.c[i][j] * p.scale - in.lse[query]) : 0.0f;
            t.c[i][j] = s.c[i][j] * (t.c[i][j] - in.delta[query]) * p.scale;
        });
        const u32 groups = groups_of(at, keys, begin, queries);
        dv.weighted(s, in.scratch, in.b2, groups);
        dk.weighted(t, in.scratch, in.b, groups);
    }
    store(p, at, dk, in.a, p.out);
    store(p, at, dv, in.a2, p.second);
}

// context = softmax(q · kT / sqrt D) · v, lse = log of the sum of exp(logits).
//   q, k, v, out   see Attention; lse [rows, heads] f32
//   launch         grid chunks * heads * (rows / 64 + sequences), block 128, 3 tiles of shared memory, f32 one more
//   sums           f32: q · k in order of features, the softmax and its product with v in order of keys, tile by tile
//   assumes        lengths of at least 1, offsets that do not fall; the op's contract
extern "C" __global__ void __launch_bounds__(THREADS) attention_fwd_f32_any_sm80(const Attention p) { forward<float>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) attention_fwd_bf16_any_sm80(const Attention p) { forward<bf16>(p); }

// delta = sum over features of d_context · context; dq = ds · k.
//   q, k, v, d_context, context, lse, out   see Attention; delta [rows, heads] f32 is written
//   launch   as above, with 512 bytes and 4 tiles of shared memory, f32 one more
//   sums     f32: delta by eight lanes, eight features in turn, and a butterfly; dq in order of keys
extern "C" __global__ void __launch_bounds__(THREADS) attention_bwd_f32_dq_sm80(const Attention p) { queries<float>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) attention_bwd_bf16_dq_sm80(const Attention p) { queries<bf16>(p); }

// dk = dsT · q into `out`, dv = pT · d_context into `second`; delta is there.
//   launch   as dq, behind it
//   sums     f32, in order of queries
extern "C" __global__ void __launch_bounds__(THREADS) attention_bwd_f32_dkv_sm80(const Attention p) { keys<float>(p); }
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_bwd_bf16_dkv_sm80(const Attention p) { keys<bf16>(p); }
