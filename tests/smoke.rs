#![allow(missing_docs, clippy::unwrap_used)]
use liveprops::{sources::Memory, *};
use std::time::Duration;

#[test]
fn smoke() {
    let file = Memory::named("file");
    let env = Memory::named("env");
    file.set("http.retries", "3").unwrap();
    let props = Properties::builder()
        .source(file.clone())
        .source(env.clone())
        .build()
        .unwrap();
    let retries = props
        .property::<u32>("http.retries")
        .default(0)
        .build()
        .unwrap();
    assert_eq!(retries.get(), 3);
    let (tx, rx) = std::sync::mpsc::channel();
    let sub = retries.on_change(move |c| tx.send((*c.old, *c.new)).unwrap());
    env.set("http.retries", "9").unwrap();
    assert_eq!(retries.get(), 9);
    assert_eq!(rx.recv_timeout(Duration::from_secs(5)).unwrap(), (3, 9));
    assert!(env.set("http.retries", "x").is_err());
    assert_eq!(retries.get(), 9);
    println!("{}", props.explain("http.retries"));
    env.remove("http.retries").unwrap();
    assert_eq!(retries.get(), 3);
    assert_eq!(rx.recv_timeout(Duration::from_secs(5)).unwrap(), (9, 3));
    drop(sub);
    file.set("a", "${http.retries}").unwrap();
    file.set("b", "x${a}y").unwrap();
    let b = props.property::<String>("b").build().unwrap();
    assert_eq!(b.get(), "x3y");
    file.set("http.retries", 4).unwrap();
    assert_eq!(b.get(), "x4y");
    println!("{:#?}", props.health());
    println!("{:?}", props.get::<u32>("http.retriez"));
    file.set("a", "${b}").unwrap_err();
    assert_eq!(b.get(), "x4y");
    let m = retries.map(|r| r * 2);
    assert_eq!(m.get(), 8);
    props.set("http.retries", 50).unwrap();
    assert_eq!(m.get(), 100);
    props.remove("http.retries").unwrap();
    assert_eq!(m.get(), 8);
}
