// Attention on Hopper's tensor cores: that of attention.cu for heads of 64 features, by wgmma out of tiles that the copy engine brings.
//
// An item is a head of a sequence, and a block goes round the items. A third warpgroup produces: one of its threads has the copy engine
// bring tiles of 64 rows x 64 features, two to a stage of shared memory, while warps 0 to 3 and 4 to 7, a warpgroup each, have
// 64 rows each of a group of 128 and multiply them with the stages that follow. These 64 rows are operands in registers, and so is
// what is made of products; nothing of the size of queries x keys leaves them. A barrier `full` of a stage counts the bytes that
// arrived, a barrier `empty` the warps that are done with it. Lines of a tile have 128 bytes, swizzled.
//
// Tiles may reach behind the end of a sequence. Of rows that are summed over (lines of the right operand) what lies there is
// overwritten with zeros, for it need not be finite; rows of results are not stored.
#include "include/hopper.cuh"

constexpr u32 WARPS = 8; // that multiply
constexpr u32 TILE = 64; // rows, and features of a head
constexpr u32 TILE_BYTES = TILE * 128;
constexpr u32 STAGE = 2 * TILE_BYTES;
constexpr u32 STAGES = 8;
constexpr u32 RESULTS = STAGES * STAGE;            // 16 lines of 128 bytes for each warp
constexpr u32 STATISTICS = RESULTS + WARPS * 2048; // of the gradient: of each warpgroup twice 64 float2
constexpr u32 BARRIERS = STATISTICS + 2 * 2 * TILE * 8;
constexpr float LOG2_E = 1.4426950408889634f;

struct Attention {
    TensorMap q, k, v, d_context, context; // of [rows, heads, 64] in boxes of 64 rows of a head; the last two of the gradient
    const i32 *offsets;                    // [sequences + 1], rows
    const i32 *lengths;                    // [sequences], keys of each, at most its rows
    float *lse;                            // [rows, heads], written by fwd, read by the gradient
    float2 *statistics;                    // [heads, rows] of the gradient: lse * log2 e and delta
    bf16 *out, *dk, *dv;                   // context or dq; of the gradient: [rows, heads, 64]
    u32 rows, sequences, heads;
    float scale;                           // 1 / sqrt(64)
};

extern __shared__ __align__(1024) char memory[];

__device__ __forceinline__ u32 lane() { return threadIdx.x % 32; }

// A head of a sequence.
struct Item {
    u32 head;
    u32 first; // row of the sequence
    u32 rows;  // of the sequence
    u32 keys;  // first of these

    __device__ __forceinline__ Item(const Attention &p, u32 number) {
        u32 sequence = number / p.heads;
        head = number - sequence * p.heads;
        first = p.offsets[sequence];
        rows = p.offsets[sequence + 1] - first;
        keys = p.lengths[sequence];
    }
};

// Which stage is next, and the parity of its phase.
struct Ring {
    u32 memory, stage = 0, phase = 0;

    __device__ __forceinline__ explicit Ring(u32 memory) : memory(memory) {}
    __device__ __forceinline__ u32 full() const { return memory + BARRIERS + 8 * stage; }
    __device__ __forceinline__ u32 empty() const { return full() + 8 * STAGES; }
    // One of the two tiles.
    __device__ __forceinline__ u32 tile(u32 which) const { return memory + stage * STAGE + which * TILE_BYTES; }
    __device__ __forceinline__ void advance() {
        if (++stage == STAGES) stage = 0, phase ^= 1;
    }
    // For the producer: waits for room and fills it with tiles of the head, from these rows on. A stage begins empty, so the
    // first wait is for the phase before.
    __device__ __forceinline__ void bring(u32 head, const TensorMap &one, u32 row, const TensorMap &two, u32 row2) {
        ptx::mbarrier_wait(empty(), phase ^ 1);
        ptx::mbarrier_expect(full(), STAGE);
        ptx::copy_box(tile(0), one, full(), 0, head, row);
        ptx::copy_box(tile(1), two, full(), 0, head, row2);
        advance();
    }
    // For those who multiply: what was brought is there, and is no longer needed by this warp.
    __device__ __forceinline__ void wait() const { ptx::mbarrier_wait(full(), phase); }
    __device__ __forceinline__ void release() {
        if (lane() == 0) ptx::mbarrier_arrive(empty());
        advance();
    }
};

// Makes the barriers, once.
__device__ __forceinline__ u32 prepare() {
    u32 base = ptx::shared_address(memory);
    if (threadIdx.x == 0) {
        for (u32 stage = 0; stage < STAGES; ++stage) {
            ptx::mbarrier_init(base + BARRIERS + 8 * stage, 1);
            ptx::mbarrier_init(base + BARRIERS + 8 * (STAGES + stage), WARPS);
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    return base;
}

// The 16 bytes of a tile, or of 16 lines of one, that hold features 8 * chunk and on of a line.
__device__ __forceinline__ u32 place(u32 line, u32 chunk) { return 128 * line + 16 * (chunk ^ line % 8); }

// This warp's 16 lines of one of the tiles of a stage, the left operand of a product.
__device__ __forceinline__ void own_lines(u32 (&a)[16], u32 stage, u32 which) {
    const char *tile = memory + stage * STAGE + which * TILE_BYTES;
    const u32 line = threadIdx.x % 128 / 32 * 16 + lane() % 16;
#pragma unroll
    for (u32 step = 0; step < 4; ++step) {
        u32 four[4];
        ptx::ldmatrix_x4(four, tile + place(line, 2 * step + lane() / 16));
#pragma unroll
        for (u32 at = 0; at < 4; ++at) a[4 * step + at] = four[at];
    }
}

// Sums of a product, rounded, as the left operand of another. Of a thread they are, eight columns at a time, two neighbours in
// row lane / 4 of its warp's 16 and two eight rows further.
__device__ __forceinline__ void operand(u32 (&a)[16], const float (&sums)[32]) {
#pragma unroll
    for (u32 at = 0; at < 16; ++at) a[at] = ptx::bf16x2_of(sums[2 * at], sums[2 * at + 1]);
}

// Column of a sum.
__device__ __forceinline__ u32 column(u32 at) { return at / 4 * 8 + lane() % 4 * 2 + at % 2; }

// The right operand of a product: a tile whose lines are columns, or rows. Swizzled by 128 bytes; eight lines are 1024 bytes.
// Addresses count 16 bytes.
__device__ __forceinline__ u64 descriptor(u32 tile) { return 0x4000004002000000 | (tile & 0x3ffff) >> 4; }

// All who multiply.
__device__ __forceinline__ void meet() { ptx::bar_sync<32 * WARPS>(1); }

// Overwrites lines from `valid` on of both tiles of a stage with zeros; all who multiply do so.
__device__ __forceinline__ void clear(u32 stage, u32 valid) {
    char *tiles = memory + stage * STAGE;
#pragma unroll 1 // two turns at most
    for (u32 piece = valid * 8 + threadIdx.x; piece < TILE * 8; piece += 32 * WARPS) {
        *reinterpret_cast<uint4 *>(tiles + 16 * piece) = {0, 0, 0, 0};
        *reinterpret_cast<uint4 *>(tiles + TILE_BYTES + 16 * piece) = {0, 0, 0, 0};
    }
    ptx::fence_proxy_async();
    meet();
}

// The row in its sequence of line 0 of this warp's 16, in the group of 128 rows from `begin` on.
__device__ __forceinline__ u32 own_row(u32 begin) { return begin + threadIdx.x / 32 * 16; }

// Stores the sums of this warp, times `factor` by row, to rows `row` and on of a head of the sequence, as far as it has them. By then
// the warp has met since it stored last.
__device__ __forceinline__ void store(const Attention &p, const Item &item, bf16 *to, const float (&sums)[32], const float (&factor)[2],
                                      u32 row) {
    char *own = memory + RESULTS + threadIdx.x / 32 * 2048;
#pragma unroll
    for (u32 at = 0; at < 32; at += 2) {
        const u32 half = at / 2 % 2;
        *reinterpret_cast<u32 *>(own + place(lane() / 4 + 8 * half, at / 4) + lane() % 4 * 4) =
            ptx::bf16x2_of(sums[at] * factor[half], sums[at + 1] * factor[half]);
    }
    __syncwarp();
#pragma unroll
    for (u32 line = lane() / 8; line < 16; line += 4) {
        if (row + line < item.rows)
            *reinterpret_cast<uint4 *>(to + (u64(item.first + row + line) * p.heads + item.head) * TILE + lane() % 8 * 8) =
                *reinterpret_cast<const uint4 *>(own + place(line, lane() % 8));
    }
}

// The softmax of a group's rows, online: of each of a thread's two rows the highest product with a key so far and the sum of
// exp(logit - highest).
struct Softmax {
    float highest[2], total[2];

    __device__ __forceinline__ Softmax() : highest{__int_as_float(0xff800000), __int_as_float(0xff800000)}, total{0, 0} {}

    // Puts weights in the place of products with a tile of keys. `scale` is to the base 2; `sums` are scaled to the new highest.
    __device__ __forceinline__ void add(float (&weights)[32], float (&sums)[32], float scale) {
        float kept[2], least[2];
#pragma unroll
        for (u32 row = 0; row < 2; ++row) {
            float most = highest[row];
#pragma unroll
            for (u32 at = 2 * row; at < 32; at += 4) most = fmaxf(most, fmaxf(weights[at], weights[at + 1]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            kept[row] = ptx::ex2((highest[row] - most) * scale);
            highest[row] = most;
            least[row] = -most * scale;
            total[row] *= kept[row];
        }
#pragma unroll
        for (u32 at = 0; at < 32; ++at) {
            const u32 row = at / 2 % 2;
            weights[at] = ptx::ex2(fmaf(weights[at], scale, least[row]));
            total[row] += weights[at];
            sums[at] *= kept[row];
        }
    }
};

__device__ __forceinline__ void bring_forward(const Attention &p, Ring ring) {
    for (u32 number = blockIdx.x; number < p.sequences * p.heads; number += gridDim.x) {
        const Item item(p, number);
        for (u32 begin = 0; begin < item.rows; begin += 2 * TILE) {
            ring.bring(item.head, p.q, item.first + begin, p.q, item.first + begin + TILE);
            for (u32 key = 0; key < item.keys; key += TILE) ring.bring(item.head, p.k, item.first + key, p.v, item.first + key);
        }
    }
}

// context and lse of a group of queries.
__device__ __forceinline__ void attend(const Attention &p, const Item &item, Ring &ring, u32 begin) {
    u32 q[16], operands[16];
    ring.wait();
    own_lines(q, ring.stage, threadIdx.x / 128);
    __syncwarp(); // all lanes have read
    ring.release();
    Softmax softmax;
    float sums[32] = {};
    for (u32 key = 0; key < item.keys; key += TILE) {
        const u32 valid = item.keys - key;
        ring.wait();
        if (valid < TILE) clear(ring.stage, valid);
        float weights[32];
        ptx::wgmma_k64<0, 0>(weights, q, descriptor(ring.tile(0)));
        if (valid < TILE) {
#pragma unroll
            for (u32 at = 0; at < 32; ++at) weights[at] = column(at) < valid ? weights[at] : __int_as_float(0xff800000);
        }
        softmax.add(weights, sums, p.scale * LOG2_E);
        operand(operands, weights);
        ptx::wgmma_k64<1, 1>(sums, operands, descriptor(ring.tile(1)));
        ring.release();
    }
    float share[2];
    const u32 row = own_row(begin);
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        float total = softmax.total[half];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        share[half] = 1 / total;
        const u32 own = row + lane() / 4 + 8 * half;
        if (lane() % 4 == 0 && own < item.rows)
            p.lse[u64(item.first + own) * p.heads + item.head] = softmax.highest[half] * p.scale + logf(total);
    }
    store(p, item, p.out, sums, share, row);
}

__device__ __forceinline__ void forward(const Attention &p) {
    Ring ring(prepare());
    if (threadIdx.x >= 32 * WARPS) {
        if (threadIdx.x == 32 * WARPS) bring_forward(p, ring);
        return;
    }
    for (u32 number = blockIdx.x; number < p.sequences * p.heads; number += gridDim.x) {
        const Item item(p, number);
        for (u32 begin = 0; begin < item.rows; begin += 2 * TILE) attend(p, item, ring, begin);
    }
}

// The producer of the gradient: all groups of queries, then all groups of keys.
__device__ __forceinline__ void bring_backward(const Attention &p, Ring ring) {
    for (u32 number = blockIdx.x; number < p.sequences * p.heads; number += gridDim.x) {
        const Item item(p, number);
        auto bring = [&](const TensorMap &one, const TensorMap &two, u32 row) {
            ring.bring(item.head, one, item.first + row, two, item.first + row);
        };
        for (u32 begin = 0; begin < item.rows; begin += 2 * TILE) {
            ring.bring(item.head, p.context, item.first + begin, p.context, item.first + begin + TILE);
            bring(p.q, p.d_context, begin);
            bring(p.q, p.d_context, begin + TILE);
            for (u32 key = 0; key < item.keys; key += TILE) bring(p.k, p.v, key);
        }
        for (u32 begin = 0; begin < item.keys; begin += 2 * TILE) {
            bring(p.k, p.v, begin);
            bring(p.k, p.v, begin + TILE);
            for (u32 row = 0; row < item.rows; row += TILE) bring(p.q, p.d_context, row);
        }
    }
}

// This warp's lines of the two tiles that its warpgroup has, of the two stages that follow.
__device__ __forceinline__ void own_pair(u32 (&one)[16], u32 (&two)[16], Ring &ring) {
#pragma unroll 1
    for (u32 group = 0; group < 2; ++group) {
        ring.wait();
        if (threadIdx.x / 128 == group) {
            own_lines(one, ring.stage, 0);
            own_lines(two, ring.stage, 1);
            __syncwarp(); // all lanes have read
        }
        ring.release();
    }
}

// lse * log2 e and delta of this thread's two queries: delta is the sum over features of d_context * context, of which the thread has
// a quarter. For the groups of keys they are written too.
__device__ __forceinline__ void statistics(const Attention &p, const Item &item, float2 (&own)[2], const u32 (&context)[16],
                                           const u32 (&d_context)[16], u32 begin) {
    float delta[2] = {};
#pragma unroll
    for (u32 at = 0; at < 16; ++at) {
        const float low = __uint_as_float(context[at] << 16) * __uint_as_float(d_context[at] << 16);
        delta[at % 2] += low + __uint_as_float(context[at] & 0xffff0000u) * __uint_as_float(d_context[at] & 0xffff0000u);
    }
#pragma unroll
    for (u32 half = 0; half < 2; ++half) {
        delta[half] += __shfl_xor_sync(0xffffffffu, delta[half], 1);
        delta[half] += __shfl_xor_sync(0xffffffffu, delta[half], 2);
        const u32 row = own_row(begin) + lane() / 4 + 8 * half;
        const u64 at = item.first + row;
        own[half] = {row < item.rows ? p.lse[at * p.heads + item.head] * LOG2_E : 0.0f, delta[half]};
        if (lane() % 4 == 0 && row < item.rows) p.statistics[u64(item.head) * p.rows + at] = own[half];
    }
}

// dq of a group of queries.
__device__ __forceinline__ void query_gradient(const Attention &p, const Item &item, Ring &ring, u32 begin) {
    u32 context[16], q[16], d_context[16];
    ring.wait();
    own_lines(context, ring.stage, threadIdx.x / 128);
    __syncwarp(); // all lanes have read
    ring.release();
    own_pair(q, d_context, ring);
    float2 own[2];
    statistics(p, item, own, context, d_context, begin);
    float dq[32] = {};
    for (u32 key = 0; key < item.keys; key += TILE) {
        const u32 valid = item.keys - key;
        ring.wait();
        if (valid < TILE) clear(ring.stage, valid);
        float s[32], t[32];
        ptx::wgmma_k64<0, 0>(s, q, descriptor(ring.tile(0)), t, d_context, descriptor(ring.tile(1)));
#pragma unroll
        for (u32 at = 0; at < 32; ++at) {
            const float2 &row = own[at / 2 % 2];
            s[at] = ptx::ex2(fmaf(s[at], p.scale * LOG2_E, -row.x)) * (t[at] - row.y);
        }
        if (valid < TILE) {
#pragma unroll
            for (u32 at = 0; at < 32; ++at) s[at] = column(at) < valid ? s[at] : 0.0f;
        }
        u32 ds[16];
        operand(ds, s);
        ptx::wgmma_k64<1, 1>(dq, ds, descriptor(ring.tile(0)));
        ring.release();
    }
    const float scales[2] = {p.scale, p.scale};
    store(p, item, p.out, dq, scales, own_row(begin));
}

// Adds up dk / scale and dv of a group of keys. `turn` counts tiles of queries, whose statistics lie in one of two places in turn.
__device__ __forceinline__ void sum_keys(const Attention &p, const Item &item, Ring &ring, u32 &turn, u32 begin, float (&dk)[32],
                                         float (&dv)[32]) {
    u32 k[16], v[16];
    own_pair(k, v, ring);
    const u32 group = threadIdx.x / 128, own = threadIdx.x % 128;
    // Behind the last query attention is zero.
    auto fetch = [&](u32 row) -> float2 {
        if (row >= item.rows) return {__int_as_float(0x7f800000), 0.0f};
        return p.statistics[u64(item.head) * p.rows + item.first + row];
    };
    float2 next = fetch(own);
    for (u32 row = 0; row < item.rows; row += TILE) {
        float2 *queries = reinterpret_cast<float2 *>(memory + STATISTICS) + (2 * group + turn++ % 2) * TILE;
        if (own < TILE) queries[own] = next;
        ptx::bar_sync<128>(2 + group);
        if (own < TILE) next = fetch(row + TILE + own);
        const u32 valid = item.rows - row;
        ring.wait();
        if (valid < TILE) clear(ring.stage, valid);
        float s[32], t[32];
        ptx::wgmma_k64<0, 0>(s, k, descriptor(ring.tile(0)), t, v, descriptor(ring.tile(1)));
#pragma unroll
        for (u32 at = 0; at < 32; at += 4) {
            const float4 two = *reinterpret_cast<const float4 *>(queries + column(at));
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                const float lse = e % 2 ? two.z : two.x, delta = e % 2 ? two.w : two.y;
                s[at + e] = ptx::ex2(fmaf(s[at + e], p.scale * LOG2_E, -lse));
                t[at + e] = s[at + e] * (t[at + e] - delta);
            }
        }
        if (begin + 2 * TILE > item.keys) {
#pragma unroll
            for (u32 at = 0; at < 32; ++at) {
                const bool key = own_row(begin) + lane() / 4 + at / 2 % 2 * 8 < item.keys;
                s[at] = key ? s[at] : 0.0f;
                t[at] = key ? t[at] : 0.0f;
            }
        }
        u32 a[16], ds[16];
        operand(a, s);
        operand(ds, t);
        ptx::wgmma_k64<1, 1>(dv, a, descriptor(ring.tile(1)), dk, ds, descriptor(ring.tile(0)));
        ring.release();
    }
}

__device__ __forceinline__ void backward(const Attention &p) {
    Ring ring(prepare());
    if (threadIdx.x >= 32 * WARPS) {
        ptx::setmaxnreg_dec<24>();
        if (threadIdx.x == 32 * WARPS) bring_backward(p, ring);
        return;
    }
    ptx::setmaxnreg_inc<240>();
    const float scales[2] = {p.scale, p.scale}, ones[2] = {1.0f, 1.0f};
    u32 turn = 0;
    for (u32 number = blockIdx.x; number < p.sequences * p.heads; number += gridDim.x) {
        const Item item(p, number);
        for (u32 begin = 0; begin < item.rows; begin += 2 * TILE) query_gradient(p, item, ring, begin);
        meet(); // statistics are there
        for (u32 begin = 0; begin < item.rows; begin += 2 * TILE) {
            float dk[32] = {}, dv[32] = {};
            if (begin < item.keys) sum_keys(p, item, ring, turn, begin, dk, dv);
            store(p, item, p.dk, dk, scales, own_row(begin));
            __syncwarp();
            store(p, item, p.dv, dv, ones, own_row(begin));
            __syncwarp(); // without keys nothing else comes between
        }
    }
}

#define KERNEL(NAME, BODY) \
    extern "C" __global__ void __launch_bounds__(384, 1) NAME(const __grid_constant__ Attention p) { BODY(p); }

// Formula   context = softmax(scale * q · kT) · v, lse = log sum exp of the logits of each row; keys are the first lengths[sequence]
//           rows of their sequence
// Pointers  q, k, v [rows, heads, 64] bf16 by tensor maps in boxes of 64 rows of a head; out context, likewise, and lse
//           [rows, heads] f32, 256-byte aligned; offsets [sequences + 1] i32, ascending from 0, in rows; lengths [sequences] i32, at
//           most the rows of each. Rows from the last offset on are not written, and nothing depends on them.
// Launch    grid as many blocks as there are heads of sequences, or fewer: block i has i, i + grid, ...; block 384, 149632 bytes of
//           dynamic shared memory
// Numbers   f32 sums: logits in order of features, then tiles of 64 keys in their order, the softmax online; weights are rounded to
//           bf16 as operands
// Assumes   lengths of at least 1; rows, and heads of sequences, below 2^31: src/ops/attention/warpgroups.rs checks
KERNEL(attention_fwd_bf16_128x64_sm90a, forward)

// Formula   a = exp(scale * q · kT - lse), delta = sum over features of d_context * context, ds = a * (d_context · vT - delta);
//           dq = scale * ds · k, dk = scale * dsT · q, dv = aT · d_context; dk and dv of rows that are no keys are zero
// Pointers  q, k, v, d_context, context as q of fwd; lse as of fwd; statistics [heads, rows] float2 is written and read; dq, dk, dv
//           as context of fwd. Rows from the last offset on are not written, and nothing depends on them.
// Launch    as fwd
// Numbers   f32 sums: dq in order of keys, dk and dv in order of queries, by tiles of 64; a and ds are rounded to bf16 as operands
// Assumes   as fwd
KERNEL(attention_bwd_bf16_128x64_sm90a, backward)
