//! The unread parts of a source, whose last good values stay.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::Error;
use crate::sorted;
use crate::value::hamt::Entry;
use crate::value::key::{self, push_segment};
use crate::value::node::{Leaf, Node, Table};
use crate::value::origin::Origin;

/// One part that could not be read.
#[derive(Clone, Debug)]
enum Part {
    /// Any value may belong to the part.
    Any,
    /// A key and all below it.
    Key(Box<str>),
    /// Everything with this origin, as text.
    Origin(Box<str>),
    /// Everything of one fragment. Its last good values also replace those of another fragment.
    Fragment(Origin),
    /// A fragment without values, such as an empty file. It counts as unread if it had values before, with
    /// this problem.
    Emptied(Origin, Error),
}

/// The parts of a source that a document could not read. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread {
    parts: Arc<Vec<Part>>,
    /// Whether a fragment overrides those with smaller names.
    later_wins: bool,
}

impl Unread {
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds the part that a problem names: its key, or else its origin, or else everything.
    pub(crate) fn add(&mut self, problem: &Error) {
        let parts = Arc::make_mut(&mut self.parts);
        parts.extend(problem.iter().map(|one| {
            match (one.key_text(), one.origin().or(problem.origin())) {
                (Some(key), _) => Part::Key(key.into()),
                (None, Some(origin)) => Part::Origin(origin.to_string().into()),
                (None, None) => Part::Any,
            }
        }));
    }

    /// Adds a fragment.
    pub(crate) fn add_fragment(&mut self, fragment: &Origin) {
        Arc::make_mut(&mut self.parts).push(Part::Fragment(fragment.clone()));
    }

    /// Adds a fragment without values.
    pub(crate) fn add_emptied(&mut self, fragment: &Origin, problem: Error) {
        Arc::make_mut(&mut self.parts).push(Part::Emptied(fragment.clone(), problem));
    }

    /// Has fragments override those with smaller names.
    pub(crate) fn set_later_wins(&mut self) {
        self.later_wins = true;
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        if self.is_empty() {
            self.parts = Arc::clone(&other.parts);
        } else if !other.is_empty() {
            Arc::make_mut(&mut self.parts).extend(other.parts.iter().cloned());
        }
        self.later_wins |= other.later_wins;
    }

    /// Whether a key of unknown origin may be of a part that could not be read.
    pub(crate) fn may_have(&self, key: &str) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Key(part) => key::under(key, part) || key::under(part, key),
            Part::Any | Part::Origin(_) | Part::Fragment(_) | Part::Emptied(..) => true,
        })
    }

    /// Adds the last good values of the unread parts to the values that a source could read. Subtrees that
    /// both share cost nothing. Returns the problems of the emptied fragments that keep values; `None` if
    /// no value stays.
    pub(crate) fn keep_last_good(&self, now: &mut Table, before: &Table) -> Option<Vec<Error>> {
        if self.is_empty() {
            return None;
        }
        let parts = Parts::of(self);
        let emptied = parts.emptied.clone();
        let mut problems = Vec::new();
        let mut any_stays = false;
        let mut kept = Vec::new();
        Search {
            parts,
            kept: &mut kept,
            key: String::new(),
        }
        .compare(before, now);
        for (key, leaf) in kept {
            let path: Vec<_> = key::segments(&key).map_while(Result::ok).collect();
            // The new node stays if it is a table in place of a value, or the reverse.
            if now
                .find(&path)
                .is_none_or(|entry| entry.node.table().is_none())
            {
                let problem = emptied.get(&fragment_of(&leaf.origin)).copied();
                if now.put_path(&path, Node::Leaf(leaf)).is_ok() {
                    any_stays = true;
                    problems.extend(problem);
                }
            }
        }
        any_stays.then(|| {
            sorted::sort_by_key(&mut problems, |(at, _)| *at);
            problems.dedup_by_key(|(at, _)| *at);
            let problems = problems.into_iter();
            problems.map(|(_, problem)| problem.clone()).collect()
        })
    }
}

/// The parts, indexed for look-ups.
struct Parts<'a> {
    any: bool,
    keys: HashSet<&'a str>,
    origins: HashSet<&'a str>,
    fragments: HashSet<(&'a str, &'a str)>,
    /// The fragments without values, with the order of their problems, and the problems.
    emptied: HashMap<(&'a str, &'a str), (usize, &'a Error)>,
    later_wins: bool,
}

impl<'a> Parts<'a> {
    fn of(unread: &'a Unread) -> Self {
        let mut parts = Self {
            any: false,
            keys: HashSet::new(),
            origins: HashSet::new(),
            fragments: HashSet::new(),
            emptied: HashMap::new(),
            later_wins: unread.later_wins,
        };
        for (at, part) in unread.parts.iter().enumerate() {
            match part {
                Part::Any => parts.any = true,
                Part::Key(key) => drop(parts.keys.insert(key)),
                Part::Origin(origin) => {
                    // With and without a position: the end of a name may look like one.
                    parts.origins.insert(origin);
                    parts.origins.insert(without_position(origin));
                }
                Part::Fragment(origin) => {
                    parts.fragments.insert(fragment_of(origin));
                }
                Part::Emptied(origin, problem) => {
                    parts.emptied.insert(fragment_of(origin), (at, problem));
                }
            }
        }
        // The problem of an unread fragment is reported already.
        let Self {
            fragments, emptied, ..
        } = &mut parts;
        emptied.retain(|fragment, _| !fragments.contains(fragment));
        parts
    }

    fn is_of_fragment(&self, origin: &Origin) -> bool {
        let fragment = fragment_of(origin);
        self.fragments.contains(&fragment) || self.emptied.contains_key(&fragment)
    }

    /// Whether a value that is missing now was of a part that could not be read.
    fn has_missing(&self, key: &str, origin: &Origin) -> bool {
        let by_key = || {
            let mut lineage = lineage(key);
            lineage.any(|at| self.keys.contains(at))
        };
        let by_origin = || {
            let whole = Origin::new(origin.kind(), origin.name()).to_string();
            self.origins.contains(&*whole) || self.origins.contains(&*origin.to_string())
        };
        self.any
            || self.is_of_fragment(origin)
            || !self.keys.is_empty() && by_key()
            || !self.origins.is_empty() && by_origin()
    }

    /// Whether a value of a fragment that could not be read still overrides another fragment's.
    fn has_overridden(&self, before: &Origin, now: &Origin) -> bool {
        let is_other = (before.kind(), before.name()) != (now.kind(), now.name());
        let is_later = self.later_wins && before.name() < now.name();
        is_other && !is_later && self.is_of_fragment(before)
    }
}

/// The kind and the name of an origin, which identify its fragment.
fn fragment_of(origin: &Origin) -> (&str, &str) {
    (origin.kind(), origin.name())
}

/// A key and its ancestors, without the root.
fn lineage(key: &str) -> impl Iterator<Item = &str> {
    let mut ends: Vec<usize> = Vec::new();
    let mut text = String::new();
    for segment in key::segments(key).map_while(Result::ok) {
        push_segment(&mut text, &segment);
        ends.push(text.len());
    }
    ends.into_iter().filter_map(move |end| key.get(..end))
}

/// The text of an origin without its line and column or its revision.
pub(crate) fn without_position(origin: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((rest, revision)) = origin.rsplit_once(" @ ") {
        if is_number(revision) {
            return rest;
        }
    }
    let line_and_column = || {
        let (rest, column) = origin.rsplit_once(':')?;
        let (rest, line) = rest.rsplit_once(':')?;
        (is_number(column) && is_number(line)).then_some(rest)
    };
    line_and_column().unwrap_or(origin)
}

/// Finds the values that stay.
struct Search<'a, 'k> {
    parts: Parts<'a>,
    kept: &'k mut Vec<(String, Leaf)>,
    /// The key of the current entry.
    key: String,
}

impl Search<'_, '_> {
    fn compare(&mut self, before: &Table, now: &Table) {
        before.map().diff(now.map(), &mut |old, new| {
            let Some(old) = old else {
                return;
            };
            let length = self.key.len();
            push_segment(&mut self.key, &old.name);
            match (&old.node, new.map(|new| &new.node)) {
                (Node::Table(before), Some(Node::Table(now))) => self.compare(before, now),
                (Node::Leaf(before), Some(Node::Leaf(now))) => {
                    if self.parts.has_overridden(&before.origin, &now.origin) {
                        self.kept.push((self.key.clone(), before.clone()));
                    }
                }
                (_, None) => self.keep_missing(old),
                // A table in place of a value, or the reverse: the new node stays.
                (_, Some(_)) => {}
            }
            self.key.truncate(length);
        });
    }

    /// Keeps the values of an entry that is missing now.
    fn keep_missing(&mut self, old: &Entry) {
        match &old.node {
            Node::Leaf(leaf) => {
                if self.parts.has_missing(&self.key, &leaf.origin) {
                    self.kept.push((self.key.clone(), leaf.clone()));
                }
            }
            Node::Table(table) => {
                for entry in table.map().iter() {
                    let length = self.key.len();
                    push_segment(&mut self.key, &entry.name);
                    self.keep_missing(entry);
                    self.key.truncate(length);
                }
            }
            Node::Resolved(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::value::document::Document;

    /// Values with their files.
    fn document(lines: &[(&str, i64, &str)]) -> Document {
        let mut document = Document::new();
        for (key, value, file) in lines {
            let origin = Origin::new("file", *file).at(3, 7);
            document.set(key, *value, origin).unwrap();
        }
        document
    }

    fn problem() -> Error {
        Error::new(ErrorKind::Malformed, "broken")
    }

    fn completed(mut now: Document, before: &Document) -> Vec<String> {
        now.keep_last_good(before.root());
        let all = now.iter();
        all.map(|(key, value, origin)| format!("{key} = {value} @ {}", origin.name()))
            .collect()
    }

    const BEFORE: [(&str, i64, &str); 4] = [
        ("a.x", 1, "1.toml"),
        ("b", 2, "2.toml"),
        ("c.y", 3, "2.toml"),
        ("d", 4, "3.toml"),
    ];

    #[test]
    fn a_complete_document_keeps_no_missing_value() {
        let now = document(&[("a.x", 5, "1.toml")]);
        assert_eq!(completed(now, &document(&BEFORE)), ["a.x = 5 @ 1.toml"]);
    }

    #[test]
    fn a_problem_keeps_the_values_of_its_key_or_its_origin_or_all_missing_values() {
        let before = document(&BEFORE);
        let with = |problem: Error| {
            let mut now = document(&[("a.x", 5, "1.toml")]);
            now.report_unreadable(problem);
            completed(now, &before)
        };
        for origin in ["file 2.toml", "file 2.toml:9:1", "file 2.toml @ 17"] {
            let kept = with(problem().with_source_name(origin));
            let wanted = ["a.x = 5 @ 1.toml", "b = 2 @ 2.toml", "c.y = 3 @ 2.toml"];
            assert_eq!(kept, wanted, "{origin}");
        }
        for key in ["c", "c.y"] {
            let kept = with(problem().with_key_text(key).with_source_name("file 1.toml"));
            assert_eq!(kept, ["a.x = 5 @ 1.toml", "c.y = 3 @ 2.toml"], "{key}");
        }
        assert_eq!(with(problem()).len(), 4);
        assert_eq!(with(problem().with_source_name("file elsewhere")).len(), 1);
        let several = Error::all(vec![
            problem().with_key_text("d"),
            problem().with_source_name("file 2.toml:1:1"),
        ]);
        assert_eq!(with(several).len(), 4);
    }

    #[test]
    fn a_conflict_between_parts_keeps_nothing() {
        let mut now = document(&[("a.x", 5, "1.toml")]);
        now.report_problem(problem().with_source_name("file 2.toml"));
        assert_eq!(now.problems().len(), 1);
        assert_eq!(completed(now, &document(&BEFORE)).len(), 1);
    }

    #[test]
    fn an_unread_fragment_overrides_as_before_except_for_later_fragments() {
        let before = document(&[("x", 2, "2.toml"), ("y", 2, "2.toml"), ("z", 2, "2.toml")]);
        let mut now = document(&[("x", 1, "1.toml"), ("y", 3, "3.toml"), ("z.a", 1, "1.toml")]);
        now.set_later_wins();
        now.report_fragment(&Origin::new("file", "2.toml"), problem());
        let wanted = ["x = 2 @ 2.toml", "y = 3 @ 3.toml", "z.a = 1 @ 1.toml"];
        assert_eq!(completed(now, &before), wanted);
    }

    #[test]
    fn an_emptied_fragment_keeps_its_values_and_is_reported_only_if_it_had_some() {
        let before = document(&BEFORE);
        let mut now = document(&[("a.x", 5, "1.toml")]);
        for file in ["2.toml", "other.toml", "3.toml"] {
            now.report_emptied(&Origin::new("file", file), problem().with_key_text(file));
        }
        now.report_fragment(
            &Origin::new("file", "3.toml"),
            problem().with_key_text("broken"),
        );
        now.keep_last_good(before.root());
        assert_eq!(now.len(), 4);
        let reported: Vec<_> = now.problems().iter().map(Error::key_text).collect();
        assert_eq!(reported, [Some("broken"), Some("2.toml")]);
    }

    #[test]
    fn a_document_merged_over_another_keeps_its_unread_parts() {
        let mut now = document(&[("a.x", 5, "1.toml")]);
        let mut over = document(&[]);
        over.report_unreadable(problem().with_source_name("file 3.toml"));
        now.merge(over);
        let kept = completed(now, &document(&BEFORE));
        assert_eq!(kept, ["a.x = 5 @ 1.toml", "d = 4 @ 3.toml"]);
    }
}
