//! TensorBoard's event file of a run: every number of `metrics.jsonl`, and films of its gallery.
//!
//! A file is a row of records: length, checksum of that, bytes, checksum of these. The bytes are an `Event` of TensorFlow's
//! event.proto and summary.proto; the numbers of fields are theirs. Checksums are CRC-32C (RFC 3720, appendix B.4), turned and
//! shifted as TensorFlow does.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::metrics::Line;
use super::picture::strip;
use super::{EVENTS, gallery};
use crate::base::protobuf::Message;
use crate::error::Error;
use crate::train::run::{CONFIG, MANIFEST, METRICS};

/// Bytes that are written at once, about.
const CHUNK: usize = 1 << 20;

/// An event file that grows with its run.
pub struct EventFile {
    file: File,
    path: PathBuf,
    run: PathBuf,
    /// Bytes of `metrics.jsonl` that are in it.
    read: u64,
    /// Time of the last event, seconds since 1970: when the run began, and as long after it as its steps took.
    time: f64,
    /// Pairs a step.
    batch: f64,
    /// Validations that are in it.
    validations: usize,
}

impl EventFile {
    /// Writes all that the run in `run` has so far to a new file, in the place of those that are there: a run that was cut off
    /// has events in them that it does not have in `metrics.jsonl` any more.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn remake(run: &Path) -> Result<Self, Error> {
        let folder = run.join(EVENTS);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        let entries = fs::read_dir(&folder).map_err(Error::io(&folder))?.filter_map(Result::ok);
        let (mut number, begun) = (0, fs::metadata(run.join(MANIFEST)).and_then(|file| file.modified()).ok());
        for old in entries.filter(|entry| entry.file_name().to_string_lossy().contains("tfevents")) {
            let name = old.file_name().to_string_lossy().into_owned();
            number =
                number.max(name.split('.').nth(3).and_then(|word| word.parse().ok()).map_or(0, |old: u64| old + 1));
            fs::remove_file(old.path()).map_err(Error::io(old.path()))?;
        }
        // A name that was there before would be taken for the old file by whoever is reading it.
        let path = folder.join(format!("events.out.tfevents.{number:010}.g2d"));
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(Error::io(&path))?;
        let config = fs::read(run.join(CONFIG)).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        let mut made = Self {
            file,
            path,
            run: run.to_owned(),
            read: 0,
            time: begun.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |since| since.as_secs_f64()),
            batch: config["train"]["batch"].as_f64().unwrap_or(1.0),
            validations: 0,
        };
        // The second says that a session starts, so that whoever has read another file of this run forgets it.
        let version = Message::default().double(1, made.time).bytes(3, "brain.Event:2");
        let start = Message::default().double(1, made.time).integer(2, 0).bytes(7, Message::default().integer(1, 1));
        made.write(&[record(version.as_ref()), record(start.as_ref())].concat())?;
        made.extend()?;
        Ok(made)
    }

    /// Adds the lines of `metrics.jsonl` that are not in it yet.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub fn extend(&mut self) -> Result<(), Error> {
        let path = self.run.join(METRICS);
        let mut metrics = match File::open(&path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        metrics.seek(SeekFrom::Start(self.read)).map_err(Error::io(&path))?;
        let (mut line, mut records) = (Vec::new(), Vec::new());
        // A line without an end is still being written.
        while metrics.read_until(b'\n', &mut line).map_err(Error::io(&path))? > 0 && line.ends_with(b"\n") {
            self.read += line.len() as u64;
            if let Some(line) = Line::parse(&line) {
                records.extend(record(self.event(&line).as_ref()));
            }
            if records.len() > CHUNK {
                self.write(&std::mem::take(&mut records))?;
            }
            line.clear();
        }
        self.write(&records)
    }

    fn write(&mut self, records: &[u8]) -> Result<(), Error> {
        self.file.write_all(records).map_err(Error::io(&self.path))
    }

    /// A line as an event: `loss.total` becomes `loss/total`, and of an estimate the value has the name alone.
    fn event(&mut self, line: &Line) -> Message {
        let speed = line.numbers.iter().find(|(name, _)| name == "samples_per_s").map(|&(_, speed)| speed);
        self.time += speed.filter(|speed| *speed > 0.0).map_or(0.0, |speed| self.batch / speed);
        let scalar = |summary: Message, (name, number): &(String, f64)| {
            let tag = name.strip_suffix(".value").unwrap_or(name).replace('.', "/");
            summary.bytes(1, Message::default().bytes(1, tag).float(2, *number as f32))
        };
        let mut summary = line.numbers.iter().fold(Message::default(), scalar);
        if line.validation {
            self.validations += 1;
            // Not the last one as such: the next would be the last as well.
            if gallery::is_kept(self.validations - 1, self.validations + 1) {
                summary = self.films(summary, line.step);
            }
        }
        Message::default().double(1, self.time).integer(2, line.step as i64).bytes(5, summary)
    }

    /// Adds the gallery's films at a validation, if it is there.
    fn films(&self, summary: Message, step: u64) -> Message {
        let Some(kept) = gallery::load(&self.run, &[step]).0 else { return summary };
        let Some(moment) = kept.moments.first() else { return summary };
        let films = kept.pixels.iter().zip(&moment.maps).enumerate();
        films.fold(summary, |summary, (at, (film, maps))| {
            let Some(png) = strip(&film[0], &film[1], maps, kept.tile) else { return summary };
            let (height, width) = (kept.tile as i64, (kept.tile * (maps.len() + 1)) as i64);
            let image = Message::default().integer(1, height).integer(2, width).integer(3, 3).bytes(4, png);
            summary.bytes(1, Message::default().bytes(1, format!("films/{}", at + 1)).bytes(4, image))
        })
    }
}

/// An event between its checksums.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let masked = |bytes: &[u8]| crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    [&length[..], &masked(&length), event, &masked(event)].concat()
}

/// Checksums of single bytes.
const BYTES: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bits, mut at) = (byte as u32, 0);
        while at < 8 {
            bits = if bits & 1 == 1 { bits >> 1 ^ 0x82f6_3b78 } else { bits >> 1 };
            at += 1;
        }
        table[byte] = bits;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| crc >> 8 ^ BYTES[(crc as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }
}
