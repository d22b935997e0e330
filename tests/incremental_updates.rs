//! A tree updated step by step equals one built from scratch.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap};

use liveprops::sources::Memory;
use liveprops::{ErrorKind, Key, Layer, Properties, Value};
use support::Random;

fn odd(rng: &mut Random) -> String {
    const PARTS: &[&str] = &[
        "a",
        "b",
        "ab",
        "abcdefg",
        "abcdefgh",
        "abcdefghi",
        "0",
        "12",
        "&",
        "*",
        "\u{e9}",
        "\u{a2}",
        "\u{6a6}x",
        "\u{1f600}",
        "A",
        " ",
        "\t",
        "\0",
        "\\",
        "-",
        "/",
        "-x",
    ];
    let mut text = String::new();
    for _ in 0..1 + rng.index(3) {
        text.push_str(PARTS[rng.index(PARTS.len())]);
    }
    text
}

#[test]
fn odd_keys_read_as_the_model_predicts() {
    for seed in 1..60u64 {
        let mut rng = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut model: HashMap<Vec<String>, i64> = HashMap::new();
        let memory = Memory::new();
        let names: Vec<String> = (0..8)
            .map(|_| odd(&mut rng))
            .chain([
                "".into(),
                "x.y".into(),
                "q\"".into(),
                "a".into(),
                ".".into(),
            ])
            .collect();
        let path = |rng: &mut Random| -> Vec<String> {
            (0..1 + rng.index(3))
                .map(|_| names[rng.index(names.len())].clone())
                .collect()
        };
        for n in 0..40 {
            let path = path(&mut rng);
            let key = Key::from_segments(&path).unwrap();
            let clash = model
                .keys()
                .any(|k| k != &path && (k.starts_with(&path) || path.starts_with(k)));
            match memory.set(key.as_str(), n) {
                Ok(()) => {
                    assert!(!clash, "{key}");
                    model.insert(path, n);
                }
                Err(_) => assert!(clash, "{key}"),
            }
        }
        let props = Properties::builder()
            .source(memory.clone())
            .build()
            .unwrap();
        let mut handles = Vec::new();
        for (path, n) in &model {
            let key = Key::from_segments(path).unwrap();
            assert_eq!(props.get::<i64>(key.as_str()).unwrap(), *n, "{key}");
            assert_eq!(props.get_or::<i64>(key.as_str(), -1), *n, "{key}");
            assert_eq!(
                props.get::<Value>(key.as_str()).unwrap(),
                Value::from(*n),
                "{key}"
            );
            let h = props.property::<i64>(key.as_str()).build().unwrap();
            assert_eq!(h.get(), *n);
            handles.push((key, h));
        }
        for _ in 0..400 {
            // A text in an arbitrary spelling.
            let mut text = String::new();
            for i in 0..rng.index(4) {
                if i > 0 || rng.index(12) == 0 {
                    text.push('.');
                }
                let name = &names[rng.index(names.len())];
                match rng.index(3) {
                    0 => text.push_str(Key::from_segments([name]).unwrap().as_str()),
                    1 => text.push_str(&format!(
                        "\"{}\"",
                        name.replace('\\', "\\\\").replace('"', "\\\"")
                    )),
                    _ => text.push_str(name),
                }
                if rng.index(15) == 0 {
                    text.push('.');
                }
            }
            let want = Key::parse(&text).map(|key| {
                let path: Vec<String> = key.segments().map(|s| s.into_owned()).collect();
                (
                    model.get(&path).copied(),
                    model.keys().any(|k| k.starts_with(&path)),
                )
            });
            let got = props.get_opt::<i64>(&text);
            let slow = props.get_opt::<Value>(&text);
            let must = props.get::<i64>(&text);
            match want {
                Err(e) => {
                    let g = got.unwrap_err();
                    assert_eq!(
                        (g.kind(), g.to_string()),
                        (e.kind(), e.to_string()),
                        "{text}"
                    );
                    assert_eq!(must.unwrap_err().to_string(), e.to_string(), "{text}");
                    assert_eq!(slow.unwrap_err().kind(), e.kind(), "{text}");
                }
                Ok((Some(n), _)) => {
                    assert_eq!(got.unwrap(), Some(n), "{text}");
                    assert_eq!(must.unwrap(), n);
                    assert_eq!(slow.unwrap(), Some(Value::from(n)));
                }
                Ok((None, false)) => {
                    assert_eq!(got.unwrap(), None, "{text}");
                    assert_eq!(must.unwrap_err().kind(), ErrorKind::NotFound, "{text}");
                    assert!(!props.snapshot().contains(&text));
                }
                Ok((None, true)) => {
                    assert_eq!(got.unwrap_err().kind(), ErrorKind::Mismatch, "{text}");
                    assert!(props.snapshot().contains(&text));
                }
            }
        }
        for (n, (key, h)) in handles.iter().enumerate() {
            memory.set(key.as_str(), 1000 + n as i64).unwrap();
            assert_eq!(h.get(), 1000 + n as i64, "{key}");
            memory.remove(key.as_str()).unwrap_err();
            assert_eq!(h.get(), 1000 + n as i64, "{key}");
            assert_eq!(
                props.get::<i64>(key.as_str()).unwrap(),
                1000 + n as i64,
                "{key}"
            );
        }
    }
}

fn value(rng: &mut Random, keys: &[String]) -> Value {
    match rng.index(12) {
        0 => Value::Unset,
        1 => Value::Table(Default::default()),
        2 => Value::from(BTreeMap::from([
            ("x", Value::from(rng.index(4) as i64)),
            (
                "y",
                Value::from(format!("${{{}}}", keys[rng.index(keys.len())])),
            ),
        ])),
        3 => Value::from(BTreeMap::from([
            ("x", Value::Unset),
            ("k1", Value::from(2)),
        ])),
        4 | 5 => Value::List((0..rng.index(3)).map(|i| Value::from(i as i64)).collect()),
        6 => Value::from("p,q"),
        7 => Value::from(format!("${{{}}}", keys[rng.index(keys.len())])),
        8 => Value::from(format!("<${{{}:dflt}}>", keys[rng.index(keys.len())])),
        _ => Value::from(rng.index(5) as i64),
    }
}

fn explanations(props: &Properties, keys: &[String]) -> Vec<String> {
    let snap = props.snapshot();
    let mut all: Vec<String> = snap.keys().iter().map(|k| k.to_string()).collect();
    for key in keys
        .iter()
        .map(String::as_str)
        .chain(["t", "t.u", "l.0", "t.u.x.0"])
    {
        let read = match snap.get::<Value>(key) {
            Ok(v) => format!("{v:?}"),
            Err(e) => format!("{:?}", e.kind()),
        };
        let ex = snap.explain(key);
        all.push(format!(
            "{key} = {read} {:?} {} {} {:?}",
            ex.value,
            snap.contains(key),
            ex.origin.map(|o| o.to_string()).unwrap_or_default(),
            ex.layers
                .iter()
                .map(|l| (l.name.clone(), format!("{:?}", l.value), l.wins))
                .collect::<Vec<_>>()
        ));
    }
    all
}

#[test]
fn an_incremental_tree_equals_one_built_from_scratch() {
    std::thread::scope(|scope| {
        for first in 0..2 {
            scope.spawn(move || (1..150).skip(first).step_by(2).for_each(change_at_random));
        }
    });
}

fn change_at_random(seed: u64) {
    let mut rng = Random(seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1);
    let mut keys: Vec<String> = [
        "t",
        "t.u",
        "l",
        "t.l",
        "t.u.x",
        "t.u.y",
        "t.u.l",
        "\"d.o\".t",
        "t.k1",
        "l.0",
        "t.x",
    ]
    .iter()
    .map(|s| s.to_string())
    .collect();
    keys.extend((0..rng.index(60)).map(|i| format!("t.u.k{i}")));
    let memories: Vec<Memory> = (0..4).map(|i| Memory::named(&format!("m{i}"))).collect();
    let ranks: Vec<i32> = (0..4).map(|_| [10, 500, 900][rng.index(3)]).collect();
    let append = rng.index(2) == 0;
    let build = |live: &[bool], ranks: &[i32]| {
        let mut b = Properties::builder().inline_callbacks();
        if append {
            b = b.append("l").append("t.l").append("t.u.l");
        }
        for i in 0..4 {
            if live[i] {
                b = b.source_in(Layer::new("g", ranks[i]), memories[i].clone());
            }
        }
        b.validate(|t| {
            if t.get_opt::<i64>("t.x").ok().flatten() == Some(3) {
                Err("three".into())
            } else {
                Ok(())
            }
        })
        .build()
    };
    let live = [true; 4];
    let Ok(props) = build(&live, &ranks) else {
        return;
    };
    let h = props.property::<Option<Value>>("t.u").build();
    let hl = props.property::<Option<Value>>("t.l").build();
    for step in 0..60 {
        let m = rng.index(4);
        let key = &keys[rng.index(keys.len())];
        match rng.index(20) {
            0 => {
                let all: Vec<(String, Value)> = (0..rng.index(6))
                    .map(|_| {
                        let k = keys[rng.index(keys.len())].clone();
                        let v = value(&mut rng, &keys);
                        (k, v)
                    })
                    .collect();
                let _ = memories[m].replace(all);
            }
            1 => {
                let _ = memories[m].remove("");
            }
            2..=6 => {
                let _ = memories[m].remove(key);
            }
            _ => {
                let v = value(&mut rng, &keys);
                let _ = memories[m].set(key, v);
            }
        }
        let rebuilt = build(&live, &ranks).expect("what is left is acceptable");
        assert_eq!(
            explanations(&props, &keys),
            explanations(&rebuilt, &keys),
            "seed {seed} step {step}"
        );
        if let Ok(h) = &h {
            assert_eq!(
                h.get(),
                rebuilt.get_opt::<Value>("t.u").unwrap_or_else(|_| h.get()),
                "seed {seed} step {step}"
            );
        }
        // With an unresolved reference the handle keeps its value and origin.
        let list = rebuilt.get_opt::<Value>("t.l");
        if let (Ok(h), Ok(list)) = (&hl, list) {
            assert_eq!(h.get(), list, "seed {seed} step {step}");
            assert_eq!(
                h.versioned().origin().map(|o| o.to_string()),
                rebuilt.explain("t.l").origin.map(|o| o.to_string()),
                "seed {seed} step {step}"
            );
            if let Some(layer) = h.versioned().layer() {
                let ex = rebuilt.explain("t.l");
                assert_eq!(
                    layer,
                    ex.layers.iter().find(|l| l.wins).unwrap().name,
                    "seed {seed} step {step}"
                );
            }
        }
    }
}
