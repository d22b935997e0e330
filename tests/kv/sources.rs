//! A source by itself: where it reads from, as a person can find it out, and that several programs may
//! have it.

use std::sync::Arc;

use liveprops::{Properties, Source};

use crate::field::{Field, SOON, Store, health, within};

pub(crate) fn where_it_reads_from_is_told_by_health_and_explanations<S: Store>() {
    let Some(field) = Field::<S>::with(&[("app/n", "1")]) else {
        return;
    };
    let props = field.follow();
    within(SOON, "it says where it is", || {
        health(&props).location.is_some()
    });
    let place = health(&props).location.unwrap();
    let server = format!("127.0.0.1:{}", field.proxy.port());
    assert!(place.contains(&server), "{place}");
    let explained = props.explain("n").to_string();
    assert!(
        explained.contains(&format!("read from {place}")),
        "{explained}"
    );
    assert!(props.snapshot().explain("n").layers[0].location.is_none());
}

pub(crate) fn one_source_in_two_programs_tells_each_of_every_change<S: Store>() {
    let Some(field) = Field::<S>::with(&[("app/n", "0")]) else {
        return;
    };
    let source: Arc<dyn Source> = Arc::from(S::prefix(field.proxy.port(), "app"));
    let follow = || {
        let source = Arc::clone(&source);
        Properties::builder().source(source).build().unwrap()
    };
    let programs = [follow(), follow()];
    for n in 1..=20 {
        field.store.put("app/n", n.to_string());
        within(SOON, "both have it", || {
            let has = |props: &Properties| props.get::<i64>("n").unwrap() == n;
            programs.iter().all(has)
        });
    }
}

#[cfg(feature = "consul")]
#[test]
fn each_part_of_an_address_that_was_found_is_told_of_and_the_server_that_answers() {
    use liveprops::sources::{Consul, Locator};

    let Some(field) = Field::<crate::consul::Client>::with(&[("app/n", "1")]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("consul");
    std::fs::write(
        &file,
        format!("WAZO_CONSUL_PORT='{}'\n", field.proxy.port()),
    )
    .unwrap();
    let locator = Locator::new("WAZO_CONSUL")
        .vars([("WAZO_CONSUL_HOST", "127.0.0.1")])
        .file(&file)
        .host("consul")
        .port(8500);
    let props = Properties::builder()
        .source(Consul::prefix("app").locator(locator))
        .build()
        .unwrap();
    within(SOON, "it says where it is", || {
        health(&props).location.is_some()
    });
    let told = props.explain("n").to_string();
    for part in [
        "scheme by default",
        "host from env WAZO_CONSUL_HOST",
        &format!("port from file {}:1", file.display()),
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }

    let gone = crate::server::free_port();
    let props = Properties::builder()
        .source(Consul::prefix("app").addresses([
            format!("http://127.0.0.1:{gone}"),
            format!("http://me:s3cret@127.0.0.1:{}", field.proxy.port()),
        ]))
        .build()
        .unwrap();
    within(SOON, "it says where it is", || {
        health(&props).location.is_some()
    });
    let told = health(&props).location.unwrap();
    let server = format!("127.0.0.1:{}", field.proxy.port());
    assert!(
        told.contains(&server) && !told.contains("s3cret"),
        "the one that answers: {told}"
    );
}
