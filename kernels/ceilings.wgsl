// What the adapter does at best: the entries by which `g2d bench kernels` finds its ceilings.
//
// multiply_add  result[thread] = a number that 8 x 4 chains of p.rounds multiply-adds end in: 64 FLOP a round and thread
// copy          target_ = source, 16 bytes at a time
//
//   result            [workgroups * 256] f32
//   source, target_   [p.count] times 16 bytes; apart
//   dispatch          a thread to a result, or to 16 bytes; folded

struct Work {
    count: u32,
    rounds: u32,
    factor: f32,
    addend: f32,
}

@group(0) @binding(0) var<uniform> p: Work;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(1) var<storage, read_write> source: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> target_: array<vec4<u32>>;

@compute @workgroup_size(WIDTH)
fn multiply_add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let factor = vec4<f32>(p.factor);
    let addend = vec4<f32>(p.addend);
    var a = vec4<f32>(f32(thread));
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    var e = a + 4.0;
    var f = a + 5.0;
    var g = a + 6.0;
    var h = a + 7.0;
    for (var round = 0u; round < p.rounds; round++) {
        a = fma(a, factor, addend);
        b = fma(b, factor, addend);
        c = fma(c, factor, addend);
        d = fma(d, factor, addend);
        e = fma(e, factor, addend);
        f = fma(f, factor, addend);
        g = fma(g, factor, addend);
        h = fma(h, factor, addend);
    }
    let sum = a + b + c + d + e + f + g + h;
    if at < p.count {
        result[at] = sum.x + sum.y + sum.z + sum.w;
    }
}

@compute @workgroup_size(WIDTH)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        target_[at] = source[at];
    }
}
