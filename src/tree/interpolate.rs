//! `${key}` inside a value stands for the value of that key in the merged tree.
//!
//! `${key:default}` takes the default if no layer defines the key, both parts may hold references
//! themselves, `$${` is a literal `${`, and a reference to a key nobody defines stays as it is
//! written. A value that is one reference and nothing else takes over the type as well: a list
//! stays a list. A list of `{if = {key = value}, value = ..}` is a contextual value: it stands for the
//! first of its values whose keys read as wanted. Everything is bounded: the chain, the nesting and the size of what results.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::tree::diff::{LeafChange, same, value};
use crate::tree::parts::{Part, Parts};
use crate::value::Value;
use crate::value::coerce;
use crate::value::key::Key;
use crate::value::map::Entry;
use crate::value::node::{Leaf, Node, Resolved, Table};

/// References followed one after the other until a value is reached.
const MAX_CHAIN: u32 = 64;
/// What one value may grow to, in bytes; an item of a list counts as 16.
const MAX_SIZE: usize = 1024 * 1024;
/// What all values with references that one commit follows may grow to, counted alike.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// Which leaf refers to which keys, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct References {
    of: HashMap<Key, Vec<Key>>,
    /// The leaves that refer to a key.
    to: Index,
    /// The leaves that refer to something below a key.
    below: Index,
}

#[derive(Debug, Default)]
struct Index(HashMap<Box<str>, BTreeSet<Key>>);

impl Index {
    fn add(&mut self, place: &str, leaf: &Key) {
        let leaves = self.0.entry(place.into()).or_default();
        leaves.insert(leaf.clone());
    }

    fn remove(&mut self, place: &str, leaf: &Key) {
        if let Some(leaves) = self.0.get_mut(place) {
            leaves.remove(leaf);
            if leaves.is_empty() {
                self.0.remove(place);
            }
        }
    }

    fn at(&self, place: &str) -> impl Iterator<Item = &Key> {
        self.0.get(place).into_iter().flatten()
    }
}

impl References {
    /// Replaces what `leaf` refers to; an empty list forgets the leaf.
    pub(crate) fn set(&mut self, leaf: Key, keys: Vec<Key>) {
        for old in self.of.remove(&leaf).into_iter().flatten() {
            self.to.remove(old.as_str(), &leaf);
            for place in old.lineage().skip(1) {
                self.below.remove(place, &leaf);
            }
        }
        for key in &keys {
            self.to.add(key.as_str(), &leaf);
            for place in key.lineage().skip(1).filter(|place| !place.is_empty()) {
                self.below.add(place, &leaf);
            }
        }
        if !keys.is_empty() {
            self.of.insert(leaf, keys);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The keys a leaf refers to.
    pub(crate) fn of(&self, leaf: &Key) -> &[Key] {
        self.of.get(leaf).map_or(&[], Vec::as_slice)
    }

    /// The leaves that may read differently once `key` has changed.
    fn dependents<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Key> {
        // A reference may reach into a list, which is a leaf further up; and what was absent or a
        // value becomes a table through a change further down.
        let above = key.lineage().skip(1);
        self.to
            .at(key.as_str())
            .chain(self.below.at(key.as_str()))
            .chain(above.flat_map(|place| self.to.at(place)))
    }
}

/// Follows the references of the leaves in `referring` and of all that depend on `changes`, writes
/// the results into `merged`, adds what differs from `old` to `changes`, and tells what each leaf
/// refers to now.
pub(crate) fn follow(
    merged: &mut Table,
    old: &Table,
    index: &References,
    referring: Vec<Key>,
    changes: &mut Vec<LeafChange>,
    secret: &dyn Fn(&str) -> bool,
) -> Vec<(Key, Vec<Key>)> {
    if referring.is_empty() && index.is_empty() {
        return Vec::new();
    }
    let mut jobs: BTreeMap<Key, Job> = BTreeMap::new();
    for key in referring {
        if let Some(raw) = raw(merged, &key) {
            jobs.insert(key, Job::new(raw));
        }
    }
    let mut queue: Vec<Key> = jobs.keys().cloned().collect();
    queue.extend(changes.iter().map(|change| change.key.clone()));
    // Leaves that referred to something before this commit and do not any more.
    let mut literal: BTreeSet<Key> = BTreeSet::new();
    while let Some(key) = queue.pop() {
        for dependent in index.dependents(&key) {
            if jobs.contains_key(dependent) {
                continue;
            }
            match raw(merged, dependent) {
                Some(raw) => {
                    jobs.insert(dependent.clone(), Job::new(raw));
                    queue.push(dependent.clone());
                }
                None => drop(literal.insert(dependent.clone())),
            }
        }
    }
    let mut spent = 0;
    for key in jobs.keys().cloned().collect::<Vec<_>>() {
        settle(key, &mut jobs, merged, secret, &mut spent);
    }
    for change in changes.iter() {
        let gone = matches!(&change.old, Some(old) if matches!(old.node, Node::Resolved(_)));
        if gone && !jobs.contains_key(&change.key) {
            literal.insert(change.key.clone());
        }
    }
    let forgotten = literal.into_iter().map(|leaf| (leaf, Vec::new()));
    let mut references: Vec<(Key, Vec<Key>)> = forgotten.collect();
    for (key, job) in jobs {
        let Some(done) = job.done else {
            continue;
        };
        references.push((key.clone(), job.refers));
        let path: Vec<_> = key.segments().collect();
        let Some(name) = path.last() else {
            continue;
        };
        let node = Node::Resolved(Box::new(done));
        let new = Arc::new(Entry {
            name: name.as_ref().into(),
            node,
        });
        // The raw leaf stands there already, so this replaces a leaf by a leaf.
        let _ = merged.put_path(&path, new.node.clone());
        let old = old
            .find(&path)
            .filter(|old| !matches!(&old.node, Node::Table(t) if !t.is_empty()));
        let moved = old.is_some_and(|old| same(&old.node, &new.node));
        if moved && old.is_some_and(|old| old.node.origin() == new.node.origin()) {
            continue;
        }
        changes.push(LeafChange {
            key,
            old: old.cloned(),
            new: Some(new),
            moved,
        });
    }
    references
}

/// The leaf as its layer wrote it, if it has references to follow.
fn raw(merged: &Table, key: &Key) -> Option<Leaf> {
    match &merged.find(key.segments())?.node {
        Node::Resolved(resolved) if resolved.fixed => None,
        Node::Resolved(resolved) => Some(resolved.raw.clone()),
        Node::Leaf(leaf) if leaf.value.may_refer() => Some(leaf.clone()),
        Node::Leaf(_) | Node::Table(_) => None,
    }
}

/// The keys at and below a key whose values have references to follow.
pub(crate) fn referring(key: &Key, node: &Node) -> Vec<Key> {
    let mut referring = Vec::new();
    let mut note = |key: &str, node: &Node| {
        let follows = match node {
            Node::Leaf(leaf) => leaf.value.may_refer(),
            Node::Resolved(resolved) => !resolved.fixed,
            Node::Table(_) => false,
        };
        referring.extend(Key::parse(key).ok().filter(|_| follows));
    };
    match node {
        Node::Table(table) => {
            let mut at = key.as_str().to_owned();
            table.walk(&mut at, &mut |key, entry| note(key, &entry.node));
        }
        leaf => note(key.as_str(), leaf),
    }
    referring
}

/// Resolves the references of one layer for good, by a merged tree whose references are resolved.
pub(crate) fn fix(layer: &mut Table, merged: &Table, secret: &dyn Fn(&str) -> bool) {
    let mut referring: Vec<(Key, Leaf)> = Vec::new();
    layer.walk(&mut String::new(), &mut |key, entry| match &entry.node {
        Node::Leaf(leaf) if leaf.value.may_refer() => {
            referring.extend(Key::parse(key).ok().map(|key| (key, leaf.clone())));
        }
        _ => {}
    });
    let none = BTreeMap::new();
    for (key, raw) in referring {
        let path: Vec<_> = key.segments().collect();
        let there = merged.find(&path).map(|entry| &entry.node);
        let mut fixed = match there {
            Some(Node::Resolved(there))
                if there.raw.value == raw.value && there.raw.origin == raw.origin =>
            {
                (**there).clone()
            }
            _ => evaluate(&key, &raw, &none, merged, secret),
        };
        fixed.fixed = true;
        // A leaf replaces a leaf.
        let _ = layer.put_path(&path, Node::Resolved(Box::new(fixed)));
    }
}

/// Follows one leaf whose targets are resolved.
fn evaluate(
    key: &Key,
    raw: &Leaf,
    jobs: &BTreeMap<Key, Job>,
    merged: &Table,
    secret: &dyn Fn(&str) -> bool,
) -> Resolved {
    let mut sight = Sight {
        jobs,
        merged,
        secret,
        refers: Vec::new(),
        chain: 0,
        hidden: false,
        size: 0,
        left: MAX_TOTAL,
    };
    let value = match sight.leaf(&raw.value) {
        Ok(value) => Ok(value),
        Err(Stop::Broken(error)) => Err(error.with_key(key).with_origin(&raw.origin)),
        Err(Stop::Needs(_)) => Err(trouble("refers to a key that is not resolved".to_owned())),
    };
    Resolved {
        value,
        raw: raw.clone(),
        chain: sight.chain,
        secret: sight.hidden,
        refers: sight.refers.into(),
        fixed: false,
    }
}

/// One leaf whose references are to be followed.
struct Job {
    raw: Leaf,
    done: Option<Resolved>,
    refers: Vec<Key>,
}

impl Job {
    fn new(raw: Leaf) -> Self {
        Self {
            raw,
            done: None,
            refers: Vec::new(),
        }
    }
}

/// Follows one leaf and, first, every unsettled leaf it refers to. Iterative, since a chain may be
/// as long as a document.
fn settle(
    key: Key,
    jobs: &mut BTreeMap<Key, Job>,
    merged: &Table,
    secret: &dyn Fn(&str) -> bool,
    spent: &mut usize,
) {
    let mut stack = vec![key];
    // What each key on the stack needs and has not been looked at.
    let mut needs: Vec<Vec<Key>> = vec![Vec::new()];
    let mut on_stack: BTreeSet<Key> = stack.iter().cloned().collect();
    while let Some(key) = stack.last().cloned() {
        let Some(job) = jobs.get(&key) else {
            return;
        };
        if job.done.is_some() {
            stack.pop();
            needs.pop();
            on_stack.remove(&key);
            continue;
        }
        if let Some(next) = needs.last_mut().and_then(Vec::pop) {
            if jobs.get(&next).is_some_and(|job| job.done.is_some()) {
                continue;
            }
            if on_stack.insert(next.clone()) {
                stack.push(next);
                needs.push(Vec::new());
            } else {
                close(&next, &stack, jobs);
            }
            continue;
        }
        let mut sight = Sight {
            jobs,
            merged,
            secret,
            refers: Vec::new(),
            chain: 0,
            hidden: false,
            size: 0,
            left: MAX_TOTAL - *spent,
        };
        let outcome = sight.leaf(&job.raw.value);
        let size = sight.size.min(sight.left);
        let (refers, chain, hidden) = (unique(sight.refers), sight.chain, sight.hidden);
        let value = match outcome {
            Ok(value) if chain <= MAX_CHAIN => Ok(value),
            Ok(_) => Err(trouble(format!(
                "follows more than {MAX_CHAIN} references in a row"
            ))),
            Err(Stop::Broken(error)) => Err(error),
            Err(Stop::Needs(mut next)) => {
                // Kept in case it turns out to be a cycle: what was looked at on the way may break
                // it open later.
                if let Some(job) = jobs.get_mut(&key) {
                    job.refers = refers;
                }
                // The first one comes first.
                next.reverse();
                needs.pop();
                needs.push(next);
                continue;
            }
        };
        if value.is_ok() {
            *spent += size;
        }
        let value = value.map_err(|error| error.with_key(&key).with_origin(&job.raw.origin));
        let raw = job.raw.clone();
        if let Some(job) = jobs.get_mut(&key) {
            job.done = Some(Resolved {
                value,
                raw,
                chain,
                secret: hidden,
                refers: refers.clone().into(),
                fixed: false,
            });
            job.refers = refers;
        }
    }
}

/// Breaks every leaf of a cycle with an error that names it.
fn close(first: &Key, stack: &[Key], jobs: &mut BTreeMap<Key, Job>) {
    let from = stack.iter().position(|key| key == first).unwrap_or(0);
    let cycle = &stack[from..];
    let mut way: Vec<&str> = cycle.iter().take(8).map(Key::as_str).collect();
    if cycle.len() > way.len() {
        way.push("...");
    }
    way.push(first.as_str());
    let detail = format!("refers to itself: {}", way.join(" -> "));
    for (i, key) in cycle.iter().enumerate() {
        let next = cycle.get(i + 1).unwrap_or(first).clone();
        if let Some(job) = jobs.get_mut(key) {
            let error = trouble(detail.clone())
                .with_key(key)
                .with_origin(&job.raw.origin);
            job.done = Some(Resolved {
                value: Err(error),
                raw: job.raw.clone(),
                chain: 0,
                secret: false,
                refers: Box::default(),
                fixed: false,
            });
            if !job.refers.contains(&next) {
                job.refers.push(next);
            }
        }
    }
}

pub(super) fn trouble(detail: String) -> Error {
    Error::new(ErrorKind::Reference, detail)
}

/// Each key once, in the order of its first mention.
fn unique(keys: Vec<Key>) -> Vec<Key> {
    if keys.len() <= FEW_MENTIONS {
        return keys;
    }
    let mut seen = HashSet::new();
    let mut keys = keys;
    keys.retain(|key| seen.insert(key.clone()));
    keys
}

/// Among so few keys a mention is looked for one by one.
const FEW_MENTIONS: usize = 16;

enum Stop {
    /// Other leaves, at least one, must be resolved first.
    Needs(Vec<Key>),
    Broken(Error),
}

impl Stop {
    /// Continues past what must be resolved first. A broken part counts once that is resolved.
    fn collect(self, needs: &mut Vec<Key>) -> Result<(), Stop> {
        match self {
            Stop::Needs(more) => {
                needs.extend(more);
                Ok(())
            }
            broken if needs.is_empty() => Err(broken),
            _ => Err(Stop::Needs(std::mem::take(needs))),
        }
    }
}

/// What following one leaf sees and notes on the way.
struct Sight<'a> {
    jobs: &'a BTreeMap<Key, Job>,
    merged: &'a Table,
    secret: &'a dyn Fn(&str) -> bool,
    refers: Vec<Key>,
    chain: u32,
    hidden: bool,
    size: usize,
    /// What this commit may still spend on all its values.
    left: usize,
}

impl Sight<'_> {
    /// Notes a key that the leaf refers to. Of many keys, [`unique`] drops the repeated ones later.
    fn mention(&mut self, key: &Key) {
        if self.refers.len() > FEW_MENTIONS || !self.refers.contains(key) {
            self.refers.push(key.clone());
        }
    }

    fn grow(&mut self, by: usize) -> Result<(), Stop> {
        self.size += by;
        if self.size > MAX_SIZE {
            let detail = format!("grows beyond {MAX_SIZE} bytes through its references");
            return Err(Stop::Broken(Error::new(ErrorKind::TooLarge, detail)));
        }
        if self.size > self.left {
            let detail =
                format!("all references of one update together grow beyond {MAX_TOTAL} bytes");
            return Err(Stop::Broken(Error::new(ErrorKind::TooLarge, detail)));
        }
        Ok(())
    }

    /// The value of a leaf: of a list of cases, the first that holds.
    fn leaf(&mut self, raw: &Value) -> Result<Value, Stop> {
        let Some(cases) = raw.cases() else {
            return self.value(raw);
        };
        for (wanted, value) in cases {
            if self.holds(wanted)? {
                return self.value(value);
            }
        }
        let detail = "none of its cases holds; add one without `if`";
        Err(Stop::Broken(trouble(detail.to_owned())))
    }

    /// Whether every key has the value, or one of the values, that is wanted of it.
    fn holds(&mut self, wanted: Option<&BTreeMap<Box<str>, Value>>) -> Result<bool, Stop> {
        let mut holds = true;
        for (name, wanted) in wanted.into_iter().flatten() {
            let key = Key::parse(name).map_err(Stop::Broken)?;
            // Looked at even if another key has decided: a change of this one may matter next.
            self.mention(&key);
            self.hidden |= (self.secret)(key.as_str());
            let found = self.look(&key)?;
            self.chain = self.chain.max(1);
            holds &= found.is_some_and(|found| match wanted {
                Value::List(any) => any.iter().any(|one| reads_alike(one, &found)),
                one => reads_alike(one, &found),
            });
        }
        Ok(holds)
    }

    fn value(&mut self, raw: &Value) -> Result<Value, Stop> {
        match raw {
            Value::Text(text) if raw.may_refer() => {
                let parts = Parts::of(text, 0).map_err(Stop::Broken)?;
                if let [Part::Reference { .. }] = parts.0.as_slice() {
                    return self.reference(&parts.0[0]);
                }
                self.text(&parts).map(Value::from)
            }
            Value::List(items) => {
                self.grow(16 * items.len())?;
                let mut needs = Vec::new();
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    match self.value(item) {
                        Ok(value) => values.push(value),
                        Err(stop) => stop.collect(&mut needs)?,
                    }
                }
                if needs.is_empty() {
                    Ok(Value::List(values.into()))
                } else {
                    Err(Stop::Needs(needs))
                }
            }
            Value::Table(fields) => {
                self.grow(16 * fields.len())?;
                let fields = fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), self.value(value)?)));
                Ok(Value::Table(Box::new(fields.collect::<Result<_, Stop>>()?)))
            }
            other => {
                self.grow(size(other))?;
                Ok(other.clone())
            }
        }
    }

    /// The text with its references followed. All that must be resolved first is named at once:
    /// otherwise each of many references would begin the whole text again.
    fn text(&mut self, parts: &Parts<'_>) -> Result<String, Stop> {
        let mut text = String::new();
        let mut needs = Vec::new();
        for part in &parts.0 {
            match part {
                Part::Text(piece) => {
                    self.grow(piece.len())?;
                    text.push_str(piece);
                }
                Part::Reference { .. } => match self.reference(part) {
                    Err(stop) => stop.collect(&mut needs)?,
                    Ok(Value::Text(value)) => text.push_str(&value),
                    Ok(value @ (Value::List(_) | Value::Table(_))) => {
                        let detail = format!("a {} cannot be put into a text", value.kind());
                        return Err(Stop::Broken(trouble(detail)));
                    }
                    Ok(value) => text.push_str(&value.to_string()),
                },
            }
        }
        if needs.is_empty() {
            Ok(text)
        } else {
            Err(Stop::Needs(needs))
        }
    }

    fn reference(&mut self, part: &Part<'_>) -> Result<Value, Stop> {
        let Part::Reference {
            key,
            default,
            written,
        } = part
        else {
            return Ok(Value::from(""));
        };
        let name = self.text(key)?;
        let name = name.trim();
        let Some(key) = Key::parse(name).ok().filter(|key| !key.is_root()) else {
            // Not a key of ours, such as a shell expression: left as it is written.
            self.grow(written.len())?;
            return Ok(Value::from(*written));
        };
        self.mention(&key);
        self.hidden |= (self.secret)(key.as_str());
        if let Some(found) = self.look(&key)? {
            self.grow(size(&found))?;
            self.chain = self.chain.max(1);
            return Ok(found);
        }
        match default {
            Some(default) => match default.0.as_slice() {
                [only @ Part::Reference { .. }] => self.reference(only),
                _ => self.text(default).map(Value::from),
            },
            None => {
                self.grow(written.len())?;
                Ok(Value::from(*written))
            }
        }
    }

    fn look(&mut self, key: &Key) -> Result<Option<Value>, Stop> {
        let path: Vec<_> = key.segments().collect();
        // The deepest leaf on the way; the rest of the path may reach into a list.
        let mut table = self.merged;
        for (depth, name) in path.iter().enumerate() {
            let Some(entry) = table.get(name) else {
                return Ok(None);
            };
            if let Node::Table(below) = &entry.node {
                table = below;
                continue;
            }
            let here = if depth + 1 == path.len() {
                key.clone()
            } else {
                Key::from_segments(&path[..=depth]).map_err(Stop::Broken)?
            };
            let rest = &path[depth + 1..];
            let resolved = match self.jobs.get(&here) {
                Some(Job { done: None, .. }) => return Err(Stop::Needs(vec![here])),
                Some(Job {
                    done: Some(done), ..
                }) => Some(done),
                None => match &entry.node {
                    Node::Resolved(resolved) => Some(&**resolved),
                    _ => None,
                },
            };
            if let Some(resolved) = resolved {
                self.chain = self.chain.max(resolved.chain + 1);
                self.hidden |= resolved.secret;
                return match &resolved.value {
                    Ok(value) => Ok(coerce::descend(value, rest).cloned()),
                    Err(error) => {
                        // The first cause is told, not the whole chain up to here.
                        let first = std::error::Error::source(error)
                            .and_then(|cause| cause.downcast_ref::<Error>())
                            .unwrap_or(error);
                        let detail = format!("refers to `{here}`, which is broken: {first}");
                        Err(Stop::Broken(trouble(detail).with_cause(first.clone())))
                    }
                };
            }
            return Ok(value(&entry.node)
                .and_then(|value| coerce::descend(value, rest))
                .cloned());
        }
        Err(Stop::Broken(trouble(format!(
            "refers to `{key}`, which is a table"
        ))))
    }
}

/// Whether two values are the same to a person: the environment has only texts.
fn reads_alike(a: &Value, b: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::Text(text) => text.to_string(),
        other => other.to_string(),
    };
    a == b || text(a) == text(b) || text(a.canonical()) == text(b.canonical())
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.iter().map(|item| 16 + size(item)).sum(),
        Value::Table(fields) => fields.iter().map(|(k, v)| 16 + k.len() + size(v)).sum(),
        _ => 16,
    }
}
