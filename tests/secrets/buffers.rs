//! What is read as a secret from what serde had buffered is secret where it stands, and nothing else is.

use std::collections::HashMap;

use liveprops::Format;

use super::support::eventually;
use super::*;

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Inner {
    m: u32,
    phrase: Secret<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Flat {
    n: u32,
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(dead_code)] // only decoded
enum Tagged {
    Timed {
        ttl: Duration,
        phrase: Secret<String>,
    },
    Counted {
        m: u32,
        phrase: Secret<String>,
    },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
#[allow(dead_code)] // only decoded
enum Untagged {
    Other { q: u32, phrase: Secret<String> },
    Counted { m: u32, phrase: Secret<String> },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Beside<T> {
    qps: u32,
    x: T,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Held<T> {
    n: u32,
    #[serde(flatten)]
    inner: HeldInner<T>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct HeldInner<T> {
    v: Secret<T>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Part {
    a: String,
    b: u32,
}

/// A source of which each document is YAML.
fn yaml(store: &Store, text: &str) {
    let document = Format::yaml().parse(text.as_bytes(), &Origin::new("test", ""));
    let document = document.unwrap();
    let values = document.iter();
    store.says(values.map(|(key, value, _)| (key.to_string(), value.clone())));
}

/// Binds a type to the whole, before and after a change. Gives which keys are masked then, and whether
/// the files hold the words.
fn masked<T: for<'a> Deserialize<'a> + Send + Sync + 'static>(
    documents: &[&str],
    keys: &[&str],
    words: &[&str],
) -> (Vec<bool>, Vec<bool>) {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store::default();
    yaml(&store, documents[0]);
    let props = Properties::builder()
        .state_dir(temporary.path())
        .source(store.clone().with(|policy| policy.cached()))
        .build()
        .unwrap();
    let handle = props.bind::<T>("").build();
    for document in &documents[1..] {
        yaml(&store, document);
        let _ = props.refresh_now();
    }
    let is_masked = |key: &&str| format!("{:?}", props.explain(key).value).contains("***");
    let masked = keys.iter().map(is_masked).collect();
    drop((handle, props));
    let out = Outputs::default();
    out.files("file", temporary.path());
    let all = out.0.lock().unwrap();
    let holds = |word: &&str| all.iter().any(|(_, text)| text.contains(*word));
    (masked, words.iter().map(holds).collect())
}

const KEYS: &[&str] = &["qps", "name", "x.n", "x.m", "x.phrase"];
const ONE: &[bool] = &[false, false, false, false, true];
/// `name` is kept, the secret is not.
const WORDS: &[&str] = &["alice", MARK];

#[test]
fn a_failed_read_of_a_buffered_struct_marks_its_secret_and_no_other_key() {
    let good = format!("qps: 100\nname: alice\nx: {{n: 1, m: 1, phrase: {MARK}}}\n");
    let kept = (ONE.to_vec(), vec![true, false]);
    for bad in [
        "x: {n: 1, m: 1}".to_owned(),
        "x: {n: 1, m: 0}".to_owned(),
        "x: {n: 1}".to_owned(),
        format!("x: {{n: 1, m: z, phrase: {MARK}}}"),
        format!("x: {{n: z, m: 1, phrase: {MARK}}}"),
        format!("x: {{n: 1, m: z, phrase: [{MARK}]}}"),
    ] {
        let bad = format!("qps: 100\nname: alice\n{bad}\n");
        let seen = masked::<Beside<Flat>>(&[&good, &bad], KEYS, WORDS);
        let seen = (seen.0[..4].to_vec(), seen.1);
        assert_eq!(seen, (kept.0[..4].to_vec(), kept.1.clone()), "{bad}");
    }
    for bad in ["x: {kind: counted, m: 1}", "x: {kind: timed}", "x: {m: 1}"] {
        let good = good.replace("n: 1", "kind: counted");
        let bad = format!("qps: 100\nname: alice\n{bad}\n");
        let seen = masked::<Beside<Tagged>>(&[&good, &bad], KEYS, WORDS);
        assert_eq!(seen.0[..4], kept.0[..4], "{bad}");
        assert_eq!(seen.1, kept.1, "{bad}");
        let seen = masked::<Beside<Untagged>>(&[&good, &bad], KEYS, WORDS);
        assert_eq!(seen.0[..4], kept.0[..4], "{bad}");
        assert_eq!(seen.1, kept.1, "{bad}");
    }
}

#[test]
fn a_buffered_secret_is_found_however_its_value_is_spelled() {
    for value in [
        "0042",
        "0x1F",
        "True",
        "1_000",
        "1.50",
        "'0042'",
        "' x '",
        "100",
        "''",
        "[1, 0x1F]",
    ] {
        let flat = format!("qps: 100\nname: alice\nx: {{n: 1, m: 1, phrase: {value}}}\n");
        let tagged = flat.replace("n: 1", "kind: counted");
        let seen = masked::<Beside<Flat>>(&[&flat], KEYS, WORDS);
        if value.starts_with('[') {
            // No text is a list, and a failed read may mark an equal number beside the secret.
            assert_eq!((seen.0[4], seen.1), (true, vec![true, false]), "{flat}");
            continue;
        }
        assert_eq!(seen, (ONE.to_vec(), vec![true, false]), "{flat}");
        let seen = masked::<Beside<Tagged>>(&[&tagged], KEYS, WORDS);
        assert_eq!(seen, (ONE.to_vec(), vec![true, false]), "{tagged}");
        let seen = masked::<Beside<Untagged>>(&[&tagged], KEYS, WORDS);
        assert_eq!(seen, (ONE.to_vec(), vec![true, false]), "{tagged}");
    }
}

#[test]
fn a_text_that_spells_a_struct_with_a_buffered_secret_is_secret_alone() {
    let text =
        format!("qps: 100\nname: alice\nx: '{{\"n\": 1, \"m\": 1, \"phrase\": \"{MARK}\"}}'\n");
    let seen = masked::<Beside<Flat>>(&[&text], &["qps", "name", "x"], WORDS);
    assert_eq!(seen, (vec![false, false, true], vec![true, false]));
}

#[test]
fn every_value_in_a_buffered_secret_container_is_secret() {
    type Map = HashMap<String, String>;
    let keys = &["qps", "x.n", "x.v.a", "x.v.b"];
    let words = &["zebra", "0x1F", "0042"];
    let none = vec![false; 3];
    let check = |v: &str, seen: (Vec<bool>, Vec<bool>)| {
        assert_eq!(seen, (vec![false, false, true, true], none.clone()), "{v}");
    };
    for v in [
        "{a: zebra, b: 0x1F}",
        "{a: 0x1F, b: 0042}",
        "{a: zebra, b: 31}",
    ] {
        let text = format!("qps: 1\nx: {{n: 1, v: {v}}}\n");
        check(v, masked::<Beside<Held<Map>>>(&[&text], keys, words));
    }
    for v in [
        "{a: 0x1F, b: 3}",
        "{a: zebra, b: '0x1F'}",
        "{a: zebra, b: 1}",
    ] {
        let text = format!("qps: 1\nx: {{n: 1, v: {v}}}\n");
        check(v, masked::<Beside<Held<Part>>>(&[&text], keys, words));
    }
    for v in ["[zebra, 0x1F]", "'zebra, 0x1F'"] {
        let text = format!("qps: 1\nx: {{n: 1, v: {v}}}\n");
        let seen = masked::<Beside<Held<Vec<String>>>>(&[&text], &["qps", "x.n", "x.v"], words);
        assert_eq!(seen, (vec![false, false, true], none.clone()), "{v}");
    }
    for v in ["3s", "'3s'", "PT3S"] {
        let text = format!("qps: 1\nx: {{n: 1, v: {v}}}\n");
        let seen = masked::<Beside<Held<Duration>>>(&[&text], &["qps", "x.n", "x.v"], &["3s"]);
        assert_eq!(seen, (vec![false, false, true], vec![false]), "{v}");
    }
}

#[test]
fn an_equal_value_outside_of_the_buffered_struct_stays_open() {
    let text = "qps: 100\nname: alice\nx: {n: 100, m: 1, phrase: 100}\n";
    let seen = masked::<Beside<Flat>>(&[text], KEYS, &["alice"]);
    assert_eq!(seen, (ONE.to_vec(), vec![true]));
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[allow(dead_code)] // only decoded
struct Pool<P> {
    pool: u8,
    password: P,
}

#[test]
fn an_error_in_a_text_that_spells_a_struct_masks_its_secret_field_and_no_other() -> Result<(), Error>
{
    let one = format!("{{\"pool\":\"wide\",\"password\":\"{MARK}\"}}");
    let vars = [
        ("APP_DB", one.clone()),
        ("APP_DBS", format!("[{one},{one}]")),
        ("APP_NEST__DB", one),
    ];
    let props = Properties::builder()
        .source(Env::prefix("APP_").vars(vars))
        .build()?;
    for _ in 0..2 {
        let errors = [
            ("db.pool", props.get::<Pool<String>>("db").map(drop)),
            ("db.pool", props.get::<Pool<Secret<String>>>("db").map(drop)),
            (
                "db.pool",
                props.bind::<Pool<Secret<String>>>("db").build().map(drop),
            ),
            (
                "nest.db.pool",
                props
                    .get::<HashMap<String, Pool<Secret<String>>>>("nest")
                    .map(drop),
            ),
            (
                "dbs.0.pool",
                props.get::<Vec<Pool<String>>>("dbs").map(drop),
            ),
            (
                "dbs.1.pool",
                props.get::<Vec<Pool<Secret<String>>>>("dbs").map(drop),
            ),
        ];
        for (key, outcome) in errors {
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains(key) && text.contains("wide"), "{key}: {text}");
            assert!(!text.contains(MARK), "{text}");
        }
    }
    Ok(())
}

#[test]
fn a_start_from_a_cache_without_the_buffered_secret_loses_no_other_value() {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store::default();
    let start = || {
        let builder = Properties::builder().state_dir(temporary.path());
        let source = store.clone().with(|policy| policy.cached());
        let props = builder.source(source).build().unwrap();
        drop(props.bind::<Beside<Flat>>("").build());
        drop(props.get::<Beside<Flat>>(""));
        drop(props.get::<Beside<Tagged>>(""));
        props.get::<String>("name").unwrap()
    };
    yaml(
        &store,
        &format!("qps: 100\nname: alice\nx: {{kind: counted, n: 1, m: 1, phrase: {MARK}}}\n"),
    );
    assert_eq!(start(), "alice");
    *store.0.lock().unwrap() = None;
    for _ in 0..3 {
        assert_eq!(start(), "alice");
    }
}

#[test]
fn a_key_that_only_may_hold_a_buffered_secret_is_listed_as_a_guess() {
    let temporary = tempfile::tempdir().unwrap();
    let store = Store::default();
    yaml(&store, "qps: 100\nx: {n: 1, m: 100, phrase: 100}\n");
    let build = |plain: Option<&str>| {
        let builder = Properties::builder().state_dir(temporary.path());
        let source = store.clone().with(|policy| policy.cached());
        let builder = builder.source(source);
        let builder = plain
            .into_iter()
            .fold(builder, |it, key| it.not_secret(key));
        let props = builder.build().unwrap();
        let _: Beside<Flat> = props.get("").unwrap();
        props
    };
    let props = build(None);
    let guessed = || props.health().sources[0].guessed_secrets.len();
    eventually(Duration::from_secs(20), || guessed() == 2);
    let guessed = &props.health().sources[0].guessed_secrets;
    let guessed: Vec<String> = guessed.iter().map(ToString::to_string).collect();
    assert_eq!(guessed, ["x.m", "x.phrase"]);
    drop(props);
    let props = build(Some("x.m"));
    assert!(props.explain("x.m").to_string().contains("100"));
    assert!(!props.explain("x.phrase").to_string().contains("100"));
}
