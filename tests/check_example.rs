//! Runs the example `check`, a gate before a deployment.
#![cfg(feature = "toml")]
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;

use support::example::example;

/// Runs the example in a directory and returns its exit code and output.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let example = example("check");
    let output = Command::new(example).args(args).current_dir(dir).output();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

const BASE: &str = "[ratelimit]\nqps = 100\n[db]\npassword = \"hunter2\"\n";
const PROD: &str = "[ratelimit]\nqps = 500\nmax_burst = 9\n[db]\npassword = \"c0rrect\"\n";

#[test]
fn the_example_passes_good_files_and_fails_bad_ones_with_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("base.toml", BASE);
    write("prod.toml", PROD);
    write("broken.toml", "[ratelimit]\nqps = \n");
    write("wrong.toml", "[ratelimit]\nqps = \"many\"\n");
    write("burst.toml", "[ratelimit]\nmax_burst = 101\n");
    write("zero.toml", "[ratelimit]\nqps = 0\n");
    let check = |files: &[&str]| run(dir.path(), &[&["check"], files].concat());
    assert_eq!(
        check(&["base.toml", "prod.toml"]),
        (0, "3 keys, all valid\n".into(), String::new())
    );
    for (file, position) in [
        ("broken.toml", "broken.toml:2:"),
        ("wrong.toml", "wrong.toml:2:7"),
        ("zero.toml", "out of range, expected 1..=10000"),
        (
            "burst.toml",
            "ratelimit.max_burst is more than ratelimit.qps",
        ),
        ("absent.toml", "absent.toml"),
    ] {
        let (code, out, err) = check(&["base.toml", file]);
        assert_eq!((code, out.as_str()), (1, ""), "{file}");
        assert!(err.contains(position), "{file}: {err}");
    }
    assert_eq!(run(dir.path(), &["explode"]).0, 2);
}

#[test]
fn one_run_of_the_example_reports_all_faults() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = "[RateLimit]\nqps = 5\n[ratelimit]\nburst = 9\nqps = 0\n[other]\nthing = 1\n";
    std::fs::write(dir.path().join("wrong.toml"), wrong).unwrap();
    let (code, out, err) = run(dir.path(), &["check", "wrong.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let messages: Vec<&str> = err.lines().collect();
    assert_eq!(
        messages,
        [
            "`db.password`: required, but no layer defines it, expected string",
            "`ratelimit.qps`: out of range, expected 1..=10000, found integer 0 (file wrong.toml:5:7)",
            "`RateLimit.qps`: not declared in the schema; did you mean `ratelimit.qps`? \
             (file wrong.toml:2:7)",
            "`other.thing`: not declared in the schema (file wrong.toml:7:9)",
            "`ratelimit.burst`: not declared in the schema; did you mean `ratelimit.max_burst`? \
             (file wrong.toml:4:9)",
        ]
    );
}

#[test]
fn the_example_reports_and_accepts_a_deprecated_key() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("old.toml"), BASE.replace("qps", "limit")).unwrap();
    let (code, out, err) = run(dir.path(), &["check", "old.toml"]);
    assert_eq!((code, out.as_str()), (0, "3 keys, all valid\n"));
    assert_eq!(
        err,
        "warning: `ratelimit.limit` is deprecated: use ratelimit.qps (file old.toml:2:9)\n"
    );
}

#[test]
fn the_example_fails_for_a_change_that_would_be_rejected() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.toml"), BASE).unwrap();
    let wrong = BASE.replace("100", "0").replace("hunter2", "c0rrect");
    std::fs::write(dir.path().join("wrong.toml"), wrong).unwrap();
    let (code, out, err) = run(dir.path(), &["diff", "base.toml", "wrong.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("`ratelimit.qps`: out of range"), "{err}");
    let (code, out, _) = run(dir.path(), &["schema"]);
    assert!(code == 0 && out.contains("1..=10000"), "{out}");
    let (code, out, _) = run(dir.path(), &["schema", "--json"]);
    assert!(code == 0 && out.contains("json-schema.org"), "{out}");
}

#[test]
fn dump_explanation_and_comparison_match_the_record_and_mask_secrets() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.toml"), BASE).unwrap();
    std::fs::write(dir.path().join("prod.toml"), PROD).unwrap();
    let printed = |args: &[&str]| {
        let (code, out, err) = run(dir.path(), args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        out
    };
    assert_eq!(
        printed(&["dump", "base.toml", "prod.toml"]),
        "db.password = ******  (file prod.toml:5:12)\n\
         ratelimit.max_burst = 9  (file prod.toml:3:13)\n\
         ratelimit.qps = 500  (file prod.toml:2:7)\n"
    );
    assert_eq!(
        printed(&["explain", "ratelimit.qps", "base.toml", "prod.toml"]),
        "ratelimit.qps = 500\n\
         \x20   overrides       -\n\
         \x20 > file prod.toml  500  (file prod.toml:2:7)\n\
         \x20   file base.toml  100  (file base.toml:2:7)\n\
         \x20   defaults        100  (schema)\n"
    );
    assert_eq!(
        printed(&["diff", "base.toml", "prod.toml"]),
        "db.password: ****** -> ****** (file prod.toml:5:12)\n\
         ratelimit.max_burst: absent -> 9 (file prod.toml:3:13)\n\
         ratelimit.qps: 100 -> 500 (file prod.toml:2:7)\n"
    );
}
