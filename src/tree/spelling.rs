//! The key that is set in place of a missing one and is spelled nearly like it.

use std::sync::Arc;

use crate::tree::snapshot::{Found, Generation};
use crate::value::key::Key;
use crate::value::map::Entry;
use crate::value::node::Table;
use crate::value::origin::Origin;

/// As many names of one table are looked at: help for a person, and a crowd needs none.
const MOST: usize = 2_000;

/// A key that is set and differs from a missing one only by case, `_`, `-` and `.`.
#[derive(Debug)]
pub(crate) struct Spelled {
    pub(crate) key: Key,
    pub(crate) origin: Option<Origin>,
}

impl Generation {
    /// The key that is set in place of a missing one, if it differs only by case, `_`, `-` and `.`.
    pub(crate) fn spelled_otherwise(&self, missing: &str) -> Option<Spelled> {
        let missing = Key::parse(missing).ok().filter(|key| !key.is_root())?;
        if !Found::in_tree(&self.root, missing.as_str())
            .ok()?
            .is_nothing()
        {
            return None;
        }
        let mut path = Vec::new();
        let entry = search(&self.root, &fold(missing.as_str()), &mut path)?;
        Some(Spelled {
            key: Key::from_segments(&path).ok()?,
            origin: entry.node.origin().cloned(),
        })
    }
}

fn search<'a>(table: &'a Table, rest: &str, path: &mut Vec<&'a str>) -> Option<&'a Arc<Entry>> {
    for entry in table.map().iter().take(MOST) {
        let Some(below) = strip(rest, &entry.name) else {
            continue;
        };
        path.push(&entry.name);
        let found = match (entry.node.table(), below) {
            (None, "") => Some(entry),
            (Some(_), "") | (None, _) => None,
            (Some(table), below) => search(table, below, path),
        };
        if found.is_some() {
            return found;
        }
        path.pop();
    }
    None
}

/// A key without what people write differently.
fn fold(key: &str) -> String {
    letters(key).collect()
}

fn letters(key: &str) -> impl Iterator<Item = char> {
    let letters = key.chars();
    let letters = letters.filter(|c| !matches!(c, '_' | '-' | '.' | '"'));
    letters.flat_map(char::to_lowercase)
}

/// What a folded key has after a name.
fn strip<'a>(folded: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = folded.chars();
    for letter in letters(name) {
        if rest.next() != Some(letter) {
            return None;
        }
    }
    Some(rest.as_str())
}

impl Spelled {
    /// What to write so that the missing key is set.
    pub(crate) fn advice(&self, missing: &str) -> String {
        let key = &self.key;
        let variable = self.origin.as_ref().filter(|it| it.kind() == "env");
        let Some(variable) = variable.map(Origin::name) else {
            return format!("did you mean `{key}`?");
        };
        let remedy = match variable_for(variable, key.as_str(), missing) {
            Some(name) => format!("name it `{name}` to set `{missing}`"),
            None => format!("map it by `Env::name(\"{variable}\", \"{missing}\")`"),
        };
        format!("the variable `{variable}` sets `{key}`; {remedy}")
    }
}

/// The name of the variable that sets a key, for the prefix that another variable has.
fn variable_for(other: &str, key: &str, missing: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    let name = |key: &str| key.replace('.', "__").to_ascii_uppercase();
    if !missing.chars().all(is_plain) || missing.contains("__") {
        return None;
    }
    let suffix = name(key);
    let at = other.len().checked_sub(suffix.len())?;
    let (prefix, rest) = other.split_at_checked(at)?;
    // A prefix without its separator leaves that in the key.
    let separator = key.starts_with('_') && !missing.starts_with('_');
    let separator = if separator { "_" } else { "" };
    let is_same = rest.to_ascii_uppercase() == suffix;
    is_same.then(|| format!("{prefix}{separator}{}", name(missing)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_variable_keeps_the_prefix_of_another() {
        let name = |other: &str, key: &str, missing: &str| variable_for(other, key, missing);
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(name("APP_A_B", "a_b", "a.b"), some("APP_A__B"));
        assert_eq!(name("APP_A__B", "a.b", "a_b"), some("APP_A_B"));
        assert_eq!(name("APP_QPS", "_qps", "qps"), some("APP_QPS"));
        assert_eq!(name("APP_MAX_BURST", "max_burst", "maxBurst"), None);
        assert_eq!(name("APP_MAX_BURST", "max_burst", "max-burst"), None);
        assert_eq!(name("OTHER", "max_burst", "max.burst"), None);
    }
}
