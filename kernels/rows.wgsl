// Rows: y[b] = x[offsets[b]], and its gradient dx[offsets[b]] = dy[b], zero in the other real rows.
//
//   source    x [rows, channels] or dy [batch, channels]
//   out       y [batch, channels] or dx [rows, channels], `count` numbers
//   offsets   [batch + 1], ascending from 0; rows from the last one on are neither read nor written
//   dispatch  a thread to a number of out, count / 256 rounded up, folded
//   Numbers of each value < 2^31: ShaderIo::check sees to it.

struct Rows {
    batch: u32,
    channels: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Rows;
@group(0) @binding(1) var<storage, read_write> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read_write> offsets: array<i32>;

/// The sequence that a real row belongs to: the last one that starts at or before it.
fn sequence_of(row: u32) -> u32 {
    var low = 0u;
    var high = p.batch;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if u32(offsets[middle]) <= row {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.count {
        out[at] = source[u32(offsets[at / p.channels]) * p.channels + at % p.channels];
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let row = at / p.channels;
    if row >= u32(offsets[p.batch]) {
        return;
    }
    let sequence = sequence_of(row);
    if u32(offsets[sequence]) == row {
        out[at] = source[sequence * p.channels + at % p.channels];
    } else {
        out[at] = 0.0;
    }
}
