// A linear map of the last extent, its gradients, and the sums over rows that gradients by a bias and partial sums need.
//
//   fwd      out[r,o] = sum over i of a[r,i] b[o,i], + bias[o]     a = x [rows, depth], b = w [columns, depth]
//   dgrad    out[r,i] = sum over o of a[r,o] b[o,i], + out[r,i]    a = dy [rows, depth], b = w [depth, columns]
//   wgrad    out[part,o,i] = sum over the part's r of a[r,o] b[r,i]
//                                                                  a = dy [rows, lines], b = x [rows, columns]
//   columns  out[part,c] = sum over the part's r of a[r,c]         a [rows, columns]
//
//   out       fwd, dgrad [rows, columns]; wgrad [parts, lines, columns]; columns [parts, columns]
//   bias      [columns], unread unless `bias`
//   offsets   [batch + 1], unread unless `packed`: the last is how many rows are real; the others are neither read nor
//             written, and add nothing
//   dispatch  fwd, dgrad, wgrad: a workgroup of THREADS to 64 lines and 64 columns of the product, columns first; wgrad: all of
//             these for each part; columns: a workgroup of 256 to `across` columns, all of these for each part; all folded
//   Sums: in order of i, o or r, two products at a time (cooperative.wgsl: eight, in an order of the adapter's), the bias, or what
//   `out` holds, last. Of columns every 256 / across-th row by a thread, then threads by a tree.
//   Numbers of each buffer < 2^31, across a power of two up to 256: src/ops/linear/wgsl.rs checks.

struct Linear {
    rows: u32,
    lines: u32,
    columns: u32,
    depth: u32,
    part: u32, // rows of a part
    parts: u32,
    across: u32,
    batch: u32,
    packed: u32,
    bias: u32,
    add: u32, // dgrad: the sums are added to what `out` holds
}

@group(0) @binding(0) var<uniform> p: Linear;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(4) var<storage, read_write> b: array<f32>;
@group(0) @binding(5) var<storage, read_write> bias: array<f32>;

var<workgroup> extent: u32;
var<workgroup> of_threads: array<f32, WIDTH>;

/// A zero that no compiler knows: extents are below 2^31.
fn zero() -> u32 {
    return p.columns >> 31u;
}

/// How many rows are real, alike for all threads.
fn real_rows(thread: u32) -> u32 {
    if thread == 0u {
        extent = p.rows;
        if p.packed != 0u {
            extent = u32(offsets[p.batch]);
        }
    }
    return workgroupUniformLoad(&extent);
}

/// A number of a whose rows are lines of the product.
fn a_line(line: u32, rows: u32, k: u32) -> f32 {
    if line < rows && k < p.depth {
        return a[line * p.depth + k];
    }
    return 0.0;
}

/// A number of b whose rows are columns of the product.
fn b_line(column: u32, k: u32) -> f32 {
    if column < p.columns && k < p.depth {
        return b[column * p.depth + k];
    }
    return 0.0;
}

/// A number of a whose rows are the inner extent.
fn a_column(line: u32, row: u32, end: u32) -> f32 {
    if line < p.lines && row < end {
        return a[row * p.lines + line];
    }
    return 0.0;
}

/// A number of b whose rows are the inner extent.
fn b_column(column: u32, row: u32, end: u32) -> f32 {
    if column < p.columns && row < end {
        return b[row * p.columns + column];
    }
    return 0.0;
}

/// Fills the tile of a with lines from `first` on. Neighbouring threads read neighbours of a row.
fn fill_a_lines(thread: u32, first: u32, rows: u32, start: u32) {
    let k = thread % STEP;
    for (var quad = thread / STEP; quad < TILE / 4u; quad += THREADS / STEP) {
        let line = first + 4u * quad;
        put_a(k, quad, vec4(
            a_line(line, rows, start + k),
            a_line(line + 1u, rows, start + k),
            a_line(line + 2u, rows, start + k),
            a_line(line + 3u, rows, start + k),
        ));
    }
}

fn fill_b_lines(thread: u32, first: u32, start: u32) {
    let k = thread % STEP;
    for (var quad = thread / STEP; quad < TILE / 4u; quad += THREADS / STEP) {
        let column = first + 4u * quad;
        put_b(k, quad, vec4(
            b_line(column, start + k),
            b_line(column + 1u, start + k),
            b_line(column + 2u, start + k),
            b_line(column + 3u, start + k),
        ));
    }
}

fn fill_a_columns(thread: u32, first: u32, start: u32, end: u32) {
    let quad = thread % (TILE / 4u);
    let line = first + 4u * quad;
    for (var k = thread / (TILE / 4u); k < STEP; k += THREADS / (TILE / 4u)) {
        put_a(k, quad, vec4(
            a_column(line, start + k, end),
            a_column(line + 1u, start + k, end),
            a_column(line + 2u, start + k, end),
            a_column(line + 3u, start + k, end),
        ));
    }
}

fn fill_b_columns(thread: u32, first: u32, start: u32, end: u32) {
    let quad = thread % (TILE / 4u);
    let column = first + 4u * quad;
    for (var k = thread / (TILE / 4u); k < STEP; k += THREADS / (TILE / 4u)) {
        put_b(k, quad, vec4(
            b_column(column, start + k, end),
            b_column(column + 1u, start + k, end),
            b_column(column + 2u, start + k, end),
            b_column(column + 3u, start + k, end),
        ));
    }
}

/// What a tile's result is: where it begins in `out`, its first line and column, and how many lines there are.
struct Result {
    at: u32,
    first: u32,
    column: u32,
    lines: u32,
}

/// Writes four numbers of a line.
fn put(to: Result, line: u32, column: u32, four: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if line < to.lines && column + i < p.columns {
            let at = to.at + line * p.columns + column + i;
            var number = four[i];
            if p.add != 0u {
                number += out[at];
            }
            out[at] = number;
        }
    }
}

/// Writes the sums of a turn.
fn write(me: Thread, turn: u32, sums: ptr<function, Sums>, to: Result) {
    for (var vector = 0u; vector < 16u; vector++) {
        let column = to.column + sums_column(me, turn, vector);
        put(to, to.first + sums_line(me, turn, vector), column, next(me, sums));
    }
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

/// Writes the sums of a turn with the bias.
fn write_biased(me: Thread, turn: u32, sums: ptr<function, Sums>, to: Result) {
    for (var vector = 0u; vector < 16u; vector++) {
        let column = to.column + sums_column(me, turn, vector);
        put(to, to.first + sums_line(me, turn, vector), column, next(me, sums) + biases(column));
    }
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
    let rows = real_rows(thread);
    if first >= rows {
        return;
    }
    let all = turns(me);
    for (var turn = 0u; turn < all; turn++) {
        var sums = Sums();
        for (var k = 0u; k < p.depth; k += STEP) {
            workgroupBarrier();
            fill_a_lines(thread, first, rows, k);
            fill_b_lines(thread, column, k);
            workgroupBarrier();
            multiply(me, turn, zero(), &sums);
        }
        if p.bias != 0u {
            write_biased(me, turn, &sums, Result(0u, first, column, rows));
        } else {
            write(me, turn, &sums, Result(0u, first, column, rows));
        }
    }
}

@compute @workgroup_size(THREADS)
fn dgrad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let across = (p.columns + TILE - 1u) / TILE;
    let first = flat(group, groups) / across * TILE;
    let column = flat(group, groups) % across * TILE;
    let rows = real_rows(thread);
    if first >= rows {
        return;
    }
    let all = turns(me);
    for (var turn = 0u; turn < all; turn++) {
        var sums = Sums();
        for (var k = 0u; k < p.depth; k += STEP) {
            workgroupBarrier();
            fill_a_lines(thread, first, rows, k);
            fill_b_columns(thread, column, k, p.depth);
            workgroupBarrier();
            multiply(me, turn, zero(), &sums);
        }
        write(me, turn, &sums, Result(0u, first, column, rows));
    }
}

@compute @workgroup_size(THREADS)
fn wgrad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let across = (p.columns + TILE - 1u) / TILE;
    let tiles = (p.lines + TILE - 1u) / TILE * across;
    let part = flat(group, groups) / tiles;
    if part >= p.parts {
        return;
    }
    let tile = flat(group, groups) % tiles;
    let first = tile / across * TILE;
    let column = tile % across * TILE;
    let end = min((part + 1u) * p.part, real_rows(thread));
    let all = turns(me);
    for (var turn = 0u; turn < all; turn++) {
        var sums = Sums();
        for (var row = part * p.part; row < end; row += STEP) {
            workgroupBarrier();
            fill_a_columns(thread, first, row, end);
            fill_b_columns(thread, column, row, end);
            workgroupBarrier();
            multiply(me, turn, zero(), &sums);
        }
        write(me, turn, &sums, Result(part * p.lines * p.columns, first, column, p.lines));
    }
}

@compute @workgroup_size(WIDTH)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let pieces = (p.columns + p.across - 1u) / p.across;
    let part = flat(group, groups) / pieces;
    if part >= p.parts {
        return;
    }
    let column = flat(group, groups) % pieces * p.across + thread % p.across;
    let end = min((part + 1u) * p.part, real_rows(thread));
    var sum = 0.0;
    if column < p.columns {
        for (var row = part * p.part + thread / p.across; row < end; row += WIDTH / p.across) {
            sum += a[row * p.columns + column];
        }
    }
    of_threads[thread] = sum;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half >= p.across; half /= 2u) {
        if thread < half {
            of_threads[thread] += of_threads[thread + half];
        }
        workgroupBarrier();
    }
    if thread < p.across && column < p.columns {
        out[part * p.columns + column] = of_threads[thread];
    }
}
