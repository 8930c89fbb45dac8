//! Packed data in an object store, fetched by the command from a server that speaks S3: `tests/oracle/s3` starts one.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use common::command::{Ended, command, empty, g2d, listing};
use common::ledger;
use g2d::data::Record;
use g2d::data::shard::ShardWriter;
use serde_json::json;

const BUCKET: &str = "films";

/// The server, if there is one.
fn server(what: &str) -> Option<SocketAddr> {
    let Ok(address) = std::env::var("G2D_S3") else {
        ledger::skipped("s3", what, "tests/oracle/s3");
        return None;
    };
    ledger::ran("s3", what);
    Some(address.parse().expect("G2D_S3 is the address of a server"))
}

/// By which the server takes a request for somebody's; it does not compute signatures.
const SIGNED: &str = "Authorization: AWS4-HMAC-SHA256 Credential=somebody/20260101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=0\r\n";

/// Asks the server for something and returns the first line of its answer.
fn ask(server: SocketAddr, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    let length = body.len();
    let head = format!("{method} /{path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/octet-stream\r\n");
    write!(stream, "{head}{SIGNED}Content-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn put(server: SocketAddr, key: &str, body: &[u8]) {
    let answer = ask(server, "PUT", &format!("{BUCKET}/{key}"), body);
    assert!(answer.contains(" 200 "), "{answer}");
}

/// Copies a packed folder into the bucket.
fn upload(server: SocketAddr, folder: &Path, name: &str) {
    ask(server, "PUT", BUCKET, b"");
    for path in listing(folder) {
        put(server, &format!("{name}/{}", path.file_name().unwrap().to_str().unwrap()), &fs::read(&path).unwrap());
    }
}

/// The command with the usual variables, its cache in `folder`.
fn on(server: SocketAddr, folder: &Path, line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = command(folder, &words);
    for name in ["AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_SKIP_SIGNATURE"] {
        command.env_remove(name);
    }
    command.env("AWS_ENDPOINT_URL", format!("http://{server}")).env("XDG_CACHE_HOME", folder.join("cache"));
    command.env("AWS_ACCESS_KEY_ID", "somebody").env("AWS_SECRET_ACCESS_KEY", "unchecked");
    command
}

fn ended(mut command: Command) -> Ended {
    Ended::of(command.output().expect("the command starts"))
}

/// A packed data set of three shards, the second longer than one request; by hand, since packing closes shards at 256 MiB.
fn three_shards(folder: &Path, seed: u8) {
    fs::create_dir_all(folder).unwrap();
    let tokenizer = b"{}";
    let mut shards = Vec::new();
    let mut lines = "1 256 154 5\n".to_owned() + blake3::hash(tokenizer).to_hex().as_str() + "\n";
    for (number, films) in [7, 140, 7].into_iter().enumerate() {
        let file = format!("shard-{number:05}.g2d");
        let mut writer = ShardWriter::create(&folder.join(&file), 256, false).unwrap();
        for film in 0..films {
            let pixels: Vec<u8> = (0..256 * 256).map(|at| (at * 7 % 251) as u8 ^ film as u8 ^ seed).collect();
            let record = Record { id: format!("{number}-{film}"), pixels: &pixels, ..Record::default() };
            writer.push(&record).unwrap();
        }
        let (bytes, digest) = writer.finish().unwrap();
        lines = lines + &digest + "\n";
        shards.push(json!({ "file": file, "records": films, "bytes": bytes, "blake3": digest }));
    }
    fs::write(folder.join("tokenizer.json"), tokenizer).unwrap();
    let manifest = json!({
        "format": "g2d-shards", "version": 1, "size": 256, "records": 154, "vocab_size": 5, "shards": shards, "made": {},
        "tokenizer_blake3": blake3::hash(tokenizer).to_hex().as_str(), "digest": blake3::hash(lines.as_bytes()).to_hex().as_str(),
    });
    fs::write(folder.join("dataset.json"), manifest.to_string()).unwrap();
}

/// The folders that data were fetched to.
fn fetched(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("cache/g2d")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A way to the server that counts what the server says, and can end after so many bytes of it.
struct Link {
    address: SocketAddr,
    /// Bytes that still come through.
    left: Arc<AtomicI64>,
}

/// More bytes than any test fetches.
const ALL: i64 = 64 << 20;

impl Link {
    /// `pause` is between 64 KiB and the next.
    fn to(server: SocketAddr, bytes: i64, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Self { address: listener.local_addr().unwrap(), left: Arc::new(AtomicI64::new(bytes)) };
        let left = link.left.clone();
        // Ends, and the listener with it, at the first caller after the last byte.
        thread::spawn(move || {
            while let Ok((mut client, _)) = listener.accept() {
                if left.load(Ordering::SeqCst) <= 0 {
                    break;
                }
                let (mut upstream, left) = (TcpStream::connect(server).unwrap(), left.clone());
                let (mut asking, mut asked) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut asking, &mut asked));
                thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = upstream.read(&mut buffer) {
                        thread::sleep(pause);
                        if left.fetch_sub(count as i64, Ordering::SeqCst) <= 0
                            || client.write_all(&buffer[..count]).is_err()
                        {
                            break;
                        }
                    }
                    let _ = (client.shutdown(Shutdown::Both), upstream.shutdown(Shutdown::Both));
                });
            }
        });
        link
    }
}

#[test]
fn a_run_on_an_object_store_computes_what_one_on_its_folder_does() {
    let Some(server) = server("training, evaluation and the doctor on packed data in an object store") else { return };
    let folder = empty("run");
    g2d(&folder, "phantom --count 40 --seed 3 --out phantoms").done();
    g2d(&folder, "pack --pairs phantoms/pairs.csv --boxes phantoms/boxes.csv --size 64 --out shards").done();
    upload(server, &folder.join("shards"), "run/shards");
    let run = |data: &str, out: &str| {
        ended(on(server, &folder, &format!("pretrain --data {data} --preset micro --batch 8 --steps 2 --out {out}")))
            .done();
        let weights = listing(&folder.join(out)).into_iter().find(|path| path.ends_with("weights.safetensors"));
        fs::read(weights.expect("the run has a checkpoint")).unwrap()
    };
    let address = "s3://films/run/shards";
    let (near, far) = (run("shards", "near"), run(address, "far"));
    assert!(near == far, "the weights are the same to the bit");
    let said = ended(on(server, &folder, &format!("inspect {address}/ --json")));
    assert!(said.errors.contains("s3://films/run/shards/ is in"), "{said:?}");
    let [there, here] = [said, g2d(&folder, "inspect shards --json")]
        .map(|said| serde_json::from_str::<serde_json::Value>(&said.done()).unwrap()["blake3"].clone());
    assert!(there == here && there.is_string());
    // A resumed run reads what was fetched, without the server.
    g2d(&folder, "pretrain --resume --out far --steps 3").done();
    for line in [
        "doctor --preset micro --batch 8",
        "bench loader --size 32 --batch 4 --seconds 1",
        "eval zero-shot --weights far --device cpu",
    ] {
        ended(on(server, &folder, &format!("{line} --data {address}"))).done();
    }
    assert_eq!(fetched(&folder).len(), 1);
}

#[test]
fn files_come_once_and_other_data_have_another_folder() {
    let Some(server) = server("fetching packed data from an object store") else { return };
    let folder = empty("once");
    three_shards(&folder.join("shards"), 0);
    upload(server, &folder.join("shards"), "once");
    // Two at a time: one waits for the other.
    let link = Link::to(server, ALL, Duration::ZERO);
    let both = [(); 2].map(|()| on(link.address, &folder, "inspect s3://films/once").spawn().unwrap());
    for child in both {
        Ended::of(child.wait_with_output().unwrap()).done();
    }
    let taken = ALL - link.left.load(Ordering::SeqCst);
    assert!((10_000_000..11_000_000).contains(&taken), "{taken} bytes are more than the films once");
    let found = fetched(&folder);
    assert_eq!(found.len(), 1);
    for path in listing(&folder.join("shards")) {
        let copy = found[0].join(path.file_name().unwrap());
        assert!(fs::read(&path).unwrap() == fs::read(&copy).unwrap(), "{copy:?}");
    }
    // A file that went away is fetched again, others are not.
    fs::remove_file(found[0].join("shard-00002.g2d")).unwrap();
    let link = Link::to(server, ALL, Duration::ZERO);
    ended(on(link.address, &folder, "inspect s3://films/once")).done();
    let taken = ALL - link.left.load(Ordering::SeqCst);
    assert!((400_000..600_000).contains(&taken), "{taken} bytes are not those of the third shard");

    three_shards(&folder.join("shards"), 1);
    upload(server, &folder.join("shards"), "once");
    ended(on(server, &folder, "inspect s3://films/once")).done();
    assert_eq!(fetched(&folder).len(), 2);
}

#[test]
fn a_server_that_goes_away_is_told_and_the_next_call_goes_on() {
    let Some(server) = server("an object store that goes away in between") else { return };
    let folder = empty("away");
    three_shards(&folder.join("shards"), 2);
    upload(server, &folder.join("shards"), "away");
    let line = "inspect s3://films/away";
    let link = Link::to(server, 5_000_000, Duration::ZERO);
    ended(on(link.address, &folder, line)).refused(&[
        "s3://films/away/shard-00001.g2d",
        "does not answer",
        "or try again",
    ]);
    assert!(!fetched(&folder)[0].join("dataset.json").exists());
    let link = Link::to(server, ALL, Duration::ZERO);
    ended(on(link.address, &folder, line)).done();
    let taken = ALL - link.left.load(Ordering::SeqCst);
    assert!(taken < 9_700_000, "{taken} bytes: the first shards were there");
    // Nobody at the address at all.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    ended(on(nobody, &folder, line)).refused(&[
        "s3://films/away/dataset.json",
        "Connection refused",
        "AWS_ENDPOINT_URL",
    ]);
}

#[cfg(unix)]
#[test]
fn a_stopped_fetch_goes_on_where_it_was() {
    let Some(server) = server("stopping while data are fetched") else { return };
    let folder = empty("stopped");
    three_shards(&folder.join("shards"), 3);
    upload(server, &folder.join("shards"), "stopped");
    let link = Link::to(server, ALL, Duration::from_millis(20));
    let child = on(link.address, &folder, "pretrain --data s3://films/stopped --out run").spawn().unwrap();
    while fetched(&folder).is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    Ended::told(child, "-TERM").stopped(&["what was fetched is kept, the same command goes on from here"]);
    assert!(!fetched(&folder)[0].join("dataset.json").exists() && !folder.join("run").exists());
}

/// Fetching the data set `refused` ends with these words and leaves nothing that could be opened, or gone on with.
#[track_caller]
fn refused(server: SocketAddr, folder: &Path, words: &[&str]) {
    let _ = fs::remove_dir_all(folder.join("cache"));
    ended(on(server, folder, "inspect s3://films/refused")).refused(words);
    let kept: Vec<PathBuf> = fetched(folder).into_iter().flat_map(|fetched| listing(&fetched)).collect();
    assert!(!kept.iter().any(|path| path.ends_with("dataset.json")), "{kept:?}");
    assert!(!kept.iter().any(|path| path.extension().is_some_and(|ending| ending == "partial")), "{kept:?}");
}

#[test]
fn what_is_not_there_or_not_what_was_packed_is_refused_and_not_kept() {
    let Some(server) = server("damaged and missing objects") else { return };
    let folder = empty("refused");
    let packed = folder.join("shards");
    three_shards(&packed, 4);
    ask(server, "PUT", BUCKET, b"");
    // A server that was used before has it.
    ask(server, "DELETE", "films/refused/dataset.json", b"");
    refused(server, &folder, &["s3://films/refused/dataset.json: there is no such object: check bucket and folder"]);
    upload(server, &packed, "refused");
    let broken = |file: &str, bytes: &[u8], words: &str| {
        put(server, &format!("refused/{file}"), bytes);
        let again = "copy the packed folder there again";
        refused(server, &folder, &[&format!("s3://films/refused/{file}: "), words, again]);
        put(server, &format!("refused/{file}"), &fs::read(packed.join(file)).unwrap());
    };
    let shard = fs::read(packed.join("shard-00001.g2d")).unwrap();
    let mut flipped = shard.clone();
    flipped[5_000_000] ^= 1;
    broken("shard-00001.g2d", &flipped, "not what was packed (digests differ)");
    broken("shard-00001.g2d", &shard[..8_900_000], "it has 8900000 bytes, and dataset.json says");
    broken("shard-00001.g2d", b"", "it has 0 bytes, and dataset.json says");
    broken("tokenizer.json", b"{ }", "not what was packed (digests differ)");
    let manifest = fs::read_to_string(packed.join("dataset.json")).unwrap();
    let changed = |from: &str, to: &str, words: &str| {
        let changed = manifest.replacen(from, to, 1);
        assert!(changed != manifest);
        broken("dataset.json", changed.as_bytes(), words);
    };
    broken("dataset.json", &manifest.as_bytes()[..manifest.len() / 2], "it is damaged: EOF");
    changed("\"version\":1", "\"version\":2", "this program reads g2d-shards 1");
    changed("\"records\":154", "\"records\":155", "not what was packed (digests differ)");
    changed("shard-00002", "../../../shard", "is not the name of a file");
    assert!(ask(server, "DELETE", "films/refused/shard-00002.g2d", b"").contains(" 204 "));
    refused(server, &folder, &["shard-00002.g2d: there is no such object, although dataset.json names it"]);
}

#[test]
fn addresses_and_credentials_that_cannot_be_used_are_refused() {
    let Some(server) = server("refused credentials and addresses") else { return };
    let folder = empty("credentials");
    three_shards(&folder.join("shards"), 5);
    upload(server, &folder.join("shards"), "credentials");
    ended(on(server, &folder, "inspect s3://nobodys/shards"))
        .refused(&["s3://nobodys/shards/dataset.json", "check bucket"]);
    for address in ["s3://films", "s3://", "s3:///shards"] {
        ended(on(server, &folder, &format!("inspect {address}"))).refused(&["as in s3://bucket/shards"]);
    }
    let with = |change: &dyn Fn(&mut Command), words: &[&str]| {
        let mut command = on(server, &folder, "inspect s3://films/credentials");
        change(&mut command);
        ended(command).refused(words);
    };
    let nobody = |command: &mut Command| {
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        // Where a machine in a cloud would be asked who it is, nobody is.
        command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9");
    };
    with(&nobody, &["no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"]);
    let anonymous = |command: &mut Command| {
        nobody(command);
        command.env("AWS_SKIP_SIGNATURE", "true");
    };
    with(&anonymous, &["dataset.json: the store refuses", "(Server returned non-2xx status code: 403 Forbidden)"]);
    let half = |command: &mut Command| {
        command.env_remove("AWS_SECRET_ACCESS_KEY");
    };
    with(&half, &["s3://films/credentials: ", "check the variables AWS_*"]);
    assert!(fetched(&folder).is_empty());
}
