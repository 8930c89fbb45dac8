// DiceLoss: with p = sigmoid(x) and sums over all pixels, D = (2 sum pt + 1) / below, below = sum p + sum t + 1;
// loss = 1 - D, or -ln D if log; dx = seed / below * (D - 2t) * p (1 - p), over D if log.
//
//   logits, mask, d_logits  [count]: x, t, dx
//   partials                [parts, 3]: sums of pt, p, t over 2048 pixels
//   loss, seed              [1]
//   sums                    [3]: of pt, p, t; written by `finish`, read (as batch_sums) by `bwd`
//   dispatch                fwd: a workgroup to 2048 pixels; finish: one; bwd: a thread to a pixel
//   Sums: eight pixels of a thread, threads by a tree; partials by threads in strides of 256, then likewise.
//   0 < count, which `infer` sees to, < 2^31: ShaderIo::check.

struct DiceLoss {
    count: u32,
    parts: u32,
    log: u32,
}

@group(0) @binding(0) var<uniform> p: DiceLoss;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<f32>;

@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@group(0) @binding(3) var<storage, read_write> d_logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> batch_sums: array<f32>;
@group(0) @binding(5) var<storage, read_write> seed: array<f32>;

const PART: u32 = 2048u;

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
    var sum = vec3<f32>();
    for (var at = part * PART + thread; at < min((part + 1u) * PART, p.count); at += WIDTH) {
        let share = sigmoid(logits[at]);
        sum += vec3(share * mask[at], share, mask[at]);
    }
    sum = vec3(group_sums(sum.xy, me, WIDTH), group_sum(sum.z, me));
    if thread == 0u {
        partials[3u * part] = sum.x;
        partials[3u * part + 1u] = sum.y;
        partials[3u * part + 2u] = sum.z;
    }
}

@compute @workgroup_size(WIDTH)
fn finish(me: Thread) {
    let thread = me.index;
    var sum = vec3<f32>();
    for (var part = thread; part < p.parts; part += WIDTH) {
        sum += vec3(partials[3u * part], partials[3u * part + 1u], partials[3u * part + 2u]);
    }
    sum = vec3(group_sums(sum.xy, me, WIDTH), group_sum(sum.z, me));
    if thread == 0u {
        sums[0] = sum.x;
        sums[1] = sum.y;
        sums[2] = sum.z;
        let above = 2.0 * sum.x + 1.0;
        let below = sum.y + sum.z + 1.0;
        loss[0] = select(1.0 - above / below, logarithm(below / above), p.log != 0u);
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
        let below = batch_sums[1] + batch_sums[2] + 1.0;
        let dice = (2.0 * batch_sums[0] + 1.0) / below;
        let each = seed[0] / below / select(1.0, dice, p.log != 0u);
        let share = sigmoid(logits[at]);
        d_logits[at] = each * (dice - 2.0 * mask[at]) * (share * (1.0 - share));
    }
}
