//! A malformed address of a store with an HTTP interface is an error that names the address.

#![cfg(any(feature = "consul", feature = "etcd"))]

use liveprops::Source;

/// A store, the version of its API, and a source with an address.
type Case = (&'static str, &'static str, fn(&str) -> Box<dyn Source>);

fn stores() -> Vec<Case> {
    vec![
        #[cfg(feature = "consul")]
        ("consul", "v1", |address| {
            Box::new(liveprops::sources::Consul::prefix("app").address(address))
        }),
        #[cfg(feature = "etcd")]
        ("etcd", "v3", |address| {
            Box::new(liveprops::sources::Etcd::prefix("app").address(address))
        }),
    ]
}

fn error(source: &dyn Source) -> String {
    match source.load() {
        Ok(document) => panic!("{document:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_address_with_a_path_of_the_api_is_rejected_with_the_remedy() {
    for (store, version, at) in stores() {
        for path in [
            format!("/{version}"),
            format!("/{version}/"),
            format!("/{version}/kv"),
            format!("/{version}/kv/app?recurse"),
            format!("/proxy/{version}/kv/"),
        ] {
            let error = error(&*at(&format!("http://127.0.0.1:1{path}")));
            let remedy = format!("end the address before `/{version}`");
            assert!(error.contains(&remedy), "{store}: {error}");
            assert!(error.contains("http://127.0.0.1:1/"), "{error}");
        }
        for path in ["", "/", "/proxy", &format!("/{version}x"), "/a/kv"] {
            let error = error(&*at(&format!("http://127.0.0.1:1{path}")));
            assert!(!error.contains("end the address"), "{path}: {error}");
        }
    }
}

#[test]
fn the_error_of_an_unknown_scheme_names_the_address_and_the_known_schemes() {
    for (_, _, at) in stores() {
        for (address, shown) in [
            ("htp://127.0.0.1:8500", "htp://127.0.0.1:8500"),
            ("file:///etc", "file://"),
            ("127.0.0.1:8500", "127.0.0.1:8500"),
        ] {
            let error = error(&*at(address));
            assert!(error.contains(shown), "{error}");
            assert!(
                error.contains("`https` and `http`") || error.contains("no scheme"),
                "{error}"
            );
            assert!(!error.contains("`file"), "{error}");
        }
        for address in [
            "htp://me:s3cret@h",
            "me:s3cret@h:1",
            "me:s3cret",
            "htp://h/?s3cret",
        ] {
            let error = error(&*at(address));
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
