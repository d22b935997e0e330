//! References in the forms of shells and other tools.

use liveprops::sources::{Env, Memory};
use liveprops::{Error, ErrorKind, Key, Properties};

fn with(text: &str) -> Result<Properties, Error> {
    Properties::builder()
        .source(Memory::from([("a", text), ("host", "h")]))
        .build()
}

#[test]
fn a_default_in_the_form_of_a_shell_is_an_error_with_the_remedy() -> Result<(), Error> {
    for (text, part) in [
        ("${db:-localhost}", "write `${db:localhost}`"),
        ("http://${db:-localhost}:80/", "write `${db:localhost}`"),
        ("${port:=80}", "write `${port:80}`"),
        ("${db:-}", "write `${db:}`"),
        ("${db:--x}", "write `${db:-x}`"),
        ("${db:-${host}}", "write `${db:${host}}`"),
        ("${db:/${dir:-tmp}}", "write `${dir:tmp}`"),
        ("${db:?must be set}", "write `${db}`"),
        ("${db:?}", "write `${db}`"),
        ("${pw:?must be set}", "write `${key}`"),
        ("${db:+other}", "`:+` is a form of shells"),
        ("${HOST:-localhost}", "write `${host:localhost}`"),
        ("${DB:-localhost}", "write `${DB:localhost}`"),
    ] {
        let props = with(text)?;
        let error = props.get::<String>("a").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Reference, "{text}");
        let error = error.to_string();
        assert!(error.contains(part), "{text}: {error}");
        let broken = props.health().broken_references;
        assert_eq!(broken.len(), 1, "{text}");
        // Only this key has an error, and the update is accepted.
        assert_eq!(props.get::<String>("host")?, "h");
    }
    Ok(())
}

#[test]
fn a_default_that_does_not_count_is_no_error_whatever_its_form() -> Result<(), Error> {
    for form in ["${host:-x}", "${host:=x}", "${host:?x}", "${host:+x}"] {
        assert_eq!(with(form)?.get::<String>("a")?, "h", "{form}");
    }
    Ok(())
}

#[test]
fn a_negative_number_is_a_default() -> Result<(), Error> {
    assert_eq!(with("${offset:-1}")?.get::<i32>("a")?, -1);
    assert_eq!(with("${offset:+5}")?.get::<i32>("a")?, 5);
    assert_eq!(with("${offset:-.5}")?.get::<f64>("a")?, -0.5);
    assert_eq!(with("${offset: -x}")?.get::<String>("a")?, " -x");
    assert_eq!(with("${name:a-b=c?d+e}")?.get::<String>("a")?, "a-b=c?d+e");
    assert_eq!(with("$${name:-x}")?.get::<String>("a")?, "${name:-x}");
    Ok(())
}

#[test]
fn unresolved_references_that_are_kept_include_the_forms_of_shells() -> Result<(), Error> {
    let props = Properties::builder()
        .source(Memory::from([("a", "${db:-localhost}")]))
        .keep_unresolved_references()
        .build()?;
    assert_eq!(props.get::<String>("a")?, "${db:-localhost}");
    Ok(())
}

#[test]
fn the_default_of_a_secret_in_the_form_of_a_shell_is_not_shown() -> Result<(), Error> {
    for (key, text) in [
        ("db.password", "${db.pw:-hunter2zz}"),
        ("url", "${app.password:-hunter2zz}"),
        ("url", "x${app.token:=hunter2zz}"),
    ] {
        let props = Properties::builder()
            .source(Memory::from([(key, text)]))
            .build()?;
        let error = props.get::<String>(key).unwrap_err().to_string();
        let all = format!("{error} {:?} {}", props.health(), props.explain(key));
        assert!(!all.contains("hunter2zz"), "{all}");
    }
    Ok(())
}

#[test]
fn a_lookup_syntax_of_another_tool_is_a_hint() -> Result<(), Error> {
    for (text, name, value) in [
        ("${env:HOME}", "env", "HOME"),
        ("${file:/run/secrets/pw}", "file", "/run/secrets/pw"),
        ("${vault:secret/db#pw}", "vault", "secret/db#pw"),
        ("x-${env:HOST_1}-y", "env", "x-HOST_1-y"),
        ("${b:${env:HOME}}", "env", "HOME"),
    ] {
        let props = with(text)?;
        assert_eq!(props.get::<String>("a")?, value);
        let health = props.health();
        assert!(health.is_up());
        let hints = &health.sources[0].hints;
        assert_eq!(hints.len(), 1, "{text}: {hints:?}");
        let hint = hints[0].to_string();
        let named = format!("`${{{name}:` looks nothing up");
        assert!(hint.contains(&named) && hint.contains("memory"), "{hint}");
        assert_eq!(hints[0].key().map(Key::as_str), Some("a"));
    }
    Ok(())
}

#[test]
fn text_without_a_lookup_has_no_hint() -> Result<(), Error> {
    for text in [
        "${env:dev}",
        "${region:EU}",
        "${file:app.log}",
        "$${env:HOME}",
        "${host:HOME}",
    ] {
        let health = with(text)?.health();
        assert!(health.sources[0].hints.is_empty(), "{text}: {health:?}");
    }
    // A layer defines the key, or the value has no references.
    let memory = Memory::from([("a", "${env:HOME}"), ("env", "dev")]);
    let env = Env::prefix("APP_").vars([("APP_B", "${env:HOME}")]);
    let props = Properties::builder().source(memory).source(env).build()?;
    let health = props.health();
    assert!(health.sources.iter().all(|source| source.hints.is_empty()));
    Ok(())
}
