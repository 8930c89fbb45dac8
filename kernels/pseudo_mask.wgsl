// The pseudo mask: where the image's attention is highest.
//
//   cell = (sum over heads of map) / heads
//   score[y, x] = cell, upsampled, times 1 where there is body and 0 elsewhere
//   low, high = the scores of rank `below` and `above` among all pixels of the image, counted from 0
//   cut = low + factor * (high - low), or high + factor * (high - low) if `from_above`; the image's threshold if `given`
//   chosen[y, x] = 1 if there is body and score >= cut (> cut if `strict`), else 0; 0 throughout if a score is NaN and the
//   cut is not given
//   mask[y, x] = the weighted mean of `chosen` over the disc of that radius; pixels outside the image do not count
//   The mask of place b is that of image (b + shift) mod images.
//
//   map        [images, heads, cells]
//   means      [images, cells]; read as `cells`
//   plane      [images, pixels]: scores, then `chosen`
//   body       [images, pixels] bytes, four to a word; not looked at if `everywhere`
//   threshold  [images]; not looked at unless `given`
//   taps       [height + width, 4]: for each row of pixels two rows of cells and their weights, then the same of columns
//   weights    [radius² + 1, 2]: for each squared distance that of an equal pixel and that of the other kind
//   mask       [images, pixels]
//   dispatch   mean: a thread to a cell; score and smoothen: to a pixel; choose: a workgroup to an image
//   Heads are added in their order; interpolation multiplies and adds as the op's reference does. Order statistics are exact:
//   radix select in four rounds of eight bits of the scores' order-preserving integer image; a fifth round finds the next
//   larger score. Pixels of the disc are added in raster order.
//   Numbers of the map, pixels of all images < 2^31: ShaderIo::check sees to it.

struct PseudoMask {
    images: u32,
    heads: u32,
    cells: u32, // of an image
    columns: u32, // of cells
    height: u32,
    width: u32,
    below: u32,
    above: u32,
    factor: f32,
    from_above: u32,
    strict: u32,
    bilinear: u32,
    products: u32, // weights of both axes are multiplied first
    everywhere: u32,
    radius: u32,
    given: u32,
    shift: u32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> p: PseudoMask;

@group(0) @binding(1) var<storage, read_write> map: array<f32>;
@group(0) @binding(2) var<storage, read_write> means: array<f32>;

@group(0) @binding(1) var<storage, read_write> plane: array<f32>;
@group(0) @binding(2) var<storage, read_write> body: array<u32>;
@group(0) @binding(3) var<storage, read_write> threshold: array<f32>;
@group(0) @binding(3) var<storage, read_write> cells: array<f32>;
@group(0) @binding(4) var<storage, read_write> taps: array<vec4<u32>>;

@group(0) @binding(2) var<storage, read_write> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> weights: array<vec2<f32>>;

fn inside_body(at: u32) -> bool {
    return p.everywhere != 0u || ((body[at / 4u] >> (8u * (at % 4u))) & 0xffu) != 0u;
}

@compute @workgroup_size(WIDTH)
fn mean(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.images * p.cells {
        return;
    }
    let first = at / p.cells * p.heads * p.cells + at % p.cells;
    var sum = 0.0;
    for (var head = 0u; head < p.heads; head++) {
        sum += map[first + head * p.cells];
    }
    means[at] = sum / f32(p.heads);
}

/// a + b rounded, and what is missing.
fn exact_sum(a: f32, b: f32) -> vec2<f32> {
    let sum = rounded(a + b, p.zero);
    let from_b = rounded(sum - a, p.zero);
    let from_a = rounded(sum - from_b, p.zero);
    return vec2(sum, rounded(rounded(a - from_a, p.zero) + rounded(b - from_b, p.zero), p.zero));
}

/// a * b + c rounded once, which the built-in `fma` need not do (Boldo and Melquiond, 2008): beyond the outermost centres
/// many pixels have the same score but for roundings, and the cut may fall among them.
fn fused(a: f32, b: f32, c: f32) -> f32 {
    // The product and what is missing of it, from halves of twelve bits, whose products are exact.
    let product = rounded(a * b, p.zero);
    let a_high = rounded(bitcast<f32>(bitcast<u32>(a) & 0xfffff000u), p.zero);
    let b_high = rounded(bitcast<f32>(bitcast<u32>(b) & 0xfffff000u), p.zero);
    let a_low = rounded(a - a_high, p.zero);
    let b_low = rounded(b - b_high, p.zero);
    var missing = rounded(a_high * b_high - product, p.zero);
    missing = rounded(missing + a_high * b_low, p.zero);
    missing = rounded(missing + a_low * b_high, p.zero);
    missing = rounded(missing + a_low * b_low, p.zero);
    // Of the sum of four the two that matter, and what is left rounded to odd, so that the last rounding is the only one.
    let low = exact_sum(rounded(c, p.zero), missing);
    let high = exact_sum(product, low.x);
    let left = exact_sum(low.y, high.y);
    var odd = bitcast<i32>(left.x);
    if left.y != 0.0 && (odd & 1) == 0 {
        odd += select(-1, 1, (left.x > 0.0) == (left.y > 0.0));
    }
    return high.x + bitcast<f32>(odd);
}

/// Two neighbouring cells of a row, weighted.
fn pair(row: u32, columns: vec2<u32>, shares: vec2<f32>) -> f32 {
    return fused(cells[row + columns.x], shares.x, cells[row + columns.y] * shares.y);
}

@compute @workgroup_size(WIDTH)
fn score(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let pixels = p.height * p.width;
    if at >= p.images * pixels {
        return;
    }
    let down = taps[at % pixels / p.width];
    let across = taps[p.height + at % p.width];
    let rows = at / pixels * p.cells + down.xy * p.columns;
    let y = bitcast<vec2<f32>>(down.zw);
    let x = bitcast<vec2<f32>>(across.zw);
    var value = cells[rows.x + across.x];
    if p.bilinear != 0u && p.products != 0u {
        value = pair(rows.x, across.xy, y.x * x);
        value = fused(cells[rows.y + across.x], y.y * x.x, value);
        value = fused(cells[rows.y + across.y], y.y * x.y, value);
    } else if p.bilinear != 0u {
        value = fused(pair(rows.x, across.xy, x), y.x, pair(rows.y, across.xy, x) * y.y);
    }
    plane[at] = value * select(0.0, 1.0, inside_body(at));
}

var<workgroup> counts: array<atomic<u32>, 256>; // pixels with each digit
var<workgroup> least: atomic<u32>; // key above the one that is found
var<workgroup> not_numbers: atomic<u32>;
var<workgroup> found: vec3<u32>; // the digit, the rank among the keys with it, and how many these are

/// Integers in the order of the numbers.
fn key(number: f32) -> u32 {
    let bits = bitcast<u32>(number);
    return bits ^ select(0x80000000u, 0xffffffffu, bits >> 31u == 1u);
}

fn number(key: u32) -> f32 {
    return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >> 31u == 1u));
}

/// The digit in which the key of rank `rank` lies.
fn find_digit(rank: u32) {
    var rest = rank;
    for (var digit = 0u; digit < 256u; digit++) {
        let count = atomicLoad(&counts[digit]);
        if rest < count {
            found = vec3(digit, rest, count);
            return;
        }
        rest -= count;
    }
}

/// The cut between two order statistics of the scores from `first` to `end`; and 1, or 0 if one of them is NaN.
fn quantile(first: u32, end: u32, thread: u32) -> vec2<f32> {
    if thread == 0u {
        atomicStore(&least, 0xffffffffu);
        atomicStore(&not_numbers, 0u);
    }
    var prefix = 0u; // the digits that are found
    var known = 0u; // their bits
    var rank = p.below; // among the keys that begin with them
    var equal = 0u;
    for (var shift = 24i; shift >= 0i; shift -= 8i) {
        atomicStore(&counts[thread], 0u);
        workgroupBarrier();
        for (var at = first + thread; at < end; at += WIDTH) {
            let own = key(plane[at]);
            if (own & known) == prefix {
                atomicAdd(&counts[(own >> u32(shift)) & 0xffu], 1u);
            }
            if is_nan(plane[at]) {
                atomicStore(&not_numbers, 1u);
            }
        }
        workgroupBarrier();
        if thread == 0u {
            find_digit(rank);
        }
        let digit = workgroupUniformLoad(&found);
        prefix |= digit.x << u32(shift);
        known |= 0xffu << u32(shift);
        rank = digit.y;
        equal = digit.z;
    }
    for (var at = first + thread; at < end; at += WIDTH) {
        let own = key(plane[at]);
        if own > prefix {
            atomicMin(&least, own);
        }
    }
    workgroupBarrier();
    let low = number(prefix);
    var high = low;
    if rank + p.above - p.below >= equal {
        high = number(atomicLoad(&least));
    }
    let cut = select(low, high, p.from_above != 0u) + rounded(p.factor * (high - low), p.zero);
    return vec2(cut, select(0.0, 1.0, atomicLoad(&not_numbers) == 0u));
}

@compute @workgroup_size(WIDTH)
fn choose(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let image = flat(group, groups);
    if image >= p.images {
        return;
    }
    let first = image * p.height * p.width;
    let end = first + p.height * p.width;
    var cut = vec2(0.0, 1.0);
    if p.given != 0u {
        cut.x = threshold[image];
        cut.y = select(1.0, 0.0, is_nan(cut.x));
    } else {
        cut = quantile(first, end, thread);
    }
    for (var at = first + thread; at < end; at += WIDTH) {
        let reached = plane[at] > cut.x || (plane[at] == cut.x && p.strict == 0u);
        let chosen = cut.y == 1.0 && reached && !is_nan(plane[at]) && inside_body(at);
        plane[at] = select(0.0, 1.0, chosen);
    }
}

@compute @workgroup_size(WIDTH)
fn smoothen(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let pixels = p.height * p.width;
    if at >= p.images * pixels {
        return;
    }
    let radius = i32(p.radius);
    let y = i32(at % pixels / p.width);
    let x = i32(at % p.width);
    let own = plane[at];
    var sum = 0.0;
    var weight = 0.0;
    for (var dy = max(-radius, -y); dy <= min(radius, i32(p.height) - 1 - y); dy++) {
        for (var dx = max(-radius, -x); dx <= min(radius, i32(p.width) - 1 - x); dx++) {
            let distance2 = dx * dx + dy * dy;
            if distance2 <= radius * radius {
                let other = plane[u32(i32(at) + dy * i32(p.width) + dx)];
                let pair = weights[distance2];
                let each = select(pair.y, pair.x, other == own);
                sum += each * other;
                weight += each;
            }
        }
    }
    let pixels_of_all = p.images * pixels;
    mask[(at + pixels_of_all - p.shift * pixels) % pixels_of_all] = sum / weight;
}
