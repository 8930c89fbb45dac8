//! Streams and events: which work is done before which, and who touches what another stream touches with nothing between.
//!
//! Work is done when it is submitted. That no program counts on it is checked by clocks: each stream knows, of every stream,
//! the last work that is done when its own next work begins; an event is a copy of that, a wait takes it over. A kernel
//! touches, of an allocation, all from the first to the last sector that it reads, and so with those that it writes.

use std::collections::HashMap;
use std::ops::Range;

use super::super::DriverError;

/// By stream the number of the last work that is done.
#[derive(Clone, Debug, Default)]
pub struct Clock(HashMap<u64, u64>);

impl Clock {
    /// Whether that work of that stream is done.
    pub fn covers(&self, stream: u64, number: u64) -> bool {
        self.0.get(&stream).is_some_and(|&done| number <= done)
    }

    fn join(&mut self, other: &Self) {
        for (&stream, &number) in &other.0 {
            let done = self.0.entry(stream).or_default();
            *done = number.max(*done);
        }
    }
}

/// What work touched.
#[derive(Clone, Debug)]
pub struct Touch {
    /// Within the allocation.
    pub bytes: Range<usize>,
    /// Its stream.
    pub stream: u64,
    /// Whether it wrote there.
    pub writes: bool,
    number: u64,
}

/// All streams and events.
#[derive(Debug, Default)]
pub struct Streams {
    /// By stream what is done when its next work begins; of the default stream, once it was given work.
    clocks: HashMap<u64, Clock>,
    /// What the host knows to be done.
    host: Clock,
    /// By event, once it was recorded, the time and what was done.
    events: HashMap<u64, Option<(u64, Clock)>>,
    /// By allocation what can meet later work.
    touched: HashMap<usize, Vec<Touch>>,
}

impl Streams {
    /// A new stream.
    pub fn insert(&mut self, stream: u64) {
        self.clocks.insert(stream, Clock::default());
    }

    /// Takes a stream back, when it is done; whether it was there.
    pub fn remove(&mut self, stream: u64) -> bool {
        self.waited(stream);
        self.clocks.remove(&stream).is_some()
    }

    /// Refuses a stream that is not there.
    pub fn known(&self, stream: u64) -> Result<(), DriverError> {
        if stream == 0 || self.clocks.contains_key(&stream) {
            return Ok(());
        }
        Err(DriverError::Invalid(format!("there is no stream {stream}")))
    }

    /// Whether there is any but the default stream.
    pub fn several(&self) -> bool {
        self.clocks.keys().any(|&stream| stream != 0)
    }

    /// A stream begins its next work, behind what the host knows to be done; the number of that work.
    pub fn begin(&mut self, stream: u64) -> u64 {
        let clock = self.clocks.entry(stream).or_default();
        clock.join(&self.host);
        let number = clock.0.entry(stream).or_default();
        *number += 1;
        *number
    }

    /// The work that a stream began last touches an allocation; `Err` is what it may meet there at any time.
    pub fn touch(&mut self, stream: u64, segment: usize, bytes: Range<usize>, writes: bool) -> Result<(), Touch> {
        let Some(clock) = self.clocks.get(&stream) else { return Ok(()) };
        let touched = self.touched.entry(segment).or_default();
        let before = |other: &Touch| clock.covers(other.stream, other.number);
        let meets = |other: &Touch| other.bytes.start < bytes.end && bytes.start < other.bytes.end;
        if let Some(other) = touched.iter().find(|other| (writes || other.writes) && meets(other) && !before(other)) {
            return Err(other.clone());
        }
        // What meets one of those that this one hides meets this one.
        let within = |other: &Touch| bytes.start <= other.bytes.start && other.bytes.end <= bytes.end;
        touched.retain(|other| !(within(other) && before(other) && (writes || !other.writes)));
        let number = clock.0.get(&stream).copied().unwrap_or_default();
        touched.push(Touch { bytes, stream, writes, number });
        Ok(())
    }

    /// An allocation was taken back.
    pub fn forget(&mut self, segment: usize) {
        self.touched.remove(&segment);
    }

    /// What the host knows to be done.
    pub fn host(&self) -> &Clock {
        &self.host
    }

    /// The host has waited for a stream.
    pub fn waited(&mut self, stream: u64) {
        if let Some(clock) = self.clocks.get(&stream) {
            self.host.join(clock);
        }
    }

    /// A new event.
    pub fn insert_event(&mut self, event: u64) {
        self.events.insert(event, None);
    }

    /// Takes an event back; whether it was there.
    pub fn remove_event(&mut self, event: u64) -> bool {
        self.events.remove(&event).is_some()
    }

    /// An event marks a stream, at a time of the emulated clock.
    pub fn record(&mut self, event: u64, stream: u64, time: u64) -> Result<(), DriverError> {
        let done = self.clocks.get(&stream).cloned().unwrap_or_default();
        *self.events.get_mut(&event).ok_or_else(|| no_event(event))? = Some((time, done));
        Ok(())
    }

    /// Later work of a stream waits for an event; for nothing if it was never recorded.
    pub fn wait(&mut self, stream: u64, event: u64) -> Result<(), DriverError> {
        if let Some((_, done)) = self.events.get(&event).ok_or_else(|| no_event(event))? {
            self.clocks.entry(stream).or_default().join(done);
        }
        Ok(())
    }

    /// The host waits for an event; for nothing if it was never recorded.
    pub fn wait_for(&mut self, event: u64) -> Result<(), DriverError> {
        if let Some((_, done)) = self.events.get(&event).ok_or_else(|| no_event(event))? {
            self.host.join(done);
        }
        Ok(())
    }

    /// When an event was passed.
    pub fn passed(&self, event: u64) -> Result<u64, DriverError> {
        let mark = self.events.get(&event).ok_or_else(|| no_event(event))?;
        let never = || DriverError::Invalid(format!("event {event} was never recorded"));
        mark.as_ref().map(|(time, _)| *time).ok_or_else(never)
    }
}

fn no_event(event: u64) -> DriverError {
    DriverError::Invalid(format!("there is no event {event}"))
}
