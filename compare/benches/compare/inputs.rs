//! The configurations of all contenders.

use std::collections::HashMap;
use std::path::PathBuf;

use liveprops::{DynamicProperty, Properties, sources::Memory};
use tempfile::TempDir;

/// The key that the benches change.
pub(crate) const KEY: &str = "section0.key7";

fn name(i: usize) -> String {
    format!("section{}.key{}", i / 100, i % 100)
}

/// Returns names that are spread over all keys.
pub(crate) fn some_names(keys: usize) -> [String; 64] {
    std::array::from_fn(|i| name(i * 7919 % keys))
}

pub(crate) fn names(keys: usize) -> impl Iterator<Item = String> {
    (0..keys).map(name)
}

/// Returns a document of `keys` numbers, a hundred per section, below `root` unless it is empty.
pub(crate) fn numbers_toml(keys: usize, root: &str) -> String {
    let mut text = String::new();
    for i in 0..keys {
        if i % 100 == 0 {
            text.push_str(&format!("[{root}section{}]\n", i / 100));
        }
        text.push_str(&format!("key{} = {i}\n", i % 100));
    }
    text
}

/// Returns a document of at least `bytes` bytes and its number of keys.
pub(crate) fn document_toml(bytes: usize) -> (String, usize) {
    let mut text = String::new();
    let mut section = 0;
    while text.len() < bytes {
        text.push_str(&format!("[section{section}]\n"));
        for i in 0..50 {
            text.push_str(&format!(
                "number_of_things_{i} = {i}\nname_of_thing_{i} = \"the value of {i}\"\n"
            ));
        }
        section += 1;
    }
    (text, section * 100)
}

/// Writes a file into a temporary directory, which deletes it when dropped. The path contains no
/// symlinks, like those of file events.
pub(crate) fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().canonicalize().unwrap().join("app.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// The floor of reading by name: a map from names to numbers with the fastest hash.
pub(crate) type Map = HashMap<String, u32, foldhash::fast::RandomState>;

pub(crate) fn map(keys: usize) -> Map {
    names(keys).zip(0..).collect()
}

pub(crate) fn liveprops(keys: usize) -> (Memory, Properties) {
    let memory: Memory = names(keys).zip(0u32..).collect();
    let props = Properties::builder()
        .source(memory.clone())
        .build()
        .unwrap();
    (memory, props)
}

/// Builds live handles that are spread over all keys: one less than `handles`, since the caller has one.
pub(crate) fn handles(
    props: &Properties,
    keys: usize,
    handles: usize,
) -> Vec<DynamicProperty<u32>> {
    names(keys)
        .step_by((keys / handles).max(1))
        .skip(1)
        .map(|name| props.property::<u32>(&name).build().unwrap())
        .collect()
}

pub(crate) fn config_rs(text: &str) -> config::Config {
    config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .build()
        .unwrap()
}

pub(crate) fn figment(text: &str) -> figment::Figment {
    use figment::providers::{Format, Toml};
    figment::Figment::from(Toml::string(text))
}
