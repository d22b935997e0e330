//! Consul: behaviour that no other store has.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use liveprops::health::Status;
use liveprops::source::Scope;
use liveprops::sources::Consul;
use liveprops::{Properties, Source};

use crate::SECOND;
use crate::faults::{BACK, others_stay};
use crate::proxy::Mode;
use crate::scenario::{
    Reader, SOON, Scenario, Store, health, is_stale, is_up, report_time, toml, wait_until,
};
use crate::server::{Kind, Server, free_port};
use crate::suite;

pub(crate) struct Client(String);

impl Client {
    fn ask(&self, path: &str) -> Vec<u8> {
        let answer = ureq::get(format!("{}/{path}", self.0)).call();
        answer.unwrap().body_mut().read_to_vec().unwrap()
    }
}

fn source(port: u16, consul: Consul) -> Box<dyn Source> {
    Box::new(consul.address(format!("http://127.0.0.1:{port}")))
}

impl Store for Client {
    const KIND: Kind = Kind::Consul;
    const LARGEST: usize = 512 << 10;
    /// One for the watch, one for its heartbeats.
    const CONNECTIONS: usize = 2;

    fn connect(server: &Server) -> Self {
        Self(format!("http://127.0.0.1:{}/v1", server.port()))
    }

    fn change(&self, changes: &[(&str, Option<&[u8]>)]) {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        for some in changes.chunks(64) {
            let one = |(key, value): &(&str, Option<&[u8]>)| match value {
                Some(value) => format!(
                    "{{\"KV\":{{\"Verb\":\"set\",\"Key\":\"{key}\",\"Value\":\"{}\"}}}}",
                    encode(value)
                ),
                None => format!("{{\"KV\":{{\"Verb\":\"delete\",\"Key\":\"{key}\"}}}}"),
            };
            let all: Vec<String> = some.iter().map(one).collect();
            let body = format!("[{}]", all.join(","));
            let answer = ureq::put(format!("{}/txn", self.0)).send(&body);
            assert_eq!(answer.unwrap().status(), 200);
        }
    }

    /// A transaction may not be larger than the largest value.
    fn put(&self, key: &str, value: impl AsRef<[u8]>) {
        let put = ureq::put(format!("{}/kv/{key}", self.0));
        assert_eq!(put.send(value.as_ref()).unwrap().status(), 200);
    }

    fn prefix(port: u16, prefix: &str) -> Box<dyn Source> {
        source(port, Consul::prefix(prefix))
    }

    fn with_document(port: u16, prefix: &str, key: &str) -> Box<dyn Source> {
        source(port, Consul::prefix(prefix).as_document(key, toml()))
    }

    fn document(port: u16, key: &str) -> Box<dyn Source> {
        source(port, Consul::document(key).format(toml()))
    }

    fn of_scope(port: u16, prefix: &str, scope: &Scope) -> Vec<Box<dyn Source>> {
        let all = Consul::prefix(prefix).of_scope(scope).unwrap().into_iter();
        all.map(|one| source(port, one)).collect()
    }

    fn all(&self) -> BTreeMap<String, String> {
        use base64::Engine as _;
        let items: serde_json::Value =
            serde_json::from_slice(&self.ask("kv/app/?recurse")).unwrap();
        let text = |item: &serde_json::Value| {
            let bytes = base64::engine::general_purpose::STANDARD;
            let bytes = bytes.decode(item["Value"].as_str().unwrap()).unwrap();
            let key = item["Key"].as_str().unwrap().to_owned();
            (key, String::from_utf8(bytes).unwrap())
        };
        items.as_array().unwrap().iter().map(text).collect()
    }
}

suite!(Client);

#[test]
fn the_last_key_is_removed_and_can_return() {
    let Some(scenario) = Scenario::<Client>::with(&[("app/only", "1")]) else {
        return;
    };
    // A removal guard would withhold the deletion of the last key.
    let consul =
        Consul::prefix("app").address(format!("http://127.0.0.1:{}", scenario.proxy.port()));
    let props = Properties::builder()
        .source(consul.with(|policy| policy.unguarded()))
        .build()
        .unwrap();
    let only = props.property::<u32>("only").default(7).build().unwrap();
    assert_eq!(only.get(), 1);
    // The answer of an empty prefix is 404, with a higher index.
    scenario.store.delete("app/only");
    wait_until(SOON, "the key is removed", || only.get() == 7);
    assert!(is_up(&props), "nothing is wrong");
    scenario.store.put("app/only", "2");
    wait_until(SOON, "the key has returned", || only.get() == 2);
}

#[test]
fn a_rejected_token_removes_nothing_and_is_read_again() {
    const MASTER: &str = "1c3c4a7e-90c3-4d8c-8f0e-2d1b0c3f5a11";
    let rules = format!(
        "acl {{ enabled = true default_policy = \"deny\" tokens {{ master = \"{MASTER}\" }} }}"
    );
    let Some(server) = Server::start_with(Kind::Consul, &["-hcl", &rules]) else {
        return;
    };
    let at = format!("http://127.0.0.1:{}", server.port());
    let put = |value: &str| {
        let put = ureq::put(format!("{at}/v1/kv/app/n")).header("x-consul-token", MASTER);
        put.send(value).is_ok_and(|answer| answer.status() == 200)
    };
    wait_until(SOON, "the rules are in force", || put("1"));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, format!("{MASTER}\n")).unwrap();
    let consul = || Consul::prefix("app").address(&at);
    let props = Properties::builder()
        .source(consul().token_file(&token))
        .build()
        .unwrap();
    let n = props.property::<u32>("n").build().unwrap();
    assert_eq!(n.get(), 1);
    // The default policy denies reads; otherwise the agent would return an empty list.
    std::fs::write(&token, "wrong").unwrap();
    // An agent may report an empty store for a short time; that update is withheld.
    wait_until(SOON, "health reports it", || {
        let Status::Stale { reason, .. } = health(&props).status else {
            return false;
        };
        let message = reason.to_string();
        assert!(!message.contains("wrong"), "{message}");
        message.contains("403") && message.contains("ACL token")
    });
    assert_eq!(n.get(), 1);
    assert!(put("2"));
    std::fs::write(&token, MASTER).unwrap();
    wait_until(SOON, "the token is read again", || n.get() == 2);
    wait_until(SOON, "the source is up", || is_up(&props));

    let shown = format!("{:?}", consul().token(MASTER.to_owned()));
    assert!(!shown.contains(MASTER), "{shown}");
}

/// Starts a server that answers every request with a status and a short text.
fn stand_in(status: u16) -> u16 {
    stand_in_with(&format!("{status} x\r\nContent-Length: 6\r\n\r\nno way")).0
}

/// Starts a server that sends the same answer to every request and records the requests.
pub(crate) fn stand_in_with(answer: &str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = format!("HTTP/1.1 {answer}");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            log.lock().unwrap().push(request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

#[test]
fn an_incomplete_or_old_answer_changes_nothing() {
    let Some(scenario) = Scenario::<Client>::with(&[("app/n", "1")]) else {
        return;
    };
    let props = scenario.follow();
    for (header, expected) in [
        (
            "X-Consul-Results-Filtered-By-ACLs: true",
            "may not read all",
        ),
        ("X-Consul-KnownLeader: false", "without its leader"),
        ("X-Consul-LastContact: 60000", "60s"),
    ] {
        let answer = format!("404 x\r\nX-Consul-Index: 9\r\n{header}\r\nContent-Length: 0\r\n\r\n");
        scenario.proxy.set_target(stand_in_with(&answer).0);
        wait_until(SOON, "health reports it", || why(&props).contains(expected));
        assert_eq!(props.get::<u32>("n").unwrap(), 1);
        scenario.proxy.set_target(scenario.server.port());
        wait_until(SOON, "the source has recovered", || is_up(&props));
    }
}

#[test]
fn credentials_are_never_sent_without_the_configured_tls() {
    let (port, asked) = stand_in_with("404 x\r\nX-Consul-Index: 1\r\nContent-Length: 0\r\n\r\n");
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let plain = Consul::prefix("app")
        .address(format!("http://127.0.0.1:{port}"))
        .token("s3cret".to_owned());
    let message = plain.clone().ca(&ca).load().unwrap_err().to_string();
    assert!(message.contains("https"), "{message}");
    let empty = dir.path().join("token");
    std::fs::write(&empty, "\n").unwrap();
    let message = plain.clone().token_file(&empty).load().unwrap_err();
    assert!(message.to_string().contains("token is empty"), "{message}");
    assert!(asked.lock().unwrap().is_empty());
    assert!(plain.load().is_ok());
    let asked = asked.lock().unwrap();
    assert!(asked[0].contains("s3cret"), "{asked:?}");
}

#[test]
fn a_read_requests_the_configured_consistency() {
    let (port, asked) = stand_in_with("404 x\r\nX-Consul-Index: 1\r\nContent-Length: 0\r\n\r\n");
    let consul = Consul::prefix("a b/c").address(format!("http://127.0.0.1:{port}"));
    let consul = consul.datacenter("dc 2");
    consul.load().unwrap();
    consul.stale().load().unwrap();
    let asked = asked.lock().unwrap();
    for (request, consistency) in asked.iter().zip(["consistent", "stale"]) {
        let path = format!("GET /v1/kv/a%20b/c/?recurse&dc=dc%202&{consistency}&index=0 ");
        assert!(request.starts_with(&path), "{request}");
    }
    assert_eq!(asked.len(), 2);
}

#[test]
fn a_read_that_waits_for_changes_lasts_at_least_a_minute() {
    let (port, asked) = stand_in_with("404 x\r\nX-Consul-Index: 7\r\nContent-Length: 0\r\n\r\n");
    let consul = Consul::prefix("app").address(format!("http://127.0.0.1:{port}"));
    let props = Properties::builder().source(consul).build().unwrap();
    let wait = || -> Option<u64> {
        let asked = asked.lock().unwrap();
        let wait = asked
            .iter()
            .find_map(|request| request.split_once("index=7&wait="))?
            .1;
        wait.split_once("ms ")?.0.parse().ok()
    };
    wait_until(SOON, "a read that waits", || wait().is_some());
    drop(props);
    let wait = wait().unwrap();
    assert!((60_000..=80_000).contains(&wait), "{wait} ms");
}

#[test]
fn a_server_that_still_applies_its_log_shows_no_older_values() {
    let Some(mut scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    let mut last = 0;
    for _ in 0..8 {
        for _ in 0..300 {
            last += 1;
            scenario.store.put("app/n", last.to_string());
        }
        scenario.server.kill();
        assert!(scenario.server.begin());
        let consul = source(scenario.server.port(), Consul::prefix("app"));
        let mut read = None;
        wait_until(SOON, "the server answers", || {
            read = consul.load().ok();
            read.is_some()
        });
        let value = read.unwrap().get("n").cloned();
        assert_eq!(value, Some(last.to_string().into()));
        scenario.server.wait();
    }
}

#[test]
fn an_error_response_removes_nothing() {
    let keys: Vec<String> = (0..20).map(|n| format!("app/n{n}")).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "0")).collect();
    let Some(scenario) = Scenario::<Client>::with(&keys) else {
        return;
    };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    // The tested agents close connections where newer ones answer 429.
    for (n, (status, expected)) in (1..).zip([
        (403, "ACL token"),
        (429, "fewer requests"),
        (500, "no leader"),
        (503, "log of the agent"),
    ]) {
        scenario.proxy.set_target(stand_in(status));
        wait_until(SOON, "health reports it", || {
            let message = why(&props);
            message.contains(&status.to_string())
                && message.contains(expected)
                && message.contains("no way")
        });
        scenario.store.put("app/n0", n.to_string());
        scenario.store.delete(&format!("app/n{}", n + 1));
        std::thread::sleep(SECOND / 2);
        assert_eq!(props.get::<i64>("n0").unwrap(), n - 1);
        scenario.proxy.set_target(scenario.server.port());
        let took = wait_until(BACK, "the change", || props.get::<i64>("n0").unwrap() == n);
        report_time::<Client>(&format!("an answer of {status}: recovered"), took);
        reader.assert_recovered(&scenario, &props);
    }
}

/// Returns why the store is stale.
fn why(props: &Properties) -> String {
    match health(props).status {
        Status::Stale { reason, .. } => reason.to_string(),
        _ => String::new(),
    }
}

/// A second agent that votes with the first one.
fn second_agent(first: &mut Server) -> Option<Server> {
    let port = free_port().to_string();
    let join = format!("127.0.0.1:{port}");
    let mut second = Server::prepare(Kind::Consul, &[]);
    first.add_arguments(["-serf-lan-port", &port]);
    second.add_arguments([
        "-node",
        "n2",
        "-bootstrap-expect",
        "0",
        "-retry-join",
        &join,
    ]);
    for agent in [&mut *first, &mut second] {
        // Agents of the previous protocol vote at once. The agent answers within the time limit of
        // the client.
        let hold = "performance { rpc_hold_timeout = \"300ms\" }";
        agent.add_arguments(["-raft-protocol", "2", "-hcl", hold]);
    }
    (first.restart() && second.restart()).then_some(second)
}

#[test]
fn an_agent_without_a_leader_removes_nothing() {
    let mut first = Server::prepare(Kind::Consul, &[]);
    let Some(mut second) = second_agent(&mut first) else {
        return;
    };
    let scenario = Scenario::<Client>::of(first);
    for n in 0..20 {
        scenario.store.put(&format!("app/n{n}"), n.to_string());
    }
    let both = || {
        let peers = scenario.store.ask("operator/raft/configuration");
        let peers: serde_json::Value = serde_json::from_slice(&peers).unwrap();
        let servers = peers["Servers"].as_array().unwrap();
        servers.len() == 2 && servers.iter().all(|it| it["Voter"] == true)
    };
    wait_until(SOON, "the second has a vote", both);
    let props = scenario.follow();
    let reader = Reader::of(&props);
    second.kill();
    let begun = Instant::now();
    wait_until(SOON, "health reports it", || {
        let message = why(&props);
        message.contains("500") && message.contains("No cluster leader")
    });
    report_time::<Client>("no leader: reported", begun.elapsed());
    assert!(others_stay(&props) && props.get::<i64>("n0").unwrap() == 0);
    assert!(second.restart());
    wait_until(SOON, "it decides again", || {
        let answer = ureq::put(format!("{}/kv/app/n0", scenario.store.0)).send("1");
        answer.is_ok_and(|answer| answer.status() == 200)
    });
    let took = wait_until(BACK, "the change", || props.get::<i64>("n0").unwrap() == 1);
    report_time::<Client>("no leader: recovered", took);
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_store_that_is_restored_from_the_past_is_read_from_scratch() {
    let keys: Vec<String> = (0..20).map(|n| format!("app/n{n}")).collect();
    let keys: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "0")).collect();
    let Some(scenario) = Scenario::<Client>::with(&keys) else {
        return;
    };
    let past = scenario.store.ask("snapshot");
    let props = scenario.follow();
    let reader = Reader::of(&props);
    let n0 = || props.get::<i64>("n0").unwrap();
    for n in 1..=50 {
        scenario.store.put("app/n0", n.to_string());
    }
    scenario.store.put("app/new", "1");
    scenario.store.delete("app/n7");
    wait_until(SOON, "the program follows the store", || {
        scenario.agrees(&props) && n0() == 50
    });
    let index = |props: &Properties| -> u64 { health(props).revision.unwrap().parse().unwrap() };
    let before = index(&props);
    // A read that starts shortly after a change blocks for its full time.
    std::thread::sleep(SECOND / 4);
    let answer = ureq::put(format!("{}/snapshot", scenario.store.0)).send(&past[..]);
    assert_eq!(answer.unwrap().status(), 200);
    let took = wait_until(2 * SECOND, "the past", || {
        n0() == 0 && scenario.agrees(&props)
    });
    report_time::<Client>("restored from the past", took);
    assert!(index(&props) < before, "the index went backwards");
    scenario.store.put("app/n0", "1");
    wait_until(SECOND, "the program follows the store", || n0() == 1);
    // The same during an outage.
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "the source is stale", || is_stale(&props));
    scenario.store.delete("app/n8");
    let answer = ureq::put(format!("{}/snapshot", scenario.store.0)).send(&past[..]);
    assert_eq!(answer.unwrap().status(), 200);
    scenario.proxy.set(Mode::Pass);
    wait_until(BACK, "the past", || n0() == 0);
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_server_that_is_no_consul_agent_is_skipped_for_the_next_address() {
    let Some(scenario) = Scenario::<Client>::with(&[("app/n", "1")]) else {
        return;
    };
    // One address is of a server that is no agent, one has no listener.
    let Some(other) = Server::start(Kind::Etcd) else {
        return;
    };
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let error = Source::load(&Consul::prefix("app").address(at(other.port()))).unwrap_err();
    assert!(error.to_string().contains("agent of Consul"), "{error}");
    let all = [at(1), at(other.port()), at(scenario.proxy.port())];
    let props = Properties::builder()
        .source(Consul::prefix("app").addresses(all))
        .build()
        .unwrap();
    assert_eq!(props.get::<u32>("n").unwrap(), 1);
    scenario.store.put("app/n", "2");
    wait_until(SOON, "the program follows the store", || {
        props.get::<u32>("n").unwrap() == 2
    });
}
