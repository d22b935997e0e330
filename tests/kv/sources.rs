//! A single source: its location, and its use in several programs.

use std::sync::Arc;

use liveprops::{Properties, Source};

use crate::scenario::{SOON, Scenario, Store, health, wait_until};

pub(crate) fn health_and_explanations_name_the_location_of_a_source<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/n", "1")]) else {
        return;
    };
    let props = scenario.follow();
    wait_until(SOON, "health has the location", || {
        health(&props).location.is_some()
    });
    let location = health(&props).location.unwrap();
    let server = format!("127.0.0.1:{}", scenario.proxy.port());
    assert!(location.contains(&server), "{location}");
    let explained = props.explain("n").to_string();
    assert!(
        explained.contains(&format!("read from {location}")),
        "{explained}"
    );
    assert!(props.snapshot().explain("n").layers[0].location.is_none());
}

pub(crate) fn one_source_in_two_programs_reports_every_change_to_both<S: Store>() {
    let Some(scenario) = Scenario::<S>::with(&[("app/n", "0")]) else {
        return;
    };
    let source: Arc<dyn Source> = Arc::from(S::prefix(scenario.proxy.port(), "app"));
    let follow = || {
        let source = Arc::clone(&source);
        Properties::builder().source(source).build().unwrap()
    };
    let programs = [follow(), follow()];
    for n in 1..=20 {
        scenario.store.put("app/n", n.to_string());
        wait_until(SOON, "both have it", || {
            let has = |props: &Properties| props.get::<i64>("n").unwrap() == n;
            programs.iter().all(has)
        });
    }
}

#[cfg(feature = "consul")]
#[test]
fn a_discovered_address_is_reported_with_its_parts_and_its_server() {
    use liveprops::sources::{Consul, Locator};

    let Some(scenario) = Scenario::<crate::consul::Client>::with(&[("app/n", "1")]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("consul");
    std::fs::write(
        &file,
        format!("WAZO_CONSUL_PORT='{}'\n", scenario.proxy.port()),
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
    wait_until(SOON, "health has the location", || {
        health(&props).location.is_some()
    });
    let message = props.explain("n").to_string();
    for part in [
        "scheme by default",
        "host from env WAZO_CONSUL_HOST",
        &format!("port from file {}:1", file.display()),
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let gone = crate::server::free_port();
    let props = Properties::builder()
        .source(Consul::prefix("app").addresses([
            format!("http://127.0.0.1:{gone}"),
            format!("http://me:s3cret@127.0.0.1:{}", scenario.proxy.port()),
        ]))
        .build()
        .unwrap();
    wait_until(SOON, "health has the location", || {
        health(&props).location.is_some()
    });
    let message = health(&props).location.unwrap();
    let server = format!("127.0.0.1:{}", scenario.proxy.port());
    assert!(
        message.contains(&server) && !message.contains("s3cret"),
        "the one that answers: {message}"
    );
}
