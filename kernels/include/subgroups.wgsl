
// Sums over a workgroup by its subgroups: the functions of tree.wgsl, with two barriers each instead of ten. Each subgroup adds
// up by itself, then every thread adds what the subgroups have, in the order of their numbers. A subgroup may have any number of
// threads, and not all the same; which threads it has matters to nobody. How it adds up is the adapter's: the bits are the same
// in every run on one adapter, and others on another.

/// A thread, as these functions know it.
struct Thread {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}

// There are no more subgroups than threads.
var<workgroup> of_subgroups: array<f32, WIDTH>;
var<workgroup> pairs_of_subgroups: array<vec2<f32>, WIDTH>;

/// Whether the thread is the one that writes for its subgroup: the first that is there.
fn writes(me: Thread) -> bool {
    return subgroupBroadcastFirst(me.index) == me.index;
}

/// The sum over all threads of a workgroup, for all of them.
fn group_sum(value: f32, me: Thread) -> f32 {
    let part = subgroupAdd(value);
    let writer = writes(me);
    workgroupBarrier(); // whatever lies there is read
    if writer {
        of_subgroups[me.subgroup] = part;
    }
    workgroupBarrier();
    var sum = of_subgroups[0];
    for (var other = 1u; other < me.subgroups; other++) {
        sum += of_subgroups[other];
    }
    return sum;
}

/// Two such sums; the subgroups know themselves how many threads there are.
fn group_sums(value: vec2<f32>, me: Thread, threads: u32) -> vec2<f32> {
    let part = subgroupAdd(value);
    let writer = writes(me);
    workgroupBarrier();
    if writer {
        pairs_of_subgroups[me.subgroup] = part;
    }
    workgroupBarrier();
    var sum = pairs_of_subgroups[0];
    for (var other = 1u; other < me.subgroups; other++) {
        sum += pairs_of_subgroups[other];
    }
    return sum;
}

/// The largest over all threads of a workgroup, for all of them. NaN may be lost.
fn group_max(value: f32, me: Thread) -> f32 {
    let part = subgroupMax(value);
    let writer = writes(me);
    workgroupBarrier();
    if writer {
        of_subgroups[me.subgroup] = part;
    }
    workgroupBarrier();
    var most = of_subgroups[0];
    for (var other = 1u; other < me.subgroups; other++) {
        most = max(most, of_subgroups[other]);
    }
    return most;
}

