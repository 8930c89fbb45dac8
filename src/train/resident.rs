//! The films of a run on its device: uploaded once, so that a step is given their numbers instead of their pixels.

use std::str::FromStr;

use super::device::Device;
use super::run::Event;
use super::session::Session;
use crate::data::loader::Batches;
use crate::error::Error;

/// Films that are uploaded at a time.
const AT_ONCE: usize = 256;
/// Part of the memory that is left which stays free, for what the driver takes when a graph is made.
const LEFT: u64 = 32;

/// Whether films are kept on the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Resident {
    /// Where it is a CUDA device, or the emulated one, and they fit beside the step.
    #[default]
    Auto,
    /// Yes, or the run is refused.
    On,
    /// No.
    Off,
}

impl FromStr for Resident {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("there are auto, on and off".into()),
        }
    }
}

/// What comes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Settled {
    Kept,
    /// Not, and why, where that is worth a line.
    Not(Option<String>),
}

impl Resident {
    /// For so many films of so many bytes together, on a device that has `free` bytes left; `None` where none can be kept.
    fn settled(self, device: Device, films: usize, bytes: u64, free: Option<u64>) -> Result<Settled, Error> {
        match (self, free) {
            (Self::Off, _) | (Self::Auto, None) => Ok(Settled::Not(None)),
            (Self::On, None) => Err(Error::Usage(format!(
                "--resident on is for a CUDA device or the emulated one, not for {device}: leave it out, or give --device cuda"
            ))),
            (_, Some(free)) if bytes <= free - free / LEFT => Ok(Settled::Kept),
            (_, Some(free)) => {
                let (taken, left) = (gib(bytes), gib(free));
                let what = format!(
                    "{films} films take {taken:.3} GiB, and {left:.3} GiB are free on {device} beside the step"
                );
                match self {
                    Self::On => {
                        Err(Error::Usage(format!("--resident on: {what}; leave it out, or give a smaller --batch")))
                    }
                    _ => Ok(Settled::Not(Some(format!("films come with each batch: {what}")))),
                }
            }
        }
    }

    /// Puts the films of these batches on the device of a session, if they are to be there. The batches, then without pixels, and
    /// the films that lie there, in their order, if they do.
    ///
    /// # Errors
    /// If they must and cannot, a film cannot be read, or the device refuses.
    pub(super) fn settle(
        self,
        session: &mut Session,
        batches: Batches,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Batches, Option<Vec<usize>>), Error> {
        let (device, side) = (session.options().device, session.options().config.image_size as u64);
        let samples = batches.samples().to_vec();
        let (films, bytes) = (samples.len(), samples.len() as u64 * side * side);
        let held = session.reader().1.machine.cuda();
        let free = held.as_ref().map(|held| held.driver().free_memory()).transpose()?;
        let settled = self.settled(device, films, bytes, free)?;
        let (Settled::Kept, Some(held)) = (&settled, held) else {
            if let Settled::Not(Some(why)) = &settled {
                observe(Event::Note(why));
            }
            return Ok((batches, None));
        };
        held.reserve_table(bytes)?;
        let mut done = 0;
        for some in samples.chunks(AT_ONCE) {
            let pixels = batches.gather(some, 0)?.pixels;
            held.write_table(done, &pixels)?;
            done += pixels.len() as u64;
            observe(Event::Resident(done, bytes));
        }
        observe(Event::Note(&format!("{films} films stay on {device}: {:.3} GiB", gib(bytes))));
        Ok((batches.without_pixels(), Some(samples)))
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_are_kept_where_they_fit() {
        let device = Device::CudaEmulated(0);
        let settled = |wanted: Resident, bytes, free| wanted.settled(device, 7, bytes, free);
        for wanted in [Resident::Auto, Resident::On] {
            assert_eq!(settled(wanted, 3100, Some(3200)).unwrap(), Settled::Kept);
        }
        assert_eq!(settled(Resident::Off, 1, Some(3200)).unwrap(), Settled::Not(None));
        assert_eq!(settled(Resident::Auto, 1, None).unwrap(), Settled::Not(None));
        let (table, free) = (3 << 30, (3 << 30) + (1 << 26));
        let Settled::Not(Some(why)) = settled(Resident::Auto, table, Some(free)).unwrap() else {
            panic!("it has no room")
        };
        let refused = settled(Resident::On, table, Some(free)).unwrap_err().to_string();
        for text in [&why, &refused] {
            assert!(text.contains("7 films take 3.000 GiB, and 3.062 GiB are free on cuda-emulated"), "{text}");
        }
        assert!(settled(Resident::On, 1, None).unwrap_err().to_string().contains("not for cuda-emulated"));
    }

    #[test]
    fn words_are_read() {
        let words = ["auto", "on", "off"].map(|word| word.parse::<Resident>().unwrap());
        assert_eq!(words, [Resident::Auto, Resident::On, Resident::Off]);
        assert_eq!("yes".parse::<Resident>().unwrap_err(), "there are auto, on and off");
    }
}
