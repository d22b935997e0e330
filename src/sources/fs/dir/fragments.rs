//! The state of each fragment of a directory, from one scan to the next.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::sorted::SortedMap;
use crate::sources::fs::dir::Dir;
use crate::sources::fs::dir::scan::Scan;
use crate::sources::fs::watch::chain::{End, Reach};
use crate::sources::fs::watch::history::Outcome;
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{self, Content, ReadError};
use crate::sources::shared::digest::Digest;
use crate::value::document::Document;
use crate::value::origin::Origin;

/// The state that loads and watches share.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whether the directory has ever existed.
    pub(super) has_existed: bool,
    /// Whether the properties have accepted or rejected an update of the watch. Before that, the
    /// newest content of a load counts as accepted.
    has_outcome: bool,
    pub(super) digest: Digest,
    pub(super) fragments: SortedMap<OsString, Fragment>,
}

/// One file of the directory.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// The content of the last scan.
    pub(super) last: Option<u64>,
    /// The newest content that parses.
    pub(super) parsed: Option<(u64, Document)>,
    /// The content that the properties accepted last, if this is known.
    good: Option<(u64, Document)>,
    /// Whether the properties may have values of it.
    may_have_values: bool,
    pub(super) problem: Option<Error>,
    pub(super) missing_since: Option<Instant>,
    /// Its directory, with all links followed.
    real_dir: Option<PathBuf>,
}

impl Fragment {
    /// Whether the newest content can be used and has values.
    pub(super) fn has_values(&self) -> bool {
        let parsed = self.parsed.as_ref();
        self.problem.is_none() && parsed.is_some_and(|(_, it)| !read::is_void(it))
    }
}

impl Memory {
    /// The effective content of a fragment: the newest, or the last accepted one while the newest cannot be
    /// used.
    pub(super) fn content<'a>(&self, fragment: &'a Fragment) -> Option<&'a (u64, Document)> {
        let parsed = fragment.parsed.as_ref();
        match fragment.problem {
            None => parsed,
            Some(_) => fragment
                .good
                .as_ref()
                .or(parsed.filter(|_| !self.has_outcome)),
        }
    }

    /// The fragments whose newest content can be used, and the digest of it.
    pub(super) fn usable(&self) -> HashMap<Tag, u64> {
        let usable = self.fragments.iter();
        let usable = usable.filter(|(_, fragment)| fragment.problem.is_none());
        usable
            .filter_map(|(name, fragment)| Some((name.clone(), fragment.parsed.as_ref()?.0)))
            .collect()
    }

    /// Records that a load has read the fragments, which the properties are about to accept.
    pub(super) fn record_load(&mut self) {
        if !self.has_outcome {
            for fragment in self.fragments.values_mut() {
                fragment.may_have_values |= fragment.has_values();
            }
        }
    }

    /// Records the outcome of an update with this content.
    pub(super) fn record_outcome(&mut self, content: &HashMap<Tag, u64>, outcome: Outcome) {
        self.has_outcome = true;
        for (name, fragment) in self.fragments.iter_mut() {
            let Some((digest, document)) = &fragment.parsed else {
                continue;
            };
            if content.get(name) != Some(digest) {
                continue;
            }
            let is_good = matches!(&fragment.good, Some((good, _)) if good == digest);
            let has_values = !read::is_void(document);
            match outcome {
                Outcome::Accepted => {
                    fragment.good.clone_from(&fragment.parsed);
                    fragment.may_have_values = has_values;
                }
                // It may be confirmed at any time, so the content of the properties is not known.
                Outcome::Withheld if !is_good => {
                    fragment.good = None;
                    fragment.may_have_values |= has_values;
                }
                Outcome::Withheld | Outcome::Rejected => {}
            }
        }
    }
}

impl Dir {
    pub(super) fn origin_of(&self, name: &OsStr) -> Origin {
        Origin::new("file", self.given.join(name).display().to_string())
    }

    fn parse(&self, name: &OsStr, bytes: &[u8]) -> Result<Document, Error> {
        let format = self
            .options
            .format
            .or_else(|| Format::of_path(name.as_ref()));
        let origin = self.origin_of(name);
        match format {
            Some(format) => {
                let mut document = format.parse(bytes, &origin)?;
                if !self.options.allow_empty {
                    read::report_void(&mut document, &origin);
                }
                Ok(document)
            }
            None => {
                let detail = Format::unknown(name.as_ref());
                Err(Error::new(ErrorKind::Malformed, detail).with_origin(origin))
            }
        }
    }

    /// Applies a scan to the memory. A fragment that is missing for longer than `gap` is removed.
    pub(super) fn apply_scan(
        &self,
        memory: &mut Memory,
        scan: Scan,
        incomplete: &HashSet<Tag>,
        gap: Duration,
    ) {
        memory.has_existed = true;
        let mut present: HashSet<Tag> = incomplete.clone();
        let mut dangling = HashSet::new();
        for (name, found) in scan.files {
            if matches!(found, Err(ReadError::Missing)) {
                dangling.insert(name.clone());
            }
            let is_known = memory.fragments.contains_key(&name);
            if matches!(found, Err(ReadError::Kind("a directory"))) && !is_known {
                continue;
            }
            present.insert(name.clone());
            if incomplete.contains(&name) {
                continue;
            }
            let fragment = memory
                .fragments
                .get_or_insert_with(name.clone(), Fragment::default);
            fragment.real_dir = real_dir(&self.path.join(&name));
            if !matches!(found, Err(ReadError::Missing)) {
                fragment.missing_since = None;
            }
            self.update_fragment(fragment, &name, found);
        }
        let now = Instant::now();
        memory.fragments.retain(|name, fragment| {
            if present.contains(name) {
                // A file that is being written exists. A link may still have no target.
                if !dangling.contains(name) {
                    fragment.missing_since = None;
                }
                return true;
            }
            if self.has_moved(name, fragment) {
                return false;
            }
            now.duration_since(*fragment.missing_since.get_or_insert(now)) < gap
        });
    }

    /// The links that have had no target for less than `gap`. A program that replaces the target may be about to
    /// remove the links too, and both are one change.
    pub(super) fn dangling(memory: &mut Memory, scan: &Scan, gap: Duration) -> HashSet<Tag> {
        let now = Instant::now();
        let lost = scan.files.iter();
        let lost = lost.filter(|(_, found)| matches!(found, Err(ReadError::Missing)));
        let mut dangling = HashSet::new();
        for (name, _) in lost {
            let known = memory.fragments.get_mut(name);
            if let Some(fragment) = known.filter(|fragment| fragment.parsed.is_some()) {
                if now.duration_since(*fragment.missing_since.get_or_insert(now)) < gap {
                    dangling.insert(name.clone());
                }
            }
        }
        dangling
    }

    /// Whether a removed name led to another directory: a link was removed or swapped. An editor that renames does
    /// not do that.
    fn has_moved(&self, name: &OsStr, fragment: &Fragment) -> bool {
        real_dir(&self.path.join(name)) != fragment.real_dir
    }

    /// The removed links, which are not about to be created again.
    pub(super) fn removed(&self, memory: &Memory, scan: &Scan) -> HashSet<Tag> {
        let removed = memory.fragments.iter();
        let removed = removed.filter(|(name, _)| !scan.names.contains_key(name));
        removed
            .filter(|(name, fragment)| self.has_moved(name, fragment))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The incomplete fragments, and those that belong together with them: links to one other directory
    /// are swapped together, and so they change together.
    pub(super) fn add_related(
        &self,
        memory: &Memory,
        scan: &Scan,
        incomplete: &HashSet<Tag>,
    ) -> HashSet<Tag> {
        let mut all = incomplete.clone();
        let is_link = |name: &OsString| scan.names.get(name) == Some(&true);
        let dirs: HashSet<_> = incomplete
            .iter()
            .filter(|name| is_link(name))
            .map(|name| real_dir(&self.path.join(name)))
            .collect();
        if dirs.is_empty() {
            return all;
        }
        let read = scan.files.keys().filter(|name| is_link(name));
        all.extend(
            read.filter(|name| dirs.contains(&real_dir(&self.path.join(name))))
                .cloned(),
        );
        // The removals of the swap wait for the rest of it.
        let removed = memory.fragments.keys();
        all.extend(
            removed
                .filter(|name| !scan.files.contains_key(*name))
                .cloned(),
        );
        all
    }

    fn update_fragment(
        &self,
        fragment: &mut Fragment,
        name: &OsStr,
        found: Result<(u64, Content), ReadError>,
    ) {
        let (digest, content) = match found {
            Ok(found) => found,
            Err(fault) => {
                let origin = self.origin_of(name);
                fragment.last = None;
                fragment.problem = Some(match fault {
                    ReadError::Missing => {
                        let detail = "the symbolic link leads to no file; remove the link to remove \
                                      its keys";
                        Error::new(ErrorKind::Unavailable, detail).with_origin(&origin)
                    }
                    fault => fault.error(&origin),
                });
                return;
            }
        };
        if fragment.last.replace(digest) == Some(digest) {
            return;
        }
        fragment.problem = None;
        if matches!(&fragment.parsed, Some((parsed, _)) if *parsed == digest) {
            return;
        }
        let parsed = self.parse(name, &content.bytes);
        let is_void = read::is_blank(&content.bytes) || parsed.as_ref().is_ok_and(read::is_void);
        if is_void && fragment.may_have_values && !self.options.allow_empty {
            fragment.problem = Some(read::emptied(&self.origin_of(name)));
            return;
        }
        match parsed {
            Ok(document) => fragment.parsed = Some((digest, document)),
            Err(error) => fragment.problem = Some(error),
        }
    }
}

/// The directory of a file that exists or is missing, with all links followed.
fn real_dir(path: &Path) -> Option<PathBuf> {
    match Reach::default().add(path, OsStr::new("")) {
        End::Here(path) | End::Absent(path) => path.parent().map(Path::to_path_buf),
        End::Lost | End::Broken => None,
    }
}
