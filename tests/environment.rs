//! The environment and the command line of a real process.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::{Duration, Instant};

use liveprops::health::Status;
use liveprops::sources::{Args, Env, Memory};
use liveprops::{Error, ErrorKind, Key, Properties, Schema, Source, Value};
use serde::Deserialize;

/// The variable with the role of a copy of this program.
const ROLE: &str = "LIVEPROPS_TEST_ROLE";

/// The prefix of each line that the copy reports.
const LINE: &str = "@@ ";

/// Runs `test` of this program in another process with exactly these variables.
fn child<K: AsRef<OsStr>, V: AsRef<OsStr>>(
    test: &str,
    vars: impl IntoIterator<Item = (K, V)>,
) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env_clear()
        .envs(vars)
        .env(ROLE, test)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The harness may print on the same line before us.
    text.lines()
        .filter_map(|line| Some(line.split_once(LINE)?.1.to_owned()))
        .collect()
}

fn is_child() -> bool {
    std::env::var_os(ROLE).is_some()
}

fn report(line: impl std::fmt::Display) {
    println!("{LINE}{line}");
}

fn dump(props: &Properties) {
    for key in props.snapshot().keys() {
        report(format_args!(
            "{key} = {}",
            props.get::<String>(key.as_str()).unwrap()
        ));
    }
    for problem in &props.health().sources[0].problems {
        report(format_args!("problem: {problem}"));
    }
}

#[test]
fn two_of_six_variables_without_utf8_become_warnings() -> Result<(), Error> {
    if is_child() {
        dump(&Properties::builder().source(Env::prefix("APP_")).build()?);
        return Ok(());
    }
    let os = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let vars: [(OsString, OsString); 6] = [
        ("APP_RATELIMIT__MAX_BURST".into(), "10".into()),
        ("APP_TITLE".into(), "grüße".into()),
        ("APP_EMPTY".into(), "".into()),
        ("OTHER".into(), "not ours".into()),
        (os(b"APP_BAD\xffNAME"), "x".into()),
        ("APP_BADVALUE".into(), os(b"sec\xffret")),
    ];
    let lines = child("two_of_six_variables_without_utf8_become_warnings", vars);
    assert_eq!(
        lines[..3],
        ["empty = ", "ratelimit.max_burst = 10", "title = grüße"]
    );
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(
        lines[3..]
            .iter()
            .all(|line| line.starts_with("problem: ") && line.contains("UTF-8"))
    );
    assert!(
        lines[3..].iter().any(|line| line.contains("APP_BADVALUE")),
        "{lines:?}"
    );
    assert!(
        !lines.concat().contains("ret"),
        "the bytes are not echoed: {lines:?}"
    );
    Ok(())
}

#[test]
fn colliding_variables_have_the_same_winner_in_every_process() -> Result<(), Error> {
    if is_child() {
        dump(&Properties::builder().source(Env::prefix("APP_")).build()?);
        return Ok(());
    }
    let vars = [
        ("APP_A__B", "upper"),
        ("APP_a__b", "lower"),
        ("APP_a.b", "dot"),
        ("APP_C", "value"),
        ("APP_C__D", "below"),
        ("APP___X", "nothing"),
        ("APP_", "nothing"),
    ];
    let test = "colliding_variables_have_the_same_winner_in_every_process";
    let first = child(test, vars);
    assert_eq!(first[..2], ["a.b = upper", "c = value"]);
    assert_eq!(
        first
            .iter()
            .filter(|line| line.starts_with("problem"))
            .count(),
        5,
        "{first:?}"
    );
    for _ in 0..10 {
        let mut shuffled = vars;
        shuffled.reverse();
        assert_eq!(child(test, shuffled), first);
    }
    Ok(())
}

#[test]
fn ten_thousand_variables_and_one_of_127_kib_are_read_quickly() -> Result<(), Error> {
    if is_child() {
        let began = Instant::now();
        let props = Properties::builder().source(Env::prefix("APP_")).build()?;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        report(props.snapshot().keys().len());
        report(props.get::<String>("big")?.len());
        report(props.get::<u32>("section7.key_7777")?);
        return Ok(());
    }
    // Linux limits a string to 128 KiB, including its name and its end.
    let big = "x".repeat(127 * 1024);
    let mut vars: Vec<(String, String)> = (0..10_000)
        .map(|i| (format!("APP_SECTION{}__KEY_{i}", i % 10), i.to_string()))
        .collect();
    vars.push(("APP_BIG".into(), big));
    let lines = child(
        "ten_thousand_variables_and_one_of_127_kib_are_read_quickly",
        vars,
    );
    assert_eq!(lines, ["10001", &(127 * 1024).to_string(), "7777"]);
    Ok(())
}

#[test]
fn the_environment_is_read_once_unless_rereading_is_enabled() -> Result<(), Error> {
    let props = Properties::builder()
        .source(
            Env::prefix("A_")
                .vars([("A_X", "1")])
                .reread(Duration::from_millis(1)),
        )
        .build()?;
    let generation = props.generation();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(
        (props.generation(), props.get::<u32>("x")?),
        (generation, 1)
    );
    assert!(props.health().is_up());
    Ok(())
}

// config-rs 73, 391, 569, 596, 704; figment 13: one underscore is part of a name.
#[test]
fn names_map_by_two_underscores_or_by_an_exact_name() -> Result<(), Error> {
    let env = Env::prefix("APP_")
        .vars([
            ("APP_DB__MAX_POOL_SIZE", "5"),
            ("APP_LIST", "a, b ,c"),
            ("PGPASSWORD", "hunter2"),
            ("APP_ODD", "renamed"),
            ("app_lower", "no"),
        ])
        .name("PGPASSWORD", "db.password")
        .name("APP_ODD", "even");
    let props = Properties::builder().source(env).build()?;
    assert_eq!(props.get::<u32>("db.max_pool_size")?, 5);
    assert_eq!(props.get::<Vec<String>>("list")?, ["a", "b", "c"]);
    assert_eq!(props.get::<String>("db.password")?, "hunter2");
    assert_eq!(props.get::<String>("even")?, "renamed");
    assert_eq!(props.snapshot().keys().len(), 4);
    // The exact variable is named (config-rs 532), the secret is not shown (rustic 1910).
    let error = props.get::<u32>("db.password").unwrap_err();
    assert_eq!(
        error.origin().map(ToString::to_string).as_deref(),
        Some("env PGPASSWORD")
    );
    assert!(!error.to_string().contains("hunter2"));
    // A value of digits reads as text if the program asks for text (figment 17, 42, 70).
    let env = Env::prefix("").vars([("PIN", "007"), ("BIG", "18446744073709551615")]);
    let props = Properties::builder().source(env).build()?;
    assert_eq!(
        (
            props.get::<String>("pin")?.as_str(),
            props.get::<u8>("pin")?
        ),
        ("007", 7)
    );
    assert_eq!(props.get::<u64>("big")?, u64::MAX);
    Ok(())
}

#[test]
fn a_variable_that_maps_to_no_key_fails_alone() -> Result<(), Error> {
    let env = Env::prefix("A_")
        .vars([("A_OK", "1"), ("A_X", "2")])
        .name("A_X", "a..b");
    let props = Properties::builder().source(env).build()?;
    assert_eq!(props.get::<u32>("ok")?, 1);
    let problems = &props.health().sources[0].problems;
    assert_eq!(
        (problems.len(), problems[0].kind()),
        (1, ErrorKind::InvalidKey)
    );
    Ok(())
}

#[test]
fn arguments_set_keys_and_the_last_one_counts() -> Result<(), Error> {
    let bad = OsStr::from_bytes(b"--bad=\xff").to_owned();
    let args: Vec<OsString> = [
        "input.txt",
        "-v",
        "--verbose",
        "--a.b=1",
        "--a.b=2",
        "--empty=",
        "--eq=x=y",
        r#"--hosts."db.example.com=x".port=5"#,
        "--a..c=1",
        "--",
        "--late=1",
    ]
    .into_iter()
    .map(OsString::from)
    .chain([bad.clone()])
    .collect();
    let props = Properties::builder()
        .source(args.iter().cloned().collect::<Args>())
        .build()?;
    assert!(props.get::<bool>("verbose")?);
    assert_eq!(props.get::<u32>("a.b")?, 2);
    assert_eq!(props.get::<String>("empty")?, "");
    assert_eq!(props.get::<String>("eq")?, "x=y");
    assert_eq!(props.get::<u32>(r#"hosts."db.example.com=x".port"#)?, 5);
    assert_eq!(props.get_opt::<u32>("late")?, None, "after a bare --");
    assert_eq!(props.health().sources[0].problems.len(), 1);
    let first: Args = [bad].into_iter().collect();
    let props = Properties::builder().source(first).build()?;
    assert_eq!(props.health().sources[0].problems.len(), 1);
    Ok(())
}

#[test]
fn a_variable_that_becomes_unusable_is_rejected_and_keeps_its_value_from_the_cache()
-> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let start = |pool: &[u8]| {
        let pool: OsString = OsStr::from_bytes(pool).to_owned();
        let vars: [(OsString, OsString); 2] =
            [("A_POOL".into(), pool), ("A_ID".into(), "1".into())];
        let env = Env::prefix("A_").vars(vars);
        Properties::builder()
            .state_dir(dir.path())
            .source(env.with(|policy| policy.cached()))
            .build()
    };
    assert!(start(b"7")?.health().is_up());
    for _ in 0..2 {
        let props = start(b"\xff")?;
        assert_eq!(props.get::<u32>("pool")?, 7);
        assert_eq!(props.get::<u32>("id")?, 1);
        let health = props.health();
        assert!(matches!(health.sources[0].status, Status::Stale { .. }));
        assert!(!health.is_up());
        let rejected = health.rejected[0].error.to_string();
        assert!(rejected.contains("A_POOL"), "{rejected}");
    }
    assert!(start(b"8")?.health().is_up());
    Ok(())
}

#[test]
fn arguments_and_variables_that_cannot_be_used_are_rejections() -> Result<(), Error> {
    let bad = OsStr::from_bytes(b"--bad=\xff").to_owned();
    let args: Args = [bad, "--a..c=1".into()].into_iter().collect();
    let env = Env::prefix("A_").vars([("A_X___Y", "1"), ("A_OK", "2")]);
    let props = Properties::builder().source(args).source(env).build()?;
    let health = props.health();
    assert!(!health.is_up());
    for source in &health.sources {
        assert!(matches!(source.status, Status::Stale { .. }), "{source:?}");
    }
    let rejected: Vec<String> = health
        .rejected
        .iter()
        .map(|it| it.error.to_string())
        .collect();
    for part in ["--bad", "--a..c", "A_X___Y"] {
        assert!(
            rejected.iter().any(|text| text.contains(part)),
            "{part}: {rejected:?}"
        );
    }
    assert_eq!(props.get::<u32>("ok")?, 2);
    Ok(())
}

/// Returns the hints of the only source of a kind.
fn hints(props: &Properties, kind: &str) -> Vec<String> {
    let health = props.health();
    assert!(health.is_up(), "hints change no status: {health:?}");
    let source = health.sources.iter().find(|s| s.name.starts_with(kind));
    source
        .unwrap()
        .hints
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_empty_variable_is_an_error_unless_empty_ones_are_ignored() -> Result<(), Error> {
    let env = Env::prefix("APP_").vars([("APP_PORT", ""), ("APP_NAME", "")]);
    let file = || liveprops::sources::Memory::from([("port", 80)]);
    let props = Properties::builder()
        .source(file())
        .source(env.clone())
        .build()?;
    let error = props.get::<u16>("port").unwrap_err().to_string();
    for part in ["empty text", "Env::ignore_empty", "env APP_PORT"] {
        assert!(error.contains(part), "{error}");
    }
    let props = Properties::builder()
        .source(file())
        .source(env.ignore_empty().name("APP_NAME", "title"))
        .build()?;
    assert_eq!(props.get::<u16>("port")?, 80);
    assert_eq!(props.get_opt::<String>("title")?, None);
    Ok(())
}

#[test]
fn an_empty_part_of_a_variable_is_no_empty_variable() -> Result<(), Error> {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Pair {
        a: u32,
        b: u32,
    }
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Flat {
        #[serde(flatten)]
        pair: Pair,
    }
    let env = Env::prefix("APP_").vars([
        ("APP_LIST", "1,,2"),
        ("APP_JSON", "[1, \"\", 2]"),
        ("APP_PAIR", "a=1,b="),
        ("APP_MIXED", "1,,2"),
        ("APP_JOINED", "1,,2"),
    ]);
    let over = Env::prefix("ONE_").vars([("ONE_MIXED__0", "5")]);
    let props = Properties::builder()
        .append("joined")
        .source(liveprops::sources::Memory::from([("joined", vec![1, 2])]))
        .source(env)
        .source(over)
        .build()?;
    for (key, error) in [
        ("list", props.get::<Vec<u32>>("list").unwrap_err()),
        ("json", props.get::<Vec<u32>>("json").unwrap_err()),
        ("mixed", props.get::<Vec<u32>>("mixed").unwrap_err()),
        ("joined", props.get::<Vec<u32>>("joined").unwrap_err()),
        ("pair", props.get::<Pair>("pair").unwrap_err()),
    ] {
        let shown = error.to_string();
        assert!(shown.contains("empty text"), "{key}: {shown}");
        assert!(
            !shown.contains("the variable is set to nothing"),
            "{key}: {shown}"
        );
        assert!(shown.contains("env APP_"), "{key}: {shown}");
    }
    let buffered = props.get::<Flat>("pair").unwrap_err().to_string();
    assert!(
        buffered.contains("`pair.b`") && !buffered.contains("the variable is set to nothing"),
        "{buffered}"
    );
    Ok(())
}

#[test]
fn an_empty_variable_of_an_item_has_the_remedy_of_an_empty_variable() -> Result<(), Error> {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Host {
        name: String,
        port: u16,
    }
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Flat {
        #[serde(flatten)]
        host: Host,
    }
    let memory = liveprops::sources::Memory::from([("below", vec![1, 2])]);
    let host = |name: &str| {
        let fields = [("name", Value::from(name)), ("port", 80.into())];
        Value::from(std::collections::BTreeMap::from(fields))
    };
    memory.set("hosts", vec![host("a"), host("b")])?;
    let env = Env::prefix("APP_").vars([
        ("APP_L__0", ""),
        ("APP_BELOW__1", ""),
        ("APP_BELOW__2", "7"),
        ("APP_HOSTS__1__PORT", ""),
        ("APP_HOST__NAME", "a"),
        ("APP_HOST__PORT", ""),
        ("APP_JOINED__0", ""),
        ("APP_JOINED__1", "7"),
    ]);
    let props = Properties::builder()
        .append("joined")
        .source(memory)
        .source(env)
        .build()?;
    for (variable, error) in [
        ("APP_L__0", props.get::<Vec<u32>>("l").unwrap_err()),
        ("APP_BELOW__1", props.get::<Vec<u32>>("below").unwrap_err()),
        ("APP_BELOW__1", props.get::<u32>("below.1").unwrap_err()),
        (
            "APP_JOINED__0",
            props.get::<Vec<u32>>("joined").unwrap_err(),
        ),
        (
            "APP_HOSTS__1__PORT",
            props.get::<Vec<Host>>("hosts").unwrap_err(),
        ),
        (
            "APP_HOSTS__1__PORT",
            props.get::<Vec<Flat>>("hosts").unwrap_err(),
        ),
        ("APP_HOST__PORT", props.get::<Host>("host").unwrap_err()),
        ("APP_HOST__PORT", props.get::<Flat>("host").unwrap_err()),
    ] {
        let shown = error.to_string();
        for part in [
            "empty text",
            "Env::ignore_empty",
            &format!("env {variable})"),
        ] {
            assert!(shown.contains(part), "{variable}: {shown}");
        }
    }
    Ok(())
}

#[test]
fn a_variable_that_is_spelled_nearly_like_a_missing_key_is_named() -> Result<(), Error> {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    #[serde(rename_all = "camelCase")]
    struct Limits {
        max_burst: u32,
    }
    let env = Env::prefix("APP_").vars([
        ("APP_RATELIMIT_QPS", "1"),
        ("APP_MAX_BURST", "2"),
        ("APP_LIMITS__MAX_BURST", "3"),
    ]);
    let props = Properties::builder().source(env).build()?;
    assert_eq!(props.get::<u32>("ratelimit_qps")?, 1, "set as documented");
    assert_eq!(hints(&props, "env"), Vec::<String>::new());

    let error = props.get::<u32>("ratelimit.qps").unwrap_err();
    assert_eq!(
        (error.kind(), error.key().map(Key::as_str)),
        (ErrorKind::NotFound, Some("ratelimit.qps"))
    );
    let error = error.to_string();
    for part in [
        "`APP_RATELIMIT_QPS`",
        "`ratelimit_qps`",
        "`APP_RATELIMIT__QPS`",
    ] {
        assert!(error.contains(part), "{error}");
    }
    // No name of a variable maps to such keys by itself.
    for key in ["maxBurst", "max-burst"] {
        let error = props.property::<u32>(key).build().unwrap_err().to_string();
        let remedy = format!("`Env::name(\"APP_MAX_BURST\", \"{key}\")`");
        assert!(error.contains(&remedy), "{error}");
    }
    let error = props.get::<Limits>("limits").unwrap_err().to_string();
    assert!(
        error.contains("`Env::name(\"APP_LIMITS__MAX_BURST\", \"limits.maxBurst\")`"),
        "{error}"
    );

    // A handle with a default has no error, so the health of its source has a hint.
    let qps = props.property::<u32>("ratelimit.qps").default(5).build()?;
    assert_eq!(qps.get(), 5);
    let of_qps = || {
        let mut found = hints(&props, "env");
        found.retain(|hint| hint.contains("`ratelimit.qps`: "));
        found
    };
    let found = of_qps();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`APP_RATELIMIT__QPS`"), "{}", found[0]);
    // Handles whose build failed had keys too.
    assert_eq!(hints(&props, "env").len(), 3);
    props.set("ratelimit.qps", 7)?;
    assert_eq!(of_qps(), Vec::<String>::new());
    Ok(())
}

#[test]
fn every_kind_of_read_names_the_variable_of_a_missing_field() -> Result<(), Error> {
    #[derive(Clone, Debug, Deserialize)]
    #[allow(dead_code)]
    struct Rl {
        qps: u32,
    }
    #[derive(Clone, Debug, Default, Deserialize)]
    #[serde(default)]
    #[allow(dead_code)]
    struct Defaulted {
        max_burst: u32,
    }
    let check = |error: Error| {
        let error = error.to_string();
        for part in [
            "`APP_RATELIMIT_QPS`",
            "`ratelimit_qps`",
            "`APP_RATELIMIT__QPS`",
            "`ratelimit.qps`",
        ] {
            assert!(error.contains(part), "{error}");
        }
    };
    let absent = [("APP_RATELIMIT_QPS", "1")];
    let partial = [("APP_RATELIMIT_QPS", "1"), ("APP_RATELIMIT__OTHER", "2")];
    for vars in [&absent[..], &partial] {
        let env = Env::prefix("APP_").vars(vars.to_vec());
        let props = Properties::builder().source(env).build()?;
        check(props.get::<Rl>("ratelimit").unwrap_err());
        check(props.snapshot().get::<Rl>("ratelimit").unwrap_err());
        check(props.snapshot().bind::<Rl>("ratelimit").unwrap_err());
        check(props.bind::<Rl>("ratelimit").build().unwrap_err());
        check(props.property::<Rl>("ratelimit").build().unwrap_err());
        let scoped = props.scoped("ratelimit")?;
        check(scoped.get::<u32>("qps").unwrap_err());
        check(scoped.bind::<Rl>("").build().unwrap_err());
    }
    let env = || Env::prefix("APP_").vars(partial);
    let props = Properties::builder().source(env()).build()?;
    check(props.get_opt::<Rl>("ratelimit").unwrap_err());
    assert_eq!(props.get_or("ratelimit", Rl { qps: 7 }).qps, 7);
    let health = props.health();
    assert!(
        format!("{health:?}").contains("`APP_RATELIMIT__QPS`"),
        "{health:?}"
    );

    // A field of an absent table is found by the prefix of its name.
    let env = Env::prefix("APP_").vars([("APP_LIMITS_MAX_BURST", "1")]);
    let props = Properties::builder().source(env).build()?;
    let error = props.get::<Defaulted>("limits").unwrap_err().to_string();
    assert!(error.contains("`APP_LIMITS__MAX_BURST`"), "{error}");
    let limits = props.bind::<Defaulted>("limits").build()?;
    assert_eq!(limits.get().max_burst, 0);
    let found = hints(&props, "env");
    assert!(
        found.len() == 1 && found[0].contains("`APP_LIMITS__MAX_BURST`"),
        "{found:?}"
    );
    // A scalar has nothing below it.
    let error = props.get::<u32>("limits").unwrap_err().to_string();
    assert!(!error.contains("APP_LIMITS"), "{error}");
    // A deeper table.
    let env = Env::prefix("APP_").vars([("APP_A_B__C__D", "1")]);
    let props = Properties::builder().source(env).build()?;
    let error = props.get::<Value>("a.b").unwrap_err().to_string();
    assert!(error.contains("`APP_A__B__C__D`"), "{error}");
    Ok(())
}

#[test]
fn a_required_table_of_a_schema_names_the_variable_that_is_probably_meant() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Rl {
        qps: u32,
    }
    let schema = Schema::new().declare(Schema::key::<Rl>("ratelimit").required());
    let env = Env::prefix("APP_").vars([("APP_RATELIMIT_QPS", "1")]);
    let built = Properties::builder().source(env).schema(schema).build();
    let error = built.unwrap_err().to_string();
    assert!(error.contains("`APP_RATELIMIT__QPS`"), "{error}");
}

#[test]
fn a_prefix_without_its_separator_is_a_hint() -> Result<(), Error> {
    let vars = [("APP_QPS", "1"), ("APPLE", "2")];
    let props = Properties::builder()
        .source(Env::prefix("APP").vars(vars))
        .build()?;
    let found = hints(&props, "env");
    assert_eq!(found.len(), 1, "{found:?}");
    for part in ["`APP_QPS`", "`_qps`", "`Env::prefix(\"APP_\")`"] {
        assert!(found[0].contains(part), "{}", found[0]);
    }
    let error = props.get::<u32>("qps").unwrap_err().to_string();
    assert!(error.contains("`APP_QPS`"), "{error}");
    for prefix in ["APP_", "", "APPL"] {
        let props = Properties::builder()
            .source(Env::prefix(prefix).vars(vars))
            .build()?;
        assert_eq!(hints(&props, "env"), Vec::<String>::new(), "{prefix}");
    }
    Ok(())
}

#[test]
fn a_value_after_a_space_is_a_hint_that_does_not_show_it() -> Result<(), Error> {
    let args = Args::from([
        "--http.port",
        "9090",
        "--verbose",
        "--debug",
        "-1",
        "--",
        "x",
    ]);
    let props = Properties::builder().source(args).build()?;
    assert!(props.get::<bool>("http.port")?);
    let found = hints(&props, "args");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("`--http.port=VALUE`"), "{}", found[0]);
    assert!(!found[0].contains("9090"), "{}", found[0]);
    assert!(found[1].contains("`--debug=VALUE`"), "{}", found[1]);
    Ok(())
}

#[test]
fn the_plain_spelling_of_an_index_counts_and_another_one_is_reported() -> Result<(), Error> {
    let vars = [("APP_L__1", "a"), ("APP_L__01", "b")];
    let env = Env::prefix("APP_").vars(vars);
    let lower = Memory::from([("l", vec!["x", "y"])]);
    let props = Properties::builder().source(lower).source(env).build()?;
    assert_eq!(props.get::<Vec<String>>("l")?, ["x", "a"]);
    let health = props.health();
    let problems = health.sources.iter().flat_map(|source| &source.problems);
    let problems: Vec<String> = problems.map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("APP_L__01"), "{problems:?}");
    Ok(())
}

#[test]
fn a_dot_in_the_name_of_a_variable_separates_segments() -> Result<(), Error> {
    let env = Env::prefix("A_").vars([("A_LABELS__App.Name", "x")]);
    let props = Properties::builder().source(env).build()?;
    assert_eq!(props.get::<String>("labels.app.name")?, "x");
    Ok(())
}
