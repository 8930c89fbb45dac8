// Attention pooling: the mean token asks, all tokens answer. N cells, tokens are their mean and they; I = heads * size.
//
//   tokens      t[b, 0] = mean of x[b, :], t[b, 1 + n] = x[b, n]; plus positional
//   tokens_bwd  dx[b, n] = dt[b, 1 + n] + dt[b, 0] / N; dpositional = sum over images of dt
//   attend      p = softmax(q[0] · k / sqrt size) over all tokens; context = sum of p v; own = p[0], map = p[1 ..]
//   attend_bwd  dp = d_context · v, ds = p (dp - sum of p dp) / sqrt size;
//               dq[0] = sum of ds k, dq = 0 elsewhere, dk = ds q[0], dv = p d_context
//
//   x, dx                    [images, N, features]
//   positional, d_positional [1 + N, features]
//   t, dt                    [images, 1 + N, features]
//   qkv, d_qkv               [images, 1 + N, 3, heads, size]
//   context, d_context       [images, heads, size]
//   map                      [images, heads, N]
//   own                      [images, heads]
//   dispatch                 tokens: a thread to a feature of an image; cells: to a number of dx; positions: to one of
//                            d_positional; attend and attend_bwd: a workgroup to a head of an image
//   Sums: cells, images and tokens in order; over a head's features every 16th by a thread, then these in order; over tokens
//   for the softmax every 256th by a thread, threads by a tree.
//   Numbers of all tokens < 2^31, 1 + N <= 3072: src/ops/attention_pool/wgsl.rs checks.

struct AttentionPool {
    images: u32,
    tokens: u32, // 1 + N
    heads: u32, // 1 where there are none
    size: u32, // of a head; features where there are none
    root: f32, // of the size
}

@group(0) @binding(0) var<uniform> p: AttentionPool;

@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> positional: array<f32>;
@group(0) @binding(3) var<storage, read_write> t: array<f32>;

@group(0) @binding(1) var<storage, read_write> dt: array<f32>;
@group(0) @binding(2) var<storage, read_write> d_tokens: array<f32>; // dx, or d_positional

@group(0) @binding(1) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(2) var<storage, read_write> map: array<f32>;
@group(0) @binding(3) var<storage, read_write> own: array<f32>;
@group(0) @binding(4) var<storage, read_write> context: array<f32>; // or d_context
@group(0) @binding(5) var<storage, read_write> d_qkv: array<f32>;

@compute @workgroup_size(WIDTH)
fn tokens(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.images * p.size {
        return;
    }
    let image = at / p.size;
    let feature = at % p.size;
    let out = image * p.tokens * p.size + feature;
    var sum = 0.0;
    for (var token = 1u; token < p.tokens; token++) {
        let value = x[(image * (p.tokens - 1u) + token - 1u) * p.size + feature];
        sum += value;
        t[out + token * p.size] = value + positional[token * p.size + feature];
    }
    t[out] = sum / f32(p.tokens - 1u) + positional[feature];
}

@compute @workgroup_size(WIDTH)
fn cells(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let numbers = (p.tokens - 1u) * p.size;
    if at < p.images * numbers {
        let first = at / numbers * p.tokens * p.size;
        d_tokens[at] = dt[first + p.size + at % numbers] + dt[first + at % p.size] / f32(p.tokens - 1u);
    }
}

@compute @workgroup_size(WIDTH)
fn positions(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.tokens * p.size {
        var sum = 0.0;
        for (var image = 0u; image < p.images; image++) {
            sum += dt[image * p.tokens * p.size + at];
        }
        d_tokens[at] = sum;
    }
}

const LANES: u32 = 16u; // threads to a token
var<workgroup> of_tokens: array<f32, 3072>; // what a head has for each token
var<workgroup> parts: array<f32, WIDTH>;

/// Where query (0), key (1) or value (2) of a token begins.
fn vector(head: u32, token: u32, which: u32) -> u32 {
    return (((head / p.heads * p.tokens + token) * 3u + which) * p.heads + head % p.heads) * p.size;
}

/// Adds up what 16 threads have for each of 16 tokens, from `first` on.
fn put(first: u32, own: f32, thread: u32) {
    parts[thread] = own;
    workgroupBarrier();
    if thread < LANES && first + thread < p.tokens {
        var sum = 0.0;
        for (var lane = 0u; lane < LANES; lane++) {
            sum += parts[thread * LANES + lane];
        }
        of_tokens[first + thread] = sum;
    }
    workgroupBarrier();
}

@compute @workgroup_size(WIDTH)
fn attend(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let head = flat(group, groups);
    if head >= p.images * p.heads {
        return;
    }
    for (var first = 0u; first < p.tokens; first += WIDTH / LANES) {
        let token = first + thread / LANES;
        var dot = 0.0;
        if token < p.tokens {
            for (var at = thread % LANES; at < p.size; at += LANES) {
                dot += qkv[vector(head, 0u, 0u) + at] * qkv[vector(head, token, 1u) + at];
            }
        }
        put(first, dot / p.root, thread);
    }
    var highest = of_tokens[0];
    for (var token = thread; token < p.tokens; token += WIDTH) {
        highest = max(highest, of_tokens[token]);
    }
    highest = group_max(highest, me);
    var sum = 0.0;
    for (var token = thread; token < p.tokens; token += WIDTH) {
        let share = exponential(of_tokens[token] - highest);
        of_tokens[token] = share;
        sum += share;
    }
    sum = group_sum(sum, me);
    for (var token = thread; token < p.tokens; token += WIDTH) {
        let share = of_tokens[token] / sum;
        of_tokens[token] = share;
        if token == 0u {
            own[head] = share;
        } else {
            map[head * (p.tokens - 1u) + token - 1u] = share;
        }
    }
    workgroupBarrier();
    for (var at = thread; at < p.size; at += WIDTH) {
        var sum = 0.0;
        for (var token = 0u; token < p.tokens; token++) {
            sum += of_tokens[token] * qkv[vector(head, token, 2u) + at];
        }
        context[head * p.size + at] = sum;
    }
}

/// What of the attention is a token's.
fn share(head: u32, token: u32) -> f32 {
    if token == 0u {
        return own[head];
    }
    return map[head * (p.tokens - 1u) + token - 1u];
}

@compute @workgroup_size(WIDTH)
fn attend_bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let head = flat(group, groups);
    if head >= p.images * p.heads {
        return;
    }
    for (var first = 0u; first < p.tokens; first += WIDTH / LANES) {
        let token = first + thread / LANES;
        var dot = 0.0;
        if token < p.tokens {
            for (var at = thread % LANES; at < p.size; at += LANES) {
                dot += context[head * p.size + at] * qkv[vector(head, token, 2u) + at];
            }
        }
        put(first, dot, thread);
    }
    var mean = 0.0;
    for (var token = thread; token < p.tokens; token += WIDTH) {
        mean += share(head, token) * of_tokens[token];
    }
    mean = group_sum(mean, me);
    for (var token = thread; token < p.tokens; token += WIDTH) {
        of_tokens[token] = share(head, token) * (of_tokens[token] - mean) / p.root;
    }
    workgroupBarrier();
    for (var at = thread; at < p.size; at += WIDTH) {
        let q = qkv[vector(head, 0u, 0u) + at];
        let d = context[head * p.size + at];
        var sum = 0.0;
        for (var token = 0u; token < p.tokens; token++) {
            let d_score = of_tokens[token];
            sum += d_score * qkv[vector(head, token, 1u) + at];
            d_qkv[vector(head, token, 0u) + at] = 0.0;
            d_qkv[vector(head, token, 1u) + at] = d_score * q;
            d_qkv[vector(head, token, 2u) + at] = share(head, token) * d;
        }
        d_qkv[vector(head, 0u, 0u) + at] = sum;
    }
}
