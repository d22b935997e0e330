//! Documents on a web server with all kinds of faults.
#![cfg(all(target_os = "linux", feature = "http", feature = "toml"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use liveprops::health::{SourceEventKind, Status};
use liveprops::source::conformance::{Editor, check};
use liveprops::sources::{Http, Memory};
use liveprops::{
    Document, Error, ErrorKind, Format, MAX_DOCUMENT_BYTES, Properties, Secret, Source, Value,
};
use support::child::{self, Child};
use support::proc::peak_mib;
use support::web::{Web, serve_as_child, unused_address};
use support::{DEADLINE, first_source, wait_until};

const POLL: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_millis(1500);
const GOOD: &str = "qps = 100\nname = \"checkout\"\n";

/// No test: the process that all others talk to.
#[test]
fn the_server_of_these_tests() {
    serve_as_child();
}

fn web() -> Web {
    Web::start("the_server_of_these_tests")
}

fn source(url: impl AsRef<str>) -> Http {
    Http::new(url).without_proxy().poll(POLL)
}

/// Why the only source is not up.
fn trouble(props: &Properties) -> Option<Error> {
    match first_source(props).status {
        Status::Stale { reason, .. } | Status::Down { reason } => Some(reason),
        _ => None,
    }
}

fn qps(document: &Document) -> Option<&Value> {
    document.get("qps")
}

#[track_caller]
fn number(props: &Properties, key: &str) -> i64 {
    props.get(key).unwrap()
}

/// Asserts that a load fails with this kind and a message that contains `expected`.
#[track_caller]
fn rejected(loaded: Result<Document, Error>, kind: ErrorKind, expected: &str) -> Error {
    let error = loaded.expect_err(expected);
    let text = error.to_string();
    assert!(text.contains(expected), "wanted `{expected}`, got `{text}`");
    assert_eq!(error.kind(), kind, "{text}");
    error
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A response as it goes over the wire.
fn wire(head: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}")
}

#[test]
fn an_unchanged_document_is_not_sent_again_and_makes_no_generation() {
    let web = web();
    for (mode, condition) in [
        ("ok", "match=\""),
        (
            "dated Wed, 21 Oct 2015 07:28:00 GMT",
            "since=Wed, 21 Oct 2015",
        ),
    ] {
        let name = format!("{}.toml", mode.split(' ').next().unwrap());
        web.set(&name, mode, GOOD);
        let props = Properties::builder()
            .source(source(web.url("http", &name)))
            .build()
            .unwrap();
        let before = props.health().generation;
        wait_until(DEADLINE, "five polls", || web.log(&name).len() > 5);
        assert_eq!(props.health().generation, before);
        assert_eq!(trouble(&props).map(|it| it.to_string()), None);
        let log = web.log(&name);
        let bare = log.iter().filter(|line| !line.contains(condition)).count();
        assert_eq!(bare, 1, "only the first asks without condition: {log:?}");

        // Dates may decrease: a server reports its current document, not a newer one.
        for (changes, year) in [(1, "2016"), (2, "2014")] {
            let was = first_source(&props).revision.unwrap();
            let mode = mode.replace("2015", year);
            let qps = 100 + changes;
            web.set(&name, &mode, GOOD.replace("100", &qps.to_string()));
            wait_until(DEADLINE, "the new value", || number(&props, "qps") == qps);
            assert_eq!(props.health().generation, before + changes as u64);
            // Health follows the value.
            let revision = || first_source(&props).revision.unwrap();
            wait_until(DEADLINE, "the new revision", || revision() != was);
        }
    }
}

#[test]
fn the_same_bytes_under_another_etag_make_no_generation() {
    let web = web();
    web.set("app.toml", "status 200 etag: \"1\"", GOOD);
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")))
        .build()
        .unwrap();
    let before = props.health().generation;
    web.set("app.toml", "status 200 etag: W/\"2\"", GOOD);
    wait_until(DEADLINE, "the new ETag", || {
        first_source(&props).revision.as_deref() == Some("W/\"2\"")
            || web.log("app.toml").iter().any(|it| it.contains("W/\"2\""))
    });
    assert_eq!(props.health().generation, before);
}

#[test]
fn a_wrong_304_is_corrected_by_the_next_unconditional_poll() {
    let web = web();
    web.set("app.toml", "liar", GOOD);
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")).unconditional_every(4))
        .build()
        .unwrap();
    wait_until(DEADLINE, "some polls", || web.log("app.toml").len() >= 3);
    let polls = web.log("app.toml").len();
    web.set("app.toml", "liar", GOOD.replace("100", "200"));
    wait_until(DEADLINE, "the truth", || number(&props, "qps") == 200);
    let polls = web.log("app.toml").len() - polls;
    assert!(polls <= 5, "found after {polls} polls");
    let free = web.log("app.toml");
    let free = free.iter().filter(|it| it.contains("match=- ")).count();
    assert!(free >= 2, "{free} polls without condition");
}

#[test]
fn only_a_complete_200_removes_a_value() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")).timeout(Duration::from_millis(500)))
        .build()
        .unwrap();
    let before = props.health().generation;
    let (stop, reads) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let reader = {
        let (props, stop, reads) = (props.clone(), Arc::clone(&stop), Arc::clone(&reads));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(number(&props, "qps"), 100);
                reads.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
            }
        })
    };
    let large = vec![b'#'; MAX_DOCUMENT_BYTES + 1];
    let faults: [(&str, &[u8], &str); 17] = [
        ("status 500", b"qps = 7", "500 Internal Server Error"),
        ("status 503 retry-after: 1", b"", "wants no retry for 1s"),
        ("status 429 retry-after: 0", b"qps = 7", "poll less often"),
        ("status 404", b"qps = 7", "404 Not Found"),
        ("status 401", b"qps = 7", "401 Unauthorized; check the cred"),
        ("status 403", b"qps = 7", "403 Forbidden; check the cred"),
        ("status 204", b"", "204 No Content"),
        ("status 206 content-range: bytes 0-6/20", b"qps = 7", "206"),
        ("status 200 content-type: text/html", b"<html>", "web page"),
        ("status 200", b"qps = ", "app.toml"),
        ("status 200", b"\xff\xfe", "not UTF-8"),
        ("status 200", &large, "longer than 10485760 bytes"),
        ("status 200 content-encoding: br", b"qps = 7", "`br`"),
        (
            "status 200 content-encoding: deflate",
            b"qps = 7",
            "`deflate`",
        ),
        (
            "status 200 content-encoding: gzip, gzip",
            b"qps = 7",
            "`gzip, gzip`",
        ),
        (
            "status 200 content-encoding: gzip",
            b"qps = 7 and no gzip at all",
            "not the gzip",
        ),
        ("hang", b"", "timed out"),
    ];
    for (mode, body, expected) in faults {
        web.set("app.toml", mode, body);
        wait_until(DEADLINE, expected, || {
            trouble(&props).is_some_and(|it| it.to_string().contains(expected))
        });
        let reason = trouble(&props).unwrap().to_string();
        assert!(reason.contains(&web.url("http", "app.toml")), "{reason}");
        web.set("app.toml", "ok", GOOD);
        wait_until(DEADLINE, "up again", || trouble(&props).is_none());
    }
    assert_eq!(props.health().generation, before);
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    let reads = reads.load(Ordering::Relaxed);
    println!("{reads} reads during {} faults, all good", faults.len());
    assert!(reads > 1000);
}

#[test]
fn a_retry_after_header_is_obeyed_unless_the_program_refreshes() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")))
        .build()
        .unwrap();
    // How long after a request that was answered so the next one came.
    let gap = |mode: &str, expected: &str| {
        web.set("app.toml", mode, "");
        wait_until(DEADLINE, mode, || trouble(&props).is_some());
        let reason = trouble(&props).unwrap().to_string();
        assert!(reason.contains(expected), "{mode}: {reason}");
        // The only one so far where it is kept.
        let failed = web.arrivals("app.toml").len() - 1;
        web.set("app.toml", "ok", GOOD);
        wait_until(DEADLINE, "up again", || trouble(&props).is_none());
        let arrivals = web.arrivals("app.toml");
        arrivals[failed + 1] - arrivals[failed]
    };
    // A date counts by the server's own clock, which may be years behind.
    let dated = "status 503 date: Wed, 21 Oct 2015 07:28:00 GMT\
                 |retry-after: Wed, 21 Oct 2015 07:28:02 GMT";
    for mode in [
        "status 503 retry-after: 2",
        "status 429 retry-after: 2",
        dated,
    ] {
        let (gap, wanted) = (gap(mode, "wants no retry for 2s"), Duration::from_secs(2));
        println!("{mode}: {gap:?}");
        assert!(gap >= wanted, "{mode}: {gap:?}");
        assert!(gap <= wanted + POLL + SLACK, "{mode}: {gap:?}");
    }
    for mode in [
        "status 503 retry-after: soon",
        "status 503 retry-after: Wed, 21 Oct 2015 07:28:02 GMT",
        "status 404 retry-after: 30",
        "status 503",
    ] {
        let gap = gap(mode, "the server answered");
        assert!(gap <= POLL + SLACK, "{mode}: {gap:?}");
    }

    web.set("app.toml", "status 503 retry-after: 30", "");
    wait_until(DEADLINE, "the outage", || trouble(&props).is_some());
    web.set("app.toml", "ok", GOOD.replace("100", "200"));
    props.refresh_now().unwrap();
    assert_eq!(number(&props, "qps"), 200);
}

#[test]
fn every_slow_step_times_out() {
    let web = web();
    let timeout = Duration::from_secs(2);
    web.set("hang.toml", "hang", "");
    web.set("body.toml", "drip", GOOD);
    web.set("silent.toml", "silent", "");
    web.set(
        "head.toml",
        "drip",
        wire("content-length: 7\r\n", "qps = 7"),
    );
    // The queue is full: the system accepts no further connection.
    let full = web.url("full", "app.toml");
    let at = full.split('/').nth(2).unwrap().parse().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    // The raw listener never answers a handshake.
    let tls = web.url("raw", "app.toml").replace("http:", "https:");

    let slow = |url: &str| source(url).timeout(timeout);
    let in_vain = timeout * 2;
    let mut cases = Vec::new();
    for (door, name) in [
        ("http", "hang.toml"),
        ("raw", "silent.toml"),
        ("raw", "head.toml"),
    ] {
        let url = web.url(door, name);
        cases.push((timeout, slow(&url).response_timeout(in_vain)));
        cases.push((timeout / 2, slow(&url).response_timeout(timeout / 2)));
    }
    for url in [&full, &tls] {
        cases.push((timeout, slow(url).connect_timeout(in_vain)));
        cases.push((timeout / 2, slow(url).connect_timeout(timeout / 2)));
    }
    let body = web.url("http", "body.toml");
    cases.push((timeout, slow(&body)));
    // All addresses share one time limit.
    cases.push((timeout, slow(&body).and(web.url("http", "hang.toml"))));
    thread::scope(|scope| {
        for (most, http) in &cases {
            scope.spawn(|| gives_up_within(http, *most));
        }
    });

    // A stopped process.
    web.set("app.toml", "ok", GOOD);
    web.signal("-STOP");
    gives_up_within(&slow(&web.url("http", "app.toml")), timeout);
    web.signal("-CONT");
}

#[track_caller]
fn gives_up_within(http: &Http, most: Duration) {
    let begun = Instant::now();
    let error = http.load().unwrap_err();
    let took = begun.elapsed();
    println!("within {most:?}: after {took:?}: {error}");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // The machine may be busy; the next longer timeout is twice as long.
    assert!(took <= most + most / 2, "{took:?}, {error}");
    assert!(took >= most / 2, "{took:?}, {error}");
}

#[test]
fn a_silent_resolver_times_out() {
    let test = "a_silent_resolver_times_out";
    if child::role().is_some() {
        return ask_a_silent_resolver();
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("resolv.conf");
    fs::write(&conf, "nameserver 127.0.0.1\n").unwrap();
    let alone = format!(
        "mount --bind {} /etc/resolv.conf; ip link set lo up; exec \"$@\"",
        conf.display()
    );
    match Child::of(test).under(&["unshare", "-Urnm", "sh", "-ec", &alone, "sh"]) {
        None => println!("skipped: unshare is not permitted"),
        Some(child) => child.succeeds(),
    }
}

#[test]
fn a_name_that_gets_another_address_is_followed_at_the_next_poll() {
    let test = "a_name_that_gets_another_address_is_followed_at_the_next_poll";
    if let Some(role) = child::role() {
        let (url, hosts) = role.split_once(' ').unwrap();
        return follow_a_name(url, hosts);
    }
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let hosts = web.file("hosts");
    // The address has no listener.
    fs::write(&hosts, "127.0.0.9 config.example.com\n").unwrap();
    let url = web.url("http", "app.toml");
    let url = url.replace("127.0.0.1", "config.example.com");
    let alone = format!("mount --bind {} /etc/hosts; exec \"$@\"", hosts.display());
    match Child::of(test).under(&["unshare", "-Urm", "sh", "-ec", &alone, "sh"]) {
        None => println!("skipped: unshare is not permitted"),
        Some(child) => child.role(format!("{url} {}", hosts.display())).succeeds(),
    }
}

fn follow_a_name(url: &str, hosts: &str) {
    let props = Properties::builder()
        .source(source(url).with(|policy| policy.optional()))
        .default("qps", 1)
        .build()
        .unwrap();
    assert_eq!(number(&props, "qps"), 1);
    for _ in 0..3 {
        fs::write(hosts, "127.0.0.1 config.example.com\n").unwrap();
        wait_until(DEADLINE, "the server is found", || {
            trouble(&props).is_none()
        });
        assert_eq!(number(&props, "qps"), 100);
        fs::write(hosts, "127.0.0.9 config.example.com\n").unwrap();
        wait_until(DEADLINE, "the server is unreachable", || {
            trouble(&props).is_some()
        });
        assert_eq!(number(&props, "qps"), 100);
    }
    child::report("followed the name");
}

fn ask_a_silent_resolver() {
    let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
    let timeout = Duration::from_secs(1);
    let http = source("http://config.example.com/app.toml").timeout(timeout);
    gives_up_within(&http, timeout);
    resolver
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let asked = resolver.recv(&mut [0; 512]).unwrap();
    child::report(format!("{asked} bytes of requests"));
}

#[test]
fn the_proxy_of_the_environment_is_used_by_default() {
    let test = "the_proxy_of_the_environment_is_used_by_default";
    let url = "http://nobody.invalid/app.toml";
    if child::role().is_some() {
        let document = Http::new(url).load().unwrap();
        assert_eq!(qps(&document), Some(&7.into()));
        assert!(source(url).load().is_err(), "there is no such host");
        return child::report("read through the proxy");
    }
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let variable = format!("HTTP_PROXY=http://{}", proxy.local_addr().unwrap());
    let tunnel = thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut head = || -> String {
            let lines = lines.by_ref().map_while(Result::ok);
            let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            head.join("\n")
        };
        let connect = head();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let get = head();
        let answer = wire("content-length: 8\r\n", "qps = 7\n");
        stream.write_all(answer.as_bytes()).unwrap();
        (connect, get)
    });
    let env = [
        "env",
        "-u",
        "NO_PROXY",
        "-u",
        "no_proxy",
        "-u",
        "ALL_PROXY",
        &variable,
    ];
    Child::of(test).under(&env).unwrap().succeeds();
    let (connect, get) = tunnel.join().unwrap();
    assert!(
        connect.starts_with("CONNECT nobody.invalid:80 "),
        "{connect}"
    );
    assert!(get.starts_with("GET /app.toml "), "{get}");
}

#[test]
fn an_error_names_the_proxy_and_its_variable() {
    let test = "an_error_names_the_proxy_and_its_variable";
    if let Some(server) = child::role() {
        // The proxy does not answer: each address without an exception fails with that reason.
        let error = Http::new("http://nobody.invalid/app.toml")
            .load()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let named = "through the proxy 127.0.0.1:1 that `HTTP_PROXY` names";
        assert!(error.to_string().contains(named), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let there = Http::new(&server).load().unwrap();
        assert_eq!(qps(&there), Some(&7.into()), "its network is an exception");
        return child::report(error);
    }
    let web = web();
    web.set(
        "app.toml",
        "close",
        wire("content-length: 8\r\n", "qps = 7\n"),
    );
    let variables = [
        "env",
        "-u",
        "no_proxy",
        "-u",
        "ALL_PROXY",
        "-u",
        "HTTPS_PROXY",
        "HTTP_PROXY=http://user:hunter2@127.0.0.1:1",
        "NO_PROXY=10.0.0.0/8,127.0.0.0/8",
    ];
    let child = Child::of(test).role(web.url("raw", "app.toml"));
    child.under(&variables).unwrap().succeeds();
}

#[test]
fn a_body_that_may_be_cut_is_rejected() {
    let web = web();
    let raw = |name: &str, mode: &str, text: String| {
        web.set(name, mode, text);
        source(web.url("raw", name)).load()
    };
    let down = ErrorKind::Unavailable;
    let long = wire("content-length: 20\r\n", "qps = 7\n");
    let cut = wire("transfer-encoding: chunked\r\n", "8\r\nqps = 7\n\r\n");
    let part = wire("transfer-encoding: chunked\r\n", "20\r\nqps = 7\n");
    let none = wire("connection: close\r\n", "qps = 7\n");
    let two = wire("content-length: 8\r\ncontent-length: 7\r\n", "qps = 7\n");
    rejected(
        raw("long.toml", "close", long.clone()),
        down,
        "body of 20 bytes was cut off",
    );
    rejected(raw("reset.toml", "reset", long), down, "cut off");
    rejected(raw("cut.toml", "close", cut), down, "cut off");
    rejected(raw("part.toml", "close", part), down, "cut off");
    rejected(
        raw("none.toml", "close", none),
        down,
        "Content-Length or chunks",
    );
    rejected(raw("two.toml", "close", two), down, "");
    rejected(
        raw("rubbish.toml", "close", "\x01\x02rubbish\r\n\r\n".into()),
        down,
        "not valid HTTP",
    );
    rejected(raw("nothing.toml", "close", String::new()), down, "");
    rejected(
        raw("head.toml", "reset", "HTTP/1.1 200 OK\r\ncont".into()),
        down,
        "",
    );
    let headers = format!("x: {}\r\n", "y".repeat(200_000));
    rejected(
        raw("headers.toml", "close", wire(&headers, "")),
        down,
        "headers are too large",
    );

    let packed = gzip(GOOD.as_bytes());
    let torn = &packed[..packed.len() - 4];
    web.set("torn.toml", "chunked content-encoding: gzip", torn);
    rejected(
        source(web.url("http", "torn.toml")).load(),
        down,
        "gzip body was cut off",
    );

    let whole = wire("content-length: 8\r\n", "qps = 7\n");
    assert_eq!(
        qps(&raw("whole.toml", "close", whole).unwrap()),
        Some(&7.into())
    );
    let chunks = wire(
        "transfer-encoding: chunked\r\n",
        "8\r\nqps = 7\n\r\n0\r\n\r\n",
    );
    assert_eq!(
        qps(&raw("chunks.toml", "close", chunks).unwrap()),
        Some(&7.into())
    );
}

#[test]
fn a_body_counts_only_if_its_framing_proves_that_it_is_complete() {
    let web = web();
    let raw = |text: &str| {
        web.set("app.toml", "close", text);
        source(web.url("raw", "app.toml")).load()
    };
    // Each response is a prefix of the document that ends at a line break.
    let body = "qps = 7\n";
    let chunk = "8\r\nqps = 7\n\r\n";
    let chunks = format!("{chunk}0\r\n\r\n");
    let remedy = "Content-Length or chunks";
    for (version, head, body, expected) in [
        ("1.0", "", body, remedy),
        ("1.1", "", body, remedy),
        ("1.1", "connection: keep-alive\r\n", body, remedy),
        // Only the exact name `chunked` counts.
        ("1.0", "transfer-encoding: chunked\r\n", body, "HTTP/1.0"),
        ("1.0", "transfer-encoding: chunked\r\n", &chunks, "HTTP/1.0"),
        (
            "1.0",
            "transfer-encoding: chunked\r\ncontent-length: 8\r\n",
            body,
            "HTTP/1.0",
        ),
        ("1.1", "transfer-encoding: chunkedx\r\n", body, "`chunkedx`"),
        (
            "1.1",
            "transfer-encoding: not-chunked\r\n",
            body,
            "`not-chunked`",
        ),
        ("1.1", "transfer-encoding: identity\r\n", body, "`identity`"),
        ("1.1", "transfer-encoding: gzip\r\n", body, "`gzip`"),
        ("1.1", "transfer-encoding:\r\n", body, "Transfer-Encoding"),
        (
            "1.1",
            "transfer-encoding: \u{e9}\r\n",
            body,
            "Transfer-Encoding",
        ),
        // Chunks of something else, or inside something else.
        (
            "1.1",
            "transfer-encoding: gzip, chunked\r\n",
            &chunks,
            "`gzip, chunked`",
        ),
        (
            "1.1",
            "transfer-encoding: chunked, gzip\r\n",
            &chunks,
            "`chunked, gzip`",
        ),
        (
            "1.1",
            "transfer-encoding: chunked, chunked\r\n",
            &chunks,
            "`chunked, chunked`",
        ),
        (
            "1.1",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            &chunks,
            "`gzip, chunked`",
        ),
        // Two ends.
        (
            "1.1",
            "transfer-encoding: chunked\r\ncontent-length: 8\r\n",
            &chunks,
            "Content-Length and chunks",
        ),
        (
            "1.1",
            "transfer-encoding: identity\r\ncontent-length: 8\r\n",
            body,
            "`identity`",
        ),
        (
            "1.1",
            "content-length: 8\r\ncontent-length: 7\r\n",
            body,
            "",
        ),
        ("1.1", "content-length: 8, 7\r\n", body, ""),
        ("1.1", "content-length: 8, 8\r\n", body, "no single number"),
        ("1.1", "content-length: +8\r\n", body, ""),
        ("1.1", "content-length: 0x8\r\n", body, ""),
        ("1.1", "content-length: -1\r\n", body, ""),
        ("1.1", "content-length: \r\n", body, ""),
        ("1.1", "content-length: 99999999999999999999\r\n", body, ""),
        // Not the end that was promised.
        (
            "1.0",
            "content-length: 9\r\n",
            body,
            "body of 9 bytes was cut off",
        ),
        ("1.1", "transfer-encoding: chunked\r\n", chunk, "cut off"),
        (
            "1.1",
            "transfer-encoding: chunked\r\n",
            "8\r\nqps = 7\n",
            "cut off",
        ),
        (
            "1.1",
            "transfer-encoding: chunked\r\n",
            "8\r\nqps = 7\n\r\n0",
            "cut off",
        ),
        (
            "1.1",
            "transfer-encoding: chunked\r\n",
            "8\r\nqps = 7\nXX0\r\n\r\n",
            "",
        ),
        (
            "1.1",
            "transfer-encoding: chunked\r\n",
            "zz\r\nqps = 7\n\r\n0\r\n\r\n",
            "",
        ),
        ("1.1", "transfer-encoding: chunked\r\n", body, ""),
        (
            "1.1",
            "content-encoding: identity\r\ncontent-encoding: gzip\r\ncontent-length: 8\r\n",
            body,
            "`identity, gzip`",
        ),
    ] {
        let response = format!("HTTP/{version} 200 OK\r\n{head}\r\n{body}");
        let error = raw(&response).expect_err(head);
        let text = error.to_string();
        assert!(
            text.contains(expected),
            "{head}: wanted `{expected}`, got `{text}`"
        );
        assert!(text.contains("app.toml"), "{head}: {text}");
    }
    for (version, head, body) in [
        // Like `http.server` of Python.
        ("1.0", "content-length: 8\r\n", body),
        ("1.1", "content-length: 8\r\ncontent-length: 8\r\n", body),
        ("1.1", "transfer-encoding: Chunked \r\n", &*chunks),
        (
            "1.1",
            "transfer-encoding: chunked\r\n",
            "8;x=y\r\nqps = 7\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        ),
        // Bytes after the end are no part of the body.
        ("1.1", "content-length: 8\r\n", "qps = 7\nname = \"x\"\n"),
        (
            "1.1",
            "transfer-encoding: chunked\r\n",
            "8\r\nqps = 7\n\r\n0\r\n\r\nqps = 8\n",
        ),
    ] {
        let document = raw(&format!("HTTP/{version} 200 OK\r\n{head}\r\n{body}"));
        let document = document.unwrap_or_else(|error| panic!("{head}: {error}"));
        assert_eq!(
            (document.len(), qps(&document)),
            (1, Some(&7.into())),
            "{head}"
        );
    }
}

#[test]
fn a_gzip_body_counts_only_as_a_whole() {
    let web = web();
    let packed = gzip(GOOD.as_bytes());
    let load = |mode: &str, body: &[u8]| {
        web.set("app.toml", mode, body);
        source(web.url("http", "app.toml")).load()
    };
    for mode in [
        "status 200 content-encoding: gzip",
        "chunked content-encoding: gzip",
    ] {
        for length in 0..packed.len() {
            assert!(load(mode, &packed[..length]).is_err(), "{length} bytes");
        }
        let with = |rest: &[u8]| [&packed, rest].concat();
        assert!(load(mode, &with(b"qps = 8\n")).is_err());
        assert!(load(mode, &with(&packed[..packed.len() / 2])).is_err());
        let mut wrong = packed.clone();
        // The checksum of the unpacked bytes.
        wrong[packed.len() - 8] ^= 1;
        assert!(load(mode, &wrong).is_err());
        assert_eq!(qps(&load(mode, &packed).unwrap()), Some(&100.into()));
    }
}

#[test]
fn gzip_and_chunks_are_read() {
    let web = web();
    let packed = gzip(GOOD.as_bytes());
    web.set("a.toml", "status 200 content-encoding: gzip", &packed);
    web.set("b.toml", "chunked content-encoding: gzip", &packed);
    web.set("c.toml", "chunked", GOOD);
    for name in ["a.toml", "b.toml", "c.toml"] {
        let document = source(web.url("http", name)).load().unwrap();
        assert_eq!(qps(&document), Some(&100.into()));
    }
}

#[test]
fn memory_and_time_are_bounded_whatever_the_server_sends() {
    let test = "memory_and_time_are_bounded_whatever_the_server_sends";
    if let Some(url) = child::role() {
        return measure(&url);
    }
    let web = web();
    // 1 MiB that becomes 1 GiB.
    let bomb = gzip(&vec![b'\n'; 16 << 20]).repeat(64);
    println!("the bomb: {} KiB", bomb.len() / 1024);
    web.set("bomb.toml", "status 200 content-encoding: gzip", &bomb);
    web.set("blown.toml", "chunked content-encoding: gzip", &bomb);
    web.set("endless.toml", "endless", "");
    let large = vec![b'#'; MAX_DOCUMENT_BYTES + 1];
    web.set("large.toml", "status 200", &large);
    web.set(
        "chunks.toml",
        "status 200 content-encoding: gzip",
        gzip(&large),
    );
    for name in ["bomb", "blown", "endless", "large", "chunks"] {
        let url = web.url("http", &format!("{name}.toml"));
        Child::of(test).role(url).succeeds();
    }
    let most = &large[..MAX_DOCUMENT_BYTES];
    web.set("most.toml", "ok", most);
    assert!(
        source(web.url("http", "most.toml"))
            .load()
            .unwrap()
            .is_empty()
    );
}

fn measure(url: &str) {
    let http = source(url);
    let (before, begun) = (peak_mib(), Instant::now());
    let error = rejected(http.load(), ErrorKind::TooLarge, "longer than");
    let (took, grown) = (begun.elapsed(), peak_mib() - before);
    child::report(format!("{took:?} and {grown} MiB: {error}"));
    assert!(took < DEADLINE, "{took:?}");
    assert!(grown <= MOST_MEMORY, "{grown} MiB");
}

/// The memory bound of rejected documents in MiB: twice the size limit of a document.
const MOST_MEMORY: usize = 2 * MAX_DOCUMENT_BYTES / (1 << 20);

#[test]
fn memory_is_bounded_where_a_response_has_no_end() {
    let test = "memory_is_bounded_where_a_response_has_no_end";
    if let Some(url) = child::role() {
        let http = source(url).timeout(Duration::from_secs(3));
        let before = peak_mib();
        let error = http.load().expect_err("it has no end");
        let grown = peak_mib() - before;
        child::report(format!("{grown} MiB: {error}"));
        return assert!(grown <= MOST_MEMORY, "{grown} MiB");
    }
    let web = web();
    let ok = |head: &str| wire(head, "").into_bytes();
    let chunks = "transfer-encoding: chunked\r\n";
    let packed = |head: &[u8]| {
        [
            &*ok("content-encoding: gzip\r\ncontent-length: 9999999\r\n"),
            head,
        ]
        .concat()
    };
    // Gzip members with an endless name and with an endless comment.
    let (name, comment) = (
        *b"\x1f\x8b\x08\x08\0\0\0\0\0\xff",
        *b"\x1f\x8b\x08\x10\0\0\0\0\0\xff",
    );
    let tiny = "{\"\":0},";
    let long = "Content-Length: 1000000000000000000\r\n";
    let cases: [(&str, Vec<u8>, &[u8]); 15] = [
        ("headers", b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n"),
        ("one header", b"HTTP/1.1 200 OK\r\nx: ".to_vec(), b"y"),
        ("a status line", b"HTTP/1.1 200 ".to_vec(), b"y"),
        ("news", Vec::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        (
            "redirects with bodies",
            format!("HTTP/1.1 302 No\r\nLocation: /app.toml\r\n{long}\r\n").into(),
            b"x",
        ),
        (
            "a rejection_scope",
            format!("HTTP/1.1 500 No\r\n{long}\r\n").into(),
            b"x",
        ),
        ("a length of 10^18", ok(long), b"x"),
        (
            "a chunk of 2^63",
            [ok(chunks), b"7fffffffffffffff\r\n".to_vec()].concat(),
            b"x",
        ),
        (
            "tiny objects in chunks",
            [ok(chunks), b"7fffffff\r\n[".to_vec()].concat(),
            tiny.as_bytes(),
        ),
        ("chunks of one byte", ok(chunks), b"1\r\nx\r\n"),
        (
            "an extension of a chunk",
            [ok(chunks), b"1;".to_vec()].concat(),
            b"x",
        ),
        (
            "trailers",
            [ok(chunks), b"0\r\n".to_vec()].concat(),
            b"x: y\r\n",
        ),
        ("a name in gzip", packed(&name), b"x"),
        ("a comment in gzip", packed(&comment), b"x"),
        (
            "empty members of gzip",
            packed(&[]),
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ),
    ];
    for (what, begin, piece) in cases {
        println!("{what}");
        let mode = format!("repeat {}", begin.len());
        web.set("app.toml", &mode, [&*begin, piece].concat());
        Child::of(test).role(web.url("raw", "app.toml")).succeeds();
    }
}

#[test]
fn redirects_stay_within_their_origin_and_are_limited() {
    let web = web();
    let load = |name: &str| {
        source(web.url("http", name))
            .bearer("word".to_owned())
            .load()
    };
    web.set("end.toml", "ok", GOOD);
    web.set("near.toml", "status 302 location: /end.toml", "");
    web.set("nearer.toml", "status 308 location: near.toml", "");
    assert_eq!(qps(&load("nearer.toml").unwrap()), Some(&100.into()));
    let log = web.log("end.toml");
    assert!(log[0].contains("authorization=Bearer word"), "{log:?}");

    let elsewhere = web.url("raw", "end.toml");
    web.set("far.toml", &format!("status 302 location: {elsewhere}"), "");
    rejected(load("far.toml"), ErrorKind::Unavailable, "another origin");
    let named = web
        .url("http", "end.toml")
        .replace("127.0.0.1", "localhost");
    web.set("named.toml", &format!("status 301 location: {named}"), "");
    rejected(load("named.toml"), ErrorKind::Unavailable, "another origin");
    web.set("local.toml", "status 302 location: file:///etc/passwd", "");
    rejected(
        load("local.toml"),
        ErrorKind::Unavailable,
        "invalid redirect",
    );
    web.set("loop.toml", "status 307 location: /loop.toml", "");
    rejected(
        load("loop.toml"),
        ErrorKind::Unavailable,
        "more than 5 redirects",
    );
    assert_eq!(web.log("loop.toml").len(), 6);
    web.set("where.toml", "status 302", "");
    rejected(
        load("where.toml"),
        ErrorKind::Unavailable,
        "without a target",
    );
    web.set("many.toml", "status 300 location: /end.toml", "");
    rejected(
        load("many.toml"),
        ErrorKind::Unavailable,
        "300 Multiple Choices",
    );

    let plain = web.url("http", "end.toml");
    web.set("down.toml", &format!("status 302 location: {plain}"), "");
    let http = source(web.url("tls", "down.toml")).ca(web.file("ca.pem"));
    rejected(http.load(), ErrorKind::Unavailable, "from https to http");
    assert_eq!(web.log("end.toml").len(), 1, "no other server was asked");
}

#[test]
fn only_an_authenticated_server_is_accepted() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let at = |door: &str| source(web.url(door, "app.toml"));
    let down = ErrorKind::Unavailable;
    rejected(at("tls").load(), down, "authority with `ca`");
    rejected(
        at("tls").ca(web.file("stranger.pem")).load(),
        down,
        "authority with `ca`",
    );
    assert_eq!(
        qps(&at("tls").ca(web.file("ca.pem")).load().unwrap()),
        Some(&100.into())
    );
    rejected(at("expired").ca(web.file("ca.pem")).load(), down, "renew");
    rejected(
        at("wrong").ca(web.file("ca.pem")).load(),
        down,
        "not valid for name",
    );

    let mutual = || at("mutual").ca(web.file("ca.pem"));
    rejected(mutual().load(), down, "with `client_certificate`");
    let (chain, key) = (web.file("client.pem"), web.file("client.key"));
    let shown = mutual().client_certificate(&chain, &key);
    assert_eq!(qps(&shown.load().unwrap()), Some(&100.into()));
    let odd = mutual().client_certificate(&chain, web.file("tls.key"));
    rejected(odd.load(), ErrorKind::InvalidConfig, "do not make a pair");
    let none = mutual().client_certificate(&key, &key);
    rejected(
        none.load(),
        ErrorKind::InvalidConfig,
        "holds no certificate",
    );
    let gone = at("tls").ca(web.file("nobody.pem"));
    rejected(gone.load(), down, "does not exist");
}

#[test]
fn certificates_are_read_again_for_each_poll() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let ca = web.file("mine.pem");
    fs::copy(web.file("stranger.pem"), &ca).unwrap();
    let props = Properties::builder()
        .source(
            source(web.url("tls", "app.toml"))
                .ca(&ca)
                .with(|policy| policy.optional()),
        )
        .default("qps", 1)
        .build()
        .unwrap();
    assert_eq!(number(&props, "qps"), 1);
    fs::copy(web.file("ca.pem"), &ca).unwrap();
    wait_until(DEADLINE, "the right authority", || {
        number(&props, "qps") == 100
    });
}

#[test]
fn a_killed_server_is_used_again_after_its_restart() {
    let mut web = web();
    web.set("app.toml", "ok", GOOD);
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")))
        .build()
        .unwrap();
    for round in 0..3 {
        web.kill();
        wait_until(DEADLINE, "the outage", || trouble(&props).is_some());
        assert_eq!(trouble(&props).unwrap().kind(), ErrorKind::Unavailable);
        assert_eq!(number(&props, "qps"), 100 + round);
        web.set("app.toml", "ok", format!("qps = {}", 101 + round));
        web.restart();
        let took = wait_until(DEADLINE, "the new value", || {
            number(&props, "qps") == 101 + round
        });
        println!("picked up after {took:?}");
        assert!(took <= 2 * POLL + MAX_PAUSE, "{took:?}");
    }
}

#[test]
fn a_connection_that_is_closed_after_an_answer_is_no_failure() {
    let web = web();
    // The answer promises to keep the connection.
    let answer = |qps: u32| {
        let body = format!("qps = {qps}\n");
        wire(
            &format!(
                "connection: keep-alive\r\ncontent-length: {}\r\n",
                body.len()
            ),
            &body,
        )
    };
    web.set("app.toml", "close", answer(0));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&failures);
    let props = Properties::builder()
        .source(source(web.url("raw", "app.toml")))
        .on_source_event(move |event| {
            if let SourceEventKind::Suspended(error) = &event.kind {
                all.lock().unwrap().push(error.to_string());
            }
        })
        .build()
        .unwrap();
    for qps in 1..=10 {
        web.set("app.toml", "close", answer(qps));
        wait_until(DEADLINE, "the new value", || {
            number(&props, "qps") == i64::from(qps)
        });
    }
    assert_eq!(*failures.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn an_address_without_a_server_fails_the_start() {
    let http = source(format!("http://me:hunter2@{}/app.toml", unused_address()));
    let error = Properties::builder()
        .source(http)
        .load_timeout(Duration::from_millis(500))
        .build()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("refused") && error.contains("//******@127"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    let unknown = source("http://nobody.invalid/app.toml").load().unwrap_err();
    assert!(unknown.to_string().contains("nobody.invalid"), "{unknown}");
}

#[test]
fn a_missing_optional_document_is_reported_as_missing() {
    let web = web();
    web.set("app.toml", "status 404", "");
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")).with(|policy| policy.optional()))
        .default("qps", 1)
        .build()
        .unwrap();
    assert_eq!(number(&props, "qps"), 1);
    assert!(!props.health().is_up());
    assert!(matches!(first_source(&props).status, Status::Down { .. }));
    assert!(trouble(&props).unwrap().to_string().contains("404"));
    web.set("app.toml", "ok", GOOD);
    wait_until(DEADLINE, "it is found", || number(&props, "qps") == 100);
    web.set("app.toml", "status 404", "");
    wait_until(DEADLINE, "it is gone", || trouble(&props).is_some());
    assert_eq!(number(&props, "qps"), 100);
}

#[test]
fn several_addresses_are_one_union_where_later_ones_win() {
    let web = web();
    web.set(
        "base.toml",
        "ok",
        "qps = 100\n[db]\nhost = \"a\"\nport = 1\n",
    );
    web.set("over.toml", "ok", "qps = 200\n[db]\nhost = \"b\"\n");
    let local = web.file("local.toml");
    fs::write(&local, "[db]\nuser = \"me\"\n").unwrap();
    let props = Properties::builder()
        .source(
            source(web.url("http", "base.toml"))
                .and(web.url("http", "over.toml"))
                .and(format!("file://{}", local.display())),
        )
        .build()
        .unwrap();
    let text = |key: &str| props.get::<String>(key).unwrap();
    let all = || {
        [
            text("qps"),
            text("db.host"),
            text("db.port"),
            text("db.user"),
        ]
    };
    assert_eq!(all(), ["200", "b", "1", "me"]);
    let before = props.health().generation;
    wait_until(DEADLINE, "five polls", || web.log("over.toml").len() > 5);
    assert_eq!(props.health().generation, before);

    web.set("base.toml", "ok", "qps = 1\n");
    web.set("over.toml", "status 500", "");
    wait_until(DEADLINE, "a failure", || trouble(&props).is_some());
    assert!(trouble(&props).unwrap().to_string().contains("over.toml"));
    assert_eq!(all(), ["200", "b", "1", "me"], "one fails all");
    fs::write(&local, "[db]\nuser = \"you\"\nport = 2\n").unwrap();
    web.set("over.toml", "ok", "[db]\nhost = \"c\"\n");
    wait_until(DEADLINE, "all of it", || text("db.user") == "you");
    assert_eq!(all(), ["1", "c", "2", "you"]);
}

#[test]
fn the_origin_of_a_value_has_address_line_and_column() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let url = web.url("http", "app.toml");
    let http = source(url.replace("//", "//me:hunter2@"));
    let shown = url.replace("//", "//******@");
    let document = http.load().unwrap();
    let origin = document.origin("qps").unwrap();
    assert_eq!(origin.kind(), "url");
    assert_eq!(origin.to_string(), format!("url {shown}:1:7"));
    // The request contains the base64 of `me:hunter2`.
    let log = web.log("app.toml");
    assert!(
        log[0].contains("authorization=Basic bWU6aHVudGVyMg=="),
        "{log:?}"
    );
    assert!(!format!("{http:?} {document:?}").contains("hunter2"));

    let local = web.file("app.toml");
    fs::write(&local, GOOD).unwrap();
    let document = source(format!("file://{}", local.display()))
        .load()
        .unwrap();
    let origin = document.origin("name").unwrap().to_string();
    assert_eq!(origin, format!("url file://{}:2:8", local.display()));
}

#[test]
fn tokens_and_headers_are_sent_and_never_shown() {
    let web = web();
    web.set("app.toml", "status 401", "");
    let url = web.url("http", "app.toml");
    let token = web.file("token");
    fs::write(&token, "first\n").unwrap();
    let http = source(&url).bearer_file(&token).header("X-Team", "crimson");
    let one = rejected(http.load(), ErrorKind::Unavailable, "401");
    fs::write(&token, "second\n").unwrap();
    let two = rejected(http.load(), ErrorKind::Unavailable, "401");
    let given = source(&url).bearer(Secret::new("third".to_owned()));
    let three = rejected(given.load(), ErrorKind::Unavailable, "401");
    let log = web.log("app.toml");
    for (line, wanted) in
        log.iter()
            .zip(["first team=crimson", "second team=crimson", "third team=-"])
    {
        assert!(
            line.ends_with(&format!("authorization=Bearer {wanted}")),
            "{line}"
        );
    }
    let shown = format!("{http:?} {given:?} {one:?} {two:?} {three:?}");
    for secret in ["first", "second", "third", "crimson"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    fs::write(&token, " \n").unwrap();
    rejected(http.load(), ErrorKind::InvalidConfig, "empty");
    fs::remove_file(&token).unwrap();
    rejected(http.load(), ErrorKind::Unavailable, "does not exist");
}

#[test]
fn text_that_could_smuggle_a_header_or_a_secret_is_rejected_without_a_request() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let url = web.url("http", "app.toml");
    let at = || source(&url);
    let other = web.url("raw", "app.toml");
    for (http, expected) in [
        (at().header("X-Team", "a\r\nX-Admin: yes"), "`X-Team`"),
        (at().header("X-Team", "a\nb"), "`X-Team`"),
        (at().header("X-Team", "a\0b"), "`X-Team`"),
        (at().header("X Team", "a"), "its name"),
        (at().header("X-Team:", "a"), "its name"),
        (at().header("", "a"), "its name"),
        (at().header("Host", "other"), "by itself"),
        (at().header("Transfer-Encoding", "chunked"), "by itself"),
        (at().bearer("a\r\nX-Admin: yes".to_owned()), "line break"),
        (at().bearer(" ".to_owned()), "empty"),
        (source(format!("{url}\r\nX-Admin: yes")), "percent-encoded"),
        (source(format!("{url} HTTP/1.1")), "percent-encoded"),
        (source("app.toml"), "no scheme"),
        (source("ftp://h/app.toml"), "only `https`"),
        (at().and(&other).bearer("a".to_owned()), "several origins"),
        (at().and(&other).header("X-Team", "a"), "several origins"),
        (
            source(url.replace("//", "//a:b@")).bearer("a".to_owned()),
            "exclude",
        ),
        (
            at().bearer("a".to_owned()).header("authorization", "b"),
            "exclude",
        ),
        (Http::union(Vec::<String>::new()), "no address"),
    ] {
        rejected(http.load(), ErrorKind::InvalidConfig, expected);
    }
    assert_eq!(web.log("app.toml"), Vec::<String>::new());
}

#[test]
fn the_format_comes_from_the_builder_the_response_or_the_path() {
    let web = web();
    web.set(
        "plain",
        "ok content-type: application/toml; charset=utf-8",
        GOOD,
    );
    web.set(
        "app.json",
        "ok content-type: application/vnd.mine+toml",
        GOOD,
    );
    web.set("app.toml", "ok content-type: text/plain", GOOD);
    for name in ["plain", "app.json", "app.toml"] {
        let document = source(web.url("http", name)).load().unwrap();
        assert_eq!(qps(&document), Some(&100.into()), "{name}");
    }
    web.set("bare", "ok content-type: text/plain", GOOD);
    let bare = || source(web.url("http", "bare"));
    rejected(bare().load(), ErrorKind::Malformed, "`text/plain`");
    let document = bare().format(Format::toml()).load().unwrap();
    assert_eq!(qps(&document), Some(&100.into()));
    web.set("page", "ok content-type: text/html", GOOD);
    let page = source(web.url("http", "page")).format(Format::toml());
    rejected(page.load(), ErrorKind::Malformed, "web page");
}

#[test]
fn a_document_that_lacks_most_keys_is_withheld() {
    let web = web();
    let many: String = (0..20).map(|n| format!("k{n} = {n}\n")).collect();
    web.set("app.toml", "ok", &many);
    let props = Properties::builder()
        .source(source(web.url("http", "app.toml")))
        .build()
        .unwrap();
    web.set("app.toml", "ok", "");
    wait_until(DEADLINE, "the update is withheld", || {
        first_source(&props).withheld.is_some()
    });
    assert_eq!(number(&props, "k19"), 19);
    web.set("app.toml", "ok", many.replace("k0 = 0", "k0 = 100"));
    wait_until(DEADLINE, "the keys are back", || {
        number(&props, "k0") == 100
    });
    // Health follows the value.
    wait_until(DEADLINE, "nothing is withheld", || {
        first_source(&props).withheld.is_none()
    });
}

#[test]
fn an_address_overrides_and_is_overridden_like_any_source() {
    let web = web();
    web.set("app.toml", "ok", GOOD);
    let (below, above) = (Memory::default(), Memory::default());
    below.set("qps", 1).unwrap();
    let props = Properties::builder()
        .source(below)
        .source(source(web.url("http", "app.toml")))
        .source(above.clone())
        .build()
        .unwrap();
    assert_eq!(number(&props, "qps"), 100);
    above.set("qps", 2).unwrap();
    assert_eq!(number(&props, "qps"), 2);
}

#[test]
fn files_are_read_with_the_limit_of_a_document() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my app.toml");
    let url = format!("file://{}/my%20app.toml", dir.path().display());
    fs::write(&path, GOOD).unwrap();
    let http = source(url);
    assert_eq!(qps(&http.load().unwrap()), Some(&100.into()));
    fs::write(&path, vec![b'#'; MAX_DOCUMENT_BYTES + 1]).unwrap();
    rejected(http.load(), ErrorKind::TooLarge, "my app.toml");
    fs::remove_file(&path).unwrap();
    rejected(http.load(), ErrorKind::Unavailable, "does not exist");
    fs::create_dir(&path).unwrap();
    rejected(http.load(), ErrorKind::Unavailable, "a directory");
}

#[test]
fn a_file_address_that_is_being_written_is_never_half_in_force() {
    const KEYS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.toml");
    let line = |key: usize, version: usize| format!("k{key} = {version}\n");
    let whole: String = (0..KEYS).map(|key| line(key, 0)).collect();
    fs::write(&path, whole).unwrap();
    let http = source(format!("file://{}", path.display()));
    let done = AtomicBool::new(false);
    // A busy machine may extend a pause beyond the debounce time, after which a file counts as
    // complete.
    let paused = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=3 {
                let mut file = fs::File::create(&path).unwrap();
                for key in 0..KEYS {
                    let begun = Instant::now();
                    file.write_all(line(key, version).as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_millis(10));
                    paused.fetch_or(begun.elapsed().as_millis() >= 25, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut busy = 0;
        while !done.load(Ordering::SeqCst) {
            match http.load() {
                Ok(document) => {
                    let values: Vec<_> = document.iter().map(|(_, value, _)| value).collect();
                    let is_whole = values.len() == KEYS && values.iter().all(|it| it == &values[0]);
                    assert!(is_whole || paused.load(Ordering::SeqCst), "{values:?}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    busy += 1;
                }
            }
        }
        assert!(
            busy > 0 || paused.load(Ordering::SeqCst),
            "a poll waits for a bounded time"
        );
    });
}

/// Rewrites the document of a server.
struct Desk {
    web: Web,
    keys: BTreeMap<String, String>,
}

impl Desk {
    fn edit(&mut self, edit: impl FnOnce(&mut BTreeMap<String, String>)) {
        edit(&mut self.keys);
        let keys = &self.keys;
        let text: String = keys
            .iter()
            .map(|(key, text)| format!("{key} = \"{text}\"\n"))
            .collect();
        self.web.set("app.toml", "ok", text);
    }
}

/// The suite edits from several threads.
struct Shared(Mutex<Desk>);

impl Editor for Shared {
    fn set(&self, key: &str, text: &str) {
        self.0
            .lock()
            .unwrap()
            .edit(|keys| drop(keys.insert(key.to_owned(), text.to_owned())));
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap().edit(|keys| drop(keys.remove(key)));
    }
}

#[test]
fn a_polled_address_keeps_the_contract() {
    let mut desk = Desk {
        web: web(),
        keys: BTreeMap::new(),
    };
    desk.edit(|_| {});
    let url = desk.web.url("http", "app.toml");
    let make = || source(&url).poll(Duration::from_millis(20));
    let desk = Shared(Mutex::new(desk));
    assert_eq!(check(&make, &desk), Ok(()));
}

#[test]
fn a_document_is_loaded_from_another_server_if_one_fails() {
    let (mut first, second) = (web(), web());
    let set_qps = |web: &Web, qps: u32| web.set("app.toml", "ok", format!("qps = {qps}\n"));
    set_qps(&first, 1);
    set_qps(&second, 1);
    let http = source(first.url("http", "app.toml"))
        .or(second.url("http", "app.toml"))
        .bearer("word".to_owned());
    let props = Properties::builder().source(http).build().unwrap();
    let generation = props.generation();
    first.kill();
    // An ETag of one server is unknown to the other one.
    wait_until(DEADLINE, "the second is asked", || {
        !second.log("app.toml").is_empty()
    });
    let log = second.log("app.toml");
    assert!(!log[0].contains("match=\""), "{log:?}");
    assert!(log[0].contains("authorization=Bearer word"), "{log:?}");
    assert!(props.health().is_up(), "{:?}", props.health());
    assert_eq!(props.generation(), generation, "the value is the same");
    set_qps(&second, 2);
    wait_until(DEADLINE, "the change is seen", || {
        number(&props, "qps") == 2
    });

    // If all servers fail, each failure is reported.
    drop(second);
    wait_until(DEADLINE, "health reports it", || trouble(&props).is_some());
    let errors = trouble(&props).unwrap();
    assert_eq!(errors.iter().count(), 2, "{errors}");
    assert_eq!(number(&props, "qps"), 2);
}

#[test]
fn a_hanging_server_leaves_time_for_the_next_one() {
    let (first, second) = (web(), web());
    for (web, how) in [(&first, "hang"), (&second, "ok")] {
        web.set("app.toml", how, GOOD);
    }
    let http = source(first.url("http", "app.toml"))
        .or(second.url("http", "app.toml"))
        .timeout(Duration::from_secs(2));
    let begun = Instant::now();
    assert_eq!(qps(&http.load().unwrap()), Some(&100.into()));
    assert!(begun.elapsed() < Duration::from_secs(2));
    let begun = Instant::now();
    assert!(http.load().is_ok());
    assert!(
        begun.elapsed() < Duration::from_millis(800),
        "the one that answered is asked first"
    );
}
