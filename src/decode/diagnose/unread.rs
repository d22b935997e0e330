//! After a failed read, finds the values that the type has not come to and that may be secrets.
//!
//! A read that fails has read nothing of the values that the diagnosis replaced or left out. If the type may
//! read a secret there, each of these values counts as one, unless its type is known to be plain. So a tag or
//! a variant that no type knows hides what stands below it. The names that a struct ignores are no secrets.

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use crate::decode::diagnose::diagnosis::{Diagnosis, Unread, parent};
use crate::decode::diagnose::secret_trials::{SecretTrials, TrialScope, Verdict, names_below};
use crate::decode::diagnose::type_tree::{Content, TypeTree};
use crate::decode::diagnose::visits::below;
use crate::decode::input::Input;
use crate::decode::request::Request;
use crate::value::key;
use crate::value::secret::buffered::{SecretKeys, unnamed_below};

/// Records the keys of the values that a `T` has not read and that may be secrets. `is_complete` says whether
/// the type accepted what the diagnosis has left.
#[cold]
pub(super) fn record<T: DeserializeOwned>(
    request: Request<'_>,
    diagnosis: &RefCell<Diagnosis>,
    trials: &SecretTrials,
    is_complete: bool,
) {
    let Some(secret_keys) = request.secret_keys.filter(|_| !request.is_traced) else {
        return;
    };
    let scope = TrialScope::<T>::new(request, diagnosis, trials);
    if !scope.tree.may_hold_secret() {
        return;
    }
    let places = diagnosis.borrow().unread(request.key, is_complete);
    let mut search = Search {
        scope,
        keys: SecretKeys::default(),
    };
    for place in places {
        search.add_place(&place);
    }
    let mut secret_keys = secret_keys.borrow_mut();
    secret_keys.certain.append(&mut search.keys.certain);
    secret_keys.possible.append(&mut search.keys.possible);
}

struct Search<'a, T> {
    scope: TrialScope<'a, T>,
    keys: SecretKeys,
}

/// What stands at a path.
enum Written<'a> {
    Value(Input<'a>),
    /// A part of a text.
    InText,
    Nothing,
}

impl<'a, T: DeserializeOwned> Search<'a, T> {
    fn add_place(&mut self, place: &Unread) {
        let (Unread::Replaced(path) | Unread::LeftOut(path)) = place;
        let names = names_below(self.scope.request.key, path);
        let tree = self.scope.tree.clone();
        let (entry, known, _) = tree.find(&names);
        let is_known = known == names.len() || entry.content == Content::Any;
        if !is_known && entry.content == Content::Struct {
            // The struct rejects the name, and reads nothing there.
            return;
        }
        match written_at(self.scope.request.input, &names) {
            Written::Value(input) if is_known => {
                // A placeholder that was read shows whether the value as a whole is a secret.
                let is_flat = matches!(place, Unread::LeftOut(_)) && known > 0;
                let is_flat = is_flat && tree.find(&names[..known - 1]).0.entry("").is_some();
                self.walk(entry, input, path, is_flat);
            }
            Written::Value(input) if self.may_hold(path) => self.add_all(input, path),
            Written::InText if self.may_hold(path) => self.keys.possible.push(unnamed_below(path)),
            Written::Nothing if is_known => {
                self.add_absent(entry, path, &mut Vec::new(), path.clone());
            }
            _ => {}
        }
    }

    fn may_hold(&self, path: &str) -> bool {
        self.scope.holds_secret(path, &[])
    }

    /// Adds the values at and below a path that may be secrets. `is_shared` says whether the entry stands for
    /// all of its container.
    fn walk(&mut self, entry: &TypeTree, input: Input<'_>, path: &str, is_shared: bool) {
        if !entry.may_hold_secret() {
            return;
        }
        match entry.content {
            Content::Secret => self.keys.certain.push(path.to_owned()),
            Content::Any => self.add_untyped(input, path, is_shared),
            Content::Plain | Content::Entries | Content::Struct => {
                self.walk_entries(entry, input, path);
            }
        }
    }

    fn walk_entries(&mut self, entry: &TypeTree, input: Input<'_>, path: &str) {
        let Some(children) = children(input) else {
            if is_scalar(input) && self.may_hold(path) {
                self.keys.possible.push(unnamed_below(path));
            }
            return;
        };
        let is_struct = entry.content == Content::Struct && !matches!(input, Input::List(_));
        for (name, child) in &children {
            let path_of_child = below(path, name);
            match entry.entry(name) {
                Some((typed, is_shared)) if is_struct || entry.content != Content::Struct => {
                    self.walk(typed, *child, &path_of_child, is_shared);
                }
                // A struct ignores it.
                None if is_struct => {}
                _ if self.may_hold(path) => self.add_all(*child, &path_of_child),
                _ => {}
            }
        }
        for (name, typed) in entry.entries.iter().filter(|_| is_struct) {
            let is_absent = |name: &&str| !children.iter().any(|(child, _)| child == name);
            if let Some(name) = name.filter(is_absent).filter(|_| typed.may_hold_secret()) {
                self.add_absent(typed, path, &mut vec![name.to_owned()], below(path, name));
            }
        }
    }

    /// Adds the values of a type that accepts any, but for those that are known to be plain.
    fn add_untyped(&mut self, input: Input<'_>, path: &str, is_shared: bool) {
        // What a struct flattens is read from the table around it.
        let around = parent(path).filter(|_| is_shared && path != self.scope.request.key);
        let holds_around = || around.as_ref().is_some_and(|table| self.may_hold(table));
        if !self.may_hold(path) && !holds_around() {
            return;
        }
        let mut values = Vec::new();
        add_values(input, path, &mut values);
        for value in values {
            let table = if value == path {
                around.as_deref()
            } else {
                Some(path)
            };
            let verdict = table.map_or(Verdict::Unknown, |table| self.scope.judge(table, &value));
            match verdict {
                Verdict::Secret => self.keys.possible.push(value),
                Verdict::Unknown => self.keys.possible.push(unnamed_below(&value)),
                Verdict::Plain => {}
            }
        }
    }

    /// Adds all values at and below a path.
    fn add_all(&mut self, input: Input<'_>, path: &str) {
        let mut values = Vec::new();
        add_values(input, path, &mut values);
        let keys = values.iter().map(|value| unnamed_below(value));
        self.keys.possible.extend(keys);
    }

    /// Adds the keys of the secrets of an absent value, `names` below `place`. In a list or a map, and where
    /// the names are not known, the whole container counts.
    fn add_absent(&mut self, entry: &TypeTree, place: &str, names: &mut Vec<String>, key: String) {
        let each = entry.entries.get(&None);
        let is_secret = |entry: &TypeTree| entry.content == Content::Secret;
        if is_secret(entry) || each.is_some_and(|each| each.has_secret) {
            self.keys.certain.push(key);
            return;
        }
        let is_unnamed =
            entry.content == Content::Any || each.is_some_and(TypeTree::may_hold_secret);
        if is_unnamed && self.scope.holds_secret(place, names) {
            self.keys.possible.push(key);
            return;
        }
        for (name, entry) in &entry.entries {
            if let Some(name) = name.filter(|_| entry.may_hold_secret()) {
                names.push(name.to_owned());
                self.add_absent(entry, place, names, below(&key, name));
                names.pop();
            }
        }
    }
}

/// What a value has at the names below it. The value of a broken reference has nothing.
fn written_at<'a>(input: Input<'a>, names: &[String]) -> Written<'a> {
    let mut here = input;
    for name in names {
        let next = match here {
            Input::Table(table) => table.get(name).map(|entry| Input::of_node(&entry.node).0),
            Input::Fields(fields) => fields.get(name).map(Input::of_value),
            Input::List(items) => {
                let item = key::list_index(name).and_then(|at| items.get(at));
                item.map(Input::of_value)
            }
            Input::Text(_) => return Written::InText,
            _ => None,
        };
        match next {
            Some(next) => here = next,
            None => return Written::Nothing,
        }
    }
    match here {
        Input::Absent | Input::Nothing => Written::Nothing,
        input => Written::Value(input),
    }
}

/// The entries of a container.
fn children(input: Input<'_>) -> Option<Vec<(String, Input<'_>)>> {
    Some(match input {
        Input::Table(table) => {
            let entries = table.map().iter();
            entries
                .map(|entry| (entry.name.to_string(), Input::of_node(&entry.node).0))
                .collect()
        }
        Input::Fields(fields) => fields
            .iter()
            .map(|(name, value)| (name.to_owned(), Input::of_value(value)))
            .collect(),
        Input::List(items) => {
            let items = items.iter().enumerate();
            items
                .map(|(at, item)| (at.to_string(), Input::of_value(item)))
                .collect()
        }
        _ => return None,
    })
}

/// Whether it is a value without entries. The text of a broken reference is not known here.
fn is_scalar(input: Input<'_>) -> bool {
    !input.is_container()
        && !matches!(
            input,
            Input::Absent | Input::Nothing | Input::Failed(_) | Input::Placeholder(_)
        )
}

/// Adds the paths of the values that are no containers.
fn add_values(input: Input<'_>, path: &str, paths: &mut Vec<String>) {
    match children(input) {
        Some(children) => {
            for (name, child) in children {
                add_values(child, &below(path, &name), paths);
            }
        }
        None if is_scalar(input) => paths.push(path.to_owned()),
        None => {}
    }
}
