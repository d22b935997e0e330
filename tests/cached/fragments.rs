//! Cached values of files and fragments that are broken or emptied.

use super::*;

#[cfg(feature = "toml")]
#[test]
fn a_fragment_that_cannot_be_read_keeps_its_values_across_restarts() {
    type Break = fn(&Fragments);
    let ways: [(&str, Break); 4] = [
        ("no syntax", |it| it.write("2.toml", "b = [\n")),
        ("a dangling link", |it| {
            it.remove("2.toml");
            symlink("nowhere", it.at("2.toml")).unwrap();
        }),
        ("a link to itself", |it| {
            it.remove("2.toml");
            symlink("2.toml", it.at("2.toml")).unwrap();
        }),
        ("a pipe", |it| {
            it.remove("2.toml");
            let made = Command::new("mkfifo").arg(it.at("2.toml")).status();
            assert!(made.unwrap().success());
        }),
    ];
    for (way, breaks) in ways {
        let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = 2\n[deep]\nx = 3\n")]);
        drop(it.start());
        breaks(&it);
        it.write("1.toml", "a = 10\n");
        // The second restart finds what the first one left in the cache.
        for restart in 1..=2 {
            let props = it.start();
            let values = ["a", "b", "deep.x"].map(|key| number(&props, key));
            assert_eq!(
                values,
                [Some(10), Some(2), Some(3)],
                "{way}, restart {restart}"
            );
            assert!(
                matches!(first_source(&props).status, Status::Stale { .. }),
                "{way}"
            );
            assert!(!props.health().is_up(), "{way}");
            assert!(
                rejects(&props, "2.toml"),
                "{way}: {:?}",
                props.health().rejected
            );
            assert_eq!(first_source(&props).problems.len(), 1, "{way}");
            // The watch goes on with it.
            it.write("1.toml", "a = 10\nalso = 1\n");
            assert!(
                eventually(SOON, || number(&props, "also") == Some(1)),
                "{way}"
            );
            assert_eq!(
                number(&props, "deep.x"),
                Some(3),
                "{way}, restart {restart}"
            );
            it.write("1.toml", "a = 10\n");
            assert!(
                eventually(SOON, || number(&props, "also").is_none()),
                "{way}"
            );
        }
        let props = it.start();
        it.remove("2.toml");
        it.write("2.toml", "b = 20\n");
        assert!(
            eventually(SOON, || number(&props, "b") == Some(20)),
            "{way}"
        );
        assert!(eventually(SOON, || props.health().is_up()), "{way}");
        assert_eq!(number(&props, "deep.x"), None, "{way}: it was read");
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_restart_after_a_rejection_and_a_broken_fragment_has_the_last_accepted_values() {
    let it = Fragments::of(&[("1.toml", "x = 1\n"), ("2.toml", "y = 1\n")]);
    let props = it.start();
    let x = props.property::<u32>("x").default(0).build().unwrap();
    it.write("1.toml", "x = \"many\"\n");
    assert!(eventually(SOON, || rejects(&props, "many")));
    it.write("1.toml", "x = =\n");
    assert!(eventually(SOON, || rejects(&props, "1.toml:1:5")));
    it.write("2.toml", "y = 2\n");
    assert!(eventually(SOON, || number(&props, "y") == Some(2)));
    assert_eq!(x.get(), 1);
    drop((x, props));
    for kept in [1, 0] {
        let props = it.start();
        let x = props.property::<u32>("x").default(0).build().unwrap();
        assert_eq!((x.get(), number(&props, "y")), (kept, Some(2)));
        assert!(rejects(&props, "1.toml:1:5") && !rejects(&props, "many"));
        assert!(!props.health().is_up());
        drop((x, props));
        fs::remove_dir_all(&it.place.dir).unwrap();
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_file_that_is_emptied_while_the_program_is_down_keeps_its_values() {
    for cut in ["", "# A comment.\n", "[table]\n"] {
        let it = Inputs::new();
        drop(it.start(false));
        Inputs::EMPTIED
            .iter()
            .for_each(|(name, _)| it.write(name, cut));
        // The second restart finds what the first one left in the cache.
        for restart in 1..=2 {
            let props = it.start(false);
            let is_kept = || Inputs::values(&props) == [Some(1); 5];
            assert!(is_kept(), "{cut:?}, restart {restart}");
            let all = props.health().sources;
            let is_stale = |it: &SourceHealth| matches!(it.status, Status::Stale { .. });
            assert!(all[1..].iter().all(is_stale), "{cut:?}: {all:?}");
            for (name, _) in Inputs::EMPTIED {
                assert!(rejects(&props, name), "{cut:?}: {name}");
            }
            // The watch reads the files again.
            it.write("conf.d/2.toml", "second = 2\n");
            assert!(eventually(SOON, || number(&props, "second") == Some(2)));
            it.write("one.toml", "# Another comment.\n");
            it.write("conf.d/2.toml", "second = 1\n");
            assert!(eventually(SOON, || number(&props, "second") == Some(1)));
            thread::sleep(Duration::from_millis(300));
            assert!(is_kept() && !props.health().is_up(), "{cut:?}");
        }
        let props = it.start(false);
        for (name, key) in Inputs::EMPTIED {
            it.write(name, &format!("{key} = 2\n"));
            assert!(
                eventually(SOON, || number(&props, key) == Some(2)),
                "{name}"
            );
        }
        assert!(eventually(SOON, || props.health().is_up()), "{cut:?}");
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_file_that_may_be_empty_loses_its_values_while_the_program_is_down() {
    let it = Inputs::new();
    drop(it.start(true));
    Inputs::EMPTIED
        .iter()
        .for_each(|(name, _)| it.write(name, ""));
    let props = it.start(true);
    assert_eq!(Inputs::values(&props), [None, None, None, None, Some(1)]);
    assert!(props.health().is_up());
}

#[cfg(feature = "toml")]
#[test]
fn a_file_without_values_is_no_problem_where_none_were_kept() {
    let it = Inputs::new();
    Inputs::EMPTIED
        .iter()
        .for_each(|(name, _)| it.write(name, "# Nothing yet.\n"));
    for _ in 0..2 {
        let props = it.start(false);
        assert_eq!(Inputs::values(&props), [None, None, None, None, Some(1)]);
        assert!(props.health().is_up());
        it.write("conf.d/2.toml", "second = 2\n");
        assert!(eventually(SOON, || number(&props, "second") == Some(2)));
        assert!(props.health().is_up());
        it.write("conf.d/2.toml", "second = 1\n");
        assert!(eventually(SOON, || number(&props, "second") == Some(1)));
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_fragment_that_is_removed_loses_its_kept_values_and_only_those() {
    let it = Fragments::of(&[
        ("1.toml", "a = 1\n"),
        ("2.toml", "b = 2\n"),
        ("3.toml", "c = 3\n"),
    ]);
    drop(it.start());
    it.write("2.toml", "b = [\n");
    it.remove("3.toml");
    let props = it.start();
    let values = ["a", "b", "c"].map(|key| number(&props, key));
    assert_eq!(values, [Some(1), Some(2), None]);
    // One that is broken and goes while the program runs.
    it.remove("2.toml");
    assert!(eventually(SOON, || number(&props, "b").is_none()));
    assert!(eventually(SOON, || props.health().is_up()));
    drop(props);
    let props = it.start();
    let values = ["a", "b", "c"].map(|key| number(&props, key));
    assert_eq!(values, [Some(1), None, None]);
    assert!(props.health().is_up());
}

#[cfg(feature = "toml")]
#[test]
fn a_broken_fragment_overrides_the_same_fragments_after_a_restart_as_before() {
    let it = Fragments::of(&[
        ("1.toml", "x = 1\ny = 1\n"),
        ("2.toml", "x = 2\ny = 2\n"),
        ("3.toml", "y = 3\n"),
    ]);
    let values = |props: &Properties| ["x", "y"].map(|key| number(props, key));
    let props = it.start();
    assert_eq!(values(&props), [Some(2), Some(3)]);
    drop(props);
    it.write("2.toml", "x = [\n");
    assert_eq!(values(&it.start()), [Some(2), Some(3)]);
    assert_eq!(values(&it.start()), [Some(2), Some(3)]);
}

#[cfg(feature = "toml")]
#[test]
fn without_kept_values_a_broken_fragment_is_left_out_and_reported() {
    let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = [\n")]);
    for _ in 0..2 {
        let props = it.start();
        assert_eq!(["a", "b"].map(|key| number(&props, key)), [Some(1), None]);
        assert!(matches!(first_source(&props).status, Status::Stale { .. }));
        assert!(!props.health().is_up());
        assert!(rejects(&props, "2.toml"));
    }
}

#[cfg(feature = "toml")]
#[test]
fn a_secret_of_a_broken_fragment_stays_known_as_one_across_restarts() {
    let text = "[db]\nentry = \"hunter2\"\nport = 5432\n";
    let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", text)]);
    let props = it.start();
    // Only its being read as a secret makes it one.
    let secret = props.get::<Secret<String>>("db.entry").unwrap();
    assert_eq!(secret.expose(), "hunter2");
    drop(props);
    it.write("2.toml", "[db\n");
    for restart in 1..=2 {
        let props = it.start();
        assert_eq!(number(&props, "db.port"), Some(5432), "restart {restart}");
        assert_eq!(props.get_opt::<String>("db.entry").unwrap(), None);
    }
    it.write("2.toml", text);
    let props = it.start();
    assert_eq!(props.get::<String>("db.entry").unwrap(), "hunter2");
    let shown = props.explain("db.entry").to_string();
    assert!(!shown.contains("hunter2"), "{shown}");
    drop(props);
    assert!(!holds(&all_bytes(&it.place.dir), "hunter2"));
}

#[cfg(feature = "toml")]
#[test]
fn a_file_that_is_missing_at_a_start_keeps_its_cached_values() {
    use liveprops::sources::File;
    let place = Place::new();
    let path = place.dir.parent().unwrap().join("may-go.toml");
    let start = |drops: bool| {
        let file = File::new(&path)
            .allow_missing()
            .poll(Duration::from_millis(100));
        let file = match drops {
            true => file.drop_when_missing(),
            false => file,
        };
        let file = file.with(|policy| policy.cached());
        let builder = Properties::builder().state_dir(&place.dir);
        builder.source(file).build().unwrap()
    };
    // Where nothing was kept, a missing file is no problem.
    let props = start(false);
    assert!(props.health().is_up() && number(&props, "a").is_none());
    fs::write(&path, "a = 1\n").unwrap();
    assert!(eventually(SOON, || number(&props, "a") == Some(1)));
    drop(props);
    fs::remove_file(&path).unwrap();
    // The second restart finds what the first one left in the cache.
    for restart in 1..=2 {
        let props = start(false);
        assert_eq!(number(&props, "a"), Some(1), "restart {restart}");
        let health = props.health().sources.pop().unwrap();
        assert!(matches!(health.status, Status::Stale { .. }), "{health:?}");
        let problems: Vec<String> = health.problems.iter().map(ToString::to_string).collect();
        assert!(
            problems.iter().any(|it| it.contains("does not exist")),
            "{problems:?}"
        );
        for _ in 0..2 {
            // A missing file may be an error here; the values stay in either case.
            let _ = props.refresh_now();
        }
        assert_eq!(number(&props, "a"), Some(1), "restart {restart}");
        assert!(!props.health().is_up());
    }
    let props = start(false);
    fs::write(&path, "a = 2\n").unwrap();
    assert!(eventually(SOON, || number(&props, "a") == Some(2)));
    assert!(eventually(SOON, || props.health().is_up()));
    drop(props);
    fs::remove_file(&path).unwrap();
    let props = start(true);
    assert_eq!(number(&props, "a"), None);
    assert!(props.health().is_up());
}
