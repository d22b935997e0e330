//! Merges the fragments of a directory.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::format::{Format, feature_of};
use crate::sorted::SortedSet;
use crate::source::Source;
use crate::sources::fs::dir::Dir;
use crate::sources::fs::dir::fragments::Memory;
use crate::sources::fs::watch::chain::NewNames;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::node::{Node, Table};

/// The most files of unknown formats that are listed, and the most that the hint names.
const MAX_UNKNOWN: usize = 1_000;
const MAX_NAMED: usize = 8;

impl Dir {
    /// Merges all fragments into one document; returns it with its digest.
    pub(super) fn compose(&self, memory: &Memory) -> (u64, Document) {
        let mut whole = Document::new();
        whole.set_later_wins();
        let mut parts = Vec::new();
        for (name, fragment) in &memory.fragments {
            if let Some((digest, document)) = memory.content(fragment) {
                let mut found = Vec::new();
                find_clashes(whole.root(), document.root(), &mut Vec::new(), &mut found);
                for clash in found {
                    parts.push((name, 0, clash.to_string()));
                    whole.report_problem(clash);
                }
                whole.merge(document.clone());
                parts.push((name, *digest, String::new()));
            }
            if let Some(problem) = &fragment.problem {
                parts.push((name, 0, problem.to_string()));
                whole.report_fragment(&self.origin_of(name), problem.clone());
            }
        }
        let unknown = self.unknown();
        let digest = memory.digest.of((&parts, &unknown));
        for name in unknown.iter().filter(|name| needs_feature(name)) {
            let detail = format!("is left out: {}", Format::unknown(name.as_ref()));
            let error = Error::new(ErrorKind::Malformed, detail);
            whole.report_problem(error.with_origin(self.origin_of(name)));
        }
        if let Some(hint) = self.unknown_hint(&unknown) {
            whole.hint(hint);
        }
        (digest, whole)
    }

    /// The files of the directory that are no fragments, because their formats are not known.
    fn unknown(&self) -> SortedSet<OsString> {
        let mut unknown = SortedSet::new();
        if self.options.format.is_some() {
            return unknown;
        }
        let entries = std::fs::read_dir(&self.path).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_candidate = NewNames::All.matches(&name) && !self.names().matches(&name);
            if is_candidate && entry.path().is_file() && unknown.len() < MAX_UNKNOWN {
                unknown.insert(name);
            }
        }
        unknown
    }

    /// The hint that names unknown files.
    fn unknown_hint(&self, unknown: &SortedSet<OsString>) -> Option<Error> {
        let names = unknown.iter().filter(|name| !needs_feature(name));
        let names: Vec<String> = names
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .collect();
        if names.is_empty() {
            return None;
        }
        let mut shown = names[..names.len().min(MAX_NAMED)].join(", ");
        if names.len() > MAX_NAMED {
            shown.push_str(", ...");
        }
        let detail = format!(
            "files of unknown formats are ignored: {shown}; set their format with `format`, or move them elsewhere"
        );
        Some(Error::new(ErrorKind::Malformed, detail).with_origin(Source::origin(self)))
    }
}

/// Whether the feature of a file's format is off.
fn needs_feature(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.and_then(feature_of).is_some()
}

/// Finds the keys that are a value in one tree and a table in the other.
fn find_clashes<'a>(
    base: &Table,
    over: &'a Table,
    path: &mut Vec<&'a str>,
    found: &mut Vec<Error>,
) {
    for entry in over.map().iter() {
        let Some(old) = base.get(&entry.name) else {
            continue;
        };
        path.push(&entry.name);
        match (&old.node, &entry.node) {
            (Node::Table(old), Node::Table(new)) => find_clashes(old, new, path, found),
            (old, new) if old.table().is_some() != new.table().is_some() => {
                let detail =
                    "a value in one fragment and a table in another; the later fragment wins";
                let mut error = Error::new(ErrorKind::InvalidKey, detail);
                if let Ok(key) = Key::from_segments(&*path) {
                    error = error.with_key(key);
                }
                if let Some(origin) = new.origin().or(old.origin()) {
                    error = error.with_origin(origin);
                }
                found.push(error);
            }
            _ => {}
        }
        path.pop();
    }
}
