// MaskThreshold: an image's scores from the heads' attention, and the threshold among them.
//
//   cell = mean or maximum over `counted` heads from `first` on
//   threshold = the mean of the cells, or, if `mixture`, where the upper of two Gaussians becomes the more likely:
//   src/ops/mask_threshold/mod.rs has the steps. Cells that are all equal are their own threshold.
//
//   map        [images, heads, count]
//   cells      [images, count]
//   threshold  [images]
//   dispatch   aggregate: a thread to a cell, folded; find: a workgroup to an image
//   Heads are added in their order; sums over cells by threads in strides of 256, then in a tree. Numbers of the map < 2^31:
//   ShaderIo::check sees to it.

struct MaskThreshold {
    images: u32,
    heads: u32,
    count: u32, // cells of an image
    first: u32,
    counted: u32,
    largest: u32,
    mixture: u32,
}

@group(0) @binding(0) var<uniform> p: MaskThreshold;
@group(0) @binding(1) var<storage, read_write> map: array<f32>;
@group(0) @binding(2) var<storage, read_write> cells: array<f32>;
@group(0) @binding(1) var<storage, read_write> threshold: array<f32>;

const STEPS: u32 = 50u;
const HALVINGS: u32 = 30u;
const VARIANCE: f32 = 1e-3;
const PRESENCE: f32 = 1e-12;

@compute @workgroup_size(WIDTH)
fn aggregate(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.images * p.count {
        return;
    }
    let first = (at / p.count * p.heads + p.first) * p.count + at % p.count;
    var sum = 0.0;
    var most = map[first];
    for (var head = 0u; head < p.counted; head++) {
        let next = map[first + head * p.count];
        sum += next;
        if !is_nan(most) && (is_nan(next) || next > most) {
            most = next;
        }
    }
    cells[at] = select(sum / f32(p.counted), most, p.largest != 0u);
}

/// A Gaussian: its mean, variance and part of the mixture.
struct Component {
    mean: f32,
    variance: f32,
    weight: f32,
}

/// The natural logarithm of a positive number.
fn log_of(x: f32) -> f32 {
    return select(logarithm(x), -logarithm(1.0 / x), x < 1.0);
}

/// Logarithm of a component's density, less a constant.
fn log_density(c: Component, z: f32) -> f32 {
    return log_of(c.weight) - 0.5 * log_of(c.variance) - 0.5 * (z - c.mean) * (z - c.mean) / c.variance;
}

/// Of the second component against the first.
fn log_odds(a: Component, b: Component, z: f32) -> f32 {
    return log_density(b, z) - log_density(a, z);
}

/// How far z belongs to the first and to the second component.
fn belongs(a: Component, b: Component, z: f32) -> vec2<f32> {
    let upper = sigmoid(log_odds(a, b, z));
    return vec2(1.0 - upper, upper);
}

@compute @workgroup_size(WIDTH)
fn find(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let image = flat(group, groups);
    if image >= p.images {
        return;
    }
    let first = image * p.count;
    let end = first + p.count;
    let some = cells[first];
    var sum = 0.0;
    var others = 0.0;
    for (var at = first + thread; at < end; at += WIDTH) {
        sum += cells[at];
        others += select(0.0, 1.0, is_nan(cells[at]) || cells[at] != some);
    }
    let mean = group_sum(sum, me) / f32(p.count);
    let equal = group_sum(others, me) == 0.0;
    var squares = 0.0;
    for (var at = first + thread; at < end; at += WIDTH) {
        squares += (cells[at] - mean) * (cells[at] - mean);
    }
    let deviation = sqrt(group_sum(squares, me) / f32(p.count));
    // What is not used is computed all the same: barriers stand where all threads come by.
    var a = Component(-1.0, 1.0, 0.5);
    var b = Component(1.0, 1.0, 0.5);
    for (var step = 0u; step < STEPS * p.mixture; step++) {
        var presence = vec2(0.0, 0.0);
        var weighted = vec2(0.0, 0.0);
        for (var at = first + thread; at < end; at += WIDTH) {
            let z = (cells[at] - mean) / deviation;
            let each = belongs(a, b, z);
            presence += each;
            weighted += each * z;
        }
        presence = group_sums(presence, me, WIDTH) + PRESENCE;
        let means = group_sums(weighted, me, WIDTH) / presence;
        var spread = vec2(0.0, 0.0);
        for (var at = first + thread; at < end; at += WIDTH) {
            let z = (cells[at] - mean) / deviation;
            spread += belongs(a, b, z) * (z - means) * (z - means);
        }
        let variances = group_sums(spread, me, WIDTH) / presence + VARIANCE;
        a = Component(means.x, variances.x, presence.x / f32(p.count));
        b = Component(means.y, variances.y, presence.y / f32(p.count));
    }
    if thread > 0u {
        return;
    }
    if equal {
        threshold[image] = some;
        return;
    }
    if p.mixture == 0u || !is_finite(deviation) || deviation == 0.0 {
        threshold[image] = mean;
        return;
    }
    if a.mean > b.mean {
        let c = a;
        a = b;
        b = c;
    }
    var low = a.mean;
    var high = b.mean;
    if log_odds(a, b, low) > 0.0 {
        high = low;
    }
    for (var halving = 0u; halving < HALVINGS; halving++) {
        let middle = (low + high) * 0.5;
        if log_odds(a, b, middle) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    threshold[image] = high * deviation + mean;
}
