//! The errors of buffered values, and those that had no place.

use super::*;

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(dead_code)] // only decoded
enum Store {
    S {
        size: ByteSize,
        ttl: Duration,
        label: String,
        secret_key: Secret<String>,
    },
}

fn entries<'a>(changes: &[(&'a str, Value)]) -> Vec<(&'a str, Value)> {
    let mut entries: Vec<(&str, Value)> = vec![
        ("x.label", "l".into()),
        ("x.secret_key", "pw".into()),
        ("x.size", "3kB".into()),
        ("x.ttl", "3s".into()),
        ("x.kind", "s".into()),
    ];
    for (key, value) in changes {
        entries.retain(|(other, _)| other != key);
        entries.push((key, value.clone()));
    }
    entries
}

fn told(changes: &[(&str, Value)]) -> Vec<Error> {
    let error = bind::<BTreeMap<String, Store>>(&entries(changes)).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("pw"), "{shown}");
    error.iter().cloned().collect()
}

#[test]
fn an_error_of_a_buffered_field_names_the_field_and_its_line() {
    let list = || Value::from(vec!["a", "b"]);
    for (key, bad) in [
        ("x.size", Value::from("3k")),
        ("x.size", list()),
        ("x.ttl", 3.into()),
        ("x.ttl", "soon".into()),
        ("x.label", list()),
        ("x.secret_key", list()),
    ] {
        let errors = told(&[(key, bad.clone())]);
        assert_eq!(errors.len(), 1, "{key} {bad}: {errors:?}");
        assert_eq!(errors[0].key_text(), Some(key), "{bad}: {errors:?}");
        let origin = errors[0]
            .origin()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(origin.contains("app.toml:5:1"), "{key} {bad}: {origin}");
    }
}

#[test]
fn an_error_of_a_whole_buffered_struct_names_where_it_begins() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "BTreeMap<String, u8>")]
    struct Range;
    impl TryFrom<BTreeMap<String, u8>> for Range {
        type Error = &'static str;
        fn try_from(map: BTreeMap<String, u8>) -> Result<Self, Self::Error> {
            if map.get("from") <= map.get("to") || !map.contains_key("to") {
                Ok(Self)
            } else {
                Err("from is above to")
            }
        }
    }
    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind")]
    #[allow(dead_code)] // only decoded
    enum Holder {
        #[serde(rename = "s")]
        S { range: Range },
    }
    let entries = [
        ("x.kind", Value::from("s")),
        ("x.range.to", 1.into()),
        ("x.range.from", 2.into()),
    ];
    let error = bind::<BTreeMap<String, Holder>>(&entries).unwrap_err();
    assert_eq!(keys(&error), ["x.range"], "{error}");
    let origin = error.origin().map(ToString::to_string).unwrap_or_default();
    assert!(origin.contains("app.toml:2:1"), "{error}");
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)] // only decoded
    enum Either {
        Number(u8),
        Table { b: u8 },
    }
    let entries = [("x.b", Value::from("many")), ("x.a", "5".into())];
    let error = bind::<BTreeMap<String, Either>>(&entries).unwrap_err();
    assert_eq!(keys(&error), ["x"], "{error}");
    let shown = error.to_string();
    assert!(shown.contains("serde buffers the fields of `x`"), "{shown}");
    assert!(shown.contains("app.toml:1:1"), "{shown}");
}

#[test]
fn an_error_of_a_buffered_field_says_the_remedy() {
    for bad in [Value::from(3), "3".into()] {
        let errors = told(&[("x.ttl", bad)]);
        let shown = errors[0].to_string();
        assert!(
            shown.contains("a duration needs a unit, such as `30s`"),
            "{shown}"
        );
    }
    let mut document = document(&entries(&[]));
    for key in ["x.ttl", "x.size"] {
        let origin = Origin::new("env", "APP_X");
        document.set(key, Value::from(""), origin).unwrap();
        let error =
            from_table::<BTreeMap<String, Store>>("", Some(document.root()), false).unwrap_err();
        for error in error.iter() {
            assert!(error.to_string().contains("Env::ignore_empty"), "{error}");
        }
    }
}

#[test]
fn all_bad_buffered_fields_are_named() {
    let errors = told(&[
        ("x.size", "3k".into()),
        ("x.ttl", 3.into()),
        ("x.label", Value::from(vec!["a"])),
    ]);
    let keys: Vec<_> = errors.iter().filter_map(Error::key_text).collect();
    assert_eq!(keys, ["x.label", "x.size", "x.ttl"], "{errors:?}");
}

#[test]
fn a_table_where_a_scalar_is_wanted_names_where_it_was_written() {
    let entries = [("v.b", Value::from(1)), ("v.a", 1.into())];
    macro_rules! check {
        ($($t:ty),*) => {$(
            let error = bind::<BTreeMap<String, $t>>(&entries).unwrap_err();
            assert_eq!(keys(&error), ["v"], "{error}");
            let origin = error.origin().map(ToString::to_string).unwrap_or_default();
            assert!(origin.contains("app.toml:1:1"), "{}: {error}", stringify!($t));
        )*};
    }
    check!(
        u8,
        String,
        bool,
        char,
        f64,
        Secret<String>,
        Option<u8>,
        ByteSize
    );
}

#[test]
fn a_name_that_is_no_index_is_named_with_its_origin() {
    let error = bind::<BTreeMap<String, Vec<String>>>(&[("s.-1", "x".into())]).unwrap_err();
    assert_eq!(keys(&error), ["s"], "{error}");
    let shown = error.to_string();
    assert!(shown.contains("`-1`") && shown.contains("index"), "{shown}");
    assert!(shown.contains("app.toml:1:1"), "{shown}");
}

#[test]
fn all_broken_references_are_collected_in_one_pass() {
    thread_local! {
        static PASSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    #[derive(Debug)]
    struct Counted;
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            PASSES.set(PASSES.get() + 1);
            Value::deserialize(from).map(|_| Self)
        }
    }
    let broken = || {
        Node::Resolved(Box::new(Resolved {
            value: Err(Error::new(ErrorKind::Reference, "no such key")),
            raw: Leaf::new("${nope}".into(), origin()),
            chain: 1,
            secret: false,
            refers: Box::default(),
            fixed: false,
        }))
    };
    let mut table = Table::default();
    for at in 0..50 {
        table.put(&format!("k{at:02}"), broken());
    }
    let error = from_table::<Counted>("", Some(&table), false).unwrap_err();
    assert_eq!(error.iter().count(), 50, "{error}");
    assert!(PASSES.get() <= 3, "{} passes", PASSES.get());
}

/// The error of a flattened map of numbers of which some are no numbers.
fn flat_numbers(count: usize, is_bad: impl Fn(usize) -> bool) -> Error {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Flat {
        #[serde(flatten)]
        all: HashMap<String, u64>,
    }
    let mut document = Document::new();
    for at in 0..count {
        let value = match is_bad(at) {
            true => format!("bad {}", at % 3),
            false => at.to_string(),
        };
        let origin = Origin::new("file", "app.toml").at(at as u32 + 1, 1);
        document.set(&format!("k{at:04}"), value, origin).unwrap();
    }
    from_table::<Flat>("", Some(document.root()), false).unwrap_err()
}

#[test]
fn each_bad_number_of_a_large_flattened_map_is_named() {
    for bad in [
        vec![1_999],
        vec![0, 7, 1_500, 1_999],
        vec![0, 1, 2, 3, 4, 5, 6],
    ] {
        let error = flat_numbers(2_000, |at| bad.contains(&at));
        let named: Vec<String> = bad.iter().map(|at| format!("k{at:04}")).collect();
        let mut keys = keys(&error);
        keys.sort_unstable();
        assert_eq!(keys, named, "{error}");
        for (error, at) in error.iter().zip(0..) {
            let key = error.key_text().unwrap();
            let line: usize = key[1..].parse::<usize>().unwrap() + 1;
            let origin = error.origin().map(ToString::to_string).unwrap_or_default();
            assert!(origin.ends_with(&format!(":{line}:1")), "{at}: {error}");
            assert_eq!(error.expected(), Some("u64"), "{error}");
            assert!(error.found().unwrap().contains("bad"), "{error}");
        }
    }
}

#[test]
fn the_bad_numbers_that_are_not_named_are_counted() {
    let error = flat_numbers(300, |at| at % 2 == 0);
    assert_eq!(error.iter().count(), 100);
    assert!(error.to_string().contains("50 more values"), "{error}");
}

#[test]
fn a_search_that_ends_early_says_so() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Flat {
        #[serde(flatten)]
        all: HashMap<String, Secret<u64>>,
    }
    let names: Vec<String> = (0..1_000).map(|at| format!("k{at:04}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (&**name, "pw".into())).collect();
    let error = bind::<Flat>(&entries).unwrap_err();
    let count = error.iter().count();
    assert!((1..20).contains(&count), "{count}");
    let shown = error.to_string();
    assert!(shown.contains("more values may be bad"), "{shown}");
    assert!(!shown.contains("pw"), "{shown}");
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
#[allow(dead_code)] // only decoded
enum Shop {
    Near { port: u16, name: String },
    Far { host: String },
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Shops {
    shop: Shop,
    size: u8,
    sizes: Vec<u8>,
}

#[test]
fn behind_an_unknown_tag_the_other_bad_values_are_named_and_no_others() {
    for rest in [
        vec![("port", Value::from(1)), ("name", "n".into())],
        vec![("host", Value::from("h"))],
        vec![],
    ] {
        let shop = [("kind", Value::from("Farr"))].into_iter().chain(rest);
        let fields = [("shop", table(shop)), ("size", "q".into())];
        let node = Node::of(table(fields), &origin());
        let error = from_node::<Shops>("x", Some(&node), false).unwrap_err();
        let keys: Vec<_> = error.iter().filter_map(Error::key_text).collect();
        assert_eq!(keys, ["x.shop.kind", "x.size", "x.sizes"], "{error}");
    }
}
