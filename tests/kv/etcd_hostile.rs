//! etcd: the answers of a hostile server need bounded memory.

use std::time::Instant;

use liveprops::sources::Etcd;
use liveprops::{ErrorKind, Properties, Source};

use crate::SECOND;
use crate::etcd_standin::{Standin, Then, header, item, n, range, stream, whole};
use crate::scenario::health;
use crate::support::child::{self, Child};
use crate::support::proc::peak_mib;

/// The memory bounds in MiB of rejected answers and of the largest accepted one.
/// `src/guide/stores.md` states the first.
const MOST_REFUSED: usize = 160;
const MOST_TAKEN: usize = 384;

/// Repeats a text up to the size limit of an answer.
fn many(one: &str) -> String {
    one.repeat((31 << 20) / one.len())
}

/// Returns small distinct keys with a total of `bytes` bytes.
fn keys(bytes: usize) -> String {
    let mut all = String::new();
    let mut n = 0;
    while all.len() < bytes {
        all.push_str(&item(&n.to_string(), "", 5));
        all.push(',');
        n += 1;
    }
    all.pop();
    all
}

fn chunked() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// The answers of a hostile server to a read.
fn hostile_reads() -> Vec<(&'static str, Vec<u8>, Then)> {
    let with = |fields: &str| whole(format!("{{{},{fields}\"count\":\"1\"}}", header(5)));
    let list = |one: &str| with(&format!("\"kvs\":[{}{{}}],", many(one)));
    let mut cases = vec![
        (
            "empty objects instead of keys",
            list("{\"\":0},"),
            Then::Keep,
        ),
        (
            "keys that are nothing",
            list("{\"key\":\"YQ==\",\"mod_revision\":1},"),
            Then::Keep,
        ),
        (
            "objects without a request",
            with(&format!("\"x\":[{}0],", many("{\"\":0},"))),
            Then::Keep,
        ),
        (
            "names without a request",
            with(&many("\"x\":0,")),
            Then::Keep,
        ),
        (
            "lists in lists",
            with(&format!("\"x\":{}", many("["))),
            Then::Keep,
        ),
        (
            "objects in objects",
            with(&format!("\"x\":{}", many("{\"a\":"))),
            Then::Keep,
        ),
        (
            "lists in lists instead of keys",
            with(&format!("\"kvs\":{}", many("["))),
            Then::Keep,
        ),
        (
            "a long name",
            with(&format!("\"{}\":0,", many("\\u0061"))),
            Then::Keep,
        ),
        (
            "a long value",
            with(&format!(
                "\"kvs\":[{{\"key\":\"{}\",\"mod_revision\":1}}],",
                many("\\u0061")
            )),
            Then::Keep,
        ),
        ("many lists of keys", with(&many("\"kvs\":[],")), Then::Keep),
        (
            "far too many tiny keys",
            with(&format!("\"kvs\":[{}],", keys(31 << 20))),
            Then::Keep,
        ),
        (
            "a body without an end",
            chunked(),
            Then::Repeat(chunk(&" ".repeat(60_000))),
        ),
        (
            "chunks of one byte without an end",
            chunked(),
            Then::Repeat(chunk(" ").repeat(10_000)),
        ),
        (
            "headers without an end",
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            Then::Repeat(b"x: y\r\n".to_vec()),
        ),
        (
            "a header without an end",
            b"HTTP/1.1 200 OK\r\nx: ".to_vec(),
            Then::Repeat(vec![b'y'; 60_000]),
        ),
        (
            "endless events",
            Vec::new(),
            Then::Repeat(b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".to_vec()),
        ),
    ];
    let endless = |head: &str| format!("HTTP/1.1 {head}\r\n\r\n").into_bytes();
    for (what, head) in [
        (
            "a length of 10^18",
            "200 OK\r\nContent-Length: 1000000000000000000",
        ),
        (
            "a rejection_scope without an end",
            "500 No\r\nContent-Length: 1000000000000000000",
        ),
        (
            "a redirect without an end",
            "302 No\r\nLocation: /\r\nContent-Length: 1000000000000000000",
        ),
        ("no framing and no end", "200 OK"),
    ] {
        cases.push((what, endless(head), Then::Repeat(vec![b'{'; 60_000])));
    }
    cases
}

/// The streams of a hostile server after a valid read.
fn hostile_streams() -> Vec<(&'static str, Vec<u8>, Then)> {
    let begin = stream(5, &[]);
    let line = |text: &str| [&*begin, &*chunk(text)].concat();
    let event = |name: &str, revision| format!("{{\"kv\":{}}}", item(name, "", revision));
    let events = |events: &str| format!("{{\"result\":{{{},\"events\":[{events}]}}}}\n", header(6));
    let tiny = "{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":6}},";
    let new: String = (0..20_000)
        .map(|n| events(&event(&n.to_string(), 6 + n)))
        .collect();
    vec![
        (
            "a line without an end",
            begin.clone(),
            Then::Repeat(chunk(&"x".repeat(60_000))),
        ),
        (
            "empty lines without an end",
            begin.clone(),
            Then::Repeat(chunk(&"\n".repeat(60_000))),
        ),
        (
            "events without an end",
            begin.clone(),
            Then::Repeat(chunk(&new)),
        ),
        (
            "empty results without an end",
            begin.clone(),
            Then::Repeat(chunk(&"{\"result\":{}}\n".repeat(4_000))),
        ),
        (
            "many tiny events",
            line(&events(&format!("{}{}", many(tiny), event("a", 6)))),
            Then::Hold,
        ),
        (
            "many events that are nothing",
            line(&events(&format!("{}{{}}", many("{\"\":0},")))),
            Then::Hold,
        ),
        (
            "many headers",
            line(&format!(
                "{{\"result\":{{{}\"x\":0}}}}\n",
                many("\"header\":{},")
            )),
            Then::Hold,
        ),
        (
            "lists in lists",
            line(&format!("{{\"result\":{}\n", many("["))),
            Then::Hold,
        ),
        (
            "endless events",
            Vec::new(),
            Then::Repeat(b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n".to_vec()),
        ),
    ]
}

#[test]
fn memory_is_bounded_whatever_a_server_sends() {
    let test = "etcd_hostile::memory_is_bounded_whatever_a_server_sends";
    if let Some(role) = child::role() {
        return measure(&role);
    }
    let run = |how: &str, what: &str, server: &Standin| {
        println!("{how}: {what}");
        Child::of(test)
            .role(format!("{how} {}", server.url()))
            .succeeds();
    };
    for (what, bytes, then) in hostile_reads() {
        let server = Standin::start(move |_| (bytes.clone(), then.clone()));
        run("load", what, &server);
    }
    // Each round lasts as long as a stream.
    std::thread::scope(|scope| {
        for (what, bytes, then) in hostile_streams() {
            let server = Standin::start(move |request| match request.path.as_str() {
                "/v3/kv/range" => (range(5, "0"), Then::Keep),
                _ => (bytes.clone(), then.clone()),
            });
            scope.spawn(move || run("follow", what, &server));
        }
    });
}

/// Accepted and withheld updates have the same bound.
#[test]
fn memory_is_bounded_for_as_many_keys_as_are_accepted() {
    let test = "etcd_hostile::memory_is_bounded_for_as_many_keys_as_are_accepted";
    if let Some(role) = child::role() {
        return measure(&role);
    }
    let accepted_count = 150_000;
    // The limit of withheld keys is twice as high, too slow for a debug build.
    for (how, count) in [("accept", accepted_count), ("hold", accepted_count / 4 * 5)] {
        let all: Vec<String> = (0..count)
            .map(|n| item(&format!("{n:06}"), "", 5).replace(",\"value\":\"\"", ""))
            .collect();
        let body = whole(format!("{{{},\"kvs\":[{}]}}", header(5), all.join(",")));
        assert!(body.len() < 32 << 20);
        let server = Standin::start(move |_| (body.clone(), Then::Keep));
        Child::of(test)
            .role(format!("{how} {}", server.url()))
            .succeeds();
    }
}

fn measure(role: &str) {
    let (how, url) = role.split_once(' ').unwrap();
    let etcd = || Etcd::prefix("app").address(url);
    let (before, begun) = (peak_mib(), Instant::now());
    let outcome = match how {
        "load" => match etcd().load() {
            Ok(document) => format!("{} keys", document.len()),
            Err(error) => error.to_string(),
        },
        "accept" => {
            let document = etcd().load().unwrap();
            format!("{} keys", document.len())
        }
        "hold" => {
            let etcd = etcd();
            let error = etcd.load().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
            error.to_string()
        }
        _ => {
            let props = Properties::builder().source(etcd()).build().unwrap();
            std::thread::sleep(6 * SECOND);
            assert_eq!(n(&props), 0);
            format!("{:?}", health(&props).status)
        }
    };
    let (grown, most) = match how {
        "accept" | "hold" => (peak_mib() - before, MOST_TAKEN),
        _ => (peak_mib() - before, MOST_REFUSED),
    };
    child::report(format!(
        "{grown} MiB in {:?}: {outcome:.120}",
        begun.elapsed()
    ));
    assert!(grown <= most, "{grown} MiB");
}
