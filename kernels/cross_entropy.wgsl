// CrossEntropy: with lse = log sum exp x of a row, loss = mean over rows of lse - x[class];
// dx = seed / rows * (exp(x - lse) - [class]).
//
//   out       of `fwd` the losses [rows], of `bwd` dx [rows, count]
//   x         [rows, count]
//   classes   [rows], each in 0 .. count: who writes them sees to it
//   seed      [1]: of the gradient alone
//   losses, loss  [rows], [1]: of `finish`
//   dispatch  fwd and bwd: a thread to a row; finish: one workgroup
//   Sums: a row by its thread, in order; the losses by threads in strides of 256, threads by a tree.
//   rows * count < 2^31: ShaderIo::check sees to it.

struct CrossEntropy {
    rows: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> p: CrossEntropy;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> classes: array<i32>;
@group(0) @binding(4) var<storage, read_write> seed: array<f32>;

@group(0) @binding(1) var<storage, read_write> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;

/// lse of the row that begins at `first`.
fn log_sum_exp(first: u32) -> f32 {
    var highest = x[first];
    for (var at = 1u; at < p.count; at++) {
        highest = max(highest, x[first + at]);
    }
    var sum = 0.0;
    for (var at = 0u; at < p.count; at++) {
        sum += exponential(x[first + at] - highest);
    }
    return highest + logarithm(sum);
}

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = flat(group, groups) * WIDTH + thread;
    if row < p.rows {
        let first = row * p.count;
        out[row] = log_sum_exp(first) - x[first + u32(classes[row])];
    }
}

@compute @workgroup_size(WIDTH)
fn finish(me: Thread) {
    let thread = me.index;
    var sum = 0.0;
    for (var row = thread; row < p.rows; row += WIDTH) {
        sum += losses[row];
    }
    sum = group_sum(sum, me);
    if thread == 0u {
        loss[0] = sum / f32(p.rows);
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = flat(group, groups) * WIDTH + thread;
    if row < p.rows {
        let first = row * p.count;
        let lse = log_sum_exp(first);
        let each = seed[0] / f32(p.rows);
        for (var at = 0u; at < p.count; at++) {
            let hit = select(0.0, 1.0, at == u32(classes[row]));
            out[first + at] = each * (exponential(min(x[first + at] - lse, 0.0)) - hit);
        }
    }
}
