//! What a type reads at each of its paths, as far as its `Deserialize` shows it.

use std::collections::BTreeMap;

use crate::decode::diagnose::secret_paths::TypePath;
use crate::value::key;

/// What a type reads at a path. If a path is read in several ways, the last of these counts.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Content {
    /// The entries of a list, a map or an enum.
    #[default]
    Entries,
    /// A value that is no container.
    Plain,
    /// A struct, which ignores the names that it does not know.
    Struct,
    /// Any value: its type does not show before it is read.
    Any,
    Secret,
}

/// The paths of a type at and below one of them.
#[derive(Debug, Default)]
pub(super) struct TypeTree {
    pub(super) content: Content,
    /// Whether a secret is read at or below the path.
    pub(super) has_secret: bool,
    /// Whether any value is accepted at or below the path.
    has_any: bool,
    pub(super) entries: BTreeMap<Option<&'static str>, TypeTree>,
}

impl TypeTree {
    /// The tree of a type that accepts any value.
    pub(super) const fn any() -> Self {
        Self {
            content: Content::Any,
            has_secret: false,
            has_any: true,
            entries: BTreeMap::new(),
        }
    }

    pub(super) fn insert(&mut self, path: &[Option<&'static str>], content: Content) {
        self.has_secret |= content == Content::Secret;
        self.has_any |= content == Content::Any;
        match path.split_first() {
            Some((name, rest)) => self.entries.entry(*name).or_default().insert(rest, content),
            None => self.content = self.content.max(content),
        }
    }

    /// Whether a value at or below the path may be a secret.
    pub(super) fn may_hold_secret(&self) -> bool {
        self.has_secret || self.has_any
    }

    /// The entry with a name, and whether all entries of the container share it.
    pub(super) fn entry(&self, name: &str) -> Option<(&TypeTree, bool)> {
        let is_it = |known: &Option<&'static str>| {
            known.is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        let exact = self.entries.iter().find(|(known, _)| **known == Some(name));
        let alike = || self.entries.iter().find(|(known, _)| is_it(known));
        if let Some((_, entry)) = exact.or_else(alike) {
            return Some((entry, false));
        }
        self.entries.get(&None).map(|entry| (entry, true))
    }

    /// What is known at a path: the innermost known entry on the way, how many names lead to it, and the
    /// names with `*` for each index.
    pub(super) fn find(&self, names: &[String]) -> (&TypeTree, usize, Vec<String>) {
        let mut typed: Vec<String> = Vec::with_capacity(names.len());
        let mut here = self;
        for name in names {
            let Some((entry, is_shared)) = here.entry(name) else {
                break;
            };
            here = entry;
            let is_index = is_shared && key::list_index(name).is_some();
            typed.push(if is_index { "*".into() } else { name.clone() });
        }
        let known = typed.len();
        typed.extend(names[known..].iter().cloned());
        (here, known, typed)
    }

    /// The names that lead to each path at which any value is accepted. An index or a name in a map is
    /// `each`.
    pub(super) fn any_paths(&self, each: &str) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.add_any_paths(each, &mut Vec::new(), &mut paths);
        paths
    }

    fn add_any_paths(&self, each: &str, path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
        let is_any = |entry: &TypeTree| entry.content == Content::Any;
        // What a struct flattens is read from the table that seems to be a map.
        if is_any(self) || self.entries.get(&None).is_some_and(is_any) {
            paths.push(path.clone());
        }
        for (name, entry) in self.entries.iter().filter(|(_, entry)| entry.has_any) {
            path.push(name.unwrap_or(each).to_owned());
            entry.add_any_paths(each, path, paths);
            path.pop();
        }
    }

    /// The paths of the secrets.
    pub(super) fn secrets(&self) -> Vec<TypePath> {
        let mut paths = Vec::new();
        self.add_secrets(&mut TypePath::new(), &mut paths);
        paths
    }

    fn add_secrets(&self, path: &mut TypePath, paths: &mut Vec<TypePath>) {
        if self.content == Content::Secret {
            paths.push(path.clone());
        }
        for (name, entry) in self.entries.iter().filter(|(_, entry)| entry.has_secret) {
            path.push(*name);
            entry.add_secrets(path, paths);
            path.pop();
        }
    }
}
