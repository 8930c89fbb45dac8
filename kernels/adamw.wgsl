// AdamW: a step of one parameter, as torch computes it. src/ops/adamw/mod.rs has the formula.
//
//   scalars     [3]: learning rate, 1 - beta1^t, 1 - beta2^t
//   finite      [2]: sum of squares of the gradients, count of numbers that are not finite; nothing changes if the first
//               has overflowed or the second is not 0
//   weights, first, second   [count]: the parameter and its moments, updated in place
//   gradient    [count]; `decay` does without: it is zero
//   dispatch    a thread to a number, count / 256 rounded up, folded
//   count < 2^31: ShaderIo::check sees to it.

struct Update {
    weight_decay: f32,
    toward1: f32, // 1 - beta1
    beta1: f32,
    beta2: f32,
    toward2: f32, // 1 - beta2
    eps: f32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Update;
@group(0) @binding(1) var<storage, read_write> scalars: array<f32>;
@group(0) @binding(2) var<storage, read_write> finite: array<f32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> first: array<f32>;
@group(0) @binding(5) var<storage, read_write> second: array<f32>;
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>;

/// Whether number `at` is there and may be updated.
fn permitted(at: u32) -> bool {
    return at < p.count && is_finite(finite[0]) && finite[1] == 0.0;
}

fn update(at: u32, g: f32) {
    let rate = scalars[0];
    // torch's lerp goes from the nearer end.
    let m = select(g - (g - first[at]) * p.beta1, first[at] + p.toward1 * (g - first[at]), p.toward1 < 0.5);
    let v = p.beta2 * second[at] + p.toward2 * g * g;
    first[at] = m;
    second[at] = v;
    let step = rate / scalars[1] * (m / (sqrt(v) / sqrt(scalars[2]) + p.eps));
    weights[at] = (1.0 - rate * p.weight_decay) * weights[at] - step;
}

@compute @workgroup_size(WIDTH)
fn step(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if permitted(at) {
        update(at, gradient[at]);
    }
}

@compute @workgroup_size(WIDTH)
fn decay(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if permitted(at) {
        update(at, 0.0);
    }
}
