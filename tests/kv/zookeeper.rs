//! ZooKeeper: behaviour that no other store has.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use liveprops::source::Scope;
use liveprops::sources::{Locator, Memory, ZooKeeper};
use liveprops::{Properties, Source};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::SECOND;
use crate::proxy::{Mode, Proxy};
use crate::scenario::{
    Reader, SOON, Scenario, Store, health, is_stale, is_up, report_time, toml, wait_until,
};
use crate::server::{Kind, Server, free_port};
use crate::suite;

/// A client for writes that shares no code with the tested one.
pub(crate) struct Client {
    port: u16,
    /// The time limit of an answer.
    patience: Duration,
    connection: Mutex<Option<TcpStream>>,
    folders: Mutex<HashSet<String>>,
}

/// The operation codes of the protocol.
enum Op<'a> {
    Create(&'a str, &'a [u8], Acl),
    Delete(&'a str),
    Set(&'a str, &'a [u8]),
}

#[derive(Clone, Copy)]
pub(crate) enum Acl {
    Open,
    /// An ACL for clients with the credentials of the writer.
    Own,
}

const CLOSE: i32 = -11;
const CREATE: i32 = 1;
const EXISTS: i32 = 3;
const DATA: i32 = 4;
const CHILDREN: i32 = 8;
const SET_ACL: i32 = 7;
const MULTI: i32 = 14;
const AUTH: i32 = 100;

fn text(bytes: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    bytes.extend((text.len() as i32).to_be_bytes());
    bytes.extend(text);
}

fn acl(bytes: &mut Vec<u8>, acl: Acl) {
    let (scheme, id) = match acl {
        Acl::Open => ("world", "anyone"),
        Acl::Own => ("auth", ""),
    };
    bytes.extend(1i32.to_be_bytes());
    bytes.extend(31i32.to_be_bytes());
    text(bytes, scheme);
    text(bytes, id);
}

impl Op<'_> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut head = |kind: i32, path: &str| {
            bytes.extend(kind.to_be_bytes());
            bytes.push(0);
            bytes.extend((-1i32).to_be_bytes());
            text(bytes, path);
        };
        match self {
            Op::Create(path, data, own) => {
                head(1, path);
                text(bytes, data);
                acl(bytes, *own);
                bytes.extend(0i32.to_be_bytes());
            }
            Op::Delete(path) => {
                head(2, path);
                bytes.extend((-1i32).to_be_bytes());
            }
            Op::Set(path, data) => {
                head(5, path);
                text(bytes, data);
                bytes.extend((-1i32).to_be_bytes());
            }
        }
    }
}

fn send(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut framed = (message.len() as i32).to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The error code of a header.
fn error_of(answer: &[u8]) -> i32 {
    i32::from_be_bytes(answer[12..16].try_into().unwrap())
}

impl Client {
    /// Sets a node and returns whether the server accepted it soon: a member without a quorum does
    /// not answer.
    pub(crate) fn try_put(server: &Server, key: &str, value: &str) -> bool {
        let client = Self {
            patience: 2 * SECOND,
            ..Self::connect(server)
        };
        let put = || client.put(key, value);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(put)).is_ok()
    }

    fn open(&self) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.patience))?;
        let mut hello = vec![0; 12];
        hello.extend(10_000i32.to_be_bytes());
        hello.extend(0i64.to_be_bytes());
        text(&mut hello, [0; 16]);
        hello.push(0);
        send(&mut stream, &hello)?;
        let mut auth = (-4i32).to_be_bytes().to_vec();
        auth.extend(AUTH.to_be_bytes());
        auth.extend(0i32.to_be_bytes());
        text(&mut auth, "digest");
        text(&mut auth, "writer:s3cret");
        let answer = send(&mut stream, &auth)?;
        assert_eq!(error_of(&answer), 0);
        Ok(stream)
    }

    /// Sends a request; reconnects if the connection is closed.
    fn ask(&self, kind: i32, body: &[u8]) -> Vec<u8> {
        let mut message = 1i32.to_be_bytes().to_vec();
        message.extend(kind.to_be_bytes());
        message.extend(body);
        let mut kept = self.connection.lock().unwrap();
        let begun = Instant::now();
        loop {
            let tried = match kept.as_mut() {
                Some(stream) => send(stream, &message),
                None => self.open().and_then(|mut stream| {
                    let answer = send(&mut stream, &message);
                    *kept = Some(stream);
                    answer
                }),
            };
            match tried {
                Ok(answer) => return answer,
                Err(fault) => assert!(begun.elapsed() < self.patience, "{fault}"),
            }
            *kept = None;
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn exists(&self, path: &str) -> bool {
        let mut body = Vec::new();
        text(&mut body, path);
        body.push(0);
        error_of(&self.ask(EXISTS, &body)) == 0
    }

    /// Updates the list of existing folders.
    pub(crate) fn forget(&self) {
        self.folders.lock().unwrap().clear();
    }

    fn commit(&self, ops: &[Op<'_>]) {
        let mut body = Vec::new();
        ops.iter().for_each(|op| op.write(&mut body));
        body.extend((-1i32).to_be_bytes());
        body.push(1);
        body.extend((-1i32).to_be_bytes());
        let answer = self.ask(MULTI, &body);
        assert_eq!(error_of(&answer), 0);
        let first = i32::from_be_bytes(answer[16..20].try_into().unwrap());
        assert!(first > 0, "the transaction failed");
    }

    /// Returns the missing folders above a node.
    fn missing(&self, path: &str) -> Vec<String> {
        let mut known = self.folders.lock().unwrap();
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
        let folders = ends.map(|end| path[..end].to_owned());
        folders
            .filter(|folder| known.insert(folder.clone()) && !self.exists(folder))
            .collect()
    }

    pub(crate) fn set(&self, changes: &[(&str, Option<&[u8]>)], own: Acl) {
        let changes: Vec<(String, Option<&[u8]>)> = changes
            .iter()
            .map(|(key, value)| (format!("/{key}"), *value))
            .collect();
        let missing: Vec<String> = changes
            .iter()
            .filter(|(_, value)| value.is_some())
            .flat_map(|(path, _)| self.missing(path))
            .collect();
        let folders = missing.iter().map(|path| Op::Create(path, b"", Acl::Open));
        let nodes = changes.iter().map(|(path, value)| match value {
            None => Op::Delete(path),
            Some(value) if self.exists(path) => Op::Set(path, value),
            Some(value) => Op::Create(path, value, own),
        });
        let ops: Vec<Op<'_>> = folders.chain(nodes).collect();
        self.commit(&ops);
    }

    /// Creates missing nodes in one transaction.
    pub(crate) fn create(&self, nodes: &[(&str, Option<&[u8]>)]) {
        let nodes: Vec<(String, &[u8])> = nodes
            .iter()
            .map(|(key, value)| (format!("/{key}"), value.unwrap_or_default()))
            .collect();
        let missing: Vec<String> = nodes
            .iter()
            .flat_map(|(path, _)| self.missing(path))
            .collect();
        let folders = missing.iter().map(|path| Op::Create(path, b"", Acl::Open));
        let nodes = nodes
            .iter()
            .map(|(path, value)| Op::Create(path, value, Acl::Open));
        let ops: Vec<Op<'_>> = folders.chain(nodes).collect();
        self.commit(&ops);
    }

    /// Creates an ephemeral node.
    pub(crate) fn create_ephemeral(&self, path: &str, value: &[u8], own: Acl) {
        let mut body = Vec::new();
        text(&mut body, path);
        text(&mut body, value);
        acl(&mut body, own);
        body.extend(1i32.to_be_bytes());
        assert_eq!(error_of(&self.ask(CREATE, &body)), 0);
    }

    /// Closes the session.
    pub(crate) fn close(&self) {
        assert_eq!(error_of(&self.ask(CLOSE, &[])), 0);
    }

    fn open_to_all(&self, path: &str) {
        self.set_acl(path, Acl::Open);
    }

    pub(crate) fn set_acl(&self, path: &str, own: Acl) {
        let mut body = Vec::new();
        text(&mut body, path);
        acl(&mut body, own);
        body.extend((-1i32).to_be_bytes());
        assert_eq!(error_of(&self.ask(SET_ACL, &body)), 0);
    }
}

fn source(port: u16, zookeeper: ZooKeeper) -> Box<dyn Source> {
    Box::new(zookeeper.address(format!("127.0.0.1:{port}")))
}

impl Store for Client {
    const KIND: Kind = Kind::ZooKeeper;
    const LARGEST: usize = 1 << 20;

    fn connect(server: &Server) -> Self {
        Self {
            port: server.port(),
            patience: SOON,
            connection: Mutex::default(),
            folders: Mutex::default(),
        }
    }

    fn change(&self, changes: &[(&str, Option<&[u8]>)]) {
        self.set(changes, Acl::Open);
    }

    fn prefix(port: u16, prefix: &str) -> Box<dyn Source> {
        source(port, ZooKeeper::prefix(prefix))
    }

    fn with_document(port: u16, prefix: &str, key: &str) -> Box<dyn Source> {
        source(port, ZooKeeper::prefix(prefix).as_document(key, toml()))
    }

    fn document(port: u16, key: &str) -> Box<dyn Source> {
        source(port, ZooKeeper::document(key).format(toml()))
    }

    fn of_scope(port: u16, prefix: &str, scope: &Scope) -> Vec<Box<dyn Source>> {
        let all = ZooKeeper::prefix(prefix)
            .of_scope(scope)
            .unwrap()
            .into_iter();
        all.map(|one| source(port, one)).collect()
    }

    fn all(&self) -> BTreeMap<String, String> {
        fn string(bytes: &mut &[u8]) -> String {
            let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
            let (text, rest) = rest.split_at(i32::from_be_bytes(*length).max(0) as usize);
            *bytes = rest;
            String::from_utf8(text.to_vec()).unwrap()
        }
        let mut paths = vec!["/app".to_owned()];
        let mut all = BTreeMap::new();
        while let Some(path) = paths.pop() {
            let mut body = Vec::new();
            text(&mut body, &path);
            body.push(0);
            let answer = self.ask(CHILDREN, &body);
            if error_of(&answer) != 0 {
                continue;
            }
            let (count, mut names) = answer[16..].split_first_chunk::<4>().unwrap();
            let children = (0..i32::from_be_bytes(*count)).map(|_| string(&mut names));
            paths.extend(children.map(|name| format!("{path}/{name}")));
            let value = string(&mut &self.ask(DATA, &body)[16..]);
            if !value.is_empty() {
                all.insert(path[1..].to_owned(), value);
            }
        }
        all
    }

    fn readers(&self) -> usize {
        // One session is that of the writer.
        sessions(self.port) - 1
    }
}

suite!(Client);

fn ten() -> Option<Scenario<Client>> {
    let scenario = Scenario::<Client>::with(&[])?;
    let keys: Vec<String> = (0..10).map(|n| format!("app/n{n}")).collect();
    let all: Vec<(&str, Option<&[u8]>)> =
        keys.iter().map(|k| (k.as_str(), Some(&b"0"[..]))).collect();
    scenario.store.change(&all);
    Some(scenario)
}

fn get(props: &Properties, key: &str) -> Option<i64> {
    props.get_opt::<i64>(key).ok().flatten()
}

#[test]
fn a_change_is_seen_within_a_few_milliseconds() {
    let Some(scenario) = ten() else { return };
    let props = scenario.follow();
    let n0 = props.property::<i64>("n0").build().unwrap();
    let mut all = Vec::new();
    for n in 1..=100 {
        std::thread::sleep(Duration::from_millis(30));
        let begun = Instant::now();
        scenario.store.put("app/n0", n.to_string());
        wait_until(SOON, "a change", || n0.get() == n);
        all.push(begun.elapsed());
    }
    all.sort();
    println!(
        "ZooKeeper: put to handle: p50 {:?} p99 {:?}",
        all[50], all[98]
    );
    assert!(all[50] < Duration::from_millis(200), "{all:?}");
}

#[test]
fn an_expired_session_is_replaced_and_brings_all_changes() {
    let Some(scenario) = ten() else { return };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    scenario.store.put("app/n3", "3");
    wait_until(SOON, "the program follows the store", || {
        get(&props, "n3") == Some(3)
    });
    scenario.proxy.set(Mode::HalfOpen);
    scenario.store.put("app/n0", "1");
    scenario.store.delete("app/n1");
    wait_until(5 * SECOND, "the source is stale", || is_stale(&props));
    // Longer than the session timeout.
    std::thread::sleep(8 * SECOND);
    scenario.store.put("app/n2", "2");
    assert_eq!(get(&props, "n1"), Some(0));
    assert!(scenario.proxy.open() <= 1, "what is given up is closed");
    scenario.proxy.set(Mode::Pass);
    let took = wait_until(SOON, "all changes", || {
        get(&props, "n0") == Some(1) && get(&props, "n1").is_none() && get(&props, "n2") == Some(2)
    });
    report_time::<Client>("session expired", took);
    scenario.store.put("app/n1", "3");
    wait_until(SECOND, "the watch is set again", || {
        get(&props, "n1") == Some(3)
    });
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_node_that_is_deleted_and_created_again_while_cut_is_one_change_or_none() {
    let Some(scenario) = ten() else { return };
    let props = scenario.follow();
    let reader = Reader::of(&props);
    let (send, changes) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let keys: Vec<String> = batch
            .changes()
            .iter()
            .map(|c| c.key().to_string())
            .collect();
        let _ = send.send(keys);
    });
    scenario.proxy.set(Mode::Refuse);
    wait_until(SOON, "the source is stale", || is_stale(&props));
    for (key, value) in [("app/n0", "7"), ("app/n1", "0")] {
        scenario.store.delete(key);
        scenario.store.put(key, value);
    }
    scenario.proxy.set(Mode::Pass);
    assert_eq!(changes.recv_timeout(SOON).unwrap(), ["n0"]);
    wait_until(SOON, "the source is up", || is_up(&props));
    // The same without another change in between.
    scenario.store.delete("app/n0");
    scenario.store.put("app/n0", "8");
    wait_until(SOON, "the last value", || get(&props, "n0") == Some(8));
    scenario.store.put("app/n1", "9");
    wait_until(SOON, "the one that looks the same", || {
        get(&props, "n1") == Some(9)
    });
    reader.assert_recovered(&scenario, &props);
}

#[test]
fn a_root_that_is_created_later_is_followed() {
    let Some(scenario) = ten() else { return };
    let props = Properties::builder()
        .source(Client::prefix(scenario.proxy.port(), "one/two/three"))
        .build()
        .unwrap();
    assert!(props.snapshot().keys().is_empty() && is_up(&props));
    scenario.store.put("one/n", "0");
    scenario.store.put("one/two/three/deep/n", "1");
    let took = wait_until(SECOND, "the new key", || get(&props, "deep.n") == Some(1));
    report_time::<Client>("created three levels deep", took);
    // The root is deleted and created again.
    for path in ["deep/n", "deep", ""] {
        let key = format!("one/two/three/{path}");
        scenario.store.delete(key.trim_end_matches('/'));
    }
    wait_until(SOON, "it is withheld, or gone", || {
        health(&props).withheld.is_some() || get(&props, "deep.n").is_none()
    });
    let again = Client::connect(&scenario.server);
    again.put("one/two/three/deep/n", "2");
    wait_until(SECOND, "what was created again", || {
        get(&props, "deep.n") == Some(2)
    });
}

#[test]
fn a_node_without_data_is_a_folder_and_children_win_over_data() {
    let Some(scenario) = ten() else { return };
    let props = Properties::builder()
        .source(Memory::from([("n0", 77)]))
        .source(Client::prefix(scenario.proxy.port(), "app"))
        .build()
        .unwrap();
    let source = || {
        props
            .health()
            .sources
            .into_iter()
            .find(|one| one.required)
            .unwrap()
    };
    scenario.store.put("app/folder", "");
    scenario.store.put("app/n0", "");
    wait_until(SOON, "the layer below shows", || {
        get(&props, "n0") == Some(77)
    });
    assert!(props.get_opt::<String>("folder").unwrap().is_none());
    scenario.store.put("app/n1/deep", "1");
    wait_until(SOON, "the child", || get(&props, "n1.deep") == Some(1));
    wait_until(SOON, "the clash is reported", || {
        props
            .health()
            .sources
            .iter()
            .any(|one| !one.problems.is_empty())
    });
    scenario.store.put("app/n1", "");
    wait_until(SOON, "the clash is over", || {
        props
            .health()
            .sources
            .iter()
            .all(|one| one.problems.is_empty())
    });
    scenario.store.put("app/n1", "5");
    scenario.store.delete("app/n1/deep");
    wait_until(SOON, "the data count", || get(&props, "n1") == Some(5));
    assert!(source().commits > 0);
}

#[test]
fn transactions_that_follow_each_other_are_never_seen_in_halves() {
    let Some(scenario) = Scenario::<Client>::with(&[]) else {
        return;
    };
    let keys: Vec<String> = (0..64).map(|n| format!("app/k{}/n{n}", n % 7)).collect();
    let all = |value: &str| {
        let value = value.to_owned();
        let changes: Vec<(&str, Option<&[u8]>)> = keys
            .iter()
            .map(|k| (k.as_str(), Some(value.as_bytes())))
            .collect();
        scenario.store.change(&changes);
    };
    all("0");
    let props = scenario.follow();
    let (send, received) = channel();
    let _guard = props.on_change_under("", move |batch| {
        let values: HashSet<String> = batch
            .changes()
            .iter()
            .map(|change| format!("{:?}", change.new_value()))
            .collect();
        let _ = send.send((batch.changes().len(), values.len()));
    });
    for n in 1..=40 {
        all(&n.to_string());
        std::thread::sleep(Duration::from_millis(n % 9));
    }
    wait_until(SOON, "the last", || get(&props, "k0.n0") == Some(40));
    let batches: Vec<(usize, usize)> = received.try_iter().collect();
    println!(
        "ZooKeeper: 40 transactions of 64: {} generations",
        batches.len()
    );
    assert!(batches.iter().all(|batch| *batch == (64, 1)), "{batches:?}");
}

#[test]
fn a_thousand_writes_are_few_generations_and_end_on_the_last() {
    let Some(scenario) = ten() else { return };
    let props = scenario.follow();
    let before = props.generation();
    let begun = Instant::now();
    for n in 1..=1000 {
        scenario
            .store
            .put(&format!("app/n{}", n % 10), n.to_string());
    }
    let wrote = begun.elapsed();
    wait_until(SOON, "the last", || {
        (991..=1000).all(|n| get(&props, &format!("n{}", n % 10)) == Some(n))
    });
    let count = props.generation() - before;
    println!("ZooKeeper: 1000 writes in {wrote:?}: {count} generations");
    assert!(u128::from(count) <= wrote.as_millis() / 20 + 2, "{count}");
}

#[test]
fn an_unreadable_node_is_rejected_alone_and_a_digest_makes_it_readable() {
    let Some(scenario) = ten() else { return };
    scenario.store.set(&[("app/private", Some(b"1"))], Acl::Own);
    scenario.store.set(&[("app/vault", Some(b""))], Acl::Own);
    scenario.store.put("app/vault/n", "2");
    let without = scenario.follow();
    let port = scenario.proxy.port();
    let with = |source: ZooKeeper| {
        let source = source.address(format!("127.0.0.1:{port}"));
        Properties::builder().source(source).build().unwrap()
    };
    let text = with(ZooKeeper::prefix("app").digest("writer", "s3cret".to_owned()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "writer:s3cret\n").unwrap();
    let file = with(ZooKeeper::prefix("app").digest_file(file.path()));
    for props in [&text, &file] {
        assert_eq!(get(props, "private"), Some(1));
        assert_eq!(get(props, "vault.n"), Some(2));
    }
    assert_eq!(without.snapshot().keys().len(), 10);
    let problems = health(&without).problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].to_string().contains("app/private"),
        "{problems:?}"
    );
    assert!(!is_up(&without), "a part of it is rejected");
    // Each session reports it again.
    scenario.proxy.cut();
    scenario.store.put("app/private", "3");
    wait_until(SOON, "with a digest", || get(&text, "private") == Some(3));
    scenario.store.put("app/n0", "1");
    wait_until(SOON, "without one", || get(&without, "n0") == Some(1));
    // A node that becomes readable is read, although a change of an ACL causes no event.
    scenario.store.open_to_all("/app/private");
    scenario.store.open_to_all("/app/vault");
    let took = wait_until(5 * SECOND, "what is opened", || {
        get(&without, "private") == Some(3) && get(&without, "vault.n") == Some(2)
    });
    report_time::<Client>("an ACL that was opened", took);
    wait_until(SOON, "nothing is wrong", || {
        health(&without).problems.is_empty()
    });
    // An unreadable root is an error without the password.
    scenario.store.set(&[("closed", Some(b""))], Acl::Own);
    let source = ZooKeeper::prefix("closed")
        .digest("writer", "wr0ng".to_owned())
        .address(format!("127.0.0.1:{port}"));
    let message = format!("{source:?} {}", source.load().unwrap_err());
    assert!(
        message.contains("ACL") && message.contains("closed"),
        "{message}"
    );
    assert!(!message.contains("wr0ng"), "{message}");
}

#[test]
fn any_of_several_servers_with_a_chroot_is_used() {
    let Some(scenario) = ten() else { return };
    scenario.store.put("production/app/n0", "7");
    let dead = free_port();
    let (proxy, port) = (scenario.proxy.port(), scenario.server.port());
    let list = format!("127.0.0.1:{dead},127.0.0.1:{proxy},127.0.0.1:{port}/production");
    let props = Properties::builder()
        .source(ZooKeeper::prefix("/app/").address(list))
        .build()
        .unwrap();
    assert_eq!(get(&props, "n0"), Some(7));
    assert_eq!(props.snapshot().keys().len(), 1);
    scenario.proxy.set(Mode::Refuse);
    scenario.store.put("production/app/n0", "8");
    wait_until(SOON, "by another", || get(&props, "n0") == Some(8));
    wait_until(SOON, "the source is up", || is_up(&props));
    let locator = Locator::new("LIVEPROPS_TEST_ZK")
        .vars([("LIVEPROPS_TEST_ZK_PORT", port.to_string())])
        .host("127.0.0.1");
    let all = ZooKeeper::prefix("").locator(locator).load().unwrap();
    let keys: Vec<String> = all.iter().map(|(key, ..)| key.to_string()).collect();
    assert_eq!(keys.len(), 11, "without the store's own: {keys:?}");
}

/// Returns the number of sessions of the server.
fn sessions(port: u16) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"dump").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.contains("Session Sets"), "{answer}");
    let tracked = answer.lines().filter(|line| line.starts_with("\t0x"));
    tracked.count()
}

#[test]
fn shutdown_leaves_no_session_behind() {
    let Some(scenario) = ten() else { return };
    let before = sessions(scenario.server.port());
    assert_eq!(before, 1, "that of the writer");
    for _ in 0..5 {
        let props = scenario.follow();
        scenario.store.put("app/n0", "-1");
        wait_until(SOON, "the program follows the store", || {
            get(&props, "n0") == Some(-1)
        });
        scenario.store.put("app/n0", "0");
        wait_until(SOON, "the program follows the store", || {
            get(&props, "n0") == Some(0)
        });
        assert_eq!(sessions(scenario.server.port()), before + 1);
    }
    wait_until(SECOND, "the last has ended", || {
        sessions(scenario.server.port()) == before
    });
}

/// Creates an authority, and certificates of a server and a client, in PEM files.
fn create_certificates(dir: &Path) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        write(&format!("{name}.key"), key.serialize_pem());
        // The key store is one file with both.
        let both = key.serialize_pem() + &certificate;
        write(&format!("{name}.pem"), certificate);
        write(&format!("{name}-both.pem"), both);
    }
}

#[test]
fn tls_authenticates_server_and_client() {
    let dir = tempfile::tempdir().unwrap();
    create_certificates(dir.path());
    let file = |name: &str| dir.path().join(name);
    let secure = free_port();
    let lines = [
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory".to_owned(),
        format!("secureClientPort={secure}"),
        "secureClientPortAddress=127.0.0.1".to_owned(),
        format!(
            "ssl.keyStore.location={}",
            file("server-both.pem").display()
        ),
        format!("ssl.trustStore.location={}", file("ca.pem").display()),
        "ssl.clientAuth=need".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let Some(server) = Server::start_with(Kind::ZooKeeper, &lines) else {
        return;
    };
    let store = Client::connect(&server);
    store.put("app/n", "1");
    let proxy = Proxy::new(secure);
    let at = format!("127.0.0.1:{}", proxy.port());
    let anonymous = ZooKeeper::prefix("app").address(&at).ca(file("ca.pem"));
    let message = anonymous.load().unwrap_err().to_string();
    assert!(message.contains("with `client_certificate`"), "{message}");
    let known = anonymous.client_certificate(file("client.pem"), file("client.key"));
    let stranger = known.clone().ca(file("client.pem")).load().unwrap_err();
    assert!(stranger.to_string().contains("certificate"), "{stranger}");
    let plain = ZooKeeper::prefix("app").address(&at).load();
    assert!(plain.is_err(), "without TLS");
    let props = Properties::builder().source(known).build().unwrap();
    assert_eq!(get(&props, "n"), Some(1));
    for n in 2..20 {
        store.put("app/n", n.to_string());
        wait_until(SOON, "a change", || get(&props, "n") == Some(n));
    }
    store.put("app/large", "x".repeat(900_000));
    wait_until(SOON, "much at once", || {
        props
            .get_opt::<String>("large")
            .unwrap()
            .is_some_and(|text| text.len() == 900_000)
    });
    proxy.set(Mode::HalfOpen);
    wait_until(5 * SECOND, "the source is stale", || is_stale(&props));
    store.put("app/n", "77");
    proxy.set(Mode::Pass);
    wait_until(SOON, "the change", || get(&props, "n") == Some(77));
    let begun = Instant::now();
    drop(props);
    assert!(
        begun.elapsed() < Duration::from_millis(300),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_server_that_is_no_zookeeper_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let source = ZooKeeper::prefix("app").address(&address);
    let message = source.load().unwrap_err().to_string();
    assert!(
        message.contains(&address) && message.contains("ZooKeeper?"),
        "{message}"
    );
    let message = ZooKeeper::prefix("app").address("ftp://me:s3cret@x").load();
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("zookeeper app/") && !message.contains("s3cret"),
        "{message}"
    );
}
