// BatchNorm of rows [rows, channels]: y = relu?(gamma (x - mean) / sqrt(var + eps) + beta + residual), mean and variance
// of the batch, their gradient, and running statistics.
//
//   statistics  x -> partials: sum and squared deviations of each slice     moments    partials -> mean, var
//   apply       x, mean, var, gamma?, beta?, residual? -> out = y
//   sums        g = dy, x, mean, var?, gamma?, gate? -> partials: sum g, sum g (x - mean); writes g if `keep`
//   sum_up      partials, mean, var, gamma? -> dgamma?, dbeta?, totals: mean, deviation = sqrt(var + eps),
//               scale = gamma / deviation, dbeta, dgamma; these two 0 if mean and var were constants
//   gradient    g, gate?, x, gamma?, totals -> dx = scale (g - (dbeta + (x - mean) / deviation dgamma) / rows), into dx if `keep`, else
//               into g
//   running     mean, var -> running_mean, running_var: (1 - momentum) running + momentum batch; counts the batch
//
//   x, residual, out, g, dx                 [rows, channels]; residual is unread unless the flag says so
//   gate                                    `gated` 0: unread; 1: y [rows, channels], the gradient counts where it is positive;
//                                           2: beta [channels], it counts where apply without a residual has y > 0
//   mean, var, gamma, beta, dgamma, dbeta   [channels]; gamma, beta, dgamma, dbeta are not there unless `affine`
//   partials                                [slices, 2, channels], workspace
//   totals                                  [5, channels], workspace
//   offsets                                 [batch + 1], unread unless `packed`: the last is how many rows are real; the
//                                           others are neither read nor written
//   dispatch  statistics, apply, sums, gradient: a workgroup to `across` channels of `slice` rows, for each slice all channels;
//             moments, sum_up: a workgroup to `across` channels; running: a thread to a channel, one at least; all folded
//   Squared deviations are taken of eight rows at a time, about their own mean, and merged (Chan, Golub, LeVeque 1979): no
//   cancellation, whatever the mean. A thread takes every 256 / across-th row of its slice, or slice, threads are merged in a
//   tree: the shapes alone fix the order.
//   Numbers of x < 2^31, across a power of two up to 256: ShaderIo::check and src/ops/batch_norm/wgsl.rs see to it.

struct BatchNorm {
    rows: u32,
    channels: u32,
    across: u32,
    slice: u32,
    batch: u32,
    packed: u32,
    affine: u32,
    relu: u32,
    residual: u32,
    gated: u32,
    keep: u32,
    constant: u32,
    eps: f32,
    momentum: f32,
}

@group(0) @binding(0) var<uniform> p: BatchNorm;
@group(0) @binding(1) var<storage, read_write> offsets: array<i32>;
// statistics, apply, sums, gradient
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> gate: array<f32>;
// statistics
@group(0) @binding(3) var<storage, read_write> of_slices: array<f32>;
// apply
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(6) var<storage, read_write> beta: array<f32>;
@group(0) @binding(7) var<storage, read_write> residual: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;
// sums
@group(0) @binding(5) var<storage, read_write> centre: array<f32>;
@group(0) @binding(6) var<storage, read_write> gradient_sums: array<f32>;
@group(0) @binding(8) var<storage, read_write> spread: array<f32>;
// gradient
@group(0) @binding(5) var<storage, read_write> of_channels: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;
// sums, gradient: gamma
@group(0) @binding(7) var<storage, read_write> gain: array<f32>;
// moments, sum_up
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<storage, read_write> totals: array<f32>;
@group(0) @binding(7) var<storage, read_write> dgamma: array<f32>;
@group(0) @binding(8) var<storage, read_write> dbeta: array<f32>;
// running
@group(0) @binding(2) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> running_variance: array<f32>;
@group(0) @binding(6) var<storage, read_write> batches: array<i32>;

const CHUNK: u32 = 8u;

// Of each thread: two sums and how many numbers they are of.
var<workgroup> merged: array<vec3<f32>, WIDTH>;

fn real_rows() -> u32 {
    if p.packed != 0u {
        return u32(offsets[p.batch]);
    }
    return p.rows;
}

/// The rows of a thread: `row`, every `step`-th behind it, before `end`. None for a thread behind the last channel.
struct Share {
    slice: u32,
    row: u32,
    step: u32,
    end: u32,
    channel: u32,
}

fn share(group: u32, thread: u32) -> Share {
    let pieces = (p.channels + p.across - 1u) / p.across;
    let slice = group / pieces;
    let channel = group % pieces * p.across + thread % p.across;
    let end = select(0u, min((slice + 1u) * p.slice, real_rows()), channel < p.channels);
    return Share(slice, slice * p.slice + thread / p.across, WIDTH / p.across, end, channel);
}

/// Sum, squared deviations from the mean and count of two groups of numbers together.
fn merge(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
    if b.z == 0.0 {
        return a;
    }
    if a.z == 0.0 {
        return b;
    }
    let apart = b.x / b.z - a.x / a.z;
    return vec3(a.x + b.x, a.y + b.y + apart * apart * (a.z * b.z / (a.z + b.z)), a.z + b.z);
}

/// Merges what threads have for the same channels into the first of them, by a tree: squared deviations, or plain sums.
fn fold(own: vec3<f32>, thread: u32, deviations: bool) -> vec3<f32> {
    merged[thread] = own;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half >= p.across; half /= 2u) {
        if thread < half {
            let more = merged[thread + half];
            if deviations {
                merged[thread] = merge(merged[thread], more);
            } else {
                merged[thread] += more;
            }
        }
        workgroupBarrier();
    }
    return merged[thread];
}

@compute @workgroup_size(WIDTH)
fn statistics(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = share(flat(group, groups), thread);
    var all = vec3(0.0);
    for (var first = own.row; first < own.end; first += CHUNK * own.step) {
        let end = min(own.end, first + CHUNK * own.step);
        var sum = 0.0;
        var rows = 0.0;
        for (var row = first; row < end; row += own.step) {
            sum += x[row * p.channels + own.channel];
            rows += 1.0;
        }
        var squares = 0.0;
        for (var row = first; row < end; row += own.step) {
            let apart = x[row * p.channels + own.channel] - sum / rows;
            squares += apart * apart;
        }
        all = merge(all, vec3(sum, squares, rows));
    }
    all = fold(all, thread, true);
    if thread < p.across && all.z > 0.0 {
        let to = own.slice * 2u * p.channels + own.channel;
        of_slices[to] = all.x;
        of_slices[to + p.channels] = all.y;
    }
}

/// The two sums of a slice, and of how many rows.
fn partial(slice: u32, channel: u32, rows: u32) -> vec3<f32> {
    let at = slice * 2u * p.channels + channel;
    return vec3(partials[at], partials[at + p.channels], f32(min(p.slice, rows - slice * p.slice)));
}

@compute @workgroup_size(WIDTH)
fn moments(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let channel = flat(group, groups) * p.across + thread % p.across;
    let rows = real_rows();
    var all = vec3(0.0);
    if channel < p.channels {
        for (var slice = thread / p.across; slice * p.slice < rows; slice += WIDTH / p.across) {
            all = merge(all, partial(slice, channel, rows));
        }
    }
    all = fold(all, thread, true);
    if thread < p.across && channel < p.channels {
        mean[channel] = all.x / all.z;
        variance[channel] = all.y / all.z;
    }
}

/// How a channel is normalised.
struct Normal {
    centre: f32,
    deviation: f32,
    scale: f32,
    shift: f32,
}

/// Rounded as the definition is; forward and backward alike.
fn normalised(x: f32, by: Normal) -> f32 {
    return (x - by.centre) / by.deviation * by.scale + by.shift;
}

@compute @workgroup_size(WIDTH)
fn apply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = share(flat(group, groups), thread);
    if own.row >= own.end {
        return;
    }
    var by = Normal(mean[own.channel], sqrt(variance[own.channel] + p.eps), 1.0, 0.0);
    if p.affine != 0u {
        by.scale = gamma[own.channel];
        by.shift = beta[own.channel];
    }
    for (var row = own.row; row < own.end; row += own.step) {
        let at = row * p.channels + own.channel;
        var y = normalised(x[at], by);
        if p.residual != 0u {
            y += residual[at];
        }
        out[at] = select(y, 0.0, p.relu != 0u && y < 0.0); // not max, which would hide a NaN
    }
}

const BY_Y: u32 = 1u;
const BY_X: u32 = 2u;

/// How apply normalised a channel, as far as the gate needs it.
fn normal(channel: u32, centre: f32, deviation: f32) -> Normal {
    var by = Normal(centre, deviation, 1.0, 0.0);
    if p.gated == BY_X && p.affine != 0u {
        by.scale = gain[channel];
        by.shift = gate[channel];
    }
    return by;
}

/// The gradient behind the ReLU.
fn gated(at: u32, by: Normal) -> f32 {
    if p.gated == BY_Y && !(gate[at] > 0.0) {
        return 0.0;
    }
    if p.gated == BY_X && !(normalised(x[at], by) > 0.0) {
        return 0.0;
    }
    return g[at];
}

@compute @workgroup_size(WIDTH)
fn sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = share(flat(group, groups), thread);
    var all = vec3(0.0);
    if own.row < own.end {
        let by = normal(own.channel, centre[own.channel], sqrt(spread[own.channel] + p.eps));
        for (var row = own.row; row < own.end; row += own.step) {
            let at = row * p.channels + own.channel;
            let gradient = gated(at, by);
            if p.keep != 0u {
                g[at] = gradient;
            }
            all += vec3(gradient, gradient * (x[at] - by.centre), 1.0);
        }
    }
    all = fold(all, thread, false);
    if thread < p.across && all.z > 0.0 {
        let to = own.slice * 2u * p.channels + own.channel;
        gradient_sums[to] = all.x;
        gradient_sums[to + p.channels] = all.y;
    }
}

@compute @workgroup_size(WIDTH)
fn sum_up(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let channel = flat(group, groups) * p.across + thread % p.across;
    let rows = real_rows();
    var all = vec3(0.0);
    if channel < p.channels {
        for (var slice = thread / p.across; slice * p.slice < rows; slice += WIDTH / p.across) {
            all += partial(slice, channel, rows);
        }
    }
    all = fold(all, thread, false);
    if thread >= p.across || channel >= p.channels {
        return;
    }
    let deviation = sqrt(variance[channel] + p.eps);
    let product = all.y / deviation;
    var scale = 1.0;
    if p.affine != 0u {
        scale = gamma[channel];
        dgamma[channel] = product;
        dbeta[channel] = all.x;
    }
    totals[channel] = mean[channel];
    totals[p.channels + channel] = deviation;
    totals[2u * p.channels + channel] = scale / deviation;
    totals[3u * p.channels + channel] = select(all.x, 0.0, p.constant != 0u);
    totals[4u * p.channels + channel] = select(product, 0.0, p.constant != 0u);
}

@compute @workgroup_size(WIDTH)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let own = share(flat(group, groups), thread);
    if own.row >= own.end {
        return;
    }
    let by = normal(own.channel, of_channels[own.channel], of_channels[p.channels + own.channel]);
    let scale = of_channels[2u * p.channels + own.channel];
    let dbeta = of_channels[3u * p.channels + own.channel];
    let dgamma = of_channels[4u * p.channels + own.channel];
    let rows = f32(real_rows());
    for (var row = own.row; row < own.end; row += own.step) {
        let at = row * p.channels + own.channel;
        let centred = (x[at] - by.centre) / by.deviation;
        let result = scale * (gated(at, by) - (dbeta + centred * dgamma) / rows);
        if p.keep != 0u {
            dx[at] = result;
        } else {
            g[at] = result;
        }
    }
}

@compute @workgroup_size(WIDTH)
fn running(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let channel = flat(group, groups) * WIDTH + thread;
    if channel == 0u {
        batches[0] += 1;
    }
    if channel < p.channels {
        let rows = real_rows();
        let unbiased = f32(rows) / f32(max(rows, 2u) - 1u); // the variance of a sample
        running_mean[channel] = (1.0 - p.momentum) * running_mean[channel] + p.momentum * mean[channel];
        running_variance[channel] =
            (1.0 - p.momentum) * running_variance[channel] + p.momentum * unbiased * variance[channel];
    }
}
