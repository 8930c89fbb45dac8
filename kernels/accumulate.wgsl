// Accumulate: out = a + scale * b; out = scale * b; out = value.
//
//   b, out    [count]; out of `add` holds a on entry; of `fill` [1], with the value as scale and no b
//   dispatch  a thread to a number, count / 256 rounded up, folded
//   count < 2^31: ShaderIo::check sees to it.

struct Accumulate {
    scale: f32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Accumulate;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;

@compute @workgroup_size(WIDTH)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        out[at] += p.scale * b[at];
    }
}

@compute @workgroup_size(WIDTH)
fn scale(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        out[at] = p.scale * b[at];
    }
}

@compute @workgroup_size(1)
fn fill() {
    out[0] = p.scale;
}
