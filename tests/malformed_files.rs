//! Malformed files: what is rejected, what stays in force, and what the error says.
#![cfg(all(unix, feature = "toml", feature = "watch"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::error::Error as _;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use liveprops::health::{SourceEventKind, Status};
use liveprops::sources::{Dir, File, Memory};
use liveprops::{Error, ErrorKind, MAX_DOCUMENT_BYTES, Properties};

use support::child::{self, Child};
use support::disk::{Desk, Diary, health, is_up, open, replace, soon, stale};

#[test]
fn an_emptied_file_keeps_its_values_and_health_has_the_reason() {
    let desk = Desk::new("app.toml", "a = 1\n");
    let props = desk.open();
    let a = props.property::<i64>("a").build().unwrap();
    let generation = props.generation();
    fs::File::create(&desk.path).unwrap();
    soon("health says which file became empty", || {
        stale(&props).is_some_and(|why| {
            why.contains("empty") && why.contains(&desk.path.display().to_string())
        })
    });
    assert_eq!((a.get(), props.get::<i64>("a").unwrap()), (1, 1));
    assert_eq!(props.generation(), generation);
    fs::write(&desk.path, "a = 2\n").unwrap();
    soon("it recovers", || a.get() == 2 && is_up(&props));
}

#[test]
fn a_file_cut_in_mid_table_keeps_its_values_and_recovers() {
    let whole = "[http]\nretries = 3\n\n[db]\npool = 5\n";
    let desk = Desk::new("app.toml", whole);
    let props = desk.open();
    let pool = props.property::<u32>("db.pool").build().unwrap();
    let diary = Diary::of(&props);
    replace(&desk.path, "[http]\nretries = 9\n\n[d");
    soon("health says the line", || {
        stale(&props).is_some_and(|why| why.contains(&desk.place("4:")))
    });
    assert!(!props.health().is_up());
    assert_eq!(pool.get(), 5);
    assert_eq!(props.get::<u32>("http.retries").unwrap(), 3);
    let Status::Stale { since, reason } = health(&props).status else {
        panic!("not stale");
    };
    assert!(since.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(reason.kind(), ErrorKind::Malformed);
    soon("that is told once", || {
        diary.count(|kind| matches!(kind, SourceEventKind::Suspended(_))) == 1
    });
    // Repaired to what is in force already: up again, and nothing has changed.
    let generation = props.generation();
    replace(&desk.path, whole);
    soon("it is up again", || is_up(&props));
    soon("and that is told", || diary.reconnected() == 1);
    assert_eq!(props.generation(), generation);
    assert_eq!(diary.updated(), 0);
    // Broken and repaired with another value.
    replace(&desk.path, "pool = [");
    soon("it is stale", || !is_up(&props));
    replace(&desk.path, "[db]\npool = 6\n");
    soon("the new value counts", || pool.get() == 6 && is_up(&props));
    soon("it is told", || {
        diary.reconnected() == 2 && diary.updated() == 1
    });
    assert_eq!(health(&props).refusals, 2, "one of each broken version");
}

#[test]
fn one_bad_value_under_a_live_handle_rejects_the_whole_file() {
    let desk = Desk::new("app.toml", "qps = 100\nburst = 10\n");
    let props = desk.open();
    let qps = props.property::<u32>("qps").build().unwrap();
    let diary = Diary::of(&props);
    let generation = props.generation();
    replace(&desk.path, "burst = 99\nqps = \"many\"\n");
    let place = desk.place("2:7");
    soon("health says the place", || {
        stale(&props).is_some_and(|why| why.contains("`qps`") && why.contains(&place))
    });
    assert_eq!((qps.get(), props.get::<u32>("burst").unwrap()), (100, 10));
    assert_eq!(props.generation(), generation);
    let explained = props.explain("qps").rejected;
    assert_eq!(explained.len(), 1, "{explained:?}");
    assert_eq!(explained[0].kind(), ErrorKind::Mismatch);
    assert_eq!(explained[0].origin().unwrap().to_string(), place);
    assert!(
        props.explain("burst").rejected.is_empty(),
        "qps is to blame"
    );
    assert_eq!(health(&props).refusals, 1);
    soon("the rejection_scope is told", || {
        diary.count(|kind| matches!(kind, SourceEventKind::Rejected(_))) == 1
    });
    replace(&desk.path, "burst = 99\nqps = 7\n");
    soon("a good value recovers", || qps.get() == 7 && is_up(&props));
    assert_eq!(props.get::<u32>("burst").unwrap(), 99);
    soon("and that is told", || diary.recovered() == 1);
    assert_eq!(diary.reconnected(), 0, "it has answered all the time");
}

#[test]
fn without_a_live_handle_a_bad_value_is_an_error_of_its_read() {
    let desk = Desk::new("app.toml", "qps = 100\nburst = 10\n");
    let props = desk.open();
    replace(&desk.path, "burst = 99\nqps = \"many\"\n");
    soon("the edit counts", || {
        props.get::<u32>("burst").unwrap() == 99
    });
    assert!(is_up(&props), "nobody who needs a number is there");
    let place = desk.place("2:7");
    for error in [
        props.get::<u32>("qps").unwrap_err(),
        props.get_opt::<u32>("qps").unwrap_err(),
        props.property::<u32>("qps").default(1).build().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert_eq!(
            error.origin().map(ToString::to_string).as_deref(),
            Some(&*place),
            "{error}"
        );
        assert_eq!(error.expected(), Some("u32"));
        assert_eq!(error.found(), Some("text \"many\""));
    }
    assert_eq!(props.get::<String>("qps").unwrap(), "many");

    let diary = Diary::of(&props);
    assert_eq!(props.get_or("qps", 5u32), 5);
    assert_eq!(props.get_or("absent", 6u32), 6);
    let rejected = props.health().rejected;
    assert_eq!(rejected.len(), 1, "absent is not malformed: {rejected:?}");
    assert!(rejected[0].error.to_string().contains(&place));
    soon("the malformed value is told", || {
        diary.count(|kind| matches!(kind, SourceEventKind::Malformed(_))) == 1
    });
    replace(&desk.path, "qps = \"\"\n");
    soon("empty is neither absent nor a number", || {
        props
            .get::<u32>("qps")
            .is_err_and(|it| it.kind() == ErrorKind::Mismatch)
            && props.get::<String>("qps").is_ok_and(|text| text.is_empty())
    });
    replace(&desk.path, "qps = 7\n");
    soon("a good value recovers", || props.get_or("qps", 5u32) == 7);
    assert_eq!(
        props.get::<u32>("burst").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// Content that must not be taken, and what has to be said of it.
struct Hostile {
    name: &'static str,
    extension: &'static str,
    content: Vec<u8>,
    kind: ErrorKind,
    /// The line, where there is one.
    place: &'static str,
}

fn hostile() -> Vec<Hostile> {
    let case = |name, extension, content: &[u8], kind, place| Hostile {
        name,
        extension,
        content: content.to_vec(),
        kind,
        place,
    };
    let mut large = b"a = 1\n#".to_vec();
    large.resize(MAX_DOCUMENT_BYTES + 1, b'x');
    let tables = |levels: usize| {
        let path: Vec<_> = (0..levels).map(|level| format!("l{level}")).collect();
        format!("\n{} = 1\n", path.join("."))
    };
    let lists = format!("\na = {}1{}\n", "[".repeat(65), "]".repeat(65));
    let deep = format!("{{\n\"a\": {}1{}}}", "[".repeat(65), "]".repeat(65));
    let abyss = format!("{}1", "[".repeat(100_000));
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{below}]").unwrap();
    }
    use ErrorKind::{InvalidKey, Malformed, TooLarge};
    vec![
        case("one byte over 10 MiB", "toml", &large, TooLarge, ""),
        case("65 tables", "toml", tables(65).as_bytes(), TooLarge, ":2"),
        case("65 lists", "toml", lists.as_bytes(), TooLarge, ":2"),
        case("65 lists", "json", deep.as_bytes(), TooLarge, ":2"),
        case("an abyss", "json", abyss.as_bytes(), TooLarge, ":1"),
        case("an abyss", "yaml", abyss.as_bytes(), TooLarge, ":1"),
        case(
            "a key twice",
            "toml",
            b"a = 1\nb = 1\na = 2\n",
            InvalidKey,
            ":3",
        ),
        case(
            "a key twice",
            "json",
            b"{\"a\": 1,\n\"a\": 2}",
            InvalidKey,
            ":2",
        ),
        case(
            "a key twice",
            "yaml",
            b"a: 1\nb: 1\na: 2\n",
            InvalidKey,
            ":3",
        ),
        case("a key twice", "properties", b"a=1\na=2\n", InvalidKey, ":2"),
        case(
            "a value and a table",
            "toml",
            b"a = 1\na.b = 2\n",
            InvalidKey,
            ":2",
        ),
        case(
            "a value and a table",
            "properties",
            b"a=1\na.b=2\n",
            InvalidKey,
            ":2",
        ),
        case(
            "not UTF-8",
            "toml",
            b"a = 1\nb = \"\xff\"\n",
            Malformed,
            ":2",
        ),
        case(
            "not UTF-8",
            "json",
            b"{\"a\": 1,\n\"b\": \"\xff\"}",
            Malformed,
            ":2",
        ),
        case("not UTF-8", "yaml", b"a: 1\nb: \"\xff\"\n", Malformed, ":2"),
        case("not UTF-8", "properties", b"a=1\nb=\xff\n", Malformed, ":2"),
        case("not UTF-8", "env", b"A=1\nB=\xff\n", Malformed, ":2"),
        case("a NUL", "toml", b"a = 1\n\0\n", Malformed, ":2"),
        case("a billion laughs", "yaml", laughs.as_bytes(), TooLarge, ":"),
    ]
}

#[test]
fn hostile_content_is_rejected_with_its_line_at_the_start_and_later() {
    for case in hostile() {
        if !support::disk::knows(case.extension) {
            continue;
        }
        let name = format!("{} in {}", case.name, case.extension);
        let desk = Desk::new("app.toml", "a = 42\n");
        let bad = desk.at(&format!("bad.{}", case.extension));
        fs::write(&bad, &case.content).unwrap();
        let begun = Instant::now();
        let built = catch_unwind(|| Properties::builder().source(File::new(&bad)).build());
        let took = begun.elapsed();
        let built = built.unwrap_or_else(|_| panic!("{name}: panicked"));
        let error = built.err().unwrap_or_else(|| panic!("{name}: was taken"));
        let place = format!("{}{}", bad.display(), case.place);
        assert!(error.to_string().contains(&place), "{name}: {error}");
        assert_eq!(error.kind(), case.kind, "{name}: {error}");
        assert!(took < Duration::from_secs(10), "{name}: took {took:?}");
        assert!(error.to_string().len() < 2_000, "{name}: says too much");

        let format = support::disk::format(case.extension);
        let good: &[u8] = match case.extension {
            "json" => b"{\"a\": 42}",
            "yaml" => b"a: 42\n",
            "properties" => b"a=42\n",
            "env" => b"A=42\n",
            _ => b"a = 42\n",
        };
        fs::write(&desk.path, good).unwrap();
        let props = open(File::new(&desk.path).format(format));
        let a = props.property::<u32>("a").build().unwrap();
        let generation = props.generation();
        replace(&desk.path, &case.content);
        let place = format!("{}{}", desk.path.display(), case.place);
        soon(&format!("{name}: health says the place"), || {
            stale(&props).is_some_and(|why| why.contains(&place))
        });
        assert_eq!((a.get(), props.generation()), (42, generation), "{name}");
        replace(&desk.path, good);
        soon(&format!("{name}: recovers"), || is_up(&props));
        assert_eq!(props.generation(), generation, "{name}");
    }
}

#[test]
fn content_just_within_the_limits_is_accepted() {
    let mut large = b"a = 42\n#".to_vec();
    large.resize(MAX_DOCUMENT_BYTES, b'x');
    let path: Vec<_> = (0..63).map(|level| format!("l{level}")).collect();
    let deep = format!("a = 42\n{} = 1\n", path.join("."));
    let with_mark = b"\xef\xbb\xbfa = 42\r\nb = 1\r\n";
    for content in [&large[..], deep.as_bytes(), with_mark] {
        let desk = Desk::new("app.toml", content);
        assert_eq!(desk.open().get::<u32>("a").unwrap(), 42);
    }
    for (extension, content) in [
        ("json", "\u{feff}{\"a\": 42}"),
        ("yaml", "\u{feff}a: 42\n"),
        ("properties", "\u{feff}a=42\n"),
        ("env", "\u{feff}A=42\n"),
    ] {
        if !support::disk::knows(extension) {
            continue;
        }
        let desk = Desk::new(&format!("app.{extension}"), content);
        let got = desk.open().get::<u32>("a");
        assert_eq!(got.unwrap(), 42, "{extension}: the mark is part of the key");
    }
}

#[test]
fn a_reference_cycle_is_rejected_and_named() {
    let circle = "n = 1\na = \"${b}\"\nb = \"${c}\"\nc = \"${a}\"\n";
    let named = |error: &Error| {
        let text = error.to_string();
        error.kind() == ErrorKind::Reference && text.contains("app.toml:")
    };
    let desk = Desk::new("app.toml", circle);
    match Properties::builder().source(File::new(&desk.path)).build() {
        Err(error) => assert!(named(&error), "{error}"),
        Ok(props) => {
            let error = props.get::<String>("a").unwrap_err();
            assert!(named(&error), "{error}");
            assert_eq!(props.get::<u32>("n").unwrap(), 1);
        }
    }
    fs::write(&desk.path, "n = 0\na = \"${b}\"\nb = \"${c}\"\nc = \"x\"\n").unwrap();
    let props = desk.open();
    let a = props.property::<String>("a").build().unwrap();
    assert_eq!(a.get(), "x");
    let generation = props.generation();
    replace(&desk.path, circle);
    soon(
        "health names the circle",
        || matches!(health(&props).status, Status::Stale { reason, .. } if named(&reason)),
    );
    assert_eq!((a.get().as_str(), props.generation()), ("x", generation));
    assert_eq!(props.get::<u32>("n").unwrap(), 0, "all of it is rejected");
    replace(&desk.path, "n = 2\na = \"${b}\"\nb = \"y\"\n");
    soon("it recovers", || a.get() == "y" && is_up(&props));
}

/// Everything a program could log of these properties.
fn told(props: &Properties, diary: &Diary) -> String {
    let mut all = format!("{:?}\n{props:?}\n", props.health());
    let mut chain = |error: &Error| {
        for error in error.iter() {
            write!(all, "{error}\n{error:?}\n").unwrap();
            let mut cause = error.source();
            while let Some(error) = cause {
                write!(all, "{error}\n{error:?}\n").unwrap();
                cause = error.source();
            }
        }
    };
    for source in props.health().sources {
        source.problems.iter().for_each(&mut chain);
        if let Status::Stale { reason, .. } | Status::Down { reason } = &source.status {
            chain(reason);
        }
    }
    props
        .health()
        .rejected
        .iter()
        .for_each(|rejected| chain(&rejected.error));
    for key in ["db.password", "db", "password", "", "port"] {
        let explanation = props.explain(key);
        explanation.rejected.iter().for_each(&mut chain);
    }
    for key in ["db.password", "db", "password", "", "port"] {
        let explanation = props.explain(key);
        write!(all, "{explanation}\n{explanation:?}\n").unwrap();
    }
    for event in diary.events() {
        writeln!(all, "{event:?}").unwrap();
    }
    all
}

#[test]
fn a_secret_in_a_broken_file_is_shown_nowhere() {
    let bad = [
        ("toml", "db.password = \"hunter2\n"),
        ("toml", "db.password = hunter2\n"),
        ("toml", "db.password = \"hunter2\" x\n"),
        (
            "toml",
            "db.password = \"hunter2\"\ndb.password = \"hunter2\"\n",
        ),
        ("toml", "db.password = \"hunter2\"\ndb.password.x = 1\n"),
        ("toml", "db.password = \"\\qhunter2\"\n"),
        ("toml", "port = hunter2\n"),
        ("toml", "[hunter2\n"),
        ("json", "{\"db\": {\"password\": \"hunter2}}"),
        ("json", "{\"db\": {\"password\": hunter2}}"),
        (
            "json",
            "{\"db\": {\"password\": \"hunter2\", \"password\": \"hunter2\"}}",
        ),
        ("yaml", "db:\n  password: \"hunter2\n"),
        ("yaml", "db:\n  password: *hunter2\n"),
        ("yaml", "db:\n  password: !hunter2 x\n"),
        ("yaml", "db:\n  password: hunter2: x\n"),
        ("yaml", "db: [\n  password: hunter2\n"),
        ("yaml", "db: {password: hunter2, password: hunter2}\n"),
        ("properties", "db.password=hunter2\ndb.password=hunter2\n"),
        ("properties", "db.password=hunter2\\u00zz\n"),
        ("properties", "db.password=hunter2\ndb.password.x=1\n"),
        ("env", "DB__PASSWORD=\"hunter2\n"),
        ("env", "DB__PASSWORD='hunter2' x\n"),
        ("env", "DB__PASSWORD hunter2\n"),
        // What parses, and a live handle does not take.
        ("toml", "db.password = \"hunter2\"\n"),
        ("toml", "db.password = [\"hunter2\"]\n"),
        ("toml", "db.password = { x = \"hunter2\" }\n"),
        ("toml", "db.password = \"${hunter2}\"\n"),
        ("toml", "db.password = \"hunter2${db.password}\"\n"),
    ];
    for (extension, content) in bad {
        if !support::disk::knows(extension) {
            continue;
        }
        let desk = Desk::new(&format!("app.{extension}"), content);
        let built = Properties::builder().source(File::new(&desk.path)).build();
        if let Err(error) = built {
            let text = format!("{error} {error:?} {:?}", error.source());
            assert!(!text.contains("hunter2"), "{extension} {content:?}: {text}");
        }
        let good = match extension {
            "json" => "{\"db\": {\"password\": 1}}",
            "yaml" => "db:\n  password: 1\n",
            "properties" => "db.password=1\n",
            "env" => "DB__PASSWORD=1\n",
            _ => "db.password = 1\n",
        };
        fs::write(&desk.path, good).unwrap();
        let conf = Desk::new(&format!("1.{extension}"), content);
        let props = desk.open();
        let password = props.property::<u32>("db.password").build().unwrap();
        let diary = Diary::of(&props);
        replace(&desk.path, content);
        // An unresolved reference is not refused: the handle keeps its value.
        soon("it is not in force", || !props.health().is_up());
        let dir = props.add_source(Dir::new(conf.dir.path()));
        soon("the diary is written", || !diary.events().is_empty());
        assert_eq!(password.get(), 1);
        let text = format!("{}{dir:?}", told(&props, &diary));
        assert!(!text.contains("hunter2"), "{extension} {content:?}: {text}");
    }
}

#[test]
fn a_bad_line_of_a_dotenv_file_costs_its_key_only() {
    if !support::disk::knows("env") {
        return;
    }
    let desk = Desk::new("app.env", "A=1\nB=1\nC=1\n");
    let props = desk.open();
    let [a, b, c] = ["a", "b", "c"].map(|key| props.property::<u32>(key).build().unwrap());
    replace(&desk.path, "A='2'3\nB=2\nC=2\nC=3\n");
    soon("the rest counts", || b.get() == 2);
    // The last good value of the bad line, and the last line of the key that is given twice.
    assert_eq!((a.get(), c.get()), (1, 3));
    soon("both problems are reported", || {
        props.health().sources[0].problems.len() == 2
    });
    replace(&desk.path, "A=4\nB=2\nC=3\n");
    soon("it recovers", || is_up(&props));
    assert_eq!(a.get(), 4);
}

#[test]
fn a_file_that_may_not_be_read_for_a_while_keeps_its_values_and_recovers() {
    let test = "a_file_that_may_not_be_read_for_a_while_keeps_its_values_and_recovers";
    let desk = Desk::new("app.toml", "a = 1\n");
    let forbid = |mode| fs::set_permissions(&desk.path, fs::Permissions::from_mode(mode)).unwrap();
    forbid(0o000);
    let almighty = fs::read(&desk.path).is_ok();
    forbid(0o644);
    if almighty {
        // Root reads everything; without its capabilities it does not.
        match Child::of(test).under(&["unshare", "-U"]) {
            _ if child::role().is_some() => child::say("skipped: still reads everything"),
            None => println!("skipped: unshare is not permitted"),
            Some(child) => child.succeeds(),
        }
        return;
    }
    let props = desk.open();
    let a = props.property::<u32>("a").build().unwrap();
    for value in [1, 2, 3] {
        forbid(0o000);
        soon("health says that it cannot be read", || {
            stale(&props).is_some_and(|why| why.contains("ermission") && why.contains("app.toml"))
        });
        assert_eq!(a.get(), value);
        forbid(0o644);
        soon("it is up again", || is_up(&props));
        replace(&desk.path, format!("a = {}\n", value + 1));
        soon("and followed", || a.get() == value + 1);
    }
    child::say("checked as one who may not read everything");
}

#[test]
fn a_panic_of_a_decoder_removes_no_value() {
    #[derive(Debug)]
    struct Bomb;
    impl<'de> serde::Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            match u32::deserialize(from)? {
                13 => panic!("boom"),
                _ => Ok(Self),
            }
        }
    }
    let desk = Desk::new("app.toml", "a = 1\n");
    let props = desk.open();
    let _bomb = props.property::<Bomb>("a").build().unwrap();
    let a = props.property::<u32>("a").build().unwrap();
    replace(&desk.path, "a = 13\n");
    soon("the update is rejected", || {
        stale(&props).is_some_and(|why| why.contains("panicked"))
    });
    assert_eq!(a.get(), 1);
    let read = catch_unwind(AssertUnwindSafe(|| props.get::<u32>("a")));
    assert_eq!(read.unwrap().unwrap(), 1);
    replace(&desk.path, "a = 2\n");
    soon("a good one is taken", || a.get() == 2 && is_up(&props));
}

#[test]
fn a_rejected_file_is_accepted_once_another_source_makes_it_valid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("low.toml");
    fs::write(&path, "min = 1\n").unwrap();
    let high = Memory::from([("max", 9)]);
    let props = Properties::builder()
        .source(File::new(&path).poll(Duration::from_millis(200)))
        .source(high.clone())
        .validate(|tree| {
            let (min, max) = (tree.get::<u32>("min"), tree.get::<u32>("max"));
            let fits = matches!((min, max), (Ok(min), Ok(max)) if min <= max);
            fits.then_some(()).ok_or("min must not exceed max".into())
        })
        .build()
        .unwrap();
    replace(&path, "min = 10\n");
    soon("the file is rejected", || !props.health().is_up());
    assert_eq!(props.get::<u32>("min").unwrap(), 1);
    high.set("max", 20).unwrap();
    soon("the file is offered again", || {
        props.get::<u32>("min").unwrap() == 10 && props.health().is_up()
    });
}
