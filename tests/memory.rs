//! What is refused of a memory source is taken back, and nothing else is.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use liveprops::sources::Memory;
use liveprops::{Properties, Value};

#[test]
fn refused_set_below_an_empty_table_keeps_the_table() {
    let memory = Memory::new();
    memory.set("a", Value::Table(Box::default())).unwrap();
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
