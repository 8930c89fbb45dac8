//! `g2d serve`, as a process on a port of its own, by plain TCP: what it answers, what it refuses, what it survives; and its
//! page in a browser.
#![cfg(feature = "serve")]

mod answers;
mod browser;
#[path = "../common/mod.rs"]
mod common;
mod malformed;
mod refusals;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::command::{command, empty, g2d};
use serde_json::Value;

/// A folder with films (`drawn`), `shards` of them, and `run`, trained for two steps; made once.
fn world() -> &'static Path {
    static WORLD: OnceLock<PathBuf> = OnceLock::new();
    WORLD.get_or_init(|| {
        let folder = empty("world");
        g2d(&folder, "phantom --style evaluation --count 80 --seed 5 --out drawn").done();
        g2d(&folder, "pack --pairs drawn/pairs.csv --boxes drawn/boxes.csv --size 64 --out shards").done();
        g2d(
            &folder,
            "pretrain --data shards --preset micro --set max_positions=96 --steps 2 --batch 8 --device cpu --out run",
        )
        .done();
        folder
    })
}

/// The films that were drawn.
fn films() -> Vec<PathBuf> {
    let mut films: Vec<PathBuf> =
        fs::read_dir(world().join("drawn/images")).unwrap().map(|entry| entry.unwrap().path()).collect();
    films.sort();
    films
}

/// A film's file.
fn film() -> Vec<u8> {
    fs::read(&films()[0]).unwrap()
}

/// A server that ends with its test.
struct Server {
    child: Child,
    address: SocketAddr,
    errors: PathBuf,
}

impl Server {
    /// Starts the command in [`world`] with these words, and waits until it can be asked.
    fn start(name: &str, words: &str) -> Self {
        let errors = empty(&format!("errors-{name}")).join("errors");
        let line = format!("serve --port 0 --device cpu {words}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = command(world(), &words);
        let mut child = command.stderr(File::create(&errors).unwrap()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("http://") {
            let read = out.read_line(&mut greeting).unwrap();
            assert!(read > 0, "it ended: {greeting}{}", fs::read_to_string(&errors).unwrap());
        }
        let address = greeting.split("http://").nth(1).unwrap().split('/').next().unwrap();
        let port = address.parse::<SocketAddr>().unwrap().port();
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), errors }
    }

    /// One with reports, on loopback.
    fn usual(name: &str) -> Self {
        Self::start(name, "--weights run --data shards")
    }

    /// What it wrote to standard error so far.
    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    fn ask(&self, request: &[u8]) -> Answer {
        self.asked(request).unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(request)))
    }

    /// As [`Server::ask`]; `None` where the connection ends without an answer.
    fn asked(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(100))).unwrap();
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::of(&bytes)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes())
    }

    fn explain(&self, query: &str, film: &[u8]) -> Answer {
        self.ask(&self.explaining(query, film))
    }

    /// The request that asks for a film.
    fn explaining(&self, query: &str, film: &[u8]) -> Vec<u8> {
        let (address, length) = (self.address, film.len());
        let head = format!("POST /explain{query} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), film].concat()
    }

    /// Stops it as Ctrl-C does; it has to end well.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).stdin(Stdio::null()).status().unwrap().success());
        let start = Instant::now();
        let code = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status.code(),
                None if start.elapsed() > Duration::from_secs(60) => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        assert_eq!(code, Some(0), "{}", self.errors());
        assert!(TcpStream::connect(self.address).is_err());
        self.sound();
    }

    /// It had no fault.
    #[track_caller]
    fn sound(&self) {
        assert!(!self.errors().contains("panicked"), "{}", self.errors());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
        Some(Self { status, head: head.to_ascii_lowercase(), body: bytes[end + 4..].to_vec() })
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// It is what was asked for.
    #[track_caller]
    fn well(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// It was refused in one sentence that holds all of `words`.
    #[track_caller]
    fn refused(&self, status: u16, words: &[&str]) {
        assert_eq!(self.status, status, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        let answer = self.json();
        let fields: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["error"]);
        let sentence = answer["error"].as_str().unwrap();
        for word in words {
            assert!(sentence.contains(word), "{word:?} is not in {sentence:?}");
        }
    }
}
