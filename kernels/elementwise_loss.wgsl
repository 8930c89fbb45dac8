// ElementwiseLoss: loss = mean of (1 - t) x - log sigmoid(x), or of (x - t)^2; dx = seed / count * (sigmoid(x) - t), or
// seed / count * 2 (x - t).
//
//   x         [count]; of `finish` the partials [parts]
//   out       of `fwd` the partials [parts], of `finish` the loss [1], of `bwd` dx [count]
//   targets   [count]
//   seed      [1]: of the gradient alone
//   dispatch  fwd: a workgroup to 2048 numbers; finish: one; bwd: a thread to a number
//   Sums: eight numbers of a thread, threads by a tree; partials by threads in strides of 256, then likewise.
//   0 < count, which `infer` sees to, < 2^31: ShaderIo::check.

struct ElementwiseLoss {
    count: u32,
    parts: u32,
    squared: u32,
}

@group(0) @binding(0) var<uniform> p: ElementwiseLoss;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> targets: array<f32>;
@group(0) @binding(4) var<storage, read_write> seed: array<f32>;

const EACH: u32 = 8u; // numbers of a thread

fn loss(x: f32, t: f32) -> f32 {
    if p.squared != 0u {
        return (x - t) * (x - t);
    }
    return cross_entropy(x, t);
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let part = flat(group, groups);
    if part >= p.parts {
        return;
    }
    let first = part * WIDTH * EACH;
    var sum = 0.0;
    for (var at = first + thread; at < min(first + WIDTH * EACH, p.count); at += WIDTH) {
        sum += loss(x[at], targets[at]);
    }
    sum = group_sum(sum, thread);
    if thread == 0u {
        out[part] = sum;
    }
}

@compute @workgroup_size(WIDTH)
fn finish(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var at = thread; at < p.parts; at += WIDTH) {
        sum += x[at];
    }
    sum = group_sum(sum, thread);
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
        let each = seed[0] / f32(p.count);
        let t = targets[at];
        out[at] = each * select(sigmoid(x[at]) - t, 2.0 * (x[at] - t), p.squared != 0u);
    }
}
