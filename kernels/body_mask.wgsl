// Which pixels of a film are body: the largest 4-connected component of pixels brighter than the threshold, the first in
// raster order if sizes are equal, with its holes filled; all pixels if none is bright.
//
// Pixels are taken in runs along lines. The name of a run is 1 plus its first pixel's number in the film; runs that touch are
// joined by letting the larger name point to the smaller, so that a component has the name of its first run. Holes are what
// is not joined to the border among the pixels outside of the body: the border's name is 0.
//
//   plane     [films, height, width]
//   labels    [films, 1 + height * width]: at a run's name a name of its component that is not larger, at its other pixels the
//             run's name (in the end the component's), NONE at pixels that are no members; place 0 is the border's
//   sizes     [films, 1 + height * width]: pixels of each component at its name; place 0 is the name of the largest, 0 if
//             there is none
//   body      [films, height, width] bytes, four to a word
//   dispatch  bright, count and rest: a thread to a line; join: to a pixel; largest: a workgroup to a film; write: a thread to
//             four pixels of all films
//   films * (1 + height * width) < 2^31: src/ops/body_mask/wgsl.rs checks.

struct BodyMask {
    films: u32,
    height: u32,
    width: u32,
    threshold: f32,
}

@group(0) @binding(0) var<uniform> p: BodyMask;
@group(0) @binding(1) var<storage, read_write> labels: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> sizes: array<atomic<u32>>;
@group(0) @binding(1) var<storage, read_write> counted: array<u32>; // the sizes
@group(0) @binding(3) var<storage, read_write> plane: array<f32>;
@group(0) @binding(3) var<storage, read_write> body: array<u32>;

const NONE: u32 = 0xffffffffu;
const BORDER: u32 = 0u;

/// Where the labels of a film begin.
fn film_at(film: u32) -> u32 {
    return film * (1u + p.height * p.width);
}

/// The smallest name that a name leads to. Whoever comes by shortens the way: what is above a name leads to the same root.
fn root(film: u32, name: u32) -> u32 {
    var at = name;
    var up = atomicLoad(&labels[film + at]);
    while up != at {
        let over = atomicLoad(&labels[film + up]);
        if over != up {
            atomicMin(&labels[film + at], over);
        }
        at = up;
        up = over;
    }
    return at;
}

fn unite(film: u32, one: u32, other: u32) {
    var a = root(film, one);
    var b = root(film, other);
    while a != b {
        let larger = max(a, b);
        let smaller = min(a, b);
        let before = atomicMin(&labels[film + larger], smaller);
        if before == larger {
            return;
        }
        // Somebody was faster: what was there has to be joined as well.
        a = root(film, before);
        b = root(film, smaller);
    }
}

/// Names the runs of bright pixels.
@compute @workgroup_size(WIDTH)
fn bright(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let line = flat(group, groups) * WIDTH + thread;
    if line >= p.films * p.height {
        return;
    }
    let film = film_at(line / p.height);
    let first = 1u + line % p.height * p.width;
    if first == 1u {
        atomicStore(&labels[film], BORDER);
    }
    var name = NONE;
    for (var x = 0u; x < p.width; x++) {
        let member = plane[line * p.width + x] > p.threshold;
        name = select(NONE, min(name, first + x), member);
        atomicStore(&labels[film + first + x], name);
        atomicStore(&sizes[film + first + x], 0u);
    }
}

/// Joins runs of neighbouring lines that share a column; one of the columns that they share does.
@compute @workgroup_size(WIDTH)
fn join(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    let pixels = p.height * p.width;
    if at >= p.films * pixels || at % pixels < p.width {
        return;
    }
    let film = film_at(at / pixels);
    let name = 1u + at % pixels;
    let here = atomicLoad(&labels[film + name]);
    let above = atomicLoad(&labels[film + name - p.width]);
    if here == NONE || above == NONE {
        return;
    }
    if at % p.width > 0u {
        let left_here = atomicLoad(&labels[film + name - 1u]);
        let left_above = atomicLoad(&labels[film + name - p.width - 1u]);
        if left_here != NONE && left_above != NONE {
            return;
        }
    }
    unite(film, here, above);
}

/// Gives pixels the names of their components, and counts them.
@compute @workgroup_size(WIDTH)
fn count(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let line = flat(group, groups) * WIDTH + thread;
    if line >= p.films * p.height {
        return;
    }
    let film = film_at(line / p.height);
    let first = 1u + line % p.height * p.width;
    var name = NONE;
    var pixels = 0u;
    for (var x = 0u; x < p.width; x++) {
        let label = atomicLoad(&labels[film + first + x]);
        if label == NONE {
            if pixels > 0u {
                atomicAdd(&sizes[film + name], pixels);
            }
            pixels = 0u;
            continue;
        }
        if pixels == 0u {
            name = root(film, label);
        }
        atomicStore(&labels[film + first + x], name);
        pixels += 1u;
    }
    if pixels > 0u {
        atomicAdd(&sizes[film + name], pixels);
    }
}

var<workgroup> best: array<vec2<u32>, WIDTH>; // size and name

/// The larger of two, the smaller name if sizes are equal.
fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y));
}

@compute @workgroup_size(WIDTH)
fn largest(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let number = flat(group, groups);
    if number >= p.films {
        return;
    }
    let film = film_at(number);
    var own = vec2<u32>();
    for (var name = 1u + thread; name <= p.height * p.width; name += WIDTH) {
        let size = counted[film + name];
        if size > own.x {
            own = vec2(size, name);
        }
    }
    best[thread] = own;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if thread < half {
            best[thread] = better(best[thread], best[thread + half]);
        }
        workgroupBarrier();
    }
    if thread == 0u {
        counted[film] = best[0].y;
    }
}

/// Names the runs outside of the largest component; those at the border are the border's.
@compute @workgroup_size(WIDTH)
fn rest(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let line = flat(group, groups) * WIDTH + thread;
    if line >= p.films * p.height {
        return;
    }
    let film = film_at(line / p.height);
    let y = line % p.height;
    let first = 1u + y * p.width;
    let largest = atomicLoad(&sizes[film]);
    var name = NONE;
    for (var x = 0u; x < p.width; x++) {
        let member = atomicLoad(&labels[film + first + x]) != largest;
        let begun = select(first + x, BORDER, y == 0u || y == p.height - 1u || x == 0u);
        name = select(NONE, min(name, begun), member);
        atomicStore(&labels[film + first + x], name);
    }
    if name != NONE {
        atomicStore(&labels[film + name], BORDER);
    }
}

@compute @workgroup_size(WIDTH)
fn write(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let word = flat(group, groups) * WIDTH + thread;
    let pixels = p.height * p.width;
    let all = p.films * pixels;
    if 4u * word >= all {
        return;
    }
    var four = 0u;
    for (var byte = 0u; byte < 4u; byte++) {
        let at = min(4u * word + byte, all - 1u);
        let film = film_at(at / pixels);
        let label = atomicLoad(&labels[film + 1u + at % pixels]);
        var inside = label == NONE || atomicLoad(&sizes[film]) == 0u;
        if !inside {
            inside = root(film, label) != BORDER;
        }
        four |= select(0u, 1u, inside) << (8u * byte);
    }
    body[word] = four;
}
