// Finite: whether a step may be taken.
//
// Formula   out = the sum of the squares of all gradients; how many numbers of gradients and losses are not finite
// Pointers  pieces    [pieces] rows of Piece: where up to 4096 numbers lie, f32, 16-byte aligned; squares of `summed` ones
//                     count
//           partials  [pieces] rows of Partial: what `piece` makes of each and `finish` adds up
//           out       [2] f32: the sum of squares, the count
// Launch    piece: grid (pieces), block 256; finish: one block of 256; no dynamic shared memory
// Numbers   Squares are summed in f32: 16 numbers of a thread, a warp by a butterfly, warps in order; partials by threads
//           in strides of 256, then likewise. Counts are integers.
// Assumes   table and alignment: src/ops/finite/cuda.rs makes them
#include "include/reduce.cuh"
#include "include/vector.cuh"

struct Piece {
    const float *numbers;
    u32 count;
    u32 summed;
};

struct Partial {
    float squares;
    u32 bad;
};

struct Finite {
    const Piece *table;
    Partial *partials;
    float *out;
    u32 pieces;
    u32 unused;
};

// The counts of all threads of a block of 256, for thread 0.
__device__ __forceinline__ u32 block_count(u32 n, u32 *scratch) {
    for (int step = 16; step > 0; step /= 2) n += __shfl_xor_sync(ALL_LANES, n, step);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = n;
    __syncthreads();
    u32 sum = 0;
    for (int warp = 0; warp < 8; ++warp) sum += scratch[warp];
    return sum;
}

extern "C" __global__ void __launch_bounds__(256) finite_piece_f32_eights_sm80(const Finite p) {
    __shared__ float of_squares[8];
    __shared__ u32 of_bad[8];
    const Piece piece = p.table[blockIdx.x];
    float squares = 0.0f;
    u32 bad = 0;
    for (u32 at = threadIdx.x * EIGHT; at < piece.count; at += 256 * EIGHT) {
        float x[8];
        load8(x, piece.numbers + at, piece.count - at, true);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            squares += x[i] * x[i];
            // An exponent of all ones: infinite or NaN.
            bad += (__float_as_uint(x[i]) & 0x7f800000u) == 0x7f800000u;
        }
    }
    squares = block_sum<256>(squares, of_squares);
    bad = block_count(bad, of_bad);
    if (threadIdx.x == 0) p.partials[blockIdx.x] = Partial{piece.summed ? squares : 0.0f, bad};
}

extern "C" __global__ void __launch_bounds__(256) finite_finish_f32_block_sm80(const Finite p) {
    __shared__ float of_squares[8];
    __shared__ u32 of_bad[8];
    float squares = 0.0f;
    u32 bad = 0;
    for (u32 at = threadIdx.x; at < p.pieces; at += 256) {
        const Partial partial = p.partials[at];
        squares += partial.squares;
        bad += partial.bad;
    }
    squares = block_sum<256>(squares, of_squares);
    bad = block_count(bad, of_bad);
    if (threadIdx.x == 0) {
        p.out[0] = squares;
        p.out[1] = float(bad);
    }
}
