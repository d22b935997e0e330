//! What an update loses because other parts of it are rejected.

use crate::engine::commit::rejection::{KeyIndex, Scope};
use crate::error::{Error, ErrorKind};
use crate::value::key::Key;
use crate::value::origin::Origin;

/// At most so many withheld keys are reported: health keeps few errors, and those that name the bad
/// keys come first.
const MAX_REPORTED: usize = 32;

/// The rejected and withheld parts of an update that is committed without them.
#[derive(Default)]
pub(super) struct Withheld {
    pub(super) rejected: Vec<Error>,
    pub(super) keys: Vec<Key>,
}

impl Withheld {
    /// Adds an error for each key that is withheld although no error names it.
    pub(super) fn new(mut rejected: Vec<Error>, keys: Vec<(Key, Option<Origin>)>) -> Self {
        report(&mut rejected, &keys);
        let keys = keys.into_iter().map(|(key, _)| key).collect();
        Self { rejected, keys }
    }
}

/// What to withhold in a round: the next scope if one comes to nothing.
pub(super) fn scopes(round: usize) -> &'static [Scope] {
    match round {
        0..2 => &[Scope::Named, Scope::Beside, Scope::All],
        2..4 => &[Scope::Beside, Scope::All],
        _ => &[Scope::All],
    }
}

fn report(rejected: &mut Vec<Error>, keys: &[(Key, Option<Origin>)]) {
    let named: Vec<Key> = rejected
        .iter()
        .flat_map(Error::iter)
        .filter_map(|error| error.key().cloned())
        .collect();
    let index = KeyIndex::new(named.iter());
    let is_unnamed = |key: &Key| {
        let mut related = index.related(key.as_str());
        related.all(Key::is_root)
    };
    let with = named.iter().find(|key| !key.is_root());
    let with = with.map(|key| format!("`{key}` of ")).unwrap_or_default();
    let unnamed: Vec<_> = keys.iter().filter(|(key, _)| is_unnamed(key)).collect();
    let more = unnamed.len().saturating_sub(MAX_REPORTED);
    let errors = unnamed.into_iter().take(MAX_REPORTED).map(|(key, origin)| {
        let detail = format!(
            "is withheld with {with}the same update, which was rejected; it counts when the update is \
             accepted"
        );
        let error = Error::new(ErrorKind::Rejected, detail).with_key(key);
        match origin {
            Some(origin) => error.with_origin(origin),
            None => error,
        }
    });
    rejected.extend(errors.collect::<Vec<_>>());
    if more > 0 {
        let last = rejected.pop();
        let note = format!("{more} more keys are withheld with it");
        rejected.extend(last.map(|last| last.with_more(&note)));
    }
}
