
// Products of matrices: a workgroup of THREADS sums a square of TILE lines and columns over STEP numbers of the inner extent
// at a time. Both operands lie by the inner extent, four lines or four columns to a vector. cooperative.wgsl has the same
// functions.
const TILE: u32 = 64u;
const STEP: u32 = 16u;
const THREADS: u32 = 64u;
const PITCH: u32 = TILE / 4u + 1u; // vectors from one of the inner extent to the next: not all in the same bank
var<workgroup> tile_a: array<vec4<f32>, STEP * PITCH>;
var<workgroup> tile_b: array<vec4<f32>, STEP * PITCH>;

/// What a thread sums: eight lines of eight columns, in sixteen vectors.
alias Sums = array<vec4<f32>, 16>;

/// Lays down four lines, or columns, of a number of the inner extent.
fn put_a(k: u32, quad: u32, four: vec4<f32>) {
    tile_a[k * PITCH + quad] = four;
}

fn put_b(k: u32, quad: u32, four: vec4<f32>) {
    tile_b[k * PITCH + quad] = four;
}

/// How often the tile is gone through, for a part of it each time.
fn turns(me: Thread) -> u32 {
    return 1u;
}

/// The line in the tile of a thread's vector.
fn sums_line(me: Thread, turn: u32, vector: u32) -> u32 {
    return me.index / 8u * 4u + vector / 8u * (TILE / 2u) + vector / 2u % 4u;
}

/// The first of its columns.
fn sums_column(me: Thread, turn: u32, vector: u32) -> u32 {
    return me.index % 8u * 4u + vector % 2u * (TILE / 2u);
}

/// The first vector, which becomes the last.
fn next(me: Thread, sums: ptr<function, Sums>) -> vec4<f32> {
    rotate(sums);
    return (*sums)[15];
}

/// The sum of two, of which a compiler knows nothing where `zero` is of a uniform. It would else write s + (a + b) as
/// (s + a) + b, as lavapipe does, and the chain of roundings be twice as long (benches/NOTES.md).
fn together(a: vec4<f32>, b: vec4<f32>, zero: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(a + b) ^ vec4(zero));
}

/// Adds the products of the two tiles, in order of the inner extent, two at a time.
fn multiply(me: Thread, turn: u32, zero: u32, sums: ptr<function, Sums>) {
    for (var k = 0u; k < STEP; k += 2u) {
        let line = k * PITCH + me.index / 8u;
        let column = k * PITCH + me.index % 8u;
        let a = tile_a[line];
        let c = tile_a[line + TILE / 8u];
        let b = tile_b[column];
        let d = tile_b[column + TILE / 8u];
        let a2 = tile_a[line + PITCH];
        let c2 = tile_a[line + PITCH + TILE / 8u];
        let b2 = tile_b[column + PITCH];
        let d2 = tile_b[column + PITCH + TILE / 8u];
        (*sums)[0] += together(a.x * b, a2.x * b2, zero);
        (*sums)[1] += together(a.x * d, a2.x * d2, zero);
        (*sums)[2] += together(a.y * b, a2.y * b2, zero);
        (*sums)[3] += together(a.y * d, a2.y * d2, zero);
        (*sums)[4] += together(a.z * b, a2.z * b2, zero);
        (*sums)[5] += together(a.z * d, a2.z * d2, zero);
        (*sums)[6] += together(a.w * b, a2.w * b2, zero);
        (*sums)[7] += together(a.w * d, a2.w * d2, zero);
        (*sums)[8] += together(c.x * b, c2.x * b2, zero);
        (*sums)[9] += together(c.x * d, c2.x * d2, zero);
        (*sums)[10] += together(c.y * b, c2.y * b2, zero);
        (*sums)[11] += together(c.y * d, c2.y * d2, zero);
        (*sums)[12] += together(c.z * b, c2.z * b2, zero);
        (*sums)[13] += together(c.z * d, c2.z * d2, zero);
        (*sums)[14] += together(c.w * b, c2.w * b2, zero);
        (*sums)[15] += together(c.w * d, c2.w * d2, zero);
    }
}

