//! The cost of each operation grows no faster than its input.
//!
//! Each case uses the best of several times for one size and for four times that size. Linear work
//! needs four times as long, quadratic work sixteen times. The cases measure the processor time of
//! this program. Other programs only increase it, by evicting caches. So a case that exceeds its
//! limit is measured again, up to a number of attempts.
//!
//! `GROWTH_SCALE=8` multiplies all sizes. `--nocapture` shows the times of each case.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cpu_time::ProcessTime;
use liveprops::sources::{Args, Env, Memory};
use liveprops::{
    Document, Error, Origin, Properties, RejectionScope, Schema, Secret, Source, Value, Watching,
};

/// The factor between the two sizes.
const FACTOR: usize = 4;
/// More than four for the logarithms of maps, and for caches; far below the sixteen of a square.
const LIMIT: f64 = 7.0;
/// A case below this factor is not measured again.
const GOOD: f64 = 5.5;
/// How often a case above the limit is measured again.
const ATTEMPTS: usize = 12;

fn scale() -> usize {
    let scale = std::env::var("GROWTH_SCALE").ok();
    scale.and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// The size of the smaller document.
const PARSED: usize = 16 << 10;

/// One test at a time: each uses a whole core.
static ALONE: Mutex<()> = Mutex::new(());

/// Measures the closure that `prepare` returns, for `size` and for four times `size`.
#[track_caller]
fn grows_linearly<R>(what: &str, size: usize, prepare: impl Fn(usize) -> R)
where
    R: FnOnce(),
{
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let size = size * scale();
    let time = |size: usize| {
        let run = prepare(size);
        let begun = ProcessTime::now();
        run();
        begun.elapsed()
    };
    let (mut small, mut large) = (Duration::MAX, Duration::MAX);
    let mut ratio = f64::INFINITY;
    for attempt in 0..ATTEMPTS {
        small = (0..2).map(|_| time(size)).min().unwrap().min(small);
        large = time(size * FACTOR).min(large);
        ratio = large.as_secs_f64() / small.as_secs_f64();
        if ratio < GOOD && attempt > 0 {
            break;
        }
    }
    println!(
        "{what}: {size}: {small:.1?}, {}: {large:.1?}, {ratio:.1} times",
        size * FACTOR
    );
    assert!(
        ratio < LIMIT,
        "{what}: {ratio:.1} times as long for {FACTOR} times as much"
    );
}

fn keys(count: usize) -> Vec<String> {
    (0..count)
        .map(|i| format!("table{}.key{i}", i % 7))
        .collect()
}

fn memory(count: usize, value: i64) -> Memory {
    let memory = Memory::new();
    memory
        .replace(keys(count).into_iter().map(|key| (key, value)))
        .unwrap();
    memory
}

fn props(count: usize) -> Properties {
    Properties::builder()
        .source(memory(count, 1))
        .build()
        .unwrap()
}

fn set_all(props: &Properties, count: usize, value: i64) -> Result<(), Error> {
    let written = props.transaction(|tx| keys(count).iter().try_for_each(|key| tx.set(key, value)));
    written.map(drop)
}

#[test]
fn transactions_and_removals_are_linear_in_their_keys() {
    grows_linearly("set", 500, |n| {
        let props = props(n);
        move || set_all(&props, n, 2).unwrap()
    });
    grows_linearly("set without a source", 500, |n| {
        let props = Properties::builder().build().unwrap();
        move || set_all(&props, n, 2).unwrap()
    });
    grows_linearly("remove", 500, |n| {
        let props = props(n);
        set_all(&props, n, 2).unwrap();
        move || {
            let removed = props.transaction(|tx| keys(n).iter().try_for_each(|key| tx.remove(key)));
            removed.map(drop).unwrap();
        }
    });
    grows_linearly("tombstones", 500, |n| {
        let props = props(n);
        move || {
            let unset = props.transaction(|tx| keys(n).iter().try_for_each(|key| tx.unset(key)));
            unset.map(drop).unwrap();
        }
    });
    grows_linearly("conditions", 500, |n| {
        let props = props(n);
        move || {
            let written = props.transaction(|tx| {
                keys(n)
                    .iter()
                    .try_for_each(|key| tx.if_value(key, Some(1.into())))?;
                tx.set("x", 1)
            });
            written.map(drop).unwrap();
        }
    });
    grows_linearly("edits that clash", 300, |n| {
        let props = props(n);
        set_all(&props, n, 2).unwrap();
        move || {
            let written = props.transaction(|tx| {
                keys(n)
                    .iter()
                    .try_for_each(|key| tx.set(&format!("{key}.below"), 1))
            });
            assert!(written.is_err());
        }
    });
    grows_linearly("keys frozen until a restart", 300, |n| {
        let builder = Properties::builder().source(memory(n, 1));
        let all = keys(n);
        let builder = all
            .iter()
            .fold(builder, |builder, key| builder.restart_required(key));
        let props = builder.build().unwrap();
        move || set_all(&props, n, 2).unwrap()
    });
}

#[test]
fn rejections_are_linear_in_the_rejected_keys() {
    let with_handles = |n: usize, memory: &Memory| {
        let props = Properties::builder()
            .source(memory.clone())
            .build()
            .unwrap();
        let good = |value: &i64| match value {
            ..2 => Ok(()),
            _ => Err("too large".into()),
        };
        let handle = |key: &String| props.property::<i64>(key).validate(good).build().unwrap();
        let handles: Vec<_> = keys(n).iter().map(handle).collect();
        (props, handles)
    };
    grows_linearly(
        "validators of handles that reject a transaction",
        500,
        |n| {
            let (props, handles) = with_handles(n, &memory(n, 1));
            move || {
                assert!(set_all(&props, n, 2).is_err());
                drop(handles);
            }
        },
    );
    grows_linearly("validators of handles that reject a document", 500, |n| {
        let memory = memory(n, 1);
        let (props, handles) = with_handles(n, &memory);
        move || {
            let replaced = memory.replace(keys(n).into_iter().map(|key| (key, 2)));
            assert!(replaced.is_err());
            drop((props, handles));
        }
    });
    grows_linearly("keys that a source loses one by one", 500, |n| {
        let value = Arc::new(AtomicI64::new(1));
        let source = PerKey(n, Arc::clone(&value)).with(|policy| policy.manual());
        let builder = Properties::builder().source(source);
        let declare =
            |schema: Schema, key: &String| schema.declare(Schema::key::<i64>(key).range(..2));
        let schema = keys(n).iter().fold(Schema::new(), declare);
        let props = builder.schema(schema).build().unwrap();
        move || {
            for bad in [2, 3, 3] {
                value.store(bad, Ordering::SeqCst);
                assert!(props.refresh_now().is_err());
            }
            black_box(props.health());
        }
    });
    grows_linearly("a validator of the whole tree", 500, |n| {
        let props = Properties::builder()
            .source(memory(n, 1))
            .validate(|tree| match tree.get::<i64>("table0.key0") {
                Ok(2) => Err("two".to_owned()),
                _ => Ok(()),
            })
            .build()
            .unwrap();
        move || assert!(set_all(&props, n, 2).is_err())
    });
}

/// Numbers by name, which serde buffers before it reads them.
#[derive(serde::Deserialize)]
struct Buffered<T> {
    #[serde(flatten)]
    all: std::collections::HashMap<String, T>,
}

/// Creates properties with `m` bound as a `T`, and a call that replaces `m` by `n` texts. If `bad`
/// is set, every second one is no number.
fn replaces<T>(n: usize, bad: bool) -> impl FnOnce()
where
    Buffered<T>: serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let memory = Memory::from([("m.k0", "0")]);
    let builder = Properties::builder().source(memory.clone());
    let props = builder.build().unwrap();
    let bound = props.bind::<Buffered<T>>("m").build().unwrap();
    move || {
        let text = |at: usize| match at % 2 {
            0 if bad => format!("bad {at}"),
            _ => at.to_string(),
        };
        let entries = (0..n).map(|at| (format!("m.k{at}"), text(at)));
        assert_eq!(memory.replace(entries).is_err(), bad);
        let count = bound.load().all.len();
        // A few bad values do not prevent the others.
        assert!(if bad { count < n } else { count == n }, "{count} of {n}");
        drop(props);
    }
}

#[test]
fn bad_values_that_serde_buffers_are_decoded_in_linear_time() {
    grows_linearly("a flattened map with bad values", 250, |n| {
        replaces::<u64>(n, true)
    });
    grows_linearly("a flattened map of secrets with bad values", 250, |n| {
        replaces::<liveprops::Secret<u64>>(n, true)
    });
}

#[test]
fn an_update_with_bad_values_that_serde_buffers_costs_a_few_valid_ones() {
    /// The passes that search for bad values, and those of a second and third decoding: for the
    /// error and for the paths of secrets. Typical are 5 times for numbers and 40 to 65 for secrets.
    const MOST: f64 = 100.0;
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let time = |run: Box<dyn FnOnce()>| {
        let begun = ProcessTime::now();
        run();
        begun.elapsed().as_secs_f64()
    };
    let check = |what: &str, replaces: &dyn Fn(bool) -> Box<dyn FnOnce()>| {
        let best = |bad| (0..3).map(|_| time(replaces(bad))).fold(f64::MAX, f64::min);
        let (good, bad) = (best(false), best(true));
        println!(
            "{what}: good {good:.4} s, bad {bad:.4} s, {:.1} times",
            bad / good
        );
        assert!(bad < good * MOST, "{what}: {bad} s instead of {good} s");
    };
    check("numbers", &|bad| Box::new(replaces::<u64>(2_000, bad)));
    check("secrets", &|bad| {
        Box::new(replaces::<liveprops::Secret<u64>>(2_000, bad))
    });
}

/// A source with single rejected keys.
struct PerKey(usize, Arc<AtomicI64>);

impl Source for PerKey {
    fn origin(&self) -> Origin {
        Origin::new("numbers", "")
    }

    fn load(&self) -> Result<Document, Error> {
        let mut document = Document::new();
        for key in keys(self.0) {
            document.set(&key, self.1.load(Ordering::SeqCst), self.origin())?;
        }
        Ok(document)
    }

    fn watching(&self) -> Watching {
        Watching::Poll(Duration::from_secs(5))
    }

    fn rejection_scope(&self) -> RejectionScope {
        RejectionScope::PerKey
    }
}

#[test]
fn handles_are_linear_in_their_number() {
    grows_linearly("handles on keys of their own", 500, |n| {
        let (props, keys) = (props(n), keys(n));
        move || {
            let handles = keys
                .iter()
                .map(|key| props.property::<i64>(key).build().unwrap());
            drop(handles.collect::<Vec<_>>());
        }
    });
    grows_linearly("handles on one key that cannot be shared", 500, |n| {
        let props = Properties::builder().build().unwrap();
        move || {
            let handle = |i| {
                props
                    .property::<String>("a")
                    .default(format!("{i}"))
                    .build()
            };
            drop((0..n).map(|i| handle(i).unwrap()).collect::<Vec<_>>());
        }
    });
    grows_linearly("a change of one key with many handles", 500, |n| {
        let props = Properties::builder().build().unwrap();
        let handle = |i| {
            props
                .property::<String>("a")
                .default(format!("{i}"))
                .build()
        };
        let handles: Vec<_> = (0..n).map(|i| handle(i).unwrap()).collect();
        move || {
            props.set("a", "b").unwrap();
            drop(handles);
        }
    });
    grows_linearly(
        "short-lived handles on one key beside lasting ones",
        500,
        |n| {
            let props = Properties::builder().build().unwrap();
            let handle = |i: usize| {
                let handle = props.property::<String>("a").default(format!("{i}"));
                handle.build().unwrap()
            };
            let lasting: Vec<_> = (0..n).map(handle).collect();
            let again = props.clone();
            move || {
                for i in 0..n {
                    drop(
                        again
                            .property::<String>("a")
                            .default(format!("{i}"))
                            .build(),
                    );
                }
                drop(lasting);
            }
        },
    );
    grows_linearly("mapped handles", 500, |n| {
        let props = props(1);
        let handle = props.property::<i64>("table0.key0").build().unwrap();
        move || {
            let mapped: Vec<_> = (0..n).map(|_| handle.map(|value| value + 1)).collect();
            (0..n).for_each(|_| drop(handle.map(|value| value + 2)));
            props.set("table0.key0", 2).unwrap();
            assert_eq!(mapped[n - 1].get(), 3);
        }
    });
    grows_linearly("handles inside one list", 300, |n| {
        let memory = Memory::new();
        let list = |value: i64| Value::from(vec![value; n]);
        memory.set("list", list(1)).unwrap();
        let props = Properties::builder()
            .source(memory.clone())
            .build()
            .unwrap();
        let handle = |i: usize| props.property::<i64>(&format!("list.{i}")).build().unwrap();
        let handles: Vec<_> = (0..n).map(handle).collect();
        let next = list(2);
        move || {
            memory.set("list", next).unwrap();
            assert_eq!(handles[n - 1].get(), 2);
            drop(props);
        }
    });
}

#[test]
fn subscriptions_are_linear_in_their_number() {
    grows_linearly("callbacks on one handle", 500, |n| {
        let props = Properties::builder()
            .source(memory(1, 1))
            .inline_callbacks()
            .build()
            .unwrap();
        let handle = props.property::<i64>("table0.key0").build().unwrap();
        move || {
            let all: Vec<_> = (0..n).map(|_| handle.on_change(|_| ())).collect();
            (0..n).for_each(|_| drop(handle.on_change(|_| ())));
            props.set("table0.key0", 2).unwrap();
            drop(all);
        }
    });
    grows_linearly("channels on one handle", 500, |n| {
        let props = props(1);
        let handle = props.property::<i64>("table0.key0").build().unwrap();
        move || {
            let all: Vec<_> = (0..n).map(|_| handle.changes()).collect();
            (0..n).for_each(|_| drop(handle.changes()));
            props.set("table0.key0", 2).unwrap();
            drop(all);
        }
    });
    grows_linearly("callbacks on prefixes", 300, |n| {
        let props = Properties::builder()
            .source(memory(1, 1))
            .inline_callbacks()
            .build()
            .unwrap();
        move || {
            let under = |i: usize| props.on_change_under(&format!("table{}", i % 9), |_| ());
            let all: Vec<_> = (0..n).map(|i| under(i).unwrap()).collect();
            (0..n).for_each(|i| drop(under(i)));
            props.set("table0.key0", 2).unwrap();
            drop(all);
        }
    });
    grows_linearly("changes that wait for a slow callback", 300, |n| {
        let props = Properties::builder().build().unwrap();
        let gate = Arc::new(Mutex::new(()));
        let shut = Arc::clone(&gate);
        let (entered, is_inside) = std::sync::mpsc::channel();
        let slow = props.on_change_under("", move |_| {
            let _ = entered.send(());
            drop(shut.lock());
        });
        move || {
            let closed = gate.lock().unwrap();
            props.set("first", 1).unwrap();
            is_inside.recv().unwrap();
            for i in 0..n {
                props.set(&format!("table{}.key{i}", i % 7), 1).unwrap();
            }
            drop(closed);
            slow.unwrap().close_and_wait().unwrap();
        }
    });
}

#[test]
fn layers_are_linear_in_their_number() {
    grows_linearly("sources", 40, |n| {
        let sources: Vec<_> = (0..n).map(|_| memory(20, 1)).collect();
        move || {
            let props = Properties::builder().sources(sources).build().unwrap();
            black_box((props.explain("table0.key0"), props.health()));
        }
    });
    grows_linearly("lists that are joined", 40, |n| {
        let of = |i: usize| {
            let memory = Memory::new();
            memory.set("list", Value::from(vec![i as i64; 5])).unwrap();
            memory
        };
        let sources: Vec<_> = (0..n).map(of).collect();
        move || {
            let builder = Properties::builder().append("list").sources(sources);
            let props = builder.build().unwrap();
            assert_eq!(props.get::<Vec<i64>>("list").unwrap().len(), 5 * n);
        }
    });
    grows_linearly("the length of lists that are joined", 2_000, |n| {
        let of = |value: i64| {
            let memory = Memory::new();
            memory.set("list", Value::from(vec![value; n])).unwrap();
            memory
        };
        let sources = [of(1), of(2)];
        move || {
            let builder = Properties::builder().append("list").sources(sources);
            let props = builder.build().unwrap();
            assert_eq!(props.get::<Vec<i64>>("list").unwrap().len(), 2 * n);
        }
    });
    grows_linearly("keys that are a value here and a table there", 300, |n| {
        let below = keys(n).into_iter().map(|key| (format!("{key}.below"), 1));
        let tables = Memory::new();
        tables.replace(below).unwrap();
        let values = memory(n, 1);
        move || {
            let builder = Properties::builder().source(tables).source(values);
            black_box(builder.build().unwrap().health());
        }
    });
}

#[test]
fn searching_a_text_for_secrets_is_linear_in_its_length() {
    type Shape = fn(usize) -> String;
    let shapes: [(&str, Shape); 20] = [
        ("long words", |n| "configurable words ".repeat(n)),
        ("addresses behind a sign", |n| {
            format!("@ {}", "x://".repeat(n))
        }),
        ("addresses before a sign", |n| {
            format!("{} @", "x://a/".repeat(n))
        }),
        ("masked pairs", |n| {
            format!("{};", "password=****** ".repeat(n))
        }),
        ("masked fields", |n| "?password: ****** ".repeat(n)),
        ("empty pairs", |n| format!("{};", "password=".repeat(n))),
        ("pairs in quotes", |n| "password=\"****** ".repeat(n)),
        ("fields in braces", |n| "{password:{****** ".repeat(n)),
        ("names of pairs", |n| "a = ' \" ".repeat(n)),
        ("schemes", |n| "Negotiate ****** sharedkey ".repeat(n)),
        ("webhooks", |n| {
            "https://hooks.slack.com/services/ ".repeat(n)
        }),
        ("beginnings of keys", |n| "-----BEGIN PRIVATE ".repeat(n)),
        ("options", |n| "curl -u me --password ****** ".repeat(n)),
        ("logins", |n| "a:/b@c/d:".repeat(n)),
        ("logins of several words", |n| "a:b c@tcp(h)/d, ".repeat(n)),
        ("words before a target", |n| {
            format!(
                "{}{}@h:1/d",
                "a: ./b x://c 1:${d} ".repeat(n),
                " ".repeat(n)
            )
        }),
        ("targets without a login", |n| "a@h:1/b/c tcp(d".repeat(n)),
        ("parameters", |n| "?a=1;b[c][d]=2&amp;e=".repeat(n)),
        ("indexes", |n| format!("{}=", "[a]=[b]".repeat(n))),
        ("escaped parameters", |n| {
            "%3Fsig%3D******%26a%253D".repeat(n)
        }),
    ];
    for (what, text) in shapes {
        grows_linearly(&format!("a text of {what}"), 1_500, |n| {
            let memory = Memory::new();
            memory.set("plain", text(n)).unwrap();
            let props = Properties::builder().source(memory).build().unwrap();
            move || {
                black_box(props.explain("plain"));
            }
        });
    }
}

#[test]
fn references_are_linear_in_their_number() {
    grows_linearly("a chain", 100, |n| {
        let memory = Memory::new();
        let link = |i: usize| match i {
            0 => (format!("key{i:06}"), Value::from(1)),
            i => (
                format!("key{i:06}"),
                Value::from(format!("${{key{:06}}}", i - 1)),
            ),
        };
        memory.replace((0..n).map(link)).unwrap();
        move || {
            let props = Properties::builder()
                .source(memory.clone())
                .build()
                .unwrap();
            memory.set("key000000", 2).unwrap();
            black_box(props.get_opt::<i64>(&format!("key{:06}", n - 1)).ok());
        }
    });
    grows_linearly("references to one key", 500, |n| {
        let memory = Memory::new();
        memory
            .replace(keys(n).into_iter().map(|key| (key, "${one}")))
            .unwrap();
        memory.set("one", 1).unwrap();
        move || {
            let props = Properties::builder()
                .source(memory.clone())
                .build()
                .unwrap();
            memory.set("one", 2).unwrap();
            assert_eq!(props.get::<i64>("table0.key0").unwrap(), 2);
        }
    });
    grows_linearly("references in one value to others", 200, |n| {
        let memory = Memory::new();
        memory
            .replace(keys(n).into_iter().map(|key| (key, "${one}")))
            .unwrap();
        let all: String = keys(n).iter().map(|key| format!("${{{key}}}")).collect();
        memory.set("all", all).unwrap();
        let list: Vec<String> = keys(n).iter().map(|key| format!("${{{key}}}")).collect();
        memory.set("a_list", list).unwrap();
        memory.set("one", 1).unwrap();
        move || {
            let builder = Properties::builder().source(memory.clone());
            let props = builder.build().unwrap();
            assert_eq!(props.get::<String>("all").unwrap(), "1".repeat(n));
            assert_eq!(props.get::<Vec<u8>>("a_list").unwrap().len(), n);
        }
    });
    grows_linearly("references in one value", 200, |n| {
        let memory = memory(n, 1);
        let all: String = keys(n).iter().map(|key| format!("${{{key}}}")).collect();
        memory.set("all", all).unwrap();
        move || {
            let props = Properties::builder()
                .source(memory.clone())
                .build()
                .unwrap();
            memory.set("table0.key0", 2).unwrap();
            black_box(props.get::<String>("all").ok());
        }
    });
}

/// A value that refers to each of `n` keys; each key refers to another one.
fn referred(n: usize, value: impl Into<Value>) -> Memory {
    let memory = Memory::new();
    let all = keys(n);
    let one = |key: &String| (key.clone(), "${one}");
    memory.replace(all.iter().map(one)).unwrap();
    memory.set("one", 1).unwrap();
    memory.set("all", value).unwrap();
    memory
}

fn fields(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Table(fields.into_iter().collect())
}

/// A case of a contextual value.
fn case(wanted: Value, value: impl Into<Value>) -> Value {
    fields([
        ("if".to_owned(), wanted),
        ("value".to_owned(), value.into()),
    ])
}

fn reads(memory: Memory) -> impl FnOnce() {
    move || {
        let props = Properties::builder().source(memory).build().unwrap();
        black_box(props.get::<Value>("all").unwrap());
    }
}

#[test]
fn references_in_one_value_are_linear_in_their_number() {
    grows_linearly("fields of a table in a list", 200, |n| {
        let field = |key: String| (format!("f{key}"), Value::from(format!("${{{key}}}")));
        let table = fields(keys(n).into_iter().map(field));
        reads(referred(n, Value::List([table].into())))
    });
    grows_linearly("keys in one condition", 200, |n| {
        let wanted = fields(keys(n).into_iter().map(|key| (key, 1.into())));
        reads(referred(n, Value::List([case(wanted, "yes")].into())))
    });
    grows_linearly("cases that do not hold", 200, |n| {
        let no = |key: String| case(fields([(key, 2.into())]), "no");
        let mut cases: Vec<Value> = keys(n).into_iter().map(no).collect();
        cases.push(case(fields([("one".to_owned(), 1.into())]), "yes"));
        reads(referred(n, Value::List(cases.into())))
    });
    grows_linearly("defaults of undefined keys", 200, |n| {
        let text = |key: String| format!("${{no.{key}:${{{key}}}}}");
        let text: String = keys(n).into_iter().map(text).collect();
        reads(referred(n, text))
    });
}

#[test]
fn values_over_the_size_limit_cost_no_more_than_the_limit() {
    let too_large = |text: &'static str, n: usize| {
        let memory = Memory::new();
        let large = keys(n).into_iter().map(move |key| (key, text));
        memory.replace(large).unwrap();
        memory.set("b", "x".repeat(n * 1024)).unwrap();
        memory.set("c", vec!["1"; n * 64]).unwrap();
        move || {
            let props = Properties::builder().source(memory).build().unwrap();
            assert_eq!(props.health().broken_references.len(), n);
        }
    };
    grows_linearly("texts that grow too large", 600, |n| {
        too_large("${b}${b}", n)
    });
    grows_linearly("lists that are put into a text", 600, |n| {
        too_large("x${c}", n)
    });
}

#[test]
fn reading_is_linear_in_the_values_read() {
    grows_linearly("a list", 2_000, |n| {
        let props = Properties::builder().build().unwrap();
        props.set("list", Value::from(vec![1_i64; n])).unwrap();
        move || assert_eq!(props.get::<Vec<u32>>("list").unwrap().len(), n)
    });
    grows_linearly("a list as text", 2_000, |n| {
        let props = Properties::builder().build().unwrap();
        props.set("list", vec!["1"; n].join(",")).unwrap();
        move || assert_eq!(props.get::<Vec<u32>>("list").unwrap().len(), n)
    });
    grows_linearly("a map as text", 2_000, |n| {
        let pairs: Vec<_> = (0..n).map(|i| format!("k{i}=1")).collect();
        let props = Properties::builder().build().unwrap();
        props.set("map", pairs.join(",")).unwrap();
        move || {
            let map = props.get::<BTreeMap<String, u32>>("map").unwrap();
            assert_eq!(map.len(), n);
        }
    });
    grows_linearly("a map", 1_000, |n| {
        let props = props(n);
        move || {
            let all = props.get::<BTreeMap<String, BTreeMap<String, u32>>>("");
            let all = all.or_else(|_| props.snapshot().bind(""));
            assert_eq!(all.unwrap().values().map(BTreeMap::len).sum::<usize>(), n);
        }
    });
    grows_linearly("a map with bad values", 200, |n| {
        let memory = Memory::new();
        memory
            .replace(keys(n).into_iter().map(|key| (key, "x")))
            .unwrap();
        let props = Properties::builder().source(memory).build().unwrap();
        move || {
            let all = props
                .snapshot()
                .bind::<BTreeMap<String, BTreeMap<String, u32>>>("");
            assert!(all.is_err());
        }
    });
    grows_linearly("waiting for keys that are there", 1_000, |n| {
        let props = props(n);
        move || props.wait_for(keys(n), Duration::from_secs(60)).unwrap()
    });
    grows_linearly("the difference of two generations", 500, |n| {
        let props = props(n);
        let before = props.snapshot();
        set_all(&props, n, 2).unwrap();
        move || assert_eq!(props.snapshot().changes_since(&before).len(), n)
    });
    grows_linearly("trying a document", 500, |n| {
        let props = props(n);
        let layers = props.explain("table0.key0").layers;
        let source = layers
            .iter()
            .find(|layer| layer.name.starts_with("memory"))
            .unwrap()
            .source;
        let mut document = Document::new();
        for key in keys(n) {
            document.set(&key, 2, Origin::new("test", "")).unwrap();
        }
        move || assert_eq!(props.check(source, document).unwrap().changes.len(), n)
    });
    grows_linearly("a roll-back", 500, |n| {
        let builder = Properties::builder().history(4).source(memory(n, 1));
        let props = builder.build().unwrap();
        let good = props.generation();
        set_all(&props, n, 2).unwrap();
        move || {
            props.rollback_to(good).unwrap();
            props.unpin().unwrap();
        }
    });
}

#[test]
fn sources_are_linear_in_their_input() {
    grows_linearly("variables", 500, |n| {
        let variable = |i: usize| (format!("APP_T{}__KEY{i}", i % 7), "1");
        let variables: Vec<_> = (0..n).map(variable).collect();
        move || {
            let env = Env::prefix("APP_").vars(variables);
            assert!(Properties::builder().source(env).build().is_ok());
        }
    });
    grows_linearly("variables that cannot be keys", 300, |n| {
        let variable = |i: usize| (format!("APP_T{}____KEY{i}", i % 7), "1");
        let variables: Vec<_> = (0..n).map(variable).collect();
        move || {
            let env = Env::prefix("APP_").vars(variables);
            black_box(
                Properties::builder()
                    .source(env)
                    .build()
                    .map(|props| props.health()),
            )
            .ok();
        }
    });
    grows_linearly("arguments", 500, |n| {
        let arguments: Vec<_> = keys(n).iter().map(|key| format!("--{key}=1")).collect();
        move || {
            let args = Args::from_iter(arguments);
            assert!(Properties::builder().source(args).build().is_ok());
        }
    });
}

#[cfg(feature = "toml")]
#[cfg(feature = "dotenv")]
#[test]
fn escaped_dollars_of_dotenv_are_linear_in_their_number() {
    use liveprops::Format;
    grows_linearly("dollars that are escaped", 8_000, |n| {
        let text = format!("A=\"{}\"\nB={}{{x}}\n", "\\$".repeat(n), "\\$".repeat(n));
        move || {
            let origin = Origin::new("file", ".env");
            black_box(Format::dotenv().parse(text.as_bytes(), &origin).unwrap());
        }
    });
}

#[test]
fn a_directory_is_linear_in_its_fragments() {
    grows_linearly("fragments", 30, |n| {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..n {
            let text = format!("[table{}]\nkey{i} = 1\n", i % 7);
            std::fs::write(dir.path().join(format!("{i:05}.toml")), text).unwrap();
        }
        move || {
            let source = liveprops::sources::Dir::new(dir.path());
            assert!(Properties::builder().source(source).build().is_ok());
        }
    });
}

#[test]
fn every_format_parses_every_document_in_linear_time() {
    for shape in support::hostile::scalars()
        .into_iter()
        .chain(support::hostile::shapes())
    {
        let what = format!("{} in {}", shape.name, shape.format.name());
        let origin = Origin::new("test", "");
        grows_linearly(&what, PARSED, |bytes| {
            let text = (shape.text)(bytes);
            let origin = &origin;
            move || drop(black_box(shape.format.parse(text.as_bytes(), origin)))
        });
    }
}

#[test]
fn schemas_are_linear_in_their_declarations() {
    let schema = |n: usize| {
        let declare = |schema: Schema, key: &String| {
            schema.declare(Schema::key::<i64>(key).range(..2).default(1))
        };
        keys(n).iter().fold(Schema::new(), declare)
    };
    grows_linearly("declarations", 300, |n| {
        move || {
            let builder = Properties::builder().schema(schema(n)).source(memory(n, 1));
            assert!(builder.build().is_ok());
        }
    });
    grows_linearly("values that break the schema", 300, |n| {
        let (schema, memory) = (schema(n), memory(n, 2));
        move || {
            assert!(
                Properties::builder()
                    .schema(schema)
                    .source(memory)
                    .build()
                    .is_err()
            )
        }
    });
    grows_linearly("an update that breaks the schema", 300, |n| {
        let builder = Properties::builder().schema(schema(n)).source(memory(n, 1));
        let props = builder.build().unwrap();
        move || assert!(set_all(&props, n, 2).is_err())
    });
    grows_linearly("undeclared keys", 200, |n| {
        let schema = schema(n).strict("");
        let misspelt = keys(n)
            .into_iter()
            .map(|key| (key.replace("key", "kye"), 1));
        let memory = Memory::new();
        memory.replace(misspelt).unwrap();
        let props = Properties::builder()
            .schema(schema)
            .source(memory)
            .build()
            .unwrap();
        move || assert_eq!(props.unknown_keys().len(), n)
    });
    grows_linearly("undeclared keys that are denied", 200, |n| {
        let schema = schema(n).strict("").deny_unknown();
        let misspelt = keys(n)
            .into_iter()
            .map(|key| (key.replace("key", "kye"), 1));
        let memory = Memory::new();
        memory.replace(misspelt).unwrap();
        move || {
            assert!(
                Properties::builder()
                    .schema(schema)
                    .source(memory)
                    .build()
                    .is_err()
            )
        }
    });
    grows_linearly("strict prefixes", 200, |n| {
        let strict = |schema: Schema, i: usize| schema.strict(&format!("table{}.key{i}", i % 7));
        let schema = (0..n).fold(Schema::new(), strict);
        let memory = memory(n, 1);
        let props = Properties::builder()
            .schema(schema)
            .source(memory)
            .build()
            .unwrap();
        move || assert_eq!(props.unknown_keys().len(), n)
    });
    grows_linearly("an export", 300, |n| {
        let schema = schema(n);
        move || drop(black_box((schema.to_json_schema(), schema.to_text())))
    });
    grows_linearly("secrets", 300, |n| {
        let declare =
            |schema: Schema, key: &String| schema.declare(Schema::key::<i64>(key).secret());
        let schema = keys(n).iter().fold(Schema::new(), declare);
        let memory = memory(n, 1);
        move || {
            let props = Properties::builder()
                .schema(schema.clone())
                .source(memory)
                .build()
                .unwrap();
            black_box((
                schema.to_json_schema(),
                format!("{:?}", props.explain("table0.key0")),
            ));
        }
    });
}

/// The most kB that a million short-lived handles may leave behind.
#[cfg(target_os = "linux")]
const LEFT_BEHIND: u64 = 4 << 10;

#[cfg(target_os = "linux")]
#[test]
fn a_million_short_lived_handles_leave_less_than_four_megabytes_behind() {
    use support::child::{self, Child};

    let test = "a_million_short_lived_handles_leave_less_than_four_megabytes_behind";
    if child::role().is_none() {
        let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
        return Child::of(test).succeeds();
    }
    let props = props(100);
    let lasting = props.property::<i64>("table0.key0").build().unwrap();
    let resident = || support::proc::status("VmRSS");
    let ask = |i: usize| {
        let key = format!("tenant.{i}.limit");
        let handle = || props.property::<i64>(&key).default(1);
        match i % 16 {
            0 => drop(handle().validate(|_| Ok(())).build().unwrap()),
            1 => drop(handle().build().unwrap().map(|limit| limit + 1)),
            2 => drop(handle().build().unwrap().on_change(|_| ())),
            3 => drop(handle().build().unwrap().changes()),
            4 => drop(handle().or_key("tenant.all.limit").build().unwrap()),
            5 => drop(
                props
                    .bind::<Option<BTreeMap<String, i64>>>(&key)
                    .build()
                    .unwrap(),
            ),
            6 => drop(props.property::<i64>(&key).build().unwrap_err()),
            7 => drop(props.on_change_under(&key, |_| ()).unwrap()),
            8 => drop((
                lasting.changes(),
                lasting.map(|value| value + 1),
                props.get_or(&key, 1),
            )),
            _ => drop(handle().build().unwrap()),
        }
    };
    (0..20_000).for_each(ask);
    let before = resident();
    (20_000..1_020_000).for_each(ask);
    let left = resident().saturating_sub(before);
    assert!(left < LEFT_BEHIND, "{left} kB are left behind");
    child::report(format!("{left} kB are left behind"));
}

/// The cost of a failed read, in successful ones of the same size.
const FAILING: f64 = 25.0;

/// Measures a failed and a successful read of values of the same size.
#[track_caller]
fn fails_in_time<Bad, Good>(what: &str, bad: Value, good: Value, count: usize)
where
    Bad: serde::de::DeserializeOwned + 'static,
    Good: serde::de::DeserializeOwned + 'static,
{
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let memory = Memory::new();
    memory.replace([("bad", bad), ("good", good)]).unwrap();
    let props = Properties::builder().source(memory).build().unwrap();
    let time = |read: &dyn Fn()| {
        let begun = ProcessTime::now();
        read();
        begun.elapsed()
    };
    let (mut failing, mut reading) = (Duration::MAX, Duration::MAX);
    let mut ratio = f64::INFINITY;
    for attempt in 0..ATTEMPTS {
        let read = || drop(black_box(props.get::<Good>("good").unwrap()));
        reading = (0..3).map(|_| time(&read)).min().unwrap().min(reading);
        let fail = || {
            let error = props.get::<Bad>("bad").err().unwrap();
            assert!(
                error.iter().count() >= count,
                "{what}: {}",
                error.iter().count()
            );
        };
        failing = time(&fail).min(failing);
        ratio = failing.as_secs_f64() / reading.as_secs_f64();
        if ratio < FAILING * 0.8 && attempt > 0 {
            break;
        }
    }
    println!("{what}: {failing:.1?}, good {reading:.1?}, {ratio:.1} times");
    assert!(
        ratio < FAILING,
        "{what}: {ratio:.1} times as long as a good read"
    );
}

#[test]
fn a_failed_read_costs_a_few_successful_ones() {
    type Map = BTreeMap<String, u8>;
    let n = 32_000;
    let ones = || Value::from("1,".repeat(n));
    let maps = || Value::from(format!("[{}{{}}]", "{},".repeat(n / 2)));
    fails_in_time::<Vec<Map>, Vec<u8>>("numbers for maps", ones(), ones(), 100);
    fails_in_time::<Vec<u8>, Vec<Map>>("maps for numbers", maps(), maps(), 100);
    let late = format!("{}{}", "1,".repeat(n), "x,".repeat(100));
    fails_in_time::<Vec<u8>, Vec<u8>>("bad items at the end", late.into(), ones(), 100);
    let nested = || Value::from(format!("[[{}1]]", "1,".repeat(n)));
    fails_in_time::<Vec<Vec<Map>>, Vec<Vec<u8>>>("a nested list", nested(), nested(), 100);
    let list = || Value::from(vec!["x"; n]);
    fails_in_time::<Vec<u8>, Vec<String>>("a list", list(), list(), 100);
    let map = || {
        let entries = (0..n).map(|at| (format!("n{at}"), Value::from("x")));
        Value::from(entries.collect::<BTreeMap<_, _>>())
    };
    fails_in_time::<Map, BTreeMap<String, String>>("a map", map(), map(), 100);
    let pairs = || Value::from((0..n / 8).map(|at| format!("n{at}=x,")).collect::<String>());
    fails_in_time::<Map, BTreeMap<String, String>>("pairs", pairs(), pairs(), 100);
    let (bad, good) = (Value::from(vec!["x"; n]), Value::from(vec!["::1"; n]));
    type Ips = Vec<std::net::IpAddr>;
    fails_in_time::<Ips, Ips>("values that a type rejects", bad, good, 1);
    fails_in_time::<Vec<std::num::NonZeroU8>, Vec<u8>>("zeros", list(), ones(), 1);
}

mod buffered {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Flat {
        id: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    #[allow(dead_code)] // only decoded
    enum Tagged {
        Disk { size: u32, label: String },
        Net { port: u16, size: String },
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)] // only decoded
    enum Untagged {
        Range { from: u8, to: u8 },
        Wait { wait: Duration },
        Word(String),
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Nested {
        #[serde(flatten)]
        lists: BTreeMap<String, Vec<Tagged>>,
    }

    fn tree(entries: impl IntoIterator<Item = (String, Value)>) -> Properties {
        let memory = Memory::new();
        memory.replace(entries).unwrap();
        Properties::builder().source(memory).build().unwrap()
    }

    fn table(entries: &[(&str, &str)]) -> Value {
        let of = |(name, text): &(&str, &str)| (name.to_string(), Value::from(*text));
        Value::from(entries.iter().map(of).collect::<BTreeMap<_, _>>())
    }

    fn tagged(at: usize) -> Value {
        match at % 2 {
            0 => table(&[("kind", "disk"), ("size", "10"), ("label", "10")]),
            _ => table(&[("kind", "net"), ("port", "80"), ("size", "10")]),
        }
    }

    fn untagged(at: usize) -> Value {
        match at % 3 {
            0 => table(&[("from", "1"), ("to", "2")]),
            1 => table(&[("wait", "5s")]),
            _ => "7".into(),
        }
    }

    #[test]
    fn values_that_serde_buffers_are_linear_in_their_entries() {
        grows_linearly("a flattened map of texts", 200, |n| {
            let entries = (0..n).map(|i| (format!("t.key{i}"), Value::from((i % 300).to_string())));
            let props = tree(entries.chain([("t.id".into(), "1".into())]));
            move || assert_eq!(props.get::<Flat>("t").unwrap().rest.len(), n)
        });
        grows_linearly("a map of flattened maps", 40, |n| {
            let one = |i| {
                [
                    (format!("t.m{i}.id"), "1".into()),
                    (format!("t.m{i}.key"), "2".into()),
                ]
            };
            let props = tree((0..n).flat_map(one));
            move || assert_eq!(props.get::<BTreeMap<String, Flat>>("t").unwrap().len(), n)
        });
        grows_linearly("a list of tagged items", 100, |n| {
            let props = tree([("t".into(), (0..n).map(tagged).collect::<Vec<_>>().into())]);
            move || assert_eq!(props.get::<Vec<Tagged>>("t").unwrap().len(), n)
        });
        grows_linearly("flattened lists of tagged items", 100, |n| {
            let list: Vec<Value> = (0..n).map(tagged).collect();
            let props = tree([
                ("t.a".into(), list.clone().into()),
                ("t.b".into(), list.into()),
            ]);
            move || assert_eq!(props.get::<Nested>("t").unwrap().lists["b"].len(), n)
        });
        grows_linearly("a list of untagged items", 100, |n| {
            let props = tree([("t".into(), (0..n).map(untagged).collect::<Vec<_>>().into())]);
            move || assert_eq!(props.get::<Vec<Untagged>>("t").unwrap().len(), n)
        });
        grows_linearly("flattened texts of which many are bad", 100, |n| {
            let entries = (0..n).map(|i| (format!("t.key{i}"), Value::from("many")));
            let props = tree(entries.chain([("t.id".into(), "1".into())]));
            move || assert!(props.get::<Flat>("t").is_err())
        });
    }

    #[test]
    fn a_live_flattened_map_commits_in_linear_time() {
        grows_linearly("commits of a flattened map", 100, |n| {
            let entries = (0..n).map(|i| (format!("t.key{i}"), Value::from(i.to_string())));
            let props = tree(entries.chain([("t.id".into(), "1".into())]));
            let handle = props.property::<Flat>("t").build().unwrap();
            move || {
                for value in 0..3 {
                    props.set("t.key1", format!("{value}")).unwrap();
                }
                assert_eq!(handle.load().rest["key1"], 2);
            }
        });
    }
}

/// Reads the value at `all` as a `T`, which has a secret for each of its references.
fn reads_secrets<T: serde::de::DeserializeOwned + 'static>(memory: Memory) -> impl FnOnce() {
    let props = Properties::builder().source(memory).build().unwrap();
    move || {
        black_box(props.get::<T>("all").unwrap());
    }
}

#[test]
fn finding_what_secrets_refer_to_is_linear_in_the_references() {
    type Secrets = Vec<Secret<String>>;
    type Table = BTreeMap<String, Secret<String>>;
    let references = |n: usize| keys(n).into_iter().map(|key| format!("${{{key}}}"));
    grows_linearly("secret items of a list", 500, |n| {
        reads_secrets::<Secrets>(referred(n, references(n).collect::<Vec<_>>()))
    });
    grows_linearly("secret items of a text", 500, |n| {
        let text = references(n).collect::<Vec<_>>().join(", ");
        reads_secrets::<Secrets>(referred(n, text))
    });
    grows_linearly("secret items of a list behind a reference", 500, |n| {
        let memory = referred(n, "${list}");
        memory
            .set("list", references(n).collect::<Vec<_>>())
            .unwrap();
        reads_secrets::<Secrets>(memory)
    });
    grows_linearly("secret entries of a table", 500, |n| {
        let memory = referred(n, 1);
        memory.remove("all").unwrap();
        let entries = references(n).enumerate();
        let entries = entries.map(|(at, text)| (format!("k{at}"), Value::from(text)));
        memory.set("all", fields(entries)).unwrap();
        reads_secrets::<Table>(memory)
    });
    grows_linearly("a secret list", 500, |n| {
        let list = references(n).collect::<Vec<_>>();
        reads_secrets::<Secret<Vec<String>>>(referred(n, list))
    });
    grows_linearly("secrets in an item that a case has", 500, |n| {
        let list = Value::from(references(n).collect::<Vec<_>>());
        let wanted = fields([("one".to_owned(), 1.into())]);
        reads_secrets::<Secrets>(referred(n, Value::List([case(wanted, list)].into())))
    });
}
