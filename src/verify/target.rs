//! The devices on which single launches are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compare::Storage;
use super::device::{Failure, Target};
use crate::cuda::Modules;
use crate::cuda::driver::{Address, Attributes, Stream};
use crate::kernels::Architecture;
use crate::ops::Op;
use crate::program::{DeviceIo, KernelCall, Misfit, ShaderCall, ShaderIo};
use crate::wgpu::Gpu;

impl Target for Modules {
    type Call = KernelCall;

    const STORAGES: &'static [Storage] = &[Storage::F32, Storage::Bf16];

    fn kernels(op: &Op) -> &'static [&'static str] {
        op.cuda()
    }

    fn ask(op: &Op, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        op.run_cuda(kernel, io)
    }

    fn symbol(call: &KernelCall) -> &'static str {
        call.symbol
    }

    fn asked(&self) -> Vec<(String, Option<Attributes>)> {
        Modules::asked(self)
            .map(|(symbol, function)| (symbol.to_owned(), self.driver.attributes(function).ok()))
            .collect()
    }

    fn bring(&mut self, op: &Op) -> Result<(), Failure> {
        Ok(Modules::bring(self, op.ptx())?)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, Failure> {
        Ok(self.driver.allocate(bytes)?.0)
    }

    fn free(&mut self, at: u64) {
        // After a fault the device may refuse; there is nobody left to tell.
        let _ = self.driver.free(Address(at));
    }

    fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.driver.upload(Address(to), bytes, Stream::DEFAULT)?)
    }

    fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        Ok(self.driver.download(Address(from), bytes, Stream::DEFAULT)?)
    }

    fn launch(&mut self, call: &KernelCall) -> Result<(), Failure> {
        if let Some(needs) = Architecture::of(self.driver.properties().capability).lacks(call.symbol) {
            return Err(Misfit::new(format!("{} needs {needs}", call.symbol)).into());
        }
        Ok(Modules::launch(self, call, Stream::DEFAULT)?)
    }

    fn synchronize(&mut self) -> Result<(), Failure> {
        Ok(self.driver.synchronize(Stream::DEFAULT)?)
    }
}

/// Bytes before and behind every allocation, and behind every workspace and constant within one. A shader is given those behind
/// along with what it binds, and must neither use nor change any. No shader asks how long its buffers are, so this shows what
/// adapters otherwise hide: they let accesses outside of a binding do nothing.
const GUARD: u64 = 4096;
/// What they hold, and what memory holds before it is written: not a number, as f32 and in every byte.
const POISON: u8 = 0xFF;

/// A GPU whose allocations are guarded, and the entries of shaders that ran on it.
pub struct Shaders {
    gpu: Arc<dyn Gpu>,
    asked: BTreeSet<&'static str>,
    /// By address of an allocation, what is guarded: first the allocation whole, then its parts; each as address and end, whole
    /// words.
    guarded: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl Shaders {
    /// On that GPU.
    pub fn new(gpu: Arc<dyn Gpu>) -> Self {
        Self { gpu, asked: BTreeSet::new(), guarded: BTreeMap::new() }
    }

    /// The call with its bindings reaching over the guards behind them.
    fn lengthened(&self, call: &ShaderCall) -> ShaderCall {
        let mut call = call.clone();
        for binding in &mut call.bindings {
            let end = (binding.address + binding.bytes).next_multiple_of(4);
            let within = self.guarded.range(..=binding.address).next_back();
            if within.is_some_and(|(_, parts)| parts.iter().any(|&(_, guard)| guard == end)) {
                binding.bytes = end + GUARD - binding.address;
            }
        }
        call
    }
}

impl Target for Shaders {
    type Call = ShaderCall;

    const STORAGES: &'static [Storage] = &[Storage::F32];

    const GAP: u64 = GUARD;

    fn kernels(op: &Op) -> &'static [&'static str] {
        op.wgsl()
    }

    fn ask(op: &Op, kernel: &'static str, io: &mut ShaderIo) -> Result<(), Misfit> {
        op.run_wgsl(kernel, io)
    }

    fn symbol(call: &ShaderCall) -> &'static str {
        call.symbol
    }

    fn asked(&self) -> Vec<(String, Option<Attributes>)> {
        self.asked.iter().map(|&symbol| (symbol.to_owned(), None)).collect()
    }

    fn bring(&mut self, op: &Op) -> Result<(), Failure> {
        Ok(self.gpu.bring(op.shaders())?)
    }

    fn allocate(&mut self, bytes: u64) -> Result<u64, Failure> {
        let whole = bytes.next_multiple_of(4) + GUARD;
        let room = self.gpu.allocate(GUARD + whole)?;
        let at = room + GUARD;
        self.guarded.insert(at, vec![(at, at + whole - GUARD)]);
        // What a kernel does not write itself it must not read.
        self.gpu.upload(room, &vec![POISON; (GUARD + whole) as usize])?;
        Ok(at)
    }

    fn free(&mut self, at: u64) {
        self.guarded.remove(&at);
        self.gpu.free(at - GUARD);
    }

    fn guard(&mut self, parts: &[(u64, usize)]) {
        for &(at, bytes) in parts {
            let within = self.guarded.range_mut(..=at).next_back();
            within.into_iter().for_each(|(_, guarded)| guarded.push((at, (at + bytes as u64).next_multiple_of(4))));
        }
    }

    fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.gpu.upload(to, bytes)?)
    }

    fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        Ok(self.gpu.download(from, bytes)?)
    }

    fn launch(&mut self, call: &ShaderCall) -> Result<(), Failure> {
        if let Some(why) = self.gpu.offered().lacks(call.symbol) {
            return Err(Misfit::new(format!("{}: {why}", call.symbol)).into());
        }
        let recording = self.gpu.record(&[self.lengthened(call)])?;
        self.asked.insert(call.symbol);
        let done = self.gpu.submit(&[recording]);
        self.gpu.forget(recording);
        Ok(done?)
    }

    fn synchronize(&mut self) -> Result<(), Failure> {
        self.gpu.synchronize()?;
        for (&at, parts) in &self.guarded {
            let (_, end) = parts[0];
            let mut bytes = vec![0; (end + 2 * GUARD - at) as usize];
            self.gpu.download(at - GUARD, &mut bytes)?;
            let written = |&byte: &u8| byte != POISON;
            let wrong = |byte, side, size| {
                let what = format!("byte {byte} {side} a buffer of {size} bytes was written");
                Err(Failure::Wrong(what))
            };
            let before = bytes[..GUARD as usize].iter().rev().position(written);
            before.map_or(Ok(()), |byte| wrong(byte, "before", end - at))?;
            for &(from, to) in parts {
                let guard = &bytes[(to - at + GUARD) as usize..][..GUARD as usize];
                guard.iter().position(written).map_or(Ok(()), |byte| wrong(byte, "behind", to - from))?;
            }
        }
        Ok(())
    }
}
