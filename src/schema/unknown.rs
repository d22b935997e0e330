//! Finds undeclared keys, and deprecated keys that are set.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::Plain;
use crate::schema::nearest::{BUDGET, Names};
use crate::schema::{Schema, field};
use crate::sorted;
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{Key, under};
use crate::value::origin::Origin;

/// A key under a strict prefix that the schema does not declare, without its value; see
/// [`Properties::unknown_keys`](crate::Properties::unknown_keys).
///
/// ```
/// use liveprops::{Properties, Schema, sources::Memory};
///
/// let schema = Schema::new().declare(Schema::key::<u16>("http.port")).strict("http");
/// let source = Memory::from([("http.prot", 80)]);
/// let props = Properties::builder().source(source).schema(schema).build()?;
/// let unknown = &props.unknown_keys()[0];
/// assert_eq!(unknown.key.as_str(), "http.prot");
/// assert_eq!(unknown.nearest.as_ref().unwrap().as_str(), "http.port");
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unknown {
    /// The key.
    pub key: Key,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// The declared key that may be meant; `None` also where too many keys are unknown to compare them.
    pub nearest: Option<Key>,
}

/// A deprecated key that is set, without its value; see
/// [`Properties::deprecated_keys`](crate::Properties::deprecated_keys).
///
/// ```
/// use liveprops::{Properties, Schema, sources::Memory};
///
/// let schema = Schema::new().declare(Schema::key::<u16>("port").deprecated("use http.port"));
/// let source = Memory::from([("port", 80)]);
/// let props = Properties::builder().source(source).schema(schema).build()?;
/// let deprecated = &props.deprecated_keys()[0];
/// assert_eq!((deprecated.key.as_str(), &*deprecated.instead), ("port", "use http.port"));
/// # Ok::<(), liveprops::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Deprecated {
    /// The key; of a subtree that is deprecated, each that is set in it.
    pub key: Key,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// What to do instead, as it was declared.
    pub instead: String,
}

/// The content of a leaf, as far as declared keys can reach into it.
enum Content {
    Value,
    List,
    Table,
    /// An empty table.
    Nothing,
}

/// Whether a key leads to an item of the list at `list`, or below an item.
fn is_item(key: &str, list: &str) -> bool {
    let rest = key.get(list.len()..).unwrap_or_default();
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let name = rest.split('.').next().unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not declared", Plain(self.key.as_str()))?;
        if let Some(near) = &self.nearest {
            write!(f, ", did you mean `{}`?", Plain(near.as_str()))?;
        }
        match &self.origin {
            Some(origin) => write!(f, " ({})", Plain(&origin.to_string())),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Deprecated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is deprecated", Plain(self.key.as_str()))?;
        if !self.instead.is_empty() {
            write!(f, ": {}", Plain(&self.instead))?;
        }
        match &self.origin {
            Some(origin) => write!(f, " ({})", Plain(&origin.to_string())),
            None => Ok(()),
        }
    }
}

impl Schema {
    /// The undeclared keys of a generation under the strict prefixes, in order.
    pub(crate) fn unknown(&self, generation: &Generation) -> Vec<Unknown> {
        let mut budget = BUDGET;
        let undeclared = self.undeclared(generation).into_iter();
        undeclared
            .map(|(key, entry)| Unknown {
                nearest: self.nearest(key.as_str(), &mut budget).cloned(),
                origin: entry.node.origin().cloned(),
                key,
            })
            .collect()
    }

    pub(super) fn undeclared<'g>(&self, generation: &'g Generation) -> Vec<(Key, &'g Arc<Entry>)> {
        let mut all = Vec::new();
        // A prefix below another one is visited with it.
        let outermost = self.strict.iter().filter(|prefix| {
            let mut above = prefix.lineage().skip(1);
            !above.any(|above| self.strict.contains(above))
        });
        for prefix in outermost {
            let mut visit = |key: &str, entry: &'g Arc<Entry>| {
                if !self.declares(key, entry) {
                    all.extend(Key::parse(key).ok().map(|key| (key, entry)));
                }
            };
            let path = &mut prefix.as_str().to_owned();
            match Found::in_tree(&generation.root, prefix.as_str()) {
                Ok(Found::Root(table)) => table.walk(path, &mut visit),
                Ok(Found::Entry(entry)) => match entry.node.table() {
                    Some(table) if !table.is_empty() => table.walk(path, &mut visit),
                    _ => visit(path, entry),
                },
                _ => {}
            }
        }
        sorted::sort_by(&mut all, |(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|(a, _), (b, _)| a == b);
        all
    }

    pub(super) fn is_strict(&self, key: &Key) -> bool {
        key.lineage().any(|at| self.strict.contains(at))
    }

    /// Whether a leaf belongs to a declared key, or declared keys reach into it.
    pub(super) fn declares(&self, key: &str, entry: &Entry) -> bool {
        let mut at = key;
        loop {
            if self.fields.contains_key(at) {
                return true;
            }
            match at.rfind('.') {
                // A dot in a quoted segment ends no key, and nothing is declared there.
                Some(dot) => at = &at[..dot],
                None => break,
            }
        }
        let content = match (diff::value(&entry.node), entry.node.table()) {
            (Some(Value::List(_)), _) => Content::List,
            (Some(Value::Table(fields)), _) if fields.is_empty() => Content::Nothing,
            (Some(Value::Table(_)), _) => Content::Table,
            (None, Some(table)) if table.is_empty() => Content::Nothing,
            (None, Some(_)) => Content::Table,
            _ => Content::Value,
        };
        // A table that has nothing in it sets no key below a strict prefix.
        let leads_to_prefix = || {
            let from = (Bound::Included(key), Bound::Unbounded);
            let below = self.strict.range::<str, _>(from);
            let mut below = below.take_while(|prefix| prefix.as_str().starts_with(key));
            below.any(|prefix| under(prefix.as_str(), key))
        };
        match content {
            Content::Value => false,
            Content::List => self.below(key).any(|below| is_item(below.as_str(), key)),
            Content::Table => self.below(key).next().is_some(),
            Content::Nothing => self.below(key).next().is_some() || leads_to_prefix(),
        }
    }

    /// The deprecated keys that a generation has a value for, in order.
    pub(crate) fn deprecated(&self, generation: &Generation) -> Vec<Deprecated> {
        let mut all = Vec::new();
        for (declared, field) in &self.fields {
            let Some(instead) = &field.deprecated else {
                continue;
            };
            let mut report = |key: &str, origin: Option<&Origin>| {
                if origin.is_some_and(|origin| *origin == field::origin()) {
                    return;
                }
                all.extend(Key::parse(key).ok().map(|key| Deprecated {
                    key,
                    origin: origin.cloned(),
                    instead: instead.clone(),
                }));
            };
            match Found::in_tree(&generation.root, declared.as_str()) {
                Ok(Found::Entry(entry)) => match entry.node.table() {
                    Some(table) => {
                        table.walk(&mut declared.as_str().to_owned(), &mut |key, leaf| {
                            report(key, leaf.node.origin());
                        })
                    }
                    None => report(declared.as_str(), entry.node.origin()),
                },
                Ok(Found::Inside(_, leaf) | Found::Broken(leaf)) => {
                    report(declared.as_str(), leaf.node.origin())
                }
                _ => {}
            }
        }
        // A declared key below another one would be reported twice.
        sorted::sort_by(&mut all, |a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        all
    }

    /// The declared key that may be meant by an undeclared one; none that is deprecated.
    pub(super) fn nearest(&self, key: &str, budget: &mut usize) -> Option<&Key> {
        self.names().nearest(key, budget)
    }

    /// Returns the names of the declared keys, which the first call computes. Two threads may both compute
    /// them: in a fork, waiting for another thread might never end.
    fn names(&self) -> &Names {
        if let Some(names) = self.names.get() {
            return names;
        }
        let fields = self.fields.iter();
        let current = fields.filter(|(_, field)| field.deprecated.is_none());
        let names = Arc::new(Names::of(current.map(|(key, _)| key)));
        self.names.get_or_init(|| names)
    }
}
