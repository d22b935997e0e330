//! A secret that a type has not come to, since its value cannot be read, is shown nowhere.

use super::*;

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct One {
    magic: Secret<String>,
    n: u8,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Listed {
    l: Vec<Secret<String>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Outer<T> {
    inner: T,
    port: u16,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) struct Flat<T> {
    #[serde(flatten)]
    inner: T,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
pub(super) enum Store {
    S3 { sesame: Secret<String>, parts: u32 },
    Disk { path: String },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", content = "with")]
enum Adjacent {
    S3 { sesame: Secret<String>, parts: u32 },
    Disk { path: String },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(super) enum External {
    S3 { sesame: Secret<String>, parts: u32 },
    Key(Secret<String>),
    Disk { path: String },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub(super) enum Login {
    Token { opener: Secret<String>, ttl: u32 },
    Pair { who: String, word: Secret<String> },
}

pub(super) type Named<T> = BTreeMap<String, T>;

/// A type that is read from a value.
pub(super) trait Read:
    Clone + PartialEq + Send + Sync + serde::de::DeserializeOwned + 'static
{
}

impl<T: Clone + PartialEq + Send + Sync + serde::de::DeserializeOwned + 'static> Read for T {}

/// Reads a key as a `T`; returns the error.
pub(super) type Way = fn(&Properties, &str) -> Option<Error>;

pub(super) fn ways<T: Read>() -> [(&'static str, Way); 3] {
    [
        ("get", |props, key| props.get::<T>(key).err()),
        ("bind", |props, key| props.bind::<T>(key).build().err()),
        ("handle", |props, key| {
            props.property::<T>(key).build().err()
        }),
    ]
}

/// Every key of the properties, with those above and those inside of lists.
fn all_keys(props: &Properties) -> BTreeSet<String> {
    let mut above = BTreeSet::new();
    for key in props.snapshot().keys() {
        let key = key.to_string();
        let dots = key.match_indices('.').map(|(at, _)| &key[..at]);
        above.extend(dots.chain([&*key]).map(str::to_owned));
    }
    let items = (0..3).flat_map(|at| above.iter().map(move |key| format!("{key}.{at}")));
    let deeper = ["magic", "sesame", "l", "l.0", "opener", "word"];
    let deeper = |item: String| {
        let below = deeper.map(|name| format!("{item}.{name}"));
        below.into_iter().chain([item])
    };
    let items: Vec<String> = items.flat_map(deeper).collect();
    above.iter().cloned().chain(items).collect()
}

pub(super) fn show_all(out: &Outputs, props: &Properties) {
    for key in all_keys(props) {
        let explained = props.explain(&key);
        out.text(format!("explain {key}"), &explained);
        out.debug(&*format!("explain {key}"), &explained);
    }
    out.debug("health", &props.health());
    for broken in props.health().broken_references {
        out.error("broken", &broken);
    }
}

/// Where a program writes its values.
#[derive(Clone, Copy)]
enum Written<'a> {
    Toml(&'a str),
    /// The value of `APP_X`.
    Variable(&'a str),
}

impl Written<'_> {
    fn text(&self) -> &str {
        match self {
            Written::Toml(text) | Written::Variable(text) => text,
        }
    }
}

/// What shows [`MARK`] after `x` could not be read as a `T`, by each way to read.
fn leaks<T: Read>(written: Written<'_>) -> Vec<String> {
    leaks_beside::<T>(written, &[])
}

/// As [`leaks`]; also each of the `plain` keys that is masked.
fn leaks_beside<T: Read>(written: Written<'_>, plain: &[&str]) -> Vec<String> {
    let mut leaks = Vec::new();
    for (name, read) in ways::<T>() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let builder = Properties::builder().state_dir(&state).inline_callbacks();
        let changing = Memory::from([("unrelated", "1")]);
        let builder = match written {
            Written::Toml(text) => {
                let file = dir.path().join("app.toml");
                fs::write(&file, text).unwrap();
                builder.source(File::new(&file).with(|policy| policy.cached()))
            }
            Written::Variable(text) => {
                let env = Env::prefix("APP_").vars([("APP_X", text)]);
                builder.source(env.with(|policy| policy.cached()))
            }
        };
        let props = builder.source(changing.clone()).build().unwrap();
        let out = Outputs::default();
        match read(&props, "x") {
            Some(error) => out.error("read", &error),
            None => leaks.push(format!("{} [{name}] is read", written.text())),
        }
        show_all(&out, &props);
        out.rejection("again", props.get::<T>("x"));
        out.rejection("number", props.get::<u32>("x"));
        let empty = Properties::builder().build().unwrap();
        for change in props.snapshot().changes_since(&empty.snapshot()) {
            out.text("change", &change);
            out.debug("change", &change);
        }
        for key in plain {
            let shown = props.explain(key).to_string();
            if shown.contains("***") {
                leaks.push(format!("{} [{name}] masks {shown}", written.text()));
            }
        }
        drop(props);
        out.files("file", &state);
        let all = out.0.lock().unwrap();
        let mut seen = BTreeSet::new();
        let leaked = all.iter().filter(|(_, text)| text.contains(MARK));
        let leaked = leaked.filter(|(what, _)| seen.insert(what.clone()));
        leaks.extend(leaked.map(|(what, leak)| {
            let line = leak
                .lines()
                .find(|line| line.contains(MARK))
                .unwrap_or_default();
            let line: String = line.chars().take(200).collect();
            format!("{} [{name}] {what}: {line}", written.text())
        }));
    }
    leaks
}

#[track_caller]
pub(super) fn assert_none(leaks: Vec<Vec<String>>) {
    let leaks: Vec<String> = leaks.into_iter().flatten().collect();
    assert!(leaks.is_empty(), "{}:\n{}", leaks.len(), leaks.join("\n"));
}

#[test]
fn a_broken_reference_in_the_text_of_a_table_or_a_list_shows_no_secret() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<One>(toml("x='{magic=${hunter2abc}, n=1}'")),
        leaks::<One>(toml("x='{magic=hunter2abc, n=${none}}'")),
        leaks::<One>(toml("x='{n=1, magic=${hunter2abc}}'")),
        leaks::<One>(toml("x='{magic=a${b:-hunter2abc}, n=1}'")),
        leaks::<One>(toml("x='magic=${hunter2abc}, n=1'")),
        leaks::<One>(toml("x='{\"magic\": \"${hunter2abc}\", \"n\": 1}'")),
        leaks::<One>(toml("x='{${hunter2abc}, n=1}'")),
        leaks::<Listed>(toml("x='{l=[${hunter2abc}]}'")),
        leaks::<Listed>(toml("x='{l=[a, ${hunter2abc}]}'")),
        leaks::<Listed>(toml("x='l=[${hunter2abc}]'")),
        leaks::<Vec<One>>(toml("x='[{magic=${hunter2abc}, n=1}]'")),
        leaks::<Vec<One>>(toml("x=['{magic=${hunter2abc}, n=1}']")),
        leaks::<Named<One>>(toml("x='{a={magic=${hunter2abc}, n=1}}'")),
        leaks::<Named<One>>(toml("[x]\na='{magic=${hunter2abc}, n=1}'")),
        leaks::<Outer<One>>(toml("[x]\nport=1\ninner='{magic=${hunter2abc}, n=1}'")),
        leaks::<Option<Outer<One>>>(toml("[x]\nport=1\ninner='{magic=${hunter2abc}, n=1}'")),
        leaks::<Vec<Vec<Secret<String>>>>(toml("x='[[${hunter2abc}]]'")),
        leaks::<Store>(toml("x='{kind=S3, sesame=${hunter2abc}, parts=1}'")),
        leaks::<Login>(toml("x='{opener=${hunter2abc}, ttl=1}'")),
        leaks::<Flat<One>>(toml("x='{magic=${hunter2abc}, n=1}'")),
        leaks::<External>(toml("x='{S3={sesame=${hunter2abc}, parts=1}}'")),
        leaks::<External>(toml("x='{Key=${hunter2abc}}'")),
    ]);
}

#[test]
fn a_tagged_table_in_a_text_with_a_wrong_or_no_tag_shows_no_secret() {
    let variable = Written::Variable;
    assert_none(vec![
        leaks::<Store>(variable(r#"{"kind":"S4","sesame":"hunter2abc"}"#)),
        leaks::<Store>(variable(r#"{"sesame":"hunter2abc"}"#)),
        leaks::<Store>(variable("kind=S4, sesame=hunter2abc")),
        leaks::<Store>(variable("sesame=hunter2abc")),
        leaks::<Store>(variable("{kind=S4, sesame=hunter2abc}")),
        leaks::<Vec<Store>>(variable(r#"[{"kind":"S4","sesame":"hunter2abc"}]"#)),
        leaks::<Vec<Store>>(variable(
            r#"[{"kind":"Disk","path":"/"},{"kind":"S4","sesame":"hunter2abc"}]"#,
        )),
        leaks::<Vec<Store>>(variable("[{kind=S4, sesame=hunter2abc}]")),
        leaks::<Named<Store>>(variable(r#"{"a":{"kind":"S4","sesame":"hunter2abc"}}"#)),
        leaks::<Adjacent>(variable(r#"{"kind":"S4","with":{"sesame":"hunter2abc"}}"#)),
        leaks::<Adjacent>(variable(r#"{"with":{"sesame":"hunter2abc"}}"#)),
        leaks::<External>(variable(r#"{"S4":{"sesame":"hunter2abc"}}"#)),
        leaks::<External>(variable("S4=hunter2abc")),
        leaks::<Login>(variable(r#"{"openr":"hunter2abc","ttl":1}"#)),
        leaks::<Flat<Store>>(variable(r#"{"kind":"S4","sesame":"hunter2abc"}"#)),
        leaks::<Outer<Store>>(Written::Toml(
            "[x]\nport=1\ninner='{kind=S4, sesame=hunter2abc}'",
        )),
        leaks::<Outer<Store>>(Written::Toml(
            "[x]\nport=1\ninner='{kind=S4, sesame=${hunter2abc}}'",
        )),
    ]);
}

#[test]
fn a_variant_that_is_not_known_shows_no_secret() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<External>(toml("[x.S4]\nsesame='hunter2abc'")),
        leaks::<External>(toml("[x.S4.deep]\nsesame='hunter2abc'")),
        leaks::<External>(toml("x.S4='hunter2abc'")),
        leaks::<External>(toml("x.S4=['hunter2abc']")),
        leaks::<Named<External>>(toml("x.a.S4='hunter2abc'")),
        leaks::<Named<External>>(toml("[x.a.S4]\nsesame='hunter2abc'")),
        leaks::<Vec<External>>(toml("x=[{S4='hunter2abc'}]")),
        leaks::<Outer<External>>(toml("[x]\nport=1\ninner.S4='hunter2abc'")),
        leaks::<External>(toml(
            "[x]\nS3={sesame='hunter2abc', parts=1}\nS4='hunter2abc'",
        )),
        leaks::<Adjacent>(toml("[x]\nkind='S4'\nwith.sesame='hunter2abc'")),
        leaks::<Adjacent>(toml("[x]\nwith.sesame='hunter2abc'")),
        leaks::<Store>(toml("[x]\nkind='S4'\nsesame=['hunter2abc']")),
        leaks::<Flat<Store>>(toml("[x]\nkind='S4'\nsesame='hunter2abc'")),
    ]);
}

#[test]
fn a_list_in_place_of_a_struct_shows_no_secret() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<One>(toml("x=['hunter2abc']")),
        leaks::<One>(toml("x=[['hunter2abc']]")),
        leaks::<One>(toml("x=[{n='hunter2abc'}]")),
        leaks::<One>(toml("x='hunter2abc'")),
        leaks::<Named<One>>(toml("x.a=['hunter2abc']")),
        leaks::<Vec<One>>(toml("x=[['hunter2abc']]")),
        leaks::<Vec<One>>(toml("[x]\na='hunter2abc'")),
        leaks::<Vec<Secret<String>>>(toml("[x]\na='hunter2abc'")),
        leaks::<Vec<Secret<String>>>(toml("[x]\n0='a'\n7='hunter2abc'")),
        leaks::<(u8, Secret<String>)>(toml("x=[1, 'a', 'hunter2abc']")),
        leaks::<Outer<One>>(toml("[x]\nport=1\ninner=['hunter2abc']")),
        leaks::<Store>(toml("x=['hunter2abc']")),
        leaks::<External>(toml("x=['hunter2abc']")),
        leaks::<Login>(toml("x=['hunter2abc']")),
        leaks::<Flat<One>>(toml("x=['hunter2abc']")),
    ]);
}

#[test]
fn the_plain_siblings_of_a_secret_stay_readable_after_a_failed_read() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks_beside::<Outer<One>>(
            toml("unread='a'\n[x]\nport='abc'\nextra='e'\ninner={magic='hunter2abc', n=300}"),
            &["x.port", "x.inner.n", "x.extra", "unread"],
        ),
        leaks_beside::<Outer<One>>(toml("[x]\nport='abc'\ninner='hunter2abc'"), &["x.port"]),
        leaks_beside::<Outer<One>>(toml("[x]\nport='abc'\ninner=['hunter2abc']"), &["x.port"]),
        leaks_beside::<Store>(
            toml("[x]\nkind='S4'\nsesame='hunter2abc'\nparts=1\npath='/a'"),
            &["x.kind", "x.parts", "x.path"],
        ),
        leaks_beside::<Store>(
            toml("[x]\nkind='S3'\nsesame='hunter2abc'\nparts='many'"),
            &["x.kind", "x.parts"],
        ),
        leaks_beside::<Outer<External>>(
            toml("[x]\nport='abc'\ninner.S4='hunter2abc'"),
            &["x.port"],
        ),
        leaks_beside::<Named<One>>(
            toml("[x]\na={magic='hunter2abc', n='abc'}\nb='hunter2abc'"),
            &["x.a.n"],
        ),
        leaks_beside::<Flat<One>>(
            toml("[x]\nmagic='hunter2abc'\nn='abc'\nextra='e'"),
            &["x.n", "x.extra"],
        ),
    ]);
}

#[test]
fn a_table_with_numeric_names_that_follows_a_bad_text_is_shown() {
    let memory = Memory::from([("x", "none")]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.build().unwrap();
    assert!(props.get::<BTreeMap<u16, One>>("x").is_err());
    let fields = [("magic", Value::from("hunter2abc")), ("n", Value::from(5))];
    let one = Value::from(BTreeMap::from(fields));
    let ports = Value::from(BTreeMap::from([("80", one)]));
    memory.remove("x").unwrap();
    memory.set("x", ports).unwrap();
    let read = props.get::<BTreeMap<u16, One>>("x").unwrap();
    assert_eq!(read[&80].n, 5);
    assert!(!props.explain("x.80.n").to_string().contains("***"));
    assert!(!props.explain("x.80.magic").to_string().contains(MARK));
}

#[test]
fn an_earlier_failure_of_a_type_shows_no_secret_of_a_later_one() {
    fn fails<T: Read>(toml: &str) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app.toml");
        fs::write(&file, toml).unwrap();
        let props = Properties::builder()
            .source(File::new(&file))
            .build()
            .unwrap();
        assert!(props.get::<T>("x").is_err(), "{toml}");
    }
    // In a thread without answers from before.
    let later = [
        "[x]\nkind='S4'\nsesame='hunter2abc'",
        "x='{\"sesame\":\"hunter2abc\",\"kind\":\"S3\"'",
        "x=['hunter2abc']",
        "x='hunter2abc'",
    ];
    for earlier in [
        "x.kind='S4'",
        "[x]\nkind=['S3']\nsesame='hunter2abc'",
        "[x]\nkind='S3'\nsesame='a'\nparts='many'",
        "[x]\nkind='Disk'\npath=['a']",
    ] {
        std::thread::spawn(move || {
            fails::<Store>(earlier);
            assert_none(
                later
                    .map(|later| leaks::<Store>(Written::Toml(later)))
                    .into(),
            );
        })
        .join()
        .unwrap();
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Net {
    a: Vec<std::net::IpAddr>,
    k: One,
    z: Vec<Secret<String>>,
}

#[test]
fn the_secrets_behind_the_first_bad_values_are_not_shown() {
    let toml = Written::Toml;
    let bad: Vec<String> = (0..110)
        .map(|n| format!("a{n}={{magic='hunter2abc', n='z'}}"))
        .collect();
    let addresses = vec!["'bad'"; 110].join(",");
    assert_none(vec![
        leaks::<Named<Flat<One>>>(toml("x={a='hunter2abc', b='hunter2abc', c=['hunter2abc']}")),
        leaks::<Vec<Flat<One>>>(toml("x=['hunter2abc', 'hunter2abc', 'hunter2abc']")),
        leaks::<Named<Vec<Secret<String>>>>(toml("x={a={z='hunter2abc'}, b={z='hunter2abc'}}")),
        leaks::<Vec<Store>>(toml(
            "x=[{kind='S4', sesame='a'}, {kind='S3', sesame='hunter2abc', parts=1}]",
        )),
        leaks::<Outer<Vec<Store>>>(toml(
            "[x]\nport=1\ninner=[{sesame='a'}, {kind='S3', sesame='hunter2abc', parts=1}]",
        )),
        leaks::<Net>(toml(&format!(
            "[x]\na=[{addresses}]\nk={{magic='hunter2abc', n=1}}\nz=['hunter2abc']"
        ))),
        leaks::<Named<One>>(toml(&format!("x={{{}}}", bad.join(",")))),
    ]);
}

#[test]
fn the_secrets_of_many_enums_that_cannot_be_read_are_not_shown() {
    let stores: Vec<String> = (0..30)
        .map(|n| format!("a{n}={{kind='S4', sesame='hunter2abc', parts=1}}"))
        .collect();
    let text = format!("x={{{}}}", stores.join(","));
    // In a thread without answers from before.
    let read = || leaks::<Named<Store>>(Written::Toml(&text));
    let leaks = std::thread::scope(|scope| scope.spawn(read).join().unwrap());
    assert_none(vec![leaks]);
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Acq {
    magik: Secret<String>,
    rate: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Shop {
    acq: Vec<Acq>,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Ranked {
    rank: u32,
    #[serde(flatten)]
    lists: Lists,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Lists {
    acq: Option<Vec<Acq>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Plain {
    Small { size: u8 },
    Large { size: u32, tags: Vec<String> },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Beside {
    #[serde(flatten)]
    plain: Plain,
    #[serde(flatten)]
    secret: Word,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Word {
    magik: Secret<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct OptionalWord {
    #[serde(flatten)]
    word: PerhapsWord,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct PerhapsWord {
    sesam: Option<Secret<String>>,
}

#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
enum Color {
    Red,
    Blue,
}

#[test]
fn a_list_that_serde_buffers_and_that_cannot_be_read_shows_no_secret() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<Shop>(toml("x.acq='[{magik=hunter2abc, rate=1'")),
        leaks::<Shop>(toml("x.acq='magik=hunter2abc'")),
        leaks::<Shop>(toml("x.acq={magik='hunter2abc', rate=1}")),
        leaks::<Shop>(toml("x.acq='hunter2abc'")),
        leaks::<Shop>(toml("x='{acq=[{magik=hunter2abc, rate=1'")),
        leaks::<Ranked>(toml("[x]\nrank=1\nacq='[{magik=hunter2abc, rate=1'")),
        leaks::<Ranked>(toml("[x]\nrank=1\nacq={magik='hunter2abc', rate=1}")),
        leaks::<Ranked>(toml("[x]\nacq='[{magik=hunter2abc, rate=1'")),
        leaks::<Ranked>(toml("x='{rank=1, acq=[{magik=hunter2abc, rate=1'")),
        leaks::<Outer<Ranked>>(toml("[x]\nport=1\ninner='{rank=1, acq=[{magik=hunter2abc'")),
    ]);
}

#[test]
fn a_secret_beside_an_enum_that_cannot_be_read_is_not_shown() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<Beside>(toml("[x]\nkind='Medium'\nmagik='hunter2abc'")),
        leaks::<Beside>(toml("[x]\nkind='Small'\nsize='big'\nmagik='hunter2abc'")),
        leaks::<Beside>(toml(
            "[x]\nkind='Large'\nsize=1\ntags={a=1}\nmagik='hunter2abc'",
        )),
        leaks::<Beside>(toml("[x]\nmagik='hunter2abc'")),
        leaks::<Beside>(toml("[x]\nkind=['Small']\nsize=1\nmagik='hunter2abc'")),
        leaks::<Beside>(toml("[x]\nkind={a=1}\nsize=1\nmagik='hunter2abc'")),
        leaks::<Beside>(toml("x='{kind=Medium, magik=hunter2abc}'")),
        leaks::<Beside>(toml("x='{kind=Small, magik=hunter2abc'")),
        leaks::<OptionalWord>(toml("x='{sesam=hunter2abc'")),
        leaks::<OptionalWord>(toml("x='sesam: hunter2abc'")),
        leaks::<OptionalWord>(toml("x.sesam=['hunter2abc']")),
    ]);
}

#[test]
fn a_tag_that_is_a_list_or_a_table_shows_no_secret() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<Store>(toml("[x]\nkind=['S3']\nsesame='hunter2abc'\nparts=1")),
        leaks::<Store>(toml("[x]\nkind={S3=1}\nsesame='hunter2abc'\nparts=1")),
        leaks::<Outer<Store>>(toml("[x]\nport=1\ninner={kind=[], sesame='hunter2abc'}")),
        leaks::<Vec<Store>>(toml("x=[{kind=['S3'], sesame='hunter2abc'}]")),
        leaks::<Adjacent>(toml("[x]\nkind=['S3']\nwith.sesame='hunter2abc'")),
        leaks::<Adjacent>(toml("[x]\nkind='Disk'\nwith.sesame='hunter2abc'")),
        leaks::<Adjacent>(toml("[x]\nkind='Disk'\nwith=['hunter2abc']")),
        leaks::<Adjacent>(toml("[x]\nkind='S3'\nwith='hunter2abc'")),
    ]);
}

#[test]
fn a_key_or_an_item_that_cannot_be_read_shows_no_secret_beside_it() {
    use std::net::IpAddr;
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<BTreeMap<Color, Secret<String>>>(toml("x={Green='hunter2abc'}")),
        leaks::<BTreeMap<Color, Secret<String>>>(toml("x='Green=hunter2abc'")),
        leaks::<BTreeMap<u32, Secret<String>>>(toml("x={abc='hunter2abc'}")),
        leaks::<BTreeMap<u32, Secret<String>>>(toml("x='abc=hunter2abc'")),
        leaks::<BTreeMap<IpAddr, Secret<String>>>(toml("x={abc='hunter2abc'}")),
        leaks::<BTreeMap<IpAddr, Secret<String>>>(toml("x='abc=hunter2abc'")),
        leaks::<BTreeMap<IpAddr, One>>(toml("x={abc={magic='hunter2abc', n=1}}")),
        leaks::<BTreeMap<IpAddr, One>>(toml("x='abc={magic=hunter2abc, n=1}'")),
        leaks::<(IpAddr, Secret<String>)>(toml("x=['abc', 'hunter2abc']")),
        leaks::<(IpAddr, Secret<String>)>(toml("x=[1, 'hunter2abc']")),
        leaks::<(IpAddr, Secret<String>)>(toml("x='abc, hunter2abc'")),
        leaks::<(Color, One)>(toml("x=['Green', {magic='hunter2abc', n=1}]")),
        leaks::<(Color, IpAddr, One)>(toml("x=['Red', 'b', {magic='hunter2abc', n=1}]")),
        leaks::<Vec<(IpAddr, Secret<String>)>>(toml("x=[['abc', 'hunter2abc']]")),
    ]);
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Numbered {
    Login { pair: (u8, Secret<String>) },
    None,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Long {
    Login { parts: (String, u8, Secret<String>) },
    None,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Colored {
    Pair { pair: (Color, Secret<String>) },
    Size { size: u8 },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct FlatEnum {
    port: u16,
    #[serde(flatten)]
    auth: External,
}

#[test]
fn an_item_of_a_tuple_that_was_not_read_is_not_shown() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<Numbered>(toml("x={kind='C', pair=[1, 'hunter2abc']}")),
        leaks::<Numbered>(toml("x={pair=['z', 'hunter2abc']}")),
        leaks::<Numbered>(toml("x={kind='Login', pair=['z', 'hunter2abc']}")),
        leaks::<Long>(toml("x={kind='Login', parts='hunter2abc'}")),
        leaks::<Long>(toml("x={kind='Login', parts={a='hunter2abc'}}")),
        leaks::<Long>(toml("x={kind='Login', parts=[1, ['hunter2abc']]}")),
        leaks::<Colored>(toml("x={pair='hunter2abc'}")),
        leaks::<Colored>(toml("x={pair='z, hunter2abc'}")),
        leaks::<Colored>(toml("x={pair=['z', 'hunter2abc']}")),
        leaks::<Colored>(toml("x={pair=[1, 'a', 'hunter2abc']}")),
        leaks::<Colored>(toml("x={pair={a='hunter2abc'}}")),
    ]);
}

#[test]
fn a_flattened_variant_that_is_not_known_shows_no_secret() {
    let toml = Written::Toml;
    assert_none(vec![
        leaks::<FlatEnum>(toml("x={port=1, Keyy='hunter2abc'}")),
        leaks::<FlatEnum>(toml("x={port='z', Keyy='hunter2abc'}")),
        leaks::<FlatEnum>(toml("x={port=1, Keyy=['hunter2abc']}")),
        leaks::<FlatEnum>(toml("x={port=1, S4={sesame='hunter2abc', parts=1}}")),
        leaks::<FlatEnum>(toml("x='{port=1, Keyy=hunter2abc}'")),
        leaks::<Vec<FlatEnum>>(toml("x=[{port=1, Keyy='hunter2abc'}]")),
        leaks::<Named<FlatEnum>>(toml("x.a={port=1, Keyy='hunter2abc'}")),
        leaks::<Flat<External>>(toml("x.Keyy='hunter2abc'")),
    ]);
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Mixed {
    Near {
        port: u16,
        ip: std::net::IpAddr,
        color: Color,
        idle: std::time::Duration,
        magic: Secret<String>,
    },
    Far {
        ip: std::net::IpAddr,
    },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Parts {
    flat: Timed,
    store: Store,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Timed {
    timeout: std::time::Duration,
    #[serde(flatten)]
    word: Word,
}

#[test]
fn a_bad_scalar_beside_a_secret_that_serde_buffers_is_shown() {
    fn mixed(name: &str, bad: &str) -> String {
        let fields = [
            ("kind", "'Near'"),
            ("port", "1"),
            ("ip", "'::1'"),
            ("color", "'Red'"),
            ("idle", "'5m'"),
            ("magic", "'hunter2abc'"),
        ];
        let value = |(key, good)| format!("{key}={}\n", if key == name { bad } else { good });
        format!("[x]\n{}", fields.map(value).concat())
    }
    let toml = Written::Toml;
    let plain = ["x.kind", "x.port", "x.ip", "x.color", "x.idle"];
    assert_none(vec![
        leaks_beside::<Mixed>(toml(&mixed("port", "'many'")), &plain),
        leaks_beside::<Mixed>(toml(&mixed("ip", "'nope'")), &plain),
        leaks_beside::<Mixed>(toml(&mixed("color", "'Rde'")), &plain),
        leaks_beside::<Mixed>(toml(&mixed("idle", "'5 q'")), &plain),
        leaks_beside::<Mixed>(
            toml(&mixed("kind", "'Neer'")),
            &["x.kind", "x.port", "x.ip", "x.idle"],
        ),
        leaks_beside::<Timed>(toml("[x]\ntimeout=250\nmagik='hunter2abc'"), &["x.timeout"]),
    ]);
}

#[test]
fn a_bad_tag_hides_no_plain_value_of_another_table() {
    let toml = "[x.flat]\ntimeout='1s'\nmagik='hunter2abc'\nextra=1\n\
                [x.store]\nkind='S4'\nsesame='hunter2abc'\nparts=1";
    assert_none(vec![leaks_beside::<Parts>(
        Written::Toml(toml),
        &[
            "x.flat.timeout",
            "x.flat.extra",
            "x.store.kind",
            "x.store.parts",
        ],
    )]);
}
