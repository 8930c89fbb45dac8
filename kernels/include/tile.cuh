// Matrix products of tiles: c [128 x BN] += a · b, for any way in which a and b come into shared memory.
//
// A block of 256 threads makes 128 x BN sums, in steps of 64 bytes of the inner extent k (16 f32, 32 bf16) through three
// stages of shared memory. A loader copies one operand's share of a step in pieces of 16 bytes (cp.async), or number by
// number where rows are not multiples of 16 bytes; what lies outside the matrix is written as zero, so the products need
// no bounds. f32 is multiplied by FFMA, 8 x BN/16 sums a thread; bf16 by mma.m16n8k16. Every sum is f32, in order of k.
#pragma once
#include "numeric.cuh"

constexpr int THREADS = 256;
constexpr int BM = 128;
constexpr int STAGES = 3;

template <class T> constexpr int PER = 16 / sizeof(T); // numbers of a piece
template <class T> constexpr int BK = 64 / sizeof(T);  // inner extent of a step

// How ROWS rows (of a; columns of b) of one step lie in shared memory: K_MAJOR, a line for each row with its numbers along
// k; if not, a line for each k. Lines are 16 bytes longer than their numbers: eight lines in a row start in eight
// different groups of four banks, so ldmatrix and 16-byte reads down the lines have no conflicts.
template <class T, int ROWS, bool K_MAJOR> struct Operand {
    static constexpr int LINES = K_MAJOR ? ROWS : BK<T>;
    static constexpr int ACROSS = K_MAJOR ? 4 : ROWS / PER<T>; // pieces of a line
    static constexpr int PITCH = 16 * ACROSS + 16;             // bytes
    static constexpr int BYTES = LINES * PITCH;
    static constexpr int TURN = THREADS / ACROSS; // lines that the block copies in one turn
    static constexpr int TURNS = (LINES + TURN - 1) / TURN;

    // This thread's line of the first turn, the first of its numbers along the line, and where they go. Of lines of four
    // pieces a quarter of a warp copies two; they lie four apart, as then the second has the banks that the first has not.
    static __device__ __forceinline__ u32 line() {
        const u32 at = threadIdx.x / ACROSS;
        return ACROSS == 4 ? at / 8 * 8 + at % 2 * 4 + at % 8 / 2 : at;
    }
    static __device__ __forceinline__ u32 along() { return threadIdx.x % ACROSS * PER<T>; }
    static __device__ __forceinline__ char *place(char *stage, int turn) {
        return stage + (line() + turn * TURN) * PITCH + threadIdx.x % ACROSS * 16;
    }
    static __device__ __forceinline__ bool takes_part() { return TURN <= LINES || line() < LINES; }
};

// A piece of 16 bytes, or zeros where there is none; `any` is some address of 16 readable bytes.
template <class T> __device__ __forceinline__ void copy_piece(char *to, const T *from, const T *any) {
    ptx::cp_async_16(to, from ? from : any, from ? 16 : 0);
}

__device__ __forceinline__ float load_or_zero(const float *from) { return from ? *from : 0.0f; }
__device__ __forceinline__ bf16 load_or_zero(const bf16 *from) { return from ? *from : bf16{0}; }

// The same from numbers in registers.
template <class T> __device__ __forceinline__ void put_piece(char *to, const T (&numbers)[PER<T>]) {
#pragma unroll
    for (int at = 0; at < PER<T>; ++at) reinterpret_cast<T *>(to)[at] = numbers[at];
}

// Loader of ROWS rows from `first` on of a matrix [rows, depth], k along its rows.
template <class T, int ROWS> struct Rows {
    using Place = Operand<T, ROWS, true>;
    const T *matrix;
    u32 row, rows, k, depth;
    bool vector; // depth is a multiple of a piece

    __device__ __forceinline__ Rows(const void *at, u32 first, u32 rows, u32 depth, bool vector)
        : matrix(static_cast<const T *>(at)), row(first + Place::line()), rows(rows), k(Place::along()), depth(depth),
          vector(vector) {}

    __device__ __forceinline__ void fill(char *stage) {
        if (Place::takes_part()) {
#pragma unroll
            for (int turn = 0; turn < Place::TURNS; ++turn) {
                u32 at = row + turn * Place::TURN;
                const T *from = matrix + u64(at) * depth + k;
                char *to = Place::place(stage, turn);
                if (vector) {
                    copy_piece(to, at < rows && k < depth ? from : nullptr, matrix);
                } else {
                    T numbers[PER<T>];
#pragma unroll
                    for (int e = 0; e < PER<T>; ++e) numbers[e] = load_or_zero(at < rows && k + e < depth ? from + e : nullptr);
                    put_piece(to, numbers);
                }
            }
        }
        k += BK<T>;
    }
};

// Loader of ROWS columns from `first` on of a matrix [depth, columns], from its row `k` on: k goes down its columns.
template <class T, int ROWS> struct Columns {
    using Place = Operand<T, ROWS, false>;
    const T *matrix;
    u32 column, columns, k, depth;
    bool vector; // columns is a multiple of a piece

    __device__ __forceinline__ Columns(const void *at, u32 first, u32 columns, u32 k, u32 depth, bool vector)
        : matrix(static_cast<const T *>(at)), column(first + Place::along()), columns(columns), k(k + Place::line()),
          depth(depth), vector(vector) {}

    __device__ __forceinline__ void fill(char *stage) {
        if (Place::takes_part()) {
#pragma unroll
            for (int turn = 0; turn < Place::TURNS; ++turn) {
                u32 at = k + turn * Place::TURN;
                const T *from = matrix + u64(at) * columns + column;
                char *to = Place::place(stage, turn);
                if (vector) {
                    copy_piece(to, at < depth && column < columns ? from : nullptr, matrix);
                } else {
                    T numbers[PER<T>];
#pragma unroll
                    for (int e = 0; e < PER<T>; ++e)
                        numbers[e] = load_or_zero(at < depth && column + e < columns ? from + e : nullptr);
                    put_piece(to, numbers);
                }
            }
        }
        k += BK<T>;
    }
};

// The sums of a block and one step of the product. A_K and B_K: whether the operand lies K_MAJOR.
template <class T, int BN, bool A_K, bool B_K> struct Sums;

// f32: thread (x, y) of 16 x 16 has the sums of eight rows and BN / 16 columns.
template <int BN, bool A_K, bool B_K> struct Sums<float, BN, A_K, B_K> {
    static constexpr int TM = BM / 16, TN = BN / 16;
    float c[TM][TN] = {};

    // The place of a thread's number `at`. Down K_MAJOR lines neighbours read neighbouring lines, along the others 16 bytes.
    template <bool K> static __device__ __forceinline__ u32 place(u32 thread, int at) {
        return K ? thread + 16 * at : thread * 4 + at % 4 + at / 4 * 64;
    }

    template <int COUNT, bool K, int PITCH>
    static __device__ __forceinline__ void fragment(float (&f)[COUNT][4], const char *stage, u32 thread, int k) {
        if (K) {
#pragma unroll
            for (int at = 0; at < COUNT; ++at) {
                float4 four = *reinterpret_cast<const float4 *>(stage + place<K>(thread, at) * PITCH + k * 4);
                f[at][0] = four.x, f[at][1] = four.y, f[at][2] = four.z, f[at][3] = four.w;
            }
        } else {
#pragma unroll
            for (int line = 0; line < 4; ++line) {
#pragma unroll
                for (int at = 0; at < COUNT; at += 4) {
                    float4 four = *reinterpret_cast<const float4 *>(stage + (k + line) * PITCH + place<K>(thread, at) * 4);
                    f[at][line] = four.x, f[at + 1][line] = four.y, f[at + 2][line] = four.z, f[at + 3][line] = four.w;
                }
            }
        }
    }

    __device__ __forceinline__ void step(const char *a_stage, const char *b_stage) {
        u32 x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
        for (int k = 0; k < BK<float>; k += 4) {
            float a[TM][4], b[TN][4];
            fragment<TM, A_K, Operand<float, BM, A_K>::PITCH>(a, a_stage, y, k);
            fragment<TN, B_K, Operand<float, BN, B_K>::PITCH>(b, b_stage, x, k);
#pragma unroll
            for (int at = 0; at < 4; ++at)
#pragma unroll
                for (int i = 0; i < TM; ++i)
#pragma unroll
                    for (int j = 0; j < TN; ++j) c[i][j] += a[i][at] * b[j][at];
        }
    }

    // Calls put(row, column, sum) for each sum of this thread.
    template <class Put> __device__ __forceinline__ void each(Put put) {
        u32 x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
        for (int i = 0; i < TM; ++i)
#pragma unroll
            for (int j = 0; j < TN; ++j) put(place<A_K>(y, i), place<B_K>(x, j), c[i][j]);
    }
};

// bf16: eight warps side by side, each with MI x NJ products of 16 x 8.
template <int BN, bool A_K, bool B_K> struct Sums<bf16, BN, A_K, B_K> {
    static constexpr int ACROSS = BN >= 64 ? 2 : 1; // warps along the columns
    static constexpr int MI = BM * ACROSS / 8 / 16, NJ = BN / ACROSS / 8;
    static constexpr int A_PITCH = Operand<bf16, BM, A_K>::PITCH, B_PITCH = Operand<bf16, BN, B_K>::PITCH;
    float c[MI][NJ][4] = {};

    static __device__ __forceinline__ u32 first_row() { return threadIdx.x / 32 / ACROSS * (16 * MI); }
    static __device__ __forceinline__ u32 first_column() { return threadIdx.x / 32 % ACROSS * (8 * NJ); }

    __device__ __forceinline__ void step(const char *a_stage, const char *b_stage) {
        u32 lane = threadIdx.x % 32, eighth = lane / 8, in = lane % 8;
#pragma unroll
        for (int k = 0; k < BK<bf16>; k += 16) {
            unsigned a[MI][4], b[NJ / 2][4];
            // Of a: rows 0-7 and 8-15 of k 0-7, then of k 8-15.
#pragma unroll
            for (int i = 0; i < MI; ++i) {
                u32 row = first_row() + 16 * i + eighth % 2 * 8, down = k + eighth / 2 * 8;
                if (A_K)
                    ptx::ldmatrix_x4(a[i], a_stage + (row + in) * A_PITCH + down * 2);
                else
                    ptx::ldmatrix_x4_trans(a[i], a_stage + (down + in) * A_PITCH + row * 2);
            }
            // Of b: k 0-7 and 8-15 of columns 0-7, then of columns 8-15.
#pragma unroll
            for (int j = 0; j < NJ / 2; ++j) {
                u32 column = first_column() + 16 * j + eighth / 2 * 8, down = k + eighth % 2 * 8;
                if (B_K)
                    ptx::ldmatrix_x4(b[j], b_stage + (column + in) * B_PITCH + down * 2);
                else
                    ptx::ldmatrix_x4_trans(b[j], b_stage + (down + in) * B_PITCH + column * 2);
            }
#pragma unroll
            for (int i = 0; i < MI; ++i)
#pragma unroll
                for (int j = 0; j < NJ; ++j) ptx::mma_m16n8k16(c[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    }

    template <class Put> __device__ __forceinline__ void each(Put put) {
        u32 row = first_row() + threadIdx.x % 32 / 4, column = first_column() + threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < MI; ++i)
#pragma unroll
            for (int j = 0; j < NJ; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) put(row + 16 * i + e / 2 * 8, column + 8 * j + e % 2, c[i][j][e]);
    }
};

// Pitch of sums in shared memory, in numbers: fragments of mma are written without conflicts.
template <int BN, bool TURNED> constexpr int SUM_PITCH = TURNED ? BM + 4 : BN + 8;

// Shared memory of a block: stages, then sums in their place.
template <class T, int BN, bool A_K, bool B_K> constexpr int STAGE_BYTES = Operand<T, BM, A_K>::BYTES + Operand<T, BN, B_K>::BYTES;
template <int BN, bool TURNED> constexpr int SUM_BYTES = 4 * SUM_PITCH<BN, TURNED> *(TURNED ? BN : BM);
template <class T, int BN, bool A_K, bool B_K, bool TURNED>
constexpr int SHARED_BYTES = STAGES * STAGE_BYTES<T, BN, A_K, B_K> > SUM_BYTES<BN, TURNED> ? STAGES *STAGE_BYTES<T, BN, A_K, B_K>
                                                                                          : SUM_BYTES<BN, TURNED>;

// The product of `steps` steps. The sums come to lie in `shared` as f32: [128][BN], or TURNED [BN][128], see SUM_PITCH.
template <class T, int BN, bool A_K, bool B_K, bool TURNED, class A, class B>
__device__ __forceinline__ void multiply(A &a, B &b, u32 steps, char *shared) {
    constexpr int A_BYTES = Operand<T, BM, A_K>::BYTES, STAGE = STAGE_BYTES<T, BN, A_K, B_K>;
    Sums<T, BN, A_K, B_K> sums;
    auto fill = [&](u32 step, u32 stage) {
        if (step < steps) {
            a.fill(shared + stage * STAGE);
            b.fill(shared + stage * STAGE + A_BYTES);
        }
        ptx::cp_async_commit(); // a group a step, also where there is none: so one wait serves all steps
    };
    for (int stage = 0; stage < STAGES - 1; ++stage) fill(stage, stage);
    u32 stage = 0;
    for (u32 step = 0; step < steps; ++step) {
        ptx::cp_async_wait<STAGES - 2>();
        __syncthreads(); // this step has come, and all have read the stage that is filled next
        fill(step + STAGES - 1, stage == 0 ? STAGES - 1 : stage - 1);
        sums.step(shared + stage * STAGE, shared + stage * STAGE + A_BYTES);
        stage = stage == STAGES - 1 ? 0 : stage + 1;
    }
    __syncthreads(); // the stages are read
    float *out = reinterpret_cast<float *>(shared);
    constexpr int PITCH = SUM_PITCH<BN, TURNED>;
    sums.each([&](u32 row, u32 column, float sum) { out[TURNED ? column * PITCH + row : row * PITCH + column] = sum; });
    __syncthreads();
}

__device__ __forceinline__ void store_piece(float *to, const float (&n)[4]) {
    *reinterpret_cast<float4 *>(to) = float4{n[0], n[1], n[2], n[3]};
}
__device__ __forceinline__ void store_piece(bf16 *to, const float (&n)[8]) {
    *reinterpret_cast<uint4 *>(to) =
        uint4{ptx::bf16x2_of(n[0], n[1]), ptx::bf16x2_of(n[2], n[3]), ptx::bf16x2_of(n[4], n[5]), ptx::bf16x2_of(n[6], n[7])};
}

__device__ __forceinline__ void widen_piece(const float *from, float (&to)[4]) {
    float4 four = *reinterpret_cast<const float4 *>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}
__device__ __forceinline__ void widen_piece(const bf16 *from, float (&to)[8]) {
    uint4 four = *reinterpret_cast<const uint4 *>(from);
    u32 pairs[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int e = 0; e < 8; ++e) to[e] = __uint_as_float(e % 2 ? pairs[e / 2] & 0xffff0000u : pairs[e / 2] << 16);
}

// Writes LINES x ALONG sums that `multiply` left, of which `lines` x `along` are in the matrix. `at(line)` is where a line
// goes, a multiple of 16 bytes if `vector`. Adds `bias`, indexed along the line, unless it is null; if `add`, what is there.
template <class Out, int LINES, int ALONG, int PITCH, class At>
__device__ __forceinline__ void write_sums(const char *shared, u32 lines, u32 along, bool vector, const float *bias, bool add, At at) {
    constexpr int PIECE = PER<Out>, ACROSS = ALONG / PIECE;
    for (u32 piece = threadIdx.x; piece < LINES * ACROSS; piece += THREADS) {
        u32 line = piece / ACROSS, first = piece % ACROSS * PIECE;
        if (line >= lines || first >= along) continue;
        const float *from = reinterpret_cast<const float *>(shared) + line * PITCH + first;
        Out *to = at(line) + first;
        float numbers[PIECE];
#pragma unroll
        for (int e = 0; e < PIECE; ++e) numbers[e] = from[e] + (bias && first + e < along ? bias[first + e] : 0.0f);
        const bool whole = vector && first + PIECE <= along;
        if (add) {
            float there[PIECE] = {};
            if (whole) {
                widen_piece(to, there);
            } else {
#pragma unroll
                for (int e = 0; e < PIECE; ++e)
                    if (first + e < along) there[e] = widen(to[e]);
            }
#pragma unroll
            for (int e = 0; e < PIECE; ++e) numbers[e] += there[e];
        }
        if (whole) {
            store_piece(to, numbers);
        } else {
#pragma unroll
            for (int e = 0; e < PIECE; ++e)
                if (first + e < along) to[e] = narrow<Out>(numbers[e]);
        }
    }
}
