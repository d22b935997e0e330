//! Resolves one leaf, by the values of the keys that it refers to.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use crate::error::{Error, ErrorKind};
use crate::tree::diff::value;
use crate::tree::interpolate::condition::reads_as;
use crate::tree::interpolate::foreign::{remedy, shell_operator};
use crate::tree::interpolate::jobs::{Job, LeafOutcome};
use crate::tree::interpolate::parse::{Part, Parts, default_after_operator};
use crate::tree::interpolate::{Context, MAX_TOTAL, reference_error};
use crate::value::envname::env_name_to_key;
use crate::value::key::Key;
use crate::value::node::{Leaf, Node, Resolved, Table};
use crate::value::table::Table as Fields;
use crate::value::{Value, case};

/// Limits the bytes of one value; an item of a list counts as 16.
const MAX_SIZE: usize = 1024 * 1024;

/// Removes repeated keys, and keeps the order.
pub(super) fn unique(keys: Vec<Key>) -> Vec<Key> {
    if keys.len() <= FEW_TARGETS {
        return keys;
    }
    let mut seen = HashSet::new();
    let mut keys = keys;
    keys.retain(|key| seen.insert(key.clone()));
    keys
}

/// Up to this number of targets, a repeated one is searched one by one, which allocates nothing.
const FEW_TARGETS: usize = 16;

pub(super) enum Stop {
    /// Other leaves, at least one, must be resolved first.
    Needs(Vec<Key>),
    Broken(Error),
    /// No case of a contextual value holds.
    PassedOver,
}

impl Stop {
    /// Removes the name of the key from the error unless the name is literal: a computed name may be made of a
    /// secret.
    fn nameless_unless(self, is_literal: bool) -> Self {
        match self {
            Stop::Broken(error) if !is_literal => Stop::Broken(nameless(error)),
            stop => stop,
        }
    }

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

/// What is known of a leaf so far. It is kept while the leaf waits for others, so that no case of a
/// contextual value is checked twice.
#[derive(Default)]
pub(super) struct Progress {
    /// The keys it refers to; of many, some twice.
    pub(super) refers: Vec<Key>,
    /// The length of the longest chain of references.
    pub(super) chain: u32,
    /// Whether a key that it refers to may be secret.
    pub(super) is_secret: bool,
    /// How many cases do not hold; `None` until it is known that the leaf has cases.
    failed_cases: Option<usize>,
}

impl Progress {
    /// The leaf with its value.
    pub(super) fn resolved(self, value: Result<Value, Error>, raw: Leaf) -> Resolved {
        Resolved {
            value,
            raw,
            chain: self.chain,
            secret: self.is_secret,
            refers: unique(self.refers).into(),
            fixed: false,
        }
    }
}

/// Resolves one leaf.
pub(super) struct LeafResolver<'a> {
    jobs: &'a BTreeMap<Key, Job>,
    merged: &'a Table,
    context: Context<'a>,
    pub(super) progress: Progress,
    /// The bytes of the value so far.
    pub(super) size: usize,
    /// The bytes that this commit may still use for all its values.
    budget: usize,
    /// The names of the part of the leaf that is broken, the innermost first.
    broken_part: Vec<String>,
}

impl<'a> LeafResolver<'a> {
    pub(super) fn new(
        jobs: &'a BTreeMap<Key, Job>,
        merged: &'a Table,
        context: Context<'a>,
        progress: Progress,
        budget: usize,
    ) -> Self {
        Self {
            jobs,
            merged,
            context,
            progress,
            size: 0,
            budget,
            broken_part: Vec::new(),
        }
    }

    /// The key of what is broken: the leaf at a key, or an item in it.
    pub(super) fn broken_key(&self, leaf: &Key) -> Key {
        let mut key = leaf.clone();
        for name in self.broken_part.iter().rev() {
            // A key that is too long names the part above.
            let Ok(below) = key.child(name) else { break };
            key = below;
        }
        key
    }

    /// Continues past a part of a list that must wait, or notes which part is broken.
    fn collect_part(&mut self, stop: Stop, name: &str, needs: &mut Vec<Key>) -> Result<(), Stop> {
        stop.collect(needs).inspect_err(|stop| {
            if matches!(stop, Stop::Broken(_)) {
                self.broken_part.push(name.to_owned());
            }
        })
    }

    /// Records a key that the leaf refers to. Of many keys, [`unique`] removes the repeated ones later.
    fn record_target(&mut self, key: &Key) {
        let refers = &mut self.progress.refers;
        if refers.len() > FEW_TARGETS || !refers.contains(key) {
            refers.push(key.clone());
        }
    }

    fn add_size(&mut self, by: usize) -> Result<(), Stop> {
        self.size += by;
        if self.size > MAX_SIZE {
            let detail = format!("grows beyond {MAX_SIZE} bytes through its references");
            return Err(Stop::Broken(Error::new(ErrorKind::TooLarge, detail)));
        }
        if self.size > self.budget {
            let detail =
                format!("all references of one update together grow beyond {MAX_TOTAL} bytes");
            return Err(Stop::Broken(Error::new(ErrorKind::TooLarge, detail)));
        }
        Ok(())
    }

    /// The value of a leaf: of a list of cases, the first that holds.
    pub(super) fn resolve_leaf(&mut self, raw: &Value) -> Result<Value, Stop> {
        let failed = match self.progress.failed_cases {
            Some(failed) => failed,
            None if raw.cases().is_some() => 0,
            None => return self.resolve_value(raw),
        };
        let Value::List(cases) = raw else {
            return self.resolve_value(raw);
        };
        for (at, item) in cases.iter().enumerate().skip(failed) {
            self.progress.failed_cases = Some(at);
            if let Some((expected, value)) = case(item) {
                if self.holds(expected)? {
                    return self.resolve_value(value);
                }
            }
        }
        Err(Stop::PassedOver)
    }

    /// Whether a condition holds: every key has the value, or one of the values, that is expected of it.
    fn holds(&mut self, expected: Option<&Fields>) -> Result<bool, Stop> {
        let mut holds = true;
        let mut needs = Vec::new();
        for (name, expected) in expected.into_iter().flat_map(Fields::iter) {
            let key = Key::parse(name).map_err(Stop::Broken)?;
            // Recorded even if another key has decided: the next change may be one of this key.
            self.record_target(&key);
            self.progress.is_secret |= (self.context.may_be_secret)(key.as_str());
            let found = match self.find_value(&key) {
                Ok(found) => found,
                Err(stop) => {
                    stop.collect(&mut needs)?;
                    continue;
                }
            };
            self.progress.chain = self.progress.chain.max(1);
            holds &= found.is_some_and(|found| match expected {
                Value::List(any) => any.iter().any(|one| reads_as(one, found)),
                one => reads_as(one, found),
            });
        }
        complete(holds, needs)
    }

    fn resolve_value(&mut self, raw: &Value) -> Result<Value, Stop> {
        match raw {
            Value::Text(text) if raw.may_refer() => {
                let parts = Parts::of(text, 0).map_err(Stop::Broken)?;
                if let [only @ Part::Reference { .. }] = parts.0.as_slice() {
                    return self.resolve_reference(only).map(Cow::into_owned);
                }
                self.resolve_text(&parts).map(Value::from)
            }
            Value::List(items) => {
                self.add_size(16 * items.len())?;
                let mut needs = Vec::new();
                let mut values = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    match self.resolve_value(item) {
                        Ok(value) => values.push(value),
                        Err(stop) => self.collect_part(stop, &at.to_string(), &mut needs)?,
                    }
                }
                complete(Value::List(values.into()), needs)
            }
            Value::Table(fields) => {
                self.add_size(16 * fields.len())?;
                let mut needs = Vec::new();
                let mut resolved = Vec::with_capacity(fields.len());
                for (name, value) in fields.iter() {
                    match self.resolve_value(value) {
                        Ok(value) => resolved.push((name, value)),
                        Err(stop) => self.collect_part(stop, name, &mut needs)?,
                    }
                }
                complete(Value::Table(resolved.into_iter().collect()), needs)
            }
            other => {
                self.add_size(size(other, self.budget.min(MAX_SIZE)))?;
                Ok(other.clone())
            }
        }
    }

    /// The text with its references followed. It names all targets that must be resolved first at once. Otherwise
    /// each of many references would begin the whole text again.
    pub(super) fn resolve_text(&mut self, parts: &Parts<'_>) -> Result<String, Stop> {
        let mut text = String::new();
        let mut needs = Vec::new();
        for part in &parts.0 {
            match part {
                Part::Text(piece) => {
                    self.add_size(piece.len())?;
                    text.push_str(piece);
                }
                Part::Reference { .. } => match self.resolve_reference(part) {
                    Err(stop) => stop.collect(&mut needs)?,
                    Ok(value) => match &*value {
                        Value::Text(value) => text.push_str(value),
                        value @ (Value::List(_) | Value::Table(_)) => {
                            let detail = format!("a {} cannot be put into a text", value.kind());
                            return Err(Stop::Broken(reference_error(detail)));
                        }
                        value => text.push_str(&value.to_string()),
                    },
                },
            }
        }
        complete(text, needs)
    }

    /// The value of a reference. It is borrowed, so that a value that is too large is not copied.
    pub(super) fn resolve_reference(&mut self, part: &Part<'_>) -> Result<Cow<'a, Value>, Stop> {
        let Part::Reference {
            key,
            default,
            written,
        } = part
        else {
            return Ok(Cow::Owned(Value::from("")));
        };
        let is_computed = !matches!(key.0.as_slice(), [Part::Text(_)]);
        let name = self.resolve_text(key)?;
        let name = name.trim();
        let Some(key) = Key::parse(name).ok().filter(|key| !key.is_root()) else {
            // No key, such as a shell expression: it stays as it is written.
            return self.as_written(written);
        };
        // The name may be made of a secret.
        let shown = if is_computed && self.progress.is_secret {
            written.to_string()
        } else {
            key.to_string()
        };
        self.record_target(&key);
        self.progress.is_secret |= (self.context.may_be_secret)(key.as_str());
        let found = self.find_value(&key);
        if let Some(found) = found.map_err(|stop| stop.nameless_unless(!is_computed))? {
            self.add_size(size(found, self.budget.min(MAX_SIZE)))?;
            self.progress.chain = self.progress.chain.max(1);
            return Ok(Cow::Borrowed(found));
        }
        match default {
            Some(default) => match (shell_operator(default), default.0.as_slice()) {
                (Some(_), _) if self.context.keeps_unresolved => self.as_written(written),
                (Some(operator), _) => {
                    let key = (!is_computed).then_some(&key);
                    Err(Stop::Broken(
                        self.shell_default_error(operator, key, written),
                    ))
                }
                (None, [only @ Part::Reference { .. }]) => self.resolve_reference(only),
                (None, _) => self.resolve_text(default).map(Value::from).map(Cow::Owned),
            },
            None if self.context.keeps_unresolved => self.as_written(written),
            None => {
                let advice = match self.key_of_variable_name(&key) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => REMEDIES.to_owned(),
                };
                let detail = format!("refers to `{shown}`, which no layer defines; {advice}");
                let error = reference_error(detail).with_unresolved();
                Err(Stop::Broken(if !is_computed && is_shareable(name) {
                    error.with_shareable_detail()
                } else {
                    nameless(error)
                }))
            }
        }
    }

    /// The error of a default in the form of a shell. `key` is the missing key, unless its name is
    /// computed. The text of the default is shown unless the key may hold a secret.
    fn shell_default_error(&self, operator: char, key: Option<&Key>, written: &str) -> Error {
        // Shows no name of a key, since that may be a part of a secret.
        let general = format!(
            "refers to a key, which no layer defines; {}",
            remedy(operator, "key", None)
        );
        let Some(key) = key else {
            return reference_error(general)
                .with_shareable_detail()
                .with_unresolved();
        };
        let meant = self.key_of_variable_name(key);
        let name = meant.as_ref().unwrap_or(key).as_str();
        let default = default_after_operator(written).filter(|_| !self.progress.is_secret);
        let of = |default: Option<&str>| {
            let remedy = remedy(operator, name, default);
            format!("refers to `{key}`, which no layer defines; {remedy}")
        };
        let error = reference_error(of(default)).with_unresolved();
        error.with_shareable(if is_shareable(key.as_str()) {
            of(None)
        } else {
            general
        })
    }

    /// The key that the missing one means as the name of a variable, if it has a value.
    fn key_of_variable_name(&self, missing: &Key) -> Option<Key> {
        let meant = Key::from_segments(env_name_to_key(missing.as_str())?).ok()?;
        let entry = self.merged.find(meant.segments())?;
        (meant != *missing && entry.node.table().is_none()).then_some(meant)
    }

    fn as_written(&mut self, written: &str) -> Result<Cow<'a, Value>, Stop> {
        self.add_size(written.len())?;
        Ok(Cow::Owned(Value::from(written)))
    }

    fn find_value(&mut self, key: &Key) -> Result<Option<&'a Value>, Stop> {
        let path: Vec<_> = key.segments().collect();
        // The path ends at a leaf, or leads into a list, which is a leaf.
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
            let resolved = match self.jobs.get(&here).map(|job| &job.outcome) {
                Some(None) => return Err(Stop::Needs(vec![here])),
                Some(Some(LeafOutcome::Resolved(resolved))) => Some(resolved),
                // The value that replaces a contextual one, or a leaf that is resolved.
                Some(Some(LeafOutcome::PassedOver)) | None => match &entry.node {
                    Node::Resolved(resolved) => Some(&**resolved),
                    _ => None,
                },
            };
            if let Some(resolved) = resolved {
                self.progress.chain = self.progress.chain.max(resolved.chain + 1);
                self.progress.is_secret |= resolved.secret;
                return match &resolved.value {
                    Ok(value) => Ok(value.descend(rest)),
                    Err(error) => {
                        // Of a chain of broken references, the error quotes the first one alone.
                        let first = error.quoted().unwrap_or(error);
                        let detail = format!("refers to `{here}`, which is broken: {first}");
                        let mut broken = reference_error(detail).with_quoted(first.clone());
                        let shown = first.without(&|_| true);
                        if let Some(shown) = shown.filter(Error::has_shareable_detail) {
                            let detail = format!("refers to `{here}`, which is broken: {shown}");
                            broken = broken.with_shareable(detail);
                        }
                        Err(Stop::Broken(if error.is_unresolved() {
                            broken.with_unresolved()
                        } else {
                            broken
                        }))
                    }
                };
            }
            return Ok(value(&entry.node).and_then(|value| value.descend(rest)));
        }
        Err(Stop::Broken(reference_error(format!(
            "refers to `{key}`, which is a table; refer to a key below it"
        ))))
    }
}

/// What to do about a reference to a key that no layer defines.
const REMEDIES: &str =
    "define it, write a default as in `${key:default}`, or `$${` for a literal `${`";

/// An error that names no key if the key that it is about holds a secret: the name may be a part of that.
fn nameless(error: Error) -> Error {
    if error.is_unresolved() {
        error.with_shareable(format!("refers to a key that no layer defines; {REMEDIES}"))
    } else {
        error.without_shareable()
    }
}

/// A result, unless some targets must be resolved first.
fn complete<T>(result: T, needs: Vec<Key>) -> Result<T, Stop> {
    if needs.is_empty() {
        Ok(result)
    } else {
        Err(Stop::Needs(needs))
    }
}

/// Limits the bytes of the name of a missing key that is shown of a secret.
const MAX_SHAREABLE: usize = 64;

/// Whether the name of a missing key can be shown although it is in the text of a secret: a password may hold
/// `${` by chance. Such a name consists of at least two words of one case each.
fn is_shareable(name: &str) -> bool {
    let is_word = |word: &str| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_lower = letters.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_upper = letters.bytes().all(|byte| byte.is_ascii_uppercase());
        // Few digits, and only as in `db2`.
        !letters.is_empty() && word.len() - letters.len() <= 2 && (is_lower || is_upper)
    };
    let mut words = name.split(['.', '_', '-']);
    name.len() <= MAX_SHAREABLE && words.clone().count() >= 2 && words.all(is_word)
}

/// The size of a value in bytes. Counting ends above `limit`.
fn size(value: &Value, limit: usize) -> usize {
    fn add<'v>(parts: impl Iterator<Item = (usize, &'v Value)>, limit: usize) -> usize {
        let mut sum = 0;
        for (own, part) in parts {
            if sum > limit {
                break;
            }
            sum += 16 + own + size(part, limit - sum);
        }
        sum
    }
    match value {
        Value::Text(text) => text.len(),
        Value::List(items) => add(items.iter().map(|item| (0, item)), limit),
        Value::Table(fields) => add(fields.iter().map(|(name, v)| (name.len(), v)), limit),
        _ => 16,
    }
}
