//! Consul: the cost of an idle program, and the detection of a dead watch.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use liveprops::health::SourceEventKind;
use liveprops::sources::Consul;
use liveprops::{Properties, Source};

use crate::SECOND;
use crate::consul::Client;
use crate::scenario::{SOON, Scenario, Store, health, is_up, report, wait_until};
use crate::server::{Kind, Server};

/// The longest delay of a change.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Creates a store with `count` keys below the prefix `app`. Their names have no common part.
fn flat(count: usize) -> Option<Scenario<Client>> {
    let scenario = Scenario::<Client>::with(&[("app/n", "0")])?;
    let keys: Vec<String> = (0..count).map(|n| format!("app/key{n}")).collect();
    let changes: Vec<(&str, Option<&[u8]>)> = keys
        .iter()
        .map(|key| (key.as_str(), Some(&b"some value"[..])))
        .collect();
    scenario.store.change(&changes);
    Some(scenario)
}

/// Waits until the watch is active.
fn is_followed(scenario: &Scenario<Client>, props: &Properties, n: i64) {
    scenario.store.put("app/n", n.to_string());
    wait_until(SOON, "the change", || props.get::<i64>("n").unwrap() == n);
    let requests = scenario.proxy.requests().len();
    wait_until(SOON, "the watch waits again", || {
        scenario.proxy.requests().len() > requests
    });
}

/// Returns the average bytes that an idle program transfers per heartbeat.
fn bytes_per_heartbeat(count: usize, between: impl Fn(&Scenario<Client>)) -> Option<usize> {
    const HEARTBEATS: usize = 4;
    let scenario = flat(count)?;
    let props = scenario.follow();
    is_followed(&scenario, &props, 1);
    let mut seen = 0;
    let (begun, bytes) = (Instant::now(), scenario.proxy.forwarded());
    for _ in 0..HEARTBEATS {
        between(&scenario);
        let next = || {
            let requests = scenario.proxy.requests();
            requests.iter().filter(|at| **at > begun).count() > seen
        };
        wait_until(SOON, "a heartbeat", next);
        // Waits for the answer and further requests of the same heartbeat.
        thread::sleep(SECOND / 2);
        seen = {
            let requests = scenario.proxy.requests();
            requests.iter().filter(|at| **at > begun).count()
        };
    }
    let (took, bytes) = (begun.elapsed(), scenario.proxy.forwarded() - bytes);
    report(format!(
        "Consul: idle at {count} keys: {seen} requests and {bytes} bytes in {took:?}"
    ));
    // At most one heartbeat in 2 seconds.
    assert!(took > 2 * SECOND * (HEARTBEATS as u32 - 1), "{took:?}");
    // The watch was not affected.
    scenario.store.put("app/n", "2");
    wait_until(SOON, "a change", || props.get::<i64>("n").unwrap() == 2);
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
    let write = |scenario: &Scenario<Client>| {
        let n = writes.fetch_add(1, Ordering::SeqCst);
        scenario.store.put("elsewhere/n", n.to_string());
    };
    if let Some(bytes) = bytes_per_heartbeat(10_000, write) {
        assert!(bytes < 3000, "{bytes}");
    }
}

#[test]
fn a_change_arrives_in_ten_seconds_although_the_connection_of_the_watch_is_dead() {
    let Some(scenario) = flat(20) else {
        return;
    };
    let props = scenario.follow();
    is_followed(&scenario, &props, 1);
    let nested = || props.get_opt::<i64>("deep.er.n").unwrap();
    for round in 0..2 {
        assert_eq!(scenario.proxy.discard("&wait="), 1, "the watch");
        let begun = Instant::now();
        scenario.store.put("app/deep/er/n", round.to_string());
        let took = wait_until(SOON, "the change", || nested() == Some(round));
        report(format!(
            "Consul: the watch is dead: {} ms",
            took.as_millis()
        ));
        assert!(begun.elapsed() < TEN_SECONDS, "{took:?}");
        // The new watch works.
        is_followed(&scenario, &props, round + 2);
    }
    assert!(is_up(&props) && scenario.agrees(&props));
}

#[test]
fn a_deletion_arrives_although_the_connection_of_the_watch_is_dead() {
    let Some(scenario) = flat(20) else {
        return;
    };
    let props = scenario.follow();
    is_followed(&scenario, &props, 1);
    assert_eq!(scenario.proxy.discard("&wait="), 1, "the watch");
    let begun = Instant::now();
    scenario.store.delete("app/key7");
    wait_until(SOON, "the deletion", || {
        props.get_opt::<String>("key7").unwrap().is_none()
    });
    assert!(begun.elapsed() < TEN_SECONDS);
}

#[test]
fn a_document_arrives_although_the_connection_of_the_watch_is_dead() {
    let Some(scenario) = Scenario::<Client>::with(&[("app.toml", "n = 1"), ("app.toml.bak", "")])
    else {
        return;
    };
    let source = Client::document(scenario.proxy.port(), "app.toml");
    let props = Properties::builder().source(source).build().unwrap();
    let n = |wanted: i64| wait_until(SOON, "it", || props.get::<i64>("n").unwrap() == wanted);
    scenario.store.put("app.toml", "n = 2");
    n(2);
    let requests = scenario.proxy.requests().len();
    wait_until(SOON, "the watch waits again", || {
        scenario.proxy.requests().len() > requests
    });
    assert_eq!(scenario.proxy.discard("&wait="), 1, "the watch");
    // Changes of other keys are not reported.
    scenario.store.put("app.toml.bak", "n = 2");
    let begun = Instant::now();
    scenario.store.put("app.toml", "n = 3");
    n(3);
    assert!(begun.elapsed() < TEN_SECONDS);
}

/// A store with ACLs. It knows the address and sends requests with all rights.
struct Guarded {
    scenario: Scenario<Client>,
}

impl Guarded {
    const MASTER: &str = "1c3c4a7e-90c3-4d8c-8f0e-2d1b0c3f5a11";
    const TOKEN: &str = "5a11b0c3-3f1d-4c8c-8f0e-1c3c4a7e90c3";

    fn start(settings: &str) -> Option<Self> {
        let master = Self::MASTER;
        let rules = format!(
            "acl {{ enabled = true default_policy = \"deny\" {settings} tokens {{ master = \
             \"{master}\" }} }}"
        );
        // A write shows that the agent is ready: a list may be denied.
        let mut server = Server::prepare(Kind::Consul, &["-hcl", &rules]);
        if !server.begin() {
            return None;
        }
        let guarded = Self {
            scenario: Scenario::of(server),
        };
        wait_until(SOON, "the rules are in force", || {
            guarded.put("kv/app/n", "1").is_some()
        });
        Some(guarded)
    }

    /// `None` if the agent denies the request.
    fn put(&self, path: &str, body: &str) -> Option<()> {
        let at = format!("http://127.0.0.1:{}/v1/{path}", self.scenario.server.port());
        let put = ureq::put(at).header("x-consul-token", Self::MASTER);
        put.send(body)
            .is_ok_and(|it| it.status() == 200)
            .then_some(())
    }

    /// The accessor id of the token.
    fn token_accessor(&self) -> String {
        let port = self.scenario.server.port();
        let at = format!("http://127.0.0.1:{port}/v1/acl/token/self");
        let answer = ureq::get(at).header("x-consul-token", Self::TOKEN).call();
        let bytes = answer.unwrap().body_mut().read_to_vec().unwrap();
        let token: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        token["AccessorID"].as_str().unwrap().to_owned()
    }

    /// Creates a token with these rights.
    fn allow(&self, rules: &str) {
        let rules = rules.replace('"', "\\\"");
        let policy = format!(r#"{{"Name":"app","Rules":"{rules}"}}"#);
        self.put("acl/policy", &policy).unwrap();
        let token = format!(
            r#"{{"SecretID":"{}","Policies":[{{"Name":"app"}}]}}"#,
            Self::TOKEN
        );
        self.put("acl/token", &token).unwrap();
    }
}

#[test]
fn a_token_for_the_prefix_alone_is_enough_for_heartbeats() {
    for (settings, policy) in [("", "read"), ("enable_key_list_policy = true", "list")] {
        let Some(guarded) = Guarded::start(settings) else {
            return;
        };
        guarded.allow(&format!(r#"key_prefix "app/" {{ policy = "{policy}" }}"#));
        let failures = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&failures);
        let proxy = &guarded.scenario.proxy;
        let consul = Consul::prefix("app")
            .address(format!("http://127.0.0.1:{}", proxy.port()))
            .token(Guarded::TOKEN.to_owned());
        let props = Properties::builder()
            .source(consul)
            .on_source_event(move |event| {
                use SourceEventKind::{Initialized, Updated};
                if !matches!(event.kind, Initialized | Updated) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    report(format!("{event:?}"));
                }
            })
            .build()
            .unwrap();
        assert_eq!(props.get::<u32>("n").unwrap(), 1);
        // The token may not list keys outside of the prefix.
        for n in 0..4 {
            guarded.put("kv/elsewhere/n", &n.to_string()).unwrap();
            let requests = proxy.requests().len();
            wait_until(SOON, "a heartbeat", || proxy.requests().len() > requests);
        }
        assert_eq!(failures.load(Ordering::SeqCst), 0, "{settings}");
        assert_eq!(proxy.discard("&wait="), 1, "the watch");
        let begun = Instant::now();
        guarded.put("kv/app/n", "2").unwrap();
        wait_until(SOON, "the change", || props.get::<u32>("n").unwrap() == 2);
        assert!(begun.elapsed() < TEN_SECONDS, "{settings}");
    }
}

#[test]
fn a_token_that_loses_or_gets_its_rights_is_noticed_soon() {
    let Some(guarded) = Guarded::start("") else {
        return;
    };
    guarded.allow(r#"key_prefix "elsewhere/" { policy = "read" }"#);
    let consul = Consul::prefix("app")
        .address(format!(
            "http://127.0.0.1:{}",
            guarded.scenario.proxy.port()
        ))
        .token(Guarded::TOKEN.to_owned());
    let props = Properties::builder()
        .source(consul.with(|policy| policy.unguarded()))
        .build()
        .unwrap();
    let n = || props.get_opt::<u32>("n").unwrap();
    // The agent returns an empty store for this token.
    assert_eq!(n(), None);
    let all = r#"{"Name":"all","Rules":"key_prefix \"app/\" { policy = \"read\" }"}"#;
    guarded.put("acl/policy", all).unwrap();
    let set = |policy: &str| {
        let token = guarded.token_accessor();
        let body = format!(
            r#"{{"AccessorID":"{token}","SecretID":"{}","Policies":[{{"Name":"{policy}"}}]}}"#,
            Guarded::TOKEN
        );
        guarded.put(&format!("acl/token/{token}"), &body).unwrap();
    };
    set("all");
    let begun = Instant::now();
    wait_until(2 * SOON, "what it may read", || n() == Some(1));
    report(format!("Consul: rights granted: {:?}", begun.elapsed()));
    set("app");
    let begun = Instant::now();
    wait_until(2 * SOON, "what it may not read", || n().is_none());
    report(format!("Consul: rights revoked: {:?}", begun.elapsed()));
}

#[test]
fn an_absent_prefix_is_read_ever_less_often_while_other_keys_change() {
    let Some(scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    let source = Client::prefix(scenario.proxy.port(), "not/there");
    let props = Properties::builder().source(source).build().unwrap();
    let ended = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            for n in 0.. {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                scenario.store.put("elsewhere/n", n.to_string());
                thread::sleep(SECOND / 50);
            }
        });
        thread::sleep(3 * SECOND);
        let from = Instant::now();
        let later = || {
            let requests = scenario.proxy.requests();
            requests.iter().filter(|at| **at > from).count()
        };
        thread::sleep(6 * SECOND);
        // Two to three heartbeats, each of up to three requests, and one or two reads.
        let count = later();
        report(format!("Consul: an absent prefix: {count} requests in 6 s"));
        let begun = Instant::now();
        scenario.store.put("not/there/n", "1");
        wait_until(SOON, "the new key", || {
            props.get_opt::<i64>("n").unwrap() == Some(1)
        });
        let took = begun.elapsed();
        ended.store(true, Ordering::SeqCst);
        assert!(count <= 14, "{count} requests");
        assert!(took < TEN_SECONDS, "{took:?}");
    });
    assert!(is_up(&props));
}

/// Starts a server that answers requests by their number and records their times.
fn agent(
    answer: impl Fn(usize) -> String + Send + Sync + 'static,
) -> (Consul, Arc<Mutex<Vec<Instant>>>) {
    agent_that_reads(move |number, _| answer(number))
}

/// Like the one above, but the answer also depends on the text of the request.
fn agent_that_reads(
    answer: impl Fn(usize, &str) -> String + Send + Sync + 'static,
) -> (Consul, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (times, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
    let seen = Arc::clone(&times);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            thread::spawn(move || {
                while let Some(asked) = request(&mut stream) {
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(Instant::now());
                        seen.len()
                    };
                    let text = format!("HTTP/1.1 {}", answer(number, &asked));
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

/// Reads a request; `None` at the end of the connection.
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
fn an_agent_that_never_waits_is_polled_less_and_less_often() {
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
                report(format!(
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
fn an_older_answer_changes_nothing_before_a_consistent_read_confirms_it() {
    let item = |value: &str, index: usize| {
        let item = format!(r#"[{{"Key":"app/n","Value":"{value}","ModifyIndex":{index}}}]"#);
        answer_of(index, &item)
    };
    const NEW: &str = "OQ==";
    const OLD: &str = "NA==";
    let (reads, olds) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (consistent, older) = (Arc::clone(&reads), Arc::clone(&olds));
    let (consul, _) = agent_that_reads(move |_, asked| {
        if asked.contains("heartbeat") || asked.contains("keys&") {
            return "404 x\r\nX-Consul-Index: 9\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        if !asked.contains("wait=") {
            consistent.fetch_add(1, Ordering::SeqCst);
            return item(NEW, 9);
        }
        // A server that is behind answers three times.
        if older.fetch_add(1, Ordering::SeqCst) >= 3 {
            thread::sleep(SOON);
        }
        item(OLD, 4)
    });
    let props = Properties::builder().source(consul).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let changes = Arc::clone(&seen);
    let _guard = props.on_change_under("", move |batch| {
        let all = batch.changes().iter().map(ToString::to_string);
        changes.lock().unwrap().extend(all);
    });
    wait_until(SOON, "a consistent read after each", || {
        olds.load(Ordering::SeqCst) >= 4 && reads.load(Ordering::SeqCst) >= 5
    });
    assert_eq!(props.get::<u32>("n").unwrap(), 9);
    assert!(seen.lock().unwrap().is_empty(), "{seen:?}");
}

#[test]
fn an_answer_that_is_too_large_is_not_read_again_until_something_changes() {
    let is_large = Arc::new(AtomicBool::new(true));
    let reads = Arc::new(AtomicUsize::new(0));
    let (large, counted) = (Arc::clone(&is_large), Arc::clone(&reads));
    let (consul, _) = agent_that_reads(move |_, asked| {
        if asked.contains("heartbeat") || asked.contains("keys&") {
            return "404 x\r\nX-Consul-Index: 7\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        counted.fetch_add(1, Ordering::SeqCst);
        if asked.contains("wait=") {
            let begun = Instant::now();
            while large.load(Ordering::SeqCst) && begun.elapsed() < 2 * SOON {
                thread::sleep(SECOND / 100);
            }
        }
        if large.load(Ordering::SeqCst) {
            let item = r#"{"Key":"app/n","Value":null,"ModifyIndex":1}"#;
            return answer_of(7, &format!("[{}]", vec![item; 400_000].join(",")));
        }
        answer_of(8, r#"[{"Key":"app/n","Value":"MQ==","ModifyIndex":8}]"#)
    });
    let props = Properties::builder()
        .source(consul.with(|policy| policy.optional()))
        .build()
        .unwrap();
    wait_until(SOON, "the watch waits", || {
        reads.load(Ordering::SeqCst) >= 3
    });
    let (before, begun) = (reads.load(Ordering::SeqCst), Instant::now());
    while begun.elapsed() < 7 * SECOND {
        assert!(!is_up(&props));
        thread::sleep(SECOND / 10);
    }
    assert_eq!(reads.load(Ordering::SeqCst), before);
    let message = format!("{:?}", health(&props).status);
    assert!(message.contains("13107200 bytes"), "{message}");
    is_large.store(false, Ordering::SeqCst);
    wait_until(SOON, "what fits", || {
        props.get_opt::<u32>("n").unwrap() == Some(1) && is_up(&props)
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
                // The next request on this connection fails.
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
            report(format!("{event:?}"));
        }
    });
    // Three heartbeats, and as many changes.
    for n in 2..5 {
        thread::sleep(3 * SECOND);
        version.store(n, Ordering::SeqCst);
        wait_until(SOON, "a change", || props.get::<usize>("n").unwrap() == n);
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
    // Prefixes are usually written with slashes at both ends.
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
    let Some(scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    // Only a transaction sets such keys.
    let keys = ["/lead", "app//twice", "app/n"];
    scenario
        .store
        .change(&keys.map(|key| (key, Some(&b"1"[..]))));
    let source = Client::prefix(scenario.proxy.port(), "");
    let props = Properties::builder().source(source).build().unwrap();
    assert_eq!(props.get::<u32>("app.n").unwrap(), 1);
    let health = health(&props);
    let problems: Vec<String> = health.problems.iter().map(ToString::to_string).collect();
    for key in &keys[..2] {
        assert!(
            problems.iter().any(|message| message.contains(key)),
            "{key}: {problems:?}"
        );
    }
}
