//! Follows a directory of fragments.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::time::Instant;

use crate::source::{Source, SourceContext};
use crate::sources::fs::dir::scan::Scan;
use crate::sources::fs::dir::{Dir, MAX_START_WAIT, explain};
use crate::sources::fs::watch::RENAME_GAP;
use crate::sources::fs::watch::chain::{End, Reach};
use crate::sources::fs::watch::follow::{Changed, Target};
use crate::sources::fs::watch::history::{History, Outcome};
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{FileStamp, ReadError};
use crate::value::document::Document;

/// A directory that a watch follows.
pub(super) struct Followed<'a> {
    dir: &'a Dir,
    history: History,
    /// The result of the last scan, until it is committed.
    scanned: Option<Result<Scan, ReadError>>,
    /// Since when the directory is missing.
    missing_since: Option<Instant>,
    started: Instant,
    /// Whether anything was sent.
    has_sent: bool,
}

impl<'a> Followed<'a> {
    pub(super) fn new(dir: &'a Dir) -> Self {
        Self {
            dir,
            history: History::default(),
            scanned: None,
            missing_since: None,
            started: Instant::now(),
            has_sent: false,
        }
    }

    fn commit_missing(&mut self, updates: &SourceContext) {
        let since = *self.missing_since.get_or_insert_with(Instant::now);
        if !self.dir.memory.lock().has_existed && self.dir.options.allows_missing {
            if self.history.is_current(0) {
                updates.heartbeat();
            } else {
                self.history.send(0, Document::new(), updates);
            }
        } else if since.elapsed() >= RENAME_GAP {
            let error = explain(ReadError::Missing, &self.dir.origin());
            self.history.report_error(error, updates);
        }
    }
}

impl Target for Followed<'_> {
    fn reach(&mut self) -> Reach {
        let mut reach = Reach::default();
        if let End::Here(path) = reach.add(&self.dir.path, OsStr::new("")) {
            reach.add_new_names(&path, self.dir.names());
            // A link leads elsewhere; the name of a plain file is followed already.
            for (name, is_link) in self.dir.list().unwrap_or_default() {
                if is_link {
                    reach.add(&path.join(&name), &name);
                }
            }
        }
        reach
    }

    fn scan(&mut self, incomplete: &HashSet<Tag>, _: bool) -> Vec<Changed> {
        let memory = self.dir.memory.lock();
        let found = self.dir.scan(&memory.digest, incomplete);
        let mut changed = Vec::new();
        for (name, file) in found.iter().flat_map(|scan| &scan.files) {
            let Ok((digest, content)) = file else {
                continue;
            };
            let known = memory.fragments.get(name).and_then(|it| it.last);
            if known != Some(*digest) {
                changed.push(Changed {
                    tag: name.clone(),
                    digest: *digest,
                    stamp: content.stamp.clone(),
                    torn: content.torn,
                    recent: content.may_be_incomplete(),
                });
            }
        }
        self.scanned = Some(found);
        changed
    }

    fn stamp(&self, tag: &OsStr) -> Option<FileStamp> {
        FileStamp::at(&self.dir.path.join(tag))
    }

    fn commit(
        &mut self,
        incomplete: &HashSet<Tag>,
        updates: &SourceContext,
    ) -> HashMap<Tag, FileStamp> {
        let scan = match self.scanned.take() {
            None => return HashMap::new(),
            Some(Err(ReadError::Missing)) => {
                self.commit_missing(updates);
                return HashMap::new();
            }
            Some(Err(fault)) => {
                let error = explain(fault, &self.dir.origin());
                self.history.report_error(error, updates);
                return HashMap::new();
            }
            Some(Ok(scan)) => scan,
        };
        self.missing_since = None;
        // The first update waits for fragments that are about to be complete.
        let is_early =
            !self.has_sent && !incomplete.is_empty() && self.started.elapsed() < MAX_START_WAIT;
        // A change of the directory itself concerns all fragments, and the next scan follows soon.
        if is_early || incomplete.contains(OsStr::new("")) {
            return scan.stamps(|name| !incomplete.contains(name));
        }
        self.has_sent = true;
        let mut memory = self.dir.memory.lock();
        let dangling = Dir::dangling(&mut memory, &scan, RENAME_GAP);
        let mut waiting: HashSet<Tag> = incomplete.union(&dangling).cloned().collect();
        let removed = self.dir.removed(&memory, &scan);
        waiting.retain(|name| !removed.contains(name));
        let all = self.dir.add_related(&memory, &scan, &waiting);
        let deferred = scan.stamps(|name| all.contains(name) && !incomplete.contains(name));
        self.dir.apply_scan(&mut memory, scan, &all, RENAME_GAP);
        let (digest, document) = self.dir.compose(&memory);
        let content = memory.usable();
        drop(memory);
        let outcome = if self.history.is_current(digest) {
            self.history.confirm(digest, updates);
            Outcome::Accepted
        } else if self.history.is_known_failure(digest, updates) {
            return deferred;
        } else if self.history.send(digest, document, updates) {
            Outcome::Accepted
        } else if self.history.is_withheld() {
            Outcome::Withheld
        } else {
            Outcome::Rejected
        };
        self.dir.memory.lock().record_outcome(&content, outcome);
        deferred
    }

    fn mark_present(&mut self, tag: &OsStr) {
        if let Some(fragment) = self.dir.memory.lock().fragments.get_mut(tag) {
            fragment.missing_since = None;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let memory = self.dir.memory.lock();
        let missing = memory
            .fragments
            .values()
            .filter_map(|fragment| fragment.missing_since);
        let now = Instant::now();
        missing
            .chain(self.missing_since)
            .map(|since| since + RENAME_GAP)
            .filter(|at| *at > now)
            .min()
    }
}
