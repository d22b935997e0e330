//! Lists that `append` joins and that contain an unreadable item.
#![allow(missing_docs, clippy::unwrap_used)]

use liveprops::sources::Memory;
use liveprops::{Error, ErrorKind, Properties, Value};

/// Reads a key by name and through a handle with a default.
fn readings(props: &Properties, key: &str) -> [Result<String, ErrorKind>; 2] {
    let handle = props.property::<String>(key).default("default".to_owned());
    [
        props.get::<String>(key).map_err(|error| error.kind()),
        handle
            .build()
            .map(|handle| handle.get())
            .map_err(|error| error.kind()),
    ]
}

fn is(text: &str) -> [Result<String, ErrorKind>; 2] {
    [Ok(text.to_owned()), Ok(text.to_owned())]
}

const BROKEN: [Result<String, ErrorKind>; 2] =
    [Err(ErrorKind::Reference), Err(ErrorKind::Reference)];

#[test]
fn a_broken_item_of_a_joined_list_leaves_the_other_items_readable() -> Result<(), Error> {
    let by_index = [("l.0", "p-${nope}"), ("l.1", "x")];
    let whole = [("l", vec!["p-${nope}", "x"])];
    for memory in [Memory::from(by_index), Memory::from(whole)] {
        let builder = Properties::builder().append("l").bootstrap(memory.clone());
        let bootstrap = builder
            .bootstrap(Memory::from([("l", vec!["y"])]))
            .build()?;
        let builder = Properties::builder().append("l").source(memory);
        let live = builder.default("l.0", "y").build()?;
        for (props, broken, x, y) in [
            (bootstrap, "l.0", "l.1", "l.2"),
            (live, "l.1", "l.2", "l.0"),
        ] {
            assert_eq!(readings(&props, broken), BROKEN);
            assert_eq!(readings(&props, x), is("x"));
            assert_eq!(readings(&props, y), is("y"));
            assert_eq!(readings(&props, "l.3")[0], Err(ErrorKind::NotFound));
            assert_eq!(readings(&props, "l")[0], Err(ErrorKind::Reference));
            let error = props.get::<Vec<String>>("l").unwrap_err();
            assert!(error.to_string().contains("`nope`"), "{error}");
        }
    }
    Ok(())
}

#[test]
fn an_index_over_a_list_with_a_broken_item_overrides_an_item() -> Result<(), Error> {
    let lower = || Memory::from([("l", vec!["p-${nope}", "y", "z"])]);
    let upper = || Memory::from([("l.1", "x")]);
    let bootstrap = Properties::builder().bootstrap(lower()).bootstrap(upper());
    let live = Properties::builder().source(lower()).source(upper());
    for builder in [bootstrap, live] {
        let props = builder.build()?;
        assert_eq!(readings(&props, "l.0"), BROKEN);
        assert_eq!(readings(&props, "l.1"), is("x"));
        assert_eq!(readings(&props, "l.2"), is("z"));
        assert_eq!(readings(&props, "l")[0], Err(ErrorKind::Reference));
    }
    Ok(())
}

#[test]
fn an_index_over_a_broken_item_leaves_a_list_that_can_be_read() -> Result<(), Error> {
    let lower = || Memory::from([("l", vec!["p-${nope}", "$${y}"])]);
    let upper = || Memory::from([("l.0", "x"), ("l.2", "$${z}")]);
    let bootstrap = Properties::builder().bootstrap(lower()).bootstrap(upper());
    let live = Properties::builder().source(lower()).source(upper());
    for builder in [live, bootstrap] {
        let props = builder.build()?;
        assert_eq!(props.get::<Vec<String>>("l")?, ["x", "${y}", "${z}"]);
        assert_eq!(props.health().broken_references.len(), 0);
    }
    Ok(())
}

#[test]
fn a_broken_field_of_an_item_leaves_the_other_fields_readable() -> Result<(), Error> {
    let item = [("host", Value::from("${nope}")), ("port", Value::from(1))];
    let list = Value::List(vec![Value::Table(item.into())].into());
    let lower = || Memory::from([("l", list.clone())]);
    let upper = |key| Memory::from([(key, "x")]);
    for (key, host) in [
        ("l.0.user", Err(ErrorKind::Reference)),
        ("l.0.host", Ok("x")),
    ] {
        let bootstrap = Properties::builder();
        let bootstrap = bootstrap.bootstrap(lower()).bootstrap(upper(key));
        let live = Properties::builder().source(lower()).source(upper(key));
        for builder in [bootstrap, live] {
            let props = builder.build()?;
            assert_eq!(props.get::<u32>("l.0.port")?, 1);
            let host = host.map(str::to_owned);
            assert_eq!(readings(&props, "l.0.host"), [host.clone(), host]);
            assert_eq!(readings(&props, key), is("x"));
        }
    }
    Ok(())
}

#[test]
fn a_contextual_item_with_a_broken_condition_is_broken() -> Result<(), Error> {
    let case = |fields: [(&str, Value); 2]| Value::Table(fields.into());
    let wanted = Value::Table([("env", "prod")].into());
    let item = Value::List(vec![case([("if", wanted), ("value", Value::from("x"))])].into());
    let memory = Memory::from([("env", Value::from("${nope}")), ("l.0", item)]);
    memory.set("l.1", "y")?;
    let builder = Properties::builder().append("l").bootstrap(memory);
    let props = builder.build()?;
    assert_eq!(readings(&props, "l.0"), BROKEN);
    assert_eq!(readings(&props, "l.1"), is("y"));
    assert_eq!(readings(&props, "l")[0], Err(ErrorKind::Reference));
    Ok(())
}
