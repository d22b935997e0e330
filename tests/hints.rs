//! Misspelled names without an effect cause a hint, or an error with the remedy.

use std::collections::BTreeMap;

use liveprops::sources::{Args, Env, Memory};
use liveprops::{Error, ErrorKind, Properties, Schema, Secret, Value};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kebab {
    host_name: Option<String>,
    max_body: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Camel {
    host_name: String,
    max_body: u32,
}

/// Returns the hints of the only source of a kind.
fn hints(props: &Properties, kind: &str) -> Vec<String> {
    let health = props.health();
    assert!(health.is_up(), "hints change no status: {health:?}");
    let mut sources = health.sources.iter();
    let Some(source) = sources.find(|it| it.name.starts_with(kind)) else {
        panic!("{kind} is no source: {health:?}");
    };
    source.hints.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_parts(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

fn with_env(lower: Memory, vars: &[(&'static str, &'static str)]) -> Result<Properties, Error> {
    let env = Env::prefix("APP_").vars(vars.to_vec());
    Properties::builder().source(lower).source(env).build()
}

#[test]
fn a_variable_that_overrides_no_key_of_another_layer_is_named() -> Result<(), Error> {
    for (key, variable, value) in [
        ("h.host-name", "APP_H__HOST_NAME", "h.host_name"),
        ("h.hostName", "APP_H__HOSTNAME", "h.hostname"),
        ("h.HOST_NAME", "APP_H__HOST_NAME", "h.host_name"),
        ("H.host-name", "APP_H__HOST_NAME", "h.host_name"),
    ] {
        let props = with_env(Memory::from([(key, "a")]), &[(variable, "b")])?;
        let found = hints(&props, "env");
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        let remedy = format!("`Env::name(\"{variable}\", \"{key}\")`");
        let sets = format!("the variable `{variable}` sets `{value}`");
        assert_parts(&found[0], &[key, &sets, &remedy, "not overridden"]);
        assert_eq!(props.get::<String>(key)?, "a");
    }
    // One underscore too few.
    let props = with_env(Memory::from([("rate.qps", 1)]), &[("APP_RATE_QPS", "2")])?;
    let found = hints(&props, "env");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_parts(&found[0], &["name it `APP_RATE__QPS` to set `rate.qps`"]);
    // An item of a list.
    let peer = BTreeMap::from([("max-body", Value::from(1))]);
    let peers = Value::List(vec![Value::from(peer)].into());
    let lower = Memory::from([("peers", peers)]);
    let props = with_env(lower, &[("APP_PEERS__0__MAX_BODY", "2")])?;
    let found = hints(&props, "env");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_parts(&found[0], &["`peers.0.max-body`"]);
    Ok(())
}

#[test]
fn a_variable_with_an_effect_has_no_hint() -> Result<(), Error> {
    let kebab = || Memory::from([("h.host-name", "a")]);
    // Both are set.
    let env = Env::prefix("APP_").name("HOST", "h.host-name");
    let env = env.vars([("APP_H__HOST_NAME", "b"), ("HOST", "c")]);
    let props = Properties::builder().source(kebab()).source(env).build()?;
    assert_eq!(hints(&props, "env"), Vec::<String>::new());
    // Another layer has the key of the variable as well, or a handle reads it, or it is declared.
    let lower = Memory::from([("h.host-name", "a"), ("h.host_name", "x")]);
    let props = with_env(lower, &[("APP_H__HOST_NAME", "b")])?;
    assert_eq!(hints(&props, "env"), Vec::<String>::new());
    let props = with_env(kebab(), &[("APP_H__HOST_NAME", "b")])?;
    let _host = props.property::<String>("h.host_name").build()?;
    assert_eq!(hints(&props, "env"), Vec::<String>::new());
    let schema = Schema::new().declare(Schema::key::<String>("h.host_name"));
    let env = Env::prefix("APP_").vars([("APP_H__HOST_NAME", "b")]);
    let builder = Properties::builder().source(kebab()).source(env);
    let props = builder.schema(schema).build()?;
    assert_eq!(hints(&props, "env"), Vec::<String>::new());
    // The same spelling.
    let props = with_env(
        Memory::from([("a.b", 1)]),
        &[("APP_A__B", "2"), ("APP_C", "3")],
    )?;
    assert_eq!(hints(&props, "env"), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_variable_for_an_optional_field_of_a_bound_struct_is_named() -> Result<(), Error> {
    let vars = [("APP_H__HOST_NAME", "b"), ("APP_H__MAX_BODY", "5")];
    let props = with_env(Memory::from([("h.host-name", "a")]), &vars)?;
    let bound = props.bind::<Kebab>("h").build()?;
    assert_eq!(bound.load().host_name.as_deref(), Some("a"));
    assert_eq!(bound.load().max_body, None);
    let found = hints(&props, "env");
    assert_eq!(found.len(), 2, "{found:?}");
    let all = found.join("\n");
    assert_parts(
        &all,
        &[
            "`Env::name(\"APP_H__MAX_BODY\", \"h.max-body\")`",
            "`Env::name(\"APP_H__HOST_NAME\", \"h.host-name\")`",
        ],
    );
    // Fields with defaults, and no other layer.
    let vars = [("APP_H__HOST_NAME", "b"), ("APP_H__MAXBODY", "5")];
    let props = with_env(Memory::new(), &vars)?;
    let bound = props.property::<Camel>("h").build()?;
    assert_eq!((&*bound.load().host_name, bound.load().max_body), ("", 0));
    let found = hints(&props, "env");
    assert_eq!(found.len(), 2, "{found:?}");
    let all = found.join("\n");
    assert_parts(&all, &["\"h.hostName\")", "\"h.maxBody\")"]);
    // Below a view, and as the alias that it is.
    #[derive(Clone, Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Aliased {
        #[serde(alias = "host_name")]
        host_name: String,
    }
    let props = with_env(Memory::new(), &[("APP_H__HOST_NAME", "b")])?;
    let bound = props.scoped("h")?.bind::<Aliased>("").build()?;
    assert_eq!(bound.load().host_name, "b");
    assert_eq!(hints(&props, "env"), Vec::<String>::new());
    Ok(())
}

#[test]
fn an_argument_that_overrides_no_key_of_another_layer_is_named() -> Result<(), Error> {
    for argument in ["--HTTP.PORT=81", "--http-port=81", "--httpPort=81"] {
        let props = Properties::builder()
            .source(Memory::from([("http.port", 80)]))
            .source(Args::from([argument]))
            .build()?;
        assert_eq!(props.get::<u16>("http.port")?, 80);
        let found = hints(&props, "args");
        assert_eq!(found.len(), 1, "{argument}: {found:?}");
        let name = argument.split('=').next().unwrap();
        assert_parts(&found[0], &["`--http.port=VALUE`", name]);
        assert!(!found[0].contains("81"), "{}", found[0]);
    }
    // No layer has the key, and a handle asks for it.
    let args = Args::from(["--http-port=81"]);
    let props = Properties::builder().source(args).build()?;
    let port = props.property::<u16>("http.port").default(80).build()?;
    assert_eq!(port.get(), 80);
    assert_parts(&hints(&props, "args")[0], &["`--http.port=VALUE`"]);
    Ok(())
}

#[test]
fn an_index_in_brackets_is_a_hint_with_the_key_of_the_item() -> Result<(), Error> {
    let args = [
        "--peers[0].port=5",
        "--a[1][2]=3",
        "--plain.0=1",
        "--a[x]=1",
        "--\"b[0]\"=1",
        "--[0]=1",
    ];
    let props = Properties::builder().source(Args::from(args)).build()?;
    let found = hints(&props, "args");
    assert_eq!(found.len(), 2, "{found:?}");
    assert_parts(&found[0], &["`--peers.0.port=VALUE`", "--peers[0].port"]);
    assert_parts(&found[1], &["`--a.1.2=VALUE`"]);
    Ok(())
}

#[derive(Clone, Debug, Deserialize)]
struct Db {
    #[allow(dead_code, reason = "only read by serde")]
    password: Secret<String>,
    #[allow(dead_code, reason = "only read by serde")]
    verbose: bool,
}

#[test]
fn an_argument_without_a_value_is_no_number_and_no_text_and_the_error_has_the_remedy()
-> Result<(), Error> {
    let args = [
        "--http.port",
        "81",
        "--db.password",
        "hunter2zz",
        "--db.verbose",
    ];
    let props = Properties::builder().source(Args::from(args)).build()?;
    let port = "`--http.port=VALUE`";
    let password = "`--db.password=VALUE`";
    for (error, remedy) in [
        (props.get::<u16>("http.port").unwrap_err(), port),
        (props.get_opt::<u16>("http.port").unwrap_err(), port),
        (
            props.property::<u16>("http.port").build().unwrap_err(),
            port,
        ),
        (props.get::<String>("http.port").unwrap_err(), port),
        (
            props.get::<Secret<String>>("db.password").unwrap_err(),
            password,
        ),
        (
            props.get::<Option<String>>("db.password").unwrap_err(),
            password,
        ),
        (
            props.property::<String>("db.password").build().unwrap_err(),
            password,
        ),
        (props.bind::<Db>("db").build().unwrap_err(), password),
        (props.get::<Db>("db").unwrap_err(), password),
    ] {
        assert_eq!(error.kind(), ErrorKind::Mismatch);
        let text = error.to_string();
        assert_parts(&text, &[remedy, "argument without `=`"]);
        assert!(!text.contains("hunter2zz"), "{text}");
    }
    assert!(props.get::<bool>("db.verbose")?);
    assert!(props.get::<bool>("http.port")?);
    // A declared key is an error of the start.
    let schema = Schema::new()
        .declare(Schema::key::<u16>("http.port"))
        .declare(Schema::key::<String>("db.password").secret())
        .declare(Schema::key::<bool>("db.verbose"));
    let builder = Properties::builder().source(Args::from(args));
    let error = builder.schema(schema).build().unwrap_err();
    assert_eq!(error.iter().count(), 2, "{error}");
    assert_parts(&error.to_string(), &[port, password]);
    Ok(())
}

#[test]
fn a_boolean_of_another_source_reads_as_text() -> Result<(), Error> {
    let props = Properties::builder()
        .source(Memory::from([("a", true)]))
        .source(Args::from(["--b=true"]))
        .build()?;
    assert_eq!(props.get::<String>("a")?, "true");
    assert_eq!(props.get::<String>("b")?, "true");
    Ok(())
}

#[test]
fn a_name_that_is_far_from_all_others_suggests_nothing() -> Result<(), Error> {
    let near = |keys: &[&str], wanted: &str| -> Result<String, Error> {
        let memory = Memory::new();
        for key in keys {
            memory.set(key, 1)?;
        }
        let props = Properties::builder().source(memory).build()?;
        let error = props.get::<u32>(wanted).unwrap_err().to_string();
        let advice = error.split_once("did you mean `");
        let named = advice.and_then(|(_, rest)| rest.split('`').next());
        Ok(named.unwrap_or_default().to_owned())
    };
    assert_eq!(near(&["a"], "zz")?, "");
    assert_eq!(near(&["\"\""], "a")?, "");
    assert_eq!(near(&["a"], "b")?, "");
    assert_eq!(near(&["a.x"], "a.zz")?, "");
    assert_eq!(near(&["port"], "pert")?, "port");
    assert_eq!(near(&["port"], "sort")?, "port");
    assert_eq!(near(&["port"], "pest")?, "");
    assert_eq!(near(&["http.port"], "http.prt")?, "http.port");
    assert_eq!(near(&["timeout"], "timoeut")?, "timeout");
    Ok(())
}

#[test]
fn the_explanation_of_an_unknown_key_has_the_advice_of_the_error() -> Result<(), Error> {
    let props = with_env(Memory::from([("http.port", 80)]), &[("APP_RATE_QPS", "1")])?;
    let explained = props.explain("http.prot").to_string();
    assert_parts(
        &explained,
        &["no layer defines it; did you mean `http.port`?"],
    );
    let explained = props.explain("rate.qps").to_string();
    assert_parts(&explained, &["name it `APP_RATE__QPS`"]);
    let explained = props.explain("nope");
    assert_eq!(explained.advice, None);
    assert_parts(
        &explained.to_string(),
        &["nope is missing: no layer defines it\n"],
    );
    // A table is there.
    assert!(!props.explain("http").to_string().contains("missing"));
    Ok(())
}

#[test]
fn a_clash_counts_once_for_each_generation() -> Result<(), Error> {
    let lower = Memory::from([("h.b", 1)]);
    let file = Memory::from([("h", "x")]);
    let props = Properties::builder()
        .source(lower.clone())
        .source(file)
        .source(Env::prefix("APP_").vars([("APP_N", "1")]))
        .build()?;
    let counts = || -> Vec<u64> {
        let rejected = props.health().rejected;
        rejected.iter().map(|rejected| rejected.count).collect()
    };
    assert_eq!(counts(), [1]);
    // Hints do not affect values.
    props.get::<u32>("h").unwrap_err();
    props.refresh_now()?;
    lower.set("h.b", 2)?;
    lower.set("h.c", 3)?;
    assert_eq!(counts(), [1]);
    // This does, beside the clash.
    lower.replace([("h.b", 4), ("more", 1)])?;
    assert_eq!(counts(), [2]);
    Ok(())
}

#[cfg(all(feature = "json", feature = "toml", feature = "yaml"))]
#[test]
fn a_name_with_a_dot_in_a_document_is_explained() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)] // only decoded
    struct Limits {
        qps: u32,
    }
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)] // only decoded
    struct App {
        limits: Limits,
    }
    for (format, text, above) in [
        ("json", "{\"limits.qps\": 1}", ""),
        ("toml", "\"limits.qps\" = 1", ""),
        ("yaml", "limits.qps: 1", ""),
        ("json", "{\"app\": {\"limits.qps\": 1}}", "app"),
        ("toml", "app.\"limits.qps\" = 1", "app"),
        ("yaml", "app:\n  limits.qps: 1", "app"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("app.{format}"));
        std::fs::write(&path, text).unwrap();
        let file = liveprops::sources::File::new(path);
        let props = Properties::builder().source(file).build().unwrap();
        let dot = if above.is_empty() { "" } else { "." };
        let (key, table) = (
            format!("{above}{dot}limits.qps"),
            format!("{above}{dot}limits"),
        );
        let advice = format!(
            "did you mean `{above}{dot}\"limits.qps\"`, which is one name with a dot? \
             For `{key}`, write `qps` in the table `{table}`"
        );
        let errors = [
            props.get::<u32>(&key).unwrap_err(),
            props.get::<Limits>(&table).unwrap_err(),
            props.get::<App>(above).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains(&advice), "{text}: {error}");
        }
        assert!(props.explain(&key).to_string().contains(&advice), "{text}");
        let _handle = props.property::<u32>(&key).default(1).build().unwrap();
        let hints = &props.health().sources[0].hints;
        assert!(
            hints.iter().any(|hint| hint.to_string().contains(&advice)),
            "{hints:?}"
        );
    }
}
