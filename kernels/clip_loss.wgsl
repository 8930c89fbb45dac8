// Contrastive loss between images and texts, and its gradient. With i = x / max(|x|, 1e-12) of the images, t of the texts:
//
//   s = i · tT / temperature; rows and columns offset .. offset + count are own
//   loss = weight_0 · mean over own i of (log sum exp s[i, :] - s[i, i]) + weight_1 · the same of the columns s[:, i]
//   ds[i, j] = seed / count / temperature · (weight_0 · (exp(s[i, j] - lse of row i) - [i = j]) if i is own
//            + weight_1 · (exp(s[i, j] - lse of column j) - [i = j]) if j is own)
//
//   x, d_x            [rows, features]: one of the two sides, or its gradient
//   units, d_units    the same: i or t, and the gradient by it
//   norms             [rows]
//   s                 [rows, rows], times the temperature; ds in the end
//   statistics        [count, 3]: lse of an own row, of an own column, how many texts are more similar than the own one
//   loss, top1, top5, seed  [1]
//   dispatch          normalise and bwd: a workgroup to a row; softmax: to an own row and column; finish: one; d_similarities:
//                     a thread to a similarity; the products between them: kernels/linear.wgsl
//   Sums: every 256th number by a thread, threads by a tree.
//   rows * features, rows * rows < 2^31: src/ops/clip_loss/wgsl.rs checks.

struct ClipLoss {
    rows: u32,
    features: u32,
    offset: u32,
    count: u32,
    temperature: f32,
    weight_0: f32,
    weight_1: f32,
}

@group(0) @binding(0) var<uniform> p: ClipLoss;

@group(0) @binding(1) var<storage, read_write> units: array<f32>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_units: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_x: array<f32>;

@group(0) @binding(1) var<storage, read_write> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> top1: array<f32>;
@group(0) @binding(5) var<storage, read_write> top5: array<f32>;
@group(0) @binding(3) var<storage, read_write> seed: array<f32>;

const SMALLEST_NORM: f32 = 1e-12;

fn similarity(row: u32, column: u32) -> f32 {
    return s[row * p.rows + column] / p.temperature;
}

/// Units and norms.
@compute @workgroup_size(WIDTH)
fn normalise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let row = flat(group, groups);
    if row >= p.rows {
        return;
    }
    let first = row * p.features;
    var square = 0.0;
    for (var at = thread; at < p.features; at += WIDTH) {
        square += x[first + at] * x[first + at];
    }
    let root = sqrt(group_sum(square, me));
    let norm = select(root, SMALLEST_NORM, root < SMALLEST_NORM); // NaN stays NaN
    for (var at = thread; at < p.features; at += WIDTH) {
        units[first + at] = x[first + at] / norm;
    }
    if thread == 0u {
        norms[row] = norm;
    }
}

/// lse of an own row and of the column with its number, and how many texts are more similar than the own one: what cannot
/// be compared is.
@compute @workgroup_size(WIDTH)
fn softmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let number = flat(group, groups);
    if number >= p.count {
        return;
    }
    let own = p.offset + number;
    let same = similarity(own, own);
    var highest = vec2(same);
    var before = 0.0;
    for (var other = thread; other < p.rows; other += WIDTH) {
        let by_row = similarity(own, other);
        highest = max(highest, vec2(by_row, similarity(other, own)));
        before += select(0.0, 1.0, by_row > same || !is_finite(by_row) || !is_finite(same));
    }
    let row_highest = group_max(highest.x, me);
    let column_highest = group_max(highest.y, me);
    var sum = vec2<f32>();
    for (var other = thread; other < p.rows; other += WIDTH) {
        sum.x += exponential(similarity(own, other) - row_highest);
        sum.y += exponential(similarity(other, own) - column_highest);
    }
    sum = group_sums(sum, me, WIDTH);
    before = group_sum(before, me);
    if thread == 0u {
        statistics[3u * number] = row_highest + logarithm(sum.x);
        statistics[3u * number + 1u] = column_highest + logarithm(sum.y);
        statistics[3u * number + 2u] = before;
    }
}

@compute @workgroup_size(WIDTH)
fn finish(me: Thread) {
    let thread = me.index;
    var losses = vec2<f32>();
    var hits = vec2<f32>();
    for (var number = thread; number < p.count; number += WIDTH) {
        let own = p.offset + number;
        let at = 3u * number;
        losses += vec2(statistics[at], statistics[at + 1u]) - similarity(own, own);
        hits += select(vec2(0.0), vec2(1.0), vec2(statistics[at + 2u]) < vec2(1.0, 5.0));
    }
    losses = group_sums(losses, me, WIDTH) / f32(p.count);
    hits = group_sums(hits, me, WIDTH) / f32(p.count);
    if thread == 0u {
        loss[0] = p.weight_0 * losses.x + p.weight_1 * losses.y;
        top1[0] = hits.x;
        top5[0] = hits.y;
    }
}

/// Similarities to their gradients, in place.
@compute @workgroup_size(WIDTH)
fn d_similarities(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.rows * p.rows {
        return;
    }
    let row = at / p.rows;
    let column = at % p.rows;
    let each = seed[0] / f32(p.count) / p.temperature;
    let same = select(0.0, 1.0, row == column);
    var d = 0.0;
    if row >= p.offset && row < p.offset + p.count {
        d += each * p.weight_0 * (exponential(similarity(row, column) - statistics[3u * (row - p.offset)]) - same);
    }
    if column >= p.offset && column < p.offset + p.count {
        d += each * p.weight_1 * (exponential(similarity(row, column) - statistics[3u * (column - p.offset) + 1u]) - same);
    }
    s[at] = d;
}

/// Through the normalisation: dx = (du - u (u · du)) / |x|, or du / the smallest norm where |x| is below it.
@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let row = flat(group, groups);
    if row >= p.rows {
        return;
    }
    let first = row * p.features;
    var dot = 0.0;
    for (var at = thread; at < p.features; at += WIDTH) {
        dot += units[first + at] * d_units[first + at];
    }
    dot = group_sum(dot, me);
    let norm = norms[row];
    dot = select(dot, 0.0, norm == SMALLEST_NORM);
    for (var at = thread; at < p.features; at += WIDTH) {
        d_x[first + at] = (d_units[first + at] - units[first + at] * dot) / norm;
    }
}
