//! Packed data sets in an object store (S3 and what speaks like it): fetched whole into a folder of this machine and read there.
//!
//! Every epoch reads every shard, in an order of its own, so shards are mapped from a disk and not streamed. The folder has the name
//! of the manifest's digest: other data have another folder. A file has its name there once its digest was compared, and
//! `dataset.json` comes last, so that what was not fetched to its end cannot be opened, and the next call goes on with it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStoreExt, RetryConfig};
use rayon::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::dataset::{DIFFERS, MANIFEST, MANIFEST_BYTES, Manifest, TOKENIZER, write_beside};
use super::error::{Error, FETCH_LOCK};
use super::shard::Shard;

/// Files that are fetched at the same time.
const AT_ONCE: usize = 4;
/// Bytes of one request.
const PART: u64 = 8 << 20;
/// A server that is silent for so long does not answer; what failed is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Whose presence says where credentials come from; without any, the machine's own are asked for.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];

/// Fetches the packed data set at `url`, `s3://bucket/folder`, into a folder below `cache`, unless it is there, and returns that
/// folder. Credentials, region and endpoint are those of the usual variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
/// `AWS_ENDPOINT_URL`). `progress` is told how many bytes of the shards are there and how many there will be.
///
/// # Errors
/// If the store cannot be reached or refuses, an object is not there or not what was packed, the folder cannot be written, or
/// `cancelled`. What was fetched until then is kept for the next call.
pub fn fetch(
    url: &str,
    cache: &Path,
    progress: &(dyn Fn(u64, u64) + Sync),
    cancelled: &AtomicBool,
) -> Result<PathBuf, Error> {
    let bucket = Bucket::open(url)?;
    let json = bucket.whole(MANIFEST, MANIFEST_BYTES)?;
    let manifest = Manifest::parse(&json).map_err(|what| bucket.fault(MANIFEST, format!("{what}; {AGAIN}")))?;
    let folder = cache.join(blake3::hash(&json).to_hex().as_str());
    let fetching = Fetching {
        total: manifest.shards.iter().map(|entry| entry.bytes).sum(),
        done: AtomicU64::new(0),
        bucket,
        manifest,
        folder,
        progress,
        cancelled,
    };
    if !fetching.is_whole() {
        fetching.run(&json)?;
    }
    Ok(fetching.folder)
}

const AGAIN: &str = "copy the packed folder there again, dataset.json last";

/// A folder of objects.
struct Bucket {
    url: String,
    folder: Key,
    store: AmazonS3,
    runtime: Runtime,
}

impl Bucket {
    fn open(url: &str) -> Result<Self, Error> {
        let url = url.trim_end_matches('/').to_owned();
        let fault = |what: String| Error::Store { url: url.clone(), what };
        let (name, folder) = url.strip_prefix("s3://").unwrap_or_default().split_once('/').unwrap_or_default();
        if name.is_empty() || folder.is_empty() {
            return Err(fault("an address has a bucket and a folder in it, as in s3://bucket/shards".into()));
        }
        let folder = Key::parse(folder).map_err(|error| fault(format!("{error}; check the address")))?;
        // Whoever installed another before may keep it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"].into_iter().filter_map(|name| std::env::var(name).ok());
        let retry = RetryConfig { max_retries: 6, retry_timeout: PATIENCE, ..RetryConfig::default() };
        let store = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_retry(retry)
            // A slow line may take its time, one that is silent may not.
            .with_client_options(ClientOptions::new().with_timeout_disabled().with_read_timeout(PATIENCE))
            // Who names an endpoint without TLS means it.
            .with_allow_http(plain.into_iter().any(|endpoint| endpoint.starts_with("http://")))
            .build()
            .map_err(|error| fault(format!("{}; check the variables AWS_*", innermost(&error))))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| fault(format!("a connection cannot be made: {error}")))?;
        Ok(Self { folder, store, runtime, url })
    }

    fn fault(&self, file: &str, what: impl Into<String>) -> Error {
        Error::Store { url: format!("{}/{file}", self.url), what: what.into() }
    }

    /// What to do about what the store answered.
    fn refused(&self, file: &str, error: &object_store::Error) -> Error {
        use object_store::Error as Answer;
        let (why, named) = (innermost(error), CREDENTIALS.iter().any(|name| std::env::var_os(name).is_some()));
        let what = match error {
            Answer::NotFound { .. } if file == MANIFEST => {
                "there is no such object: check bucket and folder, or copy the packed folder there, dataset.json last"
                    .into()
            }
            Answer::NotFound { .. } => format!("there is no such object, although {MANIFEST} names it; {AGAIN}"),
            _ if !named => format!(
                "no credentials were found ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or, for a public bucket, \
                 AWS_SKIP_SIGNATURE=true"
            ),
            Answer::PermissionDenied { .. } | Answer::Unauthenticated { .. } => {
                format!("the store refuses these credentials ({why}); check AWS_ACCESS_KEY_ID and what it may read")
            }
            _ => format!(
                "the store does not answer as it should ({why}); check AWS_ENDPOINT_URL and AWS_REGION, or try again"
            ),
        };
        self.fault(file, what)
    }

    fn key(&self, file: &str) -> Key {
        self.folder.clone().join(file)
    }

    /// A file of at most `limit` bytes.
    fn whole(&self, file: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let read = async {
            let found = self.store.get(&self.key(file)).await?;
            match found.meta.size {
                bytes if bytes > limit => Ok::<_, object_store::Error>(Err(bytes)),
                _ => Ok(Ok(found.bytes().await?)),
            }
        };
        match self.runtime.block_on(read).map_err(|error| self.refused(file, &error))? {
            Ok(bytes) => Ok(bytes.into()),
            Err(bytes) => Err(self.fault(file, format!("{bytes} bytes are too many for this file; {AGAIN}"))),
        }
    }

    /// How many bytes a file has.
    fn length(&self, file: &str) -> Result<u64, Error> {
        let key = self.key(file);
        let asked = self.store.head(&key);
        Ok(self.runtime.block_on(asked).map_err(|error| self.refused(file, &error))?.size)
    }

    /// Bytes `from..to` of a file, or fewer if it ends before.
    fn part(&self, file: &str, from: u64, to: u64) -> Result<Vec<u8>, Error> {
        let key = self.key(file);
        let read = self.store.get_range(&key, from..to);
        Ok(self.runtime.block_on(read).map_err(|error| self.refused(file, &error))?.into())
    }
}

/// What an error says in its innermost place, up to the answer's text.
fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let said = cause.to_string();
    let said = said.split(['<', '\n']).next().unwrap_or_default().trim_end_matches([':', ' ']);
    said.chars().take(200).collect()
}

/// A data set on its way into a folder.
struct Fetching<'a> {
    bucket: Bucket,
    manifest: Manifest,
    folder: PathBuf,
    /// Bytes of shards that are there,
    done: AtomicU64,
    /// and that there will be.
    total: u64,
    progress: &'a (dyn Fn(u64, u64) + Sync),
    cancelled: &'a AtomicBool,
}

impl Fetching<'_> {
    fn has(&self, file: &str, bytes: u64) -> bool {
        self.folder.join(file).metadata().is_ok_and(|found| found.len() == bytes)
    }

    /// Whether all files are there; they were compared when they were fetched.
    fn is_whole(&self) -> bool {
        let shards = self.manifest.shards.iter().all(|entry| self.has(&entry.file, entry.bytes));
        shards && [TOKENIZER, MANIFEST].iter().all(|file| self.folder.join(file).is_file())
    }

    fn run(&self, json: &[u8]) -> Result<(), Error> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
        let _lock = self.lock()?;
        let tokenizer = self.bucket.whole(TOKENIZER, MANIFEST_BYTES)?;
        if blake3::hash(&tokenizer).to_hex().as_str() != self.manifest.tokenizer_blake3 {
            return Err(self.bucket.fault(TOKENIZER, format!("{DIFFERS}; {AGAIN}")));
        }
        write_beside(&self.folder.join(TOKENIZER), &tokenizer)?;
        let pool = crate::base::threads::pool(AT_ONCE).map_err(Error::Option)?;
        let shards = self.manifest.shards.par_iter().with_max_len(1);
        pool.install(|| shards.try_for_each(|entry| self.shard(&entry.file, entry.bytes, &entry.blake3)))?;
        write_beside(&self.folder.join(MANIFEST), json)
    }

    /// Waits while another process fetches into the folder.
    fn lock(&self) -> Result<File, Error> {
        let path = self.folder.join(FETCH_LOCK);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("write", &path))?;
        // A file system that has no locks does not stop us.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            self.go_on()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(file)
    }

    fn go_on(&self) -> Result<(), Error> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(Error::Cancelled("what was fetched is kept, the same command goes on from here")),
            false => Ok(()),
        }
    }

    fn shard(&self, file: &str, bytes: u64, digest: &str) -> Result<(), Error> {
        let path = self.folder.join(file);
        if self.has(file, bytes) {
            self.count(bytes);
            return Ok(());
        }
        let there = self.bucket.length(file)?;
        if there != bytes {
            let what = format!("it has {there} bytes, and {MANIFEST} says {bytes}; {AGAIN}");
            return Err(self.bucket.fault(file, what));
        }
        let partial = path.with_extension("partial");
        self.download(file, bytes, &partial)?;
        // What is no shard at all has no digest.
        if !Shard::open(&partial, usize::MAX).is_ok_and(|shard| shard.digest() == digest) {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
            // Part of it may have been here from before.
            return Err(self.bucket.fault(file, format!("{DIFFERS}; try once more, then {AGAIN}")));
        }
        fs::rename(&partial, &path).map_err(Error::io("write", &path))
    }

    /// Appends what is not there yet.
    fn download(&self, file: &str, bytes: u64, partial: &Path) -> Result<(), Error> {
        let failed = |error| Error::io("write", partial)(error);
        let mut written = OpenOptions::new().create(true).append(true).open(partial).map_err(failed)?;
        let mut at = written.metadata().map_err(failed)?.len();
        self.count(at.min(bytes));
        while at < bytes {
            self.go_on()?;
            let to = bytes.min(at + PART);
            let part = self.bucket.part(file, at, to)?;
            if part.len() as u64 != to - at {
                let what = format!("it ends after {} bytes of {bytes}; {AGAIN}", at + part.len() as u64);
                return Err(self.bucket.fault(file, what));
            }
            written.write_all(&part).map_err(failed)?;
            self.count(to - at);
            at = to;
        }
        written.sync_all().map_err(failed)
    }

    fn count(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(done, self.total);
    }
}
