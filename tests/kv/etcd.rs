//! etcd: behaviour that no other store has.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use liveprops::source::Scope;
use liveprops::sources::{Etcd, Memory};
use liveprops::{Properties, Source};

use crate::SECOND;
use crate::proxy::{Mode, Proxy};
use crate::scenario::{
    Reader, SOON, Scenario, Store, health, is_stale, is_up, report_time, toml, wait_until,
};
use crate::server::{Kind, Server};
use crate::suite;

pub(crate) struct Client {
    url: String,
    token: Option<String>,
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn source(port: u16, etcd: Etcd) -> Box<dyn Source> {
    Box::new(etcd.address(local(port)))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl Client {
    /// Sends a request and returns the answer.
    fn ask(&self, path: &str, body: &str) -> serde_json::Value {
        self.try_ask(path, body).unwrap()
    }

    fn try_ask(&self, path: &str, body: &str) -> Result<serde_json::Value, ureq::Error> {
        let mut request = ureq::post(format!("{}/{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let mut answer = request.send(body)?;
        let text = answer.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// Returns the newest revision.
    fn revision(&self) -> u64 {
        let answer = self.ask("kv/range", "{\"key\":\"AA==\"}");
        let revision = answer["header"]["revision"].as_str().unwrap();
        revision.parse().unwrap()
    }

    /// Compacts the history up to the newest revision.
    fn compact(&self) {
        let revision = self.revision();
        let body = format!("{{\"revision\":\"{revision}\",\"physical\":true}}");
        self.ask("kv/compaction", &body);
    }

    /// Adds the user `root`, and the user `shop` with the password `s3cr3t` and read access below
    /// `app/`.
    fn add_users(&self) {
        let grant = format!(
            "{{\"name\":\"reader\",\"perm\":{{\"permType\":\"READ\",\"key\":\"{}\",\"range_end\":\"{}\"}}}}",
            encode("app/"),
            encode("app0")
        );
        for (path, body) in [
            ("user/add", "{\"name\":\"root\",\"password\":\"r\"}"),
            ("user/add", "{\"name\":\"shop\",\"password\":\"s3cr3t\"}"),
            ("role/add", "{\"name\":\"root\"}"),
            ("role/add", "{\"name\":\"reader\"}"),
            ("role/grant", &grant),
            ("user/grant", "{\"user\":\"root\",\"role\":\"root\"}"),
            ("user/grant", "{\"user\":\"shop\",\"role\":\"reader\"}"),
        ] {
            self.ask(&format!("auth/{path}"), body);
        }
    }

    fn log_in(&mut self, user: &str, password: &str) {
        self.token = None;
        let body = format!("{{\"name\":\"{user}\",\"password\":\"{password}\"}}");
        let answer = self.ask("auth/authenticate", &body);
        self.token = Some(answer["token"].as_str().unwrap().to_owned());
    }
}

impl Store for Client {
    const KIND: Kind = Kind::Etcd;
    const LARGEST: usize = 3 << 19;

    fn connect(server: &Server) -> Self {
        Self {
            url: format!("{}/v3", local(server.port())),
            token: None,
        }
    }

    fn change(&self, changes: &[(&str, Option<&[u8]>)]) {
        for some in changes.chunks(64) {
            let one = |(key, value): &(&str, Option<&[u8]>)| match value {
                Some(value) => format!(
                    "{{\"request_put\":{{\"key\":\"{}\",\"value\":\"{}\"}}}}",
                    encode(key),
                    encode(value)
                ),
                None => format!(
                    "{{\"request_delete_range\":{{\"key\":\"{}\"}}}}",
                    encode(key)
                ),
            };
            let all: Vec<String> = some.iter().map(one).collect();
            let answer = self.ask("kv/txn", &format!("{{\"success\":[{}]}}", all.join(",")));
            assert_eq!(answer["succeeded"], true, "{answer}");
        }
    }

    fn prefix(port: u16, prefix: &str) -> Box<dyn Source> {
        source(port, Etcd::prefix(prefix))
    }

    fn with_document(port: u16, prefix: &str, key: &str) -> Box<dyn Source> {
        source(port, Etcd::prefix(prefix).as_document(key, toml()))
    }

    fn document(port: u16, key: &str) -> Box<dyn Source> {
        source(port, Etcd::document(key).format(toml()))
    }

    fn of_scope(port: u16, prefix: &str, scope: &Scope) -> Vec<Box<dyn Source>> {
        let all = Etcd::prefix(prefix).of_scope(scope).unwrap().into_iter();
        all.map(|one| source(port, one)).collect()
    }

    fn all(&self) -> BTreeMap<String, String> {
        use base64::Engine as _;
        // From `app/` up to `app0`.
        let range = "{\"key\":\"YXBwLw==\",\"range_end\":\"YXBwMA==\"}";
        let answer = self.ask("kv/range", range);
        let text = |item: &serde_json::Value, name: &str| {
            let bytes = item[name].as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(bytes);
            String::from_utf8(bytes.unwrap()).unwrap()
        };
        let items = answer["kvs"].as_array().into_iter().flatten();
        items
            .map(|item| (text(item, "key"), text(item, "value")))
            .collect()
    }
}

suite!(Client);

fn keys(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| (format!("app/n{n}"), n.to_string()))
        .collect()
}

fn scenario(count: usize) -> Option<Scenario<Client>> {
    let keys = keys(count);
    let keys: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Scenario::with(&keys)
}

#[test]
fn a_compaction_during_an_outage_hides_no_change() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "the source is stale", || is_stale(&props));
    scenario.store.put("app/new", "1");
    for n in 0..200 {
        scenario.store.put("app/n0", n.to_string());
    }
    for n in 1..5 {
        scenario.store.delete(&format!("app/n{n}"));
    }
    scenario.store.compact();
    scenario.store.put("app/after", "1");
    scenario.proxy.set(Mode::Pass);
    let took = wait_until(SOON, "all changes", || scenario.agrees(&props));
    report_time::<Client>("compaction while cut", took);
    wait_until(SOON, "the source is up", || is_up(&props));
    // The same in half-open connections, so that the stream resumes from its last revision.
    scenario.proxy.set(Mode::HalfOpen);
    scenario.store.put("app/n7", "77");
    scenario.store.delete("app/n8");
    scenario.store.compact();
    std::thread::sleep(SECOND);
    scenario.proxy.set(Mode::Pass);
    let took = wait_until(SOON, "all changes", || scenario.agrees(&props));
    report_time::<Client>("compaction while half-open", took);
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_compacted_stream_is_restarted() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    wait_until(SOON, "the source is up", || is_up(&props));
    // The next stream starts from a compacted revision.
    for n in 0..50 {
        scenario.store.put("other", n.to_string());
    }
    scenario.store.compact();
    for _ in 0..3 {
        std::thread::sleep(2 * SECOND);
        assert!(is_up(&props), "{:?}", health(&props));
    }
    scenario.store.put("app/n0", "50");
    scenario.store.delete("app/n1");
    wait_until(SECOND, "the program follows the store", || {
        scenario.agrees(&props)
    });
}

/// Returns what a callback sends, up to `last`. The callback runs after the value is in force.
fn received_until(changes: &mpsc::Receiver<i64>, last: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        match changes.recv_timeout(SOON) {
            Ok(value) => seen.push(value),
            Err(_) => panic!("no callback with {last}: {seen:?}"),
        }
    }
    seen
}

#[test]
fn a_thousand_puts_during_a_reconnect_end_on_the_last_of_each() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    let (send, changes) = mpsc::channel();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let _guard = n0.on_change(move |change| {
        let _ = send.send(*change.new_value());
    });
    wait_until(SOON, "the source is up", || is_up(&props));
    for n in 1..=1000 {
        match n {
            200 => scenario.proxy.set(Mode::Refuse),
            // The changes since then are compacted.
            650 => scenario.store.compact(),
            700 => scenario.proxy.set(Mode::Pass),
            // The program reconnects again and again.
            n if n % 90 == 0 => scenario.proxy.cut(),
            _ => {}
        }
        scenario
            .store
            .put(&format!("app/n{}", n % 20), n.to_string());
        if n % 50 == 0 {
            scenario.store.delete("app/n19");
        }
    }
    let took = wait_until(SOON, "the last values", || scenario.agrees(&props));
    report_time::<Client>("1,000 puts during a reconnect", took);
    let seen = received_until(&changes, 1000);
    assert!(seen.is_sorted(), "{seen:?}");
}

#[test]
fn changes_keep_their_order_while_streams_restart() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    let (send, changes) = mpsc::channel();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let _guard = n0.on_change(move |change| {
        let _ = send.send(*change.new_value());
    });
    let begun = Instant::now();
    let mut last = 100;
    let mut slowest = Duration::ZERO;
    // Longer than two streams last.
    while begun.elapsed() < 10 * SECOND {
        last += 1;
        scenario.store.put("app/n0", last.to_string());
        slowest = slowest.max(wait_until(SECOND, "a change", || n0.get() == last));
        std::thread::sleep(Duration::from_millis(9));
    }
    report_time::<Client>("the slowest change over 10 s", slowest);
    let seen = received_until(&changes, last);
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(is_up(&props));
}

#[test]
fn a_storm_of_changes_is_few_generations() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    wait_until(SOON, "the source is up", || is_up(&props));
    let before = props.generation();
    let begun = Instant::now();
    for n in 1..=1000 {
        scenario.store.put("app/n0", n.to_string());
    }
    let n0 = || props.get::<i64>("n0").unwrap();
    let took = wait_until(SOON, "the last one", || n0() == 1000);
    report_time::<Client>("the last of 1,000", took);
    let generations = props.generation() - before;
    let most = 40 + begun.elapsed().as_millis() as u64 / 100;
    println!(
        "Etcd: 1,000 puts in {:?} were {generations} generations",
        begun.elapsed()
    );
    assert!(generations <= most, "{generations}");
}

#[test]
fn a_silent_stream_is_detected_in_time() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    wait_until(SOON, "the source is up", || is_up(&props));
    std::thread::sleep(SECOND / 2);
    scenario.proxy.set(Mode::HalfOpen);
    scenario.store.put("app/n0", "1");
    let took = wait_until(8 * SECOND, "the source is stale", || is_stale(&props));
    report_time::<Client>("half-open stream: reported", took);
    scenario.proxy.set(Mode::Pass);
    wait_until(10 * SECOND, "the change", || scenario.agrees(&props));
    wait_until(SOON, "the source is up", || is_up(&props));
    std::thread::sleep(SECOND / 2);
    scenario.server.freeze();
    let took = wait_until(8 * SECOND, "the source is stale", || is_stale(&props));
    report_time::<Client>("frozen stream: reported", took);
    scenario.server.thaw();
    scenario.store.put("app/n0", "2");
    wait_until(10 * SECOND, "the change", || scenario.agrees(&props));
}

#[test]
fn a_store_with_writes_of_other_programs_is_followed() {
    let Some(scenario) = scenario(20) else { return };
    let props = scenario.follow();
    let n0 = || props.get::<i64>("n0").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = &scenario.store;
            scope.spawn(move || {
                for n in 0..1400 {
                    store.put(&format!("other/n{writer}"), n.to_string());
                }
            });
        }
    });
    // The first streams begin far behind, the later ones at the newest revision.
    std::thread::sleep(9 * SECOND);
    assert!(is_up(&props), "{:?}", health(&props));
    scenario.store.compact();
    scenario
        .store
        .change(&[("app/n0", Some(b"7")), ("app/n1", None)]);
    wait_until(SECOND, "a change", || n0() == 7);
    assert!(scenario.agrees(&props));
}

/// A member with writes of other programs. Its revision is far ahead when the second stream begins,
/// and one of our keys has changed between both streams.
fn member_that_is_far_ahead() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let header = |revision: u64| {
        format!(
            "\"header\":{{\"cluster_id\":\"1\",\"raft_term\":\"1\",\"revision\":\"{revision}\"}}"
        )
    };
    let item = |value: &str, revision: u64| {
        let (key, value) = (encode("app/n"), encode(value));
        format!(
            "\"kvs\":[{{\"key\":\"{key}\",\"value\":\"{value}\",\"create_revision\":\"1\",\
             \"mod_revision\":\"{revision}\",\"version\":\"1\"}}],\"count\":\"1\""
        )
    };
    let answer = move |request: &str, streams: &mut u32| -> String {
        let later = *streams > 0;
        if request.contains("/v3/watch") {
            *streams += 1;
            let created = format!(
                "{{\"result\":{{{},\"created\":true}}}}\n",
                header(20_000 + u64::from(*streams))
            );
            return format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{created}\r\n",
                created.len()
            );
        }
        let body = match later {
            true => format!("{{{},{}}}", header(20_001), item("7", 20_001)),
            false => format!("{{{},{}}}", header(10), item("0", 10)),
        };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    std::thread::spawn(move || {
        let mut streams = 0;
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let _ = stream.write_all(answer(&request, &mut streams).as_bytes());
            // The stream continues.
            if request.contains("/v3/watch") {
                open.push(stream);
            }
        }
    });
    port
}

#[test]
fn a_change_between_two_streams_is_not_skipped_if_the_store_is_far_ahead() {
    let etcd = Etcd::prefix("app").address(local(member_that_is_far_ahead()));
    let props = Properties::builder().source(etcd).build().unwrap();
    assert_eq!(props.get::<u32>("n").unwrap(), 0);
    wait_until(SOON, "the change", || props.get::<u32>("n").unwrap() == 7);
}

#[test]
fn a_user_whose_token_expires_again_and_again_is_logged_in_again() {
    let arguments = ["--auth-token", "simple", "--auth-token-ttl", "1"];
    let Some(server) = Server::start_with(Kind::Etcd, &arguments) else {
        return;
    };
    let mut root = Client::connect(&server);
    root.add_users();
    root.ask("auth/enable", "{}");
    root.log_in("root", "r");
    root.put("app/n0", "0");
    let proxy = Proxy::new(server.port());
    let etcd = || Etcd::prefix("app").address(local(proxy.port()));

    // No user, a wrong password and a denied prefix: each is an error without the password.
    for (etcd, expected) in [
        (etcd(), "user name is empty"),
        (
            etcd().user("shop", "wr0ng".to_owned()),
            "invalid user ID or password",
        ),
        (
            Etcd::prefix("other")
                .address(local(proxy.port()))
                .user("shop", "s3cr3t".to_owned()),
            "permission denied",
        ),
    ] {
        let error = etcd.load().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(
            !error.contains("wr0ng") && !error.contains("s3cr3t"),
            "{error}"
        );
    }

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "s3cr3t\n").unwrap();
    let build = |etcd| Properties::builder().source(etcd).build().unwrap();
    let props = build(etcd().user("shop", "s3cr3t".to_owned()));
    let other = build(etcd().user_file("shop", &file));
    let n0 = |props: &Properties| props.get::<i64>("n0").unwrap();
    for n in 1..4 {
        // Longer than the lifetime of a token and of a stream.
        for _ in 0..30 {
            std::thread::sleep(SECOND / 6);
            assert!(is_up(&props) && is_up(&other), "{:?}", health(&props));
        }
        let body = format!(
            "{{\"key\":\"{}\",\"value\":\"{}\"}}",
            encode("app/n0"),
            encode(n.to_string())
        );
        // On a busy machine the token may expire before it is used.
        wait_until(SOON, "the change is written", || {
            root.log_in("root", "r");
            root.try_ask("kv/put", &body).is_ok()
        });
        wait_until(SOON, "a change", || n0(&props) == n && n0(&other) == n);
    }
    // A full read with an expired token.
    proxy.cut();
    root.put("app/n0", "4");
    wait_until(SOON, "a change", || n0(&props) == 4 && n0(&other) == 4);
    // The source uses a new password at once.
    root.ask(
        "auth/user/changepw",
        "{\"name\":\"shop\",\"password\":\"n3w\"}",
    );
    wait_until(SOON, "the source is stale", || {
        is_stale(&props) && is_stale(&other)
    });
    std::fs::write(&file, "n3w\n").unwrap();
    wait_until(SOON, "the new password", || is_up(&other));
    assert!(is_stale(&props) && n0(&props) == 4);
}

#[test]
fn a_user_is_logged_in_once_the_store_checks_users_and_not_before() {
    let Some(server) = Server::start(Kind::Etcd) else {
        return;
    };
    let mut root = Client::connect(&server);
    root.put("app/n0", "0");
    let program = || {
        let etcd = Etcd::prefix("app")
            .address(local(server.port()))
            .user("shop", "s3cr3t".to_owned());
        Properties::builder().source(etcd).build().unwrap()
    };
    let is_unchecked = |props: &Properties| {
        let degraded = health(props).degraded.map(|it| it.to_string());
        assert!(degraded.as_ref().is_none_or(|it| !it.contains("s3cr3t")));
        degraded.is_some_and(|it| it.contains("authentication is off"))
    };
    let mut programs = vec![program()];
    let mut last = 0;
    let mut all_follow = |programs: &[Properties], root: &Client, off: bool| {
        for _ in 0..2 {
            last += 1;
            root.put("app/n0", last.to_string());
            for (at, props) in programs.iter().enumerate() {
                wait_until(SOON, "a change", || props.get::<i64>("n0").unwrap() == last);
                wait_until(SOON, "the source is up", || is_up(props));
                // Some servers do not check a token that they have issued.
                if !off || at + 1 == programs.len() {
                    wait_until(SOON, "health reports it", || is_unchecked(props) == off);
                }
            }
        }
    };
    // The user does not exist yet.
    all_follow(&programs, &root, true);
    root.add_users();
    for _ in 0..2 {
        root.ask("auth/enable", "{}");
        root.log_in("root", "r");
        programs.push(program());
        all_follow(&programs, &root, false);
        root.ask("auth/disable", "{}");
        root.token = None;
        programs.push(program());
        all_follow(&programs, &root, true);
    }
    // A wrong password matters only if the store checks users.
    root.ask("auth/enable", "{}");
    let wrong = Etcd::prefix("app")
        .address(local(server.port()))
        .user("shop", "wr0ng".to_owned());
    let error = wrong.load().unwrap_err().to_string();
    assert!(error.contains("invalid user ID or password"), "{error}");
}

#[test]
fn one_of_two_members_may_fail() {
    let Some(scenario) = scenario(20) else { return };
    let second = Proxy::new(scenario.server.port());
    let both = [local(scenario.proxy.port()), local(second.port())];
    scenario.proxy.set(Mode::Refuse);
    let etcd = Etcd::prefix("app").addresses(both);
    let props = Properties::builder().source(etcd).build().unwrap();
    let n0 = || props.get::<i64>("n0").unwrap();
    assert_eq!(props.snapshot().keys().len(), 20);
    wait_until(SOON, "the source is up", || is_up(&props));
    // The members fail alternately, and no failure is reported.
    for (n, gone) in (1..5).zip([Mode::Refuse, Mode::Reset, Mode::Refuse, Mode::Reset]) {
        let (to, from) = match n % 2 {
            0 => (&second, &scenario.proxy),
            _ => (&scenario.proxy, &second),
        };
        std::thread::sleep(SECOND / 4);
        to.set(Mode::Pass);
        from.set(gone);
        scenario.store.put("app/n0", n.to_string());
        let took = wait_until(SECOND, "the other one", || {
            assert!(is_up(&props));
            n0() == n
        });
        report_time::<Client>("the other member", took);
    }
    // The source leaves a half-open member at the end of its stream.
    second.set(Mode::HalfOpen);
    scenario.proxy.set(Mode::Pass);
    scenario.store.put("app/n0", "9");
    let took = wait_until(9 * SECOND, "the other one", || n0() == 9);
    report_time::<Client>("the other member, from a half-open one", took);
    wait_until(SOON, "the source is up", || is_up(&props));
}

#[test]
fn a_slash_before_the_first_name_counts_and_an_empty_prefix_is_everything() {
    let all = [("/app/a", "1"), ("app/b", "2"), ("x", "3")];
    let Some(scenario) = Scenario::<Client>::with(&all) else {
        return;
    };
    scenario.store.put("/one", "a = 7\n");
    // A name that is not UTF-8.
    let body = format!("{{\"key\":\"{}\",\"value\":\"\"}}", encode(b"/app/\xff"));
    scenario.store.ask("kv/put", &body);
    let value_of = |etcd: Etcd| {
        let document = etcd.address(local(scenario.proxy.port())).load().unwrap();
        let keys: Vec<String> = document.iter().map(|(key, ..)| key.to_string()).collect();
        (keys.join(" "), document.problems().len())
    };
    assert_eq!(value_of(Etcd::prefix("/app")), ("a".to_owned(), 0));
    assert_eq!(value_of(Etcd::prefix("app/")), ("b".to_owned(), 0));
    assert_eq!(value_of(Etcd::prefix("")), ("app.b x".to_owned(), 2));
    assert_eq!(value_of(Etcd::prefix("/")), ("app.a one".to_owned(), 0));
    assert_eq!(
        value_of(Etcd::document("/one").format(toml())),
        ("a".to_owned(), 0)
    );
}

#[test]
fn a_key_that_expires_lets_the_weaker_layer_show() {
    let Some(scenario) = scenario(20) else { return };
    let props = Properties::builder()
        .source(Memory::from([("n0", -1)]))
        .source(Client::prefix(scenario.proxy.port(), "app"))
        .build()
        .unwrap();
    let answer = scenario.store.ask("lease/grant", "{\"TTL\":\"1\"}");
    let lease = answer["ID"].as_str().unwrap();
    let (key, value) = (encode("app/n0"), encode("5"));
    scenario.store.ask(
        "kv/put",
        &format!("{{\"key\":\"{key}\",\"value\":\"{value}\",\"lease\":\"{lease}\"}}"),
    );
    let n0 = || props.get::<i64>("n0").unwrap();
    wait_until(SOON, "the value", || n0() == 5);
    let took = wait_until(SOON, "it expires", || n0() == -1);
    report_time::<Client>("lease of 1 s", took);
}

/// Starts a cluster of two members, the second one on another thread. Each message stops or starts
/// that member; the thread confirms each one.
fn two_members() -> Option<(Server, mpsc::Sender<()>, mpsc::Receiver<()>)> {
    let mut members = ["a", "b"].map(|_| Server::prepare(Kind::Etcd, &[]));
    let peers: Vec<String> = ["a", "b"]
        .iter()
        .zip(&members)
        .map(|(name, member)| format!("{name}={}", local(member.other_port())))
        .collect();
    let peers = peers.join(",");
    for (name, member) in ["a", "b"].iter().zip(&mut members) {
        member.add_arguments(["--name", name, "--initial-cluster", &peers]);
    }
    let [mut first, mut second] = members;
    let (order, orders) = mpsc::channel();
    let (report, done) = mpsc::channel();
    std::thread::spawn(move || {
        while second.restart() {
            let is_stopped = report.send(()).is_ok() && orders.recv().is_ok();
            second.kill();
            if !is_stopped || report.send(()).is_err() || orders.recv().is_err() {
                return;
            }
        }
    });
    let both = first.restart() && done.recv().is_ok();
    both.then_some((first, order, done))
}

#[test]
fn a_member_without_a_quorum_changes_nothing() {
    let Some((first, order, done)) = two_members() else {
        return;
    };
    let store = Client::connect(&first);
    (0..10).for_each(|n| store.put(&format!("app/n{n}"), "0"));
    let etcd = Etcd::prefix("app").address(local(first.port()));
    let props = Properties::builder().source(etcd).build().unwrap();
    wait_until(SOON, "the source is up", || is_up(&props));
    // The stream has begun.
    std::thread::sleep(SECOND);
    order.send(()).unwrap();
    done.recv().unwrap();
    let took = wait_until(10 * SECOND, "the source is stale", || is_stale(&props));
    report_time::<Client>("no leader: reported", took);
    assert_eq!(props.get::<i64>("n0").unwrap(), 0);
    order.send(()).unwrap();
    done.recv().unwrap();
    store.put("app/n0", "1");
    let took = wait_until(SOON, "the change", || props.get::<i64>("n0").unwrap() == 1);
    report_time::<Client>("no leader: recovered", took);
}

#[test]
fn certificates_are_sent_and_verified() {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as For, IsCa, KeyPair,
    };

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(path("ca"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    for name in ["server", "client"] {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut it = CertificateParams::new(names).unwrap();
        it.extended_key_usages = vec![For::ServerAuth, For::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let signed = it.signed_by(&key, &issuer).unwrap();
        std::fs::write(path(name), signed.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let mut server = Server::prepare(Kind::Etcd, &[]);
    let secure = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = secure.local_addr().unwrap().port();
    drop(secure);
    let both = format!("{},https://127.0.0.1:{port}", local(server.port()));
    server.add_arguments([
        "--listen-client-urls",
        &both,
        "--cert-file",
        &path("server"),
        "--key-file",
        &path("server.key"),
        "--trusted-ca-file",
        &path("ca"),
        "--client-cert-auth",
    ]);
    if !server.restart() {
        return;
    }
    let store = Client::connect(&server);
    store.put("app/n0", "0");
    let proxy = Proxy::new(port);
    let etcd = || Etcd::prefix("app").address(format!("https://localhost:{}", proxy.port()));
    let error = etcd().ca(path("ca")).load().unwrap_err().to_string();
    assert!(error.contains("failed"), "{error}");
    let shown = etcd().client_certificate(path("client"), path("client.key"));
    let unknown = shown.clone().load().unwrap_err().to_string();
    assert!(unknown.contains("TLS"), "{unknown}");
    let props = Properties::builder()
        .source(shown.ca(path("ca")))
        .build()
        .unwrap();
    let n0 = || props.get::<i64>("n0").unwrap();
    wait_until(SOON, "the source is up", || is_up(&props));
    for n in 1..=3 {
        store.put("app/n0", n.to_string());
        let took = wait_until(SECOND, "a change", || n0() == n);
        report_time::<Client>("put to handle, by TLS", took);
        // The stream restarts.
        std::thread::sleep(2 * SECOND);
        assert!(is_up(&props));
    }
    let begun = Instant::now();
    drop(props);
    assert!(begun.elapsed() < SECOND / 4, "{:?}", begun.elapsed());
}
