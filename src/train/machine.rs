//! Where a session's slabs lie and its plans run: this host, a CUDA device, or another GPU.

use std::sync::Arc;

use super::device::{Capacity, Device};
use crate::base::ceilings::Ceilings;
use crate::cpu::{self, Memory};
use crate::cuda::Replay;
use crate::cuda::driver::Driver;
use crate::error::Error;
use crate::kernels::{Architecture, Library};
use crate::program::Checked;
use crate::program::plan::{Buffer, Slab};
use crate::wgpu::{self, Gpu};

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Machine {
    /// Host memory; a slab that is kept lies beside.
    Host(Memory, Vec<u8>),
    /// Slabs on a CUDA device.
    Cuda(Box<Replay>),
    /// Slabs on a GPU reached by wgpu.
    Wgpu(Box<wgpu::Replay>),
}

/// A device that is open and holds nothing yet.
pub(super) enum Opened {
    /// This host.
    Host,
    /// A CUDA device, and which texts of kernels it takes.
    Cuda(Arc<dyn Driver>, Architecture),
    /// A GPU reached by wgpu.
    Wgpu(Arc<dyn Gpu>),
}

impl Opened {
    /// Opens a device.
    pub fn of(device: Device) -> Result<Self, Error> {
        Ok(match (device.driver()?, device.gpu()?) {
            (Some(driver), _) => {
                let architecture = device.architecture(&*driver);
                Self::Cuda(driver, architecture)
            }
            (None, Some(gpu)) => Self::Wgpu(gpu),
            (None, None) => Self::Host,
        })
    }

    /// What decides which plan it gets.
    pub fn capacity(&self) -> Capacity {
        match self {
            Self::Host => Capacity::default(),
            Self::Cuda(_, architecture) => Capacity { architecture: *architecture, ..Capacity::default() },
            Self::Wgpu(gpu) => Capacity::new(gpu.piece(), gpu.offered()),
        }
    }

    /// Slabs for these plans.
    pub fn hold(self, plans: &[Arc<Checked>]) -> Result<Machine, Error> {
        Ok(match self {
            Self::Host => {
                let mut memory = Memory::default();
                plans.iter().for_each(|plan| memory.fit(plan));
                Machine::Host(memory, Vec::new())
            }
            Self::Cuda(driver, _) => Machine::Cuda(Box::new(Replay::open(driver, Library::shipped(), plans)?)),
            Self::Wgpu(gpu) => Machine::Wgpu(Box::new(wgpu::Replay::open(gpu, plans)?)),
        })
    }
}

impl Machine {
    /// Runs every launch; `launch_by_launch` waits for each, so that what goes wrong is tied to its place in the plan.
    pub fn replay(&mut self, plan: &Arc<Checked>, launch_by_launch: bool) -> Result<(), Error> {
        match self {
            Self::Host(memory, _) => cpu::replay(plan, memory),
            Self::Cuda(replay) => replay.replay(plan, launch_by_launch)?,
            Self::Wgpu(replay) if launch_by_launch => {
                (0..plan.launches.len()).try_for_each(|at| replay.run(plan, at, 1))?;
            }
            Self::Wgpu(replay) => replay.replay(plan)?,
        }
        Ok(())
    }

    /// Runs one launch and waits for it.
    pub fn run(&mut self, plan: &Arc<Checked>, at: usize) -> Result<(), Error> {
        self.repeat(plan, at, 1)
    }

    /// Runs one launch `times` times in a row and waits for the last.
    pub fn repeat(&mut self, plan: &Arc<Checked>, at: usize, times: usize) -> Result<(), Error> {
        match self {
            Self::Host(memory, _) => (0..times).for_each(|_| cpu::replay::run(plan, at, memory)),
            Self::Cuda(replay) => (0..times).try_for_each(|_| replay.run(plan, at))?,
            Self::Wgpu(replay) => replay.run(plan, at, times)?,
        }
        Ok(())
    }

    /// What the device does at best; `None` where that is not measured.
    pub fn ceilings(&self) -> Result<Option<Ceilings>, Error> {
        match self {
            Self::Host(..) => Ok(Some(cpu::machine::ceilings())),
            Self::Cuda(_) => Ok(None),
            Self::Wgpu(replay) => Ok(Some(replay.ceilings()?)),
        }
    }

    /// Replays until a launch writes a number that is not finite; the launch's position, or `None` if all are finite.
    /// What a launch leaves unwritten counts as zero.
    pub fn first_non_finite(&mut self, plan: &Arc<Checked>) -> Result<Option<usize>, Error> {
        for (at, launch) in plan.launches.iter().enumerate() {
            for (&output, overwrite) in launch.outputs.iter().zip(&launch.overwrites) {
                if overwrite.is_none() {
                    self.clear(&plan.buffers[output])?;
                }
            }
            self.run(plan, at)?;
            for &output in &launch.outputs {
                if !self.read(&plan.buffers[output])?.iter().all(|number| number.is_finite()) {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    fn clear(&mut self, buffer: &Buffer) -> Result<(), Error> {
        match self {
            Self::Host(memory, _) => memory.bytes_mut(buffer).fill(0),
            Self::Cuda(replay) => replay.fill(buffer, 0)?,
            Self::Wgpu(replay) => replay.upload(buffer, &vec![0; buffer.bytes()])?,
        }
        Ok(())
    }

    /// The numbers of a buffer.
    pub fn read(&self, buffer: &Buffer) -> Result<Vec<f64>, Error> {
        match self {
            Self::Host(memory, _) => Ok(memory.read(buffer)),
            Self::Cuda(replay) => Ok(replay.read(buffer)?),
            Self::Wgpu(replay) => Ok(replay.read(buffer)?),
        }
    }

    /// Writes numbers to a buffer, each rounded once; as many as it holds.
    pub fn write(&mut self, buffer: &Buffer, numbers: impl ExactSizeIterator<Item = f64>) -> Result<(), Error> {
        match self {
            Self::Host(memory, _) => memory.write(buffer, numbers),
            Self::Cuda(replay) => replay.write(buffer, numbers)?,
            Self::Wgpu(replay) => replay.write(buffer, numbers)?,
        }
        Ok(())
    }

    /// Writes a buffer as it is stored; as many bytes as it has.
    pub fn upload(&mut self, buffer: &Buffer, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Host(memory, _) => memory.bytes_mut(buffer).copy_from_slice(bytes),
            Self::Cuda(replay) => replay.upload(buffer, bytes)?,
            Self::Wgpu(replay) => replay.upload(buffer, bytes)?,
        }
        Ok(())
    }

    /// Whether what is uploaded for the next step can lie beside its place while one is computed.
    pub fn lands(&self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// What is uploaded from now on lies beside its place, if `on`, until it [lands](Self::land); where the device cannot, it takes
    /// its place at once.
    pub fn ahead(&mut self, on: bool) {
        if let Self::Cuda(replay) = self {
            replay.ahead(on);
        }
    }

    /// What was uploaded ahead takes its place.
    pub fn land(&mut self) -> Result<(), Error> {
        if let Self::Cuda(replay) = self {
            replay.land()?;
        }
        Ok(())
    }

    /// Its slabs on a CUDA device; `None` elsewhere.
    pub fn cuda(&mut self) -> Option<&mut Replay> {
        match self {
            Self::Cuda(replay) => Some(replay),
            Self::Host(..) | Self::Wgpu(_) => None,
        }
    }

    /// Sets the running statistics aside.
    pub fn keep_statistics(&mut self) -> Result<(), Error> {
        match self {
            Self::Host(memory, kept) => {
                kept.clear();
                kept.extend_from_slice(memory.slab(Slab::Statistics));
            }
            Self::Cuda(replay) => replay.keep(Slab::Statistics)?,
            Self::Wgpu(replay) => replay.keep(Slab::Statistics)?,
        }
        Ok(())
    }

    /// Puts the running statistics back.
    pub fn restore_statistics(&mut self) -> Result<(), Error> {
        match self {
            Self::Host(memory, kept) => memory.slab_mut(Slab::Statistics).copy_from_slice(kept),
            Self::Cuda(replay) => replay.restore(Slab::Statistics)?,
            Self::Wgpu(replay) => replay.restore(Slab::Statistics)?,
        }
        Ok(())
    }
}
