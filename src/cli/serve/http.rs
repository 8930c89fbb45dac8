//! Connections: HTTP/1.1 by hyper, with a limit to everything a client could spend. One request a connection.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::request;

/// What a client may spend.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Bytes of a film's file.
    pub film_bytes: usize,
    /// Connections at once; others wait to be taken.
    pub connections: usize,
    /// Films at once: one that is worked on, the others wait with their bytes in memory.
    pub films: usize,
    /// Until all headers are there.
    pub headers: Duration,
    /// Until the film is there.
    pub body: Duration,
    /// Until the engine has answered.
    pub answer: Duration,
    /// Of a whole connection, reading of the answer included.
    pub connection: Duration,
    /// What is under way may take so long when the server stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            film_bytes: 64 << 20,
            connections: 64,
            films: 8,
            headers: seconds(5),
            body: seconds(60),
            answer: seconds(120),
            connection: seconds(240),
            grace: seconds(5),
        }
    }
}

/// Bytes of a request's line and headers.
const HEADER_BYTES: usize = 64 << 10;
/// How often it is looked whether to stop.
const TICK: Duration = Duration::from_millis(100);

const JSON: &str = "application/json";

/// Where a page lies, its type, and its text.
const PAGES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page.js")),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// With every answer: nothing is loaded from elsewhere, put into other pages, guessed or kept.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Why a request is not met: one sentence.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    why: String,
    header: Option<(&'static str, &'static str)>,
}

impl Refusal {
    pub fn new(status: StatusCode, why: String) -> Self {
        Self { status, why, header: None }
    }

    /// The request is wrong.
    pub fn bad(why: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// The request is not for this site.
    pub fn forbidden(why: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, why)
    }

    fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the film has more than {} MiB; send a smaller file", limit >> 20),
        )
    }
}

type Answered = Result<Vec<u8>, Refusal>;

/// A film that waits for the engine.
pub(super) struct Job {
    film: Vec<u8>,
    text: Option<String>,
    reply: oneshot::Sender<Answered>,
    _place: OwnedSemaphorePermit,
}

impl Job {
    /// Has it answered, unless nobody waits any more.
    pub fn done(self, answer: impl FnOnce(Vec<u8>, Option<&str>) -> Result<Value, Refusal>) {
        if !self.reply.is_closed() {
            // The client may go away meanwhile.
            let _ = self.reply.send(answer(self.film, self.text.as_deref()).map(|json| json.to_string().into_bytes()));
        }
    }
}

/// What is served.
pub(super) struct Site {
    listens: IpAddr,
    model: Value,
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    limits: Limits,
}

impl Site {
    /// A site on an address, which says `model` of itself and hands films to the other end of `jobs`.
    pub fn new(listens: IpAddr, model: Value, jobs: mpsc::Sender<Job>, limits: Limits) -> Self {
        Self { listens, model, jobs, places: Arc::new(Semaphore::new(limits.films)), limits }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        let answered = self.route(&head, &mut body).await;
        let limit = self.limits.film_bytes;
        if answered.is_err() && body.size_hint().lower() <= limit as u64 {
            // What is still being sent is read and forgotten: a client whose connection is closed meanwhile may lose the answer.
            let _ = timeout(self.limits.headers, read(&mut body, limit, |_| ())).await;
        }
        let (status, kind, body, more) = match answered {
            Ok((kind, body)) => (StatusCode::OK, kind, body, None),
            Err(Refusal { status, why, header }) => (status, JSON, json!({ "error": why }).to_string().into(), header),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        for (name, value) in HEADERS.iter().copied().chain([("content-type", kind)]).chain(more) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn route(&self, head: &Parts, body: &mut Incoming) -> Result<(&'static str, Bytes), Refusal> {
        request::meant_for(head, self.listens)?;
        let path = head.uri.path();
        let page = PAGES.iter().find(|page| page.0 == path);
        let allowed = match (page, path) {
            (None, "/explain") => "POST",
            (Some(_), _) | (None, "/health" | "/model") => "GET, HEAD",
            _ => {
                let why = "there is no such page; there are /, /explain, /model and /health".into();
                return Err(Refusal::new(StatusCode::NOT_FOUND, why));
            }
        };
        if !allowed.split(", ").any(|method| head.method == method) {
            let why = format!("this page takes {allowed}");
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why).with("allow", allowed));
        }
        match (page, path) {
            (Some((_, kind, text)), _) => Ok((kind, Bytes::from_static(text.as_bytes()))),
            (None, "/health") => Ok((JSON, json!({ "status": "ok" }).to_string().into())),
            (None, "/model") => Ok((JSON, self.model.to_string().into())),
            (None, _) => Ok((JSON, self.explain(head, body).await?.into())),
        }
    }

    async fn explain(&self, head: &Parts, body: &mut Incoming) -> Answered {
        let text = request::phrase(&head.uri)?;
        let limit = self.limits.film_bytes;
        if body.size_hint().lower() > limit as u64 {
            return Err(Refusal::too_large(limit));
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            let why = format!("{} films are waiting already; try again in a few seconds", self.limits.films);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).with("retry-after", "5")
        })?;
        let mut film = Vec::new();
        let received = timeout(self.limits.body, read(body, limit, |part| film.extend_from_slice(part))).await;
        received.map_err(|_| {
            let why = format!("the film did not arrive within {} s; send it again", self.limits.body.as_secs());
            Refusal::new(StatusCode::REQUEST_TIMEOUT, why)
        })??;
        if film.is_empty() {
            return Err(Refusal::bad("there is no film; send its bytes as the body of the request".into()));
        }
        let (reply, answered) = oneshot::channel();
        let stopped = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping; start it again".into());
        self.jobs.send(Job { film, text, reply, _place: place }).map_err(|_| stopped())?;
        match timeout(self.limits.answer, answered).await {
            Ok(answered) => answered.map_err(|_| stopped())?,
            Err(_) => {
                let why = format!("the model did not answer within {} s; try again", self.limits.answer.as_secs());
                Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, why))
            }
        }
    }
}

/// Reads a body of at most `limit` bytes, part by part.
async fn read(body: &mut Incoming, limit: usize, mut take: impl FnMut(&[u8])) -> Result<(), Refusal> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let broken = |_| Refusal::bad("the request ends before its film does; send it again".into());
        let frame = frame.map_err(broken)?;
        let Some(part) = frame.data_ref() else { continue };
        length += part.len();
        if length > limit {
            return Err(Refusal::too_large(limit));
        }
        take(part);
    }
    Ok(())
}

/// Serves until `stop` becomes true, and what is under way then.
///
/// # Errors
/// If the system gives no sockets.
pub(super) fn serve(listener: std::net::TcpListener, site: Site, stop: &AtomicBool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(listener, Arc::new(site), stop))
}

async fn accept(listener: std::net::TcpListener, site: Arc<Site>, stop: &AtomicBool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let free = Arc::new(Semaphore::new(site.limits.connections));
    let (running, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        while connections.try_join_next().is_some() {}
        let Ok(Ok(permit)) = timeout(TICK, free.clone().acquire_owned()).await else { continue };
        match timeout(TICK, listener.accept()).await {
            Ok(Ok((stream, _))) => {
                connections.spawn(connection(stream, site.clone(), stopping.clone(), permit));
            }
            // Out of sockets, or one that went away: others may be free soon.
            Ok(Err(_)) => sleep(TICK).await,
            Err(_) => {}
        }
    }
    drop((listener, running));
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Answers the request of a connection; `stopping` has an end when the server stops.
async fn connection(
    stream: TcpStream,
    site: Arc<Site>,
    mut stopping: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    let limits = site.limits.clone();
    let service = service_fn(move |request| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(site.respond(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.headers).max_buf_size(HEADER_BYTES).keep_alive(false);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    // However a connection ends, it is the client's own affair.
    let stop = tokio::select! {
        _ = serving.as_mut() => false,
        () = sleep(limits.connection) => false,
        _ = stopping.changed() => true,
    };
    if stop {
        serving.as_mut().graceful_shutdown();
        let _ = timeout(limits.grace, serving).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Mutex;
    use std::thread;
    use std::time::Instant;

    /// A site that runs while `with` does; its engine waits for what it is sent and answers with the film's length.
    fn running(limits: Limits, with: impl FnOnce(SocketAddr, mpsc::Sender<()>, &AtomicBool)) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (jobs, waiting) = mpsc::channel::<Job>();
        let site = Site::new(address.ip(), json!({ "name": "a model" }), jobs, limits);
        let (go, gone) = mpsc::channel();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let server = scope.spawn(|| serve(listener, site, &stop));
            scope.spawn(move || {
                while let Ok(job) = waiting.recv() {
                    let _ = gone.recv();
                    job.done(|film, text| Ok(json!({ "bytes": film.len(), "text": text })));
                }
            });
            // Also where `with` fails: a server that runs on would keep the scope.
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| with(address, go, &stop))).err();
            stop.store(true, Ordering::Relaxed);
            server.join().unwrap().unwrap();
            if let Some(failed) = failed {
                std::panic::resume_unwind(failed);
            }
        });
    }

    fn sent(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn received(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn post(query: &str, film: &str) -> String {
        format!("POST /explain{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{film}", film.len())
    }

    fn short() -> Limits {
        let brief = Duration::from_millis(300);
        Limits { film_bytes: 1 << 20, films: 2, headers: brief, body: brief, grace: brief, ..Limits::default() }
    }

    #[track_caller]
    fn is(answer: &str, status: u16, words: &[&str]) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        for word in words {
            assert!(answer.contains(word), "{word:?} is not in {answer}");
        }
    }

    #[test]
    fn films_wait_in_a_queue_that_has_an_end() {
        running(short(), |address, go, _| {
            let [one, two] = ["a", "bb"].map(|film| sent(address, &post("?text=x", film)));
            thread::sleep(Duration::from_millis(300)); // until both are there
            let refused = received(sent(address, &post("", "ccc")));
            is(&refused, 503, &["retry-after: 5", "2 films are waiting already"]);
            (0..8).for_each(|_| go.send(()).unwrap());
            is(&received(one), 200, &[r#"{"bytes":1,"text":"x"}"#]);
            is(&received(two), 200, &[r#"{"bytes":2,"text":"x"}"#]);
            is(&received(sent(address, &post("", "cccc"))), 200, &[r#"{"bytes":4,"text":null}"#]);
        });
    }

    #[test]
    fn slow_clients_are_left() {
        running(short(), |address, _, _| {
            let start = Instant::now();
            let silent = sent(address, "");
            let headers = sent(address, "GET / HTTP/1.1\r\nHost: local");
            let body = sent(address, &post("", "abc").replace("Length: 3", "Length: 4"));
            is(&received(body), 408, &["the film did not arrive within 0 s"]);
            assert_eq!(received(silent), "");
            let cut = received(headers);
            assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 408"), "{cut}");
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        });
    }

    #[test]
    fn an_engine_that_takes_too_long_is_not_waited_for() {
        let limits = Limits { answer: Duration::from_millis(200), ..short() };
        running(limits, |address, go, _| {
            is(&received(sent(address, &post("", "a"))), 504, &["did not answer within 0 s"]);
            go.send(()).unwrap();
            go.send(()).unwrap();
            is(&received(sent(address, &post("", "bb"))), 200, &[r#""bytes":2"#]);
        });
    }

    #[test]
    fn connections_have_a_number_and_an_end() {
        let limits = Limits {
            connections: 2,
            connection: Duration::from_millis(400),
            headers: Duration::from_secs(9),
            ..short()
        };
        running(limits, |address, _, _| {
            let held = Mutex::new([sent(address, ""), sent(address, "")]);
            let start = Instant::now();
            is(&received(sent(address, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")), 200, &["ok"]);
            assert!(
                start.elapsed() >= Duration::from_millis(200),
                "a third was taken beside two: {:?}",
                start.elapsed()
            );
            drop(held);
        });
    }

    #[test]
    fn what_is_too_large_is_refused_before_and_while_it_is_read() {
        running(short(), |address, _, _| {
            let head = "POST /explain HTTP/1.1\r\nHost: localhost\r\n";
            is(
                &received(sent(address, &format!("{head}Content-Length: 99999999999\r\n\r\n"))),
                413,
                &["more than 1 MiB"],
            );
            let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
            let mut stream = sent(address, &format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
            (0..17).for_each(|_| stream.write_all(chunk.as_bytes()).unwrap());
            stream.write_all(b"0\r\n\r\n").unwrap();
            is(&received(stream), 413, &["more than 1 MiB"]);
        });
    }

    #[test]
    fn what_is_under_way_ends_before_the_server() {
        running(Limits { grace: Duration::from_secs(20), ..short() }, |address, go, stop| {
            let (idle, asked) = (sent(address, ""), sent(address, &post("", "abc")));
            thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(300));
            go.send(()).unwrap();
            is(&received(asked), 200, &[r#""bytes":3"#]);
            assert_eq!(received(idle), "");
            assert!(TcpStream::connect(address).is_err(), "nobody is taken any more");
        });
    }
}
