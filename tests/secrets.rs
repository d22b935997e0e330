//! No output of the crate shows a secret, whatever marks it and wherever it is written: no text,
//! event, report, export or file.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "secrets/broken.rs"]
mod broken;
#[cfg(feature = "yaml")]
#[path = "secrets/buffers.rs"]
mod buffers;
#[path = "secrets/classes.rs"]
mod classes;
#[path = "secrets/corpus.rs"]
mod corpus;
#[path = "secrets/echo.rs"]
mod echo;
#[path = "secrets/parts.rs"]
mod parts;
#[path = "secrets/reads.rs"]
mod reads;
#[path = "secrets/referred.rs"]
mod referred;
mod support;
#[path = "secrets/unread.rs"]
mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use liveprops::property::Subscription;
use liveprops::source::{Credentials, RemovalGuard};
use liveprops::sources::{Args, Env, File, Memory};
use liveprops::{
    Builder, Document, DynamicProperty, Error, ErrorKind, Format, Key, Origin, Properties, Schema,
    Secret, Snapshot, Source, SourceId, Update, Value, Watching,
};
use serde::Deserialize;

/// Part of every planted secret, and of nothing else.
const MARK: &str = "hunter2";

/// Every text that the crate puts out, each with what it is.
#[derive(Clone, Default)]
struct Outputs(Arc<Mutex<Vec<(String, String)>>>);

impl Outputs {
    fn text(&self, what: impl Into<String>, text: impl ToString) {
        let mut all = self.0.lock().unwrap();
        all.push((what.into(), text.to_string()));
    }

    fn debug(&self, what: impl Into<String>, item: &impl Debug) {
        self.text(what, format!("{item:?} {item:#?}"));
    }

    fn error(&self, what: &str, error: &Error) {
        self.text(what, error);
        self.debug(what, error);
        for one in error.iter() {
            let parts = (one.key(), one.found(), one.expected(), one.origin());
            self.debug(what, &parts);
        }
        let mut cause = StdError::source(error);
        while let Some(error) = cause {
            self.text(what, format!("{error} {error:?}"));
            cause = error.source();
        }
    }

    fn rejection<T>(&self, what: &str, outcome: Result<T, Error>) {
        if let Err(error) = outcome {
            self.error(what, &error);
        }
    }

    /// The names and the bytes of all files in a directory.
    fn files(&self, what: &str, dir: &Path) {
        let mut any = false;
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy();
            self.text(format!("{what} {name}"), String::from_utf8_lossy(&bytes));
            any = true;
        }
        assert!(any, "{what}: nothing was written");
    }

    /// What shows a secret, each with the first place where.
    fn leaks(&self) -> Vec<String> {
        let all = self.0.lock().unwrap();
        assert!(all.len() > 500, "{} outputs are not a full run", all.len());
        let mut seen = BTreeSet::new();
        let leaks = all.iter().filter_map(|(what, text)| {
            let at = text.find(MARK)?;
            let from = text[..at]
                .char_indices()
                .rev()
                .nth(60)
                .map_or(0, |(i, _)| i);
            let around = text[from..at + MARK.len()].escape_debug();
            seen.insert(what).then(|| format!("{what}: ...{around}"))
        });
        leaks.collect()
    }
}

/// Text that holds a secret and differs for each `n`.
fn secret(n: impl ToString) -> String {
    format!("{MARK}-{}", n.to_string())
}

fn table(name: &str, value: impl Into<Value>) -> Value {
    Value::from(BTreeMap::from([(name, value.into())]))
}

/// A type of a user's own that shows what it reads where it rejects it, and where it panics.
#[derive(Clone, Debug, PartialEq)]
struct Own(String);

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.contains("bad") {
            true => Err(serde::de::Error::custom(format!("{text} is bad"))),
            false => Ok(Self(text)),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Door {
    code: Secret<String>,
    #[serde(default)]
    floor: u8,
}

/// Keys whose values are secret, with such values. One kind of mark after the other.
fn planted(n: u32) -> Values {
    let s = |name: &str| Value::from(secret(format!("{name}-{n}")));
    let address = |scheme: &str| format!("{scheme}://me:{}@host/0", secret(n));
    let values = [
        // By their names.
        ("db.password", s("name")),
        ("users", vec![table("passphrase", s("in a list"))].into()),
        ("profile", table("api-key", s("in a table"))),
        ("boot.token", s("needs a restart")),
        // By what the builder was told.
        ("named.licence", s("builder")),
        // By the schema.
        ("declared.door", s("schema")),
        ("declared.sealed", s("type in the schema")),
        ("declared.own", s("type of a user's own")),
        ("declared.codes", vec![secret("list"), secret(n)].into()),
        ("declared.lock", table("code", s("struct in the schema"))),
        ("above.door", s("below a declared key")),
        // By how they are read.
        ("typed.code", s("struct")),
        ("single.seal", s("handle")),
        ("late.seal", s("later")),
        // By what they look like.
        ("address", address("redis").into()),
        ("addresses", vec![address("pg"), "b://c".into()].into()),
        // By what they refer to.
        ("derived.url", "x://${db.password}/y".into()),
        ("derived.again", "${derived.url} ${named.licence}".into()),
        ("derived.late", "${late.seal}".into()),
        ("derived.boot", "${named.licence}, please".into()),
        ("refers.secret", Value::from(format!("${{no.such:{MARK}}}"))),
    ];
    values
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

/// All keys worth asking for: the planted ones, those above, and those inside of lists.
fn keys() -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = planted(0).into_iter().map(|(key, _)| key).collect();
    let above: Vec<String> = keys
        .iter()
        .filter_map(|key| Some(key.rsplit_once('.')?.0.to_owned()))
        .collect();
    keys.extend(above);
    let more = [
        "",
        "users.0",
        "users.0.passphrase",
        "addresses.0",
        "profile.api-key",
    ];
    let defaults = [
        "declared.codes.1",
        "declared.lock.code",
        "plain.password",
        "outer.child",
    ];
    keys.extend(more.iter().chain(&defaults).map(ToString::to_string));
    keys
}

fn schema() -> Schema {
    let tidy = |text: &String| match text.contains("untidy") {
        true => Err(format!("untidy: {text}")),
        false => Ok(()),
    };
    Schema::new()
        .declare(
            Schema::key::<String>("declared.door")
                .secret()
                .validate("tidy", tidy)
                .default(MARK),
        )
        .declare(
            Schema::key::<String>("declared.mode")
                .secret()
                .one_of([MARK])
                .default(MARK),
        )
        .declare(Schema::key::<Secret<String>>("declared.sealed").default(MARK))
        .declare(Schema::key::<Secret<Own>>("declared.own").default(MARK))
        .declare(Schema::key::<Vec<Secret<String>>>("declared.codes").default(vec![MARK]))
        .declare(Schema::key::<Door>("declared.lock").default(table("code", MARK)))
        .declare(Schema::key::<BTreeMap<String, String>>("outer").secret())
        .declare(Schema::key::<String>("outer.child").default(MARK))
        .declare(Schema::key::<BTreeMap<String, String>>("above").default(table("door", MARK)))
        .declare(Schema::key::<String>("above.door").secret())
        .declare(Schema::key::<String>("derived.boot").restart_required())
        .declare(Schema::key::<u32>("plain.qps").default(5))
        .strict("")
}

/// A store whose documents are refused or taken as a whole, and that may be down.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Option<Values>>>);

type Values = Vec<(String, Value)>;

impl Store {
    fn says(&self, values: impl IntoIterator<Item = (String, Value)>) {
        *self.0.lock().unwrap() = Some(values.into_iter().collect());
    }
}

impl Source for Store {
    fn origin(&self) -> Origin {
        Origin::new("store", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let values = self.0.lock().unwrap().clone();
        let down = || Error::new(ErrorKind::Unavailable, "the store is down");
        document(values.ok_or_else(down)?)
    }

    fn watching(&self) -> Watching {
        Watching::Never
    }
}

fn document(values: impl IntoIterator<Item = (String, Value)>) -> Result<Document, Error> {
    let mut document = Document::new();
    for (key, value) in values {
        document.set(&key, value, Origin::new("store", &*key))?;
    }
    Ok(document)
}

/// Properties over a store that is kept on disk, beneath values that the test pushes.
fn builder(out: &Outputs, dir: &Path, store: &Store, memory: &Memory) -> Builder {
    let events = out.clone();
    let guard = RemovalGuard::all().min_keys(1);
    Properties::builder()
        .state_dir(dir)
        .history(50)
        .track_usage()
        .inline_callbacks()
        .schema(schema())
        .secret("named")
        .restart_required("boot")
        .default("plain.password", MARK)
        .on_source_event(move |event| events.debug("event", event))
        .source(store.clone().with(|policy| policy.cached().guarded(guard)))
        .source(memory.clone())
}

/// Asks for all that can be asked for.
fn ask(out: &Outputs, props: &Properties, when: &str) {
    for key in keys() {
        let key = key.as_str();
        for told in [props.explain(key), props.snapshot().explain(key)] {
            out.text(format!("explain {key}, {when}"), &told);
            out.debug(format!("explain {key}, {when}"), &told);
        }
        let what = format!("reading {key}, {when}");
        out.rejection(&what, props.get::<u32>(key));
        out.rejection(&what, props.get_opt::<Vec<u32>>(key));
        out.rejection(&what, props.get::<BTreeMap<String, u32>>(key));
        out.rejection(&what, props.get::<Own>(key));
        out.rejection(&what, props.snapshot().bind::<Door>(key));
        out.rejection(&what, props.property::<u32>(key).build());
        out.rejection(&what, props.bind::<Vec<BTreeMap<String, u8>>>(key).build());
        let never = props
            .property::<Option<Own>>(key)
            .validate(|value| value.is_none().then_some(()).ok_or_else(|| "set".into()));
        out.rejection(&what, never.build());
        let _ = props.get_or(key, 1u32);
    }
    out.debug(format!("health, {when}"), &props.health());
    for pending in props.health().pending_restart {
        out.debug(format!("pending {}, {when}", pending.key), &pending);
    }
    for rejected in props.health().rejected {
        out.error(&format!("rejected, {when}"), &rejected.error);
    }
    for unknown in props.unknown_keys() {
        out.text(format!("unknown key, {when}"), &unknown);
        out.debug(format!("unknown key, {when}"), &unknown);
    }
    out.debug(format!("unused keys, {when}"), &props.unused_keys());
    out.debug(format!("properties, {when}"), props);
    out.debug(format!("pinned, {when}"), &props.pinned());
    let history = props.history().unwrap();
    out.debug(format!("history, {when}"), &history);
    for (i, older) in history.iter().enumerate() {
        for newer in &history[i..] {
            changes(out, &format!("history, {when}"), newer, older);
        }
    }
}

fn changes(out: &Outputs, what: &str, newer: &Snapshot, older: &Snapshot) {
    for change in newer.changes_since(older) {
        let what = format!("change of {}, {what}", change.key());
        out.text(&*what, &change);
        out.debug(&*what, &change);
        out.debug(&*what, &(change.old_origin(), change.new_origin()));
        out.rejection(&what, change.get::<u32>());
    }
}

/// What lives as long as its properties, as the handles of a program do.
#[allow(dead_code)] // held, not read
struct Alive(
    Vec<Subscription>,
    DynamicProperty<Option<Door>>,
    DynamicProperty<Option<Secret<String>>>,
);

/// Handles on what is planted, and callbacks that write down what they are told.
fn listen(out: &Outputs, props: &Properties) -> Result<Alive, Error> {
    let batches = out.clone();
    let mut subscriptions = vec![props.on_change_under("", move |batch| {
        batches.debug("batch", batch);
        for change in batch.changes() {
            batches.text(format!("change of {} in a batch", change.key()), change);
            batches.rejection("change in a batch as a number", change.get::<u32>());
        }
    })?];
    for (key, _) in planted(0) {
        // Any type will do that reads anything.
        // A start from the cache lacks the secrets that some refer to.
        let Ok(handle) = props.property::<Option<Value>>(&key).build() else {
            continue;
        };
        let changes = out.clone();
        subscriptions.push(handle.on_change(move |change| changes.debug("change", change)));
        out.debug("handle", &handle);
        out.debug("reader", &handle.reader());
        out.debug("version", &handle.versioned());
        out.debug("changes", &handle.changes());
    }
    out.debug("subscriptions", &subscriptions);
    let door = props.property::<Option<Door>>("typed").build()?;
    out.debug("struct", &(door.get(), door.load(), door.versioned()));
    let seal = props
        .property::<Option<Secret<String>>>("single.seal")
        .build()?;
    out.text("secret", seal.load().clone().unwrap_or_default());
    out.debug("secret", &seal.load());
    Ok(Alive(subscriptions, door, seal))
}

/// What is refused, held, in conflict and only tried, by every way that leads in.
fn try_rejected(
    out: &Outputs,
    props: &Properties,
    store: &Store,
    memory: &Memory,
) -> Result<(), Error> {
    let _qps = props.property::<u32>("plain.qps").build()?;
    let checked = [
        ("declared.door", secret("untidy")),
        ("declared.own", secret("bad")),
        ("declared.codes.0.x", secret("below a list")),
        // No secret itself, so this one is shown.
        ("declared.lock.floor", "no floor".to_owned()),
        ("above", secret("not a table")),
    ];
    let bad = |key: &str, text: &str| (key.to_owned(), Value::from(text));
    let source = props.health().sources.last().unwrap().source;
    for (key, text) in &checked {
        out.rejection(&format!("setting {key}"), memory.set(key, &**text));
        out.rejection(&format!("writing {key}"), props.set(key, &**text));
        let all = planted(1).into_iter().chain([bad(key, text)]);
        // The keys may clash in one document, which is refused as well.
        out.rejection(
            &format!("replacing with {key}"),
            memory.replace(all.clone()),
        );
        out.rejection(&format!("a document with {key}"), document(all.clone()));
        store.says(all.clone());
        out.rejection(&format!("loading {key}"), props.refresh_now());
        if let Ok(document) = document(all) {
            out.rejection(&format!("trying {key}"), props.check(source, document));
        }
    }
    for (key, value) in planted(2) {
        let conflict = props.transaction(|tx| {
            out.debug("transaction", tx);
            tx.if_value(&key, Some(secret("expected").into()))?;
            tx.set(&key, value)
        });
        out.rejection("conflict", conflict);
        out.rejection(
            "clash",
            memory.set(&format!("{key}.below"), "nothing special"),
        );
    }
    // A panic over a struct that holds a secret quotes what it likes.
    let schema = Schema::new().declare(
        Schema::key::<Door>("door").validate("calm", |door| panic!("{}", door.code.expose())),
    );
    let source = Memory::from([("door.code", MARK)]);
    let builder = Properties::builder().source(source).schema(schema);
    out.rejection("a rule that panics", builder.build());
    Ok(())
}

fn hold(out: &Outputs, props: &Properties, store: &Store) -> Result<(), Error> {
    store.says([]);
    out.rejection("withheld", props.refresh_now());
    let of_store = |health: &liveprops::health::SourceHealth| &*health.name == "store";
    let health = props.health();
    let health = health
        .sources
        .iter()
        .find(|source| of_store(source))
        .unwrap();
    assert!(health.withheld.is_some(), "{health:?}");
    ask(out, props, "withheld");
    props.confirm(health.source)?;
    Ok(())
}

/// What a candidate would change, where it is taken.
fn check(out: &Outputs, props: &Properties, source: SourceId) -> Result<(), Error> {
    for (key, _) in planted(0) {
        let values = planted(3).into_iter();
        let other = |(at, value)| match at == key {
            true => (at, Value::from("nothing special")),
            false => (at, value),
        };
        let checked = match props.check(source, document(values.map(other))?) {
            Ok(checked) => checked,
            // Where a struct is declared, other words are refused.
            Err(error) => {
                out.error("checked", &error);
                continue;
            }
        };
        out.debug("checked", &checked);
        for change in &checked.changes {
            out.text(format!("checked change of {}", change.key()), change);
        }
        for key in keys() {
            out.text(format!("checked {key}"), checked.snapshot.explain(&key));
        }
    }
    Ok(())
}

/// Schemas that are written out, and schemas that are wrong.
fn export(out: &Outputs) {
    out.text("schema as text", schema().to_text());
    out.text("schema as JSON", schema().to_json_schema());
    out.debug("schema", &schema());
    let key = || Schema::key::<String>("door").length(..3).default(MARK);
    out.debug("declaration", &key());
    let wrong = |what: &str, schema: Schema| {
        out.text(format!("{what}, as text"), schema.to_text());
        out.text(format!("{what}, as JSON"), schema.to_json_schema());
        out.rejection(what, Properties::builder().schema(schema).build());
    };
    wrong("bad default", Schema::new().declare(key().secret()));
    wrong(
        "declared twice",
        Schema::new()
            .declare(key().secret())
            .declare(key().secret()),
    );
    let outer = Schema::key::<BTreeMap<String, Value>>("vault").secret();
    let inner = Schema::key::<String>("vault.door")
        .length(..3)
        .default(MARK);
    wrong(
        "bad default below a secret",
        Schema::new().declare(outer).declare(inner),
    );
    let never = Schema::key::<Door>("door").validate("never", |_| Err("never".into()));
    wrong(
        "bad struct",
        Schema::new().declare(never.default(table("code", MARK))),
    );
    let panics = Schema::key::<Door>("door").validate("calm", |d| panic!("{}", d.code.expose()));
    wrong(
        "panic over a struct",
        Schema::new().declare(panics.default(table("code", MARK))),
    );
    let number = Schema::key::<Secret<u32>>("door").default(MARK);
    wrong("bad type", Schema::new().declare(number));
    let own = Schema::key::<Secret<Own>>("door").default(secret("bad"));
    wrong("bad type of a user's own", Schema::new().declare(own));
    let codes = Schema::key::<Vec<Secret<String>>>("codes").one_of([vec![MARK]]);
    wrong(
        "one of a few lists",
        Schema::new().declare(codes.default(vec![MARK])),
    );
    let named = Schema::new().declare(key());
    let builder = Properties::builder().secret("door").schema(named);
    out.rejection(
        "bad default of a key that the builder hides",
        builder.build(),
    );
    let memory = Memory::named("m");
    memory.replace(planted(1)).unwrap();
    let builder = Properties::builder().schema(schema().deny_unknown());
    out.rejection("undeclared keys", builder.source(memory).build());
}

/// Documents that are wrong at a secret, in every format.
fn parse(out: &Outputs, dir: &Path) {
    type Case = (&'static str, fn() -> Format, &'static [&'static str]);
    let cases: &[Case] = &[
        #[cfg(feature = "toml")]
        (
            "toml",
            Format::toml,
            &[
                "password = #",
                "password = \"#",
                "password = 'a' #",
                "password = \"\\q#\"",
                "#",
                "a = 1\n#.==\n",
                "a.#..b = 1",
                "[#..x]",
                "[#",
                "a = [#]",
                "a = {#}",
                "a = 1 #\u{1}",
                "a = \"\\u#\"",
            ],
        ),
        #[cfg(feature = "json")]
        (
            "json",
            Format::json,
            &[
                "{\"password\": #}",
                "{\"password\": \"#}",
                "{\"password\": \"\\q#\"}",
                "\"#\"",
                "{\"a\": 1, #}",
                "{\"#\" 1}",
                "{\"a\": \"\\u#\"}",
                "[1, #.==]",
                "#.==",
            ],
        ),
        #[cfg(feature = "yaml")]
        (
            "yaml",
            Format::yaml,
            &[
                "password: *#",
                "password: !# x",
                "password: \"#",
                "password: \"\\q#\"",
                "#",
                "a: 1\n#.==\n",
                "a: b: #",
                "a: [#",
                "a: !<#> x",
            ],
        ),
        #[cfg(feature = "properties")]
        (
            "properties",
            Format::properties,
            &[
                "=#",
                "password=\\u#",
                "password=\\u00#",
                "#.==",
                "a=1\n#..b=1",
                ".#=1",
                "a=1\n\"# b",
            ],
        ),
        #[cfg(feature = "dotenv")]
        (
            "env",
            Format::dotenv,
            &[
                "=#",
                "PASSWORD=\"#",
                "PASSWORD='a'#",
                "PASSWORD=a\n#/x",
                "A=1\n#.==",
                "A=1\n#____b=1",
                "A=1\n#.b",
            ],
        ),
    ];
    for (name, format, texts) in cases {
        for text in *texts {
            let text = text.replace('#', MARK);
            let what = format!("a bad {name}");
            // A format rejects the document, or reports a part of it.
            match format().parse(text.as_bytes(), &Origin::new("test", "")) {
                Ok(document) => {
                    let problems = document.problems().iter();
                    let said: Vec<&Error> = problems.chain(document.hints()).collect();
                    assert!(!said.is_empty(), "{text}");
                    said.into_iter().for_each(|error| out.error(&what, error));
                    out.debug(&what, &document);
                }
                Err(error) => out.error(&what, &error),
            }
            let path = dir.join(format!("bad.{name}"));
            fs::write(&path, text).unwrap();
            let file = File::new(&path).format(format()).without_watch();
            out.rejection(&what, Properties::builder().source(file).build());
        }
    }
}

/// What sources and values show of themselves.
fn show(out: &Outputs) -> Result<(), Error> {
    let origin = Origin::new("test", "here");
    let document = document(planted(1))?;
    out.debug("document", &document);
    out.debug("update", &Update::full(document));
    let delta = Update::delta().set("db.password", MARK, origin)?;
    out.debug("delta", &delta);
    let args = Args::from([
        format!("--db.password={MARK}"),
        format!("--a..password={MARK}"),
    ]);
    out.debug("args", &args);
    let vars = [
        ("DB__PASSWORD", MARK),
        ("DB____PASSWORD", MARK),
        ("db__password", MARK),
    ];
    let env = Env::prefix("").vars(vars);
    out.debug("env", &env);
    let props = Properties::builder().source(args).source(env).build()?;
    out.debug("health of args and env", &props.health());
    out.debug("secret", &Secret::new(MARK));
    #[cfg(feature = "http")]
    {
        use liveprops::sources::Http;
        // Nobody listens there.
        let http = Http::new(format!("http://me:{MARK}@127.0.0.1:1/x.toml"));
        out.debug("http", &http);
        out.text("origin of http", http.origin());
        let bearer = Http::new("http://127.0.0.1:1/x.toml").bearer(MARK.to_owned());
        out.debug("http", &bearer);
        for http in [http, bearer] {
            let props = Properties::builder().source(http.with(|policy| policy.optional()));
            out.debug("health of http", &props.build()?.health());
        }
    }
    Ok(())
}

#[test]
fn no_output_of_a_full_run_shows_a_planted_secret() -> Result<(), Error> {
    let out = Outputs::default();
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("state");
    let (store, memory) = (Store::default(), Memory::named("m"));
    store.says(planted(0));
    let first = builder(&out, &dir, &store, &memory);
    out.debug("builder", &first);
    let props = first.build()?;
    out.debug("memory", &memory);
    let alive = listen(&out, &props)?;
    // From here on it is known that this is a secret, whatever it was part of before.
    let late: Secret<String> = props.get("late.seal")?;
    assert!(late.expose().contains(MARK));
    ask(&out, &props, "at first");

    // Values that replace each other, at once and one by one, and come to be no secret at all.
    let good = props.generation();
    store.says(planted(1));
    props.refresh_now()?;
    for (n, (key, value)) in (2..).zip(planted(2)) {
        memory.set(&key, value)?;
        memory.set("plain.qps", n)?;
    }
    ask(&out, &props, "after changes");
    for (key, _) in planted(2)
        .iter()
        .filter(|(key, _)| key.starts_with("derived"))
    {
        memory.set(key, "nothing special")?;
    }
    memory.unset("db.password")?;
    props.remove("db.password")?;
    ask(&out, &props, "after removals");
    memory.replace::<String, Value>([])?;

    let source = props.health().sources.last().unwrap().source;
    check(&out, &props, source)?;
    try_rejected(&out, &props, &store, &memory)?;
    store.says(planted(4));
    props.refresh_now()?;
    ask(&out, &props, "after rejections");
    hold(&out, &props, &store)?;
    store.says(planted(5));
    props.refresh_now()?;
    let missing = props.wait_for(["no.such.password"], Duration::ZERO);
    out.rejection("waiting", missing);

    for generation in [props.generation(), good] {
        out.debug("applied", &props.rollback_to(generation)?);
        out.files("file during a roll-back,", &dir);
        ask(&out, &props, "rolled back");
    }
    let until_now = props.generation();
    out.rejection("no such generation", props.rollback_to(until_now + 1));
    drop((alive, props));
    out.files("file of the first run,", &dir);

    // A start without the store, from what the first run left.
    *store.0.lock().unwrap() = None;
    let props = builder(&out, &dir, &store, &Memory::new()).build()?;
    assert!(props.pinned().is_some() && props.health().sources[1].cached.is_some());
    let late = props.property::<Option<Secret<String>>>("late.seal");
    let alive = (late.build()?, listen(&out, &props)?);
    ask(&out, &props, "from disk");
    out.debug("applied", &props.unpin()?);
    ask(&out, &props, "unpinned");
    store.says(planted(6));
    props.refresh_now()?;
    drop((alive, props));
    out.files("file of the second run,", &dir);

    export(&out);
    parse(&out, temporary.path());
    show(&out)?;
    let leaks = out.leaks();
    assert!(
        leaks.is_empty(),
        "{} leaks:\n{}",
        leaks.len(),
        leaks.join("\n")
    );
    Ok(())
}

// The times at which something is said of a value must not matter: what is known to be a secret by
// now is not shown, although it was looked at, or was to be shown, before that was known.
#[test]
fn a_value_that_turns_out_to_be_secret_is_not_shown_any_more() -> Result<(), Error> {
    let memory = Memory::from([("seal", MARK), ("refers", "x/${seal}")]);
    let props = Properties::builder()
        .source(memory.clone())
        .restart_required("seal")
        .build()?;
    let before = props.snapshot();
    memory.set("seal", secret("next"))?;
    let _: Secret<String> = props.get("seal")?;
    memory.set("refers", "nothing special")?;
    let told = [
        format!("{:?}", props.health().pending_restart),
        format!("{:?}", props.snapshot().changes_since(&before)),
        props.explain("seal").to_string(),
    ];
    for text in told {
        assert!(!text.contains(MARK), "{text}");
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only decoded
struct Database {
    max: u8,
    memory: liveprops::ByteSize,
    every: Duration,
    word: Secret<u32>,
}

#[test]
fn the_mask_covers_the_secret_field_and_every_other_problem_is_named() -> Result<(), Error> {
    let memory = Memory::new();
    memory.replace([
        ("db.max", Value::from(300)),
        ("db.memory", "64k".into()),
        ("db.every", "5".into()),
        ("db.word", MARK.into()),
        ("db.unknown", "7".into()),
    ])?;
    let props = Properties::builder().source(memory.clone()).build()?;
    let check = |error: Error| {
        let outputs = Outputs::default();
        outputs.error("struct", &error);
        let shown = outputs
            .0
            .lock()
            .unwrap()
            .iter()
            .map(|(_, text)| text.clone())
            .collect::<Vec<_>>();
        assert!(shown.iter().all(|text| !text.contains(MARK)), "{shown:?}");
        let keys: BTreeSet<_> = error
            .iter()
            .filter_map(Error::key)
            .map(Key::as_str)
            .collect();
        let wanted = ["db.every", "db.max", "db.memory", "db.unknown", "db.word"];
        assert_eq!(keys, BTreeSet::from(wanted), "{error}");
        for one in error.iter() {
            match one.key().unwrap().as_str() {
                "db.max" => assert_eq!(one.found(), Some("integer 300"), "{one}"),
                "db.memory" => assert!(one.to_string().contains("KiB"), "{one}"),
                "db.every" => assert!(one.to_string().contains("`30s`"), "{one}"),
                "db.word" => assert_eq!(one.found(), Some("******"), "{one}"),
                _ => assert!(one.to_string().contains("unknown field"), "{one}"),
            }
        }
    };
    check(props.get::<Database>("db").unwrap_err());
    check(props.snapshot().bind::<Database>("db").unwrap_err());
    check(props.property::<Database>("db").build().unwrap_err());
    // Also once the key is known to be secret, and under a handle of the tree around it.
    let _ = props.property::<Secret<String>>("db.word").build()?;
    check(props.get::<Database>("db").unwrap_err());
    check(
        props
            .property::<BTreeMap<String, Database>>("")
            .build()
            .unwrap_err(),
    );
    let named = Properties::builder()
        .secret("db.word")
        .source(memory)
        .build()?;
    check(named.get::<Database>("db").unwrap_err());
    Ok(())
}

#[test]
fn the_words_of_a_type_around_a_secret_stay_masked() -> Result<(), Error> {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "BTreeMap<String, String>")]
    #[allow(dead_code)] // only decoded
    struct Quoting(BTreeMap<String, String>);
    impl TryFrom<BTreeMap<String, String>> for Quoting {
        type Error = String;
        fn try_from(map: BTreeMap<String, String>) -> Result<Self, String> {
            Err(format!("cannot use {map:?}"))
        }
    }
    let memory = Memory::new();
    memory.replace([("q.word", MARK), ("q.x", "1")])?;
    let props = Properties::builder()
        .secret("q.word")
        .source(memory)
        .build()?;
    for error in [
        props.get::<Quoting>("q").unwrap_err(),
        props.snapshot().bind::<Quoting>("q").unwrap_err(),
        props.property::<Quoting>("q").build().unwrap_err(),
    ] {
        assert!(!format!("{error} {error:?}").contains(MARK), "{error}");
    }
    Ok(())
}
