//! A secret whose text looks like a broken reference is not shown, wherever it stands in a value.

use super::*;

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct One {
    magic: Secret<String>,
    n: u8,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Inner {
    items: Vec<One>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Flat {
    #[serde(flatten)]
    inner: Inner,
    level: u8,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Login {
    Token { opener: Secret<String> },
    Words(Vec<Secret<String>>),
}

/// All that is put out once a key was read as a `T`, by each way to read.
fn after_reading<T>(text: &str, key: &'static str, shown: &str) -> Vec<String>
where
    T: Clone + PartialEq + Send + Sync + serde::de::DeserializeOwned + 'static,
{
    type Read = fn(&Properties, &str) -> Option<Error>;
    let ways: [Read; 4] = [
        |props: &Properties, key| props.get::<T>(key).err(),
        |props: &Properties, key| props.get_opt::<T>(key).err(),
        |props: &Properties, key| props.snapshot().bind::<T>(key).err(),
        |props: &Properties, key| props.bind::<T>(key).build().err(),
    ];
    let mut leaks = Vec::new();
    for (at, read) in ways.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let file = dir.path().join("app.toml");
        fs::write(&file, text).unwrap();
        let file = File::new(&file).with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&state).source(file);
        let props = builder.build().unwrap();
        let out = Outputs::default();
        match read(&props, key) {
            Some(error) => out.error("read", &error),
            None => out.text("read", "succeeded"),
        }
        for key in [key, shown] {
            out.text("explain", props.explain(key));
            out.rejection("again", props.get::<T>(key));
        }
        for broken in props.health().broken_references {
            out.error("broken", &broken);
        }
        drop(props);
        out.files("file", &state);
        let all = out.0.lock().unwrap();
        let leaked = all.iter().filter(|(_, text)| text.contains(MARK));
        leaks.extend(leaked.map(|(what, leak)| format!("{text} [{at}] {what}: {leak}")));
        let first = all.iter().map(|(_, text)| text.as_str()).next().unwrap();
        assert!(first.contains("refers to"), "{text} [{at}]: {first}");
    }
    leaks
}

#[test]
fn a_secret_with_a_broken_reference_in_a_list_is_not_shown() {
    let mut leaks = Vec::new();
    let mut add = |more: Vec<String>| leaks.extend(more);
    type Words = Vec<Secret<String>>;
    for list in [
        r#"list = ["${hunter2abc}"]"#,
        r#"list = ["hunter2${abc}"]"#,
        r#"list = ["x${a:-hunter2abc}"]"#,
        r#"list = ["x", "${hunter2abc}"]"#,
        r#"list = "${hunter2abc}""#,
        r#"list = "x, ${hunter2abc}""#,
        "list = [\"${other}\"]\nother = \"${hunter2abc}\"",
    ] {
        add(after_reading::<Words>(list, "list", "list.0"));
        add(after_reading::<Option<Words>>(list, "list", "list.1"));
        add(after_reading::<Vec<Option<Secret<String>>>>(
            list, "list", "other",
        ));
        add(after_reading::<BTreeMap<String, Words>>(list, "", "list"));
    }
    let tuple = r#"list = ["a", "x${a:-hunter2abc}"]"#;
    add(after_reading::<(String, Secret<String>)>(
        tuple, "list", "list.1",
    ));
    add(after_reading::<Secret<String>>(tuple, "list.1", "list"));
    let nested = r#"list = [["${hunter2abc}"]]"#;
    add(after_reading::<Vec<Words>>(nested, "list", "list.0"));
    let item = r#"list = [{magic = "${hunter2abc}", n = 1}]"#;
    add(after_reading::<Vec<One>>(item, "list", "list.0.magic"));
    add(after_reading::<One>(item, "list.0", "list"));
    let bad = r#"list = [{magic = "${hunter2abc}", n = 300}, {magic = "y", n = -1}]"#;
    add(after_reading::<Vec<One>>(bad, "list", "list.0.magic"));
    let number = "list = [{magic = \"hunter2abc\", n = \"${none.such}\"}]";
    add(after_reading::<Vec<One>>(number, "list", "list.0.magic"));
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[test]
fn a_secret_with_a_broken_reference_in_a_buffered_value_is_not_shown() {
    let mut leaks = Vec::new();
    let mut add = |more: Vec<String>| leaks.extend(more);
    let flat = "[a]\nlevel = 1\nitems = [{magic = \"${hunter2abc}\", n = 1}]";
    add(after_reading::<Flat>(flat, "a", "a.items"));
    let words = r#"a = ["x", "${hunter2abc}"]"#;
    add(after_reading::<Login>(words, "a", "a.1"));
    let token = "[a]\nopener = \"${hunter2abc}\"";
    add(after_reading::<Login>(token, "a", "a.opener"));
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[test]
fn a_broken_reference_in_a_list_without_a_secret_names_its_key() {
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("app.toml");
    fs::write(&path, r#"list = ["${hostAbc1}"]"#).unwrap();
    let props = Properties::builder()
        .source(File::new(&path))
        .build()
        .unwrap();
    let error = props.get::<Vec<String>>("list").unwrap_err();
    assert!(error.to_string().contains("`hostAbc1`"), "{error}");
    assert!(props.explain("list").to_string().contains("hostAbc1"));
}

#[test]
fn an_item_of_a_list_that_is_a_reference_marks_the_key_that_it_refers_to() {
    let memory = Memory::from([("plate", "hunter2")]);
    memory
        .set("list", Value::from(vec!["a", "${plate}"]))
        .unwrap();
    let props = Properties::builder().source(memory).build().unwrap();
    props.get::<(String, Secret<String>)>("list").unwrap();
    let shown = props.explain("plate").to_string();
    assert!(!shown.contains(MARK), "{shown}");
}

#[test]
fn a_reference_to_a_list_marks_the_items_that_are_read_as_secrets() {
    let list = || Value::from(vec!["1", "hunter2"]);
    for value in [list(), Value::from("1, hunter2"), Value::from("${third}")] {
        let memory = Memory::from([("list", "${other}"), ("hop", "${list}")]);
        memory.set("other", value).unwrap();
        memory.set("third", list()).unwrap();
        for key in ["list", "hop"] {
            let props = Properties::builder()
                .source(memory.clone())
                .build()
                .unwrap();
            props.get::<(u8, Secret<String>)>(key).unwrap();
            for key in ["hop", "list", "other", "other.1"] {
                let shown = props.explain(key).to_string();
                assert!(!shown.contains(MARK), "{shown}");
            }
        }
    }
}

#[test]
fn a_change_that_is_read_as_a_list_of_secrets_shows_no_broken_reference() {
    let memory = Memory::named("m");
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let before = props.snapshot();
    let list = Value::from(vec!["a", "${hunter2abc}"]);
    memory.set("list", list).unwrap();
    let changes = props.snapshot().changes_since(&before);
    let error = changes[0].get::<Vec<Secret<String>>>().unwrap_err();
    let out = Outputs::default();
    out.error("change", &error);
    out.debug("changes", &changes);
    out.text("explain", props.explain("list"));
    let all = out.0.lock().unwrap();
    assert!(all.iter().all(|(_, text)| !text.contains(MARK)), "{all:?}");
}
