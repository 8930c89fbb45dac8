// SwiGLU and its gradient: y = a s b; da = dy b s (1 + a (1 - s)), db = dy a s, with s the sigmoid of a.
//
//   fwd       v0 = a, v1 = b, v2 = y
//   bwd       v0 = dy, v1 = a, v2 = b, v3 = da, v4 = db
//   dispatch  a thread to a number, count / 256 rounded up, folded: `flat` numbers the workgroups
//   WIDTH, flat and sigmoid stand in the engine's prelude. Values may lie in one buffer, so all are read_write.

@group(0) @binding(0) var<uniform> count: u32;
@group(0) @binding(1) var<storage, read_write> v0: array<f32>;
@group(0) @binding(2) var<storage, read_write> v1: array<f32>;
@group(0) @binding(3) var<storage, read_write> v2: array<f32>;
@group(0) @binding(4) var<storage, read_write> v3: array<f32>;
@group(0) @binding(5) var<storage, read_write> v4: array<f32>;

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < count {
        v2[at] = v0[at] * sigmoid(v0[at]) * v1[at];
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < count {
        let a = v1[at];
        let s = sigmoid(a);
        v3[at] = v0[at] * v2[at] * s * (1.0 + a * (1.0 - s));
        v4[at] = v0[at] * a * s;
    }
}
