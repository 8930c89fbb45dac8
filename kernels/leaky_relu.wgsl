// LeakyRelu: y = x where x > 0, else slope x; dx = dy where y > 0, else slope dy.
//
//   out       [count]: x or dy on entry, y or dx in the end
//   y         [count]: of the gradient alone
//   dispatch  a thread to a number, count / 256 rounded up, folded
//   count < 2^31: ShaderIo::check sees to it.

struct LeakyRelu {
    slope: f32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: LeakyRelu;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        out[at] *= select(p.slope, 1.0, out[at] > 0.0);
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
        out[at] *= select(p.slope, 1.0, y[at] > 0.0);
    }
}
