//! Follows references: `${key}` in a value is the value of that key in the merged tree.
//!
//! `${key:default}` takes the default if no layer defines the key; both parts may hold references
//! themselves. A reference to a key that no layer defines, and that has no default, is unresolved: an
//! error of the leaf that has it, and of all leaves that refer to that leaf. Of several dollars before
//! a brace each pair is one dollar, so `$${` is a literal `${`, and `$$${key}` is a dollar and a value.
//! A default that begins as in a shell (`:-text`, `:=`, `:?`, `:+text`) is an error where it would count.
//! A value that is one reference and nothing else takes over the type as well: a list stays a list.
//!
//! A list of `{if = {key = value}, value = ..}` is a contextual value: it stands for the first of its
//! values whose keys read as wanted. If there is none, the leaf is passed over, and what the weaker
//! layers have at the key shows.
//!
//! Everything is bounded: the chain, the nesting and the size of what results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::tree::diff::{self, LeafChange, same_source, same_value};
use crate::tree::interpolate::resolve::{Progress, Sight, Stop, unique};
use crate::tree::merge;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::secret;

mod foreign;
mod index;
mod parse;

pub(crate) use parse::whole_references;
mod resolve;

pub(crate) use index::{Followed, References};

/// References followed one after the other until a value is reached.
const MAX_CHAIN: u32 = 64;
/// What all values with references that one commit follows may grow to; an item of a list counts
/// as 16 bytes.
const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// What following references takes into account besides the merged tree.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Whether the value of a key may be a secret.
    pub(crate) secret: &'a dyn Fn(&str) -> bool,
    /// Whether unresolved references stay as they are written.
    pub(crate) keeps_unresolved: bool,
    /// The layers that the tree is merged from, for what stands below a contextual value; none if the
    /// tree is not that of the layers.
    pub(crate) layers: Option<merge::Layers<'a>>,
}

impl Context<'_> {
    /// What the layers have at a key, beginning with the given one, and the layer it is of.
    fn in_layers(&self, from: usize, key: &Key) -> Option<merge::Visible> {
        self.layers?.visible(from, key)
    }

    /// Puts a contextual value that was passed over back where its layer has it, and returns it.
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
    index: &References,
    referring: Vec<Key>,
    changes: &mut Vec<LeafChange>,
    context: Context<'_>,
) -> Vec<Followed> {
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
            let raw = if index.is_passed_over(dependent) {
                context.reveal(merged, dependent)
            } else {
                raw(merged, dependent)
            };
            match raw {
                Some(raw) => {
                    jobs.insert(dependent.clone(), Job::new(raw));
                    queue.push(dependent.clone());
                }
                None => drop(literal.insert(dependent.clone())),
            }
        }
    }
    let mut spent = 0;
    let mut left: Vec<Key> = jobs.keys().rev().cloned().collect();
    while let Some(key) = left.pop() {
        resolve_with_targets(key, &mut jobs, &mut left, merged, context, &mut spent);
    }
    for change in changes.iter() {
        let gone = matches!(&change.old, Some(old) if matches!(old.node, Node::Resolved(_)));
        let forgotten = gone || index.is_passed_over(&change.key);
        if forgotten && !jobs.contains_key(&change.key) {
            literal.insert(change.key.clone());
        }
    }
    let mut followed: Vec<Followed> = literal.into_iter().map(Followed::forgotten).collect();
    write(merged, old, index, jobs, changes, &mut followed);
    followed
}

/// Writes the results into the merged tree, and lists what differs from `old`.
fn write(
    merged: &mut Table,
    old: &Table,
    index: &References,
    jobs: BTreeMap<Key, Job>,
    changes: &mut Vec<LeafChange>,
    followed: &mut Vec<Followed>,
) {
    // Weaker layers show, or showed, in place of these: a table may have become a leaf.
    let is_shadow = |(key, job): &(&Key, &Job)| job.is_passed_over() || index.is_passed_over(key);
    let shadows: BTreeSet<Key> = jobs
        .iter()
        .filter(is_shadow)
        .map(|(key, _)| key.clone())
        .collect();
    let is_in_shadow = |key: &Key| {
        let mut places = key.lineage();
        !shadows.is_empty() && places.any(|place| shadows.contains(place))
    };
    for (key, job) in jobs {
        let is_passed_over = job.is_passed_over();
        let resolved = match job.done {
            None => continue,
            Some(Done::PassedOver) => {
                followed.push(Followed {
                    leaf: key,
                    refers: job.refers,
                    is_passed_over,
                });
                continue;
            }
            Some(Done::Resolved(resolved)) => resolved,
        };
        let path: Vec<_> = key.segments().collect();
        let Some(name) = path.last() else {
            continue;
        };
        let new = Arc::new(Entry {
            name: name.as_ref().into(),
            node: Node::Resolved(Box::new(resolved)),
        });
        // The raw leaf stands there, so a leaf replaces a leaf, unless a contextual value further up
        // has taken the place of a table.
        if merged.put_path(&path, new.node.clone()).is_err() {
            followed.push(Followed::forgotten(key));
            continue;
        }
        followed.push(Followed {
            leaf: key.clone(),
            refers: job.refers,
            is_passed_over,
        });
        if is_in_shadow(&key) {
            continue;
        }
        let old = old
            .find(&path)
            .filter(|old| !matches!(&old.node, Node::Table(t) if !t.is_empty()));
        let moved = old.is_some_and(|old| same_value(&old.node, &new.node));
        if moved && old.is_some_and(|old| same_source(&old.node, &new.node)) {
            continue;
        }
        changes.push(LeafChange {
            key,
            old: old.cloned(),
            new: Some(new),
            moved,
        });
    }
    if !shadows.is_empty() {
        changes.retain(|change| !is_in_shadow(&change.key));
        let shadows: Vec<&Key> = shadows.iter().collect();
        let differences = diff::diff_at_keys(old, merged, &shadows, true).changes;
        changes.extend(
            differences
                .into_iter()
                .filter(|change| is_in_shadow(&change.key)),
        );
    }
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
/// A contextual value of which no case holds is left out.
pub(crate) fn fix(layer: &mut Table, merged: &Table, context: Context<'_>) {
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
        let fixed = match there {
            Some(Node::Resolved(there))
                if there.raw.value == raw.value && there.raw.origin == raw.origin =>
            {
                Some((**there).clone())
            }
            _ => evaluate(&key, &raw, &none, merged, context),
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
fn evaluate(
    key: &Key,
    raw: &Leaf,
    jobs: &BTreeMap<Key, Job>,
    merged: &Table,
    context: Context<'_>,
) -> Option<Resolved> {
    let mut sight = Sight::new(jobs, merged, context, Progress::default(), MAX_TOTAL);
    let value = match sight.leaf(&raw.value) {
        Ok(value) => Ok(value),
        Err(Stop::PassedOver) => return None,
        Err(Stop::Broken(error)) => Err(located(error, key, raw, context)),
        Err(Stop::Needs(_)) => {
            let detail = "refers to a key that is not resolved".to_owned();
            Err(located(reference_error(detail), key, raw, context))
        }
    };
    Some(Resolved {
        value,
        raw: raw.clone(),
        chain: sight.progress.chain,
        secret: sight.progress.hidden,
        refers: unique(sight.progress.refers).into(),
        fixed: false,
    })
}

/// An error with the key and the origin of its leaf. What looks like an unresolved reference may be a
/// part of a secret, so it is not shown for a key that may hold one.
fn located(error: Error, key: &Key, raw: &Leaf, context: Context<'_>) -> Error {
    let error = error.with_key(key).with_origin(&raw.origin);
    let is_secret = || (context.secret)(key.as_str()) || secret::holds_secret(&raw.value);
    let is_secret = error.is_unresolved() && is_secret();
    let masked = is_secret.then(|| error.without(&|_| true)).flatten();
    masked.unwrap_or(error)
}

/// One leaf whose references are to be followed.
struct Job {
    raw: Leaf,
    /// The strongest layer that may have the leaf: those above were passed over.
    from: usize,
    /// What is known so far, beginning with the keys that the conditions of passed over leaves refer
    /// to.
    progress: Progress,
    done: Option<Done>,
    refers: Vec<Key>,
}

/// The outcome of a leaf.
enum Done {
    Resolved(Resolved),
    /// No case of a contextual value holds: the merged tree has the value of the weaker layers.
    PassedOver,
}

impl Job {
    fn new(raw: Leaf) -> Self {
        Self {
            raw,
            from: 0,
            progress: Progress::default(),
            done: None,
            refers: Vec::new(),
        }
    }

    /// Whether a contextual value was passed over, whatever shows in its place.
    fn is_passed_over(&self) -> bool {
        self.from > 0 || matches!(self.done, Some(Done::PassedOver))
    }
}

/// The targets of a leaf that must be resolved before it is followed again.
#[derive(Default)]
struct Targets {
    /// The first one is last.
    keys: Vec<Key>,
    /// Whether one of them was visited since the leaf was followed last.
    is_visited: bool,
}

impl Targets {
    /// The next target, and whether it is the first one.
    fn pop(&mut self) -> Option<(Key, bool)> {
        let next = self.keys.pop()?;
        Some((next, !std::mem::replace(&mut self.is_visited, true)))
    }
}

/// Follows one leaf and, first, every unresolved leaf it refers to. Iterative, since a chain may be
/// as long as a document. Leaves that show only now are added to `left`.
fn resolve_with_targets(
    key: Key,
    jobs: &mut BTreeMap<Key, Job>,
    left: &mut Vec<Key>,
    merged: &mut Table,
    context: Context<'_>,
    spent: &mut usize,
) {
    let mut stack = vec![key];
    // The targets of each key on the stack that are still to be visited.
    let mut needs: Vec<Targets> = vec![Targets::default()];
    let mut on_stack: BTreeSet<Key> = stack.iter().cloned().collect();
    while let Some(key) = stack.last().cloned() {
        let Some(job) = jobs.get_mut(&key) else {
            return;
        };
        if job.done.is_some() {
            stack.pop();
            needs.pop();
            on_stack.remove(&key);
            continue;
        }
        if let Some((next, is_first)) = needs.last_mut().and_then(Targets::pop) {
            if jobs.get(&next).is_some_and(|job| job.done.is_some()) {
                continue;
            }
            if on_stack.insert(next.clone()) {
                stack.push(next);
                needs.push(Targets::default());
            } else if is_first {
                break_cycle(&next, &stack, jobs, context);
            } else if let Some(targets) = needs.last_mut() {
                // A target before this one may be broken. Then that is the error, and not the cycle.
                *targets = Targets::default();
            }
            continue;
        }
        let progress = std::mem::take(&mut job.progress);
        let jobs_so_far = &*jobs;
        let Some(job) = jobs_so_far.get(&key) else {
            return;
        };
        let mut sight = Sight::new(jobs_so_far, merged, context, progress, MAX_TOTAL - *spent);
        let outcome = sight.leaf(&job.raw.value);
        let size = sight.size.min(sight.left);
        let progress = sight.progress;
        if let Err(Stop::Needs(mut next)) = outcome {
            // The progress is kept, since it may break a cycle later.
            if let Some(job) = jobs.get_mut(&key) {
                job.progress = progress;
            }
            next.reverse();
            needs.pop();
            needs.push(Targets {
                keys: next,
                is_visited: false,
            });
            continue;
        }
        let (refers, chain, hidden) = (unique(progress.refers), progress.chain, progress.hidden);
        let value = match outcome {
            Ok(value) if chain <= MAX_CHAIN => Ok(value),
            Ok(_) => Err(reference_error(format!(
                "follows more than {MAX_CHAIN} references in a row"
            ))),
            Err(Stop::Broken(error)) => Err(error),
            Err(Stop::PassedOver) => {
                if let Some(job) = jobs.get_mut(&key) {
                    job.refers.clone_from(&refers);
                    job.progress.refers = refers;
                    let shown = pass_over(&key, job, merged, context);
                    for (key, raw) in shown {
                        left.push(key.clone());
                        jobs.entry(key).or_insert_with(|| Job::new(raw));
                    }
                }
                continue;
            }
            // Handled above.
            Err(Stop::Needs(_)) => continue,
        };
        // A value that grew too large counts as well.
        *spent += size;
        let value = value.map_err(|error| located(error, &key, &job.raw, context));
        let raw = job.raw.clone();
        if let Some(job) = jobs.get_mut(&key) {
            job.done = Some(Done::Resolved(Resolved {
                value,
                raw,
                chain,
                secret: hidden,
                refers: refers.clone().into(),
                fixed: false,
            }));
            job.refers = refers;
        }
    }
}

/// Replaces a contextual value of which no case holds by the value of the weaker layers. The job continues
/// with that if it has references itself. Returns the leaves with references of a table.
fn pass_over(
    key: &Key,
    job: &mut Job,
    merged: &mut Table,
    context: Context<'_>,
) -> Vec<(Key, Leaf)> {
    let here = context
        .in_layers(job.from, key)
        .and_then(|visible| visible.layer);
    let below = here.and_then(|layer| {
        job.from = layer + 1;
        context.in_layers(job.from, key)
    });
    replace(merged, key, below.as_ref().map(|below| &below.entry.node));
    let Some(below) = below else {
        job.done = Some(Done::PassedOver);
        return Vec::new();
    };
    match &below.entry.node {
        Node::Leaf(leaf) if leaf.value.may_refer() => {
            job.raw = leaf.clone();
            Vec::new()
        }
        node => {
            job.done = Some(Done::PassedOver);
            let shown = referring(key, node).into_iter();
            let shown = shown.filter(|shown| shown != key);
            shown
                .filter_map(|key| raw(merged, &key).map(|raw| (key, raw)))
                .collect()
        }
    }
}

/// Gives every leaf of a cycle an error that names the cycle.
fn break_cycle(first: &Key, stack: &[Key], jobs: &mut BTreeMap<Key, Job>, context: Context<'_>) {
    let from = stack.iter().position(|key| key == first).unwrap_or(0);
    let cycle = &stack[from..];
    let mut path: Vec<&str> = cycle.iter().take(8).map(Key::as_str).collect();
    if cycle.len() > path.len() {
        path.push("...");
    }
    path.push(first.as_str());
    let detail = format!("refers to itself: {}", path.join(" -> "));
    for (i, key) in cycle.iter().enumerate() {
        let next = cycle.get(i + 1).unwrap_or(first).clone();
        if let Some(job) = jobs.get_mut(key) {
            let error = located(reference_error(detail.clone()), key, &job.raw, context);
            job.done = Some(Done::Resolved(Resolved {
                value: Err(error),
                raw: job.raw.clone(),
                chain: 0,
                secret: false,
                refers: Box::default(),
                fixed: false,
            }));
            let mut refers = std::mem::take(&mut job.progress.refers);
            refers.push(next);
            job.refers = unique(refers);
        }
    }
}

fn reference_error(detail: String) -> Error {
    Error::new(ErrorKind::Reference, detail)
}
