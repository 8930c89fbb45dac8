//! Two places in page-locked memory that what is uploaded for steps goes through in turn, so that the host writes the one
//! while the device may still read the other.

use std::collections::BTreeSet;

use super::driver::{Address, Driver, DriverError, Event, Resource, Staging, Stream};

/// Two slots; see the [module](self).
#[derive(Debug)]
pub struct Slots {
    slots: [Slot; 2],
    current: usize,
}

/// One of them, as large as all that is uploaded for a step.
#[derive(Debug)]
struct Slot {
    memory: Staging,
    /// Stands behind the copies out of it, once it was in use.
    behind: Event,
    /// Where something was written that may not have been copied.
    written: BTreeSet<usize>,
}

impl Slots {
    /// Slots of so many bytes each, at least 1.
    pub fn new(driver: &dyn Driver, bytes: u64) -> Result<Self, DriverError> {
        let slot = || Ok(Slot { memory: driver.staging(bytes)?, behind: driver.event()?, written: BTreeSet::new() });
        Ok(Self { slots: [slot()?, slot()?], current: 0 })
    }

    /// Uploads what is to lie `at` so many bytes from the start of the slab; does not wait, unless it was written before in
    /// this step.
    pub fn upload(
        &mut self,
        driver: &dyn Driver,
        to: Address,
        at: usize,
        bytes: &[u8],
        stream: Stream,
    ) -> Result<(), DriverError> {
        let slot = &mut self.slots[self.current];
        if !slot.written.insert(at) {
            driver.synchronize(stream)?;
            slot.written = BTreeSet::from([at]);
        }
        driver.upload_staged(to, slot.memory, at as u64, bytes, stream)
    }

    /// The step has all that it needs: what comes next goes through the other slot, once that was copied.
    pub fn turn(&mut self, driver: &dyn Driver, stream: Stream) -> Result<(), DriverError> {
        driver.record(self.slots[self.current].behind, stream)?;
        self.current = 1 - self.current;
        let next = &mut self.slots[self.current];
        next.written.clear();
        driver.wait_for(next.behind)
    }

    /// What is to be given back to the device, when all copies are done.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        self.slots.iter().flat_map(|slot| [Resource::Event(slot.behind), Resource::Staging(slot.memory)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::driver::emulated::{Emulated, Options};
    use super::{Driver, Slots, Stream};

    #[test]
    fn slots_are_written_again_when_their_copies_are_done() {
        let device = Emulated::new(Options::default());
        let (to, stream) = (device.allocate(16).unwrap(), device.stream().unwrap());
        let mut slots = Slots::new(&device, 16).unwrap();
        for step in 0..5u8 {
            // One of them twice, as where a step is done again launch by launch.
            for (at, byte) in [(0, 9), (8, step), (0, step)] {
                slots.upload(&device, to.offset(at as u64), at, &[byte; 8], stream).unwrap();
            }
            slots.turn(&device, stream).unwrap();
            let mut held = [0; 16];
            device.download(to, &mut held, stream).unwrap();
            assert_eq!(held, [step; 16]);
        }
    }

    #[test]
    fn the_emulated_device_sees_who_does_not_wait() {
        let device = Emulated::new(Options::default());
        let (to, staging, stream) =
            (device.allocate(16).unwrap(), device.staging(16).unwrap(), device.stream().unwrap());
        let upload = |at| device.upload_staged(to.offset(at), staging, at, &[1; 8], stream);
        upload(0).unwrap();
        upload(8).unwrap();
        assert!(upload(4).unwrap_err().to_string().contains("before their copy was awaited"));
        let event = device.event().unwrap();
        device.wait_for(event).unwrap();
        assert!(upload(0).is_err(), "the event was never recorded");
        device.record(event, Stream::DEFAULT).unwrap();
        device.wait_for(event).unwrap();
        assert!(upload(0).is_err(), "the event stands in another stream");
        device.record(event, stream).unwrap();
        device.wait_for(event).unwrap();
        upload(0).unwrap();
        assert!(device.destroy(super::Resource::Staging(staging)).is_err(), "its copy was not awaited");
        device.synchronize(stream).unwrap();
        assert!(
            device.upload_staged(to, staging, 12, &[1; 8], stream).unwrap_err().to_string().contains("which has 16")
        );
        device.destroy(super::Resource::Staging(staging)).unwrap();
    }
}
