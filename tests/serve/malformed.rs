//! Requests of every kind: valid ones are mutated (bytes, cuts, splices, words of HTTP) by seeded random numbers. Behind every
//! hundred the server has to answer a good one, as before.
//!
//! `G2D_FUZZ_SECONDS=60 cargo test --release --test serve malformed` takes so long; the default is short. Counts: `common/counts.rs`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use g2d::base::random::Rng;

use super::common::counts::{self, Counts};
use super::common::films::{Png, rows};
use super::common::ledger;
use super::{Answer, Server};

/// Requests where no time is given, how many go out between two good ones, and how many at once: most of the time they wait.
const REQUESTS: u64 = 600;
const ROUND: u64 = 100;
const AT_ONCE: usize = 32;
/// How long a connection may be silent until it is given up: then it waits for the rest of a request.
const SILENCE: Duration = Duration::from_millis(400);

/// What HTTP goes wrong at.
const WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\0",
    " ",
    ":",
    "%",
    "%00",
    "%ff",
    "?text=",
    "&",
    "HTTP/0.9",
    "HTTP/2.0",
    "GET ",
    "POST ",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http://evil.example/",
    "/../",
    "Host: evil.example\r\n",
    "Content-Length: 18446744073709551616\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\nConnection: Upgrade\r\n",
    "Origin: null\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\r\n",
];

fn valid(server: &Server) -> Vec<Vec<u8>> {
    let film = Png::gray(24, 20, 8, &rows(24, 20, |x, y| (x * 9 + y) as u8)).bytes();
    let host = format!("Host: {}\r\n", server.address);
    let chunks = format!("POST /explain HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", film.len());
    vec![
        format!("GET / HTTP/1.1\r\n{host}Accept: */*\r\nConnection: keep-alive\r\n\r\n").into_bytes(),
        format!("GET /model HTTP/1.1\r\n{host}Origin: http://{}\r\n\r\n", server.address).into_bytes(),
        format!("HEAD /page.js HTTP/1.0\r\n{host}\r\n").into_bytes(),
        server.explaining("?text=left+effusion", &film),
        server.explaining("", &film),
        [chunks.as_bytes(), &film, b"\r\n0\r\n\r\n"].concat(),
    ]
}

fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.pick(seeds).clone();
    for _ in 0..1 + rng.below(2) {
        // Line and headers decide more than the film.
        let reach = if rng.chance(0.5) { bytes.len().clamp(1, 160) } else { bytes.len().max(1) };
        let at = rng.below(reach).min(bytes.len());
        match rng.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8)),
            2 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = rng.below(256) as u8),
            3 => {
                let end = (at + rng.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let other = rng.pick(seeds);
                let from = rng.below(other.len());
                let part = other[from..].iter().take(1 + rng.below(200)).copied();
                bytes.splice(at..at, part);
            }
            5 => {
                // Between lines, where a header stands.
                let line = bytes.windows(2).position(|pair| pair == b"\r\n").map_or(at, |end| end + 2);
                bytes.splice(line..line, rng.pick(WORDS).bytes());
            }
            _ => {
                let end = (at + rng.below(12)).min(bytes.len());
                bytes.splice(at..end, rng.pick(WORDS).bytes());
            }
        }
    }
    bytes
}

/// Sends a request and reads until the server ends the connection or is silent. The status, if there is one.
fn sent(server: &Server, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let _ = stream.write_all(request); // it may have been refused meanwhile
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut part) {
        answer.extend(&part[..read]);
    }
    let _ = stream.shutdown(Shutdown::Both);
    if answer.is_empty() {
        return None;
    }
    let answer = Answer::of(&answer).unwrap_or_else(|| panic!("no HTTP: {:?}", String::from_utf8_lossy(&answer)));
    assert!(answer.status < 600 && answer.status != 500, "{answer:?} to {:?}", String::from_utf8_lossy(request));
    Some(answer.status)
}

#[test]
fn malformed_requests_are_survived() {
    let (asked, mut counts) = (counts::seconds(), Counts::of("http"));
    let (time, most) = (Duration::from_secs_f64(asked.unwrap_or(1e6)), asked.map_or(REQUESTS, |_| u64::MAX));
    let server = Server::start("malformed", "--weights run");
    let seeds = valid(&server);
    for seed in &seeds {
        assert_eq!(server.ask(seed).status, 200, "{}", String::from_utf8_lossy(seed));
    }
    let good = server.ask(&seeds[3]).well();
    let (start, mut answered) = (Instant::now(), 0);
    while start.elapsed() < time && counts.inputs < most {
        for status in round(&server, &seeds, &counts) {
            counts.add(status == Some(200));
            answered += u64::from(status.is_some());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.ask(&seeds[3]).status == 503 {
            assert!(Instant::now() < deadline, "no place becomes free");
        }
        assert_eq!(server.ask(&seeds[3]).well(), good);
        server.sound();
    }
    counts.write();
    let Counts { inputs, valid, .. } = counts;
    assert!(valid > 0 && answered > valid, "{valid} of {answered} were valid: mutations are too strong or too weak");
    let what = format!("http: {inputs} requests, {answered} answered, {valid} of them with what was asked for");
    ledger::ran("fuzz", what);
    server.stop();
}

/// Sends the next [`ROUND`] requests; what each was answered.
fn round(server: &Server, seeds: &[Vec<u8>], counts: &Counts) -> Vec<Option<u16>> {
    let next = AtomicU64::new(0);
    let some = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < ROUND));
        let one = |number| {
            let mut rng = Rng::new(u64::from_le_bytes(*b"requests"), counts.seed, counts.next + number);
            sent(server, &mutated(&mut rng, seeds))
        };
        numbers.map(one).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("an answer was none")).collect()
    })
}
