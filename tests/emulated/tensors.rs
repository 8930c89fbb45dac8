//! Bulk copies and copies of tensors (PTX ISA 9.7.9.25.4, 9.7.9.27): bytes, edges, swizzles, and every report.

use g2d::base::Rng;
use g2d::cuda::driver::emulated::{Check, Completion, Emulated, Options};
use g2d::cuda::driver::{Address, Driver, Swizzle, TensorMapSpec, TensorType, Window};

use crate::harness::{Buffer, Case};

const MODULE: &str = ".shared .align 1024 .b8 s[16384]; .shared .align 8 .b64 m;";

/// One mbarrier, made by thread 0; addresses of `s` in %r0, of it in %r1, of the first two tensor maps in %rd9 and %rd8.
const BEGIN: &str = "mov.u32 %r0, s; mov.u32 %r1, m; setp.ne.u32 %p1, %tx, 0; @%p1 bra made;
    mbarrier.init.shared::cta.b64 [%r1], 1; fence.mbarrier_init.release.cluster; made: bar.sync 0;";
const MAP: &str = "mov.u64 %rd9, map0; cvta.param.u64 %rd9, %rd9;";
const WAIT: &str = "full: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r1], 0; @!%p2 bra full;";

/// Writes so many bytes of `s` to b.
fn give(bytes: usize) -> String {
    format!(
        "shl.b32 %r2, %tx, 2; give: setp.ge.u32 %p3, %r2, {bytes}; @%p3 bra given; add.u32 %r3, %r0, %r2;
        ld.shared.u32 %r4, [%r3]; cvt.u64.u32 %rd1, %r2; add.u64 %rd1, %b, %rd1; st.global.u32 [%rd1], %r4;
        add.u32 %r2, %r2, 512; bra give; given:"
    )
}

/// Fills so many bytes of `s` from a, visible to the async proxy.
fn take(bytes: usize) -> String {
    format!(
        "shl.b32 %r2, %tx, 2; take: setp.ge.u32 %p3, %r2, {bytes}; @%p3 bra taken; add.u32 %r3, %r0, %r2;
        cvt.u64.u32 %rd1, %r2; add.u64 %rd1, %a, %rd1; ld.global.u32 %r4, [%rd1]; st.shared.u32 [%r3], %r4;
        add.u32 %r2, %r2, 512; bra take; taken: fence.proxy.async.shared::cta; bar.sync 0;"
    )
}

const LOADS: [&str; 5] = [
    "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes",
];
const PIXELS: [&str; 3] = [
    "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes",
    "cp.async.bulk.tensor.5d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes",
];
const STORES: [&str; 5] = [
    "cp.async.bulk.tensor.1d.global.shared::cta.tile.bulk_group",
    "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group",
    "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group",
    "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group",
    "cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group",
];

/// Sizes of the tensors of each rank, in words of 32 bits, and of their boxes.
const SIZES: [u64; 5] = [12, 5, 3, 2, 3];
const BOX: [u32; 5] = [8, 3, 2, 2, 2];

/// A packed tensor of f32 with so many dimensions.
fn spec(rank: usize, steps: &[u32], swizzle: Swizzle) -> TensorMapSpec {
    let strides = (1..rank).map(|axis| 4 * SIZES[..axis].iter().product::<u64>()).collect();
    TensorMapSpec {
        dtype: TensorType::F32,
        address: Address(0),
        sizes: SIZES[..rank].to_vec(),
        strides,
        window: Window::Tile(BOX[..rank].to_vec()),
        steps: steps[..rank].to_vec(),
        swizzle,
    }
}

fn list(numbers: &[i64]) -> String {
    numbers.iter().map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
}

/// The word of the tensor at each word of a box, in order; none outside.
fn words(rank: usize, steps: &[u32], at: &[i64]) -> Vec<Option<usize>> {
    let counts: Vec<usize> =
        (0..rank).map(|axis| if axis == 0 { BOX[0] } else { BOX[axis].div_ceil(steps[axis]) } as usize).collect();
    let word = |number: usize| {
        let (mut left, mut word, mut stride) = (number, 0, 1);
        for axis in 0..rank {
            let step = if axis == 0 { 1 } else { i64::from(steps[axis]) };
            let place = at[axis] + (left % counts[axis]) as i64 * step;
            left /= counts[axis];
            word += usize::try_from(place).ok().filter(|place| *place < SIZES[axis] as usize)? * stride;
            stride *= SIZES[axis] as usize;
        }
        Some(word)
    };
    (0..counts.iter().product()).map(word).collect()
}

/// Where a word of a box lies, counted in words, by the manual's table: chunk index XOR row of 128 bytes.
fn place(word: usize, swizzle: Swizzle) -> usize {
    let (line, chunk, within) = (word / 32, word / 4 % 8, word % 4);
    let period = [1, 2, 4, 8][swizzle as usize];
    32 * line + 4 * (chunk ^ (line % period)) + within
}

#[test]
fn boxes_are_loaded_with_zeros_outside() {
    for rank in 1..=5 {
        for (at, steps) in [
            ([0, 0, 0, 0, 0], [1; 5]),
            ([-3, 1, 1, 0, 2], [1; 5]),
            ([9, -2, 2, 1, -1], [1; 5]),
            ([4, 1, -1, 1, 0], [1, 2, 1, 2, 1]),
            ([100, 0, 0, 0, 0], [1; 5]),
        ] {
            let expected = words(rank, &steps, &at);
            let bytes = 4 * expected.len();
            let body = format!(
                "{BEGIN} {MAP} @%p1 bra issued; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {bytes};
                {} [%r0], [%rd9, {{{}}}], [%r1]; issued: {WAIT} {}",
                LOADS[rank - 1],
                list(&at[..rank]),
                give(bytes)
            );
            let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(1..1101);
            let found = case.map(Buffer::A, 0, spec(rank, &steps, Swizzle::None)).words();
            let expected: Vec<u32> = expected.iter().map(|word| word.map_or(0, |word| word as u32 + 1)).collect();
            assert_eq!(found[..expected.len()], expected, "{rank} dimensions at {at:?}, steps {steps:?}");
        }
    }
}

#[test]
fn boxes_are_swizzled_on_both_ways() {
    for swizzle in [Swizzle::B32, Swizzle::B64, Swizzle::B128] {
        let inner = swizzle.span().expect("a span") as u32 / 4;
        let spec = TensorMapSpec {
            sizes: vec![inner.into(), 24],
            strides: vec![4 * u64::from(inner)],
            window: Window::Tile(vec![inner, 24]),
            steps: vec![1, 1],
            ..spec(2, &[1; 5], swizzle)
        };
        let count = 24 * inner as usize;
        let body = format!(
            "{BEGIN} {MAP} @%p1 bra issued; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {};
            {} [%r0], [%rd9, {{0, 0}}], [%r1]; issued: {WAIT} {}",
            4 * count,
            LOADS[1],
            give(4 * count)
        );
        let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(1..1101);
        let found = Case { b: 1024, ..case }.map(Buffer::A, 0, spec.clone()).words();
        for word in 0..count {
            assert_eq!(found[place(word, swizzle)], word as u32 + 1, "{swizzle:?} {word}");
        }
        // Stored from there, the words are in order again.
        let body = format!(
            "{BEGIN} {MAP} {} @%p1 bra done; {} [%rd9, {{0, 0}}], [%r0]; cp.async.bulk.commit_group;
            cp.async.bulk.wait_group 0; done:",
            take(4 * count),
            STORES[1]
        );
        let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(found[..1024].iter().copied());
        let found = Case { b: 1024, ..case }.map(Buffer::B, 0, spec).words();
        assert_eq!(found[..count], (1..=count as u32).collect::<Vec<_>>(), "{swizzle:?}");
    }
}

#[test]
fn boxes_are_stored_within_the_tensor_only() {
    for rank in 1..=5 {
        for (at, steps) in [([0; 5], [1; 5]), ([-3, 1, 1, 0, 2], [1; 5]), ([9, -2, 2, 1, -1], [1, 1, 2, 1, 2])] {
            let inside = words(rank, &steps, &at);
            let body = format!(
                "{BEGIN} {MAP} {} @%p1 bra done; {} [%rd9, {{{}}}], [%r0]; cp.async.bulk.commit_group;
                cp.async.bulk.wait_group.read 0; done:",
                take(4 * inside.len()),
                STORES[rank - 1],
                list(&at[..rank])
            );
            let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(1..1101);
            let found = Case { b: 1100, ..case }.map(Buffer::B, 0, spec(rank, &steps, Swizzle::None)).words();
            let mut expected = vec![0; 1100];
            for (number, word) in inside.iter().enumerate() {
                word.iter().for_each(|word| expected[*word] = number as u32 + 1);
            }
            assert_eq!(found, expected, "{rank} dimensions at {at:?}, steps {steps:?}");
        }
    }
}

#[test]
fn boxes_are_added_to_what_is_there() {
    let add = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group";
    let body = format!(
        "{BEGIN} {MAP} {} @%p1 bra done; {add} [%rd9, {{4, 1}}], [%r0]; {add} [%rd9, {{4, 1}}], [%r0];
        cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; done:",
        take(96)
    );
    let floats = (0..256).map(|word| (word as f32).to_bits());
    let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(floats);
    let found = case.map(Buffer::B, 0, spec(2, &[1; 5], Swizzle::None)).floats();
    for (number, word) in words(2, &[1; 5], &[4, 1]).into_iter().enumerate() {
        let word = word.expect("inside");
        assert_eq!(found[word], 2.0 * number as f32, "{word}");
    }
    // Elements that another type adds: halves rounded one by one.
    for (add, one, two) in [
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32", 0x3f80_0000, 0x4000_0000),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.bf16", 0x3f80_3f80, 0x4000_4000),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.noftz.f16", 0x3c00_3c00, 0x4000_4000),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32", 1, 2),
        ("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.s32", 1, 2),
    ] {
        let body = format!(
            "{BEGIN} {} @%p1 bra done; {add} [%b], [%r0], 64; {add} [%b], [%r0], 64;
            cp.async.bulk.commit_group; cp.async.bulk.wait_group 0; done:",
            take(64)
        );
        let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a([one; 256]);
        let found = case.words();
        assert_eq!((found[0], found[15], found[16]), (two, two, 0), "{add}");
    }
}

/// Pixels of windows along one, two or three dimensions, with two channels of words and a step of 2 along the first.
#[test]
fn pixels_are_loaded_across_rows_and_images() {
    let (channels, extents) = (4usize, [5usize, 4, 3]);
    for rank in 3..=5 {
        let spatial = rank - 2;
        let images = 2;
        let sizes: Vec<u64> =
            [channels].iter().chain(&extents[..spatial]).chain([&images]).map(|n| *n as u64).collect();
        let strides = (1..rank).map(|axis| 4 * sizes[..axis].iter().product::<u64>()).collect();
        let window = Window::Im2col { lower: vec![-1; spatial], upper: vec![-1; spatial], channels: 4, pixels: 12 };
        let steps: Vec<u32> = (0..rank).map(|axis| if axis == 1 { 2 } else { 1 }).collect();
        let spec = TensorMapSpec { sizes, strides, window, steps, ..spec(rank, &[1; 5], Swizzle::None) };
        for offsets in [[0i64, 0, 0], [2, 1, 0], [1, 2, 2]] {
            let start: Vec<i64> = std::iter::once(0).chain(vec![-1; spatial]).chain([0]).collect();
            let body = format!(
                "{BEGIN} {MAP} mov.u16 %h1, {}; mov.u16 %h2, {}; mov.u16 %h3, {}; @%p1 bra issued;
                mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 192;
                {} [%r0], [%rd9, {{{}}}], [%r1], {{{}}}; issued: {WAIT} {}",
                offsets[0],
                offsets[1],
                offsets[2],
                PIXELS[spatial - 1],
                list(&start),
                ["%h1", "%h1, %h2", "%h1, %h2, %h3"][spatial - 1],
                give(192)
            );
            let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(1..1101);
            let found = case.map(Buffer::A, 0, spec.clone()).words();
            // Outputs of a convolution with a window of 3, padding 1 and stride 2 along the first dimension, in order.
            let outputs = [3usize, 4, 3];
            let expected = (0..12).flat_map(|pixel| {
                let (mut left, mut word, mut stride, mut inside) = (pixel, 0, channels, true);
                for axis in 0..spatial {
                    let step = if axis == 0 { 2 } else { 1 };
                    let at = (left % outputs[axis]) as i64 * step - 1 + offsets[axis];
                    left /= outputs[axis];
                    inside &= (0..extents[axis] as i64).contains(&at);
                    word += at.max(0) as usize * stride;
                    stride *= extents[axis];
                }
                word += left * stride;
                let inside = inside && left < images;
                (0..channels).map(move |channel| if inside { (word + channel) as u32 + 1 } else { 0 })
            });
            assert_eq!(found[..48], expected.collect::<Vec<_>>(), "{rank} dimensions, offsets {offsets:?}");
        }
    }
}

#[test]
fn bytes_are_copied_both_ways() {
    let load = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes";
    let store = "cp.async.bulk.global.shared::cta.bulk_group";
    let body = format!(
        "{BEGIN} @%p1 bra issued; mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 400; {load} [%r0], [%a], 400, [%r1];
        mbarrier.arrive.shared::cta.b64 _, [%r1]; issued: {WAIT} @%p1 bra done;
        {store} [%b], [%r0], 208; {store} [%b+512], [%r0+16], 16; cp.async.bulk.commit_group; {store} [%b+640], [%r0], 16;
        cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 1; cp.async.bulk.wait_group 0; done:"
    );
    let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(1..1101);
    let found = case.words();
    assert_eq!((found[..52].to_vec(), found[52]), ((1..53).collect(), 0));
    assert_eq!((&found[128..132], &found[160..164]), (&[5, 6, 7, 8][..], &[1, 2, 3, 4][..]));
    let ran = case.run(Options::default()).expect("no fault");
    assert_eq!((ran.counters.bulk_bytes, ran.counters.bulk_sectors), (640, 13 + 7 + 1 + 1));
    assert!(ran.counters.global_rereads() >= 1.0);
}

/// A load of 64 bytes with its parts: before and after its issue, and after the wait.
fn load(before: &str, issue: &str, after: &str) -> Case {
    let body = format!("{BEGIN} {MAP} {before} @%p1 bra issued; {issue} issued: {after}");
    let case = Case::new(&body).module(MODULE).target("sm_90a").threads(128).a(1..1101);
    case.map(Buffer::A, 0, spec(2, &[1; 5], Swizzle::None))
}

const EXPECT: &str = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 64;";
const BULK: &str = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r0], [%a], 64, [%r1];";

#[test]
fn misused_copies_are_reported() {
    let sizes = "mov.u32 %r8, 0; mov.u32 %r9, 60;";
    let with = |issue: &str| load(sizes, &format!("{EXPECT} {issue}"), WAIT);
    let tensor = "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes";
    for (case, check, words) in [
        (with(&BULK.replace("[%a]", "[%a+4]")), Check::Alignment, "multiples of 16"),
        (with(&BULK.replace("64", "%r9")), Check::Alignment, "multiples of 16"),
        (with(&BULK.replace("64", "%r8")), Check::Bounds, "no bytes"),
        (with(&BULK.replace("[%r1]", "[%r1+4]")), Check::Alignment, "mbarrier of 8 bytes"),
        (with(&BULK.replace("[%a]", "[%a+4352]")), Check::Bounds, "byte 4352 of a, which has 4400 bytes"),
        (with(&BULK.replace("[%r0]", "[%r0+16384]")), Check::Bounds, "byte 16384 of `s`"),
        (with(&BULK.replace("[%a]", "[%c]")), Check::Initialized, "not all of which were written"),
        (with(&format!("{tensor} [%r0+64], [%rd9, {{0, 0}}], [%r1];")), Check::Alignment, "multiples of 128"),
        (with(&format!("{tensor} [%r0], [%a, {{0, 0}}], [%r1];")), Check::Trap, "none that the driver has encoded"),
        (
            with(&format!("add.u64 %rd9, %rd9, 8; {tensor} [%r0], [%rd9, {{0, 0}}], [%r1];")),
            Check::Alignment,
            "64 bytes",
        ),
        (
            with(&format!("mov.u64 %rd9, 64; {tensor} [%r0], [%rd9, {{0, 0}}], [%r1];")),
            Check::Bounds,
            "lies in no memory",
        ),
        (
            with(&format!("{} [%r0], [%rd9, {{0, 0, 0}}], [%r1];", LOADS[2])),
            Check::Trap,
            "of 3 dimensions for tiles with",
        ),
        (with(&BULK.replace("[%r1]", "[%r0+1024]")), Check::Barrier, "no mbarrier has been made"),
    ] {
        let report = case.report();
        assert_eq!(report.check, check, "{report}");
        assert!(report.text.contains(words), "`{words}` is not in: {report}");
    }
    let beyond = load("", &format!("{EXPECT} {tensor} [%r0], [%rd9, {{0, 0}}], [%r1];"), WAIT);
    let beyond = Case { a: vec![0; 16], ..beyond };
    let report = beyond.report();
    assert!(report.check == Check::Bounds && report.text.contains("of a, which has 64 bytes"), "{report}");
}

#[test]
fn copies_must_be_waited_for() {
    let issue = format!("{EXPECT} {BULK}");
    let read = "ld.shared.u32 %r4, [%r0]; st.global.u32 [%tb], %r4;";
    load("", &issue, &format!("{WAIT} {read}")).words();
    let off = |checks: &mut g2d::cuda::driver::emulated::Checks| {
        (checks.pending_copies, checks.shared_races, checks.barriers) = (false, false, false);
    };
    for (case, check, words) in [
        (load("", &issue, read), Check::PendingCopy, "copies and nobody has waited"),
        (load("", &issue, "st.shared.u32 [%r0], 1;"), Check::PendingCopy, "copies and nobody has waited"),
        (load("", &issue, ""), Check::PendingCopy, "the block ends while a bulk copy into its shared memory"),
        (load("", &issue, "@!%p1 mbarrier.inval.shared.b64 [%r1];"), Check::Barrier, "still to arrive"),
        // Complete, but another thread has not waited: thread 0 alone has.
        (
            load("", &format!("{issue} {WAIT}"), "setp.eq.u32 %p4, %tx, 40; @%p4 ld.shared.u32 %r4, [%r0];"),
            Check::SharedRace,
            "has not waited for its mbarrier",
        ),
        (
            load("", &issue, &format!("@!%p1 st.global.u32 [%a], 99; {WAIT}")),
            Check::PendingCopy,
            "changed before it was complete",
        ),
    ] {
        let found = (0..3).find_map(|seed| case.run(Options { seed, ..Options::default() }).err());
        let report = found.expect("a report");
        assert_eq!(report.check, check, "{report}");
        assert!(report.text.contains(words), "`{words}` is not in: {report}");
        let mut checks = g2d::cuda::driver::emulated::Checks::default();
        off(&mut checks);
        if let Err(report) = case.run(Options { checks, ..Options::default() }) {
            panic!("still reported: {report}");
        }
    }
    // What is stored must stay until it is read, and be there until then.
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%b], [%r0], 64; cp.async.bulk.commit_group;";
    for (after, check, words) in [
        ("", Check::PendingCopy, "ends before it has waited for its bulk copy"),
        (
            "st.shared.u32 [%r0], 1; cp.async.bulk.wait_group.read 0;",
            Check::SharedRace,
            "a bulk copy that warp 0 lane 0 began",
        ),
    ] {
        let report = load(&take(64), &format!("{store} {after}"), "").report();
        assert!(report.check == check && report.text.contains(words), "`{words}` is not in: {report}");
    }
    load(&take(64), &format!("{store} cp.async.bulk.wait_group.read 0; st.shared.u32 [%r0], 1;"), "").words();
}

#[test]
fn proxies_need_fences() {
    let issue = format!("{EXPECT} {BULK}");
    let unfenced = load("", &issue, WAIT);
    let unfenced = Case { body: unfenced.body.replace("fence.mbarrier_init.release.cluster;", ""), ..unfenced };
    let report = unfenced.provokes(Check::Proxy, |checks| checks.proxies = false);
    assert!(report.text.contains("neither fence.mbarrier_init nor fence.proxy.async"), "{report}");
    let other =
        Case { body: unfenced.body.replace("[%r1], 1;", "[%r1], 1; fence.proxy.async.shared::cta;"), ..unfenced };
    other.words();
    // Shared memory that threads wrote, over which or from which the copy engine copies.
    let written = "@!%p1 st.shared.u32 [%r0], 7; bar.sync 0;";
    let report = load(written, &issue, WAIT).provokes(Check::Proxy, |checks| checks.proxies = false);
    assert!(report.text.contains("the async proxy writes shared byte 0 of `s`"), "{report}");
    for fence in ["fence.proxy.async;", "fence.proxy.async.shared::cta;"] {
        load(&format!("{written} {fence}"), &issue, WAIT).words();
    }
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%b], [%r0], 64; cp.async.bulk.commit_group;
        cp.async.bulk.wait_group 0;";
    let filled = take(64).replace("fence.proxy.async.shared::cta;", "");
    let report = load(&filled, store, "").provokes(Check::Proxy, |checks| checks.proxies = false);
    assert!(report.text.contains("the async proxy reads shared byte 0 of `s`"), "{report}");
    load(&filled, &format!("fence.proxy.async; {store}"), "").words();
    // A fence after the barrier by another thread is none for this one.
    let elsewhere = format!("{filled} setp.eq.u32 %p5, %tx, 64; @%p5 fence.proxy.async;");
    load(&elsewhere, store, "").provokes(Check::Proxy, |checks| checks.proxies = false);
    // Global memory that the launch has written.
    let global = "@!%p1 st.global.u32 [%a], 7;";
    let report = load(global, &issue, WAIT).provokes(Check::Proxy, |checks| checks.proxies = false);
    assert!(report.text.contains("the async proxy reads byte 0 of a"), "{report}");
    load(&format!("{global} fence.proxy.async.global;"), &issue, WAIT).words();
    // What a bulk copy has written is the async proxy's own.
    let back = format!("{store} cp.async.bulk.prefetch.L2.global [%b], 64; {EXPECT} {}", BULK.replace("[%a]", "[%b]"));
    load(&take(64), &back, WAIT).words();
}

#[test]
fn transactions_are_counted() {
    let overflow = "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 0xfffff;";
    let report = load("", &format!("{overflow} mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 1;"), "")
        .provokes(Check::Barrier, |checks| checks.barriers = false);
    assert!(report.text.contains("it would lack 1048576 bytes"), "{report}");
    let balance = "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r1], 0xfffff;";
    let arrive = "mbarrier.arrive.release.cta.shared::cta.b64 _, [%r1];";
    load("", &format!("{overflow} {arrive} {balance}"), WAIT).words();
    let short = load("", &format!("{} {BULK}", EXPECT.replace(", 64;", ", 80;")), WAIT).report();
    assert!(short.check == Check::Deadlock && short.text.contains("lacks 0 arrivals and 16 bytes"), "{short}");
    let state = "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 %rd3, [%r1], 64;
        cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%r0], [%a], 64, [%r1], %rd3;
        again: mbarrier.try_wait.acquire.cta.shared::cta.b64 %p4, [%r1], %rd3, 1000; @!%p4 bra again;
        ld.shared.u32 %r4, [%r0+60]; st.global.u32 [%b], %r4;";
    assert_eq!(load("", state, "").words()[0], 16);
}

#[test]
fn early_late_and_random_copies_differ_only_if_nobody_waits() {
    let hasty = load("", &format!("{EXPECT} {BULK} ld.shared.u32 %r4, [%r0]; st.global.u32 [%b], %r4;"), WAIT);
    let checks = g2d::cuda::driver::emulated::Checks::none();
    let word = |completion| hasty.run(Options { checks, completion, ..Options::default() }).expect("unchecked").b[0];
    assert_eq!((word(Completion::Late), word(Completion::Early)), (u32::MAX, 1));
}

#[test]
fn hints_change_nothing() {
    let hints = "prefetch.tensormap [%rd9]; cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%rd9, {0, 0}];
        cp.async.bulk.prefetch.L2.global [%a], 64;";
    load(hints, "st.global.u32 [%b], 1;", "").words();
}

#[test]
fn maps_are_those_that_the_driver_takes() {
    let device = Emulated::default();
    let right = spec(3, &[1; 5], Swizzle::B32);
    assert!(device.tensor_map(&right).is_ok());
    let pixels = |lower: i32, upper: i32, channels: u32, pixels: u32| TensorMapSpec {
        window: Window::Im2col { lower: vec![lower], upper: vec![upper], channels, pixels },
        ..right.clone()
    };
    assert!(device.tensor_map(&pixels(-1, -1, 8, 1024)).is_ok());
    for (spec, words) in [
        (TensorMapSpec { address: Address(8), ..right.clone() }, "no multiple of 16"),
        (TensorMapSpec { sizes: vec![1, 2], ..right.clone() }, "differ in rank"),
        (TensorMapSpec { sizes: vec![1, 2, 0], ..right.clone() }, "1 to 2^32"),
        (TensorMapSpec { sizes: vec![1, 2, (1 << 32) + 1], ..right.clone() }, "1 to 2^32"),
        (TensorMapSpec { strides: vec![16, 24], ..right.clone() }, "a stride of 24 bytes"),
        (TensorMapSpec { strides: vec![16, 1 << 40], ..right.clone() }, "below 2^40"),
        (TensorMapSpec { steps: vec![1, 9, 1], ..right.clone() }, "a step of 9"),
        (TensorMapSpec { window: Window::Tile(vec![8, 257, 1]), ..right.clone() }, "1 to 256 elements"),
        (TensorMapSpec { window: Window::Tile(vec![8, 1]), ..right.clone() }, "1 to 256 elements"),
        (TensorMapSpec { window: Window::Tile(vec![6, 1, 1]), ..right.clone() }, "24 bytes innermost"),
        (TensorMapSpec { window: Window::Tile(vec![12, 1, 1]), ..right.clone() }, "beyond the 32 bytes of its swizzle"),
        (pixels(-32769, 0, 8, 8), "a corner at -32769"),
        (pixels(0, -5, 8, 8), "bounding box is empty"),
        (pixels(0, 0, 8, 1025), "1025 pixels"),
        (
            TensorMapSpec { sizes: vec![4, 4], strides: vec![16], steps: vec![1, 1], ..pixels(0, 0, 8, 8) },
            "3 to 5 dimensions",
        ),
    ] {
        let error = device.tensor_map(&spec).expect_err(words).to_string();
        assert!(error.contains(words), "`{words}` is not in: {error}");
    }
}

#[test]
fn random_maps_bring_what_they_name() {
    let mut rng = Rng::new(11, 0, 0);
    for _ in 0..12 {
        let at: Vec<i64> =
            (0..3).map(|axis| rng.below(2 * SIZES[axis] as usize) as i64 - SIZES[axis] as i64 / 2).collect();
        let steps: Vec<u32> = (0..3).map(|_| 1 + rng.below(2) as u32).collect();
        let expected = words(3, &steps, &at);
        let bytes = 4 * expected.len();
        let issue = format!(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], {bytes}; {} [%r0], [%rd9, {{{}}}], [%r1];",
            LOADS[2],
            list(&at)
        );
        let case = load("", &issue, &format!("{WAIT} {}", give(bytes)));
        let case = Case { maps: Vec::new(), ..case }.map(Buffer::A, 0, spec(3, &steps, Swizzle::B32));
        let found = case.words();
        for (number, word) in expected.iter().enumerate() {
            assert_eq!(found[place(number, Swizzle::B32)], word.map_or(0, |word| word as u32 + 1), "{at:?} {steps:?}");
        }
    }
}
