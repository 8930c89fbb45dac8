//! What surrounds the shaders of ops on an adapter: copies, ceilings, guards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use g2d::base::Spec;
use g2d::kernels::Brought;
use g2d::kernels::shaders::Offered;
use g2d::ops::gelu::Gelu;
use g2d::program::{Binding, Kernels, Precision, Recorder, ShaderCall, ShaderIo, StateLayout, plan};
use g2d::verify::Shaders;
use g2d::verify::device::Target;
use g2d::wgpu::adapter::Checks;
use g2d::wgpu::gpu::Recording;
use g2d::wgpu::{Gpu, GpuError, Replay, adapter, ceilings};

use super::common::ledger;

/// The first adapter; skips loudly where there is none.
fn first(group: &str) -> Option<Arc<dyn Gpu>> {
    if adapter::list().is_empty() {
        ledger::skipped("wgpu", format!("there is no adapter: {group} are not tried"), ledger::VULKAN);
        return None;
    }
    Some(adapter::open(0, Checks::On).expect("an adapter that is listed opens"))
}

#[test]
fn values_are_copied_whole_and_nothing_behind_them() {
    let Some(gpu) = first("copies") else { return };
    // The last takes more workgroups than a row of a dispatch has.
    for words in [1u32, 255, 256, 257, 70_000, 65_536 * 256 + 1] {
        let bytes: Vec<u8> = (0..4 * words).map(|at| (at * 31 + at / 256) as u8).collect();
        let room = bytes.len() as u64 + 256;
        let places = [gpu.allocate(room).unwrap(), gpu.allocate(room).unwrap()];
        gpu.upload(places[0], &bytes).unwrap();
        gpu.upload(places[1], &vec![0xAB; room as usize]).unwrap();
        let bindings = places.map(|address| Binding { address, bytes: bytes.len() as u64 });
        let copy = ShaderCall::linear("memory.copy", words.div_ceil(256), bindings, &words);
        let recording = gpu.record(&[copy]).unwrap();
        gpu.submit(&[recording]).unwrap();
        let mut copied = vec![0; room as usize];
        gpu.download(places[1], &mut copied).unwrap();
        gpu.forget(recording);
        places.iter().for_each(|&at| gpu.free(at));
        assert!(copied[..bytes.len()] == bytes, "{words} words");
        assert!(copied[bytes.len()..].iter().all(|&byte| byte == 0xAB), "behind {words} words");
    }
}

#[test]
fn a_shader_that_writes_behind_its_buffer_is_noticed() {
    let Some(gpu) = first("guards") else { return };
    let mut target = Shaders::new(gpu);
    let [from, to] = [800, 400].map(|bytes| target.allocate(bytes).unwrap());
    target.upload(from, &[1; 800]).unwrap();
    let copy = |words: u32| {
        let bindings = [(from, 800), (to, 400)].map(|(address, bytes)| Binding { address, bytes });
        ShaderCall::linear("memory.copy", words.div_ceil(256), bindings, &words)
    };
    target.launch(&copy(100)).unwrap();
    target.synchronize().expect("100 words have room in 400 bytes");
    target.launch(&copy(101)).unwrap();
    let refused = target.synchronize().expect_err("101 words have none").to_string();
    assert_eq!(refused, "byte 0 behind a buffer of 400 bytes was written");
}

#[test]
fn a_shader_that_writes_behind_its_scratch_is_noticed_within_an_allocation() {
    let Some(gpu) = first("guards of scratch") else { return };
    let mut target = Shaders::new(gpu);
    // Two scratches as an op asks for them.
    let mut io = ShaderIo::unplaced(&[], &[]).apart(Shaders::GAP);
    for bytes in [400, 800] {
        io.scratch(bytes);
    }
    let room = target.allocate(io.finish().workspace_bytes as u64).unwrap();
    let mut io = ShaderIo::new(Vec::new(), Vec::new(), room, 0).apart(Shaders::GAP);
    let [to, from] = [400, 800].map(|bytes| io.scratch(bytes));
    target.guard(&io.finish().parts);
    target.upload(from.address, &[1; 800]).unwrap();
    let copy = |words: u32| ShaderCall::linear("memory.copy", words.div_ceil(256), [from, to], &words);
    target.launch(&copy(100)).unwrap();
    target.synchronize().expect("100 words have room in 400 bytes");
    target.launch(&copy(101)).unwrap();
    let refused = target.synchronize().expect_err("101 words have none").to_string();
    assert_eq!(refused, "byte 0 behind a buffer of 400 bytes was written");
}

#[test]
fn ceilings_are_found() {
    let Some(gpu) = first("ceilings") else { return };
    let found = ceilings::ceilings(&*gpu).unwrap();
    assert!(found.multiply_add_gflops > 0.0 && found.multiply_add_gflops.is_finite(), "{found:?}");
    assert!(found.copy_gb_per_s > 0.0 && found.copy_gb_per_s.is_finite(), "{found:?}");
}

#[test]
fn an_adapter_that_is_not_there_is_refused_by_name() {
    let refused = adapter::open(99, Checks::On).err().expect("nobody has a hundred adapters");
    assert!(matches!(refused, GpuError::Absent(_)), "{refused}");
    let names = adapter::list().into_iter().map(|adapter| adapter.name);
    names.for_each(|name| assert!(refused.to_string().contains(&name), "{refused}"));
}

/// A GPU that is lost after so many submissions.
struct Losing {
    gpu: Arc<dyn Gpu>,
    left: AtomicUsize,
}

impl Gpu for Losing {
    fn piece(&self) -> u64 {
        self.gpu.piece()
    }

    fn offered(&self) -> Offered {
        self.gpu.offered()
    }

    fn allocate(&self, bytes: u64) -> Result<u64, GpuError> {
        self.gpu.allocate(bytes)
    }

    fn free(&self, at: u64) {
        self.gpu.free(at);
    }

    fn upload(&self, to: u64, bytes: &[u8]) -> Result<(), GpuError> {
        self.gpu.upload(to, bytes)
    }

    fn download(&self, from: u64, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.gpu.download(from, bytes)
    }

    fn bring(&self, shaders: &'static [Brought]) -> Result<(), GpuError> {
        self.gpu.bring(shaders)
    }

    fn record(&self, calls: &[ShaderCall]) -> Result<Recording, GpuError> {
        self.gpu.record(calls)
    }

    fn forget(&self, recording: Recording) {
        self.gpu.forget(recording);
    }

    fn submit(&self, recordings: &[Recording]) -> Result<(), GpuError> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| GpuError::Lost("it was unplugged".into()))?;
        self.gpu.submit(recordings)
    }

    fn synchronize(&self) -> Result<(), GpuError> {
        self.gpu.synchronize()
    }
}

#[test]
fn a_gpu_that_is_lost_ends_the_replay_with_the_place_and_what_to_do() {
    let Some(gpu) = first("losses") else { return };
    let mut recorder = Recorder::new();
    let offsets = recorder.input("offsets", Spec::index([2]));
    let mut value = recorder.input("x", Spec::activation([4, 8]));
    for layer in ["first", "second"] {
        value = recorder.scope(layer, |recorder| recorder.one(Gelu::Fwd, &[value, offsets])).unwrap();
    }
    recorder.output("y", value);
    let program = recorder.finish();
    let states = StateLayout::of(&program, Precision::Exact);
    let plan = Arc::new(plan(program, &states, Kernels::Wgsl(gpu.offered())).unwrap());
    let mut replay =
        Replay::open(Arc::new(Losing { gpu, left: AtomicUsize::new(1) }), std::slice::from_ref(&plan)).unwrap();
    for (_, at) in &plan.inputs {
        let buffer = &plan.buffers[*at];
        replay.write(buffer, (0..buffer.spec.shape.elements()).map(|at| at as f64)).unwrap();
    }
    let lost = replay.replay(&plan).expect_err("the second submission finds no GPU").to_string();
    assert!(lost.contains("launch 1 of the plan (second, gelu.fwd"), "{lost}");
    assert!(lost.contains("unplugged; the run can be resumed from its last checkpoint"), "{lost}");
}
