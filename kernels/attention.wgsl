// Multi-head self-attention within packed sequences: context = softmax(q · kT / sqrt D) · v, and its gradient.
//
// A workgroup has a tile of 64 rows of one sequence and one head: queries, or keys for dk and dv. It goes through the tiles
// of 32 rows on the other side; nothing of the size of queries x keys reaches memory. A thread has four rows of the tile and
// two rows of the other side, then four features of the result. Features of the result come in chunks of 64: with more per
// head a workgroup makes one chunk of them, and the logits anew for each. Rows from the last offset on are neither read nor
// written.
//
//   matrices         [rows, heads * depth]. By what they are in `fwd`, `dq`, `dkv`:
//     a, b           q, k; q, k; k, q: rows of the tile, of the other side: their products are the logits
//     a2, b2         -, v; d_context, v; v, d_context: their products are the gradient of the attention
//     out, out2      context; dq; dk, dv
//   offsets          [sequences + 1]; lengths [sequences]: keys, at most the rows
//   places           [tiles]: of each tile sequence's first row, its rows, its keys, and the first row of the tile in the
//                    sequence; a tile too many has no rows
//   lse              [rows, heads], written by `fwd`
//   statistics       [rows, heads]: lse and delta = sum of d_context * context
//   dispatch         tiles: a thread to a tile; deltas: a thread to a row's head; the others: a workgroup to a chunk of a head
//                    of a tile
//   Loads of a, a2, b and b2 are written out: a function cannot be given a buffer, one that is told which to read took 12 %
//   longer on lavapipe, and an entry is given exactly the buffers that its functions name.
//   Results: over features and rows in order; over keys for the softmax every 16th pair by a thread.
//   rows * heads * depth < 2^31: ShaderIo::check sees to it.

struct Attention {
    sequences: u32,
    tiles: u32, // at most
    heads: u32,
    depth: u32,
    chunks: u32, // depth / 64 rounded up
    scale: f32, // 1 / sqrt(depth)
}

@group(0) @binding(0) var<uniform> p: Attention;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> b2: array<f32>;
@group(0) @binding(4) var<storage, read_write> places: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(6) var<storage, read_write> statistics: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> a2: array<f32>;
@group(0) @binding(8) var<storage, read_write> out2: array<f32>;

@group(0) @binding(1) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(2) var<storage, read_write> lengths: array<i32>;
@group(0) @binding(3) var<storage, read_write> tiles_out: array<vec4<u32>>;

@group(0) @binding(2) var<storage, read_write> context: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_context: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse_in: array<f32>;
@group(0) @binding(5) var<storage, read_write> statistics_out: array<vec2<f32>>;

const ROWS: u32 = 64u; // of a tile; features of a chunk
const OTHER: u32 = 32u; // rows of a tile of the other side
const EACH: u32 = 16u; // features, or rows of the other side, between two barriers
const LINE: u32 = 17u; // vectors from one line of workgroup memory to the next
const LOWEST: f32 = -1e38;

/// Finds the sequence of each tile.
@compute @workgroup_size(WIDTH)
fn tiles(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.tiles {
        return;
    }
    var tile = at;
    var place = vec4<u32>();
    for (var sequence = 0u; sequence < p.sequences; sequence++) {
        let first = u32(offsets[sequence]);
        let rows = u32(offsets[sequence + 1u]) - first;
        let count = (rows + ROWS - 1u) / ROWS;
        if tile < count {
            place = vec4(first, rows, u32(lengths[sequence]), tile * ROWS);
            break;
        }
        tile -= count;
    }
    tiles_out[at] = place;
}

@compute @workgroup_size(WIDTH)
fn deltas(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= u32(offsets[p.sequences]) * p.heads {
        return;
    }
    var sum = 0.0;
    for (var feature = 0u; feature < p.depth; feature++) {
        sum += d_context[at * p.depth + feature] * context[at * p.depth + feature];
    }
    statistics_out[at] = vec2(lse_in[at], sum);
}

var<workgroup> left: array<vec4<f32>, 272>; // four rows of the tile of each feature; or four features of each row to be summed
var<workgroup> right: array<vec2<f32>, 272>; // two rows of the other side of each feature
var<workgroup> weights: array<vec4<f32>, 544>; // four rows of the tile of each row of the other side
var<workgroup> found: vec4<u32>;

/// What a workgroup works on, and which part of it a thread has.
struct Place {
    first: u32, // row of the sequence
    rows: u32,
    keys: u32,
    row: u32, // the first of four within the sequence
    head: u32,
    chunk: u32,
    fast: u32, // of the thread
    slow: u32,
}

fn place_of(number: u32, thread: u32) -> Place {
    let tile = number / p.chunks / p.heads;
    if thread == 0u {
        found = vec4<u32>();
        if tile < p.tiles {
            found = places[tile];
        }
    }
    let at = workgroupUniformLoad(&found);
    let slow = thread / 16u;
    let row = at.w + 4u * slow;
    return Place(at.x, at.y, at.z, row, number / p.chunks % p.heads, number % p.chunks, thread % 16u, slow);
}

/// Where the features of a row's head begin.
fn line(at: Place, row: u32) -> u32 {
    return ((at.first + row) * p.heads + at.head) * p.depth;
}

fn number_a(at: Place, row: u32, end: u32, feature: u32) -> f32 {
    if row < end && feature < p.depth {
        return a[line(at, row) + feature];
    }
    return 0.0;
}

fn number_a2(at: Place, row: u32, end: u32, feature: u32) -> f32 {
    if row < end && feature < p.depth {
        return a2[line(at, row) + feature];
    }
    return 0.0;
}

fn number_b(at: Place, row: u32, end: u32, feature: u32) -> f32 {
    if row < end && feature < p.depth {
        return b[line(at, row) + feature];
    }
    return 0.0;
}

fn number_b2(at: Place, row: u32, end: u32, feature: u32) -> f32 {
    if row < end && feature < p.depth {
        return b2[line(at, row) + feature];
    }
    return 0.0;
}

/// Products of a thread's four rows with two rows of the other side.
struct Products {
    x: vec4<f32>,
    y: vec4<f32>,
}

/// Adds those of the features in workgroup memory.
fn multiplied(before: Products, at: Place) -> Products {
    var products = before;
    workgroupBarrier();
    for (var k = 0u; k < EACH; k++) {
        let rows = left[k * LINE + at.slow];
        let others = right[k * LINE + at.fast];
        products.x += rows * others.x;
        products.y += rows * others.y;
    }
    workgroupBarrier();
    return products;
}

/// a · bT, of rows before `end` and before `other_end`.
fn logits(at: Place, end: u32, other: u32, other_end: u32) -> Products {
    var products = Products();
    let x = at.row;
    let y = other + 2u * at.slow;
    for (var k = 0u; k < p.depth; k += EACH) {
        let f = k + at.fast;
        left[at.fast * LINE + at.slow] = vec4(
            number_a(at, x, end, f), number_a(at, x + 1u, end, f),
            number_a(at, x + 2u, end, f), number_a(at, x + 3u, end, f));
        right[at.fast * LINE + at.slow] = vec2(number_b(at, y, other_end, f), number_b(at, y + 1u, other_end, f));
        products = multiplied(products, at);
    }
    return products;
}

/// a2 · b2T, likewise.
fn d_attention(at: Place, end: u32, other: u32, other_end: u32) -> Products {
    var products = Products();
    let x = at.row;
    let y = other + 2u * at.slow;
    for (var k = 0u; k < p.depth; k += EACH) {
        let f = k + at.fast;
        left[at.fast * LINE + at.slow] = vec4(
            number_a2(at, x, end, f), number_a2(at, x + 1u, end, f),
            number_a2(at, x + 2u, end, f), number_a2(at, x + 3u, end, f));
        right[at.fast * LINE + at.slow] = vec2(number_b2(at, y, other_end, f), number_b2(at, y + 1u, other_end, f));
        products = multiplied(products, at);
    }
    return products;
}

/// Lays a thread's weights down, to be read by those with the same rows of the tile.
fn put_weights(products: Products, at: Place) {
    weights[2u * at.fast * LINE + at.slow] = products.x;
    weights[(2u * at.fast + 1u) * LINE + at.slow] = products.y;
}

/// Four rows of the result to one of its features: the features of a thread.
struct Results {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
}

/// Adds weights times the 16 rows in workgroup memory, the first of which is row `half` of the other side.
fn added(before: Results, half: u32, at: Place) -> Results {
    var sums = before;
    workgroupBarrier();
    for (var k = 0u; k < EACH; k++) {
        let rows = weights[(half + k) * LINE + at.slow];
        let features = left[k * LINE + at.fast];
        sums.x += rows * features.x;
        sums.y += rows * features.y;
        sums.z += rows * features.z;
        sums.w += rows * features.w;
    }
    workgroupBarrier();
    return sums;
}

/// before + weights · b.
fn weighted(before: Results, at: Place, other: u32, other_end: u32) -> Results {
    var sums = before;
    let f = at.chunk * ROWS + 4u * at.fast;
    for (var half = 0u; half < OTHER; half += EACH) {
        let y = other + half + at.slow;
        left[at.slow * LINE + at.fast] = vec4(
            number_b(at, y, other_end, f), number_b(at, y, other_end, f + 1u),
            number_b(at, y, other_end, f + 2u), number_b(at, y, other_end, f + 3u));
        sums = added(sums, half, at);
    }
    return sums;
}

/// before + weights · b2.
fn weighted2(before: Results, at: Place, other: u32, other_end: u32) -> Results {
    var sums = before;
    let f = at.chunk * ROWS + 4u * at.fast;
    for (var half = 0u; half < OTHER; half += EACH) {
        let y = other + half + at.slow;
        left[at.slow * LINE + at.fast] = vec4(
            number_b2(at, y, other_end, f), number_b2(at, y, other_end, f + 1u),
            number_b2(at, y, other_end, f + 2u), number_b2(at, y, other_end, f + 3u));
        sums = added(sums, half, at);
    }
    return sums;
}

/// Exponentials where there is something on both sides, zero elsewhere.
fn exponentials(x: vec4<f32>, row: u32, end: u32, there: bool) -> vec4<f32> {
    let rows = vec4(row, row + 1u, row + 2u, row + 3u) < vec4(end);
    let each = vec4(exponential(x.x), exponential(x.y), exponential(x.z), exponential(x.w));
    return select(vec4(0.0), each, rows & vec4(there));
}

/// Feature `j` of a thread's four, of the row `i` of its four.
fn sum_at(sums: Results, i: u32, j: u32) -> f32 {
    return select(select(sums.x, sums.y, j == 1u), select(sums.z, sums.w, j == 3u), j > 1u)[i];
}

/// The largest of the 16 threads with the same rows.
fn rows_max(own: vec4<f32>, thread: u32, at: Place) -> vec4<f32> {
    left[thread] = own;
    workgroupBarrier();
    var most = own;
    for (var i = 0u; i < 16u; i++) {
        most = max(most, left[at.slow * 16u + i]);
    }
    workgroupBarrier();
    return most;
}

/// Their sum.
fn rows_sum(own: vec4<f32>, thread: u32, at: Place) -> vec4<f32> {
    left[thread] = own;
    workgroupBarrier();
    var sum = vec4<f32>();
    for (var i = 0u; i < 16u; i++) {
        sum += left[at.slow * 16u + i];
    }
    workgroupBarrier();
    return sum;
}

/// Context and lse of a tile of queries, the softmax online: with m the highest logit so far, sums of exp(logit - m) and of
/// exp(logit - m) · v, scaled when m grows.
@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = place_of(flat(group, groups), thread);
    var sums = Results();
    var highest = vec4(LOWEST);
    var total = vec4<f32>();
    for (var other = 0u; other < at.keys; other += OTHER) {
        var s = logits(at, at.rows, other, at.keys);
        let y = other + 2u * at.fast;
        s.x = select(vec4(LOWEST), s.x * p.scale, y < at.keys);
        s.y = select(vec4(LOWEST), s.y * p.scale, y + 1u < at.keys);
        let most = max(highest, rows_max(max(s.x, s.y), thread, at));
        let kept = exponentials(highest - most, at.row, at.rows, true);
        highest = most;
        s.x = exponentials(s.x - most, at.row, at.rows, y < at.keys);
        s.y = exponentials(s.y - most, at.row, at.rows, y + 1u < at.keys);
        total = total * kept + s.x + s.y;
        sums.x *= kept;
        sums.y *= kept;
        sums.z *= kept;
        sums.w *= kept;
        put_weights(s, at);
        sums = weighted2(sums, at, other, at.keys);
    }
    total = rows_sum(total, thread, at);
    for (var i = 0u; i < 4u; i++) {
        let row = at.row + i;
        if row >= at.rows {
            break;
        }
        for (var j = 0u; j < 4u; j++) {
            let feature = at.chunk * ROWS + 4u * at.fast + j;
            if feature < p.depth {
                out[line(at, row) + feature] = sum_at(sums, i, j) / total[i];
            }
        }
        if at.chunk == 0u && at.fast == 0u {
            lse[(at.first + row) * p.heads + at.head] = highest[i] + logarithm(total[i]);
        }
    }
}

/// lse and delta of a row's head; zeros behind the end.
fn statistics_of(at: Place, row: u32) -> vec2<f32> {
    if row < at.rows {
        return statistics[(at.first + row) * p.heads + at.head];
    }
    return vec2<f32>();
}

/// dq of a tile of queries: the sum over keys of ds · k, ds = attention · (d_context · v - delta) / sqrt D.
@compute @workgroup_size(WIDTH)
fn dq(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = place_of(flat(group, groups), thread);
    var sums = Results();
    let one = statistics_of(at, at.row);
    let two = statistics_of(at, at.row + 1u);
    let three = statistics_of(at, at.row + 2u);
    let four = statistics_of(at, at.row + 3u);
    let lses = vec4(one.x, two.x, three.x, four.x);
    let delta = vec4(one.y, two.y, three.y, four.y);
    for (var other = 0u; other < at.keys; other += OTHER) {
        let s = logits(at, at.rows, other, at.keys);
        let d = d_attention(at, at.rows, other, at.keys);
        let y = other + 2u * at.fast;
        let x_share = exponentials(s.x * p.scale - lses, at.row, at.rows, y < at.keys);
        let y_share = exponentials(s.y * p.scale - lses, at.row, at.rows, y + 1u < at.keys);
        put_weights(Products(x_share * (d.x - delta) * p.scale, y_share * (d.y - delta) * p.scale), at);
        sums = weighted(sums, at, other, at.keys);
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let feature = at.chunk * ROWS + 4u * at.fast + j;
            if at.row + i < at.rows && feature < p.depth {
                out[line(at, at.row + i) + feature] = sum_at(sums, i, j);
            }
        }
    }
}

/// dk and dv of a tile of keys: the sums over queries of ds · q and of attention · d_context; zero behind the last key.
@compute @workgroup_size(WIDTH)
fn dkv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = place_of(flat(group, groups), thread);
    var d_keys = Results();
    var d_values = Results();
    for (var other = 0u; other < at.rows; other += OTHER) {
        let s = logits(at, at.keys, other, at.rows);
        let d = d_attention(at, at.keys, other, at.rows);
        let y = other + 2u * at.fast;
        let one = statistics_of(at, y);
        let two = statistics_of(at, y + 1u);
        let x_share = exponentials(s.x * p.scale - one.x, at.row, at.keys, y < at.rows);
        let y_share = exponentials(s.y * p.scale - two.x, at.row, at.keys, y + 1u < at.rows);
        put_weights(Products(x_share, y_share), at);
        d_values = weighted2(d_values, at, other, at.rows);
        put_weights(Products(x_share * (d.x - one.y) * p.scale, y_share * (d.y - two.y) * p.scale), at);
        d_keys = weighted(d_keys, at, other, at.rows);
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let feature = at.chunk * ROWS + 4u * at.fast + j;
            if at.row + i < at.rows && feature < p.depth {
                out[line(at, at.row + i) + feature] = sum_at(d_keys, i, j);
                out2[line(at, at.row + i) + feature] = sum_at(d_values, i, j);
            }
        }
    }
}
