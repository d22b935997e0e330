//! What is refused of a memory source is taken back, and nothing else is.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use liveprops::sources::Memory;
use liveprops::{Document, Error, ErrorKind, Origin, Properties, Value};

#[test]
fn refused_set_below_an_empty_table_keeps_the_table() {
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
fn a_removal_made_while_a_set_is_refused_is_not_undone() {
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
fn two_refused_sets_at_once_leave_the_good_value() {
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
fn a_shared_memory_is_what_it_says_after_refusals() {
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
    // whole table away, refused by one
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
fn a_value_over_ten_mebibytes_is_refused_by_every_way_that_leads_in() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let most = "x".repeat(10 << 20);
    let more = format!("{most}x");
    memory.set("large", &*most)?;
    let refusals = [
        memory.set("large", &*more).unwrap_err(),
        memory.set("large", vec![&*most, "x"]).unwrap_err(),
        props.set("large", &*more).unwrap_err(),
        memory.replace([("large", &*more)]).unwrap_err(),
        Document::new()
            .set("large", &*more, Origin::new("test", ""))
            .unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(error.to_string().len() < 200, "it is not shown");
    }
    assert_eq!(props.get::<String>("large")?.len(), most.len());
    Ok(())
}
