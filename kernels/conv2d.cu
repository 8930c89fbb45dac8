// Convolution as a product of matrices that are never stored: loaders gather windows of the image straight into tiles.
//
// Images are [batch, rows, columns, channels]; weights w [O, k, k, depth]. The image that is convolved is x [B,H,W,C], or x
// with every pixel doubled along both sides (shift 1) followed on the channels by a skip connection [B,2H,2W,Cs]; 0 outside.
//
// | pass | rows of the product | columns | inner extent, in this order |
// |---|---|---|---|
// | fwd | pixels of y | output channels | taps of the kernel, channels of the image |
// | dgrad | pixels of x or skip of one class, see below | their channels | taps that reach the pixel, output channels |
// | wgrad | taps, channels of the image | output channels | pixels of y, a part of them for each block |
//
// dgrad gathers: image row r gets dy row (r + p - u) / s by tap u where s divides that. Rows r = c + s·n of one class c
// (blockIdx.y: s² of them) are reached by the same taps u, from dy row (c + p - u) / s + n, so each class is a convolution
// of stride 1 with no product by zero. Of an upsampled image, x row r gathers what rows 2r and 2r + 1 do, in this order.
#include "include/tile.cuh"

struct Conv {
    const void *image;  // x, of dgrad dy: [batch, height >> shift, width >> shift, channels]
    const void *skip;   // [batch, height, width, depth - channels], unread if there are no such channels
    const void *other;  // w, of wgrad dy
    const float *bias;  // [columns] or null
    void *out;          // y; d_x or d_skip; d_w or partials [gridDim.y, columns, k, k, depth]
    u32 height, width;  // of the image that is gathered, after doubling
    u32 shift;          // 1 if it is doubled
    u32 channels;       // of `image`
    u32 depth;          // of `image` and `skip`
    u32 batch;
    u32 rows, cols;     // pixels of a picture of y; of dgrad of x or skip
    u32 columns;        // of the product
    u32 column_tiles;   // ceil(columns / BN)
    u32 kernel, stride, padding;
    u32 scale;          // dgrad: rows of the image for one of `out`, 2 for x if it was doubled
    u32 weight_depth;   // dgrad: depth of w
    u32 weight_first;   // dgrad: channel of w that is column 0
    u32 part;           // wgrad: pixels of a block
    u32 vector_image, vector_other, vector_out; // 1 if channels are such that pieces of 16 bytes are aligned and whole
    u32 wide;           // 1 if `out` is f32 though T is bf16
    u32 add;            // dgrad: 1 if the sums are added to what `out` holds
};

// Which taps along one axis reach a pixel, and from where: entry e is tap `tap(e)`, and gathers at `offset(e)` from the
// pixel's own place.
template <bool TURNED> struct Axis {
    u32 count, first;      // entries; of those the ones of the first of two rows
    u32 tap0, tap1, stride;
    int offset0, offset1;

    __device__ __forceinline__ Axis(const Conv &p, u32 of_class) {
        stride = p.stride;
        if (!TURNED) {
            count = first = p.kernel;
            offset0 = -int(p.padding);
            return;
        }
        u32 from = p.scale * of_class + p.padding;
        tap0 = from % stride;
        tap1 = (from + 1) % stride;
        offset0 = int(from / stride);
        offset1 = int((from + 1) / stride);
        first = tap0 < p.kernel ? (p.kernel - tap0 + stride - 1) / stride : 0;
        u32 second = p.scale == 2 && tap1 < p.kernel ? (p.kernel - tap1 + stride - 1) / stride : 0;
        count = first + second;
    }
    __device__ __forceinline__ int offset(u32 e) const {
        if (!TURNED) return offset0 + int(e);
        return e < first ? offset0 - int(e) : offset1 - int(e - first);
    }
    __device__ __forceinline__ u32 tap(u32 e) const { return e < first ? tap0 + stride * e : tap1 + stride * (e - first); }
};

// A position in (row entries, column entries, channels).
struct Window {
    u32 row, col, channel;

    __device__ __forceinline__ void advance(u32 by, u32 cols, u32 depth) {
        channel += by;
        if (channel < depth) return;
        u32 carry = channel / depth;
        channel -= carry * depth;
        col += carry;
        if (col < cols) return;
        carry = col / cols;
        col -= carry * cols;
        row += carry;
    }
};

// A pixel of [batch, rows, cols].
struct Pixel {
    u32 image, row, col;

    __device__ __forceinline__ void advance(u32 by, u32 rows, u32 cols) {
        col += by;
        if (col < cols) return;
        u32 carry = col / cols;
        col -= carry * cols;
        row += carry;
        if (row < rows) return;
        carry = row / rows;
        row -= carry * rows;
        image += carry;
    }
};

// The address of a number of the image that is convolved; null where it is zero.
template <class T> __device__ __forceinline__ const T *gathered(const Conv &p, u32 image, int row, int col, u32 channel) {
    if (u32(row) >= p.height || u32(col) >= p.width) return nullptr;
    if (channel < p.channels) {
        u32 pixel = (image * (p.height >> p.shift) + (u32(row) >> p.shift)) * (p.width >> p.shift) + (u32(col) >> p.shift);
        return static_cast<const T *>(p.image) + u64(pixel) * p.channels + channel;
    }
    u32 pixel = (image * p.height + u32(row)) * p.width + u32(col);
    return static_cast<const T *>(p.skip) + u64(pixel) * (p.depth - p.channels) + (channel - p.channels);
}

// Rows of the product are windows of pixels: fwd and dgrad.
template <class T, bool TURNED> struct Windows {
    using Place = Operand<T, BM, true>;
    const Conv &p;
    const Axis<TURNED> &rows, &cols;
    Window window{0, 0, 0};
    u32 image[Place::TURNS];
    int row[Place::TURNS], col[Place::TURNS];

    // From pixel `first` on of [batch, down, across] on.
    __device__ __forceinline__ Windows(const Conv &p, const Axis<TURNED> &rows, const Axis<TURNED> &cols, u32 first, u32 down, u32 across)
        : p(p), rows(rows), cols(cols) {
        int by = TURNED ? int(p.scale) : int(p.stride);
#pragma unroll
        for (int turn = 0; turn < Place::TURNS; ++turn) {
            u32 at = first + Place::line() + turn * Place::TURN;
            image[turn] = at / (down * across);
            at -= image[turn] * (down * across);
            row[turn] = image[turn] < p.batch ? int(at / across) * by : -(1 << 30); // gathers zeros
            col[turn] = int(at % across) * by;
        }
        window.advance(Place::along(), cols.count, p.depth);
    }
    __device__ __forceinline__ const T *at(int turn) const {
        if (window.row >= rows.count) return nullptr;
        return gathered<T>(p, image[turn], row[turn] + rows.offset(window.row), col[turn] + cols.offset(window.col), window.channel);
    }
    __device__ __forceinline__ void fill(char *stage) {
        if (p.vector_image) {
#pragma unroll
            for (int turn = 0; turn < Place::TURNS; ++turn)
                copy_piece(Place::place(stage, turn), at(turn), static_cast<const T *>(p.image));
            window.advance(BK<T>, cols.count, p.depth);
            return;
        }
        T numbers[Place::TURNS][PER<T>];
#pragma unroll
        for (int e = 0; e < PER<T>; ++e) {
#pragma unroll
            for (int turn = 0; turn < Place::TURNS; ++turn) numbers[turn][e] = load_or_zero(at(turn));
            window.advance(1, cols.count, p.depth);
        }
#pragma unroll
        for (int turn = 0; turn < Place::TURNS; ++turn) put_piece(Place::place(stage, turn), numbers[turn]);
        window.advance(BK<T> - PER<T>, cols.count, p.depth);
    }
};

// Columns of the product are channels of the image, k goes over taps and output channels: the weights of dgrad.
template <class T, int BN> struct TurnedWeights {
    using Place = Operand<T, BN, false>;
    static_assert(Place::TURNS == 1, "one line a thread");
    const Conv &p;
    const Axis<true> &rows, &cols;
    Window window{0, 0, 0}; // its channel is that of dy
    u32 column;

    __device__ __forceinline__ TurnedWeights(const Conv &p, const Axis<true> &rows, const Axis<true> &cols, u32 first)
        : p(p), rows(rows), cols(cols), column(first + Place::along()) {
        window.advance(Place::line(), cols.count, p.depth);
    }
    __device__ __forceinline__ void fill(char *stage) {
        if (Place::takes_part()) {
            bool inside = window.row < rows.count;
            u32 tap = rows.tap(window.row) * p.kernel + cols.tap(window.col);
            u64 line = u64(window.channel * p.kernel * p.kernel + tap) * p.weight_depth;
            const T *w = static_cast<const T *>(p.other), *from = w + line + p.weight_first + column;
            char *to = Place::place(stage, 0);
            if (p.vector_other) {
                copy_piece(to, inside && column < p.columns ? from : nullptr, w);
            } else {
                T numbers[PER<T>];
#pragma unroll
                for (int e = 0; e < PER<T>; ++e)
                    numbers[e] = load_or_zero(inside && column + e < p.columns ? from + e : nullptr);
                put_piece(to, numbers);
            }
        }
        window.advance(BK<T>, cols.count, p.depth);
    }
};

// Rows of the product are places in a window, k goes over the pixels of y: the image of wgrad.
template <class T> struct WindowColumns {
    using Place = Operand<T, BM, false>;
    const Conv &p;
    const Axis<false> &taps;
    Window window{0, 0, 0};
    Pixel pixel[Place::TURNS];
    u32 at, end;

    // From place `first` in the window on; pixels from `begin` to `end`.
    __device__ __forceinline__ WindowColumns(const Conv &p, const Axis<false> &taps, u32 first, u32 begin, u32 end)
        : p(p), taps(taps), at(begin + Place::line()), end(end) {
        window.advance(first + Place::along(), p.kernel, p.depth);
#pragma unroll
        for (int turn = 0; turn < Place::TURNS; ++turn) {
            pixel[turn] = Pixel{0, 0, 0};
            pixel[turn].advance(at + turn * Place::TURN, p.rows, p.cols);
        }
    }
    __device__ __forceinline__ const T *from(int turn, const Window &window) const {
        if (window.row >= p.kernel || at + turn * Place::TURN >= end) return nullptr;
        const Pixel &y = pixel[turn];
        return gathered<T>(p, y.image, int(y.row * p.stride) + taps.offset(window.row), int(y.col * p.stride) + taps.offset(window.col), window.channel);
    }
    __device__ __forceinline__ void fill(char *stage) {
        if (p.vector_image) {
#pragma unroll
            for (int turn = 0; turn < Place::TURNS; ++turn)
                copy_piece(Place::place(stage, turn), from(turn, window), static_cast<const T *>(p.image));
        } else {
            T numbers[Place::TURNS][PER<T>];
            Window walk = window;
#pragma unroll
            for (int e = 0; e < PER<T>; ++e) {
#pragma unroll
                for (int turn = 0; turn < Place::TURNS; ++turn) numbers[turn][e] = load_or_zero(from(turn, walk));
                walk.advance(1, p.kernel, p.depth);
            }
#pragma unroll
            for (int turn = 0; turn < Place::TURNS; ++turn) put_piece(Place::place(stage, turn), numbers[turn]);
        }
        at += BK<T>;
#pragma unroll
        for (int turn = 0; turn < Place::TURNS; ++turn) pixel[turn].advance(BK<T>, p.rows, p.cols);
    }
};

// Writes a block's sums; `at(line)` is the position of column 0 of its line, in numbers.
template <class T, int BN, class At>
__device__ __forceinline__ void finish(const Conv &p, const char *shared, u32 lines, u32 column, At at) {
    constexpr int PITCH = SUM_PITCH<BN, false>;
    const float *bias = p.bias ? p.bias + column : nullptr;
    u32 along = p.columns - column;
    if (p.wide)
        write_sums<float, BM, BN, PITCH>(shared, lines, along, p.vector_out, bias, p.add, [&](u32 line) { return static_cast<float *>(p.out) + at(line) + column; });
    else
        write_sums<T, BM, BN, PITCH>(shared, lines, along, p.vector_out, bias, p.add, [&](u32 line) { return static_cast<T *>(p.out) + at(line) + column; });
}

__device__ __forceinline__ u32 steps_of(u32 extent, u32 step) { return (extent + step - 1) / step; }

template <class T, int BN> __device__ __forceinline__ void forward(const Conv &p) {
    __shared__ __align__(16) char shared[SHARED_BYTES<T, BN, true, true, false>];
    u32 column = blockIdx.x % p.column_tiles * BN, first = blockIdx.x / p.column_tiles * BM;
    u32 extent = p.kernel * p.kernel * p.depth;
    Axis<false> axis(p, 0);
    Windows<T, false> windows(p, axis, axis, first, p.rows, p.cols);
    Rows<T, BN> weights(p.other, column, p.columns, extent, p.vector_other);
    multiply<T, BN, true, true, false>(windows, weights, steps_of(extent, BK<T>), shared);
    u32 lines = p.batch * p.rows * p.cols - first;
    finish<T, BN>(p, shared, lines, column, [&](u32 line) { return u64(first + line) * p.columns; });
}

template <class T, int BN> __device__ __forceinline__ void input_gradient(const Conv &p) {
    __shared__ __align__(16) char shared[SHARED_BYTES<T, BN, true, false, false>];
    u32 column = blockIdx.x % p.column_tiles * BN, first = blockIdx.x / p.column_tiles * BM;
    u32 class_row = blockIdx.y / p.stride, class_col = blockIdx.y % p.stride;
    if (class_row >= p.rows || class_col >= p.cols) return;
    u32 down = (p.rows - class_row + p.stride - 1) / p.stride, across = (p.cols - class_col + p.stride - 1) / p.stride;
    if (first >= p.batch * down * across) return; // the grid covers the largest class
    Axis<true> rows(p, class_row), cols(p, class_col);
    u32 extent = rows.count * cols.count * p.depth;
    if (extent == 0 && p.add) return;        // no tap reaches these pixels: they stay as they are
    if (extent == 0) rows.count = 0, cols.count = 1; // no tap reaches these pixels; places are found by division
    Windows<T, true> windows(p, rows, cols, first, down, across);
    TurnedWeights<T, BN> weights(p, rows, cols, column);
    multiply<T, BN, true, false, false>(windows, weights, steps_of(extent, BK<T>), shared);
    u32 lines = p.batch * down * across - first;
    finish<T, BN>(p, shared, lines, column, [&](u32 line) {
        u32 at = first + line;
        if (p.stride > 1) {
            u32 across_at = at % across, down_at = at / across % down, image = at / across / down;
            at = (image * p.rows + down_at * p.stride + class_row) * p.cols + across_at * p.stride + class_col;
        }
        return u64(at) * p.columns;
    });
}

template <class T, int BN> __device__ __forceinline__ void weight_gradient(const Conv &p) {
    __shared__ __align__(16) char shared[SHARED_BYTES<T, BN, false, false, true>];
    u32 column = blockIdx.x % p.column_tiles * BN, first = blockIdx.x / p.column_tiles * BM;
    u32 pixels = p.batch * p.rows * p.cols, window = p.kernel * p.kernel * p.depth;
    u32 begin = blockIdx.y * p.part, end = min(pixels, begin + p.part);
    Axis<false> taps(p, 0);
    WindowColumns<T> image(p, taps, first, begin, end);
    Columns<T, BN> dy(p.other, column, p.columns, begin, end, p.vector_other);
    multiply<T, BN, false, false, true>(image, dy, steps_of(end - begin, BK<T>), shared);
    float *out = static_cast<float *>(p.out) + u64(blockIdx.y) * p.columns * window + first;
    write_sums<float, BN, BM, SUM_PITCH<BN, true>>(shared, p.columns - column, window - first, p.vector_out, nullptr, false,
                                                 [&](u32 line) { return out + u64(column + line) * window; });
}

#define KERNEL(NAME, BODY) \
    extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME(Conv p) { BODY(p); }

// Formula   y[b,i,j,o] = bias[o] + sum over u, v, c of image[b, i·s - p + u, j·s - p + v, c] · w[o,u,v,c]
// Pointers  image x [B,H,W,C] T; skip [B,2H,2W,Cs] T; other w [O,k,k,C+Cs] T; bias [O] f32; out y [B,rows,cols,O] T, or f32
//           if wide; all contiguous, 16-byte aligned
// Launch    grid (ceil(B·rows·cols / 128) · column_tiles), block 256, static shared memory
// Numbers   f32 sums, in order of u, v, c; the bias last
// Assumes   pixels of x, skip and y and the window each count below 2^31: src/ops/conv2d/cuda.rs checks
KERNEL(conv2d_fwd_f32_128x64_sm80, (forward<float, 64>))
KERNEL(conv2d_fwd_bf16_128x64_sm80, (forward<bf16, 64>))
KERNEL(conv2d_fwd_bf16_128x32_sm80, (forward<bf16, 32>))

// Formula   d[b,r,q,c] = d before, if add, + sum over the image pixels of (r,q), their taps u, v and o of dy[b, (r+p-u)/s, (q+p-v)/s, o] · w[o,u,v,c]
// Pointers  image dy [B,Ho,Wo,O] T (depth = channels = O); other w [O,k,k,weight_depth] T, channels from weight_first on;
//           out d_x or d_skip [B,rows,cols,columns] T, or f32 if wide; all contiguous, 16-byte aligned
// Launch    grid (ceil(B · ceil(rows/s) · ceil(cols/s) / 128) · column_tiles, s²), block 256, static shared memory
// Numbers   f32 sums, in order of (image row, u), (image column, v), o; what is added to last
// Assumes   as fwd; s at most 255: src/ops/conv2d/cuda.rs checks
KERNEL(conv2d_dgrad_f32_128x64_sm80, (input_gradient<float, 64>))
KERNEL(conv2d_dgrad_bf16_128x64_sm80, (input_gradient<bf16, 64>))
KERNEL(conv2d_dgrad_bf16_128x32_sm80, (input_gradient<bf16, 32>))

// Formula   d_w[o,u,v,c] = sum over b, i, j of dy[b,i,j,o] · image[b, i·s - p + u, j·s - p + v, c]
// Pointers  image, skip: as fwd; other dy [B,rows,cols,O] T; out f32: d_w [O,k,k,depth], or partials [gridDim.y, O,k,k,depth],
//           which linear_sum_f32_partials_sm80 adds; all contiguous, 16-byte aligned
// Launch    grid (ceil(k·k·depth / 128) · column_tiles, ceil(B·rows·cols / part)), block 256, static shared memory
// Numbers   f32 sums, in order of b, i, j
// Assumes   as fwd; part is a multiple of 32: src/ops/conv2d/cuda.rs sees to it
KERNEL(conv2d_wgrad_f32_128x64_sm80, (weight_gradient<float, 64>))
KERNEL(conv2d_wgrad_bf16_128x64_sm80, (weight_gradient<bf16, 64>))
KERNEL(conv2d_wgrad_bf16_128x32_sm80, (weight_gradient<bf16, 32>))
