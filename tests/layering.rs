//! A module imports only from modules above it.

#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the top down. A module sees those above it and itself.
const MODULES: [&str; 12] = [
    "sorted",
    "sync",
    "error",
    "value",
    "decode",
    "format",
    "source",
    "tree",
    "property",
    "schema",
    "engine",
    "properties",
];

/// The modules that backends may import.
const BACKENDS_SEE: [&str; 6] = ["sorted", "sync", "error", "value", "format", "source"];

/// The types of `value` that `error` may import.
const ERROR_SEES: [&str; 2] = ["key", "origin"];

/// Modules below `sources` that several backends share.
const SHARED_BY_BACKENDS: [&str; 2] = ["fs/watch", "shared"];

/// Client crates and the only module that may name each one.
const CLIENTS: [(&str, &[&str]); 18] = [
    ("arc_swap", &["sync/"]),
    ("loom", &["sync/"]),
    ("fastrand", &["sync/"]),
    ("toml", &["format/toml/"]),
    (
        "serde_json",
        &[
            "format/json/",
            "sources/consul/",
            "sources/etcd/",
            "sources/nats/",
        ],
    ),
    ("saphyr_parser", &["format/yaml/"]),
    ("notify", &["sources/fs/watch/"]),
    (
        "ureq",
        &[
            "sources/shared/http_client/",
            "sources/http/",
            "sources/consul/",
            "sources/etcd/",
        ],
    ),
    (
        "rustls",
        &[
            "sources/shared/tls.rs",
            "sources/nats/",
            "sources/shared/http_client/",
            "sources/zookeeper/tls.rs",
        ],
    ),
    (
        "http",
        &[
            "sources/shared/address.rs",
            "sources/shared/http_client/url.rs",
        ],
    ),
    ("webpki_roots", &["sources/zookeeper/tls.rs"]),
    ("rustls_native_certs", &["sources/nats/"]),
    ("nkeys", &["sources/nats/login.rs"]),
    ("tokio", &["sources/nats/"]),
    ("tokio_rustls", &["sources/nats/connect.rs"]),
    ("flate2", &["sources/http/"]),
    ("httpdate", &["sources/http/"]),
    ("crc32fast", &["engine/cache/encoding/"]),
];

struct Import {
    file: String,
    line: usize,
    /// The imported path below `crate::`.
    path: Vec<String>,
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns all lines of the crate without comments: file, line number and text.
fn code() -> Vec<(String, usize, String)> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let mut lines = Vec::new();
    for path in files {
        let name = path
            .strip_prefix(root())
            .expect("below src")
            .to_string_lossy()
            .replace('\\', "/");
        // Tests may import every module.
        if name.ends_with("tests.rs") || name.contains("/tests/") || name.ends_with("models.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable file");
        for (at, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("#[cfg(test)]") {
                break;
            }
            let line = line.split("//").next().unwrap_or_default();
            lines.push((name.clone(), at + 1, line.to_owned()));
        }
    }
    lines
}

fn imports() -> Vec<Import> {
    let mut imports = Vec::new();
    for (file, line, text) in code() {
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            let path = rest[..end]
                .split("::")
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
            imports.push(Import {
                file: file.clone(),
                line,
                path,
            });
        }
    }
    imports
}

fn module(file: &str) -> &str {
    file.split('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs")
}

#[test]
fn no_module_imports_a_later_one() {
    let mut wrong = Vec::new();
    for Import { file, line, path } in imports() {
        let (own, Some(other)) = (module(&file), path.first()) else {
            wrong.push(format!(
                "{file}:{line}: imports from the crate root; name the defining module"
            ));
            continue;
        };
        let index = |name: &str| MODULES.iter().position(|module| *module == name);
        let fine = match own {
            "lib" => true,
            "error" if other == "value" => {
                let module = path.get(1);
                module.is_some_and(|module| ERROR_SEES.contains(&module.as_str()))
            }
            "sources" => other == "sources" || BACKENDS_SEE.contains(&other.as_str()),
            own => match (index(own), index(other)) {
                (Some(own), Some(other)) => other <= own,
                _ => false,
            },
        };
        if !fine {
            wrong.push(format!("{file}:{line}: `{own}` may not see `{other}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the backend or shared module of a path below `sources`. Files and directories are two
/// backends in one folder.
fn backend(path: &[&str]) -> String {
    match path {
        ["fs", own, ..] => format!("fs/{}", module(own)),
        [own, ..] => module(own).to_owned(),
        [] => String::new(),
    }
}

#[test]
fn no_backend_imports_another() {
    let mut wrong = Vec::new();
    for Import { file, line, path } in imports() {
        let Some(own) = file.strip_prefix("sources/") else {
            continue;
        };
        let own = backend(&own.split('/').collect::<Vec<_>>());
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let [first, other @ ..] = path.as_slice() else {
            continue;
        };
        // As in `pub(in crate::sources)`.
        if other.is_empty() {
            continue;
        }
        let other = backend(other);
        let is_root = own == "mod" || own == "fs/mod";
        let fine = other == own || SHARED_BY_BACKENDS.contains(&other.as_str());
        if *first == "sources" && !is_root && !fine {
            wrong.push(format!("{file}:{line}: `{own}` imports `{other}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_client_crate_is_used_by_one_backend_only() {
    let mut wrong = Vec::new();
    for (file, line, text) in code() {
        for (client, homes) in CLIENTS {
            let word = format!("{client}::");
            let used = text.match_indices(&word).any(|(at, _)| {
                let before = text[..at].chars().last();
                !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
            });
            if used && !homes.iter().any(|home| file.starts_with(home)) {
                wrong.push(format!(
                    "{file}:{line}: names `{client}`, which belongs to {homes:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn panics_are_caught_in_one_file_only() {
    let mut wrong = Vec::new();
    for (file, line, text) in code() {
        if file != "sync/panics.rs" && text.contains("catch_unwind") {
            wrong.push(format!("{file}:{line}: call `sync::panics::catch` instead"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
