//! Servers that imitate etcd with faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Etcd;
use liveprops::{ErrorKind, Properties, Source};

use crate::SECOND;
use crate::scenario::{SOON, is_stale, is_up, wait_until};

/// The fate of a connection after an answer.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// The connection accepts the next request.
    Keep,
    /// The server closes the connection silently.
    Close,
    /// The connection stays open without further bytes.
    Hold,
    /// The server repeats this endlessly.
    Repeat(Vec<u8>),
}

type Answer = Box<dyn FnMut(&Request) -> (Vec<u8>, Then) + Send>;

/// A received request.
pub(crate) struct Request {
    pub(crate) path: String,
    /// The number of earlier requests on the same connection.
    before: usize,
}

/// A server with the answers of the test.
pub(crate) struct Standin {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<Mutex<Vec<Instant>>>,
}

impl Standin {
    pub(crate) fn start(answer: impl FnMut(&Request) -> (Vec<u8>, Then) + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let requests = Arc::default();
        let standin = Self {
            port,
            answer: Arc::clone(&answer),
            requests: Arc::clone(&requests),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, requests) = (Arc::clone(&answer), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &answer, &requests));
            }
        });
        standin
    }

    fn set(&self, answer: impl FnMut(&Request) -> (Vec<u8>, Then) + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the number of requests since a time.
    fn since(&self, moment: Instant) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|at| **at >= moment).count()
    }
}

fn serve(stream: TcpStream, answer: &Mutex<Answer>, requests: &Mutex<Vec<Instant>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for before in 0.. {
        let Some(path) = read_request(&mut reader) else {
            return;
        };
        requests.lock().unwrap().push(Instant::now());
        let request = Request { path, before };
        let (bytes, then) = (answer.lock().unwrap())(&request);
        if writer.write_all(&bytes).is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return,
            Then::Repeat(bytes) => {
                while writer.write_all(&bytes).is_ok() {}
                return;
            }
            // Waits until the client closes the connection.
            Then::Hold => {
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
        }
    }
}

/// Reads a request and returns its path.
fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let mut length = 0;
    let mut path = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    path
}

pub(crate) fn header(revision: u64) -> String {
    format!("\"header\":{{\"cluster_id\":\"1\",\"raft_term\":\"1\",\"revision\":\"{revision}\"}}")
}

/// Returns a key of the prefix `app` in the format of an answer.
pub(crate) fn item(name: &str, value: &str, revision: u64) -> String {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let (key, value) = (encode(&format!("app/{name}")), encode(value));
    format!("{{\"key\":\"{key}\",\"value\":\"{value}\",\"mod_revision\":\"{revision}\"}}")
}

/// Returns a complete answer.
pub(crate) fn whole(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Returns the answer to a range read.
pub(crate) fn range(revision: u64, value: &str) -> Vec<u8> {
    let (header, item) = (header(revision), item("n", value, revision));
    whole(format!("{{{header},\"kvs\":[{item}],\"count\":\"1\"}}"))
}

/// Returns the beginning of a stream, with some lines after the first.
pub(crate) fn stream(revision: u64, lines: &[String]) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let created = format!("{{\"result\":{{{},\"created\":true}}}}", header(revision));
    for line in [&created].into_iter().chain(lines) {
        bytes.extend(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).bytes());
    }
    bytes
}

/// The end of a stream.
const END: &[u8] = b"0\r\n\r\n";

fn follow(addresses: &[&Standin]) -> Properties {
    let addresses = addresses.iter().map(|it| it.url());
    let etcd = Etcd::prefix("app").addresses(addresses);
    Properties::builder().source(etcd).build().unwrap()
}

pub(crate) fn n(props: &Properties) -> u64 {
    props.get("n").unwrap()
}

/// Asserts that the requests to failing servers become less frequent.
#[track_caller]
fn is_polled_less_and_less_often(servers: &[&Standin], what: &str) {
    let props = follow(servers);
    let begun = Instant::now();
    let mut was_stale = false;
    let mut wait = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            was_stale |= is_stale(&props);
            std::thread::sleep(Duration::from_millis(5));
        }
        Instant::now()
    };
    let half = wait(5 * SECOND);
    let end = wait(5 * SECOND);
    let count = |since| servers.iter().map(|it| it.since(since)).sum::<usize>();
    let (all, late) = (count(begun), count(half));
    println!(
        "{what}: {all} requests in {:?}, {late} since {:?}",
        end - begun,
        end - half
    );
    assert!(all <= 50, "{what}: {all} requests in 10 s");
    assert!(
        2 * late < all,
        "{what}: {all} requests, and {late} in the second half"
    );
    assert!(was_stale, "{what}: health never reports it");
    // The program follows a recovered server at once.
    for server in servers {
        server.set(|request| match request.path.as_str() {
            "/v3/kv/range" => (range(1 << 40, "7"), Then::Keep),
            _ => (stream(1 << 40, &[]), Then::Hold),
        });
    }
    wait_until(SOON, "the value", || n(&props) == 7);
    wait_until(SOON, "the source is up", || is_up(&props));
}

#[test]
fn members_that_end_each_stream_at_once_are_contacted_less_and_less_often() {
    let ends = || {
        Standin::start(|request| match request.path.as_str() {
            "/v3/kv/range" => (range(5, "0"), Then::Keep),
            _ => ([stream(5, &[]), END.to_vec()].concat(), Then::Keep),
        })
    };
    let (one, two) = (ends(), ends());
    is_polled_less_and_less_often(&[&one, &two], "two that end their streams");
    is_polled_less_and_less_often(&[&ends()], "one that ends its streams");
    let cuts = || {
        Standin::start(|request| match request.path.as_str() {
            "/v3/kv/range" => (range(5, "0"), Then::Keep),
            _ => (stream(5, &[]), Then::Close),
        })
    };
    let (one, two) = (cuts(), cuts());
    is_polled_less_and_less_often(&[&one, &two], "two that cut their streams");
}

#[test]
fn empty_answers_that_come_at_once_are_requested_less_and_less_often() {
    let compacted = "{\"result\":{\"canceled\":true,\"compact_revision\":\"9\"}}".to_owned();
    // The revision of the nth read and stream, and the content of the stream.
    type Case = (&'static str, fn(u64) -> u64, fn(u64) -> u64, Vec<String>);
    let cases: [Case; 5] = [
        ("a revision of zero", |_| 5, |_| 0, vec![]),
        ("a revision that falls", |n| 500 - n, |n| 499 - n, vec![]),
        ("no revision at all", |_| 0, |_| 0, vec![compacted.clone()]),
        (
            "a revision that stays",
            |_| 5,
            |_| 5,
            vec![compacted.clone()],
        ),
        (
            "a revision that grows",
            |n| 20_000 * n,
            |n| 20_000 * n,
            vec![compacted],
        ),
    ];
    let run = |(what, listed, begun, lines): Case| {
        let mut count = 0;
        let server = Standin::start(move |request| {
            count += 1;
            match request.path.as_str() {
                "/v3/kv/range" => (range(listed(count), "0"), Then::Keep),
                _ => (stream(begun(count), &lines), Then::Hold),
            }
        });
        is_polled_less_and_less_often(&[&server], what);
    };
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || run(case));
        }
    });
}

/// A server closes each connection silently when the second request arrives. The client repeats a
/// request without an answer, since it had no effect.
#[test]
fn a_connection_that_is_closed_after_an_answer_is_no_failure() {
    let last = Arc::new(AtomicU64::new(5));
    let now = Arc::clone(&last);
    let server = Standin::start(move |request| match request.path.as_str() {
        _ if request.before > 0 => (Vec::new(), Then::Close),
        "/v3/auth/authenticate" => (whole("{\"token\":\"t\"}"), Then::Keep),
        "/v3/kv/range" => {
            let revision = now.load(Ordering::SeqCst);
            (range(revision, &revision.to_string()), Then::Keep)
        }
        // The first revision is compacted, so the program reads everything again and continues.
        _ => {
            let revision = now.fetch_add(1, Ordering::SeqCst);
            let gone = "{\"result\":{\"canceled\":true,\"compact_revision\":\"9\"}}".to_owned();
            match revision % 2 {
                1 => (stream(revision, &[gone]), Then::Hold),
                _ => (stream(revision, &[]), Then::Hold),
            }
        }
    });
    for etcd in [
        Etcd::prefix("app"),
        Etcd::prefix("app").user("u", "p".to_owned()),
    ] {
        let (send, failures) = mpsc::channel();
        let before = last.load(Ordering::SeqCst);
        let props = Properties::builder()
            .source(etcd.address(server.url()))
            .on_source_event(move |event| {
                if let SourceEventKind::Suspended(error) = &event.kind {
                    let _ = send.send(error.to_string());
                }
            })
            .build()
            .unwrap();
        // Longer than two streams last.
        wait_until(SOON, "a change", || n(&props) >= before + 2);
        let all: Vec<String> = failures.try_iter().collect();
        assert!(all.is_empty(), "{all:?}");
        assert!(is_up(&props));
    }
}

/// A failure of a new connection is reported: the server cannot have closed it earlier.
#[test]
fn a_new_connection_that_is_closed_is_not_tried_again_at_once() {
    let server = Standin::start(|_| (Vec::new(), Then::Close));
    let begun = Instant::now();
    for n in 1..=3 {
        let error = Etcd::prefix("app")
            .address(server.url())
            .load()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(server.since(begun), n);
    }
}
