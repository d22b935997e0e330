//! Commits what the program writes into the override layer.

use crate::engine::commit::bootstrap::reject_ineffective_write;
use crate::engine::commit::edit::Editor;
use crate::engine::commit::{Base, CommitState, Committed, Condition, OVERRIDES};
use crate::error::{Error, ErrorKind};
use crate::source::Edit;
use crate::tree::diff;
use crate::tree::snapshot::{Found, Generation};
use crate::value::Value;
use crate::value::key::Key;

impl CommitState {
    /// Writes into the override layer if all conditions hold.
    pub(super) fn write(
        &mut self,
        base: &Base<'_>,
        edits: Vec<Edit>,
        conditions: Vec<Condition>,
    ) -> Result<Committed, Error> {
        for condition in conditions {
            condition.check(&base.old)?;
        }
        let at = base.index_of(OVERRIDES)?;
        for edit in &edits {
            reject_ineffective_write(&base.old.layers, &edit.key)?;
        }
        self.edit(base, at, edits, Editor::Program)
    }
}

impl Condition {
    fn check(self, old: &Generation) -> Result<(), Error> {
        match self {
            Condition::Generation(expected) if expected == old.number() => Ok(()),
            Condition::Generation(expected) => {
                let detail = format!(
                    "generation {expected} was expected and {} is in force; read again and retry",
                    old.number()
                );
                Err(Error::new(ErrorKind::Conflict, detail))
            }
            Condition::Value(key, expected) => {
                if has_value(old, &key, expected.as_ref())? {
                    return Ok(());
                }
                let detail = "its value changed; read again and retry";
                Err(Error::new(ErrorKind::Conflict, detail).with_key(key))
            }
        }
    }
}

/// Whether a key has this value; `None` is for an absent key. A table and a broken reference are neither absent
/// nor a value.
fn has_value(old: &Generation, key: &Key, expected: Option<&Value>) -> Result<bool, Error> {
    let found = Found::in_tree(&old.root, key.as_str())?;
    Ok(match (&found, expected) {
        (Found::Nothing, None) => true,
        (Found::Entry(entry), Some(expected)) => {
            diff::value(&entry.node).is_some_and(|value| value.is(expected))
        }
        (Found::Inside(value, _), Some(expected)) => value.is(expected),
        _ => false,
    })
}
