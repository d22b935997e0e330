//! Which layer wins, and what happens when layers are added, removed and moved.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex, OnceLock};

use liveprops::explain::LayerValue;
use liveprops::sources::{Env, Memory};
use liveprops::{Error, ErrorKind, Key, Layer, Properties, Value};
use support::{Inbox, reports};

type Seen = Option<String>;

/// Records the new values of a handle.
fn watch(props: &Properties, key: &str) -> (liveprops::property::Subscription, Inbox<Seen>) {
    let handle = props.property::<Seen>(key).build().unwrap();
    let (report, inbox) = reports();
    let sub = handle.on_change(move |change| report(change.new_value().clone()));
    (sub, inbox)
}

fn text(value: &str) -> Seen {
    Some(value.to_owned())
}

// Archaius 1: the composite walk; override set and cleared, container (weakest) set and cleared.
#[test]
fn a_key_always_has_the_value_of_the_strongest_layer_that_defines_it() -> Result<(), Error> {
    let container = Memory::named("container");
    let file = Memory::named("file");
    let system = Memory::named("system");
    let props = Properties::builder()
        .inline_callbacks()
        .source(container.clone())
        .source(file.clone())
        .source(system.clone())
        .build()?;
    let prop = props.property::<Seen>("prop1").build()?;
    let (_sub, inbox) = watch(&props, "prop1");
    let expect = |value: Seen, calls: &[Seen], step: &str| {
        assert_eq!(prop.get(), value, "handle at step {step}");
        assert_eq!(props.get_opt::<String>("prop1").unwrap(), value, "{step}");
        assert_eq!(inbox.all(), calls, "calls at step {step}");
    };

    expect(None, &[], "0: no layer defines it");
    container.set("prop1", "container")?;
    expect(text("container"), &[text("container")], "1: container set");
    file.set("prop1", "file")?;
    expect(text("file"), &[text("file")], "2: file over container");
    system.set("prop1", "system")?;
    expect(text("system"), &[text("system")], "3: system over file");
    props.set("prop1", "override")?;
    expect(text("override"), &[text("override")], "4: override set");
    file.set("prop1", "file2")?;
    expect(text("override"), &[], "5: a shadowed change is silent");
    system.remove("prop1")?;
    expect(text("override"), &[], "6: a shadowed removal is silent");
    props.remove("prop1")?;
    expect(text("file2"), &[text("file2")], "7: override cleared");
    container.set("prop1", "container2")?;
    expect(text("file2"), &[], "8: shadowed container");
    file.remove("prop1")?;
    expect(
        text("container2"),
        &[text("container2")],
        "9: falls through",
    );
    props.set("prop1", "override2")?;
    expect(
        text("override2"),
        &[text("override2")],
        "10: override again",
    );
    container.remove("prop1")?;
    expect(text("override2"), &[], "11: container cleared");
    props.remove("prop1")?;
    expect(None, &[None], "12: nothing left");
    Ok(())
}

#[test]
fn a_hundred_changes_of_a_shadowed_key_call_no_callback_and_make_no_generation() -> Result<(), Error>
{
    let (low, high) = (Memory::new(), Memory::from([("k", "high")]));
    let props = Properties::builder()
        .inline_callbacks()
        .source(low.clone())
        .source(high)
        .build()?;
    let (_sub, inbox) = watch(&props, "k");
    let before = props.generation();
    for i in 0..100 {
        low.set("k", i)?;
    }
    assert!(inbox.all().is_empty());
    assert_eq!(props.generation(), before);
    assert_eq!(props.get::<String>("k")?, "high");
    Ok(())
}

#[test]
fn the_higher_rank_wins_and_within_a_rank_the_later_source() -> Result<(), Error> {
    let props = Properties::builder()
        .source_in(Layer::new("strong", 900), Memory::from([("a", "strong")]))
        .source_in(
            Layer::new("twin", 600),
            Memory::from([("a", "first"), ("b", "first")]),
        )
        .source_in(
            Layer::new("twin", 600),
            Memory::from([("a", "second"), ("b", "second")]),
        )
        .source_in(
            Layer::new("weak", 100),
            Memory::from([("b", "weak"), ("c", "weak")]),
        )
        .default("c", "default")
        .default("d", "default")
        .build()?;
    let all = ["a", "b", "c", "d"].map(|key| props.get::<String>(key).unwrap());
    assert_eq!(all, ["strong", "second", "weak", "default"]);
    Ok(())
}

// Archaius 2 drops the whole layer along with one of its sources; Archaius 1 notifies no callback.
#[test]
fn removing_a_source_removes_only_its_own_keys_and_notifies_their_handles() -> Result<(), Error> {
    let props = Properties::builder().inline_callbacks().build()?;
    let rank = || Layer::new("remote", 300);
    let one = props.add_source_in(rank(), Memory::from([("one", "1"), ("both", "1")]))?;
    let two = props.add_source_in(rank(), Memory::from([("two", "2"), ("both", "2")]))?;
    let (_a, ones) = watch(&props, "one");
    let (_b, twos) = watch(&props, "two");
    let (_c, boths) = watch(&props, "both");

    props.remove_source(two)?;
    assert_eq!(props.get::<String>("one")?, "1", "the sibling's key stays");
    assert_eq!(props.get::<String>("both")?, "1", "the sibling shows again");
    assert_eq!(props.get_opt::<String>("two")?, None);
    assert_eq!(twos.all(), [None], "the handle of a removed key fires");
    assert_eq!(boths.all(), [text("1")]);
    assert_eq!(ones.all(), [], "the sibling's handle does not");

    props.remove_source(one)?;
    assert_eq!((ones.all(), boths.all()), (vec![None], vec![None]));
    let again = props.remove_source(one).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotFound);
    Ok(())
}

#[test]
fn a_source_added_while_running_overrides_the_others_and_fires_once() -> Result<(), Error> {
    let props = Properties::builder()
        .inline_callbacks()
        .source(Memory::from([("k", "old"), ("other", "o")]))
        .build()?;
    let (_sub, inbox) = watch(&props, "k");
    let (_other, others) = watch(&props, "other");
    let before = props.generation();
    let added = Memory::named("late");
    added.set("k", "new")?;
    let id = props.add_source(added.clone())?;
    assert_eq!(props.generation(), before + 1, "one commit");
    assert_eq!(inbox.all(), [text("new")]);
    added.set("k", "newer")?;
    assert_eq!(inbox.all(), [text("newer")], "and it is live");

    // Moved below everything: the old value shows again. Moved back: the new one.
    props.move_source(id, Layer::new("bottom", 1))?;
    assert_eq!(inbox.all(), [text("old")]);
    props.move_source(id, Layer::new("top", 1_000))?;
    assert_eq!(inbox.all(), [text("newer")]);
    assert!(others.all().is_empty(), "a key it never had is untouched");
    Ok(())
}

#[test]
fn a_source_whose_values_are_rejected_is_not_added() -> Result<(), Error> {
    let props = Properties::builder()
        .source(Memory::from([("n", 1)]))
        .build()?;
    let n = props.property::<u32>("n").build()?;
    let before = (props.generation(), props.health().sources.len());
    let error = props.add_source(Memory::from([("n", "many")])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    assert_eq!(n.get(), 1);
    assert_eq!((props.generation(), props.health().sources.len()), before);
    Ok(())
}

#[test]
fn a_required_key_keeps_its_source_from_being_removed_until_another_has_it() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    let id = props.add_source(Memory::from([("n", 1)]))?;
    let n = props.property::<u32>("n").build()?;
    let error = props.remove_source(id).unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::NotFound, Some("n"))
    );
    assert_eq!(n.get(), 1);
    props.add_source_in(Layer::new("base", 100), Memory::from([("n", 2)]))?;
    props.remove_source(id)?;
    assert_eq!(n.get(), 2);
    Ok(())
}

// The override layer is no source and cannot be removed.
#[test]
fn the_override_layer_cannot_be_removed_or_moved() -> Result<(), Error> {
    let props = Properties::builder().build()?;
    props.set("k", 1)?;
    let own = props.explain("k").layers[0].source;
    assert!(props.remove_source(own).is_err());
    assert!(props.move_source(own, Layer::new("weak", 1)).is_err());
    props.set("k", 2)?;
    assert_eq!(props.get::<u32>("k")?, 2);
    Ok(())
}

#[test]
fn a_tombstone_hides_the_key_and_clearing_it_shows_the_key_again() -> Result<(), Error> {
    let (low, high) = (Memory::from([("k", "low")]), Memory::named("high"));
    let props = Properties::builder()
        .inline_callbacks()
        .source(low.clone())
        .source(high.clone())
        .build()?;
    let (_sub, inbox) = watch(&props, "k");

    high.unset("k")?;
    assert_eq!(props.get_opt::<String>("k")?, None, "absent, not empty");
    assert_eq!(inbox.all(), [None]);
    let explanation = props.explain("k");
    assert!(
        explanation
            .layers
            .iter()
            .any(|layer| layer.value == LayerValue::Unset && layer.wins)
    );
    low.set("k", "changed below")?;
    assert_eq!(inbox.all(), [], "what it hides stays hidden");

    high.remove("k")?;
    assert_eq!(inbox.all(), [text("changed below")]);
    high.set("k", "")?;
    assert_eq!(props.get::<String>("k")?, "", "empty text is a value");
    assert_eq!(inbox.all(), [text("")]);
    Ok(())
}

#[test]
fn a_tombstone_hides_a_whole_table_and_the_program_can_set_one_too() -> Result<(), Error> {
    let low = Memory::from([("db.host", "h"), ("db.port", "1")]);
    let props = Properties::builder().source(low).build()?;
    props.set("db", Value::Unset)?;
    assert!(!props.snapshot().contains("db.host"));
    assert!(!props.snapshot().contains("db"));
    props.remove("db")?;
    assert_eq!(props.get::<String>("db.host")?, "h");
    props.transaction(|tx| tx.unset("db.port"))?;
    assert_eq!(props.snapshot().keys().len(), 1);
    Ok(())
}

// config-rs 78: values above a tombstone are visible, those below are hidden.
#[test]
fn a_layer_above_a_tombstone_is_visible() -> Result<(), Error> {
    let (low, mid, high) = (Memory::new(), Memory::new(), Memory::new());
    let props = Properties::builder()
        .sources([low.clone(), mid.clone(), high.clone()])
        .build()?;
    low.set("t.a", 1)?;
    mid.unset("t")?;
    high.set("t.b", 2)?;
    let keys: Vec<String> = props
        .snapshot()
        .keys()
        .iter()
        .map(|key| key.to_string())
        .collect();
    assert_eq!(keys, ["t.b"]);
    Ok(())
}

#[test]
fn tables_merge_key_by_key_and_lists_replace() -> Result<(), Error> {
    let low = Memory::new();
    low.set("db.host", "low")?;
    low.set("db.pool.min", 1)?;
    low.set("db.tags", vec!["a", "b"])?;
    let high = Memory::new();
    high.set("db.host", "high")?;
    high.set("db.pool.max", 9)?;
    high.set("db.tags", vec!["c"])?;
    let props = Properties::builder()
        .source(low.clone())
        .source(high)
        .build()?;
    assert_eq!(props.get::<String>("db.host")?, "high");
    assert_eq!(props.get::<u32>("db.pool.min")?, 1);
    assert_eq!(props.get::<u32>("db.pool.max")?, 9);
    assert_eq!(props.get::<Vec<String>>("db.tags")?, ["c"]);
    // The inputs are unchanged.
    let alone = Properties::builder().source(low).build()?;
    assert_eq!(alone.get::<String>("db.host")?, "low");
    assert_eq!(alone.get::<Vec<String>>("db.tags")?, ["a", "b"]);
    Ok(())
}

#[test]
fn a_table_that_meets_a_value_is_reported_and_the_stronger_wins() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .build()?;
    low.set("db.host", "h")?;
    high.set("db", "off")?;
    assert_eq!(props.get::<String>("db")?, "off");
    assert_eq!(props.get_opt::<String>("db.host")?, None);
    let clash = |key: &str| {
        let rejected = props.health().rejected;
        rejected.iter().any(|error| {
            error.error.key().map(Key::as_str) == Some(key)
                && error.error.to_string().contains("hides")
        })
    };
    assert!(clash("db"), "{:?}", props.health().rejected);

    high.remove("db")?;
    assert_eq!(props.get::<String>("db.host")?, "h");
    high.set("x.y", 1)?;
    low.set("x", "scalar")?;
    assert_eq!(props.get::<u32>("x.y")?, 1);
    assert!(clash("x"), "{:?}", props.health().rejected);
    Ok(())
}

#[test]
fn lists_are_joined_only_where_the_builder_asks_for_it() -> Result<(), Error> {
    let (low, high) = (Memory::new(), Memory::new());
    let props = Properties::builder()
        .append("plugins")
        .source(low.clone())
        .source(high.clone())
        .inline_callbacks()
        .build()?;
    let plugins = props
        .property::<Vec<String>>("plugins")
        .default(vec![])
        .build()?;
    let (report, inbox) = reports();
    let _sub = plugins.on_change(move |change| report(change.new_value().clone()));
    low.set("plugins", vec!["a", "b"])?;
    high.set("plugins", "c, d")?;
    assert_eq!(plugins.get(), ["a", "b", "c", "d"]);
    low.set("plugins", vec!["z"])?;
    assert_eq!(
        plugins.get(),
        ["z", "c", "d"],
        "a change of the weaker part shows"
    );
    high.remove("plugins")?;
    assert_eq!(plugins.get(), ["z"]);
    assert_eq!(inbox.all().len(), 4);
    low.set("others", vec!["a"])?;
    high.set("others", vec!["b"])?;
    assert_eq!(props.get::<Vec<String>>("others")?, ["b"]);
    Ok(())
}

#[test]
fn a_scoped_view_reads_writes_and_calls_back_as_the_full_keys_do() -> Result<(), Error> {
    let memory = Memory::from([("app.db.host", "h"), ("app2.db.host", "other")]);
    let props = Properties::builder()
        .inline_callbacks()
        .source(memory.clone())
        .build()?;
    let view = props.scoped("app")?.scoped("db")?;
    assert_eq!(view.prefix().as_str(), "app.db");
    assert_eq!(view.get::<String>("host")?, "h");
    assert_eq!(view.get_opt::<u16>("port")?, None);
    assert_eq!(view.get_or("port", 1u16), 1);

    let short = view.property::<Seen>("host").build()?;
    let full = props.property::<Seen>("app.db.host").build()?;
    assert_eq!(short.key(), full.key());
    let (report, inbox) = reports();
    let (one, two, three) = (report.clone(), report.clone(), report);
    let _a = short.on_change(move |change| one(format!("short {:?}", change.new_value())));
    let _b = full.on_change(move |change| two(format!("full {:?}", change.new_value())));
    let _c = view.on_change_under("", move |batch| {
        let keys: Vec<_> = batch
            .changes()
            .iter()
            .map(|c| c.key().to_string())
            .collect();
        three(format!("under {keys:?}"));
    })?;
    memory.set("app.db.host", "i")?;
    let mut calls = inbox.all();
    calls.sort();
    let expected = [
        r#"full Some("i")"#,
        r#"short Some("i")"#,
        r#"under ["app.db.host"]"#,
    ];
    assert_eq!(calls, expected);
    // A sibling with the same prefix in its name is no part of the view.
    memory.set("app2.db.host", "x")?;
    assert_eq!(inbox.all(), Vec::<String>::new());

    view.set("host", "set")?;
    assert_eq!(props.get::<String>("app.db.host")?, "set");
    view.remove("host")?;
    assert_eq!(full.get().as_deref(), Some("i"));
    assert_eq!(view.explain("host").key, "app.db.host");
    Ok(())
}

#[test]
fn fallback_keys_of_a_scoped_handle_stay_in_the_scope() -> Result<(), Error> {
    let memory = Memory::from([("app.old", 1), ("old", 2)]);
    let props = Properties::builder().source(memory).build()?;
    let view = props.scoped("app")?;
    let new = view.property::<u32>("new").or_key("old").build()?;
    assert_eq!(new.get(), 1);
    Ok(())
}

#[test]
fn relaxed_names_find_one_key_and_fail_for_two() -> Result<(), Error> {
    let memory = Memory::from([
        ("db.maxPoolSize", 1),
        ("db.min_size", 2),
        ("db.min-size", 3),
    ]);
    let props = Properties::builder().source(memory).build()?;
    let tree = props.snapshot();
    assert_eq!(
        tree.find_relaxed("DB.max-pool_size")?.as_str(),
        "db.maxPoolSize"
    );
    // Only when asked: the plain call stays strict.
    assert_eq!(props.get_opt::<u32>("db.max-pool-size")?, None);
    let error = tree.find_relaxed("db.minSize").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    let text = error.to_string();
    assert!(
        text.contains("db.min_size") && text.contains("db.min-size"),
        "{text}"
    );
    assert_eq!(
        tree.find_relaxed("db.nothing").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    Ok(())
}

// config-rs 26, 340: keys keep their case. The error of a misspelt one names the nearest key
// (config-rs 14).
#[test]
fn keys_are_case_sensitive_and_the_error_of_a_missing_one_suggests_a_neighbour() -> Result<(), Error>
{
    let props = Properties::builder()
        .source(Memory::from([("http.Retries", 1)]))
        .build()?;
    let error = props.get::<u32>("http.retries").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("http.Retries"), "{error}");
    Ok(())
}

/// Compares merging with a plain model: each leaf has the value of the strongest layer that defines
/// it.
#[test]
fn merging_agrees_with_a_plain_model_for_random_layers() -> Result<(), Error> {
    let mut random = support::Random(0x5eed_1234);
    let keys = ["a", "b.x", "b.y", "c.d.e", "c.d.f", "g"];
    let layers: Vec<Memory> = (0..4).map(|i| Memory::named(&format!("l{i}"))).collect();
    let props = Properties::builder().sources(layers.clone()).build()?;
    let mut model = vec![vec![None::<Option<i64>>; keys.len()]; layers.len()];
    for step in 0..3_000 {
        let (l, k) = (
            random.below(4) as usize,
            random.below(keys.len() as u64) as usize,
        );
        model[l][k] = match random.below(5) {
            0 | 1 => {
                layers[l].remove(keys[k])?;
                None
            }
            2 => {
                layers[l].unset(keys[k])?;
                Some(None)
            }
            _ => {
                layers[l].set(keys[k], step)?;
                Some(Some(step))
            }
        };
        for (k, key) in keys.iter().enumerate() {
            let expected = (0..4).rev().find_map(|l| model[l][k]).flatten();
            assert_eq!(props.get_opt::<i64>(key)?, expected, "{key} at step {step}");
        }
    }
    // The tree built step by step is the tree built at once.
    let fresh = Properties::builder().sources(layers).build()?;
    assert_eq!(fresh.snapshot().keys(), props.snapshot().keys());
    Ok(())
}

#[test]
fn a_default_is_the_weakest_part_of_a_joined_list_and_a_tombstone_ends_the_joining()
-> Result<(), Error> {
    let (low, high) = (Memory::new(), Memory::new());
    let props = Properties::builder()
        .append("l")
        .default("l", vec!["d"])
        .default("replaced", vec!["d"])
        .source(low.clone())
        .source(high.clone())
        .build()?;
    let read = |key: &str| props.get::<Vec<String>>(key);
    assert_eq!(read("l")?, ["d"]);
    low.set("l", vec!["low"])?;
    low.set("replaced", vec!["low"])?;
    high.set("l", "x,y")?;
    assert_eq!(read("l")?, ["d", "low", "x", "y"]);
    assert_eq!(read("replaced")?, ["low"]);
    props.set("l", vec!["top"])?;
    assert_eq!(read("l")?, ["d", "low", "x", "y", "top"]);
    low.unset("l")?;
    assert_eq!(read("l")?, ["x", "y", "top"]);
    Ok(())
}

#[test]
fn many_layers_are_merged_like_few() -> Result<(), Error> {
    const LAYERS: usize = 40;
    let value = |layer: usize| i64::try_from(layer).unwrap();
    let sources: Vec<Memory> = (0..LAYERS)
        .map(|layer| {
            let memory = Memory::from([("all", value(layer))]);
            memory.set(&format!("some.k{}", layer % 7), value(layer))?;
            memory.set(&format!("own.k{layer}.deep"), value(layer))?;
            if layer == LAYERS / 2 {
                memory.set("unset", Value::Unset)?;
            } else if layer < LAYERS / 2 {
                memory.set("unset", value(layer))?;
            }
            Ok(memory)
        })
        .collect::<Result<_, Error>>()?;
    let props = Properties::builder().sources(sources).build()?;
    assert_eq!(props.get::<i64>("all")?, value(LAYERS - 1));
    for k in 0..7 {
        let strongest = (0..LAYERS).rev().find(|layer| layer % 7 == k).unwrap();
        assert_eq!(props.get::<i64>(&format!("some.k{k}"))?, value(strongest));
    }
    for layer in 0..LAYERS {
        let key = format!("own.k{layer}.deep");
        assert_eq!(props.get::<i64>(&key)?, value(layer));
    }
    assert_eq!(props.get_opt::<i64>("unset")?, None);
    assert_eq!(props.snapshot().keys().len(), 1 + 7 + LAYERS);
    Ok(())
}

/// Returns the keys in the health of a source.
fn problems(props: &Properties, source: &str) -> Vec<(String, String)> {
    let health = props.health();
    let source = health
        .sources
        .iter()
        .find(|s| s.name.starts_with(source))
        .unwrap();
    let problems = source.problems.iter();
    problems
        .map(|problem| (problem.key().unwrap().to_string(), problem.to_string()))
        .collect()
}

#[test]
fn an_index_overrides_that_item_of_the_list_of_a_lower_layer() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .inline_callbacks()
        .build()?;
    low.set("l", vec!["x", "y", "z"])?;
    let list = props.property::<Vec<String>>("l").build()?;
    let (_sub, item) = watch(&props, "l.1");
    high.set("l.1", "B")?;
    assert_eq!(list.get(), ["x", "B", "z"]);
    assert_eq!(item.all(), [text("B")]);
    let keys = props.snapshot().keys();
    assert_eq!(
        keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
        ["l"]
    );
    high.set("l.3", "D")?;
    assert_eq!(list.get(), ["x", "B", "z", "D"], "the next index appends");
    high.remove("l.1")?;
    assert_eq!(list.get(), ["x", "y", "z", "D"]);
    assert!(props.health().is_up(), "{:?}", props.health());
    // A text that spells a list has items too.
    low.set("l", "p, q, r")?;
    assert_eq!(list.get(), ["p", "q", "r", "D"]);
    Ok(())
}

#[test]
fn an_index_past_the_end_is_ignored_and_reported_until_the_list_grows() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .inline_callbacks()
        .build()?;
    low.set("l", vec!["x"])?;
    let list = props.property::<Vec<String>>("l").build()?;
    high.set("l.2", "C")?;
    assert_eq!(list.get(), ["x"]);
    let reported = problems(&props, "memory high");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(reported[0].0, "l.2");
    for part in ["is ignored", "ends with item 0", "memory high"] {
        assert!(reported[0].1.contains(part), "{}", reported[0].1);
    }
    assert!(!props.health().is_up());

    low.set("l", vec!["x", "y"])?;
    assert_eq!(list.get(), ["x", "y", "C"], "it counts again");
    assert_eq!(problems(&props, "memory high"), []);
    assert!(props.health().is_up(), "{:?}", props.health());

    low.set("l", Vec::<String>::new())?;
    assert_eq!(list.get(), Vec::<String>::new());
    assert_eq!(problems(&props, "memory high").len(), 1);
    high.remove("l.2")?;
    assert!(props.health().is_up(), "{:?}", props.health());
    Ok(())
}

#[test]
fn a_number_that_is_not_written_as_an_index_is_ignored_and_reported_by_its_own_name()
-> Result<(), Error> {
    let with = |names: &[&str]| -> Result<Properties, Error> {
        let lower = Memory::from([("l", vec!["x", "y"])]);
        let vars = names.iter().map(|name| (format!("APP_L__{name}"), *name));
        let env = Env::prefix("APP_").vars(vars.collect::<Vec<_>>());
        Properties::builder().source(lower).source(env).build()
    };
    let ignored = |props: &Properties| -> Vec<String> {
        let problems = problems(props, "env");
        problems.into_iter().map(|(key, _)| key).collect()
    };
    let large = "99999999999999999999";
    for (names, list, keys) in [
        (&["0", "00"][..], ["0", "y"], &["l.00"][..]),
        (&["1", "01"], ["x", "1"], &["l.01"]),
        (&["01"], ["x", "y"], &["l.01"]),
        (&["000", "00", "1"], ["x", "1"], &["l.00", "l.000"]),
        (&[large], ["x", "y"], &["l.99999999999999999999"]),
    ] {
        let props = with(names)?;
        assert_eq!(props.get::<Vec<String>>("l")?, list, "{names:?}");
        assert_eq!(ignored(&props), keys, "{names:?}");
        assert!(!props.health().is_up(), "{names:?}");
    }
    let props = with(&["01"])?;
    let problems = problems(&props, "env");
    for part in ["`01` is not an index", "write `1`", "APP_L__01"] {
        assert!(problems[0].1.contains(part), "{}", problems[0].1);
    }
    assert!(with(&["0"])?.health().is_up());
    Ok(())
}

#[test]
fn under_append_a_number_that_is_not_written_as_an_index_is_ignored_and_reported()
-> Result<(), Error> {
    let low = Memory::from([("l", vec!["x"])]);
    let high = Memory::named("high");
    let props = Properties::builder()
        .append("l")
        .source(low)
        .source(high.clone())
        .build()?;
    high.set("l.0", "a")?;
    high.set("l.00", "b")?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["x", "a"]);
    let reported = problems(&props, "memory high");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(reported[0].0, "l.00");
    Ok(())
}

#[test]
fn an_index_that_the_program_sets_past_the_end_is_an_error() -> Result<(), Error> {
    let low = Memory::new();
    let props = Properties::builder().source(low.clone()).build()?;
    low.set("l", vec!["x"])?;
    let error = props.set("l.5", "F").unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::InvalidKey, Some("l.5"))
    );
    let error = props.transaction(|tx| tx.unset("l.0")).unwrap_err();
    assert!(error.to_string().contains("cannot be unset"), "{error}");
    props.transaction(|tx| {
        tx.set("l.1", "b")?;
        tx.set("l.2", "c")
    })?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["x", "b", "c"]);
    Ok(())
}

#[test]
fn indexes_without_a_list_below_form_a_list_only_if_they_are_complete() -> Result<(), Error> {
    let memory = Memory::new();
    let props = Properties::builder().source(memory.clone()).build()?;
    memory.set("l.0", "a")?;
    memory.set("l.1", "b")?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["a", "b"]);
    memory.set("l.5", "f")?;
    let error = props.get::<Vec<String>>("l").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch);
    let gap = "items 2 to 4 are missing between item 1 (memory @ 2) and item 5 (memory @ 3)";
    assert!(error.to_string().contains(gap), "{error}");
    let map = props.get::<std::collections::BTreeMap<u32, String>>("l")?;
    assert_eq!(map.len(), 3, "as a map there is no gap");
    Ok(())
}

#[test]
fn a_list_with_gaps_is_an_error_that_names_what_is_missing_and_what_is_around_it() {
    type Vars = &'static [(&'static str, &'static str)];
    let cases: [(Vars, &[&str]); 4] = [
        (
            &[("APP_L__0", "a"), ("APP_L__2", "b")],
            &[
                "`l`: ",
                "item 1 is missing between item 0 (env APP_L__0) and item 2 (env APP_L__2)",
            ],
        ),
        (
            &[("APP_L__1", "a"), ("APP_L__5", "b")],
            &[
                "item 0 is missing before item 1 (env APP_L__1), ",
                "items 2 to 4 are missing between item 1 (env APP_L__1) and item 5 (env APP_L__5); ",
                "set what is missing, or the list in a lower layer",
            ],
        ),
        (
            &[("APP_L__0__P", "a"), ("APP_L__2__P", "b")],
            &["between item 0 (env APP_L__0__P) and item 2 (env APP_L__2__P)"],
        ),
        (
            &[
                ("APP_L__1", "a"),
                ("APP_L__3", "a"),
                ("APP_L__5", "a"),
                ("APP_L__7", "a"),
                ("APP_L__18446744073709551615", "a"),
            ],
            &["item 4 is missing between", ", 2 more gaps follow; set"],
        ),
    ];
    for (vars, parts) in cases {
        let env = Env::prefix("APP_").vars(vars.iter().copied());
        let props = Properties::builder().source(env).build().unwrap();
        let error = props.get::<Vec<Value>>("l").unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
        let as_map = props.get::<std::collections::BTreeMap<u64, Value>>("l");
        assert_eq!(
            as_map.unwrap().len(),
            vars.len(),
            "as a map there is no gap"
        );
        assert!(props.health().is_up());
    }
}

#[test]
fn a_list_that_indexes_form_is_joined_under_append() -> Result<(), Error> {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .append("l")
        .source(low.clone())
        .source(high.clone())
        .build()?;
    low.set("l", vec!["x"])?;
    high.set("l.0", "a")?;
    high.set("l.1", "b")?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["x", "a", "b"]);
    high.set("l.4", "e")?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["x", "a", "b"]);
    assert_eq!(problems(&props, "memory high")[0].0, "l.4");
    low.unset("l")?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["a", "b"]);
    Ok(())
}

#[test]
fn a_field_of_an_item_of_a_list_of_tables_is_overridden_by_itself() -> Result<(), Error> {
    use liveprops::sources::Env;
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Server {
        name: String,
        port: u16,
    }
    let file = Memory::named("file");
    let server = |name: &str, port: i64| {
        let fields = [("name", Value::from(name)), ("port", Value::from(port))];
        Value::Table(fields.into())
    };
    file.set("l", Value::List([server("a", 1), server("b", 2)].into()))?;
    let env = Env::prefix("APP_").vars([
        ("APP_L__1__NAME", "c"),
        ("APP_L__2__NAME", "d"),
        ("APP_L__2__PORT", "3"),
    ]);
    let props = Properties::builder()
        .source(file.clone())
        .source(env)
        .build()?;
    let names = |props: &Properties| -> Result<Vec<(String, u16)>, Error> {
        let all = props.get::<Vec<Server>>("l")?;
        Ok(all.into_iter().map(|one| (one.name, one.port)).collect())
    };
    let all = [("a", 1), ("c", 2), ("d", 3)];
    assert_eq!(
        names(&props)?,
        all.map(|(name, port)| (name.to_owned(), port))
    );
    // After the list has shrunk, `L__1` is the next item and lacks its port; `L__2` is past the
    // end.
    file.set(
        "l",
        Value::List([server("a", 1), server("b", 2), server("e", 5)].into()),
    )?;
    let all = [("a", 1), ("c", 2), ("d", 3)];
    assert_eq!(
        names(&props)?,
        all.map(|(name, port)| (name.to_owned(), port))
    );
    Ok(())
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Storage {
    Memory,
    S3 { bucket: String },
    File { path: String },
}

#[test]
fn the_variant_of_the_stronger_layer_counts() -> Result<(), Error> {
    #[derive(Debug, serde::Deserialize)]
    struct App {
        storage: Storage,
        backup: Option<Storage>,
    }
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .build()?;
    low.set("storage.s3.bucket", "b")?;
    low.set("backup.s3.bucket", "c")?;
    let storage = props.property::<Storage>("storage").build()?;
    high.set("storage.file.path", "/x")?;
    high.set("backup.file.path", "/y")?;
    let file = |path: &str| Storage::File { path: path.into() };
    assert_eq!(storage.get(), file("/x"));
    assert_eq!(props.get::<Storage>("storage")?, file("/x"));
    let app = props.bind::<App>("").build()?;
    assert_eq!(app.load().storage, file("/x"));
    assert_eq!(app.load().backup, Some(file("/y")));
    high.remove("storage.file")?;
    assert_eq!(storage.get(), Storage::S3 { bucket: "b".into() });
    high.set("storage", "memory")?;
    assert_eq!(storage.get(), Storage::Memory);

    // Within one layer it is ambiguous which one is meant.
    low.set("both.s3.bucket", "b")?;
    low.set("both.file.path", "/x")?;
    let error = props.get::<Storage>("both").unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::Mismatch, Some("both"))
    );
    for part in [
        "several variants",
        "`file` (memory low",
        "`s3` (memory low",
        "leave one",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    Ok(())
}

#[test]
fn a_field_or_alias_of_the_stronger_layer_counts() -> Result<(), Error> {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Look {
        #[serde(alias = "colour")]
        color: String,
        size: u32,
    }
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .build()?;
    low.set("look.colour", "red")?;
    low.set("look.size", 1)?;
    let look = props.bind::<Look>("look").build()?;
    high.set("look.color", "blue")?;
    assert_eq!(look.load().color, "blue");
    high.remove("look.color")?;
    high.set("look.colour", "green")?;
    low.set("look.color", "black")?;
    low.remove("look.colour")?;
    assert_eq!(
        look.load().color,
        "green",
        "the alias is in the stronger layer"
    );
    let error = high.set("look.color", "white").unwrap_err();
    for part in [
        "`color` (memory high",
        "`colour` (memory high",
        "leave one of them",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(look.load().color, "green");
    Ok(())
}

#[test]
fn an_item_past_the_end_of_an_empty_text_leaves_the_text_in_force() -> Result<(), Error> {
    let memory = Memory::named("low");
    let props = Properties::builder().source(memory.clone()).build()?;
    memory.set("a.0", "")?;
    // It counts while item 0 exists, and is ignored as soon as item 0 is removed.
    memory.set("a.0", "x")?;
    props.set("a.0.1", "y")?;
    assert_eq!(props.get::<Vec<String>>("a.0")?, ["x", "y"]);
    memory.set("a.0", "")?;
    let explained = props.explain("a.0");
    assert_eq!(explained.value.as_deref(), Some("\"\""), "{explained}");
    let wins = explained.layers.iter().filter(|layer| layer.wins);
    let wins: Vec<&str> = wins.map(|layer| layer.name.as_str()).collect();
    assert_eq!(wins, ["memory low"], "{explained}");
    assert_eq!(explained.rejected.len(), 1, "{explained}");
    Ok(())
}

#[cfg(feature = "toml")]
#[test]
fn an_error_about_an_item_names_where_that_item_was_written() -> Result<(), Error> {
    use liveprops::sources::{Env, File};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.toml");
    let text =
        "l = [\n  1,\n  \"two\",\n  \"three\",\n  { p = \"x\", q = \"y\" },\n]\nj = [\n\"a\" ]\n";
    std::fs::write(&path, text).unwrap();
    let vars = [
        ("APP_L__0", "first"),
        ("APP_L__3__P", "p"),
        ("APP_L__4", "last"),
        ("APP_J", "b,c"),
    ];
    let props = Properties::builder()
        .source(File::new(&path))
        .source(Env::prefix("APP_").vars(vars))
        .append("j")
        .build()?;
    let file = path.display().to_string();
    let wanted = [
        ("l.0", "env APP_L__0".to_owned()),
        ("l.1", format!("file {file}:3:3")),
        ("l.2", format!("file {file}:4:3")),
        ("l.3.p", "env APP_L__3__P".to_owned()),
        ("l.3.q", format!("file {file}:5:18")),
        ("l.4", "env APP_L__4".to_owned()),
        ("j.0", format!("file {file}:8:1")),
        ("j.1", "env APP_J".to_owned()),
        ("j.2", "env APP_J".to_owned()),
    ];
    for (key, origin) in wanted {
        let error = props.get::<u32>(key).unwrap_err().to_string();
        assert!(error.contains(&origin), "{key}: {error}");
        assert!(!error.contains("joined"), "{key}: {error}");
    }
    // The program reads the whole list, and one item is wrong.
    props.set("l.0", 1)?;
    let error = props.get::<Vec<u32>>("l").unwrap_err().to_string();
    assert!(error.contains(&format!("{file}:3:3")), "{error}");
    assert!(!error.contains("joined"), "{error}");
    Ok(())
}

#[test]
fn a_source_that_pushes_can_be_added_to_running_properties() {
    let props = Properties::builder().build().unwrap();
    let memory = Memory::from([("a", 1)]);
    let id = props.add_source(memory.clone()).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 1);
    memory.set("a", 2).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 2);
    props.remove_source(id).unwrap();
    assert_eq!(props.get_opt::<u32>("a").unwrap(), None);
    memory.set("a", 3).unwrap();
    props.add_source(memory).unwrap();
    assert_eq!(props.get::<u32>("a").unwrap(), 3);
}

#[test]
fn a_rejected_new_source_changes_nothing() {
    let props = Properties::builder().build().unwrap();
    let a = props.property::<u32>("a").default(7).build().unwrap();
    let before = props.generation();
    let memory = Memory::from([("a", "text")]);
    let rejected = props.add_source(memory.clone()).unwrap_err();
    assert_eq!(rejected.kind(), ErrorKind::Mismatch);
    assert_eq!((a.get(), props.generation()), (7, before));
    memory.set("a", 1).unwrap();
    assert_eq!(a.get(), 7, "the source is not attached");
    assert!(props.health().sources.is_empty());
}

#[test]
fn adding_a_source_from_inside_a_validator_fails_at_once() {
    let later: Arc<OnceLock<Properties>> = Arc::default();
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let (inner, log) = (Arc::clone(&later), Arc::clone(&kinds));
    let memory = Memory::new();
    let props = Properties::builder()
        .source(memory.clone())
        .validate(move |_| {
            if let Some(props) = inner.get() {
                let outcome = props.add_source(Memory::from([("b", 1)]));
                log.lock().unwrap().push(outcome.unwrap_err().kind());
            }
            Ok(())
        })
        .build()
        .unwrap();
    later.set(props.clone()).unwrap();
    memory.set("a", 1).unwrap();
    assert_eq!(*kinds.lock().unwrap(), [ErrorKind::Reentrant]);
    assert_eq!(props.get_opt::<u32>("b").unwrap(), None);
}

#[test]
fn a_tombstone_below_a_visible_table_is_not_the_winner() {
    let (low, high) = (Memory::named("low"), Memory::named("high"));
    let props = Properties::builder()
        .source(low.clone())
        .source(high.clone())
        .build()
        .unwrap();
    low.unset("a").unwrap();
    high.set("a.x", 1).unwrap();
    let explained = props.explain("a");
    assert!(
        explained.layers.iter().all(|layer| !layer.wins),
        "{explained}"
    );
}
