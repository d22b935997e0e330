//! One test for each bug that was found and fixed.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use liveprops::sources::Memory;
use liveprops::{ErrorKind, Properties, Value};

fn with(memory: &Memory) -> Properties {
    Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap()
}

#[test]
fn a_source_that_pushes_can_be_added_to_running_properties() {
    let props = Properties::builder().build().unwrap();
    let memory = Memory::from([("a", 1)]);
    let id = props.add_source(memory.clone()).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 1);
    memory.set("a", 2).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 2);
    props.remove_source(id).unwrap();
    assert_eq!(props.get_opt::<u32>("a").unwrap(), None);
    memory.set("a", 3).unwrap();
    props.add_source(memory).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 3);
}

#[test]
fn a_rejected_new_source_changes_nothing() {
    let props = Properties::builder().build().unwrap();
    let a = props.property::<u32>("a").default(7).build().unwrap();
    let before = props.generation();
    let memory = Memory::from([("a", "text")]);
    let refused = props.add_source(memory.clone()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch);
    assert_eq!((a.get(), props.generation()), (7, before));
    memory.set("a", 1).unwrap();
    assert_eq!(a.get(), 7, "the source is not attached");
    assert!(props.health().sources.is_empty());
}

#[test]
fn adding_a_source_from_inside_a_validator_fails_at_once() {
    let later: Arc<OnceLock<Properties>> = Arc::default();
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let (inner, log) = (Arc::clone(&later), Arc::clone(&kinds));
    let memory = Memory::new();
    let props = Properties::builder()
        .source(memory.clone())
        .validate(move |_| {
            if let Some(props) = inner.get() {
                let outcome = props.add_source(Memory::from([("b", 1)]));
                log.lock().unwrap().push(outcome.unwrap_err().kind());
            }
            Ok(())
        })
        .build()
        .unwrap();
    later.set(props.clone()).unwrap();
    memory.set("a", 1).unwrap();
    assert_eq!(*kinds.lock().unwrap(), [ErrorKind::Reentrant]);
    assert_eq!(props.get_opt::<u32>("b").unwrap(), None);
}

#[test]
fn a_cycle_through_a_name_that_is_itself_a_reference_ends_when_the_name_changes() {
    let memory = Memory::from([("b", "a"), ("c", "1")]);
    let props = with(&memory);
    memory.set("a", "${${b}}").unwrap();
    let broken = props.get::<String>("a").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Reference);
    memory.set("b", "c").unwrap();
    assert_eq!(props.get::<String>("a").unwrap(), "1");
}

#[test]
fn a_reference_follows_its_key_into_a_table_and_out_again() {
    let memory = Memory::from([("a", "${t:none}")]);
    let props = with(&memory);
    assert_eq!(props.get::<String>("a").unwrap(), "none");
    memory.set("t.x", 1).unwrap();
    let broken = props.get::<String>("a").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::Reference);
    memory.remove("t.x").unwrap();
    assert_eq!(props.get::<String>("a").unwrap(), "none");
}

#[test]
fn a_table_is_not_absent_for_a_condition() {
    let props = with(&Memory::from([("a.x", 1)]));
    let outcome = props.transaction(|tx| {
        tx.if_value("a", None)?;
        tx.set("b", 1)
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn a_tombstone_under_a_table_that_shows_is_not_the_winner() {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .build()
        .unwrap();
    low.unset("a").unwrap();
    high.set("a.x", 1).unwrap();
    let explained = props.explain("a");
    assert!(
        explained.layers.iter().all(|layer| !layer.wins),
        "{explained}"
    );
}

#[test]
fn a_memory_source_gives_later_properties_the_same_values() {
    let memory = Memory::new();
    let first = with(&memory);
    memory.set("a.x", 1).unwrap();
    let table = BTreeMap::from([("y", 2)]);
    memory.set("a", table).unwrap();
    let second = with(&memory);
    for props in [first, second] {
        assert_eq!(props.get_opt::<u32>("a.x").unwrap(), None);
        assert_eq!(props.get::<u32>("a.y").unwrap(), 2);
    }
}

#[test]
fn a_replacement_that_is_no_document_replaces_nothing() {
    let memory = Memory::from([("a", 1)]);
    let clash = memory.replace([("b", 1), ("b.x", 2)]).unwrap_err();
    assert_eq!(clash.kind(), ErrorKind::InvalidKey);
    assert_eq!(with(&memory).get::<u32>("a").unwrap(), 1);
}

#[test]
fn a_rejected_removal_is_undone_in_the_source_too() {
    let memory = Memory::from([("a", 1)]);
    let props = with(&memory);
    let a = props.property::<u32>("a").build().unwrap();
    assert!(memory.remove("a").is_err());
    assert_eq!(a.get(), 1);
    assert_eq!(with(&memory).get::<u32>("a").unwrap(), 1);
}

#[test]
fn a_rejected_removal_of_a_tombstone_removes_no_other_key() {
    let (low, high) = (Memory::from([("a.x", "text")]), Memory::new());
    high.unset("a").unwrap();
    let props = Properties::builder()
        .source(low)
        .source(high.clone())
        .build()
        .unwrap();
    let x = props.property::<u32>("a.x").default(7).build().unwrap();
    assert!(high.replace([("b", 1)]).is_err());
    assert_eq!(x.get(), 7, "the tombstone stays");
    assert_eq!(props.get::<u32>("b").unwrap(), 1, "the rest is taken");
}

#[test]
fn a_rejected_key_of_a_new_table_removes_no_other_key() {
    let (low, high) = (Memory::from([("a", 1)]), Memory::new());
    let props = Properties::builder()
        .source(low)
        .source(high.clone())
        .build()
        .unwrap();
    let x = props.property::<Option<u32>>("a.x").build().unwrap();
    assert!(high.replace([("a.x", "text"), ("a.y", "fine")]).is_err());
    assert_eq!(x.get(), None);
    assert_eq!(props.get::<String>("a.y").unwrap(), "fine");
}

#[test]
fn inline_callbacks_of_one_instance_may_change_another() {
    let build = || Properties::builder().inline_callbacks().build().unwrap();
    let (one, two) = (build(), build());
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let b = two.property::<u32>("b").default(0).build().unwrap();
    let _two = b.on_change(move |change| log.lock().unwrap().push(*change.new));
    let other = two.clone();
    let a = one.property::<u32>("a").default(0).build().unwrap();
    let _one = a.on_change(move |change| {
        other.set("b", Value::from(*change.new)).unwrap();
    });
    one.set("a", 5).unwrap();
    assert_eq!(*told.lock().unwrap(), [5]);
}
