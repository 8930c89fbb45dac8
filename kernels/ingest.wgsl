// Ingest: films as the encoder reads them. From bytes: each output pixel's centre goes through a homography to a place in
// the film, which is sampled there (nearest or bilinear, 0 outside); then stretch, brightness and contrast about the mean.
// image = (plane - mean of channel) / deviation of channel, three channels alike.
//
//   plane         [films, height, width]: written by `bytes`, read by `numbers`
//   image         [films, height, width, 3]
//   pixels        [films, height, width] bytes, four to a word: of `bytes` alone
//   augmentation  [films, 13], as src/ops/ingest/mod.rs lists them: of `bytes` alone
//   dispatch      bytes: a workgroup to a film, in which a thread has every 256th pixel; numbers: a thread to a pixel
//   The sum for the mean: every 256th pixel by a thread, threads by a tree.
//   0 < height, width <= 2^24, pixels of all films < 2^31: src/ops/ingest/wgsl.rs checks.

struct Ingest {
    films: u32,
    height: u32,
    width: u32,
    means_0: f32,
    means_1: f32,
    means_2: f32,
    deviations_0: f32,
    deviations_1: f32,
    deviations_2: f32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> p: Ingest;
@group(0) @binding(1) var<storage, read_write> plane: array<f32>;
@group(0) @binding(2) var<storage, read_write> image: array<f32>;
@group(0) @binding(3) var<storage, read_write> pixels: array<u32>;
@group(0) @binding(4) var<storage, read_write> augmentation: array<f32>;

/// The gray of the pixel in column x and row y, both whole numbers, of the film whose pixels begin at `first`; 0 outside.
fn gray(first: u32, x: f32, y: f32) -> f32 {
    if x >= 0.0 && x < f32(p.width) && y >= 0.0 && y < f32(p.height) {
        let at = first + u32(y) * p.width + u32(x);
        return f32((pixels[at / 4u] >> (8u * (at % 4u))) & 0xffu) / 255.0;
    }
    return 0.0;
}

fn between(a: f32, b: f32, part: f32) -> f32 {
    return a * (1.0 - part) + b * part;
}

/// One row of the homography, which begins at `row`, times the centre of a pixel. Each operation is rounded: a place next to
/// the edge of a pixel lies on the same side as by the definition in f32.
fn projected(row: u32, x: f32, y: f32) -> f32 {
    let along = rounded(augmentation[row] * x, p.zero);
    return rounded(along + rounded(augmentation[row + 1u] * y, p.zero), p.zero) + augmentation[row + 2u];
}

/// Pixel `at` of the output, sampled from the film.
fn sampled(first: u32, numbers: u32, at: u32) -> f32 {
    let x = f32(at % p.width) + 0.5;
    let y = f32(at / p.width) + 0.5;
    let w = projected(numbers + 6u, x, y);
    let u = projected(numbers, x, y) / w;
    let v = projected(numbers + 3u, x, y) / w;
    // A homography that sends a pixel to infinity leaves it outside of the film.
    if !is_finite(u) || !is_finite(v) {
        return 0.0;
    }
    if augmentation[numbers + 12u] == 0.0 {
        return gray(first, floor(u), floor(v));
    }
    let left = floor(u - 0.5);
    let top = floor(v - 0.5);
    let right = u - 0.5 - left;
    let bottom = v - 0.5 - top;
    let above = between(gray(first, left, top), gray(first, left + 1.0, top), right);
    let below = between(gray(first, left, top + 1.0), gray(first, left + 1.0, top + 1.0), right);
    return between(above, below, bottom);
}

/// Writes the three channels of a pixel.
fn put(at: u32, x: f32) {
    image[3u * at] = (x - p.means_0) / p.deviations_0;
    image[3u * at + 1u] = (x - p.means_1) / p.deviations_1;
    image[3u * at + 2u] = (x - p.means_2) / p.deviations_2;
}

@compute @workgroup_size(WIDTH)
fn bytes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    me: Thread,
) {
    let thread = me.index;
    let film = flat(group, groups);
    if film >= p.films {
        return;
    }
    let count = p.height * p.width;
    let first = film * count;
    let numbers = film * 13u;
    var darkest = 1.0;
    var brightest = 0.0;
    for (var at = thread; at < count; at += WIDTH) {
        let x = sampled(first, numbers, at);
        plane[first + at] = x;
        darkest = min(darkest, x);
        brightest = max(brightest, x);
    }
    brightest = group_max(brightest, me);
    darkest = -group_max(-darkest, me);

    let stretch = augmentation[numbers + 11u] != 0.0 && darkest < brightest;
    let brightness = augmentation[numbers + 9u];
    var sum = 0.0;
    for (var at = thread; at < count; at += WIDTH) {
        var x = plane[first + at];
        if stretch {
            x = (x - darkest) / (brightest - darkest);
        }
        x = clamp(brightness * x, 0.0, 1.0);
        plane[first + at] = x;
        sum += x;
    }
    let mean = group_sum(sum, me) / f32(count);

    let contrast = augmentation[numbers + 10u];
    for (var at = thread; at < count; at += WIDTH) {
        let x = clamp(contrast * plane[first + at] + (1.0 - contrast) * mean, 0.0, 1.0);
        plane[first + at] = x;
        put(first + at, x);
    }
}

@compute @workgroup_size(WIDTH)
fn numbers(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at < p.films * p.height * p.width {
        put(at, plane[at]);
    }
}
