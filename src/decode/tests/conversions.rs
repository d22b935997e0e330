//! Every conversion, in a plain field and in fields that serde buffers.

use std::fmt::Debug;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Plain<T> {
    v: T,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flattened<T> {
    #[serde(flatten)]
    inner: Plain<T>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum InternallyTagged<T> {
    One { v: T },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "t", content = "c")]
enum AdjacentlyTagged<T> {
    One { v: T },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum OneUntagged<T> {
    One { v: T },
}

#[derive(Debug, Deserialize, PartialEq)]
struct Pair {
    a: u8,
    b: String,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Newtype(u16);

/// The value at `v` together with what the type needs beside it.
fn decode_with<T: DeserializeOwned>(value: &Value, beside: &[(&str, Value)]) -> Result<T, Error> {
    let mut entries = beside.to_vec();
    entries.push(("v", value.clone()));
    let fields: BTreeMap<&str, Value> = entries.into_iter().collect();
    let node = Node::of(Value::from(fields), &origin());
    from_table("", node.table(), false)
}

/// The inputs that read differently than in a plain field, as `type <- input: how`. Each differs in all
/// types that serde buffers, and in no other.
fn differences<T>(name: &str, inputs: &[Value], cells: &mut usize) -> Vec<String>
where
    T: DeserializeOwned + PartialEq + Debug,
{
    let mut differ = Vec::new();
    let (mut accepted, mut readable) = (0, 0);
    for input in inputs {
        let plain = decode_with::<Plain<T>>(input, &[])
            .map(|plain| plain.v)
            .ok();
        let flat = decode_with::<Flattened<T>>(input, &[]).map(|flat| flat.inner.v);
        let map = decode_with::<FlattenedMap<T>>(input, &[("id", 1.into())])
            .map(|mut flat| flat.rest.remove("v").unwrap());
        let tagged = decode_with::<InternallyTagged<T>>(input, &[("kind", "one".into())])
            .map(|InternallyTagged::One { v }| v);
        let content = Value::from(BTreeMap::from([("v", input.clone())]));
        let adjacent = Node::of(
            Value::from(BTreeMap::from([("t", Value::from("One")), ("c", content)])),
            &origin(),
        );
        let adjacent = from_table::<AdjacentlyTagged<T>>("", adjacent.table(), false)
            .map(|AdjacentlyTagged::One { v }| v);
        let untagged = decode_with::<OneUntagged<T>>(input, &[]).map(|OneUntagged::One { v }| v);
        let buffered = [flat, map, tagged, untagged];
        *cells += 1 + buffered.len();
        assert_eq!(adjacent.ok(), plain, "{name} <- {input}, adjacently tagged");
        let shown = |read: &Result<T, Error>| match read {
            Ok(value) => format!("{value:?}"),
            Err(_) => "an error".to_owned(),
        };
        let differs = |read: &Result<T, Error>| read.as_ref().ok() != plain.as_ref();
        let all: BTreeSet<String> = buffered.iter().map(shown).collect();
        assert_eq!(all.len(), 1, "{name} <- {input}: {buffered:?}");
        if buffered.iter().any(differs) {
            readable += usize::from(plain.is_some());
            let shown = all.into_iter().next().unwrap_or_default();
            differ.push(format!("{name} <- {input}: {shown}"));
        }
        if plain.is_some() {
            accepted += 1;
        }
    }
    // No input can be read.
    if accepted > 0 && readable == accepted && differ.len() == readable {
        return vec![format!("{name} <- any number: an error")];
    }
    differ
}

fn inputs() -> Vec<Value> {
    let mut inputs: Vec<Value> = [
        "",
        " ",
        "0",
        "1",
        " 7 ",
        "+5",
        "-1",
        "012",
        "1_000",
        "0xff",
        "256",
        "70000",
        "1.5",
        "1e3",
        "inf",
        "16777217",
        "1e39",
        "9007199254740993",
        "18446744073709551615",
        "340282366920938463463374607431768211455",
        "yes",
        "off",
        "true",
        "x",
        " x ",
        "ab",
        "30s",
        "PT1H5M",
        "10 MiB",
        "::1",
        "1,2",
        "[1, 2]",
        "[[1,2],[3]]",
        "a,\"b,c\"",
        "1=on, 2=off",
        "a=1, b=x",
        "{a=1, b=\"x\"}",
        "{\"a\": 1, \"b\": \"x\"}",
        "fast",
        "VERY-slow",
        "Unit",
        "unit",
        "new=5",
        "{",
    ]
    .map(Value::from)
    .to_vec();
    inputs.extend([0, 1, 5, -1, 300, 70_000].map(Value::from));
    inputs.extend([2.0, 1.5, 1e39, -0.0].map(Value::from));
    inputs.extend([true, false].map(Value::from));
    inputs.extend([Value::from(u64::MAX), Value::from(i128::MAX)]);
    inputs.extend([
        Value::from(vec!["1", "2"]),
        Value::from(vec![1, 2]),
        Value::from(vec![Value::from(1), "x".into()]),
        Value::from(vec!["1,2", "3"]),
        table([]),
        table([("0", "1".into()), ("1", "2".into())]),
        table([("1", "on".into()), ("2", "off".into())]),
        table([("a", "1".into()), ("b", "x".into())]),
        table([("a", "1".into()), ("b", 5.into())]),
        table([("secs", 1.into()), ("nanos", 5.into())]),
        table([("new", "5".into())]),
        table([("Pair", "1,yes".into())]),
        table([("Named", table([("width", "3".into())]))]),
        table([("Unit", Value::Unset)]),
    ]);
    inputs
}

#[test]
fn every_conversion_works_in_buffered_fields_but_for_those_documented() {
    let inputs = inputs();
    let mut cells = 0;
    let mut differ = BTreeSet::new();
    macro_rules! types {
        ($($t:ty),* $(,)?) => {$(
            differ.extend(differences::<$t>(stringify!($t), &inputs, &mut cells));
        )*};
    }
    types! {
        u8, i8, u16, i64, u64, i128, u128, f32, f64, bool, char, String, (),
        Option<u8>, Option<String>, NonZeroU32, Newtype, Duration, ByteSize, IpAddr, PathBuf,
        Vec<u8>, Vec<String>, Vec<Vec<u8>>, (u8, String), [u8; 2], BTreeSet<u8>,
        BTreeMap<u8, bool>, BTreeMap<String, String>, BTreeMap<String, u32>, Vec<Option<u8>>,
        Mode, Shape, Pair, Secret<u32>, Secret<String>, Vec<Mode>, BTreeMap<String, Duration>,
    }
    println!("{cells} cells differ: {differ:#?}");
    let documented: Vec<&str> = include_str!("../../guide/conversions.md")
        .lines()
        .filter(|line| line.contains(" <- "))
        .collect();
    assert_eq!(differ.into_iter().collect::<Vec<_>>(), documented);
}
