//! A tree as one session reads and follows it.
//!
//! The watch is persistent and recursive, and set before the tree is read. All that it tells of one
//! transaction comes before the answer to any question that is answered after that transaction. So
//! what was read is one state of the tree as soon as nothing more was told while it was read.
//!
//! A server tells nothing of a node that the session may not read at that moment, and never of a
//! change of an ACL. Three things find what was missed that way: nodes that may not be read are asked
//! for again at each heartbeat; an answer that shows a changed ACL has everything read again; and so
//! does, after some time, a transaction number that has moved on since everything was read.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::format::MAX_DOCUMENT_BYTES;
use crate::source::SourceContext;
use crate::sources::shared::kv::mapping::Mapping;
use crate::sources::shared::kv::mirror::{Entry, Mirror};
use crate::sources::shared::kv::{self, about};
use crate::sources::zookeeper::KIND;
use crate::sources::zookeeper::session::{Deadline, Session};
use crate::sources::zookeeper::wire::{Answer, Ask};
use crate::value::origin::Origin;

/// How long a watch may tell of nothing at most before the server is asked for a sign of life.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(1500);
/// How long it may take for an answer to come after the one before it.
pub(super) const LATE: Duration = Duration::from_secs(2);
/// How long reading everything may take while answers come.
pub(super) const LONGEST: Duration = Duration::from_secs(60);
/// How long more changes are waited for that may belong to the first.
pub(super) const SETTLE: Duration = Duration::from_millis(500);
/// The shortest time from one update to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// The shortest time from one reading of everything to the next, when an ACL has changed; a longer
/// one if reading takes long.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a long reading gives a sign of life.
const SIGN: Duration = Duration::from_millis(500);

/// So many bytes of a tree are read at most, each node counting its path, its data and [`NODE_BYTES`]:
/// twice of what may be in force, so that what is too much can be said in numbers.
const MAX_TREE: usize = 2 * MAX_DOCUMENT_BYTES;
const NODE_BYTES: usize = 32;
/// So many nodes that may not be read are asked for at each heartbeat.
const MAX_HIDDEN: usize = 100;

/// Where the nodes that are meant begin.
pub(super) struct Root {
    path: String,
    /// What stands before the keys of the mapping.
    before: String,
    /// Whether it is that node alone.
    alone: bool,
}

impl Root {
    pub(super) fn of(mapping: &Mapping, chroot: &str) -> Self {
        let path = format!("{chroot}/{}", mapping.wanted());
        Self {
            path: match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
            before: format!("{chroot}/"),
            alone: mapping.is_document(),
        }
    }

    /// The key of a node, if it is meant.
    fn key<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.alone && path != self.path {
            return None;
        }
        // The store's own nodes are no one's configuration, unless they are asked for.
        let own = path.strip_prefix("/zookeeper");
        if self.path == "/" && own.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        path.strip_prefix(self.before.as_str())
    }

    /// The node of a key.
    fn node(&self, key: &str) -> String {
        format!("{}{key}", self.before)
    }

    fn child(path: &str, name: &str) -> String {
        format!("{}/{name}", path.trim_end_matches('/'))
    }
}

/// What was read, by the keys of the mapping.
#[derive(Default)]
struct Changes {
    all: BTreeMap<String, Change>,
    bytes: usize,
}

enum Change {
    Set { bytes: Vec<u8>, revision: u64 },
    Gone,
    Denied,
    TooLarge(usize),
}

impl Change {
    /// A node without data says nothing.
    fn of(bytes: &[u8], revision: u64) -> Self {
        if bytes.is_empty() {
            return Change::Gone;
        }
        let bytes = bytes.to_vec();
        Change::Set { bytes, revision }
    }

    fn bytes(&self) -> usize {
        match self {
            Change::Set { bytes, .. } => bytes.len(),
            Change::Gone | Change::Denied | Change::TooLarge(_) => 0,
        }
    }
}

impl Changes {
    fn insert(&mut self, key: &str, change: Change) {
        self.bytes += change.bytes();
        match self.all.insert(key.to_owned(), change) {
            Some(old) => self.bytes -= old.bytes(),
            None => self.bytes += NODE_BYTES + key.len(),
        }
    }

    /// Replaces all that is known by what was read.
    fn replace(&self, mirror: &mut Mirror) {
        let entries = self.all.iter().filter_map(entry);
        let is_unread = |key: &str| {
            let change = self.all.get(key);
            matches!(change, Some(Change::Denied | Change::TooLarge(_)))
        };
        mirror.replace_but(entries, is_unread);
        for (key, change) in &self.all {
            reject(mirror, key, change);
        }
    }

    /// Adds what was read to what is known.
    fn apply(&self, mirror: &mut Mirror) {
        for (key, change) in &self.all {
            match (change, entry((key, change))) {
                (Change::Gone, _) => mirror.delete(key),
                (_, Some(entry)) => mirror.put(&entry),
                (_, None) => reject(mirror, key, change),
            }
        }
    }
}

fn entry<'a>((key, change): (&'a String, &'a Change)) -> Option<Entry<'a>> {
    match change {
        Change::Set { bytes, revision } => Some(Entry {
            key,
            bytes,
            revision: *revision,
        }),
        Change::Gone | Change::Denied | Change::TooLarge(_) => None,
    }
}

/// Reports a node whose data cannot be had; its last value stays.
fn reject(mirror: &mut Mirror, key: &str, change: &Change) {
    let fault = match change {
        Change::Set { .. } | Change::Gone => return,
        Change::Denied => denied(),
        Change::TooLarge(length) => {
            let detail = format!("{length} bytes are more than {MAX_DOCUMENT_BYTES}");
            Error::new(ErrorKind::TooLarge, detail)
        }
    };
    mirror.refuse(key, fault.with_origin(Origin::new(KIND, key)));
}

fn denied() -> Error {
    let detail = "may not be read: check the digest, and the ACL of the node";
    Error::new(ErrorKind::Unavailable, detail)
}

fn too_large() -> Error {
    let detail = format!(
        "the tree has more than {MAX_TREE} bytes, each node counting its path, its data and \
         {NODE_BYTES}: use a narrower prefix"
    );
    Error::new(ErrorKind::TooLarge, detail)
}

/// Signs of life while a long reading goes on.
pub(super) struct Signs<'a> {
    newest: Instant,
    sign: &'a mut dyn FnMut(),
}

impl<'a> Signs<'a> {
    pub(super) fn new(sign: &'a mut dyn FnMut()) -> Self {
        let newest = Instant::now();
        Self { newest, sign }
    }

    /// Gives one, unless there was one just now.
    fn give(&mut self) {
        if self.newest.elapsed() > SIGN {
            self.newest = Instant::now();
            (self.sign)();
        }
    }
}

/// Whether what a session knows may differ from what the server has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Doubt {
    No,
    /// An ACL has changed, which may have hidden more.
    Acl,
    /// Something that was told is lost.
    Lost,
}

/// A session, and the tree it reads.
pub(super) struct Tree {
    pub(super) session: Session,
    root: Root,
    /// Where its server is.
    pub(super) place: String,
    /// Nodes that may not be read.
    hidden: BTreeSet<String>,
    /// The newest of those that were asked for again.
    asked: String,
    doubt: Doubt,
    read: Read,
    rescan: Duration,
}

/// The last reading of everything.
struct Read {
    ended: Instant,
    took: Duration,
    zxid: i64,
    /// After what time the next is due if there is no doubt.
    pause: Duration,
}

impl Tree {
    pub(super) fn new(session: Session, root: Root, place: String, rescan: Duration) -> Self {
        Self {
            session,
            root,
            place,
            hidden: BTreeSet::new(),
            asked: String::new(),
            doubt: Doubt::No,
            read: Read {
                ended: Instant::now(),
                took: Duration::ZERO,
                zxid: 0,
                pause: rescan,
            },
            rescan,
        }
    }

    /// Sets the watch and reads the tree.
    pub(super) fn read_all(
        &mut self,
        mirror: &mut Mirror,
        signs: &mut Signs<'_>,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let mut changes = self.read_once(mirror, signs)?;
        while self.doubt == Doubt::Lost {
            if begun.elapsed() > LONGEST {
                let detail = "more changes than are kept, without end, while everything was read";
                return Err(Error::new(ErrorKind::TooLarge, detail));
            }
            changes = self.read_once(mirror, signs)?;
        }
        changes.replace(mirror);
        self.read = Read {
            ended: Instant::now(),
            took: begun.elapsed(),
            zxid: self.session.zxid(),
            // Up to a quarter more: programs that began together do not go on in step.
            pause: 2 * self.rescan - about(self.rescan),
        };
        Ok(())
    }

    fn read_once(&mut self, mirror: &Mirror, signs: &mut Signs<'_>) -> Result<Changes, Error> {
        let Self {
            session,
            root,
            hidden,
            ..
        } = self;
        let start = root.path.clone();
        let questions = [
            Ask::Watch(start.clone()),
            // A server that is behind must not take the values back to what they were.
            Ask::Sync(start.clone()),
            Ask::Data(start),
        ];
        let mut reading = Reading {
            root,
            hidden,
            mirror,
            changes: Changes::default(),
            bytes: 0,
            known: HashSet::new(),
        };
        reading.hidden.clear();
        let deadline = Deadline::each(LATE, LONGEST);
        session.ask(VecDeque::from(questions), deadline, |ask, answer, more| {
            signs.give();
            reading.record(ask, answer, more)
        })?;
        let mut changes = reading.changes;
        self.doubt = Doubt::No;
        self.read_changed(&mut changes, signs)?;
        Ok(changes)
    }

    /// Reads the nodes that the watch has named, until it names no more meanwhile.
    fn read_changed(&mut self, changes: &mut Changes, signs: &mut Signs<'_>) -> Result<(), Error> {
        let Self {
            session,
            root,
            hidden,
            doubt,
            ..
        } = self;
        let enough = Instant::now() + SETTLE;
        while !session.changed.is_empty() && Instant::now() < enough {
            let Some(changed) = session.changed.drain() else {
                *doubt = Doubt::Lost;
                return Ok(());
            };
            let changed = changed.into_iter();
            let questions = changed
                .filter(|path| root.key(path).is_some())
                .map(Ask::Data);
            let deadline = Deadline::each(LATE, LONGEST);
            session.ask(questions.collect(), deadline, |ask, answer, _| {
                let Ask::Data(path) = ask else { return Ok(()) };
                signs.give();
                let is_denied = matches!(answer, Answer::Denied);
                if is_denied && path == root.path && root.alone {
                    return Err(denied());
                }
                let change = match answer {
                    Answer::Data {
                        bytes, revision, ..
                    } => Change::of(bytes, revision),
                    Answer::Denied => Change::Denied,
                    Answer::TooLarge(length) => Change::TooLarge(length),
                    _ => Change::Gone,
                };
                if let Some(key) = root.key(&path) {
                    changes.insert(key, change);
                }
                let was_denied = match is_denied {
                    true => !hidden.insert(path),
                    false => hidden.remove(&path),
                };
                if is_denied != was_denied {
                    *doubt = (*doubt).max(Doubt::Acl);
                }
                match changes.bytes > MAX_TREE {
                    true => Err(too_large()),
                    false => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    /// Asks for a sign of life, and for nodes that may not be read.
    fn beat(&mut self) -> Result<(), Error> {
        let after = self.hidden.range(self.asked.clone()..);
        let round = after
            .chain(&self.hidden)
            .skip_while(|it| **it == self.asked);
        let hidden: Vec<String> = round
            .take(MAX_HIDDEN.min(self.hidden.len()))
            .cloned()
            .collect();
        self.asked = hidden.last().cloned().unwrap_or_default();
        let questions = hidden.into_iter().map(Ask::Data);
        // A server that has lost the others still answers reads for a while, but not this.
        let questions = questions.chain([Ask::Sync(self.root.path.clone())]);
        let doubt = &mut self.doubt;
        self.session.ask(
            questions.collect(),
            Deadline::all(LATE),
            |ask, answer, _| {
                if matches!(ask, Ask::Data(_)) && !matches!(answer, Answer::Denied) {
                    *doubt = (*doubt).max(Doubt::Acl);
                }
                Ok(())
            },
        )
    }

    /// Whether everything is to be read again.
    fn is_due(&self) -> bool {
        let since = self.read.ended.elapsed();
        match self.doubt {
            Doubt::Lost => true,
            Doubt::Acl => since >= AGAIN.max(4 * self.read.took),
            Doubt::No => since >= self.read.pause && self.session.zxid() != self.read.zxid,
        }
    }

    /// Tells of what changes, until an error or the end.
    pub(super) fn follow(
        &mut self,
        mirror: &mut Mirror,
        updates: &SourceContext,
    ) -> Result<(), Error> {
        let mut beat = Instant::now() + about(HEARTBEAT);
        let mut alive = || updates.set_degraded(None);
        let signs = &mut Signs::new(&mut alive);
        loop {
            let heard = self.session.listen(beat)?;
            let begun = Instant::now();
            if heard {
                let mut changes = Changes::default();
                self.read_changed(&mut changes, signs)?;
                // Of what is lost in part nothing is shown before the rest is there.
                if self.doubt < Doubt::Lost {
                    changes.apply(mirror);
                }
            }
            // Also while changes come without a pause.
            if begun >= beat {
                self.beat()?;
                beat = Instant::now() + about(HEARTBEAT);
            }
            if mirror.wants_all() || self.is_due() {
                self.read_all(mirror, signs)?;
            }
            // A document that is broken is so still.
            self.send(mirror, updates);
            if heard && updates.wait(PAUSE.saturating_sub(begun.elapsed())) {
                return Ok(());
            }
        }
    }

    /// Sends what is new.
    fn send(&self, mirror: &mut Mirror, updates: &SourceContext) {
        let update = mirror.update(self.session.revision());
        kv::send(update, updates);
    }
}

/// A reading of everything that goes on.
struct Reading<'a> {
    root: &'a Root,
    hidden: &'a mut BTreeSet<String>,
    mirror: &'a Mirror,
    changes: Changes,
    /// What was read, and what is still asked for.
    bytes: usize,
    /// Nodes that are asked for because they are known, and not because a parent lists them.
    known: HashSet<String>,
}

impl Reading<'_> {
    fn record(
        &mut self,
        ask: Ask,
        answer: Answer<'_>,
        more: &mut VecDeque<Ask>,
    ) -> Result<(), Error> {
        match (ask, answer) {
            (
                Ask::Data(path),
                Answer::Data {
                    bytes,
                    revision,
                    has_children,
                },
            ) => {
                self.count(bytes.len())?;
                self.read(&path, Change::of(bytes, revision));
                if has_children && !self.root.alone {
                    more.push_back(Ask::Children(path));
                }
            }
            (Ask::Data(path), Answer::TooLarge(length)) => {
                self.read(&path, Change::TooLarge(length));
                if !self.root.alone {
                    more.push_back(Ask::Children(path));
                }
            }
            (Ask::Children(path), Answer::Names(names)) => {
                for name in names {
                    let child = Root::child(&path, name?);
                    if self.root.key(&child).is_some() && !self.known.contains(&child) {
                        self.count(NODE_BYTES + child.len())?;
                        more.push_back(Ask::Data(child));
                    }
                }
            }
            (Ask::Data(path) | Ask::Children(path), Answer::Denied) => self.deny(path, more)?,
            (Ask::Watch(_), Answer::Denied) => return Err(denied()),
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, path: &str, change: Change) {
        if let Some(key) = self.root.key(path) {
            self.changes.insert(key, change);
        }
    }

    /// A node that may not be read does not list its children, which may be read all the same: those
    /// that are known are asked for.
    fn deny(&mut self, path: String, more: &mut VecDeque<Ask>) -> Result<(), Error> {
        if path == self.root.path {
            return Err(denied());
        }
        if let Some(key) = self.root.key(&path) {
            for below in self.mirror.known_from(&format!("{key}/")) {
                let child = self.root.node(below);
                if self.known.insert(child.clone()) {
                    self.count(NODE_BYTES + child.len())?;
                    more.push_back(Ask::Data(child));
                }
            }
        }
        self.read(&path, Change::Denied);
        self.hidden.insert(path);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        match self.bytes > MAX_TREE {
            true => Err(too_large()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_keys_below_the_root_and_the_chroot() {
        let root = |mapping: Mapping, chroot: &str| Root::of(&mapping, chroot);
        let app = root(Mapping::prefix(KIND, '/', "app"), "");
        assert_eq!(
            (app.path.as_str(), app.key("/app/a/b")),
            ("/app", Some("app/a/b"))
        );
        let app = root(Mapping::prefix(KIND, '/', "/app/"), "/prod");
        assert_eq!(
            (app.path.as_str(), app.key("/prod/app/a")),
            ("/prod/app", Some("app/a"))
        );
        assert_eq!(app.key("/app/a"), None);
        let all = root(Mapping::prefix(KIND, '/', ""), "");
        assert_eq!((all.path.as_str(), all.key("/a")), ("/", Some("a")));
        assert_eq!(all.key("/zookeeper/quota"), None);
        assert_eq!(all.key("/zookeepers"), Some("zookeepers"));
        let own = root(Mapping::prefix(KIND, '/', "zookeeper"), "");
        assert_eq!(own.key("/zookeeper/config"), Some("zookeeper/config"));
        let one = root(Mapping::document(KIND, '/', "all.toml"), "");
        assert_eq!(one.key("/all.toml"), Some("all.toml"));
        assert_eq!(one.key("/all.toml/below"), None);
        assert_eq!(Root::child("/", "a"), "/a");
        assert_eq!(Root::child("/a", "b"), "/a/b");
    }
}
