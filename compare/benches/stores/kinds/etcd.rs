//! etcd over plain HTTP: the watch of its JSON gateway, each line parsed.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use liveprops::Source;
use ureq::Agent;

use crate::arrival::Arrival;
use crate::server::Kind;
use crate::store::{All, Store};

pub(crate) struct Etcd {
    agent: Agent,
    url: String,
}

#[derive(serde::Deserialize)]
struct Item {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(serde::Deserialize)]
struct Listing {
    #[serde(default)]
    kvs: Vec<Item>,
}

#[derive(serde::Deserialize)]
struct Line {
    result: WatchResponse,
}

#[derive(serde::Deserialize)]
struct WatchResponse {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(serde::Deserialize)]
struct Event {
    kv: Item,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/v3")
}

/// Returns the range of keys that begin with `prefix/`.
fn range(prefix: &str) -> String {
    let (key, end) = (format!("{prefix}/"), format!("{prefix}0"));
    let (key, end) = (STANDARD.encode(key), STANDARD.encode(end));
    format!("\"key\":\"{key}\",\"range_end\":\"{end}\"")
}

impl Etcd {
    fn send(&self, path: &str, body: &str) {
        let answer = self.agent.post(format!("{}/{path}", self.url)).send(body);
        answer.unwrap().body_mut().read_to_vec().unwrap();
    }
}

impl Store for Etcd {
    const KIND: Kind = Kind::Etcd;
    const NAME: &'static str = "etcd";
    const BARE: &'static str = "`ureq`, watch by the gateway, parsed";
    const READ: &'static str = "`ureq`, one range, parsed";
    const APART: Duration = Duration::from_millis(100);

    fn connect(port: u16) -> Self {
        Self {
            agent: Agent::new_with_defaults(),
            url: url(port),
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
        self.send(
            "kv/put",
            &format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}"),
        );
    }

    fn fill(&mut self, all: &[(String, String)]) {
        for some in all.chunks(100) {
            let one = |(key, value): &(String, String)| {
                let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
                format!("{{\"request_put\":{{\"key\":\"{key}\",\"value\":\"{value}\"}}}}")
            };
            let ops: Vec<String> = some.iter().map(one).collect();
            self.send("kv/txn", &format!("{{\"success\":[{}]}}", ops.join(",")));
        }
    }

    fn source(port: u16, prefix: &str) -> Box<dyn Source> {
        let etcd = liveprops::sources::Etcd::prefix(prefix);
        Box::new(etcd.address(format!("http://127.0.0.1:{port}")))
    }

    fn watch(port: u16, prefix: &str, arrival: Arc<Arrival>) {
        let key = STANDARD.encode(format!("{prefix}/n"));
        let body = format!("{{\"create_request\":{{{}}}}}", range(prefix));
        let (send, ready) = channel();
        thread::spawn(move || {
            let agent = Agent::new_with_defaults();
            let answer = agent.post(format!("{}/watch", url(port))).send(&body);
            let body = answer.unwrap().into_body();
            for line in BufReader::new(body.into_reader()).lines() {
                let line = line.ok().map(|line| serde_json::from_str::<Line>(&line));
                let Some(Ok(line)) = line else { return };
                for Event { kv } in line.result.events {
                    if kv.key == key {
                        arrival.record(&STANDARD.decode(kv.value).unwrap());
                    }
                }
                let _ = send.send(());
            }
        });
        ready.recv().unwrap();
    }

    fn read(port: u16, prefix: &str) -> All {
        let agent = Agent::new_with_defaults();
        let body = format!("{{{}}}", range(prefix));
        let answer = agent.post(format!("{}/kv/range", url(port))).send(&body);
        let mut body = answer.unwrap().into_body();
        let bytes = body.with_config().limit(64 << 20).read_to_vec().unwrap();
        let listing: Listing = serde_json::from_slice(&bytes).unwrap();
        let decode = |text: String| STANDARD.decode(text).unwrap();
        let item = |it: Item| (String::from_utf8(decode(it.key)).unwrap(), decode(it.value));
        listing.kvs.into_iter().map(item).collect()
    }
}
