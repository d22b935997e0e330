//! Produces full updates. Only what has changed since the last one is assembled again.
//!
//! An entry that cannot be read is a fault. An entry that another one excludes is a clash. Both are problems.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::source::Update;
use crate::sources::shared::kv::mirror::Mirror;
use crate::value::document::Document;
use crate::value::origin::Origin;

/// The most problems that an update reports one by one.
pub(super) const MAX_PROBLEMS: usize = 100;

/// The changes that the assembled document does not contain yet.
#[derive(Debug, Default)]
pub(super) enum Unassembled {
    #[default]
    Nothing,
    /// Problems changed, but no readable value.
    Problems,
    /// The values of these keys changed, and perhaps problems.
    Keys(BTreeSet<Arc<str>>),
    /// The document has to be rebuilt from all keys.
    All,
}

impl Unassembled {
    pub(super) fn mark_problems(&mut self) {
        if matches!(self, Self::Nothing) {
            *self = Self::Problems;
        }
    }

    pub(super) fn mark_key(&mut self, key: &Arc<str>) {
        match self {
            Self::Nothing | Self::Problems => *self = Self::Keys([Arc::clone(key)].into()),
            Self::Keys(keys) => drop(keys.insert(Arc::clone(key))),
            Self::All => {}
        }
    }

    pub(super) fn mark_all(&mut self) {
        *self = Self::All;
    }
}

impl Mirror {
    /// The whole state as an update, if anything has changed since the last one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if the keys exceed a limit. Of a single document also its fault, and
    /// [`ErrorKind::Unavailable`] if it never existed.
    pub(crate) fn update(
        &mut self,
        revision: impl Into<Arc<str>>,
    ) -> Result<Option<Update>, Error> {
        self.check()?;
        if matches!(self.unassembled, Unassembled::Nothing) {
            return Ok(None);
        }
        let document = self.document(revision)?;
        Ok(Some(Update::full(document)))
    }

    /// The whole state as a document, whether anything has changed or not. The next [`update`](Self::update) has
    /// only later changes.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub(crate) fn document(&mut self, revision: impl Into<Arc<str>>) -> Result<Document, Error> {
        self.check()?;
        self.assemble();
        let mut document = self.assembly.document().clone();
        document.set_unread(self.entries.unread(self.mapping.kind));
        for problem in self.problems() {
            document.report_problem(problem);
        }
        if let Some(hint) = self.empty_prefix_hint() {
            document.hint(hint);
        }
        document.set_revision(revision);
        Ok(document)
    }

    /// Checks that the state may become an update. While the store is too large, no changes are collected.
    fn check(&mut self) -> Result<(), Error> {
        // The parser of a single document limits its size.
        let is_limited = !self.mapping.is_document();
        if self.entries.is_incomplete() || is_limited && !self.entries.fits() {
            // Any number of keys may change until the store fits, and their names would take memory without a
            // bound. A rebuild needs no names.
            self.unassembled.mark_all();
            return Err(self.entries.too_large(self.mapping.path()));
        }
        if self.mapping.is_document() {
            if let Some(fault) = self.entries.faults().values().next() {
                return Err(fault.clone());
            }
            // Only a document that never existed is an error: a deleted one removes its values, as any key does.
            if !self.had_key {
                return Err(self.missing_document());
            }
        }
        Ok(())
    }

    /// Brings the assembled document up to date.
    fn assemble(&mut self) {
        // A change may end a clash, by which the excluded key gets its value. Only a rebuild finds that.
        let has_clashes = !self.assembly.clashes().is_empty();
        let is_current = match std::mem::take(&mut self.unassembled) {
            Unassembled::Nothing => true,
            Unassembled::Problems => !has_clashes,
            Unassembled::Keys(keys) => {
                let mut keys = keys.iter();
                let (assembly, entries) = (&mut self.assembly, &self.entries);
                !has_clashes && keys.all(|key| assembly.apply(key, entries, &self.mapping))
            }
            Unassembled::All => false,
        };
        if !is_current {
            self.assembly.rebuild(&self.entries);
        }
    }

    /// The error of a document that has never existed.
    fn missing_document(&self) -> Error {
        let detail = "the key does not exist; create it, or start without it by \
                      `.with(|policy| policy.optional())`";
        let origin = Origin::new(self.mapping.kind, self.mapping.path());
        Error::new(ErrorKind::Unavailable, detail).with_origin(origin)
    }

    /// The hint that a prefix has no keys.
    fn empty_prefix_hint(&self) -> Option<Error> {
        if self.entries.count() > 0 || self.mapping.is_document() {
            return None;
        }
        let detail = match self.mapping.path() {
            "" => "the store has no keys".to_owned(),
            prefix => format!("no key of the store begins with `{prefix}`"),
        };
        let origin = Origin::new(self.mapping.kind, self.mapping.path());
        Some(Error::new(ErrorKind::NotFound, detail).with_origin(origin))
    }

    fn problems(&self) -> Vec<Error> {
        let faults = self.entries.faults().values();
        let all = || faults.clone().chain(self.assembly.clashes().values());
        let mut problems: Vec<Error> = all().take(MAX_PROBLEMS).cloned().collect();
        let more = all().count() - problems.len();
        if more > 0 {
            let detail = format!("{more} more keys cannot be used");
            problems.push(Error::new(ErrorKind::Malformed, detail));
        }
        problems
    }
}
