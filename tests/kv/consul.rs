//! Consul, and what only it does.

use std::collections::BTreeMap;

use liveprops::health::Status;
use liveprops::source::Scope;
use liveprops::sources::Consul;
use liveprops::{Properties, Source};

use crate::field::{Field, SOON, Store, health, is_up, toml, within};
use crate::server::{Kind, Server};
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

    fn all(&self) -> BTreeMap<String, String> {
        use base64::Engine as _;
        let items: serde_json::Value = serde_json::from_slice(&self.ask("kv/app/?recurse")).unwrap();
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
fn the_last_key_that_is_deleted_is_gone_and_comes_back() {
    let Some(field) = Field::<Client>::with(&[("app/only", "1")]) else {
        return;
    };
    // Without its guard, or the last one would be held.
    let consul = Consul::prefix("app").address(format!("http://127.0.0.1:{}", field.proxy.port()));
    let props = Properties::builder()
        .source(consul.with(|policy| policy.unguarded()))
        .build()
        .unwrap();
    let only = props.property::<u32>("only").default(7).build().unwrap();
    assert_eq!(only.get(), 1);
    // The answer is 404 then, with a higher index.
    field.store.delete("app/only");
    within(SOON, "it is gone", || only.get() == 7);
    assert!(is_up(&props), "nothing is wrong");
    field.store.put("app/only", "2");
    within(SOON, "it is back", || only.get() == 2);
}

#[test]
fn a_token_that_is_refused_takes_nothing_away_and_is_read_anew() {
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
    within(SOON, "the rules are in force", || put("1"));
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
    // Nobody may read without one: an empty list would be no refusal.
    std::fs::write(&token, "wrong").unwrap();
    // An agent may answer for a moment as if nothing were there, which is held.
    within(SOON, "it is told", || {
        let Status::Stale { reason, .. } = health(&props).status else {
            return false;
        };
        let told = reason.to_string();
        assert!(!told.contains("wrong"), "{told}");
        told.contains("403") && told.contains("ACL token")
    });
    assert_eq!(n.get(), 1);
    assert!(put("2"));
    std::fs::write(&token, MASTER).unwrap();
    within(SOON, "it is read anew", || n.get() == 2);
    within(SOON, "health says so", || is_up(&props));

    let shown = format!("{:?}", consul().token(MASTER.to_owned()));
    assert!(!shown.contains(MASTER), "{shown}");
}

#[test]
fn what_is_no_agent_of_consul_is_refused_and_the_next_address_asked() {
    let Some(field) = Field::<Client>::with(&[("app/n", "1")]) else {
        return;
    };
    // Answers, but is no agent; and one where nobody is.
    let Some(other) = Server::start(Kind::Etcd) else {
        return;
    };
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let error = Source::load(&Consul::prefix("app").address(at(other.port()))).unwrap_err();
    assert!(error.to_string().contains("agent of Consul"), "{error}");
    let all = [at(1), at(other.port()), at(field.proxy.port())];
    let props = Properties::builder()
        .source(Consul::prefix("app").addresses(all))
        .build()
        .unwrap();
    assert_eq!(props.get::<u32>("n").unwrap(), 1);
    field.store.put("app/n", "2");
    within(SOON, "it is followed", || {
        props.get::<u32>("n").unwrap() == 2
    });
}
