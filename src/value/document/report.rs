//! The reports of a document: parts of the source that could not be read, problems and hints.

use std::sync::Arc;

use crate::error::Error;
use crate::value::document::Document;
use crate::value::key::Key;
use crate::value::node::Table;
use crate::value::origin::Origin;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "nats",
    feature = "zookeeper"
))]
use crate::value::unread::Unread;

/// The problems and hints of a document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Error>,
    pub(crate) hints: Vec<Error>,
    /// Whether last good values stay for parts that could not be read.
    pub(crate) keeps_values: bool,
}

impl Document {
    /// Reports a part of the source that could not be read, with the reason. Its last good values
    /// stay.
    ///
    /// The engine rejects the part: it reports an event, adds an entry to the list of rejections, and
    /// the source is not [`Up`](crate::health::Status::Up). The values stay in force and in the cache
    /// for as long as the source reports the part. Which values stay depends on the problem:
    ///
    /// - With a [key](Error::with_key): the values of this key and below.
    /// - Without a key, with an [origin](Error::with_origin): the values that were written there.
    /// - Without both: every value that this document lacks. No removal takes effect while the source
    ///   reports such a problem. Give the problem a key or an origin, so that other keys can be
    ///   removed.
    ///
    /// A problem for which no value has to stay belongs in [`report_problem`](Self::report_problem).
    ///
    /// # Examples
    ///
    /// ```
    /// use liveprops::{Document, Error, ErrorKind, Origin};
    ///
    /// let broken = Origin::new("file", "limits.toml");
    /// let mut document = Document::new();
    /// document.report_unreadable(Error::new(ErrorKind::Malformed, "no syntax").with_origin(broken));
    /// assert_eq!(document.problems().len(), 1);
    /// ```
    pub fn report_unreadable(&mut self, problem: Error) {
        self.unread.add(&problem);
        self.report.problems.push(problem);
    }

    /// Reports a problem of the source for which no last good value stays.
    ///
    /// Use it for something that was read and is not used, such as a name that maps to no key, and for
    /// warnings. The engine treats it as [`report_unreadable`](Self::report_unreadable) does: an event, an entry in the
    /// list of rejections, and a source that is not [`Up`](crate::health::Status::Up). Keys that this
    /// document lacks are removed. A source that watches can show a reason that changes no status by
    /// [`SourceContext::set_degraded`](crate::SourceContext::set_degraded).
    pub fn report_problem(&mut self, problem: Error) {
        self.report.problems.push(problem);
    }

    /// Reports something that was read as documented and probably is a mistake.
    ///
    /// It is shown in [`SourceHealth::hints`](crate::health::SourceHealth::hints). It changes no
    /// status, causes no event and rejects nothing.
    pub fn hint(&mut self, hint: Error) {
        self.report.hints.push(hint);
    }

    /// The hints that were reported by [`hint`](Self::hint).
    pub fn hints(&self) -> &[Error] {
        &self.report.hints
    }

    /// Reports a fragment that could not be read, such as one of several files.
    pub(crate) fn report_fragment(&mut self, fragment: &Origin, problem: Error) {
        self.unread.add_fragment(fragment);
        self.report.problems.push(problem);
    }

    /// Reports a fragment that has no values, such as a file that was emptied. The report counts if
    /// last good values of the fragment are there: then they stay.
    pub(crate) fn report_emptied(&mut self, fragment: &Origin, problem: Error) {
        self.unread.add_emptied(fragment, problem);
    }

    /// Sets all fragments that could not be read.
    #[cfg(any(
        feature = "consul",
        feature = "etcd",
        feature = "nats",
        feature = "zookeeper"
    ))]
    pub(crate) fn set_unread(&mut self, unread: Unread) {
        self.unread = unread;
    }

    /// Has fragments override those with smaller names.
    pub(crate) fn set_later_wins(&mut self) {
        self.unread.set_later_wins();
    }

    /// Adds the last good values of the parts that could not be read, which are in `before`, and the
    /// problems of emptied fragments that keep some.
    pub(crate) fn keep_last_good(&mut self, before: &Table) {
        let kept = self.unread.keep_last_good(&mut self.root, before);
        self.report.keeps_values = kept.is_some();
        self.report.problems.extend(kept.unwrap_or_default());
    }

    /// Whether a part of the source could not be read.
    pub(crate) fn is_partial(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Those of some keys that still lack a value because a part of the source could not be read.
    pub(crate) fn still_missing(&self, missing: &[Key]) -> Arc<[Key]> {
        let is_missing = |key: &&Key| {
            self.unread.may_have(key.as_str()) && self.root.find(key.segments()).is_none()
        };
        missing.iter().filter(is_missing).cloned().collect()
    }

    /// The problems that were reported.
    pub fn problems(&self) -> &[Error] {
        &self.report.problems
    }
}
