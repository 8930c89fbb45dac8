// SpatialMean: y[b, c] = sum over pixels of x[b, ., c] / pixels, and its gradient dx[b, ., c] = dy[b, c] / pixels.
//
//   source    x [batch, pixels, channels] or dy [batch, channels]
//   out       y [batch, channels] or dx [batch, pixels, channels], `count` numbers
//   dispatch  a thread to a number of out, count / 256 rounded up, folded
//   Sums are pixel after pixel. Numbers of each value < 2^31: ShaderIo::check sees to it.

struct SpatialMean {
    pixels: u32,
    channels: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: SpatialMean;
@group(0) @binding(1) var<storage, read_write> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.count {
        return;
    }
    let first = at / p.channels * p.pixels * p.channels + at % p.channels;
    var sum = 0.0;
    for (var pixel = 0u; pixel < p.pixels; pixel++) {
        sum += source[first + pixel * p.channels];
    }
    out[at] = sum / f32(p.pixels);
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        let image = at / p.channels / p.pixels;
        out[at] = source[image * p.channels + at % p.channels] / f32(p.pixels);
    }
}
