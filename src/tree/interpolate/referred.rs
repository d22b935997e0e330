//! Finds the keys that secrets refer to as a whole: their values are the content of the secrets.
//!
//! A reference is *whole* if nothing else is in its place. The place is a value, an item of a list, an entry of a
//! table, or a part of a text that spells a list or a table. `pw` of `user:${pw}@db` is not: it is a key of its own.
//!
//! The values are searched as they are written, in step with the paths of the secrets. So each value is read once,
//! however many secrets are in it.

use std::collections::{BTreeMap, HashSet};

use crate::decode;
use crate::tree::found::Found;
use crate::tree::interpolate::Context;
use crate::tree::interpolate::parse::{Part, Parts};
use crate::tree::interpolate::resolve::{LeafResolver, Progress};
use crate::value::Value;
use crate::value::key::{self, Key, MAX_DEPTH};
use crate::value::node::{Node, Resolved, Table};
use crate::value::secret::buffered::UNNAMED;

/// Marks the place of a reference in a text, on both sides of its number.
const MARK: char = '\u{10fffd}';

/// Adds the keys that secrets refer to as a whole, and those that these refer to.
pub(crate) fn add_referred(root: &Table, secrets: &mut Vec<String>) {
    // Other trees have no references.
    if secrets.is_empty() || !root.special() {
        return;
    }
    let may_refer = |key: &&String| match Found::in_tree(root, key) {
        Ok(Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry)) => {
            entry.node.special()
        }
        // A text above may spell what is there.
        Ok(Found::Nothing | Found::Root(_)) => true,
        Err(_) => false,
    };
    let referring = secrets.iter().filter(may_refer);
    let mut wave: Vec<Key> = referring.filter_map(|key| Key::parse(key).ok()).collect();
    if wave.is_empty() {
        return;
    }
    let mut known: HashSet<Key> = secrets
        .iter()
        .filter_map(|key| Key::parse(key).ok())
        .collect();
    while !wave.is_empty() {
        let mut search = Search::new(root);
        search.table(root, &Wanted::of(&wave));
        wave = search.found;
        wave.retain(|key| known.insert(key.clone()));
        secrets.extend(wave.iter().map(|key| key.as_str().to_owned()));
    }
}

/// The paths of secrets inside a value.
#[derive(Default)]
struct Wanted {
    /// Whether the value is secret as a whole.
    is_whole: bool,
    below: BTreeMap<String, Wanted>,
}

static WHOLE: Wanted = Wanted {
    is_whole: true,
    below: BTreeMap::new(),
};

impl Wanted {
    fn of(keys: &[Key]) -> Self {
        let mut all = Self::default();
        for key in keys {
            let mut at = &mut all;
            for name in key.segments() {
                at = at.below.entry(name.into_owned()).or_default();
            }
            at.is_whole = true;
        }
        all
    }

    /// Calls `f` with each path.
    fn each_path<'a>(&'a self, path: &mut Vec<&'a str>, f: &mut dyn FnMut(&[&str])) {
        if self.is_whole {
            return f(path);
        }
        for (name, below) in &self.below {
            path.push(name);
            below.each_path(path, f);
            path.pop();
        }
    }
}

struct Search<'a> {
    root: &'a Table,
    /// The keys that the secrets refer to. One inside a text is a part of that.
    found: Vec<Key>,
    /// What the value that is searched refers to, if it was resolved for good. The names that it computed may differ
    /// by now.
    fixed_refers: &'a [Key],
    /// Whether the value that is searched cannot be read.
    is_broken: bool,
    /// How many texts are inside of each other.
    depth: usize,
}

impl<'a> Search<'a> {
    fn new(root: &'a Table) -> Self {
        Self {
            root,
            found: Vec::new(),
            fixed_refers: &[],
            is_broken: false,
            depth: 0,
        }
    }

    fn table(&mut self, table: &'a Table, wanted: &Wanted) {
        if !table.special() {
            return;
        }
        if wanted.is_whole {
            for entry in table.map().iter() {
                self.node(&entry.node, wanted);
            }
            return;
        }
        for (name, below) in &wanted.below {
            if let Some(entry) = table.get(name) {
                self.node(&entry.node, below);
            }
        }
    }

    fn node(&mut self, node: &'a Node, wanted: &Wanted) {
        match node {
            Node::Leaf(_) => {}
            Node::Table(table) => self.table(table, wanted),
            Node::Resolved(resolved) => self.leaf(resolved, wanted),
        }
    }

    fn leaf(&mut self, resolved: &'a Resolved, wanted: &Wanted) {
        self.fixed_refers = if resolved.fixed {
            &resolved.refers
        } else {
            &[]
        };
        self.is_broken = resolved.value.is_err();
        if !resolved.raw.value.may_refer() {
            // A list that is joined from such values has them in place of their references.
            self.fixed_refers = &resolved.refers;
            return self.add_fixed();
        }
        match resolved.raw.value.cases() {
            // Another case may hold at the next read.
            Some(cases) => {
                for (_, value) in cases {
                    self.value(value, self.known(wanted), &[]);
                }
            }
            None => self.value(&resolved.raw.value, wanted, &[]),
        }
    }

    /// Adds all that the value refers to, once.
    fn add_fixed(&mut self) {
        for key in std::mem::take(&mut self.fixed_refers) {
            self.add(key, &WHOLE);
        }
    }

    /// The paths of secrets inside a value that has not been read if it is broken: then they are unknown.
    fn known<'w>(&self, wanted: &'w Wanted) -> &'w Wanted {
        if self.is_broken { &WHOLE } else { wanted }
    }

    /// Searches a value as it is written. With `references`, it is a part of a text, and has marks in their place.
    fn value(&mut self, value: &Value, wanted: &Wanted, references: &[&Part<'_>]) {
        match value {
            Value::Text(text) if references.is_empty() => {
                if let Ok(parts) = Parts::of(text, 0) {
                    self.parts(&parts, wanted);
                }
            }
            Value::Text(text) => self.template(text, wanted, references),
            Value::List(items) => {
                let item = |name: &str| items.get(key::list_index(name)?);
                let found: Option<Vec<_>> = wanted
                    .below
                    .iter()
                    .map(|(name, below)| Some((item(name)?, below)))
                    .collect();
                match found.filter(|_| !wanted.is_whole) {
                    Some(found) => {
                        for (item, below) in found {
                            self.value(item, below, references);
                        }
                    }
                    // A path that leads nowhere is that of a secret somewhere in the list.
                    None => {
                        for item in items.iter() {
                            self.value(item, &WHOLE, references);
                        }
                    }
                }
            }
            Value::Table(fields) => {
                if wanted.is_whole || wanted.below.contains_key(UNNAMED) {
                    for field in fields.values() {
                        self.value(field, &WHOLE, references);
                    }
                    return;
                }
                for (name, below) in &wanted.below {
                    if let Some(field) = fields.get(name) {
                        self.value(field, below, references);
                    }
                }
            }
            _ => {}
        }
    }

    /// Searches a text. The references of a part of it are whole if the part is nothing else.
    fn parts(&mut self, parts: &Parts<'_>, wanted: &Wanted) {
        if let [only @ Part::Reference { .. }] = parts.0.as_slice() {
            return self.reference(only, wanted);
        }
        let mut template = String::new();
        let mut references = Vec::new();
        let mut splits_alike = true;
        for part in &parts.0 {
            match part {
                Part::Text(text) => {
                    splits_alike &= !text.contains(MARK);
                    template.push_str(text);
                }
                Part::Reference { .. } => {
                    splits_alike &= !self.may_split(part);
                    template.push_str(&format!("{MARK}{}{MARK}", references.len()));
                    references.push(part);
                }
            }
        }
        if references.is_empty() {
            return;
        }
        // A value with a separator changes which part of the text is which.
        let is_container = template.trim_start().starts_with(['{', '[']);
        if !splits_alike && (is_container || !wanted.is_whole) {
            return self.all(&references);
        }
        self.template(&template, wanted, &references);
    }

    /// Whether the value of a reference may be several parts of the text around it.
    fn may_split(&self, reference: &Part<'_>) -> bool {
        let value = self.resolver(|resolver| {
            let value = resolver.resolve_reference(reference).ok()?;
            Some(value.into_owned())
        });
        match value {
            Some(Value::Text(text)) => {
                text.contains([',', '[', ']', '{', '}', '"', '\'', '\\', '\n'])
            }
            _ => false,
        }
    }

    /// Searches a text that has marks in place of its references.
    fn template(&mut self, text: &str, wanted: &Wanted, references: &[&Part<'_>]) {
        let text = text.trim();
        if !text.contains(MARK) {
            return;
        }
        if let Some(only) = only_mark(text) {
            return references
                .get(only)
                .into_iter()
                .for_each(|only| self.reference(only, wanted));
        }
        if self.depth >= MAX_DEPTH {
            return self.all(&marked(text, references));
        }
        self.depth += 1;
        let fields = decode::entries(text);
        let items = decode::items(&Value::from(text)).unwrap_or_default();
        if wanted.is_whole {
            let parts: Vec<&Value> = match &fields {
                Some(fields) => fields.values().collect(),
                None => items.iter().collect(),
            };
            let is_part = |part: &&Value| part.as_str().is_none_or(|it| it.len() < text.len());
            if !parts.iter().any(is_part) && text.starts_with(['{', '[']) {
                // The values of the references bring the separators.
                self.all(&marked(text, references));
            }
            // A text without separators is its only item.
            for part in parts.into_iter().filter(is_part) {
                self.value(part, wanted, references);
            }
        } else {
            let mut leads_nowhere = false;
            for (name, below) in &wanted.below {
                let field = fields.as_ref().and_then(|fields| fields.get(name));
                let item = || items.get(key::list_index(name)?);
                match field.or_else(item) {
                    Some(part) => self.value(part, below, references),
                    None => leads_nowhere = true,
                }
            }
            if leads_nowhere {
                self.all(&marked(text, references));
            }
        }
        self.depth -= 1;
    }

    /// Adds the targets of all references in a text, whatever else is in their place.
    fn all(&mut self, references: &[&Part<'_>]) {
        for reference in references {
            self.reference(reference, &WHOLE);
        }
    }

    /// Adds the target of a reference, and the targets of its default.
    fn reference(&mut self, reference: &Part<'_>, wanted: &Wanted) {
        let Part::Reference { key, default, .. } = reference else {
            return;
        };
        let target = match key.0.as_slice() {
            [Part::Text(name)] => Key::parse(name.trim()).ok(),
            _ => {
                self.add_fixed();
                self.computed(key)
            }
        };
        if let Some(target) = target.filter(|target| !target.is_root()) {
            self.add(&target, self.known(wanted));
        }
        if let Some(default) = default {
            self.parts(default, wanted);
        }
    }

    /// The key whose name is computed from the values of other keys.
    fn computed(&self, name: &Parts<'_>) -> Option<Key> {
        let name = self.resolver(|resolver| resolver.resolve_text(name).ok())?;
        Key::parse(name.trim()).ok()
    }

    fn resolver<R>(&self, act: impl FnOnce(&mut LeafResolver<'_>) -> R) -> R {
        let jobs = BTreeMap::new();
        let context = Context {
            may_be_secret: &|_| false,
            keeps_unresolved: true,
            layers: None,
        };
        let progress = Progress::default();
        act(&mut LeafResolver::new(
            &jobs,
            self.root,
            context,
            progress,
            usize::MAX,
        ))
    }

    /// Adds what is at the wanted paths of a target.
    fn add(&mut self, target: &Key, wanted: &Wanted) {
        let found = &mut self.found;
        wanted.each_path(&mut Vec::new(), &mut |path| {
            let names = target.segments().map(String::from);
            let names = names.chain(path.iter().map(|name| (*name).to_owned()));
            // A path that is too long for a key is hidden by the key above it.
            let key = Key::from_segments(names.collect::<Vec<_>>());
            found.push(key.unwrap_or_else(|_| target.clone()));
        });
    }
}

/// The number of the reference that a text consists of.
fn only_mark(text: &str) -> Option<usize> {
    let inside = text.strip_prefix(MARK)?.strip_suffix(MARK)?;
    inside.parse().ok()
}

/// The references that a part of a text has.
fn marked<'p, 'a>(text: &str, references: &[&'p Part<'a>]) -> Vec<&'p Part<'a>> {
    let numbers = text.split(MARK).skip(1).step_by(2);
    let numbers = numbers.filter_map(|number| number.parse::<usize>().ok());
    numbers
        .filter_map(|at| references.get(at).copied())
        .collect()
}
