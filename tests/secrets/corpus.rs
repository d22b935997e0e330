//! The names and the forms of values that well-known products use: judged as the corpus says, and shown
//! by no output.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

/// A line of the corpus.
struct Case {
    text: String,
    is_secret: bool,
    origin: String,
}

fn corpus(text: &str) -> Vec<Case> {
    let lines = text.lines().filter(|line| line.starts_with(['+', '-']));
    let case = |line: &str| {
        let (form, origin) = line[2..].rsplit_once(" # ").expect(line);
        Case {
            text: form.trim_end().replace("\\n", "\n"),
            is_secret: line.starts_with('+'),
            origin: origin.trim().to_owned(),
        }
    };
    lines.map(case).collect()
}

fn names() -> Vec<Case> {
    corpus(include_str!("names.txt"))
}

fn forms() -> Vec<Case> {
    corpus(include_str!("values.txt"))
}

/// A planted key, its value, and the part of it that nothing may show.
struct Planted {
    key: String,
    value: String,
    mark: String,
}

/// The form of a value with a secret of its own.
fn filled(form: &Case, n: usize) -> (String, String) {
    let mark = format!("{MARK}x{n}x");
    if !form.text.contains("@@") {
        return (form.text.clone(), form.text.clone());
    }
    // The `@` of an address stands behind the place of its password.
    (form.text.replacen("@@", &mark, 1), mark)
}

fn shown_at(key: &str, value: &str) -> String {
    let memory = Memory::named("m");
    let key = key.trim_start_matches('.');
    memory.set(key, value).expect(key);
    let props = Properties::builder().source(memory).build().unwrap();
    props.explain(key).value.unwrap_or_default()
}

#[test]
fn names_of_keys_are_classified_as_the_corpus_states() {
    let names = names();
    assert!(
        names.len() > 180,
        "{} names are not the corpus",
        names.len()
    );
    let wrong: Vec<String> = names
        .iter()
        .filter(|name| {
            let shown = shown_at(&name.text, "nothing special");
            shown.contains("special") == name.is_secret
        })
        .map(|name| format!("{} ({}): secret {}", name.text, name.origin, name.is_secret))
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn forms_of_values_are_classified_as_the_corpus_states() {
    let forms = forms();
    assert!(
        forms.len() > 150,
        "{} forms are not the corpus",
        forms.len()
    );
    let wrong: Vec<String> = forms
        .iter()
        .enumerate()
        .filter(|(n, form)| {
            let shown = shown_at("plain.value", &filled(form, *n).0);
            shown.contains("******") != form.is_secret
        })
        .map(|(_, form)| format!("{} ({}): secret {}", form.text, form.origin, form.is_secret))
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A type that no planted value can become.
#[derive(Debug, Deserialize)]
#[allow(dead_code)] // only decoded
struct Never {
    no_such_field: u8,
}

fn say(store: &Store, planted: &[Planted], more: &str) {
    let values = planted.iter().map(|one| {
        let value = format!("{}{more}", one.value);
        (one.key.clone(), Value::from(value))
    });
    store.says(values);
}

fn read(out: &Outputs, props: &Properties, planted: &[Planted]) {
    for key in planted.iter().map(|one| one.key.as_str()) {
        for told in [props.explain(key), props.snapshot().explain(key)] {
            out.text("explain", &told);
            out.debug("explain", &told);
        }
        out.rejection("reading", props.get::<u32>(key));
        out.rejection("reading", props.get_opt::<Vec<u32>>(key));
        out.rejection("reading", props.get::<BTreeMap<String, u32>>(key));
        out.rejection("binding", props.snapshot().bind::<Never>(key));
        out.rejection("a handle", props.property::<u32>(key).build());
        let never = props
            .property::<Value>(key)
            .validate(|_| Err(String::new()));
        out.rejection("a handle", never.build());
        out.rejection(
            "conflict",
            props.transaction(|tx| {
                out.debug("transaction", tx);
                tx.if_value(key, Some("other".into()))
            }),
        );
    }
    out.rejection("binding all", props.snapshot().bind::<Never>(""));
    let deep = props.bind::<BTreeMap<String, BTreeMap<String, u8>>>("");
    out.rejection("binding all", deep.build());
    out.debug("health", &props.health());
    for rejected in props.health().rejected {
        out.error("rejected", &rejected.error);
    }
    for unknown in props.unknown_keys() {
        out.text("unknown key", &unknown);
        out.debug("unknown key", &unknown);
    }
    out.debug("unused keys", &props.unused_keys());
    out.debug("properties", props);
    out.debug("snapshot", &props.snapshot());
    let history = props.history().unwrap();
    out.debug("history", &history);
    for older in &history[1..] {
        changes(out, "history", &history[0], older);
    }
}

/// Plants values and has everything said of them that can be said; returns what showed one.
fn leaks(planted: &[Planted]) -> (usize, Vec<String>) {
    let out = Outputs::default();
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("state");
    let store = Store::default();
    say(&store, planted, "");
    let start = |out: &Outputs| {
        let (events, batches) = (out.clone(), out.clone());
        let props = Properties::builder()
            .state_dir(&dir)
            .history(8)
            .track_usage()
            .inline_callbacks()
            .schema(Schema::new().strict(""))
            .on_source_event(move |event| events.debug("event", event))
            .source(store.clone().with(|policy| policy.cached()))
            .build()
            .unwrap();
        let subscription = props.on_change_under("", move |batch| {
            batches.debug("batch", batch);
            for change in batch.changes() {
                batches.text("change", change);
                batches.rejection("change as a number", change.get::<u32>());
            }
        });
        (props, subscription.unwrap())
    };
    let (props, subscription) = start(&out);
    let handles: Vec<_> = planted
        .iter()
        .map(|one| {
            let calm = |value: &Option<Value>| {
                if format!("{value:?}").contains("reject me") {
                    return Err(format!("not calm: {value:?}"));
                }
                Ok(())
            };
            let handle = props.property::<Option<Value>>(&one.key).validate(calm);
            let handle = handle.build().unwrap();
            out.debug("handle", &handle);
            out.debug("version", &handle.versioned());
            handle
        })
        .collect();
    read(&out, &props, planted);
    say(&store, planted, " and more");
    props.refresh_now().unwrap();
    let source = props.health().sources.last().unwrap().source;
    let all = |more: &str| {
        let values = planted.iter();
        let values =
            values.map(|one| (one.key.clone(), Value::from(format!("{}{more}", one.value))));
        document(values).unwrap()
    };
    let checked = props.check(source, all(" and others")).unwrap();
    out.debug("checked", &checked);
    checked
        .changes
        .iter()
        .for_each(|change| out.text("checked", change));
    out.rejection("checked", props.check(source, all(" reject me")));
    out.debug("document", &all(""));
    out.debug("update", &Update::full(all("")));
    say(&store, planted, " reject me");
    out.rejection("rejected", props.refresh_now());
    read(&out, &props, planted);
    let first = props.history().unwrap().last().unwrap().generation();
    if let Ok(applied) = props.rollback_to(first) {
        out.debug("applied", &applied);
    }
    out.debug("pinned", &props.pinned());
    drop((handles, subscription, props));
    out.files("file", &dir);
    // A start without the store, from what is on disk.
    *store.0.lock().unwrap() = None;
    let (props, subscription) = start(&out);
    read(&out, &props, planted);
    drop((subscription, props));
    for one in planted {
        let key = || Schema::key::<String>(&one.key).default(&*one.value);
        let number = Schema::key::<u32>(&one.key).default(&*one.value);
        for schema in [Schema::new().declare(key()), Schema::new().declare(number)] {
            out.text("schema as text", schema.to_text());
            out.text("schema as JSON", schema.to_json_schema());
            out.debug("schema", &schema);
            out.rejection("schema", Properties::builder().schema(schema).build());
        }
        let few = Schema::new().declare(Schema::key::<String>(&one.key).one_of([&*one.value]));
        out.text("one of few", few.to_text());
        out.text("one of few", few.to_json_schema());
        let props = Properties::builder().schema(few).build().unwrap();
        out.rejection("one of few", props.set(&one.key, "another"));
    }
    let all = out.0.lock().unwrap();
    assert!(
        all.len() > 50 * planted.len(),
        "{} are not a full run",
        all.len()
    );
    // A debug text escapes quotes and line breaks.
    let escaped = |one: &Planted| one.mark.escape_debug().to_string();
    let marks: Vec<String> = planted.iter().map(escaped).collect();
    let mut leaks = BTreeSet::new();
    for (what, text) in all.iter() {
        let plain = planted.iter().filter(|one| !one.mark.starts_with(MARK));
        let shown = plain.filter(|one| text.contains(&one.mark));
        let marked = text.contains(MARK);
        let escaped = planted.iter().zip(&marks).filter(|(one, mark)| {
            (marked || !one.mark.starts_with(MARK)) && text.contains(mark.as_str())
        });
        for one in shown.chain(escaped.map(|(one, _)| one)) {
            leaks.insert(format!("{what} shows `{}` of {}", one.mark, one.key));
        }
    }
    (all.len(), leaks.into_iter().collect())
}

/// A plain key for the form of a value, and a key of a name that no other one has above it.
fn key(n: usize, name: &str) -> String {
    format!("n{n}n.{}", name.trim_start_matches('.'))
}

fn plant(names: &[&Case], forms: &[&Case]) -> Vec<Planted> {
    let pairs = names
        .iter()
        .flat_map(|name| forms.iter().map(move |form| (name, form)));
    let plant = |(n, (name, form)): (usize, (&&Case, &&Case))| {
        let (value, mark) = filled(form, n);
        let key = key(n, &name.text);
        Planted { key, value, mark }
    };
    pairs.enumerate().map(plant).collect()
}

fn plain(text: &str) -> Case {
    Case {
        text: text.to_owned(),
        is_secret: true,
        origin: String::new(),
    }
}

#[test]
fn no_output_shows_a_secret_of_the_corpus() {
    let (names, forms) = (names(), forms());
    let secret_names: Vec<&Case> = names.iter().filter(|name| name.is_secret).collect();
    let secret_forms: Vec<&Case> = forms.iter().filter(|form| form.is_secret).collect();
    for planted in [
        plant(&secret_names, &[&plain("@@")]),
        plant(&[&plain("plain.value")], &secret_forms),
    ] {
        let (_, leaks) = leaks(&planted);
        assert!(leaks.is_empty(), "{}:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// The forms that are planted below a name: the secret ones, and below a secret name all, with a mark.
fn forms_for(name: &Case, forms: &[Case]) -> Vec<Case> {
    // A value with a reference to a key that is not there cannot be read.
    let forms = forms.iter().filter(|form| !form.text.contains("${"));
    let forms = forms.filter(|form| form.is_secret || name.is_secret);
    let marked = |form: &Case| {
        let mark = if form.is_secret { "" } else { " @@" };
        plain(&format!("{}{mark}", form.text))
    };
    forms.map(marked).collect()
}

/// The forms that are planted below a name at a time.
const GROUP: usize = 24;

/// Each name with each form, where either is secret. It runs only with
/// `LIVEPROPS_SECRET_SCAN=long`, since it takes a minute in a release build.
#[test]
fn no_output_shows_a_secret_in_any_pair_of_the_corpus() {
    if std::env::var("LIVEPROPS_SECRET_SCAN").as_deref() != Ok("long") {
        return;
    }
    let begun = Instant::now();
    let (names, forms) = (names(), forms());
    let next = AtomicUsize::new(0);
    let (pairs, outputs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let found = Mutex::new(Vec::new());
    let scan = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let forms = forms_for(name, &forms);
            let forms: Vec<&Case> = forms.iter().collect();
            // Each error lists every key, so the time grows with the square of a group.
            for group in forms.chunks(GROUP) {
                let planted = plant(&[name], group);
                let (count, leaks) = leaks(&planted);
                pairs.fetch_add(planted.len(), Ordering::Relaxed);
                outputs.fetch_add(count, Ordering::Relaxed);
                found.lock().unwrap().extend(leaks);
            }
        }
    };
    // A part of the time is waiting for disks.
    std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(scan))));
    let (pairs, outputs) = (pairs.into_inner(), outputs.into_inner());
    let mut found = found.into_inner().unwrap();
    println!(
        "{pairs} pairs of a name and a form, {outputs} outputs, {} leaks, {:?}",
        found.len(),
        begun.elapsed()
    );
    found.truncate(50);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
