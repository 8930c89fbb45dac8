// ElementwiseLoss: loss = mean of weight * l(x, t); dx = seed / count * weight * l'(x, t). By form, with
// e = (1 - t) x - log sigmoid(x): 0: l = e, l' = sigmoid(x) - t; 1: l = (x - t)^2, l' = 2 (x - t); 2, with z = (2t - 1) x:
// l = sigmoid(-z)^2 e, l' = sigmoid(-z)^2 (sigmoid(x) - t - 2 (2t - 1) sigmoid(z) e). With channels, numbers 2 and 3 of each
// so many have form 1.
//
//   x         [count]; of `finish` the partials [parts]
//   out       of `fwd` the partials [parts], of `finish` the loss [1], of `bwd` dx [count]
//   targets   [count]
//   weights   [count]; where not weighted, any number, which is not read: all weigh 1
//   seed      [1]: of the gradient alone
//   dispatch  fwd: a workgroup to 2048 numbers; finish: one; bwd: a thread to a number
//   Sums: eight numbers of a thread, threads by a tree; partials by threads in strides of 256, then likewise.
//   0 < count, which `infer` sees to, < 2^31: ShaderIo::check.

struct ElementwiseLoss {
    count: u32,
    parts: u32,
    form: u32,
    channels: u32,
    weighted: u32,
}

@group(0) @binding(0) var<uniform> p: ElementwiseLoss;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> targets: array<f32>;
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> seed: array<f32>;

const EACH: u32 = 8u; // numbers of a thread

fn squared(at: u32) -> bool {
    return p.form == 1u || (p.channels > 0u && at % max(p.channels, 1u) / 2u == 1u);
}

fn weight(at: u32) -> f32 {
    if p.weighted != 0u {
        return weights[at];
    }
    return 1.0;
}

fn loss(at: u32) -> f32 {
    let t = targets[at];
    if squared(at) {
        return (x[at] - t) * (x[at] - t);
    }
    let wrong = select(1.0, sigmoid((1.0 - 2.0 * t) * x[at]), p.form == 2u);
    return wrong * wrong * cross_entropy(x[at], t);
}

fn slope(at: u32) -> f32 {
    let t = targets[at];
    if squared(at) {
        return 2.0 * (x[at] - t);
    }
    let plain = sigmoid(x[at]) - t;
    if p.form != 2u {
        return plain;
    }
    let sign = 2.0 * t - 1.0;
    let wrong = sigmoid(-sign * x[at]);
    return wrong * wrong * (plain - 2.0 * sign * sigmoid(sign * x[at]) * cross_entropy(x[at], t));
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let part = flat(group, groups);
    if part >= p.parts {
        return;
    }
    let first = part * WIDTH * EACH;
    var sum = 0.0;
    for (var at = first + thread; at < min(first + WIDTH * EACH, p.count); at += WIDTH) {
        sum += weight(at) * loss(at);
    }
    sum = group_sum(sum, me);
    if thread == 0u {
        out[part] = sum;
    }
}

@compute @workgroup_size(WIDTH)
fn finish(me: Thread) {
    let thread = me.index;
    var sum = 0.0;
    for (var at = thread; at < p.parts; at += WIDTH) {
        sum += x[at];
    }
    sum = group_sum(sum, me);
    if thread == 0u {
        out[0] = sum / f32(p.count);
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        out[at] = seed[0] / f32(p.count) * weight(at) * slope(at);
    }
}
