//! The secrets in a part of a source that keeps its cached values.

use liveprops::sources::{Dir, File};

use super::*;

const TEXT: &str = "k = 'v'\n[a]\nword = 'hunter2'\nn = 5\npassword = 'hunter3'\n";

/// A directory with a file, from which a program was started once.
struct Started {
    dir: tempfile::TempDir,
}

impl Started {
    fn new(start: impl Fn(&Self) -> Properties) -> Self {
        let it = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(it.dir.path().join("conf")).unwrap();
        it.write(TEXT);
        fs::write(it.dir.path().join("conf/d.toml"), "z = 1\n").unwrap();
        let props = start(&it);
        props.get::<Secret<String>>("a.word").unwrap();
        drop(props);
        // Dropping waits for the disk only for a while.
        let is_kept = || {
            let kept = files(&it.state());
            kept.len() == 1 && kept[0].extension().is_none_or(|end| end != "tmp")
        };
        assert!(eventually(SOON, is_kept));
        it
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("conf/c.toml")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn of<S: Source + 'static>(&self, source: S) -> Properties {
        let builder = Properties::builder().state_dir(self.state());
        let source = source.with(|policy| policy.cached());
        builder.source(source).build().unwrap()
    }

    fn file(&self) -> Properties {
        self.of(File::new(self.path()).allow_missing())
    }

    fn dir(&self) -> Properties {
        self.of(Dir::new(self.dir.path().join("conf")))
    }
}

fn is_not_kept(text: &str) -> bool {
    text.contains("secrets are not kept on disk") && text.contains("Cached::with_secrets")
}

fn check(props: &Properties, what: &str) {
    assert_eq!(props.get::<String>("k").unwrap(), "v", "{what}");
    for key in ["a.word", "a.password"] {
        let error = props.get::<String>(key).unwrap_err().to_string();
        assert!(is_not_kept(&error), "{what}: {error}");
        let shown = props.explain(key).to_string();
        assert!(is_not_kept(&shown), "{what}: {shown}");
    }
    let other = props.get::<String>("a.other").unwrap_err().to_string();
    assert!(!is_not_kept(&other), "{what}: {other}");
    let hints = format!("{:?}", first_source(props).hints);
    assert!(is_not_kept(&hints), "{what}: {hints}");
    assert!(!props.health().is_up(), "{what}");
}

#[test]
fn the_error_of_a_secret_in_a_cached_part_names_the_cache_as_the_reason() {
    type Start = fn(&Started) -> Properties;
    let starts: [(&str, Start); 2] = [("file", Started::file), ("dir", Started::dir)];
    for (name, start) in starts {
        for (what, text) in [
            ("emptied", Some("")),
            ("a comment", Some("# nothing\n")),
            ("malformed", Some("k = 'v\n[a")),
            ("removed", None),
        ] {
            if (name, what) == ("dir", "removed") {
                // A fragment that is removed has no values any more.
                continue;
            }
            let it = Started::new(start);
            match text {
                Some(text) => it.write(text),
                None => fs::remove_file(it.path()).unwrap(),
            }
            let what = format!("{name} {what}");
            // The second start reads what the first one has written.
            for _ in 0..2 {
                check(&start(&it), &what);
            }
            let props = start(&it);
            it.write(TEXT);
            let is_back = || props.get::<String>("a.word").is_ok();
            assert!(eventually(SOON, is_back), "{what}");
            assert!(eventually(SOON, || props.health().is_up()), "{what}");
            let hints = format!("{:?}", first_source(&props).hints);
            assert!(!is_not_kept(&hints), "{what}: {hints}");
            it.write("k = 'v'\n[a]\nn = 5\n");
            assert!(eventually(SOON, || !is_back()), "{what}");
            let error = props.get::<String>("a.word").unwrap_err().to_string();
            assert!(!is_not_kept(&error), "{what}: {error}");
        }
    }
}

#[test]
fn a_secret_that_an_answer_lacks_is_gone() {
    let it = Started::new(Started::file);
    it.write("k = 'v'\n[a]\nn = 5\n");
    let props = it.file();
    let error = props.get::<String>("a.word").unwrap_err().to_string();
    assert!(error.contains("no layer defines it"), "{error}");
    assert!(props.health().is_up());
    assert_eq!(format!("{:?}", first_source(&props).hints), "[]");
}

#[test]
fn a_missing_file_whose_cache_is_damaged_is_not_up() {
    let it = Started::new(Started::file);
    for entry in fs::read_dir(it.state()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    fs::remove_file(it.path()).unwrap();
    let props = it.file();
    assert_eq!(props.get_opt::<String>("k").unwrap(), None);
    let health = props.health();
    assert!(!health.is_up(), "{:?}", health.status);
    let problems = format!("{:?}", first_source(&props).problems);
    assert!(problems.contains("the cache file"), "{problems}");
    it.write(TEXT);
    assert!(eventually(SOON, || props.health().is_up()));
}
