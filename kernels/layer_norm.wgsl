// LayerNorm of packed rows [capacity, channels]: s = x + residual?, y = gamma (s - mean) / sqrt(var + eps) + beta, and its
// gradient dx = rstd (g - mean(g) - n mean(g n)) with g = gamma dy, n = (s - mean) rstd; dgamma = sum dy n, dbeta = sum dy.
//
//   add      out = s, addend = x, also = residual: where there is a residual, before fwd
//   fwd      out = y, s, mean, rstd, gamma, beta
//   columns  out = dy, s, mean, rstd -> partials: dgamma and dbeta of each slice; before bwd, which overwrites dy
//   bwd      out = dy, s, mean, rstd, gamma -> out = dx
//   finish   partials -> dgamma, dbeta
//
//   s, x, residual, out          [capacity, channels]
//   mean, rstd                   [capacity]
//   gamma, beta, dgamma, dbeta   [channels]
//   partials                     [slices, 2, channels], workspace
//   offsets                      [batch + 1]: the last is how many rows are real; the others are neither read nor written
//   dispatch  add: a thread to a number; fwd and bwd: a workgroup of 64 to a row; columns: a workgroup to 64 channels of
//             `slice` rows, for each slice all channels; finish: a thread to one of the 2 channels sums; all folded
//   Sums of a row: every 64th channel by a thread, then threads in a tree; the variance is taken about the mean. Of a column:
//   every fourth row of a slice by a thread, these four, then slice after slice.
//   Numbers of x < 2^31: ShaderIo::check sees to it.

struct LayerNorm {
    channels: u32,
    batch: u32,
    eps: f32,
    slice: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> p: LayerNorm;
@group(0) @binding(1) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> s: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(7) var<storage, read_write> beta: array<f32>;
// columns
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;
// add
@group(0) @binding(3) var<storage, read_write> addend: array<f32>;
@group(0) @binding(4) var<storage, read_write> also: array<f32>;
// finish
@group(0) @binding(1) var<storage, read_write> of_slices: array<f32>;
@group(0) @binding(2) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(3) var<storage, read_write> dbeta: array<f32>;

const LANES: u32 = 64u; // threads of a row; columns of a workgroup
const LINES: u32 = WIDTH / LANES; // threads of a column

var<workgroup> extent: u32;
var<workgroup> pairs: array<vec2<f32>, WIDTH>;

/// How many rows are real, alike for all threads.
fn real_rows(thread: u32) -> u32 {
    if thread == 0u {
        extent = u32(offsets[p.batch]);
    }
    return workgroupUniformLoad(&extent);
}

@compute @workgroup_size(WIDTH)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < u32(offsets[p.batch]) * p.channels {
        out[at] = addend[at] + also[at];
    }
}

@compute @workgroup_size(LANES)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let row = flat(group, groups);
    if row >= real_rows(thread) {
        return;
    }
    let first = row * p.channels + thread;
    let end = (row + 1u) * p.channels;
    var sum = 0.0;
    for (var at = first; at < end; at += LANES) {
        sum += s[at];
    }
    let m = group_sums(vec2(sum, 0.0), me, LANES).x / f32(p.channels);
    var squares = 0.0;
    for (var at = first; at < end; at += LANES) {
        let centred = s[at] - m;
        squares += centred * centred;
    }
    let r = 1.0 / sqrt(group_sums(vec2(squares, 0.0), me, LANES).x / f32(p.channels) + p.eps);
    for (var channel = thread; channel < p.channels; channel += LANES) {
        let at = row * p.channels + channel;
        out[at] = gamma[channel] * (s[at] - m) * r + beta[channel];
    }
    if thread == 0u {
        mean[row] = m;
        rstd[row] = r;
    }
}

@compute @workgroup_size(LANES)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let row = flat(group, groups);
    if row >= real_rows(thread) {
        return;
    }
    let m = mean[row];
    let r = rstd[row];
    var part = vec2(0.0, 0.0);
    for (var channel = thread; channel < p.channels; channel += LANES) {
        let at = row * p.channels + channel;
        let g = out[at] * gamma[channel];
        part += vec2(g, g * ((s[at] - m) * r));
    }
    let means = group_sums(part, me, LANES) / f32(p.channels);
    for (var channel = thread; channel < p.channels; channel += LANES) {
        let at = row * p.channels + channel;
        out[at] = r * (out[at] * gamma[channel] - means.x - (s[at] - m) * r * means.y);
    }
}

@compute @workgroup_size(WIDTH)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let across = (p.channels + LANES - 1u) / LANES;
    let slice = flat(group, groups) / across;
    if slice >= p.slices {
        return;
    }
    let channel = flat(group, groups) % across * LANES + thread % LANES;
    let first = slice * p.slice;
    let end = min(first + p.slice, u32(offsets[p.batch]));
    var part = vec2(0.0, 0.0);
    if channel < p.channels {
        for (var row = first + thread / LANES; row < end; row += LINES) {
            let at = row * p.channels + channel;
            part += vec2(out[at] * ((s[at] - mean[row]) * rstd[row]), out[at]);
        }
    }
    pairs[thread] = part;
    workgroupBarrier();
    if thread < LANES && channel < p.channels {
        for (var line = 1u; line < LINES; line++) {
            part += pairs[line * LANES + thread];
        }
        let to = slice * 2u * p.channels + channel;
        partials[to] = part.x;
        partials[to + p.channels] = part.y;
    }
}

@compute @workgroup_size(WIDTH)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let column = flat(group, groups) * WIDTH + thread;
    if column >= 2u * p.channels {
        return;
    }
    var sum = 0.0;
    for (var slice = 0u; slice < p.slices; slice++) {
        sum += of_slices[slice * 2u * p.channels + column];
    }
    if column < p.channels {
        dgamma[column] = sum;
    } else {
        dbeta[column - p.channels] = sum;
    }
}
