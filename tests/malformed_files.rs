//! Malformed files: rejections, values that stay in force, and errors.
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
use support::disk::{ConfigDir, EventLog, health, is_up, open, replace, stale, wait_for_event};

#[test]
fn an_emptied_file_keeps_its_values_and_health_has_the_reason() {
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let props = config_dir.open();
    let a = props.property::<i64>("a").build().unwrap();
    let generation = props.generation();
    fs::File::create(&config_dir.path).unwrap();
    wait_for_event("health names the empty file", || {
        stale(&props).is_some_and(|why| {
            why.contains("empty") && why.contains(&config_dir.path.display().to_string())
        })
    });
    assert_eq!((a.get(), props.get::<i64>("a").unwrap()), (1, 1));
    assert_eq!(props.generation(), generation);
    fs::write(&config_dir.path, "a = 2\n").unwrap();
    wait_for_event("it recovers", || a.get() == 2 && is_up(&props));
}

#[test]
fn a_file_cut_in_mid_table_keeps_its_values_and_recovers() {
    let whole = "[http]\nretries = 3\n\n[db]\npool = 5\n";
    let config_dir = ConfigDir::new("app.toml", whole);
    let props = config_dir.open();
    let pool = props.property::<u32>("db.pool").build().unwrap();
    let event_log = EventLog::of(&props);
    replace(&config_dir.path, "[http]\nretries = 9\n\n[d");
    wait_for_event("health names the line", || {
        stale(&props).is_some_and(|why| why.contains(&config_dir.origin("4:")))
    });
    assert!(!props.health().is_up());
    assert_eq!(pool.get(), 5);
    assert_eq!(props.get::<u32>("http.retries").unwrap(), 3);
    let Status::Stale { since, reason } = health(&props).status else {
        panic!("not stale");
    };
    assert!(since.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(reason.kind(), ErrorKind::Malformed);
    wait_for_event("the failure is reported once", || {
        event_log.count(|kind| matches!(kind, SourceEventKind::Suspended(_))) == 1
    });
    // Repaired to the values in force: the source is up again without a change.
    let generation = props.generation();
    replace(&config_dir.path, whole);
    wait_for_event("it is up again", || is_up(&props));
    wait_for_event("the reconnect is reported", || event_log.reconnected() == 1);
    assert_eq!(props.generation(), generation);
    assert_eq!(event_log.updated(), 0);
    // Broken and repaired with another value.
    replace(&config_dir.path, "pool = [");
    wait_for_event("it is stale", || !is_up(&props));
    replace(&config_dir.path, "[db]\npool = 6\n");
    wait_for_event("the new value counts", || pool.get() == 6 && is_up(&props));
    wait_for_event("health reports it", || {
        event_log.reconnected() == 2 && event_log.updated() == 1
    });
    assert_eq!(health(&props).rejections, 2, "one of each broken version");
}

#[test]
fn one_bad_value_under_a_live_handle_rejects_the_whole_file() {
    let config_dir = ConfigDir::new("app.toml", "qps = 100\nburst = 10\n");
    let props = config_dir.open();
    let qps = props.property::<u32>("qps").build().unwrap();
    let event_log = EventLog::of(&props);
    let generation = props.generation();
    replace(&config_dir.path, "burst = 99\nqps = \"many\"\n");
    let origin = config_dir.origin("2:7");
    wait_for_event("health names the position", || {
        stale(&props).is_some_and(|why| why.contains("`qps`") && why.contains(&origin))
    });
    assert_eq!((qps.get(), props.get::<u32>("burst").unwrap()), (100, 10));
    assert_eq!(props.generation(), generation);
    let explained = props.explain("qps").rejected;
    assert_eq!(explained.len(), 1, "{explained:?}");
    assert_eq!(explained[0].kind(), ErrorKind::Mismatch);
    assert_eq!(explained[0].origin().unwrap().to_string(), origin);
    assert!(
        props.explain("burst").rejected.is_empty(),
        "qps is to blame"
    );
    assert_eq!(health(&props).rejections, 1);
    wait_for_event("the rejection is reported", || {
        event_log.count(|kind| matches!(kind, SourceEventKind::Rejected(_))) == 1
    });
    replace(&config_dir.path, "burst = 99\nqps = 7\n");
    wait_for_event("a good value recovers", || qps.get() == 7 && is_up(&props));
    assert_eq!(props.get::<u32>("burst").unwrap(), 99);
    wait_for_event("the recovery is reported", || event_log.recovered() == 1);
    assert_eq!(event_log.reconnected(), 0, "it has answered all the time");
}

#[test]
fn without_a_live_handle_a_bad_value_is_an_error_of_its_read() {
    let config_dir = ConfigDir::new("app.toml", "qps = 100\nburst = 10\n");
    let props = config_dir.open();
    replace(&config_dir.path, "burst = 99\nqps = \"many\"\n");
    wait_for_event("the edit counts", || {
        props.get::<u32>("burst").unwrap() == 99
    });
    assert!(is_up(&props), "no handle needs a number");
    let origin = config_dir.origin("2:7");
    for error in [
        props.get::<u32>("qps").unwrap_err(),
        props.get_opt::<u32>("qps").unwrap_err(),
        props.property::<u32>("qps").default(1).build().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        assert_eq!(
            error.origin().map(ToString::to_string).as_deref(),
            Some(&*origin),
            "{error}"
        );
        assert_eq!(error.expected(), Some("u32"));
        assert_eq!(error.found(), Some("text \"many\""));
    }
    assert_eq!(props.get::<String>("qps").unwrap(), "many");

    let event_log = EventLog::of(&props);
    assert_eq!(props.get_or("qps", 5u32), 5);
    assert_eq!(props.get_or("absent", 6u32), 6);
    let rejected = props.health().rejected;
    assert_eq!(rejected.len(), 1, "absent is not malformed: {rejected:?}");
    assert!(rejected[0].error.to_string().contains(&origin));
    wait_for_event("the malformed value is reported", || {
        event_log.count(|kind| matches!(kind, SourceEventKind::Malformed(_))) == 1
    });
    replace(&config_dir.path, "qps = \"\"\n");
    wait_for_event("empty is neither absent nor a number", || {
        props
            .get::<u32>("qps")
            .is_err_and(|it| it.kind() == ErrorKind::Mismatch)
            && props.get::<String>("qps").is_ok_and(|text| text.is_empty())
    });
    replace(&config_dir.path, "qps = 7\n");
    wait_for_event("a good value recovers", || props.get_or("qps", 5u32) == 7);
    assert_eq!(
        props.get::<u32>("burst").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

/// Content that must be rejected, and the expected error.
struct Hostile {
    name: &'static str,
    extension: &'static str,
    content: Vec<u8>,
    kind: ErrorKind,
    /// The line of the error, if any.
    origin: &'static str,
}

fn hostile() -> Vec<Hostile> {
    let case = |name, extension, content: &[u8], kind, origin| Hostile {
        name,
        extension,
        content: content.to_vec(),
        kind,
        origin,
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
        if !support::disk::is_supported(case.extension) {
            continue;
        }
        let name = format!("{} in {}", case.name, case.extension);
        let config_dir = ConfigDir::new("app.toml", "a = 42\n");
        let bad = config_dir.at(&format!("bad.{}", case.extension));
        fs::write(&bad, &case.content).unwrap();
        let begun = Instant::now();
        let built = catch_unwind(|| Properties::builder().source(File::new(&bad)).build());
        let took = begun.elapsed();
        let built = built.unwrap_or_else(|_| panic!("{name}: panicked"));
        let error = built
            .err()
            .unwrap_or_else(|| panic!("{name}: was accepted"));
        let origin = format!("{}{}", bad.display(), case.origin);
        assert!(error.to_string().contains(&origin), "{name}: {error}");
        assert_eq!(error.kind(), case.kind, "{name}: {error}");
        assert!(took < Duration::from_secs(10), "{name}: took {took:?}");
        assert!(
            error.to_string().len() < 2_000,
            "{name}: the message is too long"
        );

        let format = support::disk::format(case.extension);
        let good: &[u8] = match case.extension {
            "json" => b"{\"a\": 42}",
            "yaml" => b"a: 42\n",
            "properties" => b"a=42\n",
            "env" => b"A=42\n",
            _ => b"a = 42\n",
        };
        fs::write(&config_dir.path, good).unwrap();
        let props = open(File::new(&config_dir.path).format(format));
        let a = props.property::<u32>("a").build().unwrap();
        let generation = props.generation();
        replace(&config_dir.path, &case.content);
        let origin = format!("{}{}", config_dir.path.display(), case.origin);
        wait_for_event(&format!("{name}: health names the position"), || {
            stale(&props).is_some_and(|why| why.contains(&origin))
        });
        assert_eq!((a.get(), props.generation()), (42, generation), "{name}");
        replace(&config_dir.path, good);
        wait_for_event(&format!("{name}: recovers"), || is_up(&props));
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
        let config_dir = ConfigDir::new("app.toml", content);
        assert_eq!(config_dir.open().get::<u32>("a").unwrap(), 42);
    }
    for (extension, content) in [
        ("json", "\u{feff}{\"a\": 42}"),
        ("yaml", "\u{feff}a: 42\n"),
        ("properties", "\u{feff}a=42\n"),
        ("env", "\u{feff}A=42\n"),
    ] {
        if !support::disk::is_supported(extension) {
            continue;
        }
        let config_dir = ConfigDir::new(&format!("app.{extension}"), content);
        let got = config_dir.open().get::<u32>("a");
        assert_eq!(
            got.unwrap(),
            42,
            "{extension}: the byte order mark is part of the key"
        );
    }
}

#[test]
fn a_reference_cycle_is_rejected_and_named() {
    let circle = "n = 1\na = \"${b}\"\nb = \"${c}\"\nc = \"${a}\"\n";
    let named = |error: &Error| {
        let text = error.to_string();
        error.kind() == ErrorKind::Reference && text.contains("app.toml:")
    };
    let config_dir = ConfigDir::new("app.toml", circle);
    match Properties::builder()
        .source(File::new(&config_dir.path))
        .build()
    {
        Err(error) => assert!(named(&error), "{error}"),
        Ok(props) => {
            let error = props.get::<String>("a").unwrap_err();
            assert!(named(&error), "{error}");
            assert_eq!(props.get::<u32>("n").unwrap(), 1);
        }
    }
    fs::write(
        &config_dir.path,
        "n = 0\na = \"${b}\"\nb = \"${c}\"\nc = \"x\"\n",
    )
    .unwrap();
    let props = config_dir.open();
    let a = props.property::<String>("a").build().unwrap();
    assert_eq!(a.get(), "x");
    let generation = props.generation();
    replace(&config_dir.path, circle);
    wait_for_event(
        "health names the circle",
        || matches!(health(&props).status, Status::Stale { reason, .. } if named(&reason)),
    );
    assert_eq!((a.get().as_str(), props.generation()), ("x", generation));
    assert_eq!(props.get::<u32>("n").unwrap(), 0, "all of it is rejected");
    replace(&config_dir.path, "n = 2\na = \"${b}\"\nb = \"y\"\n");
    wait_for_event("it recovers", || a.get() == "y" && is_up(&props));
}

/// Returns everything that a program could log about these properties.
fn visible_text(props: &Properties, event_log: &EventLog) -> String {
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
    for event in event_log.events() {
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
        // Content that parses, but that a live handle rejects.
        ("toml", "db.password = \"hunter2\"\n"),
        ("toml", "db.password = [\"hunter2\"]\n"),
        ("toml", "db.password = { x = \"hunter2\" }\n"),
        ("toml", "db.password = \"${hunter2}\"\n"),
        ("toml", "db.password = \"hunter2${db.password}\"\n"),
    ];
    for (extension, content) in bad {
        if !support::disk::is_supported(extension) {
            continue;
        }
        let config_dir = ConfigDir::new(&format!("app.{extension}"), content);
        let built = Properties::builder()
            .source(File::new(&config_dir.path))
            .build();
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
        fs::write(&config_dir.path, good).unwrap();
        let conf = ConfigDir::new(&format!("1.{extension}"), content);
        let props = config_dir.open();
        let password = props.property::<u32>("db.password").build().unwrap();
        let event_log = EventLog::of(&props);
        replace(&config_dir.path, content);
        // An unresolved reference is not rejected: the handle keeps its value.
        wait_for_event("it is not in force", || !props.health().is_up());
        let dir = props.add_source(Dir::new(conf.dir.path()));
        wait_for_event("an event is reported", || !event_log.events().is_empty());
        assert_eq!(password.get(), 1);
        let text = format!("{}{dir:?}", visible_text(&props, &event_log));
        assert!(!text.contains("hunter2"), "{extension} {content:?}: {text}");
    }
}

#[test]
fn a_bad_line_of_a_dotenv_file_costs_its_key_only() {
    if !support::disk::is_supported("env") {
        return;
    }
    let config_dir = ConfigDir::new("app.env", "A=1\nB=1\nC=1\n");
    let props = config_dir.open();
    let [a, b, c] = ["a", "b", "c"].map(|key| props.property::<u32>(key).build().unwrap());
    replace(&config_dir.path, "A='2'3\nB=2\nC=2\nC=3\n");
    wait_for_event("the rest counts", || b.get() == 2);
    // The bad line keeps its last good value, and the last line of a repeated key counts.
    assert_eq!((a.get(), c.get()), (1, 3));
    wait_for_event("both problems are reported", || {
        props.health().sources[0].problems.len() == 2
    });
    replace(&config_dir.path, "A=4\nB=2\nC=3\n");
    wait_for_event("it recovers", || is_up(&props));
    assert_eq!(a.get(), 4);
}

#[test]
fn a_file_that_may_not_be_read_for_a_while_keeps_its_values_and_recovers() {
    let test = "a_file_that_may_not_be_read_for_a_while_keeps_its_values_and_recovers";
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let forbid =
        |mode| fs::set_permissions(&config_dir.path, fs::Permissions::from_mode(mode)).unwrap();
    forbid(0o000);
    let almighty = fs::read(&config_dir.path).is_ok();
    forbid(0o644);
    if almighty {
        // Root without its capabilities cannot read all files.
        match Child::of(test).under(&["unshare", "-U"]) {
            _ if child::role().is_some() => child::report("skipped: still reads everything"),
            None => println!("skipped: unshare is not permitted"),
            Some(child) => child.succeeds(),
        }
        return;
    }
    let props = config_dir.open();
    let a = props.property::<u32>("a").build().unwrap();
    for value in [1, 2, 3] {
        forbid(0o000);
        wait_for_event("health reports that it cannot be read", || {
            stale(&props).is_some_and(|why| why.contains("ermission") && why.contains("app.toml"))
        });
        assert_eq!(a.get(), value);
        forbid(0o644);
        wait_for_event("it is up again", || is_up(&props));
        replace(&config_dir.path, format!("a = {}\n", value + 1));
        wait_for_event("and followed", || a.get() == value + 1);
    }
    child::report("checked as a user without access to all files");
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
    let config_dir = ConfigDir::new("app.toml", "a = 1\n");
    let props = config_dir.open();
    let _bomb = props.property::<Bomb>("a").build().unwrap();
    let a = props.property::<u32>("a").build().unwrap();
    replace(&config_dir.path, "a = 13\n");
    wait_for_event("the update is rejected", || {
        stale(&props).is_some_and(|why| why.contains("panicked"))
    });
    assert_eq!(a.get(), 1);
    let read = catch_unwind(AssertUnwindSafe(|| props.get::<u32>("a")));
    assert_eq!(read.unwrap().unwrap(), 1);
    replace(&config_dir.path, "a = 2\n");
    wait_for_event("a valid file is accepted", || a.get() == 2 && is_up(&props));
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
    wait_for_event("the file is rejected", || !props.health().is_up());
    assert_eq!(props.get::<u32>("min").unwrap(), 1);
    high.set("max", 20).unwrap();
    wait_for_event("the file is offered again", || {
        props.get::<u32>("min").unwrap() == 10 && props.health().is_up()
    });
}
