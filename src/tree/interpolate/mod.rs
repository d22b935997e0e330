//! Follows references: `${key}` in a value is the value of that key in the merged tree.
//!
//! `${key:default}` takes the default if no layer defines the key; both parts may hold references
//! themselves. A reference to a key that no layer defines, and that has no default, is unresolved: an
//! error of the leaf that has it, and of all leaves that refer to that leaf. Of several dollars before
//! a brace each pair is one dollar, so `$${` is a literal `${`, and `$$${key}` is a dollar and a value.
//! A default that begins as in a shell (`:-text`, `:=`, `:?`, `:+text`) is an error where it would count.
//! A value that is one reference and nothing else has the type of its target: a list stays a list.
//!
//! A list of `{if = {key = value}, value = ..}` is a *contextual value* of several cases. A case *holds* if each of
//! its keys has the value that its condition names. The leaf has the value of the first case that holds. If no
//! case holds, the leaf is *passed over*: it has the value of the weaker layers.
//!
//! The length of a chain of references, their nesting and the size of the results are bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::tree::diff::{self, LeafChange, same_source, same_value};
use crate::tree::interpolate::jobs::{Job, LeafOutcome};
use crate::tree::interpolate::resolve::{LeafResolver, Progress, Stop};
use crate::tree::merge;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::secret;

mod condition;
mod foreign;
mod jobs;
mod parse;
mod references;
mod referred;
mod resolve;

pub(crate) use references::{LeafReferences, ReferenceIndex};
pub(crate) use referred::add_referred;

/// Limits the bytes of all values with references that one commit follows; an item of a list counts as 16.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// The conditions under which references are followed.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Whether the value of a key may be a secret.
    pub(crate) may_be_secret: &'a dyn Fn(&str) -> bool,
    /// Whether unresolved references stay as they are written.
    pub(crate) keeps_unresolved: bool,
    /// The layers that the tree is merged from, for the values below contextual ones; `None` if the tree is
    /// not that of the layers.
    pub(crate) layers: Option<merge::Layers<'a>>,
}

impl Context<'_> {
    /// What the layers have at a key, beginning with the given one, and the layer it is of.
    fn in_layers(&self, from: usize, key: &Key) -> Option<merge::Visible> {
        self.layers?.visible(from, key)
    }

    /// Restores a contextual value that was passed over to the merged tree, and returns it.
    fn reveal(&self, merged: &mut Table, key: &Key) -> Option<Leaf> {
        let visible = self.in_layers(0, key)?;
        let Node::Leaf(leaf) = &visible.entry.node else {
            return None;
        };
        if !leaf.value.may_refer() {
            return None;
        }
        replace(merged, key, Some(&visible.entry.node));
        Some(leaf.clone())
    }
}

/// Follows the references of the leaves in `referring` and of all that depend on `changes`, writes
/// the results into `merged`, adds what differs from `old` to `changes`, and returns what each leaf
/// refers to now.
pub(crate) fn follow(
    merged: &mut Table,
    old: &Table,
    index: &ReferenceIndex,
    referring: Vec<Key>,
    changes: &mut Vec<LeafChange>,
    context: Context<'_>,
) -> Vec<LeafReferences> {
    if referring.is_empty() && index.is_empty() {
        return Vec::new();
    }
    let (jobs, mut former) = jobs_of(merged, index, referring, changes, context);
    let jobs = jobs::resolve_all(jobs, merged, context);
    for change in changes.iter() {
        let had_references =
            matches!(&change.old, Some(old) if matches!(old.node, Node::Resolved(_)));
        let is_former = had_references || index.is_passed_over(&change.key);
        if is_former && !jobs.contains_key(&change.key) {
            former.insert(change.key.clone());
        }
    }
    let mut followed: Vec<LeafReferences> = former.into_iter().map(LeafReferences::none).collect();
    write(merged, old, index, jobs, changes, &mut followed);
    followed
}

/// The leaves to follow: those in `referring`, and all that depend on them or on `changes`. The second list is
/// of the leaves that referred to something before this commit and do not any more.
fn jobs_of(
    merged: &mut Table,
    index: &ReferenceIndex,
    referring: Vec<Key>,
    changes: &[LeafChange],
    context: Context<'_>,
) -> (BTreeMap<Key, Job>, BTreeSet<Key>) {
    let mut jobs: BTreeMap<Key, Job> = BTreeMap::new();
    for key in referring {
        if let Some(raw) = raw_leaf(merged, &key) {
            jobs.insert(key, Job::new(raw));
        }
    }
    let mut queue: Vec<Key> = jobs.keys().cloned().collect();
    queue.extend(changes.iter().map(|change| change.key.clone()));
    let mut former: BTreeSet<Key> = BTreeSet::new();
    while let Some(key) = queue.pop() {
        for dependent in index.dependents(&key) {
            if jobs.contains_key(dependent) {
                continue;
            }
            let raw = if index.is_passed_over(dependent) {
                context.reveal(merged, dependent)
            } else {
                raw_leaf(merged, dependent)
            };
            match raw {
                Some(raw) => {
                    jobs.insert(dependent.clone(), Job::new(raw));
                    queue.push(dependent.clone());
                }
                None => drop(former.insert(dependent.clone())),
            }
        }
    }
    (jobs, former)
}

/// Writes the results into the merged tree, and lists what differs from `old`.
fn write(
    merged: &mut Table,
    old: &Table,
    index: &ReferenceIndex,
    jobs: BTreeMap<Key, Job>,
    changes: &mut Vec<LeafChange>,
    followed: &mut Vec<LeafReferences>,
) {
    // Weaker layers show, or showed, in place of these: a table may have become a leaf.
    let is_shadow = |(key, job): &(&Key, &Job)| job.is_passed_over() || index.is_passed_over(key);
    let shadows: BTreeSet<Key> = jobs
        .iter()
        .filter(is_shadow)
        .map(|(key, _)| key.clone())
        .collect();
    let is_in_shadow = |key: &Key| {
        let mut lineage = key.lineage();
        !shadows.is_empty() && lineage.any(|above| shadows.contains(above))
    };
    for (key, job) in jobs {
        let is_passed_over = job.is_passed_over();
        let new = match job.outcome {
            None => continue,
            Some(LeafOutcome::PassedOver) => None,
            Some(LeafOutcome::Resolved(resolved)) => match write_leaf(merged, &key, resolved) {
                Some(new) => Some(new),
                None => {
                    followed.push(LeafReferences::none(key));
                    continue;
                }
            },
        };
        followed.push(LeafReferences {
            leaf: key.clone(),
            refers: job.refers,
            is_passed_over,
        });
        if let Some(new) = new.filter(|_| !is_in_shadow(&key)) {
            changes.extend(leaf_change(key, old, new));
        }
    }
    if !shadows.is_empty() {
        changes.retain(|change| !is_in_shadow(&change.key));
        let shadows: Vec<&Key> = shadows.iter().collect();
        let differences = diff::diff_at_keys(old, merged, &shadows, true).changes;
        let differences = differences.into_iter();
        changes.extend(differences.filter(|change| is_in_shadow(&change.key)));
    }
}

/// Writes a resolved leaf into the merged tree, in place of the raw one. `None` if a contextual value further up
/// has replaced the table of the leaf.
fn write_leaf(merged: &mut Table, key: &Key, resolved: Resolved) -> Option<Arc<Entry>> {
    let path: Vec<_> = key.segments().collect();
    let name = path.last()?.as_ref().into();
    let node = Node::Resolved(Box::new(resolved));
    merged.put_path(&path, node.clone()).ok()?;
    Some(Arc::new(Entry { name, node }))
}

/// The change to a new leaf, if it differs from the old one.
fn leaf_change(key: Key, old: &Table, new: Arc<Entry>) -> Option<LeafChange> {
    let is_leaf = |entry: &&Arc<Entry>| entry.node.table().is_none_or(Table::is_empty);
    let old = old.find(key.segments()).filter(is_leaf);
    let moved = old.is_some_and(|old| same_value(&old.node, &new.node));
    if moved && old.is_some_and(|old| same_source(&old.node, &new.node)) {
        return None;
    }
    Some(LeafChange {
        key,
        old: old.cloned(),
        new: Some(new),
        moved,
    })
}

/// Replaces the node at a key; `None` removes it.
fn replace(merged: &mut Table, key: &Key, node: Option<&Node>) {
    let path: Vec<_> = key.segments().collect();
    merged.remove_path(&path);
    if let Some(node) = node {
        // The path is free now, and the tables above exist.
        let _ = merged.put_path(&path, node.clone());
    }
}

/// The leaf as its layer wrote it, if it has references to follow.
fn raw_leaf(merged: &Table, key: &Key) -> Option<Leaf> {
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
    let mut add = |key: &str, node: &Node| {
        let has_references = match node {
            Node::Leaf(leaf) => leaf.value.may_refer(),
            Node::Resolved(resolved) => !resolved.fixed,
            Node::Table(_) => false,
        };
        referring.extend(Key::parse(key).ok().filter(|_| has_references));
    };
    match node {
        Node::Table(table) => {
            let mut at = key.as_str().to_owned();
            table.walk(&mut at, &mut |key, entry| add(key, &entry.node));
        }
        leaf => add(key.as_str(), leaf),
    }
    referring
}

/// Resolves the references of one layer for good, by a merged tree whose references are resolved.
/// A contextual value of which no case holds is left out.
pub(crate) fn fix(layer: &mut Table, merged: &Table, context: Context<'_>) {
    let mut referring: Vec<(Key, Leaf)> = Vec::new();
    layer.walk(&mut String::new(), &mut |key, entry| match &entry.node {
        Node::Leaf(leaf) if leaf.value.may_refer() => {
            referring.extend(Key::parse(key).ok().map(|key| (key, leaf.clone())));
        }
        _ => {}
    });
    for (key, raw) in referring {
        let path: Vec<_> = key.segments().collect();
        let in_force = merged.find(&path).map(|entry| &entry.node);
        let fixed = match in_force {
            Some(Node::Resolved(resolved))
                if resolved.raw.value == raw.value && resolved.raw.origin == raw.origin =>
            {
                Some((**resolved).clone())
            }
            _ => evaluate(&key, raw, merged, context),
        };
        // A leaf replaces a leaf.
        let _ = match fixed {
            Some(mut fixed) => {
                fixed.fixed = true;
                layer.put_path(&path, Node::Resolved(Box::new(fixed)))
            }
            None => Ok(layer.remove_path(&path)),
        };
    }
}

/// Follows one leaf whose targets are resolved; `None` if no case of it holds.
fn evaluate(key: &Key, raw: Leaf, merged: &Table, context: Context<'_>) -> Option<Resolved> {
    let none = BTreeMap::new();
    let mut resolver = LeafResolver::new(&none, merged, context, Progress::default(), MAX_TOTAL);
    let error = match resolver.resolve_leaf(&raw.value) {
        Ok(value) => return Some(resolver.progress.resolved(Ok(value), raw)),
        Err(Stop::PassedOver) => return None,
        Err(Stop::Broken(error)) => error,
        Err(Stop::Needs(_)) => reference_error("refers to a key that is not resolved".to_owned()),
    };
    let error = located(error, (key, &resolver.broken_key(key)), &raw, context);
    Some(resolver.progress.resolved(Err(error), raw))
}

/// An error with the key of the part that is broken, and the origin of its leaf. What looks like an unresolved
/// reference may be a part of a secret, so it is not shown for a leaf that may hold one.
fn located(error: Error, (leaf, part): (&Key, &Key), raw: &Leaf, context: Context<'_>) -> Error {
    let error = error.with_key(part).with_origin(&raw.origin);
    let is_secret = || (context.may_be_secret)(leaf.as_str()) || secret::holds_secret(&raw.value);
    let is_secret = error.is_unresolved() && is_secret();
    let masked = is_secret.then(|| error.without(&|_| true)).flatten();
    masked.unwrap_or(error)
}

fn reference_error(detail: String) -> Error {
    Error::new(ErrorKind::Reference, detail)
}
