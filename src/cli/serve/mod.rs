//! `g2d serve`: a local page where one drops a film, types a phrase, and sees what the model makes of them.
//!
//! The engine stays on the thread of the command and does one film at a time; connections live on a thread of their own
//! ([`http`]) and hand it jobs.

mod http;
mod request;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use hyper::StatusCode;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use self::http::{Limits, Refusal, Site};
use super::DeviceWord;
use super::eval::subject;
use super::store::local;
use crate::data::Dataset;
use crate::data::decode::Source;
use crate::data::prepare::{Resize, prepare};
use crate::downstream::viewer::View;
use crate::downstream::{Subject, Viewer};
use crate::error::Error;
use crate::train::{Device, Resources};

/// Serves a local page where one drops a radiograph, types a phrase, and sees heat map, masks, findings and nearest reports.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    g2d serve                                     the newest run; then open http://127.0.0.1:7860/\n  \
    g2d serve --weights runs/1 --data shards      with the nearest reports among these\n  \
    curl --data-binary @film.png 'http://127.0.0.1:7860/explain?text=pleural+effusion'\n\n\
    No film is stored. There is no password and no encryption: it listens to this machine alone unless --host says otherwise.\n\
    From elsewhere, tunnel: ssh -L 7860:127.0.0.1:7860 MACHINE. Ctrl-C ends it.")]
pub struct Serve {
    /// A run's folder, a file of weights in one, or `random`; by default the newest run in runs/.
    #[arg(long)]
    weights: Option<String>,
    /// Folder of shards made by `g2d pack`, or s3://bucket/folder, whose reports are searched and shown,
    /// to anyone who can open the page.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Port to listen on; 0: one that is free.
    #[arg(long, default_value_t = 7860)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// What to run on: auto (the best real device), cpu, cuda[:N], cuda-emulated[:sm_90a][:SCHEDULE] or wgpu[:N].
    #[arg(long, default_value = "auto")]
    device: DeviceWord,
}

impl Serve {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let cancelled = super::cancelled()?;
        let (subject, _) = subject(self.weights.as_deref())?;
        // Before minutes of reading reports.
        let (listener, address) = self.listen()?;
        let on = Resources { device: self.device.resolve(), ..Resources::default() };
        let mut viewer = self.viewer(&subject, &on, cancelled)?;
        for note in viewer.notes() {
            eprintln!("note: {note}");
        }
        if !self.host.is_loopback() {
            eprintln!(
                "warning: {} can be reached from other machines, and there is no password and no encryption: whoever reaches it can \
                 ask the model{}",
                self.host,
                if viewer.reports() > 0 { " and read reports" } else { "" }
            );
        }
        let (jobs, waiting) = mpsc::channel();
        let model = model(&subject, &viewer, on.device, &Limits::default());
        let site = Site::new(self.host, model, jobs, Limits::default());
        let server = std::thread::Builder::new()
            .name("serve".into())
            .spawn(move || http::serve(listener, site, cancelled))
            .map_err(|error| Error::Threads(format!("a thread for connections cannot be started: {error}")))?;
        println!("{} on {}\nserving at http://{address}/ (Ctrl-C ends it)", subject.name, on.device);
        while let Ok(job) = waiting.recv() {
            job.done(|film, text| answer(&mut viewer, film, text));
        }
        let ended = server.join();
        // To be stopped is how a server ends: all is done.
        cancelled.store(false, Ordering::SeqCst);
        match ended {
            Ok(ended) => {
                ended.map_err(|error| Error::Usage(format!("{address} cannot be served: {error}; start it again")))
            }
            Err(_) => Err(Error::Threads("the thread of the connections ended unexpectedly; start it again".into())),
        }
    }

    fn listen(&self) -> Result<(TcpListener, SocketAddr), Error> {
        let bound = TcpListener::bind((self.host, self.port));
        bound.and_then(|listener| listener.local_addr().map(|address| (listener, address))).map_err(|error| {
            let wanted = SocketAddr::new(self.host, self.port);
            Error::Usage(format!("cannot listen on {wanted}: {error}; choose another --port or --host"))
        })
    }

    fn viewer(&self, subject: &Subject, on: &Resources, cancelled: &AtomicBool) -> Result<Viewer, Error> {
        let data =
            self.data.as_deref().map(|data| Ok::<_, Error>(Arc::new(Dataset::open(&local(data)?)?))).transpose()?;
        let bar = ProgressBar::new(0);
        bar.set_style(super::style("reading reports {bar:32} {pos} of {len}, {eta} left"));
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let viewer = Viewer::open(subject, on, data, &progress, cancelled);
        bar.finish_and_clear();
        viewer
    }
}

/// What `GET /model` says.
fn model(subject: &Subject, viewer: &Viewer, device: Device, limits: &Limits) -> Value {
    json!({
        "name": subject.name,
        "version": env!("CARGO_PKG_VERSION"),
        "device": device.to_string(),
        "side": viewer.side(),
        "text": viewer.takes_phrases(),
        "findings": viewer.findings(),
        "reports": viewer.reports(),
        "limits": { "film_bytes": limits.film_bytes, "phrase_characters": request::PHRASE_CHARACTERS },
    })
}

/// What `POST /explain` gives for the bytes of a film and a phrase.
fn answer(viewer: &mut Viewer, film: Vec<u8>, text: Option<&str>) -> Result<Value, Refusal> {
    let looked = || {
        let unreadable = |why| Refusal::bad(format!("{why}; send a PNG, JPEG or DICOM film"));
        let film = Source::of_bytes(film).and_then(Source::decode).map_err(unreadable)?;
        let (pixels, _) = prepare(film, viewer.side(), Resize::Fit).map_err(unreadable)?;
        match viewer.view(&pixels, text) {
            Ok(view) => Ok(told(&view)),
            Err(Error::Usage(why)) => Err(Refusal::bad(why)),
            Err(error) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    };
    // A fault of ours with one film is not to end the looking at others.
    catch_unwind(AssertUnwindSafe(looked)).unwrap_or_else(|_| {
        let why = "this film cannot be looked at: the program has a fault, which it wrote to its standard error; try another film";
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why.into()))
    })
}

/// A view as JSON; pixels are bytes [side, side], 255 for 1, in base64.
fn told(view: &View) -> Value {
    let explanation = &view.explanation;
    let stages = explanation.stages.iter().map(|stage| {
        let bytes: Vec<u8> = stage.pixels.iter().map(|pixel| (pixel * 255.0).round() as u8).collect();
        json!({ "name": stage.name, "pixels": BASE64_STANDARD.encode(bytes) })
    });
    json!({
        "side": explanation.side,
        "stages": stages.collect::<Vec<_>>(),
        "numbers": explanation.numbers,
        "findings": view.findings,
        "reports": view.reports,
    })
}
