//! Compares every kind of error and every shape of message with `golden/errors.txt`.
//!
//! `GOLDEN=write cargo test --all-features --test error_messages` writes the file again. Read the
//! difference: a message has the key, what is wrong, what was expected, what was found, the origin
//! and the remedy, in this order.
#![cfg(all(
    target_os = "linux",
    feature = "toml",
    feature = "json",
    feature = "yaml",
    feature = "properties",
    feature = "dotenv",
    feature = "http",
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use liveprops::source::{RemovalGuard, Scope};
use liveprops::sources::{
    Args, Consul, Dir, Env, Etcd, File, Http, Locator, Memory, Nats, ZooKeeper,
};
use liveprops::{
    ByteSize, Document, Error, ErrorKind, Layer, Origin, Properties, Schema, Secret, Source,
    SourceContext, Update, Value, Watching,
};
use serde::Deserialize;

use support::wait_until;
use support::web::{Web, serve_as_child, unused_address};

const SECOND: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(50);

/// The examples so far, and the parts of their texts that differ between runs.
#[derive(Default)]
struct Catalog {
    text: String,
    placeholders: Vec<(String, String)>,
}

impl Catalog {
    fn section(&mut self, title: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{gap}# {title}\n"));
    }

    /// Shows `text` as `name` in all messages from now on.
    fn hide(&mut self, text: impl ToString, name: &str) {
        let text = text.to_string();
        self.placeholders.push((text, format!("<{name}>")));
    }

    #[track_caller]
    fn add<T>(&mut self, what: &str, result: Result<T, Error>) {
        match result {
            Ok(_) => panic!("no error: {what}"),
            Err(error) => self.error(what, &error),
        }
    }

    fn error(&mut self, what: &str, error: &Error) {
        self.text.push_str(&format!("\n{what}\n"));
        for part in error.iter() {
            let shown = self.plain(&part.to_string());
            self.text
                .push_str(&format!("  {:?}: {shown}\n", part.kind()));
            let mut cause = std::error::Error::source(part);
            while let Some(inner) = cause {
                let shown = self.plain(&inner.to_string());
                self.text.push_str(&format!("    caused by: {shown}\n"));
                cause = inner.source();
            }
        }
    }

    #[track_caller]
    fn errors<'a>(&mut self, what: &str, errors: impl IntoIterator<Item = &'a Error>) {
        let all: Vec<Error> = errors.into_iter().cloned().collect();
        assert!(!all.is_empty(), "no error: {what}");
        self.error(what, &Error::all(all));
    }

    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.placeholders {
            text = text.replace(from, to);
        }
        text
    }
}

fn memory<const N: usize>(values: [(&str, Value); N]) -> Properties {
    let builder = Properties::builder().source(Memory::from(values));
    builder.build().unwrap()
}

fn document(values: &[(&str, i64)]) -> Document {
    let mut document = Document::new();
    for (key, value) in values {
        let origin = Origin::new("custom", "test");
        document.set(key, *value, origin).unwrap();
    }
    document
}

/// A custom source.
struct Custom(
    fn(&SourceContext) -> Result<(), Error>,
    fn() -> Result<Document, Error>,
);

impl Source for Custom {
    fn origin(&self) -> Origin {
        Origin::new("custom", "test")
    }

    fn load(&self) -> Result<Document, Error> {
        self.1()
    }

    fn watching(&self) -> Watching {
        Watching::Stream
    }

    fn watch(&self, context: &SourceContext) -> Result<(), Error> {
        self.0(context)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Pool {
    size: u8,
    #[serde(default)]
    timeout: Option<Duration>,
    #[serde(default)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Fast,
    Safe,
}

#[derive(Clone, Debug, Deserialize)]
#[allow(dead_code)]
struct Login {
    user: String,
    password: Secret<u32>,
}

fn reads(all: &mut Catalog) {
    all.section("Reading a value");
    let props = memory([
        ("http.retries", "three".into()),
        ("http.port", 70_000.into()),
        ("http.share", 0.5.into()),
        ("http.debug", "maybe".into()),
        ("http.wait", 30.into()),
        ("http.pause", "5 parsecs".into()),
        ("http.buffer", "10 M".into()),
        ("http.empty", "".into()),
        (
            "http.hosts",
            Value::from(vec![Value::from(1), "two".into()]),
        ),
        ("http.table.a", 1.into()),
        ("pool.size", "many".into()),
        ("pool.mode", "slow".into()),
        ("pool.tiemout", "1s".into()),
        ("login.user", "me".into()),
        ("login.password", "hunter2".into()),
        ("db.password", "hunter2".into()),
    ]);
    all.add("text that is no number", props.get::<u32>("http.retries"));
    all.add("a number out of range", props.get::<u16>("http.port"));
    all.add("a fraction for an integer", props.get::<u16>("http.share"));
    all.add("text that is no boolean", props.get::<bool>("http.debug"));
    all.add(
        "a duration without a unit",
        props.get::<Duration>("http.wait"),
    );
    all.add(
        "an unknown unit of a duration",
        props.get::<Duration>("http.pause"),
    );
    all.add(
        "an ambiguous unit of a size",
        props.get::<ByteSize>("http.buffer"),
    );
    all.add("empty text for a number", props.get::<u32>("http.empty"));
    all.add("a bad item of a list", props.get::<Vec<u32>>("http.hosts"));
    all.add("a table for a number", props.get::<u32>("http.table"));
    all.add("a number for a table", props.get::<Pool>("http.port"));
    all.add("a struct with several faults", props.get::<Pool>("pool"));
    all.add("an unknown variant", props.get::<Mode>("pool.mode"));
    all.add("a missing field", props.get::<Pool>("http.table"));
    all.add("a secret that cannot be read", props.get::<Login>("login"));
    all.add(
        "a value under a secret name",
        props.get::<u32>("db.password"),
    );
    all.add("a missing key", props.get::<u32>("cache.size"));
    all.add(
        "a missing key with a neighbour",
        props.get::<u32>("http.retires"),
    );
    all.add("a key below a value", props.get::<u32>("http.port.x"));
    all.add(
        "a handle without a value",
        props.property::<u32>("cache.size").build(),
    );
    all.add(
        "a handle on a bad value",
        props.property::<u32>("http.retries").build(),
    );
    all.add("a malformed key", props.get::<u32>("http..port"));
    all.add(
        "a quote that is not closed in a key",
        props.get::<u32>("http.\"port"),
    );
    all.add(
        "a key that is too deep",
        props.get::<u32>(&["k"; 70].join(".")),
    );
    let snapshot = props.snapshot();
    all.add(
        "a relaxed name without a key",
        snapshot.find_relaxed("HTTP_SIZE"),
    );
    let props = memory([("a.b_c", 1.into()), ("a.b-c", 2.into())]);
    all.add(
        "a relaxed name of two keys",
        props.snapshot().find_relaxed("a.bC"),
    );
    let memory = Memory::from([("a", 1)]);
    memory.unset("b").unwrap();
    let builder = Properties::builder().source(memory).default("b", 1);
    all.add(
        "a key under a tombstone",
        builder.build().unwrap().get::<u32>("b"),
    );
}

fn variables_and_arguments(all: &mut Catalog) {
    all.section("Environment variables and arguments");
    let env = |vars: &[(&str, &str)]| {
        let env = Env::prefix("APP_").vars(vars.iter().copied());
        Properties::builder().source(env).build().unwrap()
    };
    let problems = |props: &Properties| -> Vec<Error> {
        let health = props.health();
        let sources = health.sources.into_iter();
        sources
            .flat_map(|it| it.problems.into_iter().chain(it.hints))
            .collect()
    };
    let props = env(&[("APP_PORT", "eighty"), ("APP_SIZE", "")]);
    all.add("a variable that is no number", props.get::<u16>("port"));
    all.add("an empty variable", props.get::<u16>("size"));
    all.add(
        "a variable with a misspelled name",
        props.get::<u16>("prot"),
    );
    let props = env(&[("APP_A____B", "1"), ("APP_A__0", "1"), ("APP_A__00", "2")]);
    all.errors("names that map to no key, or to one key", &problems(&props));
    let args = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let builder = Properties::builder().source(Args::from_iter(args));
        builder.build().unwrap()
    };
    let props = args(&["program", "--port", "80", "--list[0]=1", "--a:b=1"]);
    all.add("an argument without a value", props.get::<u16>("port"));
    all.errors("arguments that set nothing", &problems(&props));
}

fn references(all: &mut Catalog) {
    all.section("References");
    let props = memory([
        ("a", "${b}".into()),
        ("b", "${a}".into()),
        ("url", "http://${host}:80".into()),
        ("shell", "${HOME:-/root}".into()),
        ("whole", "is ${table}".into()),
        ("table.x", 1.into()),
        ("near", "${tabel.x}".into()),
        ("through", "see ${url}".into()),
        ("db.password", "${pasword}".into()),
        ("port", "${word}".into()),
        ("word", "many".into()),
    ]);
    for (what, key) in [
        ("a cycle", "a"),
        ("a key that no layer defines", "url"),
        ("the default of a shell", "shell"),
        ("a table in a text", "whole"),
        ("a misspelled key", "near"),
        ("a broken reference to a broken reference", "through"),
        ("a broken reference in a secret", "db.password"),
    ] {
        all.add(what, props.get::<String>(key));
    }
    all.add(
        "a referred value of the wrong type",
        props.get::<u16>("port"),
    );
    let chain = (0..200).map(|i| (format!("k{i}"), Value::from(format!("${{k{}}}", i + 1))));
    let memory = Memory::new();
    memory
        .replace(chain.chain([("k200".into(), 1.into())]))
        .unwrap();
    let props = Properties::builder().source(memory).build().unwrap();
    all.add("a chain that is too long", props.get::<String>("k0"));
    let memory = Memory::from([("k0", "0123456789".repeat(10))]);
    for i in 1..30 {
        let twice = format!("${{k{}}}${{k{}}}", i - 1, i - 1);
        memory.set(&format!("k{i}"), twice).unwrap();
    }
    let props = Properties::builder().source(memory).build().unwrap();
    all.add("references that grow too large", props.get::<String>("k29"));
}

fn documents(all: &mut Catalog) {
    all.section("Malformed documents");
    let dir = tempfile::tempdir().unwrap();
    all.hide(dir.path().display(), "dir");
    let at = |name: &str| dir.path().join(name);
    for (name, text) in [
        ("no-value.toml", "[http]\nport = \n"),
        ("bare-word.toml", "[http]\nhost = localhost\n"),
        ("capital.toml", "debug = True\n"),
        ("null.toml", "host = null\n"),
        ("twice.toml", "a = 1\na = 2\n"),
        ("no-header.toml", "[http\nport = 1\n"),
        ("comma.json", "{\"a\": 1,}\n"),
        ("bare-word.json", "{\"a\": yes}\n"),
        ("cut.json", "{\"a\": {\"b\": 1\n"),
        ("list.json", "[1, 2]\n"),
        ("twice.json", "{\"a\": 1, \"a\": 2}\n"),
        ("huge.json", "{\"a\": 1e999}\n"),
        ("tab.yaml", "a:\n\tb: 1\n"),
        ("colon.yaml", "a: b: c\n"),
        ("list.yaml", "- 1\n- 2\n"),
        ("cut.yaml", "a: \"text\n"),
        ("two.yaml", "a: 1\n---\nb: 2\n"),
        ("tag.yaml", "a: !ruby/object {}\n"),
        ("twice.yaml", "a: 1\na: 2\n"),
        ("no-key.properties", "= 1\n"),
        ("clash.properties", "a = 1\na.b = 2\n"),
        ("escape.properties", "a = \\u12\n"),
        ("no-key.env", "A=1\nno key here\n"),
        ("quote.env", "A=\"text\n"),
        ("name.env", "1A=1\n"),
        ("twice.env", "A=1\nA=2\n"),
        ("app.ini", "a = 1\n"),
    ] {
        fs::write(at(name), text).unwrap();
        match File::new(at(name)).load() {
            Ok(document) => all.errors(name, document.problems()),
            Err(error) => all.error(name, &error),
        }
    }
    for (name, bytes) in [
        ("not-utf8.toml", &b"a = \"\xff\"\n"[..]),
        ("nul.toml", b"a = 1\n\0\n"),
        (
            "long-key.toml",
            format!("{} = 1\n", "k".repeat(2_000)).as_bytes(),
        ),
        (
            "deep.json",
            format!("{}1{}", "{\"a\":".repeat(80), "}".repeat(80)).as_bytes(),
        ),
        (
            "many.json",
            format!("{{\"a\": [{}{{}}]}}", "{},".repeat(100_001)).as_bytes(),
        ),
        ("large.toml", " ".repeat(11 << 20).as_bytes()),
    ] {
        fs::write(at(name), bytes).unwrap();
        match File::new(at(name)).load() {
            Ok(document) => all.errors(name, document.problems()),
            Err(error) => all.error(name, &error),
        }
    }
}

fn files(all: &mut Catalog) {
    all.section("Files and directories");
    let dir = tempfile::tempdir().unwrap();
    all.hide(dir.path().display(), "dir");
    let at = |name: &str| dir.path().join(name);
    all.add("a missing file", File::new(at("absent.toml")).load());
    let builder = Properties::builder().source(File::new(at("absent.toml")));
    all.add("a start without a required file", builder.build());
    fs::create_dir(at("folder.toml")).unwrap();
    all.add(
        "a directory in place of a file",
        File::new(at("folder.toml")).load(),
    );
    fs::write(at("locked.toml"), "a = 1\n").unwrap();
    fs::set_permissions(at("locked.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root can read it anyway.
    if fs::read(at("locked.toml")).is_err() {
        all.add(
            "a file without permission",
            File::new(at("locked.toml")).load(),
        );
    }
    all.add("a missing directory", Dir::new(at("absent.d")).load());
    fs::create_dir(at("conf.d")).unwrap();
    let fragment = |name: &str, text: &str| fs::write(at("conf.d").join(name), text).unwrap();
    fragment("10-base.toml", "[http]\nport = 80\n");
    fragment("20-bad.toml", "[http]\nport = \n");
    fragment("30-clash.toml", "http = 1\n");
    fragment("notes.txt", "buy milk\n");
    std::os::unix::fs::symlink("nowhere", at("conf.d/40-link.toml")).unwrap();
    let document = Dir::new(at("conf.d")).load().unwrap();
    all.errors("fragments of a directory", document.problems());
    if !document.hints().is_empty() {
        all.errors("hints of a directory", document.hints());
    }
    all.add(
        "a malformed profile",
        File::cascade(at("app.toml"), ["../x"]),
    );
    all.add("a malformed scope", Scope::app("a/b").names());
}

fn writes(all: &mut Catalog) {
    all.section("Writing");
    let memory = Memory::from([("qps", 100), ("db.port", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .history(4)
        .validate(|tree| match tree.get::<i64>("qps") {
            Ok(qps) if qps > 1_000 => Err(format!("{qps} queries a second are too many")),
            _ => Ok(()),
        })
        .build()
        .unwrap();
    let port = props
        .property::<u16>("db.port")
        .validate(|port| match port {
            9 => Err("port 9 discards what it gets".to_owned()),
            _ => Ok(()),
        });
    let _port = port.build().unwrap();
    let even = props.property::<i64>("even").default(0);
    let even = even.validate(|n| match n % 2 {
        0 => Ok(()),
        _ => Err(format!("{n} is odd")),
    });
    let _even = even.build().unwrap();
    all.add(
        "a value that a handle cannot read",
        memory.set("db.port", "many"),
    );
    all.add("a validator of a handle", props.set("even", 3));
    all.add("a rule over the tree", memory.set("qps", 5_000));
    all.add("a write of the whole tree", props.set("", 1));
    all.add("a key over its limit", props.set(&"k".repeat(2_000), 1));
    all.add(
        "a value over its limit",
        props.set("a", "x".repeat(11 << 20)),
    );
    let deep = (0..80).fold(Value::from(1), |inner, _| Value::from(vec![inner]));
    all.add("a value that is too deep", props.set("a", deep));
    let clash = memory.replace([("a", 1), ("a.b", 2)]);
    all.add("a value and a table at one key", clash);
    let lost = props.transaction(|it| {
        it.if_value("qps", Some(7.into()))?;
        it.set("qps", 8)
    });
    all.add("a condition on a value", lost);
    let lost = props.transaction(|it| {
        it.if_generation(999);
        it.set("qps", 8)
    });
    all.add("a condition on the generation", lost);
    let several = props.transaction(|it| {
        it.set("even", 1)?;
        it.set("db.port", "many")
    });
    all.add("a transaction with two bad values", several);
    props.set("k", 1).unwrap();
    let own = props.explain("k").layers[0].source;
    all.add("a generation that is not kept", props.rollback_to(999));
    all.add("a removal of the override layer", props.remove_source(own));
    let id = props.add_source(Memory::from([("x", 1)])).unwrap();
    all.add("a confirmation of nothing", props.confirm(id));
    props.remove_source(id).unwrap();
    all.add("a source that was removed", props.refresh_source(id));
    let bad = Memory::from([("qps", 9_999)]);
    all.add(
        "a source that the rules reject",
        props.add_source_in(Layer::new("strong", 1_000), bad),
    );
}

fn misconfiguration(all: &mut Catalog) {
    all.section("Misconfiguration");
    let builder = Properties::builder;
    let source = || Memory::from([("qps", 100)]);
    all.add(
        "a malformed key of a default",
        builder().default("a..b", 1).build(),
    );
    all.add(
        "a default of the whole tree",
        builder().default("", 1).build(),
    );
    all.add(
        "a restart of the whole tree",
        builder().restart_required("").build(),
    );
    let cached = || source().with(|policy| policy.cached());
    all.add(
        "a cache without a directory",
        builder().source(cached()).build(),
    );
    let dir = tempfile::tempdir().unwrap();
    let twice = builder()
        .state_dir(dir.path())
        .sources([cached(), cached()]);
    all.add("two caches in one file", twice.build());
    let slow = || Env::prefix("A_").reread(600 * SECOND);
    all.add(
        "a change that is seen too late",
        builder().source(slow()).build(),
    );
    let props = builder().bootstrap(source()).source(Memory::named("late"));
    let props = props.build().unwrap();
    let sources = props.health().sources;
    let layer = sources[0].layer.clone();
    all.add(
        "a source at the rank of bootstrap",
        props.move_source(sources[1].source, layer),
    );
    let property = || props.property::<u32>("qps");
    all.add("a default that the validator rejects", {
        props
            .property::<u32>("burst")
            .default(0)
            .validate(|n| match n {
                0 => Err("0 allows no burst".to_owned()),
                _ => Ok(()),
            })
            .build()
    });
    let mapped = property().build().unwrap().map(|n| n + 1);
    all.add("a fallback of a mapped handle", mapped.or_key("burst"));
    all.add("an override of a bootstrap value", props.set("qps", 1));

    all.section("Schemas");
    let build = |schema: Schema, values: &[(&str, Value)]| {
        let memory = Memory::new();
        memory.replace(values.iter().cloned()).unwrap();
        builder().source(memory).schema(schema).build()
    };
    let declare = |schema: Schema| schema.declare(Schema::key::<u16>("http.port").required());
    all.add(
        "a required key that is missing",
        build(declare(Schema::new()), &[]),
    );
    let faulty = Schema::new()
        .declare(Schema::key::<u16>("port").range(1..=1_024))
        .declare(Schema::key::<String>("name").length(1..=4))
        .declare(Schema::key::<String>("mode").one_of(["fast", "safe"]))
        .declare(
            Schema::key::<i64>("even").validate("an even number", |n| match n % 2 {
                0 => Ok(()),
                _ => Err(format!("{n} is odd")),
            }),
        )
        .declare(Schema::key::<u8>("size"))
        .declare(Schema::key::<String>("db.password").length(12..).secret());
    let values = [
        ("port", 8_080.into()),
        ("name", "too long".into()),
        ("mode", "slow".into()),
        ("even", 3.into()),
        ("size", "many".into()),
        ("db.password", "hunter2".into()),
    ];
    all.add("values that break a rule each", build(faulty, &values));
    let unknown = [
        ("http.port", 80.into()),
        ("http.prot", 81.into()),
        ("quite.other", 1.into()),
    ];
    let strict = declare(Schema::new()).strict("http").deny_unknown();
    all.add("keys that are not declared", build(strict, &unknown));
    let twice = declare(declare(Schema::new()));
    all.add("a key that is declared twice", build(twice, &[]));
    let root = Schema::new().declare(Schema::key::<u16>(""));
    all.add("a declaration of the whole tree", build(root, &[]));
    let bad = Schema::new().declare(Schema::key::<u16>("port").default("many"));
    all.add("a default of the wrong type", build(bad, &[]));
    let item = Schema::new().declare(Schema::key::<u16>("hosts.0.port").default(80));
    all.add("a default inside a list", build(item, &[]));
}

fn life(all: &mut Catalog) {
    all.section("Sources and shutdown");
    let silent = |_: &SourceContext| Ok(());
    let fails = Custom(silent, || {
        Err(Error::new(
            ErrorKind::Unavailable,
            "the fridge does not answer",
        ))
    });
    all.add(
        "a source that fails at the start",
        Properties::builder().source(fails).build(),
    );
    let hangs = Custom(silent, || {
        std::thread::sleep(10 * SECOND);
        Ok(Document::new())
    });
    let builder = Properties::builder().load_timeout(SHORT).source(hangs);
    all.add("a source that hangs at the start", builder.build());
    let panics = Custom(silent, || panic!("out of milk"));
    all.add(
        "a source that panics at the start",
        Properties::builder().source(panics).build(),
    );
    let ends = Custom(silent, || Ok(document(&[("n", 1)])));
    let builder = Properties::builder().source(ends.with(|policy| policy.max_stale(SHORT)));
    let props = builder.build().unwrap();
    wait_until(20 * SECOND, "stale", || !props.health().is_up());
    if let liveprops::health::Status::Stale { reason, .. } = props.status() {
        all.error("a watch that ends", &reason);
    }

    let memory = Memory::new();
    (0..20).for_each(|i| memory.set(&format!("k{i}"), i).unwrap());
    let few = Custom(
        |context| {
            let mut few = Update::delta();
            for i in 0..15 {
                few = few.remove(&format!("k{i}"))?;
            }
            context.send(few).map(drop)
        },
        || {
            let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
            let all: Vec<_> = keys.iter().map(|key| (&**key, 1)).collect();
            Ok(document(&all))
        },
    );
    let guard = RemovalGuard::new().min_keys(10);
    let few = few.with(|policy| policy.guarded(guard));
    let props = Properties::builder().source(few).build().unwrap();
    wait_until(20 * SECOND, "withheld", || {
        !props.health().rejected.is_empty()
    });
    let rejected = props.health().rejected;
    let withheld = rejected.iter().map(|it| &it.error);
    let withheld = withheld.filter(|it| it.kind() == ErrorKind::Withheld);
    all.errors("a removal of most keys", withheld.take(1));

    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let n = props.property::<u32>("n").build().unwrap();
    let mut changes = n.changes();
    all.add("no change in time", changes.recv_timeout(SHORT));
    all.add("no such value in time", n.wait_until(|n| *n == 7, SHORT));
    all.add("missing keys in time", props.wait_for(["a", "b.c"], SHORT));
    drop(props);
    all.add(
        "a handle whose properties are dropped",
        changes.recv_timeout(SHORT),
    );
    all.add("a fallback of a handle without properties", n.or_key("m"));

    let (inside, errors) = channel();
    let memory = Memory::from([("n", 1)]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.build().unwrap();
    let (inner, own) = (props.clone(), memory.clone());
    let n = props.property::<u32>("n").validate(move |n| {
        if *n == 2 {
            let _ = inside.send(inner.set("m", 1).map(drop));
            let _ = inside.send(own.set("m", 1));
            let _ = inside.send(inner.wait_for(["m"], SHORT));
            let _ = inside.send(inner.refresh_now());
        }
        Ok(())
    });
    let n = n.build().unwrap();
    memory.set("n", 2).unwrap();
    for what in ["a write", "a write of its source", "a wait", "a refresh"] {
        all.add(
            &format!("{what} inside a validator"),
            errors.recv().unwrap(),
        );
    }
    let checked = n.map(|n| if *n == 3 { panic!("three") } else { *n });
    all.add("a panic of a mapping", memory.set("n", 3));
    drop(checked);

    let memory = Memory::from([("a", 0), ("b", 0)]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.inline_callbacks().build().unwrap();
    let follow = |from: &str, to: &'static str| {
        let memory = memory.clone();
        let from = props.property::<i64>(from).build().unwrap();
        from.on_change(move |change| drop(memory.set(to, *change.new_value() + 1)))
    };
    let _subscriptions = (follow("a", "b"), follow("b", "a"));
    let _ = memory.set("a", 1);
    let rejected = props.health().rejected;
    let circle = rejected.iter().map(|it| &it.error);
    all.errors("callbacks that trigger each other", circle);
}

fn web(all: &mut Catalog) {
    all.section("Documents over HTTP");
    let web = Web::start("the_server_of_these_tests");
    for door in ["http", "raw", "tls", "expired", "wrong", "mutual", "full"] {
        let url = web.url(door, "");
        let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
        all.hide(port, &format!("port of {door}"));
    }
    all.hide(web.file("").display(), "dir/");
    let source = |url: &str| Http::new(url).without_proxy().timeout(SECOND);
    for status in [204, 206, 300, 304, 400, 401, 403, 404, 429, 500, 503] {
        web.set("app.toml", &format!("status {status}"), "");
        all.add(
            &format!("status {status}"),
            source(&web.url("http", "app.toml")).load(),
        );
    }
    let elsewhere = web.url("raw", "end.toml");
    let to_file = "status 302 location: file:///etc/passwd".to_owned();
    for (what, mode, body) in [
        (
            "a redirect to another origin",
            format!("status 302 location: {elsewhere}"),
            "",
        ),
        ("a redirect to a file", to_file, ""),
        (
            "redirects in a circle",
            "status 307 location: /app.toml".to_owned(),
            "",
        ),
        ("a redirect to nowhere", "status 302".to_owned(), ""),
        (
            "a malformed document",
            "status 200".to_owned(),
            "[http]\nport = \n",
        ),
        (
            "a web page",
            "status 200 content-type: text/html".to_owned(),
            "<html>",
        ),
        (
            "an unknown encoding",
            "status 200 content-encoding: br".to_owned(),
            "a = 1",
        ),
        (
            "a body that is no gzip",
            "status 200 content-encoding: gzip".to_owned(),
            "a = 1",
        ),
        ("no answer", "hang".to_owned(), ""),
        ("a slow body", "drip".to_owned(), "qps = 100000"),
    ] {
        web.set("app.toml", &mode, body);
        all.add(what, source(&web.url("http", "app.toml")).load());
    }
    web.set("app.ini", "ok content-type: text/plain", "a = 1");
    all.add(
        "an unknown format",
        source(&web.url("http", "app.ini")).load(),
    );
    let to_http = format!("status 302 location: {}", web.url("http", "app.toml"));
    web.set("app.toml", &to_http, "");
    let ca = |door: &str| source(&web.url(door, "app.toml")).ca(web.file("ca.pem"));
    all.add("a redirect from https to http", ca("tls").load());
    all.add(
        "an unknown authority",
        source(&web.url("tls", "app.toml")).load(),
    );
    all.add("a certificate for another host", ca("wrong").load());
    all.add("no client certificate", ca("mutual").load());
    let pair = |chain: &str, key: &str| {
        ca("mutual")
            .client_certificate(web.file(chain), web.file(key))
            .load()
    };
    all.add(
        "a key of another certificate",
        pair("client.pem", "tls.key"),
    );
    all.add(
        "a file without a certificate",
        pair("client.key", "client.key"),
    );
    all.add(
        "a missing file of a certificate",
        pair("absent.pem", "client.key"),
    );
    let unused = unused_address();
    all.hide(unused.port(), "port of nobody");
    all.add(
        "an address where nobody listens",
        source(&format!("http://{unused}/app.toml")).load(),
    );
    all.add(
        "a host without an address",
        source("http://nowhere.invalid/app.toml").load(),
    );
    let url = web.url("http", "app.toml");
    for (what, url) in [
        ("an address without a scheme", "app.toml"),
        ("an unknown scheme", "ftp://host/app.toml"),
        ("an address with a blank", "http://host/a b.toml"),
        ("an address with a bad port", "http://host:port/app.toml"),
        (
            "a bad address with a password",
            "ftp://me:hunter2@host/app.toml",
        ),
        ("a relative file address", "file:app.toml"),
    ] {
        all.add(what, source(url).load());
    }
    all.add(
        "a header with a line break",
        source(&url).header("X-Team", "a\nb").load(),
    );
    all.add(
        "a header that the source sets",
        source(&url).header("Host", "other").load(),
    );
    all.add(
        "an empty bearer token",
        source(&url).bearer(" ".to_owned()).load(),
    );
    let missing = source(&url).bearer_file(web.file("absent"));
    all.add("a missing file of a token", missing.load());
    let two = source(&url)
        .and(web.url("raw", "x.toml"))
        .bearer("hunter2".to_owned());
    all.add("credentials for two origins", two.load());
}

fn stores(all: &mut Catalog) {
    all.section("Key-value stores");
    let unused = unused_address().port();
    all.hide(unused, "port of nobody");
    let at = |scheme: &str| format!("{scheme}://127.0.0.1:{unused}");
    let consul = || Consul::prefix("app");
    let etcd = || Etcd::prefix("app");
    let nats = || Nats::bucket("app");
    let zookeeper = || ZooKeeper::prefix("/app");
    all.add(
        "Consul: nobody listens",
        consul().address(at("http")).load(),
    );
    all.add("etcd: nobody listens", etcd().address(at("http")).load());
    all.add("NATS: nobody listens", nats().address(at("nats")).load());
    all.add(
        "ZooKeeper: nobody listens",
        zookeeper().address(format!("127.0.0.1:{unused}")).load(),
    );
    for address in [
        "htp://me:hunter2@host",
        "host:port:1",
        "http://host:99999",
        "",
    ] {
        all.add(
            &format!("Consul: the address `{address}`"),
            consul().address(address).load(),
        );
        all.add(
            &format!("etcd: the address `{address}`"),
            etcd().address(address).load(),
        );
        all.add(
            &format!("NATS: the address `{address}`"),
            nats().address(address).load(),
        );
        let zookeeper = zookeeper().address(address);
        all.add(
            &format!("ZooKeeper: the address `{address}`"),
            zookeeper.load(),
        );
    }
    all.add(
        "Consul: an address with a path of the API",
        consul().address("http://h/v1/kv").load(),
    );
    all.add("Consul: no address", consul().addresses([""; 0]).load());
    all.add(
        "Consul: a key with an empty name",
        Consul::prefix("a//b").address(at("http")).load(),
    );
    all.add(
        "Consul: an empty token",
        consul().address(at("http")).token("".to_owned()).load(),
    );
    let token = consul().address(at("http")).token_file("/nowhere/token");
    all.add("Consul: a missing file of the token", token.load());
    let ca = consul().address(at("http")).ca("/nowhere/ca.pem");
    all.add("Consul: a certificate without https", ca.load());
    let ca = consul().address(at("https")).ca("/nowhere/ca.pem");
    all.add("Consul: a missing file of the authority", ca.load());
    all.add(
        "NATS: a bad name of a bucket",
        Nats::bucket("a b").address(at("nats")).load(),
    );
    all.add(
        "NATS: a bad name of a domain",
        nats().address(at("nats")).domain("a b").load(),
    );
    all.add(
        "NATS: a bad key to sign with",
        nats().address(at("nats")).nkey("hunter2".to_owned()).load(),
    );
    let credentials = nats()
        .address(at("nats"))
        .credentials_file("/nowhere/creds");
    all.add("NATS: a missing file of credentials", credentials.load());
    let scope = Scope::app("a.b");
    all.add(
        "a scope of a document",
        Consul::document("app/config").of_scope(&scope),
    );
    let locator = Locator::new("STORE").vars([("STORE_HOST", "host")]);
    all.add("a locator without a port", locator.find());
    let locator = Locator::new("STORE").vars([("STORE_HOST", "host"), ("STORE_PORT", "many")]);
    all.add("a locator with a bad port", locator.find());
    all.add(
        "a locator without variables",
        Locator::new("STORE").vars([("A", "b")]).find(),
    );

    all.section("Servers that are no store");
    let answers = |reply: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let _ = std::io::Read::read(&mut stream, &mut [0; 4_096]);
                let _ = std::io::Write::write_all(&mut stream, reply);
            }
        });
        port
    };
    let page = answers(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>");
    let forbidden = answers(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\ndenied");
    let error = answers(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n");
    let noise = answers(b"hello\r\n");
    for (port, name) in [
        (page, "page"),
        (forbidden, "403"),
        (error, "500"),
        (noise, "noise"),
    ] {
        all.hide(port, &format!("port of {name}"));
        let http = format!("http://127.0.0.1:{port}");
        all.add(&format!("Consul: {name}"), consul().address(&http).load());
        all.add(&format!("etcd: {name}"), etcd().address(&http).load());
    }
    all.add(
        "NATS: noise",
        nats().address(format!("nats://127.0.0.1:{noise}")).load(),
    );
    all.add(
        "ZooKeeper: noise",
        zookeeper().address(format!("127.0.0.1:{noise}")).load(),
    );
}

fn caches(all: &mut Catalog) {
    all.section("Kept values");
    let dir = tempfile::tempdir().unwrap();
    all.hide(dir.path().display(), "dir");
    let down = || {
        let source = Custom(
            |_| Ok(()),
            || {
                Err(Error::new(
                    ErrorKind::Unavailable,
                    "the fridge does not answer",
                ))
            },
        );
        source.with(|policy| policy.cached())
    };
    let start = || {
        Properties::builder()
            .state_dir(dir.path())
            .source(down())
            .build()
    };
    all.add("nothing is kept", start());
    let up = Custom(|_| Ok(()), || Ok(document(&[("n", 1)])));
    let up = up.with(|policy| policy.cached());
    drop(
        Properties::builder()
            .state_dir(dir.path())
            .source(up)
            .build()
            .unwrap(),
    );
    let path = kept(dir.path());
    let bytes = fs::read(&path).unwrap();
    all.hide(path.file_name().unwrap().to_string_lossy(), "file");
    for (what, bytes) in [
        ("a file that is cut short", bytes[..10].to_vec()),
        ("a file of something else", vec![b'x'; 100]),
        ("a damaged file", [&bytes[..bytes.len() - 1], b"x"].concat()),
    ] {
        fs::write(&path, bytes).unwrap();
        all.add(what, start());
    }
    fs::write(&path, &bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    all.add("a file that others may write", start());
}

fn kept(dir: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(dir).unwrap().flatten();
    let mut files = files.map(|entry| entry.path());
    files.find(|path| path.is_file()).unwrap()
}

#[test]
fn the_server_of_these_tests() {
    serve_as_child();
}

#[test]
fn each_kind_of_error_has_the_recorded_message() {
    let mut all = Catalog::default();
    reads(&mut all);
    variables_and_arguments(&mut all);
    references(&mut all);
    documents(&mut all);
    files(&mut all);
    writes(&mut all);
    misconfiguration(&mut all);
    life(&mut all);
    web(&mut all);
    stores(&mut all);
    caches(&mut all);
    support::golden("tests/golden/errors.txt", &all.text);
}
