//! What serde buffers reads like a plain field.

use super::*;

fn flat_map<T: DeserializeOwned>(entries: &[(&str, Value)]) -> Result<BTreeMap<String, T>, Error> {
    let mut entries = entries.to_vec();
    entries.push(("id", 1.into()));
    bind::<FlattenedMap<T>>(&entries).map(|flat| flat.rest)
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

#[test]
fn in_an_untagged_enum_text_stays_text_and_a_number_stays_a_number() {
    let list = Value::from(vec![Value::from("5"), 5.into(), "x".into()]);
    use NumberOrText::{Number, Text};
    assert_eq!(
        read::<Vec<NumberOrText>>(list.clone()).unwrap(),
        [Text("5".into()), Number(5), Text("x".into())]
    );
    // Also where a neighbour needs another form.
    let flat: BTreeMap<String, (u8, NumberOrText)> =
        flat_map(&[("a", "1,5".into()), ("b", Value::from(vec!["2", "7"]))]).unwrap();
    assert_eq!(flat["a"], (1, Text("5".into())));
    assert_eq!(flat["b"], (2, Text("7".into())));
    #[derive(Debug, Deserialize, PartialEq)]
    struct Mixed {
        a: u8,
        b: u8,
        either: NumberOrText,
        any: Value,
        list: Vec<NumberOrText>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Outer {
        #[serde(flatten)]
        mixed: Mixed,
    }
    let mixed = bind::<Outer>(&[
        ("a", "5".into()),
        ("b", "5".into()),
        ("either", "5".into()),
        ("any", "5".into()),
        ("list", list),
    ]);
    let mixed = mixed.unwrap().mixed;
    assert_eq!((mixed.a, mixed.b), (5, 5));
    assert_eq!(mixed.either, Text("5".into()));
    assert_eq!(mixed.any, "5".into());
    assert_eq!(mixed.list[..2], [Text("5".into()), Number(5)]);
}

#[test]
fn a_field_of_the_same_name_has_another_type_in_another_variant() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    enum Limit {
        Count { value: u32 },
        Name { value: String },
        Wait { value: Duration },
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Holder {
        #[serde(flatten)]
        limits: BTreeMap<String, Vec<Limit>>,
    }
    let item = |at: usize| {
        let kind = ["count", "name", "wait"][at % 3];
        let value = ["5", "5", "0"][at % 3];
        table([
            ("kind", kind.into()),
            ("value", value.into()),
            ("nr", at.to_string().into()),
        ])
    };
    let check = |limits: &[Limit]| {
        for (at, limit) in limits.iter().enumerate() {
            let expected = match at % 3 {
                0 => Limit::Count { value: 5 },
                1 => Limit::Name { value: "5".into() },
                _ => Limit::Wait {
                    value: Duration::ZERO,
                },
            };
            assert_eq!(*limit, expected, "{at}");
        }
    };
    let items: Vec<Value> = (0..60).map(item).collect();
    check(&read::<Vec<Limit>>(items.clone()).unwrap());
    let holder = bind::<Holder>(&[("a", items.clone().into()), ("b", items.into())]).unwrap();
    check(&holder.limits["a"]);
    check(&holder.limits["b"]);
}

#[test]
fn equal_values_get_the_form_that_each_type_wants() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Twins {
        a: String,
        b: u8,
        c: bool,
        d: String,
        e: Vec<u8>,
        f: char,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Holder {
        #[serde(flatten)]
        twins: Twins,
    }
    let twins = Twins {
        a: "1".into(),
        b: 1,
        c: true,
        d: "1".into(),
        e: vec![1],
        f: '1',
    };
    for one in [Value::from("1"), 1.into()] {
        let mut entries: Vec<_> = ["a", "b", "d", "f"].map(|name| (name, one.clone())).into();
        entries.extend([("c", "1".into()), ("e", "1".into())]);
        assert_eq!(bind::<Holder>(&entries).unwrap().twins, twins, "{one}");
    }
}

#[test]
fn a_key_of_a_buffered_map_is_read_as_its_type() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Holder {
        id: u8,
        #[serde(flatten)]
        rest: BTreeMap<u16, u32>,
    }
    let holder = bind::<Holder>(&text(&[("id", "1"), ("7", "70"), ("8", "8")])).unwrap();
    assert_eq!(holder.rest, BTreeMap::from([(7, 70), (8, 8)]));
    let error = bind::<Holder>(&text(&[("id", "1"), ("7", "70"), ("x", "8")])).unwrap_err();
    assert_eq!(keys(&error), ["x"], "{error}");
    let modes = flat_map::<HashMap<Mode, u8>>(&[("m", "FAST=1".into())]).unwrap();
    assert_eq!(modes["m"][&Mode::Fast], 1);
}

#[test]
fn the_tag_of_an_enum_may_differ_in_case() {
    let disk: Tagged = bind(&text(&[("kind", "DISK"), ("size", "5"), ("label", "5")])).unwrap();
    assert_eq!(
        disk,
        Tagged::Disk {
            size: 5,
            label: "5".into()
        }
    );
}

#[test]
fn the_error_of_a_buffered_value_names_its_key_and_its_origin() {
    let good = |at: usize| {
        (
            Box::leak(format!("k{at}").into_boxed_str()) as &str,
            "5".into(),
        )
    };
    let mut entries: Vec<(&str, Value)> = (0..5).map(good).collect();
    entries.push(("bad", "many".into()));
    entries.push(("worse", "300".into()));
    let error = flat_map::<u8>(&entries).unwrap_err();
    assert_eq!(keys(&error), ["bad", "worse"]);
    for error in error.iter() {
        assert!(
            error
                .origin()
                .is_some_and(|at| at.to_string().contains("app.toml")),
            "{error}"
        );
        assert!(error.to_string().contains("serde buffers"), "{error}");
    }
    // Both are wrong alike, and each is named.
    let error = flat_map::<u8>(&[("a", "many".into()), ("b", "many".into())]).unwrap_err();
    assert_eq!(keys(&error), ["a", "b"], "{error}");
    let error = bind::<Untagged>(&[("from", "x".into())]).unwrap_err();
    assert!(error.origin().is_some(), "{error}");
    assert!(error.to_string().contains("serde buffers"), "{error}");
    let error = bind::<BTreeMap<String, Untagged>>(&[("u.from", "x".into())]).unwrap_err();
    assert_eq!(error.key_text(), Some("u"));
    assert!(error.origin().is_some(), "{error}");
}

#[test]
fn a_buffered_secret_is_read_like_a_plain_one_and_never_shown() {
    let secrets = flat_map::<Secret<u32>>(&text(&[("a", "5"), ("b", "6")])).unwrap();
    assert_eq!(*secrets["b"].expose(), 6);
    let error = flat_map::<Secret<u32>>(&text(&[("a", "5"), ("b", "hunter2")])).unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn hundreds_of_buffered_values_are_read_in_passes_that_depend_on_the_type_only() {
    let names: Vec<String> = (0..1000).map(|at| format!("key{at}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), Value::from("7")))
        .collect();
    assert_eq!(flat_map::<u32>(&entries).unwrap().len(), 1000);
    let disk = |at: usize| {
        table([
            ("kind", "disk".into()),
            ("size", at.to_string().into()),
            ("label", "5".into()),
        ])
    };
    let disks: Vec<Value> = (0..1000).map(disk).collect();
    assert_eq!(read::<Vec<Tagged>>(disks.clone()).unwrap().len(), 1000);
    let lists = flat_map::<Vec<Tagged>>(&[("x", disks.into())]).unwrap();
    assert_eq!(lists["x"].len(), 1000);
    let range = table([("from", "1".into()), ("to", "2".into())]);
    let ranges = read::<Vec<Untagged>>(vec![range; 1000]).unwrap();
    assert_eq!(ranges[999], Untagged::Range { from: 1, to: 2 });
}

/// Three variants that want the same texts in different forms.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Disagreeing {
    Numbers { a: u32, x: u32 },
    Switch { a: bool, z: u32 },
    Named { a: String, w: u32 },
}

#[test]
fn a_variant_of_an_untagged_enum_keeps_its_conversions_when_an_earlier_one_disagrees() {
    use Disagreeing::{Named, Numbers, Switch};
    let switch = [table([("a", "yes".into()), ("z", "1".into())])];
    let number = table([("a", "yes".into()), ("z", 1.into())]);
    let item = |a: &str, name: &str| table([("a", a.into()), (name, "1".into())]);
    assert_eq!(
        bind::<Disagreeing>(&[("a", "yes".into()), ("z", "1".into())]).unwrap(),
        Switch { a: true, z: 1 }
    );
    assert_eq!(
        read::<Vec<Disagreeing>>(switch.to_vec()).unwrap(),
        [Switch { a: true, z: 1 }]
    );
    let read = read::<Vec<Disagreeing>>(vec![
        item("yes", "z"),
        number,
        item("1", "x"),
        item("1", "z"),
        item("yes", "w"),
        item("1", "w"),
        item("off", "z"),
    ]);
    let named = |a: &str| Named {
        a: a.to_owned(),
        w: 1,
    };
    assert_eq!(
        read.unwrap(),
        [
            Switch { a: true, z: 1 },
            Switch { a: true, z: 1 },
            Numbers { a: 1, x: 1 },
            Switch { a: true, z: 1 },
            named("yes"),
            named("1"),
            Switch { a: false, z: 1 },
        ]
    );
}

#[test]
fn a_form_that_two_variants_want_is_tried_for_both() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Either {
        First { a: bool, x: u32 },
        Second { a: u32, z: u32 },
        Third { a: bool, w: u32 },
    }
    let third = bind::<Either>(&text(&[("a", "1"), ("w", "1")])).unwrap();
    assert_eq!(third, Either::Third { a: true, w: 1 });
    // The earlier variant is taken where both can be read.
    let second = bind::<Either>(&text(&[("a", "1"), ("w", "1"), ("z", "2")])).unwrap();
    assert_eq!(second, Either::Second { a: 1, z: 2 });
    let first = bind::<Either>(&text(&[("a", "1"), ("x", "1"), ("w", "2")])).unwrap();
    assert_eq!(first, Either::First { a: true, x: 1 });
    let items = vec![table([("a", "1".into()), ("w", "1".into())]); 40];
    let all = read::<Vec<Either>>(items).unwrap();
    assert!(
        all.iter()
            .all(|one| *one == Either::Third { a: true, w: 1 })
    );
    let error = bind::<Either>(&text(&[("a", "1"), ("w", "many")])).unwrap_err();
    assert!(error.to_string().contains("serde buffers"), "{error}");
}
