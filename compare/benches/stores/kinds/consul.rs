//! Consul over plain HTTP: blocking reads, each parsed completely.

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

pub(crate) struct Consul {
    agent: Agent,
    url: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    key: String,
    value: Option<String>,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/v1")
}

/// Reads a prefix and returns the index of the answer. An `index` other than 0 blocks until the store
/// has a newer one.
fn read(agent: &Agent, port: u16, prefix: &str, index: u64) -> Option<(All, u64)> {
    let url = format!("{}/kv/{prefix}/?recurse&index={index}&wait=60s", url(port));
    let mut answer = agent.get(url).call().ok()?;
    let index = answer.headers().get("x-consul-index")?.to_str().ok()?;
    let index = index.parse().ok()?;
    let body = answer.body_mut().with_config().limit(64 << 20);
    let items: Vec<Item> = serde_json::from_slice(&body.read_to_vec().ok()?).ok()?;
    let item = |item: Item| Some((item.key, STANDARD.decode(item.value?).ok()?));
    Some((items.into_iter().filter_map(item).collect(), index))
}

impl Store for Consul {
    const KIND: Kind = Kind::Consul;
    const NAME: &'static str = "Consul";
    const BARE: &'static str = "`ureq`, blocking read, parsed";
    const READ: &'static str = "`ureq`, one read, parsed";
    const APART: Duration = Duration::from_millis(100);

    fn connect(port: u16) -> Self {
        Self {
            agent: Agent::new_with_defaults(),
            url: url(port),
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        let put = self.agent.put(format!("{}/kv/{key}", self.url)).send(value);
        put.unwrap().body_mut().read_to_vec().unwrap();
    }

    fn fill(&mut self, all: &[(String, String)]) {
        for some in all.chunks(64) {
            let one = |(key, value): &(String, String)| {
                let value = STANDARD.encode(value);
                format!("{{\"KV\":{{\"Verb\":\"set\",\"Key\":\"{key}\",\"Value\":\"{value}\"}}}}")
            };
            let ops: Vec<String> = some.iter().map(one).collect();
            let body = format!("[{}]", ops.join(","));
            let put = self.agent.put(format!("{}/txn", self.url)).send(&body);
            put.unwrap().body_mut().read_to_vec().unwrap();
        }
    }

    fn source(port: u16, prefix: &str) -> Box<dyn Source> {
        let consul = liveprops::sources::Consul::prefix(prefix);
        Box::new(consul.address(format!("http://127.0.0.1:{port}")))
    }

    fn watch(port: u16, prefix: &str, arrival: Arc<Arrival>) {
        let (prefix, key) = (prefix.to_owned(), format!("{prefix}/n"));
        let (send, ready) = channel();
        thread::spawn(move || {
            let agent = Agent::new_with_defaults();
            let mut index = 0;
            while let Some((all, newer)) = read(&agent, port, &prefix, index) {
                index = newer;
                all.get(&key).iter().for_each(|value| arrival.record(value));
                let _ = send.send(());
            }
        });
        ready.recv().unwrap();
    }

    fn read(port: u16, prefix: &str) -> All {
        let (all, _) = read(&Agent::new_with_defaults(), port, prefix, 0).unwrap();
        all
    }
}
