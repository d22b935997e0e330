//! Looks at configuration without running the program: for a gate before a deployment, and for the
//! person who wonders where a value comes from. Secrets are masked in all that is printed.
//!
//! ```text
//! cargo run --example check -- check base.toml prod.toml     is it acceptable? exit code 1 if not
//! cargo run --example check -- dump base.toml prod.toml      all values, and where each is written
//! cargo run --example check -- explain ratelimit.qps base.toml prod.toml
//! cargo run --example check -- diff base.toml prod.toml      what the second says otherwise
//! ```
//!
//! Later files override earlier ones. The rules are those of a program with a rate limit.

use std::process::ExitCode;

use liveprops::sources::File;
use liveprops::{Error, Properties};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["check", files @ ..] if !files.is_empty() => check(files),
        ["dump", files @ ..] if !files.is_empty() => dump(files),
        ["explain", key, files @ ..] if !files.is_empty() => explain(key, files),
        ["diff", old, new] => diff(old, new),
        _ => {
            eprintln!("usage: check|dump FILE...   explain KEY FILE...   diff OLD NEW");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Everything that is wrong, a line each.
            for one in error.iter() {
                eprintln!("{one}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The files as layers, with the rules of the program.
fn load(files: &[&str]) -> Result<Properties, Error> {
    let layers = files.iter().map(|file| File::new(file).without_watch());
    Properties::builder()
        .sources(layers)
        .validate(|tree| match tree.get_opt::<u32>("ratelimit.qps") {
            Ok(Some(0)) => Err("ratelimit.qps must not be 0".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .build()
}

fn check(files: &[&str]) -> Result<(), Error> {
    let props = load(files)?;
    println!("{} keys, all acceptable", props.snapshot().keys().len());
    Ok(())
}

fn dump(files: &[&str]) -> Result<(), Error> {
    let props = load(files)?;
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
    println!("{}", load(files)?.explain(key));
    Ok(())
}

fn diff(old: &str, new: &str) -> Result<(), Error> {
    let (old, new) = (load(&[old])?.snapshot(), load(&[new])?.snapshot());
    for change in new.changes_since(&old) {
        println!("{change}");
    }
    Ok(())
}
