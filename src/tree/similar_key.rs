//! Finds the key that may be meant by a missing one: it differs only in its spelling, or is the nearest one.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::sorted;
use crate::tree::diff::value;
use crate::tree::missing::UNDEFINED;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{self, Key};
use crate::value::node::Table;
use crate::value::origin::Origin;

/// Limits the names of one table that are compared: the advice is not worth more time.
const MAX_NAMES: usize = 2_000;

/// A key that is set and differs from a missing one only by case, `_`, `-` and `.`.
#[derive(Debug)]
pub(crate) struct SimilarKey {
    pub(crate) key: Key,
    pub(crate) origin: Option<Origin>,
    /// The key that a program reads, or one below it.
    pub(crate) missing: Key,
}

impl Generation {
    /// A key, if it is missing.
    fn missing_key(&self, key: &str) -> Option<Key> {
        let found = Found::in_tree(&self.root, key).ok()?;
        let key = Key::parse(key).ok().filter(|key| !key.is_root());
        key.filter(|_| found.is_nothing())
    }

    /// The key that is set instead of a missing one, if it differs only by case, `_`, `-` and `.`.
    pub(crate) fn similar_key(&self, missing: &str) -> Option<SimilarKey> {
        let missing = self.missing_key(missing)?;
        let mut path = Vec::new();
        let entry = search(&self.root, &fold(missing.as_str()), &mut path, &|_| true)?;
        Some(SimilarKey {
            key: Key::from_segments(&path).ok()?,
            origin: entry.node.origin().cloned(),
            missing,
        })
    }

    /// The key of a weaker layer that a key of the layer `at` does not override, since it is spelled
    /// otherwise. There is none if another layer has the key too, or if the layer sets both.
    pub(crate) fn similar_key_in_weaker_layer(&self, at: usize, key: &Key) -> Option<SimilarKey> {
        let has = |root: &Table, key: &Key| {
            Found::in_tree(root, key.as_str()).is_ok_and(|found| !found.is_nothing())
        };
        let own = &self.layers.get(at)?.root;
        let (stronger, weaker) = (self.layers.get(..at)?, self.layers.get(at + 1..)?);
        let mut others = stronger.iter().chain(weaker);
        if others.any(|layer| has(&layer.root, key)) {
            return None;
        }
        let folded = fold(key.as_str());
        let missing = weaker.iter().find_map(|layer| {
            let mut path = Vec::new();
            let is_free = |path: &[Cow<'_, str>]| {
                Key::from_segments(path).is_ok_and(|other| other != *key && !has(own, &other))
            };
            search(&layer.root, &folded, &mut path, &is_free)?;
            Key::from_segments(&path).ok()
        })?;
        let entry = own.find(key.segments())?;
        Some(SimilarKey {
            key: key.clone(),
            origin: entry.node.origin().cloned(),
            missing,
        })
    }

    /// A key that is set instead of one below a missing table, such as `limits_qps` for `limits.qps`.
    pub(crate) fn similar_key_below(&self, missing: &str) -> Option<SimilarKey> {
        let missing = self.missing_key(missing)?;
        let mut path = Vec::new();
        let (entry, tail) = search_below(&self.root, &fold(missing.as_str()), &mut path)?;
        let tail = Key::from_segments(tail).ok()?;
        Some(SimilarKey {
            key: Key::from_segments(&path).ok()?,
            origin: entry.node.origin().cloned(),
            missing: missing.join(&tail).ok()?,
        })
    }

    /// The key whose last segment is the most similar, among those of the same table, of which
    /// [`MAX_NAMES`] are compared.
    pub(crate) fn nearest(&self, key: &str) -> Option<String> {
        let key = Key::parse(key).ok()?;
        let path: Vec<_> = key.segments().collect();
        let mut table = &self.root;
        for (depth, wanted) in path.iter().enumerate() {
            if let Some(below) = table.get(wanted).and_then(|entry| entry.node.table()) {
                table = below;
                continue;
            }
            let letters = wanted.chars().count();
            // Every name of one letter is near every other.
            let max_distance = (letters / 3).clamp(1, 2).min(letters.saturating_sub(1));
            let similar = |entry: &&Arc<Entry>| {
                let name = &*entry.name;
                let may_be = max_distance > 0 && !name.is_empty();
                let may_be = may_be && name.chars().count().abs_diff(letters) <= max_distance;
                let compared =
                    may_be.then(|| (strsim::osa_distance(name, wanted), name.to_owned()));
                // The name itself, at distance 0, is there with another meaning, such as a tombstone.
                compared.filter(|(distance, _)| (1..=max_distance).contains(distance))
            };
            let siblings = table.map().iter().take(MAX_NAMES);
            let (_, name) = siblings.filter_map(|entry| similar(&entry)).min()?;
            let mut names: Vec<&str> = path.iter().map(AsRef::as_ref).collect();
            names[depth] = &name;
            let nearest = Key::from_segments(names).ok()?;
            let found = Found::in_tree(&self.root, nearest.as_str()).ok()?;
            return (!found.is_nothing()).then(|| nearest.to_string());
        }
        None
    }
}

/// A leaf whose key continues the missing one, and the names behind it.
fn search_below<'a>(
    table: &'a Table,
    rest: &str,
    path: &mut Vec<&'a str>,
) -> Option<(&'a Arc<Entry>, Vec<&'a str>)> {
    let mut entries: Vec<&Arc<Entry>> = table.map().iter().take(MAX_NAMES).collect();
    sorted::sort_by(&mut entries, |a, b| a.name.cmp(&b.name));
    for entry in entries {
        path.push(&entry.name);
        let depth = path.len();
        let leaf_after = |path: &mut Vec<&'a str>, name: Option<&'a str>| {
            let leaf = first_leaf(entry, path)?;
            let tail = name.into_iter().chain(path[depth..].iter().copied());
            Some((leaf, tail.collect()))
        };
        let found = match (strip(rest, &entry.name), entry.node.table()) {
            (Some(""), Some(_)) => leaf_after(path, None),
            (Some(""), None) | (Some(_), None) => None,
            (Some(below), Some(table)) => search_below(table, below, path),
            (None, _) => match name_after(&entry.name, rest) {
                Some(name) => leaf_after(path, Some(name)),
                None => None,
            },
        };
        if found.is_some() {
            return found;
        }
        path.truncate(depth - 1);
    }
    None
}

/// What a name has after a folded key and a separator.
fn name_after<'a>(name: &'a str, folded: &str) -> Option<&'a str> {
    let separators = name.match_indices(['_', '-', '.']);
    let mut ends = separators.filter(|(at, _)| fold(&name[..*at]) == folded);
    let (at, separator) = ends.next()?;
    let after = &name[at + separator.len()..];
    (!after.is_empty()).then_some(after)
}

/// The first leaf at or below an entry; adds the names that lead to it.
fn first_leaf<'a>(entry: &'a Arc<Entry>, path: &mut Vec<&'a str>) -> Option<&'a Arc<Entry>> {
    let Some(table) = entry.node.table() else {
        return Some(entry);
    };
    let below = table
        .map()
        .iter()
        .take(MAX_NAMES)
        .min_by(|a, b| a.name.cmp(&b.name))?;
    path.push(&below.name);
    first_leaf(below, path)
}

/// A leaf whose key has these letters and whose path is accepted. The key may lead into a list.
fn search<'a>(
    table: &'a Table,
    rest: &str,
    path: &mut Vec<Cow<'a, str>>,
    accept: &dyn Fn(&[Cow<'a, str>]) -> bool,
) -> Option<&'a Arc<Entry>> {
    for entry in table.map().iter().take(MAX_NAMES) {
        let Some(below) = strip(rest, &entry.name) else {
            continue;
        };
        let depth = path.len();
        path.push(Cow::Borrowed(&entry.name));
        let found = match (entry.node.table(), below) {
            (None, "") => accept(path).then_some(entry),
            (Some(_), "") => None,
            (None, below) => {
                let inside = value(&entry.node).is_some_and(|it| search_value(it, below, path));
                (inside && accept(path)).then_some(entry)
            }
            (Some(table), below) => search(table, below, path, accept),
        };
        if found.is_some() {
            return found;
        }
        path.truncate(depth);
    }
    None
}

/// Whether a path inside a value has these letters; adds the names of that path.
fn search_value<'a>(value: &'a Value, rest: &str, path: &mut Vec<Cow<'a, str>>) -> bool {
    let mut below = |name: Cow<'a, str>, value: &'a Value| {
        let Some(rest) = strip(rest, &name) else {
            return false;
        };
        let depth = path.len();
        path.push(name);
        let found = rest.is_empty() || search_value(value, rest, path);
        if !found {
            path.truncate(depth);
        }
        found
    };
    match value {
        Value::List(items) => {
            let mut items = items.iter().enumerate().take(MAX_NAMES);
            items.any(|(at, item)| below(Cow::Owned(at.to_string()), item))
        }
        Value::Table(fields) => {
            let mut fields = fields.iter().take(MAX_NAMES);
            fields.any(|(name, value)| below(Cow::Borrowed(name), value))
        }
        _ => false,
    }
}

/// The letters of a key that a person would not vary.
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
    if name.is_ascii() {
        return strip_ascii(folded, name);
    }
    let mut rest = folded.chars();
    for letter in letters(name) {
        if rest.next() != Some(letter) {
            return None;
        }
    }
    Some(rest.as_str())
}

/// As [`strip`], for many names in little time.
fn strip_ascii<'a>(folded: &'a str, name: &str) -> Option<&'a str> {
    let bytes = folded.as_bytes();
    let mut at = 0;
    for byte in name.as_bytes() {
        if matches!(byte, b'_' | b'-' | b'.' | b'"') {
            continue;
        }
        if *bytes.get(at)? != byte.to_ascii_lowercase() {
            return None;
        }
        at += 1;
    }
    folded.get(at..)
}

impl SimilarKey {
    /// The error of a missing key with what to write so that it is set.
    pub(crate) fn explain(&self, missing: &str, error: &Error) -> Error {
        let detail = format!("{UNDEFINED}; {}", self.advice());
        let explained = Error::new(ErrorKind::NotFound, detail).with_key_text(missing);
        match error.expected() {
            Some(expected) => explained.with_expected(expected),
            None => explained,
        }
    }

    /// The hint that a key of another layer is not overridden.
    pub(crate) fn not_overridden(&self) -> Error {
        let detail = format!("is not overridden: {}", self.advice());
        let hint = Error::new(ErrorKind::InvalidKey, detail).with_key(&self.missing);
        match &self.origin {
            Some(origin) => hint.with_origin(origin),
            None => hint,
        }
    }

    /// Whether the key has the same letters as the missing one, with a dot in a name. A document may seem to
    /// write a path that way.
    pub(crate) fn has_dotted_name(&self) -> bool {
        let letters = |key: &Key| key.segments().collect::<Vec<_>>().join(".");
        self.key != self.missing && letters(&self.key) == letters(&self.missing)
    }

    /// What to write so that the missing key is set.
    pub(crate) fn advice(&self) -> String {
        let (key, missing) = (&self.key, self.missing.as_str());
        let of_kind = |kind: &str| self.origin.as_ref().filter(|it| it.kind() == kind);
        if let Some(argument) = of_kind("argument").map(Origin::name) {
            return format!(
                "the argument `{argument}` sets `{key}`; write `--{missing}=VALUE` to set `{missing}`"
            );
        }
        let Some(variable) = of_kind("env").map(Origin::name) else {
            let last = self.missing.segments().last().unwrap_or_default();
            return match key::lineage(missing).nth(1) {
                Some(table) if self.has_dotted_name() => format!(
                    "did you mean `{key}`, which is one name with a dot? For `{missing}`, write \
                     `{last}` in the table `{table}`"
                ),
                _ => format!("did you mean `{key}`?"),
            };
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
