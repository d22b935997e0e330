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

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(dead_code)] // only decoded
enum Kind {
    Disk { size: u8, label: String },
    Net { port: u16 },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum NumberOrText {
    Number(u32),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Triple(u8, String, bool);

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
    char, f64, IpAddr, Vec<Option<u8>>, BTreeMap<u8, bool>, Vec<Vec<u8>>, Option<Two>, ByteSize, ((u8, u8), String),
    NonZeroU32, BTreeMap<String, Two>, BTreeMap<String, Vec<u8>>, Kind, Vec<Kind>, Secret<u32>, Vec<(u8, String)>,
    Value, NumberOrText, Vec<NumberOrText>, Triple, BTreeSet<u8>, Vec<Duration>,
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
        "", "x", "1", "5", "0x5", "1, 5", "x, a", "5, x", "a=1", "a=x", "300", "on", "maybe", "30s",
        "fast", "one", "FAST", "{one={}}", "{slow={every=1s}}", "{}", "[fast, one]", "fast,slow",
        "{v=1, w=5}", "v=1", "1=on", "[1, null]", "::1", "[{v=1,w=1}]",
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
        table([("kind", "disk".into()), ("size", "5".into()), ("label", "x".into())]),
        table([("kind", "disk".into()), ("size", "x".into()), ("label", 5.into())]),
        table([("kind", "net".into()), ("port", "x".into())]),
        table([("kind", "nix".into())]),
        Value::from(vec![table([("kind", "net".into()), ("port", "5".into())])]),
        Value::from(vec![table([("kind", "net".into()), ("port", "x".into())]), table([("kind", "disk".into())])]),
        "1, x, on".into(), "1, x, maybe".into(), "[[1, 5], x]".into(), "[[1, 5], [300]]".into(), "5kB".into(), "0".into(),
        table([("p", table([("v", 1.into()), ("w", "5".into())]))]),
        table([("p", table([("v", 1.into()), ("w", "300".into())])), ("q", table([]))]),
        table([("p", "1,5".into())]), table([("p", "1,x".into())]),
        Value::from(vec!["1, x", "x, x"]),
        Value::from(vec!["5s", "x", "6"]),
        table([("v", 1.into()), ("w", "5".into())]),
        table([("0", "1".into()), ("1", "5".into())]),
        Value::from(vec![table([("v", 1.into()), ("w", "5".into())])]),
        Value::from(vec![table([("many", "300".into())]), "one".into()]),
    ]);
    inputs
}

/// What a type reads: the value, or the keys of the errors.
fn outcome<T: Debug>(read: Result<T, Error>) -> Result<String, BTreeSet<String>> {
    read.map(|value| format!("{value:?}")).map_err(|error| keys(&error).into_iter().collect())
}

#[test]
fn traced() {
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct In { d: Kind }
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct F { #[serde(flatten)] x: In }
    println!("{:?}", bind::<F>(&[("d", table([("v", 1.into())]))]).map_err(|e| e.to_string()));
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum U<T> { X { a: T }, Y { zzz: u8 } }
    println!("{:?}", bind::<U<((u8, u8), String)>>(&[("a", "[[1, 5], [300]]".into())]).map_err(|e| e.to_string()));
}

#[test]
fn random() {
    let inputs = inputs();
    let arg = |name: &str, or: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(or);
    let mut state: u64 = arg("SEED", 1);
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % below
    };
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct One { a: Field<0> }
    let good: Vec<Vec<usize>> = (0..KINDS.len()).map(|kind| {
        CHOSEN.set([kind; 4]);
        (0..inputs.len()).filter(|at| bind::<One>(&[("a", inputs[*at].clone())]).is_ok()).collect()
    }).collect();
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut shown = BTreeMap::<&str, usize>::new();
    let limit = arg("SHOW", 12) as usize;
    for _ in 0..arg("COUNT", 3000) {
        let chosen = [(); 4].map(|()| next(KINDS.len()));
        CHOSEN.set(chosen);
        let bad = [20, 50, 0][next(3)];
        let values = chosen.map(|kind| {
            if next(100) < bad {
                inputs[next(inputs.len())].clone()
            } else {
                inputs[good[kind][next(good[kind].len())]].clone()
            }
        });
        let is_documented = chosen.iter().zip(&values).any(|(kind, value)| {
            matches!(KINDS[*kind], "Two" | "Duration") && matches!(value, Value::List(_))
        });
        if is_documented { continue; }
        let mut entries = vec![("k", Value::from("A"))];
        entries.extend(["a", "b", "c", "d"].into_iter().zip(values.clone()));
        let plain = outcome(bind::<Four>(&entries));
        let flat_read = bind::<Flat>(&entries);
        let text = flat_read.as_ref().err().map(|e| e.to_string()).unwrap_or_default();
        let note = text.contains("more values");
        if note { *counts.entry("notes").or_default() += 1; }
        if note && plain.as_ref().is_err_and(|it| bind::<Flat>(&entries).is_err_and(|e| keys(&e).len() == it.len())) {
            *counts.entry("needless notes").or_default() += 1;
            if counts["needless notes"] < 6 { println!("needless note: {text} {chosen:?} {values:?}"); }
        }

        let flat = outcome(flat_read.map(|it| it.inner));
        let tagged = outcome(bind::<Tagged>(&entries).map(|Tagged::A(it)| it));
        let untagged = outcome(bind::<Untagged>(&entries).map(|it| match it {
            Untagged::X(it) => it,
            Untagged::Y { .. } => panic!(),
        }));
        let mut report = |what: &'static str, got: &dyn Debug| {
            *counts.entry(what).or_default() += 1;
            if what.contains("differs") { return; }
            let shown = shown.entry(what).or_default();
            *shown += 1;
            if *shown > limit { return; }
            println!("{what}: ");
            for (at, kind) in chosen.iter().enumerate() {
                println!("   {}: {} <- {:?}", ["a", "b", "c", "d"][at], KINDS[*kind], values[at].to_string());
            }
            println!("   plain {plain:?}\n   got   {got:?}");
            if what.starts_with("flat") { println!("   {text}"); }
        };
        match (&plain, &untagged) {
            (Ok(p), Ok(u)) => if p != u { report("untagged other", u) },
            (Ok(_), Err(u)) => report("untagged rejected", u),
            (Err(_), Ok(u)) => report("untagged accepted", u),
            _ => {}
        }
        for (name, read) in [("flat", &flat), ("tagged", &tagged)] {
            let w = |s: &str| -> &'static str { Box::leak(format!("{name} {s}").into_boxed_str()) };
            let covers = |above: &String, key: &String| crate::value::key::under(key, above) || crate::value::key::under(above, key);
            match (&plain, read) {
                (Ok(p), Ok(f)) => if p != f { report(w("other"), f) },
                (Ok(_), Err(f)) => report(w("rejected"), f),
                (Err(_), Ok(f)) => report(w("accepted"), f),
                (Err(p), Err(f)) if p != f => {
                    let omitted = p.iter().any(|key| !f.iter().any(|at| covers(at, key)));
                    let named = f.iter().any(|key| !p.iter().any(|at| covers(at, key)));
                    if omitted { report(w(if note { "omitted with note" } else { "omitted" }), f) }
                    else if named { report(w("names a good one"), f) }
                    else { report(w("differs"), f) }
                }
                _ => {}
            }
        }
    }
    println!("{counts:?}");
}
