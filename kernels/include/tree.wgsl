
// Sums over a workgroup by a tree in its memory: what every adapter can do. subgroups.wgsl has the same functions.

/// A thread, as these functions know it.
struct Thread {
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> tree: array<f32, WIDTH>;
var<workgroup> tree_of_pairs: array<vec2<f32>, WIDTH>;

/// The sum over all threads of a workgroup, for all of them.
fn group_sum(value: f32, me: Thread) -> f32 {
    workgroupBarrier(); // whatever lies there is read
    tree[me.index] = value;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if me.index < half {
            tree[me.index] += tree[me.index + half];
        }
        workgroupBarrier();
    }
    return tree[0];
}

/// Two such sums, of a workgroup of so many threads: a power of two.
fn group_sums(value: vec2<f32>, me: Thread, threads: u32) -> vec2<f32> {
    workgroupBarrier();
    tree_of_pairs[me.index] = value;
    workgroupBarrier();
    for (var half = threads / 2u; half > 0u; half /= 2u) {
        if me.index < half {
            tree_of_pairs[me.index] += tree_of_pairs[me.index + half];
        }
        workgroupBarrier();
    }
    return tree_of_pairs[0];
}

/// The largest over all threads of a workgroup, for all of them. NaN may be lost.
fn group_max(value: f32, me: Thread) -> f32 {
    workgroupBarrier();
    tree[me.index] = value;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if me.index < half {
            tree[me.index] = max(tree[me.index], tree[me.index + half]);
        }
        workgroupBarrier();
    }
    return tree[0];
}

