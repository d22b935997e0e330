//! Consul, and what only it does.

use liveprops::Source;
use liveprops::source::Scope;
use liveprops::sources::Consul;

use crate::field::{Store, toml};
use crate::server::{Kind, Server};
use crate::suite;

pub(crate) struct Client(String);

fn source(port: u16, consul: Consul) -> Box<dyn Source> {
    Box::new(consul.address(format!("http://127.0.0.1:{port}")))
}

impl Store for Client {
    const KIND: Kind = Kind::Consul;

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
        let all = Consul::of_scope(prefix, scope).unwrap().into_iter();
        all.map(|one| source(port, one)).collect()
    }
}

suite!(Client);
