//! Health shows which values in force come from disk, and when they were confirmed.

use liveprops::source::RejectionScope;

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Makes all cached files say that they were confirmed an hour ago.
fn age_all(dir: &Path) {
    files(dir).iter().for_each(|file| set_back(file, HOUR));
}

/// Whether the values of a source come from disk, and were confirmed an hour ago.
fn is_an_hour_old(source: &SourceHealth) -> bool {
    let age = source.cached.map(|at| at.elapsed().unwrap_or_default());
    age.is_some_and(|age| age >= HOUR && age < HOUR + HOUR)
}

#[test]
fn an_emptied_file_at_a_start_shows_since_when_its_values_are_unconfirmed() {
    for cut in ["", "# A comment.\n", "[table]\n"] {
        let it = Inputs::new();
        let props = it.start(false);
        let all = props.health().sources;
        assert!(all.iter().all(|it| it.cached.is_none()), "{all:?}");
        drop(props);
        age_all(&it.0.place.dir);
        for (name, _) in Inputs::EMPTIED {
            it.write(name, cut);
        }
        // The second restart finds what the first one left in the cache.
        for restart in 1..=2 {
            let props = it.start(false);
            assert_eq!(Inputs::values(&props), [Some(1); 5]);
            let all = props.health().sources;
            assert!(
                all.iter().all(is_an_hour_old),
                "{cut:?}, restart {restart}: {all:?}"
            );
            // Another fragment confirms nothing of the emptied one.
            it.write("conf.d/2.toml", "second = 2\n");
            assert!(eventually(SOON, || number(&props, "second") == Some(2)));
            let all = props.health().sources;
            assert!(all.iter().all(is_an_hour_old), "{cut:?}: {all:?}");
            it.write("conf.d/2.toml", "second = 1\n");
            assert!(eventually(SOON, || number(&props, "second") == Some(1)));
        }
        let props = it.start(false);
        for (name, key) in Inputs::EMPTIED {
            it.write(name, &format!("{key} = 2\n"));
        }
        let is_from_files = || {
            let all = props.health().sources;
            all.iter().all(|it| it.cached.is_none()) && props.health().is_up()
        };
        assert!(
            eventually(SOON, is_from_files),
            "{cut:?}: {:?}",
            props.health()
        );
        // What is emptied from now on keeps values of this run.
        it.write("conf.d/1.toml", cut);
        assert!(eventually(SOON, || !props.health().is_up()));
        assert!(is_from_run(&props), "{:?}", props.health());
    }
}

fn is_from_run(props: &Properties) -> bool {
    let all = props.health().sources;
    all.iter().all(|it| it.cached.is_none())
}

#[test]
fn a_fragment_that_cannot_be_read_at_a_start_shows_since_when_its_values_are_unconfirmed() {
    type Break = fn(&Fragments);
    let breaks: [(&str, Break); 3] = [
        ("no syntax", |it| it.write("2.toml", "b = [\n")),
        ("not UTF-8", |it| {
            fs::write(it.at("2.toml"), b"b = \"\xff\"").unwrap();
        }),
        ("a dangling link", |it| {
            it.remove("2.toml");
            symlink("nowhere", it.at("2.toml")).unwrap();
        }),
    ];
    for (what, break_it) in breaks {
        let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = 2\n")]);
        drop(it.start());
        age_all(&it.place.dir);
        break_it(&it);
        for restart in 1..=2 {
            let props = it.start();
            let health = first_source(&props);
            assert!(is_an_hour_old(&health), "{what}, {restart}: {health:?}");
            it.write("1.toml", "a = 1\nalso = 1\n");
            assert!(eventually(SOON, || number(&props, "also") == Some(1)));
            let health = first_source(&props);
            assert!(is_an_hour_old(&health), "{what}, {restart}: {health:?}");
            it.write("1.toml", "a = 1\n");
            assert!(eventually(SOON, || number(&props, "also").is_none()));
        }
        let props = it.start();
        it.remove("2.toml");
        let is_confirmed = || first_source(&props).cached.is_none();
        assert!(eventually(SOON, is_confirmed), "{what}");
    }
}

#[test]
fn a_broken_fragment_without_cached_values_is_not_shown_as_cached() {
    let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = [\n")]);
    for _ in 0..2 {
        let props = it.start();
        let health = first_source(&props);
        assert!(health.cached.is_none(), "{health:?}");
    }
}

#[test]
fn a_directory_that_comes_back_in_part_still_has_values_from_disk() {
    let it = Fragments::of(&[("1.toml", "a = 1\n"), ("2.toml", "b = 2\n")]);
    drop(it.start());
    age_all(&it.place.dir);
    let away = it.dir.with_extension("away");
    fs::rename(&it.dir, &away).unwrap();
    let props = it.start();
    assert!(is_an_hour_old(&first_source(&props)));
    fs::write(away.join("2.toml"), "b = [\n").unwrap();
    fs::write(away.join("1.toml"), "a = 10\n").unwrap();
    fs::rename(&away, &it.dir).unwrap();
    assert!(eventually(SOON, || number(&props, "a") == Some(10)));
    assert_eq!(number(&props, "b"), Some(2));
    let health = first_source(&props);
    assert!(is_an_hour_old(&health), "{health:?}");
    it.write("2.toml", "b = 3\n");
    assert!(eventually(SOON, || number(&props, "b") == Some(3)));
    assert!(eventually(SOON, || first_source(&props).cached.is_none()));
}

/// A store whose updates are rejected key by key.
struct SingleKeys(Store);

impl Source for SingleKeys {
    fn origin(&self) -> Origin {
        self.0.origin()
    }

    fn load(&self) -> Result<Document, Error> {
        self.0.load()
    }

    fn watching(&self) -> Watching {
        self.0.watching()
    }

    fn timing(&self) -> Timing {
        self.0.timing()
    }

    fn rejection_scope(&self) -> RejectionScope {
        RejectionScope::PerKey
    }
}

#[test]
fn a_rejected_key_keeps_a_value_from_disk() {
    let place = Place::new();
    place.keep(&[("n", 1.into()), ("other", 1.into())]);
    age_all(&place.dir);
    let store = Store::of(&[("n", "many".into()), ("other", 2.into())]);
    store.is_down(true);
    let source = SingleKeys(store.clone()).with(|policy| policy.cached());
    let builder = Properties::builder().state_dir(&place.dir);
    let props = builder.source(source).build().unwrap();
    let n = props.property::<u32>("n").build().unwrap();
    store.is_down(false);
    assert!(eventually(SOON, || number(&props, "other") == Some(2)));
    assert_eq!(n.get(), 1);
    let health = first_source(&props);
    assert!(is_an_hour_old(&health), "{health:?}");
    store.set("n", 5);
    assert!(eventually(SOON, || n.get() == 5));
    assert!(eventually(SOON, || first_source(&props).cached.is_none()));
    assert!(eventually(SOON, || props.health().is_up()));
}
