
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

/// The first vector, which becomes the last: drivers keep an array in registers only where no index is computed.
fn next(me: Thread, sums: ptr<function, Sums>) -> vec4<f32> {
    let first = (*sums)[0];
    (*sums)[0] = (*sums)[1];
    (*sums)[1] = (*sums)[2];
    (*sums)[2] = (*sums)[3];
    (*sums)[3] = (*sums)[4];
    (*sums)[4] = (*sums)[5];
    (*sums)[5] = (*sums)[6];
    (*sums)[6] = (*sums)[7];
    (*sums)[7] = (*sums)[8];
    (*sums)[8] = (*sums)[9];
    (*sums)[9] = (*sums)[10];
    (*sums)[10] = (*sums)[11];
    (*sums)[11] = (*sums)[12];
    (*sums)[12] = (*sums)[13];
    (*sums)[13] = (*sums)[14];
    (*sums)[14] = (*sums)[15];
    (*sums)[15] = first;
    return first;
}

/// Adds the products of the two tiles, in order of the inner extent. Two are added to each other first, which halves the
/// chain of roundings where the compiler leaves it so; lavapipe adds them one by one (benches/NOTES.md).
fn multiply(me: Thread, turn: u32, sums: ptr<function, Sums>) {
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
        (*sums)[0] += a.x * b + a2.x * b2;
        (*sums)[1] += a.x * d + a2.x * d2;
        (*sums)[2] += a.y * b + a2.y * b2;
        (*sums)[3] += a.y * d + a2.y * d2;
        (*sums)[4] += a.z * b + a2.z * b2;
        (*sums)[5] += a.z * d + a2.z * d2;
        (*sums)[6] += a.w * b + a2.w * b2;
        (*sums)[7] += a.w * d + a2.w * d2;
        (*sums)[8] += c.x * b + c2.x * b2;
        (*sums)[9] += c.x * d + c2.x * d2;
        (*sums)[10] += c.y * b + c2.y * b2;
        (*sums)[11] += c.y * d + c2.y * d2;
        (*sums)[12] += c.z * b + c2.z * b2;
        (*sums)[13] += c.z * d + c2.z * d2;
        (*sums)[14] += c.w * b + c2.w * b2;
        (*sums)[15] += c.w * d + c2.w * d2;
    }
}

