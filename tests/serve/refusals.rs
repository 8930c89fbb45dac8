//! What is refused, and that the server goes on behind it.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;

use g2d::Session;
use g2d::train::Resources;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::common::command::{empty, g2d};
use super::common::films::Png;
use super::{Server, film, world};

#[test]
fn what_is_no_film_is_refused_in_a_sentence() {
    let server = Server::start("films", "--weights run");
    let film = film();
    server.explain("", b"").refused(400, &["there is no film"]);
    server.explain("", b"GIF89a, or anything").refused(400, &["neither PNG, JPEG nor DICOM", "send a"]);
    server.explain("", &film[..film.len() / 2]).refused(400, &["damaged"]);
    let vast = Png { width: 16384, height: 16384, bits: 16, colour: 6, ..Png::gray(1, 1, 8, &[0, 0]) }.bytes();
    server.explain("", &vast).refused(400, &["16384 x 16384", "limit"]);
    let blank = Png::gray(9, 9, 8, &[0; 90]).bytes();
    server.explain("", &blank).refused(400, &["blank"]);
    let head = format!("POST /explain HTTP/1.1\r\nHost: {}\r\nContent-Length: 99999999999999\r\n\r\n", server.address);
    server.ask(head.as_bytes()).refused(413, &["64 MiB"]);
    server.explain("?text=effusion", &film).well();
    server.stop();
}

/// A film that the weights make no numbers of is no fault of who sent it.
#[test]
fn weights_that_give_no_numbers_are_the_server_s_fault() {
    let folder = empty("diverged");
    Session::open(&world().join("run"), &Resources::default(), 1).unwrap().save(&folder).unwrap();
    let path = folder.join("weights.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let first = "img_model.encoder.conv1.weight"; // weights that are not finite are not even loaded, but a sum of these is not
    let largest = f32::MAX.to_le_bytes().repeat(file.tensor(first).unwrap().shape().iter().product());
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let shape = view.shape().to_vec();
        let view = if name == first { TensorView::new(Dtype::F32, shape, &largest).unwrap() } else { view };
        (name, view)
    });
    fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let server = Server::start("diverged", &format!("--weights {}", folder.display()));
    for query in ["", "?text=effusion"] {
        server.explain(query, &film()).refused(500, &["not finite", "these weights cannot be used"]);
    }
    server.explain("?text=++", b"GIF89a").refused(400, &["neither PNG"]);
    server.stop();
}

#[test]
fn phrases_have_limits() {
    let server = Server::start("phrases", "--weights run");
    let film = film();
    for bad in ["%", "%zz", "%ff%fe", "effusion&text=again"] {
        server.explain(&format!("?text={bad}"), &film).refused(400, &["as in ?text="]);
    }
    server.explain("?image=/etc/passwd", &film).refused(400, &["`text` once and nothing else"]);
    server.explain(&format!("?text={}", "a".repeat(2000)), &film).refused(400, &["2000 characters", "1000"]);
    server.explain(&format!("?text={}", "a+".repeat(200)), &film).refused(400, &["tokens", "shorten"]);
    // Beyond what a request's line may have there is no sentence.
    let long = server.asked(&server.explaining(&format!("?text={}", "a".repeat(100_000)), &film));
    assert!(matches!(long.map(|answer| answer.status), Some(414 | 431)));
    server.explain("?text=++", &film).well();
    server.stop();
}

#[test]
fn only_known_pages_are_served_and_no_path_is_opened() {
    let server = Server::start("pages", "--weights run");
    for path in [
        "/Cargo.toml",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.css/../../mod.rs",
        "/explain/",
        "/page.js%00",
        "/favicon.ico",
    ] {
        server.get(path).refused(404, &["no such page", "/explain"]);
    }
    for (path, kind) in
        [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/health", "json")]
    {
        let answer = server.get(path);
        assert!(answer.status == 200 && answer.head.contains(kind) && !answer.body.is_empty(), "{answer:?}");
    }
    let wrong = server.ask(format!("GET /explain HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes());
    wrong.refused(405, &["POST"]);
    assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
    let wrong = server.ask(format!("OPTIONS / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes());
    wrong.refused(405, &["GET, HEAD"]);
    let head = server.ask(format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).as_bytes());
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    server.stop();
}

#[test]
fn every_answer_shuts_other_sites_out() {
    let server = Server::start("sites", "--weights run");
    let answers = [
        server.get("/"),
        server.get("/nothing"),
        server.explain("", b"garbage"),
        server.ask(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
    ];
    for answer in answers {
        for header in [
            "content-security-policy: default-src 'none'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.head.contains(header), "{header:?} is not in {}", answer.head);
        }
        assert!(!answer.head.contains("access-control") && !answer.head.contains("unsafe"), "{}", answer.head);
    }
    let port = server.address.port();
    for host in ["evil.example", "localhost.evil.example", "192.0.2.7", "127.0.0.1.evil.example", ""] {
        let request = format!("GET /model HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        server.ask(request.as_bytes()).refused(403, &["another site"]);
    }
    server.ask(b"GET / HTTP/1.1\r\n\r\n").refused(400, &["Host"]);
    let own = format!("GET /model HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n\r\n");
    assert_eq!(server.ask(own.as_bytes()).status, 200);
    let foreign = format!("POST /explain HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://evil.example\r\n\r\n");
    server.ask(foreign.as_bytes()).refused(403, &["page of another site"]);
    server.stop();
}

#[test]
fn many_at_once_and_those_who_leave() {
    let server = Server::start("many", "--weights run");
    let film = film();
    let wanted = server.explain("", &film).well();
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = || server.explain("", &film);
        let threads: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (done, waiting): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert!(!done.is_empty());
    done.iter().for_each(|answer| assert_eq!(answer.well(), wanted));
    for answer in &waiting {
        answer.refused(503, &["waiting already", "try again"]);
        assert!(answer.head.contains("retry-after: 5"), "{}", answer.head);
    }
    // Half a request, or all of it, and gone.
    let whole = server.explaining("?text=effusion", &film);
    for length in [1, 20, whole.len() / 2, whole.len() - 1, whole.len()] {
        TcpStream::connect(server.address).unwrap().write_all(&whole[..length]).unwrap();
    }
    // Places of those who left are free again, at once or as soon as their films are done.
    let start = std::time::Instant::now();
    while server.explain("", &film).status != 200 {
        assert!(start.elapsed().as_secs() < 60, "no place becomes free");
    }
    server.stop();
}

#[test]
fn the_command_says_what_keeps_it_from_serving_and_what_is_open_to_others() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    g2d(world(), &format!("serve --weights run --device cpu --port {port}")).refused(&["cannot listen", "--port"]);
    g2d(world(), "serve --weights nowhere --port 0").refused(&["nowhere"]);
    g2d(world(), "serve --weights run --device cpu --port 0 --data drawn").refused(&["dataset.json"]);
    let alone = Server::start("alone", "--weights run");
    assert!(!alone.errors().contains("warning"), "{}", alone.errors());
    let open = Server::start("open", "--weights run --data shards --host 0.0.0.0");
    assert!(open.errors().contains("no password") && open.errors().contains("read reports"), "{}", open.errors());
    assert_eq!(open.get("/health").status, 200);
    open.ask(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").refused(403, &["another site"]);
    open.stop();
}
