//! The device as a driver: memory, modules, limits, streams, events, graphs.

use g2d::cuda::driver::emulated::{Check, Checks, Emulated, Options};
use g2d::cuda::driver::{Address, Driver, DriverError, Event, Graph, Launch, Module, Resource, Stream};

const ADD: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry add(.param .u64 to, .param .u32 by)
{
    .reg .b64 %rd<4>;
    .reg .b32 %r<4>;
    ld.param.u64 %rd1, [to];
    ld.param.u32 %r1, [by];
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd2, %r2, 4;
    add.u64 %rd1, %rd1, %rd2;
    ld.global.u32 %r3, [%rd1];
    add.u32 %r3, %r3, %r1;
    st.global.u32 [%rd1], %r3;
    ret;
}
.visible .entry bounded() .maxntid 64, 1, 1 { ret; }
.visible .entry fixed() .reqntid 32, 2, 1 { ret; }
.visible .entry static_shared() { .shared .align 4 .b8 s[40000]; .reg .b32 %r<2>; mov.u32 %r1, s; ret; }
";

const S: Stream = Stream::DEFAULT;

fn parameters(to: Address, by: u32) -> Vec<u8> {
    [&to.0.to_le_bytes()[..], &by.to_le_bytes()].concat()
}

fn words(device: &Emulated, at: Address, count: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * count];
    device.download(at, &mut bytes, S).expect("download");
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

#[test]
fn memory_is_copied_and_filled() {
    let device = Emulated::default();
    let (a, b) = (device.allocate(16).expect("a"), device.allocate(16).expect("b"));
    assert!(a.0 % 256 == 0 && b.0 % 256 == 0 && a != b);
    device.upload(a, &[1, 0, 0, 0, 2, 0, 0, 0], S).expect("upload");
    device.fill(a.offset(8), 3, 8, S).expect("fill");
    device.copy(b, a, 16, S).expect("copy");
    assert_eq!(words(&device, b, 4), [1, 2, 0x0303_0303, 0x0303_0303]);
    for refused in [
        device.upload(a.offset(9), &[0; 8], S),
        device.fill(a, 0, 17, S),
        device.copy(b, a, 17, S),
        device.copy(a.offset(4), a, 8, S),
        device.upload(a, &[0], Stream(99)),
        device.free(a.offset(4)),
    ] {
        assert!(matches!(refused, Err(DriverError::Invalid(_))), "{refused:?}");
    }
    device.free(a).expect("free");
    assert!(device.free(a).is_err() && device.upload(a, &[0], S).is_err());
    assert!(matches!(device.allocate(0), Err(DriverError::Limit { .. })));
    assert!(matches!(device.allocate(1 << 40), Err(DriverError::Limit { .. })));
}

#[test]
fn use_after_free_names_the_allocation() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let add = device.function(module, "add").expect("add");
    let (gone, kept) = (device.allocate(64).expect("memory"), device.allocate(64).expect("memory"));
    [gone, kept].iter().for_each(|at| device.fill(*at, 0, 64, S).expect("fill"));
    assert!(device.label(gone, "weights"));
    device.free(gone).expect("free");
    let launch = |to: Address| device.launch(add, Launch::linear(1, 4), &parameters(to.offset(8), 1), S);
    for ago in ["before this launch", "before the last 3 launches"] {
        launch(gone).expect_err("freed");
        let report = device.report().expect("a fault");
        let at = gone.0;
        let words = format!("byte 8 of weights, which had 64 bytes from {at:#x} on and was freed {ago}");
        assert!(report.check == Check::Bounds && report.text.contains(&words), "`{words}` is not in: {report}");
        launch(kept).expect("still there");
    }
    let error = device.upload(gone, &[0], S).expect_err("freed").to_string();
    assert!(error.contains("byte 0 of weights, which had 64 bytes"), "{error}");
}

#[test]
fn modules_give_functions_with_their_attributes() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let add = device.function(module, "add").expect("add");
    let attributes = device.attributes(add).expect("attributes");
    assert_eq!((attributes.parameter_bytes, attributes.static_shared, attributes.max_threads), (12, 0, 1024));
    let bounded = device.function(module, "bounded").expect("bounded");
    assert_eq!(device.attributes(bounded).expect("attributes").max_threads, 64);
    let error = device.function(module, "absent").expect_err("there is none");
    assert_eq!(error.to_string(), "module `add.ptx` has no kernel `absent`");
    let broken = device.load("broken.ptx", &ADD.replace("add.u32", "add.u33")).expect_err("no such type");
    assert!(broken.to_string().contains("broken.ptx") && broken.to_string().contains("add.u33"), "{broken}");
    device.destroy(Resource::Module(module)).expect("destroy");
    assert!(device.function(module, "add").is_err() && device.attributes(add).is_err());
    assert!(device.destroy(Resource::Module(module)).is_err() && device.function(Module(0), "add").is_err());
}

#[test]
fn launches_beyond_the_limits_are_refused() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let function = |name| device.function(module, name).expect("there");
    let launch = |name, launch| device.launch(function(name), launch, &[], S);
    let shape = |grid, block| Launch { grid, block, shared: 0 };
    for (name, shape, what) in [
        ("bounded", shape([1, 1, 1], [65, 1, 1]), "threads per block of `bounded`, by its .maxntid is 65"),
        ("static_shared", shape([1, 1, 1], [1025, 1, 1]), "block size along x"),
        ("static_shared", shape([1, 1, 1], [32, 32, 2]), "threads per block of `static_shared` is 2048"),
        ("static_shared", shape([1, 1, 1], [1, 1, 65]), "block size along z"),
        ("static_shared", shape([1, 65_536, 1], [1, 1, 1]), "grid size along y"),
        ("static_shared", shape([0, 1, 1], [1, 1, 1]), "nothing along x"),
        ("fixed", shape([1, 1, 1], [64, 1, 1]), "must have blocks of [32, 2, 1] threads"),
        ("bounded", Launch::linear(1, 32).with_shared(49_153), "dynamic shared memory of `bounded` is 49153"),
    ] {
        let error = launch(name, shape).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
    launch("fixed", shape([1, 1, 1], [32, 2, 1])).expect("as required");
    let error = device.launch(function("add"), Launch::linear(1, 1), &[0; 8], S).expect_err("12 bytes");
    assert!(error.to_string().contains("takes 12 bytes"), "{error}");
    let error = device.launch(function("add"), Launch::linear(1, 1), &[0; 16], S).expect_err("12 bytes");
    assert!(error.to_string().contains("takes 12 bytes"), "{error}");
    // Without the check what can run does.
    device.set_options(Options { checks: Checks { limits: false, ..Checks::default() }, ..Options::default() });
    launch("bounded", shape([1, 1, 1], [65, 1, 1])).expect("unchecked");
    assert!(launch("bounded", shape([1, 1, 1], [2048, 1, 1])).is_err(), "no block has 2048 threads");
}

#[test]
fn kernels_with_too_many_parameters_are_refused_where_the_checker_is_on() {
    let kernel = |bytes: u32| {
        format!(
            ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry big(.param .b8 p[{bytes}])\n{{\n\
             ret;\n}}\n"
        )
    };
    let (text, what) = (kernel(32_765), "parameter bytes of `big` is 32765, the device allows 32764");
    let device = Emulated::default();
    let error = device.load("big.ptx", &text).expect_err(what).to_string();
    assert!(error.contains(what), "{error}");
    device.set_options(Options { checks: Checks { limits: false, ..Checks::default() }, ..Options::default() });
    let module = device.load("big.ptx", &text).expect("unchecked");
    let big = device.function(module, "big").expect("there");
    let launch = |kernel, bytes| device.launch(kernel, Launch::linear(1, 32), &vec![0; bytes], S);
    launch(big, 32_765).expect("unchecked");
    device.set_options(Options::default());
    let error = launch(big, 32_765).expect_err(what).to_string();
    assert!(error.contains(what), "{error}");
    let module = device.load("most.ptx", &kernel(32_764)).expect("as much as there may be");
    launch(device.function(module, "big").expect("there"), 32_764).expect("as much as there may be");
}

#[test]
fn more_shared_memory_must_be_allowed() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let kernel = device.function(module, "static_shared").expect("there");
    let launch = |bytes| device.launch(kernel, Launch::linear(1, 32).with_shared(bytes), &[], S);
    assert!(launch(100_000).is_err());
    device.allow_shared(kernel, 100_000).expect("allowed");
    launch(100_000).expect("allowed");
    let most = device.properties().shared_per_block - 40_000;
    assert!(matches!(device.allow_shared(kernel, most + 1), Err(DriverError::Limit { .. })));
    device.allow_shared(kernel, most).expect("static and dynamic together");
    launch(most).expect("all there is");
}

#[test]
fn graphs_do_what_was_recorded() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let add = device.function(module, "add").expect("add");
    let (at, to) = (device.allocate(128).expect("memory"), device.allocate(128).expect("memory"));
    let stream = device.stream().expect("stream");
    device.begin_capture(stream).expect("capture");
    device.fill(at, 0, 128, stream).expect("recorded");
    device.launch(add, Launch::linear(1, 32), &parameters(at, 5), stream).expect("recorded");
    device.launch(add, Launch::linear(1, 32), &parameters(at, 2), stream).expect("recorded");
    device.copy(to, at, 128, stream).expect("recorded");
    assert!(device.upload(at, &[0], stream).is_err() && device.begin_capture(stream).is_err());
    let graph = device.end_capture(stream).expect("graph");
    assert!(device.end_capture(stream).is_err() && device.begin_capture(S).is_err());
    for _ in 0..2 {
        device.launch_graph(graph, stream).expect("launched");
        device.synchronize(stream).expect("done");
        assert_eq!(words(&device, to, 32), [7; 32]);
    }
    device.destroy(Resource::Graph(graph)).expect("destroyed");
    assert!(device.launch_graph(graph, stream).is_err() && device.launch_graph(Graph(0), stream).is_err());
    device.destroy(Resource::Stream(stream)).expect("destroyed");
    assert!(device.synchronize(stream).is_err());
}

#[test]
fn events_tell_the_emulated_time() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let add = device.function(module, "add").expect("add");
    let at = device.allocate(128).expect("memory");
    device.fill(at, 0, 128, S).expect("fill");
    let (start, end) = (device.event().expect("event"), device.event().expect("event"));
    assert!(device.elapsed(start, end).is_err(), "not recorded");
    device.record(start, S).expect("recorded");
    device.launch(add, Launch::linear(1, 32), &parameters(at, 5), S).expect("launched");
    device.record(end, S).expect("recorded");
    device.wait(S, end).expect("passed");
    device.synchronize(S).expect("done");
    assert_eq!(device.elapsed(start, end).expect("both passed"), 9e-6, "nine instructions of one warp");
    device.destroy(Resource::Event(start)).expect("destroyed");
    assert!(device.wait(S, start).is_err() && device.record(Event(0), S).is_err());
}

/// Work of two streams on the same bytes is a fault, whatever it is, until an event or the host orders it.
#[test]
fn streams_that_do_not_wait_for_each_other_are_told() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let add = device.function(module, "add").expect("add");
    let (at, to) = (device.allocate(256).expect("memory"), device.allocate(256).expect("memory"));
    assert!(device.label(at, "sums"));
    device.upload(at, &[0; 256], S).expect("the host waits for it");
    let [one, two] = [(); 2].map(|()| device.stream().expect("stream"));
    let launch = |at, stream| device.launch(add, Launch::linear(1, 32), &parameters(at, 1), stream);
    launch(at, one).expect("behind the upload");
    let kernel = launch(at, two).expect_err("both write").to_string();
    let [other, its] = [one.0, two.0];
    let words = format!(
        "add on stream {its} reads bytes 0 to 128 of sums, of which work on stream {other} writes bytes 0 to 128"
    );
    assert!(kernel.contains(&words), "{kernel}");
    launch(at.offset(128), two).expect("other bytes");
    device.copy(to, at.offset(128), 128, one).expect_err("read while it is written");
    device.fill(at.offset(64), 0, 4, S).expect_err("the default stream is one like the others");
    device.download(at, &mut [0; 4], two).expect_err("a download on another stream");
    let event = device.event().expect("event");
    device.wait(one, event).expect("never recorded: waits for nothing");
    device.copy(to, at.offset(128), 128, one).expect_err("still");
    device.record(event, two).expect("recorded");
    launch(at.offset(128), two).expect("behind the event");
    device.wait(one, event).expect("for the first launch");
    device.copy(to, at.offset(128), 128, one).expect_err("the second is behind it");
    device.record(event, two).expect("recorded");
    device.wait(one, event).expect("for both");
    device.copy(to, at.offset(128), 128, one).expect("ordered");
    // Readers do not disturb each other.
    device.copy(to.offset(128), at.offset(128), 128, two).expect("reads too");
    device.fill(at.offset(128), 0, 4, two).expect_err("the copy of the other stream reads it");
    device.wait_for(event).expect("the host");
    device.fill(at.offset(128), 0, 4, two).expect_err("an event of the other stream says nothing of it");
    device.synchronize(one).expect("the host");
    device.fill(at.offset(128), 0, 4, two).expect("what the host knows to be done is done");
    device.begin_capture(two).expect("capture");
    assert!(device.wait(two, event).is_err(), "no part of a graph");
}

#[test]
fn a_faulty_launch_says_so_and_the_device_goes_on() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("load");
    let add = device.function(module, "add").expect("add");
    let at = device.allocate(128).expect("memory");
    assert!(device.label(at, "weights") && !device.label(at.offset(4), "nothing"));
    let error = device.launch(add, Launch::linear(1, 32), &parameters(at, 1), S).expect_err("never written");
    assert!(matches!(&error, DriverError::Fault { kernel, .. } if kernel == "add"), "{error}");
    assert!(error.to_string().contains("weights") && device.report().is_some(), "{error}");
    device.fill(at, 0, 128, S).expect("fill");
    device.launch(add, Launch::linear(1, 32), &parameters(at, 1), S).expect("fine now");
    assert!(device.report().is_none());
    assert_eq!(words(&device, at, 32), [1; 32]);
}

#[test]
fn what_cannot_be_is_refused_and_not_tried() {
    let device = Emulated::new(Options { checks: Checks::none(), ..Options::default() });
    let at = device.allocate(64).expect("memory");
    assert!(device.fill(at, 0, u64::MAX, S).is_err() && device.copy(at, at, u64::MAX, S).is_err());
    let module = device.load("add.ptx", ADD).expect("load");
    let kernel = device.function(module, "bounded").expect("there");
    assert!(device.launch(kernel, Launch::linear(1, 32).with_shared(u32::MAX), &[], S).is_err());
    assert!(device.launch(kernel, Launch { grid: [u32::MAX; 3], block: [1; 3], shared: 0 }, &[], S).is_err());
    for declaration in [".local .b8 v[2000000];", ".shared .b8 v[50000];"] {
        let body = format!("{{ {declaration} .reg .b64 %rd<2>; mov.u64 %rd1, v; ret; }}");
        let ptx = format!(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry large() {body}");
        assert!(device.load("large.ptx", &ptx).is_err(), "{declaration}");
    }
}

#[test]
fn variables_of_modules_count_as_device_memory() {
    let device = Emulated::default();
    let variables: String = (0..17).map(|n| format!(".global .b8 x{n}[1073741824];\n")).collect();
    let text = format!(".version 8.0\n.target sm_80\n.address_size 64\n{variables}.entry k() {{ ret; }}");
    assert!(matches!(device.load("big.ptx", &text), Err(DriverError::OutOfMemory { bytes, .. }) if bytes == 17 << 30));
}

#[test]
fn a_grid_beyond_32_bits_is_refused_by_name() {
    let device = Emulated::default();
    let module = device.load("add.ptx", ADD).expect("loads");
    let kernel = device.function(module, "bounded").expect("there");
    let launch = Launch { grid: [1 << 17, 1 << 15, 1], block: [1, 1, 1], shared: 0 };
    let error = device.launch(kernel, launch, &[], S).expect_err("too many blocks");
    assert!(matches!(&error, DriverError::Limit { what, asked, .. } if what.contains("blocks") && *asked == 1 << 32));
}
