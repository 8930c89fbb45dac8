
// Products of matrices by cooperative matrices of 8 lines and 8 columns, f32 throughout: the functions of products.wgsl. A
// workgroup of THREADS sums a square of TILE lines and columns over STEP numbers of the inner extent at a time. A subgroup sums
// a quarter of it, 32 by 32, in sixteen matrices; where there are fewer than four subgroups the tile is gone through more often,
// and where there are more these do what others do, for such operations stand where all threads come by, and write it to nobody.
const TILE: u32 = 64u;
const STEP: u32 = 16u;
const THREADS: u32 = 128u;
const SHARES: u32 = 4u;
const BLOCK: u32 = 64u; // numbers of a matrix
const SLOTS: u32 = 32u; // a subgroup has four threads or more
const NOWHERE: u32 = 0x80000000u; // a line that no product has

// By the inner extent, TILE lines of a each, then as many columns of b; in the end a matrix of each subgroup.
var<workgroup> tiles: array<f32, 2u * STEP * TILE>;
var<workgroup> of_turns: u32;

/// What a subgroup sums.
alias Sums = array<coop_mat8x8<f32, C>, 16>;

/// Lays down four lines, or columns, of a number of the inner extent.
fn put_a(k: u32, quad: u32, four: vec4<f32>) {
    let at = k * TILE + 4u * quad;
    tiles[at] = four.x;
    tiles[at + 1u] = four.y;
    tiles[at + 2u] = four.z;
    tiles[at + 3u] = four.w;
}

fn put_b(k: u32, quad: u32, four: vec4<f32>) {
    put_a(STEP + k, quad, four);
}

/// How often the tile is gone through, for a part of it each time: alike for all threads.
fn turns(me: Thread) -> u32 {
    if me.index == 0u {
        of_turns = (SHARES + me.subgroups - 1u) / me.subgroups;
    }
    return workgroupUniformLoad(&of_turns);
}

/// The quarter of the tile that the subgroup of that number sums.
fn share(me: Thread, turn: u32, subgroup: u32) -> u32 {
    return turn * me.subgroups + subgroup;
}

/// The line in the tile of four numbers of the matrix that is laid down for the vector: 16 threads to a subgroup's matrix.
fn sums_line(me: Thread, turn: u32, vector: u32) -> u32 {
    let subgroup = me.index / 16u;
    let quarter = share(me, turn, subgroup);
    let line = quarter / 2u * (TILE / 2u) + vector / 4u * 8u + me.index % 16u / 2u;
    return select(NOWHERE, line, subgroup < me.subgroups && quarter < SHARES);
}

/// The first of their columns.
fn sums_column(me: Thread, turn: u32, vector: u32) -> u32 {
    let quarter = share(me, turn, me.index / 16u);
    return quarter % 2u * (TILE / 2u) + vector % 4u * 8u + me.index % 2u * 4u;
}

/// Four numbers of the first matrix, which becomes the last. All threads come by.
fn next(me: Thread, sums: ptr<function, Sums>) -> vec4<f32> {
    workgroupBarrier(); // whatever lies there is read
    rotate(sums);
    coopStoreT((*sums)[15], &tiles[min(me.subgroup, SLOTS - 1u) * BLOCK], 8u);
    workgroupBarrier();
    let at = me.index * 4u;
    return vec4(tiles[at], tiles[at + 1u], tiles[at + 2u], tiles[at + 3u]);
}

/// Adds the products of the two tiles; how is the adapter's.
fn multiply(me: Thread, turn: u32, zero: u32, sums: ptr<function, Sums>) {
    let quarter = share(me, turn, me.subgroup) % SHARES;
    for (var k = 0u; k < STEP; k += 8u) {
        let a = k * TILE + quarter / 2u * (TILE / 2u);
        let b = (STEP + k) * TILE + quarter % 2u * (TILE / 2u);
        let a0 = coopLoad<coop_mat8x8<f32, A>>(&tiles[a + 0u], TILE);
        let a1 = coopLoad<coop_mat8x8<f32, A>>(&tiles[a + 8u], TILE);
        let a2 = coopLoad<coop_mat8x8<f32, A>>(&tiles[a + 16u], TILE);
        let a3 = coopLoad<coop_mat8x8<f32, A>>(&tiles[a + 24u], TILE);
        let b0 = coopLoadT<coop_mat8x8<f32, B>>(&tiles[b + 0u], TILE);
        let b1 = coopLoadT<coop_mat8x8<f32, B>>(&tiles[b + 8u], TILE);
        let b2 = coopLoadT<coop_mat8x8<f32, B>>(&tiles[b + 16u], TILE);
        let b3 = coopLoadT<coop_mat8x8<f32, B>>(&tiles[b + 24u], TILE);
        (*sums)[0] = coopMultiplyAdd(a0, b0, (*sums)[0]);
        (*sums)[1] = coopMultiplyAdd(a0, b1, (*sums)[1]);
        (*sums)[2] = coopMultiplyAdd(a0, b2, (*sums)[2]);
        (*sums)[3] = coopMultiplyAdd(a0, b3, (*sums)[3]);
        (*sums)[4] = coopMultiplyAdd(a1, b0, (*sums)[4]);
        (*sums)[5] = coopMultiplyAdd(a1, b1, (*sums)[5]);
        (*sums)[6] = coopMultiplyAdd(a1, b2, (*sums)[6]);
        (*sums)[7] = coopMultiplyAdd(a1, b3, (*sums)[7]);
        (*sums)[8] = coopMultiplyAdd(a2, b0, (*sums)[8]);
        (*sums)[9] = coopMultiplyAdd(a2, b1, (*sums)[9]);
        (*sums)[10] = coopMultiplyAdd(a2, b2, (*sums)[10]);
        (*sums)[11] = coopMultiplyAdd(a2, b3, (*sums)[11]);
        (*sums)[12] = coopMultiplyAdd(a3, b0, (*sums)[12]);
        (*sums)[13] = coopMultiplyAdd(a3, b1, (*sums)[13]);
        (*sums)[14] = coopMultiplyAdd(a3, b2, (*sums)[14]);
        (*sums)[15] = coopMultiplyAdd(a3, b3, (*sums)[15]);
    }
}

