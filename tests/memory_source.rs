//! Memory sources: values of later properties, and undoing of rejected changes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use liveprops::sources::Memory;
use liveprops::{Document, Error, ErrorKind, Origin, Properties, Value};

fn with(memory: &Memory) -> Properties {
    Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap()
}

#[test]
fn a_rejected_set_below_an_empty_table_keeps_the_table() {
    let memory = Memory::new();
    memory.set("a", Value::Table(Default::default())).unwrap();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let h = props.property::<u32>("a.b").default(1).build().unwrap();
    assert!(props.snapshot().contains("a"));
    memory.set("a.b", "text").unwrap_err();
    assert_eq!(h.get(), 1);
    assert!(props.snapshot().contains("a"), "layer");
    let again = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    assert!(again.snapshot().contains("a"), "memory");
}

#[test]
fn a_removal_made_while_a_set_is_rejected_is_not_undone() {
    let memory = Memory::from([("k", 1)]);
    let armed = Arc::new(AtomicBool::new(false));
    let entered = Arc::new(AtomicBool::new(false));
    let (a, e) = (Arc::clone(&armed), Arc::clone(&entered));
    let props = Properties::builder()
        .source(memory.clone())
        .validate(move |tree| {
            if tree.get_opt::<u32>("k").unwrap() == Some(2) {
                if a.load(Ordering::SeqCst) {
                    e.store(true, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(150));
                }
                return Err("no".into());
            }
            Ok(())
        })
        .build()
        .unwrap();
    armed.store(true, Ordering::SeqCst);
    let other = memory.clone();
    let t = std::thread::spawn(move || {
        while !entered.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        other.remove("k")
    });
    memory.set("k", 2).unwrap_err();
    t.join().unwrap().unwrap();
    assert_eq!(props.get_opt::<u32>("k").unwrap(), None);
    let again = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    assert_eq!(
        again.get_opt::<u32>("k").unwrap(),
        None,
        "the removal was undone in the memory"
    );
}

#[test]
fn two_rejected_sets_at_once_leave_the_good_value() {
    let memory = Memory::from([("k", 1)]);
    let armed = Arc::new(AtomicBool::new(false));
    let entered = Arc::new(AtomicBool::new(false));
    let (a, e) = (Arc::clone(&armed), Arc::clone(&entered));
    let _props = Properties::builder()
        .source(memory.clone())
        .validate(move |tree| {
            if tree.get_opt::<u32>("k").unwrap() >= Some(2) {
                if a.load(Ordering::SeqCst) {
                    e.store(true, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(150));
                }
                return Err("no".into());
            }
            Ok(())
        })
        .build()
        .unwrap();
    armed.store(true, Ordering::SeqCst);
    let other = memory.clone();
    let t = std::thread::spawn(move || {
        while !entered.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        other.set("k", 3)
    });
    memory.set("k", 2).unwrap_err();
    t.join().unwrap().unwrap_err();
    let again = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    assert_eq!(again.get::<u32>("k").unwrap(), 1);
}

#[test]
fn a_shared_memory_agrees_with_its_properties_after_rejections() {
    let memory = Memory::from([("a.x", 1), ("b", 2)]);
    let strict = Properties::builder()
        .source(memory.clone())
        .validate(|t| {
            if t.get_opt::<i64>("b").ok().flatten() == Some(9) {
                Err("9".into())
            } else {
                Ok(())
            }
        })
        .build()
        .unwrap();
    let lax = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    let need = strict.property::<i64>("a.x").build().unwrap();
    // whole table away, rejected by one
    memory.remove("a").unwrap_err();
    assert_eq!(need.get(), 1);
    assert_eq!(
        lax.get_opt::<i64>("a.x").unwrap(),
        None,
        "the others keep it"
    );
    let fresh = |m: &Memory| Properties::builder().source(m.clone()).build().unwrap();
    assert_eq!(fresh(&memory).get::<i64>("a.x").unwrap(), 1);
    // everything away
    memory.remove("").unwrap_err();
    assert_eq!(fresh(&memory).get::<i64>("a.x").unwrap(), 1);
    assert_eq!(fresh(&memory).get::<i64>("b").unwrap(), 2);
    // a table over a table
    memory
        .set("a", Value::Table(Default::default()))
        .unwrap_err();
    assert_eq!(fresh(&memory).get::<i64>("a.x").unwrap(), 1);
    memory.set("b", 9).unwrap_err();
    assert_eq!(
        (
            fresh(&memory).get::<i64>("b").unwrap(),
            strict.get::<i64>("b").unwrap(),
            lax.get::<i64>("b").unwrap_or(-1)
        ),
        (2, 2, 9)
    );
    // what clashes in one of them
    memory.set("c.d", 1).unwrap();
    let r = memory.set("c", 1);
    assert_eq!(r.unwrap_err().kind(), ErrorKind::InvalidKey);
    assert_eq!(fresh(&memory).get::<i64>("c.d").unwrap(), 1);
}

#[test]
fn every_write_rejects_a_value_over_ten_mebibytes() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let most = "x".repeat(10 << 20);
    let more = format!("{most}x");
    memory.set("large", &*most)?;
    let rejections = [
        memory.set("large", &*more).unwrap_err(),
        memory.set("large", vec![&*most, "x"]).unwrap_err(),
        props.set("large", &*more).unwrap_err(),
        memory.replace([("large", &*more)]).unwrap_err(),
        Document::new()
            .set("large", &*more, Origin::new("test", ""))
            .unwrap_err(),
    ];
    for error in rejections {
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().len() < 200, "it is not shown");
    }
    assert_eq!(props.get::<String>("large")?.len(), most.len());
    Ok(())
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
    assert_eq!(props.get::<u32>("b").unwrap(), 1, "the rest is accepted");
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
