// SegmentationLoss: with p = sigmoid(x), or the raw x, and s = 1e-5,
//
//   loss = dice weight · mean over images of (1 - (2 sum pt + s) / (sum p + sum t + s))
//        + bce weight · mean over pixels of ((1 - t) x - log sigmoid(x))
//   dx = seed · (dice weight / images · (q - 2t) / (sum p + sum t + s) · dp/dx + bce weight / pixels · (sigmoid(x) - t)),
//   q being the quotient of an image
//
//   logits, mask, d_logits  [images, pixels]: x, t, dx
//   partials                [images, chunks]: sums of pt, p, t and the cross entropy over 4096 pixels
//   loss, seed              [1]
//   sums                    [images, 3]: of pt, p, t; written by `finish`, read (as image_sums) by `bwd`
//   dispatch                fwd: a workgroup to a chunk; finish: one, in which a thread has every 256th image; bwd: a thread
//                           to a pixel
//   Sums: every 256th pixel of a chunk by a thread, threads by a tree; chunks in order; images by threads, then a tree.
//   images * pixels < 2^31: ShaderIo::check sees to it.

struct SegmentationLoss {
    images: u32,
    pixels: u32, // of an image
    chunks: u32, // of an image
    raw: u32,
    dice_weight: f32,
    bce_weight: f32,
}

@group(0) @binding(0) var<uniform> p: SegmentationLoss;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> partials: array<vec4<f32>>;

@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@group(0) @binding(3) var<storage, read_write> d_logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> image_sums: array<f32>;
@group(0) @binding(5) var<storage, read_write> seed: array<f32>;

const CHUNK: u32 = 4096u;
const SMOOTH: f32 = 1e-5;

var<workgroup> fours: array<vec4<f32>, WIDTH>;

@compute @workgroup_size(WIDTH)
fn fwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let chunk = flat(group, groups);
    if chunk >= p.images * p.chunks {
        return;
    }
    let image = chunk / p.chunks * p.pixels;
    let begin = chunk % p.chunks * CHUNK;
    var sum = vec4<f32>();
    for (var at = begin + thread; at < min(begin + CHUNK, p.pixels); at += WIDTH) {
        let x = logits[image + at];
        let t = mask[image + at];
        let share = select(sigmoid(x), x, p.raw != 0u);
        let entropy = cross_entropy(x, t);
        sum += vec4(share * t, share, t, entropy);
    }
    fours[thread] = sum;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if thread < half {
            fours[thread] += fours[thread + half];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        partials[chunk] = fours[0];
    }
}

@compute @workgroup_size(WIDTH)
fn finish(me: Thread) {
    let thread = me.index;
    var dice = 0.0;
    var entropy = 0.0;
    for (var image = thread; image < p.images; image += WIDTH) {
        var sum = vec4<f32>();
        for (var chunk = 0u; chunk < p.chunks; chunk++) {
            sum += partials[image * p.chunks + chunk];
        }
        sums[3u * image] = sum.x;
        sums[3u * image + 1u] = sum.y;
        sums[3u * image + 2u] = sum.z;
        dice += 1.0 - (2.0 * sum.x + SMOOTH) / (sum.y + sum.z + SMOOTH);
        entropy += sum.w;
    }
    let all = group_sums(vec2(dice, entropy), me, WIDTH);
    if thread == 0u {
        loss[0] = p.dice_weight * (all.x / f32(p.images)) + p.bce_weight * (all.y / f32(p.images * p.pixels));
    }
}

@compute @workgroup_size(WIDTH)
fn bwd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = flat(group, groups) * WIDTH + thread;
    if at >= p.images * p.pixels {
        return;
    }
    let image = 3u * (at / p.pixels);
    let below = image_sums[image + 1u] + image_sums[image + 2u] + SMOOTH;
    let quotient = (2.0 * image_sums[image] + SMOOTH) / below;
    let dice = seed[0] * p.dice_weight / f32(p.images);
    let entropy = seed[0] * p.bce_weight / f32(p.images * p.pixels);
    let share = sigmoid(logits[at]);
    let t = mask[at];
    let slope = select(share * (1.0 - share), 1.0, p.raw != 0u);
    d_logits[at] = dice * ((quotient - 2.0 * t) / below) * slope + entropy * (share - t);
}
