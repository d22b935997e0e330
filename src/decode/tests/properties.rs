//! Properties of all values: numbers and quoted items survive, and nothing panics.

use proptest::prelude::*;

use super::*;

fn survives<T>(number: T)
where
    T: DeserializeOwned + Copy + PartialEq + std::fmt::Debug + std::fmt::Display + Into<Value>,
{
    assert_eq!(read::<T>(number).unwrap(), number);
    assert_eq!(read::<T>(number.to_string()).unwrap(), number);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Unset),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..5i64).prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\[\\]\"',=\\\\ a1.]{0,12}".prop_map(Value::from),
        "(PT|P)?[0-9._]{0,4}[a-zA-Z]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let name = prop_oneof![
            "[a-l]",
            "[0-9]{1,2}",
            "inner|list|map|kind|x|y|size|t|c|New|Pair|\\PC{0,3}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(name, inner, 0..6).prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn integers_survive(a: i128, b: u64, c: i64, d: u128) {
        survives(a);
        survives(b);
        survives(c);
        assert_eq!(read::<u128>(d).unwrap(), d);
    }

    #[test]
    fn finite_floats_survive_as_text(a: f64) {
        prop_assume!(a.is_finite());
        assert_eq!(read::<f64>(format!("{a:?}")).unwrap(), a);
    }

    #[test]
    fn quoted_items_survive(items: Vec<String>) {
        let quote = |s: &String| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
        let quoted: Vec<_> = items.iter().map(quote).collect();
        assert_eq!(read::<Vec<String>>(quoted.join(", ")).unwrap(), items.clone());
        assert_eq!(read::<Vec<String>>(format!("[{}]", quoted.join(","))).unwrap(), items);
    }

    #[test]
    fn nothing_panics(value in any_value()) {
        fn go<T: DeserializeOwned>(value: &Value) {
            drop(from_value::<T>("k", value, &origin(), false));
            drop(from_node::<T>("k", Some(&Node::of(value.clone(), &origin())), false));
            drop(from_node::<Secret<T>>("k", Some(&Node::of(value.clone(), &origin())), true));
        }
        go::<u8>(&value);
        go::<f32>(&value);
        go::<String>(&value);
        go::<char>(&value);
        go::<Duration>(&value);
        go::<ByteSize>(&value);
        go::<IpAddr>(&value);
        go::<Vec<u32>>(&value);
        go::<(u8, String, bool)>(&value);
        go::<HashMap<String, Vec<u8>>>(&value);
        go::<BTreeMap<u8, Value>>(&value);
        go::<Twelve>(&value);
        go::<Outer>(&value);
        go::<Shape>(&value);
        go::<Tagged>(&value);
        go::<Adjacent>(&value);
        go::<Untagged>(&value);
        go::<Flat>(&value);
        go::<Value>(&value);
        go::<Loud>(&value);
    }
}
