//! Messages that may quote a value: of validators, panics, and errors about references, names and
//! broken structs. None shows a known secret, and all other text stays readable.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(all(feature = "yaml", feature = "toml"))]

use std::fmt::Debug;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use liveprops::health::SourceEvent;
use liveprops::sources::{Args, Memory};
use liveprops::{
    Builder, Document, Error, ErrorKind, Format, Origin, Properties, Schema, Secret, Snapshot,
    Source, Value, Watching,
};
use serde::Deserialize;

#[path = "secrets_in_messages/misspelled.rs"]
mod misspelled;
#[path = "secrets_in_messages/structs.rs"]
mod structs;

const SOON: Duration = Duration::from_secs(10);
/// The secret of each test.
const SECRET: &str = "hunter2zz";
const URL: &str = "postgres://u:hunter2zz@h/reject";

/// All that an error says, in each of its forms.
fn all_of(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    for one in error.iter() {
        text += &format!(
            "{:?}",
            (one.key(), one.found(), one.expected(), one.origin())
        );
    }
    text
}

#[track_caller]
fn is_hidden(text: impl AsRef<str>) {
    let text = text.as_ref();
    assert!(!text.contains("hunter2"), "{text}");
}

/// Says an error that shows no secret.
#[track_caller]
fn hidden<T: Debug>(outcome: Result<T, Error>) -> String {
    let error = outcome.unwrap_err();
    is_hidden(all_of(&error));
    error.to_string()
}

/// A source with some secrets, and the events of its properties.
fn with_secrets(adapt: impl Fn(Builder) -> Builder) -> (Memory, Properties, Receiver<String>) {
    let memory = Memory::from([
        ("db.password", SECRET),
        ("db.url", URL),
        ("door", SECRET),
        ("gate", "hunter2-of-gate"),
        ("other", "1"),
    ]);
    let (sender, events) = channel();
    let builder = Properties::builder()
        .source(memory.clone())
        .on_source_event(move |event: &SourceEvent| {
            let _ = sender.send(format!("{event:?}"));
        });
    let props = adapt(builder).build().unwrap();
    (memory, props, events)
}

fn event(events: &Receiver<String>, part: &str) -> String {
    loop {
        let event = events.recv_timeout(SOON).expect(part);
        if event.contains(part) {
            return event;
        }
    }
}

#[test]
fn the_reason_of_a_validator_of_a_handle_shows_no_secret_part_of_the_value() {
    let (_, props, _) = with_secrets(|builder| builder);
    let rejection = |reason: fn(&String) -> String| {
        let handle = props.property::<String>("db.url");
        hidden(handle.validate(move |v| Err(reason(v))).build())
    };
    let shown = rejection(|url| format!("bad url {url}"));
    assert!(shown.contains("bad url ******"), "{shown}");
    let shown = rejection(|url| format!("no password like {}", &url[13..22]));
    assert!(shown.contains("no password like ******"), "{shown}");
    let shown = rejection(|url| format!("{url:?} is no https address"));
    assert!(shown.contains("is no https address"), "{shown}");
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Db {
    password: String,
    url: String,
}

#[test]
fn the_reason_of_a_validator_of_a_struct_shows_no_secret_field() {
    let (_, props, _) = with_secrets(|builder| builder);
    let handle = props.property::<Db>("db");
    let rejected = handle.validate(|db| Err(format!("no {db:?}"))).build();
    let shown = hidden(rejected);
    assert!(shown.contains("no Db { password:"), "{shown}");
}

#[test]
fn the_panic_of_a_validator_or_a_mapping_shows_no_secret_of_another_key() {
    let (memory, props, _) = with_secrets(|builder| builder);
    let password = props.get::<String>("db.password").unwrap();
    let quoted = password.clone();
    let handle = props.property::<u32>("other");
    let shown = hidden(
        handle
            .validate(move |_| panic!("not beside {quoted}"))
            .build(),
    );
    assert!(shown.contains("not beside ******"), "{shown}");
    let other = props.property::<u32>("other").build().unwrap();
    let mapped = other.map(move |n| assert!(*n == 1, "no map to {password}"));
    let shown = hidden(memory.set("other", 2));
    drop(mapped);
    assert!(shown.contains("no map to ******"), "{shown}");
}

#[test]
fn the_error_of_a_rejected_default_shows_no_secret() {
    let (_, props, _) = with_secrets(|builder| builder);
    let rejection = |key: &str| {
        let handle = props.property::<String>(key).default(SECRET.to_owned());
        hidden(handle.validate(|v| Err(format!("{v} is known"))).build())
    };
    let shown = rejection("new.password");
    assert!(shown.contains("invalid default"), "{shown}");
    let shown = rejection("new.name");
    assert!(shown.contains("****** is known"), "{shown}");
}

/// Rejects an update of `other` for a reason that quotes a key.
fn rejects_quoting(read: fn(&Snapshot) -> String) {
    let (memory, props, events) = with_secrets(|builder| {
        builder.validate(move |tree| match tree.get::<u32>("other") {
            Ok(1) => Ok(()),
            _ => Err(format!("it is {}", read(tree))),
        })
    });
    let shown = hidden(memory.set("other", 2));
    assert!(
        shown.contains("it is ") && shown.contains("******"),
        "{shown}"
    );
    is_hidden(event(&events, "it is"));
    let health = props.health();
    is_hidden(format!("{health:?} {:?}", health.status));
    assert!(!health.rejected.is_empty());
    is_hidden(props.explain("other").to_string());
}

#[test]
fn the_reason_of_a_rule_over_the_tree_shows_no_secret() {
    rejects_quoting(|tree| tree.get::<String>("db.password").unwrap());
    rejects_quoting(|tree| tree.get::<String>("db.url").unwrap());
    rejects_quoting(|tree| tree.get::<Secret<String>>("door").unwrap().into_inner());
    rejects_quoting(|tree| {
        let old: Secret<String> = tree.get("door").unwrap();
        format!("{:?}", old.expose())
    });
}

#[test]
fn the_panic_of_a_rule_over_the_tree_shows_no_secret() {
    let (memory, _props, events) = with_secrets(|builder| {
        builder.validate(|tree| {
            let is_one = tree.get::<u32>("other").is_ok_and(|other| other == 1);
            assert!(is_one, "not with {}", tree.get::<String>("db.url").unwrap());
            Ok(())
        })
    });
    let shown = hidden(memory.set("other", 2));
    assert!(shown.contains("not with ******"), "{shown}");
    is_hidden(event(&events, "not with"));
}

#[test]
fn a_reason_that_quotes_the_secret_that_an_update_replaces_does_not_show_it() {
    let (memory, _props, _) = with_secrets(|builder| {
        builder.validate(|tree| match tree.get::<String>("db.password") {
            Ok(now) if now != SECRET => Err(format!("was {SECRET}, is {now}")),
            _ => Ok(()),
        })
    });
    let shown = hidden(memory.set("db.password", "other-2zz-secret"));
    assert!(shown.contains("was ******, is ******"), "{shown}");
}

#[test]
fn the_panic_of_a_callback_shows_no_secret() {
    let (memory, props, events) = with_secrets(|builder| builder);
    let password: Secret<String> = props.get("door").unwrap();
    let other = props.property::<u32>("other").build().unwrap();
    other
        .on_change(move |_| panic!("cannot connect with {}", password.expose()))
        .detach();
    memory.set("other", 2).unwrap();
    let shown = event(&events, "cannot connect");
    is_hidden(&shown);
    assert!(shown.contains("cannot connect with ******"), "{shown}");
}

#[test]
fn a_reason_is_hidden_when_the_key_that_it_quotes_turns_out_to_be_secret() {
    let (memory, props, _) = with_secrets(|builder| {
        builder.validate(|tree| match tree.get::<u32>("other") {
            Ok(1) => Ok(()),
            _ => Err(format!("gate is {}", tree.get::<String>("gate").unwrap())),
        })
    });
    let error = memory.set("other", 2).unwrap_err().to_string();
    assert!(error.contains("hunter2"), "not known yet: {error}");
    let _: Secret<String> = props.get("gate").unwrap();
    is_hidden(format!("{:?}", props.health()));
    is_hidden(props.explain("other").to_string());
}

#[test]
fn words_that_quote_no_secret_stay_as_they_are() {
    let memory = Memory::from([("auth.mode", "true"), ("pin", "12"), ("name", "postgres")]);
    let props = Properties::builder().source(memory).build().unwrap();
    let handle = props.property::<String>("name");
    let reason = "password: 12 of postgres must be true";
    let error = handle.validate(move |_| Err(reason.to_owned())).build();
    let error = error.unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

fn declared() -> Schema {
    Schema::new()
        .declare(Schema::key::<String>("db.password").secret())
        .declare(Schema::key::<String>("gate.board").secret())
        .declare(Schema::key::<String>("gate.name"))
        .strict("")
}

#[test]
fn a_misspelled_key_of_a_declared_secret_is_not_shown() {
    for key in [
        "db.pasword",
        "gate.baord",
        "gates.board",
        "gate.BOARDS",
        "gate.baord.0",
    ] {
        let memory = Memory::from([(key, SECRET)]);
        let builder = Properties::builder()
            .source(memory.clone())
            .schema(declared());
        let props = builder.build().unwrap();
        let explained = props.explain(key);
        is_hidden(format!("{explained} {explained:?}"));
        hidden(props.get::<u32>(key));
        hidden(props.property::<u32>(key).build());
        let before = props.snapshot();
        memory.set(key, format!("{SECRET}2")).unwrap();
        is_hidden(format!("{:?}", props.snapshot().changes_since(&before)));
    }
}

#[test]
fn a_key_that_is_like_a_declared_key_without_a_secret_is_shown() {
    let memory = Memory::from([
        ("gate.nmae", "x-1"),
        ("gates", "x-2"),
        ("quite.other", "x-3"),
    ]);
    let builder = Properties::builder().source(memory).schema(declared());
    let props = builder.not_secret("gate.baord").build().unwrap();
    props.set("gate.baord", "x-4").unwrap();
    for key in ["gate.nmae", "gates", "quite.other", "gate.baord"] {
        let explained = props.explain(key).to_string();
        assert!(explained.contains("x-"), "{explained}");
    }
}

/// A text in some format.
struct Text(Format, &'static str);

impl Source for Text {
    fn origin(&self) -> Origin {
        Origin::new("file", "app")
    }

    fn load(&self) -> Result<Document, Error> {
        self.0.parse(self.1.as_bytes(), &self.origin())
    }

    fn watching(&self) -> Watching {
        Watching::Never
    }
}

fn of(format: Format, text: &'static str) -> Properties {
    let builder = Properties::builder().source(Text(format, text));
    builder.build().unwrap()
}

#[test]
fn the_error_of_a_broken_reference_in_a_secret_has_reason_and_remedy() {
    let props = of(
        Format::toml(),
        "db.url = 'pg://u:hunter2zz@${host}/x'\ndb.password = 'pa${hunter2zz}x'\n\
         db.token = 'hunter2${db.port}'\npeer = '${db.password}'",
    );
    for key in ["db.url", "db.password", "db.token", "peer"] {
        let error = props.get::<String>(key).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reference);
        let shown = hidden(Err::<(), _>(error));
        let remedies = ["no layer defines", "define it", "`${key:default}`", "`$${`"];
        for part in remedies {
            assert!(shown.contains(part), "{key}: {shown}");
        }
        let explained = props.explain(key).to_string();
        is_hidden(&explained);
        assert!(explained.contains("no layer defines"), "{explained}");
    }
    let shown = hidden(props.get::<String>("db.token"));
    assert!(shown.contains("`db.port`"), "{shown}");
    is_hidden(format!("{:?}", props.health()));
}

/// A store with a secret, that can be down.
struct Store {
    is_down: bool,
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "main")
    }

    fn load(&self) -> Result<Document, Error> {
        if self.is_down {
            return Err(Error::new(ErrorKind::Unavailable, "the store is down"));
        }
        let mut document = Document::new();
        let values = [
            ("db.url", URL),
            ("db.pin", "12345"),
            ("db.plain", "p"),
            ("peer", "at ${db.url}"),
        ];
        for (key, value) in values {
            document.set(key, value, self.origin())?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_millis(20))
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Kept {
    url: String,
    pin: u32,
    plain: String,
}

#[test]
fn a_secret_that_the_cache_leaves_out_is_missing_for_that_reason() {
    let temporary = tempfile::tempdir().unwrap();
    let start = |is_down: bool| {
        let source = Store { is_down }.with(|policy| policy.cached());
        let builder = Properties::builder()
            .state_dir(temporary.path())
            .source(source);
        builder.build().unwrap()
    };
    drop(start(false));
    let props = start(true);
    assert_eq!(props.get::<String>("db.plain").unwrap(), "p");
    let says = |what: &str, text: &str| {
        let parts = [
            "secrets are not kept on disk",
            "`Cached::with_secrets`",
            "store main",
        ];
        for part in parts {
            assert!(text.contains(part), "{what}: {text}");
        }
        assert!(!text.contains("did you mean"), "{what}: {text}");
    };
    says("get", &hidden(props.get::<String>("db.url")));
    says("get", &hidden(props.get::<u32>("db.pin")));
    let referred = hidden(props.get::<String>("peer"));
    assert!(referred.contains("`Cached::with_secrets`"), "{referred}");
    says("handle", &hidden(props.property::<u32>("db.pin").build()));
    let bound = props.snapshot().bind::<Kept>("db").unwrap_err();
    for one in bound.iter() {
        says("bind", &one.to_string());
    }
    assert_eq!(bound.iter().count(), 2, "{bound}");
    says("explain", &props.explain("db.url").to_string());
    // Health shows it for as long as the source does not answer.
    props.refresh_now().unwrap_err();
    let hints = format!("{:?}", props.health().sources[0].hints);
    assert!(hints.contains("Cached::with_secrets"), "{hints}");
    assert!(
        props
            .get::<String>("db.other")
            .unwrap_err()
            .to_string()
            .contains("not set")
    );
}

#[test]
fn an_argument_whose_value_is_joined_by_a_blank_or_a_colon_shows_no_value() {
    for (arg, says) in [
        ("--db.password hunter2zz", "a blank"),
        ("--db.password:hunter2zz", "a `:`"),
        ("--db.password hunter2zz=x", "a blank"),
        ("--db.password\thunter2zz", "a blank"),
        ("--postgres://u:hunter2zz@h", "a `:`"),
        ("--\"db.password hunter2zz", "a blank"),
    ] {
        let (sender, events) = channel();
        let props = Properties::builder()
            .source(Args::from([arg, "--name=x", "next"]))
            .on_source_event(move |event| drop(sender.send(format!("{event:?}"))))
            .track_usage()
            .build()
            .unwrap();
        assert_eq!(props.get::<String>("name").unwrap(), "x");
        is_hidden(format!(
            "{:?} {:?}",
            props.snapshot().keys(),
            props.unused_keys()
        ));
        is_hidden(format!("{:?}", events.try_iter().collect::<Vec<_>>()));
        let health = format!("{:?}", props.health());
        is_hidden(&health);
        assert!(
            health.contains(says) && health.contains("=VALUE"),
            "{health}"
        );
    }
    let props = Properties::builder().source(Args::from([r#"--a."b: c"=1"#]));
    let props = props.build().unwrap();
    assert_eq!(props.get::<u32>(r#"a."b: c""#).unwrap(), 1);
}

#[test]
fn an_argument_with_a_wrong_quote_in_its_name_shows_no_value() {
    for (arg, name) in [
        ("--pass\"wd=hunter2zz", "pass"),
        ("--pass\"wd=hunter2zz\"", "pass"),
        ("--db.password\"=hunter2zz", "db.password"),
        ("--db.password\"=hunter2zz\"", "db.password"),
        ("--db.password\"hunter2zz\"", "db.password"),
        ("--db.\"password=hunter2zz", "db.\"password"),
        ("--db.\"password=hunter2zz\"x", "db.\"password"),
        ("--db.\"a\"b=hunter2zz", "db.\"a\"b"),
        ("--\"password\\\"=hunter2zz", "\"password\\\""),
        ("--db.\"hunter2zz", "db."),
    ] {
        let (sender, events) = channel();
        let props = Properties::builder()
            .source(Args::from([arg, "--name=x", "next"]))
            .on_source_event(move |event| drop(sender.send(format!("{event:?}"))))
            .build()
            .unwrap();
        assert_eq!(props.get::<String>("name").unwrap(), "x");
        is_hidden(format!("{:?}", props.snapshot().keys()));
        is_hidden(format!("{:?}", events.try_iter().collect::<Vec<_>>()));
        for key in [name, "db.password", "db"] {
            is_hidden(format!("{:?}", props.explain(key)));
            is_hidden(format!("{:?}", props.get::<String>(key)));
        }
        is_hidden(format!("{:?}", props.health()));
        let source = &props.health().sources[0];
        let problem = &source.problems[0];
        assert_eq!(source.problems.len(), 1, "{arg}");
        assert_eq!(
            problem.origin().map(ToString::to_string),
            Some(format!("argument --{name}")),
            "{arg}"
        );
        is_hidden(problem.to_string());
    }
    let args = Args::from([r#"--a."b\"=c"=1"#, r#"--"d"="e"#]);
    let props = Properties::builder().source(args).build().unwrap();
    assert_eq!(props.get::<u32>(r#"a."b\"=c""#).unwrap(), 1);
    assert_eq!(props.get::<String>("d").unwrap(), "\"e");
}

#[test]
fn a_key_that_is_an_address_with_a_password_is_not_shown_where_it_is_given_twice() {
    let key = "\"postgres://u:hunter2zz@h\"";
    let texts = [
        (Format::toml(), format!("{key} = 1\n{key} = 2\n")),
        (Format::yaml(), format!("{key}: 1\n{key}: 2\n")),
        (
            Format::yaml(),
            "postgres://u:hunter2zz@h: 1\npostgres://u:hunter2zz@h: 2\n".to_owned(),
        ),
        #[cfg(feature = "json")]
        (Format::json(), format!("{{{key}: 1, {key}: 2}}")),
    ];
    for (format, text) in texts {
        let outcome = format.parse(text.as_bytes(), &Origin::new("file", "app"));
        let shown = hidden(outcome);
        assert!(shown.contains("given twice"), "{shown}");
    }
}

/// What is shown of the words of a validator that quotes a pin.
fn words_about_pin(pin: Value, quoted: &'static str) -> String {
    let memory = Memory::from([("pin", pin), ("other", 1.into())]);
    let props = Properties::builder().source(memory.clone()).secret("pin");
    let props = props
        .validate(move |tree| match tree.get::<u32>("other") {
            Ok(1) => Ok(()),
            _ => Err(format!("bad {quoted}")),
        })
        .build()
        .unwrap();
    let rejected = memory.set("other", 2);
    drop(props);
    rejected.unwrap_err().to_string()
}

#[test]
fn the_words_of_a_validator_show_no_secret_number_in_another_spelling() {
    let yaml = |written: &str| {
        let text = format!("pin: {written}");
        let document = Format::yaml().parse(text.as_bytes(), &Origin::new("f", ""));
        document.unwrap().get("pin").unwrap().clone()
    };
    for (written, quoted) in [
        ("0x1E240", "123456"),
        ("0x1E240", "0x1E240"),
        ("0o361100", "123456"),
        ("123456.0", "123456"),
        ("123456", "123456.0"),
        ("+123456", "123456"),
        ("00123456", "123456"),
        ("123_456", "123456"),
        ("1.23456e5", "123456"),
        ("123456e20", "12345600000000000000000000"),
        ("123456e20", "1.23456e25"),
        ("0.12345678901", "0.12345679"),
        ("-0x1E240", "-123456"),
        ("' 0x1E240 '", "123456"),
    ] {
        for value in [yaml(written), Value::from(written.trim_matches('\''))] {
            let shown = words_about_pin(value.clone(), quoted);
            assert!(shown.contains("bad ******"), "{value:?}: {shown}");
        }
    }
    for list in ["[0x1E240]", "[{a: '123_456'}]"] {
        let shown = words_about_pin(yaml(list), "123456");
        assert!(shown.contains("bad ******"), "{list}: {shown}");
    }
}

#[test]
fn the_words_of_a_validator_keep_what_a_short_secret_number_or_a_plain_number_may_be() {
    for (written, quoted) in [
        ("0x1F", "31"),
        ("1_00", "100"),
        ("7.0", "7"),
        ("inf", "inf"),
    ] {
        let shown = words_about_pin(written.into(), quoted);
        assert!(
            shown.contains(&format!("bad {quoted}")),
            "{written}: {shown}"
        );
    }
    let shown = words_about_pin("0x1E240".into(), "1234567");
    assert!(shown.contains("bad 1234567"), "{shown}");
}
