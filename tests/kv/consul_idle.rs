//! Consul: what an idle program costs its store, and how it notices that its watch is dead.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Consul;
use liveprops::{Properties, Source};

use crate::consul::Client;
use crate::field::{Field, SOON, Store, health, is_up, say, within};

const SECOND: Duration = Duration::from_secs(1);
/// How late a change may be seen at the worst.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// A store with so many keys below the prefix `app`, none of which has a name in common with another.
fn flat(count: usize) -> Option<Field<Client>> {
    let field = Field::<Client>::with(&[("app/n", "0")])?;
    let keys: Vec<String> = (0..count).map(|n| format!("app/key{n}")).collect();
    let changes: Vec<(&str, Option<&[u8]>)> = keys
        .iter()
        .map(|key| (key.as_str(), Some(&b"some value"[..])))
        .collect();
    field.store.change(&changes);
    Some(field)
}

/// Waits until the watch waits for changes.
fn is_followed(field: &Field<Client>, props: &Properties, n: i64) {
    field.store.put("app/n", n.to_string());
    within(SOON, "the change", || props.get::<i64>("n").unwrap() == n);
    let requests = field.proxy.requests().len();
    within(SOON, "the watch waits again", || {
        field.proxy.requests().len() > requests
    });
}

/// What an idle program transfers in one heartbeat, on average.
fn bytes_per_heartbeat(count: usize, between: impl Fn(&Field<Client>)) -> Option<usize> {
    const HEARTBEATS: usize = 4;
    let field = flat(count)?;
    let props = field.follow();
    is_followed(&field, &props, 1);
    let mut seen = 0;
    let (begun, bytes) = (Instant::now(), field.proxy.passed());
    for _ in 0..HEARTBEATS {
        between(&field);
        let next = || {
            let requests = field.proxy.requests();
            requests.iter().filter(|at| **at > begun).count() > seen
        };
        within(SOON, "a heartbeat", next);
        // Its answer, and further requests of the same heartbeat.
        thread::sleep(SECOND / 2);
        seen = {
            let requests = field.proxy.requests();
            requests.iter().filter(|at| **at > begun).count()
        };
    }
    let (took, bytes) = (begun.elapsed(), field.proxy.passed() - bytes);
    say(format!(
        "Consul: idle at {count} keys: {seen} requests and {bytes} bytes in {took:?}"
    ));
    // At most one heartbeat in 2 seconds.
    assert!(took > 2 * SECOND * (HEARTBEATS as u32 - 1), "{took:?}");
    // The watch was not affected.
    field.store.put("app/n", "2");
    within(SOON, "a change", || props.get::<i64>("n").unwrap() == 2);
    assert!(is_up(&props));
    Some(bytes / HEARTBEATS)
}

#[test]
fn an_idle_program_transfers_almost_nothing_however_many_keys_there_are() {
    let all: Vec<usize> = [1_000, 10_000]
        .into_iter()
        .filter_map(|count| bytes_per_heartbeat(count, |_| {}))
        .collect();
    for bytes in &all {
        // A heartbeat comes every 2 to 3 seconds.
        assert!(*bytes < 1500, "{all:?}");
    }
}

#[test]
fn writes_elsewhere_in_the_store_cost_an_idle_program_almost_nothing() {
    let writes = AtomicUsize::new(0);
    let write = |field: &Field<Client>| {
        let n = writes.fetch_add(1, Ordering::SeqCst);
        field.store.put("elsewhere/n", n.to_string());
    };
    if let Some(bytes) = bytes_per_heartbeat(10_000, write) {
        assert!(bytes < 3000, "{bytes}");
    }
}

#[test]
fn a_change_arrives_in_ten_seconds_although_the_connection_of_the_watch_is_dead() {
    let Some(field) = flat(20) else {
        return;
    };
    let props = field.follow();
    is_followed(&field, &props, 1);
    let nested = || props.get_opt::<i64>("deep.er.n").unwrap();
    for round in 0..2 {
        assert_eq!(field.proxy.swallow("&wait="), 1, "the watch");
        let begun = Instant::now();
        field.store.put("app/deep/er/n", round.to_string());
        let took = within(SOON, "the change", || nested() == Some(round));
        say(format!(
            "Consul: the watch is dead: {} ms",
            took.as_millis()
        ));
        assert!(begun.elapsed() < TEN_SECONDS, "{took:?}");
        // The new watch works.
        is_followed(&field, &props, round + 2);
    }
    assert!(is_up(&props) && field.agrees(&props));
}

#[test]
fn a_deletion_arrives_although_the_connection_of_the_watch_is_dead() {
    let Some(field) = flat(20) else {
        return;
    };
    let props = field.follow();
    is_followed(&field, &props, 1);
    assert_eq!(field.proxy.swallow("&wait="), 1, "the watch");
    let begun = Instant::now();
    field.store.delete("app/key7");
    within(SOON, "the deletion", || {
        props.get_opt::<String>("key7").unwrap().is_none()
    });
    assert!(begun.elapsed() < TEN_SECONDS);
}

#[test]
fn a_document_arrives_although_the_connection_of_the_watch_is_dead() {
    let Some(field) = Field::<Client>::with(&[("app.toml", "n = 1"), ("app.toml.bak", "")]) else {
        return;
    };
    let source = Client::document(field.proxy.port(), "app.toml");
    let props = Properties::builder().source(source).build().unwrap();
    let n = |wanted: i64| within(SOON, "it", || props.get::<i64>("n").unwrap() == wanted);
    field.store.put("app.toml", "n = 2");
    n(2);
    let requests = field.proxy.requests().len();
    within(SOON, "the watch waits again", || {
        field.proxy.requests().len() > requests
    });
    assert_eq!(field.proxy.swallow("&wait="), 1, "the watch");
    // Others are no news.
    field.store.put("app.toml.bak", "n = 2");
    let begun = Instant::now();
    field.store.put("app.toml", "n = 3");
    n(3);
    assert!(begun.elapsed() < TEN_SECONDS);
}

#[test]
fn an_absent_prefix_is_read_ever_less_often_while_other_keys_change() {
    let Some(field) = Field::<Client>::with(&[]) else {
        return;
    };
    let source = Client::prefix(field.proxy.port(), "not/there");
    let props = Properties::builder().source(source).build().unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            for n in 0.. {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                field.store.put("elsewhere/n", n.to_string());
                thread::sleep(SECOND / 50);
            }
        });
        thread::sleep(3 * SECOND);
        let from = Instant::now();
        let later = || {
            let requests = field.proxy.requests();
            requests.iter().filter(|at| **at > from).count()
        };
        thread::sleep(6 * SECOND);
        // Two to three heartbeats, each of up to three requests, and one or two reads.
        let count = later();
        say(format!("Consul: an absent prefix: {count} requests in 6 s"));
        let begun = Instant::now();
        field.store.put("not/there/n", "1");
        within(SOON, "what was created", || {
            props.get_opt::<i64>("n").unwrap() == Some(1)
        });
        let took = begun.elapsed();
        ended.store(true, Ordering::SeqCst);
        assert!(count <= 14, "{count} requests");
        assert!(took < TEN_SECONDS, "{took:?}");
    });
    assert!(is_up(&props));
}

/// Answers each request with what a function makes of its number; keeps when each came.
fn agent(
    answer: impl Fn(usize) -> String + Send + Sync + 'static,
) -> (Consul, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (times, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
    let seen = Arc::clone(&times);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            thread::spawn(move || {
                while request(&mut stream).is_some() {
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(Instant::now());
                        seen.len()
                    };
                    let text = format!("HTTP/1.1 {}", answer(number));
                    if stream.write_all(text.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let consul = Consul::prefix("app").address(format!("http://127.0.0.1:{port}"));
    (consul, times)
}

/// Reads a request; `None` at the end of a connection.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut request = [0; 4096];
    let length = stream
        .read(&mut request)
        .ok()
        .filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&request[..length]).into_owned())
}

fn answer_of(index: usize, body: &str) -> String {
    let length = body.len();
    format!("200 OK\r\nX-Consul-Index: {index}\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn an_agent_that_never_waits_is_asked_ever_less_often() {
    const ITEMS: &str = r#"[{"Key":"app/n","Value":"MQ==","ModifyIndex":1}]"#;
    let absent =
        |index: usize| format!("404 x\r\nX-Consul-Index: {index}\r\nContent-Length: 0\r\n\r\n");
    type Answers = Box<dyn Fn(usize) -> String + Send + Sync>;
    let all: [(&str, Answers); 5] = [
        ("zero", Box::new(move |_| absent(0))),
        ("unchanged", Box::new(move |_| absent(5))),
        ("growing", Box::new(absent)),
        ("unchanged with items", Box::new(|_| answer_of(5, ITEMS))),
        ("growing with items", Box::new(|n| answer_of(n, ITEMS))),
    ];
    thread::scope(|threads| {
        for (what, answers) in all {
            threads.spawn(move || {
                let (consul, times) = agent(answers);
                let props = Properties::builder().source(consul).build().unwrap();
                let begun = Instant::now();
                thread::sleep(8 * SECOND);
                assert!(is_up(&props), "{what}: {:?}", health(&props).status);
                drop(props);
                let times = times.lock().unwrap();
                let most = times.iter().map(|at| {
                    let within = times.iter().filter(|it| *it >= at && **it < *at + SECOND);
                    within.count()
                });
                let most = most.max().unwrap();
                let late = times.iter().filter(|at| **at > begun + 3 * SECOND).count();
                say(format!(
                    "Consul: {what}: {most} requests in a second, {late} after 3 s"
                ));
                assert!(most <= 5, "{what}: {most} requests in a second");
                // Two or three heartbeats, and one or two reads.
                assert!(late <= 12, "{what}: {late} requests after 3 s");
            });
        }
    });
}

#[test]
fn an_agent_that_closes_its_connections_without_notice_is_no_failure() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let version = Arc::new(AtomicUsize::new(1));
    let current = Arc::clone(&version);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let current = Arc::clone(&current);
            thread::spawn(move || {
                let Some(asked) = request(&mut stream) else {
                    return;
                };
                if asked.contains("wait=") {
                    let known = current.load(Ordering::SeqCst);
                    let begun = Instant::now();
                    while current.load(Ordering::SeqCst) == known && begun.elapsed() < SOON {
                        thread::sleep(SECOND / 100);
                    }
                }
                let now = current.load(Ordering::SeqCst);
                let item = format!(r#"[{{"Key":"app/n","Value":"{}","ModifyIndex":{now}}}]"#, {
                    use base64::Engine as _;
                    base64::engine::general_purpose::STANDARD.encode(now.to_string())
                });
                let _ = stream.write_all(format!("HTTP/1.1 {}", answer_of(now, &item)).as_bytes());
                // The next request on this connection meets its end.
                let _ = request(&mut stream);
            });
        }
    });
    let failures = Arc::new(AtomicUsize::new(0));
    let props = Properties::builder()
        .source(Consul::prefix("app").address(address))
        .build()
        .unwrap();
    let counted = Arc::clone(&failures);
    let _events = props.on_source_event(move |event| {
        if !matches!(event.kind, SourceEventKind::Updated) {
            counted.fetch_add(1, Ordering::SeqCst);
            say(format!("{event:?}"));
        }
    });
    // Three heartbeats, and as many changes.
    for n in 2..5 {
        thread::sleep(3 * SECOND);
        version.store(n, Ordering::SeqCst);
        within(SOON, "a change", || props.get::<usize>("n").unwrap() == n);
        assert!(is_up(&props));
    }
    assert_eq!(failures.load(Ordering::SeqCst), 0);
}

#[test]
fn a_prefix_or_key_that_no_request_can_name_is_an_error_of_the_start() {
    for prefix in [
        "config//app",
        "//app",
        "app//",
        "config/./app",
        "config/../app",
        "..",
        "./app",
        "a/b/..",
    ] {
        let error = Properties::builder()
            .source(Consul::prefix(prefix))
            .build()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(prefix) && error.contains("cannot be read over HTTP"),
            "{prefix}: {error}"
        );
    }
    // The slashes at both ends are the usual way to write one.
    for prefix in ["", "/", "/app", "app/", "/app/.hidden/..twice"] {
        let error = Consul::prefix(prefix)
            .address("http://127.0.0.1:1")
            .load()
            .unwrap_err()
            .to_string();
        assert!(!error.contains("cannot be read over"), "{prefix}: {error}");
    }
    for key in ["config//app.toml", "config/../app.toml", "", "."] {
        let error = Consul::document(key).load().unwrap_err().to_string();
        assert!(error.contains("cannot be read over HTTP"), "{key}: {error}");
    }
}

#[test]
fn keys_that_begin_with_a_slash_or_hold_empty_names_are_reported() {
    let Some(field) = Field::<Client>::with(&[]) else {
        return;
    };
    // Only a transaction can set them.
    let keys = ["/lead", "app//twice", "app/n"];
    field.store.change(&keys.map(|key| (key, Some(&b"1"[..]))));
    let source = Client::prefix(field.proxy.port(), "");
    let props = Properties::builder().source(source).build().unwrap();
    assert_eq!(props.get::<u32>("app.n").unwrap(), 1);
    let health = health(&props);
    let problems: Vec<String> = health.problems.iter().map(ToString::to_string).collect();
    for key in &keys[..2] {
        assert!(
            problems.iter().any(|told| told.contains(key)),
            "{key}: {problems:?}"
        );
    }
}
