//! NATS JetStream: behaviour that no other store has.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use liveprops::source::Scope;
use liveprops::sources::Nats;
use liveprops::{Properties, Source};

use crate::SECOND;
use crate::cluster::Cluster;
use crate::faults::others_stay;
use crate::proxy::{Mode, Proxy};
use crate::quorum::Members;
use crate::scenario::{
    Reader, SOON, Scenario, Store, health, is_up, report_time, toml, wait_until,
};
use crate::server::{Kind, Server};
use crate::suite;

/// A minimal client that shares no code with the tested one.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
    number: usize,
    asked: usize,
}

impl Wire {
    pub(crate) fn connect(port: u16, login: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // Answers are addressed to one connection.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let mut wire = Self {
            stream: BufReader::new(stream),
            number,
            asked: 0,
        };
        wire.line();
        wire.write(
            format!(
                "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true{login}}}\r\n\
                 SUB answer.{number}.* 1\r\n"
            )
            .as_bytes(),
        );
        wire
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }

    /// Sends a message, with a reply subject if `answer` is set.
    fn send(&mut self, subject: &str, headers: &str, body: &[u8], answer: bool) {
        let reply = match answer {
            true => format!(" answer.{}.{}", self.number, self.asked),
            false => String::new(),
        };
        self.asked += 1;
        let mut message = match headers.is_empty() {
            true => format!("PUB {subject}{reply} {}\r\n", body.len()),
            false => {
                let headers = format!("NATS/1.0\r\n{headers}\r\n");
                let (some, all) = (headers.len(), headers.len() + body.len());
                format!("HPUB {subject}{reply} {some} {all}\r\n{headers}")
            }
        }
        .into_bytes();
        message.extend(body);
        message.extend(b"\r\n");
        self.write(&message);
    }

    fn answer(&mut self) -> String {
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first() {
                Some(&"PING") => self.write(b"PONG\r\n"),
                Some(&"MSG" | &"HMSG") => {
                    let mut body = vec![0; words.last().unwrap().parse::<usize>().unwrap() + 2];
                    self.stream.read_exact(&mut body).unwrap();
                    return String::from_utf8_lossy(&body).into_owned();
                }
                Some(&"INFO" | &"+OK") => {}
                _ => panic!("{line}"),
            }
        }
    }

    pub(crate) fn request(&mut self, subject: &str, headers: &str, body: &[u8]) -> String {
        self.send(subject, headers, body, true);
        self.answer()
    }

    /// Sends a JetStream request that has to succeed.
    fn api(&mut self, what: &str, body: &str) -> String {
        let answer = self.request(&format!("$JS.API.{what}"), "", body.as_bytes());
        assert!(!answer.contains("\"error\""), "{what}: {answer}");
        answer
    }

    /// Creates the bucket unless it exists.
    pub(crate) fn make(&mut self, more: &str) {
        let answer = self.ask_to_make(more);
        assert!(!answer.contains("\"error\""), "{answer}");
    }

    fn ask_to_make(&mut self, more: &str) -> String {
        let body = format!(
            "{{\"name\":\"KV_config\",\"subjects\":[\"$KV.config.>\"],\"max_msgs_per_subject\":1,\
             \"discard\":\"new\",\"allow_rollup_hdrs\":true,\"deny_delete\":true,\
             \"allow_direct\":true,\"allow_atomic\":true,\"storage\":\"file\",\
             \"num_replicas\":1{more}}}"
        );
        self.request("$JS.API.STREAM.CREATE.KV_config", "", body.as_bytes())
    }

    fn consumers(&mut self) -> Vec<String> {
        let answer = self.api("CONSUMER.NAMES.KV_config", "");
        let (_, list) = answer.split_once("\"consumers\":").unwrap();
        let list = list.split(']').next().unwrap().trim_start_matches('[');
        list.split(',')
            .map(|name| name.trim_matches('"').to_owned())
            .filter(|name| !name.is_empty() && !name.starts_with("null"))
            .collect()
    }
}

pub(crate) struct Client(Mutex<Wire>);

/// Requests of tests with several servers, some of which may not answer.
pub(crate) mod cluster {
    use super::{BufRead, BufReader, Read, SECOND, SOON, TcpStream, Wire, Write, wait_until};

    /// Creates a bucket with three replicas as soon as the servers form a cluster.
    pub(crate) fn make(port: u16) {
        let mut wire = Wire::connect(port, "");
        wait_until(SOON, "the bucket", || {
            let answer = wire.ask_to_make(",\"num_replicas\":3");
            !answer.contains("\"error\"")
        });
    }

    /// Sends a request on a new connection; `None` without an answer.
    pub(crate) fn ask(port: u16, subject: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(2 * SECOND)).ok()?;
        let message = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\n\
             SUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n",
            body.len()
        );
        stream.write_all(message.as_bytes()).ok()?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while !line.starts_with("MSG") && !line.starts_with("HMSG") {
            line.clear();
            if lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        let length = line.split_whitespace().last()?.parse().ok()?;
        let mut body = vec![0; length];
        lines.read_exact(&mut body).ok()?;
        Some(String::from_utf8_lossy(&body).into_owned())
    }
}

impl Client {
    fn wire(&self) -> std::sync::MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

pub(crate) fn subject(key: &str) -> String {
    format!("$KV.config.{}", key.replace('/', "."))
}

fn source(port: u16, nats: Nats) -> Box<dyn Source> {
    Box::new(nats.address(format!("nats://127.0.0.1:{port}")))
}

fn below(prefix: &str) -> Nats {
    Nats::bucket("config").prefix(prefix.replace('/', "."))
}

impl Store for Client {
    const KIND: Kind = Kind::Nats;
    const LARGEST: usize = 1 << 20;

    fn connect(server: &Server) -> Self {
        let mut wire = Wire::connect(server.port(), "");
        wire.make("");
        Self(Mutex::new(wire))
    }

    /// Sends several changes as one atomic batch.
    fn change(&self, changes: &[(&str, Option<&[u8]>)]) {
        let mut wire = self.wire();
        let id = format!("batch{}.{}", wire.number, wire.asked);
        for (n, (key, value)) in changes.iter().enumerate() {
            let last = n + 1 == changes.len();
            let mut headers = String::new();
            if changes.len() > 1 {
                headers = format!("Nats-Batch-Id: {id}\r\nNats-Batch-Sequence: {}\r\n", n + 1);
                if last {
                    headers.push_str("Nats-Batch-Commit: 1\r\n");
                }
            }
            if value.is_none() {
                headers.push_str("KV-Operation: DEL\r\n");
            }
            wire.send(&subject(key), &headers, value.unwrap_or_default(), last);
        }
        let answer = wire.answer();
        assert!(answer.contains("\"seq\":"), "{answer}");
    }

    fn prefix(port: u16, prefix: &str) -> Box<dyn Source> {
        source(port, below(prefix))
    }

    fn with_document(port: u16, prefix: &str, key: &str) -> Box<dyn Source> {
        source(port, below(prefix).as_document(key, toml()))
    }

    fn document(port: u16, key: &str) -> Box<dyn Source> {
        source(port, Nats::bucket("config").document(key).format(toml()))
    }

    fn of_scope(port: u16, prefix: &str, scope: &Scope) -> Vec<Box<dyn Source>> {
        let all = below(prefix).of_scope(scope).unwrap().into_iter();
        all.map(|one| source(port, one)).collect()
    }

    fn all(&self) -> BTreeMap<String, String> {
        use base64::Engine as _;
        let mut wire = self.wire();
        let parse =
            |answer: String| -> serde_json::Value { serde_json::from_str(&answer).unwrap() };
        let filter = "{\"subjects_filter\":\"$KV.config.app.>\"}";
        let state = parse(wire.api("STREAM.INFO.KV_config", filter));
        let subjects = state["state"]["subjects"].as_object();
        let subjects = subjects.into_iter().flat_map(|all| all.keys());
        let mut all = BTreeMap::new();
        for subject in subjects {
            let body = format!("{{\"last_by_subj\":\"{subject}\"}}");
            let message = parse(wire.api("STREAM.MSG.GET.KV_config", &body));
            let text = |name: &str| {
                let bytes = message["message"][name].as_str().unwrap_or_default();
                let bytes = base64::engine::general_purpose::STANDARD.decode(bytes);
                String::from_utf8(bytes.unwrap()).unwrap()
            };
            let headers = text("hdrs");
            if !headers.contains("KV-Operation") && !headers.contains("Nats-Marker-Reason") {
                let key = subject["$KV.config.".len()..].replace('.', "/");
                all.insert(key, text("data"));
            }
        }
        all
    }

    fn readers(&self) -> usize {
        self.wire().consumers().len()
    }
}

suite!(Client);

fn scenario() -> Option<Scenario<Client>> {
    let keys: Vec<(String, String)> = (0..20)
        .map(|n| (format!("app/n{n}"), n.to_string()))
        .collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Scenario::with(&keys)
}

fn n0(props: &Properties) -> i64 {
    props.get("n0").unwrap()
}

#[test]
fn a_document_is_one_generation_whatever_it_changes() {
    let Some(scenario) = scenario() else { return };
    let text = |value: u32| -> String { (0..64).map(|n| format!("k{n} = {value}\n")).collect() };
    scenario.store.put("app/all", text(0));
    let source = Client::with_document(scenario.proxy.port(), "app", "all");
    let props = Properties::builder().source(source).build().unwrap();
    let (send, batches) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let _ = send.send(batch.changes().len());
    });
    let before = props.generation();
    scenario.store.put("app/all", text(1));
    assert_eq!(batches.recv_timeout(SOON), Ok(64));
    assert_eq!(props.get::<u32>("all.k0").unwrap(), 1);
    assert_eq!(props.generation(), before + 1);
    assert!(batches.try_recv().is_err());
}

#[test]
fn a_burst_becomes_few_generations_and_the_last_value_is_right() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    let before = props.generation();
    // Servers without batches get single changes.
    let mut wire = scenario.store.wire();
    for n in 0..64 {
        let key = subject(&format!("app/n{}", n % 8));
        let answer = wire.request(&key, "", (n + 100).to_string().as_bytes());
        assert!(answer.contains("\"seq\":"), "{answer}");
    }
    wait_until(SOON, "the last", || props.get::<u32>("n7").unwrap() == 163);
    assert_eq!(n0(&props), 156);
    let generations = props.generation() - before;
    println!("Nats: 64 puts: {generations} generations");
    assert!(generations <= 8, "{generations}");
}

#[test]
fn a_deleted_consumer_is_noticed_and_created_again() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    wait_until(SOON, "the program follows the store", || {
        scenario.store.wire().consumers().len() == 1
    });
    let names = scenario.store.wire().consumers();
    for name in names {
        let what = format!("CONSUMER.DELETE.KV_config.{name}");
        scenario.store.wire().api(&what, "");
    }
    scenario.store.put("app/n0", "1");
    let took = wait_until(6 * SECOND, "the change", || n0(&props) == 1);
    report_time::<Client>("consumer deleted", took);
    reader.assert_recovered(&scenario, &props);
    assert_eq!(scenario.store.wire().consumers().len(), 1);
}

#[test]
fn a_purged_key_is_removed_with_and_without_a_marker() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    let purge = "KV-Operation: PURGE\r\nNats-Rollup: sub\r\n";
    scenario
        .store
        .wire()
        .request(&subject("app/n1"), purge, b"");
    wait_until(2 * SECOND, "the purge of a key", || {
        props.get_opt::<i64>("n1").unwrap().is_none()
    });
    // The marker of a server for an expired key.
    let marker = "Nats-Marker-Reason: MaxAge\r\n";
    scenario
        .store
        .wire()
        .request(&subject("app/n2"), marker, b"");
    wait_until(2 * SECOND, "what has expired", || {
        props.get_opt::<i64>("n2").unwrap().is_none()
    });
    // This deletion causes no message.
    let filter = format!("{{\"filter\":\"{}\"}}", subject("app/n3"));
    scenario.store.wire().api("STREAM.PURGE.KV_config", &filter);
    let took = wait_until(6 * SECOND, "the purge of the stream", || {
        props.get_opt::<i64>("n3").unwrap().is_none()
    });
    report_time::<Client>("purged without a marker", took);
    scenario.store.put("app/n0", "1");
    wait_until(SOON, "the program follows the store", || n0(&props) == 1);
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_missing_bucket_is_empty_and_followed_once_it_is_created() {
    let Some(scenario) = scenario() else { return };
    scenario.store.wire().api("STREAM.DELETE.KV_config", "");
    let props = scenario.follow();
    assert!(props.snapshot().keys().is_empty());
    wait_until(SOON, "the source is up", || is_up(&props));
    std::thread::sleep(SECOND);
    scenario.store.wire().make("");
    scenario.store.put("app/deep/er/n", "7");
    let took = wait_until(2 * SECOND, "the bucket", || {
        props.get_opt::<u32>("deep.er.n").unwrap() == Some(7)
    });
    report_time::<Client>("bucket made", took);
    scenario.store.put("app/deep/er/n", "8");
    wait_until(SOON, "the program follows the store", || {
        props.get::<u32>("deep.er.n").unwrap() == 8
    });
}

#[test]
fn a_recreated_bucket_is_followed_and_its_removals_are_withheld() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    scenario.store.wire().api("STREAM.DELETE.KV_config", "");
    scenario.store.wire().make("");
    scenario.store.put("app/n0", "1");
    let took = wait_until(6 * SECOND, "an update is withheld", || {
        health(&props).withheld.is_some()
    });
    report_time::<Client>("bucket created again: withheld", took);
    assert!(others_stay(&props));
    for n in 1..20 {
        scenario.store.put(&format!("app/n{n}"), n.to_string());
    }
    wait_until(SOON, "nothing is withheld any more", || {
        health(&props).withheld.is_none()
    });
    scenario.store.put("app/n0", "2");
    wait_until(SOON, "the program follows the store", || n0(&props) == 2);
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_bucket_that_expires_values_is_reported_and_expired_keys_go() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    assert!(health(&props).degraded.is_none());
    drop(props);
    scenario.store.wire().api("STREAM.DELETE.KV_config", "");
    scenario
        .store
        .wire()
        .make(",\"max_age\":6000000000,\"duplicate_window\":1000000000");
    let refresh = || (0..20).for_each(|n| scenario.store.put(&format!("app/n{n}"), n.to_string()));
    refresh();
    scenario.store.put("app/brief", "1");
    let props = scenario.follow();
    let reported_after = wait_until(SOON, "health has a warning", || {
        health(&props).degraded.is_some()
    });
    assert!(reported_after < SECOND, "{reported_after:?}");
    let warning = health(&props).degraded.unwrap().to_string();
    assert!(
        warning.contains("expire") && warning.contains("6s"),
        "{warning}"
    );
    let mut refreshed = Instant::now();
    let took = wait_until(SOON, "it expires", || {
        if refreshed.elapsed() > 2 * SECOND {
            refresh();
            refreshed = Instant::now();
        }
        props.get_opt::<u32>("brief").unwrap().is_none()
    });
    report_time::<Client>("expired after 6 s", took);
    assert!(took > 3 * SECOND && took < 12 * SECOND, "{took:?}");
    assert!(others_stay(&props) && n0(&props) == 0);
}

#[test]
fn the_values_of_a_bucket_in_which_everything_expires_stay() {
    let Some(scenario) = scenario() else { return };
    scenario.store.wire().api("STREAM.DELETE.KV_config", "");
    let ages = ",\"max_age\":3000000000,\"duplicate_window\":1000000000";
    scenario.store.wire().make(ages);
    // Written at once: keys written much earlier would expire separately.
    {
        let mut wire = scenario.store.wire();
        for n in 0..20 {
            let value = n.to_string();
            wire.send(
                &subject(&format!("app/n{n}")),
                "",
                value.as_bytes(),
                n == 19,
            );
        }
        wire.answer();
    }
    let props = scenario.follow();
    let messages = || scenario.store.wire().api("STREAM.INFO.KV_config", "");
    wait_until(SOON, "all are gone there", || {
        messages().contains("\"messages\":0,")
    });
    let took = wait_until(SOON, "an update is withheld", || {
        health(&props).withheld.is_some()
    });
    report_time::<Client>("all expired: withheld", took);
    std::thread::sleep(SECOND);
    assert!(others_stay(&props) && n0(&props) == 0);
    // The store is filled again.
    (0..20).for_each(|n| scenario.store.put(&format!("app/n{n}"), n.to_string()));
    wait_until(SOON, "nothing is withheld any more", || {
        health(&props).withheld.is_none()
    });
    assert!(others_stay(&props));
}

#[test]
fn writes_during_a_full_read_are_never_missing() {
    let Some(scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    let keys: Vec<String> = (0..1000).map(|n| subject(&format!("app/n{n}"))).collect();
    let mut wire = Wire::connect(scenario.server.port(), "");
    for key in &keys {
        wire.request(key, "", b"1");
    }
    let ended = AtomicBool::new(false);
    let port = scenario.proxy.port();
    std::thread::scope(|scope| {
        let ended = &ended;
        let writer = scope.spawn(move || {
            // Some keys exist, others are new; none is ever deleted.
            let mut written = 0;
            while !ended.load(Ordering::SeqCst) {
                for n in 0..8 {
                    let key = &keys[(written * 617 + n * 131) % keys.len()];
                    wire.send(key, "", b"1", n == 7);
                }
                wire.answer();
                let new = subject(&format!("other/n{written}"));
                wire.request(&new, "", b"1");
                written += 8;
                std::thread::sleep(Duration::from_micros(500));
            }
            written
        });
        let counts: Vec<usize> = (0..40)
            .map(|_| {
                let document = Client::prefix(port, "app").load().unwrap();
                document.iter().count()
            })
            .collect();
        ended.store(true, Ordering::SeqCst);
        let written = writer.join().unwrap();
        assert!(written > 1000, "{written}");
        assert!(counts.iter().all(|count| *count == 1000), "{counts:?}");
    });
}

/// A bucket of twenty keys with three replicas.
fn three_members() -> Option<(Cluster, usize)> {
    let cluster = Cluster::start(Kind::Nats)?;
    cluster::make(cluster.servers[0].port());
    for n in 0..20 {
        let (key, value) = (format!("app/n{n}"), n.to_string());
        wait_until(SOON, "it can be written to", || {
            Client::try_put(&cluster, 0, &key, &value)
        });
    }
    let mut leader = None;
    wait_until(SOON, "one leads", || {
        leader = (0..3).find(|n| Client::leads(&cluster, *n));
        leader.is_some()
    });
    Some((cluster, leader.unwrap()))
}

fn a_member_comes_back_behind(wiped: bool) {
    let Some((mut cluster, leader)) = three_members() else {
        return;
    };
    let port = cluster.servers[leader].port();
    let nats = || below("app").address(format!("127.0.0.1:{port}"));
    let props = Properties::builder().source(nats()).build().unwrap();
    wait_until(SOON, "the source is up", || is_up(&props));
    let member = cluster.others(leader)[0];
    cluster.kill(member);
    if wiped {
        cluster.servers[member].wipe();
    }
    let mut wire = Wire::connect(port, "");
    // The member has to receive everything before it has the last value.
    let text = [b'x'; 1024];
    for n in 1..=20_000 {
        let waits = n % 500 == 0;
        wire.send(&subject(&format!("other/n{n}")), "", &text, waits);
        if waits {
            let answer = wire.answer();
            assert!(answer.contains("\"seq\":"), "{answer}");
        }
    }
    let last = 7;
    wire.request(&subject("app/n0"), "", b"7");
    wait_until(SOON, "the last", || n0(&props) == last);
    let ended = AtomicBool::new(false);
    let (read, failed) = std::thread::scope(|scope| {
        let (ended, props) = (&ended, &props);
        let reader = scope.spawn(move || {
            let (mut read, mut failed) = (0, 0);
            while !ended.load(Ordering::SeqCst) {
                match nats().load() {
                    Ok(document) => {
                        assert_eq!(document.iter().count(), 20);
                        read += 1;
                    }
                    Err(error) => {
                        println!("{error}");
                        failed += 1;
                    }
                }
                let _ = props.refresh_now();
                assert_eq!(n0(props), last);
                assert!(others_stay(props));
            }
            (read, failed)
        });
        cluster.restart(member);
        std::thread::sleep(4 * SECOND);
        ended.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    println!("Nats: a member behind: {read} read, {failed} failed");
    assert!(read > 2 && failed < 5, "{read} {failed}");
    wait_until(SOON, "the source is up", || is_up(&props));
    cluster.servers[member].wait();
    wait_until(10 * SECOND, "one consumer is left", || {
        wire.consumers().len() == 1
    });
}

#[test]
fn a_returned_member_that_lags_changes_nothing() {
    a_member_comes_back_behind(false);
}

#[test]
fn a_returned_member_without_data_changes_nothing() {
    a_member_comes_back_behind(true);
}

#[test]
fn a_mirror_of_a_bucket_is_read_by_its_own_name() {
    let Some(scenario) = scenario() else { return };
    let body = "{\"name\":\"KV_copy\",\"max_msgs_per_subject\":1,\"storage\":\"file\",\
                \"num_replicas\":1,\"mirror\":{\"name\":\"KV_config\"}}";
    scenario.store.wire().api("STREAM.CREATE.KV_copy", body);
    std::thread::sleep(SECOND);
    let copy = Nats::bucket("copy").prefix("app");
    let copy = source(scenario.proxy.port(), copy);
    let props = Properties::builder().source(copy).build().unwrap();
    assert!(others_stay(&props));
    scenario.store.put("app/n0", "1");
    wait_until(SOON, "a change", || n0(&props) == 1);
    let origin = props.explain("n0").origin.unwrap().to_string();
    assert!(origin.contains("copy.app.n0"), "{origin}");
}

#[test]
fn fifty_cuts_leave_no_consumer_behind() {
    let Some(scenario) = scenario() else { return };
    let programs: Vec<Properties> = (0..10).map(|_| scenario.follow()).collect();
    for n in 1..=6 {
        wait_until(SOON, "all follow", || {
            scenario.store.wire().consumers().len() >= 10 && scenario.proxy.open() >= 10
        });
        scenario.proxy.cut();
        scenario.store.put("app/n0", n.to_string());
        std::thread::sleep(Duration::from_millis(50));
    }
    wait_until(SOON, "the last value", || {
        programs.iter().all(|props| n0(props) == 6)
    });
    assert!(scenario.proxy.connections().len() >= 10 + 60);
    let some = scenario.store.wire().consumers().len();
    println!("Nats: 60 cuts: {some} consumers");
    wait_until(10 * SECOND, "one is left for each", || {
        scenario.store.wire().consumers().len() == 10
    });
    drop(programs);
    wait_until(SECOND, "none is left", || {
        scenario.store.wire().consumers().is_empty()
    });
}

/// Follows a source with one value.
pub(crate) fn follows(nats: Nats) -> Result<(), liveprops::Error> {
    let props = Properties::builder().load_timeout(3 * SECOND).source(nats);
    let props = props.build()?;
    assert_eq!(props.get::<u32>("app.k")?, 1);
    wait_until(SOON, "the program follows the store", || is_up(&props));
    Ok(())
}

pub(crate) fn with_login(arguments: &[&str], login: &str) -> Option<Server> {
    let server = Server::start_with(Kind::Nats, arguments)?;
    let mut wire = Wire::connect(server.port(), login);
    wire.make("");
    wire.request(&subject("app/k"), "", b"1");
    Some(server)
}

pub(crate) fn at(server: &Server) -> Nats {
    Nats::bucket("config").address(format!("127.0.0.1:{}", server.port()))
}

#[test]
fn a_token_and_a_password_are_sent_and_never_reported() {
    let login = ",\"auth_token\":\"s3cr3t\"";
    let Some(server) = with_login(&["--auth", "s3cr3t"], login) else {
        return;
    };
    follows(at(&server).token("s3cr3t\n".to_owned())).unwrap();
    for wrong in [at(&server), at(&server).token("wr0ng".to_owned())] {
        assert!(!format!("{wrong:?}").contains("wr0ng"));
        let message = follows(wrong).unwrap_err().to_string();
        assert!(
            message.contains("credentials") && !message.contains("wr0ng"),
            "{message}"
        );
    }
    let address = format!("nats://me:wr0ng@127.0.0.1:{}", server.port());
    let text = follows(at(&server).address(address))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("127.0.0.1") && !text.contains("wr0ng"),
        "{text}"
    );

    let login = ",\"user\":\"me\",\"pass\":\"s3cr3t\"";
    let arguments = ["--user", "me", "--pass", "s3cr3t"];
    let Some(server) = with_login(&arguments, login) else {
        return;
    };
    follows(at(&server).user("me", "s3cr3t".to_owned())).unwrap();
    assert!(follows(at(&server).user("me", "wr0ng".to_owned())).is_err());
}

/// Starts a server with a value and then applies settings that the client of this file does not
/// support.
pub(crate) fn with_settings(dir: &Path, settings: &str) -> Option<Server> {
    let file = dir.join("nats.conf");
    std::fs::write(&file, "max_payload: 1MB\n").unwrap();
    let mut server = with_login(&["-c", &file.display().to_string()], "")?;
    server.kill();
    std::fs::write(&file, settings).unwrap();
    server.restart();
    Some(server)
}

#[test]
fn a_key_signs_and_so_does_a_file_of_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "authorization { users: [ { nkey: \
                    UDYR6FZ25NOY6RUDWWRZXQ3YUFI2CO6DPWSPSC6NVNUJKBZLOPYJFYDV } ] }";
    let Some(server) = with_settings(dir.path(), settings) else {
        return;
    };
    // A key pair of this test only.
    let seed = "SUAG4GQLI7HGMAFNEC3Z7ES7TM2DTRV6LVR7KW3ZHM6AO4OXVZASBLHL3M";
    follows(at(&server).nkey(seed.to_owned())).unwrap();
    for wrong in [seed.replace("AG", "AH"), "SUsomething".to_owned()] {
        let error = follows(at(&server).nkey(wrong.clone())).unwrap_err();
        assert!(!error.to_string().contains(&wrong), "{error}");
    }

    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let settings = file("operator.conf", include_str!("nats/operator.conf"));
    let settings = settings.display().to_string();
    let Some(server) = Server::start_with(Kind::Nats, &["-c", &settings]) else {
        return;
    };
    let good = file("user.creds", include_str!("nats/user.creds"));
    // This account has no buckets yet, which is no error.
    let empty = at(&server).credentials_file(&good).load().unwrap();
    assert!(empty.iter().next().is_none());
    let message = at(&server).load().unwrap_err().to_string();
    assert!(message.contains("check the credentials"), "{message}");
    let bad = file("bad.creds", "SUsomething");
    let message = at(&server).credentials_file(&bad).load().unwrap_err();
    assert!(!message.to_string().contains("SUsomething"), "{message}");
    let gone = at(&server).credentials_file(dir.path().join("gone"));
    let message = gone.load().unwrap_err().to_string();
    assert!(message.contains("gone"), "{message}");
}

/// Creates a certificate authority and certificates that it signs.
fn create_certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write(name, params.self_signed(&key).unwrap().pem());
        rcgen::Issuer::new(params, key)
    };
    let issuer = authority("ca.pem");
    authority("stranger.pem");
    for name in ["server", "client"] {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        if name == "client" {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &issuer).unwrap();
        write(&format!("{name}.pem"), signed.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

#[test]
fn tls_trusts_the_configured_roots_and_sends_a_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    create_certificates(dir.path());
    let path = |name: &str| dir.path().join(name);
    let settings = |verify: bool| {
        format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: {verify} }}",
            path("server.pem"),
            path("server.key"),
            path("ca.pem")
        )
    };
    let Some(mut server) = with_settings(dir.path(), &settings(false)) else {
        return;
    };
    let trusting = || at(&server).ca(path("ca.pem"));
    follows(trusting()).unwrap();
    let address = format!("tls://127.0.0.1:{}", server.port());
    follows(trusting().address(&address)).unwrap();
    // Neither the roots of the system nor another authority verify the certificate.
    for wrong in [
        at(&server).address(&address),
        at(&server).ca(path("stranger.pem")),
    ] {
        let message = follows(wrong).unwrap_err().to_string();
        assert!(message.contains("authority with `ca`"), "{message}");
    }
    let text = follows(at(&server)).unwrap_err().to_string();
    assert!(text.contains("tls://"), "{text}");
    let text = follows(at(&server).ca(path("server.key"))).unwrap_err();
    assert!(text.to_string().contains("CA certificate"), "{text}");

    server.kill();
    std::fs::write(path("nats.conf"), settings(true)).unwrap();
    server.restart();
    let trusting = || at(&server).ca(path("ca.pem"));
    follows(trusting().client_certificate(path("client.pem"), path("client.key"))).unwrap();
    assert!(follows(trusting()).is_err());
    let mixed = trusting().client_certificate(path("client.pem"), path("server.key"));
    let text = follows(mixed).unwrap_err().to_string();
    assert!(text.contains("pair"), "{text}");
}

#[test]
fn a_silent_server_is_abandoned_within_the_heartbeat_timeout() {
    let Some(scenario) = scenario() else { return };
    let props = scenario.follow();
    std::thread::sleep(SECOND);
    scenario.store.put("app/n0", "1");
    let took = wait_until(SECOND, "a change by itself", || n0(&props) == 1);
    report_time::<Client>("one put to handle", took);
    scenario.proxy.set(Mode::Stall);
    let took = wait_until(6 * SECOND, "the source is not up", || !is_up(&props));
    report_time::<Client>("stalled: reported", took);
    scenario.store.put("app/n0", "2");
    scenario.proxy.set(Mode::Pass);
    wait_until(6 * SECOND, "the change", || n0(&props) == 2);
}

#[test]
fn a_second_address_is_used_when_the_first_fails() {
    let Some(scenario) = scenario() else { return };
    let dead = Proxy::new(scenario.server.port());
    let addresses = [dead.port(), scenario.proxy.port()].map(|port| format!("127.0.0.1:{port}"));
    let nats = below("app").addresses(addresses);
    let props = Properties::builder().source(nats).build().unwrap();
    dead.set(Mode::Refuse);
    scenario.store.put("app/n0", "1");
    wait_until(2 * SECOND, "the change", || n0(&props) == 1);
    // Both orders of the addresses.
    dead.set(Mode::Pass);
    scenario.proxy.set(Mode::HalfOpen);
    scenario.store.put("app/n0", "2");
    wait_until(10 * SECOND, "the change", || n0(&props) == 2);
    wait_until(SOON, "the source is up", || is_up(&props));
}

#[test]
fn impossible_bucket_names_are_rejected_without_a_request() {
    let wrong = [
        Nats::bucket("con.fig"),
        Nats::bucket(""),
        Nats::bucket("config").prefix("app.*"),
        Nats::bucket("config").prefix("app..x"),
        Nats::bucket("config").document("a key"),
        Nats::bucket("config").domain("a.>"),
    ];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for nats in wrong {
        let nats = nats.address(&address);
        let message = nats.load().unwrap_err().to_string();
        assert!(message.contains("is not"), "{message}");
        let nats = nats.with(|policy| policy.optional());
        let props = Properties::builder().source(nats).build().unwrap();
        std::thread::sleep(SECOND / 10);
        let message = format!("{:?}", health(&props));
        assert!(message.contains("is not"), "{message}");
    }
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn an_address_of_another_scheme_is_not_contacted() {
    let dir = tempfile::tempdir().unwrap();
    create_certificates(dir.path());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    for scheme in ["ws", "wss", "WSS", "w\tss"] {
        let nats = Nats::bucket("config").token("s3cr3t".to_owned());
        let nats = nats.address(format!("{scheme}://{address}"));
        let error = nats.ca(dir.path().join("ca.pem")).load().unwrap_err();
        assert!(error.to_string().contains("invalid address"), "{error}");
    }
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

/// The consumers of a simulated server: for each number, the member of the consumer and how many of
/// the two values it delivers.
type LayerValue = fn(usize) -> (&'static str, usize);

/// Starts a simulated server with a bucket whose leader is `m1`; counts created and deleted
/// consumers.
fn simulated_server(consumer_state: LayerValue) -> (u16, Arc<[AtomicUsize; 2]>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let counted = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, consumer_state, &counted);
        }
    });
    (port, counts)
}

/// Serves a client until it disconnects.
fn serve(mut stream: TcpStream, consumer_state: LayerValue, counts: &[AtomicUsize; 2]) {
    let info = "INFO {\"server_id\":\"x\",\"server_name\":\"m1\",\"host\":\"x\",\"port\":1,\
                \"version\":\"2.14.0\",\"headers\":true,\"max_payload\":1048576,\"proto\":1,\
                \"client_id\":1,\"go\":\"\"}\r\n";
    stream.write_all(info.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut subscribed: Vec<(String, String)> = Vec::new();
    let mut line = String::new();
    let mut made = 0;
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        line.clear();
        match words[0].as_str() {
            "PING" => stream.write_all(b"PONG\r\n").unwrap(),
            "SUB" => subscribed.push((words[1].clone(), words[words.len() - 1].clone())),
            "PUB" => {
                let mut body = vec![0; words[words.len() - 1].parse::<usize>().unwrap() + 2];
                lines.read_exact(&mut body).unwrap();
                let sid = |subject: &str| {
                    let is = |(one, _): &&(String, String)| {
                        subject.starts_with(one.trim_end_matches('*'))
                    };
                    subscribed.iter().rev().find(is).unwrap().1.clone()
                };
                let answer = |body: &str| {
                    let (reply, length) = (&words[2], body.len());
                    format!("MSG {reply} {} {length}\r\n{body}\r\n", sid(reply))
                };
                let mut says_all = String::new();
                if words[1].contains("STREAM.INFO") {
                    says_all = answer(
                        "{\"created\":\"then\",\"config\":{},\"cluster\":{\"leader\":\"m1\"},\
                         \"state\":{\"messages\":2,\"first_seq\":1,\"last_seq\":2,\
                         \"num_subjects\":2}}",
                    );
                } else if words[1].contains("CONSUMER.CREATE") {
                    counts[0].fetch_add(1, Ordering::SeqCst);
                    made += 1;
                    let (member, come) = consumer_state(made);
                    says_all = answer(&format!(
                        "{{\"num_pending\":2,\"delivered\":{{\"consumer_seq\":0}},\
                         \"cluster\":{{\"leader\":\"{member}\"}}}}"
                    ));
                    let config: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let inbox = config["config"]["deliver_subject"].as_str().unwrap();
                    let sid = sid(inbox);
                    for n in 1..=come {
                        let ack = format!("$JS.ACK.KV_config.c.1.{n}.{n}.1700000000.{}", 2 - n);
                        says_all += &format!("MSG $KV.config.app.n{n} {sid} {ack} 1\r\n{n}\r\n");
                    }
                    for _ in 0..3 {
                        let beat = format!(
                            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {come}\r\n\r\n"
                        );
                        let length = beat.len();
                        says_all += &format!("HMSG {inbox} {sid} {length} {length}\r\n{beat}\r\n");
                    }
                } else if words[1].contains("CONSUMER.DELETE") {
                    counts[1].fetch_add(1, Ordering::SeqCst);
                    says_all = answer("{\"success\":true}");
                }
                stream.write_all(says_all.as_bytes()).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn consumers_are_created_until_one_is_on_the_leader_and_the_others_are_deleted() {
    let at = |port: u16| below("app").address(format!("127.0.0.1:{port}"));
    let (port, counts) = simulated_server(|n| match n {
        3.. => ("m1", 2),
        _ => ("m2", 1),
    });
    assert_eq!(at(port).load().unwrap().iter().count(), 2);
    let count = |n: usize| counts[n].load(Ordering::SeqCst);
    assert_eq!([count(0), count(1)], [3, 3]);

    let (port, counts) = simulated_server(|_| ("m2", 2));
    let begun = Instant::now();
    let error = at(port).load().unwrap_err();
    let took = begun.elapsed();
    assert_eq!(error.kind(), liveprops::ErrorKind::Timeout);
    assert!(
        error.to_string().contains("`m2`, which may be behind"),
        "{error}"
    );
    assert!(took > 2 * SECOND && took < 4 * SECOND, "{took:?}");
    let [made, deleted] = [0, 1].map(|n| counts[n].load(Ordering::SeqCst));
    println!("Nats: {made} consumers were made in {took:?}");
    assert!(
        made > 10 && made < 100 && made - deleted < 2,
        "{made} {deleted}"
    );
}

#[test]
fn an_incomplete_read_is_repeated() {
    let (port, counts) = simulated_server(|n| ("m1", n));
    let nats = below("app").address(format!("127.0.0.1:{port}"));
    assert_eq!(nats.load().unwrap().iter().count(), 2);
    assert_eq!(counts[0].load(Ordering::SeqCst), 2);
}
