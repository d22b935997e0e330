//! Reads the fragments of a directory at one moment.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;

use crate::format::MAX_DOCUMENT_BYTES;
use crate::sorted::SortedMap;
use crate::sources::fs::dir::Dir;
use crate::sources::fs::watch::chain::DirId;
use crate::sources::fs::watch::mailbox::Tag;
use crate::sources::fs::watch::read::{self, Content, FileStamp, ReadError};
use crate::sources::shared::digest::Digest;

/// How often a directory that changes meanwhile is read before the last scan counts.
const MAX_SCANS: usize = 5;

impl Dir {
    /// Lists the names of the fragments, and which of them are links.
    pub(super) fn list(&self) -> Result<SortedMap<OsString, bool>, ReadError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(ReadError::of)? {
            let entry = entry.map_err(ReadError::of)?;
            let name = entry.file_name();
            if self.names().matches(&name) {
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                names.push((name, is_link));
            }
        }
        Ok(SortedMap::from(names))
    }

    /// Reads all fragments except `incomplete` ones; repeats that if anything changes meanwhile.
    pub(super) fn scan(
        &self,
        digest: &Digest,
        incomplete: &HashSet<Tag>,
    ) -> Result<Scan, ReadError> {
        let mut scan = self.scan_once(digest, incomplete)?;
        for _ in 1..MAX_SCANS {
            if self.is_unchanged(&scan) {
                return Ok(scan);
            }
            scan = self.scan_once(digest, incomplete)?;
        }
        self.mark_torn(&mut scan);
        Ok(scan)
    }

    fn scan_once(&self, digest: &Digest, incomplete: &HashSet<Tag>) -> Result<Scan, ReadError> {
        let dir_id = self.dir_id();
        let names = self.list()?;
        let mut files = SortedMap::new();
        let mut total = 0;
        for (name, is_link) in names.iter().filter(|(name, _)| !incomplete.contains(name)) {
            let content = match read::read(&self.path.join(name)) {
                // A link without a target is a name that exists.
                Err(ReadError::Missing) if !is_link => continue,
                other => other,
            };
            total += content.as_ref().map_or(0, |it| it.bytes.len());
            let content = match content {
                Ok(_) if total > MAX_DOCUMENT_BYTES => Err(ReadError::Large),
                other => other.map(|content| (digest.of(&content.bytes), content)),
            };
            files.insert(name.clone(), content);
        }
        Ok(Scan {
            dir_id,
            names,
            files,
        })
    }

    /// Marks the fragments that have changed since a scan. A file that changes all the time does not delay the
    /// others.
    fn mark_torn(&self, scan: &mut Scan) {
        let all = scan.dir_id != self.dir_id() || self.list().ok().as_ref() != Some(&scan.names);
        for (name, file) in scan.files.iter_mut() {
            if let Ok((_, content)) = file {
                let stamp = FileStamp::at(&self.path.join(name));
                content.torn |= all || stamp.as_ref() != Some(&content.stamp);
            }
        }
    }

    /// Whether nothing has changed since a scan.
    fn is_unchanged(&self, scan: &Scan) -> bool {
        scan.dir_id == self.dir_id()
            && self.list().is_ok_and(|names| names == scan.names)
            && scan.files.iter().all(|(name, content)| match content {
                Ok((_, it)) => FileStamp::at(&self.path.join(name)).as_ref() == Some(&it.stamp),
                Err(_) => true,
            })
    }

    /// The identity of the directory.
    fn dir_id(&self) -> Option<DirId> {
        DirId::at(&self.path.canonicalize().ok()?)
    }
}

/// The state of a directory at one moment.
pub(super) struct Scan {
    pub(super) dir_id: Option<DirId>,
    /// The names of the fragments, and whether each is a link.
    pub(super) names: SortedMap<OsString, bool>,
    pub(super) files: SortedMap<OsString, Result<(u64, Content), ReadError>>,
}

impl Scan {
    /// The stamps of selected fragments.
    pub(super) fn stamps(&self, select: impl Fn(&OsString) -> bool) -> HashMap<Tag, FileStamp> {
        let read = self.files.iter().filter(|(name, _)| select(name));
        read.filter_map(|(name, file)| {
            let (_, content) = file.as_ref().ok()?;
            Some((name.clone(), content.stamp.clone()))
        })
        .collect()
    }
}

/// The name of a file if it was written moments ago.
pub(super) fn recent_name(
    (name, found): &(OsString, Result<(u64, Content), ReadError>),
) -> Option<OsString> {
    let is_recent = found.as_ref().is_ok_and(|(_, it)| it.recent || it.torn);
    is_recent.then(|| name.clone())
}
