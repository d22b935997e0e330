//! Keys that nobody declared, and those that nobody should set any more.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::Plain;
use crate::schema::nearest::{BUDGET, Names};
use crate::schema::{Schema, declaration};
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::hamt::Entry;
use crate::value::key::{Key, under};
use crate::value::origin::Origin;

/// A key under a strict prefix that the schema does not declare; its value is not shown.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unknown {
    /// The key.
    pub key: Key,
    /// Where it was written.
    pub origin: Option<Origin>,
    /// The declared key that may be meant; not looked for in a large crowd.
    pub nearest: Option<Key>,
}

/// A key that is set though the schema declares it deprecated; its value is not shown.
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

/// What a leaf holds, as far as declared keys can reach into it.
enum Holds {
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
        // A prefix below another one is looked at with it.
        let outermost = self.strict.iter().filter(|prefix| {
            let mut above = prefix.lineage().skip(1);
            !above.any(|place| self.strict.contains(place))
        });
        for prefix in outermost {
            let mut look = |key: &str, entry: &'g Arc<Entry>| {
                if !self.declares(key, entry) {
                    all.extend(Key::parse(key).ok().map(|key| (key, entry)));
                }
            };
            let path = &mut prefix.as_str().to_owned();
            match Found::in_tree(&generation.root, prefix.as_str()) {
                Ok(Found::Root(table)) => table.walk(path, &mut look),
                Ok(Found::Entry(entry)) => match entry.node.table() {
                    Some(table) if !table.is_empty() => table.walk(path, &mut look),
                    _ => look(path, entry),
                },
                _ => {}
            }
        }
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|(a, _), (b, _)| a == b);
        all
    }

    pub(super) fn is_strict(&self, key: &Key) -> bool {
        key.lineage().any(|place| self.strict.contains(place))
    }

    /// Whether a leaf belongs to a declared key, or declared keys reach into it.
    pub(super) fn declares(&self, key: &str, entry: &Entry) -> bool {
        let mut place = key;
        loop {
            if self.fields.contains_key(place) {
                return true;
            }
            match place.rfind('.') {
                // In a quoted segment it is no key, and nothing is found there.
                Some(dot) => place = &place[..dot],
                None => break,
            }
        }
        let holds = match (diff::value(&entry.node), entry.node.table()) {
            (Some(Value::List(_)), _) => Holds::List,
            (Some(Value::Table(fields)), _) if fields.is_empty() => Holds::Nothing,
            (Some(Value::Table(_)), _) => Holds::Table,
            (None, Some(table)) if table.is_empty() => Holds::Nothing,
            (None, Some(_)) => Holds::Table,
            _ => Holds::Value,
        };
        // A table that has nothing in it sets no key below a strict prefix.
        let leads_to_prefix = || {
            let from = (Bound::Included(key), Bound::Unbounded);
            let below = self.strict.range::<str, _>(from);
            let mut below = below.take_while(|prefix| prefix.as_str().starts_with(key));
            below.any(|prefix| under(prefix.as_str(), key))
        };
        match holds {
            Holds::Value => false,
            Holds::List => self.below(key).any(|below| is_item(below.as_str(), key)),
            Holds::Table => self.below(key).next().is_some(),
            Holds::Nothing => self.below(key).next().is_some() || leads_to_prefix(),
        }
    }

    /// The deprecated keys that a generation has a value for, in order.
    pub(crate) fn deprecated(&self, generation: &Generation) -> Vec<Deprecated> {
        let mut all = Vec::new();
        for (declared, field) in &self.fields {
            let Some(instead) = &field.deprecated else {
                continue;
            };
            let mut tell = |key: &str, origin: Option<&Origin>| {
                if origin.is_some_and(|origin| *origin == declaration::origin()) {
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
                            tell(key, leaf.node.origin());
                        })
                    }
                    None => tell(declared.as_str(), entry.node.origin()),
                },
                Ok(Found::Inside(_, leaf) | Found::Broken(leaf)) => {
                    tell(declared.as_str(), leaf.node.origin())
                }
                _ => {}
            }
        }
        // One below another one would be told twice.
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.dedup_by(|a, b| a.key == b.key);
        all
    }

    /// The declared key that may be meant by an undeclared one; none that is deprecated.
    pub(super) fn nearest(&self, key: &str, budget: &mut usize) -> Option<&Key> {
        self.names().nearest(key, budget)
    }

    /// Returns the names of the declared keys, and makes them first if nobody has. Two threads may
    /// both make them: a fork would wait for ever for one that it does not have.
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
