// Copies values: an output that starts out as a copy of an input, and all of the op convert.
//
//   source, target  [count] words of 32 bits; apart
//   dispatch        a thread to a word, count / 256 rounded up, folded

struct Copy {
    count: u32,
}

@group(0) @binding(0) var<uniform> p: Copy;
@group(0) @binding(1) var<storage, read_write> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_: array<u32>;

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
