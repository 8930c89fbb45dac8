// Convolution as a product of matrices that are never stored: windows of the image are gathered straight into tiles.
//
// Images are [batch, rows, columns, channels]; weights w [O, k, k, depth]. The image that is convolved is x [B,H,W,C], or x
// with every pixel doubled along both sides (shift 1) followed on the channels by a skip connection [B,2H,2W,Cs]; 0 outside.
//
//   pass    lines of the product     columns            inner extent, in this order
//   fwd     pixels of y              output channels    taps of the kernel, channels of the image
//   dgrad   pixels of x or skip      their channels     taps that reach the pixel, output channels
//           of one class, see below
//   wgrad   output channels          taps, channels     pixels of y, a part of them for each workgroup
//                                    of the image
//
// dgrad gathers: image row r gets dy row (r + p - u) / s by tap u where s divides that. Rows r = c + s n of one class c (there
// are s * s of them) are reached by the same taps u, from dy row (c + p - u) / s + n, so each class is a convolution of stride
// 1 with no product by zero. Of an upsampled image, x row r gathers what rows 2r and 2r + 1 do, in this order.
//
//   image   fwd, wgrad: x; dgrad: dy    [batch, height >> shift, width >> shift, channels]
//   skip    [batch, height, width, depth - channels], unread if there are no such channels
//   other   fwd, dgrad: w [O, k, k, weight_depth], of whose channels dgrad takes those from weight_first on; wgrad: dy
//   bias    [columns], unread unless `with_bias`
//   out     y; d_x or d_skip [batch, rows, cols, columns]; d_w or partial sums [parts, O, k, k, depth]
//   dispatch  a workgroup of 64 to 64 lines and 64 columns, columns first; all of these for each class or part; folded
//   Sums: in order of the inner extent, two products at a time, the bias, or what `out` holds, last. A workgroup has a thread to a line, so
//   products.wgsl alone fits here.
//   Numbers of each buffer < 2^31, padded sides < 2^30: src/ops/conv2d/wgsl.rs checks.

struct Conv {
    height: u32, // of the image that is gathered, after doubling
    width: u32,
    shift: u32, // 1 if it is doubled
    channels: u32, // of `image`
    depth: u32, // of `image` and `skip`
    batch: u32,
    rows: u32, // pixels of a picture of y; of dgrad of x or skip
    cols: u32,
    columns: u32, // of the product
    outputs: u32, // channels of y
    kernel: u32,
    stride: u32,
    padding: u32,
    scale: u32, // dgrad: rows of the image for one of `out`, 2 for x if it was doubled
    weight_depth: u32,
    weight_first: u32,
    part: u32, // wgrad: pixels of a part
    parts: u32,
    tiles: u32, // of a part or of the largest class
    with_bias: u32,
    add: u32, // dgrad: the sums are added to what `out` holds
}

@group(0) @binding(0) var<uniform> p: Conv;
@group(0) @binding(1) var<storage, read_write> image: array<f32>;
@group(0) @binding(2) var<storage, read_write> skip: array<f32>;
@group(0) @binding(3) var<storage, read_write> other: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> bias: array<f32>;

// A row and a column that lie outside of every image, whatever is added.
const OUTSIDE: i32 = -1 << 30u;

// Of each line of the product (fwd, dgrad: a pixel) or column (wgrad: a tap), and of each number of the inner extent of a
// step (a tap; wgrad: a pixel): row, column and image or channel. One of each makes a place in the image. The fourth of a
// line is the pixel of `out`, of a tap of dgrad the tap's number.
var<workgroup> lines: array<vec4<i32>, TILE>;
var<workgroup> steps: array<vec4<i32>, STEP>;

/// A zero that no compiler knows: extents are below 2^31.
fn zero() -> u32 {
    return p.columns >> 31u;
}

/// The number of the image at a pixel and a tap.
fn gathered(pixel: vec4<i32>, tap: vec4<i32>) -> f32 {
    let row = u32(pixel.x + tap.x); // a negative one is larger than any
    let col = u32(pixel.y + tap.y);
    if row >= p.height || col >= p.width {
        return 0.0;
    }
    let channel = u32(tap.z);
    if channel < p.channels {
        let up = (u32(pixel.z) * (p.height >> p.shift) + (row >> p.shift)) * (p.width >> p.shift) + (col >> p.shift);
        return image[up * p.channels + channel];
    }
    return skip[((u32(pixel.z) * p.height + row) * p.width + col) * (p.depth - p.channels) + channel - p.channels];
}

/// The tap and channel that stand at a place of the window.
fn window(place: u32) -> vec4<i32> {
    let tap = place / p.depth;
    if tap >= p.kernel * p.kernel {
        return vec4(OUTSIDE, OUTSIDE, 0, 0);
    }
    return vec4<i32>(vec4(tap / p.kernel, tap % p.kernel, place % p.depth, 0u));
}

/// The first pixel that the window of a pixel of y sees.
fn pixel_of_y(at: u32, end: u32) -> vec4<i32> {
    if at >= end {
        return vec4(OUTSIDE, OUTSIDE, 0, -1);
    }
    let seen = vec2<i32>(vec2(at / p.cols % p.rows, at % p.cols) * p.stride) - i32(p.padding);
    return vec4(seen, vec2<i32>(vec2(at / p.cols / p.rows, at)));
}

/// Fills the tile of a with windows of the lines.
fn fill_windows(thread: u32) {
    let k = thread % STEP;
    let tap = steps[k];
    for (var quad = thread / STEP; quad < TILE / 4u; quad += THREADS / STEP) {
        put_a(k, quad, vec4(
            gathered(lines[4u * quad], tap),
            gathered(lines[4u * quad + 1u], tap),
            gathered(lines[4u * quad + 2u], tap),
            gathered(lines[4u * quad + 3u], tap),
        ));
    }
}

/// Writes the thread's sums of the lines' pixels.
fn write_pixels(me: Thread, sums: ptr<function, Sums>, column: u32) {
    for (var vector = 0u; vector < 16u; vector++) {
        let at = lines[sums_line(me, 0u, vector)].w;
        let four = next(me, sums);
        for (var i = 0u; i < 4u; i++) {
            let to = column + sums_column(me, 0u, vector) + i;
            if at >= 0 && to < p.columns {
                let place = u32(at) * p.columns + to;
                var number = four[i];
                if p.add != 0u {
                    number += out[place];
                }
                out[place] = number;
            }
        }
    }
}

fn weight(output: u32, place: u32, places: u32) -> f32 {
    if output < p.columns && place < places {
        return other[output * places + place];
    }
    return 0.0;
}

/// The bias of four columns.
fn biases(column: u32) -> vec4<f32> {
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        if column + i < p.columns {
            four[i] = bias[column + i];
        }
    }
    return four;
}

@compute @workgroup_size(THREADS)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let across = (p.columns + TILE - 1u) / TILE;
    let first = flat(group, groups) / across * TILE;
    let column = flat(group, groups) % across * TILE;
    let pixels = p.batch * p.rows * p.cols;
    if first >= pixels {
        return;
    }
    lines[thread] = pixel_of_y(first + thread, pixels);
    if thread < STEP {
        steps[thread] = window(thread);
    }
    let places = p.kernel * p.kernel * p.depth;
    let k = thread % STEP;
    var sums = Sums();
    for (var place = 0u; place < places; place += STEP) {
        workgroupBarrier();
        fill_windows(thread);
        for (var quad = thread / STEP; quad < TILE / 4u; quad += THREADS / STEP) {
            let output = column + 4u * quad;
            put_b(k, quad, vec4(
                weight(output, place + k, places),
                weight(output + 1u, place + k, places),
                weight(output + 2u, place + k, places),
                weight(output + 3u, place + k, places),
            ));
        }
        workgroupBarrier();
        if thread < STEP {
            steps[thread] = window(place + STEP + thread);
        }
        multiply(me, 0u, zero(), &sums);
    }
    if p.with_bias != 0u {
        for (var vector = 0u; vector < 16u; vector++) {
            sums[0] += biases(column + sums_column(me, 0u, vector));
            next(me, &sums);
        }
    }
    write_pixels(me, &sums, column);
}

/// Which taps along one axis reach pixels of a class, and from where.
struct Axis {
    count: u32, // taps, those of the second of two rows behind those of the first
    first: u32, // of the first
    tap: vec2<u32>, // the first tap of each row, then every stride-th
    offset: vec2<i32>, // where it gathers, from the pixel's own place; then one before that, ...
}

fn axis(class_of: u32) -> Axis {
    let start = vec2(0u, 1u) + p.scale * class_of + p.padding;
    let tap = start % p.stride;
    let more = select(vec2(0u), (p.kernel - tap + p.stride - 1u) / p.stride, tap < vec2(p.kernel));
    return Axis(more.x + select(0u, more.y, p.scale == 2u), more.x, tap, vec2<i32>(start / p.stride));
}

/// Offset and tap of an entry of an axis.
fn entry(of_axis: Axis, at: u32) -> vec2<i32> {
    if at < of_axis.first {
        return vec2(of_axis.offset.x - i32(at), i32(of_axis.tap.x + p.stride * at));
    }
    let behind = at - of_axis.first;
    return vec2(of_axis.offset.y - i32(behind), i32(of_axis.tap.y + p.stride * behind));
}

/// The taps that reach a class, and the output channel, that stand at a place of the inner extent.
fn turned(down: Axis, right: Axis, place: u32) -> vec4<i32> {
    let at = place / p.depth;
    if at >= down.count * right.count {
        return vec4(OUTSIDE, OUTSIDE, 0, -1);
    }
    let u = entry(down, at / right.count);
    let v = entry(right, at % right.count);
    return vec4(u.x, v.x, i32(place % p.depth), u.y * i32(p.kernel) + v.y);
}

fn turned_weight(column: u32, step: vec4<i32>) -> f32 {
    if step.w >= 0 && column < p.columns {
        let line = u32(step.z) * p.kernel * p.kernel + u32(step.w);
        return other[line * p.weight_depth + p.weight_first + column];
    }
    return 0.0;
}

/// The pixel of a class, and where it lies in `out`.
fn pixel_of_class(at: u32, class_at: vec2<u32>, extent: vec2<u32>) -> vec4<i32> {
    let pixel = vec2(at / extent.y % extent.x, at % extent.y);
    let picture = at / extent.y / extent.x;
    if picture >= p.batch {
        return vec4(OUTSIDE, OUTSIDE, 0, -1);
    }
    let to = pixel * p.stride + class_at;
    return vec4(vec2<i32>(pixel * p.scale), vec2<i32>(vec2(picture, (picture * p.rows + to.x) * p.cols + to.y)));
}

@compute @workgroup_size(THREADS)
fn dgrad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let across = (p.columns + TILE - 1u) / TILE;
    let tile = flat(group, groups) % p.tiles;
    let class_id = flat(group, groups) / p.tiles;
    let class_at = vec2(class_id / p.stride, class_id % p.stride);
    if class_at.x >= min(p.stride, p.rows) || class_at.y >= p.cols {
        return;
    }
    let extent = (vec2(p.rows, p.cols) - class_at + p.stride - 1u) / p.stride;
    let first = tile / across * TILE;
    let column = tile % across * TILE;
    if first >= p.batch * extent.x * extent.y {
        return; // there are tiles for the largest class
    }
    let down = axis(class_at.x);
    let right = axis(class_at.y);
    lines[thread] = pixel_of_class(first + thread, class_at, extent);
    if thread < STEP {
        steps[thread] = turned(down, right, thread);
    }
    workgroupBarrier();
    let places = down.count * right.count * p.depth;
    let quad = thread % (TILE / 4u);
    var sums = Sums();
    for (var place = 0u; place < places; place += STEP) {
        workgroupBarrier();
        fill_windows(thread);
        for (var k = thread / (TILE / 4u); k < STEP; k += THREADS / (TILE / 4u)) {
            let at = column + 4u * quad;
            let step = steps[k];
            put_b(k, quad, vec4(
                turned_weight(at, step),
                turned_weight(at + 1u, step),
                turned_weight(at + 2u, step),
                turned_weight(at + 3u, step),
            ));
        }
        workgroupBarrier();
        if thread < STEP {
            steps[thread] = turned(down, right, place + STEP + thread);
        }
        multiply(me, 0u, zero(), &sums);
    }
    write_pixels(me, &sums, column);
}

fn gradient_of_y(output: u32, at: u32, end: u32) -> f32 {
    if output < p.outputs && at < end {
        return other[at * p.outputs + output];
    }
    return 0.0;
}

@compute @workgroup_size(THREADS)
fn wgrad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let across = (p.columns + TILE - 1u) / TILE;
    let tile = flat(group, groups) % p.tiles;
    let part = flat(group, groups) / p.tiles;
    if part >= p.parts {
        return;
    }
    let first = tile / across * TILE;
    let column = tile % across * TILE;
    let end = min((part + 1u) * p.part, p.batch * p.rows * p.cols);
    lines[thread] = window(column + thread);
    if thread < STEP {
        steps[thread] = pixel_of_y(part * p.part + thread, end);
    }
    let quad = thread % (TILE / 4u);
    var sums = Sums();
    for (var at = part * p.part; at < end; at += STEP) {
        workgroupBarrier();
        for (var k = thread / (TILE / 4u); k < STEP; k += THREADS / (TILE / 4u)) {
            let output = first + 4u * quad;
            put_a(k, quad, vec4(
                gradient_of_y(output, at + k, end),
                gradient_of_y(output + 1u, at + k, end),
                gradient_of_y(output + 2u, at + k, end),
                gradient_of_y(output + 3u, at + k, end),
            ));
            put_b(k, quad, vec4(
                gathered(steps[k], lines[4u * quad]),
                gathered(steps[k], lines[4u * quad + 1u]),
                gathered(steps[k], lines[4u * quad + 2u]),
                gathered(steps[k], lines[4u * quad + 3u]),
            ));
        }
        workgroupBarrier();
        if thread < STEP {
            steps[thread] = pixel_of_y(at + STEP + thread, end);
        }
        multiply(me, 0u, zero(), &sums);
    }
    for (var vector = 0u; vector < 16u; vector++) {
        let output = first + sums_line(me, 0u, vector);
        let four = next(me, &sums);
        for (var i = 0u; i < 4u; i++) {
            let to = column + sums_column(me, 0u, vector) + i;
            if output < p.outputs && to < p.columns {
                out[(part * p.outputs + output) * p.columns + to] = four[i];
            }
        }
    }
}
