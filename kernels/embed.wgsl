// Embed: x[row] = word[ids[row]] + position[row - start of its sequence] + token_type[0], and the gradients of the tables.
//
//   word, position, token_type   [vocabulary, channels], [positions, channels], [2, channels]: the tables, or their
//                                gradients
//   x         [rows, channels]: x, or dx
//   ids       [rows], each below vocabulary
//   order     [rows]: the real rows sorted by (id, row)
//   offsets   [batch + 1], ascending from 0; no sequence is longer than positions; rows from the last offset on are neither
//             read nor written, nor are their ids and order
//   starts    [vocabulary + 1], made by `starts_of`: where in order the rows of each word begin
//   dispatch  fwd and position_of: a thread to a number of x or position; starts_of: a thread to a start; word_of: a
//             workgroup to a word; type_of, after position_of: a workgroup to 32 of the 2 channels numbers; all folded
//   Sums: a position adds sequence after sequence. A word adds row after row, or, if it has many, every eighth, and then
//   these eight. The gradient of type 0, which all rows have, is the sum over the positions, every eighth likewise; of type 1
//   and of word 0, the padding token, zero. Numbers of each value < 2^31: ShaderIo::check sees to it.

struct Embed {
    batch: u32,
    vocabulary: u32,
    positions: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> p: Embed;
// fwd, the first three also position_of
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(3) var<storage, read_write> position: array<f32>;
@group(0) @binding(4) var<storage, read_write> word: array<f32>;
@group(0) @binding(5) var<storage, read_write> token_type: array<f32>;
@group(0) @binding(6) var<storage, read_write> ids: array<i32>;
// starts_of, with offsets
@group(0) @binding(1) var<storage, read_write> id_of: array<i32>;
@group(0) @binding(3) var<storage, read_write> starts: array<u32>;
@group(0) @binding(4) var<storage, read_write> order: array<i32>;
// word_of, with x, starts and order
@group(0) @binding(2) var<storage, read_write> dword: array<f32>;
// type_of
@group(0) @binding(1) var<storage, read_write> dposition: array<f32>;
@group(0) @binding(2) var<storage, read_write> dtype: array<f32>;

const LINES: u32 = 8u; // threads that share a sum
const MANY: u32 = 16u; // rows from which on they do

var<workgroup> range: vec2<u32>;

/// Adds up what the threads of each column have: thread `line * columns + column` gives a part, line 0 gets the sum.
fn sum_of_lines(part: f32, thread: u32, lines: u32) -> f32 {
    let columns = WIDTH / lines;
    workgroupBarrier(); // whatever lies there is read
    tree[thread] = part;
    workgroupBarrier();
    var sum = part;
    for (var other = thread + columns; other < WIDTH; other += columns) {
        sum += tree[other];
    }
    return sum;
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let row = at / p.channels;
    let channel = at % p.channels;
    if row >= u32(offsets[p.batch]) {
        return;
    }
    // The sequence of the row: the last one that starts at or before it.
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
    let place = row - u32(offsets[low]);
    x[at] = word[u32(ids[row]) * p.channels + channel] + position[place * p.channels + channel] + token_type[channel];
}

@compute @workgroup_size(WIDTH)
fn position_of(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let place = at / p.channels;
    if place >= p.positions {
        return;
    }
    var sum = 0.0;
    for (var sequence = 0u; sequence < p.batch; sequence++) {
        let row = u32(offsets[sequence]) + place;
        if row < u32(offsets[sequence + 1u]) {
            sum += x[row * p.channels + at % p.channels];
        }
    }
    position[at] = sum;
}

@compute @workgroup_size(WIDTH)
fn type_of(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * (WIDTH / LINES) + thread % (WIDTH / LINES);
    var part = 0.0;
    if at < p.channels {
        for (var place = thread / (WIDTH / LINES); place < p.positions; place += LINES) {
            part += dposition[place * p.channels + at];
        }
    }
    let sum = sum_of_lines(part, thread, LINES);
    if thread < WIDTH / LINES && at < 2u * p.channels {
        dtype[at] = sum;
    }
}

@compute @workgroup_size(WIDTH)
fn starts_of(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let id = flat(group, groups) * WIDTH + thread;
    if id > p.vocabulary {
        return;
    }
    // The first place in order whose word is not below this one.
    var low = 0u;
    var high = u32(offsets[p.batch]);
    while low < high {
        let middle = (low + high) / 2u;
        if u32(id_of[order[middle]]) < id {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    starts[id] = low;
}

@compute @workgroup_size(WIDTH)
fn word_of(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let id = flat(group, groups);
    if id >= p.vocabulary {
        return;
    }
    if thread == 0u {
        range = vec2(starts[id], select(starts[id + 1u], starts[id], id == 0u));
    }
    let rows = workgroupUniformLoad(&range);
    let lines = select(1u, LINES, rows.y - rows.x > MANY);
    let columns = WIDTH / lines;
    for (var first = 0u; first < p.channels; first += columns) {
        let channel = first + thread % columns;
        var part = 0.0;
        if channel < p.channels {
            for (var at = rows.x + thread / columns; at < rows.y; at += lines) {
                part += x[u32(order[at]) * p.channels + channel];
            }
        }
        let sum = sum_of_lines(part, thread, lines);
        if thread < columns && channel < p.channels {
            dword[id * p.channels + channel] = sum;
        }
    }
}
