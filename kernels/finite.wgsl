// Finite: the sum of the squares of all gradients, and how many numbers of gradients and losses are not finite.
//
//   numbers   [count]: one input; its squares count if `summed`
//   partials  [pieces]: squares and count of each 4096 numbers of each input, made by `piece` and added up by `finish`;
//             those of this input begin at `first`
//   out       [2]: the sum of squares, the count
//   dispatch  piece: for each input a workgroup to 4096 numbers, folded; finish: one workgroup
//   Sums are f32: 16 numbers of a thread, threads in a tree; partials by threads in strides of 256, then likewise. A count
//   is exact up to 2^24, and never zero if there is something to count. count < 2^31, pieces < 2^31:
//   src/ops/finite/wgsl.rs checks.

struct Piece {
    count: u32,
    first: u32,
    summed: u32,
}

struct Finish {
    pieces: u32,
}

@group(0) @binding(0) var<uniform> p: Piece;
@group(0) @binding(0) var<uniform> all: Finish;
@group(0) @binding(1) var<storage, read_write> partials: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> numbers: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const NUMBERS: u32 = 4096u; // of a piece

@compute @workgroup_size(WIDTH)
fn piece(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let index = flat(group, groups);
    if index >= (p.count + NUMBERS - 1u) / NUMBERS {
        return;
    }
    let start = index * NUMBERS;
    var squares = 0.0;
    var bad = 0.0;
    for (var at = start + thread; at < min(start + NUMBERS, p.count); at += WIDTH) {
        let x = numbers[at];
        squares += x * x;
        bad += select(1.0, 0.0, is_finite(x));
    }
    let sums = group_sums(vec2(squares, bad), me, WIDTH);
    if thread == 0u {
        partials[p.first + index] = vec2(select(0.0, sums.x, p.summed != 0u), sums.y);
    }
}

@compute @workgroup_size(WIDTH)
fn finish(me: Thread) {
    let thread = me.index;
    var sums = vec2(0.0, 0.0);
    for (var at = thread; at < all.pieces; at += WIDTH) {
        sums += partials[at];
    }
    sums = group_sums(sums, me, WIDTH);
    if thread == 0u {
        out[0] = sums.x;
        out[1] = sums.y;
    }
}
