//! Whatever is read as a secret, by whatever call, is one from then on; and what is no secret is shown.

use std::collections::HashMap;
use std::sync::mpsc;

use super::support::eventually;
use super::*;

/// Everything that is said of a key, and what is on disk.
fn said(props: Properties, key: &str, dir: &Path) -> String {
    let out = Outputs::default();
    out.text("explain", props.explain(key));
    out.debug("explain", &props.explain(key));
    let floor = props.explain("door.floor").to_string();
    assert!(
        floor.contains('3') && !floor.contains("***"),
        "{key}: {floor}"
    );
    let open = props.explain("open").to_string();
    assert!(open.contains("seen"), "{key}: {open}");
    out.rejection("number", props.get::<u32>(key));
    out.rejection("number", props.snapshot().bind::<u32>(key));
    out.rejection("handle", props.property::<u32>(key).build());
    out.debug("health", &props.health());
    let history = props.history().unwrap();
    for older in &history {
        changes(&out, "history", &history[0], older);
    }
    // What is to be written is written by then.
    drop((history, props));
    out.files("file", dir);
    let all = out.0.lock().unwrap();
    all.iter()
        .map(|(what, text)| format!("{what}: {text}\n"))
        .collect()
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Nested {
    inner: Door,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Flat {
    #[serde(flatten)]
    door: Door,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
#[allow(dead_code)] // only decoded
enum Tagged {
    Door { code: Secret<String> },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Untagged {
    Door { code: Secret<String> },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Wrapped(Secret<String>);

type Read = fn(&Properties);

/// Each way to read, what it reads, and a key beside it that stays open.
const READS: &[(&str, &str, Read)] = &[
    ("get", "seal", |props| {
        drop(props.get::<Secret<String>>("seal"))
    }),
    ("get_opt", "seal", |props| {
        drop(props.get_opt::<Secret<String>>("seal"))
    }),
    ("get_or", "seal", |props| {
        drop(props.get_or("seal", Secret::new(String::new())));
    }),
    ("a wrapper", "seal", |props| {
        drop(props.get::<Wrapped>("seal"))
    }),
    ("an option", "seal", |props| {
        drop(props.get::<Option<Secret<String>>>("seal"))
    }),
    ("a failed read", "seal", |props| {
        drop(props.get::<Secret<u32>>("seal"))
    }),
    ("snapshot get", "seal", |props| {
        drop(props.snapshot().get::<Secret<String>>("seal"))
    }),
    ("snapshot get_opt", "seal", |props| {
        drop(props.snapshot().get_opt::<Secret<String>>("seal"));
    }),
    ("snapshot bind", "door.code", |props| {
        drop(props.snapshot().bind::<Door>("door"))
    }),
    ("snapshot bind of all", "door.code", |props| {
        drop(props.snapshot().bind::<BTreeMap<String, Value>>(""));
        drop(props.snapshot().bind::<Root>(""));
    }),
    ("get of a struct", "door.code", |props| {
        drop(props.get::<Door>("door"))
    }),
    ("get_opt of a struct", "door.code", |props| {
        drop(props.get_opt::<Door>("door"))
    }),
    ("a handle", "seal", |props| {
        drop(props.property::<Secret<String>>("seal").build());
    }),
    ("a handle with a default", "seal", |props| {
        let handle = props.property::<Secret<String>>("seal");
        drop(handle.default(Secret::default()).build());
    }),
    ("a handle with a fallback", "seal", |props| {
        drop(
            props
                .property::<Secret<String>>("no.such")
                .or_key("seal")
                .build(),
        );
    }),
    ("a mapped handle", "door.code", |props| {
        let handle = props.property::<Door>("door").build().unwrap();
        drop(handle.map(|door| door.floor));
    }),
    ("bind", "door.code", |props| {
        drop(props.bind::<Door>("door").build())
    }),
    ("bind, nested", "nested.inner.code", |props| {
        drop(props.bind::<Nested>("nested").build())
    }),
    ("flattened", "door.code", |props| {
        drop(props.get::<Flat>("door"))
    }),
    ("internally tagged", "tagged.code", |props| {
        drop(props.get::<Tagged>("tagged"))
    }),
    ("untagged", "door.code", |props| {
        drop(props.get::<Untagged>("door"))
    }),
    ("a list", "codes", |props| {
        drop(props.get::<Vec<Secret<String>>>("codes"))
    }),
    ("an item of a list", "codes.0", |props| {
        drop(props.get::<Secret<String>>("codes.0"))
    }),
    ("an item of a list by get_opt", "codes.0", |props| {
        drop(props.get_opt::<Secret<String>>("codes.0"));
    }),
    ("a map", "map.a", |props| {
        drop(props.get::<HashMap<String, Secret<String>>>("map"))
    }),
    ("a scoped view", "door.code", |props| {
        drop(props.scoped("door").unwrap().get::<Secret<String>>("code"));
    }),
    ("a scoped get_opt", "door.code", |props| {
        drop(
            props
                .scoped("door")
                .unwrap()
                .get_opt::<Secret<String>>("code"),
        );
    }),
];

#[derive(Clone, Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Root {
    door: Door,
}

fn values(n: u32) -> Values {
    let code = || Value::from(secret(n));
    [
        ("seal", code()),
        ("door.code", code()),
        ("door.floor", Value::from(3)),
        ("nested.inner.code", code()),
        ("tagged.kind", Value::from("Door")),
        ("tagged.code", code()),
        ("codes", Value::from(vec![code(), code()])),
        ("map.a", code()),
        ("open", Value::from("seen")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The values without those that only a secret of another place would hide.
fn only(key: &str, n: u32) -> Values {
    let plain = |(at, value): (String, Value)| {
        let is_read = key == at
            || key
                .strip_prefix(&*at)
                .is_some_and(|rest| rest.starts_with('.'));
        if is_read || !format!("{value:?}").contains(MARK) {
            (at, value)
        } else {
            (at, Value::from("nothing special"))
        }
    };
    values(n).into_iter().map(plain).collect()
}

#[test]
fn a_key_that_is_read_as_a_secret_by_any_call_is_secret_from_then_on() {
    let mut leaks = Vec::new();
    for (name, key, read) in READS {
        let temporary = tempfile::tempdir().unwrap();
        let store = Store::default();
        store.says(only(key, 1));
        let props = Properties::builder()
            .state_dir(temporary.path())
            .history(5)
            .source(store.clone().with(|policy| policy.cached()))
            .build()
            .unwrap();
        assert!(
            props.explain(key).to_string().contains(MARK),
            "{name}: open before"
        );
        read(&props);
        store.says(only(key, 2));
        props.refresh_now().unwrap();
        let told = said(props, key, temporary.path());
        if told.contains(MARK) {
            let line = told.lines().find(|line| line.contains(MARK)).unwrap();
            leaks.push(format!("{name}: {line}"));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[test]
fn a_change_that_is_read_as_a_secret_makes_its_key_one() -> Result<(), Error> {
    let memory = Memory::from([("seal", secret(1))]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.inline_callbacks().build()?;
    let (send, texts) = mpsc::channel();
    let _subscription = props.on_change_under("", move |batch| {
        let change = &batch.changes()[0];
        let _: Option<Secret<String>> = change.get().unwrap();
        send.send(format!("{change} {batch:?}")).unwrap();
    })?;
    memory.set("seal", secret(2))?;
    let text = texts.recv().unwrap();
    assert!(!text.contains(MARK), "{text}");
    assert!(!props.explain("seal").to_string().contains(MARK));
    Ok(())
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Lock {
    floor: u8,
    code: Option<Secret<String>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Locked {
    lock: Lock,
}

#[test]
fn a_key_that_is_read_as_a_secret_while_it_is_absent_is_one_when_it_comes() -> Result<(), Error> {
    let reads: [(&str, Read); 7] = [
        ("lock.code", |props| drop(props.get::<Lock>("lock"))),
        ("lock.code", |props| drop(props.get_opt::<Lock>("lock"))),
        ("lock.code", |props| {
            drop(props.get::<HashMap<String, Lock>>(""));
            drop(props.snapshot().get::<Locked>(""));
        }),
        ("door.code", |props| {
            drop(props.get_opt::<Secret<String>>("door.code"))
        }),
        ("door.code", |props| {
            drop(props.get::<Secret<String>>("door.code"))
        }),
        ("door.code", |props| {
            drop(props.snapshot().bind::<Door>("door"))
        }),
        ("door.code", |props| {
            let door = Secret::new(String::new());
            drop(props.get_or("door.code", door));
        }),
    ];
    for (key, read) in reads {
        let memory = Memory::from([("lock.floor", 7)]);
        let props = Properties::builder().source(memory.clone()).build()?;
        read(&props);
        memory.set(key, secret(1))?;
        let told = props.explain(key).to_string();
        assert!(!told.contains(MARK), "{told}");
        let told = props.explain("lock.floor").to_string();
        assert!(told.contains('7'), "{told}");
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only decoded
struct Db {
    pass: Secret<String>,
    max: u8,
    #[serde(default)]
    memory: Option<liveprops::ByteSize>,
}

#[test]
fn the_mask_covers_the_secret_field_of_a_struct_and_no_other() -> Result<(), Error> {
    let memory = Memory::from([("db.pass", MARK), ("db.max", "300"), ("db.extra", "64k")]);
    let props = Properties::builder().source(memory.clone()).build()?;
    for _ in 0..2 {
        let error = props.get::<Db>("db").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("db.max") && text.contains("300"), "{text}");
        assert!(!text.contains(MARK), "{text}");
    }
    memory.set("db.max", 3)?;
    let text = props.get::<Db>("db").unwrap_err().to_string();
    // It may be a secret under a misspelled name.
    assert!(text.contains("db.extra") && !text.contains("64k"), "{text}");
    memory.unset("db.extra")?;
    memory.set("db.memory", "64 parsecs")?;
    let text = props.get::<Db>("db").unwrap_err().to_string();
    assert!(
        text.contains("db.memory") && text.contains("64 parsecs"),
        "{text}"
    );
    memory.set("db.pass", vec![MARK, MARK])?;
    let text = props.get::<Db>("db").unwrap_err().to_string();
    assert!(!text.contains(MARK), "{text}");
    Ok(())
}

#[test]
fn a_wrong_guess_is_undone_and_the_keys_left_out_of_the_cache_are_listed() -> Result<(), Error> {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store::default();
    let text = |text: &str| Value::from(text);
    let values = [
        ("gate.pin", text("board 7")),
        ("auth.place", text("open realm")),
        ("auth.password", text(MARK)),
        ("link", text("http://me@host/open")),
        ("seen", text("plain")),
        ("named", text(MARK)),
        ("door.code", text(MARK)),
    ];
    store.says(values.map(|(key, value)| (key.to_owned(), value)));
    let build = |not_secret: &[&str]| -> Result<(Properties, Vec<String>, String), Error> {
        let builder = Properties::builder()
            .state_dir(temporary.path())
            .secret("named")
            .source(store.clone().with(|policy| policy.cached()));
        let keys = not_secret.iter();
        let props = keys.fold(builder, |it, key| it.not_secret(key)).build()?;
        let _: Secret<String> = props.get("door.code")?;
        props.refresh_now()?;
        let guessed = || -> Vec<String> {
            let sources = props.health().sources;
            let of_store = sources.into_iter().find(|it| &*it.name == "store").unwrap();
            of_store
                .guessed_secrets
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        eventually(Duration::from_secs(20), || !guessed().is_empty());
        let explained = ["gate.pin", "auth.place", "auth.password", "link", "named"];
        let explained = explained
            .map(|key| props.explain(key).to_string())
            .join("\n");
        let guessed = guessed();
        Ok((props, guessed, explained))
    };
    let (props, guessed, explained) = build(&[])?;
    assert_eq!(guessed, ["auth.password", "auth.place", "gate.pin", "link"]);
    assert!(
        !explained.contains("board 7") && !explained.contains("open"),
        "{explained}"
    );
    drop(props);
    let (props, guessed, explained) = build(&["gate.pin", "auth", "link"])?;
    assert_eq!(guessed, ["auth.password"]);
    for shown in ["board 7", "open realm", "me@host/open"] {
        assert!(explained.contains(shown), "{explained}");
    }
    assert!(!explained.contains(MARK), "{explained}");
    drop(props);
    // From the cache alone, what is no secret is there.
    *store.0.lock().unwrap() = None;
    let props = Properties::builder()
        .state_dir(temporary.path())
        .not_secret("gate.pin")
        .source(store.clone().with(|policy| policy.cached()))
        .build()?;
    assert_eq!(props.get::<String>("gate.pin")?, "board 7");
    assert_eq!(props.get::<String>("auth.place")?, "open realm");
    assert!(props.get::<String>("auth.password").is_err());
    Ok(())
}

/// A source whose server quotes what it is sent.
struct Echo {
    credentials: Credentials,
    is_broken: Mutex<bool>,
}

impl Source for Echo {
    fn origin(&self) -> Origin {
        Origin::new("echo", format!("http://me:{MARK}@host"))
    }

    fn load(&self) -> Result<Document, Error> {
        // base64 of `me:hunter2`
        let echo = format!("403: {MARK}, Basic bWU6aHVudGVyMg==, hunter%32, ({MARK}");
        if *self.is_broken.lock().unwrap() {
            let cause = std::io::Error::other(echo.clone());
            return Err(Error::new(ErrorKind::Unavailable, echo).with_cause(cause));
        }
        let mut document = document([("a".to_owned(), Value::from(1))])?;
        document.set_revision(format!("etag-{MARK}"));
        document.report_unreadable(
            Error::new(ErrorKind::Malformed, echo).with_key("b".parse::<liveprops::Key>()?),
        );
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, updates: &liveprops::source::SourceContext) -> Result<(), Error> {
        updates.set_location(format!("server of {MARK}"));
        updates.set_degraded(Some(Error::new(
            ErrorKind::Unavailable,
            format!("slow: {MARK}"),
        )));
        let document = self.load()?;
        drop(updates.send(Update::full(document)));
        *self.is_broken.lock().unwrap() = true;
        updates.report_error(self.load().unwrap_err());
        panic!("the watch of {MARK} ended");
    }

    fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }
}

#[test]
fn a_source_reports_nothing_that_it_sends_to_its_server() -> Result<(), Error> {
    let out = Outputs::default();
    let temporary = tempfile::tempdir().unwrap();
    let credentials = Credentials::new();
    credentials.add_login("me", MARK);
    credentials.add("hunter%32");
    let echo = Echo {
        credentials,
        is_broken: Mutex::new(false),
    };
    let events = out.clone();
    let (send, panicked) = mpsc::channel();
    let props = Properties::builder()
        .state_dir(temporary.path())
        .on_source_event(move |event| {
            events.debug("event", event);
            if format!("{event:?}").contains("panicked") {
                let _ = send.send(());
            }
        })
        .source(echo.with(|policy| policy.cached()))
        .build()?;
    panicked.recv_timeout(Duration::from_secs(20)).unwrap();
    out.debug("health", &props.health());
    out.text("explain", props.explain("a"));
    for rejected in props.health().rejected {
        out.error("rejected", &rejected.error);
    }
    out.rejection("refresh", props.refresh_now());
    drop(props);
    out.files("file", temporary.path());
    let all = out.0.lock().unwrap();
    for (what, text) in all.iter() {
        for form in [MARK, "bWU6aHVudGVyMg", "hunter%32"] {
            assert!(!text.contains(form), "{what}: {text}");
        }
    }
    let shown: String = all.iter().map(|(_, text)| text.as_str()).collect();
    assert!(
        shown.contains("server of ******") && shown.contains("slow: ******"),
        "{shown}"
    );
    Ok(())
}

#[test]
fn a_value_declared_not_secret_is_shown_in_whole_and_in_parts() {
    let memory = Memory::named("m");
    memory
        .set("cmd", Value::from(vec!["https://u:p@h"]))
        .unwrap();
    let table = BTreeMap::from([("password".to_owned(), Value::from(MARK))]);
    memory.set("jobs", Value::from(vec![table])).unwrap();
    let builder = Properties::builder().not_secret("cmd").not_secret("jobs");
    let props = builder.source(memory).build().unwrap();
    for key in ["cmd", "cmd.0"] {
        let shown = props.explain(key).to_string();
        assert!(shown.contains("https://u:p@h"), "{shown}");
    }
    for key in ["jobs", "jobs.0", "jobs.0.password"] {
        let shown = props.explain(key).to_string();
        assert!(!shown.contains(MARK), "{shown}");
    }
}

#[test]
fn an_old_rejection_still_says_that_a_secret_was_not_set() {
    #[derive(Clone, Debug, Deserialize, PartialEq)]
    struct Login {
        magic: String,
    }
    let memory = Memory::from([("login.magic", "a"), ("login.other", "b")]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.build().unwrap();
    let handle = props.bind::<Login>("login").build().unwrap();
    memory.remove("login.magic").unwrap_err();
    assert_eq!(handle.get().magic, "a");
    props.get::<Secret<String>>("login.magic").unwrap();
    let rejected = props.health().rejected;
    let text = format!("{}", rejected.last().unwrap().error);
    assert!(text.contains("not set"), "{text}");
}
