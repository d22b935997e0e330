//! Checks configuration without running the program: before a deployment, or to find out where a value
//! comes from. Secrets are masked in the whole output.
//!
//! ```text
//! cargo run --example check -- check base.toml prod.toml     exit code 1 if something is wrong
//! cargo run --example check -- dump base.toml prod.toml      all values and their origins
//! cargo run --example check -- explain ratelimit.qps base.toml prod.toml
//! cargo run --example check -- diff base.toml prod.toml      what changes from the first to the second;
//!                                                            exit code 1 if the second is rejected
//! cargo run --example check -- schema                        the declared keys; `--json` for editors
//! ```
//!
//! Later files override earlier ones. The schema is that of a program with a rate limit. One run reports
//! everything that is wrong: bad values, missing keys, and undeclared keys with the nearest declared one.
//! Deprecated keys are reported and accepted.

use std::process::ExitCode;

use liveprops::sources::File;
use liveprops::{Error, Properties, Schema, Source};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["check", files @ ..] if !files.is_empty() => check(files),
        ["dump", files @ ..] if !files.is_empty() => dump(files),
        ["explain", key, files @ ..] if !files.is_empty() => explain(key, files),
        ["diff", old, new] => diff(old, new),
        ["schema"] => show(&schema().to_text()),
        ["schema", "--json"] => show(&schema().to_json_schema()),
        _ => {
            eprintln!("usage: check|dump FILE...   explain KEY FILE...   diff OLD NEW   schema");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line for each error.
            for one in error.iter() {
                eprintln!("{one}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The keys of the program.
fn schema() -> Schema {
    let qps = Schema::key::<u32>("ratelimit.qps").range(1..=10_000);
    let limit = Schema::key::<u32>("ratelimit.limit").deprecated("use ratelimit.qps");
    let password = Schema::key::<String>("db.password").required().secret();
    Schema::new()
        .declare(qps.default(100).describe("requests a second"))
        .declare(Schema::key::<u32>("ratelimit.max_burst").describe("requests at once"))
        .declare(limit)
        .declare(password)
        .strict("")
}

/// Loads the files as layers, with the rules of the program.
fn load(files: &[&str], schema: Schema) -> Result<Properties, Error> {
    let layers = files.iter().map(|file| File::new(file).without_watch());
    Properties::builder()
        .sources(layers)
        .schema(schema)
        .validate(|tree| {
            let number = |key| tree.get_opt::<u32>(key).map_err(|error| error.to_string());
            match (number("ratelimit.max_burst")?, number("ratelimit.qps")?) {
                (Some(burst), Some(qps)) if burst > qps => {
                    Err("ratelimit.max_burst is more than ratelimit.qps".into())
                }
                _ => Ok(()),
            }
        })
        .build()
}

fn check(files: &[&str]) -> Result<(), Error> {
    let props = load(files, schema().deny_unknown())?;
    for deprecated in props.deprecated_keys() {
        eprintln!("warning: {deprecated}");
    }
    println!("{} keys, all valid", props.snapshot().keys().len());
    Ok(())
}

fn dump(files: &[&str]) -> Result<(), Error> {
    let props = load(files, schema())?;
    for key in props.snapshot().keys() {
        let explained = props.explain(key.as_str());
        let value = explained.value.unwrap_or_default();
        match explained.origin {
            Some(origin) => println!("{key} = {value}  ({origin})"),
            None => println!("{key} = {value}"),
        }
    }
    Ok(())
}

fn explain(key: &str, files: &[&str]) -> Result<(), Error> {
    println!("{}", load(files, schema())?.explain(key));
    Ok(())
}

/// Checks the new file against properties of the old one, and changes nothing.
fn diff(old: &str, new: &str) -> Result<(), Error> {
    let props = load(&[old], schema().deny_unknown())?;
    let candidate = File::new(new).without_watch().load()?;
    for source in props.health().sources {
        let checked = props.check(source.source, candidate.clone())?;
        for change in &checked.changes {
            println!("{change}");
        }
        if !checked.rejected.is_empty() {
            return Err(Error::all(checked.rejected));
        }
    }
    Ok(())
}

fn show(text: &str) -> Result<(), Error> {
    print!("{text}");
    Ok(())
}
