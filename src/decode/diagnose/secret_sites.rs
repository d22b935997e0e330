//! Finds out whether a type reads a secret from serde's buffer, without a value of the program.
//!
//! A type shows its secret fields if serde does not buffer it, see
//! [`secret_paths`](crate::decode::diagnose::secret_paths). What serde buffers shows only while it is read. So
//! trials put invented values at a site: tables and lists, with a probe as the innermost value. They end when
//! the type reads a secret, or when no other value is left to try. The names of entries are those that the
//! type asks for, the numbers of fields, which a derived `Deserialize` accepts in place of names, common
//! names of secrets, and the names that the program's values have. So only an optional secret is not found
//! whose name is none of these.

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};

use crate::decode::diagnose::rejection::Reported;
use crate::decode::diagnose::trial::{
    FIELD_NUMBER, TEXTS, TrialResult, entry, probe_value, samples, scalars, value_of,
};
use crate::sorted::{SortedMap, SortedSet};
use crate::value::Value;
use crate::value::key;
use crate::value::table::Table as Fields;

/// How many trials one site has. A type that needs more counts as one that reads a secret.
const MAX_TRIALS: usize = 3_000;

/// How many trials are added for each name of the program's values.
const TRIALS_OF_NAME: usize = 4;

/// How many fields of one struct are tried by number.
const MAX_FIELDS: usize = 16;

/// How deep the values of trials nest.
const MAX_NESTING: usize = 5;

/// Common names of secret fields.
const COMMON_NAMES: [&str; 18] = [
    "password",
    "passwd",
    "pass",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "key",
    "api_key",
    "apikey",
    "access_key",
    "secret_key",
    "private_key",
    "credentials",
    "auth",
    "code",
    "pin",
    "dsn",
];

/// The name and the value of the tag of a table.
type Tag = Option<(&'static str, &'static str)>;

/// What leads from a container to the position below.
#[derive(Clone)]
enum Step {
    /// The entry of a table that has these other entries.
    Entry(Entries, String),
    Item,
}

type Entries = SortedMap<Box<str>, Value>;

/// A position below a site: the containers around it, and the tag of the table that is put there.
#[derive(Clone, Default)]
struct Position {
    steps: Vec<Step>,
    tag: Tag,
}

impl Position {
    fn below(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { steps, tag: None }
    }

    fn tagged(&self, name: &'static str, variant: &'static str) -> Self {
        Self {
            steps: self.steps.clone(),
            tag: Some((name, variant)),
        }
    }

    /// The path below the site.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Entry(_, name) => key::push_segment(&mut path, name),
                Step::Item => key::push_segment(&mut path, "0"),
            }
        }
        path
    }

    /// The value at the site that has this value at the position.
    fn around(&self, value: Value) -> Value {
        self.steps.iter().rfold(value, |inner, step| match step {
            Step::Entry(others, name) => {
                let mut entries = others.clone();
                entries.insert(name.as_str().into(), inner);
                Value::Table(Fields::from_fields(entries.into_iter().collect()))
            }
            Step::Item => Value::from(vec![inner]),
        })
    }

    /// As [`around`](Self::around), with a table of these entries.
    fn with(&self, entries: Entries) -> Value {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.extend(tag_entry(self.tag));
        self.around(Value::Table(Fields::from_fields(entries)))
    }
}

fn tag_entry(tag: Tag) -> Option<(Box<str>, Value)> {
    tag.map(|(name, variant)| entry(name, Value::from(variant)))
}

/// A name, and how deep below the site it is; `None` if it may be anywhere.
pub(super) type NameAt = (Option<usize>, String);

/// A table that a type may read.
struct Table {
    position: Position,
    /// The entries that the type needs.
    filled: Entries,
    /// What the type expects as the value of an entry of any name, if it is a map.
    of_map: Option<String>,
}

impl Table {
    /// The position of an entry.
    fn entry(&self, name: &str) -> Position {
        let mut others = self.filled.clone();
        if let Some((name, value)) = tag_entry(self.position.tag) {
            others.insert(name, value);
        }
        self.position.below(Step::Entry(others, name.to_owned()))
    }
}

/// What the trials at one site have found.
#[derive(Default)]
pub(super) struct Explored {
    /// Whether the type reads a secret there, or needs too many trials.
    pub(super) has_secret: bool,
    tables: Vec<Table>,
    /// The names of the program's values that were tried.
    names: SortedSet<NameAt>,
}

/// The trials at one site.
pub(super) struct Exploration<'a> {
    run: &'a dyn Fn(&Value) -> TrialResult,
    /// Whether serde may buffer the entries of the table at the site, and not the table.
    is_table: bool,
    count: Cell<usize>,
    queue: VecDeque<Position>,
    /// The tags and the fields of the structs that were tried.
    known: HashSet<(Tag, SortedSet<&'static str>)>,
}

impl<'a> Exploration<'a> {
    pub(super) fn new(run: &'a dyn Fn(&Value) -> TrialResult, is_table: bool) -> Self {
        Self {
            run,
            is_table,
            count: Cell::new(0),
            queue: VecDeque::new(),
            known: HashSet::new(),
        }
    }

    /// Finds out whether the type reads a secret if the values have these names. `explored` is what earlier
    /// trials with other names have found.
    pub(super) fn explore(mut self, explored: &mut Explored, names: SortedSet<NameAt>) {
        let is_first = explored.tables.is_empty();
        let is_new = |name: &&NameAt| !explored.names.contains(*name);
        let new: SortedSet<NameAt> = names.iter().filter(is_new).cloned().collect();
        explored.names.extend(names);
        if is_first {
            self.queue.push_back(Position::default());
        } else {
            let mut known = explored.tables.iter_mut();
            explored.has_secret = known.any(|table| self.reads_names(table, &new));
        }
        while let Some(position) = self.queue.pop_front() {
            let is_spent = self.count.get() >= MAX_TRIALS + TRIALS_OF_NAME * explored.names.len();
            if explored.has_secret || is_spent || self.reads_at(&position, explored) {
                explored.has_secret = true;
                return;
            }
        }
    }

    fn run(&self, value: &Value) -> TrialResult {
        self.count.set(self.count.get() + 1);
        (self.run)(value)
    }

    /// Whether the probe, a list or a table at a position has a secret. Otherwise what is in them is tried next.
    fn reads_at(&mut self, position: &Position, explored: &mut Explored) -> bool {
        let probe = self.run(&position.around(probe_value()));
        if probe.reads_secret || self.reads_list(position) {
            return true;
        }
        let plain = self.run(&position.with(Entries::new()));
        if plain.is_about(&position.path()) {
            return plain.reads_secret;
        }
        let filled = match self.fill(position, &plain) {
            Filled::Secret => return true,
            // The type does not come to what it flattens.
            Filled::Incomplete(_) if self.is_table && position.steps.is_empty() => return true,
            Filled::Incomplete(entries) | Filled::Complete(entries) => entries,
        };
        if self.run(&position.with(filled.clone())).lacks_variant {
            // A flattened enum does not show its variants.
            return true;
        }
        // What the types around the position ask for, they ask for in any case.
        let is_around = |name| probe.fields.contains(name) || probe.variants.contains(name);
        let asked = plain.fields.iter().chain(&plain.variants);
        let asked = asked.filter(|name| !is_around(**name));
        // An enum may have a variant as its only entry.
        let asked: SortedSet<_> = asked.chain(&probe.variants).copied().collect();
        if !asked.is_empty() && !self.known.insert((position.tag, asked.clone())) {
            // A struct in itself, or one that has been tried elsewhere.
            return false;
        }
        let mut table = Table {
            position: position.clone(),
            filled,
            of_map: None,
        };
        let common = COMMON_NAMES.map(|name| (None, name.to_owned()));
        let common = common.into_iter().collect();
        let has_secret = plain.reads_secret
            || self.reads_fields(&table, &asked)
            || self.reads_map(&mut table)
            || self.reads_names(&mut table, &common)
            || self.reads_names(&mut table, &explored.names);
        explored.tables.push(table);
        has_secret
    }

    /// Whether a list at a position has a secret. Otherwise its items are tried next.
    fn reads_list(&mut self, position: &Position) -> bool {
        let list = |items: Vec<Value>| self.run(&position.around(Value::from(items)));
        let items = list(vec![probe_value()]);
        let is_list = !items.rejects(&Reported::Seq) || items.rejects_probe();
        let is_list = is_list && !items.is_about(&position.path());
        if items.reads_secret || !is_list {
            return items.reads_secret;
        }
        // The first items of a tuple may accept few values.
        if samples().any(|sample| list(vec![sample; 4]).reads_secret) || self.reads_tuple(position)
        {
            return true;
        }
        if !items.is_scalar {
            self.push(position.below(Step::Item));
        }
        false
    }

    /// Whether a tuple at a position has a secret, or an item for which no value is found: those after it are not
    /// read.
    fn reads_tuple(&self, position: &Position) -> bool {
        let list = |items: &[Value]| self.run(&position.around(Value::from(items.to_vec())));
        let mut items: Vec<Value> = Vec::new();
        let mut present = list(&items);
        while present.lengths.contains(&items.len()) {
            let at = items.len();
            items.push(probe_value());
            let probe = list(&items);
            let typed = probe.expected.as_deref().and_then(value_of);
            let variant = probe.variants.first().map(|variant| Value::from(*variant));
            let others = typed.into_iter().chain(variant).chain(samples());
            let mut others = others.map(|value| (items[..at].to_vec(), value));
            let accepted = |result: &TrialResult, value: &Value| {
                let is_custom = result.messages > present.messages;
                let is_last =
                    !result.lengths.contains(&at) && !is_custom && !result.rejects_value(value);
                result.lengths.contains(&(at + 1)) || is_last
            };
            let mut found = Some((probe, probe_value()));
            while let Some((result, value)) = found.take() {
                if result.reads_secret || at >= MAX_FIELDS {
                    return true;
                }
                if accepted(&result, &value) {
                    found = Some((result, value));
                    break;
                }
                found = others.next().map(|(mut items, value)| {
                    items.push(value.clone());
                    (list(&items), value)
                });
            }
            let Some((result, value)) = found else {
                return true;
            };
            items.truncate(at);
            items.push(value);
            present = result;
        }
        present.reads_secret
    }

    fn push(&mut self, position: Position) {
        if position.steps.len() <= MAX_NESTING {
            self.queue.push_back(position);
        }
    }

    fn run_with(&self, table: &Table, names: &[&str]) -> TrialResult {
        self.run_with_values(table, names, &probe_value())
    }

    fn run_with_values(&self, table: &Table, names: &[&str], value: &Value) -> TrialResult {
        let mut entries = table.filled.clone();
        for name in names {
            entries.insert(Box::from(*name), value.clone());
        }
        self.run(&table.position.with(entries))
    }

    /// Whether a field that the type asks for, or has by its number, is a secret. Otherwise what is in it is tried
    /// next.
    fn reads_fields(&mut self, table: &Table, asked: &SortedSet<&'static str>) -> bool {
        for name in asked {
            let result = self.run_with(table, &[*name]);
            if result.reads_secret {
                return true;
            }
            if table.position.tag.is_none() {
                let variants = result.variants.iter();
                variants.for_each(|variant| self.push(table.position.tagged(name, variant)));
            }
            if is_container(&result, name) {
                self.push(table.entry(name));
            }
        }
        for number in 0..MAX_FIELDS {
            let name = format!("{FIELD_NUMBER}{number}");
            let result = self.run_with(table, &[&name]);
            if result.reads_secret {
                return true;
            }
            if is_container(&result, &name) {
                self.push(table.entry(&name));
            }
        }
        false
    }

    /// Whether an entry of any name is a secret. Otherwise what is in it is tried next.
    fn reads_map(&mut self, table: &mut Table) -> bool {
        for name in TEXTS {
            let result = self.run_with(table, &[name]);
            if result.reads_secret {
                return true;
            }
            if is_container(&result, name) {
                table.of_map = result.expected;
                self.push(table.entry(name));
                return false;
            }
        }
        false
    }

    /// Whether an entry with one of these names is a secret. Otherwise what is in it is tried next.
    fn reads_names(&mut self, table: &mut Table, names: &SortedSet<NameAt>) -> bool {
        let depth = table.position.steps.len();
        let names = names
            .iter()
            .filter(|(at, _)| at.is_none_or(|at| at == depth));
        let names = names.map(|(_, name)| name.as_str());
        let all: Vec<&str> = names
            .filter(|name| !table.filled.contains_key(*name))
            .collect();
        let together = self.run_with(table, &all);
        // The type reads no more of them once it has rejected one.
        let is_rejected = |name: &&str| together.rejects_probe() || together.has_fault_at(name);
        if together.reads_secret || !all.iter().any(is_rejected) {
            return together.reads_secret;
        }
        for scalar in scalars() {
            let result = self.run_with_values(table, &all, &scalar);
            if result.reads_secret {
                return true;
            }
            if !result.failed {
                // The type has read all of them, and there are no containers among them.
                return false;
            }
        }
        for name in all {
            let result = self.run_with(table, &[name]);
            if result.reads_secret {
                return true;
            }
            let is_of_map = table.of_map.is_some() && table.of_map == result.expected;
            if is_container(&result, name) && !is_of_map {
                self.push(table.entry(name));
            }
        }
        false
    }

    /// Adds the entries that the type asks for one by one: a struct reads what it flattens once it has all of
    /// its own fields.
    fn fill(&self, position: &Position, plain: &TrialResult) -> Filled {
        let mut entries = Entries::new();
        let mut requested = plain.fields.clone();
        for _ in 0..MAX_FIELDS {
            let is_new = |name: &&&'static str| !entries.contains_key(**name);
            let Some(name) = requested.iter().find(is_new).copied() else {
                return Filled::Complete(entries);
            };
            let mut others = samples();
            let mut value = Some(probe_value());
            let mut is_first = true;
            while let Some(tried) = value.take() {
                entries.insert(Box::from(name), tried);
                let result = self.run(&position.with(entries.clone()));
                if result.reads_secret {
                    return Filled::Secret;
                }
                requested.extend(result.fields.iter().copied());
                if !result.rejects_probe() && !result.has_fault_at(name) {
                    break;
                }
                // The entry has another type.
                let typed = result.expected.as_deref().and_then(value_of);
                let variant = result.variants.first().filter(|_| is_first);
                let variant = variant.map(|variant| Value::from(*variant));
                is_first = false;
                value = typed.or(variant).or_else(|| others.next());
                if value.is_none() {
                    return Filled::Incomplete(entries);
                }
            }
        }
        Filled::Incomplete(entries)
    }
}

/// Whether a type has rejected the probe at an entry, and may accept a table or a list there.
fn is_container(result: &TrialResult, name: &str) -> bool {
    !result.is_scalar && (result.rejects_probe() || result.has_fault_at(name))
}

/// The entries of a table that has what its type asks for.
enum Filled {
    /// One of them is a secret.
    Secret,
    Complete(Entries),
    /// The type accepts no value that was tried for the last one, or asks for more.
    Incomplete(Entries),
}
