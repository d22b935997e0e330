//! Random structs whose fields serde buffers: their values and errors are those of a plain struct.

use std::cell::Cell;
use std::fmt::Debug;

use serde::Deserializer;

use super::*;

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Two {
    v: u8,
    w: u8,
}

#[derive(Debug, Deserialize)]
struct Marker;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)] // only decoded
enum Step {
    One,
    Slow { every: Duration },
    Many(u8),
}

macro_rules! kinds {
    ($($t:ty),* $(,)?) => {
        const KINDS: &[&str] = &[$(stringify!($t)),*];

        /// Reads a value of one of these types, and shows it.
        fn read_as<'de, D: Deserializer<'de>>(kind: usize, de: D) -> Result<String, D::Error> {
            let mut rest = kind;
            $(
                if rest == 0 {
                    return <$t>::deserialize(de).map(|value| format!("{value:?}"));
                }
                rest = rest.wrapping_sub(1);
            )*
            unreachable!("{rest}")
        }
    };
}

kinds! {
    u8, Vec<u16>, bool, String, (u8, String), BTreeMap<String, u32>, Mode, Vec<Mode>, Step, Vec<Step>,
    Duration, Vec<String>, Marker, Two, Option<u8>, (String, u8), BTreeMap<String, String>, Vec<Two>,
    char, f64, IpAddr, Vec<Option<u8>>, BTreeMap<u8, bool>,
}

thread_local! {
    static CHOSEN: Cell<[usize; 4]> = const { Cell::new([0; 4]) };
}

/// A field of a type that the test chooses.
struct Field<const AT: usize>(String);

impl<const AT: usize> Debug for Field<AT> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de, const AT: usize> Deserialize<'de> for Field<AT> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        read_as(CHOSEN.get()[AT], de).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Four {
    a: Field<0>,
    b: Field<1>,
    c: Field<2>,
    d: Field<3>,
}

#[derive(Debug, Deserialize)]
struct Flat {
    #[serde(flatten)]
    inner: Four,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "k")]
enum Tagged {
    A(Four),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Untagged {
    X(Four),
    Y { zzz: u8 },
}

fn inputs() -> Vec<Value> {
    let mut inputs: Vec<Value> = [
        "",
        "x",
        "1",
        "5",
        "0x5",
        "1, 5",
        "x, a",
        "5, x",
        "a=1",
        "a=x",
        "300",
        "on",
        "maybe",
        "30s",
        "fast",
        "one",
        "FAST",
        "{one={}}",
        "{slow={every=1s}}",
        "{}",
        "[fast, one]",
        "fast,slow",
        "{v=1, w=5}",
        "v=1",
        "1=on",
        "[1, null]",
        "::1",
        "[{v=1,w=1}]",
    ]
    .map(Value::from)
    .to_vec();
    inputs.extend([1, 5, 300, -1].map(Value::from));
    inputs.extend([5.0, 1.5].map(Value::from));
    inputs.extend([true, false].map(Value::from));
    inputs.extend([
        Value::from(vec!["1", "5"]),
        Value::from(vec![1, 5]),
        Value::from(vec![1]),
        Value::from(vec![300, 5]),
        Value::from(vec![Value::from(5), "x".into()]),
        Value::from(vec![Value::from("x"), "a".into()]),
        Value::from(vec![Value::from(1), Value::Unset]),
        Value::from(vec!["fast", "one"]),
        Value::from(vec!["fast"]),
        Value::from(vec!["one"]),
        table([]),
        table([("a", "x".into())]),
        table([("a", 1.into())]),
        table([("a", "1".into()), ("b", "x".into())]),
        table([("one", table([]))]),
        table([("slow", table([("every", "1s".into())]))]),
        table([("slow", table([("every", "x".into())]))]),
        table([("many", "5".into())]),
        table([("v", 1.into()), ("w", "5".into())]),
        table([("0", "1".into()), ("1", "5".into())]),
        Value::from(vec![table([("v", 1.into()), ("w", "5".into())])]),
        Value::from(vec![table([("many", "300".into())]), "one".into()]),
    ]);
    inputs
}

/// What a type reads: the value, or the keys of the errors.
fn outcome<T: Debug>(read: Result<T, Error>) -> Result<String, BTreeSet<String>> {
    let keys = |error| keys(&error).into_iter().collect();
    read.map(|value| format!("{value:?}")).map_err(keys)
}

/// The inputs that each type reads in a field that serde does not buffer.
fn readable(inputs: &[Value]) -> Vec<Vec<Value>> {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct One {
        a: Field<0>,
    }
    let of_kind = |kind| {
        CHOSEN.set([kind; 4]);
        let is_good = |input: &&Value| bind::<One>(&[("a", (*input).clone())]).is_ok();
        inputs.iter().filter(is_good).cloned().collect()
    };
    (0..KINDS.len()).map(of_kind).collect()
}

#[test]
fn random_structs_read_and_fail_alike_with_and_without_a_buffer() {
    let inputs = inputs();
    let readable = readable(&inputs);
    let mut state = 77_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % below
    };
    for _ in 0..400 {
        let chosen = [(); 4].map(|()| next(KINDS.len()));
        CHOSEN.set(chosen);
        let bad = [20, 50, 0][next(3)];
        let values = chosen.map(|kind| {
            let all = if next(100) < bad {
                &inputs
            } else {
                &readable[kind]
            };
            all[next(all.len())].clone()
        });
        // serde's buffer accepts the list of the fields of a struct.
        let is_list_of_fields = chosen.iter().zip(&values).any(|(kind, value)| {
            matches!(KINDS[*kind], "Two" | "Duration") && matches!(value, Value::List(_))
        });
        if is_list_of_fields {
            continue;
        }
        let mut entries = vec![("k", Value::from("A"))];
        entries.extend(["a", "b", "c", "d"].into_iter().zip(values));
        let plain = outcome(bind::<Four>(&entries));
        let untagged = bind::<Untagged>(&entries).map(|it| match it {
            Untagged::X(it) => it,
            Untagged::Y { .. } => unreachable!(),
        });
        let context = format!("{:?} <- {entries:?}", chosen.map(|kind| KINDS[kind]));
        // An untagged enum does not tell which of its values are bad.
        assert_eq!(outcome(untagged).ok(), plain.clone().ok(), "{context}");
        let flat = bind::<Flat>(&entries).map(|it| it.inner);
        let tagged = bind::<Tagged>(&entries).map(|Tagged::A(it)| it);
        for buffered in [flat, tagged] {
            let shown = buffered.as_ref().err().map(ToString::to_string);
            let buffered = outcome(buffered);
            let context = format!("{context}: {plain:?}, {buffered:?}, {shown:?}");
            let (plain, keys) = match (&plain, &buffered) {
                (Err(plain), Err(keys)) => (plain, keys),
                (plain, buffered) => {
                    assert_eq!(plain, buffered, "{context}");
                    continue;
                }
            };
            // A value may be bad as a whole, or one of its items is.
            let is_named = |key: &String, by: &BTreeSet<String>| {
                let mut by = by.iter();
                by.any(|at| key::under(key, at) || key::under(at, key))
            };
            assert!(plain.iter().all(|key| is_named(key, keys)), "{context}");
            assert!(keys.iter().all(|key| is_named(key, plain)), "{context}");
        }
    }
}
