// MaxPool: y = the maximum over each window; dx = the sum of dy over the windows whose first maximum (last NaN, if there
// is one) is this pixel.
//
//   x         [batch, height, width, channels]
//   y         [batch, rows, columns, channels]: y or dy
//   dx        as x
//   dispatch  a thread to a number of y, or of dx: `count` / 256 rounded up, folded
//   Sums of the gradient are window by window, rows first. Every window holds a pixel: `infer` sees to it; numbers of each
//   value < 2^31: ShaderIo::check sees to it.

struct MaxPool {
    height: i32,
    width: i32,
    rows: i32,
    columns: i32,
    channels: i32,
    kernel: i32,
    stride: i32,
    padding: i32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: MaxPool;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

/// A number of an image: image, row, column, channel.
fn place(at: i32, height: i32, width: i32) -> vec4<i32> {
    let pixel = at / p.channels;
    let line = pixel / width;
    return vec4(line / height, line % height, pixel % width, at % p.channels);
}

/// Where in x the maximum of a window lies. As torch: the first of several maxima; NaN wins over any number.
fn largest(image: i32, row: i32, column: i32, channel: i32) -> i32 {
    let top = row * p.stride - p.padding;
    let left = column * p.stride - p.padding;
    let bottom = min(top + p.kernel, p.height);
    let right = min(left + p.kernel, p.width);
    var found = ((image * p.height + max(top, 0)) * p.width + max(left, 0)) * p.channels + channel;
    var best = x[found];
    for (var r = max(top, 0); r < bottom; r++) {
        for (var c = max(left, 0); c < right; c++) {
            let at = ((image * p.height + r) * p.width + c) * p.channels + channel;
            let number = x[at];
            // Compilers may take any comparison with NaN for true.
            if is_nan(number) || (!is_nan(best) && number > best) {
                best = number;
                found = at;
            }
        }
    }
    return found;
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        let to = place(i32(at), p.rows, p.columns);
        y[at] = x[largest(to.x, to.y, to.z, to.w)];
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.count {
        return;
    }
    let to = place(i32(at), p.height, p.width);
    // Windows w with w * stride - padding <= pixel < w * stride - padding + kernel.
    let bottom = min((to.y + p.padding) / p.stride, p.rows - 1);
    let right = min((to.z + p.padding) / p.stride, p.columns - 1);
    let top = max(to.y + p.padding - p.kernel + p.stride, 0) / p.stride;
    let left = max(to.z + p.padding - p.kernel + p.stride, 0) / p.stride;
    var sum = 0.0;
    for (var row = top; row <= bottom; row++) {
        for (var column = left; column <= right; column++) {
            if largest(to.x, row, column, to.w) == i32(at) {
                sum += y[((to.x * p.rows + row) * p.columns + column) * p.channels + to.w];
            }
        }
    }
    dx[at] = sum;
}
