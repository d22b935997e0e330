//! Follows one file.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Instant;

use crate::source::{Source, SourceContext};
use crate::sources::fs::file::{File, GRACE};
use crate::sources::fs::watch::RENAME_GAP;
use crate::sources::fs::watch::chain::{End, Reach};
use crate::sources::fs::watch::follow::{Changed, Target};
use crate::sources::fs::watch::history::History;
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{self, Content, FileStamp, ReadError};
use crate::sources::shared::digest::Digest;

/// The digest of a missing file.
const MISSING_DIGEST: u64 = 0;

/// A file that a watch follows.
pub(super) struct Followed<'a> {
    file: &'a File,
    digest: Digest,
    history: History,
    /// The result of the last scan, until it is committed.
    scanned: Option<Result<(u64, Content), ReadError>>,
    missing: Option<Missing>,
}

/// A missing file.
#[derive(Clone, Copy)]
struct Missing {
    since: Instant,
    /// Whether its directory exists.
    has_parent: bool,
}

impl<'a> Followed<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self {
            file,
            digest: file.memory.lock().digest.clone(),
            history: History::default(),
            scanned: None,
            missing: None,
        }
    }

    /// Whether the first load has accepted this content.
    fn is_loaded(&self, digest: u64) -> bool {
        let memory = self.file.memory.lock();
        matches!(&memory.loaded, Some((loaded, _)) if *loaded == digest)
    }

    fn commit_missing(&mut self, updates: &SourceContext) {
        let options = &self.file.options;
        let has_existed = self.file.memory.lock().has_existed;
        if !has_existed && options.allows_missing {
            return self.drop_values(updates);
        }
        let Some(missing) = self.missing else { return };
        let duration = missing.since.elapsed();
        if duration >= GRACE && missing.has_parent && options.drop_when_missing {
            return self.drop_values(updates);
        }
        if duration >= RENAME_GAP && !self.history.is_current(MISSING_DIGEST) {
            let error = ReadError::Missing.error(&self.file.origin());
            self.history.report_error(error, updates);
        }
    }

    fn drop_values(&mut self, updates: &SourceContext) {
        if self.history.is_current(MISSING_DIGEST) {
            return self.history.confirm(MISSING_DIGEST, updates);
        }
        if self.history.is_known_failure(MISSING_DIGEST, updates) {
            return;
        }
        if self
            .history
            .send(MISSING_DIGEST, self.file.absent(), updates)
        {
            let before = std::mem::take(&mut *self.file.memory.lock());
            // The old document may be large, so it is dropped after the lock is released.
            drop(before);
        }
    }

    fn commit_content(&mut self, digest: u64, content: &Content, updates: &SourceContext) {
        if self.history.is_current(digest) {
            return self.history.confirm(digest, updates);
        }
        if self.history.is_known_failure(digest, updates) {
            return;
        }
        let loaded = self.file.memory.lock().loaded.take();
        let parsed = match loaded {
            Some((same, document)) if same == digest => Ok(document),
            _ => self.file.parse(&content.bytes),
        };
        let is_void = read::is_blank(&content.bytes) || parsed.as_ref().is_ok_and(read::is_void);
        let had_values = self.file.memory.lock().has_values;
        if is_void && had_values && !self.file.options.allow_empty {
            let error = read::emptied(&self.file.origin());
            return self.history.record_unusable(digest, error, updates);
        }
        match parsed {
            Err(error) => self.history.record_unusable(digest, error, updates),
            Ok(document) => {
                if self.history.send(digest, document, updates) {
                    let mut memory = self.file.memory.lock();
                    memory.has_existed = true;
                    memory.has_values = !is_void;
                }
            }
        }
    }
}

impl Target for Followed<'_> {
    fn reach(&mut self) -> Reach {
        let mut reach = Reach::default();
        reach.add(&self.file.path, OsStr::new(""));
        reach
    }

    fn is_plain_file(&self) -> bool {
        std::fs::symlink_metadata(&self.file.path).is_ok_and(|data| data.is_file())
    }

    fn scan(&mut self, incomplete: &HashSet<Tag>, is_plain_file: bool) -> Vec<Changed> {
        if incomplete.contains(OsStr::new("")) {
            // A file that is being written exists.
            self.missing = None;
            return Vec::new();
        }
        let found = if is_plain_file {
            read::read_regular(&self.file.path)
        } else {
            self.file.read()
        };
        let found = found.map(|content| (self.digest.of(&content.bytes), content));
        let mut changed = Vec::new();
        match &found {
            Ok((digest, content)) if self.history.is_new(*digest) => {
                self.missing = None;
                changed.push(Changed {
                    tag: OsString::new(),
                    digest: *digest,
                    stamp: content.stamp.clone(),
                    torn: content.torn,
                    recent: content.may_be_incomplete() && !self.is_loaded(*digest),
                });
            }
            Err(ReadError::Missing) => {
                let has_parent = has_parent(&self.file.path);
                let since = match self.missing {
                    // The return of the directory restarts the grace period.
                    Some(missing) if missing.has_parent == has_parent => missing.since,
                    _ => Instant::now(),
                };
                self.missing = Some(Missing { since, has_parent });
            }
            _ => self.missing = None,
        }
        self.scanned = Some(found);
        changed
    }

    fn stamp(&self, _: &OsStr) -> Option<FileStamp> {
        FileStamp::at(&self.file.path)
    }

    fn commit(
        &mut self,
        incomplete: &HashSet<Tag>,
        updates: &SourceContext,
    ) -> HashMap<Tag, FileStamp> {
        if incomplete.contains(OsStr::new("")) {
            return HashMap::new();
        }
        match self.scanned.take() {
            None => {}
            Some(Err(ReadError::Missing)) => self.commit_missing(updates),
            Some(Err(fault)) => {
                let error = fault.error(&self.file.origin());
                self.history.report_error(error, updates);
            }
            Some(Ok((digest, content))) => {
                self.commit_content(digest, &content, updates);
            }
        }
        HashMap::new()
    }

    fn mark_present(&mut self, _: &OsStr) {
        self.missing = None;
    }

    fn deadline(&self) -> Option<Instant> {
        let missing = self.missing?;
        let now = Instant::now();
        [RENAME_GAP, GRACE]
            .into_iter()
            .map(|pause| missing.since + pause)
            .find(|at| *at > now)
    }
}

/// Whether the directory of the file exists, with all links followed.
fn has_parent(path: &Path) -> bool {
    matches!(
        Reach::default().add(path, OsStr::new("")),
        End::Absent(_) | End::Here(_)
    )
}
