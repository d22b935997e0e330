//! Servers that quote what they are sent: nothing that a source reports shows its credentials.
#![cfg(any(
    all(feature = "http", feature = "toml"),
    feature = "consul",
    feature = "etcd",
    feature = "nats"
))]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;

/// What a credential may come back as: itself, in base64 with the user `me`, with percent signs.
const FORMS: [&str; 4] = [
    "hunter2/+x",
    "bWU6aHVudGVyMi8reA",
    "hunter2%2F%2Bx",
    "hunter2%2f%2bx",
];

const PASSWORD: &str = "hunter2/+x";

/// A server that answers every connection by what `reply` makes of a form of the credential; says
/// where it listens. It ends with the process.
fn serve(greeting: &'static str, reply: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut forms = FORMS.iter().cycle();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let form = forms.next().unwrap();
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.write_all(greeting.as_bytes());
            if reads_request(&mut stream) {
                let _ = stream.write_all(reply(form).as_bytes());
            }
        }
    });
    address
}

fn reads_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(count) => request.extend(&buffer[..count]),
        }
        let text = String::from_utf8_lossy(&request);
        let ends = text.starts_with("CONNECT {") || text.contains("\r\n\r\n");
        // What is posted has a body.
        let is_whole = text.starts_with("GET ") || !text.ends_with("\r\n\r\n");
        if ends && is_whole {
            return true;
        }
    }
}

#[cfg(any(
    all(feature = "http", feature = "toml"),
    feature = "consul",
    feature = "etcd"
))]
fn http(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Has a source report all that it can, and looks for the credential.
fn check<S: Source>(what: &str, make: impl Fn() -> S) {
    let out = Outputs::default();
    let temporary = tempfile::tempdir().unwrap();
    out.text("origin", make().origin());
    for _ in FORMS {
        let source = make();
        let loaded = source.load();
        if let Ok(document) = &loaded {
            out.debug("document", document);
            out.debug("revision", &document.revision());
        }
        out.rejection("load", loaded);
    }
    let events = out.clone();
    let builder = Properties::builder()
        .state_dir(temporary.path())
        .on_source_event(move |event| events.debug("event", event))
        .source(make().with(|policy| policy.optional().cached()));
    match builder.build() {
        Ok(props) => {
            for _ in FORMS {
                out.rejection("refresh", props.refresh_now());
                out.debug("health", &props.health());
                out.text("explain", props.explain("a"));
                for rejected in props.health().rejected {
                    out.error("rejected", &rejected.error);
                }
            }
        }
        Err(error) => out.error("build", &error),
    }
    let builder = Properties::builder().source(make());
    out.rejection("build", builder.build());
    for entry in fs::read_dir(temporary.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        out.text("file", String::from_utf8_lossy(&bytes));
    }
    let all = out.0.lock().unwrap();
    assert!(all.len() > FORMS.len(), "{what}: {} outputs", all.len());
    for (output, text) in all.iter() {
        let shown = FORMS.iter().find(|form| text.contains(**form));
        assert!(
            shown.is_none() && !text.contains("hunter2"),
            "{what}, {output}: {text}"
        );
    }
}

#[cfg(all(feature = "http", feature = "toml"))]
#[test]
fn a_web_server_that_quotes_a_credential_shows_it_in_no_report() {
    use liveprops::sources::Http;

    type Reply = fn(&str) -> String;
    let replies: [(&str, Reply); 8] = [
        ("403", |form| http("403 Forbidden", "", form)),
        ("the reason", |form| http(&format!("403 no {form}"), "", "")),
        ("the tag", |form| {
            http(
                "200 OK",
                &format!("ETag: \"{form}\"\r\nContent-Type: application/toml\r\n"),
                "a = 1\n",
            )
        }),
        ("the content type", |form| {
            http("200 OK", &format!("Content-Type: x/{form}\r\n"), "a = 1\n")
        }),
        ("the encoding", |form| {
            http(
                "200 OK",
                &format!("Content-Encoding: {form}\r\n"),
                "a = 1\n",
            )
        }),
        ("a redirect", |form| {
            http(
                "302 Found",
                &format!("Location: http://other.example.com/{form}\r\n"),
                "",
            )
        }),
        ("a key", |form| {
            let headers = "Content-Type: application/toml\r\n";
            http(
                "200 OK",
                headers,
                &format!("a = 1\n\"{form}\" = 1\n\"{form}\" = 2\n"),
            )
        }),
        ("no HTTP", |form| format!("{form}\r\n\r\n")),
    ];
    for (what, reply) in replies {
        let address = serve("", reply);
        let new = |url: String| {
            Http::new(url)
                .without_proxy()
                .timeout(Duration::from_secs(5))
        };
        check(what, || {
            new(format!("http://{address}/a.toml")).bearer(PASSWORD.to_owned())
        });
        check(what, || {
            new(format!("http://me:hunter2%2F%2Bx@{address}/a.toml"))
        });
        check(what, || {
            new(format!("http://{address}/a.toml")).header("X-Api-Key", PASSWORD.to_owned())
        });
        check(what, || {
            new(format!("http://{address}/a.toml?sig=hunter2%2F%2Bx"))
        });
        check(what, || {
            let value = "Basic bWU6aHVudGVyMi8reA==".to_owned();
            new(format!("http://{address}/a.toml")).header("Authorization", value)
        });
    }
}

#[cfg(feature = "consul")]
#[test]
fn an_agent_of_consul_that_quotes_a_token_shows_it_in_no_report() {
    use liveprops::sources::Consul;

    for status in ["403 Forbidden", "400 Bad Request", "500 no leader"] {
        let reply = move |form: &str| {
            let long = "x".repeat(60);
            http(
                status,
                "",
                &format!("{form} {long}{form}, and more that is not shown"),
            )
        };
        let address = serve("", reply);
        let new = || Consul::prefix("app").token(PASSWORD.to_owned());
        check(status, || new().address(format!("http://{address}")));
        check(status, || {
            new().address(format!("http://me:hunter2%2F%2Bx@{address}"))
        });
    }
}

#[cfg(feature = "etcd")]
#[test]
fn an_etcd_that_quotes_a_password_shows_it_in_no_report() {
    use liveprops::sources::Etcd;

    let reply = |form: &str| {
        http(
            "400 Bad Request",
            "",
            &format!("{{\"code\": 3, \"message\": \"no {form}\"}}"),
        )
    };
    let address = serve("", reply);
    let new = || Etcd::prefix("app").address(format!("http://{address}"));
    check("etcd", || new().user("me", PASSWORD.to_owned()));
}

#[cfg(feature = "nats")]
#[test]
fn a_nats_that_quotes_a_password_shows_it_in_no_report() {
    use liveprops::sources::Nats;

    const INFO: &str = "INFO {\"server_id\":\"x\",\"server_name\":\"x\",\"version\":\"2.10.0\",\
                        \"go\":\"x\",\"host\":\"0.0.0.0\",\"port\":4222,\"headers\":true,\
                        \"max_payload\":1048576,\"proto\":1,\"auth_required\":true}\r\n";
    let address = serve(INFO, |form| format!("-ERR 'no {form}'\r\n"));
    let new = || Nats::bucket("app").address(format!("nats://{address}"));
    check("nats", || new().user("me", PASSWORD.to_owned()));
    check("nats", || new().token(PASSWORD.to_owned()));
}

#[test]
fn the_debug_text_of_a_source_shows_no_credential() {
    let out = Outputs::default();
    #[cfg(feature = "http")]
    {
        use liveprops::sources::Http;
        let url = format!("http://me:{MARK}@h/a.toml?sig={MARK}&code={MARK}&x=y");
        let http = Http::new(url).header("X-Api-Key", MARK.to_owned());
        out.debug("http", &http);
        out.text("http", http.origin());
    }
    #[cfg(feature = "consul")]
    {
        use liveprops::sources::{Consul, Locator};
        let consul = Consul::prefix("app").token(MARK.to_owned());
        out.debug("consul", &consul.address(format!("http://me:{MARK}@h")));
        let vars = [
            ("X_HOST", format!("me:{MARK}@h")),
            ("DB_PASSWORD", MARK.to_owned()),
        ];
        let locator = Locator::new("X").vars(vars);
        out.debug("locator", &locator);
        out.rejection("locator", locator.find());
        out.debug("consul", &Consul::prefix("app").locator(locator));
    }
    #[cfg(feature = "etcd")]
    {
        use liveprops::sources::Etcd;
        let etcd = Etcd::prefix("app").user("me", MARK.to_owned());
        out.debug("etcd", &etcd.address(format!("http://me:{MARK}@h")));
    }
    #[cfg(feature = "nats")]
    {
        use liveprops::sources::Nats;
        let nats = Nats::bucket("app").token(MARK.to_owned());
        out.debug("nats", &nats.address(format!("nats://me:{MARK}@h")));
    }
    #[cfg(feature = "zookeeper")]
    {
        use liveprops::sources::ZooKeeper;
        let zookeeper = ZooKeeper::prefix("app").digest("me", MARK.to_owned());
        out.debug(
            "zookeeper",
            &zookeeper.address(format!("tls://me:{MARK}@h")),
        );
    }
    for (what, text) in out.0.lock().unwrap().iter() {
        assert!(!text.contains(MARK), "{what}: {text}");
    }
}
