//! The way of a step's inputs to the device, through page-locked memory: at once on the stream that computes, or ahead.
//!
//! What is uploaded ahead comes by a stream of its own while the step before computes, and lies in a landing place as large as
//! the inputs until [`Uploads::land`] copies it to where kernels read it: addresses that graphs hold stay the same.

use std::ops::Range;

use super::driver::{Address, Driver, DriverError, Event, Resource, Staging, Stream};

/// See the [module](self).
#[derive(Debug)]
pub struct Uploads {
    memory: Staging,
    landing: Address,
    compute: Stream,
    ahead: Stream,
    /// Stands behind the copies to the landing place.
    landed: Event,
    /// Stands behind the copies out of it.
    free: Event,
    /// What was written of the page-locked memory, and the stream that copies it.
    written: Vec<(Range<usize>, Stream)>,
    /// What lies in the landing place, or is on its way there, and where it goes.
    waiting: Vec<(Address, Range<usize>)>,
}

impl Uploads {
    /// For inputs of so many bytes, at least 1, as many as there are at `landing`; `compute` is the stream whose work reads them.
    pub fn new(driver: &dyn Driver, bytes: u64, landing: Address, compute: Stream) -> Result<Self, DriverError> {
        let (memory, ahead) = (driver.staging(bytes)?, driver.stream()?);
        let (landed, free) = (driver.event()?, driver.event()?);
        Ok(Self { memory, landing, compute, ahead, landed, free, written: Vec::new(), waiting: Vec::new() })
    }

    /// Uploads what lies `at` so many bytes from the start of the inputs, behind the work that was submitted before.
    pub fn upload(&mut self, driver: &dyn Driver, to: Address, at: usize, bytes: &[u8]) -> Result<(), DriverError> {
        self.write(driver, at..at + bytes.len(), self.compute)?;
        driver.upload_staged(to, self.memory, at as u64, bytes, self.compute)
    }

    /// Uploads it beside, until it is [landed](Self::land).
    pub fn upload_ahead(
        &mut self,
        driver: &dyn Driver,
        to: Address,
        at: usize,
        bytes: &[u8],
    ) -> Result<(), DriverError> {
        self.write(driver, at..at + bytes.len(), self.ahead)?;
        self.waiting.push((to, at..at + bytes.len()));
        driver.upload_staged(self.landing.offset(at as u64), self.memory, at as u64, bytes, self.ahead)
    }

    /// Brings rows of `each` bytes that lie on the device, one behind the other, as [`upload_ahead`](Self::upload_ahead) does.
    pub fn gather_ahead(
        &mut self,
        driver: &dyn Driver,
        to: Address,
        at: usize,
        rows: &[Address],
        each: u64,
    ) -> Result<(), DriverError> {
        self.waiting.push((to, at..at + rows.len() * each as usize));
        let places = (0..).map(|row| self.landing.offset(at as u64 + row * each));
        rows.iter().zip(places).try_for_each(|(&from, to)| driver.copy(to, from, each, self.ahead))
    }

    /// Waits until the host may write there.
    fn write(&mut self, driver: &dyn Driver, bytes: Range<usize>, stream: Stream) -> Result<(), DriverError> {
        let meets = |(other, _): &&(Range<usize>, Stream)| other.start < bytes.end && bytes.start < other.end;
        while let Some(&(_, copying)) = self.written.iter().find(meets) {
            driver.synchronize(copying)?;
            self.written.retain(|&(_, other)| other != copying);
        }
        self.written.push((bytes, stream));
        Ok(())
    }

    /// What was uploaded ahead takes its place, behind the work that was submitted before.
    pub fn land(&mut self, driver: &dyn Driver) -> Result<(), DriverError> {
        driver.record(self.landed, self.ahead)?;
        driver.wait(self.compute, self.landed)?;
        for (to, bytes) in self.waiting.drain(..) {
            let from = self.landing.offset(bytes.start as u64);
            driver.copy(to, from, bytes.len() as u64, self.compute)?;
        }
        driver.record(self.free, self.compute)?;
        driver.wait(self.ahead, self.free)
    }

    /// What is to be given back to the device, when all copies are done: streams first.
    pub fn resources(&self) -> impl Iterator<Item = Resource> {
        let events = [self.landed, self.free].map(Resource::Event);
        [Resource::Stream(self.ahead)].into_iter().chain(events).chain([Resource::Staging(self.memory)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::driver::emulated::{Emulated, Options};
    use super::*;

    const BYTES: u64 = 16;

    fn device() -> (Emulated, [Address; 2], Stream) {
        let device = Emulated::new(Options::default());
        let places = [(); 2].map(|()| device.allocate(BYTES).unwrap());
        let compute = device.stream().unwrap();
        (device, places, compute)
    }

    #[test]
    fn what_is_uploaded_ahead_takes_its_place_when_it_lands() {
        const STEPS: u8 = 6;
        let (device, [inputs, landing], compute) = device();
        let seen = device.allocate(2 * BYTES * u64::from(STEPS)).unwrap();
        let mut uploads = Uploads::new(&device, BYTES, landing, compute).unwrap();
        device.fill(inputs, 77, BYTES, compute).unwrap();
        for step in 0..STEPS {
            let look = |half| device.copy(seen.offset(BYTES * u64::from(2 * step + half)), inputs, BYTES, compute);
            let mut ahead = |at, byte| uploads.upload_ahead(&device, inputs.offset(at as u64), at, &[byte; 4]).unwrap();
            // One of them twice: the later one holds.
            [(0, 99), (8, step), (0, step)].into_iter().for_each(|(at, byte)| ahead(at, byte));
            look(0).unwrap();
            if step == 2 {
                // Where what is under way was written.
                uploads.upload(&device, inputs.offset(10), 10, &[50; 6]).unwrap();
            }
            uploads.land(&device).unwrap();
            uploads.upload(&device, inputs.offset(4), 4, &[100 + step; 4]).unwrap();
            look(1).unwrap();
        }
        let mut held = vec![0; 2 * BYTES as usize * usize::from(STEPS)];
        device.download(seen, &mut held, compute).unwrap();
        let mut now = [77; BYTES as usize];
        for (step, looks) in (0..STEPS).zip(held.chunks(2 * BYTES as usize)) {
            assert_eq!(looks[..BYTES as usize], now, "the step before still reads its own");
            if step == 2 {
                now[12..].fill(50);
            }
            [(0, step), (4, 100 + step), (8, step)].iter().for_each(|&(at, byte)| now[at..at + 4].fill(byte));
            assert_eq!(looks[BYTES as usize..], now, "step {step}");
        }
        uploads.resources().for_each(|resource| device.destroy(resource).unwrap());
    }

    /// One of the orders that the protocol makes.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Order {
        /// The copies out of the landing place wait for those into it.
        Landed,
        /// The copies into it wait for those out of it.
        Free,
        /// The host waits before it writes page-locked memory again.
        Host,
    }

    /// Two batches ahead, one behind the other, by the calls of [`Uploads`] but without one order.
    fn without(missing: Option<Order>) -> Result<(), DriverError> {
        let (device, [inputs, landing], compute) = device();
        let uploads = Uploads::new(&device, BYTES, landing, compute)?;
        let Uploads { memory, ahead, landed, free, .. } = uploads;
        for step in 0..2 {
            if step > 0 && missing != Some(Order::Host) {
                device.synchronize(ahead)?;
            }
            device.upload_staged(landing, memory, 0, &[step; 8], ahead)?;
            device.record(landed, ahead)?;
            if missing != Some(Order::Landed) {
                device.wait(compute, landed)?;
            }
            device.copy(inputs, landing, 8, compute)?;
            device.record(free, compute)?;
            if missing != Some(Order::Free) {
                device.wait(ahead, free)?;
            }
        }
        Ok(())
    }

    #[test]
    fn the_emulated_device_sees_who_does_not_wait() {
        without(None).unwrap();
        let says = |missing| without(Some(missing)).unwrap_err().to_string();
        let of = |text: &str, what: &str| {
            assert!(text.starts_with(what) && text.contains("nothing orders the two"), "{text}");
        };
        of(&says(Order::Landed), "a copy on stream 1 reads bytes 0 to 8");
        of(&says(Order::Free), "an upload on stream 3 writes bytes 0 to 8");
        assert!(says(Order::Host).contains("written again before their copy was awaited"), "{}", says(Order::Host));
    }
}
