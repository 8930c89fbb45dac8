//! How many inputs fuzzing has read: lines in the file that `G2D_FUZZ_COUNTS` names, one or more of each run and target, and a
//! table of them beside it, `.md`. A run goes on behind the inputs that the file counts, so no two runs, one after the other, read the same ones.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How often what was read is written down meanwhile.
const EVERY: Duration = Duration::from_secs(60);

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    target: String,
    /// Which stream of random numbers it was.
    seed: u32,
    inputs: u64,
    valid: u64,
    seconds: f64,
}

/// What is counted of one target.
pub struct Counts {
    file: Option<PathBuf>,
    target: String,
    /// See [`stream`].
    pub seed: u32,
    /// Number of the next input.
    pub next: u64,
    /// Inputs of this run,
    pub inputs: u64,
    /// and how many of these were valid still.
    pub valid: u64,
    written: [u64; 2],
    since: Instant,
}

/// Seconds for a target, if they are asked for.
pub fn seconds() -> Option<f64> {
    variable("G2D_FUZZ_SECONDS")
}

/// Which stream of random numbers mutates, `G2D_FUZZ_SEED` or 0: of two runs at once each has its own.
pub fn stream() -> u32 {
    variable("G2D_FUZZ_SEED").unwrap_or(0)
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

impl Counts {
    /// Of a target, behind what the file counts.
    pub fn of(target: &str) -> Self {
        let file = std::env::var_os("G2D_FUZZ_COUNTS").map(PathBuf::from);
        let mut counts = Self {
            file,
            target: target.to_owned(),
            seed: stream(),
            next: 0,
            inputs: 0,
            valid: 0,
            written: [0; 2],
            since: Instant::now(),
        };
        let own = |line: &Line| line.target == target && line.seed == counts.seed;
        counts.next = counts.lines().iter().filter(|line| own(line)).map(|line| line.inputs).sum();
        counts
    }

    /// Counts an input.
    pub fn add(&mut self, valid: bool) {
        self.next += 1;
        self.inputs += 1;
        self.valid += u64::from(valid);
        if self.since.elapsed() > EVERY {
            self.write();
        }
    }

    /// Writes down what was counted since this was last done.
    pub fn write(&mut self) {
        let Some(file) = &self.file else { return };
        let [inputs, valid] = [self.inputs - self.written[0], self.valid - self.written[1]];
        let seconds = self.since.elapsed().as_secs_f64();
        let line = Line { target: self.target.clone(), seed: self.seed, inputs, valid, seconds };
        let line = serde_json::to_string(&line).unwrap() + "\n";
        let appended = OpenOptions::new().create(true).append(true).open(file);
        appended.and_then(|mut file| file.write_all(line.as_bytes())).expect("G2D_FUZZ_COUNTS names a file");
        (self.written, self.since) = ([self.inputs, self.valid], Instant::now());
        fs::write(file.with_extension("md"), self.table()).expect("the table can be written");
    }

    fn lines(&self) -> Vec<Line> {
        let Some(file) = &self.file else { return Vec::new() };
        match fs::read_to_string(file) {
            Ok(text) => text.lines().map(|line| serde_json::from_str(line).expect("a line of counts")).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }

    /// All that the file counts, as Markdown.
    fn table(&self) -> String {
        let mut sums: BTreeMap<String, (u64, u64, f64)> = BTreeMap::new();
        let mut all = (0, 0, 0.0);
        for line in self.lines() {
            for sum in [&mut all, sums.entry(line.target).or_default()] {
                *sum = (sum.0 + line.inputs, sum.1 + line.valid, sum.2 + line.seconds);
            }
        }
        let row = |name: &str, (inputs, valid, seconds): (u64, u64, f64)| {
            format!("| {name} | {inputs} | {valid} | {:.0} |\n", inputs as f64 / seconds)
        };
        let rows: String = sums.into_iter().map(|(name, sum)| row(&name, sum)).collect();
        format!(
            "| target | inputs | of them still valid | a second |\n| --- | --- | --- | --- |\n{rows}{}",
            row("all", all)
        )
    }
}
