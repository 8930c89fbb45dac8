//! What surrounds the shaders of ops on an adapter: copies, ceilings, guards.

use std::sync::Arc;

use g2d::program::{Binding, ShaderCall};
use g2d::verify::Shaders;
use g2d::verify::device::Target;
use g2d::wgpu::{Gpu, GpuError, adapter, ceilings};

use super::common::ledger;

/// The first adapter; skips loudly where there is none.
fn first(group: &str) -> Option<Arc<dyn Gpu>> {
    if adapter::list().is_empty() {
        ledger::skipped("wgpu", format!("there is no adapter: {group} are not tried"), super::ops::ENABLE);
        return None;
    }
    Some(adapter::open(0).expect("an adapter that is listed opens"))
}

#[test]
fn values_are_copied_whole_and_nothing_behind_them() {
    let Some(gpu) = first("copies") else { return };
    for words in [1u32, 255, 256, 257, 70_000] {
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
fn ceilings_are_found() {
    let Some(gpu) = first("ceilings") else { return };
    let found = ceilings::ceilings(&*gpu).unwrap();
    assert!(found.multiply_add_gflops > 0.0 && found.multiply_add_gflops.is_finite(), "{found:?}");
    assert!(found.copy_gb_per_s > 0.0 && found.copy_gb_per_s.is_finite(), "{found:?}");
}

#[test]
fn an_adapter_that_is_not_there_is_refused_by_name() {
    let refused = adapter::open(99).err().expect("nobody has a hundred adapters");
    assert!(matches!(refused, GpuError::Absent(_)), "{refused}");
    let names = adapter::list().into_iter().map(|adapter| adapter.name);
    names.for_each(|name| assert!(refused.to_string().contains(&name), "{refused}"));
}
