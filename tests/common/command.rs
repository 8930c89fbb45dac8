//! The command `g2d` as a child process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub errors: String,
}

impl Ended {
    pub fn of(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command prints text");
        Self { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
    }

    /// How a command ends that is sent a signal: `-INT`, `-TERM`.
    #[cfg(unix)]
    #[allow(dead_code)]
    pub fn told(child: Child, signal: &str) -> Self {
        let told = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(told.expect("there is a kill").success());
        Self::of(child.wait_with_output().expect("the child can be waited for"))
    }

    /// The command was refused with one sentence that holds all of `words`.
    #[track_caller]
    pub fn refused(&self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        let lines: Vec<&str> = self.errors.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(lines.len() == 1 && !self.errors.contains("panicked"), "{self:?}");
        for word in words {
            assert!(lines[0].contains(word), "{word:?} is not in {:?}", lines[0]);
        }
    }

    /// The command was stopped, and one sentence that holds all of `words` says what is kept.
    #[track_caller]
    #[allow(dead_code)]
    pub fn stopped(&self, words: &[&str]) {
        assert_eq!(self.code, Some(130), "{self:?}");
        let lines: Vec<&str> = self.errors.lines().filter(|line| line.starts_with("stopped; ")).collect();
        assert!(lines.len() == 1 && !self.errors.contains("error: "), "{self:?}");
        for word in words {
            assert!(lines[0].contains(word), "{word:?} is not in {:?}", lines[0]);
        }
    }

    /// The command did its work; what it printed.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}

/// The command with arguments, in a folder.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_g2d"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the words of a line that hold no blanks.
pub fn g2d(folder: &Path, line: &str) -> Ended {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ended::of(command(folder, &words).output().expect("the command starts"))
}

/// Runs a shell script in which `$G2D` is the command.
pub fn shell(folder: &Path, script: &str) -> Ended {
    let mut sh = Command::new("sh");
    sh.args(["-c", script]).env("G2D", env!("CARGO_BIN_EXE_g2d")).current_dir(folder).stdin(Stdio::null());
    Ended::of(sh.output().expect("the shell starts"))
}

/// Most memory a child has held so far, bytes; `None` once it has ended, or where the system does not say.
pub fn peak_memory(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Runs a command to its end and tells the most memory it has held, bytes (as far as it was seen: every 2 ms).
pub fn with_peak_memory(mut command: Command) -> (Ended, u64) {
    let mut child = command.spawn().expect("the command starts");
    let mut most = 0;
    while child.try_wait().expect("the child can be waited for").is_none() {
        most = peak_memory(&child).map_or(most, |bytes| bytes.max(most));
        std::thread::sleep(Duration::from_millis(2));
    }
    (Ended::of(child.wait_with_output().expect("the child can be waited for")), most)
}

/// Seconds a child has computed so far; unlike wall time they say the same on a machine that is busy otherwise.
pub fn computed(child: &Child) -> Option<f64> {
    const TICKS: f64 = 100.0; // per second, as Linux reports them
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / TICKS)
}

/// An empty folder of one test's own.
pub fn empty(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the target folder can be written");
    path
}

/// Everything in a folder, by path.
pub fn listing(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}
