// GELU and its gradient: y = x Phi(x); dx = dy (Phi(x) + x phi(x)).
//
//   x         [rows, channels]
//   out       the same: y, or dx, which holds dy on entry
//   offsets   [batch + 1]: the last is how many rows are real; the others are neither read nor written
//   dispatch  a thread to a number, capacity * channels / 256 rounded up, folded
//   capacity * channels < 2^31: ShaderIo::check sees to it.

struct Gelu {
    channels: u32,
    batch: u32,
}

@group(0) @binding(0) var<uniform> p: Gelu;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> offsets: array<i32>;

/// The error function: near 0 as x plus an odd polynomial, elsewhere as 1 - exp(polynomial), as src/cpu/math.rs has it.
fn error_function(x: f32) -> f32 {
    let size = select(abs(x), 10.0, abs(x) > 10.0); // NaN passes
    let square = x * x;
    var near = -5.96761700e-4;
    near = near * square + 4.99119400e-3;
    near = near * square - 2.67681350e-2;
    near = near * square + 1.12819925e-1;
    near = near * square - 3.76125340e-1;
    near = near * square + 1.28379170e-1;
    var far = -1.72853470e-5;
    far = far * size + 3.83197130e-4;
    far = far * size - 3.88396440e-3;
    far = far * size + 2.42546220e-2;
    far = far * size - 1.06777880e-1;
    far = far * size - 6.34846870e-1;
    far = far * size - 1.28717510e-1;
    far = 1.0 - exponential(far * size - size);
    return select(near * x + x, select(far, -far, x < 0.0), size > 0.9277344);
}

fn distribution(x: f32) -> f32 {
    return 0.5 * (1.0 + error_function(x * 0.70710678));
}

fn density(x: f32) -> f32 {
    return exponential(-0.5 * x * x) * 0.39894228;
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < u32(offsets[p.batch]) * p.channels {
        out[at] = x[at] * distribution(x[at]);
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < u32(offsets[p.batch]) * p.channels {
        out[at] *= distribution(x[at]) + x[at] * density(x[at]);
    }
}
