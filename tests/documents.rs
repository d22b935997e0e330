//! The documents of the repository agree with its files.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn the_readme_contains_the_axum_example_unchanged() {
    let example = read("examples/axum_service.rs");
    let code = &example[example.find("use axum").unwrap()..];
    assert!(read("README.md").contains(code));
}

#[test]
fn every_link_of_a_document_leads_to_an_existing_file() {
    let documents = fs::read_dir(root()).unwrap();
    let documents = documents.map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|ext| ext == "md"));
    let mut links = 0;
    for document in documents {
        for link in read(&document).split("](").skip(1) {
            let (target, _) = link.split_once(')').unwrap();
            let (file, _) = target.split_once('#').unwrap_or((target, ""));
            if !file.contains("://") {
                assert!(root().join(file).exists(), "{}: {file}", document.display());
                links += 1;
            }
        }
    }
    assert!(links > 10);
}
