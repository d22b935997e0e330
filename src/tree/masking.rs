//! Decoding that records which keys are secret, and errors that show no secret.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::decode::{self, Mask, SecretKeys};
use crate::error::Error;
use crate::tree::found::Found;
use crate::tree::interpolate::add_referred;
use crate::tree::rivals::Decided;
use crate::tree::snapshot::Generation;
use crate::value::hamt::Entry;
use crate::value::key::Key;
use crate::value::node::{Node, Resolved};

/// The note about a reference to a secret that is missing after a start from the cache.
const NOT_KEPT: &str = "the key has no value until its source answers in full, as secrets are not kept on disk; \
                        see `Cached::with_secrets`";

impl Generation {
    /// Decodes again, for an error that shows nothing of what is known to be secret by now.
    fn decode_masked<T: DeserializeOwned>(&self, key: &str, found: Found<'_>) -> Result<T, Error> {
        let mut mask = self.mask(key, found);
        if let Some(Node::Resolved(resolved)) = found.leaf().map(|entry| &entry.node) {
            if resolved.value.is_err() {
                // Nothing of a secret went into the value, since there is none.
                mask.all = self.secrets.hides(key);
            }
        }
        let shown = |error: &Error, resolved: &Resolved| self.shown_error(error, resolved);
        let marked = |node: &Node| {
            node.map_resolved(&|resolved| {
                let mut marked = resolved.clone();
                marked.secret = self.refers_to_secret(resolved);
                marked.value = marked.value.map_err(|error| shown(&error, resolved));
                Node::Resolved(Box::new(marked))
            })
        };
        match found {
            Found::Root(table) => match marked(&Node::Table(table.clone())) {
                Node::Table(table) => decode::from_table(key, Some(&table), mask),
                node => decode::from_node(key, Some(&node), mask),
            },
            Found::Entry(entry) => decode::from_node(key, Some(&marked(&entry.node)), mask),
            Found::Broken(entry) => {
                let (name, node) = (entry.name.clone(), marked(&entry.node));
                Found::Broken(&Arc::new(Entry { name, node })).decode(key, mask)
            }
            found => found.decode(key, mask),
        }
    }

    /// The error of a leaf that cannot be read, as it may be shown. What looks like an unresolved
    /// reference may be a part of a secret: of the leaf, or of one that it gets its error from.
    pub(crate) fn shown_error(&self, error: &Error, resolved: &Resolved) -> Error {
        let hides = error.is_unresolved() && self.breaks_through_secret(error, resolved);
        let masked = hides.then(|| error.without(&|_| true)).flatten();
        let shown = masked.unwrap_or_else(|| error.clone());
        let is_not_kept = |key: &Key| {
            let found = Found::in_tree(&self.root, key.as_str());
            found.is_ok_and(|found| found.is_nothing())
                && self
                    .layers
                    .iter()
                    .any(|layer| layer.lacks_secret(key.as_str()))
        };
        if error.is_unresolved() && resolved.refers.iter().any(is_not_kept) {
            return shown.with_note(NOT_KEPT);
        }
        shown
    }

    /// Whether a leaf whose references are broken, or one with a broken reference that it refers to,
    /// may hold a secret.
    fn breaks_through_secret(&self, error: &Error, resolved: &Resolved) -> bool {
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let mut queue = vec![(error, resolved)];
        while let Some((error, resolved)) = queue.pop() {
            let key = error.key_text();
            if key.is_some_and(|key| self.secrets.hides_part(key)) {
                return true;
            }
            for key in resolved
                .refers
                .iter()
                .filter(|key| seen.insert((*key).clone()))
            {
                let next = match Found::in_tree(&self.root, key.as_str()) {
                    Ok(Found::Entry(next) | Found::Inside(_, next) | Found::Broken(next)) => next,
                    Ok(Found::Nothing | Found::Root(_)) | Err(_) => continue,
                };
                if let Node::Resolved(next) = &next.node {
                    queue.extend(next.value.as_ref().err().map(|error| (error, &**next)));
                }
            }
        }
        false
    }

    /// What an error about a key does not show: all of it if the key is secret, and what is secret
    /// below it.
    pub(crate) fn mask(&self, key: &str, found: Found<'_>) -> Mask<'_> {
        let entry = match found {
            Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry) => Some(entry),
            Found::Nothing | Found::Root(_) => None,
        };
        let derived = entry.is_some_and(|entry| self.derives_from_secret(entry));
        Mask {
            all: derived || self.secrets.is_secret(key) || self.is_hidden_item(key, found),
            secrets: Some(&self.secrets),
        }
    }

    /// Decodes the value of a key, and from now on hides what was read as a secret. Errors do not
    /// show what may be one.
    pub(crate) fn decode_recording<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
    ) -> Result<T, Error> {
        self.check_arguments::<T>(key, found)?;
        match self.decode_once_recording(key, found, None) {
            Ok(value) => Ok(value),
            Err(error) => match self.without_rivals::<T>(key, found, error) {
                Some(decided) => {
                    let found = Found::Entry(&decided.entry);
                    let outcome = self.decode_once_recording(key, found, Some(&decided));
                    outcome.or_else(|_| self.decode_masked(key, found))
                }
                None => self.decode_masked(key, found),
            }
            .map_err(|error| self.explain_argument(self.explain_referred(error))),
        }
    }

    fn decode_once_recording<T: DeserializeOwned>(
        &self,
        key: &str,
        found: Found<'_>,
        decided: Option<&Decided>,
    ) -> Result<T, Error> {
        let mut secrets = SecretKeys::default();
        let outcome = found.decode_recording(key, &mut secrets);
        if outcome.is_err() {
            self.add_broken_secrets::<T>(key, found, &mut secrets);
        }
        if let Some(decided) = decided {
            decided.add_replaced(&mut secrets);
        }
        add_referred(&self.root, &mut secrets.certain);
        add_referred(&self.root, &mut secrets.possible);
        self.secrets.add_read(secrets);
        outcome
    }

    /// Decodes an absent subtree as an empty one, and from now on hides what is read as a secret in it.
    pub(crate) fn decode_absent<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        let mut secrets = SecretKeys::default();
        let outcome = decode::from_table_recording(key, None, false, &mut secrets);
        self.secrets.add_read(secrets);
        // What is read later is a secret before it is there.
        self.secrets.add_all(decode::secret_keys::<T>(key));
        outcome
    }

    /// Hides from now on the fields of a struct that it reads as secrets, also those that are absent.
    pub(super) fn hide_fields<T: DeserializeOwned + 'static>(&self, key: &str, found: Found<'_>) {
        let is_table = match found {
            Found::Root(_) => true,
            Found::Entry(entry) => entry.node.table().is_some(),
            Found::Nothing | Found::Inside(..) | Found::Broken(_) => false,
        };
        if is_table {
            let mut fields = decode::secret_fields::<T>(key);
            add_referred(&self.root, &mut fields);
            self.secrets.add_all(fields);
        }
    }

    /// Whether the value of a key may be a secret, or be made from one.
    pub(crate) fn hides(&self, key: &str, found: Found<'_>) -> bool {
        let entry = match found {
            Found::Entry(entry) | Found::Inside(_, entry) | Found::Broken(entry) => Some(entry),
            Found::Nothing | Found::Root(_) => None,
        };
        self.secrets.hides(key)
            || self.is_hidden_item(key, found)
            || entry.is_some_and(|entry| self.derives_from_secret(entry))
    }

    /// Whether a key is in a list that replaces a table with a secret.
    fn is_hidden_item(&self, key: &str, found: Found<'_>) -> bool {
        matches!(found, Found::Inside(..)) && self.secrets.hides_item(key)
    }

    /// Whether a secret went into a value through its references. Asked when a value is to be
    /// shown, since a key may turn out to be a secret after others have referred to it.
    pub(crate) fn derives_from_secret(&self, entry: &Entry) -> bool {
        matches!(&entry.node, Node::Resolved(resolved) if self.refers_to_secret(resolved))
    }

    pub(crate) fn refers_to_secret(&self, resolved: &Resolved) -> bool {
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let mut queue = vec![resolved];
        while let Some(resolved) = queue.pop() {
            if resolved.secret {
                return true;
            }
            for key in resolved
                .refers
                .iter()
                .filter(|key| seen.insert((*key).clone()))
            {
                if self.secrets.hides(key.as_str()) {
                    return true;
                }
                if let Ok(Found::Entry(next) | Found::Inside(_, next)) =
                    Found::in_tree(&self.root, key.as_str())
                {
                    if let Node::Resolved(next) = &next.node {
                        queue.push(next);
                    }
                }
            }
        }
        false
    }
}
