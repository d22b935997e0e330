//! Generations that are kept, rolled back to, compared and tried in a dry run.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use liveprops::sources::Memory;
use liveprops::{Document, Error, ErrorKind, Origin, Properties, Value};
use support::Random;

fn history(memory: &Memory) -> Properties {
    Properties::builder()
        .inline_callbacks()
        .history(8)
        .source(memory.clone())
        .build()
        .unwrap()
}

#[test]
fn the_history_keeps_the_last_generations_with_their_changes() -> Result<(), Error> {
    let memory = Memory::from([("n", 0)]);
    let props = history(&memory);
    for n in 1..20 {
        memory.set("n", n)?;
    }
    memory.set("db.password", "hunter2")?;
    let kept = props.history()?;
    assert_eq!(kept.len(), 9);
    assert_eq!(kept.last().unwrap().generation(), props.generation());
    for pair in kept.windows(2) {
        assert_eq!(pair[1].generation(), pair[0].generation() + 1);
        assert_eq!(pair[1].changes_since(&pair[0]).len(), 1);
    }
    let shown: Vec<String> = kept[8]
        .changes_since(&kept[6])
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "db.password: absent -> ****** (memory @ 20)",
            "n: 18 -> 19 (memory @ 19)"
        ]
    );
    Ok(())
}

#[test]
fn without_a_history_nothing_is_kept() -> Result<(), Error> {
    let memory = Memory::from([("n", 0)]);
    let props = Properties::builder().source(memory.clone()).build()?;
    let first = props.generation();
    memory.set("n", 1)?;
    assert_eq!(props.history()?.len(), 1);
    let error = props.rollback_to(first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("Builder::history"), "{error}");
    Ok(())
}

#[test]
fn a_bad_push_stays_rolled_back_whatever_the_sources_report() -> Result<(), Error> {
    let memory = Memory::from([("qps", Value::from(100)), ("burst", Value::from("${qps}"))]);
    let props = history(&memory);
    let (qps, burst) = (
        props.property::<u32>("qps").build()?,
        props.property::<u32>("burst").build()?,
    );
    let good = props.generation();
    memory.replace([
        ("qps", Value::from(1)),
        ("burst", Value::from("2")),
        ("new", Value::from(3)),
    ])?;
    assert_eq!((qps.get(), burst.get()), (1, 2));

    let before = props.generation();
    let applied = props.rollback_to(good)?;
    assert_eq!(
        applied.generation,
        before + 1,
        "it is a generation of its own"
    );
    assert_eq!((qps.get(), burst.get()), (100, 100));
    assert_eq!(props.get_opt::<u32>("new")?, None);
    assert_eq!(props.pinned().map(|pinned| pinned.generation), Some(good));

    memory.set("qps", 7)?;
    props.set("burst", 8)?;
    assert_eq!((qps.get(), burst.get()), (100, 100));
    assert_eq!(props.generation(), before + 1, "nothing changed");
    let explained = props.explain("qps");
    assert_eq!(explained.pinned.map(|pinned| pinned.generation), Some(good));
    assert!(
        explained
            .to_string()
            .contains(&format!("rolled back to generation {good}"))
    );
    assert!(
        explained.to_string().contains('7'),
        "what waits is shown: {explained}"
    );

    props.unpin()?;
    assert_eq!((qps.get(), burst.get()), (7, 8));
    assert_eq!(props.pinned(), None);
    props.remove("burst")?;
    memory.set("burst", "${qps}")?;
    memory.set("qps", 9)?;
    assert_eq!(burst.get(), 9, "references live again");
    Ok(())
}

#[test]
fn a_roll_back_that_lacks_a_required_key_is_rejected() -> Result<(), Error> {
    let memory = Memory::from([("a", 1)]);
    let props = history(&memory);
    let before = props.generation();
    memory.set("b", 2)?;
    let needed = props.property::<u32>("b").build()?;
    assert!(props.rollback_to(before).is_err());
    assert_eq!((props.pinned(), needed.get()), (None, 2));
    memory.set("b", 3)?;
    assert_eq!(needed.get(), 3);
    Ok(())
}

#[test]
fn a_dry_run_predicts_the_outcome_of_publication() -> Result<(), Error> {
    let memory = Memory::from([("n", 1)]);
    let props = Properties::builder()
        .source(memory.clone())
        .validate(|tree| match tree.get_opt::<i64>("n") {
            Ok(Some(n)) if n % 7 == 3 => Err("an unlucky number".into()),
            _ => Ok(()),
        })
        .build()?;
    let _handle = props.property::<i64>("n").default(0).build()?;
    let id = props.health().sources[0].source;
    let mut rng = Random(7);
    let (mut accepted, mut rejected) = (0, 0);
    for _ in 0..1_000 {
        let mut values = vec![];
        for key in ["n", "m", "o.p"] {
            match rng.below(6) {
                0 => {}
                1 => values.push((key, Value::from("text"))),
                _ => values.push((key, Value::from(rng.below(20) as i64))),
            }
        }
        let mut candidate = Document::new();
        for (key, value) in &values {
            candidate.set(key, value.clone(), Origin::new("candidate", ""))?;
        }
        let generation = props.generation();
        let before = props.snapshot();
        let checked = props.check(id, candidate);
        assert_eq!(props.generation(), generation, "checking changes nothing");
        assert!(props.snapshot().changes_since(&before).is_empty());
        let outcome = memory.replace(values);
        match (&checked, &outcome) {
            (Ok(checked), _) => {
                assert_eq!(checked.rejected.is_empty(), outcome.is_ok());
                let now = props.snapshot();
                assert!(now.changes_since(&checked.snapshot).is_empty());
                assert_eq!(checked.changes.len(), now.changes_since(&before).len());
            }
            (Err(checked), Err(error)) => assert_eq!(checked.kind(), error.kind()),
            (Err(checked), Ok(())) => panic!("the dry run failed: {checked}"),
        }
        accepted += usize::from(outcome.is_ok());
        rejected += usize::from(outcome.is_err());
    }
    assert!(accepted > 100 && rejected > 100, "{accepted} {rejected}");
    Ok(())
}

#[test]
fn an_empty_start_is_kept_as_a_generation() -> Result<(), Error> {
    let memory = Memory::new();
    let props = history(&memory);
    let listed = |props: &Properties| -> Result<Vec<u64>, Error> {
        let kept = props.history()?;
        Ok(kept.iter().map(liveprops::Snapshot::generation).collect())
    };
    assert_eq!(listed(&props)?, [0]);
    memory.set("a", 1)?;
    memory.set("a", 2)?;
    assert_eq!(listed(&props)?, [0, 1, 2]);
    props.rollback_to(0)?;
    assert_eq!(props.get_opt::<u32>("a")?, None);
    // The empty tree before the first values is no generation.
    let full = history(&Memory::from([("a", 1)]));
    full.set("a", 2)?;
    assert_eq!(listed(&full)?, [1, 2]);
    Ok(())
}
