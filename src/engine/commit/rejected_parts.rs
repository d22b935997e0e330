//! The parts of an update that are rejected while the rest is committed.

use crate::engine::commit::rejection::{KeyIndex, Scope};
use crate::error::{Error, ErrorKind};
use crate::value::key::Key;
use crate::value::origin::Origin;

/// At most so many keys that no error names are reported: health keeps few errors, and those that name
/// the bad keys come first.
const MAX_REPORTED: usize = 32;

/// The rejected parts of an update that is committed without them.
#[derive(Default)]
pub(super) struct RejectedParts {
    pub(super) errors: Vec<Error>,
    pub(super) keys: Vec<Key>,
}

impl RejectedParts {
    /// Adds an error for each rejected key that no error names. Several handles may report the same bad
    /// value.
    pub(super) fn new(errors: Vec<Error>, keys: Vec<(Key, Option<Origin>)>) -> Self {
        let mut errors = Error::distinct(errors);
        add_unnamed(&mut errors, &keys);
        let keys = keys.into_iter().map(|(key, _)| key).collect();
        Self { errors, keys }
    }
}

/// The scopes to try in a round, until one of them has keys to reject.
pub(super) fn scopes(round: usize) -> &'static [Scope] {
    match round {
        0..2 => &[Scope::Named, Scope::Beside, Scope::All],
        2..4 => &[Scope::Beside, Scope::All],
        _ => &[Scope::All],
    }
}

fn add_unnamed(errors: &mut Vec<Error>, keys: &[(Key, Option<Origin>)]) {
    let named: Vec<Key> = errors
        .iter()
        .flat_map(Error::iter)
        .filter_map(|error| error.key().cloned())
        .collect();
    let index = KeyIndex::new(named.iter());
    let is_unnamed = |key: &Key| {
        // Only the root may be the first of two and unnamed.
        let related = index.related(key.as_str(), 2);
        related.into_iter().all(Key::is_root)
    };
    let first_named = named.iter().find(|key| !key.is_root());
    let partner = first_named.map(|key| format!("`{key}` of "));
    let partner = partner.unwrap_or_default();
    let unnamed: Vec<_> = keys.iter().filter(|(key, _)| is_unnamed(key)).collect();
    let more = unnamed.len().saturating_sub(MAX_REPORTED);
    let more_errors = unnamed.into_iter().take(MAX_REPORTED).map(|(key, origin)| {
        let detail = format!(
            "is rejected with {partner}the same update; it counts when the update is accepted"
        );
        let error = Error::new(ErrorKind::Rejected, detail).with_key(key);
        match origin {
            Some(origin) => error.with_origin(origin),
            None => error,
        }
    });
    let more_errors: Vec<Error> = more_errors.collect();
    errors.extend(more_errors);
    if more > 0 {
        let last = errors.pop();
        let note = format!("{more} more keys are rejected with it");
        errors.extend(last.map(|last| last.with_more(&note)));
    }
}
