//! The value that a secret refers to as a whole is shown nowhere.

use super::unread::{
    External, Flat, Listed, Login, Named, One, Outer, Read, Store, assert_none, show_all, ways,
};
use super::*;

type Words = Secret<Vec<String>>;
type Entries = Secret<Named<String>>;

/// Keys that the documents refer to, but not as the content of a secret.
const PLAIN: [&str; 5] = ["count", "env", "name", "nope", "own"];

/// What shows [`MARK`] after `x` was read as a `T`, which is perhaps a success, and each of the
/// plain keys that is masked. The document has `other`, and `hop` that refers to it.
fn leaks<T: Read>(document: &str) -> Vec<String> {
    let start = "hop='${other}'\nenv='dev'\nname='other'\ncount=5\nown='visible'";
    let with = |other: &str| format!("other={other}\n{start}\n{document}");
    let mut leaks = leaks_of::<T>(&with("'hunter2abc'"), &PLAIN);
    // What the type reads from a broken value is not known.
    leaks.append(&mut leaks_of::<T>(&with("'${hunter2abc}'"), &[]));
    leaks
}

fn leaks_of<T: Read>(document: &str, plain: &[&str]) -> Vec<String> {
    let mut leaks = Vec::new();
    for (way, read) in ways::<T>() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let file = dir.path().join("app.toml");
        fs::write(&file, document).unwrap();
        let source = File::new(&file).with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&state).inline_callbacks();
        let props = builder.source(source).build().unwrap();
        let out = Outputs::default();
        out.rejection("read", read(&props, "x").map_or(Ok(()), Err));
        show_all(&out, &props);
        for key in props.snapshot().keys().iter().map(Key::as_str) {
            out.rejection("number", props.get::<u32>(key));
            out.rejection("list", props.get::<Vec<u32>>(key));
            out.rejection("map", props.get::<Named<u32>>(key));
        }
        let empty = Properties::builder().build().unwrap();
        for change in props.snapshot().changes_since(&empty.snapshot()) {
            out.debug("change", &change);
        }
        for key in plain {
            let shown = props.explain(key).to_string();
            if shown.contains("***") {
                leaks.push(format!("{document} [{way}] masks {shown}"));
            }
        }
        drop(props);
        out.files("file", &state);
        let all = out.0.lock().unwrap();
        let leaked = all.iter().find(|(_, text)| text.contains(MARK));
        leaks.extend(leaked.map(|(what, leak)| format!("{document} [{way}] {what}: {leak}")));
    }
    leaks
}

#[test]
fn a_value_that_a_secret_refers_to_as_a_whole_is_not_shown() {
    assert_none(vec![
        leaks::<Secret<String>>("x='${other}'"),
        leaks::<Secret<String>>("x='${hop}'"),
        leaks::<Secret<String>>("x='${nope:${other}}'"),
        leaks::<Secret<String>>("x='${nope:${hop}}'"),
        leaks::<Secret<String>>("x='${ other }'"),
        leaks::<Words>("x=['${other}']"),
        leaks::<Vec<Secret<String>>>("x=['${other}']"),
        leaks::<Vec<Secret<String>>>("x=['${nope:${other}}']"),
        leaks::<Vec<One>>("x=[{magic='${other}', n=1}]"),
        leaks::<Vec<Secret<String>>>("l=['${other}']\nx='${l}'"),
        leaks::<Vec<Secret<String>>>("l=['a', '${other}']\nx='${l}'"),
        leaks::<Vec<Secret<String>>>("l=['${other}']\nx=['${l.0}']"),
        leaks::<Vec<One>>("l=[{magic='${other}', n='${count}'}]\nx='${l}'"),
        leaks::<Vec<One>>(
            "l=[{magic='${other}', n='${count}'}]\nx=[{if={env='dev'}, value='${l}'}]",
        ),
    ]);
}

#[test]
fn a_value_that_a_secret_refers_to_by_a_computed_name_is_not_shown() {
    let word = "dev.word='${other}'\n";
    assert_none(vec![
        leaks::<Secret<String>>("x='${${name}}'"),
        leaks::<Secret<String>>(&format!("x='${{${{env}}.word}}'\n{word}")),
        leaks::<Secret<String>>(&format!("x='${{${{nope:dev}}.word}}'\n{word}")),
        leaks::<Secret<String>>("x='${${env}.nope:${other}}'"),
        leaks::<Secret<String>>("x='${nope:${${name}}}'"),
        leaks::<Secret<String>>("x='${o${nope:the}r}'"),
        leaks::<Vec<Secret<String>>>("x=['${${name}}']"),
        leaks::<Vec<Secret<String>>>("x='[${${name}}, b]'"),
        leaks::<Words>("l=['${other}']\nx='${${nope:l}}'"),
        leaks::<Secret<String>>("x='${first}'\nfirst='${${name}}'"),
    ]);
}

#[test]
fn a_value_that_a_case_of_a_secret_refers_to_is_not_shown() {
    assert_none(vec![
        leaks::<Secret<String>>("x=[{if={env='dev'}, value='${other}'}, {value='b'}]"),
        leaks::<Secret<String>>("x=[{if={env='prod'}, value='a'}, {value='${other}'}]"),
        leaks::<Secret<String>>("x=[{if={env='dev'}, value='${${name}}'}]"),
        leaks::<Secret<String>>("x='${first}'\nfirst=[{if={env='dev'}, value='${other}'}]"),
        leaks::<Words>("x=[{if={env='dev'}, value=['${other}']}]"),
        leaks::<Vec<Secret<String>>>("x=[{if={env='dev'}, value=['a', '${other}']}]"),
        leaks::<Vec<Secret<String>>>("x=[{if={env='dev'}, value='a, ${other}'}]"),
        leaks::<Vec<Secret<String>>>("l=['${other}']\nx=[{if={env='dev'}, value='${l}'}]"),
        leaks::<One>("[x]\nn=1\nmagic=[{if={env='dev'}, value='${other}'}]"),
    ]);
}

#[test]
fn a_value_that_an_entry_of_a_secret_table_refers_to_is_not_shown() {
    assert_none(vec![
        leaks::<Entries>("x.a='${other}'"),
        leaks::<Entries>("x.a='${${name}}'"),
        leaks::<Secret<Vec<Named<String>>>>("x=[{a='${other}'}]"),
        leaks::<Secret<Vec<Named<Vec<String>>>>>("x=[{a=['${other}']}]"),
        leaks::<Vec<Entries>>("x=[{a='${other}'}]"),
        leaks::<Vec<Named<Secret<String>>>>("x=[{a='${other}'}]"),
        leaks::<Secret<Named<Named<String>>>>("x.a.b='${other}'"),
        leaks::<Secret<Named<Vec<Named<String>>>>>("x.a=[{b='${other}'}]"),
        leaks::<Secret<Vec<Named<String>>>>("l=[{a='${other}'}]\nx='${l}'"),
        leaks::<Secret<Vec<Vec<String>>>>("x=[['${other}']]"),
        leaks::<Vec<Flat<One>>>("x=[{magic='${other}', n=1}]"),
        leaks::<Flat<One>>("x={magic='${other}', n=1}"),
    ]);
}

#[test]
fn a_value_that_a_part_of_a_text_of_a_secret_refers_to_is_not_shown() {
    assert_none(vec![
        leaks::<Vec<Secret<String>>>("x='[${other}]'"),
        leaks::<Vec<Secret<String>>>("x='${other}, a'"),
        leaks::<Vec<Secret<String>>>("x='a, ${other}'"),
        leaks::<Vec<Secret<String>>>("x='a, \"${other}\"'"),
        leaks::<Vec<Secret<String>>>("x='[\"a\", \"${other}\"]'"),
        leaks::<Vec<Secret<String>>>("x='a, ${nope:${other}}'"),
        leaks::<Vec<Secret<String>>>("x='${nope:a, ${other}}'"),
        leaks::<Vec<Secret<String>>>("l='a, ${other}'\nx='${l}'"),
        leaks::<Vec<Vec<Secret<String>>>>("x='[[${other}]]'"),
        leaks::<Vec<Vec<Secret<String>>>>("x=['a, ${other}']"),
        leaks::<Words>("x='[${other}]'"),
        leaks::<Words>("x='a, ${other}'"),
        leaks::<Secret<Vec<Vec<String>>>>("x='[[a], [${other}]]'"),
        leaks::<Entries>("x='{a=${other}}'"),
        leaks::<Entries>("x='a=${other}, b=c'"),
        leaks::<Entries>("x='a=${other}'"),
        leaks::<Listed>("x='{l=[a, ${other}]}'"),
        leaks::<One>("x='{magic=${other}, n=${count}}'"),
        leaks::<One>("x='{n=${count}, magic=${other}}'"),
        leaks::<One>("x='magic=${other}, n=${count}'"),
        leaks::<One>(r#"x='{"magic": "${other}", "n": ${count}}'"#),
        leaks::<Vec<One>>("x='[{magic=${other}, n=${count}}]'"),
        leaks::<Vec<One>>("x=['{magic=${other}, n=${count}}']"),
        leaks::<Outer<One>>("[x]\nport=1\ninner='{magic=${other}, n=${count}}'"),
        leaks::<Outer<One>>("x='{port=${count}, inner={magic=${other}, n=1}}'"),
        leaks::<Named<One>>("x='{a={magic=${other}, n=1}}'"),
        leaks::<Store>("x='{kind=S3, sesame=${other}, parts=${count}}'"),
        leaks::<External>("x='{Key=${other}}'"),
        leaks::<External>("x='Key=${other}'"),
        leaks::<Login>("x='{opener=${other}, ttl=${count}}'"),
        leaks::<Flat<One>>("x='{magic=${other}, n=${count}}'"),
        leaks::<One>("o='{magic=${other}, n=${count}}'\nx='${o}'"),
    ]);
}

#[test]
fn a_value_whose_text_becomes_parts_of_a_secret_is_not_shown() {
    assert_none(vec![
        leaks_of::<Vec<Secret<String>>>("o='b, hunter2abc'\nx='a, ${o}'", &[]),
        leaks_of::<Vec<Secret<String>>>("o='b, hunter2abc'\nx='[a, ${o}]'", &[]),
        leaks_of::<One>("o='magic=hunter2abc, n=1'\nx='{${o}}'", &[]),
        leaks_of::<One>("o='magic=hunter2abc'\nx='${o}, n=1'", &[]),
        leaks_of::<One>("o='magic=hunter2abc, n=1'\nx='${o}'", &[]),
        leaks_of::<One>("m='magic'\no='hunter2abc'\nx='{${m}=${o}, n=1}'", &[]),
        leaks_of::<(u8, String, Secret<String>)>("o='b, hunter2abc'\nx='1, ${o}'", &[]),
        leaks_of::<(u8, String, Secret<String>)>("l='1, b, ${o}'\no='hunter2abc'\nx='${l}'", &[]),
        leaks_of::<(u8, String, Secret<String>, u8)>("o='b, hunter2abc'\nx='1, ${o}, 2'", &[]),
        leaks_of::<Entries>("o='a=hunter2abc'\nx='{${o}}'", &[]),
        leaks_of::<Vec<Secret<String>>>("o='a, hunter2abc'\nx='${o}'", &[]),
        leaks_of::<Vec<Secret<String>>>("o='hunter2abc'\nx='${o}'", &[]),
        leaks_of::<Vec<One>>("o='[{magic=hunter2abc, n=1}]'\nx='${o}'", &[]),
        leaks_of::<Vec<One>>("o=[{magic='hunter2abc', n=1}]\nx='${o}'", &[]),
        leaks_of::<One>("o='1, magic=hunter2abc'\nx='{n=${o}}'", &[]),
    ]);
}

#[test]
fn a_value_that_a_secret_refers_to_is_not_shown_after_a_failed_read() {
    assert_none(vec![
        leaks::<Secret<String>>("x=['${other}']"),
        leaks::<Secret<String>>("x=['a', '${other}']"),
        leaks::<Secret<String>>("x=[{a='${other}'}]"),
        leaks::<Secret<String>>("x.a='${other}'"),
        leaks::<Secret<u32>>("x='${other}'"),
        leaks::<Vec<Secret<u32>>>("x=['${other}']"),
        leaks::<Vec<Secret<u32>>>("x=['a', '${other}']"),
        leaks::<Vec<Secret<u32>>>("x='a, ${other}'"),
        leaks::<Vec<Secret<String>>>("[x]\na='${other}'"),
        leaks::<Words>("x.a='${other}'"),
        leaks::<Entries>("x=['${other}']"),
        leaks::<One>("[x]\nn='many'\nmagic='${other}'"),
        leaks::<One>("[x]\nn='many'\nmagic='${hop}'"),
        leaks::<One>("[x]\nmagic='${${name}}'\nn='many'"),
        leaks::<One>("[x]\nmagic=['${other}']\nn='many'"),
        leaks::<One>("x='{n=many, magic=${other}}'"),
        leaks::<One>("x='{magic=${other}, n=many}'"),
        leaks::<One>("x='${other}'"),
        leaks::<One>("x=['${other}']"),
        leaks::<Vec<One>>("x=[{n='many', magic='${other}'}]"),
        leaks::<Vec<One>>("x=[{n='many', magic='a'}, {n=1, magic='${other}'}]"),
        leaks::<Named<One>>("[x]\na={n='many', magic='a'}\nb={n=1, magic='${other}'}"),
        leaks::<Outer<One>>("[x]\nport='many'\ninner={n=1, magic='${other}'}"),
        leaks::<Outer<One>>("[x]\nport='many'\ninner='{n=1, magic=${other}}'"),
        leaks::<Outer<One>>("[x]\nport=1\ninner='${other}'"),
        leaks::<Store>("[x]\nkind='S4'\nsesame='${other}'"),
        leaks::<Store>("[x]\nkind='S3'\nsesame='${other}'\nparts='many'"),
        leaks::<Store>("x='{kind=S4, sesame=${other}}'"),
        leaks::<External>("x.S4='${other}'"),
        leaks::<External>("x='S4=${other}'"),
        leaks::<Login>("[x]\nopener='${other}'\nttl='many'"),
        leaks::<Flat<One>>("[x]\nmagic='${other}'\nn='many'"),
    ]);
}

#[test]
fn a_value_of_which_a_secret_has_a_part_only_is_shown() {
    assert_none(vec![
        leaks_of::<Secret<String>>("own='visible'\nx='pg://${own}:b@db'", &["own"]),
        leaks_of::<Secret<String>>("own='a:{b}, c'\nx='pg://${own}:b@db'", &["own"]),
        leaks_of::<One>("own='a:b'\nx='{magic=a${own}, n=1}'", &["own"]),
        leaks_of::<(String, Secret<String>)>("own='a'\nx='${own}, b'", &["own"]),
    ]);
}

#[test]
fn a_value_that_an_item_of_a_joined_list_refers_to_is_not_shown() {
    let lower = Memory::from([("other", "hunter2abc"), ("hop", "${other}")]);
    lower.set("x", vec!["${hop}"]).unwrap();
    let upper = Memory::new();
    upper.set("x", vec!["b"]).unwrap();
    for append in [true, false] {
        let builder = Properties::builder().source(lower.clone());
        let builder = builder.source(upper.clone());
        let props = if append {
            builder.append("x").build().unwrap()
        } else {
            upper.replace([("x.1", "b")]).unwrap();
            builder.build().unwrap()
        };
        assert_eq!(props.get::<Vec<Secret<String>>>("x").unwrap().len(), 2);
        let shown = props.explain("other").to_string();
        assert!(!shown.contains(MARK), "{append}: {shown}");
    }
}

#[test]
fn a_value_that_a_secret_of_a_bootstrap_source_refers_to_is_not_shown() {
    for x in [
        Value::from("${hop}"),
        "${${name}}".into(),
        vec!["${${name}}"].into(),
    ] {
        let first = Memory::from([("other", "hunter2abc"), ("hop", "${other}")]);
        first.set("name", "other").unwrap();
        first.set("x", x.clone()).unwrap();
        let later = Memory::from([("name", "count"), ("count", "5")]);
        let builder = Properties::builder().bootstrap(first);
        let props = builder.source(later).build().unwrap();
        props.get::<Vec<Secret<String>>>("x").unwrap();
        let shown = props.explain("other").to_string();
        assert!(!shown.contains(MARK), "{x:?}: {shown}");
    }
}

#[test]
fn a_change_that_is_read_as_a_secret_hides_the_value_that_it_refers_to() {
    for text in ["${other}", "${nope:${other}}", "${hop}", "${${name}}"] {
        let memory = Memory::from([("other", "hunter2abc"), ("hop", "${hop2}")]);
        memory.set("hop2", "${other}").unwrap();
        memory.set("name", "other").unwrap();
        let builder = Properties::builder().source(memory.clone());
        let props = builder.inline_callbacks().build().unwrap();
        let before = props.snapshot();
        memory.set("x", text).unwrap();
        let changes = props.snapshot().changes_since(&before);
        changes[0].get::<Secret<String>>().unwrap();
        let shown = props.explain("other").to_string();
        assert!(!shown.contains(MARK), "{text}: {shown}");
    }
}

#[test]
fn a_change_of_a_batch_that_is_read_as_a_secret_hides_the_value_that_it_refers_to() {
    let memory = Memory::from([("other", "hunter2abc"), ("hop", "${other}")]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.inline_callbacks().build().unwrap();
    let _subscription = props.on_change_under("x", |batch| {
        let change = &batch.changes()[0];
        assert_eq!(
            change.get::<Secret<String>>().unwrap().unwrap().expose(),
            "hunter2abc"
        );
    });
    memory.set("x", "${hop}").unwrap();
    let shown = props.explain("other").to_string();
    assert!(!shown.contains(MARK), "{shown}");
}

#[test]
fn a_value_that_a_known_secret_refers_to_is_not_shown_although_nothing_reads_it() {
    for (declared, x) in [
        ("x", Value::from("${hop}")),
        ("x", vec!["a", "${other}"].into()),
        ("x", table("a", "${other}")),
        ("x.a", table("a", "${other}")),
    ] {
        let memory = Memory::from([("other", "hunter2abc"), ("hop", "${other}")]);
        let builder = Properties::builder().source(memory.clone());
        let props = builder.secret(declared).build().unwrap();
        memory.set("x", x).unwrap();
        let shown = props.explain("other").to_string();
        assert!(!shown.contains(MARK), "{declared}: {shown}");
    }
}

#[test]
fn a_value_that_a_secret_refers_to_since_its_last_read_is_not_shown() {
    for (before, after) in [
        (Value::from("a"), Value::from("${other}")),
        ("${first}".into(), "${hop}".into()),
        (vec!["a"].into(), vec!["${other}"].into()),
        (table("magic", "a"), table("magic", "${other}")),
    ] {
        let memory = Memory::from([("other", "hunter2abc"), ("hop", "${other}")]);
        memory.set("first", "a").unwrap();
        memory.set("x", before).unwrap();
        let props = Properties::builder()
            .source(memory.clone())
            .build()
            .unwrap();
        let read = [
            props.get::<Secret<String>>("x").is_ok(),
            props.get::<Vec<Secret<String>>>("x").is_ok(),
            props.get::<Named<Secret<String>>>("x").is_ok(),
        ];
        assert!(read.contains(&true));
        let text = format!("{after:?}");
        memory.remove("x").unwrap();
        memory.set("x", after).unwrap();
        let shown = props.explain("other").to_string();
        assert!(!shown.contains(MARK), "{text}: {shown}");
    }
}
