//! Consul: the answers of a hostile or broken agent need bounded memory.
//!
//! The system counts the memory of a process, so each measurement runs in its own process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use liveprops::sources::Consul;
use liveprops::{ErrorKind, Source};

use crate::support::child::{self, Child};
use crate::support::proc::status;

/// The bound of one read in `src/guide/stores.md`: an answer of 32 MiB, and 12.5 MiB of items, both
/// parsed and stored.
const MOST: usize = 192 << 20;

/// The time limit of a load on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The bytes that an agent repeats endlessly after its status line.
type Send = fn(&mut TcpStream) -> std::io::Result<()>;

const HEAD: &str = "200 OK\r\nX-Consul-Index: 7\r\n";

fn body(
    stream: &mut TcpStream,
    begin: &str,
    repeated: &str,
    length: usize,
    end: &str,
) -> std::io::Result<()> {
    let count = length / repeated.len();
    let whole = begin.len() + count * repeated.len() + end.len();
    stream.write_all(format!("{HEAD}Content-Length: {whole}\r\n\r\n{begin}").as_bytes())?;
    let many = (MIB / repeated.len()).max(1);
    let chunk = repeated.repeat(many);
    for _ in 0..count / many {
        stream.write_all(chunk.as_bytes())?;
    }
    for _ in 0..count % many {
        stream.write_all(repeated.as_bytes())?;
    }
    stream.write_all(end.as_bytes())
}

fn endless(stream: &mut TcpStream, begin: &str, repeated: &str) -> std::io::Result<()> {
    stream.write_all(begin.as_bytes())?;
    let chunk = repeated.repeat((1 << 16) / repeated.len());
    loop {
        stream.write_all(chunk.as_bytes())?;
    }
}

const MIB: usize = 1 << 20;

/// The answer of an agent and the expected error of the load.
const ALL: [(&str, Send, ErrorKind); 11] = [
    (
        "an endless body",
        |to| {
            let begin = format!("{HEAD}Connection: close\r\n\r\n[");
            endless(
                to,
                &begin,
                r#"{"Key":"app/k","Value":"MQ==","ModifyIndex":1},"#,
            )
        },
        ErrorKind::TooLarge,
    ),
    (
        "objects that hold objects of one scenario",
        |to| body(to, "[", r#"{"":0},"#, 31 * MIB, r#"{"":0}]"#),
        ErrorKind::Malformed,
    ),
    (
        "one object of many fields",
        |to| body(to, "{", r#""":0,"#, 31 * MIB, r#""":0}"#),
        ErrorKind::Malformed,
    ),
    (
        "one item of many unknown fields",
        |to| body(to, "[{", r#""x":{"":0},"#, 31 * MIB, r#""":0}]"#),
        ErrorKind::Malformed,
    ),
    (
        "millions of empty items",
        |to| body(to, "[", "{},", 31 * MIB, "{}]"),
        ErrorKind::Malformed,
    ),
    (
        "many small items",
        |to| {
            let item = r#"{"Key":"a","Value":null,"ModifyIndex":1},"#;
            body(
                to,
                "[",
                item,
                31 * MIB,
                &item[..item.len() - 1].replace("1}", "1}]"),
            )
        },
        ErrorKind::TooLarge,
    ),
    (
        "a huge value",
        |to| {
            let begin = r#"[{"Key":"app/k","ModifyIndex":1,"Value":""#;
            body(to, begin, "AAAA", 31 * MIB, r#""}]"#)
        },
        ErrorKind::TooLarge,
    ),
    (
        "a huge name",
        |to| {
            let begin = r#"[{"Value":null,"ModifyIndex":1,"Key":""#;
            body(to, begin, "\\u0061", 31 * MIB, r#""}]"#)
        },
        ErrorKind::Malformed,
    ),
    (
        "deep nesting",
        |to| body(to, "", "[", 31 * MIB, "]"),
        ErrorKind::Malformed,
    ),
    (
        "deep nesting in an item",
        |to| body(to, r#"[{"x":"#, "[", 31 * MIB, "]"),
        ErrorKind::Malformed,
    ),
    (
        "endless headers",
        |to| endless(to, HEAD, "X-More: and more of it\r\n"),
        ErrorKind::Unavailable,
    ),
];

fn serve(send: Send) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 ");
            let _ = send(&mut stream);
        }
    });
    address
}

#[test]
fn memory_is_bounded_for_the_answer_of_a_hostile_agent() {
    const TEST: &str = "consul_hostile::memory_is_bounded_for_the_answer_of_a_hostile_agent";
    let Some(role) = child::role() else {
        for (what, ..) in &ALL {
            Child::of(TEST).role(what).succeeds();
        }
        return;
    };
    let (what, send, kind) = ALL.into_iter().find(|(what, ..)| *what == role).unwrap();
    let address = serve(send);
    let consul = Consul::prefix("").address(address);
    let (before, begun) = (status("VmHWM") as usize * 1024, Instant::now());
    // A debug build on a busy machine may exceed the time limit of the source.
    let mut outcome = consul.load().map(|document| document.problems().to_vec());
    while outcome
        .as_ref()
        .is_err_and(|it| it.kind() == ErrorKind::Timeout)
        && begun.elapsed() < DEADLINE
    {
        outcome = consul.load().map(|document| document.problems().to_vec());
    }
    let took = status("VmHWM") as usize * 1024 - before;
    let error = match &outcome {
        Err(error) => error,
        Ok(problems) => problems.first().expect("a problem"),
    };
    child::report(format!("{what}: {} KiB, {error}", took >> 10));
    assert!(took < MOST, "{took} bytes for {what}");
    assert_eq!(error.kind(), kind, "{what}: {error}");
}

#[test]
fn memory_is_bounded_for_as_many_small_items_as_fit() {
    const TEST: &str = "consul_hostile::memory_is_bounded_for_as_many_small_items_as_fit";
    if child::role().is_none() {
        return Child::of(TEST).succeeds();
    }
    // Created before the measurement.
    static ITEMS: LazyLock<String> = LazyLock::new(|| {
        // Each one counts as 38 bytes, all of them as nearly 12.5 MiB: more than the limit of a
        // layer.
        let items =
            (100_000..440_000).map(|n| format!(r#"{{"Key":"{n}","Value":null,"ModifyIndex":1}}"#));
        items.collect::<Vec<_>>().join(",")
    });
    assert!(ITEMS.len() < 32 * MIB);
    let address = serve(|to| body(to, "[", &ITEMS, ITEMS.len(), "]"));
    let consul = Consul::prefix("").address(address);
    let before = status("VmHWM") as usize * 1024;
    let error = consul.load().unwrap_err();
    let took = status("VmHWM") as usize * 1024 - before;
    child::report(format!("{} KiB, {error}", took >> 10));
    assert!(took < MOST, "{took} bytes");
    let is_expected = matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Timeout);
    assert!(is_expected, "{error}");
}
