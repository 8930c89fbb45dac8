//! Where a device has too little memory for a step: which batch it has enough for. Plans say so; nothing is allocated.

use std::sync::Arc;

use super::device::Capacity;
use super::planned::Planned;
use super::session::Options;
use crate::cuda::driver::DriverError;
use crate::cuda::replay;
use crate::error::Error;
use crate::program::Checked;
use crate::program::plan::{PlanError, Slab, slabs};
use crate::wgpu::GpuError;
use crate::wgpu::replay::ReplayError;

/// Bytes that wgpu takes beside slabs: blocks of up to 64 MiB in which tables, uniforms and copies on their way lie.
const BESIDE: u64 = 64 << 20;

/// What a device offers, bytes: of one allocation, and of all; and slabs of which it holds a second one.
struct Room {
    one: u64,
    all: u64,
    twice: &'static [Slab],
}

/// Of the running statistics, to put them back, and with CUDA of the inputs, where those of the next step wait.
const TWICE: [&[Slab]; 2] = [&[Slab::Statistics], &[Slab::Statistics, Slab::Inputs]];

impl Room {
    /// What the device said with an error of opening a session; `None` if it was another error, or it did not say.
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Replay(replay::ReplayError::Memory { source, taken, .. }) => match source {
                DriverError::OutOfMemory { allocated, total, .. } => {
                    Some(Self { one: u64::MAX, all: total.saturating_sub(*allocated) + taken, twice: TWICE[1] })
                }
                DriverError::Limit { allowed, .. } => Some(Self { one: *allowed, all: u64::MAX, twice: TWICE[1] }),
                _ => None,
            },
            Error::GpuReplay(
                ReplayError::Memory { source: GpuError::OutOfMemory { room, .. }, .. }
                | ReplayError::Launch { source: GpuError::OutOfMemory { room, .. }, .. }
                | ReplayError::Gpu(GpuError::OutOfMemory { room, .. }),
            ) => Some(Self { one: u64::MAX, all: room.saturating_sub(BESIDE), twice: TWICE[0] }),
            // What can be planned at all fits.
            Error::Plan(PlanError::TooLarge { .. }) => Some(Self { one: u64::MAX, all: u64::MAX, twice: &[] }),
            _ => None,
        }
    }

    /// Whether the slabs of these plans fit, with those that are held twice, and a 32nd for the code and tables of kernels.
    fn holds(&self, plans: &[Arc<Checked>]) -> bool {
        let slabs = slabs(plans);
        let all = slabs.values().chain(self.twice.iter().filter_map(|slab| slabs.get(slab))).sum::<u64>();
        slabs.values().all(|&bytes| bytes <= self.one) && all.saturating_add(all / 32) <= self.all
    }
}

/// An error of opening a session on a device of such capacity; if it is one of memory, with the batch that fits.
pub(super) fn explained(error: Error, options: &Options, capacity: Capacity) -> Error {
    match Room::of(&error) {
        Some(room) => with_batch(error, options, capacity, |plans| room.holds(plans)),
        None => error,
    }
}

/// The error with the largest batch below the one of `options` whose plans fit.
pub(super) fn with_batch(
    error: Error,
    options: &Options,
    capacity: Capacity,
    fits: impl Fn(&[Arc<Checked>]) -> bool,
) -> Error {
    let (mut fit, mut too_many) = (0, options.batch);
    while too_many - fit > 1 {
        let middle = fit + (too_many - fit) / 2;
        let planned = Planned::of(options, middle, capacity);
        if planned.is_ok_and(|planned| fits(&planned.plans)) { fit = middle } else { too_many = middle }
    }
    Error::Memory { source: Box::new(error), fits: fit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Replay;
    use crate::cuda::driver::emulated::Emulated;
    use crate::kernels::Library;
    use crate::model::config::Config;
    use crate::train::Device;

    fn options(batch: usize) -> Options {
        let config = Config::preset("micro").unwrap();
        Options { device: Device::CudaEmulated(0), ..Options::new(config, batch, 8) }
    }

    /// Opens what a session opens, on a device with so much memory.
    fn open(batch: usize, memory: u64) -> Result<(), Error> {
        let device = Arc::new(Emulated::default());
        device.set_memory(memory);
        Replay::open(device, Library::shipped(), &Planned::of(&options(batch), batch, Capacity::default())?.plans)?;
        Ok(())
    }

    fn bytes(batch: usize) -> u64 {
        slabs(&Planned::of(&options(batch), batch, Capacity::default()).unwrap().plans).values().sum()
    }

    #[test]
    fn the_largest_batch_that_fits_is_told_and_fits() {
        let memory = bytes(5) + bytes(5) / 20;
        let error = explained(open(64, memory).unwrap_err(), &options(64), Capacity::default());
        let Error::Memory { fits, .. } = &error else { panic!("{error}") };
        assert!((4..=5).contains(fits) && bytes(6) > memory, "{error}");
        open(*fits, memory).unwrap();
        let text = error.to_string();
        let said = ["Arena takes ", &format!("of {memory} are allocated"), &format!("a batch of {fits} fits")];
        assert!(said.iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn a_model_that_never_fits_is_told_as_such() {
        let error = explained(open(64, 4096).unwrap_err(), &options(64), Capacity::default()).to_string();
        assert!(error.contains("not even a batch of 1 fits"), "{error}");
    }

    #[test]
    fn a_value_that_no_buffer_holds_is_told_with_the_batch_whose_values_fit() {
        let planned =
            |batch, capacity| Planned::of(&options(batch), batch, capacity).map(|planned| planned.plans[0].clone());
        let whole = planned(5, Capacity::default()).unwrap();
        let largest = whole.buffers.iter().map(|buffer| buffer.bytes().next_multiple_of(256)).max().unwrap();
        let largest = Capacity { piece: largest, ..Capacity::default() };
        let error = explained(planned(64, largest).unwrap_err(), &options(64), largest);
        let Error::Memory { fits, .. } = &error else { panic!("{error}") };
        assert!(planned(*fits, largest).is_ok() && planned(fits + 1, largest).is_err(), "{error}");
        assert!(error.to_string().contains(&format!("a batch of {fits} fits")), "{error}");
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        let error = explained(Error::Usage("no".into()), &options(64), Capacity::default());
        assert_eq!(error.to_string(), "no");
    }
}
