//! Resolves leaves with references, each after the leaves that it refers to.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::tree::interpolate::resolve::{LeafResolver, Progress, Stop, unique};
use crate::tree::interpolate::{
    Context, MAX_TOTAL, located, raw_leaf, reference_error, referring, replace,
};
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Resolved, Table};

/// Limits the references that are followed one after the other until a value is reached.
const MAX_CHAIN: u32 = 64;

/// Limits the keys that the error of a cycle names.
const MAX_SHOWN: usize = 8;

/// One leaf whose references are to be followed.
pub(super) struct Job {
    raw: Leaf,
    /// The index of the strongest layer that may still give the value. Each stronger one has a contextual value
    /// of which no case holds: it is passed over.
    strongest_layer: usize,
    /// What was found before a target had to be resolved first. It begins with the keys to which the conditions
    /// of passed over values refer.
    progress: Progress,
    pub(super) outcome: Option<LeafOutcome>,
    /// The keys that the leaf refers to, with those of passed over values.
    pub(super) refers: Vec<Key>,
}

pub(super) enum LeafOutcome {
    Resolved(Resolved),
    /// No case of a contextual value holds: the merged tree has the value of the weaker layers.
    PassedOver,
}

impl Job {
    pub(super) fn new(raw: Leaf) -> Self {
        Self {
            raw,
            strongest_layer: 0,
            progress: Progress::default(),
            outcome: None,
            refers: Vec::new(),
        }
    }

    /// Whether a contextual value was passed over, whatever value is used instead.
    pub(super) fn is_passed_over(&self) -> bool {
        self.strongest_layer > 0 || matches!(self.outcome, Some(LeafOutcome::PassedOver))
    }
}

/// The targets of a leaf that must be resolved before it is followed again.
#[derive(Default)]
struct Targets {
    /// In reverse, so that [`pop`](Self::pop) returns the first.
    keys: Vec<Key>,
    /// Whether one of them was visited since the leaf was followed last.
    any_visited: bool,
}

impl Targets {
    /// Removes the next target and notes the visit. Also returns whether it is the first one.
    fn pop(&mut self) -> Option<(Key, bool)> {
        let next = self.keys.pop()?;
        Some((next, !std::mem::replace(&mut self.any_visited, true)))
    }
}

/// The leaves on the path to the one that is followed, each with the targets that are still to be visited.
type Stack = Vec<(Key, Targets)>;

/// Follows the references of `jobs`; leaves that are used in place of contextual values become
/// further jobs.
pub(super) fn resolve_all(
    jobs: BTreeMap<Key, Job>,
    merged: &mut Table,
    context: Context<'_>,
) -> BTreeMap<Key, Job> {
    let mut run = Run {
        pending: jobs.keys().rev().cloned().collect(),
        jobs,
        merged,
        context,
        total_size: 0,
    };
    while let Some(key) = run.pending.pop() {
        run.resolve_with_targets(key);
    }
    run.jobs
}

/// The state while all jobs are resolved.
struct Run<'a> {
    jobs: BTreeMap<Key, Job>,
    /// The jobs that are still to be resolved.
    pending: Vec<Key>,
    merged: &'a mut Table,
    context: Context<'a>,
    /// The size of all values so far.
    total_size: usize,
}

impl Run<'_> {
    /// Follows one leaf and, first, every unresolved leaf that it refers to. Iterative, since a chain may be
    /// as long as a document.
    fn resolve_with_targets(&mut self, key: Key) {
        let mut on_stack = BTreeSet::from([key.clone()]);
        let mut stack: Stack = vec![(key, Targets::default())];
        while let Some((key, targets)) = stack.last_mut() {
            if self.is_done(key) {
                on_stack.remove(key);
                stack.pop();
                continue;
            }
            let Some((next, is_first)) = targets.pop() else {
                let mut keys = self.resolve(key);
                if !keys.is_empty() {
                    keys.reverse();
                    let any_visited = false;
                    *targets = Targets { keys, any_visited };
                }
                continue;
            };
            if self.is_done(&next) {
                continue;
            }
            if on_stack.insert(next.clone()) {
                stack.push((next, Targets::default()));
            } else if is_first {
                self.break_cycle(&next, &stack);
            } else {
                // The leaf is resolved again. If an earlier target is broken, that is its error. Otherwise
                // this target is then the first one, and the cycle is broken.
                *targets = Targets::default();
            }
        }
    }

    /// Whether nothing is left to do for a key.
    fn is_done(&self, key: &Key) -> bool {
        self.jobs.get(key).is_none_or(|job| job.outcome.is_some())
    }

    /// Resolves a leaf, or returns the leaves that must be resolved first. If it returns none, the leaf has an
    /// outcome, or a passed over value is replaced and the leaf has to be resolved again.
    fn resolve(&mut self, key: &Key) -> Vec<Key> {
        let Some(job) = self.jobs.get_mut(key) else {
            return Vec::new();
        };
        let progress = std::mem::take(&mut job.progress);
        let raw = &self.jobs[key].raw;
        let budget = MAX_TOTAL - self.total_size;
        let mut resolver =
            LeafResolver::new(&self.jobs, self.merged, self.context, progress, budget);
        let result = resolver.resolve_leaf(&raw.value);
        let broken_key = resolver.broken_key(key);
        let (size, progress) = (resolver.size.min(budget), resolver.progress);
        let value = match result {
            Err(Stop::Needs(targets)) => {
                // `break_cycle` needs the keys that were referred to.
                if let Some(job) = self.jobs.get_mut(key) {
                    job.progress = progress;
                }
                return targets;
            }
            Err(Stop::PassedOver) => {
                self.pass_over(key, unique(progress.refers));
                return Vec::new();
            }
            Err(Stop::Broken(error)) => Err(error),
            Ok(_) if progress.chain > MAX_CHAIN => Err(reference_error(format!(
                "follows more than {MAX_CHAIN} references in a row"
            ))),
            Ok(value) => Ok(value),
        };
        // A value that grew too large counts as well.
        self.total_size += size;
        let value = value.map_err(|error| located(error, (key, &broken_key), raw, self.context));
        let resolved = progress.resolved(value, raw.clone());
        if let Some(job) = self.jobs.get_mut(key) {
            job.refers = resolved.refers.to_vec();
            job.outcome = Some(LeafOutcome::Resolved(resolved));
        }
        Vec::new()
    }

    /// Replaces a contextual value of which no case holds by the value of the weaker layers. The job continues
    /// with that if it has references itself. The leaves of a table with references become jobs.
    fn pass_over(&mut self, key: &Key, refers: Vec<Key>) {
        let Some(job) = self.jobs.get_mut(key) else {
            return;
        };
        job.refers.clone_from(&refers);
        job.progress.refers = refers;
        let winner = self.context.in_layers(job.strongest_layer, key);
        let weaker = winner.and_then(|winner| winner.layer).and_then(|layer| {
            job.strongest_layer = layer + 1;
            self.context.in_layers(job.strongest_layer, key)
        });
        let node = weaker.as_ref().map(|weaker| &weaker.entry.node);
        replace(self.merged, key, node);
        if let Some(Node::Leaf(leaf)) = node {
            if leaf.value.may_refer() {
                job.raw = leaf.clone();
                return;
            }
        }
        job.outcome = Some(LeafOutcome::PassedOver);
        let leaves = node.map_or_else(Vec::new, |node| referring(key, node));
        for leaf in leaves.into_iter().filter(|leaf| leaf != key) {
            if let Some(raw) = raw_leaf(self.merged, &leaf) {
                self.pending.push(leaf.clone());
                self.jobs.entry(leaf).or_insert_with(|| Job::new(raw));
            }
        }
    }

    /// Gives every leaf of a cycle an error that names the cycle.
    fn break_cycle(&mut self, first: &Key, stack: &Stack) {
        let start = stack.iter().position(|(key, _)| key == first).unwrap_or(0);
        let cycle: Vec<&Key> = stack[start..].iter().map(|(key, _)| key).collect();
        let mut path: Vec<&str> = cycle
            .iter()
            .take(MAX_SHOWN)
            .map(|key| key.as_str())
            .collect();
        if cycle.len() > path.len() {
            path.push("...");
        }
        path.push(first.as_str());
        let detail = format!("refers to itself: {}", path.join(" -> "));
        let targets = cycle.iter().skip(1).copied().chain([first]);
        for (key, target) in cycle.iter().zip(targets) {
            let Some(job) = self.jobs.get_mut(*key) else {
                continue;
            };
            let error: Error = reference_error(detail.clone());
            let mut refers = std::mem::take(&mut job.progress.refers);
            refers.push(target.clone());
            job.refers = unique(refers);
            // No value was reached, so it comes from no key. The job's `refers` tell when to resolve it again.
            job.outcome = Some(LeafOutcome::Resolved(Resolved {
                value: Err(located(error, (key, key), &job.raw, self.context)),
                raw: job.raw.clone(),
                chain: 0,
                secret: false,
                refers: Box::default(),
                fixed: false,
            }));
        }
    }
}
