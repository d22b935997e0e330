//! etcd, and what only it does.

use std::time::Duration;

use liveprops::source::Scope;
use liveprops::sources::{Etcd, Memory};
use liveprops::{Properties, Source};

use crate::field::{Field, SOON, Store, health, is_stale, is_up, tell, toml, within};
use crate::proxy::{Mode, Proxy};
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
    /// Asks the server for something, and gives its answer.
    fn ask(&self, path: &str, body: &str) -> serde_json::Value {
        let mut request = ureq::post(format!("{}/{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let mut answer = request.send(body).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// The newest revision.
    fn revision(&self) -> u64 {
        let answer = self.ask("kv/range", "{\"key\":\"AA==\"}");
        let revision = answer["header"]["revision"].as_str().unwrap();
        revision.parse().unwrap()
    }

    /// Forgets what was before the newest revision.
    fn compact(&self) {
        let revision = self.revision();
        let body = format!("{{\"revision\":\"{revision}\",\"physical\":true}}");
        self.ask("kv/compaction", &body);
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
        let all = Etcd::of_scope(prefix, scope).unwrap().into_iter();
        all.map(|one| source(port, one)).collect()
    }
}

suite!(Client);
